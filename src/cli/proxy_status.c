/* proxy-status: who is connected to a control plane, and what each has acknowledged. */
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
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

/* In the order of the field's tool where it lists them; in its table of states they are sorted by type (@column). */
static const struct type {
    const char *name, *type;
    unsigned column;
    bool always; /* a column even if nobody subscribes to it */
} types[] = {
    { "CDS", "envoy.config.cluster.v3.Cluster", 0, true },
    { "LDS", "envoy.config.listener.v3.Listener", 3, true },
    { "EDS", "envoy.config.endpoint.v3.ClusterLoadAssignment", 2, true },
    { "RDS", "envoy.config.route.v3.RouteConfiguration", 4, true },
    { "ECDS", "envoy.config.core.v3.TypedExtensionConfig", 1, true },
    { "SDS", "envoy.extensions.transport_sockets.tls.v3.Secret", 5, false },
    { "NDS", "istio.networking.nds.v1.NameTable", 6, false },
};

static const struct type *type_of(size_t column)
{
    size_t i = 0;
    while (types[i].column != column)
        i++;
    return &types[i];
}

/* What is listed of all proxies: those that were asked for, by name. */
struct statuses {
    const struct mz_node **v;
    size_t n;
    const struct type *columns[MZ_COUNT(types)];
    size_t columns_n;
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

/* "5s", "3m10s", "2h5m", "4d" as the field's tools tell ages. */
static struct mz_str age_text(uint64_t s, struct mz_arena *a)
{
    static const struct {
        uint64_t below, unit; /* seconds */
        char name;
        uint64_t part;
        char part_name; /* 0: without */
    } rows[] = { { 120, 1, 's', 1, 0 },           { 600, 60, 'm', 1, 's' },
                 { 10800, 60, 'm', 1, 0 },        { 28800, 3600, 'h', 60, 'm' },
                 { 172800, 3600, 'h', 1, 0 },     { 691200, 86400, 'd', 3600, 'h' },
                 { UINT64_MAX, 86400, 'd', 1, 0 } };
    size_t i = 0;
    while (s >= rows[i].below)
        i++;
    const unsigned long long whole = s / rows[i].unit, left = s % rows[i].unit / rows[i].part;
    return rows[i].part_name && left
               ? mz_arena_printf(a, "%llu%c%llu%c", whole, rows[i].name, left, rows[i].part_name)
               : mz_arena_printf(a, "%llu%c", whole, rows[i].name);
}

static struct mz_str state_text(const struct mz_node *r, struct mz_arena *a)
{
    const char *state = state_of(r);
    const struct mz_str sent = mz_node_text(r, "sentTime");
    struct tm tm = { 0 };
    if (!sent.n || !mz_node_text(r, "sent").n ||
        !strptime(mz_arena_dup(a, sent).p, "%Y-%m-%dT%H:%M:%S", &tm))
        return mz_str_c(state);
    const int64_t then = (int64_t)timegm(&tm), now = (int64_t)(mz_clock->wall_us() / 1000000);
    return mz_arena_printf(a, "%s (%.*s)", state,
                           MZ_STR_ARG(age_text(now > then ? (uint64_t)(now - then) : 0, a)));
}

static void row(struct table *t, const struct mz_node *p, const struct statuses *all,
                const struct status_options *o)
{
    struct mz_str list = MZ_STR("");
    size_t n = 0;
    table_cell(t, mz_node_text(p, "proxy"));
    table_cell(t, mz_node_text(p, "cluster_id"));
    for (size_t i = 0; o->verbosity && i < all->columns_n; i++)
        table_cell(t, state_text(resource_of(p, all->columns[i]->type), t->arena));
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        const struct mz_node *r = resource_of(p, types[i].type);
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

static void head(struct table *t, const struct statuses *all, const struct status_options *o)
{
    struct mz_str names = MZ_STR("NAME|CLUSTER");
    for (size_t i = 0; i < all->columns_n; i++)
        names = mz_arena_printf(t->arena, "%.*s|%s", MZ_STR_ARG(names), all->columns[i]->name);
    table_head(t, o->verbosity
                      ? mz_arena_printf(t->arena, "%.*s|ISTIOD|VERSION", MZ_STR_ARG(names)).p
                      : "NAME|CLUSTER|ISTIOD|VERSION|SUBSCRIBED TYPES");
}

static void print(const struct statuses *all, const struct status_options *o)
{
    struct table t;
    table_init(&t, 5);
    head(&t, all, o);
    for (size_t i = 0; i < all->n; i++)
        row(&t, all->v[i], all, o);
    table_print(&t, stdout);
    table_fini(&t);
    for (size_t i = 0; i < all->n; i++)
        errors(all->v[i]);
}

/* ---- for machines: what istiod answers to the field's tool ---- */

static json_t *text_of(struct mz_str s)
{
    return json_stringn(s.p ? s.p : "", s.n);
}

static json_t *config_state(const struct type *t, const struct mz_node *r)
{
    char url[160];
    const char *state = state_of(r);
    const struct mz_str sent = mz_node_text(r, "sentTime"), error = mz_node_text(r, "lastError");
    (void)snprintf(url, sizeof(url), "type.googleapis.com/%s", t->type);
    json_t *one = json_pack("{s:s,s:s}", "typeUrl", url, "configStatus",
                            strcmp(state, "NOT SENT") == 0 ? "NOT_SENT" : state);
    if (sent.n)
        (void)json_object_set_new(one, "lastUpdated", text_of(sent));
    if (error.n)
        (void)json_object_set_new(
            one, "errorState",
            json_pack("{s:o,s:o}", "lastUpdateAttempt", text_of(sent), "details", text_of(error)));
    return one;
}

static json_t *client_config(const struct statuses *all, const struct mz_node *p)
{
    json_t *configs = json_array();
    const struct mz_str id = mz_node_text(p, "proxy");
    const ptrdiff_t dot = mz_str_rchr(id, '.'); /* POD.NAMESPACE */
    for (size_t i = 0; i < all->columns_n; i++) {
        const struct mz_node *r = resource_of(p, all->columns[i]->type);
        if (r)
            (void)json_array_append_new(configs, config_state(all->columns[i], r));
    }
    return json_pack("{s:s,s:{s:o,s:{s:o,s:o,s:o}},s:o}", "@type",
                     "type.googleapis.com/envoy.service.status.v3.ClientConfig", "node", "id",
                     text_of(id), "metadata", "CLUSTER_ID", text_of(mz_node_text(p, "cluster_id")),
                     "ISTIO_VERSION", text_of(mz_node_text(p, "istio_version")), "NAMESPACE",
                     text_of(dot < 0 ? MZ_STR("") : mz_str_skip(id, (size_t)dot + 1)),
                     "genericXdsConfigs", configs);
}

static void print_for_machines(const struct statuses *all, const struct status_options *o,
                               bool yaml, struct mz_arena *a)
{
    json_t *resources = json_array();
    for (size_t i = 0; i < all->n; i++)
        (void)json_array_append_new(resources, client_config(all, all->v[i]));
    json_t *who = json_pack("{s:s,s:s}", "Component", "istiod", "ID", o->plane);
    char *identifier = json_dumps(who, JSON_COMPACT);
    json_t *root = json_pack("{s:o,s:s,s:{s:s}}", "resources", resources, "typeUrl",
                             "type.googleapis.com/envoy.service.status.v3.ClientConfig",
                             "controlPlane", "identifier", identifier);
    char *text = json_dumps(root, 0);
    struct mz_err err;
    const struct mz_node *n = text ? mz_tree_read(a, mz_str_c(text), MZ_TEXT_JSON, &err) : NULL;
    if (n)
        show_print(n, yaml ? SHOW_YAML : SHOW_JSON, false, stdout);
    free(text); /* jansson's */
    free(identifier);
    json_decref(root);
    json_decref(who);
}

/* ---- which ---- */

static bool choose(const struct dump *d, const char *proxy, struct statuses *out,
                   struct mz_err *err)
{
    struct mz_near near;
    const size_t n = mz_node_count(d->root);
    *out = (struct statuses){ .v = mz_arena_alloc0(d->arena,
                                                   (n + 1) * sizeof(const struct mz_node *)) };
    for (size_t i = 0; i < n; i++)
        if (!proxy || mz_str_find(mz_node_text(d->root->list[i], "proxy"), mz_str_c(proxy)) >= 0)
            out->v[out->n++] = d->root->list[i];
    mz_near_init(&near, mz_str_c(proxy ? proxy : ""));
    for (size_t i = 0; i < n; i++)
        mz_near_try(&near, mz_node_text(d->root->list[i], "proxy"));
    if (proxy && !out->n)
        return mz_err_set(err, "no proxy \"%.200s\" is connected%s", proxy, mz_near_text(&near));
    qsort(out->v, out->n, sizeof(*out->v), compare);
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        const struct type *t = type_of(i);
        bool seen = t->always;
        for (size_t j = 0; j < out->n && !seen; j++)
            seen = resource_of(out->v[j], t->type) != NULL;
        if (seen)
            out->columns[out->columns_n++] = t;
    }
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
    struct statuses all;
    const bool ok =
        load(&o, path, &d, &err) && choose(&d, r.others.n ? r.others.v[0] : NULL, &all, &err);
    if (ok && (json || yaml))
        print_for_machines(&all, &o, yaml, d.arena);
    else if (ok)
        print(&all, &o);
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
