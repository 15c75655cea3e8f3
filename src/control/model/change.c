#include "control/model/change.h"

#include "control/model/virtual_service.h"

#include <stdio.h>

static bool same_endpoints(const struct mz_model *x, const struct mz_service *a,
                           const struct mz_model *y, const struct mz_service *b)
{
    for (size_t i = 0; i < a->ports_n; i++) /* of services with equal hashes: as many ports */
        if (mz_model_endpoints(x, &a->ports[i])->hash != mz_model_endpoints(y, &b->ports[i])->hash)
            return false;
    return true;
}

static struct mz_change_host *host_of(struct mz_change *c, struct mz_str host)
{
    struct mz_change_host *h = mz_map_get(&c->hosts, host);
    if (!h) {
        h = mz_new0(MZ_MEM_XDS, struct mz_change_host);
        (void)mz_map_put(&c->hosts, host, h);
    }
    return h;
}

static void note(struct mz_change *c, const struct mz_service *s)
{
    *mz_vec_push(&host_of(c, s->host)->as, MZ_MEM_XDS) = s;
}

/* Clusters, listeners and names follow from the endpoints themselves. */
static bool tells_endpoints(const struct mz_model *m, const struct mz_service *s)
{
    return s->resolution != MZ_RESOLVE_EDS || m->dialled;
}

static void compare(struct mz_change *c, const struct mz_model *before,
                    const struct mz_model *after)
{
    for (size_t i = 0; i < after->services_n; i++) {
        const struct mz_service *now = after->services[i];
        if (mz_model_service_in(after, now->ns, now->host) != now)
            continue; /* nobody sees it */
        const struct mz_service *was = mz_model_service_in(before, now->ns, now->host);
        const bool same = was && was->hash == now->hash;
        if (same && same_endpoints(before, was, after, now))
            continue;
        c->services |= !same || tells_endpoints(after, now);
        note(c, now);
        if (was)
            note(c, was);
    }
    for (size_t i = 0; i < before->services_n; i++)
        if (!mz_model_service_in(after, before->services[i]->ns, before->services[i]->host)) {
            c->services = true;
            note(c, before->services[i]);
        }
}

static void note_workload(struct mz_change *c, struct mz_str key, const struct mz_workload *w)
{
    (void)mz_map_put(&c->workloads, key, c);
    if (w->address.n)
        (void)mz_map_put(&c->workloads, w->address, c);
}

/* Of @x, those that @y has not, or other ones; @x lives as long as the change. */
static void compare_workloads(struct mz_change *c, const struct mz_model *x,
                              const struct mz_model *y)
{
    mz_index_foreach (it, x->by_workload) {
        const struct mz_workload *w = it.value, *other = mz_index_get(y->by_workload, it.key);
        if (!other || other->hash != w->hash || other->gone != w->gone)
            note_workload(c, it.key, w);
    }
}

/* A Sidecar lets its workloads see what VirtualServices lead to. */
static void note_destination(struct mz_change *c, const struct mz_model *m,
                             const ist_Destination *d)
{
    const struct mz_service *s = d ? mz_model_service(m, mz_str_c(d->host)) : NULL;
    if (s)
        note(c, s);
}

static void note_destinations(struct mz_change *c, const struct mz_model *m,
                              const struct mz_virtual *v)
{
    for (size_t i = 0; i < v->spec->n_http; i++) {
        const ist_HTTPRoute *r = v->spec->http[i];
        for (size_t k = 0; k < r->n_route; k++)
            note_destination(c, m, r->route[k]->destination);
        note_destination(c, m, r->mirror);
        for (size_t k = 0; k < r->n_mirrors; k++)
            note_destination(c, m, r->mirrors[k]->destination);
    }
    for (size_t i = 0; i < v->spec->n_tcp; i++)
        for (size_t k = 0; k < v->spec->tcp[i]->n_route; k++)
            note_destination(c, m, v->spec->tcp[i]->route[k]->destination);
    for (size_t i = 0; i < v->spec->n_tls; i++)
        for (size_t k = 0; k < v->spec->tls[i]->n_route; k++)
            note_destination(c, m, v->spec->tls[i]->route[k]->destination);
}

