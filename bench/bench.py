#!/usr/bin/python3
"""Side-by-side measurements of proxies on one machine, in interleaved rounds. script/bench is the usual way in.

  bench.py --proxy NAME=COMMAND... [--out DIR] [--quick] [--only h1_small,start,mem,many,...] [--targets mizzen,nginx,...]
           [--rounds 3] [--seconds 2.5]

NAME=COMMAND is a binary with Envoy's command line ("-c CONFIG --concurrency 1 --disable-hot-restart -l error" are
appended; a COMMAND that contains {config} is used as it is). What it can do yet (of h1 h2c h2h2 tls tcp side sidem) is
asked of the binary itself by --mode validate; NAME:h1,tcp=COMMAND says it. nginx (1 worker), haproxy (1 thread), h2o
(1 thread) and nghttpx (1 worker) take part where they are installed. The proxy is pinned to core 0, the clients and
the backend to core 1. Instructions per request (perf stat, hardware counters) repeat within 1 % and are the figure to
steer by; then CPU time of the process group per unit of work; latency and throughput only on a quiet machine.
"""
import argparse, glob, json, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers as P

HERE = os.path.dirname(os.path.abspath(__file__))
PROXY_CORE, LOAD_CORE = os.environ.get("BENCH_PROXY_CORE", "0"), os.environ.get("BENCH_LOAD_CORE", "1")


class Env:
    pass


# ------------------------------------------------------------------ processes
class Group:
    """A process started in its own group; its CPU and memory are those of the whole group."""
    live = []

    def __init__(self, argv, core, log):
        self.log = log
        f = open(log, "ab")
        self.t0 = time.monotonic_ns()
        self.p = subprocess.Popen(["taskset", "-c", core] + argv, stdout=f, stderr=f, stdin=subprocess.DEVNULL, start_new_session=True)
        f.close()
        Group.live.append(self)

    def pids(self):
        out = []
        for d in os.listdir("/proc"):
            if d.isdigit():
                try:
                    with open(f"/proc/{d}/stat") as f:
                        if int(f.read().rpartition(")")[2].split()[2]) == self.p.pid:
                            out.append(int(d))
                except (OSError, IndexError):
                    pass
        return out

    def stop(self, patience=2):
        if self in Group.live:
            Group.live.remove(self)
        for s in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.p.pid, s)
            except ProcessLookupError:
                break
            for _ in range(int(patience * 20)):
                if self.p.poll() is not None:
                    break
                time.sleep(0.05)
        self.p.wait()


def cpu_ns(groups):
    n = 0
    for g in groups:
        for pid in g.cached:
            for t in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                try:
                    with open(t) as f:
                        n += int(f.read().split()[0])
                except OSError:
                    pass
    return n


def mem_kib(group):
    r = {"rss": 0, "pss": 0, "anon": 0}
    for pid in group.pids():
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for ln in f:
                    w = ln.split()
                    if w[0] == "Rss:":
                        r["rss"] += int(w[1])
                    elif w[0] == "Pss:":
                        r["pss"] += int(w[1])
                    elif w[0] == "Anonymous:":
                        r["anon"] += int(w[1])
        except OSError:
            pass
    return r


def get_once(port, path="/small", timeout=5.0):
    s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    try:
        s.settimeout(timeout)
        s.sendall(f"GET {path} HTTP/1.1\r\nhost: bench.test\r\nconnection: close\r\n\r\n".encode())
        b = b""
        while b"\r\n\r\n" not in b or (not b.endswith(b"a") and not b.endswith(b"\r\n0\r\n\r\n")):
            x = s.recv(65536)
            if not x:
                break
            b += x
        return b.startswith(b"HTTP/1.1 200")
    finally:
        s.close()


def first_ok(port, group, limit=60.0):
    """ns from exec to the first 200 through the port; None when it does not come"""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if get_once(port):
                return time.monotonic_ns() - group.t0
        except OSError:
            pass
        if group.p.poll() is not None:
            return None
        time.sleep(0.0005)
    return None


def wait_tcp(port, limit=20):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def client(argv, limit=120):
    r = subprocess.run(["taskset", "-c", LOAD_CORE] + argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, text=True,
                       env={**os.environ, "GODEBUG": "tlsmlkem=0,tlssecpmlkem=0", "GOMAXPROCS": "1"})
    return r.stdout + r.stderr


