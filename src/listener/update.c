/* Listeners that come, change and go while others serve (X3, L1). Main thread. */
#include "base/clock.h"
#include "base/log.h"
#include "listener/listener.h"
#include "listener/manager_priv.h"
#include "proto/mapper.h"

struct warming { /* a configuration whose routes, secrets and such are awaited */
    struct mz_init init;
    struct mz_listener_config *cfg;
    struct listener *fresh; /* with its own sockets; NULL: those of the listener are taken over */
    struct listener *of;
    struct mz_init_target target; /* of the server's, before workers run */
    bool bind_late;
};
struct drain { /* chains that were replaced; their listener goes on */
    struct mz_list link;
    struct mz_timer timer;
    struct listener *listener;
    unsigned chains;
};

const struct mz_listener_config *listener_warming(const struct listener *l)
{
    return l->warming ? l->warming->cfg : NULL;
}

struct mz_listener_state listener_state(const struct mz_listener_config *c)
{
    return c ? (struct mz_listener_state){ c->version, c->bytes, c->updated_wall_us }
             : (struct mz_listener_state){ .version = MZ_STR("") };
}

void mz_listener_manager_each_init(struct mz_listener_manager *m,
                                   void (*fn)(void *arg, const struct mz_listener_shown *l,
                                              const struct mz_init *init),
                                   void *arg)
{
    mz_vec_foreach (it, &m->list) {
        const struct warming *w = (*it)->warming;
        if (!w)
            continue;
        const struct mz_listener_shown shown = { .name = w->cfg->name,
                                                 .via_api = true,
                                                 .active = listener_state((*it)->cfg),
                                                 .warming = listener_state(w->cfg) };
        fn(arg, &shown, &w->init);
    }
}

static struct listener *find(struct mz_listener_manager *m, struct mz_str name)
{
    mz_vec_foreach (it, &m->list) {
        struct listener *l = *it;
        const struct mz_listener_config *c = l->cfg ? l->cfg : listener_warming(l);
        if (!l->internal && mz_str_eq(c->name, name))
            return l;
    }
    return NULL;
}

/* ---- draining ---- */

static void chain_drain(struct mz_listener_manager *m, struct mz_filter_chain *c)
{
    uint64_t now = mz_loop_now_us(m->main);
    __atomic_store_n(&c->drain_at_once, m->drain_at_once, __ATOMIC_RELAXED);
    __atomic_store_n(&c->drain_start_us, now, __ATOMIC_RELAXED);
    __atomic_store_n(&c->drain_end_us, now + m->drain_ms * 1000, __ATOMIC_RELEASE);
}

static bool has_chain(const struct mz_listener_config *c, const struct mz_filter_chain *fc)
{
    for (size_t i = 0; c && i < c->n_chains; i++)
        if (c->chains[i] == fc)
            return true;
    return false;
}

/* Chains of @old that @now has not are told to go. */
static unsigned drain_gone(struct mz_listener_manager *m, struct mz_listener_config *old,
                           const struct mz_listener_config *now)
{
    unsigned n = 0;
    for (size_t i = 0; i < old->n_chains; i++)
        if (!has_chain(now, old->chains[i])) {
            chain_drain(m, old->chains[i]);
            n++;
        }
    return n;
}

static void close_drained_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_close_drained(arg);
}

static void drain_free(struct drain *d)
{
    mz_timer_stop(&d->timer);
    mz_list_del(&d->link);
    mz_gauge_add(d->listener->manager->scope, MZ_LM_STAT_CHAINS_DRAINING, -(int64_t)d->chains);
    mz_free(MZ_MEM_CONFIG, d);
}

static void drain_over(struct mz_timer *t)
{
    struct drain *d = MZ_CONTAINER(t, struct drain, timer);
    listener_post(d->listener, close_drained_posted);
    drain_free(d);
}

