"""The header_to_metadata filter (row H9): rules, types, statistics, and who uses what it writes."""
import base64

import config
import pytest
from chain import off, own, send, start

NAME = "envoy.filters.http.header_to_metadata"
TYPE = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
LOG = {"path": "%REQ(:PATH)%", "my": "%DYNAMIC_METADATA(my)%", "v": "%DYNAMIC_METADATA(my:v)%",
       "own": "%DYNAMIC_METADATA(envoy.filters.http.header_to_metadata)%"}


def filt(**fields):
    return config.ext(NAME, TYPE, **fields)


def put(key="v", **fields):
    return {"metadata_namespace": "my", "key": key, **fields}


def begin(mesh, *filters, **more):
    return start(mesh, list(filters), log=config.access_log(mesh.folder / "access.log", LOG), **more)


def entry(px, path):
    return px.wait_log(lambda e: e["path"] == path)


def test_types_and_encoding(mesh):
    value = b"\x1a\x03abc"  # google.protobuf.Value of a string
    nested = bytes([0x2a, 9, 0x0a, 7, 0x0a, 1]) + b"k" + bytes([0x12, 2, 0x20, 1])  # struct {k: true}
    up, px = begin(mesh, filt(request_rules=[
        {"header": "X-Num", "on_header_present": put("n", type="NUMBER")},
        {"header": "x-64", "on_header_present": put("b", encode="BASE64")},
        {"header": "x-value", "on_header_present": put("p", type="PROTOBUF_VALUE", encode="BASE64")},
        {"header": "x-fixed", "on_header_present": put("f", value="fixed"), "remove": True},
        {"header": "x-own", "on_header_present": {"key": "o"}}]))
    send(px, path="/1", headers=[("x-num", "-1.5e1"), ("x-64", base64.b64encode(b"hello").decode()), ("x-value", base64.b64encode(value).decode()),
                                 ("x-fixed", "a"), ("x-fixed", "b"), ("x-own", "1"), ("x-own", "2")])
    e = entry(px, "/1")
    assert e["my"] == {"n": -15, "b": "hello", "p": "abc", "f": "fixed"} and e["own"] == {"o": "1,2"}
    assert up.requests[0].get("x-fixed") is None and up.requests[0].get("x-num") == "-1.5e1"
    send(px, path="/2", headers=[("x-num", "1_0"), ("x-64", "@@@"), ("x-value", base64.b64encode(nested).decode())])
    assert entry(px, "/2")["my"] == {"p": {"k": True}}
    send(px, path="/3", headers=[("x-num", "abc"), ("x-value", base64.b64encode(b"\xff\xff").decode()), ("x-64", "a")])
    assert entry(px, "/3")["my"] is None


def test_missing_cookie_regex(mesh):
    _, px = begin(mesh, filt(request_rules=[
        {"header": "x-v", "on_header_present": put(), "on_header_missing": put(value="none")},
        {"cookie": "c", "on_header_present": put("c"), "on_header_missing": put("c", value="no cookie")},
        {"header": ":path", "on_header_present": put("first", regex_value_rewrite={"pattern": {"regex": r"^/(\w+).*$"}, "substitution": r"\1!"})}]))
    send(px, path="/a/b", headers=[("cookie", "b=1; c=\"q\"; c=2"), ("x-v", "7")])
    assert entry(px, "/a/b")["my"] == {"v": "7", "c": "q", "first": "a!"}
    send(px, path="/", headers=[("cookie", "cc=1; c=")])
    assert entry(px, "/")["my"] == {"v": "none", "c": "no cookie", "first": "/"}


