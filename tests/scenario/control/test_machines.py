"""Machines that announce themselves become WorkloadEntries of their group while they are connected (C2)."""
import queue

import pytest

import control
from wire import until

grpc = pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("cryptography", reason="peer python3-cryptography is not installed")
pytest.importorskip("envoy.service.discovery.v3.ads_pb2_grpc", reason="peer xds-protos is not installed")
import authority as ca  # noqa: E402
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from google.rpc import status_pb2  # noqa: E402

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
CDS, HEALTH = "type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/istio.v1.HealthInformation"
DOCS = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: demo}
spec:
  metadata: {labels: {app: db, tier: of-the-group}, annotations: {owner: us}}
  template: {ports: {tcp: 5433}, labels: {app: template, version: v1}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: demo}
spec:
  hosts: [db.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  workloadSelector: {labels: {app: db}}
"""


class Machine:
    """A stream of ADS. `end`: the code that it ended with, once it has."""

    def __init__(self, channel, address, token=None, namespace="demo", **metadata):
        self.out, self.end = queue.Queue(), None
        node = {"id": f"sidecar~{address}~vm-1.{namespace}~{namespace}.svc.cluster.local",
                "metadata": {"AUTO_REGISTER_GROUP": "db", "LABELS": {"version": "v2"}, "NAMESPACE": namespace, **metadata},
                "locality": {"region": "r", "zone": "z"}}
        r = discovery_pb2.DiscoveryRequest(type_url=CDS)
        json_format.ParseDict(node, r.node)
        self.out.put(r)
        heads = [("authorization", f"Bearer {token}")] if token else []
        self.call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(
            iter(self.out.get, None), metadata=heads, timeout=300)
        try:
            next(self.call)
            if AUTO in metadata:  # an end that follows the answer
                next(self.call)
        except grpc.RpcError as e:
            self.end = e.code().name, e.details()

    def say(self, why=None):
        self.out.put(discovery_pb2.DiscoveryRequest(type_url=HEALTH, error_detail=status_pb2.Status(code=500, message=why) if why else None))

    def leave(self):
        self.out.put(None)
        self.call.cancel()


AUTO = "AUTO_REGISTER_GROUP"


@pytest.fixture
def start(tmp_path, monkeypatch):
    started = []

    def begin(*args, **env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        started.append(control.Mizzend(tmp_path, {"a.yaml": DOCS}, *args))
        return started[0]
    yield begin
    for m in started:
        m.stop()


def has(mizzend, address):
    return address in mizzend.page("/debug/endpointz")


def test_a_machine_counts_while_it_is_connected(start):
    m = start(ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY="false", PILOT_WORKLOAD_ENTRY_GRACE_PERIOD="300ms")
    with ca.plain(m.port) as channel:
        one = Machine(channel, "10.9.9.1")
        until(lambda: has(m, "10.9.9.1"), 30, "the endpoint")
        page = m.page("/debug/configz")
        for part in ("db-10.9.9.1", "autoRegistrationGroup", "of-the-group", "r/z", '"v2"', "5433", "10.9.9.1"):
            assert part in page, f"{part} is not in {page}"
        again = Machine(channel, "10.9.9.1")
        one.leave()
        until(lambda: m.page("/debug/adsz").count("vm-1.demo") == 1, 30, "one stream less")
        assert has(m, "10.9.9.1"), "another stream of it is there"
        again.leave()
        until(lambda: not has(m, "10.9.9.1"), 30, "the grace period to end")
        values = dict(line.split() for line in m.page("/metrics").splitlines() if line.startswith("auto_registration"))
        assert {k: float(v) for k, v in values.items()} == {
            "auto_registration_success_total": 1, "auto_registration_updates_total": 1, "auto_registration_unregister_total": 1,
            "auto_registration_deletes_total": 1, "auto_registration_errors_total": 0}


def test_one_with_a_probe_counts_while_it_is_healthy(start):
    m = start(ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY="false")
    with ca.plain(m.port) as channel:
        probed = Machine(channel, "10.9.9.2", PROXY_CONFIG={"readinessProbe": {"httpGet": {"port": 80}}})
        other = Machine(channel, "10.9.9.3")
        until(lambda: has(m, "10.9.9.3"), 30, "the one without a probe")
        assert not has(m, "10.9.9.2"), "nobody has said that it is healthy"
        probed.say()
        until(lambda: has(m, "10.9.9.2"), 30, "the healthy one")
        probed.say("connection refused")
        until(lambda: not has(m, "10.9.9.2"), 30, "the sick one to go")
        assert "db-10.9.9.2 is unhealthy: connection refused" in m.log()
        probed.say()
        until(lambda: has(m, "10.9.9.2"), 30, "the healthy one again")
        probed.leave()
        other.leave()


def test_who_may_not(start, tmp_path):
    m = start("--secure-grpc-addr", "127.0.0.1:0", "--ca-dir", str(tmp_path / "ca"))
    with ca.plain(m.port) as channel:
        assert Machine(channel, "10.9.9.4", **{AUTO: "db"}).end == (
            "FAILED_PRECONDITION", "auto-registration WorkloadEntry of vm-1.demo failed: registration of WorkloadEntry requires a verified identity")
    roots = (tmp_path / "ca" / "root-cert.pem").read_text()
    with ca.secure(m.port_of("secure xDS"), roots) as channel:
        web, api = (ca.token(tmp_path / "ca", f"demo/{name}") for name in ("web", "api"))
        assert "cannot find WorkloadGroup demo/nobody" in Machine(channel, "10.9.9.4", web, **{AUTO: "nobody"}).end[1]
        assert "service account mismatch: \"api\" vs \"web\"" in Machine(channel, "10.9.9.4", api, **{AUTO: "db"}).end[1]
        assert "is not a name" in Machine(channel, "10.9.9.4", web, NETWORK="a/b", **{AUTO: "db"}).end[1]
        assert not has(m, "10.9.9.4")
        one = Machine(channel, "10.9.9.4", web)
        until(lambda: has(m, "10.9.9.4"), 30, "the endpoint")
        one.leave()
