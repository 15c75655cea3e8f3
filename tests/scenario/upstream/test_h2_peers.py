"""HTTP/2 with other people's programs: nghttpd and nginx as upstreams; curl, nghttp, h2load and hey as clients (rows H2, U3)."""
import os
import re
import shutil
import subprocess

import pytest

import config
from pki import Pki
from wire import Client, HOST, free_port, until

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}
NGINX = """{user} daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log; events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d}; uwsgi_temp_path {d}; scgi_temp_path {d};
  keepalive_requests {requests};
  server {{ listen 127.0.0.1:{port} http2; root {d}/files; }} }}
"""


class Peer:
    name = "up"

    def __init__(self, mesh, argv, port):
        self.port = port
        mesh.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def there():
            try:
                Client((HOST, port)).close()
                return True
            except OSError:
                return False
        until(there, 10, argv[0])


def tool(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if not found:
        pytest.skip(f"peer {name} is not installed")
    return found


def run(*argv):
    return subprocess.run([tool(argv[0]), *argv[1:]], capture_output=True, text=True, timeout=60)


@pytest.fixture(params=["nghttpd", "nginx"])
def up(request, mesh):
    d = mesh.folder / "peer"
    (d / "files").mkdir(parents=True)
    (d / "files" / "small").write_bytes(b"hello")
    (d / "files" / "big").write_bytes(bytes(range(256)) * 32768)  # 8 MiB
    port = free_port()
    if request.param == "nghttpd":
        return Peer(mesh, [tool("nghttpd"), "--no-tls", "-d", str(d / "files"), "-a", HOST, str(port)], port)
    (d / "nginx.conf").write_text(NGINX.format(d=d, port=port, user="user root;" if os.geteuid() == 0 else "",
                                               requests=100 if "few_requests" in request.node.name else 1000000))
    return Peer(mesh, [tool("nginx"), "-c", str(d / "nginx.conf"), "-e", str(d / "error.log")], port)


@pytest.fixture
def px(mesh, up):
    mesh.up = up
    return mesh.proxy(upstreams=[up], cluster={"http": HTTP2})


def test_http1_client(px):
    with px.client() as c:
        assert c.get("/small").body == b"hello"
        assert c.get("/big").body == bytes(range(256)) * 32768
        assert c.get("/none").status == 404
    assert px.stat("cluster.up.upstream_cx_http2_total") == 1


def test_connections_of_few_requests(px):  # nginx says GOAWAY after 100 requests: nobody notices
    with px.client() as c:
        for _ in range(350):
            assert c.get("/small").body == b"hello"
    assert px.stat("cluster.up.upstream_rq_200") == 350 and px.stat("cluster.up.upstream_rq_503") == 0


def test_curl(px):
    r = run("curl", "-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download}", f"http://{HOST}:{px.port}/big")
    assert r.stdout == "200 2 8388608"


def test_nghttp(px):
    r = run("nghttp", "-nv", "-m", "5", f"http://{HOST}:{px.port}/big", f"http://{HOST}:{px.port}/small")
    assert r.returncode == 0 and len(re.findall(r":status: 200", r.stdout)) >= 6


def test_h2load(px):
    r = run("h2load", "-n", "3000", "-c", "8", "-m", "20", f"http://{HOST}:{px.port}/small")
    assert "3000 succeeded, 0 failed, 0 errored" in r.stdout, r.stdout
    assert px.stat("http.in.downstream_rq_2xx") == 3000
    assert px.stat("cluster.up.upstream_rq_503") == 0


def hey(*argv):
    """What Go's client saw: {status: how often}."""
    out = run("hey", "-n", "2000", "-c", "8", *argv).stdout
    assert "Error distribution" not in out, out
    return {int(code): int(n) for code, n in re.findall(r"\[(\d+)\]\s+(\d+) responses", out)}


def test_hey(px):  # HTTP/1.1, connections that stay
    assert hey(f"http://{HOST}:{px.port}/small") == {200: 2000}
    assert px.stat("http.in.downstream_rq_2xx") == 2000 and px.stat("http.in.downstream_cx_total") <= 16  # two dials may race for one place
    assert px.stat("cluster.up.upstream_rq_503") == 0


def test_hey_over_tls(mesh, up, tmp_path):  # HTTP/2 chosen by ALPN, as gRPC clients of Go do
    pki = Pki(tmp_path / "pki")
    pki.authority()
    pki.issue("server")
    tls = config.ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                     common_tls_context={"tls_certificates": [pki.pair("server")], "alpn_protocols": ["h2", "http/1.1"]})
    place = config.listener(free_port(), [config.hcm([config.route("/", "up")], log=config.access_log(mesh.folder / "access.log"))])
    place["filter_chains"][0]["transport_socket"] = tls
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster("up", [up.port], http=HTTP2)], free_port()))
    assert hey("-h2", f"https://{HOST}:{px.port}/small") == {200: 2000}
    assert px.stat("http.in.downstream_rq_http2_total") == 2000 and px.stat("http.in.downstream_rq_http1_total") == 0
    # a body nobody reads, and DATA behind RST_STREAM; nginx refuses what comes before it has seen our acknowledgement
    assert hey("-h2", "-m", "POST", "-d", "x" * 20000, f"https://{HOST}:{px.port}/small").keys() <= {200, 405, 503}
    assert px.stat("http.in.downstream_cx_protocol_error") == 0 and px.stat("http.in.downstream_cx_destroy_local") == 0


def test_two_hops(mesh, px):
    outer = mesh.proxy(upstreams=[type("Hop", (), {"name": "up", "port": px.port})], cluster={"http": HTTP2}, name="outer",
                       hcm={"codec_type": "HTTP2"})
    r = run("h2load", "-n", "2000", "-c", "4", "-m", "20", f"http://{HOST}:{outer.port}/small")
    assert "2000 succeeded, 0 failed, 0 errored" in r.stdout, r.stdout
    assert outer.stat("cluster.up.upstream_cx_http2_total") == 1
