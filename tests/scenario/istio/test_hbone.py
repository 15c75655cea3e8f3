"""HBONE inbound (G14): the listeners that Istio's control plane made for a sidecar with HBONE on (golden case ambient, plain-side), in a pod of their own:
15008 with a client certificate, CONNECT, an internal listener whose chains are for the pod's address, the original destination. In front of the
tunnels stand rules as those of Istio's waypoints (L4 policies as an HTTP filter, so that who is refused is told at the CONNECT)."""
import copy
import socket
import ssl

import pytest

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import config  # noqa: E402
import istio  # noqa: E402
from h2_client import H2Client, frame  # noqa: E402
from h2_upstream import DATA  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import free_port, until  # noqa: E402

SIDE, OTHER, PEER = "10.20.0.14", "10.20.0.15", "10.20.0.9"
DENIED = "spiffe://cluster.local/ns/plain/sa/denied"
RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"


def authority(**match):
    return {"header": {"name": ":authority", "string_match": match}}


def guard(admin):
    """What is not for this pod's address, what is for the proxy's own ports, who is denied."""
    anybody, anything = [{"any": True}], [{"any": True}]
    own = [authority(suffix=f":{p}") for p in (admin, 15000, 15001, 15006, 15008, 15020, 15021, 15090)]
    return config.ext("envoy.filters.http.rbac", RBAC, rules={"action": "DENY", "policies": {
        "not-this-pod": {"permissions": [{"not_rule": authority(safe_regex={"regex": SIDE.replace(".", "\\.") + ":[0-9]+"})}], "principals": anybody},
        "ports-of-the-proxy": {"permissions": own, "principals": anybody},
        "denied": {"permissions": anything, "principals": [{"authenticated": {"principal_name": {"exact": DENIED}}}]}}})


def listener(golden, name):
    return next(x for x in golden["lds"] if x["name"] == name)


class Tunnels:
    """The pod under test, one beside it, and one whose workloads ask for tunnels."""

    def __init__(self, node, mesh, certificates, guarded=True, change=None):  # noqa: F811
        golden = copy.deepcopy(istio.load("ambient")["plain-side"])
        self.certificates, self.admin = certificates, free_port()
        if guarded:
            listener(golden, "connect_terminate")["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"].insert(0, guard(self.admin))
        if change:
            change(golden)
        self.side, self.other = node.pod("side", SIDE, "plain/side"), node.pod("other", OTHER, "plain/other")
        self.peer = node.pod("peer", PEER, "plain/peer")
        self.app, self.others = self.side.app(8080), self.other.app(8080)
        self.side.sidecar(mesh, golden, certificates, admin=self.admin)
        self.side.wait_ready()
        with self.side:
            until(lambda: "connect_terminate" in self.side.proxy.admin("/listeners")[1], 10, "the listener")

    def open(self, account="plain/peer", context=None):
        with self.peer:
            s = socket.create_connection((SIDE, 15008), 10)
        return H2Client(0, sock=(context or self.certificates.context(account, ["h2"])).wrap_socket(s))

    def connect(self, to, account="plain/peer"):
        """(status, fields, body) of a CONNECT that is answered at once."""
        with self.open(account) as c:
            c.request(1, [(":method", "CONNECT"), (":authority", to)], end=False)
            return c.answer(1, 10)

    def refused(self, to, account="plain/peer", policy=None):
        """4xx, logged, and nobody was dialled."""
        assert self.connect(to, account)[::2] == (403, b"RBAC: access denied")
        self.side.logged(f'"CONNECT - HTTP/2" 403 - rbac_access_denied_matched_policy[{policy}]')
        self.side.logged(f'"{to}"')
        assert not self.dialled() and not self.app.asked and not self.others.asked

    def dialled(self):
        return self.side.stats(r"^(cluster\.(main_internal|PassthroughCluster|inbound).*|listener\.envoy_internal_main_internal)\.\w+_cx_total")


@pytest.fixture
def tunnels(node, mesh, certificates):  # noqa: F811
    return Tunnels(node, mesh, certificates)


def ask(client, path="/"):
    client.send(frame(DATA, 0, 1, f"GET {path} HTTP/1.1\r\nhost: side\r\n\r\n".encode()))
    client.wait(lambda: b"}" in client.bodies.get(1, b"") or client.rst(1) is not None or client.ended(1), 10, "an answer in the tunnel")
    return client.bodies.get(1, b"")


