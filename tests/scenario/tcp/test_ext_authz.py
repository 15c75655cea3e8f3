"""The network filter ext_authz (L5, F11): no byte reaches the upstream before the service allowed it."""
import threading

import pytest

import config
from h2_upstream import H2Upstream, answer
from wire import free_port, reset, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
ea = pytest.importorskip("envoy.service.auth.v3.external_auth_pb2", reason="peer xds-protos is not installed")
grpc_peer = pytest.importorskip("grpc_peer", reason="peers grpcio and xds-protos are not installed")

H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
GRPC = [("content-type", "application/grpc")]


def proxy(mesh, port, timeout="20s", before=(), node=None, **fields):
    authz = config.ext("envoy.filters.network.ext_authz", "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz", stat_prefix="a",
                       transport_api_version="V3", grpc_service={"envoy_grpc": {"cluster_name": "authz"}, "timeout": timeout}, **fields)
    echo = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [*before, authz, echo])], [config.cluster("authz", [port], http=H2)], free_port(),
                                             **({"node": node} if node else {})))


def stat(px, name):
    return px.stat(f"ext_authz.a.{name}")


def echoed(px, text=b"hello"):
    with px.client() as c:
        c.send(text)
        try:
            return c.stream.exactly(len(text), c.timeout)
        except (EOFError, ConnectionError):
            return None


@pytest.fixture
def service():
    reply = {"code": 0}

    def check(request, context):
        m = ea.CheckResponse()
        m.status.code = reply["code"]
        return m
    peer = grpc_peer.GrpcPeer({"/envoy.service.auth.v3.Authorization/Check": ("unary", ea.CheckRequest, check)})
    peer.reply = reply
    yield peer
    peer.close()


def test_allowed_and_denied(mesh, service):
    px = proxy(mesh, service.port, include_tls_session=True)
    assert echoed(px) == b"hello"
    a = service.requests[0].attributes
    assert a.source.address.socket_address.address == "127.0.0.1" and a.destination.address.socket_address.port_value == px.port
    assert a.HasField("tls_session") and not a.HasField("request")
    service.reply["code"] = 7
    assert echoed(px) is None
    assert [stat(px, n) for n in ("ok", "denied", "total", "cx_closed", "active")] == [1, 1, 2, 1, 0]
    with px.client() as c:  # nothing is asked of a connection that says nothing
        assert c.ended(timeout=0.3) == "open"
    assert stat(px, "total") == 2


def test_what_logs_tell(mesh):
    """Metadata of the answer, why a connection was closed."""
    def check(request, context):
        m = ea.CheckResponse()
        m.status.code = said["code"]
        m.dynamic_metadata.update({"who": "alice", "list": ["a", {"b": 1}]})
        return m
    said, peer = {"code": 0}, grpc_peer.GrpcPeer({"/envoy.service.auth.v3.Authorization/Check": ("unary", ea.CheckRequest, check)})
    px = proxy(mesh, peer.port)
    boot = {**px.boot, "admin": {"address": config.address(free_port())}}
    place = boot["static_resources"]["listeners"][0]
    place["address"] = config.address(free_port())
    place["access_log"] = [config.access_log(mesh.folder / "access.log", {
        "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "term": "%CONNECTION_TERMINATION_DETAILS%",
        "who": "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:who)%", "list": "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:list)%",
        "ms": "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:ext_authz_duration)%"})]
    px = mesh.proxy(boot=boot, name="logging")
    assert echoed(px) == b"hello"
    said["code"] = 7
    assert echoed(px) is None
    allowed, denied = px.access_log(2)
    peer.close()
    assert allowed.pop("ms") >= 0 and denied.pop("ms") is None
    told = {"term": None, "who": "alice", "list": ["a", {"b": 1}]}
    assert allowed == {**told, "flags": "-", "details": None} and denied == {**told, "flags": "UAEX", "details": "ext_authz_denied"}


