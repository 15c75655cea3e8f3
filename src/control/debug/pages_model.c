/* What is served: services, endpoints, documents, settings. */
#include <stdio.h>

#include "control/debug/pages_priv.h"
#include "control/model/model.h"
#include "proto/show.h"

static const char *protocol_name(enum mz_protocol p)
{
    static const char *const names[] = {
        [MZ_PROTOCOL_UNKNOWN] = "UnsupportedProtocol",
        [MZ_PROTOCOL_TCP] = "TCP",
        [MZ_PROTOCOL_UDP] = "UDP",
        [MZ_PROTOCOL_HTTP] = "HTTP",
        [MZ_PROTOCOL_HTTP2] = "HTTP2",
        [MZ_PROTOCOL_GRPC] = "GRPC",
        [MZ_PROTOCOL_GRPC_WEB] = "GRPC-Web",
        [MZ_PROTOCOL_HTTPS] = "HTTPS",
        [MZ_PROTOCOL_TLS] = "TLS",
        [MZ_PROTOCOL_MONGO] = "Mongo",
        [MZ_PROTOCOL_REDIS] = "Redis",
        [MZ_PROTOCOL_MYSQL] = "MySQL",
    };
    return p < MZ_COUNT(names) && names[p] ? names[p] : "UnsupportedProtocol";
}

static void labels(struct json_out *j, const char *key, struct mz_labels l)
{
    if (!l.n)
        return;
    json_key(j, key);
    json_open(j, '{');
    for (size_t i = 0; i < l.n; i++) {
        json_key_str(j, l.v[i].key);
        json_str(j, l.v[i].value);
    }
    json_close(j, '}');
}

static void port(struct json_out *j, const struct mz_port *p)
{
    json_open(j, '{');
    json_member(j, "name", p->name);
    json_key(j, "port");
    json_u64(j, p->port);
    json_member(j, "protocol", mz_str_c(protocol_name(p->protocol)));
    json_close(j, '}');
}

static void addresses(struct json_out *j, const struct mz_model *m, const struct mz_service *s)
{
    json_key(j, "clusterVIPs");
    json_open(j, '{');
    json_key(j, "Addresses");
    json_open(j, '{');
    json_key_str(j, m->mesh.cluster_id);
    json_open(j, '[');
    for (size_t i = 0; i < s->addresses_n; i++)
        json_str(j, s->addresses[i]);
    json_close(j, ']');
    json_close(j, '}');
    json_close(j, '}');
}

static void service(struct json_out *j, const struct mz_model *m, const struct mz_service *s)
{
    json_open(j, '{');
    json_key(j, "Attributes");
    json_open(j, '{');
    json_member(j, "Name", s->name);
    json_member(j, "Namespace", s->ns);
    labels(j, "Labels", s->labels);
    labels(j, "LabelSelectors", s->selector);
    if (s->export_to_n) {
        json_key(j, "ExportTo");
        json_open(j, '[');
        for (size_t i = 0; i < s->export_to_n; i++)
            json_str(j, s->export_to[i]);
        json_close(j, ']');
    }
    json_close(j, '}');
    json_key(j, "ports");
    json_open(j, '[');
    for (size_t i = 0; i < s->ports_n; i++)
        port(j, &s->ports[i]);
    json_close(j, ']');
    json_member(j, "creationTime", s->created);
    json_member(j, "hostname", s->host);
    addresses(j, m, s);
    json_key(j, "defaultAddress");
    json_str(j, s->addresses_n ? s->addresses[0] : MZ_STR("0.0.0.0"));
    json_member(j, "AutoAllocatedIPv4Address", s->automatic);
    json_key(j, "Resolution");
    json_u64(j, s->resolution);
    json_key(j, "MeshExternal");
    json_bool(j, s->external);
    json_close(j, '}');
}

PAGE(page_registryz)
{
    const struct mz_model *m = mz_discovery_model(((struct mz_debug *)arg)->e.discovery);
    struct json_out j = json_begin(out);
    (void)rq;
    json_open(&j, '[');
    for (size_t i = 0; m && i < m->services_n; i++)
        service(&j, m, m->services[i]);
    json_close(&j, ']');
}

/* ---- endpoints ---- */

