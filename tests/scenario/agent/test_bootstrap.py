"""`mizzen-agent bootstrap` (A1): what a proxy is started with, against what Istio's agent wrote for the same environment."""
import gzip
import json
import os
import pathlib
import shlex

import pytest

from agent import AGENT, pod

FOLDER = pathlib.Path(__file__).parents[2] / "conformance/istio"
RENDERED = json.loads(gzip.decompress((FOLDER / "bootstrap.json.gz").read_bytes()))
LABELS = {"app": "shop", "version": "v1", "service.istio.io/canonical-name": "shop", "service.istio.io/canonical-revision": "v1",
          "security.istio.io/tlsMode": "istio", "pod-template-hash": "5d7c"}
ANNOTATIONS = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")


def write(folder, labels=LABELS, annotations=ANNOTATIONS):
    info = folder / "etc/istio/pod"
    info.mkdir(parents=True, exist_ok=True)
    for name, values in (("labels", labels), ("annotations", annotations)):
        (info / name).write_text("".join(f"{k}={json.dumps(v)}\n" for k, v in values.items()))


def environment(case):
    return dict(shlex.split(line)[0].split("=", 1) for line in (FOLDER / "bootstrap" / case / "env.txt").read_text().splitlines())


def arguments(case):
    lines = dict(line.split(" arguments: ", 1) for line in (FOLDER / "bootstrap" / case / "command.txt").read_text().splitlines())
    return lines["agent"].removeprefix("proxy "), lines["proxy"]


def bootstrap(tmp, args="sidecar", env=None, family="4"):
    return json.loads(pod(f"{AGENT} bootstrap {args}", family, tmp=tmp, env=env))


@pytest.mark.parametrize("case", sorted(RENDERED))
def test_as_istio(case, tmp_path):
    write(tmp_path)
    env, (agent, proxy) = environment(case), arguments(case)
    family = "6" if case == "sidecar-ipv6" else "4"
    got = bootstrap(tmp_path, agent, env, family)
    assert got == RENDERED[case]
    command = pod(f"{AGENT} bootstrap {agent} --command", family, tmp=tmp_path, env=env)
    assert command.split()[1:] == proxy.split()


BASE = {"POD_NAME": "a-1", "POD_NAMESPACE": "demo", "INSTANCE_IP": "10.10.0.10", "SERVICE_ACCOUNT": "a"}


def test_sources_in_their_order(tmp_path):
    """File, PROXY_CONFIG, annotation, flag: each over the one before; proxyMetadata is joined."""
    write(tmp_path, annotations={"proxy.istio.io/config": "concurrency: 3\nproxyMetadata:\n  ISTIO_META_C: three\n", "status.sidecar.istio.io/port": "16020"})
    (tmp_path / "mesh").write_text("defaultConfig:\n  concurrency: 1\n  drainDuration: 9s\n  discovery_address: one:1\n  proxyMetadata: {ISTIO_META_A: one}\n")
    env = {**BASE, "PROXY_CONFIG": "concurrency: 2\ndiscoveryAddress: two:2\nproxyMetadata: {ISTIO_META_B: two}\n"}
    meta = bootstrap(tmp_path, "sidecar --meshConfig mesh --proxyAdminPort 16000", env)["node"]["metadata"]
    config = meta["PROXY_CONFIG"]
    assert (config["concurrency"], config["drainDuration"], config["discoveryAddress"], config["statusPort"]) == (3, "9s", "two:2", 16020)
    assert (meta["A"], meta["B"], meta["C"]) == ("one", "two", "three") and meta["PILOT_SAN"] == ["two"]
    assert str(config["proxyAdminPort"]) == "16000"


