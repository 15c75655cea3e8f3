"""rbac and CEL see who the client's certificate says it is (rows H9, T1)."""
import json
import socket
import ssl

import config
import pytest
from wire import HOST, free_port

RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
DOWN = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def name(**match):
    return {"authenticated": {"principal_name": match}}


# principal -> matches a connection with the client's certificate, one without any certificate
PRINCIPALS = {
    "any": ({"authenticated": {}}, True, True), "uri": (name(exact="spiffe://mesh.test/ns/a/sa/client"), True, False),
    "prefix": (name(prefix="spiffe://mesh.test/"), True, False), "dns": (name(suffix="client.test"), True, False),
    "subject": (name(contains="CN=client"), True, False), "other": (name(exact="spiffe://mesh.test/ns/b/sa/client"), False, False),
    "not": ({"not_id": {"authenticated": {}}}, False, False),
}
CEL = {"mtls": "connection.mtls", "uri": "connection.uri_san_peer_certificate", "dns": "connection.dns_san_peer_certificate",
       "version": "connection.tls_version.startsWith('TLSv1.')", "sni": "connection.requested_server_name",
       "own": "connection.dns_san_local_certificate", "digest": "size(connection.sha256_peer_certificate_digest)"}


@pytest.fixture(scope="module")
def decided(shared_mesh, pki):
    """{cert or None: (shadow results by name of PRINCIPALS, CEL values)}"""
    filters = [config.ext("envoy.filters.http.rbac", RBAC, shadow_rules_stat_prefix=f"{n}_", shadow_rules={"policies": {"p": {
        "permissions": [{"any": True}], "principals": [p]}}}) for n, (p, *_) in PRINCIPALS.items()]
    log = config.access_log(shared_mesh.folder / "access.log", {"meta": "%DYNAMIC_METADATA(envoy.filters.http.rbac)%", **{k: f"%CEL({e})%" for k, e in CEL.items()}})
    place = config.listener(free_port(), [config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}], log=log, filters=filters)])
    place["filter_chains"][0]["transport_socket"] = config.ext("envoy.transport_sockets.tls", DOWN, common_tls_context={
        "tls_certificates": [pki.pair("server")], "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px = shared_mesh.proxy(boot=config.bootstrap([place], [], free_port()))
    out = {}
    for i, cert in enumerate(("client", None)):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(pki.path("ca.pem"))
        if cert:
            c.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
        with c.wrap_socket(socket.create_connection((HOST, px.port), timeout=5), server_hostname="server.test") as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 200")
        out[cert] = px.access_log(i + 1)[i]
    return out


@pytest.mark.parametrize("cert", ["client", None])
@pytest.mark.parametrize("n", PRINCIPALS)
def test_principal(decided, n, cert):
    assert decided[cert]["meta"][f"{n}_shadow_engine_result"] == ("allowed" if PRINCIPALS[n][1 if cert else 2] else "denied"), json.dumps(PRINCIPALS[n][0])


def test_attributes(decided):
    with_cert, without = decided["client"], decided[None]
    assert {k: with_cert[k] for k in CEL} == {"mtls": "true", "uri": "spiffe://mesh.test/ns/a/sa/client", "dns": "client.test", "version": "true",
                                              "sni": "", "own": "server.test", "digest": "64"}
    assert (without["mtls"], without["uri"], without["digest"]) == ("false", None, None)
