/* To which listeners a route attaches itself, and why not to others. */
#include <stdlib.h>

#include "control/model/gateway_api_priv.h"

#define NO_PARENT   "NoMatchingParent"
#define NOT_ALLOWED "NotAllowedByListeners"
#define NO_HOST     "NoMatchingListenerHostname"

static struct mz_str sort_key(struct gw_making *g, const k8s_ParentReference *p, struct mz_str ns)
{
    const struct mz_str in = p->namespace_ ? mz_str_c(p->namespace_->value) : ns;
    return mz_arena_printf(g->a, "%s/%s/%s/%s/%d.%.*s", gw_or(p->group, GW_GROUP),
                           gw_or(p->kind, "Gateway"), p->name, gw_or(p->sectionname, ""),
                           p->port ? p->port->value : 0, MZ_STR_ARG(in));
}

static bool find_kind(const k8s_ParentReference *p, enum mz_kind *out)
{
    static const struct {
        const char *group, *kind;
        enum mz_kind is;
    } kinds[] = { { GW_GROUP, "Gateway", MZ_KIND_K8S_GATEWAY },
                  { GW_GROUP, "ListenerSet", MZ_KIND_LISTENER_SET },
                  { "", "Service", MZ_KIND_SERVICE },
                  { "networking.istio.io", "ServiceEntry", MZ_KIND_SERVICE_ENTRY } };
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (strcmp(gw_or(p->group, GW_GROUP), kinds[i].group) == 0 &&
            strcmp(gw_or(p->kind, "Gateway"), kinds[i].kind) == 0) {
            *out = kinds[i].is;
            return true;
        }
    return false;
}

/* ---- may it? ---- */

static bool hosts_meet(const struct gw_route *r, const char *listener)
{
    for (size_t i = 0; i < r->hostnames_n; i++)
        if (mz_hosts_meet(mz_str_c(listener), mz_str_c(r->hostnames[i])))
            return true;
    return !r->hostnames_n;
}

static bool check_hosts(struct gw_making *g, const struct gw_route *r, struct gw_binding *b)
{
    const ist_Server *s = b->listener->server;
    const char *own = gw_or(b->listener->spec->hostname, "");
    bool host = false;
    for (size_t i = 0; i < s->n_hosts; i++) {
        struct mz_str name = mz_str_c(s->hosts[i]), ns;
        (void)mz_str_split(&name, '/', &ns);
        const bool meets = hosts_meet(r, name.p);
        host |= meets;
        if (meets && (mz_str_eq(ns, MZ_STR("*")) || mz_str_eq(ns, r->doc->ns)))
            return true;
    }
    if (host)
        return gw_fail(g, &b->denied, NOT_ALLOWED,
                       "hostnames matched parent hostname \"%s\", but namespace \"%.*s\" is not "
                       "allowed by the parent",
                       own, MZ_STR_ARG(r->doc->ns));
    return gw_fail(g, &b->denied, NO_HOST, "no hostnames matched parent hostname \"%s\"", own);
}

static bool check_listener(struct gw_making *g, const struct gw_route *r, struct gw_binding *b)
{
    const char *section = gw_or(b->ref->sectionname, "");
    if (b->ref->port && b->ref->port->value != b->listener->port)
        return gw_fail(g, &b->denied, NO_PARENT, "port %d not found", b->ref->port->value);
    if (section[0] && strcmp(section, b->listener->spec->name) != 0)
        return gw_fail(g, &b->denied, NO_PARENT, "sectionName \"%s\" not found", section);
    if (!check_hosts(g, r, b))
        return false;
    return (b->listener->kinds >> r->kind & 1) ||
           gw_fail(g, &b->denied, NOT_ALLOWED, "kind %s/v1/%s is not allowed", GW_GROUP,
                   mz_gw_route_kinds[r->kind]);
}

static bool check_mesh(struct gw_making *g, struct gw_binding *b)
{
    const bool service = b->kind == MZ_KIND_SERVICE;
    return gw_doc(g, service ? "Service" : "ServiceEntry", b->ns, b->ref->name) ||
           gw_fail(g, &b->denied, NO_PARENT, "parent service%s: \"%s\" not found",
                   service ? "" : " entry", b->ref->name);
}

/* ---- binding ---- */

static void add(struct gw_route *r, const struct gw_binding *b)
{
    size_t at = r->bindings.n;
    *mz_vec_push(&r->bindings, MZ_MEM_CONFIG) = *b;
    for (; at && mz_str_cmp(r->bindings.v[at - 1].sort, b->sort) > 0; at--)
        r->bindings.v[at] = r->bindings.v[at - 1];
    r->bindings.v[at] = *b;
}

static void bind_one(struct gw_making *g, struct gw_route *r, size_t at)
{
    const k8s_ParentReference *p = r->refs[at];
    struct gw_binding b = { .ref = p,
                            .at = at,
                            .ns = p->namespace_ ? mz_str_c(p->namespace_->value) : r->doc->ns,
                            .sort = sort_key(g, p, r->doc->ns) };
    if (!find_kind(p, &b.kind))
        return; /* may be for others */
    if (b.kind == MZ_KIND_SERVICE || b.kind == MZ_KIND_SERVICE_ENTRY) {
        r->mesh = true;
        (void)check_mesh(g, &b);
        add(r, &b);
        return;
    }
    b.gateway =
        mz_map_get(&g->by_key, mz_arena_printf(g->d->scratch, "%s/%.*s/%s", mz_kind_key(b.kind),
                                               MZ_STR_ARG(b.ns), p->name));
    for (size_t i = 0; b.gateway && i < b.gateway->listeners_n; i++) {
        struct gw_binding one = b;
        one.listener = &b.gateway->listeners[i];
        if (!one.listener->internal.n || (b.kind == MZ_KIND_LISTENER_SET && !one.listener->valid))
            continue;
        r->gateway = true;
        (void)check_listener(g, r, &one);
        add(r, &one);
    }
}

