"""Every host resets, every request is retried (E10): breakers and the budget bound what the upstreams get."""
import threading
import time

import config
from upstream import Raw, Reset
from wire import until

CLIENTS = 60
RESET = "upstream_reset_before_response_started{connection_termination}"
RETRY = {"retry_on": "reset", "num_retries": 10, "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"}}


def storm(mesh, thresholds, policy=RETRY, step=Reset):
    """CLIENTS requests at once, all reset at the same moment; (proxy, upstream, answers)."""
    gate = threading.Event()
    up = mesh.upstream(script=[step().held(gate)])
    px = mesh.proxy(routes=[config.route("/", retry_policy=policy)], cluster={"circuit_breakers": {"thresholds": [thresholds]}})
    clients = [px.client(timeout=20) for _ in range(CLIENTS)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: len(up.requests) == CLIENTS, 10, "all requests at the upstream")
    gate.set()
    answers = [c.response() for c in clients]
    for c in clients:
        c.close()
    return px, up, answers


def test_e10_retries_are_bounded_by_the_breaker(mesh):
    px, up, answers = storm(mesh, {"max_retries": 3, "max_connections": 1000})
    assert all(a.status == 503 for a in answers)
    assert {e["details"] for e in px.access_log(CLIENTS)} == {RESET}
    tries = [e["attempts"] for e in px.access_log(CLIENTS)]
    assert sum(tries) == len(up.requests)
    overflow = px.stat("cluster.up.upstream_rq_retry_overflow")
    assert overflow > 0 and sum("UO" in e["flags"] for e in px.access_log(CLIENTS)) == overflow
    assert px.stat("cluster.up.upstream_rq_retry") == len(up.requests) - CLIENTS
    # Those that got no retry at once had none at all; with ten retries each it would be 660 requests.
    assert len(up.requests) < CLIENTS * 4
    assert px.stat("cluster.up.circuit_breakers.default.rq_retry_open") == 0  # all of it was given back


def test_e10_retries_are_bounded_by_the_budget(mesh):
    budget = {"budget_percent": {"value": 10.0}, "min_retry_concurrency": 2}
    px, up, answers = storm(mesh, {"retry_budget": budget, "max_connections": 1000})
    assert all(a.status == 503 for a in answers)
    overflow = px.stat("cluster.up.upstream_rq_retry_overflow")
    log = px.access_log(CLIENTS)
    assert overflow >= CLIENTS // 2 and sum("UO" in e["flags"] for e in log) == overflow and {e["details"] for e in log} == {RESET}
    assert len(up.requests) < CLIENTS * 4
    again = px.get("/")  # alone, it has the budget's floor
    assert again.status == 503 and px.wait_log(lambda e: e["attempts"] == 11)


def test_e10_no_retry_without_a_policy(mesh):
    px, up, answers = storm(mesh, {"max_connections": 1000}, policy={"retry_on": "retriable-4xx"})
    assert all(a.status == 503 for a in answers) and len(up.requests) == CLIENTS
    assert px.stat("cluster.up.upstream_rq_retry") == 0
    assert {(e["flags"], e["details"]) for e in px.access_log(CLIENTS)} == {("UC", RESET)}


def test_e10_back_off_is_jittered(mesh):
    """Retries of requests that failed together do not come together: the wait is random in [0, base)."""
    policy = {"retry_on": "reset", "num_retries": 1, "retry_back_off": {"base_interval": "0.3s", "max_interval": "0.3s"}}
    at = []

    class Note(Reset):
        def act(self, stream, request):
            at.append(time.monotonic())
            return super().act(stream, request)
    px, up, answers = storm(mesh, {"max_retries": 1000, "max_connections": 1000}, policy=policy, step=Note)
    assert len(at) == 2 * CLIENTS
    second = sorted(at)[CLIENTS:]
    assert second[-1] - second[0] > 0.1, second[-1] - second[0]
    assert second[-1] - min(at) < 2


def test_e06_upstream_that_accepts_and_says_nothing(mesh):
    """Each try ends at its own time, the request at its own; what was begun is given up."""
    hold = threading.Event()
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 200 OK\r\n", close=False).held(hold)])
    policy = {"retry_on": "5xx,reset", "num_retries": 20, "per_try_timeout": "0.1s", "retry_back_off": {"base_interval": "0.001s"}}
    px = mesh.proxy(routes=[config.route("/", timeout="0.55s", retry_policy=policy)])
    began = time.monotonic()
    with px.client() as c:
        assert c.get("/").status == 504
    assert 0.5 < time.monotonic() - began < 3
    entry = px.access_log(1)[0]
    assert "UT" in entry["flags"] and entry["details"] == "response_timeout" and 2 <= entry["attempts"] <= 6
    assert entry["attempts"] - px.stat("cluster.up.upstream_rq_per_try_timeout") in (0, 1)  # the last may meet both ends
    # what was sent is given up; a connection that a cancelled try was still waiting for may stay in the pool
    until(lambda: px.stat("cluster.up.upstream_cx_active") <= 1 and px.stat("cluster.up.upstream_rq_active") == 0,
          what="the upstream requests to end")
    hold.set()
    assert 2 <= len(up.requests) <= entry["attempts"]  # the last try may end before its connection stands
