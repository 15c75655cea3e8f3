"""What the chaos runs share: hosts that come and go, load in threads, calm before and after, and nothing that stays behind."""
import os
import random
import threading
import time

import config
from dynamic import Files
from evidence import objects, objects_back
from wire import until

WORKERS = 2


def seed():
    """CHAOS_SEED repeats a run's choices."""
    n = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 30)))
    print("CHAOS_SEED", n)
    return random.Random(n)


def seconds(request):
    """A look with every run of the tests, ten minutes with --long, or CHAOS_SECONDS."""
    return float(os.environ.get("CHAOS_SECONDS", 600 if request.config.getoption("--long") else 8))


class Members:
    """The hosts of the cluster `up`, in a file that is moved into place: they come, leave, and change their weight, zone, priority and health."""

    def __init__(self, mesh, ups):
        self.files, self.ports, self.changes = Files(mesh.folder / "xds"), [u.port for u in ups], 0
        self.put([])

    def cluster(self, **fields):
        c = config.cluster("up", [], type="EDS", eds_cluster_config={"eds_config": self.files.source("eds")}, **fields)
        del c["load_assignment"]
        return c

    def put(self, groups):
        """groups: (priority, zone, endpoints)."""
        self.files.put("eds", "endpoint", {"cluster_name": "up", "endpoints": [
            {"priority": p, "locality": {"zone": z}, "load_balancing_weight": 1, "lb_endpoints": ends} for p, z, ends in groups]})

    def all(self, priority=0):
        self.put([(priority, "a", [{"endpoint": {"address": config.address(p)}} for p in self.ports])])

    def change(self, rng):
        groups = {}
        for port in self.ports:
            if rng.random() < 0.3:
                continue
            one = {"endpoint": {"address": config.address(port)}, "load_balancing_weight": rng.randrange(1, 6),
                   "health_status": rng.choice([*["HEALTHY"] * 6, "DEGRADED", "UNHEALTHY", "DRAINING", "TIMEOUT"])}
            groups.setdefault((int(rng.random() < 0.25), rng.choice("ab")), []).append(one)
        self.put([] if rng.random() < 0.05 else [(p, z, ends) for (p, z), ends in groups.items()])
        self.changes += 1


class Load:
    """`clients` threads that call step(rng, answers) until the end; `wrong` are its AssertionErrors and timeouts: something hung."""

    def __init__(self, rng, clients, end, step):
        self.answers, self.wrong, self.end, self.step = [], [], end, step
        self.threads = [threading.Thread(target=self._run, args=(random.Random(rng.random()),)) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def _run(self, rng):
        while time.monotonic() < self.end:
            try:
                self.step(rng, self.answers)
            except (AssertionError, TimeoutError) as e:
                self.wrong.append(repr(e)[:400])
            except (EOFError, OSError, ValueError):
                pass  # cut, reset, or an upstream's nonsense


def run(px, hosts, members, rng, length, clients, step, visit):
    """
    `length` seconds of load by step() while hosts fall ill (h.sick) and the membership changes; visit() asks once when all is well (h.calm).
    A host that has left is ill in its checks as well (h.gone), so that it also leaves where they would keep it. Returns the answers.
    """
    now = {}

    def idle():
        now.update(px.stats(r"^cluster\.up\.(upstream_cx_active|membership_total)$|^http\.in\.downstream_cx_active$"))
        return not any(now.values())

    def set_all(**flags):
        for h in hosts:
            vars(h).update(flags)

    def calm():
        """Everybody serves, and then everybody has left."""
        set_all(calm=True, sick=False)
        members.all()
        until(lambda: px.stat("cluster.up.membership_healthy") == len(hosts), 15, "all hosts healthy")
        for _ in range(10 * len(hosts)):
            visit()
        set_all(gone=True)
        members.put([])
        until(idle, 30, lambda: f"no host and no connection left; {now}")
        set_all(calm=False, gone=False)

    set_all(calm=True)
    members.all(priority=1)  # priorities that were there once keep their place
    until(lambda: px.stat("cluster.up.membership_healthy") == len(hosts), 15, "all hosts healthy")
    calm()
    before = objects(px)
    members.all()
    until(lambda: px.stat("cluster.up.membership_healthy") > 0, 15, "a healthy host")
    load = Load(rng, clients, time.monotonic() + length, step)
    while time.monotonic() < load.end:
        rng.choice(hosts).sick = rng.random() < 0.5
        if rng.random() < 0.3:
            members.change(rng)
        load.threads[0].join(0.1)
    for t in load.threads:
        t.join()
    calm()
    print({a: load.answers.count(a) for a in sorted(set(load.answers))}, members.changes, "changes of hosts")
    assert not load.wrong, load.wrong[:5]
    assert load.answers.count(200) > 50 and len(set(load.answers)) > 1
    assert px.stat("cluster.up.update_success") >= min(members.changes, 3) and px.stat("cluster.up.update_rejected") == 0
    assert px.stat("cluster.up.membership_change") > min(members.changes, 3)
    # nobody is a member, but hash policies have their tables of nobody: two objects for each of three lists of two priorities
    objects_back(px, before, 12, WORKERS)
