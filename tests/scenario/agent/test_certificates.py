"""Certificates of files (A2): written out for others (OUTPUT_CERTS), shown to the control plane (PROV_CERT), mounted by somebody else."""
import os
import stat

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
x509 = pytest.importorskip("cryptography.x509", reason="peer cryptography is not installed")
import authority  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import until  # noqa: E402

STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n"
NAMES = {"usual": ("etc/certs", "cert-chain.pem", "key.pem", "root-cert.pem"),
         "spiffe": ("var/run/secrets/workload-spiffe-credentials", "certificates.pem", "private_key.pem", "ca_certificates.pem"),
         "named": ("own", "c.pem", "k.pem", "r.pem")}


@pytest.fixture
def make(node, tmp_path):  # noqa: F811
    made = []

    def of(*flags):
        made.append(Mesh(node, tmp_path, *flags))
        made[0].write("strict.yaml", STRICT)
        return made[0]
    yield of
    for m in made:
        m.close()


def replace(path, data):
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(data)
    beside.rename(path)


class Files:
    """A folder of certificates of an account, signed by the mesh's authority."""

    def __init__(self, mesh, agent, layout):
        folder, self.chain, self.key, self.root = NAMES[layout]
        self.folder, self.uri = agent.folder / folder, f"spiffe://cluster.local/ns/demo/sa/{agent.name}"
        ca = mesh.folder / "ca"
        self.issuer = (x509.load_pem_x509_certificate((ca / "ca-cert.pem").read_bytes()),
                       serialization.load_pem_private_key((ca / "ca-key.pem").read_bytes(), None))
        self.folder.mkdir(parents=True)
        replace(self.folder / self.root, (ca / "root-cert.pem").read_bytes())

    def pair(self, days=30):
        return authority.leaf(self.issuer, [self.uri], days, server=True)

    def put(self, days=30):
        key, cert = self.pair(days)
        replace(self.folder / self.key, key)
        replace(self.folder / self.chain, cert)
        return format(x509.load_pem_x509_certificate(cert).serial_number, "x")


def serial(agent):
    return agent.admin("/certs")


def test_mounted(make):
    """Three places, no authority; what changes is taken, what does not fit together or is over is not (G12)."""
    mesh = make()
    env = {"CA_ADDR": "10.0.0.1:9"}
    a, b = mesh.agent("a", "10.11.0.1", env=env, start=False), mesh.agent("b", "10.11.0.2", env=env, start=False)
    c = mesh.agent("c", "10.11.0.3", start=False, env={**env, "FILE_MOUNTED_CERTS": "true", "ISTIO_META_TLS_CLIENT_CERT_CHAIN": "own/c.pem",
                                                       "ISTIO_META_TLS_CLIENT_KEY": "own/k.pem", "ISTIO_META_TLS_CLIENT_ROOT_CERT": "own/r.pem"})
    files = {p: Files(mesh, p, layout) for p, layout in ((a, "usual"), (b, "spiffe"), (c, "named"))}
    for p in (a, b):
        files[p].put()
    for p in (a, b, c):
        p.pod.app(8080)
        p.start()
    until(lambda: "a file is not there" in c.log(), 20, "an agent that waits for its files")
    last = files[c].put()
    for p in (a, b, c):
        p.wait_ready()
    for p, to in ((a, "b"), (b, "c"), (c, "a")):
        until(lambda p=p, to=to: p.works(to), 30, lambda p=p: p.log()[-2000:])
    assert "URI=spiffe://cluster.local/ns/demo/sa/b" in b.pod.ask(mesh.vip("c"), 8080, "/", host="c:8080").json["headers"]["x-forwarded-client-cert"]
    assert last in serial(c)
    for p in (a, b, c):
        assert "no authority is asked" in p.log() and "no certificate from the authority" not in p.log()

    second = files[c].put()
    until(lambda: second in serial(c), 20, "the certificate that was put there")
    key, cert = files[c].pair()
    replace(files[c].folder / files[c].chain, cert)  # its key comes later
    until(lambda: "the certificate is of another key" in c.log(), 20, "a look at the half")
    assert b.works("c") and second in serial(c)
    replace(files[c].folder / files[c].key, key)
    third = format(x509.load_pem_x509_certificate(cert).serial_number, "x")
    until(lambda: third in serial(c), 20, "both halves")
    over = files[c].put(days=-1)
    until(lambda: "is over already" in c.log(), 20, "a look at what is over")
    assert over not in serial(c) and third in serial(c) and b.works("c")
    (files[c].folder / files[c].chain).unlink()
    until(lambda: c.log().count("a file is not there") >= 2, 20, "a look at what is gone")
    assert b.works("c")


def test_written_out_and_shown(make):
    """As on a machine that is no pod: the token is good for the first certificate, each later one is asked for with the one before."""
    mesh = make("--workload-cert-ttl", "8", "--max-workload-cert-ttl", "8")
    a = mesh.agent("a", "10.11.0.1", env={"OUTPUT_CERTS": "./out/certs", "PROV_CERT": "./out/certs", "SECRET_TTL": "8s"})
    out = a.folder / "out/certs"
    until(lambda: (out / "root-cert.pem").exists(), 30, lambda: a.log()[-2000:])
    chain, root = (out / "cert-chain.pem").read_text(), (out / "root-cert.pem").read_text()
    assert {f.name: stat.S_IMODE(os.stat(f).st_mode) for f in out.iterdir()} == {"cert-chain.pem": 0o600, "key.pem": 0o600, "root-cert.pem": 0o600}
    leaf = authority.certs(chain)[0]
    key = serialization.load_pem_private_key((out / "key.pem").read_bytes(), None)
    assert key.public_key().public_numbers() == leaf.public_key().public_numbers() and root == (mesh.folder / "ca/root-cert.pem").read_text()
    assert authority.verify(authority.pem(leaf), chain, root)
    (a.folder / "var/run/secrets/tokens/istio-token").unlink()
    seen = a.log().count("certificate for spiffe://cluster.local/ns/demo/sa/a")
    until(lambda: a.log().count("certificate for spiffe://cluster.local/ns/demo/sa/a") >= seen + 2, 40, lambda: a.log()[-2000:])
    until(lambda: (out / "cert-chain.pem").read_text() != chain, 5, "another certificate in the file")
    a.wait_ready()
    assert not list(out.glob("*.new")) and "Unauthenticated" not in a.log()
