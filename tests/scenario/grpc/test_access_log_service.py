"""The gRPC access log service (O2, F11): entries of requests and connections, buffering, services that are not there."""
import socket
import ssl

import pytest

import config
from h2_upstream import H2Upstream
from pki import Pki
from wire import HOST, free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
als = pytest.importorskip("envoy.service.accesslog.v3.als_pb2", reason="peer xds-protos is not installed")
grpc_peer = pytest.importorskip("grpc_peer", reason="peers grpcio and xds-protos are not installed")

SERVICE = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def log(kind="Http", flush="0.05s", extra=None, **common):
    return config.ext("log", f"envoy.extensions.access_loggers.grpc.v3.{kind}GrpcAccessLogConfig", common_config={
        "log_name": "mine", "transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "als"}},
        "buffer_flush_interval": flush, **common}, **(extra or {}))


class Service(grpc_peer.GrpcPeer):
    def __init__(self):
        super().__init__({SERVICE: ("stream", als.StreamAccessLogsMessage, self._take)}, "als")

    @staticmethod
    def _take(messages, context):
        for _ in messages:
            pass
        return als.StreamAccessLogsResponse()

    def entries(self, kind="http_logs"):
        return [e for m in list(self.requests) for e in getattr(m, kind).log_entry]

    def wait(self, n, kind="http_logs"):
        until(lambda: len(self.entries(kind)) >= n, 5, f"{n} entries")
        return self.entries(kind)


@pytest.fixture
def service():
    s = Service()
    yield s
    s.close()


def boot(mesh, port, the_log, routes=None):
    up = mesh.upstreams[0] if mesh.upstreams else mesh.upstream()
    return config.bootstrap([config.listener(free_port(), [config.hcm(routes or [config.route("/", "up")], log=the_log)])],
                            [config.cluster("up", [up.port]), config.cluster("als", [port], http=H2)], free_port())


def stat(px, name):
    return px.stat(f"access_logs.grpc_access_log.logs_{name}")


def test_request(mesh, service):
    extra = {"additional_request_headers_to_log": ["X-A", "none"], "additional_response_headers_to_log": ["x-up"]}
    px = mesh.proxy(boot=boot(mesh, service.port, log(extra=extra)))
    mesh.upstreams[0].script[0].headers = [("x-up", "1")]
    with px.client() as c:
        c.send("POST /p?q HTTP/1.1\r\nhost: a\r\nuser-agent: m\xff\xc3\xa9\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 3\r\n\r\nabc")
        assert c.response().status == 200
    e = service.wait(1)[0]
    m = service.requests[0]
    assert m.identifier.log_name == "mine" and (m.identifier.node.id, m.identifier.node.cluster) == ("test", "test")
    assert m.identifier.node.user_agent_name == "envoy"
    p, q, r = e.common_properties, e.request, e.response
    assert (e.protocol_version, q.request_method, q.scheme, q.authority, q.path, q.user_agent) == (2, 3, "http", "a", "/p?q", "m!\xe9")
    assert q.request_body_bytes == 3 and q.request_headers_bytes > 20 and len(q.request_id) == 36
    assert dict(q.request_headers) == {"x-a": "1,2"} and dict(r.response_headers) == {"x-up": "1"}
    assert (r.response_code.value, r.response_code_details, r.response_body_bytes) == (200, "via_upstream", 2)
    assert p.downstream_remote_address.socket_address.address == "127.0.0.1" and p.downstream_local_address.socket_address.port_value == px.port
    assert p.upstream_remote_address.socket_address.port_value == mesh.upstreams[0].port and p.upstream_cluster == "up"
    assert p.start_time.seconds > 1_700_000_000 and p.HasField("duration") and p.HasField("time_to_last_upstream_rx_byte")
    assert not p.HasField("response_flags") and p.upstream_request_attempt_count == 1 and p.stream_id == q.request_id
    assert p.downstream_wire_bytes_received > 60 and p.access_log_type == 6
    px.get("/second")
    service.wait(2)
    assert not service.requests[-1].HasField("identifier")  # once a stream
    assert stat(px, "written") == 2 and stat(px, "dropped") == 0


def test_flags(mesh, service):
    b = boot(mesh, service.port, log(), [config.route("/none", "none"), config.route("/", "up")])
    clusters = b["static_resources"]["clusters"]
    clusters[0] = config.cluster("up", [free_port()])
    clusters.append(config.cluster("none", []))
    px = mesh.proxy(boot=b)
    assert (px.get("/").status, px.get("/none").status) == (503, 503)
    by_path = {e.request.path: e.common_properties.response_flags for e in service.wait(2)}
    assert by_path["/"].upstream_connection_failure and by_path["/none"].no_healthy_upstream


def test_connection(mesh, service):
    up = mesh.upstream()
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up",
                     access_log=[log("Tcp")])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [tcp])],
                                          [config.cluster("up", [up.port]), config.cluster("als", [service.port], http=H2)], free_port()))
    assert px.get().status == 200
    e = service.wait(1, "tcp_logs")[0]
    assert e.connection_properties.received_bytes > 10 and e.connection_properties.sent_bytes > 10
    assert e.common_properties.upstream_cluster == "up" and e.common_properties.access_log_type == 3
    assert len(e.common_properties.stream_id) == 36 and not e.common_properties.intermediate_log_entry
    until(lambda: px.stat("access_logs.grpc_access_log.grpc_entries_flushed") == 1, 5, "the count of what went")


