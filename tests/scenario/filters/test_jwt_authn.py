"""The jwt_authn filter: tokens, keys, requirements, what is told and what is handed on (rows H9, C10; G01-G08)."""
import json

import config
import jose
import pytest
from evidence import told
from jose import claims
from jwt_filter import FAIL, MISS, NAME, bearer, need, some, start
from wire import until

PER_ROUTE = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig"
FORM = b"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
NO_KEY = b"Jwks doesn't have key to match kid or alg from Jwt"
FAILS, MISSING = b"Jwt verification fails", b"Jwt is missing"


@pytest.fixture
def ours(is_envoy):
    if is_envoy:
        pytest.skip("the peer is laxer here, or has no stories")


class World:
    """One proxy for all the tests that only ask: keys of every kind, a rule for each provider and requirement."""

    def __init__(self, mesh):
        f = mesh.folder
        self.rsa, self.rsa2, self.none = jose.Key(f), jose.Key(f, kid="k2"), jose.Key(f, kid="")
        self.all = [self.rsa, *(jose.Key(f, k, k.lower()) for k in ("P-256", "P-384", "P-521", "Ed25519", "oct"))]
        keys = {"inline_string": jose.jwks(*self.all)}
        path = f / "keys.json"
        path.write_text(jose.jwks(self.rsa2))

        def provider(**fields):
            return {"issuer": "https://issuer.test", "local_jwks": keys, **fields}
        self.providers = {
            "p": provider(audiences=["api"], payload_in_metadata="payload", header_in_metadata="header", failed_status_in_metadata="failed",
                          claim_to_headers=[{"header_name": f"X-C-{c.replace('.', '-')}", "claim_name": c} for c in
                                            ("sub", "n.d", "num", "neg", "frac", "yes", "null", "list", "obj", "evil")],
                          normalize_payload_in_metadata={"space_delimited_claims": ["scope"]}, forward_payload_header="x-payload",
                          pad_forward_payload_header=True),
            "keep": provider(forward=True, from_params=["token"], from_cookies=["tok"], from_headers=[{"name": "x-jwt"}, {"name": "X-Pre", "value_prefix": "Pre "}]),
            "other": provider(issuer="other", local_jwks={"filename": str(path)}, from_headers=[{"name": "x-o"}], payload_in_metadata="other",
                              failed_status_in_metadata="other_failed", claim_to_headers=[{"header_name": "x-role", "claim_name": "role"}]),
            "sub": provider(issuer="s", subjects={"prefix": "al"}), "exp": provider(issuer="e", require_expiration=True),
            "life": provider(issuer="l", max_lifetime="100s", clock_skew_seconds=5), "any": {"local_jwks": keys},
            "x509": {"local_jwks": {"inline_string": json.dumps({"k1": self.rsa.certificate(), "k2": self.rsa2.certificate()})}},
        }
        rules = [(f"/{p}", need(p)) for p in ("p", "keep", "other", "sub", "exp", "life", "any", "x509")]
        rules += [("/OR", some("any", "p", "other")), ("/AND", some("all", "p", "other")), ("/MISS", {"requires": MISS}), ("/FAIL", {"requires": FAIL}),
                  ("/PMISS", some("any", "p", MISS)), ("/PFAIL", some("any", "p", FAIL)), ("/MM", some("any", MISS, MISS)),
                  ("/AUD", {"requires": {"provider_and_audiences": {"provider_name": "p", "audiences": ["https://two/"]}}}),
                  ("/NESTED", some("all", some("any", "p", MISS)["requires"], "other")), ("/NAMED", {"requirement_name": "n"}), ("/OPEN", {})]
        self.px = start(mesh, self.providers, rules, requirement_map={"n": {"provider_name": "p"}})
        self.up, self.asked = mesh.upstreams[0], 0

    def ask(self, path, token=None, headers=None, **kw):
        """(status, body, headers, the upstream's request or None)."""
        seen = len(self.up.requests)
        self.asked += 1
        r = self.px.get(path, host="a.test", headers=headers if headers is not None else bearer(token) if token else [], **kw)
        return r.status, r.body, dict(r.headers), self.up.requests[-1] if len(self.up.requests) > seen else None

    def log(self):
        return self.px.access_log(self.asked)[-1]

    def token(self, **kw):
        return self.rsa.token(claims(**kw))


