"""What is gRPC's own in a proxy, asked for over HTTP/1: deadlines, success by grpc-status (rows H5, H8, U7)."""
import re
import threading

import pytest

import config
from upstream import Reply
from wire import until

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.fixture
def slow(mesh):
    hold = threading.Event()
    mesh.upstream(script=[Reply().held(hold)])
    yield mesh
    hold.set()


# path, grpc-timeout of the caller, what the upstream is told; one of the two ends the stream
LIMITS = [
    ("/longer", "200m", "200m"),       # within grpc_timeout_header_max
    ("/capped", "5S", "150m"),         # above it
    ("/offset", "1S", "200m"),         # less the offset
    ("/uncapped", "100m", "100m"),     # 0: no limit
    ("/no-header-max", "5S", "250m"),  # max_stream_duration limits, and is told
    ("/longer", "50000u", "50m"),
]


def test_grpc_timeout_within_the_limits_of_the_route(slow):
    def limited(path, **d):
        return config.route(path, max_stream_duration=d)
    px = slow.proxy(routes=[limited("/longer", grpc_timeout_header_max="2s"),
                            limited("/capped", grpc_timeout_header_max="0.15s", max_stream_duration="10s"),
                            limited("/offset", grpc_timeout_header_max="2s", grpc_timeout_header_offset="0.8s"),
                            limited("/uncapped", grpc_timeout_header_max="0s"),
                            limited("/no-header-max", max_stream_duration="0.25s", grpc_timeout_header_offset="0.2s")])
    up = slow.upstreams[0]
    for n, (path, asked, told) in enumerate(LIMITS):
        r = px.get(path, headers=[*GRPC, ("grpc-timeout", asked)])
        assert r.status == 200 and dict(r.headers)["grpc-status"] == "4", path
        assert px.wait_log(lambda e: e["path"] == path, since=n)["details"] == "max_duration_timeout"
        assert dict(until(lambda: up.requests[n:], 5)[0].headers)["grpc-timeout"] == told, path
    assert px.stat("http.in.downstream_rq_max_duration_reached") == len(LIMITS)


def test_too_short_for_its_offset_ends_at_once(slow):
    px = slow.proxy(routes=[config.route("/", max_stream_duration={"grpc_timeout_header_max": "2s", "grpc_timeout_header_offset": "1s"})])
    r = px.get("/", headers=[*GRPC, ("grpc-timeout", "500m")])
    assert dict(r.headers)["grpc-status"] == "4"


def test_max_stream_duration_of_a_cluster(slow):
    px = slow.proxy(cluster={"http": {"common_http_protocol_options": {"max_stream_duration": "0.1s"},
                                      "explicit_http_config": {"http_protocol_options": {}}}})
    r = px.get("/")
    assert (r.status, r.body) == (504, b"upstream max stream duration reached")
    e = px.access_log()[0]
    assert e["flags"] == "UMSDR" and e["details"] == "upstream_max_stream_duration_reached"
    assert px.stat("cluster.up.upstream_rq_max_duration_reached") == 1


def host_numbers(px):
    text = px.admin("/clusters")[1]
    return tuple(int(re.search(rf"::rq_{k}::(\d+)", text)[1]) for k in ("success", "error"))


# grpc-status of an answer without body: success of its host?
STATUSES = [("0", True), ("5", True), ("16", True), ("1", True), ("4", False), ("13", False), ("14", False), ("2", False), (None, False)]


def test_success_of_a_host_is_by_grpc_status(mesh):
    up = mesh.upstream()
    px = mesh.proxy()
    success = error = 0
    for status, good in STATUSES:
        up.script = [Reply(200, b"", headers=[("content-type", "application/grpc"), *([("grpc-status", status)] if status else [])])]
        assert px.get("/", headers=GRPC).status == 200
        success, error = success + good, error + (not good)
        assert host_numbers(px) == (success, error), status
    up.script = [Reply(200, b"", headers=[("grpc-status", "14")])]
    px.get("/")  # not gRPC: the status of HTTP counts
    assert host_numbers(px) == (success + 1, error)


def test_codes_of_grpc_requests_may_stay_uncounted(mesh):
    mesh.upstream()
    router = config.ext("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", suppress_grpc_request_failure_code_stats=True)
    px = mesh.proxy(hcm={"http_filters": [router]})
    px.get("/", headers=GRPC)
    assert px.stat("cluster.up.upstream_rq_completed") == 1 and px.stat("cluster.up.upstream_rq_200") == 0
    px.get("/")
    assert px.stat("cluster.up.upstream_rq_completed") == 2 and px.stat("cluster.up.upstream_rq_200") == 1


@pytest.mark.parametrize("word,status", [("cancelled", 1), ("deadline-exceeded", 4), ("resource-exhausted", 8), ("internal", 13), ("unavailable", 14)])
def test_retry_on_the_grpc_status_of_headers(mesh, word, status):
    bad = Reply(200, b"", headers=[("content-type", "application/grpc"), ("grpc-status", str(status))])
    up = mesh.upstream(script=[bad, Reply(200, b"", headers=[("content-type", "application/grpc"), ("grpc-status", "0")])])
    px = mesh.proxy(routes=[config.route("/", retry_policy={"retry_on": word, "num_retries": 1})])
    r = px.get("/", headers=GRPC)
    assert dict(r.headers)["grpc-status"] == "0" and len(up.requests) == 2
    assert px.stat("cluster.up.upstream_rq_retry_success") == 1
    assert host_numbers(px) == (1, 1)
