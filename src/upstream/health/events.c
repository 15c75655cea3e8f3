#include "upstream/health/events.h"
#include "observe/json_text.h"
#include "observe/log_file.h"
#include "upstream/health/check.h"
#include <time.h>

static struct mz_str address_of(const struct mz_host *h)
{
    return (struct mz_str){ h->addr_text, h->addr_text_n };
}

/* To the millisecond, as Envoy. */
static void put_time(struct mz_buf *out, uint64_t wall_us)
{
    struct tm tm;
    time_t s = (time_t)(wall_us / 1000000);
    char text[32];
    gmtime_r(&s, &tm);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    mz_buf_printf(out, "\"timestamp\":\"%.*s.%03uZ\"", (int)n, text,
                  (unsigned)(wall_us / 1000 % 1000));
}

/* ---- outlier detection: envoy.data.cluster.v3.OutlierDetectionEvent ---- */
static const char *const rule_names[RULE__COUNT] = {
    [RULE_5XX] = "CONSECUTIVE_5XX",
    [RULE_GATEWAY] = "CONSECUTIVE_GATEWAY_FAILURE",
    [RULE_SUCCESS_RATE] = "SUCCESS_RATE",
    [RULE_LOCAL] = "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
    [RULE_LOCAL_SUCCESS_RATE] = "SUCCESS_RATE_LOCAL_ORIGIN",
    [RULE_FAILURE_PERCENTAGE] = "FAILURE_PERCENTAGE",
    [RULE_LOCAL_FAILURE_PERCENTAGE] = "FAILURE_PERCENTAGE_LOCAL_ORIGIN"
};

struct outlier_event {
    enum outlier_rule rule;
    const char *action;
    uint64_t last_us; /* of the opposite action; 0: none */
    bool enforced;
};

static void outlier_head(const struct outlier *o, struct mz_host *h, const struct outlier_event *e,
                         struct mz_buf *out)
{
    struct mz_loop *l = o->main;
    mz_buf_printf(out, "{\"type\":\"%s\",", rule_names[e->rule]);
    put_time(out, mz_loop_wall_us(l));
    if (e->last_us)
        mz_buf_printf(out, ",\"secs_since_last_action\":\"%llu\"",
                      (unsigned long long)((mz_loop_now_us(l) - e->last_us) / 1000000));
    mz_buf_append_str(out, MZ_STR(",\"cluster_name\":"));
    mz_json_string(out, o->cluster->name);
    mz_buf_append_str(out, MZ_STR(",\"upstream_url\":"));
    mz_json_string(out, address_of(h));
    mz_buf_printf(out, ",\"action\":\"%s\",\"num_ejections\":%u,\"enforced\":%s", e->action,
                  h->health->outlier.ejections, e->enforced ? "true" : "false");
}

static unsigned percent(double v)
{
    return v > 0 ? (unsigned)v : 0;
}

static void outlier_finding_text(const struct outlier_finding *f, struct mz_buf *out)
{
    switch (f->rule) {
    case RULE_SUCCESS_RATE:
    case RULE_LOCAL_SUCCESS_RATE:
        mz_buf_printf(out,
                      ",\"eject_success_rate_event\":{\"host_success_rate\":%u,"
                      "\"cluster_average_success_rate\":%u,"
                      "\"cluster_success_rate_ejection_threshold\":%u}",
                      percent(f->measured), percent(f->average), percent(f->limit));
        return;
    case RULE_FAILURE_PERCENTAGE:
    case RULE_LOCAL_FAILURE_PERCENTAGE:
        mz_buf_printf(out, ",\"eject_failure_percentage_event\":{\"host_success_rate\":%u}",
                      percent(100 - f->measured));
        return;
    default:
        mz_buf_append_str(out, MZ_STR(",\"eject_consecutive_event\":{}"));
    }
}

void event_ejected(const struct outlier *o, struct mz_host *h, const struct outlier_finding *f,
                   bool enforced)
{
    struct mz_log_file *file = cluster_outlier_log(o->cluster);
    MZ_LOG(DEBUG, upstream, "cluster " MZ_STR_FMT ": host " MZ_STR_FMT " %s by %s: %g, limit %g",
           MZ_STR_ARG(o->cluster->name), MZ_STR_ARG(address_of(h)),
           enforced ? "ejected" : "would be ejected", outlier_rule_text(f->rule), f->measured,
           f->limit);
    if (!file)
        return;
    struct mz_buf line;
    mz_buf_init(&line);
    const struct outlier_event e = { f->rule, "EJECT", h->health->outlier.unejected_us, enforced };
    outlier_head(o, h, &e, &line);
    outlier_finding_text(f, &line);
    mz_buf_append_str(&line, MZ_STR("}\n"));
    mz_log_file_write(file, &line);
    mz_buf_fini(&line);
}

void event_unejected(const struct outlier *o, struct mz_host *h)
{
    struct mz_log_file *file = cluster_outlier_log(o->cluster);
    MZ_LOG(DEBUG, upstream, "cluster " MZ_STR_FMT ": host " MZ_STR_FMT " unejected",
           MZ_STR_ARG(o->cluster->name), MZ_STR_ARG(address_of(h)));
    if (!file)
        return;
    struct mz_buf line;
    mz_buf_init(&line);
    const struct outlier_event e = { RULE_5XX, "UNEJECT", h->health->outlier.ejected_us, false };
    outlier_head(o, h, &e, &line); /* Envoy names no rule here: the first one stands */
    mz_buf_append_str(&line, MZ_STR("}\n"));
    mz_log_file_write(file, &line);
    mz_buf_fini(&line);
}

