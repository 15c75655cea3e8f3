#include "control/translate/proxy.h"

#include "control/model/duration.h"
#include "control/translate/build.h"
#include "net/addr.h"

enum { MAX_IPS = 16, MAX_LABELS = 256 };

static const pb_Value *meta(const pb_Node *n, const char *key)
{
    for (size_t i = 0; n->metadata && i < n->metadata->n_fields; i++)
        if (strcmp(n->metadata->fields[i]->key, key) == 0)
            return n->metadata->fields[i]->value;
    return NULL;
}

static struct mz_str meta_text(const pb_Node *n, const char *key)
{
    const pb_Value *v = meta(n, key);
    return v && v->kind_case == pb_Value_KIND_STRING_VALUE ? mz_str_c(v->string_value) : MZ_STR("");
}

static struct mz_labels text_members(struct mz_arena *a, const pb_Struct *s)
{
    MZ_VEC(struct mz_label) list = { 0 };
    for (size_t i = 0; s && i < s->n_fields && list.n < MAX_LABELS; i++) {
        const pb_Value *value = s->fields[i]->value;
        if (value && value->kind_case == pb_Value_KIND_STRING_VALUE)
            *mz_vec_push(&list, MZ_MEM_XDS) =
                (struct mz_label){ mz_arena_dup(a, mz_str_c(s->fields[i]->key)),
                                   mz_arena_dup(a, mz_str_c(value->string_value)) };
    }
    struct mz_labels out = mz_labels_make(a, list.v, list.n);
    mz_vec_free(&list, MZ_MEM_XDS);
    return out;
}

static struct mz_labels meta_labels(struct mz_arena *a, const pb_Node *n, const char *key)
{
    const pb_Value *v = meta(n, key);
    return text_members(a,
                        v && v->kind_case == pb_Value_KIND_STRUCT_VALUE ? v->struct_value : NULL);
}

static bool take_type(struct mz_str text, enum mz_proxy_type *out, struct mz_err *err)
{
    if (mz_str_eq(text, MZ_STR("sidecar")))
        *out = MZ_PROXY_SIDECAR;
    else if (mz_str_eq(text, MZ_STR("router")))
        *out = MZ_PROXY_ROUTER;
    else
        return mz_err_set(err, "node.id: proxies of type \"%.*s\" are not served",
                          (int)(text.n > 60 ? 60 : text.n), text.p);
    return true;
}

/* Those that are addresses, in their order; the one of the id when there are none. */
static void take_ips(struct mz_proxy *p, struct mz_str list, struct mz_str first)
{
    struct mz_str *v = mz_arena_alloc(p->arena, MAX_IPS * sizeof(*v));
    struct mz_str rest = list.n ? list : first;
    struct mz_addr addr;
    for (struct mz_str one; p->ips_n < MAX_IPS && mz_str_split(&rest, ',', &one);) {
        if (!mz_addr_parse_ip(mz_str_trim(one), 0, &addr))
            continue;
        p->ipv4 |= addr.sa.sa_family == AF_INET;
        p->ipv6 |= addr.sa.sa_family == AF_INET6;
        v[p->ips_n++] = mz_arena_dup(p->arena, mz_str_trim(one));
    }
    p->ips = v;
}

static bool take_id(struct mz_proxy *p, const pb_Node *node, struct mz_err *err)
{
    struct mz_str rest = mz_str_c(node->id), type, ip, id, domain;
    if (!mz_str_split(&rest, '~', &type) || !mz_str_split(&rest, '~', &ip) ||
        !mz_str_split(&rest, '~', &id) || !mz_str_split(&rest, '~', &domain) || rest.n)
        return mz_err_set(err, "node.id: \"%.200s\" is not type~address~name.namespace~domain",
                          node->id);
    if (!take_type(type, &p->type, err))
        return false;
    ptrdiff_t dot = mz_str_rchr(id, '.');
    p->id = mz_arena_dup(p->arena, id);
    p->name = dot < 0 ? p->id : mz_arena_dup(p->arena, (struct mz_str){ id.p, (size_t)dot });
    p->ns = mz_arena_dup(p->arena, dot < 0 ? MZ_STR("default") : mz_str_skip(id, (size_t)dot + 1));
    p->domain = mz_arena_dup(p->arena, domain);
    take_ips(p, meta_text(node, "INSTANCE_IPS"), ip);
    return p->ips_n || mz_err_set(err, "node.id: \"%.200s\" has no address", node->id);
}

