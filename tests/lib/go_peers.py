"""Programs built from Go modules (script/bootstrap puts them into .cache/bin): where they are, or the mark that skips a test."""
import os
import pathlib
import shutil

import pytest

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "bin"


def go_peer(name):
    """The path of a program, or None."""
    return str(CACHE / name) if os.access(CACHE / name, os.X_OK) else shutil.which(name)


def needs(*names):
    missing = [n for n in names if not go_peer(n)]
    return pytest.mark.skipif(bool(missing), reason="peer " + ", ".join(missing) + " is not installed")
