#ifndef MZ_CONTROL_DISCOVERY_ORDER_DOUBLE_H
#define MZ_CONTROL_DISCOVERY_ORDER_DOUBLE_H
/*
 * For tests of what holds whatever comes in whatever order: clients of both variants that keep what they are sent, a mesh that is told
 * of documents bit by bit, and a start from nothing with the documents of the end, whose answers must be the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "control/discovery/peer_double.h"
#include "control/model/secret_double.h"
#include "control/model/service_ips.h"

#define ORDER_RANGE "10.96.0.0/16" /* of order.ips */
enum { ORDER_CLIENTS = 8, ORDER_NAMES = 24 };
struct order_who {
    const char *node; /* YAML */
    const char *const *clusters, *const *routes, *const *secrets; /* that it asks for, NULL behind the last; NULL none */
    const char *account; /* of namespace demo, as it has shown; NULL it did not */
};
struct order_client {
    bool delta;
    struct order_who who;
    struct mz_peer *peer;
    struct mz_map has[MZ_XDS_TYPE__COUNT]; /* name to struct mz_out, as the client made it of what came */
    bool pending[MZ_XDS_TYPE__COUNT];
    char nonce[MZ_XDS_TYPE__COUNT][32];
};
static struct {
    struct mz_store *store;
    struct mz_service_ips *ips; /* NULL: services without an address get none */
    struct mz_model *model;
    struct mz_translator *translator;
    struct mz_bundles *bundles;
    struct order_client clients[ORDER_CLIENTS];
    size_t n;
    struct secret_double pems;
    unsigned secrets; /* that were to be had, over all rounds */
    uint64_t seed;
} order;
static const enum mz_xds_type order_types[] = { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT, MZ_XDS_LISTENER,
                                                MZ_XDS_ROUTE,   MZ_XDS_SECRET,   MZ_XDS_NAME_TABLE };

static unsigned random_below(unsigned n)
{
    order.seed = order.seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(order.seed >> 33) % n;
}

/* ---- clients ---- */

static size_t asked(const struct order_client *c, enum mz_xds_type type, char *out[ORDER_NAMES])
{
    const char *const *v = type == MZ_XDS_ENDPOINT ? c->who.clusters
                           : type == MZ_XDS_ROUTE  ? c->who.routes
                           : type == MZ_XDS_SECRET ? c->who.secrets
                                                   : NULL;
    size_t n = 0;
    for (; v && v[n] && n < ORDER_NAMES; n++)
        out[n] = (char *)(uintptr_t)v[n];
    return n;
}

static void drop(struct mz_map *m, struct mz_str name)
{
    mz_out_unref(mz_map_del(m, name));
}

static void keep(struct mz_map *m, struct mz_str name, const pb_Any *any)
{
    const struct mz_str bytes = { (const char *)any->value.data, any->value.len };
    pb_Any whole = pb_Any__INIT; /* any message will do to hold the bytes */
    whole.value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    struct mz_out *o = mz_out_create(name, &whole.base);
    drop(m, name);
    (void)mz_map_put(m, o->name, o);
}

static struct mz_str name_in(enum mz_xds_type type, const pb_Any *any, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .unchecked = true, .partial = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m;
    if (type == MZ_XDS_NAME_TABLE)
        return MZ_STR("");
    assert_true(mz_msg_unpack(&ctx,
                              (struct mz_str){ (const char *)any->value.data, any->value.len },
                              mz_translate_descriptor(type), &m, &err));
    return mz_str_c(type == MZ_XDS_CLUSTER    ? ((pb_Cluster *)m)->name
                    : type == MZ_XDS_ENDPOINT ? ((pb_ClusterLoadAssignment *)m)->cluster_name
                    : type == MZ_XDS_LISTENER ? ((pb_Listener *)m)->name
                    : type == MZ_XDS_SECRET   ? ((pb_Secret *)m)->name
                                              : ((pb_RouteConfiguration *)m)->name);
}

static void clear(struct mz_map *m)
{
    mz_map_foreach (it, m)
        mz_out_unref(it->value);
    mz_map_fini(m);
    mz_map_init(m, MZ_MEM_XDS);
}

static bool is_named(enum mz_xds_type type)
{
    return type == MZ_XDS_ENDPOINT || type == MZ_XDS_ROUTE || type == MZ_XDS_SECRET;
}

static bool wants(const struct order_client *c, enum mz_xds_type type)
{
    return type != MZ_XDS_SECRET || c->who.secrets;
}

