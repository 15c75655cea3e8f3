/* Who spoke to whom: the labels of istio.stats, by what a proxy knows of itself, of the peer and of the service (S1). */
#include "filters/istio/stats_priv.h"
#include "net/transport.h"

static const struct mz_str unknown = MZ_STR_INIT("unknown");
static const struct mz_str latest = MZ_STR_INIT("latest");

static struct mz_str or_else(struct mz_str v, struct mz_str otherwise)
{
    return v.n ? v : otherwise;
}

static struct mz_str peer_key(const struct stats_cfg *c)
{
    return c->reporter == REPORTER_CLIENT ? MZ_STR(PEER_UPSTREAM) : MZ_STR(PEER_DOWNSTREAM);
}

bool labels_peer_known(const struct stats_cfg *c, const struct mz_map *peers)
{
    return peers && (mz_map_get(peers, peer_key(c)) || mz_map_get(peers, MZ_STR(PEER_NONE)));
}

/* ---- the service that was asked for ---- */

struct service {
    struct mz_str host, name, ns;
};

static const struct mz_value *field_of(const struct mz_value *v, struct mz_str key)
{
    for (size_t i = 0; v && v->kind == MZ_VALUE_STRUCT && i < v->fields.n; i++)
        if (mz_str_eq(v->fields.v[i].key, key))
            return v->fields.v[i].value;
    return NULL;
}

static struct mz_str text_of(const struct mz_value *v)
{
    return v && v->kind == MZ_VALUE_STRING ? v->str : MZ_STR("");
}

static bool passes_through(struct mz_str cluster)
{
    static const struct mz_str names[] = { MZ_STR_INIT("BlackHoleCluster"),
                                           MZ_STR_INIT("PassthroughCluster"),
                                           MZ_STR_INIT("InboundPassthroughCluster"),
                                           MZ_STR_INIT("InboundPassthroughClusterIpv4"),
                                           MZ_STR_INIT("InboundPassthroughClusterIpv6") };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(names[i], cluster))
            return true;
    return false;
}

/* The cluster's metadata istio.services[0]. */
static void by_metadata(const struct mz_meta *m, struct service *out)
{
    const struct mz_str key = MZ_STR("services");
    const struct mz_value *v = mz_meta_get(m, MZ_STR("istio"), &key, 1);
    if (!v || v->kind != MZ_VALUE_LIST || !v->list.n)
        return;
    const struct mz_value *host = field_of(v->list.v, MZ_STR("host"));
    const struct mz_value *name = field_of(v->list.v, MZ_STR("name"));
    if (host)
        out->host = text_of(host);
    out->ns = text_of(field_of(v->list.v, MZ_STR("namespace")));
    ptrdiff_t dot = mz_str_chr(out->host, '.');
    out->name =
        name ? text_of(name) : (struct mz_str){ out->host.p, dot < 0 ? out->host.n : (size_t)dot };
}

static struct service service_of(const struct stats_cfg *c, const struct subject *s)
{
    struct service to = { { "", 0 }, { "", 0 }, { "", 0 } };
    if (!c->no_host_fallback && s->info->req) {
        to.host = or_else(mz_headers_value_id(s->info->req, MZ_H_AUTHORITY), to.host);
        to.name = to.host;
    }
    if (mz_str_eq(s->info->route.route_name, MZ_STR("block_all")))
        to.name = MZ_STR("BlackHoleCluster");
    else if (mz_str_eq(s->info->route.route_name, MZ_STR("allow_any")))
        to.name = MZ_STR("PassthroughCluster");
    else if (passes_through(s->cluster))
        to.name = s->cluster;
    else if (s->cluster.n)
        by_metadata(s->cluster_metadata, &to);
    return to;
}

/* ---- principals ---- */

struct principals {
    struct mz_str peer, own;
};

static struct mz_str state_text(const struct mz_stream_info *i, struct mz_str key)
{
    const struct mz_filter_object *o = mz_info_state(i, key);
    return o && o->text ? o->text(o, i->arena) : MZ_STR("");
}

static struct mz_str first_uri(const struct mz_tls_cert_facts *f)
{
    return f->uri_sans.n ? f->uri_sans.v[0] : MZ_STR("");
}

static struct principals of_client(const struct mz_stream_info *i)
{
    struct principals p = { state_text(i, MZ_STR("io.istio.peer_principal")),
                            state_text(i, MZ_STR("io.istio.local_principal")) };
    struct mz_transport *t = i->transport;
    const struct mz_tls_facts *f =
        !p.peer.n && !p.own.n && t && t->ops->tls ? t->ops->tls(t) : NULL;
    return f ? (struct principals){ first_uri(&f->peer), first_uri(&f->own) } : p;
}

/* "spiffe://domain/ns/<namespace>/sa/account" */
static struct mz_str namespace_of(struct mz_str principal)
{
    ptrdiff_t at = mz_str_find(principal, MZ_STR("/ns/"));
    if (at < 0)
        return MZ_STR("");
    struct mz_str ns = mz_str_skip(principal, (size_t)at + 4);
    ptrdiff_t slash = mz_str_chr(ns, '/');
    return slash < 0 ? ns : (struct mz_str){ ns.p, (size_t)slash };
}

/* ---- either side ---- */