static void drain_begin(struct listener *l, unsigned chains)
{
    struct mz_listener_manager *m = l->manager;
    struct drain *d = mz_new0(MZ_MEM_CONFIG, struct drain);
    d->listener = l;
    d->chains = chains;
    mz_list_add_tail(&l->drains, &d->link);
    mz_timer_init(m->main, &d->timer, drain_over);
    mz_timer_start_ms(&d->timer, m->drain_ms + 1);
    mz_gauge_add(m->scope, MZ_LM_STAT_CHAINS_DRAINING, chains);
}

/* ---- the end of a listener: each acceptor closes what it has, twice, for a connection may have been on its way from one
 * worker to another; then nothing points to it ---- */

static void ended_on_main(struct mz_loop *loop, void *arg);

static void end_posted(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct mz_acceptor *a = arg;
    mz_acceptor_stop(a);
    mz_acceptor_stop(a); /* at once */
    mz_acceptor_close_connections(a);
    mz_loop_post(a->main, ended_on_main, a->listener);
}

static void retired_free(struct listener *l)
{
    mz_list_del(&l->link);
    mz_gauge_add(l->manager->scope, MZ_LM_STAT_TOTAL_DRAINING, -1);
    listener_destroy(l);
}

static void ended_on_main(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct listener *l = arg;
    if (--l->unanswered || l->manager->closing) /* at the end of the process the manager frees it */
        return;
    if (l->second_round) {
        retired_free(l);
        return;
    }
    l->second_round = true;
    l->unanswered = (unsigned)l->n_acceptors;
    listener_post(l, end_posted);
}

static void retired_over(struct mz_timer *t)
{
    struct listener *l = MZ_CONTAINER(t, struct listener, end_timer);
    l->ending = true;
    l->unanswered = (unsigned)l->n_acceptors;
    listener_post(l, end_posted);
    if (!l->n_acceptors)
        retired_free(l);
}

static void stop_posted(struct mz_loop *loop, void *arg)
{
    (void)loop;
    mz_acceptor_stop(arg);
}

/* No connection more; those that are there get the drain time. */
static void retire(struct listener *l)
{
    struct mz_listener_manager *m = l->manager;
    (void)drain_gone(m, l->cfg, NULL);
    for (size_t i = 0; i < l->n_acceptors; i++) {
        l->acceptors[i]->main = m->main;
        l->acceptors[i]->listener = l;
    }
    listener_post(l, stop_posted);
    mz_list_add_tail(&m->retired, &l->link);
    mz_gauge_add(m->scope, MZ_LM_STAT_TOTAL_ACTIVE, -1);
    mz_gauge_add(m->scope, MZ_LM_STAT_TOTAL_DRAINING, 1);
    mz_timer_init(m->main, &l->end_timer, retired_over);
    mz_timer_start_ms(&l->end_timer, m->drain_ms + 1);
}

/* ---- what warms ---- */

static void warming_free(struct warming *w)
{
    if (!w)
        return;
    mz_init_fini(&w->init);
    mz_init_remove(&w->target);
    if (w->fresh) {
        w->fresh->cfg = NULL;
        listener_destroy(w->fresh);
    }
    mz_listener_config_unref(w->cfg);
    mz_free(MZ_MEM_CONFIG, w);
}

static void warming_drop(struct listener *l)
{
    if (!l->warming)
        return;
    warming_free(l->warming);
    l->warming = NULL;
    mz_gauge_add(l->manager->scope, MZ_LM_STAT_TOTAL_WARMING, -1);
}

void listener_updates_end(struct listener *l)
{
    if (l->end_timer.fire)
        mz_timer_stop(&l->end_timer);
    warming_drop(l);
    mz_list_foreach (it, &l->drains)
        drain_free(MZ_CONTAINER(it, struct drain, link));
}

/* ---- taking over ---- */

struct swap {
    struct mz_acceptor *acceptor;
    struct mz_listener_config *cfg; /* reference */
};

static void swap_posted(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct swap *s = arg;
    mz_acceptor_set_config(s->acceptor, s->cfg);
    mz_free(MZ_MEM_CONFIG, s);
}

