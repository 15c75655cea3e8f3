"""Virtual hosts by subscription (VHDS; rows X1-X4, H8): ahead of requests, and when one asks for its host."""
import json

import config
import dynamic
import pytest
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World, d, pack  # noqa: E402

OD = {"name": "od", "typed_config": {"@type": config.TYPE + "envoy.extensions.filters.http.on_demand.v3.OnDemand"}}
STATS = "http.in.rds.vhds.r."


def vhost(name, *domains, body=None, **fields):
    return {"name": f"r/{name}", "domains": list(domains), "routes": [dynamic.direct(body or name)], **fields}


class Vhds(World):
    """The control plane answers what is asked for: `known` is host to (resource name, virtual host); others have no body."""

    def __init__(self, mesh, own=False):
        super().__init__(mesh, True, own)
        self.known, self.answers, self.version = {}, True, 0
        self.ads.on_vhost = self.answer

    def answer(self, stream, names):
        if not names or "*" in names:
            self.say(stream)
        for n in names if self.answers else ():
            if n != "*":
                name, v = self.known.get(n.partition("/")[2], (n, None))
                self.say(stream, (name, v, [n]))

    def say(self, stream, *resources, removed=()):
        """Resources as (name, virtual host or None, aliases)."""
        self.version += 1
        out = []
        for name, v, aliases in resources:
            r = d.Resource(name=name, version=str(self.version), aliases=aliases)
            if v:
                r.resource.CopyFrom(pack("vhost", v))
            out.append(r)
        stream.nonce += 1
        stream.send(d.DeltaDiscoveryResponse(nonce=str(stream.nonce), type_url=config.TYPE + dynamic.TYPES["vhost"], resources=out,
                                             removed_resources=list(removed), system_version_info=str(self.version)))

    def push(self, *resources, removed=()):
        stream = next(s for s in reversed(self.ads.streams) if "vhost" in s.names)
        self.say(stream, *resources, removed=removed)

    def table(self, *vhosts, **fields):
        self.ads.set("route", {"name": "r", "virtual_hosts": list(vhosts), "vhds": {"config_source": self.source()}, **fields})

    def begin(self, filters=(OD,), ready=True, **routes):
        """@routes: what the manager has instead of tables by RDS."""
        hcm = config.hcm([], filters=list(filters), log=config.access_log(self.mesh.folder / "access.log"), stream_idle_timeout="60s")
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"].update(routes or {"rds": {"route_config_name": "r", "config_source": self.source()}})
        self.ads.set("listener", config.listener(self.port, [hcm]))
        return self.start(ready=ready)

    def inline(self, *vhosts, **fields):
        return {"name": "r", "virtual_hosts": list(vhosts), "vhds": {"config_source": self.source()}, **fields}

    def send(self, c, host, extra="", body=""):
        c.send(f"GET / HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n{body}")

    def got(self, host):
        with self.px.client(self.port, timeout=20) as c:
            self.send(c, host)
            return c.response()

    def asked(self):
        return [n for r in self.ads.requests("vhost") for n in r.resource_names_subscribe]

    def wait_begun(self):
        """The first request of the type names nothing: it is for all there is."""
        assert not self.ads.wait("vhost", lambda r: True).resource_names_subscribe


@pytest.fixture(params=["ads", "own"])
def world(request, mesh):
    w = Vhds(mesh, request.param == "own")
    yield w
    w.ads.stop()


@pytest.fixture
def ads(mesh):
    w = Vhds(mesh)
    yield w
    w.ads.stop()


def test_a_host_comes_when_it_is_asked_for(world):  # X1
    world.table(vhost("fixed", "fixed.test"))
    world.known["a.test"] = ("r/a", vhost("a", "a.test"))
    px = world.begin()
    assert [world.got(h).body for h in ("fixed.test", "a.test", "A.test")] == [b"fixed", b"a", b"a"]
    assert world.asked() == ["r/a.test"]
    assert px.stat(STATS + "config_reload") == 1
    shown = json.loads(px.admin("/config_dump?resource=dynamic_route_configs")[1])["configs"]
    assert [v["name"] for v in shown[0]["route_config"]["virtual_hosts"]] == ["r/fixed", "r/a"]


def test_a_host_that_nobody_knows(world):  # the server says so: no body for the alias
    world.table()
    px = world.begin()
    assert world.got("none.test").status == 404
    entry = px.access_log(1)[-1]
    assert (entry["flags"], entry["details"]) == ("NR", "route_not_found")
    assert world.asked() == ["r/none.test"]


