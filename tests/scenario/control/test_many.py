"""Thousands of clients, some of which misbehave: others are served in time, and memory stays bounded (C6, H05)."""
import json
import pathlib
import re

import pytest

import control
from wire import until

pytest.importorskip("envoy.config.core.v3.base_pb2", reason="peer xds-protos is not installed")
import ads_load  # noqa: E402

CASE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "plain-http"
NODES = [json.loads((CASE / p / "node.json").read_text()) for p in ("web", "api-dns")]
SANITIZED = control.MIZZEND.exists() and b"__asan_init" in control.MIZZEND.read_bytes()
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")


def resident_mb(m):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{m.process.pid}/status").read_text())[1]) >> 10


def test_many_and_bad_ones_among_them(tmp_path):
    m = control.Mizzend(tmp_path, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
    binary, loads = ads_load.program(tmp_path), []

    def load(n, *how):
        loads.append(ads_load.Load(binary, m.port, n, NODES, *how))
        return loads[-1]

    def change(i):
        kube = (CASE / "input" / "kube.yaml").read_text()
        return lambda: m.write("kube.yaml", kube.replace('addresses: ["10.10.0.21"]', f'addresses: ["10.78.0.{i}"]'))
    try:
        good, world = load(600), load(400, "--sotw")
        assert good.ask("ready")["clients"] == 600 and world.ask("ready")["clients"] == 400
        assert good.reached("10.78.0.1", change(1))["clients"] == 600
        before = resident_mb(m)
        bad = [load(200, how) for how in ("--silent", "--refuse", "--deaf", "--stuck")]
        until(lambda: bad[0].ask("count")["responses"] >= 400 and bad[1].ask("count")["responses"] >= 400, 60, "first answers to those who answer badly")
        for i in range(2, 8):
            assert good.reached(f"10.78.0.{i}", change(i))["clients"] == 600
        assert bad[0].ask("count")["most"] <= 4, "one response of a type until it is answered"
        assert bad[1].ask("count")["most"] <= 4 + 7, "what was refused is sent again when it is another, and not before"
        grown = resident_mb(m) - before
        assert grown < (400 if SANITIZED else 80), f"{grown} MB for 800 that misbehave"
        for x in (good, world):  # all at once, as after a restart of what stands before them
            x.ask("again")
        assert good.ask("ready")["clients"] == 600 and world.ask("ready")["clients"] == 400
        assert world.reached("10.78.0.99", change(99))["clients"] == 400
        assert resident_mb(m) - before < (600 if SANITIZED else 100)
    finally:
        for x in loads:
            x.close()
        m.stop()
