"""`mizzenctl workload`: documents and files for machines outside of Kubernetes, as the field's tool makes them."""
import base64
import json
import shlex
import stat

import ctl
import pytest
import yaml

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
DEFAULT = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": {"name": "foo", "namespace": "bar"},
           "spec": {"metadata": {}, "template": {"serviceAccount": "default"}}}
CUSTOM = {**DEFAULT, "spec": {"metadata": {"annotations": {"annotation": "foobar"}, "labels": {"app": "foo", "bar": "baz"}},
                              "template": {"ports": {"grpc": 3550, "http": 8080}, "serviceAccount": "test", "weight": 100}}}
FULL = ["--annotations", "annotation=foobar", "--ports", "grpc=3550,http=8080", "--serviceAccount", "test", "--weight", "100"]


def run(*args, fine=0):
    p = ctl.run("workload", *args)
    assert p.returncode == fine, f"{p.returncode}: {p.stderr}"
    return p


@pytest.mark.parametrize("args, want", [
    (["--name", "foo", "--namespace", "bar"], DEFAULT),
    (["--name", "foo", "--namespace", "bar", "--labels", "app=foo,bar=baz", *FULL], CUSTOM),
    (["--name", "foo", "-n", "bar", "-l", "app=foo", "-l", "bar=baz", *FULL], CUSTOM)])
def test_a_group(args, want):
    assert yaml.safe_load(run("group", "create", *args).stdout) == want


@pytest.mark.parametrize("args, why", [
    (["group", "create"], "expecting a workload name"), (["group", "create", "-n", "bar"], "expecting a workload name"),
    (["group", "create", "--name", "foo"], "expecting a workload namespace"),
    (["group", "create", "--name", "a", "-n", "b", "-l", "x"], '--labels: "x" is not NAME=VALUE'),
    (["group", "create", "--name", "a", "-n", "b", "-p", "x=70000"], '--ports: "x=70000" is not NAME=PORT'),
    (["entry", "configure", "-o", "x"], "expecting a WorkloadGroup artifact file"),
    (["entry", "configure", "-f", "x"], "expecting an output directory"),
    (["entry", "configure", "-f", "x", "-o", "y", "--internalIP", "1.1.1.1", "--externalIP", "1.1.1.1"], "the flags --internalIP and --externalIP are mutually exclusive"),
    (["entry", "configure", "-f", "/no/such", "-o", "y", "--ca-dir", "z"], "/no/such: No such file or directory")])
def test_what_is_missing_is_told(args, why):
    assert f"Error: {why}\n" in run(*args, fine=1).stderr


def environment(path):
    return dict(one.split("=", 1) for one in shlex.split(path.read_text()))


GROUP = """
kind: WorkloadGroup
metadata: {name: foo, namespace: bar}
spec:
  metadata:
    annotations:
      proxy.istio.io/config: |-
        proxyMetadata:
          PROXY_CONFIG_ANNOT_VALUE: bar
    labels: {}
  template: {ports: {}, serviceAccount: vm-serviceaccount}
  probe: {httpGet: {port: 8080}}
"""
MESH = """
defaultConfig:
  proxyMetadata:
    ISTIO_META_DNS_CAPTURE: "false"
    PROXY_CONFIG_ANNOT_VALUE: foo
    CLUSTER_MESH_CONFIG_VALUE: foo
"""
METADATA = {"CANONICAL_REVISION": "latest", "CANONICAL_SERVICE": "foo", "CLUSTER_MESH_CONFIG_VALUE": "foo", "ISTIO_META_CLUSTER_ID": "Kubernetes", "ISTIO_META_DNS_CAPTURE": "true",
            "ISTIO_META_MESH_ID": "", "ISTIO_META_NETWORK": "", "ISTIO_META_WORKLOAD_NAME": "foo", "POD_NAMESPACE": "bar", "PROXY_CONFIG_ANNOT_VALUE": "bar",
            "ISTIO_METAJSON_LABELS": '{"service.istio.io/canonical-name":"foo","service.istio.io/canonical-revision":"latest"}', "SERVICE_ACCOUNT": "vm-serviceaccount",
            "TRUST_DOMAIN": ""}


@pytest.fixture
def made(tmp_path):
    """A directory of an authority, and what is made of a group's text."""
    def make(group, *args, mesh="{}", fine=0):
        (tmp_path / "group.yaml").write_text(group)
        (tmp_path / "mesh.yaml").write_text(mesh)
        (tmp_path / "ca").mkdir(mode=0o700, exist_ok=True)
        (tmp_path / "ca" / "root-cert.pem").write_text("the root\n")
        p = run("entry", "configure", "-f", str(tmp_path / "group.yaml"), "-o", str(tmp_path / "out"), "--ca-dir", str(tmp_path / "ca"), "--meshConfigFile", str(tmp_path / "mesh.yaml"),
                *args, fine=fine)
        make.said = p.stderr
        return tmp_path / "out"
    return make


