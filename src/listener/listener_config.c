/* Listener message to object (L1). Borrows the message during the call only; what lasts is in the configuration's arena. */
#include "base/clock.h"
#include "listener/address.h"
#include "listener/listener_priv.h"
#include "observe/access_log.h"
#include "observe/metadata.h"
#include "proto/mapper.h"

#define BUFFER_LIMIT_DEFAULT (1024 * 1024)
#define ACCEPT_MAX_DEFAULT   64 /* then others get their turn */

/* ---- filter chains ---- */

static bool filter_build(const pb_Filter *m, bool last, struct mz_chain_filter *out,
                         const struct mz_factory *f, struct mz_arena *a, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    out->name = mz_arena_dup(a, mz_str_c(m->name));
    if (m->config_type_case == pb_Filter_CONFIG_TYPE_CONFIG_DISCOVERY) {
        out->place = mz_ecds_place_create(m->config_discovery, out->name, &mz_extension_network,
                                          last, f, err);
        return out->place || mz_err_at(err, "config_discovery");
    }
    if (m->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG || !m->typed_config)
        return mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: ''",
                          m->name);
    if (!mz_any_unpack(f->proto, m->typed_config, &type, &msg, err))
        return mz_err_at(err, "typed_config");
    out->type = f->net_filter(mz_str_c(type->name));
    if (!out->type) {
        mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: '%s'",
                   m->name, type->name);
        return mz_err_at(err, "typed_config");
    }
    out->cfg = out->type->config_build(msg, f, err);
    return out->cfg || mz_err_at(err, "typed_config");
}

static size_t object_size(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static bool terminal_ok(const struct mz_filter_chain *c, size_t i, struct mz_err *err)
{
    const struct mz_chain_filter *cf = &c->filters[i];
    bool last = i + 1 == c->n_filters;
    if (cf->place || cf->type->terminal == last)
        return true;
    return mz_err_set(err,
                      last ? "non-terminal filter named " MZ_STR_FMT
                             " of type %s is the last filter in a network filter chain."
                           : "terminal filter named " MZ_STR_FMT
                             " of type %s must be the last filter in a network filter chain.",
                      MZ_STR_ARG(cf->name), cf->type->name);
}

static bool chain_filters(const pb_FilterChain *m, struct mz_filter_chain *c,
                          const struct mz_factory *f, struct mz_arena *a, struct mz_err *err)
{
    c->filters = mz_arena_alloc0(a, mz_mul(m->n_filters ? m->n_filters : 1, sizeof(*c->filters)));
    for (size_t i = 0; i < m->n_filters; i++) {
        const struct mz_chain_filter *made = &c->filters[i];
        if (!filter_build(m->filters[i], i + 1 == m->n_filters, &c->filters[i], f, a, err))
            return mz_err_at(err, "filters[%zu]", i);
        c->n_filters = i + 1;
        c->has_places |= made->place != NULL;
        c->objects_bytes += made->place ? 0 : object_size(made->type->size);
    }
    for (size_t i = 0; i < c->n_filters; i++)
        if (!terminal_ok(c, i, err))
            return mz_err_at(err, "filters[%zu]", i);
    return true;
}

static bool chain_fill(const pb_FilterChain *m, struct mz_filter_chain *c,
                       const struct mz_factory *f, struct mz_arena *a, struct mz_err *err)
{
    uint64_t ms = 0;
    c->bytes = mz_msg_pack_alloc(&m->base, a);
    c->name = mz_arena_dup(a, mz_str_c(m->name));
    if (!mz_duration_ms(m->transport_socket_connect_timeout, 0, &ms, err))
        return mz_err_at(err, "transport_socket_connect_timeout");
    c->connect_timeout_ms = (uint32_t)(ms > UINT32_MAX ? UINT32_MAX : ms);
    c->transport = m->transport_socket ? f->transport(f, m->transport_socket, true, err)
                                       : mz_transport_factory_raw();
    if (!c->transport)
        return mz_err_at(err, "transport_socket");
    return chain_filters(m, c, f, a, err);
}

static void chain_unref(struct mz_filter_chain *c)
{
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; i < c->n_filters && !c->borrowed_cfg; i++) {
        if (c->filters[i].cfg && c->filters[i].type->config_destroy)
            c->filters[i].type->config_destroy(c->filters[i].cfg);
        mz_ecds_place_destroy(c->filters[i].place);
    }
    mz_transport_factory_unref(c->transport);
    if (c->arena) /* else it lies in its configuration's */
        mz_arena_destroy(c->arena);
}

