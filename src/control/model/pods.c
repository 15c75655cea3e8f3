/* Pods: workloads, and endpoints of services that no document has endpoints of. */
#include <stdlib.h>

#include "control/model/model_priv.h"

static struct mz_str dup_c(struct model_draft *d, const char *s)
{
    return mz_arena_dup(d->m->arena, mz_str_c(s));
}

static struct mz_labels labels_of(struct model_draft *d, const k8s_ObjectMeta *meta)
{
    return model_labels(d, (const void *const *)meta->labels, meta->n_labels);
}

/* ---- nodes ---- */

static struct mz_str first_label(struct mz_labels l, const char *key, const char *older)
{
    struct mz_str v = mz_label_get(l, key);
    return v.n ? v : mz_label_get(l, older);
}

static struct mz_locality node_locality(struct mz_labels l)
{
    return (struct mz_locality){
        first_label(l, "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
        first_label(l, "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        mz_label_get(l, "topology.istio.io/subzone")
    };
}

static void add_nodes(struct model_draft *d, struct mz_map *out)
{
    size_t n;
    const struct mz_doc *const *v = mz_store_list(d->store, MZ_KIND_NODE, &n);
    for (size_t i = 0; i < n; i++) {
        const k8s_ObjectMeta *meta = mz_doc_meta(v[i], d->scratch);
        struct mz_locality *l = mz_arena_new0(d->scratch, struct mz_locality);
        *l = node_locality(labels_of(d, meta));
        (void)mz_map_put(out, mz_arena_dup(d->scratch, v[i]->name), l);
    }
}

/* ---- who made a pod ---- */

static const k8s_OwnerReference *controller(const k8s_ObjectMeta *m)
{
    for (size_t i = 0; i < m->n_ownerreferences; i++)
        if (m->ownerreferences[i]->controller)
            return m->ownerreferences[i];
    return NULL;
}

/* "shop-1234567890" of a CronJob: what is in front of 8 to 10 digits. */
static struct mz_str of_cron_job(struct mz_str job)
{
    const ptrdiff_t dash = mz_str_rchr(job, '-');
    uint64_t n;
    if (dash <= 0)
        return job;
    const struct mz_str digits = mz_str_skip(job, (size_t)dash + 1);
    return digits.n >= 8 && digits.n <= 10 && mz_str_u64(digits, &n)
               ? (struct mz_str){ job.p, (size_t)dash }
               : job;
}

static struct mz_str without_hash(struct mz_str name, struct mz_str hash)
{
    if (hash.n && name.n > hash.n + 1 && mz_str_ends(name, hash) &&
        name.p[name.n - hash.n - 1] == '-')
        name.n -= hash.n + 1;
    return name;
}

/* As Istio guesses it: what made the ReplicaSet or the Job whose pod has a name that was made up. */
static struct mz_str owner(const k8s_ObjectMeta *m, struct mz_labels l)
{
    static const char *const hashes[] = { "pod-template-hash", "rollouts-pod-template-hash" };
    const k8s_OwnerReference *by = m->generatename[0] ? controller(m) : NULL;
    const struct mz_str said = mz_label_get(l, "service.istio.io/workload-name"),
                        config = mz_label_get(l, "deploymentconfig");
    struct mz_str name = mz_str_c(by && by->name[0] ? by->name : m->name);
    if (said.n)
        return said;
    if (by && strcmp(by->kind, "ReplicaSet") == 0)
        return without_hash(name, mz_labels_first(l, hashes, MZ_COUNT(hashes), MZ_STR("")));
    if (by && strcmp(by->kind, "ReplicationController") == 0 && config.n)
        return config;
    return by && strcmp(by->kind, "Job") == 0 ? of_cron_job(name) : name;
}

/* ---- pods ---- */

struct named { /* ports of containers: of one name the first counts */
    MZ_VEC(struct mz_label) v;
    struct mz_map had; /* where there are many */
};

static bool is_named(struct named *p, struct mz_str name)
{
    enum { FEW = 16 };
    if (p->v.n <= FEW) {
        for (size_t i = 0; i < p->v.n; i++)
            if (mz_str_eq(p->v.v[i].key, name))
                return true;
        return false;
    }
    for (size_t i = p->had.n; i < p->v.n; i++)
        (void)mz_map_put(&p->had, p->v.v[i].key, p);
    return mz_map_get(&p->had, name) != NULL;
}

static void add_ports(struct model_draft *d, const k8s_Container *c, struct named *p)
{
    for (size_t k = 0; k < c->n_ports; k++)
        if (c->ports[k]->name[0] && !is_named(p, mz_str_c(c->ports[k]->name)))
            *mz_vec_push(&p->v, MZ_MEM_CONFIG) =
                (struct mz_label){ dup_c(d, c->ports[k]->name),
                                   mz_arena_printf(d->m->arena, "%d", c->ports[k]->containerport) };
}

static struct mz_labels container_ports(struct model_draft *d, const k8s_PodSpec *spec)
{
    struct named v = { 0 };
    mz_map_init(&v.had, MZ_MEM_CONFIG);
    for (size_t i = 0; spec && i < spec->n_containers; i++)
        add_ports(d, spec->containers[i], &v);
    for (size_t i = 0; spec && i < spec->n_initcontainers; i++)
        if (strcmp(spec->initcontainers[i]->restartpolicy, "Always") == 0) /* it stays */
            add_ports(d, spec->initcontainers[i], &v);
    struct mz_labels l = mz_labels_make(d->m->arena, v.v.v, v.v.n);
    mz_vec_free(&v.v, MZ_MEM_CONFIG);
    mz_map_fini(&v.had);
    return l;
}

/* Where nobody has said anything of readiness, as a document by hand may be, a pod that runs is ready. */
static bool is_ready(const k8s_PodStatus *s)
{
    for (size_t i = 0; s && i < s->n_conditions; i++)
        if (strcmp(s->conditions[i]->type, "Ready") == 0)
            return strcmp(s->conditions[i]->status, "True") == 0;
    return s && (!s->phase[0] || strcmp(s->phase, "Running") == 0);
}

static void take_ip(struct model_pod *p, struct mz_str text, struct mz_arena *a)
{
    struct mz_addr ip;
    if (!mz_addr_parse_ip(text, 0, &ip))
        return;
    struct mz_str *at = &p->ip[ip.sa.sa_family == AF_INET6];
    if (!at->n)
        *at = mz_arena_dup(a, text);
}

static struct model_pod pod_state(struct model_draft *d, const k8s_ObjectMeta *meta,
                                  const k8s_PodStatus *s, struct mz_workload *w)
{
    struct model_pod p = { .w = w, .ready = is_ready(s), .leaving = meta->deletiontimestamp[0] };
    take_ip(&p, w->address, d->m->arena);
    for (size_t i = 0; s && i < s->n_podips; i++)
        take_ip(&p, mz_str_c(s->podips[i]->ip), d->m->arena);
    return p;
}

static struct mz_locality locality_of(struct model_draft *d, const struct mz_map *nodes,
                                      const char *node)
{
    const struct mz_locality *l = nodes ? mz_map_get(nodes, mz_str_c(node)) : NULL;
    const struct mz_doc *doc =
        nodes ? NULL : mz_store_get(d->store, mz_arena_printf(d->scratch, "Node/%s", node));
    if (!doc)
        return l ? *l : (struct mz_locality){ 0 };
    return node_locality(labels_of(d, mz_doc_meta(doc, d->scratch)));
}

static void take_spec(struct model_draft *d, struct mz_workload *w, const k8s_PodSpec *spec,
                      const struct mz_map *nodes)
{
    const struct mz_str said = mz_label_get(w->labels, "istio-locality");
    const char *account =
        spec && spec->serviceaccountname[0] ? spec->serviceaccountname : "default";
    w->account = mz_arena_printf(d->m->arena, "spiffe://%.*s/ns/%.*s/sa/%s",
                                 MZ_STR_ARG(d->m->mesh.trust_domain), MZ_STR_ARG(w->ns), account);
    w->ports = container_ports(d, spec);
    w->locality = said.n ? model_locality(said)
                  : spec ? locality_of(d, nodes, spec->nodename)
                         : (struct mz_locality){ 0 };
    if (!spec)
        return;
    w->hostname = dup_c(d, spec->hostname);
    w->subdomain = dup_c(d, spec->subdomain);
    w->node = dup_c(d, spec->nodename);
}

struct mz_workload *model_make_pod(struct model_draft *d, const struct mz_doc *doc,
                                   const struct mz_map *nodes)
{
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, d->scratch);
    const k8s_Pod *pod = (const k8s_Pod *)mz_doc_body(doc, d->scratch);
    const k8s_PodStatus *status = pod->status;
    const char *phase = status ? status->phase : "";
    struct mz_workload *w = mz_arena_new0(d->m->arena, struct mz_workload);
    w->name = dup_c(d, meta->name);
    w->ns = dup_c(d, meta->namespace_);
    w->labels = labels_of(d, meta);
    w->owner = mz_arena_dup(d->m->arena, owner(meta, w->labels));
    w->pod = true;
    take_spec(d, w, pod->spec, nodes);
    w->mtls = mz_str_eq(mz_label_get(w->labels, "security.istio.io/tlsMode"), MZ_STR("istio"));
    w->gone = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    if (status)
        w->address = dup_c(d, status->podip[0]   ? status->podip
                              : status->n_podips ? status->podips[0]->ip
                                                 : "");
    w->hash = model_hash_workload(w);
    return w;
}

static void add_pod(struct model_draft *d, const struct mz_doc *doc, const struct mz_map *nodes)
{
    struct mz_model *m = d->m;
    struct mz_workload *w = model_make_pod(d, doc, nodes);
    (void)mz_index_put(
        &m->by_workload,
        mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(w->ns), MZ_STR_ARG(w->name)), w);
    if (!w->address.n || w->gone)
        return;
    *mz_vec_push(&d->pods, MZ_MEM_CONFIG) =
        pod_state(d, mz_doc_meta(doc, d->scratch),
                  ((const k8s_Pod *)mz_doc_body(doc, d->scratch))->status, w);
    if (mz_index_get(m->by_address, w->address))
        (void)mz_index_put(&m->crowded, w->address, w);
    else
        (void)mz_index_put(&m->by_address, w->address, w);
}

