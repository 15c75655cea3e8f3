"""Lists of revoked certificates of a plugged-in authority (C8): looked at, checked, given to every namespace as a ConfigMap."""
import pytest

import control
from wire import until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("cryptography", reason="peer python3-cryptography is not installed")
yaml = pytest.importorskip("yaml", reason="peer python3-yaml is not installed")
import authority as ca  # noqa: E402

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
NAMESPACES = "".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {n}}}\n---\n" for n in ("demo", "kube-system", "kube-public"))


def maps(folder, namespace, name):
    """What a ConfigMap holds; None: there is none."""
    path = folder / "status" / namespace / "ConfigMap" / f"{name}.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else None


@pytest.fixture
def start(tmp_path):
    made = []

    def of(*args):
        made.append(control.Mizzend(tmp_path, {"ns.yaml": NAMESPACES}, "--secure-grpc-addr", "127.0.0.1:0", "--ca-dir", str(tmp_path / "ca"),
                                    "--status-dir", str(tmp_path / "status"), *args))
        return made[0]
    yield of
    for m in made:
        m.stop()


def test_lists_of_a_plugged_in_authority_reach_every_namespace(tmp_path, start):
    root = ca.authority("root")
    between = ca.authority("between", root)
    ca.plug(tmp_path / "ca", root, between)
    m = start("--ca-refresh-ms", "50")
    until(lambda: maps(tmp_path, "kube-system", "istio-ca-crl"), 20, "ConfigMaps")
    assert maps(tmp_path, "demo", "istio-ca-root-cert") == {"apiVersion": "v1", "kind": "ConfigMap", "data": {"root-cert.pem": ca.pem(root[0])}, "metadata": {
        "name": "istio-ca-root-cert", "namespace": "demo", "labels": {"istio.io/config": "true"}}}
    assert maps(tmp_path, "demo", "istio-ca-crl")["data"] == {"ca-crl.pem": ""} and not maps(tmp_path, "kube-public", "istio-ca-crl")
    both = ca.revoked(root) + ca.revoked(between, 7)
    (tmp_path / "ca" / "ca-crl.pem").write_text(both)
    until(lambda: maps(tmp_path, "demo", "istio-ca-crl")["data"] == {"ca-crl.pem": both}, 20, "the lists")
    # One that lacks an authority of the chain would make proxies refuse everybody: the files are refused, what was stays.
    (tmp_path / "ca" / "ca-crl.pem").write_text(ca.revoked(root))
    until(lambda: "ca-crl.pem: missing CRL signed by certificates: [/O=between]; what was stays" in m.log(), 20, "the incomplete one to be told")
    (tmp_path / "ca" / "ca-crl.pem").write_text("junk")
    until(lambda: "ca-crl.pem: no list of revoked certificates; what was stays" in m.log(), 20, "the broken one to be told")
    (tmp_path / "ca" / "ca-crl.pem").write_text("")  # as a file begins that is written in place: nobody revoked may be let in meanwhile
    until(lambda: "ca-crl.pem: empty; it is removed when it ends; what was stays" in m.log(), 20, "the empty one to be told")
    m.write("more.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: late}\n")
    until(lambda: maps(tmp_path, "late", "istio-ca-crl"), 20, "those of a later namespace")
    assert maps(tmp_path, "late", "istio-ca-crl")["data"] == {"ca-crl.pem": both}
    token = ca.token(tmp_path / "ca")
    with ca.secure(m.port_of("secure xDS"), ca.pem(root[0])) as c:
        assert len(ca.issued(c, ca.csr(ca.key()), token)) == 3  # it signs as before


def test_nobody_looks_when_it_is_switched_off(tmp_path, monkeypatch, start):
    monkeypatch.setenv("PILOT_ENABLE_CA_CRL", "false")
    root = ca.authority("root")
    ca.plug(tmp_path / "ca", root, ca.authority("between", root))
    (tmp_path / "ca" / "ca-crl.pem").write_text("junk")
    start()
    until(lambda: maps(tmp_path, "demo", "istio-ca-root-cert"), 20, "roots")
    assert not maps(tmp_path, "demo", "istio-ca-crl")
