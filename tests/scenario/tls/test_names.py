"""TLS towards upstreams by what a request or connection wants: auto_sni, SANs, ALPN, host names; sessions and failures (rows T1, L6)."""
import socket
import ssl
import threading

import config
import pytest
from wire import HOST, free_port, until

NET = "envoy.extensions.filters.network."
TLS = "envoy.extensions.transport_sockets.tls.v3."


def up(common=None, **fields):
    return config.ext("envoy.transport_sockets.tls", TLS + "UpstreamTlsContext", common_tls_context=common or {}, **fields)


class TlsServer:
    """Answers each request with 200; remembers the server names, protocols and resumptions of its handshakes."""

    def __init__(self, pki, cert="server", alpn=None, top=None):
        self.seen, self.names = [], []
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
        if alpn:
            self.ctx.set_alpn_protocols(alpn)
        if top:
            self.ctx.maximum_version = top
        self.ctx.sni_callback = lambda s, name, ctx: self.names.append(name) or None
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, raw):
        try:
            with self.ctx.wrap_socket(raw, server_side=True) as s:
                self.seen.append((s.selected_alpn_protocol(), s.session_reused))
                data = b""
                while part := s.recv(65536):
                    data += part
                    while b"\r\n\r\n" in data:
                        data = data.split(b"\r\n\r\n", 1)[1]
                        s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    if data == b"ping":
                        s.sendall(b"pong")
                        data = b""
        except OSError:
            pass

    def close(self):
        self.listener.close()


@pytest.fixture
def server(pki):
    made = []

    def run(**kw):
        made.append(TlsServer(pki, **kw))
        return made[-1]
    yield run
    for s in made:
        s.close()


def trust(pki, **kw):
    return {"validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}, **kw}


def options(**kw):
    t = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {t: {"@type": config.TYPE + t, "explicit_http_config": {"http_protocol_options": {}}, "upstream_http_protocol_options": kw}}


def http(mesh, server, transport, hostname=None, action=None, **upstream_options):
    log = config.access_log(mesh.folder / "access.log", {"flags": "%RESPONSE_FLAGS%", "why": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"})
    c = config.cluster("one", [server.port], transport_socket=transport, **({"typed_extension_protocol_options": options(**upstream_options)} if upstream_options else {}))
    if hostname:
        c["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["hostname"] = hostname
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "one", **(action or {}))], log)])], [c], free_port()))


def ask(px, host, extra=""):
    with socket.create_connection((HOST, px.port), timeout=10) as s:
        s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode())
        data = b""
        while part := s.recv(65536):
            data += part
    return int(data.split()[1])


def test_the_server_name_is_the_requests_host(mesh, pki, server):
    s = server()
    px = http(mesh, s, up(trust(pki), sni="configured.test"), auto_sni=True)
    for host in ("server.test", "api.wild.test:8443", "server.test", "127.0.0.1", "[::1]:80"):
        assert ask(px, host) == 200
    assert s.names == ["server.test", "api.wild.test", "configured.test"]  # connections are shared by name; an address is none
    assert px.stat("cluster.one.upstream_cx_total") == 3


def test_the_route_may_rewrite_it(mesh, pki, server):
    s = server()
    px = http(mesh, s, up(trust(pki)), auto_sni=True, action={"host_rewrite_literal": "rewritten.test"})
    assert ask(px, "server.test") == 200 and s.names == ["rewritten.test"]


def test_what_is_not_trusted_may_be_accepted(mesh, pki, server):  # trust_chain_verification
    """Counted all the same."""
    common = trust(pki)
    common["validation_context"]["trust_chain_verification"] = "ACCEPT_UNTRUSTED"
    px = http(mesh, server(cert="stranger"), up(common))
    assert ask(px, "server.test") == 200 and px.stat("cluster.one.ssl.fail_verify_error") == 1 and px.stat("cluster.one.ssl.connection_error") == 0


def test_the_certificate_must_have_that_name(mesh, pki, server):
    px = http(mesh, server(), up(trust(pki)), auto_sni=True, auto_san_validation=True)
    assert [ask(px, h) for h in ("server.test", "API.wild.test", "127.0.0.1", "other.test", "a.b.wild.test", "server.test")] == [200, 200, 200, 503, 503, 200]
    assert px.stat("cluster.one.ssl.fail_verify_san") == 2
    e = px.wait_log(lambda e: e["why"])
    assert e["flags"] == "UF" and "CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list" in e["why"]


