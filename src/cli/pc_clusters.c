/* proxy-config cluster, bootstrap, ecds; names of clusters and of the objects behind them. */
#include <stdlib.h>

#include "cli/proxy_config.h"

struct subset_key subset_key_parse(struct mz_str name)
{
    struct mz_str rest = name, part[4];
    struct subset_key k = { .fqdn = name };
    for (size_t i = 0; i < 3; i++) {
        const ptrdiff_t at = mz_str_chr(rest, '|');
        if (at < 0)
            return k;
        part[i] = (struct mz_str){ rest.p, (size_t)at };
        rest = mz_str_skip(rest, (size_t)at + 1);
    }
    k = (struct subset_key){ part[0], part[1], part[2], rest, 0, true };
    (void)mz_str_u64(part[1], &k.port_number); /* else 0 */
    return k;
}

int subset_key_cmp(const struct subset_key *a, const struct subset_key *b)
{
    int c = mz_str_cmp(a->fqdn, b->fqdn);
    if (c == 0)
        c = mz_str_cmp(a->subset, b->subset);
    if (c == 0)
        c = (a->port_number > b->port_number) - (a->port_number < b->port_number);
    return c ? c : mz_str_cmp(a->direction, b->direction);
}

/* "/apis/networking.istio.io/v1/namespaces/NS/destination-rule/NAME" to "NAME.NS" */
struct mz_str describe_rule(const struct mz_node *metadata, struct mz_arena *a)
{
    const struct mz_node *istio = mz_node_get(mz_node_get(metadata, "filter_metadata"), "istio");
    struct mz_str path = mz_node_text(istio, "config"), piece[8] = { { NULL, 0 } };
    size_t n = 0;
    if (!mz_node_get(istio, "config"))
        return MZ_STR("");
    if (!mz_str_starts(path, MZ_STR("/apis/networking.istio.io/")))
        return MZ_STR("<unknown>");
    for (struct mz_str p; mz_str_split(&path, '/', &p); n++)
        if (n < 8)
            piece[n] = p;
    return n == 8 ? mz_arena_printf(a, "%.*s.%.*s", MZ_STR_ARG(piece[7]), MZ_STR_ARG(piece[5]))
                  : MZ_STR("");
}

static bool contains(struct mz_str s, const char *part)
{
    return !part[0] || mz_str_find(s, mz_str_c(part)) >= 0;
}

static bool is_wanted(const struct pc_options *o, struct mz_str name)
{
    char port[16] = "";
    if (o->port)
        (void)snprintf(port, sizeof(port), "|%u|", o->port);
    return contains(name, o->fqdn) && contains(name, o->direction) && contains(name, o->subset) &&
           contains(name, port);
}

static int compare(const void *a, const void *b)
{
    const struct mz_node *const *x = a, *const *y = b;
    const struct subset_key k = subset_key_parse(mz_node_text(*x, "name")),
                            l = subset_key_parse(mz_node_text(*y, "name"));
    return subset_key_cmp(&k, &l);
}

static void row(const struct pc *p, struct table *t, const struct mz_node *c)
{
    const struct mz_str name = mz_node_text(c, "name"), type = mz_node_text(c, "type");
    const struct subset_key k = subset_key_parse(name);
    const char *kind = p->kinds ? "cluster/" : "";
    if (p->kinds)
        table_cellf(t, "%s%.*s", kind, MZ_STR_ARG(name));
    if (k.whole) {
        table_cell(t, k.fqdn);
        table_cellf(t, "%u", (unsigned)k.port_number);
        table_cell(t, k.subset.n ? k.subset : MZ_STR("-"));
        table_cell(t, k.direction);
    } else {
        table_cellf(t, "%s%.*s", kind, MZ_STR_ARG(name));
        table_cell(t, MZ_STR("-"));
        table_cell(t, MZ_STR("-"));
        table_cell(t, MZ_STR("-"));
    }
    table_cell(t, type.n ? type : MZ_STR("STATIC"));
    table_cell(t, describe_rule(mz_node_get(c, "metadata"), t->arena));
    table_end_row(t);
}

