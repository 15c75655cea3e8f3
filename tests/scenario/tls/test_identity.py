"""Who a TLS peer is: chains and names that lie, modes of a mesh, certificates that turn under load (rows T1-T3; G10-G13)."""
import contextlib
import ssl
import threading

import config
import dynamic
import pytest
from evidence import told
from pki import Pki
from wire import HOST, free_port, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
INSPECTOR = config.ext("tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"


def dns(*names):
    """A subjectAltName of such names as bytes: the openssl command writes no NUL."""
    body = b"".join(bytes([0x82, len(n)]) + n for n in names)
    return "DER:" + ":".join(f"{b:02x}" for b in bytes([0x30, len(body)]) + body)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    p.authority("other")
    p.issue("server", "DNS:server.test")
    p.issue("server2", "DNS:server.test")
    p.issue("client", "URI:spiffe://mesh.test/ns/a/sa/client,DNS:client.test")
    p.issue("stranger", "URI:spiffe://mesh.test/ns/a/sa/client", ca="other")
    for name, san in (("nul", dns(b"client.test\0.evil.test")), ("nul-behind", dns(b"client.test\0")), ("middle", "DNS:cli*t.test"), ("all", "DNS:*"),
                      ("number", "DNS:10.1.2.3"), ("dot", "DNS:client.test."), ("no-path", "URI:spiffe://mesh.test"),
                      ("longer", "URI:spiffe://mesh.test/ns/a/sa/client2"), ("several", "URI:spiffe://evil.test/x,URI:spiffe://evil.test/ns/a/sa/client")):
        p.issue(name, san)
    above = "ca"
    for n in ("sub1", "sub2"):
        p.issue(n, san=None, ca=above, more="basicConstraints=critical,CA:TRUE\n")
        above = n
    p.issue("deep", "DNS:client.test", ca="sub2")
    chain = "".join((p.folder / f"{n}.pem").read_text() for n in ("deep", "sub2", "sub1"))
    (p.folder / "deep.pem").write_text(chain)
    (p.folder / "huge.pem").write_text((p.folder / "client.pem").read_text() + (p.folder / "other.pem").read_text() * 1500)
    (p.folder / "huge.key").write_text((p.folder / "client.key").read_text())
    return p


def down(pki, validation=None, alpn=(), **fields):
    common = {"tls_certificates": [pki.pair("server")], "alpn_protocols": list(alpn)}
    if validation is not None:
        common["validation_context"] = {"trusted_ca": {"filename": pki.path("ca.pem")}, **validation}
    return config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=common, **fields)


def proxy(mesh, *chains, filters=(), **fields):
    """chains: (match, transport socket or None, what it answers)."""
    log = config.access_log(mesh.folder / "access.log")
    place = config.listener(free_port(), [], listener_filters=[INSPECTOR], listener_filters_timeout="5s", access_log=[log], **fields)
    place["filter_chains"] = []
    for match, socket, body in chains:
        chain = {"filters": [config.hcm([dynamic.direct(body)], log=log, filters=list(filters))], "filter_chain_match": match}
        if socket:
            chain["transport_socket"] = socket
        place["filter_chains"].append(chain)
    px = mesh.proxy(boot=config.bootstrap([place], [], free_port()))
    return px, f"listener.{HOST}_{px.port}."


def client(pki, cert=None, alpn=()):
    c = ssl.create_default_context(cafile=pki.path("ca.pem"))
    if cert:
        c.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


@contextlib.contextmanager
def connected(px, context, timeout=10):
    with px.client(timeout=timeout) as c:
        c.sock = context.wrap_socket(c.sock, server_hostname="server.test")
        c.stream.sock = c.sock
        yield c


def ask(px, context):
    """The body, or None: nothing was answered."""
    with contextlib.suppress(OSError, EOFError), connected(px, context) as c:
        return c.get("/").body
    return None


@pytest.mark.parametrize("cert,validation,stat", [
    ("huge", {}, "connection_error"), ("deep", {"max_verify_depth": 1}, "fail_verify_error"), ("stranger", {}, "fail_verify_error")])
def test_g10_chains(mesh, pki, cert, validation, stat):
    px, prefix = proxy(mesh, ({}, down(pki, validation, require_client_certificate=True), "in"))
    before = px.memory_kib()
    for _ in range(5):
        with told(px, moved={prefix + "ssl." + stat: None}):
            assert ask(px, client(pki, cert)) is None
    assert px.stat(prefix + "ssl.handshake") == 0 and px.stat("http.in.downstream_rq_total") == 0
    assert px.grown_kib(before) < 8 << 10
    assert ask(px, client(pki, "client")) == b"in"


