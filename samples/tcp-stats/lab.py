#!/usr/bin/python3
"""Loses packets between a proxy and its TLS server, and shows how the kernel's figures tell of it.

  lab.py [--loss PERCENT] [--requests N] [--proxy BINARY] [--stay]

It runs in a network namespace of its own: ports are free there and nobody else loses anything. With --stay it ends at Ctrl-C
instead, and says how to enter the namespace. Exit code 0: the figures moved.
"""
import argparse
import ctypes
import http.client
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
FRONT, ADMIN, SERVER, APP = 10000, 9901, 10443, 18081
BODY = b"x" * 200_000
ROWS = ["cx_tx_data_segments", "cx_tx_retransmitted_segments", "cx_rtt_us", "cx_rtt_variance_us", "cx_tx_percent_retransmitted_segments"]
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def own_namespace():
    """As root of a user namespace of its own where need be; False where the system does not let us."""
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        pathlib.Path(f"/proc/self/{name}").write_text(text)
    return True


def run(command):
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)


def fetch(port, path, method="GET", body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        c.request(method, path, body)
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def wait(condition, what, processes):
    end = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > end or any(p.poll() is not None for p in processes):
            raise SystemExit(f"waited for {what} in vain")
        time.sleep(0.02)


def figures():
    """{name: a number, or a histogram's quantiles since the last flush and since the start}"""
    text = fetch(ADMIN, r"/stats?filter=^cluster\.server\.tcp_stats\.")[1].decode()
    return {name.rpartition(".")[2]: value for name, _, value in (line.partition(": ") for line in text.splitlines())}


def worst(histogram):
    """Of all that was recorded so far: the second of the two values of P99."""
    found = re.search(r"P99\([^,]*,([^)]*)\)", histogram or "")
    return f"{float(found[1]):.4g}" if found and found[1] != "nan" else "-"


def shown(f, row):
    return worst(f.get(row)) if not f.get(row, "0").isdigit() else f.get(row, "0")


def traffic(requests):
    before = int(figures().get("cx_tx_data_segments", "0"))
    began = time.monotonic()
    for _ in range(requests):
        status, body = fetch(FRONT, "/echo", "POST", BODY)
        assert status == 200 and len(body) >= len(BODY), (status, len(body))
    took = time.monotonic() - began
    end = time.monotonic() + 20
    while int(figures()["cx_tx_data_segments"]) == before and time.monotonic() < end:
        time.sleep(0.1)  # the transport looks at its connection now and then
    time.sleep(2.5)  # each second the histograms are merged
    return took, figures()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", type=float, default=3)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--proxy", default=str(HERE.parents[1] / "build/mizzen-proxy"))
    parser.add_argument("--server", default=str(HERE.parents[1] / "build/mizzen-sample-server"))
    parser.add_argument("--stay", action="store_true")
    args = parser.parse_args()
    missing = [t for t in ("ip", "iptables", "openssl") if not shutil.which(t)]
    if missing or not own_namespace():
        print("cannot run: " + (f"needs {', '.join(missing)}" if missing else "no network namespace of its own (run as root, or allow user namespaces)"))
        return 77
    run("ip link set lo mtu 1500 up")  # so that segments have the size they have on a wire
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=server",
                        "-keyout", "server.key", "-out", "server.pem"], cwd=folder, check=True, capture_output=True)
        quiet = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        processes = [subprocess.Popen([os.path.abspath(args.server), "--port", str(APP)], **quiet),
                     subprocess.Popen([os.path.abspath(args.proxy), "-c", HERE / "envoy.yaml", "--concurrency", "1", "-l", "warn"], **quiet)]
        try:
            wait(lambda: fetch(ADMIN, "/ready")[0] == 200, "the proxy", processes)
            wait(lambda: fetch(FRONT, "/")[0] == 200, "the server", processes)
            before_s, before = traffic(args.requests)
            for way in ("--dport", "--sport"):
                run(f"iptables -A INPUT -p tcp {way} {SERVER} -m statistic --mode random --probability {args.loss / 100} -j DROP")
            after_s, after = traffic(args.requests)
            print(f"{'cluster.server.tcp_stats.':40}{'no loss':>12}{f'{args.loss:g} % loss':>14}")
            for row in ROWS:
                print(f"{row + (' (P99)' if not before.get(row, '0').isdigit() else ''):40}{shown(before, row):>12}{shown(after, row):>14}")
            print(f"{f'{args.requests} requests, seconds':40}{before_s:12.2f}{after_s:14.2f}")
            again = "cx_tx_retransmitted_segments"
            moved = int(after[again]) > int(before[again])
            print("The figures tell of the loss." if moved else "Nothing was repeated: more requests or more loss are needed.")
            if args.stay:
                print(f"nsenter -t {os.getpid()} -n   and then curl localhost:{FRONT}/, curl localhost:{ADMIN}/stats?filter=tcp_stats, iptables -L -v")
                signal.pause()
            return 0 if moved else 1
        except KeyboardInterrupt:
            return 0
        finally:
            for p in processes:
                p.terminate()
            for p in processes:
                p.wait()


if __name__ == "__main__":
    sys.exit(main())
