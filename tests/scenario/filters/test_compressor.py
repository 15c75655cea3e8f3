"""The compressor filter: which answers and requests are compressed, with what, and what is counted (row H9)."""
import coding
import config
import pytest
from upstream import Raw, Reply
from wire import free_port

COMPRESSOR = "envoy.extensions.filters.http.compressor.v3.Compressor"
TEXT = b"compress me please " * 100
PLAIN = [("content-type", "text/plain")]


def compressor(enc="gzip", name="lib", filter_name="c", lib=None, **fields):
    return config.ext(filter_name, COMPRESSOR, compressor_library=coding.library(enc, "compressor", name, **(lib or {})), **fields)


def start(mesh, filters, routes=None, script=None, runtime=None, **hcm):
    up = mesh.upstream(script=script or [Reply(body=TEXT, headers=PLAIN)])
    manager = config.hcm(routes or [config.route("/", up.name)], log=config.access_log(mesh.folder / "access.log"), filters=filters, **hcm)
    more = {"layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]}} if runtime else {}
    return up, mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port])],
                                                free_port(), **more))


def get(px, accept=None, **kw):
    return px.get(headers=[("accept-encoding", accept)] if accept is not None else [], **kw)


def counters(px, enc="gzip", name="lib"):
    p = coding.stat(enc, "compressor", name)
    return {n[len(p):]: v for n, v in px.stats("^" + p).items() if v}


@pytest.mark.parametrize("enc", list(coding.CODINGS))
def test_each_library(mesh, enc):
    up, px = start(mesh, [compressor(enc, response_direction_config={})])
    r = get(px, enc)
    assert (r.get("content-encoding"), r.get("vary"), r.get("content-length")) == (enc, "Accept-Encoding", None)
    assert coding.decode(enc, r.body) == TEXT
    assert counters(px, enc) == {
        "header_compressor_used": 1, "request.not_compressed": 1, "response.compressed": 1,
        "response.total_uncompressed_bytes": len(TEXT), "response.total_compressed_bytes": len(r.body)}
    assert get(px).body == TEXT and counters(px, enc)["no_accept_header"] == 1
    assert px.access_log()[0]["tx"] in (len(r.body), str(len(r.body)))
    assert up.requests[0].get("accept-encoding") == enc


def test_a_stream_can_be_read_as_it_comes(mesh):
    """Each part of the upstream's body is flushed; the end closes the stream, with and without trailers."""
    import zlib
    import threading
    go = threading.Event()

    class Slow(Reply):
        def act(self, stream, request):
            stream.sock.sendall(b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            go.wait(10)
            stream.sock.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
            return True
    _, px = start(mesh, [compressor()], script=[Slow()])
    z, got = zlib.decompressobj(31), b""
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n")
        head = c.stream.until(b"\r\n\r\n", 5)
        assert b"content-encoding: gzip" in head
        while got != b"first":
            n = int(c.stream.until(b"\r\n", 5), 16)
            got += z.decompress(c.stream.exactly(n + 2, 5)[:n])
        go.set()
        while not z.eof:
            n = int(c.stream.until(b"\r\n", 5), 16)
            got += z.decompress(c.stream.exactly(n + 2, 5)[:n])
    assert got == b"firstsecond"


def test_trailers(mesh):
    raw = (b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
           b"4\r\nbody\r\n0\r\nx-t: 1\r\n\r\n")
    up = mesh.upstream(script=[Raw(raw, close=False)])
    trailers = {"http_protocol_options": {"enable_trailers": True}}
    manager = config.hcm([config.route("/", up.name)], filters=[compressor()], **trailers)
    one = config.cluster(up.name, [up.port], http={"explicit_http_config": trailers})
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [one], free_port()))
    r = get(px, "gzip")
    assert coding.decode("gzip", r.body) == b"body" and dict(r.trailers) == {"x-t": "1"}


@pytest.mark.parametrize("accept, used", [
    ("gzip, br, zstd", "gzip"), ("gzip;q=0.5, br;q=0.9, zstd;q=0.7", "br"), ("*", "gzip"), ("zstd", "zstd"), ("identity, *;q=0.5", None),
    ("deflate", None), ("gzip;q=bad, br", "br"), ("GZIP", None), ("gzip;q=0, *", "br"), ("br;q=0.3,gzip;q=0.3", "br")])
