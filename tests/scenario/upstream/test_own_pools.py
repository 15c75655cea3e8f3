"""connection_pool_per_downstream_connection: what one client's connections carry nobody else's do (U3)."""
import threading

import pytest

from h2_client import H2Client
from upstream import Reply
from wire import until


def test_each_client_has_its_own(mesh):
    mesh.upstream()
    px = mesh.proxy(cluster={"connection_pool_per_downstream_connection": True})
    with px.client() as a, px.client() as b:
        for c in (a, b, a, b):
            assert c.get("/").status == 200
        assert px.stat("cluster.up.upstream_cx_total") == 2 and px.stat("cluster.up.upstream_rq_total") == 4


@pytest.mark.stricter  # Envoy keeps them until they were idle for an hour
def test_they_end_with_the_client(mesh):
    gate = threading.Event()
    up = mesh.upstream(script=[Reply(), Reply().held(gate), Reply()])
    px = mesh.proxy(cluster={"connection_pool_per_downstream_connection": True})
    with px.client() as a:
        assert a.get("/").status == 200
        with px.client() as b:
            b.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: len(up.requests) == 2)
        until(lambda: px.stat("cluster.up.upstream_cx_active") == 1)  # b's request was on its own
        assert a.get("/").status == 200
        gate.set()
    until(lambda: px.stat("cluster.up.upstream_cx_active") == 0)
    for _ in range(50):  # whoever connects leaves nothing behind
        assert px.get("/").status == 200
    until(lambda: px.stat("cluster.up.upstream_cx_active") == 0)
    assert px.stat("cluster.up.upstream_cx_total") == 52


def test_http2(mesh):
    up = mesh.upstream()
    px = mesh.proxy(cluster={"connection_pool_per_downstream_connection": True})
    with H2Client(px.port) as a, H2Client(px.port) as b:
        for i in range(3):
            for c in (a, b):
                c.request(1 + 2 * i)
                assert c.answer(1 + 2 * i)[0] == 200
        assert px.stat("cluster.up.upstream_cx_total") == 2 and len(up.requests) == 6
