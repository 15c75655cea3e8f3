#include "filters/http/decompressor.h"

#include "base/alloc.h"
#include "proto/mapper.h"

/* Configuration of decompressor (H9). */

static const struct mz_stat_def defs[] = {
    [DECOMPRESSOR_DECOMPRESSED] = { "decompressed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DECOMPRESSOR_NOT_DECOMPRESSED] = { "not_decompressed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DECOMPRESSOR_UNCOMPRESSED_BYTES] = { "total_uncompressed_bytes", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DECOMPRESSOR_COMPRESSED_BYTES] = { "total_compressed_bytes", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind kind = { "decompressor", defs, MZ_COUNT(defs) };

void decompressor_config_destroy(void *cfg)
{
    struct decompressor_cfg *c = cfg;
    if (!c)
        return;
    mz_decompressor_lib_destroy(c->lib);
    mz_scope_unref(c->errors);
    mz_scope_unref(c->request.scope);
    mz_scope_unref(c->response.scope);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_CONFIG, c);
}

static void direction_fill(struct decompressor_cfg *c, struct decompressor_direction *d,
                           const pb_Decompressor_CommonDirectionConfig *m)
{
    d->enabled = runtime_flag_build(m ? m->enabled : NULL, c->arena);
    d->ignore_no_transform = m && m->ignore_no_transform_header;
}

static struct mz_str trailer_name(struct decompressor_cfg *c, const struct mz_factory *f,
                                  const char *what)
{
    struct mz_str s = mz_arena_printf(c->arena, MZ_STR_FMT "-decompressor-" MZ_STR_FMT "-%s",
                                      MZ_STR_ARG(f->header_prefix), MZ_STR_ARG(c->lib->name), what);
    for (size_t i = 0; i < s.n; i++)
        ((char *)(uintptr_t)s.p)[i] = mz_lower(s.p[i]);
    return s;
}

void *decompressor_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_Decompressor *m = msg;
    struct mz_decompressor_lib *lib = mz_decompressor_lib_build(m->decompressor_library, f, err);
    if (!lib) {
        mz_err_at(err, "decompressor_library");
        return NULL;
    }
    struct decompressor_cfg *c = mz_new0(MZ_MEM_CONFIG, struct decompressor_cfg);
    c->arena = mz_arena_create(MZ_MEM_CONFIG);
    c->lib = lib;
    const pb_Decompressor_RequestDirectionConfig *q = m->request_direction_config;
    const pb_Decompressor_ResponseDirectionConfig *r = m->response_direction_config;
    direction_fill(c, &c->request, q ? q->common_config : NULL);
    direction_fill(c, &c->response, r ? r->common_config : NULL);
    c->advertise = mz_bool_or(q ? q->advertise_accept_encoding : NULL, true);
    c->in_trailer = trailer_name(c, f, "compressed-bytes");
    c->out_trailer = trailer_name(c, f, "uncompressed-bytes");
    struct mz_str prefix = mz_arena_printf(
        c->arena, "http." MZ_STR_FMT ".decompressor." MZ_STR_FMT ".%s.",
        MZ_STR_ARG(f->http_stat_prefix), MZ_STR_ARG(lib->name), lib->type->stat_name);
    const struct {
        struct mz_scope **out;
        const struct mz_stat_kind *kind;
        struct mz_str tail;
    } scopes[] = { { &c->request.scope, &kind, MZ_STR("request.") },
                   { &c->response.scope, &kind, MZ_STR("response.") },
                   { &c->errors, lib->type->stats, MZ_STR("decompressor_library.") } };
    for (size_t i = 0; i < MZ_COUNT(scopes); i++)
        *scopes[i].out =
            mz_scope_create(f->stats, scopes[i].kind,
                            mz_arena_cat(c->arena, 2, (struct mz_str[]){ prefix, scopes[i].tail }));
    return c;
}
