"""Certificates and roots in Secrets and ConfigMaps, by SDS (C6, C8, G12): who gets which, and gateways that serve with them under change."""
import base64
import json
import re
import socket
import ssl
import threading

import pytest

import control
import istio
from pki import Pki
from upstream import Reply
from wire import HOST, free_port, patient, until

grpc = pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("cryptography", reason="peer python3-cryptography is not installed")
discovery = pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import authority as ca  # noqa: E402
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2  # noqa: E402
from google.protobuf import json_format  # noqa: E402

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
SDS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/{}AggregatedResources"
HOSTNAME = "shop.test"
NODE = {"id": "router~10.1.0.9~edge-1.demo~demo.svc.cluster.local", "cluster": "edge.demo", "metadata": {
    "NAMESPACE": "demo", "NAME": "edge-1", "LABELS": {"app": "edge"}, "CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local", "ISTIO_VERSION": "1.32.0"}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("ca", "clients", "clients2"):
        p.authority(name)
    for i in range(4):
        p.issue(f"server{i}", f"DNS:{HOSTNAME}", usage="serverAuth")
    p.issue("expired", f"DNS:{HOSTNAME}", days="-1")
    p.issue("someone", "DNS:someone", ca="clients")
    p.issue("other", "DNS:other", ca="clients2")
    return p


def text(pki, name):
    return (pki.folder / name).read_text()


def secret(name, ns="demo", kind="Secret", **data):
    keys = {k.replace("_", "."): base64.b64encode(v.encode()).decode() if kind == "Secret" else v for k, v in data.items()}
    return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": ns}, "data": keys})


def pair(pki, name):
    return {"tls_crt": text(pki, f"{name}.pem"), "tls_key": text(pki, f"{name}.key")}


class Asker:
    """A client that asks for Secrets by name, either protocol, and acknowledges what comes."""

    def __init__(self, channel, delta, token=None, node=None):
        import queue
        self.delta, self.out, self.node = delta, queue.Queue(), node or NODE
        kind = discovery.DeltaDiscoveryResponse if delta else discovery.DiscoveryResponse
        call = channel.stream_stream(ADS.format("Delta" if delta else "Stream"), request_serializer=lambda m: m.SerializeToString(), response_deserializer=kind.FromString)
        self.stream = call(iter(self.out.get, None), metadata=[("authorization", f"Bearer {token}")] if token else [])
        self.has, self.removed, self.responses, self.names, self.error = {}, [], 0, [], None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def ask(self, *names):
        self.names = list(names)
        self._send("", names)

    def _send(self, nonce, names):
        r = (discovery.DeltaDiscoveryRequest if self.delta else discovery.DiscoveryRequest)(type_url=SDS, response_nonce=nonce)
        json_format.ParseDict(self.node, r.node)
        (r.resource_names_subscribe if self.delta else r.resource_names).extend(names)
        self.out.put(r)

    def _read(self):
        try:
            for r in self.stream:
                for x in r.resources:
                    s = secret_pb2.Secret()
                    (x.resource if self.delta else x).Unpack(s)
                    self.has[s.name] = s
                self.removed += list(r.removed_resources) if self.delta else []
                self.responses += 1
                self._send(r.nonce, () if self.delta else self.names)
        except grpc.RpcError as e:
            self.error = e.code().name

    def close(self):
        self.out.put(None)
        self.stream.cancel()


def start(folder, files, *args):
    return control.Mizzend(folder, files, "--secure-grpc-addr", "127.0.0.1:0", "--ca-dir", str(folder / "ca"), *args)


@pytest.fixture(scope="module")
def served(tmp_path_factory, pki):
    """A mizzend with Secrets of two namespaces."""
    folder = tmp_path_factory.mktemp("secrets")
    m = start(folder, {
        "tls.yaml": secret("tls", **pair(pki, "server0"), ca_crt=text(pki, "clients.pem")),
        "old.yaml": secret("old", cert=text(pki, "server1.pem"), key=text(pki, "server1.key"), cacert=text(pki, "clients.pem")),
        "expired.yaml": secret("expired", **pair(pki, "expired")),
        "broken.yaml": secret("broken", tls_crt=text(pki, "server0.pem"), tls_key=text(pki, "server1.key")),
        "far.yaml": secret("far", "other", **pair(pki, "server2"), ca_crt=text(pki, "ca.pem")),
        "map.yaml": secret("roots", "other", "ConfigMap", ca_crt=text(pki, "ca.pem"))})
    m.folder, m.roots = folder, (folder / "ca" / "root-cert.pem").read_text()
    yield m
    m.stop()


@pytest.fixture
def ask(served):
    made = []

    def of(*names, delta=False, account="demo/edge", plain=False, node=None):
        channel = ca.plain(served.port) if plain else ca.secure(served.port_of("secure xDS"), served.roots)
        a = Asker(channel, delta, ca.token(served.folder / "ca", account), node)
        made.append((a, channel))
        a.ask(*names)
        return a
    yield of
    for a, channel in made:
        a.close()
        channel.close()


@pytest.mark.parametrize("delta", [False, True], ids=["state", "delta"])
def test_what_is_there_is_given(ask, delta, pki):
    a = ask("kubernetes://tls", "kubernetes://tls-cacert", "kubernetes://demo/old", "kubernetes://old-cacert", "configmap://other/roots-cacert", "kubernetes://expired",
            "kubernetes://broken", "kubernetes://missing", "kubernetes://other/far", "kubernetes-gateway://demo/tls", delta=delta)
    until(lambda: len(a.has) == 6, 30, "six of the ten")
    assert a.has["kubernetes://tls"].tls_certificate.certificate_chain.inline_bytes.decode() == text(pki, "server0.pem")
    assert a.has["kubernetes://tls"].tls_certificate.private_key.inline_bytes.decode() == text(pki, "server0.key")
    assert a.has["kubernetes://demo/old"].tls_certificate.private_key.inline_bytes.decode() == text(pki, "server1.key")
    for name, file in (("kubernetes://tls-cacert", "clients"), ("kubernetes://old-cacert", "clients"), ("configmap://other/roots-cacert", "ca")):
        assert a.has[name].validation_context.trusted_ca.inline_bytes.decode() == text(pki, f"{file}.pem")
    assert a.responses == 1 and sorted(a.removed) == (["kubernetes-gateway://demo/tls", "kubernetes://broken", "kubernetes://missing", "kubernetes://other/far"] if delta else [])


@pytest.mark.parametrize("delta", [False, True], ids=["state", "delta"])
def test_nothing_without_an_identity_or_of_another(ask, served, delta):
    names = ("kubernetes://tls", "kubernetes://demo/tls", "kubernetes://tls-cacert", "configmap://other/roots")
    nobody = ask(*names, delta=delta, plain=True)  # a token there is not looked at, as on the real one's plain port
    until(lambda: "asks for secrets: they are for proxies that came over TLS" in served.log(), 10, "the refusal")
    other = ask("kubernetes://far", *names, delta=delta, account="other/edge", node={**NODE, "id": "router~10.1.0.9~edge-1.other~other.svc.cluster.local", "metadata": {}})
    until(lambda: len(other.has) == 2, 10, "its own and the roots")
    assert set(other.has) == {"kubernetes://far", "configmap://other/roots"} and nobody.responses == 0
    liar = ask("kubernetes://tls", delta=delta, account="other/edge")  # says that it is of demo
    until(lambda: liar.error, 10, "its end")
    assert liar.error == "PERMISSION_DENIED" and not liar.has


def test_wrong_ones_are_told_and_no_key_is(served, ask, pki):
    a = ask("kubernetes://tls", "kubernetes://broken", "kubernetes://expired", "kubernetes://missing")
    until(lambda: len(a.has) == 2, 10, "two")
    log = served.log()
    assert "Secret/demo/broken: not given to proxies, which keep what they have: the certificate is malformed: the key is not its own" in log
    assert "Secret/demo/expired: the certificate is expired or not yet valid" in log
    assert "asks for kubernetes://missing: there is none" in log
    assert "pilot_sds_certificate_errors_total" in served.page("/metrics")
    pages = [served.page(p, ok=False)[1] for p in ("/debug/syncz", "/debug/adsz", "/debug/configz", "/debug/connections", "/debug/push_status", "/debug/cachez",
                                                   "/debug/config_dump?proxyID=edge-1.demo", "/debug/resourcesz", "/debug/mesh", "/metrics")]
    assert "kubernetes://tls" in pages[6]
    for n in range(3):
        for line in text(pki, f"server{n}.key").splitlines()[1:-1]:
            for page in (*pages, served.log()):
                assert line not in page and base64.b64encode(line.encode()).decode().rstrip("=")[:-2] not in page


@pytest.mark.parametrize("delta", [False, True], ids=["state", "delta"])
def test_a_change_is_told_and_what_goes_stays(served, ask, delta, pki):
    turns, stays = f"turns-{delta}".lower(), f"stays-{delta}".lower()
    a = ask(f"kubernetes://{turns}", f"kubernetes://{stays}", delta=delta)
    missing = [f"kubernetes://{stays}", f"kubernetes://{turns}"] if delta else []
    until(lambda: sorted(a.removed) == missing, 10, "that there are none to be told, where that can be said")
    served.write(f"{stays}.yaml", secret(stays, **pair(pki, "server0")))
    until(lambda: set(a.has) == {f"kubernetes://{stays}"}, 10, "the one that is there")

    def certificate(name):
        return a.has[f"kubernetes://{name}"].tls_certificate.certificate_chain.inline_bytes.decode() if f"kubernetes://{name}" in a.has else None
    for i in range(1, 3):  # also what was not there at first
        served.write(f"{turns}.yaml", secret(turns, **pair(pki, f"server{i}")))
        until(lambda: certificate(turns) == text(pki, f"server{i}.pem"), 10, "the next one")
    before, since = a.responses, len(served.log())
    served.write(f"{turns}.yaml", secret(turns, **{**pair(pki, "server3"), "tls_key": text(pki, "server0.key")}))
    until(lambda: f"Secret/demo/{turns}: not given to proxies" in served.log()[since:], 10, "the broken one to be told")
    (served.docs / f"{turns}.yaml").unlink()
    until(lambda: f"asks for kubernetes://{turns}: there is none" in served.log()[since:], 10, "the end to be told")
    served.write(f"{stays}.yaml", secret(stays, **pair(pki, "server1")))
    until(lambda: certificate(stays) == text(pki, "server1.pem"), 10, "a later one")
    assert certificate(turns) == text(pki, "server2.pem") and a.responses == before + 1 and sorted(a.removed) == missing


@pytest.mark.parametrize("delta", [False, True], ids=["state", "delta"])
@pytest.mark.parametrize("case, proxy", [("gateway-tls", "ingressgateway"), ("gateway-api", "edge")])
def test_recorded_secrets(tmp_path, pki, case, proxy, delta):
    """What the real Istio gave gateways; its certificates' keys are nobody's any more, so that pairs are others on both sides."""
    want = istio.load(case)[proxy]
    pair_ = {"cert": text(pki, "server0.pem"), "key": text(pki, "server0.key")}
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in pair_.items()}
    files = {f.name: re.sub(r"tls\.crt: \S+", f"tls.crt: {encoded['cert']}", f.read_text()).replace("TEST_KEY_PLACEHOLDER", encoded["key"])
             for f in (istio.FOLDER / "cases" / case / "input").iterdir()}
    for s in want["sds"]:
        if "tls_certificate" in s:
            s["tls_certificate"] = {"certificate_chain": {"inline_bytes": encoded["cert"]}, "private_key": {"inline_bytes": encoded["key"]}}
    m = start(tmp_path, files)
    try:
        meta = want["node"]["metadata"]
        with ca.secure(m.port_of("secure xDS"), (tmp_path / "ca" / "root-cert.pem").read_text()) as c:
            a = Asker(c, delta, ca.token(tmp_path / "ca", f"{meta['NAMESPACE']}/{meta['SERVICE_ACCOUNT']}"), want["node"])
            a.ask(*(n for n in want["names"]["sds_secret_names"] if n.startswith("kubernetes")))
            until(lambda: len(a.has) == len(want["sds"]) or a.error, 10, "the secrets")
            got = [{"@type": SDS, **json_format.MessageToDict(s, preserving_proto_field_name=True)} for _, s in sorted(a.has.items())]
            a.close()
        assert got == want["sds"]
    finally:
        m.stop()


