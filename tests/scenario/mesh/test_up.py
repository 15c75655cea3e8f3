"""A mesh from a folder on this machine (issue: `mizzenctl up`): order, capture, mutual TLS, gateways, jobs, what dies, what changes. A1, A3, A4, B1, D4."""
import json
import os
import signal
import subprocess

import pytest

from upmesh import NAMESPACE, SERVER, UpMesh, deployment, lives, need_root
from wire import until

WEB = [str(SERVER), "--host", "0.0.0.0", "--port", "8000", "--name", "web"]
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{name: http, port: 8080, targetPort: web-port}]}
---
"""
PROBE = "ports: [{name: web-port, containerPort: 8000}]\n        readinessProbe: {httpGet: {path: /, port: web-port}}"
GATEWAY = """apiVersion: apps/v1
kind: Deployment
metadata: {name: gw, namespace: demo}
spec:
  selector: {matchLabels: {istio: gw}}
  template:
    metadata: {labels: {istio: gw, sidecar.istio.io/inject: "true"}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, image: auto, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: demo, annotations: {mizzen.io/publish: "1:80"}}
spec: {type: LoadBalancer, selector: {istio: gw}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: demo}
spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gw, namespace: demo}
spec: {hosts: ["*"], gateways: [gw], http: [{route: [{destination: {host: web, port: {number: 8080}}}]}]}
"""
SOLO = """apiVersion: v1
kind: Service
metadata: {name: solo, namespace: demo}
spec: {selector: {app: solo}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: solo, namespace: demo, labels: {app: solo}}
spec: {containers: [{name: app, command: %s}]}
"""
JOB = """apiVersion: batch/v1
kind: Job
metadata: {name: work, namespace: demo}
spec:
  template:
    metadata: {labels: {app: work}}
    spec:
      restartPolicy: Never
      containers: [{name: app, command: [sh, -c, "sleep 0.1; echo done by $ME in $IN"], env: [{name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: IN, value: "$(HOSTNAME)!"}]}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    need_root()
    folder = tmp_path_factory.mktemp("mesh") / "shop"
    folder.mkdir()
    (folder / "mesh.yaml").write_text("defaultConfig: {terminationDrainDuration: 1s}\ndefaultProviders: {metrics: [prometheus]}\n")
    (folder / "ns.yaml").write_text(NAMESPACE)
    (folder / "web.yaml").write_text(SERVICE + deployment("web", WEB, container=PROBE))
    (folder / "client.yaml").write_text(deployment("client", ["sleep", "inf"]))
    (folder / "gw.yaml").write_text(GATEWAY)
    (folder / "job.yaml").write_text(JOB)
    (folder / "solo.yaml").write_text(SOLO % json.dumps([*WEB[:-1], "solo"]))
    m = UpMesh(folder)
    try:
        yield m.wait_ready()
    finally:
        m.close()


def test_pods_are_ready_and_told(running):
    """Each has a proxy of its group, an address, and what a cluster would tell of it."""
    shop = running.list()
    web = running.pod("web")
    assert shop["name"] == running.name and web["ip"].startswith("10.244.") and web["proxy"] == "mizzen" and web["account"] == "web"
    assert running.pod("gw")["kind"] == "gateway" and web["name"].startswith("web-")
    proxy = next(c for c in web["containers"] if c["name"] == "istio-proxy")
    assert {p["command"] for p in proxy["processes"]} == {"mizzen-agent", "mizzen-proxy"} and proxy["pss_kb"] > 0
    for p in proxy["processes"]:
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{p['pid']}/status").read().splitlines() if ":\t" in line)
        assert status["Gid"].split() == ["1337"] * 4 and int(status["CapEff"], 16) in (0, 1 << 2)
    doc = json.loads((running.state / f"pods/demo_{web['name']}.json").read_text())
    assert doc["status"]["podIP"] == web["ip"] and doc["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    table = running.ctl("ps", running.name).stdout
    assert web["name"] in table and "mizzend" in table and "is port 80 of demo/gw" in table


def test_the_application_waits_for_its_proxy(running):
    web = running.pod("web")
    began = {c["name"]: int(open(f"/proc/{c['pid']}/stat").read().rsplit(")", 1)[1].split()[19]) for c in web["containers"] if c["pid"]}
    assert began["app"] >= began["istio-proxy"]
    assert "the proxy is ready" in running.ctl("logs", "--mesh", running.name, "web", "-c", "istio-proxy").stdout


def test_traffic_is_captured_and_mutual_tls(running):
    r = running.curl("client", f"http://{running.vip('web')}:8080/")
    assert r.returncode == 0 and "web" in r.stdout, r
    assert "web" in running.curl("client", "http://web:8080/").stdout
    r = running.curl("client", "http://nobody.example/")
    assert r.returncode == 6 and "Could not resolve host" in r.stderr, r
    until(lambda: running.stat("web", 'istio_requests_total reporter="destination" source_workload="client" connection_security_policy="mutual_tls"') >= 1, 30,
          "the request in the metrics of web")


def test_a_pod_by_itself(running):
    """Its document of the folder says nothing of its state: the mesh's own does."""
    assert running.pod("solo")["name"] == "solo"
    until(lambda: "solo" in running.curl("client", "http://solo/").stdout, 10, running.waits)


def test_the_gateway_is_published(running):
    port, = [s["host"] for s in running.list()["services_published"] if s["service"] == "demo/gw"]
    r = subprocess.run(["curl", "-sS", "-m", "20", f"http://{port}/headers"], capture_output=True, text=True)
    assert r.returncode == 0 and "x-request-id" in r.stdout.lower(), r
    r = subprocess.run(["curl", "-sS", "-m", "60", "-o", "/dev/null", "-w", "%{size_download}", f"http://{port}/bytes/10000000"], capture_output=True, text=True)
    assert r.stdout == "10000000", r


def test_a_job_ends_with_its_proxy(running):
    until(lambda: running.pod("work")["phase"] == "Succeeded", 20, running.waits)
    until(lambda: not any(c["pid"] for c in running.pod("work")["containers"]), 20, "the proxy's end")
    pod = running.pod("work")
    assert running.ctl("logs", "--mesh", running.name, "work").stdout == f"done by {pod['name']} in {pod['name']}!\n"


def test_exec_and_errors(running):
    r = running.exec("client", "sh", "-c", "hostname; cat /etc/resolv.conf; exit 7")
    assert r.returncode == 7 and r.stdout.splitlines()[0] == running.pod("client")["name"] and "nameserver 10.244.0.1" in r.stdout
    assert 'there is no pod "nobody"' in running.exec("nobody", "true").stderr
    assert "cannot run no-such-program" in running.exec("client", "no-such-program").stderr
    assert "Connection refused" in running.ask(op="dial", pod="client", port=1)[0]["error"]
    assert "is not dial" in running.ask(op="dance")[0]["error"]
    again = running.ctl("up", str(running.folder), "--name", running.name)
    assert again.returncode == 1 and "is running already" in again.stderr


def test_a_command_ends_with_who_asked_for_it(running):
    asks = subprocess.Popen([str(SERVER.with_name("mizzenctl")), "exec", "--mesh", running.name, "client", "--", "sh", "-c", "echo $$; sleep 1000"],
                            stdout=subprocess.PIPE, text=True)
    assert asks.stdout.readline()
    inside = lambda: running.exec("client", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[0]'").stdout.strip() != "0"
    assert inside()
    asks.kill()
    asks.wait()
    until(lambda: not inside(), 10, "the command's end")


@pytest.mark.parametrize("what", ["app", "istio-proxy", "proxy", "mizzend"])
def test_what_is_killed_comes_back(running, what):
    """Kill -9 of an application, an agent, a proxy, mizzend: the others go on (D4)."""
    def pid():
        if what == "mizzend":
            return running.list()["mizzend"]["pid"]
        c = next(c for c in running.pod("web")["containers"] if c["name"] == ("app" if what == "app" else "istio-proxy"))
        return next((p["pid"] for p in c["processes"] if p["command"] == "mizzen-proxy"), 0) if what == "proxy" else c["pid"]
    before, client = pid(), running.pod("client")
    os.kill(before, signal.SIGKILL)
    until(lambda: pid() not in (0, before), 20, running.waits)
    def answers():
        try:
            return "web" in running.curl("client", f"http://{running.vip('web')}:8080/").stdout
        except AssertionError as e:  # mizzend does not listen yet
            return None if "Connection refused" in str(e) else 1 / 0
    until(answers, 20, "an answer again")
    assert running.pod("client")["restarts"] == client["restarts"]


def test_the_folder_is_followed(running):
    """More replicas, another template (the old ones go when the new ones are ready), a document that cannot be read, none at all."""
    before = running.pod("web")
    running.write("web.yaml", SERVICE + deployment("web", WEB, container=PROBE, replicas=2))
    until(lambda: len([p for p in running.pods("web") if p["ready"]]) == 2, 20, running.waits)
    assert before["name"] in {p["name"] for p in running.pods("web")}
    running.write("web.yaml", SERVICE + deployment("web", [*WEB, "--version", "v2"], container=PROBE))
    until(lambda: [p["ready"] for p in running.list()["pods"] if p["workload"].endswith("/web")] == [True], 30, running.waits)
    assert running.pod("web")["name"] != before["name"]
    assert not (running.state / f"pods/demo_{before['name']}.json").exists() and not (running.state / f"work/demo_{before['name']}").exists()
    until(lambda: "v2" in running.curl("client", f"http://{running.vip('web')}:8080/").stdout, 10, "the new version")
    running.write("more.yaml", "kind: Deployment\nmetadata: {name: [\n")
    until(lambda: "not taken: " in running.output() and "more.yaml" in running.output(), 10, "the error")
    running.write("more.yaml", deployment("more", ["sleep", "inf"]))
    until(lambda: running.pods("more") and running.pod("more")["ready"], 20, running.waits)
    pids = [c["pid"] for c in running.pod("more")["containers"] if c["pid"]]
    (running.folder / "more.yaml").unlink()
    until(lambda: not [p for p in running.list()["pods"] if p["workload"].endswith("/more")], 20, running.waits)
    assert not any(lives(p) for p in pids)
