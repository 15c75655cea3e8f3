#include "observe/custom_tag.h"

#include "observe/metadata.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"
#include <stdlib.h>

enum source { TEXT, HEADER, FORMAT, OF_REQUEST, OF_ROUTE, OF_CLUSTER, OF_HOST };
struct mz_custom_tag {
    struct mz_str name;
    enum source source;
    struct mz_str text;       /* TEXT; else the default */
    struct mz_str key, *path; /* HEADER: its name; OF_...: namespace and where in it */
    size_t n_path;
    struct mz_format *format;
};

/* ---- configuration ---- */

static struct mz_str dup(struct mz_arena *a, const char *s)
{
    return mz_arena_dup(a, mz_str_c(s));
}

static void environment_build(const pb_CustomTag_Environment *m, struct mz_arena *a,
                              struct mz_custom_tag *out)
{
    const char *value = secure_getenv(m->name);
    out->source = TEXT;
    out->text = dup(a, value ? value : m->default_value);
}

static void header_build(const pb_CustomTag_Header *m, struct mz_arena *a,
                         struct mz_custom_tag *out)
{
    struct mz_str name = mz_str_c(m->name);
    char *lower = mz_arena_alloc(a, name.n + 1);
    for (size_t i = 0; i < name.n; i++)
        lower[i] = mz_lower(name.p[i]);
    out->source = HEADER;
    out->key = (struct mz_str){ lower, name.n };
    out->text = dup(a, m->default_value);
}

static bool metadata_build(const pb_CustomTag_Metadata *m, struct mz_arena *a,
                           struct mz_custom_tag *out, struct mz_err *err)
{
    static const enum source of[] = { [pb_MetadataKind_KIND_REQUEST] = OF_REQUEST,
                                      [pb_MetadataKind_KIND_ROUTE] = OF_ROUTE,
                                      [pb_MetadataKind_KIND_CLUSTER] = OF_CLUSTER,
                                      [pb_MetadataKind_KIND_HOST] = OF_HOST };
    const pb_MetadataKey *k = m->metadata_key;
    if (!m->kind) {
        mz_err_set(err, "is required");
        return mz_err_at(err, "metadata.kind");
    }
    out->source = of[m->kind->kind_case];
    out->text = dup(a, m->default_value);
    if (!k)
        return true;
    out->key = dup(a, k->key);
    out->path = mz_arena_alloc(a, mz_mul(k->n_path, sizeof(*out->path)));
    for (; out->n_path < k->n_path; out->n_path++)
        out->path[out->n_path] = dup(a, k->path[out->n_path]->key);
    return true;
}

static bool tag_build(const pb_CustomTag *m, struct mz_arena *a, struct mz_custom_tag *out,
                      struct mz_err *err)
{
    out->name = dup(a, m->tag);
    switch (m->type_case) {
    case pb_CustomTag_TYPE_LITERAL:
        out->text = dup(a, m->literal->value);
        return true;
    case pb_CustomTag_TYPE_ENVIRONMENT:
        environment_build(m->environment, a, out);
        return true;
    case pb_CustomTag_TYPE_REQUEST_HEADER:
        header_build(m->request_header, a, out);
        return true;
    case pb_CustomTag_TYPE_METADATA:
        return metadata_build(m->metadata, a, out, err);
    case pb_CustomTag_TYPE_VALUE:
        out->source = FORMAT;
        out->format = mz_format_create(mz_str_c(m->value), true, err);
        return out->format || mz_err_at(err, "value");
    default: /* the schema wants one of them */
        return mz_err_set(err, "type: one of its fields must be set");
    }
}

bool mz_custom_tags_build(pb_CustomTag *const *m, size_t n, struct mz_arena *a,
                          struct mz_custom_tags *out, struct mz_err *err)
{
    struct mz_custom_tags t = { mz_arena_alloc0(a, mz_mul(n, sizeof(*t.v))), 0 };
    while (t.n < n) {
        if (!tag_build(m[t.n], a, &t.v[t.n], err)) {
            mz_err_at(err, "[%zu]", t.n);
            mz_custom_tags_fini(&t);
            return false;
        }
        t.n++;
    }
    *out = t;
    return true;
}

void mz_custom_tags_fini(struct mz_custom_tags *t)
{
    for (size_t i = 0; i < t->n; i++)
        mz_format_destroy(t->v[i].format);
    t->n = 0;
}

/* ---- values ---- */

struct mz_str mz_custom_tag_name(const struct mz_custom_tags *t, size_t i)
{
    return t->v[i].name;
}

/* As text; false: null, which counts as absent. */
static bool plain(const struct mz_value *v, struct mz_arena *a, struct mz_str *out)
{
    struct mz_buf b;
    switch (v->kind) {
    case MZ_VALUE_NULL:
        return false;
    case MZ_VALUE_BOOL:
        *out = v->b ? MZ_STR("true") : MZ_STR("false");
        return true;
    case MZ_VALUE_NUMBER: /* six digits, as Envoy writes them here */
        *out = mz_arena_printf(a, "%g", v->number);
        return true;
    case MZ_VALUE_STRING:
        *out = v->str;
        return true;
    default:
        mz_buf_init(&b);
        mz_value_json(v, &b);
        *out = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
        mz_buf_fini(&b);
        return true;
    }
}

static const struct mz_meta *metadata_of(enum source s, const struct mz_stream_info *i)
{
    return s == OF_REQUEST   ? i->dynamic_metadata
           : s == OF_ROUTE   ? i->route_metadata
           : s == OF_CLUSTER ? i->up.cluster_metadata
                             : i->up.metadata;
}

static struct mz_str formatted(const struct mz_format *f, const struct mz_format_ctx *c,
                               struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(f, c, &b);
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

bool mz_custom_tag_value(const struct mz_custom_tags *t, size_t i, const struct mz_format_ctx *c,
                         struct mz_arena *a, struct mz_str *out_value)
{
    const struct mz_custom_tag *tag = &t->v[i];
    const struct mz_headers *req = c->req ? c->req : c->info->req;
    struct mz_str value = tag->text;
    if (tag->source == HEADER) {
        const struct mz_header *h = req ? mz_headers_get(req, tag->key) : NULL;
        value = h ? h->value : tag->text;
    } else if (tag->source == FORMAT) {
        value = formatted(tag->format, c, a);
    } else if (tag->source != TEXT) {
        const struct mz_meta *m = metadata_of(tag->source, c->info);
        const struct mz_value *v = m ? mz_meta_get(m, tag->key, tag->path, tag->n_path) : NULL;
        if (v && plain(v, a, out_value))
            return true; /* an empty text is one, too */
    }
    if (!value.n)
        return false;
    *out_value = value;
    return true;
}
