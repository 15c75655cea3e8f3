"""The webhooks of 15017 over HTTPS (C9): injection as JSON Patch, verdicts about documents; odd clients (H06)."""
import base64
import copy
import http.client
import json
import pathlib
import ssl

import pytest
import yaml

import control
from wire import until

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("webhook")


@pytest.fixture(scope="module")
def mizzend(folder):
    m = control.Mizzend(folder, {"a.yaml": "# nothing\n"}, "--ca-dir", str(folder / "ca"), "--webhook-addr", "127.0.0.1:0",
                        "--inject-image", "example/mesh/proxyv2:1.32")
    yield m
    m.stop()


@pytest.fixture(scope="module")
def post(mizzend, folder):
    context = ssl.create_default_context(cafile=str(folder / "ca" / "root-cert.pem"))

    def send(path, body, kind="application/json", method="POST"):
        c = http.client.HTTPSConnection("localhost", mizzend.port_of("webhook"), timeout=60, context=context)
        try:
            c.request(method, path, body if isinstance(body, (bytes, str)) else json.dumps(body), {"Content-Type": kind})
            r = c.getresponse()
            text = r.read()
        finally:
            c.close()
        return r.status, json.loads(text) if text[:1] == b"{" else text.decode()
    return send


def review(obj, version="v1", **more):
    return {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": {"uid": "u-1", "operation": "CREATE", "namespace": "demo",
                                                                                             "object": obj, **more}}


def patched(obj, response):
    """RFC 6902, as far as it is used."""
    assert response["patchType"] == "JSONPatch"
    out = copy.deepcopy(obj)
    for op in json.loads(base64.b64decode(response["patch"])):
        at = out
        *path, last = [p.replace("~1", "/").replace("~0", "~") for p in op["path"].split("/")[1:]]
        for p in path:
            at = at[int(p)] if isinstance(at, list) else at[p]
        if isinstance(at, list):
            assert op["op"] in ("add", "replace")
            if op["op"] == "add":
                at.append(op["value"]) if last == "-" else at.insert(int(last), op["value"])
            else:
                at[int(last)] = op["value"]
        elif op["op"] == "remove":
            del at[last]
        else:
            assert (op["op"] == "add") != (last in at)
            at[last] = op["value"]
    return out


