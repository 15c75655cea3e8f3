"""A workload's certificate that the mesh's authority has taken back (C8, A2): proxies whose pods mount the list refuse it."""
import json
import os
import signal

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
x509 = pytest.importorskip("cryptography.x509", reason="peer python3-cryptography is not installed")
pytest.importorskip("grpc", reason="peer grpcio is not installed")
import authority as ca  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import until  # noqa: E402

STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n"


@pytest.fixture
def meshed(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    yield m
    m.close()


def revoke(mesh, *serials):
    """By the mesh's own root."""
    issuer = x509.load_pem_x509_certificate((mesh.folder / "ca" / "ca-cert.pem").read_bytes())
    key = serialization.load_pem_private_key((mesh.folder / "ca" / "ca-key.pem").read_bytes(), None)
    return ca.revoked((issuer, key), *serials)


def serial(agent):
    return next(int(c["serial_number"], 16) for one in json.loads(agent.admin("/certs"))["certificates"] for c in one["cert_chain"])


def status(mesh, agent):
    try:
        return agent.pod.ask(mesh.vip("b"), 8080, "/x", host="b.demo:8080").status
    except OSError:
        return None


def test_a_revoked_workload_is_refused(meshed):
    mesh = meshed
    mesh.write("strict.yaml", STRICT)
    a, b, c = (mesh.agent(n, f"10.11.0.{i + 1}") for i, n in enumerate("abc"))
    b.pod.app(8080)
    for one in (a, b, c):
        one.wait_ready()
    for one in (a, c):
        until(lambda: status(mesh, one) == 200, 20, lambda: f"an answer to {one.name}:\n{b.log()[-2000:]}")
    lists = b.folder / "var/run/secrets/istio/crl"
    lists.mkdir(parents=True)
    (lists / ".new").write_text(revoke(mesh, serial(a)))
    (lists / ".new").rename(lists / "ca-crl.pem")

    def refused():
        """Over a new connection: what was accepted before stays."""
        os.kill(a.proxy_pid(), signal.SIGKILL)
        a.wait_ready()
        return until(lambda: status(mesh, a), 20, "an answer") == 503
    until(refused, 40, lambda: f"the refusal:\n{b.log()[-2000:]}")
    assert status(mesh, c) == 200
    (lists / "ca-crl.pem").write_text("junk")
    until(lambda: "no list of revoked certificates; what was stays" in b.log(), 20, "the broken list to be told")
    assert refused() and status(mesh, c) == 200
    (lists / "ca-crl.pem").unlink()
    until(lambda: not refused(), 40, "the list to be gone")
