"""Listener filters (row L2; attacks G16, G18): what is known of a connection before its chain is chosen."""
import socket
import ssl
import struct

import config
import pytest
from upstream import Reply
from wire import HOST, free_port, until

LF = "envoy.extensions.filters.listener."
FIELDS = {"path": "%REQ(:PATH)%", "chain": "%FILTER_CHAIN_NAME%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
          "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "sni": "%REQUESTED_SERVER_NAME%", "ja3": "%TLS_JA3_FINGERPRINT%",
          "ja4": "%TLS_JA4_FINGERPRINT%", "tlv": "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:name)%"}
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def inspector(name, typ, **fields):
    return config.ext(f"envoy.filters.listener.{name}", f"{LF}{name}.v3.{typ}", **fields)


def start(mesh, filters, chains=None, **listener):
    u = mesh.upstream(script=[Reply(200)])
    manager = config.hcm([config.route("/", u.name)], log=config.access_log(mesh.folder / "access.log", FIELDS))
    place = config.listener(free_port(), [manager], listener_filters=filters, **listener)
    if chains:
        place["filter_chains"] = [{**c, "filters": [manager]} for c in chains]
    return u, mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()))


def exchange(px, *parts, timeout=3):
    """What comes back until the peer closes or an answer's head is there; each part is sent alone."""
    with socket.create_connection((HOST, px.port), timeout=timeout) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        try:
            for p in parts:
                s.sendall(p)
            while b"\r\n\r\n" not in data:
                got = s.recv(4096)
                if not got:
                    break
                data += got
        except ConnectionError:
            pass
        return data


def get(path="/"):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def v2(source="203.0.113.8", port=1111, command=0x21, family=0x11, tlvs=b"", length=None):
    body = socket.inet_aton(source) + socket.inet_aton("10.1.1.1") + struct.pack("!HH", port, 2222) + tlvs
    return V2 + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def test_proxy_protocol_addresses(mesh):
    rules = [{"tlv_type": 0xe1, "on_tlv_present": {"key": "name"}}]
    _, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol", rules=rules)])
    tlvs = b"\x04\0\1x" + b"\xe1\0\5hello"
    for n, head in enumerate((b"PROXY TCP4 203.0.113.7 10.1.1.1 1111 2222\r\n", b"PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n", v2(tlvs=tlvs))):
        assert exchange(px, *[bytes([b]) for b in head], get(f"/{n}")).startswith(b"HTTP/1.1 200")
    e = [px.wait_log(lambda e, n=n: e["path"] == f"/{n}") for n in range(3)]
    assert [x["remote"] for x in e] == ["203.0.113.7:1111", "[2001:db8::1]:1111", "203.0.113.8:1111"]
    assert [x["local"] for x in e] == ["10.1.1.1:2222", "[2001:db8::2]:2222", "10.1.1.1:2222"]
    assert {x["direct"] for x in e} == {HOST} and [x["tlv"] for x in e] == [None, None, "hello"]
    assert px.stat("proxy_proto.versions.v1.found") == 2 and px.stat("proxy_proto.versions.v2.found") == 1


