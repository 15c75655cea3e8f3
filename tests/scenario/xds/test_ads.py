"""Resources over gRPC (rows X1-X4, H01, H04): by ADS and by streams of their own, state of the world and delta."""
import json
import ssl

import config
import dynamic
import pytest
from pki import Pki
from upstream import Reply
from wire import HOST, free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import ADS, H2, World  # noqa: E402


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh):
    w = World(mesh, request.param == "delta")
    yield w
    w.ads.stop()


def test_all_types(world, mesh):  # X1, X3
    one, two = mesh.upstream("one", [Reply(body=b"one")]), mesh.upstream("two", [Reply(body=b"two")])
    world.serve(one)
    px = world.start()
    assert world.get().body == b"one"
    first = world.ads.requests("cluster")[0]
    assert first.node.id == "test" and first.node.user_agent_name == "envoy"
    assert [r for r in world.ads.requests() if r.HasField("node")] == [world.ads.requests()[0]]
    world.ads.set("endpoint", dynamic.assignment("dyn", [two.port]))
    until(lambda: world.get().body == b"two", 5, "the other endpoint")
    world.ads.set("route", dynamic.routes("r", dynamic.direct("table")))
    until(lambda: world.get().body == b"table", 5, "the other table")
    s = px.stats()
    assert s["control_plane.connected_state"] == 1 and s["cluster.dyn.update_success"] == 2
    assert s["cluster_manager.cds.update_success"] == 1 and s["listener_manager.lds.update_rejected"] == 0
    assert 'control_plane.identifier: "test"' in px.admin("/stats")[1]
    assert not [r for r in world.ads.requests() if r.error_detail.code]


