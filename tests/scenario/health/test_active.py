"""Active health checks (U6): what is asked, what makes a host unhealthy, what follows from it."""
import json
import re
import socket
import threading

import pytest

import config
from dynamic import Files, assignment
from upstream import Close, Endless, Raw, Reply, Reset
from wire import HOST, free_port, until

QUICK = {"timeout": "0.3s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 1, "healthy_threshold": 1}
HTTP = {"http_health_check": {"path": "/hc"}}


class Split:
    """An upstream of one path for checks and the rest for traffic: `checks` is its script for the former."""

    def __init__(self, mesh, name, checks=None):
        self.up = mesh.upstream(name)
        self.checks = checks or [Reply()]
        self.seen, self.traffic = [], []
        self.port, self.name, self.hold = self.up.port, name, None
        self.up.script = [self]
        self.early = False

    def act(self, stream, request):
        if request.target.startswith("/hc"):
            self.seen.append(request)
            return self.checks[0].act(stream, request)
        self.traffic.append(request)
        return Reply().act(stream, request)


def proxy(mesh, ups, check, boot=None, filters=(), **cluster):
    manager = config.hcm([config.route("/", "up")], log=config.access_log(mesh.folder / "access.log"), filters=filters)
    ports = [u if isinstance(u, int) else u.port for u in ups]
    return mesh.proxy(boot=config.bootstrap(
        [config.listener(free_port(), [manager])],
        [config.cluster("up", ports, health_checks=[{**QUICK, **check}], **cluster)], free_port(), **(boot or {})))


def flags(px, port):
    return re.search(rf"^up::127.0.0.1:{port}::health_flags::(.*)$", px.admin("/clusters")[1], re.M)[1]


def wait_flags(px, port, want, timeout=5):
    until(lambda: flags(px, port) == want, timeout, f"flags {want}, are {flags(px, port)}")


def hc(px, name):
    return px.stat(f"cluster.up.health_check.{name}")


def test_ready_after_the_first_check_of_each_host(mesh):
    """No request is lost at the start: the proxy is ready when the first checks have ended."""
    a, b = Split(mesh, "a"), Split(mesh, "b", [Reply(503)])
    px = proxy(mesh, [a, b], HTTP)
    assert px.stat("cluster.up.membership_healthy") == 1 and px.stat("cluster.up.membership_total") == 2
    assert {px.get("/").status for _ in range(6)} == {200}
    assert not b.traffic and flags(px, b.port) == "/failed_active_hc" and flags(px, a.port) == "healthy"


def test_down_and_up_again(mesh):
    a, b = Split(mesh, "a"), Split(mesh, "b")
    px = proxy(mesh, [a, b], HTTP)
    b.checks = [Reply(500)]
    wait_flags(px, b.port, "/failed_active_hc")
    until(lambda: px.stat("cluster.up.membership_healthy") == 1, 5, "one host less")
    b.checks = [Reply()]
    wait_flags(px, b.port, "healthy")
    assert hc(px, "failure") >= 1 and hc(px, "success") >= 3 and hc(px, "healthy") == 2
    assert hc(px, "attempt") >= hc(px, "failure") + hc(px, "success") - 1


def test_thresholds(mesh):
    """Network failures need their number in a row; a bad status counts at once, unless it is retriable."""
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {**HTTP, "unhealthy_threshold": 3, "healthy_threshold": 2})
    a.checks = [Close()]
    wait_flags(px, a.port, "/failed_active_hc")
    assert hc(px, "network_failure") >= 3
    n = hc(px, "success")
    a.checks = [Reply()]
    wait_flags(px, a.port, "healthy")
    assert hc(px, "success") >= n + 2


def test_retriable_statuses(mesh):
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {"unhealthy_threshold": 3, "http_health_check": {
        "path": "/hc", "retriable_statuses": [{"start": 500, "end": 501}], "expected_statuses": [{"start": 200, "end": 201}, {"start": 204, "end": 206}]}})
    a.checks = [Reply(204)]
    until(lambda: hc(px, "success") > 3, 5, "checks that pass")
    before = hc(px, "failure")
    a.checks = [Reply(500)]
    wait_flags(px, a.port, "/failed_active_hc")
    assert hc(px, "failure") - before >= 3 and hc(px, "network_failure") == 0


