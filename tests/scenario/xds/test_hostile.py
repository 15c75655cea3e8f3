"""A control plane that floods, flaps, contradicts itself or dies at any moment (row X4; H01, H04): serving goes on, memory stays."""
import json
import random
import socket
import threading
import time

import config
import dynamic
import pytest
from wire import HOST, free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import ADS, H2, World, any_pb2, d, pack  # noqa: E402
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


def nested(depth):
    """An Any within an Any, so deep."""
    inner = any_pb2.Any(type_url=ROUTES)
    for _ in range(depth):
        inner = any_pb2.Any(type_url=config.TYPE + "google.protobuf.Any", value=inner.SerializeToString())
    return inner


def field(number, value):
    """A length-delimited field."""
    return _VarintBytes(number << 3 | 2) + _VarintBytes(len(value)) + value


def routes_any(value):
    return any_pb2.Any(type_url=ROUTES, value=field(1, b"r") + value)


HOST_ALL = field(1, b"h") + field(2, b"*")
HOSTILE = {  # kind, what is sent beside what serves, what the refusal names
    "wrong-type": ("cluster", lambda w: [pack("listener", w.listener())], "resources[1]"),
    "negative": ("cluster", lambda w: [w.eds("bad", connect_timeout="-1s")], "bad: connect_timeout"),
    "not-a-number": ("cluster", lambda w: [w.eds("bad", common_lb_config={"healthy_panic_threshold": {"value": "NaN"}})], "bad: common_lb_config.healthy_panic_threshold"),
    "twice": ("cluster", lambda w: [w.eds("bad"), w.eds("bad")], "duplicate cluster bad"),
    "nested-any": ("route", lambda w: [nested(100)], "resources[0]"),
    "bytes": ("route", lambda w: [routes_any(b"\xff\xff\xff")], "not the binary form"),
    "no-utf8": ("route", lambda w: [routes_any(field(2, field(1, b"\xff\xfe") + field(2, b"*")))], "name"),
    "group-within-group": ("route", lambda w: [routes_any(b"\x1b" * 100000)], "not the binary form"),
    "long-domain": ("route", lambda w: [routes_any(field(2, field(1, b"h") + field(2, b"*.*")))], "virtual_hosts[0].domains[0]"),
    "two-of-all": ("route", lambda w: [routes_any(field(2, HOST_ALL) * 2)], "virtual_hosts[1]"),
}


@pytest.mark.parametrize("kind,make,why", HOSTILE.values(), ids=HOSTILE)
def test_h01_hostile_resources(world, mesh, kind, make, why):  # refused by path; what runs stays, also over another stream
    up = mesh.upstream("up")
    world.serve(up)
    px = world.start()
    counter = {"cluster": "cluster_manager.cds.update_rejected", "route": "http.in.rds.r.update_rejected"}[kind]
    good = [world.eds("dyn")] if kind == "cluster" else []
    send = lambda s: s.send(response(world, kind, good, make(world), s))  # noqa: E731
    send(world.ads.streams[0])
    world.ads.wait_nack(kind, why)
    px.wait_stat(counter)
    assert world.get().status == 200
    world.ads.stop()
    world.ads.start()
    stream = until(lambda: next((s for s in world.ads.streams if kind in s.names), None), 40, "another stream")
    before = px.stat(counter)
    send(stream)
    px.wait_stat(counter, before + 1)
    assert world.get().status == 200 and px.stat("cluster_manager.active_clusters") == 2
    complete(world, px)


def response(world, kind, good, bad, stream):
    packed = [pack(kind, r) for r in [*good, *bad]]
    url = config.TYPE + dynamic.TYPES[kind]
    stream.nonce += 1
    if not world.delta:
        return d.DiscoveryResponse(type_url=url, nonce=f"bad{stream.nonce}", version_info="bad", resources=packed)
    names = [r["name"] if isinstance(r, dict) else "r" for r in [*good, *bad]]
    return d.DeltaDiscoveryResponse(type_url=url, nonce=f"bad{stream.nonce}", resources=[
        d.Resource(name=n, version="bad", resource=r) for n, r in zip(names, packed)])


def test_h04_nonces_of_before(world, mesh):  # answers repeat what was said, or are without a nonce: each is answered, none does harm
    px = serving(world, mesh)
    stream = world.ads.streams[0]
    table = pack("route", dynamic.routes("r", config.route("/", "dyn")))
    for nonce in ("1", "1", "", "1", "\t" * 3000):
        if world.delta:
            stream.send(d.DeltaDiscoveryResponse(type_url=ROUTES, nonce=nonce, resources=[d.Resource(name="r", version="1", resource=table)]))
        else:
            stream.send(d.DiscoveryResponse(type_url=ROUTES, nonce=nonce, version_info="1", resources=[table]))
    world.ads.wait("route", lambda r: len(r.response_nonce) == 3000)
    assert world.get().status == 200 and px.stat("http.in.rds.r.update_rejected") == 0
    complete(world, px)


class Peer:
    """A control plane of bytes: accepts, and says what it is told to. Ports as of a server that is slow, silent or half gone."""

    def __init__(self):
        self.listener = socket.create_server((HOST, 0))
        self.port, self.taken = self.listener.getsockname()[1], []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                self.taken.append(self.listener.accept()[0])
        except OSError:
            pass

    def close(self):
        for s in [self.listener, *self.taken]:
            s.close()


SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS = b"\0\0\x12\1\4\0\0\0\1" + b"\x88\x5f\x10application/grpc"[:18]


@pytest.mark.parametrize("how", ["silent", "slow", "half"])
def test_h04_a_control_plane_that_is_slow(mesh, how):  # it says nothing, a byte a moment, or shuts its half: the start goes on without it
    peer, stop = Peer(), threading.Event()
    fields = {"initial_fetch_timeout": "1s"}
    boot = config.bootstrap([config.listener(free_port(), [config.hcm([dynamic.direct("fixed")])])], [config.cluster("xds", [peer.port], http=H2)], free_port(),
                            dynamic_resources={"cds_config": {**ADS, **fields}, "ads_config": {
                                "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}})

    def drip():
        data = SETTINGS + HEADERS + b"\0\x10\0\0\0\0\0\0\1" + b"\0\0\0\x0f\xfb"  # a message that never ends
        while not stop.is_set():
            for s in list(peer.taken):
                try:
                    s.send(data[:1])
                except OSError:
                    pass
            data = data[1:] or b"\0"
            stop.wait(0.01)
    slow = threading.Thread(target=drip, daemon=True)
    if how == "slow":
        slow.start()
    try:
        px = mesh.proxy(boot=boot)
        until(lambda: peer.taken, 10, "a connection")
        if how == "half":
            for s in peer.taken:
                s.sendall(SETTINGS)
                s.shutdown(socket.SHUT_WR)
            until(lambda: len(peer.taken) > 1, 60, "another try")
        assert px.stat("cluster_manager.cds.init_fetch_timeout") == 1
        with dynamic.no_request_lost(px, px.port, 1):
            pass
        assert px.log().count("config stream closed") <= 1
    finally:
        stop.set()
        if how == "slow":
            slow.join()
        peer.close()
