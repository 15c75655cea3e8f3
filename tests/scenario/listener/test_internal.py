"""Internal listeners (rows U8, L5): connections between a cluster and a listener of the same process, without sockets."""
import hashlib
import json
import random
import socket
import struct
import threading

import config
import pytest
from dynamic import Files
from pki import Pki
from tcp import Server
from upstream import Reply
from wire import HOST, free_port, until

NETWORK = "envoy.extensions.filters.network."
SOCKET = "envoy.extensions.transport_sockets."
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
RAW = config.ext("raw", SOCKET + "raw_buffer.v3.RawBuffer")
ORIGINAL_DST = config.ext("original_dst", "envoy.extensions.filters.listener.original_dst.v3.OriginalDst")
FIELDS = {"local": "%DOWNSTREAM_LOCAL_ADDRESS%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "host": "%UPSTREAM_HOST%",
          "flags": "%RESPONSE_FLAGS%", "cluster": "%UPSTREAM_CLUSTER%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%", "peer": "%DOWNSTREAM_PEER_URI_SAN%",
          "fail": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "authority": "%REQ(:AUTHORITY)%"}


def extension(kb=16):
    return {"bootstrap_extensions": [config.ext("envoy.bootstrap.internal_listener", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                                                buffer_size_kb=kb)]}


def tcp(cluster, log=None, **fields):
    return config.ext("tcp", NETWORK + "tcp_proxy.v3.TcpProxy", stat_prefix=f"to-{cluster}", cluster=cluster, **({"access_log": [log]} if log else {}), **fields)


def inner(name, *filters, **fields):
    return {"name": name, "internal_listener": {}, "filter_chains": [{"filters": list(filters)}], **fields}


def to_internal(name, listener, endpoint="", metadata=None, inside=RAW, http=None, **fields):
    """A cluster with one endpoint at an internal address."""
    e = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": listener, "endpoint_id": endpoint}}}}
    if metadata:
        e["metadata"] = {"filter_metadata": metadata}
    sources = [{"kind": {"host": {}}, "name": n} for n in metadata or ()]
    c = config.cluster(name, [], http, transport_socket=config.ext("internal", SOCKET + "internal_upstream.v3.InternalUpstreamTransport",
                                                                   transport_socket=inside, passthrough_metadata=sources), **fields)
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": [e]}]
    return c


@pytest.fixture
def server():
    s = Server("up")
    yield s
    s.close()


def start(mesh, listeners, clusters, kb=16, **boot):
    return mesh.proxy(boot=config.bootstrap(listeners, clusters, free_port(), **extension(kb), **boot))


def chain(mesh, server, n, kb=16, **cluster):
    """client - main - in1 - .. - in<n> - server"""
    v = [config.listener(free_port(), [tcp("c1" if n else "up")])] + [inner(f"in{i}", tcp(f"c{i + 1}" if i < n else "up")) for i in range(1, n + 1)]
    return start(mesh, v, [to_internal(f"c{i}", f"in{i}", **cluster) for i in range(1, n + 1)] + [config.cluster("up", [server.port])], kb)


def dial(px):
    return socket.create_connection((HOST, px.port), timeout=20)


def idle(px, *clusters):
    """Nothing of a connection is left."""
    for c in clusters:
        until(lambda c=c: px.stat(f"cluster.{c}.upstream_cx_active") == 0, what=f"no connection of {c}")
    until(lambda: not any(px.stats(r"^listener\.envoy_internal_.*downstream_cx_active").values()), what="no connection of internal listeners")


