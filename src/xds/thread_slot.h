#ifndef MZ_XDS_THREAD_SLOT_H
#define MZ_XDS_THREAD_SLOT_H
/*
 * One immutable object as each thread sees it: main sets a new one, each worker gets it by post and swaps it between two
 * callbacks. What a thread read stays valid until the end of its callback; who keeps it longer takes a reference. No lock.
 */
#include "xds/subscription.h"

struct mz_thread_slot;
struct mz_shared_ops { /* of the object: counted by atomics */
    void (*ref)(const void *object);
    void (*unref)(const void *object);
};
struct mz_thread_slot *mz_thread_slot_create(struct mz_xds *x, const struct mz_shared_ops *ops);
struct mz_thread_slot *mz_thread_slot_ref(struct mz_thread_slot *s); /* any thread */
void mz_thread_slot_unref(struct mz_thread_slot *s);                 /* any thread; NULL is fine */
void mz_thread_slot_set(struct mz_thread_slot *s, const void *take); /* main thread; a reference moves in */
/* For this thread alone, until something is set; a reference moves in. */
void mz_thread_slot_put(struct mz_thread_slot *s, const void *take);
const void *mz_thread_slot_get(const struct mz_thread_slot *s);      /* of this thread; NULL before the first */
#endif