def test_timeout(mesh):
    gate = threading.Event()
    a = Split(mesh, "a", [Reply()])
    px = proxy(mesh, [a], {**HTTP, "timeout": "0.1s"})
    a.hold = gate
    wait_flags(px, a.port, "/failed_active_hc/active_hc_timeout")
    a.hold = None
    gate.set()
    wait_flags(px, a.port, "healthy")


def test_what_is_sent(mesh):
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {"http_health_check": {
        "path": "/hc?x=1", "host": "h.test", "method": "POST", "send": {"text": "68656c6c6f"},
        "request_headers_to_add": [{"header": {"key": "x-a", "value": "%UPSTREAM_METADATA([\"n\",\"k\"])%-1"}},
                                   {"header": {"key": "user-agent", "value": "mine"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        "request_headers_to_remove": ["x-none"]}})
    r = until(lambda: a.seen and a.seen[0], 5, "a check")
    assert r.start == "POST /hc?x=1 HTTP/1.1" and r.get("host") == "h.test" and r.get("user-agent") == "mine"
    assert r.get("content-length") == "5" and r.body == b"hello" and r.get("x-a").endswith("-1")
    px.stop()


def test_name_and_port_of_an_endpoint(mesh):
    a, other = Split(mesh, "a", [Reply(500)]), Split(mesh, "b")
    e = {"endpoint": {"address": config.address(a.port), "health_check_config": {"port_value": other.port, "hostname": "e.test"}}}
    px = proxy(mesh, [a], {"http_health_check": {"path": "/hc", "host": "c.test"}},
               load_assignment={"cluster_name": "up", "endpoints": [{"lb_endpoints": [e]}]})
    assert flags(px, a.port) == "healthy" and not a.seen
    assert other.seen[0].get("host") == "e.test"


def test_a_host_that_is_not_checked(mesh):
    a = Split(mesh, "a", [Reply(500)])
    e = {"endpoint": {"address": config.address(a.port), "health_check_config": {"disable_active_health_check": True}}}
    px = proxy(mesh, [a], HTTP, load_assignment={"cluster_name": "up", "endpoints": [{"lb_endpoints": [e]}]})
    assert px.get("/").status == 200 and flags(px, a.port) == "healthy" and not a.seen


@pytest.mark.parametrize("reuse", [True, False])
def test_connections(mesh, reuse):
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {**HTTP, "reuse_connection": reuse})
    until(lambda: len(a.seen) >= 4, 5, "four checks")
    used = {r.connection for r in a.seen[:4]}
    assert len(used) == (1 if reuse else 4)
    assert px.stat("cluster.up.upstream_cx_total") == 0


def test_expected_body(mesh):
    a = Split(mesh, "a", [Reply(200, b"xx status: ok yy")])
    px = proxy(mesh, [a], {"http_health_check": {"path": "/hc", "receive": [{"text": b"status".hex()}, {"text": b"ok".hex()}]}})
    wait_flags(px, a.port, "healthy")
    a.checks = [Reply(200, b"ok status")]  # in another order
    wait_flags(px, a.port, "/failed_active_hc")


def test_service_name(mesh):
    name = "x-envoy-upstream-healthchecked-cluster"
    a = Split(mesh, "a", [Reply(200, b"", [(name, "service-a-1")])])
    px = proxy(mesh, [a], {"http_health_check": {"path": "/hc", "service_name_matcher": {"prefix": "service-a"}}})
    wait_flags(px, a.port, "healthy")
    a.checks = [Reply(200, b"", [(name, "service-b")])]
    wait_flags(px, a.port, "/failed_active_hc")
    assert hc(px, "verify_cluster") >= 2


def test_degraded(mesh):
    a, b = Split(mesh, "a", [Reply(200, b"", [("x-envoy-degraded", "1")])]), Split(mesh, "b")
    px = proxy(mesh, [a, b], HTTP)
    assert px.stat("cluster.up.membership_degraded") == 1 and hc(px, "degraded") == 1
    assert flags(px, a.port) == "/degraded_active_hc"
    a.checks = [Reply()]
    wait_flags(px, a.port, "healthy")


@pytest.mark.stricter
def test_the_gauge_of_degraded_hosts_falls(mesh):
    """Envoy's only rises."""
    a = Split(mesh, "a", [Reply(200, b"", [("x-envoy-degraded", "1")])])
    px = proxy(mesh, [a], HTTP)
    assert hc(px, "degraded") == 1
    a.checks = [Reply()]
    until(lambda: hc(px, "degraded") == 0, 5, "the gauge")


def test_immediate_failure_in_a_check(mesh):
    a, b = Split(mesh, "a", [Reply(503, b"", [("x-envoy-immediate-health-check-fail", "1")])]), Split(mesh, "b")
    px = proxy(mesh, [a, b], HTTP)
    assert flags(px, a.port) == "/failed_active_hc/excluded_via_immediate_hc_fail"
    assert px.stat("cluster.up.membership_excluded") == 1
    a.checks = [Reply()]
    wait_flags(px, a.port, "healthy")


def test_immediate_failure_in_traffic(mesh):
    """The host itself says in an answer that it should get no more: it is out at once, until a check passes."""
    a, b = Split(mesh, "a"), Split(mesh, "b")
    px = proxy(mesh, [a, b], {**HTTP, "interval": "30s", "no_traffic_interval": "30s"})

    class Leaving(Reply):
        def act(self, stream, request):
            if request.target.startswith("/hc"):
                return Reply().act(stream, request)
            return Reply(200, b"", [("x-envoy-immediate-health-check-fail", "1")]).act(stream, request)
    a.up.script = [Leaving()]

    def out():
        px.get("/")
        return flags(px, a.port) == "/failed_active_hc/excluded_via_immediate_hc_fail"
    until(out, 5, "the host to be out")
    assert hc(px, "passive_failure") == 1 and px.stat("cluster.up.membership_healthy") == 1


def test_tcp_connect(mesh):
    a, dead = mesh.upstream("a"), free_port()
    px = proxy(mesh, [a, dead], {"tcp_health_check": {}})
    assert flags(px, a.port) == "healthy" and flags(px, dead) == "/failed_active_hc"
    assert {px.get("/").status for _ in range(4)} == {200}


def test_tcp_bytes(mesh):
    s = socket.create_server((HOST, 0))
    answer = [b"xxPONGyy"]

    def serve(c):
        while True:
            try:
                d = c.recv(100)
            except OSError:
                return
            if not d:
                return
            if d == b"PING":
                c.sendall(answer[0])

    def accept():
        while True:
            try:
                threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
            except OSError:
                return
    threading.Thread(target=accept, daemon=True).start()
    port = s.getsockname()[1]
    px = proxy(mesh, [port], {"tcp_health_check": {"send": {"text": b"PING".hex()}, "receive": [{"text": b"PO".hex()}, {"text": b"NG".hex()}]},
                              "timeout": "0.15s"})
    assert flags(px, port) == "healthy"
    until(lambda: hc(px, "success") >= 3, 5, "checks over one connection")
    answer[0] = b"no"
    wait_flags(px, port, "/failed_active_hc/active_hc_timeout")
    answer[0] = b"PONG"
    wait_flags(px, port, "healthy")
    px.stop()
    s.close()


@pytest.mark.stricter  # Envoy reads `binary` and never finds it
def test_tcp_binary(mesh):
    s = socket.create_server((HOST, 0))

    def accept():
        while True:
            try:
                c = s.accept()[0]
            except OSError:
                return
            c.sendall(c.recv(4)[::-1])
    threading.Thread(target=accept, daemon=True).start()
    px = proxy(mesh, [s.getsockname()[1]], {"tcp_health_check": {"send": {"binary": "cGluZw=="}, "receive": [{"binary": "Z25pcA=="}]}})
    until(lambda: hc(px, "success") >= 1, 5, "an answer that is awaited")
    px.stop()
    s.close()


@pytest.mark.parametrize("close", [True, False])
def test_tcp_sessions_of_a_host_that_fails(mesh, close):
    """close_connections_on_host_health_failure ends what runs; without it sessions go on."""
    a = Split(mesh, "a")
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up")
    px = mesh.proxy(boot=config.bootstrap(
        [config.listener(free_port(), [tcp])],
        [config.cluster("up", [a.port], health_checks=[{**QUICK, **HTTP}], close_connections_on_host_health_failure=close)], free_port()))
    with px.client() as c:
        assert c.get("/").status == 200
        a.checks = [Reply(500)]
        wait_flags(px, a.port, "/failed_active_hc")
        if close:
            assert c.ended() in ("eof", "reset")
        else:
            assert c.get("/").status == 200
    until(lambda: px.stat("cluster.up.upstream_cx_active") == 0, 5, "the end of its connections")


def test_event_log(mesh):
    path = mesh.folder / "hc.log"
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {**HTTP, "always_log_health_check_failures": True, "event_logger": [config.ext(
        "file", "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink", event_log_path=str(path))]})
    a.checks = [Reply(500)]
    wait_flags(px, a.port, "/failed_active_hc")
    a.checks = [Reply()]
    wait_flags(px, a.port, "healthy")
    px.stop()
    events = [json.loads(x) for x in path.read_text().splitlines()]
    host = {"protocol": "TCP", "address": "127.0.0.1", "port_value": a.port, "resolver_name": "", "ipv4_compat": False, "network_namespace_filepath": ""}
    for e in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", e.pop("timestamp"))
        assert e.pop("health_checker_type") == "HTTP" and e.pop("cluster_name") == "up"
        assert e.pop("host") == {"socket_address": host} and e.pop("locality") == {"region": "", "zone": "", "sub_zone": ""}
    assert events[0] == {"add_healthy_event": {"first_check": True}}
    assert events[1] == {"eject_unhealthy_event": {"failure_type": "ACTIVE", "http_status_code": 500}}
    assert events[2] == {"health_check_failure_event": {"failure_type": "ACTIVE", "first_check": False, "http_status_code": 500}}
    assert events[-1] == {"add_healthy_event": {"first_check": False}}


