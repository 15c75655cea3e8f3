"""The connection's life over HTTP/2 (rows H2, H4, H5, P5): detection, options, drain, keepalive, upgrades."""
import json

import pytest

import config
from h2_client import GET, POST, H2Client, frame
from h2_upstream import ACK, DATA, END_STREAM, PING, PREFACE, SETTINGS
from upstream import Raw, Reply, Silent
from wire import until


def test_auto_detects_by_the_first_bytes(px, up):
    with H2Client(px.port, preface=False) as c:
        for part in (PREFACE[:1], PREFACE[1:11], PREFACE[11:]):  # what could be either waits
            c.send(part)
        c.send(frame(SETTINGS))
        c.request(1)
        assert c.answer(1)[0] == 200
    assert px.get("/").status == 200
    with px.client() as c:
        c.send(b"P")
        c.send(b"OST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        assert c.response().status == 200


def test_only_what_codec_type_says(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"codec_type": "HTTP2"})
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert c.ended() in ("eof", "reset") and c.stream.buf == b""
    with H2Client(px.port) as c:
        c.request(1)
        assert c.answer(1)[0] == 200
    assert px.stat("http.in.downstream_cx_http2_total") == 2 and px.stat("http.in.downstream_cx_protocol_error") == 1


def test_options_go_on_the_wire(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"http2_protocol_options": {"hpack_table_size": 100, "max_concurrent_streams": 7, "initial_stream_window_size": 70000, "initial_connection_window_size": 80000,
                                                    "allow_connect": True, "custom_settings_parameters": [{"identifier": 0x99, "value": 5}]}})
    with H2Client(px.port) as c:
        c.wait(lambda: c.settings and (8, 0, 0, (80000 - 65535).to_bytes(4, "big")) in c.frames)
        assert c.settings == {1: 100, 8: 1, 3: 7, 4: 70000, 0x99: 5}


def test_crumbs_and_te(px, up, client):
    client.request(1, [*GET, ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")])
    assert client.answer(1)[0] == 200
    assert up.requests[0].get("cookie") == "a=1; b=2" and up.requests[0].get("te") == "trailers"


def test_underscores(mesh):
    up = mesh.upstream()
    for action, status in (("REJECT_REQUEST", None), ("DROP_HEADER", 200)):
        px = mesh.proxy(hcm={"common_http_protocol_options": {"headers_with_underscores_action": action}}, name=action)
        with H2Client(px.port) as c:
            c.request(1, [*GET, ("x_y", "1")])
            if status:
                assert c.answer(1)[0] == status and up.requests[-1].get("x_y") is None
                assert px.stat("http2.dropped_headers_with_underscores") == 1
            else:
                c.wait(lambda: c.rst(1) is not None)
                assert px.stat("http2.requests_rejected_with_underscores_in_headers") == 1
                assert px.wait_log(lambda e: e["code"] == 0)["details"] == "http2.unexpected_underscore"


def test_drain_in_two_steps(mesh):
    up = mesh.upstream(script=[Silent(), Reply()])
    px = mesh.proxy(hcm={"drain_timeout": "0.3s", "common_http_protocol_options": {"max_connection_duration": "0.2s"}})
    with H2Client(px.port) as c:
        c.request(1)
        c.wait(lambda: c.goaways())
        assert c.goaways()[0] == (2**31 - 1, 0)
        c.request(3)  # it may still begin one
        assert c.answer(3)[0] == 200
        c.wait(lambda: len(c.goaways()) == 2)
        assert c.goaways()[1] == (3, 0) and not c.end  # the first is still at work
        c.send(frame(3, 0, 1, bytes(4)))
        c.closed()
    assert px.stat("http.in.downstream_cx_max_duration_reached") == 1 and px.stat("http2.goaway_sent") == 1
    assert len(up.requests) == 2


def test_max_requests_per_connection(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"drain_timeout": "0.1s", "common_http_protocol_options": {"max_requests_per_connection": 2}})
    with H2Client(px.port) as c:
        c.request(1)
        c.request(3)
        assert c.answer(1)[0] == c.answer(3)[0] == 200
        c.closed()
        assert [last for last, _ in c.goaways()] == [2**31 - 1, 3]
    assert px.stat("http.in.downstream_cx_max_requests_reached") == 1


def test_keepalive(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"http2_protocol_options": {"connection_keepalive": {"interval": "0.1s", "timeout": "0.2s"}}})
    with H2Client(px.port) as c:
        for n in range(3):  # it lives as long as it answers
            c.wait(lambda: sum(k == PING for k, *_ in c.frames) > n)
            c.send(frame(PING, ACK, 0, [p for k, _, _, p in c.frames if k == PING][n]))
        c.closed()
    assert px.stat("http2.keepalive_timeout") == 1


