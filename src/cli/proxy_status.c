/* proxy-status: who is connected to a control plane, and what each has acknowledged. */
#include <stdlib.h>

#include "base/near.h"
#include "cli/command.h"
#include "cli/pods.h"
#include "cli/print.h"
#include "cli/table.h"

struct status_options {
    const char *output, *ns, *plane, *mesh;
    uint32_t verbosity;
};
#define AT(member) offsetof(struct status_options, member)
static const struct arg_flag status_flags[] = {
    { "control-plane", 0, ARG_TEXT, AT(plane),
      "Monitoring address of the control plane (127.0.0.1:15014, where no mesh runs)" },
    { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the mesh whose control plane is asked" },
    { "namespace", 'n', ARG_TEXT, AT(ns), "Only proxies of this namespace" },
    { "output", 'o', ARG_TEXT, AT(output), "Output format: table or json or yaml" },
    { "verbosity", 'v', ARG_NUMBER, AT(verbosity),
      "0: the types that each proxy subscribes to; 1: the state of each" },
};
#undef AT

/* Columns in the order of the field's tool; others behind them. */
static const struct {
    const char *name, *type;
} types[] = {
    { "CDS", "envoy.config.cluster.v3.Cluster" },
    { "LDS", "envoy.config.listener.v3.Listener" },
    { "EDS", "envoy.config.endpoint.v3.ClusterLoadAssignment" },
    { "RDS", "envoy.config.route.v3.RouteConfiguration" },
    { "ECDS", "envoy.config.core.v3.TypedExtensionConfig" },
    { "SDS", "envoy.extensions.transport_sockets.tls.v3.Secret" },
    { "NDS", "istio.networking.nds.v1.NameTable" },
};

static const struct mz_node *resource_of(const struct mz_node *proxy, const char *type)
{
    const struct mz_node *map = mz_node_get(proxy, "resources");
    for (uint32_t i = 0; map && map->kind == MZ_NODE_MAP && i < map->n; i++)
        if (mz_str_ends(map->pairs[i].key, mz_str_c(type)))
            return map->pairs[i].value;
    return NULL;
}

static const char *state_of(const struct mz_node *r)
{
    const struct mz_str sent = mz_node_text(r, "sent"), acked = mz_node_text(r, "acked");
    if (!r)
        return "IGNORED";
    if (mz_node_text(r, "lastError").n)
        return "ERROR";
    return !sent.n ? "NOT SENT" : mz_str_eq(sent, acked) ? "SYNCED" : "STALE";
}

static void row(struct table *t, const struct mz_node *p, const struct status_options *o)
{
    struct mz_str list = MZ_STR("");
    size_t n = 0;
    table_cell(t, mz_node_text(p, "proxy"));
    table_cell(t, mz_node_text(p, "cluster_id"));
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        const struct mz_node *r = resource_of(p, types[i].type);
        if (o->verbosity)
            table_cell(t, mz_str_c(state_of(r)));
        if (r)
            list = mz_arena_printf(t->arena, "%.*s%s%s", MZ_STR_ARG(list), n++ ? "," : "",
                                   types[i].name);
    }
    table_cell(t, mz_str_c(o->plane));
    table_cell(t, mz_node_text(p, "istio_version"));
    if (!o->verbosity && n)
        table_cellf(t, "%zu (%.*s)", n, MZ_STR_ARG(list));
    else if (!o->verbosity)
        table_cell(t, MZ_STR("0"));
    table_end_row(t);
}

static int compare(const void *a, const void *b)
{
    const struct mz_node *const *x = a, *const *y = b;
    return mz_str_cmp(mz_node_text(*x, "proxy"), mz_node_text(*y, "proxy"));
}

static void errors(const struct mz_node *p)
{
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        const struct mz_node *r = resource_of(p, types[i].type);
        const struct mz_str error = mz_node_text(r, "lastError"),
                            object = mz_node_text(r, "lastErrorObject");
        if (error.n)
            printf("%.*s refused %s%s%.*s: %.*s\n", MZ_STR_ARG(mz_node_text(p, "proxy")),
                   types[i].name, object.n ? ", made of " : "", MZ_STR_ARG(object),
                   MZ_STR_ARG(error));
    }
}

