/* What a workload sees: by exportTo, and by the Sidecar document that holds for it. */
#include "control/translate/scope.h"

#include <stdlib.h>

#include "control/model/virtual_service.h"

/* ---- one egress listener ---- */

static bool wants_port(const ist_IstioEgressListener *l)
{
    return l && l->port && l->port->number;
}

/* The service with one of its ports. */
static const struct mz_service *trim(struct mz_arena *a, const struct mz_service *s, size_t port)
{
    if (s->ports_n == 1)
        return s;
    struct mz_service *own = mz_arena_new0(a, struct mz_service);
    *own = *s;
    own->ports = &s->ports[port];
    own->ports_n = 1;
    own->hash = mz_xxh64(&s->ports[port].port, sizeof(uint16_t), s->hash);
    return own;
}

/* NULL: it does not have the port that the listener is for. */
static const struct mz_service *fit(struct mz_arena *a, const struct mz_service *s,
                                    const ist_IstioEgressListener *l)
{
    if (!wants_port(l))
        return s;
    for (size_t i = 0; i < s->ports_n; i++)
        if (s->ports[i].port == l->port->number)
            return trim(a, s, i);
    return NULL;
}

/* Of one host: the one in the client's own namespace, then Kubernetes' services, then the older one. */
static bool is_better(const struct mz_service *s, const struct mz_service *had, struct mz_str ns)
{
    if (!had)
        return true;
    const bool own = mz_str_eq(s->ns, ns), had_own = mz_str_eq(had->ns, ns);
    return own != had_own ? own : had->entry && !s->entry;
}

struct picking {
    struct mz_translator *t;
    struct tr_scope *scope;
    struct tr_egress *e;
    struct mz_map best; /* by host */
    MZ_VEC(const struct mz_service *) services;
};

static void pick(struct picking *p, bool public)
{
    const struct mz_model *m = p->t->model;
    for (size_t i = 0; i < m->services_n; i++) {
        const struct mz_service *s = m->services[i];
        if (mz_service_is_public(s) != public || !mz_service_visible(s, p->scope->ns) ||
            !mz_imports_service(p->e->imports, s->ns, s->host))
            continue;
        s = fit(p->t->arena, s, p->e->listener);
        if (!s)
            continue;
        if (is_better(s, mz_map_get(&p->best, s->host), p->scope->ns))
            (void)mz_map_put(&p->best, s->host, (void *)(uintptr_t)s);
        *mz_vec_push(&p->services, MZ_MEM_XDS) = s;
    }
}

/* Of the Gateway API a wildcard does not stand for the hosts that it could mean. */
static bool imports(const struct mz_imports *i, const struct mz_virtual *v, struct mz_str host)
{
    return v->semantics == MZ_SEMANTICS_GATEWAY ? mz_imports_service(i, v->ns, host)
                                                : mz_imports_host(i, v->ns, host);
}

static void pick_virtuals(struct mz_translator *t, const struct tr_scope *scope,
                          struct tr_egress *e)
{
    size_t n;
    const struct mz_virtual *const *all =
        mz_model_virtuals(t->model, scope->ns, MZ_STR(MZ_GATEWAY_MESH), t->arena, &n);
    const struct mz_virtual **v = mz_arena_alloc(t->arena, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        bool in = false;
        for (size_t k = 0; k < all[i]->spec->n_hosts; k++)
            in |= imports(e->imports, all[i], mz_str_c(all[i]->spec->hosts[k]));
        if (in)
            v[e->virtuals_n++] = all[i];
    }
    e->virtuals = v;
}

static void fill_egress(struct mz_translator *t, struct tr_scope *scope, struct tr_egress *e,
                        const ist_IstioEgressListener *l)
{
    struct picking p = { .t = t, .scope = scope, .e = e };
    e->listener = l;
    e->imports = mz_imports_create(t->arena, l, scope->ns);
    mz_map_init(&p.best, MZ_MEM_XDS);
    pick(&p, false);
    pick(&p, true);
    const struct mz_service **v = mz_arena_alloc(t->arena, p.services.n * sizeof(*v));
    mz_vec_foreach (s, &p.services)
        if (mz_map_get(&p.best, (*s)->host) == *s)
            v[e->services_n++] = *s;
    e->services = v;
    mz_vec_free(&p.services, MZ_MEM_XDS);
    mz_map_fini(&p.best);
    pick_virtuals(t, scope, e);
}

/* ---- the union ---- */

struct merging {
    struct mz_translator *t;
    struct tr_scope *scope;
    const struct mz_service **v;
};

static void replace(struct merging *m, const struct mz_service *had, const struct mz_service *s)
{
    for (size_t i = 0; i < m->scope->services_n; i++)
        if (m->v[i] == had)
            m->v[i] = s;
    (void)mz_map_put(&m->scope->by_host, s->host, (void *)(uintptr_t)s);
}

