"""What is told of certificates (row T3), OCSP responses (T1), and files that change under secrets."""
import base64
import json
import os
import pathlib
import socket
import ssl
import subprocess

import config
import pytest
from wire import HOST, free_port, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
COUNTERS = ["connection_error", "fail_verify_cert_hash", "fail_verify_error", "fail_verify_no_cert", "fail_verify_san", "handshake", "no_certificate",
            "ocsp_staple_failed", "ocsp_staple_omitted", "ocsp_staple_requests", "ocsp_staple_responses", "session_reused"]
SOCKET = ["downstream_context_secrets_not_ready", "ssl_context_update_by_sds", "upstream_context_secrets_not_ready"]


def listener(common, **fields):
    place = config.listener(free_port(), [config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])])
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=common, **fields)
    return place


def start(mesh, common, ready=True, **fields):
    return mesh.proxy(boot=config.bootstrap([listener(common, **fields)], [], free_port()), ready=ready)


def test_names_and_page(mesh, pki):  # T3
    trust = {"trusted_ca": {"filename": pki.path("ca.pem")}}
    own = {"tls_certificates": [pki.pair("server"), pki.pair("two")], "validation_context": trust}
    secret = {"tls_certificate_sds_secret_configs": [{"name": "mine"}], "validation_context_sds_secret_config": {"name": "roots"}}
    cluster = config.cluster("s", [1], transport_socket=config.ext("tls", TLS + "UpstreamTlsContext", common_tls_context=secret))
    boot = config.bootstrap([listener(own)], [cluster], free_port())
    boot["static_resources"]["secrets"] = [{"name": "mine", "tls_certificate": pki.pair("client")}, {"name": "roots", "validation_context": trust}]
    px = mesh.proxy(boot=boot)
    for prefix, side, names in (("cluster.s.", "client", ("mine", "roots")),
                                (f"listener.{HOST}_{px.port}.", "server", ("unnamed_cert_e3b0c442", "unnamed_ca_cert_e3b0c442"))):
        expected = [f"{prefix}ssl.{c}" for c in COUNTERS] + [f"{prefix}{side}_ssl_socket_factory.{c}" for c in SOCKET]
        expected += [f"{prefix}ssl.certificate.{n}.expiration_unix_time_seconds" for n in names]
        assert sorted(n for n in px.stats() if n.startswith(prefix) and "ssl" in n) == sorted(expected)
        assert all(px.stat(n) > 1_700_000_000 for n in expected[-2:])
    text = px.admin("/stats/prometheus?filter=expiration")[1]
    assert f'envoy_cluster_ssl_certificate_expiration_unix_time_seconds{{envoy_tls_certificate="mine",envoy_cluster_name="s"}} ' in text
    assert px.stat("server.days_until_first_cert_expiring") == 29 or px.stat("server.days_until_first_cert_expiring") == 30
    pages = json.loads(px.admin("/certs")[1])["certificates"]
    assert len(pages) == 2
    page = next(c for c in pages if len(c["cert_chain"]) == 2)
    chain = next(c for c in page["cert_chain"] if c["path"] == pki.path("server.pem"))
    assert chain["subject_alt_names"] == [{"dns": "server.test"}, {"dns": "*.wild.test"}, {"ip_address": "127.0.0.1"}]
    assert len(chain["serial_number"]) % 2 == 0 and chain["valid_from"] < chain["expiration_time"] and chain["days_until_expiration"] in ("29", "30")
    assert [c["path"] for c in page["ca_cert"]] == [pki.path("ca.pem")]
    other = next(c for c in pages if c is not page)
    assert other["cert_chain"][0]["subject_alt_names"] == [{"dns": "client.test"}, {"uri": "spiffe://mesh.test/ns/a/sa/client"}]


def test_no_certificate_never_expires(mesh):
    px = mesh.proxy(boot=config.bootstrap([], [], free_port()))
    assert px.stat("server.days_until_first_cert_expiring") == 2**32 - 1 and json.loads(px.admin("/certs")[1]) == {"certificates": []}


# ---- OCSP ----

@pytest.fixture(scope="session")
def stapled(pki):
    pki.issue("must", "DNS:server.test", more="tlsfeature=status_request\n")
    for name in ("server", "must"):
        pki.ocsp(name, f"{name}.ocsp")
        pki.ocsp(name, f"{name}.old", days=None)
    pki.ocsp("server", "server.revoked", revoked=True)
    (pki.folder / "server.twice").write_bytes((pki.folder / "server.ocsp").read_bytes() * 2)
    (pki.folder / "server.later").write_bytes(b"\x30\x03\x0a\x01\x03")  # tryLater
    (pki.folder / "server.junk").write_bytes(b"junk")
    return pki


