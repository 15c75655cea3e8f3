"""A proxy with the jwt_authn filter, and pieces of its configuration."""
import config
from wire import free_port

FILTER = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
NAME = "envoy.filters.http.jwt_authn"
MISS, FAIL = {"allow_missing": {}}, {"allow_missing_or_failed": {}}


def start(mesh, providers, rules, routes=None, filters=(), clusters=(), log=None, ready=True, **fields):
    up = mesh.upstreams[0] if mesh.upstreams else mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", {**config.LOG_FIELDS, "meta": f"%DYNAMIC_METADATA({NAME})%", **(log or {})})
    jwt = config.ext(NAME, FILTER, providers=providers, rules=[{"match": {"prefix": p}, **r} for p, r in rules], **fields)
    manager = config.hcm(routes or [config.route("/", up.name)], log=log, filters=[*filters, jwt])
    boot = config.bootstrap([config.listener(free_port(), [manager])], [config.cluster(up.name, [up.port]), *clusters], free_port())
    return mesh.proxy(boot=boot, ready=ready)


def need(provider):
    return {"requires": {"provider_name": provider}}


def some(kind, *members):
    return {"requires": {f"requires_{kind}": {"requirements": [m if isinstance(m, dict) else {"provider_name": m} for m in members]}}}


def bearer(token):
    return [("authorization", f"Bearer {token}")]
