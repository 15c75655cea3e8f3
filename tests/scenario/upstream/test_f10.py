"""F10: an upstream that goes away again and again, resets, floods, or sends heads and trailers without end (rows H2, U3)."""
import socket
import ssl
import threading

import pytest

import config
from evidence import told
from h2_upstream import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, INTERNAL_ERROR, PING, REFUSED_STREAM, SETTINGS, WINDOW_UPDATE,
                         H2Upstream, answer, early)
from pki import Pki
from upstream import Raw, Reply, Step
from wire import HOST, until

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}
HEAD = b"HTTP/1.1 200 OK\r\n"
stricter = pytest.mark.stricter


@pytest.fixture
def h2(mesh):
    def make(script=None, route=None, http=HTTP2, hcm=None, **up):
        u = H2Upstream(script=script, **up)
        mesh.upstreams.append(u)
        return mesh.proxy(routes=[config.route("/", **(route or {}))], hcm=hcm, cluster={"http": http}), u
    return make


def still_serves(px, up, path="/after"):
    up.script = [answer(body=b"fine")]
    assert px.get(path).body == b"fine"


def outcome(px, path="/"):
    return px.wait_log(lambda e: e["path"] == path)


# ---- GOAWAY, resets ----

def test_f10_goaway_loop(h2):  # each connection leaves before its first stream: as many tries as the policy allows, no more
    px, up = h2([lambda conn, stream, request: conn.goaway(0)], route={"retry_policy": {"retry_on": "refused-stream", "num_retries": 3}})
    with told(px, "upstream_reset_before_response_started{remote_refused_stream_reset}", "URX,UR", 503, {
            "cluster.up.upstream_cx_close_notify": 4, "cluster.up.upstream_cx_destroy": 4, "cluster.up.upstream_rq_retry": 3,
            "cluster.up.upstream_rq_retry_limit_exceeded": 1, "cluster.up.upstream_cx_protocol_error": 0}):
        assert px.get("/").status == 503
    assert outcome(px)["attempts"] == 4 and up.connections == len(up.requests) == 4
    still_serves(px, up)


def test_f10_goaway_as_greeting(h2):  # nothing is lost that was not sent
    px, up = h2(greet=lambda conn: conn.goaway(0))
    with told(px, "upstream_reset_before_response_started{remote_refused_stream_reset}", "UR", 503, "cluster.up.upstream_cx_close_notify"):
        assert px.get("/").status == 503
    assert up.connections == 1
    up.greet = None
    still_serves(px, up)


def test_f10_goaway_floods_do_not_pile_up(h2):
    def leave(conn, stream, request):
        for _ in range(2000):
            conn.goaway(stream)
        conn.reply(stream)
    px, up = h2([leave])
    before = px.memory_kib()
    with told(px, "via_upstream", "-", 200, {"cluster.up.upstream_cx_close_notify": 1, "cluster.up.upstream_rq_200": 1, "cluster.up.upstream_cx_destroy": 1}):
        assert px.get("/").status == 200  # its stream was accepted, and comes to its end
    assert px.grown_kib(before) < 1024
    still_serves(px, up)
    assert up.connections == 2


def test_f10_reset_of_each_stream(h2):  # counted, never retried unasked, the connection stays
    px, up = h2([lambda conn, stream, request: conn.rst(stream, INTERNAL_ERROR)])
    with told(px, "upstream_reset_before_response_started{remote_reset}", "UR", 503, {
            "cluster.up.upstream_rq_rx_reset": 50, "cluster.up.http2.rx_reset": 50, "cluster.up.upstream_rq_503": 50, "cluster.up.upstream_rq_retry": 0}):
        for n in range(50):
            assert px.get(f"/{n}").status == 503
    assert {e["attempts"] for e in px.access_log()} == {1} and len(up.requests) == 50
    still_serves(px, up)
    assert up.connections == 1


@pytest.mark.parametrize("code,reason,tries", [(INTERNAL_ERROR, "remote_reset", 1), (REFUSED_STREAM, "remote_refused_stream_reset", 3)], ids=["acted-on", "refused"])
def test_f10_retried_only_when_safe(h2, code, reason, tries):
    """A POST with its body: what the upstream says it did not begin may be tried again, nothing else unless it is asked for."""
    px, up = h2([lambda conn, stream, request: conn.rst(stream, code)], route={"retry_policy": {"retry_on": "refused-stream", "num_retries": 2}})
    with told(px, "upstream_reset_before_response_started{%s}" % reason, "UR" if tries == 1 else "URX,UR", 503,
              {"cluster.up.upstream_rq_retry": tries - 1, "cluster.up.http2.rx_reset": tries}), px.client() as c:
        assert c.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").response().status == 503
    assert [r.body for r in up.requests] == [b"body"] * tries and outcome(px, "/post")["attempts"] == tries


