#include "filters/http/compressor.h"

#include "base/alloc.h"
#include "proto/mapper.h"

/* Configuration of compressor (H9), of the filter and of routes. */

#define MIN_LENGTH 30

static const struct mz_str default_types[] = {
    MZ_STR_INIT("text/html"),
    MZ_STR_INIT("text/plain"),
    MZ_STR_INIT("text/css"),
    MZ_STR_INIT("application/javascript"),
    MZ_STR_INIT("application/x-javascript"),
    MZ_STR_INIT("text/javascript"),
    MZ_STR_INIT("text/x-javascript"),
    MZ_STR_INIT("text/ecmascript"),
    MZ_STR_INIT("text/js"),
    MZ_STR_INIT("text/jscript"),
    MZ_STR_INIT("text/x-js"),
    MZ_STR_INIT("application/ecmascript"),
    MZ_STR_INIT("application/x-json"),
    MZ_STR_INIT("application/xml"),
    MZ_STR_INIT("application/json"),
    MZ_STR_INIT("image/svg+xml"),
    MZ_STR_INIT("text/xml"),
    MZ_STR_INIT("application/xhtml+xml"),
    MZ_STR_INIT("application/grpc-web"),
    MZ_STR_INIT("application/grpc-web+proto"),
};

static const struct mz_stat_def direction_defs[] = {
    [COMPRESSOR_COMPRESSED] = { "compressed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_NOT_COMPRESSED] = { "not_compressed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_UNCOMPRESSED_BYTES] = { "total_uncompressed_bytes", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_COMPRESSED_BYTES] = { "total_compressed_bytes", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_TOO_SMALL] = { "content_length_too_small", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind direction_stats = { "compressor", direction_defs,
                                                     MZ_COUNT(direction_defs) };
static const struct mz_stat_def header_defs[] = {
    [COMPRESSOR_NO_ACCEPT] = { "no_accept_header", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_IDENTITY] = { "header_identity", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_USED] = { "header_compressor_used", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_OVERSHADOWED] = { "header_compressor_overshadowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_WILDCARD] = { "header_wildcard", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_NOT_VALID] = { "header_not_valid", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [COMPRESSOR_ETAG] = { "not_compressed_etag", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind header_stats = { "compressor headers", header_defs,
                                                  MZ_COUNT(header_defs) };

void compressor_config_destroy(void *cfg)
{
    struct compressor_cfg *c = cfg;
    if (!c)
        return;
    mz_compressor_lib_destroy(c->lib);
    mz_scope_unref(c->request.scope);
    mz_scope_unref(c->response.scope);
    mz_scope_unref(c->headers);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_CONFIG, c);
}

struct direction_fields { /* wherever in the message they stand */
    const pb_RuntimeFeatureFlag *enabled;
    const pb_UInt32Value *min_length;
    char **types;
    size_t n_types;
};

static struct direction_fields fields_of(const pb_Compressor_CommonDirectionConfig *m)
{
    if (!m)
        return (struct direction_fields){ NULL, NULL, NULL, 0 };
    return (struct direction_fields){ m->enabled, m->min_content_length, m->content_type,
                                      m->n_content_type };
}

static void direction_fill(struct compressor_cfg *c, struct compressor_direction *d,
                           const struct direction_fields *m)
{
    d->enabled = runtime_flag_build(m->enabled, c->arena);
    uint32_t length = mz_u32_or(m->min_length, 0);
    d->min_length = length ? length : MIN_LENGTH;
    d->types = default_types;
    d->n_types = MZ_COUNT(default_types);
    if (!m->n_types)
        return;
    struct mz_str *types = mz_arena_alloc0(c->arena, m->n_types * sizeof(*types));
    for (size_t i = 0; i < m->n_types; i++)
        types[i] = mz_arena_dup(c->arena, mz_str_c(m->types[i]));
    d->types = types;
    d->n_types = m->n_types;
}

static void response_fill(struct compressor_cfg *c, const pb_Compressor *m,
                          const struct mz_factory *f)
{
    const pb_Compressor_ResponseDirectionConfig *r = m->response_direction_config;
    struct direction_fields fields = { m->runtime_enabled, m->content_length, m->content_type,
                                       m->n_content_type };
    if (r)
        fields = fields_of(r->common_config);
    direction_fill(c, &c->response, &fields);
    c->not_with_etag = r ? r->disable_on_etag_header : m->disable_on_etag_header;
    c->remove_accept = r ? r->remove_accept_encoding_header : m->remove_accept_encoding_header;
    if (!r)
        return;
    uint32_t *codes =
        mz_arena_alloc0(c->arena, r->n_uncompressible_response_codes * sizeof(*codes));
    for (size_t i = 0; i < r->n_uncompressible_response_codes; i++)
        codes[i] = r->uncompressible_response_codes[i];
    c->no_codes = codes;
    c->n_no_codes = r->n_uncompressible_response_codes;
    if (r->status_header_enabled)
        c->status_name = mz_arena_cat(
            c->arena, 2, (struct mz_str[]){ f->header_prefix, MZ_STR("-compression-status") });
}

void *compressor_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_Compressor *m = msg;
    struct mz_compressor_lib *lib = mz_compressor_lib_build(m->compressor_library, f, err);
    if (!lib) {
        mz_err_at(err, "compressor_library");
        return NULL;
    }
    struct compressor_cfg *c = mz_new0(MZ_MEM_CONFIG, struct compressor_cfg);
    c->arena = mz_arena_create(MZ_MEM_CONFIG);
    c->lib = lib;
    c->choose_first = m->choose_first;
    const pb_Compressor_RequestDirectionConfig *q = m->request_direction_config;
    struct direction_fields fields = fields_of(q ? q->common_config : NULL);
    direction_fill(c, &c->request, &fields);
    c->requests = q != NULL;
    response_fill(c, m, f);
    struct mz_str prefix = mz_arena_printf(
        c->arena, "http." MZ_STR_FMT ".compressor." MZ_STR_FMT ".%s.",
        MZ_STR_ARG(f->http_stat_prefix), MZ_STR_ARG(lib->name), lib->type->stat_name);
    struct mz_str request =
        mz_arena_cat(c->arena, 2, (struct mz_str[]){ prefix, MZ_STR("request.") });
    struct mz_str response =
        mz_arena_cat(c->arena, 2, (struct mz_str[]){ prefix, MZ_STR("response.") });
    c->headers = mz_scope_create(f->stats, &header_stats, prefix);
    c->request.scope = mz_scope_create(f->stats, &direction_stats, request);
    c->response.scope = mz_scope_create(f->stats, &direction_stats,
                                        m->response_direction_config ? response : prefix);
    return c;
}

void compressor_route_config_destroy(void *cfg)
{
    struct compressor_route_cfg *c = cfg;
    if (c)
        mz_compressor_lib_destroy(c->lib);
    mz_free(MZ_MEM_CONFIG, c);
}

void *compressor_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_CompressorPerRoute *m = msg;
    struct compressor_route_cfg *c = mz_new0(MZ_MEM_CONFIG, struct compressor_route_cfg);
    c->disabled = m->override_case == pb_CompressorPerRoute_OVERRIDE_DISABLED;
    if (c->disabled)
        return c;
    const pb_CompressorOverrides *o = m->overrides;
    const pb_ResponseDirectionOverrides *r = o->response_direction_config;
    c->response = r != NULL;
    c->has_remove = r && r->remove_accept_encoding_header;
    c->remove_accept = c->has_remove && r->remove_accept_encoding_header->value;
    if (!o->compressor_library || (c->lib = mz_compressor_lib_build(o->compressor_library, f, err)))
        return c;
    mz_err_at(err, "overrides.compressor_library");
    compressor_route_config_destroy(c);
    return NULL;
}
