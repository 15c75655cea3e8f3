#include "control/translate/ingress.h"
#include "control/translate/patch.h"
#include "control/translate/proxyless.h"
#include "control/translate/scope.h"

#include <stdlib.h>

/* clang-format off */
static const struct type {
    const char *short_name;
    bool named;
    const ProtobufCMessageDescriptor *own; /* of a message that proxies do not know; else NULL */
} types[MZ_XDS_TYPE__COUNT] = {
    [MZ_XDS_CLUSTER]    = { "cds", false, NULL },
    [MZ_XDS_ENDPOINT]   = { "eds", true, NULL },
    [MZ_XDS_LISTENER]   = { "lds", false, NULL },
    [MZ_XDS_ROUTE]      = { "rds", true, NULL },
    [MZ_XDS_SECRET]     = { "sds", true, NULL },
    [MZ_XDS_EXTENSION]  = { "ecds", true, NULL },
    [MZ_XDS_NAME_TABLE] = { "nds", false, &ist_NameTable__descriptor },
};
/* clang-format on */

const ProtobufCMessageDescriptor *mz_translate_descriptor(enum mz_xds_type t)
{
    return types[t].own ? types[t].own : mz_xds_descriptor(t);
}

enum mz_xds_type mz_translate_type(struct mz_str type_url)
{
    const struct mz_str prefix = MZ_STR("type.googleapis.com/");
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++)
        if (types[t].short_name && mz_str_starts(type_url, prefix) &&
            mz_str_eq(mz_str_skip(type_url, prefix.n),
                      mz_str_c(mz_translate_descriptor((enum mz_xds_type)t)->name)))
            return (enum mz_xds_type)t;
    return MZ_XDS_TYPE__COUNT;
}

const char *mz_translate_short(enum mz_xds_type t)
{
    return types[t].short_name;
}

bool mz_translate_is_named(const struct mz_proxy *p, enum mz_xds_type t)
{
    return types[t].named || p->proxyless;
}

/* ---- the translator ---- */

struct mz_translator *mz_translator_create(const struct mz_features *f)
{
    struct mz_translator *t = mz_new0(MZ_MEM_XDS, struct mz_translator);
    t->features = *f;
    t->cache = mz_cache_create();
    t->fragments = mz_fragments_create();
    t->arena = mz_arena_create(MZ_MEM_XDS);
    t->sets = mz_sets_create();
    mz_map_init(&t->scopes, MZ_MEM_XDS);
    mz_map_init(&t->groups, MZ_MEM_XDS);
    mz_map_init(&t->told, MZ_MEM_XDS);
    mz_map_init(&t->telemetry, MZ_MEM_XDS);
    return t;
}

static void scopes_clear(struct mz_translator *t)
{
    tr_groups_clear(t, NULL);
    mz_map_foreach (it, &t->scopes)
        tr_scope_free(it->value);
    mz_map_fini(&t->scopes);
    mz_map_fini(&t->told);
    mz_map_fini(&t->telemetry);
    mz_arena_destroy(t->arena);
    tr_touches_clear(&t->touches);
}

void mz_translator_destroy(struct mz_translator *t)
{
    if (!t)
        return;
    scopes_clear(t);
    mz_model_unref(t->model);
    mz_cache_destroy(t->cache);
    mz_map_fini(&t->groups);
    mz_sets_destroy(t->sets);
    mz_fragments_destroy(t->fragments);
    mz_free(MZ_MEM_XDS, t);
}

void mz_translator_set_model(struct mz_translator *t, const struct mz_model *m)
{
    t->epoch++;
    if (t->model && tr_may_stay(t, m)) {
        const struct mz_model *before = t->model;
        mz_translator_stop_ahead(t);
        tr_touches_add(&t->touches, before, m);
        tr_scopes_follow(t, m);
        t->model = mz_model_ref(m);
        mz_model_unref(before);
        mz_cache_age(t->cache);
        return;
    }
    scopes_clear(t);
    mz_model_unref(t->model);
    t->model = mz_model_ref(m);
    t->arena = mz_arena_create(MZ_MEM_XDS);
    mz_map_init(&t->scopes, MZ_MEM_XDS);
    mz_map_init(&t->told, MZ_MEM_XDS);
    mz_map_init(&t->telemetry, MZ_MEM_XDS);
    mz_cache_age(t->cache);
}

uint64_t mz_translator_secrets_refused(const struct mz_translator *t)
{
    return t->secrets_refused;
}

struct mz_sets *mz_translator_sets(const struct mz_translator *t)
{
    return t->sets;
}

struct mz_cache_counts mz_translator_counts(const struct mz_translator *t)
{
    return mz_cache_counts(t->cache);
}

/* ---- views ---- */

