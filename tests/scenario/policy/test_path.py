"""No spelling of a path gets around a rule for it (rows H4, C01-C09): the rule is a direct answer of 403 for the prefix /admin, or an rbac filter
that denies it."""
import pytest

import config
from evidence import VIA_UPSTREAM, told
from wire import free_port

DENY = {"match": {"prefix": "/admin"}, "direct_response": {"status": 403}}
ROUTES = [DENY, config.route()]
RBAC = config.ext("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "DENY", "policies": {"admin": {
    "permissions": [{"url_path": {"path": {"prefix": "/admin"}}}], "principals": [{"any": True}]}}})
RULES = {"route": (ROUTES, []), "rbac": ([config.route()], [RBAC])}
CLEAN = {"normalize_path": True, "merge_slashes": True}
MODES = {
    "none": {},
    "clean": CLEAN,
    "forward": {**CLEAN, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"},
    "redirect": {**CLEAN, "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"},
    "reject": {**CLEAN, "path_with_escaped_slashes_action": "REJECT_REQUEST"},
}


@pytest.fixture(scope="module")
def ports():
    return {}


@pytest.fixture(scope="module")
def px(shared_mesh, ports):
    """One listener for each of MODES and RULES."""
    up = shared_mesh.upstream()
    listeners = []
    for mode, fields in MODES.items():
        for rule, (routes, filters) in RULES.items():
            ports[rule, mode] = free_port()
            manager = config.hcm(routes, log=config.access_log(shared_mesh.folder / "access.log"), filters=filters, **fields)
            listeners.append(config.listener(ports[rule, mode], [manager], name=f"{rule} {mode}"))
    return shared_mesh.proxy(boot=config.bootstrap(listeners, [config.cluster("up", [up.port])], free_port()))


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


# status -> what the log says and what is counted, for a rule that is a route and one of the rbac filter
WHY = {200: (VIA_UPSTREAM, "cluster.up.upstream_rq_200"), 307: ("path_normalization_failed", "http.in.downstream_rq_redirected_with_normalized_path"),
       400: ("path_normalization_failed", "http.in.downstream_rq_failed_path_normalization"),
       ("route", 403): ("direct_response", "http.in.rq_direct_response"), ("rbac", 403): ("rbac_access_denied_matched_policy[admin]", "http.in.rbac.denied")}


def evidence(px, rule, status):
    details, counter = WHY.get(status) or WHY[rule, status]
    return told(px, details, "-", status, counter)


@pytest.fixture
def ask(px, ports, up, rule):
    """(status, what the upstream saw or None, location) of a GET through the listener of a mode."""
    def run(mode, path):
        with px.client(ports[rule, mode]) as c:
            r = c.get(path)
        assert up.errors == []
        return r.status, up.requests[0].target if up.requests else None, r.get("location")
    return run


# row: mode, path, status, what the upstream sees
CASES = {
    "C01": [("none", p, 200, p) for p in ("//admin", "/./admin", "/x/../admin", "/%61dmin", "/x/..;/admin", "/x/..%2fadmin")],  # one spelling only
    "C02": [*[("clean", p, 403, None) for p in ("/admin", "//admin", "/./admin", "/x/../admin", "/%61dmin", "/%2e/admin", "/x/%2e%2e/admin",
                                                "/x/../../admin", "/x\\..\\admin", "/ad%6Din?x", "/x/.%2E/admin")],
            ("clean", "///x//..//admin", 200, "/x/admin")],  # RFC 3986 5.2.4: the dots take an empty segment away, then slashes merge
    "C03": [*[("clean", p, 403, None) for p in ("/x/..;/admin", "/.;/admin", "/x/..;a/admin", "/admin;a=b")],  # parameters hide no dot segment
            ("clean", "/;a/admin", 200, "/;a/admin"), ("clean", "/x;../admin", 200, "/x;../admin")],
    "C04": [("clean", "/x/..%2fadmin", 200, "/x/..%2fadmin"), ("clean", "/x%5c..%5cadmin", 200, "/x%5c..%5cadmin"), ("clean", "/%2fadmin", 200, "/%2fadmin"),
            *[("forward", p, 403, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin", "/x%2f..;%2fadmin")],
            *[("redirect", p, 307, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin?y")],
            *[("reject", p, 400, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin")],
            ("forward", "/x?y=%2fadmin", 200, "/x?y=%2fadmin"), ("reject", "/x?y=%2fadmin", 200, "/x?y=%2fadmin")],
    "C05": [("clean", "/admin%00", 400, None), ("clean", "/x%00/../admin", 400, None)],
    "C06": [*[("clean", p, 200, p) for p in ("/%252e%252e/admin", "/%2561dmin", "/public/..%252fadmin")],  # decoded once
            ("forward", "/public/..%252fadmin", 200, "/public/..%252fadmin"), ("clean", "/%25%36%31dmin", 200, "/%2561dmin")],
    "C07": [("clean", "/%c0%aeadmin", 200, "/%c0%aeadmin"), ("clean", "/x/%c0%ae%c0%ae/admin", 200, "/x/%c0%ae%c0%ae/admin")],  # no overlong UTF-8
    "C08": [("clean", "/admin/..", 200, "/"), ("clean", "/admin/../x", 200, "/x")],  # the rule sees what the upstream gets
    "C09": [*[(m, "/x#/../admin", 400, None) for m in ("none", "clean")], ("clean", "/admin?/../x", 403, None)],  # neither fragment nor query hide a path
}


# The peer is laxer
STRICT = {
    "C03": [("clean", p, 403, None) for p in ("/x/%2e%2e;a/admin", "/x/.%2E;x/admin")],  # such dots are dots
    "C06": [("clean", "/%2%36%31dmin", 200, "/%2%361dmin")],  # what is decoded never makes a new escape
}


def table(rows):
    return pytest.mark.parametrize("mode,path,status,seen", [pytest.param(*c, id=f"{row}-{c[0]}-{c[1]}") for row, cases in rows.items() for c in cases])


@table(CASES)
def test_path(px, ask, rule, mode, path, status, seen):
    with evidence(px, rule, status):
        got, target, location = ask(mode, path)
    assert (got, target) == (status, seen)
    if status == 307:
        assert location and location.startswith(("/admin", "http://a/admin"))


@pytest.mark.stricter
@table(STRICT)
def test_stricter_than_envoy(px, ask, rule, mode, path, status, seen):
    test_path(px, ask, rule, mode, path, status, seen)


def test_c04_redirect_leads_to_the_rule(px, ports, ask, rule):
    location = ask("redirect", "/x/..%2fadmin")[2]
    with px.client(ports[rule, "redirect"]) as c:
        assert c.get(location[location.index("/admin"):]).status == 403
