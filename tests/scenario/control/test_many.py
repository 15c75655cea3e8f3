"""Thousands of clients, some of which misbehave: others are served in time, and memory stays bounded (C6, H05)."""
import json
import pathlib
import re
import threading

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


class Stop(threading.Event):
    comings = 0


def come_back(load, stop):
    """All of them at once, again and again, whether or not they were told everything."""
    try:
        while not stop.wait(0.2):
            load.ask("again")
            stop.comings += 1
    except (AssertionError, OSError, ValueError):
        assert stop.is_set(), "it ended by itself"


def test_many_and_bad_ones_among_them(tmp_path):
    m = control.Mizzend(tmp_path, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
    binary, loads, stop = ads_load.program(tmp_path), [], Stop()

    def load(n, *how):
        loads.append(ads_load.Load(binary, m.port, n, NODES, *how))
        return loads[-1]

    def change(i, net=0):
        kube = (CASE / "input" / "kube.yaml").read_text()
        return lambda: m.write("kube.yaml", kube.replace('addresses: ["10.10.0.21"]', f'addresses: ["10.78.{net}.{i}"]'))
    try:
        good, world = load(600), load(400, "--sotw")
        assert good.ask("ready")["clients"] == 600 and world.ask("ready")["clients"] == 400
        assert good.reached("10.78.0.1", change(1))["clients"] == 600
        before = resident_mb(m)
        alone = max(good.reached(f"10.78.1.{i}", change(i, 1))["p99_ms"] for i in range(1, 4))
        bad = [load(250, how) for how in ("--silent", "--refuse", "--deaf", "--stuck")]
        restless = load(250)  # who comes back all the time
        comes = threading.Thread(target=come_back, args=(restless, stop))
        comes.start()
        until(lambda: bad[0].ask("count")["responses"] >= 400 and bad[1].ask("count")["responses"] >= 400, 60, "first answers to those who answer badly")
        beside = []
        for i in range(2, 12):
            told = good.reached(f"10.78.0.{i}", change(i))
            assert told["clients"] == 600
            beside.append(told["p99_ms"])
        until(lambda: stop.comings > 3, 60, "clients that come back")
        stop.set()
        comes.join(60)
        assert sorted(beside)[len(beside) // 2] < (20000 if SANITIZED else 2000), f"99 of 100 good clients had the change after {beside} ms, alone after {alone} ms"
        assert bad[0].ask("count")["most"] <= 4, "one response of a type until it is answered"
        assert bad[1].ask("count")["most"] <= 4 + 11, "what was refused is sent again when it is another, and not before"
        grown = resident_mb(m) - before
        assert grown < (500 if SANITIZED else 100), f"{grown} MB for 1,250 that misbehave"
        for x in (good, world):  # all at once, as after a restart of what stands before them
            x.ask("again")
        assert good.ask("ready")["clients"] == 600 and world.ask("ready")["clients"] == 400
        assert world.reached("10.78.0.99", change(99))["clients"] == 400
        assert resident_mb(m) - before < (700 if SANITIZED else 130)
    finally:
        stop.set()
        for x in loads:
            x.close()
        m.stop()
