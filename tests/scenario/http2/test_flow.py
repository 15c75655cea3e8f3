"""Windows and watermarks (rows H2, H7, E; D08): a slow reader costs a bounded amount and stops nobody else."""
import pytest

import config
from evidence import told
from h2_client import GET, POST, H2Client, frame
from h2_upstream import DATA, END_STREAM
from upstream import Endless, Raw, Reply, Silent
from wire import until

MIB = 1 << 20


def test_d08_zero_window(mesh, is_envoy):
    """100 streams for 10 MB each by a client that grants nothing."""
    up = mesh.upstream(script=[Endless(10 * MIB)])
    px = mesh.proxy(hcm={"stream_idle_timeout": "1s"}, listener={"per_connection_buffer_limit_bytes": 32768},
                    cluster={"per_connection_buffer_limit_bytes": 32768})
    before = px.memory_kib()
    evidence = told(px, "stream_idle_timeout", "SI", 200, {"http.in.downstream_rq_idle_timeout": None if is_envoy else 100}, timeout=10)
    with evidence, H2Client(px.port, settings={4: 0}) as c:
        for i in range(100):
            c.request(2 * i + 1)
        c.wait(lambda: len(c.headers) == 100)
        assert px.grown_kib(before) < 100 * 512
        c.wait(lambda: all(c.rst(2 * i + 1) is not None for i in range(100)), 10)
        assert not c.bodies
    until(lambda: px.stat("http.in.downstream_rq_active") == 0, 5)
    assert len(up.requests) <= 100


def test_an_answer_that_is_whole_waits_for_the_window_so_long(mesh):
    mesh.upstream(script=[Reply(body=b"x" * 1000)])
    px = mesh.proxy(hcm={"stream_idle_timeout": "0.5s"})
    with H2Client(px.port, settings={4: 10}) as c:
        c.request(1)
        c.wait(lambda: c.rst(1) is not None, 5)
        assert c.bodies[1] == b"x" * 10
    assert px.stat("http2.tx_flush_timeout") == 1


def test_a_slow_stream_stops_no_other(mesh):
    mesh.upstream(script=[Endless(4 * MIB), Reply(body=b"quick")])
    px = mesh.proxy()
    with H2Client(px.port, settings={4: 65535}) as c:
        c.grant(0, 64 * MIB)
        c.request(1)
        c.wait(lambda: len(c.bodies.get(1, b"")) == 65535)
        c.request(3)
        assert c.answer(3)[2] == b"quick"
        while len(c.bodies[1]) < 4 * MIB:  # and then it gets its own
            had = len(c.bodies[1])
            c.grant(1, 65535)
            c.wait(lambda: len(c.bodies[1]) >= min(had + 65535, 4 * MIB))
        c.wait(lambda: c.ended(1))


def test_a_request_nobody_reads_stops_no_other(mesh):
    """Its own window closes; the connection's does not."""
    up = mesh.upstream(script=[Silent(), Reply(body=b"quick")])

    class Deaf(Silent):
        def act(self, stream, request):
            self.wait.wait(20)
            return False
    import threading
    deaf = Deaf()
    deaf.wait = threading.Event()
    up.script = [deaf, Reply(body=b"quick")]
    px = mesh.proxy(hcm={"http2_protocol_options": {"initial_stream_window_size": 65535, "initial_connection_window_size": 131072}},
                    listener={"per_connection_buffer_limit_bytes": 16384}, cluster={"per_connection_buffer_limit_bytes": 16384})
    with H2Client(px.port) as c:
        c.request(1, POST, b"x" * 16384, end=False)
        until(lambda: up.requests, 5)
        sent = 16384
        while sent < 8 * MIB:
            windows = sum(int.from_bytes(p, "big") for k, _, s, p in c.frames if k == 8 and s == 1) + 65535
            if windows - sent < 16384:
                c._take(0.2)
                if sum(int.from_bytes(p, "big") for k, _, s, p in c.frames if k == 8 and s == 1) + 65535 == windows:
                    break
                continue
            c.send(frame(DATA, 0, 1, b"x" * 16384))
            sent += 16384
        assert sent < 8 * MIB  # its window closed once the sockets were full
        for k in range(20):
            c.request(3 + 2 * k, POST, b"y" * 10000)
            assert c.answer(3 + 2 * k)[2] == b"quick"
        deaf.wait.set()


@pytest.mark.parametrize("kind", ["direct", "overflow", "upstream"])
def test_d08_a_short_answer_that_nobody_takes(mesh, kind):
    """Also one that is whole before the frames that asked for it are read to their end."""
    mesh.upstream(script=[Reply(body=b"x" * 1000)])
    answer = {"direct": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "a body"}}}]}.get(kind)
    px = mesh.proxy(routes=answer, hcm={"stream_idle_timeout": "0.5s"},
                    cluster={"circuit_breakers": {"thresholds": [{"max_requests": 0, "max_pending_requests": 0}]}} if kind == "overflow" else None)
    with told(px, moved={"http2.tx_flush_timeout": 20}), H2Client(px.port, settings={4: 0}) as c:
        c.send(b"".join(c.head(2 * i + 1) for i in range(20)))
        c.wait(lambda: all(c.rst(2 * i + 1) is not None for i in range(20)))
        assert not c.bodies and len(c.headers) == 20
    until(lambda: px.stat("http2.streams_active") == 0)


def test_d08_trailers_behind_a_closed_window(mesh):
    mesh.upstream(script=[Raw(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 7\r\n\r\n", close=False)])
    px = mesh.proxy(hcm={"stream_idle_timeout": "0.5s"}, cluster={"http": {"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}})
    with H2Client(px.port, settings={4: 0}) as c:
        c.request(1)
        c.wait(lambda: c.ended(1) or c.rst(1) is not None)
    until(lambda: px.stat("http2.streams_active") == 0)
