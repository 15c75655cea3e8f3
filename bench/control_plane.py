#!/usr/bin/python3
"""What a proxy costs under a control plane: from connect to serving, memory, CPU of one change of endpoints.

usage: bench/control_plane.py [--proxy BIN]... [--clusters N]... [--sotw] [--traffic]        needs grpc and xds-protos (.cache/venv)
  --traffic: also the latency of 1,000 requests a second, without and with 10 pushes a second (endpoints, a cluster, the routes)
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import ads  # noqa: E402
import config  # noqa: E402
import dynamic  # noqa: E402
from wire import free_port  # noqa: E402

ADS = {"ads": {}, "resource_api_version": "V3"}
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def cpu_us(pid):
    """On-CPU time of all threads, by the scheduler."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        total += int(pathlib.Path(f"/proc/{pid}/task/{t}/schedstat").read_text().split()[0])
    return total / 1000


def admin(port, path):
    import http.client
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read().decode()
    finally:
        c.close()


def stat(port, name):
    for line in admin(port, "/stats?filter=^" + name.replace(".", "[.]") + "$")[1].splitlines():
        return int(line.rpartition(": ")[2])
    return 0


def wait(condition, what, seconds=300):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"no {what}")
        time.sleep(0.01)


def push(server, delta, name, resource, version):
    """One resource to the proxy, at once."""
    kind, stream = resource[0], server.streams[0]
    packed = ads.pack(kind, resource[1])
    with server.lock:
        stream.nonce += 1
        if delta:
            m = ads.d.DeltaDiscoveryResponse(nonce=str(stream.nonce), type_url=packed.type_url, resources=[
                ads.d.Resource(name=name, version=version, resource=packed)])
        else:
            m = ads.d.DiscoveryResponse(nonce=str(stream.nonce), version_info=version, type_url=packed.type_url, resources=[packed])
        stream.send(m)


def changed(server, where, pid, delta, kind, counter, resource, changes=300):
    """CPU of one change, of so many that come one after another."""
    before, cpu = stat(where, counter), cpu_us(pid)
    for i in range(changes):
        name, fields = resource(i)
        push(server, delta, name, (kind, fields), f"x{i}")
        time.sleep(0.002)
    time.sleep(1)
    cpu, got = cpu_us(pid) - cpu, stat(where, counter) - before
    return f"{cpu / max(got, 1):.0f} us CPU ({got} of {changes})"


def pushed_again(server, where, pid, times=10):
    """CPU of a push of every cluster, none of them changed."""
    before, cpu = stat(where, "cluster_manager.cds.update_success"), cpu_us(pid)
    for _ in range(times):
        server.streams[0].push("cluster")
        time.sleep(0.2)
    wait(lambda: stat(where, "cluster_manager.cds.update_success") - before == times, "push")
    return f"{(cpu_us(pid) - cpu) / times / 1000:.1f} ms CPU"


def push_all(server, delta, eds, i):
    name = f"c{i % 100}"
    push(server, delta, name, ("endpoint", dynamic.assignment(name, [2000 + i % 1000 + k for k in range(5)])), f"t{i}")
    push(server, delta, "r", ("route", dynamic.routes("r", dynamic.direct(f"answer {i}"))), f"t{i}")
    if delta: # the state of the world would be all of them
        push(server, delta, name, ("cluster", {"name": name, **eds, "connect_timeout": f"{1 + i % 5}s"}), f"t{i}")


def traffic(server, delta, eds, port, rounds=9, seconds=2):
    """Interleaved rounds of quiet and of pushes; prints the medians of their percentiles, in microseconds."""
    tool, out, i = tempfile.mkdtemp() + "/benchtool", {False: [], True: []}, 0
    subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-o", tool, str(ROOT / "bench" / "benchtool.c")], check=True)
    for _ in range(rounds):
        for pushing in (False, True):
            p = subprocess.Popen([tool, "rate", str(port), "/", "1000", "16", str(seconds)], stdout=subprocess.PIPE, text=True)
            while p.poll() is None:
                if pushing:
                    push_all(server, delta, eds, i)
                    i += 1
                time.sleep(0.1)
            out[pushing].append(json.loads(p.stdout.read()))
    for pushing, v in out.items():
        print("  1,000 requests a second" + (", 10 pushes a second" if pushing else "") + ": " +
              ", ".join(f"{k} {statistics.median(x[k] for x in v)}" for k in v[0] if k.startswith(("p", "err"))), flush=True)


def run(proxy, n, delta, with_traffic=False):
    server, port = ads.Ads(), free_port()
    hcm = config.hcm([])
    del hcm["typed_config"]["route_config"]
    hcm["typed_config"]["rds"] = {"route_config_name": "r", "config_source": ADS}
    eds_source = {"type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ADS}}
    server.set("endpoint", *[dynamic.assignment(f"c{i}", [1000 + k for k in range(5)]) for i in range(n)])
    server.set("cluster", *[{"name": f"c{i}", **eds_source} for i in range(n)])
    server.set("route", dynamic.routes("r", dynamic.direct("x")))
    server.set("listener", config.listener(port, [hcm]))
    boot = config.bootstrap([], [config.cluster("xds", [server.port], http=H2)], free_port(), dynamic_resources={
        "cds_config": ADS, "lds_config": ADS, "ads_config": {
            "api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}})
    where = boot["admin"]["address"]["socket_address"]["port_value"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(boot, f)
        f.flush()
        began = time.monotonic()
        p = subprocess.Popen([proxy, "-c", f.name, "--concurrency", "2", "--disable-hot-restart", "-l", "error"], stderr=subprocess.DEVNULL)
        try:
            wait(lambda: admin(where, "/ready")[0] == 200, "start")
            took = time.monotonic() - began
            start_cpu = cpu_us(p.pid)
            rss = int(next(x for x in pathlib.Path(f"/proc/{p.pid}/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1])
            eds = changed(server, where, p.pid, delta, "endpoint", "cluster.c0.update_success",
                          lambda i: ("c0", dynamic.assignment("c0", [2000 + i + k for k in range(5)])))
            cds = changed(server, where, p.pid, delta, "cluster", "cluster_manager.cluster_modified",
                          lambda i: ("c0", {"name": "c0", **eds_source, "per_connection_buffer_limit_bytes": 50000 + i})) if delta else ""
            again = pushed_again(server, where, p.pid) if not delta else ""
            print(f"{os.path.basename(proxy)} {'delta' if delta else 'sotw'}: {n} clusters: {took:.2f} s to serving, {start_cpu / 1000:.0f} ms CPU, "
                  f"{rss / 1024:.0f} MB; a change of endpoints {eds}; of a cluster {cds or '-'}; all of them again {again or '-'}", flush=True)
            if with_traffic:
                traffic(server, delta, eds_source, port)
        finally:
            p.terminate()
            p.wait()
            server.stop()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--proxy", action="append")
    ap.add_argument("--clusters", type=int, action="append")
    ap.add_argument("--sotw", action="store_true")
    ap.add_argument("--traffic", action="store_true")
    a = ap.parse_args()
    for n in a.clusters or [1000, 10000]:
        for proxy in a.proxy or [str(ROOT / "build" / "mizzen-proxy")]:
            run(proxy, n, not a.sotw, a.traffic)


if __name__ == "__main__":
    main()
