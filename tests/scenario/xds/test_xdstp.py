"""Names of xDS-TP (X1): collections, singletons, parameters of the node, authorities. The same runs against an Envoy, with one switch
that its release has off: envoy.reloadable_features.xdstp_based_config_singleton_subscriptions."""
import json
import os
import subprocess

import config
import dynamic
import pytest
from upstream import Reply
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import ADS, H2, Ads  # noqa: E402
from envoy.service.discovery.v3 import discovery_pb2 as d  # noqa: E402

NODE = "xds.node.cluster=test&xds.node.id=test"
CLUSTERS, LISTENERS = "xdstp://main/envoy.config.cluster.v3.Cluster/mine/", "xdstp://main/envoy.config.listener.v3.Listener/mine/"
ROUTES, ENDPOINTS = "xdstp://main/envoy.config.route.v3.RouteConfiguration/", "xdstp://main/envoy.config.endpoint.v3.ClusterLoadAssignment/"
SWITCH = {"layered_runtime": {"layers": [{"name": "static", "static_layer": {
    "envoy.reloadable_features.xdstp_based_config_singleton_subscriptions": True}}]}}


IS_ENVOY = os.environ.get("MIZZEN_PROXY") == "envoy"
ours = pytest.mark.skipif(IS_ENVOY, reason="where an Envoy does otherwise")


def member(collection, name, context=NODE):
    return f"{collection}{name}?{context}"