/* The chain of @before with the same message, which stays in use. */
static struct mz_filter_chain *chain_kept(const struct mz_listener_config *before,
                                          const pb_FilterChain *m)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_str bytes = mz_msg_pack_alloc(&m->base, a);
    struct mz_filter_chain *found = NULL;
    for (size_t i = 0; i < before->n_chains && !found; i++)
        if (mz_str_eq(before->chains[i]->bytes, bytes))
            found = before->chains[i];
    mz_arena_destroy(a);
    if (found)
        __atomic_add_fetch(&found->refs, 1, __ATOMIC_RELAXED);
    return found;
}

static bool chain_build(const pb_FilterChain *m, const struct mz_listener_config *before,
                        const struct mz_factory *f, struct mz_filter_chain **out,
                        struct mz_err *err)
{
    *out = before ? chain_kept(before, m) : NULL;
    if (*out)
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_filter_chain *c = mz_arena_new0(a, struct mz_filter_chain);
    c->refs = 1;
    c->arena = a;
    *out = c;
    return chain_fill(m, c, f, a, err);
}

static bool chain_index(struct mz_listener_config *l, const pb_FilterChainMatch *m,
                        struct mz_filter_chain *c, struct mz_err *err)
{
    void *other = NULL;
    if (mz_chain_match_add(l->match, m, c, &other, err))
        return true;
    if (other)
        mz_err_set(err,
                   "filter chain '" MZ_STR_FMT
                   "' has the same matching rules defined as '" MZ_STR_FMT "'",
                   MZ_STR_ARG(c->name), MZ_STR_ARG(((struct mz_filter_chain *)other)->name));
    return mz_err_at(err, "filter_chain_match");
}

static bool chains_build(const pb_Listener *m, struct mz_listener_config *l,
                         const struct mz_listener_config *before, const struct mz_factory *f,
                         struct mz_err *err)
{
    size_t n = m->n_filter_chains + (m->default_filter_chain ? 1 : 0);
    if (n == 0)
        return mz_err_set(err, "no filter chains specified");
    l->chains = mz_arena_alloc0(l->arena, mz_mul(n, sizeof(*l->chains)));
    l->match = mz_chain_match_create(l->arena);
    for (size_t i = 0; i < m->n_filter_chains; i++) {
        l->n_chains = i + 1;
        if (!chain_build(m->filter_chains[i], before, f, &l->chains[i], err) ||
            (!m->filter_chain_matcher &&
             !chain_index(l, m->filter_chains[i]->filter_chain_match, l->chains[i], err)))
            return mz_err_at(err, "filter_chains[%zu]", i);
    }
    if (m->filter_chain_matcher &&
        !(l->tree =
              mz_chain_tree_create(m->filter_chain_matcher, l->chains, m->n_filter_chains, f, err)))
        return false;
    if (!m->default_filter_chain)
        return true;
    l->n_chains = n;
    bool ok = chain_build(m->default_filter_chain, before, f, &l->chains[n - 1], err);
    l->default_chain = l->chains[n - 1];
    return ok || mz_err_at(err, "default_filter_chain");
}

static struct mz_str sockets_of(const pb_Listener *m, struct mz_arena *a)
{
    pb_Listener s = pb_Listener__INIT;
    s.address = m->address;
    s.n_additional_addresses = m->n_additional_addresses;
    s.additional_addresses = m->additional_addresses;
    s.n_socket_options = m->n_socket_options;
    s.socket_options = m->socket_options;
    s.bind_to_port = m->bind_to_port;
    s.enable_reuse_port = m->enable_reuse_port;
    s.connection_balance_config = m->connection_balance_config;
    s.transparent = m->transparent;
    s.freebind = m->freebind;
    s.tcp_backlog_size = m->tcp_backlog_size;
    s.tcp_fast_open_queue_length = m->tcp_fast_open_queue_length;
    return mz_msg_pack_alloc(&s.base, a);
}

/* The message without what an update in place may change. */
static struct mz_str rest_of(const pb_Listener *m, struct mz_arena *a)
{
    pb_Listener rest = *m;
    rest.n_filter_chains = 0;
    rest.filter_chains = NULL;
    rest.filter_chain_matcher = NULL;
    rest.default_filter_chain = NULL;
    return mz_msg_pack_alloc(&rest.base, a);
}

/* ---- addresses ---- */

