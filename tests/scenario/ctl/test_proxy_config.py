"""mizzenctl proxy-config: columns, flags and exit codes of the field's tool, from a file and from a live proxy (O4, P9)."""
import base64
import json
import pathlib
import subprocess

import pytest
import yaml

import config
import ctl
from wire import free_port

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
ISTIO = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio"
PROXY = ISTIO / "cases" / "bookinfo-stock-envoy" / "productpage"
DUMP, CLUSTERS = PROXY / "envoy-config_dump.json", PROXY / "envoy-clusters.json"


@pytest.mark.parametrize("golden, args", [
    ("listeners", ["listeners"]),
    ("listeners-port-9080", ["l", "--port", "9080"]),
    ("clusters", ["cluster"]),
    ("clusters-fqdn-reviews", ["clusters", "--fqdn=reviews.default.svc.cluster.local"]),
    ("routes", ["route"]),
    ("routes-name-9080", ["routes", "--name", "9080", "-oshort"]),
    ("endpoints", ["endpoints"]),
    ("endpoints-cluster-v2", ["ep", "--cluster", "outbound|9080|v2|reviews.default.svc.cluster.local"]),
    ("secret", ["secret"]),
    ("all", ["all"]),
])
def test_tables_are_those_of_the_fields_tool(golden, args):
    p = ctl.run("proxy-config", *args, "-f", CLUSTERS if golden.startswith("endpoints") else DUMP)
    assert p.returncode == 0, p.stderr
    want = (ISTIO / "cli" / f"{golden}.txt").read_text()
    if golden in ("secret", "all"):  # whether a certificate is valid now depends on when that is
        want, p.stdout = (t.replace(" true ", " ? ").replace(" false", " ?") for t in (want, p.stdout))
    assert p.stdout == want


def test_bootstrap_has_the_names_of_messages_and_leaves_data_alone():
    want = json.loads((ISTIO / "cli" / "bootstrap.txt").read_text())
    assert json.loads(ctl.run("pc", "b", "--file", DUMP).stdout) == want
    assert yaml.safe_load(ctl.run("pc", "bootstrap", "-o", "yaml", "-f", DUMP).stdout) == want


@pytest.mark.parametrize("kind", ["cluster", "listener", "route"])
def test_json_and_yaml_say_the_same(kind):
    found = json.loads(ctl.run("pc", kind, "-o", "json", "-f", DUMP).stdout)
    assert found == yaml.safe_load(ctl.run("pc", kind, "-o", "yaml", "-f", DUMP).stdout)
    assert {r.get("name", "") for r in found} > {"xds-grpc"} if kind == "cluster" else len(found) > 5
    assert not any("_" in k for r in found for k in r)


def dump(kind, **lists):
    return {"@type": f"type.googleapis.com/envoy.admin.v3.{kind}", **lists}


def through(*args, parts):
    p = ctl.run("proxy-config", *args, "-f", "-", text=json.dumps({"configs": parts}))
    assert p.returncode == 0, p.stderr
    return p.stdout


def test_assignments_hold_the_endpoints_that_were_asked_for():
    def assignment(name, *ports):
        address = "1.2.3.4"
        return {"endpoint_config": {"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": address, "port_value": p}}}}]} for p in ports]}}

    parts = [dump("EndpointsConfigDump", dynamic_endpoint_configs=[assignment("outbound|80||b.test", 80, 81), assignment("outbound|80||a.test", 80)],
                  static_endpoint_configs=[assignment("none")])]
    names = [a["clusterName"] for a in json.loads(through("eds", "-o", "json", parts=parts))]
    assert names == ["outbound|80||a.test", "outbound|80||b.test"]  # sorted; without endpoints: left out
    found = json.loads(through("eds", "-o", "json", "--port", "81", parts=parts))
    assert [a["clusterName"] for a in found] == ["outbound|80||b.test"] and "portValue\": 80" not in json.dumps(found)
    assert "address: 1.2.3.4\n" in through("eds", "-o", "yaml", parts=parts)


