"""What a client sends to filters costs in proportion to its length and mints nothing (attacks.md E11-E13, C17)."""

import config
import pytest
from chain import own, send, share, start
from evidence import VIA_UPSTREAM, told

pytestmark = pytest.mark.alone
CORS, POLICY = "envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.CorsPolicy"
H2M = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
LIMIT = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
CSRF = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy"


@pytest.mark.parametrize("regex", ["(a+)+$", "(.*)*(.*)*(.*)*x"])
def test_E12_hostile_origins(mesh, regex):
    matcher = [{"safe_regex": {"regex": regex}}]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(CORS, POLICY, allow_origin_string_match=matcher)}]
    _, px = start(mesh, [config.ext(CORS, "envoy.extensions.filters.http.cors.v3.Cors"),
                         config.ext("envoy.filters.http.csrf", CSRF, filter_enabled=share(100), additional_origins=matcher)], routes)
    with told(px, "csrf_origin_mismatch", "-", 403, {"http.in.cors.origin_invalid": 10, "http.in.csrf.request_invalid": 10}):
        began = px.cpu_seconds()
        for _ in range(10):
            assert send(px, "POST", headers=[("origin", "a" * 50000 + "!")], body=b"").status == 403
        assert px.cpu_seconds() - began < 2


def test_E11_ten_thousand_cookies(mesh):
    rule = {"cookie": "last", "on_header_present": {"metadata_namespace": "my", "key": "c"}}
    _, px = start(mesh, [config.ext("envoy.filters.http.header_to_metadata", H2M, stat_prefix="h", request_rules=[rule])],
                  max_request_headers_kb=200)

    def cost(n):
        value = ";".join(f"c{i:05}=x" for i in range(n)) + "; last=1"
        began = px.cpu_seconds()
        for _ in range(20):
            assert send(px, headers=[("cookie", value)]).status == 200
        return px.cpu_seconds() - began
    with told(px, VIA_UPSTREAM, "-", 200, {"http_filter_name.h.request_metadata_added": 40, "cluster.up.upstream_rq_200": 40}):
        one, ten = cost(1000), cost(10000)
    assert ten < 40 * max(one, 0.05), (one, ten)


def test_E13_filters_mint_no_statistics(mesh):
    user = [{"actions": [{"request_headers": {"header_name": "origin", "descriptor_key": "o"}}, {"query_parameters": {
        "query_parameter_name": "q", "descriptor_key": "q"}}]}]
    bucket = {"max_tokens": 1000, "tokens_per_fill": 1, "fill_interval": "10s"}
    _, px = start(mesh, [
        config.ext("envoy.filters.http.csrf", CSRF, filter_enabled=share(100)),
        config.ext("envoy.filters.http.local_ratelimit", LIMIT, stat_prefix="l", token_bucket=bucket, filter_enabled=share(100), filter_enforced=share(100),
                   rate_limits=user, descriptors=[{"entries": [{"key": "o"}, {"key": "q"}], "token_bucket": bucket}])])

    def visit(i):
        return send(px, "POST", f"/{i}?q={i}", [("origin", f"http://o{i}.test")], b"", host=f"o{i}.test").status
    assert visit(0) == 200
    names, memory = px.stats().keys(), px.memory_kib()
    with told(px, VIA_UPSTREAM, "-", 200, {"http.in.csrf.request_valid": 399, "l.http_local_rate_limit.ok": 399}):
        assert {visit(i) for i in range(1, 400)} == {200}
    assert px.stats().keys() == names and px.grown_kib(memory) < 512


def test_C17_limits_see_the_headers_in_force(mesh):
    """A filter in front changes the request: the descriptors are made of what the upstream will get, not of what the client said."""
    mutate = config.ext("envoy.filters.http.header_mutation", "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", mutations={
        "request_mutations": [{"append": {"header": {"key": "x-role", "value": "admin"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]})
    admin = [{"actions": [{"header_value_match": {"descriptor_value": "admin", "headers": [{"name": "x-role", "string_match": {"exact": "admin"}}]}}]}]
    bucket = {"max_tokens": 9, "tokens_per_fill": 1, "fill_interval": "10s"}
    limit = config.ext("envoy.filters.http.local_ratelimit", LIMIT, stat_prefix="l", token_bucket=bucket, filter_enabled=share(100), filter_enforced=share(100),
                       rate_limits=admin, descriptors=[{"entries": [{"key": "header_match", "value": "admin"}], "token_bucket": {**bucket, "max_tokens": 1}}])
    up, px = start(mesh, [mutate, limit])
    limited = ("local_rate_limited", "RL", 429, {"l.http_local_rate_limit.rate_limited": 1, "l.http_local_rate_limit.enforced": 1})
    with told(px, *limited):
        assert [send(px, headers=[("x-role", "guest")]).status for _ in range(2)] == [200, 429]
    assert [q.get("x-role") for q in up.requests] == ["admin"]
    up, px = start(mesh, [limit, mutate])
    assert [send(px, headers=[("x-role", "guest")]).status for _ in range(2)] == [200, 200]
    assert px.stat("l.http_local_rate_limit.rate_limited") == 0
    with told(px, *limited):
        assert send(px, headers=[("x-role", "admin")]).status == 200 and send(px, headers=[("x-role", "guest"), ("x-role", "admin")]).status == 429  # C10
