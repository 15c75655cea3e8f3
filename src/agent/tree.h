#ifndef MZ_AGENT_TREE_H
#define MZ_AGENT_TREE_H
/* Documents that the agent makes rather than reads, and small files as texts. */
#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"
#include "proto/tree.h"

/* A map under construction: later values of a key replace earlier ones. */
struct map {
    struct mz_arena *a;
    MZ_VEC(struct mz_pair) v;
};
void map_set(struct map *m, struct mz_str key, const struct mz_node *value);
void map_text(struct map *m, const char *key, struct mz_str value);   /* a string */
void map_number(struct map *m, const char *key, uint64_t value);
void map_drop(struct map *m, struct mz_str key);
void map_all(struct map *m, const struct mz_node *from); /* every member of a map; NULL is fine */
const struct mz_node *map_node(struct map *m);           /* sorted by key; the map is empty afterwards */
const struct mz_node *made_text(struct mz_arena *a, struct mz_str s);
const struct mz_node *node_list(struct mz_arena *a, const struct mz_node *const *v, size_t n);
struct mz_str member_text(const struct mz_node *map, const char *key); /* a string of a map, by its exact key; "" */
struct mz_str node_json(struct mz_arena *a, const struct mz_node *n); /* its JSON */
struct mz_str text_json(struct mz_arena *a, struct mz_str s);         /* a string as JSON */

struct file_text {
    struct mz_str text;
    bool there;
};
bool file_read(const char *path, struct mz_arena *a, struct file_text *out, struct mz_err *err); /* absent: not there */
uint64_t file_version(const char *path); /* another when it was written or replaced; 0: it is not there */
/* Whole or not at all, also for who reads it meanwhile. */
bool file_write(const char *path, struct mz_str text, unsigned mode, struct mz_err *err);
#endif