def test_extensions_of_several_parts():
    def one(name):
        return {"ecds_filter": {"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {"vm_config": {"environment_variables": {"key_values": {"A_B": "1"}}}}}}}

    parts = [dump("EcdsConfigDump"), dump("EcdsConfigDump", ecds_filters=[one("b")]), dump("EcdsConfigDump", ecds_filters=[one("a"), one("c")])]
    assert [line.split()[0] for line in through("ecds", parts=parts).splitlines()[1:]] == ["a", "b", "c"]
    text = through("ecds", "-o", "json", parts=parts)
    assert len(json.loads(text)["ecdsFilters"]) == 3 and '"A_B": "1"' in text and "environmentVariables" in text


def test_roots_of_several_trust_domains(tmp_path):
    key, cert = tmp_path / "k", tmp_path / "c"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ca", "-days", "2",
                    "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", key, "-out", cert], check=True, capture_output=True)
    coded = base64.b64encode(cert.read_bytes()).decode()
    validator = {"name": "envoy.tls.cert_validator.spiffe", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
        "trust_domains": [{"name": n, "trust_bundle": {"inline_bytes": coded}} for n in ("east.test", "west.test")]}}
    secret = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "ROOTCA",
              "validation_context": {"trusted_ca": {}, "custom_validator_config": validator}}
    parts = [dump("SecretsConfigDump", dynamic_active_secrets=[{"name": "ROOTCA", "secret": secret}])]
    head, *rows = through("secret", parts=parts).splitlines()
    assert head.endswith("TRUST DOMAIN") and [r.split()[:4] for r in rows] == [["ROOTCA", "CA", "ACTIVE", "true"]] * 2
    assert [r.split()[-1] for r in rows] == ["east.test", "west.test"]


def test_a_dump_comes_through_standard_input():
    assert ctl.run("pc", "l", "-f", "-", text=DUMP.read_text()).stdout == (ISTIO / "cli" / "listeners.txt").read_text()


@pytest.mark.parametrize("args, code, text", [
    (["pc", "cluster"], 1, "cluster requires a pod, the address of a proxy or --file parameter"),
    (["pc", "cluster", "-f", DUMP, "127.0.0.1:1"], 1, "cluster requires a pod, the address of a proxy or --file parameter"),
    (["pc", "cluster", "-f", DUMP, "-o", "xml"], 1, 'output format "xml" not supported'),
    (["pc", "cluster", "--no-such"], 64, "unknown flag: --no-such"),
    (["pc", "cluster", "-z"], 64, "unknown shorthand flag: 'z' in -z"),
    (["pc", "cluster", "--port", "many"], 64, 'invalid argument "many" for "--port" flag'),
    (["pc", "cluster", "--port"], 64, "flag needs an argument: --port"),
    (["pc", "frob"], 64, 'unknown command "frob" for "proxy-config"'),
    (["frob"], 64, 'unknown command "frob" for "mizzenctl"'),
    (["pc", "cluster", "-f", "/no/such"], 1, "/no/such: No such file or directory"),
    (["pc", "secret", "-f", CLUSTERS], 1, "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump"),
    (["pc", "log", "127.0.0.1:1", "--level", "info", "--reset"], 1, "--level cannot be combined with --reset"),
    (["completion", "tcsh"], 1, "completion requires the name of a shell"),
])
def test_what_is_wrong_with_a_command_line(args, code, text):
    p = ctl.run(*args)
    assert (p.returncode, p.stdout) == (code, "")
    assert p.stderr.startswith("Error: ") and text in p.stderr


@pytest.mark.parametrize("data", ["", "[]", "{", '{"configs": 7}', '{"configs": [{"@type": "x.ClustersConfigDump", "static_clusters": [{"cluster": {"name": 7}}]}]}',
                                  '{"a":' * 10000, '{"configs": [null, 1, "a", {"@type": 7}]}'], ids=range(7))
