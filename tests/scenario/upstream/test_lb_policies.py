"""load_balancing_policy by type and what common_lb_config adds (U2)."""
import config
import pytest
from wire import free_port

stricter = pytest.mark.stricter
TYPE = "envoy.extensions.load_balancing_policies."


def policy(name, **fields):
    return {"policies": [{"typed_extension_config": config.ext("x", TYPE + name, **fields)}]}


def proxy(mesh, ups, routes=None, filters=(), hcm=None, **fields):
    manager = config.hcm(routes or [config.route("/")], log=config.access_log(mesh.folder / "access.log"), filters=filters, **(hcm or {}))
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])],
                                            [config.cluster("up", [u.port for u in ups], **fields)], free_port()))


def test_full_scan_finds_the_idle_host(mesh):
    """Every host but one has a request that waits: the idle one gets all others. Two choices would miss it half of the time."""
    import threading
    from upstream import Reply
    from wire import until
    gate = threading.Event()
    ups = [mesh.upstream(f"u{i}", script=[Reply().held(gate)]) for i in range(3)] + [mesh.upstream("idle")]
    px = proxy(mesh, ups, load_balancing_policy=policy("least_request.v3.LeastRequest", selection_method="FULL_SCAN"))
    idle, held = ups[3], []
    try:
        while sum(len(u.requests) for u in ups[:3]) < 3:
            c = px.client(timeout=10)
            before = sum(len(u.requests) for u in ups)
            c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            held.append(c)
            until(lambda: sum(len(u.requests) for u in ups) > before, 5, "the request")
            if len(idle.requests) + sum(len(u.requests) for u in ups[:3]) == len(held) and len(idle.requests):
                held.pop().response()  # the idle one answered: its turn comes again
        assert all(len(u.requests) == 1 for u in ups[:3])
        before = len(idle.requests)
        assert {px.get("/").status for _ in range(12)} == {200} and len(idle.requests) == before + 12
    finally:
        gate.set()
        for c in held:
            c.close()


def test_subset_by_type(mesh):
    hosts = [{"v": "1"}, {"v": "2"}, {"v": "2"}]
    ups = [mesh.upstream(f"u{i}") for i in range(3)]
    want = {"metadata_match": {"filter_metadata": {"envoy.lb": {"v": "2", "other": "x"}}}}
    ends = [{"endpoint": {"address": config.address(u.port)}, "metadata": {"filter_metadata": {"envoy.lb": m}}} for u, m in zip(ups, hosts)]
    for redundant, status in ((True, 200), (False, 503)):
        px = proxy(mesh, ups, routes=[config.route("/", **want)],
                   load_assignment={"cluster_name": "up", "endpoints": [{"lb_endpoints": ends}]},
                   load_balancing_policy=policy("subset.v3.Subset", subset_selectors=[{"keys": ["v"]}], allow_redundant_keys=redundant,
                                                subset_lb_policy=policy("round_robin.v3.RoundRobin")))
        assert {px.get("/").status for _ in range(6)} == {status}
        assert px.stat("cluster.up.lb_subsets_selected") == (6 if redundant else 0)
        px.stop()
    assert [len(u.requests) for u in ups] == [0, 3, 3]


def test_hosts_that_the_request_names(mesh):
    ups = [mesh.upstream(f"u{i}") for i in range(3)]
    sources = [{"header": "x-gone"}, {"header": "X-Host"}]
    px = proxy(mesh, ups, load_balancing_policy=policy("override_host.v3.OverrideHost", override_host_sources=sources,
                                                       fallback_policy=policy("round_robin.v3.RoundRobin")))
    name = [f"127.0.0.1:{u.port}" for u in ups]
    for _ in range(4):
        assert px.get("/", headers=[("x-host", f" 127.0.0.1:1 , {name[1]},{name[2]}")]).status == 200
    assert [len(u.requests) for u in ups] == [0, 4, 0]
    assert px.get("/", headers=[("x-gone", name[2])]).status == 200
    assert [len(u.requests) for u in ups] == [0, 4, 1]
    for _ in range(6):  # nobody of ours: as if nothing was named
        assert px.get("/", headers=[("x-host", "nonsense,127.0.0.1:1,,")]).status == 200
    assert [len(u.requests) for u in ups] == [2, 6, 3]


def test_a_retry_takes_the_next_named_host(mesh):
    from upstream import Reset
    ups = [mesh.upstream("bad", script=[Reset()]), mesh.upstream("worse", script=[Reset()]), mesh.upstream("good")]
    px = proxy(mesh, ups, routes=[config.route("/", retry_policy={"retry_on": "reset", "num_retries": 3})],
               load_balancing_policy=policy("override_host.v3.OverrideHost", override_host_sources=[{"header": "x-host"}],
                                            fallback_policy=policy("random.v3.Random")))
    names = ",".join(f"127.0.0.1:{u.port}" for u in ups)
    assert px.get("/", headers=[("x-host", names)]).status == 200
    assert [len(u.requests) for u in ups] == [1, 1, 1]


def test_slow_start_of_all_is_none(mesh):
    """Every host is new: all of them have the same part of their weight."""
    ups = [mesh.upstream(f"u{i}") for i in range(2)]
    px = proxy(mesh, ups, round_robin_lb_config={"slow_start_config": {"slow_start_window": "60s"}})
    assert {px.get("/").status for _ in range(20)} == {200}
    assert all(abs(len(u.requests) - 10) <= 1 for u in ups)


@pytest.mark.parametrize("name, want", [("bad", "cluster provided LB specified but cluster 'up' did not provide one")])
def test_nothing_provided(mesh, name, want):
    px = mesh.proxy(boot=config.bootstrap([], [config.cluster("up", [1], lb_policy="CLUSTER_PROVIDED")], free_port()), ready=False)
    assert px.process.wait(10) == 1 and want in px.log()


@stricter  # Envoy puts no degraded host into its tables: 503
@pytest.mark.parametrize("name", ["RING_HASH", "MAGLEV"])
def test_tables_of_degraded_hosts(mesh, name):
    up = mesh.upstream()
    ends = [{"endpoint": {"address": config.address(up.port)}, "health_status": "DEGRADED"}]
    px = proxy(mesh, [up], lb_policy=name, load_assignment={"cluster_name": "up", "endpoints": [{"lb_endpoints": ends}]})
    assert [px.get("/").status for _ in range(3)] == [200] * 3


@stricter  # Envoy refuses hostnames but for STRICT_DNS
def test_tables_by_hostname(mesh):
    """Hosts that trade their ports go on serving the same keys."""
    ups = [mesh.upstream(f"u{i}") for i in range(3)]

    def served(order):
        ends = [{"endpoint": {"address": config.address(ups[i].port), "hostname": f"h{n}"}} for n, i in enumerate(order)]
        px = proxy(mesh, ups, routes=[config.route("/", hash_policy=[{"header": {"header_name": "x-k"}}])], lb_policy="MAGLEV",
                   common_lb_config={"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}},
                   load_assignment={"cluster_name": "up", "endpoints": [{"lb_endpoints": ends}]})
        hosts = []
        for k in range(20):
            before = [len(u.requests) for u in ups]
            assert px.get("/", headers=[("x-k", str(k))]).status == 200
            hosts.append(next(n for n, i in enumerate(order) if len(ups[i].requests) > before[i]))
        px.stop()
        return hosts

    assert served([0, 1, 2]) == served([2, 0, 1])
