/* proxy-config route: a row per route. */
#include "cli/proxy_config.h"

/* ---- domains: the first two that tell something ---- */

static bool has_domain(const struct mz_str *v, size_t n, struct mz_str d)
{
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(v[i], d))
            return true;
    return false;
}

static bool is_expansion(const struct mz_str *v, size_t n, struct mz_str d, struct mz_str suffix)
{
    return mz_str_ends(d, suffix) && has_domain(v, n, (struct mz_str){ d.p, d.n - suffix.n });
}

static bool has_port(struct mz_str d)
{
    size_t colons = 0;
    for (size_t i = 0; i < d.n; i++)
        colons += d.p[i] == ':';
    return colons > 2 ? !mz_str_ends(d, MZ_STR("]")) : colons > 0;
}

static struct mz_str domains_text(const struct mz_node *list, struct mz_arena *a)
{
    const size_t all = mz_node_count(list);
    struct mz_str *v = mz_arena_alloc0(a, (all + 1) * sizeof(*v)), out = MZ_STR("");
    size_t n = 0, shown = 0;
    if (all == 1)
        return list->list[0]->kind == MZ_NODE_STR ? list->list[0]->text : MZ_STR("");
    for (size_t i = 0; i < all; i++)
        if (list->list[i]->kind == MZ_NODE_STR && !has_port(list->list[i]->text))
            v[n++] = list->list[i]->text;
    for (size_t i = 0; i < n; i++) {
        if (is_expansion(v, n, v[i], MZ_STR(".svc.cluster.local")) ||
            is_expansion(v, n, v[i], MZ_STR(".svc")))
            continue;
        if (shown < 2)
            out = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(out), shown ? ", " : "",
                                  MZ_STR_ARG(v[i]));
        shown++;
    }
    return shown > 2 ? mz_arena_printf(a, "%.*s + %zu more...", MZ_STR_ARG(out), shown - 2) : out;
}

/* ---- rows ---- */

static void row(const struct pc *p, struct table *t, const struct mz_node *config,
                const struct mz_node *vhost, struct mz_str match, struct mz_str rule)
{
    table_cellf(t, "%s%.*s", p->kinds ? "route/" : "", MZ_STR_ARG(mz_node_text(config, "name")));
    table_cell(t, mz_node_text(vhost, "name"));
    table_cell(t, domains_text(mz_node_get(vhost, "domains"), t->arena));
    table_cell(t, match);
    table_cell(t, rule);
    table_end_row(t);
}

static void rows(const struct pc *p, struct table *t, const struct mz_node *config)
{
    const struct mz_node *vhosts = mz_node_get(config, "virtual_hosts");
    if (!p->o->verbose) {
        table_cellf(t, "%s%.*s", p->kinds ? "route/" : "",
                    MZ_STR_ARG(mz_node_text(config, "name")));
        table_cellf(t, "%zu", mz_node_count(vhosts));
        table_end_row(t);
        return;
    }
    for (size_t i = 0; i < mz_node_count(vhosts); i++) {
        const struct mz_node *routes = mz_node_get(vhosts->list[i], "routes");
        for (size_t j = 0; j < mz_node_count(routes); j++) {
            const struct mz_node *r = routes->list[j];
            if (!mz_str_eq(mz_node_text(r, "route.cluster"), MZ_STR("PassthroughCluster")))
                row(p, t, config, vhosts->list[i],
                    describe_match(mz_node_get(r, "match"), t->arena),
                    describe_rule(mz_node_get(r, "metadata"), t->arena));
        }
        if (!mz_node_count(routes))
            row(p, t, config, vhosts->list[i], MZ_STR("/*"), MZ_STR("404"));
    }
}

/* Names that are numbers come in their order where they stand side by side; others stay where they are. */
static void sort(struct resources *r)
{
    for (size_t i = 1; i < r->n; i++)
        for (size_t j = i; j > 0; j--) {
            uint64_t a, b;
            if (!mz_str_u64(mz_node_text(r->v[j], "name"), &a) ||
                !mz_str_u64(mz_node_text(r->v[j - 1], "name"), &b) || a >= b)
                break;
            const struct mz_node *one = r->v[j];
            r->v[j] = r->v[j - 1];
            r->v[j - 1] = one;
        }
}

bool pc_routes(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "RoutesConfigDump", err);
    struct resources all = { 0 }, wanted = { 0 };
    struct table t;
    if (!part)
        return false;
    resources_add(&all, part, "dynamic_route_configs", "route_config", p->dump->arena);
    resources_add(&all, part, "static_route_configs", "route_config", p->dump->arena);
    if (!all.n)
        return mz_err_set(err, "no routes found");
    sort(&all);
    wanted.v = all.v;
    for (size_t i = 0; i < all.n; i++)
        if (!p->o->name[0] || mz_str_eq(mz_node_text(all.v[i], "name"), mz_str_c(p->o->name)))
            wanted.v[wanted.n++] = all.v[i];
    if (p->form != SHOW_TABLE) {
        show_print(resources_list(&wanted, p->dump->arena), p->form, true, p->out);
        return true;
    }
    table_init(&t, 5);
    table_head(&t, p->o->verbose ? "NAME|VHOST NAME|DOMAINS|MATCH|VIRTUAL SERVICE"
                                 : "NAME|VIRTUAL HOSTS");
    for (size_t i = 0; i < wanted.n; i++)
        rows(p, &t, wanted.v[i]);
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}
