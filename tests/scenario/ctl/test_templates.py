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
    def run(obj, config, values=None, code=0, args=()):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "values.json").write_text(json.dumps(values or {}))
        p = ctl.run("kube-inject", "-f", "-", "--injectConfigFile", tmp_path / "config.yaml", "--valuesFile", tmp_path / "values.json", *args, text=yaml.safe_dump(obj))
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
    ({"neverInjectSelector": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}, "neverInjectSelector[0].matchExpressions[0]: operator is one of"),
    ({"defaultTemplates": ["sidecar", "gateway"]}, "do not go together"),
])
def test_what_is_wrong_is_told(inject, config, text):
    assert text in inject(pod(), config, code=1)


SHOWS = """
spec:
  initContainers:
  - {name: istio-init, image: "{{ .ProxyInitImage }}"}
  containers:
  - name: istio-proxy
    image: "{{ .ProxyImage }}"
    args: ["{{ .ProxyConfig.DiscoveryAddress }}", "{{ .ProxyConfig.StatusPort }}", '{{ protoToJSON .ProxyConfig }}']
"""


@pytest.mark.parametrize("values, notes, args, want", [
    ({}, {}, [], ("docker.io/istio/proxyv2:latest",) * 2),
    ({"hub": "example/mesh", "tag": "1.2"}, {}, [], ("example/mesh/proxyv2:1.2",) * 2),
    ({"hub": "example/mesh", "tag": 1.24}, {}, [], ("example/mesh/proxyv2:1.24",) * 2),
    ({"hub": "h", "tag": "1-distroless", "variant": "debug"}, {}, [], ("h/proxyv2:1-debug",) * 2),
    ({"hub": "h", "tag": "1", "variant": "debug"}, {"sidecar.istio.io/proxyImageType": "default"}, [], ("h/proxyv2:1",) * 2),
    ({"hub": "h", "tag": "1"}, {"proxy.istio.io/config": "image: {imageType: distroless}"}, [], ("h/proxyv2:1-distroless", "h/proxyv2:1")),
    ({"hub": "h", "tag": "1", "proxy": {"image": "p"}, "proxy_init": {"image": "i"}}, {}, [], ("h/p:1", "h/i:1")),
    ({"hub": "h", "tag": "1", "proxy": {"image": "other/p:2"}}, {}, [], ("other/p:2", "h/proxyv2:1")),
    ({"hub": "h", "tag": "1"}, {}, ["--image", "said/so:1"], ("said/so:1",) * 2),
])
@pytest.mark.parametrize("config", [{"templates": {"sidecar": SHOWS}}, {}])
def test_images_are_those_of_the_values(inject, values, notes, args, want, config):
    out = inject(pod(notes), config, {"global": values}, args=args)
    spec = out["spec"]
    assert (named(spec["containers"], "istio-proxy")["image"], named(spec["initContainers"], "istio-init")["image"]) == want


def test_proxy_configs_have_their_defaults_which_are_not_handed_on(inject):
    note = {"proxy.istio.io/config": "{statusPort: 15020, drainDuration: 45s, statNameLength: 200}"}
    args = named(inject(pod(note), {"templates": {"sidecar": SHOWS}})["spec"]["containers"], "istio-proxy")["args"]
    assert args == ["istiod.istio-system.svc:15012", "15020", '{"statNameLength":200}']


def test_what_a_pod_says_of_any_container_of_a_template_wins_and_is_remembered(inject):
    out = inject(pod(image="mine"), {"templates": {"sidecar": "spec: {containers: [{name: app, image: theirs, env: [{name: A}]}]}"}})
    app = named(out["spec"]["containers"], "app")
    assert app["image"] == "mine" and app["env"] == [{"name": "A"}]
    kept = json.loads(out["metadata"]["annotations"]["proxy.istio.io/overrides"])
    assert [(c["name"], c["image"]) for c in kept["containers"]] == [("app", "mine")] and "initContainers" not in kept


