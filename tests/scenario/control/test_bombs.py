"""Documents of tenants that want time or memory without bound: refused by name and limit, or served within bounds; others go on (H01-H03, E12)."""
import resource
import subprocess

import pytest

import control
from wire import until

SANITIZED = control.MIZZEND.exists() and b"__asan_init" in control.MIZZEND.read_bytes()
CTL = control.MIZZEND.with_name("mizzenctl")
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
NODE = '{"id": "sidecar~10.1.0.1~p.t~t.svc.cluster.local", "metadata": {"NAMESPACE": "t", "LABELS": {"app": "web"}}}'
EDGE = '{"id": "router~10.1.0.2~g.t~t.svc.cluster.local", "metadata": {"NAMESPACE": "t", "LABELS": {"istio": "edge"}}}'
OTHERS = """apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: others, namespace: t}
spec: {hosts: [web], http: [{timeout: 7s, route: [{destination: {host: web}}]}]}
"""
ROUTE = "route: [{destination: {host: web}}]"


def doc(kind, spec, name="bomb", group="networking.istio.io/v1"):
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: t}}\nspec: {{{spec}}}\n"


def each(n, text):
    return ", ".join(text % i for i in range(1, n + 1))


def address(i):
    return f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"


def entry(hosts=1, ports=1, addresses=0, endpoints=0):
    return doc("ServiceEntry", "resolution: STATIC, hosts: [%s], ports: [%s]%s%s" % (
        each(hosts, "a%d.com"), ", ".join(f"{{number: {i}, name: p{i}, protocol: HTTP}}" for i in range(1, ports + 1)),
        f", addresses: [{', '.join(address(i) for i in range(addresses))}]" if addresses else "",
        f", endpoints: [{', '.join(f'{{address: {address(i)}}}' for i in range(endpoints))}]" if endpoints else ""))


def services(n):
    return "".join(f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: t}}\nspec: {{clusterIP: {address(i)}, ports: [{{name: http, port: 80}}]}}\n---\n"
                   for i in range(1, n + 1))


def entries(n, protocol):
    return "".join(doc("ServiceEntry", f"resolution: STATIC, hosts: [e{i}.com], ports: [{{number: {10000 + i}, name: a, protocol: {protocol}}}], endpoints: [{{address: 10.7.7.7}}]",
                       name=f"e{i}") + "---\n" for i in range(1, n + 1))


LUA = "name: envoy.filters.http.lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}"


def patch(to, value, operation="MERGE"):
    return f"{{applyTo: {to}, match: {{context: ANY}}, patch: {{operation: {operation}, value: {{{value}}}}}}}"


def patches(n, one):
    return doc("EnvoyFilter", f"configPatches: [{', '.join(one(i) for i in range(n))}]", group="networking.istio.io/v1alpha3")


def endpoints(n):
    return ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web, namespace: t, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n"
            f"ports: [{{name: http, port: 80}}]\nendpoints: [{', '.join(f'{{addresses: [{address(i)}]}}' for i in range(n))}]\n---\n")


def pod(i):
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}, namespace: t, labels: {{a: b}}}}\nstatus: {{phase: Running, podIP: {address(i)}}}\n"


def gateway(hosts):
    return doc("Gateway", f"selector: {{istio: edge}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{each(hosts, 'h%d.com')}]}}]", name="edge") + "---\n"


