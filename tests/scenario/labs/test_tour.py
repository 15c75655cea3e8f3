"""docs/tour.md says what the commands say today, but for numbers, names that are made up, and times."""
import shutil
import subprocess
import sys

import pytest

from labs import can_run
from samples import BIN, ROOT
from wire import patient


def test_the_tour_is_as_it_was():
    missing = [t for t in ("curl", "jq", "unshare") if not shutil.which(t)]
    if missing or not can_run():
        pytest.skip(f"needs {', '.join(missing) or 'root or user namespaces'}")
    r = subprocess.run([sys.executable, ROOT / "bookinfo/tour.py", "--bin", BIN, "--check", ROOT.parent / "docs/tour.md"], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=patient(90))
    assert r.returncode == 0, f"samples/bookinfo/tour.py --out docs/tour.md writes it anew; the difference:\n{r.stdout[-6000:]}{r.stderr[-2000:]}"
