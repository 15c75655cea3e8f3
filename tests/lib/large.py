"""Documents full of one repeated field each, as a tenant may write them: CASES name -> (how many, which) -> documents.

`f(i)` is the i-th number that an element is made of: i where all differ, 0 where all are equal.
"""
import json

ROUTE = [{"destination": {"host": "web"}}]
EDGE = {"istio": "ingressgateway"}
CASES = {}


def doc(kind, spec, name="big", api="networking.istio.io/v1", ns="t", **meta):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": ns, **meta}, "spec": spec}


def kube(kind, body, name="big", api="v1", **meta):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "t", **meta}, **body}


def ip(i):
    return f"10.{100 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"


def ip6(i):
    return f"fd00::{i >> 16:x}:{i & 65535:x}"


def port(i):
    return i % 65535 + 1


def case(name, make):
    """`make(items)` -> document or documents, of the list of f(0) ... f(n - 1)."""
    assert name not in CASES, name
    CASES[name] = lambda n, f=lambda i: i: (lambda d: d if isinstance(d, list) else [d])(make([f(i) for i in range(n)]))


def kind(base, wrap, **fields):
    """A case for each of `fields`: what wrap() makes of {"path.to.field": elements}; the last part may be a map."""
    for path, element in fields.items():
        path = path.replace("__", ".")
        def make(items, path=path, element=element):
            values = [element(i) for i in items]
            if values and isinstance(values[0], tuple):
                values = dict(values)
            return wrap(path, values)
        case(f"{base}.{path}", make)


def put(tree, path, value):
    """Sets a.0.b in nested maps and lists, which grow as needed."""
    parts = path.split(".")
    for p, after in zip(parts, parts[1:] + [None]):
        key = int(p) if p.isdigit() else p
        new = value if after is None else [] if after.isdigit() else {}
        if isinstance(tree, list):
            if len(tree) <= key:
                tree.append(new)
            elif after is None:
                tree[key] = value
        elif after is None or key not in tree:
            tree[key] = new
        tree = tree[key]


def in_spec(kind_, spec, **how):
    def wrap(path, values):
        tree = json.loads(json.dumps(spec))
        put(tree, path, values)
        return doc(kind_, tree, **how)
    return wrap


def s(text):
    return lambda i: text % i


def pair(key, value="v"):
    return lambda i: (key % i, value)


def match(i, what="prefix"):
    return {"uri": {what: f"/a{i}"}}


HTTP = {"hosts": ["web"], "gateways": ["mesh", "edge"], "http": [{"route": ROUTE}]}
kind("VirtualService", in_spec("VirtualService", HTTP), **{
    "hosts": s("h%d.example.com"), "gateways": s("g%d"), "exportTo": s("n%d"),
    "http": lambda i: {"match": [match(i)], "route": ROUTE}, "http.0.match": match, "http.0.route": lambda i: {"destination": {"host": f"h{i}"}, "weight": 1},
    "http.0.headers.request.set": pair("h%d"), "http.0.headers.request.add": pair("h%d"), "http.0.headers.request.remove": s("h%d"),
    "http.0.headers.response.set": pair("h%d"), "http.0.mirrors": lambda i: {"destination": {"host": f"h{i}"}},
    "http.0.match.0.headers": pair("h%d", {"exact": "a"}), "http.0.match.0.withoutHeaders": pair("h%d", {"exact": "a"}),
    "http.0.match.0.queryParams": pair("h%d", {"exact": "a"}), "http.0.match.0.sourceLabels": pair("h%d"), "http.0.match.0.gateways": s("g%d"),
    "http.0.corsPolicy.allowOrigins": lambda i: {"exact": f"h{i}"}, "http.0.corsPolicy.allowMethods": s("M%d"), "http.0.corsPolicy.allowHeaders": s("h%d"),
    "http.0.corsPolicy.exposeHeaders": s("h%d"), "http.0.route.0.headers.request.set": pair("h%d"),
})
case("VirtualService.http exact", lambda x: doc("VirtualService", {**HTTP, "http": [{"match": [match(i, "exact")], "route": ROUTE} for i in x]}))
case("VirtualService.http regex", lambda x: doc("VirtualService", {**HTTP, "http": [{"match": [match(i, "regex")], "route": ROUTE} for i in x]}))
case("VirtualService.http headers", lambda x: doc("VirtualService", {**HTTP, "http": [{"match": [{"headers": {f"h{i}": {"exact": "a"}}}], "route": ROUTE} for i in x]}))
case("VirtualService.http names", lambda x: doc("VirtualService", {**HTTP, "http": [{"name": f"r{i}", "match": [match(i)], "route": ROUTE} for i in x]}))
case("VirtualService.http redirect", lambda x: doc("VirtualService", {**HTTP, "http": [{"match": [match(i)], "redirect": {"uri": f"/b{i}"}} for i in x]}))
case("VirtualService.http hosts", lambda x: doc("VirtualService", {**HTTP, "http": [{"match": [match(i)], "route": [{"destination": {"host": f"x{i}"}}]} for i in x]}))
case("VirtualService.hosts short", lambda x: doc("VirtualService", {**HTTP, "hosts": [f"h{i}" for i in x]}))
case("VirtualService.hosts wild", lambda x: doc("VirtualService", {**HTTP, "hosts": [f"*.h{i}.com" for i in x]}))
case("VirtualService.hosts of edge", lambda x: doc("VirtualService", {**HTTP, "gateways": ["t/edge"], "hosts": [f"h{i}.example.com" for i in x]}))
TLS = {"hosts": ["s.com"], "gateways": ["mesh", "edge"], "tls": [{"match": [{"sniHosts": ["s.com"]}], "route": ROUTE}]}
kind("VirtualService", in_spec("VirtualService", TLS), **{
    "tls": lambda i: {"match": [{"port": port(i), "sniHosts": ["s.com"]}], "route": ROUTE}, "tls.0.match": lambda i: {"port": port(i), "sniHosts": ["s.com"]},
    "tls.0.match.0.sniHosts": s("s%d.com"), "tls.0.match.0.destinationSubnets": lambda i: ip(i), "tls.0.match.0.gateways": s("g%d"),
    "tls.0.route": lambda i: {"destination": {"host": f"h{i}"}, "weight": 1},
})
case("VirtualService.hosts and sniHosts", lambda x: doc("VirtualService", {"hosts": [f"s{i}.com" for i in x[:10000]], "gateways": ["mesh", "edge"], "tls": [{
    "match": [{"port": 443, "sniHosts": [f"s{i}.com" for i in x[:10000]]}], "route": ROUTE}]}))
case("VirtualService.tls each its host", lambda x: doc("VirtualService", {"hosts": [f"s{i}.com" for i in x[:10000]], "gateways": ["mesh", "edge"], "tls": [{
    "match": [{"sniHosts": [f"s{i}.com"]}], "route": ROUTE} for i in x[:10000]]}))