static bool print(const struct dump *d, const struct status_options *o, const char *proxy,
                  struct mz_err *err)
{
    struct mz_near near;
    const size_t n = mz_node_count(d->root);
    const struct mz_node **v = mz_arena_alloc0(d->arena, (n + 1) * sizeof(const struct mz_node *));
    size_t kept = 0;
    struct table t;
    for (size_t i = 0; i < n; i++)
        if (!proxy || mz_str_find(mz_node_text(d->root->list[i], "proxy"), mz_str_c(proxy)) >= 0)
            v[kept++] = d->root->list[i];
    mz_near_init(&near, mz_str_c(proxy ? proxy : ""));
    for (size_t i = 0; i < n; i++)
        mz_near_try(&near, mz_node_text(d->root->list[i], "proxy"));
    if (proxy && !kept)
        return mz_err_set(err, "no proxy \"%.200s\" is connected%s", proxy, mz_near_text(&near));
    qsort(v, kept, sizeof(*v), compare);
    table_init(&t, 5);
    table_head(&t, o->verbosity ? "NAME|CLUSTER|CDS|LDS|EDS|RDS|ECDS|SDS|NDS|ISTIOD|VERSION"
                                : "NAME|CLUSTER|ISTIOD|VERSION|SUBSCRIBED TYPES");
    for (size_t i = 0; i < kept; i++)
        row(&t, v[i], o);
    table_print(&t, stdout);
    table_fini(&t);
    for (size_t i = 0; i < kept; i++)
        errors(v[i]);
    return true;
}

static bool is_name(const char *s) /* it becomes a part of an address */
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.")] == 0;
}

/* Of the address that is given, of the running mesh, else of this machine. */
static bool load(struct status_options *o, const char *path, struct dump *d, struct mz_err *err)
{
    struct pods p;
    if (o->plane || (!o->mesh && !mesh_runs(NULL))) {
        o->plane = o->plane ? o->plane : "127.0.0.1:15014";
        return dump_load(d, o->plane, 15014, path, NULL, err);
    }
    o->plane = "mizzend";
    bool ok = pods_open(&p, &(struct pods_options){ .mesh = o->mesh }, err);
    if (ok)
        ok = plane_load(&p, path, d, err);
    else
        dump_init(d);
    pods_close(&p);
    return ok;
}

static int run_proxy_status(const struct command *c, int argc, char **argv)
{
    struct status_options o = { .output = "table", .ns = "", .plane = NULL };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    char path[400];
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    const bool json = strcmp(o.output, "json") == 0, yaml = strcmp(o.output, "yaml") == 0;
    if (!json && !yaml && strcmp(o.output, "table") != 0) {
        mz_err_set(&err, "output format \"%.60s\" not supported", o.output);
        return command_fail(&err);
    }
    if (!is_name(o.ns) || strlen(o.ns) > 253)
        return command_usage_error(c, "--namespace is not a name");
    struct dump d;
    (void)snprintf(path, sizeof(path), "/debug/syncz%s%s", o.ns[0] ? "?namespace=" : "", o.ns);
    bool ok = load(&o, path, &d, &err);
    if (ok && (json || yaml))
        show_print(d.root, json ? SHOW_JSON : SHOW_YAML, false, stdout);
    else if (ok)
        ok = print(&d, &o, r.others.n ? r.others.v[0] : NULL, &err);
    dump_fini(&d);
    return ok ? EXIT_OK : command_fail(&err);
}

const struct command command_proxy_status = {
    .name = "proxy-status",
    .aliases = "",
    .arguments = "[PROXY]",
    .run = run_proxy_status,
    .flags = status_flags,
    .flags_n = MZ_COUNT(status_flags),
    .help = "Retrieves the synchronization status of each proxy in the mesh",
};
