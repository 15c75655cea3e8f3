"""The certificate authority (C8): who gets which certificate, from whom; attacks on it (H05)."""
import datetime
import os
import pathlib
import stat
import subprocess
import time

import pytest

import control
from wire import until

grpc = pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("cryptography", reason="peer python3-cryptography is not installed")
import authority as ca  # noqa: E402
from cryptography import x509  # noqa: E402

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
SERVE = ("--secure-grpc-addr", "127.0.0.1:0")


def start(folder, *args, files=None):
    return control.Mizzend(folder, files or {"a.yaml": "# nothing\n"}, *SERVE, *args)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="module")
def mizzend(folder):
    m = start(folder, "--ca-dir", str(folder / "ca"), "--max-workload-cert-ttl", "100000")
    yield m
    m.stop()


@pytest.fixture(scope="module")
def roots(mizzend, folder):
    return (folder / "ca" / "root-cert.pem").read_text()


@pytest.fixture
def channel(mizzend, roots):
    with ca.secure(mizzend.port_of("secure xDS"), roots) as c:
        yield c


@pytest.fixture(scope="module")
def token(mizzend, folder):
    return ca.token(folder / "ca")


def test_a_token_gets_the_certificate_of_its_account(channel, roots, token):
    private = ca.key()
    chain = ca.issued(channel, ca.csr(private, [ca.WEB]), token)
    assert len(chain) == 2 and chain[1] == roots
    cert = ca.certs(chain[0])[0]
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical and san.value.get_values_for_type(x509.UniformResourceIdentifier) == [ca.WEB] and len(san.value) == 1
    assert cert.public_key().public_numbers() == private.public_key().public_numbers()
    assert list(cert.subject) == [] and cert.version == x509.Version.v3
    usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment and not usage.key_cert_sign
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = cert.not_valid_after - datetime.datetime.utcnow()
    assert datetime.timedelta(hours=23, minutes=58) < life <= datetime.timedelta(hours=24)
    assert ca.verify(chain[0], "", roots)


def test_a_certificate_gets_the_next_one(mizzend, roots, channel, token):
    private = ca.key()
    chain = ca.issued(channel, ca.csr(private), token)
    with ca.secure(mizzend.port_of("secure xDS"), roots, (ca.key_pem(private), chain[0].encode())) as c:
        again = ca.issued(c, ca.csr(ca.key("P-384")))
    assert ca.certs(again[0])[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier) == [ca.WEB]
    assert ca.certs(again[0])[0].serial_number != ca.certs(chain[0])[0].serial_number


def test_the_plain_port_serves_tokens_too(mizzend, token):
    with ca.plain(mizzend.port) as c:
        assert len(ca.issued(c, ca.csr(ca.key()), token)) == 2


