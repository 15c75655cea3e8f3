/*
 * envoy.filters.http.peer_metadata (S2): who the peer of a request is, by the headers of a proxy there or by baggage, left in the
 * filter state for istio.stats and the logs; and the same told to the peer of ourselves.
 *
 * A peer's header is read once: each worker remembers the last ones by their whole text. (Envoy goes by the id beside it, which
 * any client may give.)
 */
#include "base/map.h"
#include "filters/istio/istio_filters.h"
#include "filters/istio/peer.h"
#include "filters/istio/workloads.h"
#include "proto/mapper.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

#define KNOWN_MAX 500

static const struct mz_str header_id = MZ_STR_INIT("x-envoy-peer-metadata-id");
static const struct mz_str header_peer = MZ_STR_INIT("x-envoy-peer-metadata");
static const struct mz_str header_baggage = MZ_STR_INIT("baggage");

static const struct mz_str header_network = MZ_STR_INIT("x-istio-origin-network");

enum method { METHOD_NONE, METHOD_HEADERS, METHOD_BAGGAGE, METHOD_WORKLOADS };
struct tell { /* what is told to one side */
    enum method method;
    bool skip_external;
};
struct known { /* a peer that a worker has met; counted, of its thread */
    unsigned refs;
    struct mz_arena *arena;
    struct mz_str text; /* of its header; "": nobody looks it up */
    struct peer peer;
    struct peer_object map, fields;
};
struct config {
    struct mz_arena *arena;
    struct {
        enum method *v;
        size_t n;
    } find[2]; /* of the client, of the upstream */
    struct {
        struct tell *v;
        size_t n;
    } tell[2]; /* to the client, to the upstream */
    struct peer_labels labels;
    const struct mz_workloads *workloads; /* NULL: there are none */
    struct mz_str network;                /* ours */
    bool shared; /* what is found goes along with connections to internal addresses */
    struct mz_str id, self, baggage; /* what is told */
    struct mz_map *known;            /* n_slots */
    unsigned n_slots;
};
enum side { CLIENT, UPSTREAM };
struct state {
    struct mz_filter base;
    struct known *found[2];
    const struct workload *workload[2];
    bool id_came, peer_came; /* with the request */
};

/* ---- peers ---- */

static void known_unref(struct known *k)
{
    if (k && --k->refs == 0)
        mz_arena_destroy(k->arena);
}

static void forget(struct mz_map *m)
{
    mz_map_foreach (e, m)
        known_unref(e->value);
    mz_map_fini(m);
    mz_map_init(m, MZ_MEM_STREAM);
}

static struct known *known_new(void)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct known *k = mz_arena_new0(a, struct known);
    k->arena = a;
    k->refs = 1;
    peer_object_init(&k->map, &k->peer);
    peer_fields_init(&k->fields, &k->peer);
    return k;
}

/* A reference; NULL: it says nothing that could be read. */
static struct known *by_header(const struct config *c, const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get(h, header_peer);
    if (!e || !e->value.n)
        return NULL;
    struct mz_map *mine = mz_stats_slot < c->n_slots ? &c->known[mz_stats_slot] : NULL;
    struct known *k = mine ? mz_map_get(mine, e->value) : NULL;
    if (k) {
        k->refs++;
        return k;
    }
    k = known_new();
    k->text = mz_arena_dup(k->arena, e->value);
    if (!peer_from_header(k->text, &c->labels, k->arena, &k->peer)) {
        known_unref(k);
        return NULL;
    }
    if (mine) {
        if (mine->n >= KNOWN_MAX)
            forget(mine);
        (void)mz_map_put(mine, k->text, k); /* it was not there */
        k->refs++;
    }
    return k;
}

static struct known *by_baggage(const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get(h, header_baggage);
    if (!e)
        return NULL;
    struct known *k = known_new();
    peer_from_baggage(mz_arena_dup(k->arena, e->value), &k->peer);
    return k;
}

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct config *c = cfg;
    for (unsigned i = 0; i < c->n_slots; i++) {
        forget(&c->known[i]);
        mz_map_fini(&c->known[i]);
    }
    mz_arena_destroy(c->arena);
}

