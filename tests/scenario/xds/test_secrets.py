"""Secrets by subscription (rows T1, X1, X3; G12): contexts wait for them, follow them, and stay as they are when one is bad."""
import json
import socket
import ssl

import config
import dynamic as xds
import pytest
from pki import Pki
from wire import HOST, free_port, patient, until

DOWN = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UP = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.authority("ca")
    p.authority("other")
    p.issue("one", "DNS:one.test")
    p.issue("two", "DNS:two.test", rsa=True)
    return p


def tls(name, typ, **context):
    return config.ext("envoy.transport_sockets.tls", typ, common_tls_context=context)


class Server:
    def __init__(self, mesh, pki, **source):
        self.files, self.pki = xds.Files(mesh.folder / "xds"), pki
        self.place = config.listener(free_port(), [config.hcm([xds.direct("x")])])
        self.port = self.place["address"]["socket_address"]["port_value"]
        self.source = source
        self.mesh = mesh

    def start(self, **context):
        context = context or {"tls_certificate_sds_secret_configs": [{"name": "srv", "sds_config": self.files.source("sds", **self.source)}]}
        self.place["filter_chains"][0]["transport_socket"] = tls("tls", DOWN, **context)
        self.px = self.mesh.proxy(boot=config.bootstrap([self.place], [], free_port()))
        return self.px

    def put(self, cert, **more):
        self.files.put("sds", "secret", {"name": "srv", "tls_certificate": {**self.pki.pair(cert), **more}})

    def names(self):
        """The DNS names of the certificate that a client sees."""
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(self.pki.path("ca.pem"))
        c.check_hostname = False
        with socket.create_connection((HOST, self.port), timeout=patient(5)) as s, c.wrap_socket(s, server_hostname="a") as t:
            return [v for _, v in t.getpeercert()["subjectAltName"]]


def test_a_certificate_turns(mesh, pki):
    s = Server(mesh, pki)
    s.put("one")
    px = s.start()
    assert s.names() == ["one.test"]
    s.put("two")
    until(lambda: s.names() == ["two.test"], 5, "the other certificate")
    s.files.put("sds", "secret", {"name": "srv", "tls_certificate": {"certificate_chain": {"filename": pki.path("one.pem")},
                                                                     "private_key": {"filename": pki.path("two.key")}}})
    px.wait_stat("sds.srv.update_rejected")
    s.files.put("sds", "secret", {"name": "srv", "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px.wait_stat("sds.srv.update_rejected", 2)
    assert s.names() == ["two.test"]  # the last good one
    s.put("one")
    until(lambda: s.names() == ["one.test"], 5, "the next one")
    shown = px.admin("/config_dump?resource=dynamic_active_secrets")[1]
    assert "[redacted]" in shown and "two.key" not in shown and '"name": "srv"' in shown


def test_nothing_is_served_without(mesh, pki):
    s = Server(mesh, pki, initial_fetch_timeout="1s")
    s.files.put("sds", "secret", text="{")
    px = s.start()
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        s.names()
    px.wait_stat(f"listener.127.0.0.1_{s.port}.server_ssl_socket_factory.downstream_context_secrets_not_ready")
    s.put("one")
    px.wait_stat("sds.srv.update_success")

    def served():
        try:
            return s.names() == ["one.test"]
        except (ssl.SSLError, ConnectionError, EOFError):  # a worker hears of it after main
            return False
    until(served, 5, "the secret")


def test_files_of_a_secret_turn(mesh, pki, tmp_path):
    for n in ("pem", "key"):
        (tmp_path / f"now.{n}").write_bytes(open(pki.path(f"one.{n}"), "rb").read())
    s = Server(mesh, pki)
    s.files.put("sds", "secret", {"name": "srv", "tls_certificate": {"certificate_chain": {"filename": str(tmp_path / "now.pem")},
                                                                     "private_key": {"filename": str(tmp_path / "now.key")}}})
    s.start()
    assert s.names() == ["one.test"]
    for n in ("key", "pem"):
        (tmp_path / f"new.{n}").write_bytes(open(pki.path(f"two.{n}"), "rb").read())
        (tmp_path / f"new.{n}").rename(tmp_path / f"now.{n}")
        if n == "key":  # it does not fit yet
            s.px.wait_stat("sds.srv.key_rotation_failed")
            assert s.names() == ["one.test"]
    until(lambda: s.names() == ["two.test"], 5, "the other files")


def test_static_secrets_and_validation(mesh, pki):
    """A cluster that trusts by a combined context, to a listener with a secret of the bootstrap."""
    s = Server(mesh, pki)
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    s.place["filter_chains"][0]["transport_socket"] = tls("tls", DOWN, tls_certificate_sds_secret_configs=[{"name": "fixed"}])
    front = config.listener(free_port(), [config.hcm([config.route("/", "tls")])], name="front")
    once = {"common_http_protocol_options": {"max_requests_per_connection": 1}, "explicit_http_config": {"http_protocol_options": {}}}
    up = config.cluster("tls", [s.port], http=once, transport_socket=tls("tls", UP, combined_validation_context={
        "default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "one.test"}}]},
        "validation_context_sds_secret_config": {"name": "ca", "sds_config": s.files.source("sds")}}))
    boot = config.bootstrap([s.place, front], [up], free_port())
    boot["static_resources"]["secrets"] = [{"name": "fixed", "tls_certificate": pki.pair("one")}]
    px = mesh.proxy(boot=boot)
    port = front["address"]["socket_address"]["port_value"]

    def status():
        with px.client(port) as c:
            return c.get("/", headers=[("connection", "close")]).status
    assert status() == 200
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("other.pem")}}})
    px.wait_stat("cluster.tls.client_ssl_socket_factory.ssl_context_update_by_sds", 2)
    until(lambda: status() == 503, 5, "a server that is trusted no more")
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    until(lambda: status() == 200, 5, "one that is again")


