#!/usr/bin/python3
"""A session at a mesh, as text: runs the commands below in a copy of samples/ and writes what they said. docs/tour.md is its output.

  tour.py [--bin DIR] [--out FILE]       writes the text (standard output without --out)
  tour.py --check FILE                   the same commands must say the same but for numbers, names that are made up, and times
"""
import argparse
import atexit
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))
from running import is_free  # noqa: E402

INTRO = """# A tour

A session at the mesh of `samples/bookinfo` on one machine, root or not. Commands and output are as they were; `samples/bookinfo/tour.py` made this text, and
the tests run it again. `mizzenctl` and the other programs are in `build/` after `script/build`.
"""
# (what is said before, the commands)
STEPS = [
    ("## A mesh from a directory\n\nThe directory holds ordinary documents of Kubernetes and Istio. `up` makes a network namespace for each pod, runs the application there with an agent and a "
     "proxy beside it, and a control plane for all of them. `--detach` comes back when every pod is ready.",
     ["ls samples/bookinfo", "mizzenctl up samples/bookinfo --detach", "mizzenctl ps"]),
    ("The page, through the gateway; what is on it comes from three services behind four proxies.",
     ["curl -s --retry 3 localhost:8080/productpage | grep -o '<h1>[^<]*'", "curl -s localhost:8080/api/v1/products/0 | jq -c '{author, pages, publisher}'"]),
    ("## Why does a request go where it goes?\n\nThe way of one request, hop by hop, without sending it: which listener takes it, which route, cluster and endpoint, whether a policy lets it in, and the "
     "document and line behind each of these.",
     ["mizzenctl explain productpage-v1 http://details:9080/details/0"]),
    ("jason gets another version of the reviews. Which rule says so?",
     ["mizzenctl explain productpage-v1 http://reviews:9080/reviews/0 -H end-user:jason | grep -E 'reviews.yaml|reviews-v'"]),
    ("Nobody but reviews and productpage may ask ratings.",
     ["mizzenctl exec details-v1 -- curl -s -w ' %{http_code}\\n' http://ratings:9080/ratings/0"]),
    ("## A split, changed while requests come\n\nFour in five requests go to the first version, one in five to the third.",
     ["grep -B1 weight samples/bookinfo/reviews.yaml",
      "mizzen-sample-load --requests 100 http://localhost:8080/api/v1/products/0/reviews | jq -c '{requests, errors, status}'",
      "sed -i 's/weight: 80/weight: 0/; s/weight: 20/weight: 100/' samples/bookinfo/reviews.yaml",
      "sleep 1; curl -s localhost:8080/api/v1/products/0/reviews | jq -c '.reviews[0].rating'"]),
    ("## What was wrong, looked up afterwards\n\nEach proxy keeps its last failed and slow requests with their story.",
     ["mizzenctl requests | grep -E 'WHY|rbac'"]),
    ("## The parts\n\nWhat the control plane has told whom, and what a proxy made of it.",
     ["mizzenctl proxy-status | cut -c1-92", "mizzenctl proxy-config cluster reviews-v2 --fqdn ratings.default.svc.cluster.local"]),
    ("A proxy that dies comes back; the pod goes on.",
     ["kill -9 $(mizzenctl ps -o json | jq '.pods[] | select(.name | startswith(\"details\")).containers[].processes[] | select(.command == \"mizzen-proxy\").pid')",
      "mizzen-sample-load --wait 5 --requests 10 http://localhost:8080/api/v1/products/0 | jq -c .status", "mizzenctl ps | grep -E 'RESTARTS|details'"]),
    ("## The end\n\nNothing is left: no process, no namespace, no rule, no file.",
     ["mizzenctl down samples/bookinfo", "mizzenctl ps"]),
]


def run(command, work, env):
    r = subprocess.run(["bash", "-c", command], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return "\n".join(line.rstrip() for line in r.stdout.splitlines())


def tour(bin_dir):
    """[(text before, [(command, output)])]"""
    with tempfile.TemporaryDirectory(prefix="mizzen-tour.") as work:
        port = next(p for p in range(8080, 9000) if is_free(p))
        shutil.copytree(HERE, pathlib.Path(work, "samples/bookinfo"), ignore=shutil.ignore_patterns("src", "*.py", "__pycache__"))
        gateway = pathlib.Path(work, "samples/bookinfo/gateway.yaml")
        gateway.write_text(gateway.read_text().replace('"8080:80"', f'"{port}:80"'))
        env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "140"}
        out = []
        try:
            for text, commands in STEPS:
                out.append((text, [(c, run(c.replace(":8080", f":{port}"), work, env).replace(f":{port}", ":8080").replace(work, "~")) for c in commands]))
        finally:
            subprocess.run([bin_dir / "mizzenctl", "down", "samples/bookinfo"], cwd=work, capture_output=True)
        return out


def as_text(steps):
    parts = [INTRO]
    for text, commands in steps:
        parts.append(text)
        parts.append("```console\n" + "\n".join(f"$ {c}" + (f"\n{o}" if o else "") for c, o in commands) + "\n```")
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def shape(text):
    """Without what is another time otherwise: numbers, the made-up parts of pods' names, how wide a column is."""
    text = re.sub(r"\b([a-z0-9]+(?:-v\d|-[a-z]+)*)-[a-z0-9]{6,10}-[a-z0-9]{5}\b", r"\1-X", text)
    text = re.sub(r"\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|B|kB|KB|MB|MiB)\b", "T", text)
    return [re.sub(r"\s+", " ", re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", line)).strip() for line in text.splitlines()]


def alone():
    """Other meshes of this user are out of sight: of those that run, the only one need not be named."""
    if os.environ.get("MIZZEN_TOUR"):
        return
    os.environ["MIZZEN_TOUR"] = "1"
    if os.geteuid() == 0:
        # Not /run/mizzen alone: whoever ends the last mesh outside removes that folder, and what is mounted on it goes with it.
        hide = 'mount -t tmpfs -o mode=755 mizzen /run && exec "$@"'
        os.execvp("unshare", ["unshare", "-m", "sh", "-c", hide, "sh", sys.executable, __file__, *sys.argv[1:]])
    os.environ["XDG_RUNTIME_DIR"] = folder = tempfile.mkdtemp(prefix="mizzen-tour.")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bin", type=pathlib.Path, default=HERE.parent.parent / "build")
    ap.add_argument("--out", type=pathlib.Path)
    ap.add_argument("--check", type=pathlib.Path)
    a = ap.parse_args()
    alone()
    text = as_text(tour(a.bin.resolve()))
    if a.check:
        was, now = shape(a.check.read_text()), shape(text)
        for line in difflib.unified_diff(was, now, str(a.check), "now", lineterm="", n=1):
            print(line)
        sys.exit(was != now)
    if a.out:
        a.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
