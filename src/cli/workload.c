/* workload: what a machine outside of Kubernetes needs to be a part of the mesh. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/dump.h"
#include "cli/print.h"
#include "control/ca/files.h"
#include "control/ca/token.h"
#include "control/inject/inject.h"
#include "net/addr.h"

/* ---- values in JSON; what is set is taken; members are sorted when they are written ---- */

static void put_text(json_t *to, const char *key, const char *value)
{
    (void)json_object_set_new(to, key, json_string(value)); /* only without memory */
}

static json_t *member(json_t *of, const char *key) /* an object, made where there is none */
{
    json_t *m = json_object_get(of, key);
    if (!json_is_object(m)) {
        m = json_object();
        (void)json_object_set_new(of, key, m);
    }
    return m;
}

static const char *text_of(const json_t *of, const char *key, const char *otherwise)
{
    const char *v = json_string_value(json_object_get(of, key));
    return v && *v ? v : otherwise;
}

static json_t *read_yaml(const char *path, struct mz_err *err) /* new; NULL: not an object */
{
    struct mz_buf b;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    json_t *out = NULL;
    mz_buf_init(&b);
    if (read_file(path, &b, err)) {
        const struct mz_str text = mz_buf_linearize(&b, mz_buf_len(&b));
        const struct mz_node *n = mz_tree_read(a, text, MZ_TEXT_YAML, err);
        out = n && n->kind == MZ_NODE_MAP ? mz_json_from_tree(n) : NULL;
        if (n && !out)
            mz_err_set(err, "is not a document");
        if (!out)
            (void)mz_err_at(err, "%s", path);
    }
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    return out;
}

/* @v goes. */
static bool write_yaml(json_t *v, FILE *to, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);
    const struct mz_node *n = text ? mz_tree_read(a, mz_str_c(text), MZ_TEXT_JSON, err) : NULL;
    if (n)
        show_print(n, SHOW_YAML, false, to);
    free(text);
    json_decref(v);
    mz_arena_destroy(a);
    return n != NULL;
}

/* ---- group create ---- */

struct group_options {
    const char *name, *ns, *account, *network, *locality;
    struct arg_list labels, annotations, ports;
    uint32_t weight;
};
#define AT(member) offsetof(struct group_options, member)
static const struct arg_flag group_flags[] = {
    { "name", 0, ARG_TEXT, AT(name), "The name of the workload group" },
    { "namespace", 'n', ARG_TEXT, AT(ns),
      "The namespace that the workload instances will belong to" },
    { "labels", 'l', ARG_LIST, AT(labels),
      "The labels to apply to the workload instances; e.g. -l env=prod,vers=2" },
    { "annotations", 'a', ARG_LIST, AT(annotations),
      "The annotations to apply to the workload instances" },
    { "ports", 'p', ARG_LIST, AT(ports), "The incoming ports exposed by the workload instance" },
    { "serviceAccount", 's', ARG_TEXT, AT(account),
      "The service identity to associate with the workload instances (default)" },
    { "network", 0, ARG_TEXT, AT(network), "Of the endpoints" },
    { "locality", 0, ARG_TEXT, AT(locality), "The locality associated with the endpoint" },
    { "weight", 'w', ARG_NUMBER, AT(weight), "The load balancing weight of the endpoint" },
};
#undef AT

