#ifndef MZ_CONTROL_INJECT_TEMPLATES_PRIV_H
#define MZ_CONTROL_INJECT_TEMPLATES_PRIV_H
#include "base/map.h"
#include "control/inject/gotpl.h"
#include "control/inject/inject_priv.h"
#include "control/inject/templates.h"

struct mz_inject_templates {
    struct mz_arena *arena;
    struct mz_map by_name; /* struct mz_gotpl */
    json_t *config;        /* the whole: lists and maps of names */
    json_t *values;        /* an object */
};
enum { TEMPLATES_MAX = 16 /* of one pod */ };
/* Which templates a pod gets, in their order. False: err says what is wrong. @out: texts live in @a. */
struct templates_chosen {
    struct mz_str v[TEMPLATES_MAX];
    size_t n;
};
bool templates_policy(const struct injection *i, const json_t *labels); /* pods that say nothing themselves get a proxy */
bool templates_choose(const struct injection *i, struct mz_arena *a, struct templates_chosen *out);
const struct mz_gotpl *templates_find(const struct injection *i, struct mz_str name); /* NULL: none of that name is written */
/* Renders @t for the pod as it came and lays it over the pod (overlay.c) and over @laid, which gets what templates add alone. */
bool templates_apply(struct injection *i, const struct mz_gotpl *t, struct mz_str name, const json_t *original, json_t *laid);
json_t *templates_annotations(const struct injection *i); /* injectedAnnotations; NULL: there are none */
/* A strategic merge as Kubernetes does it to pods: lists of what has names by those names, null and `$patch` take away. False: no such
 * patch is possible. */
void overlay_order(json_t *list, const json_t *before, const json_t *patch, const char *key); /* of @list, once merged */
bool overlay(json_t *into, const json_t *patch, struct mz_err *err);
#endif
