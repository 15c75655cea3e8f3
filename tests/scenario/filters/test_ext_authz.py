"""ext_authz (H9, F11): what a gRPC service is asked, what its answers do, and services that hang, lie or answer garbage."""
import struct
import threading

import pytest

import config
from evidence import told
from h2_upstream import CANCEL, H2Upstream, answer
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
ea = pytest.importorskip("envoy.service.auth.v3.external_auth_pb2", reason="peer xds-protos is not installed")
json_format = pytest.importorskip("google.protobuf.json_format", reason="peer xds-protos is not installed")
grpc_peer = pytest.importorskip("grpc_peer", reason="peers grpcio and xds-protos are not installed")

CHECK = "/envoy.service.auth.v3.Authorization/Check"
TYPE = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def authz_filter(timeout="20s", **fields):
    return config.ext("envoy.filters.http.ext_authz", TYPE, transport_api_version="V3",
                      grpc_service={"envoy_grpc": {"cluster_name": "authz"}, "timeout": timeout}, **fields)


def per_route(**fields):
    return {"envoy.filters.http.ext_authz": {"@type": config.TYPE + TYPE + "PerRoute", **fields}}


def boot(mesh, port, routes=None, filters=None, authz=None, **fields):
    up = mesh.upstreams[0] if mesh.upstreams else mesh.upstream()
    manager = config.hcm(routes or [config.route("/", up.name)], filters=filters or [authz_filter(**fields)],
                         log=config.access_log(mesh.folder / "access.log"))
    return config.bootstrap([config.listener(free_port(), [manager])],
                            [config.cluster(up.name, [up.port]), config.cluster("authz", [port], http=H2, **(authz or {}))], free_port())


class Authz(grpc_peer.GrpcPeer):
    def __init__(self):
        self.answer = {}
        super().__init__({CHECK: ("unary", ea.CheckRequest, self._check)})

    def _check(self, request, context):
        if isinstance(self.answer, bytes):
            return self.answer
        return json_format.ParseDict(self.answer, ea.CheckResponse())


@pytest.fixture
def authz():
    a = Authz()
    yield a
    a.close()


def header(key, value, **kw):
    return {"header": {"key": key, "value": value}, **kw}


def ok(**kw):
    return {"ok_response": kw}


@pytest.fixture
def px(mesh, authz):
    return mesh.proxy(boot=boot(mesh, authz.port))


def sent(mesh, *names):
    """What the upstream got last: the values of these headers."""
    got = mesh.upstreams[0].requests[-1]
    return [[v for n, v in got.headers if n.lower() == name] for name in names]


