/* DestinationRule to clusters (C4): connection pools, outlier detection, load balancing. */
#include "control/translate/locality.h"
#include "control/translate/matchers.h"
#include "control/translate/mesh.h"

#define UNLIMITED UINT32_MAX

pb_http_HttpProtocolOptions *tr_cluster_http(struct tr_cluster *c)
{
    if (!c->http)
        c->http = TR_NEW(c->a, http_HttpProtocolOptions);
    return c->http;
}

void tr_cluster_as_client(struct tr_cluster *c)
{
    pb_http_HttpProtocolOptions *o = tr_cluster_http(c);
    const pb_Http1ProtocolOptions *http1 = tr_mesh_http1(c->v);
    const pb_HttpProtocolOptions_UseDownstreamHttpConfig *shared =
        ((const pb_http_HttpProtocolOptions *)TR_PIECE(c->v, DOWNSTREAM_HTTP))
            ->use_downstream_protocol_config;
    o->upstream_protocol_options_case =
        pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG;
    o->use_downstream_protocol_config = TR_NEW(c->a, HttpProtocolOptions_UseDownstreamHttpConfig);
    *o->use_downstream_protocol_config = *shared;
    if (http1)
        o->use_downstream_protocol_config->http_protocol_options =
            (pb_Http1ProtocolOptions *)(uintptr_t)http1;
}

/* 0 is "not said": there is no way to say none. */
static pb_UInt32Value *limit(struct tr_cluster *c, int32_t v)
{
    return tr_u32(c->a, v > 0 ? (uint32_t)v : UNLIMITED);
}

/* 20 % and 3 where nothing is said. */
static pb_CircuitBreakers_Thresholds_RetryBudget *budget(struct tr_cluster *c,
                                                         const ist_TrafficPolicy_RetryBudget *b)
{
    pb_CircuitBreakers_Thresholds_RetryBudget *m =
        TR_NEW(c->a, CircuitBreakers_Thresholds_RetryBudget);
    m->budget_percent = TR_NEW(c->a, Percent);
    m->budget_percent->value = mz_double_or(b->percent, 20);
    m->min_retry_concurrency =
        tr_u32(c->a, b->min_retry_concurrency ? b->min_retry_concurrency : 3);
    m->budget_interval = b->budget_interval;
    return m;
}

static void limits(struct tr_cluster *c, const ist_ConnectionPoolSettings_TCPSettings *tcp,
                   const ist_ConnectionPoolSettings_HTTPSettings *http)
{
    if (!tcp && !http && !c->policy.retry_budget && c->v->t->features.track_remaining) {
        c->m->circuit_breakers = TR_PACKED(c->v, CLUSTER_UNLIMITED);
        return;
    }
    pb_CircuitBreakers_Thresholds *t = TR_NEW(c->a, CircuitBreakers_Thresholds);
    t->max_connections = limit(c, tcp ? tcp->max_connections : 0);
    t->max_pending_requests = limit(c, http ? http->http1_max_pending_requests : 0);
    t->max_requests = limit(c, http ? http->http2_max_requests : 0);
    t->max_retries = limit(c, http ? http->max_retries : 0);
    t->track_remaining = c->v->t->features.track_remaining;
    if (c->policy.retry_budget)
        t->retry_budget = budget(c, c->policy.retry_budget);
    c->m->circuit_breakers = TR_NEW(c->a, CircuitBreakers);
    TR_ADD(c->a, c->m->circuit_breakers, thresholds) = t;
}

static pb_Duration *copy(struct mz_arena *a, const pb_Duration *d)
{
    pb_Duration *own = d ? TR_NEW(a, Duration) : NULL;
    if (own) {
        own->seconds = d->seconds;
        own->nanos = d->nanos;
    }
    return own;
}

static void keepalive(struct tr_cluster *c,
                      const ist_ConnectionPoolSettings_TCPSettings_TcpKeepalive *k)
{
    if (!c->m->upstream_connection_options) {
        c->m->upstream_connection_options = TR_NEW(c->a, UpstreamConnectionOptions);
        c->m->upstream_connection_options->tcp_keepalive = TR_NEW(c->a, TcpKeepalive);
    }
    pb_TcpKeepalive *m = c->m->upstream_connection_options->tcp_keepalive;
    if (k->probes)
        m->keepalive_probes = tr_u32(c->a, k->probes);
    if (k->time)
        m->keepalive_time = tr_u32(c->a, (uint32_t)k->time->seconds);
    if (k->interval)
        m->keepalive_interval = tr_u32(c->a, (uint32_t)k->interval->seconds);
}

