"""What "ready" means: when `up` returns, the first request of anybody to anybody finds its way; also that of a pod to its own Service (A4, C3)."""
import json
import subprocess

import pytest

from ctl import MIZZENCTL
from upmesh import NAMESPACE, SERVER, UpMesh, deployment, need_root
from wire import patient

NAMES = ("app-a", "app-b", "app-c")
STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}, namespace: demo}}\nspec: {{selector: {{app: {0}}}, ports: [{{name: http, port: 8080, targetPort: 8000}}]}}\n---\n"
# Each other's first request, and some more: what came instead of an answer of that service.
ASK = """
import sys, urllib.request
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
for name in sys.argv[1:] * 5:
    try:
        text = ask(f"http://{name}:8080/", timeout=%d).read().decode()
        if not text.startswith(name):
            print(name, text)
    except OSError as e:
        print(name, e, getattr(e, "read", lambda: "")())
""" % patient(20)


# A command line; what it is told, on which stream.
MISTAKES = [
    (["explian"], 'unknown command "explian" for "mizzenctl"; did you mean "explain"?'), (["ps", "{name}x"], 'the mesh "{name}x" is not running; did you mean "{name}"?'),
    (["ps", "-o", "xml"], "--output must be wide or json"), (["logs", "app-x"], 'there is no pod "app-x" in the mesh "{name}"'),
    (["logs", "app-"], 'there is no pod "app-" in the mesh "{name}"; did you mean "app-a"?'), (["exec", "app_b", "--", "true"], 'did you mean "app-b"?'),
    (["requests", "app-aa"], 'no pod "app-aa" in the mesh {name}; did you mean "app-a"?'), (["tap", "app-aa"], "did you mean"), (["top", "-o", "xml"], "--output must be"),
    (["explain", "app-aa", "http://a:8080/"], 'did you mean "app-a"?'), (["proxy-config", "cluster", "app-aa"], 'did you mean "app-a"?'),
    (["proxy-status", "nobody-at-all"], 'no proxy "nobody-at-all" is connected'), (["dashboard", "x"], "dashboard takes no arguments"),
]


def names_that_nobody_has(m):
    """Errors say what was wrong, and what may have been meant; each has an exit code."""
    for args, want in MISTAKES:
        if args[0] not in ("explian", "ps", "dashboard"):  # others' meshes may run, too
            args = [args[0], *(["cluster"] if args[0] == "proxy-config" else []), "--mesh", "{name}", *args[2 if args[0] == "proxy-config" else 1:]]
        p = m.ctl(*(a.format(name=m.name) for a in args))
        assert want.format(name=m.name) in p.stderr and p.returncode in (1, 64), (args, p)
    p = m.ctl("explain", "--mesh", m.name, "app-a", "http://app-bb:8080/")
    assert p.returncode == 0 and "no document of the mesh names app-bb (did you mean app-b?)" in p.stdout
    p = m.ctl("requests", "--mesh", m.name)
    assert (p.returncode, p.stdout) == (0, "") and "no such request is kept" in p.stderr


@pytest.fixture
def folder(tmp_path):
    need_root()
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "ns.yaml").write_text(NAMESPACE + STRICT)
    for name in NAMES:
        (folder / f"{name}.yaml").write_text(SERVICE.format(name) + deployment(name, [str(SERVER), "--host", "0.0.0.0", "--port", "8000", "--name", name]))
    return folder


def test_nobodys_first_request_fails(folder):
    m = UpMesh(folder, start=False)
    try:
        p = m.ctl("up", folder, "--name", m.name, "--any-port", "--detach", "--timeout", str(patient(60)))
        assert p.returncode == 0, p.stdout + p.stderr
        asking = [subprocess.Popen([*m.wrap, MIZZENCTL, "exec", "--mesh", m.name, name, "--", "python3", "-c", ASK, *NAMES], stdout=subprocess.PIPE, text=True) for name in NAMES]
        wrong = {name: p.communicate(timeout=patient(60))[0] for name, p in zip(NAMES, asking)}
        assert wrong == dict.fromkeys(NAMES, "")
        for name in NAMES:  # also what each has asked of itself went through its proxies
            assert m.stat(name, f'istio_requests_total reporter="destination" source_workload="{name}" destination_workload="{name}" connection_security_policy="mutual_tls"') == 5
        for pod in m.list()["pods"]:
            assert json.loads(m.get(f"demo/{pod['name']}", 15000, "/stats?format=json&filter=cluster.outbound.8080..*upstream_cx_none_healthy"))["stats"] == []
        names_that_nobody_has(m)
    finally:
        m.ctl("down", m.name)
    assert not m.state.exists()