@pytest.fixture(scope="module")
def w(shared_mesh):
    return World(shared_mesh)


# ---- signatures (G01, G02) ----

@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"])
def test_algorithms(w, alg):
    kind = {"R": 0, "P": 0, "ES256": 1, "ES384": 2, "ES512": 3, "Ed": 4, "H": 5}
    key = w.all[next(v for k, v in kind.items() if alg.startswith(k))]
    assert w.ask("/any", key.token(claims(), alg=alg))[0] == 200


def wrong_tokens(w):
    """(what, token, text): none may pass."""
    good, c = w.token(), json.dumps(claims())
    head, payload, sig = good.split(".")
    ec, oct_ = w.all[1], w.all[5]
    yield "G01 none", f'{jose.b64("""{"alg":"none"}""")}.{jose.b64(c)}.AA', b"Jwt header [alg] is not supported"
    yield "G01 none, no signature", f'{jose.b64("""{"alg":"none"}""")}.{jose.b64(c)}.', FORM
    yield "G01 HS256 by the public key", hs_by_public_key(w, c), FAILS
    yield "G01 another key's kid", oct_.token(claims(), header={"kid": "k1"}), FAILS
    yield "G01 another curve's kid", ec.token(claims(), header={"kid": "p-384"}), FAILS
    yield "G01 unknown kid", w.rsa2.token(claims()), NO_KEY
    yield "G01 kid of another type", w.rsa.token(claims(), header={"kid": 1}), b"Jwt header [kid] field is not a string"
    yield "G02 truncated", good[:-10], FAILS
    yield "G02 empty", f"{head}.{payload}.", FORM
    yield "G02 bit flipped", f"{head}.{payload}.{'B' if sig[0] == 'A' else 'A'}{sig[1:]}", FAILS
    yield "G02 payload swapped", f"{head}.{jose.b64(json.dumps(claims(sub='eve')))}.{sig}", FAILS
    yield "G02 a part more", good + ".AA", FORM
    yield "G05 junk", "A" * 10000, FORM
    yield "G05 nested", w.rsa.token('{"d":' * 20000 + "1" + "}" * 20000)[:40000], FORM
    yield "G05 nested, whole", w.rsa.token('{"d":' * 3000 + "1" + "}" * 3000), b"Jwt payload is an invalid JSON"
    yield "G04 a claim twice", w.rsa.token('{"exp":9999999999,"exp":9999999999}'), b"Jwt payload is an invalid JSON"


def hs_by_public_key(w, c):
    text = jose.b64('{"alg":"HS256","kid":"k1"}') + "." + jose.b64(c)
    import hashlib
    import hmac
    pem = jose.openssl("pkey", "-in", w.rsa.path, "-pubout")
    return text + "." + jose.b64(hmac.new(pem, text.encode(), hashlib.sha256).digest())


def refused(w, row):
    """Each wrong token of the row: what the client and the log are told, and that it was counted."""
    for what, token, text in wrong_tokens(w):
        if not what.startswith(row):
            continue
        with told(w.px, "jwt_authn_access_denied{%s}" % text.decode().replace(" ", "_"), "-", 401, "http.in.jwt_authn.denied"):
            status, body, headers, up = w.ask("/any", token)
        assert (status, body, up) == (401, text, None), what
        assert headers["www-authenticate"] == 'Bearer realm="http://a.test/any", error="invalid_token"', what


def test_g01_algorithms_and_keys(w):
    refused(w, "G01")


def test_g02_signatures(w):
    refused(w, "G02")


def test_g05_junk(w):
    refused(w, "G05")


def test_g04_a_claim_twice(w):
    refused(w, "G04")


def test_g07_forms_that_others_let_pass(ours, w):
    good = w.token()
    for what, token, text in (("a dot in front", "." + good, FORM), ("two dots", good.replace(".", "..", 1), FORM), ("a dot behind", good + ".", FORM),
                              ("G07 crit", w.rsa.token(claims(), header={"crit": ["x"]}), b"Jwt header [crit] names an extension that is not supported"),
                              ("exp 0", w.token(exp=0), b"Jwt is expired")):
        assert w.ask("/any", token)[:2] == (401, text), what
    assert w.log()["details"] == "jwt_authn_access_denied{Jwt_is_expired}"


# ---- claims (G03, G04) ----