/* "a=b,c=d", perhaps several times. With @ports values are numbers. */
static bool put_pairs(json_t *to, const char *key, const struct arg_list *l, bool ports,
                      struct mz_err *err)
{
    for (size_t i = 0; i < l->n; i++) {
        struct mz_str rest = mz_str_c(l->v[i]), one;
        while (mz_str_split(&rest, ',', &one)) {
            char name[300];
            uint64_t port = 0;
            const ptrdiff_t eq = mz_str_chr(one, '=');
            const struct mz_str v = mz_str_skip(one, eq < 0 ? one.n : (size_t)eq + 1);
            if (eq <= 0 || (size_t)eq >= sizeof(name))
                return mz_err_set(err, "\"%.*s\" is not NAME=VALUE", MZ_STR_ARG(one)) ||
                       mz_err_at(err, "--%s", key);
            (void)snprintf(name, sizeof(name), "%.*s", (int)eq, one.p);
            if (ports && (!mz_str_u64(v, &port) || !port || port > UINT16_MAX))
                return mz_err_set(err, "\"%.*s\" is not NAME=PORT", MZ_STR_ARG(one)) ||
                       mz_err_at(err, "--%s", key);
            (void)json_object_set_new(member(to, key), name,
                                      ports ? json_integer((json_int_t)port)
                                            : json_stringn(v.p, v.n));
        }
    }
    return true;
}

