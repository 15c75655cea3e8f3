"""Active checks by HTTP/2 (U6): one connection for many checks, resets, and a host that goes away."""
import re

import config
from h2_upstream import H2Upstream, answer
from wire import free_port, until

QUICK = {"timeout": "0.3s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 1, "healthy_threshold": 1,
         "http_health_check": {"path": "/hc", "codec_client_type": "HTTP2", "receive": [{"text": b"ok".hex()}]}}


def proxy(mesh, up):
    cluster = config.cluster("up", [up.port], health_checks=[QUICK])
    manager = config.hcm([config.route("/", "up")])
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [cluster], free_port()))


def flags(px):
    return re.search(r"^up::[\d.:]+::health_flags::(.*)$", px.admin("/clusters")[1], re.M)[1]


def hc(px, name):
    return px.stat(f"cluster.up.health_check.{name}")


def test_http2(mesh):
    up = H2Upstream()
    px = proxy(mesh, up)
    until(lambda: hc(px, "success") >= 4, 5, "checks")
    assert flags(px) == "healthy" and up.connections == 1
    r = up.requests[0]
    assert (r[":method"], r[":path"], r[":authority"], r[":scheme"], r["user-agent"]) == ("GET", "/hc", "up", "http", "Envoy/HC")
    for step, want in ((answer(503), "status"), (lambda conn, stream, request: conn.rst(stream), "reset")):
        up.script = [step]
        until(lambda: flags(px) == "/failed_active_hc", 5, f"a failure by {want}")
        up.script = [answer()]
        until(lambda: flags(px) == "healthy", 5, "its return")
    up.close()


def test_goaway_is_no_failure(mesh):
    """A host that says that it goes away answers what it has; the next check takes another connection."""
    up = H2Upstream()
    px = proxy(mesh, up)

    def leaving(conn, stream, request):
        conn.goaway(stream)
        conn.reply(stream, 200, b"ok")
    up.script = [leaving]
    until(lambda: up.connections >= 4, 5, "further connections")
    assert flags(px) == "healthy" and hc(px, "failure") == 0
    up.close()
