"""What else mizzenctl asks a running mesh: requests, tap, top, dashboard, proxy-config and proxy-status by the names of pods (O5, P9)."""
import contextlib
import http.client
import json
import re
import signal
import subprocess
import threading
import urllib.parse

import ctl
from twopods import allowed, ask, net, node  # noqa: F401
from wire import patient, until


def run(net, command, *args, code=0):  # noqa: F811
    p = ctl.run(command, *args, "--mesh", net.sock.name)
    assert p.returncode == code, p.stdout + p.stderr
    return p.stdout if code == 0 else p.stderr


@contextlib.contextmanager
def running(net, command, *args):  # noqa: F811
    """It runs beside; ended by SIGTERM where it has not ended by itself."""
    p = subprocess.Popen([ctl.MIZZENCTL, command, *args, "--mesh", net.sock.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(patient(60), p.kill)
    timer.start()
    try:
        yield p
    finally:
        p.terminate()
        error = p.communicate()[1]
        timer.cancel()
        assert "Sanitizer" not in error and "runtime error" not in error, error[-3000:]


def test_requests_and_tap(net):  # noqa: F811
    until(lambda: allowed(net), 20, "an answer")
    assert ask(net, "/else").status == 403 and ask(net, "/lost").status == 503
    text = until(lambda: "/lost" in run(net, "requests") and "403" in run(net, "requests") and run(net, "requests"), 10, "both records")
    assert re.match(r"TIME +POD +DIRECTION +STATUS +FLAGS +MS +REQUEST +WHY\n", text)
    assert re.search(r"a-1\.demo +outbound +503 +NC +\S+ +GET b:8080/lost +cluster_not_found\n", text), text
    assert re.search(r"b-1\.demo +inbound +403 +- +\S+ +GET b:8080/else +rbac_access_denied", text), text
    times = [r["request"]["time"] for r in json.loads(run(net, "requests", "-o", "json"))]
    assert times == sorted(times, reverse=True) and len(run(net, "requests", "--limit", "1").splitlines()) == 2  # the newest first
    assert "/else" not in run(net, "requests", "--status", "5xx") and "/lost" in run(net, "requests", "--status", "5xx", "--flag", "NC", "--since", "5m")
    assert "/lost" not in run(net, "requests", "b") and "/lost" not in run(net, "requests", "--flag", "UF")
    one = [r for r in json.loads(run(net, "requests", "a", "-o", "json", "--status", "503")) if r["request"]["path"] == "/lost"][0]
    assert one["pod"] == "a-1.demo" and one["request"]["path"] == "/lost" and one["request"]["story"][0]["step"] == "ACCEPTED"
    for args, says in ((("c",), 'no pod "c"'), (("--status", "x"), "is no status"), (("--since", "1y"), "is no time"), (("-o", "yaml"), "table or json")):
        assert says in run(net, "requests", *args, code=1)
    with running(net, "requests", "a", "--follow") as p:
        def comes(path):  # others may have failed at the start, or been slow
            return any(f"GET b:8080{path}  " in line for line in iter(p.stdout.readline, ""))
        assert comes("/lost")
        assert ask(net, "/lost?new").status == 503
        assert comes("/lost?new")
    with running(net, "tap", "-H", "x-tap: yes", "--max", "2", "--story") as p:
        assert "watching 2 proxies" in p.stderr.readline()
        assert ask(net, "/open/1").status == ask(net, "/open/2", x_tap="yes", x_request_id="22222222-2222-4222-8222-222222222222").status == 200
        out, error = p.communicate(timeout=patient(30))
        assert p.returncode == 0, error
    assert "/open/1" not in out and "cluster outbound|8080||b.demo.svc.cluster.local" in out
    assert {line.split()[1] for line in out.splitlines() if "GET b:8080/open/2" in line} == {"a-1.demo", "b-1.demo"}
    past = ctl.run("explain", "--mesh", net.sock.name, "--request-id", "22222222-2222-4222-8222-222222222222").stdout  # of one that went well, too
    for text in ("Out of a-1.demo", "route          number 5 of 5: prefix /", "endpoint       10.11.0.2:8080", "answer         200", "Into b-1.demo", "fits rule 2 of AuthorizationPolicy demo/who", "application    10.11.0.2:8080"):
        assert text in past, past
    ask(net, "/open/3", x_tap="yes")  # nobody watches any more
    assert not [r for r in json.loads(run(net, "requests", "-o", "json")) if r["request"]["path"] == "/open/3" and r["request"]["watched"]]
    assert "path or <name>" in run(net, "tap", "-H", "a b", code=1)


def test_top_dashboard_and_names_of_pods(net):  # noqa: F811
    until(lambda: allowed(net), 20, "an answer")
    routes = ctl.run("proxy-config", "routes", "a-1.demo", "--mesh", net.sock.name)
    assert "b.demo.svc.cluster.local:8080" in routes.stdout and routes.stdout == ctl.run("pc", "r", "deployment/a", "--mesh", net.sock.name).stdout
    assert 'no pod "nobody"' in ctl.run("pc", "clusters", "nobody", "--mesh", net.sock.name).stderr
    assert re.search(r"a-1\.demo.*mizzend", run(net, "proxy-status"))

    over = threading.Event()

    def load():
        while not over.is_set():
            ask(net, "/open")
            ask(net, "/lost")
    t = threading.Thread(target=load)
    t.start()
    try:
        def rates():
            by_pod = {p["pod"]: p for p in json.loads(run(net, "top", "-o", "json"))}
            a, b = by_pod["a-1.demo"], by_pod["b-1.demo"]
            return b["inPerSecond"] > 0 and a["outPerSecond"] > b["inPerSecond"] and a["errorsPercent"] > 0 and b["errorsPercent"] == 0 and 0 < b.get("p50Ms", 0) <= b["p99Ms"]
        until(rates, 20, "rates of both")
        table = run(net, "top", "--once")
    finally:
        over.set()
        t.join()
    assert table.startswith("POD ") and re.search(r"b-1\.demo +\d+\.\d +0\.0 +0\.0 +\S+ ms +\S+ ms +\d+ +4\.9 MB +4\.9 MB +ready", table), table
    assert "mizzend 5.9 MB, with all agents and proxies 15.6 MB" in table
    with running(net, "dashboard") as p:
        url = urllib.parse.urlparse(p.stdout.readline().strip())
        assert url.hostname == "127.0.0.1" and len(url.path) == 34

        def get(path, method="GET", host=None):
            c = http.client.HTTPConnection("127.0.0.1", url.port, timeout=patient(20))
            c.request(method, path, headers={"host": host or f"127.0.0.1:{url.port}"})
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        status, headers, text = get(url.path)
        assert status == 200 and "Who calls whom" in text and "default-src 'none'" in headers["content-security-policy"] and headers["referrer-policy"] == "no-referrer"
        assert get(url.path + "app.js")[0] == get(url.path + "app.css")[0] == 200
        data = json.loads(get(url.path + "data.json")[2])
        assert [c["security"] for c in data["calls"] if (c["from"], c["to"]) == ("a.demo", "b.demo")] == ["mutual_tls"], data
        assert {p["pod"] for p in data["pods"]} == {"a-1.demo", "b-1.demo"} and data["plane_kb"] == 6000
        status, headers, text = get(url.path + "page?pod=b-1.demo&path=/clusters")
        assert status == 200 and "inbound|8080||" in text and headers["content-type"].startswith("text/plain")
        assert "b-1.demo" in get(url.path + "page?pod=mizzend&path=/debug/syncz")[2]
        assert get("/")[0] == get("/help")[0] == get("/data.json")[0] == 404  # whoever does not know the address
        assert get(url.path, host="evil.test")[0] == 403 and get(url.path + "data.json", host=f"evil.test:{url.port}")[0] == 403
        assert get(url.path + "page?pod=b-1.demo&path=/quitquitquit", "POST")[0] == 405
        assert get(url.path + "page?pod=b-1.demo&path=/quitquitquit")[0] == 502  # asked with GET, which changes nothing
        assert get(url.path + "page?pod=b-1.demo&path=/a%0d%0ax")[0] == 400 and get(url.path + "page?pod=x&path=/")[0] == 502
        p.send_signal(signal.SIGTERM)
        assert p.wait(patient(10)) == 0