# ------------------------------------------------------------------ scenarios
def h2load(args, url):
    def run(e, port):
        o = client(["h2load", "-t", "1", "-D", f"{int(e.seconds * 1000)}ms"] + args(e) + [url % port])
        m = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", o)
        c = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", o)
        t = re.search(r"finished in ([\d.]+)(m?s)", o)
        if not (m and c and t):
            return {"n": 0, "errors": 1, "secs": 0, "note": o[-300:]}
        return {"n": int(m[2]), "errors": int(m[4]) + int(m[5]) + int(c[2]) + int(c[3]) + int(c[4]), "secs": float(t[1]) / (1000 if t[2] == "ms" else 1)}
    return run


def tool(mk):
    def run(e, port):
        o = client([e.tool] + mk(e, port))
        try:
            return json.loads(o)
        except ValueError:
            return {"n": 0, "errors": 1, "secs": 0, "note": o[-300:]}
    return run


def handshakes(e, port):
    o = client(["hey", "-disable-keepalive", "-c", "4", "-z", f"{e.seconds}s", f"https://127.0.0.1:{port}/small"])
    ok = sum(int(x) for x in re.findall(r"\[200\]\s+(\d+) responses", o))
    bad = sum(int(x) for x in re.findall(r"\[(?!200)\d+\]\s+\d+ (?:.*)$", o, re.M)) if "Error distribution" in o else 0
    t = re.search(r"Total:\s+([\d.]+) secs", o)
    return {"n": ok, "errors": bad, "secs": float(t[1]) if t else 0, **({} if ok else {"note": o[-300:]})}


RESUME = """
import socket, ssl, sys, time
port, end, n, bad, session = int(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0, 0, None
c = ssl._create_unverified_context()
while time.monotonic() < end:
    with c.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost", session=session) as s:
        s.sendall(b"GET /small HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        bad += not s.recv(4096).startswith(b"HTTP/1.1 200") or (n > 0 and not s.session_reused)
        session, n = s.session, n + 1
print(n, bad)
"""


def resumed(e, port):
    began = time.monotonic()
    o = client([sys.executable, "-c", RESUME, str(port), str(e.seconds)])
    m = re.match(r"(\d+) (\d+)$", o.strip())
    return {"n": int(m[1]), "errors": int(m[2]), "secs": time.monotonic() - began} if m else {"n": 0, "errors": 1, "secs": 0, "note": o[-300:]}


def bulk(e, port):
    r = tool(lambda e, p: ["bulk", str(p), "2", str(int(e.bulk_gib * 2 ** 29))])(e, port)
    r["n"] = r.get("octets", 0) / 2 ** 30
    return r


U1 = "http://127.0.0.1:%d/small"
# id: (title, port offset, capability, runner, unit of the CPU figure, unit of work)
SCEN = {
    "h1_small": ("http1 keep-alive, 128 B GET, 16 conns", 0, "h1", h2load(lambda e: ["--h1", "-c", "16"], U1), "µs/req"),
    "h1_64k": ("http1, 64 KiB response, 8 conns", 0, "h1", h2load(lambda e: ["--h1", "-c", "8"], "http://127.0.0.1:%d/64k"), "µs/req"),
    "h1_post16k": ("http1 POST 16 KiB, 16 conns", 0, "h1", h2load(lambda e: ["--h1", "-c", "16", "-d", e.post], U1), "µs/req"),
    "h1_rate": ("http1, 2,000 req/s open loop, 16 conns", 0, "h1", tool(lambda e, p: ["rate", str(p), "/small", "2000", "16", str(e.seconds)]), "µs/req"),
    "h2c_h1": ("h2c→h1, 4 conns × 32 streams", 1, "h2c", h2load(lambda e: ["-c", "4", "-m", "32"], U1), "µs/req"),
    "h2c_h2c": ("h2c→h2c, 4 conns × 32 streams", 2, "h2h2", h2load(lambda e: ["-c", "4", "-m", "32"], "http://127.0.0.1:%d/h2/small"), "µs/req"),
    "tls_h1": ("TLS http1 keep-alive, 16 conns", 3, "tls", h2load(lambda e: ["--h1", "-c", "16"], "https://127.0.0.1:%d/small"), "µs/req"),
    "tls_hs": ("TLS 1.3 full handshake + 1 GET", 3, "tls", handshakes, "µs/conn"),
    "tls_resumed": ("TLS 1.3 resumed handshake + 1 GET", 3, "tls", resumed, "µs/conn"),
    "tcp_bulk": ("tcp_proxy download, 2 conns", 4, "tcp", bulk, "µs/GiB"),
    "tcp_pp": ("tcp_proxy 1-byte ping-pong, 8 conns", 4, "tcp", tool(lambda e, p: ["pingpong", str(p), "8", str(e.seconds)]), "µs/trip"),
    "side": ("two sidecar hops, plain, 16 conns", 5, "side", h2load(lambda e: ["--h1", "-c", "16"], U1), "µs/req"),
    "side_mtls": ("two sidecar hops, mTLS between, 16 conns", 7, "sidem", h2load(lambda e: ["--h1", "-c", "16"], U1), "µs/req"),
    "side_rate": ("two sidecar hops, mTLS, 1,000 req/s open loop", 7, "sidem", tool(lambda e, p: ["rate", str(p), "/small", "1000", "16", str(e.seconds)]), "µs/req"),
}
DIRECT = {"h1_small": "b1", "h1_64k": "b1", "h1_post16k": "b1", "h1_rate": "b1", "h2c_h2c": "b2", "tcp_bulk": "bt", "tcp_pp": "bt", "side_rate": "b1"}


