/* GET /clusters, as text and as JSON, in Envoy's shapes (O4). */
#include "base/buf.h"
#include "observe/json_text.h"
#include "upstream/health/health.h"

static uint64_t load(const uint64_t *v)
{
    return __atomic_load_n(v, __ATOMIC_RELAXED);
}

static void text_circuit(const struct mz_cluster *c, const char *which, const struct mz_circuit *b,
                         struct mz_buf *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = { { "max_connections", b->max_connections },
                 { "max_pending_requests", b->max_pending },
                 { "max_requests", b->max_requests },
                 { "max_retries", b->max_retries } };
    for (size_t i = 0; i < MZ_COUNT(rows); i++)
        mz_buf_printf(out, MZ_STR_FMT "::%s_priority::%s::%llu\n", MZ_STR_ARG(c->name), which,
                      rows[i].name, (unsigned long long)rows[i].value);
}

static void text_row(struct mz_buf *out, const struct mz_host *h, const char *name,
                     struct mz_str value)
{
    mz_buf_printf(out, MZ_STR_FMT "::%.*s::%s::" MZ_STR_FMT "\n", MZ_STR_ARG(h->cluster->name),
                  h->addr_text_n, h->addr_text, name, MZ_STR_ARG(value));
}

static void text_number(struct mz_buf *out, const struct mz_host *h, const char *name,
                        uint64_t value)
{
    char digits[20];
    text_row(out, h, name, (struct mz_str){ digits, mz_u64_text(value, digits) });
}

static double rate_of(const struct mz_host *h, enum outlier_origin from)
{
    return h->health && h->health->outlier.outlier ? h->health->outlier.rate[from] : -1;
}

static void text_rate(struct mz_buf *out, const struct mz_host *h, const char *name,
                      enum outlier_origin from)
{
    char text[MZ_JSON_NUMBER_TEXT];
    text_row(out, h, name, (struct mz_str){ text, mz_json_number(rate_of(h, from), text) });
}

/* Ours, behind Envoy's rows: why the host is out, by which limit, until when. */
static void text_why(struct mz_buf *out, const struct mz_host *h)
{
    struct health_reason v[HEALTH_REASONS];
    unsigned n = health_reasons(h, v);
    for (unsigned i = 0; i < n; i++)
        text_row(out, h, "mizzen_why", mz_str_c(v[i].text));
}

/* Ours, too: the addresses that connections may go to besides the first. */
static void text_addresses(struct mz_buf *out, const struct mz_host *h)
{
    char text[MZ_ADDR_TEXT];
    for (uint32_t i = 1; i < h->n_addrs; i++)
        text_row(out, h, "mizzen_additional_address",
                 (struct mz_str){ text, mz_addr_text(&h->addrs[i], text) });
}

static void text_host(const struct mz_host *h, struct mz_buf *out)
{
    const struct mz_host_stats *s = &h->stats;
    text_number(out, h, "cx_active", load(&s->cx_active));
    text_number(out, h, "cx_connect_fail", load(&s->cx_connect_fail));
    text_number(out, h, "cx_total", load(&s->cx_total));
    text_number(out, h, "rq_active", load(&s->rq_active));
    text_number(out, h, "rq_error", load(&s->rq_error));
    text_number(out, h, "rq_pending_active", load(&s->rq_pending_active));
    text_number(out, h, "rq_success", load(&s->rq_success));
    text_number(out, h, "rq_timeout", load(&s->rq_timeout));
    text_number(out, h, "rq_total", load(&s->rq_total));
    text_row(out, h, "hostname", h->hostname);
    struct mz_buf flags;
    mz_buf_init(&flags);
    host_flags_text(__atomic_load_n(&h->health_flags, __ATOMIC_RELAXED), &flags);
    text_row(out, h, "health_flags", mz_buf_linearize(&flags, mz_buf_len(&flags)));
    mz_buf_fini(&flags);
    text_number(out, h, "weight", h->weight);
    text_row(out, h, "region", h->region);
    text_row(out, h, "zone", h->zone);
    text_row(out, h, "sub_zone", h->sub_zone);
    text_row(out, h, "canary", mz_str_c(h->canary ? "true" : "false"));
    text_number(out, h, "priority", h->priority);
    text_rate(out, h, "success_rate", ORIGIN_EXTERNAL);
    text_rate(out, h, "local_origin_success_rate", ORIGIN_LOCAL);
    text_why(out, h);
    text_addresses(out, h);
}

