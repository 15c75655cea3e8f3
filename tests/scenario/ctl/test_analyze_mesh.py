"""mizzenctl analyze on a folder that `up` runs: the MeshConfig is known, and so are the pods that controllers will make (C7)."""
import re
import shutil

import pytest

import ctl
from samples import ROOT

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
DOCUMENTS = """apiVersion: v1
kind: Namespace
metadata: {name: demo, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-too, namespace: demo}
spec: {selector: {app: web}, ports: [{name: http, port: 81, targetPort: 8080}, {name: udp, port: 80, protocol: UDP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec: {containers: [{name: app, command: [web], securityContext: {runAsUser: 1337}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: demo}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: demo}
spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: lost, namespace: demo}
spec: {selector: {matchLabels: {app: lost}}}
"""


def found(*args):
    p = ctl.run("analyze", "-A", *args)
    return p, [re.match(r"(\w+) \[(IST\d+)\] \((.*?) \S+:\d+\)", line).groups() for line in p.stdout.splitlines()]


@pytest.mark.parametrize("name", ["bookinfo", "authorization", "canary", "egress", "fault", "job", "mirror", "mixed", "two-layer"])
def test_nothing_is_wrong_with_the_labs(name):
    p, got = found(ROOT / name)
    assert [f for f in got if f[0] != "Info"] == [] and p.returncode == 0, p.stdout + p.stderr


def test_a_secret_that_is_not_there():
    """samples/ingress-tls without make-certificate.sh, as its README says."""
    p, got = found(ROOT / "ingress-tls")
    assert got == [("Error", "IST0101", "Gateway default/bookinfo-gateway")] and "bookinfo-credential" in p.stdout and p.returncode == 79


def test_pods_of_deployments(tmp_path):
    (tmp_path / "a.yaml").write_text(DOCUMENTS)
    p, got = found(tmp_path)
    assert got == [("Error", "IST0173", "DestinationRule demo/web"), ("Warning", "IST0116", "Deployment demo/web"), ("Warning", "IST0127", "AuthorizationPolicy demo/lost"),
                   ("Warning", "IST0137", "Deployment demo/web"), ("Warning", "IST0144", "Deployment demo/web")], p.stdout
    assert "The Subset v2" in p.stdout
    assert "This deployment web is associated with multiple services using port 80 but different protocols: [demo/web demo/web-too]" in p.stdout
    assert 'This deployment web is associated with multiple services [demo/web demo/web-too] using targetPort "8080" but different ports: [80 81].' in p.stdout
    (tmp_path / "a.yaml").write_text(DOCUMENTS.replace("spec:\n  selector", "spec:\n  replicas: 0\n  selector"))
    assert ("Warning", "IST0127", "AuthorizationPolicy demo/web") in found(tmp_path)[1]


@pytest.mark.parametrize("how", [lambda f: [f], lambda f: [f / "a.yaml", f / "mesh.yaml"], lambda f: ["--meshConfigFile", f / "mesh.yaml", f / "a.yaml"]])
def test_the_mesh_config_is_known_and_checked(how, tmp_path):
    (tmp_path / "a.yaml").write_text(DOCUMENTS)
    (tmp_path / "mesh.yaml").write_text("accessLogFile: /dev/stdout\n")
    assert "Error(s) adding" not in found(*how(tmp_path))[0].stderr
    (tmp_path / "mesh.yaml").write_text("accessLogFile: /dev/stdout\nproxyListenPort: many\n")
    p, _ = found(*how(tmp_path))
    assert f"{tmp_path}/mesh.yaml:" in p.stderr and "many" in p.stderr


def test_validate_takes_the_folder_too(tmp_path):
    shutil.copytree(ROOT / "bookinfo", tmp_path / "b", ignore=shutil.ignore_patterns("src", "*.py"))
    p = ctl.run("validate", "-f", tmp_path / "b")
    assert p.returncode == 0 and f'"{tmp_path}/b/mesh.yaml" is valid' in p.stdout, p.stdout + p.stderr