COUNTED = {"h1_small": lambda e: ["--h1", "-c", "16"], "h1_64k": lambda e: ["--h1", "-c", "8"], "h1_post16k": lambda e: ["--h1", "-c", "16", "-d", e.post],
           "side": lambda e: ["--h1", "-c", "16"], "h2c_h1": lambda e: ["-c", "4", "-m", "32"], "h2c_h2c": lambda e: ["-c", "4", "-m", "32"]}
PATHS = {"h1_64k": "/64k", "h2c_h2c": "/h2/small"}
EXTRA = ["mem", "start", "many", "size"]


class Perf:
    """Instructions and cycles of process groups by perf; silently absent where there are no counters."""
    ok = None
    EV = "instructions:u,instructions:k,cycles"

    @staticmethod
    def available():
        if Perf.ok is None:
            r = subprocess.run(["perf", "stat", "-x,", "-e", Perf.EV, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) if shutil.which("perf") else None
            Perf.ok = bool(r and r.returncode == 0 and re.search(r"^\d+,+instructions:u", r.stdout, re.M))
        return Perf.ok

    def __init__(self, groups):
        self.p = None
        if Perf.available():
            self.out = tempfile.mktemp(prefix="perf.")
            pids = ",".join(str(x) for g in groups for x in g.cached)
            self.p = subprocess.Popen(["taskset", "-c", LOAD_CORE, "perf", "stat", "-x,", "-o", self.out, "-e", Perf.EV, "-p", pids],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.15)

    def stop(self):
        if not self.p:
            return {}
        self.p.send_signal(signal.SIGINT)
        try:
            self.p.wait(10)
            t = open(self.out).read()
            os.unlink(self.out)
        except (subprocess.TimeoutExpired, OSError):
            self.p.kill()
            return {}
        v = {m[1]: int(m[0]) for m in re.findall(r"^(\d+),[^,]*,([a-z:]+)", t, re.M)}
        return {"instr_u": v.get("instructions:u"), "instr_k": v.get("instructions:k"), "cycles": v.get("cycles")}


def callgrind(a, e, res, targets, base):
    """User instructions where there are no hardware counters: two runs of each target under callgrind, and the difference
    of their totals. The profile of the longer one stays in OUT/callgrind.TARGET.SCENARIO (see callgrind_annotate)."""
    short, long = (300, 1300) if a.quick else (500, 4500)
    for s in [x for x in a.scenarios if x in COUNTED]:
        for t in targets:
            if SCEN[s][2] not in t.has or t.name in ("envoy", "nghttpx"):
                continue
            totals = []
            for n in (short, long):
                out = f"{t.work}/callgrind"
                for f in glob.glob(out + ".*"):
                    os.unlink(f)
                hops, at = s.startswith("side"), SCEN[s][1]
                port = base[t.name] + at
                gs = [Group(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}.%p", "--trace-children=yes"] + x, PROXY_CORE, f"{t.work}/callgrind.log")
                      for x in (t.hops(e, base[t.name], t.work) if hops else [(t.full if at else t.small)(e, base[t.name], t.work)])]
                up = first_ok(port if hops else base[t.name], gs[0]) and wait_tcp(port, 5)
                o = client(["h2load", "-t", "1", "-n", str(n)] + COUNTED[s](e) + [f"http://127.0.0.1:{port}{PATHS.get(s, '/small')}"]) if up else ""
                for g in gs:
                    g.stop(20)
                if f"{n} 2xx" not in o:
                    note("callgrind:", t.name, s, "failed:", (o or open(f"{t.work}/callgrind.log", errors="replace").read())[-300:])
                    break
                files = glob.glob(out + ".*[0-9]")
                totals.append(sum(int(x) for f in files for x in re.findall(r"^(?:totals|summary): (\d+)", open(f, errors="replace").read(), re.M)[-1:]))
                if t.envoy_like and files:
                    shutil.copy(max(files, key=os.path.getsize), f"{a.out or '.'}/callgrind.{t.name}.{s}")
            if len(totals) == 2:
                res["counts"].setdefault(s, {}).setdefault(t.name, []).append({"instr_u": (totals[1] - totals[0]) / (long - short)})
        note("callgrind", s, {k: round(v[0]["instr_u"]) for k, v in res["counts"].get(s, {}).items()})


def own_netns():
    """A network namespace of our own: nobody else's ports, packet filters or connection tracking."""
    import ctypes, fcntl, struct
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:      # CLONE_NEWNET
        note("no network namespace of its own:", os.strerror(ctypes.get_errno()))
        return
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x49))   # SIOCSIFFLAGS: up, loopback, running
    s.close()


