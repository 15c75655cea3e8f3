/* What would become of a connection (explain): which listener, handed over to which, which chain. Main thread; nothing happens. */
#include "base/clock.h"
#include "listener/listener.h"
#include "listener/manager_priv.h"
#include "observe/decision.h"

enum fit { EXACTLY, ANY_ADDRESS, ANY_COMPAT, FITS };

static bool fits(const struct mz_listen_address *l, const struct mz_addr *a, enum fit how)
{
    bool any = mz_addr_is_any(&l->addr);
    if (mz_addr_port(&l->addr) != mz_addr_port(a))
        return false;
    switch (how) {
    case EXACTLY:
        return mz_addr_ip_eq(&l->addr, a);
    case ANY_ADDRESS:
        return any && l->addr.sa.sa_family == a->sa.sa_family;
    default:
        return any && l->v4_compat;
    }
}

/* As by_address.c finds it on a worker: the best fit of all, @but not. */
static const struct mz_listener_config *listener_of(struct mz_listener_manager *m,
                                                    const struct mz_addr *a,
                                                    const struct mz_listener_config *but)
{
    for (enum fit how = EXACTLY; how < FITS; how++)
        mz_vec_foreach (it, &m->list) {
            const struct mz_listener_config *c = (*it)->cfg;
            for (size_t i = 0; c && c != but && i < c->n_addrs && !(*it)->internal; i++)
                if (fits(&c->addrs[i], a, how))
                    return c;
        }
    return NULL;
}

/* Does the filter run for this connection? As inspect.c asks. */
static bool inspects(const struct mz_listener_config *c, const char *filter,
                     const struct mz_addr *local)
{
    for (size_t i = 0; i < c->n_lfilters; i++) {
        const struct mz_listener_filter *f = &c->lfilters[i];
        if (f->type && strcmp(f->type->name, filter) == 0)
            return !f->disabled || !mz_port_rule_match(f->disabled, mz_addr_port(local));
    }
    return false;
}

static const struct mz_listener_config *hand_over(struct mz_listener_manager *m,
                                                  const struct mz_listener_config *c,
                                                  const struct mz_addr *to, uint64_t now,
                                                  struct mz_decision *d, struct mz_arena *a)
{
    char text[MZ_ADDR_TEXT];
    struct mz_str at = mz_arena_dup(a, (struct mz_str){ text, mz_addr_text(to, text) });
    const struct mz_listener_config *other = listener_of(m, to, c);
    if (other)
        mz_note(d, now, HANDED_OVER, other->name, at, 0, 0);
    else
        mz_note(d, now, NOT_HANDED_OVER, c->name, at, 0, 0);
    return other ? other : c;
}

/* What listener filters would find out. */
static void look_inside(const struct mz_listener_config *l, const struct mz_imagined_conn *c,
                        struct mz_str *protocol, struct mz_incoming *in)
{
    in->transport = MZ_STR("raw_buffer");
    if (c->tls && inspects(l, "envoy.filters.listener.tls_inspector", &in->local)) {
        in->transport = MZ_STR("tls");
        in->server_name = c->sni;
        in->protocols = c->alpn;
        in->n_protocols = c->n_alpn;
    } else if (!c->tls && c->protocol.n &&
               inspects(l, "envoy.filters.listener.http_inspector", &in->local)) {
        *protocol = c->protocol;
        in->protocols = protocol;
        in->n_protocols = 1;
    }
}

static const struct mz_listener_config *find(struct mz_listener_manager *m,
                                             struct mz_imagined_conn *c, struct mz_decision *d,
                                             struct mz_arena *a)
{
    const struct mz_listener_config *l = listener_of(m, &c->local, NULL);
    uint64_t now = mz_clock->mono_us();
    if (!l)
        return NULL;
    mz_note(d, now, ASKED, l->name, MZ_STR(""), 0, 0);
    if (!c->destination.len || !inspects(l, "envoy.filters.listener.original_dst", &c->local))
        return l;
    c->local = c->destination;
    return l->use_original_dst ? hand_over(m, l, &c->destination, now, d, a) : l;
}

bool mz_listener_manager_explain(struct mz_listener_manager *m, struct mz_imagined_conn *c,
                                 struct mz_decision *d, struct mz_arena *a)
{
    const struct mz_listener_config *l = find(m, c, d, a);
    uint64_t now = mz_clock->mono_us();
    if (!l)
        return false;
    struct mz_incoming in = { .local = c->local, .remote = c->remote, .direct_remote = c->remote };
    struct mz_str protocol;
    look_inside(l, c, &protocol, &in);
    c->listener = l->name;
    c->direction = l->traffic_direction;
    c->chain = mz_listener_config_chain(l, &in);
    c->secure = c->chain && c->chain->transport->secure;
    if (c->chain)
        mz_note(d, now, CHAIN, c->chain->name, MZ_STR(""), 0, 0);
    else
        mz_note(d, now, NO_CHAIN, MZ_STR(""), MZ_STR(""), 0, 0);
    return true;
}

struct mz_str mz_filter_chain_name(const struct mz_filter_chain *c)
{
    return c->name;
}

bool mz_filter_chain_place(const struct mz_filter_chain *c, size_t i, struct mz_chain_place *out)
{
    if (i >= c->n_filters)
        return false;
    const struct mz_chain_filter *f = &c->filters[i];
    const struct mz_extension *x = f->place ? mz_ecds_place_get(f->place) : NULL;
    *out = (struct mz_chain_place){ x ? x->type.type : f->type, x ? x->cfg : f->cfg, f->name };
    return true;
}
