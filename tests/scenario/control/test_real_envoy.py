"""A real Envoy takes everything that mizzend makes of the documents of each recorded case (C6): no update is refused, by either protocol."""
import json
import pathlib

import pytest

import config
import control
from mesh import Proxy, find_proxy
from netns import netns  # noqa: F401
from pki import Pki
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import ads  # noqa: E402
import istio  # noqa: E402

CASES = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases"
ENVOY, WHY = find_proxy("envoy")
pytestmark = [pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built"), pytest.mark.skipif(not ENVOY, reason=WHY)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("real-pki"))
    p.authority("ca")
    p.issue("cert", san="URI:spiffe://cluster.local/ns/demo/sa/web")
    return {n: (p.folder / n).read_text() for n in ("ca.pem", "cert.pem", "cert.key")}


def agent(certificates):
    """What stands beside each proxy and gives it its certificates."""
    server = ads.Ads()
    names = {"default", "ROOTCA", *(n for c, p in istio.cases() for n in istio.load(c)[p]["names"].get("sds_secret_names") or ())}
    server.set("secret", *[istio.secret(n, certificates) for n in sorted(names) if not n.startswith("kubernetes")])
    return server


def bootstrap(node, port, secrets, delta):
    boot = control.bootstrap(node, port, free_port())
    at = boot["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    at["socket_address"]["port_value"] = secrets
    boot["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC" if delta else "GRPC"
    boot["bootstrap_extensions"] = [config.ext("envoy.bootstrap.internal_listener", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener")]
    return boot


TYPE = "type.googleapis.com/envoy.config."
FOLLOW = {TYPE + "endpoint.v3.ClusterLoadAssignment": "eds_cluster_names", TYPE + "route.v3.RouteConfiguration": "rds_route_names"}

EXTENSION = TYPE + "core.v3.TypedExtensionConfig"
FOR_AGENTS = ("wasmplugin",)  # extensions whose modules the agent beside a proxy fetches: it tells the proxy another place for them


def unsettled(m, px, names, agent=False):
    """What the proxy has not asked for yet, or not acknowledged; its names follow from the clusters and listeners that it took."""
    pod = px.boot["node"]["id"].split("~")[2]
    state = next((x["resources"] for x in json.loads(m.page("/debug/syncz")) if x["proxy"] == pod), {})
    if agent:
        state.pop(EXTENSION, None)
    watches = next((x["watches"] for x in json.loads(m.page("/debug/adsz"))["clients"] if x["connectionId"].startswith(pod + "-")), {})
    out = [f"{px.name}: {kind.rpartition('.')[2]} refused: {x['lastError']}" for kind, x in state.items() if x.get("lastError")]
    out += [f"{px.name}: {kind} is open" for kind, x in state.items() if x.get("sent") != x.get("acked")]
    out += [f"{px.name}: nobody asked for {kind}" for kind in (TYPE + "cluster.v3.Cluster", TYPE + "listener.v3.Listener") if kind not in state]
    return out + [f"{px.name}: {key} {sorted(set(names[key]) ^ set(watches.get(kind, ())))}" for kind, key in FOLLOW.items()
                  if set(names[key] or ()) != set(watches.get(kind, ()))]


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
@pytest.mark.parametrize("case", sorted(f.name for f in CASES.iterdir()))
def test_everything_is_taken(netns, tmp_path, certificates, case, delta):  # noqa: F811
    golden, proxies, secrets, m = istio.load(case), [], agent(certificates), None
    try:
        m = control.Mizzend(tmp_path, {f.name: f.read_text() for f in (CASES / case / "input").iterdir()})
        for name in golden:
            if not json.loads((CASES / case / name / "node.json").read_text())["id"].startswith(("sidecar~", "router~")):
                continue  # mizzend says that it does not serve others yet (tests/conformance/istio/not_yet.txt)
            boot = bootstrap(CASES / case / name / "node.json", m.port, secrets.port, delta)
            proxies.append(Proxy(ENVOY, tmp_path, boot, name))
        by_agent = case in FOR_AGENTS
        for px in proxies:  # all in one namespace: their ports are shared
            def missing(px=px):
                return unsettled(m, px, golden[px.name]["names"], by_agent)
            until(lambda: not missing(), 60, lambda: f"{missing()}\n{px.log()[-2000:]}")
            refused = {n: v for n, v in px.stats("update_rejected$").items() if v and not (by_agent and "extension_config_discovery" in n)}
            assert not refused and "error_state" not in px.admin("/config_dump?resource=dynamic_listeners")[1], f"{refused}\n{px.log()[-3000:]}"
        told = [x for x in m.log().splitlines() if "refused" in x]
        assert all("refused ecds" in x for x in told) if by_agent else not told, told
    finally:
        for px in proxies:
            px.process.kill()
            px.process.wait()
        if m:
            m.stop()
        secrets.stop()


MESH = """
proxyHttpPort: 15802
zoneAwareLbSetting: {minClusterSize: 3}
defaultInboundHttpRetryPolicy: {attempts: 4, retryOn: '503', backoff: 1s}
defaultConfig:
  proxyHeaders: {preserveHttp1HeaderCase: true, xForwardedHost: {enabled: true}, metadataExchangeHeaders: {mode: IN_MESH}}
  connectionSettings: {profile: EDGE, httpDrainTimeout: 1s, httpMaxStreamDuration: 60s, httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_DROP_HEADER}
"""
SETTINGS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo, labels: {istio.io/persistent-session: 'c:/p'}}
spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: redis, port: 6379}, {name: mysql, port: 3306}, {name: auto, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: demo}
spec:
  host: web
  trafficPolicy: {retryBudget: {budgetInterval: 9s}, outlierDetection: {outlierDetectionHttpErrorCodes: [500, 503]}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s, namespace: demo}
spec:
  egress: [{port: {number: 15803, protocol: HTTP_PROXY, name: proxy}, captureMode: NONE, hosts: ['./*']}, {hosts: ['./*']}]
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: web.demo.svc.cluster.local, port: {number: 80}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: t, namespace: demo}
spec: {tracing: [{disableContextPropagation: true}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: demo}
spec:
  selector: {app: gate}
  servers: [{hosts: ['*'], port: {number: 15843, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: c, ecdhCurves: [P-256]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: demo}
spec: {hosts: [web, web.example.com], gateways: [mesh, g], http: [{rewrite: {uri: /}, mirror: {host: web}, route: [{destination: {host: web, port: {number: 80}}}]}]}
"""
VARIABLES = {"PILOT_HTTP10": "true", "PILOT_ENABLE_REDIS_FILTER": "true", "PILOT_ENABLE_MYSQL_FILTER": "true", "PILOT_ENABLE_PERSISTENT_SESSION_FILTER": "true",
             "ENABLE_LOCALITY_WEIGHTED_LB_CONFIG": "true", "DISABLE_TRACK_REMAINING_CB_METRICS": "false", "DISABLE_SHADOW_HOST_SUFFIX": "false",
             "PILOT_SKIP_VALIDATE_TRUST_DOMAIN": "true", "PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT": "7s", "MAX_CONNECTIONS_PER_SOCKET_EVENT_LOOP": "0"}


def test_settings_are_taken(netns, tmp_path, certificates, monkeypatch):  # noqa: F811
    """Settings of proxies, of the mesh and of mizzend's environment that no recorded case has."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "mesh.yaml").write_text(MESH)
    told = {"LABELS": {"app": "web"}, "ISTIO_VERSION": "1.32.0", "IDLE_TIMEOUT": "70s", "INBOUND_LISTENER_EXACT_BALANCE": "true",
            "OUTBOUND_LISTENER_EXACT_BALANCE": "true"}
    nodes = [{"id": "sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local", "cluster": "web.demo", "metadata": told},
             {"id": "router~10.1.0.2~gate-0.demo~demo.svc.cluster.local", "cluster": "gate.demo", "metadata": {**told, "LABELS": {"app": "gate"}}},
             {"id": "sidecar~10.1.0.3~bare-0.demo~demo.svc.cluster.local", "cluster": "bare.demo", "metadata": {**told, "INTERCEPTION_MODE": "NONE"}}]
    m, proxies, secrets = None, [], agent(certificates)
    try:
        m = control.Mizzend(tmp_path, {"a.yaml": SETTINGS}, "--mesh-config", str(tmp_path / "mesh.yaml"))
        for n in nodes:
            (tmp_path / "node.json").write_text(json.dumps(n))
            px = Proxy(ENVOY, tmp_path, bootstrap(tmp_path / "node.json", m.port, secrets.port, True), n["id"].split("~")[2])
            proxies.append(px)

            def settled(px=px):
                try:
                    px.admin("/server_info")
                except OSError:  # not there yet
                    return False
                return (px.stat("listener_manager.lds.update_success") or px.stat("listener_manager.lds.update_rejected")) and px.stat("cluster_manager.cds.update_success")
            until(settled, 60, lambda px=px: [x for x in px.log().splitlines() if "eprecated" not in x][-20:])
            refused = {k: v for k, v in px.stats("update_rejected$").items() if v}
            assert not refused and "error_state" not in px.admin("/config_dump?resource=dynamic_listeners")[1], f"{refused}\n{px.log()[-3000:]}"
            px.process.kill()
            px.process.wait()
            assert "refused" not in m.log(), m.log()[-3000:]
    finally:
        for px in proxies:
            px.process.kill()
            px.process.wait()
        if m:
            m.stop()
        secrets.stop()
