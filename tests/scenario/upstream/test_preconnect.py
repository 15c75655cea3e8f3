"""Connections before the requests that need them (row U3)."""
import threading

import config
from upstream import Reply
from wire import free_port, until


def several(mesh, n, **cluster):
    ups = [mesh.upstream(f"u{i}", [Reply(200, b"%d" % i)]) for i in range(n)]
    manager = config.hcm([config.route("/", "one")], log=config.access_log(mesh.folder / "access.log"))
    boot = config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("one", [u.port for u in ups], **cluster)], free_port())
    return mesh.proxy(boot=boot), ups


def test_predictive(mesh):
    px, ups = several(mesh, 4, preconnect_policy={"predictive_preconnect_ratio": 3})
    bodies = {px.get("/").body}
    # the request's own, and three to the hosts that come next
    until(lambda: [u.connections for u in ups] == [1, 1, 1, 1], 5)
    for _ in range(3):
        bodies.add(px.get("/").body)
    assert bodies == {b"0", b"1", b"2", b"3"}  # each host's turn came once


def test_per_upstream(mesh):
    up = mesh.upstream()
    hold = threading.Event()
    up.script = [Reply().held(hold)]
    px = mesh.proxy(cluster={"preconnect_policy": {"per_upstream_preconnect_ratio": 2}})
    with px.client() as c:
        c.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: up.connections == 2, 5)
        hold.set()
        assert c.response().status == 200
    assert px.stat("cluster.up.upstream_cx_total") == 2
