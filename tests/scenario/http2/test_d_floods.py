"""What a client may not make the proxy do for nothing (rows H2, E; D01-D04, D06, D11, D21)."""
import struct

import pytest

from evidence import PROTOCOL_ERROR, told
from h2_client import GET, PADDED, POST, H2Client, frame
from h2_upstream import CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, INTERNAL_ERROR, PING, PRIORITY
from h2_upstream import REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE
from upstream import Silent
from wire import until

RST = struct.pack(">I", CANCEL)
stricter = pytest.mark.stricter


def pour(c, parts):
    """Sends until the other end closes; how many went out."""
    sent = 0
    for p in parts:
        if not c.send(p):
            break
        sent += 1
    c.closed()
    return sent


def gets(up):
    """What came of GETs: POSTs of an earlier test may still be on their way."""
    return [r for r in up.requests if r.method == "GET"]


def test_d01_rapid_reset(mesh):
    up = mesh.upstream(script=[Silent()])
    px = mesh.proxy()
    with told(px, "http2.remote_reset", "DR", 0, "http.in.downstream_rq_too_many_premature_resets"), H2Client(px.port) as c:
        pour(c, (c.head(2 * i + 1) + frame(RST_STREAM, 0, 2 * i + 1, RST) for i in range(2000)))
    assert px.stat("http.in.downstream_rq_total") <= 300 and len(up.requests) <= 300
    until(lambda: px.stat("http.in.downstream_rq_active") == 0, 5)


def test_d01_20000_streams_opened_and_reset(mesh):
    """Over as many connections as the proxy makes of them; nothing of them stays."""
    up = mesh.upstream(script=[Silent()])
    px = mesh.proxy()
    before, sent, connections = px.memory_kib(), 0, 0
    while sent < 20000:
        with H2Client(px.port) as c:
            sent += pour(c, (c.head(2 * i + 1) + frame(RST_STREAM, 0, 2 * i + 1, RST) for i in range(2000)))
        connections += 1
        assert connections < 200
    until(lambda: px.stat("http.in.downstream_rq_active") == 0 and px.stat("http.in.downstream_cx_active") == 0, 10, "streams and connections to end")
    grown = px.grown_kib(before)
    print("KiB", grown, "connections", connections)
    assert grown < 4096
    assert px.stat("http.in.downstream_rq_too_many_premature_resets") == connections and len(up.requests) < 20000
    assert {(e["code"], e["flags"], e["details"]) for e in px.access_log(px.stat("http.in.downstream_rq_total"))} <= \
        {(0, "DR", "http2.remote_reset"), (0, "DC", "downstream_remote_disconnect"), (0, "DPE", "too_many_premature_resets")}


@stricter  # Envoy counts none of these: its answers were not given yet
def test_d01_rapid_reset_of_what_the_proxy_answers_itself(mesh):
    px = mesh.proxy(routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    last = 401  # a reset of what was answered counts as well, and 400 are the measure of one connection
    with told(px, "direct_response", "-", 200, {"http.in.downstream_rq_too_many_premature_resets": 1, "http.in.downstream_rq_total": last,
                                                "http2.rx_reset": last, PROTOCOL_ERROR: 0}), H2Client(px.port) as c:
        pour(c, (c.head(2 * i + 1) + frame(RST_STREAM, 0, 2 * i + 1, RST) for i in range(3000)))
        assert c.goaways() == [(2 * last - 1, ENHANCE_YOUR_CALM)] or c.end == "reset"  # which may overtake it
    until(lambda: len(px.access_log()) == last, what="a line of each")


@stricter  # Envoy's details do not say which error it was
@pytest.mark.parametrize("increment,details,counter", [
    (0, "codec_error:http2.protocol_error", PROTOCOL_ERROR),
    (2**31 - 1, "http2.flow_control_error", "http.in.downstream_rq_too_many_premature_resets")], ids=["zero", "overflow"])
def test_d02_made_you_reset(px, up, increment, details, counter):
    """Resets that a client provokes count as its own."""
    up.script = [Silent()]
    total = px.stat("http.in.downstream_rq_total")
    with told(px, details, "DPE", 0, counter), H2Client(px.port) as c:
        for stream in range(1, 4001, 2):
            c.send(c.head(stream, POST, end=False) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment)))
            c.wait(lambda s=stream: c.end or c.rst(s) is not None)
            if c.end:
                break
        c.closed()
    assert px.stat("http.in.downstream_rq_total") - total <= 1000


def test_d03_continuation_flood(px, up):
    before = px.memory_kib()
    with told(px, "http2.too_many_headers", "DR", 0, "http2.header_overflow"), H2Client(px.port) as c:
        c.send(frame(HEADERS, END_STREAM, 1, c.encoder.encode(GET)))
        sent = pour(c, (frame(CONTINUATION, 0, 1, c.encoder.encode([(f"x-{i}", "a" * 100)])) for i in range(40000)))
    assert sent < 40000 and gets(up) == []
    assert px.grown_kib(before) < 2048


