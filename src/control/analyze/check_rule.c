/* Rules for DestinationRules, and for those settings of theirs that the MeshConfig and Sidecars have, too. */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "control/analyze/check_policy.h"
#include "control/analyze/check_priv.h"
#include "net/addr.h"

enum { MAX_TABLE = 5000011 };

bool mz_check_is_positive(const pb_Duration *d, const char *path, struct mz_err *err)
{
    uint64_t ms;
    if (!d)
        return true;
    if (!mz_duration_ms(d, 0, &ms, err))
        return mz_err_at(err, "%s", path);
    if (!d->seconds && d->nanos < 1000000)
        return AT(mz_err_set(err, "must be at least 1ms"), "%s", path);
    return d->nanos % 1000000 == 0 ||
           AT(mz_err_set(err, "has a part of a millisecond"), "%s", path);
}

static bool is_not_negative(int32_t v, const char *path, struct mz_err *err)
{
    return v >= 0 ? true : AT(mz_err_set(err, "must not be negative, is %d", v), "%s", path);
}

/* 0 is never. */
static bool idle(const pb_Duration *d, const char *path, struct mz_err *err)
{
    return !d || (!d->seconds && d->nanos >= 0 && d->nanos < 1000000) ||
           mz_check_is_positive(d, path, err);
}

static bool keep_alive(const ist_ConnectionPoolSettings_HTTPSettings_ConnectionKeepalive *k,
                       struct mz_err *err)
{
    if (!k)
        return true;
    if (!k->interval || !k->timeout)
        return AT(mz_err_set(err, "is required"), k->interval ? "timeout" : "interval");
    return mz_check_is_positive(k->interval, "interval", err) &&
           mz_check_is_positive(k->timeout, "timeout", err);
}

bool mz_check_connection_pool(const ist_ConnectionPoolSettings *p, struct mz_err *err)
{
    if (!p)
        return true;
    const ist_ConnectionPoolSettings_TCPSettings *t = p->tcp;
    const ist_ConnectionPoolSettings_HTTPSettings *h = p->http;
    if (!t && !h)
        return mz_err_set(err, "needs tcp or http");
    if (t &&
        !(is_not_negative(t->max_connections, "tcp.max_connections", err) &&
          mz_check_is_positive(t->connect_timeout, "tcp.connect_timeout", err) &&
          mz_check_is_positive(t->max_connection_duration, "tcp.max_connection_duration", err) &&
          idle(t->idle_timeout, "tcp.idle_timeout", err)))
        return false;
    if (t && t->tcp_keepalive &&
        !(mz_check_is_positive(t->tcp_keepalive->time, "tcp.tcp_keepalive.time", err) &&
          mz_check_is_positive(t->tcp_keepalive->interval, "tcp.tcp_keepalive.interval", err)))
        return false;
    if (h && h->use_client_protocol &&
        h->h2_upgrade_policy == ist_ConnectionPoolSettings_H2UpgradePolicy_UPGRADE)
        return AT(mz_err_set(err, "cannot be set with an upgrade of every connection"),
                  "http.use_client_protocol");
    if (h && !keep_alive(h->http2_keep_alive, err))
        return mz_err_at(err, "http.http2_keep_alive");
    return !h || (is_not_negative(h->http1_max_pending_requests, "http.http1_max_pending_requests",
                                  err) &&
                  is_not_negative(h->http2_max_requests, "http.http2_max_requests", err) &&
                  is_not_negative(h->max_requests_per_connection,
                                  "http.max_requests_per_connection", err) &&
                  is_not_negative(h->max_retries, "http.max_retries", err) &&
                  is_not_negative(h->max_concurrent_streams, "http.max_concurrent_streams", err) &&
                  mz_check_is_positive(h->idle_timeout, "http.idle_timeout", err));
}

static bool is_percent(int32_t v, const char *path, struct mz_err *err)
{
    return v >= 0 && v <= 100 ? true
                              : AT(mz_err_set(err, "must be in 0..100, is %d", v), "%s", path);
}

bool mz_check_outlier(const ist_OutlierDetection *o, struct mz_err *err)
{
    if (!o)
        return true;
    if (!o->split_external_local_origin_errors &&
        mz_u32_or(o->consecutive_local_origin_failures, 0))
        return AT(mz_err_set(err, "needs split_external_local_origin_errors"),
                  "consecutive_local_origin_failures");
    return mz_check_is_positive(o->interval, "interval", err) &&
           mz_check_is_positive(o->base_ejection_time, "base_ejection_time", err) &&
           is_percent(o->max_ejection_percent, "max_ejection_percent", err) &&
           is_percent(o->min_health_percent, "min_health_percent", err);
}

