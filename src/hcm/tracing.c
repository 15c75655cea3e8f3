/*
 * What the manager does of tracing besides spans (H4): whether a request is sampled, told in its request id and to the
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

void tracing_destroy(struct tracing_config *t)
{
    if (!t)
        return;
    if (t->tracer)
        t->tracer->ops->destroy(t->tracer);
    mz_custom_tags_fini(&t->tags);
    mz_format_destroy(t->operation);
    mz_format_destroy(t->upstream_operation);
}

static bool provider_build(const pb_Tracing_Http *m, const struct mz_factory *f,
                           struct tracing_config *t, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *msg;
    if (!m || !m->typed_config)
        return true;
    struct mz_str type = mz_any_type(m->typed_config);
    const struct mz_tracer_type *tracer = f->tracer ? f->tracer(type) : NULL;
    if (!tracer) {
        mz_err_set(err,
                   "no tracer has a configuration of type \"" MZ_STR_FMT "\" (provider \"%s\")",
                   MZ_STR_ARG(type), m->name);
        return mz_err_at(err, "typed_config");
    }
    if (mz_any_unpack(f->proto, m->typed_config, &d, &msg, err))
        t->tracer = tracer->create(msg, f, err);
    return t->tracer || mz_err_at(err, "typed_config");
}

static bool format_build(const char *text, const char *field, struct mz_format **out,
                         struct mz_err *err)
{
    if (!text[0])
        return true;
    *out = mz_format_create(mz_str_c(text), true, err);
    return *out || mz_err_at(err, "%s", field);
}

/* What spans say and where they go. */
static bool spans_build(const pb_HttpConnectionManager_Tracing *m, const struct mz_factory *f,
                        struct mz_arena *a, struct tracing_config *t, struct mz_err *err)
{
    t->verbose = m->verbose;
    t->spawn = mz_bool_or(m->spawn_upstream_span, false);
    t->max_path = mz_u32_or(m->max_path_tag_length, 256);
    t->zone = mz_arena_dup(a, f->node_zone);
    if (!mz_custom_tags_build(m->custom_tags, m->n_custom_tags, a, &t->tags, err))
        return mz_err_at(err, "custom_tags");
    return format_build(m->operation, "operation", &t->operation, err) &&
           format_build(m->upstream_operation, "upstream_operation", &t->upstream_operation, err) &&
           (provider_build(m->provider, f, t, err) || mz_err_at(err, "provider"));
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
                          &t->overall, err) &&
           spans_build(m, f, c->arena, t, err);
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

/* The next proxy hears the operation's name, or the one before has named it. */
static void decorate(struct mz_stream *s, struct mz_headers *h,
                     const struct mz_route_tracing *route)
{
    s->operation = route && route->propagate ? route->operation : (struct mz_str){ 0 };
    if (s->span && route && route->operation.n)
        s->span->name = route->operation;
    if (s->conn->cfg->tracing->egress) {
        if (s->operation.n)
            mz_headers_set_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION, s->operation);
        return;
    }
    const struct mz_header *named = mz_headers_get_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
    if (!named)
        return;
    s->operation = (struct mz_str){ 0 };
    if (s->span && named->value.n)
        s->span->name = named->value;
    mz_headers_remove_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
}

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
    span_begin(s, h, why != &none && !s->info.health_check);
    if (!s->conn->cfg->tracing->operation)
        decorate(s, h, route);
}

void tracing_response(struct mz_stream *s, struct mz_headers *h)
{
    if (s->conn->cfg->tracing->operation)
        return;
    if (!s->conn->cfg->tracing->egress) {
        if (s->operation.n)
            mz_headers_set_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION, s->operation);
        return;
    }
    const struct mz_header *named = mz_headers_get_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
    if (named && named->value.n && s->span)
        s->span->name = named->value;
    mz_headers_remove_id(h, MZ_H_X_ENVOY_DECORATOR_OPERATION);
}
