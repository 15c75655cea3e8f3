"""
The same as test_chaos.py over HTTP/2 on both sides: streams are reset, stalled, cut and refused, connections go away in and out of
order, clients leave, withhold windows and send nonsense.
"""
import random

import pytest

import chaos
import config
from h2_client import GET, POST, H2Client, frame
from h2_upstream import CANCEL, DATA, END_STREAM, GOAWAY, INTERNAL_ERROR, PING, REFUSED_STREAM, RST_STREAM, H2Upstream, early
from wire import free_port

HOSTS, CLIENTS = 4, 6


class Host:
    """What a server does with a stream, by chance; `sick` decides on its checks and on how bad the chance is."""

    def __init__(self, rng):
        self.rng, self.sick, self.calm, self.gone = rng, False, False, False
        self.early = True  # called at the head: some do not wait for the rest

    def __call__(self, conn, stream, request):
        if self.gone and request[":path"] == "/hc":
            conn.reply(stream, 503)
        elif self.calm or self.rng.random() >= (0.7 if self.sick else 0.25):
            conn.reply(stream, body=b"x" * self.rng.choice([0, 10, 60000]) if not self.calm else b"ok", trailers=self.rng.choice([(), [("x-t", "1")]]))
        else:
            self.rng.choice([self.error, self.reset, self.cut, self.stall, self.leave, self.vanish, self.nonsense])(conn, stream)

    def error(self, conn, stream):
        conn.reply(stream, self.rng.choice([500, 503]), b"no")

    def reset(self, conn, stream):
        conn.rst(stream, self.rng.choice([INTERNAL_ERROR, REFUSED_STREAM, CANCEL, 0]))

    def cut(self, conn, stream):
        conn.headers(stream, [(":status", "200")])
        conn.data(stream, b"half", end=False)
        conn.rst(stream, INTERNAL_ERROR)

    def stall(self, conn, stream):
        if self.rng.random() < 0.5:
            conn.headers(stream, [(":status", "200"), ("content-length", "100")])

    def leave(self, conn, stream):
        conn.goaway(self.rng.choice([0, stream, 2**31 - 1]))
        if self.rng.random() < 0.5:
            conn.reply(stream)
        if self.rng.random() < 0.5:
            conn.close()

    def vanish(self, conn, stream):
        conn.reset()

    def nonsense(self, conn, stream):
        conn.frame(*self.rng.choice([(DATA, 0, stream, b"before the head"), (DATA, END_STREAM, 2, b""), (PING, 0, 0, b"short"),
                                     (RST_STREAM, 0, 0, bytes(4)), (4, 0, 0, b"\0\4\xff\xff\xff\xff")]))


def boot(mesh, members, rng):
    route = {"timeout": "0.4s", "retry_policy": {"retry_on": "5xx,reset,refused-stream,connect-failure", "num_retries": 2, "per_try_timeout": "0.15s",
                                                 "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"}}}
    check = {"timeout": "0.2s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 2, "healthy_threshold": 1,
             "http_health_check": {"path": "/hc", "codec_client_type": "HTTP2"}}
    cluster = members.cluster(health_checks=[check], ignore_health_on_host_removal=rng.random() < 0.5,
                              outlier_detection={"interval": "0.1s", "base_ejection_time": "0.1s", "max_ejection_time": "0.4s", "max_ejection_percent": 60},
                              circuit_breakers={"thresholds": [{"max_retries": 100, "max_requests": 30, "max_pending_requests": 20}]},
                              http={"common_http_protocol_options": {"idle_timeout": "0.3s", "max_requests_per_connection": 40},
                                    "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 5}}})
    manager = config.hcm([config.route("/", "up", **route)], log=config.access_log(mesh.folder / "access.log"), stream_idle_timeout="2s",
                         http2_protocol_options={"max_concurrent_streams": 20})
    return config.bootstrap([config.listener(free_port(), [manager])], [cluster], free_port())


def one_client(px, rng, answers):
    """A few streams at once; every one of them must end, or the connection must."""
    with H2Client(px.port, settings=rng.choice([None, {4: 100}, {4: 0}])) as c:
        opened = []
        for i in range(rng.randrange(1, 12)):
            stream, kind = 2 * i + 1, rng.random()
            if kind < 0.5:
                c.request(stream, GET)
            else:
                c.send(c.head(stream, POST, end=False) + frame(DATA, 0, stream, b"b" * 5000))
                if kind < 0.85:
                    c.send(frame(DATA, END_STREAM, stream, b"b" * 5000))
            if rng.random() < 0.15:
                c.send(frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big")))
            elif 0.5 <= kind < 0.85 or kind < 0.5:
                opened.append(stream)
        last = rng.random()
        if last < 0.1:
            return  # leaves at once
        if last < 0.15:
            c.send(frame(GOAWAY, 0, 0, bytes(8)))
        elif last < 0.2:
            c.send(frame(DATA, 0, 0, b"nonsense"))
        for stream in opened:
            if rng.random() < 0.5:
                c.grant(stream, 100000)
        c.wait(lambda: c.end or all(c.ended(s) or c.rst(s) is not None for s in opened), 15, "every stream to end")
        for stream in opened:
            if c.headers.get(stream):
                answers.append(c.status(stream))


@pytest.mark.stricter
def test_chaos(request, mesh):
    rng = chaos.seed()
    hosts = [Host(random.Random(rng.random())) for _ in range(HOSTS)]
    ups = [H2Upstream(f"u{i}", [early(h)]) for i, h in enumerate(hosts)]
    mesh.upstreams.extend(ups)
    members = chaos.Members(mesh, ups)
    px = mesh.proxy(boot=boot(mesh, members, rng), concurrency=chaos.WORKERS)

    def visit():
        with H2Client(px.port) as c:
            c.request(1)
            c.wait(lambda: c.end or c.ended(1) or c.rst(1) is not None)
    chaos.run(px, hosts, members, rng, chaos.seconds(request), CLIENTS, lambda rng, answers: one_client(px, rng, answers), visit)
    stats = px.stats(r"^cluster\.up\.|^http\.in\.|^http2\.")
    for name in ("upstream_rq_active", "upstream_rq_pending_active", "upstream_cx_active", "circuit_breakers.default.rq_open",
                 "circuit_breakers.default.rq_pending_open", "circuit_breakers.default.rq_retry_open", "http2.streams_active",
                 "http2.outbound_frames_active", "http2.outbound_control_frames_active", "http2.pending_send_bytes"):
        assert stats[f"cluster.up.{name}"] == 0, name
    for name in ("http.in.downstream_rq_active", "http2.streams_active", "http2.outbound_frames_active", "http2.outbound_control_frames_active"):
        assert stats[name] == 0, name