static bool on_send(void *arg, struct mz_buf *response)
{
    struct order_client *c = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .unchecked = true };
    struct mz_err err;
    ProtobufCMessage *m;
    assert_true(mz_msg_unpack(&ctx, mz_buf_linearize(response, mz_buf_len(response)),
                              c->delta ? &pb_DeltaDiscoveryResponse__descriptor
                                       : &pb_DiscoveryResponse__descriptor,
                              &m, &err));
    const pb_DiscoveryResponse *s = (const pb_DiscoveryResponse *)m;
    const pb_DeltaDiscoveryResponse *d = (const pb_DeltaDiscoveryResponse *)m;
    const enum mz_xds_type type = mz_translate_type(mz_str_c(c->delta ? d->type_url : s->type_url));
    if (!c->delta && !is_named(type))
        clear(&c->has[type]);
    for (size_t i = 0; !c->delta && i < s->n_resources; i++)
        keep(&c->has[type], name_in(type, s->resources[i], a), s->resources[i]);
    for (size_t i = 0; c->delta && i < d->n_resources; i++)
        keep(&c->has[type], mz_str_c(d->resources[i]->name), d->resources[i]->resource);
    for (size_t i = 0; c->delta && i < d->n_removed_resources; i++)
        drop(&c->has[type], mz_str_c(d->removed_resources[i]));
    c->pending[type] = true;
    (void)snprintf(c->nonce[type], sizeof(c->nonce[type]), "%s", c->delta ? d->nonce : s->nonce);
    mz_arena_destroy(a);
    return true;
}

static void request(struct order_client *c, enum mz_xds_type type, bool first)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *node;
    char *url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                   mz_translate_descriptor(type)->name)
                    .p;
    pb_DiscoveryRequest s = pb_DiscoveryRequest__INIT;
    pb_DeltaDiscoveryRequest d = pb_DeltaDiscoveryRequest__INIT;
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(c->who.node), MZ_TEXT_YAML, &pb_Node__descriptor, &node, &err));
    s.type_url = d.type_url = url;
    s.node = d.node = first ? (pb_Node *)node : NULL;
    s.response_nonce = d.response_nonce = c->nonce[type];
    char *names[ORDER_NAMES];
    s.resource_names = d.resource_names_subscribe = names;
    s.n_resource_names = asked(c, type, names);
    d.n_resource_names_subscribe = first ? s.n_resource_names : 0;
    c->pending[type] = false;
    if (!mz_peer_request(c->peer, c->delta ? &d.base : &s.base, &err))
        fail_msg("%s", err.msg);
    mz_arena_destroy(a);
}

/* Acknowledges until nothing comes any more. */
static void settle(struct order_client *c)
{
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < MZ_COUNT(order_types); i++)
            if (c->pending[order_types[i]]) {
                request(c, order_types[i], false);
                again = true;
            }
    }
}

/* ---- documents ---- */

static void put(struct mz_store *s, const char *text)
{
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    const struct mz_str whole =
        strchr(text, '$') ? secret_double_fill(&order.pems, text) : mz_str_c(text);
    mz_doc_read_text(&r, whole, MZ_TEXT_YAML);
}

/* The document of @text goes; its key is all that counts. */
static void take_away(const char *text)
{
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    put(s, text);
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t n;
        const struct mz_doc *const *v = mz_store_list(s, (enum mz_kind)k, &n);
        if (n)
            mz_store_remove(order.store, v[0]->key);
    }
    mz_store_destroy(s);
}

static void tell(void)
{
    const struct mz_model_opts o = { .domain = "cluster.local", .addresses = order.ips };
    struct mz_change c;
    struct mz_model *m = mz_model_build(order.store, &o, order.model);
    mz_change_init(&c, order.model, m);
    for (size_t i = 0; i < order.n; i++)
        mz_peer_prepare(order.clients[i].peer, m);
    mz_translator_set_model(order.translator, m);
    for (size_t i = 0; i < order.n; i++)
        mz_peer_renew(order.clients[i].peer);
    for (size_t i = 0; i < order.n; i++)
        mz_peer_push(order.clients[i].peer, &c);
    mz_change_fini(&c);
    mz_model_unref(order.model);
    order.model = m;
    for (size_t i = 0; i < order.n; i++)
        settle(&order.clients[i]);
}

/* ---- a start from nothing ---- */

static void compare(const struct order_client *c, enum mz_xds_type type,
                    const struct mz_outs *want, unsigned round)
{
    const struct mz_map *has = &c->has[type];
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    for (size_t i = 0; i < want->v.n; i++) {
        const struct mz_str name = want->v.v[i]->name, bytes = mz_out_bytes(want->v.v[i], a);
        pb_Any whole = pb_Any__INIT;
        whole.value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
        struct mz_out *w = mz_out_create(name, &whole.base);
        const struct mz_out *h = mz_map_get(has, name);
        if (!h || !mz_str_eq(h->bytes, w->bytes))
            fail_msg("round %u, %s client %d: %s %.*s is %s", round, c->delta ? "delta" : "state",
                     (int)(c - order.clients), mz_translate_short(type), MZ_STR_ARG(name),
                     h ? "another" : "missing");
        mz_out_unref(w);
    }
    mz_arena_destroy(a);
    /* State of the world cannot take a named one back; a Secret that goes stays with who has it. */
    order.secrets += type == MZ_XDS_SECRET ? (unsigned)want->v.n : 0;
    if (type == MZ_XDS_SECRET || (!c->delta && is_named(type)))
        return;
    mz_map_foreach (it, has) {
        bool found = false;
        for (size_t i = 0; i < want->v.n && !found; i++)
            found = mz_str_eq(want->v.v[i]->name, it->key);
        if (!found)
            fail_msg("round %u, %s client %d: %s %.*s should be gone", round,
                     c->delta ? "delta" : "state", (int)(c - order.clients),
                     mz_translate_short(type), MZ_STR_ARG(it->key));
    }
}

