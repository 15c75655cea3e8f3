"""Documents of a mesh of many services: each has a port, five endpoints, and with `rules` a DestinationRule, a VirtualService and an
AuthorizationPolicy; one Gateway a namespace. In files of a thousand services, as people keep them."""
PER_FILE = 1000


def service(i, spaces):
    return (f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: ns{i % spaces}}}\n"
            f"spec: {{clusterIP: 10.{100 + i // 62500}.{i // 250 % 250}.{i % 250 + 1}, selector: {{app: s{i}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n")


def endpoints(i, spaces, first=None):
    addresses = [first or f"11.{i // 250}.{i % 250}.1"] + [f"11.{i // 250}.{i % 250}.{k}" for k in range(2, 6)]
    return (f"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{i}-1, namespace: ns{i % spaces}, "
            f"labels: {{kubernetes.io/service-name: s{i}}}}}\naddressType: IPv4\nendpoints:\n"
            + "".join(f'- {{addresses: ["{a}"], conditions: {{ready: true}}}}\n' for a in addresses) + "ports: [{name: http, port: 8080}]\n")


def rules(i, spaces):
    meta = f"{{name: r{i}, namespace: ns{i % spaces}}}"
    return (f"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {meta}\n"
            f"spec: {{host: s{i}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 5}}}}}}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n"
            f"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {meta}\n"
            f"spec: {{hosts: [s{i}], http: [{{timeout: 5s, route: [{{destination: {{host: s{i}}}}}]}}]}}\n"
            f"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {meta}\n"
            f'spec: {{selector: {{matchLabels: {{app: s{i}}}}}, rules: [{{from: [{{source: {{namespaces: ["ns{i % spaces}"]}}}}]}}]}}\n')


def gateway(k):
    return (f"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: ns{k}}}\n"
            f'spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["ns{k}.example.com"]}}]}}\n')


def endpoints_file(k, n, spaces, first=None):
    """@first: the first address of the first service of that file."""
    ids = range(k * PER_FILE, min(n, (k + 1) * PER_FILE))
    return "---\n".join(endpoints(i, spaces, first if i == ids[0] else None) for i in ids)


def files(n, spaces, with_rules=False):
    out = {}
    for k in range((n + PER_FILE - 1) // PER_FILE):
        ids = range(k * PER_FILE, min(n, (k + 1) * PER_FILE))
        out[f"services-{k}.yaml"] = "---\n".join(service(i, spaces) for i in ids)
        out[f"endpoints-{k}.yaml"] = endpoints_file(k, n, spaces)
        if with_rules:
            out[f"rules-{k}.yaml"] = "---\n".join(rules(i, spaces) for i in ids)
    if with_rules:
        out["gateways.yaml"] = "---\n".join(gateway(k) for k in range(spaces))
    return out


def node(i, spaces):
    ns = f"ns{i % spaces}"
    return {"id": f"sidecar~12.0.{i // 250}.{i % 250}~p{i}.{ns}~{ns}.svc.cluster.local", "cluster": f"p.{ns}",
            "metadata": {"NAMESPACE": ns, "LABELS": {"app": f"s{i}"}, "ISTIO_VERSION": "1.32.0"}}
