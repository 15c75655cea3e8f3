"""The pod's DNS (A5): names of the mesh out of the control plane's table, everything else from the name servers of resolv.conf."""
import ctypes
import os
import re
import socket
import subprocess

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from dns import A, AAAA, CNAME, NXDOMAIN, Dns, ask, question  # noqa: E402
from netns import _sys  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import Stream, patient, until  # noqa: E402

SERVFAIL, NS = 2, ("10.0.0.1", 53)
DOCS = """apiVersion: v1
kind: Service
metadata: {name: kv, namespace: data}
spec: {clusterIP: None, selector: {app: kv}, ports: [{name: tcp, port: 6379}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kv-1, namespace: data, labels: {kubernetes.io/service-name: kv}}
addressType: IPv4
ports: [{name: tcp, port: 6379}]
endpoints: [{addresses: ["10.12.0.1"], conditions: {ready: true}}, {addresses: ["10.12.0.2"], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: data}
spec: {hosts: ["*.wild.example"], addresses: [10.50.0.9, "fd00:50::9"], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: data}
spec: {hosts: [Partner.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: STATIC, endpoints: [{address: 10.60.0.1}]}
"""
NAMES = [  # name, type, addresses, what it is an alias of
    ("b.demo.svc.cluster.local", A, ["10.96.0.2"], None), ("b.demo.svc", A, ["10.96.0.2"], None), ("b.demo", A, ["10.96.0.2"], None), ("b", A, ["10.96.0.2"], None),
    ("B.Demo.svc.CLUSTER.local", A, ["10.96.0.2"], None), ("b.demo.svc.cluster.local", AAAA, [], None), ("kv.data", A, ["10.12.0.1", "10.12.0.2"], None),
    ("kv.data.demo.svc.cluster.local", A, ["10.12.0.1", "10.12.0.2"], "kv.data"), ("kv.data.demo.svc.cluster.local", AAAA, [], None),
    ("x.wild.example", A, ["10.50.0.9"], None), ("y.x.wild.example", AAAA, ["fd00:50::9"], None),
    ("x.wild.example.demo.svc.cluster.local", A, ["10.50.0.9"], "*.wild.example"), ("partner.example", AAAA, [], None)]


@pytest.fixture
def world(node, tmp_path):  # noqa: F811
    """(a mesh, a name server beside it); the pods' resolv.conf names that."""
    server = Dns({"far.example": ["192.0.2.1", "2001:db8::1"], "many.example": [f"192.0.2.{i}" for i in range(200)]}, host=NS[0], port=53)
    mesh = Mesh(node, tmp_path)
    mesh.resolv = tmp_path / "resolv.conf"
    mesh.resolv.write_text("search demo.svc.cluster.local svc.cluster.local\nnameserver 10.0.0.1\noptions ndots:5\n")
    mesh.write("more.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: data}\n---\n" + DOCS)
    yield mesh, server
    mesh.close()
    server.close()


def pod(mesh, name, ip, start=True, **env):
    a = mesh.agent(name, ip, env={"ISTIO_META_DNS_CAPTURE": "true", "RESOLV_CONF": str(mesh.resolv), **env}, start=False)
    a.capture = f"--redirect-dns --resolv-conf {mesh.resolv}"
    if start:
        a.start()
    return a


def ready(a):
    a.wait_ready()
    until(lambda: a.status("/healthz/ready")[0] == 200, 20, "the table of names")
    return a


def framed(name, ident):
    m = question(name, ident=ident)
    return len(m).to_bytes(2, "big") + m


def metric(a, name):
    return int(re.search(rf"^istio_agent_dns_{name} (\d+)$", a.status("/stats/prometheus")[1], re.M)[1])