void model_add_pods(struct model_draft *d)
{
    size_t n;
    struct mz_map nodes;
    mz_map_init(&nodes, MZ_MEM_CONFIG);
    add_nodes(d, &nodes);
    const struct mz_doc *const *pods = model_docs(d, MZ_KIND_POD, &n);
    for (size_t i = 0; i < n; i++)
        add_pod(d, pods[i], &nodes);
    mz_map_fini(&nodes);
}

/* ---- endpoints ---- */

/* Pods that have the first label of some service's selector; key "ns/key=value". */
struct selected {
    MZ_VEC(size_t) pods; /* in the draft's list */
};

static struct mz_str pair_key(struct model_draft *d, struct mz_str ns, struct mz_label l)
{
    return mz_arena_printf(d->scratch, "%.*s/%.*s=%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(l.key),
                           MZ_STR_ARG(l.value));
}

static bool has_documents(struct model_draft *d, const struct mz_service *s)
{
    size_t n;
    (void)mz_store_of(
        d->store, mz_arena_printf(d->scratch, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->name)),
        &n);
    return n != 0;
}

static void note_pairs(struct model_draft *d, size_t i)
{
    const struct mz_workload *w = d->pods.v[i].w;
    for (size_t k = 0; k < w->labels.n; k++) {
        struct selected *l = mz_map_get(&d->selected, pair_key(d, w->ns, w->labels.v[k]));
        if (l)
            *mz_vec_push(&l->pods, MZ_MEM_CONFIG) = i;
    }
}