kind("VirtualService", in_spec("VirtualService", {"hosts": ["web"], "gateways": ["mesh", "edge"], "tcp": [{"match": [{}], "route": ROUTE}]}), **{
    "tcp": lambda i: {"match": [{"port": port(i)}], "route": ROUTE}, "tcp.0.match": lambda i: {"port": port(i)},
    "tcp.0.match.0.destinationSubnets": lambda i: ip(i), "tcp.0.match.0.sourceLabels": pair("h%d"), "tcp.0.match.0.gateways": s("g%d"),
    "tcp.0.route": lambda i: {"destination": {"host": f"h{i}"}, "weight": 1},
})
case("VirtualServices of one host", lambda x: [doc("VirtualService", {**HTTP, "http": [{"match": [match(i)], "route": ROUTE}]}, name=f"v{k}") for k, i in enumerate(x)])
case("VirtualServices of one host at edge", lambda x: [doc("VirtualService", {**HTTP, "hosts": ["e.com"], "gateways": ["edge"], "http": [
    {"match": [match(i)], "route": ROUTE}]}, name=f"v{k}") for k, i in enumerate(x)])
case("VirtualServices of hosts at edge", lambda x: [doc("VirtualService", {**HTTP, "hosts": [f"e{i}.com"], "gateways": ["edge"]}, name=f"v{k}") for k, i in enumerate(x)])
case("VirtualServices of wild hosts", lambda x: [doc("VirtualService", {**HTTP, "hosts": [f"*.e{i}.com"]}, name=f"v{k}") for k, i in enumerate(x)])
case("VirtualServices delegated", lambda x: [doc("VirtualService", {"hosts": ["web"], "http": [{"match": [match(i)], "delegate": {"name": f"v{k}"}} for k, i in enumerate(x)]})]
     + [doc("VirtualService", {"http": [{"route": ROUTE}]}, name=f"v{k}") for k, i in enumerate(x)])

RULE = {"host": "web", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 5}}}}
kind("DestinationRule", in_spec("DestinationRule", RULE), **{
    "subsets": lambda i: {"name": f"s{i}", "labels": {"v": f"{i}"}}, "subsets.0.labels": pair("h%d"), "exportTo": s("n%d"),
    "trafficPolicy.portLevelSettings": lambda i: {"port": {"number": port(i)}, "connectionPool": {"tcp": {"maxConnections": 5}}},
    "trafficPolicy.tls.subjectAltNames": s("s%d.com"),
    "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority": s("l%d"), "trafficPolicy.loadBalancer.localityLbSetting.failover": lambda i: {"from": f"r{i}", "to": "x"},
    "trafficPolicy.loadBalancer.localityLbSetting.distribute": lambda i: {"from": f"r{i}/a", "to": {"x": 100}},
    "trafficPolicy.loadBalancer.localityLbSetting.distribute.0.to": lambda i: (f"r{i}/a", 1),
    "trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes": lambda i: {"name": f"a{i}", "value": "x"},
})
case("DestinationRule.subsets policies", lambda x: doc("DestinationRule", {**RULE, "subsets": [
    {"name": f"s{i}", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}} for i in x]}))
case("DestinationRules of one host", lambda x: [doc("DestinationRule", {**RULE, "subsets": [{"name": f"s{i}", "labels": {"v": "1"}}]}, name=f"v{k}") for k, i in enumerate(x)])
case("DestinationRules of wild hosts", lambda x: [doc("DestinationRule", {**RULE, "host": f"*.h{i}.com"}, name=f"v{k}") for k, i in enumerate(x)])

SERVER = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
GATEWAY = {"selector": EDGE, "servers": [SERVER]}
HTTPS = {"selector": EDGE, "servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": {"mode": "SIMPLE", "credentialName": "c"}}]}
kind("Gateway", in_spec("Gateway", GATEWAY), **{
    "servers": lambda i: {"port": {"number": port(i), "name": f"p{i}", "protocol": "HTTP"}, "hosts": [f"h{i}.com"]},
    "servers.0.hosts": s("h%d.com"), "selector": pair("h%d"),
})
kind("Gateway", in_spec("Gateway", HTTPS), **{
    "servers.0.tls.subjectAltNames": s("h%d"), "servers.0.tls.cipherSuites": s("C%d"), "servers.0.tls.verifyCertificateSpki": s("C%d"),
    "servers.0.tls.verifyCertificateHash": s("C%d"), "servers.0.tls.ecdhCurves": s("C%d"),
})
case("Gateway.servers of one port", lambda x: doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 8080, "name": f"p{i}", "protocol": "HTTP"}, "hosts": [f"h{i}.com"]} for i in x]}))
case("Gateway.servers https", lambda x: doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 443, "name": f"p{i}", "protocol": "HTTPS"}, "hosts": [f"h{i}.com"], "tls": {
    "mode": "SIMPLE", "credentialName": f"c{i}"}} for i in x]}))
case("Gateway.servers binds", lambda x: doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 8080, "name": f"p{i}", "protocol": "HTTP"}, "bind": ip(i), "hosts": ["*"]} for i in x]}))
case("Gateway.servers pass", lambda x: doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 443, "name": f"p{i}", "protocol": "TLS"}, "hosts": [f"h{i}.com"], "tls": {
    "mode": "PASSTHROUGH"}} for i in x]}))
case("Gateway.servers auto", lambda x: doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 443, "name": f"p{i}", "protocol": "TLS"}, "hosts": [f"h{i}.com"], "tls": {
    "mode": "AUTO_PASSTHROUGH"}} for i in x]}))
case("Gateway.servers and routes", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 8080, "name": f"p{i}", "protocol": "HTTP"}, "hosts": [f"h{i}.com"]} for i in x]}),
     doc("VirtualService", {**HTTP, "gateways": ["big"], "hosts": ["h0.com"], "http": [{"match": [match(i)], "route": ROUTE} for i in x]})])
case("Gateway.servers and VirtualServices", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 8080, "name": f"p{i}", "protocol": "HTTP"}, "hosts": [f"h{i}.com"]} for i in x]})] + [
     doc("VirtualService", {**HTTP, "gateways": ["big"], "hosts": [f"h{i}.com"]}, name=f"v{k}") for k, i in enumerate(x)])
case("Gateway.servers tls and VirtualServices", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{"port": {"number": 443, "name": f"p{i}", "protocol": "TLS"}, "hosts": [f"h{i}.com"], "tls": {"mode": "PASSTHROUGH"}}
     for i in x]})] + [doc("VirtualService", {"gateways": ["big"], "hosts": [f"h{i}.com"], "tls": [{"match": [{"sniHosts": [f"h{i}.com"]}], "route": ROUTE}]}, name=f"v{k}") for k, i in enumerate(x)])
case("Gateway.hosts and routes", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{**SERVER, "port": {"number": 8081, "name": "a", "protocol": "HTTP"}, "hosts": [f"h{i}.com" for i in x]}]}),
     doc("VirtualService", {**HTTP, "gateways": ["big"], "hosts": [f"h{i}.com" for i in x[:10000]]})])
