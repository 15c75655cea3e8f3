#include "event/loop_priv.h"

#include <unistd.h>

struct mz_post {
    struct mz_post *next;
    mz_post_fn *fn;
    void *arg;
};

void mz_loop_wake(struct mz_loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN only after 2^64 wake-ups */
}

/* A stack that the loop takes whole and turns round. Only who finds it empty wakes the loop: once a
 * batch. */
void mz_loop_post(struct mz_loop *l, mz_post_fn *fn, void *arg)
{
    struct mz_post *p = mz_new0(MZ_MEM_LOOP, struct mz_post);
    p->fn = fn;
    p->arg = arg;
    struct mz_post *head = __atomic_load_n(&l->posts, __ATOMIC_RELAXED);
    do {
        p->next = head;
    } while (!__atomic_compare_exchange_n(&l->posts, &head, p, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    if (head)
        return;
    if (__atomic_load_n(&l->owner, __ATOMIC_RELAXED) == mz_loop_thread())
        l->own_posts = true;
    else
        mz_loop_wake(l);
}

void mz_loop_run_posts(struct mz_loop *l)
{
    l->own_posts =
        false; /* before the take: a callback that posts finds an empty stack and sets it again */
    struct mz_post *p = __atomic_exchange_n(&l->posts, NULL, __ATOMIC_ACQUIRE);
    struct mz_post *first = NULL;
    while (p) {
        struct mz_post *next = p->next;
        p->next = first;
        first = p;
        p = next;
    }
    while (first) {
        p = first;
        first = p->next;
        p->fn(l, p->arg);
        mz_free(MZ_MEM_LOOP, p);
    }
}