REFUSED = {
    "hosts": (entry(hosts=257), "ServiceEntry/t/bomb: spec.hosts: has 257 items, at most 256 may be"),
    "ports": (entry(ports=65000), "ServiceEntry/t/bomb: spec.ports: has 65000 items, at most 256 may be"),
    "addresses": (entry(addresses=257), "ServiceEntry/t/bomb: spec.addresses: has 257 items, at most 256 may be"),
    "endpoints": (entry(endpoints=65000), "ServiceEntry/t/bomb: spec.endpoints: has 65000 items, at most 4096 may be"),
    "listeners": (entry(hosts=200, ports=100), "ServiceEntry/t/bomb: spec.ports: hosts, ports and addresses multiply to 20000, at most 16384 may be"),
    "product": (entry(hosts=2, ports=50, endpoints=4000), "ServiceEntry/t/bomb: spec.endpoints: hosts, ports and endpoints multiply to 400000, at most 262144 may be"),
    "ports of a service": ("apiVersion: v1\nkind: Service\nmetadata: {name: bomb, namespace: t}\nspec: {clusterIP: 10.9.0.2, ports: [%s]}\n" % each(
        16385, "{name: p%d, port: 80}"), "Service/t/bomb: spec.ports: has 16385 items, at most 16384 may be"),
    "ports of a policy": (doc("DestinationRule", "host: web, trafficPolicy: {portLevelSettings: [%s]}" % each(4097, "{port: {number: %d}, tls: {}}")),
                          "DestinationRule/t/bomb: spec.traffic_policy.port_level_settings: has 4097 items, at most 4096 may be"),
    "labels": (doc("DestinationRule", "host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [%s]}}}" % each(257, "l%d")),
               "DestinationRule/t/bomb: spec.traffic_policy.load_balancer.locality_lb_setting.failover_priority: has 257 items, at most 256 may be"),
    "shares": (doc("DestinationRule", "host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [%s]}}}" % each(1025, "{from: a%d, to: {b: 100}}")),
               "DestinationRule/t/bomb: spec.traffic_policy.load_balancer.locality_lb_setting.distribute: has 1025 items, at most 1024 may be"),
    "hosts of a route": (doc("VirtualService", f"hosts: [{each(10001, 'a%d.com')}], http: [{{{ROUTE}}}]"),
                         "VirtualService/t/bomb: spec.hosts: has 10001 items, at most 10000 may be"),
    "hosts and routes": (doc("VirtualService", f"hosts: [{each(3000, 'a%d.com')}], http: [{each(3000, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]"),
                         "VirtualService/t/bomb: spec.http: hosts and matches multiply to 9000000, at most 65536 may be"),
    "regex": (doc("VirtualService", f"hosts: [x], http: [{{match: [{{uri: {{regex: '{'(a|b)' * 200000}'}}}}], {ROUTE}}}]"),
              "VirtualService/t/bomb: spec.http[0].match[0].uri.regex: is longer than 1024 bytes"),
    "repetition": (doc("VirtualService", "hosts: [x], http: [{match: [{uri: {regex: '(((a{1,1000}){1,1000}){1,1000})'}}], " + ROUTE + "}]"),
                   "VirtualService/t/bomb: spec.http[0].match[0].uri.regex: invalid regex"),
    "aliases": ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)),
                "aliases unfold to too many values"),
    "depth": ("[" * 200000, "nested too deeply"),
    "patches": (doc("EnvoyFilter", f"configPatches: [{each(10000, '{applyTo: CLUSTER, match: {context: ANY}, patch: {operation: MERGE, value: {connect_timeout: %ds}}}')}]",
                    group="networking.istio.io/v1alpha3"), "EnvoyFilter/t/bomb: spec.config_patches: may have at most 500, has 10000"),
    "host": (doc("VirtualService", f"hosts: [{'a' * 1000000}], http: [{{{ROUTE}}}]"), "VirtualService/t/bomb: spec.hosts[0]:"),
    "name": (doc("VirtualService", f"hosts: [x], http: [{{{ROUTE}}}]", name="a" * 1000000), "metadata.name:"),
    "large": (doc("VirtualService", f"hosts: [x], http: [{{{ROUTE}, headers: {{request: {{set: {{x: {'a' * 1700000}}}}}}}}}]"),
              "VirtualService/t/bomb: spec: is 1700"),
    "delegates": ("---\n".join(doc("VirtualService", "%shttp: [{delegate: {name: d%d}}]" % ("" if i else "hosts: [x], ", (i + 1) % 50), name=f"d{i}")
                               for i in range(50)), "VirtualService/t/d1: spec.http[0].delegate: what is delegated cannot delegate"),
}
SERVED = {
    "routes": doc("VirtualService", f"hosts: [x], http: [{each(10000, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]"),
    "delegated": doc("VirtualService", f"hosts: [x], http: [{each(1500, '{match: [{uri: {prefix: /a%d}}], delegate: {name: leaf}}')}]", name="root") + "---\n"
    + doc("VirtualService", f"http: [{each(1500, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]", name="leaf"),
    "lists": doc("AuthorizationPolicy", "rules: [{from: [{source: {ipBlocks: [%s]}}], when: [{key: source.namespace, values: [%s]}]}]" % (
        ", ".join(f"10.{i >> 8}.{i & 255}.0/24" for i in range(20000)), each(10000, "n%d")), group="security.istio.io/v1"),
    "everything imported": doc("Sidecar", "egress: [{hosts: ['*/*', './*']}]"),
    "many documents": "---\n".join(doc("DestinationRule", f"host: a{i}.com", name=f"r{i}") for i in range(100000)),
    "faulty documents": "---\n".join(doc("DestinationRule", f"hots: a{i}.com", name=f"r{i}") for i in range(20000)),
    "maps merged": services(20) + patches(2, lambda i: patch("CLUSTER", "metadata: {filter_metadata: {%s}}" % each(10000, f"k{i}_%d: {{}}"))),
}