static void endpoint(struct json_out *j, const struct mz_port *p, const struct mz_endpoint *e)
{
    const struct mz_workload *w = e->workload;
    static const char *const health[] = { [MZ_HEALTHY] = "Healthy",
                                          [MZ_UNHEALTHY] = "UnHealthy",
                                          [MZ_DRAINING] = "Draining",
                                          [MZ_TERMINATING] = "Terminating",
                                          [MZ_UNCHECKED] = "Healthy" };
    char where[600] = "";
    json_open(j, '{');
    if (w)
        labels(j, "Labels", w->labels);
    json_key(j, "Addresses");
    json_open(j, '[');
    json_str(j, e->address);
    json_close(j, ']');
    json_member(j, "ServicePortName", p->name);
    json_key(j, "EndpointPort");
    json_u64(j, e->port);
    json_member(j, "HealthStatus", mz_str_c(health[e->health]));
    if (w) {
        (void)snprintf(where, sizeof(where), "%.*s%s%.*s%s%.*s", MZ_STR_ARG(w->locality.region),
                       w->locality.zone.n ? "/" : "", MZ_STR_ARG(w->locality.zone),
                       w->locality.subzone.n ? "/" : "", MZ_STR_ARG(w->locality.subzone));
        json_member(j, "ServiceAccount", w->account);
        json_key(j, "Locality");
        json_open(j, '{');
        json_member(j, "Label", mz_str_c(where));
        json_close(j, '}');
        json_member(j, "TLSMode", w->mtls ? MZ_STR("istio") : MZ_STR("disabled"));
        json_member(j, "Namespace", w->ns);
        json_member(j, "WorkloadName", w->owner);
    }
    json_close(j, '}');
}

static void shard(struct json_out *j, const struct mz_model *m, const struct mz_service *s)
{
    char key[300];
    (void)snprintf(key, sizeof(key), "Kubernetes/%.*s", MZ_STR_ARG(m->mesh.cluster_id));
    json_key_str(j, s->host);
    json_open(j, '{');
    json_key_str(j, s->ns);
    json_open(j, '{');
    json_key(j, "Shards");
    json_open(j, '{');
    json_key(j, key);
    json_open(j, '[');
    for (size_t i = 0; i < s->ports_n; i++) {
        const struct mz_endpoints *e = mz_model_endpoints(m, &s->ports[i]);
        for (size_t k = 0; k < e->n; k++)
            endpoint(j, &s->ports[i], &e->v[k]);
    }
    json_close(j, ']');
    json_close(j, '}');
    json_key(j, "ServiceAccounts");
    json_open(j, '{');
    for (size_t i = 0; i < s->accounts_n; i++) {
        json_key_str(j, s->accounts[i]);
        json_open(j, '{');
        json_close(j, '}');
    }
    json_close(j, '}');
    json_close(j, '}');
    json_close(j, '}');
}

PAGE(page_endpointz)
{
    const struct mz_model *m = mz_discovery_model(((struct mz_debug *)arg)->e.discovery);
    struct json_out j = json_begin(out);
    (void)rq;
    json_open(&j, '{');
    for (size_t i = 0; m && i < m->services_n; i++)
        shard(&j, m, m->services[i]);
    json_close(&j, '}');
}

struct instances {
    struct json_out j;
    const struct mz_model *m;
};

static void instances_of(void *arg, const struct mz_discovery_client *c)
{
    struct instances *l = arg;
    const struct mz_proxy *p = mz_peer_proxy(c->peer);
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    const struct mz_targets t = mz_model_targets(l->m, p->ns, p->labels, NULL, a);
    json_key_str(&l->j, p->id);
    json_open(&l->j, '[');
    for (size_t i = 0; i < t.n; i++) {
        json_open(&l->j, '{');
        json_key(&l->j, "Service");
        json_str(&l->j, t.v[i].service->host);
        json_key(&l->j, "Port");
        json_open(&l->j, '{');
        json_key(&l->j, "ServicePort");
        port(&l->j, t.v[i].port);
        json_key(&l->j, "TargetPort");
        json_u64(&l->j, t.v[i].number);
        json_close(&l->j, '}');
        json_close(&l->j, '}');
    }
    json_close(&l->j, ']');
    mz_arena_destroy(a);
}

PAGE(page_instancesz)
{
    struct mz_debug *d = arg;
    struct instances l = { json_begin(out), mz_discovery_model(d->e.discovery) };
    (void)rq;
    json_open(&l.j, '{');
    if (l.m)
        mz_discovery_each(d->e.discovery, instances_of, &l);
    json_close(&l.j, '}');
}

/* ---- documents ---- */

/* As the documents have them: names in lowerCamel. */
static void message(struct json_out *j, const ProtobufCMessage *m, struct mz_arena *a)
{
    struct mz_buf text, shown;
    struct mz_err err;
    mz_buf_init(&text);
    mz_buf_init(&shown);
    mz_msg_to_json(m, &text, 0);
    const struct mz_node *n =
        mz_tree_read(a, mz_buf_linearize(&text, mz_buf_len(&text)), MZ_TEXT_JSON, &err);
    if (n)
        mz_show_json(&shown, n, true);
    else
        mz_buf_append_str(&shown, MZ_STR("{}"));
    json_raw(j, mz_buf_linearize(&shown, mz_buf_len(&shown)));
    mz_buf_fini(&text);
    mz_buf_fini(&shown);
}

