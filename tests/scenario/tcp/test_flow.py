"""tcp_proxy (H7): who does not read stops who sends; memory stays."""
import select
import threading
import time

from tcp import ended, pair
from wire import reset, until

TOTAL = 96 << 20
SMALL = {"per_connection_buffer_limit_bytes": 32768}


class Sender:
    """Sends TOTAL bytes from a thread; `sent` counts what the kernel took."""

    def __init__(self, sock):
        self.sock, self.sent = sock, 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        block = b"f" * 65536
        self.sock.settimeout(60)
        try:
            while self.sent < TOTAL:
                self.sent += self.sock.send(block)
        except ConnectionError:
            pass  # the proxy was told to end

    def stalled(self):
        """Waits until nothing more is taken."""
        def same():
            before = self.sent
            self.thread.join(0.2)
            return before and before == self.sent
        until(same, 20, "the sender to be stopped")
        return self.sent


def slow(px, sender, reader):
    before = px.memory_kib()
    sent = sender.stalled()
    assert sent < TOTAL // 2, "nobody stopped the sender"
    assert px.grown_kib(before) < 4096
    got = 0
    while got < TOTAL:
        assert reader.fill(10)
        got += len(reader.buf)
        assert reader.buf.count(b"f") == len(reader.buf)
        reader.buf = b""
    assert px.grown_kib(before) < 8192
    sender.thread.join(10)


def test_slow_client(tcp, dial):
    px, c, u = pair(tcp, dial, per_cluster=SMALL, listener=SMALL)
    slow(px, Sender(u.sock), c)
    assert px.stat("cluster.one.upstream_flow_control_paused_reading_total") > 0
    until(lambda: px.stat("cluster.one.upstream_flow_control_resumed_reading_total") == px.stat("cluster.one.upstream_flow_control_paused_reading_total"))


def test_slow_server(tcp, dial):
    px, c, u = pair(tcp, dial, per_cluster=SMALL, listener=SMALL)
    slow(px, Sender(c.sock), u)
    assert px.stat("tcp.t.downstream_flow_control_paused_reading_total") > 0
    until(lambda: px.stat("tcp.t.downstream_flow_control_resumed_reading_total") == px.stat("tcp.t.downstream_flow_control_paused_reading_total"))


def test_what_was_sent_arrives_after_the_client_left(tcp, dial):
    px, c, u = pair(tcp, dial)
    n = 3 << 20
    threading.Thread(target=lambda: (c.sock.sendall(b"f" * n), c.sock.close()), daemon=True).start()
    got = 0
    u.sock.settimeout(10)
    while got < n:
        got += len(u.exactly(1, 10)) + len(u.buf)
        u.buf = b""
    assert got == n and ended(u) == "eof"
    u.sock.close()
    assert px.access_log()[0]["rx"] == n + 2


def test_client_that_never_reads_the_rest(tcp, dial):
    """The server ended; what is left for the client waits for it only as long as the idle timeout."""
    px, c, u = pair(tcp, dial, idle_timeout="1s")
    c.sock.shutdown(1)
    ended(u)
    u.sock.setblocking(False)

    def full():
        while select.select([], [u.sock], [], 0.3)[1]:  # nobody between here and the client takes any more
            u.sock.send(b"x" * 65536)
    full()
    u.sock.close()
    until(lambda: px.stat("tcp.t.idle_timeout") == 1, 5)
    assert px.stat("listener.127.0.0.1_%d.downstream_cx_active" % px.port) == 0


def test_exit_while_bytes_are_flushed(tcp, dial):
    """A worker ends with an upstream connection that outlived its client; sanitizers watch."""
    server = tcp.server(rcvbuf=4096)
    px = tcp.start(per_cluster={"per_connection_buffer_limit_bytes": 64 << 20})
    c = dial(px)
    c.sock.sendall(b"hi")
    u, sent = server.accept(), 2
    while px.stat("cluster.one.upstream_cx_tx_bytes_buffered") < 65536:
        c.sock.sendall(b"x" * 16384)  # one small piece after the other, more than the kernel takes: the rest waits in the proxy
        sent += 16384
        until(lambda: px.stat("tcp.t.downstream_cx_rx_bytes_total") == sent)
    u.sock.shutdown(1)
    c.sock.shutdown(1)
    px.wait_stat("tcp.t.upstream_flush_active")
    assert ended(c) == "eof" and px.stat("tcp.t.upstream_flush_total") == 1
    px.access_log(1)
    px.stop()
    assert px.process.returncode == 0


def test_bulk_between_small_messages(tcp, dial):
    """Bytes that the kernel moves by itself arrive in order, before and behind those that came through the buffers, and count alike."""
    px, c, u = pair(tcp, dial)
    total, block = 2, bytes(range(256)) * 4096
    for a, b in ((c, u), (u, c), (c, u)):
        for data in (b"begin", block * 20, b"end"):
            t = threading.Thread(target=a.sock.sendall, args=(data,), daemon=True)
            t.start()
            assert b.exactly(len(data), 20) == data
            t.join(5)
            total += len(data)
    c.sock.shutdown(1)
    assert ended(u) == "eof"
    u.sock.close()
    assert ended(c) == "eof"
    e = px.access_log()[0]
    one = len(block) * 20 + 8
    assert (e["rx"], e["tx"], e["flags"]) == (2 * one + 2, one, "-") and total == 3 * one + 2
    assert (px.stat("tcp.t.downstream_cx_rx_bytes_total"), px.stat("tcp.t.downstream_cx_tx_bytes_total")) == (2 * one + 2, one)
    assert (px.stat("cluster.one.upstream_cx_tx_bytes_total"), px.stat("cluster.one.upstream_cx_rx_bytes_total")) == (2 * one + 2, one)
    assert px.stat("cluster.one.upstream_cx_tx_bytes_buffered") == px.stat("tcp.t.downstream_cx_tx_bytes_buffered") == 0


def test_idle_timeout_does_not_end_bulk(tcp, dial):
    """What the kernel moves is activity."""
    px, c, u = pair(tcp, dial, idle_timeout="0.4s")
    begin, got = time.monotonic(), 0
    sender = Sender(u.sock)
    while got < TOTAL and time.monotonic() < begin + 1.2:
        assert c.fill(10)
        got += len(c.buf)
        c.buf = b""
    assert px.stat("tcp.t.idle_timeout") == 0 and sender.sent > 0


def test_client_resets_amid_bulk(tcp, dial):
    px, c, u = pair(tcp, dial)
    sender = Sender(u.sock)
    while sender.sent < 8 << 20:
        assert c.fill(10)
        c.buf = b""
    reset(c.sock)
    until(lambda: not sender.thread.is_alive(), 10, "the sender to notice")
    until(lambda: px.stat("cluster.one.upstream_cx_active") == 0)
    assert px.stat("cluster.one.upstream_rq_active") == 0