static void check_client(const struct mz_model *m, const struct order_client *c, unsigned round)
{
    /* one for each: what they have in common is no excuse */
    struct mz_translator *fresh =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    mz_translator_set_model(fresh, m);
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err;
    ProtobufCMessage *node;
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(c->who.node), MZ_TEXT_YAML, &pb_Node__descriptor, &node, &err));
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)node, &err);
    if (c->who.account)
        mz_proxy_verify(p, MZ_STR("demo"), mz_str_c(c->who.account));
    struct mz_view *v = mz_view_create(fresh, p);
    for (size_t i = 0; i < MZ_COUNT(order_types); i++) {
        if (!wants(c, order_types[i]))
            continue;
        struct mz_outs want = { 0 };
        struct mz_str names[ORDER_NAMES];
        char *texts[ORDER_NAMES];
        const size_t n = asked(c, order_types[i], texts);
        for (size_t k = 0; k < n; k++)
            names[k] = mz_str_c(texts[k]);
        mz_translate(v, order_types[i], names, n, &want);
        compare(c, order_types[i], &want, round);
        mz_outs_fini(&want);
    }
    mz_view_destroy(v);
    mz_proxy_destroy(p);
    mz_translator_destroy(fresh);
    mz_arena_destroy(a);
}

/* What every client has is what a start with the documents of @s, which is taken, would give it. */
static void check(struct mz_store *s, unsigned round)
{
    struct mz_err err;
    const struct mz_model_opts o = { .domain = "cluster.local",
                                     .addresses = order.ips
                                                      ? mz_service_ips_create(ORDER_RANGE, &err)
                                                      : NULL };
    struct mz_model *m = mz_model_build(s, &o, NULL);
    for (size_t i = 0; i < order.n; i++)
        check_client(m, &order.clients[i], round);
    mz_model_unref(m);
    mz_service_ips_destroy(o.addresses);
    mz_store_destroy(s);
}

/* ---- begin and end ---- */

static void begin(uint64_t seed)
{
    memset(&order, 0, sizeof(order));
    secret_double_init(&order.pems);
    order.seed = seed;
    order.store = mz_store_create(double_nothing, NULL);
    order.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    order.bundles = mz_bundles_create(mz_translator_sets(order.translator));
    tell();
}

static struct order_client *come(bool delta, struct order_who who)
{
    struct order_client *c = &order.clients[order.n++];
    const struct mz_peer_env env = { .translator = order.translator,
                                     .bundles = order.bundles,
                                     .delta = delta,
                                     .only = MZ_XDS_TYPE__COUNT,
                                     .send = on_send,
                                     .arg = c,
                                     .ns = who.account ? MZ_STR("demo") : MZ_STR(""),
                                     .account = who.account ? mz_str_c(who.account) : MZ_STR("") };
    *c = (struct order_client){ .delta = delta, .who = who };
    c->peer = mz_peer_create(&env);
    for (unsigned k = 0; k < MZ_XDS_TYPE__COUNT; k++)
        mz_map_init(&c->has[k], MZ_MEM_XDS);
    return c;
}

/* The first @n types, in order, of which it has @from. */
static void subscribe(struct order_client *c, size_t from, size_t n)
{
    for (size_t k = from; k < n; k++) {
        if (wants(c, order_types[k]))
            request(c, order_types[k], true);
        settle(c);
    }
}

static void join_client(bool delta, struct order_who who)
{
    subscribe(come(delta, who), 0, MZ_COUNT(order_types));
}

/* The last one that came. */
static void leave(void)
{
    struct order_client *c = &order.clients[--order.n];
    mz_peer_destroy(c->peer);
    for (unsigned k = 0; k < MZ_XDS_TYPE__COUNT; k++) {
        clear(&c->has[k]);
        mz_map_fini(&c->has[k]);
    }
}

static void end(void)
{
    while (order.n)
        leave();
    mz_bundles_destroy(order.bundles);
    mz_translator_destroy(order.translator);
    mz_model_unref(order.model);
    mz_service_ips_destroy(order.ips);
    mz_store_destroy(order.store);
    secret_double_fini(&order.pems);
}
#endif
