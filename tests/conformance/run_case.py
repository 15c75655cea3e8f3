#!/usr/bin/python3
"""Differential runner: start a proxy with a rendered bootstrap, play a scripted
case against scripted upstreams, and record or check what was observed.

    run_case.py --proxy BIN --check  CASE...
    run_case.py --proxy BIN --record CASE...

CASE is a case folder (has case.yaml) or any folder above some. See README.md in
the envoy/ folder for the format. Needs PyYAML and hpack besides the standard library.
"""
import argparse
import difflib
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import yaml

try:
    import hpack
except ImportError:  # only HTTP/2 cases need it
    hpack = None

HOST = "127.0.0.1"
START_TIMEOUT = 15.0
IO_TIMEOUT = 5.0


# --------------------------------------------------------------------------
# ports, certificates
# --------------------------------------------------------------------------
_used_ports = set()
_port_lock = threading.Lock()


def free_port():
    """A port below the ephemeral range that nobody holds now."""
    with _port_lock:
        for _ in range(500):
            p = random.randint(12000, 31999)
            if p in _used_ports:
                continue
            s = socket.socket()
            try:
                s.bind((HOST, p))
            except OSError:
                continue
            finally:
                s.close()
            _used_ports.add(p)
            return p
    raise RuntimeError("no free port")


