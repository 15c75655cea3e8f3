"""Routing documents in mizzend, requests through a Mizzen proxy that is a gateway (C4)."""
import http.client
import json
import pathlib
import time

import pytest

import control
from apps import apps  # noqa: F401
from wire import free_port, until

CASE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "cases" / "bookinfo-like"
pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")

DOCUMENTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app, namespace: default}
spec:
  hosts: [app.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: %(one)d}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: %(two)d}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app, namespace: default}
spec:
  host: app.example.com
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec:
  servers:
  - {port: {number: %(listen)d, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*.example.com"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: default}
spec:
  hosts: [app.example.com]
  gateways: [front]
  http:
  - match: [{uri: {prefix: /two}, headers: {x-who: {exact: me}}}]
    rewrite: {uri: /rewritten}
    route: [{destination: {host: app.example.com, subset: v2}}]
  - match: [{uri: {exact: /teapot}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: app.example.com}}]
  - match: [{uri: {exact: /slow}}]
    timeout: 50ms
    retries: {attempts: 0}
    route: [{destination: {host: app.example.com, subset: v1}}]
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new}
  - route:
    - {destination: {host: app.example.com, subset: v1}, weight: %(first)d}
    - {destination: {host: app.example.com, subset: v2}, weight: %(second)d}
"""


def test_weights_matches_faults_and_timeouts(apps, mesh, tmp_path):
    listen = free_port()
    ports = {"one": apps[0].server_port, "two": apps[1].server_port, "listen": listen}
    mizzend = control.Mizzend(tmp_path, {"docs.yaml": DOCUMENTS % {**ports, "first": 100, "second": 0}})
    try:
        boot = control.bootstrap(CASE / "ingressgateway" / "node.json", mizzend.port, free_port())
        px = mesh.proxy(boot=boot, ready=False)

        def ask(path, **headers):
            c = http.client.HTTPConnection("127.0.0.1", listen, timeout=30)
            try:
                c.request("GET", path, headers={"host": "app.example.com", **{k.replace("_", "-"): v for k, v in headers.items()}})
                r = c.getresponse()
                return r.status, r.read().decode(), dict(r.getheaders())
            except OSError:  # not there yet
                return 0, "", {}
            finally:
                c.close()

        until(lambda: ask("/")[0] == 200, 30, "the gateway to route")
        assert {ask("/")[1] for _ in range(10)} == {"v1 /"}
        assert ask("/two/x", x_who="me")[:2] == (200, "v2 /rewritten/x")
        assert ask("/two/x", x_who="you")[:2] == (200, "v1 /two/x")
        assert ask("/teapot")[:2] == (418, "fault filter abort")
        assert ask("/old")[0] == 301 and ask("/old")[2]["location"].endswith("app.example.com/new")
        begin = time.monotonic()
        assert ask("/slow")[0] == 504
        assert time.monotonic() - begin < 20, "the application would have held it for 30 seconds"

        mizzend.write("docs.yaml", DOCUMENTS % {**ports, "first": 0, "second": 100})
        until(lambda: ask("/")[1] == "v2 /", 30, "the other weights")
        assert {ask("/")[1] for _ in range(10)} == {"v2 /"}
        assert json.loads(px.admin("/config_dump?resource=dynamic_route_configs")[1])["configs"]
    finally:
        mizzend.stop()
