"""Subsets (U2): routes, weighted clusters and a request's own metadata choose among hosts by their metadata."""
import collections

import pytest

import config
from wire import free_port

HOSTS = [{"version": "v1", "stage": "prod"}, {"version": "v2", "stage": "prod"}, {"version": "v2", "stage": "dev"}, {}]
BY_KEYS = [{"keys": ["version"]}, {"keys": ["stage", "version"]}]
TO_METADATA = config.ext("envoy.filters.http.header_to_metadata", "envoy.extensions.filters.http.header_to_metadata.v3.Config",
                         request_rules=[{"header": "x-version", "remove": True,
                                         "on_header_present": {"metadata_namespace": "envoy.lb", "key": "version", "type": "STRING"}}])


def match(**want):
    return {"metadata_match": {"filter_metadata": {"envoy.lb": want}}}


def proxy(mesh, subset, routes, filters=(), hosts=HOSTS, **fields):
    ups = [mesh.upstream(f"up{i}") for i in range(len(hosts))]
    ends = [{"endpoint": {"address": config.address(u.port)}, **({"metadata": {"filter_metadata": {"envoy.lb": m}}} if m else {})}
            for u, m in zip(ups, hosts)]
    c = config.cluster("up", [], lb_subset_config=subset, **fields)
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": ends}]
    hcm = config.hcm(routes, log=config.access_log(mesh.folder / "access.log"), filters=filters)
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [hcm])], [c], free_port()))


def hosts_of(mesh, px, path, n=12, status=200, **kw):
    """Which upstreams n requests reached."""
    before = [len(u.requests) for u in mesh.upstreams]
    with px.client() as c:
        assert collections.Counter(c.get(path, **kw).status for _ in range(n)) == {status: n}
    return {i for i, u in enumerate(mesh.upstreams) if len(u.requests) > before[i]}


