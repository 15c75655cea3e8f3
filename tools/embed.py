#!/usr/bin/python3
"""Writes a text file as a C string: embed.py NAME INPUT OUTPUT."""
import json
import sys

name, source, target = sys.argv[1:]
with open(source, encoding="ascii") as f, open(target, "w", encoding="ascii") as out:
    out.write(f"extern const char {name}[];\nconst char {name}[] =\n")
    for line in f:
        out.write("    " + json.dumps(line) + "\n")
    out.write("    ;\n")