/* HTTP's idle time is that of TCP where HTTP has none. */
static void http_limits(struct tr_cluster *c, const ist_ConnectionPoolSettings_TCPSettings *tcp,
                        const ist_ConnectionPoolSettings_HTTPSettings *http)
{
    const pb_Duration *idle = http && http->idle_timeout ? http->idle_timeout
                              : tcp                      ? tcp->idle_timeout
                                                         : NULL;
    const pb_Duration *longest = tcp ? tcp->max_connection_duration : NULL;
    const int32_t requests = http ? http->max_requests_per_connection : 0,
                  streams = http ? http->max_concurrent_streams : 0;
    const ist_ConnectionPoolSettings_HTTPSettings_ConnectionKeepalive *pings =
        http ? http->http2_keep_alive : NULL;
    if (!idle && !longest && requests <= 0 && streams <= 0 && !pings)
        return;
    pb_http_HttpProtocolOptions *o = tr_cluster_http(c);
    o->common_http_protocol_options = TR_NEW(c->a, HttpProtocolOptions);
    o->common_http_protocol_options->idle_timeout = copy(c->a, idle);
    o->common_http_protocol_options->max_connection_duration = copy(c->a, longest);
    if (requests > 0)
        o->common_http_protocol_options->max_requests_per_connection =
            tr_u32(c->a, (uint32_t)requests);
    if (streams > 0 && tr_cluster_is_http2(c))
        o->explicit_http_config->http2_protocol_options->max_concurrent_streams =
            tr_u32(c->a, (uint32_t)streams);
    if (pings && tr_cluster_is_http2(c)) {
        pb_KeepaliveSettings *k = TR_NEW(c->a, KeepaliveSettings);
        k->interval = copy(c->a, pings->interval);
        k->timeout = copy(c->a, pings->timeout);
        o->explicit_http_config->http2_protocol_options->connection_keepalive = k;
    }
}

void tr_cluster_pool(struct tr_cluster *c)
{
    const ist_ConnectionPoolSettings_TCPSettings *tcp = c->policy.pool ? c->policy.pool->tcp : NULL;
    const ist_ConnectionPoolSettings_HTTPSettings *http =
        c->policy.pool ? c->policy.pool->http : NULL;
    limits(c, tcp, http);
    if (tcp && tcp->connect_timeout)
        c->m->connect_timeout = copy(c->a, tcp->connect_timeout);
    const ist_MeshConfig *mesh = c->v->model->mesh.config;
    if (mesh->tcp_keepalive) /* what a rule says replaces it, each for itself */
        keepalive(c, mesh->tcp_keepalive);
    if (tcp && tcp->tcp_keepalive)
        keepalive(c, tcp->tcp_keepalive);
    http_limits(c, tcp, http);
    if (http && http->use_client_protocol)
        tr_cluster_as_client(c);
}

/* A number that is set is also enforced, except 0, which switches off. */
static pb_UInt32Value *enforced(struct tr_cluster *c, const pb_UInt32Value *v)
{
    return v ? tr_u32(c->a, v->value ? 100 : 0) : NULL;
}

static pb_UInt32Value *number(struct tr_cluster *c, const pb_UInt32Value *v)
{
    return v ? tr_u32(c->a, v->value) : NULL;
}

/* Only these answers count as errors. */
static void errors(struct tr_cluster *c, const uint32_t *codes, size_t n)
{
    pb_MatchPredicate_MatchSet *any = TR_NEW(c->a, MatchPredicate_MatchSet);
    pb_MatchPredicate *one = NULL;
    for (size_t i = 0; i < n; i++) {
        pb_HeaderMatcher *h = TR_NEW(c->a, HeaderMatcher);
        h->name = TR_CONST(":status");
        h->header_match_specifier_case = pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH;
        h->string_match = tr_match_exact(c->a, mz_arena_printf(c->a, "%u", codes[i]));
        one = TR_NEW(c->a, MatchPredicate);
        one->rule_case = pb_MatchPredicate_RULE_HTTP_RESPONSE_HEADERS_MATCH;
        one->http_response_headers_match = TR_NEW(c->a, HttpHeadersMatch);
        TR_ADD(c->a, one->http_response_headers_match, headers) = h;
        TR_ADD(c->a, any, rules) = one;
    }
    if (n > 1) {
        one = TR_NEW(c->a, MatchPredicate);
        one->rule_case = pb_MatchPredicate_RULE_OR_MATCH;
        one->or_match = any;
    }
    pb_http_HttpProtocolOptions *http = tr_cluster_http(c);
    http->outlier_detection = TR_NEW(c->a, HttpProtocolOptions_OutlierDetection);
    http->outlier_detection->error_matcher = one;
}

