/*
 * Hosts that a request names (U2): one that a filter found for it (stateful session), or those in the headers and metadata
 * that the policy override_host looks at, in order; each further try of the request takes the next of them.
 */
#include "upstream/upstream_priv.h"

static struct mz_host *find(struct lb *b, struct mz_str text)
{
    struct mz_addr a;
    if (host_address_parse(text, &a))
        return host_map_find(host_sets_map(b->sets), &a);
    for (uint32_t i = 0; i < b->sets->n_hosts && text.n && text.p[0] != ' ';
         i++) { /* UNIX sockets */
        struct mz_host *h = b->sets->hosts[i];
        if (mz_addr_is_ip(&h->addr))
            return NULL; /* clusters do not mix them */
        if (mz_str_eq(text, (struct mz_str){ h->addr_text, h->addr_text_n }))
            return h;
    }
    return NULL;
}

static unsigned status_of(const struct mz_host *h)
{
    uint32_t f = __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED);
    if (f & (MZ_HOST_FAILED_ACTIVE_HC | MZ_HOST_FAILED_OUTLIER))
        return pb_HealthStatus_UNHEALTHY;
    if (f & (MZ_HOST_FAILED_EDS | MZ_HOST_DRAINING_EDS))
        return h->eds_status;
    return f & MZ_HOST_DEGRADED_ACTIVE_HC ? pb_HealthStatus_DEGRADED : h->eds_status;
}

/* common_lb_config.override_host_status says in which states of health a host may be. */
struct mz_host *override_of_filter(struct lb *b, struct mz_lb_ctx *ctx)
{
    struct mz_host *h = find(b, ctx->override_host);
    if (h && b->cfg->override_statuses >> status_of(h) & 1) {
        ctx->why = "host override";
        return h;
    }
    ctx->why = h ? "the host that the request is bound to is not healthy"
                 : "the host that the request is bound to is gone";
    return NULL;
}

static struct mz_str text_of(const struct override_source *s, const struct mz_lb_ctx *ctx)
{
    if (s->header.n) {
        const struct mz_header *h = ctx->headers ? mz_headers_get(ctx->headers, s->header) : NULL;
        return h ? h->value : MZ_STR("");
    }
    const struct mz_value *v =
        mz_meta_get(ctx->request_metadata, s->metadata.ns, s->metadata.path, s->metadata.n);
    return v && v->kind == MZ_VALUE_STRING ? v->str : MZ_STR("");
}

struct mz_host *override_of_policy(struct lb *b, struct mz_lb_ctx *ctx)
{
    const struct override_config *o = b->cfg->override;
    uint32_t taken = ctx->override_taken ? *ctx->override_taken : 0, at = 0;
    for (uint32_t i = 0; i < o->n; i++) {
        struct mz_str text = text_of(&o->v[i], ctx), name;
        while (mz_str_split(&text, ',', &name)) {
            name = mz_str_trim(name);
            if (!name.n || at++ < taken)
                continue;
            if (ctx->override_taken)
                *ctx->override_taken = at;
            struct mz_host *h = find(b, name);
            if (!h)
                continue;
            ctx->why = "a host that the request names";
            return h;
        }
    }
    return NULL;
}