/* Two listeners gave it different ports. */
static const struct mz_service *join(struct mz_arena *a, const struct mz_service *x,
                                     const struct mz_service *y)
{
    const size_t room = x->ports_n + y->ports_n;
    struct mz_service *s = mz_arena_new0(a, struct mz_service);
    struct mz_port *ports = mz_arena_alloc(a, room * sizeof(*ports));
    *s = *x;
    s->ports_n = 0;
    for (size_t i = 0; i < room; i++) {
        const struct mz_service *from = i < x->ports_n ? x : y;
        const size_t at = i < x->ports_n ? i : i - x->ports_n;
        if (from == y && mz_service_port(x, y->ports[at].port))
            continue;
        ports[s->ports_n++] = from->ports[at];
    }
    s->ports = ports;
    s->hash = mz_xxh64(&y->hash, sizeof(y->hash), x->hash);
    return s;
}

static bool has_more(const struct mz_service *s, const struct mz_service *had)
{
    for (size_t i = 0; i < s->ports_n; i++)
        if (!mz_service_port(had, s->ports[i].port))
            return true;
    return false;
}

static void merge(struct merging *m, const struct mz_service *s)
{
    const struct mz_service *had = mz_map_get(&m->scope->by_host, s->host);
    if (!had) {
        m->v[m->scope->services_n++] = s;
        (void)mz_map_put(&m->scope->by_host, s->host, (void *)(uintptr_t)s);
    } else if (had->entry && !s->entry) {
        replace(m, had, s);
    } else if (had->entry == s->entry && mz_str_eq(had->ns, s->ns) && has_more(s, had)) {
        replace(m, had, join(m->t->arena, had, s));
    }
}

/* ---- what VirtualServices lead to, though no listener imports it: it is reached, but has no listener of its own ---- */

static const struct mz_service *by_name(const struct mz_model *m, struct mz_str ns,
                                        struct mz_str host)
{
    const struct mz_service *own = mz_model_service_in(m, ns, host),
                            *first = own ? own : mz_model_service(m, host), *found = NULL;
    if (!first || mz_service_visible(first, ns))
        return first;
    for (size_t i = 0; i < m->services_n; i++) { /* hidden there, but perhaps not elsewhere */
        const struct mz_service *s = m->services[i];
        if (mz_str_eq(s->host, host) && mz_service_visible(s, ns) &&
            (!found || mz_str_cmp(s->ns, found->ns) < 0))
            found = s;
    }
    return found;
}

struct leading { /* from one listener */
    struct merging *m;
    const struct tr_egress *e;
    size_t n; /* destinations */
};

static void lead(struct leading *l, const ist_Destination *to)
{
    struct mz_translator *t = l->m ? l->m->t : NULL;
    l->n++;
    if (!t || !to)
        return;
    const struct mz_service *s = by_name(t->model, l->m->scope->ns, mz_str_c(to->host));
    const uint32_t port = to->port ? to->port->number : 0;
    if (s && wants_port(l->e->listener)) {
        s = fit(t->arena, s, l->e->listener);
    } else if (s && port) {
        size_t i = 0;
        while (i < s->ports_n && s->ports[i].port != port)
            i++;
        s = i < s->ports_n ? trim(t->arena, s, i) : NULL;
    }
    if (s)
        merge(l->m, s);
}

/* A rule that is for clients of other namespaces leads these nowhere. */
static bool is_for(const ist_HTTPRoute *r, struct mz_str ns)
{
    for (size_t i = 0; i < r->n_match; i++)
        if (!r->match[i]->source_namespace[0] ||
            mz_str_eq(mz_str_c(r->match[i]->source_namespace), ns))
            return true;
    return !r->n_match;
}

static void lead_http(struct leading *l, const ist_HTTPRoute *r)
{
    for (size_t i = 0; i < r->n_route; i++)
        lead(l, r->route[i]->destination);
    if (r->mirror)
        lead(l, r->mirror);
    for (size_t i = 0; i < r->n_mirrors; i++)
        lead(l, r->mirrors[i]->destination);
}

/* Without @m they are counted. */
static size_t destinations(const struct tr_scope *s, struct merging *m)
{
    struct leading l = { .m = m };
    for (size_t i = 0; i < s->egress_n; i++) {
        l.e = &s->egress[i];
        for (size_t k = 0; k < l.e->virtuals_n; k++) {
            const ist_VirtualService *v = l.e->virtuals[k]->spec;
            for (size_t j = 0; j < v->n_http; j++)
                if (is_for(v->http[j], s->ns))
                    lead_http(&l, v->http[j]);
            for (size_t j = 0; j < v->n_tcp; j++)
                for (size_t x = 0; x < v->tcp[j]->n_route; x++)
                    lead(&l, v->tcp[j]->route[x]->destination);
            for (size_t j = 0; j < v->n_tls; j++)
                for (size_t x = 0; x < v->tls[j]->n_route; x++)
                    lead(&l, v->tls[j]->route[x]->destination);
        }
    }
    return l.n;
}

