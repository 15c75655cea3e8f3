"""Kill -9 under load (issue: mizzend, an agent, a proxy, an application): the others go on, what died comes back, nothing that could be served is lost (D4)."""
import json
import os
import signal
import subprocess

import pytest

from ctl import MIZZENCTL
from upmesh import NAMESPACE, SERVER, UpMesh, deployment, need_root
from wire import patient, until

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: demo}\nspec: {selector: {app: %s}, ports: [{name: http, port: 80, targetPort: 8000}]}\n---\n"
PROBE = "readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}"
RATE = 60


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    need_root()
    folder = tmp_path_factory.mktemp("killed") / "load"
    folder.mkdir()
    (folder / "mesh.yaml").write_text("defaultConfig: {terminationDrainDuration: 1s}\ndefaultProviders: {metrics: [prometheus]}\n")
    server = [str(SERVER), "--host", "0.0.0.0", "--port", "8000", "--name"]
    (folder / "a.yaml").write_text(NAMESPACE + "".join(SERVICE % (n, n) + deployment(n, [*server, n], replicas=k, container=PROBE) for n, k in (("web", 2), ("other", 1)))
                                   + deployment("client", ["sleep", "inf"]))
    m = UpMesh(folder)
    try:
        m.wait_ready()
        until(lambda: all(m.curl("client", f"http://{n}/").returncode == 0 for n in ("web", "other")), 20, m.waits)
        yield m
    finally:
        m.close()


class Load:
    """Requests at a steady rate from the client's pod until it is told to end."""

    def __init__(self, m, service):
        self.m, load = m, f"exec {MIZZENCTL.with_name('mizzen-sample-load')} --rate {RATE} --seconds 0 http://{service}/"
        self.process = subprocess.Popen([MIZZENCTL, "exec", "--mesh", m.name, "client", "--", "sh", "-c", f"echo $$; {load}"], stdout=subprocess.PIPE, text=True)
        self.pid = self.process.stdout.readline().strip()

    def end(self):
        """(how many were answered with 200, what came of the others)."""
        assert self.m.exec("client", "kill", "-TERM", self.pid).returncode == 0
        said = json.loads(self.process.communicate(timeout=patient(30))[0])
        good = said["status"].pop("200", 0)
        return good, said["requests"] - good, {**said["status"], "errors": said["errors"], "why": said.get("last_error")}


def pid_of(m, what, pod):
    if what == "mizzend":
        return m.list()["mizzend"]["pid"]
    container, = [c for p in m.pods("web") if p["name"] == pod for c in p["containers"] if c["name"] == ("app" if what == "app" else "istio-proxy")]
    return next((p["pid"] for p in container["processes"] if p["command"] == "mizzen-proxy"), 0) if what == "proxy" else container["pid"]


def is_well(m):
    """All pods are ready and mizzend answers."""
    try:
        return len(m.pods("web")) == 2 and all(p["ready"] for p in m.list()["pods"]) and m.get("mizzend", 15014, "/version")
    except (AssertionError, OSError):
        return False


# A request that the dead one had taken may be lost, and what comes until others know of it: none, one or two. Whoever comes later is served by the other pod.
@pytest.mark.parametrize("what,lost", [("app", 3), ("proxy", 3), ("istio-proxy", 3), ("mizzend", 0)])
def test_kill_9(running, what, lost):
    m = running
    until(lambda: is_well(m), 20, m.waits)
    victim = m.pods("web")[0]["name"]
    restarts = {p["name"]: p["restarts"] for p in m.list()["pods"]}
    web, other = Load(m, "web"), Load(m, "other")
    for _ in range(2):  # the second pause is longer
        before = pid_of(m, what, victim)
        os.kill(before, signal.SIGKILL)
        until(lambda: pid_of(m, what, victim) not in (0, before), 20, m.waits)
    until(lambda: is_well(m), 30, m.waits)
    good, bad, why = other.end()
    assert bad == 0 and good, why  # it needs none of those
    good, bad, why = web.end()
    assert bad <= 2 * lost and good, why
    after = Load(m, "web")
    until(lambda: m.stat(victim, 'istio_requests_total reporter="destination"') > 0, 20, "requests at the pod that came back")
    good, bad, why = after.end()
    assert bad == 0 and good, why
    changed = {p["name"] for p in m.list()["pods"] if p["restarts"] != restarts[p["name"]]}
    assert changed <= {victim}, changed  # the others go on
