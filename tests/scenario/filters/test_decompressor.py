"""The decompressor filter: answers and requests decoded within bounds of memory (row H9, attack E08)."""
import gzip
import zlib

import coding
import config
import pytest
from evidence import told
from upstream import Raw, Reply
from wire import free_port, until

DECOMPRESSOR = "envoy.extensions.filters.http.decompressor.v3.Decompressor"
TEXT = b"decompress me please, or do not " * 100
ALL = list(coding.CODINGS)


def decompressor(enc="gzip", name="lib", lib=None, **fields):
    return config.ext(f"d-{enc}", DECOMPRESSOR, decompressor_library=coding.library(enc, "decompressor", name, **(lib or {})), **fields)


def start(mesh, filters, script=None, runtime=None, **hcm):
    up = mesh.upstream(script=script)
    manager = config.hcm([config.route("/", up.name)], log=config.access_log(mesh.folder / "access.log"), filters=filters, **hcm)
    more = {"layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]}} if runtime else {}
    return up, mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port])],
                                                free_port(), **more))


def coded(enc, body, *headers):
    return Reply(body=coding.encode(enc, body), headers=[("content-encoding", enc), *headers])


def counters(px, enc="gzip", name="lib"):
    p = coding.stat(enc, "decompressor", name)
    return {n[len(p):]: v for n, v in px.stats("^" + p).items() if v}


def post(px, data, *headers, timeout=10):
    with px.client(timeout=timeout) as c:
        lines = "".join(f"{n}: {v}\r\n" for n, v in headers)
        try:
            c.send(f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {len(data)}\r\n{lines}\r\n".encode() + data)
        except OSError:
            pass  # the answer is there before all was sent
        return c.response("POST")


@pytest.mark.parametrize("enc", ALL)
def test_answers(mesh, enc):
    up, px = start(mesh, [decompressor(enc)], script=[coded(enc, TEXT), Reply(body=b"plain")])
    r = px.get()
    assert r.body == TEXT and r.get("content-encoding") is None and r.get("content-length") is None
    assert px.get().body == b"plain"
    assert counters(px, enc) == {"response.decompressed": 1, "response.not_decompressed": 1,
                                 "response.total_compressed_bytes": len(coding.encode(enc, TEXT)), "response.total_uncompressed_bytes": len(TEXT)}
    assert up.requests[0].get("accept-encoding") == enc


@pytest.mark.parametrize("enc", ALL)
def test_requests(mesh, enc):
    up, px = start(mesh, [decompressor(enc)])
    assert post(px, coding.encode(enc, TEXT), ("content-encoding", enc.upper() + " ,x")).status == 200
    q = up.requests[0]
    assert (q.body, q.get("content-encoding"), q.get("content-length")) == (TEXT, "x", None)
    assert counters(px, enc)["request.decompressed"] == 1


@pytest.mark.parametrize("accept, told", [
    (None, "gzip"), ("br, deflate", "br,deflate,gzip"), ("gzip", "gzip"), ("br,gzip;q=0.5 , zstd", "br,zstd,gzip"), ("*", "*,gzip")])
def test_advertised(mesh, accept, told):
    up, px = start(mesh, [decompressor()])
    px.get(headers=[("accept-encoding", accept)] if accept else [])
    assert up.requests[0].get("accept-encoding") == told


@pytest.mark.parametrize("fields, runtime", [
    ({"request_direction_config": {"advertise_accept_encoding": False}}, None),
    ({"response_direction_config": {"common_config": {"enabled": {"default_value": True, "runtime_key": "d.on"}}}}, {"d.on": False})])
def test_not_advertised(mesh, fields, runtime):
    up, px = start(mesh, [decompressor(**fields)], script=[coded("gzip", TEXT)], runtime=runtime)
    assert (px.get().get("content-encoding") == "gzip") == bool(runtime)
    assert up.requests[0].get("accept-encoding") is None


def test_no_transform(mesh):
    step = coded("gzip", TEXT, ("cache-control", "no-transform"))
    _, px = start(mesh, [decompressor()], script=[step])
    assert px.get().get("content-encoding") == "gzip"
    _, px = start(mesh, [decompressor(response_direction_config={"common_config": {"ignore_no_transform_header": True}})], script=[step])
    px = mesh.proxies[-1]
    assert px.get().body in (TEXT, gzip.compress(TEXT))


def test_bytes_in_trailers(mesh):
    """Of the answer's own trailers, or made for a body that had none."""
    z = gzip.compress(TEXT)
    chunk = b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(z), z)
    up = mesh.upstream(script=[Raw(chunk + b"x-t: 1\r\n\r\n", close=False), coded("gzip", TEXT)])
    trailers = {"http_protocol_options": {"enable_trailers": True}}
    manager = config.hcm([config.route("/", up.name)], filters=[decompressor(name="Own")], **trailers)
    one = config.cluster(up.name, [up.port], http={"explicit_http_config": trailers})
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [one], free_port()))
    told = {"x-envoy-decompressor-own-compressed-bytes": str(len(z)), "x-envoy-decompressor-own-uncompressed-bytes": str(len(TEXT))}
    r = px.get()
    assert r.body == TEXT and dict((n.lower(), v) for n, v in r.trailers) == {"x-t": "1", **told}
    r = px.get()
    assert r.body == TEXT and dict((n.lower(), v) for n, v in r.trailers) == told


