"""Why TLS failed, in the words of the access log and the counters (rows T1, T3): each line of the tables is what an Envoy 1.40 says."""
import json
import socket
import ssl
import struct
import threading

import config
import pytest
from mesh import Mesh
from wire import HOST, free_port, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CERT = "verify_cert_failed:_"
CHAIN = CERT + "X509_verify_cert:_certificate_verification_error_at_depth_0:_"


def text(*errors):
    return "TLS_error:" + "".join(f"|{16 << 24 | n}:SSL_routines:OPENSSL_internal:{name}" for n, name in errors) + ":TLS_error_end"


def refused(detail):
    return text((125, "CERTIFICATE_VERIFY_FAILED")).replace(":TLS_error_end", f":{detail}:TLS_error_end")


HANDSHAKE_ALERT = ((1040, "SSLV3_ALERT_HANDSHAKE_FAILURE"), (154, "HANDSHAKE_FAILURE_ON_CLIENT_HELLO"))
RESET = f"TLS_error:|{2 << 24 | 104}:system_library:OPENSSL_internal:Connection_reset_by_peer:TLS_error_end"
BAD_RECORD = "TLS_error:|503316581:Cipher_functions:OPENSSL_internal:BAD_DECRYPT" + text((139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"))[10:]

# ---- clients ----

DOWN = {  # listener: its context
    "plain": {}, "rsa": {"cert": "two"}, "mtls": {"ca": {}}, "tls13": {"params": {"tls_minimum_protocol_version": "TLSv1_3"}},
    "tls12": {"params": {"tls_maximum_protocol_version": "TLSv1_2"}},
    "san": {"ca": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "nobody"}}]}},
    "hash": {"ca": {"verify_certificate_hash": ["00" * 32]}},
}


