"""Other TLS libraries and tools as peers (row T1): what they agree on, and what they must not get (testssl's checks)."""
import re
import shutil
import socket
import ssl
import subprocess

import config
import pytest
from upstream import Reply
from wire import HOST, free_port, patient

TLS = "envoy.extensions.transport_sockets.tls.v3."
GNUTLS = pytest.mark.skipif(not shutil.which("gnutls-cli"), reason="peer gnutls-cli is not installed")


def start(mesh, pki, params=None, certs=("server", "two"), script=None, **fields):
    u = mesh.upstream(script=script)
    place = config.listener(free_port(), [config.hcm([config.route("/", u.name)])])
    common = {"tls_certificates": [pki.pair(c) for c in certs], "tls_params": params or {}, "alpn_protocols": ["h2", "http/1.1"]}
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=common, **fields)
    return mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()))


def s_client(px, *argv, data=""):
    run = ["openssl", "s_client", "-connect", f"{HOST}:{px.port}", "-servername", "server.test", *argv]
    p = subprocess.run(run, input=data, capture_output=True, text=True, timeout=patient(20), check=False)
    return p.stdout + p.stderr


def agreed(out):
    """(version, cipher), or None where there was no handshake."""
    found = re.search(r"New, (\S+), Cipher is (\S+)", out)
    return None if not found or found[2] == "(NONE)" else (found[1], found[2])


@pytest.fixture(scope="module")
def px(shared_mesh, pki):
    return start(shared_mesh, pki)


