#include "filters/http/fraction.h"
#include "filters/http/local_ratelimit.h"
#include "upstream/cluster.h"

/* Configuration of local_ratelimit, of the filter and of routes, and the state that goes with it (H9). */

#define FILL_MIN_MS 50

static const struct mz_stat_def stat_defs[] = {
    [LRL_ENABLED] = { "enabled", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [LRL_ENFORCED] = { "enforced", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [LRL_OK] = { "ok", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [LRL_RATE_LIMITED] = { "rate_limited", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [LRL_SHADOW_MODE] = { "shadow_mode", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "local_ratelimit", stat_defs, MZ_COUNT(stat_defs) };

static uint64_t last_id; /* of configurations */

void lrl_config_destroy(void *cfg)
{
    struct lrl_cfg *c = cfg;
    lrl_limiter_destroy(c->limiter);
    mz_header_mutations_fini(&c->response);
    mz_header_mutations_fini(&c->request);
    mz_map_fini(&c->exact);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool rate_build(const pb_TokenBucket *m, struct bucket_rate *out, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(m->fill_interval, 0, &ms, err))
        return mz_err_at(err, "token_bucket.fill_interval");
    if (ms < FILL_MIN_MS) {
        mz_err_set(err, "must be at least 50ms, is %ums", (unsigned)ms);
        return mz_err_at(err, "token_bucket.fill_interval");
    }
    *out = (struct bucket_rate){ m->max_tokens,
                                 1000.0 * mz_u32_or(m->tokens_per_fill, 1) / (double)ms };
    return true;
}

/* ---- descriptors ---- */

struct mz_str lrl_key(const struct mz_descriptor_entry *v, size_t n, struct mz_arena *a)
{
    struct mz_str out = MZ_STR(""); /* NUL is in no header and in no text of configuration */
    for (size_t i = 0; i < n; i++)
        out = mz_arena_cat(
            a, 5, (struct mz_str[]){ out, v[i].key, MZ_STR("\0"), v[i].value, MZ_STR("\0") });
    return out;
}

static void rule_texts(struct lrl_cfg *c, size_t i, struct lrl_rule *r)
{
    r->text = mz_arena_printf(c->arena, "descriptors[%zu]", i);
    for (size_t k = 0; k < r->n; k++)
        r->text = mz_arena_cat(c->arena, 5,
                               (struct mz_str[]){ r->text, MZ_STR(" "), r->v[k].key, MZ_STR("="),
                                                  r->v[k].value.n ? r->v[k].value : MZ_STR("*") });
}

static bool rule_build(const pb_LocalRateLimitDescriptor *m, size_t i, struct lrl_cfg *c,
                       struct mz_err *err)
{
    struct lrl_rule *r = &c->rules[i];
    bool free_value = false;
    if (!rate_build(m->token_bucket, &r->rate, err))
        return false;
    r->n = m->n_entries;
    r->v = mz_arena_alloc0(c->arena, r->n * sizeof(*r->v));
    for (size_t k = 0; k < r->n; k++) {
        r->v[k].key = mz_arena_dup(c->arena, mz_str_c(m->entries[k]->key));
        r->v[k].value = mz_arena_dup(c->arena, mz_str_c(m->entries[k]->value));
        free_value |= !r->v[k].value.n;
    }
    rule_texts(c, i, r);
    struct mz_str key = lrl_key(r->v, r->n, c->arena);
    for (size_t k = 0; k < i; k++)
        if (mz_str_eq(key, lrl_key(c->rules[k].v, c->rules[k].n, c->arena))) {
            mz_err_set(err, "the same as those of descriptors[%zu]", k);
            return mz_err_at(err, "entries");
        }
    if (free_value) {
        r->place = c->n_free;
        c->free_rules[c->n_free++] = r;
        return true;
    }
    r->place = (uint32_t)i + 1 - c->n_free;
    r->exact = key;
    (void)mz_map_put(&c->exact, r->exact, r); /* no other has this key */
    return true;
}

static bool rules_build(const pb_http_local_ratelimit_LocalRateLimit *m, struct lrl_cfg *c,
                        struct mz_err *err)
{
    c->rules = mz_arena_alloc0(c->arena, m->n_descriptors * sizeof(*c->rules));
    c->free_rules = mz_arena_alloc0(c->arena, m->n_descriptors * sizeof(struct lrl_rule *));
    for (size_t i = 0; i < m->n_descriptors; i++) {
        if (!rule_build(m->descriptors[i], i, c, err))
            return mz_err_at(err, "descriptors[%zu]", i);
        c->n_rules++;
    }
    return true;
}

static bool fits(const struct lrl_rule *r, const struct mz_descriptor *d)
{
    if (r->n != d->n)
        return false;
    for (size_t i = 0; i < r->n; i++)
        if (!mz_str_eq(r->v[i].key, d->v[i].key) ||
            (r->v[i].value.n && !mz_str_eq(r->v[i].value, d->v[i].value)))
            return false;
    return true;
}

const struct lrl_rule *lrl_find(const struct lrl_cfg *c, const struct mz_descriptor *d,
                                struct mz_str key)
{
    const struct lrl_rule *r = mz_map_get(&c->exact, key);
    for (uint32_t i = 0; !r && i < c->n_free; i++)
        if (fits(c->free_rules[i], d))
            r = c->free_rules[i];
    return r;
}

/* ---- the state ---- */

void lrl_limiter_destroy(void *limiter)
{
    mz_free(MZ_MEM_CONFIG, limiter);
}

struct lrl_limiter *lrl_limiter_create(const struct lrl_cfg *c)
{
    size_t n = 1 + c->n_rules - c->n_free, table = lrl_table_bytes(c->max_dynamic);
    size_t heads = n * sizeof(token_bucket) + c->n_free * sizeof(struct lrl_table *);
    struct lrl_limiter *l = mz_alloc0(MZ_MEM_CONFIG, sizeof(*l) + heads + mz_mul(c->n_free, table));
    l->buckets = (token_bucket *)(void *)(l + 1);
    l->tables = (struct lrl_table **)(void *)(l->buckets + n);
    char *at = (char *)(l->tables + c->n_free);
    for (size_t i = 0; i < n; i++)
        bucket_fill(&l->buckets[i]);
    for (uint32_t i = 0; i < c->n_free; i++, at += table) {
        l->tables[i] = (struct lrl_table *)(void *)at;
        lrl_table_init(l->tables[i], c->max_dynamic);
    }
    return l;
}

/* ---- the rest ---- */

static bool lists_build(const pb_http_local_ratelimit_LocalRateLimit *m, struct lrl_cfg *c,
                        struct mz_err *err)
{
    if (!mz_header_mutations_build(m->response_headers_to_add, m->n_response_headers_to_add, NULL,
                                   0, false, &c->response, err))
        return mz_err_at(err, "response_headers_to_add");
    if (!mz_header_mutations_build(m->request_headers_to_add_when_not_enforced,
                                   m->n_request_headers_to_add_when_not_enforced, NULL, 0, false,
                                   &c->request, err))
        return mz_err_at(err, "request_headers_to_add_when_not_enforced");
    return mz_rate_limits_build(m->rate_limits, m->n_rate_limits, true, c->arena, &c->own, err) ||
           mz_err_at(err, "rate_limits");
}

static void options_fill(const pb_http_local_ratelimit_LocalRateLimit *m,
                         const struct mz_factory *f, struct lrl_cfg *c)
{
    static const enum lrl_vhost vhosts[] = { LRL_OVERRIDE, LRL_INCLUDE, LRL_IGNORE };
    struct mz_arena *a = c->arena;
    c->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    c->always_default = mz_bool_or(m->always_consume_default_token_bucket, true);
    c->headers = m->enable_x_ratelimit_headers == pb_XRateLimitHeadersRFCVersion_DRAFT_VERSION_03;
    c->resource_exhausted = m->rate_limited_as_resource_exhausted;
    c->max_dynamic = mz_u32_or(m->max_dynamic_descriptors, 20);
    c->stage = m->stage;
    c->status = m->status && m->status->code >= 400 ? (unsigned)m->status->code : 429;
    c->vhost = vhosts[m->vh_rate_limits];
    c->enabled = fraction_build(m->filter_enabled, false, a);
    c->enforced = fraction_build(m->filter_enforced, false, a);
    c->service_cluster = mz_arena_dup(a, f->node_cluster);
    c->text = mz_arena_printf(a, "the default token bucket of %s", m->stat_prefix);
    c->scope = mz_scope_create(f->stats, &stats,
                               mz_arena_printf(a, "%s.http_local_rate_limit.", m->stat_prefix));
}

static bool scope_build(const pb_http_local_ratelimit_LocalRateLimit *m, const struct mz_factory *f,
                        struct lrl_cfg *c, struct mz_err *err)
{
    c->by_cluster = m->local_cluster_rate_limit != NULL;
    if (!c->by_cluster)
        return true;
    if (m->local_rate_limit_per_downstream_connection)
        mz_err_set(err, "not with local_rate_limit_per_downstream_connection");
    else if (!mz_cluster_manager_local(f->clusters).n)
        mz_err_set(err, "needs cluster_manager.local_cluster_name");
    else
        return true;
    return mz_err_at(err, "local_cluster_rate_limit");
}

void *lrl_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_http_local_ratelimit_LocalRateLimit *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct lrl_cfg *c = mz_arena_new0(a, struct lrl_cfg);
    c->arena = a;
    mz_map_init(&c->exact, MZ_MEM_CONFIG);
    options_fill(m, f, c);
    c->has_default = m->token_bucket != NULL;
    if ((c->has_default && !rate_build(m->token_bucket, &c->rate, err)) ||
        !scope_build(m, f, c, err) || !rules_build(m, c, err) || !lists_build(m, c, err)) {
        lrl_config_destroy(c);
        return NULL;
    }
    if (!m->local_rate_limit_per_downstream_connection)
        c->limiter = lrl_limiter_create(c);
    return c;
}

void *lrl_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    if (((const pb_http_local_ratelimit_LocalRateLimit *)msg)->token_bucket)
        return lrl_config_build(msg, f, err);
    (void)mz_err_set(err, "token_bucket is required per route");
    return NULL;
}
