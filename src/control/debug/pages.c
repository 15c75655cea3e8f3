/* Clients: who is connected, what they have acknowledged. */
#include "control/debug/pages.h"

#include <stdio.h>

#include "base/alloc.h"
#include "control/debug/pages_priv.h"

static PAGE(page_list);

static const struct mz_admin_page table[] = {
    { .path = "/debug/adsz",
      .help = "Status and debug interface for ADS",
      .handle = page_adsz,
      .params = { { "proxyID", "only this one" } } },
    { .path = "/debug/authorizationz",
      .help = "Internal authorization policies",
      .handle = page_authorizationz },
    { .path = "/debug/cachez",
      .help = "Info about the internal XDS caches",
      .handle = page_cachez },
    { .path = "/debug/cdsz",
      .help = "Clusters that a proxy was sent",
      .handle = page_cdsz,
      .params = { { "proxyID", "of whom" } } },
    { .path = "/debug/config_dump",
      .help = "ConfigDump in the form of the Envoy admin config dump API for passed in proxyID",
      .handle = page_config_dump,
      .params = { { "proxyID", "of whom" }, { "include_eds", "with endpoints" } } },
    { .path = "/debug/configz", .help = "Debug support for config", .handle = page_configz },
    { .path = "/debug/connections",
      .help = "Info about the connected XDS clients",
      .handle = page_connections },
    { .path = "/debug/ecdsz",
      .help = "Extensions that a proxy was sent",
      .handle = page_ecdsz,
      .params = { { "proxyID", "of whom" } } },
    { .path = "/debug/edsz",
      .help = "Status and debug interface for EDS",
      .handle = page_edsz,
      .params = { { "proxyID", "of whom" } } },
    { .path = "/debug/endpointShardz",
      .help = "Info about the endpoint shards",
      .handle = page_endpointz },
    { .path = "/debug/endpointz",
      .help = "Obsolete, use endpointShardz",
      .handle = page_endpointz },
    { .path = "/debug/force_disconnect",
      .help = "Ends the stream of a proxy, which comes again",
      .mutates = true,
      .handle = page_force_disconnect,
      .params = { { "proxyID", "of whom" } } },
    { .path = "/debug/instancesz",
      .help = "Debug support for service instances",
      .handle = page_instancesz },
    { .path = "/debug/list", .help = "Names of these pages", .handle = page_list },
    { .path = "/debug/mesh", .help = "Active mesh config", .handle = page_mesh },
    { .path = "/debug/mizzen/mtls",
      .help = "Which mutual TLS a port of a proxy's workload takes, and the document that says so",
      .handle = page_mtls,
      .params = { { "proxyID", "of whom" }, { "port", "the workload's" } } },
    { .path = "/debug/mizzen/objects",
      .help = "Where each document stands: file and line",
      .handle = page_objects,
      .params = { { "kind", "only this one" }, { "namespace", "only this one" } } },
    { .path = "/debug/mizzen/settled",
      .help = "200 when each proxy has taken what the documents say now, 503 until then",
      .handle = page_settled },
    { .path = "/debug/ndsz",
      .help = "Names that a proxy answers for",
      .handle = page_ndsz,
      .params = { { "proxyID", "of whom" } } },
    { .path = "/debug/push_status",
      .help = "Documents that are not used, and why",
      .handle = page_push_status },
    { .path = "/debug/registryz", .help = "Debug support for registry", .handle = page_registryz },
    { .path = "/debug/resourcesz",
      .help = "Debug support for watched resources",
      .handle = page_resourcesz },
    { .path = "/debug/syncz",
      .help = "Synchronization status of all Envoys connected to this instance",
      .handle = page_syncz,
      .params = { { "namespace", "only proxies of this one" } } },
    { .path = "/debug/telemetryz", .help = "Telemetry documents", .handle = page_telemetryz },
};

static PAGE(page_list)
{
    struct json_out j = json_begin(out);
    const struct mz_str before = MZ_STR("/debug/");
    (void)arg;
    (void)rq;
    json_open(&j, '[');
    for (size_t i = 0; i < MZ_COUNT(table); i++) {
        const struct mz_str name = mz_str_skip(mz_str_c(table[i].path), before.n);
        if (!mz_str_eq(name, MZ_STR("list")))
            json_str(&j, name);
    }
    json_close(&j, ']');
}

