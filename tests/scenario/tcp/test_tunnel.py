"""tcp_proxy over HTTP: tunneling_config with CONNECT and POST, HTTP/1 and HTTP/2 (rows L6, F01)."""
import socket
import struct

import config
import pytest
from h2_upstream import H2Upstream, early
from tcp import FIELDS, Server
from wire import HOST, free_port, until

LOG = {**FIELDS, "headers": "%FILTER_STATE(envoy.tcp_proxy.propagate_response_headers:TYPED)%"}
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


@pytest.fixture
def server():
    s = Server()
    yield s
    s.close()


def start(mesh, server, http=None, filters=(), cluster=None, tcp=None, **tunnel):
    log = config.access_log(mesh.folder / "access.log", LOG)
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one",
                     access_log=[log], tunneling_config={"hostname": "target.test:443", **tunnel}, **(tcp or {}))
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [*filters, tcp])], [config.cluster("one", [server.port], http, **(cluster or {}))], free_port()))


def dial(px):
    return socket.create_connection((HOST, px.port), timeout=10)


def head(up):
    b = b""
    while not b.endswith(b"\r\n\r\n"):
        b += up.exactly(1, 5)
    return b.decode().split("\r\n")[:-2]


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ended(sock):
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_connect_carries_bytes_both_ways(mesh, server):
    px = start(mesh, server, headers_to_add=[{"header": {"key": "x-port", "value": "%DOWNSTREAM_LOCAL_PORT%"}}], propagate_response_headers=True)
    with dial(px) as c:
        c.sendall(b"early")  # waits until the tunnel stands
        up = server.accept()
        assert head(up) == ["CONNECT target.test:443 HTTP/1.1", "host: target.test:443", f"x-port: {px.port}"]
        up.sock.sendall(b"HTTP/1.1 200 OK\r\nx-from: there\r\ncontent-length: 3\r\n\r\nbanner")
        assert c.recv(100) == b"banner" and up.exactly(5, 5) == b"early"
        up.sock.shutdown(socket.SHUT_WR)
        assert c.recv(100) == b""
        c.sendall(b"more")
        assert up.exactly(4, 5) == b"more"
    assert ended(up.sock)
    e = px.access_log(1)[0]
    assert (e["flags"], e["rx"], e["tx"], e["fail"]) == ("-", 9, 6, None)
    assert {"key": "x-from", "value": "there"} in e["headers"]["headers"]


@pytest.mark.stricter  # Envoy drops what the server says after the client's end
def test_half_close_goes_through(mesh, server):
    px = start(mesh, server)
    with dial(px) as c:
        up = server.accept()
        head(up)
        up.sock.sendall(b"HTTP/1.1 204 fine\r\n\r\n")
        c.sendall(b"question")
        c.shutdown(socket.SHUT_WR)
        assert up.exactly(8, 5) == b"question" and ended(up.sock)
        up.sock.sendall(b"answer")
        assert c.recv(100) == b"answer"
        up.sock.close()
        assert c.recv(100) == b""
    until(lambda: px.stat("cluster.one.upstream_rq_active") == 0, 5, "the stream's end")


@pytest.mark.parametrize("answer, why", [(b"HTTP/1.1 403 no\r\ncontent-length: 2\r\n\r\nno", "tunnel_response:403"), (b"HTTP/1.1 302 x\r\ncontent-length: 0\r\n\r\n", "tunnel_response:302"),
                                         (b"HTTP/1.1 101 x\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n", None), (b"garbage\r\n\r\n", None), (b"", None)])
def test_a_refused_tunnel(mesh, server, answer, why):
    px = start(mesh, server)
    with dial(px) as c:
        c.sendall(b"never sent")
        up = server.accept()
        head(up)
        up.sock.sendall(answer)
        up.sock.shutdown(socket.SHUT_WR)
        assert ended(c) and ended(up.sock)
    e = px.access_log(1)[0]
    assert (e["flags"], e["rx"], e["fail"]) == ("UF,URX", 0, why)
    assert px.stat("cluster.one.upstream_rq_active") == 0