case("Gateway.hosts wild and routes", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{**SERVER, "port": {"number": 8081, "name": "a", "protocol": "HTTP"}, "hosts": [f"*.h{i}.com" for i in x]}]}),
     doc("VirtualService", {**HTTP, "gateways": ["big"], "hosts": [f"a.h{i}.com" for i in x[:10000]]})])
case("Gateways of one port", lambda x: [doc("Gateway", {**GATEWAY, "servers": [{**SERVER, "hosts": [f"h{i}.com"]}]}, name=f"g{k}") for k, i in enumerate(x)])

kind("Sidecar", in_spec("Sidecar", {"egress": [{"hosts": ["*/*"]}]}), **{
    "egress.0.hosts": s("*/h%d.com"), "egress": lambda i: {"port": {"number": port(i), "name": "a", "protocol": "HTTP"}, "hosts": ["*/*"]},
    "ingress": lambda i: {"port": {"number": port(i), "name": "a", "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:80"},
})
case("Sidecar.egress.0.hosts in namespaces", lambda x: doc("Sidecar", {"egress": [{"hosts": [f"n{i}/*" for i in x]}]}))
case("Sidecar.egress.0.hosts wild", lambda x: doc("Sidecar", {"egress": [{"hosts": [f"*/*.h{i}.com" for i in x]}]}))
case("Sidecar.egress binds", lambda x: doc("Sidecar", {"egress": [{"port": {"number": port(i), "name": "a", "protocol": "TCP"}, "bind": ip(i), "hosts": ["./*"]} for i in x]}))
case("Sidecar.egress.0.hosts of ServiceEntries", lambda x: [doc("Sidecar", {"egress": [{"hosts": [f"*/h{i}.com" for i in x]}]})] + [
    doc("ServiceEntry", {"hosts": [f"h{i}.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"}, name=f"e{k}") for k, i in enumerate(x)])
case("Sidecars", lambda x: [doc("Sidecar", {"workloadSelector": {"labels": {"x": f"{i}"}}, "egress": [{"hosts": ["*/*"]}]}, name=f"s{k}") for k, i in enumerate(x)])

ENTRY = {"hosts": ["e.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC", "endpoints": [{"address": "10.7.7.7"}]}
kind("ServiceEntry", in_spec("ServiceEntry", ENTRY), **{
    "hosts": s("h%d.com"), "addresses": lambda i: ip(i), "ports": lambda i: {"number": port(i), "name": f"p{i}", "protocol": "HTTP"}, "exportTo": s("n%d"),
    "subjectAltNames": s("s%d"), "endpoints": lambda i: {"address": ip(i)}, "endpoints.0.labels": pair("h%d"), "endpoints.0.ports": lambda i: (f"p{i}", port(i)),
})
case("ServiceEntry.addresses wide", lambda x: doc("ServiceEntry", {**ENTRY, "addresses": [ip6(i) for i in x[:256]]}))
case("ServiceEntry.workloadSelector", lambda x: doc("ServiceEntry", {**{k: v for k, v in ENTRY.items() if k != "endpoints"}, "workloadSelector": {"labels": {f"h{i}": "v" for i in x}}}))
case("ServiceEntries", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"h{i}.com"]}, name=f"e{k}") for k, i in enumerate(x)])
case("ServiceEntries of addresses", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"h{i}.com"], "addresses": [ip(i)], "ports": [{"number": 90, "name": "a", "protocol": "TCP"}]}, name=f"e{k}") for k, i in enumerate(x)])
case("ServiceEntries of tcp", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"h{i}.com"], "ports": [{"number": 90, "name": "a", "protocol": "TCP"}]}, name=f"e{k}") for k, i in enumerate(x)])
case("ServiceEntries of tls", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"h{i}.com"], "ports": [{"number": 443, "name": "a", "protocol": "TLS"}]}, name=f"e{k}") for k, i in enumerate(x)])
case("ServiceEntries of ports", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"h{i}.com"], "ports": [{"number": port(i), "name": "a", "protocol": "HTTP"}]}, name=f"e{k}") for k, i in enumerate(x)])
case("ServiceEntries of wild hosts", lambda x: [doc("ServiceEntry", {**ENTRY, "hosts": [f"*.h{i}.com"], "resolution": "NONE", "endpoints": []}, name=f"e{k}") for k, i in enumerate(x)])
PLACES = {"trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 1}, "loadBalancer": {"localityLbSetting": {"enabled": True}}}}
case("ServiceEntry.endpoints of places", lambda x: [doc("ServiceEntry", {**ENTRY, "ports": [{"number": 80 + i, "name": f"p{i}", "protocol": "HTTP"} for i in range(60)], "endpoints": [
    {"address": ip(i), "locality": f"r{i}/z/s"} for i in x[:4096]]}), doc("DestinationRule", {"host": "e.com", **PLACES})])
case("ServiceEntry.endpoints and failoverPriority", lambda x: [doc("ServiceEntry", {**ENTRY, "endpoints": [{"address": ip(i), "locality": f"r{i}/z/s"} for i in x[:4096]]}), doc("DestinationRule", {
    "host": "e.com", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 1}, "loadBalancer": {"localityLbSetting": {"failoverPriority": [f"l{i}" for i in x[:256]]}}}})])