def test_f10_table_size_lowered_to_zero(h2):
    px, up = h2([answer(body=b"1"), lambda conn, stream, request: (lower(conn), conn.reply(stream, body=b"2")), answer(body=b"3")])

    def lower(conn):
        conn.decoder.max_allowed_table_size = 0  # what comes next must begin by giving the table up
        conn.settings({1: 0})
    fields = [("x-one", "a" * 50), ("x-two", "b" * 50)]
    with told(px, "via_upstream", "-", 200, {"cluster.up.upstream_rq_200": 4, "cluster.up.upstream_cx_protocol_error": 0}):
        for n in range(1, 5):
            assert px.get("/", headers=fields).body == b"%d" % min(n, 3)
    assert up.connections == 1 and up.errors == []
    assert all(dict(r.headers)["x-two"] == "b" * 50 for r in up.requests)


# ---- heads and trailers ----

def refused(px, up, flags, reason, counter):
    with told(px, "upstream_reset_before_response_started{%s}" % reason, flags, None, counter):
        assert px.get("/bad").status in (502, 503)
    still_serves(px, up)


def test_f10_giant_head(h2):
    px, up = h2([answer(headers=[("x-%d" % n, "a" * 3500) for n in range(25)])])  # 87 KB above 60
    refused(px, up, "UR", "remote_reset", "cluster.up.http2.header_list_size_too_large")


def test_f10_many_headers(h2):
    px, up = h2([answer(headers=[("x-%d" % n, "a") for n in range(150)])])
    refused(px, up, "UR", "remote_reset", "cluster.up.http2.header_overflow")


def test_f10_larger_head_where_it_is_allowed(h2):
    px, up = h2([answer(headers=[("x-%d" % n, "a" * 3500) for n in range(25)])],
                http={**HTTP2, "common_http_protocol_options": {"max_response_headers_kb": 100}})
    assert px.get("/").status == 200


def test_f10_giant_trailers(h2):  # the answer was under way: the client sees that it is not whole
    px, up = h2([answer(trailers=[("x-%d" % n, "a" * 3500) for n in range(25)])])
    with told(px, "upstream_reset_after_response_started{remote_reset}", "UR", 200, "cluster.up.http2.tx_reset"), px.client() as c:
        with pytest.raises(EOFError):
            c.get("/bad")
    still_serves(px, up)


def test_f10_head_that_never_ends(h2):  # a CONTINUATION flood
    def flood(conn, stream, request):
        conn.frame(HEADERS, 0, stream, conn.encoder.encode([(":status", "200")]))
        for n in range(4000):
            conn.frame(CONTINUATION, 0, stream, conn.encoder.encode([("x-%d" % n, "a" * 100)]))
    px, up = h2([flood])
    before = px.memory_kib()
    with told(px, "upstream_reset_before_response_started{remote_reset}", "UR", 503, ["cluster.up.upstream_cx_destroy", "cluster.up.http2.header_overflow"]):
        assert px.get("/bad").status in (502, 503)
    assert px.grown_kib(before) < 4096
    still_serves(px, up)


def test_f10_slow_head(h2):  # the head's first half, and then nothing: the route's timeout ends it
    def slow(conn, stream, request):
        conn.frame(HEADERS, 0, stream, conn.encoder.encode([(":status", "200")]))
    px, up = h2([slow], route={"timeout": "0.2s"})
    with told(px, "response_timeout", "UT", 504, "cluster.up.upstream_rq_timeout"):
        assert px.get("/bad").status == 504


def test_f10_slow_trailers(h2):
    px, up = h2([lambda conn, stream, request: (conn.headers(stream, [(":status", "200")]), conn.data(stream, b"x", end=False))],
                route={"idle_timeout": "0.2s"})
    with told(px, "stream_idle_timeout", "SI", 200, "http.in.downstream_rq_idle_timeout"), px.client() as c:
        with pytest.raises(EOFError):
            c.get("/bad")
    until(lambda: up.conns[0].resets, 5)
    still_serves(px, up)


# ---- floods of a connection: it ends, its requests are told, the next one gets a fresh connection ----

FLOODS = [
    ("ping", lambda c, s: c.flood(20000, PING, 0, b"12345678"), "outbound_control_flood", "before"),
    ("settings", lambda c, s: c.flood(20000, SETTINGS), "outbound_control_flood", "before"),
    ("empty-data", lambda c, s: (c.headers(s, [(":status", "200")]), c.flood(2000, DATA, s)), "inbound_empty_frames_flood", "after"),
    ("window-update", lambda c, s: c.flood(20000, WINDOW_UPDATE, 0, b"\0\0\0\1"), "inbound_window_update_frames_flood", "before"),
]


