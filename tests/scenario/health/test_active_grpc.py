"""Active checks by gRPC (U6): SERVING passes, everything else fails, and why is told."""
import re
import threading

import pytest

import config
from h2_upstream import H2Upstream, answer
from wire import free_port, until

H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
GRPC = [("content-type", "application/grpc")]
OK = [("grpc-status", "0")]
SERVING, NOT_SERVING = b"\0\0\0\0\2\x08\1", b"\0\0\0\0\2\x08\2"


def proxy(mesh, up, timeout="3s", **fields):
    check = {"timeout": timeout, "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 1, "healthy_threshold": 1,
             "event_log_path": str(mesh.folder / "events.log"), "grpc_health_check": {"service_name": "svc", **fields}}
    cluster = config.cluster("up", [up.port], http=H2, health_checks=[check])
    manager = config.hcm([config.route("/", "up")])
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [cluster], free_port()))


def flags(px):
    return re.search(r"^up::[\d.:]+::health_flags::(.*)$", px.admin("/clusters")[1], re.M)[1]


def hc(px, name):
    return px.stat(f"cluster.up.health_check.{name}")


def serving(body=SERVING, trailers=OK):
    return answer(200, body, GRPC, trailers)


def test_what_is_asked(mesh):
    up = H2Upstream(script=[serving()])
    px = proxy(mesh, up, authority="health", initial_metadata=[{"header": {"key": "x-who", "value": "me"}}])
    until(lambda: hc(px, "success") >= 4, 5, "checks")
    assert flags(px) == "healthy" and up.connections == 1
    r = up.requests[0]
    assert [r[n] for n in (":method", ":path", ":authority", ":scheme", "content-type", "te", "user-agent", "grpc-timeout", "x-who")] == \
        ["POST", "/grpc.health.v1.Health/Check", "health", "http", "application/grpc", "trailers", "Envoy/HC", "3000m", "me"]
    assert r.body == b"\0\0\0\0\5\x0a\3svc" and r["content-length"] is None
    up.close()


BAD = {
    "NOT_SERVING": (serving(NOT_SERVING), "NOT_SERVING"),
    "UNKNOWN": (serving(b"\0\0\0\0\0"), "UNKNOWN"),
    "grpc-status": (answer(200, b"", [*GRPC, ("grpc-status", "12")]), "grpc-status 12"),
    "status in trailers": (serving(trailers=[("grpc-status", "14")]), "grpc-status 14"),
    "HTTP 503": (answer(503, b"busy"), "HTTP status 503"),
    "HTTP 503 without end": (lambda conn, stream, request: conn.headers(stream, [(":status", "503")]), "HTTP status 503"),
    "no gRPC": (answer(200, SERVING, [("content-type", "text/html")], OK), None),
    "no trailers": (answer(200, SERVING, GRPC), "not valid"),
    "compressed": (serving(b"\1" + SERVING[1:]), "not valid"),
    "two messages": (serving(SERVING + SERVING), "not valid"),
    "long": (serving(b"\0\0\1\0\0" + b"x" * 65536), "not valid"),
    "reset": (lambda conn, stream, request: conn.rst(stream), "ended before the answer"),
    "garbage": (lambda conn, stream, request: conn.frame(0, 0, 77, b"x"), None),
}


@pytest.mark.parametrize("name", BAD)
def test_failures(mesh, is_envoy, name):
    step, why = BAD[name]
    up = H2Upstream(script=[serving()])
    px = proxy(mesh, up)
    until(lambda: flags(px) == "healthy", 5, "the first check")
    up.script = [step]
    until(lambda: flags(px) == "/failed_active_hc", 5, f"a failure by {name}")
    if why and not is_envoy:
        assert why in px.admin("/clusters?format=json")[1]
    log = mesh.folder / "events.log"
    until(lambda: '"eject_unhealthy_event"' in log.read_text(), 5, "the event")
    assert re.findall('"eject_unhealthy_event":{"failure_type":"[A-Z_]+","http_status_code":([0-9]+)}', log.read_text()) == ["0"]  # it is no HTTP check
    up.script = [serving()]
    until(lambda: flags(px) == "healthy", 5, "its return")
    up.close()


def test_hang(mesh):
    up, hold = H2Upstream(script=[serving()]), threading.Event()
    px = proxy(mesh, up, timeout="0.2s")
    until(lambda: flags(px) == "healthy", 5, "the first check")
    up.script = [answer(200, SERVING, GRPC, OK, hold)]
    until(lambda: flags(px).startswith("/failed_active_hc"), 5, "a timeout")
    hold.set()
    up.script = [serving()]
    until(lambda: flags(px) == "healthy", 5, "its return")
    up.close()


def test_needs_http2(mesh):
    up = H2Upstream()
    boot = config.bootstrap([], [config.cluster("up", [up.port], health_checks=[
        {"timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1, "grpc_health_check": {}}])], free_port())
    px = mesh.proxy(boot=boot, ready=False)
    assert px.process.wait(10) == 1
    assert "up cluster must support HTTP/2 for gRPC healthchecking" in px.log()
    mesh.proxies.remove(px)
    up.close()
