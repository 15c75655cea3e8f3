"""Transport sockets around others: upstream PROXY protocol, tcp_stats; transport_socket_matches (rows U8, G16)."""
import socket
import struct

import config
import pytest
from tcp import Server
from wire import HOST, free_port, until

SOCK = "envoy.extensions.transport_sockets."
RAW = config.ext("envoy.transport_sockets.raw_buffer", SOCK + "raw_buffer.v3.RawBuffer")
SIGN = b"\r\n\r\n\0\r\nQUIT\n"
LISTENER_PP = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"


def proxy(inner=RAW, **cfg):
    return config.ext("envoy.transport_sockets.upstream_proxy_protocol", SOCK + "proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                      transport_socket=inner, **({"config": cfg} if cfg else {}))


def tcp_stats(inner=RAW, **kw):
    return config.ext("envoy.transport_sockets.tcp_stats", SOCK + "tcp_stats.v3.Config", transport_socket=inner, **kw)


def tcp_proxy(**kw):
    return config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one", **kw)


@pytest.fixture
def server():
    s = Server()
    yield s
    s.close()


def start(mesh, server, transport, listener=None, tcp=None, **cluster):
    boot = config.bootstrap([config.listener(free_port(), [tcp_proxy(**(tcp or {}))], **(listener or {}))],
                            [config.cluster("one", [server.port], transport_socket=transport, **cluster)], free_port())
    return mesh.proxy(boot=boot)


def v2(stream):
    """(command and family, addresses, TLVs as a list) of the header that came."""
    head = stream.exactly(16, 5)
    assert head[:12] == SIGN, head
    rest = stream.exactly(struct.unpack("!H", head[14:])[0], 5)
    n = {0x11: 12, 0x21: 36}.get(head[13], 0)
    tlvs, at = [], n
    while at < len(rest):
        kind, size = struct.unpack("!BH", rest[at:at + 3])
        tlvs.append((kind, rest[at + 3:at + 3 + size]))
        at += 3 + size
    return head[12:14], rest[:n], tlvs


def header(tlvs=b"", source="192.0.2.7", sport=4000, to="192.0.2.9", dport=80):
    body = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!HH", sport, dport) + tlvs
    return SIGN + b"\x21\x11" + struct.pack("!H", len(body)) + body


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def listener_pp(**kw):
    return {"listener_filters": [config.ext("envoy.filters.listener.proxy_protocol", LISTENER_PP, **kw)]}


def test_version_1_goes_before_the_first_byte(mesh, server):
    px = start(mesh, server, proxy(version="V1"))
    with socket.create_connection((HOST, px.port)) as c:
        up = server.accept()
        head = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (c.getsockname()[1], px.port)
        assert up.exactly(len(head), 5) == head  # the server may speak first
        up.sock.sendall(b"banner")
        assert c.recv(100) == b"banner"
        c.sendall(b"hello")
        assert up.exactly(5, 5) == b"hello"
    until(lambda: px.stat("cluster.one.upstream_cx_tx_bytes_total") == len(head) + 5, 5, "the header's bytes to count")


def test_version_2(mesh, server):
    px = start(mesh, server, proxy(version="V2", added_tlvs=[{"type": 0xE0, "value": "YWJj"}, {"type": 0xE0, "value": "eA=="}, {"type": 0xE1, "value": "ZA=="}]))
    with socket.create_connection((HOST, px.port)) as c:
        kind, addresses, tlvs = v2(server.accept())
        assert kind == b"\x21\x11" and tlvs == [(0xE0, b"abc"), (0xE0, b"x"), (0xE1, b"d")]
        assert addresses == socket.inet_aton(HOST) * 2 + struct.pack("!HH", c.getsockname()[1], px.port)


@pytest.mark.parametrize("pass_through, passed", [
    (None, []), ({"match_type": "INCLUDE_ALL"}, [(4, b""), (0xE2, b"two"), (0xE3, b"three"), (0xE2, b"again")]),
    ({"match_type": "INCLUDE", "tlv_type": [0xE3]}, [(0xE3, b"three")])], ids=["none", "all", "some"])
def test_what_came_is_passed_on(mesh, server, pass_through, passed):
    fields = {"pass_through_tlvs": pass_through} if pass_through else {}
    px = start(mesh, server, proxy(version="V2", **fields), listener=listener_pp(pass_through_tlvs={"match_type": "INCLUDE_ALL"}))
    with socket.create_connection((HOST, px.port)) as c:
        c.sendall(header(tlv(4, b"") + tlv(0xE2, b"two") + tlv(0xE3, b"three") + tlv(0xE2, b"again")) + b"body")
        up = server.accept()
        _, addresses, tlvs = v2(up)
        assert addresses == socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.9") + struct.pack("!HH", 4000, 80)
        assert tlvs == passed and up.exactly(4, 5) == b"body"


def test_what_is_configured_stands_for_what_came(mesh, server):
    px = start(mesh, server, proxy(version="V2", added_tlvs=[{"type": 0xE2, "value": "b3Vycw=="}], pass_through_tlvs={"match_type": "INCLUDE_ALL"}),
               listener=listener_pp(pass_through_tlvs={"match_type": "INCLUDE_ALL"}))
    with socket.create_connection((HOST, px.port)) as c:
        c.sendall(header(tlv(0xE2, b"theirs") + tlv(0xE3, b"three")))
        assert v2(server.accept())[2] == [(0xE2, b"ours"), (0xE3, b"three")]


def test_the_listener_chooses_what_may_be_passed(mesh, server):
    px = start(mesh, server, proxy(version="V2", pass_through_tlvs={"match_type": "INCLUDE_ALL"}),
               listener=listener_pp(pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xE3]}))
    with socket.create_connection((HOST, px.port)) as c:
        c.sendall(header(tlv(0xE2, b"two") + tlv(0xE3, b"three")))
        assert v2(server.accept())[2] == [(0xE3, b"three")]


