/* Settings of the mesh, of DestinationRules and of services, as the resources that they change show them. */
#include "control/translate/settings_double.h"

#include "control/analyze/check.h"

#define NODE                                                                                       \
    "{id: sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local, metadata: {LABELS: {app: web}}, "    \
    "locality: {region: r1, zone: z1}}"
#define GATEWAY                                                                                    \
    "{id: router~10.1.0.2~gate-0.demo~demo.svc.cluster.local, metadata: {LABELS: {app: gate}}}"
#define WEB DOUBLE_SERVICE("web", "80", "10.1.0.1")
#define OUT "outbound|80||web.demo.svc.cluster.local"
#define RULE(spec)                                                                                 \
    WEB "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, "   \
        "namespace: demo}\n"                                                                       \
        "spec: {host: web, " spec "}\n"
#define TO_SUBSET                                                                                  \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, "        \
    "namespace: demo}\nspec: {hosts: [web], http: [{route: [{destination: {host: web, subset: "    \
    "v1, port: {number: 80}}}]}]}\n"
#define SERVER(more)                                                                               \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "demo}\n"                                                                                      \
    "spec: {selector: {app: gate}, servers: [{hosts: ['*'], port: {number: 443, name: https, "     \
    "protocol: HTTPS}, " more "}]}\n"                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "          \
    "namespace: demo}\n"                                                                           \
    "spec: {hosts: ['*'], gateways: [g], http: [{route: [{destination: {host: web}}]}]}\n"
#define SERVED_AT(port)                                                                            \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: gate, namespace: demo}\nspec: "          \
    "{clusterIP: "                                                                                 \
    "10.9.0.9, selector: {app: gate}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"        \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "demo}\nspec: {selector: {app: gate}, servers: [{hosts: ['*'], port: {number: " port           \
    ", name: http, protocol: HTTP}}]}\n"                                                           \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "          \
    "namespace: demo}\n"                                                                           \
    "spec: {hosts: ['*'], gateways: [g], http: [{route: [{destination: {host: web}}]}]}\n"
#define PATCHED_AT(port)                                                                           \
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: e, "       \
    "namespace: demo}\nspec: {configPatches: [{applyTo: ROUTE_CONFIGURATION, match: {context: "    \
    "GATEWAY, routeConfiguration: {portNumber: " port                                              \
    "}}, patch: {operation: MERGE, value: {request_headers_to_remove: [x-patched]}}}]}\n"
#define SIMPLE_AT(name, hosts)                                                                     \
    "{hosts: [" hosts "], port: {number: 443, name: " name                                         \
    ", protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: c}}"
#define TAKEN                                                                                      \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "demo}\nspec: {selector: {app: gate}, servers: [" SIMPLE_AT(                                   \
        "a",                                                                                       \
        "a.example.com") ", " SIMPLE_AT("b",                                                       \
                                        "b.example.com, a.example.com") ", " SIMPLE_AT("c",        \
                                                                                       "b."        \
                                                                                       "example."  \
                                                                                       "com") "]}" \
                                                                                              "\n"
#define HEADLESS                                                                                   \
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {clusterIP: "    \
    "None, selector: {app: none}, ports: [{name: http, port: 80}]}\n"
#define BALANCED(how)                                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, "       \
    "namespace: demo}\nspec: {host: web, trafficPolicy: {loadBalancer: " how "}}\n"
#define TCP_SERVER(mode)                                                                           \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "demo}\nspec: {selector: {app: gate}, servers: [{hosts: ['*'], port: {number: 9000, name: "    \
    "t, protocol: TLS}, tls: {mode: " mode                                                         \
    "}}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "    \
    "namespace: demo}\nspec: {hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: "   \
    "web}}]}]}\n"
#define WILD(port)                                                                                 \
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: w, namespace: "      \
    "demo}\nspec: {hosts: ['*.example.com'], resolution: DYNAMIC_DNS, ports: [{" port "}]}\n"
#define WILD_RULE(spec)                                                                            \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: w, "         \
    "namespace: demo}\nspec: {host: '*.example.com', " spec "}\n"
#define WILD_HTTP WILD("number: 80, name: http, protocol: HTTP")
#define WILD_OUT  "outbound|80||*.example.com"
#define FORWARDS                                                                                   \
    "\"dns_cache_config\":{\"name\":\"*.example.com_dfp_dns_cache\",\"dns_lookup_family\":\"V4_"   \
    "ONLY\"}"
#define PRESERVE       "defaultConfig: {proxyHeaders: {preserveHttp1HeaderCase: true}}"
#define KEEPS_CASE     "\"header_key_format\":{\"stateful_formatter\":{\"name\":\"preserve_case\""
#define EDGE(more)     "defaultConfig: {connectionSettings: {profile: EDGE" more "}}"
#define RESOLVES(more) "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS" more "}"
#define SOCKET(protocol)                                                                           \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\n"                                                                                      \
    "spec: {egress: [{port: {number: 0, protocol: " protocol                                       \
    "}, bind: 'unix:///a', hosts: ['./*']}]}\n"
#define MTLS(says)                                                                                 \
    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, "        \
    "namespace: demo}\nspec: {selector: {matchLabels: {app: web}}, " says "}\n"
#define LEAVES(policy)                                                                             \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\n"                                                                                      \
    "spec: {outboundTrafficPolicy: {" policy "}}\n"
#define ROUTED(more)                                                                               \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "          \
    "namespace: demo}\n"                                                                           \
    "spec: {hosts: [web], http: [{" more ", route: [{destination: {host: web}}]}]}\n"
#define AT(settings)                                                                               \
    "{id: sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local, metadata: {LABELS: {app: "           \
    "web}, " settings "}}"
#define PROXIES                                                                                    \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\n"                                                                                      \
    "spec: {egress: [{port: {number: 3128, protocol: HTTP_PROXY, name: proxy}, captureMode: "      \
    "NONE, "                                                                                       \
    "hosts: ['./*']}]}\n"
