"""Dynamic forward proxy (U1): the filter, clusters of that kind, their DNS cache."""
import config
import pytest
from dns import Dns
from wire import HOST, free_port, until


FILTER = "envoy.extensions.filters.http.dynamic_forward_proxy.v3."


def cache(dns=None, **fields):
    return {"name": "c", "dns_lookup_family": "V4_ONLY", **({k: v for k, v in dns.fields().items()} if dns else {}), **fields}


def cluster(c, **fields):
    typed = config.ext("envoy.clusters.dynamic_forward_proxy", "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig", dns_cache_config=c)
    return {"name": "dfp", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s", "cluster_type": typed, **fields}


def bootstrap(mesh, c, routes=None, filtered=True, clusters=None, filter_cache=None):
    f = [config.ext("envoy.filters.http.dynamic_forward_proxy", FILTER + "FilterConfig", dns_cache_config=filter_cache or c)] if filtered else []
    m = config.hcm(routes or [config.route("/", "dfp")], filters=f, log=config.access_log(mesh.folder / "access.log"))
    return config.bootstrap([config.listener(free_port(), [m])], clusters or [cluster(c)], free_port())


@pytest.fixture
def dns():
    d = Dns({"a.test": [HOST], "b.test": [HOST]})
    yield d
    d.close()


def get(px, host, path="/", headers=()):
    with px.client() as c:
        return c.get(path, host=host, headers=list(headers))


def stat(px, name):
    return px.stat(f"dns_cache.c.{name}")


def test_names_of_requests(mesh, dns):
    up = mesh.upstream("up")
    px = mesh.proxy(boot=bootstrap(mesh, cache(dns)))
    for host in (f"a.test:{up.port}", f"A.Test:{up.port}", f"b.test:{up.port}", f"{HOST}:{up.port}"):
        assert get(px, host).status == 200
    assert [stat(px, n) for n in ("host_added", "dns_query_attempt", "dns_query_success", "host_address_changed", "num_hosts")] == [3, 3, 3, 3, 3]
    assert [n for n, _ in dns.asked] == ["a.test", "b.test"]
    assert px.stat("cluster.dfp.membership_total") == 3 and px.stat("cluster.dfp.upstream_cx_total") >= 3  # a host for each name
    hosts = px.admin("/clusters")[1]
    assert "::hostname::a.test" in hosts and "::hostname::b.test" in hosts


def test_what_is_no_name(mesh, dns):
    px = mesh.proxy(boot=bootstrap(mesh, cache(dns)))
    for host in ("none.test:80", "a.test:0", "a.test:99999", "a_b!.test", "[::1", "x" * 300):
        r = get(px, host)
        assert (r.status, r.body) == (503, b"DNS resolution failure"), host
    log = px.access_log(6)
    assert {e["flags"] for e in log} == {"DF"} and log[0]["details"] == "dns_resolution_failure{cares_norecords:Domain_name_not_found}"
    assert {e["details"] for e in log[1:]} == {"dns_resolution_failure{no_host}"}
    assert get(px, "none.test:80").status == 503 and stat(px, "dns_query_attempt") == 1  # that it has none is known


def test_limits(mesh, dns):  # E13
    up = mesh.upstream("up")
    px = mesh.proxy(boot=bootstrap(mesh, cache(dns, max_hosts=1)))
    assert get(px, f"a.test:{up.port}").status == 200
    r = get(px, f"b.test:{up.port}")
    assert (r.status, r.body) == (503, b"DNS cache overflow") and stat(px, "host_overflow") == 1
    busy = mesh.proxy(name="busy", boot=bootstrap(mesh, cache(dns, dns_cache_circuit_breaker={"max_pending_requests": 0})))
    r = get(busy, f"a.test:{up.port}")
    assert (r.status, r.body) == (503, b"Dynamic forward proxy pending request overflow") and stat(busy, "dns_rq_pending_overflow") == 1


def test_nobody_waits_for_ever(mesh):  # a resolver that is silent; a client that leaves
    silent = Dns({})
    silent._answer = lambda *_: b""
    try:
        px = mesh.proxy(boot=bootstrap(mesh, cache(silent, dns_query_timeout="2s")))
        with px.client() as c:
            c.send(b"GET /gone HTTP/1.1\r\nHost: a.test\r\n\r\n")
            until(lambda: stat(px, "dns_query_attempt") == 1, 5, "a query")
        r = get(px, "a.test")
        assert (r.status, r.body) == (503, b"DNS resolution failure")
        assert px.wait_log(lambda e: e["code"] == 503)["details"] == "dns_resolution_failure{resolve_timeout}"
        assert stat(px, "dns_query_timeout") == stat(px, "dns_query_failure") == 1
    finally:
        silent.close()


def test_addresses_change_and_names_go(mesh):
    dns = Dns({"a.test": ["127.0.0.3"]}, ttl=1)
    up = mesh.upstream("up")
    try:
        px = mesh.proxy(boot=bootstrap(mesh, cache(dns, dns_min_refresh_rate="1s", host_ttl="4s")))
        assert get(px, f"a.test:{up.port}").status == 503  # nobody listens there
        dns.records["a.test"] = [HOST]
        until(lambda: get(px, f"a.test:{up.port}").status == 200, 20, "the new address")
        assert stat(px, "host_address_changed") == 2 and px.stat("cluster.dfp.membership_total") == 1
        until(lambda: stat(px, "num_hosts") == 0, 30, "the name to go")
        until(lambda: px.stat("cluster.dfp.membership_total") == 0, 10, "its host to go")
        assert stat(px, "host_removed") == 1 and get(px, f"a.test:{up.port}").status == 200
    finally:
        dns.close()


def test_rewrites_and_ahead(mesh, dns):
    up = mesh.upstream("up")
    name = f"a.test:{up.port}"
    per_route = {"envoy.filters.http.dynamic_forward_proxy": {"@type": config.TYPE + FILTER + "PerRouteConfig", "host_rewrite_literal": name}}
    by_header = {"envoy.filters.http.dynamic_forward_proxy": {"@type": config.TYPE + FILTER + "PerRouteConfig", "host_rewrite_header": "X-Host"}}
    routes = [{**config.route("/literal", "dfp"), "typed_per_filter_config": per_route}, {**config.route("/header", "dfp"), "typed_per_filter_config": by_header},
              config.route("/", "dfp")]
    px = mesh.proxy(boot=bootstrap(mesh, cache(dns, preresolve_hostnames=[{"address": "b.test", "port_value": up.port}]), routes))
    until(lambda: stat(px, "dns_query_success") == 1, 5, "b.test ahead of any request")
    assert get(px, "other.test", "/literal").status == get(px, "other.test", "/header", [("x-host", name)]).status == 200
    assert [r.get("host") for r in up.requests] == [name, name]
    assert get(px, f"b.test:{up.port}").status == 200 and stat(px, "dns_query_attempt") == 2


def test_without_the_filter(mesh, dns):  # nobody resolves; what is known serves
    up = mesh.upstream("up")
    px = mesh.proxy(boot=bootstrap(mesh, cache(dns, preresolve_hostnames=[{"address": "b.test", "port_value": up.port}]), filtered=False))
    until(lambda: get(px, f"b.test:{up.port}").status == 200, 5, "b.test")
    assert get(px, f"a.test:{up.port}").status == 503 and "a.test" not in [n for n, _ in dns.asked]


@pytest.mark.parametrize("make,why", [
    (lambda m: bootstrap(m, cache(), filter_cache=cache(max_hosts=7)), "config specified DNS cache 'c' with different settings"),
    (lambda m: bootstrap(m, cache(), clusters=[{**cluster(cache()), "lb_policy": "ROUND_ROBIN"}]), "cluster provided LB"),
    (lambda m: bootstrap(m, cache(), clusters=[cluster(cache(), upstream_http_protocol_options={"auto_sni": True})]),
     "dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true"),
    (lambda m: bootstrap(m, cache(dns_refresh_rate="2s")), "dns_min_refresh_rate"),
])
def test_errors(mesh, make, why):
    px = mesh.proxy(boot=make(mesh), ready=False)
    assert px.process.wait(20) != 0 and why in px.log()
