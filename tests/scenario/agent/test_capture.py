"""`mizzen-agent iptables` (A4): prints and applies what Istio's own tool does, each case of tests/conformance/istio/iptables in a network namespace of its own."""
import os
import pathlib
import re
import shlex

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


def test_environment(tmp_path):
    got = pod(f"ENVOY_PORT=16001 ISTIO_INBOUND_PORTS=80 DRY_RUN=true ISTIO_OUTBOUND_OWNER_GROUPS=100,java INVALID_DROP=1 {AGENT} iptables -m REDIRECT", tmp=tmp_path)
    assert "PROXY_PORT=16001" in got and "--to-ports 16001" in got and "--dport 80 -j ISTIO_IN_REDIRECT" in got
    assert "-A ISTIO_OUTPUT -m owner ! --gid-owner 100 -m owner ! --gid-owner java -j RETURN" in got and "-A ISTIO_DROP -j DROP" in got
