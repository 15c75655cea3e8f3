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
    ("no", "true", False, True), (None, "yes", False, True), (None, "off", False, True), (None, None, True, False),
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
    assert app["livenessProbe"] == {"httpGet": {"path": "/app-health/app/livez", "port": 15020, "scheme": "HTTP"}, "timeoutSeconds": 7}
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


NAMES = ["sidecar.istio.io/logLevel", "sidecar.istio.io/componentLogLevel", "traffic.sidecar.istio.io/includeOutboundPorts",
         "sidecar.istio.io/bootstrapOverride", "sidecar.istio.io/proxyImage"]
CHECKED = ["sidecar.istio.io/proxyCPU", "sidecar.istio.io/interceptionMode", "traffic.sidecar.istio.io/excludeOutboundPorts",
           "status.sidecar.istio.io/port", "traffic.sidecar.istio.io/includeOutboundIPRanges", "traffic.sidecar.istio.io/kubevirtInterfaces",
           "readiness.status.sidecar.istio.io/periodSeconds", "prometheus.istio.io/merge-metrics"]


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
    args = odd["spec"]["initContainers"][0]["args"]
    assert args[args.index("-q") + 1] == text


@pytest.mark.parametrize("name", CHECKED)
def test_h06_annotations_that_are_read_are_checked(name):
    pod = json.loads(json.dumps(POD))
    for text in NASTY:
        pod["metadata"]["annotations"] = {name: text}
        assert f"for annotation '{name}'" in inject(pod, code=1)


@pytest.mark.parametrize("name, good, bad", [
    ("sidecar.istio.io/proxyMemoryLimit", ["1Gi", "128Mi", "1.5G", "1e3", "100"], ["", "1 Gi", "Gi", "1.2.3", "1Xi"]),
    ("traffic.sidecar.istio.io/excludeInboundPorts", ["", "80", "80,90", "80, 90"], ["80,", ",80", "x", "65536", "-1"]),
    ("traffic.sidecar.istio.io/includeInboundPorts", ["*", "", "80"], ["**", "80,*"]),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", ["", "10.0.0.0/8", "10.0.0.0/8,fd00::/8"], ["*", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/08"]),
    ("sidecar.istio.io/interceptionMode", ["REDIRECT", "TPROXY", "NONE"], ["", "redirect"]),
    ("status.sidecar.istio.io/port", ["0", "15020"], ["", "65536"]),
    ("prometheus.istio.io/merge-metrics", ["true", "F", "0"], ["yes", ""]),
    ("istio.io/reroute-virtual-interfaces", ["net1", "net1, net2"], ["net1,", "a/b", "sixteen-bytes-xx"]),
])
def test_what_annotations_must_be_like(name, good, bad):
    pod = json.loads(json.dumps(POD))
    for text, code in [*((g, 0) for g in good), *((b, 1) for b in bad)]:
        pod["metadata"]["annotations"] = {name: text}
        assert ctl.run("kube-inject", "-f", "-", text=yaml.safe_dump(pod)).returncode == code, text


def test_hooks_of_containers_go_through_the_agent():
    pod = json.loads(json.dumps(POD))
    c = pod["spec"]["containers"][0]
    c["lifecycle"] = {"postStart": {"tcpSocket": {"port": 93}}, "preStop": {"httpGet": {"port": 91, "httpHeaders": [{"name": "a", "value": "b"}]}}}
    out = inject(pod)
    assert out["spec"]["containers"][0]["lifecycle"] == {
        "postStart": {"httpGet": {"path": "/app-lifecycle/app/poststartz", "port": 15020}},
        "preStop": {"httpGet": {"path": "/app-lifecycle/app/prestopz", "port": 15020, "httpHeaders": [{"name": "a", "value": "b"}]}}}
    assert json.loads(env(out, "ISTIO_KUBE_APP_PROBERS")) == {
        "/app-lifecycle/app/poststartz": {"tcpSocket": {"port": 93}},
        "/app-lifecycle/app/prestopz": {"httpGet": {"port": 91, "httpHeaders": [{"name": "a", "value": "b"}]}}}