static enum method find_method(const pb_Config_DiscoveryMethod *m, enum side of)
{
    switch (m->method_specifier_case) {
    case pb_Config_DiscoveryMethod_METHOD_SPECIFIER_ISTIO_HEADERS:
        return METHOD_HEADERS;
    case pb_Config_DiscoveryMethod_METHOD_SPECIFIER_BAGGAGE:
        return of == CLIENT ? METHOD_BAGGAGE : METHOD_NONE; /* only clients send it */
    case pb_Config_DiscoveryMethod_METHOD_SPECIFIER_WORKLOAD_DISCOVERY:
        return METHOD_WORKLOADS;
    default:
        return METHOD_NONE;
    }
}

static void find_build(struct config *c, enum side of, pb_Config_DiscoveryMethod *const *v,
                       size_t n)
{
    c->find[of].v = mz_arena_alloc0(c->arena, mz_mul(n, sizeof(*c->find[of].v)));
    for (size_t i = 0; i < n; i++)
        c->find[of].v[c->find[of].n++] = find_method(v[i], of);
}

static void tell_build(struct config *c, enum side to, pb_Config_PropagationMethod *const *v,
                       size_t n)
{
    c->tell[to].v = mz_arena_alloc0(c->arena, mz_mul(n, sizeof(*c->tell[to].v)));
    for (size_t i = 0; i < n; i++) {
        struct tell *t = &c->tell[to].v[c->tell[to].n++];
        if (v[i]->method_specifier_case ==
            pb_Config_PropagationMethod_METHOD_SPECIFIER_ISTIO_HEADERS)
            *t = (struct tell){ METHOD_HEADERS, v[i]->istio_headers->skip_external_clusters };
        else if (v[i]->method_specifier_case ==
                 pb_Config_PropagationMethod_METHOD_SPECIFIER_BAGGAGE)
            *t = (struct tell){ .method = METHOD_BAGGAGE };
    }
}

static void self_build(struct config *c, const struct mz_factory *f)
{
    struct peer self;
    peer_of_node(f, &c->labels, c->arena, &self);
    c->id = mz_arena_dup(c->arena, f->node_id);
    c->self = peer_header(&self, c->arena);
    c->baggage = peer_baggage(&self, c->arena);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    const pb_peer_metadata_Config *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct config *c = mz_arena_new0(a, struct config);
    c->arena = a;
    c->n_slots = f->workers + 1;
    c->known = mz_arena_alloc0(a, c->n_slots * sizeof(*c->known));
    for (unsigned i = 0; i < c->n_slots; i++)
        mz_map_init(&c->known[i], MZ_MEM_STREAM);
    c->labels = peer_labels_of(m->additional_labels, m->n_additional_labels, a);
    find_build(c, CLIENT, m->downstream_discovery, m->n_downstream_discovery);
    find_build(c, UPSTREAM, m->upstream_discovery, m->n_upstream_discovery);
    tell_build(c, CLIENT, m->downstream_propagation, m->n_downstream_propagation);
    tell_build(c, UPSTREAM, m->upstream_propagation, m->n_upstream_propagation);
    c->workloads = f->workloads;
    c->network = mz_arena_dup(a, peer_metadata_text(f->node_metadata, MZ_STR("NETWORK")));
    c->shared = m->shared_with_upstream;
    self_build(c, f);
    return c;
}

/* ---- a request ---- */

/* Of the client's address, unless it says that it comes from another network; of the host that answered. */
static const struct workload *by_address(const struct state *st, enum side of,
                                         const struct mz_headers *h)
{
    const struct config *c = st->base.cfg;
    const struct mz_stream_info *i = mz_stream_info(st->base.stream);
    if (of == UPSTREAM)
        return workload_of_host(c->workloads, &i->up.host, i->up.metadata);
    const struct mz_header *network = mz_headers_get(h, header_network);
    if (network && !mz_str_eq(network->value, c->network))
        return NULL;
    return workload_find(c->workloads, &i->remote);
}

/* One that may go along is the stream's own. */
static struct mz_filter_object *object_of(const struct config *c, struct mz_arena *a,
                                          const struct peer_object *o)
{
    if (!c->shared)
        return (struct mz_filter_object *)(uintptr_t)&o->base;
    struct peer_object *own = mz_arena_alloc(a, sizeof(*own));
    *own = *o;
    own->base.sharing = MZ_SHARING_ONCE;
    return &own->base;
}

