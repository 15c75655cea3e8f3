"""Filters that listen to a database's protocol (row L5)."""
import re
import socket
import ssl
import struct

import config
import pytest
from pki import Pki
from tcp import Server
from wire import HOST, free_port, until

NET = "envoy.extensions.filters.network."


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


@pytest.mark.stricter  # not in every build of an Envoy
def test_postgres(mesh):
    server = Server()
    pg = config.ext("envoy.filters.network.postgres_proxy", NET + "postgres_proxy.v3alpha.PostgresProxy", stat_prefix="db")
    tcp = config.ext("envoy.filters.network.tcp_proxy", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [pg, tcp])], [config.cluster("one", [server.port])], free_port()))
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        hello = struct.pack("!II", 17, 3 << 16) + b"user\0me\0\0"
        c.sendall(hello)
        up = server.accept()
        assert up.exactly(len(hello), 5) == hello
        answers = [message(b"R", bytes(4)), message(b"Z", b"I"), message(b"C", b"BEGIN\0"), message(b"C", b"INSERT 0 1\0"), message(b"D", b"x" * 100000),
                   message(b"C", b"SELECT 1\0"), message(b"C", b"COMMIT\0"), message(b"E", b"SERROR\0VERROR\0\0"), message(b"N", b"SWARNING\0\0")]
        data = b"".join(answers)
        up.sock.sendall(data)
        got = b""
        while len(got) < len(data):
            got += c.recv(65536)
        assert got == data  # it only listens
        asks = message(b"Q", b"select 1\0")
        for b in asks:
            c.sendall(bytes([b]))
        assert up.exactly(len(asks), 5) == asks
        c.sendall(message(b"X"))
        up.exactly(5, 5)
    until(lambda: px.stat("postgres.db.messages_frontend") == 2, 5, "the client's messages")
    s = {k.removeprefix("postgres.db."): v for k, v in px.stats("^postgres.db.").items() if v}
    assert s == {"messages": 11, "messages_frontend": 2, "messages_backend": 9, "sessions": 1, "sessions_unencrypted": 1, "statements": 4, "statements_insert": 1,
                 "statements_select": 1, "statements_other": 2, "transactions": 1, "transactions_commit": 1, "errors": 1, "errors_error": 1, "notices": 1, "notices_warning": 1}
    server.close()


SSL_REQUEST = struct.pack("!II", 8, 80877103)
STARTUP = struct.pack("!II", 17, 3 << 16) + b"user\0me\0\0"


def starttls(mesh, pki, socket_type="starttls"):
    """A proxy that ends TLS where the client asks for it in PostgreSQL's words."""
    server = Server()
    pg = config.ext("pg", NET + "postgres_proxy.v3alpha.PostgresProxy", stat_prefix="db", terminate_ssl=True)
    tcp = config.ext("tcp", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one",
                     access_log=[config.access_log(mesh.folder / "access.log", {"version": "%DOWNSTREAM_TLS_VERSION%"})])
    place = config.listener(free_port(), [pg, tcp])
    if socket_type:
        place["filter_chains"][0]["transport_socket"] = config.ext("starttls", "envoy.extensions.transport_sockets.starttls.v3.StartTlsConfig",
                                                                   cleartext_socket_config={}, tls_socket_config={"common_tls_context": {"tls_certificates": [pki.pair("server")]}})
    return server, mesh.proxy(boot=config.bootstrap([place], [config.cluster("one", [server.port])], free_port()))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    p.issue("server", "DNS:server.test")
    return p


@pytest.mark.stricter  # not in every build of an Envoy
def test_u8_starttls(mesh, pki):
    server, px = starttls(mesh, pki)
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        for b in SSL_REQUEST:
            c.sendall(bytes([b]))
        assert c.recv(10) == b"S"
        context = ssl.create_default_context(cafile=pki.path("ca.pem"))
        with context.wrap_socket(c, server_hostname="server.test") as s:
            s.sendall(STARTUP)
            up = server.accept()
            assert up.exactly(len(STARTUP), 5) == STARTUP  # the request for TLS is not for the server
            data = message(b"R", bytes(4)) + message(b"D", b"x" * 300_000)
            up.sock.sendall(data)
            got = b""
            while len(got) < len(data):
                got += s.recv(65536)
            assert got == data
            up.sock.close()
            assert s.recv(10) == b""
    assert px.access_log(1)[0]["version"].startswith("TLSv1.")
    assert px.stat("postgres.db.sessions_terminated_ssl") == 1 and px.stat("postgres.db.sessions_unencrypted") == 1
    assert px.stat(f"listener.{HOST}_{px.port}.ssl.handshake") == 1
    with socket.create_connection((HOST, px.port), timeout=10) as c:  # who does not ask goes on in the clear
        c.sendall(STARTUP)
        assert server.accept().exactly(len(STARTUP), 5) == STARTUP
    server.close()


