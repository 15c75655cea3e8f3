/* The name table (NDS): what the agent answers the application's DNS questions from. */
#include <stdlib.h>

#include "control/translate/scope.h"
#include "net/addr.h"

struct name { /* one host */
    struct mz_str host, ns, shortname;
    bool entry; /* of a ServiceEntry only */
    MZ_VEC(struct mz_str) ips;
};
struct names {
    struct mz_view *v;
    struct mz_arena *a;
    struct mz_map by_host; /* struct name */
    MZ_VEC(struct name *) all;
};

static struct name *name_of(struct names *n, struct mz_str host)
{
    struct name *one = mz_map_get(&n->by_host, host);
    if (!one) {
        one = mz_arena_new0(n->a, struct name);
        one->host = host;
        (void)mz_map_put(&n->by_host, host, one);
        *mz_vec_push(&n->all, MZ_MEM_XDS) = one;
    }
    return one;
}

static bool is_ip(struct mz_str s)
{
    struct mz_addr a;
    return mz_addr_parse_ip(s, 0, &a);
}

static bool has(const struct name *n, struct mz_str ip)
{
    for (size_t i = 0; i < n->ips.n; i++)
        if (mz_str_eq(n->ips.v[i], ip))
            return true;
    return false;
}

static void add_ip(struct name *n, struct mz_str ip)
{
    if (is_ip(ip) && !has(n, ip))
        *mz_vec_push(&n->ips, MZ_MEM_XDS) = ip;
}

/* "kv-0.kv.data.svc.cluster.local": a pod that has a name within its service. */
static void add_pod(struct names *n, const struct mz_service *s, const struct mz_workload *w,
                    struct mz_str ip)
{
    const ptrdiff_t dot = mz_str_chr(s->host, '.');
    if (!w->subdomain.n || dot < 0)
        return;
    struct mz_str shortname =
        mz_arena_printf(n->a, "%.*s.%.*s", MZ_STR_ARG(w->hostname), MZ_STR_ARG(w->subdomain));
    struct name *one = name_of(n, mz_arena_printf(n->a, "%.*s%.*s", MZ_STR_ARG(shortname),
                                                  (int)(s->host.n - (size_t)dot), s->host.p + dot));
    one->shortname = shortname;
    one->ns = s->ns;
    one->entry = s->entry;
    add_ip(one, ip);
}

/* Headless: the name is all its endpoints. */
static void add_endpoints(struct names *n, const struct mz_service *s, struct name *own)
{
    for (size_t k = 0; k < s->ports_n; k++)
        for (size_t i = 0; i < mz_model_endpoints(n->v->model, &s->ports[k])->n; i++) {
            const struct mz_endpoint *e = &mz_model_endpoints(n->v->model, &s->ports[k])->v[i];
            if ((e->health != MZ_HEALTHY && !s->unready) || has(own, e->address))
                continue;
            if (e->workload)
                add_pod(n, s, e->workload, e->address);
            add_ip(own, e->address);
        }
}

static void collect(struct names *n, const struct mz_service *s, struct name *own)
{
    const bool automatic = n->v->proxy->auto_addresses && s->automatic.n;
    for (size_t i = 0; i < s->addresses_n; i++)
        if (s->entry || tr_can_dial(n->v, s->addresses[i]))
            add_ip(own, s->addresses[i]);
    if (!s->addresses_n && automatic)
        add_ip(own, s->automatic);
    else if (!s->addresses_n && s->resolution == MZ_RESOLVE_PASSTHROUGH)
        add_endpoints(n, s, own);
}

static void add_service(struct names *n, const struct mz_service *s)
{
    struct name *own = name_of(n, s->host);
    if (own->ips.n && !own->entry && s->entry)
        return; /* Kubernetes' own service has the name */
    if (own->entry && !s->entry)
        own->ips.n = 0;
    own->entry = s->entry;
    own->ns = s->entry ? MZ_STR("") : s->ns;
    own->shortname = s->entry ? MZ_STR("") : s->name;
    if (s->resolution != MZ_RESOLVE_ALIAS)
        collect(n, s, own);
}

static int compare(const void *a, const void *b)
{
    const struct name *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->host, (*y)->host);
}

static void put(struct names *n, ist_NameTable *table, const struct name *one)
{
    ist_NameTable_TableEntry *e =
        (ist_NameTable_TableEntry *)tr_new(n->a, &ist_NameTable_TableEntry__descriptor);
    e->key = tr_text(n->a, one->host);
    e->value = (ist_NameTable_NameInfo *)tr_new(n->a, &ist_NameTable_NameInfo__descriptor);
    e->value->registry = TR_CONST(one->entry ? "External" : "Kubernetes");
    e->value->shortname = tr_text(n->a, one->shortname);
    e->value->namespace_ = tr_text(n->a, one->ns);
    for (size_t i = 0; i < one->ips.n; i++)
        TR_ADD(n->a, e->value, ips) = tr_text(n->a, one->ips.v[i]);
    TR_ADD(n->a, table, table) = e;
}

void tr_names(struct mz_view *v, struct mz_outs *out)
{
    struct names n = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    ist_NameTable *table = (ist_NameTable *)tr_new(n.a, &ist_NameTable__descriptor);
    mz_map_init(&n.by_host, MZ_MEM_XDS);
    for (size_t i = 0; i < v->scope->egress_n; i++)
        for (size_t k = 0; k < v->scope->egress[i].services_n; k++)
            add_service(&n, v->scope->egress[i].services[k]);
    if (n.all.n)
        qsort(n.all.v, n.all.n, sizeof(*n.all.v), compare);
    mz_vec_foreach (one, &n.all) {
        if ((*one)->ips.n)
            put(&n, table, *one);
        mz_vec_free(&(*one)->ips, MZ_MEM_XDS);
    }
    *mz_vec_push(&out->v, MZ_MEM_XDS) = mz_out_create(MZ_STR(""), &table->base);
    mz_vec_free(&n.all, MZ_MEM_XDS);
    mz_map_fini(&n.by_host);
    mz_arena_destroy(n.a);
}
