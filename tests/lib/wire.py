"""Sockets for tests: a client that sends exact bytes, strict readers of HTTP/1 messages, waiting for conditions."""
import os
import random
import re
import socket
import struct
import time

HOST = "127.0.0.1"


# A program under a sanitizer is several times slower, and so is the machine that it runs on.
PATIENCE = 4 if any(s in os.environ.get("MIZZEN_PROXY", "") for s in ("asan", "tsan")) else 1


def patient(timeout):
    """How long to wait for what must come; short times are meant as they are."""
    return timeout * PATIENCE if timeout >= 2 else timeout


def until(condition, timeout=5.0, what="condition", longest=0.05):
    """Calls condition() until it is true and returns its value; AssertionError with the last value after timeout. @longest: pause between."""
    end, pause = time.monotonic() + patient(timeout), 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what() if callable(what) else what}; last value {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, longest)


_given = set()
_runs = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)) # processes of this run; each has ports of its own
_run = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def free_port():
    """A port below the ephemeral range that nobody holds now and that this run has not given before."""
    for _ in range(500):
        port = 12000 + random.randrange(20000 // _runs) * _runs + _run
        if port in _given:
            continue
        with socket.socket() as s:
            try:
                s.bind((HOST, port))
                _given.add(port)
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def reset(sock):
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Malformed(Exception):
    pass


class Stream:
    """Buffered reading from a socket. Every read has a timeout; the end of the stream is remembered in `ended`."""

    def __init__(self, sock):
        self.sock, self.buf, self.ended = sock, b"", None

    def fill(self, timeout):
        """Reads once; False at the end of the stream ('eof' or 'reset' in ended). TimeoutError when nothing comes."""
        if self.ended:
            return False
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            self.ended = "reset"
            return False
        if not data:
            self.ended = "eof"
            return False
        self.buf += data
        return True

    def until(self, mark, timeout):
        end = time.monotonic() + timeout
        while mark not in self.buf:
            if not self.fill(end - time.monotonic()):
                raise EOFError(f"{self.ended} before {mark!r}; had {self.buf[:200]!r}")
        i = self.buf.index(mark) + len(mark)
        out, self.buf = self.buf[:i], self.buf[i:]
        return out

    def exactly(self, n, timeout):
        end = time.monotonic() + timeout
        while len(self.buf) < n:
            if not self.fill(end - time.monotonic()):
                raise EOFError(f"{self.ended} after {len(self.buf)} of {n} bytes")
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def chunked(self, timeout):
        body = b""
        while True:
            line = self.until(b"\r\n", timeout)[:-2]
            if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", line):
                raise Malformed(f"chunk size {line!r}")
            size = int(line, 16)
            if size == 0:
                return body, self.fields(timeout)
            body += self.exactly(size, timeout)
            if self.exactly(2, timeout) != b"\r\n":
                raise Malformed("chunk without CRLF")

    def fields(self, timeout):
        out = []
        while (line := self.until(b"\r\n", timeout)[:-2]):
            m = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*", line)
            if not m:
                raise Malformed(f"header line {line!r}")
            out.append((m[1].decode().lower(), m[2].decode("latin-1")))
        return out


class Message:
    """One HTTP/1 message: start line, headers (lower-case names, in order), body, trailers; `framing` says how the body was delimited."""

    def __init__(self, start, headers):
        self.start, self.headers, self.body, self.trailers, self.framing = start, headers, b"", [], "none"
        self.informational = []

    def get(self, name, default=None):
        """All values of a header, joined by a comma."""
        values = [v for n, v in self.headers if n == name]
        return ",".join(values) if values else default

    @property
    def status(self):
        return int(self.start.split()[1])

    @property
    def method(self):
        return self.start.split(" ")[0]

    @property
    def target(self):
        return self.start.split(" ")[1]

    def __repr__(self):
        return f"<{self.start} {self.headers} {self.body[:60]!r}>"


def read_request(stream, timeout=5.0):
    """The next request, strictly; Malformed when an upstream could read it in two ways."""
    start = stream.until(b"\r\n", timeout)[:-2]
    if not re.fullmatch(rb"[A-Z!#$%&'*+.^_`|~0-9a-z-]+ [^ \r\n\0\t]+ HTTP/1\.[01]", start):
        raise Malformed(f"request line {start!r}")
    m = Message(start.decode("latin-1"), stream.fields(timeout))
    te, cl = m.get("transfer-encoding"), m.get("content-length")
    if te is not None and cl is not None:
        raise Malformed("content-length beside transfer-encoding")
    if len([1 for n, _ in m.headers if n == "host"]) != 1:
        raise Malformed("not exactly one host")
    if te is not None:
        if te != "chunked":
            raise Malformed(f"transfer-encoding {te}")
        m.framing = "chunked"
    elif cl is not None:
        if not re.fullmatch(r"\d+", cl):
            raise Malformed(f"content-length {cl}")
        m.framing = "length"
    return m


def read_body(m, stream, timeout=5.0):
    if m.framing == "chunked":
        m.body, m.trailers = stream.chunked(timeout)
    elif m.framing == "length":
        m.body = stream.exactly(int(m.get("content-length")), timeout)
    return m


class Client:
    """A connection to the proxy that sends exactly what it is told."""

    def __init__(self, address, timeout=5.0, rcvbuf=0, source=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        timeout = patient(timeout)
        self.sock.settimeout(timeout)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream, self.timeout = Stream(self.sock), timeout

    def send(self, data):
        """Sends; a peer that has closed already is not an error, its answer may still be there to read."""
        try:
            self.sock.settimeout(self.timeout)
            self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
        except ConnectionError:
            pass
        return self

    def response(self, method="GET", timeout=None):
        """The next final response with its body; EOFError when the connection ends before it is complete."""
        timeout = patient(timeout) if timeout else self.timeout
        early = []
        while True:
            start = self.stream.until(b"\r\n", timeout)[:-2].decode("latin-1")
            if not re.fullmatch(r"HTTP/1\.[01] \d{3} .*", start):
                raise Malformed(f"status line {start!r}")
            m = Message(start, self.stream.fields(timeout))
            if 100 <= m.status < 200 and m.status != 101:
                early.append(m)
                continue
            m.informational = early
            break
        if method == "HEAD" or m.status in (101, 204, 304):
            return m
        if m.get("transfer-encoding") == "chunked":
            m.framing = "chunked"
        elif m.get("content-length") is not None:
            m.framing = "length"
        else:
            m.framing = "close"
            while self.stream.fill(timeout):
                pass
            m.body, self.stream.buf = self.stream.buf, b""
            return m
        return read_body(m, self.stream, timeout)

    def responses(self, timeout=None):
        """All responses until the connection ends, as (list of Messages, 'eof' | 'reset' | 'open')."""
        out = []
        try:
            while True:
                out.append(self.response(timeout=timeout))
        except TimeoutError:
            return out, "open"
        except EOFError:
            return out, self.stream.ended

    def ended(self, timeout=None):
        """Waits for the end of the connection: 'eof', 'reset', or 'open' when it stays."""
        try:
            while self.stream.fill(timeout or self.timeout):
                pass
        except TimeoutError:
            return "open"
        return self.stream.ended

    def get(self, path="/", host="a", headers=(), timeout=None):
        lines = "".join(f"{n}: {v}\r\n" for n, v in headers)
        return self.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").response(timeout=timeout)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