static const struct mz_workload *workload_of(const struct mz_model *m, const struct mz_proxy *p,
                                             struct mz_arena *a)
{
    struct mz_str key = mz_arena_printf(a, "%.*s/%.*s", MZ_STR_ARG(p->ns), MZ_STR_ARG(p->name));
    const struct mz_workload *w = mz_index_get(m->by_workload, key);
    return w ? w : mz_index_get(m->by_address, p->ips[0]);
}

struct mz_view *mz_view_create(struct mz_translator *t, const struct mz_proxy *p)
{
    struct mz_view *v = mz_new0(MZ_MEM_XDS, struct mz_view);
    v->t = t;
    v->model = t->model;
    v->proxy = p;
    v->arena = mz_arena_create(MZ_MEM_XDS);
    v->exchange = t->features.metadata_exchange && !p->stock;
    v->alpn = t->features.alpn && !p->stock;
    v->workload = workload_of(v->model, p, v->arena);
    const struct mz_labels labels = v->workload ? v->workload->labels : p->labels;
    v->scope = tr_scope_of(
        t, p->ns, p->type == MZ_PROXY_SIDECAR ? mz_model_sidecar(v->model, p->ns, labels) : NULL);
    v->targets = mz_model_targets(v->model, p->ns, labels, v->workload, v->arena);
    v->ingress = tr_ingress(v);
    tr_group_join(v);
    return v;
}

/* A workload's own proxy may answer on other ports, and see others: it is looked at anew. */
static bool is_own(const struct mz_view *v, const struct mz_workload *w)
{
    return w == v->workload || mz_str_eq(w->address, v->proxy->ips[0]) ||
           (mz_str_eq(w->ns, v->proxy->ns) && mz_str_eq(w->name, v->proxy->name));
}

/* It answers for its workload, or did. */
static bool is_behind(const struct mz_view *v, const struct mz_service *s)
{
    return s && mz_str_eq(s->ns, v->proxy->ns) &&
           mz_labels_match(s->selector, v->workload ? v->workload->labels : v->proxy->labels);
}

bool mz_view_stays(const struct mz_view *v, const struct mz_model *next)
{
    if (!tr_may_stay(v->t, next) || v->scope->stale)
        return false;
    if (mz_model_is_same_but_endpoints(next, v->model))
        return true;
    if (!v->group || v->ingress)
        return false;
    for (size_t i = 0; i < next->workloads_n; i++)
        if (is_own(v, next->workloads[i]))
            return false;
    for (size_t i = 0; i < next->patched_n; i++)
        if (is_behind(v, next->patched[i].was) || is_behind(v, next->patched[i].is))
            return false;
    for (size_t i = 0; i < next->rules_patched_n; i++)
        if (is_behind(v, mz_model_service(next, next->rules_patched[i].host)))
            return false;
    return true;
}

void mz_view_renew(struct mz_view *v)
{
    v->model = v->t->model;
}

bool mz_view_by_name(const struct mz_view *v)
{
    return v->proxy->proxyless;
}

bool mz_view_answers_dns(const struct mz_view *v)
{
    return v->proxy->auto_addresses;
}

void mz_view_destroy(struct mz_view *v)
{
    if (!v)
        return;
    mz_outs_fini(&v->own);
    mz_set_unref(v->made_of);
    mz_set_unref(v->made);
    mz_arena_destroy(v->arena);
    mz_free(MZ_MEM_XDS, v);
}

/* ---- answers ---- */

void mz_outs_fini(struct mz_outs *o)
{
    mz_vec_foreach (it, &o->v)
        mz_out_unref(*it);
    mz_vec_free(&o->v, MZ_MEM_XDS);
}

static int compare(const void *a, const void *b)
{
    const struct mz_out *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->name, (*y)->name);
}

/* What only this view has made, shared with those who made the same: replicas of a workload, mostly. */
struct mz_out *tr_share(struct mz_view *v, struct mz_out *o)
{
    struct mz_key k;
    mz_key_init(&k, 'i');
    mz_key_str(&k, o->name);
    mz_key_u64(&k, o->version);
    struct mz_out *same = mz_cache_get(v->t->cache, &k);
    if (!same) {
        mz_cache_put(v->t->cache, &k, o);
        return o;
    }
    mz_out_unref(o);
    return same;
}

static void share(struct mz_view *v, struct mz_outs *out)
{
    mz_vec_foreach (o, &out->v)
        if ((*o)->slice.refs == 1)
            *o = tr_share(v, *o);
}

/* Builders make each name once. */
static void sort(struct mz_outs *o)
{
    mz_sort(o->v.v, o->v.n, sizeof(*o->v.v), compare);
}

