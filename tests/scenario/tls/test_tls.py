"""TLS listeners and clusters (rows T1, T2, H4; attacks G09-G11, G18) with Python's ssl and our own proxy as peers."""
import socket
import ssl
import threading
import time

import config
import pytest
from upstream import Reply
from wire import HOST, free_port, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
FIELDS = {"path": "%REQ(:PATH)%", "version": "%DOWNSTREAM_TLS_VERSION%", "cipher": "%DOWNSTREAM_TLS_CIPHER%", "group": "%DOWNSTREAM_TLS_GROUP%",
          "uri": "%DOWNSTREAM_PEER_URI_SAN%", "subject": "%DOWNSTREAM_PEER_SUBJECT%", "issuer": "%DOWNSTREAM_PEER_ISSUER%",
          "until": "%DOWNSTREAM_PEER_CERT_V_END(%Y)%", "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "flags": "%RESPONSE_FLAGS%"}


def down(pki, certs=("server",), validation=None, common=None, **fields):
    c = {"tls_certificates": [pki.pair(n) for n in certs], **(common or {})}
    if validation:
        c["validation_context"] = validation
    return config.ext("envoy.transport_sockets.tls", TLS + "DownstreamTlsContext", common_tls_context=c, **fields)


def up(common=None, **fields):
    return config.ext("envoy.transport_sockets.tls", TLS + "UpstreamTlsContext", common_tls_context=common or {}, **fields)


def start(mesh, socket_config, hcm=None, name="proxy", cluster=None, script=None, listener=None):
    u = mesh.upstream(script=script)
    manager = config.hcm([config.route("/", u.name)], log=config.access_log(mesh.folder / "access.log", FIELDS), **(hcm or {}))
    place = config.listener(free_port(), [manager], **(listener or {}))
    if socket_config:
        place["filter_chains"][0]["transport_socket"] = socket_config
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port], **(cluster or {}))], free_port()), name=name)
    return u, px


def context(pki, cert=None, low=None, high=None, alpn=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(pki.path("ca.pem"))
    if cert:
        c.load_cert_chain(pki.path(f"{cert}.pem"), pki.path(f"{cert}.key"))
    if low:
        c.minimum_version = low
    if high:
        c.maximum_version = high
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


def connect(px, ctx, sni="server.test", session=None):
    raw = socket.create_connection((HOST, px.port), timeout=5)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ctx.wrap_socket(raw, server_hostname=sni, session=session)


def ask(s, path="/", body=b""):
    """(status, body) of one request on a connection that stays."""
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return answer(s)


def answer(s):
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(65536)
        if not part:
            raise EOFError(data)
        data += part
    head, rest = data.split(b"\r\n\r\n", 1)
    length = next(int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
    while len(rest) < length:
        part = s.recv(65536)
        if not part:
            raise EOFError(rest)
        rest += part
    return int(head.split()[1]), rest


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bodies_arrive_whole(mesh, pki, version):
    large = bytes(range(256)) * 4000
    u, px = start(mesh, down(pki), script=[Reply(200, large)])
    with connect(px, context(pki, low=version, high=version)) as s:
        for _ in range(3):
            status, body = ask(s, "/big", large)
            assert status == 200 and body == large
    assert [r.body for r in u.requests] == [large] * 3
    name = "TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3"
    entry = px.wait_log(lambda e: e["path"] == "/big")
    assert entry["version"] == name and entry["cipher"] and entry["group"]
    prefix = f"listener.{HOST}_{px.port}.ssl."
    assert px.stat(prefix + "handshake") == 1 and px.stat(prefix + "versions." + name) == 1
    assert px.stat(prefix + "no_certificate") == 1 and px.stat(prefix + "connection_error") == 0


def test_sessions_resume(mesh, pki):
    _, px = start(mesh, down(pki))
    ctx = context(pki)
    with connect(px, ctx) as s:
        assert ask(s)[0] == 200
        session = s.session
    with connect(px, ctx, session=session) as s:
        assert ask(s)[0] == 200 and s.session_reused
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.session_reused") == 1


def test_g18_client_bytes_one_by_one(mesh, pki):  # G18
    _, px = start(mesh, down(pki))
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    t = context(pki).wrap_bio(inside, outside, server_hostname="server.test")
    with socket.create_connection((HOST, px.port), timeout=5) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def step(call):
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    for b in outside.read():
                        raw.sendall(bytes([b]))
                    inside.write(raw.recv(65536))
        step(t.do_handshake)
        t.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert step(lambda: t.read(65536)).startswith(b"HTTP/1.1 200")


def test_certificate_by_name_and_key(mesh, pki):
    _, px = start(mesh, down(pki, ("server", "two")))
    for sni, subject in (("server.test", "server"), ("x.wild.test", "server"), ("two.test", "two")):
        with connect(px, context(pki), sni) as s:
            assert dict(x[0] for x in s.getpeercert()["subject"])["commonName"] == subject
            assert ask(s)[0] == 200


def test_certificate_by_the_suites_of_the_client(mesh, pki):
    """TLS 1.2: a client may take signatures of a key whose suites it does not have."""
    pki.issue("slow", "DNS:server.test", rsa=True)
    _, px = start(mesh, down(pki, ("server", "slow")))
    for suites, subject in (("ECDHE-RSA-AES128-GCM-SHA256", "slow"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "server")):
        ctx = context(pki, high=ssl.TLSVersion.TLSv1_2)
        ctx.set_ciphers(suites)
        with connect(px, ctx, "server.test") as s:
            assert dict(x[0] for x in s.getpeercert()["subject"])["commonName"] == subject and ask(s)[0] == 200


def test_session_id_in_the_log(mesh, pki):
    """Who gets a ticket has none yet; TLS 1.3 has none at all."""
    fields = {"id": "%DOWNSTREAM_TLS_SESSION_ID%", "path": "%PATH%"}
    for name, by_id in (("ticket", False), ("id", True)):
        u = mesh.upstream(name)
        place = config.listener(free_port(), [config.hcm([config.route("/", name)], log=config.access_log(mesh.folder / f"{name}-access.log", fields))], name=name)
        place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context={
            "tls_certificates": [pki.pair("server")]}, **({"disable_stateless_session_resumption": True} if by_id else {}))
        px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(name, [u.port])], free_port()), name=name)
        px.access_path = mesh.folder / f"{name}-access.log"
        ctx = context(pki, high=ssl.TLSVersion.TLSv1_2)
        with connect(px, ctx) as s:
            ask(s, "/full")
            session = s.session
        with ctx.wrap_socket(socket.create_connection((HOST, px.port)), server_hostname="server.test", session=session) as s:
            assert s.session_reused
            ask(s, "/again")
        with connect(px, context(pki)) as s:
            ask(s, "/13")
        seen = {e["path"]: e["id"] for e in px.access_log(3)}
        assert (bool(seen["/full"]), bool(seen["/again"]), bool(seen["/13"])) == (by_id, True, False)