bool mz_check_client_tls(const ist_ClientTLSSettings *t, struct mz_err *err)
{
    if (!t)
        return true;
    const bool mutual = t->mode == ist_ClientTLSSettings_TLSmode_MUTUAL,
               own = mutual || t->mode == ist_ClientTLSSettings_TLSmode_SIMPLE;
    if (own && mz_bool_or(t->insecure_skip_verify, false) &&
        (t->ca_certificates[0] || t->n_subject_alt_names || (!mutual && t->credential_name[0])))
        return AT(mz_err_set(err, "nothing is verified: no ca_certificates, subject_alt_names%s",
                             mutual ? "" : ", credential_name"),
                  "tls.insecure_skip_verify");
    if (own && t->credential_name[0])
        return (!t->client_certificate[0] && !t->ca_certificates[0] && !t->private_key[0] &&
                !t->ca_crl[0]) ||
               AT(mz_err_set(err, "has the certificates: no others can be set"),
                  "tls.credential_name");
    if (mutual && !t->client_certificate[0])
        return AT(mz_err_set(err, "is required"), "tls.client_certificate");
    return !mutual || t->private_key[0] || AT(mz_err_set(err, "is required"), "tls.private_key");
}

/* ---- places: "region", "region/zone/subzone", with a "*" as the last part ---- */

static struct mz_str without_star(const char *s)
{
    struct mz_str t = mz_str_c(s);
    if (mz_str_ends(t, MZ_STR("/*")))
        t.n -= 2;
    return t;
}

static bool place(const char *s, struct mz_err *err)
{
    const char *star = strchr(s, '*');
    if (star && star[1])
        return mz_err_set(err, "\"%.60s\": only the last part can be a wildcard", s);
    if (!s[0] || s[0] == '/' || strstr(s, "//") || s[strlen(s) - 1] == '/')
        return mz_err_set(err, "\"%.60s\" has an empty part", s);
    return true;
}

struct place {
    struct mz_str text;
    size_t at; /* in the list */
};

/* A place stands before those within it, and they before all others: a slash is less than any other byte. */
static int compare_places(const void *a, const void *b)
{
    const struct mz_str x = ((const struct place *)a)->text, y = ((const struct place *)b)->text;
    for (size_t i = 0; i < x.n && i < y.n; i++)
        if (x.p[i] != y.p[i])
            return x.p[i] == '/' ? -1 : y.p[i] == '/' ? 1 : (uint8_t)x.p[i] - (uint8_t)y.p[i];
    return (x.n > y.n) - (x.n < y.n);
}

/* Two of @v where one is a part of the other, or the same; it is sorted: they are neighbours. */
static bool overlap(struct place *v, size_t n, size_t *out_first, size_t *out_second)
{
    if (n)
        qsort(v, n, sizeof(*v), compare_places);
    for (size_t i = 1; i < n; i++) {
        const struct mz_str a = v[i - 1].text, b = v[i].text;
        if (!mz_str_starts(b, a) || (b.n > a.n && b.p[a.n] != '/'))
            continue;
        *out_first = v[i - 1].at < v[i].at ? v[i - 1].at : v[i].at;
        *out_second = v[i - 1].at < v[i].at ? v[i].at : v[i - 1].at;
        return true;
    }
    return false;
}

static bool shares(const ist_LocalityLoadBalancerSetting_Distribute *d, struct mz_err *err)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < d->n_to; i++) {
        if (!d->to[i]->value || d->to[i]->value > 100)
            return mz_err_set(err, "a share is in 1..100");
        sum += d->to[i]->value;
        if (!place(d->to[i]->key, err))
            return false;
    }
    return sum == 100 ||
           mz_err_set(err, "the shares together are %llu, not 100", (unsigned long long)sum);
}