#define C MZ_XDS_CLUSTER
#define L MZ_XDS_LISTENER
#define R MZ_XDS_ROUTE
#define E MZ_XDS_ENDPOINT
static const struct {
    const char *mesh, *documents, *node;
    enum mz_xds_type type;
    const char *name, *has, *lacks; /* has NULL: there is no such resource; lacks NULL: nothing */
} cases[] = {
    { "", WEB, NODE, C, OUT, "\"tlsMode-istio\"", "tcp_keepalive" },
    { "enableAutoMtls: false", WEB, NODE, C, OUT, OUT, "tlsMode-istio" },
    { "tcpKeepalive: {probes: 3, time: 10s}", WEB, NODE, C, OUT,
      "\"tcp_keepalive\":{\"keepalive_probes\":3,\"keepalive_time\":10}", NULL },
    { "tcpKeepalive: {probes: 3, time: 10s}",
      RULE("trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {time: 20s, interval: 5s}}}}"),
      NODE, C, OUT,
      "\"tcp_keepalive\":{\"keepalive_probes\":3,\"keepalive_time\":20,\"keepalive_interval\":5}",
      NULL },
    { "tcpKeepalive: {}", WEB, NODE, C, "PassthroughCluster", "\"tcp_keepalive\":{}", NULL },
    { "h2UpgradePolicy: UPGRADE", WEB, NODE, C, OUT, "\"http2_protocol_options\":{}", NULL },
    { "h2UpgradePolicy: UPGRADE",
      RULE("trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}"), NODE, C,
      OUT, OUT, "http2_protocol_options" },
    { "h2UpgradePolicy: UPGRADE",
      RULE("trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}"), NODE, C, OUT,
      "use_downstream_protocol_config", "explicit" },
    { "h2UpgradePolicy: UPGRADE", WEB, NODE, C, "inbound|80||", "inbound",
      "http2_protocol_options" },
    { "outboundClusterStatName: "
      "'%SERVICE%_%SERVICE_PORT%_%SERVICE_PORT_NAME%_%SERVICE_FQDN%_%SERVICE_NAME%_%SUBSET_NAME%'",
      WEB, NODE, C, OUT, "\"alt_stat_name\":\"web.demo_80_http_web.demo.svc.cluster.local_web_;\"",
      NULL },
    { "inboundClusterStatName: '%SERVICE%_%TARGET_PORT%'", WEB, NODE, C, "inbound|80||",
      "\"alt_stat_name\":\"web.demo_80;\"", NULL },
    { "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: "
      "{interval: 9s}}",
      WEB, NODE, C, OUT, "\"max_connections\":7", NULL },
    { "defaultTrafficPolicy: {outlierDetection: {interval: 9s}}", WEB, NODE, C, OUT,
      "\"outlier_detection\":{\"interval\":\"9s\"", NULL },
    { "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}",
      RULE("trafficPolicy: {connectionPool: {tcp: {maxConnections: 8}}}"), NODE, C, OUT,
      "\"max_connections\":8", NULL },
    { "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}", WEB, NODE, C,
      "PassthroughCluster", "\"max_connections\":7", NULL },
    /* names that no service has are resolved by the proxy, of its agent where that answers */
    { RESOLVES(""), WEB, NODE, C, "AllowAnyDynamicDNSCluster",
      "\"dns_cache_config\":{\"name\":\"allow_any_dfp_dns_cache\",\"dns_lookup_family\":\"V4_"
      "ONLY\","
      "\"max_hosts\":1024},\"allow_insecure_cluster_options\":true",
      "transport_socket" },
    { RESOLVES(""), WEB, AT("DNS_CAPTURE: 'true', DNS_PROXY_ADDR: 'localhost:15999'"), C,
      "AllowAnyDynamicDNSCluster",
      "\"resolvers\":[{\"socket_address\":{\"address\":\"127.0.0.1\",\"port_value\":15999}}]",
      NULL },
    { RESOLVES(""), WEB, AT("DNS_CAPTURE: 'true', DNS_PROXY_ADDR: x"), C,
      "AllowAnyDynamicDNSCluster", "\"address\":\"127.0.0.1\",\"port_value\":15053", NULL },
    { RESOLVES(", tls: {mode: SIMPLE, sni: s}"), WEB, NODE, C, "AllowAnyDynamicDNSCluster",
      "\"sni\":\"s\"", "alpn_override" },
    { RESOLVES(", tls: {mode: SIMPLE}"), WEB, NODE, C, "AllowAnyDynamicDNSCluster",
      "\"auto_sni\":true,\"auto_san_validation\":true", "allow_insecure" },
    { RESOLVES(", tls: {mode: DISABLE}"), WEB, NODE, C, "AllowAnyDynamicDNSCluster",
      "allow_insecure", "transport_socket" },
    { RESOLVES(""), WEB, NODE, R, "80", "\"name\":\"allow_any_dynamic_dns\",\"domains\":[\"*\"]",
      "\"allow_any\"" },
    { RESOLVES(""), WEB, NODE, L, "0.0.0.0_80", "allow_any_dfp_dns_cache", NULL },
    { RESOLVES(""), WEB, NODE, L, "virtualOutbound",
      "\"name\":\"virtualOutbound-catchall-tcp-http\"", NULL },
    { RESOLVES(""), WEB LEAVES("mode: ALLOW_ANY"), NODE, C, "AllowAnyDynamicDNSCluster", NULL,
      NULL },
    { RESOLVES(""), WEB LEAVES("mode: ALLOW_ANY"), NODE, L, "virtualOutbound", "PassthroughCluster",
      "allow_any_dynamic_dns" },
    /* accounts by the names of all trust domains of the mesh */
    { "trustDomainAliases: [old]",
      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: m, namespace: "
      "demo}\n"
      "spec: {hosts: [m.example.com], location: MESH_INTERNAL, resolution: STATIC, "
      "subjectAltNames: ['spiffe://cluster.local/ns/demo/sa/m', other], ports: [{number: 80, name: "
      "p, protocol: TCP}], endpoints: [{address: 10.7.0.1}]}\n",
      NODE, C, "outbound|80||m.example.com",
      "[{\"exact\":\"other\"},{\"exact\":\"spiffe://cluster.local/ns/demo/sa/"
      "m\"},{\"exact\":\"spiffe://old/ns/"
      "demo/sa/m\"}]",
      NULL },
    /* clusters that clients of the mesh ask for by server name: all that rules say, but for TLS */
    { "h2UpgradePolicy: UPGRADE", WEB TCP_SERVER("AUTO_PASSTHROUGH"), GATEWAY, C,
      "outbound_.80_._.web.demo.svc.cluster.local", "\"http2_protocol_options\":{}", NULL },
    { "", RULE("trafficPolicy: {tls: {mode: SIMPLE}}") TCP_SERVER("AUTO_PASSTHROUGH"), GATEWAY, C,
      "outbound_.80_._.web.demo.svc.cluster.local", "alpn_override", "transport_socket" },
    /* nobody is judged, nor anything tunnelled, before TLS that goes through */
    { "",
      RULE("trafficPolicy: {tunnel: {targetHost: t.example.com, targetPort: 9, protocol: CONNECT}}")
          TCP_SERVER("AUTO_PASSTHROUGH") "---\napiVersion: security.istio.io/v1\nkind: "
                                         "AuthorizationPolicy\nmetadata: {name: p, "
                                         "namespace: demo}\nspec: {rules: [{from: [{source: "
                                         "{namespaces: [x]}}]}]}\n",
      GATEWAY, L, "0.0.0.0_9000", "\"cluster\":\"outbound_.80_._.web", "rbac" },
    { "",
      RULE("trafficPolicy: {tunnel: {targetHost: t.example.com, targetPort: 9, protocol: CONNECT}}")
          TCP_SERVER("AUTO_PASSTHROUGH"),
      GATEWAY, L, "0.0.0.0_9000", "\"cluster\":\"outbound_.80_._.web", "tunneling_config" },
    /* names of a server that is left out are free for the next */
    { "", WEB TAKEN, GATEWAY, L, "0.0.0.0_443", "[\"b.example.com\"]", NULL },
    /* what comes is limited by the rule of a service that the workload could call, too */
    { "", RULE("trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}"), NODE, C,
      "inbound|80||", "\"max_connections\":7", NULL },
    { "",
      RULE("trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}") "---\napiVersion: "
                                                                          "networking.istio.io/"
                                                                          "v1\nkind: "
                                                                          "Sidecar\nmetadata: "
                                                                          "{name: s, namespace: "
                                                                          "demo}\nspec: {egress: "
                                                                          "[{hosts: "
                                                                          "['other/*']}]}\n",
      NODE, C, "inbound|80||", "inbound|80||", "\"max_connections\":7" },
    /* services are named by the port that decides, also where it is not their first one there; those outside are not */
    { "",
      WEB "---\napiVersion: v1\nkind: Service\nmetadata: {name: z, namespace: demo}\nspec: "
          "{clusterIP: 10.9.0.2, selector: {app: web}, ports: [{name: tcp, port: 81, targetPort: "
          "80}, {name: http, port: 80}]}\n",
      NODE, C, "inbound|80||", "\"name\":\"z\"", NULL },
    { "",
      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: m, namespace: "
      "demo}\nspec: {hosts: [m.example.com], resolution: STATIC, workloadSelector: {labels: {app: "
      "web}}, ports: [{number: 80, name: p, protocol: HTTP}]}\n---\napiVersion: "
      "networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: m, namespace: demo}\nspec: "
      "{ingress: "
      "[{port: {number: 80, name: p, protocol: HTTP}, defaultEndpoint: '127.0.0.1:80'}]}\n",
      NODE, C, "inbound|80||", "inbound|80||", "m.example.com" },
    /* clients may ask in TLS by the names of an ExternalName, too */
    { "",
      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: m, namespace: "
      "demo}\n"
      "spec: {hosts: [m.example.com], resolution: DNS, ports: [{number: 443, name: p, protocol: "
      "TLS}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: m, namespace: demo}\nspec: "
      "{type: "
      "ExternalName, externalName: m.example.com}\n",
      NODE, L, "0.0.0.0_443",
      "\"server_names\":[\"m.example.com\",\"m.demo.svc.cluster.local\",\"m.demo.svc.cluster.local."
      "\",\"m\",\"m."
      "demo.svc\",\"m.demo\"]",
      NULL },
    /* nobody is there who could take mutual TLS, at gateways, too */
    { "", HEADLESS, GATEWAY, C, OUT, "\"type\":\"EDS\"", "tlsMode-istio" },
    { "", HEADLESS BALANCED("{consistentHash: {useSourceIp: true}}"), NODE, C, OUT,
      "\"lb_policy\":\"CLUSTER_PROVIDED\"", "ring_hash" },
    { "", HEADLESS BALANCED("{simple: ROUND_ROBIN, warmup: {duration: 9s}}"), NODE, C, OUT,
      "\"lb_policy\":\"CLUSTER_PROVIDED\"", "slow_start" },
    { "enableAutoMtls: false", RULE("trafficPolicy: {proxyProtocol: {version: V1}}"), NODE, C, OUT,
      "\"transport_socket\":{\"name\":\"raw_buffer\"", NULL },
    /* of two ports of one number that of TCP has the cluster, wherever it stands */
    { "",
      "apiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: demo}\nspec: {clusterIP: "
      "10.9.0.53, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]}\n",
      NODE, C, "outbound|53||dns.demo.svc.cluster.local", "\"type\":\"EDS\"", NULL },
    /* a gateway that ends mutual TLS of the mesh tells who it is, also where no HTTP is inside */
    { "", WEB TCP_SERVER("ISTIO_MUTUAL"), GATEWAY, L, "0.0.0.0_9000", "\"istio.metadata_exchange\"",
      NULL },
    { "", WEB TCP_SERVER("SIMPLE, credentialName: c"), GATEWAY, L, "0.0.0.0_9000", "tcp_proxy",
      "istio.metadata_exchange" },
    /* a Sidecar's UNIX socket: all services that it imports, with routes of its own */
    { "", WEB SOCKET("HTTP"), NODE, L, "unix:///a_0", "\"pipe\":{\"path\":\"/a\"}",
      "bind_to_port" },
    { "", WEB SOCKET("HTTP"), NODE, R, "unix:///a", "outbound|80||web", NULL },
    { "", WEB SOCKET("HTTP"), NODE, R, "unix:///b", NULL, NULL },
    { "", WEB SOCKET("TCP"), NODE, L, "unix:///a_0", "\"cluster\":\"outbound|80||web", "rds" },
    { "", WEB SOCKET("HTTP_PROXY"), NODE, L, "unix:///a_0", "\"route_config_name\":\"unix:///a\"",
      NULL },
    /* ports of no service that a PeerAuthentication names */
    { "", WEB MTLS("mtls: {mode: STRICT}, portLevelMtls: {7777: {mode: DISABLE}}"), NODE, L,
      "virtualInbound", "\"destination_port\":7777,\"transport_protocol\":\"raw_buffer\"}", NULL },
    { "", WEB MTLS("mtls: {mode: STRICT}, portLevelMtls: {7777: {mode: DISABLE}}"), NODE, L,
      "virtualInbound",
      "\"filter_disabled\":{\"or_match\":{\"rules\":[{\"destination_port_range\":{\"start\":7777",
      NULL },
    { "", WEB MTLS("mtls: {mode: DISABLE}, portLevelMtls: {7777: {mode: STRICT}}"), NODE, L,
      "virtualInbound",
      "\"filter_disabled\":{\"not_match\":{\"destination_port_range\":{\"start\":7777", NULL },
    { "inboundTrafficPolicy: {mode: LOCALHOST}", WEB, NODE, C, "inbound|80||",
      "\"socket_address\":{\"address\":\"127.0.0.1\",\"port_value\":80}", "127.0.0.6" },
    { "", WEB, NODE, C, "inbound|80||", "127.0.0.6", "127.0.0.1" },
    { "tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}",
      RULE("trafficPolicy: {tls: {mode: SIMPLE, sni: a}}"), NODE, C, OUT,
      "\"tls_params\":{\"tls_minimum_protocol_version\":\"TLSv1_3\",\"tls_maximum_protocol_"
      "version\":\"TLSv1_3\",\"ecdh_curves\":[\"P-256\"]}",
      NULL },
    { "tlsDefaults: {cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}", WEB, NODE, C, OUT, OUT,
      "cipher_suites" },
    { "", RULE("trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem}}"),
      NODE, C, OUT, "\"crl\":{\"filename\":\"/crl.pem\"}", NULL },
    /* retries, pings, warming up */
    { "", RULE("trafficPolicy: {retryBudget: {percent: 30}}"), NODE, C, OUT,
      "\"retry_budget\":{\"budget_percent\":{\"value\":30},\"min_retry_concurrency\":3}", NULL },
    { "", RULE("trafficPolicy: {retryBudget: {budgetInterval: 9s}}"), NODE, C, OUT,
      "\"min_retry_concurrency\":3,\"budget_interval\":\"9s\"}", NULL },
    { "", RULE("trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [500]}}"), NODE,
      C, OUT,
      "\"outlier_detection\":{\"error_matcher\":{\"http_response_headers_match\":{\"headers\":[{"
      "\"name\":\":status\",\"string_match\":{\"exact\":\"500\"}}]}}}",
      "\"or_match\"" },
    { "", RULE("trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [500, 503]}}"),
      NODE, C, OUT, "\"or_match\":{\"rules\":[{\"http_response_headers_match\"", NULL },
    { "", RULE("trafficPolicy: {retryBudget: {minRetryConcurrency: 7}}"), NODE, C, OUT,
      "\"retry_budget\":{\"budget_percent\":{\"value\":20},\"min_retry_concurrency\":7}", NULL },
    { "",
      RULE("trafficPolicy: {retryBudget: {percent: 30}, portLevelSettings: [{port: {number: 80}, "
           "connectionPool: {tcp: {maxConnections: 7}}}]}"),
      NODE, C, OUT, "\"max_connections\":7", "retry_budget" },
    { "",
      RULE("trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: "
           "{interval: 9s, timeout: 2s}}}}"),
      NODE, C, OUT, "\"connection_keepalive\":{\"interval\":\"9s\",\"timeout\":\"2s\"}", NULL },
    { "",
      RULE("trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 9s, timeout: "
           "2s}}}}"),
      NODE, C, OUT, OUT, "connection_keepalive" },
    { "", RULE("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: 5s}}"),
      NODE, C, OUT, "\"slow_start_config\":{\"slow_start_window\":\"5s\"}", NULL },
    /* names that are resolved when they are asked for */
    { "", WILD_HTTP, NODE, C, WILD_OUT, FORWARDS, "allow_insecure" },
    { "", WILD_HTTP, NODE, C, WILD_OUT, "\"lb_policy\":\"CLUSTER_PROVIDED\"", "common_lb_config" },
    { "", WILD("number: 80, name: grpc, protocol: GRPC"), NODE, C, WILD_OUT,
      "\"allow_insecure_cluster_options\":true", NULL },
    { "", WILD_HTTP WILD_RULE("trafficPolicy: {tls: {mode: SIMPLE}}"), NODE, C, WILD_OUT,
      "{\"auto_sni\":true,\"auto_san_validation\":true}", "allow_insecure" },
    { "", WILD_HTTP WILD_RULE("trafficPolicy: {tls: {mode: SIMPLE, sni: a.b}}"), NODE, C, WILD_OUT,
      "{\"auto_san_validation\":true}", NULL },
    { "", WILD_HTTP WILD_RULE("trafficPolicy: {tls: {mode: SIMPLE, sni: a.b}}"), NODE, C, WILD_OUT,
      "\"allow_insecure_cluster_options\":true", "auto_sni" },
    { "", WILD_HTTP WILD_RULE("trafficPolicy: {outlierDetection: {interval: 9s}}"), NODE, C,
      WILD_OUT, "healthy_panic_threshold", NULL },
    { "", WILD_HTTP WILD_RULE("subsets: [{name: v1, labels: {a: b}}]"), NODE, C,
      "outbound|80|v1|*.example.com", NULL, NULL },
    { "", WILD_HTTP, NODE, R, "80", "\"cluster\":\"outbound|80||*.example.com\"", NULL },
    { "", WILD_HTTP, NODE, L, "0.0.0.0_80", FORWARDS, "sni_dynamic" },
    { "", WEB "---\n" WILD_HTTP, NODE, L, "0.0.0.0_80", FORWARDS, NULL }, /* whoever was first */
    { "", WEB, NODE, L, "0.0.0.0_80", "router", "dynamic_forward_proxy" },
    { "", WILD("number: 443, name: tls, protocol: TLS"), NODE, L, "0.0.0.0_443",
      "\"server_names\":[\"*.example.com\"]", NULL },
    { "", WILD("number: 443, name: tls, protocol: TLS"), NODE, L, "0.0.0.0_443",
      FORWARDS ",\"port_value\":443}", NULL },
    { "", WILD("number: 443, name: tls, protocol: TLS"), NODE, C, "outbound|443||*.example.com",
      FORWARDS, "http_protocol_options" },
    /* listeners */
    { "proxyListenPort: 15101", WEB, NODE, L, "virtualOutbound", "\"port_value\":15101", "15001" },
    { "proxyListenPort: 15101", WEB, NODE, L, "virtualInbound", "\"port_value\":15006", "15101" },
    { "proxyInboundListenPort: 15106", WEB, NODE, L, "virtualInbound", "\"destination_port\":15106",
      "15006" },
    { "meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}", WEB,
      NODE, L, "virtualInbound",
      "\"tls_params\":{\"tls_minimum_protocol_version\":\"TLSv1_3\",\"tls_maximum_protocol_"
      "version\":\"TLSv1_3\",\"cipher_suites\":[\"ECDHE-RSA-AES128-GCM-SHA256\"]}",
      NULL },
    { "pathNormalization: {normalization: NONE}", WEB, NODE, L, "virtualInbound",
      "\"normalize_path\":false", "\"normalize_path\":true" },
    { "pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}", WEB, NODE, L, "0.0.0.0_80",
      "\"path_with_escaped_slashes_action\":\"UNESCAPE_AND_FORWARD\"", "KEEP_UNCHANGED" },
    { "pathNormalization: {normalization: MERGE_SLASHES}", WEB, NODE, L, "0.0.0.0_80",
      "\"merge_slashes\":true", NULL },
    { "defaultConfig: {proxyHeaders: {server: {disabled: true}, requestId: {disabled: true}, "
      "envoyDebugHeaders: {disabled: true}}}",
      WEB, NODE, L, "virtualInbound", "\"server_header_transformation\":\"PASS_THROUGH\"",
      "istio-envoy" },
    { "defaultConfig: {proxyHeaders: {requestId: {disabled: true}}}", WEB, NODE, L, "0.0.0.0_80",
      "\"generate_request_id\":false", NULL },
    { "defaultConfig: {proxyHeaders: {envoyDebugHeaders: {disabled: true}}}", WEB, NODE, L,
      "0.0.0.0_80", "\"suppress_envoy_headers\":true", NULL },
    { "defaultConfig: {proxyHeaders: {server: {value: us}, xForwardedPort: {enabled: true}}}", WEB,
      NODE, L, "0.0.0.0_80", "\"server_name\":\"us\"", NULL },
    { "defaultConfig: {proxyHeaders: {forwardedClientCert: SANITIZE, setCurrentClientCertDetails: "
      "{cert: true, dns: false}}}",
      WEB, NODE, L, "virtualInbound",
      "\"set_current_client_cert_details\":{\"subject\":true,\"cert\":true,\"uri\":true}",
      "APPEND_FORWARD" },
    { "defaultConfig: {proxyHeaders: {server: {value: us}}}", WEB,
      "{id: sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local, metadata: {PROXY_CONFIG: "
      "{proxyHeaders: {server: {value: own}}}}}",
      L, "0.0.0.0_80", "\"server_name\":\"own\"", "\"us\"" },
    { "defaultConfig: {gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: "
      "FORWARD_ONLY, proxyProtocol: {}}}",
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"xff_num_trusted_hops\":2", "set_current_client_cert_details" },
    { "defaultConfig: {gatewayTopology: {proxyProtocol: {}}}",
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"listener_filters\":[{\"name\":\"envoy.filters.listener.proxy_protocol\"", NULL },
    { "tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [A]}",
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_2}"), GATEWAY, L,
      "0.0.0.0_443",
      "\"tls_params\":{\"tls_minimum_protocol_version\":\"TLSv1_2\",\"cipher_suites\":[\"A\"]}",
      NULL },
    { "tlsDefaults: {cipherSuites: [A]}", WEB SERVER("tls: {mode: ISTIO_MUTUAL}"), GATEWAY, L,
      "0.0.0.0_443", "0.0.0.0_443", "cipher_suites" },
    { "", WEB SERVER("tls: {mode: SIMPLE, credentialName: c, cipherSuites: [AES128-SHA, NO-SUCH]}"),
      GATEWAY, L, "0.0.0.0_443", "\"cipher_suites\":[\"AES128-SHA\"]", NULL },
    /* the PROXY header, whichever TLS follows */
    { "", RULE("trafficPolicy: {proxyProtocol: {version: V2}}"), NODE, C, OUT,
      "\"transport_socket\":{\"name\":\"envoy.transport_sockets.upstream_proxy_protocol\","
      "\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.extensions.transport_sockets.proxy_"
      "protocol.v3.ProxyProtocolUpstreamTransport\",\"config\":{\"version\":\"V2\"},\"transport_"
      "socket\":{\"name\":\"envoy.transport_sockets.raw_buffer\"",
      "\"transport_socket\":{\"name\":\"envoy.transport_sockets.tls\",\"typed_config\":{\"@type\":"
      "\"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\","
      "\"common_tls_context\":{}}}]" },
    /* headers that must not be there */
    { "", WEB ROUTED("match: [{withoutHeaders: {x-a: {exact: b}}}]"), NODE, R, "80",
      "\"treat_missing_header_as_empty\":true", NULL },
    { "", WEB ROUTED("match: [{withoutHeaders: {x-a: {}}}]"), NODE, R, "80",
      "\"present_match\":true", "treat_missing" },
    /* gRPC from browsers */
    { "", DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", "grpc-web"), NODE, L, "0.0.0.0_80",
      "\"envoy.filters.http.grpc_web\"", NULL },
    { "", DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", "grpc"), NODE, L, "0.0.0.0_80", "grpc_stats",
      "grpc_web" },
    /* HTTP at an address that was said has no second kind */
    { "",
      WEB "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "
          "demo}\nspec: {egress: [{bind: 127.0.0.2, hosts: ['./*']}]}\n",
      NODE, L, "127.0.0.2_80", "outbound_127.0.0.2_80;", "default_filter_chain" },
    /* headers: their case, the host that was asked for, what is told of the workload */
    { PRESERVE, WEB, NODE, L, "0.0.0.0_80", KEEPS_CASE, NULL },
    { PRESERVE, WEB, NODE, L, "virtualInbound", KEEPS_CASE, NULL },
    { PRESERVE, WEB, NODE, C, OUT,
      "\"explicit_http_config\":{\"http_protocol_options\":{" KEEPS_CASE, NULL },
    { PRESERVE " \nh2UpgradePolicy: UPGRADE", WEB, NODE, C, OUT, KEEPS_CASE,
      "http2_protocol_options" },
    { PRESERVE, DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", "x"), NODE, C, OUT,
      "\"use_downstream_protocol_config\":{\"http_protocol_options\":{" KEEPS_CASE, NULL },
    { PRESERVE, WEB, NODE, C, "PassthroughCluster",
      "\"use_downstream_protocol_config\":{\"http_protocol_options\":{" KEEPS_CASE, NULL },
    { PRESERVE, DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", "grpc"), NODE, C, OUT,
      "\"http2_protocol_options\":{}", "preserve_case" },
    { PRESERVE, WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      KEEPS_CASE, NULL },
    { "defaultConfig: {proxyHeaders: {xForwardedHost: {enabled: true}}}", WEB, NODE, R, "80",
      "\"cluster\":\"PassthroughCluster\",\"timeout\":\"0s\",\"max_grpc_timeout\":\"0s\","
      "\"append_x_forwarded_host\":true",
      NULL },
    { "defaultConfig: {proxyHeaders: {xForwardedHost: {enabled: true}}}",
      WEB ROUTED("rewrite: {uri: /a}"), NODE, R, "80", "\"append_x_forwarded_host\":true}", NULL },
    { "", WEB ROUTED("rewrite: {uri: /a}"), NODE, R, "80", "prefix_rewrite", "x_forwarded_host" },
    { "defaultConfig: {proxyHeaders: {metadataExchangeHeaders: {mode: IN_MESH}}}", WEB, NODE, L,
      "0.0.0.0_80", "\"skip_external_clusters\":true", NULL },
    { "defaultConfig: {proxyHeaders: {metadataExchangeHeaders: {mode: IN_MESH}}}", WEB, NODE, L,
      "virtualInbound", "istio_headers", "skip_external_clusters" },
    /* connectionSettings */
    { "defaultConfig: {connectionSettings: {httpIdleTimeout: 7s, httpMaxStreamDuration: 8s, "
      "httpMaxConnectionDuration: 9s, httpHeadersWithUnderscoresAction: "
      "HEADERS_WITH_UNDERSCORES_DROP_HEADER}}",
      WEB, NODE, L, "0.0.0.0_80",
      "\"common_http_protocol_options\":{\"idle_timeout\":\"7s\",\"max_connection_duration\":"
      "\"9s\",\"max_stream_duration\":\"8s\",\"headers_with_underscores_action\":\"DROP_HEADER\"}",
      NULL },
    { "defaultConfig: {connectionSettings: {httpStreamIdleTimeout: 7s, httpDrainTimeout: 8s}}", WEB,
      NODE, L, "0.0.0.0_80", "\"drain_timeout\":\"8s\"", "\"stream_idle_timeout\":\"0s\"" },
    { "defaultConfig: {connectionSettings: {httpRequestTimeout: 7s}}", WEB, NODE, L, "0.0.0.0_80",
      "\"request_timeout\":\"7s\"", NULL },
    { "defaultConfig: {connectionSettings: {httpRequestHeadersTimeout: 7s}}", WEB, NODE, L,
      "0.0.0.0_80", "\"request_headers_timeout\":\"7s\"", NULL },
    { "defaultConfig: {connectionSettings: {httpMaxConcurrentStreams: 7, "
      "http2InitialStreamWindowSize: 70000, http2InitialConnectionWindowSize: 80000}}",
      DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", "grpc"), NODE, L, "virtualInbound",
      "\"http2_protocol_options\":{\"max_concurrent_streams\":7,\"initial_stream_window_size\":"
      "70000,\"initial_connection_window_size\":80000}",
      "\"http2_protocol_options\":{}" },
    { "pathNormalization: {normalization: MERGE_SLASHES}\ndefaultConfig: {connectionSettings: "
      "{httpMergeSlashes: false, httpPathWithEscapedSlashesAction: REJECT_REQUEST}}",
      WEB, NODE, L, "0.0.0.0_80", "\"path_with_escaped_slashes_action\":\"REJECT_REQUEST\"",
      "merge_slashes" },
    { "defaultConfig: {connectionSettings: {profile: EDGE}}", WEB, NODE, L, "0.0.0.0_80",
      "\"stream_idle_timeout\":\"0s\"", "common_http_protocol_options" },
    { EDGE(""), WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"per_connection_buffer_limit_bytes\":32768", NULL },
    { EDGE(""), WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"common_http_protocol_options\":{\"idle_timeout\":\"3600s\","
      "\"headers_with_underscores_action\":\"REJECT_REQUEST\"}",
      NULL },
    { EDGE(", httpIdleTimeout: 7s, listenerPerConnectionBufferLimitBytes: 9"),
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"per_connection_buffer_limit_bytes\":9", "3600s" },
    { EDGE(""), WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"http2_protocol_options\":{\"max_concurrent_streams\":100,\"initial_stream_window_size\":"
      "65536,\"initial_connection_window_size\":1048576}",
      NULL },
    { EDGE(""), WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"path_with_escaped_slashes_action\":\"UNESCAPE_AND_REDIRECT\"", NULL },
    { EDGE(""), WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"), GATEWAY, L, "0.0.0.0_443",
      "\"merge_slashes\":true", NULL },
    /* what retries may be of a service's requests holds where they arrive, too */
    { "", RULE("trafficPolicy: {retryBudget: {percent: 7}}"), NODE, C, "inbound|80||",
      "\"budget_percent\":{\"value\":7}", NULL },
    /* at a socket of one service a Sidecar's listener of this port says which VirtualServices hold */
    { "",
      WEB "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "
          "namespace: demo}\nspec: {hosts: [x.example.com, web], http: [{name: mine, route: "
          "[{destination: {host: web}}]}]}\n---\napiVersion: networking.istio.io/v1\nkind: "
          "Sidecar\nmetadata: {name: s, namespace: demo}\nspec: {egress: [{port: {number: 80, "
          "protocol: HTTP, name: h}, hosts: ['*/x.example.com']}, {hosts: ['*/*']}]}\n",
      NODE, R, "web.demo.svc.cluster.local:80", "\"name\":\"mine\"", NULL },
    /* one host for several namespaces is one name */
    { "",
      WEB "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "
          "demo}\nspec: {selector: {app: gate}, servers: [" SIMPLE_AT(
              "a", "demo/b.example.com, x/b.example.com, x/a.example.com") "]}\n",
      GATEWAY, L, "0.0.0.0_443", "\"server_names\":[\"a.example.com\",\"b.example.com\"]", NULL },
    /* EnvoyFilters find a gateway's tables by the ports that its servers say, whatever services say */
    { "", WEB SERVED_AT("80") PATCHED_AT("80"), GATEWAY, R, "http.8080", "\"x-patched\"", NULL },
    { "", WEB SERVED_AT("80") PATCHED_AT("8080"), GATEWAY, R, "http.8080", "\"*:80\"",
      "\"x-patched\"" },
    { "", WEB SERVED_AT("8080") PATCHED_AT("8080"), GATEWAY, R, "http.8080", "\"x-patched\"",
      NULL },
    { "", WEB SERVED_AT("8080") PATCHED_AT("80"), GATEWAY, R, "http.8080", "\"*:8080\"",
      "\"x-patched\"" },
    /* a proxy that clients know of */
    { "proxyHttpPort: 15002", WEB, NODE, L, "127.0.0.1_15002",
      "\"http_protocol_options\":{\"allow_absolute_url\":true}", "application_protocols" },
    { "proxyHttpPort: 15002", WEB, NODE, L, "127.0.0.1_15002",
      "\"route_config_name\":\"http_proxy\"", "bind_to_port" },
    { "", WEB, AT("HTTP_PROXY_PORT: '15003'"), L, "127.0.0.1_15003",
      "\"stat_prefix\":\"outbound_127.0.0.1_15003;\"", NULL },
    { "", WEB, NODE, L, "127.0.0.1_15002", NULL, NULL },
    { "", WEB, NODE, R, "http_proxy",
      "\"domains\":[\"web.demo.svc.cluster.local\",\"web.demo.svc.cluster.local:80\"", NULL },
    { "", DOUBLE_SERVICE("web", "8080", "10.1.0.1"), NODE, R, "http_proxy",
      "\"domains\":[\"web.demo.svc.cluster.local:8080\"", "\"web.demo.svc.cluster.local\"" },
    { "", WEB ROUTED("rewrite: {uri: /a}"), NODE, R, "http_proxy", "\"prefix_rewrite\":\"/a\"",
      NULL },
    { "", WEB, NODE, R, "http_proxy", "\"name\":\"allow_any\",\"domains\":[\"*\"]", NULL },
    { "", WEB PROXIES, NODE, L, "127.0.0.1_3128", "\"route_config_name\":\"3128\"",
      "application_protocols" },
    { "", WEB PROXIES, NODE, R, "3128",
      "\"domains\":[\"web.demo.svc.cluster.local\",\"web.demo.svc.cluster.local:80\"", NULL },
    { "", WEB PROXIES, NODE, C, OUT, OUT, NULL },
    /* what no service stands for, by way of a proxy */
    { "",
      WEB LEAVES("mode: ALLOW_ANY, egressProxy: {host: out.demo.svc.cluster.local, port: "
                 "{number: 3128}, subset: v1}"),
      NODE, L, "virtualOutbound", "\"cluster\":\"outbound|3128|v1|out.demo.svc.cluster.local\"",
      "PassthroughCluster" },
    { "",
      WEB LEAVES("mode: ALLOW_ANY, egressProxy: {host: out.demo.svc.cluster.local, port: "
                 "{number: 3128}}"),
      NODE, R, "80", "\"cluster\":\"outbound|3128||out.demo.svc.cluster.local\"",
      "PassthroughCluster" },
    { "", WEB LEAVES("mode: ALLOW_ANY"), NODE, R, "80", "\"cluster\":\"PassthroughCluster\"",
      NULL },
    /* TLS of servers */
    { "", WEB SERVER("tls: {mode: SIMPLE, credentialName: c, ecdhCurves: [P-256, P-384]}"), GATEWAY,
      L, "0.0.0.0_443", "\"tls_params\":{\"ecdh_curves\":[\"P-256\",\"P-384\"]}", NULL },
    { "",
      WEB SERVER("tls: {mode: SIMPLE, tlsCertificates: [{serverCertificate: /a, privateKey: /b}, "
                 "{serverCertificate: /c, privateKey: /d}]}"),
      GATEWAY, L, "0.0.0.0_443", "\"file-cert:/c~/d\"", "validation" },
    { "",
      WEB SERVER("tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /c, "
                 "caCrl: /d}"),
      GATEWAY, L, "0.0.0.0_443", "\"default_validation_context\":{\"crl\":{\"filename\":\"/d\"}}",
      NULL },
    { "", WEB SERVER("tls: {mode: ISTIO_MUTUAL, minProtocolVersion: TLSV1_3}"), GATEWAY, L,
      "0.0.0.0_443", "\"default\"", "tls_params" },
    /* who may answer */
    { "",
      "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo, annotations: "
      "{alpha.istio.io/kubernetes-serviceaccounts: 'a,b', "
      "alpha.istio.io/canonical-serviceaccounts: 'spiffe://x/y'}}\nspec: {clusterIP: 10.9.0.1, "
      "selector: {app: web}, ports: [{name: http, port: 80}]}\n",
      NODE, C, OUT,
      "[{\"exact\":\"spiffe://cluster.local/ns/demo/sa/a\"},{\"exact\":\"spiffe://cluster.local/ns/"
      "demo/sa/b\"},{\"exact\":\"spiffe://x/y\"}]",
      NULL },
    /* routes */
    { "defaultInboundHttpRetryPolicy: {attempts: 5, retryOn: 'reset,503', backoff: 1s, "
      "perTryTimeout: 2s}",
      WEB, NODE, L, "virtualInbound",
      "\"retry_policy\":{\"retry_on\":\"reset,retriable-status-codes\",\"num_retries\":5,"
      "\"retriable_status_codes\":[503],\"retry_back_off\":{\"base_interval\":\"1s\"}}",
      "reset-before-request" },
    { "defaultInboundHttpRetryPolicy: {attempts: 0}", WEB, NODE, L, "virtualInbound",
      "\"inbound|http|80\"", "retry_policy" },
    { "defaultHttpRetryPolicy: {attempts: 5, retryOn: 'reset,503'}", WEB, NODE, R, "80",
      "\"retry_on\":\"reset,retriable-status-codes\",\"num_retries\":5", NULL },
    { "defaultHttpRetryPolicy: {attempts: 0}", WEB, NODE, R, "80", OUT, "retry_policy" },
    { "defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}}}", WEB, NODE, R, "80", OUT,
      "include_request_attempt_count" },
    { "",
      RULE("trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 1s, "
           "attributes: [{name: SameSite, value: Lax}]}}}}"),
      NODE, R, "80", "\"attributes\":[{\"name\":\"SameSite\",\"value\":\"Lax\"}]", NULL },
    /* plain balancers do not undo what routes hash by */
    { "",
      RULE("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: all}}, "
           "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"),
      NODE, R, "80", "\"header_name\":\"all\"", NULL },
    { "",
      RULE("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: all}}}, subsets: "
           "[{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]") TO_SUBSET,
      NODE, R, "80", "\"header_name\":\"all\"", NULL },
    { "",
      RULE("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: all}}}, subsets: "
           "[{name: v1, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: one}}, "
           "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}]")
          TO_SUBSET,
      NODE, R, "80", "\"header_name\":\"one\"", "\"all\"" },
    { "defaultConfig: {proxyHeaders: {envoyDebugHeaders: {disabled: true}}}", WEB, NODE, L,
      "0.0.0.0_80", "\"suppress_envoy_headers\":true", "start_child_span" },
    /* balancing */
    { "", RULE("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 5s}}}"),
      NODE, C, OUT,
      "\"slow_start_config\":{\"slow_start_window\":\"5s\",\"aggression\":{\"default_value\":1,"
      "\"runtime_key\":\"(\"},\"min_weight_percent\":{\"value\":10}}",
      NULL },
    { "",
      RULE("trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}}}}"),
      NODE, C, OUT, "\"lb_policy\":\"RING_HASH\"", "ring_hash_lb_config" },
    { "", RULE("trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}"), NODE, C,
      OUT, "\"minimum_ring_size\":\"1024\"", NULL },
    { "",
      RULE("workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {connectionPool: {tcp: "
           "{maxConnections: 7}}}"),
      NODE, C, OUT, "\"max_connections\":7", NULL },
    { "",
      RULE("workloadSelector: {matchLabels: {app: other}}, trafficPolicy: {connectionPool: {tcp: "
           "{maxConnections: 7}}}"),
      NODE, C, OUT, OUT, "\"max_connections\":7" },
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const char *got =
            ask(cases[i].mesh, cases[i].documents, cases[i].node, cases[i].type, cases[i].name);
        if (!cases[i].has && got)
            fail_msg("case %zu: there is %s", i, cases[i].name);
        if (!cases[i].has)
            continue;
        if (!got || !strstr(got, cases[i].has))
            fail_msg("case %zu (%s): %s is not in %s", i, cases[i].mesh, cases[i].has,
                     got ? got : "nothing");
        if (cases[i].lacks && strstr(got, cases[i].lacks))
            fail_msg("case %zu (%s): %s is in %s", i, cases[i].mesh, cases[i].lacks, got);
    }
}

