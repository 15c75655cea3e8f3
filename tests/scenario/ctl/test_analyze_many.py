"""What tenants may write by the thousand: analysis takes time and memory that follow their number, not its square (C7, C12)."""
import os
import resource
import subprocess

import pytest

import control

CTL = control.MIZZEND.with_name("mizzenctl")
SANITIZED = control.MIZZEND.exists() and b"__asan_init" in control.MIZZEND.read_bytes()
pytestmark = pytest.mark.skipif(not CTL.exists(), reason="mizzenctl is not built")
N = 1500


def doc(kind, name, spec, labels="", group="networking.istio.io/v1"):
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: t{labels}}}\nspec: {{{spec}}}\n"


def pod(i, label):
    return doc("Pod", f"p{i}", "containers: [{name: istio-proxy, image: x}]", f", labels: {{{label}}}", "v1")


def gateway(i, selector, host='"*"', tls=""):
    return doc("Gateway", f"g{i}", f"selector: {{{selector}}}, servers: [{{port: {{number: 443, name: p, protocol: {'HTTPS' if tls else 'HTTP'}}}, "
               f"hosts: [{host}]{tls}}}]")


def virtual(name, host, more="", to="x"):
    return doc("VirtualService", name, f"hosts: [{host}], http: [{{route: [{{destination: {{host: {to}}}}}]}}]{more}")


def entry(name, host, more, protocol="HTTP"):
    return doc("ServiceEntry", name, f"hosts: [{host}], resolution: DNS, ports: [{{number: 80, name: p, protocol: {protocol}}}]{more}")


SETS = {
    "gateways of one host": ([gateway(i, "istio: g") for i in range(N)] + [pod(i, "istio: g") for i in range(N)], "IST0145"),
    "gateways with selectors of their own": ([gateway(i, f"istio: g{i}") for i in range(N)] + [pod(i, f"istio: g{i}") for i in range(N)], "IST0162"),
    "gateways of one certificate": ([gateway(i, "istio: g", f"a{i}.com", ", tls: {mode: SIMPLE, credentialName: c}") for i in range(N)], "IST0138"),
    "hosts that many claim": ([virtual(f"v{i}", '"*.com"') for i in range(N // 2)]
                              + [virtual(f"w{i}", f"a{i}.com", ', exportTo: ["."]') for i in range(N // 2)], "IST0109"),
    "subsets that gateways do not see": ([doc("VirtualService", f"v{i}", "hosts: [x], http: [{route: [{destination: {host: x, subset: v1}}]}]") for i in range(N)]
                                         + [virtual(f"g{i}", "x", ", gateways: [g]") for i in range(N)], "IST0140"),
    "ports of two protocols": ([entry(f"s{i}", "a.com", f', exportTo: ["n{i}"]') for i in range(N // 2)]
                               + [entry(f"r{i}", "a.com", "", "TCP") for i in range(N // 2)], "IST0177"),
    "wildcards and hosts that nobody has": ([entry(f"s{i}", f'"*.a{i}.com"', "") for i in range(N)]
                                            + [doc("DestinationRule", f"d{i}", f"host: x.b{i}.com") for i in range(N)], "IST0174"),
    "Sidecars of everybody": ([doc("Sidecar", f"s{i}", "egress: [{hosts: ['./*']}]") for i in range(N)], "IST0111"),
    "documents that are refused": ([doc("VirtualService", f"v{i}", "hosts: [a.com], http: [{bogus: 1}]") for i in range(N)], "IST0106"),
}


def bounded(seconds, mb):
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (mb << 20, mb << 20))
    return limit


@pytest.mark.parametrize("name", SETS)
def test_many(tmp_path, name):
    texts, code = SETS[name]
    file = tmp_path / "docs" / "a.yaml"
    file.parent.mkdir()
    file.write_text("---\n".join(texts))
    limit = bounded(60 if SANITIZED else 10, 400)
    r = subprocess.run([CTL, "analyze", "-A", file], capture_output=True, text=True, preexec_fn=limit)
    assert r.returncode in (0, 79) and code in r.stdout, f"{r.returncode} {r.stdout[-300:]} {r.stderr[-300:]}"
    status = tmp_path / "status"
    r = subprocess.run([control.MIZZEND, "--mode", "status", "-c", file.parent, "--status-dir", status], capture_output=True, text=True,
                       preexec_fn=limit)
    assert r.returncode == 0, f"{r.returncode} {r.stderr[-300:]}"
    assert sum(len(f) for _, _, f in os.walk(status)) >= N // 2


def test_findings_of_one_object_are_bounded(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("---\n".join(SETS["gateways of one certificate"][0][:500]))
    out = subprocess.run([CTL, "analyze", "-A", file], capture_output=True, text=True).stdout
    mine = [line for line in out.splitlines() if "(Gateway t/g0 " in line or "(Gateway t/g0)" in line]
    assert sum("IST0138" in line for line in mine) == 100, mine[:3]
    assert sum("There are more findings than the 100 of one object that are told." in line for line in mine) == 1