def test_g03_time(w):
    t = jose.now()
    ask = lambda path, **c: w.ask(path, w.token(**c))[:2]  # noqa: E731
    assert ask("/any", exp=t - 30)[0] == 200 and ask("/any", exp=t - 120) == (401, b"Jwt is expired")
    assert ask("/any", nbf=t + 30)[0] == 200 and ask("/any", nbf=t + 120) == (401, b"Jwt not yet valid")
    no_exp = {k: v for k, v in claims(iss="e").items() if k != "exp"}
    assert w.ask("/any", w.rsa.token(no_exp))[0] == 200 and w.ask("/exp", w.rsa.token(no_exp))[:2] == (401, FAILS)
    assert ask("/exp", iss="e")[0] == 200
    assert ask("/life", iss="l", exp=t + 90)[0] == 200 and ask("/life", iss="l", exp=t + 300) == (401, FAILS)
    assert ask("/life", iss="l", exp=t - 30) == (401, b"Jwt is expired")


def test_g04_claims(w):
    ask = lambda path, **c: w.ask(path, w.token(**c))[:2]  # noqa: E731
    assert ask("/p", iss="evil") == (401, b"Jwt issuer is not configured")
    assert ask("/p", aud="x") == (403, b"Audiences in Jwt are not allowed") and ask("/p", aud=[]) == (403, b"Audiences in Jwt are not allowed")
    assert ask("/p", aud=["x", "https://api/"])[0] == 200
    assert ask("/AUD") == (403, b"Audiences in Jwt are not allowed") and ask("/AUD", aud="http://two")[0] == 200
    assert ask("/sub", iss="s")[0] == 200 and ask("/sub", iss="s", sub="bob") == (401, FAILS)
    assert ask("/any", iss=1) == (401, b"Jwt payload [iss] field is not a string")
    assert ask("/any", exp="1") == (401, b"Jwt payload [exp] field is not an integer")
    assert ask("/any", exp=-1) == (401, b"Jwt payload [exp] field is not a positive 64 bit integer")
    assert ask("/any", aud=["a", 1]) == (401, b"Jwt payload [aud] field is not a string or string list")


# ---- places (G06) ----

def test_g06_places(w):
    t = w.token()
    assert w.ask("/any", headers=[])[:2] == (401, MISSING) and w.log()["details"] == "jwt_authn_access_denied{Jwt_is_missing}"
    status, _, headers, _ = w.ask("/any?a=" + "b" * 300, headers=[])
    assert status == 401 and headers["www-authenticate"] == f'Bearer realm="http://a.test{("/any?a=" + "b" * 300)[:256]}"'
    assert w.ask("/any", headers=[("authorization", "bearer " + t)])[:2] == (401, MISSING)
    assert w.ask("/any", headers=bearer(t) + bearer(t))[0] == 401
    assert w.ask("/any?access_token=" + t)[3].start.split()[1] == "/any"
    for headers, path in (([("x-jwt", t)], "/keep"), ([("x-pre", "zz Pre  " + t)], "/keep"), ([("cookie", f"a=b; tok={t}")], "/keep"),
                          ([("cookie", f'tok="{t}"')], "/keep"), ([], f"/keep?token={t}")):
        status, _, _, up = w.ask(path, headers=headers)
        assert status == 200 and up.start.split()[1] == path and all(h in up.headers for h in headers)
    assert w.ask("/keep", bearer(t))[:2] == (401, MISSING)
    assert w.ask("/keep", headers=[("x-jwt", t), ("x-pre", "Pre junk")])[:2] == (401, FORM)


def test_what_is_left_of_a_query_stays_as_it_was(ours, w):
    assert w.ask("/any?a=%41%20b&access_token=" + w.token() + "&c=d+e&x&access_token=2#f")[3] is None  # a fragment is refused before
    assert w.ask("/any?a=%41%20b&access_token=" + w.token() + "&c=d+e&x&access_token=2")[3].start.split()[1] == "/any?a=%41%20b&c=d+e&x"


# ---- what is handed on ----

