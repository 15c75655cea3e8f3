"""Dynamic resources: files that are moved into place, and pieces of configuration that name them."""
import itertools
import json
import os

import config

_numbers = itertools.count()
TYPES = {"cluster": "envoy.config.cluster.v3.Cluster", "endpoint": "envoy.config.endpoint.v3.ClusterLoadAssignment",
         "listener": "envoy.config.listener.v3.Listener", "route": "envoy.config.route.v3.RouteConfiguration",
         "secret": "envoy.extensions.transport_sockets.tls.v3.Secret", "runtime": "envoy.service.runtime.v3.Runtime"}


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
