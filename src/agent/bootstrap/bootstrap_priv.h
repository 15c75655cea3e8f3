#ifndef MZ_AGENT_BOOTSTRAP_PRIV_H
#define MZ_AGENT_BOOTSTRAP_PRIV_H
#include "agent/bootstrap/bootstrap.h"

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
const struct mz_node *node_text(struct mz_arena *a, struct mz_str s);
const struct mz_node *node_list(struct mz_arena *a, const struct mz_node *const *v, size_t n);
struct mz_str node_member(const struct mz_node *map, const char *key); /* a string of a map, by its exact key; "" */
struct mz_str node_json(struct mz_arena *a, const struct mz_node *n); /* its JSON */
struct mz_str text_json(struct mz_arena *a, struct mz_str s);         /* a string as JSON */

struct file_text {
    struct mz_str text;
    bool there;
};
bool file_read(const char *path, struct mz_arena *a, struct file_text *out, struct mz_err *err); /* absent: not there */

/* Kubernetes' downward API: lines of key="quoted value". Labels, annotations; an empty map where there is no file. */
const struct mz_node *pod_info(const struct mz_agent_settings *s, const char *file, struct mz_arena *a, struct mz_err *err);
/* Defaults, the mesh's file, PROXY_CONFIG, the annotation, flags: each over the one before. NULL on errors. */
const struct mz_node *proxy_config(const struct mz_agent_settings *s, const struct mz_node *annotations,
                                   struct mz_arena *a, struct mz_err *err);

struct node {
    struct mz_str id, cluster;
    const struct mz_node *metadata, *locality;
};
bool node_make(const struct mz_agent_settings *s, const struct mz_node *config, const struct mz_node *annotations,
               struct mz_arena *a, struct node *out, struct mz_err *err);

/* Fills a template: ${name}, and lines between "#if name" and "#end" (nested) where that name has a value. */
struct variable {
    const char *name;
    struct mz_str value; /* as it stands in the text: JSON */
};
struct mz_str template_fill(struct mz_arena *a, struct mz_str text, const struct variable *v, size_t n);
extern const char bootstrap_template[];
#endif
