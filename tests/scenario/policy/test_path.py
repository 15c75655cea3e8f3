"""No spelling of a path gets around a rule for it (rows H4, C01-C09): the rule is a direct answer of 403 for the prefix /admin, or an rbac filter
that denies it."""
import pytest

import config
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


@pytest.fixture
def ask(px, ports, up, rule):
    """(status, what the upstream saw or None, location) of a GET through the listener of a mode."""
    def run(mode, path):
        with px.client(ports[rule, mode]) as c:
            r = c.get(path)
        assert up.errors == []
        return r.status, up.requests[0].target if up.requests else None, r.get("location")
    return run


# mode, path, status, what the upstream sees
CASES = [
    # C01: a literal prefix knows one spelling only
    *[("none", p, 200, p) for p in ("//admin", "/./admin", "/x/../admin", "/%61dmin", "/x/..;/admin", "/x/..%2fadmin")],
    # C02
    *[("clean", p, 403, None) for p in ("/admin", "//admin", "/./admin", "/x/../admin", "/%61dmin", "/%2e/admin", "/x/%2e%2e/admin",
                                        "/x/../../admin", "/x\\..\\admin", "/ad%6Din?x", "/x/.%2E/admin")],
    ("clean", "///x//..//admin", 200, "/x/admin"),  # RFC 3986 5.2.4: the dots take an empty segment away, then slashes merge
    # C03: parameters do not hide a dot segment
    *[("clean", p, 403, None) for p in ("/x/..;/admin", "/.;/admin", "/x/..;a/admin", "/admin;a=b")],
    ("clean", "/;a/admin", 200, "/;a/admin"), ("clean", "/x;../admin", 200, "/x;../admin"),
    # C04
    ("clean", "/x/..%2fadmin", 200, "/x/..%2fadmin"), ("clean", "/x%5c..%5cadmin", 200, "/x%5c..%5cadmin"), ("clean", "/%2fadmin", 200, "/%2fadmin"),
    *[("forward", p, 403, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin", "/x%2f..;%2fadmin")],
    *[("redirect", p, 307, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin?y")],
    *[("reject", p, 400, None) for p in ("/x/..%2fadmin", "/x%5c..%5cadmin", "/%2fadmin", "/x/..%2Fadmin")],
    ("forward", "/x?y=%2fadmin", 200, "/x?y=%2fadmin"), ("reject", "/x?y=%2fadmin", 200, "/x?y=%2fadmin"),
    # C05
    ("clean", "/admin%00", 400, None), ("clean", "/x%00/../admin", 400, None),
    # C06: decoded once
    *[("clean", p, 200, p) for p in ("/%252e%252e/admin", "/%2561dmin", "/public/..%252fadmin")],
    ("forward", "/public/..%252fadmin", 200, "/public/..%252fadmin"),
    ("clean", "/%25%36%31dmin", 200, "/%2561dmin"),
    # C07: no overlong UTF-8
    ("clean", "/%c0%aeadmin", 200, "/%c0%aeadmin"), ("clean", "/x/%c0%ae%c0%ae/admin", 200, "/x/%c0%ae%c0%ae/admin"),
    # C08: the rule sees what the upstream gets
    ("clean", "/admin/..", 200, "/"), ("clean", "/admin/../x", 200, "/x"),
    # C09: a fragment cannot hide a path, nor a query
    *[(m, "/x#/../admin", 400, None) for m in ("none", "clean")], ("clean", "/admin?/../x", 403, None),
]


# The peer is laxer
STRICT = [
    *[("clean", p, 403, None) for p in ("/x/%2e%2e;a/admin", "/x/.%2E;x/admin")],  # C03: such dots are dots
    ("clean", "/%2%36%31dmin", 200, "/%2%361dmin"),  # C06: what is decoded never makes a new escape
]


@pytest.mark.parametrize("mode,path,status,seen", CASES, ids=[f"{m}-{p}" for m, p, *_ in CASES])
def test_path(ask, mode, path, status, seen):
    got, target, location = ask(mode, path)
    assert (got, target) == (status, seen)
    if status == 307:
        assert location and location.startswith(("/admin", "http://a/admin"))


@pytest.mark.stricter
@pytest.mark.parametrize("mode,path,status,seen", STRICT, ids=[f"{m}-{p}" for m, p, *_ in STRICT])
def test_stricter_than_envoy(ask, mode, path, status, seen):
    test_path(ask, mode, path, status, seen)


def test_redirect_leads_to_the_rule(px, ports, ask, rule):  # C04
    location = ask("redirect", "/x/..%2fadmin")[2]
    with px.client(ports[rule, "redirect"]) as c:
        assert c.get(location[location.index("/admin"):]).status == 403


def test_refusals_say_why(px, ports):  # rule 4: the log names the reason
    since = len(px.access_log(0))
    with px.client(ports["rbac", "clean"]) as c:
        assert c.get("/why/../admin/so").status == 403
    assert px.wait_log(lambda e: e["path"] == "/admin/so", since=since)["details"] == "rbac_access_denied_matched_policy[admin]"
    for mode, path in (("clean", "/why%00"), ("reject", "/why%2f")):
        since = len(px.access_log(0))
        with px.client(ports["rbac", mode]) as c:
            assert c.get(path).status == 400
        assert "path_normalization_failed" in px.wait_log(lambda e: e["path"] and e["path"].startswith("/why"), since=since)["details"]
