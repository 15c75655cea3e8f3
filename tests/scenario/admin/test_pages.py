"""What the admin pages show and do of a running proxy (rows O4, O5, P9, H07, H10)."""
import json

import pytest

import config
from wire import Client, HOST, free_port, until


@pytest.fixture(scope="module")
def up(shared_mesh):
    return shared_mesh.upstream()


@pytest.fixture(scope="module")
def px(shared_mesh, up):
    routes = [config.route("/one", "up"), config.route("/dead", "dead"),
              {"name": "moved", "match": {"path": "/old"}, "redirect": {"path_redirect": "/new"}},
              {"match": {"prefix": "/said"}, "direct_response": {"status": 418}},
              {"name": "split", "match": {"prefix": "/split"}, "route": {"weighted_clusters": {
                  "clusters": [{"name": "up", "weight": 3}, {"name": "dead", "weight": 1}]}}}]
    clusters = [config.cluster("up", [up.port]), config.cluster("dead", [free_port()])]
    clusters += [config.cluster("c%04d" % i, [1]) for i in range(400)]
    return shared_mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm(routes)])], clusters, free_port()))


def raw(px, data):
    with Client((HOST, px.admin_port), timeout=3) as c:
        c.send(data)
        return c.response()


def post(px, path, *headers, body=""):
    lines = ["POST %s HTTP/1.1" % path, "Host: admin.test:80", "Content-Length: %d" % len(body), *headers]
    return raw(px, "\r\n".join(lines) + "\r\n\r\n" + body)


@pytest.mark.stricter
@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://admin.test:81", "http://admin.test:80.evil.test"])
def test_posts_of_other_sites_are_refused(px, origin):  # H07
    assert post(px, "/healthcheck/fail", "Origin: " + origin).status == 403
    assert px.admin("/ready") == (200, "LIVE\n")


def test_posts_of_our_own_pages_are_taken(px):
    assert post(px, "/healthcheck/ok", "Origin: http://admin.test:80").status == 200
    assert post(px, "/logging", "Content-Type: application/x-www-form-urlencoded", body="level=info").status == 200


@pytest.mark.stricter
def test_a_body_that_is_too_large(px):
    head = "POST /logging HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
    assert raw(px, head + "x" * 1200000).status == 413
    assert px.admin("/ready")[0] == 200


@pytest.mark.stricter
def test_home_page_loads_nothing(px):  # H07
    r = raw(px, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert "default-src 'none'" in dict(r.headers)["content-security-policy"]
    text = px.admin("/")[1]
    assert "src=" not in text and "//" not in text.replace("<!DOCTYPE", "")


def test_a_large_dump_is_whole(px):
    status, text = px.admin("/config_dump?include_eds")
    dump = {c["@type"].rsplit(".", 1)[1]: c for c in json.loads(text)["configs"]}
    assert status == 200 and len(dump["ClustersConfigDump"]["static_clusters"]) == 402
    assert len(dump["BootstrapConfigDump"]["bootstrap"]["static_resources"]["clusters"]) == 402
    assert len(dump["EndpointsConfigDump"]["static_endpoint_configs"]) == 402
    assert dump["RoutesConfigDump"]["static_route_configs"][0]["route_config"]["name"] == "local"


@pytest.mark.stricter
def test_pipelined_and_head(px):
    with Client((HOST, px.admin_port), timeout=3) as c:
        c.send("HEAD /stats HTTP/1.1\r\nHost: a\r\n\r\nGET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.response("HEAD").status == 200
        assert c.response().body == b"LIVE\n"


@pytest.mark.stricter
@pytest.mark.parametrize("query, says", [
    ("path=/one/x", ["cluster up chosen by", "hosts of cluster up:", "healthy, weight 1"]),
    ("path=/split", ["hosts of cluster up (weight 3 of 4)", "hosts of cluster dead (weight 1 of 4)"]),
    ("path=/old", ["redirects with 301 to http://localhost/new"]),
    ("path=/said", ["answers itself with 418"]),
    ("path=/none", ["no route of virtual host all matched"]),
    ("path=/old&header=x-a:b&source=10.0.0.1&method=POST&authority=h.test", ["route 2 moved matched"]),
    ("listener=main&path=/one", ["listener main would accept the connection"]),
])
def test_explain(px, up, query, says):  # O5
    before = len(up.requests)
    status, text = px.admin("/mizzen/explain?" + query, "POST")
    assert status == 200
    for s in says:
        assert s in text, text
    assert len(up.requests) == before  # nothing was sent


@pytest.mark.stricter
def test_explain_of_json(px, up):  # O5
    body = json.dumps({"path": "/split", "headers": {"a": ["b", "c"]}, "listener": "main"})
    status, text = px.admin("/mizzen/explain?format=json", "POST", body)
    got = json.loads(text)
    assert status == 200 and got["route"] == {"name": "split", "index": 4} and got["virtual_host"] == "all"
    assert [c["name"] for c in got["clusters"]] == ["up", "dead"]
    assert got["clusters"][0]["hosts"][0]["address"] == "127.0.0.1:%d" % up.port
    for bad in ("{", "[]x", '{"headers": 1}', '{"path": {}}', '{"nope": "x"}'):
        status = px.admin("/mizzen/explain", "POST", bad if bad[0] == "{" else "{" + bad)[0]
        assert status == 400, bad


@pytest.mark.stricter
def test_failed_requests_have_their_story(px):  # O5
    assert px.get("/dead/a?b").status == 503
    text = px.admin("/mizzen/requests")[1]
    assert "/dead/a" in text and "cluster dead" in text and "failed" in text
    assert json.loads(px.admin("/mizzen/requests?format=json")[1])


@pytest.mark.stricter
def test_tracing_one_header(px):  # P9
    assert px.admin("/logging?header=X-Trace-Me:yes&level=trace", "POST")[0] == 200
    px.get("/one/untold")
    px.get("/one/told", headers=[("x-trace-me", "yes")])
    until(lambda: "/one/told" in px.log(), what="the traced request in the log")
    assert px.admin("/logging?off", "POST")[0] == 200
    assert "/one/untold" not in px.log()


def test_quit_is_answered(mesh):  # P5
    mesh.upstream()
    px = mesh.proxy()
    assert px.admin("/quitquitquit", "POST") == (200, "OK\n")


def test_statistics_count_the_request_that_asks(mesh):  # O4
    px = mesh.proxy(routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    for form, quote in (("text", "{}: "), ("json", '"{}","value":'), ("html", "{}: ")):
        before = px.stat("http.admin.downstream_rq_2xx")
        text = px.admin("/stats?filter=admin.downstream_rq_2xx&format=" + form)[1]
        for name in ("http.admin.downstream_rq_2xx", "listener.admin.http.admin.downstream_rq_2xx"):
            assert quote.format(name) + str(before + 1) in text, (form, text)
