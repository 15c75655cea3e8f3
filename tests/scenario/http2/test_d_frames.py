"""Frames that RFC 9113 forbids, and the error it names (rows H2, D07, D09, D10)."""
import struct

import pytest

from h2_client import GET, PADDED, POST, H2Client, frame
from h2_upstream import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE

PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE = 1, 3, 5, 6
stricter = pytest.mark.stricter
NAMED = pytest.mark.stricter  # Envoy closes mostly without a word


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def increment(n, stream=0):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))


def end_of(px, c, code):
    errors = px.stat("http.in.downstream_cx_protocol_error")
    c.closed()
    assert c.goaways()[-1][1] == code
    assert px.wait_stat("http.in.downstream_cx_protocol_error", max(errors, 1))


D07 = {
    "window-over": (increment(2**31 - 1), FLOW_CONTROL), "increment-0": (increment(0), PROTOCOL),
    "initial-window": (setting(4, 2**31), FLOW_CONTROL), "frame-size": (setting(5, 100), PROTOCOL),
    "push-2": (setting(2, 2), PROTOCOL), "5-bytes": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0"), FRAME_SIZE),
}


@NAMED
@pytest.mark.parametrize("data,code", D07.values(), ids=D07)
def test_d07_flow_control_and_settings(px, client, data, code):
    client.send(data)
    end_of(px, client, code)


@stricter
@pytest.mark.parametrize("stream,code", [(0, PROTOCOL), (2, PROTOCOL)])
def test_d09_stream_ids(px, client, stream, code):
    client.send(client.head(stream))
    end_of(px, client, code)


@stricter  # Envoy ignores a lower id
def test_d09_an_id_that_was_passed_over(px, up, client):
    client.request(5)
    client.answer(5)
    client.send(client.head(3))
    end_of(px, client, PROTOCOL)
    assert len(up.requests) == 1


@stricter
def test_d09_an_id_that_was_used(px, up, client):
    client.request(1)
    client.answer(1)
    client.send(client.head(1))
    end_of(px, client, STREAM_CLOSED)


def test_d09_data_on_idle(px, client):
    client.send(frame(DATA, 0, 1, b"x"))
    end_of(px, client, PROTOCOL)


@stricter  # Envoy reads over it
@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "apart"])
def test_d09_data_after_the_end(px, up, client, apart):
    client.send(client.head(1) + (b"" if apart else frame(DATA, 0, 1, b"x")))
    if apart:
        client.answer(1)
        client.send(frame(DATA, 0, 1, b"x"))
    end_of(px, client, STREAM_CLOSED)


@stricter
def test_d09_data_after_a_reset(px, up, client):
    client.send(client.head(1, POST, end=False) + frame(3, 0, 1, bytes(4)) + frame(DATA, END_STREAM, 1, b"x"))
    end_of(px, client, STREAM_CLOSED)


def block(c):
    return c.encoder.encode(GET)


D10 = {
    "too-large": (lambda c: frame(DATA, 0, 1, bytes(20000)), FRAME_SIZE),
    "interleaved": (lambda c: frame(HEADERS, END_STREAM, 1, block(c)[:2]) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "continuation-alone": (lambda c: frame(CONTINUATION, END_HEADERS, 1, block(c)), PROTOCOL),
    "push-promise": (lambda c: frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(c)), PROTOCOL),
    "padding": (lambda c: c.head(1, POST, end=False) + frame(DATA, PADDED, 1, b"\xffx"), PROTOCOL),
    "self-dependency": (lambda c: frame(HEADERS, END_STREAM | END_HEADERS | 32, 1, b"\0\0\0\1\x10" + block(c)), PROTOCOL),
}


@NAMED
@pytest.mark.parametrize("make,code", D10.values(), ids=D10)
def test_d10_frames(px, up, client, make, code):
    client.send(make(client))
    end_of(px, client, code)
    assert up.requests == []


def test_d10_unknown_types_are_ignored(px, up, client):
    client.send(frame(99, 255, 1, b"x") + frame(99, 0, 0))
    client.request(1)
    assert client.answer(1)[0] == 200
