"""grpc_web (H9): calls of browsers, binary and as text, in pieces of any size; answers that are no gRPC."""
import base64
import struct

import config
import pytest
from h2_client import H2Client
from h2_upstream import DATA, H2Upstream
from upstream import Reply
from wire import free_port

H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
WEB = config.ext("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")
B, T = "application/grpc-web", "application/grpc-web-text"


def frame(data, flags=0):
    return bytes([flags]) + struct.pack(">I", len(data)) + data


def start(mesh, port, http=H2):
    m = config.hcm([config.route("/", "up")], filters=[WEB], log=config.access_log(mesh.folder / "access.log"))
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [m])], [config.cluster("up", [port], http=http)], free_port()))


def call(px, kind, body, accept=None, pieces=None):
    with px.client() as c:
        head = f"POST /s.S/M HTTP/1.1\r\nHost: a\r\ncontent-type: {kind}\r\n" + (f"accept: {accept}\r\n" if accept else "")
        if pieces is None:
            c.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        else:
            c.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
            for i in range(0, len(body), pieces):
                c.send(b"%x\r\n%s\r\n" % (len(body[i:i + pieces]), body[i:i + pieces]))
            c.send(b"0\r\n\r\n")
        return c.response()


@pytest.fixture
def grpc():
    """A server of gRPC that answers a call with two messages; what it got is in its requests."""
    made = []

    def step(conn, stream, rq):
        made.append(rq)
        conn.headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for piece in (frame(b"hello")[:3], frame(b"hello")[3:] + frame(b"")[:2], frame(b"")[2:]):
            conn.data(stream, piece, end=False)
        conn.headers(stream, [("grpc-status", "0"), ("grpc-message", "fine")], end=True)
    up = H2Upstream(script=[step])
    up.made = made
    yield up
    up.close()


END = frame(b"grpc-status:0\r\ngrpc-message:fine\r\n", 0x80)


@pytest.mark.parametrize("pieces", [None, 1, 5])
def test_binary_and_text(mesh, grpc, pieces):
    px = start(mesh, grpc.port)
    asked = frame(b"question")
    r = call(px, B, asked, pieces=pieces)
    assert (r.status, r.get("content-type"), r.body) == (200, "application/grpc-web+proto", frame(b"hello") + frame(b"") + END)
    r = call(px, T + "+proto", base64.b64encode(asked), accept=T, pieces=pieces)
    texts = [base64.b64encode(x) for x in (frame(b"hello"), frame(b""), END)]  # each frame by itself, padded
    assert (r.status, r.get("content-type"), r.body) == (200, T + "+proto", b"".join(texts))
    for rq in grpc.made:
        assert rq.body == asked and rq["content-type"] == "application/grpc" and rq["te"] == "trailers" and rq["grpc-accept-encoding"] == "identity"
        assert rq["content-length"] is None
    assert [px.stat(f"cluster.up.grpc-web.s.S.M.{n}") for n in ("0", "success", "total", "failure")] == [2, 2, 2, 0]


def test_over_http2(mesh, grpc):
    px = start(mesh, grpc.port)
    with H2Client(px.port) as c:
        c.request(1, [(":method", "POST"), (":path", "/s.S/M"), (":scheme", "http"), (":authority", "a"), ("content-type", B)], frame(b"x"))
        status, headers, body = c.answer(1)
        assert (status, headers["content-type"], body) == (200, B + "+proto", frame(b"hello") + frame(b"") + END)
        assert len(c.headers[1]) == 1 and c.frames[-1][0] == DATA  # no trailers, not even empty ones


@pytest.mark.parametrize("body,details", [(b"AAA", "grpc_base_64_decode_failed_bad_size"), (b"A!AA", "grpc_base_64_decode_failed"),
                                          (b"AA==AAAA", "grpc_base_64_decode_failed")])
def test_what_is_no_base64(mesh, grpc, body, details):
    px = start(mesh, grpc.port)
    r = call(px, T, body)
    assert (r.status, r.get("grpc-status"), r.get("grpc-message")) == (400, "13", "Bad gRPC-web request, invalid base64 data.")
    assert px.access_log()[0]["details"] == details and not [rq for rq in grpc.made if rq.complete]


def test_answers_that_are_no_grpc(mesh):
    up = mesh.upstream("up", [Reply(404, b"no such\nthing\xc3\xa9", headers=[("content-type", "text/plain")]), Reply(200, b"x" * 40000), Reply(503)])
    px = start(mesh, up.port, http=None)
    got = [call(px, B, frame(b"q")) for _ in range(3)]
    assert [(r.status, r.get("grpc-status"), r.body) for r in got] == [(404, "12", b""), (200, "2", b""), (503, "14", b"")]
    assert got[0].get("grpc-message") == "no such%0Athing%C3%A9" and got[1].get("grpc-message") == "x" * 16384
    assert {r.get("content-type") for r in got} == {B + "+proto"}


def test_others_pass(mesh, grpc):
    px = start(mesh, grpc.port)
    with H2Client(px.port) as c:
        c.request(1, [(":method", "POST"), (":path", "/s.S/M"), (":scheme", "http"), (":authority", "a"), ("content-type", "application/grpc")], frame(b"x"))
        status, headers, body = c.answer(1)
        assert (status, headers["content-type"], body) == (200, "application/grpc", frame(b"hello") + frame(b""))
        assert dict(c.headers[1][1])["grpc-status"] == "0"
