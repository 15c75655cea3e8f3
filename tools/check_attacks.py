#!/usr/bin/python3
"""Fails when an attack of tests/attacks.txt has no scenario named by its ID: in a test's name, or as the begin of a row's."""
import pathlib, re, sys
root = pathlib.Path(sys.argv[1]) / "tests"
text = "\n".join(f.read_text() for f in sorted((root / "scenario").rglob("test_*.py")))
bad = 0
for line in (root / "attacks.txt").read_text().splitlines():
    name = line.split(" ")[0]
    if re.fullmatch(r"[A-Z]\d\d", name) and not re.search(rf"(?i:def test_{name}_)|[\"']{name}[-\"']", text):
        print(f"tests/attacks.txt: no test is named by {line}")
        bad += 1
sys.exit(bad != 0)