def run(args, seconds=6, mb=500):
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds * (8 if SANITIZED else 1),) * 2)
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (mb << 20, mb << 20))
    return subprocess.run(args, capture_output=True, text=True, preexec_fn=limit)


def bomb(tmp_path, text):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "bomb.yaml").write_text(text)
    (docs / "others.yaml").write_text(OTHERS)
    return docs


def others_are_served(tmp_path, docs):
    (tmp_path / "node.json").write_text(NODE)
    r = run([control.MIZZEND, "--mode", "dump", "-c", docs, "--node", tmp_path / "node.json", "--output", tmp_path / "out"])
    assert r.returncode == 0, f"{r.returncode} {r.stderr[-500:]}"
    assert '"7s"' in (tmp_path / "out" / "rds.json").read_text(), "the route of somebody else"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_limit(tmp_path, name):
    text, error = REFUSED[name]
    docs = bomb(tmp_path, text)
    r = run([control.MIZZEND, "--mode", "validate", "-c", docs])
    assert r.returncode == 1 and error in r.stdout, f"{r.returncode} {r.stdout[:600]} {r.stderr[-300:]}"
    others_are_served(tmp_path, docs)
    assert run([CTL, "analyze", docs / "bomb.yaml"]).returncode in (0, 65, 79)


@pytest.mark.parametrize("name", SERVED)
def test_served_within_bounds(tmp_path, name):
    docs = bomb(tmp_path, SERVED[name])
    assert run([control.MIZZEND, "--mode", "validate", "-c", docs]).returncode == (1 if name == "faulty documents" else 0)
    others_are_served(tmp_path, docs)
    assert run([CTL, "analyze", docs / "bomb.yaml"]).returncode in (0, 79)