def pods():
    for name in ("01-deployment", "02-annotated-pod", "04-gateway-template"):
        doc = next(yaml.safe_load_all((GOLDEN / "injection" / f"{name}.input.yaml").read_text()))
        want = next(yaml.safe_load_all((GOLDEN / "injection" / f"{name}.injected.yaml").read_text()))
        if doc["kind"] == "Deployment":  # as its ReplicaSet makes them
            doc, owner = doc["spec"]["template"], doc["metadata"]["name"]
            want = want["spec"]["template"]
            doc["metadata"] |= {"generateName": f"{owner}-abc12-", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{owner}-abc12"}]}
            doc["metadata"]["labels"]["pod-template-hash"] = "abc12"
        yield name, doc, want


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("name, pod, want", list(pods()), ids=[p[0] for p in pods()])
def test_pods_get_what_kube_inject_gives(post, name, pod, want, version):
    status, answer = post("/inject?timeout=10s", review(pod, version))
    assert status == 200 and answer["apiVersion"] == f"admission.k8s.io/{version}" and answer["kind"] == "AdmissionReview"
    assert answer["response"]["uid"] == "u-1" and answer["response"]["allowed"] is True
    got = patched(pod, answer["response"])
    for key in ("containers", "initContainers", "volumes"):
        names = lambda p: [c["name"] for c in p["spec"].get(key, [])]  # noqa: E731
        assert names(got) == names(want), key
    env = {e["name"]: e.get("value") for c in got["spec"]["containers"] if c["name"] == "istio-proxy" for e in c["env"]}
    wanted = {e["name"]: e.get("value") for c in want["spec"]["containers"] if c["name"] == "istio-proxy" for e in c["env"]}
    differs = {k for k in env.keys() | wanted.keys() if env.get(k) != wanted.get(k)}
    assert differs <= {"PROXY_CONFIG"}, {k: (env.get(k), wanted.get(k)) for k in differs}
    assert got["metadata"]["labels"]["service.istio.io/canonical-name"] == want["metadata"]["labels"]["service.istio.io/canonical-name"]


LAYERS = """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: istio-system, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {concurrency: 3, environmentVariables: {A: root, B: root}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: old, namespace: demo, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {environmentVariables: {B: namespace, C: namespace}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: new, namespace: demo, creationTimestamp: "2025-01-01T00:00:00Z"}
spec: {concurrency: 9}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: one, namespace: demo}
spec: {selector: {matchLabels: {app: one}}, concurrency: 0, environmentVariables: {D: workload}, image: {imageType: debug}}
"""
MESH = "defaultConfig: {concurrency: 2, holdApplicationUntilProxyStarts: true, proxyMetadata: {A: mesh, ISTIO_META_X_y: mesh}, terminationDrainDuration: 7s, statusPort: 15099, " \
       "meshId: m, tracing: {zipkin: {address: 'z:9411'}}}"


def whole(m, folder, pod, ns="demo"):
    c = http.client.HTTPSConnection("localhost", m.port_of("webhook"), timeout=60, context=ssl.create_default_context(cafile=str(folder / "ca" / "root-cert.pem")))
    c.request("POST", "/inject", json.dumps(review(pod) | {"request": review(pod)["request"] | {"namespace": ns}}), {"Content-Type": "application/json"})
    got = patched(pod, json.loads(c.getresponse().read())["response"])
    c.close()
    return got


def injected(m, folder, pod, ns="demo"):
    got = whole(m, folder, pod, ns)
    proxy = next(x for x in got["spec"]["containers"] if x["name"] == "istio-proxy")
    env = {e["name"]: e.get("value") for e in proxy["env"]}
    return proxy, env, json.loads(env["PROXY_CONFIG"])


def test_layers_of_proxy_configs(tmp_path):
    """The mesh's, the root namespace's, the namespace's, the annotation's, that which selects the pod: the later wins, metadata is joined."""
    (tmp_path / "mesh.yaml").write_text(MESH)
    m = control.Mizzend(tmp_path, {"a.yaml": LAYERS}, "--ca-dir", str(tmp_path / "ca"), "--webhook-addr", "127.0.0.1:0", "--mesh-config",
                        str(tmp_path / "mesh.yaml"), "--inject-image", "a/p:1")
    try:
        pod = {"metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {"containers": [{"name": "a"}]}}
        proxy, env, config = injected(m, tmp_path, pod)
        assert config == {"concurrency": 3, "holdApplicationUntilProxyStarts": True, "terminationDrainDuration": "7s", "statusPort": 15099, "meshId": "m",
                          "tracing": {"zipkin": {"address": "z:9411"}}, "proxyMetadata": {"A": "root", "B": "namespace", "C": "namespace", "ISTIO_META_X_y": "mesh"}}
        assert (env["A"], env["B"], env["C"], env["ISTIO_META_X_y"]) == ("root", "namespace", "namespace", "mesh")
        assert "postStart" in proxy["lifecycle"] and proxy["image"] == "a/p:1"
        assert whole(m, tmp_path, pod)["metadata"]["annotations"]["prometheus.io/port"] == "15099"
        assert injected(m, tmp_path, pod, "else")[2]["proxyMetadata"] == {"A": "root", "B": "root", "ISTIO_META_X_y": "mesh"}

        pod["metadata"]["annotations"] = {"proxy.istio.io/config": "{concurrency: 5, proxyMetadata: {C: own, D: own}, holdApplicationUntilProxyStarts: false}"}
        proxy, env, config = injected(m, tmp_path, pod)
        assert config["concurrency"] == 5 and "lifecycle" not in proxy and (env["B"], env["C"], env["D"]) == ("namespace", "own", "own")
        pod["metadata"]["labels"]["app"] = "one"
        proxy, env, config = injected(m, tmp_path, pod)
        assert config["concurrency"] == 0 and (env["C"], env["D"]) == ("own", "workload") and proxy["image"] == "a/p:1-debug"

        m.write("a.yaml", "# nothing\n")
        control.until(lambda: "B" not in injected(m, tmp_path, pod)[1], 30, "the documents to go")
    finally:
        m.stop()


def test_settings_of_the_mesh_reach_pods(tmp_path):
    """Where a sidecar listens, and that metrics are not merged, which a pod's own word overrides."""
    mesh = "enablePrometheusMerge: false\nproxyListenPort: 15101\nproxyInboundListenPort: 15106\n"
    m = control.Mizzend(tmp_path, {"mesh.yaml": mesh}, "--ca-dir", str(tmp_path / "ca"), "--webhook-addr", "127.0.0.1:0")
    notes = {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}
    pod = {"metadata": {"name": "p", "annotations": notes}, "spec": {"containers": [{"name": "a"}]}}
    try:
        for own, port in ({}, "9090"), ({"prometheus.istio.io/merge-metrics": "true"}, "15020"):
            pod["metadata"]["annotations"] = notes | own
            out = whole(m, tmp_path, pod)
            assert out["metadata"]["annotations"]["prometheus.io/port"] == port
            args = next(c for c in out["spec"]["initContainers"] if c["name"] == "istio-init")["args"]
            assert args[:5] == ["istio-iptables", "-p", "15101", "-z", "15106"]
    finally:
        m.stop()


def test_who_is_left_alone_and_what_cannot_be_read(post):
    pod = {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"containers": [{"name": "a"}]}}
    assert post("/inject", review(pod))[1]["response"] == {"uid": "u-1", "allowed": True}
    pod = {"metadata": {"name": "p", "annotations": {"proxy.istio.io/config": "nope: 1"}}, "spec": {"containers": [{"name": "a"}]}}
    r = post("/inject", review(pod))[1]["response"]
    assert r["allowed"] is False and 'unknown field "nope"' in r["status"]["message"]
    assert post("/inject", review(None))[1]["response"]["allowed"] is True
    for odd in ({}, {"spec": 7}, {"spec": {"containers": 7}}, {"spec": {"containers": [7, None, {"name": 7, "ports": 7, "env": {}}]}},
                {"metadata": {"labels": 7, "annotations": []}, "spec": {"containers": [], "volumes": 7, "initContainers": {}}}):
        assert post("/inject", review(odd))[0] == 200


@pytest.mark.parametrize("body, kind, method, status", [
    (b"", "application/json", "POST", 400), (b"{", "application/json", "POST", 400), (b"[]", "application/json", "POST", 400),
    (b"{}", "text/plain", "POST", 415), (b"{}", "application/json", "GET", 405), (b"{}", "application/json", "POST", 400),
    (b'{"apiVersion":"admission.k8s.io/v1","request":' + b"[" * 5000 + b"]" * 5000 + b"}", "application/json", "POST", 400),
], ids=["empty", "cut", "list", "type", "get", "nothing", "deep"])
@pytest.mark.parametrize("path", ["/inject", "/validate"])
def test_h06_odd_requests(post, path, body, kind, method, status):
    assert post(path, body, kind, method)[0] == status


def test_h06_a_pod_of_ten_megabytes(post):
    big = review({"metadata": {"annotations": {"a": "x" * 10_000_000}}, "spec": {"containers": []}})
    try:
        assert post("/inject", big)[0] == 413
    except (BrokenPipeError, ConnectionError, ssl.SSLError):
        pass  # it was closed while we were sending
    assert post("/inject", review({"spec": {"containers": []}}))[0] == 200


def test_documents_are_judged(post):
    def verdict(name):
        docs = [d for d in yaml.safe_load_all((GOLDEN / "validation" / f"{name}.yaml").read_text()) if d and "istio.io" in d["apiVersion"]]
        return post("/validate", review(docs[-1]))[1]["response"]
    assert verdict("45-good-one")["allowed"] is True
    bad = verdict("35-peerauthentication-port-mtls-without-selector")
    assert bad["allowed"] is False and "needs a selector" in bad["status"]["message"]
    warned = verdict("06-duplicate-match")
    assert warned["allowed"] is True and "virtualService rule #1 not used (all matches used by prior rules)" in warned["warnings"]
    assert post("/validate", review(None, operation="DELETE"))[1]["response"] == {"uid": "u-1", "allowed": True}


def test_counts_and_plain_clients(mizzend, post):
    import socket
    text = mizzend.page("/metrics")
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith(("sidecar_injection", "galley_"))}
    assert values["sidecar_injection_success_total"] >= 6 and values["sidecar_injection_failure_total"] > 0 and values["galley_validation_failed"] > 0
    with socket.create_connection(("127.0.0.1", mizzend.port_of("webhook")), timeout=30) as s:
        s.sendall(b"POST /inject HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" not in s.recv(1000)
    assert post("/inject", review({"spec": {"containers": []}}))[0] == 200


def with_proxy(post, pod):
    _, out = post("/inject", review(pod))
    return patched(pod, out["response"])


def config_map(template):
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector", "namespace": "istio-system"}, "data": {
        "config": yaml.safe_dump({"templates": {"note": template}, "defaultTemplates": ["sidecar", "note"]}), "values": json.dumps({"global": {"a": "1"}})}})


