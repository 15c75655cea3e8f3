"""The fault filter: delays, aborts and slow answers, fixed or by the client's headers (row H9)."""
import time

import config
import pytest
from upstream import Endless, Reply
from wire import free_port, until

FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
ALL = {"percentage": {"numerator": 100}}


def fault(**fields):
    return config.ext("envoy.filters.http.fault", FAULT, **fields)


def start(mesh, routes=None, runtime=None, **fields):
    up = mesh.upstream()
    manager = config.hcm(routes or [config.route("/", up.name)], log=config.access_log(mesh.folder / "access.log"),
                         filters=[fault(**fields)])
    more = {"layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}]}} if runtime else {}
    boot = config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port])], free_port(), **more)
    return up, mesh.proxy(boot=boot)


def test_abort(mesh):
    up, px = start(mesh, abort={"http_status": 503, **ALL}, headers=[{"name": "x-hit", "present_match": True}])
    assert px.get("/free").status == 200
    r = px.get("/hit", headers=[("x-hit", "1"), ("x-envoy-downstream-service-cluster", "shop")])
    assert (r.status, r.body) == (503, b"fault filter abort")
    entry = px.wait_log(lambda e: e["path"] == "/hit")
    assert (entry["flags"], entry["details"], entry["host"]) == ("FI", "fault_filter_abort", None)
    assert px.stat("http.in.fault.aborts_injected") == 1 and px.stat("http.in.fault.shop.aborts_injected") == 1
    assert px.stat("http.in.fault.active_faults") == 0
    assert [q.target for q in up.requests] == ["/free"]


def test_route_overrides(mesh):
    own = {"envoy.filters.http.fault": {"@type": config.TYPE + FAULT, "abort": {"http_status": 418, **ALL}}}
    routes = [{"match": {"prefix": "/own"}, "route": {"cluster": "up"}, "typed_per_filter_config": own}, config.route("/", "up")]
    _, px = start(mesh, routes=routes, abort={"http_status": 503, **ALL}, disable_downstream_cluster_stats=True)
    assert px.get("/own").status == 418 and px.get("/").status == 503
    assert px.stat("http.in.fault.aborts_injected") == 2


def test_delay_then_abort(mesh):
    up, px = start(mesh, delay={"header_delay": {}, **ALL}, abort={"header_abort": {}, **ALL})
    begin = time.monotonic()
    assert px.get("/d", headers=[("x-envoy-fault-delay-request", "150")]).status == 200
    assert time.monotonic() - begin >= 0.15
    assert px.get("/da", headers=[("x-envoy-fault-delay-request", "10"), ("x-envoy-fault-abort-request", "429")]).status == 429
    assert px.wait_log(lambda e: e["path"] == "/d")["flags"] == "DI"
    assert px.wait_log(lambda e: e["path"] == "/da")["flags"] == "DI,FI"
    assert px.stat("http.in.fault.delays_injected") == 2
    assert len(up.requests) == 1


def test_delayed_body_arrives_whole(mesh):
    up, px = start(mesh, delay={"fixed_delay": "0.1s", **ALL})
    body = b"b" * 300000
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert c.response("POST").status == 200
    assert up.requests[0].body == body


def test_client_leaves_while_delayed(mesh):
    up, px = start(mesh, delay={"fixed_delay": "30s", **ALL})
    with px.client() as c:
        c.send(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n")
        px.wait_stat("http.in.fault.active_faults")
    until(lambda: px.stat("http.in.fault.active_faults") == 0, what="no active fault")
    assert "DC" in px.wait_log(lambda e: e["path"] == "/gone")["flags"]
    assert up.requests == []


def test_max_active_faults(mesh):
    up, px = start(mesh, delay={"header_delay": {}, **ALL}, abort={"header_abort": {}, **ALL}, max_active_faults=1)
    with px.client() as c:
        c.send(b"GET /wait HTTP/1.1\r\nhost: a\r\nx-envoy-fault-delay-request: 30000\r\n\r\n")
        px.wait_stat("http.in.fault.active_faults")
        assert px.get("/over", headers=[("x-envoy-fault-abort-request", "400")]).status == 200
        assert px.stat("http.in.fault.faults_overflow") == 1
    assert len(up.requests) == 1


def test_upstream_cluster_and_nodes(mesh):
    _, px = start(mesh, abort={"http_status": 503, **ALL}, upstream_cluster="up", downstream_nodes=["n1"])
    assert px.get("/", headers=[("x-envoy-downstream-service-node", "n1")]).status == 503
    assert px.get("/", headers=[("x-envoy-downstream-service-node", "n2")]).status == 200
    assert px.get("/").status == 200


def test_other_upstream_cluster(mesh):
    _, px = start(mesh, abort={"http_status": 503, **ALL}, upstream_cluster="another")
    assert px.get("/").status == 200


def test_runtime(mesh):
    _, px = start(mesh, runtime={"mine.percent": 0, "fault.http.shop.abort.abort_percent": 100, "fault.http.shop.abort.http_status": 411},
                  abort={"http_status": 503, **ALL}, abort_percent_runtime="mine.percent")
    assert px.get("/").status == 200
    assert px.get("/", headers=[("x-envoy-downstream-service-cluster", "shop")]).status == 411
    # a cluster without keys of its own has the configuration's share, not that of the common key
    assert px.get("/", headers=[("x-envoy-downstream-service-cluster", "none")]).status == 503


def test_grpc_status(mesh):
    _, px = start(mesh, abort={"grpc_status": 5, **ALL})
    r = px.get("/", headers=[("content-type", "application/grpc")])
    assert r.status == 200 and r.get("grpc-status") == "5" and r.get("grpc-message") == "fault filter abort"


def test_slow_answer(mesh):
    up, px = start(mesh, response_rate_limit={"header_limit": {}, **ALL})
    up.script = [Reply(body=b"s" * 40960)]
    begin = time.monotonic()
    r = px.get("/", headers=[("x-envoy-fault-throughput-response", "80")])
    took = time.monotonic() - begin
    assert r.body == b"s" * 40960 and 0.4 <= took < 3
    assert px.stat("http.in.fault.response_rl_injected") == 1
    begin = time.monotonic()
    assert len(px.get("/").body) == 40960
    assert px.stat("http.in.fault.response_rl_injected") == 1


def test_slow_answer_with_trailers(mesh):
    from upstream import Raw
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n800\r\n" + b"t" * 2048 + b"\r\n0\r\nx-t: 1\r\n\r\n")])
    trailers = {"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}
    manager = config.hcm([config.route("/", "up")], filters=[fault(response_rate_limit={"fixed_limit": {"limit_kbps": 10}, **ALL})],
                         http_protocol_options={"enable_trailers": True})
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("up", [up.port], http=trailers)], free_port()))
    r = px.get("/")
    assert r.body == b"t" * 2048 and dict(r.trailers).get("x-t") == "1"


def test_slow_answer_holds_the_upstream_back(mesh):
    up = mesh.upstream()
    endless = Endless(64 << 20)
    up.script = [endless]
    manager = config.hcm([config.route("/", "up", timeout="0s")],
                         filters=[fault(response_rate_limit={"fixed_limit": {"limit_kbps": 16}, **ALL})])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager], per_connection_buffer_limit_bytes=65536)],
                                          [config.cluster("up", [up.port], per_connection_buffer_limit_bytes=65536)], free_port()))
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        px.wait_stat("cluster.up.upstream_flow_control_paused_reading_total")
        assert endless.sent < endless.total / 2
    until(lambda: px.stat("http.in.fault.active_faults") == 0, what="no active fault")
