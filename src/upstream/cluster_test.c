/* Clusters from YAML (U1, U2, U7): errors with their paths, /clusters as recorded from Envoy, memory of many, updates. */
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <malloc.h>
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;

static bool add(const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    bool ok =
        mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               false, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

#define ONE_HOST                                                                                   \
    "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: "         \
    "{socket_address: {address: 127.0.0.1, port_value: 80}}}}]}]}\n"
#define HTTP_OPTIONS                                                                               \
    "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "  \
    "{'@type': "                                                                                   \
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
#define LB_POLICY                                                                                  \
    "load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: "         \
    "{'@type': "                                                                                   \
    "type.googleapis.com/envoy.extensions.load_balancing_policies."

/* error NULL: accepted. Otherwise the text that "path: message" must contain. */
static const struct {
    const char *name, *yaml, *error;
} cases[] = {
    { "plain", ONE_HOST, NULL },
    { "no load_assignment (validate/47)", "type: STATIC\n", NULL },
    { "all of lb",
      "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 5, active_request_bias: "
      "{default_value: 0.5, "
      "runtime_key: a.b}}\ncommon_lb_config: {healthy_panic_threshold: {value: 20}, "
      "locality_weighted_lb_config: {}}\n" ONE_HOST,
      NULL },
    { "policy by type", LB_POLICY "random.v3.Random}}}]}\n" ONE_HOST, NULL },
    { "http options",
      HTTP_OPTIONS
      "explicit_http_config: {http_protocol_options: {enable_trailers: true}}, "
      "common_http_protocol_options: {idle_timeout: 5s, max_requests_per_connection: 3}}}\n",
      NULL },
    { "downstream protocol",
      HTTP_OPTIONS "use_downstream_protocol_config: {http_protocol_options: {}}}}\n", NULL },
    { "source and options",
      "upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, freebind: true, "
      "socket_options: "
      "[{level: 6, name: 18, int_value: 1000, state: STATE_PREBIND}]}\n"
      "upstream_connection_options: {tcp_keepalive: {keepalive_probes: 3, keepalive_time: 10, "
      "keepalive_interval: 5}}\n",
      NULL },
    { "sources of both families",
      "upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, "
      "extra_source_addresses: [{address: {address: '::6', port_value: 0}, socket_options: "
      "{socket_options: [{level: 6, name: 18, int_value: 1000, state: STATE_PREBIND}]}}]}\n",
      NULL },
    { "sources of one family",
      "upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, "
      "extra_source_addresses: [{address: {address: 127.0.0.7, port_value: 0}}]}\n",
      "upstream_bind_config.extra_source_addresses[0].address: must be of another family" },
    { "an extra source alone",
      "upstream_bind_config: {extra_source_addresses: [{address: {address: '::6', port_value: "
      "0}}]}\n",
      "upstream_bind_config.extra_source_addresses: at most one, and not without source_address" },
    { "named endpoint",
      "load_assignment: {cluster_name: x, named_endpoints: {a: {address: {socket_address: "
      "{address: 10.0.0.1, "
      "port_value: 1}}}}, endpoints: [{lb_endpoints: [{endpoint_name: a}]}]}\n",
      NULL },
    { "pipe",
      "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: "
      "{path: /tmp/x.sock}}}}]}]}\n",
      NULL },
    { "duplicate (validate/10)", "name: taken\n", "cluster manager: duplicate cluster 'taken'" },
    { "name instead of address (validate/46)",
      "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: "
      "{socket_address: {address: localhost, "
      "port_value: 80}}}}]}]}\n",
      "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "
      "malformed IP address: localhost. Consider "
      "setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'" },
    { "two names for LOGICAL_DNS (validate/49)",
      "type: LOGICAL_DNS\nload_assignment: {cluster_name: x, endpoints: [{lb_endpoints: "
      "[{endpoint: {address: {socket_address: {address: "
      "a, port_value: 80}}}}, {endpoint: {address: {socket_address: {address: b, port_value: "
      "80}}}}]}]}\n",
      "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint" },
    { "EDS (validate/48)", "type: EDS\n", "cannot create an EDS cluster without an EDS config" },
    { "ORIGINAL_DST",
      "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\ncleanup_interval: 1s\n"
      "original_dst_lb_config: {use_http_header: true, upstream_port_override: 80, metadata_key: "
      "{key: a, path: [{key: b}]}}\n",
      NULL },
    { "ORIGINAL_DST, another policy", "type: ORIGINAL_DST\n",
      "lb_policy: LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST. Only "
      "'CLUSTER_PROVIDED' is allowed" },
    { "ORIGINAL_DST with hosts", "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n" ONE_HOST,
      "load_assignment: ORIGINAL_DST clusters must have no load assignment configured" },
    { "ORIGINAL_DST, a header for nothing",
      "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\noriginal_dst_lb_config: "
      "{http_header_name: x}\n",
      "original_dst_lb_config.http_header_name: invalid config http_header_name=x and "
      "use_http_header is false" },
    { "ORIGINAL_DST with subsets",
      "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\nlb_subset_config: {subset_selectors: "
      "[{keys: [a]}]}\n",
      "LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config" },
    { "ORIGINAL_DST by type",
      "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n" LB_POLICY
      "cluster_provided.v3.ClusterProvided}}}]}\n",
      NULL },
    { "nothing provided", "lb_policy: CLUSTER_PROVIDED\n" ONE_HOST,
      "cluster manager: cluster provided LB specified but cluster 'x' did not provide one." },
    { "connect_timeout 0", "connect_timeout: 0s\n", "connect_timeout" },
    { "ring hash", "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 7}\n", NULL },
    { "ring hash, sizes",
      "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 7, maximum_ring_size: 6}\n",
      "ring_hash_lb_config: ring hash: minimum_ring_size (7) > maximum_ring_size (6)" },
    { "ring hash, bounded",
      "lb_policy: RING_HASH\ncommon_lb_config: {consistent_hashing_lb_config: "
      "{use_hostname_for_hashing: true, hash_balance_factor: 120}}\n",
      NULL },
    { "maglev", "lb_policy: MAGLEV\n", NULL },
    { "maglev, no prime", "lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 9}\n",
      "maglev_lb_config.table_size: The table size of maglev must be prime number" },
    { "typed ring hash", LB_POLICY "ring_hash.v3.RingHash, hash_function: MURMUR_HASH_2}}}]}\n",
      NULL },
    { "typed maglev, factor",
      LB_POLICY "maglev.v3.Maglev, consistent_hashing_lb_config: {hash_balance_factor: 99}}}}]}\n",
      "hash_balance_factor" },
    { "slow start",
      "round_robin_lb_config: {slow_start_config: {slow_start_window: 60s, aggression: "
      "{default_value: 2, runtime_key: a}, min_weight_percent: {value: 5}}}\n" ONE_HOST,
      NULL },
    { "slow start, more than all",
      "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {slow_start_config: {slow_start_window: "
      "60s, min_weight_percent: {value: 101}}}\n",
      "least_request_lb_config.slow_start_config.min_weight_percent" },
    { "slow start, negative",
      LB_POLICY "round_robin.v3.RoundRobin, slow_start_config: {slow_start_window: -1s}}}}]}\n",
      "slow_start_config.slow_start_window" },
    { "zones",
      "common_lb_config: {zone_aware_lb_config: {routing_enabled: {value: 50}, min_cluster_size: "
      "3, "
      "fail_traffic_on_panic: true}, update_merge_window: 0s, override_host_status: {statuses: "
      "[HEALTHY, DRAINING]}}\n",
      NULL },
    { "zones by type",
      LB_POLICY "round_robin.v3.RoundRobin, locality_lb_config: {zone_aware_lb_config: "
                "{force_local_zone: {min_size: 2}, locality_basis: HEALTHY_HOSTS_WEIGHT}}}}}]}\n",
      NULL },
    { "zones, too many percent",
      "common_lb_config: {zone_aware_lb_config: {routing_enabled: {value: 101}}}\n",
      "common_lb_config.zone_aware_lb_config.routing_enabled" },
    { "full scan", LB_POLICY "least_request.v3.LeastRequest, selection_method: FULL_SCAN}}}]}\n",
      NULL },
    { "subsets by type",
      LB_POLICY
      "subset.v3.Subset, subset_selectors: [{keys: [a]}], subset_lb_policy: {policies: "
      "[{typed_extension_config: {name: x, typed_config: {'@type': "
      "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}"
      "\n" ONE_HOST,
      NULL },
    { "subsets by type, no policy within",
      LB_POLICY "subset.v3.Subset, subset_selectors: [{keys: [a]}], subset_lb_policy: {}}}}]}\n",
      "load_balancing_policy.policies[0].typed_extension_config.typed_config.subset_lb_policy: at "
      "least one policy is required" },
    { "subsets by type within subsets",
      LB_POLICY
      "subset.v3.Subset, subset_lb_policy: {policies: [{typed_extension_config: {name: inner, "
      "typed_config: {'@type': "
      "type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset, "
      "subset_lb_policy: {}}}}]}}}}]}\n",
      "subset_lb_policy.policies: no policy is supported here; the first is 'inner'" },
    { "a policy that is not known", LB_POLICY "wrr_locality.v3.WrrLocality}}}]}\n",
      "wrr_locality" },
    { "named hosts",
      LB_POLICY "override_host.v3.OverrideHost, override_host_sources: [{header: x-h}], "
                "fallback_policy: {policies: [{typed_extension_config: {name: x, typed_config: "
                "{'@type': type.googleapis.com/"
                "envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}\n",
      NULL },
    { "named hosts by nothing",
      LB_POLICY "override_host.v3.OverrideHost, override_host_sources: [{}], fallback_policy: "
                "{}}}}]}\n",
      "override_host_sources[0]: Empty override source" },
    { "choice_count", "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 1}\n",
      "choice_count" },
    { "HTTP/2", HTTP_OPTIONS "explicit_http_config: {http2_protocol_options: {}}}}\n", NULL },
    { "HTTP/2, older field", "http2_protocol_options: {hpack_table_size: 100}\n", NULL },
    { "HTTP/2, a setting twice",
      "http2_protocol_options: {max_concurrent_streams: 7, custom_settings_parameters: "
      "[{identifier: 3, value: 5}]}\n",
      "http2_protocol_options.custom_settings_parameters[0]: max_concurrent_streams is set by its "
      "own field already" },
    { "HTTP/2, push",
      "http2_protocol_options: {custom_settings_parameters: [{identifier: 2, value: 1}]}\n",
      "http2_protocol_options.custom_settings_parameters[0]: server push is not supported" },
    { "HTTP/2, extended CONNECT as a setting",
      HTTP_OPTIONS "explicit_http_config: {http2_protocol_options: {allow_connect: true, "
                   "custom_settings_parameters: [{identifier: 8, value: 1}]}}}}\n",
      "explicit_http_config.http2_protocol_options.custom_settings_parameters[0]: extended "
      "CONNECT is set by allow_connect only" },
    { "HTTP/2, settings that differ",
      "http2_protocol_options: {custom_settings_parameters: [{identifier: 9, value: 1}, "
      "{identifier: 9, value: 1}, {identifier: 9, value: 2}]}\n",
      "custom_settings_parameters[2]: identifier 9 is given twice with different values" },
    { "HTTP/2, window",
      HTTP_OPTIONS "use_downstream_protocol_config: {http2_protocol_options: "
                   "{initial_stream_window_size: 65534}}}}\n",
      "use_downstream_protocol_config.http2_protocol_options.initial_stream_window_size" },
    { "auto_config", HTTP_OPTIONS "auto_config: {}}}\n",
      "auto_config: the cluster's transport socket does not negotiate a protocol (ALPN)" },
    { "health checks",
      "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, "
      "tcp_health_check: {}}]\n",
      NULL },
    { "subsets", "lb_subset_config: {subset_selectors: [{keys: [a]}]}\n", NULL },
    { "subsets, no fallback keys",
      "lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET}]}\n",
      "lb_subset_config.subset_selectors[0].fallback_keys_subset: fallback_keys_subset cannot be "
      "empty" },
    { "subsets, other fallback keys",
      "lb_subset_config: {subset_selectors: [{keys: [b]}, {keys: [a], fallback_policy: "
      "KEYS_SUBSET, fallback_keys_subset: [b]}]}\n",
      "subset_selectors[1].fallback_keys_subset: fallback_keys_subset must be a subset of selector "
      "keys" },
    { "subsets, the same fallback keys",
      "lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_policy: KEYS_SUBSET, "
      "fallback_keys_subset: [b, a]}]}\n",
      "fallback_keys_subset cannot be equal to keys" },
    { "subsets, fallback keys for nothing",
      "lb_subset_config: {subset_selectors: [{keys: [a, b], fallback_keys_subset: [b]}]}\n",
      "fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy" },
    { "subsets and a typed policy",
      "lb_subset_config: {subset_selectors: [{keys: [a]}]}\n" LB_POLICY "random.v3.Random}}}]}\n",
      "lb_subset_config: load_balancing_policy cannot be combined with lb_subset_config" },
    { "subsets, weights of localities",
      "lb_subset_config: {locality_weight_aware: true, subset_selectors: [{keys: [a]}]}\n",
      "lb_subset_config.locality_weight_aware: Locality weight aware subset LB requires that a "
      "locality_weighted_lb_config be set" },
    { "weight 0",
      "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: "
      "{socket_address: {address: 10.0.0.1, "
      "port_value: 1}}}, load_balancing_weight: 0}]}]}\n",
      "load_balancing_weight" },
    { "bind to a name", "upstream_bind_config: {source_address: {address: here, port_value: 0}}\n",
      "upstream_bind_config.source_address.address" },
    { "per host", "circuit_breakers: {per_host_thresholds: [{max_requests: 1}]}\n",
      "circuit_breakers.per_host_thresholds[0]: only max_connections can be limited per host" },
    { "predictive", "preconnect_policy: {predictive_preconnect_ratio: 2}\n", NULL },
    { "predictive, too much", "preconnect_policy: {predictive_preconnect_ratio: 3.5}\n",
      "preconnect_policy.predictive_preconnect_ratio: must be between 1 and 3, is 3.5" },
};

static void rig_start(void)
{
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
}

static void rig_stop(void)
{
    mz_cluster_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    mz_addr_paths_free();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
    assert_int_equal(c[MZ_MEM_CONFIG].objects, 0);
}

static void test_config(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    assert_true(add("name: taken\n", &err));
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char yaml[4096], text[2048];
        bool named = strncmp(cases[i].yaml, "name:", 5) == 0;
        (void)snprintf(yaml, sizeof(yaml), "%s%s", named ? "" : "name: x\n", cases[i].yaml);
        bool ok = add(yaml, &err);
        if (ok != !cases[i].error)
            fail_msg("%s: %s", cases[i].name,
                     ok ? "was accepted" : mz_err_text(&err, text, sizeof(text)));
        if (!ok && !strstr(mz_err_text(&err, text, sizeof(text)), cases[i].error))
            fail_msg("%s: the error is '%s'", cases[i].name, text);
        assert_int_equal(mz_cluster_manager_remove(manager, MZ_STR("x")), ok);
    }
    assert_int_equal(mz_cluster_manager_count(manager), 1);
    rig_stop();
}

