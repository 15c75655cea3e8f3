"""mizzenctl kube-inject: the documents that the field's injector makes (C9), and what annotations cannot do (H06)."""
import json
import pathlib

import pytest
import yaml

import ctl

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "injection"
CASES = sorted(f.name.removesuffix(".input.yaml") for f in GOLDEN.glob("*.input.yaml"))
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo", "labels": {"app": "p"}},
       "spec": {"containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 80}]}]}}


def opened(value):
    """With texts that hold JSON read."""
    if isinstance(value, dict):
        return {k: opened(v) for k, v in value.items()}
    if isinstance(value, list):
        return [opened(v) for v in value]
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


@pytest.mark.parametrize("case", CASES)
def test_documents_are_those_of_the_fields_injector(case):
    p = ctl.run("kube-inject", "-f", GOLDEN / f"{case}.input.yaml", "--image", "example/mesh/proxyv2:1.32")
    want = (GOLDEN / f"{case}.injected.yaml").read_text()
    assert p.returncode == 0, p.stderr
    assert opened(list(yaml.safe_load_all(p.stdout))) == opened(list(yaml.safe_load_all(want)))
    if case != "02-annotated-pod":  # there the order of a line's members differs
        assert p.stdout == want


def inject(pod, *args, code=0):
    p = ctl.run("kube-inject", "-f", "-", *args, text=yaml.safe_dump(pod))
    assert p.returncode == code, p.stderr
    return next(yaml.safe_load_all(p.stdout)) if code == 0 else p.stderr


def annotated(**notes):
    pod = json.loads(json.dumps(POD))
    pod["metadata"]["annotations"] = {k.replace("__", "/").replace("_", "."): v for k, v in notes.items()}
    return pod


def proxy(pod):
    return next(c for c in pod["spec"]["containers"] if c["name"] == "istio-proxy")


def env(pod, name):
    return next((e.get("value") for e in proxy(pod)["env"] if e["name"] == name), None)


def test_what_is_injected_once_stays():
    once = inject(POD)
    assert inject(once) == once


@pytest.mark.parametrize("label, note, hostnet, injected", [
    (None, None, False, True), ("false", None, False, False), (None, "false", False, False), ("true", "false", False, True),
    ("no", "true", False, False), (None, "yes", False, True), (None, None, True, False),
])
def test_who_is_injected(label, note, hostnet, injected):
    pod = json.loads(json.dumps(POD))
    if label:
        pod["metadata"]["labels"]["sidecar.istio.io/inject"] = label
    if note:
        pod["metadata"]["annotations"] = {"sidecar.istio.io/inject": note}
    if hostnet:
        pod["spec"]["hostNetwork"] = True
    assert any(c["name"] == "istio-proxy" for c in inject(pod)["spec"]["containers"]) == injected


def test_namespaces_of_the_system_are_left_alone():
    pod = json.loads(json.dumps(POD))
    pod["metadata"]["namespace"] = "kube-system"
    assert len(inject(pod)["spec"]["containers"]) == 1


def test_every_kind_that_makes_pods():
    template = {"metadata": {"labels": {"app": "p"}}, "spec": POD["spec"]}
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController"):
        out = inject({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x", "namespace": "demo"}, "spec": {"template": template}})
        pod = out["spec"]["template"]
        assert env(pod, "ISTIO_META_OWNER") == f"kubernetes://apis/apps/v1/namespaces/demo/{kind.lower()}s/x"
    out = inject({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"}, "spec": {"jobTemplate": {"spec": {"template": template}}}})
    assert proxy(out["spec"]["jobTemplate"]["spec"]["template"])
    out = inject({"apiVersion": "v1", "kind": "List", "items": [POD, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}]})
    assert proxy(out["items"][0]) and "containers" not in out["items"][1]


def test_probes_of_every_kind_go_through_the_agent():
    pod = json.loads(json.dumps(POD))
    c = pod["spec"]["containers"][0]
    c["ports"] = [{"containerPort": 80, "name": "web"}]
    c["livenessProbe"] = {"httpGet": {"port": "web", "path": "/l", "scheme": "HTTPS"}, "timeoutSeconds": 7}
    c["readinessProbe"] = {"grpc": {"port": 9000, "service": "s"}}
    c["startupProbe"] = {"exec": {"command": ["true"]}}
    out = inject(pod)
    app = out["spec"]["containers"][0]
    assert app["livenessProbe"] == {"httpGet": {"path": "/app-health/app/livez", "port": 15020}, "timeoutSeconds": 7}
    assert app["readinessProbe"] == {"httpGet": {"path": "/app-health/app/readyz", "port": 15020}}
    assert app["startupProbe"] == c["startupProbe"]
    assert json.loads(env(out, "ISTIO_KUBE_APP_PROBERS")) == {
        "/app-health/app/livez": {"httpGet": {"port": 80, "path": "/l", "scheme": "HTTPS"}, "timeoutSeconds": 7},
        "/app-health/app/readyz": {"grpc": {"port": 9000, "service": "s"}}}
    pod["metadata"]["annotations"] = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
    assert inject(pod)["spec"]["containers"][0]["livenessProbe"] == c["livenessProbe"]


def test_metrics_of_the_application_are_remembered():
    out = inject(annotated(prometheus_io__scrape="true", prometheus_io__port="9090", prometheus_io__path="/m"))
    assert json.loads(env(out, "ISTIO_PROMETHEUS_ANNOTATIONS")) == {"scrape": "true", "path": "/m", "port": "9090"}
    assert out["metadata"]["annotations"]["prometheus.io/port"] == "15020"


def test_the_pods_own_settings_of_the_proxy_win():
    pod = json.loads(json.dumps(POD))
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "env": [{"name": "CA_ADDR", "value": "mine"}, {"name": "MORE", "value": "1"}],
                                      "resources": {"requests": {"cpu": "1m"}}})
    out = inject(pod)
    assert [c["name"] for c in out["spec"]["containers"]] == ["app", "istio-proxy"]
    assert env(out, "CA_ADDR") == "mine" and env(out, "MORE") == "1" and proxy(out)["image"] != "auto"
    assert proxy(out)["resources"]["requests"] == {"cpu": "1m", "memory": "128Mi"}
    assert json.loads(out["metadata"]["annotations"]["proxy.istio.io/overrides"])["containers"][0]["env"][1] == {"name": "MORE", "value": "1"}


def test_a_proxy_that_is_an_init_container(monkeypatch):
    pod = annotated(sidecar_istio_io__nativeSidecar="true", proxy_istio_io__config="holdApplicationUntilProxyStarts: true")
    pod["spec"]["initContainers"] = [{"name": "first", "image": "x"}, {"name": "beside", "image": "x", "restartPolicy": "Always",
                                                                       "readinessProbe": {"httpGet": {"port": 3333}}}]
    out = inject(pod)["spec"]
    assert [c["name"] for c in out["containers"]] == ["app"]
    assert [c["name"] for c in out["initContainers"]] == ["istio-init", "istio-proxy", "first", "beside"]
    own = out["initContainers"][1]
    assert own["restartPolicy"] == "Always" and own["lifecycle"] == {"preStop": {"exec": {"command": ["pilot-agent", "request", "--debug-port=15020",
                                                                                                       "POST", "drain"]}}}
    assert out["initContainers"][3]["readinessProbe"] == {"httpGet": {"path": "/app-health/beside/readyz", "port": 15020}}
    assert {"name": "ISTIO_KUBE_APP_PROBERS", "value": '{"/app-health/beside/readyz":{"httpGet":{"port":3333}}}'} in own["env"]
    assert {"name": "ISTIO_META_APP_CONTAINERS", "value": "app"} in own["env"]
    notes = inject(pod)["metadata"]["annotations"]
    assert json.loads(notes["sidecar.istio.io/status"])["initContainers"] == ["istio-init", "istio-proxy"]
    assert json.loads(notes["sidecar.istio.io/status"])["containers"] is None
    monkeypatch.setenv("ENABLE_NATIVE_SIDECARS", "true")
    assert [c["name"] for c in inject(POD)["spec"]["initContainers"]] == ["istio-init", "istio-proxy"]
    assert "lifecycle" not in proxy(inject(annotated(sidecar_istio_io__nativeSidecar="false")))


def test_own_settings_of_a_proxy_that_is_an_init_container():
    pod = annotated(sidecar_istio_io__nativeSidecar="true")
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "command": ["envoy"]})
    out = inject(pod)
    assert [c["name"] for c in out["spec"]["containers"]] == ["app"]
    assert out["spec"]["initContainers"][1]["command"] == ["envoy"] and out["spec"]["initContainers"][1]["image"] != "auto"
    assert json.loads(out["metadata"]["annotations"]["proxy.istio.io/overrides"]) == {
        "initContainers": [{"name": "istio-proxy", "command": ["envoy"], "resources": {}}]}


