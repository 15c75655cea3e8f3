"""sni_dynamic_forward_proxy: connections go to the name that their client asks for in TLS (L5, U1)."""
import socket
import ssl
import struct

import config
import pytest
from dns import Dns
from tcp import Server
from wire import HOST, free_port, until

NET = "envoy.extensions.filters.network."


@pytest.fixture
def dns():
    d = Dns({"a.test": [HOST]})
    yield d
    d.close()


def hello(name):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        c.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def start(mesh, dns, port, **fields):
    cache = {"name": "c", "dns_lookup_family": "V4_ONLY", **dns.fields(), **fields}
    sni = config.ext("envoy.filters.network.sni_dynamic_forward_proxy", NET + "sni_dynamic_forward_proxy.v3.FilterConfig", dns_cache_config=cache, port_value=port)
    log = config.access_log(mesh.folder / "access.log", {"f": "%RESPONSE_FLAGS%", "h": "%UPSTREAM_HOST%", "n": "%REQUESTED_SERVER_NAME%"})
    tcp = config.ext("envoy.filters.network.tcp_proxy", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="dfp", access_log=[log])
    inspector = config.ext("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    typed = config.ext("envoy.clusters.dynamic_forward_proxy", "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig", dns_cache_config=cache)
    dfp = {"name": "dfp", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s", "cluster_type": typed}
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [sni, tcp], listener_filters=[inspector])], [dfp], free_port()))


def dial(px):
    return socket.create_connection((HOST, px.port), timeout=20)


def closed(s):
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_name_says_where_to(mesh, dns):
    up = Server("a.test")
    px = start(mesh, dns, up.port)
    for name in ("a.test", "A.TEST"):  # looked up; known
        with dial(px) as s:
            s.sendall(hello(name))
            assert up.accept().exactly(len(hello(name)), 10)[:1] == b"\x16"
    assert [n for n, _ in dns.asked] == ["a.test"]
    for name in ("none.test", None):  # no such name; none at all
        with dial(px) as s:
            s.sendall(hello(name))
            assert closed(s)
    up.close()
    log = px.access_log(4)
    assert sorted((e["f"], e["h"] or "") for e in log) == [("-", f"{HOST}:{up.port}")] * 2 + [("UH", "")] * 2, log


def test_limits(mesh, dns):  # E13
    up = Server("a.test")
    px = start(mesh, dns, up.port, max_hosts=1)
    for name in ("none.test", "a.test"):
        with dial(px) as s:
            s.sendall(hello(name))
            assert closed(s)
    assert px.stat("dns_cache.c.host_overflow") == 1
    px = start(mesh, dns, up.port, dns_cache_circuit_breaker={"max_pending_requests": 0})
    with dial(px) as s:
        s.sendall(hello("a.test"))
        assert closed(s)
    up.close()


def test_a_client_that_leaves_waits_no_longer(mesh):
    silent = Dns({})
    silent._answer = lambda *_: b""
    try:
        px = start(mesh, silent, 443, dns_query_timeout="20s")
        with dial(px) as s:
            s.sendall(hello("a.test"))
            until(lambda: px.stat("dns_cache.c.dns_query_attempt") == 1, 20, "the question")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: px.stat(f"listener.{HOST}_{px.port}.downstream_cx_active") == 0, 20, "the connection to end")
    finally:
        silent.close()