/* Names that requests bring: visible, short, and at most 64 of them (E13). */
static void test_alt_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool taken;
    } names[] = {
        { "alt", true }, { "a.b", true }, { "", false }, { "a b", false }, { "\x80", false }
    };
    rig_start();
    struct mz_err err;
    assert_true(add("name: x\nconnect_timeout: 0.25s\n" ONE_HOST, &err));
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    struct mz_cluster *c = mz_wcluster_info(mz_upstream_find(u, MZ_STR("x")));
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        assert_true((mz_cluster_alt_scope(c, mz_str_c(names[i].name)) != NULL) == names[i].taken);
    struct mz_scope *first = mz_cluster_alt_scope(c, MZ_STR("alt"));
    assert_true(mz_str_eq(first->prefix, MZ_STR("cluster.x.alt.")));
    unsigned taken = 0;
    for (unsigned i = 0; i < 100; i++) {
        char name[130];
        int n = snprintf(name, sizeof(name), "n%u", i);
        taken += mz_cluster_alt_scope(c, (struct mz_str){ name, (size_t)n }) != NULL;
    }
    assert_int_equal(taken, 62);
    assert_ptr_equal(mz_cluster_alt_scope(c, MZ_STR("alt")), first);
    char longest[129];
    memset(longest, 'x', sizeof(longest));
    assert_null(mz_cluster_alt_scope(c, (struct mz_str){ longest, sizeof(longest) }));
    mz_upstream_destroy(u);
    rig_stop();
}

