"""upstream_bind_config (U3): an address that this machine has not got."""
import socket

import config
from tcp import FIELDS, Tcp
from wire import HOST, free_port

NOWHERE = {"upstream_bind_config": {"source_address": {"address": "192.0.2.1", "port_value": 0}}}
WHY = "failed_to_bind_to_192.0.2.1:0:_Cannot_assign_requested_address"


def check(px, name, n=1):
    assert px.stat(f"cluster.{name}.bind_errors") == n and px.stat(f"cluster.{name}.upstream_cx_connect_fail") == 1
    assert px.stat(f"cluster.{name}.upstream_cx_destroy_local") == 1 and px.stat(f"cluster.{name}.upstream_cx_destroy_remote") == 0


def test_http(mesh):
    mesh.upstream()
    px = mesh.proxy(cluster=NOWHERE)
    r = px.get("/")
    assert r.status == 503 and b"reset reason: local connection failure" in r.body
    e = px.access_log(1)[0]
    assert e["flags"] == "UF" and e["details"] == f"upstream_reset_before_response_started{{local_connection_failure|{WHY}}}"
    check(px, "up")


def test_tcp(mesh):
    tcp = Tcp(mesh)
    tcp.server("up")
    px = tcp.start(per_cluster=NOWHERE)
    with socket.create_connection((HOST, px.port), timeout=5) as s:
        assert s.recv(1) == b""
    e = px.access_log(1)[0]
    assert e["flags"] == "URX" and e["fail"] == WHY
    check(px, "up")
    tcp.close()


def test_each_address_of_a_host(mesh):
    c = config.cluster("up", [free_port()], **NOWHERE)
    c["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["additional_addresses"] = [{"address": config.address(free_port())}]
    manager = config.hcm([config.route("/")], log=config.access_log(mesh.folder / "access.log"))
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [c], free_port()))
    assert px.get("/").status == 503
    assert px.access_log(1)[0]["details"].endswith(f"{{local_connection_failure|{WHY}}}")
    check(px, "up", 2)
