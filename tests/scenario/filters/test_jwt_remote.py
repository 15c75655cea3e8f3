"""The jwt_authn filter with keys from a server: when they are fetched, who waits, what a bad server can do (rows H9, C10; G08, F11)."""
import json
import threading

import config
import jose
import pytest
import wire
from jose import claims
from jwt_filter import FAIL, NAME, bearer, need, some, start
from upstream import Close, Endless, Raw, Reply, Reset, Silent, Upstream
from wire import until

FAILED = b"Jwks remote fetch is failed"


class Issuer:
    """A key, the server of its set, and the provider that asks it."""

    def __init__(self, mesh, script=None, name="keys", kid="k1", **remote):
        self.key = jose.Key(mesh.folder, kid=kid)
        self.server = Upstream(name, script or [self.good()])
        mesh.processes.append(Ended(self.server))
        self.cluster = config.cluster(name, [self.server.port])
        self.remote = {"http_uri": {"uri": "http://keys.test/jwks?a=1", "cluster": name, "timeout": "30s"}, **remote}
        self.provider = {"remote_jwks": self.remote}

    def good(self, *more):
        return Reply(200, jose.jwks(self.key, *more).encode())

    def start(self, mesh, requirement=None, provider=None, **fields):
        return start(mesh, {"p": {**self.provider, **(provider or {})}}, [("/", requirement or need("p"))], clusters=[self.cluster], **fields)

    def ask(self, px, **kw):
        r = px.get("/", headers=bearer(self.key.token(claims(**kw))), timeout=60)
        return r.status, r.body


class Ended:
    """A server that goes with the mesh's processes."""

    def __init__(self, server):
        self.server = server

    def terminate(self):
        self.server.close()

    def wait(self):
        pass


def rsa(n, e):
    return json.dumps({"keys": [{"kty": "RSA", "n": jose.b64(n), "e": jose.b64(e)}]}).encode()


def fetches(px):
    s = px.stats("jwks_fetch")
    return s["http.in.jwt_authn.jwks_fetch_success"], s["http.in.jwt_authn.jwks_fetch_failed"]


def test_keys_are_fetched_once(mesh):
    i = Issuer(mesh)
    px = i.start(mesh)
    assert px.get("/").status == 401 and i.server.requests == []  # no token: nobody is asked
    assert [i.ask(px, jti=str(n))[0] for n in range(3)] == [200] * 3
    q = i.server.requests
    assert len(q) == 1 and q[0].start == "GET /jwks?a=1 HTTP/1.1" and q[0].get("host") == "keys.test" and q[0].get("x-envoy-internal") == "true"
    assert q[0].get("x-envoy-expected-rq-timeout-ms") == "30000"
    assert fetches(px) == (1, 0) and px.stat("cluster.keys.internal.upstream_rq_200") == 1


def test_all_that_wait_are_served_by_one_fetch(mesh, is_envoy):
    if is_envoy:
        pytest.skip("the peer asks for each request")
    go = threading.Event()
    i = Issuer(mesh)
    i.server.script = [i.good().held(go)]
    px = i.start(mesh)
    token = i.key.token(claims())
    clients = [px.client() for _ in range(20)]
    for n, c in enumerate(clients):
        c.send(f"POST /{n} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: 5\r\n\r\nhello".encode())
    px.wait_stat("http.in.downstream_rq_total", 20)
    until(lambda: len(i.server.requests) == 1, 10, "the fetch")
    assert mesh.upstreams[0].requests == []
    go.set()
    assert [c.response(timeout=30).status for c in clients] == [200] * 20
    assert len(i.server.requests) == 1 and fetches(px) == (1, 0) and {r.body for r in mesh.upstreams[0].requests} == {b"hello"}


def test_old_keys_are_fetched_again_and_replaced(mesh, is_envoy):
    """A key that is gone from the set verifies nothing any more, not even a token that was cached (the peer lets that one pass)."""
    i = Issuer(mesh, cache_duration="0.5s")
    new = jose.Key(mesh.folder, kid="k2")
    i.server.script = [i.good(), Reply(200, jose.jwks(new).encode())]
    px = i.start(mesh, provider={} if is_envoy else {"jwt_cache_config": {}})
    token = i.key.token(claims())
    assert px.get("/", headers=bearer(token)).status == 200
    until(lambda: px.get("/", headers=bearer(new.token(claims()))).status == 200, 20, "the new key")
    r = px.get("/", headers=bearer(token))
    assert (r.status, r.body) == (401, b"Jwks doesn't have key to match kid or alg from Jwt")


