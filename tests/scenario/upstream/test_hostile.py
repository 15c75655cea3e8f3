"""Answers of a hostile or broken upstream: refused with 502, or passed in one meaning only (rows H1, F01-F09)."""
import threading

import pytest

from evidence import VIA_UPSTREAM, told
from upstream import Raw, Reply, Reset
from wire import until

HEAD = b"HTTP/1.1 200 OK\r\n"
stricter = pytest.mark.stricter

# id, bytes of the upstream: 502 with flag UPE, the upstream connection is dropped and counted
REFUSED = [
    ("F01-cl-differ", HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    ("F01-cl-equal", HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    ("F01-cl-te", HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("F01-two-te", HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("F01-cl-204", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab"),
    ("F03-nul", HEAD + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n"),
    ("F04-150-headers", HEAD + b"".join(b"x-%d: 1\r\n" % i for i in range(150)) + b"Content-Length: 0\r\n\r\n"),
    ("F05-garbage", b"\x01\x02\x03 garbage\r\n\r\n"), ("F05-ssh", b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"),
]
# The peer is laxer
STRICT = [
    ("F03-bare-cr", HEAD + b"X-A: a\rSet-Cookie: x=1\r\nContent-Length: 0\r\n\r\n"),
    ("F05-two-digits", b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n"),
    ("F05-four-digits", b"HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n"), ("F05-http2", b"HTTP/2.0 200 X\r\nContent-Length: 0\r\n\r\n"),
    ("F07-101-unasked", b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw"),
    ("F04-70-kb-header", HEAD + b"X-A: " + b"a" * 70000 + b"\r\nContent-Length: 0\r\n\r\n"),
]


BAD = "cluster.up.upstream_cx_protocol_error"


def refused(px, up, data):
    up.script = [Raw(data, close=False), Reply(200, b"clean")]
    with told(px, "upstream_reset_before_response_started{protocol_error}", "UPE", 502, BAD):
        assert px.get("/bad").status == 502
    assert px.get("/next").body == b"clean"
    assert up.requests[0].connection != up.requests[1].connection


@pytest.mark.parametrize("data", [r[1] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(px, up, data):
    refused(px, up, data)


@stricter
@pytest.mark.parametrize("data", [r[1] for r in STRICT], ids=[r[0] for r in STRICT])
def test_stricter_than_envoy(px, up, data):
    refused(px, up, data)


def test_f02_extra_bytes_after_the_answer(px, up):
    up.script = [Raw(HEAD + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", close=False), Reply(200, b"next")]
    with told(px, VIA_UPSTREAM, "-", 200, {BAD: 1, "cluster.up.upstream_rq_200": 2}), px.client() as c:
        assert c.get("/1").body == b"ok"
        assert c.get("/2").body == b"next"
    assert up.requests[0].connection != up.requests[1].connection


def test_f06_thousand_continues(px, up):
    up.script = [Raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + HEAD + b"Content-Length: 2\r\n\r\nok", close=False)]
    before = px.memory_kib()
    with told(px, VIA_UPSTREAM, "-", 200, {BAD: 0, "cluster.up.upstream_rq_200": 1, "cluster.up.upstream_rq_1xx": None}):
        r = px.get("/")
    assert r.status == 200 and r.body == b"ok" and len(r.informational) <= 1
    assert px.grown_kib(before) < 1024


def test_f07_200_to_an_upgrade_is_no_tunnel(mesh):
    up = mesh.upstream(script=[Raw(HEAD + b"Content-Length: 2\r\n\r\nno", close=False)])
    px = mesh.proxy(hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    with told(px, "websocket_handshake_unsuccessful", "-", 200, "http.in.downstream_rq_response_before_rq_complete"), px.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert c.response().status == 200
        c.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        c.ended(1)
    assert [r.target for r in up.requests] == ["/"] and up.errors == []


# id, bytes of the upstream before it closes, flag, why, counter: the client must see an unfinished answer
BROKEN = ("UPE", "protocol_error", BAD)
CUT = [
    ("F08-short-length", HEAD + b"Content-Length: 10\r\n\r\nhalf", *BROKEN),
    ("F08-short-chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\nhalf", *BROKEN),
    ("F08-no-last-chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", *BROKEN),
    ("F09-chunk-overflow", HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n11111111111111111\r\nx\r\n0\r\n\r\n", *BROKEN),
    ("F09-chunk-junk", HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n0\r\n\r\n", *BROKEN),
]


@pytest.mark.parametrize("data,flag,reason,counter", [r[1:] for r in CUT], ids=[r[0] for r in CUT])
def test_cut_answer_never_looks_whole(px, up, data, flag, reason, counter):
    up.script = [Raw(data), Reply()]
    with told(px, f"upstream_reset_after_response_started{{{reason}}}", flag, 200, counter), px.client() as c:
        with pytest.raises(EOFError):
            c.get("/cut")
    assert px.get("/").status == 200


FULL = HEAD + b"X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_upstream_dies_at_any_byte(px, up, end):
    """The answer is cut after each of its bytes: the client sees 503, or an unfinished answer, never a whole one."""
    for n in range(len(FULL)):
        up.script = [Raw(FULL[:n]) if end == "close" else Reset(FULL[:n])]
        with px.client() as c:
            try:
                r = c.get(f"/{n}")
                assert r.status in (502, 503), n
            except EOFError:
                assert n >= FULL.index(b"\r\n\r\n"), n
    up.script = [Reply()]
    assert px.get("/").status == 200


def test_upstream_dies_while_taking_the_body(px, up):
    up.script = [Reset(b"")]
    up.script[0].early = True
    with px.client() as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + "x" * 100000)
        assert c.response().status == 503
        assert c.ended() != "open"


def test_late_answer_after_timeout_goes_to_nobody(mesh):
    hold = threading.Event()
    up = mesh.upstream(script=[Reply(200, b"late").held(hold), Reply(200, b"mine")])
    px = mesh.proxy(routes=[{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0.2s"}}])
    with px.client() as c:
        assert c.get("/1").status == 504
        hold.set()
        r = c.get("/2")
        assert r.body == b"mine"
    assert up.requests[0].connection != up.requests[1].connection
    until(lambda: px.stat("cluster.up.upstream_rq_timeout") == 1)
