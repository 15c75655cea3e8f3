"""Scoped routes (rows H8, X1-X3): which table serves a request is said by its headers; scopes and tables come and go."""
import config
import dynamic
import pytest
from wire import until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World  # noqa: E402

STATS = "http.in.scoped_rds.scopes"


def scope(name, *key, table=None, **fields):
    return {"name": name, "key": {"fragments": [{"string_key": k} for k in key]}, "route_configuration_name": table or name, **fields}


class Scoped(World):
    def listen(self, *fragments, **fields):
        hcm = config.hcm([])
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["scoped_routes"] = {
            "name": "scopes", "rds_config_source": self.source(), "scoped_rds": {"scoped_rds_config_source": self.source()},
            "scope_key_builder": {"fragments": [{"header_value_extractor": f} for f in fragments or [{"name": "x-scope", "index": 0}]]}}
        self.ads.set("listener", config.listener(self.port, [hcm], **fields))

    def scopes(self, *scopes):
        self.ads.set("scope", *scopes)

    def tables(self, **bodies):
        self.ads.set("route", *[dynamic.routes(n, dynamic.direct(b)) for n, b in bodies.items()])

    def ask(self, *values):
        """The body that a request with these values of x-scope gets; its status where that is not 200."""
        with self.px.client(self.port) as c:
            r = c.get("/", headers=[("x-scope", v) for v in values])
            return r.body.decode() if r.status == 200 else r.status


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh):
    w = Scoped(mesh, request.param == "delta")
    yield w
    w.ads.stop()


def test_a_listener_waits_for_scopes_and_their_tables(world):  # X3
    world.listen()
    world.scopes(scope("one", "1"), scope("two", "2"))
    px = world.start(ready=False)
    world.ads.wait("route", lambda r: True)
    assert px.admin("/ready")[0] == 503
    world.tables(one="first", two="second")
    px.wait_ready()
    assert (world.ask("1"), world.ask("2"), world.ask("3"), world.ask()) == ("first", "second", 404, 404)
    assert (px.stat(f"{STATS}.all_scopes"), px.stat(f"{STATS}.active_scopes")) == (2, 2)


def test_scopes_come_change_and_go(world):
    world.listen()
    world.scopes(scope("one", "1"), scope("two", "2"))
    world.tables(one="first", two="second", three="third")
    px = world.start()
    world.scopes(scope("one", "1"), scope("two", "2"), scope("three", "3"))
    until(lambda: world.ask("3") == "third", 10, "the third")
    world.scopes(scope("one", "uno"), scope("three", "3", table="two"))
    until(lambda: world.ask("2") == 404, 10, "the second's end")
    until(lambda: world.ask("3") == "second", 10, "another table")
    assert (world.ask("uno"), world.ask("1")) == ("first", 404)
    world.tables(one="changed", two="second")
    until(lambda: world.ask("uno") == "changed", 10, "the other table")
    assert px.stat(f"{STATS}.update_rejected") == 0
    world.scopes()
    until(lambda: world.ask("3") == 404, 10, "the end of all")
    if world.delta:
        world.ads.wait("route", lambda r: "one" in r.resource_names_unsubscribe)
    else:
        until(lambda: not world.ads.requests("route")[-1].resource_names, 10, "the end of the subscriptions")


def test_what_is_refused_changes_nothing(world):  # X2, H01
    world.listen()
    world.scopes(scope("one", "1"))
    world.tables(one="first", two="second")
    px = world.start()
    for bad, why in (((scope("one", "1"), scope("two", "1")), "scope key conflict found"),
                     ((scope("one", "9"), scope("two", "2", route_configuration_name="")), "You must specify a route_configuration"),
                     ((scope("two", "2"), {**scope("bad", "3"), "key": {"fragments": [{}]}}), "key.fragments[0]")):
        world.scopes(*bad)
        world.ads.wait_nack("scope", why)
        assert world.ask("1") == "first" and world.ask("2") == 404
    assert px.stat(f"{STATS}.update_rejected") == 3
    world.scopes(scope("one", "1"), scope("other", "2", table="two"))
    until(lambda: world.ask("2") == "second", 10, "a good one")


def test_keys_of_several_fragments(world):  # any byte may be in one
    world.listen({"name": "x-scope", "element_separator": ";", "element": {"separator": "=", "key": "vip"}}, {"name": ":authority", "index": 0})
    world.scopes(scope("one", "1:", "a"), scope("two", "1", ":a"))
    world.tables(one="first", two="second")
    world.start()
    assert world.ask("zone=x;vip=1:") == "first"
    assert world.ask("vip=1") == world.ask("vip") == world.ask("1:") == 404


def test_no_request_is_lost(world, mesh, request):  # X3
    up = mesh.upstream("up")
    world.ads.set("cluster", config.cluster("up", [up.port]))
    hcm = config.hcm([])
    del hcm["typed_config"]["route_config"]
    hcm["typed_config"]["scoped_routes"] = {
        "name": "scopes", "rds_config_source": world.source(), "scoped_rds": {"scoped_rds_config_source": world.source()},
        "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": ":path", "index": 0}}]}}
    world.ads.set("listener", config.listener(world.port, [hcm]))
    world.scopes(scope("one", "/"))
    tables = ["one", "two"]
    world.ads.set("route", *[dynamic.routes(t, config.route("/", "up")) for t in tables])
    px = world.start()
    with dynamic.no_request_lost(px, world.port, 2):
        for i in range(1000 if request.config.getoption("--long") else 60):
            other = tables[i % 2]
            world.scopes(scope("one", "/"), scope("more", f"/{i}", table=other))
            until(lambda: px.stat(f"{STATS}.config_reload") == 2 * i + 2, 10, "the scopes")
            world.ads.set("route", *[dynamic.routes(t, config.route("/", "up", timeout=f"{i + 5}s")) for t in tables])
            world.scopes(scope("one", "/"))
            until(lambda: px.stat(f"{STATS}.config_reload") == 2 * i + 3, 10, "the scopes")
    assert px.stat(f"{STATS}.update_rejected") == 0
