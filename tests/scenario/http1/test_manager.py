"""Single fields of the connection manager and the router, each seen from outside (rows H4, H5, O2)."""
import threading

import config
import pytest
from upstream import Raw, Reply
from wire import free_port, until

WHO = {"path": "%REQ(:PATH)%", "scheme": "%REQ(:SCHEME)%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
       "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
WHEN = {"type": "%ACCESS_LOG_TYPE%", "code": "%RESPONSE_CODE%", "duration": "%DURATION%", "upstream": "%UPSTREAM_HOST%"}
XFF = "type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"


def start(mesh, fields, script=None, **manager):
    up = mesh.upstream(script=script)
    log = [config.access_log(mesh.folder / "access.log", fields)]
    return up, mesh.proxy(hcm={"access_log": log, **manager})


def xff(**fields):
    return {"original_ip_detection_extensions": [{"name": "xff", "typed_config": {"@type": XFF, **fields}}]}


def test_xff_trusted_cidrs(mesh):
    ranges = [{"address_prefix": "127.0.0.0", "prefix_len": 8}, {"address_prefix": "10.1.0.0", "prefix_len": 16}]
    up, px = start(mesh, WHO, use_remote_address=False, **xff(xff_trusted_cidrs={"cidrs": ranges}, skip_xff_append=False))
    hops = "9.9.9.9, 1.2.3.4, 10.1.2.3,10.1.5.5"
    assert px.get("/a", headers=[("x-forwarded-for", hops)]).status == 200
    entry = px.access_log()[0]
    assert (entry["remote"], entry["direct"]) == ("1.2.3.4", "127.0.0.1")
    sent = up.requests[0].get("x-forwarded-for")
    assert sent.startswith(hops + ",") and not sent.endswith(",127.0.0.1")  # the machine, where it has an address


def test_scheme_of_the_upstream(mesh):
    up, px = start(mesh, WHO, use_remote_address=False, scheme_header_transformation={"match_upstream": True})
    px.get("/a", headers=[("x-forwarded-proto", "https")])
    assert px.access_log()[0]["scheme"] == "http"
    assert up.requests[0].get("x-forwarded-proto") == "https"


OPTIONS = {"access_log_flush_interval": "0.1s", "flush_access_log_on_new_request": True}


@pytest.mark.parametrize("fields", ({"access_log_options": OPTIONS}, OPTIONS), ids=("options", "older-fields"))
def test_log_while_it_lasts(mesh, fields):
    go_on = threading.Event()
    up, px = start(mesh, WHEN, script=[Reply().held(go_on)], **fields)
    with px.client() as c:
        c.send(b"GET /l HTTP/1.1\r\nhost: a\r\n\r\n")
        px.access_log(3)
        go_on.set()
        assert c.response().status == 200
    until(lambda: px.access_log()[-1]["type"] == "DownstreamEnd", what="the last entry")
    got = px.access_log()
    kinds = [e["type"] for e in got]
    assert kinds == ["DownstreamStart"] + ["DownstreamPeriodic"] * (len(kinds) - 2) + ["DownstreamEnd"] and len(kinds) >= 4
    assert [e["code"] for e in got] == [0] * (len(kinds) - 1) + [200]
    assert got[0]["upstream"] is None and got[1]["upstream"] == f"127.0.0.1:{up.port}"
    assert 90 <= got[1]["duration"] < got[2]["duration"] <= got[-1]["duration"]


def test_log_of_a_tunnel(mesh):
    accept = Raw(b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    _, px = start(mesh, WHEN, script=[accept, Reply(403)], upgrade_configs=[{"upgrade_type": "websocket"}],
                  access_log_options={"flush_log_on_tunnel_successfully_established": True})
    for status in (101, 403):
        with px.client() as c:
            c.send(b"GET /l HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            assert c.response().status == status
    until(lambda: px.access_log()[-1]["code"] == 403, what="the last entry")
    assert [(e["type"], e["code"]) for e in px.access_log()] == \
        [("DownstreamTunnelSuccessfullyEstablished", 101), ("DownstreamEnd", 101), ("DownstreamEnd", 403)]


TWICE = "Only one of {} or access_log_options can be specified."


@pytest.mark.parametrize("fields,why", (
    ({"access_log_options": {}, "access_log_flush_interval": "1s"}, TWICE.format("access_log_flush_interval")),
    ({"access_log_options": {}, "flush_access_log_on_new_request": True}, TWICE.format("flush_access_log_on_new_request")),
    (xff(xff_num_trusted_hops=1, xff_trusted_cidrs={"cidrs": []}), "xff_num_trusted_hops and xff_trusted_cidrs"),
), ids=("interval", "on-new", "xff"))
def test_refused(mesh, fields, why):
    px = mesh.proxy(routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}], hcm=fields, ready=False)
    assert px.process.wait(10) != 0
    assert why in px.log()


def test_without_dynamic_stats(mesh):
    up = mesh.upstream()
    router = config.ext("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", dynamic_stats=False)
    manager = config.hcm([config.route("/", up.name)])
    manager["typed_config"]["http_filters"] = [router]
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port])], free_port()))
    assert px.get("/").status == 200
    got = px.stats("^cluster.up.*upstream_rq_|http.in.downstream_rq_2xx")
    assert got.get("cluster.up.upstream_rq_total") == 1 and got["http.in.downstream_rq_2xx"] == 1
    assert not [n for n, v in got.items() if v and ("_2" in n or "completed" in n) and n.startswith("cluster.")]


@pytest.mark.parametrize("policy,made", (("ROUND_ROBIN", False), ("RING_HASH", True)))
def test_cookie_of_a_hash(mesh, policy, made):  # U2: only a balancer that hashes makes one
    mesh.upstream()
    hashed = {"hash_policy": [{"cookie": {"name": "sess", "ttl": "60s"}}]}
    px = mesh.proxy(routes=[config.route("/", "up", **hashed)], cluster={"lb_policy": policy})
    with px.client() as c:
        seen = [c.get("/").get("set-cookie") for _ in range(2)]
    assert seen[0] == seen[1] and (seen[0] is not None) == made
    assert not made or (seen[0].startswith('sess="') and seen[0].endswith("; Max-Age=60; HttpOnly"))