def test_names_of_the_mesh_and_others(world):
    mesh, server = world
    a, b = pod(mesh, "a", "10.11.0.1"), pod(mesh, "b", "10.11.0.2")
    b.pod.app(8080)
    ready(a), ready(b)
    for tcp in (False, True):
        for name, kind, addresses, alias in NAMES:
            with a.pod:
                r = ask(NS, name, kind, tcp=tcp)
            assert (r.code, r.addresses, r.authoritative) == (0, addresses, True), (name, kind, r.records)
            assert [x[3] for x in r.records if x[1] == CNAME] == ([alias] if alias else []) and {x[2] for x in r.records} <= {30}, (name, r.records)
            assert [x[0] for x in r.records if x[1] != CNAME] == [alias or name] * len(addresses), (name, r.records)
    assert not server.asked  # nobody else was asked about these
    with a.pod:
        assert re.fullmatch(r"240\.240\.\d+\.\d+", ask(NS, "partner.example").addresses[0])
        orders = {tuple(x[3] for x in ask(NS, "kv.data").records) for _ in range(40)}
        assert len(orders) == 2
        assert ask(("127.0.0.1", 15053), "b").addresses == ["10.96.0.2"] == ask(("::1", 15053), "b").addresses

    # Many at once on a connection
    with a.pod, socket.create_connection(NS, patient(20)) as s:
        s.sendall(b"".join(framed("b" if i % 2 else "far.example", i) for i in range(100)))
        stream = Stream(s)
        got = [stream.exactly(int.from_bytes(stream.exactly(2, 20), "big"), 20) for _ in range(100)]
    assert sorted(int.from_bytes(m[:2], "big") for m in got) == list(range(100)) and {m[3] & 15 for m in got} == {0}

    # Forwarded: answers, none, other types than addresses, too long ones
    before = metric(a, "upstream_requests_total")
    with a.pod:
        for kind, want in ((A, ["192.0.2.1"]), (AAAA, ["2001:db8::1"])):
            r = ask(NS, "far.example", kind)
            assert (r.code, r.addresses, r.authoritative) == (0, want, False)
        assert ask(NS, "FAR.eXample", ident=0xbeef).code == NXDOMAIN  # as it was spelled: this server knows one spelling
        assert ask(NS, "nowhere.example").code == NXDOMAIN
        assert ask(NS, "b.demo.svc.cluster.local", 16).code == NXDOMAIN and server.asked[-1] == ("b.demo.svc.cluster.local", 16)
        r = ask(NS, "many.example")
        assert r.cut and r.size <= 512 and not r.edns
        assert len(ask(NS, "many.example", edns=4096).addresses) == 200 == len(ask(NS, "many.example", tcp=True).addresses)
        assert ask(NS, "many.example", edns=1232).cut
    assert metric(a, "upstream_requests_total") == before + 9 and metric(a, "upstream_failures_total") == 0
    assert metric(a, "requests_total") >= 2 * len(NAMES) + 50
    assert metric(a, "upstream_request_duration_seconds_count") == before + 9

    # An application with nothing but its C library
    libc = ctypes.CDLL(None, use_errno=True)

    def with_resolv():
        _sys(libc.unshare(0x20000))
        _sys(libc.mount(None, b"/", None, 0x44000, None))
        _sys(libc.mount(os.fsencode(mesh.resolv), b"/etc/resolv.conf", None, 4096, None))
    with a.pod:
        got = subprocess.run(["getent", "ahostsv4", "b"], capture_output=True, text=True, timeout=patient(20), preexec_fn=with_resolv)
    assert got.stdout.startswith("10.96.0.2"), got
    assert a.pod.ask(got.stdout.split()[0], 8080, "/x", host="b:8080").status == 200


def test_until_there_is_a_table_and_after_the_control_plane(world):
    mesh, server = world
    mesh.mizzend.terminate()
    mesh.mizzend.wait()
    a = pod(mesh, "a", "10.11.0.1")
    until(lambda: "control plane" in a.log(), 20, "the agent to start")
    with a.pod:
        assert ask(NS, "b").code == SERVFAIL == ask(NS, "far.example").code  # a name of the mesh may be hidden: nobody else is asked
    assert a.status("/healthz/ready")[0] == 503 and not server.asked
    mesh.start()
    mesh.write("b.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: demo}\nspec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80}]}\n")
    until(lambda: a.status("/healthz/ready")[0] == 200, 90, "the table of names")  # the back-off grows to 30 s

    def address():
        with a.pod:
            return ask(NS, "b").addresses
    until(lambda: address() == ["10.96.0.77"], 20, "a service")
    mesh.write("b.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: demo}\nspec: {clusterIP: 10.96.0.78, ports: [{name: http, port: 80}]}\n")
    until(lambda: address() == ["10.96.0.78"], 20, "its new address")
    mesh.mizzend.kill()
    mesh.mizzend.wait()
    assert address() == ["10.96.0.78"]

    # A name server that is silent holds nobody up but those who ask it, and not without bound
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.close()
    silent.bind(NS)
    with a.pod, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        s.settimeout(patient(20))
        s.connect(("127.0.0.1", 15053))
        codes = []
        for i in range(1200):
            s.send(question(f"n{i}.example", ident=i))
            if i % 50 == 49:
                assert ask(NS, "b").addresses == ["10.96.0.78"]
        while len(codes) < 170:
            codes.append(s.recv(4096)[3] & 15)
        assert set(codes) == {SERVFAIL}
        s.send(question("again.example", ident=9))
        assert s.recv(4096)[3] & 15 == SERVFAIL
    with a.pod:  # more than may wait on a connection, which ends with all of them open
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", 15053), patient(20)) as s:
                s.sendall(b"".join(framed(f"t{i}.example", i) for i in range(40)))
                assert ask(NS, "b", tcp=True).addresses == ["10.96.0.78"]
    for bad in (b"", b"x", question("b")[:14], question("b")[:2] + b"\x81" + question("b")[3:], b"\xff" * 40):
        with a.pod, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(bad, ("127.0.0.1", 15053))
    assert address() == ["10.96.0.78"]
    silent.close()
    mesh.start()
    server.__init__(host=NS[0], port=53)


@pytest.mark.parametrize("env,why", [
    ({"DNS_PROXY_ADDR": "0.0.0.0:15053"}, "DNS_PROXY_ADDR: \"0.0.0.0:15053\": localhost or one address"), ({"DNS_PROXY_ADDR": "localhost"}, "DNS_PROXY_ADDR"),
    ({"DNS_PROXY_ADDR": "10.9.9.9:53"}, "cannot bind '10.9.9.9:53' (UDP)"),
])
def test_bad_settings(world, env, why):
    a = pod(world[0], "a", "10.11.0.1", **env)
    assert a.process.wait(patient(20)) == 1 and why in a.log(), a.log()
    a.process = None
