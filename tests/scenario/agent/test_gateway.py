"""A gateway with an agent (A2, C6, G12): its certificate comes from a Secret by the agent's relay, which says who it is."""
import base64
import json
import os
import socket
import ssl
import subprocess

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
import podagent  # noqa: E402
from agent import AGENT  # noqa: E402
from pki import Pki  # noqa: E402
from pods import PROXY_GID, node  # noqa: E402, F401
from wire import patient, until  # noqa: E402

DOCUMENTS = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: demo}
spec: {selector: {app: edge}, servers: [{port: {number: 8443, name: https, protocol: HTTPS}, hosts: [shop.test], tls: {mode: SIMPLE, credentialName: shop}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: demo}
spec: {hosts: [shop.test], gateways: [edge], http: [{route: [{destination: {host: b, port: {number: 8080}}}]}]}
"""


class Gateway(podagent.Agent):
    def start(self):
        self.out = open(self.folder / "agent.log", "ab")
        with self.pod:
            self.process = subprocess.Popen([AGENT, "proxy", "router", "--proxyLogLevel", "warning"], cwd=self.folder, env=self.env, stdout=self.out, stderr=self.out,
                                            preexec_fn=lambda: os.setgid(PROXY_GID))

    def ask(self, pki, certificate):
        """The status, from a client that wants this certificate; None: another one, or none."""
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(pki.path("ca.pem"))
        try:
            with self.pod:
                s = socket.create_connection(("127.0.0.1", 8443), timeout=patient(10))
            with s, c.wrap_socket(s, server_hostname="shop.test") as t:
                if ("DNS", certificate) not in t.getpeercert()["subjectAltName"]:
                    return None
                t.sendall(b"GET /x HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                return int(t.recv(4096).split()[1])
        except (OSError, IndexError):
            return None


@pytest.fixture
def meshed(node, tmp_path):  # noqa: F811
    m = podagent.Mesh(node, tmp_path)
    yield m
    m.close()


def test_a_gateways_certificate_comes_by_the_relay_and_turns(meshed, tmp_path):
    pki = Pki(tmp_path / "pki")
    pki.authority("ca")
    for name in ("one", "two"):
        pki.issue(name, f"DNS:shop.test,DNS:{name}.test", usage="serverAuth")

    def secret(name):
        data = {k: base64.b64encode((pki.folder / f"{name}.{end}").read_bytes()).decode() for k, end in (("tls.crt", "pem"), ("tls.key", "key"))}
        meshed.write("secret.json", json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "demo"}, "data": data}))
    secret("one")
    meshed.write("gateway.yaml", DOCUMENTS)
    b = meshed.agent("b", "10.11.0.2")
    b.pod.app(8080)
    meshed.write("edge.yaml", podagent.POD.format(name="edge", ip="10.11.0.1"))
    meshed.agents["edge"] = edge = Gateway(meshed, "edge", "10.11.0.1", {}, {})
    edge.start()
    b.wait_ready()
    until(lambda: edge.ask(pki, "one.test") == 200, 30, lambda: f"an answer through the gateway:\n{edge.log()[-3000:]}")
    secret("two")
    until(lambda: edge.ask(pki, "two.test") == 200, 20, lambda: f"the other certificate:\n{edge.log()[-3000:]}")


def test_a_gateway_without_its_certificate_does_not_wait_for_it(meshed, tmp_path):
    """It is ready at once (the control plane says that there is no such Secret), and serves as soon as there is one."""
    pki = Pki(tmp_path / "pki")
    pki.authority("ca")
    pki.issue("one", "DNS:shop.test,DNS:one.test", usage="serverAuth")
    meshed.write("gateway.yaml", DOCUMENTS)
    b = meshed.agent("b", "10.11.0.2")
    b.pod.app(8080)
    meshed.write("edge.yaml", podagent.POD.format(name="edge", ip="10.11.0.1"))
    meshed.agents["edge"] = edge = Gateway(meshed, "edge", "10.11.0.1", {}, {"proxyStatsMatcher": {"inclusionRegexps": [".*init_fetch_timeout"]}})
    edge.start()
    b.wait_ready()

    def ready():
        try:
            return "LIVE" in edge.admin("/ready") and "8443" in edge.admin("/listeners")
        except OSError:
            return False
    until(ready, 30, lambda: f"the gateway:\n{edge.log()[-3000:]}")
    assert edge.ask(pki, "one.test") is None
    assert edge.admin("/stats?filter=kubernetes.*init_fetch_timeout") == "sds.kubernetes://shop.init_fetch_timeout: 0\n"
    data = {k: base64.b64encode((pki.folder / f"one.{end}").read_bytes()).decode() for k, end in (("tls.crt", "pem"), ("tls.key", "key"))}
    meshed.write("secret.json", json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "demo"}, "data": data}))
    until(lambda: edge.ask(pki, "one.test") == 200, 10, lambda: f"an answer through the gateway:\n{edge.log()[-3000:]}")
