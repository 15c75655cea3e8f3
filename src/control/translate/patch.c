#include "control/translate/patch.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/regex.h"
#include "control/model/attached.h"
#include "control/model/envoy_patch.h"
#include "control/translate/extensions.h"
#include "control/translate/gateway.h"
#include "control/translate/tell.h"

enum {
    MAX_VERSION_PATTERN = 1024,
    VALUE_BYTES = 128,     /* of a patch: so many count as a change */
    MAX_CHANGES = 1 << 20, /* of all clusters, or all listeners, of a proxy */
    MAX_CHANGES_OF_ONE = 1 << 18,
    MAX_OPEN_BYTES = 320 << 20, /* of one, while it is made */
    CHANGES_OF_TABLE = 4096, /* which proxies ask for one by one; and what follows from its size */
};

/* ---- which patches ---- */

static const ist_EnvoyFilter *spec(const struct mz_attached *d)
{
    return (const ist_EnvoyFilter *)d->m;
}

/* Priority, then the root namespace's, then the older. All stand in one list, oldest first. */
static int compare_documents(const void *a, const void *b)
{
    const struct mz_attached *const *x = a, *const *y = b;
    if (spec(*x)->priority != spec(*y)->priority)
        return spec(*x)->priority < spec(*y)->priority ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

/* A pattern is compiled once for all views of a version. */
static bool version_fits(const struct mz_view *v, const char *pattern)
{
    struct mz_key k;
    if (!v->proxy->version.n || strlen(pattern) > MAX_VERSION_PATTERN) /* E12: nobody compiles it */
        return false;
    const uint64_t which = mz_xxh64(pattern, strlen(pattern), 0);
    mz_key_init(&k, 'w');
    mz_key_u64(&k, which);
    mz_key_str(&k, v->proxy->version);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        struct mz_err err;
        struct mz_regex *r = mz_regex_create(mz_str_c(pattern), &err);
        o = mz_out_of_bytes(MZ_STR(""),
                            r && mz_regex_search(r, v->proxy->version) ? MZ_STR("y") : MZ_STR(""));
        mz_regex_destroy(r);
        mz_cache_put(v->t->cache, &k, o);
    }
    const bool fits = o->size != 0;
    mz_out_unref(o);
    return fits;
}

static bool is_for_proxy(const struct mz_view *v, const ist_EnvoyFilter_ProxyMatch *m)
{
    if (m && m->proxy_version[0] && !version_fits(v, m->proxy_version))
        return false;
    for (size_t i = 0; m && i < m->n_metadata; i++)
        if (!mz_str_eq(mz_label_get(v->proxy->metadata, m->metadata[i]->key),
                       mz_str_c(m->metadata[i]->value)))
            return false;
    return true;
}

/* Said once for all views. False: there is none. */
static bool take_value(struct mz_view *v, struct tr_patch *p, const struct mz_attached *d)
{
    struct mz_key k;
    mz_key_init(&k, 'v');
    mz_key_u64(&k, d->version);
    mz_key_u64(&k, p->index);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_err err;
        ProtobufCMessage *m = NULL;
        if (mz_envoy_patch_value(spec(d)->config_patches[p->index], a, &m, &err) && m)
            o = mz_out_create(p->to == ist_EnvoyFilter_ApplyTo_EXTENSION_CONFIG
                                  ? mz_str_c(((const pb_TypedExtensionConfig *)m)->name)
                                  : MZ_STR(""),
                              m);
        mz_arena_destroy(a);
        if (!o)
            return false;
        mz_cache_put(v->t->cache, &k, o);
    }
    p->value = mz_arena_dup(v->arena, o->bytes);
    p->name = mz_arena_dup(v->arena, o->name);
    mz_out_unref(o);
    return true;
}

