/* Tables of routes (RDS) by name: of a group followed from model to model, and made ahead while nobody asks. */
#include "control/translate/route_table.h"

#include <stdlib.h>

#include "control/translate/dynamic.h"
#include "control/translate/gateway.h"
#include "control/translate/mesh.h"
#include "control/translate/scope.h"

enum { MAX_TABLES = 2000 /* of a group */ };

struct tr_table {
    struct mz_out *out;
    uint64_t at; /* where touches were */
    char name[];
};

void tr_tables_free(struct mz_map *tables)
{
    mz_map_foreach (it, tables) {
        struct tr_table *t = it->value;
        mz_out_unref(t->out);
        mz_free(MZ_MEM_XDS, t);
    }
    mz_map_fini(tables);
}

void tr_table_add(struct mz_view *v, struct mz_str name, struct mz_out *o)
{
    struct tr_table *t = mz_alloc(MZ_MEM_XDS, sizeof(*t) + name.n);
    memcpy(t->name, name.p, name.n);
    t->out = o;
    t->at = v->t->touches.now;
    (void)mz_map_put(&v->group->tables, (struct mz_str){ t->name, name.n }, t);
}

/* What has to be done to a table for what was touched. */
enum follow { FOLLOW_SAME, FOLLOW_EDIT, FOLLOW_ANEW };
struct following {
    struct mz_view *v;
    struct route_plan *p;
    enum follow how;
    MZ_VEC(struct mz_str) hosts; /* whose virtual hosts are to be made, or go */
};

static enum follow worse(enum follow a, enum follow b)
{
    return a > b ? a : b;
}

/* One virtual host is to be made again: its service's, by whoever routes it first. */
static void follow_host(struct following *f, struct mz_str host)
{
    const struct mz_service *s = mz_map_get(&f->v->scope->by_host, host);
    const bool alone = !s || tr_is_alone(&f->v->t->touches, f->v->model, s);
    f->how = worse(f->how, alone ? FOLLOW_EDIT : FOLLOW_ANEW);
    *mz_vec_push(&f->hosts, MZ_MEM_XDS) = host;
}

static bool is_in_table(const struct following *f, const struct mz_service *s)
{
    return s && mz_service_port(s, f->p->port) && (!f->p->host.n || mz_str_eq(s->host, f->p->host));
}

/* Hosts of a VirtualService whose routes may be others. Those that no service has are in every table, or in those of their company. */
static void follow_virtual(struct following *f, const struct mz_virtual *vs)
{
    bool strangers = false, any = f->p->port == 80;
    if (!vs || !mz_virtual_visible(vs, f->v->scope->ns) ||
        !mz_virtual_is_bound(vs, MZ_STR(MZ_GATEWAY_MESH)))
        return;
    if (tr_has_wildcards(
            &f->v->t->touches)) /* even one that says nothing of HTTP may be more specific */
        f->how = FOLLOW_ANEW;
    if (!vs->spec->n_http)
        return;
    if (vs->semantics != MZ_SEMANTICS_ISTIO)
        f->how = FOLLOW_ANEW;
    for (size_t i = 0; i < vs->spec->n_hosts && f->how != FOLLOW_ANEW; i++) {
        const struct mz_str host = mz_str_c(vs->spec->hosts[i]);
        const struct mz_service *s = mz_map_get(&f->v->scope->by_host, host);
        if (tr_is_wild(host))
            f->how = FOLLOW_ANEW;
        else if (is_in_table(f, s))
            follow_host(f, host);
        else if (!f->p->host.n || mz_str_eq(host, f->p->host))
            strangers = true;
        any |= is_in_table(f, s);
    }
    if (strangers && any)
        f->how = FOLLOW_ANEW;
}

enum place { NOT_THERE, THERE, THERE_WITH_HOST /* of HTTP */ };

static enum place place_of(const struct following *f, const struct mz_service *s)
{
    if (!is_in_table(f, s) || !mz_service_visible(s, f->v->scope->ns))
        return NOT_THERE;
    return tr_speaks_http(s, f->p->port) ? THERE_WITH_HOST : THERE;
}

/* A service, or what holds for it. */
static void follow_service(struct following *f, const struct tr_touch *t)
{
    const struct mz_str host = tr_touch_host(t);
    const enum place was = place_of(f, t->was), is = place_of(f, t->is);
    if ((t->was == t->is && !t->rule) || /* endpoints are not told here */
        (f->v->scope->sidecar && !mz_map_get(&f->v->scope->by_host, host)))
        return;
    if (t->spoken && was != is) /* for strangers it is another table */
        f->how = FOLLOW_ANEW;
    if (was == THERE_WITH_HOST || is == THERE_WITH_HOST) {
        f->how = worse(f->how, t->alone ? FOLLOW_SAME : FOLLOW_ANEW);
        follow_host(f, host);
    }
    const struct tr_egress *e = t->led_to ? tr_egress_for(f->v->scope, f->p->port) : NULL;
    for (size_t i = 0; e && i < e->virtuals_n && f->how != FOLLOW_ANEW; i++)
        if (tr_leads_to(e->virtuals[i], host))
            follow_virtual(f, e->virtuals[i]);
}

static void follow_touch(struct following *f, const struct tr_touch *t)
{
    if (tr_touch_is_bare(t))
        return;
    if (!t->routed) {
        follow_service(f, t);
        return;
    }
    follow_virtual(f, t->routed->was);
    follow_virtual(f, t->routed->is);
}

