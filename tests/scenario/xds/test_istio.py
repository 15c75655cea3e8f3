"""What Istio's control plane sends is taken (X1-X3, S1-S4): every recorded answer, state of the world and delta."""
import json

import config
import pytest
from netns import netns  # noqa: F401
from pki import Pki
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import ads  # noqa: E402
import istio  # noqa: E402

# A resource with one of these in its text is refused, and why. An entry that is refused no more fails: it has to go.
REFUSED = {
    "filters.http.wasm": "there is no WebAssembly",
    "filters.network.wasm": "there is no WebAssembly",
    '"config_discovery"': "filters by subscription (ECDS)",
    "filters.http.lua": "Lua",
    "access_loggers.open_telemetry": "OpenTelemetry access logs",
}
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def is_refused(resource):
    text = json.dumps(resource)
    return [n for n in REFUSED if n in text]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("istio-pki"))
    p.authority("ca")
    p.issue("cert", san="URI:spiffe://cluster.local/ns/demo/sa/web")
    return {n: (p.folder / n).read_text() for n in ("ca.pem", "cert.pem", "cert.key")}


def secret(name, certificates):
    if name == "ROOTCA" or name.endswith("-cacert") or name.startswith("file-root:"):
        return {"name": name, "validation_context": {"trusted_ca": {"inline_string": certificates["ca.pem"]}}}
    return {"name": name, "tls_certificate": {"certificate_chain": {"inline_string": certificates["cert.pem"]},
                                              "private_key": {"inline_string": certificates["cert.key"]}}}


def start(mesh, server, node, delta):
    source = {"ads": {}, "resource_api_version": "V3"}
    ads_config = {"api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
                  "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}
    clusters = [config.cluster(n, [server.port], http=H2) for n in ("xds-grpc", "sds-grpc")]
    internal = config.ext("envoy.bootstrap.internal_listener", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener", buffer_size_kb=64)
    boot = config.bootstrap([], clusters, free_port(), node=node, bootstrap_extensions=[internal],
                            dynamic_resources={"cds_config": source, "lds_config": source, "ads_config": ads_config})
    return mesh.proxy(boot=boot, ready=False)


def shown(px, dump, kind):
    """Names that /config_dump shows as active, or as waiting for what they depend on."""
    for c in json.loads(px.admin("/config_dump")[1])["configs"]:
        if c["@type"].endswith(dump):
            if kind == "cluster":
                found = [x["cluster"]["name"] for k in ("dynamic_active_clusters", "dynamic_warming_clusters") for x in c.get(k, ())]
            else:
                found = [x["name"] for x in c.get("dynamic_listeners", ()) if "active_state" in x or "warming_state" in x]
            return sorted(found)
    return []


def names(resources, want_refused):
    return sorted(r.get("name") or r["cluster_name"] for r in resources if bool(is_refused(r)) == want_refused)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
@pytest.mark.parametrize("case,proxy", istio.cases(), ids=lambda v: v)
def test_every_answer_is_taken(netns, mesh, certificates, case, proxy, delta):  # noqa: F811
    golden = istio.load(case)[proxy]
    istio.register(golden)
    server = ads.Ads()
    try:
        for kind, group in istio.KINDS.items():
            if kind in golden and kind != "sds":
                server.set(group, *golden[kind])
        server.set("secret", *[secret(n, certificates) for n in golden["names"]["sds_secret_names"] or ()])
        px = start(mesh, server, golden["node"], delta)
        px.wait_ready()
        refused = {istio.KINDS[k]: names(golden.get(k, []), True) for k in ("cds", "lds", "rds")}
        until(lambda: shown(px, "ClustersConfigDump", "cluster") == names(golden["cds"], False), 10, "all clusters")
        until(lambda: shown(px, "ListenersConfigDump", "listener") == names(golden["lds"], False), 10,
              lambda: f"listeners {set(shown(px, 'ListenersConfigDump', 'listener')) ^ set(names(golden['lds'], False))}")
        nacks = {ads.KINDS[r.type_url]: r.error_detail.message for r in server.requests() if r.error_detail.code}
        assert sorted(nacks) == sorted(k for k, v in refused.items() if v), nacks
        for kind, bad in refused.items():
            assert not bad or any(n in nacks[kind] for n in bad)
        asked = {n for r in server.requests("endpoint") for n in (r.resource_names_subscribe if delta else r.resource_names)}
        assert asked <= set(golden["names"]["eds_cluster_names"] or ())
        s = px.stats()
        assert not [n for n in s if n.endswith("update_rejected") and s[n] and not any(refused.values())]
    finally:
        server.stop()