def test_a_cron_jobs_pods_are_labelled_by_its_jobs():
    out = inject({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x", "namespace": "demo"},
                  "spec": {"jobTemplate": {"metadata": {"labels": {"app": "w"}}, "spec": {"template": {"spec": POD["spec"]}}}}})
    job = out["spec"]["jobTemplate"]
    assert job["metadata"]["labels"]["service.istio.io/canonical-name"] == "w" and "sidecar.istio.io/status" in job["metadata"]["annotations"]
    assert job["spec"]["template"]["metadata"] == {} and out["status"] == {}
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"] == {}
    assert env({"spec": job["spec"]["template"]["spec"]}, "ISTIO_META_OWNER") == "kubernetes://apis/batch/v1/namespaces/demo/cronjobs/x"


@pytest.mark.parametrize("meta, owner", [
    ({"labels": {"pod-template-hash": "5d8f"}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "controller": True}]},
     "apis/apps/v1/namespaces/demo/deployments/web"),
    ({"labels": {"rollouts-pod-template-hash": "5d8f"}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f"}]},
     "apis/v1alpha1/namespaces/demo/rollouts/web"),
    ({"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-29400000", "controller": True}]},
     "apis/batch/v1/namespaces/demo/cronjobs/nightly"),
    ({"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "once-1", "controller": True}]}, "apis/batch/v1/namespaces/demo/jobs/once-1"),
    ({"labels": {"deploymentconfig": "dc"}, "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicationController", "name": "dc-1"}]},
     "apis/v1/namespaces/demo/deploymentconfigs/dc"),
    ({"generateName": "loose-"}, "apis/v1/namespaces/demo/pods/loose"),
])
def test_whose_a_pod_is(meta, owner):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "demo", **meta}, "spec": POD["spec"]}
    assert env(inject(pod), "ISTIO_META_OWNER") == "kubernetes://" + owner


def test_a_long_name_becomes_a_label_that_kubernetes_takes():
    pod = json.loads(json.dumps(POD))
    pod["metadata"] = {"name": "a" * 62 + "-bcd", "namespace": "demo"}
    assert inject(pod)["metadata"]["labels"]["service.istio.io/canonical-name"] == "a" * 62


def test_own_settings_of_what_prepares_the_network():
    pod = json.loads(json.dumps(POD))
    pod["spec"]["initContainers"] = [{"name": "istio-init", "image": "mine", "args": ["a"]}, {"name": "other", "image": "x"}]
    pod["spec"]["volumes"] = [{"name": "v"}]
    out = inject(pod)
    assert [(c["name"], c["image"]) for c in out["spec"]["initContainers"]] == [("other", "x"), ("istio-init", "mine")]
    assert out["spec"]["initContainers"][1]["args"] == ["a"] and out["spec"]["initContainers"][1]["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert json.loads(out["metadata"]["annotations"]["proxy.istio.io/overrides"]) == {
        "initContainers": [{"name": "istio-init", "image": "mine", "args": ["a"], "resources": {}}]}
    assert out["spec"]["volumes"][-1] == {"name": "v"}


@pytest.mark.parametrize("mode, user", [("REDIRECT", 1234), ("TPROXY", 0)])
def test_a_proxy_of_another_user_is_not_captured(mode, user):
    pod = annotated(sidecar_istio_io__interceptionMode=mode)
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": 1234}})
    out = inject(pod)
    args = out["spec"]["initContainers"][-1]["args"]
    assert args[args.index("-u") + 1] == "1234" and proxy(out)["securityContext"]["runAsUser"] == user


