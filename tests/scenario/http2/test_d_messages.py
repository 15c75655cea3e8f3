"""Messages that are none (rows H2, D12-D20): refused, nothing upstream, and the detail says why."""
import pytest

from evidence import PROTOCOL_ERROR as BAD_CONNECTION
from evidence import VIA_UPSTREAM, told
from h2_client import GET, POST, H2Client, frame
from h2_upstream import DATA, END_STREAM, PROTOCOL_ERROR
from upstream import Reply
from wire import until

stricter = pytest.mark.stricter
FIELD, RULE = "http2.invalid.header.field", "http2.violation.of.messaging.rule"


def without(name, fields=GET):
    return [(n, v) for n, v in fields if n != name]


def having(name, value, fields=GET):
    return [(n, value if n == name else v) for n, v in fields]


def invalid(px, details, code=0):
    return told(px, details, "DPE", code, "http2.rx_messaging_error")


def refused(px, up, fields, details, body=None, end=True):
    """An invalid message ends the connection, as in Envoy's default."""
    with invalid(px, details), H2Client(px.port) as c:
        c.request(1, fields, body, end)
        c.closed()
        assert not c.headers
    assert up.requests == [] and up.errors == []


BAD = ["a\r\nx-b: c", "a\nb", "a\rb", "a\0b"]
D12 = [(f"{what}-{i}", make(v)) for i, v in enumerate(BAD) for what, make in [
    ("value", lambda v: [*GET, ("x-a", v)]), ("name", lambda v: [*GET, (v, "x")]), ("path", lambda v: having(":path", "/" + v)),
    ("method", lambda v: having(":method", "GET" + v)), ("authority", lambda v: having(":authority", v))]]
D13 = [("upper", [*GET, ("X-Up", "1")]), ("empty", [*GET, ("", "1")]), ("colon", [*GET, ("a:b", "1")]), ("space", [*GET, ("a b", "1")])]
D15_FIELD = [("twice", [*GET, (":path", "/b")]), ("unknown", [*GET, (":x", "y")]), ("late", [*GET[:3], ("x", "y"), GET[3]]),
             ("status", [*GET, (":status", "200")]), ("scheme", having(":scheme", "http://x/")), ("empty-path", having(":path", ""))]
D17 = [(n, [*GET, (n, v)]) for n, v in [("connection", "close"), ("transfer-encoding", "chunked"), ("keep-alive", "5"), ("upgrade", "h2c"),
                                        ("te", "gzip"), ("proxy-connection", "close")]]
FIELDS = [("D12-" + n, f) for n, f in D12] + [("D13-" + n, f) for n, f in D13] + [("D15-" + n, f) for n, f in D15_FIELD] + \
    [("D17-" + n, f) for n, f in D17] + [("D20-extended", [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]])]
RULES = [("D15-no-method", without(":method")), ("D15-no-scheme", without(":scheme")), ("D15-no-path", without(":path")),
         ("D15-no-authority", without(":authority")), ("D15-slashless", having(":path", "x")),
         ("D15-star", having(":path", "*")), ("D18-with-end", [*GET, ("content-length", "4")])]


@pytest.mark.parametrize("fields", [f for _, f in FIELDS], ids=[n for n, _ in FIELDS])
def test_fields(px, up, fields):
    refused(px, up, fields, FIELD)


@pytest.mark.parametrize("fields", [f for _, f in RULES], ids=[n for n, _ in RULES])
def test_rules(px, up, fields):
    refused(px, up, fields, RULE)


def test_d15_fragment(px, up, client):
    with told(px, "path_normalization_failed", "-", 400, "http.in.downstream_rq_failed_path_normalization"):
        client.request(1, having(":path", "/a#b"))
        assert client.answer(1)[0] == 400
    assert up.requests == []


def test_d15_trailers(px, up):
    refused_trailers(px, up, [(":path", "/")], FIELD)


@stricter  # Envoy hands the blanks on
def test_d14_blanks_around_a_value(px, up, client):
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 1, "http2.rx_messaging_error": 0}):
        client.request(1, [*GET, ("x-a", " v\t ")])
        assert client.answer(1)[0] == 200
    assert up.requests[0].get("x-a") == "v"


def test_d16_host_beside_authority(px, up, client):
    with told(px, VIA_UPSTREAM, "-", 200, {"cluster.up.upstream_rq_200": 1, "http2.rx_messaging_error": 0}):
        client.request(1, [*GET, ("host", "other")])
        assert client.answer(1)[0] == 200
    assert [v for n, v in up.requests[0].headers if n.lower() == "host"] == ["a"]


D18 = [("below", "3", b"abcd", True, RULE), ("above", "5", b"abcd", True, RULE), ("list", "4, 4", b"abcd", True, FIELD), ("plus", "+4", b"abcd", True, FIELD),
       ("twice", ("4", "4"), b"abcd", True, FIELD)]


@stricter  # Envoy only resets the stream over a wrong sum
@pytest.mark.parametrize("length,body,end,details", [r[1:] for r in D18], ids=[r[0] for r in D18])
def test_d18_content_length(px, up, length, body, end, details):
    with invalid(px, details), H2Client(px.port) as c:
        c.request(1, [*POST, *[("content-length", v) for v in ([length] if isinstance(length, str) else length)]], body, end)
        c.closed()
        assert not c.headers
    assert all(r.framing == "cut" for r in up.requests)
    up.script = [Reply(body=b"next")]
    assert px.get("/").body == b"next"  # a body of wrong length never leaves a usable upstream connection


def refused_trailers(px, up, fields, details, end=True):
    with invalid(px, details), H2Client(px.port) as c:
        c.send(c.head(1, POST, end=False) + frame(DATA, 0, 1, b"x") + c.head(1, fields, end=end))
        c.closed()
        assert not c.headers
    assert all(r.framing == "cut" for r in up.requests)


@stricter  # content-length passes there
@pytest.mark.parametrize("fields,details,end", [([("x", "y")], RULE, False), ([("transfer-encoding", "chunked")], FIELD, True),
                                                ([("content-length", "1")], FIELD, True)], ids=["no-end", "transfer-encoding", "content-length"])
def test_d19_trailers(px, up, fields, details, end):
    refused_trailers(px, up, fields, details, end)


def test_d20_connect_is_not_enabled(mesh):
    mesh.upstream()
    px = mesh.proxy(routes=[{"match": {"connect_matcher": {}}, "route": {"cluster": "up"}}])
    with told(px, "upgrade_failed", "-", 403, {"http.in.downstream_rq_ws_on_non_ws_route": 1, BAD_CONNECTION: 0}), H2Client(px.port) as c:
        c.request(1, [(":method", "CONNECT"), (":authority", "a:1")], end=False)
        assert c.answer(1)[0] == 403
        c.wait(lambda: c.rst(1) == 0 or c.end, 5)  # and no more of it is wanted


def test_an_invalid_message_may_be_its_streams_matter(mesh):
    mesh.upstream()
    px = mesh.proxy(hcm={"http2_protocol_options": {"override_stream_error_on_invalid_http_message": True}})
    with H2Client(px.port) as c:
        c.request(1, [*GET, ("te", "gzip")])
        c.wait(lambda: c.rst(1) is not None)
        assert c.rst(1) == PROTOCOL_ERROR
        c.request(3)
        assert c.answer(3)[0] == 200
    assert px.wait_log(lambda e: e["code"] == 0)["details"] == FIELD
