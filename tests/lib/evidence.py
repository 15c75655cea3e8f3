"""What the proxy says about an attack (rule 4): counters that moved, and the access log's code, flag and detail."""
import contextlib
import json

from wire import patient, until

PROTOCOL_ERROR = "http.in.downstream_cx_protocol_error"
VIA_UPSTREAM = "via_upstream"


def _changes(before, now):
    return {k: v - before.get(k, 0) for k, v in now.items() if v != before.get(k, 0)}


@contextlib.contextmanager
def told(px, details=None, flags="-", code=None, moved=(), timeout=5):
    """What happens inside must be told: each counter of `moved` rises by one (a dict: by so much, None: by any amount), and
    there is a new access-log entry with that detail, flags and code. Without `details` only the counters are looked at."""
    rises = dict(moved) if isinstance(moved, dict) else {k: 1 for k in ([moved] if isinstance(moved, str) else moved)}
    before, since = px.stats(), len(px.access_log(0))
    yield
    def counted():
        now = px.stats()
        got = {k: now.get(k, 0) - before.get(k, 0) for k in rises}
        return all(got[k] == n or (n is None and got[k] > 0) for k, n in rises.items())
    def written():
        return [e for e in px.access_log(0)[since:] if e["details"] == details and e["flags"] == flags and code in (None, e["code"])]
    try:
        until(counted, timeout, "counters")
        until(lambda: details is None or written(), timeout, "an access-log entry")
    except AssertionError:
        seen = [(e["code"], e["flags"], e["details"]) for e in px.access_log(0)[since:]]
        raise AssertionError(f"{patient(timeout)} s for counters {rises}, entry {(code, flags, details)}\n"
                             f"logged {seen[-20:]}\nmoved {_changes(before, px.stats())}") from None


def objects(px):
    """How many of each kind live in the proxy."""
    types = json.loads(px.admin("/mizzen/memory")[1])["types"]
    return {k: types[k]["objects"] for k in ("conn", "upstream", "stream")}


def objects_back(px, before, upstream=0, workers=2):
    """Nothing is left behind but what is kept for the next time: each thread eight pipes, a table of tickets and some free blocks
    of streams; `upstream`: what may be left of the cluster's."""
    spare = {"conn": workers * (8 + 1), "upstream": upstream, "stream": 0 if "asan" in px.binary else 3 * 64}
    now = {}

    def back():
        now.update(objects(px))
        return all(now[k] <= before[k] + spare[k] for k in before)
    try:
        until(back, 30, "as many objects as before")
    except AssertionError:
        raise AssertionError(f"objects before {before}, spare {spare}, left {now}")
