"""gRPC's interoperability cases between google.golang.org/grpc's client and server: in clear text, over TLS on both sides, and over
two proxies with mutual TLS between them (row U6)."""
import json
import subprocess

import pytest

import config
from go_peers import go_peer, needs
from pki import Pki
from wire import HOST, Client, free_port, patient, until

CLIENT, SERVER = "grpc-interop-client", "grpc-interop-server"
pytestmark = needs(CLIENT, SERVER)
CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
         "cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
         "unimplemented_method", "unimplemented_service", "orca_per_rpc", "orca_oob"]
SOAKS = ["rpc_soak", "channel_soak"]
TLS = "envoy.extensions.transport_sockets.tls.v3."
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def hop(port, to, down=None, up=None):
    """A proxy of gRPC: listens on port, asks `to`; no time limits, as is usual for streams."""
    route = config.route("/", "next", timeout="0s", max_stream_duration={"grpc_timeout_header_max": "0s"})
    place = config.listener(port, [config.hcm([route], codec_type="HTTP2")])
    if down:
        place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", **down)
    more = {"transport_socket": config.ext("tls", TLS + "UpstreamTlsContext", **up)} if up else {}
    return config.bootstrap([place], [config.cluster("next", [to], H2, **more)], free_port())


class Way:
    """A server, one or two proxies in front of it, and how the client is to be called."""

    def __init__(self, mesh, folder, kind):
        self.pki = Pki(folder / "pki")
        self.pki.authority()
        self.pki.issue("a", "DNS:server.test,DNS:waterzooi.test.google.be")
        self.mesh, self.port, server = mesh, free_port(), free_port()
        trust = {"validation_context": {"trusted_ca": {"filename": self.pki.path("ca.pem")}}}
        own = {"tls_certificates": [self.pki.pair("a")], "alpn_protocols": ["h2"]}
        tls = kind == "tls"
        argv = [go_peer(SERVER), f"-port={server}"]
        if tls:
            argv += ["-use_tls", "-tls_cert_file=" + self.pki.path("a.pem"), "-tls_key_file=" + self.pki.path("a.key")]
        mesh.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until(lambda: open_port(server), 10, "the server")
        first = {"common_tls_context": own}
        up = {"common_tls_context": {**trust, "alpn_protocols": ["h2"]}, "sni": "server.test"}
        if kind == "two-hops":
            second = free_port()
            mesh.proxy(name="second", boot=hop(second, server, {"common_tls_context": {**own, **trust}, "require_client_certificate": True}))
            self.proxy = mesh.proxy(name="first", boot=hop(self.port, second, up={**up, "common_tls_context": {**up["common_tls_context"], **own}}))
        else:
            self.proxy = mesh.proxy(boot=hop(self.port, server, first if tls else None, up if tls else None))
        self.client = ["-use_tls", "-use_test_ca", "-ca_file=" + self.pki.path("ca.pem"), "-server_host_override=server.test"] if tls else []

    def run(self, case, *more):
        argv = [go_peer(CLIENT), f"-server_host={HOST}", f"-server_port={self.port}", f"-test_case={case}", *self.client, *more]
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(60), check=False)
        assert p.returncode == 0, p.stderr[-3000:]


def open_port(port):
    try:
        Client((HOST, port)).close()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module", params=["h2c", "tls", "two-hops"])
def way(request, proxy_binary, tmp_path_factory):
    from mesh import Mesh
    folder = tmp_path_factory.mktemp("interop")
    m = Mesh(proxy_binary, folder)
    yield Way(m, folder, request.param)
    m.close()


@pytest.mark.parametrize("case", CASES)
def test_case(way, case):
    options = []
    if case.startswith("orca"):
        options = ["-service_config_json", json.dumps({"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]})]
    way.run(case, *options)
    assert until(lambda: way.proxy.stat("cluster.next.upstream_rq_active") == 0, 10, "no stream left") is True


@pytest.mark.parametrize("case", SOAKS)
def test_soak(way, case):
    way.run(case, "-soak_iterations=200", "-soak_per_iteration_max_acceptable_latency_ms=10000", "-soak_overall_timeout_seconds=50")
