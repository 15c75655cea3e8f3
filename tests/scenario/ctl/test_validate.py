"""mizzenctl validate: what the field's webhook refuses, what it warns of, and what it takes, document by document (C7)."""
import re

import pytest
import yaml

import ctl

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
GROUPS = {"AuthorizationPolicy": "security.istio.io/v1", "RequestAuthentication": "security.istio.io/v1", "PeerAuthentication": "security.istio.io/v1",
          "Telemetry": "telemetry.istio.io/v1", "WasmPlugin": "extensions.istio.io/v1alpha1", "TrafficExtension": "extensions.istio.io/v1alpha1",
          "EnvoyFilter": "networking.istio.io/v1alpha3", "ProxyConfig": "networking.istio.io/v1beta1"}
TO = {"route": [{"destination": {"host": "a.com"}}]}


def vs(http=None, **more):
    return "VirtualService", {"hosts": ["a.com"], "http": [{**TO, **(http or {})}], **more}


def rule(**policy):
    return "DestinationRule", {"host": "a.com", "trafficPolicy": policy}


def server(port=None, hosts=("a.com",), **more):
    return "Gateway", {"servers": [{"port": port or {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": list(hosts), **more}]}


def entry(**more):
    return "ServiceEntry", {"hosts": ["a.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS", **more}


def sidecar(**egress):
    return "Sidecar", {"egress": [{"hosts": ["*/*"], **egress}]}


def deny(**rule_):
    return "AuthorizationPolicy", {"action": "DENY", "rules": [rule_]}


HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
FINE = [
    vs({"match": [{"uri": {"prefix": ""}}]}), vs({"match": [{"headers": {":path": {"exact": "/"}}}]}),
    vs({"match": [{"withoutHeaders": {"a": {"regex": "*"}}}]}), vs({"retries": {"attempts": 1, "retryOn": "5xx,reset,429,unavailable"}}),
    vs({"headers": {"request": {"set": {"x": "100%% %REQ(a)% %DOWNSTREAM_REMOTE_ADDRESS%", "host": "b"}, "remove": ["a_b"]}}}),
    vs({"corsPolicy": {"allowMethods": ["GET", "*"], "maxAge": "2s", "allowHeaders": ["*"]}}),
    ("VirtualService", {"hosts": ["a.com"], "http": [{"match": [{"uri": {"prefix": "/a"}}, {"headers": {"x": {"exact": "z"}}}], "redirect": {"prefixRewrite": "/b"}}]}),
    vs({"route": [{"destination": {"host": "*-b.com", "subset": "v1"}}]}), vs({"match": [{"headers": {"@request.auth.claims.a": {"exact": "b"}}}]}, gateways=["g"]),
    vs(gateways=["ns/g", "mesh"]), vs(exportTo=["."]), vs({"timeout": "1.001s"}),
    ("VirtualService", {"hosts": ["outbound_.80_._.web.demo.svc.cluster.local"], "gateways": ["g"], "tls": [
        {"match": [{"sniHosts": ["outbound_.80_._.web.demo.svc.cluster.local"], "port": 443}], **TO}]}),
    rule(connectionPool={"tcp": {"idleTimeout": "0s"}}), rule(loadBalancer={"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}, outlierDetection={}),
    ("DestinationRule", {"host": "a.com", "subsets": [{"name": "v1", "labels": {"example.com/a": "b_c.d", "e": ""}}]}),
    ("DestinationRule", {"host": "a.com", "workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["demo"]}),
    server(tls={"mode": "SIMPLE", "credentialName": "c", "cipherSuites": ["-ALL", "AES128-SHA"]}), server(HTTP, ["./a.com", "*", "*.b.com", "10.0.0.1"]),
    server(HTTP, tls={"httpsRedirect": True}), entry(hosts=["*.a.com"], endpoints=[{"address": "b.com"}]), entry(exportTo=["~"]),
    entry(ports=[{"number": 1, "name": "tcp", "protocol": "TCP"}]), entry(resolution="DYNAMIC_DNS", hosts=["*a.com"]),
    entry(resolution="STATIC", endpoints=[{"address": "unix:///a/b"}]), ("WorkloadEntry", {"address": "unix://@a"}), ("WorkloadEntry", {"address": "a.com"}),
    ("WorkloadGroup", {"template": {}, "metadata": {"labels": {"a": "b"}}, "probe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "A-b", "value": "c"}]}}}),
    sidecar(hosts=["~b/*", "./*.a.com", "*/a.com"]), sidecar(port={"number": 0, "protocol": "TCP"}, bind="unix:///a"),
    ("Sidecar", {"ingress": [{"port": {"number": 1, "protocol": "HTTP", "name": "a"}, "defaultEndpoint": "unix://@a", "connectionPool": {"http": {}}}]}),
    deny(to=[{"operation": {"ports": ["80"], "paths": ["/"]}}]), deny(**{"from": [{"source": {"namespaces": ["a"]}}]}), deny(when=[{"key": "source.ip", "values": ["1.1.1.1"]}]),
    ("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"paths": ["/"]}}]}]}),
    ("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwksUri": "https://[::1]:443/b:c"}]}), ("WasmPlugin", {"url": "oci://a/%20b"}),
    ("Telemetry", {"tracing": [{"providers": [{"name": "a"}]}]}),
]
WARNED = [
    (deny(to=[{"operation": {"paths": ["/"]}}]), "will deny all traffic to TCP ports"),
    (deny(**{"from": [{"source": {"requestPrincipals": ["*"]}}]}), "will deny all traffic to TCP ports"),
    (deny(**{"from": [{"source": {"namespaces": ["a"]}}]}, to=[{"operation": {"methods": ["GET"]}}]), "will deny all traffic to TCP ports"),
    (deny(to=[{"operation": {"ports": [], "paths": ["/"]}}]), "will deny all traffic to TCP ports"),
    (("AuthorizationPolicy", {"selector": {}, "rules": [{}]}), "workload selector specified without labels"),
    (("PeerAuthentication", {"selector": {"matchLabels": {}}}), "workload selector specified without labels"),
    (("ProxyConfig", {"selector": {}}), "workload selector specified without labels"),
    (("RequestAuthentication", {"selector": {}}), "workload selector specified without labels"),
    (("WasmPlugin", {"selector": {}, "url": "oci://a"}), "workload selector specified without labels"),
    (("Telemetry", {"selector": {}}), "workload selector specified without labels"),
    (("DestinationRule", {"host": "a.com", "workloadSelector": {}}), "workload selector specified without labels"),
    (("Sidecar", {"workloadSelector": {}, "egress": [{"hosts": ["./*"]}]}), "sidecar: workload selector specified without labels"),
    (entry(resolution="STATIC", workloadSelector={}), "service entry: workload selector specified without labels"),
    (entry(resolution="NONE", workloadSelector={"labels": {"a": "b"}}), "should not be set when resolution mode is NONE"),
    (entry(resolution="NONE", ports=[{"number": 1, "name": "tcp", "protocol": "TCP"}]), "addresses are required for ports serving TCP"),
    (entry(hosts=["*a.com"], endpoints=[{"address": "1.1.1.1"}]), 'partial wildcard "*a.com" not allowed'),
    (entry(hosts=["a.com", "b.com"], addresses=["1.1.1.1"], ports=[{"number": 1, "name": "tls", "protocol": "TLS"}]), "more than one host specified simultaneously"),
    (entry(resolution="STATIC", endpoints=[{"network": "net"}]), 'address is unset with network "net"'),
    (("WorkloadEntry", {"network": "net"}), 'address is unset with network "net"'),
    (rule(outlierDetection={"consecutiveErrors": 1}), "consecutive errors is deprecated"),
    (rule(loadBalancer={"consistentHash": {"minimumRingSize": 1, "useSourceIp": True}}), "MinimumRingSize is deprecated"),
    (rule(loadBalancer={"localityLbSetting": {"failoverPriority": ["a"]}}), "outlier detection policy must be provided for failover"),
    (rule(loadBalancer={"zoneAwareLbSetting": {"failover": [{"from": "a", "to": "b"}]}}), "outlier detection policy must be provided for failover"),
    (server(tls={"mode": "SIMPLE", "credentialName": "c", "cipherSuites": ["NONE", "AES128-SHA", "AES128-SHA"]}), "ignoring invalid cipher suites: [NONE]"),
    (server(tls={"mode": "SIMPLE", "credentialName": "c", "cipherSuites": ["AES128-SHA", "AES128-SHA"]}), "ignoring duplicate cipher suites: [AES128-SHA]"),
    (server(tls={"mode": "SIMPLE", "credentialName": "c", "minProtocolVersion": "TLSV1_0"}), "TLS version below TLSV1_2 require"),
    (server(tls={"mode": "PASSTHROUGH", "credentialName": "c"}), "PASSTHROUGH mode does not use certificates"),
    (server(tls={"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "a", "privateKey": "b"}] * 3}), "SIMPLE TLS can support up to 2 server certificates"),
    (server(tls={"mode": "SIMPLE", "credentialName": "c", "httpsRedirect": True}), "httpsRedirect should only be used with http servers"),
    (("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwks": '{"keys": [{"kty": "oct", "k": "YQ"}]}'}]}), "key at index 0 contains private key material"),
    (sidecar(hosts=["*/*", "./a.com"]), "`*/*` host select all resources"), (sidecar(hosts=["./a.com", "demo/a.com"]), "duplicated egress host: demo/a.com"),
    (sidecar(hosts=["./*", "./a.com"]), "duplicated egress host: ./a.com"), (sidecar(hosts=["./a.com", "./*"]), "duplicated egress host: ./*"),
    (("Sidecar", {"ingress": [{"port": {"number": 1, "protocol": "TCP", "name": "a"}, "connectionPool": {"http": {}}}]}), "only TCP settings will apply"),
    (("Telemetry", {"tracing": [{}, {}]}), "multiple tracing is not"), (("Telemetry", {"tracing": [{"providers": [{"name": "a"}, {"name": "b"}]}]}), "multiple providers is not"),
    (vs({"mirror": {"host": "b"}, "mirrorPercent": 1}), 'deprecated setting "mirrorPercent"'),
    (vs({"route": [], "directResponse": {"status": 200, "body": {"string": "x" * 103000}}}), "large direct_responses may impact"),
    (vs(gateways=["g.ns.svc.cluster.local"]), 'prefer the <namespace>/<name> format: "ns/g"'),
    (("VirtualService", {"hosts": ["a.com"], "tls": [{"match": [{"sniHosts": ["1.1.1.1"]}], **TO}]}), "goes against SNI spec"),
    (("EnvoyFilter", {"workloadSelector": {}}), "Envoy filter: workload selector specified without labels"),
    (("EnvoyFilter", {"configPatches": [{"applyTo": "LISTENER", "match": {"listener": {"filterChain": {"filter": {"name": "a"}}}}, "patch": {"operation": "REMOVE"}}]}),
     "filter match has no effect when used with LISTENER"),
    (("EnvoyFilter", {"configPatches": [{"applyTo": "CLUSTER", "match": {"context": "WAYPOINT", "waypoint": {}}, "patch": {"operation": "REMOVE"}}]}), "exposes internal"),
]
REFUSED = [
    (vs({"match": [{"method": {"prefix": ""}}]}), "method.prefix: must not be empty"), (vs({"match": [{"headers": {"a": {"regex": "*"}}}]}), "regex"),
    (vs({"match": [{"headers": {":host": {"exact": "a"}}}]}), '":host" is not a name of a header'), (vs({"match": [{"queryParams": {"a": {"prefix": ""}}}]}), "must not be empty"),
    (vs({"match": [{"sourceLabels": {"a b": "c"}}]}), '"a b" is no name of a label'), (vs({"match": [{"sourceNamespace": "a.b"}]}), "no such namespace can be"),
    (vs({"match": [{"gateways": ["a_b"]}]}), "gateways[0]"), (vs({"match": [{"headers": {"@request.auth.claims[a]": {"exact": "b"}}}]}), "at gateways only"),
    (vs({"retries": {"attempts": 1, "retryOn": "5xx, reset"}}), 'retry_on: " reset" is not known'), (vs({"retries": {"attempts": 1, "retryOn": "306"}}), "is not known"),
    (vs({"headers": {"request": {"set": {"x": "50%"}}}}), "without its end"), (vs({"headers": {"request": {"set": {"x": "%A(b%"}}}}), "without its end"),
    (vs({"headers": {"request": {"add": {"x": "a\nb"}}}}), "control character"), (vs({"headers": {"request": {"add": {":path": "a"}}}}), "is not a name"),
    (vs({"headers": {"request": {"remove": ["Host"]}}}), "cannot be changed"), (vs({"headers": {"response": {"set": {":authority": "a"}}}}), "cannot be changed"),
    (vs({"headers": {"request": {"set": {"host": "a"}}}, "rewrite": {"authority": "b"}}), "more than once"),
    (vs({"corsPolicy": {"allowMethods": ["get"]}}), '"get" is not a method'), (vs({"corsPolicy": {"allowOrigins": [{"prefix": ""}]}}), "must not be empty"),
    (vs({"corsPolicy": {"maxAge": "1.5s"}}), "whole seconds"), (vs({"timeout": "0.0001s"}), "at least 1ms"), (vs({"timeout": "1.0001s"}), "part of a millisecond"),
    (("VirtualService", {"hosts": ["a.com"], "http": [{"redirect": {"uri": "/a", "prefixRewrite": "/b"}}]}), "both uri and prefix_rewrite"),
    (("VirtualService", {"hosts": ["a.com"], "http": [{"match": [{"uri": {"exact": "/a"}}], "redirect": {"prefixRewrite": "/b"}}]}), "needs a prefix"),
    (vs({"route": [{"destination": {"host": "a.com", "subset": "v.1"}}]}), "is not a label"), (vs({"route": [{"destination": {"host": "a_b.com"}}]}), "is not a host"),
    (vs({"route": [{"destination": {"host": "a.1"}}]}), "is not a host"), (vs(gateways=["*"]), "neither name nor namespace/name"), (vs(gateways=["*/a"]), "neither name"),
    (vs(exportTo=[".", "demo"]), '"." and "demo" are the same'), (rule(connectionPool={}), "needs tcp or http"),
    (("VirtualService", {"hosts": ["a.com"], "tcp": [{"match": [{"port": 70000}], **TO}]}), "must be in 1..65535"),
    (rule(connectionPool={"tcp": {"tcpKeepalive": {"time": "0s"}}}), "tcp_keepalive.time: must be at least 1ms"),
    (rule(connectionPool={"tcp": {"idleTimeout": "1.0001s"}}), "part of a millisecond"), (rule(tunnel={"targetHost": "*.a", "targetPort": 1}), "neither a host nor"),
    (("DestinationRule", {"host": "a b"}), '"a b" is not a host'), (("DestinationRule", {"host": "a.com", "subsets": [{"name": "v1", "labels": {"a": "b c"}}]}), "no value"),
    (("DestinationRule", {"host": "a.com", "workloadSelector": {"matchLabels": {"a": "*"}}}), "wildcards are not supported"),
    (("DestinationRule", {"host": "a.com", "workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["*"]}), "for its own namespace"),
    (server(HTTP, ["a"]), "neither a host nor"), (server(HTTP, ["~/a.com"]), "no such namespace"), (server(HTTP, ["*a.com"]), "neither a host nor"),
    (entry(workloadSelector={"labels": {"": "a"}}), "must not be empty"), (entry(workloadSelector={"labels": {"a": "*"}}), "wildcards are not supported"),
    (entry(endpoints=[{"address": "unix:///a"}]), "cannot be looked up"), (entry(ports=[{"number": 1, "name": "a b", "protocol": "HTTP"}]), "no name of a port"),
    (entry(ports=[{"number": 1, "name": "a", "protocol": "QUICK"}]), '"QUICK" is not known'), (entry(hosts=["a.1"]), "is not a host"),
    (("WorkloadEntry", {"address": "unix:///a/"}), "not an absolute path"), (("WorkloadEntry", {"address": "1.1.1.1", "ports": {"a@": 1}}), "no name of a port"),
    (("WorkloadEntry", {"address": "1.1.1.1", "labels": {"-": "a"}}), "no name of a label"),
    (("WorkloadGroup", {"template": {}, "probe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a_b", "value": "c"}]}}}), "no name of a header"),
    (sidecar(hosts=["~A_b/*"]), "no such namespace"), (sidecar(hosts=["./a"]), "that is no host"), (sidecar(port={"number": 1, "name": "a b"}), "no name of a port"),
    (("Sidecar", {"outboundTrafficPolicy": {"mode": 3}}), "are the MeshConfig's"), (("Sidecar", {"inboundConnectionPool": {}}), "needs tcp or http"),
    (("Sidecar", {"ingress": [{"port": {"number": 1, "protocol": "HTTP"}, "defaultEndpoint": "unix:///"}]}), "default_endpoint"),
    (("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwksUri": "https://a.com:b"}]}), "the port is no number"),
    (("WasmPlugin", {"url": "a%zz"}), "without two digits"), (("PeerAuthentication", {"selector": {"matchLabels": {"a": "*"}}}), "wildcards are not supported"),
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """By the number of a document: its errors and warnings."""
    cases = [c for c in FINE] + [c for c, _ in WARNED] + [c for c, _ in REFUSED]
    docs = [{"apiVersion": GROUPS.get(kind, "networking.istio.io/v1"), "kind": kind, "metadata": {"name": f"c{i}", "namespace": "demo"}, "spec": spec}
            for i, (kind, spec) in enumerate(cases)]
    file = tmp_path_factory.mktemp("validate") / "all.yaml"
    file.write_text(yaml.safe_dump_all(docs))
    p = ctl.run("validate", "-f", file)
    told = {"error": {}, "warning": {}}
    for level, text in (("warning", p.stdout), ("error", p.stderr)):
        for number, what in re.findall(r"\* \w+/demo/c(\d+): (.*)", text):
            told[level].setdefault(int(number), []).append(what)
    return told


@pytest.mark.parametrize("n", range(len(FINE)))
def test_what_is_taken(verdicts, n):
    assert verdicts["error"].get(n) is None and verdicts["warning"].get(n) is None


@pytest.mark.parametrize("n", range(len(WARNED)))
def test_what_is_warned_of(verdicts, n):
    number = len(FINE) + n
    assert verdicts["error"].get(number) is None and any(WARNED[n][1] in w for w in verdicts["warning"].get(number, []))


@pytest.mark.parametrize("n", range(len(REFUSED)))
def test_what_is_refused(verdicts, n):
    assert any(REFUSED[n][1] in e for e in verdicts["error"].get(len(FINE) + len(WARNED) + n, []))


def test_analyze_tells_the_same_warnings(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": "w", "namespace": "demo"},
                                                     "spec": {"network": "net"}}))
    assert "Warning [IST0133] (WorkloadEntry demo/w a.yaml:1) Schema validation warning: address is unset" in ctl.run("analyze", "-A", "a.yaml", cwd=tmp_path).stdout


@pytest.mark.parametrize("kind, name, notes, more, text", [
    ("Gateway", "a", {}, {"specs": {}}, 'unknown field "specs"'), ("Gateway", "a", {}, {"status": {}}, None), ("Gateway", "a.b", {}, {}, "has a dot"),
    ("Gateway", "a", {"istio.io/dry-run": "true"}, {}, "is for AuthorizationPolicies"), ("VirtualService", "a.b", {}, {}, None),
    ("AuthorizationPolicy", "a", {"istio.io/dry-run": "maybe"}, {}, "neither true nor false"), ("AuthorizationPolicy", "a", {"istio.io/dry-run": "T"}, {}, None),
])
def test_what_stands_around_the_spec(tmp_path, kind, name, notes, more, text):
    spec = {"Gateway": server(HTTP)[1], "VirtualService": vs()[1], "AuthorizationPolicy": {"rules": [{}]}}[kind]
    doc = {"apiVersion": GROUPS.get(kind, "networking.istio.io/v1"), "kind": kind, "metadata": {"name": name, "annotations": notes}, "spec": spec, **more}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(doc))
    p = ctl.run("validate", "-f", tmp_path / "a.yaml")
    assert p.returncode == (1 if text else 0) and (text or "is valid") in p.stdout + p.stderr
