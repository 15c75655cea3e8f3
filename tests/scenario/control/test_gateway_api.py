"""The Gateway API and Ingress in mizzend: what proxies get of them, what is said of each object, and that nobody stops others (C2, C12)."""
import base64
import http.client
import json
import os
import resource
import subprocess

import pytest
import yaml

import control
from apps import apps  # noqa: F401
from pki import Pki
from wire import free_port, until

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
GROUP = "gateway.networking.k8s.io"


def doc(kind, name, spec, ns="demo", api=f"{GROUP}/v1", labels="", created="2026-01-01T00:00:00Z"):
    return (f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {ns}, creationTimestamp: {created}, labels: {{{labels}}}}}\n"
            f"spec: {spec}\n---\n")


def service(name, ns="demo", ports="[{name: http, port: 80}]", more="", labels=""):
    return doc("Service", name, f"{{clusterIP: 10.0.0.1, ports: {ports}{more}}}", ns, "v1", labels)


FRONT = service("edge-istio", ports="[{name: a, port: 80}, {name: b, port: 443}, {name: c, port: 90}]", more=", selector: {gw: edge}")
BASE = FRONT + service("web") + service("api") + service("far", "other")
NODE = {"id": "router~10.1.0.1~edge.demo~demo.svc.cluster.local", "cluster": "edge", "metadata": {"NAMESPACE": "demo", "LABELS": {
    "gw": "edge", "gateway.networking.k8s.io/gateway-name": "edge"}}}
SIDECAR = {"id": "sidecar~10.1.0.9~app.{ns}~{ns}.svc.cluster.local", "cluster": "app", "metadata": {}}
HTTP = "{gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}"
GATEWAY = doc("Gateway", "edge", HTTP)


def route(name, rest="", kind="HTTPRoute", parent="{name: edge}", rules="[{backendRefs: [{name: web, port: 80}]}]", **more):
    return doc(kind, name, f"\n  parentRefs: [{parent}]\n  {rest or '# any host'}\n  rules: {rules}", **more)


class World:
    """Documents in a directory, and questions to mizzend about them."""

    def __init__(self, folder, text):
        self.folder, self.docs = folder, folder / "docs"
        self.docs.mkdir()
        self.write(text)

    def write(self, text):
        (self.docs / "all.yaml").write_text(text)

    def run(self, *args, fine=(0,)):
        p = subprocess.run([control.MIZZEND, "-c", self.docs, *args], capture_output=True, text=True, timeout=120)
        assert p.returncode in fine and "Sanitizer" not in p.stderr, p.stderr[-3000:]
        return p

    def status(self, where="status"):
        self.run("--mode", "status", "--status-dir", self.folder / where)
        out = {}
        for f in sorted((self.folder / where).rglob("*.yaml")):
            out["/".join(f.relative_to(self.folder / where).with_suffix("").parts)] = yaml.safe_load(f.read_text()).get("status")
        return out

    def dump(self, node=NODE, out="dump"):
        (self.folder / "node.json").write_text(json.dumps(node))
        self.run("--mode", "dump", "--node", self.folder / "node.json", "-o", self.folder / out)
        return {k: {r.get("name"): r for r in json.loads((self.folder / out / f"{k}.json").read_text())}
                for k in ("cds", "lds", "rds") if (self.folder / out / f"{k}.json").exists()}

    def hosts(self, name="http.80", node=NODE):
        """Virtual hosts of a table of routes: domain to routes."""
        return {d: h["routes"] for h in self.dump(node)["rds"][name]["virtual_hosts"] for d in h["domains"] if "routes" in h}


@pytest.fixture
def world(tmp_path):
    return lambda text: World(tmp_path, text)


def condition(status, kind, which=0):
    """Reason and message of one condition, "" in front of a reason that is no fault."""
    found = status["parents"][which] if "parents" in status else status
    c = next(c for c in found["conditions"] if c["type"] == kind)
    return ("" if c["status"] == "True" else "not ") + c["reason"], c["message"]


def cluster(route):
    return route["route"].get("cluster")


# ---- what is said of objects ----

def test_status_is_the_same_bytes_and_only_ours_is_removed(world):
    w = world(BASE + GATEWAY + route("r") + doc("VirtualService", "v", "{hosts: [x.y], http: [{route: [{destination: {host: web}}]}]}",
                                                api="networking.istio.io/v1"))
    first, second = w.status("one"), w.status("two")
    assert first == second and set(first) == {"demo/HTTPRoute/r", "demo/KubernetesGateway/edge", "demo/VirtualService/v"}
    for f in (w.folder / "one").rglob("*.yaml"):
        assert f.read_bytes() == (w.folder / "two" / f.relative_to(w.folder / "one")).read_bytes()
        before = os.stat(f).st_mtime_ns
        w.status("one")
        assert os.stat(f).st_mtime_ns == before, "an equal file is not written again"
    (w.folder / "one" / "demo" / "mine.yaml").write_text("a: person's\n")
    w.write(BASE + GATEWAY)
    assert set(w.status("one")) == {"demo/KubernetesGateway/edge", "demo/mine"}


