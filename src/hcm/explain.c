#include "hcm/hcm_priv.h"

/* POST /mizzen/explain: the manager's host, path and route work on given headers, nothing is sent. The same functions and
 * the same notes as for a real request, so the story cannot differ. Filters that can be asked are. */

static bool clean_path(const struct mz_hcm_config *c, struct mz_headers *h, struct mz_decision *d)
{
    struct mz_str path = mz_headers_path(h), out;
    if (!path.n || path.p[0] != '/') {
        mz_note(d, d->start_us, LOCAL_REPLY, MZ_STR(""), MZ_STR("absolute_path_rejected"), 404, 0);
        return false;
    }
    enum mz_path_verdict v = mz_path_clean(h->arena, path, &c->path_rules, &out);
    mz_headers_set_id(h, MZ_H_PATH, out);
    if (v != MZ_PATH_OK)
        mz_note(d, d->start_us, LOCAL_REPLY, MZ_STR(""), MZ_STR("path_normalization_failed"),
                v == MZ_PATH_REDIRECT ? 307 : 400, 0);
    return v == MZ_PATH_OK;
}

const struct mz_route *mz_hcm_explain(const struct mz_hcm_config *c, struct mz_headers *h,
                                      struct mz_stream_info *i)
{
    struct mz_transport *t = i->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    struct mz_route_query q = { .h = h,
                                .secure = i->secure,
                                .cert_presented = f && f->peer_presented,
                                .cert_validated = f && f->peer_validated,
                                .info = i,
                                .arena = i->arena,
                                .decision = i->decision,
                                .now_us = i->decision->start_us };
    const struct mz_route_table *routes =
        c->srds ? mz_srds_table(c->srds, h, i->arena) : hcm_routes(c);
    if (!routes || !clean_path(c, h, i->decision))
        return NULL;
    if (mz_headers_get_id(h, MZ_H_AUTHORITY))
        mutate_host(c, h, &i->local, mz_str_eq(mz_headers_method(h), MZ_STR("CONNECT")));
    return mz_route_table_match(routes, &q);
}

struct mz_str mz_hcm_routes_name(const struct mz_hcm_config *c)
{
    const struct mz_route_table *t = hcm_routes(c);
    return t ? mz_route_table_name(t) : MZ_STR("");
}

void mz_hcm_explain_filters(const struct mz_hcm_config *c, struct mz_imagined *q,
                            void (*asked)(void *arg, struct mz_str name, const char *type,
                                          bool known),
                            void *arg)
{
    for (size_t i = 0; i < c->filters.n && !q->status; i++) {
        const struct filter_entry *e = &c->filters.v[i];
        const struct mz_filter_override *o = chain_override(q->route, NULL, e->name);
        const struct mz_extension *x = e->place ? mz_ecds_place_get(e->place) : NULL;
        const struct mz_http_filter_type *type = e->place ? x ? x->type.type : NULL : e->type;
        if (!chain_enables(e, o) || (type && type->terminal))
            continue;
        asked(arg, e->name, type ? type->name : "", type && type->imagine);
        if (!type || !type->imagine)
            continue;
        q->name = e->name;
        q->cfg = x ? x->cfg : e->cfg;
        q->route_cfg = o && o->type == type ? o->cfg : NULL;
        type->imagine(q);
    }
}
