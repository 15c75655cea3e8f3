#!/usr/bin/python3
"""Prints what failed in a Meson test log, then the runner's closing line.   count_tests.py NAME testlog.json"""
import collections, json, sys
name, path = sys.argv[1:]
count = collections.Counter()
try:
    for line in open(path):
        t = json.loads(line)
        kind = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}.get(t["result"], "failed")
        count[kind] += 1
        if kind == "failed":
            print(f"--- {t['name']}: {t['result']}")
            print("\n".join(((t.get("stdout") or "") + (t.get("stderr") or "")).splitlines()[-60:]))
except OSError as e:
    print(e)
    count["failed"] += 1
print(f"{name}: {count['passed']} passed, {count['failed']} failed" + (f", {count['skipped']} skipped" if count["skipped"] else ""))
sys.exit(count["failed"] != 0)
