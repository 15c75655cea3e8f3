"""set_filter_state: texts of the request in the filter state, seen by logs and by a route's hash policy (H8, H9)."""
import pytest

import config
from wire import free_port

FILTER = "envoy.extensions.filters.http.set_filter_state.v3.Config"


def value(key, text, **fields):
    return {"object_key": key, "format_string": {"text_format_source": {"inline_string": text}}, **fields}


def set_state(*values):
    return config.ext("envoy.filters.http.set_filter_state", FILTER, on_request_headers=list(values))


@pytest.fixture
def start(mesh):
    """start(values, hosts) -> (proxy, upstreams): routes hash by the state `who`, and the log shows it."""
    def run(values, hosts=1):
        ups = [mesh.upstream(name=f"up{i}") for i in range(hosts)]
        log = config.access_log(mesh.folder / "access.log", {"who": "%FILTER_STATE(who:PLAIN)%", "typed": "%FILTER_STATE(who)%", "host": "%UPSTREAM_HOST%"})
        routes = [config.route("/", "all", hash_policy=[{"filter_state": {"key": "who"}}])]
        boot = config.bootstrap([config.listener(free_port(), [config.hcm(routes, log, [set_state(*values)])])],
                                [config.cluster("all", [u.port for u in ups], lb_policy="RING_HASH")], free_port())
        px = mesh.proxy(boot=boot)
        return px, ups
    return run


def test_hash_follows_the_state(start):
    px, _ = start([value("who", "%REQ(x-user)%", factory_key="envoy.hashable_string")], hosts=4)
    with px.client() as c:
        for user in [f"u{i}" for i in range(16)] * 3:
            assert c.get("/", headers=[("x-user", user)]).status == 200
    hosts = {}
    for e in px.access_log(48):
        hosts.setdefault(e["who"], set()).add(e["host"])
    assert len(hosts) == 16 and all(len(h) == 1 for h in hosts.values()), hosts
    assert len(set().union(*hosts.values())) > 1


def test_a_plain_string_takes_no_part_in_the_hash(start):
    px, _ = start([value("who", "%REQ(x-user)%", factory_key="envoy.string")], hosts=4)
    with px.client() as c:
        for _ in range(64):
            assert c.get("/", headers=[("x-user", "one")]).status == 200
    assert len({e["host"] for e in px.access_log(64)}) > 1  # without a hash any point of the ring serves


@pytest.mark.parametrize("values, who", [
    ([value("who", "%REQ(x-none)%", factory_key="envoy.string")], "-"),
    ([value("who", "a %PROTOCOL%", factory_key="envoy.string"), value("who", "b", factory_key="envoy.string")], "b"),
    ([value("who", "a", factory_key="envoy.string"),
      value("who", "%REQ(x-none)%", factory_key="envoy.string", skip_if_empty=True) |
      {"format_string": {"omit_empty_values": True, "text_format_source": {"inline_string": "%REQ(x-none)%"}}}], "a"),
], ids=["absent", "the-last-one", "skip-if-empty"])
def test_values(start, values, who):
    px, _ = start(values)
    with px.client() as c:
        assert c.get("/").status == 200
    entry = px.access_log(1)[0]
    assert entry["who"] == who and entry["typed"] == who


@pytest.mark.stricter
def test_read_only_stays(start):
    px, _ = start([value("who", "first", factory_key="envoy.string", read_only=True), value("who", "second", factory_key="envoy.string", read_only=True)])
    with px.client() as c:
        c.get("/")
    assert px.access_log(1)[0]["who"] == "first"


def test_a_factory_that_is_not_there(mesh):
    manager = config.hcm([config.route()], None, [set_state(value("who", "x", factory_key="envoy.none"))])
    boot = config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("up", [1])], free_port())
    px = mesh.proxy(boot=boot, ready=False)
    assert px.process.wait(10) == 1 and "does not have an object factory" in px.log()
