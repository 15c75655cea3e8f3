"""Resources by polling (rows X1, X2)."""
import config
import dynamic
from wire import free_port, until


def test_polling(mesh):
    rest, port = dynamic.Rest(), free_port()
    try:
        def source(**fields):
            return {"resource_api_version": "V3", "api_config_source": {
                "api_type": "REST", "transport_api_version": "V3", "cluster_names": ["xds"], "refresh_delay": "0.05s", "request_timeout": "5s", **fields}}
        hcm = config.hcm([])
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["rds"] = {"route_config_name": "r", "config_source": source()}
        rest.put("route", "1", dynamic.routes("r", dynamic.direct("one")))
        rest.put("listener", "1", config.listener(port, [hcm]))
        boot = config.bootstrap([], [config.cluster("xds", [rest.port])], free_port(), dynamic_resources={"lds_config": source(), "cds_config": source()})
        px = mesh.proxy(boot=boot)

        def body():
            with px.client(port) as c:
                return c.get("/").body
        assert body() == b"one"
        path, first = next((p, r) for p, r in rest.requests if "routes" in p)
        assert path == "/v3/discovery:routes" and first["resource_names"] == ["r"] and first["node"]["id"] == "test"
        rest.put("route", "2", dynamic.routes("r", {"match": {"prefix": "/"}}))
        px.wait_stat("http.in.rds.r.update_rejected")
        assert body() == b"one"
        rest.answers["route"] = b"{"
        px.wait_stat("http.in.rds.r.update_failure")
        rest.put("route", "3", dynamic.routes("r", dynamic.direct("three")))
        until(lambda: body() == b"three", 10, "the other table")
        until(lambda: any(r.get("version_info") == "3" for p, r in rest.requests if "routes" in p), 10, "a request with its version")
        attempts = px.stat("http.in.rds.r.update_attempt")
        px.wait_stat("http.in.rds.r.update_attempt", attempts + 2, timeout=10)
        assert px.stat("http.in.rds.r.update_success") == 2  # 304 is no update
    finally:
        rest.close()
