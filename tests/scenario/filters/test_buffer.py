"""The buffer filter (rows H6, H9)."""
import config
import pytest
from chain import off, own, send, start, story

NAME = "envoy.filters.http.buffer"
PER_ROUTE = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
FILTER = config.ext(NAME, "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=10)


def chunked(c, chunks, path="/", trailer=b""):
    c.send(f"POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for x in chunks:
        c.send(b"%x\r\n%s\r\n" % (len(x), x))
    return c.send(b"0\r\n" + trailer + b"\r\n")


def test_waits_for_all_and_gives_the_length(mesh):
    up, px = start(mesh, [FILTER])
    with px.client() as c:
        c.send(b"POST /w HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        px.wait_stat("http.in.downstream_rq_active")
        assert px.stat("cluster.up.upstream_rq_total") == 0
        assert c.send(b"2\r\nde\r\n0\r\n\r\n").response("POST").status == 200
    q = up.requests[0]
    assert q.body == b"abcde" and q.get("content-length") == "5" and q.get("transfer-encoding") is None
    assert send(px, "POST", "/l", body=b"0123456789").status == 200
    assert up.requests[1].body == b"0123456789"
    assert send(px).status == 200 and up.requests[2].get("content-length") is None


def test_length_before_trailers(mesh):
    up, px = start(mesh, [FILTER], http_protocol_options={"enable_trailers": True})
    with px.client() as c:
        assert chunked(c, [b"abc", b"d"], trailer=b"x-t: 1\r\n").response("POST").status == 200
    assert up.requests[0].body == b"abcd" and up.requests[0].get("content-length") == "4"


def test_E07_above_the_limit_413_is_readable(mesh):
    up, px = start(mesh, [FILTER])
    with px.client() as c:
        r = chunked(c, [b"01234", b"56789", b"X"], "/c").response("POST")
        assert (r.status, r.body, r.get("connection")) == (413, b"Payload Too Large", "close")
    with px.client() as c:  # while it still sends: 1 MiB, never read to its end
        c.send(b"POST /m HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\n" + b"x" * 300000)
        assert c.response("POST").status == 413
        assert c.ended() in ("eof", "reset")
    assert px.stat("http.in.downstream_rq_too_large") == 2 and up.requests == []
    assert px.wait_log(lambda e: e["path"] == "/c")["details"] == "request_payload_too_large"


def test_routes(mesh):
    routes = [{"match": {"prefix": "/more"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, PER_ROUTE, buffer={"max_request_bytes": 20})},
              {"match": {"prefix": "/off"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, PER_ROUTE, disabled=True)},
              {"match": {"prefix": "/gone"}, "route": {"cluster": "up"}, "typed_per_filter_config": off(NAME)}, config.route("/")]
    up, px = start(mesh, [FILTER], routes)
    assert [send(px, "POST", p, body=b"x" * 15).status for p in ("/more", "/off", "/gone", "/")] == [200, 200, 200, 413]
    with px.client() as c:
        assert chunked(c, [b"x"] * 15, "/off").response("POST").status == 200
    assert up.requests[-1].get("content-length") is None  # not buffered


@pytest.mark.stricter
def test_story_names_the_limit(mesh):
    _, px = start(mesh, [FILTER], [{"match": {"prefix": "/"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, PER_ROUTE, buffer={"max_request_bytes": 12})}])
    assert send(px, "POST", "/told", body=b"x" * 15).status == 413
    px.wait_log(lambda e: e["path"] == "/told")
    assert "max_request_bytes 12" in story(px, "/told")
