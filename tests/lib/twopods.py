"""Two pods behind agents of ours, rules for both, and the control socket by which mizzenctl asks them."""
import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from meshsock import MeshSocket  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401

RULES = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: demo}
spec:
  hosts: [b]
  http:
  - match: [{uri: {prefix: /old}, headers: {end-user: {exact: jason}}}]
    rewrite: {uri: /new}
    timeout: 3s
    retries: {attempts: 4, retryOn: gateway-error}
    route: [{destination: {host: b, subset: v1, port: {number: 8080}}}]
  - match: [{uri: {prefix: /broken}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: b, port: {number: 8080}}}]
  - match: [{uri: {prefix: /split}}]
    route:
    - {destination: {host: b, subset: v1, port: {number: 8080}}, weight: 80}
    - {destination: {host: b, port: {number: 8080}}, weight: 20}
  - match: [{uri: {prefix: /lost}}]
    route: [{destination: {host: b, subset: v9, port: {number: 8080}}}]
  - route: [{destination: {host: b, port: {number: 8080}}}]
    mirror: {host: a, port: {number: 8080}}
    mirrorPercentage: {value: 5}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: demo}
spec:
  host: b
  trafficPolicy:
    connectionPool: {http: {http1MaxPendingRequests: 7}}
    outlierDetection: {consecutive5xxErrors: 3}
  subsets:
  - {name: v1, labels: {app: b}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: demo}
spec:
  hosts: [outside.test, other.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: 10.9.9.9}]
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: who, namespace: demo}
spec:
  selector: {matchLabels: {app: b}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/demo/sa/nobody]}}]
  - from: [{source: {principals: [cluster.local/ns/demo/sa/a]}}]
    to: [{operation: {paths: [/new*, /open*]}}]
"""


def line(text):
    """Where it stands in the rules."""
    return "rules.yaml:%d" % (1 + next(i for i, l in enumerate(RULES.splitlines()) if text in l))


@pytest.fixture
def net(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path, "--monitoring-addr", "127.0.0.1:15014")
    m.write("rules.yaml", RULES)
    a, b = m.agent("a", "10.11.0.1"), m.agent("b", "10.11.0.2")
    b.pod.app(8080)
    a.wait_ready(), b.wait_ready()
    with MeshSocket(m) as s:
        m.sock = s
        yield m
    m.close()


def ask(net, path, **headers):
    return net.agents["a"].pod.ask(net.vip("b"), 8080, path, host="b:8080", **headers)


def allowed(net):
    try:
        return ask(net, "/open").status == 200
    except OSError:
        return False
