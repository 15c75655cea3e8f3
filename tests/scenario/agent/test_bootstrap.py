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
    assert got["stats_flush_interval"] == "10s"


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


def cluster(got, name):
    return next(c for c in got["static_resources"]["clusters"] if c["name"] == name)


def asked(name):
    """A secret of the agent's socket."""
    return {"name": name, "sds_config": {"api_config_source": {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
                                                               "set_node_on_first_message_only": True, "transport_api_version": "V3"}, "resource_api_version": "V3"}}


def test_services_that_are_told_of_requests_and_numbers(tmp_path):
    """Their clusters, by TLS where the ProxyConfig says so, and the sinks and tracers that use them."""
    write(tmp_path, annotations={})
    env = {**BASE, "PROXY_CONFIG": """
tracing: {datadog: {address: "localhost:8126"}, tlsSettings: {mode: SIMPLE, caCertificates: /etc/dd/ca.pem, sni: dd.example, subjectAltNames: [one, two]}}
statsdUdpAddress: 10.1.1.1:9125
envoyMetricsService:
  address: metrics:15000
  tlsSettings: {mode: MUTUAL, clientCertificate: /etc/ms/client.pem, privateKey: /etc/ms/key.pem, caCertificates: /etc/ms/ca.pem}
  tcpKeepalive: {probes: 3, time: 10s, interval: 5s}
envoyAccessLogService: {address: "als:15000", tlsSettings: {mode: ISTIO_MUTUAL}}
""", "ISTIO_META_LOAD_STATS_CONFIG_JSON": '{"api_type": "GRPC"}', "COMPLIANCE_POLICY": "fips-140-2"}
    got = bootstrap(tmp_path, env=env)
    assert [s["name"] for s in got["stats_sinks"]] == ["envoy.stat_sinks.metrics_service", "envoy.stat_sinks.statsd"]
    assert got["stats_sinks"][1]["typed_config"]["address"] == {"socket_address": {"address": "10.1.1.1", "port_value": 9125}}
    assert got["tracing"]["http"]["typed_config"]["collector_cluster"] == "datadog_agent" and got["tracing"]["http"]["typed_config"]["service_name"] == "shop.demo"
    dd, ms, als = (cluster(got, n)["transport_socket"]["typed_config"] for n in ("datadog_agent", "envoy_metrics_service", "envoy_accesslog_service"))
    assert dd["sni"] == "dd.example" and dd["common_tls_context"] == {"combined_validation_context": {
        "default_validation_context": {"match_subject_alt_names": [{"exact": "one"}, {"exact": "two"}]}, "validation_context_sds_secret_config": asked("file-root:/etc/dd/ca.pem")}}
    assert ms["common_tls_context"]["alpn_protocols"] == ["h2"] and "sni" not in ms
    assert ms["common_tls_context"]["tls_certificate_sds_secret_configs"] == [asked("file-cert:/etc/ms/client.pem~/etc/ms/key.pem")]
    assert cluster(got, "envoy_metrics_service")["upstream_connection_options"]["tcp_keepalive"] == {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}
    assert als["sni"] == "envoy_accesslog_service" and als["common_tls_context"]["alpn_protocols"] == ["istio", "h2"]
    assert als["common_tls_context"]["combined_validation_context"]["validation_context_sds_secret_config"] == asked("ROOTCA")
    assert got["cluster_manager"]["load_stats_config"] == {"api_type": "GRPC"}
    assert got["layered_runtime"]["layers"][0]["static_layer"]["envoy.reloadable_features.google_grpc_disable_tls_13"] is True
    (tmp_path / "b.json").write_text(json.dumps(got))
    assert "OK" in pod(f"{AGENT.with_name('mizzen-proxy')} -c b.json --mode validate --allow-unknown-static-fields 2>&1", tmp=tmp_path)


def test_metrics_for_clients_of_the_mesh(tmp_path):
    """ENVOY_SECURE_*_PORT: by mutual TLS with the workload's own certificate."""
    write(tmp_path, annotations={})
    got = bootstrap(tmp_path, env={**BASE, "ENVOY_SECURE_METRICS_PORT": "15091", "ENVOY_SECURE_MERGED_METRICS_PORT": "15092"})
    assert got["node"]["metadata"]["ENVOY_SECURE_METRICS_PORT"] == 15091
    assert [x["name"] for x in got["static_resources"]["listeners"]] == ["0.0.0.0_15090", "0.0.0.0_15091", "0.0.0.0_15092", "0.0.0.0_15021"]
    for listener, paths in zip(got["static_resources"]["listeners"][1:3], ({"/stats/prometheus": "prometheus_stats"}, {"/stats/prometheus": "agent", "/metrics": "agent"})):
        chain = listener["filter_chains"][0]
        tls = chain["transport_socket"]["typed_config"]
        assert chain["filter_chain_match"] == {"transport_protocol": "tls"} and tls["require_client_certificate"] is True
        assert tls["common_tls_context"]["tls_certificate_sds_secret_configs"] == [asked("default")]
        routes = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
        assert {r["match"]["prefix"]: r["route"]["cluster"] for r in routes} == paths


def test_proxies_start_with_it(tmp_path):
    write(tmp_path)
    (tmp_path / "b.json").write_text(json.dumps(bootstrap(tmp_path, env=BASE)))
    assert "OK" in pod(f"{AGENT.with_name('mizzen-proxy')} -c b.json --mode validate 2>&1", tmp=tmp_path)


@pytest.mark.parametrize("args,env,why", [
    ("gateway", {}, 'invalid proxy type "gateway"'), ("sidecar more", {}, 'unexpected argument "more"'),
    ("sidecar", {"PROXY_CONFIG": "a: [b"}, "PROXY_CONFIG"), ("sidecar", {"PROXY_CONFIG": "- 1"}, "is no ProxyConfig"),
    ("sidecar --drainDuration soon", {}, "drainDuration"), ("sidecar --zipkinAddress nowhere", {}, 'tracing.zipkin.address: "nowhere" is no host:port'),
    ("sidecar --concurrency many", {}, 'invalid argument "many"'), ("sidecar --meshConfig /", {}, "cannot read /"),
    ("sidecar", {"PROXY_CONFIG": "tracing: {zipkin: {address: 'z:1'}, tlsSettings: {mode: OFTEN}}"}, 'tracing.tls_settings.mode: "OFTEN" is none of DISABLE'),
    ("sidecar", {"PROXY_CONFIG": "statsdUdpAddress: nowhere"}, 'statsd_udp_address: "nowhere" is no host:port'),
    ("sidecar", {"ISTIO_BOOTSTRAP_OVERRIDE": "none.yaml"}, "there is no none.yaml"),
])
def test_bad_input(args, env, why, tmp_path):
    assert why in pod(f"{AGENT} bootstrap {args}", tmp=tmp_path, env={**BASE, **env}, code=1)