static void unite(struct mz_translator *t, struct tr_scope *s)
{
    size_t room = s->sidecar ? destinations(s, NULL) : 0;
    for (size_t i = 0; i < s->egress_n; i++)
        room += s->egress[i].services_n;
    if (s->egress_n == 1 && !s->sidecar) { /* as it is */
        s->services = s->egress[0].services;
        s->services_n = s->egress[0].services_n;
        for (size_t i = 0; i < s->services_n; i++)
            (void)mz_map_put(&s->by_host, s->services[i]->host, (void *)(uintptr_t)s->services[i]);
        return;
    }
    struct merging m = { t, s, mz_arena_alloc(t->arena, room * sizeof(*m.v)) };
    for (size_t i = 0; i < s->egress_n; i++)
        for (size_t k = 0; k < s->egress[i].services_n; k++)
            merge(&m, s->egress[i].services[k]);
    if (s->sidecar)
        (void)destinations(s, &m);
    s->services = m.v;
}

/* ---- scopes ---- */

/* What of a client matters besides where it is. */
static void note_needs(struct tr_scope *s)
{
    for (size_t i = 0; i < s->services_n; i++)
        s->node_local |= s->services[i]->node_local;
    for (size_t i = 0; i < s->egress_n; i++)
        for (size_t k = 0; k < s->egress[i].virtuals_n; k++) {
            const ist_VirtualService *vs = s->egress[i].virtuals[k]->spec;
            for (size_t j = 0; j < vs->n_http; j++)
                for (size_t l = 0; l < vs->http[j]->n_match; l++)
                    s->by_labels |= vs->http[j]->match[l]->n_source_labels != 0;
            for (size_t j = 0; j < vs->n_tcp; j++)
                for (size_t l = 0; l < vs->tcp[j]->n_match; l++)
                    s->by_labels |= vs->tcp[j]->match[l]->n_source_labels != 0;
            for (size_t j = 0; j < vs->n_tls; j++)
                for (size_t l = 0; l < vs->tls[j]->n_match; l++)
                    s->by_labels |= vs->tls[j]->match[l]->n_source_labels != 0;
        }
}

static struct tr_scope *create(struct mz_translator *t, struct mz_str ns,
                               const struct mz_sidecar *sidecar)
{
    const ist_Sidecar *spec = sidecar ? sidecar->spec : NULL;
    const size_t n = spec && spec->n_egress ? spec->n_egress : 1;
    struct tr_scope *s = mz_arena_new0(t->arena, struct tr_scope);
    s->ns = mz_arena_dup(t->arena, ns);
    s->sidecar = sidecar;
    s->registry_only =
        spec && spec->outbound_traffic_policy
            ? spec->outbound_traffic_policy->mode == ist_OutboundTrafficPolicy_Mode_REGISTRY_ONLY
            : t->model->mesh.registry_only;
    mz_map_init(&s->by_host, MZ_MEM_XDS);
    s->egress = mz_arena_alloc0(t->arena, n * sizeof(*s->egress));
    s->egress_n = n;
    for (size_t i = 0; i < n; i++)
        fill_egress(t, s, &s->egress[i], spec && spec->n_egress ? spec->egress[i] : NULL);
    unite(t, s);
    note_needs(s);
    return s;
}

const struct tr_scope *tr_scope_of(struct mz_translator *t, struct mz_str ns,
                                   const struct mz_sidecar *sidecar)
{
    char key[600];
    const size_t at = sizeof(sidecar);
    memcpy(key, &sidecar, at);
    const size_t n = ns.n < sizeof(key) - at ? ns.n : sizeof(key) - at;
    if (n)
        memcpy(key + at, ns.p, n);
    struct tr_scope *s = mz_map_get(&t->scopes, (struct mz_str){ key, at + n });
    if (!s) {
        s = create(t, ns, sidecar);
        (void)mz_map_put(&t->scopes, mz_arena_dup(t->arena, (struct mz_str){ key, at + n }), s);
    }
    return s;
}

const struct tr_egress *tr_egress_for(const struct tr_scope *s, uint16_t port)
{
    for (size_t i = 0; i < s->egress_n; i++) {
        const ist_IstioEgressListener *l = s->egress[i].listener;
        if (!l || !l->port || (port && l->port->number == port))
            return &s->egress[i];
    }
    return NULL;
}
