#!/usr/bin/python3
"""What one change costs mizzend as the mesh grows: CPU time until everybody was told, without sockets (control_scale.c).

usage: bench/control_curve.py --program build/src/control/control_scale [--services 100,1000,5000,10000] [--proxies N] [--namespaces N]
                              [--out FILE]
"""
import argparse
import json
import pathlib
import subprocess

ap = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--program", required=True)
ap.add_argument("--services", default="100,1000,5000,10000")
ap.add_argument("--proxies", type=int, default=100)
ap.add_argument("--namespaces", type=int, default=10)
ap.add_argument("--out")
a = ap.parse_args()

sizes = [int(s) for s in a.services.split(",")]
rows = {}
for n in sizes:
    out = subprocess.run([a.program, str(n), str(a.proxies), str(a.namespaces)], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        what, ms, responses, octets, resident = line.split("\t")
        rows.setdefault(what, {})[n] = dict(ms=float(ms), responses=int(responses), bytes=int(octets), resident_mb=int(resident))
print(f"CPU ms, {a.proxies} proxies, {a.namespaces} namespaces; services:")
print("| change | " + " | ".join(f"{n:,}" for n in sizes) + " | responses |")
print("|---|" + "---|" * (len(sizes) + 1))
for what, by in rows.items():
    print(f"| {what} | " + " | ".join(f"{by[n]['ms']:.2f}" for n in sizes) + f" | {by[sizes[-1]]['responses']} |")
print("| at rest MB | " + " | ".join(str(rows["at rest"][n]["resident_mb"]) for n in sizes) + " | |")
print("| resident MB | " + " | ".join(str(max(r[n]["resident_mb"] for r in rows.values())) for n in sizes) + " | |")
if a.out:
    pathlib.Path(a.out).write_text(json.dumps(dict(proxies=a.proxies, namespaces=a.namespaces, rows=rows), indent=1))
