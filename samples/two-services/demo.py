#!/usr/bin/python3
"""Runs the two services behind a proxy, sends them traffic, and says what happened.

  demo.py [--once] [--proxy BINARY] [--bin DIR]     without --once everything stays up until Ctrl-C
"""
import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))
from running import is_free  # noqa: E402

SERVERS = [("web", "v1", 18081), ("web", "v2", 18082), ("api", "v1", 18083), ("api", "v2", 18084)]
FRONT, ADMIN = 10000, 9901


def free_ports(wanted):
    """{wanted port: a port that is free}, the same one where possible."""
    out = {}
    for port in wanted:
        candidate = port
        while not is_free(candidate) or candidate in out.values():
            candidate += 100
        out[port] = candidate
    return out


def get(port, path, timeout=10):
    """(status, headers, body); status 0 when there is no answer."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.headers, r.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, {}, ""
    finally:
        c.close()


def wait(condition, what, processes):
    end = time.monotonic() + 15
    while not condition():
        for name, p in processes.items():
            if p.poll() is not None:
                raise SystemExit(f"{name} ended with code {p.returncode}")
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come up")
        time.sleep(0.005)


class Demo:
    def __init__(self, proxy, bin_dir, work):
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        for name in ("access.json", "proxy.log", "access.txt"):
            (work / name).unlink(missing_ok=True)
        self.ports = free_ports([FRONT, ADMIN] + [s[2] for s in SERVERS])
        self.front, self.admin = self.ports[FRONT], self.ports[ADMIN]
        config = HERE / "envoy.yaml"
        if any(a != b for a, b in self.ports.items()):
            text = re.sub(r"port_value: (\d+)", lambda m: f"port_value: {self.ports[int(m[1])]}", config.read_text())
            config = work / "envoy.yaml"
            config.write_text(text)
        self.config, self.processes = config, {}
        try:
            for name, version, port in SERVERS:
                self.processes[f"{name} {version}"] = subprocess.Popen(
                    [bin_dir / "mizzen-sample-server", "--port", str(self.ports[port]), "--name", name, "--version", version])
            for _, _, port in SERVERS:
                wait(lambda p=port: get(self.ports[p], "/")[0] == 200, "a sample server", self.processes)
            start = time.monotonic()
            with open(work / "access.txt", "wb") as out, open(work / "proxy.log", "wb") as log:
                self.processes["the proxy"] = subprocess.Popen(
                    [proxy, "-c", str(config), "--concurrency", "2", "--disable-hot-restart", "--file-flush-interval-msec", "20"],
                    cwd=work, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
            wait(lambda: get(self.front, "/")[0] == 200, "the proxy", self.processes)
            self.started_ms = (time.monotonic() - start) * 1000
        except SystemExit:
            if (work / "proxy.log").exists():
                sys.stderr.write((work / "proxy.log").read_text("utf-8", "replace")[-3000:])
            self.stop()
            raise

    def stop(self):
        for p in reversed(self.processes.values()):
            p.send_signal(signal.SIGTERM)
        for p in self.processes.values():
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()

    def stats(self, pattern):
        lines = get(self.admin, "/stats")[2].splitlines()
        return [x for x in lines if re.search(pattern, x) and not x.endswith(": 0")]

    def log(self, pick):
        """The last access-log entry for which pick(entry) is true, once it is written."""
        for _ in range(100):
            try:
                entries = [json.loads(x) for x in (self.work / "access.json").read_text().splitlines()]
                found = [e for e in entries if pick(e)]
                if found:
                    return found[-1]
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        return None

    def show_log(self, pick):
        e = self.log(pick)
        if e:
            keys = ("status", "flags", "details", "attempts", "duration_ms", "cluster", "host")
            print("   log:  " + " ".join(f"{k}={e.get(k)}" for k in keys if e.get(k) is not None))

    def run(self):
        print(f"\nmizzen-proxy -c {os.path.relpath(self.config)}: first answer {self.started_ms:.0f} ms after its start")
        self.split()
        self.retries()
        self.timeout()
        self.breaker()
        self.failure()
        self.counted()
        self.explain()

    def split(self):
        by = collections.Counter(get(self.front, "/")[1].get("x-served-by") for _ in range(300))
        print("\n1. Split: 300 requests to /, 90 % for web v1 and 10 % for web v2")
        print("   " + ", ".join(f"{k}: {n}" for k, n in sorted(by.items(), key=str)))

    def retries(self):
        codes = collections.Counter(get(self.front, "/api/flaky")[0] for _ in range(40))
        print("\n2. Retries: 40 requests to /api/flaky, where every second answer is a 503")
        print("   the client saw " + ", ".join(f"{n} x {c}" for c, n in sorted(codes.items())))
        for line in self.stats(r"^cluster\.api-v\d\.upstream_rq_retry(_success)?:"):
            print("   " + line)

    def timeout(self):
        t = time.monotonic()
        status = get(self.front, "/api/slow")[0]
        print("\n3. Timeout: /api/slow takes 2 s, its route allows 0.5 s")
        print(f"   {status} after {time.monotonic() - t:.2f} s")
        self.show_log(lambda e: e["path"] == "/api/slow")

    def breaker(self):
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            codes = collections.Counter(r[0] for r in pool.map(lambda _: get(self.front, "/api/narrow"), range(10)))
        print("\n4. Circuit breaker: 10 requests at once to /api/narrow, which takes 2 and lets 1 wait")
        print("   the client saw " + ", ".join(f"{n} x {c}" for c, n in sorted(codes.items())))
        self.show_log(lambda e: e["path"] == "/api/narrow" and e["flags"] == "UO")
        for line in self.stats(r"^cluster\.api-narrow\.upstream_rq_pending_overflow:"):
            print("   " + line)

    def failure(self):
        status = get(self.front, "/api/reset")[0]
        print("\n5. Failure: /api/reset closes the connection instead of answering, on each attempt")
        print(f"   {status}")
        self.show_log(lambda e: e["path"] == "/api/reset")

    def counted(self):
        print("\n6. Counted:")
        for line in self.stats(r"^http\.front\.downstream_rq_(total|[245]xx):"):
            print("   " + line)

    def explain(self):
        status, _, body = get(self.admin, "/mizzen/requests")
        if status == 200:
            print("\n7. Why? The proxy's own story of the last failed and slow requests (GET /mizzen/requests):")
            lines = body.splitlines()
            print("\n".join("   " + x for x in lines[:24]) + (f"\n   ... {len(lines) - 24} more lines" if len(lines) > 24 else ""))

    def next_steps(self, stays):
        front, admin = f"http://127.0.0.1:{self.front}", f"http://127.0.0.1:{self.admin}"
        print(f"\nAdmin page: {admin}/" + ("" if stays else "   (while it runs: script/demo without --once)"))
        print(f"""Try next{'' if stays else ', with script/demo running'}:
  curl -i {front}/api/headers                      what the service receives
  for i in 1 2 3 4 5 6; do curl -s {front}/; done         the canary
  curl -s '{admin}/stats?filter=upstream_rq&usedonly'   counters, as an Envoy names them
  curl -s {admin}/clusters                         endpoints and their state
  curl -s {admin}/mizzen/requests                  the last failed and slow requests, each with its story
  edit samples/two-services/envoy.yaml, then: build/mizzen-proxy -c samples/two-services/envoy.yaml --mode validate
Logs: {os.path.relpath(self.work)}/access.txt, access.json, proxy.log""")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--once", action="store_true")
    ap.add_argument("--bin", type=pathlib.Path, default=HERE.parent.parent / "build")
    ap.add_argument("--proxy", type=pathlib.Path)
    a = ap.parse_args()
    proxy = a.proxy or a.bin / "mizzen-proxy"
    if not proxy.exists():
        raise SystemExit(f"there is no {os.path.relpath(proxy)} in this tree yet")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demo = Demo(proxy.resolve(), a.bin.resolve(), a.bin.resolve() / "demo")
    try:
        demo.run()
        demo.next_steps(not a.once)
        if not a.once:
            print("Running; Ctrl-C ends it.", flush=True)
            while demo.processes["the proxy"].poll() is None:
                time.sleep(0.5)
            raise SystemExit("the proxy ended")
    except KeyboardInterrupt:
        print()
    finally:
        demo.stop()


main()
