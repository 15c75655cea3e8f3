"""What a peer sends costs in proportion to its length, and leaves nothing behind (E11, E12, E13)."""
import random
import time

import pytest

import config
from evidence import VIA_UPSTREAM, told
from upstream import Reply


def cpu_seconds(px):
    fields = open(f"/proc/{px.process.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def cost(px, request, times):
    before = cpu_seconds(px)
    for _ in range(times):
        with px.client(timeout=20) as c:
            assert c.send(request).response().status == 200
    return cpu_seconds(px) - before


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
    px = mesh.proxy(routes=[config.route(match={"safe_regex": {"regex": regex}}), config.route("/")])
    request = b"GET /" + b"a" * 50000 + b"! HTTP/1.1\r\nHost: a\r\n\r\n"
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 10}):
        assert cost(px, request, 10) < 1.5


def test_e13_no_statistic_for_what_a_client_invents(mesh):
    up = mesh.upstream()
    px = mesh.proxy()

    def visit():
        token = f"{random.getrandbits(64):x}"
        assert px.get(f"/{token}?{token}", host=f"{token}.example", headers=[("user-agent", token), ("x-envoy-" + token, token),
                                                                           ("x-envoy-downstream-service-cluster", token)]).status == 200
    visit()
    names, memory = len(px.admin("/stats")[1].splitlines()), px.memory_kib()
    for _ in range(300):
        visit()
    assert len(px.admin("/stats")[1].splitlines()) == names
    assert px.memory_kib() - memory < 512
    assert len(up.requests) == 301


def test_e13_statistics_of_status_codes_are_bounded(mesh):  # an upstream invents codes; one counter for each there can be
    codes = [*range(200, 600, 7), 299, 451, 599]
    up = mesh.upstream(script=[Reply(c) for c in codes])
    px = mesh.proxy()
    for _ in codes:
        px.get("/")
    first = len(px.admin("/stats")[1].splitlines())
    up.script = [Reply(c) for c in codes * 3]
    began = time.monotonic()
    for _ in codes * 3:
        px.get("/")
    assert time.monotonic() - began < 20
    assert len(px.admin("/stats")[1].splitlines()) == first
