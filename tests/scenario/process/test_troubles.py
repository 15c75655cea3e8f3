"""Troubles that users of meshes report (spec: D5, D6, D7, D8), each with what they see. D1 stands in tcp/test_session.py."""
import socket
import time

import config
import pytest
from h2_upstream import H2Upstream
from netns import Plain, netns  # noqa: F401 (a fixture)
from upstream import Close, Reply
from wire import HOST, free_port, patient, until

BUFFER = config.ext("envoy.filters.http.buffer", "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=1000)
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
TCP_USER_TIMEOUT, TCP = 18, 6


def two_proxies(mesh, up, http=None, filters=()):
    """client - near - far - up, with HTTP/1 or what `http` says between the two."""
    far = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", up.name)], filters=list(filters))])],
                                           [config.cluster(up.name, [up.port])], free_port()), name="far")
    log = config.access_log(mesh.folder / "access.log")
    near = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "far")], log=log)])],
                                            [config.cluster("far", [far.port], http)], free_port()), name="near")
    return near, far


@pytest.mark.parametrize("http", [None, H2], ids=["http1", "http2"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_d5_413_reaches_a_client_that_still_sends(mesh, http, length):
    """The far proxy refuses while the near one and the client are still sending; the client reads the whole answer."""
    up = mesh.upstream()
    near, far = two_proxies(mesh, up, http, [BUFFER])
    for _ in range(5):
        with near.client(timeout=20) as c:
            c.send(b"POST / HTTP/1.1\r\nhost: a\r\n" + (b"content-length: 50000000\r\n\r\n" if length else b"transfer-encoding: chunked\r\n\r\n"))
            block = b"x" * 65536
            sent = 0
            try:
                while sent < 8 << 20:  # it does not look for an answer before it has to
                    c.send(block if length else b"10000\r\n" + block + b"\r\n")
                    sent += len(block)
                    if c.stream.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                        break
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            r = c.response("POST")
            assert r.status == 413 and r.body == b"Payload Too Large"
    assert not up.requests
    assert far.stat("http.in.downstream_rq_too_large") == 5


# ---- D6: a machine that is gone says nothing ----

def gone(netns, ip):  # noqa: F811
    for chain in ("INPUT -s", "OUTPUT -d"):
        netns.run(f"iptables -A {chain} {ip} -j DROP")


def node_proxy(mesh, nodes, **cluster):
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": n.listener.getsockname()[0], "port_value": n.port}}}} for n in nodes]
    c = config.cluster("nodes", [], **cluster)
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    log = config.access_log(mesh.folder / "access.log")
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "nodes", timeout="0s")], log=log)])], [c], free_port()))


class Kept(Plain):
    """As Plain, but its connections stay."""

    def _serve(self, stream):
        try:
            while True:
                stream.until(b"\r\n\r\n", 60)
                stream.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(self.name), self.name))
        except (EOFError, OSError):
            pass
        finally:
            stream.sock.close()


def test_d6_tcp_user_timeout_ends_a_request_to_a_node_that_is_gone(netns, mesh):  # noqa: F811
    """Without it the kernel repeats the request's bytes for a quarter of an hour. The wait is measured."""
    node = Kept("10.1.0.2", name="node")
    px = node_proxy(mesh, [node], upstream_bind_config={"socket_options": [{"level": TCP, "name": TCP_USER_TIMEOUT, "int_value": 1500}]},
                    outlier_detection={"consecutive_local_origin_failure": 1, "split_external_local_origin_errors": True, "consecutive_5xx": 0, "max_ejection_percent": 100,
                                       "base_ejection_time": "600s"})
    assert px.get("/").status == 200  # its connection stays
    gone(netns, "10.1.0.2")
    began = time.monotonic()
    r = px.client(timeout=patient(30)).get("/")
    took = time.monotonic() - began
    assert r.status == 503 and 1.0 < took < patient(10), took
    print(f"the node's silence cost {took:.1f} s")
    assert px.stat("cluster.nodes.upstream_cx_destroy_remote_with_active_rq") == 1
    assert px.access_log(2)[1]["flags"] == "UC"
    node.close()


def test_d6_keepalive_finds_idle_connections_to_a_node_that_is_gone(netns, mesh):  # noqa: F811
    """No request has to fail for it."""
    node = Kept("10.1.0.2", name="node")
    px = node_proxy(mesh, [node], upstream_connection_options={"tcp_keepalive": {"keepalive_probes": 2, "keepalive_time": 1, "keepalive_interval": 1}})
    assert px.get("/").status == 200
    assert px.stat("cluster.nodes.upstream_cx_active") == 1
    gone(netns, "10.1.0.2")
    until(lambda: px.stat("cluster.nodes.upstream_cx_active") == 0, 20, "the idle connection to end")
    assert px.stat("cluster.nodes.upstream_cx_destroy_remote") == 1 and px.stat("cluster.nodes.upstream_cx_destroy_with_active_rq") == 0
    node.close()


