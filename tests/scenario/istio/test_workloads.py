"""Workload discovery (S2): who a peer is by its address, as the control plane tells (istio.workload.Workload)."""
import base64
import ipaddress
import socket

import config
import dynamic
import pytest
import sidecar
from google.protobuf import any_pb2
from sidecar import META, PEERS, field, header
from tcp import Server
from wire import HOST, free_port, until

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import Ads  # noqa: E402

EXTENSION = "istio.workload.BootstrapExtension"
SHOP = {"uid": "k/Pod/demo/shop-1", "name": "shop-1", "namespace": "demo", "trust_domain": "td", "service_account": "shop", "canonical_name": "shop",
        "canonical_revision": "v3", "workload_name": "shop", "workload_type": "JOB", "cluster_id": "c1", "locality": {"region": "r", "zone": "z"},
        "network": "n", "services": {"demo/shop.demo": {"ports": [{"service_port": 80, "target_port": 8080}]}}, "network_mode": "STANDARD"}
IS_SHOP = {"name": "shop-1", "namespace": "demo", "workload": "shop", "cluster": "c1", "service": "shop", "revision": "v3", "app": "shop", "version": "v3",
           "type": "job", "identity": "spiffe://td/ns/demo/sa/shop", "region": "r", "availability_zone": "z"}


def at(address, workload=None, **more):
    return {**(workload or SHOP), "addresses": [base64.b64encode(ipaddress.ip_address(address).packed).decode()], **more}


def extension(source):
    return [config.ext("workloads", EXTENSION, config_source=source)]


def client_of(mesh, port, source, *filters, **more):
    m = config.hcm([config.route("/", "app")], filters=list(filters), log=config.access_log(mesh.folder / "access.log", PEERS))
    boot = config.bootstrap([config.listener(free_port(), [m])], [config.cluster("app", [port])], free_port(), node=sidecar.node("api"),
                            bootstrap_extensions=extension(source), **more)
    return mesh.proxy(boot=boot)


def by_file(mesh, *workloads):
    files = dynamic.Files(mesh.folder / "xds")
    files.put("w", "workload", *workloads)
    return files


METHODS = {side: [{"istio_headers": {}}, {"workload_discovery": {}}] for side in ("downstream_discovery", "upstream_discovery")}


def find(**more):
    return sidecar.typed("istio.metadata_exchange", sidecar.PEER, **METHODS, **more)


def test_by_address(mesh):  # both sides; what a peer says of itself counts before
    up = mesh.upstream("app")
    files = by_file(mesh, at("127.0.0.7", uid="1", name="other"), at(HOST))
    px = client_of(mesh, up.port, files.source("w"), find())
    assert px.get("/").status == 200
    with px.client() as c:
        c.get("/told", headers=[(META, header({"NAME": "me"}))])
    first, told = px.access_log(2)
    assert first["down"] == first["up"] == IS_SHOP and first["workload"] == "shop"
    assert told["down"] == {"name": "me"} and told["up"] == IS_SHOP
    assert px.stat("workload_discovery.total") == 2 and px.stat("workload_discovery.update_success") == 1
    files.put("w", "workload", at("127.0.0.7"))
    until(lambda: px.stat("workload_discovery.total") == 1, 10, "the update")
    px.get("/gone")
    line = px.wait_log(lambda e: e["path"] == "/gone")
    assert line["down"] is None and line["up"] is None


def test_defaults_and_first_of_two(mesh):
    up = mesh.upstream("app")
    bare = {"uid": "b", "addresses": at(HOST)["addresses"]}
    files = by_file(mesh, bare, at(HOST), {"uid": "v6", "addresses": [base64.b64encode(b"\0" * 16).decode(), ""]})
    px = client_of(mesh, up.port, files.source("w"), find())
    px.get("/")
    assert px.access_log()[0]["down"] == {"namespace": "default", "type": "deployment", "identity": "spiffe://cluster.local/ns/default/sa/default"}
    assert px.stat("workload_discovery.total") == 2


def test_another_network(mesh):  # addresses of other networks are not ours to look up
    up = mesh.upstream("app")
    px = client_of(mesh, up.port, by_file(mesh, at(HOST)).source("w"), find())
    with px.client() as c:
        c.get("/far", headers=[("x-istio-origin-network", "other")])
        c.get("/near", headers=[("x-istio-origin-network", "")])
    assert [(e["path"], e["down"] == IS_SHOP) for e in px.access_log(2)] == [("/far", False), ("/near", True)]


def packed(uid, name, address):
    body = field(20, uid.encode()) + field(1, name.encode()) + field(3, ipaddress.ip_address(address).packed)
    return any_pb2.Any(type_url=config.TYPE + dynamic.TYPES["workload"], value=body)


