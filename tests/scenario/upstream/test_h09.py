"""H09: what a resolver's answers and the system's search domains can cost. Hostile packets: net/dns_test.c, net/dns_fuzz.c."""
import os
import time

import pytest

import config
from dns import A, Dns
from wire import free_port, until


@pytest.fixture
def dns():
    servers = []

    def make(*args, **kw):
        servers.append(Dns(*args, **kw))
        return servers[-1]
    yield make
    for s in servers:
        s.close()


def proxy(mesh, host, port, fields, **kw):
    c = config.cluster("up", [], type="STRICT_DNS", dns_lookup_family="V4_ONLY", **fields)
    c["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}]}]
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route("/")])])], [c], free_port()), **kw)


def test_h09_a_ttl_of_0_does_not_spin(mesh, dns):
    up, server = mesh.upstream(), dns({"up.test": ["127.0.0.1"]}, ttl=0)
    px = proxy(mesh, "up.test", up.port, {"respect_dns_ttl": True, "dns_refresh_rate": "2s", **server.fields(no_default_search_domain=True)})
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.5)
    assert px.get("/").status == 200 and len(server.asked) <= 2
    assert px.stat("cluster.up.update_attempt") <= 2


def test_h09_a_thousand_answers(mesh, dns, is_envoy):
    """Over TCP, as they do not fit a datagram. We take 1,024 of them, Envoy all."""
    up = mesh.upstream()
    server = dns({"up.test": ["127.0.0.1"] + [f"127.1.{i // 250}.{i % 250 + 1}" for i in range(1999)]})
    px = proxy(mesh, "up.test", up.port, server.fields(no_default_search_domain=True))
    hosts = px.stat("cluster.up.membership_total")
    assert hosts == (2000 if is_envoy else 1024)
    assert px.stat("cluster.up.update_attempt") == 1 and server.asked == [("up.test", A)] * 2


@pytest.mark.stricter  # Envoy asks in all of them
def test_h09_search_domains(mesh, dns):
    server = dns({"here.d3.zz": ["127.0.0.1"]})
    up = mesh.upstream()

    def many():
        os.environ["LOCALDOMAIN"] = " ".join(f"d{i}.zz" for i in range(300))
    px = proxy(mesh, "nowhere", up.port, server.fields(), preexec=many)
    assert [n for n, kind in server.asked if kind == A] == [f"nowhere.d{i}.zz" for i in range(32)] + ["nowhere"]
    assert px.stat("cluster.up.membership_total") == 0 and px.get("/").status == 503
    px.stop()
    server.asked.clear()
    px = proxy(mesh, "here", up.port, server.fields(), name="second", preexec=many)
    assert px.get("/").status == 200 and len(server.asked) == 4