static void add_patch(struct mz_view *v, struct tr_patches *out, const struct mz_attached *d,
                      size_t i)
{
    const ist_EnvoyFilter_EnvoyConfigObjectPatch *c = spec(d)->config_patches[i];
    struct tr_patch p = { .doc = d,
                          .index = i,
                          .to = c->apply_to,
                          .op = c->patch->operation,
                          .match = c->match,
                          .context =
                              c->match ? c->match->context : ist_EnvoyFilter_PatchContext_ANY,
                          .type = mz_envoy_patch_type(c->apply_to) };
    if (!p.type || !is_for_proxy(v, c->match ? c->match->proxy : NULL) ||
        (c->patch->value && !take_value(v, &p, d))) /* checked when the document was read */
        return;
    TR_ADD(v->arena, out, v) = p;
    out->hash = mz_xxh64(&i, sizeof(i), mz_xxh64(&d->version, sizeof(d->version), out->hash));
}

struct tr_patches *tr_patches(struct mz_view *v)
{
    const struct mz_attach_to to = { v->proxy->ns,
                                     v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs all = { 0 };
    if (v->patches)
        return v->patches;
    v->patches = mz_arena_new0(v->arena, struct tr_patches);
    mz_model_attached(v->model, MZ_KIND_ENVOY_FILTER, v->model->mesh.root_ns, &to, &all);
    const size_t of_root = all.v.n;
    if (!mz_str_eq(to.ns, v->model->mesh.root_ns))
        mz_model_attached(v->model, MZ_KIND_ENVOY_FILTER, to.ns, &to, &all);
    if (of_root)
        qsort(all.v.v, of_root, sizeof(*all.v.v), compare_documents);
    if (all.v.n > of_root)
        qsort(all.v.v + of_root, all.v.n - of_root, sizeof(*all.v.v), compare_documents);
    /* Of one priority the root namespace's come first: two sorted lists become one. */
    for (size_t i = 0, k = of_root; i < of_root || k < all.v.n;) {
        const bool first = i < of_root && (k == all.v.n || spec(all.v.v[i])->priority <=
                                                               spec(all.v.v[k])->priority);
        const struct mz_attached *d = all.v.v[first ? i++ : k++];
        for (size_t j = 0; j < spec(d)->n_config_patches; j++)
            add_patch(v, v->patches, d, j);
    }
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
    return v->patches;
}

/* ---- one patch ---- */

const struct tr_patch *patch_next(const struct patcher *x, ist_EnvoyFilter_ApplyTo to, size_t *i)
{
    while (*i < x->p->n_v) {
        const struct tr_patch *p = &x->p->v[(*i)++];
        if (p->to == to && !p->off &&
            (p->context == ist_EnvoyFilter_PatchContext_ANY || p->context == x->context))
            return p;
    }
    return NULL;
}

static ProtobufCMessage *open_bytes(struct mz_str bytes, const ProtobufCMessageDescriptor *d,
                                    struct mz_arena *a)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    return MZ_BUG(!mz_msg_unpack(&ctx, bytes, d, &m, &err)) ? NULL : m; /* we packed it */
}

static bool spend(const struct patcher *x, const struct tr_patch *p, size_t bytes)
{
    struct patch_work *w = x->work;
    const size_t n = 1 + bytes / VALUE_BYTES;
    if (!w->cut && (n > w->left || mz_arena_size(x->a) > MAX_OPEN_BYTES))
        w->cut = p;
    w->left -= w->cut ? w->left : n;
    return !w->cut;
}

void *patch_fresh(const struct patcher *x, const struct tr_patch *p)
{
    return p->value.p && spend(x, p, p->value.n) ? open_bytes(p->value, p->type, x->a) : NULL;
}

bool patch_merges(const struct tr_patch *p)
{
    return p->op == ist_EnvoyFilter_Patch_Operation_MERGE ||
           p->op == ist_EnvoyFilter_Patch_Operation_MERGE_AND_REPLACE_LIST;
}

void patch_merge(const struct patcher *x, const struct tr_patch *p, void *into, const void *from)
{
    if (from)
        mz_envoy_merge(into, from, p->op == ist_EnvoyFilter_Patch_Operation_MERGE_AND_REPLACE_LIST,
                       x->a);
}

void patch_merge_any(const struct patcher *x, const struct tr_patch *p, pb_Any *into,
                     const pb_Any *from)
{
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    if (into && from && spend(x, p, into->value.len) && !mz_envoy_merge_any(into, from, x->a, &err))
        tr_tell(x->v, p->doc->key, "spec.config_patches[%zu].patch.value.typed_config: %s",
                p->index, mz_err_text(&err, text, sizeof(text)));
}