@pytest.mark.parametrize("delta", [False, True])
def test_by_ads(mesh, delta):  # X2
    up, ads = mesh.upstream("app"), Ads()
    try:
        ads.set("workload", packed("0", "first", HOST), packed("1", "second", "127.0.0.9"))
        h2 = {"explicit_http_config": {"http2_protocol_options": {}}}
        stream = {"api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}
        m = config.hcm([config.route("/", "app")], filters=[find()], log=config.access_log(mesh.folder / "access.log", PEERS))
        px = mesh.proxy(boot=config.bootstrap(
            [config.listener(free_port(), [m])], [config.cluster("app", [up.port]), config.cluster("xds", [ads.port], http=h2)], free_port(),
            node=sidecar.node("api"), dynamic_resources={"ads_config": stream},
            bootstrap_extensions=extension({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"})))

        def who(path):
            px.get(path)
            down = px.wait_log(lambda e: e["path"] == path)["down"]
            return down and down["name"]
        until(lambda: px.stat("workload_discovery.total") == 2, 10, "workloads")
        assert who("/1") == "first"
        ads.set("workload", packed("0", "renamed", HOST))
        until(lambda: px.stat("workload_discovery.total") == 1, 10, "an update")
        assert who("/2") == "renamed"
        good = packed("1", "good", HOST)
        ads.set("workload", any_pb2.Any(type_url=good.type_url, value=field(20, b"0") + field(2, b"\xff")), good)
        ads.wait_nack("workload", "workload 0")
        assert who("/3") == ("renamed" if delta else "good")  # the good one is taken; of two with one address the first counts
    finally:
        ads.stop()


def test_errors(mesh):
    up = mesh.upstream("app")
    source = {"api_config_source": {"api_type": "REST", "transport_api_version": "V3", "cluster_names": ["app"], "refresh_delay": "1s"}}
    for bad, why in ((source, "workloads come by ADS or from a file"), (None, "config_source")):
        boot = config.bootstrap([], [config.cluster("app", [up.port])], free_port(),
                                bootstrap_extensions=[config.ext("w", EXTENSION, **({"config_source": bad} if bad else {}))])
        px = mesh.proxy(boot=boot, ready=False)
        assert px.process.wait(20) != 0 and why in px.log() and "bootstrap_extensions" in px.log()


def test_tcp_peers_that_do_not_take_part(mesh):  # S2: enable_discovery
    app = Server()
    fast = sidecar.stats(tcp_reporting_duration="0.1s")
    out = config.cluster("app", [app.port], filters=[sidecar.exchange()])
    place = config.listener(free_port(), [sidecar.exchange(), fast, sidecar.tcp_proxy("app")], traffic_direction="INBOUND")
    place2 = config.listener(free_port(), [fast, sidecar.tcp_proxy("app")], name="out", traffic_direction="OUTBOUND")
    px = mesh.proxy(boot=config.bootstrap([place, place2], [out], free_port(), node=sidecar.node("api"),
                                          bootstrap_extensions=extension(by_file(mesh, at(HOST)).source("w"))))
    for port in (px.port, place2["address"]["socket_address"]["port_value"]):
        with socket.create_connection((HOST, port), timeout=10) as c:
            c.sendall(b"hello")
            a = app.accept()
            assert a.exactly(5, 5) == b"hello"
            a.sock.sendall(b"you")
            assert c.recv(10) == b"you"
    text = until(lambda: (lambda t: t if t.count("istio_tcp_connections_opened_total{") == 2 else None)(px.admin("/stats/prometheus")[1]), 10, "two series")
    mine = {line.split('reporter="')[1].split('"')[0]: line for line in text.splitlines() if line.startswith("istio_tcp_connections_opened_total{")}
    assert 'source_workload="shop"' in mine["destination"] and 'source_workload_namespace="demo"' in mine["destination"]
    assert 'destination_workload="shop"' in mine["source"] and 'destination_principal="spiffe://td/ns/demo/sa/shop"' in mine["source"]
    assert px.stat("metadata_exchange.metadata_added") == 3  # the client's, and the two to the cluster
    app.close()


def test_shared_with_upstream(mesh):  # what is found goes along to an internal listener
    up = mesh.upstream("app")
    inner = config.hcm([config.route("/", "app")], log=config.access_log(mesh.folder / "inner.log", PEERS))
    listeners = [{"name": "inside", "internal_listener": {}, "filter_chains": [{"filters": [inner]}]}]
    to = {"name": "to", "connect_timeout": "5s", "load_assignment": {"cluster_name": "to", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
        "envoy_internal_address": {"server_listener_name": "inside", "endpoint_id": "x"}}}}]}]},
        "transport_socket": config.ext("i", "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
                                       transport_socket=config.ext("raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))}
    internal = config.ext("internal", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener")
    for shared in (True, False):
        m = config.hcm([config.route("/", "to")], filters=[find(shared_with_upstream=shared)])
        px = mesh.proxy(name=f"shared-{shared}", boot=config.bootstrap(
            [config.listener(free_port(), [m]), *listeners], [to, config.cluster("app", [up.port])], free_port(), node=sidecar.node("api"),
            bootstrap_extensions=[internal, *extension(by_file(mesh, at(HOST)).source("w"))]))
        with px.client() as c:
            assert c.get(f"/{shared}", headers=[(META, header({"NAME": "me", "LABELS": {"app": "x"}}))]).status == 200
        log = mesh.folder / "inner.log"
        line = until(lambda log=log, shared=shared: next((x for x in log.read_text().splitlines() if f"/{shared}" in x), None) if log.exists() else None, 10, "a line")
        assert ('"name":"me"' in line) == shared