@pytest.mark.parametrize("flood,counter,head", [f[1:] for f in FLOODS], ids=[f[0] for f in FLOODS])
def test_f10_floods(h2, flood, counter, head, is_envoy):
    def step(conn, stream, request):
        flood(conn, stream)
    px, up = h2([step])
    before = px.memory_kib()
    evidence = told(px, moved="cluster.up.upstream_cx_destroy") if is_envoy else \
        told(px, f"upstream_reset_{head}_response_started{{protocol_error}}", "UPE", None, ["cluster.up.upstream_cx_destroy", "cluster.up.http2." + counter])
    with evidence, px.client() as c:
        try:
            assert c.get("/bad").status in (502, 503)
        except EOFError:
            pass  # its head had gone
    assert px.grown_kib(before) < 4096
    still_serves(px, up)


# ---- HTTP/1 ----

class Drip(Step):
    """The bytes, one at a time, until the proxy gives up."""

    def __init__(self, data, every=0.01):
        self.data, self.every, self.gave_up = data, every, threading.Event()

    def act(self, stream, request):
        try:
            for b in self.data:
                stream.sock.sendall(bytes([b]))
                if self.gave_up.wait(self.every):
                    break
        except OSError:
            self.gave_up.set()
        return False


def test_f10_http1_slow_head(mesh):
    up = mesh.upstream(script=[Drip(HEAD + b"x-a: " + b"a" * 100000)])
    px = mesh.proxy(routes=[config.route("/", timeout="0.2s")])
    with told(px, "response_timeout", "UT", 504, "cluster.up.upstream_rq_timeout"):
        assert px.get("/bad").status == 504
    px.wait_stat("cluster.up.upstream_cx_destroy_local_with_active_rq")
    up.script = [Reply(200, b"fine")]
    assert px.get("/after").body == b"fine"


def test_f10_http1_slow_trailers(mesh):
    up = mesh.upstream(script=[Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-a: ", close=False)])
    px = mesh.proxy(routes=[config.route("/", idle_timeout="0.2s")])
    with told(px, "stream_idle_timeout", "SI", 200, "http.in.downstream_rq_idle_timeout"), px.client() as c:
        with pytest.raises(EOFError):
            c.get("/bad")
    up.script = [Reply(200, b"fine")]
    assert px.get("/after").body == b"fine"


@pytest.mark.parametrize("trailers", [b"x-a: " + b"a" * 70000, b"".join(b"x-%d: 1\r\n" % n for n in range(150))], ids=["70-kb", "150-fields"])
@stricter  # the peer lets more through where trailers are not even enabled
def test_f10_http1_giant_trailers(mesh, trailers):
    up = mesh.upstream(script=[Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + b"\r\n\r\n", close=False)])
    px = mesh.proxy(cluster={"http": {"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}},
                    hcm={"http_protocol_options": {"enable_trailers": True}})
    with told(px, "upstream_reset_after_response_started{protocol_error}", "UPE", 200, "cluster.up.upstream_cx_protocol_error"), px.client() as c:
        with pytest.raises(EOFError):
            c.get("/bad")
    up.script = [Reply(200, b"fine")]
    assert px.get("/after").body == b"fine"


# ---- TLS ----

class AlpnLiar:
    """Chooses `alpn` in the handshake and then says `data`, whatever it is asked."""
    name = "up"

    def __init__(self, pki, alpn, data):
        self.ctx, self.data, self.alpn = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), data, []
        self.ctx.load_cert_chain(pki.path("server.pem"), pki.path("server.key"))
        self.ctx.set_alpn_protocols([alpn])
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                with self.ctx.wrap_socket(self.listener.accept()[0], server_side=True) as s:
                    self.alpn.append(s.selected_alpn_protocol())
                    s.recv(65536)
                    s.sendall(self.data)
                    while s.recv(65536):
                        pass
            except OSError:
                if self.listener.fileno() < 0:
                    return

    def close(self):
        self.listener.close()


LIES = [("h2", HEAD + b"Content-Length: 2\r\n\r\nok", "cluster.up.upstream_cx_http2_total"),
        ("http/1.1", b"\0\0\0\4\0\0\0\0\0" * 3, "cluster.up.upstream_cx_http1_total")]


@pytest.mark.parametrize("alpn,data,kind", LIES, ids=["h2-that-is-http1", "http1-that-is-h2"])
def test_f10_alpn_lie(mesh, tmp_path, alpn, data, kind):
    """The protocol is what was agreed on; an upstream that then speaks the other one is broken, and counted so."""
    pki = Pki(tmp_path / "pki")
    pki.authority()
    pki.issue("server")
    up = AlpnLiar(pki, alpn, data)
    mesh.upstreams.append(up)
    tls = config.ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni="server.test",
                     common_tls_context={"validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px = mesh.proxy(cluster={"transport_socket": tls, "http": {"auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}})
    for n in range(2):
        with told(px, "upstream_reset_before_response_started{protocol_error}", "UPE", 502,
                  {kind: 1, "cluster.up.upstream_cx_protocol_error": 1, "cluster.up.upstream_cx_destroy": 1}):
            assert px.get("/bad").status == 502
    assert up.alpn == [alpn] * 2 and px.stat("cluster.up.ssl.handshake") == 2