static void object(struct json_out *j, const struct mz_doc *doc)
{
    const struct mz_kind_info *info = mz_kind_info(doc->kind);
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    struct mz_str versions = mz_str_c(info->versions), version = MZ_STR("v1");
    (void)mz_str_split(&versions, ' ', &version); /* the first is the newest */
    json_open(j, '{');
    json_member(j, "kind", mz_str_c(info->name));
    json_member(j, "apiVersion", mz_arena_printf(a, "%s/%.*s", info->group, MZ_STR_ARG(version)));
    json_key(j, "metadata");
    message(j, &mz_doc_meta(doc, a)->base, a);
    json_key(j, "spec");
    message(j, mz_doc_body(doc, a), a);
    json_close(j, '}');
    mz_arena_destroy(a);
}

PAGE(page_configz)
{
    struct mz_debug *d = arg;
    struct json_out j = json_begin(out);
    (void)rq;
    json_open(&j, '[');
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t n = 0;
        const struct mz_doc *const *v = mz_kind_info((enum mz_kind)k)->spec_only
                                            ? mz_store_list(d->e.store, (enum mz_kind)k, &n)
                                            : NULL;
        for (size_t i = 0; i < n; i++)
            object(&j, v[i]);
    }
    json_close(&j, ']');
}

static void policy(struct json_out *j, const struct mz_doc *doc)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    json_open(j, '{');
    json_member(j, "name", doc->name);
    json_member(j, "namespace", doc->ns);
    json_key(j, "spec");
    message(j, mz_doc_body(doc, a), a);
    json_close(j, '}');
    mz_arena_destroy(a);
}

/* All documents of a kind by their namespaces, below @title. */
static void by_namespace(const struct mz_debug *d, struct mz_admin_reply *out, enum mz_kind kind,
                         const char *title, const char *list)
{
    const struct mz_model *m = mz_discovery_model(d->e.discovery);
    struct json_out j = json_begin(out);
    size_t n = 0;
    const struct mz_doc *const *v = mz_store_list(d->e.store, kind, &n);
    json_open(&j, '{');
    json_key(&j, title);
    json_open(&j, '{');
    json_key(&j, list);
    json_open(&j, '{');
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !mz_str_eq(v[i]->ns, v[i - 1]->ns)) {
            json_key_str(&j, v[i]->ns);
            json_open(&j, '[');
        }
        policy(&j, v[i]);
        if (i + 1 == n || !mz_str_eq(v[i]->ns, v[i + 1]->ns))
            json_close(&j, ']');
    }
    json_close(&j, '}');
    json_member(&j, "root_namespace", m ? m->mesh.root_ns : MZ_STR(""));
    json_close(&j, '}');
    json_close(&j, '}');
}

PAGE(page_authorizationz)
{
    (void)rq;
    by_namespace(arg, out, MZ_KIND_AUTHORIZATION_POLICY, "authorization_policies",
                 "namespace_to_policies");
}

PAGE(page_telemetryz)
{
    (void)rq;
    by_namespace(arg, out, MZ_KIND_TELEMETRY, "telemetries", "namespace_to_telemetries");
}

PAGE(page_resourcesz)
{
    struct json_out j = json_begin(out);
    (void)arg;
    (void)rq;
    json_open(&j, '[');
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        const struct mz_kind_info *info = mz_kind_info((enum mz_kind)k);
        struct mz_str versions = mz_str_c(info->versions), version = MZ_STR("");
        if (!mz_str_split(&versions, ' ', &version))
            continue; /* no object of any API */
        json_open(&j, '{');
        json_key(&j, "Group");
        json_str(&j, mz_str_c(info->group));
        json_key(&j, "Version");
        json_str(&j, version);
        json_key(&j, "Kind");
        json_str(&j, mz_str_c(info->name));
        json_close(&j, '}');
    }
    json_close(&j, ']');
}

PAGE(page_mesh)
{
    struct mz_debug *d = arg;
    struct json_out j = json_begin(out);
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    const struct mz_doc *doc = mz_store_get(d->e.store, MZ_STR("MeshConfig/mesh"));
    (void)rq;
    if (doc)
        message(&j, mz_doc_body(doc, a), a);
    else
        json_raw(&j, MZ_STR("{}"));
    mz_arena_destroy(a);
}

static void problem(void *arg, const struct mz_problem *p)
{
    struct json_out *j = arg;
    char where[600];
    (void)snprintf(where, sizeof(where), "%.*s:%u", MZ_STR_ARG(p->file), p->line);
    json_open(j, '{');
    json_member(j, "object", p->key);
    json_member(j, "level", mz_str_c(p->level == MZ_LEVEL_ERROR ? "error" : "warning"));
    json_member(j, "where", mz_str_c(where));
    json_member(j, "message", p->text);
    json_close(j, '}');
}

PAGE(page_push_status)
{
    struct mz_debug *d = arg;
    struct json_out j = json_begin(out);
    (void)rq;
    json_open(&j, '{');
    json_key(&j, "documents");
    json_open(&j, '[');
    d->e.source->ops->problems(d->e.source, problem, &j);
    json_close(&j, ']');
    json_close(&j, '}');
}
