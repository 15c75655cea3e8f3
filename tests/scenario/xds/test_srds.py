"""Scoped routes (rows H8, X1-X3): which table serves a request is said by its headers; scopes and tables come and go."""
import config
import dynamic
import pytest
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World  # noqa: E402

STATS = "http.in.scoped_rds.scopes"


def scope(name, *key, table=None, **fields):
    return {"name": name, "key": {"fragments": [{"string_key": k} for k in key]}, "route_configuration_name": table or name, **fields}


ON_DEMAND = {"name": "od", "typed_config": {"@type": config.TYPE + "envoy.extensions.filters.http.on_demand.v3.OnDemand"}}


class Scoped(World):
    def listen(self, *fragments, **fields):
        self.ads.set("listener", self.place(*fragments, **fields))

    def place(self, *fragments, filters=(), port=None, scopes="scopes", **fields):
        hcm = config.hcm([], filters=list(filters), log=config.access_log(self.mesh.folder / "access.log"), stream_idle_timeout="60s")
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["scoped_routes"] = {
            "name": scopes, "rds_config_source": self.source(), "scoped_rds": {"scoped_rds_config_source": self.source()},
            "scope_key_builder": {"fragments": [{"header_value_extractor": f} for f in fragments or [{"name": "x-scope", "index": 0}]]}}
        return config.listener(port or self.port, [hcm], **fields)

    def scopes(self, *scopes):
        self.ads.set("scope", *scopes)

    def tables(self, **bodies):
        self.ads.set("route", *[dynamic.routes(n, dynamic.direct(b)) for n, b in bodies.items()])

    def ask(self, *values, port=None, header="x-scope"):
        """The body that a request with these values of x-scope gets; its status where that is not 200."""
        with self.px.client(port or self.port) as c:
            r = c.get("/", headers=[(header, v) for v in values])
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
                     ((scope("one", "9"), scope("two", "2", route_configuration_name="")), "route_configuration_name is empty."),
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


def test_two_managers_have_the_same_scopes(world):  # one later than the other; each by headers of its own
    world.listen()
    world.scopes(scope("one", "1"), scope("two", "2"))
    world.tables(one="first", two="second", three="third")
    px = world.start()
    assert world.ask("1") == "first"
    port = free_port()
    world.ads.set("listener", world.place(), world.place({"name": "x-other", "index": 0}, port=port, name="second", scopes="others"))
    px.wait_stat("listener_manager.total_listeners_active", 2, 10)
    assert (world.ask("1"), world.ask("2", port=port, header="x-other")) == ("first", "second")
    world.scopes(scope("one", "1", table="three"), scope("two", "2"))
    until(lambda: world.ask("1") == world.ask("1", port=port, header="x-other") == "third", 10, "the change")
    world.ads.set("listener", world.place({"name": "x-other", "index": 0}, port=port, name="second", scopes="others"))  # the first of them goes
    px.wait_stat("listener_manager.total_listeners_draining", 0, 10)
    world.scopes(scope("one", "1"))
    until(lambda: world.ask("1", port=port, header="x-other") == "first", 10, "the next change")
    assert world.ask("2", port=port, header="x-other") == 404


@pytest.mark.stricter  # Envoy's waits for scopes that the stream brings no more
def test_a_listener_that_comes_again(world):  # and nothing of its scopes changed meanwhile
    world.listen()
    world.scopes(scope("one", "1"), scope("two", "2"))
    world.tables(one="first", two="second")
    px = world.start()
    for n in range(3):
        world.ads.set("listener")
        until(lambda: px.stat("listener_manager.total_listeners_active") == px.stat("listener_manager.total_listeners_draining") == 0, 20, "its end")
        world.listen()
        until(lambda: px.stat("listener_manager.total_listeners_active") == 1, 10, f"its return, {n}")
        assert (world.ask("1"), world.ask("2")) == ("first", "second")
    world.listen(per_connection_buffer_limit_bytes=70000)  # the old one and the new one at once
    until(lambda: px.stat("listener_manager.listener_modified") == 1, 10, "the other")
    assert (world.ask("1"), world.ask("2")) == ("first", "second")


# ---- scopes on demand: their tables come when a request asks, through the on_demand filter (X1)

def lazy(name, *key, **fields):
    return scope(name, *key, on_demand=True, **fields)


