"""D9: what was captured on the wire is readable with the key log (row T2), and only that of the addresses which were asked for."""
import shutil
import socket
import ssl
import struct
import subprocess
import threading

import config
import pytest
from upstream import Reply
from wire import HOST, free_port, patient, until

TLS = "envoy.extensions.transport_sockets.tls.v3."
SECRET, ANSWER = "/a-secret-path", b"a secret answer"


class Capture:
    """A relay that keeps what passes as a capture file: Ethernet, IPv4 and TCP headers made up around each piece."""

    def __init__(self, path, port):
        self.file, self.to, self.lock = open(path, "wb"), port, threading.Lock()
        self.file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        self.place = socket.create_server((HOST, 0))
        self.port, self.seq, self.clock = self.place.getsockname()[1], [1000, 5000], 0
        threading.Thread(target=self.serve, daemon=True).start()

    def packet(self, side, flags, data=b""):
        ports = (40000, 443) if side == 0 else (443, 40000)
        with self.lock:
            tcp = struct.pack("!HHIIBBHHH", *ports, self.seq[side], self.seq[1 - side] if flags != 2 else 0, 5 << 4, flags, 65535, 0, 0)
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, bytes((10, 0, 0, 1 + side)), bytes((10, 0, 0, 2 - side)))
            frame = bytes(12) + b"\x08\x00" + ip + tcp + data
            self.clock += 1
            self.file.write(struct.pack("<IIII", 1700000000, self.clock, len(frame), len(frame)) + frame)
            self.seq[side] += len(data) + (flags & 3 != 0)

    def pump(self, source, to, side):
        try:
            while data := source.recv(1400):
                self.packet(side, 0x18, data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(self):
        a, _ = self.place.accept()
        with a, socket.create_connection((HOST, self.to)) as b:
            for side, flags in ((0, 2), (1, 0x12), (0, 0x10)):
                self.packet(side, flags)
            back = threading.Thread(target=self.pump, args=(b, a, 1))
            back.start()
            self.pump(a, b, 0)
            back.join()

    def close(self):
        self.place.close()
        self.file.close()


def listener(pki, log, **ranges):
    place = config.listener(free_port(), [config.hcm([config.route("/", "up")])])
    common = {"tls_certificates": [pki.pair("server")], "key_log": {"path": str(log), **ranges}}
    place["filter_chains"][0]["transport_socket"] = config.ext("tls", TLS + "DownstreamTlsContext", common_tls_context=common)
    return place


def ask(port, pki, keys, version):
    """One request; the client writes the key log of its end."""
    c = ssl.create_default_context(cafile=pki.path("ca.pem"))
    c.minimum_version = c.maximum_version = version
    c.keylog_filename = str(keys)
    with socket.create_connection((HOST, port), timeout=5) as raw, c.wrap_socket(raw, server_hostname="server.test") as s:
        s.sendall(f"GET {SECRET} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while part := s.recv(4096):
            got += part
        assert got.endswith(ANSWER)


def lines(path):
    """The log as a set without comments; secrets of an exporter are of no use to a capture."""
    return {x for x in path.read_text().splitlines() if x and x[0] != "#" and not x.startswith("EXPORTER")} if path.exists() else set()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_write_the_same(mesh, pki, version, tmp_path):
    """Downstream's and upstream's log: each is what the peer knows, in its format; together one client's way through the proxy."""
    mesh.upstream(script=[Reply(200, ANSWER)])
    ours, theirs, between = tmp_path / "ours", tmp_path / "theirs", tmp_path / "between"
    u = mesh.upstreams[0]
    second = listener(pki, between)
    second["name"] = "second"
    back = second["address"]["socket_address"]["port_value"]
    common = {"validation_context": {"trusted_ca": {"filename": pki.path("ca.pem")}}, "key_log": {"path": str(tmp_path / "up")},
              "tls_params": {"tls_maximum_protocol_version": "TLSv1_3" if version == ssl.TLSVersion.TLSv1_3 else "TLSv1_2"}}
    first = listener(pki, ours)
    first["filter_chains"][0]["filters"] = [config.hcm([config.route("/", "back")])]
    clusters = [config.cluster("up", [u.port]), config.cluster("back", [back], transport_socket=config.ext(
        "tls", TLS + "UpstreamTlsContext", common_tls_context=common, sni="server.test"))]
    px = mesh.proxy(boot=config.bootstrap([first, second], clusters, free_port()))
    ask(px.port, pki, theirs, version)
    for a, b in ((ours, theirs), (between, tmp_path / "up")):
        until(lambda a=a, b=b: lines(a) == lines(b) != set(), 5, f"the same secrets in {a.name} and {b.name}")
    assert not lines(ours) & lines(between)


@pytest.mark.skipif(not shutil.which("tshark"), reason="peer tshark is not installed")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_capture_is_readable(mesh, pki, version, tmp_path):
    mesh.upstream(script=[Reply(200, ANSWER)])
    keys, capture = tmp_path / "keys", tmp_path / "wire.pcap"
    px = mesh.proxy(boot=config.bootstrap([listener(pki, keys)], [config.cluster("up", [mesh.upstreams[0].port])], free_port()))
    relay = Capture(capture, px.port)
    ask(relay.port, pki, tmp_path / "theirs", version)
    until(lambda: px.stat("http.in.downstream_cx_active") == 0, 5, "the end of the connection")
    relay.close()
    for option, found in ((["-o", f"tls.keylog_file:{keys}"], True), ([], False)):
        out = subprocess.run(["tshark", "-r", str(capture), *option, "-Y", "http", "-T", "fields", "-e", "http.request.uri", "-e", "http.file_data"],
                             capture_output=True, text=True, timeout=patient(60), check=False).stdout
        assert (SECRET in out) == found and (ANSWER.hex() in out or ANSWER.decode() in out) == found, out


@pytest.mark.parametrize("ranges,written", [
    ({}, True), ({"local_address_range": ["127.0.0.0/8"]}, True), ({"local_address_range": ["127.0.0.2/32"]}, False),
    ({"remote_address_range": ["10.0.0.0/8", "127.0.0.1/32"]}, True), ({"remote_address_range": ["::1/128"]}, False),
    ({"local_address_range": ["127.0.0.0/8"], "remote_address_range": ["10.0.0.0/8"]}, False)])
def test_addresses(mesh, pki, ranges, written, tmp_path):
    mesh.upstream(script=[Reply(200, ANSWER)])
    cidrs = {k: [{"address_prefix": x.split("/")[0], "prefix_len": int(x.split("/")[1])} for x in v] for k, v in ranges.items()}
    keys = tmp_path / "keys"
    px = mesh.proxy(boot=config.bootstrap([listener(pki, keys, **cidrs)], [config.cluster("up", [mesh.upstreams[0].port])], free_port()))
    ask(px.port, pki, tmp_path / "theirs", ssl.TLSVersion.TLSv1_3)
    assert bool(lines(keys)) == written