def test_the_session_adds_tlvs(mesh, server):
    tcp = {"proxy_protocol_tlvs": [{"type": 0xE4, "value": "YWJj"},
                                   {"type": 0xE5, "format_string": {"text_format_source": {"inline_string": "port %DOWNSTREAM_LOCAL_PORT%"}}}]}
    px = start(mesh, server, proxy(version="V2", pass_through_tlvs={"match_type": "INCLUDE_ALL"}), tcp=tcp)
    with socket.create_connection((HOST, px.port)):
        assert v2(server.accept())[2] == [(0xE4, b"abc"), (0xE5, b"port %d" % px.port)]


def test_what_does_not_fit_is_left_out(mesh, server):  # CVE-2026-47692
    big = {"type": 0xE6, "value": "QUFB" * 8000}
    px = start(mesh, server, proxy(version="V2", added_tlvs=[big], pass_through_tlvs={"match_type": "INCLUDE_ALL"}),
               listener=listener_pp(pass_through_tlvs={"match_type": "INCLUDE_ALL"}))
    with socket.create_connection((HOST, px.port)) as c:
        c.sendall(header(tlv(0xE7, b"x" * 50000)) + b"rest")
        up = server.accept()
        assert v2(up)[2] == [(0xE6, b"AAA" * 8000)] and up.exactly(4, 5) == b"rest"
    assert px.stat("cluster.one.upstream.proxyprotocol.v2_tlvs_exceed_max_length") == 1


