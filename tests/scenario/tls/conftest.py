import pytest
from pki import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    p.authority("other")
    p.issue("server", "DNS:server.test,DNS:*.wild.test,IP:127.0.0.1")
    p.issue("two", "DNS:two.test", rsa=True)
    p.issue("client", "URI:spiffe://mesh.test/ns/a/sa/client,DNS:client.test")
    p.issue("stranger", "URI:spiffe://mesh.test/ns/a/sa/client", ca="other")
    p.issue("late", "DNS:late.test", days="-1")
    p.issue("wrong-use", "DNS:client.test", usage="serverAuth")
    return p
