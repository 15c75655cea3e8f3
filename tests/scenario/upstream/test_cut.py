"""Ends at every byte: answers that an upstream leaves half, requests that a client leaves half (F08, H1, H4)."""
import pytest

import config
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


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_f08_upstream_dies_at_any_byte(px, up, kind, end):
    """Before the answer's head is whole the client gets 502 or 503; behind it an answer that is visibly cut. Never a hang."""
    answer = ANSWERS[kind]
    body = final_head_end(answer)
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
    for n in range(len(answer)):
        e = px.wait_log(lambda e: e["path"] == f"/{kind}-{end}-{n}")
        assert {"UC", "UPE"} & set(e["flags"].split(",")), e
        if n > body and end == "close":
            assert e["code"] == 200 and "upstream_reset_after_response_started" in e["details"], e
    up.script = [Reply()]
    assert px.get("/").status == 200
    assert px.stat("cluster.up.upstream_rq_active") == 0 and px.stat("http.in.downstream_rq_active") == 0


def test_an_answer_without_length_ends_with_its_connection(px, up):
    """The one framing in which a close is the end (RFC 9112 6.3)."""
    up.script = [Raw(HEAD + b"\r\nall of it")]
    assert px.get("/").body == b"all of it"


@pytest.mark.stricter
def test_f08_an_answer_without_length_is_cut_by_a_reset(px, up):
    up.script = [Reset(HEAD + b"\r\nhalf of it")]
    with px.client() as c:
        c.send("GET /rst HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert c.response().status in (502, 503)
        except EOFError:
            pass
    entry = px.wait_log(lambda e: e["path"] == "/rst")
    assert {"UC", "UPE"} & set(entry["flags"].split(","))


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
