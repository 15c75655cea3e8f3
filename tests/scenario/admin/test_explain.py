"""What would become of a connection and a request (O5): TLS, the protocols in it, filters that would end it; what is watched for."""
import json

import pytest

import config
from wire import free_port, until

pytestmark = pytest.mark.stricter
PRINCIPAL = "spiffe://td/ns/a/sa/b"


@pytest.fixture(scope="module")
def up(shared_mesh):
    return shared_mesh.upstream()


@pytest.fixture(scope="module")
def px(shared_mesh, up):
    rbac = config.ext("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {"known": {
        "permissions": [{"url_path": {"path": {"prefix": "/open"}}}, {"and_rules": {"rules": [{"any": True}]}}],
        "principals": [{"authenticated": {"principal_name": {"exact": PRINCIPAL}}}]},
        "open": {"permissions": [{"url_path": {"path": {"prefix": "/open"}}}], "principals": [{"any": True}]}}})
    fault = config.ext("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault", delay={"fixed_delay": "2s", "percentage": {"numerator": 25}},
                       abort={"http_status": 418, "percentage": {"numerator": 100}}, headers=[{"name": "x-fault", "present_match": True}])
    routes = [config.route("/open/old", "up", prefix_rewrite="/open/new"), config.route("/", "up")]
    inspectors = [config.ext("envoy.filters.listener." + n, f"envoy.extensions.filters.listener.{n}.v3.{t}") for n, t in
                  (("tls_inspector", "TlsInspector"), ("http_inspector", "HttpInspector"))]
    web = config.hcm(routes, filters=[fault, rbac])
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up")
    listener = config.listener(free_port(), [tcp], listener_filters=inspectors)
    listener["filter_chains"] = [{"name": "istio", "filter_chain_match": {"transport_protocol": "tls", "application_protocols": ["istio"]}, "filters": [tcp]},
                                 {"name": "http", "filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]}, "filters": [web]}]
    listener["default_filter_chain"] = {"name": "rest", "filters": [tcp]}
    return shared_mesh.proxy(boot=config.bootstrap([listener], [config.cluster("up", [up.port])], free_port()))


def explain(px, query):
    status, text = px.admin("/mizzen/explain?format=json&" + query, "POST")
    assert status == 200, text
    return json.loads(text)


@pytest.mark.parametrize("query, chain", [("path=/open", "http"), ("protocol=http/1.1", "http"), ("protocol=h2c", "rest"), ("protocol=tcp", "rest"),
                                          ("tls=true&alpn=istio-http/1.1,istio", "istio"), ("tls=true&alpn=h2&sni=a.test", "rest"), ("tls=true", "rest"), ("alpn=istio", "http")])
def test_which_chain_serves(px, query, chain):
    got = explain(px, query)
    assert got["filter_chain"] == chain and got["listener"] == "main" and not got["tls"]
    if chain != "http":
        assert got["clusters"][0]["name"] == "up" and got["clusters"][0]["chosen"]["transport"] == "raw_buffer"


def test_filters_tell_what_they_would_do(px):
    allowed, refused = explain(px, "path=/open/old/1"), explain(px, "path=/x")
    assert [(f["type"], f["known"]) for f in allowed["filters"]] == [("envoy.filters.http.fault", True), ("envoy.filters.http.rbac", True)]
    assert "status" not in allowed and ["RULE", "open"] == [[s["step"], s["b"].split()[1]] for s in allowed["story"] if s["step"] == "RULE"][0]
    assert [":path", "/open/new/1"] in allowed["sent"] and ["x-envoy-original-path", "/open/old/1"] in allowed["sent"]
    assert refused["status"] == 403 and not refused["clusters"] and [s["step"] for s in refused["story"]][-3:] == ["NOT_RULE", "NOT_RULE", "FILTER"]
    assert px.get("/x").status == 403 and px.get("/open/old/1").status == 200
    faulty = explain(px, "path=/open&header=x-fault:1")
    assert faulty["status"] == 418 and [s["b"] for s in faulty["story"] if s["step"] == "WOULD"] == ["delay it by 2000 ms, for 25% of the requests", "answer it with 418 itself, always"]
    for query, says in (("tls=yes", "true or false"), ("alpn=a,,b", "commas"), ("protocol=http/9", "one of"), ("sni=a b", "host name")):
        status, text = px.admin("/mizzen/explain?" + query.replace(" ", "%20"), "POST")
        assert status == 400 and says in text


def test_what_is_watched_for_is_kept(px):
    assert px.get("/open/before").status == 200
    assert px.admin("/mizzen/watch?seconds=30&path=/open/w&header=X-Mine:1", "POST") == (200, "OK\n")
    since = json.loads(px.admin("/mizzen/requests?format=json")[1])["next"]
    for path, headers in (("/open/w1", []), ("/open/x", [("x-mine", "1")]), ("/open/w2", [("x-mine", "1"), ("x-request-id", "7")])):
        assert px.get(path, headers=headers).status == 200
    px.get("/refused")  # whatever is kept without being asked for is so still

    def kept():
        got = json.loads(px.admin(f"/mizzen/requests?format=json&since={since}")[1])
        got["requests"] = [r for r in got["requests"] if r["watched"] or r["path"] == "/refused"]  # a slow one would be kept, too
        return len(got["requests"]) == 2 and got
    got = until(kept, 10, "two records")
    assert [(r["path"], r["watched"]) for r in got["requests"]] == [("/refused", False), ("/open/w2", True)] and got["next"] >= since + 2
    assert json.loads(px.admin(f"/mizzen/requests?format=json&since={got['next']}")[1])["requests"] == []
    assert px.admin("/mizzen/watch?seconds=0", "POST")[0] == 200
    px.get("/open/w3", headers=[("x-mine", "1")])
    assert not [r for r in json.loads(px.admin("/mizzen/requests?format=json")[1])["requests"] if r["path"] == "/open/w3" and r["watched"]]
    for query in ("", "seconds=x", "seconds=601", "seconds=1&header=a%20b:c", "seconds=1&path=" + 300 * "a"):
        assert px.admin("/mizzen/watch?" + query, "POST")[0] == 400, query
    assert px.admin("/mizzen/watch?seconds=1")[0] == 405 and px.admin("/mizzen/requests?since=x")[0] == 400