def api(kind, cluster="xds"):
    return {"api_type": kind, "transport_api_version": "V3", "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}]}


def source(kind, cluster="xds", **fields):
    return {"api_config_source": api(kind, cluster), "resource_api_version": "V3", **fields}


class Tp:
    """A proxy whose clusters and listeners are collections of one control plane."""

    def __init__(self, mesh, how):
        self.mesh, self.how, self.delta = mesh, how, how != "sotw"
        self.ads, self.port, self.second = Ads(), free_port(), free_port()
        self.source = {"ads": ADS, "sotw": source("AGGREGATED_GRPC"), "aggregated": source("AGGREGATED_DELTA_GRPC"),
                       "own": source("DELTA_GRPC")}[how]
        self.inner = self.source if how == "own" else ADS  # of endpoints and routes

    def start(self, ready=True, timeout=None, **fields):
        src = {**self.source, "initial_fetch_timeout": timeout} if timeout else self.source
        dyn = {"cds_resources_locator": CLUSTERS + "*", "cds_config": src, "lds_resources_locator": LISTENERS + "*", "lds_config": src}
        if self.how != "own":
            dyn["ads_config"] = api("DELTA_GRPC" if self.delta else "GRPC")
        boot = config.bootstrap([], [config.cluster("xds", [self.ads.port], http=H2)], free_port(), dynamic_resources=dyn,
                                node_context_params=["id", "cluster"], **fields)
        self.px = self.mesh.proxy(boot=boot, ready=ready, args=("--drain-time-s", "3"))
        return self.px

    def cluster(self, name, service, context=NODE, **fields):
        return {"name": member(CLUSTERS, name, context), "type": "EDS", "connect_timeout": "1s",
                "eds_cluster_config": {"eds_config": self.inner, "service_name": ENDPOINTS + service}, **fields}

    def listener(self, name, route, port=None, collection=LISTENERS, context=NODE):
        hcm = config.hcm([])
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["rds"] = {"route_config_name": ROUTES + route, "config_source": self.inner}
        return config.listener(port or self.port, [hcm], name=member(collection, name, context))

    def serve(self, up):
        self.ads.set("endpoint", dynamic.assignment(ENDPOINTS + "up", [up.port]))
        self.ads.set("route", dynamic.routes(ROUTES + "r", config.route("/", member(CLUSTERS, "c"))))
        self.ads.set("cluster", self.cluster("c", "up"))
        self.ads.set("listener", self.listener("l", "r"))

    def get(self, port=None):
        with self.px.client(port or self.port) as c:
            return c.get("/")

    def names(self, rq):
        return sorted(rq.resource_names_subscribe if self.delta else rq.resource_names)

    def all_asked(self, kind):
        return {n for r in self.ads.requests(kind) for n in self.names(r)}


@pytest.fixture(params=["ads", "aggregated", "own", "sotw"])
def tp(request, mesh):
    t = Tp(mesh, request.param)
    yield t
    t.ads.stop()


@pytest.fixture
def delta(mesh):
    t = Tp(mesh, "ads")
    yield t
    t.ads.stop()


def test_collections_and_singletons(tp, mesh):
    up = mesh.upstream("up", [Reply(body=b"hi")])
    tp.serve(up)
    px = tp.start()
    assert tp.get().body == b"hi"
    assert tp.all_asked("cluster") == {CLUSTERS + "*?" + NODE} and tp.all_asked("listener") == {LISTENERS + "*?" + NODE}
    assert tp.all_asked("endpoint") == {ENDPOINTS + "up"} and tp.all_asked("route") == {ROUTES + "r"}
    assert px.stat("listener_manager.lds.update_success") == 1 and px.stat("cluster_manager.cds.update_success") == 1
    # One more; another is changed; the first goes.
    tp.ads.set("route", dynamic.routes(ROUTES + "r", config.route("/", member(CLUSTERS, "c"))), dynamic.routes(ROUTES + "s", dynamic.direct("second")))
    tp.ads.set("listener", tp.listener("l", "r"), tp.listener("m", "s", tp.second))
    until(lambda: px.stat("listener_manager.total_listeners_active") == 2, 5, "the second listener")
    assert tp.get(tp.second).body == b"second" and tp.get().body == b"hi"
    tp.ads.set("listener", tp.listener("m", "r", tp.second))
    until(lambda: px.stat("listener_manager.listener_removed") == 1, 5, "the first to go")
    until(lambda: tp.get(tp.second).body == b"hi", 5, "the second with other routes")
    assert not [r for r in tp.ads.requests() if r.error_detail.code]


def test_what_is_not_of_the_collection_is_ignored(tp, mesh):
    """Another folder, other parameters, no xDS-TP name at all: whatever a server sends beside what was asked."""
    up = mesh.upstream("up", [Reply(body=b"hi")])
    tp.serve(up)
    px = tp.start()
    assert tp.get().body == b"hi"
    strangers = [tp.listener("x", "r", tp.second, collection=LISTENERS.replace("mine", "theirs")),
                 tp.listener("x", "r", tp.second, context="xds.node.cluster=test&xds.node.id=other"),
                 tp.listener("x", "r", tp.second, context="")]
    strangers.append({**strangers[0], "name": "plain"})
    stream = next(s for s in tp.ads.streams if "listener" in s.names)
    for s in strangers:  # as if they were asked for
        stream.names["listener"].add(s["name"])
    tp.ads.set("listener", tp.listener("l", "r"), *strangers)
    until(lambda: any(r.response_nonce == str(stream.nonce) for r in tp.ads.requests("listener")), 5, "the answer")
    assert not [r for r in tp.ads.requests("listener") if r.error_detail.code]
    assert px.stat("listener_manager.total_listeners_active") == 1 and tp.get().body == b"hi"


def test_parameters_in_any_order_are_one_name(tp, mesh):
    """Asked for in canonical form; an answer is known in any (and a name that says a parameter itself keeps it)."""
    up = mesh.upstream("up", [Reply(body=b"hi")])
    tp.serve(up)
    asked, canonical = ROUTES + "r?z=1&a=%62", ROUTES + "r?a=b&z=1"
    tp.ads.set("listener", tp.listener("l", "r?z=1&a=%62", context="xds.node.id=test&xds.node.cluster=test"))
    tp.ads.resources["route"] = {canonical: (dynamic_any("route", dynamic.routes(asked, config.route("/", member(CLUSTERS, "c")))), "1")}
    px = tp.start(ready=False)
    stream = until(lambda: next((s for s in tp.ads.streams if "listener" in s.names), None), 10, "the stream")
    if tp.delta:  # named otherwise than what was asked
        stream.send(d.DeltaDiscoveryResponse(nonce="n", type_url=config.TYPE + dynamic.TYPES["listener"], resources=[
            d.Resource(name=n, version=v, resource=r) for n, (r, v) in tp.ads.resources["listener"].items()]))
    else:
        stream.send(d.DiscoveryResponse(version_info="9", nonce="n", type_url=config.TYPE + dynamic.TYPES["listener"],
                                        resources=[r for r, _ in tp.ads.resources["listener"].values()]))
    px.wait_ready()
    until(lambda: tp.all_asked("route") == {canonical}, 5, "the canonical name")
    if tp.delta:
        until(lambda: tp.get().body == b"hi", 5, "routes")


def dynamic_any(kind, resource):
    import ads
    return ads.pack(kind, resource)


@ours
def test_a_new_stream_begins_with_what_is_there(delta, mesh):  # X4; an Envoy tells of no member, so one that went meanwhile stays there
    up = mesh.upstream("up", [Reply(body=b"hi")])
    delta.serve(up)
    px = delta.start()
    assert delta.get().body == b"hi"
    before = len(delta.ads.requests("cluster"))
    delta.ads.stop()
    until(lambda: px.stat("control_plane.connected_state") == 0, 10, "the end of the stream")
    assert delta.get().body == b"hi"
    delta.ads.start()
    again = until(lambda: next((r for r in delta.ads.requests("cluster")[before:] if not r.response_nonce), None), 40, "a first request")
    assert dict(again.initial_resource_versions) == {member(CLUSTERS, "c"): "1"}
    assert list(again.resource_names_subscribe) == [CLUSTERS + "*?" + NODE]
    assert delta.get().body == b"hi" and px.stat("cluster_manager.cluster_removed") == 0


@pytest.mark.parametrize("how", ["removed", "empty"])
def test_an_empty_collection_is_an_answer(delta, mesh, how):
    """Nobody waits for what is told not to be there (an Envoy only where the collection is named as removed)."""
    if how == "empty" and IS_ENVOY:
        pytest.skip("waits for the timeout")
    px = delta.start(ready=False, timeout="0s")
    for kind, collection in (("cluster", CLUSTERS), ("listener", LISTENERS)):
        delta.ads.wait(kind, lambda r: r.resource_names_subscribe)
        stream = delta.ads.streams[0]
        gone = [f"{collection}*?{NODE}"] if how == "removed" else []
        stream.send(d.DeltaDiscoveryResponse(nonce=kind, type_url=config.TYPE + dynamic.TYPES[kind], removed_resources=gone))
    px.wait_ready()
    delta.serve(mesh.upstream("up", [Reply(body=b"hi")]))
    until(lambda: px.stat("listener_manager.total_listeners_active") == 1, 5, "what comes later")
    assert delta.get().body == b"hi"


@ours
def test_a_member_lives_as_long_as_it_is_confirmed(delta, mesh):  # time to live; an Envoy forgets that of members
    delta.serve(mesh.upstream("up", [Reply(body=b"hi")]))
    px = delta.start()
    assert delta.get().body == b"hi"
    name, (resource, _) = next(iter(delta.ads.resources["listener"].items()))
    r = d.Resource(name=name, version="ttl", resource=resource)
    r.ttl.FromMilliseconds(300)
    delta.ads.streams[0].send(d.DeltaDiscoveryResponse(nonce="t", type_url=config.TYPE + dynamic.TYPES["listener"], resources=[r]))
    until(lambda: px.stat("listener_manager.listener_removed") == 1, 10, "its end")


def test_names_that_are_none(delta, mesh):  # H01, H04: a server that says anything
    delta.serve(mesh.upstream("up", [Reply(body=b"hi")]))
    px = delta.start()
    assert delta.get().body == b"hi"
    stream = delta.ads.streams[0]
    resource = next(iter(delta.ads.resources["listener"].values()))[0]
    for i, name in enumerate(["xdstp:", "xdstp://", "xdstp:////", "xdstp://main/?", "xdstp://main/" + "a/" * 10000 + "*?" + "&" * 10000, "xdstp://%00/%zz/*"]):
        for fields in ({"resources": [d.Resource(name=name, version="1", resource=resource)]}, {"removed_resources": [name]}):
            stream.send(d.DeltaDiscoveryResponse(nonce=f"junk{i}", type_url=config.TYPE + dynamic.TYPES["listener"], **fields))
    until(lambda: any(r.response_nonce == "junk5" for r in delta.ads.requests("listener")), 10, "answers")
    assert delta.get().body == b"hi" and px.stat("listener_manager.total_listeners_active") == 1


# ---- collections in files ----

def collection(kind, *resources):
    entry = [{"inline_entry": {"name": r["name"], "version": "7", "resource": {"@type": config.TYPE + dynamic.TYPES[kind], **r}}} for r in resources]
    return json.dumps({"version": "3", "resource": {"@type": config.TYPE + dynamic.TYPES[kind] + "Collection", "entries": entry}})


def test_collections_in_files(mesh):
    """Listeners only: an Envoy's collection of clusters holds one entry, which it does not read."""
    files = dynamic.Files(mesh.folder / "with space")
    port = free_port()

    def put(*resources):
        files.put("lds", "listener", text=collection("listener", *resources))

    put(config.listener(port, [config.hcm([dynamic.direct("one")])]))
    url = "file://" + str(files.folder).replace(" ", "%20") + "/lds.json"
    boot = config.bootstrap([], [], free_port(), dynamic_resources={"lds_resources_locator": url, "lds_config": ADS})
    px = mesh.proxy(boot=boot)

    def get():
        with px.client(port) as c:
            return c.get("/").body
    assert get() == b"one"
    put(config.listener(port, [config.hcm([dynamic.direct("two")])]))
    until(lambda: get() == b"two", 5, "the next version")
    files.put("lds", "listener", text='{"version": "4"}')
    until(lambda: px.stat("listener_manager.lds.update_rejected") + px.stat("listener_manager.lds.update_failure") == 1, 5, "a refusal")
    assert get() == b"two"
    put()
    until(lambda: px.stat("listener_manager.listener_removed") == 1, 5, "the listener to go")


# ---- authorities ----

class Two:
    """Two control planes, each of one authority, and a third for all others."""

    def __init__(self, mesh, kind):
        self.mesh, self.kind, self.port = mesh, kind, free_port()
        self.servers = {n: Ads() for n in ("one", "two", "rest")}

    def start(self, clusters, listeners, **fields):
        sources = [source(self.kind, n, authorities=[{"name": f"{n}.example"}]) for n in ("one", "two")]
        boot = config.bootstrap(listeners, [config.cluster(n, [s.port], http=H2) for n, s in self.servers.items()] + clusters, free_port(),
                                config_sources=sources, default_config_source=source(self.kind, "rest"), **SWITCH, **fields)
        self.px = self.mesh.proxy(boot=boot)
        return self.px

    def asked(self, name):
        return sorted({n for r in self.servers[name].requests() for n in
                       (r.resource_names_subscribe if "DELTA" in self.kind else r.resource_names)})


@pytest.fixture(params=["AGGREGATED_GRPC", "AGGREGATED_DELTA_GRPC"])
def two(request, mesh):
    t = Two(mesh, request.param)
    yield t
    for s in t.servers.values():
        s.stop()


def test_each_authority_is_asked_for_its_names(two, mesh):
    clusters, rules = [], []
    for n, authority in (("one", "one.example"), ("two", "two.example"), ("rest", "elsewhere")):
        up = mesh.upstream(n, [Reply(body=n.encode())])
        name = f"xdstp://{authority}/envoy.config.endpoint.v3.ClusterLoadAssignment/{n}"
        clusters.append({"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {}})
        two.servers[n].set("endpoint", dynamic.assignment(name, [up.port]))
        rules.append(config.route(f"/{n}", name))
    two.servers["two"].set("route", dynamic.routes("xdstp://two.example/envoy.config.route.v3.RouteConfiguration/r", *rules))
    hcm = config.hcm([])
    del hcm["typed_config"]["route_config"]
    hcm["typed_config"]["rds"] = {"route_config_name": "xdstp://two.example/envoy.config.route.v3.RouteConfiguration/r", "config_source": ADS}
    px = two.start(clusters, [config.listener(two.port, [hcm])])
    for n in ("one", "two", "rest"):
        with px.client(two.port) as c:
            assert c.get(f"/{n}").body == n.encode()
    assert [len(two.asked(n)) for n in ("one", "two", "rest")] == [1, 2, 1]
    two.servers["one"].stop()
    with px.client(two.port) as c:
        assert c.get("/one").body == b"one"


def test_clusters_on_demand_by_authority(two, mesh):  # ODCDS without a source
    up = mesh.upstream("up", [Reply(body=b"hi")])
    name = "xdstp://one.example/envoy.config.cluster.v3.Cluster/c"
    two.servers["one"].tells_missing = True
    two.servers["one"].set("cluster", config.cluster(name, [up.port]))
    od = config.ext("od", "envoy.extensions.filters.http.on_demand.v3.OnDemand", odcds={"timeout": "5s"})
    log = config.access_log(mesh.folder / "access.log")
    px = two.start([], [config.listener(two.port, [config.hcm([{"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}}], filters=[od], log=log)])])

    def get(to):
        with px.client(two.port, timeout=10) as c:
            c.send(f"GET / HTTP/1.1\r\nhost: h\r\nx-to: {to}\r\n\r\n")
            return c.response()
    assert get(name).body == b"hi" and get(name).body == b"hi"
    for odd in ("plain", "xdstp:", "xdstp://one.example/"):
        assert get(odd).status == 503
    assert two.asked("one") == [name] and two.asked("two") == two.asked("rest") == []


# ---- what is refused at the start ----

FILE = {"path_config_source": {"path": "/dev/null"}, "resource_api_version": "V3"}
BAD = [
    ({"dynamic_resources": {"cds_resources_locator": "xdstp://a/envoy.config.listener.v3.Listener/*", "cds_config": ADS}},
     "dynamic_resources.cds_resources_locator: xdstp:// type does not match envoy.config.cluster.v3.Cluster in xdstp://a/"),
    ({"dynamic_resources": {"lds_resources_locator": "xdstp://a/", "lds_config": ADS}}, "lds_resources_locator: Resource type missing from /"),
    ({"dynamic_resources": {"lds_resources_locator": "http://a/b", "lds_config": ADS}}, "http://a/b does not have a xdstp: or file: scheme"),
    ({"dynamic_resources": {"lds_resources_locator": LISTENERS + "*#entry=x", "lds_config": ADS}}, "directives (#) are not supported"),
    ({"dynamic_resources": {"lds_resources_locator": "file:///no/such/file", "lds_config": ADS}}, "'/no/such/file' does not exist"),
    ({"dynamic_resources": {"cds_resources_locator": "file:///dev/null"}}, "there are no collections of envoy.config.cluster.v3.Cluster in files"),
    ({"dynamic_resources": {"lds_resources_locator": LISTENERS + "*", "lds_config": FILE}}, "a collection comes by ads"),
    ({"dynamic_resources": {"lds_resources_locator": LISTENERS + "*"}}, "a collection comes by ads"),
    ({"dynamic_resources": {"lds_resources_locator": LISTENERS + "*", "lds_config": source("GRPC")}}, "lds_config.api_config_source.api_type: a collection"),
    ({"node_context_params": ["id", "ID"]}, "node_context_params[1]: 'ID' is no part of the node"),
    ({"config_sources": [source("AGGREGATED_GRPC")]}, "config_sources[0].authorities: at least one is required"),
    ({"config_sources": [source("AGGREGATED_GRPC", authorities=[{"name": "a"}, {"name": "a"}])]}, "authority a is configured more than once"),
    ({"config_sources": [source("DELTA_GRPC", authorities=[{"name": "a"}])]}, "config_sources[0].api_config_source.api_type: AGGREGATED_GRPC and"),
    ({"default_config_source": ADS}, "default_config_source: api_config_source is the one kind"),
    ({"default_config_source": source("AGGREGATED_GRPC", "nobody")}, "Unknown gRPC client cluster 'nobody'"),
    ({"static_resources": {"clusters": [{"name": "xdstp://a/t/x", "type": "EDS", "eds_cluster_config": {}}]}},
     "eds_cluster_config.eds_config: no authority is configured for xdstp://a/t/x"),
    ({"static_resources": {"clusters": [{"name": "x", "type": "EDS", "eds_cluster_config": {"service_name": "xdstp://a/t/x", "eds_config": {
        **ADS, "authorities": [{"name": "a"}]}}}]}}, "sources with authorities stand in the bootstrap"),
    ({"static_resources": {"clusters": [{"name": "x", "type": "EDS", "eds_cluster_config": {"service_name": "xdstp:", "eds_config": ADS}}]}},
     "eds_config: Resource type missing from /"),
]


@ours
@pytest.mark.parametrize("fields,told", BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_is_wrong_is_told_at_the_start(mesh, fields, told):
    boot = {"node": {"id": "n", "cluster": "c"}, **fields}
    boot.setdefault("static_resources", {}).setdefault("clusters", []).append(config.cluster("xds", [1], http=H2))
    path = mesh.folder / "boot.json"
    path.write_text(json.dumps(boot))
    out = subprocess.run([mesh.binary, "--mode", "validate", "-c", str(path)], capture_output=True, text=True, timeout=60)
    assert out.returncode == 1 and told in out.stdout + out.stderr
    assert len([x for x in (out.stdout + out.stderr).splitlines() if told in x]) == 1


def test_what_the_node_says(mesh):
    """Each part of the node that can be a parameter, metadata member by member as JSON; the locator's own wins."""
    t = Tp(mesh, "ads")
    try:
        dyn = {"cds_resources_locator": CLUSTERS + "*?own=1&xds.node.id=mine", "cds_config": ADS, "ads_config": api("DELTA_GRPC")}
        boot = config.bootstrap([], [config.cluster("xds", [t.ads.port], http=H2)], free_port(), dynamic_resources=dyn, node_context_params=[
            "id", "cluster", "locality.region", "locality.zone", "locality.sub_zone", "metadata"])
        boot["node"].update(locality={"region": "r", "zone": "z/1", "sub_zone": "s&"}, metadata={"text": "a b", "n": 1, "list": [True]})
        mesh.proxy(boot=boot, ready=False)
        rq = t.ads.wait("cluster", lambda r: r.resource_names_subscribe)
        assert list(rq.resource_names_subscribe) == [
            CLUSTERS + "*?own=1&xds.node.cluster=test&xds.node.id=mine&xds.node.locality.region=r&xds.node.locality.sub_zone=s%26"
            '&xds.node.locality.zone=z/1&xds.node.metadata.list=%5Btrue%5D&xds.node.metadata.n=1&xds.node.metadata.text="a b"']
    finally:
        t.ads.stop()
