"""Request syntax: start lines, header lines, hosts, targets and limits (rows H1, B01-B18)."""
import json
import ssl

import pytest

import config
from evidence import PROTOCOL_ERROR, VIA_UPSTREAM, told
from http1 import exchange
from upstream import Reply
from wire import free_port, until

GET = "GET / HTTP/1.1\r\nHost: a\r\n"
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 190
stricter = pytest.mark.stricter


CODEC_ERROR, BYTES, URL, SCHEME, VERSION, LARGE = [
    *("http1." + x for x in ("codec_error", "invalid_characters", "invalid_url", "invalid_scheme")), "low_version", "http1.headers_too_large"]
AUTHORITY = "http.invalid_authority"


def refused(px, up, data, status, details, flags="DPE", counter=PROTOCOL_ERROR):
    with told(px, details, flags, status, counter):
        got, end = exchange(px, up, data, 2)
    assert [m.status for m in got] == [status] and end != "open" and up.requests == []


# id, what is sent, status, why: a codec error, flag DPE
CODEC = [
    ("B03-nul-value", GET + "X-A: a\0b\r\n\r\n", 400, BYTES), ("B03-ctl-value", GET + "X-A: a\x01b\r\n\r\n", 400, BYTES),
    ("B03-del-value", GET + "X-A: a\x7fb\r\n\r\n", 400, BYTES), ("B03-nul-name", GET + "X\0A: a\r\n\r\n", 400, BYTES),
    ("B05-space-before-colon", GET + "X-A : a\r\n\r\n", 400, CODEC_ERROR), ("B05-leading-space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, CODEC_ERROR),
    ("B05-no-colon", GET + "X-A\r\n\r\n", 400, CODEC_ERROR), ("B05-empty-name", GET + ": a\r\n\r\n", 400, CODEC_ERROR), ("B05-bad-name", GET + "X(A): a\r\n\r\n", 400, CODEC_ERROR),
    ("B07-ftp", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, SCHEME),
    ("B08-get-star", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL),
    ("B10-no-slash", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR), ("B10-space", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B10-nul", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, BYTES), ("B10-8bit", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B12-lower-case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR), ("B12-unknown", "GETX / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B12-bad-byte", "G{T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B13-1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 426, VERSION), ("B13-2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 426, VERSION),
    ("B13-0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 426, VERSION), ("B13-0.9-bare", "GET /\r\n\r\n", 426, VERSION),
    ("B13-1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426, VERSION),
    ("B13-1.01", "GET / HTTP/1.01\r\nHost: a\r\n\r\n", 400, CODEC_ERROR), ("B13-case", "GET / hTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B16-binary", b"\x80\x81\x82\xff\xfe\r\n\r\n", 400, CODEC_ERROR), ("B16-client-hello", TLS_HELLO, 400, CODEC_ERROR),
    ("B15-101-headers", GET + "".join(f"x-{i}: 1\r\n" for i in range(100)) + "\r\n", 431, "http1.too_many_headers"),
    ("B15-large-header", GET + "X-A: " + "a" * 61500 + "\r\n\r\n", 431, LARGE),
    ("B15-large-path", "GET /" + "a" * 61500 + " HTTP/1.1\r\nHost: a\r\n\r\n", 431, LARGE),
]


@pytest.mark.parametrize("data,status,details", [r[1:] for r in CODEC], ids=[r[0] for r in CODEC])
def test_codec_refuses(px, up, data, status, details):
    refused(px, up, data, status, details)


# The same where the peer is laxer: a line that two readers take apart differently is refused
STRICT = [
    ("B02-bare-cr", GET + "X-A: a\rX-B: b\r\n\r\n", 400, BYTES), ("B02-cr-end", GET + "X-A: a\r\r\n\r\n", 400, BYTES),
    ("B06-two-hosts", GET + "Host: b\r\n\r\n", 400, "http1.duplicate_host"), ("B06-at", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, AUTHORITY),
    ("B11-tab", "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    ("B11-blank-behind-version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, CODEC_ERROR),
    *[(f"B17-{n}", GET + f"Connection: {n}\r\n\r\n", 400, "http1.connection_header_rejected") for n in ("host", ":path", ":authority", ":method")],
]


@stricter
@pytest.mark.parametrize("data,status,details", [r[1:] for r in STRICT], ids=[r[0] for r in STRICT])
def test_stricter_than_envoy(px, up, data, status, details):
    refused(px, up, data, status, details)


@stricter
def test_no_body_behind_the_answer_to_a_bad_head(px, up):
    with px.client() as c:
        answer = c.send("HEAD / HTTP/1.1\r\nHost: a\r\nX-A: a\x01b\r\n\r\n").response("HEAD")
        assert answer.status == 400 and c.ended() == "eof" and c.stream.buf == b"" and up.requests == []


# id, what is sent, status, why, the counter: refused above the codec, as an ordinary local reply where the flag is -
IN = "http.in.downstream_rq_"
LOCAL = [
    ("B06-missing", "GET / HTTP/1.1\r\n\r\n", 400, "missing_host_header", "-", IN + "4xx"),
    ("B06-slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, AUTHORITY, "DPE", PROTOCOL_ERROR),
    ("B06-space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, AUTHORITY, "DPE", PROTOCOL_ERROR),
    ("B08-options-star", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, "absolute_path_rejected", "-", IN + "non_relative_path"),
    ("B09-connect", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nraw bytes", 404, "route_not_found", "NR", "http.in.no_route"),
    ("B10-fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "path_normalization_failed", "-", IN + "failed_path_normalization"),
    ("B17-xff", GET + "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 400, "http1.connection_header_rejected", "DPE", PROTOCOL_ERROR),
]


@pytest.mark.parametrize("data,status,details,flags,counter", [r[1:] for r in LOCAL], ids=[r[0] for r in LOCAL])
def test_manager_refuses(px, up, data, status, details, flags, counter):
    with told(px, details, flags, status, counter):
        got, _ = exchange(px, up, data, 1)
    assert [m.status for m in got] == [status] and up.requests == []


def target(value):
    return lambda r: r.target == value


def header(name, value):
    return lambda r: r.get(name) == value


# id, what is sent, what must be true of the one request that the upstream saw
PASSED = [
    ("B01-bare-lf", "GET / HTTP/1.1\nHost: a\nX-A: b\n\n", header("x-a", "b")),
    ("B03-8bit-value", GET + "X-A: \x80\xff\r\n\r\n", header("x-a", "\x80\xff")),
    ("B04-folded", GET + "X-A: a\r\n b\r\n\r\n", header("x-a", "a b")),
    ("B07-absolute", "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", lambda r: (r.target, r.get("host")) == ("/x?y", "b:81")),
    ("B07-absolute-bare", "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", lambda r: (r.target, r.get("host")) == ("/", "b")),
    ("B11-two-spaces", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", target("/x")),
    ("B14-blank-lines", "\r\n" * 100 + GET + "\r\n", target("/")),
    ("B15-59000", GET + "X-A: " + "a" * 59000 + "\r\n\r\n", header("x-a", "a" * 59000)),
]


@pytest.mark.parametrize("data,seen", [r[1:] for r in PASSED], ids=[r[0] for r in PASSED])
def test_passed_in_one_form(px, up, data, seen):
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 1}):
        got, end = exchange(px, up, data, 1)
    assert [m.status for m in got] == [200] and end == "open"
    assert len(up.requests) == 1 and seen(up.requests[0]), up.requests


@stricter
def test_b17_nominated_cookie_is_kept(px, up):
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 1}):
        exchange(px, up, GET + "Connection: cookie\r\nCookie: session=1\r\n\r\n", 1)
    assert up.requests[0].get("cookie") == "session=1"


@stricter
def test_b14_blank_lines_are_bounded(px, up):
    with told(px, CODEC_ERROR, "DPE", 400, PROTOCOL_ERROR), px.client(timeout=5) as c:
        before = px.memory_kib()
        c.send("\r\n" * 500000)
        assert px.grown_kib(before) < 1024
    assert up.requests == []


JUNK = "\x1b[31m\"{}%n\\"


def test_b18_log_injection(px, up):  # one line of valid JSON a request, nothing raw in it
    with told(px, VIA_UPSTREAM, "-", 200, {PROTOCOL_ERROR: 0, "cluster.up.upstream_rq_200": 1}):
        got, _ = exchange(px, up, f"GET /junk HTTP/1.1\r\nHost: a\r\nUser-Agent: {JUNK[1:]}\xff\xc0\r\n\r\n", 1)
    entry = px.wait_log(lambda e: e["path"] == "/junk")
    assert got[0].status == 200 and entry["agent"].startswith(JUNK[1:])
    with told(px, CODEC_ERROR, "DPE", 400, PROTOCOL_ERROR):
        exchange(px, up, f"GET /{JUNK} HTTP/1.1\r\nHost: a\r\n\r\n", 1)
    px.access_log()  # every line parses
    assert "\x1b" not in px.access_path.read_text("utf-8", "replace")


def test_b18_junk_in_admin_pages(px, up):  # H07: names of statistics come from configuration, never from requests
    exchange(px, up, "GET /<script> HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n", 1)
    for page in ("/stats", "/stats/prometheus", "/clusters", "/"):
        assert "<script>alert" not in px.admin(page)[1]
    json.loads(px.admin("/stats?format=json")[1])


def client_hello(name):
    out = ssl.MemoryBIO()
    stand_in = "x" * len(name)
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=stand_in).do_handshake()
    return out.read().replace(stand_in.encode(), name)


@pytest.mark.parametrize("form", ["json", "text"])
def test_b18_server_names(mesh, form):
    """The one text of a client that no codec has looked at: it breaks neither kind of line."""
    mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", {**config.LOG_FIELDS, "sni": "%REQUESTED_SERVER_NAME%"})
    if form == "text":
        log["typed_config"]["log_format"] = {"text_format_source": {"inline_string": "sni %REQUESTED_SERVER_NAME%\n"}}
    inspector = config.ext("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    manager = config.hcm([config.route()], log=log)
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager], listener_filters=[inspector])],
                                          [config.cluster("up", [mesh.upstreams[0].port])], free_port()))
    with told(px, moved="http.in.downstream_cx_protocol_error"), px.client() as c:
        assert c.send(client_hello(b"\x1b[31m\r\n\x07\xff{}%n.test")).response().status == 400
    raw = until(lambda: px.access_path.read_bytes(), what="a line")
    assert raw.count(b"\n") == 1 and b"invalid:__31m_______n.test" in raw


def test_b18_names_of_statistics_in_prometheus(mesh):
    """A label's value is quoted, whatever the configuration named."""
    up = mesh.upstream(name='a"b{c="d"}\\e')
    px = mesh.proxy()
    assert px.get("/").status == 200 and len(up.requests) == 1
    lines = [x for x in px.admin("/stats/prometheus")[1].splitlines() if x.startswith("envoy_cluster_upstream_rq_total")]
    assert lines == ['envoy_cluster_upstream_rq_total{envoy_cluster_name="a\\"b{c=\\"d\\"}\\\\e"} 1']


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_split_gives_the_same(px, up, size):
    data = (GET + "X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n").encode()
    up.script = [Reply(200, b"split")]
    with px.client() as c:
        for i in range(0, len(data), size):
            c.send(data[i:i + size])
        assert c.response().body == b"split"
    assert up.requests[0].body == b"abcd" and up.errors == []
