"""Peers tell each other who they are (S2, S3): headers, baggage, the exchange at the begin of TCP connections; istio.alpn."""
import base64
import socket
import ssl
import struct

import config
import pytest
import sidecar
from sidecar import META, META_ID, PEERS, field, header, packed
from tcp import Server
from upstream import Reply
from wire import HOST, free_port, until

WEB = {"name": "web-0", "namespace": "demo", "workload": "web", "cluster": "Kubernetes", "service": "web", "revision": "v1", "app": "web",
       "version": "v1", "type": "deployment"}


def blob(values):
    any_ = field(1, b"type.googleapis.com/google.protobuf.Struct") + field(2, packed({META: values, META_ID: "sidecar~x"}))
    return struct.pack(">II", 0x3D230467, len(any_)) + any_


def test_headers_between_two_sidecars(mesh, pki):  # S2, S3
    up = mesh.upstream("app", [Reply(headers=[("x-app", "1")])])
    client, server = sidecar.http_pair(mesh, pki, up, log=PEERS)
    with client.client() as c:
        r = c.get("/one", headers=[(META, "mine"), (META_ID, "me")])
    assert r.status == 200 and r.get(META) is None and r.get(META_ID) is None  # what the server tells is for the client's proxy
    seen = up.requests[0]
    assert seen.get(META) is None and seen.get(META_ID) is None
    line = server.access_log()[0]
    assert line["down"] == WEB and line["workload"] == "web" and line["chain"] == "istio-http/1.1"
    s = server.stats("^metadata_exchange")
    assert s["metadata_exchange.alpn_protocol_not_found"] == 1 and s["metadata_exchange.metadata_added"] == 0


def test_http2_to_the_upstream_offers_its_alpn(mesh, pki):  # S3
    up = mesh.upstream("app")
    client, server = sidecar.http_pair(mesh, pki, up, log=PEERS, cluster={"http": {"explicit_http_config": {"http2_protocol_options": {}}}})
    assert client.get("/").status == 200
    assert server.access_log()[0]["chain"] == "istio-h2"


def one(mesh, *filters, log=None, **cluster):
    up = mesh.upstream("app", [Reply(headers=[("x-app", "1")])])
    m = config.hcm([config.route("/", "app")], filters=list(filters), log=config.access_log(mesh.folder / "access.log", log or PEERS))
    boot = config.bootstrap([config.listener(free_port(), [m])], [config.cluster("app", [up.port], **cluster)], free_port(), node=sidecar.node("api"))
    return up, mesh.proxy(boot=boot)


CASES = [  # request headers, downstream_peer in the log
    ([], None),
    ([(META, header({"NAME": "x", "NAMESPACE": "n", "LABELS": {"app": "shop", "app.kubernetes.io/name": "better", "other": "o"}}))],
     {"name": "x", "namespace": "n", "app": "better"}),
    ([(META, header({"WORKLOAD_NAME": "w", "OWNER": "kubernetes://apis/batch/v1/namespaces/n/cronjobs/w", "LABELS": {"role": "r"}}))],
     {"workload": "w", "type": "cronjob", "labels": {"role": "r"}}),
    ([(META, "%%%")], None),
    ([(META, base64.b64encode(b"\x0a\xff\xff").decode())], None),
    ([(META, base64.b64encode(b"\x0a" * 70000).decode()[:50000])], None),
    ([(META, "")], None),
]


def test_g15_headers_of_strangers(mesh):  # what cannot be read is nobody; the headers go in any case
    up, px = one(mesh, sidecar.peer_metadata("downstream", additional_labels=["role"]))
    for n, (headers, want) in enumerate(CASES):
        with px.client() as c:
            r = c.get(f"/{n}", headers=[*headers, (META_ID, "some-id")])
        assert r.status == 200 and up.requests[-1].get(META) is None and up.requests[-1].get(META_ID) is None
        assert r.get(META_ID) == sidecar.node("api")["id"]
        assert (r.get(META) is not None) == bool(headers)
        line = px.wait_log(lambda e, n=n: e["path"] == f"/{n}")
        assert line["down"] == want, n
    mine = base64.b64decode(r.get(META))
    assert b"api-0" in mine and b"kubernetes://apis/apps/v1/namespaces/demo/deployments/api" in mine


def test_g15_the_id_does_not_name_the_peer(mesh):  # any client may say any id: another's metadata must not be found by it
    _, px = one(mesh, sidecar.peer_metadata("downstream"))
    for app in ("good", "evil"):
        with px.client() as c:
            c.get(f"/{app}", headers=[(META, header({"WORKLOAD_NAME": app})), (META_ID, "sidecar~the-same")])
        assert px.wait_log(lambda e, app=app: e["path"] == f"/{app}")["workload"] == app