def test_a_status_directory_below_the_documents_is_refused(world):
    w = world(BASE)
    assert "whose documents are read" in w.run("--mode", "status", "--status-dir", w.docs / "status", fine=(1,)).stderr
    w.run("--mode", "status", "--status-dir", w.docs / ".status")


REFUSED = [
    ("no-such-listener", route("r", parent="{name: edge, sectionName: none}"), "not NoMatchingParent", 'sectionName "none" not found'),
    ("other-port", route("r", parent="{name: edge, port: 81}"), "not NoMatchingParent", "port 81 not found"),
    ("kind", route("r", kind="TCPRoute"), "not NotAllowedByListeners", f"kind {GROUP}/v1/TCPRoute is not allowed"),
    ("service", route("r", parent="{group: '', kind: Service, name: none}"), "not NoMatchingParent", 'parent service: "none" not found'),
    ("fine", route("r"), "Accepted", "Route was valid"),
]


@pytest.mark.parametrize("text, reason, message", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_why_a_route_has_no_parent(world, text, reason, message):
    s = world(BASE + GATEWAY + text).status()
    assert condition(next(v for k, v in s.items() if "Route/" in k), "Accepted") == (reason, message)


def test_hosts_and_namespaces_of_listeners(world):
    gateway = doc("Gateway", "edge", """
  gatewayClassName: istio
  listeners:
  - {name: own, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: one, port: 80, protocol: HTTP, hostname: one.example.com}
  - {name: picked, port: 90, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [
       {key: team, operator: In, values: [blue]}]}}}}""")
    ns = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: blue}}\n---\n"
    w = world(BASE + gateway + ns
              + route("wide", 'hostnames: ["*.example.com"]') + route("nowhere", "hostnames: [a.org]", parent="{name: edge, port: 80}")
              + route("guest", parent="{name: edge, namespace: demo}", ns="other", rules="[{backendRefs: [{name: far, port: 80}]}]"))
    s = w.status()
    assert condition(s["demo/HTTPRoute/nowhere"], "Accepted")[0] == "not NoMatchingListenerHostname"
    assert condition(s["demo/HTTPRoute/wide"], "Accepted") == ("Accepted", "Route was valid, bound to 2 parents")
    assert condition(s["other/HTTPRoute/guest"], "Accepted") == ("Accepted", "Route was valid")
    assert [x["attachedRoutes"] for x in s["demo/KubernetesGateway/edge"]["listeners"]] == [1, 1, 1]
    d = w.dump()["rds"]
    assert {x for h in d["http.80"]["virtual_hosts"] for x in h["domains"]} == {"*.example.com", "one.example.com"}
    assert d["http.90"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == "outbound|80||far.other.svc.cluster.local"


def test_listeners_that_cannot_stand_beside_each_other(world):
    w = world(BASE + doc("Gateway", "edge", """
  gatewayClassName: istio
  listeners:
  - {name: a, port: 80, protocol: HTTP, hostname: a.com}
  - {name: b, port: 80, protocol: HTTP, hostname: a.com}
  - {name: c, port: 80, protocol: TCP}
  - {name: d, port: 90, protocol: Http}""") + route("r"))
    s = w.status()["demo/KubernetesGateway/edge"]
    told = {x["name"]: {c["type"]: (c["status"], c["reason"]) for c in x["conditions"]} for x in s["listeners"]}
    assert told["a"]["Conflicted"] == ("False", "NoConflicts")
    assert told["b"]["Conflicted"] == ("True", "HostnameConflict") and told["b"]["Programmed"] == ("False", "HostnameConflict")
    assert told["c"]["Conflicted"] == ("True", "ProtocolConflict")
    assert told["d"]["Accepted"] == ("False", "UnsupportedProtocol")
    assert condition(s, "Accepted")[0] == "ListenersNotValid"
    assert set(w.dump()["lds"]) == {"0.0.0.0_80"}


def test_programmed_says_where_a_gateway_is_reached(world):
    slice_ = ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, namespace: demo, labels: {kubernetes.io/service-name: "
              "edge-istio}}\nendpoints: [{addresses: [10.1.0.1]}]\nports: [{name: a, port: 80}]\n---\n")
    w = world(BASE + GATEWAY)
    assert condition(w.status()["demo/KubernetesGateway/edge"], "Programmed") == (
        "not AddressNotAssigned", 'Failed to assign to any requested addresses: no instances found for hostname "edge-istio.demo.svc.cluster.local"')
    w.write(BASE + GATEWAY + slice_)
    s = w.status()["demo/KubernetesGateway/edge"]
    assert condition(s, "Programmed") == (
        "Programmed", "Resource programmed, assigned to service(s) edge-istio.demo.svc.cluster.local:80")
    assert s["addresses"] == [{"type": "Hostname", "value": "edge-istio.demo.svc.cluster.local"}]
    w.write(BASE + doc("Gateway", "edge", HTTP.replace("{gateway", "{addresses: [{type: Hostname, value: gone}], gateway")))
    assert condition(w.status()["demo/KubernetesGateway/edge"], "Programmed")[0] == "not AddressNotUsable"


def test_istio_documents_say_whether_they_are_used(world):
    vs = ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s, namespace: demo}\n"
          "spec: {hosts: [%s], http: [{route: [{destination: {host: %s}}]}]}\n---\n")
    s = world(BASE + vs % ("good", "a.b", "web") + vs % ("lost", "c.d", "none") + vs % ("bad", "e.f", "'*'")).status()
    assert condition(s["demo/VirtualService/good"], "Reconciled")[0] == "Used"
    assert "validationMessages" not in s["demo/VirtualService/good"]
    assert [m["type"]["code"] for m in s["demo/VirtualService/lost"]["validationMessages"]] == ["IST0101"]
    assert condition(s["demo/VirtualService/bad"], "Reconciled")[0] == "not Refused"