void tr_cluster_outlier(struct tr_cluster *c)
{
    const ist_OutlierDetection *o = c->policy.outlier;
    if (!o)
        return;
    if (o->n_outlier_detection_http_error_codes)
        errors(c, o->outlier_detection_http_error_codes, o->n_outlier_detection_http_error_codes);
    pb_OutlierDetection *m = c->m->outlier_detection = TR_NEW(c->a, OutlierDetection);
    m->enforcing_success_rate = tr_u32(c->a, 0);
    m->consecutive_5xx = number(c, o->consecutive_5xx_errors);
    m->enforcing_consecutive_5xx = enforced(c, o->consecutive_5xx_errors);
    m->consecutive_gateway_failure = number(c, o->consecutive_gateway_errors);
    m->enforcing_consecutive_gateway_failure = enforced(c, o->consecutive_gateway_errors);
    m->interval = copy(c->a, o->interval);
    m->base_ejection_time = copy(c->a, o->base_ejection_time);
    if (o->max_ejection_percent > 0)
        m->max_ejection_percent = tr_u32(c->a, (uint32_t)o->max_ejection_percent);
    if (o->split_external_local_origin_errors) {
        m->split_external_local_origin_errors = true;
        m->enforcing_local_origin_success_rate = tr_u32(c->a, 0);
        if (mz_u32_or(o->consecutive_local_origin_failures, 0)) {
            m->consecutive_local_origin_failure = number(c, o->consecutive_local_origin_failures);
            m->enforcing_consecutive_local_origin_failure = tr_u32(c->a, 100);
        }
    }
    if (!c->service || !c->service->distribution)
        c->m->common_lb_config->healthy_panic_threshold->value = o->min_health_percent;
}

static void hashing(struct tr_cluster *c, const ist_LoadBalancerSettings_ConsistentHashLB *h)
{
    const bool maglev =
        h->hash_algorithm_case == ist_LoadBalancerSettings_ConsistentHashLB_HASH_ALGORITHM_MAGLEV;
    const bool ring = h->hash_algorithm_case ==
                      ist_LoadBalancerSettings_ConsistentHashLB_HASH_ALGORITHM_RING_HASH;
    const uint64_t said = ring ? h->ring_hash->minimum_ring_size : h->minimum_ring_size;
    if (maglev) {
        c->m->lb_policy = pb_Cluster_LbPolicy_MAGLEV;
        if (!h->maglev->table_size)
            return;
        c->m->lb_config_case = pb_Cluster_LB_CONFIG_MAGLEV_LB_CONFIG;
        c->m->maglev_lb_config = TR_NEW(c->a, Cluster_MaglevLbConfig);
        c->m->maglev_lb_config->table_size = TR_NEW(c->a, UInt64Value);
        c->m->maglev_lb_config->table_size->value = h->maglev->table_size;
        return;
    }
    c->m->lb_policy = pb_Cluster_LbPolicy_RING_HASH;
    if (ring && !said)
        return; /* as the proxy does by itself */
    c->m->lb_config_case = pb_Cluster_LB_CONFIG_RING_HASH_LB_CONFIG;
    c->m->ring_hash_lb_config = TR_NEW(c->a, Cluster_RingHashLbConfig);
    c->m->ring_hash_lb_config->minimum_ring_size = TR_NEW(c->a, UInt64Value);
    c->m->ring_hash_lb_config->minimum_ring_size->value = said ? said : 1024;
}

/* New endpoints get their share little by little. */
static pb_Cluster_SlowStartConfig *slow_start(struct tr_cluster *c,
                                              const ist_WarmupConfiguration *w)
{
    pb_Cluster_SlowStartConfig *s = TR_NEW(c->a, Cluster_SlowStartConfig);
    s->slow_start_window = copy(c->a, w->duration);
    s->aggression = TR_NEW(c->a, RuntimeDouble);
    s->aggression->default_value = mz_double_or(w->aggression, 1);
    s->aggression->runtime_key = TR_CONST("("); /* as the field has it: no such key exists */
    s->min_weight_percent = TR_NEW(c->a, Percent);
    s->min_weight_percent->value = mz_double_or(w->minimum_percent, 10);
    return s;
}