def test_payload_and_claims_are_handed_on(w):
    token = w.token(n={"d": "deep"}, num=12, neg=-3, frac=1.5, yes=True, null=None, list=[1, "a"], obj={"z": 1}, scope="a b  c")
    status, _, _, up = w.ask("/p", headers=[*bearer(token), ("x-c-sub", "forged"), ("x-payload", "forged"), ("X-C-Null", "forged")])
    got = {k: v for k, v in up.headers if k.startswith("x-c-")}
    assert status == 200 and "authorization" not in dict(up.headers)
    assert got == {"x-c-sub": "alice", "x-c-n-d": "deep", "x-c-num": "12", "x-c-neg": "-3.000000", "x-c-frac": "1.500000", "x-c-yes": "true",
                   "x-c-list": "WzEsImEiXQ==", "x-c-obj": "eyJ6IjoxfQ=="}
    payload = token.split(".")[1]
    assert [v for k, v in up.headers if k == "x-payload"] == [payload + "=" * (-len(payload) % 4)]
    meta = w.log()["meta"]
    assert meta["header"] == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert meta["payload"]["scope"] == ["a", "b", "c"] and meta["payload"]["n"] == {"d": "deep"} and meta["payload"]["sub"] == "alice"


def test_failure_in_metadata(w):
    w.ask("/p", w.token(aud="x"))
    assert w.log()["meta"] == {"failed": {"code": 25, "message": "Audiences in Jwt are not allowed"}}


def test_a_claim_begins_no_header(ours, w):
    """C16: a user's text in a claim must not become another header."""
    _, _, _, up = w.ask("/p", w.token(evil="a\r\nx-admin: 1"))
    assert "x-admin" not in dict(up.headers) and "x-c-evil" not in dict(up.headers)


def test_nobody_says_in_a_header_what_another_provider_would(ours, w):
    _, _, _, up = w.ask("/OR", headers=[*bearer(w.token()), ("x-role", "admin")])
    assert "x-role" not in dict(up.headers)


@pytest.mark.parametrize("path", ["/OPEN", "/no-rule-at-all", "/MISS"])
def test_nobody_says_it_where_nothing_is_asked(w, path):
    """What stands in headers of verified tokens is never the client's own word (C16)."""
    _, _, _, up = w.ask(path, headers=[("x-role", "admin"), ("X-Role", "root"), ("x-other", "stays")])
    assert "x-role" not in {n.lower() for n, _ in up.headers} and ("x-other", "stays") in up.headers


# ---- requirements ----

def test_requirements(w):
    good, junk, foreign = w.token(), "junk", w.rsa2.token(claims(iss="other"))
    auth, o = lambda t: bearer(t), lambda t: [("x-o", t)]
    unknown = b"Jwt issuer is not configured"
    cases = [
        ("/OR", [], MISSING), ("/OR", auth(good), None), ("/OR", o(foreign), None), ("/OR", auth(w.rsa2.token(claims())) + o(foreign), None),
        ("/OR", auth(w.token(iss="x")), unknown), ("/OR", auth(w.rsa2.token(claims())) + o(good), NO_KEY), ("/OR", auth(w.token(iss="x")) + o(junk), FORM),
        ("/AND", auth(good), MISSING), ("/AND", o(foreign), MISSING), ("/AND", auth(good) + o(foreign), None), ("/AND", auth(good) + o(junk), FORM),
        ("/MISS", [], None), ("/MISS", o(foreign), None), ("/MISS", auth(junk), FORM), ("/FAIL", [], None), ("/FAIL", auth(junk), None),
        ("/PMISS", [], None), ("/PMISS", auth(good), None), ("/PMISS", auth(junk), FORM), ("/PMISS", auth(w.token(iss="x")), unknown),
        ("/PFAIL", auth(junk), None), ("/MM", [], None), ("/MM", o(junk), FORM),
        ("/NESTED", o(foreign), None), ("/NESTED", auth(good) + o(foreign), None), ("/NESTED", auth(junk) + o(foreign), FORM), ("/NESTED", auth(good), MISSING),
        ("/NAMED", [], MISSING), ("/NAMED", auth(good), None), ("/OPEN", auth(junk), None), ("/NOWHERE", auth(junk), None),
        ("/x509", auth(good), None), ("/x509", auth(w.rsa2.token(claims())), None), ("/x509", auth(w.rsa2.token(claims(), header={"kid": "k1"})), FAILS),
    ]
    for path, headers, text in cases:
        status, body, _, up = w.ask(path, headers=headers)
        assert (status, body) == ((401, text) if text else (200, b"ok")), (path, headers)
    status, _, _, up = w.ask("/FAIL", headers=auth(junk))
    assert status == 200 and ("authorization", "Bearer junk") in up.headers