def test_a_running_mizzend_keeps_the_status(tmp_path):
    m = control.Mizzend(tmp_path, {"a.yaml": BASE + GATEWAY + route("r")}, "--status-dir", tmp_path / "status")
    file = tmp_path / "status" / "demo" / "HTTPRoute" / "r.yaml"
    try:
        until(lambda: file.exists() and "Route was valid" in file.read_text(), 60, "the status")
        m.write("a.yaml", BASE + GATEWAY + route("r", rules="[{backendRefs: [{name: gone, port: 80}]}]"))
        until(lambda: "BackendNotFound" in file.read_text(), 60, "the other status")
        m.write("a.yaml", BASE + GATEWAY)
        until(lambda: not file.exists(), 60, "the status to go")
    finally:
        m.stop()


# ---- references to other namespaces ----

def test_a_backend_elsewhere_needs_a_grant(world):
    text = BASE + GATEWAY + route("r", rules="[{backendRefs: [{name: far, namespace: other, port: 80}]}]")
    grant = doc("ReferenceGrant", "g", "{from: [{group: %s, kind: HTTPRoute, namespace: %s}], to: [{group: '', kind: Service%s}]}", "other",
                f"{GROUP}/v1beta1")
    w = world(text)
    assert condition(w.status()["demo/HTTPRoute/r"], "ResolvedRefs") == ("not RefNotPermitted", (
        'backendRef far/other not accessible to a HTTPRoute in namespace "demo" (missing a ReferenceGrant?)'))
    assert cluster(w.hosts()["*"][0]) == "UnknownService"
    for args in ((GROUP, "third", ""), (GROUP, "demo", ", name: near")):
        w.write(text + grant % args)
        assert cluster(w.hosts()["*"][0]) == "UnknownService", args
    w.write(text + grant % (GROUP, "demo", ", name: far"))
    assert cluster(w.hosts()["*"][0]) == "outbound|80||far.other.svc.cluster.local"
    assert condition(w.status()["demo/HTTPRoute/r"], "ResolvedRefs")[0] == "ResolvedRefs"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("gateway-pki"))
    p.authority("ca")
    p.issue("edge", "DNS:secure.example.com")
    return {n: base64.b64encode((p.folder / f).read_bytes()).decode() for n, f in
            (("crt", "edge.pem"), ("key", "edge.key"), ("ca", "ca.pem"))}


def secret(ns, pair):
    return (f"apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: {ns}}}\ntype: kubernetes.io/tls\n"
            f"data: {{tls.crt: {pair['crt']}, tls.key: {pair['key']}}}\n---\n")


