"""`mizzen-agent iptables` (A4): prints and applies what Istio's own tool does, each case of tests/conformance/istio/iptables in a network namespace of its own."""
import os
import pathlib
import re
import shlex
import sys

import pytest

from agent import AGENT, pod

GOLDEN = pathlib.Path(__file__).parents[2] / "conformance/istio/iptables"
CASES = sorted(p.name[:-4] for p in GOLDEN.glob("[0-9]*.txt") if not p.name.endswith("applied.txt"))
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")


def read(case):
    text = (GOLDEN / f"{case}.txt").read_text()
    head, _, rest = text.partition("\n\n")
    flags = re.search(r"# flags: (.*)", head)[1]
    return flags, re.search(r"family: (\d+)", head)[1], rest


@pytest.mark.parametrize("case", CASES)
def test_dry_run(case, tmp_path):
    flags, family, want = read(case)
    got = pod(f"{AGENT} iptables --dry-run {flags}", family, tmp=tmp_path)
    assert got.strip() == want.strip()


def applied(case):
    """What `iptables-save` or `nft list` showed, by rule, and the policy routing."""
    text = (GOLDEN / f"{case}.applied.txt").read_text()
    rules, _, routing = text.partition("## policy rules")
    return rules, routing.partition("\n")[2]


def bare(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("case", [c for c in CASES if (GOLDEN / f"{c}.applied.txt").exists()])
def test_applied(case, tmp_path):
    flags, family, _ = read(case)
    rules, routing = applied(case)
    show = "nft list ruleset" if "nft" in flags else "iptables-save"
    got = pod(f"{AGENT} iptables {flags} >/dev/null\n{show}\necho '## policy'\nip rule\nip route show table all | grep 'table 133' || true", family, tmp=tmp_path)
    now, _, ways = got.partition("## policy")
    want = re.sub(r"\[\d+:\d+\]", "[0:0]", rules)
    assert sorted(bare(re.sub(r"\[\d+:\d+\]", "[0:0]", now))) == sorted(bare(want))
    assert sorted(line.rstrip() for line in bare(ways)) == sorted(line.rstrip() for line in bare(routing))


FLAGS = "-p 15001 -z 15006 -u 1337 -g 1337 -i '*' -b '*' -d 15020"


def test_repeated_run_changes_nothing(tmp_path):
    save = "iptables-save | grep -v '^#' | sed 's/\\[.*//'"
    got = pod(f"{AGENT} iptables {FLAGS} -m REDIRECT >/dev/null; {save} >{tmp_path}/a; {AGENT} iptables {FLAGS} -m REDIRECT; {save} | cmp - {tmp_path}/a && echo same", tmp=tmp_path)
    assert "Found compatible residues" in got and "Running iptables restore" not in got and got.rstrip().endswith("same")


def test_reconcile_replaces_other_rules(tmp_path):
    got = pod(f"{AGENT} iptables {FLAGS} -m TPROXY >/dev/null; iptables -A INPUT -p icmp -j ACCEPT\n"
              f"{AGENT} iptables {FLAGS} -m REDIRECT -o 25 --reconcile >{tmp_path}/log; iptables-save", tmp=tmp_path)
    assert "TPROXY" not in got and "CONNMARK" not in got and "1338" not in got, got
    assert got.count("-A ISTIO_OUTPUT -j ISTIO_REDIRECT") == 1 and "--dport 25 -j RETURN" in got
    assert "-j DROP" not in got and "-A INPUT -p icmp -j ACCEPT" in got  # the guard is gone, what others wrote stays


@pytest.mark.parametrize("mode", ["-m REDIRECT", "-m TPROXY", "-m REDIRECT --redirect-dns --drop-invalid -c eth1", "-m TPROXY --native-nftables"])
def test_cleanup(mode, tmp_path):
    show = "iptables-save; ip6tables-save; ip rule; nft list ruleset"
    got = pod(f"{show}; echo =====; {AGENT} iptables {FLAGS} {mode} >/dev/null; {AGENT} iptables {FLAGS} {mode} --cleanup-only >/dev/null; {show}", tmp=tmp_path)
    before, _, after = got.partition("=====\n")
    assert "ISTIO" not in after and "1337" not in after and "istio" not in after, after
    assert [line for line in bare(after) if line.startswith("-A")] == [line for line in bare(before) if line.startswith("-A")]


@pytest.mark.parametrize("mode", ["", "--native-nftables"])
@pytest.mark.parametrize("family", ["4", "6", "46"])
def test_probe_finds_what_is_captured(mode, family, tmp_path):
    dual = "--dual-stack" if family == "46" else ""
    got = pod(f"{AGENT} iptables {FLAGS} -m REDIRECT {mode} {dual} --run-validation | tail -1", family, tmp=tmp_path)
    assert got.startswith("[info] Validation passed")


def test_probe_finds_what_is_not(tmp_path):
    got = pod(f"{AGENT} iptables {FLAGS} -m REDIRECT --skip-rule-apply --run-validation --probe-timeout 300ms 2>&1 || echo code $?", tmp=tmp_path)
    assert "connections are not captured" in got and got.rstrip().endswith("code 126")


@pytest.mark.parametrize("flag,why", [
    ("-p 0", 'envoy-port: "0" is no port'), ("-b 80,x", 'istio-inbound-ports: "x" is no port'), ("-i 10.0.0.0/33", "is no range of addresses"),
    ("-x '*'", "istio-service-exclude-cidr"), ("-m BOTH", "is no mode"), ("-c 'a b'", "is no interface"), ("-k 'tap0;reboot'", "is no interface"),
    ("-u '1 -j ACCEPT'", "is no user"), ("-t -1", "is no mark"), ("--force-iptables-binary old", "FORCE_IPTABLES_BINARY"), ("-o 70000", "is no port"),
    ("-c eth0\n-A", "is no interface"), ("--network-namespace /nowhere", "cannot open the network namespace /nowhere"),
])
def test_bad_settings_change_nothing(flag, why, tmp_path):
    name, _, value = flag.partition(" ")
    got = pod(f"iptables-save | sort >{tmp_path}/a; {AGENT} iptables {name} {shlex.quote(value.strip(chr(39)))} 2>&1 && exit 1; iptables-save | sort | cmp - {tmp_path}/a", tmp=tmp_path)
    assert "Error: " in got and why in got


@pytest.mark.parametrize("mode", ["", "--native-nftables"])
def test_a_proxy_that_is_known_by_its_group_alone(mode, tmp_path):
    """-u none: where it and the application are of one user, rules by user would keep its own calls of its pod from its inbound side (A4)."""
    got = pod(f"{AGENT} iptables {FLAGS} -m REDIRECT --redirect-dns -u none {mode} --dry-run", tmp=tmp_path)
    assert "uid" not in got.partition("CLEANUP_ONLY")[2] and "PROXY_UID=\nPROXY_GID=1337" in got
    assert ("-m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT" if not mode else "skgid 1337 counter jump istio-in-redirect") in got


def test_environment(tmp_path):
    got = pod(f"ENVOY_PORT=16001 ISTIO_INBOUND_PORTS=80 DRY_RUN=true ISTIO_OUTBOUND_OWNER_GROUPS=100,java INVALID_DROP=1 {AGENT} iptables -m REDIRECT", tmp=tmp_path)
    assert "PROXY_PORT=16001" in got and "--to-ports 16001" in got and "--dport 80 -j ISTIO_IN_REDIRECT" in got
    assert "-A ISTIO_OUTPUT -m owner ! --gid-owner 100 -m owner ! --gid-owner java -j RETURN" in got and "-A ISTIO_DROP -j DROP" in got


def state(tmp_path):
    return f"iptables-save | sed 's/\\[.*//'; ip6tables-save | sed 's/\\[.*//'; ip rule; ip -6 rule; ip route show table all; nft list ruleset; ls {tmp_path}"


@pytest.mark.parametrize("mode", ["-m REDIRECT", "-m TPROXY --dual-stack", "-m REDIRECT --redirect-dns --capture-all-dns --drop-invalid", "-m TPROXY --native-nftables",
                                  "-m REDIRECT --cleanup-only", "-m REDIRECT --reconcile"])
def test_h11_a_dry_run_changes_nothing(mode, tmp_path):
    """Neither where nothing is, nor where rules of other settings are."""
    got = pod(f"until ip -6 route show table local | grep -q fd00::10; do sleep 0.01; done; {state(tmp_path)}; echo =====; {AGENT} iptables {FLAGS} {mode} --dry-run >/dev/null; {state(tmp_path)}; echo =====\n"
              f"{AGENT} iptables {FLAGS} -m REDIRECT -o 25 >/dev/null; {state(tmp_path)}; echo =====; {AGENT} iptables {FLAGS} {mode} --dry-run >/dev/null; {state(tmp_path)}",
              "46", tmp=tmp_path)
    bare, after, ruled, still = ([line for line in part.splitlines() if not line.startswith("#")] for part in got.split("=====\n"))
    assert bare == after and ruled == still and bare != ruled


VALUES = ["1.2.3.4/32 -j ACCEPT", "$(reboot)", "`id`", "1.2.3.0/24;id", "1.2.3.0/24\n-A OUTPUT -j ACCEPT", "1.2.3.0/24' -j ACCEPT #", '10.0.0.0/8" ', "10.0.0.0/8\\"]


@pytest.mark.parametrize("flag", ["-i", "-x", "-b", "-u", "-g", "-k", "-c", "--native-nftables -i"])
def test_h11_values_do_not_leave_their_place(flag, tmp_path):
    tries = "".join(f"{AGENT} iptables {flag} {shlex.quote(v)} 2>&1 && exit 1\n" for v in VALUES)
    got = pod(f"iptables-save | sort >{tmp_path}/a\n{tries}iptables-save | sort | cmp - {tmp_path}/a", tmp=tmp_path)
    assert got.count("Error: ") == len(VALUES), got


WHO = """
import os, socket, sys, threading
own, far = socket.create_server(("127.0.0.1", 15001)), socket.create_server(("127.0.0.1", 8080))
got = []
def serve(s, name):
    while True:
        c, _ = s.accept()
        c.sendall(name)
        c.close()
for s, name in ((own, b"caught"), (far, b"free")):
    threading.Thread(target=serve, args=(s, name), daemon=True).start()
ids = [(0, 0), (1000, 1000), (1336, 1336), (1338, 1338), (65534, 65534), (1000, 1337), (1337, 1000), (1337, 1337)]
for uid, gid in ids:
    r, w = os.pipe()
    if os.fork() == 0:
        os.setgroups([1337])  # of the supplementary ones the kernel's match knows nothing
        os.setgid(gid)
        os.setuid(uid)
        try:
            s = socket.create_connection(("10.10.0.99", 80), 20)
            text = s.recv(16)
        except OSError as e:
            text = str(e).encode()
        os.write(w, text)
        os._exit(0)
    print(uid, gid, os.read(r, 100).decode(), flush=True)
    os.wait()
"""


LATE = "nft add table ip late; nft 'add chain ip late out { type nat hook output priority 0; }'; nft add rule ip late out ip daddr 10.10.0.99 tcp dport 80 redirect to :8080"


@pytest.mark.parametrize("mode", ["-m REDIRECT", "-m REDIRECT --native-nftables"])
def test_h11_the_proxys_user_is_the_only_way_past(mode, tmp_path):
    """Whom capture lets pass reaches port 8080 by a rule that stands behind its own."""
    (tmp_path / "who.py").write_text(WHO)
    got = pod(f"{AGENT} iptables {FLAGS} {mode} >/dev/null; {LATE}; {sys.executable} who.py", tmp=tmp_path)
    for line in got.splitlines():
        uid, gid, what = line.split(" ", 2)
        assert what == ("free" if "1337" in (uid, gid) else "caught"), got
    assert len(got.splitlines()) == 8