static bool address_build(const pb_Address *m, struct mz_listen_address *out, struct mz_err *err)
{
    if (!mz_address_build(m, &out->addr, err))
        return mz_err_at(err, "address");
    if (m->address_case == pb_Address_ADDRESS_PIPE)
        out->unix_mode = m->pipe->mode;
    else
        out->v4_compat = m->socket_address->ipv4_compat;
    return true;
}

/* Connections come to it from within the process (net/wire.h): its name is its address. */
static bool internal_build(const pb_Listener *m, struct mz_listener_config *l, struct mz_err *err)
{
    if (m->address || m->n_additional_addresses)
        return mz_err_set(err,
                          "error adding listener '%s': address should not be used when an internal "
                          "listener config is provided",
                          m->name);
    if ((m->connection_balance_config && m->connection_balance_config->exact_balance) ||
        m->enable_reuse_port || mz_bool_or(m->freebind, false) || m->tcp_backlog_size ||
        m->tcp_fast_open_queue_length || mz_bool_or(m->transparent, false))
        return mz_err_set(
            err, "error adding listener named '%s': has unsupported tcp listener feature", m->name);
    if (m->n_socket_options)
        return mz_err_set(err, "error adding listener named '%s': does not support socket option",
                          m->name);
    if (!l->wire_bytes)
        return mz_err_set(err,
                          "error adding listener named '%s': internal listener registry is not "
                          "initialized.",
                          m->name);
    l->n_addrs = 1;
    l->addrs = mz_arena_alloc0(l->arena, sizeof(*l->addrs));
    return mz_addr_internal(mz_str_c(m->name), MZ_STR(""), &l->addrs[0].addr, err) ||
           mz_err_at(err, "name");
}

static bool addresses_build(const pb_Listener *m, struct mz_listener_config *l, struct mz_err *err)
{
    if (m->listener_specifier_case == pb_Listener_LISTENER_SPECIFIER_INTERNAL_LISTENER)
        return internal_build(m, l, err);
    if (!m->address)
        return mz_err_set(err, "error adding listener named '%s': address is necessary", m->name);
    l->n_addrs = 1 + m->n_additional_addresses;
    l->addrs = mz_arena_alloc0(l->arena, mz_mul(l->n_addrs, sizeof(*l->addrs)));
    if (!address_build(m->address, &l->addrs[0], err))
        return false;
    mz_socket_opts_build(m->socket_options, m->n_socket_options, l->arena, &l->addrs[0].opts);
    for (size_t i = 0; i < m->n_additional_addresses; i++) {
        const pb_AdditionalAddress *x = m->additional_addresses[i];
        struct mz_listen_address *to = &l->addrs[i + 1];
        if (!x->address)
            mz_err_set(err, "address is necessary");
        if (!x->address || !address_build(x->address, to, err))
            return mz_err_at(err, "additional_addresses[%zu]", i);
        if (x->socket_options) /* they replace the listener's */
            mz_socket_opts_build(x->socket_options->socket_options,
                                 x->socket_options->n_socket_options, l->arena, &to->opts);
        else
            to->opts = l->addrs[0].opts;
    }
    return true;
}

/* ---- the rest ---- */

#define FILTERS_TIMEOUT_MS 15000

static bool listener_filter_build(const pb_ListenerFilter *m, struct mz_listener_filter *lf,
                                  const struct mz_factory *f, struct mz_arena *a,
                                  struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (m->filter_disabled && !(lf->disabled = mz_port_rule_build(m->filter_disabled, a, err)))
        return mz_err_at(err, "filter_disabled");
    if (m->config_type_case == pb_ListenerFilter_CONFIG_TYPE_CONFIG_DISCOVERY) {
        lf->place = mz_ecds_place_create(m->config_discovery, mz_str_c(m->name),
                                         &mz_extension_listener, false, f, err);
        return lf->place || mz_err_at(err, "config_discovery");
    }
    if (m->typed_config && !mz_any_unpack(f->proto, m->typed_config, &type, &msg, err))
        return mz_err_at(err, "typed_config");
    lf->type =
        m->typed_config && f->listener_filter ? f->listener_filter(mz_str_c(type->name)) : NULL;
    if (!lf->type)
        return mz_err_set(err, "Didn't find a registered implementation for '%s'", m->name);
    lf->cfg = lf->type->config_build(msg, f, err);
    return lf->cfg || mz_err_at(err, "typed_config");
}

