"""The monitoring port: /ready, /metrics, /version, /debug in istiod's shapes; a refusal kept with the object behind it (C6, C7)."""
import json
import pathlib
import re
import subprocess

import pytest
import yaml

import control
import ctl
from wire import free_port, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
CASE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "bookinfo-stock-envoy"
NODE = CASE / "productpage" / "node.json"
ID = json.loads(NODE.read_text())["id"].split("~")[2]
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("monitor")


@pytest.fixture(scope="module")
def mizzend(folder):
    m = control.Mizzend(folder, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
    yield m
    m.stop()


class Client:
    """A proxy that stays connected: subscribes to clusters, listeners, endpoints; refuses what it is told to."""

    def __init__(self, port, refuse=(), more=()):
        import grpc
        pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
        from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
        from google.protobuf import json_format
        import queue
        import threading
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.out, self.answers, refused = queue.Queue(), [], dict(refuse)
        node = discovery_pb2.DiscoveryRequest()
        json_format.Parse(NODE.read_text(), node.node)
        types = ["envoy.config.cluster.v3.Cluster", "envoy.config.listener.v3.Listener", "envoy.config.endpoint.v3.ClusterLoadAssignment", *more]
        for t in types:
            r = discovery_pb2.DiscoveryRequest(node=node.node, type_url=f"type.googleapis.com/{t}")
            if "endpoint" in t:
                r.resource_names.append("outbound|9080||details.default.svc.cluster.local")
            self.out.put(r)
        self.stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self.channel).StreamAggregatedResources(iter(self.out.get, None))

        def read():
            try:
                for a in self.stream:
                    r = discovery_pb2.DiscoveryRequest(type_url=a.type_url, response_nonce=a.nonce, version_info=a.version_info)
                    if "endpoint" in a.type_url:
                        r.resource_names.append("outbound|9080||details.default.svc.cluster.local")
                    for word, text in refused.items():
                        if word in a.type_url:
                            r.error_detail.message = text
                    self.out.put(r)
                    self.answers.append(a)
            except grpc.RpcError:
                pass
        threading.Thread(target=read, daemon=True).start()

    def close(self):
        self.out.put(None)
        self.stream.cancel()
        self.channel.close()


@pytest.fixture(scope="module")
def client(mizzend):
    c = Client(mizzend.port)
    until(lambda: len(c.answers) >= 3, 30, "three answers")
    until(lambda: all(r.get("acked") == r["sent"] for s in json.loads(mizzend.page("/debug/syncz")) for r in s["resources"].values())
          and json.loads(mizzend.page("/debug/syncz")), 30, "acknowledgements")
    yield c
    c.close()


def test_ready_version_and_list(mizzend):
    assert mizzend.page("/ready") == ""
    assert len(mizzend.page("/version")) == 40
    assert json.loads(mizzend.page("/version?format=json"))["version"] == mizzend.page("/version")
    assert "/debug/syncz" in mizzend.page("/help")
    assert mizzend.page("/nope", ok=False)[0] == 404


def value(text, name):
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_metrics_have_istiods_names(mizzend, client):
    text = mizzend.page("/metrics")
    assert 'istio_build{component="pilot"' in text and "\npilot_services 5\n" in text
    assert '\npilot_xds{version="1.32.0"} 1\n' in text and '\npilot_xds_pushes{type="cds"} 1\n' in text
    assert '\npilot_total_xds_rejects{type="lds"} 0\n' in text
    assert 'pilot_xds_push_time_bucket{le="+Inf"} 1\n' in text and "process_resident_memory_bytes" in text
    assert '\npilot_xds_config_size_bytes_count{type="cds"} 1\n' in text and 'pilot_xds_config_size_bytes_bucket{type="cds",le="1e+06"} 1\n' in text
    assert '\npilot_push_triggers{type="config"} 1\n' in text and "pilot_debounce_time_count 1\n" in text and "\npilot_virt_services " in text
    assert value(text, 'xds_cache_reads{type="miss"}') > 0 and value(text, "xds_cache_size") > 0 and value(text, "istiod_uptime_seconds") > 0
    assert "pilot_xds_cds_reject{" not in text
    for line in text.splitlines():
        assert line.startswith("#") or len(line.rsplit(" ", 1)) == 2 and float(line.rsplit(" ", 1)[1]) >= 0