def test_a_header_may_name_it(mesh, pki, server):
    s = server()
    px = http(mesh, s, up(trust(pki)), auto_sni=True, override_auto_sni_header="X-Name")
    assert ask(px, "server.test", "x-name: api.wild.test\r\n") == ask(px, "server.test") == 200
    assert s.names == ["api.wild.test", "server.test"]


def test_the_hosts_own_name(mesh, pki, server):
    s = server()
    px = http(mesh, s, up(trust(pki), sni="configured.test", auto_host_sni=True, auto_sni_san_validation=True), hostname="api.wild.test")
    assert ask(px, "any.test") == 200 and s.names == ["api.wild.test"]
    px = http(mesh, s, up(trust(pki), sni="wrong.test", auto_sni_san_validation=True))
    assert ask(px, "any.test") == 503 and px.stat("cluster.one.ssl.fail_verify_san") == 1


def test_san_validation_needs_authorities(mesh):
    px = mesh.proxy(boot=config.bootstrap([], [config.cluster("one", [1], transport_socket=up(sni="a.test", auto_sni_san_validation=True))], free_port()), ready=False)
    assert px.process.wait(10) == 1 and "auto_sni_san_validation" in px.log()


@pytest.mark.parametrize("top", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_serves_its_own_name_only(mesh, pki, server, top):
    s = server(top=top)
    px = http(mesh, s, up(trust(pki, tls_params={"tls_maximum_protocol_version": "TLSv1_3"})), auto_sni=True, auto_san_validation=True)
    once = "server.test", "server.test", "api.wild.test", "other.test", "server.test"
    t = next(iter(px.boot["static_resources"]["clusters"][0]["typed_extension_protocol_options"].values()))
    t["common_http_protocol_options"] = {"max_requests_per_connection": 1}
    px = mesh.proxy(boot={**px.boot, "admin": {"address": config.address(free_port())},
                          "static_resources": {**px.boot["static_resources"], "listeners": [{**px.boot["static_resources"]["listeners"][0], "address": config.address(free_port())}]}}, name="second")
    assert [ask(px, h) for h in once] == [200, 200, 200, 503, 200]
    assert px.stat("cluster.one.ssl.fail_verify_san") == 1  # no session of another name passed it by
    assert [r for _, r in s.seen][:3] == [False, True, False]


def tcp(mesh, server, transport, *states):
    values = [{"object_key": k, "format_string": {"text_format_source": {"inline_string": v}}} for k, v in states]
    state = config.ext("envoy.filters.network.set_filter_state", NET + "set_filter_state.v3.Config", on_new_connection=values)
    log = config.access_log(mesh.folder / "access.log", {"flags": "%RESPONSE_FLAGS%", "why": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"})
    proxy = config.ext("envoy.filters.network.tcp_proxy", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one", access_log=[log])
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [state, proxy])], [config.cluster("one", [server.port], transport_socket=transport)], free_port()))


def ping(px):
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        c.sendall(b"ping")
        try:
            return c.recv(10)
        except ConnectionResetError:
            return b""


def test_filter_state_of_a_connection(mesh, pki, server):
    s = server(alpn=["istio", "h2"])
    px = tcp(mesh, s, up(trust(pki, alpn_protocols=["h2"]), sni="configured.test"), ("envoy.network.upstream_server_name", "api.wild.test"),
             ("envoy.network.application_protocols", "foo,istio"), ("envoy.network.upstream_subject_alt_names", "x.test,server.test"))
    assert ping(px) == b"pong"
    assert s.names == ["api.wild.test"] and s.seen == [("istio", False)]


def test_tcp_sessions_tell_why_a_handshake_failed(mesh, pki, server):
    px = tcp(mesh, server(), up(trust(pki), sni="server.test"), ("envoy.network.upstream_subject_alt_names", "x.test"))
    assert ping(px) == b""
    e = px.access_log(1)[0]
    assert e["flags"] == "UF,URX" and "verify_SAN_list" in e["why"]


