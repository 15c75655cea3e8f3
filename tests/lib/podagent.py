"""A small mesh of ours in namespaces: mizzend on the node, pods with an agent and a proxy each (tests/lib/pods.py)."""
import json
import os
import pathlib
import signal
import subprocess

from agent import AGENT
from pods import PROXY_GID
from wire import patient, until

SERVICE = """apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: demo}}
spec:
  clusterIP: {vip}
  selector: {{app: {name}}}
  ports: [{{name: http, port: 8080, targetPort: 8080}}, {{name: tcp, port: 9000, targetPort: 9000}}]
"""
POD = """apiVersion: v1
kind: Pod
metadata: {{name: {name}-1, namespace: demo, labels: {{app: {name}, security.istio.io/tlsMode: istio, service.istio.io/canonical-name: {name}}}}}
spec: {{serviceAccountName: {name}, nodeName: node, containers: [{{name: app, image: x, ports: [{{containerPort: 8080}}, {{containerPort: 9000}}]}}]}}
status: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""
SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: demo, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]
endpoints: [{{addresses: ["{ip}"], conditions: {{ready: true}}, nodeName: node, targetRef: {{kind: Pod, name: {name}-1, namespace: demo}}}}]
"""


class Mesh:
    """`mesh.agent("a", "10.11.0.1")`: a pod of the service a, with an agent that has started. Addresses of services: 10.96.0.1 ..."""

    def __init__(self, node, folder, *flags):
        self.node, self.folder, self.agents, self.flags = node, folder, {}, flags
        self.docs = folder / "docs"
        self.docs.mkdir()
        self.write("ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n")
        self.write("mesh.yaml", "defaultProviders: {metrics: [prometheus]}\n")  # as an installation has it
        self.start()

    def start(self):
        self.log = open(self.folder / "mizzend.log", "ab")
        self.mizzend = subprocess.Popen([AGENT.with_name("mizzend"), "-c", self.docs, "--grpc-addr", "10.0.0.1:15010", "--secure-grpc-addr", "10.0.0.1:15012",
                                         "--monitoring-addr", "", "--webhook-addr", "", "--ca-dir", self.folder / "ca", *self.flags], stdout=self.log, stderr=self.log)
        until(lambda: "secure xDS on" in (self.folder / "mizzend.log").read_text(), 30, "mizzend to listen")

    def write(self, name, text):
        beside = self.docs / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.docs / name)

    def agent(self, name, ip, env=None, config=None, start=True):
        self.write(f"{name}.yaml", SERVICE.format(name=name, vip=f"10.96.0.{len(self.agents) + 1}") + "---\n" + POD.format(name=name, ip=ip)
                   + "---\n" + SLICE.format(name=name, ip=ip))
        self.agents[name] = a = Agent(self, name, ip, env or {}, config or {})
        if start:
            a.start()
        return a

    def vip(self, name):
        return f"10.96.0.{list(self.agents).index(name) + 1}"

    def close(self):
        for a in self.agents.values():
            a.stop()
        self.mizzend.terminate()
        code = self.mizzend.wait(patient(30))
        self.log.close()
        text = (self.folder / "mizzend.log").read_text()
        assert code == 0 and "Sanitizer" not in text, text[-3000:]


class Agent:
    def __init__(self, mesh, name, ip, env, config):
        self.mesh, self.name, self.folder, self.process, self.capture = mesh, name, mesh.folder / name, None, ""
        self.pod = mesh.node.pod(name, ip, f"demo/{name}")
        for path, text in (("etc/istio/pod/labels", f'app="{name}"\nservice.istio.io/canonical-name="{name}"\nsecurity.istio.io/tlsMode="istio"\n'),
                           ("etc/istio/pod/annotations", ""), ("var/run/secrets/istio/root-cert.pem", (mesh.folder / "ca/root-cert.pem").read_text()),
                           ("var/run/secrets/tokens/istio-token", self.token())):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        proxy = {"discoveryAddress": "10.0.0.1:15012", "terminationDrainDuration": "1s", **config}
        self.env = {"PATH": os.environ["PATH"], **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}, "POD_NAME": f"{name}-1", "POD_NAMESPACE": "demo",
                    "INSTANCE_IP": ip, "SERVICE_ACCOUNT": name, "ISTIOD_SAN": "istiod.istio-system.svc", "CA_ADDR": "10.0.0.1:15012",
                    "PROXY_CONFIG": json.dumps(proxy), **env}

    def token(self):
        return subprocess.run([AGENT.with_name("mizzend"), "--mode", "token", "--ca-dir", self.mesh.folder / "ca", "--account", f"demo/{self.name}"],
                              capture_output=True, text=True, check=True).stdout

    def start(self, *args):
        self.out = open(self.folder / "agent.log", "ab")
        self.pod.run(f"{AGENT} iptables -u {PROXY_GID} -g {PROXY_GID} -m REDIRECT -i * -b * -d 15090,15021,15020 {self.capture}")
        with self.pod:
            self.process = subprocess.Popen([AGENT, "proxy", "sidecar", "--proxyLogLevel", "warning", *args], cwd=self.folder, env=self.env, stdout=self.out,
                                            stderr=self.out, preexec_fn=lambda: os.setgid(PROXY_GID))

    def log(self):
        return (self.folder / "agent.log").read_text(errors="replace")

    def proxy_pid(self):
        kids = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(kids[0]) if kids else None

    def admin(self, path, method="GET"):
        import http.client
        with self.pod:
            c = http.client.HTTPConnection("127.0.0.1", 15000, timeout=patient(10))
            c.connect()
        try:
            c.request(method, path, headers={"content-length": "0"} if method == "POST" else {})
            return c.getresponse().read().decode()
        finally:
            c.close()

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, self.log()[-3000:]
            try:
                return "LIVE" in self.admin("/ready") and "virtualInbound" in self.admin("/listeners")
            except OSError:
                return False
        until(ready, 30, lambda: f"the proxy of {self.name}:\n{self.log()[-2000:]}")
        return self

    def stop(self, kind=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(kind)
        if self.process:
            code = self.process.wait(patient(30))
            self.process = None
            self.out.close()
            text = self.log()
            assert code == (0 if kind == signal.SIGTERM else -kind) and "Sanitizer" not in text, f"{code}: {text[-3000:]}"

    def status(self, path, method="GET", port=15020):
        """Of the agent's own port, asked from inside the pod: (status, text)."""
        import http.client
        with self.pod:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=patient(20))
            c.connect()
        try:
            c.request(method, path, headers={"content-length": "0"} if method == "POST" else {})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def works(self, to):
        """Whether service `to` answers this pod's application with 200."""
        try:
            return self.pod.ask(self.mesh.vip(to), 8080, "/x", host=f"{to}.demo:8080").status == 200
        except OSError:
            return False
