/* The ProxyConfig in force: each source over the one before, field by field. */
#include "agent/agent.h"
#include "agent/bootstrap/bootstrap_priv.h"
#include "proto/node.h"

/* Go's quoting: \n, \t, \", \\, \xHH and \uHHHH among printable text. False: it is not quoted so. */
static bool unquote(struct mz_str s, struct mz_arena *a, struct mz_str *out)
{
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"')
        return false;
    struct mz_err ignored;
    const struct mz_node *n =
        mz_tree_read_yaml(a, s, 0, &ignored); /* a superset in double quotes */
    if (!n || n->kind != MZ_NODE_STR)
        return false;
    *out = n->text;
    return true;
}

const struct mz_node *pod_info(const struct mz_agent_settings *s, const char *file,
                               struct mz_arena *a, struct mz_err *err)
{
    struct map m = { .a = a };
    struct file_text f;
    struct mz_str line, value;
    if (!file_read(mz_arena_printf(a, "%s/%s", s->pod_info, file).p, a, &f, err))
        return NULL;
    for (struct mz_str rest = f.text; mz_str_split(&rest, '\n', &line);) {
        const ptrdiff_t eq = mz_str_chr(line, '=');
        if (eq <= 0)
            continue;
        if (!unquote(mz_str_skip(line, (size_t)eq + 1), a, &value)) {
            mz_vec_free(&m.v, MZ_MEM_CONFIG);
            return mz_err_set(err, "%s/%s: the value of %.*s is not quoted", s->pod_info, file,
                              (int)eq, line.p),
                   NULL;
        }
        map_set(&m, (struct mz_str){ line.p, (size_t)eq }, made_text(a, value));
    }
    return map_node(&m);
}

