"""Outlier detection (U5): who is ejected, for how long, and where one can read it."""
import json
import re

import pytest

import config
from upstream import Reply, Reset
from wire import free_port, until

QUICK = {"interval": "0.1s", "base_ejection_time": "0.4s", "max_ejection_percent": 100}


def two(mesh, outlier, cluster=None, boot=None, **kw):
    """A cluster of two upstreams, the first of which answers 500."""
    bad, good = mesh.upstream("bad", [Reply(500, b"bad")]), mesh.upstream("good")
    manager = config.hcm([config.route("/", "up", **kw)], log=config.access_log(mesh.folder / "access.log"))
    px = mesh.proxy(boot=config.bootstrap(
        [config.listener(free_port(), [manager])],
        [config.cluster("up", [bad.port, good.port], outlier_detection=outlier, **(cluster or {}))], free_port(), **(boot or {})))
    return px, bad, good


def flags(px, up):
    """The host's health_flags in /clusters."""
    return re.search(rf"^up::127.0.0.1:{up.port}::health_flags::(.*)$", px.admin("/clusters")[1], re.M)[1]


def ask_until_ejected(px, n=1):
    def once():
        px.get("/")
        return px.stat("cluster.up.outlier_detection.ejections_enforced_total") >= n
    until(once, 10, f"{n} ejections")


def test_a_host_that_fails_in_a_row_is_out_for_a_while(mesh):
    px, bad, good = two(mesh, {**QUICK, "consecutive_5xx": 3})
    ask_until_ejected(px)
    assert px.stat("cluster.up.outlier_detection.ejections_enforced_consecutive_5xx") >= 1
    bad.script = [Reply()]
    until(lambda: px.stat("cluster.up.membership_healthy") == 2, 5, "its return")
    assert flags(px, bad) == "healthy" and px.stat("cluster.up.outlier_detection.ejections_active") == 0
    until(lambda: px.get("/").status == 200 and len(bad.requests) > 3, 5, "traffic to it")


def test_no_traffic_while_it_is_out(mesh):
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 2})
    ask_until_ejected(px)
    until(lambda: flags(px, bad) == "/failed_outlier_check", 5, "the flag")
    before = len(bad.requests)
    assert {px.get("/").status for _ in range(10)} == {200}
    assert len(bad.requests) == before and px.stat("cluster.up.membership_healthy") == 1


def test_resets_and_refused_connects_count(mesh):
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 3})
    bad.script = [Reset()]
    ask_until_ejected(px)
    assert flags(px, bad) == "/failed_outlier_check"


def test_local_failures_apart(mesh):
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "split_external_local_origin_errors": True,
                               "consecutive_local_origin_failure": 2})
    bad.close()  # a reset would follow a connect that went well, which ends the row
    ask_until_ejected(px)
    assert px.stat("cluster.up.outlier_detection.ejections_enforced_consecutive_local_origin_failure") == 1
    assert px.stat("cluster.up.outlier_detection.ejections_detected_consecutive_5xx") == 0


def test_timeouts_count_as_504(mesh):
    import threading
    gate = threading.Event()
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_gateway_failure": 2,
                               "enforcing_consecutive_gateway_failure": 100}, timeout="0.1s")
    bad.script = [Reply().held(gate)]
    ask_until_ejected(px)
    gate.set()
    assert px.stat("cluster.up.outlier_detection.ejections_enforced_consecutive_gateway_failure") == 1


def test_grpc_status_counts_as_http_status(mesh):
    grpc = [("content-type", "application/grpc")]
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 2})
    bad.script = [Reply(200, b"", [*grpc, ("grpc-status", "14")])]
    good.script = [Reply(200, b"", [*grpc, ("grpc-status", "5")])]

    def once():
        with px.client() as c:
            c.get("/", headers=grpc)
        return px.stat("cluster.up.outlier_detection.ejections_enforced_total")
    until(once, 10, "an ejection")
    assert flags(px, bad) == "/failed_outlier_check" and flags(px, good) == "healthy"