static void test_built(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    assert_true(add("name: x\nconnect_timeout: 0.25s\n" HTTP_OPTIONS
                    "explicit_http_config: {http_protocol_options: {enable_trailers: true, "
                    "header_key_format: {proper_case_words: {}}}}, "
                    "common_http_protocol_options: {idle_timeout: 5s, max_requests_per_connection: "
                    "3, max_response_headers_kb: 9}}}\n" ONE_HOST,
                    &err));
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    struct mz_wcluster *w = mz_upstream_find(u, MZ_STR("x"));
    const struct mz_cluster *c = mz_wcluster_info(w);
    assert_int_equal(c->connect_timeout_ms, 250);
    assert_int_equal(c->idle_timeout_ms, 5000);
    assert_int_equal(c->max_requests_per_connection, 3);
    assert_int_equal(c->buffer_limit, 1 << 20);
    assert_true(c->http1.enable_trailers);
    assert_int_equal(c->http1.header_case, MZ_CASE_PROPER);
    assert_int_equal(c->http1.max_headers_kb, 9);
    assert_int_equal(mz_cluster_member(c, MZ_CM_TOTAL), 1);
    assert_null(mz_upstream_find(u, MZ_STR("other")));
    assert_true(add("name: other\n", &err)); /* seen after the turn */
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
    assert_non_null(mz_upstream_find(u, MZ_STR("other")));
    assert_ptr_equal(mz_upstream_find(u, MZ_STR("x")), w);
    mz_upstream_destroy(u);
    rig_stop();
}