def test_g10_client_certificates(mesh, pki):  # G10
    trust = {"trusted_ca": {"filename": pki.path("ca.pem")}}
    _, px = start(mesh, down(pki, validation=trust, require_client_certificate=True))
    with connect(px, context(pki, "client")) as s:
        assert ask(s, "/good")[0] == 200
    e = px.wait_log(lambda e: e["path"] == "/good")
    assert (e["uri"], e["subject"], e["issuer"]) == ("spiffe://mesh.test/ns/a/sa/client", "CN=client", "CN=ca") and int(e["until"]) >= 2024
    for cert in (None, "stranger", "late", "wrong-use"):
        for top in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                with connect(px, context(pki, cert, high=top)) as s:
                    ask(s, "/bad")
    prefix = f"listener.{HOST}_{px.port}.ssl."
    assert px.stat(prefix + "fail_verify_no_cert") == 2 and px.stat(prefix + "fail_verify_error") == 6
    assert px.stat(prefix + "handshake") == 1


@pytest.mark.parametrize("matcher,good", [
    ({"san_type": "URI", "matcher": {"prefix": "spiffe://mesh.test/"}}, True),
    ({"san_type": "URI", "matcher": {"exact": "spiffe://other.test/ns/a/sa/client"}}, False),  # G11: another trust domain
    ({"san_type": "DNS", "matcher": {"exact": "CLIENT.test"}}, True),
    ({"san_type": "DNS", "matcher": {"exact": "client.test."}}, False),  # G11: trailing dot
    ({"san_type": "DNS", "matcher": {"prefix": "spiffe://"}}, False),  # a URI is no DNS name
])
def test_g11_names_of_client_certificates(mesh, pki, matcher, good):  # G11
    trust = {"trusted_ca": {"filename": pki.path("ca.pem")}, "match_typed_subject_alt_names": [matcher]}
    _, px = start(mesh, down(pki, validation=trust, require_client_certificate=True))
    if good:
        with connect(px, context(pki, "client")) as s:
            assert ask(s)[0] == 200
        return
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        with connect(px, context(pki, "client")) as s:
            ask(s)
    px.wait_stat(f"listener.{HOST}_{px.port}.ssl.fail_verify_san")


def test_g09_old_versions_and_plain_text_are_refused(mesh, pki):  # G09, B16
    _, px = start(mesh, down(pki))
    prefix = f"listener.{HOST}_{px.port}.ssl."
    old = context(pki, low=ssl.TLSVersion.TLSv1, high=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(px, old)
    for junk in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80" * 40):
        before = px.stat(prefix + "connection_error")
        with socket.create_connection((HOST, px.port), timeout=5) as s:
            try:
                s.sendall(junk)
                while s.recv(4096):
                    pass
            except ConnectionError:
                pass
        until(lambda b=before: px.stat(prefix + "connection_error") == b + 1, 5, "the error to be counted")
    assert px.stat(prefix + "handshake") == 0
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 5, "no connection left")


