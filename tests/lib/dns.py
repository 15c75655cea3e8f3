"""A DNS server of the test, UDP and TCP: A and AAAA records by name, what was asked."""
import socket
import struct
import threading

import config
from wire import HOST, Stream, free_port

A, AAAA, NXDOMAIN, TRUNCATED = 1, 28, 3, 0x200
DATAGRAM = 1232  # a larger answer goes over TCP


class Dns:
    """records: name -> list of addresses; a name that is not there does not exist. `asked`: (name, type) in order."""

    def __init__(self, records=None, ttl=60):
        self.records, self.ttl, self.asked = dict(records or {}), ttl, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = free_port()  # of TCP; a listening socket, below, keeps it
        self.sock.bind((HOST, self.port))
        self.listener = socket.create_server((HOST, self.port))
        self.threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve, self._serve_tcp)]
        for t in self.threads:
            t.start()

    def _serve(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(4096)
                if not query:
                    return
                self.sock.sendto(self._answer(query, DATAGRAM), peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with s:
                try:
                    stream = Stream(s)
                    while True:
                        whole = self._answer(stream.exactly(struct.unpack(">H", stream.exactly(2, 30))[0], 30))
                        s.sendall(struct.pack(">H", len(whole)) + whole)
                except (EOFError, OSError):
                    pass

    def _record(self, address):
        six = ":" in address
        data = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
        return b"\xc0\x0c" + struct.pack(">HHIH", AAAA if six else A, 1, self.ttl, len(data)) + data

    def _answer(self, query, limit=65535):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += query[at] + 1
        name, kind = ".".join(labels), struct.unpack_from(">H", query, at + 1)[0]
        self.asked.append((name, kind))
        found = self.records.get(name)
        records = [self._record(a) for a in found or () if (AAAA if ":" in a else A) == kind]
        code = 0 if found is not None else NXDOMAIN
        if sum(map(len, records)) > limit:
            records, code = [], TRUNCATED
        return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0) + query[12:at + 5] + b"".join(records)

    def fields(self, **options):
        """Fields of a cluster that resolves here."""
        return {"typed_dns_resolver_config": config.ext(
            "envoy.network.dns_resolver.cares", "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            resolvers=[config.address(self.port)], **({"dns_resolver_options": options} if options else {}))}

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", (HOST, self.port))  # the thread's end
        self.listener.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join(1)  # one with a connection that its client keeps ends with that
        self.sock.close()
        self.listener.close()
