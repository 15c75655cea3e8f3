"""Caught connections (L2, L3, G17) in a network namespace of the test: REDIRECT and TPROXY bring them, as in a pod."""
import json
import socket
import ssl
import subprocess

import pytest

import config
from netns import Plain, ask, netns  # noqa: F401 (a fixture)
from wire import HOST, free_port, until

MARK = 1337
BYPASS = {"upstream_bind_config": {"socket_options": [{"level": socket.SOL_SOCKET, "name": socket.SO_MARK, "int_value": MARK}]}}
LOG = {"listener": "%FILTER_CHAIN_NAME%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "host": "%UPSTREAM_HOST%",
       "flags": "%RESPONSE_FLAGS%", "cluster": "%UPSTREAM_CLUSTER%", "sni": "%REQUESTED_SERVER_NAME%"}
ORIGINAL_DST = config.ext("envoy.filters.listener.original_dst", "envoy.extensions.filters.listener.original_dst.v3.OriginalDst")


def tcp(mesh, cluster):
    return config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=cluster,
                      cluster=cluster, access_log=[config.access_log(mesh.folder / "access.log", LOG)])


def http(mesh, cluster):
    return config.hcm([config.route("/", cluster)], log=config.access_log(mesh.folder / "access.log", LOG))


def listener(ip, port, *chains, **fields):
    """chains: filters, or (filters, match)."""
    v = [{"name": f"{ip}_{port}_{i}", "filters": [c[0]] if isinstance(c, tuple) else [c], **({"filter_chain_match": c[1]} if isinstance(c, tuple) else {})}
         for i, c in enumerate(chains)]
    return {"name": f"{ip}_{port}", "address": {"socket_address": {"address": ip, "port_value": port}}, "filter_chains": v, **fields}


def unbound(ip, port, *chains, **fields):
    return listener(ip, port, *chains, bind_to_port=False, **fields)


def passthrough(name, **fields):
    return {"name": name, "type": "ORIGINAL_DST", "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED", **BYPASS, **fields}


def proxy(mesh, listeners, *clusters, **kw):
    black_hole = {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "5s"}
    return mesh.proxy(boot=config.bootstrap(listeners, [black_hole, passthrough("PassthroughCluster"), *clusters], free_port()), **kw)


def outbound(mesh, ip="0.0.0.0", port=15001, **fields):
    """What a sidecar's outbound traffic comes to."""
    return listener(ip, port, (tcp(mesh, "BlackHoleCluster"), {"destination_port": port}), tcp(mesh, "PassthroughCluster"),
                    use_original_dst=True, traffic_direction="OUTBOUND", **fields)


def counted(px, listener_name, stat="downstream_cx_total"):
    return px.stat(f"listener.{listener_name}.{stat}")


@pytest.fixture
def plain(netns):  # noqa: F811
    """plain(name, ip, port): a server that answers with its name."""
    servers = []

    def make(name, ip=HOST, port=0):
        servers.append(Plain(ip, port, name + "!"))
        return servers[-1]
    yield make
    for s in servers:
        s.close()


def test_goes_to_the_listener_of_its_destination(netns, mesh, plain):  # noqa: F811
    up, other = plain("up"), plain("other")
    plain("beyond", "10.1.0.5", 9999)
    netns.redirect("10.1.0.0/16", "1:9999", 15001)
    px = proxy(mesh, [outbound(mesh), unbound("0.0.0.0", 80, http(mesh, "up")), unbound("10.1.0.9", 443, tcp(mesh, "other")),
                      unbound("0.0.0.0", 443, http(mesh, "up"))],
               config.cluster("up", [up.port]), config.cluster("other", [other.port]))
    assert ask("10.1.0.9", 80) == b"up!"  # any address with its port
    assert ask("10.1.0.9", 443) == b"other!"  # its exact address
    assert ask("10.1.0.5", 9999) == b"beyond!"  # nobody's: stays, and goes where it wanted to
    by_cluster = {e["cluster"]: e for e in px.access_log(3)}
    assert by_cluster["up"]["local"] == "10.1.0.9:80" and by_cluster["other"]["local"] == "10.1.0.9:443"
    assert by_cluster["PassthroughCluster"]["local"] == by_cluster["PassthroughCluster"]["host"] == "10.1.0.5:9999"
    # A connection is one of the listener that serves it.
    assert [counted(px, n) for n in ("0.0.0.0_15001", "0.0.0.0_80", "10.1.0.9_443", "0.0.0.0_443")] == [1, 1, 1, 0]
    assert counted(px, "0.0.0.0_15001", "no_filter_chain_match") == 0
    until(lambda: all(counted(px, n, "downstream_cx_active") == 0 for n in ("0.0.0.0_15001", "0.0.0.0_80", "10.1.0.9_443")))
    until(lambda: counted(px, "0.0.0.0_15001", "downstream_pre_cx_active") == 0)
    assert "0.0.0.0_80::0.0.0.0:80\n" in px.admin("/listeners")[1]