/* The table with these virtual hosts as they are now. NULL: too few are left. */
static struct mz_out *edited(struct following *f, const struct mz_out *had)
{
    struct making k;
    struct mz_set_edits e = { 0 };
    struct mz_out *out = NULL;
    tr_making_begin(&k, f->v, f->p);
    k.shared = true;
    mz_vec_foreach (host, &f->hosts) {
        const struct mz_str name = mz_arena_printf(k.a, "%.*s:%u", MZ_STR_ARG(*host), f->p->port);
        if (!mz_map_get(&k.names, name)) /* else it was made already */
            *mz_vec_push(&e.v, MZ_MEM_XDS) = (struct mz_set_edit){ name, tr_host_made(&k, *host) };
    }
    mz_set_edits_sort(&e);
    struct mz_set *parts = mz_set_edit(f->v->t->sets, had->parts, e.v.v, e.v.n);
    if (mz_set_count(parts) >= MANY_HOSTS)
        out = mz_out_of_parts(f->p->name, had->bytes, parts, had->tail);
    else
        mz_set_unref(parts);
    mz_vec_free(&e.v, MZ_MEM_XDS);
    tr_making_end(&k);
    return out;
}

/* The client's DNS completes names as ours are counted (touch.c). */
static bool has_usual_domain(const struct mz_view *v)
{
    const ptrdiff_t svc = mz_str_find(v->proxy->domain, MZ_STR(".svc."));
    return svc >= 0 &&
           mz_str_eq(mz_str_skip(v->proxy->domain, (size_t)svc + 5), v->model->mesh.domain);
}

static void follow(struct mz_view *v, struct route_plan *p, struct tr_table *t)
{
    const struct tr_touch *touch;
    size_t n;
    struct following f = { .v = v, .p = p };
    struct mz_out *next = NULL;
    if (!tr_touches_since(&v->t->touches, t->at, &touch, &n))
        f.how = FOLLOW_ANEW;
    for (size_t i = 0; i < n && f.how != FOLLOW_ANEW; i++)
        follow_touch(&f, &touch[i]);
    t->at = v->t->touches.now;
    p->egress = tr_egress_for(v->scope, p->port);
    if (f.how == FOLLOW_EDIT && t->out->parts && !p->host.n && !v->scope->sidecar &&
        has_usual_domain(v))
        next = edited(&f, t->out);
    if (f.how != FOLLOW_SAME && !next)
        next = tr_table_made(v, p);
    if (next && next->version != t->out->version) {
        struct mz_out *had = t->out;
        t->out = next;
        next = had;
    }
    mz_out_unref(next);
    mz_vec_free(&f.hosts, MZ_MEM_XDS);
}

/* The port at the end of "8080" or "web.demo.svc.cluster.local:8080"; @out_host "" for the first. */
static bool parse_name(struct mz_str name, struct mz_str *out_host, uint16_t *out_port)
{
    const ptrdiff_t colon = mz_str_rchr(name, ':');
    uint64_t port;
    *out_host = colon < 0 ? MZ_STR("") : (struct mz_str){ name.p, (size_t)colon };
    if (!mz_str_u64(mz_str_skip(name, (size_t)(colon + 1)), &port) || port == 0 ||
        port > UINT16_MAX)
        return false;
    *out_port = (uint16_t)port;
    return true;
}

/* The port of "outbound|8080||web.demo.svc.cluster.local". */
static bool parse_cluster(struct mz_str name, uint16_t *out_port)
{
    struct tr_subset_key key;
    const bool ok = tr_cluster_name_parse(name, &key) && !key.sni && key.host.n && key.port &&
                    mz_str_eq(key.direction, MZ_STR("outbound"));
    if (ok)
        *out_port = key.port;
    return ok;
}

struct mz_out *tr_routes(struct mz_view *v, struct mz_str name)
{
    struct route_plan p = { .name = name };
    if (v->proxy->type != MZ_PROXY_SIDECAR)
        return tr_gateway_routes(v, name);
    p.bare = v->proxy->proxyless;
    if (!p.bare && mz_str_eq(name, MZ_STR(TR_HTTP_PROXY))) {
        const struct tr_egress *e = tr_egress_for(v->scope, 0);
        return e ? tr_every_port(v, name, e) : NULL;
    }
    if (!p.bare && mz_str_starts(name, MZ_STR(TR_UNIX))) {
        const struct tr_egress *e = tr_egress_at(v->scope, name);
        return e ? tr_every_port(v, name, e) : NULL;
    }
    if (p.bare ? !parse_cluster(name, &p.port) : !parse_name(name, &p.host, &p.port))
        return NULL;
    const struct tr_egress *e = p.bare || p.host.n ? NULL : tr_egress_for(v->scope, p.port);
    if (e && tr_egress_is_proxy(e->listener))
        return tr_every_port(v, name, e);
    if (p.bare || !v->group)
        return tr_table_made(v, &p);
    tr_ahead_finish(v, name);
    struct tr_table *t = mz_map_get(&v->group->tables, name);
    if (!t && v->group->tables.n >= MAX_TABLES)
        return tr_table_made(v, &p); /* whoever asks for this many names is up to no good */
    if (!t) {
        tr_table_add(v, name, tr_table_made(v, &p));
        t = mz_map_get(&v->group->tables, name);
    }
    follow(v, &p, t);
    return mz_out_ref(t->out);
}
