/* proxy-config endpoint: hosts of clusters (/clusters), and assignments as configured (/config_dump?include_eds). */
#include <stdlib.h>

#include "cli/proxy_config.h"

struct host {
    struct mz_str address, cluster, status;
    uint64_t port;
    bool failed;
};

static struct mz_str address_text(const struct mz_node *address, const char *pipe,
                                  struct mz_arena *a)
{
    const struct mz_str ip = mz_node_text(address, "socket_address.address"),
                        path = mz_node_text(address, "pipe.path"),
                        listener =
                            mz_node_text(address, "envoy_internal_address.server_listener_name");
    if (ip.n)
        return ip;
    if (path.n)
        return mz_arena_printf(a, "%s%.*s", pipe, MZ_STR_ARG(path));
    if (listener.n)
        return mz_arena_printf(
            a, "envoy://%.*s/%.*s", MZ_STR_ARG(listener),
            MZ_STR_ARG(mz_node_text(address, "envoy_internal_address.endpoint_id")));
    return MZ_STR("unknown");
}

static bool is_wanted(const struct pc_options *o, const struct host *h)
{
    return (!o->address[0] || mz_str_ieq(h->address, mz_str_c(o->address))) &&
           (!o->port || h->port == o->port) &&
           (!o->cluster[0] || mz_str_ieq(h->cluster, mz_str_c(o->cluster))) &&
           (!o->status[0] || mz_str_ieq(h->status, mz_str_c(o->status)));
}

static int compare(const void *a, const void *b)
{
    const struct host *x = a, *y = b;
    int c = mz_str_cmp(x->address, y->address);
    if (c == 0)
        c = (x->port > y->port) - (x->port < y->port);
    return c ? c : mz_str_cmp(x->cluster, y->cluster);
}

static struct host host_of(const struct mz_node *cluster, const struct mz_node *h,
                           struct mz_arena *a)
{
    const struct mz_str status = mz_node_text(h, "health_status.eds_health_status");
    return (struct host){ address_text(mz_node_get(h, "address"), "unix://", a),
                          mz_node_text(cluster, "name"), status.n ? status : MZ_STR("UNKNOWN"),
                          mz_node_number(h, "address.socket_address.port_value"),
                          mz_node_is(h, "health_status.failed_outlier_check") };
}

static void print_hosts(const struct pc *p, struct host *v, size_t n)
{
    struct table t;
    table_init(&t, 5);
    table_head(&t, "ENDPOINT|STATUS|OUTLIER CHECK|CLUSTER");
    if (n)
        qsort(v, n, sizeof(*v), compare);
    for (size_t i = 0; i < n; i++) {
        if (v[i].port)
            table_cellf(&t, "%.*s:%u", MZ_STR_ARG(v[i].address), (unsigned)v[i].port);
        else
            table_cell(&t, v[i].address);
        table_cell(&t, v[i].status);
        table_cell(&t, v[i].failed ? MZ_STR("FAILED") : MZ_STR("OK"));
        table_cell(&t, v[i].cluster);
        table_end_row(&t);
    }
    table_print(&t, p->out);
    table_fini(&t);
}

bool pc_hosts(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *clusters = mz_node_get(p->dump->root, "cluster_statuses");
    struct mz_arena *a = p->dump->arena;
    struct resources wanted = {
        mz_arena_alloc0(a, (mz_node_count(clusters) + 1) * sizeof(*wanted.v)), 0
    };
    MZ_VEC(struct host) hosts = { 0 };
    if (!clusters)
        return mz_err_set(err, "no cluster_statuses: not an answer of /clusters?format=json");
    for (size_t i = 0; i < mz_node_count(clusters); i++) {
        const struct mz_node *c = clusters->list[i], *list = mz_node_get(c, "host_statuses");
        const size_t before = hosts.n;
        for (size_t j = 0; j < mz_node_count(list); j++) {
            const struct host h = host_of(c, list->list[j], a);
            if (is_wanted(p->o, &h))
                *mz_vec_push(&hosts, MZ_MEM_MISC) = h;
        }
        if (hosts.n > before)
            wanted.v[wanted.n++] = c;
    }
    if (p->form != SHOW_TABLE)
        show_print(resources_list(&wanted, a), p->form, true, p->out);
    else
        print_hosts(p, hosts.v, hosts.n);
    mz_vec_free(&hosts, MZ_MEM_MISC);
    return true;
}

/* ---- as configured ---- */

static struct mz_str endpoint_text(const struct mz_node *address, struct mz_arena *a)
{
    const uint64_t port = mz_node_number(address, "socket_address.port_value");
    const struct mz_str text = address_text(address, "", a);
    return mz_node_get(address, "socket_address")
               ? mz_arena_printf(a, "%.*s:%u", MZ_STR_ARG(text), (unsigned)port)
               : text;
}

static struct mz_str endpoint_texts(const struct mz_node *e, struct mz_arena *a)
{
    const struct mz_node *more = mz_node_at(e, "endpoint.additional_addresses");
    struct mz_str out = endpoint_text(mz_node_at(e, "endpoint.address"), a);
    for (size_t i = 0; i < mz_node_count(more); i++)
        out = mz_arena_printf(a, "%.*s,%.*s", MZ_STR_ARG(out),
                              MZ_STR_ARG(endpoint_text(mz_node_get(more->list[i], "address"), a)));
    return out;
}

