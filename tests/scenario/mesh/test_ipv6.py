"""Pods with both families (A4): addresses, capture, services of IPv6 alone and of both, with a proxy and without one."""
import json
import socket

import pytest

from upmesh import NAMESPACE, SERVER, UpMesh, deployment, need_root
from wire import until

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: demo}\nspec: {%s, selector: {app: web}, ports: [{name: http, port: %d, targetPort: 8000}]}\n---\n"
KINDS = {"four": "ipFamilies: [IPv4]", "six": "ipFamilies: [IPv6], ipFamilyPolicy: SingleStack", "both": "ipFamilyPolicy: PreferDualStack", "heads": "clusterIP: None, ipFamilies: [IPv6]"}
PLAIN = ', sidecar.istio.io/inject: "false"'
STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n---\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    need_root()
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError as e:
        pytest.skip(f"needs IPv6: {e}")
    folder = tmp_path_factory.mktemp("six") / "six"
    folder.mkdir()
    server = [str(SERVER), "--host", "*", "--port", "8000", "--name", "web"]  # at all addresses of both
    (folder / "a.yaml").write_text(NAMESPACE + "".join(SERVICE % (name, family, 8000 if name == "heads" else 80) for name, family in KINDS.items()) + deployment("client", ["sleep", "inf"])
                                   + deployment("web", server, container="readinessProbe: {httpGet: {path: /, port: 8000}}")
                                   + deployment("plain", server, labels=PLAIN))
    m = UpMesh(folder)
    try:
        yield m.wait_ready()
    finally:
        m.close()


def addresses(m, service):
    return next(list(s["clusterVIPs"]["Addresses"].values())[0] for s in json.loads(m.get("mizzend", 15014, "/debug/registryz")) if s["hostname"].startswith(f"{service}."))


def test_pods_have_both(running):
    for name in ("web", "plain"):
        pod = running.pod(name)
        status = json.loads((running.state / f"pods/demo_{pod['name']}.json").read_text())["status"]
        four, six = (a["ip"] for a in status["podIPs"])
        assert status["podIP"] == four == pod["ip"] and six == f"fd00:244::{int(four.split('.')[2]) << 8 | int(four.split('.')[3]):x}"
        assert f"inet6 {six}/64" in running.exec(name, "ip", "-6", "addr", "show", "eth0").stdout


def test_services_of_each_family(running):
    """By name and address: their connections are caught, and mutual TLS is between the proxies."""
    m = running
    assert ":" in addresses(m, "six")[0] and [":" in a for a in addresses(m, "both")] == [False, True] and ":" not in addresses(m, "four")[0]
    m.write("strict.yaml", STRICT)
    pod = m.pod("web")
    six = json.loads((m.state / f"pods/demo_{pod['name']}.json").read_text())["status"]["podIPs"][1]["ip"]
    until(lambda: m.curl("plain", f"http://[{six}]:8000/").returncode != 0, 20, "who has no certificate to be refused")
    urls = [f"http://{name}{port}/" for name, port in (("six", ""), ("both", ""), ("four", ""), ("heads", ":8000"))]
    urls += [f"http://[{a}]/" if ":" in a else f"http://{a}/" for n in ("six", "both") for a in addresses(m, n)]
    for url in urls:
        until(lambda: "web" in m.curl("client", url).stdout, 20, lambda: f"{url}: {m.curl('client', '-v', url)}")
    assert "web" in m.curl("client", "http://both/", "-6").stdout and "web" in m.curl("client", "http://both/", "-4").stdout
    until(lambda: m.stat("web", 'istio_requests_total reporter="destination" connection_security_policy="mutual_tls"') >= len(urls), 10, "mutual TLS")
    (m.folder / "strict.yaml").unlink()


def test_pods_without_a_proxy(running):
    m = running
    until(lambda: "web" in m.curl("plain", "http://six/").stdout, 20, lambda: m.curl("plain", "http://six/"))
    until(lambda: "web" in m.curl("plain", "http://both/", "-6").stdout and "web" in m.curl("plain", "http://both/", "-4").stdout, 20, "both families")
