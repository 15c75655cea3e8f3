"""What a peer sends costs in proportion to its length, and leaves nothing behind (E11, E12, E13)."""
import random

import pytest

import config
from evidence import VIA_UPSTREAM, told
from upstream import Reply

stricter = pytest.mark.stricter
pytestmark = pytest.mark.alone


def cost(px, request, times):
    before = px.cpu_seconds()
    for _ in range(times):
        with px.client(timeout=20) as c:
            assert c.send(request).response().status == 200
    return px.cpu_seconds() - before


def test_e11_ten_thousand_header_names(mesh):  # names in one hash bucket, if there were a fixed hash; linear in any case
    mesh.upstream()
    px = mesh.proxy(hcm={"common_http_protocol_options": {"max_headers_count": 20000}, "max_request_headers_kb": 1024})

    def request(n):
        return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%06d-%s: 1\r\n" % (i, b"y" * 40) for i in range(n)) + b"\r\n"
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 20, "http.in.downstream_cx_protocol_error": 0}):
        one, ten = cost(px, request(1000), 10), cost(px, request(10000), 10)
    assert ten < 1.0 and ten < 40 * max(one, 0.03), (one, ten)


@pytest.mark.parametrize("regex", ["/(a+)+$", "/(a|aa)+x", "/(.*)*(.*)*(.*)*x"])
def test_e12_hostile_regex(mesh, regex):  # the engine is linear
    mesh.upstream()
    px = mesh.proxy(routes=[config.route(match={"safe_regex": {"regex": regex}}), config.route("/")], hcm={"max_request_headers_kb": 200})
    request = b"GET /" + b"a" * 100000 + b"! HTTP/1.1\r\nHost: a\r\n\r\n"
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 10}):
        assert cost(px, request, 10) < 1.5


@stricter  # Envoy's bounds are RE2's alone
@pytest.mark.parametrize("regex,why", [("a" * 65537, "regex of 65537 bytes is too long, at most 65536 are allowed"),
                                       ("((((a{100}){100}){100}){100})", "invalid repetition size"),
                                       ("\\pL{1000}" * 100, "pattern too large")], ids=["long", "deep", "large"])
def test_e12_refused_at_load(mesh, regex, why):  # before any request can pay for it; the place is named
    mesh.upstream()
    px = mesh.proxy(routes=[config.route("/"), config.route(match={"safe_regex": {"regex": regex}})], ready=False)
    assert px.process.wait(20) == 1
    assert "routes[1].match.safe_regex" in px.log() and why in px.log()


def test_e13_no_statistic_for_what_a_client_invents(mesh):
    up = mesh.upstream()
    px = mesh.proxy()

    def visit():
        token = f"{random.getrandbits(64):x}"
        assert px.get(f"/{token}?{token}", host=f"{token}.example", headers=[("user-agent", token), ("x-envoy-" + token, token),
                                                                           ("x-envoy-downstream-service-cluster", token)]).status == 200
    visit()
    names, memory = px.stats().keys(), px.memory_kib()
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 300, "http.in.downstream_rq_total": 300}):
        for _ in range(300):
            visit()
    assert px.stats().keys() == names
    assert px.memory_kib() - memory < 512
    assert len(up.requests) == 301


def test_e13_statistics_of_status_codes_are_bounded(mesh):  # an upstream invents codes; one counter for each there can be
    codes = [*range(200, 600, 7), 299, 451, 599]
    up = mesh.upstream(script=[Reply(c) for c in codes])
    px = mesh.proxy()
    for _ in codes:
        px.get("/")
    first = px.stats().keys()
    up.script = [Reply(c) for c in codes * 3]
    with told(px, VIA_UPSTREAM, "-", 299, {"cluster.up.upstream_rq_299": 3, "cluster.up.upstream_rq_completed": 3 * len(codes)}):
        for _ in codes * 3:
            px.get("/")
    assert px.stats().keys() == first