/* ---- lists ---- */

void patch_insert(const struct patcher *x, struct patch_list l, size_t at, void *item)
{
    struct patch_work *w = x->work;
    const size_t n = *l.n;
    void **v = *l.v;
    if (w->list != v || n >= w->room) {
        w->room = 2 * n + 1;
        w->list = mz_arena_alloc(x->a, w->room * sizeof(*v));
        if (n)
            memcpy(w->list, v, n * sizeof(*v));
        *l.v = v = w->list;
    }
    memmove(v + at + 1, v + at, (n - at) * sizeof(*v));
    v[at] = item;
    *l.n = n + 1;
}

void patch_drop(struct patch_list l, size_t at)
{
    memmove(*l.v + at, *l.v + at + 1, (*l.n - at - 1) * sizeof(**l.v));
    (*l.n)--;
}

void patch_list(const struct patcher *x, const struct tr_patch *p, struct patch_list l, bool names,
                bool (*fits)(const void *item, const struct tr_patch *p))
{
    const bool puts = p->op != ist_EnvoyFilter_Patch_Operation_REMOVE && !patch_merges(p);
    void *item = puts ? patch_fresh(x, p) : NULL;
    if (puts && !item)
        return;
    size_t at = 0;
    while (names && at < *l.n && !fits((*l.v)[at], p))
        at++;
    const bool found = names && at < *l.n;
    switch (p->op) {
    case ist_EnvoyFilter_Patch_Operation_ADD:
        patch_insert(x, l, *l.n, item);
        break;
    case ist_EnvoyFilter_Patch_Operation_INSERT_FIRST:
        patch_insert(x, l, 0, item);
        break;
    case ist_EnvoyFilter_Patch_Operation_INSERT_AFTER:
        if (found || !names)
            patch_insert(x, l, found ? at + 1 : *l.n, item);
        break;
    case ist_EnvoyFilter_Patch_Operation_INSERT_BEFORE:
        if (found || !names)
            patch_insert(x, l, found ? at : 0, item);
        break;
    case ist_EnvoyFilter_Patch_Operation_REPLACE:
        if (found)
            (*l.v)[at] = item;
        break;
    case ist_EnvoyFilter_Patch_Operation_REMOVE:
        for (size_t i = *l.n; names && i--;)
            if (fits((*l.v)[i], p))
                patch_drop(l, i);
        break;
    default:
        break; /* merges are another matter */
    }
}

/* ---- clusters ---- */

static bool is_inbound_cluster(struct mz_str name)
{
    return mz_str_starts(name, MZ_STR("inbound|")) ||
           mz_str_starts(name, MZ_STR("InboundPassthroughCluster"));
}

/* An inbound cluster's name tells no service: what it says of itself does. */
static bool stands_for(const pb_Cluster *c, struct mz_str host)
{
    const pb_Struct *s = NULL;
    for (size_t i = 0; c->metadata && i < c->metadata->n_filter_metadata; i++)
        if (strcmp(c->metadata->filter_metadata[i]->key, "istio") == 0)
            s = c->metadata->filter_metadata[i]->value;
    for (size_t i = 0; s && i < s->n_fields; i++) {
        const pb_Value *v = s->fields[i]->value;
        if (strcmp(s->fields[i]->key, "services") != 0 || v->kind_case != pb_Value_KIND_LIST_VALUE)
            continue;
        for (size_t k = 0; k < v->list_value->n_values; k++) {
            const pb_Value *one = v->list_value->values[k];
            const pb_Struct *m =
                one->kind_case == pb_Value_KIND_STRUCT_VALUE ? one->struct_value : NULL;
            for (size_t j = 0; m && j < m->n_fields; j++)
                if (strcmp(m->fields[j]->key, "host") == 0 &&
                    m->fields[j]->value->kind_case == pb_Value_KIND_STRING_VALUE &&
                    mz_str_eq(mz_str_c(m->fields[j]->value->string_value), host))
                    return true;
        }
    }
    return false;
}

