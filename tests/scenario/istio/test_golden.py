"""Two proxies with what Istio's control plane sends them: a request from one application to another (S1-S3, T1, X3)."""
import copy

import config
import pytest
import sidecar
from netns import netns  # noqa: F401
from pki import Pki
from upstream import Reply, Upstream
from wire import Client, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import ads  # noqa: E402
import istio  # noqa: E402

PORT, SERVICE = 9080, "api.demo.svc.cluster.local"


@pytest.fixture(scope="session")
def identities(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("golden-pki"))
    p.authority("ca")
    for app in ("web", "api"):
        p.issue(app, f"URI:{sidecar.identity(app)}")
    return {app: {"ca.pem": (p.folder / "ca.pem").read_text(), "cert.pem": (p.folder / f"{app}.pem").read_text(),
                  "cert.key": (p.folder / f"{app}.key").read_text()} for app in ("web", "api")}


@pytest.fixture
def planes():
    made = []
    yield made
    for s in made:
        s.stop()


def proxy(mesh, planes, golden, certificates, name, listener, replace=None):
    """A proxy with one of its listeners, bound where the test says; `replace`: clusters that are others."""
    istio.register(golden)
    server = ads.Ads()
    planes.append(server)
    server.set("cluster", *[(replace or {}).get(c["name"], c) for c in golden["cds"]])
    server.set("endpoint", *golden["eds"])
    server.set("route", *golden["rds"])
    server.set("secret", *[istio.secret(n, certificates) for n in ("default", "ROOTCA")])
    server.set("listener", listener)
    return mesh.proxy(boot=istio.bootstrap(server, golden["node"]), name=name)


def bound(golden, name, ip, port):
    found = copy.deepcopy(next(x for x in golden["lds"] if x["name"] == name))
    found["address"]["socket_address"].update(address=ip, port_value=port)
    found.pop("bind_to_port", None)
    return found


def counted(px, reporter):
    text = until(lambda: next((x for x in px.admin("/stats/prometheus")[1].splitlines()
                               if x.startswith("istio_requests_total{") and f'reporter="{reporter}"' in x), None), 10, "the metric")
    return {k: v.strip('"') for k, _, v in (p.partition("=") for p in text[text.index("{") + 1:text.index("}")].split('",'))}, text.rpartition(" ")[2]


def test_a_request_between_two_sidecars(netns, mesh, planes, identities):  # noqa: F811
    golden = istio.load("plain-http")
    web, api = golden["web"], golden["api-dns"]
    pod = next(e for e in web["eds"] if e["cluster_name"] == f"outbound|{PORT}||{SERVICE}")["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    ip = pod["address"]["socket_address"]["address"]
    netns.add(f"{ip}/32")
    app = Upstream("app", [Reply(body=b"hello")])
    try:
        theirs = next(c for c in api["cds"] if c["name"] == f"inbound|{PORT}||")  # it goes where the client wanted to go: here, to the proxy itself
        inbound = config.cluster(theirs["name"], [app.port], metadata=theirs["metadata"])
        server = proxy(mesh, planes, api, identities["api"], "server", bound(api, "virtualInbound", ip, PORT), {inbound["name"]: inbound})
        client = proxy(mesh, planes, web, identities["web"], "client", bound(web, f"0.0.0.0_{PORT}", "127.0.0.1", 18080))
        with Client(("127.0.0.1", 18080)) as c:
            r = c.get("/it", host=f"{SERVICE}:{PORT}")
        assert (r.status, r.body) == (200, b"hello")
        seen = app.requests[0]
        assert seen.get("x-envoy-peer-metadata") is None and f"By={sidecar.identity('api')}" in seen.get("x-forwarded-client-cert")
        for px, reporter, policy in ((client, "source", "unknown"), (server, "destination", "mutual_tls")):
            got, value = counted(px, reporter)
            want = {"source_workload": "web", "source_workload_namespace": "demo", "source_principal": sidecar.identity("web"), "source_cluster": "Kubernetes",
                    "destination_workload": "api", "destination_workload_namespace": "demo", "destination_principal": sidecar.identity("api"),
                    "destination_service": SERVICE, "destination_service_name": "api", "destination_service_namespace": "demo",
                    "request_protocol": "http", "response_code": "200", "response_flags": "-", "connection_security_policy": policy}
            assert value == "1" and {k: got.get(k) for k in want} == want
    finally:
        app.close()
