#!/usr/bin/python3
"""What a mizzend needs for many connected proxies, over sockets: the first configuration of all, a change of endpoints, memory.

usage: bench/control_clients.py [--mizzend BIN] [--clients N] [--changes N]        needs xds-protos (.cache/venv)
"""
import argparse
import json
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import ads_load  # noqa: E402
import control  # noqa: E402

CASE = ROOT / "tests" / "conformance" / "istio" / "cases" / "plain-http"


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--mizzend", default=str(ROOT / "build" / "mizzend"))
    ap.add_argument("--clients", type=int, default=1000)
    ap.add_argument("--changes", type=int, default=5)
    a = ap.parse_args()
    control.MIZZEND = pathlib.Path(a.mizzend).resolve()
    kube = (CASE / "input" / "kube.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        binary = ads_load.program(folder)
        for how in ([], ["--sotw"]):
            own = pathlib.Path(tempfile.mkdtemp(dir=folder))
            m = control.Mizzend(own, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
            load = ads_load.Load(binary, m.port, a.clients, [json.loads((CASE / "web" / "node.json").read_text())], *how)
            try:
                print("state of the world" if how else "delta", "first configuration:", load.ask("ready"), flush=True)
                for i in range(a.changes):
                    def change(i=i):
                        m.write("kube.yaml", kube.replace('addresses: ["10.10.0.21"]', f'addresses: ["10.77.0.{i + 1}"]'))
                    print("  endpoints:", load.reached(f"10.77.0.{i + 1}", change), flush=True)
                rss = int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{m.process.pid}/status").read_text())[1]) >> 10
                print(f"  {rss} MB resident", flush=True)
                for line in m.log().splitlines()[-1:]:
                    print("  " + line.rpartition("] ")[2])
            finally:
                load.close()
                m.stop()


if __name__ == "__main__":
    main()
