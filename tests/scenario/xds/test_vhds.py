"""Virtual hosts by subscription (VHDS; rows X1-X4, H8): ahead of requests, and when one asks for its host."""
import json

import config
import dynamic
import pytest
from wire import until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World, d, pack  # noqa: E402

OD = {"name": "od", "typed_config": {"@type": config.TYPE + "envoy.extensions.filters.http.on_demand.v3.OnDemand"}}
STATS = "http.in.vhds.r."


def vhost(name, *domains, body=None, **fields):
    return {"name": f"r/{name}", "domains": list(domains), "routes": [dynamic.direct(body or name)], **fields}


class Vhds(World):
    """The control plane answers what is asked for: `known` is host to (resource name, virtual host); others have no body."""

    def __init__(self, mesh, own=False):
        super().__init__(mesh, True, own)
        self.known, self.answers, self.version = {}, True, 0
        self.ads.on_vhost = self.answer

    def answer(self, stream, names):
        hosts = [n for n in names if "/" in n]
        if not self.answers or len(hosts) < len(names):
            if len(hosts) < len(names):
                self.say(stream)
            return
        for n in hosts:
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

    def begin(self, filters=(OD,), ready=True):
        hcm = config.hcm([], filters=list(filters), log=config.access_log(self.mesh.folder / "access.log"), stream_idle_timeout="60s")
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["rds"] = {"route_config_name": "r", "config_source": self.source()}
        self.ads.set("listener", config.listener(self.port, [hcm]))
        return self.start(ready=ready)

    def send(self, c, host, extra="", body=""):
        c.send(f"GET / HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n{body}")

    def got(self, host):
        with self.px.client(self.port, timeout=20) as c:
            self.send(c, host)
            return c.response()

    def asked(self):
        return [n for r in self.ads.requests("vhost") for n in r.resource_names_subscribe]


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
    assert world.asked() == ["r", "r/a.test"]
    assert px.stat(STATS + "config_reload") == 1
    shown = json.loads(px.admin("/config_dump?resource=dynamic_route_configs")[1])["configs"]
    assert [v["name"] for v in shown[0]["route_config"]["virtual_hosts"]] == ["r/fixed", "r/a"]


def test_a_host_that_nobody_knows(world):  # the server says so: no body for the alias
    world.table()
    px = world.begin()
    assert world.got("none.test").status == 404
    entry = px.access_log(1)[-1]
    assert (entry["flags"], entry["details"]) == ("NR", "route_not_found")
    assert world.asked() == ["r", "r/none.test"]


def test_hosts_come_ahead_and_change_and_go(world):
    world.table()
    world.begin()
    until(lambda: "r" in world.asked(), 10, "the subscription")
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
    until(lambda: "r" in ads.asked(), 10, "the subscription")
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
    assert ads.asked() == ["r"]


def test_a_path_without_a_route_asks_nobody(ads):  # its virtual host is there
    ads.table({"name": "r/x", "domains": ["x.test"], "routes": [dynamic.direct("x", "/only")]})
    ads.begin()
    assert ads.got("x.test").status == 404
    assert ads.asked() == ["r"]


def test_a_new_stream_begins_with_what_is_there(ads):  # X4
    ads.table()
    ads.known["a.test"] = ("r/a", vhost("a", "a.test"))
    ads.begin()
    assert ads.got("a.test").body == b"a"
    ads.ads.stop()
    ads.ads.start()
    again = ads.ads.wait("vhost", lambda r: "r/a" in r.initial_resource_versions, 40)
    assert sorted(again.resource_names_subscribe) == ["r", "r/a.test"]
    assert ads.got("a.test").body == b"a"


def test_listeners_wait_for_the_first_hosts(mesh):  # X3
    w = Vhds(mesh)
    try:
        w.table()
        w.ads.on_vhost = lambda *_: None
        px = w.begin(ready=False)
        until(lambda: "r" in w.asked(), 10, "the subscription")
        assert px.stat("listener_manager.total_listeners_warming") == 1
        w.push(("r/a", vhost("a", "a.test"), []))
        px.wait_ready()
        assert w.got("a.test").body == b"a"
    finally:
        w.ads.stop()


def test_only_delta(mesh):
    w = Vhds(mesh)
    w.delta = False
    try:
        w.table()
        w.begin(ready=False)
        w.ads.wait_nack("route", "vhds.config_source: vhds: only DELTA_GRPC")
    finally:
        w.ads.stop()
