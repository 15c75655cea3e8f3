"""`mizzenctl explain` (O5, B2): the way through both proxies as they really go, with the documents' lines; requests that were, joined."""
import json

import ctl
from twopods import allowed, ask, line, net, node  # noqa: F401
from wire import until


def explain(net, *args, code=0):  # noqa: F811
    p = ctl.run("explain", "--mesh", net.sock.name, *args)
    assert p.returncode == code, p.stdout + p.stderr
    return p.stdout if code == 0 else p.stderr


def told(text, *lines):
    """In this order."""
    rest = text
    for l in lines:
        assert l in rest, f"{l!r} is missing in (or stands before):\n{text}"
        rest = rest.split(l, 1)[1]


def test_the_way_through_both_proxies(net):  # noqa: F811
    until(lambda: allowed(net), 20, "an answer")
    text = explain(net, "a", "http://b:8080/old/1?x", "-H", "end-user: jason")
    told(text, "GET http://b:8080/old/1?x from a-1.demo", "b is the host b.demo.svc.cluster.local of the mesh, port http", "Service demo/b  ", "b.yaml:7",
         f"is told {net.vip('b')}", "Out of a-1.demo", "port 15001 of its proxy (listener virtualOutbound)", f"serves {net.vip('b')}:8080",
         "b.demo.svc.cluster.local:8080 serves the host b:8080", "number 1 of 5", "VirtualService demo/b  ", line("match: [{uri: {prefix: /old}"), "3s for the whole request",
         "at most 4, on gateway-error", "the path's matched part becomes /new", "outbound|8080|v1|b.demo.svc.cluster.local", "v1 of b.demo.svc.cluster.local",
         "DestinationRule demo/b  ", line("- {name: v1"), "endpoint       10.11.0.2:8080", "the pod b-1.demo", "mutual; server name outbound_.8080_.v1_.b.demo.svc.cluster.local",
         "shows the certificate of spiffe://cluster.local/ns/demo/sa/a", "talks only to spiffe://cluster.local/ns/demo/sa/b", "Into b-1.demo", "STRICT",
         "PeerAuthentication demo/default  ", line("spec: {mtls"), "comes with TLS, from spiffe://cluster.local/ns/demo/sa/a", "port 15006 of its proxy (listener virtualInbound)",
         "it ends TLS; it reads HTTP", "fits rule 2 of AuthorizationPolicy demo/who: path prefix /new, client spiffe://cluster.local/ns/demo/sa/a\n", "AuthorizationPolicy demo/who  ", line("- from: [{source: {principals: [cluster.local/ns/demo/sa/a]"),
         "the application's port 8080", "It reaches the application of b-1.demo at 10.11.0.2:8080")
    got = ask(net, "/old/1?x", end_user="jason")  # it told the truth
    assert got.status == 200 and got.json["path"].startswith("/new")
    assert "/old" not in [a["path"] for a in net.agents["b"].pod.apps[0].asked][-1]
    said = json.loads(explain(net, "a", "b:8080/old/1", "-H", "end-user: jason", "-o", "json"))
    assert said["arrives"] and [h["pod"] for h in said["hops"][1:]] == ["a-1.demo", "b-1.demo"]
    assert any(o["where"] == line("- {name: v1") for h in said["hops"] for s in h["steps"] for o in s.get("decidedBy", ()))