def pump(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def drain(sock):
    got = hashlib.sha256()
    while True:
        b = sock.recv(65536)
        if not b:
            return got.hexdigest()
        got.update(b)


@pytest.mark.parametrize("n", [1, 3])
def test_bulk_both_ways_through_small_buffers(mesh, server, n):
    px = chain(mesh, server, n)
    up, down = random.Random(1).randbytes(3 << 20), random.Random(2).randbytes(3 << 20)
    with dial(px) as c:
        far = server.accept().sock
        far.settimeout(60)
        c.settimeout(60)
        threads = [threading.Thread(target=pump, args=a) for a in ((c, up), (far, down))]
        got = {}
        threads.append(threading.Thread(target=lambda: got.update(up=drain(far))))
        for t in threads:
            t.start()
        assert drain(c) == hashlib.sha256(down).hexdigest()
        for t in threads:
            t.join()
        assert got["up"] == hashlib.sha256(up).hexdigest()
    idle(px, *[f"c{i}" for i in range(1, n + 1)], "up")
    assert px.stat("listener.envoy_internal_in1.downstream_cx_total") == 1


def test_half_close_and_reset_go_through(mesh, server):
    px = chain(mesh, server, 2)
    with dial(px) as c:
        far = server.accept()
        c.sendall(b"question")
        c.shutdown(socket.SHUT_WR)
        assert far.exactly(8, 5) == b"question" and far.sock.recv(1) == b""
        far.sock.sendall(b"answer")
        far.sock.close()
        assert c.recv(100) == b"answer" and c.recv(100) == b""
    for near in (True, False):
        with dial(px) as c:
            far = server.accept()
            c.sendall(b"x")
            assert far.exactly(1, 5) == b"x"
            a, b = (c, far.sock) if near else (far.sock, c)
            a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            a.close()
            b.settimeout(10)
            with pytest.raises(ConnectionResetError):
                b.recv(1)
    idle(px, "c1", "c2", "up")


def test_a_slow_reader_pauses_the_far_end(mesh):
    """Buffers on the way are bounded (H7): what the server can say is what they hold."""
    server = Server("up")
    px = start(mesh, [config.listener(free_port(), [tcp("c1")], per_connection_buffer_limit_bytes=16384), inner("in1", tcp("up"), per_connection_buffer_limit_bytes=16384)],
               [to_internal("c1", "in1", per_connection_buffer_limit_bytes=16384), config.cluster("up", [server.port], per_connection_buffer_limit_bytes=16384)])
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    c.connect((HOST, px.port))
    far = server.accept().sock
    far.setblocking(False)
    block, sent, stalls = b"z" * 65536, 0, 0
    while stalls < 20:
        try:
            sent += far.send(block)
            stalls = 0
        except BlockingIOError:
            stalls += 1
            px.stat("server.live")  # time passes
    assert sent < 16 << 20
    buffered = px.stats("_bytes_buffered")
    assert sum(v for k, v in buffered.items() if k.startswith("cluster.")) < 400_000, buffered
    far.settimeout(20)
    far.close()
    c.settimeout(20)
    total = 0
    while b := c.recv(65536):
        total += len(b)
    assert total == sent
    c.close()
    server.close()


@pytest.mark.stricter  # Envoy calls itself until its stack ends
def test_h03_a_loop_ends(mesh):
    px = start(mesh, [config.listener(free_port(), [tcp("c1", config.access_log(mesh.folder / "access.log", FIELDS))]), inner("in1", tcp("c1"))], [to_internal("c1", "in1")])
    with dial(px) as c:
        assert c.recv(1) == b""
    assert px.stat("cluster.c1.upstream_cx_total") == 17 and px.stat("cluster.c1.upstream_cx_connect_fail") == 1
    idle(px, "c1")


@pytest.mark.stricter
def test_h03_a_loop_of_requests_ends(mesh):
    """HTTP/1 takes a new connection for each turn."""
    manager = config.hcm([config.route("/", "c1")])
    px = start(mesh, [config.listener(free_port(), [manager]), inner("in1", manager)], [to_internal("c1", "in1")])
    assert px.get("/").status == 503
    assert px.stat("cluster.c1.upstream_cx_total") == 17


def test_tls_inside(mesh, server, tmp_path):
    """A transport socket of its own between the two: the listener terminates what the cluster begins."""
    pki = Pki(tmp_path / "pki")
    pki.authority("ca")
    pki.issue("server", "DNS:server.test")
    client = config.ext("tls", SOCKET + "tls.v3.UpstreamTlsContext", sni="server.test", common_tls_context={
        "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}, "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "server.test"}}]}})
    tls = config.ext("tls", SOCKET + "tls.v3.DownstreamTlsContext", common_tls_context={"tls_certificates": [pki.pair("server")]})
    one = inner("in1", tcp("up", config.access_log(mesh.folder / "access.log", {"sni": "%REQUESTED_SERVER_NAME%", "version": "%DOWNSTREAM_TLS_VERSION%"})),
                listener_filters=[config.ext("tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")])
    one["filter_chains"][0].update(transport_socket=tls, filter_chain_match={"server_names": ["server.test"], "transport_protocol": "tls"})
    px = start(mesh, [config.listener(free_port(), [tcp("c1")]), one], [to_internal("c1", "in1", inside=client), config.cluster("up", [server.port])])
    with dial(px) as c:
        c.sendall(b"secret")
        far = server.accept()
        assert far.exactly(6, 10) == b"secret"
        up, down = random.Random(3).randbytes(2 << 20), random.Random(4).randbytes(2 << 20)
        got = {}
        threads = [threading.Thread(target=pump, args=(c, up)), threading.Thread(target=pump, args=(far.sock, down)),
                   threading.Thread(target=lambda: got.update(up=drain(far.sock)))]
        for s in (c, far.sock):
            s.settimeout(60)
        for t in threads:
            t.start()
        assert drain(c) == hashlib.sha256(down).hexdigest()
        for t in threads:
            t.join()
        assert got["up"] == hashlib.sha256(up).hexdigest()
    assert px.access_log(1)[0] == {"sni": "server.test", "version": "TLSv1.2"}
    assert px.stat("listener.envoy_internal_in1.ssl.handshake") == 1 and px.stat("cluster.c1.ssl.handshake") == 1


