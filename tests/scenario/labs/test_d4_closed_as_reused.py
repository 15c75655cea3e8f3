"""D4: an application closes a kept connection just as its proxy uses it again. Two pods with agents, captured traffic, mutual TLS: with a
rule for idempotent methods the client's proxy asks again, and nobody sees the 503 with flag UC that it is by Istio's default policy."""
import re
import socket
import threading

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import Stream, reset, until  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RETRIES = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: demo}
spec:
  hosts: [b]
  http:
  - match: [{method: {regex: GET|HEAD|PUT|DELETE|OPTIONS}}]
    retries: {attempts: 2, retryOn: "reset,503"}
    headers: {response: {set: {x-may-be-repeated: "yes"}}}
    route: [{destination: {host: b}}]
  - route: [{destination: {host: b}}]
"""


class OneEach:
    """Answers the first request of a connection and keeps that; the next one finds it reset."""

    def __init__(self, port):
        self.place, self.cut = socket.create_server(("", port)), 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.place.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(Stream(s),), daemon=True).start()

    def serve(self, stream):
        try:
            stream.until(b"\r\n\r\n", 60)
            stream.sock.sendall(OK)
            stream.until(b"\r\n\r\n", 60)
        except (EOFError, OSError):
            stream.sock.close()
            return
        self.cut += 1
        reset(stream.sock)

    def close(self):
        self.place.shutdown(socket.SHUT_RDWR)
        self.place.close()


@pytest.fixture
def pair(node, tmp_path):  # noqa: F811
    mesh = Mesh(node, tmp_path)
    a, b = mesh.agent("a", "10.11.0.1"), mesh.agent("b", "10.11.0.2")
    with b.pod:
        app = OneEach(8080)
    a.wait_ready()
    b.wait_ready()
    until(lambda: status(mesh, a) == 200, 20, "an answer through both proxies")
    yield mesh, a, b, app
    app.close()
    mesh.close()


def ask(mesh, a, method="GET"):
    return a.pod.ask(mesh.vip("b"), 8080, host="b.demo:8080", method=method)


def status(mesh, a, method="GET"):
    try:
        return ask(mesh, a, method).status
    except OSError:
        return 0


def requests(agent, reporter):
    """{(code, flags): how many} of istio_requests_total."""
    out = {}
    for line in agent.admin("/stats/prometheus").splitlines():
        if line.startswith("istio_requests_total{") and f'reporter="{reporter}"' in line:
            key = re.search(r'response_code="(\d+)"', line)[1], re.search(r'response_flags="([^"]*)"', line)[1]
            out[key] = out.get(key, 0) + int(line.rpartition(" ")[2])
    return out


def test_d4_closed_as_it_is_used_again(pair):
    mesh, a, b, app = pair
    until(lambda: status(mesh, a) == 503, 20, "what nobody repeats to fail")
    mesh.write("vs.yaml", RETRIES)
    until(lambda: ask(mesh, a).headers.get("x-may-be-repeated"), 20, "the rule to be in force")
    before, cut = requests(a, "source"), app.cut
    for method in ("GET", "PUT"):
        assert [status(mesh, a, method) for _ in range(10)] == [200] * 10
    assert app.cut - cut >= 10, "connections were not used again"
    until(lambda: requests(a, "source").get(("200", "-"), 0) - before.get(("200", "-"), 0) >= 20, 10, "the client's side to count")
    seen = {k for k, n in requests(a, "source").items() if n != before.get(k, 0)}
    assert seen == {("200", "-")}, seen
    until(lambda: requests(b, "destination").get(("503", "UC"), 0) >= app.cut, 10, lambda: f"the server's side to tell: {requests(b, 'destination')}")
    assert 503 in [status(mesh, a, "POST") for _ in range(2)]  # not to be repeated: whoever asks must know
