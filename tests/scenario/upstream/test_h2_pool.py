"""HTTP/2 towards upstreams: pools, what a peer's frames do to requests, what the options put on the wire (rows U3, U7, H2)."""
import threading

import pytest

import config
from h2_upstream import CANCEL, REFUSED_STREAM, H2Upstream, answer, early
from wire import until

EXPLICIT = "explicit_http_config"


def http2(**options):
    common = options.pop("common", None)
    h = {EXPLICIT: {"http2_protocol_options": options}}
    if common:
        h["common_http_protocol_options"] = common
    return h


@pytest.fixture
def h2(mesh):
    """h2(script, route={...}, options={...}, cluster={...}) -> (proxy, upstream)"""
    def make(script=None, route=None, options=None, cluster=None, hcm=None, **up):
        u = H2Upstream(script=script, **up)
        mesh.upstreams.append(u)
        px = mesh.proxy(routes=[config.route("/", **(route or {}))], hcm=hcm, cluster={"http": http2(**(options or {})), **(cluster or {})})
        return px, u
    return make


def rst(code):
    return lambda conn, stream, request: conn.rst(stream, code)


def test_settings_of_the_client(h2):
    px, up = h2()
    assert px.get("/").status == 200
    got = until(lambda: up.conns[0].peer_settings, 5)
    assert got.pop(8, 0) == 0 and got == {2: 0, 3: 1024, 4: 16 * 1024 * 1024, 1: 4096}


def test_options_go_on_the_wire(h2):
    px, up = h2(options={"hpack_table_size": 100, "max_concurrent_streams": 7, "initial_stream_window_size": 70000, "allow_connect": True,
                         "custom_settings_parameters": [{"identifier": 0x99, "value": 5}]})
    assert px.get("/").status == 200
    got = until(lambda: up.conns[0].peer_settings, 5)
    got.pop(8, 0)  # says nothing where a client says it
    assert got == {2: 0, 3: 7, 4: 70000, 1: 100, 0x99: 5}


def test_many_requests_share_a_connection(h2):
    hold = threading.Event()
    px, up = h2([early(lambda conn, stream, request: None)])
    clients = [px.client() for _ in range(20)]
    for c in clients:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: len(up.requests) == 20, 5)
    for r in reversed(up.requests):
        up.conns[0].reply(r.stream, body=b"%d" % r.stream)
    assert sorted(c.response().body for c in clients) == sorted(b"%d" % (1 + 2 * i) for i in range(20))
    assert up.connections == 1 and px.stat("cluster.up.upstream_cx_http2_total") == 1
    hold.set()


def test_refused_stream_is_retried(h2):
    px, up = h2([rst(REFUSED_STREAM), answer(body=b"again")], route={"retry_policy": {"retry_on": "refused-stream"}})
    assert px.get("/").body == b"again"
    assert px.access_log()[0]["attempts"] == 2 and px.stat("cluster.up.upstream_rq_retry_success") == 1
    assert up.connections == 1


def test_other_resets_are_no_refused_stream(h2):
    px, up = h2([rst(CANCEL), answer()], route={"retry_policy": {"retry_on": "refused-stream"}})
    assert px.get("/").status == 503 and len(up.requests) == 1
    e = px.access_log()[0]
    assert e["flags"] == "UR" and e["details"] == "upstream_reset_before_response_started{remote_reset}"


def test_goaway_refuses_what_is_above_its_last_stream(h2):
    def leave(conn, stream, request):
        if conn.number == 1:
            conn.goaway(0)
        else:
            conn.reply(stream)
    px, up = h2([leave], route={"retry_policy": {"retry_on": "refused-stream"}})
    assert px.get("/").status == 200
    assert up.connections == 2 and px.stat("cluster.up.upstream_cx_close_notify") == 1


def test_goaway_lets_older_streams_end(h2):
    hold = threading.Event()

    def slow(conn, stream, request):
        conn.goaway(stream)
        threading.Thread(target=lambda: (hold.wait(20), conn.reply(stream, body=b"late")), daemon=True).start()
    px, up = h2([slow, answer(body=b"new")])
    with px.client() as c:
        c.send(b"GET /old HTTP/1.1\r\nhost: a\r\n\r\n")
        px.wait_stat("cluster.up.upstream_cx_close_notify")
        assert px.get("/new").body == b"new"
        hold.set()
        assert c.response().body == b"late"
    assert up.connections == 2
    px.wait_stat("cluster.up.upstream_cx_destroy_local")


@pytest.mark.stricter  # the peer says INTERNAL_ERROR, which is not what happened
def test_a_cancelled_stream_says_so(h2):
    px, up = h2([early(lambda conn, stream, request: None)])
    c = px.client()
    c.send(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: up.requests, 5)
    c.close()
    assert until(lambda: up.conns[0].resets, 5) == {1: CANCEL}