static uint16_t meta_port(const pb_Node *n, const char *key)
{
    const pb_Value *v = meta(n, key);
    uint64_t port = 0;
    if (v && v->kind_case == pb_Value_KIND_NUMBER_VALUE && v->number_value >= 0 &&
        v->number_value <= UINT16_MAX)
        return (uint16_t)v->number_value;
    (void)mz_str_u64(meta_text(n, key), &port); /* older agents write a text */
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static bool meta_is_true(const pb_Node *n, const char *key)
{
    const pb_Value *v = meta(n, key);
    return (v && v->kind_case == pb_Value_KIND_BOOL_VALUE && v->bool_value) ||
           mz_str_ieq(meta_text(n, key), MZ_STR("true")) ||
           mz_str_eq(meta_text(n, key), MZ_STR("1"));
}

/* Settings of the proxy that its agent passes on (ISTIO_META_*). */
static void take_settings(struct mz_proxy *p, const pb_Node *node)
{
    uint64_t ms;
    p->tproxy = mz_str_eq(meta_text(node, "INTERCEPTION_MODE"), MZ_STR("TPROXY"));
    p->uncaught = mz_str_eq(meta_text(node, "INTERCEPTION_MODE"), MZ_STR("NONE"));
    p->unprivileged = meta_is_true(node, "UNPRIVILEGED_POD");
    p->http10 = mz_str_eq(meta_text(node, "HTTP10"), MZ_STR("1"));
    p->balance_in = meta_is_true(node, "INBOUND_LISTENER_EXACT_BALANCE");
    p->balance_out = meta_is_true(node, "OUTBOUND_LISTENER_EXACT_BALANCE");
    p->http_proxy_port = meta_port(node, "HTTP_PROXY_PORT");
    p->reserved[0] = meta_port(node, "ENVOY_STATUS_PORT");
    p->reserved[1] = meta_port(node, "ENVOY_PROMETHEUS_PORT");
    if (mz_duration_parse(meta_text(node, "IDLE_TIMEOUT"), &ms))
        p->idle = tr_duration_us(p->arena, ms * 1000);
}

/* Of DNS that the agent answers: "localhost:15053". */
static void take_dns(struct mz_proxy *p, struct mz_str text)
{
    const ptrdiff_t colon = mz_str_rchr(text, ':');
    struct mz_addr addr;
    uint64_t port;
    p->dns = MZ_STR("127.0.0.1");
    p->dns_port = 15053;
    if (colon <= 0)
        return;
    struct mz_str host = { text.p, (size_t)colon };
    if (mz_str_starts(host, MZ_STR("[")) && host.p[host.n - 1] == ']')
        host = (struct mz_str){ host.p + 1, host.n - 2 };
    if (mz_addr_parse_ip(host, 0, &addr))
        p->dns = mz_arena_dup(p->arena, host);
    if (mz_str_u64(mz_str_skip(text, (size_t)colon + 1), &port) && port && port <= UINT16_MAX)
        p->dns_port = (uint16_t)port;
}

static uint64_t settings_hash(const struct mz_proxy *p)
{
    const uint64_t all[] = { p->lacks_mysql,
                             p->tproxy,
                             p->unprivileged,
                             p->http10,
                             p->balance_in,
                             p->balance_out,
                             p->http_proxy_port,
                             p->reserved[0],
                             p->reserved[1],
                             p->dns_port,
                             p->idle != NULL,
                             p->idle ? (uint64_t)p->idle->seconds : 0,
                             p->idle ? (uint64_t)p->idle->nanos : 0 };
    return mz_xxh64(all, sizeof(all), p->shape);
}

static struct mz_str or_else(struct mz_str s, struct mz_str otherwise)
{
    return s.n ? s : otherwise;
}

/* Istio's proxies and ours name the extension by its factory, older ones by its type. */
static bool lacks_istio(const pb_Node *n)
{
    for (size_t i = 0; i < n->n_extensions; i++)
        if (mz_str_starts(mz_str_c(n->extensions[i]->name), MZ_STR("istio.")) ||
            strcmp(n->extensions[i]->name, "envoy.filters.http.istio_stats") == 0)
            return false;
    return n->n_extensions != 0; /* who tells nothing has them */
}

/* Who tells nothing has everything. */
static bool lacks(const pb_Node *n, const char *name)
{
    for (size_t i = 0; i < n->n_extensions; i++)
        if (strcmp(n->extensions[i]->name, name) == 0)
            return false;
    return n->n_extensions != 0;
}

/* Its agent says so in the node's metadata; a library that found us by itself, by its name. */
static bool is_proxyless(const pb_Node *n)
{
    const struct mz_str by = mz_str_c(n->user_agent_name);
    return mz_str_eq(meta_text(n, "GENERATOR"), MZ_STR("grpc")) ||
           (by.n >= 4 && mz_str_ieq((struct mz_str){ by.p, 4 }, MZ_STR("grpc")));
}

static void take_rest(struct mz_proxy *p, const pb_Node *node)
{
    static const char *const names[] = { "service.istio.io/canonical-name",
                                         "app.kubernetes.io/name", "app" };
    static const char *const revisions[] = { "service.istio.io/canonical-revision",
                                             "app.kubernetes.io/version", "version" };
    if (node->locality)
        p->locality =
            (struct mz_locality){ mz_arena_dup(p->arena, mz_str_c(node->locality->region)),
                                  mz_arena_dup(p->arena, mz_str_c(node->locality->zone)),
                                  mz_arena_dup(p->arena, mz_str_c(node->locality->sub_zone)) };
    p->mesh_id = mz_arena_dup(p->arena, meta_text(node, "MESH_ID"));
    p->node = mz_arena_dup(p->arena, meta_text(node, "NODE_NAME"));
    p->version = mz_arena_dup(p->arena, meta_text(node, "ISTIO_VERSION"));
    struct mz_str workload = mz_arena_dup(p->arena, meta_text(node, "WORKLOAD_NAME"));
    p->canonical = mz_labels_first(p->labels, names, MZ_COUNT(names), or_else(workload, p->name));
    p->revision = mz_labels_first(p->labels, revisions, MZ_COUNT(revisions), MZ_STR("latest"));
    take_settings(p, node);
    p->auto_addresses = meta_is_true(node, "DNS_CAPTURE");
    if (p->auto_addresses)
        take_dns(p, meta_text(node, "DNS_PROXY_ADDR"));
    p->stock = lacks_istio(node);
    p->lacks_wasm = lacks(node, "envoy.filters.http.wasm");
    p->lacks_lua = lacks(node, "envoy.filters.http.lua");
    p->lacks_mysql = lacks(node, "envoy.filters.network.mysql_proxy");
    p->proxyless = p->type == MZ_PROXY_SIDECAR && is_proxyless(node);
    const uint8_t shape[] = { (uint8_t)p->type,  p->ipv4,      p->ipv6,     p->stock,
                              p->auto_addresses, p->proxyless, p->uncaught, p->unprivileged };
    p->shape = mz_xxh64(shape, sizeof(shape), 0);
    const struct mz_str parts[] = { p->ns,        p->domain,   p->cluster_id, p->mesh_id,
                                    p->canonical, p->revision, p->dns };
    p->identity = settings_hash(p);
    for (size_t i = 0; i < MZ_COUNT(parts); i++)
        p->identity = mz_xxh64(parts[i].p, parts[i].n,
                               mz_xxh64(&parts[i].n, sizeof(parts[i].n), p->identity));
}

/* "1.32.0", "1.32-alpha.x". */
static unsigned version_of(struct mz_str text)
{
    uint64_t major = 0, minor = 0;
    struct mz_str part;
    if (!mz_str_split(&text, '.', &part) || !mz_str_u64(part, &major))
        return 0;
    size_t n = 0;
    while (n < text.n && text.p[n] >= '0' && text.p[n] <= '9')
        n++;
    text.n = n;
    return mz_str_u64(text, &minor) && major < 100 && minor < 100 ? (unsigned)(major * 100 + minor)
                                                                  : 0;
}

static struct mz_str otel_name(struct mz_proxy *p, const pb_Node *node)
{
    static const char *const labels[] = { "app.kubernetes.io/instance", "app.kubernetes.io/name" };
    struct mz_str own = mz_label_get(meta_labels(p->arena, node, "ANNOTATIONS"),
                                     "resource.opentelemetry.io/service.name");
    return or_else(own, mz_labels_first(p->labels, labels, MZ_COUNT(labels),
                                        or_else(meta_text(node, "WORKLOAD_NAME"), p->name)));
}

/* What was set for this workload alone; what this version does not know of it is for the agent. */
static const ist_mesh_ProxyConfig *proxy_config(struct mz_proxy *p, const pb_Node *node)
{
    const pb_Value *v = meta(node, "PROXY_CONFIG");
    struct mz_proto_ctx ctx = { .arena = p->arena, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (!v || v->kind_case != pb_Value_KIND_STRUCT_VALUE ||
        !mz_msg_from_tree(&ctx, mz_struct_to_tree(p->arena, v->struct_value),
                          &ist_mesh_ProxyConfig__descriptor, &m, &err))
        return NULL;
    return (const ist_mesh_ProxyConfig *)m;
}

static void take_config(struct mz_proxy *p, const pb_Node *node)
{
    p->config = proxy_config(p, node);
    if (p->config) {
        const uint64_t h = mz_msg_hash(&p->config->base);
        p->shape = mz_xxh64(&h, sizeof(h), p->shape);
        p->identity = mz_xxh64(&h, sizeof(h), p->identity);
    }
}

static void take_telemetry(struct mz_proxy *p, const pb_Node *node)
{
    p->service_cluster = mz_arena_dup(p->arena, mz_str_c(node->cluster));
    p->otel_name = mz_arena_dup(p->arena, otel_name(p, node));
    p->release = version_of(p->version);
    p->metadata = text_members(p->arena, node->metadata);
}

struct mz_proxy *mz_proxy_create(const pb_Node *node, struct mz_err *err)
{
    struct mz_proxy *p = mz_new0(MZ_MEM_XDS, struct mz_proxy);
    p->arena = mz_arena_create(MZ_MEM_XDS);
    if (!take_id(p, node, err)) {
        mz_proxy_destroy(p);
        return NULL;
    }
    struct mz_str ns = meta_text(node, "NAMESPACE"), cluster = meta_text(node, "CLUSTER_ID");
    if (ns.n)
        p->ns = mz_arena_dup(p->arena, ns);
    p->labels = meta_labels(p->arena, node, "LABELS");
    p->cluster_id = mz_arena_dup(p->arena, cluster);
    take_rest(p, node);
    take_telemetry(p, node);
    take_config(p, node);
    return p;
}

void mz_proxy_verify(struct mz_proxy *p, struct mz_str ns, struct mz_str account)
{
    p->verified_ns = mz_arena_dup(p->arena, ns);
    p->verified_account = mz_arena_dup(p->arena, account);
}

void mz_proxy_destroy(struct mz_proxy *p)
{
    if (!p)
        return;
    mz_arena_destroy(p->arena);
    mz_free(MZ_MEM_XDS, p);
}
