"""Filters by subscription (rows X1-X3, H6; H01): over ADS and streams of their own; listeners wait for them, streams keep what they began with."""
import json
import socket

import config
import dynamic
import pytest
from upstream import Reply
from wire import HOST, Stream, free_port, patient, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World  # noqa: E402

FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
BUFFER = "envoy.extensions.filters.http.buffer.v3.Buffer"
DIRECT = "envoy.extensions.filters.network.direct_response.v3.Config"
TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
HTTP = "extension_config_discovery.http_filter.flt"


def abort(code):
    return {"abort": {"http_status": code, "percentage": {"numerator": 100}}}


def extension(name, typ, **fields):
    return {"name": name, "typed_config": {"@type": config.TYPE + typ, **fields}}


class Ecds(World):
    def place(self, name="flt", types=(FAULT, BUFFER), **fields):
        return {"name": name, "config_discovery": {"config_source": self.source(), "type_urls": [config.TYPE + t for t in types], **fields}}

    def http(self, *filters, port=None, name="main"):
        return config.listener(port or self.port, [config.hcm([dynamic.direct("ok")], filters=filters)], name=name)

    def listen(self, *listeners):
        self.ads.set("listener", *listeners)

    def give(self, *extensions):
        self.ads.set("extension", *extensions)

    def status(self):
        return self.get().status

    def wait(self, **stats):
        for k, v in stats.items():
            until(lambda k=k, v=v: self.px.stat(f"{HTTP}.{k}") == v, 10, f"{k} {v}")


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh):
    w = Ecds(mesh, request.param == "delta")
    yield w
    w.ads.stop()


def test_a_listener_waits_for_its_filters(world):  # X3
    world.listen(world.http(world.place()))
    px = world.start(ready=False)
    until(lambda: "add/update listener 'main'" in px.log(), 10, "the listener")
    assert px.stat("listener_manager.total_listeners_warming") == 1 and "main" in px.admin("/init_dump")[1]
    world.give(extension("flt", FAULT, **abort(418)))
    px.wait_ready()
    assert world.status() == 418
    world.give(extension("flt", FAULT, **abort(429)))
    world.wait(config_reload=2)
    assert world.status() == 429
    assert px.stat("listener_manager.listener_modified") == 0


def test_what_is_refused_changes_nothing(world):  # X2, H01
    world.listen(world.http(world.place()))
    world.give(extension("flt", FAULT, **abort(418)))
    px = world.start()
    for bad, why in ((extension("flt", "envoy.extensions.filters.http.router.v3.Router"), "type URL envoy.extensions.filters.http.router.v3.Router"),
                     (extension("flt", FAULT, abort={"http_status": 42, "percentage": {"numerator": 100}}), "http_status")):
        world.give(bad)
        world.ads.wait_nack("extension", why)
        assert world.status() == 418
    world.wait(config_fail=2, update_rejected=2)
    world.give(extension("flt", BUFFER, max_request_bytes=5))
    world.wait(config_reload=2)
    assert world.status() == 200
    shown = json.loads(px.admin("/config_dump?resource=ecds_filters")[1])["configs"]
    assert [c["ecds_filter"]["typed_config"]["max_request_bytes"] for c in shown] == [5]


def test_a_default_serves_before_and_after(mesh):  # only delta tells of removals
    world = Ecds(mesh, True)
    default = {"default_config": {"@type": config.TYPE + FAULT, **abort(409)}, "apply_default_config_without_warming": True}
    try:
        world.listen(world.http(world.place(**default)))
        px = world.start()
        assert world.status() == 409
        world.give(extension("flt", FAULT, **abort(418)))
        world.wait(config_reload=1)
        assert world.status() == 418
        world.give()
        world.wait(config_reload=2)
        assert world.status() == 409
        world.listen(world.http(world.place()))
        until(lambda: px.stat("listener_manager.listener_modified") == 1, 10, "the listener")
        world.give(extension("flt", FAULT, **abort(418)))
        until(lambda: world.status() == 418, 10, "the filter")
        world.give()
        world.wait(config_reload=4)
        assert world.status() == 500
    finally:
        world.ads.stop()


def test_places_share_a_subscription(world):  # one that cannot take what is there has its default
    other = free_port()
    world.listen(world.http(world.place()))
    world.give(extension("flt", FAULT, **abort(418)))
    px = world.start()
    assert world.status() == 418
    picky = world.place(types=[BUFFER], default_config={"@type": config.TYPE + BUFFER, "max_request_bytes": 9})
    world.listen(world.http(world.place()), world.http(picky, port=other, name="other"))
    until(lambda: px.stat("listener_manager.total_listeners_active") == 2, 10, "both")
    world.wait(config_conflict=1)
    with px.client(other) as c:
        assert c.get("/").status == 200
    world.give(extension("flt", FAULT, **abort(429)))  # fits one of two places: none has it
    world.ads.wait_nack("extension", "expect envoy.extensions.filters.http.buffer.v3.Buffer")
    assert world.status() == 418
    world.give(extension("flt", BUFFER, max_request_bytes=9))
    world.wait(config_reload=2)
    assert world.status() == 200
    world.listen()
    until(lambda: px.stat("listener_manager.total_listeners_draining") == 0 and px.stat("listener_manager.total_listeners_active") == 0, 20, "their end")
    until(lambda: px.admin("/config_dump?mask=ecds_filters")[0] == 400, 10, "the end of the subscription")


def test_type_urls_are_known(world):  # the error names the place
    world.listen(world.http(world.place(types=["envoy.extensions.filters.http.wasm.v3.Wasm"])))
    world.start()
    nack = world.ads.wait_nack("listener", "no factory found for a required type URL envoy.extensions.filters.http.wasm.v3.Wasm.")
    assert "http_filters[0].config_discovery.type_urls[0]" in nack.error_detail.message


def test_network_filters(world, mesh):  # L5: connections keep what they began with
    up = mesh.upstream("up", [Reply(body=b"through")])
    world.ads.set("cluster", config.cluster("up", [up.port]))
    world.listen(config.listener(world.port, [world.place("net", types=(TCP, DIRECT))]))
    world.give(extension("net", TCP, stat_prefix="t", cluster="up"))
    px = world.start()
    with px.client(world.port) as old:
        assert old.get("/").body == b"through"
        world.give(extension("net", DIRECT, response={"inline_string": "hello"}))
        until(lambda: px.stat("extension_config_discovery.network_filter.net.config_reload") == 2, 10, "the other filter")
        assert old.get("/").body == b"through"
        with socket.create_connection((HOST, world.port), timeout=patient(5)) as s:
            assert Stream(s).exactly(5, 5) == b"hello"


def test_no_request_is_lost(world, mesh, request):  # X3: filters change under load
    up = mesh.upstream("up")
    world.ads.set("cluster", config.cluster("up", [up.port]))
    world.listen(config.listener(world.port, [config.hcm([config.route("/", "up")], filters=[world.place()])]))
    world.give(extension("flt", BUFFER, max_request_bytes=1000))
    px = world.start()
    rounds = 1000 if request.config.getoption("--long") else 100
    with dynamic.no_request_lost(px, world.port, 2):
        for i in range(rounds):
            world.give(extension("flt", BUFFER, max_request_bytes=1001 + i) if i % 2 else extension("flt", FAULT, max_active_faults=i + 1))
            world.wait(config_reload=i + 2)
    assert px.stat(f"{HTTP}.config_fail") == 0