def test_templates_are_those_of_the_configmap_in_force(mizzend, post):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    mizzend.write("injector.yaml", config_map('metadata: {labels: {note: "{{ .Values.global.a }}-{{ .MeshConfig.TrustDomain }}"}}'))
    until(lambda: with_proxy(post, pod)["metadata"]["labels"].get("note") == "1-cluster.local", 30, "the template")
    assert any(c["name"] == "istio-proxy" for c in with_proxy(post, pod)["spec"]["containers"])
    mizzend.write("injector.yaml", config_map("{{ nothing }}"))  # told, and the last good one stays
    until(lambda: 'config.templates.note: line 1: there is no function "nothing"' in mizzend.log().replace("istio-sidecar-injector: ", "config."), 30, "the fault")
    assert with_proxy(post, pod)["metadata"]["labels"]["note"] == "1-cluster.local"
    (mizzend.docs / "injector.yaml").unlink()
    until(lambda: "note" not in with_proxy(post, pod)["metadata"]["labels"], 30, "it to go")


def test_native_sidecars_by_the_versions_of_nodes(mizzend, post):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"}, "spec": {"containers": [{"name": "app", "image": "x"}]}}

    def native(node=None):
        obj = copy.deepcopy(pod)
        if node:
            obj["spec"]["nodeName"] = node
        return any(c["name"] == "istio-proxy" for c in with_proxy(post, obj)["spec"].get("initContainers", []))

    def nodes(**versions):
        mizzend.write("nodes.yaml", "\n---\n".join(yaml.safe_dump({"apiVersion": "v1", "kind": "Node", "metadata": {"name": n},
                                                                   "status": {"nodeInfo": {"kubeletVersion": v}}}) for n, v in versions.items()))
    assert not native()  # nothing is known
    nodes(one="v1.33.1", two="v1.34.0-gke.7")
    until(native, 30, "nodes that are new")
    nodes(one="v1.33.1", two="v1.32.9")
    until(lambda: not native(), 30, "a node that is old")
    assert native("one") and not native("two") and not native("three")
    (mizzend.docs / "nodes.yaml").unlink()
