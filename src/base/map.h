#ifndef MZ_BASE_MAP_H
#define MZ_BASE_MAP_H
/* String to pointer hash map, open addressing with linear probing, keyed hash (E11). Not thread-safe; immutable use from
 * several threads is fine. Keys are borrowed: they must live as long as the entry (usually inside the value). */
#include "base/alloc.h"
#include "base/str.h"

struct mz_map_entry {
    uint64_t hash;
    struct mz_str key;
    void *value; /* NULL marks a free place: values are never NULL */
};
struct mz_map {
    struct mz_map_entry *v;
    size_t n, cap; /* cap is 0 or a power of two */
    enum mz_mem mem;
};
void mz_map_init(struct mz_map *m, enum mz_mem mem);
void mz_map_fini(struct mz_map *m); /* frees the table, not the values */
void mz_map_reserve(struct mz_map *m, size_t n); /* room for @n entries without growing */
void *mz_map_get(const struct mz_map *m, struct mz_str key);
void *mz_map_put(struct mz_map *m, struct mz_str key, void *value); /* returns the value that was replaced, or NULL; the key is replaced, too */
/* The same in two steps, for many keys of a large map: where they would go is fetched while something else is done. */
uint64_t mz_map_prefetch(const struct mz_map *m, struct mz_str key);
void *mz_map_put_fetched(struct mz_map *m, uint64_t fetched, struct mz_str key, void *value); /* @fetched: of this map and key */
void *mz_map_del(struct mz_map *m, struct mz_str key);              /* returns the value that was removed, or NULL */
struct mz_map_entry *mz_map_next(const struct mz_map *m, struct mz_map_entry *e); /* first with NULL; no changes between */
#define mz_map_foreach(it, m) for (struct mz_map_entry *it = NULL; (it = mz_map_next((m), it)) != NULL;)
#endif
