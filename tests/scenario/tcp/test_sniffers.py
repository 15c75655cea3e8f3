"""Filters that listen to a database's protocol (row L5)."""
import socket
import struct

import config
import pytest
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
