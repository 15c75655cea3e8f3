"""Frames that RFC 9113 forbids, and the error it names (rows H2, D05, D07, D09, D10)."""
import contextlib
import struct

import pytest

from evidence import PROTOCOL_ERROR, told
from h2_client import GET, PADDED, POST, H2Client, frame
from h2_upstream import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE
from upstream import Reply, Silent
from wire import until

PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, COMPRESSION = 1, 3, 5, 6, 9
stricter = pytest.mark.stricter
NAMED = pytest.mark.stricter  # Envoy closes mostly without a word


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def increment(n, stream=0):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))


@contextlib.contextmanager
def ended(px, c, code, details=None):
    """The connection ends with that error; the request on it, where there is one, is told why."""
    with told(px, details, "DPE", 0, PROTOCOL_ERROR):
        yield
        c.closed()
    assert c.goaways()[-1][1] == code


def at_work(up, c):
    """A request on stream 1 that is not answered."""
    up.script = [Silent()]
    c.request(1)
    until(lambda: up.requests)


# what the request at work on the connection is told, by error code
TOLD = {code: "codec_error:http2." + name for code, name in (
    (PROTOCOL, "protocol_error"), (FLOW_CONTROL, "flow_control_error"), (FRAME_SIZE, "frame_size_error"), (COMPRESSION, "compression_error"))}
GONE = "codec_error:http2.stream_closed"
D05 = {"index": b"\xff\x80\x08", "table-size": b"\x3f\xff\xff\x7f", "integer": b"\xff" + b"\x80" * 10 + b"\x01", "padding": b"\x00\x82\xff\xff\x01a"}


@pytest.mark.parametrize("data", D05.values(), ids=D05)
def test_d05_hpack_errors(px, up, client, data):
    at_work(up, client)
    with ended(px, client, COMPRESSION, TOLD[COMPRESSION]):
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, data))


D07 = {
    "window-over": (increment(2**31 - 1), FLOW_CONTROL), "increment-0": (increment(0), PROTOCOL),
    "initial-window": (setting(4, 2**31), FLOW_CONTROL), "frame-size": (setting(5, 100), PROTOCOL),
    "push-2": (setting(2, 2), PROTOCOL), "5-bytes": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0"), FRAME_SIZE),
}


@NAMED
@pytest.mark.parametrize("data,code", D07.values(), ids=D07)
def test_d07_flow_control_and_settings(px, up, client, data, code):
    at_work(up, client)
    with ended(px, client, code, TOLD[code]):
        client.send(data)


@stricter
@pytest.mark.parametrize("stream", [0, 2])
def test_d09_stream_ids(px, up, client, stream):
    at_work(up, client)
    with ended(px, client, PROTOCOL, TOLD[PROTOCOL]):
        client.send(client.head(stream))
    assert len(up.requests) == 1


@stricter  # Envoy ignores a lower id
def test_d09_an_id_that_was_passed_over(px, up, client):
    up.script = [Silent()]
    client.request(5)
    until(lambda: up.requests)
    with ended(px, client, PROTOCOL, GONE):
        client.send(client.head(3))
    assert len(up.requests) == 1


@stricter
def test_d09_an_id_that_was_used(px, up, client):
    client.request(1)
    client.answer(1)
    up.script = [Silent()]
    client.request(3)
    until(lambda: len(up.requests) == 2)
    with ended(px, client, STREAM_CLOSED, GONE):
        client.send(client.head(1))


def test_d09_data_on_idle(px, up, client):
    at_work(up, client)
    with ended(px, client, PROTOCOL, TOLD[PROTOCOL]):
        client.send(frame(DATA, 0, 3, b"x"))


@stricter  # Envoy reads over it
@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "apart"])
def test_d09_data_after_the_end(px, up, client, apart):
    up.script = [Silent()]
    with ended(px, client, STREAM_CLOSED, GONE):
        client.send(client.head(1) + (b"" if apart else frame(DATA, 0, 1, b"x")))
        if apart:
            until(lambda: up.requests)
            client.send(frame(DATA, 0, 1, b"x"))


@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "apart"])
@stricter  # Envoy reads over it in silence
def test_d09_data_after_a_reset(px, up, client, apart):
    """An error of that stream (RFC 9113 5.1): Go's client may do so, and its other requests go on."""
    at_work(up, client)
    with told(px, moved={PROTOCOL_ERROR: 0, "http2.rx_reset": 1}):
        client.send(client.head(3, POST, end=False) + frame(3, 0, 3, bytes(4)) + (b"" if apart else frame(DATA, END_STREAM, 3, b"x")))
        if apart:
            client.ping()
            client.send(frame(DATA, END_STREAM, 3, b"x"))
        client.wait(lambda: client.rst(3) == STREAM_CLOSED)
    up.script = [Reply()]
    client.request(5)
    assert client.answer(5)[0] == 200


def block(c):
    return c.encoder.encode(GET)


D10 = {
    "too-large": (lambda c: c.head(3, POST, end=False) + frame(DATA, 0, 3, bytes(20000)), FRAME_SIZE),
    "interleaved": (lambda c: frame(HEADERS, END_STREAM, 3, block(c)[:2]) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "continuation-alone": (lambda c: frame(CONTINUATION, END_HEADERS, 3, block(c)), PROTOCOL),
    "push-promise": (lambda c: frame(PUSH_PROMISE, END_HEADERS, 3, b"\0\0\0\2" + block(c)), PROTOCOL),
    "padding": (lambda c: c.head(3, POST, end=False) + frame(DATA, PADDED, 3, b"\xffx"), PROTOCOL),
    "self-dependency": (lambda c: frame(HEADERS, END_STREAM | END_HEADERS | 32, 3, b"\0\0\0\3\x10" + block(c)), PROTOCOL),
}


@NAMED
@pytest.mark.parametrize("make,code", D10.values(), ids=D10)
def test_d10_frames(px, up, client, make, code):
    at_work(up, client)
    with ended(px, client, code, TOLD[code]):
        client.send(make(client))
    assert len(up.requests) == 1


def test_d10_unknown_types_are_ignored(px, up, client):
    with told(px, "via_upstream", "-", 200, {PROTOCOL_ERROR: 0}):
        client.send(frame(99, 255, 1, b"x") + frame(99, 0, 0))
        client.request(1)
        assert client.answer(1)[0] == 200
