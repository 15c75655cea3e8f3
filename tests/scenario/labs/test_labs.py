"""B1, B2 and the labs beside them: each folder of samples/ runs as its README says."""
import json
import ssl
import subprocess

import pytest

from labs import lab  # noqa: F401 (a fixture)
from mesh import find_proxy
from samples import BIN, ROOT
from wire import patient, until

API = "/api/v1/products/0"


def reviews(m, user=None, **headers):
    """The colour of the stars that somebody sees; None: there are none."""
    status, _, text = m.front(API + "/reviews", user, **headers)
    assert status == 200, text
    return json.loads(text)["reviews"][0].get("rating", {}).get("color")


def page_is_whole(m):
    return m.front()[0] == 200 and "did not" not in m.front(user="jason")[2] + "".join(m.front()[2] for _ in range(5))


def bookinfo(lab, name, **changes):  # noqa: F811
    m = lab(name, **changes)
    m.settle(lambda: page_is_whole(m))
    return m


def test_b1_two_layers(lab):  # noqa: F811
    m = lab("two-layer")
    m.settle(lambda: m.fetch("client.mark", "http://fortio-server:8070/")[0] == 200)
    status, _, text = m.fetch("client.mark", "http://fortio-server:8070/")
    assert status == 200 and text.startswith("fortio-server-l2 v1 says hello")
    status, _, head = m.fetch("client.mark", "http://fortio-server:8070/headers", x_request_id="11111111-2222-4333-8444-555555555555")
    assert "x-request-id: 11111111-2222-4333-8444-555555555555" in head
    assert "URI=spiffe://cluster.local/ns/mark/sa/default" in head
    said = json.loads(m.exec("client.mark", BIN / "mizzen-sample-load", "--requests", "40", "http://fortio-server.mark.svc.cluster.local:8070/"))
    assert said["status"] == {"200": 40} and said["errors"] == 0
    got = m.counted({("client", "fortio-server"): 42, ("fortio-server", "fortio-server-l2"): 42})
    assert got == {("client", "fortio-server"): 42, ("fortio-server", "fortio-server-l2"): 42}
    assert m.policies() == {"mutual_tls"}


def test_b2_bookinfo(lab):  # noqa: F811
    m = bookinfo(lab, "bookinfo")
    status, headers, page = m.front()
    assert status == 200 and "The Comedy of Errors" in page and headers["server"] == "istio-envoy"
    assert {reviews(m, "jason") for _ in range(5)} == {"black"}
    assert m.load("--requests", 200, "--connections", 4)()["status"] == {"200": 200}
    got = m.counted({("productpage-v1", "details-v1"): 201})
    v1, v3 = (got[("productpage-v1", f"reviews-{v}")] for v in ("v1", "v3"))
    assert v1 + v3 == 201 and 15 <= v3 <= 70 and got[("productpage-v1", "reviews-v2")] == 5
    assert m.policies() == {"mutual_tls"}
    # who may ask whom
    statuses = {src: m.fetch(src, "http://ratings:9080/ratings/0")[0] for src in ("reviews-v2", "productpage-v1", "details-v1")}
    assert statuses == {"reviews-v2": 200, "productpage-v1": 200, "details-v1": 403}
    assert m.fetch("ratings-v1", "http://details:9080/details/0")[0] == 403 and m.fetch("details-v1", "http://productpage:9080/productpage")[0] == 403
    # a rule is changed
    m.edit("reviews.yaml", "exact: jason", "exact: nobody")
    until(lambda: "black" not in {reviews(m, "jason") for _ in range(3)}, 10, "jason to be like others")


def test_canary(lab):  # noqa: F811
    m = bookinfo(lab, "canary")
    assert {reviews(m, cookie="a=b; canary=always") for _ in range(10)} == {"red"}
    assert m.load("--requests", 200, path=API + "/reviews")()["status"] == {"200": 200}
    got = m.counted({("productpage-v1", "reviews-v3"): 13})
    assert 3 <= got[("productpage-v1", "reviews-v3")] - 10 <= 45 and got[("productpage-v1", "reviews-v1")] + got[("productpage-v1", "reviews-v3")] == 210
    under_way = m.load("--rate", 50, "--seconds", 2, path=API + "/reviews")
    m.edit("reviews.yaml", "weight: 90", "weight: 0")
    until(lambda: {reviews(m) for _ in range(4)} == {"red"}, 10, "the other version for everybody")
    said = under_way()
    assert said["errors"] == 0 and set(said["status"]) == {"200"}, said


def test_fault(lab):  # noqa: F811
    m = bookinfo(lab, "fault", ratings=("fixedDelay: 7s", "fixedDelay: 1s"))  # the README's seven cost six of a test's
    assert "&#9733;" in m.front()[2]
    assert m.front(user="tester")[2].count("ratings did not answer") == 2
    status, _, text = m.front(user="jason")
    assert status == 200 and "&#9733;" in text
    until(lambda: {(src, dst, code, flags) for src, dst, code, flags in m.calls() if "I" in flags} >=
          {("reviews-v2", "unknown", "500", "FI"), ("reviews-v2", "ratings-v1", "200", "DI")}, 10, lambda: f"the faults in {m.calls()}")