case("ServiceEntries of one host", lambda x: [doc("ServiceEntry", {**ENTRY, "ports": [{"number": 1 + j, "name": f"p{j}", "protocol": "TCP"} for j in range(256 * k, 256 * k + 256) if j < 65535]}, name=f"e{k}")
                                              for k in range(len(x) // 256)])
case("WorkloadEntries selected", lambda x: [doc("ServiceEntry", {**{k: v for k, v in ENTRY.items() if k != "endpoints"}, "workloadSelector": {"labels": {"app": "m"}}})] + [
    doc("WorkloadEntry", {"address": ip(i), "labels": {"app": "m"}}, name=f"w{k}") for k, i in enumerate(x)])
case("WorkloadEntries by ServiceEntries", lambda x: [doc("ServiceEntry", {**{k: v for k, v in ENTRY.items() if k != "endpoints"}, "hosts": [f"h{i}.com"], "workloadSelector": {"labels": {
    "app": "m"}}}, name=f"e{k}") for k, i in enumerate(x[::10])] + [doc("WorkloadEntry", {"address": ip(i), "labels": {"app": "m"}}, name=f"w{k}") for k, i in enumerate(x)])
kind("WorkloadEntry", in_spec("WorkloadEntry", {"address": "10.7.7.7", "labels": {"app": "m"}}), **{"labels": pair("h%d"), "ports": lambda i: (f"p{i}", port(i))})
kind("WorkloadGroup", in_spec("WorkloadGroup", {"template": {"serviceAccount": "a"}}), **{
    "metadata.labels": pair("h%d"), "metadata.annotations": pair("h%d"), "template.labels": pair("h%d"), "template.ports": lambda i: (f"p{i}", port(i)),
    "probe.exec.command": s("c%d"),
})
kind("ProxyConfig", in_spec("ProxyConfig", {"concurrency": 1}), **{"environmentVariables": pair("H%d"), "selector.matchLabels": pair("h%d")})

SECURITY = "security.istio.io/v1"
kind("AuthorizationPolicy", in_spec("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}, api=SECURITY), **{
    "rules": lambda i: {"from": [{"source": {"namespaces": [f"n{i}"]}}]}, "rules.0.from": lambda i: {"source": {"namespaces": [f"n{i}"]}},
    "rules.0.to": lambda i: {"operation": {"paths": [f"/p{i}"]}}, "rules.0.when": lambda i: {"key": f"request.headers[h{i}]", "values": ["a"]},
    "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"}, "selector.matchLabels": pair("h%d"),
    **{f"rules.0.from.0.source.{w}": s(t) for w, t in (("principals", "p%d"), ("notPrincipals", "p%d"), ("requestPrincipals", "p%d/a"), ("notRequestPrincipals", "p%d/a"),
       ("namespaces", "n%d"), ("notNamespaces", "n%d"), ("serviceAccounts", "a%d"), ("notServiceAccounts", "a%d"))},
    **{f"rules.0.from.0.source.{w}": ip for w in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")},
    **{f"rules.0.to.0.operation.{w}": s(t) for w, t in (("hosts", "h%d.com"), ("notHosts", "h%d.com"), ("methods", "M%d"), ("notMethods", "M%d"), ("paths", "/p%d"), ("notPaths", "/p%d"))},
    **{f"rules.0.to.0.operation.{w}": lambda i: str(port(i)) for w in ("ports", "notPorts")},
})
for key in ("request.headers[a]", "source.ip", "remote.ip", "source.namespace", "source.principal", "request.auth.principal", "request.auth.audiences", "request.auth.claims[a]",
            "destination.ip", "destination.port", "connection.sni", "experimental.envoy.filters.a[b]"):
    value = ip if key.endswith("ip") else (lambda i: str(port(i))) if key.endswith("port") else s("a%d")
    for field in ("values", "notValues"):
        kind(f"AuthorizationPolicy {key}", in_spec("AuthorizationPolicy", {"rules": [{"when": [{"key": key}]}]}, api=SECURITY), **{f"rules.0.when.0.{field}": value})
case("AuthorizationPolicies", lambda x: [doc("AuthorizationPolicy", {"rules": [{"from": [{"source": {"namespaces": [f"n{i}"]}}]}]}, name=f"p{k}", api=SECURITY) for k, i in enumerate(x)])

RULES = {"jwtRules": [{"issuer": "a", "jwks": "{\"keys\":[]}"}]}
kind("RequestAuthentication", in_spec("RequestAuthentication", RULES, api=SECURITY), **{
    "jwtRules": lambda i: {"issuer": f"i{i}", "jwks": "{\"keys\":[]}"}, "jwtRules.0.audiences": s("a%d"), "jwtRules.0.fromHeaders": lambda i: {"name": f"h{i}"},
    "jwtRules.0.fromParams": s("a%d"), "jwtRules.0.fromCookies": s("a%d"), "jwtRules.0.outputClaimToHeaders": lambda i: {"header": f"x-h{i}", "claim": "a"},
    "jwtRules.0.spaceDelimitedClaims": s("c%d"), "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"},
    "selector.matchLabels": pair("h%d"),
})
case("RequestAuthentication.jwtRules headers", lambda x: doc("RequestAuthentication", {"jwtRules": [{"issuer": f"i{i}", "jwks": "{\"keys\":[]}", "outputClaimToHeaders": [
    {"header": f"x-h{i}", "claim": "a"}]} for i in x]}, api=SECURITY))
case("RequestAuthentication.jwtRules uris", lambda x: doc("RequestAuthentication", {"jwtRules": [{"issuer": f"i{i}", "jwksUri": f"https://127.0.0.1:1/{i}"} for i in x]}, api=SECURITY))
case("RequestAuthentications", lambda x: [doc("RequestAuthentication", {"jwtRules": [{"issuer": f"i{i}", "jwks": "{\"keys\":[]}"}]}, name=f"r{k}", api=SECURITY) for k, i in enumerate(x)])
kind("PeerAuthentication", in_spec("PeerAuthentication", {"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"}}, api=SECURITY), **{
    "portLevelMtls": lambda i: (str(port(i)), {"mode": "DISABLE"}), "selector.matchLabels": pair("h%d"),
})
case("PeerAuthentications", lambda x: [doc("PeerAuthentication", {"selector": {"matchLabels": {"x": f"{i}"}}, "mtls": {"mode": "STRICT"}}, name=f"p{k}", api=SECURITY) for k, i in enumerate(x)])

TELEMETRY = "telemetry.istio.io/v1"
kind("Telemetry", in_spec("Telemetry", {}, api=TELEMETRY), **{
    "tracing": lambda i: {"randomSamplingPercentage": i % 100}, "metrics": lambda i: {"providers": [{"name": f"p{i}"}]}, "accessLogging": lambda i: {"providers": [{"name": f"p{i}"}]},
    "tracing.0.providers": lambda i: {"name": f"p{i}"}, "tracing.0.customTags": pair("t%d", {"literal": {"value": "a"}}), "metrics.0.providers": lambda i: {"name": f"p{i}"},
    "metrics.0.overrides": lambda i: {"match": {"customMetric": f"m{i}"}, "tagOverrides": {"a": {"value": "'x'"}}},
    "metrics.0.overrides.0.tagOverrides": pair("t%d", {"value": "'x'"}), "accessLogging.0.providers": lambda i: {"name": f"p{i}"},
    "selector.matchLabels": pair("h%d"), "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"},
})
case("Telemetry.metrics overrides", lambda x: doc("Telemetry", {"metrics": [{"providers": [{"name": "prometheus"}], "overrides": [
    {"match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"}, "tagOverrides": {f"t{i}": {"value": "'x'"}}} for i in x]}]}, api=TELEMETRY))
case("Telemetry.accessLogging envoy", lambda x: doc("Telemetry", {"accessLogging": [{"providers": [{"name": "envoy"}], "filter": {"expression": f"response.code == {i}"}} for i in x]}, api=TELEMETRY))
case("Telemetries", lambda x: [doc("Telemetry", {"selector": {"matchLabels": {"x": f"{i}"}}, "tracing": [{}]}, name=f"p{k}", api=TELEMETRY) for k, i in enumerate(x)])

