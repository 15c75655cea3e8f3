"""Pieces of an Envoy v3 bootstrap as plain dictionaries. Extra keyword arguments become fields as they are."""

TYPE = "type.googleapis.com/"
LOG_FIELDS = {
    "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%", "host": "%UPSTREAM_HOST%", "agent": "%REQ(USER-AGENT)%",
    "term": "%CONNECTION_TERMINATION_DETAILS%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}


def ext(name, typ, **fields):
    return {"name": name, "typed_config": {"@type": TYPE + typ, **fields}}


def address(port):
    if isinstance(port, str):
        return {"pipe": {"path": port}}
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def route(prefix="/", cluster="up", match=None, **action):
    return {"match": match or {"prefix": prefix}, "route": {"cluster": cluster, **action}}


def access_log(path, fields=None):
    return ext("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path),
               log_format={"json_format": fields or LOG_FIELDS})


ROUTER = ext("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")


def hcm(routes, log=None, filters=(), **fields):
    """An HTTP connection manager filter; ends of connections are quick so that tests can watch them."""
    c = {"stat_prefix": "in", "delayed_close_timeout": "0.2s",
         "route_config": {"name": "local", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
         "http_filters": [*filters, ROUTER]}
    if log:
        c["access_log"] = [log]
    c.update(fields)
    return ext("envoy.filters.network.http_connection_manager",
               "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", **c)


def listener(port, filters, name="main", **fields):
    return {"name": name, "address": address(port), "filter_chains": [{"filters": filters}], **fields}


def cluster(name, ports, http=None, **fields):
    c = {"name": name, "type": "STATIC", "connect_timeout": "1s",
         "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(p)}} for p in ports]}]}}
    if http:
        t = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        c["typed_extension_protocol_options"] = {t: {"@type": TYPE + t, **http}}
    c.update(fields)
    return c


def bootstrap(listeners, clusters, admin, **fields):
    return {"node": {"id": "test", "cluster": "test"}, "admin": {"address": address(admin)},
            "static_resources": {"listeners": listeners, "clusters": clusters}, **fields}
