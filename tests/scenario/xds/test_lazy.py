"""Clusters that nobody uses (row X3, design: lazy): they cost bytes, tell all they would tell, and are there at once when they are wanted."""
import re
import threading

import config
import dynamic
import pytest
from upstream import Reply
from wire import patient, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World, any_pb2, cluster_pb2, endpoint_pb2, pack  # noqa: E402

BY_HEADER = {"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}}


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh):
    w = World(mesh, request.param == "delta")
    yield w
    w.ads.stop()


@pytest.fixture
def delta(mesh):
    w = World(mesh, True)
    yield w
    w.ads.stop()


def start(world, endpoints, clusters, **kw):
    world.ads.set("endpoint", *[dynamic.assignment(n, ports) for n, ports in endpoints.items()])
    world.ads.set("cluster", *clusters)
    world.ads.set("route", dynamic.routes("r", BY_HEADER))
    world.ads.set("listener", world.listener())
    return world.start(**kw)


def ask(world, to):
    with world.px.client(world.port, timeout=patient(5)) as c:
        c.send(f"GET / HTTP/1.1\r\nhost: h\r\nx-to: {to}\r\n\r\n")
        return c.response()


def inflated(px):
    return sum(v for k, v in px.stats("clusters_inflated").items())


def stats_of(px, name):
    """The lines of a cluster's statistics, without its name and without times."""
    lines = px.admin(f"/stats?filter=^cluster[.]{name}[.]")[1].splitlines()
    return [line.removeprefix(f"cluster.{name}.") for line in lines if "update_time" not in line]


def test_what_is_told_of_it(world, mesh):  # /stats, /clusters, /config_dump: as if it were there
    up = mesh.upstream("up")
    px = start(world, {n: [up.port] for n in ("asleep", "awake")}, [world.eds("asleep"), world.eds("awake", outlier_detection={})])

    def awake():
        return [line for line in stats_of(px, "awake") if not line.startswith("outlier_detection.")]
    until(lambda: any(line.startswith("update_duration: P0(nan") for line in awake()), 20, "the second flush of a histogram")
    assert stats_of(px, "asleep") == awake()
    assert "membership_total: 1" in awake() and "update_success: 1" in awake() and any(line.startswith('version_text: "') for line in awake())
    text = px.admin("/stats?format=prometheus&filter=membership_total")[1]
    assert 'envoy_cluster_membership_total{envoy_cluster_name="asleep"} 1' in text
    host = [line for line in px.admin("/clusters")[1].splitlines() if line.startswith("asleep::")]
    assert f"asleep::127.0.0.1:{up.port}::health_flags::healthy" in host and "asleep::added_via_api::true" in host
    assert '"name": "asleep"' in px.admin("/config_dump?include_eds")[1].replace('"cluster_name"', '"name"')
    assert inflated(px) == inflated(px) and px.stat("cluster.asleep.upstream_rq_total") == 0
    assert ask(world, "asleep").status == 200
    until(lambda: px.stat("cluster.asleep.upstream_rq_total") == 1, 5, "the request")
    s = px.stats("^cluster.asleep.")
    assert s["cluster.asleep.membership_total"] == s["cluster.asleep.membership_change"] == s["cluster.asleep.update_success"] == 1


def test_what_comes_before_its_first_use(world, mesh):  # endpoints, policies, the cluster itself
    one, two = mesh.upstream("one", [Reply(body=b"one")]), mesh.upstream("two", [Reply(body=b"two")])
    px = start(world, {n: [one.port] for n in "abc"}, [world.eds(n) for n in "abc"])
    world.ads.set("endpoint", dynamic.assignment("a", [two.port]), dynamic.assignment("b", [one.port]),
                  {**dynamic.assignment("c", [one.port]), "policy": {"drop_overloads": [{"category": "all", "drop_percentage": {"numerator": 100}}]}})
    until(lambda: px.stat("cluster.a.membership_change") == 2 and px.stat("cluster.c.update_success") == 2, 10, "the other endpoints")
    assert px.stat("cluster.a.membership_total") == 1 and px.stat("cluster.b.membership_change") == 1
    world.ads.set("cluster", world.eds("a"), world.eds("b", max_requests_per_connection=1), world.eds("c"), world.eds("d"))
    until(lambda: px.stat("cluster_manager.cluster_modified") == 1 and px.stat("cluster_manager.cluster_added") == 5, 10, "the clusters")
    assert [ask(world, n).body for n in "ab"] == [b"two", b"one"] and ask(world, "c").body == b"unconditional drop overload"
    until(lambda: px.stat("cluster.b.upstream_cx_max_requests") == 1, 5, "the cluster's own limit")
    world.ads.set("endpoint", dynamic.assignment("a", [one.port]), dynamic.assignment("b", [two.port]))  # used now
    until(lambda: [ask(world, n).body for n in "ab"] == [b"one", b"two"], 10, "endpoints of clusters in use")
    world.ads.set("cluster", world.eds("b"))
    until(lambda: px.stat("cluster_manager.cluster_removed") == 3, 10, "the clusters to go")
    assert ask(world, "a").status == 503 and ask(world, "b").body == b"two"
    assert not px.stats("^cluster.[ad].") and px.stat("cluster_manager.warming_clusters") == 0
    world.ads.set("cluster", world.eds("a"), world.eds("b"))
    until(lambda: px.stat("cluster_manager.active_clusters") == 3 and ask(world, "a").body == b"one", 10, "it to come back")