static void defaults(struct map *m)
{
    static const char *const texts[][2] = {
        { "configPath", "./etc/istio/proxy" },
        { "binaryPath", "/usr/local/bin/envoy" },
        { "serviceCluster", "istio-proxy" },
        { "drainDuration", "45s" },
        { "terminationDrainDuration", "5s" },
        { "controlPlaneAuthPolicy", "MUTUAL_TLS" },
        { "discoveryAddress", "istiod.istio-system.svc:15012" },
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        map_text(m, texts[i][0], mz_str_c(texts[i][1]));
    map_number(m, "proxyAdminPort", 15000);
    map_number(m, "statNameLength", 189);
    map_number(m, "statusPort", 15020);
}

/* Fields replace those that are there; proxyMetadata alone is joined. Names may be written as in .proto files. */
static bool apply(struct map *m, const struct mz_node *over, const char *from, struct mz_err *err)
{
    if (over->kind == MZ_NODE_NULL)
        return true;
    if (over->kind != MZ_NODE_MAP)
        return mz_err_set(err, "%s is no ProxyConfig", from);
    for (uint32_t i = 0; i < over->n; i++) {
        const struct mz_str key = mz_node_camel(over->pairs[i].key, m->a);
        const struct mz_node *value = over->pairs[i].value;
        if (value->kind == MZ_NODE_NULL)
            continue;
        if (mz_str_eq(key, MZ_STR("proxyMetadata"))) {
            struct map joined = { .a = m->a };
            for (size_t k = 0; k < m->v.n; k++)
                if (mz_str_eq(m->v.v[k].key, key))
                    map_all(&joined, m->v.v[k].value);
            map_all(&joined, value);
            value = map_node(&joined);
        }
        if (mz_str_eq(key, MZ_STR("tracingServiceName")))
            map_drop(m, MZ_STR("serviceCluster"));
        map_set(m, key, value);
    }
    return true;
}

static bool apply_text(struct map *m, struct mz_str text, const char *from, struct mz_err *err)
{
    const struct mz_node *n = mz_tree_read_yaml(m->a, text, 0, err);
    return n ? apply(m, n, from, err) : mz_err_at(err, "%s", from);
}

static bool from_mesh(struct map *m, const struct mz_agent_settings *s, struct mz_err *err)
{
    struct file_text f;
    if (!s->mesh_config[0])
        return true;
    if (!file_read(s->mesh_config, m->a, &f, err))
        return false;
    if (!f.there)
        return true;
    const struct mz_node *n = mz_tree_read_yaml(m->a, f.text, 0, err);
    if (!n)
        return mz_err_at(err, "%s", s->mesh_config);
    const struct mz_node *config = mz_node_get(n, "default_config");
    return !config || apply(m, config, s->mesh_config, err);
}

static void from_flags(struct map *m, const struct mz_agent_settings *s)
{
    const struct {
        const char *key, *value;
    } flags[] = {
        { "binaryPath", s->binary },
        { "configPath", s->config_path },
        { "discoveryAddress", s->discovery },
        { "drainDuration", s->drain },
        { "controlPlaneAuthPolicy", s->auth_policy },
        { "proxyAdminPort", s->admin_port },
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (flags[i].value)
            map_text(m, flags[i].key, mz_str_c(flags[i].value));
    if (s->zipkin) {
        struct map address = { .a = m->a }, tracing = { .a = m->a };
        map_text(&address, "address", mz_str_c(s->zipkin));
        map_set(&tracing, MZ_STR("zipkin"), map_node(&address));
        map_set(m, MZ_STR("tracing"), map_node(&tracing));
    }
}

static void concurrency(struct map *m, const struct mz_agent_settings *s,
                        const struct mz_node *seen)
{
    const char *limit = mz_agent_env(s, "ISTIO_CPU_LIMIT");
    uint64_t n = 0;
    if (s->concurrency)
        map_number(m, "concurrency", s->concurrency);
    else if (!mz_node_get(seen, "concurrency") && limit && mz_str_u64(mz_str_c(limit), &n) && n)
        map_number(m, "concurrency", n);
}

/* Enums of value 0 and numbers of 0 are not printed, as in the protobuf JSON of the field's agent. */
static const struct mz_node *tidy(struct map *m)
{
    for (size_t i = 0; i < m->v.n;) {
        const struct mz_node *v = m->v.v[i].value;
        if ((mz_str_eq(m->v.v[i].key, MZ_STR("controlPlaneAuthPolicy")) && v->kind == MZ_NODE_STR &&
             mz_str_eq(v->text, MZ_STR("NONE"))) ||
            (v->kind == MZ_NODE_STR && v->text.n == 0))
            m->v.v[i] = m->v.v[--m->v.n];
        else
            i++;
    }
    return map_node(m);
}

const struct mz_node *proxy_config(const struct mz_agent_settings *s,
                                   const struct mz_node *annotations, struct mz_arena *a,
                                   struct mz_err *err)
{
    struct map m = { .a = a };
    const char *env = mz_agent_env(s, "PROXY_CONFIG");
    const struct mz_str note = member_text(annotations, "proxy.istio.io/config");
    defaults(&m);
    map_text(&m, "serviceCluster", mz_str_c(s->service_cluster));
    const bool ok = from_mesh(&m, s, err) &&
                    (!env || !*env || apply_text(&m, mz_str_c(env), "PROXY_CONFIG", err)) &&
                    (!note.n || apply_text(&m, note, "annotation proxy.istio.io/config", err));
    if (!ok) {
        mz_vec_free(&m.v, MZ_MEM_CONFIG);
        return NULL;
    }
    from_flags(&m, s);
    for (uint32_t i = 0; i < annotations->n; i++) {
        const struct mz_pair *p = &annotations->pairs[i];
        uint64_t port;
        if (mz_str_eq(p->key, MZ_STR("sidecar.istio.io/discoveryAddress")))
            map_set(&m, MZ_STR("discoveryAddress"), p->value);
        else if (mz_str_eq(p->key, MZ_STR("status.sidecar.istio.io/port")) &&
                 mz_str_u64(p->value->text, &port) && port < 65536)
            map_number(&m, "statusPort", port);
    }
    struct map copy = { .a = a };
    for (size_t i = 0; i < m.v.n; i++)
        map_set(&copy, m.v.v[i].key, m.v.v[i].value);
    concurrency(&m, s, map_node(&copy));
    return tidy(&m);
}