@pytest.mark.parametrize("kind", ["all", "cluster", "listener", "route", "endpoint", "secret", "bootstrap"])
def test_foreign_dumps_are_errors_and_no_crash(kind, data):
    assert ctl.run("pc", kind, "-f", "-", text=data).returncode in (0, 1)


# ---- live ----

@pytest.fixture(scope="module")
def px(shared_mesh):
    up = shared_mesh.upstream()
    return shared_mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [config.hcm([config.route()])])],
                                                   [config.cluster("up", [up.port])], free_port()))


def test_a_live_proxy_is_asked(px):
    where = f"127.0.0.1:{px.admin_port}"
    assert [line.split()[0] for line in ctl.run("pc", "c", where).stdout.splitlines()] == ["SERVICE", "up"]
    assert "Inline Route" in ctl.run("pc", "l", f"http://{where}/").stdout or "Cluster: up" in ctl.run("pc", "l", where).stdout
    assert [line.split()[1:] for line in ctl.run("pc", "endpoint", where).stdout.splitlines()[1:]] == [["HEALTHY", "OK", "up"]]
    assert "127.0.0.1" in ctl.run("pc", "eds", "127.0.0.1", "--proxy-admin-port", px.admin_port).stdout
    everything = ctl.run("pc", "all", where)
    assert everything.returncode == 0 and "cluster/up" in everything.stdout
    assert "configs" in json.loads(ctl.run("pc", "all", where, "-o", "json").stdout)


def test_levels_of_a_live_proxy_are_shown_and_set(px):
    where = f"127.0.0.1:{px.admin_port}"
    assert f"{where}:\nactive loggers:\n" in ctl.run("pc", "log", where).stdout
    ctl.run("pc", "log", where, "--level", "http:debug,router:trace")
    shown = ctl.run("pc", "log", where).stdout
    assert "http: debug" in shown and "router: trace" in shown
    shown = ctl.run("pc", "log", where, "-r").stdout
    assert "http: warning" in shown and "router: warning" in shown
    assert "unrecognized logging level: loud" in ctl.run("pc", "log", where, "--level", "loud").stderr
    assert "unrecognized logger name" in ctl.run("pc", "log", where, "--level", "a&b:info").stderr


def test_nobody_answers():
    p = ctl.run("pc", "c", f"127.0.0.1:{free_port()}")
    assert p.returncode == 1 and "Connection refused" in p.stderr


def test_an_answer_that_is_none(px):
    p = ctl.run("pc", "log", f"127.0.0.1:{px.admin_port}", "--level", "no_such_logger:info")
    assert p.returncode == 1 and "answered 400" in p.stderr


# ---- the small ones ----

def test_version():
    line = ctl.run("version").stdout
    assert line.startswith("client version: ") and len(line.split()) == 3
    p = ctl.run("version", "--remote=false", "--control-plane", "127.0.0.1:1")
    assert (p.returncode, p.stdout) == (0, line)
    assert ctl.run("version", "--remote", "--control-plane", "127.0.0.1:1").returncode == 1
    assert json.loads(ctl.run("version", "-o", "json").stdout)["clientVersion"]["version"] == line.split()[2]


def test_completion_of_bash_completes():
    script = ctl.run("completion", "bash").stdout + '\nCOMP_WORDS=(mizzenctl proxy-config cl); COMP_CWORD=2; _mizzenctl; echo "${COMPREPLY[@]}"\n'
    p = subprocess.run(["bash"], input=script, capture_output=True, text=True, timeout=30)
    assert p.stdout == "cluster\n", p.stderr
    assert "#compdef mizzenctl" in ctl.run("completion", "zsh").stdout
    assert "complete -c mizzenctl" in ctl.run("completion", "fish").stdout


def test_help_names_every_command_and_flag():
    assert "proxy-config" in ctl.run("--help").stdout
    assert "cluster" in ctl.run("pc", "--help").stdout
    assert "--fqdn" in ctl.run("pc", "cluster", "--help").stdout