void model_select_pods(struct model_draft *d)
{
    mz_vec_foreach (it, &d->services) {
        const struct mz_service *s = *it;
        if (!s->selector.n || has_documents(d, s))
            continue;
        struct mz_str key = pair_key(d, s->ns, s->selector.v[0]);
        if (!mz_map_get(&d->selected, key))
            (void)mz_map_put(&d->selected, key, mz_arena_new0(d->scratch, struct selected));
    }
    for (size_t i = 0; d->selected.n && i < d->pods.n; i++)
        note_pairs(d, i);
}

void model_forget_selected(struct model_draft *d)
{
    mz_map_foreach (it, &d->selected) {
        struct selected *l = it->value;
        mz_vec_free(&l->pods, MZ_MEM_CONFIG);
    }
    mz_map_fini(&d->selected);
}

/* Families of its addresses where it does not say which; 0: the pod's own. */
static unsigned families_of(const struct mz_service *s)
{
    unsigned f = s->families;
    struct mz_addr ip;
    for (size_t i = 0; !s->families && i < s->addresses_n; i++)
        if (mz_addr_parse_ip(s->addresses[i], 0, &ip))
            f |= ip.sa.sa_family == AF_INET6 ? MZ_FAMILY_IPV6 : MZ_FAMILY_IPV4;
    return f;
}