def med(v):
    return statistics.median(v) if v else None


def note(*a):
    print(*a, file=sys.stderr, flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--proxy", action="append", default=[], metavar="NAME=COMMAND")
    ap.add_argument("--out", default="")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=2.5)
    ap.add_argument("--bulk-gib", type=float, default=2.0)
    ap.add_argument("--only", default="", help="of " + " ".join(list(SCEN) + EXTRA))
    ap.add_argument("--targets", default="", help="targets to keep (direct,nginx,haproxy,h2o,nghttpx,NAME...)")
    ap.add_argument("--quick", action="store_true", help="one short round and one that counts instructions")
    ap.add_argument("--many", default="1,1000,5000")
    ap.add_argument("--count-rounds", type=int, default=2, help="extra rounds that count instructions")
    ap.add_argument("--port-base", type=int, default=27400)
    ap.add_argument("--no-netns", action="store_true", help="do not move into a network namespace of its own")
    ap.add_argument("--starts", type=int, default=7)
    ap.add_argument("--tool-dir", default=os.environ.get("BENCH_CACHE", "/tmp/mizzen-bench"))
    a = ap.parse_args()
    if a.quick:
        a.rounds, a.seconds, a.count_rounds, a.starts, a.many = 1, 1.0, 1, 3, "1,5000"
    wanted = set(filter(None, a.only.split(","))) or set(SCEN) | set(EXTRA)
    if wanted - set(SCEN) - set(EXTRA):
        ap.error("no such scenario: " + " ".join(sorted(wanted - set(SCEN) - set(EXTRA))))
    a.scenarios = [s for s in SCEN if s in wanted]
    a.skip = [x for x in EXTRA if x not in wanted]
    if not shutil.which("h2load") and a.scenarios:
        ap.error("h2load (nghttp2-client) is not installed: script/bootstrap --bench")
    if not shutil.which("hey"):
        a.scenarios = [s for s in a.scenarios if s != "tls_hs"]
    if not a.no_netns and os.geteuid() == 0:
        own_netns()
    os.environ["PATH"] = f"{a.tool_dir}/bin:" + os.environ["PATH"] + ":/usr/sbin"
    e = Env()
    e.seconds, e.bulk_gib = a.seconds, a.bulk_gib
    e.work = tempfile.mkdtemp(prefix="bench.", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    os.chmod(e.work, 0o755)
    e.certs = e.work
    e.tool = f"{e.work}/benchtool"
    subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-o", e.tool, f"{HERE}/benchtool.c"], check=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{e.work}/key.pem", "-out", f"{e.work}/cert.pem"],
                   check=True, stderr=subprocess.DEVNULL)
    with open(f"{e.work}/both.pem", "w") as f:
        f.write(open(f"{e.work}/cert.pem").read() + open(f"{e.work}/key.pem").read())
    e.post = f"{e.work}/post16k"
    with open(e.post, "wb") as f:
        f.write(b"p" * 16384)
    res = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "args": vars(a), "cores": [PROXY_CORE, LOAD_CORE],
           "kernel": os.uname().release, "load_before": os.getloadavg(), "versions": {}, "samples": {}, "counts": {}, "memory": {}, "start": {}, "many": {}, "size": {}}
    try:
        run_all(a, e, res)
    finally:
        for g in list(Group.live):
            g.stop()
        res["load_after"] = os.getloadavg()
        out = a.out or "."
        os.makedirs(out, exist_ok=True)
        with open(f"{out}/bench.json", "w") as f:
            json.dump(res, f, indent=1, default=str)
        md = markdown(res)
        with open(f"{out}/bench.md", "w") as f:
            f.write(md)
        print(md)
        if os.environ.get("BENCH_KEEP"):
            note("work kept in", e.work)
        else:
            shutil.rmtree(e.work, ignore_errors=True)


