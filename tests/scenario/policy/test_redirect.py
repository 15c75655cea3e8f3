"""Redirects that the proxy follows itself are bounded, and meet the rules again (rows H8, C18)."""
import pytest

import config
from evidence import VIA_UPSTREAM, told
from upstream import Raw, Reply


def follow(**policy):
    return config.route("/follow", internal_redirect_policy={"redirect_response_codes": [301, 302, 303, 307, 308], **policy})


def routes(**policy):
    return [{"match": {"prefix": "/admin"}, "direct_response": {"status": 403}}, follow(**policy), config.route()]


def to(location, status=302):
    return Reply(status, b"", headers=[("location", location)])


@pytest.fixture
def chase(mesh):
    """(answer to a request for /follow, upstream, proxy) when the upstream's script is `steps`."""
    def run(*steps, method="GET", rest="\r\n", followed=False, details=VIA_UPSTREAM, **policy):
        up = mesh.upstream(script=list(steps))
        px = mesh.proxy(routes=routes(**policy))
        counter = "cluster.up.upstream_internal_redirect_%s_total" % ("succeeded" if followed else "failed")
        with told(px, details, "-", None, counter), px.client() as c:
            r = c.send(f"{method} /follow HTTP/1.1\r\nHost: a\r\n{rest}").response(method)
        assert up.errors == [] and px.get("/still").status
        up.requests = [q for q in up.requests if q.target != "/still"]
        return r, up, px
    return run


def test_c18_followed(chase):
    r, up, px = chase(to("http://a/next?q"), Reply(200, b"there"), followed=True)
    assert (r.status, r.body) == (200, b"there") and [q.target for q in up.requests] == ["/follow", "/next?q"]


def test_c18_denied_route_stays_denied(chase):
    r, up, _ = chase(to("http://a/admin/x"), followed=True, details="direct_response")
    assert r.status == 403 and len(up.requests) == 1


@pytest.mark.parametrize("location", ["http://a/x/../admin", "http://a//admin", "http://a/%61dmin"])
def test_c18_spelling_of_the_location(mesh, location):  # its path is made clean like that of a request
    up = mesh.upstream(script=[to(location), Reply(200, b"in")])
    px = mesh.proxy(routes=routes(), hcm={"normalize_path": True, "merge_slashes": True})
    with told(px, "direct_response", "-", 403, {"cluster.up.upstream_internal_redirect_succeeded_total": 1, "http.in.rq_direct_response": 1}):
        assert px.get("/follow").status == 403
    assert len(up.requests) == 1


def test_c18_loop_ends(chase):
    r, up, px = chase(to("http://a/follow"), max_internal_redirects=3)
    assert r.status == 302 and len(up.requests) == 4


@pytest.mark.parametrize("location", ["https://a/next", "ftp://a/next", "next", "", "http://", "http://a:99999/", "http://a b/", "//a/next", "http:///x"])
def test_c18_not_followed(chase, location):
    r, up, px = chase(to(location))
    assert r.status == 302 and r.get("location", "") == location and len(up.requests) == 1
    assert px.stat("cluster.up.upstream_internal_redirect_succeeded_total") == 0


@pytest.mark.stricter
def test_c18_userinfo_is_not_followed(chase):  # as in Host (B06)
    r, up, _ = chase(to("http://u@a/x"))
    assert r.status == 302 and len(up.requests) == 1


def test_c18_other_host(chase):
    r, up, _ = chase(to("http://b/next"), Reply(200, b"b"), followed=True)
    assert r.status == 200 and up.requests[1].get("host") == "b"


def test_c18_303_becomes_get_without_body(chase):
    r, up, _ = chase(to("http://a/next", 303), Reply(200, b"ok"), method="POST", rest="Content-Length: 4\r\n\r\nbody", followed=True)
    assert r.status == 200
    second = up.requests[1]
    assert (second.method, second.body) == ("GET", b"") and second.get("content-length") in (None, "0") and second.get("transfer-encoding") is None


def test_c18_303_without_body(chase):  # CVE-2026-47221
    r, up, _ = chase(to("http://a/next", 303), Reply(200, b"ok"), method="HEAD", followed=True)
    assert r.status == 200 and up.requests[1].method == "HEAD"


def test_c18_307_keeps_method_and_body(chase):
    r, up, _ = chase(to("http://a/next", 307), Reply(200, b"ok"), method="POST", rest="Content-Length: 4\r\n\r\nbody", followed=True)
    assert r.status == 200 and (up.requests[1].method, up.requests[1].body) == ("POST", b"body")


def test_c18_no_location(chase):
    r, up, _ = chase(Raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", close=False), Reply())
    assert r.status == 302 and len(up.requests) == 1
