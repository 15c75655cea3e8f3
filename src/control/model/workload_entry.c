/* WorkloadEntries: machines and whatever else has no pod. */
#include "control/model/workload_entry.h"

#include "control/model/model_priv.h"

static struct mz_str dup_c(struct model_draft *d, const char *s)
{
    return mz_arena_dup(d->m->arena, mz_str_c(s));
}

/* Those of the metadata win. */
static struct mz_labels join_labels(struct model_draft *d, struct mz_labels more,
                                    struct mz_labels l)
{
    struct mz_label *v = mz_arena_alloc(d->scratch, (more.n + l.n) * sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < l.n; i++)
        v[n++] = l.v[i];
    for (size_t i = 0; i < more.n; i++)
        if (!model_has_label(l, more.v[i].key))
            v[n++] = more.v[i];
    return mz_labels_make(d->m->arena, v, n);
}

static struct mz_labels ports(struct model_draft *d, const ist_WorkloadEntry *e)
{
    struct mz_label *v = mz_arena_alloc(d->scratch, e->n_ports * sizeof(*v));
    for (size_t i = 0; i < e->n_ports; i++)
        v[i] = (struct mz_label){ dup_c(d, e->ports[i]->key),
                                  mz_arena_printf(d->m->arena, "%u", e->ports[i]->value) };
    return mz_labels_make(d->m->arena, v, e->n_ports);
}

/* As the label says; without one a machine with an account is one of the mesh. */
static bool is_of_mesh(const struct mz_workload *w)
{
    const struct mz_str mode = mz_label_get(w->labels, "security.istio.io/tlsMode");
    return mode.n ? mz_str_eq(mode, MZ_STR("istio")) : w->account.n != 0;
}

struct mz_workload *model_workload_entry(struct model_draft *d, const ist_WorkloadEntry *e,
                                         struct mz_str ns, struct mz_str name,
                                         struct mz_labels labels)
{
    struct mz_workload *w = mz_arena_new0(d->m->arena, struct mz_workload);
    w->name = w->owner = mz_arena_dup(d->m->arena, name);
    w->ns = mz_arena_dup(d->m->arena, ns);
    w->address = dup_c(d, e->address);
    w->labels =
        join_labels(d, model_labels(d, (const void *const *)e->labels, e->n_labels), labels);
    w->ports = ports(d, e);
    w->weight = e->weight;
    if (e->service_account[0])
        w->account = mz_arena_printf(d->m->arena, "spiffe://%.*s/ns/%.*s/sa/%s",
                                     MZ_STR_ARG(d->m->mesh.trust_domain), MZ_STR_ARG(ns),
                                     e->service_account);
    struct mz_str where = e->locality[0] ? mz_arena_dup(d->m->arena, mz_str_c(e->locality))
                                         : mz_label_get(w->labels, "istio-locality");
    w->locality = model_locality(where);
    w->mtls = is_of_mesh(w);
    w->hash = model_hash_workload(w);
    return w;
}

static void add(struct model_draft *d, const struct mz_doc *doc)
{
    const ist_WorkloadEntry *e = (const ist_WorkloadEntry *)mz_doc_body(doc, d->scratch);
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, d->scratch);
    struct mz_workload *w =
        model_workload_entry(d, e, doc->ns, doc->name,
                             model_labels(d, (const void *const *)meta->labels, meta->n_labels));
    struct mz_str key =
        mz_arena_printf(d->m->arena, "%.*s/%.*s", MZ_STR_ARG(doc->ns), MZ_STR_ARG(doc->name));
    *mz_vec_push(&d->machines, MZ_MEM_CONFIG) = w;
    if (!mz_index_get(d->m->by_workload, key))
        (void)mz_index_put(&d->m->by_workload, key, w);
    if (w->address.n && !mz_index_get(d->m->by_address, w->address))
        (void)mz_index_put(&d->m->by_address, w->address, w);
}

void model_add_workload_entries(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *v = model_docs(d, MZ_KIND_WORKLOAD_ENTRY, &n);
    for (size_t i = 0; i < n; i++)
        add(d, v[i]);
}