static struct mz_str locality_text(const struct mz_node *l, struct mz_arena *a)
{
    static const char *const parts[] = { "region", "zone", "sub_zone" };
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        const struct mz_str v = mz_node_text(l, parts[i]);
        if (!v.n)
            break;
        out = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(out), i ? "/" : "", MZ_STR_ARG(v));
    }
    return out;
}

static int by_cluster(const void *a, const void *b)
{
    const struct mz_node *const *x = a, *const *y = b;
    const struct subset_key k = subset_key_parse(mz_node_text(*x, "cluster_name")),
                            l = subset_key_parse(mz_node_text(*y, "cluster_name"));
    return subset_key_cmp(&k, &l);
}

static struct host host_as_configured(const struct mz_node *assignment, const struct mz_node *e,
                                      struct mz_arena *a)
{
    const struct mz_str status = mz_node_text(e, "health_status");
    return (struct host){ endpoint_text(mz_node_at(e, "endpoint.address"), a),
                          mz_node_text(assignment, "cluster_name"),
                          status.n ? status : MZ_STR("UNKNOWN"),
                          mz_node_number(e, "endpoint.address.socket_address.port_value"), false };
}

/* @n with the list of its member @name replaced. */
static const struct mz_node *with_list(const struct mz_node *n, const char *name,
                                       const struct mz_node **list, uint32_t count,
                                       struct mz_arena *a)
{
    struct mz_node *out = mz_arena_alloc0(a, sizeof(*out)), *l = mz_arena_alloc0(a, sizeof(*l));
    struct mz_pair *pairs = mz_arena_alloc0(a, ((size_t)n->n + 1) * sizeof(*pairs));
    const struct mz_node *before = mz_node_get(n, name);
    *l = (struct mz_node){ .kind = MZ_NODE_LIST, .n = count, .list = list };
    for (uint32_t i = 0; i < n->n; i++) {
        pairs[i] = n->pairs[i];
        if (pairs[i].value == before)
            pairs[i].value = l;
    }
    *out = *n;
    out->pairs = pairs;
    return out;
}

/* Of an assignment the endpoints that were asked for; NULL: it has none. */
static const struct mz_node *only_wanted(const struct pc *p, const struct mz_node *assignment)
{
    const struct mz_node *groups = mz_node_get(assignment, "endpoints");
    struct mz_arena *a = p->dump->arena;
    const struct mz_node **kept =
        mz_arena_alloc0(a, (mz_node_count(groups) + 1) * sizeof(const struct mz_node *));
    uint32_t n = 0;
    for (size_t i = 0; i < mz_node_count(groups); i++) {
        const struct mz_node *list = mz_node_get(groups->list[i], "lb_endpoints");
        const struct mz_node **v =
            mz_arena_alloc0(a, (mz_node_count(list) + 1) * sizeof(const struct mz_node *));
        uint32_t count = 0;
        for (size_t j = 0; j < mz_node_count(list); j++) {
            const struct host h = host_as_configured(assignment, list->list[j], a);
            if (is_wanted(p->o, &h))
                v[count++] = list->list[j];
        }
        if (count)
            kept[n++] = with_list(groups->list[i], "lb_endpoints", v, count, a);
    }
    return n ? with_list(assignment, "endpoints", kept, n, a) : NULL;
}

static void keep_wanted(const struct pc *p, struct resources *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct mz_node *kept = only_wanted(p, r->v[i]);
        if (kept)
            r->v[n++] = kept;
    }
    r->n = n;
}

static void endpoint_row(const struct pc *p, struct table *t, const struct mz_node *assignment,
                         const struct mz_node *group, const struct mz_node *e)
{
    const struct host h = host_as_configured(assignment, e, t->arena);
    if (!is_wanted(p->o, &h))
        return;
    table_cellf(t, "%s%.*s", p->kinds ? "endpoint/" : "", MZ_STR_ARG(endpoint_texts(e, t->arena)));
    table_cell(t, h.status);
    table_cell(t, locality_text(mz_node_get(group, "locality"), t->arena));
    table_cell(t, h.cluster);
    table_end_row(t);
}

bool pc_endpoints(const struct pc *p, struct mz_err *err)
{
    struct resources all = { 0 };
    struct table t;
    struct mz_err none;
    const struct mz_node *part = dump_part(p->dump, "EndpointsConfigDump", &none);
    (void)err; /* a dump without endpoints has none */
    resources_add(&all, part, "dynamic_endpoint_configs", "endpoint_config", p->dump->arena);
    resources_add(&all, part, "static_endpoint_configs", "endpoint_config", p->dump->arena);
    if (all.n)
        qsort(all.v, all.n, sizeof(*all.v), by_cluster);
    if (p->form != SHOW_TABLE) {
        keep_wanted(p, &all);
        show_print(resources_list(&all, p->dump->arena), p->form, true, p->out);
        return true;
    }
    table_init(&t, 5);
    table_head(&t, "NAME|STATUS|LOCALITY|CLUSTER");
    for (size_t i = 0; i < all.n; i++) {
        const struct mz_node *groups = mz_node_get(all.v[i], "endpoints");
        for (size_t j = 0; j < mz_node_count(groups); j++) {
            const struct mz_node *list = mz_node_get(groups->list[j], "lb_endpoints");
            for (size_t k = 0; k < mz_node_count(list); k++)
                endpoint_row(p, &t, all.v[i], groups->list[j], list->list[k]);
        }
    }
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}
