/* EnvoyFilters: listeners, their filters, chains, the filters of those, and those of connection managers. */
#include "control/translate/patch.h"

#define MANAGER "envoy.filters.network.http_connection_manager"

static const ist_EnvoyFilter_ListenerMatch *match_of(const struct tr_patch *p)
{
    return p->match && p->match->object_types_case ==
                           ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER
               ? p->match->listener
               : NULL;
}

static bool is_same(const char *wanted, const char *is)
{
    return !wanted[0] || strcmp(wanted, is) == 0;
}

static bool catches_everything(const pb_Listener *l)
{
    return strcmp(l->name, "virtualInbound") == 0 || strcmp(l->name, "virtualOutbound") == 0;
}

/* What everything comes through has its ports in the matches of its chains. */
static bool listener_fits(const pb_Listener *l, const struct tr_patch *p)
{
    const ist_EnvoyFilter_ListenerMatch *m = match_of(p);
    if (!m)
        return true;
    if (!is_same(m->name, l->name))
        return false;
    if (p->to != ist_EnvoyFilter_ApplyTo_LISTENER && catches_everything(l))
        return true;
    const pb_SocketAddress *s =
        l->address && l->address->address_case == pb_Address_ADDRESS_SOCKET_ADDRESS
            ? l->address->socket_address
            : NULL;
    return !m->port_number ||
           (s && s->port_specifier_case == pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE &&
            s->port_value == m->port_number);
}

static bool has_text(char *const *v, size_t n, struct mz_str text)
{
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(mz_str_c(v[i]), text))
            return true;
    return false;
}

static bool has_protocols(const pb_FilterChainMatch *m, const char *wanted)
{
    struct mz_str rest = mz_str_c(wanted);
    for (struct mz_str one; mz_str_split(&rest, ',', &one);)
        if (!has_text(m->application_protocols, m->n_application_protocols, one))
            return false;
    return true;
}

static bool chain_fits(const pb_Listener *l, const pb_FilterChain *c, const struct tr_patch *p)
{
    static const pb_FilterChainMatch any = pb_FilterChainMatch__INIT;
    const ist_EnvoyFilter_ListenerMatch *m = match_of(p);
    const pb_FilterChainMatch *is = c->filter_chain_match ? c->filter_chain_match : &any;
    if (!m)
        return true;
    if (catches_everything(l) && m->port_number &&
        mz_u32_or(is->destination_port, 0) != m->port_number)
        return false;
    const ist_EnvoyFilter_ListenerMatch_FilterChainMatch *f = m->filter_chain;
    return !f ||
           (is_same(f->name, c->name) &&
            (!f->sni[0] || has_text(is->server_names, is->n_server_names, mz_str_c(f->sni))) &&
            is_same(f->transport_protocol, is->transport_protocol) &&
            has_protocols(is, f->application_protocols) &&
            (!f->destination_port || mz_u32_or(is->destination_port, 0) == f->destination_port));
}

/* ---- which filter ---- */

static bool names_listener_filter(const struct tr_patch *p)
{
    const ist_EnvoyFilter_ListenerMatch *m = match_of(p);
    return m && m->listener_filter[0];
}

static bool listener_filter_fits(const void *item, const struct tr_patch *p)
{
    return !names_listener_filter(p) ||
           strcmp(match_of(p)->listener_filter, ((const pb_ListenerFilter *)item)->name) == 0;
}

static const ist_EnvoyFilter_ListenerMatch_FilterMatch *filter_match(const struct tr_patch *p)
{
    const ist_EnvoyFilter_ListenerMatch *m = match_of(p);
    return m && m->filter_chain ? m->filter_chain->filter : NULL;
}

static bool filter_fits(const void *item, const struct tr_patch *p)
{
    const ist_EnvoyFilter_ListenerMatch_FilterMatch *m = filter_match(p);
    return !m || strcmp(m->name, ((const pb_Filter *)item)->name) == 0;
}

static bool names_http_filter(const struct tr_patch *p)
{
    return filter_match(p) && filter_match(p)->sub_filter;
}

