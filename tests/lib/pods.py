"""Pods: a network namespace each, on one bridge, with Istio's capture, a sidecar programmed by what Istio's control plane sent, and small applications."""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

import pytest

import ads
import istio
from netns import CLONE_NEWNET, Netns, _sys
from wire import patient, until

PROXY_GID = 1337  # whose traffic is not caught
# As the agent's tool prints them with its defaults.
CAPTURE = """* nat
-N ISTIO_INBOUND
-N ISTIO_REDIRECT
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
"""


class App(http.server.ThreadingHTTPServer):
    """Answers with what it was asked, as JSON; keeps it in `asked`."""
    daemon_threads = True

    def __init__(self, name, port):
        self.name, self.asked = name, []
        super().__init__(("", port), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together

    def answer(self):
        asked = {"app": self.server.name, "method": self.command, "path": self.path, "peer": self.client_address[0],
                 "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.server.asked.append(asked)
        body = json.dumps(asked).encode()
        self.send_response(200)
        for k, v in (("content-length", str(len(body))), ("content-type", "application/json"), ("x-internal", "secret")):
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Answer:
    def __init__(self, r):
        self.status, self.headers, self.text = r.status, {k.lower(): v for k, v in r.getheaders()}, r.read().decode()

    @property
    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.text[:300]}"


class Pod:
    """`with pod:` moves the calling thread into its namespace."""

    def __init__(self, node, name, ip, account=None):
        self.node, self.name, self.ip, self.account = node, name, ip, account or name
        self.apps, self.proxy, self.back = [], None, []
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE)
        self.holder.stdout.readline()  # it is in there
        self.holder.stdout.close()
        self.ns = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        n = len(node.pods)
        node.run(f"ip link add p{n} type veth peer name eth0 netns {self.holder.pid}")
        node.run(f"ip link set p{n} master mesh up")
        for command in ("ip link set lo up", f"ip addr add {ip}/8 dev eth0", "ip link set eth0 up", "ip route add default via 10.0.0.1"):
            self.run(command)

    def run(self, command, data=None):
        with self:
            r = subprocess.run(command.split(), input=data, capture_output=True, text=True)
        assert r.returncode == 0, f"{command}: {r.stderr}"

    def __enter__(self):
        self.back.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _sys(self.node.libc.setns(self.ns, CLONE_NEWNET))
        return self

    def __exit__(self, *_):
        before = self.back.pop()
        _sys(self.node.libc.setns(before, CLONE_NEWNET))
        os.close(before)

    def app(self, port):
        with self:
            self.apps.append(App(self.name, port))
        return self.apps[-1]

    def sidecar(self, mesh, golden, certificates, admin=None):
        """The proxy that has these answers, behind rules that catch all traffic."""
        istio.register(golden)
        server = ads.Ads(f"{self.node.folder}/{self.name}.sock")
        self.node.servers.append(server)
        for kind, group in istio.KINDS.items():
            if kind in golden and kind != "sds":
                server.set(group, *golden[kind])
        server.set("secret", *[istio.secret(n, certificates(self.account)) for n in golden["names"]["sds_secret_names"] or ()])
        self.run("iptables-restore", CAPTURE)
        with self:
            self.proxy = mesh.proxy(boot=istio.bootstrap(server, golden["node"], admin=admin), name=self.name, ready=False, preexec=lambda: os.setgid(PROXY_GID))
        return self.proxy

    def wait_ready(self):
        with self:
            self.proxy.wait_ready()
            until(lambda: b"listening" in listening(15006) and b"listening" in listening(15001), 15, "the listeners of capture")

    def stats(self, pattern):
        with self:
            return {k: v for k, v in self.proxy.stats(pattern).items() if v}

    def logged(self, text, timeout=5):
        """The access log is the proxy's output."""
        until(lambda: text in self.proxy.log(), timeout, f"{text!r} in the log of {self.name}")

    def ask(self, ip, port, path="/", host=None, method="GET", tls=None, **headers):
        """An application of this pod asks; the connection fails with OSError."""
        with self:
            c = http.client.HTTPConnection(ip, port, timeout=patient(10))
            c.connect()
        if tls:
            c.sock = tls.wrap_socket(c.sock)
        try:
            c.request(method, path, headers={"host": host or f"{ip}:{port}", **{k.replace("_", "-"): v for k, v in headers.items()}})
            return Answer(c.getresponse())
        except http.client.HTTPException as e:
            raise ConnectionError(str(e)) from e
        finally:
            c.close()

    def close(self):
        for a in self.apps:
            a.shutdown()
            a.server_close()
        os.close(self.ns)
        self.holder.kill()
        self.holder.wait()


def listening(port):
    """Of this thread's namespace."""
    with socket.socket() as s:
        return b"listening" if s.connect_ex(("127.0.0.1", port)) == 0 else b""


class Node(Netns):
    """What the pods' bridge is in."""

    def __init__(self):
        super().__init__()
        self.pods, self.servers, self.folder = [], [], tempfile.mkdtemp(prefix="pods.")
        # By itself it takes the least address of its ports, and changes it under pods that know the one before: half a minute of silence.
        self.run("ip link add mesh address 02:00:0a:00:00:01 type bridge")
        self.run("ip addr add 10.0.0.1/8 dev mesh")
        self.run("ip link set mesh up")

    def pod(self, name, ip, account=None):
        self.pods.append(Pod(self, name, ip, account))
        return self.pods[-1]

    def close(self):
        for s in self.servers:
            s.stop()
        for p in self.pods:
            p.close()
        for f in pathlib.Path(self.folder).iterdir():
            f.unlink()
        os.rmdir(self.folder)
        super().close()


@pytest.fixture
def node():
    """Before `mesh` in a test's arguments, so that its proxies end first."""
    try:
        with contextlib.ExitStack() as undo:
            n = Node()
            undo.callback(n.close)
            with n.pod("probe", "10.255.0.1") as p:
                p.run("iptables-restore --test", CAPTURE)
            subprocess.run(["true"], check=True, preexec_fn=lambda: os.setgid(PROXY_GID))
            undo.pop_all()
    except (OSError, AssertionError, subprocess.SubprocessError) as e:
        pytest.skip(f"needs network namespaces, veth, iptables and another group: {e}")
    yield n
    n.close()
