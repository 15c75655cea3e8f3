"""A mesh of an ordinary user: in a user namespace with ids of its own, nothing of root (A4)."""
import os
import pathlib
import shutil
import tempfile

import pytest

from ctl import MIZZENCTL
from upmesh import NAMESPACE, SERVER, UpMesh, deployment, need_root
from wire import until

UID = 42424
# The machine's files as they are, and a user that has ids: only this process and its children see it.
# Its PATH is that of an ordinary user: without the folders of iptables.
WRAP = """for f in passwd subuid subgid; do cat /etc/$f "$1/$f" > "$1/$f.all" 2>/dev/null; touch /etc/$f && mount --bind "$1/$f.all" /etc/$f || exit 9; done
shift; exec setpriv --reuid 42424 --regid 42424 --clear-groups --reset-env env PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR="$RUN" $SAN "$@" """


@pytest.fixture
def place():
    need_root()
    if not shutil.which("newuidmap") or not shutil.which("setpriv"):
        pytest.skip("needs newuidmap (package uidmap) and setpriv")
    if any(not p.stat().st_mode & 1 for p in MIZZENCTL.parents):
        pytest.skip("the build folder cannot be entered by others")
    top = pathlib.Path(tempfile.mkdtemp(prefix="mesh-user."))
    top.chmod(0o755)
    for name in ("run", "folder"):
        (top / name).mkdir()
        os.chown(top / name, UID, UID)
    for name, line in (("passwd", f"mesher:x:{UID}:{UID}::/nonexistent:/bin/sh"), ("subuid", "mesher:300000:65536"), ("subgid", "mesher:300000:65536")):
        (top / name).write_text(line + "\n")
    yield top
    shutil.rmtree(top, ignore_errors=True)


def test_an_ordinary_user(place):
    folder = place / "folder"
    (folder / "a.yaml").write_text(NAMESPACE + """apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000, nodePort: 30080}]}
---
""" + deployment("web", [str(SERVER), "--host", "0.0.0.0", "--port", "8000", "--name", "web"], container="readinessProbe: {httpGet: {path: /, port: 8000}}")
                                   + deployment("client", ["sleep", "inf"]))
    env = {"RUN": str(place / "run"), "SAN": " ".join(f"{k}={v}" for k, v in os.environ.items() if k.endswith("SAN_OPTIONS"))}
    m = UpMesh(folder, wrap=["unshare", "-m", "sh", "-c", WRAP, "sh", str(place)], root=place / "run/mizzen", env=env)
    try:
        m.wait_ready()
        web = m.pod("web")
        for c in web["containers"]:
            for p in c["processes"]:
                status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{p['pid']}/status").read_text().splitlines() if ":\t" in line)
                assert status["Uid"].split() == [str(UID)] * 4
                assert status["Gid"].split() == [str(UID if c["name"] == "app" else 300000 + 1337 - 1)] * 4
        assert "web" in m.curl("client", f"http://{m.vip('web')}/").stdout
        until(lambda: m.stat("web", 'istio_requests_total connection_security_policy="mutual_tls"') >= 1, 10, "mutual TLS")
    finally:
        m.close()
    assert not list((place / "run").glob("mizzen/*"))


def test_without_newuidmap(place):
    """A clear word: what is missing, by its package's name."""
    (place / "folder/a.yaml").write_text("")
    hide = 'mount --bind /dev/null "$(command -v newuidmap)" || exit 9; exec setpriv --reuid 42424 --regid 42424 --clear-groups "$@"'
    m = UpMesh(place / "folder", wrap=["unshare", "-m", "sh", "-c", hide, "sh"], env={"XDG_RUNTIME_DIR": str(place / "run")}, start=False)
    r = m.ctl("up", str(place / "folder"))
    assert r.returncode == 1 and "uidmap" in r.stderr, r
