"""A scripted HTTP/2 server (prior knowledge) made of frames, so that it can also do what a server must not.

The script is a list of steps, one per request (the last one repeats), each called as step(conn, stream, request) once the
request is complete, or at its head when the step has `early` set. A step answers by the methods of H2Conn.
"""
import socket
import struct
import threading

import hpack

from wire import HOST, reset

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 7, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class H2Request:
    def __init__(self, connection, stream, headers):
        self.connection, self.stream, self.headers = connection, stream, headers
        self.body, self.trailers, self.complete = b"", [], False

    def __getitem__(self, name):
        return dict(self.headers).get(name)


class H2Conn:
    """The server's end of one connection; a step runs on its reading thread."""

    def __init__(self, upstream, sock, number):
        self.upstream, self.sock, self.number = upstream, sock, number
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.streams, self.resets, self.peer_settings, self.goaways = {}, {}, {}, []
        self.lock, self.grant = threading.Lock(), True

    # ---- sending ----
    def frame(self, kind, flags=0, stream=0, payload=b""):
        with self.lock:
            self.sock.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def flood(self, n, kind, stream=0, payload=b""):
        """n frames in one write, so that many of them reach the proxy in one read however slow this script is."""
        with self.lock:
            self.sock.sendall(n * (struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + struct.pack(">I", stream) + payload))

    def settings(self, values=None):
        self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in (values or {}).items()))

    def headers(self, stream, fields, end=False):
        block = self.encoder.encode(fields)
        self.frame(HEADERS, END_HEADERS * (len(block) <= 16384) | (END_STREAM if end else 0), stream, block[:16384])
        for at in range(16384, len(block), 16384):
            self.frame(CONTINUATION, END_HEADERS if at + 16384 >= len(block) else 0, stream, block[at:at + 16384])

    def data(self, stream, body, end=True):
        for at in range(0, len(body) or 1, 16384):
            self.frame(DATA, END_STREAM if end and at + 16384 >= len(body) else 0, stream, body[at:at + 16384])

    def reply(self, stream, status=200, body=b"ok", headers=(), trailers=()):
        self.headers(stream, [(":status", str(status)), *headers], end=not body and not trailers)
        if body:
            self.data(stream, body, end=not trailers)
        if trailers:
            self.headers(stream, trailers, end=True)

    def rst(self, stream, code=CANCEL):
        self.frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def goaway(self, last, code=NO_ERROR):
        self.frame(GOAWAY, 0, 0, struct.pack(">II", last, code))

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self):
        reset(self.sock)

    # ---- reading ----
    def _read(self, n):
        out = b""
        while len(out) < n:
            more = self.sock.recv(n - len(out))
            if not more:
                raise EOFError
            out += more
        return out

    def serve(self):
        assert self._read(len(PREFACE)) == PREFACE
        self.settings(self.upstream.settings)
        if self.upstream.greet:
            self.upstream.greet(self)
        while True:
            head = self._read(9)
            payload = self._read(int.from_bytes(head[:3], "big"))
            self._frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    def _frame(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.peer_settings.update(struct.iter_unpack(">HI", payload))
            self.encoder.header_table_size = min(self.peer_settings.get(1, 4096), 4096)
            self.frame(SETTINGS, ACK)
        elif kind == PING and not flags & ACK:
            self.frame(PING, ACK, 0, payload)
        elif kind == HEADERS:
            self._headers(stream, flags, payload)
        elif kind == DATA:
            request = self.streams.get(stream)
            if self.grant and payload:
                self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
                if not flags & END_STREAM:
                    self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", len(payload)))
            request.body += payload
            if flags & END_STREAM:
                self._complete(request)
        elif kind == RST_STREAM:
            self.resets[stream] = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">II", payload[:8]))

    def _headers(self, stream, flags, block):
        while not flags & END_HEADERS:
            head = self._read(9)
            assert head[3] == CONTINUATION
            block += self._read(int.from_bytes(head[:3], "big"))
            flags |= head[4] & END_HEADERS
        fields = [(str(n), str(v)) for n, v in self.decoder.decode(block)]
        request = self.streams.get(stream)
        if request is None:
            request = self.streams[stream] = H2Request(self.number, stream, fields)
            request.step = self.upstream.step()
            self.upstream.requests.append(request)
            if getattr(request.step, "early", False):
                request.step(self, stream, request)
        else:
            request.trailers = fields
        if flags & END_STREAM:
            self._complete(request)

    def _complete(self, request):
        request.complete = True
        if not getattr(request.step, "early", False):
            request.step(self, request.stream, request)


def answer(status=200, body=b"ok", headers=(), trailers=(), hold=None):
    def step(conn, stream, request):
        if hold:
            hold.wait(30)
        conn.reply(stream, status, body, headers, trailers)
    return step


def early(step):
    step.early = True
    return step


class H2Upstream:
    """`settings` go out first on each connection, then greet(conn) is called where it is given."""

    def __init__(self, name="up", script=None, settings=None, greet=None):
        self.name, self.script, self.settings, self.greet = name, list(script or [answer()]), settings or {}, greet
        self.requests, self.conns, self.errors = [], [], []
        self.lock = threading.Lock()
        self.listener = socket.create_server((HOST, 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self):
        return len(self.conns)

    def step(self):
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = H2Conn(self, sock, len(self.conns) + 1)
            self.conns.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            conn.serve()
        except (EOFError, OSError):
            pass
        except Exception as e:  # noqa: BLE001 - shown by the test
            self.errors.append(repr(e))
        finally:
            conn.ended = True
            try:
                conn.sock.close()
            except OSError:
                pass

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for c in self.conns:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
