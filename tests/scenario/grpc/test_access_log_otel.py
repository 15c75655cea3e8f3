"""Access logs as OpenTelemetry's records (O2): what a record has, one call for each lot, services that are not there."""
import json

import config
import pytest
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("opentelemetry.proto.logs.v1.logs_pb2", reason="peer xds-protos is not installed")
grpc_peer = pytest.importorskip("grpc_peer", reason="peers grpcio and xds-protos are not installed")
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service_pb2  # noqa: E402

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


class Service(grpc_peer.GrpcPeer):
    def __init__(self):
        super().__init__({EXPORT: ("unary", service_pb2.ExportLogsServiceRequest, self._take)}, "otel")

    @staticmethod
    def _take(message, context):
        return service_pb2.ExportLogsServiceResponse()

    def records(self):
        """The peer's schema has the older names of the same fields."""
        return [r for m in list(self.requests) for x in m.resource_logs for s in x.instrumentation_library_logs for r in s.logs]

    def wait(self, n):
        return until(lambda: len(self.records()) >= n and self.records(), 10, f"{n} records")


@pytest.fixture
def service():
    s = Service()
    yield s
    s.close()


def log(**fields):
    common = {"log_name": "mine", "transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "otel"}}, "buffer_flush_interval": "0.05s",
              **fields.pop("common", {})}
    return config.ext("otel", "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig", common_config=common, **fields)


def start(mesh, port, the_log, filters=()):
    up = mesh.upstream()
    m = config.hcm([config.route("/", up.name)], log=the_log, filters=list(filters))
    boot = config.bootstrap([config.listener(free_port(), [m])], [config.cluster(up.name, [up.port]), config.cluster("otel", [port], http=H2)], free_port())
    boot["node"]["locality"] = {"zone": "z"}
    return mesh.proxy(boot=boot)


def plain(any_value):
    kind = any_value.WhichOneof("value")
    v = getattr(any_value, kind)
    if kind == "kvlist_value":
        return {x.key: plain(x.value) for x in v.values}
    return [plain(x) for x in v.values] if kind == "array_value" else v


def test_record(mesh, service):
    body = {"kvlist_value": {"values": [{"key": "path", "value": {"string_value": "%REQ(:PATH)% %RESPONSE_CODE%"}},
                                        {"key": "more", "value": {"array_value": {"values": [{"string_value": "%PROTOCOL%"}, {"int_value": "7"}]}}}]}}
    attributes = {"values": [{"key": "host", "value": {"string_value": "%REQ(:AUTHORITY)%"}}, {"key": "on", "value": {"bool_value": True}}]}
    resource = {"values": [{"key": "mesh", "value": {"string_value": "m"}}]}
    px = start(mesh, service.port, log(body=body, attributes=attributes, resource_attributes=resource))
    with px.client() as c:
        c.get("/one", headers=[("x", "y")])
        c.send(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n")
        c.response()
    first = service.wait(1)[0]
    assert plain(first.body) == {"path": "/one 200", "more": ["HTTP/1.1", 7]}
    assert {x.key: plain(x.value) for x in first.attributes} == {"host": "a", "on": True}
    assert first.time_unix_nano > 1_700_000_000 * 10**9
    found = {x.key: plain(x.value) for x in service.requests[0].resource_logs[0].resource.attributes}
    assert found == {"log_name": "mine", "zone_name": "z", "cluster_name": "test", "node_name": "test", "mesh": "m"}
    assert px.wait_stat("access_logs.open_telemetry_access_log.logs_written")


def test_peers_and_no_labels(mesh, service):  # S2
    peer = config.ext("peer", "io.istio.http.peer_metadata.Config", downstream_discovery=[{"baggage": {}}])
    px = start(mesh, service.port, log(body={"string_value": "b"}, disable_builtin_labels=True, stat_prefix="s",
                                       common={"filter_state_objects_to_log": ["downstream_peer", "nobody"]}), [peer])
    with px.client() as c:
        c.get("/", headers=[("baggage", "k8s.pod.name=p")])
    record = service.wait(1)[0]
    assert plain(record.body) == "b" and not service.requests[0].resource_logs[0].resource.attributes
    (found,) = record.attributes
    assert found.key == "downstream_peer" and json.loads(found.value.string_value) == {
        "@type": "type.googleapis.com/google.protobuf.Struct", "value": {"workload": "p", "type": "pod"}}
    assert px.wait_stat("access_logs.open_telemetry_access_log.s.logs_written")


def test_nobody_is_there(mesh):  # requests go on; what finds no room is dropped
    px = start(mesh, free_port(), log(body={"string_value": "%REQ(:PATH)%"}, common={"buffer_size_bytes": 200}))
    with px.client() as c:
        assert all(c.get(f"/{n}").status == 200 for n in range(40))
    assert px.wait_stat("access_logs.open_telemetry_access_log.logs_dropped")


def test_bad_format(mesh):
    px = start_refused(mesh, log(attributes={"values": [{"key": "k", "value": {"string_value": "%NO_SUCH%"}}]}))
    assert "attributes.values[0].value.string_value" in px


def start_refused(mesh, the_log):
    import subprocess
    m = config.hcm([config.route("/", "up")], log=the_log)
    path = mesh.folder / "bad.json"
    path.write_text(json.dumps(config.bootstrap([config.listener(free_port(), [m])], [config.cluster("up", [1])], free_port())))
    r = subprocess.run([mesh.binary, "-c", str(path), "--mode", "validate"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 1
    return r.stderr + r.stdout