def test_head_and_empty(mesh):
    head = [("content-encoding", "gzip")]
    _, px = start(mesh, [decompressor()], script=[Reply(304, headers=head), Reply(200, b"", head)])
    assert px.get().get("content-encoding") == "gzip"  # no body: it tells of another
    assert px.get().body == b""


def test_members(mesh):
    _, px = start(mesh, [decompressor()], script=[Reply(body=gzip.compress(b"one, ") + gzip.compress(b"two") + b"\0\0", headers=[("content-encoding", "gzip")])])
    assert px.get().body in (b"one, two", b"one, ")  # Envoy takes the first only


SPOILT = {"bad": lambda z: b"\x00" + z, "cut": lambda z: z[:-3], "checksum": lambda z: z[:-6] + bytes([z[-6] ^ 1]) + z[-5:]}


@pytest.mark.stricter
@pytest.mark.parametrize("enc", ALL)
@pytest.mark.parametrize("how", ["bad", "cut"])
def test_spoilt_answer_is_cut(mesh, enc, how):
    body = SPOILT[how](coding.encode(enc, TEXT))
    _, px = start(mesh, [decompressor(enc)], script=[Reply(body=body, headers=[("content-encoding", enc)])])
    with px.client() as c:
        c.send(b"GET /s HTTP/1.1\r\nhost: a\r\n\r\n")
        with pytest.raises(EOFError):
            c.response()
    entry = px.wait_log(lambda e: e["path"] == "/s")
    assert entry["details"] == {"bad": "decompressor_bad_data", "cut": "decompressor_cut_short"}[how]
    assert [v for n, v in counters(px, enc).items() if n.startswith("decompressor_library.")] == [1]


@pytest.mark.stricter
@pytest.mark.parametrize("how, details", [("bad", "decompressor_bad_data"), ("checksum", "decompressor_bad_data"), ("cut", "decompressor_cut_short")])
def test_spoilt_request_is_400(mesh, how, details):
    up, px = start(mesh, [decompressor()])
    assert post(px, SPOILT[how](gzip.compress(TEXT)), ("content-encoding", "gzip")).status == 400
    assert px.wait_log(lambda e: e["code"] in (400, "400"))["details"] == details
    until(lambda: not any(r.framing != "cut" for r in up.requests), what="no whole request upstream")


def zeros(mib):
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    return z.compress(bytes(mib << 20)) + z.flush()