kind("WasmPlugin", in_spec("WasmPlugin", {"url": "file:///a.wasm"}, api="extensions.istio.io/v1alpha1"), **{
    "match": lambda i: {"ports": [{"number": port(i)}]}, "match.0.ports": lambda i: {"number": port(i)}, "vmConfig.env": lambda i: {"name": f"E{i}", "value": "a"},
    "pluginConfig": pair("k%d"), "selector.matchLabels": pair("h%d"), "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"},
})
case("WasmPlugins", lambda x: [doc("WasmPlugin", {"url": f"file:///a{i}.wasm"}, name=f"p{k}", api="extensions.istio.io/v1alpha1") for k, i in enumerate(x)])
kind("TrafficExtension", in_spec("TrafficExtension", {"wasm": {"url": "file:///a.wasm"}}, api="extensions.istio.io/v1alpha1"), **{
    "match": lambda i: {"ports": [{"number": port(i)}]}, "match.0.ports": lambda i: {"number": port(i)},
    "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"},
})

ALPHA = "networking.istio.io/v1alpha3"


def patch(to, match_, value, operation="MERGE"):
    return {"applyTo": to, "match": {"context": "ANY", **match_}, "patch": {"operation": operation, "value": value}}


TIMEOUT = {"connect_timeout": "3s"}
kind("EnvoyFilter", in_spec("EnvoyFilter", {"configPatches": [patch("CLUSTER", {}, TIMEOUT)]}, api=ALPHA), **{
    "configPatches": lambda i: patch("CLUSTER", {}, {"connect_timeout": f"{i + 1}s"}), "configPatches.0.match.proxy.metadata": pair("h%d"),
    "workloadSelector.labels": pair("h%d"), "targetRefs": lambda i: {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": f"g{i}"},
    "configPatches.0.patch.value.metadata.filter_metadata": pair("k%d", {"a": 1}),
})
EXTRA = {
    "HTTP_FILTER": ({}, {"name": "lua%d", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}}, "INSERT_BEFORE"),
    "NETWORK_FILTER": ({}, {"name": "x%d", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "b"}}, "INSERT_BEFORE"),
    "CLUSTER": ({}, {"name": "c%d", "type": "STATIC"}, "ADD"),
    "LISTENER": ({}, {"name": "l%d", "address": {"socket_address": {"address": "1.1.1.1", "port_value": 9}}}, "ADD"),
    "VIRTUAL_HOST": ({}, {"name": "v%d", "domains": ["v%d"]}, "ADD"),
    "HTTP_ROUTE": ({}, {"name": "v%d", "match": {"prefix": "/v%d"}, "direct_response": {"status": 200}}, "INSERT_FIRST"),
    "FILTER_CHAIN": ({}, {"name": "f%d", "filter_chain_match": {"destination_port": 9}}, "ADD"),
}
for to, (match_, value, operation) in EXTRA.items():
    case(f"EnvoyFilter {operation} {to}", lambda x, to=to, m=match_, v=value, o=operation: doc("EnvoyFilter", {"configPatches": [
        patch(to, m, json.loads(json.dumps(v).replace("%d", str(i))), o) for i in x]}, api=ALPHA))
case("EnvoyFilter of patches that proxies refuse", lambda x: [doc("EnvoyFilter", {"configPatches": [patch("CLUSTER", {}, {"outlier_detection": {"max_ejection_percent": i + 101}}) for i in x[:500]]},
     api=ALPHA)] + [kube("Service", {"spec": {"clusterIP": ip(k), "ports": PORT}}, name=f"s{k}") for k in range(len(x) // 10)])
case("EnvoyFilters", lambda x: [doc("EnvoyFilter", {"configPatches": [patch("CLUSTER", {}, {"connect_timeout": f"{i + 1}s"})]}, name=f"e{k}", api=ALPHA) for k, i in enumerate(x)])
case("EnvoyFilters of routes", lambda x: [doc("EnvoyFilter", {"configPatches": [patch("HTTP_ROUTE", {}, {"name": f"r{i}"})]}, name=f"e{k}", api=ALPHA) for k, i in enumerate(x)])
case("EnvoyFilter.big lists merged", lambda x: doc("EnvoyFilter", {"configPatches": [patch("CLUSTER", {}, {"health_checks": [
    {"timeout": "1s", "interval": f"{i + 1}s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {}} for i in x]})]}, api=ALPHA))

PORT = [{"name": "http", "port": 80}]


def service(path, values):
    tree = kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": list(PORT)}})
    put(tree, path, values)
    return tree


kind("Service", service, **{
    "spec.ports": lambda i: {"name": f"p{i}", "port": port(i)}, "spec.selector": pair("h%d"), "spec.externalIPs": lambda i: ip(i), "spec.clusterIPs": lambda i: ip(i),
    "status.loadBalancer.ingress": lambda i: {"ip": ip(i)}, "metadata.labels": pair("h%d"), "metadata.annotations": pair("h%d"),
    "metadata.ownerReferences": lambda i: {"name": f"o{i}", "kind": "A"}, "spec.ipFamilies": lambda i: "IPv4",
})
case("Service.spec.ports http", lambda x: kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": [{"name": f"http-{i}", "port": port(i)} for i in x]}}))
case("Service.spec.ports headless", lambda x: kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "None", "ports": [{"name": f"p{i}", "port": port(i)} for i in x]}}))
case("Service.spec.ports no selector", lambda x: kube("Service", {"spec": {"clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i), "targetPort": port(i)} for i in x]}}))
case("Service exportTo", lambda x: kube("Service", {"spec": {"clusterIP": "10.9.0.9", "ports": PORT}}, annotations={"networking.istio.io/exportTo": ",".join(f"n{i}" for i in x)}))
case("Service.spec.ports of one target", lambda x: kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i), "targetPort": 80} for i in x]}}))
case("Service.spec.ports and routes", lambda x: [kube("Service", {"spec": {"clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i)} for i in x]}}),
    doc("VirtualService", {**HTTP, "http": [{"match": [match(i)], "route": [{"destination": {"host": "big", "port": {"number": port(i)}}}]} for i in x]}, name="r"),
    doc("Sidecar", {"egress": [{"hosts": ["./web.t.svc.cluster.local"]}]})])
case("Service.spec.ports and portLevelMtls", lambda x: [kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i)} for i in x]}}),
    doc("PeerAuthentication", {"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {str(port(i)): {"mode": "DISABLE"} for i in x}}, api="security.istio.io/v1")])
case("Service.spec.ports and portLevelSettings", lambda x: [kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i)} for i in x]}}),
    doc("DestinationRule", {**RULE, "host": "big", "trafficPolicy": {"portLevelSettings": [{"port": {"number": port(i)}, "connectionPool": {"tcp": {"maxConnections": 5}}} for i in x[:4096]]}})])
case("Service.spec.ports and subsets", lambda x: [kube("Service", {"spec": {"clusterIP": "10.9.0.9", "ports": [{"name": f"p{i}", "port": port(i)} for i in x]}}),
    doc("DestinationRule", {**RULE, "host": "big", "subsets": [{"name": f"s{i}"} for i in x]})])
case("DestinationRule.subsets of all", lambda x: [doc("DestinationRule", {"host": "*", "subsets": [{"name": f"s{i}"} for i in x[:len(x) // 2]]})] + [
    kube("Service", {"spec": {"clusterIP": ip(i), "ports": PORT}}, name=f"s{k}") for k, i in enumerate(x[::4])])
case("Services of one port and pod", lambda x: [kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": ip(i), "ports": [{"name": "http", "port": 80}]}}, name=f"s{k}") for k, i in enumerate(x)])
case("Services", lambda x: [kube("Service", {"spec": {"selector": {"app": "web"}, "ports": PORT}}, name=f"s{k}") for k, i in enumerate(x)])
case("Services of one address", lambda x: [kube("Service", {"spec": {"selector": {"app": "web"}, "clusterIP": "10.9.0.9", "ports": PORT}}, name=f"s{k}") for k, i in enumerate(x)])
case("Services by ExternalName", lambda x: [kube("Service", {"spec": {"type": "ExternalName", "externalName": "web.t.svc.cluster.local", "ports": PORT}}, name=f"s{k}") for k, i in enumerate(x)])
case("Services by ExternalName in a row", lambda x: [kube("Service", {"spec": {"type": "ExternalName", "externalName": f"s{k + 1}.t.svc.cluster.local"}}, name=f"s{k}") for k, i in enumerate(x)])
case("Services by ExternalName of tcp", lambda x: [kube("Service", {"spec": {"type": "ExternalName", "externalName": f"e{i}.com", "ports": [{"name": "tcp", "port": 90}]}}, name=f"s{k}") for k, i in enumerate(x)])


def slice_(path, values):
    tree = kube("EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.1.1"]}], "ports": list(PORT)}, api="discovery.k8s.io/v1",
                labels={"kubernetes.io/service-name": "web"})
    put(tree, path, values)
    return tree


kind("EndpointSlice", slice_, **{
    "endpoints": lambda i: {"addresses": [ip(i)]}, "endpoints.0.addresses": ip, "ports": lambda i: {"name": f"p{i}", "port": port(i)}, "metadata.labels": pair("h%d"),
})
case("EndpointSlice.ports and endpoints", lambda x: kube("EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": [ip(i)]} for i in x[::2]], "ports": [
    {"name": f"p{i}", "port": port(i)} for i in x[::2]]}, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "web"}))