def test_a_machine(made):
    out = made(GROUP, "--internalIP", "10.10.10.10", "--ingressIP", "10.10.10.11", "--clusterID", "Kubernetes", "--revision", "rev-1", mesh=MESH)
    assert {f.name for f in out.iterdir()} == {"cluster.env", "hosts", "istio-token", "mesh.yaml", "root-cert.pem"}
    assert yaml.safe_load((out / "mesh.yaml").read_text()) == {"defaultConfig": {"discoveryAddress": "istiod-rev-1.istio-system.svc:15012", "proxyMetadata": METADATA,
                                                                                 "readinessProbe": {"httpGet": {"port": 8080}}}}
    assert environment(out / "cluster.env") == {
        **METADATA, "CA_ADDR": "istiod-rev-1.istio-system.svc:15012", "ISTIO_INBOUND_PORTS": "*", "ISTIO_LOCAL_EXCLUDE_PORTS": "22,15090,15021,15020", "ISTIO_NAMESPACE": "bar",
        "ISTIO_SERVICE": "foo.bar", "ISTIO_SERVICE_CIDR": "*", "ISTIO_SVC_IP": "10.10.10.10"}
    assert (out / "hosts").read_text() == "10.10.10.11 istiod-rev-1.istio-system.svc\n" and (out / "root-cert.pem").read_text() == "the root\n"
    assert stat.S_IMODE((out / "istio-token").stat().st_mode) == 0o600
    claims = json.loads(base64.urlsafe_b64decode((out / "istio-token").read_text().split(".")[1] + "=="))
    assert claims["sub"] == "system:serviceaccount:bar:vm-serviceaccount" and claims["exp"] - claims["iat"] == 3600
    assert 'security token for namespace "bar" and service account "vm-serviceaccount"' in made.said


def test_a_machine_with_ports_that_registers_itself(made):
    group = """
metadata: {name: web, namespace: shop}
spec:
  metadata: {labels: {app: it's, version: v2}}
  template: {ports: {https: 443, http: 80}, network: far, labels: {zone: a}}
"""
    out = made(group, "--externalIP", "fd00::1", "--autoregister", "--capture-dns=false", mesh="{trustDomain: td, defaultConfig: {statusPort: 15021, meshId: m}}")
    env = environment(out / "cluster.env")
    assert {k: env[k] for k in ("ISTIO_INBOUND_PORTS", "ISTIO_LOCAL_EXCLUDE_PORTS", "ISTIO_SVC_IP", "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "ISTIO_META_AUTO_REGISTER_GROUP",
                                "ISTIO_META_NETWORK", "TRUST_DOMAIN", "ISTIO_META_MESH_ID", "CANONICAL_SERVICE", "SERVICE_ACCOUNT")} == {
        "ISTIO_INBOUND_PORTS": "443,80", "ISTIO_LOCAL_EXCLUDE_PORTS": "22,15090,15021", "ISTIO_SVC_IP": "fd00::1", "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION": "true",
        "ISTIO_META_AUTO_REGISTER_GROUP": "web", "ISTIO_META_NETWORK": "far", "TRUST_DOMAIN": "td", "ISTIO_META_MESH_ID": "m", "CANONICAL_SERVICE": "it's", "SERVICE_ACCOUNT": "default"}
    assert "ISTIO_META_DNS_CAPTURE" not in env and "CA_ADDR" not in env
    assert json.loads(env["ISTIO_METAJSON_LABELS"]) == {"app": "it's", "version": "v2", "zone": "a", "service.istio.io/canonical-name": "it's", "service.istio.io/canonical-revision": "v2"}
    assert {(p["name"], p["containerPort"]) for p in json.loads(env["ISTIO_META_POD_PORTS"])} == {("http", 80), ("https", 443)}
    assert (out / "hosts").read_text() == "" and "--ingressIP" in made.said


@pytest.mark.parametrize("group, why", [
    ("metadata: {namespace: x}", "metadata.name: is required"), ("[]", "is not a document"), ("metadata: {name: a, namespace: 'x/../y'}", "is not an account"),
    ("metadata: {name: a, annotations: {proxy.istio.io/config: '[1]'}}", "is not a ProxyConfig")])
def test_h06_groups_that_are_refused(made, group, why):
    made(group, fine=1)
    assert why in made.said


def test_h06_a_name_of_a_variable_is_no_command(made):
    out = made("metadata: {name: a, namespace: b}", mesh="{defaultConfig: {proxyMetadata: {'A; touch x #': y, B: \"'; touch x; '\"}}}")
    assert environment(out / "cluster.env")["B"] == "'; touch x; '" and "touch x #" not in (out / "cluster.env").read_text()