def sh(args, cwd=None, inp=None):
    subprocess.run(args, cwd=cwd, input=inp, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certs(d):
    """A small test PKI under d: two roots, servers, clients."""
    os.makedirs(d, exist_ok=True)

    def key(name):
        sh(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key"], d)

    def root(name, cn):
        key(name)
        sh(["openssl", "req", "-x509", "-new", "-key", name + ".key", "-sha256", "-days", "3650",
            "-subj", "/O=Golden/CN=" + cn, "-set_serial", "1", "-out", name + ".pem",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign"], d)

    def leaf(name, cn, san, ca, serial, usage):
        key(name)
        sh(["openssl", "req", "-new", "-key", name + ".key", "-subj", "/O=Golden/CN=" + cn,
            "-out", name + ".csr"], d)
        with open(os.path.join(d, name + ".ext"), "w") as f:
            f.write("subjectAltName=%s\nextendedKeyUsage=%s\nkeyUsage=digitalSignature\n"
                    "basicConstraints=CA:FALSE\n" % (san, usage))
        sh(["openssl", "x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
            "-set_serial", str(serial), "-days", "3600", "-sha256", "-extfile", name + ".ext",
            "-out", name + ".pem"], d)

    root("ca", "golden-root")
    root("other-ca", "other-root")
    leaf("server", "server.example.test", "DNS:server.example.test,DNS:*.wild.example.test,IP:127.0.0.1", "ca", 11, "serverAuth")
    leaf("server2", "two.example.test", "DNS:two.example.test", "ca", 12, "serverAuth")
    leaf("client", "client.example.test", "URI:spiffe://mesh.test/ns/default/sa/client,DNS:client.example.test", "ca", 21, "clientAuth")
    leaf("client-other", "client.example.test", "URI:spiffe://mesh.test/ns/default/sa/client", "other-ca", 22, "clientAuth")
    leaf("client2", "second.example.test", "URI:spiffe://mesh.test/ns/default/sa/second", "ca", 23, "clientAuth")


# --------------------------------------------------------------------------
# normalization
# --------------------------------------------------------------------------
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
HTTP_DATE = re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")
ISO_DATE = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")


def machine_addresses():
    """Addresses of this machine other than loopback: they must not be recorded."""
    import fcntl
    out = set()
    for _, name in socket.if_nameindex():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            r = fcntl.ioctl(s.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            out.add(socket.inet_ntoa(r[20:24]))
        except OSError:
            pass
        finally:
            s.close()
    return {a for a in out if not a.startswith("127.")}


LOCAL_ADDRESSES = machine_addresses()


class Normalizer:
    def __init__(self, names):
        # names: {"PORT_0": 12345, ...}; strings: {"{{TMP}}": "/tmp/x"}
        self.ports = {str(v): "{{%s}}" % k for k, v in names.items() if isinstance(v, int)}
        self.paths = sorted(((str(v), "{{%s}}" % k) for k, v in names.items() if not isinstance(v, int)),
                            key=lambda t: -len(t[0]))
        self.port_re = re.compile(r"(?<![\d.])(%s)(?!\d)" % "|".join(self.ports)) if self.ports else None
        self.addr_re = re.compile(r"(127\.0\.0\.\d+|\[::1\]):(\d{4,5})\b")

    def text(self, s):
        if not isinstance(s, str):
            return s
        for v, k in self.paths:
            s = s.replace(v, k)
        if self.port_re:
            s = self.port_re.sub(lambda m: self.ports[m.group(1)], s)
        s = self.addr_re.sub(r"\1:{{EPHEMERAL}}", s)
        for a in LOCAL_ADDRESSES:
            if a in s:
                s = re.sub(r"(?<![\d.])%s(?![\d])" % re.escape(a), "{{LOCAL_IP}}", s)
        s = re.sub(r"\bHash=[0-9a-f]{64}\b", "Hash={{SHA256}}", s)
        s = re.sub(r"(PROXY TCP[46] \S+ \S+) \d+ ", r"\1 {{EPHEMERAL}} ", s)
        s = UUID.sub(lambda m: "{{UUID:%s}}" % m.group(1), s)
        s = HTTP_DATE.sub("{{DATE}}", s)
        s = ISO_DATE.sub("{{TIME}}", s)
        s = re.sub(r"goo\.gle/\w+\s*", "goo.gle/debugproto ", s)
        s = re.sub(r"(?i)(x-envoy-upstream-service-time: )\d+", r"\1{{MS}}", s)
        s = re.sub(r"(?i)(\r\nserver: )(envoy|mizzen)(?=\r\n)", r"\1{{SERVER}}", s)
        if "{{TIME}}" in s:  # duration and service time of the default access log format
            s = re.sub(r'^(\[\{\{TIME\}\}\] ".*?" \d+ \S+ \d+ \d+ )(\d+) (\d+|-) "',
                       lambda m: m.group(1) + "{{MS}} " + ("-" if m.group(3) == "-" else "{{MS}}") + ' "', s)
        return s

    def headers(self, hs):
        out = []
        for k, v in hs:
            lk = k.lower()
            if lk == "x-envoy-upstream-service-time":
                v = "{{MS}}"
            elif lk == "server" and v in ("envoy", "mizzen"):
                v = "{{SERVER}}"
            elif lk == "x-envoy-expected-rq-timeout-ms" and v.isdigit():
                step = 500 if int(v) > 1000 else 50  # the time that a retry already used up
                v = str(-(-int(v) // step) * step)
            else:
                v = self.text(v)
            out.append([k, v])
        return out

    def deep(self, x):
        if isinstance(x, str):
            return self.text(x)
        if isinstance(x, int) and not isinstance(x, bool) and str(x) in self.ports:
            return self.ports[str(x)]
        if isinstance(x, list):
            return [self.deep(i) for i in x]
        if isinstance(x, dict):
            return {self.text(k): (self.headers(v) if k in ("headers", "trailers") and isinstance(v, list)
                                   and all(isinstance(i, (list, tuple)) and len(i) == 2 for i in v)
                                   else self.deep(v)) for k, v in x.items()}
        return x


def b2s(b):
    return b.decode("latin-1")


def s2b(s):
    return s.encode("latin-1") if isinstance(s, str) else bytes(s)


def expand(v):
    """A body given as text, or as {repeat: TEXT, times: N}, or {hex: ...}."""
    if v is None:
        return b""
    if isinstance(v, dict):
        if "hex" in v:
            return bytes.fromhex(re.sub(r"\s+", "", v["hex"]))
        return s2b(v["repeat"]) * int(v["times"])
    return s2b(str(v))


def squeeze(b):
    """Long bodies are recorded as length and digest."""
    if len(b) > 2048:
        import hashlib
        return {"length": len(b), "sha256": hashlib.sha256(b).hexdigest()}
    return b2s(b)


# --------------------------------------------------------------------------
# buffered socket with deadlines
# --------------------------------------------------------------------------
class Gone(Exception):
    """The peer ended the connection: kind is 'eof', 'reset' or 'timeout'."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


class Wire:
    def __init__(self, sock):
        self.sock = sock
        self.buf = b""
        self.end = None

    def send(self, data):
        try:
            self.sock.settimeout(IO_TIMEOUT)
            self.sock.sendall(data)
            return True
        except (OSError, ssl.SSLError):
            return False

    def fill(self, timeout):
        if self.end:
            raise Gone(self.end)
        self.sock.settimeout(max(timeout, 0.001))
        try:
            d = self.sock.recv(65536)
        except socket.timeout:
            raise Gone("timeout")
        except ssl.SSLWantReadError:
            raise Gone("timeout")
        except ssl.SSLError as e:
            self.end = "tls:" + (e.reason or type(e).__name__)
            raise Gone(self.end)
        except OSError:
            self.end = "reset"
            raise Gone("reset")
        if not d:
            self.end = "eof"
            raise Gone("eof")
        self.buf += d

    def until(self, mark, timeout, limit=4 << 20):
        t = time.monotonic() + timeout
        while mark not in self.buf:
            if len(self.buf) > limit:
                raise Gone("too-long")
            self.fill(t - time.monotonic())
        i = self.buf.index(mark) + len(mark)
        out, self.buf = self.buf[:i], self.buf[i:]
        return out

    def exactly(self, n, timeout):
        t = time.monotonic() + timeout
        while len(self.buf) < n:
            self.fill(t - time.monotonic())
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def rest(self, timeout):
        """Everything until the end or until `timeout` seconds have passed."""
        t = time.monotonic() + timeout
        try:
            while True:
                left = t - time.monotonic()
                if left <= 0:
                    break
                self.fill(left)
        except Gone:
            pass
        out, self.buf = self.buf, b""
        return out

    def close(self, rst=False):
        try:
            if rst:
                raw = self.sock
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass


def read_chunked(w, timeout):
    """Body and trailers; on a cut the exception carries what came (got)."""
    got = []
    try:
        return read_chunked_into(w, timeout, got)
    except Gone as g:
        g.got = b"".join(got)
        raise


def read_chunked_into(w, timeout, got):
    while True:
        line = w.until(b"\r\n", timeout)
        n = int(line.split(b";")[0].strip() or b"0", 16)
        if n == 0:
            break
        got.append(w.exactly(n, timeout))
        w.exactly(2, timeout)
    body = b"".join(got)
    trailers = []
    while True:
        line = w.until(b"\r\n", timeout)
        if line == b"\r\n":
            return body, trailers
        k, _, v = line[:-2].partition(b":")
        trailers.append([b2s(k), b2s(v.strip())])


def parse_head(head):
    lines = head.split(b"\r\n")
    hs = []
    for ln in lines[1:]:
        if ln:
            k, _, v = ln.partition(b":")
            hs.append([b2s(k), b2s(v.strip())])
    return b2s(lines[0]), hs


def hget(hs, name):
    for k, v in hs:
        if k.lower() == name:
            return v
    return None


# --------------------------------------------------------------------------
# HTTP/2, just enough for both roles
# --------------------------------------------------------------------------
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_NAMES = {0: "DATA", 1: "HEADERS", 2: "PRIORITY", 3: "RST_STREAM", 4: "SETTINGS", 5: "PUSH_PROMISE",
               6: "PING", 7: "GOAWAY", 8: "WINDOW_UPDATE", 9: "CONTINUATION"}
ERR = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
       "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
       "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]


def err_name(n):
    return ERR[n] if n < len(ERR) else str(n)


class H2:
    def __init__(self, wire, client, settings=None):
        self.w = wire
        self.client = client
        self.enc = hpack.Encoder()
        self.dec = hpack.Decoder()
        self.dec.max_allowed_table_size = 65536
        self.streams = {}
        self.goaway = None
        self.goaways = []
        self.peer_settings = {}
        self.send_win = 65535
        self.init_win = 65535
        self.stream_win = {}
        self.acks = 0
        self.lock = threading.Lock()
        st = {3: 1000, 4: 1 << 24}
        if client:
            st[2] = 0
        else:
            st[8] = 1
        st.update(settings or {})
        pre = PREFACE if client else b""
        payload = b"".join(struct.pack(">HI", k, v) for k, v in st.items())
        self.w.send(pre + self.frame(4, 0, 0, payload) + self.frame(8, 0, 0, struct.pack(">I", 1 << 24)))

    @staticmethod
    def frame(t, flags, sid, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([t, flags]) + struct.pack(">I", sid) + payload

    def send_headers(self, sid, headers, end):
        with self.lock:
            block = self.enc.encode([(hpack.NeverIndexedHeaderTuple(s2b(k), s2b(v))) for k, v in headers])
            parts = [block[i:i + 16384] for i in range(0, len(block), 16384)] or [b""]
            for i, p in enumerate(parts):
                fl = (0x4 if i == len(parts) - 1 else 0) | (0x1 if end and i == 0 else 0)
                self.w.send(self.frame(1 if i == 0 else 9, fl, sid, p))

    def send_data(self, sid, data, end):
        data = bytes(data)
        t = time.monotonic() + IO_TIMEOUT
        while True:
            win = min(self.send_win, self.stream_win.get(sid, self.init_win), 16384)
            part = data[:max(win, 0)]
            if part or not data:
                self.send_win -= len(part)
                self.stream_win[sid] = self.stream_win.get(sid, self.init_win) - len(part)
                data = data[len(part):]
                self.w.send(self.frame(0, 1 if end and not data else 0, sid, part))
                if not data:
                    return True
                continue
            if time.monotonic() > t:
                return False
            try:
                self.pump(0.2)
            except Gone as g:
                if g.kind != "timeout":
                    return False
            if self.streams.get(sid, {}).get("reset"):
                return False

    def pump(self, timeout):
        """Read and act on one frame; returns (type, sid)."""
        # do not lose a half-read frame on timeout
        t = time.monotonic() + timeout
        while len(self.w.buf) < 9 or len(self.w.buf) < 9 + int.from_bytes(self.w.buf[:3], "big"):
            self.w.fill(t - time.monotonic())
        h = self.w.exactly(9, 1)
        n, typ, fl, sid = int.from_bytes(h[:3], "big"), h[3], h[4], int.from_bytes(h[5:], "big") & 0x7fffffff
        p = self.w.exactly(n, 1) if n else b""
        st = self.streams.setdefault(sid, {"heads": [], "body": b"", "end": False, "reset": None, "block": b""}) if sid else None
        if typ == 4:
            if fl & 1:
                self.acks += 1
            else:
                for i in range(0, len(p), 6):
                    k, v = struct.unpack(">HI", p[i:i + 6])
                    self.peer_settings[k] = v
                    if k == 4:
                        d = v - self.init_win
                        self.init_win = v
                        for s in self.stream_win:
                            self.stream_win[s] += d
                    if k == 1:
                        self.enc.header_table_size = min(v, 4096)
                self.w.send(self.frame(4, 1, 0))
        elif typ == 6:
            if not fl & 1:
                self.w.send(self.frame(6, 1, 0, p))
        elif typ == 7:
            last, code = struct.unpack(">II", p[:8])
            self.goaway = {"last_stream": last & 0x7fffffff, "code": err_name(code), "debug": b2s(p[8:])}
            self.goaways.append(self.goaway)
        elif typ == 8:
            inc = struct.unpack(">I", p)[0] & 0x7fffffff
            if sid:
                self.stream_win[sid] = self.stream_win.get(sid, self.init_win) + inc
            else:
                self.send_win += inc
        elif typ == 3:
            st["reset"] = err_name(struct.unpack(">I", p)[0])
        elif typ in (1, 9):
            if typ == 1:
                pad = 0
                if fl & 8:
                    pad, p = p[0], p[1:]
                if fl & 0x20:
                    p = p[5:]
                p = p[:len(p) - pad]
                st["pend_end"] = bool(fl & 1)
            st["block"] += p
            if fl & 4:
                hs = [[b2s(a if isinstance(a, bytes) else a.encode()), b2s(b if isinstance(b, bytes) else b.encode())]
                      for a, b in self.dec.decode(st["block"], raw=True)]
                st["block"] = b""
                st["heads"].append(hs)
                if st["pend_end"]:
                    st["end"] = True
        elif typ == 0:
            q = p
            if fl & 8:
                q = p[1:len(p) - p[0]]
            st["body"] += q
            if n:
                self.w.send(self.frame(8, 0, 0, struct.pack(">I", n)))
                if not fl & 1:
                    self.w.send(self.frame(8, 0, sid, struct.pack(">I", n)))
            if fl & 1:
                st["end"] = True
        return typ, sid


# --------------------------------------------------------------------------
# scripted upstreams
# --------------------------------------------------------------------------
class Upstream:
    def __init__(self, name, spec, certs, render):
        self.name, self.spec, self.certs, self.render = name, spec or {}, certs, render
        self.proto = self.spec.get("protocol", "http1")
        self.records, self.conns, self.lock = [], 0, threading.Lock()
        self.uses = {}
        self.stop = False
        self.live = []
        self.fillers = []
        addr = self.spec.get("address", HOST)
        fam = socket.AF_INET6 if ":" in addr else socket.AF_INET
        self.sock = socket.socket(fam)
        self.port = free_port()
        self.sock.bind((addr, self.port))
        if self.proto == "refuse":
            return
        if self.proto == "blackhole":  # accept queue full: connects hang
            self.sock.listen(0)
            for _ in range(3):
                s = socket.socket()
                s.setblocking(False)
                try:
                    s.connect((addr, self.port))
                except BlockingIOError:
                    pass
                self.fillers.append(s)
            return
        self.ctx = None
        t = self.spec.get("tls")
        if t is not None:
            self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            c = t.get("cert", "server")
            self.ctx.load_cert_chain(os.path.join(certs, c + ".pem"), os.path.join(certs, c + ".key"))
            if t.get("alpn"):
                self.ctx.set_alpn_protocols(t["alpn"])
            if t.get("client_ca"):
                self.ctx.verify_mode = ssl.CERT_REQUIRED
                self.ctx.load_verify_locations(os.path.join(certs, t["client_ca"] + ".pem"))
            if t.get("max_version") == "1.2":
                self.ctx.maximum_version = ssl.TLSVersion.TLSv1_2
        self.sock.listen(64)
        threading.Thread(target=self.accept_loop, daemon=True).start()

    def accept_loop(self):
        while not self.stop:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.conns += 1
                n = self.conns
                self.live.append(s)
            threading.Thread(target=self.serve, args=(s, n), daemon=True).start()

    def rec(self, r):
        with self.lock:
            self.records.append(r)
            return r

    def serve(self, s, n):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        info = {}
        try:
            if self.spec.get("on_accept") == "close":
                s.close()
                return
            if self.spec.get("on_accept") == "reset":
                Wire(s).close(rst=True)
                return
            if self.ctx:
                sni = []
                try:
                    s.settimeout(IO_TIMEOUT)
                    self.ctx.sni_callback = lambda so, name, c: sni.append(name)
                    s = self.ctx.wrap_socket(s, server_side=True)
                except (OSError, ssl.SSLError) as e:
                    if self.spec.get("record_tls", True):
                        self.rec({"conn": n, "tls_failure": getattr(e, "reason", None) or type(e).__name__})
                    return
                with self.lock:
                    self.live.append(s)
                info = {"sni": sni[0] if sni else None, "alpn": s.selected_alpn_protocol(), "version": s.version()}
                pc = s.getpeercert()
                if pc:
                    info["client_san"] = [list(x) for x in pc.get("subjectAltName", ())]
            w = Wire(s)
            if self.proto == "http1":
                self.http1(w, n, info)
            elif self.proto == "http2":
                self.http2(w, n, info)
            elif self.proto == "auto":
                if info.get("alpn") == "h2":
                    self.http2(w, n, info)
                else:
                    self.http1(w, n, info)
            else:
                self.tcp(w, n, info, self.spec.get("script", [{"echo": True}]))
        except Gone:
            pass
        except (OSError, ValueError, struct.error):
            pass
        finally:
            if not self.spec.get("_hold"):
                try:
                    s.close()
                except OSError:
                    pass

    # one response specification for one request
    def choose(self, path, headers):
        rs = self.spec.get("responses") or [{}]
        with self.lock:
            for i, r in enumerate(rs):
                if "path" in r and not path.startswith(r["path"]):
                    continue
                if "header" in r and hget(headers, r["header"][0]) != str(r["header"][1]):
                    continue
                last = i == len(rs) - 1
                times = r.get("times", None if (last or "path" in r or "header" in r) else 1)
                used = self.uses.get(i, 0)
                if times is not None and used >= times:
                    continue
                self.uses[i] = used + 1
                return r
        return {}

    def body_of(self, r):
        if "body" in r:
            v = r["body"]
            return expand(self.render(v) if isinstance(v, str) else v)
        if r.get("status", 200) in (204, 304) or 100 <= r.get("status", 200) < 200:
            return b""
        return s2b(self.name)

    def http1(self, w, n, info):
        while not self.stop:
            head = b""
            while head in (b"", b"\r\n"):
                head = w.until(b"\r\n", 60)
            if not head.endswith(b"\r\n\r\n"):
                while True:
                    ln = w.until(b"\r\n", 60)
                    head += ln
                    if ln == b"\r\n":
                        break
            line, hs = parse_head(head[:-4])
            method, path = (line.split(" ") + ["", ""])[:2]
            r = self.choose(path, hs)
            recd = {"conn": n, "line": line, "headers": hs}
            if info:
                recd["tls"] = info
            keep = r.get("record", True)
            if keep:
                self.rec(recd)
            if r.get("early"):  # answer before the body is read
                if not self.reply1(w, r, method):
                    return
            if hget(hs, "expect") and r.get("continue", True) and not r.get("early"):
                w.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                if (hget(hs, "transfer-encoding") or "").lower() == "chunked":
                    body, tr = read_chunked(w, 30)
                    recd["body"] = squeeze(body)
                    if tr:
                        recd["trailers"] = tr
                elif hget(hs, "content-length"):
                    recd["body"] = squeeze(w.exactly(int(hget(hs, "content-length")), 30))
            except Gone as g:
                recd["body_cut"] = g.kind
                raise
            if r.get("early"):
                continue
            if not self.reply1(w, r, method):
                return
            if (r.get("status") == 101 and hget(hs, "upgrade")) or (method == "CONNECT" and r.get("status", 200) == 200):
                self.tcp(w, n, {}, r.get("then", [{"echo": True}]))
                return

    def reply1(self, w, r, method):
        if r.get("delay"):
            time.sleep(r["delay"])
        act = r.get("action", "respond")
        if act == "hang":
            w.rest(30)
            return False
        if act == "close":
            w.close()
            return False
        if act == "reset":
            w.close(rst=True)
            return False
        if "raw" in r:
            raws = r["raw"] if isinstance(r["raw"], list) else [r["raw"]]
            for piece in raws:
                if isinstance(piece, dict) and "sleep" in piece:
                    time.sleep(piece["sleep"])
                else:
                    w.send(expand(piece))
        else:
            for inf in r.get("informational", []):
                w.send(s2b("HTTP/1.1 %d Info\r\n%s\r\n" % (inf["status"], "".join("%s: %s\r\n" % tuple(h) for h in inf.get("headers", [])))))
            st = r.get("status", 200)
            body = self.body_of(r)
            hs = [[k, self.render(str(v))] for k, v in r.get("headers", [])]
            out = "HTTP/1.1 %d %s\r\n" % (st, r.get("reason", {200: "OK", 503: "Service Unavailable", 101: "Switching Protocols"}.get(st, "Status")))
            chunked = r.get("chunked") or r.get("trailers")
            names = [k.lower() for k, _ in hs]
            if chunked:
                hs.append(["transfer-encoding", "chunked"])
            elif method == "CONNECT" and st == 200:
                body = b""
            elif "content-length" not in names and st not in (204, 304, 101):
                hs.append(["content-length", str(len(body))])
            out += "".join("%s: %s\r\n" % (k, v) for k, v in hs) + "\r\n"
            data = s2b(out)
            if method == "HEAD" or st in (204, 304):
                w.send(data)
            elif chunked:
                w.send(data)
                if r.get("mid_delay"):
                    time.sleep(r["mid_delay"])
                pieces = [s2b(c) for c in r["chunked"]] if isinstance(r.get("chunked"), list) else ([body] if body else [])
                for c in pieces:
                    w.send(b"%x\r\n%s\r\n" % (len(c), c))
                if r.get("truncate"):
                    w.close(rst=r["truncate"] == "reset")
                    return False
                w.send(b"0\r\n" + s2b("".join("%s: %s\r\n" % tuple(t) for t in r.get("trailers") or [])) + b"\r\n")
            elif r.get("mid_delay"):
                w.send(data)
                time.sleep(r["mid_delay"])
                w.send(body)
            else:
                w.send(data + body)
        if r.get("close"):
            time.sleep(r.get("close_delay", 0))
            w.close(rst=r["close"] == "reset")
            return False
        return True

    def http2(self, w, n, info):
        pre = w.exactly(len(PREFACE), 60)
        if pre != PREFACE:
            self.rec({"conn": n, "bad_preface": b2s(pre)})
            return
        settings = {int(k): v for k, v in (self.spec.get("settings") or {}).items()}
        h = H2(w, False, settings)
        done = set()
        while not self.stop:
            typ, sid = h.pump(60)
            if not sid or sid in done:
                continue
            st = h.streams[sid]
            if not st["heads"]:
                continue
            hs = st["heads"][0]
            if "r" not in st:
                st["r"] = self.choose(hget(hs, ":path") or "", hs)
                st["rec"] = {"conn": n, "h2": True, "headers": hs}
                if info:
                    st["rec"]["tls"] = info
                if st["r"].get("record", True):
                    self.rec(st["rec"])
            if st["reset"]:
                st["rec"]["reset"] = st["reset"]
                done.add(sid)
                continue
            connect = hget(hs, ":method") == "CONNECT"
            if connect and not st.get("opened"):
                st["opened"] = True
                r = st["r"]
                h.send_headers(sid, [[":status", str(r.get("status", 200))]] + [[k, self.render(str(v))] for k, v in r.get("headers", [])], False)
            if connect:
                if st["body"]:
                    d, st["body"] = st["body"], b""
                    st["rec"]["body"] = st["rec"].get("body", "") + b2s(d)
                    h.send_data(sid, d, False)
                if st["end"]:
                    st["rec"]["end"] = True
                    h.send_data(sid, b"", True)
                    done.add(sid)
                continue
            if st["end"] or st["r"].get("early"):
                done.add(sid)
                if st["body"]:
                    st["rec"]["body"] = squeeze(st["body"])
                if len(st["heads"]) > 1:
                    st["rec"]["trailers"] = st["heads"][1]
                if not self.reply2(h, sid, st["r"], hget(hs, ":method")):
                    return

    def reply2(self, h, sid, r, method):
        if r.get("delay"):
            time.sleep(r["delay"])
        act = r.get("action", "respond")
        if act == "hang":
            return True
        if act == "close":
            h.w.close()
            return False
        if act == "reset":
            h.w.close(rst=True)
            return False
        if act == "rst_stream":
            h.w.send(h.frame(3, 0, sid, struct.pack(">I", ERR.index(r.get("code", "INTERNAL_ERROR")))))
            return True
        if act == "goaway":
            h.w.send(h.frame(7, 0, 0, struct.pack(">II", r.get("last_stream", 0), ERR.index(r.get("code", "NO_ERROR")))))
            return True
        body = self.body_of(r)
        st = r.get("status", 200)
        hs = [[":status", str(st)]] + [[k.lower(), self.render(str(v))] for k, v in r.get("headers", [])]
        tr = r.get("trailers")
        if r.get("trailers_only"):
            h.send_headers(sid, hs, True)
            return True
        nobody = method == "HEAD" or not body
        h.send_headers(sid, hs, nobody and not tr)
        if not nobody:
            if r.get("mid_delay"):
                time.sleep(r["mid_delay"])
            h.send_data(sid, body, not tr and not r.get("rst_after"))
            if r.get("rst_after"):
                h.w.send(h.frame(3, 0, sid, struct.pack(">I", ERR.index(r["rst_after"]))))
                return True
        if tr:
            h.send_headers(sid, [[k, str(v)] for k, v in tr], True)
        if r.get("then_goaway"):
            h.w.send(h.frame(7, 0, 0, struct.pack(">II", sid, 0)))
        if r.get("close"):
            h.w.close()
            return False
        return True

    def tcp(self, w, n, info, script):
        recd = {"conn": n, "received": "", "end": "open"}
        if info:
            recd["tls"] = info
        self.rec(recd)

        def note(b):
            recd["received"] = b2s(s2b(recd["received"]) + b)

        for step in script:
            try:
                if "send" in step:
                    w.send(expand(step["send"]))
                elif "recv" in step:
                    note(w.exactly(int(step["recv"]), step.get("timeout", 10)))
                elif "recv_until" in step:
                    note(w.until(s2b(step["recv_until"]), step.get("timeout", 10)))
                elif "recv_eof" in step:
                    while True:
                        note(w.buf)
                        w.buf = b""
                        w.fill(step.get("timeout", 20))
                elif "echo" in step:
                    while True:
                        if not w.buf:
                            w.fill(step.get("timeout", 20))
                        d, w.buf = w.buf, b""
                        note(d)
                        w.send(d)
                elif "sleep" in step:
                    time.sleep(step["sleep"])
                elif "shutdown" in step:
                    w.sock.shutdown(socket.SHUT_WR)
                elif "close" in step:
                    w.close()
                    recd["end"] = "closed"
                    return
                elif "reset" in step:
                    w.close(rst=True)
                    recd["end"] = "reset-sent"
                    return
            except Gone as g:
                recd["end"] = g.kind
                if g.kind == "timeout" or not ("recv_eof" in step or "echo" in step):
                    return
        w.rest(0.01)

    def shutdown(self):
        self.stop = True
        for s in [self.sock] + self.live + self.fillers:
            try:
                s.close()
            except OSError:
                pass


# --------------------------------------------------------------------------
# the case
# --------------------------------------------------------------------------
class CaseError(Exception):
    pass


class Case:
    def __init__(self, path, proxy, certs_dir, keep=False, extra_args=()):
        self.path = path
        self.proxy = proxy
        self.keep = keep
        self.extra_args = list(extra_args)
        with open(os.path.join(path, "case.yaml")) as f:
            self.spec = yaml.safe_load(f)
        self.certs = certs_dir
        self.tmp = tempfile.mkdtemp(prefix="gold-")
        self.proc = None
        self.conns = {}
        self.bg = {}
        self.ups = {}

    # -- rendering
    def render(self, s):
        def sub(m):
            k = m.group(1).strip()
            if k not in self.names:
                if re.fullmatch(r"(PORT|FREE)_\w+|ADMIN", k):
                    self.names[k] = free_port()
                else:
                    raise CaseError("unknown placeholder {{%s}}" % k)
            return str(self.names[k])
        return re.sub(r"\{\{\s*([A-Z][A-Z0-9_]*)\s*\}\}", sub, s)

    def port(self, name):
        if isinstance(name, int):
            return name
        return int(self.render("{{%s}}" % name))

    # -- life cycle
    def run(self):
        try:
            if self.spec.get("kind") == "validate":
                return self.run_validate()
            return self.run_traffic()
        finally:
            self.cleanup()

    def base_names(self):
        self.names = {"TMP": self.tmp, "CERTS": self.certs or "/no-certificates-made",
                      "ACCESS_LOG": os.path.join(self.tmp, "access.log")}

    def run_validate(self):
        self.base_names()
        with open(os.path.join(self.path, "bootstrap.yaml")) as f:
            text = self.render(f.read())
        ext = self.spec.get("ext", "yaml")
        cfg = os.path.join(self.tmp, "bootstrap." + ext)
        with open(cfg, "w") as f:
            f.write(text)
        args = [self.proxy, "--mode", "validate"] + ([] if self.spec.get("no_config") else ["-c", cfg]) + [self.render(a) for a in self.spec.get("args", [])]
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=15)
        err = p.stderr.decode("utf-8", "replace")
        msgs = []
        cur = None
        for ln in err.splitlines():
            m = re.match(r"^\[[^]]+\]\[\d+\]\[(\w+)\]\[(\w+)\] (?:\[[^]]*\] )?(.*)$", ln)
            if m:
                cur = None
                if m.group(1) in ("critical", "error"):
                    cur = [m.group(3)]
                    msgs.append(cur)
            elif cur is not None:
                cur.append(ln)
            elif ln.strip() and not msgs:
                pass
        norm = Normalizer(self.names)
        obs = {"exit_code": p.returncode, "errors": [self.tidy_error("\n".join(m)) for m in msgs],
               "stdout": p.stdout.decode("utf-8", "replace")}
        return norm.deep(obs)

    @staticmethod
    def tidy_error(e):
        """Take out what changes from run to run: dumps of the configuration, offsets, spacing."""
        e = re.sub(r"goo\.gle/\w+.*?\n: ", "{{PROTO}}: ", e, flags=re.S)
        e = re.sub(r"goo\.gle/\w+.*$", "{{PROTO}}", e, flags=re.S)
        e = re.sub(r"\): [{\[\"].*$", "): {{CONFIG}}", e, flags=re.S)
        e = re.sub(r"\s+", " ", e)
        return re.sub(r"near \d+:\d+ \(offset \d+\)", "near {{POSITION}}", e).strip()

    def run_traffic(self):
        self.base_names()
        self.names["ADMIN"] = free_port()
        for name, spec in (self.spec.get("upstreams") or {}).items():
            u = Upstream(name, spec, self.certs, self.render)
            self.ups[name] = u
            self.names[name] = u.port
        for name, text in (self.spec.get("files") or {}).items():
            p = os.path.join(self.tmp, name)
            os.makedirs(os.path.dirname(p), exist_ok=True)
            with open(p, "w") as f:
                f.write(self.render(text))
        with open(os.path.join(self.path, "bootstrap.yaml")) as f:
            text = self.render(f.read())
        cfg = os.path.join(self.tmp, "bootstrap.yaml")
        with open(cfg, "w") as f:
            f.write(text)
        self.start(cfg)
        results = [self.action(a) for a in self.spec.get("actions", [])]
        for w in self.conns.values():
            w.close()
        obs = {"actions": [r for r in results if r is not None]}
        log = self.settle_log()
        st = self.final_stats()
        ups = {}
        for name, u in self.ups.items():
            if u.proto in ("refuse", "blackhole"):
                continue
            with u.lock:
                ups[name] = json.loads(json.dumps({"connections": u.conns, "requests": u.records}))
            if self.spec.get("ignore_upstream_connections"):
                del ups[name]["connections"]
        self.stop()
        norm = Normalizer(self.names)
        obs = norm.deep(obs)
        if not self.spec.get("ignore_upstreams"):
            obs["upstreams"] = norm.deep(ups)
        obs["access_log"] = [norm.text(x) for x in log]
        if self.spec.get("unordered_log"):
            obs["access_log"].sort()
        if st is not None:
            obs["stats"] = st
        return obs

    def start(self, cfg):
        args = [self.proxy, "-c", cfg, "--concurrency", str(self.spec.get("concurrency", 1)),
                "--disable-hot-restart", "--file-flush-interval-msec", "20", "-l", self.spec.get("log_level", "info")]
        args += [self.render(a) for a in self.spec.get("args", [])] + self.extra_args
        self.err = open(os.path.join(self.tmp, "proxy.log"), "wb")
        self.proc = subprocess.Popen(args, stdout=self.err, stderr=self.err, stdin=subprocess.DEVNULL, cwd=self.tmp)
        t = time.monotonic() + START_TIMEOUT
        while time.monotonic() < t:
            if self.proc.poll() is not None:
                raise CaseError("proxy ended at start, exit %s\n%s" % (self.proc.returncode, self.tail()))
            try:
                st, _, body = self.http_get("/ready", 1)
                if st == 200:
                    if self.spec.get("settle"):
                        time.sleep(self.spec["settle"])
                    return
            except (OSError, Gone, ValueError):
                pass
            time.sleep(0.02)
        raise CaseError("proxy not ready in %ss\n%s" % (START_TIMEOUT, self.tail()))

    def tail(self, n=15):
        self.err.flush()
        with open(os.path.join(self.tmp, "proxy.log"), "rb") as f:
            lines = f.read().decode("utf-8", "replace").splitlines()
        return "\n".join(x[:700] for x in lines[-n:] if len(x) < 700 or "info" not in x[:60])

    def stop(self):
        p = self.proc
        if not p or p.poll() is not None:
            return
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(3)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait(3)

    def cleanup(self):
        for w in self.conns.values():
            w.close()
        for u in self.ups.values():
            u.shutdown()
        try:
            self.stop()
        finally:
            if getattr(self, "err", None):
                self.err.close()
            if self.keep:
                print("kept", self.tmp)
            else:
                shutil.rmtree(self.tmp, ignore_errors=True)

    # -- observations
    def http_get(self, path, timeout=IO_TIMEOUT, method="GET", body=b""):
        s = socket.create_connection((HOST, self.names["ADMIN"]), timeout)
        w = Wire(s)
        try:
            w.send(s2b("%s %s HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (method, path, len(body))) + body)
            r = read_response(w, method, timeout)
            return r["status"], r["headers"], r["_body"]
        finally:
            w.close()

    def stats_text(self):
        _, _, b = self.http_get("/stats")
        norm = Normalizer(self.names)
        out = {}
        for ln in b.decode("utf-8", "replace").splitlines():
            k, sep, v = ln.partition(": ")
            if sep:
                out[norm.text(k).replace("127.0.0.1_{{", "127.0.0.1_{{")] = int(v) if re.fullmatch(r"-?\d+", v) else v
        return out

    def pick(self, wanted, allst):
        out = {}
        for wname in wanted:
            if wname.startswith("/") and wname.endswith("/"):
                rx = re.compile(wname[1:-1])
                out.update({k: v for k, v in allst.items() if rx.search(k)})
            else:
                out[wname] = allst.get(wname)
        return dict(sorted(out.items()))

    def final_stats(self):
        wanted = self.spec.get("stats")
        if not wanted:
            return None
        prev = None
        if self.proc.poll() is not None:
            return None
        for _ in range(15):
            cur = self.pick(wanted, self.stats_text())
            if cur == prev:
                break
            prev = cur
            time.sleep(0.08)
        return cur

    def settle_log(self):
        path = self.names["ACCESS_LOG"]
        want = self.spec.get("log_lines")
        last, stable, t = None, 0, time.monotonic() + 2.0
        while time.monotonic() < t:
            try:
                with open(path) as f:
                    cur = f.read()
            except OSError:
                cur = ""
            lines = cur.splitlines()
            if want is not None and len(lines) >= want:
                break
            stable = stable + 1 if cur == last else 0
            last = cur
            if want is None and stable >= 6:
                break
            time.sleep(0.025)
        return cur.splitlines()

    # -- actions
    def action(self, a):
        a = dict(a)
        if "bg" in a:
            name = a.pop("bg")
            box = {}

            def go():
                try:
                    box["r"] = self.action(a)
                except Exception as e:  # noqa: BLE001
                    box["r"] = {"failure": str(e)}
            t = threading.Thread(target=go, daemon=True)
            t.start()
            self.bg[name] = (t, box)
            return None
        if "join" in a:
            t, box = self.bg[a["join"]]
            t.join(10)
            return {"join": a["join"], "result": box.get("r", "unfinished")}
        if "sleep" in a:
            time.sleep(a["sleep"])
            return None
        if "stats" in a:
            return {"stats": self.pick(a["stats"], self.stats_text())}
        if "wait_stat" in a:
            w = a["wait_stat"]
            t = time.monotonic() + w.get("timeout", 3)
            v = None
            while time.monotonic() < t:
                v = self.stats_text().get(w["name"])
                if v == w["value"] or (w.get("at_least") and v is not None and v >= w["value"]):
                    return {"wait_stat": w["name"], "value": w["value"], "reached": True}
                time.sleep(0.03)
            return {"wait_stat": w["name"], "value": v, "reached": False}
        if "wait_upstream" in a:
            w = a["wait_upstream"]
            t = time.monotonic() + w.get("timeout", 3)
            while time.monotonic() < t:
                if len(self.ups[w["name"]].records) >= w["requests"]:
                    return None
                time.sleep(0.02)
            return {"wait_upstream": w["name"], "reached": False}
        if "admin" in a:
            return self.do_admin(a["admin"])
        if "http" in a:
            return self.repeat(a["http"], self.do_http)
        if "raw" in a:
            return self.repeat(a["raw"], self.do_raw)
        if "h2" in a:
            return self.repeat(a["h2"], self.do_h2)
        if "close" in a:
            w = self.conns.pop(a["close"])
            w.close(rst=a.get("rst", False))
            return None
        if "write_file" in a:  # written aside and moved into place
            f = a["write_file"]
            p = os.path.join(self.tmp, f["name"])
            with open(p + ".new", "w") as o:
                o.write(self.render(f["text"]))
            os.rename(p + ".new", p)
            return None
        if "wait_http" in a:  # repeat a request until its body or status is as wanted
            w = a["wait_http"]
            t = time.monotonic() + w.get("timeout", 3)
            while True:
                r = self.do_http(w["request"])
                got = r.get("body") if "body" in w else r.get("status")
                if got == w.get("body", w.get("status")) or time.monotonic() > t:
                    return {"wait_http": got}
                time.sleep(0.03)
        if "wait_exit" in a:
            try:
                return {"exit_code": self.proc.wait(a["wait_exit"])}
            except subprocess.TimeoutExpired:
                return {"exit_code": "still running"}
        if "signal" in a:
            self.proc.send_signal(getattr(signal, a["signal"]))
            return None
        raise CaseError("unknown action %r" % (a,))

    def repeat(self, spec, fn):
        n = spec.get("repeat", 1)
        if n == 1 and not (spec.get("brief") or spec.get("counts") or spec.get("distinct") or spec.get("cycle")):
            return fn(spec)
        rs = []
        for _ in range(n):
            r = fn(spec)
            body = r.get("body")
            rs.append("%s %s" % (r.get("status"), body if isinstance(body, str) else "") if "status" in r else json.dumps(r))
        if spec.get("counts"):
            c = {}
            for r in rs:
                c[r] = c.get(r, 0) + 1
            return {"counts": dict(sorted(c.items()))}
        if spec.get("distinct"):
            return {"requests": n, "distinct": len(set(rs)), "statuses": sorted({r.split(" ")[0] for r in rs})}
        if spec.get("cycle"):
            period = len(set(rs))
            i = rs[:period].index(min(rs[:period]))
            turned = rs[i:] + rs[:i]
            return {"cycle": turned[:period], "regular": all(rs[k] == rs[k + period] for k in range(len(rs) - period))}
        return {"results": rs}

    def do_admin(self, a):
        method = a.get("method", "GET")
        st, hs, body = self.http_get(self.render(a["path"]), 5, method, s2b(a.get("body", "")))
        text = body.decode("utf-8", "replace")
        out = {"admin": "%s %s" % (method, a["path"]), "status": st, "headers": hs}
        if a.get("json_keys"):
            try:
                out["keys"] = sorted(json.loads(text).keys())
            except (ValueError, AttributeError):
                out["keys"] = None
        elif a.get("json_types"):
            out["types"] = [c.get("@type") for c in json.loads(text).get("configs", [])]
        elif "lines" in a:
            rx = [re.compile(x) for x in a["lines"]]
            norm = Normalizer(self.names)
            out["lines"] = sorted(x for x in (norm.text(t) for t in text.splitlines()) if any(r.search(x) for r in rx))
        elif a.get("body_kind") == "none":
            pass
        else:
            out["body"] = text
            if text[:1] in "{[" and "json" in (hget(hs, "content-type") or "") or a.get("json"):
                try:
                    out["json"] = json.loads(text)
                    del out["body"]
                except ValueError:
                    pass
        return out

    def connect(self, a):
        if a.get("conn") and a["conn"] in self.conns:
            return self.conns[a["conn"]], None
        s = socket.socket()
        if a.get("rcvbuf"):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, a["rcvbuf"])
        if a.get("source"):
            s.bind((a["source"], 0))
        s.settimeout(IO_TIMEOUT)
        try:
            s.connect((a.get("address", HOST), self.port(a.get("port", "PORT_0"))))
        except ConnectionRefusedError:
            s.close()
            return None, {"connect": "refused"}
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pre = a.get("prefix")
        if pre is not None:
            s.sendall(expand(self.render(pre) if isinstance(pre, str) else pre))
        tls = a.get("tls")
        info = None
        if tls is not None:
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            ctx.check_hostname = False
            ctx.verify_mode = ssl.CERT_REQUIRED
            ctx.load_verify_locations(os.path.join(self.certs, "ca.pem"))
            if tls.get("alpn"):
                ctx.set_alpn_protocols(tls["alpn"])
            if tls.get("cert"):
                c = os.path.join(self.certs, tls["cert"])
                ctx.load_cert_chain(c + ".pem", c + ".key")
            if tls.get("max_version") == "1.2":
                ctx.maximum_version = ssl.TLSVersion.TLSv1_2
            if tls.get("min_version") == "1.3":
                ctx.minimum_version = ssl.TLSVersion.TLSv1_3
            try:
                s = ctx.wrap_socket(s, server_hostname=tls.get("sni"))
            except ssl.SSLError as e:
                s.close()
                return None, {"tls": {"failure": e.reason or type(e).__name__}}
            except OSError as e:
                s.close()
                return None, {"tls": {"failure": type(e).__name__}}
            cert = s.getpeercert()
            info = {"tls": {"version": s.version(), "alpn": s.selected_alpn_protocol(),
                            "cipher": s.cipher()[0] if tls.get("show_cipher") else None,
                            "server_cn": dict(x[0] for x in cert["subject"]).get("commonName")}}
            if not tls.get("show_cipher"):
                del info["tls"]["cipher"]
        w = Wire(s)
        if a.get("conn"):
            self.conns[a["conn"]] = w
        return w, info

    def do_http(self, a):
        w, info = self.connect(a)
        if w is None:
            return info
        method, version = a.get("method", "GET"), a.get("version", "HTTP/1.1")
        path = self.render(str(a.get("path", "/")))
        hs = []
        if a.get("host", True) is not None and not any(k.lower() == "host" for k, _ in a.get("headers", [])):
            h = a.get("host", "example.test")
            if h is not True:
                hs.append(["host", self.render(h)])
        hs += [[k, self.render(str(v))] for k, v in a.get("headers", [])]
        if a.get("jar") and getattr(self, "jar", None):
            hs.append(["cookie", self.jar])
        body = expand(a.get("body"))
        if a.get("chunks") is not None or a.get("trailers"):
            hs.append(["transfer-encoding", "chunked"])
        elif "body" in a and not any(k.lower() == "content-length" for k, _ in hs):
            hs.append(["content-length", str(len(body))])
        data = s2b("%s %s %s\r\n%s\r\n" % (method, path, version, "".join("%s: %s\r\n" % (k, v) for k, v in hs)))
        if a.get("chunks") is not None or a.get("trailers"):
            pieces = [expand(c) for c in (a.get("chunks") or [])] or ([body] if body else [])
            for c in pieces:
                data += b"%x\r\n%s\r\n" % (len(c), c)
            data += b"0\r\n" + s2b("".join("%s: %s\r\n" % tuple(t) for t in a.get("trailers") or [])) + b"\r\n"
        else:
            data += body
        t0 = time.monotonic()
        w.send(data)
        out = dict(info or {})
        if a.get("abandon"):
            time.sleep(a["abandon"])
            w.close(rst=a.get("rst", False))
            return {"abandoned": True}
        if a.get("read_after"):
            time.sleep(a["read_after"])
        r = read_response(w, method, a.get("timeout", IO_TIMEOUT))
        r.pop("_body", None)
        if a.get("jar") and hget(r.get("headers", []), "set-cookie"):
            self.jar = hget(r["headers"], "set-cookie").split(";")[0]
        out.update(r)
        if "min_time" in a:
            out["took_at_least_%ss" % a["min_time"]] = time.monotonic() - t0 >= a["min_time"]
        if "max_time" in a:
            out["took_at_most_%ss" % a["max_time"]] = time.monotonic() - t0 <= a["max_time"]
        if "then" in a and str(r.get("status")) in ("101", "200"):
            w.send(expand(a["then"]["send"]))
            got = b""
            t = time.monotonic() + a["then"].get("timeout", 2)
            need = a["then"].get("expect", len(expand(a["then"]["send"])))
            try:
                while len(w.buf) < need:
                    w.fill(t - time.monotonic())
            except Gone as g:
                out["then_end"] = g.kind
            got, w.buf = w.buf, b""
            out["then_received"] = b2s(got)
        if "wait_close" in a and not out.get("ended"):
            extra = w.rest(a["wait_close"])
            if extra:
                out["extra"] = b2s(extra)
            out["connection"] = w.end or "open"
        if not a.get("conn"):
            w.close()
        return out

    def do_raw(self, a):
        w, info = self.connect(a)
        if w is None:
            return info
        out = dict(info or {})
        send = a.get("send", [])
        for p in send if isinstance(send, list) else [send]:
            if isinstance(p, dict) and "sleep" in p:
                time.sleep(p["sleep"])
            elif isinstance(p, dict) and "shutdown" in p:
                try:
                    w.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    out["shutdown_failed"] = True
            elif isinstance(p, dict) and "recv" in p:
                try:
                    out.setdefault("steps", []).append(b2s(w.exactly(p["recv"], p.get("timeout", 2))))
                except Gone as g:
                    out.setdefault("steps", []).append("<%s>" % g.kind)
            elif isinstance(p, dict) and "recv_until" in p:
                try:
                    out.setdefault("steps", []).append(b2s(w.until(s2b(p["recv_until"]), p.get("timeout", 2))))
                except Gone as g:
                    out.setdefault("steps", []).append("<%s>" % g.kind)
            else:
                w.send(expand(self.render(p) if isinstance(p, str) else p))
        if a.get("until"):  # stop as soon as this text was seen
            try:
                out["received"] = b2s(w.until(s2b(a["until"]), a.get("wait", 1.0)))
            except Gone:
                out["received"] = b2s(w.buf)
                w.buf = b""
        elif a.get("want"):
            try:
                out["received"] = b2s(w.exactly(a["want"], a.get("wait", 1.0)))
            except Gone:
                out["received"] = b2s(w.buf)
                w.buf = b""
        elif a.get("wait", 0.4) > 0:
            got = w.rest(a.get("wait", 0.4))
            out["received"] = got.hex() if a.get("hex") else (squeeze(got))
        out["connection"] = ("closed" if w.end else "open") if a.get("loose_end") else w.end or "open"
        if not a.get("conn"):
            w.close(rst=a.get("rst", False))
        return out

    def do_h2(self, a):
        if hpack is None:
            raise CaseError("python module hpack is needed for HTTP/2 cases")
        w, info = self.connect(a)
        if w is None:
            return info
        settings = {int(k): v for k, v in (a.get("settings") or {}).items()}
        h = H2(w, True, settings)
        out = dict(info or {})
        outs = []
        sid = 1
        pend = []
        reqs = a.get("requests") or [{}]
        for i, q in enumerate(reqs):
            if "sleep" in q:
                t = time.monotonic() + q["sleep"]
                try:
                    while time.monotonic() < t:
                        h.pump(t - time.monotonic())
                except Gone:
                    pass
                continue
            if "frame" in q:
                f = q["frame"]
                w.send(h.frame(f["type"], f.get("flags", 0), f.get("stream", 0), expand({"hex": f.get("payload", "")})))
                continue
            if "headers_exact" in q:
                hs = [[k, self.render(str(v))] for k, v in q["headers_exact"]]
            else:
                hs = [[":method", q.get("method", "GET")], [":scheme", q.get("scheme", "http")],
                      [":authority", self.render(q.get("authority", "example.test"))], [":path", self.render(str(q.get("path", "/")))]]
                hs += [[k, self.render(str(v))] for k, v in q.get("headers", [])]
            body, tr = expand(q.get("body")), q.get("trailers")
            keep_open = q.get("keep_open")
            h.send_headers(sid, hs, not body and not tr and not keep_open)
            if body:
                h.send_data(sid, body, not tr and not keep_open)
            if tr:
                h.send_headers(sid, [[k, str(v)] for k, v in tr], True)
            pend.append((sid, q))
            if q.get("rst_after") is not None:
                time.sleep(q["rst_after"])
                w.send(h.frame(3, 0, sid, struct.pack(">I", 8)))
            sid += 2
            if not a.get("concurrent"):
                outs += self.h2_wait(h, pend, a)
                pend = []
        outs += self.h2_wait(h, pend, a)
        if a.get("wait_end"):
            t = time.monotonic() + a["wait_end"]
            try:
                while True:
                    h.pump(t - time.monotonic())
            except Gone:
                pass
            out["connection"] = "closed" if w.end else "open"
        if h.goaway:
            out["goaway"] = h.goaways
        if a.get("show_settings"):
            out["settings"] = {str(k): v for k, v in sorted(h.peer_settings.items())}
        w.close()
        if len(outs) == 1 and len(reqs) == 1:
            out.update(outs[0])
        else:
            out["responses"] = outs
        return out

    def h2_wait(self, h, pend, a):
        t = time.monotonic() + a.get("timeout", IO_TIMEOUT)
        end = None
        try:
            while any(not (h.streams.get(s, {}).get("end") or h.streams.get(s, {}).get("reset")) for s, _ in pend):
                if h.goaway and h.goaway["code"] != "NO_ERROR" and h.w.end:
                    break
                h.pump(t - time.monotonic())
        except Gone as g:
            end = "open" if g.kind == "timeout" else "closed"
        res = []
        for s, q in pend:
            st = h.streams.get(s, {"heads": [], "body": b"", "reset": None, "end": False})
            r = {}
            heads = list(st["heads"])
            while heads and (hget(heads[0], ":status") or "").startswith("1"):
                r.setdefault("informational", []).append(heads.pop(0))
            if heads:
                r["status"] = int(hget(heads[0], ":status") or 0)
                r["headers"] = [x for x in heads[0] if x[0] != ":status"]
                r["body"] = squeeze(st["body"])
            if len(heads) > 1:
                r["trailers"] = heads[1]
            if st["reset"]:
                r["reset"] = st["reset"]
            if not st["end"] and not st["reset"]:
                r["ended"] = end or "open"
            res.append(r)
        return res


def read_response(w, method, timeout):
    out = {}
    try:
        while True:
            head = w.until(b"\r\n\r\n", timeout)
            line, hs = parse_head(head[:-4])
            parts = line.split(" ", 2)
            st = int(parts[1])
            if 100 <= st < 200 and st != 101:
                out.setdefault("informational", []).append([line, hs])
                continue
            break
    except Gone as g:
        out["ended"] = g.kind
        out["received"] = b2s(w.buf)
        w.buf = b""
        return out
    except (ValueError, IndexError):
        out["ended"] = "garbage"
        return out
    out.update({"version": parts[0], "status": st, "reason": parts[2] if len(parts) > 2 else "", "headers": hs})
    body = b""
    te = (hget(hs, "transfer-encoding") or "").lower()
    cl = hget(hs, "content-length")
    try:
        if method == "HEAD" or st in (204, 304, 101) or (method == "CONNECT" and st == 200):
            out["framing"] = "none"
        elif te == "chunked":
            out["framing"] = "chunked"
            body, tr = read_chunked(w, timeout)
            if tr:
                out["trailers"] = tr
        elif cl is not None:
            out["framing"] = "length"
            body = w.exactly(int(cl), timeout)
        else:
            out["framing"] = "close"
            body = w.rest(timeout)
            if w.end != "eof":
                out["ended"] = w.end or "timeout"
    except Gone as g:
        out["ended"] = "body:" + g.kind
        body = getattr(g, "got", b"") + w.buf
        w.buf = b""
    out["body"] = squeeze(body)
    if (hget(hs, "content-encoding") or "").lower() == "gzip" and body:
        import zlib
        try:
            out["body"] = {"gunzip": squeeze(zlib.decompress(body, 31))}
        except zlib.error:
            pass
    out["_body"] = body
    return out


# --------------------------------------------------------------------------
# compare
# --------------------------------------------------------------------------
HEAD = re.compile(r"(HTTP/1\.[01] \d[^\r\n]*\r\n)((?:[^\r\n]+\r\n)+)\r\n")


def canonical(x, strict):
    """Header lists in name order (order within one name is kept) unless strict.
    The same for response heads within raw text."""
    if isinstance(x, str) and not strict and "HTTP/1." in x:
        def sort_head(m):
            lines = m.group(2).split("\r\n")[:-1]
            lines.sort(key=lambda t: t.partition(":")[0].lower())
            return m.group(1) + "".join(t + "\r\n" for t in lines) + "\r\n"
        return HEAD.sub(sort_head, x)
    if isinstance(x, dict):
        out = {}
        for k, v in x.items():
            if k in ("headers", "trailers") and isinstance(v, list) and not strict:
                out[k] = sorted((canonical(i, strict) for i in v), key=lambda t: t[0].lower())
            else:
                out[k] = canonical(v, strict)
        return out
    if isinstance(x, list):
        return [canonical(i, strict) for i in x]
    return x


def drop(obs, pats):
    """ignore: list of slash paths, '*' for any step."""
    def go(x, steps):
        if not steps:
            return
        keys = list(x.keys()) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else []
        for k in keys:
            if steps[0] in ("*", str(k)):
                if len(steps) == 1:
                    if isinstance(x, dict):
                        x.pop(k, None)
                    else:
                        x[k] = "<ignored>"
                else:
                    go(x[k], steps[1:])
    for p in pats or []:
        go(obs, p.split("/"))
    return obs


def as_lines(x):
    return json.dumps(x, indent=1, ensure_ascii=False, sort_keys=True).splitlines()


def compact(x):
    """JSON with [name, value] pairs on one line each."""
    s = json.dumps(x, indent=1, ensure_ascii=False)
    return re.sub(r'\[\n\s+("(?:[^"\\]|\\.)*"),\n\s+("(?:[^"\\]|\\.)*")\n\s+\]', r"[\1, \2]", s)


def find_cases(paths):
    out = []
    for p in paths:
        if os.path.isfile(os.path.join(p, "case.yaml")):
            out.append(p)
            continue
        for d, _, files in sorted(os.walk(p)):
            if "case.yaml" in files:
                out.append(d)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--proxy", required=True, help="binary that takes -c FILE")
    mode = ap.add_mutually_exclusive_group()
    mode.add_argument("--record", action="store_true", help="write the observation to the expected file")
    mode.add_argument("--check", action="store_true", help="compare with the expected file (default)")
    mode.add_argument("--show", action="store_true", help="print the observation only")
    ap.add_argument("--expected", default="envoy.expected.json", help="file name inside each case folder")
    ap.add_argument("--prefer", default="", metavar="FILE", help="use this file instead where a case folder has it (a justified difference)")
    ap.add_argument("--strict", action="store_true", help="header order and error texts count too")
    ap.add_argument("--keep", action="store_true", help="keep each case's temporary folder")
    ap.add_argument("--retries", type=int, default=1, help="second tries for a case that could not start")
    ap.add_argument("--row", action="append", help="only cases that name this row of the specification")
    ap.add_argument("--by-row", action="store_true", help="print passed/all for each row of the specification")
    ap.add_argument("-q", action="store_true", help="print failures and the closing line only")
    ap.add_argument("-j", type=int, default=1, help="cases in parallel")
    ap.add_argument("--proxy-arg", action="append", default=[], help="extra argument for the proxy")
    ap.add_argument("--not-yet", default="", metavar="FILE", help="cases that are expected to fail, one a line; one that passes is an error")
    ap.add_argument("--shrink", action="store_true", help="take cases that pass out of the --not-yet file instead")
    ap.add_argument("--name", default="", help="a word before the closing line")
    ap.add_argument("cases", nargs="+")
    a = ap.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    not_yet = set()
    if a.not_yet:
        with open(a.not_yet) as f:
            not_yet = {x.split("#")[0].strip() for x in f} - {""}

    proxy = os.path.abspath(a.proxy) if os.path.sep in a.proxy else (shutil.which(a.proxy) or a.proxy)
    cases = find_cases(a.cases)
    specs = {}
    for c in cases:
        with open(os.path.join(c, "case.yaml")) as f:
            specs[c] = yaml.safe_load(f)
    if a.row:
        cases = [c for c in cases if set(a.row) & set(specs[c].get("rows", []))]
    certs = None
    certs_tmp = None
    if any(specs[c].get("certs") for c in cases):
        certs_tmp = tempfile.mkdtemp(prefix="gold-certs-")
        certs = certs_tmp
        make_certs(certs)

    passed, failed, skipped, grown = [], [], [], set()
    lock = threading.Lock()

    def one(c):
        name = os.path.relpath(c, os.path.join(here, "envoy"))
        t0 = time.monotonic()
        obs, err = None, None
        for attempt in range(a.retries + 1):
            try:
                obs = Case(c, proxy, certs, a.keep, a.proxy_arg).run()
                err = None
                break
            except Exception as e:  # noqa: BLE001
                err = "%s: %s" % (type(e).__name__, e)
                if not isinstance(e, CaseError):
                    import traceback
                    err += "\n" + traceback.format_exc()
        dt = time.monotonic() - t0
        text, ok = "", True
        exp_path = os.path.join(c, a.expected)
        if a.prefer and os.path.exists(os.path.join(c, a.prefer)):
            exp_path = os.path.join(c, a.prefer)
        if err:
            ok, text = False, err
        elif a.record:
            with open(exp_path, "w") as f:
                f.write(compact(obs) + "\n")
        elif a.show:
            text = compact(obs)
        else:
            try:
                with open(exp_path) as f:
                    exp = json.load(f)
            except OSError:
                exp = None
                ok, text = False, "no %s" % a.expected
            if exp is not None:
                ign = list(specs[c].get("ignore") or [])
                if specs[c].get("kind") == "validate" and not a.strict:
                    ign += ["errors", "stdout"]
                e1 = as_lines(drop(canonical(exp, a.strict), ign))
                o1 = as_lines(drop(canonical(json.loads(json.dumps(obs)), a.strict), ign))
                if e1 != o1:
                    ok = False
                    text = "\n".join(difflib.unified_diff(e1, o1, "expected", "observed", lineterm="", n=4))
        waited = name in not_yet
        with lock:
            if waited and not ok:
                skipped.append(name)
                if not a.q:
                    print("not yet %s (%.2f s)" % (name, dt))
                return
            if waited and not a.shrink:
                ok, text = False, "passes, but stands in %s" % os.path.basename(a.not_yet)
            elif waited:
                grown.add(name)
            (passed if ok else failed).append(name)
            if not ok or not a.q:
                print("%s %s (%.2f s)" % ("ok  " if ok else "FAIL", name, dt))
            if text:
                print("\n".join("     " + x for x in text.splitlines()))
            sys.stdout.flush()

    if a.j > 1:
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(a.j) as ex:
            list(ex.map(one, cases))
    else:
        for c in cases:
            one(c)
    if certs_tmp:
        shutil.rmtree(certs_tmp, ignore_errors=True)
    if a.by_row:
        good = set(passed)
        rows = {}
        for c in cases:
            for r in specs[c].get("rows", []):
                n = rows.setdefault(r, [0, 0])
                n[1] += 1
                n[0] += os.path.relpath(c, os.path.join(here, "envoy")) in good
        for r in sorted(rows, key=lambda t: (t[0], int(t[1:] or 0))):
            print("%-4s %d/%d" % (r, rows[r][0], rows[r][1]))
    if failed and not a.q:
        print("failed: " + " ".join(failed))
    if grown:
        with open(a.not_yet) as f:
            lines = f.readlines()
        with open(a.not_yet, "w") as f:
            f.writelines(x for x in lines if x.split("#")[0].strip() not in grown)
        print("taken out of %s: %s" % (a.not_yet, " ".join(sorted(grown))))
    print("%s%d passed, %d failed%s" % (a.name and a.name + ": ", len(passed), len(failed),
                                        ", %d skipped" % len(skipped) if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
