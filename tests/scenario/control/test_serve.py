"""mizzend serves a directory; a Mizzen proxy takes it (C1, C3, C6)."""
import json
import pathlib

import pytest

import control
from wire import free_port, until

CASE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "plain-http"
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")


@pytest.fixture
def mizzend(tmp_path):
    m = control.Mizzend(tmp_path, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
    yield m
    m.stop()


def test_a_proxy_gets_its_clusters_and_what_changes(mizzend, mesh):
    boot = control.bootstrap(CASE / "web" / "node.json", mizzend.port, free_port())
    px = mesh.proxy(boot=boot, ready=False)

    def clusters():
        try:
            _, text = px.admin("/clusters?format=json")
        except OSError:  # not there yet
            return {}
        return {c["name"]: c for c in json.loads(text)["cluster_statuses"]}

    def hosts(name):
        return sorted(h["address"]["socket_address"]["address"] for h in clusters().get(name, {}).get("host_statuses", []))

    api = "outbound|9080||api.demo.svc.cluster.local"
    until(lambda: hosts(api) == ["10.10.0.20", "10.10.0.21"], 30, "the endpoints of api")
    want = {c["name"] for c in json.loads((CASE / "web" / "cds.json").read_text())}
    assert want == set(clusters()) - {"xds-grpc", "sds-grpc"}

    kube = (CASE / "input" / "kube.yaml").read_text()
    mizzend.write("kube.yaml", kube.replace('addresses: ["10.10.0.21"]', 'addresses: ["10.10.0.22"]'))
    until(lambda: hosts(api) == ["10.10.0.20", "10.10.0.22"], 30, "the other endpoint of api")
    assert px.stat("cluster_manager.cds.update_success") == 1, "an endpoint is no reason to send clusters"

    mizzend.write("kube.yaml", "kind: [")  # a broken file: told, and what was stays
    until(lambda: "kube.yaml:1: not YAML" in mizzend.log(), 30, "the broken file to be told")
    assert hosts(api) == ["10.10.0.20", "10.10.0.22"]

    mizzend.write("kube.yaml", kube.replace("name: nobody\n", "name: somebody\n", 1))
    until(lambda: "outbound|8080||somebody.demo.svc.cluster.local" in clusters(), 30, "a service of another name")
    assert "outbound|8080||nobody.demo.svc.cluster.local" not in clusters()
    until(lambda: hosts(api) == ["10.10.0.20", "10.10.0.21"], 30, "the endpoints of api again")
