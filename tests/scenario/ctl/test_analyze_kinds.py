"""mizzenctl analyze: each finding of the field's tool that documents can show, with the documents that show it and those that do not (C7)."""
import json

import pytest

import ctl

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
NETWORKING = "networking.istio.io/v1"


def doc(kind, name, ns="demo", api=None, spec=None, labels=None, notes=None, **more):
    apis = {"Pod": "v1", "Service": "v1", "Namespace": "v1", "Node": "v1", "ConfigMap": "v1", "Secret": "v1", "Deployment": "apps/v1",
            "AuthorizationPolicy": "security.istio.io/v1", "RequestAuthentication": "security.istio.io/v1", "Telemetry": "telemetry.istio.io/v1",
            "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
            "CustomResourceDefinition": "apiextensions.k8s.io/v1", "EnvoyFilter": "networking.istio.io/v1alpha3"}
    meta = {"name": name, **({"namespace": ns} if ns else {}), **({"labels": labels} if labels else {}), **({"annotations": notes} if notes else {})}
    return {"apiVersion": api or apis.get(kind, NETWORKING), "kind": kind, "metadata": meta, **({"spec": spec} if spec is not None else {}), **more}


def analyze(tmp_path, *docs, mesh=None, codes=None):
    (tmp_path / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(docs)}))
    args = []
    if mesh is not None:
        (tmp_path / "mesh.yaml").write_text(json.dumps(mesh))
        args = ["--meshConfigFile", tmp_path / "mesh.yaml"]
    p = ctl.run("analyze", "-A", "-o", "json", *args, tmp_path / "all.json")
    assert p.returncode == 0, p.stderr
    return [f for f in json.loads(p.stdout) if not codes or f["code"] in codes]


NS = doc("Namespace", "demo", None, labels={"istio-injection": "enabled"})
WEB = doc("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]})
TWO = doc("Service", "two", spec={"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"},
                                                                       {"name": "udp", "port": 81, "protocol": "UDP"}]})
PROXY = {"name": "istio-proxy", "image": "p"}


def pod(name, labels=None, **more):
    return doc("Pod", name, labels=labels or {"app": "web"}, spec={"containers": [PROXY], **more.pop("spec", {})}, **more)


def deployment(labels=None, **spec):
    return doc("Deployment", "d", spec={"template": {"metadata": {"labels": labels or {"app": "web"}}, "spec": {"containers": [PROXY], **spec}}})


def vs(name="v", ns="demo", **spec):
    return doc("VirtualService", name, ns, spec={"hosts": ["web"], **spec})


def route(host, **more):
    return [{"route": [{"destination": {"host": host, **more}}]}]


def gateway(name, selector, *servers, ns="demo"):
    return doc("Gateway", name, ns, spec={"selector": selector, "servers": list(servers)})


def server(port=80, hosts=("a.com",), **more):
    return {"port": {"number": port, "name": f"p{port}", "protocol": "HTTPS" if "tls" in more else "HTTP"}, "hosts": list(hosts), **more}


def entry(name, protocol="HTTP", **spec):
    return doc("ServiceEntry", name, spec={"hosts": ["x.com"], "resolution": "DNS", "ports": [{"number": 80, "name": "p", "protocol": protocol}], **spec})


def hook(name, service=None, url=None, selector=None):
    client = {**({"service": {"namespace": "istio-system", "name": service}} if service else {}), **({"url": url} if url is not None else {})}
    return {"name": name, "clientConfig": client, **({"namespaceSelector": selector} if selector is not None else {})}


def hooks(name, *webhooks, kind="MutatingWebhookConfiguration", **more):
    return doc(kind, name, None, webhooks=list(webhooks), **more)


