"""The peer h2spec (2.2.1, 145 tests) finds nothing, on a route and on answers of the proxy itself (row H2)."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import config
from wire import HOST, free_port

CACHE = pathlib.Path(__file__).resolve().parents[3] / ".cache" / "bin" / "h2spec"
H2SPEC = str(CACHE) if os.access(CACHE, os.X_OK) else shutil.which("h2spec")
pytestmark = [pytest.mark.stricter, pytest.mark.skipif(not H2SPEC, reason="peer h2spec is not installed")]
LOCAL = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "a body that is longer than some windows"}}}


@pytest.mark.parametrize("routes", [None, [LOCAL]], ids=["route", "local-reply"])
def test_h2spec(mesh, routes):
    port = mesh.sample_server()
    manager = config.hcm(routes or [config.route("/", "sample", prefix_rewrite="/bytes/1000")], codec_type="HTTP2")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [manager])], [config.cluster("sample", [port])], free_port()))
    out = subprocess.run([H2SPEC, "-h", HOST, "-p", str(px.port), "-o", "5"], capture_output=True, timeout=120, check=False).stdout.decode("utf-8", "replace")
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", out)
    assert found and found[1] == found[2] == "145", out[-4000:]