def test_a_bad_one_is_refused_when_it_comes(world, mesh):  # X2: as a whole, though nobody needs it
    up = mesh.upstream("up")
    px = start(world, {"a": [up.port]}, [world.eds("a")])
    world.ads.set("cluster", world.eds("a"), world.eds("bad", lb_policy="MAGLEV", maglev_lb_config={"table_size": 12}))
    assert "bad: maglev_lb_config" in world.ads.wait_nack("cluster", "bad").error_detail.message
    world.ads.set("endpoint", {**dynamic.assignment("a", [up.port]), "policy": {"overprovisioning_factor": 0}})
    world.ads.wait_nack("endpoint", "overprovisioning_factor")
    assert ask(world, "a").status == 200 and px.stat("cluster.a.update_rejected") == 1


def test_first_uses_under_load(delta, mesh):  # several workers, while clusters and endpoints change: no request is lost
    names, up = [f"c{i}" for i in range(120)], mesh.upstream("up")
    px = start(delta, {n: [up.port] for n in names}, [delta.eds(n) for n in names], concurrency=4)
    bad, left, lock = [], [list(names) for _ in range(6)], threading.Lock()

    def load(mine):
        for to in mine:
            r = ask(delta, to)
            if r.status != 200:
                with lock:
                    bad.append((to, r.status, r.get("x-envoy-local"), r.body))
    threads = [threading.Thread(target=load, args=(v,)) for v in left]
    for t in threads:
        t.start()
    for i in range(1, 5):
        delta.ads.set("cluster", *[delta.eds(n, per_connection_buffer_limit_bytes=50000 + i if k % 3 == 0 else 50000) for k, n in enumerate(names)])
        delta.ads.set("endpoint", *[dynamic.assignment(n, [up.port] * (1 + (k + i) % 2)) for k, n in enumerate(names)])
    for t in threads:
        t.join()
    assert not bad, bad[:5]
    until(lambda: sum(px.stats("^cluster.c.*upstream_rq_total").values()) == 6 * len(names), 10, "all requests")
    until(lambda: set(px.stats("^cluster.c.*membership_total").values()) == {1} and px.stat("cluster_manager.warming_clusters") == 0, 10, "the last endpoints")


def many(world, n):
    """So many clusters of five endpoints each, packed by copies."""
    cluster, ends = cluster_pb2.Cluster(), endpoint_pb2.ClusterLoadAssignment()
    pack("cluster", world.eds("x")).Unpack(cluster)
    pack("endpoint", dynamic.assignment("x", [1000 + k for k in range(5)])).Unpack(ends)
    for i in range(n):
        cluster.name = ends.cluster_name = f"outbound|80||svc-{i}.test"
        packed = [any_pb2.Any(), any_pb2.Any()]
        packed[0].Pack(cluster)
        packed[1].Pack(ends)
        yield cluster.name, packed[0], packed[1]


def private_bytes(px):
    with open(f"/proc/{px.process.pid}/smaps_rollup", encoding="ascii") as f:
        return 1024 * int(re.search(r"^Anonymous: +(\d+) kB", f.read(), re.M).group(1))


def manager_stat(px, name):
    """Without the million of others."""
    return int(px.admin(f"/stats?filter=^cluster_manager[.]{name}$")[1].rpartition(": ")[2])


@pytest.mark.stricter
def test_ten_thousand_received_and_ten_used(delta, mesh):
    with open(mesh.binary, "rb") as f:
        if b"__asan_init" in f.read():
            pytest.skip("sanitizers have memory of their own")
    up, few = mesh.upstream("up"), [f"c{i}" for i in range(10)]
    px = start(delta, {n: [up.port] for n in few}, [delta.eds(n) for n in few])
    for n in few:
        assert ask(delta, n).status == 200
    def acks():
        return len([r for r in delta.ads.requests("endpoint") if r.response_nonce and not r.resource_names_subscribe])
    before, acked, n = private_bytes(px), acks(), 10000
    with delta.ads.lock:
        for name, cluster, ends in many(delta, n):
            delta.ads.resources["cluster"][name], delta.ads.resources["endpoint"][name] = (cluster, "1"), (ends, "1")
    delta.ads.streams[0].push("cluster")
    until(lambda: acks() > acked, 60, "all endpoints to be there")
    each = (private_bytes(px) - before) / n
    assert manager_stat(px, "active_clusters") == n + 11 and manager_stat(px, "warming_clusters") == 0
    assert each < 2200, f"{each:.0f} bytes for a cluster that nobody uses"
    for n in few:
        assert ask(delta, n).status == 200