def test_syncz_and_adsz(mizzend, client):
    one, = json.loads(mizzend.page("/debug/syncz"))
    assert one["proxy"] == ID and one["proxy_type"] == "sidecar" and one["istio_version"] == "1.32.0"
    assert one["cluster_sent"] == one["cluster_acked"] and one["endpoint_sent"] == one["endpoint_acked"] and "route_sent" not in one
    assert json.loads(mizzend.page("/debug/syncz?namespace=other")) == []
    ads = json.loads(mizzend.page("/debug/adsz"))
    assert ads["totalClients"] == 1 and ads["clients"][0]["connectionId"].startswith(ID)
    assert ads["clients"][0]["watches"]["type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"] == [
        "outbound|9080||details.default.svc.cluster.local"]
    assert ads["clients"][0]["labels"]["app"] == "productpage"
    assert json.loads(mizzend.page("/debug/connections"))["totalClients"] == 1


def test_config_dump_of_a_proxy_is_read_by_mizzenctl(mizzend, client, folder):
    assert mizzend.page("/debug/config_dump", ok=False)[0] == 400
    assert mizzend.page("/debug/config_dump?proxyID=nobody", ok=False)[0] == 404
    text = mizzend.page(f"/debug/config_dump?proxyID={ID}&include_eds")
    kinds = [c["@type"].rsplit(".", 1)[1] for c in json.loads(text)["configs"]]
    assert kinds == ["BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump", "ScopedRoutesConfigDump",
                     "RoutesConfigDump", "SecretsConfigDump", "EcdsConfigDump"]
    (folder / "dump.json").write_text(text)
    want = {c["name"] for c in json.loads((CASE / "productpage" / "cds.json").read_text())}
    got = json.loads(ctl.run("pc", "c", "-o", "json", "-f", folder / "dump.json").stdout)
    assert {c["name"] for c in got} == want
    assert "10.11.0.11:9080" in ctl.run("pc", "eds", "-f", folder / "dump.json").stdout
    assert "10.11.0.11" in mizzend.page(f"/debug/edsz?proxyID={ID}")


def test_pages_about_what_is_served(mizzend, client):
    services = {s["hostname"]: s for s in json.loads(mizzend.page("/debug/registryz"))}
    details = services["details.default.svc.cluster.local"]
    assert details["Attributes"]["Name"] == "details" and details["ports"][0]["port"] == 9080 and details["ports"][0]["protocol"] == "HTTP"
    shards = json.loads(mizzend.page("/debug/endpointz"))["details.default.svc.cluster.local"]["default"]["Shards"]
    assert shards["Kubernetes/Kubernetes"][0]["Addresses"] == ["10.11.0.11"]
    config = json.loads(mizzend.page("/debug/configz"))
    rule, = (c for c in config if c["kind"] == "DestinationRule" and c["metadata"]["name"] == "reviews")
    assert rule["apiVersion"] == "networking.istio.io/v1" and [s["name"] for s in rule["spec"]["subsets"]] == ["v1", "v2", "v3"]
    instances = json.loads(mizzend.page("/debug/instancesz"))[ID]
    assert [i["Service"] for i in instances] == ["productpage.default.svc.cluster.local"]
    assert json.loads(mizzend.page("/debug/mesh"))
    assert {"Group": "", "Version": "v1", "Kind": "Service"} in json.loads(mizzend.page("/debug/resourcesz"))
    assert json.loads(mizzend.page("/debug/cachez"))["entries"] > 0
    assert json.loads(mizzend.page("/debug/authorizationz"))["authorization_policies"]["root_namespace"] == "istio-system"
    assert "namespace_to_telemetries" in json.loads(mizzend.page("/debug/telemetryz"))["telemetries"]
    names = json.loads(mizzend.page("/debug/list"))
    assert "syncz" in names and "list" not in names and all(f"/debug/{n}" in mizzend.page("/help") for n in names)