def hbone(mesh, server, tmp_path):
    """As an ambient waypoint does it: a cluster leads to connect_originate, which asks for each connection by CONNECT over mutual TLS; the other side
    terminates that, and what was asked for goes to its main_internal."""
    pki = Pki(tmp_path / "pki")
    pki.authority("ca")
    for name in ("near", "far"):
        pki.issue(name, f"URI:spiffe://mesh.test/ns/a/sa/{name}")
    common = lambda name: {"tls_certificates": [pki.pair(name)], "alpn_protocols": ["h2"], "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                           "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}, "match_typed_subject_alt_names": [
                               {"san_type": "URI", "matcher": {"prefix": "spiffe://mesh.test/"}}]}}
    far_log, near_log = (config.access_log(mesh.folder / f"{n}.log", FIELDS) for n in ("far", "near"))
    connect = config.hcm([config.route(match={"connect_matcher": {}}, cluster="main_internal", upgrade_configs=[{"upgrade_type": "CONNECT", "connect_config": {}}])],
                         log=far_log, upgrade_configs=[{"upgrade_type": "CONNECT"}], http2_protocol_options={"allow_connect": True})
    terminate = config.listener(free_port(), [connect])
    terminate["filter_chains"][0]["transport_socket"] = config.ext("tls", SOCKET + "tls.v3.DownstreamTlsContext", require_client_certificate=True,
                                                                   common_tls_context=common("far"))
    far = start(mesh, [terminate, inner("main_internal", tcp("up"))], [to_internal("main_internal", "main_internal"), config.cluster("up", [server.port])])
    originate = inner("connect_originate", tcp("connect_originate", near_log, tunneling_config={"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"}), listener_filters=[ORIGINAL_DST])
    over_tls = config.ext("tls", SOCKET + "tls.v3.UpstreamTlsContext", common_tls_context=common("near"))
    near = start(mesh, [config.listener(free_port(), [tcp("service")]), originate],
                 [to_internal("service", "connect_originate", "10.20.0.12:5432", metadata={"envoy.filters.listener.original_dst": {"local": "10.20.0.12:5432"}}),
                  config.cluster("connect_originate", [far.port], H2, transport_socket=over_tls)])
    return near, far


def test_hbone(mesh, server, tmp_path):
    near, far = hbone(mesh, server, tmp_path)
    clients, servers = [], []
    for i in range(3):
        clients.append(c := dial(near))
        c.sendall(b"%d" % i)
        servers.append(server.accept())
        assert servers[i].exactly(1, 10) == b"%d" % i
        servers[i].sock.sendall(b"answer")
        assert c.recv(100) == b"answer"
    assert near.stat("cluster.connect_originate.upstream_cx_total") <= near.stat("server.concurrency")  # one connection of a worker carries all of its
    assert near.stat("cluster.service.upstream_cx_total") == 3 and far.stat("listener.envoy_internal_main_internal.downstream_cx_total") == 3
    clients[0].shutdown(socket.SHUT_WR)
    assert servers[0].sock.recv(1) == b""
    servers[0].sock.sendall(b"late")
    servers[0].sock.close()
    assert clients[0].recv(100) == b"late" and clients[0].recv(1) == b""
    for c in clients:
        c.close()
    for s in servers[1:]:
        s.sock.close()
    idle(near, "service")
    idle(far, "main_internal", "up")
    near.access_path, far.access_path = mesh.folder / "near.log", mesh.folder / "far.log"
    e = near.wait_log(lambda e: e["rx"] == 1)
    assert e["local"] == "10.20.0.12:5432" and e["host"] == f"{HOST}:{far.port}"
    e = far.wait_log(lambda e: e["authority"] == "10.20.0.12:5432")
    assert e["peer"] == "spiffe://mesh.test/ns/a/sa/near" and e["host"] == "envoy://main_internal/"


