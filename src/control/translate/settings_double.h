#ifndef MZ_CONTROL_TRANSLATE_SETTINGS_DOUBLE_H
#define MZ_CONTROL_TRANSLATE_SETTINGS_DOUBLE_H
/* For tests: what a proxy is given of some documents, as JSON. */
#include "base/test.h"

#include "base/buf.h"
#include "control/discovery/peer_double.h"
#include "control/translate/translate.h"

static struct mz_arena *arena;

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    arena = mz_arena_create(MZ_MEM_CONFIG);
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static struct mz_str as_json(const void *m)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_msg_to_json(m, &b, 0);
    char *text = mz_arena_alloc0(arena, mz_buf_len(&b) + 1);
    (void)mz_buf_copyout(&b, 0, text, mz_buf_len(&b));
    mz_buf_fini(&b);
    return mz_str_c(text);
}

static void hear(void *arg, enum mz_level l, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)line;
    if (l == MZ_LEVEL_ERROR)
        fail_msg("%.*s: %s", MZ_STR_ARG(key), text);
}

static struct mz_model *model_of(const char *mesh, const char *documents)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, hear, s };
    if (mesh[0])
        mz_doc_read_mesh(&r, mz_str_c(mesh));
    mz_doc_read_text(&r, mz_str_c(documents), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}

static struct mz_features features; /* besides what is always on */

/* One resource as JSON; NULL: there is none. */
static const char *ask(const char *mesh, const char *documents, const char *node,
                       enum mz_xds_type t, const char *name)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    const char *out = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(node), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    struct mz_features f = features;
    f.metadata_exchange = f.alpn = true;
    struct mz_translator *tr = mz_translator_create(&f);
    struct mz_model *model = model_of(mesh, documents);
    mz_translator_set_model(tr, model);
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)m, &err);
    struct mz_view *v = mz_view_create(tr, p);
    struct mz_outs o = { 0 };
    const struct mz_str n = mz_str_c(name);
    mz_translate(v, t, &n, t == MZ_XDS_ENDPOINT || t == MZ_XDS_ROUTE, &o);
    mz_vec_foreach (it, &o.v) {
        if (!mz_str_eq((*it)->name, n))
            continue;
        if (!mz_msg_unpack(&ctx, (*it)->bytes, mz_xds_descriptor(t), &m,
                           &err)) /* what we send must be loadable */
            fail_msg("%s: %s", err.path, err.msg);
        out = as_json(m).p;
    }
    mz_outs_fini(&o);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
    mz_translator_destroy(tr);
    mz_model_unref(model);
    return out;
}
#endif
