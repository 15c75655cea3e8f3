"""The peer h2spec (2.2.1, 145 tests) finds nothing, on a route and on answers of the proxy itself, in clear text and over TLS (rows H2, T1)."""
import re
import subprocess

import pytest

import config
from go_peers import go_peer, needs
from pki import Pki
from wire import HOST, free_port

pytestmark = [pytest.mark.stricter, needs("h2spec")]
LOCAL = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "a body that is longer than some windows"}}}


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
@pytest.mark.parametrize("routes", [None, [LOCAL]], ids=["route", "local-reply"])
def test_h2spec(mesh, tmp_path, routes, tls):
    port = mesh.sample_server()
    manager = config.hcm(routes or [config.route("/", "sample", prefix_rewrite="/bytes/1000")], codec_type="AUTO" if tls else "HTTP2")
    place, more = config.listener(free_port(), [manager]), []
    if tls:
        pki, more = Pki(tmp_path / "pki"), ["-t", "-k"]
        pki.authority()
        pki.issue("server")
        place["filter_chains"][0]["transport_socket"] = config.ext(
            "tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={"tls_certificates": [pki.pair("server")], "alpn_protocols": ["h2"]})
    px = mesh.proxy(boot=config.bootstrap([place], [config.cluster("sample", [port])], free_port()))
    argv = [go_peer("h2spec"), "-h", HOST, "-p", str(px.port), "-o", "5", *more]
    out = subprocess.run(argv, capture_output=True, timeout=120, check=False).stdout.decode("utf-8", "replace")
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", out)
    assert found and found[1] == found[2] == "145", out[-4000:]