@pytest.mark.parametrize("ttl, seconds", [(600, 600), (100000, 100000)])
def test_lifetime_is_what_is_asked_for(channel, token, ttl, seconds):
    cert = ca.certs(ca.issued(channel, ca.csr(ca.key()), token, ttl)[0])[0]
    assert abs((cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() - seconds) < 60


@pytest.mark.parametrize("kind", ["rsa2048", "P-256", "P-384"])
def test_kinds_of_keys(channel, token, kind):
    assert len(ca.issued(channel, ca.csr(ca.key(kind), [ca.WEB]), token)) == 2


EC = "P-256"
BAD = [
    ("H05-other-identity", lambda: ca.csr(ca.key(), ["spiffe://cluster.local/ns/demo/sa/other"]), "another identity"),
    ("H05-other-trust-domain", lambda: ca.csr(ca.key(), ["spiffe://evil/ns/demo/sa/web"]), "another identity"),
    ("H05-own-and-other", lambda: ca.csr(ca.key(), [ca.WEB, "spiffe://cluster.local/ns/istio-system/sa/istiod"]), "another identity"),
    ("H05-longer-identity", lambda: ca.csr(ca.key(), [ca.WEB + "/"]), "another identity"),
    ("H05-dns-name", lambda: ca.csr(ca.key(), [ca.WEB], ["istiod.istio-system.svc"]), "something else than a URI"),
    ("H05-authority", lambda: ca.csr(ca.key(), [ca.WEB], ca=True), "wishes to be an authority"),
    ("H05-weak-rsa", lambda: ca.csr(ca.key("rsa1024"), [ca.WEB]), "RSA key of 1024 bits"),
    ("H05-weak-curve", lambda: ca.csr(ca.key("P-224"), [ca.WEB]), "keys of curve"),
    ("H05-other-curve", lambda: ca.csr(ca.key("P-521"), [ca.WEB]), "keys of curve"),
    ("H05-many-extensions", lambda: ca.csr(ca.key(), [ca.WEB], extra=[(f"1.2.3.{i}", b"x") for i in range(20)]), "extensions"),
    ("H05-huge-extension", lambda: ca.csr(ca.key(), [ca.WEB], extra=[("1.2.3.4", b"x" * 1000000)]), "too large"),
    ("H05-wrong-signature", lambda: _wrong_signature(), "its signature is wrong"),
    ("H05-empty", lambda: "", "not a certificate signing request"),
    ("H05-junk", lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a certificate signing request"),
    ("H05-encrypted", lambda: "-----BEGIN CERTIFICATE REQUEST-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
     "-----END CERTIFICATE REQUEST-----\n", "not a certificate signing request"),
]


def _wrong_signature():
    """A request whose signature is off by one in its last byte."""
    import base64
    der = base64.b64decode("".join(ca.csr(ca.key(), [ca.WEB]).splitlines()[1:-1]))
    text = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1])).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("make, why", [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_h05_requests_that_are_refused(mizzend, channel, token, make, why):
    text = make()
    code, details = ca.ask(channel, text, token)
    assert code == "INVALID_ARGUMENT" and why in details
    assert why in mizzend.log()


@pytest.mark.parametrize("ttl", [100001, -1, 1 << 62])
def test_h05_lifetimes_that_are_refused(channel, token, ttl):
    code, details = ca.ask(channel, ca.csr(ca.key()), token, ttl)
    assert code == "INVALID_ARGUMENT" and "requested TTL" in details


@pytest.mark.parametrize("metadata", [{"ImpersonatedIdentity": "spiffe://cluster.local/ns/demo/sa/other"}, {"CertSigner": "x"}])
def test_h05_nobody_asks_for_somebody_else(channel, token, metadata):
    assert ca.ask(channel, ca.csr(ca.key()), token, metadata=metadata)[0] == "UNAUTHENTICATED"


STRANGERS = [
    ("H05-no-token", lambda f: None),
    ("H05-expired-token", lambda f: ca.forge(_own_key(f), ca.claims(exp=int(time.time()) - 120))),
    ("H05-future-token", lambda f: ca.forge(_own_key(f), ca.claims(nbf=int(time.time()) + 600))),
    ("H05-endless-token", lambda f: ca.forge(_own_key(f), {k: v for k, v in ca.claims().items() if k != "exp"})),
    ("H05-foreign-issuer", lambda f: ca.forge(_own_key(f), ca.claims(iss="kubernetes/serviceaccount"))),
    ("H05-foreign-key", lambda f: ca.forge(ca.key(), ca.claims())),
    ("H05-foreign-audience", lambda f: ca.forge(_own_key(f), ca.claims(aud=["https://kubernetes.default.svc"]))),
    ("H05-no-account", lambda f: ca.forge(_own_key(f), ca.claims(sub="alice"))),
    ("H05-odd-account", lambda f: ca.forge(_own_key(f), ca.claims(sub="system:serviceaccount:demo:web/../other"))),
    ("H05-longer-account", lambda f: ca.forge(_own_key(f), ca.claims(sub="system:serviceaccount:demo:web:other"))),
    ("H05-no-algorithm", lambda f: f'{ca.encode(b"{}")}.{ca.encode(b"{}")}.'),
    ("H05-alg-none", lambda f: ca.forge(_own_key(f), ca.claims(), {"alg": "none"})),
    ("H05-junk-token", lambda f: "x" * 7000),
]


def _own_key(folder):
    from cryptography.hazmat.primitives import serialization
    return serialization.load_pem_private_key((folder / "ca" / "token-key.pem").read_bytes(), None)


@pytest.mark.parametrize("make", [s[1] for s in STRANGERS], ids=[s[0] for s in STRANGERS])
def test_h05_strangers_get_nothing(channel, folder, make):
    assert ca.ask(channel, ca.csr(ca.key()), make(folder)) == ("UNAUTHENTICATED", "request authenticate failure")


def test_a_token_of_our_own_key_is_fine(channel, folder):
    assert len(ca.issued(channel, ca.csr(ca.key()), ca.forge(_own_key(folder), ca.claims()))) == 2


def test_h05_two_tokens(channel, token):
    assert ca.ask(channel, ca.csr(ca.key()), token, headers=[("authorization", f"Bearer {token}")])[0] == "UNAUTHENTICATED"


def test_h05_certificates_of_others(mizzend, folder, roots):
    from cryptography.hazmat.primitives import serialization
    port = mizzend.port_of("secure xDS")
    own = (x509.load_pem_x509_certificate((folder / "ca" / "ca-cert.pem").read_bytes()),
           serialization.load_pem_private_key((folder / "ca" / "ca-key.pem").read_bytes(), None))
    for pair in (ca.leaf(ca.authority("cluster.local"), [ca.WEB]), ca.leaf(own, [ca.WEB], days=-1)):  # not ours; expired
        with ca.secure(port, roots, pair) as c:
            assert ca.ask(c, ca.csr(ca.key()))[0] == "UNAVAILABLE"  # the handshake fails
    for uris in (["spiffe://evil/ns/demo/sa/web"], [ca.WEB, "spiffe://cluster.local/ns/demo/sa/other"], ["spiffe://cluster.local/ns/demo/sa/web/x"],
                 ["spiffe://cluster.local/ns//sa/web"], ["https://cluster.local/ns/demo/sa/web"]):
        with ca.secure(port, roots, ca.leaf(own, uris)) as c:
            assert ca.ask(c, ca.csr(ca.key())) == ("UNAUTHENTICATED", "request authenticate failure"), uris


def test_h05_a_flood_of_one_identity_is_limited_and_others_are_served(mizzend, channel, folder, token):
    flood, text = ca.token(folder / "ca", "demo/flood"), ca.csr(ca.key())
    answers = [ca.ask_once(channel, text, flood) for _ in range(60)]
    limited = [a for a in answers if a[0] == "RESOURCE_EXHAUSTED"]
    assert limited and "too many requests of this identity" in limited[0][1]
    assert len(ca.issued(channel, text, token)) == 2
    until(lambda: isinstance(ca.ask_once(channel, text, flood), list), 30, "the flood to be forgotten")


def test_counts(mizzend, channel, token):
    ca.ask(channel, ca.csr(ca.key()), token)
    text = mizzend.page("/metrics")
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("citadel_")}
    assert values["citadel_server_csr_count"] >= values["citadel_server_success_cert_issuance_count"] > 0
    assert values["citadel_server_root_cert_expiry_timestamp"] > time.time() + 3600 * 24 * 3000


def test_files_are_for_their_owner(mizzend, folder):
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (folder / "ca").iterdir()}
    assert modes == {"ca-cert.pem": 0o644, "ca-key.pem": 0o600, "root-cert.pem": 0o644, "token-key.pem": 0o600}
    assert stat.S_IMODE((folder / "ca").stat().st_mode) == 0o700
    assert "PRIVATE KEY" not in mizzend.log()


