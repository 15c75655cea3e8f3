#include "xds/init.h"

#include "base/alloc.h"
#include "base/log.h"

void mz_init_init(struct mz_init *i)
{
    *i = (struct mz_init){ .state = MZ_INIT_IDLE };
    mz_list_init(&i->targets);
}

static struct mz_init_target *target_of(struct mz_list *l)
{
    return MZ_CONTAINER(l, struct mz_init_target, link);
}

void mz_init_fini(struct mz_init *i)
{
    mz_list_foreach (it, &i->targets) {
        mz_list_del(it);
        target_of(it)->init = NULL;
    }
    i->waiting = 0;
    i->done = NULL;
}

static void look(struct mz_init *i)
{
    if (i->state != MZ_INIT_RUNNING || i->waiting)
        return;
    i->state = MZ_INIT_DONE;
    void (*done)(void *) = i->done;
    void *arg = i->arg;
    mz_init_fini(i); /* nobody has to take himself out later, perhaps on another thread */
    if (done)
        done(arg);
}

static void start(struct mz_init_target *t)
{
    if (t->started)
        return;
    t->started = true;
    if (t->start)
        t->start(t->arg);
}

void mz_init_add(struct mz_init *i, struct mz_init_target *t)
{
    if (i->state == MZ_INIT_DONE) {
        t->init = NULL;
        start(t);
        return;
    }
    t->init = i;
    mz_list_add_tail(&i->targets, &t->link);
    i->waiting += !t->ready;
    if (i->state == MZ_INIT_RUNNING)
        start(t);
}

/* What starts may be ready, add more targets or end some at once: one count of our own keeps the manager open meanwhile. */
void mz_init_start(struct mz_init *i, void (*done)(void *arg), void *arg)
{
    i->state = MZ_INIT_RUNNING;
    i->done = done;
    i->arg = arg;
    i->waiting++;
    for (bool again = true; again;) {
        again = false;
        mz_list_foreach (it, &i->targets) {
            struct mz_init_target *t = target_of(it);
            if (t->started)
                continue;
            start(t);
            again = true;
            break; /* the list may be another now */
        }
    }
    i->waiting--;
    look(i);
}

void mz_init_ready(struct mz_init_target *t)
{
    if (t->ready)
        return;
    t->ready = true;
    if (!t->init)
        return;
    MZ_LOG(DEBUG, init, "target " MZ_STR_FMT " initialized", MZ_STR_ARG(t->name));
    t->init->waiting--;
    look(t->init);
}

void mz_init_remove(struct mz_init_target *t)
{
    struct mz_init *i = t->init;
    if (!i)
        return;
    mz_list_del(&t->link);
    t->init = NULL;
    if (t->ready)
        return;
    i->waiting--;
    look(i);
}

/* ---- what several wait for ---- */

void mz_init_shared_init(struct mz_init_shared *s, void (*begin)(void *arg), void *arg)
{
    *s = (struct mz_init_shared){ .start = begin, .arg = arg };
    mz_list_init(&s->waiting);
}

void mz_init_shared_start(struct mz_init_shared *s)
{
    if (s->started)
        return;
    s->started = true;
    s->start(s->arg);
}

void mz_init_shared_ready(struct mz_init_shared *s)
{
    s->ready = true;
    while (!mz_list_empty(&s->waiting)) {
        struct mz_init_wait *w = MZ_CONTAINER(s->waiting.next, struct mz_init_wait, link);
        mz_list_del(&w->link);
        mz_init_ready(&w->target);
    }
}

static void wait_start(void *arg)
{
    struct mz_init_wait *w = arg;
    mz_init_shared_start(w->shared);
    if (w->shared->ready)
        mz_init_ready(&w->target);
    else
        mz_list_add_tail(&w->shared->waiting, &w->link);
}

void mz_init_wait(struct mz_init_wait *w, struct mz_init_shared *s, struct mz_str name,
                  struct mz_init *init)
{
    *w = (struct mz_init_wait){ .shared = s,
                                .target = { .name = name, .start = wait_start, .arg = w } };
    mz_list_init(&w->link);
    if (init)
        mz_init_add(init, &w->target);
    else
        wait_start(w);
}

void mz_init_wait_end(struct mz_init_wait *w)
{
    if (!w->shared || w->target.ready)
        return;
    mz_list_del(&w->link);
    mz_init_remove(&w->target);
}

void mz_init_dump(const struct mz_init *i, void (*fn)(void *arg, struct mz_str name), void *arg)
{
    mz_list_foreach (it, &((struct mz_init *)(uintptr_t)i)->targets)
        if (!target_of(it)->ready)
            fn(arg, target_of(it)->name);
}