def test_the_next_attempt_may_stand(mesh, server):
    px = start(mesh, server, tcp={"max_connect_attempts": 3})
    with dial(px) as c:
        first = server.accept()
        head(first)
        first.sock.sendall(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
        second = server.accept()
        head(second)
        reset(second.sock)
        third = server.accept()
        head(third)
        third.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        c.sendall(b"x")
        assert third.exactly(1, 5) == b"x"
        third.sock.close()
        assert ended(c)
    e = px.access_log(1)[0]
    assert e["attempts"] == 3


def test_post_has_the_framing_of_a_message(mesh, server):
    px = start(mesh, server, use_post=True, post_path="/tunnel")
    with dial(px) as c:
        up = server.accept()
        assert head(up) == ["POST /tunnel HTTP/1.1", "host: target.test:443", "transfer-encoding: chunked"]
        up.sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        assert c.recv(100) == b"hi"
        c.sendall(b"hello")
        assert up.exactly(10, 5) == b"5\r\nhello\r\n"
        c.shutdown(socket.SHUT_WR)
        assert up.exactly(5, 5) == b"0\r\n\r\n"
        up.sock.sendall(b"0\r\n\r\n")
        assert c.recv(100) == b""


def test_straight_where_the_connection_says_so(mesh, server):
    state = config.ext("envoy.filters.network.set_filter_state", "envoy.extensions.filters.network.set_filter_state.v3.Config", on_new_connection=[
        {"object_key": "envoy.tcp_proxy.disable_tunneling", "format_string": {"text_format_source": {"inline_string": "true"}}}])
    px = start(mesh, server, filters=[state])
    with dial(px) as c:
        c.sendall(b"plain")
        assert server.accept().exactly(5, 5) == b"plain"


@pytest.mark.stricter
def test_a_host_that_is_none_is_not_asked_for(mesh, server):
    px = start(mesh, server, hostname="bad host%REQUESTED_SERVER_NAME%")
    with dial(px) as c:
        assert ended(c)
    assert px.access_log(1)[0]["fail"] == "tunnel_hostname_invalid"


@pytest.mark.parametrize("step", ["before the answer", "after the answer", "in the middle"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_an_upstream_that_dies(mesh, server, step, how):
    """At each point where the session waits for its upstream (F01)."""
    px = start(mesh, server)
    with dial(px) as c:
        up = server.accept()
        head(up)
        if step != "before the answer":
            up.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if step == "in the middle":
            c.sendall(b"x" * 1000)
            up.exactly(1000, 5)
            up.sock.sendall(b"y" * 100)
            assert c.recv(100)
        reset(up.sock) if how == "rst" else up.sock.close()
        assert ended(c)
    px.access_log(1)
    until(lambda: px.stat("cluster.one.upstream_cx_active") == px.stat("cluster.one.upstream_rq_active") == px.stat("tcp.t.downstream_cx_half_closed") == 0, 5, "nothing is left")


@pytest.mark.parametrize("step", ["before the answer", "after the answer"])
def test_a_client_that_dies(mesh, server, step):
    px = start(mesh, server)
    c = dial(px)
    up = server.accept()
    head(up)
    if step == "after the answer":
        up.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n!")
        assert c.recv(1) == b"!"
    reset(c)
    assert ended(up.sock)
    until(lambda: px.stat("cluster.one.upstream_rq_active") == px.stat("cluster.one.upstream_cx_active") == 0, 5, "nothing is left")


def test_an_idle_tunnel_ends(mesh, server):
    px = start(mesh, server, tcp={"idle_timeout": "0.5s"})
    with dial(px) as c:
        up = server.accept()
        head(up)
        up.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        assert ended(c) and ended(up.sock)
    assert px.stat("tcp.t.idle_timeout") == 1


def test_a_slow_end_stops_the_other(mesh, server):
    """Neither side's buffers grow without limit (H7)."""
    small = {"per_connection_buffer_limit_bytes": 32768}
    px = start(mesh, server, cluster=small)
    with dial(px) as c:
        up = server.accept()
        head(up)
        up.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        c.setblocking(False)
        sent = 0
        chunk = b"z" * 65536

        def full():
            nonlocal sent
            try:
                while True:
                    sent += c.send(chunk)
            except BlockingIOError:
                return px.stat("tcp.t.downstream_flow_control_paused_reading_total") > 0
        until(full, 10, "the client to be stopped")
        got = 0
        up.sock.settimeout(10)
        while got < sent:
            got += len(up.sock.recv(1 << 20))
        assert got == sent and px.stat("tcp.t.downstream_flow_control_resumed_reading_total") > 0


@pytest.fixture
def h2():
    made = []

    def run(step):
        made.append(H2Upstream(script=[early(step)]))
        return made[-1]
    yield run
    for u in made:
        u.close()


def test_http2_carries_many_sessions_on_one_connection(mesh, h2):
    up = h2(lambda conn, stream, request: conn.headers(stream, [(":status", "200")]))
    px = start(mesh, up, H2, hostname="%REQUESTED_SERVER_NAME%target.test:443")
    socks = [dial(px) for _ in range(3)]
    until(lambda: len(up.requests) == 3, 5, "three requests")
    assert up.connections == 1 and sorted(up.requests[0].headers) == [(":authority", "-target.test:443"), (":method", "CONNECT")]
    for i, (s, r) in enumerate(zip(socks, up.requests)):
        s.sendall(b"to %d" % i)
        until(lambda r=r: r.body, 5, "the bytes")
        up.conns[0].data(r.stream, b"from" + r.body, end=False)
        assert s.recv(100) == b"from" + r.body
        s.shutdown(socket.SHUT_WR)
        until(lambda r=r: r.complete, 5, "the end")
        up.conns[0].data(r.stream, b"last", end=True)
        assert s.recv(100) == b"last" and s.recv(100) == b""
        s.close()
    assert len({r.body for r in up.requests}) == 3
    until(lambda: px.stat("cluster.one.upstream_rq_active") == 0, 5, "all streams to end")
    assert not up.errors and up.conns[0].resets == {} and px.stat("cluster.one.upstream_cx_active") == 1


def test_http2_trailers_end_the_answer(mesh, h2):
    def step(conn, stream, request):
        conn.headers(stream, [(":status", "200")])
        conn.data(stream, b"x", end=False)
        conn.headers(stream, [("x-t", "1")], end=True)
    px = start(mesh, h2(step), H2)
    with dial(px) as c:
        assert c.recv(100) == b"x" and c.recv(100) == b""


@pytest.mark.parametrize("step, why", [
    (lambda conn, stream, request: conn.headers(stream, [(":status", "204")]), "tunnel_response:204"),
    (lambda conn, stream, request: conn.headers(stream, [(":status", "200")], end=True), "tunnel_response:200"),
    (lambda conn, stream, request: conn.rst(stream, 2), None), (lambda conn, stream, request: conn.close(), None)], ids=["204", "end", "rst", "close"])
def test_http2_refusals(mesh, h2, step, why):
    px = start(mesh, h2(step), H2)
    with dial(px) as c:
        assert ended(c)
    e = px.access_log(1)[0]
    assert (e["flags"], e["fail"]) == ("UF,URX", why)
    assert px.stat("cluster.one.upstream_rq_active") == 0


@pytest.mark.stricter  # Envoy ends the client's connection in order
def test_http2_a_reset_stream_is_a_reset_connection(mesh, h2):
    def step(conn, stream, request):
        conn.headers(stream, [(":status", "200")])
        conn.data(stream, b"x", end=False)
    up = h2(step)
    px = start(mesh, up, H2)
    with dial(px) as c:
        assert c.recv(1) == b"x"
        up.conns[0].rst(up.requests[0].stream, 2)
        with pytest.raises(ConnectionResetError):
            c.recv(1)
    assert px.access_log(1)[0]["flags"] == "UR"


def test_http2_a_client_that_goes_resets_its_stream(mesh, h2):
    up = h2(lambda conn, stream, request: conn.headers(stream, [(":status", "200")]))
    px = start(mesh, up, H2)
    c = dial(px)
    until(lambda: up.requests, 5, "the request")
    c.sendall(b"x")
    until(lambda: up.requests[0].body, 5, "the byte")
    reset(c)
    until(lambda: up.conns[0].resets, 5, "the stream's reset")
    assert px.stat("cluster.one.upstream_cx_active") == 1
