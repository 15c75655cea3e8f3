"""One proxy with filters before the router, for scenarios of filters."""
import config
from wire import free_port


def start(mesh, filters, routes=None, runtime=None, vhost=None, upstreams=None, clusters=None, log=None, **manager):
    """(first upstream, proxy). `vhost`: more fields of the virtual host; `manager`: of the connection manager."""
    ups = upstreams or [mesh.upstream()]
    m = config.hcm(routes or [config.route("/", ups[0].name)], log=log or config.access_log(mesh.folder / "access.log"),
                   filters=filters, **manager)
    m["typed_config"]["route_config"]["virtual_hosts"][0].update(vhost or {})
    more = {"layered_runtime": {"layers": [{"name": "l", "static_layer": runtime}, {"name": "a", "admin_layer": {}}]}} if runtime is not None else {}
    boot = config.bootstrap([config.listener(free_port(), [m])], clusters or [config.cluster(u.name, [u.port]) for u in ups], free_port(), **more)
    return ups[0], mesh.proxy(boot=boot)


def own(name, typ, **fields):
    """typed_per_filter_config with one entry."""
    return {name: {"@type": config.TYPE + typ, **fields}}


def off(name):
    return {name: {"@type": config.TYPE + "envoy.config.route.v3.FilterConfig", "disabled": True}}


def share(numerator, key=""):
    """RuntimeFractionalPercent of so many percent."""
    return {"default_value": {"numerator": numerator, "denominator": "HUNDRED"}, **({"runtime_key": key} if key else {})}


def send(px, method="GET", path="/", headers=(), body=None, host="a"):
    """One request; its answer."""
    head = "".join(f"{n}: {v}\r\n" for n, v in headers)
    if body is not None:
        head += f"content-length: {len(body)}\r\n"
    with px.client() as c:
        c.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode() + (body or b""))
        return c.response(method)


def story(px, path):
    """The flight recorder's text of the newest kept request with that path."""
    text = px.admin("/mizzen/requests")[1]
    at = text.find(path)
    assert at >= 0, f"no record of {path} in:\n{text}"
    return text[at:].split("\n\n")[0]
