#include "control/model/attached.h"

#include <stdlib.h>

#include "control/model/model_priv.h"

static int compare_docs(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->name, (*y)->name);
    return c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
}

const struct mz_doc *const *model_oldest_first(struct model_draft *d, enum mz_kind k, size_t *out_n)
{
    const struct mz_doc *const *docs = model_docs(d, k, out_n);
    const struct mz_doc **v = mz_arena_alloc(d->scratch, *out_n * sizeof(*v));
    if (*out_n) {
        memcpy(v, docs, *out_n * sizeof(*v));
        qsort(v, *out_n, sizeof(*v), compare_docs);
    }
    return v;
}

/* ---- what each kind calls them ---- */

struct mz_labels model_selector(struct mz_arena *a, const ist_WorkloadSelector *s)
{
    const size_t n = s ? s->n_match_labels : 0;
    struct mz_label *v = mz_arena_alloc(a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (struct mz_label){ mz_str_c(s->match_labels[i]->key),
                                  mz_str_c(s->match_labels[i]->value) };
    return mz_labels_make(a, v, n);
}

/* The older spelling, of the networking group. */
static struct mz_labels workload_selector(struct mz_arena *a, const ist_EnvoyFilter *m)
{
    const ist_EnvoyFilter_WorkloadSelector *s = m->workload_selector;
    const size_t n = s ? s->n_labels : 0;
    struct mz_label *v = mz_arena_alloc(a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (struct mz_label){ mz_str_c(s->labels[i]->key), mz_str_c(s->labels[i]->value) };
    return mz_labels_make(a, v, n);
}

struct targeting { /* of one document */
    const ist_WorkloadSelector *selector;
    ist_PolicyTargetReference *const *one; /* the older spelling, for a single one */
    ist_PolicyTargetReference *const *many;
    size_t many_n;
};
#define TARGETING(m)                                                                               \
    (struct targeting)                                                                             \
    {                                                                                              \
        (m)->selector, (m)->targetref ? &(m)->targetref : NULL, (m)->targetrefs, (m)->n_targetrefs \
    }

static struct targeting targeting_of(enum mz_kind k, const ProtobufCMessage *m)
{
    if (k == MZ_KIND_AUTHORIZATION_POLICY)
        return TARGETING((const ist_AuthorizationPolicy *)m);
    if (k == MZ_KIND_REQUEST_AUTHENTICATION)
        return TARGETING((const ist_RequestAuthentication *)m);
    if (k == MZ_KIND_ENVOY_FILTER)
        return (struct targeting){ .many = ((const ist_EnvoyFilter *)m)->targetrefs,
                                   .many_n = ((const ist_EnvoyFilter *)m)->n_targetrefs };
    if (k == MZ_KIND_TELEMETRY)
        return TARGETING((const ist_Telemetry *)m);
    if (k == MZ_KIND_WASM_PLUGIN)
        return TARGETING((const ist_WasmPlugin *)m);
    if (k == MZ_KIND_TRAFFIC_EXTENSION) {
        const ist_TrafficExtension *t = (const ist_TrafficExtension *)m;
        return (struct targeting){ t->selector, NULL, t->targetrefs, t->n_targetrefs };
    }
    return (struct targeting){ 0 };
}

/* ---- building ---- */

static struct mz_labels annotations_of(struct mz_arena *a, const struct mz_doc *doc)
{
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, a);
    struct mz_label *v = mz_arena_alloc(a, meta->n_annotations * sizeof(*v));
    for (size_t i = 0; i < meta->n_annotations; i++)
        v[i] = (struct mz_label){ mz_str_c(meta->annotations[i]->key),
                                  mz_str_c(meta->annotations[i]->value) };
    return mz_labels_make(a, v, meta->n_annotations);
}

static void build_one(struct mz_arena *a, const struct mz_doc *doc, struct mz_attached *out)
{
    *out = (struct mz_attached){ .ns = mz_arena_dup(a, doc->ns),
                                 .name = mz_arena_dup(a, doc->name),
                                 .key = mz_arena_dup(a, doc->key),
                                 .created = mz_arena_dup(a, doc->created),
                                 .annotations = annotations_of(a, doc),
                                 .m = mz_doc_body(doc, a),
                                 .version = doc->version };
    const struct targeting t = targeting_of(doc->kind, out->m);
    out->selector = doc->kind == MZ_KIND_ENVOY_FILTER
                        ? workload_selector(a, (const ist_EnvoyFilter *)out->m)
                        : model_selector(a, t.selector);
    out->targets = (const ist_PolicyTargetReference *const *)(t.many_n ? t.many : t.one);
    out->targets_n = t.many_n ? t.many_n : t.one != NULL;
}

static void add_kind(struct model_draft *d, enum mz_kind k)
{
    struct mz_attached_list *list = &d->m->attached[k];
    const struct mz_doc *const *docs = model_oldest_first(d, k, &list->n);
    struct mz_attached *v = mz_arena_alloc(d->m->arena, list->n * sizeof(*v));
    for (size_t i = 0; i < list->n; i++) {
        build_one(d->m->arena, docs[i], &v[i]);
        list->hash =
            mz_xxh64(&docs[i]->version, sizeof(uint64_t), model_hash_str(list->hash, docs[i]->key));
    }
    list->v = v;
    d->m->attached_hash = mz_xxh64(&list->hash, sizeof(list->hash), d->m->attached_hash);
}

void model_add_attached(struct model_draft *d)
{
    add_kind(d, MZ_KIND_AUTHORIZATION_POLICY);
    add_kind(d, MZ_KIND_REQUEST_AUTHENTICATION);
    add_kind(d, MZ_KIND_KEYS);
    add_kind(d, MZ_KIND_TELEMETRY);
    add_kind(d, MZ_KIND_PROXY_CONFIG); /* for the injector: no proxy is sent any */
    add_kind(d, MZ_KIND_ENVOY_FILTER);
    add_kind(d, MZ_KIND_WASM_PLUGIN);
    add_kind(d, MZ_KIND_TRAFFIC_EXTENSION);
}

/* ---- questions ---- */

static bool names_gateway(const ist_PolicyTargetReference *t, const struct mz_attached *d,
                          const struct mz_attach_to *to, struct mz_str gateway)
{
    return mz_str_eq(mz_str_c(t->group), MZ_STR("gateway.networking.k8s.io")) &&
           mz_str_eq(mz_str_c(t->kind), MZ_STR("Gateway")) &&
           mz_str_eq(mz_str_c(t->name), gateway) && mz_str_eq(d->ns, to->ns) &&
           (!t->namespace_[0] || mz_str_eq(mz_str_c(t->namespace_), to->ns));
}

bool mz_attached_is_for(const struct mz_attached *d, const struct mz_attach_to *to)
{
    const struct mz_str gateway =
        mz_label_get(to->labels, "gateway.networking.k8s.io/gateway-name");
    if (!d->targets_n)
        return !d->selector.n || mz_labels_match(d->selector, to->labels);
    for (size_t i = 0; gateway.n && i < d->targets_n; i++)
        if (names_gateway(d->targets[i], d, to, gateway))
            return true;
    return false;
}

const char *mz_model_keys(const struct mz_model *m, const ist_JWTRule *r)
{
    const struct mz_attached_list *list = &m->attached[MZ_KIND_KEYS];
    for (size_t i = 0; i < list->n; i++) {
        const ist_JWTRule *k = (const ist_JWTRule *)list->v[i].m;
        if (r->jwks_uri[0] ? strcmp(k->jwks_uri, r->jwks_uri) == 0
                           : !k->jwks_uri[0] && strcmp(k->issuer, r->issuer) == 0)
            return k->jwks;
    }
    return NULL;
}

void mz_model_attached(const struct mz_model *m, enum mz_kind k, struct mz_str ns,
                       const struct mz_attach_to *to, struct mz_attached_refs *out)
{
    const struct mz_attached_list *list = &m->attached[k];
    for (size_t i = 0; i < list->n; i++)
        if (mz_str_eq(list->v[i].ns, ns) && mz_attached_is_for(&list->v[i], to))
            *mz_vec_push(&out->v, MZ_MEM_CONFIG) = &list->v[i];
}

void mz_model_attached_all(const struct mz_model *m, enum mz_kind k, const struct mz_attach_to *to,
                           bool own_first, struct mz_attached_refs *out)
{
    const struct mz_str root = m->mesh.root_ns;
    mz_model_attached(m, k, own_first ? to->ns : root, to, out);
    if (!mz_str_eq(root, to->ns))
        mz_model_attached(m, k, own_first ? root : to->ns, to, out);
}