def test_allow_missing_takes_no_bad_token_beside_a_good_one(ours, w):
    for headers in ([*bearer("junk"), ("x-o", w.rsa2.token(claims(iss="other")))], [*bearer(w.token(iss="s")), ("x-o", "junk")]):
        assert w.ask("/MISS", headers=headers)[:2] == (401, FORM)


def test_the_story_names_rule_provider_and_place(ours, w):
    w.ask("/OR/story", w.rsa2.token(claims()))
    story = json.loads(w.px.admin("/mizzen/requests?format=json")[1])
    text = json.dumps(next(r for r in story["requests"] if "/OR/story" in json.dumps(r)))
    for part in ("rules[8] prefix /OR", "provider p: " + NO_KEY.decode(), "in header authorization", "provider other: Jwt is missing",
                 "jwt_authn_access_denied"):
        assert part in text, part


# ---- proxies of their own ----

def test_routes_cors_statistics(mesh):
    key = jose.Key(mesh.folder)
    per = lambda **f: {NAME: {"@type": config.TYPE + PER_ROUTE, **f}}  # noqa: E731
    routes = [{**config.route("/off"), "typed_per_filter_config": per(disabled=True)}, {**config.route("/name"), "typed_per_filter_config": per(requirement_name="b")},
              {**config.route("/wrong"), "typed_per_filter_config": per(requirement_name="c")}, config.route()]
    p = {"local_jwks": {"inline_string": jose.jwks(key)}, "jwt_cache_config": {"jwt_cache_size": 1}}
    px = start(mesh, {"p": p}, [("/", need("p"))], routes=routes, requirement_map={"b": MISS, "a": {}}, stat_prefix="own", bypass_cors_preflight=True)
    a, b = key.token(claims()), key.token(claims(jti="2"))
    assert [px.get(path).status for path in ("/off", "/name", "/", "/wrong")] == [200, 200, 401, 403]
    assert px.get("/wrong").body == b"Failed JWT authentication: Wrong requirement_name: c. It should be one of [a,b]"
    assert px.access_log(5)[4]["details"] == "jwt_authn_access_denied{Wrong_requirement_name:_c._It_should_be_one_of_[a,b]}"
    with px.client() as c:
        c.send(b"OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: http://x\r\naccess-control-request-method: PUT\r\n\r\n")
        assert c.response("OPTIONS").status == 200
    assert [px.get("/", headers=bearer(t)).status for t in (a, a, b, a)] == [200] * 4
    assert {k.rpartition(".")[2]: v for k, v in px.stats(r"jwt_authn\.own").items()} == {
        "allowed": 7, "denied": 3, "cors_preflight_bypassed": 1, "jwks_fetch_failed": 0, "jwks_fetch_success": 0, "jwt_cache_hit": 1, "jwt_cache_miss": 3}


def test_a_cached_token_expires(mesh):
    """What is cached is the signature, not the verdict."""
    key = jose.Key(mesh.folder)
    p = {"local_jwks": {"inline_string": jose.jwks(key)}, "jwt_cache_config": {}, "clock_skew_seconds": 1, "audiences": ["api"]}
    px = start(mesh, {"p": p}, [("/", need("p"))])
    t = key.token(claims(exp=jose.now() + 6))
    assert [px.get("/", headers=bearer(t)).status for _ in range(2)] == [200, 200]
    until(lambda: px.get("/", headers=bearer(t)).status == 401, 30, "the token to expire")
    px.wait_log(lambda e: e["details"] == "jwt_authn_access_denied{Jwt_is_expired}")
    assert px.stat("http.in.jwt_authn.jwt_cache_hit") >= 2


def test_strip_and_filter_state(mesh):
    key = jose.Key(mesh.folder)
    state = config.ext("envoy.filters.http.set_filter_state", "envoy.extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[
        {"object_key": "who", "factory_key": "envoy.string", "format_string": {"text_format_source": {"inline_string": "%REQ(X-WHO)%"}}}])
    px = start(mesh, {"p": {"local_jwks": {"inline_string": jose.jwks(key)}, "audiences": ["api"]}}, [("/rule", need("p"))], filters=[state],
               strip_failure_response=True, filter_state_rules={"name": "who", "requires": {"strict": {"provider_name": "p"}}})
    r = px.get("/rule")
    assert (r.status, r.body) == (401, b"") and "www-authenticate" not in dict(r.headers)
    assert px.get("/rule", headers=bearer(key.token(claims(aud="x")))).status == 403
    assert [px.get("/", headers=[("x-who", v)]).status for v in ("strict", "lax", "")] == [401, 200, 200]
    assert px.get("/", headers=[("x-who", "strict"), *bearer(key.token(claims()))]).status == 200