def test_d03_empty_continuations(px, up):
    with told(px, "http2.inbound_empty_frames_flood", "DPE", 0, "http2.inbound_empty_frames_flood"), H2Client(px.port) as c:
        c.send(frame(HEADERS, END_STREAM, 1, c.encoder.encode(GET)))
        pour(c, (frame(CONTINUATION, 0, 1) for i in range(4000)))
    assert gets(up) == []


@pytest.mark.parametrize("name", ["x-big", "cookie"])
def test_d04_hpack_bomb(px, up, name):
    """One entry of 4 KB referenced 12,000 times is 48 MB: nobody unpacks it."""
    before = px.memory_kib()
    with told(px, "http2.header_list_size_too_large", "DR", 0, "http2.header_list_size_too_large"), H2Client(px.port) as c:
        block = c.encoder.encode([*GET, (name, "b" * 4000)]) + b"\xbe" * 12000
        c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        c.wait(lambda: c.rst(1) is not None)
        assert c.rst(1) == INTERNAL_ERROR and gets(up) == []
        c.request(3)
        assert c.answer(3)[0] == 200
    assert px.grown_kib(before) < 4096


EMPTY, PRIORITIES, WINDOWS = (f"http2.inbound_{x}_frames_flood" for x in ("empty", "priority", "window_update"))
CONTROL = "http2.outbound_control_flood"
# one frame, the counter, the flag and detail of the request on the connection
FLOODS = {
    "empty-data": (frame(DATA, 0, 1), EMPTY, "DPE", EMPTY),
    "padded-data": (frame(DATA, PADDED, 1, b"\xff" + bytes(255)), EMPTY, "DPE", EMPTY),
    "ping": (frame(PING, 0, 0, b"x" * 8), CONTROL, "OM", "overload_error:http2.outbound_control_frames_flood"),
    "settings": (frame(SETTINGS), CONTROL, "OM", "overload_error:http2.outbound_control_frames_flood"),
    "priority": (frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"), PRIORITIES, "DPE", "codec_error:Too_many_PRIORITY_frames"),
    "window-update": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), WINDOWS, "DPE", "codec_error:Too_many_WINDOW_UPDATE_frames"),
}


@pytest.mark.parametrize("one,counter,flags,details", FLOODS.values(), ids=FLOODS)
def test_d06_floods(px, up, one, counter, flags, details, is_envoy):
    """20,000 frames by a client that reads nothing."""
    up.script = [Silent()]
    before, active = px.memory_kib(), px.stat("http.in.downstream_cx_http2_active")
    evidence = told(px) if is_envoy else told(px, details, flags, 0, {counter: 1, PROTOCOL_ERROR: 0})
    with evidence, H2Client(px.port, acknowledge=False) as c:
        c.send(c.head(1, POST, end=False))
        for _ in range(200):
            if not c.send(one * 100):
                break
        until(lambda: px.stat("http.in.downstream_cx_http2_active") <= active, 5)
        c.closed()
    assert px.grown_kib(before) < 2048


@pytest.mark.parametrize("acknowledge", [False, pytest.param(True, marks=stricter)])  # Envoy ends the connection once it is acknowledged
def test_d11_streams_over_the_limit(mesh, acknowledge):
    up = mesh.upstream(script=[Silent()])
    px = mesh.proxy(hcm={"http2_protocol_options": {"max_concurrent_streams": 10}})
    with told(px, "downstream_remote_disconnect", "DC", 0, {"http.in.downstream_rq_total": 10, "http2.tx_reset": 40}), \
            H2Client(px.port, acknowledge=acknowledge) as c:
        c.wait(lambda: c.settings.get(3) == 10)
        for i in range(50):
            c.request(2 * i + 1)
        c.wait(lambda: sum(c.rst(2 * i + 1) == REFUSED_STREAM for i in range(50)) == 40)
        until(lambda: len(up.requests) == 10, 5)
        c.ping()
        assert [c.rst(2 * i + 1) for i in range(10)] == [None] * 10 and not c.goaways()


def test_d21_half_open_clients(px):
    """1,000 connections that send the preface and no more."""
    before, active = px.memory_kib(), px.stat("http.in.downstream_cx_http2_active")
    with told(px, moved={"http.in.downstream_cx_http2_total": 1000, "http.in.downstream_cx_destroy_remote": 1000, PROTOCOL_ERROR: 0}, timeout=20):
        clients = [H2Client(px.port) for _ in range(1000)]
        until(lambda: px.stat("http.in.downstream_cx_http2_active") >= active + 1000, 20)
        assert px.grown_kib(before) < 1000 * 20
        for c in clients:
            c.sock.close()
    until(lambda: px.stat("http.in.downstream_cx_http2_active") <= active, 10)


@stricter  # Envoy takes no notice
def test_d21_goaway_then_more(px, up, client):
    """A client that says goodbye is served what it began and then closed."""
    with told(px, "via_upstream", "-", 200, {"http.in.downstream_cx_destroy_local": 1, PROTOCOL_ERROR: 0}):
        client.request(1)
        assert client.answer(1)[0] == 200
        client.send(frame(7, 0, 0, bytes(8)))
        client.request(3)
        client.closed()
    assert len(up.requests) == 1 and client.end == "eof"