def test_what_one_proxy_was_sent_by_a_part_of_its_name(mizzend, client):
    part = ID.split(".")[0]
    clusters = json.loads(mizzend.page(f"/debug/cdsz?proxyID={part}"))["configs"]
    assert {c["name"] for c in clusters} == {c["name"] for c in json.loads((CASE / "productpage" / "cds.json").read_text())}
    assert json.loads(mizzend.page(f"/debug/ndsz?proxyID={part}")) == json.loads(mizzend.page(f"/debug/ecdsz?proxyID={part}")) == {"configs": []}
    assert mizzend.page("/debug/cdsz?proxyID=nobody", ok=False)[0] == 404


def test_where_documents_stand(mizzend, client):
    rules = {o["name"]: o for o in json.loads(mizzend.page("/debug/mizzen/objects?kind=DestinationRule"))}
    text = (CASE / "input" / "istio.yaml").read_text().splitlines()
    at = rules["reviews"]
    assert at["file"].endswith("istio.yaml") and at["group"] == "networking.istio.io" and at["namespace"] == "default" and "reviews" in "".join(text[at["line"] - 1:at["line"] + 4])
    everything = json.loads(mizzend.page("/debug/mizzen/objects"))
    assert {"Service", "Pod", "VirtualService"} <= {o["kind"] for o in everything} and not json.loads(mizzend.page("/debug/mizzen/objects?namespace=none"))
    assert json.loads(mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=9080")) == {"mode": "PERMISSIVE"}
    mizzend.write("strict.yaml", "\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: port, namespace: default}\n"
                  "spec: {selector: {matchLabels: {app: productpage}}, portLevelMtls: {9080: {mode: STRICT}}}\n")
    got = until(lambda: json.loads(mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=9080")).get("object") and json.loads(
        mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=9080")), 30, "the document")
    assert got["mode"] == "STRICT" and got["object"]["name"] == "port" and got["object"]["line"] == 2
    assert json.loads(mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=1")) == {"mode": "PERMISSIVE"}
    assert json.loads(mizzend.page("/debug/mizzen/mtls?proxyID=nobody")) == json.loads(mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=x")) == {}
    mizzend.write("strict.yaml", "# nothing\n")
    until(lambda: json.loads(mizzend.page(f"/debug/mizzen/mtls?proxyID={ID}&port=9080")) == {"mode": "PERMISSIVE"}, 30, "no document")


def test_pages_know_the_types_of_agents(mizzend, client):
    """A table of names is of no type that proxies have."""
    c = Client(mizzend.port, more=["istio.networking.nds.v1.NameTable"])
    url = "type.googleapis.com/istio.networking.nds.v1.NameTable"
    until(lambda: any(url in s["resources"] for s in json.loads(mizzend.page("/debug/syncz"))), 30, "its state")
    assert any(url in a["watches"] for a in json.loads(mizzend.page("/debug/adsz"))["clients"])
    c.close()


def test_a_broken_document_is_told(mizzend, client):
    mizzend.write("broken.yaml", "kind: [\n")
    told = until(lambda: [d for d in json.loads(mizzend.page("/debug/push_status"))["documents"] if d["level"] == "error"], 30, "the broken document")
    assert len(told) == 1 and told[0]["where"].endswith("broken.yaml:1") and "not YAML" in told[0]["message"]
    assert "\npilot_total_rejected_configs 1\n" in mizzend.page("/metrics")
    mizzend.write("broken.yaml", "# nothing\n")
    until(lambda: "\npilot_total_rejected_configs 0\n" in mizzend.page("/metrics"), 30, "no broken document")


def test_a_refusal_is_kept_with_its_object(mizzend, client):
    name = "outbound|9080|v2|reviews.default.svc.cluster.local"
    c = Client(mizzend.port, refuse={"cluster": f"Error adding/updating cluster(s) {name}: no such thing"})

    def refused():
        return [r for s in json.loads(mizzend.page("/debug/syncz")) for r in s["resources"].values() if r.get("lastError")]
    found = until(refused, 30, "the refusal")[0]
    assert found["lastErrorResource"] == name and name in found["lastError"]
    assert found["lastErrorObject"] == "networking.istio.io/v1 destination-rule default/reviews" or \
        found["lastErrorObject"].split()[1:] == ["destination-rule", "default/reviews"]
    assert '\npilot_total_xds_rejects{type="cds"} 1\n' in mizzend.page("/metrics")
    assert f'\npilot_xds_cds_reject{{err="OK",node="{ID}"}} 1\n' in mizzend.page("/metrics")  # the client told no code
    p = ctl.run("proxy-status", "--control-plane", f"127.0.0.1:{mizzend.port_of('monitoring')}")
    assert "refused CDS, made of networking.istio.io/" in p.stdout and "default/reviews: Error adding" in p.stdout
    c.close()
    until(lambda: json.loads(mizzend.page("/debug/adsz"))["totalClients"] == 1, 30, "the client to be gone")


def test_a_client_is_sent_away(mizzend, client):
    path = f"/debug/force_disconnect?proxyID={ID}"
    assert mizzend.page(path, ok=False)[0] == 405 and len(client.answers) >= 3  # who changes something must POST
    c = Client(mizzend.port)
    until(lambda: len(c.answers) >= 3, 30, "three answers")
    assert mizzend.post(path) == (200, "OK")
    until(lambda: json.loads(mizzend.page("/debug/adsz"))["totalClients"] == 1, 30, "the newest to be gone")
    assert mizzend.post("/debug/force_disconnect?proxyID=nobody")[0] == 404
    c.close()


def test_proxy_status(mizzend, client):
    where = f"127.0.0.1:{mizzend.port_of('monitoring')}"
    lines = ctl.run("proxy-status", "--control-plane", where).stdout.splitlines()
    assert lines[0].split() == ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED", "TYPES"]
    assert lines[1].split() == [ID, "Kubernetes", where, "1.32.0", "3", "(CDS,LDS,EDS)"]
    wide = ctl.run("proxy-status", "-v", "1", "--control-plane", where).stdout.splitlines()
    assert wide[0].split() == ["NAME", "CLUSTER", "CDS", "ECDS", "EDS", "LDS", "RDS", "ISTIOD", "VERSION"]
    assert re.sub(r" +\([0-9hms]+\)", "", wide[1]).split()[:7] == [ID, "Kubernetes", "SYNCED", "IGNORED", "SYNCED", "SYNCED", "IGNORED"]
    for form, read in ("json", json.loads), ("yaml", yaml.safe_load):
        answer = read(ctl.run("proxy-status", ID, "-o", form, "--control-plane", where).stdout)
        one, = answer["resources"]
        assert one["node"] == {"id": ID, "metadata": {"CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.32.0", "NAMESPACE": ID.rsplit(".", 1)[1]}}
        assert [(c["typeUrl"].rsplit(".", 1)[1], c["configStatus"]) for c in one["genericXdsConfigs"]] == [
            ("Cluster", "SYNCED"), ("ClusterLoadAssignment", "SYNCED"), ("Listener", "SYNCED")]
        assert answer["typeUrl"] == one["@type"] and where in answer["controlPlane"]["identifier"]
    nobody = ctl.run("proxy-status", "nobody", "--control-plane", where)
    assert nobody.returncode == 1 and nobody.stdout == "" and 'no proxy "nobody" is connected' in nobody.stderr
    assert len(ctl.run("proxy-status", "-n", "other", "--control-plane", where).stdout.splitlines()) == 1
    assert "control plane version: " in ctl.run("version", "--control-plane", where).stdout


def test_what_a_client_of_the_page_may_do(mizzend):
    import socket
    port = mizzend.port_of("monitoring")
    for data, status in [(b"GET /ready HTTP/1.1\r\n\r\n", b" 400 "), (b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1100000, b" 413 "),
                         (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 500 + b"\r\n", b" 431 "), (b"\x16\x03\x01\x00", b" 400 "),
                         (b"HEAD /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b" 200 ")]:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            s.sendall(data)
            assert status in s.recv(4096)
    assert mizzend.page("/ready") == ""


def test_logs_as_json(tmp_path):
    (tmp_path / "docs").mkdir()
    p = subprocess.run([control.MIZZEND, "-c", tmp_path / "docs", "--log-as-json", "--grpc-addr", f"127.0.0.1:{free_port()}", "--secure-grpc-addr", "", "--webhook-addr", "", "--monitoring-addr", 'no "address"'],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1
    lines = [json.loads(line) for line in p.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["level"] == "critical" and lines[-1]["logger"] == "main" and '"no "address""' in lines[-1]["message"]
    assert lines[-1]["time"].endswith("Z")
