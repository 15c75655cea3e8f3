"""Draining (P5): what connections and requests see while a listener goes."""
import threading

import pytest

from upstream import Raw, Reply
from wire import until

FAST = {"drain_timeout": "0.4s"}


def listener_is_shut(px):
    try:
        px.client(timeout=0.1).close()  # a handshake that is not answered counts as refused
        return False
    except OSError:
        return True


@pytest.mark.parametrize("strategy", ["immediate", "gradual"])
def test_answers_say_close_and_the_connection_stays_until_drain_timeout(mesh, strategy):
    mesh.upstream()
    px = mesh.proxy(hcm={"drain_timeout": "1s"}, args=("--drain-time-s", "1", "--drain-strategy", strategy))
    with px.client() as c:
        assert c.get("/1").get("connection") is None
        assert px.admin("/drain_listeners?graceful", "POST")[0] == 200
        said = until(lambda: c.get("/2").get("connection") == "close", what="an answer that says close")
        again = c.get("/3")  # the client may be slow to obey
        assert said and again.status == 200 and again.get("connection") == "close"
        assert c.ended(5) == "eof"
    px.wait_stat("listener_manager.listener_stopped")
    assert px.stat("http.in.downstream_cx_drain_close") == 1


def test_idle_connections_end_by_drain(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm=FAST, args=("--drain-time-s", "1", "--drain-strategy", "immediate"))
    clients = [px.client() for _ in range(10)]
    for c in clients[:8]:
        assert c.get("/").status == 200  # the last two never sent a byte
    px.admin("/drain_listeners?graceful", "POST")
    assert [c.ended(5) for c in clients] == ["eof"] * 10
    assert px.stat("http.in.downstream_cx_drain_close") == 10
    for c in clients:
        c.close()
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, what="the connections to end")


def test_a_request_is_finished_whatever_the_drain_timeout(mesh):
    hold = threading.Event()
    up = mesh.upstream(script=[Reply(200, b"whole").held(hold), Reply()])
    px = mesh.proxy(hcm={"drain_timeout": "0.1s"}, args=("--drain-time-s", "1", "--drain-strategy", "immediate"))
    with px.client() as c:
        c.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: up.requests, what="the request at the upstream")
        px.admin("/drain_listeners?graceful", "POST")
        px.wait_stat("listener_manager.listener_stopped")
        hold.set()
        r = c.response()
        assert r.status == 200 and r.body == b"whole" and r.get("connection") == "close"
        assert c.ended(5) == "eof"


def test_healthcheck_fail_says_close_and_ok_takes_it_back(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm=FAST)
    with px.client() as c:
        assert c.get("/").get("connection") is None
        assert px.admin("/healthcheck/fail", "POST")[0] == 200
        assert px.admin("/ready")[0] == 503
        assert c.get("/").get("connection") == "close"
        assert c.ended(5) == "eof"
    with px.client() as c:  # new connections are still taken
        r = c.get("/")
        assert r.status == 200 and r.get("connection") == "close"
    assert px.admin("/healthcheck/ok", "POST")[0] == 200
    with px.client() as c:
        assert c.get("/").get("connection") is None and c.get("/").get("connection") is None


def test_drain_listeners_at_once_leaves_connections_alone(mesh):
    mesh.upstream()
    px = mesh.proxy()
    with px.client() as c:
        c.get("/")
        px.admin("/drain_listeners", "POST")
        until(lambda: listener_is_shut(px), what="the listener to close")
        r = c.get("/")
        assert r.status == 200 and r.get("connection") is None
    assert px.process.poll() is None


def test_a_client_that_obeys_loses_nothing(mesh):
    """Under load: who connects anew when told so gets an answer to each request until the listener refuses it."""
    mesh.upstream()
    px = mesh.proxy(concurrency=2, hcm={"drain_timeout": "3s"}, args=("--drain-time-s", "1", "--drain-strategy", "immediate"))
    wrong, told = [], []

    def worker():
        while True:
            try:
                c = px.client(timeout=5)
            except OSError:
                return
            with c:
                while True:
                    try:
                        r = c.get("/")
                    except (EOFError, TimeoutError) as e:
                        wrong.append(repr(e))
                        return
                    if r.status != 200 or r.body != b"ok":
                        wrong.append(repr(r))
                    if r.get("connection") == "close":
                        told.append(1)
                        break
    threads = [threading.Thread(target=worker) for _ in range(8)]
    for t in threads:
        t.start()
    until(lambda: px.stat("http.in.downstream_rq_2xx") > 300, 20, "some load")
    px.admin("/drain_listeners?graceful", "POST")
    for t in threads:
        t.join(20)
    assert not any(t.is_alive() for t in threads) and wrong == [] and len(told) >= 8


def test_an_upgraded_connection_is_not_cut_by_a_drain(mesh):
    hello = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    mesh.upstream(script=[Raw(hello, close=False)])
    px = mesh.proxy(hcm={"drain_timeout": "0.1s", "upgrade_configs": [{"upgrade_type": "websocket"}]},
                    args=("--drain-time-s", "1", "--drain-strategy", "immediate"))
    with px.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert c.response().status == 101
        assert c.stream.exactly(5, 5) == b"hello"
        px.admin("/drain_listeners?graceful", "POST")
        px.wait_stat("listener_manager.listener_stopped")
        assert c.ended(0.2) == "open"