def version(t):
    for flag in ("--version", "-v"):
        try:
            r = subprocess.run([t.binary(), flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, text=True)
            s = [x for x in r.stdout.splitlines() if x.strip()]
            if r.returncode == 0 and s:
                return s[0].strip()[:160]
        except (OSError, subprocess.TimeoutExpired, TypeError):
            pass
    return "?"


def run_all(a, e, res):
    e.b1, e.b2, e.bt = a.port_base, a.port_base + 1, a.port_base + 2
    targets = []
    for spec in a.proxy:
        n, _, c = spec.partition("=")
        n, _, has = n.partition(":")
        t = P.Envoy(n, c.split(), list(filter(None, has.split(","))))
        if not has:
            t.ask(e)
            note(n, "can do", " ".join(sorted(t.has)) or "nothing")
        targets.append(t)
    for cls in (P.Nginx, P.Haproxy, P.H2o, P.Nghttpx):
        t = cls()
        if t.binary() and os.path.exists(t.binary()):
            targets.append(t)
    only = set(filter(None, a.targets.split(",")))
    if only:
        targets = [t for t in targets if t.name in only]
    res["targets"] = [t.name for t in targets]
    res["envoy_like"] = [t.name for t in targets if t.envoy_like]
    for t in targets:
        res["versions"][t.name] = version(t) + (f"; sidecar chain without {', '.join(t.lacks)}" if t.envoy_like and t.lacks else "")
    only_direct = not only or "direct" in only
    bdir = f"{e.work}/backend"
    os.makedirs(bdir)
    Group([e.tool, "http", str(e.b1)], LOAD_CORE, f"{bdir}/log")
    Group([e.tool, "tcp", str(e.bt)], LOAD_CORE, f"{bdir}/log")
    nginx = any(t.name == "nginx" for t in targets) or os.path.exists(P.Nginx().binary())
    if nginx:
        Group(P.nginx_backend(e.b2, bdir), LOAD_CORE, f"{bdir}/log")
    for p in (e.b1, e.b2, e.bt) if nginx else (e.b1, e.bt):
        if not wait_tcp(p):
            raise SystemExit(f"backend on {p} did not start")

    base = {t.name: a.port_base + 10 + 10 * i for i, t in enumerate(targets)}
    for p in range(a.port_base + 10, a.port_base + 10 + 10 * len(targets)):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", p))
        except OSError:
            raise SystemExit(f"port {p} is taken")
        s.close()
    for t in targets:
        t.work = f"{e.work}/{t.name}"
        os.makedirs(t.work)
        os.chmod(t.work, 0o777)

    if "size" not in a.skip:
        for t in targets:
            res["size"][t.name] = size_of(t.binary())
    if "start" not in a.skip:
        for r in range(a.starts):
            for t in targets:
                if "h1" not in t.has:
                    continue
                g = Group(t.small(e, base[t.name], t.work), PROXY_CORE, f"{t.work}/start.log")
                ns = first_ok(base[t.name], g)
                g.stop()
                res["start"].setdefault(t.name, []).append(ns and ns / 1e6)
        note("start", {k: med([x for x in v if x]) for k, v in res["start"].items()})
    if "mem" not in a.skip:
        for r in range(min(3, a.rounds)):
            for t in targets:
                if "h1" not in t.has:
                    continue
                for tool, key in (("idle", "conns1000"),) + ((("idle2", "h2conns1000"),) if t.envoy_like and "h2c" in t.has else ()):
                    g = Group(t.small(e, base[t.name], t.work), PROXY_CORE, f"{t.work}/mem.log")
                    if first_ok(base[t.name], g):
                        time.sleep(1.0)
                        before = mem_kib(g)
                        c = subprocess.Popen(["taskset", "-c", LOAD_CORE, e.tool, tool, str(base[t.name]), "/small", "1000"],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                        held = json.loads(c.stdout.readline() or b'{"held":0}')["held"]
                        time.sleep(4.0)       # until nothing was asked of them for a while
                        full = mem_kib(g)
                        c.stdin.close()
                        c.wait()
                        each = (full["rss"] - before["rss"]) / max(1, held)
                        if key == "conns1000":
                            res["memory"].setdefault(t.name, []).append({"idle": before, "conns1000": full, "held": held})
                        else:
                            res["memory"][t.name][-1]["h2_each_kib"] = each
                    g.stop()
        note("memory done")
    if "many" not in a.skip:
        for n in [int(x) for x in a.many.split(",") if x]:
            for r in range(min(3, a.rounds)):
                for t in targets:
                    if "many" not in t.has or not t.envoy_like:
                        continue
                    g = Group(t.many(e, base[t.name], t.work, n), PROXY_CORE, f"{t.work}/many.log")
                    ns = first_ok(base[t.name], g, 120)
                    if ns:
                        time.sleep(1.0)
                    m = mem_kib(g)
                    g.stop()
                    res["many"].setdefault(t.name, {}).setdefault(str(n), []).append({"ms": ns and ns / 1e6, **m})
            note("many", n, {k: v.get(str(n)) for k, v in res["many"].items()})

    if not a.scenarios:
        return
    if not Perf.available() and shutil.which("valgrind"):
        callgrind(a, e, res, targets, base)
    groups, dead = {}, set()
    scen = a.scenarios
    for t in targets:
        groups[t.name, "full"] = [Group(t.full(e, base[t.name], t.work), PROXY_CORE, f"{t.work}/full.log")]
        if "side" in t.has and any(s.startswith("side") for s in scen):
            groups[t.name, "hops"] = [Group(x, PROXY_CORE, f"{t.work}/hop{i + 1}.log") for i, x in enumerate(t.hops(e, base[t.name], t.work))]
    for t in targets:
        if not any(wait_tcp(base[t.name] + k, 10) for k, c in enumerate(("h1", "h2c", "h2h2", "tls", "tcp")) if c in t.has):
            note("NOT LISTENING:", t.name, open(f"{t.work}/full.log", errors="replace").read()[-800:])
            dead.add(t.name)
        if (t.name, "hops") in groups and not all(wait_tcp(base[t.name] + k, 5) for k in ((5, 6, 7, 8) if "sidem" in t.has else (5, 6))):
            note("NO SIDECAR CHAIN:", t.name, [open(f"{t.work}/hop{i}.log", errors="replace").read()[-500:] for i in (1, 2)])
            t.has = t.has - {"side", "sidem"}
    time.sleep(0.5)
    for gl in groups.values():
        for g in gl:
            g.cached = g.pids()
    # Round -1 warms everything up and is thrown away. The last rounds count instructions and give no times: counters
    # are switched at every context switch, which costs a virtual machine tens of microseconds a request.
    counting = a.count_rounds if Perf.available() else 0
    for rnd in range(-1, a.rounds + counting):
        count = rnd >= a.rounds
        for s in scen:
            title, off, cap, run, unit = SCEN[s]
            if s in DIRECT and rnd >= 0 and not count and only_direct:
                r = run(e, getattr(e, DIRECT[s]))
                res["samples"].setdefault(s, {}).setdefault("direct", []).append({**r, "cpu_us": None})
            order = targets[rnd % len(targets):] + targets[:rnd % len(targets)] if targets else []
            for t in order:
                if t.name in dead or cap not in t.has:
                    continue
                gl = groups[t.name, "hops" if s.startswith("side") else "full"]
                keep = e.seconds, e.bulk_gib
                if rnd < 0 or count:
                    e.seconds, e.bulk_gib = (2.5 if s.endswith("_rate") else 0.8, 0.5) if count else (0.4, 0.25)
                perf = Perf(gl) if count else None
                c0, w0 = cpu_ns(gl), time.monotonic_ns()
                try:
                    r = run(e, base[t.name] + off)
                except subprocess.TimeoutExpired:
                    r = {"n": 0, "errors": 1, "secs": 0, "note": "client timed out"}
                c1, w1 = cpu_ns(gl), time.monotonic_ns()
                hw = perf.stop() if perf else {}
                e.seconds, e.bulk_gib = keep
                for g in gl:                  # access logs do not pile up
                    for f in glob.glob(f"{t.work}/hop*.log"):
                        try:
                            os.truncate(f, 0)
                        except OSError:
                            pass
                if rnd < 0:
                    if not r.get("n") or r.get("errors"):
                        note("warm-up:", s, t.name, r)
                    continue
                if count:
                    if r.get("n"):
                        res["counts"].setdefault(s, {}).setdefault(t.name, []).append({k: v / r["n"] for k, v in hw.items() if v})
                    continue
                r["cpu_us"] = (c1 - c0) / 1e3 / r["n"] if r.get("n") else None
                r["util"] = (c1 - c0) / (w1 - w0)
                res["samples"].setdefault(s, {}).setdefault(t.name, []).append(r)
                if any(g.p.poll() is not None for g in gl):
                    note("DIED:", t.name, "in", s)
                    dead.add(t.name)
        note(f"round {rnd + 1}/{a.rounds}+{counting} done, load {os.getloadavg()[0]:.1f}")
    for t in targets:
        if t.name not in dead:
            res["memory"].setdefault(t.name + " after load", []).append({"idle": mem_kib(groups[t.name, "full"][0])})


def size_of(path):
    path = os.path.realpath(path)
    r = {"file": os.path.getsize(path), "libs": 0, "nlibs": 0}
    tmp = tempfile.mktemp()
    if subprocess.run(["strip", "-o", tmp, path], stderr=subprocess.DEVNULL).returncode == 0:
        r["stripped"] = os.path.getsize(tmp)
        os.unlink(tmp)
    o = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for m in re.findall(r"(?:=> |^\s*)(/\S+)", o, re.M):
        r["libs"] += os.path.getsize(os.path.realpath(m))
        r["nlibs"] += 1
    return r


# ------------------------------------------------------------------ the report
def fmt(v):
    if v is None:
        return "—"
    return f"{v:,.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"


def cell(vals):
    v = [x for x in vals if x is not None]
    if not v:
        return "—"
    return fmt(med(v)) + (f" ({fmt(min(v))}–{fmt(max(v))})" if len(v) > 1 else "")


def markdown(res):
    T = res.get("targets", [])
    E = res.get("envoy_like", [])
    ref = "envoy" if "envoy" in E else None
    subj = [t for t in E if t != ref] or ([ref] if ref else [])
    peers = [t for t in T if t not in E]
    o = [f"# Proxies side by side ({res['time']})", "",
         f"{res['args']['rounds']} interleaved rounds of {res['args']['seconds']} s; proxy on core {res['cores'][0]}, clients and backend on core {res['cores'][1]}; "
         f"kernel {res['kernel']}; load average before {res['load_before'][0]:.2f}, after {res['load_after'][0]:.2f}. Cells: median (least–most).", ""]
    o += [f"- {t}: {res['versions'].get(t)}" for t in T] + [""]
    S = res["samples"]

    def table(title, cols, get, better="low", unit=None, note="", S=S):
        rows = []
        for s in SCEN:
            if s not in S:
                continue
            vals = {t: [get(s, r) for r in S[s].get(t, [])] for t in cols}
            if not any(x is not None for v in vals.values() for x in v):
                continue
            m = {t: med([x for x in v if x is not None]) for t, v in vals.items()}
            row = [SCEN[s][0] + (f" [{unit(s)}]" if unit else "")] + [cell(vals[t]) for t in cols]
            for x in subj:
                for other in ([ref] if ref and ref != x else []) + ["best peer"]:
                    if other == "best peer":
                        c = [m[p] for p in peers if m.get(p)]
                        y = (min(c) if better == "low" else max(c)) if c else None
                    else:
                        y = m.get(other)
                    row.append(f"{m[x] / y:.2f}" if m.get(x) and y else "—")
            rows.append(row)
        if not rows:
            return
        head = [title] + cols + [f"{x} ÷ {other}" for x in subj for other in ([ref] if ref and ref != x else []) + ["best peer"]]
        o.append(f"## {title}")
        if note:
            o.extend(["", note])
        o.extend(["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)])
        o.extend("| " + " | ".join(r) + " |" for r in rows)
        o.append("")

    table("CPU of the proxy per unit of work", T, lambda s, r: (r["cpu_us"] / 1e6 if s == "tcp_bulk" else r["cpu_us"]) if r.get("cpu_us") else None,
          unit=lambda s: "s/GiB" if s == "tcp_bulk" else SCEN[s][4], note="Lower is better. The main figure.")
    table("Instructions (thousands, user + kernel) per unit of work", T, lambda s, r: (r["instr_u"] + r.get("instr_k", 0)) / (1e6 if s == "tcp_bulk" else 1e3) if r.get("instr_k") else None,
          unit=lambda s: "M/GiB" if s == "tcp_bulk" else SCEN[s][4].replace("µs", "k"), note="Lower is better. Hardware counters: hardly moved by a noisy machine.", S=res["counts"])
    table("Instructions in user space alone", T, lambda s, r: r["instr_u"] / (1e6 if s == "tcp_bulk" else 1e3) if r.get("instr_u") else None,
          unit=lambda s: "M/GiB" if s == "tcp_bulk" else SCEN[s][4].replace("µs", "k"), S=res["counts"],
          note="" if Perf.available() else "This machine has no hardware counters: counted by valgrind, kernel not included.")
    closed = {"h1_small", "h1_64k", "h1_post16k", "h2c_h1", "h2c_h2c", "tls_h1", "tls_hs", "tls_resumed", "tcp_bulk", "tcp_pp", "side", "side_mtls"}
    table("Throughput, closed loop", ["direct"] + T, lambda s, r: r["n"] / r["secs"] if s in closed and r.get("secs") else None, "high",
          unit=lambda s: "GiB/s" if s == "tcp_bulk" else "per s", note="Higher is better. The client and the backend share the other core and are often the limit: see the next table.")
    table("Share of its core the proxy used", T, lambda s, r: r.get("util") if s in closed else None)
    for q in ("p50_us", "p99_us", "p999_us"):
        table(f"Latency at a fixed rate, {q[:-3]}", ["direct"] + T, lambda s, r: r.get(q) if s in ("h1_rate", "side_rate", "tcp_pp") else None, unit=lambda s: "µs",
              note="Open loop, counted from the due time (the ping-pong row is a closed loop).")
    bad = [(s, t, sum(r.get("errors", 0) for r in v)) for s, x in S.items() for t, v in x.items() if sum(r.get("errors", 0) for r in v)]
    o += ["Errors: " + (", ".join(f"{s}/{t}: {n}" for s, t, n in bad) or "none"), ""]

    M = res["memory"]
    if any("conns1000" in x for v in M.values() for x in v):
        o += ["## Memory, MiB", "", "| target | RSS idle | PSS idle | anonymous idle | RSS, 1,000 idle connections | per connection KiB | per HTTP/2 connection KiB | RSS after the load |", "|---|---|---|---|---|---|---|---|"]
        for t in T:
            v = [x for x in M.get(t, []) if "conns1000" in x]
            g = lambda w, k: [x[w][k] / 1024 for x in v]
            al = M.get(t + " after load", [{}])[0].get("idle", {}).get("rss")
            per = [(x["conns1000"]["rss"] - x["idle"]["rss"]) / max(1, x["held"]) for x in v]
            o.append(f"| {t} | {cell(g('idle', 'rss'))} | {cell(g('idle', 'pss'))} | {cell(g('idle', 'anon'))} | {cell(g('conns1000', 'rss'))} | {cell(per)} | {cell([x.get('h2_each_kib') for x in v])} | {fmt(al / 1024) if al else '—'} |")
        o.append("")
    if res["start"]:
        o += ["## exec to first 200, ms", "", "| " + " | ".join(T) + " |", "|" + "---|" * len(T), "| " + " | ".join(cell(res["start"].get(t, [])) for t in T) + " |", ""]
    if res["many"]:
        ns = sorted({int(n) for v in res["many"].values() for n in v})
        o += ["## Many clusters (N static clusters, N virtual hosts)", "", "| target | " + " | ".join(f"{n}: ms to first 200 | {n}: RSS MiB | {n}: anonymous MiB" for n in ns) + " |", "|---|" + "---|" * 3 * len(ns)]
        for t, v in res["many"].items():
            o.append(f"| {t} | " + " | ".join(" | ".join([cell([x["ms"] for x in v.get(str(n), [])]), cell([x["rss"] / 1024 for x in v.get(str(n), [])]), cell([x["anon"] / 1024 for x in v.get(str(n), [])])]) for n in ns) + " |")
        o.append("")
    if res["size"]:
        o += ["## Size, MiB", "", "| target | binary | stripped | shared libraries (count) |", "|---|---|---|---|"]
        for t in T:
            z = res["size"].get(t)
            if z:
                o.append(f"| {t} | {z['file'] / 2**20:.1f} | {z.get('stripped', 0) / 2**20:.1f} | {z['libs'] / 2**20:.1f} ({z['nlibs']}) |")
        o.append("")
    return "\n".join(o)


if __name__ == "__main__":
    main()
