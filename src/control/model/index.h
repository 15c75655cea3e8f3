#ifndef MZ_CONTROL_MODEL_INDEX_H
#define MZ_CONTROL_MODEL_INDEX_H
/*
 * Text to pointer, in editions that share what they have in common: another one costs the same whatever is in it, a change copies the
 * one bucket that it is in. Keys and values are borrowed. Main thread.
 */
#include "base/str.h"

struct mz_index;
struct mz_index *mz_index_create(void); /* empty; refs 1 */
struct mz_index *mz_index_ref(const struct mz_index *x);
void mz_index_unref(const struct mz_index *x); /* NULL is fine */
/* *@x becomes another edition where others hold it, too. @value NULL: the key goes. Returns what it was before, or NULL. */
void *mz_index_put(struct mz_index **x, struct mz_str key, const void *value);
void *mz_index_get(const struct mz_index *x, struct mz_str key); /* NULL: it has none */
size_t mz_index_count(const struct mz_index *x);

struct mz_index_at { /* zeroed: before the first; in no order that means anything */
    size_t bucket, i;
    struct mz_str key;
    void *value;
};
bool mz_index_next(const struct mz_index *x, struct mz_index_at *at);
#define mz_index_foreach(it, x) for (struct mz_index_at it = { 0 }; mz_index_next((x), &it);)
#endif