case("EndpointSlice.ports and Service", lambda x: [kube("EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": [ip(i)]} for i in range(100)], "ports": [
    {"name": f"p{i}", "port": port(i)} for i in x]}, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "big"}), service("spec.ports", [{"name": f"p{i}", "port": port(i)} for i in x])])
case("EndpointSlice.endpoints of pods", lambda x: kube("EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": [ip(i)], "targetRef": {"kind": "Pod", "name": f"p{i}", "namespace": "t"}} for i in x],
    "ports": PORT}, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "web"}))
case("EndpointSlices", lambda x: [kube("EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": [ip(i)]}], "ports": PORT}, api="discovery.k8s.io/v1", name=f"e{k}",
    labels={"kubernetes.io/service-name": "web"}) for k, i in enumerate(x)])


def endpoints(path, values):
    tree = kube("Endpoints", {"subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": list(PORT)}]}, name="web")
    put(tree, path, values)
    return tree


kind("Endpoints", endpoints, **{
    "subsets": lambda i: {"addresses": [{"ip": ip(i)}], "ports": PORT}, "subsets.0.addresses": lambda i: {"ip": ip(i)}, "subsets.0.notReadyAddresses": lambda i: {"ip": ip(i)},
    "subsets.0.ports": lambda i: {"name": f"p{i}", "port": port(i)},
})