static int create(const struct command *c, int argc, char **argv)
{
    struct group_options o = { .account = "default" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (!o.name)
        return command_usage_error(c, "expecting a workload name");
    if (!o.ns)
        return command_usage_error(c, "expecting a workload namespace");
    json_t *out = json_object(), *meta = member(out, "metadata"), *spec = member(out, "spec");
    json_t *of = member(spec, "metadata"), *template = member(spec, "template");
    put_text(out, "apiVersion", "networking.istio.io/v1");
    put_text(out, "kind", "WorkloadGroup");
    put_text(meta, "name", o.name);
    put_text(meta, "namespace", o.ns);
    put_text(template, "serviceAccount", o.account);
    if (o.network)
        put_text(template, "network", o.network);
    if (o.locality)
        put_text(template, "locality", o.locality);
    if (o.weight)
        (void)json_object_set_new(template, "weight", json_integer(o.weight));
    if (put_pairs(of, "labels", &o.labels, false, &err) &&
        put_pairs(of, "annotations", &o.annotations, false, &err) &&
        put_pairs(template, "ports", &o.ports, true, &err))
        return write_yaml(out, stdout, &err) ? EXIT_OK : command_fail(&err);
    json_decref(out);
    return command_fail(&err);
}

/* ---- entry configure ---- */

struct entry_options {
    const char *file, *output, *mesh, *ca_dir, *cluster_id, *ingress_ip, *internal_ip, *external_ip,
        *istio_ns, *revision;
    uint32_t token_s;
    bool autoregister, capture_dns;
};
#define AT(member) offsetof(struct entry_options, member)
static const struct arg_flag entry_flags[] = {
    { "file", 'f', ARG_TEXT, AT(file), "filename of the WorkloadGroup artifact" },
    { "output", 'o', ARG_TEXT, AT(output), "Output directory for generated files" },
    { "ca-dir", 0, ARG_TEXT, AT(ca_dir),
      "Directory of the mesh's authority (mizzend --ca-dir): roots, and the key of tokens" },
    { "meshConfigFile", 0, ARG_TEXT, AT(mesh), "File of the MeshConfig" },
    { "clusterID", 0, ARG_TEXT, AT(cluster_id),
      "The ID used to identify the cluster (Kubernetes)" },
    { "tokenDuration", 0, ARG_NUMBER, AT(token_s), "The token duration in seconds (3600)" },
    { "ingressIP", 0, ARG_TEXT, AT(ingress_ip), "IP address of the ingress gateway" },
    { "autoregister", 0, ARG_SWITCH, AT(autoregister),
      "Creates a WorkloadEntry upon connection to the control plane" },
    { "capture-dns", 0, ARG_SWITCH, AT(capture_dns),
      "Enables the capture of outgoing DNS packets on port 53, redirecting to the agent (true)" },
    { "internalIP", 0, ARG_TEXT, AT(internal_ip), "Internal IP address of the workload" },
    { "externalIP", 0, ARG_TEXT, AT(external_ip), "External IP address of the workload" },
    { "istioNamespace", 'i', ARG_TEXT, AT(istio_ns), "(istio-system)" },
    { "revision", 'r', ARG_TEXT, AT(revision), "Control plane revision (default)" },
};
#undef AT

struct machine {
    const struct entry_options *o;
    json_t *group, *template, *config; /* borrowed of @group; the ProxyConfig */
    const char *name, *ns, *account;
    char host[300]; /* of the control plane */
    bool revised;
};

/* @from over @into, object by object; lists and texts are replaced. */
static void merge(json_t *into, json_t *from)
{
    const char *key;
    json_t *v;
    json_object_foreach(from, key, v)
    {
        json_t *had = json_object_get(into, key);
        if (json_is_object(had) && json_is_object(v))
            merge(had, v);
        else
            (void)json_object_set(into, key, v);
    }
}

static bool add_annotation(struct machine *m, const json_t *of, struct mz_err *err)
{
    const char *text = text_of(json_object_get(of, "annotations"), "proxy.istio.io/config", NULL);
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_node *n = text ? mz_tree_read(a, mz_str_c(text), MZ_TEXT_YAML, err) : NULL;
    json_t *v = n && n->kind == MZ_NODE_MAP ? mz_json_from_tree(n) : NULL;
    if (v)
        merge(m->config, v);
    else if (text && n)
        mz_err_set(err, "is not a ProxyConfig");
    json_decref(v);
    mz_arena_destroy(a);
    return !text || v || mz_err_at(err, "%s: proxy.istio.io/config", m->o->file);
}

static const char *canonical(const json_t *labels, const char *const *names, size_t n,
                             const char *otherwise)
{
    for (size_t i = 0; i < n; i++)
        if (text_of(labels, names[i], NULL))
            return text_of(labels, names[i], NULL);
    return otherwise;
}

/* What the agent tells of itself: a machine has no injected pod that would. */
static void add_metadata(struct machine *m, const char *trust_domain)
{
    static const char *const services[] = { "service.istio.io/canonical-name",
                                            "app.kubernetes.io/name", "app" };
    static const char *const revisions[] = { "service.istio.io/canonical-revision",
                                             "app.kubernetes.io/version", "version" };
    const struct entry_options *o = m->o;
    json_t *spec = json_object_get(m->group, "spec"), *md = member(m->config, "proxyMetadata");
    json_t *labels = json_object();
    merge(labels, json_object_get(json_object_get(spec, "metadata"), "labels"));
    merge(labels, json_object_get(m->template, "labels"));
    put_text(md, "CANONICAL_SERVICE", canonical(labels, services, MZ_COUNT(services), m->name));
    put_text(md, "CANONICAL_REVISION", canonical(labels, revisions, MZ_COUNT(revisions), "latest"));
    put_text(labels, services[0], text_of(md, "CANONICAL_SERVICE", ""));
    put_text(labels, revisions[0], text_of(md, "CANONICAL_REVISION", ""));
    put_text(md, "POD_NAMESPACE", m->ns);
    put_text(md, "SERVICE_ACCOUNT", m->account);
    put_text(md, "TRUST_DOMAIN", trust_domain);
    put_text(md, "ISTIO_META_CLUSTER_ID", o->cluster_id);
    put_text(md, "ISTIO_META_MESH_ID", text_of(m->config, "meshId", ""));
    put_text(md, "ISTIO_META_NETWORK", text_of(m->template, "network", ""));
    put_text(md, "ISTIO_META_WORKLOAD_NAME", m->name);
    char *text = json_dumps(labels, JSON_COMPACT | JSON_SORT_KEYS);
    put_text(md, "ISTIO_METAJSON_LABELS", text ? text : "{}");
    free(text);
    json_decref(labels);
    if (o->capture_dns)
        put_text(md, "ISTIO_META_DNS_CAPTURE", "true");
    if (o->autoregister)
        put_text(md, "ISTIO_META_AUTO_REGISTER_GROUP", m->name);
}

static void add_ports(struct machine *m)
{
    json_t *ports = json_object_get(m->template, "ports"), *list = json_array(), *v;
    const char *key;
    char *text;
    json_object_foreach(ports, key, v)(void) json_array_append_new(
        list, json_pack("{s:s, s:O, s:s}", "name", key, "containerPort", v, "protocol", ""));
    text = json_array_size(list) ? json_dumps(list, JSON_COMPACT) : NULL;
    if (text)
        put_text(member(m->config, "proxyMetadata"), "ISTIO_META_POD_PORTS", text);
    free(text);
    json_decref(list);
}

/* ---- its files ---- */

static bool write_file(const struct machine *m, const char *name, bool secret, struct mz_buf *b,
                       struct mz_err *err)
{
    const bool ok = file_write(m->o->output, name, secret, mz_buf_linearize(b, mz_buf_len(b)), err);
    mz_buf_fini(b);
    return ok;
}

static bool write_mesh(struct machine *m, struct mz_err *err)
{
    struct mz_buf b;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    json_t *all = json_pack("{s:O}", "defaultConfig", m->config);
    bool ok = f && write_yaml(all, f, err);
    ok = f && fclose(f) == 0 && ok;
    mz_buf_init(&b);
    if (ok)
        mz_buf_append(&b, text, n);
    free(text);
    ok = ok && write_file(m, "mesh.yaml", false, &b, err);
    return ok;
}

/* For shells: nothing in a value ends it. */
static void put_quoted(struct mz_buf *b, const char *key, const char *value)
{
    mz_buf_printf(b, "%s='", key);
    for (; *value; value++)
        if (*value == '\'')
            mz_buf_append_str(b, MZ_STR("'\"'\"'"));
        else
            mz_buf_append(b, value, 1);
    mz_buf_append_str(b, MZ_STR("'\n"));
}

static int compare_keys(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static bool is_variable(const char *key)
{
    for (const char *p = key; *p; p++)
        if (*p != '_' && !(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
            (p == key || *p < '0' || *p > '9'))
            return false;
    return *key != 0;
}

static void inbound_ports(const struct machine *m, struct mz_buf *b)
{
    json_t *v;
    const char *key;
    bool any = false;
    json_object_foreach(json_object_get(m->template, "ports"), key, v)
    {
        mz_buf_printf(b, "%s%lld", any ? "," : "", (long long)json_integer_value(v));
        any = true;
    }
    mz_buf_printf(b, "%s", any ? "" : "*");
    mz_buf_append(b, "", 1);
}

/* ssh, which nobody shall lose, and ports of proxy and agent. */
static void outside_ports(const struct machine *m, char *out, size_t room)
{
    const long long said = json_integer_value(json_object_get(m->config, "statusPort"));
    const long long status = said ? said : 15020;
    const int n = snprintf(out, room, "22,15090,15021");
    if (status != 15090 && status != 15021)
        (void)snprintf(out + n, room - (size_t)n, ",%lld", status);
}

static bool write_env(struct machine *m, struct mz_err *err)
{
    const struct entry_options *o = m->o;
    struct mz_buf b, inbound;
    json_t *env = json_object(), *v;
    const char *key, **keys;
    char text[400];
    size_t n = 0;
    merge(env, json_object_get(m->config, "proxyMetadata"));
    mz_buf_init(&b);
    mz_buf_init(&inbound);
    inbound_ports(m, &inbound);
    put_text(env, "ISTIO_INBOUND_PORTS", mz_buf_linearize(&inbound, mz_buf_len(&inbound)).p);
    mz_buf_fini(&inbound);
    put_text(env, "ISTIO_NAMESPACE", m->ns);
    (void)snprintf(text, sizeof(text), "%s.%s", m->name, m->ns);
    put_text(env, "ISTIO_SERVICE", text);
    put_text(env, "ISTIO_SERVICE_CIDR", "*");
    outside_ports(m, text, sizeof(text));
    put_text(env, "ISTIO_LOCAL_EXCLUDE_PORTS", text);
    put_text(env, "SERVICE_ACCOUNT", m->account);
    (void)snprintf(text, sizeof(text), "%s:15012", m->host);
    if (m->revised)
        put_text(env, "CA_ADDR", text);
    if (o->internal_ip || o->external_ip)
        put_text(env, "ISTIO_SVC_IP", o->internal_ip ? o->internal_ip : o->external_ip);
    if (!o->internal_ip && o->external_ip)
        put_text(env, "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true");
    keys = mz_alloc(MZ_MEM_MISC, json_object_size(env) * sizeof(*keys));
    json_object_foreach(env, key, v) keys[n++] = key;
    qsort(keys, n, sizeof(*keys), compare_keys);
    for (size_t i = 0; i < n; i++)
        if (is_variable(keys[i])) /* what is none would be somebody's command */
            put_quoted(&b, keys[i], text_of(env, keys[i], ""));
    mz_free(MZ_MEM_MISC, keys);
    json_decref(env);
    return write_file(m, "cluster.env", false, &b, err);
}

static bool write_identity(struct machine *m, struct mz_err *err)
{
    const struct mz_tokens_opts to = { .dir = m->o->ca_dir };
    const struct mz_account who = { mz_str_c(m->ns), mz_str_c(m->account) };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_str roots;
    struct mz_tokens *t = NULL;
    bool ok = mz_account_ok(who) ||
              mz_err_set(err, "%s: \"%s/%s\" is not an account", m->o->file, m->ns, m->account);
    const enum file_found f =
        ok ? file_read(m->o->ca_dir, "root-cert.pem", false, a, &roots, err) : FILE_FAULT;
    if (f == FILE_ABSENT)
        mz_err_set(err, "%s: there is no root-cert.pem", m->o->ca_dir);
    ok = f == FILE_FOUND && file_write(m->o->output, "root-cert.pem", false, roots, err);
    t = ok ? mz_tokens_create(&to, err) : NULL;
    ok = t && file_write(m->o->output, "istio-token", true,
                         mz_tokens_make(t, who, m->o->token_s, a), err);
    mz_tokens_destroy(t);
    mz_arena_destroy(a);
    if (ok)
        fprintf(stderr,
                "Warning: a security token for namespace \"%s\" and service account \"%s\" has "
                "been generated and stored at \"%s/istio-token\"\n",
                m->ns, m->account, m->o->output);
    return ok;
}

static bool write_hosts(struct machine *m, struct mz_err *err)
{
    struct mz_buf b;
    struct mz_addr ip;
    mz_buf_init(&b);
    if (m->o->ingress_ip && mz_addr_parse_ip(mz_str_c(m->o->ingress_ip), 0, &ip))
        mz_buf_printf(&b, "%s %s\n", m->o->ingress_ip, m->host);
    else
        fprintf(stderr,
                "Warning: --ingressIP is the address at which the machine reaches %s: without it "
                "hosts is empty\n",
                m->host);
    return write_file(m, "hosts", false, &b, err);
}

/* ---- the command ---- */

static bool prepare(struct machine *m, json_t *mesh, struct mz_err *err)
{
    json_t *meta = json_object_get(m->group, "metadata"), *spec = member(m->group, "spec");
    const char *revision = m->o->revision;
    m->template = member(spec, "template");
    m->name = text_of(meta, "name", NULL);
    m->ns = text_of(meta, "namespace", "default");
    m->account = text_of(m->template, "serviceAccount", "default");
    if (!m->name)
        return mz_err_set(err, "metadata.name: is required") || mz_err_at(err, "%s", m->o->file);
    m->revised = revision && strcmp(revision, "default") != 0;
    (void)snprintf(m->host, sizeof(m->host), "istiod%s%s.%s.svc", m->revised ? "-" : "",
                   m->revised ? revision : "", m->o->istio_ns);
    m->config = member(mesh, "defaultConfig");
    if (!add_annotation(m, meta, err) || !add_annotation(m, json_object_get(spec, "metadata"), err))
        return false;
    if (m->revised && !text_of(m->config, "discoveryAddress", NULL)) {
        char address[320];
        (void)snprintf(address, sizeof(address), "%s:15012", m->host);
        put_text(m->config, "discoveryAddress", address);
    }
    if (json_is_object(json_object_get(spec, "probe")))
        (void)json_object_set(m->config, "readinessProbe", json_object_get(spec, "probe"));
    add_metadata(m, text_of(mesh, "trustDomain", ""));
    add_ports(m);
    return true;
}

static const char *misses(const struct entry_options *o)
{
    if (!o->file)
        return "expecting a WorkloadGroup artifact file";
    if (!o->output)
        return "expecting an output directory";
    if (o->internal_ip && o->external_ip)
        return "the flags --internalIP and --externalIP are mutually exclusive";
    return o->ca_dir ? NULL : "expecting the directory of the mesh's authority (--ca-dir)";
}

static int configure(const struct command *c, int argc, char **argv)
{
    struct entry_options o = {
        .cluster_id = "Kubernetes", .istio_ns = "istio-system", .token_s = 3600, .capture_dns = true
    };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (misses(&o))
        return command_usage_error(c, misses(&o));
    struct machine m = { .o = &o, .group = read_yaml(o.file, &err) };
    json_t *mesh = !m.group ? NULL : o.mesh ? read_yaml(o.mesh, &err) : json_object();
    const bool ok = m.group && mesh && prepare(&m, mesh, &err) && dir_make(o.output, &err) &&
                    write_mesh(&m, &err) && write_env(&m, &err) && write_identity(&m, &err) &&
                    write_hosts(&m, &err);
    json_decref(m.group);
    json_decref(mesh);
    if (!ok)
        return command_fail(&err);
    printf("Configuration generation into directory %s was successful\n", o.output);
    return EXIT_OK;
}

/* ---- words ---- */

/* "group create", "entry configure": the second word is the only one of its kind. */
static int with_word(const struct command *c, const char *word, int argc, char **argv,
                     int (*run)(const struct command *c, int argc, char **argv))
{
    if (argc >= 1 && strcmp(argv[0], word) == 0)
        return run(c, argc - 1, argv + 1);
    command_usage(c, "mizzenctl workload");
    return argc == 0 || strcmp(argv[0], "--help") == 0 ? EXIT_OK : EXIT_USAGE;
}

static int run_group(const struct command *c, int argc, char **argv)
{
    return with_word(c, "create", argc, argv, create);
}

static int run_entry(const struct command *c, int argc, char **argv)
{
    return with_word(c, "configure", argc, argv, configure);
}

static const struct command group = {
    .name = "group",
    .aliases = "",
    .arguments = "create --name NAME -n NAMESPACE",
    .flags = group_flags,
    .flags_n = MZ_COUNT(group_flags),
    .run = run_group,
    .help = "Write a WorkloadGroup, a template of the machines of one kind",
};
static const struct command entry = {
    .name = "entry",
    .aliases = "",
    .arguments = "configure -f FILE -o DIRECTORY --ca-dir DIRECTORY",
    .flags = entry_flags,
    .flags_n = MZ_COUNT(entry_flags),
    .run = run_entry,
    .help = "Make the files that a machine of a WorkloadGroup needs",
};
static const struct command *const words[] = { &entry, &group };

const struct command command_workload = {
    .name = "workload",
    .aliases = "",
    .arguments = "",
    .sub = words,
    .sub_n = MZ_COUNT(words),
    .help = "Prepare machines outside of Kubernetes",
};