struct mz_debug *mz_debug_create(const struct mz_debug_env *e)
{
    struct mz_debug *d = mz_new0(MZ_MEM_ADMIN, struct mz_debug);
    d->e = *e;
    d->pages = mz_newn0(MZ_MEM_ADMIN, struct mz_admin_page, MZ_COUNT(table));
    for (size_t i = 0; i < MZ_COUNT(table); i++) {
        d->pages[i] = table[i];
        d->pages[i].arg = d;
    }
    return d;
}

void mz_debug_destroy(struct mz_debug *d)
{
    if (!d)
        return;
    mz_free(MZ_MEM_ADMIN, d->pages);
    mz_free(MZ_MEM_ADMIN, d);
}

void mz_debug_add(struct mz_debug *d, struct mz_admin *pages)
{
    for (size_t i = 0; i < MZ_COUNT(table); i++)
        mz_admin_add(pages, &d->pages[i]);
}

/* ---- shared ---- */

struct json_out json_begin(struct mz_admin_reply *out)
{
    out->content_type = "application/json";
    return (struct json_out){ .b = &out->body };
}

struct mz_str proxy_wanted(const struct mz_admin_request *rq)
{
    struct mz_str v;
    return mz_admin_param(rq, "proxyID", &v) ? v : MZ_STR("");
}

const char *type_url(enum mz_xds_type t)
{
    static char text[MZ_XDS_TYPE__COUNT][160]; /* main thread; filled once */
    if (!text[t][0])
        (void)snprintf(text[t], sizeof(text[t]), "type.googleapis.com/%s",
                       mz_translate_descriptor(t)->name);
    return text[t];
}

static void nonce(struct json_out *j, const char *key, uint64_t v)
{
    char text[17];
    if (!v)
        return;
    (void)snprintf(text, sizeof(text), "%016llx", (unsigned long long)v);
    json_key(j, key);
    json_str(j, mz_str_c(text));
}

/* ---- syncz ---- */

struct listing {
    struct json_out j;
    const struct mz_admin_request *rq;
    struct mz_str only; /* namespace, or proxy */
    size_t n;
};

static void resource_status(struct json_out *j, enum mz_xds_type t, const struct mz_peer_state *s)
{
    json_key(j, type_url(t));
    json_open(j, '{');
    nonce(j, "sent", s->nonce_sent);
    nonce(j, "acked", s->nonce_acked);
    json_key(j, "sentTime");
    json_time(j, s->sent_us);
    json_member(j, "lastError", mz_str_c(s->nack));
    json_member(j, "lastErrorResource", mz_str_c(s->nack_resource));
    json_member(j, "lastErrorObject", mz_str_c(s->nack_object));
    json_close(j, '}');
}

static void sync_status(void *arg, const struct mz_discovery_client *c)
{
    static const struct {
        enum mz_xds_type type;
        const char *sent, *acked;
    } columns[] = { { MZ_XDS_CLUSTER, "cluster_sent", "cluster_acked" },
                    { MZ_XDS_LISTENER, "listener_sent", "listener_acked" },
                    { MZ_XDS_ROUTE, "route_sent", "route_acked" },
                    { MZ_XDS_ENDPOINT, "endpoint_sent", "endpoint_acked" },
                    { MZ_XDS_EXTENSION, "extensionconfig_sent", "extensionconfig_acked" } };
    struct listing *l = arg;
    const struct mz_proxy *p = mz_peer_proxy(c->peer);
    struct mz_peer_state s;
    if (l->only.n && !mz_str_eq(l->only, p->ns))
        return;
    json_open(&l->j, '{');
    json_member(&l->j, "cluster_id", p->cluster_id);
    json_member(&l->j, "proxy", p->id);
    json_member(&l->j, "proxy_type",
                p->type == MZ_PROXY_ROUTER ? MZ_STR("router") : MZ_STR("sidecar"));
    json_member(&l->j, "istio_version", p->version);
    for (size_t i = 0; i < MZ_COUNT(columns); i++) {
        mz_peer_state(c->peer, columns[i].type, &s);
        nonce(&l->j, columns[i].sent, s.nonce_sent);
        nonce(&l->j, columns[i].acked, s.nonce_acked);
    }
    json_key(&l->j, "resources");
    json_open(&l->j, '{');
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        mz_peer_state(c->peer, (enum mz_xds_type)t, &s);
        if (s.subscribed)
            resource_status(&l->j, (enum mz_xds_type)t, &s);
    }
    json_close(&l->j, '}');
    json_close(&l->j, '}');
}

