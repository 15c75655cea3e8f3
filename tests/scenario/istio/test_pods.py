"""Traffic flows as the rules say, in pods with real capture: what Istio's control plane made of its bookinfo-like and mtls-authz cases (L2, T1, H5, H9, S1-S3)."""
import collections

import pytest

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import istio  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import until  # noqa: E402


PRODUCTPAGE, DETAILS, RATINGS, REVIEWS = "10.97.0.10", "10.97.0.11", "10.97.0.12", "10.97.0.13"  # services


@pytest.fixture
def bookinfo(node, mesh, certificates):  # noqa: F811
    golden = istio.load("bookinfo-like")
    pods = {}
    for name, ip, account in (("productpage", "10.11.0.10", "productpage"), ("details", "10.11.0.11", "details"), ("ratings", "10.11.0.12", "ratings"),
                              ("reviews-v1", "10.11.0.21", "reviews"), ("reviews-v2", "10.11.0.22", "reviews"), ("reviews-v3", "10.11.0.23", "reviews")):
        p = pods[name] = node.pod(name, ip, f"default/{account}")
        p.app(9080)
        p.sidecar(mesh, golden["productpage" if name == "productpage" else "reviews-v2"], certificates)
    for p in pods.values():
        p.wait_ready()
    return pods


def test_bookinfo(bookinfo):
    client = bookinfo["productpage"]
    asked = {n: p.apps[0].asked for n, p in bookinfo.items()}

    def details(path, **kw):
        return client.ask(DETAILS, 9080, path, "details:9080", **kw)

    def reviews(path, **kw):
        return client.ask(REVIEWS, 9080, path, "reviews:9080", **kw)
    # mutual TLS between the pods, without either application knowing
    r = details("/details/1").json
    who = r["headers"]["x-forwarded-client-cert"]
    assert r["app"] == "details" and r["peer"] == "127.0.0.6"
    assert "By=spiffe://cluster.local/ns/default/sa/details" in who and "URI=spiffe://cluster.local/ns/default/sa/productpage" in who
    # redirect, rewrites, an answer by the proxy
    r = details("/old")
    assert r.status == 308 and r.headers["location"] == "https://example.org/new"
    r = details("/legacy/7").json
    assert r["path"] == "/details/7" and r["headers"]["host"] == "details.internal"
    assert details("/item/42").json["path"] == "/details/42" and details("/item/x").json["path"] == "/item/x"
    r = details("/teapot")
    assert r.status == 503 and r.text == "short and stout"
    # CORS
    r = details("/x", method="OPTIONS", origin="https://shop.example.com", access_control_request_method="POST")
    assert r.status == 200 and r.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert r.headers["access-control-allow-methods"] == "GET,POST" and r.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in details("/x", origin="https://other.example.com").headers
    # the last route of details is mirrored to reviews v1
    until(lambda: any(a["path"] == "/item/x" and a["headers"]["host"] == "details:9080" for a in asked["reviews-v1"]), 5, "the mirror")
    # jason has reviews of v2 (and one of 200 is aborted)
    for _ in range(2):
        r = reviews("/reviews/0", end_user="jason")
        assert r.status == 418 or r.json["app"] == "reviews-v2"
    # everybody else by weight
    answers = [reviews("/reviews/0", x_drop="1") for _ in range(200)]
    by = collections.Counter(a.json["app"] for a in answers)
    assert 100 < by["reviews-v1"] < 178 and 12 < by["reviews-v2"] < 72 and 3 <= by["reviews-v3"] < 48, by
    for a in answers:
        h = a.json["headers"]
        assert h["x-split"] == "yes" and h["x-added"] == "HTTP/1.1" and "x-drop" not in h and "x-internal" not in a.headers
        assert a.headers.get("x-variant") == ("v1" if a.json["app"] == "reviews-v1" else None)
    # faults
    r = client.ask(RATINGS, 9080, "/", "ratings:9080", x_chaos="1", content_type="application/grpc")
    assert r.status == 200 and r.headers["grpc-status"] == "14"
    assert client.ask(RATINGS, 9080, "/", "ratings:9080").json["app"] == "ratings"
    s = client.stats("ssl.handshake|ssl.connection_error")
    assert s and not any("error" in k for k in s), s


