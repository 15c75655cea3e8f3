"""A raw HTTP/2 client (prior knowledge): every frame is the caller's, so that it can also do what a client must not."""
import socket
import struct

import hpack

from h2_upstream import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE
from wire import HOST, until

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
PADDED = 8


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class H2Client:
    """What was received is in `frames` [(kind, flags, stream, payload)]; `end` says how the connection ended: None, "eof", "reset"."""

    def __init__(self, port, settings=None, preface=True, acknowledge=True, source=None, sock=None):
        """@sock: connected already (port is not used)."""
        self.sock = sock or socket.create_connection((HOST, port), 5, source)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.frames, self.headers, self.bodies, self.end, self.acknowledge = [], {}, {}, None, acknowledge
        self.settings, self._rest, self._block = {}, b"", b""
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in (settings or {}).items())))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # ---- sending ----
    def send(self, data):
        """False: the other end has gone."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def head(self, stream, fields=None, end=True, flags=END_HEADERS):
        return frame(HEADERS, flags | (END_STREAM if end else 0), stream, self.encoder.encode(fields or GET))

    def request(self, stream, fields=None, body=None, end=True):
        self.send(self.head(stream, fields, end and body is None) + (frame(DATA, END_STREAM if end else 0, stream, body) if body is not None else b""))

    # ---- receiving ----
    def _take(self, timeout):
        self.sock.settimeout(timeout)
        try:
            got = self.sock.recv(65536)
            if not got:
                self.end = self.end or "eof"
            self._rest += got
        except socket.timeout:
            return
        except OSError:
            self.end = self.end or "reset"
        while len(self._rest) >= 9 and len(self._rest) >= 9 + int.from_bytes(self._rest[:3], "big"):
            n = int.from_bytes(self._rest[:3], "big")
            head, payload, self._rest = self._rest[:9], self._rest[9:9 + n], self._rest[9 + n:]
            self._frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    def _frame(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, payload))
        if kind == SETTINGS and not flags & ACK:
            self.settings.update(struct.iter_unpack(">HI", payload))
            if self.acknowledge:
                self.send(frame(SETTINGS, ACK))
        elif kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & END_HEADERS:
                self.headers.setdefault(stream, []).append([(str(n), str(v)) for n, v in self.decoder.decode(self._block)])
                self._block = b""
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload

    def wait(self, condition, timeout=5, what="frames"):
        """Reads until condition() is true."""
        def step():
            got = condition()
            if not got and not self.end:
                self._take(0.05)
                got = condition()
            return got
        return until(step, timeout, lambda: f"{what}; got {self.frames[-8:]}, end {self.end}")

    def closed(self, timeout=5):
        """Reads until the connection is over."""
        self.wait(lambda: self.end, timeout, "the connection's end")
        return self

    def status(self, stream, timeout=5):
        head = self.wait(lambda: self.headers.get(stream), timeout, f"an answer on {stream}")
        return int(dict(head[-1] if ":status" in dict(head[-1]) else head[0])[":status"])

    def ended(self, stream):
        return any(k in (DATA, HEADERS) and f & END_STREAM and s == stream for k, f, s, _ in self.frames)

    def answer(self, stream, timeout=5):
        """(status, fields, body) once complete."""
        self.wait(lambda: self.ended(stream), timeout, f"the answer on {stream}")
        return self.status(stream), dict(self.headers[stream][0]), self.bodies.get(stream, b"")

    def rst(self, stream):
        """The error code of the stream's RST_STREAM, or None."""
        return next((int.from_bytes(p, "big") for k, _, s, p in self.frames if k == RST_STREAM and s == stream), None)

    def goaways(self):
        """[(last stream, code)]"""
        return [struct.unpack(">II", p[:8]) for k, _, _, p in self.frames if k == GOAWAY]

    def ping(self, data=b"12345678", timeout=5):
        self.send(frame(PING, 0, 0, data))
        self.wait(lambda: (PING, ACK, 0, data) in self.frames, timeout, "the answer to a PING")

    def grant(self, stream, n):
        self.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n)))