def test_a_pod_and_a_template_may_say_both_once_is_remembered(inject):
    obj = pod({"inject.istio.io/templates": "sidecar, custom"})
    obj["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "env": [{"name": "CUSTOM", "value": "pod"}]})
    out = inject(obj, {"templates": {"custom": CUSTOM}})
    assert {"name": "CUSTOM", "value": "pod"} in named(out["spec"]["containers"], "istio-proxy")["env"]
    assert len(json.loads(out["metadata"]["annotations"]["proxy.istio.io/overrides"])["containers"]) == 1


@pytest.mark.parametrize("config", [{"templates": {"sidecar": OWN}}, {}])
@pytest.mark.parametrize("label", [None, "mine"])
def test_values_and_labels_say_where_the_proxy_is(inject, config, label):
    obj = pod()
    if label:
        obj["metadata"]["labels"]["topology.istio.io/network"] = label
    out = inject(obj, config, {"global": {"network": "theirs", "multiCluster": {"clusterName": "east"}}})
    env = {e["name"]: e.get("value") for e in named(out["spec"]["containers"], "istio-proxy")["env"]}
    assert (env["ISTIO_META_CLUSTER_ID"], env["ISTIO_META_NETWORK"]) == ("east", label or "theirs")
    assert out["metadata"]["labels"]["topology.istio.io/network"] == (label or "theirs")


@pytest.mark.parametrize("config, said, injected", [
    ({"policy": "enabled"}, None, True), ({"policy": "disabled"}, None, False), ({"policy": "disabled"}, "true", True), ({"policy": "disabled"}, "no", False),
    ({"neverInjectSelector": [{"matchLabels": {"app": "p"}}]}, None, False), ({"neverInjectSelector": [{"matchLabels": {"app": "p"}}]}, "true", True),
    ({"neverInjectSelector": [{"matchLabels": {"app": "q"}}, {}]}, None, True),
    ({"policy": "disabled", "alwaysInjectSelector": [{"matchExpressions": [{"key": "app", "operator": "In", "values": ["q", "p"]}]}]}, None, True),
    ({"policy": "disabled", "alwaysInjectSelector": [{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["p"]}]}]}, None, False),
    ({"policy": "disabled", "alwaysInjectSelector": [{"matchExpressions": [{"key": "app", "operator": "Exists"}]}]}, "false", False),
    ({"neverInjectSelector": [{"matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}]}, None, False),
    ({"neverInjectSelector": [{"matchLabels": {"app": "p"}}], "alwaysInjectSelector": [{"matchLabels": {"app": "p"}}]}, None, False),
])
def test_selectors_and_policy_are_for_pods_that_say_nothing(inject, config, said, injected):
    obj = pod()
    if said:
        obj["metadata"]["labels"]["sidecar.istio.io/inject"] = said
    assert any(c["name"] == "istio-proxy" for c in inject(obj, config)["spec"]["containers"]) == injected


def test_who_checks_the_network_runs_as_the_proxy(inject):
    template = "spec: {initContainers: [{name: istio-validation, args: [-u, '1337']}], containers: [{name: istio-proxy}]}"
    obj = pod()
    obj["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": 5, "runAsGroup": 6}})
    checks = inject(obj, {"templates": {"sidecar": template}})["spec"]["initContainers"][0]
    assert checks["args"] == ["-u", "5"] and checks["securityContext"] == {"runAsUser": 5, "runAsGroup": 6}


def test_what_prepares_the_network_is_first_where_a_second_template_names_the_proxy(inject):
    first = "spec: {initContainers: [{name: istio-proxy, restartPolicy: Always}, {name: istio-init}]}"
    more = "spec: {containers: [{name: istio-proxy}]}"
    out = inject(pod({"inject.istio.io/templates": "sidecar,more"}), {"templates": {"sidecar": first, "more": more}})
    assert [c["name"] for c in out["spec"]["initContainers"]] == ["istio-init", "istio-proxy"]


def test_values_say_whether_probes_are_rewritten_and_applications_wait(inject):
    obj = pod(readinessProbe={"httpGet": {"path": "/r", "port": 80}})
    out = inject(obj, {}, {"sidecarInjectorWebhook": {"rewriteAppHTTPProbe": False}, "global": {"proxy": {"holdApplicationUntilProxyStarts": True}}})
    first, app = out["spec"]["containers"]
    assert first["name"] == "istio-proxy" and first["lifecycle"] and app["readinessProbe"]["httpGet"]["path"] == "/r"
    obj["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = "true"
    out = inject(obj, {}, {"sidecarInjectorWebhook": {"rewriteAppHTTPProbe": False}})
    assert named(out["spec"]["containers"], "app")["readinessProbe"]["httpGet"]["path"] == "/app-health/app/readyz"
