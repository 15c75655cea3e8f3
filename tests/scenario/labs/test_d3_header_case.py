"""D3: header case that a client and a server keep between them, over two proxies with mutual TLS. Where the first proxy's cluster has
use_downstream_protocol_config the sidecars still speak HTTP/2 for clients that do; explicit_http_config silently gives that up."""
import socket
import threading

import config
import pytest
from h2_client import H2Client
from pki import Pki
from wire import HOST, free_port

TLS = "envoy.extensions.transport_sockets.tls.v3."
CASE = {"header_key_format": {"stateful_formatter": config.ext(
    "preserve_case", "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig")}}
USE_DOWNSTREAM = {"use_downstream_protocol_config": {"http_protocol_options": CASE, "http2_protocol_options": {}}}
EXPLICIT = {"explicit_http_config": {"http_protocol_options": CASE}}


class App:
    """A server that keeps the heads of requests as they came; goes with the mesh's processes."""

    def __init__(self, mesh):
        self.place, self.heads = socket.create_server((HOST, 0)), []
        self.port = self.place.getsockname()[1]
        mesh.processes.append(self)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.place.accept()
            except OSError:
                return
            with s:
                head = b""
                while b"\r\n\r\n" not in head and (part := s.recv(4096)):
                    head += part
                self.heads.append(head.decode())
                s.sendall(b"HTTP/1.1 200 OK\r\nX-Answer-Case: kept\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def terminate(self):
        self.place.close()

    def wait(self):
        pass


def sidecars(mesh, tmp_path, between):
    """(server, first proxy, second proxy); `between`: HttpProtocolOptions of the first one's cluster."""
    pki = Pki(tmp_path / "pki")
    pki.authority()
    pki.issue("side", "URI:spiffe://mesh.test/ns/a/sa/b")
    own = {"tls_certificates": [pki.pair("side")], "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}, "alpn_protocols": ["h2", "http/1.1"]}
    app = App(mesh)
    manager = config.hcm([config.route("/", "app")], http_protocol_options=CASE)
    inbound = config.listener(free_port(), [manager])
    inbound["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=own, require_client_certificate=True)
    second = mesh.proxy(name="second", boot=config.bootstrap([inbound], [config.cluster("app", [app.port], http=EXPLICIT)], free_port()))
    outbound = config.listener(free_port(), [config.hcm([config.route("/", "peer")], http_protocol_options=CASE)])
    ours = {k: v for k, v in own.items() if k != "alpn_protocols"}
    peer = config.cluster("peer", [second.port], http=between, transport_socket=config.ext("tls", TLS + "UpstreamTlsContext", common_tls_context=ours))
    return app, mesh.proxy(name="first", boot=config.bootstrap([outbound], [peer], free_port())), second


@pytest.mark.parametrize("between", [USE_DOWNSTREAM, EXPLICIT], ids=["use-downstream", "explicit"])
def test_http1_clients_keep_their_case(mesh, tmp_path, between):
    app, first, second = sidecars(mesh, tmp_path, between)
    with socket.create_connection((HOST, first.port), timeout=5) as c:
        c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-CuStOm-NaMe: v\r\n\r\n")
        answer = b""
        while part := c.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b"\r\nX-Answer-Case: kept\r\n" in answer
    assert len(app.heads) == 1 and "\r\nX-CuStOm-NaMe: v\r\n" in app.heads[0]
    assert second.stat("http.in.downstream_cx_http1_total") == 1 and second.stat("http.in.downstream_cx_http2_total") == 0


@pytest.mark.parametrize("between,spoken", [(USE_DOWNSTREAM, "http2"), (EXPLICIT, "http1")], ids=["use-downstream", "explicit"])
def test_what_the_sidecars_speak_for_an_http2_client(mesh, tmp_path, between, spoken):
    app, first, second = sidecars(mesh, tmp_path, between)
    with H2Client(first.port) as c:
        c.request(1)
        assert c.status(1) == 200
    other = {"http1": "http2", "http2": "http1"}[spoken]
    for px, prefix in ((second, "http.in.downstream_cx_"), (first, "cluster.peer.upstream_cx_")):
        assert px.stat(f"{prefix}{spoken}_total") == 1 and px.stat(f"{prefix}{other}_total") == 0
    assert len(app.heads) == 1