def test_health_checks_say_local(mesh, server):
    px = start(mesh, server, proxy(version="V2"), health_checks=[{"timeout": "5s", "interval": "60s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {"send": {"text": "7069"}, "receive": [{"text": "706f"}]}}])
    up = server.accept()
    assert v2(up) == (b"\x20\x00", b"", []) and up.exactly(2, 5) == b"pi"
    assert px.stat("cluster.one.health_check.attempt") == 1


def test_http_requests_share_a_connection_only_with_their_client(mesh):
    up = mesh.upstream()
    boot = config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "up")])])],
                            [config.cluster("up", [up.port], transport_socket=proxy(tcp_stats(), version="V1"))], free_port())
    server = Server("x")
    boot["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = config.address(server.port)
    px = mesh.proxy(boot=boot)

    def answer(stream, expect_head):
        if expect_head:
            head = b""
            while not head.endswith(b"\r\n"):
                head += stream.exactly(1, 5)
            assert head.startswith(b"PROXY TCP4 ")
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += stream.exactly(1, 5)
        stream.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return head.split()[4] if expect_head else None

    with socket.create_connection((HOST, px.port)) as a, socket.create_connection((HOST, px.port)) as b:
        for s in (a, b):
            s.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            u = server.accept()
            assert answer(u, True) == str(s.getsockname()[1]).encode()
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            s.sendall(b"GET /again HTTP/1.1\r\nhost: x\r\n\r\n")
            answer(u, False)  # the same connection
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
    server.close()
    assert px.stat("cluster.up.upstream_cx_total") == 2


def test_tcp_stats(mesh, server):
    px = start(mesh, server, tcp_stats(update_period="0.1s"), listener={})
    with socket.create_connection((HOST, px.port)) as c:
        up = server.accept()
        c.sendall(b"x" * 1000)
        assert up.exactly(1000, 5)
        px.wait_stat("cluster.one.tcp_stats.cx_tx_bytes_sent", 1000)  # while it stands
        up.sock.sendall(b"y" * 500)
        assert c.recv(500)
        px.wait_stat("cluster.one.tcp_stats.cx_rx_bytes_received", 500)
        up.sock.close()
    until(lambda: px.stat("cluster.one.upstream_cx_destroy") == 1, 5, "its end")
    s = px.stats("^cluster.one.tcp_stats")
    assert s["cluster.one.tcp_stats.cx_tx_data_segments"] >= 1 and s["cluster.one.tcp_stats.cx_rx_segments"] >= 1
    assert s["cluster.one.tcp_stats.cx_tx_unsent_bytes"] == s["cluster.one.tcp_stats.cx_tx_unacked_segments"] == 0
    until(lambda: "cx_rtt_us: P0" in px.admin("/stats?filter=tcp_stats")[1], 15, "the histogram at the next flush")


def test_tcp_stats_of_a_listener(mesh, server):
    boot = config.bootstrap([config.listener(free_port(), [tcp_proxy()])], [config.cluster("one", [server.port])], free_port())
    boot["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = tcp_stats()
    boot["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket_connect_timeout"] = "0.5s"
    px = mesh.proxy(boot=boot)
    with socket.create_connection((HOST, px.port)) as c:
        up = server.accept()
        up.sock.sendall(b"z" * 700)
        assert c.recv(700)
        c.sendall(b"x")
        assert up.exactly(1, 5)
        up.sock.close()
    px.wait_stat(f"listener.127.0.0.1_{px.port}.tcp_stats.cx_tx_bytes_sent", 700)
    assert px.stat(f"listener.127.0.0.1_{px.port}.downstream_cx_transport_socket_connect_timeout") == 0


def test_matches_choose_by_metadata_of_the_host(mesh):
    a, b, c = Server("a"), Server("b"), Server("c")
    match = [{"name": "pp", "match": {"pp": "1"}, "transport_socket": proxy(version="V1")}]

    def host(s, labels):
        return {"endpoint": {"address": config.address(s.port)}, **({"metadata": {"filter_metadata": {"envoy.transport_socket_match": labels}}} if labels else {})}
    cl = config.cluster("one", [], transport_socket_matches=match,
                        load_assignment={"cluster_name": "one", "endpoints": [{"lb_endpoints": [host(a, {"pp": "1", "x": "y"}), host(b, {"pp": "2"}), host(c, None)]}]})
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [tcp_proxy()])], [cl], free_port()))
    socks = [socket.create_connection((HOST, px.port)) for _ in range(3)]
    for s in socks:
        s.sendall(b"hello")
    assert a.accept().exactly(11, 5) == b"PROXY TCP4 "
    assert b.accept().exactly(5, 5) == c.accept().exactly(5, 5) == b"hello"
    assert (px.stat("cluster.one.pp.total_match_count"), px.stat("cluster.one.default.total_match_count")) == (1, 2)
    for s in (*socks, a, b, c):
        s.close()


@pytest.mark.parametrize("transport, why", [
    (config.ext("x", SOCK + "tcp_stats.v3.Config"), "transport_socket"), (proxy({"name": "none"}), "transport_socket"),
    pytest.param(proxy(added_tlvs=[{"type": 1, "format_string": {"text_format_source": {"inline_string": "x"}}}]), "added_tlvs[0]", marks=pytest.mark.stricter),
    (proxy(added_tlvs=[{"type": 1}]), "value")])
def test_wrong_configurations(mesh, transport, why):
    px = mesh.proxy(boot=config.bootstrap([], [config.cluster("one", [1], transport_socket=transport)], free_port()), ready=False)
    assert px.process.wait(10) == 1 and why in px.log()