static void take_sockets(struct listener *l, struct mz_listener_config *c)
{
    for (size_t i = 0; i < l->n_acceptors; i++) {
        struct swap *s = mz_new0(MZ_MEM_CONFIG, struct swap);
        *s = (struct swap){ l->acceptors[i], mz_listener_config_ref(c) };
        mz_loop_post(l->acceptors[i]->worker->loop, swap_posted, s);
    }
}

/* @c takes the place of what @l served, on its sockets. */
static void replace_config(struct listener *l, struct mz_listener_config *c)
{
    struct mz_listener_manager *m = l->manager;
    struct mz_listener_config *old = l->cfg;
    bool chains_only = mz_str_eq(old->rest, c->rest);
    l->cfg = c;
    take_sockets(l, c);
    unsigned n = drain_gone(m, old, c);
    if (m->started) {
        if (n)
            drain_begin(l, n);
        mz_count(m->scope, MZ_LM_STAT_CREATE_SUCCESS, m->n_workers);
        mz_count(m->scope, MZ_LM_STAT_IN_PLACE_UPDATED, chains_only);
    }
    mz_listener_config_unref(old);
}

static void put_in_place(struct mz_listener_manager *m, struct listener *old, struct listener *now)
{
    for (size_t i = 0; i < m->list.n; i++)
        if (m->list.v[i] == old)
            m->list.v[i] = now;
}

/* On sockets of its own, @fresh takes the place of @l. */
static void replace_listener(struct listener *l, struct listener *fresh)
{
    struct mz_listener_manager *m = l->manager;
    put_in_place(m, l, fresh);
    if (m->started)
        listener_start(fresh);
    if (l->cfg && m->started)
        retire(l);
    else
        listener_destroy(l);
}

/* All that it waited for is there. */
static void activate(void *arg)
{
    struct warming *w = arg;
    struct listener *l = w->of;
    struct mz_err err;
    l->warming = NULL;
    mz_gauge_add(l->manager->scope, MZ_LM_STAT_TOTAL_WARMING, -1);
    if (!w->fresh) {
        replace_config(l, w->cfg);
        w->cfg = NULL;
    } else if (w->bind_late && !listener_bind(l->manager, w->fresh, &err)) {
        MZ_LOG(ERROR, config, "listener '" MZ_STR_FMT "': %s; the one of before goes on",
               MZ_STR_ARG(w->cfg->name), err.msg);
        mz_count(l->manager->scope, MZ_LM_STAT_CREATE_FAILURE, 1);
    } else {
        struct listener *fresh = w->fresh;
        w->cfg = NULL; /* it is fresh's */
        w->fresh = NULL;
        replace_listener(l, fresh);
    }
    warming_free(w); /* from inside the init manager that it holds, which is through */
}

/* ---- changes ---- */

static bool clashes(const struct mz_listener_config *a, const struct mz_listener_config *b)
{
    for (size_t i = 0; i < a->n_addrs; i++)
        for (size_t k = 0; k < b->n_addrs; k++)
            if (mz_addr_eq(&a->addrs[i].addr, &b->addrs[k].addr))
                return true;
    return false;
}

/* Sockets are bound now, so that a clash is an error of the update; but not beside those of the listener that still serves
 * the address, which the kernel would give only a part of the connections then. */
static bool sockets_for(struct mz_listener_manager *m, struct warming *w, struct mz_err *err)
{
    struct listener *l = w->of;
    if (l->cfg && mz_str_eq(l->cfg->sockets, w->cfg->sockets)) {
        for (size_t i = 0; i < w->cfg->n_addrs; i++)
            w->cfg->addrs[i].addr = l->cfg->addrs[i].addr; /* a port of 0 has become one */
        return true;
    }
    w->fresh = listener_create(m, w->cfg);
    w->bind_late = l->cfg && clashes(l->cfg, w->cfg);
    return w->bind_late || listener_bind(m, w->fresh, err);
}

static bool already(const struct listener *l, struct mz_str bytes)
{
    const struct mz_listener_config *w = listener_warming(l);
    if (l->cfg && !l->cfg->via_api)
        return true; /* of the bootstrap: nobody changes it */
    return mz_str_eq(w ? w->bytes : l->cfg->bytes, bytes);
}