MULTIPLIED = {
    "ports and subsets": ("apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: t}\nspec: {clusterIP: 10.9.0.2, ports: [%s]}\n---\n" % each(
        10000, "{name: p%d, port: %d}".replace("%d}", "80}")) + doc("DestinationRule", f"host: big, subsets: [{each(10000, '{name: s%d}')}]"),
        "DestinationRule/t/bomb: all but 6 subsets are left out of clusters of big.t.svc.cluster.local"),
    "endpoints": ("---\n".join(doc("WorkloadEntry", f"address: {address(i)}, labels: {{a: b}}", name=f"w{i}") for i in range(6000)) + "---\n"
                  + doc("ServiceEntry", "hosts: [a.com], resolution: STATIC, workloadSelector: {labels: {a: b}}, ports: [%s]" % ", ".join(
                      f"{{number: {i}, name: p{i}, protocol: HTTP}}" for i in range(1, 51))),
                  "a.com in t: of its endpoints all but 262144 are left out"),
    "selected": ("---\n".join(doc("WorkloadEntry", f"address: {address(i)}, labels: {{a: b}}", name=f"w{i}") for i in range(4000)) + "---\n" + "---\n".join(
        doc("ServiceEntry", f"hosts: [a{i}.com], resolution: STATIC, workloadSelector: {{labels: {{a: b}}}}, ports: [{{number: 80, name: a, protocol: HTTP}}]", name=f"e{i}")
        for i in range(300)), "services of this namespace have more than 524288"),
    "pods of Services": (services(2000).replace("ports:", "selector: {a: b}, ports:") + "---\n".join(pod(i) for i in range(2000)), "services of this namespace have more than 524288"),
    "WorkloadEntries of Services": (services(2000).replace("ports:", "selector: {a: b}, ports:") + "---\n".join(
        doc("WorkloadEntry", f"address: {address(i)}, labels: {{a: b}}", name=f"w{i}") for i in range(2000)), "services of this namespace have more than 524288"),
    "subsets and endpoints": (endpoints(10000) + doc("DestinationRule", f"host: web, subsets: [{each(200, '{name: s%d}')}]"),
                              "DestinationRule/t/bomb: endpoints of all but 26 subsets are left out of web.t.svc.cluster.local: subsets and endpoints multiply"),
    "subsets of nobody": (endpoints(10000) + doc("DestinationRule", f"host: web, subsets: [{each(8000, '{name: s%d, labels: {a: b}}')}]"),
                          "DestinationRule/t/bomb: endpoints of all but 420 subsets are left out of web.t.svc.cluster.local: subsets and endpoints multiply"),
    "subsets and names": (entry(endpoints=4000).replace("STATIC", "DNS").replace("name: bomb", "name: e") + "---\n" + doc(
        "DestinationRule", f"host: a1.com, subsets: [{each(2000, '{name: s%d}')}]"),
        "DestinationRule/t/bomb: endpoints of all but 65 subsets are left out of a1.com: subsets and endpoints multiply"),
    "subsets of a wildcard": (services(20) + doc("DestinationRule", f"host: '*.t.svc.cluster.local', subsets: [{each(17, '{name: u%d}')}]"),
                              "DestinationRule/t/bomb: all but 16 subsets are left out of clusters of s1.t.svc.cluster.local"),
    "refused patches": (services(2000) + patches(500, lambda i: patch("CLUSTER", f"connect_timeout: {i + 1}s" if i % 60 else "outlier_detection: {max_ejection_percent: 101}")),
                        "spec.config_patches[420] is not applied to outbound|80||s1.t.svc.cluster.local, nor are those behind it: proxies would refuse it: outlier_detection.max_ejection_percent"),
    "refused patches of listeners": (services(20) + patches(500, lambda i: patch("LISTENER", f"per_connection_buffer_limit_bytes: {i + 1}" if i % 60 else "connection_balance_config: {}")),
                                     ", nor are those behind it: proxies would refuse one of them: connection_balance_config"),
    "patches of much text, and refused": (services(200) + patches(500, lambda i: patch(
        "CLUSTER", "outlier_detection: {max_ejection_percent: 101}" if i % 100 == 7 else "metadata: {filter_metadata: {a: {b: '%s'}}}" % ("x" * 100))), "proxies would refuse it"),
    "patches on what others made": (entries(300, "HTTP") + patches(500, lambda i: patch("HTTP_FILTER", LUA, "INSERT_FIRST" if i < 250 else "MERGE")),
                                    " and those behind it are left out of 0.0.0.0_10001: patches and what they are about multiply"),
    "patches of all routes": (services(2000) + patches(500, lambda i: patch("HTTP_ROUTE", f"name: r{i}, match: {{prefix: /v{i}}}, direct_response: {{status: 200}}", "INSERT_FIRST")),
                              " and those behind it are left out of 80: patches and what they are about multiply"),
    "a large patch of all clusters": (services(2000) + patches(1, lambda i: patch("CLUSTER", "metadata: {filter_metadata: {a: {b: '%s'}}}" % ("x" * 700000))),
                                      "EnvoyFilter/t/bomb: spec.config_patches[0] and those behind it are left out of outbound|80||s1.t.svc.cluster.local: patches and what"),
    "routes under a wildcard": (services(500) + doc("VirtualService", f"hosts: ['*.t.svc.cluster.local'], http: [{each(3000, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]"),
                                "VirtualService/t/bomb: all but 128 routes are left out of s1.t.svc.cluster.local: hosts, ports and routes multiply"),
    "routes at many ports": ("apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: t}\nspec: {clusterIP: 10.9.0.2, ports: [%s]}\n---\n" % ", ".join(
        f"{{name: http-{i}, port: {i}}}" for i in range(1, 3001)) + doc("VirtualService", f"hosts: [big], http: [{each(3000, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]"),
        "VirtualService/t/bomb: all but 87 routes are left out of big.t.svc.cluster.local: hosts, ports and routes multiply"),
    "wildcards of many documents": (services(2500) + "---\n".join(doc("VirtualService", "hosts: ['*.t.svc.cluster.local'], http: [{%s}]" % ROUTE, name=f"v{i}") for i in range(1400)),
                                    ""),
}
AT_EDGE = {
    "hosts and routes": (gateway(2000) + doc("VirtualService", f"gateways: [edge], hosts: ['*'], http: [{each(40, '{match: [{uri: {prefix: /a%d}}], ' + ROUTE + '}')}]"),
                         "VirtualService/t/bomb: its routes are left out of hosts of http.80: hosts and routes multiply to more than 65536"),
    "ports and subsets": (doc("Gateway", "selector: {istio: edge}, servers: [%s]" % ", ".join(
        f"{{port: {{number: {20000 + i}, name: p{i}, protocol: TLS}}, hosts: ['*.local'], tls: {{mode: AUTO_PASSTHROUGH}}}}" for i in range(100)), name="edge") + "---\n"
        + doc("DestinationRule", f"host: web, subsets: [{each(3000, '{name: s%d}')}]"),
        "Gateway/t/edge: services are left out of 0.0.0.0_20044: servers, services and subsets multiply to more than 131072"),
    "hosts and documents": (gateway(2000) + "---\n".join(doc("VirtualService", f"gateways: [edge], hosts: ['*'], http: [{{{ROUTE}}}]", name=f"v{i}") for i in range(530)),
                            ": its routes are left out of hosts of http.80: hosts and routes multiply to more than 65536"),
}


