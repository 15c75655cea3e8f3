"""mizzenctl as a person calls it."""
import os
import pathlib
import subprocess

MIZZENCTL = pathlib.Path(os.environ.get("MIZZEN_PROXY", "build/mizzen-proxy")).resolve().with_name("mizzenctl")


def run(*args, text=None, cwd=None):
    p = subprocess.run([MIZZENCTL, *map(str, args)], input=text, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert "Sanitizer" not in p.stderr and "runtime error" not in p.stderr, p.stderr[-3000:]
    return p