def test_claims_choose_the_route(mesh):
    key = jose.Key(mesh.folder)
    other = mesh.upstream("gold")
    mesh.upstreams.reverse()
    up = mesh.upstream("plain")
    routes = [config.route(match={"prefix": "/", "headers": [{"name": "x-tier", "string_match": {"exact": "gold"}}]}, cluster="gold"), config.route(cluster="plain")]
    p = {"local_jwks": {"inline_string": jose.jwks(key)}, "claim_to_headers": [{"header_name": "x-tier", "claim_name": "tier"}], "clear_route_cache": True}
    px = start(mesh, {"p": p}, [("/", need("p"))], routes=routes, clusters=[config.cluster("plain", [up.port])])
    assert px.get("/", headers=[*bearer(key.token(claims(tier="gold")))]).status == 200 and len(other.requests) == 1
    assert px.get("/", headers=[*bearer(key.token(claims(tier="tin"))), ("x-tier", "gold")]).status == 200 and len(up.requests) == 1


def test_g08_two_keys_of_one_kid(mesh):  # both are tried, no other
    keys = []
    for n in range(3):
        (mesh.folder / str(n)).mkdir()
        keys.append(jose.Key(mesh.folder / str(n), kid="same"))
    one, two, other = keys
    px = start(mesh, {"p": {"local_jwks": {"inline_string": jose.jwks(one, two)}}}, [("/", need("p"))])
    assert [px.get("/", headers=bearer(k.token(claims()))).status for k in (one, two, other)] == [200, 200, 401]
    assert px.stat("http.in.jwt_authn.denied") == 1 and px.access_log(3)[2]["details"] == "jwt_authn_access_denied{Jwt_verification_fails}"


WEAK = {"keys": [{"kty": "RSA", "n": jose.b64(b"\xff" * 64), "e": "AQAB"}]}


@pytest.mark.parametrize("fields,rule,where", [
    ({"local_jwks": {"inline_string": "{}"}}, {}, ('providers["p"].local_jwks', "Jwks does not have [keys] field")),
    ({"local_jwks": {"inline_string": json.dumps(WEAK)}}, {}, ('providers["p"].local_jwks', "Jwks RSA [n] or [e] field")),  # G08
    ({"local_jwks": {"filename": "/nowhere"}}, {}, ('providers["p"].local_jwks', "/nowhere")),
    ({}, {}, ('providers["p"]', "jwks_source_specifier")),
    ({"local_jwks": {"inline_string": ""}, "subjects": {"safe_regex": {"regex": "("}}}, {}, ('providers["p"].subjects',)),
    ({"local_jwks": {"inline_string": ""}}, need("q"), ("rules[0].requires.provider_name", "'q'")),
    ({"local_jwks": {"inline_string": ""}}, some("any", "p", some("all", "p", "q")["requires"]),
     ("rules[0].requires.requires_any.requirements[1].requires_all.requirements[1].provider_name",)),
    ({"local_jwks": {"inline_string": ""}}, {"requirement_name": "z"}, ("rules[0].requirement_name", "'z'")),
    ({"local_jwks": {"inline_string": ""}}, {"match": {"prefix": "/", "grpc": {}}}, ("rules[0].match.grpc",)),
])
def test_errors_name_the_place(ours, mesh, fields, rule, where):
    px = start(mesh, {"p": fields}, [("/", rule)], ready=False)
    assert px.process.wait(20) != 0
    for part in where:
        assert part in px.log()


def test_no_keys_let_nobody_in(mesh):
    px = start(mesh, {"p": {"local_jwks": {"inline_string": ""}}}, [("/", need("p"))])
    r = px.get("/", headers=bearer(jose.Key(mesh.folder).token(claims())))
    assert (r.status, r.body) == (401, b"Jwks doesn't have any valid public key")