def test_baggage(mesh):
    config_ = sidecar.typed("mx", sidecar.PEER, downstream_discovery=[{"baggage": {}}], upstream_propagation=[{"baggage": {}}])
    up, px = one(mesh, config_)
    with px.client() as c:
        c.get("/", headers=[("baggage", "k8s.job.name=j,k8s.namespace.name=n,app.name=a,service.version=2,junk,=,k8s.cluster.name")])
    assert px.access_log()[0]["down"] == {"workload": "j", "type": "job", "namespace": "n", "app": "a", "service": "a", "revision": "2", "version": "2"}
    assert up.requests[0].get("baggage") == ("k8s.deployment.name=api,service.name=api,service.version=v1,k8s.namespace.name=demo,"
                                             "k8s.cluster.name=Kubernetes,k8s.instance.name=api-0")


@pytest.mark.parametrize("metadata,told", [({}, True), ({"external": True}, False), ({"disable_mx": True}, False)])
def test_nothing_is_told_to_who_is_outside(mesh, metadata, told):
    f = sidecar.typed("mx", sidecar.PEER, upstream_propagation=[{"istio_headers": {"skip_external_clusters": True}}])
    up, px = one(mesh, f, metadata={"filter_metadata": {"istio": metadata}})
    assert px.get("/").status == 200
    assert (up.requests[0].get(META) is not None) == told and (up.requests[0].get(META_ID) is not None) == told


# ---- TCP ----

@pytest.fixture
def app():
    s = Server()
    yield s
    s.close()


def counts(px):
    return {k.rpartition(".")[2]: v for k, v in px.stats("^metadata_exchange").items()}


@pytest.mark.parametrize("first", ["client", "server"])
def test_exchange_over_tcp(mesh, pki, app, first):  # S2: either side may speak first
    client, server = sidecar.tcp_pair(mesh, pki, app.port, log=PEERS)
    with socket.create_connection((HOST, client.port), timeout=10) as c:
        if first == "client":
            c.sendall(b"hello")
            a = app.accept()
            assert a.exactly(5, 5) == b"hello"
            a.sock.sendall(b"world")
            assert c.recv(100) == b"world"
        else:
            a = app.accept()
            a.sock.sendall(b"220 ready")
            assert c.recv(100) == b"220 ready"
            c.sendall(b"hello")
            assert a.exactly(5, 5) == b"hello"
        a.sock.close()
        assert c.recv(10) == b""
    line = server.access_log()[0]
    assert line["down"] == WEB
    for px in (client, server):
        s = counts(px)
        assert (s["alpn_protocol_found"], s["metadata_added"], s["header_not_found"]) == (1, 1, 0)


def test_a_server_that_takes_no_part(mesh, pki, app):  # ALPN chosen, but no exchange: its bytes are the application's
    client, server = sidecar.tcp_pair(mesh, pki, app.port, server_exchange=False)
    with socket.create_connection((HOST, client.port), timeout=10) as c:
        c.sendall(b"hello")
        a = app.accept()
        got = a.exactly(8, 5)
        assert struct.unpack(">I", got[:4])[0] == 0x3D230467
        rest = a.exactly(struct.unpack(">I", got[4:])[0] + 5, 5)
        assert rest.endswith(b"hello")
        a.sock.sendall(b"plain answer")
        assert c.recv(100) == b"plain answer"
    assert counts(client)["initial_header_not_found"] == 1


PARTS = [  # what a client sends, what the application gets, downstream_peer
    (blob({"NAME": "n", "NAMESPACE": "space"}) + b"data", b"data", {"name": "n", "namespace": "space"}),
    (b"just data", b"just data", None),
    (struct.pack(">II", 0x3D230467, 5) + b"\xff\xff\xff\xff\xffdata", b"\xff\xff\xff\xff\xffdata", None),
    (struct.pack(">II", 0x3D230467, 1 << 31) + b"data", b"data", None),
]


@pytest.mark.parametrize("piece", [1, 7, 100000])
def test_g15_parts_of_strangers(mesh, pki, app, piece):
    server = sidecar.start(mesh, "server", "api", [sidecar.exchange(), sidecar.tcp_proxy("app", access_log=[config.access_log(mesh.folder / "access.log", PEERS)])],
                           [config.cluster("app", [app.port])], "INBOUND", sidecar.server_tls(pki, "istio-peer-exchange"))
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.load_verify_locations(pki.path("ca.pem"))
    ctx.load_cert_chain(pki.path("web.pem"), pki.path("web.key"))
    ctx.set_alpn_protocols(["istio-peer-exchange"])
    for n, (sent, want, peer) in enumerate(PARTS):
        with ctx.wrap_socket(socket.create_connection((HOST, server.port), timeout=10)) as c:
            for i in range(0, len(sent), piece):
                c.sendall(sent[i:i + piece])
            a = app.accept()
            assert a.exactly(len(want), 10) == want
            a.sock.close()
            while c.recv(1000):
                pass
        until(lambda n=n: len(server.access_log(0)) > n, 5, "the line")
        assert server.access_log(0)[n]["down"] == peer