def test_session_of_the_client(mesh, service, tmp_path):
    """The suite's number and who issued the client's certificate."""
    pki = Pki(tmp_path / "pki")
    pki.authority()
    for name in ("server", "client"):
        pki.issue(name)
    b = boot(mesh, service.port, log())
    b["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = config.ext(
        "tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={
            "tls_certificates": [pki.pair("server")], "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px = mesh.proxy(boot=b)
    ctx = ssl.create_default_context(cafile=pki.path("ca.pem"))
    ctx.load_cert_chain(pki.path("client.pem"), pki.path("client.key"))
    with ctx.wrap_socket(socket.create_connection((HOST, px.port)), server_hostname="server.test") as s:
        s.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200") and s.cipher()[0] == "TLS_AES_256_GCM_SHA384"
    t = service.wait(1)[0].common_properties.tls_properties
    assert (t.tls_cipher_suite.value, t.tls_version, t.tls_session_id) == (0x1302, 4, "")
    assert (t.peer_certificate_properties.subject, t.peer_certificate_properties.issuer) == ("CN=client", "CN=ca")
    assert (t.local_certificate_properties.subject, t.local_certificate_properties.issuer) == ("CN=server", "")


def test_buffering(mesh, service):
    """A full buffer goes at once; else the timer says when."""
    px = mesh.proxy(name="timer", boot=boot(mesh, service.port, log(flush="0.3s")))
    for _ in range(5):
        px.get()
    service.wait(5)
    assert len(service.requests) <= 3
    px = mesh.proxy(name="full", boot=boot(mesh, service.port, log(flush="300s", buffer_size_bytes=1)))
    n = len(service.requests)
    for i in range(3):
        px.get()
        until(lambda i=i: len(service.requests) == n + i + 1, 5, "an entry")


def test_service_that_is_not_there(mesh):
    """Requests go on; what waits is bounded, the rest is dropped and counted; later the service gets entries again."""
    port = free_port()
    px = mesh.proxy(boot=boot(mesh, port, log(buffer_size_bytes=2000)))
    for _ in range(40):
        assert px.get().status == 200
    assert stat(px, "written") + stat(px, "dropped") == 40


@pytest.mark.stricter
def test_no_buffer_and_no_service(mesh):
    """Without a buffer nothing gathers while the service is not there; Envoy keeps all that comes between two attempts."""
    px = mesh.proxy(boot=boot(mesh, free_port(), log(buffer_size_bytes=0, flush="300s")))
    for _ in range(40):
        assert px.get().status == 200
    assert stat(px, "written") + stat(px, "dropped") == 40 and stat(px, "dropped") > 30


def test_service_that_hangs_or_resets(mesh):
    """Resets at each point: the stream is opened again, not for each entry, and nothing else happens."""
    hostile = H2Upstream("als", [lambda conn, stream, request: None])

    def rst(conn, stream, request):
        conn.rst(stream)
    rst.early = True
    px = mesh.proxy(boot=boot(mesh, hostile.port, log(buffer_size_bytes=1)))
    assert px.get().status == 200
    until(lambda: hostile.requests and hostile.requests[0].body, 5, "an entry")
    for step in (rst, lambda conn, stream, request: None):
        hostile.script = [step]
        hostile.conns[-1].reset() if step is rst else None
        n = len(hostile.requests)

        def again():
            px.get()
            return len(hostile.requests) > n
        until(again, 5, "another stream")
    assert px.get().status == 200
    hostile.close()


def test_objects_of_the_filter_state(mesh, service):  # S2: a peer is a Struct, anything else its text
    from google.protobuf import struct_pb2, wrappers_pb2
    text = config.ext("envoy.filters.http.set_filter_state", "envoy.extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[
        {"object_key": "mine", "factory_key": "envoy.string", "format_string": {"text_format_source": {"inline_string": "%PROTOCOL%"}}}])
    peer = config.ext("peer", "io.istio.http.peer_metadata.Config", downstream_discovery=[{"baggage": {}}])
    b = boot(mesh, service.port, log(filter_state_objects_to_log=["downstream_peer", "mine", "nobody"]))
    b["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][:0] = [text, peer]
    px = mesh.proxy(boot=b)
    with px.client() as c:
        c.get("/", headers=[("baggage", "k8s.pod.name=p,k8s.namespace.name=n")])
    found = service.wait(1)[0].common_properties.filter_state_objects
    assert sorted(found) == ["downstream_peer", "mine"]
    struct, string = struct_pb2.Struct(), wrappers_pb2.StringValue()
    assert found["downstream_peer"].Unpack(struct) and found["mine"].Unpack(string)
    assert dict(struct) == {"workload": "p", "namespace": "n", "type": "pod"} and string.value == "HTTP/1.1"