static void text_outlier(const struct mz_cluster *c, struct mz_buf *out)
{
    const struct outlier *o = cluster_priv(c)->outlier;
    const struct {
        const char *name;
        double value;
    } rows[] = {
        { "success_rate_average", outlier_average(o, ORIGIN_EXTERNAL) },
        { "success_rate_ejection_threshold", outlier_threshold(o, ORIGIN_EXTERNAL) },
        { "local_origin_success_rate_average", outlier_average(o, ORIGIN_LOCAL) },
        { "local_origin_success_rate_ejection_threshold", outlier_threshold(o, ORIGIN_LOCAL) },
    };
    for (size_t i = 0; i < MZ_COUNT(rows); i++) {
        char text[MZ_JSON_NUMBER_TEXT];
        size_t n = mz_json_number(rows[i].value, text);
        mz_buf_printf(out, MZ_STR_FMT "::outlier::%s::%.*s\n", MZ_STR_ARG(c->name), rows[i].name,
                      (int)n, text);
    }
}

static void text_cluster(struct mz_cluster *c, struct mz_buf *out)
{
    mz_buf_printf(out, MZ_STR_FMT "::observability_name::" MZ_STR_FMT "\n", MZ_STR_ARG(c->name),
                  MZ_STR_ARG(c->stat_name));
    if (eds_service(c).n)
        mz_buf_printf(out, MZ_STR_FMT "::eds_service_name::" MZ_STR_FMT "\n", MZ_STR_ARG(c->name),
                      MZ_STR_ARG(eds_service(c)));
    if (cluster_priv(c)->outlier)
        text_outlier(c, out);
    text_circuit(c, "default", &c->circuit[MZ_PRIORITY_DEFAULT], out);
    text_circuit(c, "high", &c->circuit[MZ_PRIORITY_HIGH], out);
    mz_buf_printf(out, MZ_STR_FMT "::added_via_api::%s\n", MZ_STR_ARG(c->name),
                  c->added_via_api ? "true" : "false");
    struct host_sets *s = cluster_sets_peek(c);
    for (uint32_t p = 0; p < s->n; p++)
        for (uint32_t i = 0; i < s->v[p].lists[SOURCE_ALL].n; i++)
            text_host(s->v[p].lists[SOURCE_ALL].v[i], out);
    host_sets_unref(s);
}

void mz_cluster_manager_text(struct mz_cluster_manager *m, struct mz_buf *out)
{
    size_t n;
    struct cluster_entry **v = cluster_list(m, &n);
    while (n > 0) {
        struct mz_cluster *c = cluster_entry_peek(v[--n]);
        text_cluster(c, out);
        mz_cluster_unref(c);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
}

/* ---- JSON ---- */
static void json_str(struct mz_str s, struct mz_buf *out)
{
    mz_buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        if (ch == '"' || ch == '\\')
            mz_buf_printf(out, "\\%c", ch);
        else if (ch < 0x20)
            mz_buf_printf(out, "\\u%04x", ch);
        else
            mz_buf_append(out, &s.p[i], 1);
    }
    mz_buf_append(out, "\"", 1);
}

static void json_field(const char *sep, const char *name, struct mz_str value, struct mz_buf *out)
{
    mz_buf_printf(out, "%s\"%s\":", sep, name);
    json_str(value, out);
}

static void json_address(const struct mz_addr *a, struct mz_buf *out)
{
    char text[MZ_ADDR_TEXT];
    size_t n = mz_addr_is_ip(a) ? mz_addr_ip_text(a, text) : mz_addr_text(a, text);
    mz_buf_append_str(out, mz_addr_is_ip(a) ? MZ_STR("{\"socket_address\":{\"address\":")
                                            : MZ_STR("{\"pipe\":{\"path\":"));
    json_str((struct mz_str){ text, n }, out);
    if (mz_addr_is_ip(a))
        mz_buf_printf(out, ",\"port_value\":%u", mz_addr_port(a));
    mz_buf_append_str(out, MZ_STR("}}"));
}