/* ---- what the environment says, and the proxy's own settings ---- */

#define PORT(kind) DOUBLE_SERVICE_OF("web", "80", "10.1.0.1", kind)
#define AUTO                                                                                       \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "demo}\nspec: {selector: {app: gate}, servers: [{hosts: ['*.local'], port: {number: 15443, "   \
    "name: t, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}}]}\n"
#define SNI "outbound_.80_._.web.demo.svc.cluster.local"
#define DOOR(settings)                                                                             \
    "{id: router~10.1.0.2~gate-0.demo~demo.svc.cluster.local, metadata: {LABELS: {app: "           \
    "gate}, " settings "}}"
#define INGRESS                                                                                    \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\n"                                                                                      \
    "spec: {ingress: [{port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: "        \
    "'127.0.0.1:80'}]}\n"
#define TLS_INGRESS                                                                                \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\nspec: {ingress: [{port: {number: 8443, protocol: HTTPS, name: https}, "                \
    "defaultEndpoint: '127.0.0.1:80', tls: {mode: SIMPLE, serverCertificate: /c.pem, "             \
    "privateKey: /k.pem}}]}\n"
#define SESSIONS(label)                                                                            \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo, labels: {" label   \
    "}}\nspec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}\n"
static const struct {
    struct mz_features f;
    const char *documents, *node;
    enum mz_xds_type type;
    const char *name, *has, *lacks; /* as in cases */
} featured[] = {
    { { 0 },
      SESSIONS("istio.io/persistent-session: c"),
      NODE,
      C,
      OUT,
      "\"override_host_status\":{\"statuses\":[\"HEALTHY\",\"DRAINING\",\"UNKNOWN\",\"DEGRADED\"]}",
      NULL },
    { { .http10 = true }, WEB, NODE, L, "0.0.0.0_80", "\"accept_http_10\":true", NULL },
    /* clusters by server name say how clients of HTTP/2 speak, and nothing of others */
    { { 0 }, PORT("http2") AUTO, GATEWAY, C, SNI, "\"http2_protocol_options\":{", NULL },
    { { 0 }, PORT("grpc") AUTO, GATEWAY, C, SNI, "\"http2_protocol_options\":{", NULL },
    { { 0 }, PORT("http") AUTO, GATEWAY, C, SNI, "\"EDS\"", "protocol_options" },
    { { 0 }, PORT("tcp") AUTO, GATEWAY, C, SNI, "\"EDS\"", "protocol_options" },
    { { 0 }, PORT("http2"), GATEWAY, C, SNI, NULL, NULL },
    { { .ingress_tls = true },
      WEB TLS_INGRESS MTLS("mtls: {mode: DISABLE}"),
      NODE,
      L,
      "virtualInbound",
      "\"name\":\"file-cert:/c.pem~/k.pem\"",
      NULL },
    { { .ingress_tls = true },
      WEB TLS_INGRESS MTLS("mtls: {mode: STRICT}"),
      NODE,
      L,
      "virtualInbound",
      "virtualInbound",
      "file-cert" },
    { { 0 },
      WEB TLS_INGRESS MTLS("mtls: {mode: DISABLE}"),
      NODE,
      L,
      "virtualInbound",
      "virtualInbound",
      "file-cert" },
    { { 0 },
      WEB INGRESS,
      AT("INTERCEPTION_MODE: NONE"),
      L,
      "10.1.0.1_8080",
      "\"filter_disabled\":{\"not_match\":{\"destination_port_range\":{\"start\":8080,\"end\":8081}"
      "}}",
      NULL },
    { { .http10 = true }, WEB, NODE, L, "0.0.0.0_80", "[\"http/1.0\",\"http/1.1\",\"h2c\"]", NULL },
    { { 0 }, WEB, AT("HTTP10: '1'"), L, "0.0.0.0_80", "\"accept_http_10\":true", "[\"http/1.0\"" },
    { { 0 }, WEB, AT("HTTP10: '1'"), L, "virtualInbound", "\"accept_http_10\":true", NULL },
    { { .remote_address = true }, WEB, NODE, L, "0.0.0.0_80", "\"use_remote_address\":true", NULL },
    { { .remote_address = true },
      WEB,
      NODE,
      L,
      "virtualInbound",
      "\"use_remote_address\":false",
      "\"use_remote_address\":true" },
    { { .redis = true },
      PORT("redis"),
      NODE,
      L,
      "10.9.0.1_80",
      "\"settings\":{\"op_timeout\":\"5s\"},\"latency_in_micros\":true,\"prefix_routes\":{"
      "\"catch_all_route\":{\"cluster\":\"outbound|80||web.demo.svc.cluster.local\"}}",
      "\"envoy.filters.network.tcp_proxy\",\"typed_config\":{\"@type\":\"type.googleapis.com/"
      "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\",\"stat_prefix\":\"outbound|80" },
    { { .redis = true }, PORT("redis"), NODE, C, OUT, "\"lb_policy\":\"MAGLEV\"", NULL },
    { { 0 }, PORT("redis"), NODE, L, "10.9.0.1_80", "outbound|80", "redis_proxy" },
    { { .mysql = true }, PORT("mysql"), NODE, L, "10.9.0.1_80", "mysql_proxy.v3.MySQLProxy", NULL },
    { { 0 }, PORT("mongo"), NODE, L, "10.9.0.1_80", "mongo_proxy.v3.MongoProxy", NULL },
    { { 0 }, PORT("mongo"), NODE, L, "virtualInbound", "mongo_proxy.v3.MongoProxy", NULL },
    { { .no_mongo = true }, PORT("mongo"), NODE, L, "10.9.0.1_80", "outbound|80", "mongo_proxy" },
    { { .no_continue = true }, WEB, NODE, L, "0.0.0.0_80", "outbound", "proxy_100_continue" },
    { { .always_weighs = true }, WEB, NODE, C, OUT, "\"locality_weighted_lb_config\":{}", NULL },
    { { .track_remaining = true }, WEB, NODE, C, OUT, "\"track_remaining\":true", NULL },
    { { .any_trust_domain = true },
      WEB,
      NODE,
      L,
      "virtualInbound",
      "ROOTCA",
      "match_subject_alt_names" },
    { { .shadow_suffix = true },
      WEB ROUTED("mirror: {host: web}"),
      NODE,
      R,
      "80",
      "request_mirror_policies",
      "disable_shadow_host_suffix_append" },
    { { .no_service_names = true }, WEB, NODE, C, OUT, OUT, "\"services\"" },
    { { .no_workload_names = true }, WEB, NODE, E, OUT, "10.1.0.1", "\"workload\"" },
    { { .no_absolute_names = true },
      WEB,
      NODE,
      R,
      "80",
      "\"web.demo.svc.cluster.local\"",
      "cluster.local.\"" },
    { { .no_exchange_alpn = true }, WEB, NODE, C, OUT, "\"alpn_protocols\":[\"istio\"]", NULL },
    { { .accepts = 7 },
      WEB,
      NODE,
      L,
      "virtualInbound",
      "\"max_connections_to_accept_per_socket_event\":7",
      NULL },
    { { .accepts_all = true },
      WEB,
      NODE,
      L,
      "virtualInbound",
      "virtualInbound",
      "max_connections_to_accept" },
    { { .handshake_ms = 7000 },
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"),
      GATEWAY,
      L,
      "0.0.0.0_443",
      "\"transport_socket_connect_timeout\":\"7s\"",
      NULL },
    { { .handshake_forever = true },
      WEB,
      NODE,
      L,
      "0.0.0.0_80",
      "0.0.0.0_80",
      "transport_socket_connect" },
    { { .gateways_at_home = true },
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"),
      "{id: router~10.1.0.2~gate-0.other~other.svc.cluster.local, metadata: {LABELS: {app: gate}}}",
      L,
      "0.0.0.0_443",
      NULL,
      NULL },
    { { .gateways_at_home = true },
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"),
      GATEWAY,
      L,
      "0.0.0.0_443",
      "0.0.0.0_443",
      NULL },
    /* sessions */
    { { .sessions = true },
      SESSIONS("istio.io/persistent-session: 'c:/p'"),
      NODE,
      R,
      "80",
      "\"name\":\"envoy.http.stateful_session.cookie\"",
      NULL },
    { { .sessions = true },
      SESSIONS("istio.io/persistent-session: 'c:/p'"),
      NODE,
      R,
      "80",
      "\"cookie\":{\"name\":\"c\",\"path\":\"/p\"}",
      NULL },
    { { .sessions = true },
      SESSIONS("istio.io/persistent-session-header: h"),
      NODE,
      R,
      "80",
      "HeaderBasedSessionState\",\"name\":\"h\"}",
      NULL },
    { { .sessions = true },
      SESSIONS("istio.io/persistent-session: c") ROUTED("name: r"),
      NODE,
      R,
      "80",
      "\"name\":\"c\",\"path\":\"/\"}",
      NULL },
    { { .sessions = true },
      SESSIONS("istio.io/persistent-session: c"),
      NODE,
      L,
      "0.0.0.0_80",
      "{\"name\":\"envoy.filters.http.stateful_session\",\"typed_config\":{\"@type\":\"type."
      "googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession\"}},{"
      "\"name\":\"envoy.filters.http.router\"",
      NULL },
    { { .sessions = true }, WEB, NODE, L, "virtualInbound", "virtualInbound", "stateful_session" },
    { { 0 }, SESSIONS("istio.io/persistent-session: c"), NODE, R, "80", OUT, "stateful_session" },
    /* how a proxy is run */
    { { 0 },
      WEB,
      AT("IDLE_TIMEOUT: 7s"),
      L,
      "0.0.0.0_80",
      "\"common_http_protocol_options\":{\"idle_timeout\":\"7s\"}",
      NULL },
    { { 0 },
      WEB,
      AT("IDLE_TIMEOUT: 1m30s"),
      L,
      "virtualOutbound",
      "\"cluster\":\"PassthroughCluster\",\"idle_timeout\":\"90s\"",
      "BlackHoleCluster\",\"idle_timeout\"" },
    { { 0 },
      WEB,
      AT("INBOUND_LISTENER_EXACT_BALANCE: 'true'"),
      L,
      "virtualInbound",
      "\"connection_balance_config\":{\"exact_balance\":{}}",
      NULL },
    { { 0 },
      WEB,
      AT("INBOUND_LISTENER_EXACT_BALANCE: 'true'"),
      L,
      "virtualOutbound",
      "virtualOutbound",
      "exact_balance" },
    { { 0 },
      WEB,
      AT("OUTBOUND_LISTENER_EXACT_BALANCE: 'true'"),
      L,
      "0.0.0.0_80",
      "\"connection_balance_config\":{\"exact_balance\":{}}",
      NULL },
    { { 0 }, WEB, AT("INTERCEPTION_MODE: NONE"), L, "virtualInbound", NULL, NULL },
    { { 0 }, WEB, AT("INTERCEPTION_MODE: NONE"), L, "virtualOutbound", NULL, NULL },
    { { 0 },
      WEB,
      AT("INTERCEPTION_MODE: NONE"),
      L,
      "127.0.0.1_80",
      "\"address\":\"127.0.0.1\",\"port_value\":80",
      "bind_to_port" },
    { { 0 }, WEB, AT("INTERCEPTION_MODE: NONE"), C, "inbound|80||", NULL, NULL },
    { { 0 },
      WEB INGRESS,
      AT("INTERCEPTION_MODE: NONE"),
      L,
      "10.1.0.1_8080",
      "\"port_value\":8080",
      "original_dst" },
    { { 0 }, WEB INGRESS, AT("INTERCEPTION_MODE: NONE"), C, "inbound|8080||", "127.0.0.1", NULL },
    { { 0 },
      WEB,
      AT("INTERCEPTION_MODE: NONE, UNPRIVILEGED_POD: 'true'"),
      L,
      "127.0.0.1_80",
      NULL,
      NULL },
    { { 0 },
      WEB SERVER("tls: {mode: SIMPLE, credentialName: c}"),
      DOOR("UNPRIVILEGED_POD: 'true'"),
      L,
      "0.0.0.0_443",
      NULL,
      NULL },
};

