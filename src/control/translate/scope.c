/* What a workload sees: by exportTo, and by the Sidecar document that holds for it. */
#include "control/translate/scope.h"

#include <stdlib.h>

#include "base/log.h"
#include "control/model/virtual_service.h"

/* ---- one egress listener ---- */

bool tr_egress_is_proxy(const ist_IstioEgressListener *l)
{
    return l && l->port && mz_str_ieq(mz_str_c(l->port->protocol), MZ_STR("HTTP_PROXY"));
}

static bool wants_port(const ist_IstioEgressListener *l)
{
    return l && l->port && l->port->number && !tr_egress_is_proxy(l);
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
    own->by_number = NULL;
    own->hash = mz_xxh64(&s->ports[port].port, sizeof(uint16_t), s->hash);
    return own;
}

/* NULL: it does not have the port that the listener is for. */
static const struct mz_service *fit(struct mz_arena *a, const struct mz_service *s,
                                    const ist_IstioEgressListener *l)
{
    if (!wants_port(l))
        return s;
    const struct mz_port *p = mz_service_port(s, (uint16_t)l->port->number);
    return p ? trim(a, s, (size_t)(p - s->ports)) : NULL;
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

struct joined { /* of several: more ports can come */
    struct mz_service s;
    struct mz_port *ports;
    size_t room;
};
struct merging {
    struct mz_translator *t;
    struct tr_scope *scope;
    const struct mz_service **v;
    struct mz_map joined; /* address of a service to struct joined */
};

static void replace(struct merging *m, const struct mz_service *had, const struct mz_service *s)
{
    for (size_t i = 0; i < m->scope->services_n; i++)
        if (m->v[i] == had)
            m->v[i] = s;
    (void)mz_map_put(&m->scope->by_host, s->host, (void *)(uintptr_t)s);
}

/* The service that @x is with its own list of ports, and room for @more. */
static struct joined *opened(struct merging *m, const struct mz_service *x, size_t more)
{
    struct mz_arena *a = m->t->arena;
    struct joined *j = mz_map_get(&m->joined, (struct mz_str){ (const char *)&x, sizeof(x) });
    if (!j) {
        j = mz_arena_new0(a, struct joined);
        const struct mz_service *own = &j->s;
        j->s = *x;
        (void)mz_map_put(&m->joined,
                         mz_arena_dup(a, (struct mz_str){ (const char *)&own, sizeof(own) }), j);
    }
    if (j->s.ports_n + more > j->room) {
        j->room = 2 * (j->s.ports_n + more);
        j->ports = mz_arena_alloc(a, j->room * sizeof(*j->ports));
        if (j->s.ports_n)
            memcpy(j->ports, j->s.ports, j->s.ports_n * sizeof(*j->ports));
        j->s.ports = j->ports;
    }
    j->s.by_number = NULL;
    return j;
}

/* Two listeners gave it different ports. */
static const struct mz_service *join(struct merging *m, const struct mz_service *x,
                                     const struct mz_service *y)
{
    struct joined *j = opened(m, x, y->ports_n);
    const size_t had = j->s.ports_n;
    for (size_t i = 0; i < y->ports_n; i++) {
        bool is_there = false;
        for (size_t k = 0; k < had && !is_there; k++)
            is_there = j->ports[k].port == y->ports[i].port;
        if (!is_there)
            j->ports[j->s.ports_n++] = y->ports[i];
    }
    j->s.hash = mz_xxh64(&y->hash, sizeof(y->hash), j->s.hash);
    return &j->s;
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
        replace(m, had, join(m, had, s));
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
        const struct mz_port *p = mz_service_port(s, (uint16_t)port);
        s = p && p->port == port ? trim(t->arena, s, (size_t)(p - s->ports)) : NULL;
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
    struct merging m = { .t = t, .scope = s, .v = mz_arena_alloc(t->arena, room * sizeof(*m.v)) };
    mz_map_init(&m.joined, MZ_MEM_XDS);
    for (size_t i = 0; i < s->egress_n; i++)
        for (size_t k = 0; k < s->egress[i].services_n; k++)
            merge(&m, s->egress[i].services[k]);
    if (s->sidecar)
        (void)destinations(s, &m);
    mz_map_fini(&m.joined);
    s->services = m.v;
}

/* ---- scopes ---- */

/* What of a client matters besides where it is. */
static void note_needs(struct tr_scope *s)
{
    for (size_t i = 0; i < s->services_n; i++)
        s->node_local |= s->services[i]->node_local;
    for (size_t i = 0; i < s->egress_n; i++)
        for (size_t k = 0; k < s->egress[i].virtuals_n; k++)
            s->by_labels |= mz_virtual_asks_labels(s->egress[i].virtuals[k]);
}

/* What no service stands for: dropped, sent where it wanted to go, or through a proxy that a Sidecar names. */
static void judge_leaving(struct mz_translator *t, struct tr_scope *s, const ist_Sidecar *spec)
{
    const ist_OutboundTrafficPolicy *p = spec ? spec->outbound_traffic_policy : NULL;
    const ist_Destination *by = p ? p->egress_proxy : NULL;
    s->registry_only =
        p ? p->mode == ist_OutboundTrafficPolicy_Mode_REGISTRY_ONLY : t->model->mesh.registry_only;
    s->elsewhere = s->registry_only ? "BlackHoleCluster" : "PassthroughCluster";
    const ist_MeshConfig_OutboundTrafficPolicy *mesh =
        t->model->mesh.config->outbound_traffic_policy;
    s->resolves =
        !p && mesh && mesh->mode == ist_MeshConfig_OutboundTrafficPolicy_Mode_ALLOW_ANY_DYNAMIC_DNS;
    if (by)
        s->elsewhere = tr_cluster_name(t->arena, "outbound", (uint16_t)by->port->number,
                                       mz_str_c(by->subset), mz_str_c(by->host));
    s->leaves_hash =
        mz_xxh64(s->elsewhere, strlen(s->elsewhere), s->registry_only + 2u * s->resolves);
}

static struct tr_scope *create(struct mz_translator *t, struct mz_str ns,
                               const struct mz_sidecar *sidecar)
{
    const ist_Sidecar *spec = sidecar ? sidecar->spec : NULL;
    const size_t n = spec && spec->n_egress ? spec->n_egress : 1;
    struct tr_scope *s = mz_arena_new0(t->arena, struct tr_scope);
    s->ns = mz_arena_dup(t->arena, ns);
    s->sidecar = sidecar;
    judge_leaving(t, s, spec);
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
        s->key = mz_arena_dup(t->arena, (struct mz_str){ key, at + n });
        (void)mz_map_put(&t->scopes, s->key, s);
    }
    return s;
}

