"""The local_ratelimit filter (row H9); figures are those of Envoy 1.40."""
import threading

import config
import pytest
from chain import off, own, send, share, start, story

NAME = "envoy.filters.http.local_ratelimit"
TYPE = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
GENERIC = [{"actions": [{"generic_key": {"descriptor_value": "a"}}]}]


def bucket(n, interval="10s", **more):
    return {"max_tokens": n, "tokens_per_fill": 1, "fill_interval": interval, **more}


def descriptor(n, *entries, interval="10s"):
    return {"entries": [dict(zip(("key", "value"), e)) for e in entries], "token_bucket": bucket(n, interval)}


def limits(**fields):
    return {"stat_prefix": "lim", "filter_enabled": share(100), "filter_enforced": share(100), "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            **fields}


def lim(**fields):
    return config.ext(NAME, TYPE, **limits(**fields))


def rated(r):
    return r.status, *(int(r.get("x-ratelimit-" + k)) for k in ("limit", "remaining", "reset"))


def many(px, n, **kw):
    return [rated(send(px, **kw)) for _ in range(n)]


def counted(px):
    return {k.rpartition(".")[2]: v for k, v in px.stats(r"^lim\.http_local_rate_limit\.").items()}


def test_default_bucket(mesh):
    up, px = start(mesh, [lim(token_bucket=bucket(3), response_headers_to_add=[{"header": {"key": "x-who", "value": "%REQ(:PATH)% %RESPONSE_CODE%"}}])])
    assert many(px, 4, path="/d") == [(200, 3, 2, 0), (200, 3, 1, 0), (200, 3, 0, 10), (429, 3, 0, 10)]
    r = send(px, path="/d")
    assert (r.status, r.body, r.get("x-who")) == (429, b"local_rate_limited", "/d 0")  # the status comes later (Envoy)
    e = px.wait_log(lambda e: e["code"] == 429)
    assert (e["flags"], e["details"], e["host"]) == ("RL", "local_rate_limited", None)
    assert counted(px) == {"enabled": 5, "ok": 3, "rate_limited": 2, "enforced": 2, "shadow_mode": 0}
    assert len(up.requests) == 3


def test_refills_by_time(mesh):
    from wire import until
    _, px = start(mesh, [lim(token_bucket=bucket(1, "0.3s"))])
    assert send(px).status == 200 and send(px).status == 429
    until(lambda: send(px).status == 200, what="a token")


def test_status_and_grpc(mesh):
    _, px = start(mesh, [lim(token_bucket=bucket(1), status={"code": "ServiceUnavailable"}, rate_limited_as_resource_exhausted=True)])
    assert send(px).status == 200 and send(px).status == 503
    r = send(px, "POST", headers=[("content-type", "application/grpc")], body=b"")
    assert (r.status, r.get("grpc-status"), r.get("grpc-message")) == (200, "8", "local_rate_limited")


def test_not_enforced_and_runtime(mesh):
    up, px = start(mesh, [lim(token_bucket=bucket(1), filter_enabled=share(100, "l.on"), filter_enforced=share(0, "l.hard"),
                              request_headers_to_add_when_not_enforced=[{"header": {"key": "x-would", "value": "be"}}])], runtime={})
    assert [send(px).status for _ in range(2)] == [200, 200]
    assert [q.get("x-would") for q in up.requests] == [None, "be"]
    assert counted(px) == {"enabled": 2, "ok": 1, "rate_limited": 1, "enforced": 0, "shadow_mode": 0}
    assert px.admin("/runtime_modify?l.hard=100", "POST")[0] == 200 and send(px).status == 429
    assert px.admin("/runtime_modify?l.on=0", "POST")[0] == 200
    r = send(px)
    assert r.status == 200 and r.get("x-ratelimit-limit") is None and counted(px)["enabled"] == 3


def test_descriptors_of_routes(mesh):
    header = [{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}]
    routes = [config.route("/r", rate_limits=header), config.route("/both", rate_limits=header, include_vh_rate_limits=True), config.route("/v")]
    _, px = start(mesh, [lim(token_bucket=bucket(100), descriptors=[descriptor(2, ("user", "bob")), descriptor(3, ("generic_key", "a"))])], routes,
                  vhost={"rate_limits": GENERIC})
    assert [x[:3] for x in many(px, 3, path="/r", headers=[("x-user", "bob")])] == [(200, 2, 1), (200, 2, 0), (429, 2, 0)]
    assert send(px, path="/r", headers=[("x-user", "eve")]).get("x-ratelimit-limit") == "100"
    assert many(px, 1, path="/v")[0][:3] == (200, 3, 2)  # the route has none: those of the virtual host
    assert many(px, 1, path="/both")[0][:3] == (200, 3, 1)


def test_vh_rate_limits_ignored(mesh):
    _, px = start(mesh, [lim(token_bucket=bucket(9), descriptors=[descriptor(3, ("generic_key", "a"))], vh_rate_limits="IGNORE")], vhost={"rate_limits": GENERIC})
    assert many(px, 1)[0][1] == 9


def test_own_rate_limits_and_hits(mesh):
    _, px = start(mesh, [lim(token_bucket=bucket(50), descriptors=[descriptor(7, ("generic_key", "a"))],
                             rate_limits=[{**GENERIC[0], "hits_addend": {"format": "%REQ(x-n)%"}}])])
    assert [x[:3] for x in many(px, 4, headers=[("x-n", "2.9")])] == [(200, 7, 5), (200, 7, 3), (200, 7, 1), (429, 7, 1)]
    assert many(px, 1, headers=[("x-n", "junk")])[0][1] == 50
    assert many(px, 1, headers=[("x-n", "0")])[0][0] == 429


def test_default_bucket_beside_descriptors(mesh):
    desc = [descriptor(3, ("generic_key", "a"))]
    _, px = start(mesh, [lim(token_bucket=bucket(2), descriptors=desc, rate_limits=GENERIC)])
    assert [x[:2] for x in many(px, 4)] == [(200, 3), (200, 3), (429, 2), (429, 3)]
    _, px = start(mesh, [lim(token_bucket=bucket(2), descriptors=desc, rate_limits=GENERIC, always_consume_default_token_bucket=False)])
    assert [x[:2] for x in many(px, 4)] == [(200, 3)] * 3 + [(429, 3)]


def test_slowest_descriptor_first(mesh):
    two = [{"actions": [{"generic_key": {"descriptor_value": "fast"}}]}, {"actions": [{"generic_key": {"descriptor_value": "slow"}}]}]
    _, px = start(mesh, [lim(token_bucket=bucket(50), rate_limits=two, descriptors=[
        descriptor(9, ("generic_key", "fast"), interval="5s"), descriptor(1, ("generic_key", "slow"), interval="60s")])])
    assert [x[1] for x in many(px, 2)] == [1, 1]


def test_E13_dynamic_descriptors_are_bounded(mesh):
    user = [{"actions": [{"request_headers": {"header_name": "h", "descriptor_key": "k"}}]}]
    _, px = start(mesh, [lim(token_bucket=bucket(90), max_dynamic_descriptors=2, descriptors=[descriptor(2, ("k", ""))], rate_limits=user)])
    got = [rated(send(px, headers=[("h", h)]))[:3] for h in "aaabcabbbaa"]
    assert got == [(200, 2, 1), (200, 2, 0), (429, 2, 0), (200, 2, 1), (200, 2, 1), (200, 2, 1), (200, 2, 1), (200, 2, 0), (429, 2, 0),
                   (200, 2, 0), (429, 2, 0)]
    assert rated(send(px))[1] == 90
    before = px.stats()
    for i in range(300):
        send(px, headers=[("h", f"v{i}")])
    assert px.stats().keys() == before.keys()  # no name is minted


def test_per_connection(mesh):
    _, px = start(mesh, [lim(token_bucket=bucket(2), local_rate_limit_per_downstream_connection=True)])
    for _ in range(2):
        with px.client() as c:
            assert [rated(c.get())[:3] for _ in range(3)] == [(200, 2, 1), (200, 2, 0), (429, 2, 0)]


def test_routes_have_limits_of_their_own(mesh):
    routes = [{"match": {"prefix": "/own"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, TYPE, **limits(token_bucket=bucket(1)))},
              {"match": {"prefix": "/off"}, "route": {"cluster": "up"}, "typed_per_filter_config": off(NAME)}, config.route("/")]
    _, px = start(mesh, [config.ext(NAME, TYPE, stat_prefix="none")], routes)
    assert [send(px, path=p).status for p in ("/own", "/own", "/off", "/off", "/", "/")] == [200, 429, 200, 200, 200, 200]
    assert px.stat("none.http_local_rate_limit.enabled") == 0


def test_workers_share_a_bucket(mesh):
    up = mesh.upstream()
    m = config.hcm([config.route("/")], filters=[lim(token_bucket=bucket(40, "600s"))])
    from wire import free_port
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [m])], [config.cluster("up", [up.port])], free_port()), concurrency=2)
    got = []

    def run():
        with px.client() as c:
            got.extend(c.get().status for _ in range(20))
    threads = [threading.Thread(target=run) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 120 and got.count(200) == 40


@pytest.mark.stricter
def test_story_names_bucket_and_descriptor(mesh):
    user = [{"actions": [{"request_headers": {"header_name": "h", "descriptor_key": "k"}}]}]
    _, px = start(mesh, [lim(token_bucket=bucket(2), descriptors=[descriptor(9, ("other", "x")), descriptor(1, ("k", ""))], rate_limits=user)])
    for path in ("/ok", "/told"):
        send(px, path=path, headers=[("h", "v")])
    for path in ("/fine", "/default"):
        send(px, path=path)
    px.wait_log(lambda e: e["path"] == "/default")
    assert "descriptors[1] k=*" in story(px, "/told")
    assert "the default token bucket of lim" in story(px, "/default")


@pytest.mark.stricter
def test_per_connection_of_each_configuration(mesh):
    each = {"local_rate_limit_per_downstream_connection": True}
    routes = [{"match": {"prefix": "/one"}, "route": {"cluster": "up"}, "typed_per_filter_config": own(NAME, TYPE, **limits(token_bucket=bucket(1), **each))},
              config.route("/")]
    _, px = start(mesh, [lim(token_bucket=bucket(2), **each)], routes)
    with px.client() as c:
        assert [rated(c.get(p))[:2] for p in ("/", "/one", "/one", "/", "/")] == [(200, 2), (200, 1), (429, 1), (200, 2), (429, 2)]