static bool shares_differ(const ist_LocalityLoadBalancerSetting_Distribute *d, struct mz_err *err)
{
    struct place *v = mz_alloc(MZ_MEM_CONFIG, (d->n_to + 1) * sizeof(*v));
    size_t a, b;
    for (size_t i = 0; i < d->n_to; i++)
        v[i] = (struct place){ without_star(d->to[i]->key), i };
    const bool ok =
        !overlap(v, d->n_to, &a, &b) ||
        mz_err_set(err, "\"%.60s\" and \"%.60s\" overlap", d->to[a]->key, d->to[b]->key);
    mz_free(MZ_MEM_CONFIG, v);
    return ok;
}

static bool places_differ(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err)
{
    struct place *v = mz_alloc(MZ_MEM_CONFIG, (l->n_distribute + 1) * sizeof(*v));
    size_t a, b;
    for (size_t i = 0; i < l->n_distribute; i++)
        v[i] = (struct place){ without_star(l->distribute[i]->from), i };
    const bool ok = !overlap(v, l->n_distribute, &a, &b) ||
                    AT(mz_err_set(err, "\"%.60s\" overlaps with \"%.60s\"", l->distribute[b]->from,
                                  l->distribute[a]->from),
                       "distribute[%zu].from", b);
    mz_free(MZ_MEM_CONFIG, v);
    return ok;
}

static bool distribute(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err)
{
    for (size_t i = 0; i < l->n_distribute; i++) {
        const char *from = l->distribute[i]->from;
        if (!shares(l->distribute[i], err) || !shares_differ(l->distribute[i], err))
            return AT(false, "distribute[%zu].to", i);
        if (!place(from, err))
            return AT(false, "distribute[%zu].from", i);
        if (i && strcmp(l->distribute[i - 1]->from, "*") == 0) /* nothing can come behind it */
            return AT(mz_err_set(err, "\"%.60s\" overlaps with \"*\"", from),
                      "distribute[%zu].from", i);
    }
    return places_differ(l, err);
}

static bool is_topology(const char *label)
{
    return strcmp(label, "topology.kubernetes.io/region") == 0 ||
           strcmp(label, "topology.kubernetes.io/zone") == 0 ||
           strcmp(label, "topology.istio.io/subzone") == 0;
}

static bool region_pair(const char *from, const char *to, size_t i, struct mz_err *err)
{
    if (strcmp(from, to) == 0)
        return AT(mz_err_set(err, "\"%.60s\" cannot fail over to itself", from), "failover[%zu]",
                  i);
    return !(strpbrk(from, "/*") || strpbrk(to, "/*")) ||
           AT(mz_err_set(err, "regions only, without wildcards"), "failover[%zu]", i);
}

/* They are looked through for each cluster and place of endpoints. */
static bool few_places(size_t distribute, size_t failover, size_t labels, struct mz_err *err)
{
    enum { MAX_PLACES = 1024, MAX_LABELS = 256 };
    return mz_check_count(distribute, MAX_PLACES, "distribute", err) &&
           mz_check_count(failover, MAX_PLACES, "failover", err) &&
           mz_check_count(labels, MAX_LABELS, "failover_priority", err);
}

static bool failover(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err)
{
    for (size_t i = 0; i < l->n_failover; i++)
        if (!region_pair(l->failover[i]->from, l->failover[i]->to, i, err))
            return false;
    for (size_t i = 0; i < l->n_failover_priority; i++) {
        if (!l->failover_priority[i][0])
            return AT(mz_err_set(err, "must not be empty"), "failover_priority[%zu]", i);
        if (l->n_failover && is_topology(l->failover_priority[i]))
            return AT(
                mz_err_set(err, "\"%s\" cannot be set with failover", l->failover_priority[i]),
                "failover_priority[%zu]", i);
    }
    return true;
}

bool mz_check_zones(const ist_ZoneAwareLoadBalancerSetting *z, struct mz_err *err)
{
    if (z && !few_places(0, z->n_failover, z->n_failover_priority, err))
        return false;
    for (size_t i = 0; z && i < z->n_failover; i++)
        if (!region_pair(z->failover[i]->from, z->failover[i]->to, i, err))
            return false;
    for (size_t i = 0; z && i < z->n_failover_priority; i++)
        if (is_topology(z->failover_priority[i]))
            return AT(mz_err_set(err, "\"%s\" counts anyway", z->failover_priority[i]),
                      "failover_priority[%zu]", i);
    return true;
}