def dump(tmp_path, docs, node, **limits):
    (tmp_path / "node.json").write_text(node)
    return run([control.MIZZEND, "--mode", "dump", "-c", docs, "--node", tmp_path / "node.json", "--output", tmp_path / "out"], **limits)


@pytest.mark.parametrize("name", MULTIPLIED)
def test_what_documents_multiply_to_is_cut_and_told(tmp_path, name):
    text, told = MULTIPLIED[name]
    r = dump(tmp_path, bomb(tmp_path, text), NODE, seconds=8, mb=1500)
    assert r.returncode == 0 and told in r.stderr, f"{r.returncode} {r.stderr[-500:]}"
    assert '"7s"' in (tmp_path / "out" / "rds.json").read_text(), "the route of somebody else"


@pytest.mark.parametrize("name", AT_EDGE)
def test_what_multiplies_at_a_gateway_is_cut_and_told(tmp_path, name):
    text, told = AT_EDGE[name]
    r = dump(tmp_path, bomb(tmp_path, text), EDGE, seconds=8, mb=1500)
    assert r.returncode == 0 and told in r.stderr, f"{r.returncode} {r.stderr[-500:]}"


def test_pods_of_many_parts_are_injected(tmp_path):
    ports = ", ".join(f"{{name: p{i}, containerPort: {i % 65535 + 1}}}" for i in range(40000))
    (tmp_path / "pod.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: bomb, namespace: t, annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '%s'}}\n"
                                       "spec: {containers: [{name: c, image: i, ports: [%s]}, %s]}\n" % (
                                           ",".join(str(i + 1) for i in range(30000)), ports, each(10000, "{name: c%d, image: i}")))
    r = run([CTL, "kube-inject", "-f", tmp_path / "pod.yaml"], mb=1000)
    assert r.returncode == 0 and "istio-proxy" in r.stdout and "p39999" in r.stdout, f"{r.returncode} {r.stderr[-300:]}"


def test_what_is_delegated_is_cut_and_told(tmp_path):
    docs = bomb(tmp_path, SERVED["delegated"])
    (tmp_path / "node.json").write_text(NODE)
    r = run([control.MIZZEND, "--mode", "dump", "-c", docs, "--node", tmp_path / "node.json", "--output", tmp_path / "out"])
    assert "VirtualService/t/root: routes of what it delegates are left out" in r.stderr, r.stderr[-500:]


def test_the_last_good_one_goes_on(tmp_path):
    m = control.Mizzend(tmp_path, {"others.yaml": OTHERS})
    try:
        for name in ("regex", "repetition", "large"):
            text, error = REFUSED[name]
            m.write("others.yaml", OTHERS.partition("---")[0] + "---\n" + text.replace("name: bomb", "name: others"))
            until(lambda: error.replace("bomb", "others") in m.log(), 30, name)
            assert '"7s"' in m.page("/debug/configz"), "the last good version"
    finally:
        m.stop()
