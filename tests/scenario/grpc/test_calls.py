"""gRPC end to end: Debian's python3-grpcio on both ends, through one proxy and through two (rows H2, H8, U3)."""
import threading
import time
from concurrent import futures

import pytest

import config
from wire import free_port, until

grpc = pytest.importorskip("grpc", reason="peer python3-grpcio is not installed")

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}
BIG = 16 * 1024 * 1024
SIZES = [("grpc.max_receive_message_length", BIG + 1024), ("grpc.max_send_message_length", BIG + 1024)]


class Service(grpc.GenericRpcHandler):
    """Bytes in, bytes out: no stubs needed."""

    def __init__(self):
        self.cancelled, self.metadata, self.started, self.go = threading.Event(), [], threading.Event(), threading.Event()
        self.remaining = []

    def service(self, call):
        self.metadata.append(dict(call.invocation_metadata))
        kind = call.method.rsplit("/", 1)[1]
        if not hasattr(self, kind):
            return None
        make = {"Unary": grpc.unary_unary_rpc_method_handler, "Fails": grpc.unary_unary_rpc_method_handler,
                "Slow": grpc.unary_unary_rpc_method_handler, "Download": grpc.unary_stream_rpc_method_handler,
                "Upload": grpc.stream_unary_rpc_method_handler, "Chat": grpc.stream_stream_rpc_method_handler}[kind]
        return make(getattr(self, kind))

    def Unary(self, request, context):
        context.set_trailing_metadata((("x-trailing", "end"), ("bytes-bin", b"\0\xff")))
        context.send_initial_metadata((("x-initial", "begin"),))
        return request[::-1]

    def Fails(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing at /ü%")

    def Slow(self, request, context):
        context.add_callback(self.cancelled.set)
        self.remaining.append(context.time_remaining())
        self.started.set()
        self.go.wait(20)
        return b"late"

    def Download(self, request, context):
        for n in range(int(request)):
            yield b"%d" % n

    def Upload(self, requests, context):
        return b"%d" % sum(len(r) for r in requests)

    def Chat(self, requests, context):
        context.add_callback(self.cancelled.set)
        for r in requests:
            yield r.upper()


@pytest.fixture
def server():
    s = Service()
    g = grpc.server(futures.ThreadPoolExecutor(16), options=SIZES)
    g.add_generic_rpc_handlers((s,))
    s.name, s.port = "up", g.add_insecure_port("127.0.0.1:0")
    g.start()
    yield s
    s.go.set()
    g.stop(0).wait()


class Hop:
    """A proxy as the next one's upstream."""

    def __init__(self, px):
        self.name, self.port = "up", px.port


@pytest.fixture(params=["one-hop", "two-hops"])
def px(request, mesh, server):
    """The proxy that the client talks to; `px.hops` is all of them, the last one talks to the server."""
    hcm = {"codec_type": "HTTP2", "stream_idle_timeout": "0s"}
    routes = [config.route("/", timeout="0s")]
    hops = [mesh.proxy(routes=routes, upstreams=[server], hcm=hcm, cluster={"http": HTTP2}, name="inner")]
    if request.param == "two-hops":
        hops.append(mesh.proxy(routes=routes, upstreams=[Hop(hops[0])], hcm=hcm, cluster={"http": HTTP2}, name="outer"))
    hops[-1].hops = hops
    return hops[-1]


@pytest.fixture
def channel(px):
    with grpc.insecure_channel(f"127.0.0.1:{px.port}", options=SIZES) as c:
        yield c


def test_unary_with_metadata(channel, server, px):
    r, call = channel.unary_unary("/t.S/Unary").with_call(b"abc", metadata=(("x-one", "1"), ("raw-bin", b"\1\2\xfe")))
    assert r == b"cba" and call.code() == grpc.StatusCode.OK
    got = server.metadata[0]
    assert got["x-one"] == "1" and got["raw-bin"] == b"\1\2\xfe" and "x-request-id" in got
    assert dict(call.initial_metadata())["x-initial"] == "begin"
    assert dict(call.trailing_metadata()) == {"x-trailing": "end", "bytes-bin": b"\0\xff"}
    assert all(h.stat("cluster.up.upstream_cx_http2_total") == 1 for h in px.hops)


def test_server_streaming(channel):
    assert list(channel.unary_stream("/t.S/Download")(b"1000")) == [b"%d" % n for n in range(1000)]


def test_client_streaming(channel):
    assert channel.stream_unary("/t.S/Upload")(iter([b"x" * n for n in range(500)])) == b"%d" % sum(range(500))


def test_both_streaming(channel):  # each message goes out before the next is made
    turn, sent = threading.Semaphore(1), []

    def requests():
        for n in range(200):
            turn.acquire()
            sent.append(n)
            yield b"m%d" % n
    for n, answer in enumerate(channel.stream_stream("/t.S/Chat")(requests())):
        assert answer == b"M%d" % n and len(sent) == n + 1
        turn.release()
    assert len(sent) == 200


def test_calls_in_parallel(channel, px):
    calls = [channel.unary_unary("/t.S/Unary").future(b"%d" % n) for n in range(300)]
    assert [c.result() for c in calls] == [b"%d" % int(str(n)[::-1]) if n % 10 else str(n)[::-1].encode() for n in range(300)]
    assert all(h.stat("cluster.up.upstream_cx_total") == 1 for h in px.hops)


def test_large_messages(channel, px):
    before = px.memory_kib()
    block = bytes(range(256)) * (BIG // 256)
    assert channel.unary_unary("/t.S/Unary")(block) == block[::-1]
    assert channel.stream_unary("/t.S/Upload")(iter([block] * 2)) == b"%d" % (2 * BIG)
    assert [a == block.upper() for a in channel.stream_stream("/t.S/Chat")(iter([block] * 2))] == [True] * 2
    assert px.grown_kib(before) < 64 * 1024


def test_status_and_message(channel, px):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.S/Fails")(b"")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND and e.value.details() == "nothing at /ü%"
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.S/NoSuch")(b"")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_deadline(channel, server, px):
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.S/Slow")(b"", timeout=0.3)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - begin < 3
    assert 0 < server.remaining[0] < 0.4  # the server knows the deadline
    assert server.cancelled.wait(5)
    for h in px.hops:
        until(lambda: h.stat("cluster.up.upstream_rq_active") == 0, 5)


def test_cancellation(channel, server, px):
    call = channel.unary_unary("/t.S/Slow").future(b"")
    assert server.started.wait(5)
    call.cancel()
    assert server.cancelled.wait(5)
    assert channel.unary_unary("/t.S/Unary")(b"on") == b"no"  # the same connections go on
    for h in px.hops:
        assert h.stat("cluster.up.upstream_rq_tx_reset") == 1 and h.stat("cluster.up.upstream_cx_total") == 1


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_the_end_of_a_stream_that_is_under_way(channel, server, px, how):
    go = threading.Event()

    def requests():
        yield b"one"
        go.wait(20)
    call = channel.stream_stream("/t.S/Chat")(requests(), timeout=2 if how == "deadline" else None)
    assert next(call) == b"ONE"
    if how == "cancelled":
        call.cancel()
    with pytest.raises(grpc.RpcError) as e:
        next(call)
    assert e.value.code() == (grpc.StatusCode.CANCELLED if how == "cancelled" else grpc.StatusCode.DEADLINE_EXCEEDED)
    assert server.cancelled.wait(10)
    go.set()
    for h in px.hops:
        until(lambda h=h: h.stat("cluster.up.upstream_rq_active") == 0 and h.stat("cluster.up.upstream_rq_tx_reset") + h.stat("cluster.up.upstream_rq_rx_reset") == 1, 5)
    assert channel.unary_unary("/t.S/Unary")(b"on") == b"no" and all(h.stat("cluster.up.upstream_cx_total") == 1 for h in px.hops)


def test_server_gone(channel, px, mesh):
    """What the proxy answers itself is gRPC as well."""
    dead = mesh.proxy(routes=[config.route("/", "dead")], hcm={"codec_type": "HTTP2"},
                      upstreams=[type("Dead", (), {"name": "dead", "port": free_port()})], cluster={"http": HTTP2}, name="dead")
    with grpc.insecure_channel(f"127.0.0.1:{dead.port}") as c:
        with pytest.raises(grpc.RpcError) as e:
            c.unary_unary("/t.S/Unary")(b"")
        assert e.value.code() == grpc.StatusCode.UNAVAILABLE and "remote connection failure" in e.value.details()


def test_deadline_of_the_proxy(mesh, server):
    px = mesh.proxy(routes=[config.route("/", timeout="0s", max_stream_duration={"grpc_timeout_header_max": "0.3s"})], upstreams=[server],
                    hcm={"codec_type": "HTTP2"}, cluster={"http": HTTP2})
    with grpc.insecure_channel(f"127.0.0.1:{px.port}") as c:
        with pytest.raises(grpc.RpcError) as e:
            c.unary_unary("/t.S/Slow")(b"", timeout=30)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and e.value.details() in ("downstream duration timeout", "Deadline Exceeded")  # whoever is first, the proxy or the server
    assert server.remaining[0] <= 0.3
    assert px.access_log()[0]["details"] in ("max_duration_timeout", "via_upstream")


def test_retry_of_unavailable(mesh):
    """A server that refuses by trailers-only, then serves."""
    tries = []

    class Flaky(grpc.GenericRpcHandler):
        def service(self, call):
            def answer(request, context):
                tries.append(request)
                if len(tries) < 3:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
                return b"served"
            return grpc.unary_unary_rpc_method_handler(answer)
    g = grpc.server(futures.ThreadPoolExecutor(4))
    g.add_generic_rpc_handlers((Flaky(),))
    port = g.add_insecure_port("127.0.0.1:0")
    g.start()
    try:
        px = mesh.proxy(routes=[config.route("/", retry_policy={"retry_on": "unavailable", "num_retries": 3})], hcm={"codec_type": "HTTP2"},
                        upstreams=[type("Up", (), {"name": "up", "port": port})], cluster={"http": HTTP2})
        with grpc.insecure_channel(f"127.0.0.1:{px.port}") as c:
            assert c.unary_unary("/t.S/Unary")(b"x") == b"served"
        assert tries == [b"x"] * 3 and px.stat("cluster.up.upstream_rq_retry") == 2
    finally:
        g.stop(0).wait()
