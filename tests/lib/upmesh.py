"""A mesh that `mizzenctl up` runs: asked by its control socket, changed by its folder."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import pytest

from ctl import MIZZENCTL
from wire import patient, until

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo, labels: {istio-injection: enabled}}\n---\n"
SERVER = MIZZENCTL.with_name("mizzen-sample-server")
ROOT = pathlib.Path("/run/mizzen")


def deployment(name, command, *, replicas=1, labels="", more="", container=""):
    return f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: demo}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}{labels}}}}}
    spec:
      serviceAccountName: {name}
      {more}
      containers:
      - name: app
        command: {json.dumps(command)}
        {container}
---
"""


def need_root():
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, veth and iptables")
    r = subprocess.run(["unshare", "-mn", "sh", "-c", "ip link add mesh0 type bridge && iptables-save"], capture_output=True, text=True)
    if r.returncode:
        pytest.skip(f"needs namespaces, bridges and iptables: {r.stderr.strip()}")


class UpMesh:
    def __init__(self, folder, *flags, name=None, start=True, wrap=(), root=ROOT, env=None):
        self.folder, self.flags, self.wrap, self.env = folder, flags, wrap, env
        self.name = name or f"t{os.getpid()}-{folder.name}"[-60:].strip("-")
        self.state, self.log, self.process, self.any_port = root / self.name, folder.parent / f"{folder.name}.log", None, True
        if start:
            self.start()

    def start(self):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([*self.wrap, MIZZENCTL, "up", self.folder, "--name", self.name, *(["--any-port"] if self.any_port else []), *self.flags], stdout=out, stderr=out,
                                            env={**os.environ, **(self.env or {})})

    def output(self):
        return self.log.read_text(errors="replace")

    def write(self, name, text):
        beside = self.folder / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.folder / name)

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, self.output()[-3000:]
            return "ready after" in self.output()
        until(ready, 30, lambda: f"the mesh to be ready:\n{self.output()[-2000:]}\n{self.waits()}")
        return self

    def waits(self):
        try:
            return [(p["name"], p["why"], [(c["name"], c["state"]) for c in p["containers"]]) for p in self.list()["pods"]]
        except OSError as e:
            return str(e)

    # ---- the control socket ----

    def ask(self, fds=(), **request):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(patient(30))
            here = os.open(self.state, os.O_PATH)
            try:
                s.connect(f"/proc/self/fd/{here}/control.sock")
            finally:
                os.close(here)
            socket.send_fds(s, [json.dumps(request).encode() + b"\n"], list(fds))
            text, got = b"", []
            while not text.endswith(b"\n"):
                part, new, _, _ = socket.recv_fds(s, 1 << 20, 3)
                if not part:
                    raise ConnectionError("the mesh has ended")
                text += part
                got += new
        return json.loads(text), got

    def list(self):
        return self.ask(op="list")[0]

    def pods(self, workload):
        return [p for p in self.list()["pods"] if p["workload"].endswith(f"/{workload}") and not p["leaving"]]

    def pod(self, workload):
        one, = self.pods(workload)
        return one

    def get(self, pod, port, path, method="GET"):
        answer, fds = self.ask(op="dial", pod=pod, port=port)
        assert fds, answer
        c = http.client.HTTPConnection("pod")
        c.sock = socket.socket(fileno=fds[0])
        c.sock.settimeout(patient(20))
        try:
            c.request(method, path)
            return c.getresponse().read().decode()
        finally:
            c.close()

    def stat(self, pod, text):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get(pod, 15020, "/stats/prometheus").splitlines()
                   if not line.startswith("#") and all(t in line for t in text.split()))

    def vip(self, host):
        return next(s["defaultAddress"] for s in json.loads(self.get("mizzend", 15014, "/debug/registryz")) if s["hostname"].startswith(f"{host}."))

    # ---- as a person ----

    def ctl(self, *args):
        return subprocess.run([*self.wrap, MIZZENCTL, *args], capture_output=True, text=True, timeout=patient(60), env={**os.environ, **(self.env or {})})

    def exec(self, pod, *argv):
        return self.ctl("exec", "--mesh", self.name, pod, "--", *argv)

    def curl(self, pod, url, *more):
        return self.exec(pod, "curl", "-sS", "-m", str(patient(10)), *more, url)

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(patient(30))
            assert code == 0 and "Sanitizer" not in self.output(), f"{code}: {self.output()[-3000:]}"
        assert not self.state.exists()

    def close(self):
        try:
            logs = {p.name: p.read_text(errors="replace") for p in self.state.glob("logs/*.log")}
            self.down()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.state.exists():
                subprocess.run([*self.wrap, MIZZENCTL, "down", self.name], capture_output=True)
                shutil.rmtree(self.state, ignore_errors=True)
        for name, text in logs.items():
            bad = re.search("ERROR: [A-Za-z]*Sanitizer|runtime error", text)
            assert not bad, f"{name}: {text[bad.start():][:6000]}"


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