static void note_virtuals(struct mz_change *c, const struct mz_model *m)
{
    for (size_t i = 0; i < m->virtuals_patched_n; i++) {
        const struct mz_patched_virtual *p = &m->virtuals_patched[i];
        c->services = true;
        if (m->sidecars->n && p->was)
            note_destinations(c, m, p->was);
        if (m->sidecars->n && p->is)
            note_destinations(c, m, p->is);
    }
}

static void note_patched(struct mz_change *c, const struct mz_model *m)
{
    for (size_t i = 0; i < m->patched_n; i++) {
        const struct mz_patched *p = &m->patched[i];
        if (p->is)
            note(c, p->is);
        if (p->was && p->was != p->is)
            note(c, p->was);
        c->services |= p->was != p->is || tells_endpoints(m, p->is);
    }
    note_virtuals(c, m);
    for (size_t i = 0; i < m->rules_patched_n; i++) {
        const struct mz_patched_rule *r = &m->rules_patched[i];
        if (r->was)
            *mz_vec_push(&host_of(c, r->host)->ruled, MZ_MEM_XDS) = r->was;
        else
            (void)host_of(c, r->host);
        c->services = true;
    }
    for (size_t i = 0; i < m->workloads_n; i++) {
        const struct mz_workload *w = m->workloads[i];
        note_workload(
            c, mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(w->ns), MZ_STR_ARG(w->name)), w);
    }
}

/* Of @x, one that @y has not, or another one. */
static bool has_other_secrets(const struct mz_model *x, const struct mz_model *y)
{
    mz_map_foreach (it, x->secrets) {
        const struct mz_doc *d = it->value, *other = mz_map_get(y->secrets, it->key);
        if (!other || other->version != d->version)
            return true;
    }
    return false;
}

bool mz_change_is_own(const struct mz_change *c, struct mz_str ns, struct mz_str name,
                      struct mz_str address)
{
    char key[600];
    if (!c->workloads.n)
        return false;
    const int n = snprintf(key, sizeof(key), "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(name));
    const bool fits = n > 0 && (size_t)n < sizeof(key);
    return mz_map_get(&c->workloads, address) ||
           (fits && mz_map_get(&c->workloads, (struct mz_str){ key, (size_t)n }));
}

void mz_change_init(struct mz_change *c, const struct mz_model *before,
                    const struct mz_model *after)
{
    const bool on_it = mz_model_stands_on(after, before);
    *c = (struct mz_change){ .all = !on_it && (!before || before->mesh.hash != after->mesh.hash ||
                                               before->rules_hash != after->rules_hash ||
                                               before->virtuals_hash != after->virtuals_hash ||
                                               before->gateways_hash != after->gateways_hash ||
                                               before->mtls_hash != after->mtls_hash ||
                                               before->attached_hash != after->attached_hash ||
                                               before->sidecars_hash != after->sidecars_hash) };
    mz_map_init(&c->hosts, MZ_MEM_XDS);
    mz_map_init(&c->workloads, MZ_MEM_XDS);
    if (on_it)
        note_patched(c, after);
    if (on_it || c->all)
        return;
    compare(c, before, after);
    compare_workloads(c, after, before);
    compare_workloads(c, before, after);
    c->secrets = has_other_secrets(after, before) || has_other_secrets(before, after);
}

void mz_change_fini(struct mz_change *c)
{
    mz_map_foreach (it, &c->hosts) {
        struct mz_change_host *h = it->value;
        mz_vec_free(&h->as, MZ_MEM_XDS);
        mz_vec_free(&h->ruled, MZ_MEM_XDS);
        mz_free(MZ_MEM_XDS, h);
    }
    mz_map_fini(&c->hosts);
    mz_map_fini(&c->workloads);
}

bool mz_change_none(const struct mz_change *c)
{
    return !c->all && !c->services && !c->secrets && c->hosts.n == 0 && c->workloads.n == 0;
}
