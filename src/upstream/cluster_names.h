#ifndef MZ_UPSTREAM_CLUSTER_NAMES_H
#define MZ_UPSTREAM_CLUSTER_NAMES_H
/*
 * Which cluster has which name. Immutable once shared with other threads: a change copies what it touches, one of 256 parts,
 * so that one cluster more among ten thousand costs forty entries, not ten thousand. Main thread changes; any thread reads.
 */
#include "base/map.h"

struct cluster_entry;
struct cluster_names;
struct cluster_names *cluster_names_create(void);
struct cluster_names *cluster_names_ref(struct cluster_names *n); /* any thread */
void cluster_names_unref(struct cluster_names *n);                /* any thread; NULL is fine; drops a reference of each entry */
struct cluster_entry *cluster_names_get(const struct cluster_names *n, struct mz_str name); /* borrowed */
size_t cluster_names_count(const struct cluster_names *n);
/* A reference moves in; that to the one that had the name moves out, or NULL. *io becomes another where it was shared. */
struct cluster_entry *cluster_names_put(struct cluster_names **io, struct cluster_entry *take);
struct cluster_entry *cluster_names_del(struct cluster_names **io, struct mz_str name);

struct cluster_names_at { /* zeroed: the beginning */
    unsigned part;
    struct mz_map_entry *entry;
};
struct cluster_entry *cluster_names_next(const struct cluster_names *n, struct cluster_names_at *at); /* NULL: the end */
#define cluster_names_foreach(c, n)                                                                                    \
    for (struct cluster_names_at at_##c = { 0 }, *once_##c = &at_##c; once_##c; once_##c = NULL)                       \
        for (struct cluster_entry *c; (c = cluster_names_next((n), &at_##c)) != NULL;)
#endif