static void test_features(void **state)
{
    (void)state;
    unsigned bad = 0;
    for (size_t i = 0; i < MZ_COUNT(featured); i++) {
        features = featured[i].f;
        const char *has = featured[i].has, *lacks = featured[i].lacks;
        const char *got =
            ask("", featured[i].documents, featured[i].node, featured[i].type, featured[i].name);
        if ((has && got ? strstr(got, has) != NULL : !has && !got) &&
            !(got && lacks && strstr(got, lacks)))
            continue;
        print_error("case %zu: %s is not in, or %s is: %s\n", i, has ? has : "nothing",
                    lacks ? lacks : "nothing", got ? got : "nothing");
        bad++;
    }
    features = (struct mz_features){ .dynamic_hosts = 7 };
    assert_non_null(strstr(ask(RESOLVES(""), WEB, NODE, L, "virtualOutbound"), "\"max_hosts\":7"));
    features = (struct mz_features){ 0 };
    assert_int_equal(bad, 0);
}

/* ---- namespaces ---- */

static void test_namespaces_that_are_looked_at(void **state)
{
    (void)state;
#define NS(name, labels)                                                                           \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {" labels "}}\n"
    static const struct {
        const char *mesh;
        bool has;
    } mesh[] = {
        { "", true },
        { "discoverySelectors: [{matchLabels: {mesh: 'on'}}]", true },
        { "discoverySelectors: [{matchLabels: {mesh: 'off'}}]", false },
        { "discoverySelectors: [{matchLabels: {mesh: 'off'}}, {}]", true },
        { "discoverySelectors: [{matchExpressions: [{key: mesh, operator: In, values: ['on', "
          "x]}]}]",
          true },
        { "discoverySelectors: [{matchExpressions: [{key: mesh, operator: NotIn, values: "
          "['on']}]}]",
          false },
        { "discoverySelectors: [{matchExpressions: [{key: mesh, operator: Exists}]}]", true },
        { "discoverySelectors: [{matchExpressions: [{key: mesh, operator: DoesNotExist}]}]",
          false },
    };
    for (size_t i = 0; i < MZ_COUNT(mesh); i++)
        if ((ask(mesh[i].mesh, NS("demo", "mesh: 'on'") WEB, NODE, C, OUT) != NULL) != mesh[i].has)
            fail_msg("%s", mesh[i].mesh);
}

