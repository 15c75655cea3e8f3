"""`mizzen-agent proxy` (A1, A2): pods with an agent each, a control plane of ours, mutual TLS by its certificates, kills and renewals."""
import http.server
import os
import re
import signal
import threading
import time

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import patient, until  # noqa: E402

STRICT = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\nspec: {mtls: {mode: STRICT}}\n"


@pytest.fixture
def make(node, tmp_path):  # noqa: F811
    made = []

    def of(*flags):
        made.append(Mesh(node, tmp_path, *flags))
        return made[0]
    yield of
    for m in made:
        m.close()


def two(mesh, drain="1s", **kw):
    """@drain: of b."""
    a, b = mesh.agent("a", "10.11.0.1", **kw), mesh.agent("b", "10.11.0.2", config={"terminationDrainDuration": drain}, **kw)
    b.pod.app(8080)
    return a.wait_ready(), b.wait_ready()


def ask(mesh, a, path="/x"):
    return a.pod.ask(mesh.vip("b"), 8080, path, host="b.demo:8080")


def works(mesh, a):
    try:
        return ask(mesh, a).status == 200
    except OSError:
        return False


def test_two_pods_with_mutual_tls(make):
    mesh = make()
    mesh.write("strict.yaml", STRICT)
    a, b = two(mesh)
    until(lambda: works(mesh, a), 20, "an answer through both proxies")
    got = ask(mesh, a).json
    assert "URI=spiffe://cluster.local/ns/demo/sa/a" in got["headers"]["x-forwarded-client-cert"]
    certs = a.admin("/certs")
    assert "spiffe://cluster.local/ns/demo/sa/a" in certs
    until(lambda: "istio_requests_total{" in a.admin("/stats/prometheus") and "istio_requests_total{" in b.admin("/stats/prometheus"), 10, "metrics of both sides")
    one = [line for line in b.admin("/stats/prometheus").splitlines() if line.startswith("istio_requests_total{")][0]
    for label in ('reporter="destination"', 'source_workload_namespace="demo"', 'source_principal="spiffe://cluster.local/ns/demo/sa/a"',
                  'connection_security_policy="mutual_tls"', 'destination_canonical_service="b"', 'source_canonical_service="a"'):
        assert label in one, one


def test_g12_certificates_are_renewed_under_traffic(make):
    """A2: certificates of 8 s, renewed by half of it; no request fails meanwhile."""
    renewed(make, 8, 3)


def renewed(make, ttl, times):
    mesh = make("--workload-cert-ttl", str(ttl), "--max-workload-cert-ttl", str(ttl))
    a, b = two(mesh, env={"SECRET_TTL": f"{ttl}s"})
    until(lambda: works(mesh, a), 20, "an answer")
    first = a.admin("/certs")

    def often():
        for _ in range(5):
            assert ask(mesh, a).status == 200
        for p in (a, b):
            assert all(int(d) >= 0 for d in re.findall(r'"days_until_expiration": "(-?\d+)"', p.admin("/certs")))
        return a.log().count("certificate for spiffe://cluster.local/ns/demo/sa/a") >= times
    until(often, ttl * times, f"{times} certificates")
    assert a.admin("/certs") != first
    failures = [line for p in (a, b) for line in p.admin("/stats?filter=ssl.*(fail|error)").splitlines() if not line.endswith(": 0")]
    assert not failures, failures


def test_an_expired_certificate_gets_nothing(make):
    """While the authority is away certificates end: who shows such a one is refused, until there is another. Each connection of a TCP port is a handshake."""
    mesh = make("--workload-cert-ttl", "4", "--max-workload-cert-ttl", "4")
    a, b = two(mesh, env={"SECRET_TTL": "4s"})
    app = b.pod.app(9000)

    def over_tcp():
        try:
            return a.pod.ask(mesh.vip("b"), 9000, "/tcp").status
        except OSError:
            return 0
    until(lambda: over_tcp() == 200, 20, "an answer")
    mesh.mizzend.kill()
    mesh.mizzend.wait()
    until(lambda: over_tcp() == 0, 20, "the end of the certificates")
    seen = len(app.asked)
    assert not any(over_tcp() for _ in range(10)) and len(app.asked) == seen
    mesh.log.close()
    mesh.start()
    until(lambda: over_tcp() == 200, 40, lambda: a.log()[-2000:])


