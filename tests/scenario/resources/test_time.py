"""Slow and silent clients are ended in time (rows H5, E01-E04)."""
import time

import pytest

from evidence import VIA_UPSTREAM, told
from upstream import Endless, Reply

GET = "GET / HTTP/1.1\r\nHost: a\r\n"


def drip(client, data, every, limit):
    """Sends one byte each `every` seconds until the proxy answers or closes; returns the seconds that took."""
    start = time.monotonic()
    for byte in data:
        client.send(byte)
        try:
            if not client.stream.fill(every) or client.stream.buf:
                break
        except TimeoutError:
            pass
        assert time.monotonic() - start < limit
    return time.monotonic() - start


def proxy(mesh, **hcm):
    mesh.upstream()
    return mesh.proxy(hcm=hcm)


LATE_HEAD = ("request_header_timeout", "-", 408, "http.in.downstream_rq_header_timeout")


def test_e01_half_a_request_line(mesh):
    px = proxy(mesh, request_headers_timeout="0.5s")
    start = time.monotonic()
    with told(px, *LATE_HEAD), px.client() as c:
        assert c.send("GET / HT").response().status == 408
        assert 0.4 < time.monotonic() - start < 2
        assert c.ended() != "open"
    assert mesh.upstreams[0].requests == []


def test_e01_dripping_head(mesh):
    px = proxy(mesh, request_headers_timeout="0.5s")
    with told(px, *LATE_HEAD), px.client() as c:
        assert drip(c, GET + "X: " + "y" * 100, 0.1, 3) < 2
        assert c.response().status == 408


def test_e02_dripping_body(mesh):
    px = proxy(mesh, request_timeout="0.5s")
    with told(px, "request_overall_timeout", "-", 408, "http.in.downstream_rq_timeout"), px.client() as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        assert drip(c, "y" * 100, 0.1, 3) < 2
        assert c.response().status == 408
        assert c.ended() != "open"


def test_e03_silent_connection(mesh):
    px = proxy(mesh, common_http_protocol_options={"idle_timeout": "0.4s"}, drain_timeout="0.1s")
    start = time.monotonic()
    with px.client() as c:
        assert c.ended(5) == "eof"
    assert 0.3 < time.monotonic() - start < 2 and px.stat("http.in.downstream_cx_idle_timeout") == 1
    with told(px, VIA_UPSTREAM, "-", 200, "http.in.downstream_cx_idle_timeout"), px.client() as c:
        assert c.get().status == 200
        assert c.ended(5) == "eof"


def test_e04_half_a_request_without_timeouts_stays(mesh):
    px = proxy(mesh)
    with told(px, VIA_UPSTREAM, "-", 200, {"http.in.downstream_rq_2xx": 1, "http.in.downstream_rq_header_timeout": 0}), px.client() as c:
        c.send("GET / HTTP/1.1\r\nHo")
        assert c.ended(0.8) == "open"
        assert c.send("st: a\r\n\r\n").response().status == 200


def test_e06_stalled_upstream_is_ended_by_the_idle_timeout(mesh):
    mesh.upstream(script=[Endless(10 ** 12)])
    px = mesh.proxy(hcm={"stream_idle_timeout": "0.5s"})
    with told(px, "stream_idle_timeout", "SI", 200, "http.in.downstream_rq_idle_timeout", timeout=10), px.client(rcvbuf=4096) as c:
        c.send(GET + "\r\n")
        px.wait_stat("http.in.downstream_rq_idle_timeout", timeout=10)
        with pytest.raises(EOFError):
            c.response(timeout=10)


@pytest.mark.parametrize("body,framing", [("y" * 1001, "Content-Length: 1001\r\n\r\n{}"), ("y" * 2000, "Transfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n")],
                         ids=["E07-length", "E07-chunked"])
def test_413_is_readable(mesh, body, framing):
    mesh.upstream(script=[Reply()])
    px = mesh.proxy(hcm={"http_filters": [
        {"name": "envoy.filters.http.buffer", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 1000}},
        {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]})
    with told(px, "request_payload_too_large", "-", 413, "http.in.downstream_rq_too_large"), px.client() as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\n" + framing.format(body))
        assert c.response().status == 413
    assert mesh.upstreams[0].requests == []
