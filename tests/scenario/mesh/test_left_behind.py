"""Nothing is left of a mesh, however it ends and whoever runs it (issue: signals at any moment, failures half-way, kill -9); names, addresses,
ports of this machine that are taken already. Each in a machine within this one, of which all is looked at before and after."""
import os
import signal
import subprocess
import sys
import time

import pytest

from ctl import MIZZENCTL
from upmesh import NAMESPACE, UpMesh, deployment
from wire import patient, until
from world import UID, child_of, world  # noqa: F401

IDLE = NAMESPACE + deployment("plain", ["sleep", "inf"], labels=', sidecar.istio.io/inject: "false"') + deployment("idle", ["sleep", "inf"])
PORT = "kind: Service\napiVersion: v1\nmetadata: {name: s, namespace: demo}\nspec: {selector: {app: idle}, type: LoadBalancer, ports: [{port: 8088}]}\n"
WHO = {"root": "/run", "user": f"/run/user/{UID}"}


@pytest.fixture(params=WHO)
def who(request, world):  # noqa: F811
    if request.param == "user" and any(not p.stat().st_mode & 1 for p in MIZZENCTL.parents):
        pytest.skip("the build folder cannot be entered by others")
    return request.param


class Up(UpMesh):
    """A mesh in a world; its pids are of there."""

    def __init__(self, world, folder, who, **kw):  # noqa: F811
        self.world, self.who = world, who
        san = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        super().__init__(folder, name=folder.name, start=False, root=world.path(f"{WHO[who]}/mizzen"), wrap=world.wrap(user=who == "user", env=san, **kw))

    def signal(self, signo):
        """To `up` itself, once it is there."""
        try:
            os.kill(child_of(self.process.pid), signo)
        except ProcessLookupError:
            pass

    def end(self):
        return self.process.wait(patient(30))


@pytest.fixture
def folder(world):  # noqa: F811
    f = world.path("/run/docs")
    f.mkdir(exist_ok=True)
    for old in f.iterdir():
        old.unlink()
    (f / "a.yaml").write_text(IDLE)
    f.chmod(0o755)
    return f


def up(world, folder, who, tmp_path, **kw):  # noqa: F811
    """`up /run/docs` as the world has it."""
    m = Up(world, folder, who, **kw)
    m.folder, m.log = "/run/docs", tmp_path / "up.log"
    return m


def processes(world):  # noqa: F811
    return [line for line in world.look() if line.startswith("process ")]