@pytest.mark.parametrize("what,step", [
    ("status", Reply(500, b"")), ("not 200", Reply(204)), ("redirect", Reply(302, b"", [("location", "/")])), ("empty", Reply(200, b"")),
    ("garbage", Reply(200, b"\xff\0<html>")), ("JSON", Reply(200, b'{"keys": 1}')), ("no key", Reply(200, b'{"keys": []}')),
    ("weak key", Reply(200, b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}')), ("exponent 1", Reply(200, rsa(b"\xff" * 256, b"\1"))), ("512 bits", Reply(200, rsa(b"\xff" * 64, b"\1\0\1"))),
    ("off the curve", Reply(200, json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": jose.b64(b"\1" * 32), "y": jose.b64(b"\1" * 32)}]}).encode())),
    ("deep", Reply(200, b'{"keys":' + b"[" * 20000)),
    ("2 MB", Reply(200, b" " * (2 << 20))), ("closed", Close()), ("reset", Reset()), ("reset within", Reset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")),
    ("no HTTP", Raw(b"SSH-2.0-x\r\n")), ("cut", Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")),
])
def test_g08_bad_answers(mesh, what, step):
    """Nobody gets in, the next request asks again, and a good answer is good."""
    i = Issuer(mesh)
    i.server.script = [step, i.good()]
    px = i.start(mesh)
    assert i.ask(px) == (401, FAILED)
    assert px.access_log()[0]["details"] == "jwt_authn_access_denied{Jwks_remote_fetch_is_failed}"
    assert i.ask(px)[0] == 200 and fetches(px) == (1, 1)


def test_g08_an_endless_answer_is_given_up(mesh, is_envoy):
    if is_envoy:
        pytest.skip("the peer keeps all of it")
    i = Issuer(mesh)
    endless = Endless(100 << 20)
    i.server.script = [endless, i.good()]
    px = i.start(mesh)
    before = px.memory_kib()
    assert i.ask(px) == (401, FAILED)
    assert endless.sent < 60 << 20 and px.grown_kib(before) < 16 << 10
    assert i.ask(px)[0] == 200


def test_g08_a_server_that_hangs(mesh):
    i = Issuer(mesh, [Silent()])
    i.remote["http_uri"]["timeout"] = "0.3s"
    px = i.start(mesh)
    assert i.ask(px) == (401, FAILED) and fetches(px) == (0, 1)
    i.server.script = [i.good()]
    assert i.ask(px)[0] == 200


def test_f11_the_answer_comes_after_the_stream_has_gone(mesh):
    go = threading.Event()
    i = Issuer(mesh)
    i.server.script = [i.good().held(go)]
    px = i.start(mesh)
    for ending in ("close", "reset"):
        c = px.client()
        c.send(f"POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {i.key.token(claims())}\r\ncontent-length: 5\r\n\r\nhe".encode())
        until(lambda: len(i.server.requests) >= 1, 10, "the fetch")
        if ending == "reset":
            wire.reset(c.sock)
        c.close()
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 20, "the client to be gone")
    go.set()
    assert i.ask(px)[0] == 200 and len(mesh.upstreams[0].requests) == 1


def test_the_process_ends_while_a_fetch_is_on_its_way(mesh):
    i = Issuer(mesh, [Silent()])
    px = i.start(mesh)
    c = px.client()
    c.send(f"GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {i.key.token(claims())}\r\n\r\n".encode())
    until(lambda: len(i.server.requests) == 1, 10, "the fetch")
    px.stop()
    c.close()


def test_flapping(mesh):
    """Each request gets the outcome of a fetch of its time; in between the last good set serves."""
    i = Issuer(mesh, cache_duration="0.001s")
    i.server.script = [Reply(500, b"") if n % 2 else i.good() for n in range(30)] + [i.good()]
    px = i.start(mesh)
    got = [i.ask(px, jti=str(n)) for n in range(30)]
    assert set(got) <= {(200, b"ok"), (401, FAILED)} and got[0][0] == 200
    ok, bad = fetches(px)
    assert bad == sum(1 for status, _ in got if status == 401) and ok >= 1
    until(lambda: i.ask(px)[0] == 200, 20, "the server to be good")


def test_retries(mesh):
    i = Issuer(mesh, retry_policy={"num_retries": 2, "retry_back_off": {"base_interval": "0.01s"}})
    i.server.script = [Reply(503, b""), Reset(), i.good()]
    px = i.start(mesh)
    assert i.ask(px)[0] == 200 and len(i.server.requests) == 3 and fetches(px) == (1, 0)
    assert px.stat("cluster.keys.upstream_rq_retry") == 2


def test_no_cluster(mesh):
    i = Issuer(mesh)
    i.remote["http_uri"]["cluster"] = "nowhere"
    px = i.start(mesh)
    assert i.ask(px) == (401, FAILED) and fetches(px) == (0, 1)
    assert "nowhere" in px.log()


def test_requirements_over_slow_keys(mesh):
    """Members wait at the same time; what is decided waits for nobody."""
    go = threading.Event()
    a, b = Issuer(mesh, name="a", kid="a"), Issuer(mesh, name="b", kid="b")
    a.server.script, b.server.script = [a.good().held(go)], [b.good()]
    a.provider.update(issuer="a", from_headers=[{"name": "x-a"}])
    b.provider.update(issuer="b", from_headers=[{"name": "x-b"}])
    px = start(mesh, {"a": a.provider, "b": b.provider}, [("/any", some("any", "a", "b")), ("/all", some("all", "a", "b")), ("/may", {"requires": FAIL})],
               clusters=[a.cluster, b.cluster])
    both = [("x-a", a.key.token(claims(iss="a"))), ("x-b", b.key.token(claims(iss="b")))]
    assert px.get("/any", headers=both, timeout=60).status == 200  # by b, while a hangs
    head = "".join(f"{n}: {v}\r\n" for n, v in both)
    with px.client() as all_, px.client() as may:
        all_.send(f"GET /all HTTP/1.1\r\nhost: a\r\n{head}\r\n".encode())
        may.send(f"GET /may HTTP/1.1\r\nhost: a\r\n{head}\r\n".encode())
        px.wait_stat("http.in.downstream_rq_active", 2)
        go.set()
        assert all_.response(timeout=60).status == 200 and may.response(timeout=60).status == 200


def test_failed_keys_and_allow_missing_or_failed(mesh):
    i = Issuer(mesh, [Reply(500, b"")])
    px = i.start(mesh, {"requires": FAIL}, {"failed_status_in_metadata": "why"})
    assert i.ask(px)[0] == 200
    assert px.access_log()[0]["meta"] == {"why": {"code": 40, "message": FAILED.decode()}}


@pytest.mark.parametrize("remote,where", [
    ({"http_uri": {"uri": "/jwks", "cluster": "keys", "timeout": "1s"}}, "remote_jwks.http_uri.uri"),
    ({"http_uri": {"uri": "http://a/", "timeout": "1s"}}, "remote_jwks.http_uri"),
    ({"http_uri": {"uri": "http://a/", "cluster": "keys"}}, "remote_jwks.http_uri.timeout"),
    ({"cache_duration": "0s"}, "remote_jwks.cache_duration"),
    ({"retry_policy": {"retry_back_off": {"base_interval": "2s", "max_interval": "1s"}}}, "remote_jwks.retry_policy.retry_back_off"),
])
def test_errors_name_the_place(mesh, is_envoy, remote, where):
    if is_envoy:
        pytest.skip("the peer has no such errors")
    i = Issuer(mesh)
    i.remote.update(remote)
    px = i.start(mesh, ready=False)
    assert px.process.wait(20) != 0 and where in px.log()
    assert NAME in px.log() or "http_filters[0]" in px.log()


# ---- fetched ahead of requests (async_fetch) ----

def test_ahead_of_requests(mesh):
    """The listener waits for the keys; requests find them there, and they are fetched again before they are too old."""
    go = threading.Event()
    i = Issuer(mesh, async_fetch={}, cache_duration="6s")  # again after one second
    i.server.script = [i.good().held(go), i.good()]
    px = i.start(mesh, ready=False)
    until(lambda: len(i.server.requests) == 1, 20, "the first fetch")
    assert px.admin("/ready")[0] == 503 and px.stat("listener_manager.workers_started") == 0
    assert "Jwks async fetching url=http://keys.test/jwks?a=1" in px.admin("/init_dump")[1]
    go.set()
    px.wait_ready()
    assert i.ask(px)[0] == 200
    until(lambda: len(i.server.requests) >= 3, 20, "the fetches after it")
    assert i.ask(px, jti="2")[0] == 200
    assert fetches(px)[1] == 0 and px.stat("http.in.jwt_authn.denied") == 0


def test_a_failure_ahead_of_requests(mesh):
    """The listener serves although the first fetch failed; it is tried again without any request."""
    i = Issuer(mesh, async_fetch={"failed_refetch_duration": "0.2s"})
    i.server.script = [Reply(500, b""), Reply(500, b""), i.good()]
    px = i.start(mesh)
    until(lambda: fetches(px) == (1, 2), 20, "the third fetch")
    assert i.ask(px)[0] == 200 and len(i.server.requests) == 3


def test_fast_listener(mesh):
    """The listener does not wait; a request that comes before the keys asks for them itself."""
    go = threading.Event()
    i = Issuer(mesh, async_fetch={"fast_listener": True})
    i.server.script = [i.good().held(go), i.good()]
    px = i.start(mesh)
    until(lambda: len(i.server.requests) == 1, 20, "the fetch")
    assert i.ask(px)[0] == 200 and len(i.server.requests) == 2
    go.set()
    until(lambda: fetches(px) == (2, 0), 20, "both answers")