def test_d6_outlier_detection_bounds_what_a_gone_node_costs(netns, mesh):  # noqa: F811
    """Of two nodes one goes: a connect timeout or two, then every request goes to the other."""
    good, bad = Kept("10.1.0.2", name="good"), Kept("10.1.0.3", name="bad")
    px = node_proxy(mesh, [good, bad], connect_timeout="1s", max_requests_per_connection=1,
                    outlier_detection={"consecutive_local_origin_failure": 2, "split_external_local_origin_errors": True, "max_ejection_percent": 50,
                                       "base_ejection_time": "600s"})
    assert {px.get("/").body for _ in range(8)} == {b"good", b"bad"}
    gone(netns, "10.1.0.3")
    statuses = [px.client(timeout=patient(20)).get("/").status for _ in range(20)]
    assert statuses.count(503) == 2 and set(statuses[-10:]) == {200}, statuses
    assert px.stat("cluster.nodes.outlier_detection.ejections_enforced_consecutive_local_origin_failure") == 1
    assert px.stat("cluster.nodes.upstream_cx_connect_timeout") == 2
    for n in (good, bad):
        n.close()


# ---- D7: the other side is slow (readers: resources/test_memory.py, E05) ----

def test_d7_a_slow_writer_costs_what_it_has_sent(mesh):
    """500 clients that send a byte now and then: a few KiB for each, and the others are served meanwhile."""
    up = mesh.upstream()
    px = mesh.proxy(hcm={"request_timeout": "0s", "stream_idle_timeout": "0s"})
    assert px.get("/").status == 200
    before = px.memory_kib()
    clients = [px.client() for _ in range(500)]
    for c in clients:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n")
    px.wait_stat("http.in.downstream_rq_active", 500, timeout=20)
    for _ in range(3):
        for c in clients:
            c.send(b"x")
    px.wait_stat("cluster.up.upstream_cx_active", 500, timeout=20)
    grown = px.memory_kib() - before
    print("KiB for each", grown / 500)
    assert grown < 500 * 64, grown
    assert px.get("/").status == 200
    for c in clients:
        c.close()
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 20, "the connections to end")


# ---- D8: the server closes between requests ----

class Last(Reply):
    """The answer's end and the connection's come in one segment: no client can be between them."""

    def act(self, stream, request):
        stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        super().act(stream, request)
        return False


@pytest.mark.parametrize("script", [[Last()], [Last(headers=[("connection", "close")])], [Reply(), Last(), Reply()] * 50 + [Reply()]], ids=["at-once", "announced", "now-and-then"])
def test_d8_a_server_that_closes_between_requests_is_not_seen(mesh, script):
    """Every request of a client that waits for each answer is answered, though connections end under the pool's hands."""
    up = mesh.upstream(script=script)
    px = mesh.proxy()
    with px.client(timeout=20) as c:
        for i in range(100):
            assert c.get(f"/{i}").status == 200
    assert [r.start.split()[1] for r in up.requests] == [f"/{i}" for i in range(100)]
    assert px.stat("cluster.up.upstream_rq_200") == 100 and px.stat("cluster.up.upstream_cx_destroy_local_with_active_rq") == 0


def test_d8_a_kept_connection_that_dies_with_the_request_is_tried_again(mesh):
    """What was sent into a connection that the server just closed is safe to send again: retry_on reset-before-request."""
    up = mesh.upstream(script=[Reply(200), Close(), Reply(200), Close(), Reply(200)])
    px = mesh.proxy(routes=[config.route("/", "up", retry_policy={"retry_on": "reset-before-request,reset", "num_retries": 2})])
    with px.client(timeout=20) as c:
        assert [c.get("/").status for _ in range(3)] == [200, 200, 200]
    assert px.stat("cluster.up.upstream_rq_retry_success") == 2


def test_d8_goaway_between_requests(mesh):
    """An HTTP/2 server says GOAWAY with each answer: streams that it took are finished, the next go to a new connection."""
    def answer_and_go(conn, stream, request):
        conn.headers(stream, [(":status", "200")])
        conn.goaway(stream)
        conn.data(stream, b"whole")

    up = H2Upstream("up", [answer_and_go])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "up")])])], [config.cluster("up", [up.port], H2)], free_port()))
    with px.client(timeout=20) as c:
        for _ in range(20):
            r = c.get("/")
            assert r.status == 200 and r.body == b"whole"
    assert px.stat("cluster.up.upstream_cx_close_notify") == 20 and px.stat("cluster.up.upstream_rq_200") == 20
    up.close()