static void add_at(const struct mz_service *s, struct model_gathered *g, const struct model_pod *p,
                   struct mz_str ip)
{
    const enum mz_health health = s->unready || (p->ready && !p->leaving) ? MZ_HEALTHY
                                  : p->leaving                            ? MZ_TERMINATING
                                                                          : MZ_UNHEALTHY;
    for (size_t k = 0; ip.n && k < s->ports_n; k++) {
        const uint16_t number = model_port_of_pod(&s->ports[k], p->w->ports);
        if (number)
            model_gather_put(g, k, (struct mz_endpoint){ ip, number, health, p->w });
    }
}

static void add_one(const struct mz_service *s, struct model_gathered *g, const struct model_pod *p)
{
    const unsigned f = families_of(s);
    if (!mz_labels_match(s->selector, p->w->labels))
        return;
    if (!f)
        add_at(s, g, p, p->w->address);
    if (f & MZ_FAMILY_IPV4)
        add_at(s, g, p, p->ip[0]);
    if (f & MZ_FAMILY_IPV6)
        add_at(s, g, p, p->ip[1]);
}

/* Many services may have it behind them: its document is opened once. */
static const struct model_pod *state_of(struct model_draft *d, const struct mz_doc *doc,
                                        struct mz_workload *w)
{
    struct model_pod *p = mz_map_get(&d->states, doc->key);
    if (!p) {
        const k8s_Pod *pod = (const k8s_Pod *)mz_doc_body(doc, d->scratch);
        p = mz_arena_new0(d->scratch, struct model_pod);
        *p = pod_state(d, mz_doc_meta(doc, d->scratch), pod->status, w);
        (void)mz_map_put(&d->states, doc->key, p);
    }
    return p;
}

/* A model on another has no list of pods: those of the namespace are looked through. */
static void scan(struct model_draft *d, const struct mz_service *s, struct model_gathered *g)
{
    size_t n, i = 0;
    const struct mz_doc *const *v = mz_store_list(d->store, MZ_KIND_POD, &n);
    for (size_t hi = n; i < hi;) {
        const size_t mid = (i + hi) / 2;
        if (mz_str_cmp(v[mid]->ns, s->ns) < 0)
            i = mid + 1;
        else
            hi = mid;
    }
    for (; i < n && mz_str_eq(v[i]->ns, s->ns); i++) {
        struct mz_workload *w =
            mz_index_get(d->m->by_workload, mz_str_skip(v[i]->key, strlen("Pod/")));
        if (!w || w->gone || !w->address.n || !mz_labels_match(s->selector, w->labels))
            continue;
        add_one(s, g, state_of(d, v[i], w));
    }
}

void model_gather_pods(struct model_draft *d, const struct mz_service *s, struct model_gathered *g)
{
    if (!s->selector.n || s->resolution == MZ_RESOLVE_ALIAS)
        return;
    if (d->m->on) {
        scan(d, s, g);
        return;
    }
    const struct selected *l = mz_map_get(&d->selected, pair_key(d, s->ns, s->selector.v[0]));
    for (size_t i = 0; l && i < l->pods.n; i++)
        add_one(s, g, &d->pods.v[l->pods.v[i]]);
}