def test_the_other_listeners_filters_and_chains(netns, mesh, plain):  # noqa: F811
    """Its listener filters run; without a chain that fits the connection ends there, and is not given back."""
    plain("beyond", "10.1.0.5", 443)
    up, two = plain("up"), plain("two")
    netns.redirect("10.1.0.0/16", "1:9999", 15001)
    inspector = config.ext("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    px = proxy(mesh, [outbound(mesh), unbound("0.0.0.0", 443, (tcp(mesh, "up"), {"server_names": ["up.test"]}),
                                              (tcp(mesh, "two"), {"server_names": ["two.test"]}), listener_filters=[inspector])],
               config.cluster("up", [up.port]), config.cluster("two", [two.port]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for name in ("two.test", "nobody.test"):
        with socket.create_connection(("10.1.0.5", 443), timeout=1) as s:
            with pytest.raises((ssl.SSLError, OSError)):  # no TLS behind it: the one ends, the other says nothing
                context.wrap_socket(s, server_hostname=name)
    assert ask("10.1.0.5", 443) == b""
    px.wait_stat("listener.0.0.0.0_443.no_filter_chain_match", 2)
    assert counted(px, "0.0.0.0_443") == 1 and counted(px, "0.0.0.0_15001") == 0
    entry = px.wait_log(lambda e: e["cluster"] == "two")
    assert entry["sni"] == "two.test" and entry["local"] == "10.1.0.5:443" and len(two.peers) == 1 and not up.peers


def test_g17_who_dials_the_capture_port_itself(netns, mesh, plain):  # noqa: F811
    """G17: its destination is the listener: the chain for that, as a mesh configures it, ends it; nothing is dialled."""
    netns.redirect("10.1.0.0/16", "1:9999", 15001)
    px = proxy(mesh, [outbound(mesh)])
    for ip in (HOST, "10.1.0.1"):
        assert ask(ip, 15001) == b""
    assert px.stat("cluster.BlackHoleCluster.upstream_cx_none_healthy") == 2
    assert px.stat("cluster.PassthroughCluster.upstream_cx_total") == 0
    assert [(e["flags"], e["cluster"]) for e in px.access_log(2)] == [("UH", "BlackHoleCluster")] * 2


@pytest.mark.stricter  # Envoy dials itself until something runs out
@pytest.mark.parametrize("how", ["redirect", "tproxy"])
def test_g17_no_loop_without_a_chain_for_it(netns, mesh, how):  # noqa: F811
    """Nobody configured what to do with it: it has no destination other than this listener, so there is no host for it."""
    getattr(netns, how)("10.1.0.0/16", "1:9999", 15001)
    px = proxy(mesh, [listener("0.0.0.0", 15001, tcp(mesh, "PassthroughCluster"), use_original_dst=True, transparent=how == "tproxy"),
                      listener("0.0.0.0", 15006, tcp(mesh, "PassthroughCluster"), listener_filters=[ORIGINAL_DST])])
    for port in (15001, 15006):
        for ip in (HOST, "10.1.0.1"):
            assert ask(ip, port) == b""
    assert px.stat("cluster.PassthroughCluster.upstream_cx_total") == 0
    assert px.stat("cluster.PassthroughCluster.upstream_cx_none_healthy") == 4
    assert [e["flags"] for e in px.access_log(4)] == ["UH"] * 4


def test_inbound(netns, mesh, plain):  # noqa: F811
    """A listener that catches and keeps: chains by destination port, and on to the application from an address of its own."""
    up = plain("up")
    app = plain("app", "10.1.0.1", 9000)
    netns.redirect("10.1.0.0/16", "1:9999", 15006)
    inbound = passthrough("InboundPassthroughCluster")
    inbound["upstream_bind_config"] = {**inbound["upstream_bind_config"], "source_address": {"address": "127.0.0.6", "port_value": 0}}
    px = proxy(mesh, [listener("0.0.0.0", 15006, (tcp(mesh, "BlackHoleCluster"), {"destination_port": 15006}),
                               (http(mesh, "up"), {"destination_port": 8080}), tcp(mesh, "InboundPassthroughCluster"),
                               listener_filters=[ORIGINAL_DST], traffic_direction="INBOUND"),
                      unbound("10.1.0.1", 9000, http(mesh, "up"))],  # not for this one: it has no use_original_dst
               config.cluster("up", [up.port]), inbound)
    assert ask("10.1.0.1", 8080) == b"up!" and ask("10.1.0.1", 9000) == b"app!"
    assert app.peers == ["127.0.0.6"]
    assert ask("10.1.0.1", 15006) == b"" and px.stat("cluster.BlackHoleCluster.upstream_cx_none_healthy") == 1
    assert counted(px, "0.0.0.0_15006") == 3 and counted(px, "10.1.0.1_9000") == 0


def test_ipv6(netns, mesh, plain):  # noqa: F811
    up = plain("up")
    plain("beyond", "fd00::1", 9999)
    netns.redirect("fd00::/64", "1:9999", 15001, six=True)
    px = proxy(mesh, [outbound(mesh, "::"), unbound("::", 80, http(mesh, "up")), unbound("0.0.0.0", 81, http(mesh, "up"))],
               config.cluster("up", [up.port]), )
    assert ask("fd00::1", 80) == b"up!" and px.access_log(1)[0]["local"] == "[fd00::1]:80"
    assert ask("fd00::1", 9999) == b"beyond!"
    assert ask("fd00::1", 81) == b""  # of the other family: it stays, and nobody is there
    assert counted(px, "[__]_80") == 1 and counted(px, "[__]_15001") == 2 and counted(px, "0.0.0.0_81") == 0


def test_both_families_on_one_socket(netns, mesh, plain):  # noqa: F811
    """A wildcard of IPv6 with ipv4_compat catches IPv4 and serves it; addresses of IPv4 look like that."""
    up = plain("up")
    netns.redirect("10.1.0.0/16", "1:9999", 15001)
    netns.redirect("fd00::/64", "1:9999", 15001, six=True)
    v = [outbound(mesh, "::"), unbound("::", 80, http(mesh, "up")), unbound("::", 81, http(mesh, "up"))]
    v[0]["address"]["socket_address"]["ipv4_compat"] = v[1]["address"]["socket_address"]["ipv4_compat"] = True
    px = proxy(mesh, v, config.cluster("up", [up.port]))
    assert ask("10.1.0.1", 80) == b"up!" and ask("fd00::1", 80) == b"up!"
    assert [(e["local"], e["remote"].rpartition(":")[0]) for e in px.access_log(2)] == [("10.1.0.1:80", "10.1.0.1"), ("[fd00::1]:80", "[fd00::1]")]
    assert ask("10.1.0.1", 81) == b""  # that one takes IPv6 only
    assert counted(px, "[__]_80") == 2 and counted(px, "[__]_81") == 0


@pytest.mark.parametrize("six", [False, True])
def test_tproxy(netns, mesh, plain, six):  # noqa: F811
    """TPROXY leaves the destination in the socket: a transparent listener has it without conntrack."""
    any_ip, ip, net, text = ("::", "fd00::1", "fd00::/64", "[fd00::1]") if six else ("0.0.0.0", "10.1.0.1", "10.1.0.0/16", "10.1.0.1")
    up = plain("up")
    plain("beyond", ip, 9999)
    netns.tproxy(net, "1:9999", 15001, six=six)
    px = proxy(mesh, [outbound(mesh, any_ip, transparent=True), unbound(any_ip, 80, http(mesh, "up"))], config.cluster("up", [up.port]))
    assert ask(ip, 80) == b"up!" and ask(ip, 9999) == b"beyond!"
    assert [(e["local"], e["cluster"]) for e in px.access_log(2)] == [(f"{text}:80", "up"), (f"{text}:9999", "PassthroughCluster")]
    assert ask(ip, 15001) == b"" and px.stat("cluster.BlackHoleCluster.upstream_cx_none_healthy") == 1


def test_many_at_once_on_two_workers(netns, mesh, plain):  # noqa: F811
    up = plain("up")
    netns.redirect("10.1.0.0/16", "1:9999", 15001)
    p = [80 + i for i in range(20)]
    px = proxy(mesh, [outbound(mesh), *(unbound("0.0.0.0", n, http(mesh, "up")) for n in p)], config.cluster("up", [up.port]), concurrency=2)
    for n in p * 3:
        assert ask("10.1.0.1", n) == b"up!"
    assert [counted(px, f"0.0.0.0_{n}") for n in p] == [3] * len(p)
    until(lambda: all(counted(px, f"0.0.0.0_{n}", "downstream_cx_active") == 0 for n in p))


def test_an_address_of_nobody(netns, mesh, plain):  # noqa: F811
    """freebind: a listener may have an address that the machine has not yet."""
    up = plain("up")
    v = [listener("192.0.2.7", 8080, tcp(mesh, "up"), freebind=True), listener("2001:db8::7", 8080, tcp(mesh, "up"), freebind=True)]
    px = proxy(mesh, v, config.cluster("up", [up.port]))
    netns.add("192.0.2.7/32")
    netns.add("2001:db8::7/128")
    assert ask("192.0.2.7", 8080) == b"up!" and ask("2001:db8::7", 8080) == b"up!"
    assert counted(px, "192.0.2.7_8080") == counted(px, "[2001_db8__7]_8080") == 1


@pytest.mark.parametrize("first,second", [(False, False), (True, False), (False, True)])
def test_two_listeners_at_one_address(proxy_binary, tmp_path, first, second):
    """Bound or not: to which would a connection go?"""
    echo = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
    v = [listener("10.1.0.1", 80, echo, bind_to_port=first), {**listener("10.1.0.1", 80, echo, bind_to_port=second), "name": "second"}]
    (tmp_path / "boot.json").write_text(json.dumps(config.bootstrap(v, [], free_port())))
    r = subprocess.run([proxy_binary, "--mode", "validate", "-c", tmp_path / "boot.json"], capture_output=True, text=True)
    assert r.returncode != 0 and "error adding listener: 'second' has duplicate address '10.1.0.1:80' as existing listener" in r.stdout + r.stderr


@pytest.mark.stricter  # Envoy has no such page
def test_explain_follows_a_hand_over(mesh):
    """What would become of a caught connection: who takes it, and which chain."""
    port, http_manager = free_port(), http(mesh, "up")
    v = [listener(HOST, port, (tcp(mesh, "BlackHoleCluster"), {"destination_port": port}), tcp(mesh, "PassthroughCluster"), use_original_dst=True),
         unbound("0.0.0.0", 80, http_manager), unbound("10.1.0.9", 443, (http_manager, {"prefix_ranges": [{"address_prefix": "10.1.0.9", "prefix_len": 32}]}))]
    px = proxy(mesh, v, config.cluster("up", [free_port()]))

    def explain(query):
        status, text = px.admin(f"/mizzen/explain?port={port}&{query}", "POST")
        return text if status == 200 else status

    text = explain("destination=10.9.9.9:80")
    assert "handed over to listener 0.0.0.0_80, which serves the original destination 10.9.9.9:80" in text and "filter chain 0.0.0.0_80_0 matched" in text and "cluster up" in text, text
    text = explain("destination=10.1.0.9:443")
    assert "handed over to listener 10.1.0.9_443" in text and "filter chain 10.1.0.9_443_0 matched" in text, text
    text = explain("destination=10.1.0.8:443")
    assert f"no other listener serves the original destination 10.1.0.8:443: listener {HOST}_{port} keeps it" in text and f"filter chain {HOST}_{port}_1 matched" in text, text
    assert f"filter chain {HOST}_{port}_0 matched" in explain(f"destination={HOST}:{port}")
    assert "handed over" not in explain("")
    assert explain("destination=80") == explain("destination=a.test:80") == 400