def test_a_handshake_has_its_time(mesh, pki):
    _, px = start(mesh, None, listener={"filter_chains": [{"filters": [config.hcm([config.route("/", "up")])], "transport_socket": down(pki),
                                                           "transport_socket_connect_timeout": "0.3s"}]})
    with socket.create_connection((HOST, px.port), timeout=5) as s:
        s.sendall(b"\x16\x03\x01")
        assert s.recv(100) == b""
    assert px.stat(f"listener.{HOST}_{px.port}.downstream_cx_transport_socket_connect_timeout") == 1


def test_upstream_sessions_and_names(mesh, pki):
    """Two proxies: TLS between them; the second connection resumes, since the first ends with its answer."""
    u, back = start(mesh, down(pki), name="back")
    trust = {"trusted_ca": {"filename": pki.path("ca.pem")}, "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "api.wild.test"}}]}
    socket_config = up({"validation_context": trust, "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}, sni="server.test")
    c = config.cluster("back", [back.port], transport_socket=socket_config,
                       typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                           "@type": config.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                           "common_http_protocol_options": {"max_requests_per_connection": 1}, "explicit_http_config": {"http_protocol_options": {}}}})
    manager = config.hcm([config.route("/", "back")], log=config.access_log(mesh.folder / "front.log", FIELDS))
    front = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [c], free_port()), name="front")
    for _ in range(4):
        assert front.get("/").status == 200
    assert front.stat("cluster.back.ssl.handshake") == 4 and front.stat("cluster.back.ssl.session_reused") == 3
    assert back.stat(f"listener.{HOST}_{back.port}.ssl.session_reused") == 3 and len(u.requests) == 4


def test_key_log(mesh, pki):  # T2
    log = mesh.folder / "keys.log"
    _, px = start(mesh, down(pki, common={"key_log": {"path": str(log)}}))
    with connect(px, context(pki)) as s:
        assert ask(s)[0] == 200
    words = {line.split()[0] for line in log.read_text().splitlines()}
    assert {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"} <= words
    assert log.stat().st_mode & 0o077 == 0


def test_key_log_of_other_addresses_is_empty(mesh, pki):
    log = mesh.folder / "keys.log"
    other = [{"address_prefix": "10.0.0.0", "prefix_len": 8}]
    _, px = start(mesh, down(pki, common={"key_log": {"path": str(log), "remote_address_range": other}}))
    with connect(px, context(pki)) as s:
        assert ask(s)[0] == 200
    assert log.read_text() == ""


def test_forwarded_client_certificate(mesh, pki):  # C16
    trust = {"trusted_ca": {"filename": pki.path("ca.pem")}}
    u, px = start(mesh, down(pki, validation=trust), hcm={"forward_client_cert_details": "SANITIZE_SET",
                                                          "set_current_client_cert_details": {"uri": True, "subject": True}})
    for cert in ("client", None):
        with connect(px, context(pki, cert)) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: URI=spiffe://mesh.test/forged\r\n\r\n")
            assert answer(s)[0] == 200
    xfcc = [[v for n, v in r.headers if n.lower() == "x-forwarded-client-cert"] for r in u.requests]
    assert len(xfcc[0]) == 1 and xfcc[0][0].endswith(';Subject="CN=client";URI=spiffe://mesh.test/ns/a/sa/client') and xfcc[0][0].startswith("Hash=")
    assert xfcc[1] == []


@pytest.mark.parametrize("change,text", [
    ({"tls_certificates": []}, "common_tls_context.tls_certificates: No TLS certificates found for server context"),
    ({"tls_params": {"cipher_suites": ["NO-SUCH"]}}, "common_tls_context.tls_params.cipher_suites[0]: Failed to initialize cipher suites NO-SUCH"),
    ({"tls_params": {"ecdh_curves": ["P-1"]}}, "common_tls_context.tls_params.ecdh_curves: Failed to initialize ECDH curves P-1"),
    ({"validation_context": {"trusted_ca": {"inline_string": "nothing"}}}, "common_tls_context.validation_context.trusted_ca: Failed to load trusted CA"),
    ({"validation_context": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]}},
     "validation_context: SAN-based verification of peer certificates without trusted CA is insecure and not allowed"),
])
def test_broken_contexts_name_the_path(mesh, pki, change, text):
    px = start_broken(mesh, down(pki, common=change))
    assert "filter_chains[0].transport_socket.typed_config." in px.log() and text in px.log()


