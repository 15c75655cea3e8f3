"""Sampling and operations without a tracer (H4): the request id's digit, the log, the header for the other proxy."""
import pytest

import config
from wire import free_port

ID = "12345678-aaaa-4bbb-8ccc-123456789abc"  # its dice are 0x12345678 % 10000 = 9896
OPERATION = "x-envoy-decorator-operation"


@pytest.fixture
def start(mesh):
    """start(tracing, route fields, direction) -> (proxy, upstream); the log has a line for each request whose tracing was forced."""
    def run(tracing, route=None, direction="INBOUND"):
        up = mesh.upstream()
        log = config.access_log(mesh.folder / "access.log", {"id": "%STREAM_ID%"}) | {"filter": {"traceable_filter": {}}}
        manager = config.hcm([config.route("/", "up") | (route or {})], log, internal_address_config={"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
                             **({"tracing": tracing} if tracing is not None else {}))
        boot = config.bootstrap([config.listener(free_port(), [manager], traffic_direction=direction)], [config.cluster("up", [up.port])], free_port())
        return mesh.proxy(boot=boot), up
    return run


def ask(px, up, **headers):
    """The request id that the upstream saw for a request with these headers."""
    with px.client() as c:
        assert c.get("/", headers=[(k.replace("_", "-"), v) for k, v in headers.items()]).status == 200
    return up.requests[-1].get("x-request-id")


PERCENT = {"value": 0}
CASES = {  # tracing -> headers -> digit, statistic
    "sampled": ({}, {}, "9", "random_sampling"),
    "known-id": ({}, {"x_request_id": ID}, "9", "random_sampling"),
    "not-sampled": ({"random_sampling": PERCENT}, {}, "4", "not_traceable"),
    "by-the-id": ({"random_sampling": {"value": 98.96}}, {"x_request_id": ID}, "4", "not_traceable"),
    "by-the-id-more": ({"random_sampling": {"value": 98.97}}, {"x_request_id": ID}, "9", "random_sampling"),
    "forced": ({"random_sampling": PERCENT}, {"x_envoy_force_trace": "yes", "x_forwarded_for": "10.0.0.1"}, "a", "service_forced"),
    "by-client": ({"random_sampling": PERCENT}, {"x_client_trace_id": "7"}, "b", "client_enabled"),
    "client-may-not": ({"random_sampling": PERCENT, "client_sampling": PERCENT}, {"x_client_trace_id": "7"}, "4", "not_traceable"),
    "forced-from-outside": ({"random_sampling": PERCENT}, {"x_envoy_force_trace": "yes"}, "4", "not_traceable"),
    "overall": ({"overall_sampling": PERCENT}, {"x_client_trace_id": "7"}, "4", "not_traceable"),
    "decided-before": ({"random_sampling": PERCENT}, {"x_request_id": ID[:14] + "a" + ID[15:]}, "a", "service_forced"),
    "strange-id": ({}, {"x_request_id": "strange"}, None, "not_traceable"),
}


@pytest.mark.parametrize("tracing, headers, digit, stat", CASES.values(), ids=CASES)
def test_sampling(start, tracing, headers, digit, stat):
    px, up = start(tracing)
    seen = ask(px, up, **headers)
    if digit:
        assert seen[14] == digit and len(seen) == 36
    else:
        assert seen == "strange"
    px.wait_stat(f"http.in.tracing.{stat}", 1)
    if stat == "service_forced":
        assert px.access_log(1)[0]["id"] == seen
    else:
        px.stop()
        assert px.access_log(0) == []


def test_route_says_how_many(start):
    px, up = start({}, {"tracing": {"random_sampling": {"numerator": 0}}})
    assert ask(px, up)[14] == "4"


def test_without_tracing_nothing_changes(start):
    px, up = start(None, {"decorator": {"operation": "mine"}})
    with px.client() as c:
        r = c.get("/", headers=[(OPERATION, "theirs")])
    assert r.get(OPERATION) is None and up.requests[-1].get(OPERATION) == "theirs" and up.requests[-1].get("x-request-id")[14] == "4"
    assert px.stat("http.in.tracing.random_sampling") == 0


@pytest.mark.parametrize("direction, decorator, sent, upstream, client", [
    ("INBOUND", {"operation": "mine"}, None, None, "mine"),
    ("INBOUND", {"operation": "mine"}, "theirs", None, None),
    ("INBOUND", {"operation": "mine", "propagate": False}, None, None, None),
    ("OUTBOUND", {"operation": "mine"}, None, "mine", None),
    ("OUTBOUND", {"operation": "mine"}, "theirs", "mine", None),
    ("OUTBOUND", {"operation": "mine", "propagate": False}, "theirs", "theirs", None),
    ("UNSPECIFIED", {"operation": "mine"}, None, None, "mine"),
], ids=["ingress", "ingress-named-before", "ingress-quiet", "egress", "egress-named-before", "egress-quiet", "no-direction"])
def test_operation(start, direction, decorator, sent, upstream, client):
    px, up = start({}, {"decorator": decorator}, direction)
    with px.client() as c:
        r = c.get("/", headers=[(OPERATION, sent)] if sent else [])
    assert (up.requests[-1].get(OPERATION), r.get(OPERATION)) == (upstream, client)