def test_certificates_need_to_be_there_and_permitted(world, pair):
    ref = "{name: cert, namespace: %s}"
    gateway = doc("Gateway", "edge", "{gatewayClassName: istio, listeners: [{name: s, port: 443, protocol: HTTPS, hostname: secure.example.com, tls: "
                  "{certificateRefs: [%s]}}]}")
    w = world(BASE + gateway % (ref % "demo"))

    def told():
        listener = w.status()["demo/KubernetesGateway/edge"]["listeners"][0]
        c = next(c for c in listener["conditions"] if c["type"] == "ResolvedRefs")
        return c["reason"], "lds" in w.dump() and bool(w.dump()["lds"])
    assert told() == ("InvalidCertificateRef", False)
    w.write(BASE + gateway % (ref % "demo") + secret("demo", pair))
    assert told() == ("ResolvedRefs", True)
    tls = w.dump()["lds"]["0.0.0.0_443"]["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["tls_certificate_sds_secret_configs"][0]["name"] == "kubernetes-gateway://demo/cert"
    w.write(BASE + gateway % (ref % "other") + secret("other", pair))
    assert told() == ("RefNotPermitted", False)
    w.write(BASE + gateway % (ref % "other") + secret("other", pair) + doc(
        "ReferenceGrant", "g", f"{{from: [{{group: {GROUP}, kind: Gateway, namespace: demo}}], to: [{{group: '', kind: Secret}}]}}", "other", f"{GROUP}/v1"))
    assert told() == ("ResolvedRefs", True)
    w.write(BASE + gateway % (ref % "demo") + secret("demo", {**pair, "key": "bm90IGEga2V5"}))
    assert told() == ("InvalidCertificateRef", True), "the listener stays, without a certificate"


# ---- what proxies get ----

def test_rules_of_several_documents_in_the_order_of_the_api(world):
    def rule(match, name):
        return f"[{{name: {name}, matches: [{match}], backendRefs: [{{name: web, port: 80}}]}}]"
    w = world(BASE + GATEWAY
              + route("z-old", rules=rule("{path: {value: /a}}", "short"), created="2025-01-01T00:00:00Z")
              + route("a-new", rules=rule("{path: {value: /a}}", "short-new"))
              + route("b", rules=rule("{path: {value: /a/b}}", "long"))
              + route("c", rules=rule("{path: {type: Exact, value: /}}", "exact"))
              + route("d", rules=rule("{path: {value: /a}, method: GET}", "method"))
              + route("e", rules=rule("{path: {value: /a}, headers: [{name: x, value: y}]}", "header"))
              + route("f", rules=rule("{path: {type: RegularExpression, value: '/a.*'}}", "regex"))
              + route("g", rules="[{backendRefs: [{name: web, port: 80}]}]"))
    assert [r["name"] for r in w.hosts()["*"]] == ["exact", "long", "method", "header", "short", "short-new", "regex", "demo.g.0"]


def test_filters_weights_retries(world):
    r = w = world(BASE + GATEWAY + route("r", rules="""
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}, {name: x-a, value: c}], remove: [x-d]}}
    - {type: URLRewrite, urlRewrite: {hostname: in.example.com, path: {type: ReplaceFullPath, replaceFullPath: '/x\\1'}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: api, port: 80}, fraction: {numerator: 1, denominator: 4}}}
    - {type: CORS, cors: {allowOrigins: ["https://*.example.com", "*"], allowMethods: [GET], maxAge: 7}}
    retry: {codes: [503], attempts: 3, backoff: 10ms}
    timeouts: {request: 5s, backendRequest: 1s}
    backendRefs: [{name: web, port: 80, weight: 3, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-r, value: "1"}]}}]},
                  {name: api, port: 80, weight: 0}, {name: gone, port: 80}]"""))
    r = w.hosts()["*"][0]
    assert [(h["header"]["key"], h["header"]["value"]) for h in r["request_headers_to_add"]] == [("x-a", "b")] and r["request_headers_to_remove"] == ["x-d"]
    a = r["route"]
    assert a["host_rewrite_literal"] == "in.example.com" and a["regex_rewrite"]["substitution"] == "/x\\\\1"
    assert a["request_mirror_policies"][0]["runtime_fraction"]["default_value"]["numerator"] == 250000
    assert a["timeout"] == "5s" and a["retry_policy"]["per_try_timeout"] == "1s" and a["retry_policy"]["num_retries"] == 3
    assert a["retry_policy"]["retriable_status_codes"] == [503]
    assert [(c["name"], c["weight"]) for c in a["weighted_clusters"]["clusters"]] == [
        ("outbound|80||web.demo.svc.cluster.local", 3), ("outbound|80||gone.demo.svc.cluster.local", 1)]
    assert r["typed_per_filter_config"]["envoy.filters.http.cors"]["max_age"] == "7"
    assert condition(w.status()["demo/HTTPRoute/r"], "ResolvedRefs")[0] == "not BackendNotFound"


def test_without_backends_the_answer_is_500(world):
    w = world(BASE + GATEWAY + route("r", rules="[{backendRefs: [{name: web, port: 80, weight: 0}]}]"))
    assert w.hosts()["*"][0]["direct_response"]["status"] == 500


def test_grpc_and_http_share_a_host(world):
    w = world(BASE + GATEWAY + route("h", "hostnames: [a.com]") + route("g", "hostnames: [a.com]", kind="GRPCRoute", rules="""
  - {matches: [{method: {service: p.S, method: M}}, {method: {method: Do}}, {method: {type: RegularExpression, service: "p.(S|T)"}}],
     backendRefs: [{name: api, port: 80}]}"""))
    found = [(r["match"].get("path") or r["match"].get("safe_regex", {}).get("regex") or "/", r["name"]) for r in w.hosts()["a.com"]]
    assert found == [("/p.S/M", "demo.g.0"), ("/p.(S|T)/.+", "demo.g.0"), ("/[^/]+/Do", "demo.g.0"), ("/", "demo.h.0")]


def test_tls_and_tcp_routes(world):
    w = world(BASE + doc("Gateway", "edge", """
  gatewayClassName: istio
  listeners:
  - {name: p, port: 443, protocol: TLS, hostname: "*.example.com", tls: {mode: Passthrough}}
  - {name: t, port: 90, protocol: TCP}""")
        + route("tls", 'hostnames: ["*.com", a.example.com, a.org]', kind="TLSRoute", parent="{name: edge, sectionName: p}")
        + route("tcp", kind="TCPRoute", parent="{name: edge, sectionName: t}",
                rules="[{backendRefs: [{name: web, port: 80, weight: 1}, {name: api, port: 80, weight: 2}]}]"))
    lds = w.dump()["lds"]
    chains = lds["0.0.0.0_443"]["filter_chains"]
    assert [sorted(c["filter_chain_match"]["server_names"]) for c in chains] == [["*.example.com", "a.example.com"]]
    tcp = lds["0.0.0.0_90"]["filter_chains"][0]["filters"][-1]["typed_config"]
    assert [(c["name"], c["weight"]) for c in tcp["weighted_clusters"]["clusters"]] == [
        ("outbound|80||web.demo.svc.cluster.local", 1), ("outbound|80||api.demo.svc.cluster.local", 2)]


def test_routes_of_the_mesh_are_for_their_namespace(world):
    """Of a producer for everybody, of a consumer for its own namespace, which comes first."""
    parent = "{group: '', kind: Service, name: far, namespace: other}"
    w = world(BASE + route("p", ns="other", parent=parent, rules="[{name: producer, backendRefs: [{name: far, port: 80}]}]")
              + route("c", ns="demo", parent=parent, rules="[{name: consumer, backendRefs: [{name: far, namespace: other, port: 80}]}]"))

    def routes_of(ns):
        node = {**SIDECAR, "id": SIDECAR["id"].format(ns=ns)}
        return [r["name"] for r in w.hosts("80", node)["far.other.svc.cluster.local"]]
    assert routes_of("demo") == ["consumer"]
    assert routes_of("other") == ["producer"] and routes_of("third") == ["producer"]


def test_a_policy_by_targetrefs_is_for_that_gateway(world):
    policy = doc("AuthorizationPolicy", "p", f"{{targetRefs: [{{group: {GROUP}, kind: Gateway, name: %s}}], action: DENY, rules: [{{}}]}}",
                 api="security.istio.io/v1")
    w = world(BASE + GATEWAY + route("r") + policy % "edge")

    def guarded():
        filters = w.dump()["lds"]["0.0.0.0_80"]["filter_chains"][0]["filters"][-1]["typed_config"]["http_filters"]
        return any(f["name"] == "envoy.filters.http.rbac" for f in filters)
    assert guarded()
    w.write(BASE + GATEWAY + route("r") + policy % "another")
    assert not guarded()


def test_backends_with_tls_of_their_own(world, pair):
    ca = base64.b64decode(pair["ca"]).decode().replace("\n", "\n    ")
    roots = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots, namespace: demo}}\ndata:\n  ca.crt: |\n    {ca}\n---\n"
    policy = doc("BackendTLSPolicy", "%s", "{targetRefs: [{group: '', kind: Service, name: web, sectionName: http}], validation: {hostname: in.example.com, "
                 "caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}], subjectAltNames: [{type: URI, uri: 'spiffe://x'}]}}")
    w = world(BASE + GATEWAY + route("r") + roots + policy % "a" + policy % "b")
    tls = w.dump()["cds"]["outbound|80||web.demo.svc.cluster.local"]["transport_socket"]["typed_config"]
    assert tls["sni"] == "in.example.com"
    v = tls["common_tls_context"]["combined_validation_context"]
    assert v["validation_context_sds_secret_config"]["name"] == "configmap://demo/roots-cacert"
    assert v["default_validation_context"]["match_subject_alt_names"] == [{"exact": "spiffe://x"}]
    s = w.status()
    assert condition(s["demo/BackendTLSPolicy/a"]["ancestors"][0], "Accepted")[0] == "Accepted"
    assert condition(s["demo/BackendTLSPolicy/b"]["ancestors"][0], "Accepted") == (
        "not Conflicted", 'Conflicts with BackendTLSPolicy "a" targeting the same backend')
    assert [a["ancestorRef"]["kind"] for a in s["demo/BackendTLSPolicy/a"]["ancestors"]] == ["Service", "Gateway"]
    w.write(BASE + GATEWAY + route("r") + policy % "a")
    tls = w.dump()["cds"]["outbound|80||web.demo.svc.cluster.local"]["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["combined_validation_context"]["validation_context_sds_secret_config"]["name"] == "invalid://", "nothing gets through"


def test_listeners_of_others_need_to_be_let_in(world):
    lets = HTTP.replace("{gateway", "{allowedListeners: {namespaces: {from: All}}, gateway")
    more = doc("ListenerSet", "more", f"{{parentRef: {{name: edge, namespace: demo}}, listeners: [{{name: x, port: 90, protocol: HTTP}}]}}", "other")
    r = route("r", ns="other", parent="{kind: ListenerSet, name: more}", rules="[{backendRefs: [{name: far, port: 80}]}]")
    w = world(BASE + doc("Gateway", "edge", lets) + more + r)
    assert w.hosts("http.90")["*"][0]["route"]["cluster"] == "outbound|80||far.other.svc.cluster.local"
    assert w.status()["demo/KubernetesGateway/edge"]["attachedListenerSets"] == 1
    w.write(BASE + GATEWAY + more + r)
    assert condition(w.status()["other/ListenerSet/more"], "Accepted")[0] == "not NotAllowed"
    assert "0.0.0.0_90" not in w.dump()["lds"]


def test_ingress(world):
    """Paths by length, then by age; only those of our class."""
    edge = service("ig", "istio-system", "[{name: a, port: 80}, {name: b, port: 443}]", ", selector: {istio: ingressgateway}")
    node = {"id": "router~10.1.0.2~ig.istio-system~istio-system.svc.cluster.local", "cluster": "ig",
            "metadata": {"NAMESPACE": "istio-system", "LABELS": {"istio": "ingressgateway"}}}

    def ingress(name, rules, more="", annotations="kubernetes.io/ingress.class: istio", created="2026-01-01T00:00:00Z"):
        return (f"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: demo, creationTimestamp: {created}, "
                f"annotations: {{{annotations}}}}}\nspec: {{{more}rules: {rules}}}\n---\n")

    def path(p, kind, port="{number: 80}", name="web"):
        return f"{{path: {p}, pathType: {kind}, backend: {{service: {{name: {name}, port: {port}}}}}}}"
    w = world(BASE + edge
              + ingress("a", f"[{{host: a.com, http: {{paths: [{path('/', 'Prefix')}, {path('/long', 'Prefix')}, {path('/long', 'Exact', '{name: http}')}]}}}}]",
                        "tls: [{hosts: [a.com], secretName: cert}], ")
              + ingress("b", f"[{{host: a.com, http: {{paths: [{path('/longer', 'ImplementationSpecific', name='api')}]}}}}]", created="2025-01-01T00:00:00Z")
              + ingress("c", f"[{{host: c.com, http: {{paths: [{path('/', 'Prefix')}]}}}}]", annotations="kubernetes.io/ingress.class: nginx")
              + ingress("d", f"[{{host: d.com, http: {{paths: [{path('/', 'Prefix')}]}}}}]", "ingressClassName: mine, ", annotations="")
              + "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: mine}\nspec: {controller: istio.io/ingress-controller}\n---\n")
    hosts = w.hosts("http.80", node)
    assert set(hosts) == {"a.com", "d.com"}
    assert [(r["match"].get("path") or r["match"].get("path_separated_prefix") or r["match"]["prefix"]) for r in hosts["a.com"]] == [
        "/longer", "/long", "/long", "/"]
    assert "path" in hosts["a.com"][1]["match"]
    tls = w.dump(node)["lds"]["0.0.0.0_443"]["filter_chains"][0]
    assert tls["filter_chain_match"]["server_names"] == ["a.com"]
    assert set(k for k in w.status() if "Ingress/" in k) == {"demo/Ingress/a", "demo/Ingress/b", "demo/Ingress/d"}


# ---- nobody stops others ----

BAD = [
    ("H01-regex", route("bad", rules="[{matches: [{path: {type: RegularExpression, value: '('}}]}]")),
    ("H01-regex-of-grpc", route("bad", kind="GRPCRoute", rules="[{matches: [{method: {type: RegularExpression, service: 'a**', method: b}}]}]")),
    ("E12-long-regex", route("bad", rules=f"[{{matches: [{{headers: [{{name: x, type: RegularExpression, value: '{'a' * 2000}'}}]}}]}}]")),
    ("H01-path", route("bad", rules="[{matches: [{path: {value: '/a?b'}}]}]")),
    ("H01-header-name", route("bad", rules="[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}]}]")),
    ("H01-redirect", route("bad", rules='[{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: "/\\n"}}}]}]')),
    ("H01-host", route("bad", "hostnames: ['a b']")),
    ("H01-weight", route("bad", rules="[{backendRefs: [{name: web, port: 80, weight: -1}]}]")),
    ("H01-many-rules", route("bad", rules="[" + ", ".join(["{}"] * 17) + "]")),
    ("H01-many-listeners", doc("Gateway", "bad", "{gatewayClassName: istio, listeners: [" + ", ".join(
        f"{{name: l{i}, port: {i + 1}, protocol: HTTP}}" for i in range(65)) + "]}")),
    ("H02-nesting", doc("HTTPRoute", "bad", "[" * 2000 + "]" * 2000)),
    ("H02-alias", doc("HTTPRoute", "bad", "{a: &a [x, x, x], b: &b [*a, *a, *a], c: &c [*b, *b, *b], rules: [*c, *c]}")),
    ("E12-nested-repetition", route("fine", rules="[{matches: [{path: {type: RegularExpression, value: '/(a+)+$'}}], backendRefs: [{name: web, port: 80}]}]")),
    ("E12-repetition-of-repetition", route("bad", rules="[{matches: [{queryParams: [{name: x, type: RegularExpression, value: '((a{1,1000}){1,1000}){1,1000}'}]}]}]")),
    ("E12-long-regex-of-grpc", route("bad", kind="GRPCRoute", rules=f"[{{matches: [{{headers: [{{name: x, type: RegularExpression, value: '{'b' * 2000}'}}]}}]}}]")),
    ("H01-type", route("bad", rules="[x]")),
    ("H01-type-of-set", doc("ListenerSet", "bad", "{parentRef: {name: edge}, listeners: {a: 1}}")),
    ("H01-many-listeners-of-set", doc("ListenerSet", "bad", "{parentRef: {name: edge}, listeners: [" + ", ".join(
        f"{{name: l{i}, port: {i + 1}, protocol: HTTP}}" for i in range(65)) + "]}")),
    ("H01-type-of-tls", doc("TLSRoute", "bad", "{parentRefs: [{name: edge}], hostnames: [[]]}")),
    ("H01-weight-of-tcp", doc("TCPRoute", "bad", "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80, weight: 1e99}]}]}")),
    ("H01-port-of-policy", doc("BackendTLSPolicy", "bad", "{targetRefs: [{group: '', kind: Service, name: [web]}], validation: {hostname: a.b}}")),
    ("H01-kinds-of-grant", doc("ReferenceGrant", "bad", "{from: [{group: x, kind: {}, namespace: demo}], to: []}")),
    ("H02-not-a-number", route("bad", rules="[{backendRefs: [{name: web, port: .nan}]}]")),
    ("H02-large-number", route("bad", rules="[{backendRefs: [{name: web, port: 18446744073709551696}]}]")),
    ("H02-twice", route("bad", rules="[{backendRefs: [{name: web, name: api, port: 80}]}]")),
    ("H06-annotation", doc("Gateway", "fine", "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}]}").replace(
        "name: fine", "annotations: {gateway.istio.io/name-override: 'x|y/../{{.}}\"', networking.istio.io/address-type: '$(id)'}, name: fine", 1)),
    ("H06-header-value", route("fine", rules="[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: '%REQ(y)% %% \"'}]}}], "
                                             "backendRefs: [{name: web, port: 80}]}]")),
    ("H03-mirror-of-itself", route("fine", rules="[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}], "
                                                  "backendRefs: [{name: web, port: 80}]}]")),
]


@pytest.mark.parametrize("bad", [b[1] for b in BAD], ids=[b[0] for b in BAD])
def test_a_document_of_one_namespace_stops_no_other(world, bad):
    w = world(BASE + GATEWAY + route("good", "hostnames: [good.com]", ns="other", parent="{name: edge, namespace: demo}",
                                     rules="[{backendRefs: [{name: far, port: 80}]}]") + bad)
    assert cluster(w.hosts()["good.com"][0]) == "outbound|80||far.other.svc.cluster.local"
    p = w.run("--mode", "validate", fine=(0, 1))
    if "name: fine" in bad:
        assert "/demo/fine" not in p.stdout
    else:  # by name, or by line where a name cannot be known
        assert p.returncode == 1 and "error: " in p.stdout


def test_h01_listeners_of_one_namespace_cost_what_their_number_is(world):
    """Thousands of them, which another namespace's Gateway lets in: not each with each (CPU time of 4 times as many)."""
    w = world(BASE)

    def cost(n):
        many = "".join(doc("ListenerSet", f"s{i}", "{parentRef: {name: edge, namespace: demo}, listeners: [" + ", ".join(
            f"{{name: l{k}, port: 443, protocol: TLS, hostname: h{i}-{k}.evil.com, tls: {{mode: Passthrough}}}}" for k in range(64)) + "]}", "evil") for i in range(n))
        w.write(BASE + doc("Gateway", "edge", HTTP.replace("{gateway", "{allowedListeners: {namespaces: {from: All}}, gateway")) + many)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        w.dump()
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    few = cost(10)
    assert cost(40) < 9 * few + 0.5


def test_fields_that_are_not_read_are_told(world):
    p = world(BASE + GATEWAY + route("r", "useDefaultGateways: All")).run("--mode", "validate")
    assert "HTTPRoute/demo/r: 1 fields are not read by this version, spec.useDefaultGateways is the first" in p.stdout


# ---- with a proxy ----

def test_requests_by_httproutes(apps, mesh, tmp_path):  # noqa: F811
    listen = free_port()
    entry = ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s, namespace: demo}\nspec: {hosts: [%s.example.com], ports: "
             "[{number: 80, name: http, protocol: HTTP}], location: MESH_EXTERNAL, resolution: STATIC, endpoints: [{address: 127.0.0.1, ports: {http: %d}}]}\n---\n")
    there = "{group: networking.istio.io, kind: Hostname, name: %s.example.com, port: 80}"
    text = (service("edge-istio", ports=f"[{{name: http, port: {listen}}}]", more=", selector: {gw: edge}")
            + doc("PeerAuthentication", "plain", "{mtls: {mode: DISABLE}}", api="security.istio.io/v1")  # no agent has certificates here
            + entry % ("one", "one", apps[0].server_port) + entry % ("two", "two", apps[1].server_port)
            + doc("Gateway", "edge", f"{{gatewayClassName: istio, listeners: [{{name: http, port: {listen}, protocol: HTTP, hostname: '*.example.org'}}]}}")
            + route("r", "hostnames: [a.example.org]", rules=f"""
  - matches: [{{path: {{value: /two}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}}}]
    backendRefs: [{there % "two"}]
  - matches: [{{path: {{value: /away}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https, hostname: b.example.org, port: 8443, statusCode: 301}}}}]
  - matches: [{{path: {{value: /broken}}}}]
    backendRefs: [{{name: gone, port: 80}}]
  - backendRefs: [{there % "one"}]"""))
    m = control.Mizzend(tmp_path, {"a.yaml": text})
    try:
        (tmp_path / "node.json").write_text(json.dumps(NODE))
        mesh.proxy(boot=control.bootstrap(tmp_path / "node.json", m.port, free_port()), ready=False)

        def ask(path, host="a.example.org"):
            c = http.client.HTTPConnection("127.0.0.1", listen, timeout=30)
            try:
                c.request("GET", path, headers={"host": host})
                r = c.getresponse()
                return r.status, r.read().decode(), r.getheader("location")
            except OSError:  # not there yet
                return 0, "", None
            finally:
                c.close()
        until(lambda: ask("/")[0] == 200, 60, "the gateway to route")
        assert ask("/")[1] == "v1 /"
        assert ask("/two")[1] == "v2 /" and ask("/two/x")[1] == "v2 /x" and ask("/twofold")[1] == "v1 /twofold"
        assert ask("/away")[::2] == (301, "https://b.example.org:8443/away")
        assert ask("/broken")[0] == 500
        assert ask("/", "other.com")[0] == 404
    finally:
        m.stop()