def with_staple(pki, cert, staple):
    return {"tls_certificates": [{**pki.pair(cert), **({"ocsp_staple": {"filename": pki.path(staple)}} if staple else {})}]}


def status_of(px, *more):
    """What a client that asks for a response gets: its status, None, or 'refused'."""
    argv = ["openssl", "s_client", "-connect", f"{HOST}:{px.port}", "-servername", "server.test", "-status", *more]
    out = subprocess.run(argv, input="", capture_output=True, text=True, timeout=20, check=False).stdout
    if "Cipher is (NONE)" in out:
        return "refused"
    if "no response sent" in out:
        return None
    return next(x.split(":")[1].strip() for x in out.splitlines() if "Cert Status" in x)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("cert,staple,policy,status,counted", [
    ("server", "server.ocsp", "LENIENT_STAPLING", "good", "responses"), ("server", "server.revoked", "LENIENT_STAPLING", "revoked", "responses"),
    ("server", None, "LENIENT_STAPLING", None, "omitted"), ("server", "server.old", "LENIENT_STAPLING", None, "omitted"),
    ("server", None, "STRICT_STAPLING", None, "omitted"), ("server", "server.old", "STRICT_STAPLING", "refused", "failed"),
    ("server", "server.ocsp", "STRICT_STAPLING", "good", "responses"), ("server", "server.old", "MUST_STAPLE", "refused", "failed"),
    ("must", "must.ocsp", "LENIENT_STAPLING", "good", "responses"), ("must", "must.old", "LENIENT_STAPLING", "refused", "failed"),
])
def test_staple(mesh, stapled, cert, staple, policy, status, counted, version):  # T1
    px = start(mesh, with_staple(stapled, cert, staple), ocsp_staple_policy=policy)
    assert status_of(px, version) == status
    prefix = f"listener.{HOST}_{px.port}.ssl.ocsp_staple_"
    assert {x: px.stat(prefix + x) for x in ("requests", "responses", "omitted", "failed")} == {
        **dict.fromkeys(("responses", "omitted", "failed"), 0), "requests": 1, counted: 1}
    with socket.create_connection((HOST, px.port), timeout=5) as raw, \
            ssl._create_unverified_context().wrap_socket(raw, server_hostname="server.test"):  # asks for none
        pass
    assert px.stat(prefix + "requests") == 1
    shown = json.loads(px.admin("/certs")[1])["certificates"][0]["cert_chain"][0]
    assert ("ocsp_details" in shown) == bool(staple)
    assert (px.stat("server.seconds_until_first_ocsp_response_expiring") > 500_000) == bool(staple and not staple.endswith("old"))


def test_staple_of_a_resumed_session_is_counted(mesh, stapled, tmp_path):
    px = start(mesh, with_staple(stapled, "server", "server.ocsp"))
    for how in ("-sess_out", "-sess_in"):
        subprocess.run(["openssl", "s_client", "-connect", f"{HOST}:{px.port}", "-tls1_2", "-status", how, str(tmp_path / "session")], input="",
                       capture_output=True, text=True, timeout=20, check=True)
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.session_reused") == 1
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.ocsp_staple_responses") == 2


@pytest.mark.parametrize("cert,staple,policy,error", [
    pytest.param("server", "server.junk", "LENIENT_STAPLING", "OCSP Response is not a well-formed ASN.1 SEQUENCE", marks=pytest.mark.stricter),
    ("server", "server.twice", "LENIENT_STAPLING", "Data contained more than a single OCSP response"),
    ("server", "server.later", "LENIENT_STAPLING", "OCSP response was unsuccessful"),
    ("server", "must.ocsp", "LENIENT_STAPLING", "OCSP response does not match its TLS certificate"),
    ("server", None, "MUST_STAPLE", "Required OCSP response is missing from TLS context"),
    ("must", None, "LENIENT_STAPLING", "OCSP response is required for must-staple certificate"),
])
def test_broken_staples(mesh, stapled, cert, staple, policy, error):
    px = start(mesh, with_staple(stapled, cert, staple), ready=False, ocsp_staple_policy=policy)
    assert until(lambda: px.process.poll() is not None, 10) and error in px.log()


def test_staple_has_its_own_file(mesh, stapled):
    common = {"tls_certificates": [{**stapled.pair("server"), "ocsp_staple": {"inline_string": "abc"}}]}
    px = start(mesh, common, ready=False)
    assert until(lambda: px.process.poll() is not None, 10) and "OCSP staple cannot be provided via inline_string" in px.log()