@pytest.mark.stricter
def test_u8_starttls_takes_no_words_from_before(mesh, pki):
    """Plain bytes behind the request for TLS would count as the client's own, whoever put them there (CVE-2021-23214)."""
    server, px = starttls(mesh, pki)
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        c.sendall(SSL_REQUEST + STARTUP)
        try:
            assert c.recv(10) == b""
        except ConnectionResetError:
            pass
    assert px.stat("postgres.db.sessions_terminated_ssl") == 0
    server.close()


@pytest.mark.stricter
def test_u8_no_starttls_no_session(mesh, pki):
    """Without the transport socket the client is not told that TLS begins, and is not served in the clear."""
    server, px = starttls(mesh, pki, None)
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        c.sendall(SSL_REQUEST)
        try:
            assert c.recv(10) == b""
        except ConnectionResetError:
            pass
    server.close()


def packet(number, body):
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


@pytest.mark.stricter  # not in every build of an Envoy
def test_mysql(mesh):
    server = Server()
    my = config.ext("my", NET + "mysql_proxy.v3.MySQLProxy", stat_prefix="db")
    tcp = config.ext("tcp", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [my, tcp])], [config.cluster("one", [server.port])], free_port()))
    for answer in (b"\0\0\0\2\0\0\0", b"\xff\x15\x04#28000no"):
        with socket.create_connection((HOST, px.port), timeout=10) as c:
            up = server.accept()
            for who, number, body in ((up.sock, 0, b"\x0a8.0.36\0" + bytes(60)), (c, 1, b"\x0d\xa6\xff\x19" + bytes(60)), (up.sock, 2, answer)):
                data, other = packet(number, body), c if who is up.sock else up.sock
                who.sendall(data)
                got = b""
                while len(got) < len(data):
                    got += other.recv(4096)
                assert got == data  # it only listens
    until(lambda: px.stat("mysql.db.login_failures") == 1, 5, "the refused login")
    assert {k.removeprefix("mysql.db."): v for k, v in px.stats("^mysql").items()} == {
        "auth_switch_request": 0, "login_attempts": 2, "login_failures": 1, "protocol_errors": 0, "upgraded_to_ssl": 0}
    server.close()


def kafka_request(key, version, number, body=b""):
    return struct.pack("!ihhi", 8 + len(body), key, version, number) + body


def kafka_response(number, body=b""):
    return struct.pack("!ii", 4 + len(body), number) + body


@pytest.mark.stricter  # not in every build of an Envoy
def test_kafka(mesh):
    server = Server()
    kafka = config.ext("envoy.filters.network.kafka_broker", NET + "kafka_broker.v3.KafkaBroker", stat_prefix="k")
    tcp = config.ext("envoy.filters.network.tcp_proxy", NET + "tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="one")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [kafka, tcp])], [config.cluster("one", [server.port])], free_port()))

    def exchange(c, up, asks, answers):
        for sock, other, data in ((c, up.sock, asks), (up.sock, c, answers)):
            for i in range(0, len(data), 7):  # in pieces
                sock.sendall(data[i:i + 7])
            got = b""
            while len(got) < len(data):
                got += other.recv(65536)
            assert got == data  # it only listens
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        up = server.accept()
        exchange(c, up, kafka_request(18, 3, 1, b"\0\4test\0") + kafka_request(3, 9, 2, b"x" * 300) + kafka_request(0, 9, 3) + kafka_request(1, 12, 4) +
                 kafka_request(0, 200, 5) + kafka_request(999, 0, 6),
                 kafka_response(1, b"y" * 50) + kafka_response(2) + kafka_response(4, b"z" * 1000) + kafka_response(5) + kafka_response(6))
        exchange(c, up, b"GET / HTTP/1.1\r\n\r\n", kafka_response(77) + b"HTTP/1.1 200 OK\r\n\r\n")
    until(lambda: px.stat("kafka.k.response.failure"), 5, "all was heard")
    s = {k.removeprefix("kafka.k."): v for k, v in px.stats("^kafka.k.").items() if v}
    assert s == {
        "request.api_versions_request": 1, "request.metadata_request": 1, "request.produce_request": 1, "request.fetch_request": 1, "request.unknown": 2,
        "request.failure": 1, "response.api_versions_response": 1, "response.metadata_response": 1, "response.fetch_response": 1, "response.unknown": 2,
        "response.failure": 1}
    text = px.admin("/stats?filter=kafka.k.*duration")[1]  # those that hold something
    assert sorted(re.findall(r"response\.([a-z_]+)_response_duration", text)) == ["api_versions", "fetch", "metadata"]
    server.close()