/* ---- verdicts ---- */

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        enum mz_kind kind;
        const char *spec, *error;
    } verdicts[] = {
        { MZ_KIND_PROXY_CONFIG, "{concurrency: -1}", "concurrency: must" },
        { MZ_KIND_MESH_CONFIG,
          "{discoverySelectors: [{matchExpressions: [{key: a, operator: Like}]}]}",
          "discovery_selectors[0].matchExpressions[0].operator: \"Like\"" },
        { MZ_KIND_MESH_CONFIG,
          "{serviceEntryVisibility: {policies: [{}, {matchingRules: [{namespaceSelector: "
          "{matchExpressions: [{key: a, operator: Like}]}}]}]}}",
          "service_entry_visibility.policies[1].matching_rules[0].namespace_selector" },
        { MZ_KIND_MESH_CONFIG,
          "{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: MUTUAL}}}",
          "outbound_traffic_policy.tls.client_certificate: is required" },
        { MZ_KIND_MESH_CONFIG, "{localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}",
          "locality_lb_setting.distribute[0].to: the shares" },
        { MZ_KIND_MESH_CONFIG,
          "{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}",
          "default_traffic_policy.tcp.max_connections" },
        { MZ_KIND_DESTINATION_RULE,
          "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: "
          "a}]}}}}",
          "traffic_policy.load_balancer.locality_lb_setting.failover[0]: \"a\" cannot" },
        { MZ_KIND_MESH_CONFIG, "{zoneAwareLbSetting: {failover: [{from: a/b, to: c}]}}",
          "zone_aware_lb_setting.failover[0]: regions only" },
        { MZ_KIND_MESH_CONFIG, "{proxyHttpPort: 70000}", "proxy_http_port: 70000" },
        { MZ_KIND_MESH_CONFIG, "{defaultInboundHttpRetryPolicy: {backoff: 1s}}",
          "default_inbound_http_retry_policy.backoff: says" },
        { MZ_KIND_DESTINATION_RULE,
          "{host: a, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}, localityLbSetting: "
          "{}}}}",
          "traffic_policy.load_balancer: only one" },
        { MZ_KIND_DESTINATION_RULE,
          "{host: a, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {failoverPriority: "
          "[topology.kubernetes.io/zone]}}}}",
          "traffic_policy.load_balancer.zone_aware_lb_setting.failover_priority[0]: \"topology" },
        { MZ_KIND_GATEWAY,
          "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: "
          "SIMPLE, tlsCertificates: [{serverCertificate: a}]}}]}",
          "servers[0].tls.tls_certificates[0]: needs" },
        { MZ_KIND_GATEWAY,
          "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: "
          "SIMPLE, credentialName: a, tlsCertificates: [{}]}}]}",
          "servers[0].tls: only one of" },
        { MZ_KIND_GATEWAY,
          "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: "
          "MUTUAL, credentialName: a, caCrl: b}}]}",
          "servers[0].tls.ca_crl: stands" },
        { MZ_KIND_SIDECAR,
          "{outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a.b}}}",
          "outbound_traffic_policy.egress_proxy: is for ALLOW_ANY" },
        { MZ_KIND_SIDECAR, "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b}}}",
          "outbound_traffic_policy.egress_proxy.port: is required" },
        { MZ_KIND_DESTINATION_RULE,
          "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: ['']}}}}",
          "traffic_policy.load_balancer.locality_lb_setting.failover_priority[0]: must" },
    };
    for (size_t i = 0; i < MZ_COUNT(verdicts); i++) {
        struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
        struct mz_err err = { .path = "", .msg = "" };
        char text[sizeof(err)];
        ProtobufCMessage *m = NULL;
        const bool ok = mz_msg_from_text(&ctx, mz_str_c(verdicts[i].spec), MZ_TEXT_YAML,
                                         mz_kind_info(verdicts[i].kind)->type, &m, &err) &&
                        mz_check_object(verdicts[i].kind, m, &err);
        if (ok || strncmp(mz_err_text(&err, text, sizeof(text)), verdicts[i].error,
                          strlen(verdicts[i].error)) != 0)
            fail_msg("%s: \"%s\"", verdicts[i].spec, ok ? "" : text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, up, down),
        cmocka_unit_test_setup_teardown(test_features, up, down),
        cmocka_unit_test_setup_teardown(test_namespaces_that_are_looked_at, up, down),
        cmocka_unit_test_setup_teardown(test_verdicts, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
