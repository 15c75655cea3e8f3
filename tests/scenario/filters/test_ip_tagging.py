"""ip_tagging: names of address ranges in a header; set_metadata: fixed dynamic metadata (row H9)."""
import config
import pytest
from wire import free_port

IP = "envoy.extensions.filters.http.ip_tagging.v3.IPTagging"
META = "envoy.extensions.filters.http.set_metadata.v3.Config"
IP_NAME, META_NAME = "envoy.filters.http.ip_tagging", "envoy.filters.http.set_metadata"


def ranges(*texts):
    return [{"address_prefix": t.partition("/")[0], "prefix_len": int(t.partition("/")[2])} for t in texts]


TAGS = [{"ip_tag_name": "b", "ip_list": ranges("1.2.0.0/16", "::1/128")}, {"ip_tag_name": "a", "ip_list": ranges("1.2.3.0/24")},
        {"ip_tag_name": "all", "ip_list": ranges("0.0.0.0/0")}, {"ip_tag_name": "a", "ip_list": ranges("1.2.3.4/32")}]


def start(mesh, filters, routes=None, vhost=None, ready=True, clusters=()):
    up = mesh.upstreams[0] if mesh.upstreams else mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", {**config.LOG_FIELDS, "my": "%DYNAMIC_METADATA(my)%", "o": "%DYNAMIC_METADATA(o)%"})
    manager = config.hcm(routes or [config.route("/", up.name)], log=log, filters=filters)
    manager["typed_config"]["route_config"]["virtual_hosts"][0].update(vhost or {})
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port]), *clusters], free_port()), ready=ready)


def tagging(**fields):
    return config.ext(IP_NAME, IP, **{"ip_tags": TAGS, **fields})


def ask(mesh, px, address, *headers, name="x-envoy-ip-tags"):
    """The tags that the upstream sees, as a sorted list; None: no header."""
    assert px.get("/", headers=[("x-forwarded-for", address), *headers]).status == 200
    text = dict(mesh.upstreams[0].requests[-1].headers).get(name)
    return None if text is None else sorted(text.split(","))


def test_tags_of_the_client(mesh):
    px = start(mesh, [tagging()])
    spoof = ("x-envoy-ip-tags", "admin")
    assert [ask(mesh, px, a, spoof) for a in ("1.2.3.4", "1.2.9.9", "8.8.8.8", "::1", "::2")] == [["a", "all", "b"], ["all", "b"], ["all"], ["b"], None]
    assert px.stats("ip_tagging") == {f"http.in.ip_tagging.{k}": v for k, v in
                                      {"a.hit": 1, "all.hit": 3, "b.hit": 3, "no_hit": 1, "total": 5}.items()}


def test_own_header(mesh):
    old = ("X-Tag", "old")
    for action, want in (("SANITIZE", (["all"], None)), ("APPEND_IF_EXISTS_OR_ADD", (["all", "old"], ["old"]))):
        px = start(mesh, [tagging(ip_tag_header={"header": "x-Tag", "action": action})])
        assert (ask(mesh, px, "8.8.8.8", old, name="x-tag"), ask(mesh, px, "::2", old, name="x-tag")) == want
        px.stop()
        mesh.proxies.remove(px)


def test_two_filters_add_up_and_requests_are_chosen(mesh):
    px = start(mesh, [tagging(request_type="EXTERNAL"), tagging(request_type="INTERNAL"), tagging(ip_tags=[{"ip_tag_name": "x", "ip_list": ranges("8.0.0.0/8")}])])
    assert ask(mesh, px, "8.8.8.8") == ["all", "x"] and ask(mesh, px, "10.0.0.1") == ["all"]


def test_routes_match_by_tags(mesh):
    mesh.upstream("up")
    other = mesh.upstream("other")
    routes = [config.route(match={"prefix": "/", "headers": [{"name": "x-envoy-ip-tags", "string_match": {"exact": "b"}}]}, cluster="other"), config.route()]
    px = start(mesh, [tagging()], routes=routes, clusters=[config.cluster("other", [other.port])])
    assert px.get("/", headers=[("x-forwarded-for", "::1")]).status == 200 and len(other.requests) == 1


def entry(ns="my", ow=False, **value):
    return {"metadata_namespace": ns, "allow_overwrite": ow, "value": value}


def test_set_metadata_merges(mesh):
    px = start(mesh, [config.ext(META_NAME, META, metadata_namespace="o", value={"first": True}, metadata=[
        entry(a=1, l=[1], s={"x": 1, "y": [1]}, k=[1], d={"x": 1}), entry(a=2), entry(ow=True, a="x", l=[2, 3], s={"x": 2, "z": 1, "y": [2]}, n=None, k=1, d="t"),
        entry("o", q=1), entry("o", True, q=None)])])
    assert px.get("/").status == 200
    e = px.access_log()[0]
    assert e["my"] == {"a": "x", "l": [1, 2, 3], "s": {"x": 2, "y": [1, 2], "z": 1}, "n": None, "k": 1, "d": "t"}
    assert e["o"] == {"first": True, "q": None} and px.stat("http.in.set_metadata.overwrite_denied") == 2


def test_set_metadata_by_the_most_specific_level(mesh):
    per = lambda *e: {"typed_per_filter_config": {META_NAME: {"@type": config.TYPE + META, "metadata": list(e)}}}  # noqa: E731
    routes = [{**config.route("/route"), **per(entry(ow=True, b=2), entry("o", c=3))}, config.route()]
    px = start(mesh, [config.ext(META_NAME, META, metadata=[entry(a=1)])], routes=routes, vhost=per(entry(b=9)))
    assert px.get("/route").status == 200 and px.get("/").status == 200
    first, second = px.access_log(2)
    assert (first["my"], first["o"]) == ({"a": 1, "b": 2}, {"c": 3}) and second["my"] == {"a": 1}
    assert px.stat("set_metadata.overwrite_denied") == 1


@pytest.mark.parametrize("filters,routes,where", [
    ([config.ext(IP_NAME, IP, ip_tags=[])], None, "ip_tags"),
    ([config.ext(IP_NAME, IP, ip_tags=[{"ip_tag_name": "a", "ip_list": ranges("x/8")}])], None, "ip_tags[0].ip_list[0]"),
    ([tagging()], [{**config.route(), "typed_per_filter_config": {IP_NAME: {"@type": config.TYPE + IP, "ip_tags": TAGS}}}], "no configuration per route"),
    ([config.ext(META_NAME, META, metadata=[{"value": {"a": 1}}])], None, "metadata[0].metadata_namespace"),
])
def test_errors_name_the_place(mesh, is_envoy, filters, routes, where):
    if is_envoy:
        pytest.skip("the peer has other errors")
    px = start(mesh, filters, routes=routes, ready=False)
    assert px.process.wait(20) != 0 and where in px.log()