def rbac(**who):
    """A policy that only says what it would do (dry run), as Istio's CUSTOM action has it."""
    policy = {"permissions": [{"any": True}], "principals": [who]}
    return config.ext("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", shadow_rules_stat_prefix="istio_ext_authz_",
                      shadow_rules={"action": "DENY", "policies": {"istio-ext-authz-ns-p-rule[0]": policy}})


ASKED = {"filter": "envoy.filters.network.rbac", "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}], "value": {"string_match": {"prefix": "istio-ext-authz"}}}


def test_only_where_metadata_says_so(mesh, service):  # filter_enabled_metadata
    service.reply["code"] = 7
    px = proxy(mesh, service.port, before=[rbac(direct_remote_ip={"address_prefix": "127.0.0.1", "prefix_len": 32})], filter_enabled_metadata=ASKED,
               metadata_context_namespaces=["envoy.filters.network.rbac", "none"])
    assert echoed(px) is None and [stat(px, n) for n in ("denied", "disabled")] == [1, 0]
    context = service.requests[0].attributes.metadata_context.filter_metadata
    assert list(context) == ["envoy.filters.network.rbac"]
    assert context["envoy.filters.network.rbac"]["istio_ext_authz_shadow_effective_policy_id"] == "istio-ext-authz-ns-p-rule[0]"
    other = proxy(mesh, service.port, before=[rbac(direct_remote_ip={"address_prefix": "10.0.0.1", "prefix_len": 32})], filter_enabled_metadata=ASKED)
    assert echoed(other) == b"hello" and stat(other, "total") == 0 and stat(other, "disabled") > 0  # each time that there are bytes


def test_labels_of_the_destination(mesh, service):  # bootstrap_metadata_labels_key
    px = proxy(mesh, service.port, node={"id": "n", "cluster": "c", "metadata": {"LABELS": {"app": "shop", "n": 1}}}, bootstrap_metadata_labels_key="LABELS")
    assert echoed(px) == b"hello" and dict(service.requests[0].attributes.destination.labels) == {"app": "shop", "n": ""}


def test_failure_modes(mesh):
    for allow in (False, True):
        px = mesh_proxy = proxy(mesh, free_port(), failure_mode_allow=allow)
        assert echoed(px) == (b"hello" if allow else None)
        assert [stat(px, n) for n in ("error", "failure_mode_allowed", "cx_closed")] == [1, int(allow), int(not allow)]
        mesh_proxy.stop()


GARBAGE = {
    "no frame": answer(200, b"garbage", GRPC, [("grpc-status", "0")]),
    "503": answer(503, b"busy"),
    "reset": lambda conn, stream, request: conn.rst(stream),
    "connection lost": lambda conn, stream, request: conn.reset(),
    "reset in a message": lambda conn, stream, request: (conn.headers(stream, [(":status", "200"), *GRPC]), conn.data(stream, b"\0\0", False), conn.rst(stream)),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_closes(mesh, name):
    up = H2Upstream("authz", [GARBAGE[name]])
    px = proxy(mesh, up.port)
    assert echoed(px) is None and stat(px, "error") == 1
    up.close()


def test_hang(mesh):
    up = H2Upstream("authz", [lambda conn, stream, request: None])
    px = proxy(mesh, up.port, timeout="0.3s")
    assert echoed(px) is None and stat(px, "error") == 1
    up.close()


def test_client_goes_meanwhile(mesh):
    asked, gone = threading.Event(), threading.Event()

    def late(conn, stream, request):
        asked.set()
        gone.wait(20)
        conn.reply(stream, 200, b"\0\0\0\0\0", GRPC, [("grpc-status", "0")])
    up = H2Upstream("authz", [late])
    px = proxy(mesh, up.port)
    with px.client() as c:
        c.send(b"hello")
        assert asked.wait(20)
        reset(c.sock)
    until(lambda: stat(px, "active") == 0, 5, "the end of the client")
    gone.set()
    until(lambda: px.stat("cluster.authz.upstream_rq_active") == 0, 5, "the end of the question")
    up.script = [answer(200, b"\0\0\0\0\0", GRPC, [("grpc-status", "0")])]
    assert echoed(px) == b"hello"
    up.close()
