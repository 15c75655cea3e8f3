#!/usr/bin/python3
"""Fails when a source calls a function that has a safer replacement, or keeps a marker of unfinished work."""
import pathlib, re, sys
root = pathlib.Path(sys.argv[1])
BANNED = re.compile(r"(?<![\w>.])(strcpy|strcat|strncpy|sprintf|vsprintf|strtok|atoi|atol|atoll|atof|gets|alloca)\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
bad = 0
for top in ("src", "samples", "fuzz", "bench"):
    for f in sorted((root / top).rglob("*.[ch]")):
        for no, line in enumerate(f.read_text(errors="replace").splitlines(), 1):
            code = re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]
            m = BANNED.search(code) or UNFINISHED.search(line)
            if m:
                print(f"{f}:{no}: {m[1]} is not used here")
                bad += 1
sys.exit(bad != 0)
