"""The grpc_stats filter (row H9): calls, outcomes and messages; bodies are cut in odd places."""
import config
import pytest
from chain import send, start
from upstream import Raw, Reply

NAME = "envoy.filters.http.grpc_stats"
TYPE = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
LOG = {"path": "%REQ(:PATH)%", "plain": f"%FILTER_STATE({NAME}:PLAIN)%", "typed": f"%FILTER_STATE({NAME})%"}
TRAILERS = {"enable_trailers": True}
GRPC = ("content-type", "application/grpc")
TWO = b"\0\0\0\0\1x\0\0\0\0\0"


def begin(mesh, script, **fields):
    up = mesh.upstream(script=script)
    cluster = config.cluster("up", [up.port], http={"explicit_http_config": {"http_protocol_options": TRAILERS}})
    return start(mesh, [config.ext(NAME, TYPE, **fields)], upstreams=[up], clusters=[cluster], http_protocol_options=TRAILERS,
                 log=config.access_log(mesh.folder / "access.log", LOG))


def answer(status="0", frames=b"\0\0\0\0\2ab"):
    return Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % len(frames) + frames +
               b"\r\n0\r\ngrpc-status: " + status.encode() + b"\r\n\r\n", close=False)


def trailers_only(status):
    return Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: %d\r\ncontent-length: 0\r\n\r\n" % status, close=False)


def call(px, path="/s.v1.S/M", body=TWO):
    return send(px, "POST", path, [GRPC], body)


def counts(px, prefix="cluster.up.grpc."):
    """The gRPC statistics behind the prefix."""
    return {k[len(prefix):]: v for k, v in px.stats(r"^cluster\.up\.grpc").items() if k.startswith(prefix)}


def test_all_methods(mesh):
    _, px = begin(mesh, [answer(), answer("5"), trailers_only(3), Reply(503)], stats_for_all_methods=True, enable_upstream_stats=True)
    assert [call(px).status for _ in range(4)] == [200, 200, 200, 503]
    assert counts(px, "cluster.up.grpc.s.v1.S.M.") == {
        "0": 1, "5": 1, "3": 1, "success": 1, "failure": 2, "total": 3, "request_message_count": 8, "response_message_count": 2}
    assert "cluster.up.grpc.s.v1.S.M.upstream_rq_time: " in px.admin("/stats?filter=upstream_rq_time")[1]


def test_allowlist(mesh):
    methods = {"services": [{"name": "s.v1.S", "method_names": ["M", "N"]}]}
    _, px = begin(mesh, [answer() for _ in range(6)], individual_method_stats_allowlist=methods, replace_dots_in_grpc_service_name=True)
    for path in ("/s.v1.S/M", "//s.v1.S//N/?q", "/s.v1.S/O", "/a/b/c", "/a", "/t/M"):
        assert call(px, path).status == 200
    totals = {k: v for k, v in counts(px).items() if k.endswith("total")}
    assert totals == {"s.v1.S.M.total": 1, "s.v1.S.N.total": 1, "total": 2}


def test_dots_replaced(mesh):
    _, px = begin(mesh, [answer()], stats_for_all_methods=True, replace_dots_in_grpc_service_name=True)
    call(px)
    assert counts(px)["s_v1_S.M.0"] == 1


def test_none_by_default_and_only_grpc(mesh):
    _, px = begin(mesh, [answer(), answer(), Reply(200)])
    assert call(px).status == 200
    assert counts(px) == {"0": 1, "success": 1, "total": 1, "request_message_count": 2, "response_message_count": 1}
    send(px, "POST", "/s/m", [("content-type", "application/json")], TWO)
    send(px, "POST", "/s/m", [("content-type", "application/grpcx")], TWO)
    assert counts(px)["total"] == 1


def test_filter_state(mesh):
    _, px = begin(mesh, [answer(), Reply(200), Reply(200)], emit_filter_state=True)
    call(px, "/s/1")
    call(px, "/s/2")
    call(px, "/s/3", b"")
    got = {e["path"]: (e["plain"], e["typed"]) for e in px.access_log(3)}
    assert got == {"/s/1": ("2,1", {"requestMessageCount": "2", "responseMessageCount": "1"}),
                   "/s/2": ("2,0", {"requestMessageCount": "2"}), "/s/3": (None, None)}


def test_messages_in_pieces(mesh):
    body = b"\0\0\0\0\3abc" * 3 + b"\1\0\0\1\0" + b"z" * 256 + b"\0\0"
    up, px = begin(mesh, [answer(frames=b"\0\0\0\0\0" * 7)])
    with px.client() as c:
        c.send(b"POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n")
        for i in range(len(body)):
            c.send(b"1\r\n" + body[i:i + 1] + b"\r\n")
        assert c.send(b"0\r\n\r\n").response("POST").status == 200
    assert (counts(px)["request_message_count"], counts(px)["response_message_count"]) == (5, 7)


@pytest.mark.stricter
def test_E13_names_and_statuses_are_bounded(mesh):
    up, px = begin(mesh, [Reply()], stats_for_all_methods=True)
    up.script = [answer(s) for s in ("17", "99", "x" * 40, "", "016", "-1")]
    for _ in range(6):
        call(px, "/s/odd")
    assert counts(px, "cluster.up.grpc.s.odd.") == {"16": 1, "failure": 6, "total": 6, "request_message_count": 12, "response_message_count": 6}
    up.script = [Reply()]
    with px.client() as c:
        for i in range(1200):
            c.send(b"POST /%d/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0" % i)
            assert c.response("POST").status == 200
        c.send(b"POST /" + b"n" * 300 + b"/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0")
        assert c.response("POST").status == 200
    named = [k for k in counts(px) if k.endswith("m.request_message_count")]
    assert len(named) == 1023 and counts(px)["request_message_count"] == 1200 - 1023 + 1
