"""tcp_proxy (L6): which cluster, how many attempts, what the client sees when there is no connection."""
import collections
import contextlib
import socket
import time

import config
import pytest
from tcp import ended
from wire import HOST, free_port, until


def why(px, dial):
    c = dial(px)
    ended(c)
    return px.access_log()[-1]


def test_attempts_are_counted(tcp, dial):
    px = tcp.start(clusters=[config.cluster("one", [free_port()])], cluster="one", max_connect_attempts=3)
    e = why(px, dial)
    assert (e["flags"], e["attempts"], e["why"]) == ("UF,URX", 3, "tcp_initializion_failure:0")
    assert e["fail"] == "delayed_connect_error:_Connection_refused"
    assert px.stat("cluster.one.upstream_cx_connect_fail") == 3 and px.stat("cluster.one.upstream_cx_connect_attempts_exceeded") == 1
    assert px.stat("cluster.one.upstream_cx_active") == 0


def test_another_host_is_tried(tcp, dial):
    server = tcp.server()
    px = tcp.start(clusters=[config.cluster("one", [free_port(), server.port])], cluster="one", max_connect_attempts=2)
    for _ in range(4):  # whichever comes first in the round
        c = dial(px)
        c.sock.sendall(b"x")
        u = server.accept()
        assert u.exactly(1, 5) == b"x"
        u.sock.close()
        assert ended(c) == "eof"
        c.sock.close()
    assert px.stat("cluster.one.upstream_cx_connect_fail") >= 1
    flags = {e["flags"] for e in px.access_log(4)}
    assert flags <= {"-", "UF"}


def test_backoff_between_attempts(tcp, dial):
    """Full jitter: only the upper bound is certain."""
    px = tcp.start(clusters=[config.cluster("one", [free_port()])], cluster="one", max_connect_attempts=4,
                   backoff_options={"base_interval": "0.1s", "max_interval": "0.2s"})
    start = time.monotonic()
    e = why(px, dial)
    assert e["attempts"] == 4 and time.monotonic() - start < 2


def test_connect_timeout(tcp, dial):
    server = tcp.server(backlog=0)
    with contextlib.ExitStack() as held:
        for _ in range(3):  # the queue of the kernel is full: further handshakes are not answered
            s = held.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex((HOST, server.port))
        px = tcp.start(per_cluster={"connect_timeout": "0.3s"})
        c = dial(px)
        c.sock.sendall(b"waiting")
        ended(c)
    e = px.access_log()[0]
    assert (e["flags"], e["rx"], e["attempts"]) == ("UF,URX", 0, 1)
    assert px.stat("cluster.one.upstream_cx_connect_timeout") == 1


@pytest.mark.stricter  # Envoy notices when the connection stands
def test_client_leaves_while_connecting(tcp, dial):
    server = tcp.server(backlog=0)
    with contextlib.ExitStack() as held:
        for _ in range(3):
            s = held.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex((HOST, server.port))
        px = tcp.start(per_cluster={"connect_timeout": "20s"})
        c = dial(px)
        px.wait_stat("cluster.one.upstream_cx_active")
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.sock.close()
        until(lambda: px.stat("cluster.one.upstream_cx_active") == 0)
        assert px.stat("cluster.one.upstream_rq_pending_active") == 0
        assert px.access_log()[0]["flags"] == "-"


def test_connections_breaker(tcp, dial):
    server = tcp.server()
    px = tcp.start(per_cluster={"circuit_breakers": {"thresholds": [{"max_connections": 1}]}})
    held = dial(px)
    server.accept()
    e = why(px, dial)
    assert (e["flags"], e["why"], e["host"]) == ("UO", "tcp_initializion_failure:2", None)
    assert px.stat("cluster.one.upstream_cx_overflow") == 1
    held.sock.close()


def test_pending_breaker(tcp, dial):
    tcp.server()
    px = tcp.start(per_cluster={"circuit_breakers": {"thresholds": [{"max_pending_requests": 0}]}}, max_connect_attempts=3)
    e = why(px, dial)
    assert (e["flags"], e["attempts"], e["host"]) == ("URX", 3, None)
    assert px.stat("cluster.one.upstream_rq_pending_overflow") == 3


def test_no_cluster_and_no_host(tcp, dial):
    px = tcp.start(clusters=[config.cluster("empty", [])], cluster="missing")
    e = why(px, dial)
    assert (e["flags"], e["why"], e["cluster"]) == ("NC", "tcp_initializion_failure:3", None)
    assert px.stat("tcp.t.downstream_cx_no_route") == 1


def test_weights(tcp, dial):
    names = ["one", "two", "none"]
    servers = [tcp.server(n) for n in names[:2]]
    weighted = {"clusters": [{"name": "one", "weight": 1}, {"name": "two", "weight": 3}]}
    px = tcp.start(weighted_clusters=weighted)
    n = 200
    for _ in range(n):
        dial(px)
    until(lambda: sum(px.stat(f"cluster.{s.name}.upstream_cx_total") for s in servers) == n)
    got = {s.name: px.stat(f"cluster.{s.name}.upstream_cx_total") for s in servers}
    assert 20 <= got["one"] <= 85, got  # 50 expected; further away once in ten million runs


def test_bytes_wait_for_the_connection(tcp, dial):
    """What the client says before there is a connection is kept in order and arrives whole."""
    server = tcp.server()
    px = tcp.start()
    seen = collections.Counter()
    for i in range(20):
        c = dial(px)
        text = f"hello {i};".encode() * 1000
        c.sock.sendall(text)
        c.sock.shutdown(1)
        u = server.accept()
        while u.fill(5):
            pass
        assert u.ended == "eof"
        seen[u.buf] += 1
    assert len(seen) == 20


@pytest.mark.parametrize("fields,text", [
    ({"access_log_flush_interval": "1s", "access_log_options": {}}, "access_log_flush_interval"),
    ({"backoff_options": {"base_interval": "2s", "max_interval": "1s"}}, "max_backoff_interval must be greater"),
])
def test_refused_configuration(tcp, fields, text):
    tcp.server()
    with pytest.raises(AssertionError, match=text):
        tcp.start(**fields)


@pytest.mark.parametrize("lb_policy", ["RING_HASH", "MAGLEV"])
def test_hash_policy(tcp, lb_policy):  # L6
    """Connections of one source go to one host; those of many to several."""
    ports = [tcp.server(n).port for n in ("a", "b", "c", "d")]
    log = config.access_log(tcp.mesh.folder / "access.log", {"type": "%ACCESS_LOG_TYPE%", "from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "host": "%UPSTREAM_HOST%"})
    px = tcp.start(clusters=[config.cluster("one", ports, lb_policy=lb_policy)], cluster="one", hash_policy=[{"source_ip": {}}], logs=[log],
                   access_log_options={"flush_access_log_on_connected": True})
    sources = [f"127.0.1.{i}" for i in range(1, 17)]
    with contextlib.ExitStack() as held:
        for source in sources * 3:
            held.enter_context(socket.create_connection((HOST, px.port), 5, (source, 0)))
        entries = px.access_log(len(sources) * 3)
    to = collections.defaultdict(set)
    for e in entries:
        assert e["type"] == "TcpUpstreamConnected"
        to[e["from"]].add(e["host"])
    assert set(to) == set(sources) and all(len(hosts) == 1 for hosts in to.values()), to
    assert len(set.union(*to.values())) > 1