CLIENT = [{"san_type": "DNS", "matcher": {"exact": "client.test"}}, {"san_type": "URI", "matcher": {"exact": "spiffe://mesh.test/ns/a/sa/client"}},
          {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.1.2.3"}}]


def test_g11_names_that_look_alike(mesh, pki):
    px, prefix = proxy(mesh, ({}, down(pki, {"match_typed_subject_alt_names": CLIENT}, require_client_certificate=True), "in"))
    assert ask(px, client(pki, "client")) == b"in"
    for cert in ("nul", "nul-behind", "middle", "all", "number", "dot", "no-path", "longer", "several"):
        before = px.stat(prefix + "ssl.fail_verify_san") + px.stat(prefix + "ssl.connection_error")
        assert ask(px, client(pki, cert)) is None, cert
        until(lambda: px.stat(prefix + "ssl.fail_verify_san") + px.stat(prefix + "ssl.connection_error") > before, 10, cert)
    assert px.stat(prefix + "ssl.handshake") == 1 and px.stat("http.in.downstream_rq_total") == 1


def test_g12_certificates_turn_under_load(mesh, pki, request):
    """A request each time on a connection of its own, and on one that stays: none is lost, none sees an older certificate than before."""
    files = dynamic.Files(mesh.folder / "xds")
    files.put("sds", "secret", {"name": "srv", "tls_certificate": pki.pair("server")})
    manager = config.hcm([dynamic.direct("in")])
    place = config.listener(free_port(), [manager])
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context={
        "tls_certificate_sds_secret_configs": [{"name": "srv", "sds_config": files.source("sds")}]})
    px = mesh.proxy(boot=config.bootstrap([place], [], free_port()), concurrency=2)
    stop, bad, done = threading.Event(), [], [0]

    def load(fresh):
        try:
            while not stop.is_set():
                with connected(px, client(pki), 30) as c:
                    while not stop.is_set():
                        r = c.get("/")
                        done[0] += 1
                        if r.body != b"in":
                            bad.append(r.status)
                        if fresh:
                            break
        except Exception as e:  # noqa: BLE001
            bad.append(repr(e))
    threads = [threading.Thread(target=load, args=(fresh,)) for fresh in (True, False)]
    for t in threads:
        t.start()
    try:
        for i in range(1000 if request.config.getoption("--long") else 60):
            files.put("sds", "secret", {"name": "srv", "tls_certificate": pki.pair(["server2", "server"][i % 2])})
            px.wait_stat("sds.srv.update_success", i + 2)
        until(lambda: done[0] > 50, 30, "answers")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not bad, bad[:5]
    assert px.stat("sds.srv.update_rejected") == px.stat(f"listener.{HOST}_{px.port}.ssl.connection_error") == 0


def identified(px):
    return px.stat("http.in.rbac.allowed"), px.stat("http.in.rbac.denied")


ONLY_MESH = config.ext("rbac", RBAC, rules={"action": "ALLOW", "policies": {"p": {"permissions": [{"any": True}], "principals": [
    {"authenticated": {"principal_name": {"prefix": "spiffe://mesh.test/"}}}]}}})


def test_g13_strict_gets_plain_text(mesh, pki):
    px, prefix = proxy(mesh, ({"transport_protocol": "tls"}, down(pki, {}, require_client_certificate=True), "in"))
    with told(px, moved=[prefix + "no_filter_chain_match"]):
        with contextlib.suppress(OSError), px.client() as c:
            c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert c.sock.recv(100) == b""
    assert ask(px, client(pki, "client")) == b"in" and px.stat("http.in.downstream_rq_total") == 1


def permissive(mesh, pki):
    """As Istio makes it: mutual TLS by ALPN, other TLS and plain text beside it; who is nobody may not come in."""
    return proxy(mesh, ({"transport_protocol": "tls", "application_protocols": ["istio-http/1.1", "istio"]}, down(pki, {}, ["istio-http/1.1", "istio"],
                 require_client_certificate=True), "mesh"), ({"transport_protocol": "raw_buffer"}, None, "plain"), filters=[ONLY_MESH])


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00" + b"junk" * 200, b"\x16\x03\x01", b"\x16\x03\x03\x00\x04\x01\x00\x00\x00", b"\x80\x2e\x01\x03\x01" + b"x" * 60],
                         ids=["a-record", "a-begin", "an-empty-hello", "version-2"])
def test_g13_permissive_gets_what_begins_like_tls(mesh, pki, first):
    px, prefix = permissive(mesh, pki)
    with contextlib.suppress(OSError), px.client() as c:
        c.send(first + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        got = c.sock.recv(1000)
        assert not got.startswith(b"HTTP/1.1 200") and b"mesh" not in got
    assert identified(px)[0] == 0 and px.stat(prefix + "ssl.handshake") == 0
    with px.client() as c:  # plain text reaches the policy, which knows nobody
        with told(px, "rbac_access_denied_matched_policy[none]", "-", 403, "http.in.rbac.denied"):
            assert c.get("/").status == 403
    assert ask(px, client(pki, "client", ["istio"])) == b"mesh" and identified(px)[0] == 1


@pytest.mark.parametrize("cert,stat", [(None, "fail_verify_no_cert"), ("stranger", "fail_verify_error")])
def test_g13_who_says_istio_is_not_believed(mesh, pki, cert, stat):
    px, prefix = permissive(mesh, pki)
    with told(px, moved=[prefix + "ssl." + stat]):
        assert ask(px, client(pki, cert, ["istio"])) is None
    assert identified(px) == (0, 0) and px.stat("http.in.downstream_rq_total") == 0
