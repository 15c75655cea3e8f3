"""stateful_session: clients stay with the host that a cookie or a header names (rows H9, U2)."""
import base64

import config
import pytest
from upstream import Reply, Reset
from wire import free_port

SESSION = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
NAME = "envoy.filters.http.stateful_session"
FAR = 1 << 40


def state(kind, **fields):
    full = f"envoy.extensions.http.stateful_session.{kind}.v3.{kind.title()}BasedSessionState"
    return {"session_state": {"name": f"envoy.http.stateful_session.{kind}", "typed_config": {"@type": config.TYPE + full, **fields}}}


def cookie(**fields):
    return state("cookie", cookie={"name": "sticky", **fields})


def varint(n):
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def message(host, expires=None):
    b = b"\x0a" + varint(len(host)) + host.encode() + (b"" if expires is None else b"\x10" + varint(expires))
    return base64.b64encode(b).decode()


class Farm:
    """Three hosts and a proxy; ask() gives the host's number, what the answer binds the client to, and the answer."""

    def __init__(self, mesh, routes=None, retry=None, **fields):
        self.ups = [mesh.upstream(f"u{i}", [Reply(200, str(i).encode())]) for i in range(3)]
        self.hosts = [f"127.0.0.1:{u.port}" for u in self.ups]
        manager = config.hcm(routes or [config.route("/", "all", **(retry or {}))], log=config.access_log(mesh.folder / "access.log"),
                             filters=[config.ext(NAME, SESSION, stat_prefix="x", **fields)])
        self.px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("all", [u.port for u in self.ups])], free_port()))

    def ask(self, *headers, path="/"):
        r = self.px.get(path, headers=list(headers))
        bound = [v for k, v in r.headers if k.lower() in ("set-cookie", "x-session")]
        return (int(r.body) if r.status == 200 else r.status), (bound or [None])[0], r

    def counts(self):
        return {k.rpartition(".")[2]: v for k, v in self.px.stats(r"stateful_session\.x").items() if v}


def sticky(value):
    return ("cookie", f'sticky="{value}"')


def test_cookie(mesh):
    f = Farm(mesh, **cookie(path="/", ttl="120s"))
    first, bound, _ = f.ask()
    value = bound.split('"')[1]
    assert bound.endswith('"; Max-Age=120; Path=/; HttpOnly')
    assert [f.ask(sticky(value))[:2] for _ in range(5)] == [(first, None)] * 5
    assert [f.ask(sticky(message(f.hosts[i], FAR)))[:2] for i in range(3)] == [(0, None), (1, None), (2, None)]
    assert f.ask(("cookie", f"a=b; sticky={message(f.hosts[1])}"))[:2] == (1, None)
    assert f.counts() == {"routed": 9, "failed_open": 1}


def test_cookies_that_bind_to_nothing(mesh):
    f = Farm(mesh, **cookie())
    for value in (message(f.hosts[1], 1), "garbage", message("1.2.3.4:5", FAR), message("nohost"), "", "CgVh"):
        host, bound, _ = f.ask(sticky(value))
        assert bound == f'sticky="{message(f.hosts[host])}"; HttpOnly', value
    assert f.counts() == {"failed_open": 6}


def test_cookie_path_and_attributes(mesh):
    f = Farm(mesh, **cookie(path="/a/b", attributes=[{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]))
    assert [f.ask(path=p)[1] is not None for p in ("/", "/a/bc", "/a/b", "/a/b/c", "/a/b?x")] == [False, False, True, True, True]
    assert f.ask(path="/a/b")[1].endswith('"; Path=/a/b; SameSite=Lax; Secure; HttpOnly')
    assert f.counts() == {"no_session": 2, "failed_open": 4}


def test_header(mesh):
    f = Farm(mesh, **state("header", name="X-Session"))
    host, bound, _ = f.ask()
    assert bound == base64.b64encode(f.hosts[host].encode()).decode()
    assert [f.ask(("x-session", bound))[:2] for _ in range(4)] == [(host, None)] * 4
    assert f.ask(("x-session", "!!"))[1] is not None and f.counts() == {"routed": 4, "failed_open": 2}


def test_strict(mesh):
    f = Farm(mesh, strict=True, **cookie())
    assert f.ask(sticky(message(f.hosts[2])))[:2] == (2, None)
    status, bound, r = f.ask(sticky(message("1.2.3.4:5")))
    assert (status, bound, r.body) == (503, None, b"no healthy upstream") and f.px.access_log(2)[1]["flags"] == "UH"
    assert f.counts() == {"routed": 1, "failed_closed": 1}


def test_a_retry_goes_elsewhere(mesh):
    f = Farm(mesh, retry={"retry_policy": {"retry_on": "reset", "num_retries": 3}}, **cookie())
    f.ups[1].script = [Reset()]
    host, bound, _ = f.ask(sticky(message(f.hosts[1])))
    assert host in (0, 2) and bound.startswith(f'sticky="{message(f.hosts[host])}"')


def test_routes(mesh):
    per = lambda **f: {"typed_per_filter_config": {NAME: {"@type": config.TYPE + SESSION + "PerRoute", **f}}}  # noqa: E731
    routes = [{**config.route("/off", "all"), **per(disabled=True)}, {**config.route("/h", "all"), **per(stateful_session=state("header", name="x-session"))},
              config.route("/", "all")]
    f = Farm(mesh, routes=routes, **cookie())
    assert f.ask(path="/off")[1] is None and f.ask(path="/")[1].startswith("sticky=")
    assert f.ask(("x-session", base64.b64encode(f.hosts[1].encode()).decode()), path="/h")[:2] == (1, None)
    assert f.counts() == {"failed_open": 1}


@pytest.mark.parametrize("fields,where", [
    ({"session_state": {"name": "x"}}, "session_state.typed_config: is required"),
    ({"session_state": config.ROUTER}, "session_state.typed_config"), (cookie(name=""), "cookie.name"), (cookie(ttl="-1s"), "cookie.ttl"),
])
def test_errors_name_the_place(mesh, is_envoy, fields, where):
    if is_envoy:
        pytest.skip("the peer has other errors")
    manager = config.hcm([config.route("/", "all")], filters=[config.ext(NAME, SESSION, **fields)])
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("all", [1])], free_port()), ready=False)
    assert px.process.wait(20) != 0 and where in px.log()
