import pytest
from pki import Pki
import sidecar


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("mesh-pki"))
    p.authority("ca")
    for app in ("web", "api"):
        p.issue(app, f"URI:{sidecar.identity(app)}")
    return p
