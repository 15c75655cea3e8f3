/* HTTP filters by subscription (ECDS, X1): their kind, and what stands where none came. */
#include "hcm/hcm_priv.h"

static bool find(const struct mz_factory *f, struct mz_str type, struct mz_extension_type *out)
{
    const struct mz_http_filter_type *t = f->http_filter(type);
    if (t)
        *out = (struct mz_extension_type){ t, t->name, t->terminal, t->config_build,
                                           t->config_destroy };
    return t != NULL;
}

const struct mz_extension_kind extension_http = { "http_filter", "http", find };

static enum mz_flow missing_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    (void)end;
    mz_stream_local_reply(
        f->stream, &(struct mz_local_reply){
                       .status = 500, .details = "", .flags = MZ_FLAG(NO_FILTER_CONFIG_FOUND) });
    return MZ_FLOW_STOP;
}

static const struct mz_http_filter_type missing = { .name = "envoy.filters.http.missing_config",
                                                    .size = sizeof(struct mz_filter),
                                                    .on_request_headers = missing_headers };

/* Streams keep what they began with: the place may get another at any time. */
static void hold(struct mz_stream *s, const struct mz_extension *x)
{
    struct held_extension *e = mz_arena_new0(s->arena, struct held_extension);
    e->extension = mz_extension_ref(x);
    e->next = s->extensions;
    s->extensions = e;
}

void extensions_drop(struct mz_stream *s)
{
    for (struct held_extension *e = s->extensions; e; e = e->next)
        mz_extension_unref(e->extension);
    s->extensions = NULL;
}

const struct mz_http_filter_type *extension_take(struct mz_stream *s, const struct filter_entry *e,
                                                 const void **out_cfg, bool *io_missing)
{
    const struct mz_extension *x = mz_ecds_place_get(e->place);
    *out_cfg = NULL;
    if (x) {
        hold(s, x);
        *out_cfg = x->cfg;
        return x->type.type;
    }
    if (*io_missing) /* one answer is enough */
        return NULL;
    *io_missing = true;
    return &missing;
}
