#include "cli/numbers.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/prometheus.h"

static struct mz_str unknown(struct mz_str s)
{
    return s.n ? s : MZ_STR("unknown");
}

static bool is_error(const struct prom_sample *s)
{
    const struct mz_str code = prom_label(s, "response_code");
    return (code.n == 3 && code.p[0] == '5') || mz_str_eq(code, MZ_STR("0"));
}

static bool is_unknown(struct mz_str s)
{
    return !s.n || mz_str_eq(s, MZ_STR("unknown"));
}

/* "reviews-v1.default": by its workload, else its service; "" the proxy knows neither. @side: "source", "destination". */
static struct mz_str workload(const struct prom_sample *s, const char *side, struct mz_arena *a)
{
    static const char *const names[] = { "workload", "canonical_service" };
    char label[80];
    struct mz_str name = MZ_STR(""), ns;
    for (size_t i = 0; i < MZ_COUNT(names) && is_unknown(name); i++) {
        (void)snprintf(label, sizeof(label), "%s_%s", side, names[i]);
        name = prom_label(s, label);
    }
    (void)snprintf(label, sizeof(label), "%s_workload_namespace", side);
    ns = prom_label(s, label);
    return is_unknown(name)
               ? MZ_STR("")
               : mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(name), is_unknown(ns) ? "" : ".",
                                 MZ_STR_ARG(is_unknown(ns) ? MZ_STR("") : ns));
}

static struct call *call_of(struct numbers *n, const struct prom_sample *s, struct mz_arena *a)
{
    struct mz_str from = workload(s, "source", a), to = workload(s, "destination", a);
    const struct mz_str security = prom_label(s, "connection_security_policy");
    from = from.n ? from : MZ_STR("unknown");
    to = to.n ? to : mz_arena_dup(a, unknown(prom_label(s, "destination_service")));
    mz_vec_foreach (c, &n->calls)
        if (mz_str_eq(c->from, from) && mz_str_eq(c->to, to) && mz_str_eq(c->security, security))
            return c;
    struct call *c = mz_vec_push(&n->calls, MZ_MEM_MISC);
    *c = (struct call){ .from = from, .to = to, .security = mz_arena_dup(a, security) };
    return c;
}

static void add_bucket(struct buckets *b, const struct prom_sample *s)
{
    char text[40];
    const struct mz_str le = prom_label(s, "le");
    if (!le.n || le.n >= sizeof(text))
        return;
    memcpy(text, le.p, le.n);
    text[le.n] = 0;
    const double end = strtod(text, NULL);
    size_t i = 0;
    while (i < b->n && b->le[i] != end)
        i++;
    if (i == NUMBERS_BUCKETS)
        return;
    b->n = i < b->n ? b->n : i + 1;
    b->le[i] = end;
    b->count[i] += s->value;
}

static void requests(struct numbers *n, const struct prom_sample *s, enum side side,
                     struct mz_arena *a)
{
    n->requests[side] += s->value;
    n->errors[side] += is_error(s) ? s->value : 0;
    if (side != SIDE_IN && workload(s, "destination", a).n)
        return; /* the other end tells it */
    struct call *c = call_of(n, s, a);
    c->requests += s->value;
    c->errors += is_error(s) ? s->value : 0;
}

void numbers_read(struct numbers *n, struct mz_str text, struct mz_arena *a)
{
    struct prom_sample s;
    while (prom_next(&text, &s)) {
        const struct mz_str reporter = prom_label(&s, "reporter");
        const enum side side = mz_str_eq(reporter, MZ_STR("destination")) ? SIDE_IN : SIDE_OUT;
        if (mz_str_eq(s.name, MZ_STR("istio_requests_total")))
            requests(n, &s, side, a);
        else if (mz_str_eq(s.name, MZ_STR("istio_request_duration_milliseconds_bucket")))
            add_bucket(&n->time[side], &s);
        else if (mz_str_eq(s.name, MZ_STR("istio_tcp_connections_opened_total")) && side == SIDE_IN)
            call_of(n, &s, a)->connections += s.value;
        else if (mz_str_eq(s.name, MZ_STR("envoy_server_total_connections")))
            n->connections = s.value;
        else if (mz_str_eq(s.name, MZ_STR("envoy_server_memory_allocated")))
            n->memory_bytes = s.value;
        else if (mz_str_eq(s.name, MZ_STR("envoy_server_uptime")))
            n->uptime_s = s.value;
    }
    n->ok = true;
}

void numbers_load(struct numbers *n, const struct pods *p, const struct pod *pod,
                  struct mz_arena *a)
{
    struct mz_buf text;
    struct mz_err err;
    *n = (struct numbers){ .ok = false };
    mz_buf_init(&text);
    if (pod->has_proxy && pod_fetch(p, pod, "GET", "/stats/prometheus", &text, &err))
        numbers_read(n, mz_buf_linearize(&text, mz_buf_len(&text)), a);
    mz_buf_fini(&text);
}

void numbers_fini(struct numbers *n)
{
    mz_vec_free(&n->calls, MZ_MEM_MISC);
}

double numbers_gain(double before, double after)
{
    return after < before ? after : after - before;
}

/* As Prometheus does: requests lie evenly within a bucket, the last one has no end. */
double numbers_quantile(const struct buckets *before, const struct buckets *after, double q)
{
    double count[NUMBERS_BUCKETS], start = 0, below = 0;
    for (size_t i = 0; i < after->n; i++) {
        const bool same = i < before->n && before->le[i] == after->le[i];
        count[i] = numbers_gain(same ? before->count[i] : 0, after->count[i]);
    }
    const double all = after->n ? count[after->n - 1] : 0;
    if (all <= 0)
        return -1;
    for (size_t i = 0; i < after->n; i++) {
        if (count[i] >= q * all && count[i] > below) {
            if (i + 1 == after->n && i > 0)
                return start;
            return start + (after->le[i] - start) * (q * all - below) / (count[i] - below);
        }
        start = after->le[i];
        below = count[i];
    }
    return start;
}
