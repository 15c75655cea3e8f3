"""A real Envoy beside our agent (`binaryPath`), in one mesh with our proxies: mutual TLS both ways, the same statistics where both have them."""
import re

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from mesh import find_proxy  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import until  # noqa: E402

ENVOY, WHY = find_proxy("envoy")
pytestmark = pytest.mark.skipif(not ENVOY, reason=WHY)
LEFT_OUT = "_http2_(cookie|header)_(count|size|list_size)_|_http2_oghttp2_"  # docs/envoy-differences.md
STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n"


@pytest.fixture
def ours(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    yield m
    m.close()


def series(agent):
    """{metric: its label sets} of what the pod's port 15020 tells, without what only names the pod."""
    out = {}
    for name, labels in re.findall(r"^([a-zA-Z0-9_:]+)(?:{(.*)})? \S+$", agent.status("/stats/prometheus")[1], re.M):
        out.setdefault(name, set()).add(re.sub(r"10\.11\.0\.\d|\b[ae]\b", "X", labels))
    return out


def test_an_envoy_among_ours(ours):
    ours.write("strict.yaml", STRICT)
    a = ours.agent("a", "10.11.0.1")
    e = ours.agent("e", "10.11.0.2", config={"binaryPath": ENVOY})
    for p in (a, e):
        p.pod.app(8080)
    for p in (a, e):
        p.wait_ready()
    assert ENVOY in open(f"/proc/{e.proxy_pid()}/cmdline", encoding="ascii").read()
    for p, to in ((a, "e"), (e, "a")):
        until(lambda p=p, to=to: p.works(to), 40, lambda p=p: p.log()[-3000:])
        got = p.pod.ask(ours.vip(to), 8080, "/x", host=f"{to}:8080").json
        assert f"URI=spiffe://cluster.local/ns/demo/sa/{p.name}" in got["headers"]["x-forwarded-client-cert"]
    until(lambda: e.status("/healthz/ready")[0] == 200, 20, "readiness of the Envoy's pod")

    # The same statistics, apart from Istio's own, whose filter a stock Envoy does not have.
    one, other = series(a), series(e)
    differ = {n for n in set(one) ^ set(other) if not n.startswith("istio_") and not re.search(LEFT_OUT, n)}, {n: (one[n] ^ other[n]) for n in set(one) & set(other) if one[n] != other[n]}
    assert differ == (set(), {})
    assert {"envoy_cluster_upstream_rq", "envoy_cluster_upstream_cx_active", "istio_agent_xds_proxy_requests"} <= set(other), sorted(other)[:20]
    told = a.status("/stats/prometheus")[1]
    for reporter, labels in (("source", ('destination_service="e.demo.svc.cluster.local"', 'destination_canonical_service="e"', 'connection_security_policy="unknown"')),
                             ("destination", ('source_principal="spiffe://cluster.local/ns/demo/sa/e"', 'connection_security_policy="mutual_tls"', 'response_code="200"'))):
        lines = [x for x in told.splitlines() if x.startswith("istio_requests_total{") and f'reporter="{reporter}"' in x]
        assert any(all(label in x for label in labels) for x in lines), lines
