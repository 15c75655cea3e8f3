import pytest

from upstream import Reply


@pytest.fixture
def up(px, shared_mesh):
    """The upstream of the module's proxy, with a clean record."""
    u = shared_mesh.upstreams[0]
    u.requests.clear()
    u.errors.clear()
    u.script = [Reply()]
    return u
