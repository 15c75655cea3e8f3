"""The validator envoy.tls.cert_validator.spiffe (row T1): each trust domain's certificates are judged by its own authorities."""
import base64
import json
import socket
import ssl

import config
import pytest
from pki import Pki
from wire import HOST, free_port, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
CERT = "verify_cert_failed:_"
FIELDS = {"path": "%REQ(:PATH)%", "uri": "%DOWNSTREAM_PEER_URI_SAN%", "why": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"}


@pytest.fixture(scope="module")
def svids(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("svids"))
    plain = "keyUsage=digitalSignature\n"
    for ca in ("a", "b"):
        p.authority(ca)
        p.issue(f"in-{ca}", f"URI:spiffe://{ca}.test/ns/x/sa/y", ca=ca, more=plain)
    p.issue("mixed", "URI:spiffe://a.test/ns/x/sa/y", ca="b", more=plain)
    p.issue("elsewhere", "URI:spiffe://c.test/ns/x", ca="a", more=plain)
    p.issue("no-path", "URI:spiffe://a.test", ca="a", more=plain)
    p.issue("dns", "DNS:a.test", ca="a", more=plain)
    p.issue("signer", "URI:spiffe://a.test/ns/x", ca="a", more="keyUsage=keyCertSign,digitalSignature\n")
    p.issue("no-usage", "URI:spiffe://a.test/ns/x", ca="a")
    p.issue("is-ca", "URI:spiffe://a.test/ns/x", ca="a", more="basicConstraints=CA:TRUE\n" + plain)
    p.issue("late", "URI:spiffe://a.test/ns/x", ca="a", days="-1", more=plain)
    return p


def domains(p, *names):
    return [{"name": f"{n}.test", "trust_bundle": {"filename": p.path(f"{n}.pem")}} for n in names]


def bundles(p, *names):
    der = {n: base64.b64encode(ssl.PEM_cert_to_DER_cert((p.folder / f"{n}.pem").read_text())).decode() for n in names}
    return {"trust_domains": {f"{n}.test": {"spiffe_sequence": 1, "keys": [{"use": "x509-svid", "kty": "EC", "x5c": [d]}]} for n, d in der.items()}}


def validation(trust, **fields):
    return {"custom_validator_config": config.ext("envoy.tls.cert_validator.spiffe", TLS + "SPIFFECertValidatorConfig", **trust), **fields}


def start(mesh, p, context, ready=True):
    common = {"tls_certificates": [p.pair("in-a")], "validation_context": context}
    log = config.access_log(mesh.folder / "access.log", FIELDS)
    place = config.listener(free_port(), [config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}], log=log)], access_log=[log])
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=common)
    return mesh.proxy(boot=config.bootstrap([place], [], free_port()), ready=ready)


