/* proxy-config listener: a row per filter chain, what it matches and where that leads. */
#include <stdlib.h>

#include "cli/proxy_config.h"

#define HTTP_FILTER "envoy.filters.network.http_connection_manager"
#define TCP_FILTER  "envoy.filters.network.tcp_proxy"

static struct mz_str address_of(const struct mz_node *l)
{
    const struct mz_str a = mz_node_text(l, "address.socket_address.address");
    return a.n ? a : mz_node_text(l, "address.pipe.path");
}

static uint64_t port_of(const struct mz_node *l)
{
    return mz_node_number(l, "address.socket_address.port_value");
}

/* ---- filter chains ---- */

static size_t chains_n(const struct mz_node *l)
{
    return mz_node_count(mz_node_get(l, "filter_chains")) +
           (mz_node_get(l, "default_filter_chain") != NULL);
}

static const struct mz_node *chain(const struct mz_node *l, size_t i)
{
    const struct mz_node *list = mz_node_get(l, "filter_chains");
    return i < mz_node_count(list) ? list->list[i] : mz_node_get(l, "default_filter_chain");
}

static bool is_named(const struct mz_node *filter, const char *name)
{
    return mz_str_eq(mz_node_text(filter, "name"), mz_str_c(name));
}

/* To nowhere on purpose. */
static bool is_black_hole(const struct mz_node *filter)
{
    return mz_str_find(mz_node_text(filter, "typed_config.cluster"), MZ_STR("BlackHoleCluster")) >=
           0;
}

static const char *type_of(const struct mz_node *l)
{
    size_t http = 0, tcp = 0;
    for (size_t i = 0; i < chains_n(l); i++) {
        const struct mz_node *filters = mz_node_get(chain(l, i), "filters");
        for (size_t j = 0; j < mz_node_count(filters); j++) {
            http += is_named(filters->list[j], HTTP_FILTER);
            tcp += is_named(filters->list[j], TCP_FILTER) && !is_black_hole(filters->list[j]);
        }
    }
    return http ? tcp ? "HTTP+TCP" : "HTTP" : tcp ? "TCP" : "UNKNOWN";
}

/* ---- what a chain matches ---- */

static struct mz_str join(const struct mz_node *list, const char *by, struct mz_arena *a)
{
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (list->list[i]->kind == MZ_NODE_STR)
            out = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(out), i ? by : "",
                                  MZ_STR_ARG(list->list[i]->text));
    return out;
}

static struct mz_str protocols(const struct mz_node *list, struct mz_arena *a)
{
    static const struct {
        const char *list, *text;
    } known[] = {
        { "http/1.0,http/1.1,h2c,istio-http/1.0,istio-http/1.1,istio-h2", "HTTP TLS" },
        { "istio,istio-http/1.0,istio-http/1.1,istio-h2", "Istio HTTP Plain" },
        { "istio-peer-exchange,istio", "TCP TLS" },
        { "http/1.0,http/1.1,h2c", "HTTP" },
    };
    const struct mz_str joined = join(list, ",", a);
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (mz_str_eq(joined, mz_str_c(known[i].list)))
            return mz_str_c(known[i].text);
    return joined;
}

static struct mz_str prefixes(const struct mz_node *list, struct mz_arena *a)
{
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < mz_node_count(list); i++)
        out = mz_arena_printf(a, "%.*s%s%.*s/%u", MZ_STR_ARG(out), i ? "," : "",
                              MZ_STR_ARG(mz_node_text(list->list[i], "address_prefix")),
                              (unsigned)mz_node_number(list->list[i], "prefix_len"));
    return out;
}

static void say(struct mz_str *out, const char *what, struct mz_str value, struct mz_arena *a)
{
    if (value.n)
        *out = mz_arena_printf(a, "%.*s%s%s: %.*s", MZ_STR_ARG(*out), out->n ? "; " : "", what,
                               MZ_STR_ARG(value));
}

static struct mz_str match_of(const struct mz_node *m, struct mz_arena *a)
{
    const struct mz_node *list = mz_node_get(m, "prefix_ranges");
    const uint64_t port = mz_node_number(m, "destination_port");
    struct mz_str out = MZ_STR(""), where = mz_node_count(list) ? prefixes(list, a) : MZ_STR("*");
    say(&out, "SNI", join(mz_node_get(m, "server_names"), ",", a), a);
    say(&out, "Trans", mz_node_text(m, "transport_protocol"), a);
    say(&out, "App", protocols(mz_node_get(m, "application_protocols"), a), a);
    if (mz_node_get(m, "destination_port"))
        where = mz_arena_printf(a, "%.*s:%u", MZ_STR_ARG(where), (unsigned)port);
    if (mz_node_get(m, "destination_port") || mz_node_count(list))
        say(&out, "Addr", where, a);
    return out.n ? out : MZ_STR("ALL");
}