def test_bookinfo_and_those_outside(bookinfo, node):  # noqa: F811
    """PERMISSIVE: plain text is taken too; and what no rule knows is passed on."""
    outside = node.pod("outside", "10.13.0.5")
    app = outside.app(7777)
    r = outside.ask("10.11.0.22", 9080).json
    assert r["app"] == "reviews-v2" and "x-forwarded-client-cert" not in r["headers"]
    bookinfo["reviews-v2"].logged("inbound|9080||")
    r = bookinfo["productpage"].ask("10.13.0.5", 7777, "/out").json
    assert r["app"] == "outside" and app.asked[0]["peer"] == "10.11.0.10"
    bookinfo["productpage"].logged("PassthroughCluster")


@pytest.fixture
def shop(node, mesh, certificates):  # noqa: F811
    golden = istio.load("mtls-authz")
    pods = {}
    for name, ip, namespace, ports in (("cart", "10.12.0.10", "shop", (8080, 9000, 9001)), ("pay", "10.12.0.11", "shop", (8080,)), ("old", "10.12.0.12", "legacy", (8080,))):
        p = pods[name] = node.pod(name, ip, f"{namespace}/{name}")
        for port in ports:
            p.app(port)
        p.sidecar(mesh, golden[name], certificates)
    pods["outside"] = node.pod("outside", "10.13.0.5", "other/outside")
    for p in (pods["cart"], pods["pay"], pods["old"]):
        p.wait_ready()
    return pods


CART, PAY, OLD = "10.98.0.10", "10.98.0.11", "10.98.0.12"


def refused(r):
    return r.status == 403 and r.text == "RBAC: access denied"


def test_shop(shop, certificates):
    cart, pay, old, outside = (shop[n] for n in ("cart", "pay", "old", "outside"))

    def to_cart(path, **kw):
        return pay.ask(CART, 8080, path, "cart:8080", **kw)
    # ALLOW: by principal, method and path
    assert to_cart("/cart/7/items").json["app"] == to_cart("/list/a/b").json["app"] == "cart" and to_cart("/any", method="DELETE").status == 200
    for path, method in (("/cart/7/8/items", "GET"), ("/cart/items", "GET"), ("/cart/7/items", "PUT"), ("/", "GET")):
        assert refused(to_cart(path, method=method)), path
    cart.logged("rbac_access_denied_matched_policy[none]")
    # DENY comes first: only from outside the cluster's range, and without a token for that host
    mine = certificates.context("shop/pay")
    assert outside.ask("10.12.0.10", 8080, "/cart/7/items", "cart:8080", tls=mine).json["app"] == "cart"
    assert refused(outside.ask("10.12.0.10", 8080, "/admin/x", "cart:8080", method="DELETE", tls=mine))
    cart.logged("rbac_access_denied_matched_policy[ns[shop]-policy[deny-admin]-rule[0]]")
    assert to_cart("/admin/x", method="DELETE").status == 200  # from within
    assert refused(outside.ask("10.12.0.10", 8080, "/cart/7/items", "a.cart.example.com", tls=mine))
    cart.logged("rbac_access_denied_matched_policy[ns[shop]-policy[deny-admin]-rule[1]]")
    # another identity, and none
    assert refused(outside.ask("10.12.0.10", 8080, "/cart/7/items", "cart:8080", tls=certificates.context("other/outside")))
    assert refused(old.ask(CART, 8080, "/cart/7/items", "cart.shop:8080"))
    # a token that is none
    assert to_cart("/cart/7/items", x_jwt="Token abc").status == 401
    # STRICT: no plain text
    for ip in ("10.12.0.10", "10.12.0.11"):
        with pytest.raises(OSError):
            outside.ask(ip, 8080, "/cart/7/items")
    assert len(cart.apps[0].asked) == 5  # the refused ones never came there
    # PERMISSIVE on 9000: taken, but no rule allows a connection of bytes; DISABLE on 9001: taken, HTTP, refused by the rules
    with pytest.raises(OSError):
        outside.ask("10.12.0.10", 9000)
    cart.logged("rbac_access_denied_matched_policy[none]")
    assert refused(outside.ask("10.12.0.10", 9001))
    # a dry run denies nothing
    assert cart.ask(PAY, 8080, "/refund/1", "pay:8080").json["app"] == "pay"
    assert sum(v for k, v in pay.stats("rbac.*shadow_denied").items()) == 1
    # nothing for anybody, without TLS
    assert refused(pay.ask(OLD, 8080, "/", "old.legacy:8080")) and refused(outside.ask("10.12.0.12", 8080)) and not old.apps[0].asked
    old.logged("rbac_access_denied_matched_policy[ns[legacy]-policy[deny-everything]-rule[0]]")
