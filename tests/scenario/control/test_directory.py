"""What a cluster's controllers would add to documents: addresses of services, endpoints of pods, an installation's defaults; several directories (C1)."""
import ipaddress
import json
import pathlib
import subprocess

import pytest

import control
from wire import free_port, until

NODE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "plain-http" / "web" / "node.json"
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: demo}
spec: {%s, ports: [{name: http, port: 9080, targetPort: main}]}
"""
API = "outbound|9080||api.demo.svc.cluster.local"


def pod(name, ip, ready):
    return f"""apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: demo, labels: {{app: api}}}}
spec: {{containers: [{{name: app, ports: [{{name: main, containerPort: 8080}}]}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


@pytest.fixture
def mizzend(tmp_path):
    (tmp_path / "pods").mkdir()
    for name, ip in (("api-0", "10.244.0.2"), ("api-1", "10.244.0.3")):
        (tmp_path / "pods" / f"{name}.yaml").write_text(pod(name, ip, name == "api-0"))
    m = control.Mizzend(tmp_path, {"app.yaml": SERVICE % ("api", "selector: {app: api}") + SERVICE % ("none", "clusterIP: None, selector: {app: api}")},
                        "-c", tmp_path / "pods")
    yield m
    m.stop()


def test_pods_become_endpoints_and_readiness_is_told_alone(mizzend, mesh, tmp_path):
    px = mesh.proxy(boot=control.bootstrap(NODE, mizzend.port, free_port()), ready=False)

    def hosts():
        """Those that are ready: of the others proxies are told that they are not."""
        try:
            _, text = px.admin("/clusters?format=json")
        except OSError:  # not there yet
            return None
        found = [c for c in json.loads(text)["cluster_statuses"] if c["name"] == API]
        return sorted("{address}:{port_value}".format(**h["address"]["socket_address"]) for c in found for h in c.get("host_statuses", [])
                      if h["health_status"].get("eds_health_status") == "HEALTHY")

    def ready(name, ip, is_ready):
        (tmp_path / "pods" / ".new").write_text(pod(name, ip, is_ready))
        (tmp_path / "pods" / ".new").rename(tmp_path / "pods" / f"{name}.yaml")

    until(lambda: hosts() == ["10.244.0.2:8080"], 30, "the endpoint that is ready")
    ready("api-1", "10.244.0.3", True)
    until(lambda: hosts() == ["10.244.0.2:8080", "10.244.0.3:8080"], 30, "the other one")
    ready("api-0", "10.244.0.2", False)
    until(lambda: hosts() == ["10.244.0.3:8080"], 30, "the first one to end")
    assert px.stat("cluster_manager.cds.update_success") == 1, "readiness is no reason to send clusters"


def test_a_service_has_an_address_and_keeps_it(mizzend):
    def address(name):
        found = [s for s in json.loads(mizzend.page("/debug/registryz")) if s["hostname"] == f"{name}.demo.svc.cluster.local"]
        return found[0]["defaultAddress"] if found else None

    first = address("api")
    assert ipaddress.ip_address(first) in ipaddress.ip_network("10.96.0.0/16")
    assert address("none") in (None, "0.0.0.0")
    mizzend.write("more.yaml", SERVICE % ("more", f"clusterIP: {first}, selector: {{app: api}}"))
    until(lambda: address("more") == first, 30, "the document that claims it")
    moved = address("api")
    assert moved != first and ipaddress.ip_address(moved) in ipaddress.ip_network("10.96.0.0/16")
    (mizzend.docs / "more.yaml").unlink()
    until(lambda: address("more") is None, 30, "that document to go")
    assert address("api") == moved


def dump(tmp_path, *args):
    subprocess.run([control.MIZZEND, "-c", tmp_path / "d", "--mode", "dump", "--node", NODE, "-o", tmp_path / "out", *args], check=True, timeout=60)
    return (tmp_path / "out" / "lds.json").read_text()


def test_defaults_are_those_of_an_installation(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "api.yaml").write_text(SERVICE % ("api", "selector: {app: api}"))
    assert "istio.stats" in dump(tmp_path)
    (tmp_path / "d" / "mesh.yaml").write_text("defaultProviders: {metrics: [prometheus]}\n")
    assert "istio.stats" in dump(tmp_path)
    (tmp_path / "d" / "mesh.yaml").write_text("accessLogFile: /dev/stdout\n")
    assert "istio.stats" not in dump(tmp_path)
    assert '"name": "0.0.0.0_9080"' in dump(tmp_path, "--service-cidr", "")


def test_what_cannot_be(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for args, text in ((("-c", tmp_path / "a", "-c", tmp_path / "a" / "b"), "is read already, as part of"),
                       (("-c", tmp_path / "a", "--service-cidr", "10.0.0.0/31"), "--service-cidr: \"10.0.0.0/31\" is too small")):
        p = subprocess.run([control.MIZZEND, *args, "--mode", "validate"], capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and text in p.stderr, p.stderr


def test_changes_that_change_nothing(mizzend, mesh, tmp_path):
    """A model that nobody is told of takes the place of the one before all the same; what clients have stands on it."""
    px = mesh.proxy(boot=control.bootstrap(NODE, mizzend.port, free_port()), ready=False)
    until(lambda: clusters(px), 20, "the proxy to have its clusters")
    for i in range(3):
        (tmp_path / "pods" / "api-0.yaml").write_text(pod("api-0", "10.244.0.2", True).replace("labels:", f"annotations: {{round: '{i}'}}, labels:"))
        until(lambda: mizzend.page("/debug/mizzen/settled", ok=False)[0] == 200, 20, "the change to be read and taken")
    (tmp_path / "pods" / "api-1.yaml").write_text(pod("api-1", "10.244.0.3", True))
    until(lambda: "10.244.0.3:8080" in clusters(px), 20, "the other pod")
    assert mizzend.process.poll() is None


def clusters(px):
    try:
        return px.admin("/clusters")[1]
    except OSError:  # not there yet
        return ""
