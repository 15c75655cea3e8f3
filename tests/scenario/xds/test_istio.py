"""What Istio's control plane sends is taken (X1-X3, S1-S4): every recorded answer, state of the world and delta."""
import json

import pytest
from netns import netns  # noqa: F401
from pki import Pki
from wire import until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import ads  # noqa: E402
import istio  # noqa: E402

# A resource with one of these in its text is refused, and why. An entry that is refused no more fails: it has to go.
REFUSED = {
    "filters.http.wasm": "there is no WebAssembly",
    "filters.network.wasm": "there is no WebAssembly",
    '"config_discovery"': "filters by subscription (ECDS)",
}


def is_refused(resource):
    text = json.dumps(resource)
    return [n for n in REFUSED if n in text]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("istio-pki"))
    p.authority("ca")
    p.issue("cert", san="URI:spiffe://cluster.local/ns/demo/sa/web")
    return {n: (p.folder / n).read_text() for n in ("ca.pem", "cert.pem", "cert.key")}


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
        server.set("secret", *[istio.secret(n, certificates) for n in golden["names"]["sds_secret_names"] or ()])
        px = mesh.proxy(boot=istio.bootstrap(server, golden["node"], delta), ready=False)
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
