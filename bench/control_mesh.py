#!/usr/bin/python3
"""A mizzend with meshes of growing size: how soon it is ready, what it needs, how soon one proxy and then many have their first
configuration, how soon a change of endpoints reaches all of them.

usage: bench/control_mesh.py [--mizzend BIN] [--services 0,1000,5000] [--clients N] [--namespaces N] [--rules] [--status]
       0 services: the documents of Bookinfo. --rules: a VirtualService, DestinationRule and AuthorizationPolicy for each service.
       --status: with --status-dir. Needs xds-protos (.cache/venv).
"""
import argparse
import json
import os
import pathlib
import re
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import ads_load  # noqa: E402
import big_mesh  # noqa: E402
import control  # noqa: E402

QUIET_S = 1.5 # after a second without messages it gives back what it does not need
BOOKINFO = ROOT / "tests" / "conformance" / "istio" / "cases" / "bookinfo-like"


def cpu_ms(pid):
    f = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(f[11]) + int(f[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def memory_mb(pid, what):
    return int(re.search(rf"{what}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def told(**values):
    print("  " + ", ".join(f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()), flush=True)


def mesh_of(a, n):
    """Files, the node of a proxy, and a change of endpoints: (file, number of the change) -> text with the address of that number."""
    if not n:
        files = {f.name: f.read_text() for f in (BOOKINFO / "input").iterdir()}
        address = re.search(r'addresses: \["([0-9.]+)"\]', files["kube.yaml"])
        return files, json.loads((BOOKINFO / "productpage" / "node.json").read_text()), (
            "kube.yaml", lambda i: files["kube.yaml"].replace(address[0], f'addresses: ["10.77.0.{i}"]', 1))
    files = big_mesh.files(n, a.namespaces, with_rules=a.rules)
    return files, big_mesh.node(0, a.namespaces), ("endpoints-0.yaml", lambda i: big_mesh.endpoints_file(0, n, a.namespaces, f"10.77.0.{i}"))


def measure(a, n, binary, folder):
    files, node, (changed, text) = mesh_of(a, n)
    extra = ("--status-dir", str(folder / "status")) if a.status else ()
    began = time.monotonic()
    m = control.Mizzend(folder, files, *extra)
    told(ready_ms=(m.ready - m.began) * 1000, ready_cpu_ms=cpu_ms(m.process.pid), rss_mb=memory_mb(m.process.pid, "VmRSS"))
    load = ads_load.Load(binary, m.port, 1, [node])
    many = None
    try:
        load.ask("ready")
        told(**load.ask("types"))
        at_once = memory_mb(m.process.pid, "VmRSS")
        time.sleep(QUIET_S)
        told(one_proxy_rss_mb=at_once, at_rest_mb=memory_mb(m.process.pid, "VmRSS"), peak_mb=memory_mb(m.process.pid, "VmHWM"))
        if a.clients:
            before = cpu_ms(m.process.pid)
            many = ads_load.Load(binary, m.port, a.clients, [big_mesh.node(i, a.namespaces) for i in range(64)] if n else [node])
            got = many.ask("ready")
            told(clients=a.clients, first_p50_ms=got["p50_ms"], first_max_ms=got["max_ms"], cpu_ms=cpu_ms(m.process.pid) - before)
        for i in range(1, a.changes + 1):
            before = cpu_ms(m.process.pid)
            got = (many or load).reached(f"10.77.0.{i}", lambda: m.write(changed, text(i)))
            told(change=i, p50_ms=got["p50_ms"], max_ms=got["max_ms"], cpu_ms=cpu_ms(m.process.pid) - before)
        time.sleep(QUIET_S)
        told(at_rest_mb=memory_mb(m.process.pid, "VmRSS"), peak_mb=memory_mb(m.process.pid, "VmHWM"), seconds=time.monotonic() - began)
    finally:
        for x in (load, many):
            if x:
                x.close()
        m.stop()


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--mizzend", default=str(ROOT / "build" / "mizzend"))
    ap.add_argument("--services", default="0,1000,5000")
    ap.add_argument("--clients", type=int, default=0)
    ap.add_argument("--changes", type=int, default=3)
    ap.add_argument("--namespaces", type=int, default=10)
    ap.add_argument("--rules", action="store_true")
    ap.add_argument("--status", action="store_true")
    a = ap.parse_args()
    control.MIZZEND = pathlib.Path(a.mizzend).resolve()
    for n in [int(s) for s in a.services.split(",")]:
        print(f"{n:,} services" if n else "Bookinfo", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            measure(a, n, ads_load.program(folder), pathlib.Path(folder))


if __name__ == "__main__":
    main()