def test_a_killed_proxy_comes_back(make):
    mesh = make()
    a, b = two(mesh)
    until(lambda: works(mesh, a), 20, "an answer")
    before = a.proxy_pid()
    os.kill(before, signal.SIGKILL)
    until(lambda: a.proxy_pid() not in (None, before), 10, "another proxy")
    until(lambda: works(mesh, a), 20, "an answer again")
    assert "the proxy was ended by signal 9" in a.log()


def test_a_killed_control_plane_stops_nothing(make):
    mesh = make()
    a, b = two(mesh)
    until(lambda: works(mesh, a), 20, "an answer")
    mesh.mizzend.kill()
    mesh.mizzend.wait()
    for _ in range(20):
        assert ask(mesh, a).status == 200
    mesh.start()
    mesh.write("vs.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: b, namespace: demo}\n"
               "spec:\n  hosts: [b]\n  http: [{directResponse: {status: 418}}]\n")
    until(lambda: ask(mesh, a).status == 418, 90, "the rule of a control plane that came back")  # the back-off grows to 30 s


def test_nobody_is_left_when_the_agent_goes(make):
    mesh = make()
    a = mesh.agent("a", "10.11.0.1").wait_ready()
    pid = a.proxy_pid()
    a.stop(signal.SIGKILL)

    def gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                return f.read().split()[2] == "Z"
        except FileNotFoundError:
            return True
    until(gone, 10, "the proxy to end with its agent")
    assert os.path.exists(a.folder / "etc/istio/proxy/envoy-rev.json")


def test_a_wrong_token_gets_nothing(make):
    mesh = make()
    mesh.agent("b", "10.11.0.2", start=False)
    a = mesh.agent("a", "10.11.0.1", start=False)
    token = a.folder / "var/run/secrets/tokens/istio-token"
    good = token.read_text()
    token.write_text("nonsense")
    a.start()
    until(lambda: a.log().count("Unauthenticated") >= 3, 20, "refusals of certificate and configuration")
    assert "certificate for" not in a.log() and "virtualInbound" not in a.admin("/listeners")
    token.write_text(good)  # as a kubelet renews it
    a.wait_ready()


def test_requests_are_not_cut_at_the_end(make):
    """SIGTERM: what is under way ends; then the proxy goes, then the agent, with code 0."""
    mesh = make()
    a, b = two(mesh, drain="300s")
    until(lambda: works(mesh, a), 20, "an answer")
    b.process.send_signal(signal.SIGTERM)
    until(lambda: "draining for" in b.log(), 10, "the drain to begin")
    for _ in range(20):
        assert ask(mesh, a).status == 200
    insist(b)


def insist(agent):
    """As a person who does not wait for the drain; then it ends by itself."""
    before = agent.log().count("caught signal 2")
    agent.process.send_signal(signal.SIGINT)
    until(lambda: agent.log().count("caught signal 2") > before, 10, "the first")
    agent.process.send_signal(signal.SIGINT)
    agent.stop()


