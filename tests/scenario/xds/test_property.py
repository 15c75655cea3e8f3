"""Random valid updates of every kind, under traffic, end where a fresh start with the last state begins; what they made goes (rows X1-X3)."""
import json
import os
import random
import re
import socket
import ssl

import config
import dynamic
import pytest
from pki import Pki
from upstream import Reply
from wire import HOST, free_port, patient, until

pytest.importorskip("grpc", reason="peer grpcio is not installed")
pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from ads import World  # noqa: E402

FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
BUFFER = "envoy.extensions.filters.http.buffer.v3.Buffer"
DOWN = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
CLUSTERS = ["a", "b", "c", "d"]
PATHS = ["/a", "/b", "/c", "/d", "/e"]
TABLES = ["r", "s", "t"]
# Scopes are compared by the names of their statistics. What remains of them has a few objects more on a slow machine: a thread's
# numbers at its first write, a histogram's bins for each decade of milliseconds (measured on a busy one: 13).
# A pool keeps a few requests' places for the next ones (SPARE_MAX of upstream/pool.c): how many depends on how many waited at once.
SLACK = {"stats": 40, "upstream": 16}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    for name in ("one", "two"):
        p.issue(name, f"DNS:{name}.test")
    return p


class State:
    """What the control plane has, as choices: resources are made from them."""

    def __init__(self, ports, certificates):
        self.ports, self.certificates = ports, certificates
        self.clusters, self.endpoints, self.tables = {}, {}, {t: {} for t in TABLES}
        self.scopes, self.filter, self.secret, self.listeners = {}, None, "one", {}

    def step(self, r):
        kind = r.choice(["cluster", "cluster", "endpoint", "endpoint", "table", "table", "scope", "filter", "secret", "listener"])
        getattr(self, f"_{kind}")(r)
        return kind

    def _cluster(self, r):
        name = r.choice(CLUSTERS)
        if r.random() < 0.3:
            self.clusters.pop(name, None)
        else:
            self.clusters[name] = {"per_connection_buffer_limit_bytes": r.choice([50000, 60000]), "lb_policy": r.choice(["ROUND_ROBIN", "RANDOM", "MAGLEV"])}

    def _endpoint(self, r):
        self.endpoints[r.choice(CLUSTERS)] = r.choice([[], [0], [1], [2]])

    def _table(self, r):
        self.tables[r.choice(TABLES)] = {p: r.choice([*CLUSTERS, "missing", None, f"text{r.randrange(3)}"]) for p in PATHS}

    def _scope(self, r):
        name = r.choice(["x", "y", "z"])
        if r.random() < 0.3:
            self.scopes.pop(name, None)
        else:
            self.scopes[name] = r.choice(TABLES)

    def _filter(self, r):
        self.filter = r.choice([None, 418, 429, 3, 300])

    def _secret(self, r):
        self.secret = r.choice(["one", "two"])

    def _listener(self, r):
        name = r.choice(["rds", "scoped", "filtered", "tls"])
        if r.random() < 0.3:
            self.listeners.pop(name, None)
        else:
            self.listeners[name] = r.choice([70000, 80000])

    def fill(self):
        """Something of everything."""
        for c in CLUSTERS:
            self.clusters[c], self.endpoints[c] = {}, [0]
        for t in TABLES:
            self.tables[t] = dict(zip(PATHS, CLUSTERS))
            self.scopes[t] = t
        self.listeners = {n: 70000 for n in ("rds", "scoped", "filtered", "tls")}
        return self

    # ---- resources

    def resources(self, world):
        return {"endpoint": [dynamic.assignment("stable", [self.ports["up"][0]])] +
                [dynamic.assignment(c, [self.ports["up"][i] for i in self.endpoints.get(c, [])]) for c in CLUSTERS],
                "cluster": [world.eds("stable")] + [world.eds(c, **f) for c, f in self.clusters.items()],
                "secret": [{"name": "srv", "tls_certificate": self.certificates[self.secret]}],
                "extension": [self._extension()],
                "route": [dynamic.routes(t, *self._rules(t)) for t in TABLES],
                "scope": [{"name": n, "key": {"fragments": [{"string_key": n}]}, "route_configuration_name": t} for n, t in self.scopes.items()],
                "listener": [world.place("stable", {"route_config": dynamic.routes("stable", config.route("/", "stable"))})] +
                            [self._made(world, n, size) for n, size in self.listeners.items()]}

    def _extension(self):
        if self.filter in (418, 429):
            fields = {"@type": config.TYPE + FAULT, "abort": {"http_status": self.filter, "percentage": {"numerator": 100}}}
        elif self.filter:
            fields = {"@type": config.TYPE + BUFFER, "max_request_bytes": self.filter}
        else:
            fields = {"@type": config.TYPE + FAULT}
        return {"name": "flt", "typed_config": fields}

    def _rules(self, table):
        for path, to in self.tables[table].items():
            if to and to.startswith("text"):
                yield dynamic.direct(to, path)
            elif to:
                yield config.route(path, to)

    def _made(self, world, name, size):
        source = world.source()
        rds = {"rds": {"route_config_name": "r", "config_source": source}}
        scoped = {"scoped_routes": {"name": "scopes", "rds_config_source": source, "scoped_rds": {"scoped_rds_config_source": source},
                                    "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": "x-scope", "index": 0}}]}}}
        place = {"name": "flt", "config_discovery": {"config_source": source, "type_urls": [config.TYPE + FAULT, config.TYPE + BUFFER]}}
        made = world.place(name, scoped if name == "scoped" else rds, filters=[place] if name == "filtered" else [], per_connection_buffer_limit_bytes=size)
        if name == "tls":
            made["filter_chains"][0]["transport_socket"] = config.ext("tls", DOWN, common_tls_context={
                "tls_certificate_sds_secret_configs": [{"name": "srv", "sds_config": source}]})
        return made