/* ---- where it leads ---- */

static struct mz_str cluster_text(struct mz_str name, struct mz_arena *a)
{
    return mz_str_find(name, MZ_STR("Cluster")) >= 0
               ? name
               : mz_arena_printf(a, "Cluster: %.*s", MZ_STR_ARG(name));
}

struct mz_str describe_match(const struct mz_node *match, struct mz_arena *a)
{
    static const struct {
        const char *field, *before, *behind;
    } forms[] = { { "prefix", "", "*" },
                  { "path_separated_prefix", "PathPrefix:", "" },
                  { "path", "", "" },
                  { "safe_regex.regex", "regex ", "" } };
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < MZ_COUNT(forms); i++) {
        const struct mz_str v = mz_node_text(match, forms[i].field);
        if (v.n)
            out = mz_arena_printf(a, "%.*s%s%s%.*s%s", MZ_STR_ARG(out), out.n ? " " : "",
                                  forms[i].before, MZ_STR_ARG(v), forms[i].behind);
    }
    return out;
}

static bool is_everybody(const struct mz_node *vhost)
{
    const struct mz_node *d = mz_node_get(vhost, "domains");
    return mz_node_count(d) == 1 && d->list[0]->kind == MZ_NODE_STR &&
           mz_str_eq(d->list[0]->text, MZ_STR("*"));
}

/* Everything to one cluster: its name; else "". */
static struct mz_str only_cluster(const struct mz_node *config)
{
    const struct mz_node *v = mz_node_get(config, "virtual_hosts");
    const struct mz_node *r = mz_node_count(v) == 1 ? mz_node_get(v->list[0], "routes") : NULL;
    const bool one = mz_node_count(r) == 1 && is_everybody(v->list[0]) &&
                     mz_str_eq(mz_node_text(r->list[0], "match.prefix"), MZ_STR("/"));
    return one ? mz_node_text(r->list[0], "route.cluster") : MZ_STR("");
}

static struct mz_str inline_routes(const struct mz_node *config, struct mz_arena *a)
{
    const struct mz_node *vhosts = mz_node_get(config, "virtual_hosts");
    struct mz_str out = MZ_STR("Inline Route: ");
    for (size_t i = 0; i < mz_node_count(vhosts); i++) {
        const struct mz_node *v = vhosts->list[i], *routes = mz_node_get(v, "routes");
        const struct mz_str who =
            is_everybody(v) ? MZ_STR("") : join(mz_node_get(v, "domains"), "/", a);
        out = mz_arena_printf(a, "%.*s%s%.*s%s", MZ_STR_ARG(out), i ? "; " : "", MZ_STR_ARG(who),
                              who.n ? " " : "");
        for (size_t j = 0; j < mz_node_count(routes); j++)
            out = mz_arena_printf(
                a, "%.*s%s%.*s", MZ_STR_ARG(out), j ? ", " : "",
                MZ_STR_ARG(describe_match(mz_node_get(routes->list[j], "match"), a)));
    }
    return out;
}

static struct mz_str destination_http(const struct mz_node *config, struct mz_arena *a)
{
    const struct mz_node *routes = mz_node_get(config, "route_config");
    const struct mz_str rds = mz_node_text(config, "rds.route_config_name");
    if (routes) {
        const struct mz_str one = only_cluster(routes);
        return one.n ? cluster_text(one, a) : inline_routes(routes, a);
    }
    return rds.n ? mz_arena_printf(a, "Route: %.*s", MZ_STR_ARG(rds)) : MZ_STR("HTTP");
}

static struct mz_str destination(const struct mz_node *filters, struct mz_arena *a)
{
    for (size_t i = 0; i < mz_node_count(filters); i++) {
        const struct mz_node *f = filters->list[i];
        if (is_named(f, HTTP_FILTER))
            return destination_http(mz_node_get(f, "typed_config"), a);
        if (is_named(f, TCP_FILTER) && !is_black_hole(f))
            return cluster_text(mz_node_text(f, "typed_config.cluster"), a);
    }
    return MZ_STR("Non-HTTP/Non-TCP");
}