def test_no_traffic_interval(mesh):
    """Nobody uses the cluster: it is checked rarely; from the first connection on as configured."""
    a = Split(mesh, "a")
    px = proxy(mesh, [a], {**HTTP, "no_traffic_interval": "60s"})
    assert hc(px, "attempt") == 1
    assert px.get("/").status == 200


def test_a_good_check_ends_an_ejection(mesh):
    a = Split(mesh, "a")
    px = proxy(mesh, [a], HTTP, outlier_detection={"consecutive_5xx": 1, "base_ejection_time": "600s", "max_ejection_percent": 100})

    class Fails(Reply):
        def act(self, stream, request):
            return Reply(200 if request.target.startswith("/hc") else 500).act(stream, request)
    a.up.script = [Fails()]
    assert px.get("/").status == 500
    px.wait_stat("cluster.up.outlier_detection.ejections_enforced_total")
    until(lambda: px.stat("cluster.up.outlier_detection.ejections_active") == 0, 5, "its return")
    assert px.stat("cluster.up.membership_healthy") == 1


# Hostile upstreams: a check ends at its timeout whatever comes, and memory stays bounded.

HOSTILE = {
    "endless-body": lambda: Endless(1 << 40),
    "no-head": lambda: Raw(b"HTTP/1.1 200 OK\r\n", close=False),
    "garbage": lambda: Raw(b"\x00\xff" * 50),
    "endless-head": lambda: Raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300000),
    "many-headers": lambda: Raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20000),
    "reset": Reset,
    "early-bytes": lambda: Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_answers(mesh, kind):
    good, bad = Split(mesh, "good"), Split(mesh, "bad")
    px = proxy(mesh, [good, bad], {**HTTP, "timeout": "0.2s", "http_health_check": {
        "path": "/hc", "response_buffer_size": 0, **({"receive": [{"text": b"never".hex()}]} if kind == "endless-body" else {})}}
        if kind != "endless-body" else {**HTTP, "timeout": "0.2s"})
    before = px.memory_kib()
    bad.checks = [HOSTILE[kind]()]
    until(lambda: flags(px, bad.port).startswith("/failed_active_hc"), 10, "the bad host to be out")
    n = hc(px, "failure")
    until(lambda: hc(px, "failure") >= n + 3, 10, "three more failures")
    assert flags(px, good.port) == "healthy" and px.get("/").status == 200
    assert px.grown_kib(before) < 16 << 10
    bad.checks = [Reply()]
    wait_flags(px, bad.port, "healthy")