def test_streams_on_one_connection_per_shared_state(mesh):
    """Filter state that is shared parts the connections to an internal listener: a request is never seen there with what another one said."""
    u = mesh.upstream(script=[Reply(200)])
    state = config.ext("state", "envoy.extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[
        {"object_key": "who", "factory_key": "envoy.hashable_string", "shared_with_upstream": "ONCE", "format_string": {"text_format_source": {"inline_string": "%REQ(who)%"}}}])
    log = config.access_log(mesh.folder / "access.log", {"path": "%REQ(:PATH)%", "who": "%FILTER_STATE(who:PLAIN)%"})
    px = start(mesh, [config.listener(free_port(), [config.hcm([config.route("/", "c1")], filters=[state])]),
                      inner("in1", config.hcm([config.route("/", u.name)], log=log))], [to_internal("c1", "in1"), config.cluster(u.name, [u.port])])
    with px.client() as c:
        for i, who in enumerate(("a", "b", "a", "b", "a")):
            assert c.get(f"/{who}{i}", headers=[("who", who)]).status == 200
    for e in px.access_log(5):
        assert e["who"] == e["path"][1]
    assert px.stat("cluster.c1.upstream_cx_total") == 2


@pytest.mark.stricter  # Envoy keeps no such record
def test_the_recorder_tells_the_chain(mesh):
    """Each part of the way names the connection that it is the other end of."""
    log = config.access_log(mesh.folder / "access.log", {"id": "%CONNECTION_ID%", "up": "%UPSTREAM_CONNECTION_ID%", "host": "%UPSTREAM_HOST%"})
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        px = start(mesh, [config.listener(free_port(), [tcp("c1", log)]), inner("in1", tcp("c2", log)), inner("in2", tcp("up", log))],
                   [to_internal("c1", "in1"), to_internal("c2", "in2"), config.cluster("up", [unused.getsockname()[1]])])
        with dial(px) as c:
            assert c.recv(1) == b""
        story = px.admin("/mizzen/requests")[1]
    by_host = {e["host"]: e["up"] for e in px.access_log(3)}
    assert "listener in2 accepted connection" in story and f"from connection {by_host['envoy://in2/']} of this process" in story, story


def answered(px, server, word):
    """What the server gets of a new client's bytes; b"": the client's connection just ended."""
    with dial(px) as c:
        try:
            c.sendall(word)
            c.settimeout(0.5)
            if c.recv(1) == b"":
                return b""
        except TimeoutError:  # somebody holds it
            return server.accept().exactly(3, 5)
        except ConnectionError:
            return b""


@pytest.mark.stricter  # Envoy's goes on answering until its drain time is over, which listeners with sockets do not
def test_it_goes_and_comes_by_subscription(mesh, server):
    """A listener that was removed answers no more; its connections drain (L7)."""
    files = Files(mesh.folder / "files")
    one = inner("in1", tcp("up"))
    files.put("lds", "listener", one)
    px = start(mesh, [config.listener(free_port(), [tcp("c1")])], [to_internal("c1", "in1"), config.cluster("up", [server.port])],
               dynamic_resources={"lds_config": files.source("lds")})
    with dial(px) as c:
        far = server.accept()
        files.put("lds", "listener")
        px.wait_stat("listener_manager.listener_removed", 1)
        until(lambda: answered(px, server, b"old") == b"", what="nobody to answer")  # each worker hears of it in its turn
        c.sendall(b"still")
        assert far.exactly(5, 5) == b"still"
        files.put("lds", "listener", one)
        until(lambda: answered(px, server, b"new") == b"new", what="the listener again")


@pytest.mark.parametrize("listener,boot,said", [
    ({"address": config.address(80)}, extension(), "address should not be used"),
    ({"freebind": True}, extension(), "has unsupported tcp listener feature"),
    ({"socket_options": [{"level": 1, "name": 9, "int_value": 1}]}, extension(), "does not support socket option"),
    ({}, {}, "internal listener registry is not initialized"),
    ({}, extension(9000), "buffer_size_kb"),
], ids=["address", "feature", "option", "no-extension", "buffer"])
def test_refused(proxy_binary, is_envoy, tmp_path, listener, boot, said):
    import subprocess
    echo = config.ext("echo", NETWORK + "echo.v3.Echo")
    (tmp_path / "boot.json").write_text(json.dumps(config.bootstrap([inner("in1", echo, **listener)], [], free_port(), **boot)))
    r = subprocess.run([proxy_binary, "--mode", "validate", "-c", tmp_path / "boot.json"], capture_output=True, text=True)
    assert r.returncode == 1 and (is_envoy or said in r.stderr), r.stderr


