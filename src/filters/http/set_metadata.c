#include "filters/http/http_filters.h"
#include "observe/metadata.h"
#include "proto/mapper.h"
#include "stats/stats.h"

/* set_metadata: fixed values become dynamic metadata of the stream (H9). The filter's own come first, then those of the most
 * specific configuration of the route (Envoy). */

enum { OVERWRITE_DENIED };
static const struct mz_stat_def stat_defs[] = {
    [OVERWRITE_DENIED] = { "overwrite_denied", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "set_metadata", stat_defs, MZ_COUNT(stat_defs) };

struct entry {
    struct mz_str ns;
    const struct mz_value *value; /* a struct */
    bool overwrite;
};
struct set_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct entry *v;
    size_t n;
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct set_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static void entry_add(struct set_cfg *c, const char *ns, const pb_Struct *value, bool overwrite)
{
    static const struct mz_value empty = { .kind = MZ_VALUE_STRUCT };
    c->v[c->n++] = (struct entry){ mz_arena_dup(c->arena, mz_str_c(ns)),
                                   value ? mz_value_build(value, c->arena) : &empty, overwrite };
}

static struct set_cfg *build(const pb_set_metadata_Config *m, const struct mz_factory *f,
                             struct mz_str prefix)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct set_cfg *c = mz_arena_new0(a, struct set_cfg);
    c->arena = a;
    c->scope =
        mz_scope_create(f->stats, &stat_kind,
                        mz_arena_cat(a, 2, (struct mz_str[]){ prefix, MZ_STR("set_metadata.") }));
    c->v = mz_arena_alloc0(a, (m->n_metadata + 1) * sizeof(*c->v));
    if (m->metadata_namespace[0]) /* deprecated, before the list */
        entry_add(c, m->metadata_namespace, m->value, true);
    for (size_t i = 0; i < m->n_metadata; i++)
        if (m->metadata[i]->value)
            entry_add(c, m->metadata[i]->metadata_namespace, m->metadata[i]->value,
                      m->metadata[i]->allow_overwrite);
    return c;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    return build(
        msg, f,
        mz_arena_cat(f->proto->arena, 3,
                     (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".") }));
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    return build(msg, f, MZ_STR("")); /* "set_metadata.overwrite_denied", as in Envoy */
}

/* ---- merging; values of the configuration are shared, what is new lies in the stream's arena ---- */

static const struct mz_value *merged(const struct mz_value *old, const struct mz_value *with,
                                     struct mz_arena *a);

static const struct mz_value *lists_joined(const struct mz_value *x, const struct mz_value *y,
                                           struct mz_arena *a)
{
    struct mz_value *out = mz_arena_new0(a, struct mz_value);
    struct mz_value *v = mz_arena_alloc0(a, (x->list.n + y->list.n + 1) * sizeof(*v));
    for (size_t i = 0; i < x->list.n; i++)
        v[i] = x->list.v[i];
    for (size_t i = 0; i < y->list.n; i++)
        v[x->list.n + i] = y->list.v[i];
    out->kind = MZ_VALUE_LIST;
    out->list.v = v;
    out->list.n = x->list.n + y->list.n;
    return out;
}

/* Both are sorted by key, and so is what comes of them. */
static const struct mz_value *structs_merged(const struct mz_value *x, const struct mz_value *y,
                                             struct mz_arena *a)
{
    struct mz_value *out = mz_arena_new0(a, struct mz_value);
    struct mz_field *v = mz_arena_alloc0(a, (x->fields.n + y->fields.n + 1) * sizeof(*v));
    size_t i = 0, k = 0, n = 0;
    while (i < x->fields.n || k < y->fields.n) {
        int order = i == x->fields.n   ? 1
                    : k == y->fields.n ? -1
                                       : mz_str_cmp(x->fields.v[i].key, y->fields.v[k].key);
        if (order < 0)
            v[n++] = x->fields.v[i++];
        else if (order > 0)
            v[n++] = y->fields.v[k++];
        else {
            v[n++] = (struct mz_field){ x->fields.v[i].key,
                                        merged(x->fields.v[i].value, y->fields.v[k].value, a) };
            i++, k++;
        }
    }
    out->kind = MZ_VALUE_STRUCT;
    out->fields.v = v;
    out->fields.n = out->fields.cap = n;
    return out;
}

/* Structs merge, lists grow, all else is replaced; so is what changes its kind. Recursion: depth of the configuration. */
static const struct mz_value *merged(const struct mz_value *old, const struct mz_value *with,
                                     struct mz_arena *a)
{
    if (old->kind != with->kind)
        return with;
    if (with->kind == MZ_VALUE_STRUCT)
        return structs_merged(old, with, a);
    return with->kind == MZ_VALUE_LIST ? lists_joined(old, with, a) : with;
}

static void apply(const struct set_cfg *c, struct mz_stream_info *info)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct entry *e = &c->v[i];
        if (!info->dynamic_metadata)
            info->dynamic_metadata = mz_meta_create(info->arena);
        const struct mz_value *old = mz_meta_get(info->dynamic_metadata, e->ns, NULL, 0);
        if (old && !e->overwrite) {
            mz_count(c->scope, OVERWRITE_DENIED, 1);
            continue;
        }
        const struct mz_value *v = old ? merged(old, e->value, info->arena) : e->value;
        for (size_t k = 0; k < v->fields.n; k++)
            mz_meta_set(info->dynamic_metadata, e->ns, v->fields.v[k].key, v->fields.v[k].value);
    }
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h, (void)end;
    struct mz_stream_info *info = mz_stream_info(f->stream);
    apply(f->cfg, info);
    if (f->route_cfg)
        apply(f->route_cfg, info);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_set_metadata = {
    .name = "envoy.filters.http.set_metadata",
    .config_type = "envoy.extensions.filters.http.set_metadata.v3.Config",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
};