@pytest.mark.parametrize("head,stat", [
    (get(), "not_found_disallowed"),
    (b"PROXY TCP4 bad\r\n", "versions.v1.error"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "versions.v1.error"),
    (b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n", "versions.v1.error"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "versions.v1.error"),
    (b"PROXY UNKNOWN " + b"x" * 100, "versions.v1.error"),
    (v2(command=0x31), "versions.v2.error"),
    (v2(command=0x22), "versions.v2.error"),
    (v2(length=8), "versions.v2.error"),
    (v2(family=0), "versions.v2.error"),
    (v2(family=0x10), "versions.v2.error"),
    (v2(family=0x31), "versions.v2.error"),
    (v2(tlvs=b"\x04\0\x09x"), "versions.v2.error"),
    (v2(tlvs=b"\x04\0"), "versions.v2.error"),
])
def test_g16_broken_proxy_headers_end_the_connection(mesh, head, stat):  # G16
    u, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol")])
    assert exchange(px, head, get("/x")) == b""
    assert px.stat("proxy_proto." + stat) == 1 and px.stat("downstream_cx_proxy_proto_error") == 1 and not u.requests
    assert px.stat(f"listener.{HOST}_{px.port}.downstream_listener_filter_error") == 0  # nothing failed but the header
    assert px.stat(f"listener.{HOST}_{px.port}.downstream_pre_cx_active") == 0


@pytest.mark.parametrize("head", [b"PROXY UNKNOWN\r\n", v2(command=0x20), b"PROXY UNKNOWN any thing\r\n"])
def test_g16_local_and_unknown_keep_the_socket_address(mesh, head):  # G16
    _, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol")])
    assert exchange(px, head, get("/x")).startswith(b"HTTP/1.1 200")
    assert px.wait_log(lambda e: e["path"] == "/x")["remote"].startswith(HOST + ":")


def test_plain_requests_pass_where_allowed(mesh):
    _, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol", allow_requests_without_proxy_protocol=True)])
    assert exchange(px, get("/x")).startswith(b"HTTP/1.1 200")
    assert px.stat("proxy_proto.not_found_allowed") == 1


def test_disallowed_version(mesh):
    _, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol", disallowed_versions=["V1"])])
    assert exchange(px, b"PROXY UNKNOWN\r\n", get()) == b"" and exchange(px, v2(), get()).startswith(b"HTTP/1.1 200")
    assert px.stat("proxy_proto.versions.v1.disallowed") == 1


def test_silent_connections_end_in_time(mesh):
    _, px = start(mesh, [inspector("tls_inspector", "TlsInspector")], listener_filters_timeout="0.2s")
    assert exchange(px) == b""
    prefix = f"listener.{HOST}_{px.port}."
    assert px.stat(prefix + "downstream_pre_cx_timeout") == 1 and px.stat(prefix + "downstream_pre_cx_active") == 0
    assert px.stat(prefix + "downstream_cx_total") == 0 and px.stat(prefix + "downstream_cx_active") == 0


def test_silent_connections_go_on_where_configured(mesh):
    _, px = start(mesh, [inspector("http_inspector", "HttpInspector")], listener_filters_timeout="0.1s", continue_on_listener_filters_timeout=True)
    with socket.create_connection((HOST, px.port), timeout=3) as s:
        px.wait_stat(f"listener.{HOST}_{px.port}.downstream_pre_cx_timeout")
        s.sendall(get("/late"))
        assert s.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_peer_that_leaves_is_counted(mesh):
    _, px = start(mesh, [inspector("proxy_protocol", "ProxyProtocol")])
    with socket.create_connection((HOST, px.port), timeout=3) as s:
        s.sendall(b"PROX")
        s.shutdown(socket.SHUT_WR)
        px.wait_stat(f"listener.{HOST}_{px.port}.downstream_listener_filter_remote_close")
    until(lambda: px.stat(f"listener.{HOST}_{px.port}.downstream_pre_cx_active") == 0, 5, "no connection left")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"], ids=["nothing", "half a hello"])
def test_who_leaves_meanwhile_is_no_connection(mesh, said):
    """Counted and logged by the listener; no chain hears of it."""
    logs = [config.access_log(mesh.folder / "access.log", {"flags": "%RESPONSE_FLAGS%", "id": "%CONNECTION_ID%", "to": "%DOWNSTREAM_LOCAL_ADDRESS%"})]
    _, px = start(mesh, [inspector("tls_inspector", "TlsInspector")], access_log=logs)
    with socket.create_connection((HOST, px.port), timeout=3) as s:
        s.sendall(said)
    px.wait_stat(f"listener.{HOST}_{px.port}.downstream_listener_filter_remote_close")
    assert px.access_log()[0] == {"flags": "-", "id": 0, "to": f"{HOST}:{px.port}"}
    assert px.stat("http.in.downstream_cx_total") == px.stat(f"listener.{HOST}_{px.port}.downstream_cx_total") == 0
    assert px.stat("tls_inspector.tls_not_found") == 0


@pytest.mark.parametrize("http", [True, False], ids=["http", "tcp"])
def test_datagrams_of_a_header_are_addresses_too(mesh, http):
    """A header that says UDP, and the address that the client really had."""
    fields = {"remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "direct": "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%"}
    u = mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", fields)
    last = config.hcm([config.route("/", u.name)], log=log) if http else config.ext(
        "tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster=u.name, access_log=[log])
    place = config.listener(free_port(), [last], listener_filters=[inspector("proxy_protocol", "ProxyProtocol")])
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()))
    assert exchange(px, v2(family=0x12), get("/")).startswith(b"HTTP/1.1 200")
    assert px.access_log()[0] == {"remote": "203.0.113.8:1111", "direct": f"{HOST}:{px.port}", "local": "10.1.1.1:2222"}


def hello(sni=None, alpn=None):
    """A ClientHello of OpenSSL's."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    if alpn:
        ctx.set_alpn_protocols(alpn)
    out = ssl.MemoryBIO()
    try:
        ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname=sni).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def resized(message, limit):
    """The same handshake message in records of at most `limit` bytes."""
    body, out = message[5:], b""
    for i in range(0, len(body), limit):
        part = body[i:i + limit]
        out += message[:3] + struct.pack("!H", len(part)) + part
    return out


def named_chains():
    def chain(name, text, **match):
        return {"name": name, "filter_chain_match": match, "filters": [config.ext(
            "envoy.filters.network.direct_response", "envoy.extensions.filters.network.direct_response.v3.Config", response={"inline_string": text})]}
    return [chain("exact", "exact", server_names=["a.test"]), chain("wild", "wild", server_names=["*.b.test"]),
            chain("h2", "h2", transport_protocol="tls", application_protocols=["h2"]), chain("tls", "tls", transport_protocol="tls"),
            chain("plain", "plain", transport_protocol="raw_buffer")]


@pytest.mark.parametrize("first,chain", [
    (hello("a.test"), b"exact"), (hello("A.Test"), b"exact"), (hello("x.y.b.test"), b"wild"), (hello("c.test", ["h2"]), b"h2"),
    (hello(None), b"tls"), (hello("c.test", ["http/1.1"]), b"tls"), (b"GET / HTTP/1.1\r\n\r\n", b"plain"), (b"\x16\x03", None),
    (resized(hello("a.test"), 64), b"exact"), (b"\x16\x03\x01\x00\x00" * 3, b"plain"), (b"\x16\x02\x01\x00\x05aaaaa", b"plain"),
    (b"\x16\x03\x01\xff\xff" + b"x" * 20, b"plain"), (b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + b"\0" * 30000, b""),
], ids=["exact", "any-case", "wildcard", "h2", "no-name", "http1", "http", "cut", "many-records", "empty-records", "version", "length", "short-hello"])
@pytest.mark.parametrize("step", [1, 100000])
def test_g18_chain_by_client_hello(mesh, first, chain, step):  # G18, L4
    place = config.listener(free_port(), [], listener_filters=[inspector("tls_inspector", "TlsInspector")], listener_filters_timeout="2s")
    place["filter_chains"] = named_chains()
    px = mesh.proxy(boot=config.bootstrap([place], [], free_port()))
    if step == 1 and len(first) > 3000:
        return
    with socket.create_connection((HOST, px.port), timeout=5) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(first), step):
            try:
                s.sendall(first[i:i + step])
            except ConnectionError:
                break
        if chain is None:
            s.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while len(got) < len(chain or b"x" * 99):
                part = s.recv(100)
                if not part:
                    break
                got += part
        except ConnectionError:
            pass
    assert got == (chain or b""), px.stats("tls_inspector")


def test_g18_a_hello_over_the_limit_ends_the_connection(mesh):  # G18
    _, px = start(mesh, [inspector("tls_inspector", "TlsInspector", max_client_hello_size=512)])
    big = hello("a" * 60 + ".test", ["x" * 200, "y" * 200])
    assert exchange(px, big) == b"" and px.stat("tls_inspector.client_hello_too_large") == 1


def test_filter_disabled_ports(mesh):
    port = free_port()
    off = {"destination_port_range": {"start": port, "end": port + 1}}
    for rule, answered in ((off, True), ({"not_match": off}, False)):
        u = mesh.upstream(name=f"up{answered}")
        manager = config.hcm([config.route("/", u.name)])
        place = config.listener(port, [manager], listener_filters=[{**inspector("proxy_protocol", "ProxyProtocol"), "filter_disabled": rule}])
        px = mesh.proxy(boot=config.bootstrap([place], [config.cluster(u.name, [u.port])], free_port()), name=f"proxy{answered}")
        assert exchange(px, get()).startswith(b"HTTP/1.1 200") == answered
        px.stop()


def test_filter_disabled_ports_are_those_found_before(mesh):
    """The destination that an earlier filter found counts, as it does for Istio's rule that leaves out the port of capture."""
    port = free_port()
    for off, found in ((port, 1), (9080, 0)):
        disabled = {"destination_port_range": {"start": off, "end": off + 1}}
        place = config.listener(port, [config.ext("echo", "envoy.extensions.filters.network.echo.v3.Echo")], listener_filters=[
            inspector("proxy_protocol", "ProxyProtocol"), {**inspector("tls_inspector", "TlsInspector"), "filter_disabled": disabled}])
        px = mesh.proxy(boot=config.bootstrap([place], [], free_port()), name=f"proxy{off}")
        message = hello("a.test", ["h2"]) + b"\r\n\r\n"
        assert exchange(px, b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 9080\r\n" + message) == message
        assert px.stats("tls_inspector").get("tls_inspector.tls_found", 0) == found
        px.stop()
