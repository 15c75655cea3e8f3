"""D10: of the statistics only what a matcher asks for is shown, and memory tells what they cost."""
import json

import config
import pytest
from wire import free_port

CLUSTERS = 2000
MATCHERS = {
    "all": {}, "none": {"reject_all": True},
    "two": {"inclusion_list": {"patterns": [{"prefix": "cluster.c1"}, {"suffix": "server.live"}]}},
    "not-clusters": {"exclusion_list": {"patterns": [{"prefix": "cluster."}]}},
}


def start(mesh, name):
    u = mesh.upstreams[0]
    boot = config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", "c1")])])],
                            [config.cluster(f"c{i}", [u.port]) for i in range(CLUSTERS)], free_port())
    if MATCHERS[name]:
        boot["stats_config"] = {"stats_matcher": MATCHERS[name]}
    return mesh.proxy(boot=boot, name=name)


def test_names(mesh):
    mesh.upstream()
    for name, kept in (("none", lambda n: False), ("two", lambda n: n.startswith("cluster.c1") or n.endswith("server.live")),
                       ("not-clusters", lambda n: not n.startswith("cluster."))):
        px = start(mesh, name)
        assert px.get("/").status == 200  # and works all the same
        names = set(px.stats())
        assert all(kept(n) for n in names) and bool(names) == (name != "none")
        if name == "two":
            assert px.stat("cluster.c1.upstream_rq_200") == 1 and "server.live" in names
        px.stop()


@pytest.mark.stricter
def test_memory(mesh):
    """What nobody counted in costs next to nothing to begin with, asked for or not: under 400 bytes for each cluster."""
    mesh.upstream()
    for name in ("all", "none"):
        px = start(mesh, name)
        held = json.loads(px.admin("/mizzen/memory")[1])["types"]["stats"]["bytes"]
        assert held < 400 * CLUSTERS, (name, held)
        px.stop()