def test_cancel_resets_the_stream_only(h2):
    px, up = h2([early(lambda conn, stream, request: None), answer(body=b"next")])
    c = px.client()
    c.send(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n")
    until(lambda: up.requests, 5)
    c.close()
    assert list(until(lambda: up.conns[0].resets, 5)) == [1]
    assert px.get("/next").body == b"next"
    assert up.connections == 1 and px.stat("cluster.up.upstream_rq_tx_reset") == 1 and px.stat("cluster.up.http2.tx_reset") == 1


def test_timeout_resets_the_stream_only(h2):
    px, up = h2([early(lambda conn, stream, request: None), answer()], route={"timeout": "0.1s"})
    assert px.get("/slow").status == 504
    assert list(until(lambda: up.conns[0].resets, 5)) == [1]
    assert px.get("/").status == 200 and up.connections == 1


def test_an_answer_before_the_end_of_the_request(h2):
    px, up = h2([early(lambda conn, stream, request: conn.reply(stream, 413, b"enough")), answer()])
    with px.client() as c:
        c.send(b"POST /big HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nxx")
        assert c.response().status == 413
    until(lambda: 1 in up.conns[0].resets, 5)
    assert px.get("/").status == 200 and up.connections == 1


def test_max_requests_per_connection(h2):
    px, up = h2(options={"common": {"max_requests_per_connection": 2}})
    with px.client() as c:
        for _ in range(5):
            assert c.get("/").status == 200
    assert [r.connection for r in up.requests] == [1, 1, 2, 2, 3]
    assert px.stat("cluster.up.upstream_cx_max_requests") == 2


def test_concurrent_streams_of_the_peer(h2):
    hold = threading.Event()
    px, up = h2([early(lambda conn, stream, request: None)], settings={3: 2})
    clients = [px.client() for _ in range(3)]
    for n, c in enumerate(clients):
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: len(up.requests) == n + 1, 5)
    assert [r.connection for r in up.requests] == [1, 1, 2]
    hold.set()
    for c in clients:
        c.close()


def test_keepalive_closes_a_silent_connection(h2):
    def mute(conn, stream, request):
        conn.frame = lambda *a, **k: None
    px, up = h2([mute, answer()], options={"connection_keepalive": {"interval": "0.05s", "timeout": "0.1s"}})
    r = px.get("/")
    assert r.status == 503
    e = px.access_log()[0]
    assert e["flags"] == "UC" and e["details"] == "upstream_reset_before_response_started{connection_termination}"
    assert px.stat("cluster.up.http2.keepalive_timeout") == 1 and px.stat("cluster.up.upstream_cx_destroy_local_with_active_rq") == 1


def test_informational_answers(h2):
    def hints(conn, stream, request):
        conn.headers(stream, [(":status", "103"), ("link", "</x>")])
        conn.headers(stream, [(":status", "100")])
        conn.reply(stream)
    px, _ = h2([hints])
    assert px.get("/").status == 200
    assert px.stat("cluster.up.upstream_rq_completed") in (2, 3)  # the peer counts the first of them only


def test_trailers_both_ways(h2):
    px, up = h2([answer(trailers=[("x-up", "1")])], hcm={"http_protocol_options": {"enable_trailers": True}})
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-down: 2\r\n\r\n")
        r = c.response()
    assert r.body == b"ok" and r.trailers == [("x-up", "1")]
    assert up.requests[0].trailers == [("x-down", "2")] and up.requests[0]["te"] == "trailers"


def test_websocket_is_an_extended_connect(h2):
    def accept(conn, stream, request):
        conn.headers(stream, [(":status", "200")])
        conn.data(stream, b"hello", end=False)
    px, up = h2([early(accept)], settings={8: 1}, options={"allow_connect": True}, hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    with px.client() as c:
        c.send(b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n")
        head = c.response("HEAD")
        assert head.status == 101 and dict(head.headers)["upgrade"] == "websocket"
        assert c.stream.exactly(5, 5) == b"hello"
        c.send(b"world")
        until(lambda: up.requests[0].body == b"world", 5)
    h = dict(up.requests[0].headers)
    assert (h[":method"], h[":protocol"], h[":path"], h[":authority"]) == ("CONNECT", "websocket", "/chat", "a")
    assert "connection" not in h and "upgrade" not in h


def test_websocket_refused(h2):
    px, up = h2([early(answer(403, b"no"))], settings={8: 1}, options={"allow_connect": True}, hcm={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    with px.client() as c:
        c.send(b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert c.response().status == 403


def test_connect_is_a_stream(h2):
    px, up = h2([early(lambda conn, stream, request: conn.headers(stream, [(":status", "200")]))], hcm={
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"connect_matcher": {}}, "route": {"cluster": "up", "upgrade_configs": [{"upgrade_type": "CONNECT"}]}}]}]}})
    with px.client() as c:
        c.send(b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n")
        assert c.response("HEAD").status == 200
        c.send(b"ping")
        until(lambda: up.requests[0].body == b"ping", 5)
        up.conns[0].data(1, b"pong", end=True)
        assert c.stream.exactly(4, 5) == b"pong"
    h = dict(up.requests[0].headers)
    assert h[":method"] == "CONNECT" and h[":authority"] == "db:5432" and ":path" not in h and ":scheme" not in h