@pytest.mark.parametrize("native, names", [("false", None), ("true", ["istio-proxy"])])
def test_nothing_prepares_the_network_without_interception(native, names):
    out = inject(annotated(sidecar_istio_io__interceptionMode="NONE", sidecar_istio_io__nativeSidecar=native))
    assert json.loads(out["metadata"]["annotations"]["sidecar.istio.io/status"])["initContainers"] == names
    assert [c["name"] for c in out["spec"].get("initContainers", [])] == (names or [])


@pytest.mark.parametrize("image, notes, want", [
    ("a/p:1", {"sidecar_istio_io__proxyImageType": "debug"}, ("a/p:1-debug", "a/p:1-debug")),
    ("a/p:1-distroless", {"sidecar_istio_io__proxyImageType": "debug"}, ("a/p:1-debug", "a/p:1-debug")),
    ("a/p:1-debug", {"sidecar_istio_io__proxyImageType": "default"}, ("a/p:1", "a/p:1")),
    ("a/p:1", {"proxy_istio_io__config": "image: {imageType: distroless}"}, ("a/p:1-distroless", "a/p:1")),
    ("a/p:1", {"sidecar_istio_io__proxyImage": "b/q:2", "sidecar_istio_io__proxyImageType": "debug"}, ("b/q:2", "b/q:2")),
    ("a/p:1", {"sidecar_istio_io__proxyImage": "q"}, ("a/p:1", "a/p:1")),
])
def test_types_of_images(image, notes, want):
    out = inject(annotated(**notes), "--image", image)
    assert (proxy(out)["image"], out["spec"]["initContainers"][0]["image"]) == want