static bool cluster_fits(const pb_Cluster *c, const struct tr_patch *p)
{
    struct tr_subset_key key = { 0 };
    if (!p->match ||
        p->match->object_types_case != ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_CLUSTER)
        return true;
    const ist_EnvoyFilter_ClusterMatch *m = p->match->cluster;
    if (m->name[0])
        return strcmp(m->name, c->name) == 0;
    (void)tr_cluster_name_parse(mz_str_c(c->name), &key); /* another form: nothing is known */
    const struct mz_str service = mz_str_c(m->service);
    const bool inbound = mz_str_eq(key.direction, MZ_STR("inbound"));
    return (!m->subset[0] || mz_str_eq(mz_str_c(m->subset), key.subset)) &&
           (!service.n || (inbound ? stands_for(c, service) : mz_str_eq(service, key.host))) &&
           (!m->port_number || m->port_number == key.port);
}

/* A transport socket of the name that the patch has, where it can be merged. */
static pb_TransportSocket *same_socket(const pb_Cluster *c, const char *name)
{
    for (size_t i = 0; i < c->n_transport_socket_matches; i++) {
        pb_TransportSocket *s = c->transport_socket_matches[i]->transport_socket;
        if (s && strcmp(s->name, name) == 0)
            return s;
    }
    return !c->n_transport_socket_matches && c->transport_socket &&
                   strcmp(c->transport_socket->name, name) == 0
               ? c->transport_socket
               : NULL;
}

static void merge_socket(const struct patcher *x, const struct tr_patch *p,
                         pb_TransportSocket *into, const pb_TransportSocket *from)
{
    if (into->config_type_case == pb_TransportSocket_CONFIG_TYPE_TYPED_CONFIG &&
        from->config_type_case == into->config_type_case)
        patch_merge_any(x, p, into->typed_config, from->typed_config);
}

/* A patch with a transport socket is about that alone. */
static void merge_cluster(const struct patcher *x, const struct tr_patch *p, pb_Cluster *c)
{
    const pb_Cluster *from = patch_fresh(x, p);
    if (!from || !from->transport_socket) {
        patch_merge(x, p, c, from);
        return;
    }
    pb_TransportSocket *into = same_socket(c, from->transport_socket->name);
    if (into)
        merge_socket(x, p, into, from->transport_socket);
    else if (!c->n_transport_socket_matches)
        c->transport_socket = from->transport_socket;
}

static bool patch_cluster(const struct patcher *x, pb_Cluster *c)
{
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_CLUSTER, &i));) {
        if (!cluster_fits(c, p))
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_REMOVE)
            return false;
        if (patch_merges(p))
            merge_cluster(x, p, c);
    }
    return true;
}

/* ---- resources ---- */

static ist_EnvoyFilter_PatchContext context_of(const struct mz_view *v, enum mz_xds_type t,
                                               const ProtobufCMessage *m)
{
    const bool in = t == MZ_XDS_CLUSTER
                        ? is_inbound_cluster(mz_str_c(((const pb_Cluster *)m)->name))
                    : t == MZ_XDS_LISTENER
                        ? ((const pb_Listener *)m)->traffic_direction == pb_TrafficDirection_INBOUND
                        : false;
    if (v->proxy->type != MZ_PROXY_SIDECAR)
        return ist_EnvoyFilter_PatchContext_GATEWAY;
    return in ? ist_EnvoyFilter_PatchContext_SIDECAR_INBOUND
              : ist_EnvoyFilter_PatchContext_SIDECAR_OUTBOUND;
}

bool patch_apply(struct mz_view *v, enum mz_xds_type t, struct mz_str bytes, struct mz_arena *a,
                 struct patch_work *work, struct mz_str *out)
{
    ProtobufCMessage *m = open_bytes(bytes, mz_xds_descriptor(t), a);
    struct patcher x = { v, a, tr_patches(v), ist_EnvoyFilter_PatchContext_ANY, work };
    if (!m)
        return false;
    x.context = context_of(v, t, m);
    if (t == MZ_XDS_CLUSTER && !patch_cluster(&x, (pb_Cluster *)m))
        return false;
    if (t == MZ_XDS_LISTENER && !patch_listener(&x, (pb_Listener *)m))
        return false;
    if (t == MZ_XDS_ROUTE)
        patch_routes(&x, (pb_RouteConfiguration *)m);
    *out = mz_msg_pack_alloc(m, a);
    return true;
}