static void json_stats(const struct mz_host_stats *s, struct mz_buf *out)
{
    const struct {
        const char *name;
        uint64_t value;
        bool gauge;
    } rows[] = { { "cx_connect_fail", load(&s->cx_connect_fail), false },
                 { "cx_total", load(&s->cx_total), false },
                 { "rq_error", load(&s->rq_error), false },
                 { "rq_success", load(&s->rq_success), false },
                 { "rq_timeout", load(&s->rq_timeout), false },
                 { "rq_total", load(&s->rq_total), false },
                 { "cx_active", load(&s->cx_active), true },
                 { "rq_active", load(&s->rq_active), true },
                 { "rq_pending_active", load(&s->rq_pending_active), true } };
    mz_buf_append_str(out, MZ_STR(",\"stats\":["));
    for (size_t i = 0; i < MZ_COUNT(rows); i++) {
        mz_buf_append_str(out, mz_str_c(i ? ",{" : "{"));
        if (rows[i].gauge)
            mz_buf_append_str(out, MZ_STR("\"type\":\"GAUGE\","));
        if (rows[i].value)
            mz_buf_printf(out, "\"value\":\"%llu\",", (unsigned long long)rows[i].value);
        mz_buf_printf(out, "\"name\":\"%s\"}", rows[i].name);
    }
    mz_buf_append_str(out, MZ_STR("]"));
}

static void json_health(uint32_t f, struct mz_buf *out)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } flags[] = { { MZ_HOST_FAILED_ACTIVE_HC, "failed_active_health_check" },
                  { MZ_HOST_FAILED_OUTLIER, "failed_outlier_check" },
                  { 0, NULL }, /* eds_health_status */
                  { MZ_HOST_DEGRADED_ACTIVE_HC, "failed_active_degraded_check" },
                  { MZ_HOST_PENDING_REMOVAL, "pending_dynamic_removal" },
                  { MZ_HOST_PENDING_ACTIVE_HC, "pending_active_hc" },
                  { MZ_HOST_EXCLUDED_IMMEDIATE_HC, "excluded_via_immediate_hc_fail" },
                  { MZ_HOST_ACTIVE_HC_TIMEOUT, "active_hc_timeout" } };
    const char *eds = f & MZ_HOST_FAILED_EDS     ? "UNHEALTHY"
                      : f & MZ_HOST_DRAINING_EDS ? "DRAINING"
                      : f & MZ_HOST_DEGRADED_EDS ? "DEGRADED"
                                                 : "HEALTHY";
    const char *sep = ",\"health_status\":{";
    for (size_t i = 0; i < MZ_COUNT(flags); i++) {
        if (!flags[i].name)
            mz_buf_printf(out, "%s\"eds_health_status\":\"%s\"", sep, eds);
        else if (f & flags[i].flag)
            mz_buf_printf(out, "%s\"%s\":true", sep, flags[i].name);
        else
            continue;
        sep = ",";
    }
    mz_buf_append_str(out, MZ_STR("}"));
}

/* A Percent: nothing where there is none, an empty message where it is 0. */
static void json_percent(const char *name, double v, struct mz_buf *out)
{
    char text[MZ_JSON_NUMBER_TEXT];
    if (v > 0)
        mz_buf_printf(out, ",\"%s\":{\"value\":%.*s}", name, (int)mz_json_number(v, text), text);
    else if (v >= 0)
        mz_buf_printf(out, ",\"%s\":{}", name);
}

static void json_why(const struct mz_host *h, struct mz_buf *out)
{
    struct health_reason v[HEALTH_REASONS];
    unsigned n = health_reasons(h, v);
    for (unsigned i = 0; i < n; i++) {
        json_field(i ? ",{" : ",\"mizzen_why\":[{", "reason", mz_str_c(v[i].kind), out);
        json_field(",", "text", mz_str_c(v[i].text), out);
        mz_buf_append_str(out, i + 1 < n ? MZ_STR("}") : MZ_STR("}]"));
    }
}

