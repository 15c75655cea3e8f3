"""B2: the services of samples/bookinfo, each asked directly: paths, fields, environment and faults as people know them."""
import http.client
import json
import threading

import pytest

from samples import Shop, get, load
from upstream import Upstream
from wire import HOST, free_port


@pytest.fixture(scope="module")
def shop():
    s = Shop()
    for service in ("productpage", "details", "ratings"):
        s.start(service)
    s.start("reviews", SERVICE_VERSION="v2", ENABLE_RATINGS="true", STAR_COLOR="black")
    yield s
    s.close()


def test_details(shop):
    d = shop.json("details", "/details/0")
    assert d["id"] == 0 and d["author"] == "William Shakespeare" and d["ISBN-10"] == "1234567890" and d["pages"] == 200
    assert shop.get("details", "/details/x")[0] == 400 and shop.get("details", "/elsewhere")[0] == 404


@pytest.mark.parametrize("version,env,stars", [("v1", {}, None), ("v2", {"ENABLE_RATINGS": "true"}, "black"),
                                               ("v3", {"ENABLE_RATINGS": "true", "STAR_COLOR": "red"}, "red")])
def test_versions_of_reviews(shop, version, env, stars):
    shop.start("reviews", SERVICE_VERSION=version, **env)
    status, headers, text = shop.get("reviews", "/reviews/0")
    r = json.loads(text)
    assert status == 200 and headers["x-served-by"] == f"reviews-{version}" and r["podname"] == "reviews-1" and len(r["reviews"]) == 2
    assert [x.get("rating") for x in r["reviews"]] == ([{"stars": 5, "color": stars}, {"stars": 4, "color": stars}] if stars else [None, None])


def test_page(shop):
    status, headers, page = shop.get("productpage", "/productpage")
    assert status == 200 and headers["content-type"].startswith("text/html") and "The Comedy of Errors" in page
    assert "reviews-v3, pod reviews-1" in page and page.count("&#9733;") == 10 and "Sign in" in page
    assert [p["id"] for p in shop.json("productpage", "/api/v1/products")] == [0]
    assert shop.json("productpage", "/api/v1/products/0") == shop.json("details", "/details/0")
    assert shop.json("productpage", "/api/v1/products/0/reviews")["id"] == "0" and shop.json("productpage", "/api/v1/products/0/ratings")["ratings"]["Reviewer1"] == 5
    assert shop.get("productpage", "/api/v1/products/0/x")[0] == 404


def test_signing_in(shop):
    status, headers, _ = shop.get("productpage", "/login", data=b"username=jason&passwd=x")
    assert status == 302 and headers["location"] == "/productpage"
    cookie = headers["set-cookie"].partition(";")[0]
    assert "<span>jason</span>" in shop.get("productpage", "/productpage", headers={"cookie": "a=b; " + cookie})[2]
    assert "Max-Age=0" in shop.get("productpage", "/logout")[1]["set-cookie"]
    for bad in (b"username=%3Cscript%3E", b"username=", b"username=" + b"a" * 33, b"user=jason"):
        assert shop.get("productpage", "/login", data=bad)[0] == 400
    assert "Sign in" in shop.get("productpage", "/productpage", headers={"cookie": "session=<script>"})[2]


def test_what_is_passed_on(shop):
    """Trace, person and tokens go with the calls; nothing else does."""
    seen = Upstream("details", None)
    shop.start("productpage", DETAILS_SERVICE_PORT=str(seen.port))
    sent = {"x-request-id": "r1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-b3-traceid": "a", "authorization": "Bearer x",
            "cookie": "session=jason", "x-other": "no"}
    shop.get("productpage", "/api/v1/products/0", headers=sent)
    got = {n.lower(): v for n, v in ((x.decode(), y.decode()) if isinstance(x, bytes) else (x, y) for x, y in seen.requests[0].headers)}
    assert {k: got.get(k) for k in sent} == {**sent, "x-other": None} and got["end-user"] == "jason"
    seen.close()
    shop.start("productpage")


def test_without_the_others(shop):
    shop.stop("details")
    shop.stop("ratings")
    page = shop.get("productpage", "/productpage")[2]
    assert "did not give them" in page and page.count("ratings did not answer") == 2 and "Connection refused" in page
    shop.stop("reviews")
    assert shop.get("productpage", "/productpage")[2].count("did not give them") == 2
    assert shop.get("productpage", "/api/v1/products/0")[0] == 503
    for service in ("details", "ratings"):
        shop.start(service)
    shop.start("reviews", SERVICE_VERSION="v3", ENABLE_RATINGS="true", STAR_COLOR="red")
    assert shop.get("productpage", "/productpage")[2].count("&#9733;") == 10


def test_faults_of_ratings(shop):
    shop.start("ratings", SERVICE_VERSION="v-faulty")
    assert [shop.get("ratings", "/ratings/0")[0] for _ in range(4)] == [503, 200, 503, 200]
    assert "rating" in shop.get("reviews", "/reviews/0")[2]
    shop.start("ratings")


def test_a_client_that_goes_while_others_are_asked(shop):
    """The answer that nobody waits for any more hurts nothing."""
    slow = Upstream("details", None)
    free = threading.Event()
    slow.script[0].hold = free
    shop.start("productpage", DETAILS_SERVICE_PORT=str(slow.port))
    c = http.client.HTTPConnection(HOST, shop.ports["productpage"])
    c.request("GET", "/productpage")
    c.close()
    free.set()
    slow.close()
    shop.start("productpage")
    assert shop.get("productpage", "/productpage")[0] == 200


def test_load(shop):
    url = shop.url("productpage", "/api/v1/products/0")
    said, code = load("--rate", 200, "--seconds", 0.5, url)
    assert code == 0 and 90 <= said["requests"] <= 101 and said["status"] == {"200": said["requests"]} and 0 < said["ms"]["p50"] <= said["ms"]["max"] * 1.03
    said, code = load("--requests", 40, "--connections", 3, "--header", "x-request-id: q", url)
    assert code == 0 and said["requests"] == 40 and said["served_by"] == {"productpage-v1": 40}
    said, code = load("--requests", 2, f"http://{HOST}:{free_port()}/")
    assert code == 1 and said["errors"] == 2 and said["last_error"] == "Connection refused"


def test_metrics(shop):
    text = get(shop.url("details", "/metrics"))[2]
    assert 'bookinfo_answers_total{service="details",version="v1",code="2xx"} ' in text