/* Nothing may stand behind the router: what Istio's own control plane lets pass, an Envoy refuses. */
static bool ends_with_router(const pb_FilterChain *c, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .control = true };
    for (size_t i = 0; c && i < c->n_filters; i++) {
        struct mz_err err;
        ProtobufCMessage *m = NULL;
        if (c->filters[i]->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG ||
            !mz_any_unpack_as(&ctx, c->filters[i]->typed_config,
                              &pb_HttpConnectionManager__descriptor, &m, &err))
            continue; /* another filter */
        const pb_HttpConnectionManager *h = (const pb_HttpConnectionManager *)m;
        for (size_t k = 0; k + 1 < h->n_http_filters; k++)
            if (strcmp(h->http_filters[k]->name, "envoy.filters.http.router") == 0)
                return false;
    }
    return true;
}

static bool has_routers_last(const pb_Listener *l, struct mz_arena *a)
{
    bool ok = ends_with_router(l->default_filter_chain, a);
    for (size_t i = 0; ok && i < l->n_filter_chains; i++)
        ok = ends_with_router(l->filter_chains[i], a);
    return ok;
}

bool patch_loads(const struct mz_view *v, enum mz_xds_type t, struct mz_str bytes,
                 struct mz_arena *a, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .control = true };
    ProtobufCMessage *m = NULL;
    return mz_msg_unpack(&ctx, bytes, mz_xds_descriptor(t), &m, err) &&
           (t != MZ_XDS_LISTENER || !v->proxy->stock ||
            has_routers_last((const pb_Listener *)m, a) ||
            mz_err_set(err, "a filter behind envoy.filters.http.router"));
}

/* What "it goes" is remembered as. */
static bool is_gone(const struct mz_out *o)
{
    return o->size == 0;
}

static struct mz_out *patched(struct mz_view *v, enum mz_xds_type t, const struct mz_out *o,
                              size_t allowed)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str bytes = { 0 };
    struct mz_err err;
    const struct mz_str before = mz_out_bytes(o, a);
    struct patch_work work = { .left = allowed };
    bool kept = patch_apply(v, t, before, a, &work, &bytes);
    if (work.cut)
        tr_tell(v, work.cut->doc->key,
                "spec.config_patches[%zu] and those behind it are left out of %.*s: patches and "
                "what they are about multiply",
                work.cut->index, MZ_STR_ARG(o->name));
    if (kept && !mz_str_eq(bytes, before) && !patch_loads(v, t, bytes, a, &err) &&
        patch_loads(v, t, before, a, &err))
        kept = patch_good_ones(v, t, o, allowed, allowed - work.left, &err, a, &bytes);
    struct mz_out *own = mz_out_of_bytes(o->name, kept ? bytes : MZ_STR(""));
    mz_arena_destroy(a);
    return own;
}

static struct mz_out *patched_once(struct mz_view *v, enum mz_xds_type t, const struct mz_out *o,
                                   size_t share)
{
    struct mz_key k;
    mz_key_init(&k, 'p');
    mz_key_u64(&k, t);
    mz_key_u64(&k, o->version);
    mz_key_u64(&k, tr_patches(v)->hash);
    mz_key_u64(&k, share);
    mz_key_u64(&k, v->proxy->type);
    mz_key_u64(&k, v->proxy->stock);
    if (v->proxy->type != MZ_PROXY_SIDECAR)
        mz_key_u64(&k, tr_servers_of(v)->hash); /* their ports are what tables are found by */
    struct mz_out *own = mz_cache_get(v->t->cache, &k);
    if (!own) {
        const size_t allowed = share + o->size / 2;
        own = patched(v, t, o, allowed < MAX_CHANGES_OF_ONE ? allowed : MAX_CHANGES_OF_ONE);
        mz_cache_put(v->t->cache, &k, own);
    }
    return own;
}

