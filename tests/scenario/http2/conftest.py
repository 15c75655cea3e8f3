import pytest

from h2_client import H2Client
from upstream import Reply


@pytest.fixture(scope="module")
def px(shared_mesh):
    shared_mesh.upstream()
    return shared_mesh.proxy()


@pytest.fixture
def up(px, shared_mesh):
    """The upstream of the module's proxy, with a clean record."""
    u = shared_mesh.upstreams[0]
    u.requests.clear()
    u.errors.clear()
    u.script = [Reply()]
    return u


@pytest.fixture
def client(px):
    with H2Client(px.port) as c:
        yield c
