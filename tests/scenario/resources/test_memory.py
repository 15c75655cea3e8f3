"""Memory stays bounded: slow readers, endless answers, floods of connections, many requests (rows H7, E05, E06, E09)."""
import resource
import shutil
import socket
import ssl
import subprocess

import pytest

import config
from evidence import PROTOCOL_ERROR, VIA_UPSTREAM, told
from h2_client import H2Client
from pki import Pki
from upstream import Silent
from wire import HOST, Client, free_port, reset, until

BIG = "/bytes/30000000"


def sample_proxy(mesh, preexec=None, listener=None, **hcm):
    """A proxy in front of the sample server."""
    port = mesh.sample_server()
    manager = config.hcm([config.route("/", "sample", timeout="0s")], log=config.access_log(mesh.folder / "access.log"), **hcm)
    limits = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}
    boot = config.bootstrap([config.listener(free_port(), [manager], **(listener or {}))],
                            [config.cluster("sample", [port], circuit_breakers=limits, connect_timeout="30s")], free_port())
    return mesh.proxy(boot=boot, preexec=preexec)


def http1_readers(px):
    for _ in range(1000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect((HOST, px.port))
        s.sendall(f"GET {BIG} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        yield s


def http2_readers(px, streams, settings):
    """1,000 streams over so many connections, whose windows are wide open or stay at the 64 KiB of the beginning."""
    get = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", BIG)]
    for _ in range(1000 // streams):
        c = H2Client(px.port, settings=settings)
        if settings:
            c.grant(0, 2**31 - 1 - 65535)
        c.send(b"".join(c.head(2 * i + 1, get) for i in range(streams)))
        yield c.sock


READERS = {
    "http1": http1_readers, "http2-connections": lambda px: http2_readers(px, 1, {4: 2**31 - 1}),
    "http2-streams": lambda px: http2_readers(px, 100, {4: 2**31 - 1}), "http2-windows": lambda px: http2_readers(px, 100, {}),
}


@pytest.mark.stricter
@pytest.mark.parametrize("readers", READERS.values(), ids=READERS)
def test_e05_thousand_slow_readers(mesh, readers):  # D7: 30 MB for each
    px = sample_proxy(mesh, listener={"per_connection_buffer_limit_bytes": 32768})
    before = px.memory_kib()
    with told(px, "downstream_remote_disconnect", "DC", None, {"http.in.downstream_rq_rx_reset": 1000}, timeout=20):  # who got a head has its code
        clients = list(readers(px))
        px.wait_stat("cluster.sample.upstream_cx_active", 1000, timeout=30)
        px.wait_stat("cluster.sample.upstream_flow_control_paused_reading_total", 1000, timeout=30)
        grown = px.memory_kib() - before
        print("KiB for each", grown / 1000)
        assert grown < 1000 * 160, f"{grown} KiB for 1,000 slow readers"  # two watermarks of 32 KiB and what a connection costs
        for s in clients:
            s.close()
        until(lambda: px.stat("http.in.downstream_cx_active") == 0, 20, "the connections to end")
    assert px.get("/").status == 200


def test_20000_requests_opened_and_reset(mesh):  # of HTTP/1; http2/test_d_floods.py D01 has the streams of HTTP/2
    """Each is given up with its connection before its answer, after it was sent on; nothing of them stays."""
    mesh.upstream(script=[Silent()])
    px = mesh.proxy(cluster={"circuit_breakers": {"thresholds": [{"max_connections": 64, "max_pending_requests": 64}]}})

    def give_up(n):
        for _ in range(n):
            c = px.client()
            c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            reset(c.sock)
        until(lambda: px.stat("http.in.downstream_cx_active") == px.stat("cluster.up.upstream_rq_active") == 0, 30, "requests to end")
    give_up(1000)
    before, total = px.memory_kib(), px.stat("http.in.downstream_rq_total")
    with told(px, moved={"http.in.downstream_cx_total": 20000, "http.in.downstream_cx_destroy_remote": 20000, PROTOCOL_ERROR: 0}):
        give_up(20000)
    grown = px.grown_kib(before)
    print("KiB", grown)
    assert grown < 512 and px.stat("http.in.downstream_rq_active") == 0
    log = px.access_log(px.stat("http.in.downstream_rq_total"))[total:]
    assert len(log) > 10000 and {(e["code"], e["flags"], e["details"]) for e in log} == {(0, "DC", "downstream_remote_disconnect")}


@pytest.mark.parametrize("size", [1_000_000_000, pytest.param(30_000_000_000, marks=pytest.mark.long)])
def test_e06_endless_answer_at_constant_memory(mesh, size):
    px = sample_proxy(mesh)
    px.get("/bytes/1000000")
    before = px.memory_kib()
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.sample.upstream_rq_200": 1}), px.client(timeout=30) as c:
        c.send(f"GET /bytes/{size} HTTP/1.1\r\nHost: a\r\n\r\n")
        c.stream.until(b"\r\n\r\n", 5)
        left, peak, count = size - len(c.stream.buf), 0, 0
        while left:
            left -= len(c.sock.recv(min(left, 1 << 20)))
            count += 1
            if count % 200 == 0:
                peak = max(peak, px.memory_kib())
    assert peak - before < 4096


@pytest.mark.stricter
def test_e09_descriptors_exhausted(mesh):  # no spin, recovers
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    px = sample_proxy(mesh, preexec=few)
    with px.client() as old, told(px, VIA_UPSTREAM, "-", 200, {f"listener.{HOST}_{px.port}.accept_paused": None}):
        assert old.get("/").status == 200
        flood = [socket.create_connection((HOST, px.port)) for _ in range(200)]
        spent = px.cpu_seconds()
        assert old.get("/").status == 200  # an old connection is served on
        with pytest.raises(TimeoutError):  # the flood is not, and costs nothing while it waits
            flood[-1].settimeout(1)
            flood[-1].recv(1)
        assert px.cpu_seconds() - spent < 0.6
        for s in flood:
            s.close()
        until(lambda: answers(px), 10, "an answer after the flood")


def answers(px):
    try:
        return px.get("/", timeout=1).status == 200
    except (OSError, EOFError):
        return False


def load(px, requests):
    """`requests` keep-alive requests over 16 connections; h2load where it is installed."""
    if shutil.which("h2load"):
        out = subprocess.run(["h2load", "--h1", "-n", str(requests), "-c", "16", f"http://{HOST}:{px.port}/"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
        assert f"{requests} succeeded, 0 failed" in out, out
        return
    clients = [px.client() for _ in range(16)]
    for i in range(requests):
        assert clients[i % 16].get("/").status == 200
    for c in clients:
        c.close()


@pytest.mark.parametrize("requests", [50_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_soak_is_flat(mesh, requests):
    px = sample_proxy(mesh)
    load(px, 10_000)
    before = px.memory_kib()
    load(px, requests)
    assert px.memory_kib() - before < 512
    assert px.stat("cluster.sample.upstream_rq_2xx") >= requests + 10_000


def test_connections_give_everything_back(mesh):
    px = sample_proxy(mesh)

    def round_of(n):
        clients = [Client((HOST, px.port)) for _ in range(n)]
        for c in clients:
            assert c.get("/bytes/20000").status == 200
        for c in clients:
            c.close()
        until(lambda: px.stat("http.in.downstream_cx_active") == 0, 10, "the connections to end")
    round_of(300)
    before = px.memory_kib()
    for _ in range(5):
        round_of(300)
    assert px.memory_kib() - before < 1024


@pytest.mark.stricter
def test_idle_tls_connections(mesh, tmp_path):
    """T1: a connection that waits for its next request, its handshake done, takes less than 16 KiB, buffers of records included."""
    pki = Pki(tmp_path / "pki")
    pki.authority()
    pki.issue("server")
    place = config.listener(free_port(), [config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])])
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                                                               common_tls_context={"tls_certificates": [pki.pair("server")]})
    px = mesh.proxy(boot=config.bootstrap([place], [], free_port()))
    context = ssl._create_unverified_context()

    def connection():
        s = context.wrap_socket(socket.create_connection((HOST, px.port), timeout=10), server_hostname="a")
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        return s
    held = [connection() for _ in range(100)]
    before = px.memory_kib()
    held += [connection() for _ in range(1000)]
    until(lambda: px.grown_kib(before) < 16 * 1000, 15, "connections to rest")
    assert px.stat("http.in.downstream_cx_active") == 1100
    for s in held:
        s.close()