/* use_original_dst (L3) asks original_dst after all other filters, as Envoy does. */
static bool original_dst_build(struct mz_listener_config *l, const struct mz_factory *f,
                               struct mz_err *err)
{
    static const struct mz_str type =
        MZ_STR_INIT("envoy.extensions.filters.listener.original_dst.v3.OriginalDst");
    struct mz_listener_filter *lf = &l->lfilters[l->n_lfilters];
    lf->type = f->listener_filter ? f->listener_filter(type) : NULL;
    if (!lf->type)
        return mz_err_set(err, "Didn't find a registered implementation for '" MZ_STR_FMT "'",
                          MZ_STR_ARG(type)) ||
               mz_err_at(err, "use_original_dst");
    lf->cfg = lf->type->config_build(NULL, f, err);
    l->n_lfilters++;
    return lf->cfg || mz_err_at(err, "use_original_dst");
}

static bool listener_filters_build(const pb_Listener *m, struct mz_listener_config *l,
                                   const struct mz_factory *f, struct mz_err *err)
{
    l->lfilters =
        mz_arena_alloc0(l->arena, mz_mul(m->n_listener_filters + 1, sizeof(*l->lfilters)));
    for (size_t i = 0; i < m->n_listener_filters; i++) {
        l->n_lfilters = i + 1;
        if (!listener_filter_build(m->listener_filters[i], &l->lfilters[i], f, l->arena, err))
            return mz_err_at(err, "listener_filters[%zu]", i);
    }
    l->go_on_at_timeout = m->continue_on_listener_filters_timeout;
    l->use_original_dst = mz_bool_or(m->use_original_dst, false);
    if (l->use_original_dst && !original_dst_build(l, f, err))
        return false;
    return mz_duration_ms(m->listener_filters_timeout, FILTERS_TIMEOUT_MS, &l->lfilters_timeout_ms,
                          err) ||
           mz_err_at(err, "listener_filters_timeout");
}

static bool logs_build(const pb_Listener *m, struct mz_listener_config *l,
                       const struct mz_factory *f, struct mz_err *err)
{
    l->logs = mz_arena_alloc0(
        l->arena, mz_mul(m->n_access_log ? m->n_access_log : 1, sizeof(struct mz_access_log *)));
    for (size_t i = 0; i < m->n_access_log; i++) {
        l->logs[i] = mz_access_log_create(m->access_log[i], f->log_files, err);
        if (!l->logs[i])
            return mz_err_at(err, "access_log[%zu]", i);
        l->n_logs = i + 1;
    }
    return true;
}

/* "127.0.0.1_80": what would read as a tag's end is replaced. */
static struct mz_str stat_name(const pb_Listener *m, struct mz_listener_config *l)
{
    char text[MZ_ADDR_TEXT];
    if (m->stat_prefix && m->stat_prefix[0])
        return mz_arena_dup(l->arena, mz_str_c(m->stat_prefix));
    if (l->wire_bytes)
        return mz_arena_printf(l->arena, "envoy_internal_%s", m->name);
    size_t n = mz_addr_text(&l->addrs[0].addr, text);
    for (size_t i = 0; i < n; i++)
        if (text[i] == ':')
            text[i] = '_';
    return mz_arena_dup(l->arena, (struct mz_str){ text, n });
}

static void scopes_build(const pb_Listener *m, struct mz_listener_config *l,
                         const struct mz_factory *f)
{
    struct mz_str name = stat_name(m, l);
    struct mz_str prefix = mz_arena_printf(l->arena, "listener." MZ_STR_FMT ".", MZ_STR_ARG(name));
    l->scope = mz_scope_create(f->stats, &mz_listener_stats, prefix);
    l->worker_scopes = mz_arena_alloc0(
        l->arena, mz_mul(l->n_workers ? l->n_workers : 1, sizeof(struct mz_scope *)));
    for (unsigned i = 0; i < l->n_workers; i++) {
        struct mz_str p = mz_arena_printf(l->arena, MZ_STR_FMT "worker_%u.", MZ_STR_ARG(prefix), i);
        l->worker_scopes[i] = mz_scope_create(f->stats, &mz_listener_worker_stats, p);
    }
}

