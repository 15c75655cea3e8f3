"""tcp_proxy (L6): what passes between a client and one server, and how a session ends."""
import time

import pytest
from tcp import ended, pair
from wire import reset, until

END = "TcpConnectionEnd"


def test_half_close_of_the_client(tcp, dial):
    px, c, u = pair(tcp, dial)
    c.sock.shutdown(1)
    assert ended(u) == "eof"
    u.sock.sendall(b"late answer")
    u.sock.close()
    assert c.exactly(11, 5) == b"late answer" and ended(c) == "eof"
    e = px.access_log()[0]
    assert (e["flags"], e["rx"], e["tx"], e["type"], e["why"]) == ("-", 2, 11, END, None)


def test_half_close_of_the_server(tcp, dial):
    px, c, u = pair(tcp, dial)
    u.sock.sendall(b"all of it")
    u.sock.shutdown(1)
    assert c.exactly(9, 5) == b"all of it" and ended(c) == "eof"
    c.sock.sendall(b"still talking")
    assert u.exactly(13, 5) == b"still talking"
    c.sock.shutdown(1)
    assert ended(u) == "eof"
    assert px.access_log()[0]["rx"] == 15
    assert px.stat("cluster.one.upstream_cx_active") == 0 and px.stat("tcp.t.upstream_flush_active") == 0


def test_reset_by_the_server(tcp, dial):
    px, c, u = pair(tcp, dial)
    reset(u.sock)
    assert ended(c) == "reset"
    assert px.access_log()[0]["flags"] == "UR"


def test_reset_by_the_client(tcp, dial):
    px, c, u = pair(tcp, dial)
    reset(c.sock)
    assert ended(u) == "reset"
    e = px.access_log()[0]
    assert (e["flags"], e["why"]) == ("-", None)
    assert px.stat("cluster.one.upstream_cx_destroy_local") == 1
    assert px.stat("cluster.one.upstream_cx_active") == 0 and px.stat("cluster.one.upstream_rq_active") == 0


def test_client_closes_with_an_answer_unread(tcp, dial):
    px, c, u = pair(tcp, dial)
    u.sock.sendall(b"x" * 100000)
    until(lambda: px.stat("tcp.t.downstream_cx_tx_bytes_total") == 100000)
    c.sock.close()
    assert ended(u) == "reset"
    assert px.access_log()[0]["tx"] == 100000


def test_idle_timeout_counts_from_the_last_byte(tcp, dial):
    px, c, u = pair(tcp, dial, idle_timeout="0.3s")
    for i in range(4):
        c.sock.settimeout(0.15)
        with pytest.raises(TimeoutError):
            c.sock.recv(1)
        u.sock.sendall(b"x") if i % 2 else c.sock.sendall(b"x")
        (c if i % 2 else u).exactly(1, 5)
    assert px.stat("tcp.t.idle_timeout") == 0
    assert ended(c) == "eof" and ended(u) == "eof"
    e = px.access_log()[0]
    assert (e["flags"], e["why"]) == ("-", "tcp_session_idle_timeout")
    assert px.stat("tcp.t.idle_timeout") == 1


@pytest.mark.parametrize("first", ["client", "server"])
def test_d1_half_closed_session_is_bounded(tcp, dial, first):
    """One side ended, the other never does: the session is visible, and ends after the idle time."""
    px, c, u = pair(tcp, dial, idle_timeout="0.6s")
    a, b = (c, u) if first == "client" else (u, c)
    a.sock.shutdown(1)
    assert ended(b) == "eof"
    if px.stats("half_closed"):  # Envoy has no such gauge
        assert px.stat("tcp.t.downstream_cx_half_closed") == 1
    assert ended(a) == "eof"
    assert px.access_log()[0]["why"] == "tcp_session_idle_timeout"
    assert px.stat("tcp.t.idle_timeout") == 1 and px.stat("tcp.t.downstream_cx_half_closed") == 0
    assert px.stat("cluster.one.upstream_cx_active") == 0 and px.stat(f"listener.127.0.0.1_{px.port}.downstream_cx_active") == 0


def test_max_duration_with_jitter(tcp, dial):
    """At least the duration, at most the share more."""
    px, c, u = pair(tcp, dial, max_downstream_connection_duration="0.3s", max_downstream_connection_duration_jitter_percentage={"value": 100})
    begin = time.monotonic()
    others = [dial(px) for _ in range(8)]
    times = []
    for s in others:
        assert ended(s) == "eof"
        times.append(time.monotonic() - begin)
    assert min(times) >= 0.29 and max(times) < 1.5
    assert ended(c) == "eof"  # the first one may have the longest time
    assert px.stat("tcp.t.max_downstream_connection_duration") == 9


def test_old_field_of_the_log(tcp, dial):
    px, c, u = pair(tcp, dial, flush_access_log_on_connected=True)
    assert px.access_log()[0]["type"] == "TcpUpstreamConnected"


def test_max_duration(tcp, dial):
    px, c, u = pair(tcp, dial, max_downstream_connection_duration="0.3s")
    assert ended(c) == "eof" and ended(u) == "eof"
    e = px.access_log()[0]
    assert (e["flags"], e["why"]) == ("DT", "max_connection_duration_reached")
    assert px.stat("tcp.t.max_downstream_connection_duration") == 1


def test_access_log_while_it_lasts(tcp, dial):
    px, c, u = pair(tcp, dial, access_log_options={"flush_access_log_on_connected": True, "access_log_flush_interval": "0.1s"})
    px.access_log(3)
    c.sock.close()
    assert ended(u) == "eof"
    u.sock.close()
    entries = until(lambda: [e["type"] for e in px.access_log(0)] if px.access_log(0)[-1]["type"] == END else None)
    assert entries[0] == "TcpUpstreamConnected" and set(entries[1:-1]) == {"TcpPeriodic"}


def test_default_format(tcp, dial, mesh):
    server = tcp.server()
    px = tcp.start(logs=[{"name": "x", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": str(mesh.folder / "plain.log")}}])
    c = dial(px)
    c.sock.sendall(b"abc")
    u = server.accept()
    u.exactly(3, 5)
    c.sock.close()
    u.sock.close()
    path = mesh.folder / "plain.log"
    line = until(lambda: path.exists() and path.read_text())
    assert line[0] == "[" and line.split(" ", 1)[1].startswith('"- - -" 0 - 3 0 ') and line.rstrip().endswith(f'"127.0.0.1:{server.port}"')
