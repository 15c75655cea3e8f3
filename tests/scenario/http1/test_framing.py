"""Request framing: what two readers could take for two different requests is refused (rows H1, A01-A24)."""
import pytest

from evidence import PROTOCOL_ERROR, VIA_UPSTREAM, told
from http1 import exchange as send
from upstream import Raw, Reply
from wire import until

POST = "POST / HTTP/1.1\r\nHost: a\r\n"
GET = "GET / HTTP/1.1\r\nHost: a\r\n"
TE = "Transfer-Encoding: chunked\r\n"
SECOND = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
OK = "0\r\n\r\n"


def exchange(px, up, data, answers, timeout=3):
    got, end = send(px, up, data, answers, timeout)
    return [m.status for m in got], end


CODEC, BYTES, VERSION = "http1.codec_error", "http1.invalid_characters", "low_version"
BOTH, OTHER = "http1.content_length_and_chunked_not_allowed", "http1.invalid_transfer_encoding"
# id, what is sent, the status, why; nothing may reach the upstream and the connection ends
REFUSED = [
    ("A01-cl-te", POST + "Content-Length: 4\r\n" + TE + "\r\n" + OK + SECOND, 400, BOTH),
    ("A02-te-cl", POST + TE + "Content-Length: 4\r\n\r\n" + OK + SECOND, 400, BOTH),
    ("A03-identity", POST + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab", 400, BOTH),
    ("A04-gzip-chunked", POST + "Transfer-Encoding: gzip, chunked\r\n\r\n" + OK, 501, OTHER),
    ("A04-chunked-twice", POST + "Transfer-Encoding: chunked, chunked\r\n\r\n" + OK, 501, OTHER),
    ("A04-parameter", POST + "Transfer-Encoding: chunked;x=1\r\n\r\n" + OK, 501, OTHER),
    ("A04-xchunked", POST + "Transfer-Encoding: xchunked\r\n\r\n" + OK, 501, OTHER),
    ("A04-two-fields", POST + TE + TE + "\r\n" + OK, 501, OTHER),
    ("A04-empty", POST + "Transfer-Encoding:\r\n\r\n" + OK, 501, OTHER),
    ("A04-leading-comma", POST + "Transfer-Encoding: ,chunked\r\n\r\n" + OK, 501, OTHER),
    ("A05-vertical-tab", POST + "Transfer-Encoding:\x0bchunked\r\n\r\n" + OK, 400, BYTES),
    ("A05-space-before-colon", POST + "Transfer-Encoding : chunked\r\n\r\n" + OK, 400, CODEC),
    ("A07-http10", "POST / HTTP/1.0\r\nHost: a\r\n" + TE + "\r\n" + OK, 426, VERSION),
    ("A09-cl-equal", POST + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", 400, CODEC),
    ("A09-cl-differ", POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 400, CODEC),
    ("A09-cl-list", POST + "Content-Length: 2, 2\r\n\r\nab", 400, CODEC),
    ("A10-plus", POST + "Content-Length: +2\r\n\r\nab", 400, CODEC),
    ("A10-minus", POST + "Content-Length: -1\r\n\r\nab", 400, CODEC),
    ("A10-hex", POST + "Content-Length: 0x2\r\n\r\nab", 400, CODEC),
    ("A10-overflow", POST + "Content-Length: 18446744073709551618\r\n\r\nab", 400, CODEC),
    ("A10-empty", POST + "Content-Length:\r\n\r\nab", 400, CODEC),
    ("A10-underscore", POST + "Content-Length: 2_0\r\n\r\nab", 400, CODEC),
    ("A10-two-numbers", POST + "Content-Length: 2 3\r\n\r\nab", 400, CODEC),
    ("A10-nul", POST + "Content-Length: 2\0\r\n\r\nab", 400, BYTES),
    ("A11-empty-then-real", POST + "Content-Length:\r\nContent-Length: 2\r\n\r\nab", 400, CODEC),
]


@pytest.mark.parametrize("data,status,details", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_before_upstream(px, up, data, status, details):
    with told(px, details, "DPE", status, PROTOCOL_ERROR):
        statuses, end = exchange(px, up, data, 2)
    assert statuses == [status] and end in ("eof", "reset")
    assert up.requests == []


# The head is fine and may have gone upstream; the body is not, so the upstream must never see a complete request.
BAD_CHUNKS = [
    ("A12-17-digits", "11111111111111111\r\nab\r\n"),
    ("A13-0x", "0x2\r\nab\r\n" + OK), ("A13-minus", "-2\r\nab\r\n" + OK), ("A13-plus", "+2\r\nab\r\n" + OK),
    ("A13-underscore", "2_\r\nab\r\n" + OK), ("A13-empty", "\r\nab\r\n" + OK), ("A13-leading-space", " 2\r\nab\r\n" + OK),
    ("A14-lf-size", "2\nab\r\n" + OK), ("A14-cr-size", "2\rXab\r\n" + OK), ("A14-lf-extension", "2;a\nb\r\n" + OK),
    ("A14-cr-extension", "2;a\rb\r\n" + OK), ("A14-lf-end", "2\r\nab\r\n0\n\n"),
    ("A15-no-crlf", "2\r\nabX0\r\n\r\n"),
]


@pytest.mark.parametrize("chunks", [r[1] for r in BAD_CHUNKS], ids=[r[0] for r in BAD_CHUNKS])
def test_bad_chunk_never_completes_upstream(px, up, chunks):
    with told(px, CODEC, "DPE", 400, PROTOCOL_ERROR):
        statuses, end = exchange(px, up, POST + TE + "\r\n" + chunks + SECOND, 2)
    assert statuses == [400] and end in ("eof", "reset")
    assert all(r.framing == "cut" for r in up.requests) and len(up.requests) <= 1


@pytest.mark.stricter
@pytest.mark.parametrize("size", ["FFFFFFFFFFFFFFFF", "8000000000000000"], ids=["A12-max64", "A12-sign-bit"])
def test_chunk_size_has_a_cap(px, up, size):
    with told(px, CODEC, "DPE", 400, PROTOCOL_ERROR):
        statuses, _ = exchange(px, up, POST + TE + f"\r\n{size}\r\nab", 1)
    assert statuses == [400]
    until(lambda: all(r.framing == "cut" for r in up.requests), what="the upstream stream to be aborted")


@pytest.mark.stricter
@pytest.mark.parametrize("extension", ["a\0b", "a\x01b", "a\x7fb"], ids=["A16-nul", "A16-ctl", "A16-del"])
def test_control_byte_in_chunk_extension(px, up, extension):
    with told(px, CODEC, "DPE", 400, PROTOCOL_ERROR):
        statuses, end = exchange(px, up, POST + TE + f"\r\n2;{extension}\r\nab\r\n" + OK, 1)
    assert statuses == [400] and end in ("eof", "reset")


def test_a16_chunk_extensions_are_not_forwarded(px, up):
    chunks = ("1;" + "e" * 40 + "\r\nx\r\n") * 200 + "1;name=\"" + "v" * 4096 + "\"\r\nx\r\n"
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0}):
        statuses, _ = exchange(px, up, POST + TE + "\r\n" + chunks + OK, 1)
    assert statuses == [200] and up.requests[0].body == b"x" * 201  # the strict reader refuses extensions


@pytest.mark.stricter
@pytest.mark.parametrize("chunks", [("1;" + "e" * 4096 + "\r\nx\r\n") * 200, "1;" + "e" * 65536 + "\r\nx\r\n"],
                         ids=["A16-small-chunks", "A16-64-kb"])
def test_chunk_extensions_are_bounded(px, up, chunks):
    before = px.memory_kib()
    with told(px, CODEC, "DPE", 400, PROTOCOL_ERROR):
        statuses, end = exchange(px, up, POST + TE + "\r\n" + chunks + OK, 1)
    assert statuses == [400] and end in ("eof", "reset")
    assert all(r.framing == "cut" for r in up.requests)
    assert px.grown_kib(before) < 1024


# id, what is sent, answers, what the upstream saw as (method, target, body)
ACCEPTED = [
    ("A04-case", POST + "Transfer-Encoding: ChUnKeD\r\n\r\n2\r\nab\r\n" + OK, [200], [("POST", "/", b"ab")]),
    ("A06-folded", POST + "Transfer-Encoding:\r\n chunked\r\n\r\n2\r\nab\r\n" + OK, [200], [("POST", "/", b"ab")]),
    ("A08-nominated", POST + "Connection: Transfer-Encoding\r\n" + TE + "\r\n2\r\nab\r\n" + OK, [200], [("POST", "/", b"ab")]),
    ("A18-next-request", POST + TE + "\r\n" + OK + SECOND, [200, 200], [("POST", "/", b""), ("GET", "/second", b"")]),
    ("A18-garbage", POST + TE + "\r\n" + OK + "\x01\x02garbage\r\n\r\n", [200, 400], [("POST", "/", b"")]),
    ("A19-get-body", GET + "Content-Length: 2\r\n\r\nab", [200], [("GET", "/", b"ab")]),
    ("A19-delete-body", "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", [200], [("DELETE", "/", b"ab")]),
    ("A19-get-chunked", GET + TE + "\r\n2\r\nab\r\n" + OK, [200], [("GET", "/", b"ab")]),
    ("A20-pipelined", (GET + "\r\n") * 3 + "BAD\r\n\r\n", [200, 200, 200, 400], [("GET", "/", b"")] * 3),
    ("A22-100-continue", POST + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab", [200], [("POST", "/", b"ab")]),
    ("A22-unknown", POST + "Expect: 200-ok\r\nContent-Length: 2\r\n\r\nab", [200], [("POST", "/", b"ab")]),
    ("A24-h2c", GET + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
     [200], [("GET", "/", b"")]),
]


@pytest.mark.parametrize("data,statuses,seen", [r[1:] for r in ACCEPTED], ids=[r[0] for r in ACCEPTED])
def test_one_meaning(px, up, data, statuses, seen):
    bad = statuses[-1] >= 400
    with told(px, CODEC if bad else VIA_UPSTREAM, "DPE" if bad else "-", statuses[-1], {PROTOCOL_ERROR: int(bad), "cluster.up.upstream_rq_200": len(seen)}):
        got, end = exchange(px, up, data, len(statuses))
    assert got == statuses and (end != "open") == (statuses[-1] >= 400)
    assert [(r.method, r.target, r.body) for r in up.requests] == seen
    for r in up.requests:
        assert not {"upgrade", "http2-settings"} & {n for n, _ in r.headers}


def test_a17_trailers_that_frame_are_dropped(px, up):
    trailers = "Content-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nAuthorization: x\r\nX-Plain: 1\r\n"
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 2}):
        assert exchange(px, up, POST + TE + "\r\n2\r\nab\r\n0\r\n" + trailers + "\r\n" + SECOND, 2)[0] == [200, 200]
    first = up.requests[0]
    assert first.trailers == [] and first.get("host") == "a" and first.get("authorization") is None and first.get("x-plain") is None


