"""The admin interface: safe methods, escaping, odd paths (rows O4, H07)."""
import pytest

import config
from wire import Client, HOST, free_port

MUTATIONS = ["/quitquitquit", "/healthcheck/fail", "/healthcheck/ok", "/reset_counters", "/logging?level=info", "/drain_listeners",
             "/runtime_modify?a=1", "/reopen_logs"]


@pytest.fixture(scope="module")
def px(shared_mesh):
    up = shared_mesh.upstream()
    manager = config.hcm([config.route()], stat_prefix="a<b>&\"c")
    return shared_mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("up", [up.port])], free_port()))


@pytest.mark.parametrize("path", MUTATIONS)
def test_h07_mutations_only_by_post(px, path):  # H07
    assert px.admin(path)[0] == 405
    assert px.admin("/ready")[0] == 200


@pytest.mark.parametrize("path", ["/..%2f", "/%2e%2e/etc/passwd", "/nope", "/" + "a" * 8000])
def test_unknown_paths(px, path):  # H07
    assert px.admin(path)[0] in (400, 404)


@pytest.mark.parametrize("path", ["/../", "//stats", "/stats/..", "/../../etc/passwd"])
def test_h07_paths_that_climb(px, path):  # H07: a page of the admin interface, or none
    status, text = px.admin(path)
    assert status in (200, 400, 404) and "root:" not in text


@pytest.mark.parametrize("query", ["filter=(", "filter=" + "(a+)%2b" * 20, "format=xml", "type=Nope", "histogram_buckets=x", "filter=%00", "filter=%zz"])
def test_odd_queries_of_stats(px, query):
    status, text = px.admin("/stats?" + query)
    assert status in (200, 400) and len(text) < 1 << 20
    assert px.admin("/ready")[0] == 200


def test_h07_names_are_escaped_in_html(px):  # H07
    text = px.admin("/stats?format=html")[1]
    assert "a<b>&\"c" not in text
    assert "a<b>" not in px.admin("/")[1]


@pytest.mark.parametrize("data", [b"GET /stats HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xc8", b"POST /logging HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                                  b"GET /stats HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 500 + b"\r\n"], ids=["no-host", "tls", "bad-length", "many-headers"])
def test_junk_on_the_admin_port(px, data):
    with Client((HOST, px.admin_port), timeout=2) as c:
        c.send(data)
        c.responses(timeout=1)
    assert px.admin("/ready")[0] == 200


def test_slow_reader_of_stats(px):
    clients = [Client((HOST, px.admin_port), rcvbuf=4096) for _ in range(20)]
    for c in clients:
        c.send("GET /stats HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
    assert px.admin("/ready")[0] == 200
    for c in clients:
        c.close()
