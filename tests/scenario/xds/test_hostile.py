"""A control plane that floods, flaps, contradicts itself or dies at any moment (row X4; H01, H04): serving goes on, memory stays."""
import json
import random
import threading
import time

import config
import dynamic
import pytest
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World, any_pb2, d  # noqa: E402
from google.protobuf.internal.encoder import _VarintBytes  # noqa: E402

ROUTES = config.TYPE + dynamic.TYPES["route"]


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh):
    w = World(mesh, request.param == "delta")
    yield w
    w.ads.stop()


def serving(world, mesh):
    world.serve(mesh.upstream("up"))
    px = world.start()
    assert world.get().status == 200
    return px


def complete(world, px):
    """It still follows."""
    world.ads.set("route", dynamic.routes("r", dynamic.direct("later")))
    until(lambda: world.get().body == b"later", 40, "the last table")
    assert px.stat("server.live") == 1


def table_of(world, n):
    """A response with a route table of so many bytes, which is none."""
    value = b"\x0a\x01r\x12" + _VarintBytes(n) + bytes(n)
    table = any_pb2.Any(type_url=ROUTES, value=value)
    if world.delta:
        return d.DeltaDiscoveryResponse(type_url=ROUTES, nonce="n", resources=[d.Resource(name="r", version="v", resource=table)])
    return d.DiscoveryResponse(type_url=ROUTES, nonce="n", version_info="v", resources=[table])


def live_bytes(px):
    return json.loads(px.admin("/mizzen/memory")[1])["bytes"]


def test_h01_h04_a_table_of_100_mb(world, mesh):  # refused, told so, and given back
    px = serving(world, mesh)
    before = live_bytes(px)
    world.ads.streams[0].send(table_of(world, 100 << 20))
    nack = world.ads.wait_nack("route", "virtual_hosts: not the binary form")
    assert len(nack.error_detail.message) < 2000
    assert world.get().status == 200
    until(lambda: live_bytes(px) < before + (1 << 20), 10, lambda: f"{before} bytes; there are {live_bytes(px)}")
    complete(world, px)
    assert px.log().count("update refused") == px.log().count("[warning]") == 1


def test_h04_a_message_above_the_limit(world, mesh):  # ends the stream, nothing else
    px = serving(world, mesh)
    world.ads.streams[0].send(table_of(world, 129 << 20))
    until(lambda: "config stream closed" in px.log(), 40, "the end of the stream")
    assert world.get().status == 200
    until(lambda: px.stat("control_plane.connected_state") == 1, 40, "another stream")
    complete(world, px)
    assert px.log().count("config stream closed") == 1


def test_h04_flaps(world, mesh):  # each 10 ms another version, and the clusters that routes name come and go
    px = serving(world, mesh)
    extra = [mesh.upstream(f"x{i}").port for i in range(2)]
    with dynamic.no_request_lost(px, world.port, 2):
        end, i = time.monotonic() + 3, 0
        while time.monotonic() < end:
            i += 1
            flapping = [config.cluster("flap", [extra[i % 2]])] if i % 3 else []
            world.ads.set("cluster", world.eds("dyn"), *flapping)
            world.ads.set("route", dynamic.routes("r", config.route("/flap", "flap", timeout=f"{i % 7 + 1}s"), config.route("/", "dyn")))
            world.ads.set("listener", world.listener(), *([world.listener(port=extra[0], name="clash")] if i % 2 else []))
            time.sleep(0.01)
    assert px.stat("cluster_manager.active_clusters") <= 3
    complete(world, px)


def test_h04_contradictions(world, mesh):  # what cannot be is refused, each by itself
    px = serving(world, mesh)
    world.ads.set("endpoint", dynamic.assignment("dyn", [mesh.upstreams[0].port]), {"cluster_name": "nobody"})
    other = free_port()
    world.ads.set("listener", world.listener(), world.listener(port=world.port, name="same address"), world.listener(port=other, name="other"))
    world.ads.wait_nack("listener", "same address")
    until(lambda: px.stat("listener_manager.total_listeners_active") == 2, 10, "the good one")
    with px.client(other) as c:
        assert c.get("/").status == 200
    ring = [{"name": n, "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": {
        "@type": config.TYPE + "envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": [m]}},
        "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s"} for n, m in (("one", "two"), ("two", "one"))]
    world.ads.set("cluster", world.eds("dyn"), *ring)
    world.ads.wait_nack("cluster", "")
    assert world.get().status == 200
    complete(world, px)


def test_h04_killed_at_any_moment(world, mesh):  # X4
    px = serving(world, mesh)
    rand, stop = random.Random(4), threading.Event()

    def push():
        i = 0
        while not stop.is_set():
            i += 1
            world.ads.set("cluster", world.eds("dyn"), *[config.cluster(f"c{k}", [1]) for k in range(i % 20)])
            world.ads.set("route", dynamic.routes("r", config.route("/", "dyn", timeout=f"{i % 9 + 1}s")))
            time.sleep(0.002)
    pusher = threading.Thread(target=push)
    pusher.start()
    kills = 3
    try:
        with dynamic.no_request_lost(px, world.port, 2):
            for n in range(kills):
                until(lambda: px.stat("control_plane.connected_state") == 1, 60, "the stream")
                time.sleep(rand.random() / 5)
                world.ads.stop()
                until(lambda: px.log().count("config stream closed") == n + 1, 10, "its end")
                world.ads.start()
    finally:
        stop.set()
        pusher.join()
    complete(world, px)
    assert px.log().count("config stream closed") == kills
    assert not [r for r in world.ads.requests() if r.error_detail.code]
