"""Spans and their collectors (O3, H4, S1-S4): what they say, what goes to the next service, and collectors that hang or are gone (H08).
All but limits and refusals also runs against an Envoy, which says the same."""
import json
import threading

import config
import pytest
from chain import send
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
collector = pytest.importorskip("collector", reason="peer xds-protos is not installed")

H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
NOW = {"tracing.opentelemetry.min_flush_spans": 1, "tracing.zipkin.min_flush_spans": 1}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
B3 = [("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312"), ("x-b3-parentspanid", "0020000000000001")]
ROUTES = [{"match": {"prefix": "/dec"}, "route": {"cluster": "up"}, "decorator": {"operation": "the-op"}},
          {"match": {"prefix": "/own"}, "route": {"cluster": "up"}, "decorator": {"operation": "own", "propagate": False}},
          {"match": {"prefix": "/gone"}, "route": {"cluster": "dead", "retry_policy": {"retry_on": "connect-failure", "num_retries": 1}}},
          {"match": {"prefix": "/404"}, "direct_response": {"status": 404}},
          {"match": {"prefix": "/route"}, "route": {"cluster": "up"},
           "tracing": {"custom_tags": [{"tag": "lit", "literal": {"value": "of route"}}, {"tag": "more", "literal": {"value": "m"}}]}},
          config.route("/")]


def otlp(**more):
    return config.ext("envoy.tracers.opentelemetry", "envoy.config.trace.v3.OpenTelemetryConfig",
                      grpc_service={"envoy_grpc": {"cluster_name": "collector"}}, service_name="svc", **more)


def otlp_http(**more):
    http = {"http_uri": {"uri": "http://otel.example:4318/v1/traces", "cluster": "collector", "timeout": "2s"},
            "request_headers_to_add": [{"header": {"key": "x-k", "value": "v"}}]}
    return config.ext("envoy.tracers.opentelemetry", "envoy.config.trace.v3.OpenTelemetryConfig", http_service=http, **more)


def zipkin(**more):
    return config.ext("envoy.tracers.zipkin", "envoy.config.trace.v3.ZipkinConfig",
                      **{"collector_cluster": "collector", "collector_endpoint": "/api/v2/spans", "collector_endpoint_version": "HTTP_JSON", **more})


class Traced:
    """A proxy that traces, the service behind it, and a collector."""

    def __init__(self, mesh, provider, direction=None, runtime=None, to=None, port=None, **tracing):
        grpc = "grpc_service" in provider["typed_config"]
        self.up = mesh.upstream()
        self.collector = to or (None if port else collector.OtlpGrpc() if grpc else collector.OverHttp())
        log = config.access_log(mesh.folder / "access.log", {"path": "%REQ(:PATH)%", "trace": "%TRACE_ID%", "span": "%SPAN_ID%"})
        m = config.hcm(ROUTES, log=log, tracing={"provider": provider, **tracing})
        clusters = [config.cluster("up", [self.up.port], metadata={"filter_metadata": {"ns": {"k": "of cluster"}}}),
                    config.cluster("dead", [free_port()]),
                    config.cluster("collector", [port or self.collector.port], http=H2 if grpc else None)]
        more = {"traffic_direction": direction} if direction else {}
        boot = config.bootstrap([config.listener(free_port(), [m], **more)], clusters, free_port(),
                                layered_runtime={"layers": [{"name": "l", "static_layer": {**NOW, **(runtime or {})}}]})
        self.px = mesh.proxy(boot=boot)

    def get(self, path, *headers):
        return send(self.px, path=path, headers=headers)

    def spans(self, n):
        until(lambda: len(self.collector.spans) >= n, what=f"{n} spans")
        return self.collector.spans[:n]

    def sent(self):
        return self.up.requests[-1]


@pytest.fixture
def traced(mesh):
    made = []

    def make(*args, **kw):
        made.append(Traced(mesh, *args, **kw))
        return made[-1]
    yield make
    for t in made:
        if t.collector:
            t.collector.close()


