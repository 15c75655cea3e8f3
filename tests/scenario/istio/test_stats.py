"""istio.stats (S1, S4): the standard metrics with their labels on both sides, dimensions by expression, HTTP, gRPC and TCP."""
import re
import socket

import config
import pytest
import sidecar
from tcp import Server
from upstream import Reply
from wire import HOST, free_port, until

WEB = {"workload": "web", "canonical_service": "web", "canonical_revision": "v1", "workload_namespace": "demo", "app": "web", "version": "v1",
       "cluster": "Kubernetes", "principal": sidecar.identity("web")}
API = {k: v.replace("web", "api") for k, v in WEB.items()}
NOBODY = {**{k: "unknown" for k in WEB}, "canonical_revision": "latest"}
ORDER = ("reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace source_principal source_app source_version "
         "source_cluster destination_workload destination_workload_namespace destination_principal destination_app destination_version destination_service "
         "destination_canonical_service destination_canonical_revision destination_service_name destination_service_namespace destination_cluster "
         "request_protocol response_code grpc_response_status response_flags connection_security_policy").split()


def labels(reporter, source, destination, **more):
    return {"reporter": reporter, **{f"source_{k}": v for k, v in source.items()}, **{f"destination_{k}": v for k, v in destination.items()}, **more}


def metrics(px, name):
    """[(labels in their order, value)] of a Prometheus metric."""
    out = []
    for line in px.admin("/stats/prometheus")[1].splitlines():
        m = re.fullmatch(re.escape(name) + r"\{(.*)\} (\S+)", line)
        if m:
            out.append((dict(re.findall(r'(\w+)="([^"]*)"', m[1])), float(m[2])))
    return out


def one_metric(px, name, timeout=5):
    return until(lambda: (lambda v: v[0] if len(v) == 1 else None)(metrics(px, name)), timeout, lambda: f"one {name}: {metrics(px, name)}")


SERVICE = {"destination_service": "api.demo.svc.cluster.local", "destination_service_name": "api", "destination_service_namespace": "demo"}


def test_both_sides_count_a_request(mesh, pki):  # S1
    up = mesh.upstream("app", [Reply(body=b"hello")])
    client, server = sidecar.http_pair(mesh, pki, up, client_filters=[sidecar.stats()], server_filters=[sidecar.stats(disable_host_header_fallback=True)])
    for _ in range(3):
        with client.client() as c:
            assert c.get("/").status == 200
    end = {"request_protocol": "http", "response_code": "200", "grpc_response_status": "", "response_flags": "-"}
    got, value = one_metric(client, "istio_requests_total")
    assert got == labels("source", WEB, API, **SERVICE, **end, connection_security_policy="unknown") and value == 3
    assert list(got) == ORDER
    got, value = one_metric(server, "istio_requests_total")
    assert value == 3 and list(got) == ORDER
    assert got == labels("destination", WEB, API, **end, connection_security_policy="mutual_tls", destination_service="api",
                         destination_service_name="api", destination_service_namespace="demo")
    for px in (client, server):
        for name in ("request_duration_milliseconds", "request_bytes", "response_bytes"):
            until(lambda px=px, name=name: one_metric(px, f"istio_{name}_count")[1] == 3, 10, f"{name} to be latched")
            assert one_metric(px, f"istio_{name}_count")[0] == one_metric(px, "istio_requests_total")[0]
        assert one_metric(px, "istio_response_bytes_sum")[1] > 15
        assert one_metric(px, "istio_build") == ({"component": "proxy", "tag": "1.32.0"}, 1)
        text = px.admin("/stats?filter=istio_requests_total")[1]
        assert text.startswith("istiocustom.istio_requests_total.reporter.") and ".response_code.200.grpc_response_status.response_flags.-." in text
        assert "# TYPE istio_requests_total counter" in px.admin("/stats/prometheus")[1]


def alone(mesh, filters, direction="OUTBOUND", cluster=None, routes=None, script=None, stats_config=None, clusters=None):
    up = mesh.upstream("app", script)
    m = config.hcm(routes or [config.route("/", "app")], filters=filters)
    place = config.listener(free_port(), [m], traffic_direction=direction)
    boot = config.bootstrap([place], clusters or [config.cluster("app", [up.port], **(cluster or {}))], free_port(), node=sidecar.node("api"),
                            **({"stats_config": stats_config} if stats_config else {}))
    return mesh.proxy(boot=boot)