void tr_scope_free(struct tr_scope *s)
{
    mz_map_fini(&s->by_host);
    mz_vec_free(&s->own, MZ_MEM_XDS);
    mz_vec_free(&s->own_virtuals, MZ_MEM_XDS);
}

/* ---- the next model ---- */

/* It follows from all that is exported to its namespace: what comes and goes is put in its place. */
static bool is_plain(const struct tr_scope *s)
{
    return !s->sidecar && s->egress_n == 1;
}

/* Some listener of a Sidecar would have it, or has it. */
static bool concerns(struct mz_translator *t, const struct tr_scope *s, const struct mz_service *of)
{
    bool any =
        of && (mz_map_get(&s->by_host, of->host) || tr_is_led_to(&t->touches, t->model, of->host));
    for (size_t i = 0; of && i < s->egress_n && !any; i++)
        any = mz_imports_service(s->egress[i].imports, of->ns, of->host);
    return any;
}

static void judge(struct mz_translator *t, const struct mz_patched *p)
{
    mz_map_foreach (it, &t->scopes) {
        struct tr_scope *s = it->value;
        if (is_plain(s))
            t->stays &= !p->is || !p->is->node_local || s->node_local; /* groups differ by node */
        else
            s->stale |= concerns(t, s, p->was) || concerns(t, s, p->is);
    }
}

/* Its listener has it: bound to the mesh, and exported to the namespace. */
static bool is_routed(const struct tr_scope *s, const struct mz_virtual *v)
{
    return v && mz_virtual_is_bound(v, MZ_STR(MZ_GATEWAY_MESH)) && mz_virtual_visible(v, s->ns);
}

static void judge_virtual(struct mz_translator *t, const struct mz_patched_virtual *p)
{
    mz_map_foreach (it, &t->scopes) {
        struct tr_scope *s = it->value;
        if (!is_plain(s))
            s->stale |= is_routed(s, p->was) || is_routed(s, p->is);
        else if (is_routed(s, p->is))
            t->stays &=
                s->by_labels || !mz_virtual_asks_labels(p->is); /* groups differ by labels */
    }
}

bool tr_asks_services(const struct mz_model *m)
{
    return m->mesh.config->n_extension_providers || m->attached[MZ_KIND_REQUEST_AUTHENTICATION].n;
}

bool tr_may_stay(struct mz_translator *t, const struct mz_model *next)
{
    if (!mz_model_stands_on(next, t->model))
        return false;
    if (t->judged == next->serial || mz_model_is_same_but_endpoints(next, t->model))
        return t->judged != next->serial || t->stays;
    t->judged = next->serial;
    t->stays = !tr_asks_services(next) && !(next->rules_by_labels && !t->model->rules_by_labels);
    for (size_t i = 0; t->stays && i < next->patched_n; i++)
        if (next->patched[i].was != next->patched[i].is)
            judge(t, &next->patched[i]);
    for (size_t i = 0; t->stays && i < next->virtuals_patched_n; i++)
        judge_virtual(t, &next->virtuals_patched[i]);
    return t->stays;
}

