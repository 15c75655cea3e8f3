/* Values of set_filter_state: factories, formats, objects (L5, H9). */
#include "filters/state_value.h"
#include "base/buf.h"
#include "observe/substitution.h"
#include "proto/mapper.h"

struct factory {
    struct mz_str name;
    bool hashable;
    bool (*reads)(struct mz_str text); /* NULL: any text */
};
struct value_cfg {
    struct mz_str key;
    const struct factory *factory;
    struct mz_log_format *format;
    bool read_only, skip_if_empty;
    enum mz_sharing sharing;
};
struct state_values {
    size_t n;
    struct value_cfg v[];
};
struct text_object {
    struct mz_filter_object base;
    struct mz_str text;
};

/* ---- configuration ---- */

static bool is_number(struct mz_str text)
{
    uint64_t v;
    return mz_str_u64(text, &v);
}

static bool is_bool(struct mz_str text)
{
    return mz_str_eq(text, MZ_STR("true")) || mz_str_eq(text, MZ_STR("false"));
}

static bool is_address(struct mz_str text)
{
    struct mz_addr a;
    return mz_addr_parse(text, &a);
}

static const struct factory factories[] = {
    { MZ_STR_INIT("envoy.string"), false, NULL },
    { MZ_STR_INIT("envoy.hashable_string"), true, NULL },
    { MZ_STR_INIT("istio.hashable_string"), true, NULL },
    { MZ_STR_INIT("envoy.filters.listener.original_dst.local_ip"), true, is_address },
    { MZ_STR_INIT("envoy.filters.listener.original_dst.remote_ip"), true, is_address },
    { MZ_STR_INIT("envoy.tcp_proxy.cluster"), false, NULL },
    { MZ_STR_INIT("envoy.tcp_proxy.disable_tunneling"), false, is_bool },
    { MZ_STR_INIT("envoy.tcp_proxy.per_connection_idle_timeout_ms"), false, is_number },
    { MZ_STR_INIT("envoy.network.upstream_server_name"), false, NULL },
    { MZ_STR_INIT("envoy.network.upstream_subject_alt_names"), false, NULL },
    { MZ_STR_INIT("envoy.network.application_protocols"), false, NULL },
};

static const struct factory *factory_find(struct mz_str name, struct mz_err *err)
{
    for (size_t i = 0; i < MZ_COUNT(factories); i++)
        if (mz_str_eq(factories[i].name, name))
            return &factories[i];
    mz_err_set(err,
               "'" MZ_STR_FMT "' does not have an object factory; there are envoy.string, "
               "envoy.hashable_string, envoy.tcp_proxy.*, envoy.network.* and "
               "envoy.filters.listener.original_dst.*",
               MZ_STR_ARG(name));
    return NULL;
}

void state_values_destroy(struct state_values *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)c->v[i].key.p);
        mz_log_format_destroy(c->v[i].format);
    }
    mz_free(MZ_MEM_CONFIG, c);
}

static const enum mz_sharing sharings[] = {
    [pb_FilterStateValue_SharedWithUpstream_NONE] = MZ_SHARING_NONE,
    [pb_FilterStateValue_SharedWithUpstream_ONCE] = MZ_SHARING_ONCE,
    [pb_FilterStateValue_SharedWithUpstream_TRANSITIVE] = MZ_SHARING_TRANSITIVE
};

static bool value_build(const pb_FilterStateValue *m, struct value_cfg *out, struct mz_err *err)
{
    struct mz_str key = mz_str_c(m->object_key), factory = mz_str_c(m->factory_key);
    *out = (struct value_cfg){ .key = { mz_strndup(MZ_MEM_CONFIG, key.p, key.n), key.n },
                               .read_only = m->read_only,
                               .skip_if_empty = m->skip_if_empty,
                               .sharing = sharings[m->shared_with_upstream] };
    out->factory = factory_find(factory.n ? factory : key, err);
    if (!out->factory)
        return mz_err_at(err, factory.n ? "factory_key" : "object_key");
    out->format = mz_log_format_create(m->format_string, err);
    return out->format || mz_err_at(err, "format_string");
}

struct state_values *state_values_build(pb_FilterStateValue *const *v, size_t n, const char *field,
                                        struct mz_err *err)
{
    struct state_values *c = mz_alloc0(MZ_MEM_CONFIG, sizeof(*c) + mz_mul(n, sizeof(c->v[0])));
    while (c->n < n) {
        size_t i = c->n++;
        if (value_build(v[i], &c->v[i], err))
            continue;
        mz_err_at(err, "%s[%zu]", field, i);
        state_values_destroy(c);
        return NULL;
    }
    return c;
}

/* ---- objects ---- */

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

static struct mz_filter_object *object_copy(const struct mz_filter_object *o, struct mz_arena *a);

static struct text_object *object_new(struct mz_arena *a, struct mz_str text)
{
    struct text_object *o = mz_arena_new0(a, struct text_object);
    o->base.text = object_text;
    o->base.copy = object_copy;
    o->text = text;
    return o;
}

static struct mz_filter_object *object_copy(const struct mz_filter_object *o, struct mz_arena *a)
{
    struct text_object *to = object_new(a, mz_arena_dup(a, object_text(o, a)));
    to->base.hash = o->hash;
    return &to->base;
}

void state_text_set(struct mz_stream_info *into, struct mz_str key, struct mz_str text)
{
    mz_info_set_state(into, key, &object_new(into->arena, mz_arena_dup(into->arena, text))->base);
}

static void value_set(const struct value_cfg *v, struct mz_stream_info *into,
                      const struct mz_format_ctx *ctx)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_log_format_append(v->format, ctx, &b);
    struct mz_str text = mz_arena_dup(into->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    if (text.n == 0 && v->skip_if_empty)
        return;
    if (v->factory->reads && !v->factory->reads(text))
        return;
    struct text_object *o = object_new(into->arena, text);
    o->base.hash = v->factory->hashable ? object_hash : NULL;
    o->base.read_only = v->read_only;
    o->base.sharing = (uint8_t)v->sharing;
    mz_info_set_state(into, v->key, &o->base);
}

void state_values_set(const struct state_values *c, struct mz_stream_info *into,
                      const struct mz_format_ctx *ctx)
{
    for (size_t i = 0; i < c->n; i++)
        value_set(&c->v[i], into, ctx);
}
