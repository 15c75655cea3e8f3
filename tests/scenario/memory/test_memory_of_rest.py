"""What an idle proxy, an idle connection and a large configuration cost: bounds of twice the goals (issue 3, speed and memory)."""
import re
import socket

import pytest

import config
from h2_client import H2Client
from wire import HOST, free_port, until

pytestmark = pytest.mark.stricter
SMALL = "GET / HTTP/1.1\r\nHost: svc-7.test\r\n\r\n"


def private_kib(px):
    """(anonymous, resident) memory of the process."""
    with open(f"/proc/{px.process.pid}/smaps_rollup", encoding="ascii") as f:
        found = dict(re.findall(r"^(Anonymous|Rss): +(\d+) kB", f.read(), re.M))
    return int(found["Anonymous"]), int(found["Rss"])


@pytest.fixture(autouse=True)
def plain_build(mesh):
    with open(mesh.binary, "rb") as f:
        if b"__asan_init" in f.read():
            pytest.skip("sanitizers have memory of their own")


def test_idle(mesh):
    mesh.upstream()
    px = mesh.proxy()
    assert px.get("/").status == 200
    anonymous, resident = private_kib(px)
    assert anonymous < 2 * 2048 and resident < 2 * 6144, (anonymous, resident)


def test_idle_connections(mesh):
    px = mesh.proxy(upstreams=[], routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    assert px.get("/").status == 200
    before = private_kib(px)[0]
    held = []
    for _ in range(1000):
        s = socket.create_connection((HOST, px.port), timeout=5)
        s.sendall(SMALL.encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        held.append(s)
    each = (private_kib(px)[0] - before) * 1024 / len(held)
    for s in held:
        s.close()
    assert each < 1280, f"{each:.0f} bytes for an idle connection"
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 20, "the connections to end")


def test_idle_http2_connections(mesh):
    """nghttp2's session alone is 9 KiB; after two seconds without a stream it is packed."""
    px = mesh.proxy(upstreams=[], routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    with H2Client(px.port) as c:
        c.request(1)
        assert c.answer(1)[0] == 200
    before = private_kib(px)[0]
    held = [H2Client(px.port) for _ in range(1000)]
    for c in held:
        c.request(1)
    for c in held:
        assert c.answer(1)[0] == 200
    until(lambda: (private_kib(px)[0] - before) * 1024 / len(held) < 6144, 20, "HTTP/2 connections to rest in less than 6 KiB")
    for c in held:
        c.sock.close()
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 20, "the connections to end")


def test_five_thousand_clusters(mesh):
    up = mesh.upstream()
    names = [f"outbound|80||svc-{i}.test" for i in range(5000)]
    hosts = [{"name": f"v{i}", "domains": [f"svc-{i}.test", f"svc-{i}.test:80"], "routes": [config.route("/", name)]}
             for i, name in enumerate(names)]
    manager = config.hcm([])
    manager["typed_config"]["route_config"] = {"name": "all", "virtual_hosts": hosts}
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])],
                                          [config.cluster(name, [up.port]) for name in names], free_port()))
    with px.client() as c:
        c.send(SMALL)
        c.stream.until(b"\r\n\r\n", 5)
    anonymous, _ = private_kib(px)
    assert px.stat("cluster.outbound|80||svc-7.test.upstream_rq_total") == 1
    assert anonymous < 12288, f"{anonymous} KiB"