static struct mz_out *named(struct mz_view *v, enum mz_xds_type t, struct mz_str name)
{
    switch (t) {
    case MZ_XDS_ENDPOINT:
        return tr_endpoints(v, name);
    case MZ_XDS_ROUTE:
        return tr_routes(v, name);
    case MZ_XDS_EXTENSION:
        return tr_patch_extension(v, name);
    case MZ_XDS_SECRET:
        return tr_secret(v, name);
    case MZ_XDS_CLUSTER:
        return tr_proxyless_cluster(v, name);
    case MZ_XDS_LISTENER:
        return tr_proxyless_listener(v, name);
    default:
        return NULL;
    }
}

static void all_of(struct mz_view *v, enum mz_xds_type t, struct mz_outs *out)
{
    if (t == MZ_XDS_CLUSTER) {
        tr_clusters_outbound(v, out);
        tr_clusters_own(v, out);
    }
    if (t == MZ_XDS_LISTENER)
        tr_listeners(v, out);
    if (t == MZ_XDS_NAME_TABLE)
        tr_names(v, out);
}

void mz_translate(struct mz_view *v, enum mz_xds_type t, const struct mz_str *names, size_t n,
                  struct mz_outs *out)
{
    const bool by_name = mz_translate_is_named(v->proxy, t);
    if (!by_name)
        all_of(v, t, out);
    for (size_t i = 0; by_name && i < n; i++) {
        struct mz_out *o = named(v, t, names[i]);
        if (o)
            *mz_vec_push(&out->v, MZ_MEM_XDS) = o;
    }
    if (!v->proxy->proxyless) /* patches are for Envoy's resources */
        tr_patch_outs(v, t, out);
    if (t != MZ_XDS_SECRET) /* those are found by their documents, and never by hashes */
        share(v, out);
    sort(out);
}

struct mz_set *tr_set_of(struct mz_view *v, struct mz_outs *o)
{
    share(v, o);
    sort(o);
    struct mz_set *s = mz_set_create(v->t->sets, o->v.v, o->v.n);
    mz_outs_fini(o);
    return s;
}

/* What all of the group have, and its own. */
static struct mz_set *clusters(struct mz_view *v)
{
    const struct mz_set *of = tr_group_clusters(v);
    MZ_VEC(struct mz_set_edit) e = { 0 };
    if (v->made_of == of)
        return mz_set_ref(v->made);
    if (!v->own.v.n) {
        tr_clusters_own(v, &v->own);
        share(v, &v->own);
        sort(&v->own);
    }
    mz_vec_foreach (it, &v->own.v)
        *mz_vec_push(&e, MZ_MEM_XDS) = (struct mz_set_edit){ (*it)->name, *it };
    mz_set_unref(v->made_of);
    mz_set_unref(v->made);
    v->made_of = mz_set_ref(of);
    v->made = mz_set_edit(v->t->sets, of, e.v, e.n);
    mz_vec_free(&e, MZ_MEM_XDS);
    return mz_set_ref(v->made);
}

struct mz_set *mz_view_all(struct mz_view *v, enum mz_xds_type t)
{
    struct mz_outs o = { 0 };
    if (t == MZ_XDS_CLUSTER && v->group)
        return clusters(v);
    if (t == MZ_XDS_NAME_TABLE && v->group)
        return mz_set_ref(tr_group_names(v));
    mz_translate(v, t, NULL, 0, &o);
    return tr_set_of(v, &o);
}

char *tr_cluster_name(struct mz_arena *a, const char *direction, uint16_t port,
                      struct mz_str subset, struct mz_str host)
{
    char number[20];
    const struct mz_str bar = MZ_STR("|");
    return TR_CAT(a, mz_str_c(direction), bar, tr_number(port, number), bar, subset, bar, host);
}

char *tr_sni_cluster_name(struct mz_arena *a, uint16_t port, struct mz_str subset,
                          struct mz_str host)
{
    char number[20];
    const struct mz_str between = MZ_STR("_.");
    return TR_CAT(a, MZ_STR("outbound_."), tr_number(port, number), between, subset, between, host);
}

bool tr_cluster_name_parse(struct mz_str name, struct tr_subset_key *out)
{
    const bool sni = mz_str_starts(name, MZ_STR("outbound_."));
    const struct mz_str between = sni ? MZ_STR("_.") : MZ_STR("|");
    struct mz_str parts[3] = { { 0 } };
    uint64_t port;
    for (unsigned i = 0; i < 3; i++) {
        const ptrdiff_t at = mz_str_find(name, between);
        if (at < 0)
            return false;
        parts[i] = (struct mz_str){ name.p, (size_t)at };
        name = mz_str_skip(name, (size_t)at + between.n);
    }
    if (mz_str_find(name, between) >= 0 || !mz_str_u64(parts[1], &port) || port > UINT16_MAX)
        return false;
    *out = (struct tr_subset_key){ parts[0], parts[2], name, (uint16_t)port, sni };
    return true;
}