bool mz_listener_manager_keeps(struct mz_listener_manager *m, struct mz_str name,
                               struct mz_str bytes)
{
    const struct listener *l = find(m, name);
    return l && already(l, bytes);
}

static bool prepare(struct mz_listener_manager *m,
                    const struct Envoy__Config__Listener__V3__Listener *msg, struct mz_str bytes,
                    struct mz_str version, const struct mz_factory *f, struct warming *w,
                    struct mz_err *err)
{
    struct mz_factory mine = *f;
    mine.via_api = true;
    mine.init = &w->init;
    w->cfg = mz_listener_config_create(msg, bytes, &mine, m->n_workers, w->of->cfg, err);
    if (!w->cfg)
        return false;
    w->cfg->version = mz_arena_dup(w->cfg->arena, version);
    return listener_address_free(m, w->cfg, err) && sockets_for(m, w, err);
}

/* After /drain_listeners nothing new serves, and that is no error of the update (Envoy). */
static bool stopped(const struct mz_listener_manager *m, const pb_Listener *msg)
{
    bool yes = m->stopped_all ||
               (m->stopped_inbound && msg->traffic_direction == pb_TrafficDirection_INBOUND);
    if (yes)
        MZ_LOG(DEBUG, config, "listener %s can not be added because listeners have been stopped",
               msg->name);
    return yes;
}

static void wait_start(void *arg)
{
    struct warming *w = arg;
    mz_init_start(&w->init, activate, w); /* @w may be gone now */
}

enum mz_listener_change mz_listener_manager_set(
    struct mz_listener_manager *m, const struct Envoy__Config__Listener__V3__Listener *msg,
    struct mz_str bytes, struct mz_str version, const struct mz_factory *f, struct mz_err *err)
{
    struct listener *l = find(m, mz_str_c(msg->name));
    bool is_new = !l;
    if (mz_listener_manager_keeps(m, mz_str_c(msg->name), bytes) || stopped(m, msg))
        return MZ_LISTENER_UNCHANGED;
    if (is_new)
        l = listener_create(m, NULL);
    struct warming *w = mz_new0(MZ_MEM_CONFIG, struct warming);
    mz_init_init(&w->init);
    w->of = l;
    if (!prepare(m, msg, bytes, version, f, w, err)) {
        warming_free(w);
        if (is_new)
            listener_destroy(l);
        return MZ_LISTENER_REFUSED;
    }
    warming_drop(l);
    l->warming = w;
    mz_gauge_add(m->scope, MZ_LM_STAT_TOTAL_WARMING, 1);
    mz_count(m->scope, is_new ? MZ_LM_STAT_ADDED : MZ_LM_STAT_MODIFIED, 1);
    if (is_new)
        *mz_vec_push(&m->list, MZ_MEM_CONFIG) = l;
    if (m->started || !f->init) {
        wait_start(w);
    } else { /* the process serves only when it does */
        w->target = (struct mz_init_target){ .start = wait_start, .arg = w };
        mz_init_add(f->init, &w->target);
    }
    return MZ_LISTENER_CHANGED;
}

bool mz_listener_manager_remove(struct mz_listener_manager *m, struct mz_str name)
{
    struct listener *l = find(m, name);
    if (!l || (l->cfg && !l->cfg->via_api))
        return false;
    size_t at = 0;
    while (m->list.v[at] != l)
        at++;
    memmove(&m->list.v[at], &m->list.v[at + 1], (m->list.n - at - 1) * sizeof(*m->list.v));
    m->list.n--;
    mz_count(m->scope, MZ_LM_STAT_REMOVED, 1);
    warming_drop(l);
    if (l->cfg && m->started)
        retire(l);
    else
        listener_destroy(l);
    return true;
}

void mz_listener_manager_names(struct mz_listener_manager *m,
                               void (*fn)(void *arg, struct mz_str name), void *arg)
{
    mz_vec_foreach (it, &m->list) {
        const struct listener *l = *it;
        const struct mz_listener_config *c = l->cfg ? l->cfg : listener_warming(l);
        if (!l->internal && c->via_api)
            fn(arg, c->name);
    }
}
