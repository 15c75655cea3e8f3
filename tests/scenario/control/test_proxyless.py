"""gRPC without a proxy calls through what mizzend says (C6): names, weights, headers, retries, changes; mutual TLS and policies."""
from concurrent import futures

import pytest

import control
from pki import Pki
from wire import free_port, until

grpc = pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")  # comes with a grpcio that is new enough
import proxyless  # noqa: E402

if not hasattr(grpc, "xds_channel_credentials"):
    pytest.skip("grpcio is built without xDS", allow_module_level=True)
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
HOST = "echo.demo.svc.cluster.local:7070"


def pod(name, ip, version, **labels):
    labels = ", ".join(f"{k}: {v}" for k, v in {"app": "echo", "version": version, **labels}.items())
    return (f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo, labels: {{{labels}}}}}\n"
            f"spec: {{serviceAccountName: echo}}\nstatus: {{podIP: {ip}, phase: Running}}\n")


def documents(port, ips):
    out = ("apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: echo, namespace: demo}\n"
           f"spec: {{clusterIP: 10.9.0.1, selector: {{app: echo}}, ports: [{{name: grpc, port: 7070, targetPort: {port}}}]}}\n"
           "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
           "metadata: {name: echo-1, namespace: demo, labels: {kubernetes.io/service-name: echo}}\n"
           f"endpoints: [{', '.join(f'{{addresses: [{ip}]}}' for ip in ips)}]\nports: [{{name: grpc, port: {port}}}]\n")
    return out


SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: demo}
spec: {host: echo, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: demo}
spec:
  hosts: [echo]
  http:
  - match: [{headers: {x-who: {exact: tester}}}]
    route: [{destination: {host: echo, subset: v2}}]
  - route:
    - {destination: {host: echo, subset: v1}, weight: 80}
    - {destination: {host: echo, subset: v2}, weight: 20}
    retries: {attempts: 3, retryOn: unavailable}
    corsPolicy: {allowOrigins: [{exact: "*"}]}
"""


class Echo:
    """A server that knows nothing of the mesh; the first @failing calls are refused."""

    def __init__(self, ip, port, name):
        self.name, self.failing, self.calls = name, 0, 0
        self.server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[proxyless.Names(self.answer)])
        assert self.server.add_insecure_port(f"{ip}:{port}") == port
        self.server.start()

    def answer(self, request, context):
        self.calls += 1
        if self.calls <= self.failing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return self.name.encode()


@pytest.fixture
def closing():
    made = []
    yield made.append
    for x in reversed(made):
        getattr(x, "close", None) and x.close() or getattr(x, "stop", lambda: None)()


@pytest.mark.parametrize("generator", ["grpc", ""], ids=["metadata", "user-agent"])
def test_calls_follow_the_documents(tmp_path, closing, generator):
    port = free_port()
    echoes = {ip: Echo(ip, port, name) for ip, name in (("127.0.0.2", "v1"), ("127.0.0.3", "v2"), ("127.0.0.4", "v2 again"))}
    m = control.Mizzend(tmp_path, {"kube.yaml": documents(port, ["127.0.0.2", "127.0.0.3"]) + pod("echo-1", "127.0.0.2", "v1") + pod("echo-2", "127.0.0.3", "v2"),
                                   "rule.yaml": SUBSETS})
    closing(m)
    boot = proxyless.bootstrap(tmp_path / "client.json", m.port, proxyless.node("web-0", "127.0.0.9", generator))
    c = proxyless.Client(boot, "xds:///" + HOST)
    closing(c)
    assert set(c.call(20)) == {"v1", "v2"}, "in turn, without a VirtualService"

    m.write("routes.yaml", ROUTES)
    until(lambda: set(c.call(5, metadata=[("x-who", "tester")])) == {"v2"}, 30, "the route by header")
    got = c.call(200)
    assert set(got) == {"v1", "v2"} and 15 <= got.count("v2") <= 75, got.count("v2")
    for e in echoes.values():
        e.calls, e.failing = 0, 3 if e.name == "v2" else 0
    assert c.call(metadata=[("x-who", "tester")])[0].startswith("UNAVAILABLE"), "two tries more, and not three: as without a word"
    for e in echoes.values():
        e.calls, e.failing = 0, 3 if e.name == "v1" else 0
    assert set(c.call(100)) == {"v1", "v2"}, "three tries more"
    assert echoes["127.0.0.2"].calls > 3

    m.write("kube.yaml", documents(port, ["127.0.0.2", "127.0.0.4"]) + pod("echo-1", "127.0.0.2", "v1") + pod("echo-3", "127.0.0.4", "v2"))
    until(lambda: set(c.call(5, metadata=[("x-who", "tester")])) == {"v2 again"}, 30, "the other endpoint")
    short = proxyless.Client(boot, "xds:///echo:7070")
    closing(short)
    assert set(short.call(5, metadata=[("x-who", "tester")])) == {"v2 again"}, "a short name"
    nobody = proxyless.Client(boot, "xds:///echo.demo.svc.cluster.local:7071")
    closing(nobody)
    assert nobody.call(timeout=10)[0].startswith(("UNAVAILABLE", "DEADLINE")), "no such port"
    assert "refused" not in m.log()


SECURITY = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: demo}
spec: {host: echo, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no, namespace: demo}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/demo.Echo/Never]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: yes, namespace: demo}
spec: {action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/demo/sa/web]}}]}]}
"""


def test_mutual_tls_and_policies(tmp_path, closing):
    port, ip = free_port(), "127.0.0.5"
    p = Pki(tmp_path)
    p.authority("ca")
    for name in ("echo", "web", "else"):
        p.issue(name, f"URI:spiffe://cluster.local/ns/demo/sa/{name}")
    m = control.Mizzend(tmp_path, {"kube.yaml": documents(port, [ip]) + pod("echo-1", ip, "v1"), "security.yaml": SECURITY})
    closing(m)

    def boot(name, pod_name, address):
        return proxyless.bootstrap(tmp_path / f"{name}.json", m.port, proxyless.node(pod_name, address), (tmp_path, name))
    closing(proxyless.Server(boot("echo", "echo-1", ip), f"{ip}:{port}", "by TLS"))
    clients = {name: proxyless.Client(boot(name, f"{name}-0", "127.0.0.9"), "xds:///" + HOST, "xds") for name in ("web", "else")}
    for c in clients.values():
        closing(c)
    assert clients["web"].call(2) == ["by TLS"] * 2
    assert clients["web"].call(method="/demo.Echo/Never")[0].startswith("PERMISSION_DENIED")
    assert clients["else"].call()[0].startswith("PERMISSION_DENIED"), "another identity"
    m.write("security.yaml", SECURITY.replace("/sa/web]", "/sa/else]"))
    until(lambda: clients["else"].call() == ["by TLS"], 30, "the other rule")
    assert clients["web"].call()[0].startswith("PERMISSION_DENIED")
    m.write("kube.yaml", documents(port, [ip]) + pod("echo-1", ip, "v1").replace("serviceAccountName: echo", "serviceAccountName: other"))
    until(lambda: clients["else"].call(timeout=2)[0].startswith(("UNAVAILABLE", "DEADLINE")), 60, "a server that is not who it should be")
    assert "refused" not in m.log()