def test_several_in_a_chain(mesh, accept, used):
    _, px = start(mesh, [compressor(e, e, e) for e in coding.CODINGS])
    r = get(px, accept)
    assert r.get("content-encoding") == used and r.get("vary") == "Accept-Encoding"
    assert (coding.decode(used, r.body) if used else r.body) == TEXT
    assert sum(px.stats(r"\.compressed$").values()) == (1 if used else 0)
    overshadowed = sum(px.stats("overshadowed").values())
    assert overshadowed == (2 if used and "*" not in accept else 0)


def test_choose_first(mesh):
    _, px = start(mesh, [compressor("gzip", filter_name="g"), compressor("br", filter_name="b", choose_first=True)])
    assert get(px, "gzip, br").get("content-encoding") == "br"
    assert get(px, "gzip, br;q=0.9").get("content-encoding") == "gzip"


SKIPPED = [
    (Reply(body=TEXT, headers=[("content-type", "image/png")]), {"header_not_valid": 1}),
    (Reply(body=b"tiny", headers=PLAIN), {"response.content_length_too_small": 1}),
    (Reply(body=TEXT, headers=[*PLAIN, ("cache-control", "max-age=1, No-Transform")]), {"header_compressor_used": 1}),
    (Reply(body=TEXT, headers=[*PLAIN, ("content-encoding", "deflate")]), {"header_compressor_used": 1}),
    (Reply(body=TEXT, headers=[*PLAIN, ("etag", '"e"')]), {"header_compressor_used": 1, "not_compressed_etag": 1}),
    (Reply(404, TEXT, PLAIN), {"header_compressor_used": 1}),
    (Reply(204), {}), (Reply(304), {})]


@pytest.mark.parametrize("step, counted", SKIPPED, ids=range(len(SKIPPED)))
def test_what_is_not_compressed(mesh, step, counted):
    _, px = start(mesh, [compressor(response_direction_config={"disable_on_etag_header": True, "uncompressible_response_codes": [404]})],
                  script=[step])
    r = get(px, "gzip")
    assert r.get("content-encoding") != "gzip" and r.get("vary") == ("Accept-Encoding" if step.status in (204, 304) else None)
    assert counters(px) == {"request.not_compressed": 1, "response.not_compressed": 1, **counted}


def test_head(mesh):
    _, px = start(mesh, [compressor()])
    with px.client() as c:
        c.send(b"HEAD / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n")
        r = c.response("HEAD")
    assert (r.get("content-length"), r.get("vary"), r.get("content-encoding")) == (str(len(TEXT)), "Accept-Encoding", None)


@pytest.mark.parametrize("headers, vary, etag", [
    ([("vary", "Origin")], "Origin, Accept-Encoding", None), ([("vary", "Origin,Accept-Encoding")], "Origin,Accept-Encoding", None),
    ([("etag", '"strong"')], "Accept-Encoding", None), ([("etag", 'W/"weak"')], "Accept-Encoding", 'W/"weak"')])
def test_vary_and_etag(mesh, headers, vary, etag):
    _, px = start(mesh, [compressor()], script=[Reply(body=TEXT, headers=[*PLAIN, *headers])])
    r = get(px, "gzip")
    assert r.get("content-encoding") == "gzip" and (r.get("vary"), r.get("etag")) == (vary, etag)


TOLD = {"common_config": {"min_content_length": 100, "content_type": ["text/plain"]}, "status_header_enabled": True,
        "disable_on_etag_header": True, "uncompressible_response_codes": [404]}


@pytest.mark.parametrize("step, status", [
    (Reply(body=TEXT, headers=PLAIN), f"gzip;Compressed;OriginalLength={len(TEXT)}"),
    (Reply(404, b"x", [("content-type", "image/png")]), "gzip;ContentLengthTooSmall"),
    (Reply(404, TEXT, [("content-type", "image/png"), ("etag", '"e"')]), "gzip;ContentTypeNotAllowed"),
    (Reply(404, TEXT, [*PLAIN, ("etag", '"e"')]), "gzip;EtagNotAllowed"), (Reply(404, TEXT, PLAIN), "gzip;StatusCodeNotAllowed"),
    (Reply(200, b"x", [*PLAIN, ("content-encoding", "br")]), None)])
def test_status_header(mesh, step, status):
    _, px = start(mesh, [compressor(response_direction_config=TOLD)], script=[step])
    assert get(px, "gzip").get("x-envoy-compression-status") == status
    assert "header_not_valid" not in counters(px)
    assert counters(px).get("response.content_length_too_small", 0) in ((1, 2) if "Small" in (status or "") else (0,))  # Envoy counts twice