/* As recorded in the case admin-clusters. */
static const char pri_text[] =
    "pri::observability_name::pri\npri::outlier::success_rate_average::-1\npri::outlier::success_"
    "rate_ejection_threshold::-1\n"
    "pri::outlier::local_origin_success_rate_average::-1\npri::outlier::local_origin_success_rate_"
    "ejection_threshold::-1\n"
    "pri::default_priority::max_connections::7\npri::default_priority::max_pending_requests::1024\n"
    "pri::default_priority::max_requests::1024\npri::default_priority::max_retries::3\npri::high_"
    "priority::max_connections::1024\n"
    "pri::high_priority::max_pending_requests::1024\npri::high_priority::max_requests::1024\npri::"
    "high_priority::max_retries::9\n"
    "pri::added_via_api::false\npri::127.0.0.1:81::cx_active::0\npri::127.0.0.1:81::cx_connect_"
    "fail::0\n"
    "pri::127.0.0.1:81::cx_total::0\npri::127.0.0.1:81::rq_active::0\npri::127.0.0.1:81::rq_error::"
    "0\n"
    "pri::127.0.0.1:81::rq_pending_active::0\npri::127.0.0.1:81::rq_success::0\npri::127.0.0.1:81::"
    "rq_timeout::0\n"
    "pri::127.0.0.1:81::rq_total::0\npri::127.0.0.1:81::hostname::h.test\npri::127.0.0.1:81::"
    "health_flags::healthy\n"
    "pri::127.0.0.1:81::weight::5\npri::127.0.0.1:81::region::r\npri::127.0.0.1:81::zone::z\npri::"
    "127.0.0.1:81::sub_zone::s\n"
    "pri::127.0.0.1:81::canary::false\npri::127.0.0.1:81::priority::0\npri::127.0.0.1:81::success_"
    "rate::-1\n"
    "pri::127.0.0.1:81::local_origin_success_rate::-1\n";
