"""The lab of samples/tcp-stats (B3): loss between a proxy and its TLS server shows in the kernel's figures, and nothing gets stuck."""
import pathlib
import re
import subprocess
import sys

import pytest

LAB = pathlib.Path(__file__).resolve().parents[3] / "samples/tcp-stats/lab.py"


def test_b3_loss_is_seen(proxy_binary, is_envoy):
    """As a regression: TLS that had records left did not ask the socket again, and an answer stayed in the kernel (100 requests nearly always met that)."""
    server = next((p for p in (pathlib.Path(proxy_binary).parent, LAB.parents[2] / "build") if (p / "mizzen-sample-server").exists()), None)
    if not server:
        pytest.skip("needs mizzen-sample-server")
    r = subprocess.run([sys.executable, LAB, "--proxy", proxy_binary, "--server", server / "mizzen-sample-server", "--requests", "100"], capture_output=True, text=True, timeout=600)
    if r.returncode == 77:
        pytest.skip(r.stdout.strip())
    assert r.returncode == 0, r.stdout + r.stderr
    rows = {name: (before, after) for name, before, after in re.findall(r"^(cx_\w+)(?: \(P99\))? +(\S+) +(\S+)$", r.stdout, re.M)}
    before, after = map(int, rows["cx_tx_retransmitted_segments"])
    assert after > 100 and before < after / 5, r.stdout  # a busy machine repeats one or two by itself
    assert float(rows["cx_rtt_us"][1]) > 0, r.stdout
