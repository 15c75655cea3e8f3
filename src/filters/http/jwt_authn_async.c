/*
 * Keys that are fetched ahead of requests (async_fetch, H9): the main thread asks before the listener serves, again shortly
 * before they are too old, and again after a failure. Lives with its configuration, on the main thread.
 */
#include "filters/http/jwt_authn.h"

#include "xds/init.h"

#define MARGIN_US                                                                                  \
    (5ull * 1000000)       /* so long before keys get too old new ones are asked for (Envoy) */
#define AFTER_FAILURE 1000 /* ms */

struct jwt_async {
    struct jwt_waiter waiter; /* waits as a request of the main thread does */
    struct jwt_keys *keys;    /* a reference */
    const struct mz_worker *main;
    struct mz_timer timer;
    struct mz_init_target target;
    uint64_t again_us, failed_ms;
    bool fast; /* fast_listener: it serves before the keys are there */
};

static void ask(struct jwt_async *s)
{
    (void)jwt_keys_wait(s->keys, s->main, &s->waiter); /* true: they are remote */
}

static void on_timer(struct mz_timer *t)
{
    ask(MZ_CONTAINER(t, struct jwt_async, timer));
}

/* Clusters are there now. */
static void on_init(void *arg)
{
    struct jwt_async *s = arg;
    if (s->fast)
        mz_init_ready(&s->target);
    ask(s);
}

static void ready(struct jwt_waiter *w, const struct mz_jwks *keys, uint64_t version)
{
    (void)version;
    struct jwt_async *s = MZ_CONTAINER(w, struct jwt_async, waiter);
    if (keys)
        mz_timer_start_us(&s->timer, s->again_us);
    else
        mz_timer_start_ms(&s->timer, s->failed_ms);
    mz_init_ready(&s->target); /* after a failure, too: requests ask by themselves */
}

struct jwt_async *jwt_async_create(struct jwt_keys *k, const pb_JwksAsyncFetch *m,
                                   uint64_t cache_us, const struct mz_factory *f,
                                   struct mz_err *err)
{
    uint64_t failed_ms;
    if (!mz_duration_ms(m->failed_refetch_duration, AFTER_FAILURE, &failed_ms, err)) {
        mz_err_at(err, "async_fetch.failed_refetch_duration");
        jwt_keys_unref(k);
        return NULL;
    }
    struct jwt_async *s = mz_new0(MZ_MEM_CONFIG, struct jwt_async);
    s->waiter.ready = ready;
    mz_list_init(&s->waiter.link);
    s->keys = k;
    s->main = f->main_worker;
    s->failed_ms = failed_ms;
    s->again_us = cache_us > MARGIN_US ? cache_us - MARGIN_US : cache_us;
    mz_timer_init(f->main, &s->timer, on_timer);
    s->target = (struct mz_init_target){ .name = jwt_keys_name(k), .start = on_init, .arg = s };
    s->fast = m->fast_listener;
    if (f->init)
        mz_init_add(f->init, &s->target);
    else
        mz_timer_start_ms(&s->timer, 0);
    return s;
}

static void end(struct mz_loop *l, void *arg)
{
    (void)l;
    struct jwt_async *s = arg;
    jwt_waiter_cancel(&s->waiter);
    mz_timer_stop(&s->timer);
    mz_init_remove(&s->target);
    jwt_keys_unref(s->keys);
    mz_free(MZ_MEM_CONFIG, s);
}

void jwt_async_destroy(struct jwt_async *s)
{
    if (!s)
        return;
    struct mz_loop *main = s->timer.loop;
    if (mz_loop_here(main))
        end(main, s);
    else
        mz_loop_post(main, end, s);
}