def test_status_header_of_several(mesh):
    told = {"status_header_enabled": True}
    _, px = start(mesh, [compressor(e, filter_name=e, response_direction_config=told) for e in ("gzip", "br")], script=[Reply(body=b"x")])
    r = get(px, "gzip")
    assert [v for n, v in r.headers if n == "x-envoy-compression-status"] == ["br;ContentLengthTooSmall", "gzip;ContentLengthTooSmall"]


def per_route(**fields):
    return {"c": {"@type": config.TYPE + COMPRESSOR + "PerRoute", **fields}}


def test_per_route(mesh):
    def at(prefix, **fields):
        return {**config.route(prefix), "typed_per_filter_config": per_route(**fields)}
    routes = [at("/off", disabled=True), at("/br", overrides={"compressor_library": coding.library("br", "compressor", "other")}),
              at("/on", overrides={"response_direction_config": {}}),
              at("/rm", overrides={"response_direction_config": {"remove_accept_encoding_header": True}}), config.route("/")]
    off = {"common_config": {"enabled": {"default_value": False, "runtime_key": "c.on"}}}
    up, px = start(mesh, [compressor(response_direction_config=off)], routes=routes)
    assert get(px, "gzip", path="/").get("content-encoding") is None  # the filter is off
    assert get(px, "gzip", path="/off").get("content-encoding") is None
    assert get(px, "gzip", path="/on").get("content-encoding") == "gzip"
    assert get(px, "gzip", path="/rm").get("content-encoding") == "gzip"
    assert [r.get("accept-encoding") for r in up.requests] == ["gzip", "gzip", "gzip", None]
    assert get(px, "br", path="/br").get("content-encoding") is None


def test_library_of_a_route_and_runtime(mesh):
    routes = [{**config.route("/br"), "typed_per_filter_config":
               per_route(overrides={"compressor_library": coding.library("br", "compressor", "other")})}, config.route("/")]
    off = {"common_config": {"enabled": {"default_value": False, "runtime_key": "c.on"}}, "remove_accept_encoding_header": True}
    up, px = start(mesh, [compressor(response_direction_config=off)], routes=routes, runtime={"c.on": True})
    r = get(px, "br", path="/br")
    assert r.get("content-encoding") == "br" and coding.decode("br", r.body) == TEXT
    assert get(px, "gzip", path="/br").get("content-encoding") is None
    assert get(px, "gzip").get("content-encoding") == "gzip"
    assert [q.get("accept-encoding") for q in up.requests] == [None] * 3
    assert counters(px)["response.compressed"] == 2  # of the filter, whatever the library


def test_old_fields(mesh):
    _, px = start(mesh, [compressor(content_length=1000, content_type=["text/html"], disable_on_etag_header=True)],
                  script=[Reply(body=TEXT, headers=[("content-type", "text/html")]), Reply(body=b"h" * 999, headers=[("content-type", "text/html")]),
                          Reply(body=TEXT, headers=PLAIN)])
    assert [get(px, "gzip").get("content-encoding") for _ in range(3)] == ["gzip", None, None]
    assert counters(px)["compressed"] == 1 and counters(px)["content_length_too_small"] == 1  # without the direction


@pytest.mark.parametrize("enc", list(coding.CODINGS))
def test_requests(mesh, enc):
    up, px = start(mesh, [compressor(enc, request_direction_config={})])
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(TEXT) + TEXT)
        assert c.response("POST").status == 200
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ntiny")
        assert c.response("POST").status == 200
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: x\r\ncontent-length: %d\r\n\r\n" % len(TEXT) + TEXT)
        assert c.response("POST").status == 200
    q = up.requests[0]
    assert q.get("content-encoding") == enc and q.get("content-length") is None and coding.decode(enc, q.body) == TEXT
    assert [r.body for r in up.requests[1:]] == [b"tiny", TEXT]
    n = counters(px, enc)
    assert (n["request.compressed"], n["request.not_compressed"], n["request.content_length_too_small"]) == (1, 2, 1)
    assert (n["request.total_uncompressed_bytes"], n["request.total_compressed_bytes"]) == (len(TEXT), len(q.body))


def test_large_answer_to_a_slow_reader(mesh):
    """Compressing keeps to flow control: what the client does not take stays upstream."""
    import random
    body = random.Random(1).randbytes(6 << 20)
    _, px = start(mesh, [compressor()], script=[Reply(body=body, headers=PLAIN)])
    with px.client(rcvbuf=65536, timeout=20) as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n")
        px.wait_stat("cluster.up.upstream_flow_control_paused_reading_total")
        assert coding.decode("gzip", c.response(timeout=20).body) == body
