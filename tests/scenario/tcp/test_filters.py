"""Network filters before the last one: connection_limit, local_ratelimit, sni_cluster, set_filter_state (row L5)."""
import socket
import ssl

import config
import pytest
from tcp import Server
from wire import HOST, free_port, until

NET = "envoy.extensions.filters.network."
ECHO = config.ext("envoy.filters.network.echo", NET + "echo.v3.Echo")
TCP = NET + "tcp_proxy.v3.TcpProxy"


def limit(**fields):
    return config.ext("envoy.filters.network.connection_limit", NET + "connection_limit.v3.ConnectionLimit", stat_prefix="cl", **fields)


def rate(**fields):
    return config.ext("envoy.filters.network.local_ratelimit", NET + "local_ratelimit.v3.LocalRateLimit", stat_prefix="lr", **fields)


def state(*values):
    return config.ext("envoy.filters.network.set_filter_state", NET + "set_filter_state.v3.Config", on_new_connection=[
        {"object_key": k, "format_string": {"text_format_source": {"inline_string": t}}, **({"factory_key": f} if f else {})} for k, t, f in values])


def tcp_proxy(cluster, log=None):
    return config.ext("envoy.filters.network.tcp_proxy", TCP, stat_prefix="t", cluster=cluster, access_log=[log] if log else [])


def start(mesh, *listeners, clusters=(), **kw):
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), list(f), name=f"l{i}") for i, f in enumerate(listeners)], list(clusters), free_port(), **kw))


def dial(px, port=None):
    return socket.create_connection((HOST, port or px.port), timeout=10)


def echoes(s, data=b"x"):
    s.sendall(data)
    return s.recv(10)


def refused(s):
    try:
        return s.recv(10) == b""
    except ConnectionResetError:
        return True


def test_connections_above_the_limit_are_closed(mesh):
    px = start(mesh, (limit(max_connections=2), ECHO))
    first, second = dial(px), dial(px)
    assert echoes(first) == echoes(second) == b"x"
    with dial(px) as third:
        assert refused(third)
    until(lambda: px.stat("connection_limit.cl.active_connections") == 2, 5, "the refused one to be gone")
    assert px.stat("connection_limit.cl.limited_connections") == 1
    first.close()
    until(lambda: px.stat("connection_limit.cl.active_connections") == 1, 5, "one connection")
    with dial(px) as again:
        assert echoes(again) == b"x"
    second.close()
    until(lambda: px.stat("connection_limit.cl.active_connections") == 0, 5, "no connection")


def test_a_refused_connection_waits_for_its_delay(mesh):
    px = start(mesh, (limit(max_connections=1, delay="600s"), ECHO))
    with dial(px) as first, dial(px) as held:
        assert echoes(first) == b"x"
        held.sendall(b"never answered")
        px.wait_stat("connection_limit.cl.limited_connections")
        assert px.stat("connection_limit.cl.active_connections") == 2  # it counts while it waits
        held.settimeout(0.3)
        with pytest.raises(TimeoutError):
            held.recv(1)
    until(lambda: px.stat("connection_limit.cl.active_connections") == 0, 5, "both to end")


@pytest.mark.stricter  # Envoy counts down connections that it did not count up
def test_the_limit_can_be_off(mesh):
    off = {"default_value": False, "runtime_key": "limit.on"}
    px = start(mesh, (limit(max_connections=1, runtime_enabled=off), ECHO),
               layered_runtime={"layers": [{"name": "a", "admin_layer": {}}]})
    with dial(px) as a, dial(px) as b:
        assert echoes(a) == echoes(b) == b"x"
    px.admin("/runtime_modify?limit.on=true", "POST")

    def limited():
        with dial(px) as a, dial(px) as b:
            b.settimeout(0.3)
            try:
                return echoes(a) == b"x" and refused(b)
            except TimeoutError:
                return False
    until(limited, 5, "the worker to know")


def test_rate_of_new_connections(mesh):
    px = start(mesh, (rate(token_bucket={"max_tokens": 2, "fill_interval": "3600s"}), ECHO))
    for _ in range(2):
        with dial(px) as s:
            assert echoes(s) == b"x"
    with dial(px) as s:
        assert refused(s)
    assert px.stat("local_rate_limit.lr.rate_limited") == 1


