#ifndef MZ_CONTROL_SOURCES_STORE_H
#define MZ_CONTROL_SOURCES_STORE_H
/*
 * All documents that sources know of, by kind, namespace and name. Main thread. Sources put and remove, then commit; whoever
 * reads is told once per commit that changed anything. Several sources: a key belongs to the one that put it first.
 */
#include "control/sources/doc.h"

struct mz_store;
struct mz_store *mz_store_create(void (*changed)(void *arg), void *arg);
void mz_store_destroy(struct mz_store *s); /* NULL is fine */
void mz_store_put(struct mz_store *s, struct mz_doc *d);        /* takes @d; replaces the one of the same key */
void mz_store_remove(struct mz_store *s, struct mz_str key);    /* nothing happens where there is none */
void mz_store_commit(struct mz_store *s);                       /* a consistent state: tells `changed` */
const struct mz_doc *mz_store_get(const struct mz_store *s, struct mz_str key); /* borrowed; NULL */
/* Endpoints of one service, "ns/name": slices and the older form, by kind and name. Borrowed until the next put or remove. */
const struct mz_doc *const *mz_store_of(struct mz_store *s, struct mz_str service, size_t *out_n);
struct mz_store_change { /* one document came, went or is another */
    enum mz_kind kind;
    struct mz_str key, ns, name;
    struct mz_str of; /* of endpoints: the service that has them, or had */
};
struct mz_store_changes { /* since they were last forgotten */
    bool many;            /* more than are counted, or everything is new: anything may have changed */
    const struct mz_store_change *v; /* some perhaps twice */
    size_t n;
};
struct mz_store_changes mz_store_changes(const struct mz_store *s); /* borrowed */
void mz_store_forget_changes(struct mz_store *s);
/* Of one kind, by namespace and name. Borrowed until the next put or remove. */
const struct mz_doc *const *mz_store_list(struct mz_store *s, enum mz_kind k, size_t *out_n);
#endif