def ask(px, p, cert):
    """True: answered."""
    c = ssl._create_unverified_context()
    if cert:
        c.load_cert_chain(p.path(f"{cert}.pem"), p.path(f"{cert}.key"))
    try:
        with socket.create_connection((HOST, px.port), timeout=5) as raw, c.wrap_socket(raw, server_hostname="a") as s:
            s.sendall(b"GET /in HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return s.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@pytest.mark.parametrize("form", ["domains", "bundles"])
@pytest.mark.parametrize("cert,reason", [
    ("in-a", None), ("in-b", None), ("mixed", CERT + "X509_verify_cert:_certificate_verification_error_at_depth_0:_unable_to_get_local_issuer_certificate"),
    ("elsewhere", CERT + "no_trust_bundle_store"), ("no-path", CERT + "no_trust_bundle_store"), ("dns", CERT + "no_trust_bundle_store"),
    ("signer", CERT + "cert_precheck"), ("is-ca", CERT + "cert_precheck"), ("no-usage", CERT + "cert_precheck"),
    ("late", CERT + "X509_verify_cert:_certificate_verification_error_at_depth_0:_certificate_has_expired"), (None, "peer_did_not_provide"),
])
def test_g11_spiffe_clients(mesh, svids, cert, reason, form, tmp_path):
    trust = {"trust_domains": domains(svids, "a", "b")}
    if form == "bundles":
        (tmp_path / "bundles.json").write_text(json.dumps(bundles(svids, "a", "b")))
        trust = {"trust_bundles": {"filename": str(tmp_path / "bundles.json")}, "trust_domains": [{"name": "unused"}]}
    px = start(mesh, svids, validation(trust))
    assert ask(px, svids, cert) == (reason is None)
    prefix = f"listener.{HOST}_{px.port}.ssl."
    if reason is None:
        assert px.wait_log(lambda e: e["path"] == "/in")["uri"].startswith("spiffe://")
        assert px.stat(prefix + "fail_verify_error") == 0
        return
    assert reason in px.wait_log(lambda e: e["why"])["why"]
    assert px.stat(prefix + ("fail_verify_error" if cert else "fail_verify_no_cert")) == 1


def test_names_and_times(mesh, svids):
    """Only rules of URIs count; allow_expired_certificate."""
    rules = [{"san_type": "DNS", "matcher": {"exact": "nobody"}}, {"san_type": "URI", "matcher": {"prefix": "spiffe://a.test/"}}]
    trust = {"trust_domains": domains(svids, "a", "b")}
    px = start(mesh, svids, validation(trust, match_typed_subject_alt_names=rules, allow_expired_certificate=True))
    assert ask(px, svids, "in-a") and ask(px, svids, "late") and not ask(px, svids, "in-b")
    assert px.wait_log(lambda e: e["why"])["why"].endswith(CERT + "SAN_match:TLS_error_end")
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.fail_verify_san") == 1
    page = json.loads(px.admin("/certs")[1])["certificates"][0]
    assert page["ca_cert"][0]["path"] in {f"{n}.test: {svids.path(f'{n}.pem')}" for n in "ab"}


def test_servers(mesh, svids):
    """Upstream: the server's certificate is judged in the same way."""
    back = start(mesh, svids, {})
    clusters = [config.cluster(n, [back.port], transport_socket=config.ext("tls", TLS + "UpstreamTlsContext", common_tls_context={
        "validation_context": validation({"trust_domains": domains(svids, n)})})) for n in ("a", "b")]
    front = mesh.proxy(name="front", boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/a", "a"), config.route("/b", "b")])])],
                                                           clusters, free_port()))
    assert front.get("/a").status == 200 and front.get("/b").status == 503
    assert front.stat("cluster.b.ssl.fail_verify_error") == 1


@pytest.mark.parametrize("trust,error", [
    (lambda p: {"trust_domains": domains(p, "a", "a")}, "Multiple trust bundles are given for one trust domain for a.test"),
    (lambda p: {"trust_domains": [{"name": "a.test", "trust_bundle": {"inline_string": "nothing"}}]}, "Failed to load trusted CA certificate for a.test"),
    *[(lambda p, t=t: {"trust_bundles": {"inline_string": t}, "trust_domains": [{"name": "x"}]}, e) for t, e in (
        ('{"trust_domains": {}}', "No trust domains found in SPIFFE bundle"),
        ('{"trust_domains": {"a": {"keys": []}}}', "No keys found in SPIFFE bundle for domain 'a'"),
        ('{"trust_domains": {"a": {"keys": [{"use": "jwt-svid"}]}}}', "missing or invalid 'use' field found in cert for domain 'a'"),
        ('{"trust_domains": {"a": {"keys": [{"use": "x509-svid", "x5c": []}]}}}', "missing or empty 'x5c' field found in keys for domain: 'a'"),
        ('{"trust_domains": {"a": {"keys": [{"use": "x509-svid", "x5c": ["AAAA"]}]}}}', "Invalid x509 object in certs for domain 'a'"))],
])
def test_broken(mesh, svids, trust, error):
    px = start(mesh, svids, validation(trust(svids)), ready=False)
    assert until(lambda: px.process.poll() is not None, 10) and error in px.log()
