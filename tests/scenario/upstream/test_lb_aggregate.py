"""Aggregate clusters (U1, H03): failover from cluster to cluster; who counts what."""
import pytest

import config
from wire import HOST, free_port


def aggregate(name, *inner, **fields):
    typed = config.ext("envoy.clusters.aggregate", "envoy.extensions.clusters.aggregate.v3.ClusterConfig", clusters=list(inner))
    return {"name": name, "connect_timeout": "1s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": typed, **fields}


def boot(mesh, clusters, routes=None, log=None):
    routes = routes or [config.route("/", "all")]
    hcm = config.hcm(routes, log=config.access_log(mesh.folder / "access.log", log))
    return config.bootstrap([config.listener(free_port(), [hcm])], clusters, free_port())


def sick(cluster):
    for e in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        e["health_status"] = "UNHEALTHY"
    return cluster


def test_the_first_cluster_serves_and_counts(mesh):
    one, two = mesh.upstream("one"), mesh.upstream("two")
    log = {**config.LOG_FIELDS, "cluster": "%UPSTREAM_CLUSTER%"}
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "one", "two"), config.cluster("one", [one.port]), config.cluster("two", [two.port])],
                              log=log))
    assert [px.get("/").status for _ in range(3)] == [200] * 3
    assert len(one.requests) == 3 and not two.requests
    assert px.access_log(3)[0]["cluster"] == "all" and px.access_log(3)[0]["host"] == f"{HOST}:{one.port}"
    stats = px.stats(r"^cluster\.(all|one)\.upstream_(rq_total|rq_completed|cx_total|rq_200)$")
    want = {"cluster.all.upstream_rq_total": 0, "cluster.all.upstream_cx_total": 0, "cluster.all.upstream_rq_completed": 3,
            "cluster.all.upstream_rq_200": 3, "cluster.one.upstream_rq_total": 3}
    assert {k: stats.get(k, 0) for k in want} == want
    assert stats["cluster.one.upstream_cx_total"] >= 1 and stats.get("cluster.one.upstream_rq_completed", 0) == 0


def test_a_sick_cluster_hands_over(mesh):
    one, two, three = (mesh.upstream(n) for n in ("one", "two", "three"))
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "none", "one", "two", "three"), sick(config.cluster("one", [one.port])),
                                     config.cluster("two", [two.port], lb_policy="LEAST_REQUEST"), config.cluster("three", [three.port]),
                                     config.cluster("none", [])]))
    assert [px.get("/").status for _ in range(5)] == [200] * 5
    assert len(two.requests) == 5 and not one.requests and not three.requests


def test_nobody_there(mesh):
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "none", "missing"), config.cluster("none", [])]))
    assert px.get("/").status == 503
    assert px.access_log(1)[0]["flags"] == "UH"


def test_retries_stay_within_the_row(mesh):
    """A retry chooses again; the inner cluster's breaker and pools are those that count."""
    from upstream import Reply, Reset
    one = mesh.upstream("one", script=[Reset(), Reply()])
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "one"), config.cluster("one", [one.port])],
                              routes=[config.route("/", "all", retry_policy={"retry_on": "reset", "num_retries": 2})]))
    assert px.get("/").status == 200 and len(one.requests) == 2
    assert px.stat("cluster.all.upstream_rq_retry") == 1 and px.stat("cluster.all.upstream_rq_retry_success") == 1
    assert px.stat("cluster.one.upstream_rq_total") == 2


def test_a_retry_goes_to_another_cluster(mesh):
    """previous_priorities counts the priorities of all inner clusters in a row."""
    from upstream import Reset
    one, two = mesh.upstream("one", script=[Reset()]), mesh.upstream("two")
    retry = {"retry_on": "reset", "num_retries": 2,
             "retry_priority": config.ext("p", "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                                          update_frequency=1)}
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "one", "two"), config.cluster("one", [one.port]), config.cluster("two", [two.port])],
                              routes=[config.route("/", "all", retry_policy=retry)]))
    for i in range(1, 4):
        assert px.get("/").status == 200 and len(one.requests) == len(two.requests) == i


def test_hashing_inner_cluster(mesh):
    ups = [mesh.upstream(f"u{i}") for i in range(3)]
    route = config.route("/", "all", hash_policy=[{"header": {"header_name": "x-key"}}])
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "ring"), config.cluster("ring", [u.port for u in ups], lb_policy="RING_HASH")],
                              routes=[route]))
    for key in ("a", "b", "c", "d"):
        before = [len(u.requests) for u in ups]
        for _ in range(4):
            assert px.get("/", headers=[("x-key", key)]).status == 200
        assert sorted(len(u.requests) - b for u, b in zip(ups, before)) == [0, 0, 4]


def test_tcp(mesh):
    one = mesh.upstream("one")
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="all")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [tcp])],
                                          [aggregate("all", "one"), config.cluster("one", [one.port])], free_port()))
    assert px.get("/").status == 200
    px.wait_stat("cluster.one.upstream_cx_destroy")
    assert px.stat("cluster.one.upstream_cx_total") == 1 and px.stat("cluster.one.upstream_cx_active") == 0


@pytest.mark.stricter
def test_h03_a_cycle_is_named(mesh):  # H03
    px = mesh.proxy(boot=boot(mesh, [aggregate("all", "more"), aggregate("more", "all")]), ready=False)
    assert px.process.wait(10) == 1
    assert "aggregate clusters form a cycle: more -> all -> more" in px.log()