# ---- xDS on the secure port ----

def stream(channel, namespace, token=None, pair=None):
    pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
    from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
    r = discovery_pb2.DiscoveryRequest(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    r.node.id = f"sidecar~10.1.1.1~web-0.{namespace}~{namespace}.svc.cluster.local"
    import queue
    out = queue.Queue()
    out.put(r)
    heads = [("authorization", f"Bearer {token}")] if token else []
    call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(iter(out.get, None), metadata=heads, timeout=60)
    try:
        return len(next(call).resources)
    except grpc.RpcError as e:
        return e.code().name
    finally:
        out.put(None)
        call.cancel()


def test_xds_on_the_secure_port_is_for_known_proxies_of_their_namespace(mizzend, channel, token, roots):
    assert stream(channel, "demo", token) > 0
    assert stream(channel, "demo") == "UNAUTHENTICATED"
    assert stream(channel, "other", token) == "PERMISSION_DENIED"
    private = ca.key()
    chain = ca.issued(channel, ca.csr(private), token)
    with ca.secure(mizzend.port_of("secure xDS"), roots, (ca.key_pem(private), chain[0].encode())) as c:
        assert stream(c, "demo") > 0 and stream(c, "other") == "PERMISSION_DENIED"
    with ca.plain(mizzend.port) as c:
        assert stream(c, "other") > 0


# ---- authorities: plugged in, renewed, broken ----

def _issued(m, root, token):
    with ca.secure(m.port_of("secure xDS"), ca.pem(root[0])) as c:
        answer = ca.ask(c, ca.csr(ca.key()), token)
    return isinstance(answer, list) and answer


def test_a_plugged_in_authority_and_its_rotation(tmp_path):
    old = ca.authority("old")
    ca.plug(tmp_path / "ca", old, ca.authority("between", old))
    m = start(tmp_path, "--ca-dir", str(tmp_path / "ca"), "--ca-refresh-ms", "50")
    token, old_root = ca.token(tmp_path / "ca"), ca.pem(old[0])
    with ca.secure(m.port_of("secure xDS"), old_root) as c:
        first = ca.issued(c, ca.csr(ca.key()), token)
        assert len(first) == 3 and ca.verify(first[0], first[1], old_root) and not ca.verify(first[0], "", old_root)
    new = ca.authority("new")
    both = ca.pem(new[0]) + old_root
    ca.plug(tmp_path / "ca", new, ca.authority("between2", new), both)
    until(lambda: "files changed" in m.log(), 30, "the new authority")
    second = until(lambda: _issued(m, new, token), 30, "its certificates: its files come one after the other")
    assert second[-1] == both and ca.verify(second[0], second[1], ca.pem(new[0])) and not ca.verify(second[0], second[1], old_root)
    assert ca.verify(first[0], first[1], second[-1]), "the overlap: who has both roots believes old certificates"
    (tmp_path / "ca" / "ca-cert.pem").write_text("broken")  # what was stays
    until(lambda: "what was stays" in m.log(), 30, "the broken authority to be told")
    with ca.secure(m.port_of("secure xDS"), ca.pem(new[0])) as c:
        assert len(ca.issued(c, ca.csr(ca.key()), token)) == 3
    m.stop()


def test_a_root_of_its_own_is_renewed_with_overlap_and_stays_over_a_restart(tmp_path):
    root = ca.authority("cluster.local", days=2)  # of 62: less than a fifth is left
    old, before = ca.pem(root[0]), ca.leaf(root, [ca.WEB])[1].decode()
    (tmp_path / "ca").mkdir()
    for name, text in {"ca-cert.pem": old, "root-cert.pem": old, "ca-key.pem": ca.key_pem(root[1]).decode()}.items():
        (tmp_path / "ca" / name).write_text(text)
    (tmp_path / "ca" / "ca-key.pem").chmod(0o600)
    m = start(tmp_path, "--ca-dir", str(tmp_path / "ca"), "--ca-refresh-ms", "50")
    until(lambda: "root renewed" in m.log(), 60, "another root")
    new, token = (tmp_path / "ca" / "root-cert.pem").read_text(), ca.token(tmp_path / "ca")
    with ca.secure(m.port_of("secure xDS"), new) as c:
        after = ca.issued(c, ca.csr(ca.key()), token)
    assert after[-1] == new and new.endswith(old) and len(ca.certs(new)) == 2
    assert ca.certs(new)[0].not_valid_after > ca.certs(old)[0].not_valid_after
    assert ca.verify(before, "", new) and ca.verify(after[0], "", old), "either is good for whoever has either root"
    m.stop()
    assert m.log().count("root renewed") == 1
    (tmp_path / "docs").rename(tmp_path / "docs.old")
    again = start(tmp_path, "--ca-dir", str(tmp_path / "ca"))
    with ca.secure(again.port_of("secure xDS"), new) as c:
        assert ca.verify(ca.issued(c, ca.csr(ca.key()), token)[0], "", new)
    again.stop()


def test_no_certificate_outlives_its_authority(tmp_path):
    m = start(tmp_path, "--ca-dir", str(tmp_path / "ca"), "--ca-root-ttl", "600")
    with ca.plain(m.port) as c:
        cert = ca.certs(ca.issued(c, ca.csr(ca.key()), ca.token(tmp_path / "ca"))[0])[0]
    assert (cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() <= 600
    m.stop()


def test_another_issuer_of_tokens(tmp_path):
    private = ca.key()
    (tmp_path / "keys.json").write_text(ca.jwks(private))
    m = start(tmp_path, "--token-issuer", "https://kubernetes.default.svc", "--token-jwks", str(tmp_path / "keys.json"))
    assert "no --ca-dir" in m.log()
    with ca.plain(m.port) as c:
        assert len(ca.issued(c, ca.csr(ca.key()), ca.forge(private, ca.claims(iss="https://kubernetes.default.svc")))) == 2
        assert ca.ask(c, ca.csr(ca.key()), ca.forge(private, ca.claims()))[0] == "UNAUTHENTICATED"
    m.stop()


def broken(folder, what):
    root = ca.authority("root")
    between = ca.authority("between", root)
    ca.plug(folder, root, between)
    path = folder / "ca-key.pem"
    if what == "other-key":
        path.write_bytes(ca.key_pem(ca.key()))
    elif what == "writable-key":
        path.chmod(0o666)
    elif what == "no-key":
        path.unlink()
    elif what == "other-root":
        (folder / "root-cert.pem").write_text(ca.pem(ca.authority("other")[0]))
    elif what == "expired":
        ca.plug(folder, root, ca.authority("between", root, days=-1))
    elif what == "not-an-authority":
        key, cert = ca.leaf(root, [ca.WEB])
        (folder / "ca-cert.pem").write_bytes(cert)
        path.write_bytes(key)


@pytest.mark.parametrize("what, text", [("other-key", "not the key of ca-cert.pem"), ("writable-key", "others may write it"), ("no-key", "there is no ca-key.pem"),
                                        ("other-root", "unable to get"), ("expired", "certificate has expired"),
                                        ("not-an-authority", "not an authority's")])
def test_authorities_that_are_refused(tmp_path, what, text):
    broken(tmp_path / "ca", what)
    (tmp_path / "docs").mkdir()
    p = subprocess.run([control.MIZZEND, "-c", tmp_path / "docs", "--ca-dir", tmp_path / "ca", "--grpc-addr", "127.0.0.1:0", "--secure-grpc-addr", "127.0.0.1:0",
                        "--monitoring-addr", "", "--webhook-addr", ""], capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 1 and text in p.stderr, p.stderr


@pytest.mark.parametrize("args, text", [
    (["--account", "demo/web"], "needs --account and --ca-dir"),
    (["--ca-dir", "DIR", "--account", "demo"], "is not NAMESPACE/NAME"),
    (["--ca-dir", "DIR", "--account", "demo/../x"], "is not NAMESPACE/NAME"),
    (["--ca-dir", "DIR", "--account", "demo/web", "--token-ttl", "0"], "--token-ttl"),
])
def test_tokens_that_are_not_made(tmp_path, args, text):
    p = subprocess.run([control.MIZZEND, "--mode", "token", *[a.replace("DIR", str(tmp_path)) for a in args]], capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 1 and text in p.stderr and not p.stdout