def test_filter_chains_share_a_bucket_by_key(mesh):
    bucket = {"max_tokens": 1, "fill_interval": "3600s"}
    px = start(mesh, (rate(token_bucket=bucket, share_key="k"), ECHO), (rate(token_bucket=bucket, share_key="k"), ECHO), (rate(token_bucket=bucket), ECHO))
    ports = [x["address"]["socket_address"]["port_value"] for x in px.boot["static_resources"]["listeners"]]
    with dial(px, ports[0]) as a, dial(px, ports[1]) as b, dial(px, ports[2]) as c:
        assert echoes(a) == b"x" and refused(b) and echoes(c) == b"x"


def test_refused_connections_are_logged(mesh):
    log = config.access_log(mesh.folder / "access.log", {"flags": "%RESPONSE_FLAGS%", "who": "%FILTER_STATE(who:PLAIN)%"})
    boot = config.bootstrap([config.listener(free_port(), [state(("who", "port %DOWNSTREAM_LOCAL_PORT%", "envoy.string")),
                                                           rate(token_bucket={"max_tokens": 1, "fill_interval": "3600s"}), ECHO], access_log=[log])], [], free_port())
    px = mesh.proxy(boot=boot)
    with dial(px) as s:
        assert echoes(s) == b"x"
    with dial(px) as s:
        assert refused(s)
    who = f"port {px.port}"
    assert sorted(px.access_log(2), key=str) == [{"flags": "-", "who": who}, {"flags": "URX", "who": who}]


def test_filter_state_names_the_cluster(mesh):
    a, b = Server("a"), Server("b")
    log = config.access_log(mesh.folder / "access.log", {"cluster": "%UPSTREAM_CLUSTER%", "state": "%FILTER_STATE(envoy.tcp_proxy.cluster:PLAIN)%"})
    px = start(mesh, (state(("envoy.tcp_proxy.cluster", "b", "")), tcp_proxy("a", log)),
               clusters=[config.cluster(s.name, [s.port]) for s in (a, b)])
    with dial(px) as s:
        s.sendall(b"hi")
        assert b.accept().exactly(2, 5) == b"hi"
    b.close(), a.close()
    assert px.access_log(1)[0] == {"cluster": "b", "state": "b"}


def test_http_streams_see_the_state_of_their_connection(mesh):
    mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", {"who": "%FILTER_STATE(who:PLAIN)%"})
    px = start(mesh, (state(("who", "conn %DOWNSTREAM_LOCAL_PORT%", "envoy.string")), config.hcm([config.route("/", "up")], log)),
               clusters=[config.cluster("up", [mesh.upstreams[0].port])])
    with px.client() as c:
        assert c.get("/").status == c.get("/").status == 200
    assert px.access_log(2) == [{"who": f"conn {px.port}"}] * 2


def test_an_unknown_factory_is_refused(mesh):
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [state(("x", "y", "envoy.none")), ECHO])], [], free_port()), ready=False)
    assert px.process.wait(10) == 1 and "does not have an object factory" in px.log()


def hello_to(port, name):
    """A ClientHello with this server name, as bytes."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    o = c.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        o.do_handshake()
    return out.read()


def test_sni_names_the_cluster(mesh):
    a, b = Server("a.test"), Server("b.test")
    sni = config.ext("envoy.filters.network.sni_cluster", NET + "sni_cluster.v3.SniCluster")
    inspector = config.ext("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    boot = config.bootstrap([config.listener(free_port(), [sni, tcp_proxy("a.test", config.access_log(mesh.folder / "access.log", {"c": "%UPSTREAM_CLUSTER%", "f": "%RESPONSE_FLAGS%"}))],
                                             listener_filters=[inspector])], [config.cluster(s.name, [s.port]) for s in (a, b)], free_port())
    px = mesh.proxy(boot=boot)
    for name, server in (("b.test", b), ("A.test", a), (None, a)):
        hello = hello_to(px.port, name)
        with dial(px) as s:
            s.sendall(hello)
            assert server.accept().exactly(len(hello), 5) == hello
    with dial(px) as s:
        s.sendall(hello_to(px.port, "nobody.test"))
        assert refused(s)
    a.close(), b.close()
    got = px.access_log(4)
    assert {"c": "-", "f": "NC"} in got or {"c": None, "f": "NC"} in got, got
