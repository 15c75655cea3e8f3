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

static bool asks_destination(const struct mz_listener_config *c)
{
    for (size_t i = 0; i < c->n_lfilters; i++)
        if (strcmp(c->lfilters[i].type->name, "envoy.filters.listener.original_dst") == 0)
            return true;
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

const struct mz_filter_chain *mz_listener_manager_explain(struct mz_listener_manager *m,
                                                          struct mz_addr *local,
                                                          const struct mz_addr *destination,
                                                          const struct mz_addr *remote,
                                                          struct mz_decision *d, struct mz_arena *a)
{
    const struct mz_listener_config *c = listener_of(m, local, NULL);
    uint64_t now = mz_clock->mono_us();
    if (!c)
        return NULL;
    mz_note(d, now, ASKED, c->name, MZ_STR(""), 0, 0);
    if (destination->len && asks_destination(c)) {
        *local = *destination;
        if (c->use_original_dst)
            c = hand_over(m, c, destination, now, d, a);
    }
    const struct mz_incoming in = { .local = *local,
                                    .remote = *remote,
                                    .direct_remote = *remote,
                                    .transport = MZ_STR("raw_buffer") };
    const struct mz_filter_chain *fc = mz_listener_config_chain(c, &in);
    if (fc)
        mz_note(d, now, CHAIN, fc->name, MZ_STR(""), 0, 0);
    else
        mz_note(d, now, NO_CHAIN, MZ_STR(""), MZ_STR(""), 0, 0);
    return fc;
}