static const char pri_json[] =
    "{\"cluster_statuses\":[{\"name\":\"pri\",\"host_statuses\":[{\"address\":{\"socket_address\":{"
    "\"address\":\"127.0.0.1\","
    "\"port_value\":81}},\"stats\":[{\"name\":\"cx_connect_fail\"},{\"name\":\"cx_total\"},{"
    "\"name\":\"rq_error\"},"
    "{\"name\":\"rq_success\"},{\"name\":\"rq_timeout\"},{\"name\":\"rq_total\"},{\"type\":"
    "\"GAUGE\",\"name\":\"cx_active\"},"
    "{\"type\":\"GAUGE\",\"name\":\"rq_active\"},{\"type\":\"GAUGE\",\"name\":\"rq_pending_"
    "active\"}],"
    "\"health_status\":{\"eds_health_status\":\"HEALTHY\"},\"weight\":5,\"hostname\":\"h.test\","
    "\"locality\":{\"region\":\"r\",\"zone\":\"z\",\"sub_zone\":\"s\"}}],\"circuit_breakers\":{"
    "\"thresholds\":["
    "{\"max_connections\":7,\"max_pending_requests\":1024,\"max_requests\":1024,\"max_retries\":3},"
    "{\"priority\":\"HIGH\",\"max_connections\":1024,\"max_pending_requests\":1024,\"max_"
    "requests\":1024,\"max_retries\":9}]},"
    "\"observability_name\":\"pri\"}]}";