def offer(pki, cert=None, low=None, high=None, ca="ca", ciphers=None, curve=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.load_verify_locations(pki.path(f"{ca}.pem"))
    if cert:
        c.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
    c.minimum_version, c.maximum_version = low or V12, high or V13
    if ciphers:
        c.set_ciphers(ciphers)
    if curve:
        c.set_ecdh_curve(curve)
    return c


def spoiled(sock, ctx):
    """A handshake whose second flight, the client's Finished, has a bit wrong at its end."""
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    t, flights = ctx.wrap_bio(inside, outside, server_hostname="server.test"), 0
    for _ in range(9):
        try:
            t.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        out = outside.read()
        if out:
            flights += 1
            sock.sendall(out if flights < 2 else out[:-1] + bytes([out[-1] ^ 1]))
        if done or flights == 2:
            break
        inside.write(sock.recv(65536))
    while sock.recv(4096):
        pass


CLIENTS = {  # name: listener, bytes or TLS options, reason, counter
    "http": ("plain", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", text((156, "HTTP_REQUEST")), "connection_error"),
    "connect": ("plain", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", text((155, "HTTPS_PROXY_REQUEST")), "connection_error"),
    "http2": ("plain", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", text((247, "WRONG_VERSION_NUMBER")), "connection_error"),
    "zeros": ("plain", bytes(40), text((247, "WRONG_VERSION_NUMBER")), "connection_error"),
    "huge-record": ("plain", b"\x16\x03\x01\xff\xff" + b"x" * 70000, text((146, "ENCRYPTED_LENGTH_TOO_LONG")), "connection_error"),
    "huge-message": ("plain", b"\x16\x03\x01\x40\0\x01\xff\xff\xff" + b"a" * 16380, text((150, "EXCESSIVE_MESSAGE_SIZE")), "connection_error"),
    "no-hello": ("plain", b"\x16\x03\x01\0\x04\x02\0\0\0", text((223, "UNEXPECTED_MESSAGE")), "connection_error"),
    "nothing": ("plain", b"", None, None),
    "old": ("tls13", {"high": V12}, text((240, "UNSUPPORTED_PROTOCOL")), "connection_error"),
    "new": ("tls12", {"low": V13}, text((240, "UNSUPPORTED_PROTOCOL")), "connection_error"),
    "cipher": ("plain", {"high": V12, "ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}, text((184, "NO_SHARED_CIPHER")), "connection_error"),
    "cipher-rsa": ("rsa", {"high": V12, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}, text((184, "NO_SHARED_CIPHER")), "connection_error"),
    "group-13": ("plain", {"low": V13, "curve": "secp521r1"}, text((266, "NO_SHARED_GROUP")), "connection_error"),
    "group-12": ("plain", {"high": V12, "curve": "secp521r1"}, text((243, "WRONG_CURVE")), "connection_error"),
    "distrust": ("plain", {"high": V12, "ca": "other"}, text((1048, "TLSV1_ALERT_UNKNOWN_CA")), "connection_error"),
    "spoiled-12": ("plain", {"high": V12, "spoil": True}, BAD_RECORD, "connection_error"),
    "spoiled-13": ("plain", {"low": V13, "spoil": True}, BAD_RECORD, "connection_error"),
    **{f"{name}-{v.name[-3:]}": (listener, {"high": v, "cert": cert}, reason, counter) for v in (V12, V13) for name, listener, cert, reason, counter in (
        ("nobody", "mtls", None,
         text((192, "PEER_DID_NOT_RETURN_A_CERTIFICATE")).replace(":TLS_error_end", ":peer_did_not_provide_required_client_certificate:TLS_error_end"),
         "fail_verify_no_cert"),
        ("stranger", "mtls", "stranger", refused(CHAIN + "unable_to_get_local_issuer_certificate"), "fail_verify_error"),
        ("late", "mtls", "late", refused(CHAIN + "certificate_has_expired"), "fail_verify_error"),
        ("wrong-use", "mtls", "wrong-use", refused(CHAIN + "unsupported_certificate_purpose"), "fail_verify_error"),
        ("self", "mtls", "ca", None, None),  # the authority itself
        ("san", "san", "client", refused(CERT + "SAN_matcher,_certificate_SANs_are_[spiffe://mesh.test/ns/a/sa/client,_client.test]"), "fail_verify_san"),
        ("hash", "hash", "client", refused(CERT + "cert_hash_and_spki"), "fail_verify_cert_hash"))},
}


def down(pki, cert="server", ca=None, params=None):
    c = {"tls_certificates": [pki.pair(cert)], "tls_params": params or {}}
    if ca is not None:
        c["validation_context"] = {"trusted_ca": {"filename": pki.path("ca.pem")}, **ca}
    return config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=c, require_client_certificate=ca is not None)


@pytest.fixture(scope="module")
def clients(proxy_binary, pki, tmp_path_factory):
    """(proxy, folder of a log for each listener, port of each)"""
    folder = tmp_path_factory.mktemp("clients")
    m = Mesh(proxy_binary, folder)
    u, places, ports = m.upstream(), [], {}
    for name, options in DOWN.items():
        ports[name] = free_port()
        log = config.access_log(folder / f"{name}.log", {"why": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"})
        places.append(config.listener(ports[name], [config.hcm([config.route("/", u.name)])], name=name, access_log=[log]))
        places[-1]["filter_chains"][0]["transport_socket"] = down(pki, **options)
    yield m.proxy(boot=config.bootstrap(places, [config.cluster(u.name, [u.port])], free_port())), folder, ports
    m.close()


def act(pki, port, what):
    with socket.create_connection((HOST, port), timeout=5) as s:
        try:
            if isinstance(what, bytes):
                s.sendall(what)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
                return
            options = dict(what)
            if options.pop("spoil", False):
                spoiled(s, offer(pki, **options))
                return
            with offer(pki, **options).wrap_socket(s, server_hostname="server.test") as t:
                t.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while t.recv(4096):
                    pass
        except (OSError, ssl.SSLError):
            pass


def lines(path):
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("case", CLIENTS)
def test_client(clients, pki, case):
    px, folder, ports = clients
    listener, what, reason, counter = CLIENTS[case]
    prefix = f"listener.{HOST}_{ports[listener]}.ssl."
    failures = ("connection_error", "fail_verify_no_cert", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash")
    before, n = {x: px.stat(prefix + x) for x in failures}, len(lines(folder / f"{listener}.log"))
    act(pki, ports[listener], what)
    until(lambda: len(lines(folder / f"{listener}.log")) > n, 5, "the connection's log entry")
    assert lines(folder / f"{listener}.log")[n]["why"] == reason
    assert {x: px.stat(prefix + x) - v for x, v in before.items() if px.stat(prefix + x) != v} == ({counter: 1} if counter else {})


# ---- servers ----

def server(pki, cert="server", low=None, high=None, need=None, ciphers=None, curve=None, raw=None, reset=False):
    """A TLS server of one certificate, or one that answers a ClientHello with raw bytes or a reset; its port."""
    place = socket.create_server((HOST, 0))
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
    c.minimum_version, c.maximum_version = low or V12, high or V13
    if need:
        c.verify_mode = ssl.CERT_REQUIRED
        c.load_verify_locations(pki.path(f"{need}.pem"))
    if ciphers:
        c.set_ciphers(ciphers)
    if curve:
        c.set_ecdh_curve(curve)

    def one(s):
        with s:
            try:
                if raw is not None or reset:
                    s.recv(65536)
                    if reset:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.sendall(raw or b"")
                    return
                with c.wrap_socket(s, server_side=True) as t:
                    t.recv(4096)
                    t.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except (OSError, ssl.SSLError):
                pass

    def accept():
        while True:
            try:
                s, _ = place.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(s,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return place


def alert(n):
    return {"raw": b"\x15\x03\x03\0\x02\x02" + bytes([n])}


TO13 = {"params": {"tls_maximum_protocol_version": "TLSv1_3"}}
SERVERS = {  # name: the server, our context, reason, counter
    "good": ({}, {}, None, None), "good-13": ({}, TO13, None, None),
    "no-tls": ({"raw": b"HTTP/1.1 400 Bad\r\n\r\n"}, {}, text((247, "WRONG_VERSION_NUMBER")), "connection_error"),
    "alert-40": (alert(40), {}, text(*HANDSHAKE_ALERT), "connection_error"),
    "alert-42": (alert(42), {}, text((1042, "SSLV3_ALERT_BAD_CERTIFICATE")), "connection_error"),
    "alert-80": (alert(80), {}, text((1080, "TLSV1_ALERT_INTERNAL_ERROR")), "connection_error"),
    "alert-112": (alert(112), {}, text((1112, "TLSV1_ALERT_UNRECOGNIZED_NAME")), "connection_error"),
    "alert-120": (alert(120), {}, text((1120, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL")), "connection_error"),
    "alert-255": (alert(255), {}, text((1255, "unknown_error")), "connection_error"),
    "short-message": ({"raw": b"\x16\x03\x03\0\x08\x02\0\0\x04abcd"}, {}, text((137, "DECODE_ERROR")), "connection_error"),
    "wrong-message": ({"raw": b"\x16\x03\x03\0\x04\x0e\0\0\0"}, {}, text((223, "UNEXPECTED_MESSAGE")), "connection_error"),
    "huge-record": ({"raw": b"\x16\x03\x03\xff\xff" + b"a" * 70000}, {}, text((146, "ENCRYPTED_LENGTH_TOO_LONG")), "connection_error"),
    "stranger": ({"cert": "stranger"}, {}, refused(CHAIN + "unable_to_get_local_issuer_certificate"), "fail_verify_error"),
    "stranger-13": ({"cert": "stranger"}, TO13, refused(CHAIN + "unable_to_get_local_issuer_certificate"), "fail_verify_error"),
    "self-signed": ({"cert": "other"}, {}, refused(CHAIN + "self_signed_certificate"), "fail_verify_error"),
    "late": ({"cert": "late"}, {}, refused(CHAIN + "certificate_has_expired"), "fail_verify_error"),
    "wrong-use": ({"cert": "client-only"}, {}, refused(CHAIN + "unsupported_certificate_purpose"), "fail_verify_error"),
    "key-usage-13": ({"cert": "no-signing"}, TO13, text((302, "KEY_USAGE_BIT_INCORRECT")), "connection_error"),
    "key-usage-rsa": ({"cert": "no-signing-rsa"}, {}, text((302, "KEY_USAGE_BIT_INCORRECT")), "connection_error"),
    "key-usage-any-authority": ({"cert": "no-signing-rsa"}, {"ca": None}, text((302, "KEY_USAGE_BIT_INCORRECT")), "connection_error"),
    "any-authority": ({"cert": "stranger"}, {"ca": None}, None, None),
    "san": ({}, {"ca": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "x"}}]}},
            refused(CERT + "SAN_matcher,_certificate_SANs_are_[server.test,_*.wild.test,_127.0.0.1]"), "fail_verify_san"),
    "hash": ({}, {"ca": {"verify_certificate_hash": ["00" * 32]}}, refused(CERT + "cert_hash_and_spki"), "fail_verify_cert_hash"),
    "spki": ({}, {"ca": {"verify_certificate_spki": ["A" * 43 + "="]}}, refused(CERT + "cert_hash_and_spki"), "fail_verify_cert_hash"),
    "wants-ours": ({"need": "ca", "high": V12}, {}, text(*HANDSHAKE_ALERT[:1]), "connection_error"),
    "too-new": ({"low": V13}, {}, text((1070, "TLSV1_ALERT_PROTOCOL_VERSION")), "connection_error"),
    "cipher": ({"cert": "two", "high": V12, "ciphers": "AES256-SHA256"}, {}, text(*HANDSHAKE_ALERT), "connection_error"),
    "group": ({"curve": "secp521r1"}, {}, text(*HANDSHAKE_ALERT), "connection_error"),
    "group-13": ({"curve": "secp521r1", "low": V13}, TO13, text(*HANDSHAKE_ALERT), "connection_error"),
    "reset": ({"reset": True}, {}, RESET, None),
}


def up(pki, ca={}, params=None):
    trust = {} if ca is None else {"trusted_ca": {"filename": pki.path("ca.pem")}, **ca}
    return config.ext("tls", TLS + "UpstreamTlsContext", common_tls_context={"validation_context": trust, "tls_params": params or {}})


@pytest.fixture(scope="module")
def servers(proxy_binary, pki, tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    m = Mesh(proxy_binary, folder)
    pki.issue("client-only", "DNS:server.test", usage="clientAuth")
    pki.issue("no-signing", more="keyUsage=keyAgreement\n")
    pki.issue("no-signing-rsa", rsa=True, more="keyUsage=keyEncipherment\n")
    places = {n: server(pki, **options) for n, (options, _, _, _) in SERVERS.items()}
    clusters = [config.cluster(n, [places[n].getsockname()[1]], transport_socket=up(pki, **ours)) for n, (_, ours, _, _) in SERVERS.items()]
    log = config.access_log(folder / "access.log", {"why": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "details": "%RESPONSE_CODE_DETAILS%", "path": "%REQ(:PATH)%"})
    manager = config.hcm([config.route(f"/{n}/", n) for n in SERVERS], log=log)
    yield m.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], clusters, free_port()))
    m.close()
    for place in places.values():
        place.close()


@pytest.mark.parametrize("case", SERVERS)
def test_server(servers, case):
    _, _, reason, counter = SERVERS[case]
    assert servers.get(f"/{case}/").status == (503 if reason else 200)
    entry = servers.wait_log(lambda e: e["path"] == f"/{case}/")
    assert entry["why"] == reason
    if reason:
        assert entry["details"] == f"upstream_reset_before_response_started{{remote_connection_failure|{reason}}}"
    failures = servers.stats(rf"^cluster\.{case}\.ssl\.(connection_error|fail_)")
    assert {n.rsplit(".", 1)[1]: v for n, v in failures.items() if v} == ({counter: 1} if counter else {})