NASTY = ['"}],"x":[{', "$(rm -rf /)", "`id`", "{{ .Values }}", "a\nb: c\n- d", "'; DROP", "\\\"", "${IFS}", "<script>", "\u2028"]


NAMES = ["sidecar.istio.io/logLevel", "sidecar.istio.io/proxyCPU", "sidecar.istio.io/interceptionMode", "traffic.sidecar.istio.io/excludeOutboundPorts",
         "sidecar.istio.io/bootstrapOverride", "sidecar.istio.io/proxyImage", "status.sidecar.istio.io/port"]


def shape(v):
    if isinstance(v, dict):
        return {k: shape(x) for k, x in v.items()}
    return [shape(x) for x in v] if isinstance(v, list) else type(v).__name__


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_h06_annotations_stay_texts(text):
    """Whatever stands in them, the document has the same shape: each text is one value in it."""
    def with_text(t):
        pod = json.loads(json.dumps(POD))
        pod["metadata"]["annotations"] = dict.fromkeys(NAMES, t)
        return inject(pod)
    plain, odd = with_text("plain"), with_text(text)
    assert shape(odd) == shape(plain)
    assert [odd["metadata"]["annotations"][n] for n in NAMES] == [text] * len(NAMES)
    assert proxy(odd)["image"] == (text if "/" in text else proxy(inject(POD))["image"])  # a path, or it is not meant as one
    assert proxy(odd)["resources"] == {"requests": {"cpu": text}}
    assert odd["spec"]["initContainers"][0]["args"][8] == text and f"15090,15021,{text}" in odd["spec"]["initContainers"][0]["args"]


@pytest.mark.parametrize("notes, why", [
    ({"sidecar_istio_io__userVolume": "[{"}, "sidecar.istio.io/userVolume: not a list as JSON"),
    ({"sidecar_istio_io__userVolumeMount": '{"a":1}'}, "sidecar.istio.io/userVolumeMount: not a list as JSON"),
    ({"proxy_istio_io__config": "concurrency: ["}, "proxy.istio.io/config"),
    ({"proxy_istio_io__config": "noSuchField: 1"}, 'unknown field "noSuchField"'),
    ({"proxy_istio_io__config": "- a"}, "not a ProxyConfig"),
    ({"proxy_istio_io__config": "&a [*a]"}, "proxy.istio.io/config"),
    ({"inject_istio_io__templates": "mine"}, 'there is no template "mine"'),
])
def test_h06_annotations_that_cannot_be_read(notes, why):
    assert why in inject(annotated(**notes), code=1)


def test_command_line(tmp_path):
    assert "filename not specified" in ctl.run("kube-inject").stderr
    p = ctl.run("kube-inject", "-f", GOLDEN / "01-deployment.input.yaml", "-o", tmp_path / "out.yaml", "--revision", "canary", "--ca-address", "a:1")
    text = (tmp_path / "out.yaml").read_text()
    assert p.returncode == 0 and p.stdout == "" and "istio.io/rev: canary" in text and "value: a:1" in text
    assert ctl.run("kube-inject", "-f", "/no/such").returncode == 1
    assert ctl.run("kube-inject", "-f", "-", text="kind: [").returncode == 1
