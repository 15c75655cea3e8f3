#!/usr/bin/python3
"""What a mesh adds to a request: samples/two-layer on this machine, a client and one server, first without proxies, then with ours, then
with Envoy where one is installed. Two hops (the client's proxy, the server's) with mutual TLS between them, Istio's metrics and an access log, at a fixed
rate; latencies count from when a request is due. A stock Envoy has no Istio metrics: it does less. `script/bench mesh` is the usual way in.

  mesh_hops.py [--bin DIR] [--envoy BINARY] [--rate 1000] [--seconds 5] [--rounds 3] [--out DIR]
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "samples/common"))
from running import Mesh, short  # noqa: E402

URL = "http://fortio-server-l2:8080/"


def documents(work, envoy):
    """`envoy`: None: no proxies, "": ours, else its path."""
    folder = pathlib.Path(work, "lab")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "samples/two-layer", folder)
    lab = folder / "lab.yaml"
    text = lab.read_text()
    if envoy is None:
        text = text.replace("istio-injection: enabled", "istio-injection: disabled")
    elif envoy:
        note = f"annotations: {{ proxy.istio.io/config: 'binaryPath: {envoy}' }}\n"
        for labels, indent in (("      labels: { app: fortio-server-l2, ", "      "), ("  labels: { app: client }", "  ")):
            assert text.count(labels) == 1
            text = text.replace(labels, f"{indent}{note}{labels}")
    lab.write_text(text)
    return folder


def proxies(mesh):
    """{workload: [processes of its proxy's container]}"""
    return {short(p): c["processes"] for p in mesh.pods() for c in p["containers"] if c["name"] == "istio-proxy"}


def is_proxy(process):
    return "agent" not in os.path.basename(process["command"].split()[0])


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def measure(a, envoy, work):
    with Mesh(a.bin, documents(work, envoy), f"bench-{os.getpid()}", f"{work}/up.log") as m:
        def load(rate, seconds):
            return json.loads(m.ctl("exec", "--mesh", m.name, "client.mark", "--", "mizzen-sample-load", "--wait", 10, "--rate", rate, "--seconds", seconds, URL).stdout)
        load(a.rate, 1)  # connections, code, branch predictors
        mine = {w: [p for p in ps if is_proxy(p)] for w, ps in proxies(m).items() if w in ("client", "fortio-server-l2")}
        pids = [p["pid"] for ps in mine.values() for p in ps]
        before = cpu_seconds(pids)
        r = load(a.rate, a.seconds)
        cpu = cpu_seconds(pids) - before
        mine = {w: [p for p in ps if is_proxy(p)] for w, ps in proxies(m).items() if w in mine}
        policies = {x["connection_security_policy"] for x, _ in m.metrics("istio_requests_total") if x["reporter"] == "destination"} if envoy == "" else set()
        assert envoy != "" or policies == {"mutual_tls"}, policies
        return {**r, "cpu_us": cpu * 1e6 / max(r["requests"], 1), "pss_mb": sum(p["pss_kb"] for ps in mine.values() for p in ps) / 1024}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bin", type=pathlib.Path, default=ROOT / "build")
    ap.add_argument("--envoy", default="")
    ap.add_argument("--rate", type=int, default=1000)
    ap.add_argument("--seconds", type=float, default=5)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--out", type=pathlib.Path)
    a = ap.parse_args()
    a.bin = a.bin.resolve()
    kinds = {"no proxies": None, "mizzen": "", **({"envoy": a.envoy} if a.envoy else {})}
    results = {k: [] for k in kinds}
    with tempfile.TemporaryDirectory(prefix="mizzen-bench.") as work:
        for n in range(a.rounds):
            for kind, envoy in kinds.items():
                results[kind].append(measure(a, envoy, work))
                print(f"round {n + 1}, {kind}: p50 {results[kind][-1]['ms']['p50']} ms", file=sys.stderr)
    base = statistics.median(r["ms"]["p50"] for r in results["no proxies"])
    lines = [f"Two hops, {a.rate} requests a second for {a.seconds:g} s, the median of {a.rounds} rounds", "",
             "| | p50 ms | p90 ms | p99 ms | added at p50 | CPU of both proxies a request | their memory (PSS) | errors |", "|---|---|---|---|---|---|---|---|"]
    for kind, rs in results.items():
        def med(f):
            return statistics.median(f(r) for r in rs)
        p50, own = med(lambda r: r["ms"]["p50"]), kind != "no proxies"
        cells = [kind, f"{p50:.2f}", f"{med(lambda r: r['ms']['p90']):.2f}", f"{med(lambda r: r['ms']['p99']):.2f}", f"{p50 - base:.2f} ms" if own else "",
                 f"{med(lambda r: r['cpu_us']):.0f} µs" if own else "", f"{med(lambda r: r['pss_mb']):.1f} MB" if own else "", str(sum(r["errors"] for r in rs))]
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if a.out:
        (a.out / "mesh.md").write_text(text)
        (a.out / "mesh.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
