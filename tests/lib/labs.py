"""Meshes of samples/ for tests: `lab("canary")` runs a copy of that folder (tests change its files), with all pods ready."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from samples import BIN, ROOT, get
from wire import patient, until

sys.path.insert(0, str(ROOT / "common"))
import running as up  # noqa: E402

FETCH = """
import json, sys, urllib.error, urllib.request
want = json.loads(sys.argv[1])
ask = urllib.request.Request(want["url"], headers=want["headers"], method=want["method"])
try:
    r = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask, timeout=want["timeout"])
except urllib.error.HTTPError as e:
    r = e
except OSError as e:
    print(json.dumps({"status": 0, "headers": {}, "text": str(e)}))
    sys.exit()
print(json.dumps({"status": r.status, "headers": {k.lower(): v for k, v in r.headers.items()}, "text": r.read().decode()}))
"""


class Lab(up.Mesh):
    def __init__(self, folder, name):
        super().__init__(BIN, folder, name, folder.parent / f"{folder.name}.log", patience=patient(30))
        self.before = {}

    def fetch(self, pod, url, method="GET", timeout=20, **headers):
        """What an application in a pod gets: (status, headers, text); 0 where there was no answer."""
        want = {"url": url, "method": method, "timeout": patient(timeout), "headers": {k.replace("_", "-"): v for k, v in headers.items()}}
        got = json.loads(self.exec(pod, sys.executable, "-c", FETCH, json.dumps(want)))
        return got["status"], got["headers"], got["text"]

    def front(self, path="/productpage", user=None, timeout=30, **headers):
        """From outside, through the gateway."""
        if user:
            headers["cookie"] = f"session={user}"
        return get(f"http://{self.published('istio-ingressgateway', 80)}{path}", headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=timeout)

    def settle(self, works):
        """It works from its first request on. What was counted by then does not count."""
        assert works(), self.states()
        for reporter in ("source", "destination"):
            def quiet():
                now = self.sums(reporter)
                time.sleep(0.05)  # counters are written behind the answer
                return now == self.sums(reporter)
            until(quiet, 10, "the proxies to have counted")
            self.before[reporter] = self.sums(reporter)

    def sums(self, reporter):
        got = {}
        for (src, dst, _, _), n in self.calls(reporter).items():
            got[src, dst] = got.get((src, dst), 0) + n
        return got

    def load(self, *args, path="/productpage"):
        """Load from outside in the background: a function that waits for it and says what came of it."""
        p = subprocess.Popen([BIN / "mizzen-sample-load", *map(str, args), f"http://{self.published('istio-ingressgateway', 80)}{path}"],
                             stdout=subprocess.PIPE, text=True)
        return lambda: json.loads(p.communicate(timeout=patient(60))[0])

    def write(self, name, text):
        """As editors do: beside, then moved into place."""
        beside = self.directory / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.directory / name)

    def edit(self, name, old, new):
        text = (self.directory / name).read_text()
        assert old in text, (name, old)
        self.write(name, text.replace(old, new))

    def counted(self, wanted, reporter="source"):
        """Until the proxies have counted these calls: {(from, to): how many}, codes and flags apart."""
        def now():
            before = self.before.get(reporter, {})
            return {k: n - before.get(k, 0) for k, n in self.sums(reporter).items() if n != before.get(k, 0)}
        until(lambda: all(now().get(k, 0) >= n for k, n in wanted.items()), 10, lambda: f"{wanted}; counted are {now()}")
        return now()

    def policies(self):
        """What the servers' proxies say of the connections they were asked over."""
        return {labels["connection_security_policy"] for labels, _ in self.metrics("istio_requests_total") if labels["reporter"] == "destination"}

    def logs(self):
        return "".join(p.read_text(errors="replace") for p in (pathlib.Path(self.list()["state"]) / "logs").glob("*.log"))

    def close(self):
        said = self.logs() if self.process.poll() is None else ""
        state = up.state_folder(self.name)
        pids = [c["pid"] for p in self.pods() for c in p["containers"] if c.get("pid")] if self.process.poll() is None else []
        self.stop()
        assert "Sanitizer" not in said + self.log() and "runtime error:" not in said, (said + self.log())[-4000:]
        assert not (state / "control.sock").exists()
        assert not [p for p in pids if alive(p)]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def can_run():
    """Not in a chroot: its root is no mount."""
    return subprocess.run(["unshare", "-nm" if os.geteuid() == 0 else "-Urnm", "true"], capture_output=True).returncode == 0


@pytest.fixture
def lab(tmp_path):
    if not can_run():
        pytest.skip("needs root or user namespaces")
    running = []

    def start(name, beside=(), **changes):
        """Before the mesh starts: `beside`: further documents, by path; `changes`: file (without .yaml) -> (old, new)."""
        folder = tmp_path / name
        shutil.copytree(ROOT / name, folder)
        for path in beside:
            shutil.copy(path, folder)
        for file, (old, new) in changes.items():
            path = folder / f"{file}.yaml"
            assert old in path.read_text(), (file, old)
            path.write_text(path.read_text().replace(old, new))
        running.append(Lab(folder, f"lab-{os.getpid()}-{name}"))
        return running[-1]
    yield start
    for m in running:
        m.close()
