"""Happy eyeballs (U3): a host has several addresses; each connection goes to the first that answers."""
import json
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import config
from dns import AAAA, Dns
from h2_upstream import H2Upstream
from pki import Pki
from tcp import FIELDS, Tcp
from upstream import Reply
from wire import HOST, Stream, free_port, until

LOG = {"host": "%UPSTREAM_HOST%", "remote": "%UPSTREAM_REMOTE_ADDRESS%", "port": "%UPSTREAM_REMOTE_PORT%", "flags": "%RESPONSE_FLAGS%",
       "details": "%RESPONSE_CODE_DETAILS%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "fail": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"}
HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}


class Silent:
    """A port whose SYNs get no answer: nobody empties its queue."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind((HOST, 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.fillers = [socket.socket() for _ in range(2)]
        for s in self.fillers:
            s.setblocking(False)
            s.connect_ex((HOST, self.port))

    def close(self):
        for s in (self.listener, *self.fillers):
            s.close()


class Counted:
    """Counts connections of a loopback address and answers each with 200; ip "::1" too."""

    def __init__(self, ip, port=0):
        self.listener = socket.create_server((ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self.port, self.connections = self.listener.getsockname()[1], 0
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(Stream(s),), daemon=True).start()

    def _serve(self, stream):
        try:
            while True:
                stream.until(b"\r\n\r\n", 30)
                stream.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (EOFError, OSError):
            stream.sock.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


@pytest.fixture
def held():
    things = []

    def hold(thing):
        things.append(thing)
        return thing
    yield hold
    for t in things:
        t.close()


def at(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def endpoint(first, *more):
    """Addresses: a port of 127.0.0.1, a path, or (ip, port)."""
    v = [at(*a) if isinstance(a, tuple) else config.address(a) for a in (first, *more)]
    return {"endpoint": {"address": v[0], "additional_addresses": [{"address": a} for a in v[1:]]}}


def cluster(endpoints, connect_timeout="10s", **fields):
    c = config.cluster("up", [], connect_timeout=connect_timeout, **fields)
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    return c


def proxy(mesh, c, route=None):
    manager = config.hcm([config.route("/", **(route or {}))], log=config.access_log(mesh.folder / "access.log", LOG))
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [c], free_port()))


def cx(px, name):
    return px.stat(f"cluster.up.upstream_cx_{name}")


def clusters_row(px, name):
    return [line.rsplit("::", 1)[1] for line in px.admin("/clusters")[1].splitlines() if f"::{name}::" in line]


def test_a_refused_address_is_passed_at_once(mesh):
    up, closed = mesh.upstream(), free_port()
    px = proxy(mesh, cluster([endpoint(("::1", closed), up.port)]))
    assert px.get("/").status == 200 and px.get("/").status == 200
    first, second = px.access_log(2)
    assert first["host"] == f"[::1]:{closed}"  # the host's name is its first address, whatever answered
    assert first["remote"] == second["remote"] == f"{HOST}:{up.port}" and first["port"] == up.port
    assert first["attempts"] == 1 and first["flags"] == "-"
    # Envoy counts each attempt as a connection, and none of those that lost as failed.
    assert cx(px, "total") == 2 and cx(px, "connect_fail") == 0 and cx(px, "active") == 1 and cx(px, "destroy") == 0
    assert clusters_row(px, "cx_total") == ["2"] and clusters_row(px, "cx_active") == ["1"] and clusters_row(px, "cx_connect_fail") == ["0"]
    dump = json.loads(px.admin("/config_dump?include_eds")[1])
    found = next(x for x in dump["configs"] if x["@type"].endswith("EndpointsConfigDump"))["static_endpoint_configs"][0]
    shown = found["endpoint_config"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert shown["address"] == at("::1", closed) and shown["additional_addresses"] == [{"address": at(HOST, up.port)}]


def test_a_silent_address_costs_300_ms(mesh, held):
    up, silent = mesh.upstream(), held(Silent())
    px = proxy(mesh, cluster([endpoint(silent.port, silent.port, up.port)]))
    began = time.monotonic()
    assert px.get("/").status == 200
    assert time.monotonic() - began >= 0.59  # two of them
    assert px.access_log(1)[0]["remote"] == f"{HOST}:{up.port}"
    assert cx(px, "total") == 3 and cx(px, "connect_fail") == 0 and cx(px, "active") == 1


def test_the_first_that_answers_is_the_only_one(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, cluster([endpoint(a.port, b.port)]))
    assert px.get("/").status == 200
    assert (a.connections, b.connections) == (1, 0) and cx(px, "total") == 1


def test_order_by_family(mesh, held):
    six = held(Counted("::1"))
    four = held(Counted(HOST, six.port))
    path = str(mesh.folder / "up.sock")
    for want, count, order in (("V4", 1, [four]), ("V6", 1, [six]), ("DEFAULT", 1, [six])):
        before = four.connections, six.connections
        c = cluster([endpoint(("::1", six.port), (HOST, four.port))],
                    upstream_connection_options={"happy_eyeballs_config": {"first_address_family_version": want, "first_address_family_count": count}})
        px = proxy(mesh, c)
        assert px.get("/").status == 200
        after = four.connections - before[0], six.connections - before[1]
        assert after == ((1, 0) if order == [four] else (0, 1)), want
        px.stop()
    # 2 of IPv4, one of IPv6, and again; a path that nobody serves fails last.
    closed = free_port()
    c = cluster([endpoint(path, ("::1", closed), ("::1", six.port), (HOST, closed), (HOST, closed), (HOST, four.port))],
                upstream_connection_options={"happy_eyeballs_config": {"first_address_family_version": "V4", "first_address_family_count": 2}})
    before = four.connections, six.connections
    px = proxy(mesh, c)
    assert px.get("/").status == 200
    # v4 closed, v4 closed, then one of each other family: the path, ::1 closed; then the third of IPv4
    assert cx(px, "total") == 5 and (four.connections - before[0], six.connections - before[1]) == (1, 0)


def test_all_refused(mesh):
    a, b = free_port(), free_port()
    px = proxy(mesh, cluster([endpoint(a, ("::1", b), b)]))
    r = px.get("/")
    assert r.status == 503 and b"remote connection failure" in r.body
    e = px.access_log(1)[0]
    assert e["flags"] == "UF" and e["host"] == f"{HOST}:{a}" and e["remote"] is None
    assert e["details"] == "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
    assert cx(px, "total") == 3 and cx(px, "connect_fail") == 1 and cx(px, "destroy") == 1 and cx(px, "active") == 0
    assert clusters_row(px, "cx_connect_fail") == ["1"] and clusters_row(px, "cx_active") == ["0"]


def test_connect_timeout_counts_for_all_together(mesh, held):
    silent = held(Silent())
    px = proxy(mesh, cluster([endpoint(*[silent.port] * 9)], connect_timeout="0.7s"))
    r = px.get("/")
    assert r.status == 503
    e = px.access_log(1)[0]
    assert e["flags"] == "UF" and "remote_connection_failure" in e["details"] or "connection_timeout" in e["details"]
    assert cx(px, "connect_timeout") == 1 and cx(px, "connect_fail") == 1 and cx(px, "active") == 0
    assert 2 <= cx(px, "total") <= 4


def test_retry_begins_anew(mesh):
    up, closed = mesh.upstream(), free_port()
    px = proxy(mesh, cluster([endpoint(closed, ("::1", closed)), endpoint(closed, up.port)]),
               route={"retry_policy": {"retry_on": "connect-failure", "num_retries": 3}})
    assert [px.get("/").status for _ in range(4)] == [200] * 4
    assert all(e["remote"] == f"{HOST}:{up.port}" for e in px.access_log(4))


def test_client_leaves_while_addresses_are_tried(mesh, held):
    up, silent = mesh.upstream(), held(Silent())
    px = proxy(mesh, cluster([endpoint(*[silent.port] * 3, up.port)]))
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: cx(px, "total") >= 2, 5, "a second attempt")
    assert px.get("/").status == 200  # perhaps on the connection that the first had asked for
    px.wait_log(lambda e: e["flags"] == "DC")


def test_http2(mesh):
    up = H2Upstream()
    mesh.upstreams.append(up)
    px = proxy(mesh, cluster([endpoint(free_port(), up.port)], **{"http": HTTP2}))
    assert px.get("/").status == 200 and px.get("/").status == 200
    assert cx(px, "total") == 2 and cx(px, "http2_total") == 1


def test_the_handshake_belongs_to_the_race(mesh, held, tmp_path):
    """An address that accepts and then does not speak TLS (closes, or says nothing) is passed like one that refuses."""
    pki = Pki(tmp_path / "pki")
    pki.authority("ca")
    pki.issue("server", "DNS:server.test")
    mute = held(socket.create_server((HOST, 0)))
    rude = held(socket.create_server((HOST, 0)))

    def reject():
        try:
            while True:
                s, _ = rude.accept()
                s.recv(4096)
                s.close()
        except OSError:
            pass
    threading.Thread(target=reject, daemon=True).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.path("server.pem"), pki.path("server.key"))
    plain = socket.create_server((HOST, 0))
    served = held(context.wrap_socket(plain, server_side=True))

    def serve():
        try:
            s, _ = served.accept()
            s.recv(4096)
            s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            s.recv(4096)
        except OSError:
            pass
    threading.Thread(target=serve, daemon=True).start()
    tls = config.ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni="server.test",
                     common_tls_context={"validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px = proxy(mesh, cluster([endpoint(mute.getsockname()[1], rude.getsockname()[1], served.getsockname()[1])], transport_socket=tls))
    began = time.monotonic()
    assert px.get("/").status == 200
    assert time.monotonic() - began >= 0.29
    assert px.access_log(1)[0]["remote"] == f"{HOST}:{served.getsockname()[1]}"
    assert cx(px, "total") == 3 and cx(px, "connect_fail") == 0


def test_tcp_proxy(mesh, held):
    tcp = held(Tcp(mesh))
    server, silent = tcp.server(), held(Silent())
    c = cluster([endpoint(free_port(), silent.port, server.port)])
    px = tcp.start(clusters=[c], cluster="up", logs=[config.access_log(mesh.folder / "access.log", {**FIELDS, "remote": "%UPSTREAM_REMOTE_ADDRESS%"})])
    client = socket.create_connection((HOST, px.port))
    client.sendall(b"early")
    there = server.accept(20)
    assert there.exactly(5, 5) == b"early"
    there.sock.sendall(b"answer")
    assert Stream(client).exactly(6, 5) == b"answer"
    client.close()
    there.sock.close()
    e = px.access_log(1)[0]
    assert e["remote"] == f"{HOST}:{server.port}" and e["attempts"] == 1
    assert cx(px, "total") == 3 and cx(px, "connect_fail") == 0
    until(lambda: cx(px, "active") == 0)


@pytest.mark.stricter  # Envoy goes on until its connect timeout
def test_tcp_client_leaves(mesh, held):
    tcp = held(Tcp(mesh))
    silent = held(Silent())
    px = tcp.start(clusters=[cluster([endpoint(*[silent.port] * 40)])], cluster="up")
    client = socket.create_connection((HOST, px.port))
    until(lambda: cx(px, "total") >= 3, 10, "a third attempt")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # a reset: an end of its input alone would wait with the rest for the connection
    until(lambda: cx(px, "active") == 0, 5, "the end of all attempts")
    total = cx(px, "total")
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.7)
    assert cx(px, "total") == total


def test_health_checks_ask_the_first_address(mesh):
    up, closed = mesh.upstream(), free_port()
    px = proxy(mesh, cluster([endpoint(closed, up.port)], health_checks=[
        {"timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {}}]))
    px.wait_stat("cluster.up.health_check.failure")
    assert px.stat("cluster.up.membership_healthy") == 0 and px.get("/").status == 200  # panic: the request finds the address that is there
    assert up.connections == 1


@pytest.mark.parametrize("family", ["ALL", "V4_ONLY", "V4_PREFERRED"])
def test_logical_dns_races_all_of_the_answer(mesh, held, family):
    up = mesh.upstream()  # at 127.0.0.1 only
    dns = held(Dns({"up.test": ["127.0.0.3", "127.0.0.1", "::1"]}))
    c = cluster([{"endpoint": {"address": at("up.test", up.port)}}], type="LOGICAL_DNS", dns_lookup_family=family, dns_refresh_rate="0.2s",
                **dns.fields(no_default_search_domain=True))
    px = proxy(mesh, c)
    assert px.get("/").status == 200
    e = px.access_log(1)[0]
    assert e["host"] == f"127.0.0.3:{up.port}" and e["remote"] == f"127.0.0.1:{up.port}"
    assert px.stat("cluster.up.membership_total") == 1 and clusters_row(px, "hostname") == ["up.test"]
    # Interleaved by family, IPv6 is tried before the second of IPv4.
    assert cx(px, "total") == (3 if family == "ALL" else 2)
    assert ("up.test", AAAA) in dns.asked or family != "ALL"
    changes = px.stat("cluster.up.membership_change")
    px.wait_stat("cluster.up.update_no_rebuild")  # the same answer is the same host
    assert px.stat("cluster.up.membership_change") == changes
    dns.records["up.test"] = ["127.0.0.3", "127.0.0.4", "127.0.0.1"]  # another list is another host
    px.wait_stat("cluster.up.membership_change", changes + 1)
    until(lambda: clusters_row(px, "cx_total") == ["0"], 5, "a new host in /clusters")
    with px.client() as c:
        assert c.get("/", headers=[("connection", "close")]).status == 200


def test_strict_dns_makes_a_host_of_each(mesh, held):
    up = mesh.upstream()
    dns = held(Dns({"up.test": ["127.0.0.3", "127.0.0.1", "::1"]}))
    c = cluster([endpoint(("up.test", up.port), up.port)], type="STRICT_DNS", dns_lookup_family="ALL", **dns.fields(no_default_search_domain=True))
    px = proxy(mesh, c)
    assert sorted(px.get("/").status for _ in range(3)) == [200, 503, 503]
    assert px.stat("cluster.up.membership_total") == 3 and cx(px, "total") == 3


@pytest.mark.stricter
def test_its_story(mesh, held):
    up, silent = mesh.upstream(script=[Reply(500)]), held(Silent())
    closed = free_port()
    px = proxy(mesh, cluster([endpoint(closed, silent.port, up.port)]))
    assert px.get("/").status == 500
    story = px.admin("/mizzen/requests")[1]
    assert f"address {HOST}:{up.port} answered, attempt 3 of 3: {HOST}:{closed} failed: Connection refused, {HOST}:{silent.port} had not answered after 3" in story
    assert f"::mizzen_additional_address::{HOST}:{silent.port}\n" in px.admin("/clusters")[1]
    status = json.loads(px.admin("/clusters?format=json")[1])["cluster_statuses"][0]["host_statuses"][0]
    assert status["mizzen_additional_addresses"] == [at(HOST, silent.port), at(HOST, up.port)]


@pytest.mark.parametrize("endpoint_of,path,why", [
    ({"address": at(HOST, 1), "additional_addresses": [{"address": at("foo.test", 1)}]},
     "lb_endpoints[0].endpoint.additional_addresses[0].address.socket_address.address", "malformed IP address: foo.test"),
    ({"address": at(HOST, 1), "additional_addresses": [{}]}, "lb_endpoints[0].endpoint.additional_addresses[0].address", "is required"),
    ({"address": at(HOST, 1), "additional_addresses": [{"address": at(HOST, 65536)}]}, "additional_addresses[0].address.socket_address.port_value", "65535"),
])
def test_refused_configuration(proxy_binary, is_envoy, tmp_path, endpoint_of, path, why):
    boot = config.bootstrap([], [cluster([{"endpoint": endpoint_of}])], free_port())
    (tmp_path / "boot.json").write_text(json.dumps(boot))
    r = subprocess.run([proxy_binary, "--mode", "validate", "-c", tmp_path / "boot.json"], capture_output=True, text=True)
    assert r.returncode != 0 and (is_envoy or (path in r.stdout + r.stderr and why in r.stdout + r.stderr)), r.stdout + r.stderr
