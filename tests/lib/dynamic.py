"""Dynamic resources: files that are moved into place, and pieces of configuration that name them."""
import contextlib
import http.server
import itertools
import json
import os
import threading

import config
from wire import until

_numbers = itertools.count()
TYPES = {"cluster": "envoy.config.cluster.v3.Cluster", "endpoint": "envoy.config.endpoint.v3.ClusterLoadAssignment",
         "listener": "envoy.config.listener.v3.Listener", "route": "envoy.config.route.v3.RouteConfiguration",
         "secret": "envoy.extensions.transport_sockets.tls.v3.Secret", "runtime": "envoy.service.runtime.v3.Runtime",
         "extension": "envoy.config.core.v3.TypedExtensionConfig", "scope": "envoy.config.route.v3.ScopedRouteConfiguration",
         "vhost": "envoy.config.route.v3.VirtualHost", "workload": "istio.workload.Workload"}


class Files:
    """A directory of discovery responses, each named as its source."""

    def __init__(self, folder):
        self.folder, self.version = folder, {}
        folder.mkdir(exist_ok=True)

    def path(self, name):
        return str(self.folder / f"{name}.json")

    def put(self, name, kind, *resources, text=None):
        """Replaces the file as a whole; its version is the next number."""
        self.version[name] = self.version.get(name, 0) + 1
        body = text if text is not None else json.dumps({
            "version_info": str(self.version[name]),
            "resources": [{"@type": config.TYPE + TYPES[kind], **r} for r in resources]})
        new = self.folder / f".{next(_numbers)}"
        new.write_text(body)
        os.rename(new, self.path(name))

    def source(self, name, **fields):
        return {"resource_api_version": "V3", "path_config_source": {"path": self.path(name)}, **fields}


def assignment(name, ports, **fields):
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": config.address(p)}} for p in ports], **fields}]}


def routes(name, *rules):
    return {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": list(rules)}]}


def direct(body, prefix="/"):
    return {"match": {"prefix": prefix}, "direct_response": {"status": 200, "body": {"inline_string": body}}}


class Rest:
    """Discovery over HTTP: answers POST /v3/discovery:<kind>s with what was put; 304 to who has it."""

    def __init__(self):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                rq = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((self.path, rq))
                kind = self.path.rpartition(":")[2][:-1]
                status, body = 200, outer.answers.get(kind, b'{"version_info": "0", "resources": []}')
                if not isinstance(body, bytes):
                    version, text = body
                    status, body = (304, b"") if rq.get("version_info") == version else (200, text)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, kind, version, *resources):
        self.answers[kind] = (version, json.dumps({"version_info": version, "resources": [
            {"@type": config.TYPE + TYPES[kind], **r} for r in resources]}).encode())

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def no_request_lost(px, port, clients, tls=None):
    """Clients ask for / for as long as the block runs, and until there were many answers: each must be 200. tls: an ssl.SSLContext."""
    stop, bad, done = threading.Event(), [], [0]

    def load():
        try:
            ask()
        except Exception as e:  # noqa: BLE001
            bad.append(repr(e))

    def ask():
        while not stop.is_set():
            with px.client(port, timeout=30) as c:
                if tls:
                    c.sock = c.stream.sock = tls.wrap_socket(c.sock)
                for _ in range(20):
                    r = c.get("/")
                    done[0] += 1
                    if r.status != 200:
                        bad.append((r.status, r.body))
                    if (r.get("connection") or "") == "close":
                        break
    threads = [threading.Thread(target=load) for _ in range(clients)]
    for t in threads:
        t.start()
    try:
        yield
        until(lambda: done[0] > 100, 20, lambda: f"answers; {done[0]} until now, {bad[:5]}")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not bad, bad[:5]
