"""A small xDS server over gRPC: state of the world and delta, one stream for all types or one each. Needs grpc and xds-protos."""
import concurrent.futures
import queue
import threading

import grpc
from envoy.config.cluster.v3 import cluster_pb2  # noqa: F401  (registers the type)
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2  # noqa: F401
from envoy.config.core.v3 import extension_pb2  # noqa: F401
from envoy.config.endpoint.v3 import endpoint_pb2  # noqa: F401
from envoy.config.listener.v3 import listener_pb2  # noqa: F401
from envoy.config.route.v3 import route_pb2, scoped_route_pb2  # noqa: F401
from envoy.extensions.filters.http.buffer.v3 import buffer_pb2  # noqa: F401
from envoy.extensions.filters.http.on_demand.v3 import on_demand_pb2  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.direct_response.v3 import config_pb2  # noqa: F401
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.access_loggers.file.v3 import file_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401
from envoy.service.discovery.v3 import discovery_pb2 as d
from envoy.service.runtime.v3 import rtds_pb2  # noqa: F401
from google.protobuf import any_pb2, json_format

import config
import dynamic
from dynamic import TYPES
from wire import HOST, free_port, until

KINDS = {f"type.googleapis.com/{t}": k for k, t in TYPES.items()}
SERVICES = {"cluster": ("ClusterDiscoveryService", "Clusters"), "listener": ("ListenerDiscoveryService", "Listeners"),
            "route": ("RouteDiscoveryService", "Routes"), "endpoint": ("EndpointDiscoveryService", "Endpoints"),
            "secret": ("SecretDiscoveryService", "Secrets"), "runtime": ("RuntimeDiscoveryService", "Runtime"),
            "extension": ("ExtensionConfigDiscoveryService", "ExtensionConfigs"), "scope": ("ScopedRoutesDiscoveryService", "ScopedRoutes")}


def covers(asked, name):
    """Is a resource of that name asked for: by name, by "*", or as one of a collection of xDS-TP (its parameters are the same)?"""
    path, _, context = asked.partition("?")
    if asked == "*" or not path.startswith("xdstp:") or not path.endswith("/*"):
        return asked in ("*", name)
    own, _, context_of_name = name.partition("?")
    return own.rpartition("/")[0] == path[:-2] and context_of_name == context


def pack(kind, resource):
    if isinstance(resource, any_pb2.Any):
        return resource
    return json_format.ParseDict({"@type": config.TYPE + TYPES[kind], **resource}, any_pb2.Any())


class Stream:
    """One stream: what was asked, what is to be sent."""

    def __init__(self, server, delta):
        self.server, self.delta = server, delta
        self.out, self.requests, self.closed = queue.Queue(), [], False
        self.names, self.sent, self.nonce = {}, {}, 0  # sent: {kind: version} or {kind: {name: version}}

    def send(self, message):
        self.out.put(message if isinstance(message, bytes) else message.SerializeToString())

    def push(self, kind, asked=()):
        with self.server.lock:
            if kind not in self.names:
                return
            names, have = self.names[kind], self.server.resources.get(kind, {})
            every, globs = not names or "*" in names, [a for a in names if a.startswith("xdstp:")]
            wanted = {n: r for n, r in have.items() if every or n in names or any(covers(a, n) for a in globs)}
            self.nonce += 1
            if self.delta:
                self._push_delta(kind, wanted, [n for n in asked if n != "*" and n not in have])
            else:
                version = str(self.server.versions.get(kind, 0))
                self.sent[kind] = version
                self.send(d.DiscoveryResponse(version_info=version, nonce=str(self.nonce), type_url=config.TYPE + TYPES[kind],
                                              resources=[r for r, _ in wanted.values()], control_plane={"identifier": "test"}))

    def _push_delta(self, kind, wanted, missing):
        sent = self.sent.setdefault(kind, {})
        new = {n: (r, v) for n, (r, v) in wanted.items() if sent.get(n) != v}
        gone = [n for n in sent if n not in wanted]
        self.send(d.DeltaDiscoveryResponse(
            system_version_info=str(self.server.versions.get(kind, 0)), nonce=str(self.nonce), type_url=config.TYPE + TYPES[kind],
            resources=[d.Resource(name=n, version=v, resource=r) for n, (r, v) in new.items()], removed_resources=gone + missing,
            control_plane={"identifier": "test"}))
        sent.update({n: v for n, (_, v) in new.items()})
        for n in gone:
            del sent[n]

    def asked(self, rq):
        kind = KINDS.get(rq.type_url)
        with self.server.lock:
            self.requests.append(rq)
            self.server.log.append((self, rq))
        if kind is None:
            return
        if kind == "vhost":
            first = kind not in self.names
            self.names.setdefault(kind, set()).update(rq.resource_names_subscribe)
            if first or rq.resource_names_subscribe:
                self.server.on_vhost(self, list(rq.resource_names_subscribe))
            return
        if self.delta:
            first = kind not in self.names
            names = self.names.setdefault(kind, set())
            names |= set(rq.resource_names_subscribe)
            if first and not names:
                names.add("*")  # as the protocol has it: all, until it is said otherwise
            names -= set(rq.resource_names_unsubscribe)
            if "*" in rq.resource_names_unsubscribe:
                self.sent[kind] = {n: v for n, v in self.sent.get(kind, {}).items() if n in names}
            for n in rq.resource_names_subscribe:
                self.sent.setdefault(kind, {}).pop(n, None)
            if first:
                self.sent.setdefault(kind, {}).update(rq.initial_resource_versions)
            if first or rq.resource_names_subscribe:  # also to a name that it had: it is wanted afresh
                self.push(kind, rq.resource_names_subscribe if self.server.tells_missing else ())
        else:
            names = set(rq.resource_names)
            changed = self.names.get(kind) != names
            self.names[kind] = names
            version = str(self.server.versions.get(kind, 0))
            if not rq.response_nonce and rq.version_info == version and not changed:
                self.sent[kind] = version
            elif changed or not rq.response_nonce:
                self.push(kind)