def without(tags, *names):
    return {k: v for k, v in tags.items() if k not in names}


def test_what_a_span_says(traced):
    tags = [{"tag": "lit", "literal": {"value": "x"}}, {"tag": "env", "environment": {"name": "NO_SUCH", "default_value": "d"}},
            {"tag": "hdr", "request_header": {"name": "X-Tag", "default_value": "none"}},
            {"tag": "meta", "metadata": {"kind": {"request": {}}, "metadata_key": {"key": "ns", "path": [{"key": "k"}]}, "default_value": "md"}},
            {"tag": "cluster", "metadata": {"kind": {"cluster": {}}, "metadata_key": {"key": "ns", "path": [{"key": "k"}]}}},
            {"tag": "format", "value": "%REQ(x-tag)%|%RESPONSE_CODE%"}, {"tag": "absent", "value": "%REQ(x-none)%"}]
    t = traced(otlp(), custom_tags=tags)
    assert t.get("/plain?q=1", ("x-tag", "T"), ("user-agent", "ua")).status == 200
    s = t.spans(1)[0]
    assert (s.name, s.kind, s.parent, s.status, s.events) == ("ingress", 2, "", 0, [])
    assert without(s.tags, "guid:x-request-id") == {
        "node_id": "test", "zone": "", "http.url": "http://a/plain?q=1", "http.method": "GET", "downstream_cluster": "-", "user_agent": "ua",
        "http.protocol": "HTTP/1.1", "peer.address": "127.0.0.1", "request_size": "0", "response_size": "2", "component": "proxy",
        "upstream_cluster": "up", "upstream_cluster.name": "up", "http.status_code": "200", "response_flags": "-",
        "lit": "x", "env": "d", "hdr": "T", "meta": "md", "cluster": "of cluster", "format": "T|200"}
    assert s.tags["guid:x-request-id"] == t.sent().get("x-request-id") and s.end >= s.start > 1_700_000_000 * 10**9
    assert s.resource["service.name"] == "svc" and s.resource["telemetry.sdk.language"] == "cpp"
    assert t.sent().get("traceparent") == f"00-{s.trace}-{s.id}-01" and t.sent().get("tracestate") == ""
    assert t.px.access_log()[0] == {"path": "/plain?q=1", "trace": s.trace, "span": s.id}
    assert t.get("/gone").status == 503 and t.get("/404").status == 404 and t.get("/route").status == 200
    gone, missing, route = t.spans(4)[1:]
    assert gone.tags["error"] == "true" and gone.tags["response_flags"] == "URX,UF" and gone.status == 2
    assert "error" not in missing.tags and "upstream_cluster" not in missing.tags and missing.status == 0
    assert route.tags["lit"] == "of route" and route.tags["more"] == "m"
    assert t.px.stats("^tracing.opentelemetry") == {"tracing.opentelemetry.spans_dropped": 0, "tracing.opentelemetry.spans_sent": 4,
                                                    "tracing.opentelemetry.timer_flushed": 0}


