"""
Load while upstreams reset, stall, lie and die, hosts are ejected and checked: no request hangs, nothing is left behind (D04, E10).
CHAOS_SECONDS says how long (20); a sanitizer's build and 600 are for a long look. CHAOS_SEED repeats a run's choices.
"""
import os
import random
import threading
import time

import config
from evidence import objects, objects_back
from upstream import Close, Raw, Reply, Reset, Step
from wire import Malformed, free_port, reset, until

SECONDS = float(os.environ.get("CHAOS_SECONDS", 20))
HOSTS, CLIENTS = 4, 8
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
        self.rng, self.sick, self.calm = rng, False, False

    def choice(self, check):
        if self.calm:
            return Reply()
        if check:
            return self.rng.choice([Reply(503), Reset(), Stall(), Raw(b"\x00garbage")]) if self.sick else Reply()
        bad = [Reply(500), Reply(503), Reset(), Close(), Stall(), Raw(HALF), Reset(HALF), Stall(HALF), Raw(b"HTTP/1.1 200 OK\r\nx: y\r\n"),
               Raw(b"nonsense\r\n\r\n"), Reply(200, b"z" * 300000, close=True), Reply(200, b"", [("x-envoy-immediate-health-check-fail", "1")])]
        return self.rng.choice(bad) if self.rng.random() < (0.7 if self.sick else 0.2) else Reply(200, b"x" * self.rng.choice([0, 10, 70000]))

    def act(self, stream, request):
        return self.choice(request.target.startswith("/hc")).act(stream, request)


def boot(mesh, ups):
    route = {"timeout": "0.4s", "retry_policy": {"retry_on": "5xx,reset,connect-failure", "num_retries": 2, "per_try_timeout": "0.15s",
                                                 "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"}},
             "hedge_policy": {"hedge_on_per_try_timeout": True}}
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up",
                     idle_timeout="0.5s")
    check = {"timeout": "0.1s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 2, "healthy_threshold": 1,
             "interval_jitter_percent": 20, "http_health_check": {"path": "/hc"}}
    cluster = config.cluster("up", [u.port for u in ups], health_checks=[check], close_connections_on_host_health_failure=True,
                             outlier_detection={"interval": "0.1s", "base_ejection_time": "0.1s", "max_ejection_time": "0.4s", "max_ejection_percent": 75,
                                                "consecutive_5xx": 3, "success_rate_minimum_hosts": 2, "success_rate_request_volume": 5},
                             circuit_breakers={"thresholds": [{"max_retries": 100, "max_requests": 6, "max_pending_requests": 4}]},
                             http={"common_http_protocol_options": {"idle_timeout": "0.3s"}, "explicit_http_config": {"http_protocol_options": {}}})
    manager = config.hcm([config.route("/", "up", **route)], log=config.access_log(mesh.folder / "access.log"))
    return config.bootstrap([config.listener(free_port(), [manager]), config.listener(free_port(), [tcp], name="tcp")], [cluster], free_port())


def load(px, ports, rng, end, answers, wrong):
    while time.monotonic() < end:
        try:
            with px.client(rng.choice(ports), timeout=10) as c:
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
                        answers.append(c.get("/").status)
        except TimeoutError as e:  # nothing came for 10 seconds: a hang
            wrong.append(repr(e))
        except (EOFError, OSError, AssertionError, ValueError, Malformed):
            pass  # cut, reset, or an upstream's nonsense through tcp_proxy


def test_chaos(mesh, is_envoy):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 30)))
    print("CHAOS_SEED", seed)
    rng = random.Random(seed)
    hosts = [Host(random.Random(rng.random())) for _ in range(HOSTS)]
    ups = [mesh.upstream(f"u{i}", [h]) for i, h in enumerate(hosts)]
    config_ = boot(mesh, ups)
    px = mesh.proxy(boot=config_, concurrency=2)
    ports = [x["address"]["socket_address"]["port_value"] for x in config_["static_resources"]["listeners"]]

    def idle():
        return px.stat("cluster.up.upstream_cx_active") == 0 and px.stat("http.in.downstream_cx_active") == 0

    def calm():
        for h in hosts:
            h.calm = True
        until(lambda: px.stat("cluster.up.membership_healthy") == HOSTS, 15, "all hosts healthy")
        for _ in range(10 * HOSTS):
            for p in ports:
                try:
                    with px.client(p) as c:
                        c.get("/")
                except (EOFError, OSError, ValueError):
                    pass
        until(idle, 10, "no connection left")
        for h in hosts:
            h.calm = False

    calm()
    before = None if is_envoy else objects(px)
    answers, wrong, end = [], [], time.monotonic() + SECONDS
    threads = [threading.Thread(target=load, args=(px, ports, random.Random(rng.random()), end, answers, wrong)) for _ in range(CLIENTS)]
    for t in threads:
        t.start()
    while time.monotonic() < end:
        rng.choice(hosts).sick = rng.random() < 0.5
        threads[0].join(0.1)
    for t in threads:
        t.join()
    calm()
    assert not wrong, wrong[:5]
    assert answers.count(200) > 50 and len(set(answers)) > 1
    stats = px.stats(r"^cluster\.up\.|^http\.in\.|^tcp\.")
    for name in ("upstream_rq_active", "upstream_rq_pending_active", "upstream_cx_active", "circuit_breakers.default.rq_open",
                 "circuit_breakers.default.rq_pending_open", "circuit_breakers.default.rq_retry_open", "outlier_detection.ejections_active"):
        assert stats[f"cluster.up.{name}"] == 0, name
    assert stats["http.in.downstream_rq_active"] == 0 and stats["tcp.t.downstream_cx_rx_bytes_buffered"] == 0
    assert stats["cluster.up.outlier_detection.ejections_enforced_total"] > 0 and stats["cluster.up.health_check.failure"] > 0
    if before:
        objects_back(px, before, HOSTS)