static void assert_buf(void (*dump)(struct mz_cluster_manager *m, struct mz_buf *out),
                       const char *want)
{
    struct mz_buf b;
    mz_buf_init(&b);
    dump(manager, &b);
    struct mz_str got = mz_buf_linearize(&b, mz_buf_len(&b));
    if (!mz_str_eq(got, mz_str_c(want)))
        fail_msg("got:\n" MZ_STR_FMT "\nexpected:\n%s", MZ_STR_ARG(got), want);
    mz_buf_fini(&b);
}

static void test_dump(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    assert_buf(mz_cluster_manager_json, "{}");
    assert_true(add("name: pri\ncircuit_breakers: {thresholds: [{max_connections: 7}, {priority: "
                    "HIGH, max_retries: 9}]}\noutlier_detection: {}\n"
                    "load_assignment: {cluster_name: pri, endpoints: [{priority: 0, locality: "
                    "{region: r, zone: z, sub_zone: s}, lb_endpoints: "
                    "[{load_balancing_weight: 5, endpoint: {hostname: h.test, address: "
                    "{socket_address: {address: 127.0.0.1, port_value: "
                    "81}}}}]}]}\n",
                    &err));
    assert_buf(mz_cluster_manager_text, pri_text);
    assert_buf(mz_cluster_manager_json, pri_json);
    rig_stop();
}