def test_what_is_for_this_pod_comes_there(tunnels):
    with tunnels.open() as c:
        c.request(1, [(":method", "CONNECT"), (":authority", f"{SIDE}:8080")], end=False)
        assert c.status(1) == 200
        assert b"HTTP/1.1 200" in ask(c, "/one") and tunnels.app.asked[0]["path"] == "/one" and tunnels.app.asked[0]["peer"] == "127.0.0.6"
    tunnels.side.logged(f"{SIDE}:8080 {PEER}:")  # where it was for, and who came
    assert len(tunnels.dialled()) == 3  # into the internal listener, and from there


def test_g14_an_address_that_is_not_this_pods(tunnels):
    for to in (f"{OTHER}:8080", "8.8.8.8:53", "side.plain.svc.cluster.local:8080", f"{SIDE}", f"{SIDE}:8080:8080", f"1{SIDE}:8080", "nonsense"):
        tunnels.refused(to, policy="not-this-pod")


def test_g14_loopback(tunnels):
    for to in ("127.0.0.1:8080", "127.8.9.10:8080", "[::1]:8080", "localhost:8080", "0.0.0.0:8080", "[::ffff:127.0.0.1]:8080"):
        tunnels.refused(to, policy="not-this-pod")


def test_g14_the_admin_port(tunnels):
    tunnels.refused(f"127.0.0.1:{tunnels.admin}", policy="not-this-pod")
    tunnels.refused(f"{SIDE}:{tunnels.admin}", policy="ports-of-the-proxy")
    tunnels.refused(f"{SIDE}:15008", policy="ports-of-the-proxy")  # into itself


def test_g14_without_client_identity(tunnels):
    """No certificate, one of another trust domain, no TLS at all: nothing is asked for."""
    def fails(context):
        try:
            client = tunnels.open(context=context)
        except (ssl.SSLError, ConnectionError):
            return
        with client as c:  # the alert of TLS 1.3 comes behind the handshake
            c.request(1, [(":method", "CONNECT"), (":authority", f"{SIDE}:8080")], end=False)
            assert not c.closed(10).headers
    fails(tunnels.certificates.context(None, ["h2"]))
    fails(tunnels.certificates.stranger(["h2"]))
    with tunnels.peer:
        plain = socket.create_connection((SIDE, 15008), 10)
    with H2Client(0, sock=plain) as c:
        c.request(1, [(":method", "CONNECT"), (":authority", f"{SIDE}:8080")], end=False)
        assert not c.closed(10).headers
    s = tunnels.side.stats("^listener.0.0.0.0_15008.ssl|^http.connect_terminate.downstream_rq_total")
    assert s["listener.0.0.0.0_15008.ssl.fail_verify_no_cert"] == 1 and s["listener.0.0.0.0_15008.ssl.fail_verify_san"] == 1
    assert s["listener.0.0.0.0_15008.ssl.connection_error"] >= 1 and "http.connect_terminate.downstream_rq_total" not in s
    assert not tunnels.app.asked


def test_g14_a_workload_that_policy_denies(tunnels):
    tunnels.refused(f"{SIDE}:8080", "plain/denied", policy="denied")


def deny_within(golden):
    """As Istio writes L4 policies for HBONE: the identity is in the filter state that the tunnel brought along."""
    rule = {"action": "DENY", "policies": {"denied": {"permissions": [{"any": True}], "principals": [{"filter_state": {
        "key": "io.istio.peer_principal", "string_match": {"exact": DENIED}}}]}}}
    for c in listener(golden, "main_internal")["filter_chains"]:
        c["filters"].insert(0, config.ext("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="tcp.", rules=rule))


def test_g14_a_workload_that_policy_denies_within_the_tunnel(node, mesh, certificates):  # noqa: F811
    t = Tunnels(node, mesh, certificates, change=deny_within, guarded=False)
    for account, allowed in (("plain/denied", False), ("plain/peer", True)):
        with t.open(account) as c:
            c.request(1, [(":method", "CONNECT"), (":authority", f"{SIDE}:8080")], end=False)
            assert (b"HTTP/1.1 200" in ask(c)) == allowed
    assert len(t.app.asked) == 1
    assert sum(t.side.stats("rbac.denied").values()) == 1 and not t.side.stats("PassthroughCluster.*connect_fail")


def test_istios_own_shape_dials_nobody_else(node, mesh, certificates):  # noqa: F811
    """Without the rules in front: what no chain is for ends with the stream, and is logged by the internal listener."""
    t = Tunnels(node, mesh, certificates, guarded=False)
    for to in (f"{OTHER}:8080", "127.0.0.1:8080", f"127.0.0.1:{t.admin}", "nonsense"):
        with t.open() as c:
            c.request(1, [(":method", "CONNECT"), (":authority", to)], end=False)
            assert ask(c) == b""
        t.side.logged("NR filter_chain_not_found")
    assert not t.app.asked and not t.others.asked and set(t.dialled()) == {"cluster.main_internal;.upstream_cx_total"}