PAGE(page_syncz)
{
    struct mz_debug *d = arg;
    struct listing l = { .j = json_begin(out), .rq = rq };
    (void)mz_admin_param(rq, "namespace", &l.only); /* else all */
    json_open(&l.j, '[');
    mz_discovery_each(d->e.discovery, sync_status, &l);
    json_close(&l.j, ']');
}

/* ---- adsz, connections ---- */

static void watches(struct json_out *j, const struct mz_peer *p)
{
    json_key(j, "watches");
    json_open(j, '{');
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        struct mz_peer_state s;
        struct mz_set_at at = { 0 };
        mz_peer_state(p, (enum mz_xds_type)t, &s);
        if (!s.subscribed)
            continue;
        json_key(j, type_url((enum mz_xds_type)t));
        json_open(j, '[');
        const bool named = mz_translate_is_named(mz_peer_proxy(p), (enum mz_xds_type)t);
        for (const struct mz_out *o;
             named && (o = mz_set_next(mz_peer_have(p, (enum mz_xds_type)t), &at));)
            json_str(j, o->name);
        json_close(j, ']');
    }
    json_close(j, '}');
}

static void connection(struct json_out *j, const struct mz_discovery_client *c)
{
    const struct mz_proxy *p = mz_peer_proxy(c->peer);
    char text[MZ_ADDR_TEXT], id[400];
    mz_addr_text(c->from, text);
    (void)snprintf(id, sizeof(id), "%.*s-%llu", MZ_STR_ARG(p->id), (unsigned long long)c->id);
    json_member(j, "connectionId", mz_str_c(id));
    json_key(j, "connectedAt");
    json_time(j, c->connected_us);
    json_key(j, "address");
    json_str(j, mz_str_c(text));
}

static void one_connection(void *arg, const struct mz_discovery_client *c)
{
    struct listing *l = arg;
    json_open(&l->j, '{');
    connection(&l->j, c);
    json_close(&l->j, '}');
}

static void one_client(void *arg, const struct mz_discovery_client *c)
{
    struct listing *l = arg;
    const struct mz_proxy *p = mz_peer_proxy(c->peer);
    if (l->only.n && !mz_str_eq(l->only, p->id))
        return;
    json_open(&l->j, '{');
    connection(&l->j, c);
    json_key(&l->j, "labels");
    json_open(&l->j, '{');
    for (size_t i = 0; i < p->labels.n; i++) {
        json_key_str(&l->j, p->labels.v[i].key);
        json_str(&l->j, p->labels.v[i].value);
    }
    json_close(&l->j, '}');
    json_key(&l->j, "locality");
    json_open(&l->j, '{');
    json_member(&l->j, "region", p->locality.region);
    json_member(&l->j, "zone", p->locality.zone);
    json_member(&l->j, "sub_zone", p->locality.subzone);
    json_close(&l->j, '}');
    watches(&l->j, c->peer);
    json_close(&l->j, '}');
}

static void count_client(void *arg, const struct mz_discovery_client *c)
{
    struct listing *l = arg;
    l->n += !l->only.n || mz_str_eq(l->only, mz_peer_proxy(c->peer)->id);
}

static void clients(struct mz_debug *d, struct listing *l,
                    void (*each)(void *arg, const struct mz_discovery_client *c))
{
    mz_discovery_each(d->e.discovery, count_client, l);
    json_open(&l->j, '{');
    json_key(&l->j, "totalClients");
    json_u64(&l->j, l->n);
    json_key(&l->j, "clients");
    json_open(&l->j, '[');
    mz_discovery_each(d->e.discovery, each, l);
    json_close(&l->j, ']');
    json_close(&l->j, '}');
}

PAGE(page_adsz)
{
    struct listing l = { .j = json_begin(out), .rq = rq, .only = proxy_wanted(rq) };
    clients(arg, &l, one_client);
}

PAGE(page_connections)
{
    struct listing l = { .j = json_begin(out), .rq = rq };
    clients(arg, &l, one_connection);
}

PAGE(page_cachez)
{
    struct mz_debug *d = arg;
    const struct mz_cache_counts c = mz_discovery_cache(d->e.discovery);
    struct json_out j = json_begin(out);
    (void)rq;
    json_open(&j, '{');
    json_key(&j, "entries");
    json_u64(&j, c.entries);
    json_key(&j, "bytes");
    json_u64(&j, c.bytes);
    json_key(&j, "hits");
    json_u64(&j, c.hits);
    json_key(&j, "misses");
    json_u64(&j, c.misses);
    json_close(&j, '}');
}
