#!/usr/bin/python3
"""Runs Bookinfo as a mesh on this machine, puts requests on it, and says what happened.

  demo.py [--once] [--bin DIR]     without --once everything stays up until Ctrl-C
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))
from running import Mesh, is_free, short  # noqa: E402

NAME = "bookinfo"
FAULT = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - name: tester-gets-none
    match: [{headers: {end-user: {exact: tester}}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}
    route: [{destination: {host: ratings}}]
  - route: [{destination: {host: ratings}}]
"""


class Demo:
    def __init__(self, bin_dir, work):
        """The documents are copied: the demo writes a rule, and so may whoever watches it."""
        self.bin, self.work, self.docs = bin_dir, work, work / NAME
        shutil.rmtree(self.docs, ignore_errors=True)
        self.docs.mkdir(parents=True)
        for f in HERE.glob("*.yaml"):
            shutil.copy(f, self.docs)
        began = time.monotonic()
        self.mesh = Mesh(bin_dir, self.docs, NAME, work / "up.log", () if is_free(8080) else ("--any-port",))
        try:
            self.front = self.mesh.published("istio-ingressgateway")
            self.mesh.wait(lambda: self.page()[0] == 200, "the first page")
        except BaseException:
            self.mesh.stop(check=False)
            raise
        self.took = time.monotonic() - began

    def load(self, *args, path="/productpage"):
        r = subprocess.run([self.bin / "mizzen-sample-load", *map(str, args), f"http://{self.front}{path}"], capture_output=True, text=True, timeout=60)
        return json.loads(r.stdout)

    def page(self, user=None):
        """(status, HTML) of the product page."""
        import http.client
        c = http.client.HTTPConnection(self.front, timeout=20)
        try:
            c.request("GET", "/productpage", headers={"cookie": f"session={user}"} if user else {})
            r = c.getresponse()
            return r.status, r.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            c.close()

    def run(self):
        pods = self.mesh.pods()
        print(f"\nmizzenctl up {os.path.relpath(self.docs)}: {len(pods)} pods, first page after {self.took * 1000:.0f} ms")
        for p in sorted(pods, key=lambda p: (p["namespace"], p["name"])):
            print(f"   {p['namespace'] + '/' + short(p):38} {p['ip']:14} {p['kind']}")
        before = self.mesh.calls()
        self.load("--requests", 200, "--connections", 4)
        for _ in range(10):
            self.page("jason")
        calls = {k: n - before.get(k, 0) for k, n in self.mesh.calls().items() if n > before.get(k, 0)}
        self.who(calls)
        self.split(calls)
        self.fault()
        self.identity()
        self.latency()
        self.why()
        self.memory()

    def who(self, calls):
        print("\n1. Who asked whom (istio_requests_total of every proxy): 200 pages for everybody, 10 for jason")
        for (src, dst, code, flags), n in sorted(calls.items()):
            print(f"   {src:22} -> {dst:16} {code} {n:6}{'   flags ' + flags if flags != '-' else ''}")

    def split(self, calls):
        to = {v: sum(n for (_, dst, _, _), n in calls.items() if dst == f"reviews-{v}") for v in ("v1", "v2", "v3")}
        print("\n2. Split (reviews.yaml): jason gets v2 by the route test-user, others v1 and v3 by weight, 80 to 20")
        print("   " + ", ".join(f"reviews-{v}: {n}" for v, n in to.items()))

    def fault(self):
        print("\n3. Fault: a VirtualService for ratings is written into the directory: whoever is signed in as tester gets none")
        beside = self.work / "ratings.yaml.new"
        beside.write_text(FAULT)
        # reviews v1 asks no ratings: let tester see v3, as jason sees v2
        rules = (self.docs / "reviews.yaml").read_text()
        (self.work / "reviews.yaml.new").write_text(rules.replace("exact: jason", 'regex: "jason|tester"'))
        os.replace(self.work / "reviews.yaml.new", self.docs / "reviews.yaml")
        self.mesh.wait(lambda: "&#9733;" in self.page("tester")[1], "tester's stars")
        began = time.monotonic()
        os.replace(beside, self.docs / "ratings.yaml")
        self.mesh.wait(lambda: "ratings did not answer" in self.page("tester")[1], "the fault")
        took = time.monotonic() - began
        ok = "ratings did not answer" not in self.page("jason")[1]
        print(f"   in force after {took * 1000:.0f} ms; tester's page is {self.page('tester')[0]} without stars, jason's has {'its' if ok else 'no'} stars")
        for key, n in sorted(self.mesh.calls().items()):
            if "FI" in key[3]:
                print(f"   {key[0]:22} -> {key[1]:16} {key[2]} {n:6}   flags {key[3]}: made by the proxy of {key[0]}, ratings never saw them")

    def identity(self):
        print("\n4. Mutual TLS: what the servers' proxies saw")
        seen = {}
        for labels, n in self.mesh.metrics("istio_requests_total"):
            if labels["reporter"] == "destination":
                key = labels["destination_workload"], labels["connection_security_policy"], labels["source_principal"]
                seen[key] = seen.get(key, 0) + int(n)
        for (dst, policy, who), n in sorted(seen.items()):
            print(f"   {dst:16} {policy:12} {n:6} by {who}")
        pod = self.mesh.pod("reviews-v1")
        print(f"   {self.pod_name(pod)} is {self.uri(pod)}")

    @staticmethod
    def pod_name(pod):
        return f"{pod['namespace']}/{pod['name']}"

    def uri(self, pod):
        for c in json.loads(self.mesh.get(self.pod_name(pod), 15000, "/certs")[1])["certificates"]:
            for leaf in c.get("cert_chain", []):
                names = [n["uri"] for n in leaf.get("subject_alt_names", []) if "uri" in n]
                if names:
                    return f"{names[0]}, by a certificate until {leaf['expiration_time']}"
        return "?"

    def latency(self):
        print("\n5. Latency: 100 pages a second for 2 s; a page is three or four requests, each through two proxies with mutual TLS")
        r = self.load("--rate", 100, "--seconds", 2)
        print(f"   {r['requests']} pages, {r['errors']} errors, p50 {r['ms']['p50']} ms, p90 {r['ms']['p90']} ms, p99 {r['ms']['p99']} ms")

    def why(self):
        r = self.mesh.ctl("explain", "--mesh", NAME, "productpage-v1", "http://details:9080/details/0")
        if r.returncode == 0:
            print("\n6. Why? mizzenctl explain productpage-v1 http://details:9080/details/0")
            print("\n".join("   " + line for line in r.stdout.splitlines()[:60]))

    def memory(self):
        state, mesh, rest = self.mesh.list(), 0, 0
        print("\n7. Memory (PSS: what is shared counts once)")
        for p in sorted(state["pods"], key=lambda p: (p["namespace"], p["name"])):
            of = {}
            for c in p["containers"]:
                of.update({x["command"]: x["pss_kb"] for x in c["processes"]})
                if c["name"] == "istio-proxy":
                    mesh += c["pss_kb"]
                else:
                    rest += c["pss_kb"]
            print(f"   {short(p):22} " + ", ".join(f"{k} {v / 1024:.1f} MB" for k, v in of.items()))
        for name in ("mizzend", "supervisor"):
            print(f"   {name:22} {state[name]['pss_kb'] / 1024:.1f} MB")
        mesh, rest = mesh + state["mizzend"]["pss_kb"], rest + state["supervisor"]["pss_kb"]
        print(f"   mizzend, agents and proxies: {mesh / 1024:.1f} MB; with the applications and what runs the pods: {(mesh + rest) / 1024:.1f} MB")

    def next_steps(self, stays):
        at = os.path.relpath(self.docs)
        print(f"\nThe page: http://{self.front}/productpage" + ("" if stays else "   (while it runs: script/demo without --once)"))
        print(f"""Try next{'' if stays else ', with script/demo running'} (mizzenctl is build/mizzenctl):
  sign in as jason, as tester, as nobody                                             three pages
  mizzenctl ps; mizzenctl top                                                        pods, rates, memory
  mizzenctl explain productpage-v1 http://reviews:9080/reviews/0 -H end-user:jason   which rule, which line
  mizzenctl requests                                                                 failed and slow requests, each with its story
  mizzenctl exec details-v1 -- curl -si http://ratings:9080/ratings/0                403: security.yaml
  mizzenctl logs reviews-v3                                                          its access log
  {('edit ' + at + '/reviews.yaml'):82} weights; in force when you save
  samples/README.md                                                                  labs: canary, mirror, egress, tokens, TLS, a Job, an Envoy
  script/demo two-services                                                           one proxy with an Envoy's configuration file""")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--once", action="store_true")
    ap.add_argument("--bin", type=pathlib.Path, default=HERE.parent.parent / "build")
    a = ap.parse_args()
    if not (a.bin / "mizzenctl").exists():
        raise SystemExit(f"there is no {os.path.relpath(a.bin)}/mizzenctl yet: script/build")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo = Demo(a.bin.resolve(), a.bin.resolve() / "demo")
    except RuntimeError as e:
        raise SystemExit(str(e)) from None
    try:
        demo.run()
        demo.next_steps(not a.once)
        if not a.once:
            print("Running; Ctrl-C ends it.", flush=True)
            while demo.mesh.process.poll() is None:
                time.sleep(0.5)
            raise SystemExit("the mesh ended")
    except KeyboardInterrupt:
        print()
    except RuntimeError as e:
        raise SystemExit(str(e)) from None
    finally:
        demo.mesh.stop()


if __name__ == "__main__":
    main()