def test_statistics(tmp_path):
    write(tmp_path, annotations={"sidecar.istio.io/statsInclusionPrefixes": "http.{pod_ip}_,cluster.outbound", "sidecar.istio.io/extraStatTags": "who,what",
                                 "sidecar.istio.io/statsHistogramBuckets": '{"istio": [1, 5], "cluster": [2]}', "sidecar.istio.io/statsFlushInterval": "10s"})
    env = {**BASE, "PROXY_CONFIG": "extraStatTags: [who]\nproxyStatsMatcher: {inclusionRegexps: ['.*rq.*']}\n"}
    got = bootstrap(tmp_path, env=env)
    patterns = got["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert [p["prefix"] for p in patterns[:4]] == ["reporter=", "http.10.10.0.10_", "cluster.outbound", "cluster_manager"]
    assert {"safe_regex": {"regex": ".*rq.*"}} in patterns
    tags = [t for t in got["stats_config"]["stats_tags"] if t["tag_name"] in ("who", "what")]
    assert tags == [{"tag_name": n, "regex": f"({n}=\\.=(.*?);\\.;)"} for n in ("who", "what")]
    assert [b["match"]["prefix"] for b in got["stats_config"]["histogram_bucket_settings"]] == ["cluster", "istio"]
    assert got["stats_flush_interval"] == "10.000s"


def test_dual_stack_tracing_and_options(tmp_path):
    write(tmp_path)
    env = {**BASE, "ISTIO_DUAL_STACK": "true", "HOST_IP": "192.168.1.1", "ENVOY_PROMETHEUS_PORT": "16090", "ISTIO_METAJSON_X": '{"one": {"two": 2}}',
           "PROXY_CONFIG": "tracing: {zipkin: {address: '$(HOST_IP):9411'}}\nstatsCompression: false\nruntimeValues: {a.b: 'true', re2.max_program_size.error_level: ''}\n"}
    got = bootstrap(tmp_path, "router --outlierLogPath /dev/stdout", env, "46")
    zipkin = [c for c in got["static_resources"]["clusters"] if c["name"] == "zipkin"][0]
    assert zipkin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] == {"address": "192.168.1.1", "port_value": 9411}
    assert zipkin["dns_lookup_family"] == "ALL" and got["tracing"]["http"]["name"] == "envoy.tracers.zipkin"
    metrics = got["static_resources"]["listeners"][0]
    assert metrics["name"] == "0.0.0.0_16090" and metrics["additional_addresses"][0]["address"]["socket_address"]["address"] == "::"
    assert [f["name"] for f in metrics["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]] == ["envoy.filters.http.router"]
    static = got["layered_runtime"]["layers"][0]["static_layer"]
    assert static["a.b"] is True and "re2.max_program_size.error_level" not in static
    assert got["cluster_manager"] == {"outlier_detection": {"event_log_path": "/dev/stdout"}, "enable_deferred_cluster_creation": True}
    assert got["node"]["metadata"]["one"] == {"two": 2} and got["node"]["metadata"]["INSTANCE_IPS"] == "10.10.0.10,fd00::10"


def test_proxies_start_with_it(tmp_path):
    write(tmp_path)
    (tmp_path / "b.json").write_text(json.dumps(bootstrap(tmp_path, env=BASE)))
    assert "OK" in pod(f"{AGENT.with_name('mizzen-proxy')} -c b.json --mode validate 2>&1", tmp=tmp_path)


@pytest.mark.parametrize("args,env,why", [
    ("gateway", {}, 'invalid proxy type "gateway"'), ("sidecar more", {}, 'unexpected argument "more"'),
    ("sidecar", {"PROXY_CONFIG": "a: [b"}, "PROXY_CONFIG"), ("sidecar", {"PROXY_CONFIG": "- 1"}, "is no ProxyConfig"),
    ("sidecar --drainDuration soon", {}, "drainDuration"), ("sidecar --zipkinAddress nowhere", {}, 'tracing.zipkin.address: "nowhere" is no host:port'),
    ("sidecar --concurrency many", {}, 'invalid argument "many"'), ("sidecar --meshConfig /", {}, "cannot read /"),
    ("sidecar", {"PROXY_CONFIG": "tracing: {zipkin: {address: 'z:1'}, tlsSettings: {mode: SIMPLE}}"}, "tracing.tls_settings: not supported"),
    ("sidecar", {"ISTIO_BOOTSTRAP_OVERRIDE": "none.yaml"}, "there is no none.yaml"),
])
def test_bad_input(args, env, why, tmp_path):
    assert why in pod(f"{AGENT} bootstrap {args}", tmp=tmp_path, env={**BASE, **env}, code=1)