/* ---- active checks: envoy.data.core.v3.HealthCheckEvent ---- */
static const char *const failure_names[] = { "ACTIVE", "PASSIVE", "NETWORK", "NETWORK_TIMEOUT" };

static void put_field(struct mz_buf *out, const char *name, struct mz_str value)
{
    mz_buf_printf(out, "%s", name);
    mz_json_string(out, value);
}

static void put_host(const struct mz_host *h, struct mz_buf *out)
{
    char text[MZ_ADDR_TEXT];
    if (!mz_addr_is_ip(&h->addr)) {
        put_field(out, ",\"host\":{\"pipe\":{\"path\":",
                  (struct mz_str){ text, mz_addr_text(&h->addr, text) });
        mz_buf_append_str(out, MZ_STR(",\"mode\":0}}"));
        return;
    }
    put_field(out, ",\"host\":{\"socket_address\":{\"protocol\":\"TCP\",\"address\":",
              (struct mz_str){ text, mz_addr_ip_text(&h->addr, text) });
    mz_buf_printf(out,
                  ",\"port_value\":%u,\"resolver_name\":\"\",\"ipv4_compat\":false,"
                  "\"network_namespace_filepath\":\"\"}}",
                  mz_addr_port(&h->addr));
}

static void put_place(const struct mz_host *h, struct mz_buf *out)
{
    if (h->metadata) {
        mz_buf_append_str(out, MZ_STR(",\"metadata\":{\"filter_metadata\":{"));
        for (size_t i = 0; i < h->metadata->n; i++) {
            put_field(out, i ? "," : "", h->metadata->v[i].key);
            mz_buf_append_str(out, MZ_STR(":"));
            mz_value_json(h->metadata->v[i].value, out);
        }
        mz_buf_append_str(out, MZ_STR("},\"typed_filter_metadata\":{}}"));
    }
    put_field(out, ",\"locality\":{\"region\":", h->region);
    put_field(out, ",\"zone\":", h->zone);
    put_field(out, ",\"sub_zone\":", h->sub_zone);
    mz_buf_append_str(out, MZ_STR("}"));
}

/* Checks by gRPC and TCP have none. */
static unsigned status_of(const struct check_session *s, const struct check_outcome *o)
{
    bool http = s->checker->cfg.type == &check_http;
    return http && o->type == FAILURE_ACTIVE ? o->value : 0;
}

/* Fields stand in the order of their numbers, so some events come before the time and one behind the place. */
static void check_text(const struct check_session *s, enum check_event e,
                       const struct check_outcome *o, struct mz_buf *out)
{
    const char *first = s->first ? "true" : "false";
    mz_buf_printf(out, "{\"health_checker_type\":\"%s\"", s->checker->cfg.type->name);
    put_host(s->host, out);
    put_field(out, ",\"cluster_name\":", s->checker->cluster->name);
    if (e == EVENT_EJECT)
        mz_buf_printf(out,
                      ",\"eject_unhealthy_event\":{\"failure_type\":\"%s\","
                      "\"http_status_code\":%u}",
                      failure_names[o->type], status_of(s, o));
    if (e == EVENT_ADD)
        mz_buf_printf(out, ",\"add_healthy_event\":{\"first_check\":%s}", first);
    mz_buf_append_str(out, MZ_STR(","));
    put_time(out, mz_loop_wall_us(s->checker->main));
    if (e == EVENT_FAILURE)
        mz_buf_printf(out,
                      ",\"health_check_failure_event\":{\"failure_type\":\"%s\","
                      "\"first_check\":%s,\"http_status_code\":%u}",
                      failure_names[o->type], first, status_of(s, o));
    if (e == EVENT_DEGRADED)
        mz_buf_append_str(out, MZ_STR(",\"degraded_healthy_host\":{}"));
    if (e == EVENT_NO_LONGER_DEGRADED)
        mz_buf_append_str(out, MZ_STR(",\"no_longer_degraded_host\":{}"));
    put_place(s->host, out);
    mz_buf_append_str(out, e == EVENT_SUCCESS ? MZ_STR(",\"successful_health_check_event\":{}}\n")
                                              : MZ_STR("}\n"));
}

void event_check(const struct check_session *s, enum check_event e, const struct check_outcome *o)
{
    static const char *const words[] = { "is unhealthy",          "is healthy",
                                         "failed a check",        "is degraded",
                                         "is degraded no longer", "passed a check" };
    const struct check_config *c = &s->checker->cfg;
    MZ_LOG(DEBUG, hc, "cluster " MZ_STR_FMT ": host " MZ_STR_FMT " %s",
           MZ_STR_ARG(s->checker->cluster->name), MZ_STR_ARG(address_of(s->host)), words[e]);
    for (size_t i = 0; i < c->n_logs; i++) {
        struct mz_buf line;
        mz_buf_init(&line);
        check_text(s, e, o, &line);
        mz_log_file_write(c->logs[i], &line);
        mz_buf_fini(&line);
    }
}