/* ---- rows ---- */

static struct mz_str addresses(const struct mz_node *l, struct mz_arena *a)
{
    const struct mz_node *more = mz_node_get(l, "additional_addresses");
    struct mz_str out = address_of(l);
    for (size_t i = 0; i < mz_node_count(more); i++)
        out = mz_arena_printf(
            a, "%.*s,%.*s", MZ_STR_ARG(out),
            MZ_STR_ARG(mz_node_text(more->list[i], "address.socket_address.address")));
    return out;
}

static bool has_address(const struct mz_node *l, const char *want)
{
    const struct mz_node *more = mz_node_get(l, "additional_addresses");
    bool found = mz_str_ieq(address_of(l), mz_str_c(want));
    for (size_t i = 0; i < mz_node_count(more); i++)
        found |= mz_str_ieq(mz_node_text(more->list[i], "address.socket_address.address"),
                            mz_str_c(want));
    return found;
}

static bool is_wanted(const struct pc_options *o, const struct mz_node *l)
{
    return (!o->address[0] || has_address(l, o->address)) && (!o->port || port_of(l) == o->port) &&
           (!o->type[0] || mz_str_ieq(mz_str_c(type_of(l)), mz_str_c(o->type)));
}

struct shown {
    struct mz_str match, destination;
    size_t at; /* equal destinations stay in the chains' order */
};

static int by_destination(const void *a, const void *b)
{
    const struct shown *x = a, *y = b;
    const int c = mz_str_cmp(y->destination, x->destination);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static void head_cells(const struct pc *p, struct table *t, const struct mz_node *l)
{
    if (p->kinds)
        table_cellf(t, "listener/%.*s", MZ_STR_ARG(mz_node_text(l, "name")));
    table_cell(t, addresses(l, t->arena));
    table_cellf(t, "%u", (unsigned)port_of(l));
}

static void rows(const struct pc *p, struct table *t, const struct mz_node *l)
{
    const size_t n = chains_n(l);
    struct shown *v = mz_arena_alloc0(t->arena, (n + 1) * sizeof(*v));
    if (!p->o->verbose) {
        head_cells(p, t, l);
        table_cell(t, mz_str_c(type_of(l)));
        table_end_row(t);
        return;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = (struct shown){ match_of(mz_node_get(chain(l, i), "filter_chain_match"), t->arena),
                               destination(mz_node_get(chain(l, i), "filters"), t->arena), i };
    qsort(v, n, sizeof(*v), by_destination);
    for (size_t i = 0; i < n; i++) {
        head_cells(p, t, l);
        table_cell(t, v[i].match);
        table_cell(t, v[i].destination);
        table_end_row(t);
    }
}

static int compare(const void *a, const void *b)
{
    const struct mz_node *const *x = a, *const *y = b;
    const uint64_t p = port_of(*x), q = port_of(*y);
    int c = (p > q) - (p < q);
    if (c == 0)
        c = mz_str_cmp(address_of(*x), address_of(*y));
    return c ? c : strcmp(type_of(*x), type_of(*y));
}

bool pc_listeners(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "ListenersConfigDump", err);
    struct resources all = { 0 }, wanted = { 0 };
    struct table t;
    if (!part)
        return false;
    resources_add(&all, part, "dynamic_listeners", "active_state.listener", p->dump->arena);
    resources_add(&all, part, "static_listeners", "listener", p->dump->arena);
    if (!all.n)
        return mz_err_set(err, "no listeners found");
    wanted.v = all.v;
    for (size_t i = 0; i < all.n; i++)
        if (is_wanted(p->o, all.v[i]))
            wanted.v[wanted.n++] = all.v[i];
    if (p->form != SHOW_TABLE) {
        show_print(resources_list(&wanted, p->dump->arena), p->form, true, p->out);
        return true;
    }
    qsort(wanted.v, wanted.n, sizeof(*wanted.v), compare);
    table_init(&t, 1);
    table_head(&t, p->o->verbose ? p->kinds ? "NAME|ADDRESSES|PORT|MATCH|DESTINATION"
                                            : "ADDRESSES|PORT|MATCH|DESTINATION"
                   : p->kinds    ? "NAME|ADDRESSES|PORT|TYPE"
                                 : "ADDRESSES|PORT|TYPE");
    for (size_t i = 0; i < wanted.n; i++)
        rows(p, &t, wanted.v[i]);
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}
