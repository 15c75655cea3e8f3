"""Templates of one's own in injection (C9): kube-inject with the configuration of the field's injector."""
import json

import pytest
import yaml

import ctl

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
CUSTOM = """
metadata:
  labels: {team: {{ .Values.global.team | default "none" | quote }}}
  annotations: {by: "{{ .DeploymentMeta.Name }}/{{ .ObjectMeta.Name }}"}
spec:
  containers:
  - name: istio-proxy
    env:
    - {name: CUSTOM, value: "{{ annotation .ObjectMeta `example/x` "y" }}"}
    resources: {limits: {cpu: "3"}}
  {{- range $i, $c := .Spec.Containers }}
  - name: {{ $c.Name }}-helper
    image: helper:{{ $i }}
  {{- end }}
  volumes:
  - {name: extra, emptyDir: {}}
"""
OWN = """
spec:
  containers:
  - name: istio-proxy
    image: "{{ .ProxyImage }}"
    args: [own, "{{ .ProxyConfig.InterceptionMode }}", "{{ .MeshConfig.TrustDomain }}"]
    ports: [{containerPort: 15090}]
    {{- if .NativeSidecars }}
    restartPolicy: Always
    {{- end }}
"""


def pod(annotations=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo", "labels": {"app": "p"}, "annotations": annotations or {}},
            "spec": {"containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 80}], **spec}]}}


@pytest.fixture
def inject(tmp_path):
    def run(obj, config, values=None, code=0):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "values.json").write_text(json.dumps(values or {}))
        p = ctl.run("kube-inject", "-f", "-", "--injectConfigFile", tmp_path / "config.yaml", "--valuesFile", tmp_path / "values.json", text=yaml.safe_dump(obj))
        assert p.returncode == code, p.stderr
        return next(yaml.safe_load_all(p.stdout)) if code == 0 else p.stderr
    return run


def named(items, name):
    return next(c for c in items if c["name"] == name)


def test_one_is_laid_over_ours(inject):
    out = inject(pod({"inject.istio.io/templates": "sidecar, custom", "example/x": "z"}), {"templates": {"custom": CUSTOM}}, {"global": {"team": "a"}})
    containers = out["spec"]["containers"]
    assert [c["name"] for c in containers] == ["app", "istio-proxy", "app-helper"]
    proxy = named(containers, "istio-proxy")
    assert {"name": "CUSTOM", "value": "z"} in proxy["env"] and named(proxy["env"], "POD_NAME") and proxy["resources"]["limits"]["cpu"] == "3"
    assert out["metadata"]["labels"]["team"] == "a" and out["metadata"]["annotations"]["by"] == "p/p"
    assert named(out["spec"]["volumes"], "extra") and named(out["spec"]["volumes"], "istio-token")
    status = json.loads(out["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert status["containers"] == ["istio-proxy", "app-helper"] and "extra" in status["volumes"] and "istio-token" in status["volumes"]


def test_a_sidecar_that_is_written_replaces_ours(inject):
    obj = pod({"prometheus.io/scrape": "true", "prometheus.io/port": "80"}, readinessProbe={"httpGet": {"path": "/r", "port": 80}})
    obj["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 9}]})
    out = inject(obj, {"templates": {"sidecar": OWN}, "injectedAnnotations": {"all": "have"}})
    proxy = named(out["spec"]["containers"], "istio-proxy")
    assert proxy["args"] == ["own", "REDIRECT", "cluster.local"] and proxy["image"].endswith("proxyv2:latest")
    assert [p["containerPort"] for p in proxy["ports"]] == [15090, 9], "what the pod says comes last"
    assert "/app-health/app/readyz" in named(proxy["env"], "ISTIO_KUBE_APP_PROBERS")["value"] and named(proxy["env"], "ISTIO_PROMETHEUS_ANNOTATIONS")
    assert out["metadata"]["annotations"]["all"] == "have" and out["metadata"]["annotations"]["prometheus.io/port"] == "15020"
    assert "initContainers" not in out["spec"] and "istio-init" not in out["metadata"]["annotations"]["sidecar.istio.io/status"]


def test_defaults_aliases_and_what_takes_away(inject):
    config = {"templates": {"custom": CUSTOM, "less": "spec: {containers: [{name: app-helper, $patch: delete}], volumes: null}"},
              "defaultTemplates": ["all"], "aliases": {"all": ["sidecar", "custom", "less"]}}
    out = inject(pod(), config)
    assert [c["name"] for c in out["spec"]["containers"]] == ["app", "istio-proxy"] and "volumes" not in out["spec"]
    assert out["metadata"]["labels"]["team"] == "none"
    out = inject(pod({"inject.istio.io/templates": "custom"}), config)
    assert "image" not in named(out["spec"]["containers"], "istio-proxy")


@pytest.mark.parametrize("config,text", [
    ({"templates": {"a": "x\n{{ nothing 1 }}"}}, 'templates.a: line 2: there is no function "nothing"'),
    ({"templates": {"sidecar": "{{ index .Spec.Containers 7 }}"}}, 'template sidecar: line 1: the list has no element "7"'),
    ({"templates": {"sidecar": "spec: ["}}, "template sidecar: not YAML"),
    ({"templates": {"sidecar": "spec: null"}}, "the templates leave no spec"),
    ({"templates": {"sidecar": "spec: {containers: [{image: x}]}"}}, 'template sidecar.spec.containers: an element without "name"'),
    ({"templates": {}, "defaultTemplates": ["none"]}, 'there is no template "none"'),
    ({"neverInjectSelector": [{"matchLabels": {"a": "b"}}]}, "neverInjectSelector: is not read"),
    ({"defaultTemplates": ["sidecar", "gateway"]}, "do not go together"),
])
def test_what_is_wrong_is_told(inject, config, text):
    assert text in inject(pod(), config, code=1)