/* Flags change, all threads get new sets once; a cluster that went meanwhile does not mind (U5, U6). */
static void test_refresh(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    assert_true(add("name: x\ncommon_lb_config: {update_merge_window: 0s}\n" ONE_HOST, &err));
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    struct mz_wcluster *w = mz_wcluster_ref(mz_upstream_find(u, MZ_STR("x")));
    struct mz_cluster *c = mz_wcluster_info(w);
    static const struct {
        uint32_t flags;
        unsigned healthy, degraded, excluded;
    } steps[] = { { MZ_HOST_FAILED_ACTIVE_HC, 0, 0, 0 },
                  { 0, 1, 0, 0 },
                  { MZ_HOST_FAILED_OUTLIER, 0, 0, 0 },
                  { MZ_HOST_DEGRADED_ACTIVE_HC, 0, 1, 0 },
                  { MZ_HOST_FAILED_ACTIVE_HC | MZ_HOST_PENDING_ACTIVE_HC, 0, 0, 1 } };
    for (size_t i = 0; i < MZ_COUNT(steps); i++) {
        uint64_t seq = w->lb.sets->seq;
        w->lb.sets->hosts[0]->health_flags = steps[i].flags;
        cluster_refresh_health(c);
        cluster_refresh_health(c);
        mz_loop_turn(loop, 0);
        mz_loop_turn(loop, 0);
        assert_int_equal(w->lb.sets->seq, seq + 1);
        assert_int_equal(w->lb.sets->v[0].lists[SOURCE_HEALTHY].n, steps[i].healthy);
        assert_int_equal(w->lb.sets->v[0].lists[SOURCE_DEGRADED].n, steps[i].degraded);
        assert_int_equal(mz_cluster_member(c, MZ_CM_HEALTHY), steps[i].healthy);
        assert_int_equal(mz_cluster_member(c, MZ_CM_DEGRADED), steps[i].degraded);
        assert_int_equal(mz_cluster_member(c, MZ_CM_EXCLUDED), steps[i].excluded);
    }
    cluster_refresh_health(c);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
    cluster_refresh_health(c);
    mz_wcluster_unref(w);
    mz_upstream_destroy(u);
    rig_stop();
}

static size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* 5,000 clusters of which none is used stay small; under ASan malloc does not tell. */
static void test_many_are_small(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    size_t before = heap_bytes();
    for (int i = 0; i < 5000; i++) {
        char yaml[512];
        (void)snprintf(yaml, sizeof(yaml), "name: outbound-%d-some.name.of.a.service\n" ONE_HOST,
                       i);
        assert_true(add(yaml, &err));
    }
    size_t each = (heap_bytes() - before) / 5000;
    if (each > 500)
        fail_msg("%zu bytes for each cluster", each);
    print_message("%zu bytes for each cluster, struct %zu + %zu\n", each, sizeof(struct mz_cluster),
                  sizeof(struct cluster_priv));
    rig_stop();
}

/* ---- DNS: localhost comes from /etc/hosts, .invalid never exists ---- */
static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

#define DNS(type, name)                                                                            \
    "type: " type "\ndns_lookup_family: V4_ONLY\nload_assignment: {cluster_name: x, endpoints: "   \
    "[{lb_endpoints: [{endpoint: {address: "                                                       \
    "{socket_address: {address: " name ", port_value: 4711}}}}]}]}\n"