def test_signals_at_any_moment(world, folder, who, tmp_path):  # noqa: F811
    before = world.look()
    m = up(world, folder, who, tmp_path)
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        m.log.write_text("")
        m.start()
        m.wait_ready()
        assert world.look() != before and world.run("ip -o link").count("\n") == 1  # all interfaces are elsewhere
        m.signal(signo)
        assert m.end() == 0, m.output()
        world.until_as(before)
    for i, delay in enumerate((0, 0.01, 0.02, 0.05, 0.1, 0.25)):
        m.start()
        child_of(m.process.pid)
        time.sleep(delay)  # not a wait: any moment will do
        m.signal((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[i % 3])
        m.end()
        world.until_as(before)


def test_kill_9_at_any_moment(world, folder, who, tmp_path):  # noqa: F811
    """Of `up`: the mesh ends by itself. Of its supervisor, too: the next `up` or `down` finds what is left."""
    before = world.look()
    m = up(world, folder, who, tmp_path)
    for delay in (0.02, 0.05, 0.15, 0.3):
        m.start()
        child_of(m.process.pid)
        time.sleep(delay)
        m.signal(signal.SIGKILL)
        m.end()
        until(lambda: not processes(world), 10, world.look)
        m.ctl("down", m.name)  # before there was a supervisor, a folder may have been left
        world.until_as(before)
    for then in ("down", "up"):
        m.log.write_text("")
        m.start()
        m.wait_ready()
        world.run("pkill -KILL -x mizzenctl")  # both at once, and nobody else's: of this world
        m.end()
        until(lambda: not processes(world), 10, world.look)
        assert m.state.exists()
        if then == "down":
            assert "did not run any more" in m.ctl("down", m.name).stdout
        else:
            m.log.write_text("")
            m.start()
            m.wait_ready()
            m.signal(signal.SIGTERM)
            assert m.end() == 0
        world.until_as(before)


def test_failures_half_way(world, folder, who, tmp_path):  # noqa: F811
    """The network cannot be made; there is no room for the authority; no pod can become ready and somebody interrupts."""
    before = world.look()
    if who == "root":
        m = up(world, folder, who, tmp_path, drop=("net_admin",))
        m.start()
        assert m.end() == 1 and "Error: cannot " in m.output(), m.output()
        world.until_as(before)
    root = f"{WHO[who]}/mizzen"
    world.run(f"mkdir {root} && mount -t tmpfs -o size=8k,mode=700,uid={UID if who == 'user' else 0} tmpfs {root}")
    m = up(world, folder, who, tmp_path)
    m.log.write_text("")
    m.start()
    assert m.end() == 1 and "No space left on device" in m.output(), m.output()
    world.run(f"umount {root} && rmdir {root}")
    world.until_as(before)
    (folder / "a.yaml").write_text(IDLE + deployment("never", ["sleep", "inf"], container="readinessProbe: {tcpSocket: {port: 1}}"))
    m.flags = ("--detach", "--quiet")
    m.log.write_text("")
    m.start()
    until(lambda: m.state.joinpath("control.sock").exists() and m.pods("idle"), 20, m.output)
    m.signal(signal.SIGINT)
    assert m.end() == 1, m.output()
    world.until_as(before)


LISTEN = """import socket, time
held = [socket.create_server(("0.0.0.0", p)) for p in (15001, 15006, 15010, 15012, 15014, 15020)]
print("held", flush=True)
time.sleep(600)"""


def network(look):
    return [line for line in look if line.split()[0] in ("link", "address", "route", "rule", "nft", "netns")]


def test_what_the_machine_has_already(world, folder, who, tmp_path):  # noqa: F811
    """Interfaces, addresses, ports, rules of the same names: the mesh has its own, and those stay as they are."""
    held = subprocess.Popen([*world.wrap(), sys.executable, "-c", LISTEN], stdout=subprocess.PIPE)
    assert held.stdout.readline()
    world.run("ip link add mesh0 type bridge; ip addr add 10.244.0.1/16 dev mesh0; ip link set mesh0 up; ip link add pod0 type veth peer name pod1; "
              "ip addr add 10.244.0.2/16 dev pod0; ip link set pod0 up; ip route add 10.96.0.0/16 via 10.244.0.9; iptables -t nat -A PREROUTING -d 10.96.0.0/16 -j RETURN")
    try:
        before = world.look()
        m = up(world, folder, who, tmp_path)
        m.start()
        m.wait_ready()
        assert network(world.look()) == network(before)
        m.signal(signal.SIGTERM)
        assert m.end() == 0
        world.until_as(before)
    finally:
        world.run("ip link del mesh0; ip link del pod0; iptables -t nat -F")
        os.kill(child_of(held.pid), signal.SIGKILL)
        held.wait()
        held.stdout.close()


def test_names_and_folders_that_are_taken(world, folder, who, tmp_path):  # noqa: F811
    """Told before anything is changed; what runs goes on."""
    (folder / "a.yaml").write_text(IDLE + "---\n" + PORT)
    empty = world.look()
    m = up(world, folder, who, tmp_path)
    m.any_port = False
    m.start()
    m.wait_ready()

    def taken():
        """Without what the mesh that runs writes of its documents when it comes to it."""
        return [x for x in world.look() if "/docs/status" not in x]
    before = taken()
    assert f'the mesh "{m.name}" is running already' in m.ctl("up", "--name", m.name, "/run/docs").stderr
    r = m.ctl("up", "--name", "other", "/run/docs")
    assert r.returncode == 1 and "127.0.0.1:8088" in r.stderr and "Address already in use" in r.stderr, r
    assert taken() == before and m.pod("idle")["ready"]
    m.signal(signal.SIGTERM)
    assert m.end() == 0
    world.until_as(empty)
    root = f"{WHO[who]}/mizzen"
    for make, why in ((f"mkdir {root} && chown 1 {root}", "is not this user's alone"), (f"mkdir {root} && chmod 777 {root}", "is not this user's alone"),
                      (f"touch {root}", "Not a directory"), (f"ln -s /tmp {root}", "cannot open the folder")):
        world.run(make)
        before = world.look()
        r = m.ctl("up", "--name", m.name, "/run/docs")
        assert r.returncode == 1 and why in r.stderr, (make, r)
        assert world.look() == before
        world.run(f"rm -r {root}")