static void scalars_build(const pb_Listener *m, struct mz_listener_config *l,
                          const struct mz_factory *f)
{
    char text[MZ_ADDR_TEXT];
    l->name = mz_arena_dup(l->arena, mz_str_c(m->name));
    if (l->name.n == 0) { /* Envoy makes a random name; the address tells more */
        mz_addr_text(&l->addrs[0].addr, text);
        l->name = mz_arena_dup(l->arena, mz_str_c(text));
    }
    l->limit_key =
        mz_arena_printf(l->arena, "envoy.resource_limits.listener." MZ_STR_FMT ".connection_limit",
                        MZ_STR_ARG(l->name));
    l->buffer_limit = mz_u32_or(m->per_connection_buffer_limit_bytes, BUFFER_LIMIT_DEFAULT);
    l->max_accept = mz_u32_or(m->max_connections_to_accept_per_socket_event, ACCEPT_MAX_DEFAULT);
    l->backlog = (int)mz_u32_or(m->tcp_backlog_size, 0);
    l->fast_open = mz_u32_or(m->tcp_fast_open_queue_length, 0);
    l->traffic_direction = (uint8_t)m->traffic_direction;
    if (!mz_addr_is_internal(&l->addrs[0].addr))
        l->wire_bytes = 0;
    l->bind_to_port = !l->wire_bytes && mz_bool_or(m->bind_to_port, true);
    l->reuse_port = mz_bool_or(m->enable_reuse_port, true);
    l->exact_balance = m->connection_balance_config && m->connection_balance_config->exact_balance;
    l->transparent = mz_bool_or(m->transparent, false);
    l->freebind = mz_bool_or(m->freebind, false);
    l->ignore_global_limit = m->ignore_global_conn_limit;
    l->modify_only_drain = m->drain_type == pb_Listener_DrainType_MODIFY_ONLY;
    l->metadata = mz_meta_build(m->metadata, l->arena);
    l->via_api = f->via_api;
    l->updated_wall_us = mz_clock->wall_us();
}

struct mz_listener_config *mz_listener_config_create(const pb_Listener *m, struct mz_str bytes,
                                                     const struct mz_factory *f, unsigned n_workers,
                                                     const struct mz_listener_config *before,
                                                     struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_listener_config *l = mz_arena_new0(a, struct mz_listener_config);
    l->arena = a;
    l->refs = 1;
    l->n_workers = n_workers;
    l->bytes = mz_arena_dup(a, bytes);
    l->rest = rest_of(m, a);
    l->sockets = sockets_of(m, a);
    if (before && !mz_str_eq(before->rest, l->rest))
        before = NULL;
    l->wire_bytes = f->internal_bytes;
    if (!addresses_build(m, l, err))
        goto fail;
    scalars_build(m, l, f);
    scopes_build(m, l, f);
    struct mz_factory mine = *f;
    mine.listener_scope = l->scope;
    mine.listener_name = l->name;
    mine.traffic_direction = l->traffic_direction;
    if (listener_filters_build(m, l, &mine, err) && logs_build(m, l, f, err) &&
        chains_build(m, l, before, &mine, err))
        return l;
fail:
    mz_listener_config_unref(l);
    return NULL;
}

struct mz_listener_config *mz_listener_config_ref(struct mz_listener_config *c)
{
    __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void mz_listener_config_unref(struct mz_listener_config *c)
{
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
        return;
    mz_chain_tree_destroy(c->tree);
    for (size_t i = 0; i < c->n_chains; i++)
        chain_unref(c->chains[i]);
    for (size_t i = 0; i < c->n_lfilters; i++) {
        if (c->lfilters[i].cfg && c->lfilters[i].type->config_destroy)
            c->lfilters[i].type->config_destroy(c->lfilters[i].cfg);
        mz_ecds_place_destroy(c->lfilters[i].place);
    }
    for (size_t i = 0; i < c->n_logs; i++)
        mz_access_log_destroy(c->logs[i]);
    for (unsigned i = 0; c->worker_scopes && i < c->n_workers; i++)
        mz_scope_unref(c->worker_scopes[i]);
    if (c->scope)
        mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

struct mz_filter_chain *mz_listener_config_chain(const struct mz_listener_config *c,
                                                 const struct mz_incoming *in)
{
    const struct mz_chain_query q = { .local = &in->local,
                                      .remote = &in->remote,
                                      .direct_remote = &in->direct_remote,
                                      .server_name = in->server_name,
                                      .transport = in->transport,
                                      .protocols = in->protocols,
                                      .n_protocols = in->n_protocols };
    struct mz_filter_chain *found = NULL;
    if (c->tree && mz_chain_tree_find(c->tree, in, &found))
        return found;
    if (c->match && !c->tree)
        found = mz_chain_match_find(c->match, &q);
    return found ? found : c->default_chain;
}