@pytest.mark.stricter
def test_a01_length_beside_chunked_where_it_is_allowed(mesh):
    """The length is dropped, and the connection ends with this request: what follows would be another one's guess."""
    up = mesh.upstream()
    px = mesh.proxy(hcm={"http_protocol_options": {"allow_chunked_length": True}})
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 1}), px.client() as c:
        got, end = c.send(POST + "Content-Length: 4\r\n" + TE + "\r\n2\r\nab\r\n" + OK + SECOND).responses()
    assert [m.status for m in got] == [200] and end == "eof" and got[0].get("connection") == "close"
    assert [(r.target, r.framing, r.body) for r in up.requests] == [("/", "chunked", b"ab")] and up.errors == []


@pytest.mark.stricter
def test_a07_coding_in_http10_where_that_is_accepted(mesh):
    up = mesh.upstream()
    px = mesh.proxy(hcm={"http_protocol_options": {"accept_http_10": True}})
    with told(px, "http1.transfer_encoding_not_allowed", "DPE", 400, PROTOCOL_ERROR):
        statuses, end = exchange(px, up, "POST / HTTP/1.0\r\nHost: a\r\n" + TE + "\r\n" + OK, 2)
    assert statuses == [400] and end in ("eof", "reset") and up.requests == []


@pytest.mark.stricter
def test_a17_trailers_that_frame_where_trailers_are_enabled(mesh):
    """Others pass; these never do, in neither direction."""
    bad = "Content-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nX-Plain: 1\r\n"
    answer = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + bad + "\r\n"
    up = mesh.upstream(script=[Raw(answer.encode(), close=False)])
    on = {"http_protocol_options": {"enable_trailers": True}}
    px = mesh.proxy(hcm=on, cluster={"http": {"explicit_http_config": on}})
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_cx_protocol_error": 0, "cluster.up.upstream_rq_200": 1}), px.client() as c:
        r = c.send(POST + TE + "\r\n2\r\nab\r\n0\r\n" + bad + "\r\n").response()
    assert r.body == b"ok" and dict(r.trailers) == {"x-plain": "1"}
    assert dict(up.requests[0].trailers) == {"x-plain": "1"} and up.requests[0].get("host") == "a" and up.errors == []