def test_what_is_asked(mesh, authz):
    routes = [{**config.route("/", "up"), "metadata": {"filter_metadata": {"r": {"a": 1}, "s": {}}},
               "typed_per_filter_config": per_route(check_settings={"context_extensions": {"k": "route", "o": "1"}})}]
    b = boot(mesh, authz.port, routes, [authz_filter(include_tls_session=True, route_metadata_context_namespaces=["r", "x"],
                                                     metadata_context_namespaces=["none"])])
    vhost = b["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    vhost["typed_per_filter_config"] = per_route(check_settings={"context_extensions": {"k": "vhost", "v": "2"}})
    px = mesh.proxy(boot=b)
    assert px.get("/p?q=1", headers=[("x-a", "1"), ("x-a", "2"), ("x-envoy-auth-partial-body", "forged")]).status == 200
    a = authz.requests[0].attributes
    http = a.request.http
    assert (http.method, http.path, http.host, http.scheme, http.protocol, http.size, http.body) == \
        ("GET", "/p?q=1", "a", "http", "HTTP/1.1", 0, "")
    assert http.headers["x-a"] == "1,2" and http.headers[":path"] == "/p?q=1" and "x-envoy-auth-partial-body" not in http.headers
    assert a.source.address.socket_address.address == "127.0.0.1" and a.destination.address.socket_address.port_value == px.port
    assert dict(a.context_extensions) == {"k": "route", "o": "1", "v": "2"}
    assert a.HasField("tls_session") and a.HasField("metadata_context") and a.request.time.seconds > 1_700_000_000
    assert dict(a.route_metadata_context.filter_metadata) .keys() == {"r"} and not a.metadata_context.filter_metadata
    m = authz.metadata[0]
    assert m["x-envoy-internal"] == "true" and m["x-envoy-expected-rq-timeout-ms"] == "20000"
    assert px.stat("http.in.ext_authz.ok") == 1 and px.stat("cluster.up.ext_authz.ok") == 1
    assert px.stat("cluster.authz.internal.upstream_rq_200") == 1


def test_allowed_with_changes(mesh, authz, px):
    authz.answer = ok(headers=[header("x-new", "n"), header("x-old", "2")])
    assert px.get(headers=[("x-old", "1")]).status == 200
    assert sent(mesh, "x-new", "x-old") == [["n"], ["2"]]
    authz.answer = ok(headers=[header("x-new", "n", append=True), header("x-old", "2", append=True)])
    px.get(headers=[("x-old", "1")])
    assert sent(mesh, "x-new", "x-old") == [[], ["1,2"]]
    authz.answer = ok(headers=[header(":path", "/other"), header("host", "b"), header("X-Case", "1")], headers_to_remove=["x-old", ":path", "host"])
    px.get(headers=[("x-old", "1")])
    assert sent(mesh, "host", "x-old", "x-case") == [["b"], [], ["1"]] and mesh.upstreams[0].requests[-1].target == "/other"
    authz.answer = ok(query_parameters_to_set=[{"key": "a", "value": "b"}, {"key": "q", "value": "2"}], query_parameters_to_remove=["z"])
    px.get("/p?q=1&z=2&z=3&y=4")
    assert mesh.upstreams[0].requests[-1].target == "/p?y=4&a=b&q=2" or mesh.upstreams[0].requests[-1].target == "/p?a=b&q=2&y=4"


@pytest.mark.parametrize("rules,changed,status", [
    ({}, {"x-new", "path", "x-gone"}, 200), ({"disallow_system": True}, {"x-new", "x-gone"}, 200), ({"disallow_all": True}, set(), 200),
    ({"allow_envoy": True}, {"x-new", "path", "x-gone", "x-envoy-z"}, 200), ({"allow_all_routing": True}, {"x-new", "path", "x-gone", "host"}, 200),
    ({"disallow_expression": {"regex": "x-new|:path"}}, {"x-gone"}, 200), ({"disallow_expression": {"regex": "new"}}, {"x-new", "path", "x-gone"}, 200),
    ({"disallow_all": True, "allow_expression": {"regex": "host|x-envoy-.*"}}, {"host", "x-envoy-z"}, 200),
    ({"allow_expression": {"regex": "x-.*"}, "disallow_expression": {"regex": ".*gone"}}, {"x-new", "path", "x-envoy-z"}, 200),
    ({"disallow_is_error": True}, None, 500), ({"disallow_is_error": True, "allow_envoy": True, "allow_all_routing": True}, {"x-new", "path", "x-gone", "host", "x-envoy-z"}, 200)])
def test_rules_of_what_may_be_changed(mesh, authz, rules, changed, status):
    px = mesh.proxy(boot=boot(mesh, authz.port, decoder_header_mutation_rules=rules))
    authz.answer = ok(headers=[header("x-new", "1"), header(":path", "/q"), header("host", "b"), header("x-envoy-z", "1")], headers_to_remove=["x-gone"],
                      response_headers_to_add=[header("x-new", "back")])
    r = px.get("/p", headers=[("x-gone", "1")])
    assert r.status == status
    if status == 500:
        assert px.stat("http.in.ext_authz.invalid") == 1 and px.access_log()[0]["details"] == "ext_authz_invalid" and not mesh.upstreams[0].requests
        return
    got = mesh.upstreams[0].requests[-1]
    have = {n.lower(): v for n, v in got.headers}
    seen = {k for k in ("x-new", "x-envoy-z") if k in have} | ({"path"} if got.target == "/q" else set()) | ({"host"} if have["host"] == "b" else set()) | \
        (set() if "x-gone" in have else {"x-gone"})
    assert seen == changed and r.get("x-new") == "back"  # answers are not asked about


def test_response_headers(mesh, authz, px):
    mesh.upstreams[0].script[0].headers = [("x-there", "up")]
    for action, new, there in (("APPEND_IF_EXISTS_OR_ADD", ["1"], ["up", "1"]), ("ADD_IF_ABSENT", ["1"], ["up"]),
                               ("OVERWRITE_IF_EXISTS_OR_ADD", ["1"], ["1"]), ("OVERWRITE_IF_EXISTS", [], ["1"])):
        authz.answer = ok(response_headers_to_add=[header("x-new", "1", append_action=action), header("x-there", "1", append_action=action)])
        r = px.get()
        assert [[v for n, v in r.headers if n == name] for name in ("x-new", "x-there")] == [new, there], action


def test_denied(mesh, authz, px):
    authz.answer = {"status": {"code": 7}, "denied_response": {
        "status": {"code": 401}, "body": "no", "headers": [header("x-why", "bad key"), header("set-cookie", "a=b")]}}
    r = px.get()
    assert (r.status, r.body, r.get("x-why"), r.get("set-cookie")) == (401, b"no", "bad key", "a=b")
    authz.answer = {"status": {"code": 7}}
    assert px.get().status == 403
    log = px.access_log(2)
    assert [(e["code"], e["flags"], e["details"]) for e in log] == [(401, "UAEX", "ext_authz_denied"), (403, "UAEX", "ext_authz_denied")]
    assert not mesh.upstreams[0].requests and px.stat("http.in.ext_authz.denied") == 2
    assert px.stat("cluster.up.upstream_rq_401") == 1 and px.stat("cluster.up.internal.upstream_rq_4xx") == 2


def test_errors_deny(mesh, authz, px):
    authz.answer = {"status": {"code": 13}, "error_response": {"status": {"code": 502}, "body": "b", "headers": [header("x-e", "1")]}}
    r = px.get()
    assert (r.status, r.body, r.get("x-e")) == (502, b"b", "1")
    assert px.access_log(1)[0]["details"] == "ext_authz_error" and px.stat("http.in.ext_authz.error") == 1


def test_metadata_of_the_answer(mesh, authz):
    f = [authz_filter(), config.ext("envoy.filters.http.set_filter_state", "envoy.extensions.filters.http.set_filter_state.v3.Config")]
    b = boot(mesh, authz.port, filters=f[:1])
    log = b["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]
    log["typed_config"]["log_format"] = {"json_format": {"m": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:who)%",
                                                         "d": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:ext_authz_duration)%"}}
    px = mesh.proxy(boot=b)
    authz.answer = {"dynamic_metadata": {"who": "alice"}}
    assert px.get().status == 200
    entry = px.access_log(1)[0]
    assert entry["m"] == "alice" and entry["d"] is not None


def test_body(mesh, authz):
    routes = [{**config.route("/none", "up"), "typed_per_filter_config": per_route(check_settings={"disable_request_body_buffering": True})},
              {**config.route("/three", "up"), "typed_per_filter_config": per_route(
                  check_settings={"with_request_body": {"max_request_bytes": 3, "allow_partial_message": True}})},
              config.route("/", "up")]
    px = mesh.proxy(boot=boot(mesh, authz.port, routes, with_request_body={"max_request_bytes": 6}))

    def post(path, body):
        with px.client() as c:
            return c.send(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n{body}").response()
    assert post("/", "123456").status == 200
    assert post("/three", "123456").status == 200
    assert post("/none", "1234567890").status == 200
    assert post("/", "1234567").status == 413
    assert [(r.attributes.request.http.body, r.attributes.request.http.headers.get("x-envoy-auth-partial-body")) for r in authz.requests] == \
        [("123456", "false"), ("123", "true"), ("", None)]
    assert [r.body for r in mesh.upstreams[0].requests] == [b"123456", b"123456", b"1234567890"]


def test_bytes_that_are_no_text(mesh, authz):
    """A gRPC string is UTF-8: other bytes are '!' there, and unchanged as bytes and upstream."""
    for as_bytes in (False, True):
        px = mesh.proxy(name=f"p{as_bytes}", boot=boot(mesh, authz.port, with_request_body={"max_request_bytes": 9, "pack_as_bytes": as_bytes}))
        with px.client() as c:
            c.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-bin: a\xff\xc3\xa9\r\ncontent-length: 3\r\n\r\n\xfeab")
            assert c.response().status == 200
        http = authz.requests[-1].attributes.request.http
        assert http.headers["x-bin"] == "a!\xe9"
        assert (http.body, http.raw_body) == (("", b"\xfeab") if as_bytes else ("!ab", b""))
        assert mesh.upstreams[0].requests[-1].body == b"\xfeab"


def test_raw_headers_and_labels(mesh, authz):  # encode_raw_headers, bootstrap_metadata_labels_key
    b = boot(mesh, authz.port, filters=[authz_filter(encode_raw_headers=True, bootstrap_metadata_labels_key="LABELS", with_request_body={"max_request_bytes": 9})])
    b["node"] = {"id": "n", "cluster": "c", "metadata": {"LABELS": {"app": "shop"}}}
    px = mesh.proxy(boot=b)
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-bin: a\xff\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 3\r\n\r\nabc")
        assert c.response().status == 200
    a = authz.requests[0].attributes
    got = [(h.key, h.raw_value) for h in a.request.http.header_map.headers]
    assert not a.request.http.headers and not any(h.value for h in a.request.http.header_map.headers)
    assert {("x-bin", b"a\xff"), ("x-a", b"1"), ("x-a", b"2"), (":path", b"/"), ("x-envoy-auth-partial-body", b"false")} <= set(got)
    assert dict(a.destination.labels) == {"app": "shop"}


def test_enabled_and_disabled(mesh, authz):
    off = {"default_value": {"numerator": 0}, "runtime_key": "authz.on"}
    routes = [{**config.route("/off", "up"), "typed_per_filter_config": per_route(disabled=True)}, config.route("/", "up")]
    px = mesh.proxy(boot=boot(mesh, authz.port, routes, filter_enabled=off,
                              deny_at_disable={"default_value": {"value": True}, "runtime_key": "authz.deny"}, status_on_error={"code": 503}))
    assert px.get("/off").status == 200
    r = px.get("/")
    assert r.status == 503 and px.access_log(2)[1]["flags"] == "UAEX"
    assert px.stat("http.in.ext_authz.disabled") == 1 and not authz.requests


def test_service_of_a_route(mesh, authz):
    other = Authz()
    other.answer = {"status": {"code": 7}, "denied_response": {"status": {"code": 402}}}
    routes = [{**config.route("/other", "up"), "typed_per_filter_config": per_route(
        check_settings={"grpc_service": {"envoy_grpc": {"cluster_name": "other"}, "timeout": "20s"}})}, config.route("/", "up")]
    b = boot(mesh, authz.port, routes)
    b["static_resources"]["clusters"].append(config.cluster("other", [other.port], http=H2))
    px = mesh.proxy(boot=b)
    assert (px.get("/other").status, px.get("/").status) == (402, 200)
    other.close()


# ---- services that lie ----

BAD = [("x-new", "a\rb"), ("x new", "v"), (":path", "/a b"), (":path", "no-slash"), (":authority", "u@h"), (":method", "G T"), (":status", "200"),
       ("x-nul", "a\x01b")]


@pytest.mark.stricter
@pytest.mark.parametrize("key,value", BAD)
def test_mutation_that_cannot_be_sent(mesh, authz, key, value):
    for validate, status in ((True, 500), (False, 503)):
        px = mesh.proxy(name=f"p{validate}", boot=boot(mesh, authz.port, validate_mutations=validate))
        authz.answer = ok(headers=[header(key, value)])
        assert px.get().status == status
        assert px.stat("http.in.ext_authz.invalid") == 1 and not mesh.upstreams[0].requests
        assert px.wait_log(lambda e: e["code"] == status)["details"] == "ext_authz_invalid"


@pytest.mark.stricter
def test_framing_is_not_the_services_business(mesh, authz, px):
    """content-length and its like in an answer change nothing: neither the request nor the answer may be framed by them."""
    authz.answer = ok(headers=[header("content-length", "5"), header("transfer-encoding", "chunked"), header("connection", "close")],
                      headers_to_remove=["content-length"], response_headers_to_add=[header("content-length", "77"), header("x-r", "1")])
    with px.client() as c:
        for _ in range(2):
            r = c.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab").response()
            assert (r.status, r.body, r.get("content-length"), r.get("x-r")) == (200, b"ok", "2", "1")
    assert [r.body for r in mesh.upstreams[0].requests] == [b"ab", b"ab"]


@pytest.mark.stricter
def test_answers_that_are_too_large(mesh, authz, px):
    authz.answer = ok(headers=[header(f"x-{i}", "v") for i in range(200)])
    assert px.get().status == 500 and px.stat("http.in.ext_authz.request_header_limits_reached") == 1
    authz.answer = ok(headers=[header("x", "v" * 16000 + str(i)) for i in range(300)])  # more than 4 MiB
    assert px.get().status == 403 and px.stat("http.in.ext_authz.error") == 1
    authz.answer = b"\xff\xff\xff\xff"
    assert px.get().status == 403 and px.stat("http.in.ext_authz.error") == 2
    authz.answer = {}
    assert px.get().status == 200


def test_failure_mode_allow(mesh):
    px = mesh.proxy(boot=boot(mesh, free_port(), failure_mode_allow=True, failure_mode_allow_header_add=True))
    assert px.get().status == 200 and sent(mesh, "x-envoy-auth-failure-mode-allowed") == [["true"]]
    assert px.stat("http.in.ext_authz.failure_mode_allowed") == 1 and px.stat("cluster.up.ext_authz.error") == 1


# ---- services that hang, come late, send garbage ----

GRPC_OK = [("grpc-status", "0")]
GRPC = [("content-type", "application/grpc")]
EMPTY = b"\0\0\0\0\0"


def hostile(mesh, step, timeout="20s", **fields):
    service = H2Upstream("authz", [step])
    px = mesh.proxy(boot=boot(mesh, service.port, timeout=timeout, **fields))
    return px, service


def test_f11_hang(mesh):
    px, service = hostile(mesh, lambda conn, stream, request: None, timeout="0.3s")
    with told(px, "ext_authz_error", "UAEX", 403, ["http.in.ext_authz.error", "cluster.authz.upstream_rq_timeout"]):
        assert px.get().status == 403
    until(lambda: service.conns[0].resets, 5, "a reset of the question")
    service.close()


def test_f11_client_goes_meanwhile(mesh):
    """The question is cancelled with its stream; an answer that comes after that finds nobody."""
    asked, gone = threading.Event(), threading.Event()

    def late(conn, stream, request):
        asked.set()
        gone.wait(20)
        conn.reply(stream, 200, EMPTY, GRPC, GRPC_OK)
    px, service = hostile(mesh, late)
    for _ in range(3):
        asked.clear()
        gone.clear()
        with px.client() as c:
            c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert asked.wait(20)
        until(lambda: px.stat("http.in.downstream_cx_active") == 0, 5, "the end of the client")
        gone.set()
        until(lambda: px.stat("cluster.authz.upstream_rq_active") == 0, 5, "the end of the question")
    assert not mesh.upstreams[0].requests
    service.script = [answer(200, EMPTY, GRPC, GRPC_OK)]
    assert px.get().status == 200
    service.close()


GARBAGE = {
    "no frame": answer(200, b"garbage", GRPC, GRPC_OK),
    "half a frame": answer(200, b"\0\0\0\0\5ab", GRPC, GRPC_OK),
    "no message": answer(200, b"", GRPC, GRPC_OK),
    "compressed": answer(200, b"\1\0\0\0\1x", GRPC, GRPC_OK),
    "no protobuf": answer(200, b"\0\0\0\0\3\xff\xff\xff", GRPC, GRPC_OK),
    "4 GiB announced": answer(200, b"\0\xff\xff\xff\xff" + b"x" * 1000, GRPC, GRPC_OK),
    "no trailers": answer(200, EMPTY, GRPC),
    "no status": answer(200, EMPTY, GRPC, [("x", "y")]),
    "status that is none": answer(200, EMPTY, GRPC, [("grpc-status", "zero")]),
    "503": answer(503, b"busy"),
    "302": answer(302, b"", [("location", "http://elsewhere/")]),
    "reset before the answer": lambda conn, stream, request: conn.rst(stream),
    "reset after its head": lambda conn, stream, request: (conn.headers(stream, [(":status", "200"), *GRPC]), conn.rst(stream)),
    "reset in a message": lambda conn, stream, request: (conn.headers(stream, [(":status", "200"), *GRPC]), conn.data(stream, b"\0\0", False), conn.rst(stream)),
    "reset after the message": lambda conn, stream, request: (conn.headers(stream, [(":status", "200"), *GRPC]), conn.data(stream, EMPTY, False), conn.rst(stream)),
    "connection lost": lambda conn, stream, request: conn.reset(),
    "GOAWAY": lambda conn, stream, request: (conn.goaway(0), conn.close()),
    "junk": lambda conn, stream, request: conn.frame(99, 0, 0, b"x" * 20) or conn.frame(0, 0, stream, b"x"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_f11_garbage_denies(mesh, name):
    px, service = hostile(mesh, GARBAGE[name])
    with told(px, "ext_authz_error", "UAEX", 403, "http.in.ext_authz.error"):
        assert px.get().status == 403
    assert not mesh.upstreams[0].requests
    service.script = [answer(200, EMPTY, GRPC, GRPC_OK)]
    assert px.get().status == 200  # and the proxy goes on
    service.close()


@pytest.mark.stricter
def test_100_megabytes(mesh):
    def flood(conn, stream, request):
        conn.headers(stream, [(":status", "200"), *GRPC])
        conn.frame(0, 0, stream, b"\0" + struct.pack(">I", 100_000_000))
        while stream not in conn.resets:
            conn.flood(1, 0, stream, b"x" * 16000)
            if conn.peer_settings:
                break
    px, service = hostile(mesh, flood)
    before = px.memory_kib()
    assert px.get().status == 403
    until(lambda: service.conns[0].resets.get(1) == CANCEL, 5, "a reset")
    assert px.grown_kib(before) < 6000
    service.close()


def test_story(mesh, authz, px, is_envoy):
    if is_envoy:
        pytest.skip("the peer has no stories")
    authz.answer = {"status": {"code": 7, "message": "no badge"}}
    assert px.get().status == 403
    assert "no badge" in px.admin("/mizzen/requests")[1]