# ---- files that change ----

def served(px):
    with socket.create_connection((HOST, px.port), timeout=5) as raw, ssl._create_unverified_context().wrap_socket(raw, server_hostname="a") as s:
        return s.getpeercert(True)


def test_watched_directory(mesh, pki, tmp_path):
    """A secret's files behind links, as a mounted Secret has them: only the named directory tells of a change."""
    pem = {n: ssl.PEM_cert_to_DER_cert((pki.folder / f"{n}.pem").read_text()) for n in ("server", "client")}
    data, told = tmp_path / "data", tmp_path / "told"
    data.mkdir(), told.mkdir()

    def put(name):
        for ext in ("pem", "key"):
            (data / f"new.{ext}").write_bytes((pki.folder / f"{name}.{ext}").read_bytes())
            os.rename(data / f"new.{ext}", data / f"now.{ext}")
    put("server")
    secret = {"certificate_chain": {"filename": str(data / "now.pem")}, "private_key": {"filename": str(data / "now.key")}, "watched_directory": {"path": str(told)}}
    path = tmp_path / "sds.json"
    path.write_text(json.dumps({"resources": [{"@type": config.TYPE + TLS + "Secret", "name": "mine", "tls_certificate": secret}]}))
    source = {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
    px = start(mesh, {"tls_certificate_sds_secret_configs": [{"name": "mine", "sds_config": source}]})
    assert served(px) == pem["server"]
    put("client")
    assert served(px) == pem["server"]
    (tmp_path / "flag").write_text("")
    os.rename(tmp_path / "flag", told / "flag")
    until(lambda: served(px) == pem["client"], 5, "the new certificate")


def test_plain_files_are_read_once(mesh, pki, tmp_path):
    """Certificates that no secret delivers stay as they were at the start, as at Envoy."""
    for ext in ("pem", "key"):
        (tmp_path / f"now.{ext}").write_bytes((pki.folder / f"server.{ext}").read_bytes())
    pair = {"certificate_chain": {"filename": str(tmp_path / "now.pem")}, "private_key": {"filename": str(tmp_path / "now.key")}}
    px = start(mesh, {"tls_certificates": [pair]})
    first = served(px)
    for ext in ("pem", "key"):
        (tmp_path / f"new.{ext}").write_bytes((pki.folder / f"client.{ext}").read_bytes())
        os.rename(tmp_path / f"new.{ext}", tmp_path / f"now.{ext}")
    px.admin("/stats")
    assert served(px) == first == ssl.PEM_cert_to_DER_cert((pki.folder / "server.pem").read_text())


@pytest.mark.parametrize("where", ["filename", "inline_string", "inline_bytes", "environment_variable"])
def test_where_a_certificate_comes_from(mesh, pki, monkeypatch, where):  # T1
    """File, inline as text and bytes, environment; no page shows the key."""
    texts = {"certificate_chain": pki.path("server.pem"), "private_key": pki.path("server.key")}

    def given(field, path):
        text = pathlib.Path(path).read_text()
        monkeypatch.setenv(f"MESH_{field}", text)
        return {where: {"filename": path, "inline_string": text, "inline_bytes": base64.b64encode(text.encode()).decode(),
                        "environment_variable": f"MESH_{field}"}[where]}
    own = {field: given(field, path) for field, path in texts.items()}
    place = listener({"tls_certificates": [own]})
    secret = {"name": "mine", "tls_certificate": own}
    cluster = config.cluster("s", [1], transport_socket=config.ext("tls", TLS + "UpstreamTlsContext", common_tls_context={"tls_certificate_sds_secret_configs": [{"name": "mine"}]}))
    boot = config.bootstrap([place], [cluster], free_port())
    boot["static_resources"]["secrets"] = [secret]
    px = mesh.proxy(boot=boot)
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    with px.client() as c:
        c.sock = c.stream.sock = context.wrap_socket(c.sock, server_hostname="server.test")
        assert c.get("/").status == 200
    key = pathlib.Path(texts["private_key"]).read_text()
    body = key.splitlines()[1]
    for page in ("/config_dump", "/config_dump?include_eds", "/certs", "/server_info", "/stats", "/listeners", "/clusters"):
        shown = px.admin(page)[1]
        assert body not in shown and base64.b64encode(key.encode()).decode()[:200] not in shown and base64.b64encode(body.encode()).decode()[4:60] not in shown
    assert where == "filename" or json.loads(px.admin("/config_dump?resource=static_secrets")[1])["configs"]