def test_h01_a_bad_one_is_refused_with_its_path(world, mesh):  # X2, H01
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    assert world.get().status == 200
    world.ads.set("cluster", world.eds("dyn"), {"name": "bad", "type": "STATIC", "lb_policy": "LOAD_BALANCING_POLICY_CONFIG"})
    nack = world.ads.wait_nack("cluster", "bad")
    assert "lb_policy" in nack.error_detail.message or "load_balancing_policy" in nack.error_detail.message
    world.ads.set("route", dynamic.routes("r", {"match": {"prefix": "/", "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}]},
                                                "direct_response": {"status": 200}}))
    world.ads.wait_nack("route", "regex")
    assert world.get().status == 200 and px.stat("http.in.rds.r.update_rejected") == 1
    world.ads.set("cluster", world.eds("dyn"), config.cluster("good", [up.port]))
    until(lambda: px.stat("cluster_manager.active_clusters") == 3, 5, "the next update")
    world.ads.set("route", dynamic.routes("r", dynamic.direct("later")))
    until(lambda: world.get().body == b"later", 5, "the next table")


def test_killed_and_back(world, mesh):  # X4: what runs goes on; versions go along
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    assert world.get().status == 200
    world.ads.stop()
    until(lambda: px.stat("control_plane.connected_state") == 0, 10, "the end of the stream")
    assert world.get().status == 200
    assert world.px.log().count("gRPC config stream closed") == 1
    before = len(world.ads.requests())
    world.ads.start()
    until(lambda: px.stat("control_plane.connected_state") == 1 or len(world.ads.requests()) > before, 40, "the stream again")
    again = until(lambda: next((r for r in world.ads.requests("cluster")[1:] if not r.response_nonce), None), 10, "a first request")
    if world.delta:
        assert dict(again.initial_resource_versions) == {"dyn": "1"}
    else:
        assert again.version_info == "1"
    world.ads.set("route", dynamic.routes("r", dynamic.direct("later")))
    until(lambda: world.get().body == b"later", 10, "the next table")
    assert px.stat("cluster_manager.cluster_modified") == 0


def test_h04_garbage(world, mesh):  # H04
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    assert world.get().status == 200
    stream = world.ads.streams[0]
    for junk in (b"\xff" * 100, b"", b"\x0a\x05hello", b"\x22\x05x.y.z\x2a\x011", b"\x12\x02\x0a\xff"):
        stream.send(junk)
    world.ads.set("endpoint", {"cluster_name": "stranger"})
    for _ in range(200):  # flaps
        world.ads.set("route", dynamic.routes("r", config.route("/", "dyn", timeout="1s")))
        world.ads.set("route", dynamic.routes("r", config.route("/", "dyn", timeout="2s")))
    assert world.get().status == 200
    world.ads.set("route", dynamic.routes("r", dynamic.direct("later")))
    until(lambda: world.get().body == b"later", 20, "the last table")
    assert px.stat("server.live") == 1


def test_cluster_of_the_same_endpoints_needs_no_new_ones(world, mesh):  # X3: replaced while its endpoints stay
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    assert world.get().status == 200
    for n in range(3):
        world.ads.set("cluster", world.eds("dyn", per_connection_buffer_limit_bytes=50000 + n))
        until(lambda: px.stat("cluster_manager.cluster_modified") == n + 1 and px.stat("cluster_manager.warming_clusters") == 0, 5, "the cluster")
        assert world.get().status == 200


def test_what_a_listener_waits_for(world):  # O4: /init_dump has Envoy's names; only listeners that warm
    def dump(query=""):
        return [(d["name"].rpartition(" ")[0], d["target_names"]) for d in json.loads(world.px.admin("/init_dump" + query)[1]).get("unready_targets_dumps", [])]
    prefix = "init manager Listener-local-init-manager "
    world.ads.set("listener", world.listener())
    px = world.start(ready=False)
    until(lambda: "add/update listener 'main'" in px.log(), 10, "the listener")
    until(lambda: (prefix + "main", ["shared target RdsRouteConfigSubscription RDS init r"]) in dump(), 10, "its routes")
    world.ads.set("route", dynamic.routes("r", dynamic.direct("x")))
    world.px.wait_ready()
    assert dump() == []
    second = world.listener("s", port=free_port(), name="second")
    second["filter_chains"][0]["transport_socket"] = config.ext(
        "tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"tls_certificate_sds_secret_configs": [{"name": "crt", "sds_config": world.source()}]})
    world.ads.set("listener", world.listener(), second)
    names = ["shared target RdsRouteConfigSubscription RDS init s", "shared target SdsApi crt"]
    until(lambda: [(n, sorted(t)) for n, t in dump("?mask=listener")] == [(prefix + "second", names)], 10, "the other")
    assert dump("?mask=nothing") == []


def test_requests_have_a_rate(world, mesh):  # rate_limit_settings
    up = mesh.upstream("up")
    world.serve(up)
    api = world.api()
    world.api = lambda: {**api, "rate_limit_settings": {"max_tokens": 2, "fill_rate": 20}}
    px = world.start()
    until(lambda: world.get().status == 200, 10, "the first resources")
    for i in range(3):
        world.ads.set("route", dynamic.routes("r", dynamic.direct(f"{i}")))
        until(lambda i=i: world.get().body == f"{i}".encode(), 10, "the table")
    assert px.stat("control_plane.rate_limit_enforced") > 0
    until(lambda: px.stat("control_plane.pending_requests") == 0, 10, "all requests to be sent")


def test_no_control_plane(mesh):  # initial_fetch_timeout: the start goes on without
    fields = {"initial_fetch_timeout": "1s"}
    boot = config.bootstrap([], [config.cluster("xds", [free_port()], http=H2)], free_port(), dynamic_resources={
        "cds_config": {**ADS, **fields}, "lds_config": {**ADS, **fields},
        "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}})
    px = mesh.proxy(boot=boot)
    assert px.stat("cluster_manager.cds.init_fetch_timeout") == px.stat("listener_manager.lds.init_fetch_timeout") == 1
    assert px.stat("cluster_manager.cds.update_failure") >= 1
    assert json.loads(px.admin("/init_dump")[1]) == {}


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_streams_of_their_own(mesh, delta):  # X1: gRPC per type
    up = mesh.upstream("up")
    w = World(mesh, delta, own=True)
    try:
        w.serve(up)
        px = w.start()
        assert w.get().status == 200
        kinds = sorted(s.method for s in w.ads.streams)
        assert kinds == sorted(f"{'Delta' if delta else 'Stream'}{k}" for k in ("Clusters", "Endpoints", "Listeners", "Routes"))
        assert px.stat("cluster_manager.cds.control_plane.connected_state") == 1
        w.ads.set("route", dynamic.routes("r", dynamic.direct("later")))
        until(lambda: w.get().body == b"later", 5, "the next table")
    finally:
        w.ads.stop()


def test_no_request_is_lost(world, mesh, request):  # X3; with --long 1,000 changes of each: endpoints, clusters, routes, listener, its certificate
    ups = [mesh.upstream(f"up{i}") for i in range(2)]
    pki = Pki(mesh.folder / "pki")
    pki.authority("ca")
    for name in ("one", "two"):
        pki.issue(name)
    tls = {"tls_certificate_sds_secret_configs": [{"name": "srv", "sds_config": ADS}]}

    def listener(**fields):
        place = world.listener(**fields)
        place["filter_chains"][0]["transport_socket"] = config.ext("tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=tls)
        return place

    def secret(name):
        world.ads.set("secret", {"name": "srv", "tls_certificate": pki.pair(name)})
    secret("one")
    world.serve(ups[0])
    world.ads.set("listener", listener())
    px = world.start()
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    context.check_hostname = False
    with dynamic.no_request_lost(px, world.port, 2, context):
        for i in range(1000 if request.config.getoption("--long") else 60):
            name = f"dyn{i % 2}"
            names = ["dyn", "dyn0", "dyn1"]  # the first routes name dyn: it goes nowhere before they did
            world.ads.set("endpoint", *[dynamic.assignment(n, [ups[(i + k) % 2].port]) for k, n in enumerate(names)])
            world.ads.set("cluster", *[world.eds(n, per_connection_buffer_limit_bytes=50000 + i) for n in names])
            until(lambda: px.stat("cluster_manager.active_clusters") == 4 and px.stat("cluster_manager.warming_clusters") == 0, 10, "clusters")
            secret(["two", "one"][i % 2])
            world.ads.set("route", dynamic.routes("r", config.route("/", name, timeout=f"{i + 5}s")))
            world.ads.set("listener", listener(per_connection_buffer_limit_bytes=60000 + i))
            until(lambda: px.stat("listener_manager.listener_modified") >= i + 1 and px.stat("sds.srv.update_success") >= i + 2, 10, "the listener")
    assert not [r.error_detail.message for r in world.ads.requests() if r.error_detail.code]
    s = px.stats(r"ssl\.(handshake|connection_error)$")
    assert s.pop(f"listener.{HOST}_{world.port}.ssl.handshake") and not any(s.values()), s


def test_overload_is_dropped(world, mesh):  # drop_overloads: a part of the requests, and at once
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()

    def drop(*parts):
        world.ads.set("endpoint", {**dynamic.assignment("dyn", [up.port]),
                                   "policy": {"drop_overloads": [{"category": f"c{i}", "drop_percentage": p} for i, p in enumerate(parts)]}})
    drop({"numerator": 500000, "denominator": "MILLION"})
    until(lambda: px.stat("cluster.dyn.update_success") == 2, 10, "the policy")
    answers = [world.get() for _ in range(100)]
    refused = [r for r in answers if r.status == 503]
    assert 10 < len(refused) < 90 and {r.get("x-envoy-drop-overload") for r in refused} == {"true"} and {r.body for r in refused} == {b"drop overload"}
    drop({"numerator": 0})
    until(lambda: px.stat("cluster.dyn.update_success") == 3, 10, "the policy")
    assert {world.get().status for _ in range(20)} == {200}
    for bad in (({"numerator": 1}, {"numerator": 2}), ({"numerator": 101},)):
        drop(*bad)
        world.ads.wait_nack("endpoint", "policy.drop_overloads")
    assert world.get().status == 200 and px.stat("cluster.dyn.update_rejected") == 2


def test_no_listener_comes_after_drain_listeners(world, mesh):  # P5: and the control plane is not told of an error
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    assert world.get().status == 200
    px.admin("/drain_listeners?inboundonly", "POST")
    other, late, inbound = free_port(), free_port(), free_port()
    world.ads.set("listener", world.listener(), world.listener(port=inbound, name="inbound", traffic_direction="INBOUND"), world.listener(port=other, name="other"))
    until(lambda: px.stat("listener_manager.total_listeners_active") == 2, 10, "the one that is not inbound")
    with px.client(other) as c:
        assert c.get("/").status == 200
    px.admin("/drain_listeners", "POST")
    world.ads.set("listener", world.listener(), world.listener(port=other, name="other"), world.listener(port=late, name="late"))
    until(lambda: px.stat("listener_manager.lds.update_success") == 3, 10, "the update")
    for port in (late, inbound):
        with pytest.raises(OSError):
            px.client(port)
    assert px.stat("listener_manager.listener_added") == 2 and px.stat("listener_manager.lds.update_rejected") == 0