def shared(key, text, how="ONCE", factory=None):
    return {"object_key": key, **({"factory_key": factory} if factory else {}), "shared_with_upstream": how, "format_string": {"text_format_source": {"inline_string": text}}}


def test_a_waypoint(mesh, server):
    """What a client asks for by CONNECT is the destination at the internal listener behind: a matcher chooses the chain by it, and whose connection it is stays known."""
    web = mesh.upstream("web", script=[Reply(200)])
    log = config.access_log(mesh.folder / "access.log", {**FIELDS, "chain": "%FILTER_CHAIN_NAME%", "who": "%FILTER_STATE(io.istio.peer_principal:PLAIN)%"})
    authority = config.ext("state", "envoy.extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[
        shared("envoy.filters.listener.original_dst.local_ip", "%REQ(:AUTHORITY)%"), shared("envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        shared("io.istio.peer_principal", "%REQ(x-who)%", "TRANSITIVE", "envoy.hashable_string")])
    connect = config.hcm([config.route(match={"connect_matcher": {}}, cluster="main_internal", upgrade_configs=[{"upgrade_type": "CONNECT", "connect_config": {}}])],
                         filters=[authority], upgrade_configs=[{"upgrade_type": "CONNECT"}])
    port = config.ext("port", "envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput")
    action = lambda name: {"action": config.ext(name, "google.protobuf.StringValue", value=name)}
    by_port = {"matcher": {"matcher_tree": {"input": port, "exact_match_map": {"map": {"80": action("http"), "5432": action("tcp")}}}}}
    ip = config.ext("ip", "envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput")
    matcher = {"matcher_tree": {"input": ip, "custom_match": config.ext("ip", "xds.type.matcher.v3.IPMatcher", range_matchers=[
        {"ranges": [{"address_prefix": "10.90.0.0", "prefix_len": 16}], "on_match": by_port}])}}
    main = {"name": "main_internal", "internal_listener": {}, "listener_filters": [ORIGINAL_DST], "filter_chain_matcher": matcher, "filter_chains": [
        {"name": "tcp", "filters": [tcp("up", log)]}, {"name": "http", "filters": [config.hcm([config.route("/", "web")], log=log)]}]}
    px = start(mesh, [config.listener(free_port(), [connect]), main],
               [to_internal("main_internal", "main_internal"), config.cluster("up", [server.port]), config.cluster("web", [web.port])])

    def ask(authority, who="me", status=200):
        c = px.client(timeout=20)
        c.send(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nx-who: {who}\r\n\r\n".encode())
        assert c.stream.until(b"\r\n\r\n", 20).startswith(b"HTTP/1.1 %d" % status)
        return c

    with ask("10.90.0.11:5432") as c:
        c.send(b"hello")
        far = server.accept()
        assert far.exactly(5, 5) == b"hello"
        me = "%s:%d" % c.stream.sock.getsockname()
        far.sock.close()
    e = px.wait_log(lambda e: e["chain"] == "tcp")
    assert (e["local"], e["remote"], e["who"]) == ("10.90.0.11:5432", me, "me")
    for who in ("a", "b"):
        with ask("10.90.0.10:80", who) as c:
            assert c.send(b"GET /%s HTTP/1.1\r\nhost: web\r\n\r\n" % who.encode()).response().status == 200
    for who in ("a", "b"):
        e = px.wait_log(lambda e, who=who: e["chain"] == "http" and e["who"] == who)
        assert e["local"] == "10.90.0.10:80"
    ask("10.91.0.1:80", status=503).close()  # nobody's
    px.wait_stat("listener.envoy_internal_main_internal.no_filter_chain_match", 1)


def test_the_process_ends_with_chains_open(mesh, server):
    """Each end is freed, whoever of the two goes first (a sanitizer's build tells)."""
    px = chain(mesh, server, 3)
    clients = [dial(px) for _ in range(20)]
    for c in clients:
        c.sendall(b"x" * 100_000)  # some of it lies in every buffer on the way
    px.wait_stat("cluster.up.upstream_cx_active", 20)
    px.stop()
    for c in clients:
        c.close()
