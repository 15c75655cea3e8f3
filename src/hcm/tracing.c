/*
 * What the manager does of tracing without a tracer (H4): whether a request is sampled, told in its request id and to the
 * access log's filter, and the name of its operation, handed to the next proxy (egress) or back to the one before (ingress).
 */
#include "base/log.h"
#include "hcm/hcm_priv.h"
#include "proto/mapper.h"

#define REASON_AT 14 /* the digit of the request id that says why it is traced */

enum { OUTBOUND = 2 }; /* of a listener's traffic_direction */

static const struct reason {
    char digit;
    unsigned stat;
} none = { '4', MZ_HS_TRACING_NOT_TRACEABLE }, sampled = { '9', MZ_HS_TRACING_RANDOM },
  forced = { 'a', MZ_HS_TRACING_FORCED }, by_client = { 'b', MZ_HS_TRACING_CLIENT };

/* ---- configuration ---- */

static bool sampling_build(const pb_Percent *m, const char *field, const char *key,
                           struct mz_fraction *out, struct mz_err *err)
{
    double percent = m ? m->value : 100;
    if (!(percent >= 0 && percent <= 100)) {
        mz_err_set(err, "must be 0 to 100, is %g", percent);
        return mz_err_at(err, "%s", field);
    }
    *out = (struct mz_fraction){ mz_str_c(key), (uint32_t)(percent * 100 + 0.5), 10000 };
    return true;
}

bool tracing_build(const void *msg, const struct mz_factory *f, struct mz_hcm_config *c,
                   struct mz_err *err)
{
    const pb_HttpConnectionManager_Tracing *m = msg;
    if (!m)
        return true;
    struct tracing_config *t = c->tracing = mz_arena_new0(c->arena, struct tracing_config);
    t->egress = f->traffic_direction == OUTBOUND;
    return sampling_build(m->client_sampling, "client_sampling", "tracing.client_enabled",
                          &t->client, err) &&
           sampling_build(m->random_sampling, "random_sampling", "tracing.random_sampling",
                          &t->random, err) &&
           sampling_build(m->overall_sampling, "overall_sampling", "tracing.global_enabled",
                          &t->overall, err);
}

/* ---- is it sampled? ---- */

static const struct reason *reason_of(struct mz_str id)
{
    static const struct reason *const all[] = { &sampled, &forced, &by_client };
    for (size_t i = 0; id.n > REASON_AT && i < MZ_COUNT(all); i++)
        if (id.p[REASON_AT] == all[i]->digit)
            return all[i];
    return &none;
}

/* A request id's first eight digits are its dice, so that all proxies of a path decide alike. */
static bool dice_of(struct mz_str id, uint64_t *out)
{
    if (id.n != 36)
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++) {
        char c = mz_lower(id.p[i]);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v % 10000;
    return true;
}

static struct mz_fraction pick(const struct mz_fraction *own, const struct mz_fraction *of_route)
{
    if (!of_route || !of_route->denominator)
        return *own;
    return (struct mz_fraction){ own->key, of_route->numerator, of_route->denominator };
}

static const struct reason *decide(struct mz_stream *s, const struct mz_headers *h,
                                   const struct mz_route_tracing *route, struct mz_str id)
{
    const struct tracing_config *t = s->conn->cfg->tracing;
    const struct mz_runtime *r = mz_runtime_here();
    const struct reason *why = reason_of(id);
    struct mz_fraction client = pick(&t->client, route ? &route->client : NULL),
                       random = pick(&t->random, route ? &route->random : NULL),
                       overall = pick(&t->overall, route ? &route->overall : NULL);
    uint64_t dice;
    if (!s->conn->cfg->use_request_id_for_trace || !dice_of(id, &dice))
        return &none;
    if (why == &none) {
        if (mz_headers_get_id(h, MZ_H_X_CLIENT_TRACE_ID) &&
            mz_runtime_fraction(r, &client, mz_rand_u64(mz_loop_rand(conn_loop(s->conn)))))
            why = &by_client;
        else if (mz_headers_get_id(h, MZ_H_X_ENVOY_FORCE_TRACE))
            why = &forced;
        else if (mz_runtime_fraction(r, &random, dice))
            why = &sampled;
    }
    return mz_runtime_fraction(r, &overall, dice) ? why : &none;
}

static void reason_write(struct mz_stream *s, struct mz_headers *h, const struct reason *why)
{
    struct mz_header *e = mz_headers_get_id(h, MZ_H_X_REQUEST_ID);
    if (!s->conn->cfg->pack_trace_reason || e->value.p[REASON_AT] == why->digit)
        return;
    char *copy = mz_arena_alloc(s->arena, e->value.n);
    memcpy(copy, e->value.p, e->value.n);
    copy[REASON_AT] = why->digit;
    e->value.p = copy;
    s->info.request_id = e->value;
}

/* ---- at work ---- */

void tracing_request(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_route_tracing *route = s->route ? s->route->tracing : NULL;
    struct mz_str id = mz_headers_value_id(h, MZ_H_X_REQUEST_ID);
    const struct reason *why = decide(s, h, route, id);
    uint64_t dice;
    if (dice_of(id, &dice))
        reason_write(s, h, why);
    s->info.traceable = why == &forced && !s->info.health_check; /* as Envoy's filter reads it */
    hcm_count(s->conn, why->stat);
    s->operation = route && route->propagate ? route->operation : (struct mz_str){ 0 };
    if (!s->conn->cfg->tracing->egress) {
        if (mz_headers_get_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION))
            s->operation = (struct mz_str){ 0 }; /* the client's proxy has named it */
        mz_headers_remove_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
    } else if (s->operation.n) {
        mz_headers_set_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION, s->operation);
    }
}

void tracing_response(struct mz_stream *s, struct mz_headers *h)
{
    if (s->conn->cfg->tracing->egress)
        mz_headers_remove_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
    else if (s->operation.n)
        mz_headers_set_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION, s->operation);
}