static bool http_filter_fits(const void *item, const struct tr_patch *p)
{
    return !names_http_filter(p) ||
           strcmp(filter_match(p)->sub_filter->name, ((const pb_HttpFilter *)item)->name) == 0;
}

/* ---- connection managers ---- */

static void merge_http_filter(const struct patcher *x, const struct tr_patch *p, pb_HttpFilter *f)
{
    const pb_HttpFilter *from = patch_fresh(x, p);
    if (!from || f->config_type_case != pb_HttpFilter_CONFIG_TYPE_TYPED_CONFIG)
        return;
    if (from->config_type_case == pb_HttpFilter_CONFIG_TYPE_TYPED_CONFIG)
        patch_merge_any(x, p, f->typed_config, from->typed_config);
    if (from->name[0])
        f->name = from->name;
}

static void patch_http_filters(const struct patcher *x, const pb_Listener *l,
                               const pb_FilterChain *c, const pb_Filter *f,
                               pb_HttpConnectionManager *m)
{
    const struct tr_patch *p;
    const ist_EnvoyFilter_ApplyTo to = ist_EnvoyFilter_ApplyTo_HTTP_FILTER;
    for (size_t i = 0; (p = patch_next(x, to, &i));)
        if (listener_fits(l, p) && chain_fits(l, c, p) && filter_fits(f, p))
            patch_list(x, p, PATCH_LIST(m, http_filters), names_http_filter(p), http_filter_fits);
    for (size_t k = 0; k < m->n_http_filters; k++)
        for (size_t i = 0; (p = patch_next(x, to, &i));)
            if (p->op == ist_EnvoyFilter_Patch_Operation_MERGE && listener_fits(l, p) &&
                chain_fits(l, c, p) && filter_fits(f, p) && http_filter_fits(m->http_filters[k], p))
                merge_http_filter(x, p, m->http_filters[k]);
}

static void patch_manager(const struct patcher *x, const pb_Listener *l, const pb_FilterChain *c,
                          pb_Filter *f)
{
    struct mz_proto_ctx ctx = { .arena = x->a,
                                .unknown = MZ_UNKNOWN_COUNT,
                                .partial = true,
                                .unchecked = true,
                                .control = true };
    const ProtobufCMessageDescriptor *d = &pb_HttpConnectionManager__descriptor;
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    if (f->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG ||
        !mz_str_eq(mz_any_type(f->typed_config), mz_str_c(d->name)) ||
        !mz_msg_unpack(&ctx,
                       (struct mz_str){ (const char *)f->typed_config->value.data,
                                        f->typed_config->value.len },
                       d, &m, &err))
        return;
    pb_HttpConnectionManager *h = (pb_HttpConnectionManager *)m;
    if (h->route_specifier_case == pb_HttpConnectionManager_ROUTE_SPECIFIER_ROUTE_CONFIG &&
        l->traffic_direction ==
            pb_TrafficDirection_INBOUND) /* others are patched by name, or not at all */
        patch_routes(x, h->route_config);
    patch_http_filters(x, l, c, f, h);
    f->typed_config = tr_any(x->a, h);
}

/* ---- chains ---- */

static void merge_filter(const struct patcher *x, const struct tr_patch *p, pb_Filter *f)
{
    const pb_Filter *from = patch_fresh(x, p);
    if (!from || f->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG)
        return;
    if (from->config_type_case == pb_Filter_CONFIG_TYPE_TYPED_CONFIG)
        patch_merge_any(x, p, f->typed_config, from->typed_config);
    if (from->name[0])
        f->name = from->name;
}