void gw_bind(struct gw_making *g, struct gw_route *r)
{
    for (size_t i = 0; i < r->refs_n; i++)
        bind_one(g, r, i);
    for (size_t i = 0; i < r->bindings.n; i++) {
        struct mz_gw_listener *l = r->bindings.v[i].listener;
        bool counts = l && !r->bindings.v[i].denied.reason;
        for (size_t k = 0; k < i && counts; k++)
            counts = r->bindings.v[k].listener != l || r->bindings.v[k].denied.reason;
        if (counts)
            l->attached++;
    }
}

static struct mz_str internal_of(const struct gw_binding *b)
{
    return b->listener ? b->listener->internal : MZ_STR(MZ_GATEWAY_MESH);
}

const struct gw_binding **gw_accepted(struct gw_making *g, struct gw_route *r, size_t *out_n)
{
    const struct gw_binding **v = mz_arena_alloc(g->d->scratch, r->bindings.n * sizeof(*v));
    size_t n = 0;
    mz_vec_foreach (b, &r->bindings) {
        if (b->denied.reason)
            continue;
        size_t at = n++;
        for (; at && mz_str_cmp(internal_of(v[at - 1]), internal_of(b)) > 0; at--)
            v[at] = v[at - 1];
        v[at] = b;
    }
    *out_n = n;
    return v;
}

/* ---- listeners of one port share its names ---- */

bool gw_hosts_within(struct mz_str host, struct mz_str of)
{
    const bool wild = host.n && host.p[0] == '*', other = of.n && of.p[0] == '*';
    if (wild)
        return other && host.n >= of.n && mz_str_ends(mz_str_skip(host, 1), mz_str_skip(of, 1));
    return other ? mz_str_ends(host, mz_str_skip(of, 1)) : mz_str_eq(host, of);
}

bool gw_host_is_ours(const struct gw_binding *b, struct mz_str host)
{
    if (!b->listener)
        return true;
    const struct mz_str own = mz_str_c(gw_or(b->listener->spec->hostname, ""));
    if (own.n && own.p[0] != '*')
        return true;
    if (own.n && !mz_hosts_meet(host, own))
        return false;
    for (size_t i = 0; i < b->gateway->listeners_n; i++) {
        const struct mz_gw_listener *l = &b->gateway->listeners[i];
        const struct mz_str other = mz_str_c(gw_or(l->spec->hostname, ""));
        if (l == b->listener || !l->internal.n || l->port != b->listener->port ||
            strcmp(l->spec->protocol, b->listener->spec->protocol) != 0 || mz_str_eq(other, own) ||
            own.n > other.n)
            continue;
        if (gw_hosts_within(host, other))
            return false;
    }
    return true;
}

/* ---- what is said of it ---- */

/* Lower counts more. */
static int rank(const struct mz_gw_error *e)
{
    static const char *const ranks[] = { NOT_ALLOWED, NO_HOST, "ParentRefConflict", NO_PARENT };
    for (int i = 0; e->reason && i < (int)MZ_COUNT(ranks); i++)
        if (strcmp(e->reason, ranks[i]) == 0)
            return i + 1;
    return 0;
}

static void merge(struct gw_making *g, struct mz_gw_parent *p, const struct gw_binding *b,
                  bool first)
{
    const int was = rank(&p->denied), is = rank(&b->denied);
    p->bound += b->denied.reason == NULL;
    if (first || is < was)
        p->denied = b->denied;
    else if (is == was && is)
        p->denied.text = mz_arena_printf(g->a, "%.*s; %.*s", MZ_STR_ARG(p->denied.text),
                                         MZ_STR_ARG(b->denied.text));
}

static int descending(const void *a, const void *b)
{
    const struct mz_gw_parent *x = a, *y = b;
    return mz_str_cmp(y->sort, x->sort);
}

void gw_report(struct gw_making *g, struct gw_route *r)
{
    struct mz_gw_parent *v = mz_arena_alloc0(g->a, r->refs_n * sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < r->refs_n; i++) {
        bool any = false;
        mz_vec_foreach (b, &r->bindings) {
            if (b->at != i)
                continue;
            v[n].ref = b->ref;
            v[n].mesh = b->listener == NULL;
            v[n].route = v[n].mesh ? r->mesh_error : r->gateway_error;
            v[n].sort = b->sort;
            merge(g, &v[n], b, !any);
            any = true;
        }
        n += any;
    }
    if (n)
        qsort(v, n, sizeof(*v), descending);
    *mz_vec_push(&g->routes, MZ_MEM_CONFIG) =
        (struct mz_gw_route){ .kind = r->doc->kind,
                              .ns = mz_arena_dup(g->a, r->doc->ns),
                              .name = mz_arena_dup(g->a, r->doc->name),
                              .key = mz_arena_dup(g->a, r->doc->key),
                              .generation = gw_generation(g, r->doc),
                              .parents = v,
                              .parents_n = n };
}