def test_mirror(lab):  # noqa: F811
    m = bookinfo(lab, "mirror")
    assert {reviews(m) for _ in range(20)} == {None}
    got = m.counted({("productpage-v1", "reviews-v1"): 20, ("productpage-v1", "reviews-v3"): 20}, "destination")
    assert ("productpage-v1", "reviews-v2") not in got
    m.counted({("reviews-v3", "ratings-v1"): 20})


def test_egress(lab):  # noqa: F811
    m = lab("egress")
    m.settle(lambda: m.fetch("client.shop", "http://catalog.example.com/")[0] == 200)
    status, _, text = m.fetch("client.shop", "http://catalog.example.com/")
    assert status == 200 and text.startswith("catalog v1 says hello"), text
    m.counted({("client", "istio-egressgateway"): 1, ("istio-egressgateway", "catalog"): 1})
    heads = m.fetch("client.shop", "http://catalog.example.com/headers")[2]  # the gateway tells whose certificate it saw
    assert "By=spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway" in heads and "URI=spiffe://cluster.local/ns/shop/sa/default" in heads, heads
    assert m.fetch("client.shop", "http://192.0.2.1/", host="elsewhere.example.com")[0] == 502


def test_authorization(lab):  # noqa: F811
    m = bookinfo(lab, "authorization")

    def ask(path, who=None, token=None):
        token = token or (ROOT / "authorization" / f"{who}.jwt").read_text().strip() if who or token else None
        status, _, text = m.front(path, **({"authorization": f"Bearer {token}"} if token else {}))
        return status, text
    assert ask("/productpage")[0] == 200
    assert ask(API) == (403, "RBAC: access denied")
    assert ask(API, "alice")[0] == 200 and ask(API + "/ratings", "alice")[0] == 403
    assert ask(API + "/ratings", "carol")[0] == 200
    assert ask(API, "stale") == (401, "Jwt is expired")
    assert ask("/productpage", token="nonsense")[0] == 401
    assert m.fetch("details-v1", "http://ratings:9080/ratings/0")[0] == 403


def test_job(lab):  # noqa: F811
    m = lab("job")
    until(lambda: m.pod("nightly")["phase"] == "Succeeded", 20, lambda: f"the job to end: {m.states()}")
    nightly, store = m.pod("nightly"), m.pod("store")
    log = next(c["log"] for c in nightly["containers"] if c["name"] == "nightly")
    with open(log, encoding="utf-8") as f:
        said = json.loads(f.read())
    assert said["status"] == {"200": 20} and said["errors"] == 0
    assert store["phase"] == "Running" and store["ready"] and nightly["restarts"] == 0


def test_ingress_tls(lab, tmp_path):  # noqa: F811
    subprocess.run([ROOT / "ingress-tls/make-certificate.sh", tmp_path], check=True, capture_output=True)
    m = lab("ingress-tls", [tmp_path / "secret.yaml"])
    place = m.published("istio-ingressgateway", 443)
    trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))

    def page():
        """(status, serial number)"""
        import http.client
        import socket
        host, _, port = place.partition(":")
        with socket.create_connection((host, int(port)), timeout=patient(10)) as s, trust.wrap_socket(s, server_hostname="bookinfo.example.com") as t:
            c = http.client.HTTPConnection("bookinfo.example.com:8443")
            c.sock = t
            c.request("GET", "/productpage")
            return c.getresponse().status, t.getpeercert()["serialNumber"]

    def works():
        try:
            return page()
        except OSError:
            return None
    until(lambda: (works() or (0, 0))[0] == 200, 20, "the page over TLS")
    first = page()[1]
    status, headers, _ = m.front("/productpage", host="bookinfo.example.com")
    assert status == 301 and headers["location"].startswith("https://bookinfo.example.com")
    subprocess.run([ROOT / "ingress-tls/make-certificate.sh", tmp_path], check=True, capture_output=True)
    trust.load_verify_locations(cafile=str(tmp_path / "authority.pem"))
    m.write("secret.yaml", (tmp_path / "secret.yaml").read_text())
    until(lambda: (works() or (0, first))[1] != first, 20, "the new certificate")


def test_mixed(lab):  # noqa: F811
    envoy, why = find_proxy("envoy")
    if not envoy:
        pytest.skip(why)
    m = lab("mixed", lab=("/usr/bin/envoy", envoy))
    assert m.pod("front")["proxy"] == "envoy" and m.pod("back")["proxy"] == "mizzen"
    m.settle(lambda: m.fetch("client.mixed", "http://front:8070/")[0] == 200)
    status, _, text = m.fetch("client.mixed", "http://front:8070/")
    assert status == 200 and text.startswith("back v1 says hello")
    assert "URI=spiffe://cluster.local/ns/mixed/sa/default" in m.fetch("client.mixed", "http://front:8070/headers")[2]
    assert "BoringSSL" in json.loads(m.get("front", 15000, "/server_info")[1])["version"]  # ours has OpenSSL
