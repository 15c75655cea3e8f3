"""The health_check filter (H9): answers itself, or lets a check pass and remembers what came of it."""
import config
from upstream import Reply
from wire import free_port, until

NAME = "x-envoy-upstream-healthchecked-cluster"


def proxy(mesh, clusters=None, match="/healthz", **fields):
    flt = config.ext("envoy.filters.http.health_check", "envoy.extensions.filters.http.health_check.v3.HealthCheck",
                     headers=[{"name": ":path", "string_match": {"exact": match}}], **fields)
    up = mesh.upstream("up")
    manager = config.hcm([config.route("/", "up")], log=config.access_log(mesh.folder / "access.log"), filters=[flt])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])],
                                          [config.cluster("up", [up.port]), *(clusters or [])], free_port()))
    return px, up


def test_answers_itself(mesh):
    px, up = proxy(mesh, pass_through_mode=False)
    r = px.get("/healthz")
    assert r.status == 200 and r.get(NAME) == "test" and not up.requests
    assert px.get("/other").get(NAME) is None and len(up.requests) == 1
    assert px.wait_log(lambda e: e["path"] == "/healthz")["details"] == "health_check_ok"


def test_fails_on_demand(mesh):
    px, up = proxy(mesh, pass_through_mode=True)
    assert px.get("/healthz").status == 200 and len(up.requests) == 1
    px.admin("/healthcheck/fail", "POST")
    r = px.get("/healthz")
    assert r.status == 503 and r.get("x-envoy-immediate-health-check-fail") == "true" and len(up.requests) == 1
    assert px.get("/other").get("x-envoy-immediate-health-check-fail") == "true"
    e = px.wait_log(lambda e: e["code"] == 503)
    assert e["details"] == "health_check_failed" and e["flags"] == "LH"
    px.admin("/healthcheck/ok", "POST")
    assert px.get("/healthz").status == 200


def test_remembers(mesh):
    px, up = proxy(mesh, pass_through_mode=True, cache_time="0.3s")
    up.script = [Reply(200, b"", [("x-envoy-degraded", "yes")])]

    def remembered():
        r = px.get("/healthz")
        return r.get("x-envoy-degraded") == "" and r
    r = until(remembered, 5, "an answer out of memory")
    n = len(up.requests)
    assert r.status == 200 and r.get(NAME) == "test"
    up.script = [Reply(500)]
    until(lambda: px.get("/healthz").status == 500, 5, "the end of memory")
    assert len(up.requests) > n


def test_share_of_healthy_hosts(mesh):
    ports = {"HEALTHY": free_port(), "UNHEALTHY": free_port()}
    some = config.cluster("some", [], load_assignment={"cluster_name": "some", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": config.address(p)}, "health_status": s} for s, p in ports.items()]}]})
    empty = config.cluster("empty", [])
    for want, name, percent, details in ((200, "some", 50, "health_check_ok_cluster_healthy"), (503, "some", 51, "health_check_failed_cluster_unhealthy"),
                                         (503, "empty", 1, "health_check_failed_cluster_empty"), (200, "empty", 0, "health_check_ok_cluster_healthy"),
                                         (503, "none", 1, "health_check_failed_no_cluster_found")):
        px, _ = proxy(mesh, [some, empty], pass_through_mode=False, cluster_min_healthy_percentages={name: {"value": percent}})
        assert px.get("/healthz").status == want, (name, percent)
        until(lambda: px.access_log(0) and px.access_log(0)[-1]["details"] == details, 5, f"{details} for {name} {percent}")
        px.stop()
        mesh.upstreams.pop().close()
