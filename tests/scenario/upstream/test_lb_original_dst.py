"""ORIGINAL_DST (U1): the request says where to; hosts come with the first request and go when nobody uses them."""
import config
from wire import free_port, until

FIELDS = {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}


def proxy(mesh, options, filters=(), **fields):
    c = config.cluster("up", [], **FIELDS, original_dst_lb_config=options, **fields)
    del c["load_assignment"]
    hcm = config.hcm([config.route("/")], log=config.access_log(mesh.folder / "access.log"), filters=filters)
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [hcm])], [c], free_port()))


def test_header(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, {"use_http_header": True})
    for u in (a, b, a):
        assert px.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{u.port}")]).status == 200
    assert len(a.requests) == 2 and len(b.requests) == 1
    assert px.access_log(3)[0]["host"] == f"127.0.0.1:{a.port}"
    px.wait_stat("cluster.up.membership_total", 2)
    text = px.admin("/clusters")[1]
    assert f"up::127.0.0.1:{a.port}::rq_total::2\n" in text and f"up::127.0.0.1:{b.port}::hostname::up127.0.0.1:{b.port}\n" in text


def test_nonsense_in_the_header(mesh):
    px = proxy(mesh, {"use_http_header": True})
    values = ["nonsense", "127.0.0.1", "127.0.0.1:65536", ":80", "example.test:80"]
    for v in values:
        assert px.get("/", headers=[("x-envoy-original-dst-host", v)]).status == 503
    assert px.stat("cluster.up.original_dst_host_invalid") == len(values)
    assert px.get("/").status == 503  # the connection was made to the proxy itself
    assert px.stat("cluster.up.original_dst_host_invalid") == len(values)
    assert all(e["flags"] == "UH" for e in px.access_log(len(values) + 1))


def test_metadata_and_port(mesh):
    a = mesh.upstream("a")
    rule = {"header": "x-to", "on_header_present": {"metadata_namespace": "ns", "key": "to", "type": "STRING"}}
    to_metadata = config.ext("envoy.filters.http.header_to_metadata", "envoy.extensions.filters.http.header_to_metadata.v3.Config",
                             request_rules=[rule])
    px = proxy(mesh, {"use_http_header": True, "http_header_name": "x-other", "upstream_port_override": a.port,
                      "metadata_key": {"key": "ns", "path": [{"key": "to"}]}}, filters=[to_metadata])
    assert px.get("/", headers=[("x-to", "127.0.0.1:1"), ("x-other", "127.0.0.2:1")]).status == 200
    assert px.get("/", headers=[("x-other", "127.0.0.1:2")]).status == 200
    assert px.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{a.port}")]).status == 503
    assert len(a.requests) == 2 and [e["host"] for e in px.access_log(2)][:2] == [f"127.0.0.1:{a.port}"] * 2


def test_hosts_go_when_unused(mesh):
    a = mesh.upstream("a")
    px = proxy(mesh, {"use_http_header": True}, cleanup_interval="0.2s")
    with px.client() as c:
        assert c.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{a.port}"), ("connection", "close")]).status == 200
    px.wait_stat("cluster.up.membership_total")
    a.close()  # its connection ends, so that the host is not in use
    until(lambda: px.stat("cluster.up.membership_total") == 0, 5, "the host to go")
    assert px.stat("cluster.up.membership_change") >= 2


def test_a_change_of_hosts_closes_connections(mesh):
    """close_connections_on_host_set_change: connections to all hosts are drained when one comes."""
    a, b = mesh.upstream("a"), mesh.upstream("b")
    px = proxy(mesh, {"use_http_header": True}, common_lb_config={"close_connections_on_host_set_change": True})
    assert px.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{a.port}")]).status == 200
    until(lambda: px.stat("cluster.up.membership_total") == 1, 5, "the first host")
    closed = px.stat("cluster.up.upstream_cx_destroy_local")
    assert px.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{b.port}")]).status == 200
    px.wait_stat("cluster.up.upstream_cx_destroy_local", closed + 1)
    assert px.get("/", headers=[("x-envoy-original-dst-host", f"127.0.0.1:{a.port}")]).status == 200
