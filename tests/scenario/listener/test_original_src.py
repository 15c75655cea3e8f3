"""original_src (L2): the upstream sees the client's address, in a network namespace of the test."""
import pytest

import config
from netns import Plain, ask, netns  # noqa: F401 (a fixture)
from wire import HOST, Client, free_port

LOG = {"local": "%UPSTREAM_LOCAL_ADDRESS%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "flags": "%RESPONSE_FLAGS%", "host": "%UPSTREAM_HOST%"}
HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def original_src(**fields):
    return config.ext("envoy.filters.listener.original_src", "envoy.extensions.filters.listener.original_src.v3.OriginalSrc", **fields)


@pytest.fixture
def home(netns):  # noqa: F811
    """Answers to marked connections come back to this machine, whosever address they are for."""
    for six, zero in (("", "0.0.0.0/0"), (" -6", "::/0")):
        netns.run(f"ip{six} rule add fwmark 123 lookup 100 pref 2")
        netns.run(f"ip{six} route add local {zero} dev lo table 100")
    netns.run("iptables -t mangle -A OUTPUT -p tcp -m connmark --mark 123 -j CONNMARK --restore-mark")
    netns.run("iptables -t mangle -A OUTPUT -p tcp -m mark --mark 123 -j CONNMARK --save-mark")
    return netns


def proxy(mesh, listeners, *clusters):
    return mesh.proxy(boot=config.bootstrap(listeners, list(clusters), free_port()))


def listener(ip, port, one, **fields):
    return {"name": f"{ip}_{port}", "address": {"socket_address": {"address": ip, "port_value": port}}, "filter_chains": [{"filters": [one]}], **fields}


def tcp(mesh, cluster="up"):
    return config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster=cluster,
                      access_log=[config.access_log(mesh.folder / "access.log", LOG)])


def http(mesh):
    return config.hcm([config.route("/")], log=config.access_log(mesh.folder / "access.log", LOG))


@pytest.mark.parametrize("kind", [tcp, http])
def test_comes_from_the_client(home, mesh, kind):
    up = Plain(HOST, name="up!")
    px = proxy(mesh, [listener("0.0.0.0", 8080, kind(mesh), listener_filters=[original_src(mark=123)])], config.cluster("up", [up.port]))
    for source in ("10.1.0.1", "10.2.0.1", "127.0.0.9"):
        assert ask("10.1.0.1", 8080, source) == b"up!"
    assert up.peers == ["10.1.0.1", "10.2.0.1", "127.0.0.9"]
    assert [e["local"].rpartition(":")[0] for e in px.access_log(3)] == up.peers
    up.close()


def test_ipv6(home, mesh):
    home.add("fd00::7/128")
    up = Plain("::1", name="up!")
    c = config.cluster("up", [])
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "::1", "port_value": up.port}}}}]}]
    proxy(mesh, [listener("::", 8080, tcp(mesh), listener_filters=[original_src(mark=123)])], c)
    assert ask("fd00::1", 8080, "fd00::7") == b"up!" and up.peers == ["fd00::7"]
    up.close()


def test_wins_over_the_clusters_source(home, mesh):
    up = Plain(HOST, name="up!")
    c = config.cluster("up", [up.port], upstream_bind_config={"source_address": {"address": "127.0.0.6", "port_value": 0}})
    proxy(mesh, [listener("0.0.0.0", 8080, tcp(mesh), listener_filters=[original_src(mark=123)]), listener("0.0.0.0", 8081, tcp(mesh))], c)
    assert ask("10.1.0.1", 8080, "10.2.0.1") == b"up!" and ask("10.1.0.1", 8081, "10.2.0.1") == b"up!"
    assert up.peers == ["10.2.0.1", "127.0.0.6"]
    up.close()


def test_connections_are_shared_by_requests_of_one_client_only(home, mesh):
    up = mesh.upstream()
    px = proxy(mesh, [listener("0.0.0.0", 8080, http(mesh), listener_filters=[original_src(mark=123)])], config.cluster("up", [up.port]))

    def get(source):
        with Client(("10.1.0.1", 8080), source=source) as c:
            assert c.get("/").status == 200
    for source in ("10.1.0.1", "10.2.0.1", "10.1.0.1", "10.2.0.1"):
        get(source)
    assert px.stat("cluster.up.upstream_cx_total") == 2 and up.connections == 2
    local = [e["local"] for e in px.access_log(4)]
    assert local[0] == local[2] and local[1] == local[3] and local[0] != local[1]


def test_an_address_that_cannot_be_bound(home, mesh, is_envoy):
    """The upstream is of the other family: no connection comes about."""
    up = Plain(HOST, name="up!")
    px = proxy(mesh, [listener("::", 8080, tcp(mesh), listener_filters=[original_src(mark=123)])], config.cluster("up", [up.port], connect_timeout="3s"))
    assert ask("fd00::1", 8080, "fd00::1") == b""
    assert px.stat("cluster.up.upstream_cx_connect_fail") == 1 and px.stat("cluster.up.upstream_cx_active") == 0
    assert is_envoy or not up.peers  # Envoy connects without that address and then closes
    assert px.access_log(1)[0]["host"] == f"{HOST}:{up.port}"
    up.close()


def test_happy_eyeballs(home, mesh):
    up = Plain(HOST, name="up!")
    c = config.cluster("up", [free_port()])
    c["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["additional_addresses"] = [{"address": config.address(up.port)}]
    proxy(mesh, [listener("0.0.0.0", 8080, http(mesh), listener_filters=[original_src(mark=123)])], c)
    assert ask("10.1.0.1", 8080, "10.2.0.1") == b"up!" and up.peers == ["10.2.0.1"]
    up.close()