def start_broken(mesh, socket_config):
    place = config.listener(free_port(), [config.hcm([config.route("/", "up")])])
    place["filter_chains"][0]["transport_socket"] = socket_config
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster("up", [1])], free_port()), ready=False)
    assert px.process.wait(10) == 1
    return px


# ---- what the upstream speaks is found out by ALPN (U7) ----

PROTOCOLS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TALK = {"common_http_protocol_options": {"idle_timeout": "60s"}}


def chosen(mesh, pki, http, server_alpn, **cluster):
    """A proxy by TLS in front of another: (first, second), the second offers `server_alpn` and logs what it was asked by."""
    _, back = start(mesh, down(pki, common={"alpn_protocols": server_alpn} if server_alpn else {}), name="back")
    place = config.listener(free_port(), [config.hcm([config.route("/", "far")])])
    far = config.cluster("far", [back.port], http=http, transport_socket=up(), **cluster)
    return mesh.proxy(boot=config.bootstrap([place], [far], free_port()), name="front"), back


@pytest.mark.parametrize("http,server,spoken", [
    ({"auto_config": {}}, ["h2", "http/1.1"], "http2"), ({"auto_config": {}}, ["http/1.1"], "http1"), ({"auto_config": {}}, [], "http1"),
    ({"auto_config": {"http2_protocol_options": {}, "http_protocol_options": {}}}, ["http/1.1", "h2"], "http1"),
    ({"explicit_http_config": {"http2_protocol_options": {}}}, ["h2", "http/1.1"], "http2"),  # offered though alpn_protocols is empty
    ({"explicit_http_config": {"http_protocol_options": {}}}, ["h2", "http/1.1"], "http1"),
    ({"use_downstream_protocol_config": {"http2_protocol_options": {}}}, ["h2", "http/1.1"], "http1"),
], ids=["auto-h2", "auto-h1", "auto-none", "auto-prefers", "explicit-h2", "explicit-h1", "as-the-client"])
def test_protocol_by_alpn(mesh, pki, http, server, spoken):
    front, back = chosen(mesh, pki, {**http, **TALK}, server)
    for _ in range(3):
        assert front.get("/").status == 200
    other = {"http1": "http2", "http2": "http1"}[spoken]
    assert back.stat(f"http.in.downstream_cx_{spoken}_total") == 1 and back.stat(f"http.in.downstream_cx_{other}_total") == 0
    assert front.stat(f"cluster.far.upstream_cx_{spoken}_total") == 1 and front.stat(f"cluster.far.upstream_cx_{other}_total") == 0
    assert front.stat("cluster.far.upstream_rq_200") == 3


def test_many_at_once_before_the_protocol_is_known(mesh, pki):
    """Requests that wait for a protocol share the connection once it is HTTP/2, and get one each where it is not."""
    for server, most in ((["h2"], 20), (["http/1.1"], 60)):
        front, _ = chosen(mesh, pki, {"auto_config": {}}, server)
        for _ in range(3):
            clients = [front.client() for _ in range(20)]
            for c in clients:
                c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert [c.response().status for c in clients] == [200] * 20
            for c in clients:
                c.close()
        assert front.stat("cluster.far.upstream_cx_total") <= most and front.stat("cluster.far.upstream_rq_200") == 60
        assert front.stat("cluster.far.upstream_rq_pending_active") == 0
        front.stop()


def test_auto_config_needs_negotiation(mesh):
    u = mesh.upstream()
    boot = config.bootstrap([], [config.cluster("up", [u.port], http={"auto_config": {}})], free_port())
    px = mesh.proxy(boot=boot, ready=False)
    assert until(lambda: px.process.poll() is not None, 5) and "ALPN" in px.log()


def test_a_slow_upstream_stops_no_client_for_good(mesh, pki):
    """Reading stops with records in hand, the kernel gets more meanwhile, and reading goes on: all of it is taken."""
    place = socket.create_server((HOST, 0))
    place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    proxy = config.ext("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up")
    boot = config.bootstrap([config.listener(free_port(), [proxy], per_connection_buffer_limit_bytes=4096)],
                            [config.cluster("up", [place.getsockname()[1]], per_connection_buffer_limit_bytes=4096)], free_port())
    boot["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = down(pki)
    px = mesh.proxy(boot=boot)
    sent = 0

    def send(s):
        nonlocal sent
        for n in range(3000):  # many small records, in bursts that fill no buffer
            s.sendall(bytes(700))
            sent += 700
            if n % 20 == 19:
                time.sleep(0.001)
    with connect(px, context(pki)) as s:
        sender = threading.Thread(target=send, args=(s,), daemon=True)
        sender.start()
        up, _ = place.accept()
        with up:
            up.settimeout(20)
            got = 0
            while got < 2_100_000:
                got += len(up.recv(4096))
                if got % 3 == 0:
                    time.sleep(0.002)
        sender.join(20)
    place.close()
    assert got == sent
