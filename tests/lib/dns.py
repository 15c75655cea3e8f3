"""A DNS server of the test, UDP and TCP: A and AAAA records by name, what was asked."""
import socket
import struct
import threading

import config
from wire import HOST, Stream, free_port, patient

A, AAAA, CNAME, OPT, NXDOMAIN, TRUNCATED = 1, 28, 5, 41, 3, 0x200
DATAGRAM = 1232  # a larger answer goes over TCP


class Dns:
    """records: name -> list of addresses; a name that is not there does not exist. `asked`: (name, type) in order."""

    def __init__(self, records=None, ttl=60, host=HOST, port=None):
        self.records, self.ttl, self.asked, self.host = dict(records or {}), ttl, [], host
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = port or free_port()  # of TCP; a listening socket, below, keeps it
        self.sock.bind((host, self.port))
        self.listener = socket.create_server((host, self.port))
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
            s.sendto(b"", (self.host, self.port))  # the thread's end
        self.listener.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join(1)  # one with a connection that its client keeps ends with that
        self.sock.close()
        self.listener.close()


class Reply:
    """An answer: code, flags, records of its answer section as (name, type, ttl, text), whether it has an OPT record."""

    def __init__(self, message):
        self.size, self.id, self.bits, counts = len(message), *struct.unpack_from(">HH", message), struct.unpack_from(">HHHH", message, 4)
        self.code, self.cut, self.authoritative, self.records, self.edns = self.bits & 15, bool(self.bits & 0x200), bool(self.bits & 0x400), [], False
        at = 12
        for _ in range(counts[0]):
            self.question, at = name_at(message, at)
            at += 4
        for i in range(sum(counts[1:])):
            name, at = name_at(message, at)
            kind, _, ttl, n = struct.unpack_from(">HHIH", message, at)
            data, at = at + 10, at + 10 + n
            self.edns = self.edns or kind == OPT
            if i < counts[1]:
                text = name_at(message, data)[0] if kind == CNAME else socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, message[data:at])
                self.records.append((name, kind, ttl, text))
        assert at == len(message), "bytes behind the last record"

    @property
    def addresses(self):
        return sorted(r[3] for r in self.records if r[1] in (A, AAAA))


def name_at(message, at):
    """The name there, with its references, and where it ends."""
    labels, end = [], None
    while message[at]:
        if message[at] >= 0xc0:
            end, at = end or at + 2, struct.unpack_from(">H", message, at)[0] & 0x3fff
            continue
        labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1"))
        at += message[at] + 1
    return ".".join(labels), end or at + 1


def question(name, kind=A, ident=7, edns=None):
    labels = b"".join(bytes([len(x)]) + x.encode("latin-1") for x in name.split("."))
    opt = struct.pack(">BHHIH", 0, OPT, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", ident, 0x100, 1, 0, 0, bool(edns)) + labels + b"\0" + struct.pack(">HH", kind, 1) + opt


def ask(to, name, kind=A, tcp=False, edns=None, ident=7, timeout=15):
    """Asks a name server, from the calling thread's namespace."""
    message = question(name, kind, ident, edns)
    six = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with socket.socket(six, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as s:
        s.settimeout(patient(timeout))
        s.connect(to)
        if not tcp:
            s.send(message)
            reply = Reply(s.recv(65535))
        else:
            s.sendall(struct.pack(">H", len(message)) + message)
            stream = Stream(s)
            reply = Reply(stream.exactly(struct.unpack(">H", stream.exactly(2, timeout))[0], timeout))
    assert reply.id == ident and reply.question == name
    return reply
