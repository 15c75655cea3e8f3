"""Meshes that cannot begin, or are killed: a clear word before anything is changed, and nothing left behind (G12-G17, H10-H12)."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

from ctl import MIZZENCTL
from upmesh import NAMESPACE, UpMesh, deployment, lives, need_root
from wire import patient, until

PLAIN = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\n"
IDLE = PLAIN + deployment("idle", ["sleep", "inf"])


@pytest.fixture
def folder(tmp_path):
    need_root()
    f = tmp_path / f"f{tmp_path.name}"[:40]
    f.mkdir()
    return f


BAD = {
    "no-command": (PLAIN + deployment("web", []), 'web.yaml:5: Deployment demo/web: container app: command: is missing'),
    "no-program": (PLAIN + deployment("web", ["no-such-program"]), 'there is no program "no-such-program"'),
    "no-file": (PLAIN + deployment("web", ["./server"]), 'there is no program "./server"'),
    "no-yaml": ("kind: Deployment\nmetadata: {name: [\n", "web.yaml"),
    "name": (PLAIN + deployment("Web_1", ["sleep", "1"]), "is no name"),
    "replicas": (PLAIN + deployment("web", ["sleep", "1"], replicas=5000), "spec.replicas: must be in 0..1000, is 5000"),
    "twice": (PLAIN + deployment("web", ["sleep", "1"]) * 2, "stands in"),
    "annotation": (NAMESPACE + deployment("web", ["sleep", "1"]).replace("metadata: {labels", "metadata: {annotations: {proxy.istio.io/config: '['}, labels"), "proxy.istio.io/config"),
    "env": (PLAIN + deployment("web", ["sleep", "1"], container="env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]"), 'env.A: there is no ConfigMap "c" with the key "k"'),
    "probe": (PLAIN + deployment("web", ["sleep", "1"], container="readinessProbe: {httpGet: {port: nobody}}"), 'readinessProbe: port: "nobody"'),
    "publish": (PLAIN + "kind: Service\nmetadata: {name: s, namespace: demo, annotations: {mizzen.io/publish: '80'}}\nspec: {ports: [{port: 80}]}\n", "is not HOSTPORT:PORT"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_before_anything_is_changed(folder, case):
    text, why = BAD[case]
    (folder / "web.yaml").write_text(text)
    r = subprocess.run([MIZZENCTL, "up", folder], capture_output=True, text=True, timeout=patient(30))
    assert r.returncode == 1 and why in r.stderr and r.stderr.startswith("Error: "), r.stderr
    assert not pathlib.Path("/run/mizzen", folder.name).exists()


def test_a_port_that_is_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "s.yaml").write_text(IDLE + f"kind: Service\napiVersion: v1\nmetadata: {{name: s, namespace: demo}}\nspec: {{type: LoadBalancer, ports: [{{port: {port}}}]}}\n")
        r = subprocess.run([MIZZENCTL, "up", folder], capture_output=True, text=True, timeout=patient(30))
    assert r.returncode == 1 and f"127.0.0.1:{port}" in r.stderr and "Address already in use" in r.stderr and "s.yaml" in r.stderr, r.stderr
    assert not pathlib.Path("/run/mizzen", folder.name).exists()


def test_a_flag_of_mizzend_that_is_wrong(folder):
    """It would be wrong the next time, too: up ends with its words."""
    (folder / "a.yaml").write_text(IDLE)
    for more in [], ["--detach"]:
        r = subprocess.run([MIZZENCTL, "up", folder, "--mizzend=--wrong", *more], capture_output=True, text=True, timeout=patient(30))
        assert r.returncode == 1 and "Error: mizzend ended with 1: PARSE ERROR: Argument: --wrong" in r.stderr, r
        assert not pathlib.Path("/run/mizzen", folder.name).exists()


def of_mesh(pids):
    return [p for p in pids if lives(p)]


def all_pids(m):
    shop = m.list()
    return [c["pid"] for p in shop["pods"] for c in p["containers"] if c["pid"]] + [shop["mizzend"]["pid"], shop["supervisor"]["pid"]]


@pytest.mark.parametrize("who", ["supervisor", "keeper", "both"])
def test_nothing_is_left_after_kill_9(folder, who):
    (folder / "a.yaml").write_text(IDLE)
    m = UpMesh(folder).wait_ready()
    try:
        pids = all_pids(m)
        assert len(of_mesh(pids)) == 3
        m.process.send_signal(signal.SIGSTOP)  # both at once: neither can tidy up after the other
        if who != "keeper":
            os.kill(pids[-1], signal.SIGKILL)
        if who == "supervisor":
            m.process.send_signal(signal.SIGCONT)
        else:
            m.process.kill()
        m.process.wait(patient(30))
        until(lambda: not of_mesh(pids), 10, "all processes to end")
        if who == "both":
            assert m.state.exists()
            r = m.ctl("down", m.name)
            assert r.returncode == 0 and "did not run any more" in r.stdout, r
        until(lambda: not m.state.exists(), 10, "its folder to go")
        r = m.ctl("down", m.name)
        assert r.returncode == 1 and "running" in r.stderr  # no mesh is running, or none of this name
    finally:
        m.process.kill()
        shutil.rmtree(m.state, ignore_errors=True)


def test_what_is_left_does_not_stop_the_next(folder):
    (folder / "a.yaml").write_text(IDLE)
    m = UpMesh(folder, start=False)
    (m.state / "work/old/deep").mkdir(parents=True)
    (m.state / "up.pid").write_text("1\n")
    (m.state / "control.sock").write_text("")
    m.start()
    try:
        m.wait_ready()
        assert not (m.state / "work/old").exists()
    finally:
        m.close()


def test_detached(folder):
    """It returns when all is ready; `down` ends everything."""
    (folder / "a.yaml").write_text(IDLE)
    m = UpMesh(folder, start=False)
    r = m.ctl("up", "--detach", "--name", m.name, str(folder))
    try:
        assert r.returncode == 0 and "is ready" in r.stdout, r
        pids = all_pids(m)
        assert m.pod("idle")["ready"]
        assert m.ctl("down", m.name).stdout == "ended\n"
        until(lambda: not of_mesh(pids), 10, "all processes to end")
        assert not m.state.exists()
    finally:
        m.ctl("down", m.name)


def test_a_pod_that_does_not_become_ready(folder):
    """--detach waits a bounded time, tells why in the words of the program, and leaves the mesh as it is."""
    (folder / "a.yaml").write_text(IDLE + deployment("broken", ["sh", "-c", "echo no disk >&2; exit 3"], container="readinessProbe: {tcpSocket: {port: 1}}"))
    m = UpMesh(folder, start=False)
    r = m.ctl("up", "--detach", "--timeout", "2", "--name", m.name, str(folder))
    try:
        assert r.returncode == 1 and "not all pods" in r.stderr and "container app ended with 3: no disk" in r.stderr, r
        assert m.pod("idle")["ready"] and m.pod("broken")["restarts"]
    finally:
        m.ctl("down", m.name)


def test_volumes(folder):
    (folder / "a.yaml").write_text(PLAIN + """apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: demo}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: demo}