/* ---- additions ---- */

static bool has_name(const struct mz_outs *o, struct mz_str name)
{
    for (size_t i = 0; i < o->v.n; i++)
        if (mz_str_eq(o->v.v[i]->name, name))
            return true;
    return false;
}

static void add_one(struct mz_view *v, const struct tr_patch *p, enum mz_xds_type t,
                    struct mz_outs *out)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    const ProtobufCMessage *m = open_bytes(p->value, p->type, a);
    const struct mz_str name = mz_str_c(t == MZ_XDS_CLUSTER ? ((const pb_Cluster *)m)->name
                                                            : ((const pb_Listener *)m)->name);
    if (has_name(out, name))
        tr_tell(v, p->doc->key, "spec.config_patches[%zu].patch.value.name: there is already a %s",
                p->index, name.p);
    else
        *mz_vec_push(&out->v, MZ_MEM_XDS) = mz_out_create(name, m);
    mz_arena_destroy(a);
}

static void add_all(struct mz_view *v, enum mz_xds_type t, ist_EnvoyFilter_PatchContext context,
                    struct mz_outs *out)
{
    const ist_EnvoyFilter_ApplyTo to =
        t == MZ_XDS_CLUSTER ? ist_EnvoyFilter_ApplyTo_CLUSTER : ist_EnvoyFilter_ApplyTo_LISTENER;
    struct patcher x = { v, NULL, tr_patches(v), context, NULL };
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(&x, to, &i));)
        if ((p->op == ist_EnvoyFilter_Patch_Operation_ADD ||
             p->op == ist_EnvoyFilter_Patch_Operation_INSERT_FIRST ||
             p->op == ist_EnvoyFilter_Patch_Operation_INSERT_BEFORE ||
             p->op == ist_EnvoyFilter_Patch_Operation_INSERT_AFTER) &&
            p->value.p &&
            (p->context == context || context != ist_EnvoyFilter_PatchContext_SIDECAR_INBOUND))
            add_one(v, p, t, out);
}

/* Changes of each: all share what there is, which does not follow from one more or less. */
static size_t share_of(enum mz_xds_type t, size_t n)
{
    size_t all = 1;
    while (all < n)
        all *= 2;
    return t == MZ_XDS_ROUTE ? CHANGES_OF_TABLE : MAX_CHANGES / all;
}

void tr_patch_outs(struct mz_view *v, enum mz_xds_type t, struct mz_outs *out)
{
    size_t kept = 0;
    const size_t share = share_of(t, out->v.n);
    if ((t != MZ_XDS_CLUSTER && t != MZ_XDS_LISTENER && t != MZ_XDS_ROUTE) || !tr_patches(v)->n_v)
        return;
    for (size_t i = 0; i < out->v.n; i++) {
        struct mz_out *own = patched_once(v, t, out->v.v[i], share);
        mz_out_unref(out->v.v[i]);
        if (is_gone(own))
            mz_out_unref(own);
        else
            out->v.v[kept++] = own;
    }
    out->v.n = kept;
    if (t == MZ_XDS_ROUTE)
        return;
    if (v->proxy->type != MZ_PROXY_SIDECAR) {
        add_all(v, t, ist_EnvoyFilter_PatchContext_GATEWAY, out);
        return;
    }
    add_all(v, t, ist_EnvoyFilter_PatchContext_SIDECAR_OUTBOUND, out);
    add_all(v, t, ist_EnvoyFilter_PatchContext_SIDECAR_INBOUND, out);
}

struct mz_out *tr_patch_extension(struct mz_view *v, struct mz_str name)
{
    const struct tr_patches *all = tr_patches(v);
    for (size_t i = 0; i < all->n_v; i++) {
        const struct tr_patch *p = &all->v[i];
        if (p->to == ist_EnvoyFilter_ApplyTo_EXTENSION_CONFIG &&
            p->op == ist_EnvoyFilter_Patch_Operation_ADD && p->value.p && mz_str_eq(p->name, name))
            return mz_out_of_bytes(name, p->value);
    }
    return tr_extension(v, name);
}
