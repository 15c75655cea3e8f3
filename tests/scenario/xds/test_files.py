"""Resources from files (rows X1-X3, P7, T1): what comes, what is refused, and what does not notice."""
import json

import config
import pytest
import dynamic as xds
from upstream import Reply
from wire import free_port, until


class Dyn:
    """A proxy whose clusters and listeners come from files."""

    def __init__(self, mesh, args=(), **boot):
        self.files = xds.Files(mesh.folder / "xds")
        self.mesh, self.port = mesh, free_port()
        self.files.put("cds", "cluster")
        self.files.put("lds", "listener")
        self.args, self.boot = args, boot

    def start(self, ready=True):
        boot = config.bootstrap([], [], free_port(), dynamic_resources={
            "cds_config": self.files.source("cds"), "lds_config": self.files.source("lds")}, **self.boot)
        self.px = self.mesh.proxy(boot=boot, args=self.args, ready=ready)
        return self.px

    def listener(self, body="", name="main", port=None, **fields):
        log = config.access_log(self.mesh.folder / "access.log")
        rules = fields.pop("rules", None) or [xds.direct(body)]
        return config.listener(port or self.port, [config.hcm(rules, log=log, **fields.pop("hcm", {}))], name=name, **fields)

    def rds(self, route="r", **fields):
        """A listener whose routes come from a file."""
        hcm = config.hcm([], log=config.access_log(self.mesh.folder / "access.log"))
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["rds"] = {"route_config_name": route, "config_source": self.files.source("rds", **fields)}
        return config.listener(self.port, [hcm])

    def eds(self, name="dyn", **fields):
        return {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": self.files.source("eds")}, **fields}

    def get(self, path="/", **kw):
        with self.px.client(self.port) as c:
            return c.get(path, **kw)

    def dump(self, what):
        return json.loads(self.px.admin(f"/config_dump?resource={what}")[1]).get("configs", [])


@pytest.fixture
def dyn(mesh):
    return Dyn(mesh)


def test_all_types_at_once(dyn, mesh):  # X1, X3
    one, two = mesh.upstream("one", [Reply(body=b"one")]), mesh.upstream("two", [Reply(body=b"two")])
    dyn.files.put("eds", "endpoint", xds.assignment("dyn", [one.port]))
    dyn.files.put("cds", "cluster", dyn.eds())
    dyn.files.put("rds", "route", xds.routes("r", config.route("/", "dyn")))
    dyn.files.put("lds", "listener", dyn.rds())
    px = dyn.start()
    assert dyn.get().body == b"one"
    dyn.files.put("eds", "endpoint", xds.assignment("dyn", [two.port]))
    until(lambda: dyn.get().body == b"two", 5, "the other endpoint")
    dyn.files.put("rds", "route", xds.routes("r", xds.direct("table")))
    until(lambda: dyn.get().body == b"table", 5, "the other routes")
    s = px.stats()
    assert s["cluster.dyn.update_success"] == 2 and s["cluster.dyn.membership_total"] == 1 and s["cluster.dyn.membership_change"] == 2
    assert s["cluster_manager.cds.update_success"] == s["listener_manager.lds.update_success"] == 1
    assert s["http.in.rds.r.config_reload"] == 2 and s["cluster_manager.warming_clusters"] == 0
    assert [c["version_info"] for c in dyn.dump("dynamic_active_clusters")] == ["1"] or dyn.files.version["cds"] == 2
    assert dyn.dump("dynamic_route_configs")[0]["version_info"] == "2"


def test_endpoints_that_stay_keep_their_connections(dyn, mesh):  # U2
    one, two = mesh.upstream("one"), mesh.upstream("two")
    dyn.files.put("eds", "endpoint", xds.assignment("dyn", [one.port]))
    dyn.files.put("cds", "cluster", dyn.eds())
    dyn.files.put("lds", "listener", dyn.listener(rules=[config.route("/", "dyn")]))
    px = dyn.start()
    for round in range(5):
        assert dyn.get().status == 200
        more = xds.assignment("dyn", [one.port, two.port] if round % 2 == 0 else [one.port])
        more["endpoints"][0]["lb_endpoints"][0]["load_balancing_weight"] = 1000 + round
        dyn.files.put("eds", "endpoint", more)
        px.wait_stat("cluster.dyn.update_success", round + 2)
    assert len({r.connection for r in one.requests}) == 1
    assert px.stat("cluster.dyn.upstream_cx_total") <= 1 + sum(1 for r in two.requests)


def test_h01_bad_ones_leave_good_ones_alone(dyn, mesh):  # X2, H01
    up = mesh.upstream("up")
    dyn.files.put("cds", "cluster", config.cluster("up", [up.port]))
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px = dyn.start()
    second = free_port()
    dyn.files.put("cds", "cluster", config.cluster("up", [up.port]), {"name": "bad", "type": "EDS"}, config.cluster("more", [up.port]))
    dyn.files.put("lds", "listener", dyn.listener("b"), dyn.listener("c", "worse", second, hcm={"codec_type": "HTTP3"}),
                  dyn.listener("d", "main", second))
    px.wait_stat("cluster_manager.cds.update_rejected")
    px.wait_stat("listener_manager.lds.update_rejected")
    until(lambda: dyn.get().body == b"b", 5, "the good listener")
    assert px.stat("cluster_manager.active_clusters") == 2 and px.stat("listener_manager.total_listeners_active") == 1
    errors = {e["name"]: e["error_state"]["details"] for e in dyn.dump("dynamic_listeners") if "error_state" in e}
    assert "codec_type" in errors["worse"] and "duplicate listener main" in errors["main"]
    assert "bad: eds_cluster_config" in px.log()
    dyn.files.put("lds", "listener", dyn.listener("e"))
    until(lambda: dyn.get().body == b"e", 5, "the next update")
    assert not [e for e in dyn.dump("dynamic_listeners") if "error_state" in e]


def test_nothing_is_built_twice(dyn, mesh):  # equal resources
    dyn.files.put("cds", "cluster", config.cluster("up", [1]))
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px = dyn.start()
    dyn.files.put("cds", "cluster", config.cluster("up", [1]))
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px.wait_stat("cluster_manager.cds.update_success", 2)
    px.wait_stat("listener_manager.lds.update_success", 2)
    s = px.stats()
    assert s["cluster_manager.cluster_modified"] == s["listener_manager.listener_modified"] == 0
    assert s["cluster_manager.cluster_added"] == s["listener_manager.listener_added"] == 1


def test_a_listener_warms(dyn, mesh):  # X3
    dyn.files.put("lds", "listener", dyn.listener("old"))
    px = dyn.start()
    dyn.files.put("rds", "route")  # no such route yet: an update without it answers nobody
    dyn.files.put("rds", "route", text="{}")
    dyn.files.put("lds", "listener", dyn.rds("r"))
    until(lambda: dyn.get().status == 404 or px.stat("listener_manager.total_listeners_warming") == 1, 5, "warming")
    dyn.files.put("rds", "route", xds.routes("r", xds.direct("new")))
    until(lambda: dyn.get().body == b"new", 5, "the routes")
    assert px.stat("listener_manager.total_listeners_warming") == 0 and px.stat("listener_manager.listener_modified") == 1


def test_requests_survive_every_kind_of_change(dyn, mesh):  # X3: make before break
    up = mesh.upstream("up")
    dyn.files.put("eds", "endpoint", xds.assignment("dyn", [up.port]))
    dyn.files.put("cds", "cluster", dyn.eds())
    dyn.files.put("rds", "route", xds.routes("r", config.route("/", "dyn")))
    dyn.files.put("lds", "listener", dyn.rds())
    px = dyn.start()
    with xds.no_request_lost(px, dyn.port, 3):
        for i in range(40):
            dyn.files.put("eds", "endpoint", xds.assignment("dyn", [up.port], load_balancing_weight=i + 1))
            dyn.files.put("cds", "cluster", dyn.eds(per_connection_buffer_limit_bytes=100000 + i))
            dyn.files.put("rds", "route", xds.routes("r", config.route("/", "dyn", timeout=f"{i + 10}s")))
            dyn.files.put("lds", "listener", {**dyn.rds(), "per_connection_buffer_limit_bytes": 100000 + i})
            px.wait_stat("listener_manager.lds.update_success", i + 2)
            px.wait_stat("cluster_manager.cds.update_success", i + 2)
    until(lambda: px.stat("cluster.dyn.upstream_cx_active") <= 3 and px.stat("cluster.dyn.upstream_rq_active") == 0, 5, "no connection of clusters that are gone")
    assert px.stat("listener_manager.listener_modified") >= 40


def test_only_changed_chains_drain(mesh):  # L4, X3
    dyn = Dyn(mesh, args=("--drain-time-s", "2"))

    def listener(one, two):
        log = config.access_log(mesh.folder / "access.log")
        chains = [{"name": n, "filter_chain_match": {"source_prefix_ranges": [{"address_prefix": a, "prefix_len": 32}]},
                   "filters": [config.hcm([xds.direct(b)], log=log)]} for n, a, b in (("one", "127.0.0.1", one), ("two", "127.0.0.2", two))]
        return {"name": "main", "address": config.address(dyn.port), "filter_chains": chains}
    dyn.files.put("lds", "listener", listener("one", "two"))
    px = dyn.start()
    with px.client(dyn.port) as kept, px.client(dyn.port, source="127.0.0.2") as gone:
        assert kept.get("/").body == b"one" and gone.get("/").body == b"two"
        dyn.files.put("lds", "listener", listener("one", "three"))
        px.wait_stat("listener_manager.listener_in_place_updated")
        assert px.stat("listener_manager.total_filter_chains_draining") == 1
        with px.client(dyn.port, source="127.0.0.2") as fresh:
            assert fresh.get("/").body == b"three"
        assert gone.ended(10)
        assert kept.get("/").body == b"one"
        until(lambda: px.stat("listener_manager.total_filter_chains_draining") == 0, 5, "the drain's end")


def test_a_listener_goes(mesh):  # L1
    dyn = Dyn(mesh, args=("--drain-time-s", "2"))
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px = dyn.start()
    with px.client(dyn.port) as c:
        assert c.get("/").body == b"a"
        dyn.files.put("lds", "listener")
        px.wait_stat("listener_manager.listener_removed")
        assert px.stat("listener_manager.total_listeners_active") == 0
        shown = json.loads(px.admin("/config_dump?resource=dynamic_listeners")[1])["configs"]
        assert [(s["name"], sorted(s.keys() - {"@type", "name"})) for s in shown] == [(shown[0]["name"], ["draining_state"])]
        assert c.ended(10)

    def refused():
        try:
            px.client(dyn.port).close()
            return False
        except OSError:
            return True
    until(refused, 5, "the closed port")
    until(lambda: px.stat("listener_manager.total_listeners_draining") == 0, 10, "the drain's end")
    assert json.loads(px.admin("/config_dump?resource=dynamic_listeners")[1]).get("configs", []) == []
    dyn.files.put("lds", "listener", dyn.listener("b"))
    until(lambda: px.stat("listener_manager.total_listeners_active") == 1, 5, "the listener again")
    assert dyn.get().body == b"b"


def test_a_listener_moves(mesh):  # L1: another address
    dyn = Dyn(mesh, args=("--drain-time-s", "2"))
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px = dyn.start()
    old, dyn.port = dyn.port, free_port()
    with px.client(old) as c:
        dyn.files.put("lds", "listener", dyn.listener("a"))
        px.wait_stat("listener_manager.total_listeners_draining")
        assert dyn.get().body == b"a" and c.get("/").body == b"a"


def test_clusters_come_and_go_by_name(dyn, mesh):  # X1
    up = mesh.upstream("up")
    dyn.files.put("rds", "route", xds.routes("r", config.route("/", "up")))
    dyn.files.put("lds", "listener", dyn.rds())
    px = dyn.start()
    assert dyn.get().status == 503
    dyn.files.put("cds", "cluster", config.cluster("up", [up.port]))
    until(lambda: dyn.get().status == 200, 5, "the cluster")
    dyn.files.put("cds", "cluster")
    until(lambda: dyn.get().status == 503, 5, "its end")
    px.wait_log(lambda e: e["flags"] == "NC")
    assert px.stat("cluster_manager.cluster_removed") == 1


def test_a_cluster_warms(dyn, mesh):  # X3: it waits for its endpoints, the one of before serves
    up = mesh.upstream("up")
    dyn.files.put("cds", "cluster", config.cluster("dyn", [up.port]))
    dyn.files.put("lds", "listener", dyn.listener(rules=[config.route("/", "dyn")]))
    px = dyn.start()
    dyn.files.put("eds", "endpoint", text="{")
    dyn.files.put("eds", "endpoint", xds.assignment("other", [1]))
    dyn.files.put("cds", "cluster", dyn.eds())
    px.wait_stat("cluster.dyn.update_rejected")  # refused, so nothing is waited for any longer: no endpoints
    until(lambda: dyn.get().status == 503, 5, "a cluster without endpoints")
    dyn.files.put("eds", "endpoint", xds.assignment("dyn", [up.port]))
    until(lambda: dyn.get().status == 200, 5, "the endpoints")


def test_h02_what_is_no_response(dyn, mesh):  # H02
    dyn.files.put("lds", "listener", dyn.listener("a"))
    px = dyn.start()
    for n, text in enumerate(["", "{", "[]", '{"resources": [{"@type": "x"}]}', '{"resources": 7}', "{" * 20000]):
        dyn.files.put("lds", "listener", text=text)
        px.wait_stat("listener_manager.lds.update_attempt", n + 2)
    assert dyn.get().body == b"a"
    dyn.files.put("lds", "listener", *[])
    dyn.files.put("cds", "cluster", text=json.dumps({"resources": [{"@type": config.TYPE + xds.TYPES["listener"], **dyn.listener("x")}]}))
    px.wait_stat("cluster_manager.cds.update_rejected")


def test_runtime(mesh):  # P7
    files = xds.Files(mesh.folder / "xds")
    dyn = Dyn(mesh, layered_runtime={"layers": [{"name": "rt", "rtds_layer": {"name": "rt", "rtds_config": files.source("rtds")}}]})
    files.put("rtds", "runtime", {"name": "rt", "layer": {"a": 100}})
    rule = xds.direct("x")
    rule["match"]["runtime_fraction"] = {"default_value": {"numerator": 0}, "runtime_key": "a"}
    dyn.files.put("lds", "listener", dyn.listener(rules=[rule]))
    px = dyn.start()
    assert dyn.get().body == b"x"
    files.put("rtds", "runtime", {"name": "other", "layer": {"a": 0}})
    px.wait_stat("runtime.update_rejected")
    assert dyn.get().body == b"x"
    files.put("rtds", "runtime", {"name": "rt", "layer": {"a": 0}})
    until(lambda: dyn.get().status == 404, 5, "the other value")
    assert json.loads(px.admin("/runtime")[1])["entries"]["a"]["final_value"] == "0"


def test_watched_directory(dyn, mesh):  # X1: a ConfigMap changes by a link beside the file
    data = mesh.folder / "data"
    for n in "12":
        (data / n).mkdir(parents=True)
        (data / n / "lds.json").write_text(json.dumps({"version_info": n, "resources": [
            {"@type": config.TYPE + xds.TYPES["listener"], **dyn.listener(f"v{n}")}]}))
    (data / "..data").symlink_to("1")
    (data / "lds.json").symlink_to("..data/lds.json")
    boot = config.bootstrap([], [], free_port(), dynamic_resources={"lds_config": {
        "resource_api_version": "V3", "path_config_source": {"path": str(data / "lds.json"), "watched_directory": {"path": str(data)}}}})
    dyn.px = mesh.proxy(boot=boot)
    assert dyn.get().body == b"v1"
    (data / "..new").symlink_to("2")
    (data / "..new").rename(data / "..data")
    until(lambda: dyn.get().body == b"v2", 5, "the other data")


def test_the_old_field_for_a_file(dyn):  # ConfigSource.path
    source = dyn.files.source
    dyn.files.source = lambda name, **fields: {"path": source(name)["path_config_source"]["path"], "resource_api_version": "V3"}
    dyn.files.put("lds", "listener", dyn.listener("one"))
    dyn.start()
    until(lambda: dyn.get().body == b"one", 5, "the listener")
    dyn.files.put("lds", "listener", dyn.listener("two"))
    until(lambda: dyn.get().body == b"two", 5, "its change")


@pytest.mark.parametrize("broken,what", [
    ({"path": "/no/such", "resource_api_version": "V3"}, "lds_config.path: paths must refer"),
    ({"path_config_source": {"path": "/no/such"}, "resource_api_version": "V3"}, "does not exist"),
    ({"path_config_source": {"path": "/etc/passwd"}}, "V3"),
    ({"resource_api_version": "V3"}, "config_source_specifier"),
])
def test_sources_that_cannot_be(mesh, broken, what):  # P1
    boot = config.bootstrap([], [], free_port(), dynamic_resources={"lds_config": broken})
    px = mesh.proxy(boot=boot, ready=False)
    assert px.process.wait(20) == 1 and what in px.log() and "lds_config" in px.log()