bool mz_check_places(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err)
{
    if (l && l->n_distribute && l->n_failover)
        return mz_err_set(err, "only one of distribute and failover can be set");
    if (l && !few_places(l->n_distribute, l->n_failover, l->n_failover_priority, err))
        return false;
    return !l || (distribute(l, err) && failover(l, err));
}

/* ---- policies ---- */

static bool is_prime(uint64_t v)
{
    for (uint64_t i = 2; i * i <= v; i++)
        if (v % i == 0)
            return false;
    return v > 1;
}

static bool cookie(const ist_LoadBalancerSettings_ConsistentHashLB_HTTPCookie *c,
                   struct mz_err *err)
{
    if (!c->name[0])
        return AT(mz_err_set(err, "is required"), "name");
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; ok && i < c->n_attributes; i++) {
        const char *name = c->attributes[i]->name;
        if (!name[0])
            ok = AT(mz_err_set(err, "is required"), "attributes[%zu].name", i);
        else if (mz_map_put(&seen, mz_str_c(name), c->attributes[i]))
            ok = AT(mz_err_set(err, "\"%.60s\" stands twice", name), "attributes[%zu].name", i);
    }
    mz_map_fini(&seen);
    return ok;
}

static bool hashing(const ist_LoadBalancerSettings_ConsistentHashLB *h, struct mz_err *err)
{
    const bool maglev =
        h->hash_algorithm_case == ist_LoadBalancerSettings_ConsistentHashLB_HASH_ALGORITHM_MAGLEV;
    if (h->hash_key_case == ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY_HTTP_COOKIE &&
        !cookie(h->http_cookie, err))
        return mz_err_at(err, "http_cookie");
    if (h->minimum_ring_size && h->hash_algorithm_case)
        return AT(mz_err_set(err, "cannot be set with ring_hash or maglev"), "minimum_ring_size");
    if (maglev && (h->maglev->table_size >= MAX_TABLE || !is_prime(h->maglev->table_size)))
        return AT(mz_err_set(err, "must be a prime number below %u", (unsigned)MAX_TABLE),
                  "maglev.table_size");
    return true;
}

static bool warm_up(const ist_WarmupConfiguration *w, struct mz_err *err)
{
    if (!w->duration)
        return AT(mz_err_set(err, "is required"), "duration");
    if (mz_double_or(w->minimum_percent, 0) > 100)
        return AT(mz_err_set(err, "must be at most 100"), "minimum_percent");
    if (w->aggression && w->aggression->value <= 0)
        return AT(mz_err_set(err, "must be greater than 0"), "aggression");
    return mz_check_is_positive(w->duration, "duration", err);
}

static bool balancer(const ist_LoadBalancerSettings *b, struct mz_err *err)
{
    if (!b)
        return true;
    if (b->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_CONSISTENT_HASH &&
        !hashing(b->consistent_hash, err))
        return AT(false, "load_balancer.consistent_hash");
    if (!mz_check_is_positive(b->warmup_duration_secs, "load_balancer.warmup_duration_secs", err))
        return false;
    if (b->warmup && !warm_up(b->warmup, err))
        return AT(false, "load_balancer.warmup");
    if (b->locality_lb_setting && b->zone_aware_lb_setting)
        return AT(mz_err_set(err, "only one of locality_lb_setting and zone_aware_lb_setting can "
                                  "be set"),
                  "load_balancer");
    if (!mz_check_zones(b->zone_aware_lb_setting, err))
        return mz_err_at(err, "load_balancer.zone_aware_lb_setting");
    return mz_check_places(b->locality_lb_setting, err) ||
           mz_err_at(err, "load_balancer.locality_lb_setting");
}

static bool tunnel(const ist_TrafficPolicy_TunnelSettings *t, struct mz_err *err)
{
    struct mz_addr ip;
    if (t->protocol[0] && strcmp(t->protocol, "CONNECT") != 0 && strcmp(t->protocol, "POST") != 0)
        return AT(mz_err_set(err, "must be CONNECT or POST"), "tunnel.protocol");
    if (!mz_check_is_fqdn(mz_str_c(t->target_host)) &&
        !mz_addr_parse_ip(mz_str_c(t->target_host), 0, &ip))
        return AT(mz_err_set(err, "\"%.100s\" is neither a host nor an address", t->target_host),
                  "tunnel.target_host");
    return (t->target_port > 0 && t->target_port <= UINT16_MAX) ||
           AT(mz_err_set(err, "must be in 1..65535, is %u", t->target_port), "tunnel.target_port");
}