bool pc_clusters(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "ClustersConfigDump", err);
    struct resources all = { 0 }, wanted = { 0 };
    struct table t;
    if (!part)
        return false;
    resources_add(&all, part, "dynamic_active_clusters", "cluster", p->dump->arena);
    resources_add(&all, part, "static_clusters", "cluster", p->dump->arena);
    if (!all.n)
        return mz_err_set(err, "no clusters found");
    qsort(all.v, all.n, sizeof(*all.v), compare);
    wanted.v = all.v;
    for (size_t i = 0; i < all.n; i++)
        if (is_wanted(p->o, mz_node_text(all.v[i], "name")))
            wanted.v[wanted.n++] = all.v[i];
    if (p->form != SHOW_TABLE) {
        show_print(resources_list(&wanted, p->dump->arena), p->form, true, p->out);
        return true;
    }
    table_init(&t, 5);
    table_head(&t, p->kinds ? "NAME|SERVICE FQDN|PORT|SUBSET|DIRECTION|TYPE|DESTINATION RULE"
                            : "SERVICE FQDN|PORT|SUBSET|DIRECTION|TYPE|DESTINATION RULE");
    for (size_t i = 0; i < wanted.n; i++)
        row(p, &t, wanted.v[i]);
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}

/* ---- bootstrap ---- */

bool pc_bootstrap_summary(const struct pc *p, struct mz_err *err)
{
    static const struct {
        const char *key, *before;
    } words[] = { { "build.label", "-" },
                  { "revision.status", "/" },
                  { "build.type", "/" },
                  { "ssl.version", "/" } };
    const struct mz_node *part = dump_part(p->dump, "BootstrapConfigDump", err);
    if (!part)
        return false;
    const struct mz_node *node = mz_node_at(part, "bootstrap.node"),
                         *meta = mz_node_get(node, "metadata"),
                         *build = mz_node_get(node, "user_agent_build_version");
    const struct mz_str istio = mz_node_text(meta, "ISTIO_VERSION");
    struct mz_str sha = mz_node_text(meta, "ISTIO_PROXY_SHA");
    struct table t;
    table_init(&t, 1);
    if (istio.n) {
        table_cell(&t, MZ_STR("Istio Version:"));
        table_cell(&t, istio);
        table_end_row(&t);
    }
    if (sha.n) {
        const ptrdiff_t colon = mz_str_chr(sha, ':');
        table_cell(&t, MZ_STR("Istio Proxy Version:"));
        table_cell(&t, mz_str_skip(sha, (size_t)(colon + 1)));
        table_end_row(&t);
    }
    struct mz_str version = mz_arena_printf(t.arena, "%u.%u.%u",
                                            (unsigned)mz_node_number(build, "version.major_number"),
                                            (unsigned)mz_node_number(build, "version.minor_number"),
                                            (unsigned)mz_node_number(build, "version.patch"));
    for (size_t i = 0; i < MZ_COUNT(words); i++) {
        const struct mz_node *v = mz_node_get(mz_node_get(build, "metadata"), words[i].key);
        if (v && v->kind == MZ_NODE_STR)
            version = mz_arena_printf(t.arena, "%.*s%s%.*s", MZ_STR_ARG(version), words[i].before,
                                      MZ_STR_ARG(v->text));
    }
    table_cell(&t, MZ_STR("Envoy Version:"));
    table_cell(&t, version);
    table_end_row(&t);
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}

bool pc_bootstrap(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "BootstrapConfigDump", err);
    struct resources one = { &part, 1 };
    if (!part)
        return false;
    if (p->form == SHOW_TABLE)
        return pc_bootstrap_summary(p, err);
    show_print(resources_list(&one, p->dump->arena)->list[0], p->form, true, p->out);
    return true;
}

/* ---- extensions by name ---- */

static int by_type(const void *a, const void *b)
{
    const struct mz_node *const *x = a, *const *y = b;
    const int c =
        mz_str_cmp(mz_node_text(*x, "typed_config.@type"), mz_node_text(*y, "typed_config.@type"));
    return c ? c : mz_str_cmp(mz_node_text(*x, "name"), mz_node_text(*y, "name"));
}

bool pc_extensions(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "EcdsConfigDump", err);
    struct resources all = { 0 }, one = { &part, 1 };
    struct table t;
    if (!part)
        return false;
    if (p->form != SHOW_TABLE) {
        show_print(resources_list(&one, p->dump->arena)->list[0], p->form, true, p->out);
        return true;
    }
    resources_add(&all, part, "ecds_filters", "ecds_filter", p->dump->arena);
    if (all.n)
        qsort(all.v, all.n, sizeof(*all.v), by_type);
    table_init(&t, 5);
    table_head(&t, "ECDS NAME|TYPE");
    for (size_t i = 0; i < all.n; i++) {
        struct mz_str type = mz_node_text(mz_node_get(all.v[i], "typed_config"), "@type");
        const struct mz_str before = MZ_STR("type.googleapis.com/");
        table_cell(&t, mz_node_text(all.v[i], "name"));
        table_cell(&t, mz_str_starts(type, before) ? mz_str_skip(type, before.n) : type);
        table_end_row(&t);
    }
    table_print(&t, p->out);
    table_fini(&t);
    return true;
}
