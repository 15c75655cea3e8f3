"""The rbac network filter: who may send the first byte (row L5)."""
import socket
import struct

import config
import pytest
from wire import free_port, until

RBAC = "envoy.extensions.filters.network.rbac.v3.RBAC"
ECHO = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
ANY, LOCAL = {"any": True}, {"direct_remote_ip": {"address_prefix": "127.0.0.0", "prefix_len": 8}}


def rules(action, principal, permission=ANY):
    return {"action": action, "policies": {"the rule": {"permissions": [permission], "principals": [principal]}}}


def rbac(**fields):
    return config.ext("envoy.filters.network.rbac", RBAC, stat_prefix="nr", **fields)


def start(mesh, *filters):
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), list(filters))], [config.cluster("up", [u.port for u in mesh.upstreams])], free_port()))


def echoes(px, data=b"x"):
    with px.client() as c:
        c.sock.sendall(data)
        return c.sock.recv(10)


@pytest.mark.parametrize("fields,passes", [
    ({"rules": rules("ALLOW", LOCAL)}, True), ({"rules": rules("DENY", LOCAL)}, False), ({"rules": rules("ALLOW", {"not_id": LOCAL})}, False),
    ({"rules": rules("DENY", ANY, {"url_path": {"path": {"prefix": "/"}}})}, True), ({"rules": rules("DENY", {"source_ip": LOCAL["direct_remote_ip"]})}, False),
    ({"rules": {"action": "ALLOW"}}, False), ({}, True),
])
def test_first_byte(mesh, fields, passes):
    px = start(mesh, rbac(**fields), ECHO)
    assert echoes(px) == (b"x" if passes else b"")
    counted = 1 if fields else 0
    assert (px.stat("nr.rbac.allowed"), px.stat("nr.rbac.denied")) == ((counted, 0) if passes else (0, counted))


def test_headers_are_refused(mesh):
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [rbac(rules=rules("DENY", ANY, {"header": {"name": "x", "present_match": True}})), ECHO])],
                                          [], free_port()), ready=False)
    assert px.process.wait(10) != 0 and "header" in px.log()


def test_shadow_and_matcher(mesh):
    on = {"action": {"name": "a", "typed_config": {"@type": config.TYPE + "envoy.config.rbac.v3.Action", "name": "far", "action": "ALLOW"}}}
    source = {"name": "i", "typed_config": {"@type": config.TYPE + "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"}}
    matcher = {"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": source, "value_match": {"prefix": "127."}}}, "on_match": on}]}}
    px = start(mesh, rbac(matcher=matcher, shadow_rules=rules("DENY", LOCAL), shadow_rules_stat_prefix="sh"), ECHO)
    with px.client() as c:
        for _ in range(3):
            c.sock.sendall(b"y")
            assert c.sock.recv(10) == b"y"
    assert (px.stat("nr.rbac.allowed"), px.stat("nr.rbac.sh.shadow_denied"), px.stat("nr.rbac.denied")) == (1, 1, 0)  # asked once


def test_continuous(mesh):
    px = start(mesh, rbac(rules=rules("ALLOW", LOCAL), enforcement_type="CONTINUOUS"), ECHO)
    with px.client() as c:
        for _ in range(3):
            c.sock.sendall(b"y")
            assert c.sock.recv(10) == b"y"
        assert px.stat("nr.rbac.allowed") == 3


def test_log_says_which_rule(mesh):
    up = mesh.upstream()
    log = config.access_log(mesh.folder / "access.log", {"term": "%CONNECTION_TERMINATION_DETAILS%", "reason": "%DOWNSTREAM_LOCAL_CLOSE_REASON%"})
    tcp = config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up", access_log=[log])
    px = start(mesh, rbac(rules=rules("DENY", LOCAL)), tcp)
    assert echoes(px) == b"" and up.requests == []
    assert px.access_log()[0] == {"term": "rbac_access_denied_matched_policy[the_rule]", "reason": "rbac_deny_close"}


def test_a_denial_that_waits(mesh):
    px = start(mesh, rbac(rules=rules("DENY", LOCAL), delay_deny="60s"), ECHO)
    gone, held = px.client(), px.client()
    for c in (gone, held):
        c.sock.sendall(b"x")
    until(lambda: px.stat("nr.rbac.denied") == 2)
    gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()  # who leaves is not kept
    until(lambda: px.stat(f"listener.127.0.0.1_{px.port}.downstream_cx_active") == 1)
    held.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        held.sock.recv(1)
    held.close()