def test_where_it_ends_and_requests_that_were(net):  # noqa: F811
    until(lambda: allowed(net), 20, "an answer")
    told(explain(net, "a", "http://b:8080/broken"), "not this", "route 1", "the proxy would answer it with 418 itself, always", line("prefix: /broken"), "The proxy of a-1.demo answers itself")
    assert ask(net, "/broken").status == 418
    told(explain(net, "a", "http://b:8080/lost"), "does not exist: no document makes it", line("prefix: /lost"), "It ends at the proxy of a-1.demo")
    assert ask(net, "/lost").status == 503
    told(explain(net, "a", "http://b:8080/else"), "number 5 of 5", "a copy of 5% of the requests", "Into b-1.demo", "does not fit rule 1 of AuthorizationPolicy demo/who, which is for: client spiffe://cluster.local/ns/demo/sa/nobody",
         "refused, 403", "It ends at the proxy of b-1.demo")
    told(explain(net, "a", "http://b:8080/split"), "outbound|8080|v1|b.demo.svc.cluster.local: 80% of the requests", "at most 7 requests that wait", line("connectionPool"),
         "fails 3 times in a row gets nothing for 30s", line("outlierDetection"), "outbound|8080||b.demo.svc.cluster.local: 20% of the requests",
         "one of those that go to outbound|8080|v1|b.demo.svc.cluster.local is followed", "outbound_.8080_.v1_.b")
    told(explain(net, "a", "http://b:8080/open", "--http2", "-X", "POST"), "POST http://b:8080/open", "It reaches the application of b-1.demo")
    refused = ask(net, "/else", x_request_id="11111111-2222-4333-8444-555555555555")
    assert refused.status == 403
    past = "11111111-2222-4333-8444-555555555555"
    told(until(lambda: "Into b-1.demo" in explain(net, "--request-id", past) and explain(net, "--request-id", past), 10, "the record"), "x-request-id " + past, "Into b-1.demo", "refused, 403",
         "answer         403")
    assert "no proxy kept a request with this id" in explain(net, "--request-id", "0", code=1)
    assert "no document of the mesh names this host" in explain(net, "a", "tcp://nobody.test:99", code=1)
    told(explain(net, "a", "http://nobody.test:99/"), "it is outside", "PassthroughCluster", "It leaves for 192.0.2.1:99")
    told(explain(net, "a", "http://other.test/x"), "ServiceEntry demo/outside  ", line("ports: [{number: 80"), "which its agent made up", "outbound|80||other.test",
         "ServiceEntry demo/outside  ", "rules.yaml:%d" % (int(line("kind: ServiceEntry").split(":")[1]) - 1), "It leaves for 10.9.9.9:80")
    told(explain(net, "a", "https://nobody.test/x"), "PassthroughCluster", "the application's own, which passes through", "It leaves for 192.0.2.1:443")
    told(explain(net, "a", "tcp://b:9000"), "outbound|9000||b.demo", "Into b-1.demo", "It ends at the proxy of b-1.demo")  # no rule allows bytes
    for args, says in ((("c", "http://b/"), 'no pod "c"'), (("a", "ftp://b/"), "the scheme is none of"), (("a", "http://b:0/"), "is no port"), ((), "requires a URL"),
                       (("a", "-H", "x", "http://b/"), "is no header"), (("a", "b", "c", "http://b/"), "are expected"), (("http://b/",), "from which pod?")):
        assert says in explain(net, *args, code=1), args
    a = net.agents["a"]
    with a.pod:  # without a mesh that can be asked: one proxy by its admin address, which knows the names of its routes
        p = ctl.run("explain", "--proxy-admin", "127.0.0.1:15000", "http://b:8080/open")
        told(p.stdout, "b is 10.96.0.2: the proxy's virtual hosts have both", "Out of a-1.demo", "endpoint       10.11.0.2:8080, chosen by", "It leaves for 10.11.0.2:8080")
        p = ctl.run("explain", "--proxy-admin", "127.0.0.1:15000", "http://nobody.test/")
        assert p.returncode == 1 and "--address gives it" in p.stderr
        told(ctl.run("explain", "--proxy-admin", "127.0.0.1:15000", "--address", "10.96.0.2", "http://other:8080/").stdout, "Out of a-1.demo", "serves the host other:8080")
        assert "a-1.demo" in ctl.run("requests", "--proxy-admin", "127.0.0.1:15000").stdout
        assert "Connection refused" in ctl.run("requests", "--proxy-admin", "127.0.0.1:1").stderr
