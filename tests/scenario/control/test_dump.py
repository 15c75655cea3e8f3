"""`mizzend --mode dump` (C6): of gRPC without a proxy, which asks for each resource by name; the same bytes in every run."""
import json
import pathlib
import re
import subprocess

import pytest

import control

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
DOCUMENTS = """
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: demo}
spec: {clusterIP: 10.9.0.1, selector: {app: echo}, ports: [{name: grpc, port: 7070, targetPort: 7071}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: demo}
spec: {clusterIP: 10.9.0.2, ports: [{name: grpc, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, namespace: demo, labels: {kubernetes.io/service-name: echo}}
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: echo-1}}]
ports: [{name: grpc, port: 7071}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo-1, namespace: demo, labels: {app: echo, version: v1}}
spec: {serviceAccountName: echo}
status: {podIP: 10.1.0.1, phase: Running}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: demo}
spec: {host: echo, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: demo}
spec: {hosts: [echo], http: [{route: [{destination: {host: echo, subset: v1}, weight: 9}, {destination: {host: other, port: {number: 80}}, weight: 1}]}]}
"""
ECHO, OTHER = "outbound|7070|v1|echo.demo.svc.cluster.local", "outbound|80||other.demo.svc.cluster.local"


def test_grpc_without_a_proxy(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.yaml").write_text(DOCUMENTS)
    (tmp_path / "node.json").write_text(json.dumps({"id": "sidecar~10.1.0.1~echo-1.demo~demo.svc.cluster.local", "metadata": {"GENERATOR": "grpc"}}))
    subprocess.run([control.MIZZEND, "--mode", "dump", "-c", tmp_path / "docs", "--node", tmp_path / "node.json", "-o", tmp_path / "out"], check=True, timeout=60)
    out = {k: json.loads((tmp_path / "out" / f"{k}.json").read_text()) for k in ("lds", "rds", "cds", "eds")}
    names = {k: [r.get("name") or r["cluster_name"] for r in v] for k, v in out.items()}
    assert names == {"lds": ["echo.demo.svc.cluster.local:7070", "other.demo.svc.cluster.local:80", "xds.istio.io/grpc/lds/inbound/0.0.0.0:7071"],
                     "rds": ["outbound|7070||echo.demo.svc.cluster.local", OTHER], "cds": [ECHO, OTHER], "eds": [ECHO, OTHER]}
    assert out["eds"][0]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] == {"address": "10.1.0.1", "port_value": 7071}
    assert not (tmp_path / "out" / "sds.json").exists()


CASES = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases"
RECORDED = sorted({p.parent.parent.name for p in CASES.glob("*/*/node.json")} - {"ambient"})


@pytest.mark.parametrize("case", RECORDED)
def test_answers_are_the_same_bytes_in_every_run(tmp_path, case):
    """Also where the same documents stand in other files, in another order: each process has hash tables of its own order."""
    for n, files in enumerate(sorted((CASES / case / "input").iterdir(), reverse=r) for r in (False, True)):
        docs = tmp_path / f"docs{n}"
        docs.mkdir()
        for f in files:
            if f.name == "mesh.yaml":
                (docs / f.name).write_text(f.read_text())
                continue
            for i, one in enumerate(re.split(r"(?m)^---$", f.read_text())):
                (docs / f"{i if n else 9999 - i:04}-{f.stem}.yaml").write_text(one)
    for node in sorted((CASES / case).glob("*/node.json")):
        for run in range(2):
            subprocess.run([control.MIZZEND, "--mode", "dump", "-c", tmp_path / f"docs{run}", "--node", node, "-o", tmp_path / f"out{run}"], check=True, timeout=120)
        one, other = ({f.name: f.read_bytes() for f in (tmp_path / f"out{run}").iterdir()} for run in range(2))
        assert one and one == other, f"{node.parent.name}: {[k for k in one if one[k] != other.get(k)]}"