/* The older word for it says no more than how long. */
static pb_Cluster_SlowStartConfig *slow_start_of(struct tr_cluster *c,
                                                 const ist_LoadBalancerSettings *lb)
{
    if (lb->warmup)
        return slow_start(c, lb->warmup);
    pb_Cluster_SlowStartConfig *s = TR_NEW(c->a, Cluster_SlowStartConfig);
    s->slow_start_window = copy(c->a, lb->warmup_duration_secs);
    return s;
}

static void warm_up(struct tr_cluster *c, const ist_LoadBalancerSettings *w)
{
    if (c->m->lb_policy == pb_Cluster_LbPolicy_ROUND_ROBIN) {
        c->m->lb_config_case = pb_Cluster_LB_CONFIG_ROUND_ROBIN_LB_CONFIG;
        c->m->round_robin_lb_config = TR_NEW(c->a, Cluster_RoundRobinLbConfig);
        c->m->round_robin_lb_config->slow_start_config = slow_start_of(c, w);
    } else if (c->m->lb_policy == pb_Cluster_LbPolicy_LEAST_REQUEST) {
        c->m->lb_config_case = pb_Cluster_LB_CONFIG_LEAST_REQUEST_LB_CONFIG;
        c->m->least_request_lb_config = TR_NEW(c->a, Cluster_LeastRequestLbConfig);
        c->m->least_request_lb_config->slow_start_config = slow_start_of(c, w);
    }
}

/* By the zones of the proxy's own cluster, of which it learns by itself. */
static void by_zones(struct tr_cluster *c, const struct tr_places *p)
{
    pb_Cluster_CommonLbConfig_ZoneAwareLbConfig *z =
        TR_NEW(c->a, Cluster_CommonLbConfig_ZoneAwareLbConfig);
    if (p->zones->min_cluster_size) {
        z->min_cluster_size = TR_NEW(c->a, UInt64Value);
        z->min_cluster_size->value = p->zones->min_cluster_size->value;
    }
    if (p->off)
        z->routing_enabled = TR_NEW(c->a, Percent); /* 0 */
    c->m->common_lb_config->locality_config_specifier_case =
        pb_Cluster_CommonLbConfig_LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG;
    c->m->common_lb_config->zone_aware_lb_config = z;
}

static void by_locality(struct tr_cluster *c)
{
    const struct tr_places p = tr_places_of(c->v, c->service, &c->policy);
    if (p.zones) {
        by_zones(c, &p);
        return;
    }
    if (!c->v->t->features.always_weighs && !tr_places_weigh(&p, c->policy.outlier))
        return;
    c->m->common_lb_config->locality_config_specifier_case =
        pb_Cluster_CommonLbConfig_LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG;
    c->m->common_lb_config->locality_weighted_lb_config =
        TR_NEW(c->a, Cluster_CommonLbConfig_LocalityWeightedLbConfig);
}

void tr_cluster_balancer(struct tr_cluster *c)
{
    static const struct {
        int from;
        pb_Cluster_LbPolicy to;
    } simple[] = {
        { ist_LoadBalancerSettings_SimpleLB_RANDOM, pb_Cluster_LbPolicy_RANDOM },
        { ist_LoadBalancerSettings_SimpleLB_ROUND_ROBIN, pb_Cluster_LbPolicy_ROUND_ROBIN },
        { ist_LoadBalancerSettings_SimpleLB_PASSTHROUGH, pb_Cluster_LbPolicy_CLUSTER_PROVIDED },
    };
    const ist_LoadBalancerSettings *lb = c->policy.lb;
    by_locality(c);
    if (c->m->type == pb_Cluster_DiscoveryType_ORIGINAL_DST) { /* the client has chosen */
        c->m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
        return;
    }
    if (c->v->t->features.redis && c->port && c->port->protocol == MZ_PROTOCOL_REDIS) {
        c->m->lb_policy = pb_Cluster_LbPolicy_MAGLEV; /* each key has its place */
        return;
    }
    c->m->lb_policy = pb_Cluster_LbPolicy_LEAST_REQUEST; /* also what the others say */
    for (size_t i = 0; lb && i < MZ_COUNT(simple); i++)
        if (lb->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_SIMPLE &&
            (int)lb->simple == simple[i].from)
            c->m->lb_policy = simple[i].to;
    if (lb && lb->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_CONSISTENT_HASH)
        hashing(c, lb->consistent_hash);
    if (lb && (lb->warmup || lb->warmup_duration_secs))
        warm_up(c, lb);
    if (c->m->lb_policy == pb_Cluster_LbPolicy_CLUSTER_PROVIDED)
        c->m->type = pb_Cluster_DiscoveryType_ORIGINAL_DST;
}