@pytest.mark.parametrize("who", ["server", "client"])
def test_peers_that_stop_in_the_handshake(mesh, pki, who):
    """After each few bytes of it, by an end or in silence: the connection ends, nothing stays."""
    inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=pki.path("ca.pem")).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="server.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    greeting = hello.read()
    if who == "client":
        u = mesh.upstream()
        place = config.listener(free_port(), [config.hcm([config.route("/", u.name)])])
        place["filter_chains"][0]["transport_socket"] = config.ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                                                                   common_tls_context={"tls_certificates": [pki.pair("server")]})
        px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()))
        for n in range(0, len(greeting), 7):
            with socket.create_connection((HOST, px.port), timeout=10) as s:
                s.sendall(greeting[:n])
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
        until(lambda: px.stat(f"listener.{HOST}_{px.port}.downstream_cx_active") == 0, 10, "all to end")
        assert px.stat(f"listener.{HOST}_{px.port}.ssl.handshake") == 0
        return
    listener = socket.create_server((HOST, 0))
    listener.settimeout(10)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(pki.path("server.pem"), pki.path("server.key"))
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2

    class At:
        port = listener.getsockname()[1]
    px = tcp(mesh, At, up(trust(pki), sni="server.test"))
    size, n = 1 << 20, 0
    while n < size:
        with socket.create_connection((HOST, px.port), timeout=10) as c:
            s, _ = listener.accept()
            inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
            t = ctx.wrap_bio(inner, outer, server_side=True)
            inner.write(s.recv(65536))
            with pytest.raises(ssl.SSLWantReadError):
                t.do_handshake()
            answer = outer.read()
            size = len(answer)
            s.sendall(answer[:n])
            s.close()
            try:
                assert c.recv(10) == b""
            except ConnectionResetError:
                pass
        n += 31
    listener.close()
    until(lambda: px.stat("cluster.one.upstream_cx_active") == px.stat(f"listener.{HOST}_{px.port}.downstream_cx_active") == 0, 10, "all to end")
    assert px.stat("cluster.one.ssl.handshake") == 0 and px.stat("cluster.one.upstream_cx_connect_fail") == px.stat("cluster.one.upstream_cx_total") > 10


@pytest.fixture(scope="module")
def revoked(pki):
    """crl.pem names the certificate `gone`."""
    for name in ("gone", "kept"):
        pki.issue(name, f"DNS:{name}.test")
    (pki.folder / "index.txt").write_text("")
    (pki.folder / "ca.cnf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\n")
    pki._run("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-revoke", "gone.pem")
    pki._run("ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-gencrl", "-out", "crl.pem")
    return pki


def fingerprint(pki, name, spki=False):
    import base64
    import hashlib
    import subprocess
    if not spki:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(pki.path(f"{name}.pem")).read())).hexdigest()
    key = subprocess.run(["openssl", "x509", "-in", pki.path(f"{name}.pem"), "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.mark.parametrize("rule, stat", [
    (lambda p: {"trusted_ca": {"filename": p.path("ca.pem")}, "crl": {"filename": p.path("crl.pem")}}, "fail_verify_error"),
    (lambda p: {"trusted_ca": {"filename": p.path("ca.pem")}, "verify_certificate_hash": [fingerprint(p, "kept")]}, "fail_verify_cert_hash"),
    (lambda p: {"verify_certificate_hash": [":".join(fingerprint(p, "kept")[i:i + 2] for i in range(0, 64, 2)).upper()]}, "fail_verify_cert_hash"),
    (lambda p: {"verify_certificate_spki": [fingerprint(p, "kept", spki=True)]}, "fail_verify_cert_hash")], ids=["crl", "hash", "hash-alone", "spki"])
def test_g10_what_else_a_certificate_must_be(mesh, revoked, server, rule, stat):  # G10
    transport = up({"validation_context": rule(revoked)}, sni="x.test")
    good, bad = tcp(mesh, server(cert="kept"), transport), None
    assert ping(good) == b"pong"
    bad = tcp(mesh, server(cert="gone"), transport)
    assert ping(bad) == b"" and bad.stat("cluster.one.ssl." + stat) == 1 and bad.stat("cluster.one.ssl.handshake") == 0


def test_pkcs12_and_shared_ticket_keys(mesh, pki):
    pki._run("pkcs12", "-export", "-in", "server.pem", "-inkey", "server.key", "-out", "server.p12", "-passout", "pass:geheim")
    (pki.folder / "ticket.key").write_bytes(bytes(range(80)))
    def one(name):
        u = mesh.upstream()
        place = config.listener(free_port(), [config.hcm([config.route("/", u.name)])])
        place["filter_chains"][0]["transport_socket"] = config.ext(
            "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", session_ticket_keys={"keys": [{"filename": pki.path("ticket.key")}]},
            common_tls_context={"tls_certificates": [{"pkcs12": {"filename": pki.path("server.p12")}, "password": {"inline_string": "geheim"}}]})
        return mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()), name=name)
    first, second = one("first"), one("second")
    ctx = ssl.create_default_context(cafile=pki.path("ca.pem"))

    def visit(px, session=None):
        with ctx.wrap_socket(socket.create_connection((HOST, px.port), timeout=10), server_hostname="server.test", session=session) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            return s.session, s.session_reused
    session, _ = visit(first)
    assert visit(second, session)[1]  # another process with the same keys