def tables_asked(world):
    """Which tables the control plane was ever asked for."""
    return {n for r in world.ads.requests("route") for n in (r.resource_names_subscribe if world.delta else r.resource_names)}


def shown(px):
    return tuple(px.stat(f"{STATS}.{n}") for n in ("all_scopes", "active_scopes", "on_demand_scopes"))


def test_a_table_comes_when_a_request_asks(world):
    world.listen(filters=[ON_DEMAND])
    world.scopes(scope("now", "0"), lazy("one", "1"), lazy("two", "2"))
    world.tables(now="now", one="first", two="second")
    px = world.start()
    assert world.ask("0") == "now" and shown(px) == (3, 1, 2) and tables_asked(world) == {"now"}
    assert world.ask("1") == "first" and shown(px) == (3, 2, 2) and tables_asked(world) == {"now", "one"}
    assert world.ask("1") == "first" and world.ask("3") == world.ask() == 404
    world.tables(now="now", one="changed", two="second")
    until(lambda: world.ask("1") == "changed", 10, "the change")
    assert world.ask("2") == "second" and tables_asked(world) == {"now", "one", "two"}


def test_without_the_filter_no_table_comes(world):
    world.listen()
    world.scopes(lazy("one", "1"))
    world.tables(one="first")
    px = world.start()
    assert world.ask("1") == 404
    entry = px.access_log(1)[-1]
    assert (entry["flags"], entry["details"]) == ("NR", "route_not_found")
    assert tables_asked(world) == set() and shown(px) == (1, 0, 1)


def test_all_who_wait_for_a_table_are_served(world):  # one subscription, whoever has left
    world.listen(filters=[ON_DEMAND])
    world.scopes(lazy("one", "1"))
    px = world.start()
    clients = [px.client(world.port, timeout=20) for _ in range(6)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nhost: h\r\nx-scope: 1\r\n\r\n")
    until(lambda: px.stat("http.in.downstream_rq_active") == 6, 10, "the requests")
    until(lambda: tables_asked(world) == {"one"}, 10, "the question")
    for c in clients[:3]:
        c.close()
    until(lambda: px.stat("http.in.downstream_rq_active") == 3, 10, "those that stay")
    world.tables(one="first")
    assert [c.response().body for c in clients[3:]] == [b"first"] * 3
    for c in clients[3:]:
        c.close()
    assert [e["flags"] for e in px.access_log(6)].count("DC") == 3


def test_a_body_waits_for_the_table(world, mesh):
    up = mesh.upstream("up")
    world.ads.set("cluster", config.cluster("up", [up.port]))
    world.listen(filters=[ON_DEMAND])
    world.scopes(lazy("one", "1"))
    px = world.start()
    with px.client(world.port, timeout=20) as c:
        c.send("POST / HTTP/1.1\r\nhost: h\r\nx-scope: 1\r\ncontent-length: 4\r\n\r\nbo")
        until(lambda: tables_asked(world) == {"one"}, 10, "the question")
        world.ads.set("route", dynamic.routes("one", config.route("/", "up")))
        c.send("dy")
        assert c.response().status == 200
    assert [r.body for r in up.requests] == [b"body"]


@pytest.mark.stricter
def test_a_scope_that_goes_meanwhile(world):  # the request has no route
    world.listen(filters=[ON_DEMAND])
    world.scopes(lazy("one", "1"))
    px = world.start()
    with px.client(world.port, timeout=20) as c:
        c.send("GET / HTTP/1.1\r\nhost: h\r\nx-scope: 1\r\n\r\n")
        until(lambda: tables_asked(world) == {"one"}, 10, "the question")
        world.scopes()
        assert c.response().status == 404
    assert shown(px) == (0, 0, 0)


@pytest.mark.stricter
def test_a_scope_that_changes_meanwhile(world):  # the request has the table that its key names then
    world.listen(filters=[ON_DEMAND])
    world.scopes(lazy("one", "1"))
    px = world.start()
    with px.client(world.port, timeout=20) as c:
        c.send("GET / HTTP/1.1\r\nhost: h\r\nx-scope: 1\r\n\r\n")
        until(lambda: tables_asked(world) == {"one"}, 10, "the question")
        world.scopes(lazy("one", "1", table="two"))
        world.tables(two="second")
        assert c.response().body == b"second"
    assert shown(px) == (1, 1, 1)


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
