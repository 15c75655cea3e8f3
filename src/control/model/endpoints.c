/* Workloads and endpoints of services, whichever platform they come from. */
#include <stdlib.h>

#include "base/log.h"
#include "control/model/model_priv.h"

/* ---- workloads ---- */

/* Every map<string, string> of one generated type looks alike. */
struct mz_labels model_labels(struct model_draft *d, const void *const *entries, size_t n)
{
    struct mz_label *v = mz_arena_alloc(d->scratch, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const k8s_ObjectMeta_LabelsEntry *e = entries[i];
        v[i] = (struct mz_label){ mz_arena_dup(d->m->arena, mz_str_c(e->key)),
                                  mz_arena_dup(d->m->arena, mz_str_c(e->value)) };
    }
    return mz_labels_make(d->m->arena, v, n);
}

/* "region.zone.subzone", or with slashes where there is one. */
struct mz_locality model_locality(struct mz_str text)
{
    struct mz_locality l = { 0 };
    const char sep = mz_str_chr(text, '/') >= 0 ? '/' : '.';
    struct mz_str rest = text;
    (void)(mz_str_split(&rest, sep, &l.region) && mz_str_split(&rest, sep, &l.zone) &&
           mz_str_split(&rest, sep, &l.subzone)); /* what is not there stays empty */
    return l;
}

uint64_t model_hash_workload(const struct mz_workload *w)
{
    const struct mz_str parts[] = { w->name,          w->ns,
                                    w->address,       w->account,
                                    w->owner,         w->locality.region,
                                    w->locality.zone, w->locality.subzone,
                                    w->hostname,      w->subdomain,
                                    w->node };
    uint64_t h = w->mtls + 2 * (uint64_t)w->weight;
    for (size_t i = 0; i < MZ_COUNT(parts); i++)
        h = model_hash_str(h, parts[i]);
    return model_hash_labels(model_hash_labels(h, w->labels), w->ports);
}

uint16_t model_port_on(const struct mz_port *p, struct mz_labels names)
{
    uint64_t n;
    const struct mz_str said = model_label(names, p->target ? p->name : p->target_name);
    return mz_str_u64(said, &n) && n && n <= UINT16_MAX ? (uint16_t)n : p->target;
}

uint16_t model_port_of_pod(const struct mz_port *p, struct mz_labels container_ports)
{
    uint64_t n;
    if (p->target)
        return p->target;
    return mz_str_u64(model_label(container_ports, p->target_name), &n) && n <= UINT16_MAX
               ? (uint16_t)n
               : 0;
}

/* ---- endpoints ---- */

struct model_gathered *model_gather(struct model_draft *d, const struct mz_service *s)
{
    struct model_gathered *g = mz_arena_new0(d->scratch, struct model_gathered);
    g->ports = mz_arena_alloc0(d->scratch, s->ports_n * sizeof(*g->ports));
    return g;
}

size_t *model_in_namespace(struct model_draft *d, struct mz_str ns)
{
    size_t *n = mz_map_get(&d->in_namespace, ns);
    if (n)
        return n;
    const size_t *before = mz_index_get(d->m->in_namespace, ns);
    n = mz_arena_alloc0(d->scratch, sizeof(*n));
    *n = before ? *before : 0;
    (void)mz_map_put(&d->in_namespace, mz_arena_dup(d->scratch, ns), n);
    return n;
}

void model_keep_counts(struct model_draft *d)
{
    mz_map_foreach (it, &d->in_namespace) {
        size_t *own = mz_arena_alloc(d->m->arena, sizeof(*own));
        *own = *(const size_t *)it->value;
        (void)mz_index_put(&d->m->in_namespace, mz_arena_dup(d->m->arena, it->key), own);
    }
}

void model_gather_put(struct model_gathered *g, size_t port, struct mz_endpoint e)
{
    g->full |= g->n >= MODEL_MAX_ENDPOINTS || (g->all && *g->all >= MODEL_MAX_IN_NAMESPACE);
    if (g->full)
        return;
    g->n++;
    if (g->all)
        ++*g->all;
    *mz_vec_push(&g->ports[port], MZ_MEM_CONFIG) = e;
}

static void gather_add(struct model_gathered *g, size_t port, const struct mz_workload *w,
                       uint16_t number)
{
    const struct mz_str path = MZ_STR("unix://");
    const bool local = mz_str_starts(w->address, path);
    model_gather_put(g, port,
                     (struct mz_endpoint){ local ? mz_str_skip(w->address, path.n) : w->address,
                                           local ? 0 : number, w->pod ? MZ_HEALTHY : MZ_UNCHECKED,
                                           w });
}

