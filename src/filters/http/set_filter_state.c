#include "base/buf.h"
#include "filters/http/http_filters.h"
#include "observe/substitution.h"
#include "proto/mapper.h"

/* set_filter_state: texts made of the request become objects of the stream's filter state (H9). */

struct value_cfg {
    struct mz_str key;
    struct mz_log_format *format;
    bool hashable, read_only, skip_if_empty;
};
struct state_cfg {
    size_t n;
    struct value_cfg v[];
};
struct text_object {
    struct mz_filter_object base;
    struct mz_str text;
};

/* ---- configuration ---- */

static const struct {
    struct mz_str name;
    bool hashable;
} factories[] = {
    { MZ_STR_INIT("envoy.string"), false },
    { MZ_STR_INIT("envoy.hashable_string"), true },
};

static void config_destroy(void *cfg)
{
    struct state_cfg *c = cfg;
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)c->v[i].key.p);
        mz_log_format_destroy(c->v[i].format);
    }
    mz_free(MZ_MEM_CONFIG, c);
}

static bool factory_find(struct mz_str name, bool *out_hashable, struct mz_err *err)
{
    for (size_t i = 0; i < MZ_COUNT(factories); i++)
        if (mz_str_eq(factories[i].name, name)) {
            *out_hashable = factories[i].hashable;
            return true;
        }
    return mz_err_set(err,
                      "'" MZ_STR_FMT
                      "' does not have an object factory; there are envoy.string and "
                      "envoy.hashable_string",
                      MZ_STR_ARG(name));
}

static bool value_build(const pb_FilterStateValue *m, struct value_cfg *out, struct mz_err *err)
{
    struct mz_str key = mz_str_c(m->object_key), factory = mz_str_c(m->factory_key);
    *out = (struct value_cfg){ .key = { mz_strndup(MZ_MEM_CONFIG, key.p, key.n), key.n },
                               .read_only = m->read_only,
                               .skip_if_empty = m->skip_if_empty };
    if (!factory_find(factory.n ? factory : key, &out->hashable, err))
        return mz_err_at(err, factory.n ? "factory_key" : "object_key");
    out->format = mz_log_format_create(m->format_string, err);
    return out->format || mz_err_at(err, "format_string");
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_set_filter_state_Config *m = msg;
    struct state_cfg *c =
        mz_alloc0(MZ_MEM_CONFIG, sizeof(*c) + mz_mul(m->n_on_request_headers, sizeof(c->v[0])));
    while (c->n < m->n_on_request_headers) {
        size_t i = c->n++;
        if (value_build(m->on_request_headers[i], &c->v[i], err))
            continue;
        mz_err_at(err, "on_request_headers[%zu]", i);
        config_destroy(c);
        return NULL;
    }
    return c;
}

/* ---- at work ---- */

static struct mz_str object_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    (void)a;
    return ((const struct text_object *)(const void *)o)->text;
}

static uint64_t object_hash(const struct mz_filter_object *o)
{
    struct mz_str text = ((const struct text_object *)(const void *)o)->text;
    return mz_xxh64(text.p, text.n, 0);
}

static void value_set(const struct value_cfg *v, struct mz_filter *f, const struct mz_format_ctx *c)
{
    struct mz_arena *a = mz_stream_arena(f->stream);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_log_format_append(v->format, c, &b);
    struct mz_str text = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    if (text.n == 0 && v->skip_if_empty)
        return;
    struct text_object *o = mz_arena_new0(a, struct text_object);
    o->base.text = object_text;
    o->base.hash = v->hashable ? object_hash : NULL;
    o->base.read_only = v->read_only;
    o->text = text;
    mz_info_set_state(mz_stream_info(f->stream), v->key, &o->base);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h, (void)end;
    const struct state_cfg *cfg = f->route_cfg ? f->route_cfg : f->cfg;
    const struct mz_format_ctx c = { .info = mz_stream_info(f->stream) };
    for (size_t i = 0; i < cfg->n; i++)
        value_set(&cfg->v[i], f, &c);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_set_filter_state = {
    .name = "envoy.filters.http.set_filter_state",
    .config_type = "envoy.extensions.filters.http.set_filter_state.v3.Config",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
};