def test_hosts_come_ahead_and_change_and_go(world):
    world.table()
    world.begin()
    world.wait_begun()
    world.push(("r/a", vhost("a", "a.test"), []), ("r/b", vhost("b", "b.test"), []))
    until(lambda: world.px.stat(STATS + "config_reload") == 1, 10, "the hosts")
    assert [world.got(h).body for h in ("a.test", "b.test")] == [b"a", b"b"]
    world.push(("r/a", vhost("a", "a.test", body="other"), []), removed=["r/b"])
    until(lambda: world.px.stat(STATS + "config_reload") == 2, 10, "the change")
    assert world.got("a.test").body == b"other" and world.got("b.test").status == 404
    world.table(vhost("fixed", "fixed.test"))  # RDS changes: what came beside it stays
    until(lambda: world.got("fixed.test").status == 200, 10, "the other table")
    assert world.got("a.test").body == b"other"


def test_an_update_that_is_refused_changes_nothing(ads):  # X2
    ads.table(vhost("fixed", "fixed.test"))
    ads.begin()
    ads.wait_begun()
    ads.push(("r/a", vhost("a", "a.test"), []))
    until(lambda: ads.px.stat(STATS + "config_reload") == 1, 10, "the host")
    ads.push(("r/b", vhost("b", "fixed.test"), []))
    ads.ads.wait_nack("vhost", "a domain may be in one virtual host only")
    ads.push(("r/c", {"name": "r/c"}, []))
    ads.ads.wait_nack("vhost", "domains")
    assert [ads.got(h).body for h in ("fixed.test", "a.test")] == [b"fixed", b"a"]


def test_who_waits_may_leave(ads):  # C: the answer finds those who stayed
    ads.table()
    ads.answers = False
    px = ads.begin()
    stays, leaves = px.client(ads.port, timeout=20), px.client(ads.port)
    for c in (stays, leaves):
        ads.send(c, "a.test")
    until(lambda: "r/a.test" in ads.asked(), 10, "the question")
    until(lambda: px.stat("http.in.downstream_rq_active") == 2, 10, "both")
    leaves.close()
    until(lambda: px.stat("http.in.downstream_rq_active") == 1, 10, "its end")
    ads.push(("r/a", vhost("a", "a.test"), ["r/a.test"]))
    assert stays.response().body == b"a"
    stays.close()
    assert ads.asked().count("r/a.test") == 1


def test_the_body_waits(ads):
    ads.table()
    ads.answers = False
    px = ads.begin()
    with px.client(ads.port, timeout=20) as c:
        ads.send(c, "a.test", "content-length: 4\r\n", "bo")
        until(lambda: "r/a.test" in ads.asked(), 10, "the question")
        ads.push(("r/a", vhost("a", "a.test"), ["r/a.test"]))
        until(lambda: px.stat(STATS + "config_reload") == 1, 10, "the host")
        c.send("dy")
        assert c.response().body == b"a"


def test_without_the_filter_nobody_asks(ads):
    ads.table(vhost("fixed", "fixed.test"))
    ads.known["a.test"] = ("r/a", vhost("a", "a.test"))
    ads.begin(filters=())
    assert ads.got("fixed.test").status == 200 and ads.got("a.test").status == 404
    assert ads.asked() == []


def test_a_path_without_a_route_asks_nobody(ads):  # its virtual host is there
    ads.table({"name": "r/x", "domains": ["x.test"], "routes": [dynamic.direct("x", "/only")]})
    ads.begin()
    assert ads.got("x.test").status == 404
    assert ads.asked() == []


def test_a_new_stream_begins_with_what_is_there(ads):  # X4
    ads.table()
    ads.known["a.test"] = ("r/a", vhost("a", "a.test"))
    ads.begin()
    assert ads.got("a.test").body == b"a"
    ads.ads.stop()
    ads.ads.start()
    again = ads.ads.wait("vhost", lambda r: "r/a" in r.initial_resource_versions, 40)
    assert sorted(again.resource_names_subscribe) == ["*", "r/a.test"]
    assert ads.got("a.test").body == b"a"


def test_listeners_wait_for_the_first_hosts(mesh):  # X3
    w = Vhds(mesh)
    try:
        w.table()
        w.ads.on_vhost = lambda *_: None
        px = w.begin(ready=False)
        w.wait_begun()
        assert px.stat("listener_manager.total_listeners_warming") == 1
        w.push(("r/a", vhost("a", "a.test"), []))
        px.wait_ready()
        assert w.got("a.test").body == b"a"
    finally:
        w.ads.stop()


# ---- beside a table that stands in the listener

