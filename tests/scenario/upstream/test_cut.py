"""Ends at every byte: answers that an upstream leaves half, requests that a client leaves half (F08, H1, H4)."""
import pytest

import config
from evidence import told
from upstream import Raw, Reply, Reset
from wire import free_port, reset, until

HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + b"X-A: b\r\nContent-Length: 12\r\n\r\nhello, world"
CHUNKED = HEAD + b"X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\na;x=1\r\n0123456789\r\n0\r\n\r\n"
TRAILERS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\nX-T: 1\r\n\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"
ANSWERS = {"length": LENGTH, "chunked": CHUNKED, "trailers": TRAILERS, "100-continue": EARLY}


def final_head_end(answer):
    return answer.index(b"\r\n\r\n", answer.index(b"HTTP/1.1 200")) + 4


UP = "cluster.up.upstream_"


def cut_at(n, body, interim=0):
    """(code, flags, details) of an answer whose upstream goes after n bytes; its head ends at `body`, a 1xx before it at `interim`."""
    between = n in (0, interim)
    when, why = "after" if 0 < interim <= n or n >= body else "before", "connection_termination" if between else "protocol_error"
    return 503 if between else 502 if n < body else 200, "UC" if between else "UPE", f"upstream_reset_{when}_response_started{{{why}}}"


def seen(entry):
    return entry["code"], entry["flags"], entry["details"]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_f08_upstream_dies_at_any_byte(px, up, kind, end):
    """Before the answer's head is whole the client gets 502 or 503; behind it an answer that is visibly cut. Never a hang."""
    answer = ANSWERS[kind]
    body, interim = final_head_end(answer), answer.index(b"HTTP/1.1 200")
    before = px.stats("^" + UP)
    for n in range(len(answer)):
        up.script = [Raw(answer[:n]) if end == "close" else Reset(answer[:n])]
        with px.client() as c:
            c.send(f"GET /{kind}-{end}-{n} HTTP/1.1\r\nHost: a\r\n\r\n")
            if n < body:
                r = c.response()
                assert r.status in (502, 503), n
            elif end == "reset":  # the kernel may throw away what was sent before the RST
                try:
                    assert c.response().status in (502, 503), n
                except EOFError:
                    pass
            else:
                with pytest.raises(EOFError):
                    c.response()
    logged = [seen(px.wait_log(lambda e: e["path"] == f"/{kind}-{end}-{n}")) for n in range(len(answer))]
    for n, e in enumerate(logged):
        assert e == cut_at(n, body, interim) or end == "reset" and e == cut_at(0, body), (n, e)
    until(lambda: px.stat(UP + "rq_active") == px.stat(UP + "cx_active") == 0, what="the upstream connections to end")
    moved = {k[len(UP):]: v - before.get(k, 0) for k, v in px.stats("^" + UP).items()}
    broken = sum(flags == "UPE" for _, flags, _ in logged)
    assert moved["cx_protocol_error"] == broken and moved["cx_destroy_remote_with_active_rq"] == len(answer)
    assert moved.get("rq_503", 0) + moved.get("rq_502", 0) == sum("before_response" in details for _, _, details in logged)
    up.script = [Reply()]
    assert px.get("/").status == 200
    assert px.stat(UP + "rq_active") == 0 and px.stat("http.in.downstream_rq_active") == 0


def test_an_answer_without_length_ends_with_its_connection(px, up):
    """The one framing in which a close is the end (RFC 9112 6.3)."""
    up.script = [Raw(HEAD + b"\r\nall of it")]
    assert px.get("/").body == b"all of it"


@pytest.mark.stricter
def test_f08_an_answer_without_length_is_cut_by_a_reset(px, up):
    up.script = [Reset(HEAD + b"\r\nhalf of it")]
    with told(px, moved=UP + "cx_destroy_remote_with_active_rq"), px.client() as c:
        c.send("GET /rst HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert c.response().status == 503
        except EOFError:
            pass
    assert seen(px.wait_log(lambda e: e["path"] == "/rst")) in (cut_at(100, 50), cut_at(0, 50))  # who overtook whom


def test_no_other_try_behind_1xx(mesh):
    """The client was told of this one (H8)."""
    up = mesh.upstream(script=[Raw(b"HTTP/1.1 103 X\r\nlink: </a>\r\n\r\n"), Reply(200, b"second")])
    retry = {"retry_on": "5xx,reset", "num_retries": 3}
    px = mesh.proxy(routes=[config.route("/", retry_policy=retry)])
    with told(px, cut_at(5, 99, 5)[2], "UC", 503, {UP + "rq_retry": 0, UP + "cx_destroy_remote_with_active_rq": 1, "http.in.downstream_rq_5xx": 1}), px.client() as c:
        r = c.get("/")
    assert r.status == 503 and len(up.requests) == 1


REQUESTS = {
    "length": b"POST /r HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: 12\r\n\r\nhello, world",
    "chunked": b"POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "trailers": b"POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\nX-T: 1\r\n\r\n",
}


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_client_leaves_at_any_byte(px, up, kind, end):
    """An upstream never sees a cut request as a whole one, and nothing of it stays."""
    request = REQUESTS[kind]
    for n in range(len(request)):
        c = px.client()
        c.send(request[:n])
        if end == "reset":
            reset(c.sock)
        elif end == "half-close":
            c.sock.shutdown(1)
            assert c.ended(5) in ("eof", "reset"), n
            c.close()
        else:
            c.close()
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, what="the connections to end")
    until(lambda: px.stat("cluster.up.upstream_rq_active") == 0, what="the requests to end")
    until(lambda: all(r.framing == "cut" for r in up.requests), what="requests to be cut")
    assert px.get("/").status == 200
    assert px.stat("http.in.downstream_rq_active") == 0


@pytest.mark.parametrize("end", ["close", "reset"])
def test_client_leaves_during_the_answer(mesh, end):
    """The upstream's connection goes with it: its answer has nowhere to go."""
    up = mesh.upstream(script=[Raw(HEAD + b"Content-Length: 100000000\r\n\r\n" + b"x" * 1000, close=False)])
    px = mesh.proxy()
    for n in (0, 1, 17, 500):
        c = px.client()
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        c.stream.until(b"\r\n\r\n", 5)
        c.stream.exactly(n, 5)
        if end == "reset":
            reset(c.sock)
        else:
            c.close()
    until(lambda: px.stat("cluster.up.upstream_cx_active") == 0, what="the upstream connections to end")
    assert px.stat("cluster.up.upstream_rq_active") == 0
    assert all("DC" in e["flags"] and e["details"] == "downstream_remote_disconnect" for e in px.access_log(4))
    assert up.connections == 4


@pytest.mark.parametrize("end", ["close", "reset"])
def test_reset_at_any_byte_is_retried_once(mesh, end):
    """Before the answer's head is whole another try is allowed; behind it none (H8)."""
    up = mesh.upstream()
    retry = {"retry_on": "reset", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}}
    px = mesh.proxy(routes=[config.route("/", retry_policy=retry)])
    body = LENGTH.index(b"\r\n\r\n") + 4
    for n in range(0, len(LENGTH), 3):
        up.script = [Raw(LENGTH[:n]) if end == "close" else Reset(LENGTH[:n]), Reply(200, b"second")]
        with px.client() as c:
            c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if n < body:
                r = c.response()
                assert r.status == 200 and r.body == b"second", n
            else:
                try:
                    assert c.response().body == b"second" and end == "reset"  # the RST overtook the head
                except EOFError:
                    pass
    assert px.stat("http.in.downstream_rq_active") == 0