ISTIOD = doc("Service", "istiod", "istio-system", labels={"istio": "pilot"}, spec={"ports": [{"name": "x", "port": 1}]})
VALUES = {"global": {"hub": "h", "tag": "1", "proxy": {"image": "p"}}, "sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}
INJECTOR = doc("ConfigMap", "istio-sidecar-injector", "istio-system", data={"values": json.dumps(VALUES)})


def patch(op, to="HTTP_FILTER", version=None, **more):
    match = {"proxy": {"proxyVersion": version}} if version else {"context": "ANY"}
    return {"applyTo": to, "match": match, "patch": {"operation": op, **more}}


def ef(name, *patches, **spec):
    return doc("EnvoyFilter", name, spec={"configPatches": list(patches), **spec})


CASES = {
    "old fault": (["IST0002"], [vs(http=[{"fault": {"delay": {"percent": 5, "fixedDelay": "1s"}}, **route("web")[0]}])],
                  ["VirtualService demo/v|Deprecated: HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage"]),
    "old type": (["IST0002"], [doc("CustomResourceDefinition", "x", None, spec={"group": "rbac.istio.io", "names": {"kind": "ServiceRole"}})],
                 ["CustomResourceDefinition x|Deprecated: Custom resource type rbac.istio.io ServiceRole is removed"]),
    "no proxy": (["IST0103"], [NS, doc("Pod", "p", spec={"containers": [{"name": "a", "image": "x"}]}), pod("q"),
                               doc("Pod", "r", labels={"sidecar.istio.io/inject": "false"}, spec={"containers": []}), pod("s", spec={"hostNetwork": True, "containers": []})],
                 ["Pod demo/p|The pod demo/p is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload."]),
    "misplaced": (["IST0107", "IST0108", "IST0125", "IST0135"],
                  [doc("Service", "s", notes={"sidecar.istio.io/inject": "true", "x.istio.io/y": "z", "kubernetes.io/z": "1"}, spec={}),
                   pod("p", notes={"sidecar.istio.io/interceptionMode": "X", "sidecar.istio.io/status": "1"})],
                  ["Service demo/s|Misplaced annotation: sidecar.istio.io/inject can only be applied to Pod", "Service demo/s|Unknown annotation: x.istio.io/y",
                   "Pod demo/p|Invalid annotation sidecar.istio.io/interceptionMode: interceptionMode invalid, use REDIRECT,TPROXY,NONE: X",
                   'Service demo/s|Annotation "sidecar.istio.io/inject" has been deprecated in favor of the "sidecar.istio.io/inject" label and may not '
                   "work in future Istio versions."]),
    "two sidecars of a pod": (["IST0110", "IST0101"],
                              [pod("p"), *(doc("Sidecar", n, spec={"workloadSelector": {"labels": {"app": s}}}) for n, s in (("a", "web"), ("b", "web"), ("c", "no")))],
                              [*(f'Sidecar demo/{n}|The Sidecars [a b] in namespace "demo" select the same workload pod "p", which can lead to undefined behavior.'
                                 for n in "ab"), 'Sidecar demo/c|Referenced selector not found: "app=no"']),
    "a sidecar without": (["IST0167"], [pod("p", notes={"ambient.istio.io/redirection": "enabled"}),
                                        doc("Sidecar", "a", spec={"workloadSelector": {"labels": {"app": "web"}}})],
                          ["Sidecar demo/a|The policy has no impact: selected workload is in ambient mode, the policy has no impact."]),
    "which port": (["IST0112", "IST0101"], [TWO, vs(http=[*route("two"), *route("two", port={"number": 81})])],
                   ['VirtualService demo/v|This VirtualService routes to a service "two" that exposes multiple ports [80 81]. Specifying a port in the '
                    "destination is required to disambiguate."]),
    "mirrors": (["IST0101"], [NS, WEB, vs(http=[{**route("web")[0], "mirror": {"host": "ghost"}, "mirrors": [{"destination": {"host": "web", "subset": "s"}}]}])],
                ['VirtualService demo/v|Referenced mirror host not found: "ghost"',
                 'VirtualService demo/v|Referenced mirror+subset in destinationrule not found: "web+s"']),
    "exported elsewhere": (["IST0101"], [NS, doc("Service", "far", "other", notes={"networking.istio.io/exportTo": "."}, spec={"ports": [{"name": "http", "port": 1}]}),
                                         vs(http=route("far.other.svc.cluster.local"))],
                           ['VirtualService demo/v|Referenced host not found: "far.other.svc.cluster.local"']),
    "one deployment": (["IST0116", "IST0137"],
                       [NS, deployment(), WEB, doc("Service", "u", spec={"selector": {"app": "web"}, "ports": [{"name": "udp", "port": 80, "protocol": "UDP"}]}),
                        doc("Service", "o", spec={"selector": {"app": "web"}, "ports": [{"name": "http", "port": 90, "targetPort": 80}]})],
                       ["Deployment demo/d|This deployment d is associated with multiple services using port 80 but different protocols: [demo/u demo/web]",
                        'Deployment demo/d|This deployment d is associated with multiple services [demo/o demo/u] using targetPort "80" but different ports: [80 90].']),
    "labels of namespaces": (["IST0123", "IST0102"], [doc("Namespace", "n", None, labels={"istio-injection": "enabled", "istio.io/rev": "r"})],
                             ["Namespace n|The namespace has more than one type of injection labels [istio-injection=enabled istio.io/rev=r], which may lead to "
                              "undefined behavior. Make sure only one injection label exists."]),
    "injected by default": (["IST0148", "IST0102"], [INJECTOR, doc("Namespace", "n", None), doc("Namespace", "kube-system", None)],
                            ["Namespace n|is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true."]),
    "other image": (["IST0158"], [INJECTOR, NS, pod("b"), pod("a"), pod("c", spec={"containers": [{"name": "istio-proxy", "image": "h/p:1"}]}),
                                  pod("d", notes={"sidecar.istio.io/proxyImage": "mine"})],
                    ["Namespace demo|The Istio proxy images of the pods running in the namespace do not match the image defined in the injection configuration "
                     "(pod names: [a b]). This often happens after upgrading the Istio control-plane and can be fixed by redeploying the pods."]),
    "namespaces of policies": (["IST0101", "IST0127"],
                               [NS, pod("p"), doc("Pod", "q", labels={"app": "bare"}, spec={"containers": []}, notes={"sidecar.istio.io/inject": "false"}),
                                doc("AuthorizationPolicy", "a", spec={"rules": [{"from": [{"source": {"namespaces": ["de*", "ghost"], "notNamespaces": ["no*"]}}]}]}),
                                doc("AuthorizationPolicy", "b", spec={"selector": {"matchLabels": {"app": "bare"}}, "rules": []})],
                               ['AuthorizationPolicy demo/a|Referenced namespace not found: "ghost"', 'AuthorizationPolicy demo/a|Referenced namespace not found: "no*"',
                                "AuthorizationPolicy demo/b|No matching workloads for this resource with the following labels: app=bare"]),
    "rules nobody reaches": (["IST0130", "IST0131"],
                             [vs("t", tcp=[{"match": [{"port": 1}], **route("web")[0]}, {"match": [{"port": 1}], **route("web")[0]}]),
                              vs("h", http=[{"name": "r", "match": [{"uri": {"prefix": "/a"}, "name": "m", "method": {"exact": "GET"}},
                                                                    {"method": {"exact": "GET"}, "uri": {"prefix": "/a"}, "name": "n"}], **route("web")[0]},
                                            {"match": [{"uri": {"prefix": "/ab"}}, {"uri": {"prefix": "/ac"}, "port": 1}], **route("web")[0]}])],
                             ["VirtualService demo/t|VirtualService rule #1 not used (all matches used by prior rules).",
                              "VirtualService demo/t|VirtualService rule #1 match #0 is not used (duplicate/overlapping match in rule #0).",
                              'VirtualService demo/h|VirtualService rule "r" match "n" is not used (duplicate/overlapping match in rule "r").',
                              'VirtualService demo/h|VirtualService rule #1 match #0 of prefix /ab is not used (duplicate/overlapping match in rule "m" of prefix /a on "r").']),
    "addresses": (["IST0134"], [entry("a", "TCP"), entry("b", "tcp", addresses=["1.1.1.1"]), {**entry("c", "TCP"), "status": {"addresses": [{"value": "1.1.1.1"}]}}, entry("d")],
                  ["ServiceEntry demo/a|ServiceEntry addresses are required for this protocol."]),
    "one certificate": (["IST0138"], [gateway("a", {"g": "1"}, server(443, tls={"mode": "SIMPLE", "credentialName": "c"})),
                                      gateway("b", {"g": "1", "h": "2"}, server(444, tls={"mode": "SIMPLE", "credentialName": "c"}))],
                        ["Gateway demo/a|Duplicate certificate in multiple gateways [demo/a demo/b] may cause 404s if clients re-use HTTP2 connections."]),
    "webhooks": (["IST0139"], [ISTIOD, hooks("a", hook("x.istio.io", "istiod", selector={"matchLabels": {"istio-injection": "enabled"}})),
                               hooks("b", hook("y.istio.io", "gone", selector={"matchExpressions": [{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]}))],
                 ["MutatingWebhookConfiguration a|Webhook overlaps with others: [b/y.istio.io]. This may cause injection to occur twice.",
                  "MutatingWebhookConfiguration b|Webhook overlaps with others: [a/x.istio.io]. This may cause injection to occur twice.",
                  "MutatingWebhookConfiguration b|Injector refers to a control plane service that does not exist: istio-system/gone."]),
    "around subsets": (["IST0140"], [vs("in", gateways=["g"], http=route("web")), vs("mesh", http=route("web", subset="s"))],
                       ["VirtualService demo/in|Subset in virtual service demo/mesh has no effect on ingress gateway demo/in requests"]),
    "user": (["IST0144"], [deployment(securityContext={"runAsUser": 1337}), pod("p", spec={"containers": [{**PROXY, "securityContext": {"runAsUser": 1337}}]})],
             ["Deployment demo/d|User ID (UID) 1337 is reserved for the sidecar proxy."]),
    "one host of a port": (["IST0145"], [gateway("a", {"g": "1"}, server(80, ("a.com", "b.com"))), gateway("b", {"g": "1"}, server(80, ("b.com",))),
                                         gateway("c", {"g": "1"}, server(81, ("b.com",))), gateway("d", {"g": "2"}, server(80, ("b.com",)))],
                           ["Gateway demo/a|Conflict with gateways demo/b (workload selector g=1, port 80, hosts a.com,b.com).",
                            "Gateway demo/b|Conflict with gateways demo/a (workload selector g=1, port 80, hosts b.com)."]),
    "image auto": (["IST0146", "IST0147"], [pod("p", spec={"containers": [{"name": "istio-proxy", "image": "auto"}]}), deployment(containers=[{"name": "istio-proxy", "image": "auto"}])],
                   ["Deployment demo/d|Deployment d contains `image: auto` but does not match any Istio injection webhook selectors.",
                    "Pod demo/p|Pod p contains `image: auto` but does not match any Istio injection webhook selectors."]),
    "claims": (["IST0149"], [vs(gateways=["g"], http=[{"match": [{"headers": {"@request.auth.claims.a": {"exact": "b"}}}], **route("web")[0]}]),
                             gateway("g", {"app": "web"}, server()), pod("p"), pod("q", {"app": "web", "auth": "yes"}),
                             doc("RequestAuthentication", "r", spec={"selector": {"matchLabels": {"auth": "yes"}}, "jwtRules": []})],
               ["VirtualService demo/v|The virtual service uses the JWT claim based routing (key: @request.auth.claims.a) but found no request authentication for the "
                "gateway (demo/g) pod (p). The request authentication must first be applied for the gateway pods to validate the JWT token and make the claims "
                "available for routing."]),
    "names of ports": (["IST0118", "IST0150"],
                       [doc("Service", "e", spec={"type": "ExternalName", "ports": [{"name": "tcp", "port": 1}]}),
                        doc("Service", "n", spec={"ports": [{"name": "x-y", "port": 1, "targetPort": "web"}, {"name": "x", "port": 3306}, {"name": "z", "port": 2, "appProtocol": "http"}]}),
                        doc("Service", "m", labels={"release": "istio"}, spec={"ports": [{"name": "x", "port": 1}]})],
                       ["Service demo/e|Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports serving TCP "
                        "protocol from being forwarded correctly",
                        "Service demo/n|Port name x-y (port: 1, targetPort: web) doesn't follow the naming convention of Istio port."]),
    "patches": (["IST0151", "IST0152", "IST0153", "IST0154", "IST0155"],
                [ef("a", patch("REPLACE", "CLUSTER", value={})), ef("b", patch("ADD", "HTTP_ROUTE", value={})), ef("c", patch("REMOVE", "ROUTE_CONFIGURATION")),
                 ef("d", patch("INSERT_BEFORE", version="1.1", value={"name": "f"})), ef("e", patch("INSERT_AFTER", value={"name": "f"})),
                 ef("f", patch("REMOVE"), priority=1)],
                ["EnvoyFilter demo/a|The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.",
                 "EnvoyFilter demo/b|The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
                 "EnvoyFilter demo/c|The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
                 "EnvoyFilter demo/d|IST0151", "EnvoyFilter demo/e|IST0155"]),
    "providers": (["IST0157"], [doc("Telemetry", "t", spec={"accessLogging": [{}]}), doc("Telemetry", "u", "o", spec={"accessLogging": [{"disabled": True}, {"providers": [{"name": "x"}]}]})],
                  ['Telemetry demo/t|The Telemetry t in namespace "demo" with empty providers will be ignored.']),
    "telemetries": (["IST0159", "IST0160"], [pod("p"), *(doc("Telemetry", n, spec={"selector": {"matchLabels": {"app": "web"}}}) for n in "ab"),
                                             *(doc("Telemetry", n, spec={}) for n in "cd")],
                    [*(f'Telemetry demo/{n}|The Telemetries [a b] in namespace "demo" select the same workload pod "p", which can lead to undefined behavior.' for n in "ab"),
                     *(f'Telemetry demo/{n}|The Telemetries [c d] in namespace "demo" have no workload selector, which can lead to undefined behavior.' for n in "cd")]),
    "credential": (["IST0161", "IST0101"], [pod("p"), doc("Secret", "s", data={"tls.crt": "eA==", "tls.key": "eA=="}),
                                            gateway("g", {"app": "web"}, server(443, tls={"mode": "SIMPLE", "credentialName": "s"}))],
                   ["Gateway demo/g|The credential referenced by the Gateway g in namespace demo is invalid, which can cause the traffic not to work as expected."]),
    "elsewhere": (["IST0163", "IST0164"], [hooks("istio-sidecar-injector-x", hook("a", url="https://1.2.3.4:1/x"), hook("b"), hook("c", url="https://a.com")),
                                           hooks("istio-validator-x", hook("d", url="https://[::1]/"), kind="ValidatingWebhookConfiguration")],
                  ["MutatingWebhookConfiguration istio-sidecar-injector-x|The hostname () that was provided for the webhook (b) to reach the ingress gateway on the "
                   "external control plane cluster is blank. Traffic may not flow properly.",
                   "MutatingWebhookConfiguration istio-sidecar-injector-x|IST0164", "ValidatingWebhookConfiguration istio-validator-x|IST0164"]),
    "conditions": (["IST0171"], [{**WEB, "status": {"conditions": [{"type": "istio.io/WaypointBound", "status": "False", "reason": "R", "message": "M"},
                                                                   {"type": "Other", "status": "False"}]}}],
                   ["Service demo/web|A condition with a negative status is present: type=istio.io/WaypointBound, reason=R, message=M."]),
    "subsets of nobody": (["IST0173", "IST0174"],
                          [WEB, pod("p", {"app": "web", "v": "1"}, spec={"containers": [PROXY], "nodeName": "n"}),
                           doc("Node", "n", None, labels={"topology.kubernetes.io/zone": "z"}),
                           doc("DestinationRule", "a", spec={"host": "web", "subsets": [{"name": "s1", "labels": {"v": "1"}}, {"name": "s2", "labels": {"v": "2"}},
                                                                                       {"name": "s3", "labels": {"topology.kubernetes.io/zone": "z"}}]}),
                           doc("DestinationRule", "b", spec={"host": "ghost"})],
                          ["DestinationRule demo/a|The Subset s2 defined in the DestinationRule does not select any pods. Which may lead to 503 UH (NoHealthyUpstream).",
                           "DestinationRule demo/b|The host ghost defined in the DestinationRule does not match any services in the mesh."]),
    "keys": (["IST0175"], [doc("Deployment", "istiod", "istio-system", labels={"app": "istiod"}, spec={}), *(doc("RequestAuthentication", f"r{i}", spec={}) for i in range(6))],
             ["Deployment istio-system/istiod|BLOCKED_CIDRS_IN_JWKS_URIS is not configured but 6 RequestAuthentication resource(s) exist (demo/r0, demo/r1, demo/r2, "
              "demo/r3, demo/r4, and 1 more). Consider configuring it to restrict JWKS URI fetches to trusted networks."]),
    "types": (["IST0176"], [doc("CustomResourceDefinition", "tlsroutes.gateway.networking.k8s.io", None, notes={"gateway.networking.k8s.io/bundle-version": "v1.4.1"}),
                            doc("CustomResourceDefinition", "grpcroutes.gateway.networking.k8s.io", None, notes={"gateway.networking.k8s.io/bundle-version": "v1.1.0-rc.1"})],
              ['CustomResourceDefinition tlsroutes.gateway.networking.k8s.io|Gateway API CRD "tlsroutes.gateway.networking.k8s.io" is at version "1.4.1" but Istio '
               'requires at least "1.5.0"; resources of this kind will not be processed. Upgrade the Gateway API CRDs to satisfy the minimum version.']),
    "protocols of a port": (["IST0177"], [entry("a"), entry("b", "HTTPS"), entry("c", "TCP", exportTo=["other"]), entry("d", hosts=["y.com"])],
                            [*(f'ServiceEntry demo/{n}|Multiple ServiceEntries (demo/a, demo/b) define the same host "x.com" and port 80 with conflicting protocols (HTTP, HTTPS).'
                               for n in "ab"), "ServiceEntry demo/c|IST0177"]),
    "hosts of several": (["IST0109"], [vs("a", exportTo=["."]), vs("b", "other", hosts=["web.demo.svc.cluster.local"]), vs("c", exportTo=["third"])],
                         ["VirtualService demo/a|The VirtualServices demo/a,other/b associated with mesh gateway define the same host demo/web.demo.svc.cluster.local which "
                          "can lead to undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
                          "VirtualService other/b|IST0109", "VirtualService demo/c|IST0109"]),
}


@pytest.mark.parametrize("name", CASES)
def test_findings(tmp_path, name):
    codes, docs, want = CASES[name]
    got = sorted((f["origin"], f["code"], f["message"]) for f in analyze(tmp_path, *docs, codes=codes))
    assert len(got) == len(want), got
    for one in want:
        of, text = one.split("|", 1)
        assert any(o == of and text in (c, m) for o, c, m in got), (one, got)


def test_each_is_told_once(tmp_path):
    assert len(analyze(tmp_path, ef("a", patch("REMOVE"), patch("REMOVE")), codes=["IST0151"])) == 1


def test_what_an_installation_has_need_not_be_told(tmp_path):
    g = gateway("g", {"istio": "ingressgateway"}, server(80), server(8080))
    assert [f["code"] for f in analyze(tmp_path, g)] == ["IST0162"]
    assert [f["code"] for f in analyze(tmp_path, g, mesh={"ingressControllerMode": "OFF"})] == ["IST0101"]


def test_the_meshs_own_settings_count(tmp_path):
    t = doc("Telemetry", "t", spec={"accessLogging": [{}], "tracing": [{"providers": [{"name": "l"}]}]})
    assert analyze(tmp_path, t, mesh={"defaultProviders": {"accessLogging": ["envoy"]}}) == []
    assert [f["code"] for f in analyze(tmp_path, t, mesh={"extensionProviders": [{"name": "l", "lightstep": {}}]})] == ["IST0002", "IST0157"]
    capture = {"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true"}}}
    assert analyze(tmp_path, entry("a", "TCP"), mesh=capture) == []
    policy = doc("AuthorizationPolicy", "p", "root", spec={})
    assert analyze(tmp_path, policy, mesh={"rootNamespace": "root"}) == [] and len(analyze(tmp_path, policy)) == 1
