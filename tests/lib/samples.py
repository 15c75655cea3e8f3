"""The programs and folders of samples/."""
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

from wire import HOST, free_port, patient, until

ROOT = pathlib.Path(__file__).resolve().parents[2] / "samples"
BIN = pathlib.Path(os.environ.get("MIZZEN_PROXY", "build/mizzen-proxy")).resolve().parent
LABS = sorted(p.name for p in ROOT.iterdir() if (p / "mesh.yaml").exists())


def get(url, headers=None, data=None, timeout=20):
    """(status, headers, text), without following redirects."""
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None
    ask = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.build_opener(Stay, urllib.request.ProxyHandler({})).open(ask, timeout=patient(timeout)) as r:
            return r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


class Shop:
    """Bookinfo's services on loopback, without a mesh. `shop.url("reviews")`; versions by environment, as in bookinfo.yaml."""

    def __init__(self):
        self.ports = {s: free_port() for s in ("productpage", "details", "reviews", "ratings")}
        self.processes = {}
        self.env = {"PATH": os.environ["PATH"], **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        for s, port in self.ports.items():
            self.env[f"{s.upper()}_HOSTNAME"], self.env[f"{s.upper()}_SERVICE_PORT"] = HOST, str(port)

    def start(self, service, **env):
        self.stop(service)
        self.processes[service] = subprocess.Popen([BIN / "mizzen-bookinfo", service, str(self.ports[service])],
                                                   env={**self.env, "POD_NAME": f"{service}-1", **env}, stderr=subprocess.PIPE, text=True)

        def up():
            assert self.processes[service].poll() is None, self.processes[service].stderr.read()
            try:
                return self.get(service, "/health")[0]
            except OSError:
                return False
        until(up, 10, service)

    def url(self, service, path=""):
        return f"http://{HOST}:{self.ports[service]}{path}"

    def get(self, service, path, **kw):
        return get(self.url(service, path), **kw)

    def json(self, service, path):
        return json.loads(self.get(service, path)[2])

    def stop(self, service):
        p = self.processes.pop(service, None)
        if p:
            p.terminate()
            said = p.communicate()[1]
            assert p.returncode == 0 and not said, f"{service}: {p.returncode} {said[-3000:]}"

    def close(self):
        for s in list(self.processes):
            self.stop(s)


def load(*args):
    """What mizzen-sample-load says, and its exit code."""
    p = subprocess.run([BIN / "mizzen-sample-load", *map(str, args)], capture_output=True, text=True, timeout=120)
    assert "Sanitizer" not in p.stderr and "runtime error" not in p.stderr, p.stderr[-3000:]
    return json.loads(p.stdout), p.returncode
