"""D2: an application's new connection has the local port of one whose other half the proxy still has (half closed by the server, then closed by the
application behind the back of connection tracking). The two collide on the listener that catches traffic."""
import pathlib
import socket
import time

import pytest

import config
from netns import netns  # noqa: F401 (a fixture)
from wire import free_port, patient, until

MARK, APP, SERVER, PORT = 1337, ("10.2.0.1", 44410), "10.1.0.5", 7777
BYPASS = {"upstream_bind_config": {"socket_options": [{"level": socket.SOL_SOCKET, "name": socket.SO_MARK, "int_value": MARK}]}}
KEEP = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)]
TRACKED = pathlib.Path("/proc/net/nf_conntrack")
CLOSE_WAIT = pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait")


def proxy(mesh, idle, keep=()):
    """What catches an application's traffic, as a sidecar has it."""
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="out",
                     cluster="PassthroughCluster", idle_timeout=idle)
    place = {"name": "virtualOutbound", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}}, "filter_chains": [{"filters": [tcp]}],
             "use_original_dst": True, "traffic_direction": "OUTBOUND"}
    if keep:
        place["socket_options"] = [{"level": level, "name": name, "int_value": value} for level, name, value in keep]
    through = {"name": "PassthroughCluster", "type": "ORIGINAL_DST", "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED", **BYPASS}
    return mesh.proxy(boot=config.bootstrap([place], [through], free_port()))


def dial(timeout):
    return socket.create_connection((SERVER, PORT), timeout=patient(timeout), source_address=APP)


def tracked():
    """Of the connections of the application's port, as connection tracking has them."""
    return [x for x in TRACKED.read_text().splitlines() if f"sport={APP[1]} " in x]


def collide(netns, px, server):  # noqa: F811
    """Until the proxy has the half of a connection that its application has forgotten."""
    old = dial(5)
    far, _ = server.accept()
    far.close()
    assert old.recv(1) == b""  # half closed: FIN-WAIT-2 at the proxy, CLOSE-WAIT here
    until(lambda: not tracked(), 20, "connection tracking to forget the connection")
    old.close()  # its FIN is nobody's: it goes to the server itself, which answers with RST
    assert px.stat("tcp.out.downstream_cx_total") == 1


@pytest.fixture
def server(netns):  # noqa: F811
    if not TRACKED.exists():
        pytest.skip("the kernel does not show tracked connections")
    try:
        CLOSE_WAIT.write_text("1")  # a minute otherwise
    except OSError as e:
        pytest.skip(f"needs to set how long connections are tracked: {e}")
    netns.redirect(f"{SERVER}/32", str(PORT), 15001, mark=MARK)
    with socket.create_server((SERVER, PORT)) as s:
        s.settimeout(patient(20))
        yield s


def talk(server, timeout):
    """A new connection of the same port; what it took."""
    began = time.monotonic()
    with dial(timeout) as new:
        far, _ = server.accept()
        with far:
            far.sendall(b"hello")
            assert new.recv(5) == b"hello"
    return time.monotonic() - began


def challenged():
    """How many SYNs came to a connection that was there already."""
    names, values = [x.split()[1:] for x in pathlib.Path("/proc/net/netstat").read_text().splitlines() if x.startswith("TcpExt:")]
    return int(values[names.index("TCPSYNChallenge")])


def test_d2_where_the_reset_arrives_the_port_is_free_at_once(netns, server, mesh):  # noqa: F811
    """What the old half answers the application's SYN with is answered by RST, which ends it; the SYN is sent again."""
    px = proxy(mesh, "3600s")
    collide(netns, px, server)
    assert px.stat("tcp.out.downstream_cx_half_closed") == 1
    assert talk(server, 10) < patient(2)
    assert challenged() == 1
    until(lambda: px.stat("tcp.out.downstream_cx_half_closed") == 0, 10, "the old half to end")


def test_d2_idle_timeout_bounds_how_long_a_port_is_lost(netns, server, mesh):  # noqa: F811
    """Connection tracking of other kernels finds that RST invalid, and it never comes to the proxy: the SYN is repeated until the old half has ended."""
    netns.run(f"iptables -A OUTPUT -p tcp -s {APP[0]} --sport {APP[1]} --tcp-flags RST RST -j DROP")
    px = proxy(mesh, "3s")
    collide(netns, px, server)
    took = talk(server, 30)
    assert challenged() >= 1 and took > 0.9, "the two did not collide"
    assert took < patient(12), took
    until(lambda: px.stat("tcp.out.downstream_cx_half_closed") == 0, 10, "no half-closed session to be left")
    assert px.stat("tcp.out.idle_timeout") >= 1


def test_d2_keepalive_on_the_listener_frees_the_port(netns, server, mesh):  # noqa: F811
    """The application's machine answers the first probe with RST: the half is gone although it may be idle for an hour."""
    px = proxy(mesh, "3600s", KEEP)
    collide(netns, px, server)
    until(lambda: px.stat("tcp.out.downstream_cx_half_closed") == 0, 20, "the forgotten half to end")
    assert talk(server, 10) < patient(1) and challenged() == 0