/* What is exported to few stands before the rest. */
static size_t place(const struct tr_scope *s, const struct mz_service *of)
{
    const bool public = mz_service_is_public(of);
    size_t lo = 0, hi = s->own.n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const bool there = mz_service_is_public(s->own.v[mid]);
        if (there != public ? public : mz_service_order(s->own.v[mid], of) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void take_out(struct tr_scope *s, const struct mz_service *of)
{
    const size_t at = place(s, of);
    if (MZ_BUG(at == s->own.n || s->own.v[at] != of))
        return;
    (void)mz_map_del(&s->by_host, of->host);
    memmove(s->own.v + at, s->own.v + at + 1, (--s->own.n - at) * sizeof(*s->own.v));
}

static void put_in(struct tr_scope *s, const struct mz_service *of)
{
    const size_t at = place(s, of), n = s->own.n;
    (void)mz_vec_push(&s->own, MZ_MEM_XDS);
    memmove(s->own.v + at + 1, s->own.v + at, (n - at) * sizeof(*s->own.v));
    s->own.v[at] = of;
    (void)mz_map_put(&s->by_host, of->host, (void *)(uintptr_t)of);
}

static void follow(struct tr_scope *s, const struct mz_model *next)
{
    for (size_t i = s->own.n; i < s->services_n; i++) /* all, the first time */
        *mz_vec_push(&s->own, MZ_MEM_XDS) = s->services[i];
    for (size_t i = 0; i < next->patched_n; i++) {
        const struct mz_patched *p = &next->patched[i];
        if (p->was == p->is)
            continue;
        if (p->was && mz_service_visible(p->was, s->ns))
            take_out(s, p->was);
        if (p->is && mz_service_visible(p->is, s->ns)) {
            put_in(s, p->is);
            s->node_local |= p->is->node_local;
        }
    }
    s->services = s->egress[0].services = s->own.v;
    s->services_n = s->egress[0].services_n = s->own.n;
}

static size_t place_virtual(const struct tr_scope *s, const struct mz_virtual *v)
{
    size_t lo = 0, hi = s->own_virtuals.n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (mz_virtual_order(s->own_virtuals.v[mid], v, s->ns) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void follow_virtual(struct tr_scope *s, const struct mz_patched_virtual *p)
{
    if (is_routed(s, p->was)) {
        const size_t at = place_virtual(s, p->was);
        if (MZ_BUG(at == s->own_virtuals.n || s->own_virtuals.v[at] != p->was))
            return;
        memmove(s->own_virtuals.v + at, s->own_virtuals.v + at + 1,
                (--s->own_virtuals.n - at) * sizeof(*s->own_virtuals.v));
    }
    if (is_routed(s, p->is)) {
        const size_t at = place_virtual(s, p->is), n = s->own_virtuals.n;
        (void)mz_vec_push(&s->own_virtuals, MZ_MEM_XDS);
        memmove(s->own_virtuals.v + at + 1, s->own_virtuals.v + at,
                (n - at) * sizeof(*s->own_virtuals.v));
        s->own_virtuals.v[at] = p->is;
    }
}

static void follow_virtuals(struct tr_scope *s, const struct mz_model *next)
{
    struct tr_egress *e = &s->egress[0];
    for (size_t i = s->own_virtuals.n; i < e->virtuals_n; i++) /* all, the first time */
        *mz_vec_push(&s->own_virtuals, MZ_MEM_XDS) = e->virtuals[i];
    for (size_t i = 0; i < next->virtuals_patched_n; i++)
        follow_virtual(s, &next->virtuals_patched[i]);
    e->virtuals = s->own_virtuals.v;
    e->virtuals_n = s->own_virtuals.n;
}

void tr_scopes_follow(struct mz_translator *t, const struct mz_model *next)
{
    MZ_VEC(struct tr_scope *) gone = { 0 };
    mz_map_foreach (it, &t->scopes) {
        struct tr_scope *s = it->value;
        if (s->stale)
            *mz_vec_push(&gone, MZ_MEM_XDS) = s;
        else if (is_plain(s) && next->patched_n)
            follow(s, next);
        if (!s->stale && is_plain(s) && next->virtuals_patched_n)
            follow_virtuals(s, next);
    }
    mz_vec_foreach (s, &gone) {
        tr_groups_clear(t, *s);
        (void)mz_map_del(&t->scopes, (*s)->key);
        tr_scope_free(*s);
    }
    mz_vec_free(&gone, MZ_MEM_XDS);
}

const struct tr_egress *tr_egress_at(const struct tr_scope *s, struct mz_str bind)
{
    for (size_t i = 0; i < s->egress_n; i++) {
        const ist_IstioEgressListener *l = s->egress[i].listener;
        if (l && l->port && !l->port->number && mz_str_eq(mz_str_c(l->bind), bind))
            return &s->egress[i];
    }
    return NULL;
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