def test_extended_connect_is_an_upgrade(mesh):
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\npong", close=False, early=True)])
    px = mesh.proxy(hcm={"http2_protocol_options": {"allow_connect": True}, "upgrade_configs": [{"upgrade_type": "websocket"}]})
    with H2Client(px.port) as c:
        c.request(1, [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]], b"ping", end=False)
        c.wait(lambda: c.bodies.get(1) == b"pong")
        assert c.status(1) == 200 and "upgrade" not in dict(c.headers[1][0])
    request = until(lambda: up.requests, 5)[0]
    assert request.method == "GET" and request.get("upgrade") == "websocket" and request.get("connection") == "upgrade"
    assert px.wait_log(lambda e: e["method"] == "GET")["code"] == 101


def test_trailers_both_ways(mesh):
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n", close=False)])
    px = mesh.proxy(cluster={"http": {"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}})
    with H2Client(px.port) as c:
        c.send(c.head(1, [*POST, ("te", "trailers")], end=False) + frame(DATA, 0, 1, b"abc") + c.head(1, [("x-req", "1")]))
        assert c.answer(1)[2] == b"ok" and c.headers[1][-1] == [("x-sum", "7")]
    assert up.requests[0].body == b"abc" and dict(up.requests[0].trailers)["x-req"] == "1"


@pytest.mark.stricter  # Envoy refuses the rest at once
def test_early_answer(px, up):
    """The answer comes before the request has ended: all of it, and a short rest is read."""
    up.script = [Reply(413, b"too large", early=True)]
    with H2Client(px.port) as c:
        c.request(1, POST, b"x" * 100, end=False)
        assert c.answer(1)[2] == b"too large"
        c.send(frame(DATA, END_STREAM, 1, b"x"))
        c.ping()
        assert c.rst(1) is None
        c.request(3, POST, b"x" * 100, end=False)
        c.answer(3)
        c.wait(lambda: c.rst(3) == 0)


@pytest.mark.stricter  # the texts are ours
@pytest.mark.parametrize("options,error", [
    ({"max_concurrent_streams": 0}, "http2_protocol_options.max_concurrent_streams"),
    ({"initial_stream_window_size": 100}, "http2_protocol_options.initial_stream_window_size"),
    ({"custom_settings_parameters": [{"identifier": 3, "value": 5}], "max_concurrent_streams": 5}, "custom_settings_parameters[0]")])
def test_bad_options(mesh, options, error):
    px = mesh.proxy(hcm={"http2_protocol_options": options}, ready=False)
    assert until(lambda: px.process.poll() is not None, 5) and error in px.log()


def conn_bytes(px):
    return json.loads(px.admin("/mizzen/memory")[1])["types"]["conn"]["bytes"]


@pytest.mark.stricter
def test_rests_between_requests(px, up):
    """Two seconds without a stream: what nghttp2 holds is packed (http/h2/slot.c). Requests and PING find it as it was."""
    fields = [*GET, ("x-table", "entry " * 20)]
    with H2Client(px.port) as c:
        c.request(1, fields)
        assert c.answer(1)[0] == 200
        for stream in (3, 5):
            before = conn_bytes(px)
            until(lambda: conn_bytes(px) < before - 8000, 30, "the connection to rest")
            c.ping(b"stream%02d" % stream)
            before = conn_bytes(px)
            until(lambda: conn_bytes(px) < before - 8000, 30, "the connection to rest after the PING")
            c.request(stream, fields)
            assert c.answer(stream)[0] == 200


def test_idle_timeout_ends_one_that_rests(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"drain_timeout": "0.1s", "common_http_protocol_options": {"idle_timeout": "2.5s"}})
    with H2Client(px.port) as c:
        c.request(1)
        assert c.answer(1)[0] == 200
        c.closed(30)
        assert [last for last, _ in c.goaways()] == [2**31 - 1, 1]
    assert px.stat("http.in.downstream_cx_idle_timeout") == 1
