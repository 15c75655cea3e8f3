"""Clusters on demand (ODCDS; rows X1-X4, H9, L6): who wants a cluster that is not there waits for the control plane's answer."""
import socket

import config
import dynamic
import pytest
from upstream import Reply
from wire import HOST, Stream, free_port, patient, reset, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import H2, World  # noqa: E402

TYPE = config.TYPE + "envoy.extensions.filters.http.on_demand.v3."
LONG = "60s"  # must not pass


class Odcds(World):
    """Nothing but clusters on demand comes from the control plane; requests name theirs in x-to."""

    def __init__(self, mesh, own=False):
        super().__init__(mesh, True, own)
        self.ads.tells_missing = True

    def filter(self, timeout=LONG):
        return {"name": "od", "typed_config": {"@type": TYPE + "OnDemand", "odcds": {"source": self.source(), "timeout": timeout}}}

    def http(self, *rules, timeout=LONG, before=(), **fields):
        rules = rules or [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}}]
        log = config.access_log(self.mesh.folder / "access.log")
        return config.listener(self.port, [config.hcm(list(rules), log=log, filters=[*before, self.filter(timeout)], **fields)])

    def run(self, *listeners, ready=True, **kw):
        dyn = {} if self.own else {"ads_config": self.api()}
        boot = config.bootstrap(list(listeners), [config.cluster("xds", [self.ads.port], http=H2)], free_port(), dynamic_resources=dyn)
        self.px = self.mesh.proxy(boot=boot, ready=ready, **kw)
        return self.px

    def give(self, *clusters):
        self.ads.set("cluster", *clusters)

    def asked(self):
        return [n for r in self.ads.requests("cluster") for n in r.resource_names_subscribe]

    def wait_asked(self, name):
        self.ads.wait("cluster", lambda r: name in r.resource_names_subscribe)


def ask(c, to, path="/", headers=()):
    c.send(f"GET {path} HTTP/1.1\r\nhost: h\r\nx-to: {to}\r\n" + "".join(f"{h}\r\n" for h in headers) + "\r\n")


def got(px, to, path="/"):
    with px.client(timeout=10) as c:
        ask(c, to, path)
        return c.response()


@pytest.fixture(params=["ads", "own"])
def world(request, mesh):
    w = Odcds(mesh, request.param == "own")
    yield w
    w.ads.stop()


@pytest.fixture
def ads(mesh):
    w = Odcds(mesh)
    yield w
    w.ads.stop()


def test_only_what_is_used_comes(world, mesh):  # X1
    up = mesh.upstream("up", [Reply(body=b"hi")])
    world.give(*[config.cluster(f"c{i}", [up.port]) for i in range(100)])
    px = world.run(world.http())
    assert [got(px, "c7").body, got(px, "c7").body, got(px, "c9").body] == [b"hi"] * 3
    assert world.asked() == ["c7", "c9"]
    assert px.stat("cluster_manager.active_clusters") == 3
    assert px.stat("cluster_manager.odcds.update_success") == 2
    assert '"c7"' in px.admin("/config_dump?resource=dynamic_active_clusters")[1]


def test_a_cluster_that_does_not_exist(world):  # the server's word is enough, and the next request asks again
    px = world.run(world.http())
    for n in (1, 2):
        assert got(px, "none").status == 503
        entry = px.access_log(n)[-1]
        assert (entry["flags"], entry["details"]) == ("NC", "cluster_not_found")
    assert world.asked() == ["none", "none"]
    assert px.stat("http.in.downstream_rq_total") == 2


def test_no_answer_in_time(ads, mesh):  # what comes later serves the next one
    up = mesh.upstream()
    ads.ads.tells_missing = False
    px = ads.run(ads.http(timeout="0.2s"))
    assert got(px, "late").status == 503
    assert px.access_log(1)[0]["details"] == "cluster_not_found"
    ads.give(config.cluster("late", [up.port]))
    until(lambda: got(px, "late").status == 200, 10, "the cluster")


def test_all_who_wait_are_served(ads, mesh):  # one question, whoever has left meanwhile
    up = mesh.upstream()
    ads.ads.tells_missing = False
    px = ads.run(ads.http())
    clients = [px.client(timeout=20) for _ in range(6)]
    for c in clients:
        ask(c, "a")
    until(lambda: px.stat("http.in.downstream_rq_active") == 6, 10, "the requests")
    ads.wait_asked("a")
    for c in clients[:3]:
        c.close()
    until(lambda: px.stat("http.in.downstream_rq_active") == 3, 10, "those that stay")
    ads.give(config.cluster("a", [up.port]))
    assert [c.response().status for c in clients[3:]] == [200] * 3
    for c in clients[3:]:
        c.close()
    assert ads.asked() == ["a"]
    assert [e["flags"] for e in px.access_log(6)].count("DC") == 3


