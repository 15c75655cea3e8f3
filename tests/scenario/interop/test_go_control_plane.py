"""go-control-plane's own integration program: three snapshots of clusters, endpoints, listeners, routes, scopes, runtime layers and
secrets in each of its modes, and requests through each listener after each (rows X1-X3)."""
import socket
import subprocess

import pytest

import config
from go_peers import go_peer, needs
from upstream import Reply
from wire import HOST, free_port

PROGRAM = "go-control-plane-integration"
pytestmark = needs(PROGRAM)
MODES = {"ads": ["--xds=ads", "--runtimes=2"], "xds": ["--xds=xds"], "rest": ["--xds=rest"], "delta": ["--xds=delta"],
         "delta-ads": ["--xds=delta-ads"], "mux": ["--xds=xds", "--mux"]}
API = {"ads": "GRPC", "xds": "GRPC", "mux": "GRPC", "rest": "REST", "delta": "DELTA_GRPC", "delta-ads": "DELTA_GRPC"}
LISTENERS = 16  # ports in a row, more than the program uses
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def source(mode):
    api = {"api_type": API[mode], "transport_api_version": "V3"}
    if mode == "rest":
        return {**api, "refresh_delay": "0.2s", "cluster_names": ["xds_cluster"]}
    return {**api, "set_node_on_first_message_only": True, "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}]}


def bootstrap(mode, server, gateway, als):
    """What the program's folder `sample` has for the mode, with ports of ours."""
    where = {"resource_api_version": "V3", **({"ads": {}} if "ads" in mode else {"api_config_source": source(mode)})}
    dynamic = {"cds_config": where, "lds_config": where}
    extra = {}
    if "ads" in mode:
        dynamic["ads_config"] = source(mode)
    else:
        extra["layered_runtime"] = {"layers": [{"name": "runtime-0", "rtds_layer": {"name": "runtime-0", "rtds_config": where}}]}
    http = None if mode == "rest" else H2
    boot = config.bootstrap([], [config.cluster("xds_cluster", [gateway if mode == "rest" else server], http),
                                 config.cluster("als_cluster", [als], http)], free_port(), dynamic_resources=dynamic, **extra)
    return {**boot, "node": {"id": "test-id", "cluster": "test-cluster"}}


def free_row(n):
    """The first of n ports in a row that nobody listens on."""
    while True:
        first, held = free_port(), []
        try:
            for i in range(n):
                held.append(socket.socket())
                held[-1].bind((HOST, first + i))
            return first
        except (OSError, OverflowError):
            pass
        finally:
            for s in held:
                s.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("mode", MODES)
def test_integration(mesh, proxy_binary, tmp_path, mode, tls):
    up = mesh.upstream(script=[Reply(200, b"Hi, there!\n")])
    server, gateway, als, base = free_port(), free_port(), free_port(), free_row(LISTENERS)
    slow = "san" in proxy_binary
    argv = [go_peer(PROGRAM), *MODES[mode], f"--tls={str(tls).lower()}", "-debug", "-message=Hi, there!\n", f"-port={server}", f"-gateway={gateway}",
            f"-als={als}", f"-base={base}", f"-upstream={up.port}", "-delay=300ms", f"-r={20 if slow else 5}"]
    log = tmp_path / "program.log"
    with open(log, "wb") as out:
        program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    mesh.processes.append(program)
    mesh.proxy(boot=bootstrap(mode, server, gateway, als), ready=False, args=("--drain-time-s", "1"))
    assert program.wait(90) == 0, log.read_text("utf-8", "replace")[-6000:]
    assert f"Test for {MODES[mode][0][6:]} passed!" in log.read_text("utf-8", "replace")
