/* What Istio's webhook refuses of DestinationRule, Gateway and PeerAuthentication: path and reason. */
#include "base/test.h"

#include <stdio.h>

#include "control/discovery/peer_double.h"

static char told[1000];

static void hear(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)line;
    (void)key;
    if (level == MZ_LEVEL_ERROR)
        (void)snprintf(told, sizeof(told), "%s", text);
}

static void drop(void *arg, struct mz_doc *d)
{
    (void)arg;
    mz_doc_unref(d);
}

static const struct {
    const char *kind, *spec, *error; /* "" none */
} cases[] = {
    { "DestinationRule", "{}", "spec.host: is required" },
    { "DestinationRule", "{host: a}", "" },
    { "DestinationRule", "{host: a, subsets: [{name: 'v 1'}]}",
      "spec.subsets[0].name: \"v 1\" is not a label" },
    { "DestinationRule", "{host: a, subsets: [{name: v1}, {name: v1}]}",
      "spec.subsets[1].name: duplicate subset names: v1" },
    { "DestinationRule", "{host: a, subsets: [{name: v1, trafficPolicy: {}}]}",
      "spec.subsets[0].traffic_policy: says nothing" },
    { "DestinationRule", "{host: a, trafficPolicy: {}}", "spec.traffic_policy: says nothing" },
    { "DestinationRule", "{host: a, exportTo: [n1, n2, n1]}",
      "spec.export_to[2]: \"n1\" stands twice" },
    { "DestinationRule", "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}}",
      "spec.traffic_policy.port_level_settings[0].port: must be a number in 1..65535" },
    { "DestinationRule", "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}",
      "spec.traffic_policy.port_level_settings[0]: says nothing" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL}}]}}",
      "spec.traffic_policy.port_level_settings[0].tls.client_certificate: is required" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, outlierDetection: "
      "{minHealthPercent: 101}}]}}",
      "spec.traffic_policy.port_level_settings[0].outlier_detection.min_health_percent: must be in "
      "0..100, is 101" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tunnel: {targetHost: a.b, targetPort: 80}, proxyProtocol: {}}}",
      "spec.traffic_policy: only one of tunnel and proxy_protocol can be set" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tunnel: {protocol: GET, targetHost: a.b, targetPort: 80}}}",
      "spec.traffic_policy.tunnel.protocol: must be CONNECT or POST" },
    { "DestinationRule", "{host: a, trafficPolicy: {tunnel: {targetHost: 'a b', targetPort: 80}}}",
      "spec.traffic_policy.tunnel.target_host: \"a b\" is neither a host nor an address" },
    { "DestinationRule", "{host: a, trafficPolicy: {tunnel: {targetHost: '::1'}}}",
      "spec.traffic_policy.tunnel.target_port: must be in 1..65535, is 0" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tunnel: {protocol: POST, targetHost: 10.0.0.1, targetPort: 80}}}",
      "" },
    { "DestinationRule", "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}",
      "spec.traffic_policy.connection_pool.tcp.max_connections: must not be negative, is -1" },
    { "DestinationRule", "{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}}",
      "spec.traffic_policy.connection_pool.tcp.connect_timeout: must be at least 1ms" },
    { "DestinationRule", "{host: a, trafficPolicy: {connectionPool: {http: {maxRetries: -2}}}}",
      "spec.traffic_policy.connection_pool.http.max_retries: must not be negative, is -2" },
    { "DestinationRule", "{host: a, trafficPolicy: {connectionPool: {http: {idleTimeout: 0s}}}}",
      "spec.traffic_policy.connection_pool.http.idle_timeout: must be at least 1ms" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: "
      "UPGRADE}}}}",
      "spec.traffic_policy.connection_pool.http.use_client_protocol: cannot be set with an upgrade "
      "of every connection" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: "
      "DO_NOT_UPGRADE}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}}",
      "spec.traffic_policy.connection_pool.http.http2_keep_alive.timeout: is required" },
    { "DestinationRule", "{host: a, trafficPolicy: {retryBudget: {percent: 101}}}",
      "spec.traffic_policy.retry_budget.percent: must be in 0..100" },
    { "DestinationRule", "{host: a, trafficPolicy: {retryBudget: {minRetryConcurrency: 1}}}", "" },
    { "DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {warmupDurationSecs: 0s}}}",
      "spec.traffic_policy.load_balancer.warmup_duration_secs: must be at least 1ms" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 1}}}",
      "spec.traffic_policy.outlier_detection.consecutive_local_origin_failures: needs "
      "split_external_local_origin_errors" },
    { "DestinationRule", "{host: a, trafficPolicy: {outlierDetection: {interval: 0s}}}",
      "spec.traffic_policy.outlier_detection.interval: must be at least 1ms" },
    { "DestinationRule", "{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: -1}}}",
      "spec.traffic_policy.outlier_detection.max_ejection_percent: must be in 0..100, is -1" },
    { "DestinationRule", "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}",
      "spec.traffic_policy.tls.client_certificate: is required" },
    { "DestinationRule", "{host: a, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: c}}}",
      "spec.traffic_policy.tls.private_key: is required" },
    { "DestinationRule", "{host: a, trafficPolicy: {tls: {mode: MUTUAL, credentialName: x}}}", "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: x, caCertificates: z}}}",
      "spec.traffic_policy.tls.credential_name: has the certificates: no others can be set" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: x, insecureSkipVerify: "
      "true}}}",
      "spec.traffic_policy.tls.insecure_skip_verify: nothing is verified: no ca_certificates, "
      "subject_alt_names, credential_name" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tls: {mode: MUTUAL, credentialName: x, insecureSkipVerify: "
      "true}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {tls: {mode: MUTUAL, credentialName: x, insecureSkipVerify: true, "
      "subjectAltNames: [a]}}}",
      "spec.traffic_policy.tls.insecure_skip_verify: nothing is verified: no ca_certificates, "
      "subject_alt_names" },
    { "DestinationRule", "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}", "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.http_cookie.name: is required" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: "
      "[{name: A}, {name: A}]}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.http_cookie.attributes[1].name: \"A\" "
      "stands twice" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: "
      "[{value: x}]}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.http_cookie.attributes[0].name: is "
      "required" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, "
      "minimumRingSize: 8, ringHash: {}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.minimum_ring_size: cannot be set with "
      "ring_hash or maglev" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 0}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.maglev.table_size: must be a prime number "
      "below 5000011" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 1}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.maglev.table_size: must be a prime number "
      "below 5000011" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 65536}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.maglev.table_size: must be a prime number "
      "below 5000011" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 65537}}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 4999999}}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
      "{tableSize: 5000011}}}}}",
      "spec.traffic_policy.load_balancer.consistent_hash.maglev.table_size: must be a prime number "
      "below 5000011" },
    { "DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {warmup: {}}}}",
      "spec.traffic_policy.load_balancer.warmup.duration: is required" },
    { "DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 0s}}}}",
      "spec.traffic_policy.load_balancer.warmup.duration: must be at least 1ms" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}}",
      "spec.traffic_policy.load_balancer.warmup.minimum_percent: must be at most 100" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s, aggression: 0}}}}",
      "spec.traffic_policy.load_balancer.warmup.aggression: must be greater than 0" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: "
      "100}}], failover: [{from: a, to: b}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting: only one of distribute and failover "
      "can be set" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: "
      "100}}], failoverPriority: [x]}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: "
      "40, c: 61}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[0].to: the shares together "
      "are 101, not 100" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: "
      "0, c: 100}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[0].to: a share is in "
      "1..100" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/b, to: "
      "{a/b/c: 50, 'a/b/*': 50}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[0].to: \"a/b/c\" and "
      "\"a/b/*\" overlap" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/b, to: "
      "{a/b: 50, a/bc: 50}}]}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: 'a/*', to: "
      "{a: 100}}, {from: a/b, to: {a: 100}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[1].from: \"a/b\" overlaps "
      "with \"a/*\"" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/b, to: "
      "{a: 100}}, {from: '*', to: {a: 100}}]}}}}",
      "" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: "
      "{a: 100}}, {from: a/b, to: {a: 100}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[1].from: \"a/b\" overlaps "
      "with \"*\"" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: '*/b', to: "
      "{a: 100}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[0].from: \"*/b\": only the "
      "last part can be a wildcard" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a//b, to: "
      "{a: 100}}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.distribute[0].from: \"a//b\" has an "
      "empty part" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: "
      "a}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.failover[0]: \"a\" cannot fail over "
      "to itself" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: "
      "b/c}]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.failover[0]: regions only, without "
      "wildcards" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], "
      "failoverPriority: [topology.kubernetes.io/zone]}}}}",
      "spec.traffic_policy.load_balancer.locality_lb_setting.failover_priority[0]: "
      "\"topology.kubernetes.io/zone\" cannot be set with failover" },
    { "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], "
      "failoverPriority: [version]}}}}",
      "" },
    { "Gateway", "{}", "spec.servers: needs at least one" },
    { "Gateway", "{servers: [{hosts: ['*']}]}", "spec.servers[0].port: is required" },
    { "Gateway", "{servers: [{port: {number: 70000, name: p, protocol: HTTP}, hosts: ['*']}]}",
      "spec.servers[0].port.number: must be in 1..65535, is 70000" },
    { "Gateway", "{servers: [{port: {number: 80, name: p, protocol: UDP}, hosts: ['*']}]}",
      "spec.servers[0].port.protocol: \"UDP\" is not served at gateways" },
    { "Gateway", "{servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]}",
      "spec.servers[0].port.name: is required" },
    { "Gateway", "{servers: [{port: {number: 80, name: p, protocol: HTTP}}]}",
      "spec.servers[0].hosts: needs at least one" },
    { "Gateway", "{servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ['a/b/c']}]}",
      "spec.servers[0].hosts[0]: \"a/b/c\" is neither a host nor namespace/host" },
    { "Gateway",
      "{servers: [{port: {number: 80, name: p, protocol: HTTP}, bind: here, hosts: ['*']}]}",
      "spec.servers[0].bind: \"here\" is not an IP address" },
    { "Gateway", "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*']}]}",
      "spec.servers[0].tls: is required of HTTPS and TLS" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE}}]}",
      "spec.servers[0].tls: needs credential_name, tls_certificates, or server_certificate and "
      "private_key" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE, credentialNames: [a, b]}}]}",
      "" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE, credentialName: a, credentialNames: [b]}}]}",
      "spec.servers[0].tls: only one of credential_name, credential_names, tls_certificates and "
      "server_certificate with private_key can be set" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE, credentialName: a, serverCertificate: b, privateKey: c}}]}",
      "spec.servers[0].tls: only one of credential_name, credential_names, tls_certificates and "
      "server_certificate with private_key can be set" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "MUTUAL, serverCertificate: b, privateKey: c}}]}",
      "spec.servers[0].tls.ca_certificates: is required" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "ISTIO_MUTUAL, caCertificates: c}}]}",
      "spec.servers[0].tls: ISTIO_MUTUAL has the mesh's certificates and no others" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "ISTIO_MUTUAL}}]}",
      "" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}}]}",
      "spec.servers[0].tls.min_protocol_version: is above the highest" },
    { "Gateway",
      "{servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
      "SIMPLE, credentialName: a, httpsRedirect: true}}]}",
      "" }, /* it is warned of */
    { "Gateway",
      "{servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: "
      "true}}]}",
      "" },
    { "Gateway",
      "{servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ['*'], tls: {mode: SIMPLE, "
      "credentialName: a}}]}",
      "spec.servers[0].tls: plain HTTP can only be redirected" },
    { "Gateway",
      "{servers: [{port: {number: 9000, name: p, protocol: TCP}, hosts: ['*'], tls: {mode: SIMPLE, "
      "credentialName: a}}]}",
      "spec.servers[0].tls: needs a port of HTTPS or TLS" },
    { "Gateway",
      "{servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ['*']}, {port: {number: 80, "
      "name: p, protocol: HTTP}, hosts: ['*']}]}",
      "spec.servers[1].port.name: \"p\" stands twice" },
    { "PeerAuthentication", "{portLevelMtls: {80: {mode: STRICT}}}",
      "spec.port_level_mtls: needs a selector" },
    { "PeerAuthentication", "{portLevelMtls: {}}", "spec.port_level_mtls: needs at least one" },
    { "PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
      "spec.port_level_mtls: needs at least one" },
    { "PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}",
      "spec.port_level_mtls: 0 is no port" },
    { "PeerAuthentication",
      "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}}}", "" },
};

static void test_rules(void **state)
{
    (void)state;
    const struct mz_doc_reader r = { MZ_STR("f"), drop, hear, NULL };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[700];
        (void)snprintf(text, sizeof(text),
                       "apiVersion: %s.istio.io/v1\nkind: %s\nmetadata: {name: x, "
                       "namespace: demo}\nspec: %s\n",
                       strcmp(cases[i].kind, "PeerAuthentication") == 0 ? "security" : "networking",
                       cases[i].kind, cases[i].spec);
        told[0] = 0;
        mz_doc_read_text(&r, mz_str_c(text), MZ_TEXT_YAML);
        if (strcmp(told, cases[i].error) != 0)
            fail_msg("%s %s: \"%s\"", cases[i].kind, cases[i].spec, told);
    }
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rules) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
