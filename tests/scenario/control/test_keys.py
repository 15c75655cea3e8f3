"""Keys of JWT rules that only say where they are: mizzend fetches them, proxies get them inline (C10)."""
import http.server
import json
import queue
import ssl
import threading

import pytest

import control
import jose
import pki
from wire import until

grpc = pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.ads_pb2_grpc", reason="peer xds-protos is not installed")
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2  # noqa: E402

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
LDS = "type.googleapis.com/envoy.config.listener.v3.Listener"
NOBODYS = b"0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet"


class Issuer:
    """An HTTP server: `answers`: path to (status, headers, body); `asked`: paths, in their order."""

    def __init__(self, tls=None):
        outer, self.answers, self.asked = self, {}, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, headers, body = outer.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def document(*rules):
    return json.dumps({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "jwt", "namespace": "demo"},
                       "spec": {"jwtRules": [{"issuer": f"issuer-{i}", **r} for i, r in enumerate(rules)]}})


class Proxy:
    """What it was told last of its listeners."""

    def __init__(self, port):
        self.channel, self.out, self.last = grpc.insecure_channel(f"127.0.0.1:{port}"), queue.Queue(), b""
        r = discovery_pb2.DiscoveryRequest(type_url=LDS)
        r.node.id = "sidecar~10.1.1.1~web-0.demo~demo.svc.cluster.local"
        self.out.put(r)
        self.call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self.channel).StreamAggregatedResources(iter(self.out.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for r in self.call:
                self.last = r.SerializeToString()
                self.out.put(discovery_pb2.DiscoveryRequest(type_url=LDS, version_info=r.version_info, response_nonce=r.nonce))
        except grpc.RpcError:
            pass

    def close(self):
        self.out.put(None)
        self.call.cancel()
        self.channel.close()


@pytest.fixture
def issuer():
    i = Issuer()
    yield i
    i.close()


@pytest.fixture
def serve(tmp_path):
    started = []

    def begin(text, *args):
        folder = tmp_path / f"m{len(started)}"
        folder.mkdir()
        m = control.Mizzend(folder, {"a.yaml": text}, *args)
        p = Proxy(m.port)
        started.append((m, p))
        until(lambda: p.last, 30, "listeners")
        return m, p
    yield begin
    for m, p in started:
        p.close()
        m.stop()


def keys(tmp_path, name):
    return jose.jwks(jose.Key(tmp_path, kid=name)).encode()


def test_keys_come_inline_and_follow_the_issuer(serve, issuer, tmp_path, monkeypatch):
    monkeypatch.setenv("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "300ms")
    m, p = serve(document({"jwksUri": issuer.url + "/keys?a=b#fragment"}))
    until(lambda: "/keys?a=b" in issuer.asked, 30, "a request")
    assert NOBODYS in p.last, "until they are here no token is good"
    issuer.answers["/keys?a=b"] = 200, {}, keys(tmp_path, "kid-1")
    until(lambda: b"kid-1" in p.last and NOBODYS not in p.last, 30, "the keys")
    issuer.answers["/keys?a=b"] = 200, {}, keys(tmp_path, "kid-2")
    until(lambda: b"kid-2" in p.last, 30, "the next keys")
    issuer.answers["/keys?a=b"] = 200, {}, b'{"secret": "of somebody else"}'
    n = len(issuer.asked)
    until(lambda: len(issuer.asked) > n + 1, 30, "two more requests")
    assert b"kid-2" in p.last and b"somebody" not in p.last
    until(lambda: "is no set of keys; those that there are stay" in m.log(), 30, "the reason")
    text = m.page("/metrics")
    assert "pilot_jwks_resolver_network_fetch_success_total" in text and "pilot_jwks_resolver_network_fetch_fail_total" in text


def test_the_issuer_may_say_where_they_are(serve, issuer, tmp_path):
    issuer.answers["/.well-known/openid-configuration"] = 200, {}, json.dumps({"jwks_uri": issuer.url + "/moved"}).encode()
    issuer.answers["/moved"] = 302, {"location": "/keys"}, b""
    issuer.answers["/keys"] = 200, {}, keys(tmp_path, "kid-1")
    _, p = serve(document({"issuer": issuer.url + "/"}))
    until(lambda: b"kid-1" in p.last, 30, "the keys")


def test_what_is_refused(serve, issuer, tmp_path):
    issuer.answers["/loop"] = 302, {"location": issuer.url + "/loop"}, b""
    issuer.answers["/large"] = 200, {}, b"{" + b" " * 300000 + b"}"
    issuer.answers["/metadata"] = 301, {"location": "http://169.254.169.254/latest/meta-data"}, b""
    m, p = serve(document({"jwksUri": issuer.url + "/loop"}, {"jwksUri": issuer.url + "/large"}, {"jwksUri": issuer.url + "/metadata"},
                          {"jwksUri": issuer.url + "/nobody"}, {"jwksUri": "http://[fe80::1]/"}, {"jwksUri": f"https://127.0.0.1:{issuer.port}/"}))
    for why in ("/loop cannot be fetched: status 302, too many redirects", "/large cannot be fetched: the answer has more than 262144 bytes",
                "/metadata cannot be fetched: 169.254.169.254:80 may not be dialled", "/nobody cannot be fetched: status 404",
                "http://[fe80::1]/ cannot be fetched: [fe80::1]:80 may not be dialled", f"https://127.0.0.1:{issuer.port}/ cannot be fetched: "):
        until(lambda w=why: w in m.log(), 30, why)
    assert p.last.count(NOBODYS) >= 6


def test_https_by_the_systems_authorities(serve, tmp_path, monkeypatch):
    made = pki.Pki(tmp_path / "pki")
    made.authority()
    made.issue("issuer", san="IP:127.0.0.1")
    made.issue("other", san="DNS:other.test")
    monkeypatch.setenv("SSL_CERT_FILE", made.path("ca.pem"))
    good, bad = (Issuer((made.path(f"{n}.pem"), made.path(f"{n}.key"))) for n in ("issuer", "other"))
    try:
        good.answers["/keys"] = 200, {}, keys(tmp_path, "kid-1")
        m, p = serve(document({"jwksUri": good.url + "/keys"}, {"jwksUri": bad.url + "/keys"}))
        until(lambda: b"kid-1" in p.last, 30, "the keys")
        until(lambda: f"keys of {bad.url}/keys cannot be fetched" in m.log(), 30, "the refusal of a certificate of another name")
        assert not bad.asked
    finally:
        good.close()
        bad.close()


def test_the_last_good_keys_are_there_after_a_restart(serve, issuer, tmp_path):
    kept = ("--keys-dir", str(tmp_path / "keys"))
    issuer.answers["/keys"] = 200, {}, keys(tmp_path, "kid-1")
    _, p = serve(document({"jwksUri": issuer.url + "/keys"}), *kept)
    until(lambda: b"kid-1" in p.last, 30, "the keys")
    del issuer.answers["/keys"]
    n = len(issuer.asked)
    _, again = serve(document({"jwksUri": issuer.url + "/keys"}), *kept)
    until(lambda: len(issuer.asked) > n, 30, "a request")
    until(lambda: b"kid-1" in again.last, 30, "the keys of before")