class Ads:
    """On a port of this machine, or on a socket in the file system (port is a path): that one is reached from other namespaces."""

    def __init__(self, port=0):
        self.lock = threading.RLock()
        self.resources, self.versions, self.streams, self.log = {}, {}, [], []
        self.port = port
        self.on_vhost = None  # (stream, names subscribed to): VHDS is answered by the test
        self.tells_missing = False  # whether names that do not exist are answered as removed (delta)
        self.start()

    def start(self):
        self.grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
        self.grpc.add_generic_rpc_handlers((Handler(self),))
        if isinstance(self.port, str):
            self.grpc.add_insecure_port(f"unix:{self.port}")
        else:
            self.port = self.grpc.add_insecure_port(f"{HOST}:{self.port}")
        self.grpc.start()
        return self

    def stop(self):
        """As killed: streams break."""
        for s in self.streams:
            s.closed = True
            s.out.put(None)
        self.streams = []
        self.grpc.stop(0).wait()

    def set(self, kind, *resources, push=True):
        """Replaces all resources of a kind; equal ones keep their version."""
        with self.lock:
            self.versions[kind] = self.versions.get(kind, 0) + 1
            old, now = self.resources.get(kind, {}), {}
            for r in resources:
                packed = pack(kind, r)
                name = r.get("cluster_name") or r.get("name") if isinstance(r, dict) else str(len(now))
                version = old[name][1] if name in old and old[name][0] == packed else str(self.versions[kind])
                now[name] = (packed, version)
            self.resources[kind] = now
            streams = list(self.streams)
        for s in streams if push else ():
            s.push(kind)

    def requests(self, kind=None):
        with self.lock:
            return [rq for _, rq in self.log if kind is None or KINDS.get(rq.type_url) == kind]

    def wait(self, kind, match, timeout=10):
        """The first request of the kind that matches."""
        return until(lambda: next((r for r in self.requests(kind) if match(r)), None), timeout, f"a request for {kind}; there are {self.requests(kind)[-3:]}")

    def wait_nack(self, kind, text=""):
        return self.wait(kind, lambda r: text in r.error_detail.message and r.error_detail.code)


class Handler(grpc.GenericRpcHandler):
    def __init__(self, server):
        self.server = server

    def service(self, details):
        method = details.method.rpartition("/")[2]
        if not method.startswith(("Stream", "Delta")):
            return None
        delta = method.startswith("Delta")

        def serve(requests, context):
            s = Stream(self.server, delta)
            s.method = method
            with self.server.lock:
                self.server.streams.append(s)

            def read():
                try:
                    for raw in requests:
                        s.asked((d.DeltaDiscoveryRequest if delta else d.DiscoveryRequest).FromString(raw))
                except Exception:
                    pass
                s.out.put(None)
            threading.Thread(target=read, daemon=True).start()
            while True:
                m = s.out.get()
                if m is None:
                    break
                yield m
            with self.server.lock:
                if s in self.server.streams:
                    self.server.streams.remove(s)
        return grpc.stream_stream_rpc_method_handler(serve)


ADS = {"ads": {}, "resource_api_version": "V3"}
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


class World:
    """A control plane and a proxy that has everything from it."""

    def __init__(self, mesh, delta, own=False):
        self.mesh, self.delta, self.own = mesh, delta, own
        self.ads, self.port = Ads(), free_port()

    def source(self):
        return {"api_config_source": self.api(), "resource_api_version": "V3"} if self.own else ADS

    def api(self):
        return {"api_type": "DELTA_GRPC" if self.delta else "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}

    def start(self, ready=True, concurrency=None, **fields):
        dyn = {"cds_config": self.source(), "lds_config": self.source()}
        if not self.own:
            dyn["ads_config"] = self.api()
        boot = config.bootstrap([], [config.cluster("xds", [self.ads.port], http=H2)], free_port(), dynamic_resources=dyn, **fields)
        self.px = self.mesh.proxy(boot=boot, ready=ready, concurrency=concurrency, args=("--drain-time-s", "3"))
        return self.px

    def listener(self, route="r", port=None, name="main", **fields):
        hcm = config.hcm([])
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"]["rds"] = {"route_config_name": route, "config_source": self.source()}
        return config.listener(port or self.port, [hcm], name=name, **fields)

    def eds(self, name, **fields):
        return {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": self.source()}, **fields}

    def serve(self, up, name="dyn"):
        self.ads.set("endpoint", dynamic.assignment(name, [up.port]))
        self.ads.set("cluster", self.eds(name))
        self.ads.set("route", dynamic.routes("r", config.route("/", name)))
        self.ads.set("listener", self.listener())

    def get(self, path="/"):
        with self.px.client(self.port) as c:
            return c.get(path)