def test_several_targets_of_metrics():
    out = inject(annotated(prometheus_io__scrape="true", **{"prometheus_istio_io__scrape-targets": "8080:/m, 9100"}))
    assert json.loads(env(out, "ISTIO_PROMETHEUS_ANNOTATIONS")) == {
        "scrape": "true", "path": "/m", "port": "8080", "targets": [{"port": "8080", "path": "/m"}, {"port": "9100", "path": "/metrics"}]}
    assert "prometheus.istio.io/scrape-targets" not in out["metadata"]["annotations"]
    for bad in ("15090", "x", "0", "8080,15020"):
        assert "invalid prometheus scrape" in inject(annotated(**{"prometheus_istio_io__scrape-targets": bad}), code=1)
    assert "prometheus.io/port" not in inject(annotated(prometheus_io_scrape="false"))["metadata"]["annotations"]


def test_the_meshs_own_settings(tmp_path):
    (tmp_path / "mesh.yaml").write_text("""
inboundTrafficPolicy: {mode: LOCALHOST}
defaultConfig: {discoveryAddress: "istiod.istio-system.svc:15012", drainDuration: 23s, proxyMetadata: {A: b}}
""")
    out = inject(POD, "--meshConfigFile", tmp_path / "mesh.yaml")
    assert json.loads(env(out, "PROXY_CONFIG")) == {"drainDuration": "23s", "proxyMetadata": {"A": "b"}}
    assert env(out, "A") == "b" and env(out, "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION") == "true"
    (tmp_path / "mesh.yaml").write_text("defaultConfig: [")
    assert "mesh.yaml:1" in inject(POD, "--meshConfigFile", tmp_path / "mesh.yaml", code=1)


@pytest.mark.parametrize("text, want", [
    ("2000m", "2"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("0.1", "100m"), ("1000", "1k"), ("100m", "100m"), ("1500m", "1500m"),
    ("0.5Mi", "512Ki"), ("1e3", "1e3"), ("0", "0"), ("1000000000000000000000", "1000000000000000000000"),
])
def test_quantities_are_written_as_kubernetes_does(text, want):
    pod = json.loads(json.dumps(POD))
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": text}}
    assert inject(pod)["spec"]["containers"][0]["resources"]["limits"]["memory"] == want


def test_what_the_types_of_kubernetes_always_and_never_write():
    pod = json.loads(json.dumps(POD))
    c = pod["spec"]["containers"][0]
    c.update(tty=False, env=[{"name": "E", "value": ""}], readinessProbe={"exec": {"command": ["true"]}, "initialDelaySeconds": 0})
    c = inject(pod)["spec"]["containers"][0]
    assert "tty" not in c and c["env"] == [{"name": "E"}] and c["readinessProbe"] == {"exec": {"command": ["true"]}}
    template = {"metadata": {"labels": {"app": "p"}}, "spec": POD["spec"]}
    out = inject({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "x"}, "spec": {"template": template, "minReadySeconds": 0}})
    assert out["status"] == {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}
    assert out["spec"]["updateStrategy"] == {} and "minReadySeconds" not in out["spec"]
    out = inject({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"},
                                                                "spec": {"template": template}}]})
    assert out["metadata"] == {} and out["items"][0]["status"] == {"availableReplicas": 0, "replicas": 0}


@pytest.mark.parametrize("notes, why", [
    ({"sidecar_istio_io__userVolume": "[{"}, "sidecar.istio.io/userVolume: not a list as JSON"),
    ({"sidecar_istio_io__userVolumeMount": '{"a":1}'}, "sidecar.istio.io/userVolumeMount: not a list as JSON"),
    ({"proxy_istio_io__config": "concurrency: ["}, "proxy.istio.io/config"),
    ({"proxy_istio_io__config": "noSuchField: 1"}, 'unknown field "noSuchField"'),
    ({"proxy_istio_io__config": "- a"}, "not a ProxyConfig"),
    ({"proxy_istio_io__config": "&a [*a]"}, "proxy.istio.io/config"),
    ({"inject_istio_io__templates": "mine"}, 'there is no template "mine"'),
    ({"inject_istio_io__templates": "sidecar,gateway"}, "do not go together"),
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