class Everything(World):
    def place(self, name, routes, filters=(), **fields):
        hcm = config.hcm([], filters=list(filters))
        del hcm["typed_config"]["route_config"]
        hcm["typed_config"].update(routes, stat_prefix=name)
        return config.listener(self.ports[name], [hcm], name=name, **fields)

    def push(self, state):
        for kind, resources in state.resources(self).items():
            packed = [json.dumps(r, sort_keys=True) for r in resources]
            if self.pushed.get(kind) != packed:
                self.pushed[kind] = packed
                self.ads.set(kind, *resources)

    def begin(self, ports, state):
        self.ports, self.pushed = ports, {}
        self.push(state)
        return self.start(concurrency=2)

    def behaviour(self):
        """What clients see, of everything that could be there."""
        seen = {}
        for name, port in self.ports.items():
            if name == "up":
                continue
            for scope in ["x", "y", "z"] if name == "scoped" else [None]:
                for path in PATHS:
                    seen[name, scope, path] = self._ask(name, port, path, scope)
        return seen

    def _ask(self, name, port, path, scope):
        try:
            s = socket.create_connection((HOST, port), timeout=patient(5))
        except OSError:
            return "closed"
        with s:
            if name == "tls":
                c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                c.load_verify_locations(self.ca)
                c.check_hostname = False
                with c.wrap_socket(s, server_hostname="a") as t:
                    return t.getpeercert()["subjectAltName"], self._exchange(t, path, scope)
            return self._exchange(s, path, scope)

    @staticmethod
    def _exchange(s, path, scope):
        extra = f"x-scope: {scope}\r\n" if scope else ""
        s.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\n{extra}content-length: 5\r\nconnection: close\r\n\r\n12345".encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
            head, end, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            if end and length and len(body) >= int(length[1]):
                break  # one that was refused before its end lingers for a second
        return data.split(b"\r\n")[0].decode(), data.partition(b"\r\n\r\n")[2].decode()

    def settled(self):
        """The control plane has an answer to everything, and nothing warms."""
        stats = self.px.stats()
        return stats["listener_manager.total_listeners_warming"] == stats["cluster_manager.warming_clusters"] == 0


def names(px):
    """Of all counters and gauges but those of single codes, which appear with them."""
    return {n for n in px.stats() if not re.search(r"_rq_\d", n)}


def latched(px):
    """Histograms are shown, and have what they are shown by, after a flush: five seconds behind their first values."""
    shown = px.admin("/stats?filter=stable.*upstream_rq_time&type=Histograms")[1]
    return "upstream_rq_time" in shown and "No recorded values" not in shown


def counts(px):
    """Live objects of what configuration is made of."""
    shown = json.loads(px.admin("/mizzen/memory")[1])["types"]
    return {k: shown[k]["objects"] for k in ("config", "upstream", "xds", "tls", "stats")}


@pytest.fixture(params=["sotw", "delta"])
def world(request, mesh, pki):
    w = Everything(mesh, request.param == "delta")
    w.ca = pki.path("ca.pem")
    yield w
    w.ads.stop()


def test_random_updates_end_where_a_fresh_start_begins(world, mesh, pki, request):
    long = request.config.getoption("--long")
    seed = int(os.environ.get("SEED", 0)) or random.randrange(1 << 32)
    r = random.Random(seed)
    print(f"seed {seed}")  # shown when it fails
    ups = [mesh.upstream(f"up{i}", [Reply(body=f"up{i}".encode())]) for i in range(3)]
    ports = {n: free_port() for n in ("stable", "rds", "scoped", "filtered", "tls")}
    ports["up"] = [u.port for u in ups]
    certificates = {n: pki.pair(n) for n in ("one", "two")}
    px = world.begin(ports, State(ports, certificates))
    base = None
    for _ in range(20 if long else 2):
        state = State(ports, certificates).fill()
        world.push(state)
        until(world.settled, 20, "the first state")
        with dynamic.no_request_lost(px, ports["stable"], 2):
            for _ in range(100 if long else 40):
                kind = state.step(r)
                world.push(state)
                if r.random() < 0.3:
                    until(world.settled, 20, f"{kind} to settle")
            until(world.settled, 20, "the last one")
        fresh = Everything(mesh, world.delta)
        try:
            fresh.ca = world.ca
            other = fresh.begin({n: p if n == "up" else free_port() for n, p in ports.items()}, state)
            wanted = fresh.behaviour()
            until(lambda: world.behaviour() == wanted, 20, lambda: f"the same; differs {difference(world.behaviour(), wanted)}")
            other.stop()
        finally:
            fresh.ads.stop()
        world.push(State(ports, certificates))
        until(world.settled, 20, "the empty state")
        if base is None:  # the first round made what stays
            until(lambda: px.stat("listener_manager.total_listeners_draining") == 0 and latched(px), 20, "the end of what was")
            base, base_names = counts(px), names(px)
            continue
        until(lambda: names(px) == base_names, 30, lambda: f"the same statistics; differ {sorted(names(px) ^ base_names)[:20]}")
        until(lambda: all(now <= base[k] + SLACK.get(k, 0) for k, now in counts(px).items()), 30, lambda: f"as many objects as before: {base}, now {counts(px)}")
    assert not [q.error_detail.message for q in world.ads.requests() if q.error_detail.code]


def difference(one, two):
    return {k: (one[k], two[k]) for k in one if one[k] != two[k]}