static void patch_filters(const struct patcher *x, const pb_Listener *l, pb_FilterChain *c)
{
    const struct tr_patch *p;
    const ist_EnvoyFilter_ApplyTo to = ist_EnvoyFilter_ApplyTo_NETWORK_FILTER;
    for (size_t i = 0; (p = patch_next(x, to, &i));)
        if (listener_fits(l, p) && chain_fits(l, c, p))
            patch_list(x, p, PATCH_LIST(c, filters), filter_match(p) != NULL, filter_fits);
    for (size_t k = 0; k < c->n_filters; k++) {
        for (size_t i = 0; (p = patch_next(x, to, &i));)
            if (p->op == ist_EnvoyFilter_Patch_Operation_MERGE && listener_fits(l, p) &&
                chain_fits(l, c, p) && filter_fits(c->filters[k], p))
                merge_filter(x, p, c->filters[k]);
        if (strcmp(c->filters[k]->name, MANAGER) == 0)
            patch_manager(x, l, c, c->filters[k]);
    }
}

/* Where both have a transport socket of one name, that alone is merged. */
static void merge_chain(const struct patcher *x, const struct tr_patch *p, pb_FilterChain *c)
{
    const pb_FilterChain *from = patch_fresh(x, p);
    pb_TransportSocket *s = c->transport_socket, *t = from ? from->transport_socket : NULL;
    if (s && t && strcmp(s->name, t->name) == 0) {
        if (s->config_type_case == pb_TransportSocket_CONFIG_TYPE_TYPED_CONFIG &&
            t->config_type_case == s->config_type_case)
            patch_merge_any(x, p, s->typed_config, t->typed_config);
        return;
    }
    patch_merge(x, p, c, from);
}

/* False: it goes. */
static bool patch_chain(const struct patcher *x, const pb_Listener *l, pb_FilterChain *c)
{
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_FILTER_CHAIN, &i));) {
        if (!listener_fits(l, p) || !chain_fits(l, c, p))
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_REMOVE)
            return false;
        if (patch_merges(p))
            merge_chain(x, p, c);
    }
    patch_filters(x, l, c);
    return c->n_filters != 0;
}

static void patch_chains(const struct patcher *x, pb_Listener *l)
{
    const struct tr_patch *p;
    pb_FilterChain *more;
    size_t kept = 0;
    for (size_t k = 0; k < l->n_filter_chains; k++)
        if (patch_chain(x, l, l->filter_chains[k]))
            l->filter_chains[kept++] = l->filter_chains[k];
    l->n_filter_chains = kept;
    if (l->default_filter_chain && !patch_chain(x, l, l->default_filter_chain))
        l->default_filter_chain = NULL;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_FILTER_CHAIN, &i));)
        if (p->op == ist_EnvoyFilter_Patch_Operation_ADD && listener_fits(l, p) &&
            (more = patch_fresh(x, p)))
            patch_insert(x, PATCH_LIST(l, filter_chains), l->n_filter_chains, more);
}

/* ---- listeners ---- */

static void merge_listener_filter(const struct patcher *x, const struct tr_patch *p,
                                  pb_ListenerFilter *f)
{
    const pb_ListenerFilter *from = patch_fresh(x, p);
    if (from && f->config_type_case == pb_ListenerFilter_CONFIG_TYPE_TYPED_CONFIG &&
        from->config_type_case == f->config_type_case)
        patch_merge_any(x, p, f->typed_config, from->typed_config);
}

static void patch_listener_filters(const struct patcher *x, pb_Listener *l)
{
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_LISTENER_FILTER, &i));) {
        if (!listener_fits(l, p))
            continue;
        patch_list(x, p, PATCH_LIST(l, listener_filters), names_listener_filter(p),
                   listener_filter_fits);
        for (size_t k = 0; p->op == ist_EnvoyFilter_Patch_Operation_MERGE &&
                           names_listener_filter(p) && k < l->n_listener_filters;
             k++)
            if (listener_filter_fits(l->listener_filters[k], p))
                merge_listener_filter(x, p, l->listener_filters[k]);
    }
}

bool patch_listener(const struct patcher *x, pb_Listener *l)
{
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_LISTENER, &i));) {
        if (!listener_fits(l, p))
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_REMOVE)
            return false;
        if (patch_merges(p))
            patch_merge(x, p, l, patch_fresh(x, p));
    }
    patch_listener_filters(x, l);
    patch_chains(x, l);
    return true;
}