static void test_dns(void **state)
{
    (void)state;
    rig_start();
    struct mz_err err;
    bool ready = false;
    assert_true(add("name: s\n" DNS("STRICT_DNS", "localhost"), &err));
    assert_true(add("name: l\n" DNS("LOGICAL_DNS", "localhost"), &err));
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    struct mz_lb_ctx ctx = { 0 };
    assert_null(mz_wcluster_choose(mz_upstream_find(u, MZ_STR("s")), &ctx));
    mz_cluster_manager_when_ready(manager, set_flag, &ready);
    assert_false(ready);
    for (int i = 0; i < 2000 && !ready; i++)
        mz_loop_turn(loop, 5);
    assert_true(ready);
    mz_loop_turn(loop, 0);
    static const char *const names[] = { "s", "l" };
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        const struct mz_host *h = mz_wcluster_choose(mz_upstream_find(u, mz_str_c(names[i])), &ctx);
        assert_non_null(h);
        assert_true(
            mz_str_eq((struct mz_str){ h->addr_text, h->addr_text_n }, MZ_STR("127.0.0.1:4711")));
        assert_true(mz_str_eq(h->hostname, MZ_STR("localhost")));
        const struct mz_cluster *c = mz_wcluster_info(mz_upstream_find(u, mz_str_c(names[i])));
        assert_int_equal(mz_cluster_member(c, MZ_CM_TOTAL), 1);
        assert_int_equal(mz_scope_value(c->scope, MZ_CS_UPDATE_SUCCESS), 1);
    }
    mz_upstream_destroy(u);
    rig_stop();
}

static void test_ready_without_dns(void **state)
{
    (void)state;
    rig_start();
    bool ready = false;
    mz_cluster_manager_when_ready(manager, set_flag, &ready);
    assert_false(ready);
    mz_loop_turn(loop, 0);
    assert_true(ready);
    rig_stop();
}

/* ---- workers find, main adds and removes ---- */
struct worker {
    pthread_t thread;
    struct mz_loop *loop;
    struct mz_upstream *upstream;
    unsigned found;
};

static void stop_worker(struct mz_loop *l, void *arg)
{
    struct worker *w = arg;
    mz_upstream_destroy(w->upstream);
    mz_loop_stop(l);
}

static void find_some(struct mz_loop *l, void *arg)
{
    (void)l;
    struct worker *w = arg;
    for (int i = 0; i < 20; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "c%d", i);
        struct mz_wcluster *c = mz_upstream_find(w->upstream, mz_str_c(name));
        struct mz_lb_ctx ctx = { 0 };
        w->found += c && mz_wcluster_choose(c, &ctx) != NULL;
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    mz_stats_thread_slot(mz_loop_worker(w->loop));
    mz_loop_run(w->loop);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    rig_start();
    struct worker w = { .loop = mz_loop_create("worker_0") };
    struct mz_err err;
    mz_loop_set_worker(w.loop, 1);
    w.upstream = mz_upstream_create(manager, w.loop);
    assert_int_equal(pthread_create(&w.thread, NULL, work, &w), 0);
    for (int i = 0; i < 20; i++) {
        char yaml[512], name[16];
        (void)snprintf(yaml, sizeof(yaml), "name: c%d\n" ONE_HOST, i);
        assert_true(add(yaml, &err));
        mz_loop_turn(loop, 0);
        mz_loop_post(w.loop, find_some, &w);
        if (i % 4 == 3) {
            (void)snprintf(name, sizeof(name), "c%d", i - 1);
            assert_true(mz_cluster_manager_remove(manager, mz_str_c(name)));
            mz_loop_turn(loop, 0);
        }
    }
    mz_loop_post(w.loop, find_some, &w);
    mz_loop_post(w.loop, stop_worker, &w);
    pthread_join(w.thread, NULL);
    assert_true(w.found >= 15);
    mz_loop_destroy(w.loop);
    rig_stop();
}

int main(void)
{
    mz_stats_thread_slot(0);
    mz_log_set_all(MZ_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),    cmocka_unit_test(test_built),
        cmocka_unit_test(test_alt_names), cmocka_unit_test(test_dump),
        cmocka_unit_test(test_refresh),   cmocka_unit_test(test_many_are_small),
        cmocka_unit_test(test_dns),       cmocka_unit_test(test_ready_without_dns),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
