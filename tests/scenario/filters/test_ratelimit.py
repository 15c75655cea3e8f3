"""ratelimit (H9, F11): what the service is asked, what its answers do, failure modes, services that misbehave."""
import threading

import pytest

import config
from evidence import told
from h2_upstream import H2Upstream, answer
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
rls = pytest.importorskip("envoy.service.ratelimit.v3.rls_pb2", reason="peer xds-protos is not installed")
json_format = pytest.importorskip("google.protobuf.json_format", reason="peer xds-protos is not installed")
grpc_peer = pytest.importorskip("grpc_peer", reason="peers grpcio and xds-protos are not installed")

ASK = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
TYPE = "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
GRPC = [("content-type", "application/grpc")]


def limit_filter(timeout="20s", **fields):
    return config.ext("envoy.filters.http.ratelimit", TYPE, domain="d", timeout=timeout,
                      rate_limit_service={"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}}}, **fields)


def key(value, **fields):
    return {"actions": [{"generic_key": {"descriptor_value": value}}], **fields}


def per_route(**fields):
    return {"envoy.filters.http.ratelimit": {"@type": config.TYPE + TYPE + "PerRoute", **fields}}


def boot(mesh, port, routes=None, vhost=None, **fields):
    up = mesh.upstreams[0] if mesh.upstreams else mesh.upstream()
    manager = config.hcm(routes or [config.route("/", "up", rate_limits=[key("r")])], filters=[limit_filter(**fields)],
                         log=config.access_log(mesh.folder / "access.log"))
    manager["typed_config"]["route_config"]["virtual_hosts"][0].update(vhost or {})
    return config.bootstrap([config.listener(free_port(), [manager])],
                            [config.cluster("up", [up.port]), config.cluster("limits", [port], http=H2)], free_port())


class Limits(grpc_peer.GrpcPeer):
    def __init__(self):
        self.answer = {"overall_code": "OK"}
        super().__init__({ASK: ("unary", rls.RateLimitRequest, lambda m, c: json_format.ParseDict(self.answer, rls.RateLimitResponse()))}, "limits")


@pytest.fixture
def limits():
    p = Limits()
    yield p
    p.close()


def asked(limits):
    """The descriptors of the last question, as {key: value} each."""
    return [{e.key: e.value for e in d.entries} for d in limits.requests[-1].descriptors]


def counts(px):
    return [px.stat(f"cluster.up.ratelimit.{n}") for n in ("ok", "over_limit", "error", "failure_mode_allowed")]


def test_what_is_asked(mesh, limits):
    head = {"actions": [{"request_headers": {"header_name": "x-a", "descriptor_key": "a"}}, {"remote_address": {}}]}
    routes = [config.route("/both", "up", rate_limits=[key("r"), head], include_vh_rate_limits=True),
              config.route("/stage", "up", rate_limits=[key("s", stage=1)]),
              {**config.route("/own", "up", rate_limits=[key("r")]), "typed_per_filter_config": per_route(rate_limits=[key("o")], domain="other")},
              {**config.route("/ignore", "up"), "typed_per_filter_config": per_route(vh_rate_limits="IGNORE")},
              config.route("/", "up")]
    px = mesh.proxy(boot=boot(mesh, limits.port, routes, {"rate_limits": [key("v")]}))
    for path, headers, want in (("/both", [("x-a", "1")], [{"generic_key": "r"}, {"a": "1", "remote_address": "127.0.0.1"}, {"generic_key": "v"}]),
                                ("/both", [], [{"generic_key": "r"}, {"generic_key": "v"}]),
                                ("/stage", [], None), ("/own", [], [{"generic_key": "o"}]), ("/ignore", [], None), ("/", [], [{"generic_key": "v"}])):
        n = len(limits.requests)
        assert px.get(path, headers=headers).status == 200
        assert (asked(limits) if len(limits.requests) > n else None) == want, path
    assert [r.domain for r in limits.requests] == ["d", "d", "other", "d"]
    assert counts(px) == [4, 0, 0, 0]


def test_disable_key(mesh, limits):
    """A descriptor of a route that the runtime switches off."""
    b = boot(mesh, limits.port, [config.route("/", "up", rate_limits=[key("a"), key("b", disable_key="x")])])
    b["layered_runtime"] = {"layers": [{"name": "admin", "admin_layer": {}}]}
    px = mesh.proxy(boot=b)
    for value, want in ((None, [{"generic_key": "a"}, {"generic_key": "b"}]), ("0", [{"generic_key": "a"}]), ("100", [{"generic_key": "a"}, {"generic_key": "b"}])):
        if value:
            assert px.admin(f"/runtime_modify?ratelimit.x.http_filter_enabled={value}", "POST")[0] == 200
        assert px.get().status == 200 and asked(limits) == want


def test_over_limit(mesh, limits):
    px = mesh.proxy(boot=boot(mesh, limits.port, enable_x_ratelimit_headers="DRAFT_VERSION_03",
                              response_headers_to_add=[{"header": {"key": "x-mine", "value": "%REQ(:PATH)%"}}]))
    limits.answer = {"overall_code": "OVER_LIMIT", "raw_body": "c2xvdw==", "response_headers_to_add": [{"key": "x-why", "value": "1"}],
                     "statuses": [{"code": "OK", "current_limit": {"requests_per_unit": 9, "unit": "HOUR"}, "limit_remaining": 5},
                                  {"code": "OVER_LIMIT", "current_limit": {"name": "per-ip", "requests_per_unit": 4, "unit": "MINUTE"},
                                   "limit_remaining": 0, "duration_until_reset": "7s"}, {"code": "OK"}]}
    r = px.get()
    assert (r.status, r.body, r.get("x-why"), r.get("x-envoy-ratelimited"), r.get("x-mine")) == (429, b"slow", "1", "true", "/")
    assert [r.get(f"x-ratelimit-{n}") for n in ("limit", "remaining", "reset")] == ['4, 9;w=3600, 4;w=60;name="per-ip"', "0", "7"]
    e = px.access_log(1)[0]
    assert (e["flags"], e["details"]) == ("RL", "request_rate_limited") and not mesh.upstreams[0].requests
    assert counts(px) == [0, 1, 0, 0] and px.stat("cluster.up.upstream_rq_429") == 1


def test_headers_when_allowed(mesh, limits):
    px = mesh.proxy(boot=boot(mesh, limits.port))
    limits.answer = {"overall_code": "OK", "response_headers_to_add": [{"key": "x-r", "value": "1"}],
                     "request_headers_to_add": [{"key": "X-Up", "value": "2"}], "dynamic_metadata": {"a": 1}}
    assert px.get().get("x-r") == "1" and mesh.upstreams[0].requests[0].get("x-up") == "2"


def test_modes(mesh, limits):
    limits.answer = {"overall_code": "OVER_LIMIT"}
    off = {"default_value": {"numerator": 0}, "runtime_key": "k"}
    px = mesh.proxy(name="shadow", boot=boot(mesh, limits.port, filter_enforced=off))
    assert px.get().status == 200 and counts(px) == [0, 1, 0, 0]
    px = mesh.proxy(name="off", boot=boot(mesh, limits.port, filter_enabled=off))
    assert px.get().status == 200 and counts(px) == [0, 0, 0, 0]
    px = mesh.proxy(name="status", boot=boot(mesh, limits.port, rate_limited_status={"code": 503}, disable_x_envoy_ratelimited_header=True,
                                             stat_prefix="s"))
    r = px.get()
    assert r.status == 503 and r.get("x-envoy-ratelimited") is None and px.stat("cluster.up.ratelimit.s.over_limit") == 1
    px = mesh.proxy(name="internal", boot=boot(mesh, limits.port, request_type="internal"))
    assert px.get().status == 200 and counts(px) == [0, 0, 0, 0]


def test_failure_modes(mesh):
    px = mesh.proxy(name="allow", boot=boot(mesh, free_port()))
    assert px.get().status == 200 and counts(px) == [0, 0, 1, 1]
    px = mesh.proxy(name="deny", boot=boot(mesh, free_port(), failure_mode_deny=True, status_on_error={"code": 504}))
    assert px.get().status == 504 and counts(px) == [0, 0, 1, 0]
    assert px.wait_log(lambda e: e["code"] == 504)["flags"] == "RLSE"


@pytest.mark.stricter
def test_foreign_headers(mesh, limits):
    """A service must not write into the connection, nor frame messages."""
    px = mesh.proxy(boot=boot(mesh, limits.port))
    bad = [{"key": "x-a", "value": "a\rb"}, {"key": "content-length", "value": "9"}, {"key": "x b", "value": "1"}, {"key": ":path", "value": "/x"}]
    limits.answer = {"overall_code": "OK", "response_headers_to_add": bad, "request_headers_to_add": bad}
    r = px.get()
    assert (r.status, r.body, r.get("x-a")) == (200, b"ok", None)
    assert mesh.upstreams[0].requests[0].target == "/" and mesh.upstreams[0].requests[0].get("x-a") is None


GARBAGE = {
    "no frame": answer(200, b"garbage", GRPC, [("grpc-status", "0")]),
    "no protobuf": answer(200, b"\0\0\0\0\2\xff\xff", GRPC, [("grpc-status", "0")]),
    "no trailers": answer(200, b"\0\0\0\0\2\x08\1", GRPC),
    "503": answer(503, b"busy"),
    "reset": lambda conn, stream, request: conn.rst(stream),
    "reset in a message": lambda conn, stream, request: (conn.headers(stream, [(":status", "200"), *GRPC]), conn.data(stream, b"\0\0", False), conn.rst(stream)),
    "connection lost": lambda conn, stream, request: conn.reset(),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_f11_garbage_is_an_error(mesh, name):
    service = H2Upstream("limits", [GARBAGE[name]])
    px = mesh.proxy(boot=boot(mesh, service.port, failure_mode_deny=True))
    with told(px, "rate_limiter_error", "RLSE", 500):
        assert px.get().status == 500 and counts(px) == [0, 0, 1, 0]
    service.script = [answer(200, b"\0\0\0\0\2\x08\1", GRPC, [("grpc-status", "0")])]
    assert px.get().status == 200
    service.close()


def test_f11_hang_and_client_that_goes(mesh):
    gone, asked = threading.Event(), threading.Event()

    def late(conn, stream, request):
        asked.set()
        gone.wait(20)
        conn.reply(stream, 200, b"\0\0\0\0\2\x08\1", GRPC, [("grpc-status", "0")])
    service = H2Upstream("limits", [late])
    px = mesh.proxy(name="late", boot=boot(mesh, service.port))
    with px.client() as c:
        c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert asked.wait(20)
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 5, "the end of the client")
    gone.set()
    until(lambda: px.stat("cluster.limits.upstream_rq_active") == 0, 5, "the end of the question")
    assert px.get().status == 200 and len(mesh.upstreams[0].requests) == 1
    service.close()
    service = H2Upstream("limits", [lambda conn, stream, request: None])
    px = mesh.proxy(name="hang", boot=boot(mesh, service.port, timeout="0.3s", failure_mode_deny=True))
    assert px.get().status == 500 and px.stat("cluster.limits.upstream_rq_timeout") == 1
    service.close()
