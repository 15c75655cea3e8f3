"""Statuses are written by a child of mizzend: whatever analyzers take, nobody waits for them (C7, C12)."""
import os
import pathlib
import signal

import pytest

import big_mesh
import control
from wire import until

pytest.importorskip("envoy.config.core.v3.base_pb2", reason="peer xds-protos is not installed")
import ads_load  # noqa: E402

SERVICES, SPACES = 300, 3
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")


def children(pid):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except OSError:
            pass  # it went meanwhile
    return found


@pytest.fixture
def mizzend(tmp_path):
    m = control.Mizzend(tmp_path, big_mesh.files(SERVICES, SPACES, with_rules=True), "--status-dir", str(tmp_path / "status"))
    yield m
    m.stop()


def caught(m):
    """The child, stopped: what it does takes for ever now."""
    child = until(lambda: children(m.process.pid), 30, "a child that writes")[0]
    os.kill(child, signal.SIGSTOP)
    return child


def endpoints(m, address):
    return lambda: m.write("endpoints-0.yaml", big_mesh.endpoints_file(0, SERVICES, SPACES, address))


def rule(m, host):
    m.write("own.yaml", f"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: own, namespace: ns0}}\nspec: {{host: {host}}}\n")


def test_changes_reach_proxies_meanwhile(mizzend, tmp_path):
    child = caught(mizzend)
    load = ads_load.Load(ads_load.program(tmp_path), mizzend.port, 5, [big_mesh.node(i, SPACES) for i in range(5)])
    try:
        assert load.ask("ready")["clients"] == 5
        for i in range(1, 4):
            assert load.reached(f"10.77.0.{i}", endpoints(mizzend, f"10.77.0.{i}"))["clients"] == 5
        rule(mizzend, "nobody-has-it")
        until(lambda: "DestinationRule" in mizzend.page("/debug/configz") and '"own"' in mizzend.page("/debug/configz"), 10, "the rule to be there")
        assert children(mizzend.process.pid) == [child], "one at a time"
        assert not (tmp_path / "status/ns0/DestinationRule/own.yaml").exists()
        os.kill(child, signal.SIGCONT)
        told = tmp_path / "status/ns0/DestinationRule/own.yaml"
        until(lambda: told.exists() and "IST0174" in told.read_text(), 60, "what changed meanwhile is written after it")
    finally:
        load.close()


def test_one_that_dies_is_told_and_made_again(mizzend, tmp_path):
    os.kill(caught(mizzend), signal.SIGKILL)
    until(lambda: "status: not written: the analysis was ended by signal 9" in mizzend.log(), 30, "it to be told")
    rule(mizzend, "s0")
    until(lambda: (tmp_path / "status/ns0/DestinationRule/own.yaml").exists(), 60, "the next one")


def test_what_cannot_be_written_is_told(mizzend, tmp_path):
    until(lambda: (tmp_path / "status/ns0/VirtualService/r0.yaml").exists() and not children(mizzend.process.pid), 60, "the first ones")
    (tmp_path / "status/ns0/DestinationRule/own.yaml.new").mkdir()
    rule(mizzend, "s0")
    until(lambda: "status: " in mizzend.log() and "own.yaml" in mizzend.log(), 30, "why not")
    assert until(lambda: not children(mizzend.process.pid), 30, "it to end")


def test_none_is_left_behind(mizzend):
    child = caught(mizzend)
    mizzend.process.terminate()
    mizzend.process.wait(30)
    until(lambda: not pathlib.Path(f"/proc/{child}").exists(), 10, "the child to be gone")