def test_grpc_calls(traced):
    t = traced(otlp())
    t.up.script[0].headers += [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", "no")]
    t.get("/a.B/C", ("content-type", "application/grpc"), ("grpc-timeout", "1S"))
    tags = t.spans(1)[0].tags
    assert {k: v for k, v in tags.items() if k.startswith("grpc") or k == "error"} == {
        "grpc.path": "/a.B/C", "grpc.authority": "a", "grpc.content_type": "application/grpc", "grpc.timeout": "1S",
        "grpc.status_code": "14", "grpc.message": "no", "error": "true"}


def test_context_of_w3c(traced):
    t = traced(otlp())
    t.get("/sampled", ("traceparent", PARENT + "01"), ("tracestate", "a=b"))
    s = t.spans(1)[0]
    assert (s.trace, s.parent, s.state) == (PARENT[3:35], PARENT[36:52], "a=b")
    assert t.sent().get("traceparent") == f"00-{s.trace}-{s.id}-01" and t.sent().get("tracestate") == "a=b"
    t.get("/not-sampled", ("traceparent", PARENT + "00"))
    assert t.sent().get("traceparent").startswith(PARENT[:36]) and t.sent().get("traceparent").endswith("-00")
    t.get("/nonsense", ("traceparent", "00-zz-1-01"))
    assert t.sent().get("traceparent") == "00-zz-1-01" and t.px.access_log(3)[2] == {"path": "/nonsense", "trace": None, "span": None}
    t.get("/last")
    assert [s.tags["http.url"] for s in t.spans(2)] == ["http://a/sampled", "http://a/last"]


def test_sampling(traced):
    t = traced(otlp(), random_sampling={"value": 0}, client_sampling={"value": 100})
    t.get("/no", ("traceparent", PARENT + "01"))
    assert t.sent().get("traceparent").endswith("-00")
    t.get("/client", ("x-client-trace-id", "mine"))
    s = t.spans(1)[0]
    assert s.tags["guid:x-client-trace-id"] == "mine" and t.sent().get("x-request-id")[14] == "b"
    assert t.px.stat("http.in.tracing.client_enabled") == 1 and t.px.stat("http.in.tracing.not_traceable") == 1


def test_spans_of_tries(traced):
    t = traced(otlp(), spawn_upstream_span=True, verbose=True, max_path_tag_length=5)
    t.get("/plain")
    t.get("/gone")
    spans = t.spans(5)
    request, = [s for s in spans if s.kind == 2 and s.tags["http.status_code"] == "200"]
    tried, = [s for s in spans if s.parent == request.id]
    assert request.tags["http.url"] == "http://a/plai" and tried.name == "router up egress" and tried.kind == 3
    assert t.up.requests[0].get("traceparent") == f"00-{tried.trace}-{tried.id}-01"
    at = f"127.0.0.1:{t.up.port}"
    assert tried.tags == {"http.protocol": "HTTP/1.1", "upstream_address": at, "peer.address": at, "component": "proxy",
                          "upstream_cluster": "up", "upstream_cluster.name": "up", "http.status_code": "200", "response_flags": "-"}
    upstream = ["first_upstream_tx_byte_sent", "last_upstream_tx_byte_sent", "first_upstream_rx_byte_received", "last_upstream_rx_byte_received"]
    assert [n for n, _ in tried.events] == upstream
    assert [n for n, _ in request.events] == ["last_downstream_rx_byte_received", *upstream, "first_downstream_tx_byte_sent",
                                              "last_downstream_tx_byte_sent"]
    assert all(request.start <= at <= request.end + 10**9 for _, at in request.events)
    failed = sorted((s for s in spans if s.name == "router dead egress"), key=lambda s: s.tags.get("retry.count", ""))
    assert [s.tags.get("retry.count") for s in failed] == [None, "1"]
    for s in failed:
        assert (s.tags["error"], s.tags["error.reason"], s.tags["http.protocol"]) == ("true", "remote connection failure", "-")
        assert (s.tags["http.status_code"], s.tags["response_flags"]) == ("0", "UF")


def test_names(traced):
    t = traced(otlp())
    assert t.get("/dec").get("x-envoy-decorator-operation") == "the-op"
    assert t.get("/own").get("x-envoy-decorator-operation") is None
    assert t.get("/dec", ("x-envoy-decorator-operation", "theirs")).get("x-envoy-decorator-operation") is None
    assert [s.name for s in t.spans(3)] == ["the-op", "own", "theirs"]


def test_names_of_what_goes_out(traced):
    t = traced(otlp(), direction="OUTBOUND")
    t.up.script[0].headers.append(("x-envoy-decorator-operation", "heard"))
    assert t.get("/plain").get("x-envoy-decorator-operation") is None
    t.up.script[0].headers.clear()
    t.get("/plain")
    t.get("/dec")
    assert t.sent().get("x-envoy-decorator-operation") == "the-op"
    assert [(s.name, s.kind) for s in t.spans(3)] == [("heard", 3), ("egress a", 3), ("the-op", 3)]


def test_names_by_format_over_http(traced):
    t = traced(otlp_http(), operation="op %REQ(:METHOD)%", upstream_operation="up %REQ(:PATH)%", spawn_upstream_span=True)
    t.get("/dec")
    assert sorted(s.name for s in t.spans(2)) == ["op GET", "up /dec"]
    path, headers, _ = t.collector.requests[0]
    assert (path, headers["host"], headers["content-type"], headers["x-k"]) == ("/v1/traces", "otel.example:4318", "application/x-protobuf", "v")


def test_resource_attributes(traced, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d")
    detectors = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3."
    t = traced(otlp(resource_detectors=[config.ext("env", detectors + "EnvironmentResourceDetectorConfig"),
                                        config.ext("static", detectors + "StaticConfigResourceDetectorConfig", attributes={"s": "t"})]))
    t.get("/")
    r = t.spans(1)[0].resource
    assert (r["a"], r["c"], r["s"], r["service.name"]) == ("b", "d", "t", "svc")


def test_lots(traced):
    """So many at once, the rest when the timer fires."""
    t = traced(otlp(), runtime={"tracing.opentelemetry.min_flush_spans": 3, "tracing.opentelemetry.flush_interval_ms": 300})
    for i in range(4):
        t.get(f"/{i}")
    t.spans(4)
    assert sum(t.collector.lots) == 4 and t.px.stat("tracing.opentelemetry.timer_flushed") >= 1


def test_H08_collector_hangs(traced):
    """One lot is under way, so many wait, others are dropped and counted; requests do not notice."""
    answer = threading.Event()
    t = traced(otlp_http(), to=collector.OverHttp(hold=answer))
    with t.px.client() as c:
        for i in range(1030):
            c.send(b"GET /404 HTTP/1.1\r\nhost: a\r\n\r\n")
            assert c.response().status == 404
    t.px.wait_stat("tracing.opentelemetry.spans_dropped", 5)
    assert t.px.stat("tracing.opentelemetry.spans_sent") == 1
    answer.set()
    t.spans(1025)


@pytest.mark.parametrize("provider", [otlp, otlp_http, zipkin])
def test_H08_collector_is_gone(traced, provider):
    t = traced(provider(), port=free_port())
    for i in range(3):
        assert t.get(f"/{i}").status == 200
    t.px.wait_stat("cluster.collector.upstream_cx_connect_fail")
    if provider is zipkin:
        t.px.wait_stat("tracing.zipkin.reports_dropped" if t.px.stat("tracing.zipkin.reports_dropped") else "tracing.zipkin.reports_failed")


# ---- Zipkin ----

def test_zipkin(traced):
    t = traced(zipkin(), custom_tags=[{"tag": "lit", "literal": {"value": "\u00e4\"\n"}}])
    t.get("/dec")
    s = t.spans(1)[0]
    assert (s["name"], s["kind"], s["shared"], s["id"], s["localEndpoint"]["serviceName"]) == ("the-op", "SERVER", True, s["traceId"], "test")
    assert len(s["id"]) == 16 and "parentId" not in s and [a["value"] for a in s["annotations"]] == ["ss"]
    assert s["annotations"][0]["timestamp"] >= s["timestamp"] and s["duration"] > 0
    assert without(s["tags"], "guid:x-request-id") == {
        "node_id": "test", "http.url": "http://a/dec", "http.method": "GET", "downstream_cluster": "-", "user_agent": "-",
        "http.protocol": "HTTP/1.1", "peer.address": "127.0.0.1", "request_size": "0", "response_size": "2", "component": "proxy",
        "upstream_cluster": "up", "upstream_cluster.name": "up", "http.status_code": "200", "response_flags": "-", "lit": "\u00e4\"\n"}
    assert [t.sent().get("x-b3-" + n) for n in ("traceid", "spanid", "parentspanid", "sampled")] == [s["traceId"], s["id"], None, "1"]
    path, headers, body = t.collector.requests[0]
    assert (path, headers["host"], headers["content-type"]) == ("/api/v2/spans", "collector", "application/json") and len(json.loads(body)) == 1
    assert t.px.access_log()[0] == {"path": "/dec", "trace": s["traceId"], "span": None}
    assert t.px.wait_stat("tracing.zipkin.reports_sent") and t.px.stat("tracing.zipkin.spans_sent") == 1


def test_zipkin_by_service(traced):
    http = {"http_uri": {"uri": "https://zipkin.example/own/path", "cluster": "collector", "timeout": "2s"},
            "request_headers_to_add": [{"header": {"key": "authorization", "value": "secret"}}]}
    t = traced(zipkin(collector_cluster="", collector_endpoint="", collector_service=http))
    t.get("/")
    t.spans(1)
    path, headers, _ = t.collector.requests[0]
    assert (path, headers["host"], headers["authorization"]) == ("/own/path", "zipkin.example", "secret")


def test_context_of_b3(traced):
    t = traced(zipkin())
    t.get("/many", *B3, ("x-b3-sampled", "1"))
    s = t.spans(1)[0]
    assert (s["traceId"], s["id"], s["parentId"]) == tuple(v for _, v in B3)  # both ends of a call are one span
    t.get("/not", *B3, ("x-b3-sampled", "0"))
    assert t.sent().get("x-b3-sampled") == "0" and t.sent().get("x-b3-spanid") == B3[1][1]
    t.get("/one", ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"))
    assert t.sent().get("b3") == "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90" and t.sent().get("x-b3-traceid") is None
    t.get("/nonsense", ("x-b3-traceid", "zz"), ("x-b3-spanid", "1"))
    assert t.sent().get("x-b3-traceid") == "zz" and t.sent().get("x-b3-sampled") is None
    t.get("/debug", ("x-b3-flags", "1"))
    assert [x["tags"]["http.url"] for x in t.spans(3)] == ["http://a/many", "http://a/one", "http://a/debug"]


def test_zipkin_tries_and_wide_ids(traced):
    t = traced(zipkin(trace_id_128bit=True, shared_span_context=False, trace_context_option="USE_B3_WITH_W3C_PROPAGATION"),
               spawn_upstream_span=True)
    t.get("/plain")
    tried, request = sorted(t.spans(2), key=lambda s: s["kind"])
    assert (tried["kind"], tried["name"], tried["parentId"]) == ("CLIENT", "router up egress", request["id"])
    assert [a["value"] for a in tried["annotations"]] == ["cr"] and "shared" not in request and len(request["traceId"]) == 32
    assert t.sent().get("x-b3-spanid") == tried["id"] and t.sent().get("x-b3-parentspanid") == request["id"]
    assert t.sent().get("traceparent") == f"00-{request['traceId']}-{tried['id']}-01"
    t.get("/w3c", ("traceparent", PARENT + "01"))
    assert t.spans(4)[3]["traceId"] == PARENT[3:35]


# ---- configurations that are refused ----

@pytest.mark.parametrize("provider,why", [
    (config.ext("x", "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=1), "no tracer has a configuration of type"),
    (otlp(http_service={"http_uri": {"uri": "http://a/", "cluster": "collector", "timeout": "1s"}}), "must have exactly one of gRPC, HTTP, or custom exporter configured"),
    (zipkin(collector_endpoint_version="HTTP_PROTO"), "must be HTTP_JSON"),
    (zipkin(collector_cluster=""), "collector_cluster and collector_endpoint must be specified"),
])
def test_refused(mesh, provider, why):
    m = config.hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}], tracing={"provider": provider})
    px = mesh.proxy(boot=config.bootstrap([config.listener(0, [m])], [config.cluster("collector", [1])], 0), ready=False)
    assert px.process.wait(20) == 1 and why in px.log()
