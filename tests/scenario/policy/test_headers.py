"""No spelling of a host or header gets around a rule for it, and nobody outside sets what the proxy sets (rows H4, C09-C17)."""
import pytest

import config
from evidence import VIA_UPSTREAM, told
from wire import free_port

MUTATION = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
EDGE = {"use_remote_address": True}


def deny(status=403, prefix="/", **match):
    return {"match": {"prefix": prefix, **match}, "direct_response": {"status": status}}


def header_is(name, **match):
    return deny(headers=[{"name": name, "string_match": match}])


def host(name, domain, routes):
    return {"name": name, "domains": [domain], "routes": routes}


def hosts(*domains):
    return {"route_config": {"name": "local", "virtual_hosts": [*[host(d, d, [deny()]) for d in domains], host("rest", "*", [config.route()])]}}


def underscores(action):
    return {"common_http_protocol_options": {"headers_with_underscores_action": action}}


def set_role(value):
    change = {"append": {"header": {"key": "x-role", "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    return config.ext("envoy.filters.http.header_mutation", MUTATION, mutations={"request_mutations": [change]})


ROLE = [header_is("x-role", exact="evil"), config.route()]
MODES = {
    "host": ([config.route()], hosts("example.com")),
    "host-port": ([config.route()], {**hosts("example.com"), "strip_any_host_port": True}),
    "host-dot": ([config.route()], {**hosts("example.com"), "strip_any_host_port": True, "strip_trailing_host_dot": True}),
    "exact": (ROLE, {}),
    "contains": ([header_is("x-role", contains="evil"), config.route()], {}),
    "underscore": (ROLE, {}),
    "underscore-reject": (ROLE, underscores("REJECT_REQUEST")),
    "underscore-drop": (ROLE, underscores("DROP_HEADER")),
    "plain": ([config.route()], {}),
    "edge": ([config.route()], EDGE),
    "edge-hops": ([config.route()], {**EDGE, "xff_num_trusted_hops": 2}),
    "xfcc-sanitize": ([config.route()], {"forward_client_cert_details": "SANITIZE"}),
    "xfcc-set": ([config.route()], {"forward_client_cert_details": "SANITIZE_SET"}),
    "xfcc-forward": ([config.route()], {"forward_client_cert_details": "FORWARD_ONLY"}),
    "xfcc-always": ([config.route()], {"forward_client_cert_details": "ALWAYS_FORWARD_ONLY"}),
    "to-evil": (ROLE, {"filters": [set_role("evil")]}),
    "from-evil": (ROLE, {"filters": [set_role("good")]}),
}


@pytest.fixture(scope="module")
def ports():
    return {}


@pytest.fixture(scope="module")
def px(shared_mesh, ports):
    """One listener for each of MODES."""
    up = shared_mesh.upstream()
    listeners = []
    for mode, (routes, fields) in MODES.items():
        ports[mode] = free_port()
        manager = config.hcm(routes, log=config.access_log(shared_mesh.folder / "access.log"), **fields)
        listeners.append(config.listener(ports[mode], [manager], name=mode))
    return shared_mesh.proxy(boot=config.bootstrap(listeners, [config.cluster("up", [up.port])], free_port()))


WHY = {200: (VIA_UPSTREAM, "cluster.up.upstream_rq_200"), 403: ("direct_response", "http.in.rq_direct_response")}


def evidence(px, status):
    details, counter = WHY[status]
    return told(px, details, "-", status, counter)


@pytest.fixture
def ask(px, ports, up):
    """(status, the request as the upstream saw it, or None) of a GET through the listener of a mode."""
    def run(mode, *headers, path="/", name="a"):
        with px.client(ports[mode]) as c:
            r = c.get(path, host=name, headers=headers)
        assert up.errors == []
        return r.status, up.requests[0] if up.requests else None
    return run


@pytest.mark.parametrize("mode,name,status", [
    ("host", "example.com", 403), ("host", "ExAmPle.CoM", 403), ("host", "example.com:80", 200), ("host", "example.org", 200),
    ("host-port", "ExAmPle.CoM:80", 403), ("host-port", "example.com:65535", 403), ("host-port", "example.com.", 200),
    ("host-dot", "example.com.", 403), ("host-dot", "Example.COM.:8080", 403), ("host-dot", "example.com", 403),
])
def test_c09_host(px, ask, mode, name, status):
    with evidence(px, status):
        assert ask(mode, name=name)[0] == status


def test_c09_host_in_the_target_wins(px, ports, up):  # B07
    with evidence(px, 403), px.client(ports["host"]) as c:
        assert c.send("GET http://EXAMPLE.com/x HTTP/1.1\r\nHost: a\r\n\r\n").response().status == 403
    assert up.requests == []


GOOD, EVIL = ("x-role", "good"), ("x-role", "evil")


HEADERS = [
    ("C10", "contains", [GOOD, EVIL], 403), ("C10", "contains", [EVIL, GOOD], 403), ("C10", "contains", [GOOD, GOOD], 200),  # no field hides another
    ("C10", "exact", [EVIL], 403), ("C10", "exact", [("x-role", "good,evil")], 200), ("C10", "exact", [GOOD], 200),
    ("C11", "exact", [("X-ROLE", " evil ")], 403), ("C11", "exact", [("x-Role", "\tevil\t ")], 403), ("C11", "exact", [("x-role", "EVIL")], 200),
    ("C12", "underscore", [("x_role", "evil")], 200), ("C12", "underscore-drop", [("x_role", "evil")], 200),
    ("C12", "underscore-reject", [EVIL], 403), ("C12", "underscore-drop", [("x_role", "good"), EVIL], 403),
]


@pytest.mark.parametrize("mode,headers,status", [h[1:] for h in HEADERS], ids=["-".join(map(str, h)) for h in HEADERS])
def test_header(px, ask, mode, headers, status):
    with evidence(px, status):
        assert ask(mode, *headers)[0] == status


def test_c12_underscore_is_refused(px, ask):
    with told(px, "http1.unexpected_underscore", "DPE", 400, "http1.requests_rejected_with_underscores_in_headers"):
        assert ask("underscore-reject", ("x_role", "evil"))[0] == 400


def test_c12_underscore_twin_upstream(ask, up, px):
    assert ask("underscore", ("x_role", "evil"))[1].get("x_role") == "evil"
    up.requests.clear()
    with told(px, VIA_UPSTREAM, "-", 200, "http1.dropped_headers_with_underscores"):
        assert ask("underscore-drop", ("x_role", "evil"))[1].get("x_role") is None


INTERNAL = [("x-envoy-internal", "true"), ("x-envoy-upstream-rq-timeout-ms", "7"), ("x-envoy-force-trace", "true"),
            ("x-envoy-original-path", "/hidden"), ("x-envoy-decorator-operation", "forged")]


def test_c14_internal_headers_at_an_edge(px, ask):
    with evidence(px, 200):
        status, seen = ask("edge", *INTERNAL)
    assert status == 200 and not {n for n, _ in INTERNAL} & {n for n, _ in seen.headers}
    assert seen.get("x-forwarded-for") and seen.get("x-forwarded-proto") == "http"


def test_c14_internal_headers_inside(px, ask):  # without use_remote_address two of them pass, the others are consumed
    with evidence(px, 200):
        seen = ask("plain", *INTERNAL)[1]
    assert seen.get("x-envoy-original-path") == "/hidden" and seen.get("x-envoy-decorator-operation") == "forged"
    assert not {n for n, _ in INTERNAL[:3]} & {n for n, _ in seen.headers}


@pytest.mark.parametrize("chain,address", [
    ("9.9.9.9, 8.8.8.8, 7.7.7.7", "8.8.8.8"), ("8.8.8.8, 7.7.7.7", "8.8.8.8"), (",".join(["6.6.6.6"] * 3000 + ["5.5.5.5", "4.4.4.4"]), "5.5.5.5"),
    ("6.6.6.6," * 500 + "2001:db8::1, 4.4.4.4", "2001:db8::1"),
])
def test_c15_client_is_counted_from_the_right(px, ask, chain, address):
    with evidence(px, 200):
        status, seen = ask("edge-hops", ("x-forwarded-for", chain))
    assert status == 200 and seen.get("x-envoy-external-address") == address
    assert seen.get("x-forwarded-for").startswith(chain + ",")


@pytest.mark.parametrize("chain", ["garbage, 1.1.1.1", "300.1.1.1, 1.1.1.1", ", ,", "8.8.8.8", "[::1, 1.1.1.1", "1.2.3.4:99999, 1.1.1.1", "\xff, 1.1.1.1", ",," * 9000])
def test_c15_garbage_is_no_client(px, ask, chain):
    with evidence(px, 200):
        status, seen = ask("edge-hops", ("x-forwarded-for", chain))
    assert status == 200
    assert (seen.get("x-envoy-external-address") or "127.") not in chain


@pytest.mark.parametrize("mode,seen", [("plain", None), ("xfcc-sanitize", None), ("xfcc-set", None), ("xfcc-forward", None), ("xfcc-always", "Hash=abc")])
def test_c16_client_certificate_header(px, ask, mode, seen):  # a plain connection has no certificate to speak of
    with evidence(px, 200):
        got, request = ask(mode, ("x-forwarded-client-cert", "Hash=abc"))
    assert got == 200 and request.get("x-forwarded-client-cert") == seen


def test_c17_route_is_chosen_once(px, ask, up):  # a filter that changes the request does not change the route
    with evidence(px, 200):
        status, seen = ask("to-evil", GOOD)
    assert status == 200 and seen.get("x-role") == "evil"
    up.requests.clear()
    with evidence(px, 403):
        assert ask("from-evil", EVIL) == (403, None)