# ---- gateways ----

class Gateway:
    """A gateway of ours whose everything comes from a mizzend, and a backend behind it."""

    def __init__(self, mesh, folder, pki, server, files, delta=True):
        self.pki, self.port = pki, free_port()
        up = mesh.upstream(script=[Reply(200, b"from behind")])
        self.mizzend = start(folder, {"edge.yaml": self.documents(server, up.port), **files})
        self.account(folder)
        boot = control.bootstrap_of(NODE, self.mizzend.port_of("secure xDS"), free_port())
        transport = boot["static_resources"]["clusters"][0]
        transport["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "istiod.istio-system.svc", "common_tls_context": {
                "tls_certificates": [{"certificate_chain": {"filename": str(folder / "chain.pem")}, "private_key": {"filename": str(folder / "key.pem")}}],
                "validation_context": {"trusted_ca": {"filename": str(folder / "ca" / "root-cert.pem")}}}}}
        if delta:
            boot["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC"
        self.proxy = mesh.proxy(boot=boot, ready=False)

    def documents(self, server, port):
        return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: demo}}
spec:
  selector: {{app: edge}}
  servers: [{{port: {{number: {self.port}, name: https, protocol: HTTPS}}, hosts: [{HOSTNAME}], tls: {{{server}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: demo}}
spec: {{hosts: [{HOSTNAME}], gateways: [edge], http: [{{route: [{{destination: {{host: back.test, port: {{number: 80}}}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: back, namespace: demo}}
spec: {{hosts: [back.test], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]}}
"""

    def account(self, folder):
        """The certificate by which it is known."""
        private, roots = ca.key(), (folder / "ca" / "root-cert.pem").read_text()
        with ca.secure(self.mizzend.port_of("secure xDS"), roots) as c:
            chain = ca.issued(c, ca.csr(private), ca.token(folder / "ca", "demo/edge"))
        (folder / "chain.pem").write_text(chain[0])
        (folder / "key.pem").write_bytes(ca.key_pem(private))

    def ask(self, client=None, requests=1, session=None):
        """(serial number of the server's certificate, statuses) over a connection of its own."""
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(self.pki.path("ca.pem"))
        if client:
            c.load_cert_chain(self.pki.path(f"{client}.pem"), self.pki.path(f"{client}.key"))
        with socket.create_connection((HOST, self.port), timeout=patient(10)) as s, c.wrap_socket(s, server_hostname=HOSTNAME) as t:
            statuses = []
            for _ in range(requests):
                t.sendall(f"GET /x HTTP/1.1\r\nhost: {HOSTNAME}\r\n\r\n".encode())
                head = b""
                while b"from behind" not in head:
                    more = t.recv(4096)
                    if not more:
                        raise EOFError(f"the end after {head!r}")
                    head += more
                statuses.append(int(head.split()[1]))
            return t.getpeercert()["serialNumber"], statuses

    def works(self, client=None):
        try:
            return self.ask(client)
        except (OSError, EOFError):
            return None

    def serial(self, name):
        from cryptography import x509
        return f"{x509.load_pem_x509_certificate(text(self.pki, name + '.pem').encode()).serial_number:X}"

    def stop(self):
        self.mizzend.stop()


@pytest.fixture
def gateway(mesh, tmp_path, pki):
    made = []

    def of(server, files, **kw):
        made.append(Gateway(mesh, tmp_path, pki, server, files, **kw))
        return made[-1]
    yield of
    for g in made:
        g.stop()


def number(serial):
    return int(serial, 16)


@pytest.mark.parametrize("delta", [False, True], ids=["state", "delta"])
def test_g12_a_gateways_certificate_turns_under_load(gateway, pki, delta):
    """G12: no request fails, on no connection; and what is newer is never followed by what is older."""
    g = gateway("mode: SIMPLE, credentialName: shop", {"secret.yaml": secret("shop", **pair(pki, "server0"))}, delta=delta)
    until(g.works, 30, lambda: f"the gateway:\n{g.proxy.log()[-2000:]}\n{g.mizzend.log()[-2000:]}")
    serials, failed, seen, over = [number(g.serial(f"server{i}")) for i in range(4)], [], [[], []], threading.Event()

    def load(into):
        while not over.is_set():
            try:
                serial, statuses = g.ask(requests=3)
                into.append(serials.index(number(serial)))
                assert statuses == [200] * 3
            except Exception as e:  # noqa: BLE001 - whatever it is, it is a request that failed
                failed.append(repr(e))
                return
    threads = [threading.Thread(target=load, args=(s,)) for s in seen]
    for t in threads:
        t.start()
    for i in (1, 2, 3):
        g.mizzend.write("secret.yaml", secret("shop", **pair(pki, f"server{i}")))
        until(lambda: failed or all(s and s[-1] == i for s in seen), 20, lambda: f"certificate {i}; seen {[s[-3:] for s in seen]}")
    over.set()
    for t in threads:
        t.join()
    assert not failed and all(s == sorted(s) and set(s) == {0, 1, 2, 3} for s in seen)


def test_a_gateway_asks_clients_for_certificates(gateway, pki):
    """MUTUAL: roots of clients turn and a list of revoked ones comes, by the same Secret; a broken one and its end change nothing."""
    files = {**pair(pki, "server0"), "ca_crt": text(pki, "clients.pem")}
    g = gateway("mode: MUTUAL, credentialName: shop", {"secret.yaml": secret("shop", **files)})
    until(lambda: g.works("someone"), 30, lambda: f"the gateway:\n{g.proxy.log()[-2000:]}\n{g.mizzend.log()[-2000:]}")
    assert not g.works() and not g.works("other")
    g.mizzend.write("secret.yaml", secret("shop", **{**files, "ca_crt": text(pki, "clients.pem") + text(pki, "clients2.pem")}))
    until(lambda: g.works("other"), 10, "the other authority's clients")
    assert g.works("someone")
    g.mizzend.write("secret.yaml", secret("shop", **{**files, "ca_crl": revoked(pki, "someone")}))
    until(lambda: not g.works("someone"), 10, "the revoked one to be refused")
    assert not g.works("other")
    g.mizzend.write("secret.yaml", secret("shop", **{**files, "ca_crl": "junk"}))
    until(lambda: "the list of revoked certificates cannot be read" in g.mizzend.log(), 10, "the broken list to be told")
    (g.mizzend.docs / "secret.yaml").unlink()
    until(lambda: "asks for kubernetes://shop: there is none" in g.mizzend.log(), 10, "the end to be told")
    assert not g.works("someone")  # the last good one
    g.mizzend.write("secret.yaml", secret("shop", **files))
    until(lambda: g.works("someone"), 10, "the list to be gone")


def revoked(pki, name):
    """A list with one certificate of the authority `clients`."""
    (pki.folder / "index.txt").write_text("")
    (pki.folder / "crl.cnf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\n")
    pki._run("ca", "-config", "crl.cnf", "-cert", "clients.pem", "-keyfile", "clients.key", "-revoke", f"{name}.pem")
    pki._run("ca", "-config", "crl.cnf", "-cert", "clients.pem", "-keyfile", "clients.key", "-gencrl", "-out", "clients.crl")
    return text(pki, "clients.crl")
