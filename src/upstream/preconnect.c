/*
 * Predictive preconnecting (U3): connections to the hosts that the next requests will go to, while the cluster's connections as
 * a whole have less room than the ratio asks for. Hosts that were looked up ahead are kept, and the next choices take them.
 */
#include "upstream/pool_priv.h"
#include <string.h>

#define PEEK_MOST 8 /* hosts ahead */

struct peeked {
    uint32_t n;
    struct mz_host *hosts[PEEK_MOST]; /* the next first; borrowed of the cluster's current hosts */
};

/* As in Envoy: of these two the next choice is known, since it depends on nothing but the one before. */
static bool foreseeable(const struct mz_wcluster *w)
{
    const struct lb_config *c = w->lb.cfg;
    return (c->type == &lb_round_robin || c->type == &lb_random) && !c->subsets && !c->override;
}

static struct mz_host *peek(struct mz_wcluster *w)
{
    struct mz_lb_ctx ctx = { 0 };
    if (!w->peeked)
        w->peeked = mz_new0(MZ_MEM_UPSTREAM, struct peeked);
    struct peeked *k = w->peeked;
    if (k->n == PEEK_MOST)
        return NULL;
    struct mz_host *h = lb_choose(&w->lb, &ctx);
    if (h)
        k->hosts[k->n++] = h;
    return h;
}

struct mz_host *preconnect_take(struct mz_wcluster *w, struct mz_lb_ctx *ctx)
{
    struct peeked *k = w->peeked;
    if (!k->n || ctx->avoid || ctx->priority_load || ctx->forced || ctx->override_host.n)
        return NULL;
    struct mz_host *h = k->hosts[0];
    memmove(k->hosts, k->hosts + 1, --k->n * sizeof(struct mz_host *));
    ctx->why = "chosen ahead";
    return h;
}

void preconnect_forget(struct mz_wcluster *w)
{
    if (w->peeked)
        w->peeked->n = 0;
}

static bool short_of_room(uint64_t waiting, uint64_t active, uint64_t room, double ratio)
{
    return (double)(waiting + active + 1) * ratio > (double)(room + active);
}

void preconnect_ahead(struct mz_wcluster *w, enum mz_priority prio, enum pool_kind kind)
{
    double ratio = w->cluster->preconnect_predictive;
    for (unsigned i = 0; i < 3 && foreseeable(w); i++) { /* at most 3 for one request */
        if (!short_of_room(w->n_pending + w->n_waiting, w->n_active, w->room, ratio))
            return;
        struct mz_host *h = peek(w);
        struct pool *p = h ? pool_get(w, h, prio, kind, NULL, 0) : NULL;
        if (!p || p->gone || mz_host_health(h) != MZ_HOST_HEALTHY ||
            !short_of_room(p->n_pending + p->n_waiting, p->n_active,
                           p->room_connecting + p->room_ready, ratio) ||
            !cx_allowed(p))
            return;
        client_create(p);
    }
}