def test_contexts_of_clusters_that_nobody_uses(mesh, pki):
    """Made by the first connection, of what the secrets are then; a bad secret is refused though nobody uses it."""
    s = Server(mesh, pki)
    s.place["filter_chains"][0]["transport_socket"] = tls("tls", DOWN, tls_certificate_sds_secret_configs=[{"name": "fixed"}])
    front = config.listener(free_port(), [config.hcm([config.route(f"/{n}", n) for n in ("one", "two")])], name="front")
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("other.pem")}}})
    trust = {"validation_context_sds_secret_config": {"name": "ca", "sds_config": s.files.source("sds")}}
    boot = config.bootstrap([s.place, front], [config.cluster(n, [s.port], transport_socket=tls("tls", UP, **trust)) for n in ("one", "two")], free_port())
    boot["static_resources"]["secrets"] = [{"name": "fixed", "tls_certificate": pki.pair("one")}]
    px = mesh.proxy(boot=boot)
    port = front["address"]["socket_address"]["port_value"]

    def authorities():
        return sum(len(c.get("ca_cert", [])) for c in json.loads(px.admin("/certs")[1])["certificates"])

    def status(n):
        with px.client(port) as c:
            return c.get(f"/{n}").status
    for n in ("one", "two"):
        assert px.stat(f"cluster.{n}.ssl.handshake") == 0 and px.stat(f"cluster.{n}.client_ssl_socket_factory.ssl_context_update_by_sds") == 1
    assert authorities() == 0
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"inline_string": "no certificate"}}})
    px.wait_stat("sds.ca.update_rejected")
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}})
    px.wait_stat("sds.ca.update_success", 2)
    assert authorities() == 0 and status("one") == 200 and authorities() == 1
    s.files.put("sds", "secret", {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.path("other.pem")}}})
    px.wait_stat("sds.ca.update_success", 3)
    assert status("two") == 503 and px.stat("cluster.two.ssl.fail_verify_error") > 0
