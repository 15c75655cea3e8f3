"""The agent's sockets (A2, H10): for its user and root alone; nobody takes them over, nothing is left of what is sent through them."""
import os
import socket
import stat
import subprocess
import sys

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from agent import AGENT  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import PROXY_GID, node  # noqa: E402, F401
from wire import patient, until  # noqa: E402

SDS, XDS = "var/run/secrets/workload-spiffe-uds/socket", "etc/istio/proxy/XDS"
NOBODY = 65534
PYTHON = os.path.realpath(sys.executable)  # the system's: others may not enter the folder that this one is in


@pytest.fixture
def ours(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    yield m
    m.close()


def stranger(path):
    """What nobody reads when he dials there."""
    folder = os.open(path.parent, os.O_PATH)
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect('/proc/self/fd/{folder}/{path.name}'); print(len(s.recv(100)))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=patient(30), user=NOBODY, group=NOBODY, extra_groups=[], pass_fds=[folder])
    os.close(folder)
    return done.stdout + done.stderr.rpartition("\n ")[2]


def dialled(path):
    """By its folder: a path from the root may be too long for an address."""
    folder, s = os.open(path.parent, os.O_PATH), socket.socket(socket.AF_UNIX)
    try:
        s.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    return s


def test_h10_strangers(ours):
    a = ours.agent("a", "10.11.0.1").wait_ready()
    for name in (SDS, XDS):
        path = a.folder / name
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0 and stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
        assert "Permission denied" in stranger(path)
        os.chmod(path.parent, 0o755)
        assert "Permission denied" in stranger(path)
        os.chmod(path, 0o666)  # then its peer is looked at
        assert stranger(path) == "0\n"
    until(lambda: a.log().count(f"user {NOBODY} is refused") == 2, 5, "a line about each")


def test_h10_descriptors_that_are_passed(ours):
    """SCM_RIGHTS with as many as one message takes: none stays open."""
    a = ours.agent("a", "10.11.0.1").wait_ready()
    opened = lambda: len(os.listdir(f"/proc/{a.process.pid}/fd"))  # noqa: E731
    before, null = opened(), os.open("/dev/null", os.O_RDONLY)
    for name in (SDS, XDS):
        for _ in range(10):
            with dialled(a.folder / name) as s:
                socket.send_fds(s, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], [null] * 253)
                assert opened() < before + 50
    os.close(null)
    until(lambda: opened() <= before, 20, "the descriptors of before")


def test_h10_a_second_process(ours):
    """Neither a second agent in the same folder nor a link leads anywhere; somebody else's server is not mistaken for ours."""
    a = ours.agent("a", "10.11.0.1").wait_ready()
    with a.pod:
        env = {**a.env, "PROXY_CONFIG": a.env["PROXY_CONFIG"].replace("{", '{"statusPort": 16020, "proxyAdminPort": 16000, ', 1)}
        second = subprocess.run([AGENT, "proxy", "sidecar"], cwd=a.folder, env=env, capture_output=True, text=True, timeout=patient(30),
                                preexec_fn=lambda: os.setgid(PROXY_GID))
    assert second.returncode == 1 and "another process serves there" in second.stderr, second.stderr
    with dialled(a.folder / XDS) as s:
        assert s.recv(9)  # SETTINGS: the first one is still there
    a.stop()

    secret = ours.folder / "secret"
    secret.write_text("keep")
    for name in (SDS, XDS):
        (a.folder / name).unlink(missing_ok=True)
        (a.folder / name).symlink_to(secret)
    a.start()
    a.wait_ready()
    assert secret.read_text() == "keep" and not (a.folder / SDS).is_symlink() and not (a.folder / XDS).is_symlink()
    assert stat.S_ISSOCK(os.stat(a.folder / SDS).st_mode)
    a.stop()

    path = a.folder / SDS
    os.chmod(path.parent, 0o777)  # as a volume that containers share
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_PATH)
    serve = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind('/proc/self/fd/{folder}/{path.name}'); s.listen(); print(flush=True); input()"
    with subprocess.Popen([PYTHON, "-c", serve], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[], pass_fds=[folder]) as p:
        os.close(folder)
        p.stdout.readline()
        a.start()
        assert a.process.wait(patient(20)) == 1 and f"user {NOBODY} serves there, neither root nor us" in a.log()
        a.process = None
        p.stdin.close()
