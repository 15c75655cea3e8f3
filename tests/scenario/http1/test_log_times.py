"""When things happened, in the log lines of requests, TCP sessions and connections (O2)."""
import json

import config
from wire import HOST, Client, free_port, until

POINTS = ["DS_CX_BEG", "DS_CX_END", "DS_RX_BEG", "DS_RX_HDR_END", "DS_RX_END", "DS_TX_BEG", "DS_TX_END", "US_CX_BEG", "US_CX_END", "US_TX_BEG",
          "US_TX_END", "US_RX_BEG", "US_RX_BODY_BEG", "US_RX_END"]
FIELDS = {"type": "%ACCESS_LOG_TYPE%", "rtt": "%DOWNSTREAM_CX_RTT%", "path": "%STREAM_INFO_REQ(:path)%", "added": "%STREAM_INFO_REQ(x-added)%",
          "spans": "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_TX_DURATION%",
          **{p: f"%COMMON_DURATION(DS_CX_BEG:{p}:us)%" for p in POINTS}}


def lines(path, n):
    def read():
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    until(lambda: len(read()) >= n, 10, f"{n} log lines")
    return read()


def test_points_in_time(mesh):
    up, path = mesh.upstream(), mesh.folder / "times.log"
    log, http_port, tcp_port = config.access_log(path, FIELDS), free_port(), free_port()
    routes = [config.route(prefix_rewrite="/new", cluster="up") | {"request_headers_to_add": [{"header": {"key": "x-added", "value": "yes"}}]}]
    tcp = config.ext("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="up", access_log=[log])
    boot = config.bootstrap([config.listener(http_port, [config.hcm(routes, log)], access_log=[log]), config.listener(tcp_port, [tcp], name="tcp")],
                            [config.cluster("up", [up.port])], free_port())
    px = mesh.proxy(boot=boot)
    with Client((HOST, http_port)) as c:
        assert c.get("/old").status == 200
    http, conn = lines(path, 2)
    assert http["type"] == "DownstreamEnd" and http["path"] == "/newold" and http["added"] == "yes"
    happened = [p for p in POINTS if http[p] is not None]
    assert happened == [p for p in POINTS if p != "DS_CX_END"]
    at = {p: int(http[p]) for p in happened}
    for early, late in [("DS_CX_BEG", "DS_RX_BEG"), ("DS_RX_BEG", "DS_RX_HDR_END"), ("DS_RX_HDR_END", "DS_RX_END"), ("US_CX_BEG", "US_CX_END"),
                        ("US_TX_BEG", "US_RX_BEG"), ("US_RX_BEG", "US_RX_BODY_BEG"), ("US_RX_BODY_BEG", "US_RX_END"), ("DS_TX_BEG", "DS_TX_END")]:
        assert at[early] <= at[late], (early, late, at)
    assert conn["type"] == "NotSet" and [p for p in POINTS if conn[p] is not None] == ["DS_CX_BEG", "DS_RX_BEG"]
    with Client((HOST, tcp_port)) as c:
        assert c.get("/").status == 200
    session = lines(path, 3)[2]
    assert session["type"] == "TcpConnectionEnd" and session["spans"] == "- - - -"
    assert [p for p in POINTS if session[p] is not None] == ["DS_CX_BEG", "DS_CX_END", "DS_RX_BEG", "US_CX_BEG", "US_CX_END"]
    assert str(http["rtt"]) == str(session["rtt"]) == "0"
    px.stop()