class Slow:
    """An application that answers when it is told to."""

    def __init__(self, pod, port=8080):
        self.go, self.began = threading.Event(), threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                slow.began.set()
                assert slow.go.wait(patient(60))
                self.send_response(200)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"done")

            def log_message(self, *_):
                pass
        slow = self
        with pod:
            self.server = http.server.ThreadingHTTPServer(("", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()


def test_ends_when_no_connection_is_left(make):
    """EXIT_ON_ZERO_ACTIVE_CONNECTIONS: a request that takes longer than any drain is not cut; nobody waits longer than that."""
    mesh = make()
    env = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "200ms"}
    a, b = mesh.agent("a", "10.11.0.1"), mesh.agent("b", "10.11.0.2", env=env)
    slow = Slow(b.pod)
    a.wait_ready(), b.wait_ready()
    until(lambda: "10.11.0.2:8080" in a.admin("/clusters"), 20, "the endpoint")
    got = []
    asking = threading.Thread(target=lambda: got.append(ask(mesh, a)))
    asking.start()
    assert slow.began.wait(patient(20))
    b.process.send_signal(signal.SIGTERM)
    until(lambda: b.log().count("connections are left") >= 2, 20, lambda: b.log()[-2000:])
    slow.go.set()
    asking.join(patient(20))
    assert got[0].status == 200
    assert b.process.wait(patient(20)) == 0 and "no connection is left" in b.log()
    b.process = None
    slow.close()


def test_drained_before_it_is_asked_to_end(make):
    """/drain, then SIGTERM, as a kubelet does with sidecars of its own kind: the application has gone, nothing is waited for."""
    mesh = make()
    a = mesh.agent("a", "10.11.0.1", config={"terminationDrainDuration": "300s"}).wait_ready()
    assert a.status("/drain", "POST")[0] == 200
    a.process.send_signal(signal.SIGTERM)
    assert a.process.wait(patient(20)) == 0 and "drained already" in a.log()
    a.process = None


def test_a_job_ends_with_its_application(make):
    mesh = make()
    a = mesh.agent("a", "10.11.0.1", config={"terminationDrainDuration": "300s"}).wait_ready()
    assert a.status("/quitquitquit", "POST")[0] == 200
    assert a.process.wait(patient(20)) == 0
    a.process = None


def test_h12_a_storm_of_signals(make):
    """Whatever signals come and how often: what is under way ends, then the agent, with code 0; a SIGKILL leaves nothing that the next start minds."""
    mesh = make()
    a, b = two(mesh, drain="300s")
    until(lambda: works(mesh, a), 20, "an answer")
    for signo in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE):
        b.process.send_signal(signo)
    assert ask(mesh, a).status == 200
    for i in range(40):
        b.process.send_signal(signal.SIGTERM)
        if i < 20:
            assert ask(mesh, a).status == 200
    insist(b)
    for delay in (0, 0.02, 0.1, 0.3):  # in the middle of a start
        b.start()
        time.sleep(delay)
        b.stop(signal.SIGKILL)
    b.start()
    b.wait_ready()
    until(lambda: works(mesh, a), 30, "an answer of the pod that came back")
    insist(b)


@pytest.mark.long
def test_g12_short_certificates_for_minutes(make):
    """Certificates of 10 s under load: no request fails, each connection has a certificate that holds."""
    renewed(make, 10, 24)


@pytest.mark.parametrize("change,why", [
    (lambda a: (a.folder / "etc/istio/proxy").write_text(""), "cannot"),
    (lambda a: a.env.update(XDS_ROOT_CA="/nowhere.pem"), "XDS_ROOT_CA: there is no /nowhere.pem"),
    (lambda a: a.env.update(PROXY_CONFIG='{"discoveryAddress": "nowhere"}', CA_ADDR=""), 'discoveryAddress: "nowhere" is no host:port'),
    (lambda a: a.env.update(SECRET_TTL="long"), "SECRET_TTL"), (lambda a: a.env.update(MINIMUM_DRAIN_DURATION="a while"), "MINIMUM_DRAIN_DURATION"),
    (lambda a: a.env.update(PROXY_CONFIG='{"discoveryAddress": "10.0.0.1:15012", "binaryPath": "/usr/bin/nowhere"}'), "cannot run /usr/bin/nowhere"),
])
def test_what_cannot_start_says_why(make, change, why):
    mesh = make()
    a = mesh.agent("a", "10.11.0.1", start=False)
    change(a)
    a.start()
    assert a.process.wait(20) == 1 and why in a.log(), a.log()
    a.process = None