static void json_host(const struct mz_host *h, struct mz_buf *out)
{
    const struct {
        const char *name;
        struct mz_str value;
    } places[] = { { "region", h->region }, { "zone", h->zone }, { "sub_zone", h->sub_zone } };
    const char *sep = "";
    mz_buf_append_str(out, MZ_STR("{\"address\":"));
    json_address(&h->addr, out);
    json_stats(&h->stats, out);
    json_health(__atomic_load_n(&h->health_flags, __ATOMIC_RELAXED), out);
    json_percent("success_rate", rate_of(h, ORIGIN_EXTERNAL), out);
    mz_buf_printf(out, ",\"weight\":%u", h->weight);
    if (h->hostname.n)
        json_field(",", "hostname", h->hostname, out);
    if (h->priority)
        mz_buf_printf(out, ",\"priority\":%u", h->priority);
    json_percent("local_origin_success_rate", rate_of(h, ORIGIN_LOCAL), out);
    mz_buf_append_str(out, MZ_STR(",\"locality\":{"));
    for (size_t i = 0; i < MZ_COUNT(places); i++) {
        if (!places[i].value.n)
            continue;
        json_field(sep, places[i].name, places[i].value, out);
        sep = ",";
    }
    mz_buf_append_str(out, MZ_STR("}"));
    json_why(h, out);
    for (uint32_t i = 1; i < h->n_addrs; i++) {
        mz_buf_append_str(out, i > 1 ? MZ_STR(",") : MZ_STR(",\"mizzen_additional_addresses\":["));
        json_address(&h->addrs[i], out);
    }
    if (h->n_addrs > 1)
        mz_buf_append_str(out, MZ_STR("]"));
    mz_buf_append_str(out, MZ_STR("}"));
}

static void json_circuits(const struct mz_cluster *c, struct mz_buf *out)
{
    mz_buf_append_str(out, MZ_STR(",\"circuit_breakers\":{\"thresholds\":["));
    for (size_t i = 0; i < MZ_PRIORITY__COUNT; i++) {
        const struct mz_circuit *b = &c->circuit[i];
        mz_buf_printf(out,
                      "%s\"max_connections\":%llu,\"max_pending_requests\":%llu,\"max_requests\":%"
                      "llu,\"max_retries\":%llu}",
                      i ? ",{\"priority\":\"HIGH\"," : "{", (unsigned long long)b->max_connections,
                      (unsigned long long)b->max_pending, (unsigned long long)b->max_requests,
                      (unsigned long long)b->max_retries);
    }
    mz_buf_append_str(out, MZ_STR("]}"));
}

static void json_cluster(struct mz_cluster *c, struct mz_buf *out)
{
    json_field("{", "name", c->name, out);
    if (c->added_via_api)
        mz_buf_append_str(out, MZ_STR(",\"added_via_api\":true"));
    const struct outlier *o = cluster_priv(c)->outlier;
    if (outlier_threshold(o, ORIGIN_EXTERNAL) > 0)
        json_percent("success_rate_ejection_threshold", outlier_threshold(o, ORIGIN_EXTERNAL), out);
    struct host_sets *s = cluster_sets_peek(c);
    const char *sep = ",\"host_statuses\":[";
    for (uint32_t p = 0; p < s->n; p++)
        for (uint32_t i = 0; i < s->v[p].lists[SOURCE_ALL].n; i++) {
            mz_buf_append_str(out, mz_str_c(sep));
            json_host(s->v[p].lists[SOURCE_ALL].v[i], out);
            sep = ",";
        }
    if (s->n_hosts)
        mz_buf_append_str(out, MZ_STR("]"));
    host_sets_unref(s);
    if (outlier_threshold(o, ORIGIN_LOCAL) > 0)
        json_percent("local_origin_success_rate_ejection_threshold",
                     outlier_threshold(o, ORIGIN_LOCAL), out);
    json_circuits(c, out);
    json_field(",", "observability_name", c->stat_name, out);
    if (eds_service(c).n)
        json_field(",", "eds_service_name", eds_service(c), out);
    mz_buf_append_str(out, MZ_STR("}"));
}

void mz_cluster_manager_json(struct mz_cluster_manager *m, struct mz_buf *out)
{
    const char *sep = "{\"cluster_statuses\":[";
    size_t n;
    struct cluster_entry **v = cluster_list(m, &n);
    while (n > 0) {
        struct mz_cluster *c = cluster_entry_peek(v[--n]);
        mz_buf_append_str(out, mz_str_c(sep));
        json_cluster(c, out);
        mz_cluster_unref(c);
        sep = ",";
    }
    mz_free(MZ_MEM_UPSTREAM, v);
    mz_buf_append_str(out, mz_cluster_manager_count(m) ? MZ_STR("]}") : MZ_STR("{}"));
}