void model_gather_everywhere(const struct mz_service *s, struct model_gathered *g,
                             const struct mz_workload *w)
{
    for (size_t k = 0; k < s->ports_n; k++) {
        const uint16_t number = model_port_on(&s->ports[k], w->ports);
        if (number)
            gather_add(g, k, w, number);
    }
}

/* What is best to have comes first. */
static int rank(enum mz_health h)
{
    static const int ranks[] = { [MZ_HEALTHY] = 0,
                                 [MZ_UNCHECKED] = 0,
                                 [MZ_DRAINING] = 1,
                                 [MZ_UNHEALTHY] = 2,
                                 [MZ_TERMINATING] = 3 };
    return ranks[h];
}

static int compare_endpoints(const void *a, const void *b)
{
    const struct mz_endpoint *x = a, *y = b;
    int c = mz_str_cmp(x->address, y->address);
    c = c ? c : (x->port > y->port) - (x->port < y->port);
    return c ? c : rank(x->health) - rank(y->health);
}

/* One that moves from slice to slice may stand in both for a while: as the one has it that thinks best of it. */
static size_t each_once(struct mz_endpoint *v, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!kept || v[i].port != v[kept - 1].port || !mz_str_eq(v[i].address, v[kept - 1].address))
            v[kept++] = v[i];
    return kept;
}

static uint64_t endpoints_hash(const struct mz_endpoint *v, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) {
        const uint64_t rest[] = { v[i].port, (uint64_t)v[i].health,
                                  v[i].workload ? v[i].workload->hash : 0 };
        h = mz_xxh64(rest, sizeof(rest), model_hash_str(h, v[i].address));
    }
    return h;
}

void model_take_gathered(struct model_draft *d, const struct mz_service *s,
                         struct model_gathered *g, bool sorted, struct mz_endpoints *out)
{
    if (g->full && g->n >= MODEL_MAX_ENDPOINTS)
        MZ_LOG(WARN, config, "%.*s in %.*s: of its endpoints all but %d are left out",
               MZ_STR_ARG(s->host), MZ_STR_ARG(s->ns), MODEL_MAX_ENDPOINTS);
    else if (g->full)
        MZ_LOG(WARN, config,
               "%.*s in %.*s: endpoints are left out: services of this namespace have more than %d",
               MZ_STR_ARG(s->host), MZ_STR_ARG(s->ns), MODEL_MAX_IN_NAMESPACE);
    for (size_t i = 0; i < s->ports_n; i++) {
        size_t n = g->ports[i].n;
        struct mz_endpoint *v = mz_arena_alloc(d->m->arena, n * sizeof(*v));
        if (n) {
            memcpy(v, g->ports[i].v, n * sizeof(*v));
            if (sorted) {
                qsort(v, n, sizeof(*v), compare_endpoints);
                n = each_once(v, n);
            }
        }
        out[i] = (struct mz_endpoints){ v, n, endpoints_hash(v, n), s->node_local,
                                        (uint32_t)g->ports[i].n };
        mz_vec_free(&g->ports[i], MZ_MEM_CONFIG);
    }
}

const struct mz_str *model_accounts(struct model_draft *d, const struct mz_str *named,
                                    size_t named_n, const struct mz_endpoints *e, size_t ports,
                                    size_t *out_n)
{
    MZ_VEC(struct mz_str) v = { 0 };
    for (size_t i = 0; i < named_n; i++)
        *mz_vec_push(&v, MZ_MEM_CONFIG) = named[i];
    for (size_t i = 0; i < ports; i++)
        for (size_t k = 0; k < e[i].n; k++)
            if (e[i].v[k].workload && e[i].v[k].workload->account.n)
                *mz_vec_push(&v, MZ_MEM_CONFIG) = e[i].v[k].workload->account;
    *out_n = v.n;
    const struct mz_str *own = model_sorted(d->m->arena, v.v, out_n);
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return own;
}

void model_finish_service(struct model_draft *d, struct mz_service *s, struct model_gathered *g,
                          bool sorted)
{
    struct mz_endpoints *e = mz_arena_alloc(d->m->arena, s->ports_n * sizeof(*e));
    struct mz_port *ports = mz_arena_alloc(d->m->arena, s->ports_n * sizeof(*ports));
    model_take_gathered(d, s, g, sorted, e);
    for (size_t i = 0; i < s->ports_n; i++) {
        ports[i] = s->ports[i];
        ports[i].at = (uint32_t)d->table.n;
        *mz_vec_push(&d->table, MZ_MEM_CONFIG) = &e[i];
    }
    s->ports = ports;
    model_index_ports(d->m->arena, s);
    s->accounts = model_accounts(d, s->accounts, s->accounts_n, e, s->ports_n, &s->accounts_n);
    for (size_t i = 0; i < s->accounts_n; i++)
        s->hash = model_hash_str(s->hash, s->accounts[i]);
}