def bomb(enc):
    """64 KB of gzip, which cannot do better, that are 64 MiB; 1 KB of brotli that are 256 MiB; 33 KB of zstd that are 1 GiB."""
    if enc == "gzip":
        return zeros(64)
    return coding.encode(enc, bytes(64 << 20)) * 16 if enc == "zstd" else coding.brotli_stream(bytes(1 << 20), 256)


BOMBS = {}


@pytest.mark.stricter
@pytest.mark.parametrize("enc", ALL)
def test_e08_bomb(mesh, enc):
    """Answer and request: ended with a counter and the detail, within bounds of memory."""
    data = BOMBS.setdefault(enc, bomb(enc))
    up, px = start(mesh, [decompressor(enc)], script=[Reply(body=data, headers=[("content-encoding", enc)])])
    before, counter = px.memory_kib(), coding.stat(enc, "decompressor") + "decompressor_library.ratio_exceeded"
    with told(px, "decompressor_ratio_exceeded", "UPE", 200, {counter: 3}):
        for _ in range(3):
            with px.client() as c:
                c.send(b"GET /bomb HTTP/1.1\r\nhost: a\r\n\r\n")
                with pytest.raises(EOFError):
                    c.response(timeout=20)
    up.script = [Reply()]
    with told(px, "decompressor_ratio_exceeded", "-", 413, {counter: 1}):
        assert post(px, data, ("content-encoding", enc)).status == 413
    assert px.grown_kib(before) < 24 * 1024
    assert all(r.framing == "cut" for r in up.requests[3:])


@pytest.mark.stricter
def test_e08_many_bombs_and_slow_readers(mesh):
    """A hundred clients that read nothing of what a small answer would become: flow control holds the rest back in its coded form."""
    data = zeros(8)
    up, px = start(mesh, [decompressor(lib={"max_inflate_ratio": 1032})], script=[Reply(body=data, headers=[("content-encoding", "gzip")])])
    px.get("/once", timeout=20)
    before, clients = px.memory_kib(), [px.client(rcvbuf=65536) for _ in range(100)]
    for c in clients:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    px.wait_stat("cluster.up.upstream_rq_total", 101, timeout=20)
    px.wait_stat(coding.stat("gzip", "decompressor") + "response.decompressed", 101, timeout=20)
    assert px.grown_kib(before) < 100 * (2 * 1024 + 256)
    for c in clients[1:]:
        c.close()
    assert clients[0].response(timeout=20).body == bytes(8 << 20)
    clients[0].close()


@pytest.mark.stricter
def test_e08_slow_upstream(mesh):
    """The same towards an upstream that does not read."""
    import socket
    import threading
    go = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    got = []

    def serve():
        s, _ = listener.accept()
        go.wait(30)
        n = 0
        while True:
            b = s.recv(1 << 20)
            n += len(b)
            if not b or b.endswith(b"\r\n0\r\n\r\n"):
                break
        got.append(n)
        s.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n")
        s.close()
    threading.Thread(target=serve, daemon=True).start()
    data = zeros(64)
    manager = config.hcm([config.route("/", "up", timeout="0s")], filters=[decompressor(lib={"max_inflate_ratio": 1032})])
    one = config.cluster("up", [listener.getsockname()[1]])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [one], free_port()))
    before = px.memory_kib()
    with px.client(timeout=20) as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        px.wait_stat("http.in.downstream_flow_control_paused_reading_total")
        assert px.grown_kib(before) < 8 * 1024
        go.set()
        assert c.response("POST", timeout=30).status == 200
    assert got[0] > 64 << 20
    listener.close()


def test_client_leaves_while_bytes_wait(mesh):
    data = zeros(8)
    _, px = start(mesh, [decompressor(lib={"max_inflate_ratio": 1032})], script=[Reply(body=data, headers=[("content-encoding", "gzip")])])
    for _ in range(5):
        with px.client(rcvbuf=4096) as c:
            c.send(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n")
            c.stream.until(b"\r\n\r\n", 5)
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, what="no client")
    until(lambda: px.stat("http.in.downstream_rq_active") == 0, what="no request")
    assert px.get("/", timeout=20).body == bytes(8 << 20)