/* Who spoke first counts: false. */
static bool keep(const struct state *st, enum side of, const struct peer_object *map,
                 const struct peer_object *fields)
{
    static const struct mz_str keys[2][2] = {
        { MZ_STR_INIT(PEER_DOWNSTREAM), MZ_STR_INIT(PEER_DOWNSTREAM_FIELDS) },
        { MZ_STR_INIT(PEER_UPSTREAM), MZ_STR_INIT(PEER_UPSTREAM_FIELDS) },
    };
    const struct config *c = st->base.cfg;
    struct mz_stream_info *i = mz_stream_info(st->base.stream);
    if (st->found[of] || st->workload[of] || mz_info_state(i, keys[of][0]))
        return false;
    mz_info_set_state(i, keys[of][0], object_of(c, i->arena, map));
    mz_info_set_state(i, keys[of][1], object_of(c, i->arena, fields));
    return true;
}

static void find(struct state *st, enum side of, struct mz_headers *h)
{
    const struct config *c = st->base.cfg;
    struct known *k = NULL;
    const struct workload *w = NULL;
    bool headers = false;
    for (size_t i = 0; i < c->find[of].n; i++) {
        headers |= c->find[of].v[i] == METHOD_HEADERS;
        if (k || w)
            continue;
        if (c->find[of].v[i] == METHOD_HEADERS)
            k = by_header(c, h);
        else if (c->find[of].v[i] == METHOD_BAGGAGE)
            k = by_baggage(h);
        else if (c->find[of].v[i] == METHOD_WORKLOADS)
            w = by_address(st, of, h);
    }
    if (k && keep(st, of, &k->map, &k->fields))
        st->found[of] = k;
    else
        known_unref(k);
    if (w && keep(st, of, &w->map, &w->fields))
        st->workload[of] = w;
    else
        workload_unref(w);
    if (!headers)
        return;
    bool id = mz_headers_remove(h, header_id) > 0, peer = mz_headers_remove(h, header_peer) > 0;
    if (of == CLIENT) {
        st->id_came = id;
        st->peer_came = peer;
    }
}

static bool is_true(const struct mz_meta *m, struct mz_str key)
{
    const struct mz_value *v = mz_meta_get(m, MZ_STR("istio"), &key, 1);
    return v && v->kind == MZ_VALUE_BOOL && v->b;
}

/* The cluster says that no mesh is there. */
static bool skips(const struct state *st, bool skip_external)
{
    const struct mz_weighted_cluster *w;
    struct mz_str name;
    struct mz_wcluster *wc = mz_stream_cluster(st->base.stream, &name, &w);
    if (!wc)
        return false;
    const struct mz_cluster *c = mz_wcluster_info(wc);
    return (skip_external && (mz_str_eq(c->name, MZ_STR("PassthroughCluster")) ||
                              is_true(c->metadata, MZ_STR("external")))) ||
           is_true(c->metadata, MZ_STR("disable_mx"));
}

static void tell(const struct state *st, enum side to, struct mz_headers *h)
{
    const struct config *c = st->base.cfg;
    for (size_t i = 0; i < c->tell[to].n; i++) {
        const struct tell *t = &c->tell[to].v[i];
        if (t->method == METHOD_BAGGAGE)
            mz_headers_set(h, header_baggage, c->baggage);
        if (t->method != METHOD_HEADERS || skips(st, t->skip_external))
            continue;
        if (to == UPSTREAM || st->id_came)
            mz_headers_set(h, header_id, c->id);
        if (to == UPSTREAM || st->peer_came)
            mz_headers_set(h, header_peer, c->self);
    }
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    find((struct state *)(void *)f, CLIENT, h);
    tell((struct state *)(void *)f, UPSTREAM, h);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    find((struct state *)(void *)f, UPSTREAM, h);
    tell((struct state *)(void *)f, CLIENT, h);
    return MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = (struct state *)(void *)f;
    known_unref(st->found[CLIENT]);
    known_unref(st->found[UPSTREAM]);
    workload_unref(st->workload[CLIENT]);
    workload_unref(st->workload[UPSTREAM]);
}

const struct mz_http_filter_type mz_filter_peer_metadata = {
    .name = "envoy.filters.http.peer_metadata",
    .config_type = "io.istio.http.peer_metadata.Config",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
    .on_destroy = on_destroy,
};
