"""Documents full of one repeated field: what they cost to read and to serve grows with their size, and with its square nowhere (H01)."""
import os
import pathlib
import re

import pytest

import control
import large

pytest.importorskip("envoy.config.core.v3.base_pb2", reason="peer xds-protos is not installed")
import ads_load  # noqa: E402

SANITIZED = control.MIZZEND.exists() and b"__asan_init" in control.MIZZEND.read_bytes()
pytestmark = [pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built"),
              pytest.mark.skipif(SANITIZED, reason="measures time and memory")]
SMALL, LARGE = 200 << 10, 800 << 10  # bytes
ENOUGH = 0.4  # seconds of CPU that need no second look
MULTIPLY = {"WorkloadEntries by ServiceEntries"}  # as documents of both mean it, up to a limit (test_bombs.py)
GROUPS = sorted({re.split(r"[. ]", name)[0] for name in large.CASES})


def cpu(m):
    fields = pathlib.Path(f"/proc/{m.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(m):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{m.process.pid}/status").read_text())[1]) >> 10


def cost(folder, binary, docs):
    """Seconds of CPU until a sidecar and a gateway have all that they ask for, and memory."""
    folder.mkdir()
    m = control.Mizzend(folder, large.files(docs))
    try:
        for node in large.NODES.values():
            load = ads_load.Load(binary, m.port, 1, [node])
            try:
                assert load.ask("ready")["clients"] == 1
            finally:
                load.close()
        return cpu(m), peak_mb(m)
    finally:
        m.stop()


@pytest.mark.parametrize("group", GROUPS)
def test_cost_grows_with_size(tmp_path, group):
    binary, slow = ads_load.program(tmp_path), []
    for i, name in enumerate(n for n in large.CASES if re.split(r"[. ]", n)[0] == group):
        for how in ("distinct", "equal"):
            seconds, mb = cost(tmp_path / f"{i}-{how}", binary, large.documents(name, how, LARGE))
            if seconds > ENOUGH:
                less, _ = cost(tmp_path / f"{i}-{how}-small", binary, large.documents(name, how, SMALL))
                grows = name not in MULTIPLY and seconds > 0.2 + 7 * max(less, 0.05)  # four times the size; its square is 16
                if seconds > 2.5 or grows:
                    slow.append(f"{name}, {how}: {less} s of {SMALL >> 10} KB, {seconds} s of {LARGE >> 10} KB")
            if mb > 800:
                slow.append(f"{name}, {how}: {mb} MB")
    assert not slow, "\n".join(slow)
