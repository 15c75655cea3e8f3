"""A machine within this one: processes, mounts and network of its own, so that all that a program leaves behind can be told."""
import os
import pathlib
import shutil
import subprocess

import pytest

from wire import patient, until

UID = 42424  # an ordinary user of it
SUBIDS = 300000
BEGIN = f"""set -e
for d in /run /dev/shm; do mount -t tmpfs tmpfs $d; done
mkdir -p /run/user/{UID} /run/ids
chmod 755 /run /run/user; chown {UID}:{UID} /run/user/{UID}
for f in passwd subuid subgid; do cat /etc/$f > /run/ids/$f 2>/dev/null || true; done
echo 'mesher:x:{UID}:{UID}::/nonexistent:/bin/sh' >> /run/ids/passwd
for f in subuid subgid; do echo mesher:{SUBIDS}:65536 >> /run/ids/$f; done
for f in passwd subuid subgid; do touch /etc/$f; mount --bind /run/ids/$f /etc/$f; done
ip link set lo up
echo begun
exec sleep inf"""
# Each line begins with what it is of.
LOOK = r"""for p in /proc/[0-9]*; do
  [ "$(readlink $p/exe)" = "$(readlink /proc/$$/exe)" ] || echo "process $(tr '\0' ' ' < $p/cmdline 2>/dev/null)"
done | grep -vE 'process (sleep inf |grep .*|)$'
sed 's/^/mount /' /proc/mounts
ip -o link | sed -E 's/^[0-9]+: /link /'
ip -o addr | sed -E 's/^[0-9]+: /address /; s/ tentative//; s/valid_lft.*//'
ip route | sed 's/^/route /'
ip netns 2>/dev/null | sed 's/^/netns /'
iptables-save 2>/dev/null | grep -v '^#' | sed 's/^/rule /'
nft list ruleset 2>/dev/null | sed 's/^/nft /'
find /run /dev/shm | sed 's/^/file /'
find /tmp -maxdepth 1 -name '*mizzen*' | sed 's/^/file /'
find /sys/fs/cgroup -name '*mizzen*' 2>/dev/null | sed 's/^/cgroup /'
true"""


class World:
    def __init__(self):
        self.outside = subprocess.Popen(["unshare", "-mnpf", "--mount-proc", "sh", "-c", BEGIN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.outside.stdout.readline()
        if line != "begun\n":
            self.outside.wait()
            pytest.skip(f"needs namespaces and mounts of its own: {line.strip()}")
        self.pid = child_of(self.outside.pid)

    def wrap(self, *, user=False, drop=(), env=None):
        """What a command begins with so that it runs here; without the capabilities @drop."""
        inner = ["setpriv", "--bounding-set", ",".join(f"-{c}" for c in drop)] if drop else []
        if user:
            inner = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
            env = {"XDG_RUNTIME_DIR": f"/run/user/{UID}", **(env or {})}
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--", *inner, *(["env", *(f"{k}={v}" for k, v in env.items())] if env else [])]

    def run(self, command, **kw):
        r = subprocess.run([*self.wrap(**kw), "sh", "-c", command], capture_output=True, text=True, timeout=patient(60))
        assert r.returncode == 0, f"{command}: {r.stderr}"
        return r.stdout

    def look(self):
        return sorted(self.run(LOOK).splitlines())

    def path(self, inside):
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def until_as(self, before):
        """Nothing but what was there before."""
        until(lambda: self.look() == before, 10, lambda: "what is left to go:\n" + "\n".join(sorted(set(self.look()) ^ set(before))))

    def close(self):
        self.outside.kill()
        self.outside.wait()
        self.outside.stdout.close()


def child_of(pid):
    """The one child of a process, by the numbers of this side."""
    def kids():
        try:
            return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
    return int(until(kids, 10, "a child")[0])


@pytest.fixture(scope="module")
def world():
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces")
    if not shutil.which("nsenter") or not shutil.which("setpriv"):
        pytest.skip("needs nsenter and setpriv")
    w = World()
    yield w
    w.close()