def test_all_clients_leave(ads, mesh):  # and the answer finds nobody
    up = mesh.upstream()
    ads.ads.tells_missing = False
    px = ads.run(ads.http())
    with px.client() as c:
        ask(c, "a")
        ads.wait_asked("a")
    until(lambda: px.stat("http.in.downstream_rq_active") == 0, 10, "their end")
    ads.give(config.cluster("a", [up.port]))
    px.wait_stat("cluster_manager.active_clusters", 2, 10)
    assert got(px, "a").status == 200


def test_a_request_that_was_answered_meanwhile(ads, mesh):  # by its timeout; then the cluster comes
    up = mesh.upstream()
    ads.ads.tells_missing = False
    px = ads.run(ads.http(stream_idle_timeout="0.3s"))
    assert got(px, "a").status in (408, 504)
    ads.give(config.cluster("a", [up.port]))
    px.wait_stat("cluster_manager.active_clusters", 2, 10)
    assert got(px, "a").status == 200


def test_the_control_plane_is_away(ads, mesh):  # X4
    up = mesh.upstream()
    px = ads.run(ads.http(timeout="0.2s"))
    ads.ads.stop()
    assert got(px, "a").status == 503
    ads.ads.start()
    ads.give(config.cluster("a", [up.port]))
    until(lambda: got(px, "a").status == 200, 40, "the cluster")


def test_a_body_waits(ads, mesh):  # in pieces, before and after the answer
    up = mesh.upstream()
    ads.ads.tells_missing = False
    px = ads.run(ads.http())
    with px.client(timeout=20) as c:
        c.send("POST / HTTP/1.1\r\nhost: h\r\nx-to: a\r\ncontent-length: 10\r\n\r\nfirst")
        ads.wait_asked("a")
        ads.give(config.cluster("a", [up.port]))
        px.wait_stat("cluster_manager.active_clusters", 2, 10)
        c.send("-last")
        assert c.response().status == 200
    assert [r.body for r in up.requests] == [b"first-last"]


def test_a_whole_body_waits(ads, mesh):
    up = mesh.upstream()
    px = ads.run(ads.http())
    ads.give(config.cluster("a", [up.port]))
    with px.client(timeout=20) as c:
        c.send("POST / HTTP/1.1\r\nhost: h\r\nx-to: a\r\ncontent-length: 5\r\n\r\nwhole")
        assert c.response().status == 200
    assert [r.body for r in up.requests] == [b"whole"]


def test_filters_before_it_run_once(ads, mesh):  # as in Envoy
    up = mesh.upstream()
    ads.give(config.cluster("a", [up.port]))
    fault = config.ext("fault", "envoy.extensions.filters.http.fault.v3.HTTPFault", delay={"fixed_delay": "0.001s", "percentage": {"numerator": 100}})
    px = ads.run(ads.http(before=[fault]))
    assert got(px, "a").status == 200
    assert [e["code"] for e in px.access_log(1)] == [200]
    assert px.stat("http.in.downstream_rq_total") == 1 and px.stat("http.in.fault.delays_injected") == 1