/* ---- DestinationRule ---- */

static bool budget(const ist_TrafficPolicy_RetryBudget *b, struct mz_err *err)
{
    const double percent = b ? mz_double_or(b->percent, 0) : 0;
    return (percent >= 0 && percent <= 100) || AT(mz_err_set(err, "must be in 0..100"), "percent");
}

static bool policy(const ist_TrafficPolicy *t, struct mz_err *err)
{
    if (!t)
        return true;
    if (!t->connection_pool && !t->outlier_detection && !t->tls && !t->load_balancer &&
        !t->tunnel && !t->proxy_protocol && !t->retry_budget && !t->n_port_level_settings)
        return mz_err_set(err, "says nothing");
    if (t->tunnel && t->proxy_protocol)
        return mz_err_set(err, "only one of tunnel and proxy_protocol can be set");
    if (t->tunnel && !tunnel(t->tunnel, err))
        return false;
    if (!budget(t->retry_budget, err))
        return mz_err_at(err, "retry_budget");
    if (!mz_check_connection_pool(t->connection_pool, err))
        return mz_err_at(err, "connection_pool");
    if (!mz_check_outlier(t->outlier_detection, err))
        return mz_err_at(err, "outlier_detection");
    if (!mz_check_client_tls(t->tls, err) || !balancer(t->load_balancer, err))
        return false;
    if (!mz_check_count(t->n_port_level_settings, 4096, "port_level_settings", err))
        return false;
    for (size_t i = 0; i < t->n_port_level_settings; i++) {
        const ist_TrafficPolicy_PortTrafficPolicy *p = t->port_level_settings[i];
        if (!p->port || p->port->number < 1 || p->port->number > UINT16_MAX)
            return AT(mz_err_set(err, "must be a number in 1..65535"),
                      "port_level_settings[%zu].port", i);
        if (!p->connection_pool && !p->outlier_detection && !p->tls && !p->load_balancer)
            return AT(mz_err_set(err, "says nothing"), "port_level_settings[%zu]", i);
        if (!mz_check_connection_pool(p->connection_pool, err))
            return mz_err_at(err, "port_level_settings[%zu].connection_pool", i);
        if (!mz_check_outlier(p->outlier_detection, err))
            return mz_err_at(err, "port_level_settings[%zu].outlier_detection", i);
        if (!mz_check_client_tls(p->tls, err) || !balancer(p->load_balancer, err))
            return mz_err_at(err, "port_level_settings[%zu]", i);
    }
    return true;
}

/* Clusters are named after subsets. */
static bool names_differ(const ist_DestinationRule *m, struct mz_err *err)
{
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; ok && i < m->n_subsets; i++)
        if (mz_map_put(&seen, mz_str_c(m->subsets[i]->name), m->subsets[i]))
            ok = AT(mz_err_set(err, "duplicate subset names: %s", m->subsets[i]->name),
                    "subsets[%zu].name", i);
    mz_map_fini(&seen);
    return ok;
}

static bool subset_labels(const ist_Subset *s, struct mz_err *err)
{
    MZ_CHECK_LABELS(s, labels);
    return true;
}

bool mz_check_destination_rule(const ist_DestinationRule *m, struct mz_err *err)
{
    if (!m->host[0])
        return AT(mz_err_set(err, "is required"), "host");
    if (!mz_check_is_host(mz_str_c(m->host)))
        return AT(mz_err_set(err, "\"%.100s\" is not a host", m->host), "host");
    if (!policy(m->traffic_policy, err))
        return mz_err_at(err, "traffic_policy");
    if (!check_targets(m->workload_selector, NULL, NULL, 0, err))
        return false;
    for (size_t i = 0; i < m->n_subsets; i++) {
        if (!mz_check_is_dns_label(mz_str_c(m->subsets[i]->name))) /* a part of names of clusters */
            return AT(mz_err_set(err, "\"%.100s\" is not a label", m->subsets[i]->name),
                      "subsets[%zu].name", i);
        if (!subset_labels(m->subsets[i], err))
            return mz_err_at(err, "subsets[%zu]", i);
        if (!policy(m->subsets[i]->traffic_policy, err))
            return mz_err_at(err, "subsets[%zu].traffic_policy", i);
    }
    return names_differ(m, err) && mz_check_exports(m->export_to, m->n_export_to, false, err);
}