def test_a19_head_with_a_body(px, up):
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 2}), px.client() as c:
        c.send("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" + SECOND)
        assert c.response("HEAD").status == 200 and c.response().status == 200
    assert [(r.method, r.target, r.body) for r in up.requests] == [("HEAD", "/", b"ab"), ("GET", "/second", b"")] and up.errors == []


def test_a20_hundred_pipelined_then_malformed(px, up):
    data = "".join(f"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(100)) + "GET / HTTP/1.1\r\nHost : a\r\n\r\n"
    with told(px, CODEC, "DPE", 400, {PROTOCOL_ERROR: 1, "cluster.up.upstream_rq_200": 100}):
        statuses, end = exchange(px, up, data, 101, timeout=10)
    assert statuses == [200] * 100 + [400] and end != "open"
    assert [r.target for r in up.requests] == [f"/{i}" for i in range(100)]


# the last answer of a connection: it must arrive although more bytes came with its request, and none of those may begin a request
LAST = [
    ("no-host", "GET / HTTP/1.1\r\n\r\nab", 400), ("no-host-then-request", "GET / HTTP/1.1\r\n\r\n" + SECOND, 400),
    ("no-host-then-body", "POST / HTTP/1.1\r\n" + TE + "\r\n2\r\nab\r\n0\r\n folded\r\n\r\n", 400),
    ("close-then-request", GET + "Connection: close\r\n\r\n" + SECOND, 200), ("close-then-garbage", GET + "Connection: close\r\n\r\n\0\0", 200),
]


@pytest.mark.parametrize("data,status", [r[1:] for r in LAST], ids=[r[0] for r in LAST])
def test_nothing_begins_behind_the_last_answer(px, up, data, status):  # A18, A20
    since = len(px.access_log(0))
    with px.client() as c:
        got, end = c.send(data).responses()
    assert [m.status for m in got] == [status] and end == "eof" and got[0].get("connection") == "close"
    assert "/second" not in [r.target for r in up.requests] and up.errors == []
    assert px.get("/alive").status == 200
    px.wait_log(lambda e: e["path"] == "/alive", since=since)
    assert len(px.access_log(0)) == since + 2


def test_a21_upgrade_not_configured_hides_no_request(px, up):
    body = SECOND
    head = POST + f"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {len(body)}\r\n\r\n"
    with told(px, "upgrade_failed", "-", 403, "http.in.downstream_rq_ws_on_non_ws_route"):
        statuses, end = exchange(px, up, head + body, 2)
    assert statuses == [403] and end != "open" and up.requests == []


def test_a21_upgrade_sends_nothing_before_101(mesh):
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nno", close=False)])
    px = mesh.proxy(hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    with told(px, "websocket_handshake_unsuccessful", "-", 200, ["http.in.downstream_rq_response_before_rq_complete", "http.in.downstream_cx_upgrades_total"]), px.client() as c:
        c.send(GET + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + SECOND)
        assert c.response().status == 200
        c.ended()
    assert [r.target for r in up.requests] == ["/"] and up.errors == []


def test_a22_expect_is_answered_once(px, up):
    with told(px, VIA_UPSTREAM, "-", 200, "http.in.downstream_rq_1xx"), px.client() as c:
        c.send(POST + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert c.stream.until(b"\r\n\r\n", 3).startswith(b"HTTP/1.1 100")
        r = c.send("ab").response()
    assert r.status == 200 and r.informational == [] and up.requests[0].body == b"ab"


def test_a23_early_answer_ends_the_upstream_connection(px, up):  # H10
    up.script = [Reply(200, b"early", early=True), Reply(200, b"next")]
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_cx_destroy_local": None, "http.in.downstream_rq_response_before_rq_complete": 1}), px.client() as c:
        c.send(POST + "Content-Length: 100000\r\n\r\nab")
        assert c.response().body == b"early"
        c.ended(1)
    assert px.get("/after").body == b"next"
    first, second = up.requests
    assert first.connection != second.connection and second.target == "/after"


def test_upstream_gone_between_requests(px, up):  # D4 without retry: a fresh connection is used once the close was seen
    up.script = [Reply(200, b"one", close=True), Reply(200, b"two")]
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_cx_destroy_remote": None}):
        assert px.get("/").body == b"one"
    assert px.get("/").body == b"two"
