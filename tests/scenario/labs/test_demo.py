"""`script/demo` as it is after a build: says what a mesh does, and leaves nothing behind."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

from labs import can_run
from running import state_folder
from samples import BIN, ROOT
from wire import patient


def leftovers():
    """Processes that a demo started; network namespaces with a name."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"demo/bookinfo" in (p / "cmdline").read_bytes() and int(p.name) != os.getpid():
                found.append(p.name)
        except OSError:
            pass
    return found, sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []


@pytest.fixture
def bin_dir(tmp_path):
    """The demo keeps its files beside the programs."""
    if not can_run():
        pytest.skip("needs root or user namespaces")
    if state_folder("bookinfo").exists():
        pytest.skip("a mesh of the name bookinfo runs on this machine")
    for p in BIN.glob("mizzen*"):
        if p.is_file() and os.access(p, os.X_OK):
            (tmp_path / p.name).symlink_to(p)
    return tmp_path


def test_once(bin_dir):
    before = leftovers()
    r = subprocess.run([sys.executable, ROOT / "bookinfo/demo.py", "--once", "--bin", bin_dir], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(60))
    out = r.stdout
    assert r.returncode == 0, out + r.stderr
    assert re.search(r"7 pods, first page after \d+ ms", out)
    assert re.search(r"productpage-v1 +-> details-v1 +200 +210", out) and re.search(r"productpage-v1 +-> reviews-v2 +200 +10\b", out)
    assert re.search(r"in force after \d+ ms; tester's page is 200 without stars, jason's has its stars", out)
    assert re.search(r"reviews-v\d +-> unknown +500 +\d+ +flags FI", out)
    assert "mutual_tls" in out and "is spiffe://cluster.local/ns/default/sa/bookinfo-reviews" in out
    assert re.search(r"200 pages, 0 errors, p50 [\d.]+ ms", out)
    assert "explain productpage-v1 http://details:9080/details/0" in out and "destination-rules.yaml:" in out and "security.yaml:" in out
    total = re.search(r"mizzend, agents and proxies: ([\d.]+) MB", out)
    assert total and float(total[1]) > 5
    assert not state_folder("bookinfo").exists() and leftovers() == before
