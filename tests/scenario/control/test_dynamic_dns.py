"""ServiceEntries of resolution DYNAMIC_DNS: what is made of them is taken by a real Envoy and by ours (C2, U1)."""
import json
import pathlib

import pytest

import control
from mesh import Proxy, find_proxy
from netns import netns  # noqa: F401
from pki import Pki
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import ads  # noqa: E402
import istio  # noqa: E402

NODE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "plain-http" / "web" / "node.json"
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
DOCUMENTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: all, namespace: demo}
spec:
  hosts: ["*.example.com"]
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: grpc, protocol: GRPC}, {number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secure, namespace: demo}
spec:
  hosts: ["*.secure.test"]
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 82, name: http2, protocol: HTTP2}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: secure, namespace: demo}
spec: {host: "*.secure.test", trafficPolicy: {tls: {mode: SIMPLE}, outlierDetection: {interval: 9s}}}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: demo}
spec: {selector: {app: api}, ports: [{name: http, port: 80}]}
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    p.issue("cert", san="URI:spiffe://cluster.local/ns/demo/sa/web")
    return {f: (p.folder / f).read_text() for f in ("ca.pem", "cert.pem", "cert.key")}


@pytest.mark.parametrize("kind", ["ours", "envoy"])
def test_what_is_made_of_it_is_taken(netns, tmp_path, certificates, kind):  # noqa: F811
    binary, why = find_proxy("envoy" if kind == "envoy" else str(control.MIZZEND.with_name("mizzen-proxy")))
    if not binary:
        pytest.skip(why)
    secrets, px = ads.Ads(), None  # within the namespace
    secrets.set("secret", *[istio.secret(n, certificates) for n in ("default", "ROOTCA", "file-root:system")])
    m = control.Mizzend(tmp_path, {"docs.yaml": DOCUMENTS})
    try:
        boot = control.bootstrap(NODE, m.port, free_port())
        at = boot["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        at["socket_address"]["port_value"] = secrets.port
        px = Proxy(binary, tmp_path, boot, kind)

        def clusters():
            try:
                return {c["name"] for c in json.loads(px.admin("/clusters?format=json")[1])["cluster_statuses"]}
            except OSError:  # not there yet
                return set()

        want = {"outbound|80||*.example.com", "outbound|81||*.example.com", "outbound|443||*.example.com", "outbound|80||*.secure.test", "outbound|82||*.secure.test"}
        until(lambda: want <= clusters(), 60, lambda: f"{want - clusters()}\n{m.log()[-2000:]}\n{px.log()[-2000:]}")
        until(lambda: px.stat("listener_manager.lds.update_success") and px.stat("cluster_manager.cds.update_success"), 60, px.log)
        until(lambda: "0.0.0.0_443" in px.admin("/config_dump?resource=dynamic_listeners")[1], 60, px.log)
        dump = px.admin("/config_dump?resource=dynamic_listeners")[1]
        assert "error_state" not in dump and "*.secure.test_dfp_dns_cache" in dump and "sni_dynamic_forward_proxy" in dump
        assert not {n: v for n, v in px.stats("update_rejected$").items() if v}, px.log()[-2000:]
        assert "refused" not in m.log()
    finally:
        if px:
            px.stop()
        m.stop()
        secrets.stop()
