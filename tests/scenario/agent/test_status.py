"""The agent's status port (A3): readiness, merged metrics, the application's probes, /quitquitquit."""
import json
import pathlib
import subprocess

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from agent import AGENT  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import until  # noqa: E402

PROBERS = {"/app-health/app/livez": {"httpGet": {"path": "/live", "port": 8080, "httpHeaders": [{"name": "X-Probe", "value": "yes"}, {"name": "Host", "value": "me"}]}},
           "/app-health/app/readyz": {"tcpSocket": {"port": 8080}}, "/app-health/app/startupz": {"tcpSocket": {"port": 8999}, "timeoutSeconds": 2},
           "/app-lifecycle/app/prestopz": {"httpGet": {"path": "/stop", "port": 8999}}}


@pytest.fixture
def ours(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    yield m
    m.close()


def virtual(agent):
    """Bytes of addresses: sanitizers reserve many terabytes."""
    return int(pathlib.Path(f"/proc/{agent.process.pid}/statm").read_text().split()[0]) * 4096


def test_all_of_it(ours):
    env = {"ISTIO_KUBE_APP_PROBERS": json.dumps(PROBERS), "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps({"scrape": "true", "path": "/m", "port": "8080"})}
    a = ours.agent("a", "10.11.0.1", env=env, start=False)
    app = a.pod.app(8080)
    a.start()
    until(lambda: "status" in a.log() or "control plane" in a.log(), 20, "the agent to start")
    early = until(lambda: a.status("/healthz/ready"), 10, "an answer")
    with a.pod:
        done = subprocess.run([AGENT, "wait", "--periodMillis", "50"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + a.log()
        live = subprocess.run([AGENT, "request", "GET", "server_info"], capture_output=True, text=True, timeout=120)
        lost = subprocess.run([AGENT, "request", "GET", "nothing"], capture_output=True, text=True, timeout=120)
        never = subprocess.run([AGENT, "wait", "--timeoutSeconds", "1", "--url", "http://localhost:1/"], capture_output=True, text=True, timeout=120)
    assert '"state": "LIVE"' in live.stdout and lost.returncode == 1 and "status 404" in lost.stderr
    assert never.returncode == 1 and "not ready after 1 seconds" in never.stderr
    a.wait_ready()
    until(lambda: a.status("/healthz/ready")[0] == 200, 20, f"readiness after {early}")
    assert a.status("/healthz/ready", port=15021)[0] == 200  # through the proxy, as kubelets ask

    status, text = a.status("/stats/prometheus")
    assert status == 200 and "istio_agent_cert_expiry_seconds{" in text and "envoy_server_live" in text and '"path": "/m"' in text
    assert int([line for line in text.splitlines() if line.startswith("istio_agent_cert_expiry_seconds{")][0].split()[-1]) > 3600
    assert a.status("/metrics?usedonly")[0] == 200

    anonymous = int([line for line in text.splitlines() if line.startswith("istio_agent_process_resident_anonymous_bytes ")][0].split()[-1])
    sanitized = virtual(a) > 1 << 40
    assert 0 < anonymous < 3 << 20 or sanitized, anonymous

    status, text = a.status("/app-health/app/livez")
    asked = json.loads(text)
    assert status == 200 and asked["path"] == "/live" and asked["headers"]["x-probe"] == "yes" and asked["headers"]["host"] == "me"
    assert asked["peer"] == "127.0.0.6"  # which capture leaves alone
    assert a.status("/app-health/app/readyz")[0] == 200
    assert a.status("/app-health/app/startupz") == (500, "Connection refused")
    assert a.status("/app-lifecycle/app/prestopz")[0] == 500
    assert a.status("/app-health/other/livez")[0] == 404
    assert [r["path"] for r in app.asked].count("/live") == 1

    assert a.status("/quitquitquit")[0] == 405
    import http.client
    c = http.client.HTTPConnection("10.11.0.1", 15020, timeout=20)
    c.request("POST", "/quitquitquit", headers={"content-length": "0"})
    assert c.getresponse().status == 403  # from another machine
    c.close()
    assert a.process.poll() is None
    assert a.status("/quitquitquit", "POST")[0] == 200
    assert a.process.wait(20) == 0
    a.process = None


def test_probes_by_grpc(ours):
    pytest.importorskip("grpc", reason="peer grpcio is not installed")
    from grpc_apart import GrpcApart
    answers = {b"": b"\x08\x01", b"\x0a\x02up": b"\x08\x01", b"\x0a\x04down": b"\x08\x02", b"\x0a\x04gone": ["NOT_FOUND", "no such service"]}
    a, port = ours.agent("a", "10.11.0.1", start=False), 7001
    peer = None
    try:
        services = {"": 200, "up": 200, "down": 500, "gone": 500}
        probers = {f"/app-health/{name or 'all'}/livez": {"grpc": {"port": port, **({"service": name} if name else {})}, "timeoutSeconds": 20} for name in services}
        probers["/app-health/none/livez"] = {"grpc": {"port": 8999}, "timeoutSeconds": 20}
        a.env["ISTIO_KUBE_APP_PROBERS"] = json.dumps(probers)
        a.start()
        with a.pod:
            peer = GrpcApart({"/grpc.health.v1.Health/Check": answers}, at=f"127.0.0.1:{port}")
        a.wait_ready()
        got = {name: a.status(f"/app-health/{name or 'all'}/livez") for name in services}
        assert {k: v[0] for k, v in got.items()} == services, got
        assert got["down"][1] == "not serving" and got["gone"][1] == "NotFound: no such service"
        assert a.status("/app-health/none/livez")[0] == 500
        requests, peer = peer.close(), None
        assert requests == list(answers)
    finally:
        if peer:
            peer.close()


@pytest.mark.parametrize("env,why", [
    ({"ISTIO_KUBE_APP_PROBERS": "{"}, "ISTIO_KUBE_APP_PROBERS"), ({"ISTIO_KUBE_APP_PROBERS": '{"/x": {"tcpSocket": {"port": 1}}}'}, "is no path of a probe"),
    ({"ISTIO_KUBE_APP_PROBERS": '{"/app-health/a/livez": {"grpc": {"port": 1}, "tcpSocket": {"port": 1}}}'}, "httpGet, tcpSocket or grpc"),
    ({"ISTIO_PROMETHEUS_ANNOTATIONS": '{"port": "70000"}'}, "ISTIO_PROMETHEUS_ANNOTATIONS: port 70000"),
])
def test_bad_settings(ours, env, why):
    a = ours.agent("a", "10.11.0.1", env=env)
    assert a.process.wait(20) == 1 and why in a.log(), a.log()
    a.process = None