@pytest.mark.parametrize("argv,got", [
    (["-tls1_3"], ("TLSv1.3", "TLS_AES_256_GCM_SHA384")), (["-tls1_2"], ("TLSv1.2", None)), (["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], None),
    (["-tls1", "-cipher", "ALL@SECLEVEL=0"], None), (["-no_tls1_3", "-no_tls1_2", "-cipher", "ALL@SECLEVEL=0"], None),
    *[(["-tls1_3", "-ciphersuites", s], ("TLSv1.3", s.split(":")[0])) for s in (  # the client's first one
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")],
    (["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], None),
    *[(["-tls1_2", "-cipher", c], ("TLSv1.2", c)) for c in (
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")],
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-servername", "two.test"], ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")),
    (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"], ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")),  # ours first
    *[(["-tls1_2", "-cipher", c + ":@SECLEVEL=0"], None) for c in (
        "AES128-SHA", "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "aNULL", "eNULL", "PSK")],
    *[(["-groups", g], ("TLSv1.3", "TLS_AES_256_GCM_SHA384")) for g in ("X25519", "P-256")],
    (["-tls1_3", "-groups", "P-384"], None), (["-tls1_3", "-groups", "ffdhe2048"], None),
    (["-tls1_2", "-fallback_scsv"], None), (["-tls1_3", "-no_middlebox"], ("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
    (["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"], ("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
], ids=lambda v: " ".join(v).replace("-", "") if isinstance(v, list) else "")
def test_what_is_agreed_on(px, argv, got):
    found = agreed(s_client(px, *argv))
    assert found == got or (got and got[1] is None and found and found[0] == got[0])


def test_alpn(px):
    assert "ALPN protocol: h2" in s_client(px, "-alpn", "http/1.1,h2")  # our order
    assert "ALPN protocol: http/1.1" in s_client(px, "-alpn", "http/1.1,foo")
    out = s_client(px, "-alpn", "foo")
    assert "No ALPN negotiated" in out and agreed(out)


def test_properties_of_a_handshake(px):
    out = s_client(px, "-tls1_2")
    assert "Secure Renegotiation IS supported" in out and "Extended master secret: yes" in out and "Compression: NONE" in out
    assert "Peer signing digest: SHA256" in out and "Server Temp Key: X25519" in out


def test_no_renegotiation(px):
    """The client's wish is refused; at the latest its own handshake ends the connection."""
    before = px.stat(f"listener.{HOST}_{px.port}.ssl.handshake")
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"{HOST}:{px.port}", "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    px.wait_stat(f"listener.{HOST}_{px.port}.ssl.handshake", before + 1)
    p.stdin.write("R\n")
    p.stdin.flush()
    out = p.communicate(timeout=patient(20))[0]
    assert p.returncode != 0 and re.search("no renegotiation|handshake failure|RENEGOTIATING", out)
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.handshake") == before + 1


def test_no_early_data(px, tmp_path):
    """0-RTT stays off: tickets allow none, and bytes that come early are not taken."""
    session, early = str(tmp_path / "session"), tmp_path / "early"
    early.write_text("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    out = s_client(px, "-tls1_3", "-sess_out", session, "-ign_eof", data="GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert "Max Early Data: 0" in out
    out = s_client(px, "-tls1_3", "-sess_in", session, "-early_data", str(early))
    assert "Early data was accepted" not in out


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("fields,resumes", [
    ({}, True), ({"disable_stateless_session_resumption": True}, True),
    ({"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True}, False),
    ({"session_ticket_keys": {"keys": [{"inline_bytes": "A" * 107 + "="}]}}, True),
], ids=["tickets", "cache", "none", "own-keys"])
def test_resumption(mesh, pki, tmp_path, fields, resumes, version, is_envoy):
    if is_envoy and version == "-tls1_3" and "disable_stateless_session_resumption" in fields:
        resumes = False  # its library resumes TLS 1.3 by tickets only
    px = start(mesh, pki, **fields)
    session, ask = str(tmp_path / "session"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    s_client(px, version, "-ign_eof", "-sess_out", session, data=ask)
    out = s_client(px, version, "-ign_eof", "-sess_in", session, data=ask) if (tmp_path / "session").exists() else ""
    assert ("Reused, " in out) == resumes and px.stat(f"listener.{HOST}_{px.port}.ssl.session_reused") == int(resumes)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_curl(mesh, pki, protocol, version):
    px = start(mesh, pki, script=[Reply(200, b"x" * 300000)])
    argv = ["curl", "-s", protocol, f"--tlsv{version}", "--tls-max", version, "--cacert", pki.path("ca.pem"), "--resolve", f"server.test:{px.port}:{HOST}",
            "-w", "%{http_code} %{http_version} %{ssl_verify_result}", "-o", "/dev/null"]
    out = subprocess.run([*argv, f"https://server.test:{px.port}/"], capture_output=True, text=True, timeout=patient(20), check=False).stdout
    assert out == ("200 2 0" if protocol == "--http2" else "200 1.1 0")


@GNUTLS
@pytest.mark.parametrize("priority,words", [
    ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS1.3"), ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.2"),
    ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", "CHACHA20-POLY1305"), ("NORMAL:-GROUP-ALL:+GROUP-SECP256R1", "SECP256R1"),
    ("NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", None), ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA", None)])
def test_gnutls(px, pki, priority, words):
    argv = ["gnutls-cli", "--x509cafile", pki.path("ca.pem"), "--sni-hostname", "server.test", "--verify-hostname", "server.test", "--priority", priority,
            "-p", str(px.port), HOST]
    p = subprocess.run(argv, input="GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", capture_output=True, text=True, timeout=patient(20), check=False)
    assert ("Handshake was completed" in p.stdout) == (words is not None), p.stdout + p.stderr
    assert words is None or words in p.stdout


@GNUTLS
@pytest.mark.stricter  # Envoy's ticket comes with its first answer
def test_gnutls_resumes(px, pki):
    """Its second connection comes with the session of the first."""
    argv = ["gnutls-cli", "--x509cafile", pki.path("ca.pem"), "--sni-hostname", "server.test", "--verify-hostname", "server.test", "-r", "--waitresumption",
            "-p", str(px.port), HOST]
    p = subprocess.run(argv, input="", capture_output=True, text=True, timeout=patient(30), check=False)
    assert "This is a resumed session" in p.stdout, p.stdout


@GNUTLS
def test_gnutls_renegotiates_nothing(px, pki):
    p = subprocess.run(["gnutls-cli", "--insecure", "--rehandshake", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "-p", str(px.port), HOST], input="",
                       capture_output=True, text=True, timeout=patient(20), check=False)
    assert "ReHandshake has failed" in p.stdout + p.stderr or "rehandshake" in (p.stdout + p.stderr).lower() and p.returncode != 0


def test_python_verifies_names(px, pki):
    for name, good in (("server.test", True), ("x.wild.test", True), ("other.test", False), ("a.b.wild.test", False)):
        c = ssl.create_default_context(cafile=pki.path("ca.pem"))
        with socket.create_connection((HOST, px.port), timeout=5) as raw:
            try:
                with c.wrap_socket(raw, server_hostname=name) as s:
                    assert good and s.version() == "TLSv1.3"
            except ssl.SSLCertVerificationError:
                assert not good


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("fields", [{}, {"disable_stateful_session_resumption": True}, {"session_ticket_keys": {"keys": [{"inline_bytes": "A" * 107 + "="}]}}],
                         ids=["default", "tickets", "own-keys"])
def test_a_resumed_client_is_the_same_client(mesh, pki, tmp_path, fields, version):
    """Its certificate is not sent again, and is known: who it is comes from the session."""
    trust = {"validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}, "tls_certificates": [pki.pair("server")]}
    log = config.access_log(mesh.folder / "access.log", {"uri": "%DOWNSTREAM_PEER_URI_SAN%", "id": "%DOWNSTREAM_PEER_FINGERPRINT_256%"})
    manager = config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}], log=log)
    place = config.listener(free_port(), [manager])
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=trust, require_client_certificate=True, **fields)
    px = mesh.proxy(boot=config.bootstrap([place], [], free_port()))
    session, ask = str(tmp_path / "session"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    own = ["-cert", pki.path("client.pem"), "-key", pki.path("client.key")]
    s_client(px, version, *own, "-ign_eof", "-sess_out", session, data=ask)
    out = s_client(px, version, "-ign_eof", "-sess_in", session, data=ask)  # without the certificate
    assert "Reused, " in out and px.stat(f"listener.{HOST}_{px.port}.ssl.session_reused") == 1
    first, second = px.access_log(2)
    assert first == second and first["uri"] == "spiffe://mesh.test/ns/a/sa/client"
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.no_certificate") == 0


@pytest.mark.parametrize("argv,got", [
    (["-tls1_3"], ("TLSv1.3", "TLS_AES_256_GCM_SHA384")), (["-tls1_3", "-groups", "X25519"], None), (["-tls1_3", "-groups", "P-384"], ("TLSv1.3", None)),
    (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], None), (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], None),
    (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")),
    (["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], None),
], ids=lambda v: " ".join(v).replace("-", "") if isinstance(v, list) else "")
def test_fips_policy(mesh, pki, argv, got):
    """compliance_policies: whatever else is said of versions, ciphers and groups."""
    params = {"compliance_policies": ["FIPS_202205"], "ecdh_curves": ["X25519"], "tls_minimum_protocol_version": "TLSv1_0"}
    found = agreed(s_client(start(mesh, pki, params=params), *argv))
    assert found == got or (got and got[1] is None and found and found[0] == got[0])