static const enum label workload_labels[2][8] = {
    { LABEL_SOURCE_WORKLOAD, LABEL_SOURCE_CANONICAL_SERVICE, LABEL_SOURCE_CANONICAL_REVISION,
      LABEL_SOURCE_WORKLOAD_NAMESPACE, LABEL_SOURCE_PRINCIPAL, LABEL_SOURCE_APP,
      LABEL_SOURCE_VERSION, LABEL_SOURCE_CLUSTER },
    { LABEL_DESTINATION_WORKLOAD, LABEL_DESTINATION_CANONICAL_SERVICE,
      LABEL_DESTINATION_CANONICAL_REVISION, LABEL_DESTINATION_WORKLOAD_NAMESPACE,
      LABEL_DESTINATION_PRINCIPAL, LABEL_DESTINATION_APP, LABEL_DESTINATION_VERSION,
      LABEL_DESTINATION_CLUSTER },
};
enum side { SOURCE, DESTINATION };

static void side_set(struct labels *l, enum side side, const struct mz_str v[8])
{
    for (unsigned i = 0; i < 8; i++)
        label_set(l, workload_labels[side][i], v[i]);
}

/* Ourselves: what the node does not say stays empty. */
static void side_self(const struct stats_cfg *c, struct labels *l, enum side side,
                      struct mz_str principal)
{
    const struct mz_str *t = c->self.text;
    const struct mz_str v[8] = { t[PEER_WORKLOAD],
                                 t[PEER_SERVICE],
                                 t[PEER_REVISION],
                                 t[PEER_NAMESPACE],
                                 or_else(principal, unknown),
                                 t[PEER_APP],
                                 t[PEER_VERSION],
                                 t[PEER_CLUSTER] };
    side_set(l, side, v);
}

/* @p NULL: nothing is known. */
static void side_peer(struct labels *l, enum side side, const struct peer *p, struct mz_str ns,
                      struct mz_str principal, struct mz_str revision)
{
    static const struct peer nobody = { .type = PEER_UNKNOWN };
    const struct mz_str *t = p ? p->text : nobody.text;
    const struct mz_str v[8] = {
        or_else(t[PEER_WORKLOAD], unknown),  or_else(t[PEER_SERVICE], unknown),
        or_else(t[PEER_REVISION], revision), or_else(ns, unknown),
        or_else(principal, unknown),         or_else(t[PEER_APP], unknown),
        or_else(t[PEER_VERSION], unknown),   or_else(t[PEER_CLUSTER], unknown)
    };
    side_set(l, side, v);
}

static void service_set(struct labels *l, const struct service *s, struct mz_str otherwise,
                        struct mz_str ns)
{
    label_set(l, LABEL_DESTINATION_SERVICE, or_else(s->host, otherwise));
    label_set(l, LABEL_DESTINATION_SERVICE_NAME, or_else(s->name, otherwise));
    label_set(l, LABEL_DESTINATION_SERVICE_NAMESPACE, ns);
}

/* What the endpoint's metadata says, where its proxy did not. */
static const struct peer *by_endpoint(const struct mz_stream_info *i, struct peer *mem)
{
    const struct mz_str key = MZ_STR("workload");
    const struct mz_value *v = mz_meta_get(i->up.metadata, MZ_STR("istio"), &key, 1);
    return v && v->kind == MZ_VALUE_STRING && peer_from_endpoint(v->str, mem) ? mem : NULL;
}

static struct mz_str ns_of(struct mz_str principal, const struct peer *p)
{
    struct mz_str ns = namespace_of(principal);
    return ns.n || !p ? ns : p->text[PEER_NAMESPACE];
}

static void as_client(const struct stats_cfg *c, const struct subject *s, struct labels *l)
{
    struct peer mem;
    const struct peer *told = peer_of_state(s->peers, MZ_STR(PEER_UPSTREAM));
    const struct peer *p = told ? told : by_endpoint(s->info, &mem);
    struct mz_str principal = s->info->up.peer_principal;
    struct service to = service_of(c, s);
    if (!principal.n && told)
        principal = told->text[PEER_IDENTITY];
    struct mz_str ns = ns_of(principal, p);
    label_set(l, LABEL_REPORTER, MZ_STR("source"));
    side_self(c, l, SOURCE, s->info->up.own_principal);
    side_peer(l, DESTINATION, p, ns, principal, latest);
    service_set(l, &to, unknown, or_else(to.ns, or_else(ns, unknown)));
    label_set(l, LABEL_CONNECTION_SECURITY_POLICY, unknown);
}

static void as_server(const struct stats_cfg *c, const struct subject *s, struct labels *l)
{
    const struct peer *p = peer_of_state(s->peers, MZ_STR(PEER_DOWNSTREAM));
    struct principals who = of_client(s->info);
    struct service to = service_of(c, s);
    side_peer(l, SOURCE, p, ns_of(who.peer, p), who.peer, latest);
    label_set(l, LABEL_CONNECTION_SECURITY_POLICY,
              who.peer.n && who.own.n ? MZ_STR("mutual_tls") : MZ_STR("none"));
    if (c->reporter == REPORTER_GATEWAY) {
        const struct peer *end = peer_of_state(s->peers, MZ_STR(PEER_UPSTREAM));
        label_set(l, LABEL_REPORTER, MZ_STR("waypoint"));
        side_peer(l, DESTINATION, end, end ? end->text[PEER_NAMESPACE] : MZ_STR(""),
                  end ? end->text[PEER_IDENTITY] : MZ_STR(""), unknown);
        service_set(l, &to, unknown, or_else(to.ns, unknown));
        return;
    }
    label_set(l, LABEL_REPORTER, MZ_STR("destination"));
    side_self(c, l, DESTINATION, who.own);
    service_set(l, &to, c->self.text[PEER_SERVICE], c->self.text[PEER_NAMESPACE]);
}

void labels_of_peers(const struct stats_cfg *c, const struct subject *s, struct labels *l)
{
    if (c->reporter == REPORTER_CLIENT)
        as_client(c, s, l);
    else
        as_server(c, s, l);
}
