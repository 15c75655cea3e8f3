"""Istio's standard metrics at the agents' port 15020, between two pods of a mesh of ours (S1, A3): exact label sets for HTTP, gRPC and TCP."""
import re
import socket
import subprocess
import threading

import pytest

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
pytest.importorskip("grpc", reason="peer grpcio is not installed")
from grpc_apart import GrpcApart  # noqa: E402
from podagent import Mesh  # noqa: E402
from pods import node  # noqa: E402, F401
from wire import patient, until  # noqa: E402

GRPC = """apiVersion: v1
kind: Service
metadata: {name: b-grpc, namespace: demo}
spec: {clusterIP: 10.96.1.1, selector: {app: b}, ports: [{name: grpc, port: 7000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b-grpc-1, namespace: demo, labels: {kubernetes.io/service-name: b-grpc}}
addressType: IPv4
ports: [{name: grpc, port: 7000}]
endpoints: [{addresses: ["10.11.0.2"], conditions: {ready: true}, nodeName: node, targetRef: {kind: Pod, name: b-1, namespace: demo}}]
"""


@pytest.fixture
def ours(node, tmp_path):  # noqa: F811
    m = Mesh(node, tmp_path)
    yield m
    m.close()


def side(which, name):
    return {f"{which}_{k}": v for k, v in {
        "workload": f"{name}-v1", "workload_namespace": "demo", "principal": f"spiffe://cluster.local/ns/demo/sa/{name}", "app": name, "version": "v1",
        "canonical_service": name, "canonical_revision": "v1", "cluster": "Kubernetes"}.items()}


def expected(reporter, service, **more):
    return {"reporter": reporter, **side("source", "a"), **side("destination", "b"), "destination_service": f"{service}.demo.svc.cluster.local",
            "destination_service_name": service, "destination_service_namespace": "demo", "response_flags": "-",
            "connection_security_policy": "mutual_tls" if reporter == "destination" else "unknown", **more}


def found(agent, metric):
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for labels, value in re.findall(rf"^{metric}{{(.*)}} (\S+)$", agent.status("/stats/prometheus")[1], re.M)]


def test_exact_labels(ours):
    ours.write("grpc.yaml", GRPC)
    pods = {}
    for name, ip in (("a", "10.11.0.1"), ("b", "10.11.0.2")):
        pods[name] = p = ours.agent(name, ip, env={"ISTIO_META_WORKLOAD_NAME": f"{name}-v1", "ISTIO_META_CLUSTER_ID": "Kubernetes"}, start=False)
        with open(p.folder / "etc/istio/pod/labels", "a", encoding="utf-8") as f:
            f.write('version="v1"\nservice.istio.io/canonical-revision="v1"\n')
    a, b = pods["a"], pods["b"]
    b.pod.app(8080)
    a.start(), b.start()
    with b.pod:
        peer = GrpcApart({"/shop.Cart/Add": {None: b""}}, at="0.0.0.0:7000")
        echo = socket.create_server(("", 9000))

    def serve():
        c = echo.accept()[0]
        while data := c.recv(4096):
            c.sendall(data)
        c.close()
    threading.Thread(target=serve, daemon=True).start()
    a.wait_ready(), b.wait_ready()
    until(lambda: a.works("b") and "10.11.0.2:7000::health_flags::healthy" in a.admin("/clusters"), 30, "endpoints")
    with a.pod:
        done = subprocess.run(["curl", "-sv", "--http2-prior-knowledge", "-m", str(patient(20)), "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary",
                               "@-", "http://10.96.1.1:7000/shop.Cart/Add"], input=b"\0" * 5, capture_output=True)
        assert b"< HTTP/2 200" in done.stderr and peer.close() == [b""], done.stderr.decode() + b.admin("/stats?filter=cluster.inbound.*7000.*upstream") + b.admin("/stats?filter=inbound.*downstream_rq")
        with socket.create_connection((ours.vip("b"), 9000), patient(20)) as s:
            s.sendall(b"hello")
            assert s.recv(100) == b"hello"
    for agent, reporter in ((a, "source"), (b, "destination")):
        want = [expected(reporter, "b", request_protocol="http", response_code="200", grpc_response_status=""),
                expected(reporter, "b-grpc", request_protocol="grpc", response_code="200", grpc_response_status="0")]
        for name in ("requests_total", "request_duration_milliseconds_count", "request_bytes_count", "response_bytes_count"):
            def missing(agent=agent, name=name, want=want):
                got = [labels for labels, _ in found(agent, f"istio_{name}") if labels["response_code"] == "200"]
                return [w for w in want if w not in got] or [g for g in got if g not in want]
            until(lambda: not missing(), 10, lambda: f"{name} of the {reporter}: {missing()} {found(agent, f'istio_{name}')}")
        tcp = expected(reporter, "b", request_protocol="tcp")
        for name, value in (("connections_opened_total", 1), ("connections_closed_total", 1), ("received_bytes_total", 5), ("sent_bytes_total", 5)):
            until(lambda: found(agent, f"istio_tcp_{name}") == [(tcp, value)], 15, lambda: f"{name} of the {reporter}: {found(agent, f'istio_tcp_{name}')} {tcp}")
    echo.close()
