"""
Load while upstreams reset, stall, lie and die, hosts come and go, are ejected and checked: no request hangs, nothing is left behind.
Ten minutes with --long, which is best done with a sanitizer's build.
"""
import random

import pytest

import chaos
import config
from upstream import Close, Raw, Reply, Reset, Step
from wire import Malformed, free_port, reset

HOSTS, CLIENTS = 5, 8
HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it"


class Stall(Step):
    """Says nothing, or stops in the middle, until the peer gives up."""

    def __init__(self, first=b""):
        self.first = first

    def act(self, stream, request):
        if self.first:
            stream.sock.sendall(self.first)
        stream.sock.settimeout(2)
        try:
            stream.sock.recv(1)
        except OSError:
            pass
        return False


class Host(Step):
    """Answers by chance; `sick` decides on its checks and on how bad the chance is."""

    def __init__(self, rng):
        self.rng, self.sick, self.calm, self.gone = rng, False, False, False

    def choice(self, check):
        if self.calm:
            return Reply(503 if check and self.gone else 200)
        if check:
            return self.rng.choice([Reply(503), Reset(), Stall(), Raw(b"\x00garbage")]) if self.sick else Reply()
        bad = [Reply(500), Reply(503), Reset(), Close(), Stall(), Raw(HALF), Reset(HALF), Stall(HALF), Raw(b"HTTP/1.1 200 OK\r\nx: y\r\n"),
               Raw(b"nonsense\r\n\r\n"), Reply(200, b"z" * 300000, close=True), Reply(200, b"", [("x-envoy-immediate-health-check-fail", "1")])]
        return self.rng.choice(bad) if self.rng.random() < (0.7 if self.sick else 0.2) else Reply(200, b"x" * self.rng.choice([0, 10, 70000]))

    def act(self, stream, request):
        return self.choice(request.target.startswith("/hc")).act(stream, request)


def boot(mesh, members, rng):
    route = {"timeout": "0.4s", "retry_policy": {"retry_on": "5xx,reset,connect-failure", "num_retries": 2, "per_try_timeout": "0.15s",
                                                 "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"}},
             "hedge_policy": {"hedge_on_per_try_timeout": True}, "hash_policy": [{"header": {"header_name": "x-key"}}]}
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up",
                     idle_timeout="0.5s")
    check = {"timeout": "0.1s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 2, "healthy_threshold": 1,
             "interval_jitter_percent": 20, "http_health_check": {"path": "/hc"}}
    cluster = members.cluster(lb_policy=rng.choice(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"]),
                              health_checks=[check], close_connections_on_host_health_failure=True, ignore_health_on_host_removal=rng.random() < 0.5,
                              outlier_detection={"interval": "0.1s", "base_ejection_time": "0.1s", "max_ejection_time": "0.4s", "max_ejection_percent": 75,
                                                 "consecutive_5xx": 3, "success_rate_minimum_hosts": 2, "success_rate_request_volume": 5},
                              circuit_breakers={"thresholds": [{"max_retries": 100, "max_requests": 6, "max_pending_requests": 4}]},
                              http={"common_http_protocol_options": {"idle_timeout": "0.3s"}, "explicit_http_config": {"http_protocol_options": {}}})
    manager = config.hcm([config.route("/", "up", **route)], log=config.access_log(mesh.folder / "access.log"))
    return config.bootstrap([config.listener(free_port(), [manager]), config.listener(free_port(), [tcp], name="tcp")], [cluster], free_port())


def one_client(px, port, rng, answers):
    with px.client(port, timeout=10) as c:  # nothing for 10 seconds: a hang
        for _ in range(rng.randrange(1, 6)):
            kind = rng.random()
            if kind < 0.1:  # leaves in the middle of its request
                c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
                if rng.random() < 0.5:
                    reset(c.sock)
                break
            if kind < 0.2:  # leaves before the answer
                c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                break
            if kind < 0.4:
                c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + "b" * 20000)
                answers.append(c.response().status)
            else:
                answers.append(c.get("/", headers=[("x-key", rng.randrange(1000))]).status)


@pytest.mark.stricter  # what lives in Envoy is not told
def test_chaos(request, mesh):
    rng = chaos.seed()
    hosts = [Host(random.Random(rng.random())) for _ in range(HOSTS)]
    members = chaos.Members(mesh, [mesh.upstream(f"u{i}", [h]) for i, h in enumerate(hosts)])
    config_ = boot(mesh, members, rng)
    px = mesh.proxy(boot=config_, concurrency=chaos.WORKERS)
    ports = [x["address"]["socket_address"]["port_value"] for x in config_["static_resources"]["listeners"]]

    def step(rng, answers):
        try:
            one_client(px, rng.choice(ports), rng, answers)
        except Malformed:
            pass  # an upstream's nonsense through tcp_proxy

    def visit():
        for p in ports:
            try:
                with px.client(p) as c:
                    c.get("/")
            except (EOFError, OSError, ValueError):
                pass
    chaos.run(px, hosts, members, rng, chaos.seconds(request), CLIENTS, step, visit)
    stats = px.stats(r"^cluster\.up\.|^http\.in\.|^tcp\.")
    for name in ("upstream_rq_active", "upstream_rq_pending_active", "upstream_cx_active", "circuit_breakers.default.rq_open",
                 "circuit_breakers.default.rq_pending_open", "circuit_breakers.default.rq_retry_open", "outlier_detection.ejections_active"):
        assert stats[f"cluster.up.{name}"] == 0, name
    assert stats["http.in.downstream_rq_active"] == 0 and stats["tcp.t.downstream_cx_rx_bytes_buffered"] == 0
    assert stats["cluster.up.outlier_detection.ejections_enforced_total"] > 0 and stats["cluster.up.health_check.failure"] > 0