def test_nobody_says_who_he_is(mesh):
    px = alone(mesh, [sidecar.stats()], "INBOUND", script=[Reply(status=503)])
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n")
        assert c.response().status == 503
    got, _ = one_metric(px, "istio_requests_total")
    assert got == labels("destination", NOBODY, {**API, "principal": "unknown"}, destination_service="shop.example:8080",
                         destination_service_name="shop.example:8080", destination_service_namespace="demo", request_protocol="http",
                         response_code="503", grpc_response_status="", response_flags="-", connection_security_policy="none")


def test_what_the_endpoint_says(mesh):  # the other side is no proxy: the control plane knows it
    endpoint = {"endpoint": {"address": config.address(free_port())}, "metadata": {"filter_metadata": {"istio": {"workload": "w;ns;svc;r2;c2"}}}}
    up = config.cluster("app", [], load_assignment={"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
                        metadata={"filter_metadata": {"istio": {"services": [{"host": "x.y.z", "namespace": "other"}]}}})
    px = alone(mesh, [sidecar.stats()], clusters=[up])
    assert px.get("/").status == 503
    got, _ = one_metric(px, "istio_requests_total")
    assert (got["destination_workload"], got["destination_workload_namespace"], got["destination_canonical_service"],
            got["destination_canonical_revision"], got["destination_cluster"]) == ("w", "ns", "svc", "r2", "c2")
    assert (got["destination_service"], got["destination_service_name"], got["destination_service_namespace"]) == ("x.y.z", "x", "other")
    assert got["response_flags"] == "UF" and got["response_code"] == "503"


@pytest.mark.parametrize("route,want", [("block_all", "BlackHoleCluster"), ("allow_any", "PassthroughCluster")])
def test_traffic_to_nowhere_in_the_mesh(mesh, route, want):
    px = alone(mesh, [sidecar.stats()], routes=[{"name": route, "match": {"prefix": "/"}, "direct_response": {"status": 502}}])
    assert px.get("/").status == 502
    got, _ = one_metric(px, "istio_requests_total")
    assert got["destination_service_name"] == want and got["destination_service"] == "a" and got["response_code"] == "502"


def test_dimensions_and_drops(mesh):  # S4
    f = sidecar.stats(metrics=[
        {"name": "requests_total", "dimensions": {"request_host": "request.host", "destination_port": "string(destination.port)",
                                                  "version": "'v' + string(1)", "source_app": "request.headers['x-app']", "broken": "no_such_thing.at_all",
                                                  "none": "request.headers['absent']"},
         "tags_to_remove": ["response_flags", "no_such_tag"]},
        {"name": "request_bytes", "drop": True}, {"name": "my_metric", "dimensions": {"x": "'1'"}}, {"dimensions": {"everywhere": "'yes'"}}])
    px = alone(mesh, [f])
    with px.client() as c:
        assert c.get("/", headers=[("x-app", "mine")]).status == 200
    got, _ = one_metric(px, "istio_requests_total")
    assert list(got) == [k for k in ORDER if k != "response_flags"] + ["broken", "destination_port", "none", "request_host", "version", "everywhere"]
    assert (got["source_app"], got["request_host"], got["destination_port"], got["version"], got["broken"], got["none"], got["everywhere"]) == (
        "mine", "a", str(px.port), "v1", "unknown", "unknown", "yes")
    until(lambda: metrics(px, "istio_response_bytes_count"), 10, "sizes of answers")
    assert metrics(px, "istio_response_bytes_count")[0][0]["response_flags"] == "-"
    assert not metrics(px, "istio_request_bytes_count")


OWN = [{"name": "bytes_by_path", "value": "request.size"}, {"name": "last_code", "value": "response.code", "type": "GAUGE"},
       {"name": "sizes", "value": "response.size", "type": "HISTOGRAM"}, {"name": "plain", "value": "1"}, {"name": "text", "value": "request.path"},
       {"name": "fails", "value": "request.headers['absent']"}, {"name": "unread", "value": "1 +"}, {"name": "requests_total", "value": "1"},
       {"name": "plain", "value": "100"}]


def test_own_metrics(mesh):  # S4: definitions
    f = sidecar.stats(definitions=OWN, metrics=[
        {"name": "bytes_by_path", "dimensions": {"path": "request.path", "source_app": "'mine'"}}, {"name": "last_code", "dimensions": {"m": "request.method"}},
        {"name": "sizes", "drop": True}, {"name": "bytes_by_path", "tags_to_remove": ["source_app"]}, {"dimensions": {"zz": "'all'"}}])
    px = alone(mesh, [f], script=[Reply(body=b"hello"), Reply(404, b"no")])
    with px.client() as c:
        for path in ("/a", "/b", "/a"):
            c.send(b"POST %s HTTP/1.1\r\nHost: a\r\ncontent-length: 7\r\n\r\n1234567" % path.encode())
            c.response()
    assert until(lambda: sorted(metrics(px, "istio_bytes_by_path"), key=str), 5, "own metrics") == [
        ({"path": "/a", "source_app": "mine", "zz": "all"}, 14), ({"path": "/b", "source_app": "mine", "zz": "all"}, 7)]
    assert metrics(px, "istio_last_code") == [({"m": "POST", "zz": "all"}, 404)]
    assert metrics(px, "istio_plain") == [({"zz": "all"}, 3)]
    assert metrics(px, "istio_text") == [({"zz": "all"}, 0)] == metrics(px, "istio_fails")  # no number counts nothing
    assert not metrics(px, "istio_unread")
    until(lambda: metrics(px, "istio_sizes_count") == [({"zz": "all"}, 3)], 10, "a histogram")  # only what is standard is dropped
    assert metrics(px, "istio_sizes_sum")[0][1] == pytest.approx(9, abs=0.5)
    assert all(got["zz"] == "all" for got, _ in metrics(px, "istio_requests_total"))
    text = px.admin("/stats?filter=istio_last_code")[1]
    assert text == "istiocustom.istio_last_code.m.POST.zz.all: 404\n" and "# TYPE istio_last_code gauge" in px.admin("/stats/prometheus")[1]
    for what in ("expression '1 +' is left out", "there is a metric 'requests_total' already", "there is a metric 'plain' already"):
        assert what in px.log()


def test_own_metrics_without_labels(mesh):
    px = alone(mesh, [sidecar.stats(definitions=[{"name": "n", "value": "2u"}])])
    assert px.get("/").status == px.get("/").status == 200
    assert "istiocustom.istio_n: 4\n" in px.admin("/stats")[1] and "\nistio_n{} 4\n" in px.admin("/stats/prometheus")[1]


def test_what_istio_ignores(mesh):  # fields that its own filter does not read
    px = alone(mesh, [sidecar.stats(rotation_interval="1s", graceful_deletion_interval="1s", metrics=[{"match": "false", "dimensions": {"x": "'1'"}}])])
    assert px.get("/").status == 200 and one_metric(px, "istio_requests_total")[0]["x"] == "1"


def test_the_node_in_a_label(mesh):  # S4
    labels_ = {"where": "xds.node.metadata['CLUSTER_ID']", "who": "xds.node.id", "way": "string(xds.listener_direction)", "broken": "1 +"}
    px = alone(mesh, [sidecar.stats(metrics=[{"dimensions": labels_}])], "INBOUND")
    assert px.get("/").status == 200
    got, _ = one_metric(px, "istio_requests_total")
    assert (got["where"], got["who"], got["way"]) == ("Kubernetes", sidecar.node("api")["id"], "1") and "broken" not in got


def test_only_what_is_wanted_is_shown(mesh):  # stats_matcher looks at the whole name, tags and all
    px = alone(mesh, [sidecar.stats()], stats_config={"stats_matcher": {"inclusion_list": {"patterns": [{"contains": "response_code.404"}]}}},
               routes=[{"match": {"prefix": "/404"}, "direct_response": {"status": 404}}, config.route("/", "app")])
    px.get("/")
    px.get("/404")
    got, _ = one_metric(px, "istio_requests_total")
    assert got["response_code"] == "404"


def test_names_of_strangers_are_bounded(mesh):  # E13
    px = alone(mesh, [sidecar.stats()], "INBOUND")
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: " + b"x" * 3000 + b"\r\n\r\n")
        assert c.response().status == 200
        c.send(b"GET / HTTP/1.1\r\nHost: a\xc3\xa4\xff.b\r\n\r\n")
        c.response()
    hosts = {x["destination_service"] for x, _ in until(lambda: len(metrics(px, "istio_requests_total")) >= 1 and metrics(px, "istio_requests_total"), 5, "metrics")}
    assert all(len(h) <= 256 for h in hosts)


def grpc_request(c, n):
    body = b"".join(b"\0\0\0\0\3abc" for _ in range(n))
    c.send(b"POST /s.S/M HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    return c.response()


def test_grpc(mesh):
    up = Reply(body=b"\0\0\0\0\1x\0\0\0\0\1y", headers=[("content-type", "application/grpc"), ("grpc-status", "5")])
    counts = config.ext("grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", emit_filter_state=True, stats_for_all_methods=False)
    px = alone(mesh, [counts, sidecar.stats()], script=[up])
    with px.client() as c:
        assert grpc_request(c, 3).status == 200
    got, _ = one_metric(px, "istio_requests_total")
    assert (got["request_protocol"], got["grpc_response_status"]) == ("grpc", "5")
    got, value = one_metric(px, "istio_request_messages_total")
    assert value == 3 and "request_protocol" not in got and got["destination_service"] == "a"
    assert one_metric(px, "istio_response_messages_total")[1] == 2


# ---- TCP ----

@pytest.fixture
def app():
    s = Server()
    yield s
    s.close()


def test_tcp_both_sides(mesh, pki, app):  # S1
    fast = sidecar.stats(tcp_reporting_duration="0.2s")
    client, server = sidecar.tcp_pair(mesh, pki, app.port, client_filters=[fast], server_filters=[fast])
    with socket.create_connection((HOST, client.port), timeout=10) as c:
        c.sendall(b"hello")
        a = app.accept()
        assert a.exactly(5, 5) == b"hello"
        a.sock.sendall(b"worldly")
        assert c.recv(100) == b"worldly"
        end = {"request_protocol": "tcp", "response_flags": "-"}
        got, value = one_metric(client, "istio_tcp_connections_opened_total", 10)  # while it stands
        assert value == 1 and got == labels("source", WEB, API, **SERVICE, **end, connection_security_policy="unknown")
        got, value = one_metric(server, "istio_tcp_connections_opened_total", 10)
        assert value == 1 and got == labels("destination", WEB, API, **end, connection_security_policy="mutual_tls", destination_service="api",
                                            destination_service_name="api", destination_service_namespace="demo")
        for px in (client, server):
            until(lambda px=px: (one_metric(px, "istio_tcp_received_bytes_total")[1], one_metric(px, "istio_tcp_sent_bytes_total")[1]) == (5, 7), 10, "bytes")
            assert not metrics(px, "istio_tcp_connections_closed_total")
        c.sendall(b"!")
        a.exactly(1, 5)
        a.sock.close()
        assert c.recv(10) == b""
    for px in (client, server):
        assert one_metric(px, "istio_tcp_connections_closed_total", 10)[1] == 1
        assert one_metric(px, "istio_tcp_received_bytes_total")[1] == 6


def test_tcp_that_never_came_about(mesh, pki):
    client = sidecar.start(mesh, "client", "web", [sidecar.stats(), sidecar.tcp_proxy("outbound|9080||api.demo.svc.cluster.local")],
                           [sidecar.outbound(free_port(), pki)], "OUTBOUND")
    with socket.create_connection((HOST, client.port), timeout=10) as c:
        assert c.recv(10) == b""
    got, value = one_metric(client, "istio_tcp_connections_opened_total", 10)
    assert value == 1 and got == labels("source", {**WEB, "principal": "unknown"}, {**NOBODY}, **{**SERVICE}, request_protocol="tcp",
                                        response_flags="UF,URX", connection_security_policy="unknown")
    assert one_metric(client, "istio_tcp_connections_closed_total")[1] == 1


def test_own_metrics_of_tcp(mesh, app):  # S4: counted when the connection ends, with what was known when it opened
    f = sidecar.stats(tcp_reporting_duration="0.1s", definitions=[{"name": "conns", "value": "1"}, {"name": "port", "value": "destination.port", "type": "GAUGE"}],
                      metrics=[{"name": "conns", "dimensions": {"to": "xds.cluster_name"}}])
    place = config.listener(free_port(), [f, sidecar.tcp_proxy("app")], traffic_direction="OUTBOUND")
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster("app", [app.port])], free_port(), node=sidecar.node("web")))
    with socket.create_connection((HOST, px.port), timeout=10) as c:
        c.sendall(b"x")
        a = app.accept()
        assert a.exactly(1, 5) == b"x"
        assert not metrics(px, "istio_conns")
        a.sock.close()
    got, value = one_metric(px, "istio_conns", 10)
    assert value == 1 and got == {"to": "app"} and one_metric(px, "istio_port") == ({}, px.port)