def test_logs_show_the_upstreams_tls(mesh, pki, server):
    fields = {n.lower(): f"%UPSTREAM_{n}%" for n in ("TLS_VERSION", "TLS_CIPHER", "TLS_GROUP", "PEER_SUBJECT", "PEER_ISSUER", "PEER_DNS_SAN", "PEER_IP_SAN", "PEER_URI_SAN", "LOCAL_URI_SAN",
                                                     "LOCAL_DNS_SAN", "SERVER_NAME", "PEER_CERT_V_END(%Y)", "PEER_CERT")}
    own = up(trust(pki, tls_certificates=[pki.pair("client")]), sni="server.test")
    s = server()
    s.ctx.verify_mode = ssl.CERT_OPTIONAL
    s.ctx.load_verify_locations(pki.path("ca.pem"))
    log = config.access_log(mesh.folder / "access.log", fields)
    proxy = config.ext("envoy.filters.network.tcp_proxy", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one", access_log=[log])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "one")], log)]), config.listener(free_port(), [proxy], name="tcp")],
                                          [config.cluster("one", [s.port], transport_socket=own)], free_port()))
    assert ask(px, "a.test") == 200
    tcp_port = px.boot["static_resources"]["listeners"][1]["address"]["socket_address"]["port_value"]
    with socket.create_connection((HOST, tcp_port), timeout=10) as c:
        c.sendall(b"ping")
        assert c.recv(10) == b"pong"
    for e in px.access_log(2):
        assert e["tls_version"] == "TLSv1.2" and e["tls_cipher"].startswith("ECDHE-ECDSA") and e["peer_subject"] == "CN=server" and e["peer_issuer"] == "CN=ca"
        assert e["peer_dns_san"] == "server.test,*.wild.test" and e["peer_ip_san"] == HOST and e["peer_uri_san"] is None and e["server_name"] == "server.test"
        assert e["local_uri_san"] == "spiffe://mesh.test/ns/a/sa/client" and e["local_dns_san"] == "client.test"
        assert int(e["peer_cert_v_end(%y)"]) >= 2024 and e["peer_cert"].startswith("-----BEGIN%20CERTIFICATE-----%0A")


def test_logs_show_the_clients_whole_chain(mesh, pki):
    pki._run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "between.key", "-out", "between.csr", "-subj", "/CN=between")
    (pki.folder / "between.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    pki._run("x509", "-req", "-in", "between.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "between.ext", "-out", "between.pem")
    pki.issue("below", "DNS:below.test", ca="between")
    both = pki.folder / "below-chain.pem"
    both.write_text((pki.folder / "below.pem").read_text() + (pki.folder / "between.pem").read_text())
    fields = {n: f"%DOWNSTREAM_PEER_CHAIN_{n}%" for n in ("FINGERPRINTS_1", "FINGERPRINTS_256", "SERIALS")} | {"one": "%DOWNSTREAM_PEER_SERIAL%"}
    u = mesh.upstream()
    place = config.listener(free_port(), [config.hcm([config.route("/", u.name)], config.access_log(mesh.folder / "access.log", fields))])
    place["filter_chains"][0]["transport_socket"] = config.ext("envoy.transport_sockets.tls", TLS + "DownstreamTlsContext", require_client_certificate=True, common_tls_context={
        "tls_certificates": [pki.pair("server")], "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()))
    ctx = ssl.create_default_context(cafile=pki.path("ca.pem"))
    ctx.load_cert_chain(str(both), pki.path("below.key"))
    with ctx.wrap_socket(socket.create_connection((HOST, px.port), timeout=10), server_hostname="server.test") as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    e = px.access_log(1)[0]
    assert e["FINGERPRINTS_256"] == fingerprint(pki, "below") + "," + fingerprint(pki, "between")
    assert e["SERIALS"].split(",")[0] == e["one"] and len(e["SERIALS"].split(",")) == 2 and [len(x) for x in e["FINGERPRINTS_1"].split(",")] == [40, 40]
