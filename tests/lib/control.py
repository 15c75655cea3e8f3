"""A running mizzend: a directory of documents that a test changes, and proxies that are connected to it."""
import http.client
import json
import os
import pathlib
import re
import subprocess
import time

from wire import until

MIZZEND = pathlib.Path(os.environ.get("MIZZEN_PROXY", "build/mizzen-proxy")).resolve().with_name("mizzend")


class Mizzend:
    """`folder/docs` is what it reads. `port`: xDS."""

    def __init__(self, folder, files, *args):
        self.docs, self.log_path = folder / "docs", folder / "mizzend.log"
        self.docs.mkdir()
        for name, text in files.items():
            self.write(name, text)
        self.began = time.monotonic()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([MIZZEND, "-c", self.docs, "--grpc-addr", "127.0.0.1:0", "--monitoring-addr", "127.0.0.1:0",
                                             *(() if "--secure-grpc-addr" in args else ("--secure-grpc-addr", "")),
                                             *(() if "--webhook-addr" in args else ("--webhook-addr", "")), *args], stdout=log, stderr=log)
        self.port = until(self._port, 30, "mizzend to listen", longest=0.002) # a bench counts from began to ready
        self.ready = time.monotonic()

    def _port(self):
        if self.process.poll() is not None:
            raise AssertionError(f"mizzend ended with {self.process.returncode}:\n{self.log()}")
        found = re.search(r"(?<!secure )xDS on 127\.0\.0\.1:(\d+)", self.log())
        return int(found[1]) if found else None

    def port_of(self, what):
        """Of another listener: "monitoring", "secure xDS", "webhook"."""
        return int(re.search(rf"{what} on 127\.0\.0\.1:(\d+)", self.log())[1])

    def page(self, path, ok=True):
        """Of the monitoring port: (status, text); with `ok` its text, where the status must be 200."""
        status, text = self._ask("GET", path)
        assert not ok or status == 200, f"{path}: {status} {text[:500]}"
        return text if ok else (status, text)

    def post(self, path):
        return self._ask("POST", path)

    def _ask(self, method, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port_of("monitoring"), timeout=60)
        try:
            c.request(method, path)
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def write(self, name, text):
        """As editors and ConfigMaps do: beside, then moved into place."""
        beside = self.docs / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.docs / name)

    def stop(self):
        self.process.terminate()
        code = self.process.wait(30)
        assert code == 0 and "Sanitizer" not in self.log(), f"{code}:\n{self.log()[-3000:]}"


def bootstrap(node, port, admin_port):
    """Of a file with a node."""
    return bootstrap_of(json.loads(pathlib.Path(node).read_text()), port, admin_port)


def bootstrap_of(node, port, admin_port):
    """What an agent would render, as far as it matters here: everything over ADS, the agent's cluster for secrets."""
    def static(name, port):
        return {"name": name, "type": "STATIC", "connect_timeout": "1s", "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}}
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {"node": node,
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
            "static_resources": {"listeners": [], "clusters": [static("xds-grpc", port), static("sds-grpc", port)]},
            "dynamic_resources": {"cds_config": ads, "lds_config": ads, "ads_config": {
                "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}}}