def test_connections_of_an_ejected_host_are_not_kept(mesh):
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 2})
    ask_until_ejected(px)
    until(lambda: px.stat("cluster.up.upstream_cx_active") == 1, 5, "the end of its idle connection")


def test_tcp_connects_count(mesh):
    """tcp_proxy: a port that refuses, a port that serves."""
    good, dead = mesh.upstream("good"), free_port()
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up")
    px = mesh.proxy(boot=config.bootstrap(
        [config.listener(free_port(), [tcp])],
        [config.cluster("up", [good.port, dead], outlier_detection={**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 2})], free_port()))

    def once():
        try:
            with px.client() as c:
                c.get("/")
        except (EOFError, OSError):
            pass
        return px.stat("cluster.up.outlier_detection.ejections_enforced_total")
    until(once, 10, "an ejection")
    assert {px.get("/").status for _ in range(5)} == {200}


def test_event_log(mesh):
    path = mesh.folder / "outlier.log"
    px, bad, good = two(mesh, {**QUICK, "consecutive_5xx": 2},
                        boot={"cluster_manager": {"outlier_detection": {"event_log_path": str(path)}}})
    ask_until_ejected(px)
    bad.script = [Reply()]
    until(lambda: px.stat("cluster.up.membership_healthy") == 2, 5, "its return")
    lines = until(lambda: (x := path.read_text().splitlines()) and len(x) >= 2 and x, 15, "two lines")
    out, back = json.loads(lines[0]), json.loads(lines[1])
    for e in (out, back):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e.pop("timestamp"))
    assert out == {"type": "CONSECUTIVE_5XX", "cluster_name": "up", "upstream_url": f"127.0.0.1:{bad.port}", "action": "EJECT",
                   "num_ejections": 1, "enforced": True, "eject_consecutive_event": {}}
    assert back.pop("secs_since_last_action") == "0"
    assert back == {"type": "CONSECUTIVE_5XX", "cluster_name": "up", "upstream_url": f"127.0.0.1:{bad.port}", "action": "UNEJECT",
                    "num_ejections": 1, "enforced": False}


def test_runtime_overrides(mesh):
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 1000},
                        boot={"layered_runtime": {"layers": [{"name": "s", "static_layer": {"outlier_detection": {"consecutive_5xx": 2}}}]}})
    ask_until_ejected(px)


@pytest.mark.stricter
def test_clusters_says_why(mesh):
    """Pain 22: which rule, its limit, what was measured, until when."""
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 2})
    ask_until_ejected(px)
    why = until(lambda: re.findall(r"^up::127.0.0.1:(\d+)::mizzen_why::(.*)$", px.admin("/clusters")[1], re.M), 5, "a reason")
    assert why[0][0] == str(bad.port) and len(why) == 1
    assert re.fullmatch(r"ejected by consecutive_5xx: 2 failures in a row \(limit 2: consecutive_5xx\), "
                        r"for \d\.\ds, (5\d|60)\.\ds left, ejection 1", why[0][1])
    hosts = json.loads(px.admin("/clusters?format=json")[1])["cluster_statuses"][0]["host_statuses"]
    assert [h.get("mizzen_why", [{}])[0].get("reason") for h in hosts] == ["outlier_detection", None]


@pytest.mark.stricter
def test_a_request_without_a_host_says_why(mesh):
    """All hosts are out and there is no panic: the story of the request names the rule."""
    px, bad, good = two(mesh, {**QUICK, "base_ejection_time": "60s", "consecutive_5xx": 1},
                        {"common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}})
    good.script = [Reply(500)]
    until(lambda: px.get("/").headers and px.stat("cluster.up.membership_healthy") == 0, 5, "two ejections")
    until(lambda: px.get("/none").status == 503, 5, "the workers to know it")
    story = until(lambda: (t := px.admin("/mizzen/requests")[1]) and "/none" in t and t, 5, "the record")
    assert re.search(r"ejected by consecutive_5xx: 1 failures in a row \(limit 1", story), story
    assert "ejected by consecutive_5xx" in px.admin("/mizzen/explain?path=/x", "POST")[1]
    assert "ejected by consecutive_5xx" in px.admin("/mizzen/explain?path=/x&format=json", "POST")[1]
