"""The cors filter (row H9)."""
import config
import pytest
from chain import off, own, send, share, start

NAME = "envoy.filters.http.cors"
POLICY = "envoy.extensions.filters.http.cors.v3.CorsPolicy"
FILTER = config.ext(NAME, "envoy.extensions.filters.http.cors.v3.Cors")
ASK = ("access-control-request-method", "PUT")


def route(prefix, **more):
    return {"match": {"prefix": prefix}, "route": {"cluster": "up"}, **more}


def policy(**fields):
    return {"typed_per_filter_config": own(NAME, POLICY, **fields)}


def preflight(px, path, origin="http://ok.test", headers=()):
    return send(px, "OPTIONS", path, [("origin", origin), ASK, *headers])


def test_preflight_is_answered(mesh):
    up, px = start(mesh, [FILTER], [route("/", **policy(
        allow_origin_string_match=[{"exact": "http://ok.test"}, {"suffix": ".ok.test"}], allow_methods="GET,PUT", allow_headers="x-a",
        expose_headers="x-b", max_age="60", allow_credentials=True))])
    r = preflight(px, "/p")
    assert r.status == 200 and r.body == b"" and up.requests == []
    assert [r.get("access-control-" + n) for n in ("allow-origin", "allow-credentials", "allow-methods", "allow-headers", "max-age")] == \
        ["http://ok.test", "true", "GET,PUT", "x-a", "60"]
    assert px.wait_log(lambda e: e["path"] == "/p")["details"] == "cors_response"
    # the request itself: the upstream's answer is marked
    r = send(px, "GET", "/g", [("origin", "https://sub.ok.test")])
    assert (r.get("access-control-allow-origin"), r.get("access-control-expose-headers")) == ("https://sub.ok.test", "x-b")
    assert px.stat("http.in.cors.origin_valid") == 2
    # others: not marked, preflights go on
    for r in (preflight(px, "/q", "http://bad.test"), send(px, "GET", "/q", [("origin", "http://bad.test")])):
        assert r.status == 200 and r.get("access-control-allow-origin") is None
    assert px.stat("http.in.cors.origin_invalid") == 2 and len(up.requests) == 3
    # no origin, an empty one: not the filter's business
    assert send(px, "GET", "/n", [("origin", "")]).get("access-control-allow-origin") is None
    assert px.stat("http.in.cors.origin_valid") == 2 and px.stat("http.in.cors.origin_invalid") == 2


def test_star_echoes_what_was_asked(mesh):
    _, px = start(mesh, [FILTER], [route("/", **policy(allow_origin_string_match=[{"exact": "*"}], allow_methods="*", allow_headers="*",
                                                      allow_private_network_access=True))])
    r = preflight(px, "/", "http://any.test", [("access-control-request-headers", "x-1,x-2"), ("access-control-request-private-network", "true")])
    assert [r.get("access-control-" + n) for n in ("allow-origin", "allow-methods", "allow-headers", "allow-private-network")] == \
        ["http://any.test", "PUT", "x-1,x-2", "true"]
    assert preflight(px, "/").get("access-control-allow-private-network") is None


def test_not_matching_preflight_may_be_answered(mesh):
    up, px = start(mesh, [FILTER], [route("/", **policy(allow_origin_string_match=[{"exact": "x"}], allow_methods="GET",
                                                       forward_not_matching_preflights=False))])
    r = preflight(px, "/")
    assert r.status == 200 and r.get("access-control-allow-origin") is None and r.get("access-control-allow-methods") == "GET"
    assert up.requests == []


def test_each_part_of_the_most_specific_level(mesh):
    routes = [route("/own", **policy(allow_methods="PUT")),
              route("/origins", **policy(allow_origin_string_match=[{"exact": "http://other.test"}], forward_not_matching_preflights=False)),
              route("/off", typed_per_filter_config=off(NAME)), route("/")]
    _, px = start(mesh, [FILTER], routes, vhost=policy(
        allow_origin_string_match=[{"exact": "http://ok.test"}], allow_methods="GET", allow_headers="x-v", max_age="9"))
    r = preflight(px, "/own")
    assert [r.get("access-control-" + n) for n in ("allow-origin", "allow-methods", "allow-headers", "max-age")] == ["http://ok.test", "PUT", "x-v", "9"]
    assert preflight(px, "/origins").get("access-control-allow-origin") is None
    assert preflight(px, "/off").get("access-control-allow-methods") is None
    assert preflight(px, "/").get("access-control-allow-methods") == "GET"


def test_deprecated_fields_of_routes(mesh):
    old = {"allow_origin_string_match": [{"exact": "http://ok.test"}], "allow_methods": "GET"}
    routes = [{"match": {"prefix": "/r"}, "route": {"cluster": "up", "cors": {"allow_methods": "DELETE"}}},
              route("/typed", **policy(allow_headers="x")), route("/")]
    _, px = start(mesh, [FILTER], routes, vhost={"cors": old})
    assert preflight(px, "/").get("access-control-allow-methods") == "GET"
    r = preflight(px, "/r")
    assert (r.get("access-control-allow-methods"), r.get("access-control-allow-origin")) == ("DELETE", "http://ok.test")
    assert preflight(px, "/typed").get("access-control-allow-origin") is None  # typed_per_filter_config alone counts


def test_runtime_switches(mesh):
    _, px = start(mesh, [FILTER], [route("/", **policy(allow_origin_string_match=[{"exact": "http://ok.test"}], filter_enabled=share(100, "c.on"),
                                                      shadow_enabled=share(0, "c.shadow")))], runtime={"c.on": 0})
    assert send(px, headers=[("origin", "http://ok.test")]).get("access-control-allow-origin") is None
    assert px.stat("http.in.cors.origin_valid") == 0
    assert px.admin("/runtime_modify?c.shadow=100", "POST")[0] == 200
    assert send(px, headers=[("origin", "http://ok.test")]).get("access-control-allow-origin") is None
    assert px.stat("http.in.cors.origin_valid") == 1
    assert px.admin("/runtime_modify?c.on=100", "POST")[0] == 200
    assert send(px, headers=[("origin", "http://ok.test")]).get("access-control-allow-origin") == "http://ok.test"


@pytest.mark.stricter
def test_story_names_the_matcher(mesh):
    up, px = start(mesh, [FILTER], [route("/", **policy(allow_origin_string_match=[{"exact": "http://a.test"}, {"suffix": ".ok.test"}]))])
    up.close()
    send(px, "GET", "/named", [("origin", "http://x.ok.test")])
    px.wait_log(lambda e: e["path"] == "/named")
    assert "rule allow_origin_string_match[1]: suffix .ok.test decided" in px.admin("/mizzen/requests")[1]
