"""CONNECT that ends here (rows H1, H2): a TCP connection for each, over both protocols."""
import socket
import threading

import pytest

import config
from h2_client import POST, H2Client, frame
from h2_upstream import DATA, END_STREAM
from wire import HOST, free_port, reset, until

ROUTE = [{"match": {"connect_matcher": {}}, "route": {"cluster": "raw", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]
CONNECT = [(":method", "CONNECT"), (":authority", "target:1")]


class Echo:
    """A TCP server that gives back what it gets, and its end; `ends` says how each connection ended."""

    def __init__(self):
        self.listener = socket.create_server((HOST, 0))
        self.port, self.socks, self.ends = self.listener.getsockname()[1], [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(s)
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            while (got := s.recv(65536)):
                if got == b"reset":
                    reset(s)
                    return
                s.sendall(got)
            s.shutdown(socket.SHUT_WR)
            self.ends.append("eof")
        except OSError:
            self.ends.append("reset")

    def close(self):
        self.listener.close()


@pytest.fixture
def echo(mesh):
    e = Echo()
    mesh.upstreams.append(e)
    return e


def proxy(mesh, port, **fields):
    manager = config.hcm(ROUTE, log=config.access_log(mesh.folder / "access.log"), http2_protocol_options={"allow_connect": True},
                         upgrade_configs=[{"upgrade_type": "CONNECT"}], **fields)
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("raw", [port])], free_port()))


def test_bytes_and_ends(mesh, echo):
    px = proxy(mesh, echo.port)
    with H2Client(px.port) as c:
        for stream in (1, 3, 5):
            c.request(stream, CONNECT, b"hello", end=False)
        for stream in (1, 3, 5):
            c.wait(lambda s=stream: c.bodies.get(s) == b"hello")
            assert c.status(stream) == 200
        c.send(frame(DATA, END_STREAM, 3, b" world"))
        assert c.answer(3)[2] == b"hello world"
        until(lambda: echo.ends == ["eof"], 5)
        assert not c.ended(1) and not c.ended(5)
    until(lambda: len(echo.ends) == 3, 5)  # with the client's connection the others end too
    until(lambda: px.stat("cluster.raw.upstream_cx_active") == 0, 5)
    assert px.stat("cluster.raw.upstream_cx_total") == 3 and px.stat("http.in.downstream_cx_upgrades_total") == 3
    assert px.wait_log(lambda e: e["method"] == "CONNECT")["code"] == 200


def test_post_where_that_is_allowed(mesh, echo):
    upgrade = {"upgrade_type": "CONNECT", "connect_config": {"allow_post": True}}
    manager = config.hcm([config.route("/", "raw", upgrade_configs=[upgrade])], upgrade_configs=[{"upgrade_type": "CONNECT"}])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("raw", [echo.port])], free_port()))
    with H2Client(px.port) as c:
        c.request(1, POST, b"hello")
        assert c.answer(1)[2] == b"hello" and c.status(1) == 200


def test_a_reset_ends_the_connection(mesh, echo):
    px = proxy(mesh, echo.port)
    with H2Client(px.port) as c:
        c.request(1, CONNECT, b"x", end=False)
        c.wait(lambda: c.bodies.get(1) == b"x")
        c.send(frame(3, 0, 1, bytes(4)))
        until(lambda: len(echo.ends) == 1, 5)
        c.request(3, CONNECT, b"y", end=True)
        assert c.answer(3)[2] == b"y"


def test_an_upstream_that_resets(mesh, echo):
    px = proxy(mesh, echo.port)
    with H2Client(px.port) as c:
        c.request(1, CONNECT, b"x", end=False)
        c.wait(lambda: c.bodies.get(1) == b"x")
        c.send(frame(DATA, 0, 1, b"reset"))
        c.wait(lambda: c.rst(1) is not None)
        c.ping()
    assert px.wait_log(lambda e: e["method"] == "CONNECT")["flags"] == "UC"


def test_nobody_there(mesh):
    px = proxy(mesh, free_port())
    with H2Client(px.port) as c:
        c.request(1, CONNECT, b"x", end=False)
        assert c.answer(1)[0] == 503
    assert px.wait_log(lambda e: e["method"] == "CONNECT")["flags"] == "UF"
    with px.client() as c:
        c.send(b"CONNECT target:1 HTTP/1.1\r\nhost: target:1\r\n\r\n")
        assert c.response().status == 503


def test_large_transfer(mesh, echo):
    """8 MiB through the windows and back."""
    px = proxy(mesh, echo.port)
    body = bytes(range(256)) * 64
    with H2Client(px.port, settings={4: 1 << 24}) as c:
        c.grant(0, 1 << 24)
        c.request(1, CONNECT, b"", end=False)
        for _ in range(512):
            c.send(frame(DATA, 0, 1, body))
            c._take(0.001)
        c.send(frame(DATA, END_STREAM, 1))
        c.wait(lambda: c.ended(1), 20)
        assert c.bodies[1] == body * 512