def test_statistics(mesh):
    _, px = begin(mesh, filt(stat_prefix="h2m", request_rules=[
        {"header": "x-64", "on_header_present": put("b", encode="BASE64"), "on_header_missing": put("b", value="bm9uZQ==", encode="BASE64")},
        {"header": "x-r", "on_header_present": put("r", regex_value_rewrite={"pattern": {"regex": ".*"}, "substitution": ""})}]))
    send(px, path="/1", headers=[("x-64", "*")])
    send(px, path="/2", headers=[("x-64", "b" * 8192), ("x-r", "all")])
    send(px, path="/3")
    assert entry(px, "/3")["my"] == {"b": "none"}
    s = {k.rpartition(".")[2]: v for k, v in px.stats(r"^http_filter_name\.h2m\.").items()}
    assert s["request_rules_processed"] == 6 and s["request_metadata_added"] == 1 and s["request_header_not_found"] == 1
    assert s["base64_decode_failed"] == 1 and s["header_value_too_long"] == 1 and s["regex_substitution_failed"] == 1


def test_response_rules(mesh):
    from upstream import Reply
    up, px = begin(mesh, filt(response_rules=[{"header": "x-up", "on_header_present": put("up"), "remove": True}]))
    up.script = [Reply(headers=[("x-up", "u")])]
    assert send(px, path="/r").get("x-up") is None
    assert entry(px, "/r")["my"] == {"up": "u"}


def test_routes(mesh):
    rule = {"header": "x-v", "on_header_present": put()}
    routes = [{"match": {"prefix": "/own"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, TYPE, request_rules=[
        {"header": "x-v", "on_header_present": put("w")}])},
        {"match": {"prefix": "/off"}, "route": {"cluster": "up"}, "typed_per_filter_config": off(NAME)}, config.route("/")]
    _, px = begin(mesh, filt(request_rules=[rule]), routes=routes)
    for path, want in (("/own", {"w": "1"}), ("/off", None), ("/", {"v": "1"})):
        send(px, path=path, headers=[("x-v", "1")])
        assert entry(px, path)["my"] == want


def test_C17_the_route_stays_as_it_was_chosen(mesh):
    """The manager asks for the route before the filters run: metadata written later does not move the request."""
    a, b = mesh.upstream("a"), mesh.upstream("b")
    match = {"prefix": "/", "dynamic_metadata": [{"filter": "my", "path": [{"key": "v"}], "value": {"string_match": {"exact": "2"}}}]}
    routes = [{"match": match, "route": {"cluster": "b"}}, config.route("/", "a")]
    _, px = begin(mesh, filt(request_rules=[{"header": "x-v", "on_header_present": put()}]), routes=routes, upstreams=[a, b])
    for v in ("1", "2"):
        assert send(px, path="/" + v, headers=[("x-v", v)]).status == 200
    assert (len(a.requests), len(b.requests)) == (2, 0)


@pytest.mark.stricter
def test_B18_numbers_that_json_has_not(mesh):
    _, px = begin(mesh, filt(request_rules=[{"header": "x", "on_header_present": put("n", type="NUMBER")}]))
    for i, v in enumerate(("inf", "-nan", "1e999", "0x1p3")):
        send(px, path=f"/{i}", headers=[("x", v)])
        assert entry(px, f"/{i}")["my"] == ({"n": 8} if v == "0x1p3" else None), v


def test_subset_of_hosts_by_header(mesh):
    """Namespace envoy.lb chooses the subset of the cluster's hosts (U2)."""
    from wire import free_port
    ups = [mesh.upstream("v1"), mesh.upstream("v2")]
    hosts = [{"endpoint": {"address": config.address(u.port)}, "metadata": {"filter_metadata": {"envoy.lb": {"version": u.name}}}} for u in ups]
    cluster = {"name": "up", "type": "STATIC", "connect_timeout": "1s",
               "lb_subset_config": {"fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["version"]}]},
               "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": hosts}]}}
    rules = [{"header": "x-v", "on_header_present": {"metadata_namespace": "envoy.lb", "key": "version"}}]
    m = config.hcm([config.route("/")], filters=[filt(request_rules=rules)])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [m])], [cluster], free_port()))
    for v in ("v1", "v2", "v2", "v3"):
        assert send(px, headers=[("x-v", v)]).status == (503 if v == "v3" else 200)
    assert [len(u.requests) for u in ups] == [1, 2]
