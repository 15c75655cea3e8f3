/* Which server tells of a name: authorities of the bootstrap (config_sources, default_config_source), and who the node is. */
#include "xds/mux.h"
#include "xds/xds_priv.h"

static bool is_named(const pb_ConfigSource *m, struct mz_str authority)
{
    for (size_t i = 0; i < m->n_authorities; i++)
        if (mz_str_eq(mz_str_c(m->authorities[i]->name), authority))
            return true;
    return false;
}

static bool names_check(const pb_ConfigSource *m, bool is_default, struct mz_err *err)
{
    if (!is_default && !m->n_authorities)
        return mz_err_set(err, "at least one is required") || mz_err_at(err, "authorities");
    for (size_t i = 1; i < m->n_authorities; i++) {
        const char *name = m->authorities[i]->name;
        for (size_t j = 0; j < i; j++)
            if (strcmp(m->authorities[j]->name, name) == 0)
                return mz_err_set(err, "authority %s is configured more than once", name) ||
                       mz_err_at(err, "authorities[%zu]", i);
    }
    return true;
}

bool mz_xds_add_authorities(struct mz_xds *x, const pb_ConfigSource *m, bool is_default,
                            struct mz_err *err)
{
    const pb_ApiConfigSource *api = m->api_config_source;
    uint64_t first_ms;
    if (m->config_source_specifier_case !=
        pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE)
        return mz_err_set(err, "api_config_source is the one kind of source that has authorities");
    if (api->api_type != pb_ApiConfigSource_ApiType_AGGREGATED_GRPC &&
        api->api_type != pb_ApiConfigSource_ApiType_AGGREGATED_DELTA_GRPC)
        return mz_err_set(err, "AGGREGATED_GRPC and AGGREGATED_DELTA_GRPC are supported") ||
               mz_err_at(err, "api_config_source.api_type");
    if (!names_check(m, is_default, err) || !source_first_ms(m, &first_ms, err))
        return false;
    struct mz_xds_mux *mux = ads_mux_make(x, api, err);
    if (!mux)
        return mz_err_at(err, "api_config_source");
    struct xds_authority *au = mz_arena_new0(x->arena, struct xds_authority);
    au->mux = mux;
    au->first_ms = first_ms;
    au->any = is_default;
    au->n_names = m->n_authorities;
    au->names = mz_arena_alloc0(x->arena, mz_mul(m->n_authorities + 1, sizeof(*au->names)));
    for (size_t i = 0; i < m->n_authorities; i++)
        au->names[i] = mz_arena_dup(x->arena, mz_str_c(m->authorities[i]->name));
    au->next = x->authorities;
    x->authorities = au;
    return true;
}

static bool answers_for(const struct xds_authority *au, struct mz_str authority)
{
    for (size_t i = 0; i < au->n_names; i++)
        if (mz_str_eq(au->names[i], authority))
            return true;
    return false;
}

/* The first that names it; the default where none does. The list is in reverse. */
static const struct xds_authority *find(const struct mz_xds *x, struct mz_str authority)
{
    const struct xds_authority *named = NULL, *fallback = NULL;
    for (const struct xds_authority *au = x->authorities; au; au = au->next) {
        if (au->any)
            fallback = au;
        else if (answers_for(au, authority))
            named = au;
    }
    return named ? named : fallback;
}

bool authority_of(struct mz_xds *x, const pb_ConfigSource *m, struct mz_str name,
                  const struct xds_authority **out, struct mz_err *err)
{
    struct mz_xds_name n;
    *out = NULL;
    if (!mz_xds_name_is(name))
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    bool ok = mz_xds_name_parse(a, name, &n, err);
    if (ok && m && is_named(m, n.authority))
        ok = mz_err_set(err, "sources with authorities stand in the bootstrap (config_sources)") ||
             mz_err_at(err, "authorities");
    if (ok)
        *out = find(x, n.authority);
    if (ok && !*out && !m)
        ok = mz_err_set(err, "no authority is configured for " MZ_STR_FMT, MZ_STR_ARG(name));
    mz_arena_destroy(a);
    return ok;
}

bool mz_xds_has_authorities(const struct mz_xds *x)
{
    return x->authorities != NULL;
}

void authorities_go(struct mz_xds *x)
{
    for (struct xds_authority *au = x->authorities; au; au = au->next)
        mz_xds_mux_start(au->mux);
}

void authorities_destroy(struct mz_xds *x)
{
    for (struct xds_authority *au = x->authorities; au; au = au->next)
        mz_xds_mux_destroy(au->mux);
}

void mz_xds_set_context(struct mz_xds *x, const struct mz_xds_params *p)
{
    x->context.n = p->n;
    x->context.v = mz_arena_alloc0(x->arena, mz_mul(p->n + 1, sizeof(*x->context.v)));
    for (size_t i = 0; i < p->n; i++)
        x->context.v[i] = (struct mz_xds_param){ mz_arena_dup(x->arena, p->v[i].key),
                                                 mz_arena_dup(x->arena, p->v[i].value) };
}