def test_routes_choose_subsets(mesh):
    routes = [config.route("/v1", **match(version="v1")), config.route("/v2", **match(version="v2")),
              config.route("/v2dev", match={"path": "/dev"}, **match(version="v2", stage="dev")),
              config.route("/v9", **match(version="v9")), config.route("/")]
    px = proxy(mesh, {"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"stage": "prod"}, "subset_selectors": BY_KEYS}, routes)
    assert hosts_of(mesh, px, "/v1") == {0}
    assert hosts_of(mesh, px, "/v2") == {1, 2}
    assert hosts_of(mesh, px, "/dev") == {2}
    assert hosts_of(mesh, px, "/v9") == {0, 1}
    assert hosts_of(mesh, px, "/") == {0, 1}
    stats = px.stats("lb_subsets")
    assert stats["cluster.up.lb_subsets_selected"] == 36 and stats["cluster.up.lb_subsets_fallback"] == 24
    assert stats["cluster.up.lb_subsets_active"] == 10  # five of main's and of one worker's


def test_weighted_clusters_add_to_the_route(mesh):
    entries = [{"name": "up", "weight": 1, **match(stage="dev")}, {"name": "up", "weight": 1, **match(stage="prod")}]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": entries}, **match(version="v2", stage="none")}}
    px = proxy(mesh, {"subset_selectors": BY_KEYS}, [route])
    assert hosts_of(mesh, px, "/", n=60) == {1, 2}


def test_the_requests_metadata_wins(mesh):
    routes = [config.route("/", **match(version="v1"))]
    px = proxy(mesh, {"subset_selectors": BY_KEYS}, routes, filters=[TO_METADATA])
    assert hosts_of(mesh, px, "/") == {0}
    assert hosts_of(mesh, px, "/", headers=[("x-version", "v2")]) == {1, 2}
    assert hosts_of(mesh, px, "/", headers=[("x-version", "v9")], status=503) == set()
    e = px.wait_log(lambda e: e["code"] == 503)
    assert e["flags"] == "UH" and e["details"] == "no_healthy_upstream"
    assert px.stat("cluster.up.upstream_cx_none_healthy") == 12


def test_selectors_fall_back_by_their_own_policy(mesh):
    selectors = [{"keys": ["version", "stage"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["version"]},
                 {"keys": ["version"], "fallback_policy": "NO_FALLBACK"}]
    routes = [config.route("/less", **match(version="v2", stage="qa")), config.route("/none", **match(version="v9", stage="qa")),
              config.route("/")]
    px = proxy(mesh, {"fallback_policy": "ANY_ENDPOINT", "subset_selectors": selectors}, routes)
    assert hosts_of(mesh, px, "/less") == {1, 2}
    assert hosts_of(mesh, px, "/none", status=503) == set()
    assert hosts_of(mesh, px, "/", n=40) == {0, 1, 2, 3}


def test_lists_and_fallback_lists(mesh):
    hosts = [{"version": ["v1", "v2"]}, {"version": "v2"}, {"version": "v3"}]
    routes = [config.route("/v1", **match(version="v1")), config.route("/v2", **match(version="v2")),
              config.route("/list", **match(fallback_list=[{"version": "v9"}, {"version": "v3"}, {"version": "v1"}]))]
    subset = {"list_as_any": True, "metadata_fallback_policy": "FALLBACK_LIST", "subset_selectors": [{"keys": ["version"]}]}
    px = proxy(mesh, subset, routes, hosts=hosts)
    assert hosts_of(mesh, px, "/v1") == {0}
    assert hosts_of(mesh, px, "/v2") == {0, 1}
    assert hosts_of(mesh, px, "/list") == {2}


def test_one_host_of_each_subset(mesh):
    hosts = [{"id": "a"}, {"id": "b"}, {"id": "b"}]
    px = proxy(mesh, {"subset_selectors": [{"keys": ["id"], "single_host_per_subset": True}]}, [config.route("/", **match(id="b"))],
               hosts=hosts)
    assert hosts_of(mesh, px, "/") == {1}
    assert px.stat("cluster.up.lb_subsets_single_host_per_subset_duplicate") == 1


def test_a_subset_that_hashes(mesh):
    """The policy works within the subset: one key, one host of it."""
    routes = [config.route("/", hash_policy=[{"header": {"header_name": "x-key"}}], **match(version="v2"))]
    px = proxy(mesh, {"subset_selectors": BY_KEYS}, routes, lb_policy="MAGLEV")
    got = [hosts_of(mesh, px, "/", n=3, headers=[("x-key", f"k{i}")]) for i in range(16)]
    assert all(len(g) == 1 for g in got) and set.union(*got) == {1, 2}


@pytest.mark.stricter
def test_the_story_names_the_subset(mesh):
    px = proxy(mesh, {"subset_selectors": BY_KEYS}, [config.route("/", **match(version="v2", stage="dev"))])
    mesh.upstreams[2].close()
    assert px.get("/").status == 503
    story = px.admin("/mizzen/requests")[1]
    assert "hosts to choose from: subset {stage=dev, version=v2} has 1 host" in story, story


@pytest.mark.stricter
def test_explain_says_which_subset(mesh):
    routes = [config.route("/v2", **match(version="v2")), config.route("/v9", **match(version="v9"))]
    px = proxy(mesh, {"subset_selectors": BY_KEYS}, routes)
    before = px.stats("lb_subsets|lb_healthy")
    status, text = px.admin("/mizzen/explain?path=/v2", "POST")
    assert status == 200 and "hosts to choose from: subset {version=v2} has 2 hosts" in text, text
    assert "a host such as 127.0.0.1:" in text and "chosen by round robin" in text
    text = px.admin("/mizzen/explain?path=/v9", "POST")[1]
    assert "no host to choose: no subset has these values, and there is no fallback" in text, text
    assert px.stats("lb_subsets|lb_healthy") == before
