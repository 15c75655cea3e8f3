"""Clients that misbehave: mizzend's memory stays bounded, and others are served as before (C6, H05)."""
import json
import pathlib
import re
import struct

import pytest

import control
from h2_client import POST, WINDOW_UPDATE, H2Client, frame
from h2_upstream import DATA
from wire import until

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="peer xds-protos is not installed")
from envoy.service.discovery.v3 import discovery_pb2 as dp  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from google.rpc import status_pb2  # noqa: E402

CASE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "plain-http"
NODE = json.loads((CASE / "web" / "node.json").read_text())
PREFIX = "type.googleapis.com/envoy.config."
CDS, EDS = PREFIX + "cluster.v3.Cluster", PREFIX + "endpoint.v3.ClusterLoadAssignment"
API = "outbound|9080||api.demo.svc.cluster.local"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SANITIZED = control.MIZZEND.exists() and b"__asan_init" in control.MIZZEND.read_bytes()
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")


@pytest.fixture
def mizzend(tmp_path):
    m = control.Mizzend(tmp_path, {f.name: f.read_text() for f in (CASE / "input").iterdir()})
    yield m
    m.stop()


class Client:
    """One delta stream. It asks for clusters and the endpoints of api; `window`: bytes that it is ready to take."""

    def __init__(self, port, window=2**31 - 1):
        self.h2 = H2Client(port, settings={4: window})
        if window:
            self.h2.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))
        self.taken, self.got = 0, []
        node = json_format.ParseDict(NODE, dp.DeltaDiscoveryRequest().node)
        fields = [(k, METHOD if k == ":path" else v) for k, v in POST] + [("content-type", "application/grpc"), ("te", "trailers")]
        self.h2.send(self.h2.head(1, fields, end=False))
        self.ask(dp.DeltaDiscoveryRequest(node=node, type_url=CDS))
        self.ask(dp.DeltaDiscoveryRequest(type_url=EDS, resource_names_subscribe=[API]))

    def ask(self, request):
        packed = request.SerializeToString()
        return self.h2.send(frame(DATA, 0, 1, b"\0" + struct.pack(">I", len(packed)) + packed))

    def read(self, timeout=0.002):
        """Responses that have come whole since the last call."""
        self.h2._take(timeout)
        body, new = self.h2.bodies.get(1, b""), []
        while len(body) - self.taken >= 5:
            n = struct.unpack(">I", body[self.taken + 1:self.taken + 5])[0]
            if len(body) - self.taken - 5 < n:
                break
            new.append(dp.DeltaDiscoveryResponse.FromString(body[self.taken + 5:self.taken + 5 + n]))
            self.taken += 5 + n
        self.got += new
        return new

    def wait(self, n, what):
        """Until there are @n responses in all."""
        until(lambda: self.read() and False or len(self.got) >= n, 60, lambda: f"{what}; {len(self.got)} came, {self.h2.end}")
        return self.got

    def answer(self, response, refuse=""):
        self.ask(dp.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce,
                                          error_detail=status_pb2.Status(code=3, message=refuse) if refuse else None))

    def close(self):
        self.h2.sock.close()


class Good(Client):
    """Acknowledges, and knows the last endpoints of api."""

    def last(self):
        for r in self.read(0.01):
            self.answer(r)
        sent = [x for r in self.got if r.type_url == EDS for x in r.resources]
        return sent[-1].resource.value if sent else b""


def resident_mb(m):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{m.process.pid}/status").read_text())[1]) >> 10


def change(m, address):
    kube = (CASE / "input" / "kube.yaml").read_text()
    m.write("kube.yaml", kube.replace('addresses: ["10.10.0.21"]', f'addresses: ["{address}"]'))


def changes(m, good, n, first):
    """@n changes, each of which the good client gets."""
    for i in range(first, first + n):
        address = f"10.77.0.{i}"
        change(m, address)
        until(lambda: address.encode() in good.last(), 30, f"change {i}")


def test_a_thousand_that_do_not_answer_or_read(mizzend):
    good = Good(mizzend.port)
    until(good.last, 30, "the first endpoints")
    before = resident_mb(mizzend)
    silent = [Client(mizzend.port) for _ in range(500)]
    deaf = [Client(mizzend.port, window=0) for _ in range(500)]
    for c in silent:
        c.wait(2, "both first answers")
    changes(mizzend, good, 5, 1)
    grown = resident_mb(mizzend) - before
    assert grown < (400 if SANITIZED else 60), f"{grown} MB for 1000 clients"
    changes(mizzend, good, 5, 6)
    assert resident_mb(mizzend) - before - grown < (100 if SANITIZED else 3), "what is not answered may not pile up"
    for c in silent:
        assert not c.read() and len(c.got) == 2, "one response of a type until it is answered"
    for r in list(silent[0].got):  # it wakes up: what it missed comes as one
        silent[0].answer(r)
    last = silent[0].wait(3, "the last state")[-1]
    assert b"10.77.0.10" in last.resources[0].resource.value and len(silent[0].got) == 3
    for c in silent + deaf:  # all at once, and again
        c.close()
    again = [Client(mizzend.port) for _ in range(1000)]
    changes(mizzend, good, 1, 20)
    for c in again:
        c.wait(2, "answers after all came back")
        c.close()


def test_one_that_refuses_everything(mizzend):
    good, bad = Good(mizzend.port), Client(mizzend.port)
    until(good.last, 30, "the first endpoints")
    bad.wait(2, "both first answers")
    for r in list(bad.got):
        bad.answer(r, refuse="never")
    until(lambda: mizzend.log().count("refused") == 2, 30, "the refusals to be told")
    for i in range(1, 4):
        changes(mizzend, good, 1, i)
        bad.wait(2 + i, "what is another now")
        bad.answer(bad.got[-1], refuse="never")
        assert bad.got[-1].type_url == EDS, "clusters are what was refused: not sent again"
    changes(mizzend, good, 1, 9)
    bad.wait(6, "the last one")
    assert not bad.read(0.05), "nothing is sent again by itself"
    bad.close()