data: {key: czNjcjN0}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: demo}
spec:
  template:
    metadata: {labels: {app: db}}
    spec:
      initContainers: [{name: first, command: [sh, -c, "echo init > /data/begin"], volumeMounts: [{name: data, mountPath: /data}]}]
      containers:
      - name: app
        command: [sh, -c, "cat /etc/shop/config/greeting /etc/shop/secret/key /data/begin; echo $FROM; exec sleep inf"]
        envFrom: [{configMapRef: {name: c}, prefix: X_}]
        env: [{name: FROM, value: "$(X_greeting) $(NOBODY) $$(X_greeting)"}]
        volumeMounts: [{name: c, mountPath: /etc/shop/config}, {name: s, mountPath: /etc/shop/secret}, {name: data, mountPath: /data}]
      volumes: [{name: c, configMap: {name: c}}, {name: s, secret: {secretName: s}}, {name: data, emptyDir: {}}]
""")
    m = UpMesh(folder).wait_ready()
    try:
        assert m.pod("db")["name"] == "db-0"
        until(lambda: "NOBODY" in m.ctl("logs", "--mesh", m.name, "db").stdout, 10)
        assert m.ctl("logs", "--mesh", m.name, "db").stdout == "hellos3cr3tinit\nhello $(NOBODY) $(X_greeting)\n"
        assert not pathlib.Path("/etc/shop").exists() and not pathlib.Path("/data/begin").exists()
    finally:
        m.close()


def test_pods_without_a_proxy_reach_services(folder):
    """By name and address, whichever pod is ready; a headless service is its pods."""
    web = [str(MIZZENCTL.with_name("mizzen-sample-server")), "--host", "0.0.0.0", "--port", "8000", "--name"]
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: demo}\nspec: {selector: {kind: web}, %s ports: [{name: http, port: 80, targetPort: 8000}]}\n---\n"
    (folder / "a.yaml").write_text(PLAIN + service % ("web", "") + service % ("heads", "clusterIP: None,") + deployment("client", ["sleep", "inf"])
                                   + deployment("one", [*web, "one"], labels=", kind: web") + deployment("two", [*web, "two"], labels=", kind: web"))
    m = UpMesh(folder).wait_ready()
    try:
        until(lambda: m.curl("client", "http://web/").returncode == 0, 10, lambda: m.curl("client", "http://web/").stderr + m.output())
        until(lambda: {"one", "two"} <= {w for w in ("one", "two") for _ in range(8) if w in m.curl("client", "http://web.demo.svc.cluster.local/").stdout}, 20, "answers of both")
        assert m.curl("client", "http://heads:8000/").returncode == 0
        m.write("a.yaml", (folder / "a.yaml").read_text().replace("metadata: {name: two,", "metadata: {name: three,"))
        until(lambda: not m.pods("two") and m.curl("client", "http://web/").returncode == 0, 20, m.waits)
    finally:
        m.close()
