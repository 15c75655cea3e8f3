"""A mesh of `mizzenctl up`, as the demo, the tour and the tests of the labs use one: started, asked over its control socket, ended."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time


def state_folder(name):
    """Where a mesh of this user keeps its things."""
    if os.geteuid() == 0:
        return pathlib.Path("/run/mizzen") / name
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (pathlib.Path(runtime) / "mizzen" if runtime else pathlib.Path(f"/tmp/mizzen-{os.geteuid()}")) / name


def is_free(port):
    """Of this machine."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def short(pod):
    """The name of its workload: "default/Deployment/reviews-v1" is "reviews-v1"."""
    return pod["workload"].rpartition("/")[2] or pod["name"]


class Over(http.client.HTTPConnection):
    """HTTP on a connection that stands already."""

    def __init__(self, sock):
        super().__init__("localhost", timeout=sock.gettimeout())
        self.sock = sock

    def connect(self):
        raise OSError("the connection is gone")


class Mesh:
    """`with Mesh(bin, "samples/bookinfo", "name") as m:`; every pod is ready then."""

    def __init__(self, bin_dir, directory, name, log, args=("--any-port",), patience=60):
        self.bin, self.name, self.directory, self.log_path = pathlib.Path(bin_dir), name, pathlib.Path(directory), pathlib.Path(log)
        self.socket_path, self.patience = str(state_folder(name) / "control.sock"), patience
        with open(self.log_path, "wb") as out:
            self.process = subprocess.Popen([self.bin / "mizzenctl", "up", str(directory), "--name", name, *args],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            self.wait(self.ready, "the mesh to be ready")
        except BaseException:
            self.stop(check=False)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait(self, condition, what, patience=None):
        end = time.monotonic() + (patience or self.patience)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"mizzenctl up ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            got = condition()
            if got:
                return got
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain for {what}; pods: {self.states()}\n{self.log()[-2000:]}")
            time.sleep(0.01)

    def ready(self):
        try:
            return self.list()["ready"]
        except (OSError, ValueError):
            return False

    def states(self):
        try:
            return [(p["name"], p["phase"], p["ready"], p.get("why")) for p in self.pods()]
        except (OSError, ValueError) as e:
            return str(e)

    # ---- the control socket ----

    def ask(self, **request):
        """(answer, descriptors)"""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(self.socket_path)
            s.sendall(json.dumps(request).encode() + b"\n")
            text, fds = b"", []
            while not text.endswith(b"\n"):
                data, more, _, _ = socket.recv_fds(s, 1 << 20, 4)
                fds += more
                if not data:
                    break
                text += data
        answer = json.loads(text)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer, fds

    def list(self):
        return self.ask(op="list")[0]

    def pods(self):
        return self.list()["pods"]

    def pod(self, workload):
        """The first pod of a workload: "reviews-v1"."""
        return next(p for p in self.pods() if workload in (short(p), p["name"]))

    def get(self, pod, port, path, timeout=20):
        """(status, text) of a page at 127.0.0.1:port inside a pod: "NAMESPACE/NAME", a workload, or "mizzend"."""
        _, fds = self.ask(op="dial", pod=pod, port=port)
        with socket.socket(fileno=fds[0]) as s:
            s.settimeout(timeout)
            c = Over(s)
            c.request("GET", path)
            r = c.getresponse()
            return r.status, r.read().decode("utf-8", "replace")

    def published(self, service, port=None):
        """host:port of this machine."""
        return next(p["host"] for p in self.list()["services_published"] if service in p["service"] and port in (None, int(p["port"])))

    # ---- commands ----

    def ctl(self, *argv, timeout=120, text=None):
        return subprocess.run([self.bin / "mizzenctl", *map(str, argv)], input=text, capture_output=True, text=True, timeout=timeout)

    def exec(self, pod, *argv):
        """What a command in a pod says; its code must be 0."""
        r = self.ctl("exec", "--mesh", self.name, pod, "--", *argv)
        if r.returncode:
            raise RuntimeError(f"{argv} in {pod}: {r.returncode} {r.stdout[-500:]} {r.stderr[-1500:]}")
        return r.stdout

    # ---- what the proxies counted ----

    def metrics(self, metric, pods=None):
        """[(labels, value)] of one of Istio's metrics at every proxy."""
        out = []
        for p in pods or [f'{p["namespace"]}/{p["name"]}' for p in self.pods() if p["proxy"] != "none" and p["phase"] == "Running"]:
            for line in self.get(p, 15000, "/stats/prometheus")[1].splitlines():
                if line.startswith(metric + "{"):
                    out.append((dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.rpartition(" ")[2])))
        return out

    def calls(self, reporter="source"):
        """{(from, to, code, flags): how many}"""
        out = {}
        for labels, n in self.metrics("istio_requests_total"):
            if labels["reporter"] == reporter:
                key = labels["source_workload"], labels["destination_workload"], labels["response_code"], labels["response_flags"]
                out[key] = out.get(key, 0) + int(n)
        return out

    def stop(self, check=True):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        if check and self.process.returncode not in (0, 130):
            raise RuntimeError(f"mizzenctl up ended with {self.process.returncode}:\n{self.log()[-3000:]}")
