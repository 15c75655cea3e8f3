"""Bootstraps as Istio's agent renders them, and what stands in them (A1, P8, P9, O1)."""
import gzip
import json
import pathlib
import re
import subprocess

import config
import pytest
from wire import HOST, Client, free_port, until

RENDERED = json.loads(gzip.decompress((pathlib.Path(__file__).parents[2] / "conformance" / "istio" / "bootstrap.json.gz").read_bytes()))


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_what_the_agent_renders(proxy_binary, tmp_path, name):
    (tmp_path / "envoy-rev.json").write_text(json.dumps(RENDERED[name]))
    r = subprocess.run([proxy_binary, "-c", tmp_path / "envoy-rev.json", "--mode", "validate", "--drain-time-s", "45", "--drain-strategy", "immediate",
                        "--local-address-ip-version", "v4", "--file-flush-interval-msec", "1000", "--disable-hot-restart",
                        "--allow-unknown-static-fields", "-l", "warning", "--component-log-level", "misc:error", "--skip-deprecated-logs", "--concurrency", "2"],
                       capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert r.returncode == 0, r.stderr


def boot(up, **fields):
    return config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/", up.name)])])], [config.cluster(up.name, [up.port])], free_port(), **fields)


def test_connections_of_the_whole_process_are_limited(mesh):  # P8
    monitor = config.ext("envoy.resource_monitors.global_downstream_max_connections",
                         "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig", max_active_downstream_connections=2)
    b = boot(mesh.upstream(), overload_manager={"resource_monitors": [monitor]})
    b["static_resources"]["listeners"].append({**config.listener(free_port(), [config.hcm([config.route("/", "up")])], name="free"),
                                               "ignore_global_conn_limit": True, "bypass_overload_manager": True})
    px = mesh.proxy(boot=b)
    held = [px.client() for _ in range(2)]
    assert all(c.get("/").status == 200 for c in held)
    with px.client() as c:
        assert c.ended(5)
    name = next(n for n in px.stats("downstream_global_cx_overflow$") if str(px.port) in n)
    assert px.wait_stat(name)
    with Client((HOST, b["static_resources"]["listeners"][1]["address"]["socket_address"]["port_value"])) as c:
        assert c.get("/").status == 200
    held.pop().close()

    def again():
        try:
            return px.get("/").status == 200
        except (EOFError, OSError):
            return False
    until(again, 5, "room for another connection")
    held.pop().close()


def test_statistics_of_clusters_wait_for_traffic(mesh):  # O1
    px = mesh.proxy(boot=boot(mesh.upstream(), deferred_stat_options={"enable_deferred_creation_stats": True}))
    assert not px.stats(r"^cluster\.up\.upstream_(rq|cx)_total$") and px.stats(r"^cluster\.up\.membership_total$")
    assert px.get("/").status == 200
    assert px.stats(r"^cluster\.up\.upstream_(rq|cx)_total$") == {"cluster.up.upstream_rq_total": 1, "cluster.up.upstream_cx_total": 1}


def test_lines_look_as_configured(mesh):  # P9
    form = {"log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"}}
    px = mesh.proxy(boot=boot(mesh.upstream(), application_log_config=form))
    line = next(x for x in px.log().splitlines() if "starting main dispatch loop" in x)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\tinfo\tenvoy main \S+:\d+\tstarting main dispatch loop\tthread=\d+", line)


def test_one_format_only(mesh, proxy_binary, tmp_path):
    (tmp_path / "b.json").write_text(json.dumps(boot(mesh.upstream(), application_log_config={"log_format": {"text_format": "%v"}})))
    r = subprocess.run([proxy_binary, "-c", tmp_path / "b.json", "--mode", "validate", "--log-format", "%v"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "log_format" in r.stdout + r.stderr


def test_what_the_program_can_do(mesh, is_envoy):  # X1: a control plane asks the node
    px = mesh.proxy(boot=boot(mesh.upstream()))
    known = json.loads(px.admin("/server_info")[1])["node"]["extensions"]
    found = {(e["category"], e["name"]): e["type_urls"] for e in known}
    assert is_envoy or len(found) == len(known)
    assert found["envoy.filters.http", "envoy.filters.http.rbac"] == ["envoy.extensions.filters.http.rbac.v3.RBAC",
                                                                      "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"]
    assert found["envoy.filters.network", "envoy.filters.network.tcp_proxy"] == ["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"]
    assert ("envoy.transport_sockets.upstream", "envoy.transport_sockets.tls") in found
    if not is_envoy:
        for name in ("envoy.filters.http.peer_metadata", "envoy.filters.http.istio_stats", "envoy.filters.http.alpn"):
            assert ("envoy.filters.http", name) in found
        assert ("envoy.filters.network", "envoy.filters.network.metadata_exchange") in found