@pytest.mark.stricter
def test_clusters_says_why(mesh):
    a = Split(mesh, "a", [Reply(503)])
    px = proxy(mesh, [a, free_port()], {**HTTP, "healthy_threshold": 2})
    rows = re.findall(r"mizzen_why::(.*)$", px.admin("/clusters")[1], re.M)
    assert re.fullmatch(r"active check failed: HTTP status 503, \d+ in a row \(limit 1: unhealthy_threshold\), for [\d.]+s, "
                        r"until 2 in a row pass \(0 so far\)", rows[0]), rows
    assert re.match(r"active check failed: no connection: Connection refused, ", rows[1]), rows


@pytest.mark.stricter
def test_alt_port(mesh):
    """Envoy reads alt_port and ignores it."""
    a, other = Split(mesh, "a", [Reply(500)]), Split(mesh, "b")
    px = proxy(mesh, [a], {**HTTP, "alt_port": other.port})
    assert flags(px, a.port) == "healthy" and other.seen and not a.seen


@pytest.mark.parametrize("forget", [False, True], ids=["kept-while-well", "forgotten"])
def test_a_host_that_is_named_no_more(mesh, forget):
    """It stays while it passes its checks, unless told otherwise; once it fails it leaves, and its connections end."""
    a, b = Split(mesh, "a"), Split(mesh, "b")
    files = Files(mesh.folder / "xds")
    files.put("eds", "endpoint", assignment("up", [a.port, b.port]))
    manager = config.hcm([config.route("/", "up")], log=config.access_log(mesh.folder / "access.log"))
    members = {"name": "up", "type": "EDS", "eds_cluster_config": {"eds_config": files.source("eds")}, "connect_timeout": "1s",
               "ignore_health_on_host_removal": forget, "health_checks": [{**QUICK, **HTTP}]}
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [members], free_port()))
    assert {px.get("/").status for _ in range(6)} == {200} and a.traffic and b.traffic
    files.put("eds", "endpoint", assignment("up", [a.port]))
    px.wait_stat("cluster.up.update_success", 2)
    if not forget:
        until(lambda: flags(px, b.port) == "/pending_dynamic_removal", 5, "the host to be marked")
        b.traffic.clear()
        assert {px.get("/").status for _ in range(6)} == {200} and b.traffic and px.stat("cluster.up.membership_total") == 2
        assert px.stat("cluster.up.membership_change") == 1
        b.checks = [Reply(503)]
    until(lambda: px.stat("cluster.up.membership_total") == px.stat("cluster.up.membership_healthy") == 1, 5, "the host to leave")
    assert px.stat("cluster.up.membership_change") == 2 and f":{b.port}::" not in px.admin("/clusters")[1]
    until(lambda: px.stat("cluster.up.upstream_cx_active") <= 2, 5, "its connections to end")  # one for traffic, one for checks
    seen = len(b.seen)
    b.traffic.clear()
    assert {px.get("/").status for _ in range(6)} == {200} and not b.traffic
    a.seen.clear()
    until(lambda: len(a.seen) > 3, 5, "more checks")
    assert len(b.seen) <= seen + 1  # nor is it checked any more
