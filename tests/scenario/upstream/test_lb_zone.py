"""Zone aware routing (U2): as much as possible stays in the proxy's own zone, seen beside where the other proxies stand."""
import config
import pytest
from wire import free_port


def endpoints(zones, status="HEALTHY"):
    """One locality for each zone, in the order of the names."""
    return [{"locality": {"region": "r", "zone": z},
             "lb_endpoints": [{"endpoint": {"address": config.address(p)}, "health_status": status} for p in ports]}
            for z, ports in zones.items()]


def clusters(up, local, **fields):
    c = config.cluster("up", [], **fields)
    c["load_assignment"]["endpoints"] = endpoints(up)
    mine = config.cluster("proxies", [])
    mine["load_assignment"]["endpoints"] = endpoints(local)
    return [c, mine]


def proxy(mesh, cs, local="proxies", zone="a", **kw):
    hcm = config.hcm([config.route("/")], log=config.access_log(mesh.folder / "access.log"))
    boot = config.bootstrap([config.listener(free_port(), [hcm])], cs, free_port(), cluster_manager={"local_cluster_name": local})
    boot["node"]["locality"] = {"region": "r", "zone": zone}
    return mesh.proxy(boot=boot, **kw)


def run(px, n):
    with px.client() as c:
        return {c.get("/").status for _ in range(n)}


def test_all_stays_in_the_zone(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, clusters({"a": [a.port], "b": [b.port]}, {"a": [1], "b": [2]},
                              common_lb_config={"zone_aware_lb_config": {"min_cluster_size": 1}}))
    assert run(px, 20) == {200} and len(a.requests) == 20 and not b.requests
    assert px.stat("cluster.up.lb_zone_routing_all_directly") == 20
    assert px.stat("cluster.up.lb_recalculate_zone_structures") >= 1


def test_the_rest_goes_by_capacity(mesh):
    """Two of three proxies are here, one of two hosts: three quarters stay (5000 of 6666)."""
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, clusters({"a": [a.port], "b": [b.port]}, {"a": [1, 2], "b": [3]},
                              common_lb_config={"zone_aware_lb_config": {"min_cluster_size": 1}}))
    n = 400
    assert run(px, n) == {200}
    sampled, cross = px.stat("cluster.up.lb_zone_routing_sampled"), px.stat("cluster.up.lb_zone_routing_cross_zone")
    assert sampled == len(a.requests) and cross == len(b.requests) and sampled + cross == n
    assert abs(sampled - n * 0.75) < 6 * (n * 0.75 * 0.25) ** 0.5  # by chance once in 500 million


@pytest.mark.parametrize("case", ["small", "off", "one locality"])
def test_not_by_zone(mesh, case):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    zone_aware = {"small": {}, "off": {"min_cluster_size": 1, "routing_enabled": {"value": 0}}, "one locality": {"min_cluster_size": 1}}[case]
    local = {"a": [1]} if case == "one locality" else {"a": [1], "b": [2]}
    px = proxy(mesh, clusters({"a": [a.port], "b": [b.port]}, local, common_lb_config={"zone_aware_lb_config": zone_aware}))
    assert run(px, 20) == {200} and len(a.requests) == len(b.requests) == 10
    assert (px.stat("cluster.up.lb_zone_cluster_too_small") > 0) == (case == "small")  # six hosts are wanted by default


def test_force_local_zone(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    typed = config.ext("x", "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
                       locality_lb_config={"zone_aware_lb_config": {"min_cluster_size": 1, "force_local_zone": {}}})
    px = proxy(mesh, clusters({"a": [a.port], "b": [b.port]}, {"a": [1, 2]},
                              load_balancing_policy={"policies": [{"typed_extension_config": typed}]}))
    assert run(px, 20) == {200} and len(a.requests) == 20


def test_our_zone_is_not_among_the_proxies(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, clusters({"a": [a.port], "b": [b.port]}, {"b": [1], "c": [2]},
                              common_lb_config={"zone_aware_lb_config": {"min_cluster_size": 1}}))
    assert run(px, 20) == {200} and len(a.requests) == len(b.requests) == 10
    assert px.stat("cluster.up.lb_local_cluster_not_ok") >= 1


def test_traffic_fails_in_panic(mesh):
    a = mesh.upstream("a")
    cs = clusters({"a": [a.port]}, {"a": [1]}, common_lb_config={"zone_aware_lb_config": {"fail_traffic_on_panic": True}})
    cs[0]["load_assignment"]["endpoints"] = endpoints({"a": [a.port]}, status="UNHEALTHY")
    px = proxy(mesh, cs)
    assert run(px, 3) == {503} and px.access_log(3)[0]["flags"] == "UH"
    assert px.stat("cluster.up.lb_healthy_panic") == 3 and not a.requests


def test_the_local_cluster_must_be_there(mesh):
    px = proxy(mesh, clusters({"a": [1]}, {"a": [2]}), local="missing", ready=False)
    assert px.process.wait(10) == 1
    assert "local cluster 'missing' must be defined" in px.log()
