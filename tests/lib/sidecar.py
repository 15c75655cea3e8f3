"""Two sidecars as Istio makes them: the client's outbound listener, the server's inbound one, with mutual TLS between them."""
import base64

import config
from wire import free_port

PEER, STATS, ALPN = "io.istio.http.peer_metadata.Config", "stats.PluginConfig", "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
EXCHANGE = "envoy.tcp.metadataexchange.config.MetadataExchange"
TLS = "envoy.extensions.transport_sockets.tls.v3."
TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def typed(name, typ, **value):
    """As the control plane sends it: in a TypedStruct."""
    return {"name": name, "typed_config": {"@type": config.TYPE + "udpa.type.v1.TypedStruct", "type_url": config.TYPE + typ, "value": value}}


def exchange(**more):
    return typed("istio.metadata_exchange", EXCHANGE, protocol="istio-peer-exchange", enable_discovery=True, **more)


def peer_metadata(side, **more):
    """side: "downstream" (inbound) or "upstream" (outbound)."""
    return typed("istio.metadata_exchange", PEER, **{f"{side}_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
                                                    f"{side}_propagation": [{"istio_headers": {}}]}, **more)


def stats(**fields):
    return config.ext("istio.stats", STATS, **fields)


def alpn():
    return config.ext("istio.alpn", ALPN, alpn_override=[
        {"alpn_override": ["istio-http/1.0", "istio", "http/1.0"]},
        {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
        {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]}])


def node(app, namespace="demo", version="v1", **more):
    return {"id": f"sidecar~10.0.0.1~{app}-0.{namespace}~{namespace}.svc.cluster.local", "cluster": f"{app}.{namespace}",
            "metadata": {"NAME": f"{app}-0", "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "WORKLOAD_NAME": app, "ISTIO_VERSION": "1.32.0",
                         "OWNER": f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{app}", "MESH_ID": "cluster.local",
                         "LABELS": {"app": app, "version": version, "service.istio.io/canonical-name": app,
                                    "service.istio.io/canonical-revision": version}, **more}}


def identity(app, namespace="demo"):
    return f"spiffe://cluster.local/ns/{namespace}/sa/{app}"


def client_tls(pki, alpn_protocols=("istio-peer-exchange", "istio")):
    common = {"alpn_protocols": list(alpn_protocols), "tls_certificates": [pki.pair("web")],
              "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}}
    return config.ext("envoy.transport_sockets.tls", TLS + "UpstreamTlsContext", common_tls_context=common)


def server_tls(pki, *alpn_protocols):
    common = {"alpn_protocols": list(alpn_protocols), "tls_certificates": [pki.pair("api")],
              "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}}
    return config.ext("envoy.transport_sockets.tls", TLS + "DownstreamTlsContext", common_tls_context=common, require_client_certificate=True)


SERVICE = {"filter_metadata": {"istio": {"services": [{"host": "api.demo.svc.cluster.local", "name": "api", "namespace": "demo"}]}}}


def outbound(port, pki=None, **fields):
    """The cluster of the service "api"."""
    c = config.cluster("outbound|9080||api.demo.svc.cluster.local", [port], metadata=SERVICE, **fields)
    if pki:
        c.update(transport_socket=client_tls(pki), filters=[exchange()])
    return c


def start(mesh, name, app, filters, clusters, direction, tls=None, log=None, **fields):
    place = config.listener(free_port(), filters, traffic_direction=direction, **fields)
    if isinstance(tls, dict) and "name" in tls:
        place["filter_chains"][0]["transport_socket"] = tls
    elif tls:  # a chain for each protocol, named as it
        place["filter_chains"] = [{"name": p, "filters": filters, "transport_socket": t, "filter_chain_match": {"application_protocols": [p]}}
                                  for p, t in tls.items()]
        place["listener_filters"] = [config.ext("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")]
    return mesh.proxy(name=name, boot=config.bootstrap([place], clusters, free_port(), node=node(app)))


def tcp_proxy(cluster, **fields):
    return config.ext("envoy.filters.network.tcp_proxy", TCP_PROXY, stat_prefix=cluster, cluster=cluster, **fields)


def http_pair(mesh, pki, upstream, client_filters=(), server_filters=(), cluster=None, log=None):
    """(client's proxy, server's proxy) for HTTP to `upstream`."""
    inbound = config.hcm([config.route("/", "inbound|9080||")], filters=[peer_metadata("downstream"), *server_filters],
                         log=config.access_log(mesh.folder / "access.log", log) if log else None)
    server = start(mesh, "server", "api", [exchange(), inbound], [config.cluster("inbound|9080||", [upstream.port])], "INBOUND",
                   {p: server_tls(pki, "h2", "http/1.1") for p in ("istio-h2", "istio-http/1.1", "istio")})
    out = config.hcm([config.route("/", "outbound|9080||api.demo.svc.cluster.local")], filters=[peer_metadata("upstream"), alpn(), *client_filters])
    client = start(mesh, "client", "web", [out], [outbound(server.port, pki, **(cluster or {}))], "OUTBOUND")
    return client, server


def tcp_pair(mesh, pki, port, client_filters=(), server_filters=(), log=None, server_exchange=True):
    """The same for bytes."""
    logs = [config.access_log(mesh.folder / "access.log", log)] if log else []
    server = start(mesh, "server", "api", [*([exchange()] if server_exchange else []), *server_filters, tcp_proxy("inbound|9080||", access_log=logs)],
                   [config.cluster("inbound|9080||", [port])], "INBOUND", server_tls(pki, "istio-peer-exchange", "istio"))
    client = start(mesh, "client", "web", [*client_filters, tcp_proxy("outbound|9080||api.demo.svc.cluster.local")],
                   [outbound(server.port, pki)], "OUTBOUND")
    return client, server


# ---- what peers tell ----
PEERS = {"down": "%FILTER_STATE(downstream_peer:TYPED)%", "workload": "%FILTER_STATE(downstream_peer_obj:FIELD:workload)%",
         "up": "%FILTER_STATE(upstream_peer:TYPED)%", "chain": "%FILTER_CHAIN_NAME%", "path": "%REQ(:PATH)%"}
META, META_ID = "x-envoy-peer-metadata", "x-envoy-peer-metadata-id"


def field(number, data):
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])
    return varint(number << 3 | 2) + varint(len(data)) + data


def packed(values):
    """google.protobuf.Struct of texts and dictionaries."""
    out = b""
    for k, v in values.items():
        value = field(5, packed(v)) if isinstance(v, dict) else field(3, v.encode())
        out += field(1, field(1, k.encode()) + field(2, value))
    return out


def header(values):
    return base64.b64encode(packed(values)).decode()