def test_hosts_beside_an_inline_table(world):  # ahead of requests, on demand, changed and removed
    world.known["b.test"] = ("r/b", vhost("b", "b.test"))
    px = world.begin(route_config=world.inline(vhost("fixed", "fixed.test")))
    assert [world.got(h).body for h in ("fixed.test", "b.test")] == [b"fixed", b"b"]
    world.push(("r/a", vhost("a", "a.test"), []))
    until(lambda: world.got("a.test").status == 200, 10, "the host")
    world.push(("r/a", vhost("a", "a.test", body="other"), []), removed=["r/b"])
    until(lambda: world.got("a.test").body == b"other", 10, "the change")
    assert [world.got(h).status for h in ("fixed.test", "b.test", "none.test")] == [200, 404, 404]
    assert px.stat("vhds.r.update_rejected") == 0
    shown = json.loads(px.admin("/config_dump?resource=static_route_configs")[1])["configs"]
    assert [v["name"] for v in shown[0]["route_config"]["virtual_hosts"]] == ["r/fixed", "r/a"]


def test_an_inline_table_waits_for_its_first_hosts(ads):  # X3
    ads.ads.on_vhost = lambda *_: None
    px = ads.begin(ready=False, route_config=ads.inline())
    ads.wait_begun()
    assert px.stat("listener_manager.total_listeners_warming") == 1
    ads.push(("r/a", vhost("a", "a.test"), []))
    px.wait_ready()
    assert ads.got("a.test").body == b"a"


def test_hosts_of_an_inline_table_go_with_its_listener(ads):
    ads.begin(route_config=ads.inline(vhost("fixed", "fixed.test")))
    assert ads.got("fixed.test").status == 200
    ads.ads.set("listener")
    ads.ads.wait("vhost", lambda r: "*" in r.resource_names_unsubscribe)


def test_hosts_of_two_tables(ads):  # one stream; a later one is told what was said before
    ads.known["a.test"] = ("r/a", vhost("a", "a.test"))
    ads.begin(route_config=ads.inline(vhost("fixed", "fixed.test")))
    assert ads.got("a.test").body == b"a"
    other = config.hcm([], filters=[OD])
    other["typed_config"]["route_config"] = {**ads.inline(vhost("fixed", "fixed.test")), "name": "s"}
    port = free_port()
    main = config.hcm([], filters=[OD], log=config.access_log(ads.mesh.folder / "access.log"), stream_idle_timeout="60s")
    main["typed_config"]["route_config"] = ads.inline(vhost("fixed", "fixed.test"))
    ads.ads.set("listener", config.listener(ads.port, [main]), config.listener(port, [other], name="other"))
    ads.ads.wait("vhost", lambda r: "*" in r.resource_names_subscribe)
    ads.push(("s/b", vhost("b", "b.test"), []))
    with ads.px.client(port, timeout=20) as c:
        ads.send(c, "b.test")
        assert c.response().body == b"b"
    assert ads.got("a.test").body == b"a"


@pytest.mark.stricter
def test_hosts_of_a_scope(ads):  # the table comes on demand, then its host
    ads.known["b.test"] = ("r/b", vhost("b", "b.test"))
    ads.table(vhost("fixed", "fixed.test"))
    ads.ads.set("scope", {"name": "s", "key": {"fragments": [{"string_key": "1"}]}, "route_configuration_name": "r", "on_demand": True})
    ads.begin(scoped_routes={
        "name": "scopes", "rds_config_source": ads.source(), "scoped_rds": {"scoped_rds_config_source": ads.source()},
        "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": "x-scope", "index": 0}}]}})
    with ads.px.client(ads.port, timeout=20) as c:
        for host, status in (("b.test", 200), ("fixed.test", 200), ("none.test", 404)):
            ads.send(c, host, "x-scope: 1\r\n")
            assert c.response().status == status
    assert [n for n in ads.asked() if n != "*"] == ["r/b.test", "r/none.test"]


def test_filters_before_it_run_once(ads):  # as with clusters on demand
    ads.table()
    ads.known["a.test"] = ("r/a", vhost("a", "a.test"))
    fault = config.ext("fault", "envoy.extensions.filters.http.fault.v3.HTTPFault", delay={"fixed_delay": "0.001s", "percentage": {"numerator": 100}})
    px = ads.begin(filters=[fault, OD])
    assert ads.got("a.test").body == b"a"
    assert (px.stat("http.in.fault.delays_injected"), px.stat("http.in.downstream_rq_total")) == (1, 1)


def test_only_delta(mesh):
    w = Vhds(mesh)
    w.delta = False
    try:
        w.table()
        w.begin(ready=False)
        w.ads.wait_nack("route", "vhds: ADS must use DELTA_GRPC api_type when used as VHDS config source.")
    finally:
        w.ads.stop()
