/* A worker's started acceptors by address (L3): open addressing, looked at when a connection was caught for another listener. */
#include "listener/listener_priv.h"
#include "net/wire.h"

#include <errno.h>

struct mz_acceptors {
    struct mz_wire_host wires;
    struct mz_acceptor **v;
    uint32_t mask, n;
};

static struct mz_acceptor **place_of(struct mz_acceptors *m, const struct mz_addr *a)
{
    uint64_t at = mz_addr_hash(a);
    while (m->v[at & m->mask] && !mz_addr_eq(&m->v[at & m->mask]->local, a))
        at++;
    return &m->v[at & m->mask];
}

/* The same acceptors but for @without in a table for @n of them. */
static void rebuild(struct mz_acceptors *m, uint32_t n, const struct mz_acceptor *without)
{
    struct mz_acceptors old = *m;
    uint32_t cap = 16;
    while (cap < 2 * n)
        cap *= 2;
    m->v = mz_newn0(MZ_MEM_CONFIG, struct mz_acceptor *, cap);
    m->mask = cap - 1;
    m->n = 0;
    for (uint32_t i = 0; old.v && i <= old.mask; i++)
        if (old.v[i] && old.v[i] != without) {
            *place_of(m, &old.v[i]->local) = old.v[i];
            m->n++;
        }
    mz_free(MZ_MEM_CONFIG, old.v);
}

static struct mz_wire *answer(struct mz_wire_host *h, const struct mz_wire_call *call)
{
    struct mz_acceptors *m = MZ_CONTAINER(h, struct mz_acceptors, wires);
    struct mz_addr at = mz_addr_internal_listener(call->to);
    struct mz_acceptor *a = *place_of(m, &at);
    if (a)
        return mz_acceptor_call(a, call);
    if (call->take_passed)
        mz_arena_destroy(call->take_passed->arena);
    errno = EINVAL; /* as Envoy */
    return NULL;
}

void mz_acceptors_put(struct mz_acceptor *a)
{
    if (a->started)
        return;
    struct mz_acceptors *m = a->worker->acceptors;
    if (!m) {
        m = a->worker->acceptors = mz_new0(MZ_MEM_CONFIG, struct mz_acceptors);
        m->wires.answer = answer;
        mz_loop_set_wires(a->worker->loop, &m->wires);
    }
    if (!m->v || 2 * (m->n + 1) > m->mask)
        rebuild(m, m->n + 1, NULL);
    struct mz_acceptor **at = place_of(m, &a->local);
    if (*at)
        (*at)->started = false;
    m->n += !*at;
    *at = a;
    a->started = true;
}

void mz_acceptors_del(struct mz_acceptor *a)
{
    struct mz_acceptors *m = a->worker->acceptors;
    if (!a->started)
        return;
    a->started = false;
    rebuild(m, m->n, a);
    if (m->n)
        return;
    a->worker->acceptors = NULL;
    mz_loop_set_wires(a->worker->loop, NULL);
    mz_free(MZ_MEM_CONFIG, m->v);
    mz_free(MZ_MEM_CONFIG, m);
}

static struct mz_acceptor *any_of(struct mz_acceptors *m, sa_family_t family, uint16_t port)
{
    struct mz_addr any = { .len = family == AF_INET ? sizeof(any.in4) : sizeof(any.in6) };
    any.sa.sa_family = family;
    mz_addr_set_port(&any, port);
    return *place_of(m, &any);
}

struct mz_acceptor *mz_acceptors_find(const struct mz_worker *w, const struct mz_addr *to)
{
    struct mz_acceptors *m = w->acceptors;
    if (!m)
        return NULL;
    struct mz_acceptor *a = *place_of(m, to);
    if (!a)
        a = any_of(m, to->sa.sa_family, mz_addr_port(to));
    if (!a && to->sa.sa_family == AF_INET) {
        a = any_of(m, AF_INET6, mz_addr_port(to));
        a = a && a->v4_compat ? a : NULL;
    }
    return a;
}
