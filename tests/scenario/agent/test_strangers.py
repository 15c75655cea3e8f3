"""Who is no pod of the mesh (G13, G15, G17): what comes past the certificates of the mesh's own authority, with agents and rules as they are."""
import http.client
import socket
import ssl

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from pki import Pki  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import patient, until  # noqa: E402

MODE = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: demo}}\nspec: {{mtls: {{mode: {}}}}}\n"
ONLY_A = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-a, namespace: demo}
spec: {selector: {matchLabels: {app: b}}, rules: [{from: [{source: {principals: [cluster.local/ns/demo/sa/a]}}]}]}
"""
FORGED = {"x-forwarded-client-cert": "By=spiffe://cluster.local/ns/demo/sa/b;URI=spiffe://cluster.local/ns/demo/sa/a",
          "x-envoy-peer-metadata-id": "sidecar~10.11.0.1~a-1.demo~demo.svc.cluster.local", "x-envoy-peer-metadata": "A" * 20000, "baggage": "k8s.deployment.name=a"}


@pytest.fixture
def ours(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    m.write("mode.yaml", MODE.format("STRICT"))
    yield m
    m.close()


def plain(ip, port=8080, headers=None):
    """The status, or None where nothing answers."""
    c = http.client.HTTPConnection(ip, port, timeout=patient(20))
    try:
        c.request("GET", "/stranger", headers=headers or {})
        return c.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        c.close()


def test_from_outside(ours, tmp_path):
    a, b = ours.agent("a", "10.11.0.1"), ours.agent("b", "10.11.0.2")
    app = b.pod.app(8080)
    a.wait_ready(), b.wait_ready()
    until(lambda: a.works("b"), 30, "an answer within the mesh")
    assert plain("10.11.0.2") is None  # STRICT
    for port in (15001, 15006):  # who was not led there
        assert plain("10.11.0.2", port) is None
        with b.pod:
            assert plain("127.0.0.1", port) is None

    own = Pki(tmp_path / "own")
    own.authority("ca")
    own.issue("a", san="URI:spiffe://cluster.local/ns/demo/sa/a")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["istio-peer-exchange", "istio"])
    tls.load_cert_chain(own.path("a.pem"), own.path("a.key"))
    with pytest.raises(OSError), tls.wrap_socket(socket.create_connection(("10.11.0.2", 8080), patient(20))) as s:
        s.sendall(b"GET /stranger HTTP/1.1\r\nhost: b\r\n\r\n")
        assert not s.recv(100)
        raise ConnectionError("ended without a word")

    ours.write("mode.yaml", MODE.format("PERMISSIVE"))
    until(lambda: plain("10.11.0.2") == 200, 30, "plain text to pass")
    ours.write("only-a.yaml", ONLY_A)
    until(lambda: plain("10.11.0.2") == 403, 30, "the rule")
    seen = len(app.asked)
    assert plain("10.11.0.2", headers=FORGED) == 403 and a.works("b")
    assert [r["path"] for r in app.asked[seen:]] == ["/x"]
    assert 'source_principal="spiffe://cluster.local/ns/demo/sa/a"' in b.status("/stats/prometheus")[1]
    refused = [x for x in b.status("/stats/prometheus")[1].splitlines() if x.startswith("istio_requests_total{") and 'response_code="403"' in x]
    assert refused and all('source_principal="unknown"' in x and 'connection_security_policy="none"' in x for x in refused), refused
