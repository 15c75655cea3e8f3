"""The process: start, refusal to start, signals, files, listeners (rows P1, P2, P5, L1, O2, H01, H02, H12)."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest

import config
from upstream import Reply
from wire import HOST, Client, free_port, until

stricter = pytest.mark.stricter


def run(binary, folder, text, *args, suffix="yaml"):
    """Runs the binary on a configuration that should end it; (exit code, standard error)."""
    path = folder / f"broken.{suffix}"
    path.write_text(text)
    r = subprocess.run([binary, "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "error", *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10, text=True)
    return r.returncode, r.stderr


def one_cluster(**fields):
    return json.dumps({"static_resources": {"clusters": [{"name": "c", "type": "STATIC", **fields}]}})


DEEP = "[" * 10000
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
# id, configuration, what the one line must name
BROKEN = [
    ("H01-unknown-field", one_cluster(connect_timeot="1s"), "connect_timeot"),
    ("H01-wrong-type", one_cluster(connect_timeout=[1]), "connect_timeout"),
    ("H01-negative", one_cluster(connect_timeout="-1s"), "connect_timeout"),
    ("H01-bad-enum", one_cluster(lb_policy="ROUND_ROBBIN"), "ROUND_ROBBIN"),
    ("H01-no-name", json.dumps({"static_resources": {"clusters": [{"type": "STATIC"}]}}), "name"),
    ("H01-nan", json.dumps({"static_resources": {"clusters": [{"name": "c", "common_lb_config": {"healthy_panic_threshold": {"value": "x"}}}]}}), "healthy_panic_threshold"),
    ("H02-not-yaml", "static_resources: [}", ""), ("H02-empty-key", "? \n", ""),
    ("H02-deep", "static_resources: " + DEEP, ""), ("H02-alias-bomb", BOMB, ""),
    ("H02-64-bit", one_cluster(per_connection_buffer_limit_bytes=2 ** 64), "per_connection_buffer_limit_bytes"),
]


@pytest.mark.parametrize("text,name", [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_bootstrap(proxy_binary, is_envoy, tmp_path, text, name):
    if is_envoy and text == BOMB:
        pytest.skip("an Envoy is busy with it for minutes")
    for args in ((), ("--mode", "validate")):
        code, err = run(proxy_binary, tmp_path, text, *args)
        assert code == 1, err
        assert is_envoy or name in err
        if not is_envoy:
            assert len(err.strip().splitlines()) == 1, err


def test_no_such_file(proxy_binary, tmp_path):
    r = subprocess.run([proxy_binary, "-c", str(tmp_path / "none.yaml"), "--disable-hot-restart"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10, text=True)
    assert r.returncode == 1 and "none.yaml" in r.stderr


def test_port_clash(proxy_binary, mesh, tmp_path):  # P2: an error at startup, nothing half started
    mesh.upstream()
    with socket.create_server((HOST, 0)) as holder:
        taken, admin = holder.getsockname()[1], free_port()
        boot = config.bootstrap([config.listener(taken, [config.hcm([config.route()])])], [config.cluster("up", [mesh.upstreams[0].port])], admin)
        p = mesh.proxy(boot=boot, ready=False)
        assert p.process.wait(10) == 1
        assert str(taken) in p.log() and "in use" in p.log().lower()


def test_sigterm_loses_no_accepted_request(mesh, is_envoy):  # P5
    if is_envoy:
        pytest.skip("Envoy ends at once on SIGTERM")
    hold, n = threading.Event(), 20
    up = mesh.upstream(script=[Reply(200, b"whole").held(hold)])
    px = mesh.proxy()
    clients = [px.client(timeout=15) for _ in range(n)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: len(up.requests) == n, what="all requests at the upstream")
    px.signal(signal.SIGTERM)

    def refused():
        try:
            px.client(timeout=0.05).close()  # a handshake that is not answered counts as refused
            return False
        except OSError:
            return True
    until(refused, 10, "the listener to close")
    hold.set()
    for c in clients:
        r = c.response()
        assert r.status == 200 and r.body == b"whole" and r.get("connection") == "close"
        assert c.ended() == "eof"
    assert px.process.wait(15) == 0


def test_sigterm_under_load(mesh, is_envoy):  # P5: each request that was answered was answered whole; then connections end
    if is_envoy:
        pytest.skip("Envoy ends at once on SIGTERM")
    mesh.upstream()
    px = mesh.proxy(concurrency=2)
    wrong, resets, done = [], [], threading.Event()

    def worker():
        while not done.is_set():
            try:
                c = px.client()
            except OSError:
                return  # nothing accepted, nothing lost
            with c:
                first = True
                while True:
                    try:
                        r = c.get("/")
                    except EOFError:
                        # Between two requests a close may cross the next one. A first request is answered, unless the
                        # kernel still held the connection in the backlog of the listener that went: that is a reset.
                        if first and c.stream.ended == "eof":
                            wrong.append("a first request was not answered")
                        resets.append(first)
                        break
                    if r.status != 200 or r.body != b"ok":
                        wrong.append(repr(r))
                    if r.get("connection") == "close":
                        break
                    first = False
    threads = [threading.Thread(target=worker) for _ in range(8)]
    for t in threads:
        t.start()
    until(lambda: px.stat("http.in.downstream_rq_2xx") > 300, 20, "some load")
    px.signal(signal.SIGTERM)
    code = px.process.wait(30)
    done.set()
    for t in threads:
        t.join(10)
    assert code == 0 and wrong == [] and sum(resets) <= len(threads)


def test_sigterm_with_idle_connections(mesh, is_envoy):  # P5: nothing is in flight, nothing is waited for
    mesh.upstream()
    took = []
    for i in range(3):
        px = mesh.proxy(name=f"proxy{i}")
        clients = [px.client() for _ in range(5)]
        for c in clients:
            assert c.get("/").status == 200
        began = time.monotonic()
        px.signal(signal.SIGTERM)
        assert px.process.wait(15) == 0
        took.append(time.monotonic() - began)
        for c in clients:
            assert c.ended() in ("eof", "reset") if is_envoy else c.ended() == "eof"
            c.close()
    assert min(took) < 0.3, took  # what is in flight has 0.4 s


def test_sigterm_storm(mesh):  # H12
    mesh.upstream()
    px = mesh.proxy()
    for _ in range(20):
        px.signal(signal.SIGTERM)
    assert px.process.wait(15) in (0, -signal.SIGTERM)


def test_second_sigterm_cuts(mesh, is_envoy):  # H12, P5: requests in flight have their time, unless somebody insists
    if is_envoy:
        pytest.skip("Envoy ends at once on SIGTERM")
    took = []
    for i in range(3):
        up = mesh.upstream(script=[Reply().held(threading.Event())], name=f"up{i}")
        px = mesh.proxy(upstreams=[up], name=f"proxy{i}")
        c = px.client()
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: up.requests, what="the request at the upstream")
        px.signal(signal.SIGTERM)
        until(lambda: "caught ENVOY_SIGTERM" in px.log())
        assert px.process.poll() is None
        began = time.monotonic()
        px.signal(signal.SIGTERM)
        assert c.ended(5) in ("eof", "reset")
        took.append(time.monotonic() - began)
        c.close()
        assert px.process.wait(15) == 0
    assert min(took) < 0.3, took  # the time would be 0.4 s


def test_sigterm_storm_under_load(mesh):  # H12: signals at any moment of a start, of traffic, of an end
    mesh.upstream()
    for i in range(5):
        px = mesh.proxy(name=f"proxy{i}", concurrency=2)
        clients = [px.client() for _ in range(10)]
        for c in clients:
            c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        for _ in range(10 * i):
            px.signal(signal.SIGHUP)
            px.signal(signal.SIGUSR1)
        for _ in range(1 + 10 * i):
            px.signal(signal.SIGTERM)
            px.signal(signal.SIGINT)
        assert px.process.wait(15) == 0
        for c in clients:
            c.close()


def test_sigterm_before_ready(mesh):  # H12: while clusters or workers are not there yet
    mesh.upstream()
    for i in range(10):
        px = mesh.proxy(name=f"proxy{i}", concurrency=2, ready=False)
        until(lambda: "initializing epoch" in px.log() or px.process.poll() is not None)
        time.sleep(0.001 * i)  # another moment of the start each time
        px.signal(signal.SIGTERM)
        assert px.process.wait(15) in (0, -signal.SIGTERM)


def test_sigpipe_and_sighup_do_not_kill(mesh):  # H12
    mesh.upstream()
    px = mesh.proxy()
    for s in (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1):
        px.signal(s)
        assert px.get("/").status == 200


def test_quitquitquit(mesh):  # P5
    mesh.upstream()
    px = mesh.proxy()
    assert px.admin("/quitquitquit")[0] == 405
    assert px.admin("/quitquitquit", "POST")[0] == 200
    assert px.process.wait(15) == 0


def test_disk_full_for_the_access_log(mesh):  # O2: requests go on, the loss is counted
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    up = mesh.upstream()
    manager = config.hcm([config.route()], log=config.access_log("/dev/full"))
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("up", [up.port])], free_port()))
    with px.client() as c:
        for _ in range(50):
            assert c.get("/").status == 200
    px.wait_stat("filesystem.write_failed")


def test_access_log_reopened(mesh):  # O2: moved away by logrotate
    mesh.upstream()
    px = mesh.proxy()
    assert px.get("/before").status == 200
    px.access_log(1)
    moved = px.access_path.with_suffix(".1")
    px.access_path.rename(moved)
    assert px.admin("/reopen_logs", "POST")[0] == 200
    assert px.get("/after").status == 200
    until(lambda: px.access_path.exists() and "/after" in px.access_path.read_text(), what="the new file")
    assert "/before" in moved.read_text() and "/after" not in moved.read_text()


def test_unix_socket_listener(mesh):  # L1
    up = mesh.upstream()
    path = str(mesh.folder / "front.sock")
    px = mesh.proxy(boot=config.bootstrap([config.listener(path, [config.hcm([config.route()])])], [config.cluster("up", [up.port])], free_port()))
    with Client(path) as c:
        assert c.get("/through-a-file").status == 200
    assert up.requests[0].target == "/through-a-file"
    px.stop()


def test_additional_addresses(mesh):  # L1
    up = mesh.upstream()
    second = free_port()
    px = mesh.proxy(listener={"additional_addresses": [{"address": config.address(second)}]})
    assert px.get("/1").status == 200
    with px.client(second) as c:
        assert c.get("/2").status == 200
    assert [r.target for r in up.requests] == ["/1", "/2"]


@pytest.mark.parametrize("name,counter", [("envoy.resource_limits.listener.main.connection_limit", "downstream_cx_overflow"),
                                          ("overload.global_downstream_max_connections", "downstream_global_cx_overflow")], ids=["listener", "global"])
def test_e09_connection_limit(mesh, name, counter):  # above the limit refused at once, old ones served
    up = mesh.upstream()
    boot = config.bootstrap([config.listener(free_port(), [config.hcm([config.route()])])], [config.cluster("up", [up.port])], free_port(),
                            layered_runtime={"layers": [{"name": "static", "static_layer": {name: 3}}]})
    px = mesh.proxy(boot=boot)
    with px.client() as a, px.client() as b, px.client() as c:
        for x in (a, b, c):
            assert x.get("/").status == 200
        with px.client() as extra:
            assert extra.ended(3) in ("eof", "reset")
        assert a.get("/").status == 200
        assert px.stat("listener.127.0.0.1_%d.%s" % (px.port, counter)) == 1
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, what="the old ones to end")
    with px.client() as again:
        assert again.get("/").status == 200


def test_workers_share_one_port(mesh):  # P2
    mesh.upstream()
    for reuse in (True, False):
        px = mesh.proxy(concurrency=2, listener={"enable_reuse_port": reuse}, name=f"reuse-{reuse}")
        clients = [px.client() for _ in range(32)]
        assert all(c.get("/").status == 200 for c in clients)
        for c in clients:
            c.close()
        px.stop()


@stricter
def test_nothing_is_left_open(mesh):
    """After traffic and errors the process holds the descriptors that it had before."""
    up = mesh.upstream()
    px = mesh.proxy()
    px.get("/")

    def descriptors():
        return len(list(pathlib.Path(f"/proc/{px.process.pid}/fd").iterdir()))
    before = descriptors()
    for i in range(50):
        with px.client() as c:
            c.send("GET / HTTP/1.1\r\nHost: a\r\n" + ("\r\n" if i % 2 else "broken\r\n\r\n"))
            c.response()
    until(lambda: descriptors() <= before + 1, 10, "descriptors to be closed")
    assert up.errors == []