def pod(path, values, name="big", labels=None):
    tree = kube("Pod", {"spec": {"serviceAccountName": "a", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]}, "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [
        {"ip": "10.1.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]}}, name=name, labels=labels or {"app": "web"})
    put(tree, path, values)
    return tree


kind("Pod", pod, **{
    "spec.containers": lambda i: {"name": f"c{i}", "ports": [{"name": f"p{i}", "containerPort": port(i)}]}, "spec.containers.0.ports": lambda i: {"name": f"p{i}", "containerPort": port(i)},
    "spec.initContainers": lambda i: {"name": f"c{i}"}, "status.conditions": lambda i: {"type": f"c{i}", "status": "True"}, "status.podIPs": lambda i: {"ip": ip(i)},
    "metadata.labels": pair("h%d"), "metadata.annotations": pair("h%d"), "metadata.ownerReferences": lambda i: {"name": f"o{i}", "kind": "A"},
})
case("Pods", lambda x: [kube("Pod", {"spec": {"containers": [{"name": "c"}]}, "status": {"podIP": ip(i), "conditions": [{"type": "Ready", "status": "True"}]}}, name=f"p{k}", labels={"app": "web"}) for k, i in enumerate(x)])
case("Pods and ports of a Service", lambda x: [service("spec.ports", [{"name": f"p{i}", "port": port(i), "targetPort": f"http{i}"} for i in x]), pod("spec.containers.0.ports", [
    {"name": f"http{i}", "containerPort": port(i)} for i in x])])
case("Nodes", lambda x: [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{k}"}, "status": {"addresses": [{"type": "InternalIP", "address": ip(i)}]}} for k, i in enumerate(x)])
case("Node.status.addresses", lambda x: {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"addresses": [{"type": "ExternalIP", "address": ip(i)} for i in x]}})
case("Node.metadata.labels", lambda x: {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {f"h{i}": "v" for i in x}}})
case("Namespaces", lambda x: [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{k}", "labels": {"a": f"{i}"}}} for k, i in enumerate(x)])
case("Namespace.metadata.labels", lambda x: {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t", "labels": {f"h{i}": "v" for i in x}}})
case("Secret.data", lambda x: kube("Secret", {"data": {f"h{i}": "YQ==" for i in x}}, name="c"))
case("Secret.data.ca.crt", lambda x: kube("Secret", {"stringData": {"ca.crt": "".join(f"-----BEGIN CERTIFICATE-----\nYWFh{i}\n-----END CERTIFICATE-----\n" for i in x)}}, name="c"))
case("Secrets", lambda x: [kube("Secret", {"stringData": {"tls.crt": f"{i}", "tls.key": "b"}}, name=f"c{k}") for k, i in enumerate(x)])
case("ConfigMap.data", lambda x: kube("ConfigMap", {"data": {f"h{i}": "a" for i in x}}, name="c"))
case("ConfigMaps", lambda x: [kube("ConfigMap", {"data": {"ca.crt": f"{i}"}}, name=f"c{k}") for k, i in enumerate(x)])

BACK = {"service": {"name": "web", "port": {"number": 80}}}
INGRESS = {"ingressClassName": "istio", "rules": [{"host": "i.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACK}]}}]}
kind("Ingress", in_spec("Ingress", INGRESS, api="networking.k8s.io/v1"), **{
    "rules": lambda i: {"host": f"h{i}.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACK}]}}, "tls": lambda i: {"hosts": ["i.com"], "secretName": f"c{i}"},
    "rules.0.http.paths": lambda i: {"path": f"/a{i}", "pathType": "Prefix", "backend": BACK}, "tls.0.hosts": s("h%d.com"),
})
case("Ingresses", lambda x: [doc("Ingress", {**INGRESS, "rules": [{"host": f"h{i}.com", "http": INGRESS["rules"][0]["http"]}]}, name=f"i{k}", api="networking.k8s.io/v1") for k, i in enumerate(x)])
case("Ingresses of one host", lambda x: [doc("Ingress", {**INGRESS, "rules": [{"host": "i.com", "http": {"paths": [{"path": f"/a{i}", "pathType": "Exact", "backend": BACK}]}}]}, name=f"i{k}",
                                             api="networking.k8s.io/v1") for k, i in enumerate(x)])

API = "gateway.networking.k8s.io/v1"
LISTENER = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
K8S_GATEWAY = {"gatewayClassName": "istio", "listeners": [LISTENER]}
TLS_LISTENER = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Terminate", "certificateRefs": [{"name": "c"}]}}
kind("KubernetesGateway", in_spec("Gateway", K8S_GATEWAY, api=API), **{
    "listeners": lambda i: {**LISTENER, "name": f"l{i}", "hostname": f"h{i}.com"}, "addresses": lambda i: {"value": ip(i)}, "listeners.0.allowedRoutes.kinds": lambda i: {"kind": f"K{i}"},
    "listeners.0.allowedRoutes.namespaces.selector.matchLabels": pair("h%d"),
    "listeners.0.allowedRoutes.namespaces.selector.matchExpressions": lambda i: {"key": f"h{i}", "operator": "Exists"},
    "infrastructure.labels": pair("h%d"), "infrastructure.annotations": pair("h%d"),
})
case("KubernetesGateway.listeners of ports", lambda x: doc("Gateway", {**K8S_GATEWAY, "listeners": [{**LISTENER, "name": f"l{i}", "port": port(i)} for i in x]}, api=API))
case("KubernetesGateway.listeners https", lambda x: doc("Gateway", {**K8S_GATEWAY, "listeners": [{**TLS_LISTENER, "name": f"l{i}", "hostname": f"h{i}.com"} for i in x]}, api=API))
case("KubernetesGateway.certificateRefs", lambda x: doc("Gateway", {**K8S_GATEWAY, "listeners": [{**TLS_LISTENER, "tls": {"certificateRefs": [{"name": f"c{i}"} for i in x]}}]}, api=API))
case("KubernetesGateways", lambda x: [doc("Gateway", {**K8S_GATEWAY, "listeners": [{**LISTENER, "hostname": f"h{i}.com"}]}, name=f"g{k}", api=API) for k, i in enumerate(x)])
case("ListenerSet.listeners", lambda x: [doc("Gateway", {**K8S_GATEWAY, "allowedListeners": {"namespaces": {"from": "All"}}}, name="k", api=API),
     doc("ListenerSet", {"parentRef": {"name": "k"}, "listeners": [{"name": f"l{i}", "port": 80, "protocol": "HTTP", "hostname": f"h{i}.com"} for i in x]}, api=API)])
case("ListenerSets", lambda x: [doc("Gateway", {**K8S_GATEWAY, "allowedListeners": {"namespaces": {"from": "All"}}}, name="k", api=API)] + [
     doc("ListenerSet", {"parentRef": {"name": "k"}, "listeners": [{"name": f"l{i}", "port": 80, "protocol": "HTTP", "hostname": f"h{i}.com"}]}, name=f"l{k}", api=API) for k, i in enumerate(x)])

TO = [{"name": "web", "port": 80}]


def at_gateway(kind_, spec):
    one = in_spec(kind_, {"parentRefs": [{"name": "k"}], **spec}, api=API if kind_ in ("HTTPRoute", "GRPCRoute") else API)
    gateway = doc("Gateway", {**K8S_GATEWAY, "listeners": [LISTENER, {"name": "tcp", "port": 90, "protocol": "TCP"}, {"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}]},
                  name="k", api=API)
    return lambda path, values: [gateway, one(path, values)]


kind("HTTPRoute", at_gateway("HTTPRoute", {"hostnames": ["a.com"], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": TO}]}), **{
    "parentRefs": lambda i: {"name": f"k{i}"}, "hostnames": s("h%d.com"), "rules": lambda i: {"matches": [{"path": {"type": "PathPrefix", "value": f"/a{i}"}}], "backendRefs": TO},
    "rules.0.matches": lambda i: {"path": {"type": "PathPrefix", "value": f"/a{i}"}}, "rules.0.backendRefs": lambda i: {"name": f"b{i}", "port": 80},
    "rules.0.filters": lambda i: {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": f"h{i}", "value": "a"}]}},
    "rules.0.matches.0.headers": lambda i: {"name": f"h{i}", "value": "a"}, "rules.0.matches.0.queryParams": lambda i: {"name": f"h{i}", "value": "a"},
    "rules.0.retry.codes": lambda i: 500 + i % 100, "rules.0.filters.0": lambda i: ("type", "x"),
})
for what, value in (("set", lambda i: {"name": f"h{i}", "value": "a"}), ("add", lambda i: {"name": f"h{i}", "value": "a"}), ("remove", s("h%d"))):
    case(f"HTTPRoute.rules.0.filters.0.{what}", lambda x, what=what, value=value: at_gateway("HTTPRoute", {})("rules", [{"backendRefs": TO, "filters": [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {what: [value(i) for i in x]}}]}]))
for what in ("allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders"):
    case(f"HTTPRoute.rules.0.filters.0.cors.{what}", lambda x, what=what: at_gateway("HTTPRoute", {})("rules", [{"backendRefs": TO, "filters": [
        {"type": "CORS", "cors": {what: [f"http://h{i}" for i in x]}}]}]))
case("HTTPRoute.rules.0.filters mirrors", lambda x: at_gateway("HTTPRoute", {})("rules", [{"backendRefs": TO, "filters": [
    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": f"b{i}", "port": 80}}} for i in x]}]))
case("HTTPRoutes of one host", lambda x: at_gateway("HTTPRoute", {"rules": [{"backendRefs": TO}]})("hostnames", ["a.com"]) + [
    doc("HTTPRoute", {"parentRefs": [{"name": "k"}], "hostnames": ["a.com"], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": f"/a{i}"}}], "backendRefs": TO}]}, name=f"r{k}", api=API)
    for k, i in enumerate(x)])
case("HTTPRoutes of a service", lambda x: [
    doc("HTTPRoute", {"parentRefs": [{"name": "web", "kind": "Service", "group": ""}], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": f"/a{i}"}}], "backendRefs": TO}]}, name=f"r{k}", api=API)
    for k, i in enumerate(x)])
case("HTTPRoutes of listeners", lambda x: [doc("Gateway", {**K8S_GATEWAY, "listeners": [{**LISTENER, "name": f"l{i}", "hostname": f"h{i}.com"} for i in x]}, name="k", api=API)] + [
    doc("HTTPRoute", {"parentRefs": [{"name": "k"}], "rules": [{"backendRefs": TO}]}, name=f"r{k}", api=API) for k, i in enumerate(x)])
kind("GRPCRoute", at_gateway("GRPCRoute", {"hostnames": ["a.com"], "rules": [{"matches": [{"method": {"service": "a"}}], "backendRefs": TO}]}), **{
    "parentRefs": lambda i: {"name": f"k{i}"}, "hostnames": s("h%d.com"), "rules": lambda i: {"matches": [{"method": {"service": f"a{i}"}}], "backendRefs": TO},
    "rules.0.matches": lambda i: {"method": {"service": f"a{i}"}}, "rules.0.backendRefs": lambda i: {"name": f"b{i}", "port": 80}, "rules.0.matches.0.headers": lambda i: {"name": f"h{i}", "value": "a"},
})
for kind_ in ("TCPRoute", "TLSRoute"):
    kind(kind_, at_gateway(kind_, {"rules": [{"backendRefs": TO}]}), **{
        "parentRefs": lambda i: {"name": f"k{i}"}, "hostnames": s("h%d.com"), "rules": lambda i: {"backendRefs": [{"name": f"b{i}", "port": 80}]},
        "rules.0.backendRefs": lambda i: {"name": f"b{i}", "port": 80},
    })
kind("ReferenceGrant", in_spec("ReferenceGrant", {"from": [{"group": API, "kind": "HTTPRoute", "namespace": "o"}], "to": [{"kind": "Service", "group": ""}]}, api="gateway.networking.k8s.io/v1beta1"), **{
    "from": lambda i: {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": f"n{i}"}, "to": lambda i: {"group": "", "kind": "Service", "name": f"s{i}"},
})
case("ReferenceGrants and references", lambda x: at_gateway("HTTPRoute", {})("rules", [{"backendRefs": [{"name": "web", "namespace": "o", "port": 80} for i in x]}]) + [
    doc("ReferenceGrant", {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": f"n{i}"} for i in x], "to": [{"kind": "Service", "group": ""}]}, ns="o", api="gateway.networking.k8s.io/v1beta1")])
kind("BackendTLSPolicy", in_spec("BackendTLSPolicy", {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "validation": {"hostname": "a.com", "wellKnownCACertificates": "System"}}, api=API), **{
    "targetRefs": lambda i: {"group": "", "kind": "Service", "name": f"s{i}"}, "validation.subjectAltNames": lambda i: {"type": "Hostname", "hostname": f"h{i}.com"},
    "validation.caCertificateRefs": lambda i: {"group": "", "kind": "ConfigMap", "name": f"c{i}"},
})
case("BackendTLSPolicies", lambda x: [doc("BackendTLSPolicy", {"targetRefs": [{"group": "", "kind": "Service", "name": "web", "sectionName": f"s{i}"}], "validation": {"hostname": "a.com", "wellKnownCACertificates": "System"}},
    name=f"b{k}", api=API) for k, i in enumerate(x)])
case("GatewayClasses", lambda x: [{"apiVersion": API, "kind": "GatewayClass", "metadata": {"name": f"c{k}"}, "spec": {"controllerName": "istio.io/gateway-controller"}} for k, i in enumerate(x)])


def mesh(path, values):
    tree = {}
    put(tree, path, values)
    return {"mesh": tree}


kind("MeshConfig", mesh, **{
    "extensionProviders": lambda i: {"name": f"p{i}", "zipkin": {"service": "web.t.svc.cluster.local", "port": 80}}, "defaultProviders.tracing": s("p%d"), "defaultProviders.metrics": s("p%d"),
    "defaultProviders.accessLogging": s("p%d"), "trustDomainAliases": s("d%d"), "discoverySelectors": lambda i: {"matchLabels": {"a": f"{i}"}},
    "discoverySelectors.0.matchExpressions": lambda i: {"key": f"h{i}", "operator": "Exists"}, "defaultServiceExportTo": s("n%d"), "defaultVirtualServiceExportTo": s("n%d"),
    "defaultDestinationRuleExportTo": s("n%d"), "defaultConfig.tracing.customTags": pair("t%d", {"literal": {"value": "a"}}), "defaultConfig.proxyMetadata": pair("H%d"),
    "defaultConfig.proxyStatsMatcher.inclusionPrefixes": s("p%d"), "defaultConfig.extraStatTags": s("t%d"), "defaultConfig.runtimeValues": pair("t%d"),
    "meshMTLS.cipherSuites": s("C%d"), "tlsDefaults.ecdhCurves": s("C%d"), "serviceSettings": lambda i: {"settings": {"clusterLocal": True}, "hosts": [f"h{i}.com"]},
})

WORLD = [
    kube("Service", {"spec": {"clusterIP": "10.9.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}, {"name": "tcp", "port": 90}]}}, name="web"),
    pod("metadata.annotations", {}, name="p"),
    doc("VirtualService", {"hosts": ["web"], "http": [{"timeout": "7s", "route": ROUTE}]}, name="others"),
    doc("Gateway", {"selector": EDGE, "servers": [SERVER, {"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["*"], "tls": {"mode": "PASSTHROUGH"}},
                                                  {"port": {"number": 90, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}]}, name="edge"),
    {"apiVersion": API, "kind": "GatewayClass", "metadata": {"name": "istio"}, "spec": {"controllerName": "istio.io/gateway-controller"}},
]
NODES = {
    "sidecar": {"id": "sidecar~10.1.0.1~p.t~t.svc.cluster.local", "metadata": {"NAMESPACE": "t", "LABELS": {"app": "web"}}},
    "gateway": {"id": "router~10.1.0.2~g.t~t.svc.cluster.local", "metadata": {"NAMESPACE": "t", "LABELS": {**EDGE, "gateway.networking.k8s.io/gateway-name": "k"}}},
}


def documents(name, how, size):
    """Of a case as many elements as make @size bytes. `how`: "distinct" or "equal"."""
    which = (lambda i: i) if how == "distinct" else (lambda i: 0)
    few, many = (sum(len(json.dumps(d)) for d in CASES[name](n, which)) for n in (200, 1200))
    return CASES[name](int(size / max((many - few) / 1000, 4)), which)


def files(docs):
    """What mizzend reads, by name: what all cases share, and @docs."""
    own = {"world.yaml": WORLD, "big.yaml": [d for d in docs if "mesh" not in d]}
    mesh_configs = {"mesh.yaml": json.dumps(d["mesh"]) for d in docs if "mesh" in d}
    return {**{name: "\n---\n".join(json.dumps(d) for d in v) for name, v in own.items()}, **mesh_configs}