def test_routes_say_otherwise(ads, mesh):  # PerRouteConfig wins; without odcds nothing is asked
    up = mesh.upstream()
    ads.give(config.cluster("a", [up.port]), config.cluster("b", [up.port]))
    off = {**config.route("/off", "a"), "typed_per_filter_config": {"od": {"@type": TYPE + "PerRouteConfig"}}}
    px = ads.run(ads.http(off, config.route("/", "b"), route_config={
        "name": "r", "validate_clusters": False, "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [off, config.route("/", "b")]}]}))
    assert got(px, "", "/off").status == 503
    assert ads.asked() == []
    assert got(px, "", "/on").status == 200
    assert ads.asked() == ["b"]


def test_what_is_refused_is_missing(world):  # X2: at once, with a NACK that says why
    world.give(config.cluster("a", [1], connect_timeout="0s"))
    px = world.run(world.http())
    assert got(px, "a").status == 503
    nack = world.ads.wait_nack("cluster", "connect_timeout")
    assert "Error adding/updating cluster(s) a: " in nack.error_detail.message
    assert px.stat("cluster_manager.odcds.update_rejected") == 1


def test_changes_and_removal(world, mesh):  # the subscription goes on
    one, two = mesh.upstream("one", [Reply(body=b"1")]), mesh.upstream("two", [Reply(body=b"2")])
    world.give(config.cluster("a", [one.port]))
    px = world.run(world.http())
    assert got(px, "a").body == b"1"
    world.give(config.cluster("a", [two.port]))
    until(lambda: got(px, "a").body == b"2", 10, "the change")
    world.give()
    until(lambda: got(px, "a").status == 503, 10, "the removal")
    world.give(config.cluster("a", [one.port]))
    until(lambda: got(px, "a").body == b"1", 10, "its return")


def test_endpoints_are_waited_for(ads, mesh):  # X3
    up = mesh.upstream()
    ads.ads.tells_missing = False
    ads.give(ads.eds("a"))
    px = ads.run(ads.http())
    with px.client(timeout=20) as c:
        ask(c, "a")
        ads.ads.wait("endpoint", lambda r: "a" in r.resource_names_subscribe)
        assert px.stat("cluster_manager.warming_clusters") == 1
        ads.ads.set("endpoint", dynamic.assignment("a", [up.port]))
        assert c.response().status == 200


@pytest.mark.parametrize("whole", [False, True], ids=["delta", "sotw_cds"])
def test_beside_cds(mesh, whole):  # what CDS does not name stays
    w = Odcds(mesh, own=True)
    w2 = World(mesh, not whole, own=True)
    try:
        up = mesh.upstream()
        w.give(config.cluster("a", [up.port]))
        w2.ads.set("cluster", config.cluster("b", [up.port]))
        clusters = [config.cluster("xds", [w.ads.port], http=H2), config.cluster("xds2", [w2.ads.port], http=H2)]
        api = w2.api()
        api["grpc_services"] = [{"envoy_grpc": {"cluster_name": "xds2"}}]
        boot = config.bootstrap([w.http()], clusters, free_port(), dynamic_resources={
            "cds_config": {"api_config_source": api, "resource_api_version": "V3"}})
        px = mesh.proxy(boot=boot)
        assert got(px, "a").status == 200 and got(px, "b").status == 200
        w2.ads.set("cluster", config.cluster("c", [up.port]))
        px.wait_stat("cluster_manager.cds.update_success", 2, 10)
        assert got(px, "c").status == 200
        w2.ads.set("cluster")
        until(lambda: px.stat("cluster_manager.cluster_removed") == 2, 10, "the end of b and c")
        assert got(px, "a").status == 200
    finally:
        w.ads.stop()
        w2.ads.stop()


def test_many_names_are_bounded(ads):  # E13: a client invents names; nothing stays of them
    ads.ads.tells_missing = False
    px = ads.run(ads.http(timeout="5s"))
    clients = []
    for i in range(1040):
        c = px.client(timeout=30)
        ask(c, f"x{i}")
        clients.append(c)
    assert {c.response().status for c in clients} == {503}
    for c in clients:
        c.close()
    until(lambda: len([n for r in ads.ads.requests("cluster") for n in r.resource_names_unsubscribe]) == len(ads.asked()), 20, "no name left")
    assert len(ads.asked()) <= 1024


def test_state_of_the_world_is_refused(mesh):
    w = World(mesh, False)
    try:
        od = {"name": "od", "typed_config": {"@type": TYPE + "OnDemand", "odcds": {"source": w.source()}}}
        boot = config.bootstrap([config.listener(w.port, [config.hcm([dynamic.direct("x")], filters=[od])])],
                                [config.cluster("xds", [w.ads.port], http=H2)], free_port(), dynamic_resources={"ads_config": w.api()})
        px = mesh.proxy(boot=boot, ready=False)
        until(lambda: px.process.poll(), 10, "its end")
        assert "odcds.source: clusters on demand come by DELTA_GRPC" in px.log()
    finally:
        w.ads.stop()


# ---- tcp_proxy (L6) ----

def tcp(w, cluster="t", timeout=LONG):
    f = config.ext("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster=cluster,
                   on_demand={"odcds_config": w.source(), "timeout": timeout},
                   access_log=[config.access_log(w.mesh.folder / "access.log")])
    return config.listener(w.port, [f])


def test_a_connection_waits(ads, mesh):
    up = mesh.upstream("up", [Reply(body=b"hi")])
    ads.ads.tells_missing = False
    px = ads.run(tcp(ads))
    with px.client(timeout=20) as c, px.client() as leaves:
        leaves.send("GET /gone HTTP/1.1\r\nhost: h\r\n\r\n")
        c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        px.wait_stat("tcp.t.on_demand_cluster_attempt", 2, 10)
        reset(leaves.sock)  # an end would stay behind what is not read yet
        until(lambda: len(px.access_log(0)) == 1, 10, "the end of the first")
        ads.give(config.cluster("t", [up.port]))
        assert c.response().body == b"hi"
    assert [r.start.split()[1] for r in up.requests] == ["/"]
    assert (px.stat("tcp.t.on_demand_cluster_success"), px.stat("tcp.t.downstream_cx_no_route")) == (1, 0)


@pytest.mark.parametrize("how", ["missing", "timeout"])
def test_a_connection_without_a_cluster(ads, how):
    ads.ads.tells_missing = how == "missing"
    px = ads.run(tcp(ads, timeout="0.2s" if how == "timeout" else LONG))
    with socket.create_connection((HOST, ads.port), timeout=patient(10)) as s:
        assert Stream(s).fill(10) is False
    assert px.access_log(1)[0]["flags"] == "NC"
    assert px.stat(f"tcp.t.on_demand_cluster_{how}") == 1
