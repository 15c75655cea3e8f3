/* /mizzen/explain: what this proxy would do with the connection and the request. Nothing is sent. */
#include "base/clock.h"
#include "hcm/filter.h"
#include "observe/decision.h"
#include "route/route.h"
#include "server/explain.h"

static uint64_t now(void)
{
    return mz_clock->mono_us();
}

/* ---- where it would arrive ---- */

static bool local_address(const pb_ListenerStatus *l, struct mz_addr *out)
{
    const pb_Address *a = l->local_address;
    if (!a || a->address_case != pb_Address_ADDRESS_SOCKET_ADDRESS ||
        a->socket_address->port_specifier_case != pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE)
        return false;
    return mz_addr_parse_ip(mz_str_c(a->socket_address->address),
                            (uint16_t)a->socket_address->port_value, out);
}

/* The listener's own address; for one that listens on every address, loopback. */
static bool find_listener(struct mz_pages *p, struct question *q)
{
    struct mz_buf json;
    struct mz_addr a;
    mz_buf_init(&json);
    mz_listener_manager_json(p->env.listeners, &json);
    const pb_Listeners *all =
        (pb_Listeners *)page_parse(&json, &pb_Listeners__descriptor, q->arena);
    mz_buf_fini(&json);
    for (size_t i = 0; all && i < all->n_listener_statuses; i++) {
        const pb_ListenerStatus *l = all->listener_statuses[i];
        if ((q->listener.n && !mz_str_eq(q->listener, mz_str_c(l->name))) ||
            !local_address(l, &a) || (q->port && mz_addr_port(&a) != q->port))
            continue;
        q->conn.local = a;
        if (mz_addr_is_any(&a))
            (void)mz_addr_parse_ip(a.sa.sa_family == AF_INET6 ? MZ_STR("::1") : MZ_STR("127.0.0.1"),
                                   mz_addr_port(&a), &q->conn.local);
        return true;
    }
    return false;
}

/* ---- what filters see of the connection ---- */

struct imagined_transport {
    struct mz_transport base;
    struct mz_tls_facts facts;
};

static const struct mz_tls_facts *facts(struct mz_transport *t)
{
    return &((struct imagined_transport *)(void *)t)->facts;
}

static const struct mz_transport_ops imagined_ops = { .name = "imagined", .tls = facts };

/* A handshake that went well: what a peer without a certificate would get is told by the chain. */
static struct mz_transport *transport(const struct question *q)
{
    struct imagined_transport *t = mz_arena_new0(q->arena, struct imagined_transport);
    t->base.ops = &imagined_ops;
    t->facts.sni = q->conn.sni;
    t->facts.peer_presented = t->facts.peer_validated = q->principal.n > 0;
    if (q->principal.n) {
        t->facts.peer.uri_sans.v = mz_arena_alloc(q->arena, sizeof(struct mz_str));
        t->facts.peer.uri_sans.v[0] = q->principal;
        t->facts.peer.uri_sans.n = 1;
    }
    return &t->base;
}

static struct mz_stream_info *info_make(const struct question *q, struct mz_decision *story)
{
    struct mz_stream_info *i = mz_arena_new0(q->arena, struct mz_stream_info);
    const struct mz_imagined_conn *c = &q->conn;
    mz_info_init(i);
    i->arena = q->arena;
    i->decision = story;
    i->local = c->local;
    i->remote = i->direct_remote = c->remote;
    i->secure = c->secure;
    i->sni = c->sni;
    i->listener_name = c->listener;
    i->listener_direction = c->direction;
    i->req = q->headers;
    i->has_protocol = c->protocol.n > 0;
    i->protocol = mz_str_eq(c->protocol, MZ_STR("h2c")) ? MZ_HTTP2 : MZ_HTTP11;
    if (c->secure)
        i->transport = transport(q);
    return i;
}

/* ---- where it would go ---- */

static struct explained_cluster *cluster_add(struct mz_pages *p, struct explained *e,
                                             struct mz_str name, uint64_t weight)
{
    struct explained_cluster *c = &e->clusters[e->n_clusters++];
    const struct mz_cluster *k = mz_cluster_manager_peek(p->env.clusters, name);
    *c = (struct explained_cluster){ .name = name, .weight = weight, .exists = k != NULL };
    c->host.socket = -1;
    c->passthrough = k && mz_cluster_is_passthrough(k);
    c->http2 = k && (k->http2 || k->auto_protocol);
    return c;
}

/* One choice of a balancer: the next one may be another host of the same. */
static void choose_host(struct mz_pages *p, const struct question *q, struct explained *e,
                        struct explained_cluster *to, const struct mz_meta *match)
{
    struct mz_lb_ctx c = { .headers = q->headers, .metadata_match = match };
    const struct mz_hash_from from = { .client = &q->conn.remote,
                                       .remote = &q->conn.remote,
                                       .local = &q->conn.local };
    char text[MZ_ADDR_TEXT];
    struct mz_str cookie = { 0 };
    if (e->route)
        c.has_hash = mz_route_hash(e->route, q->headers, &from, q->arena, &c.hash, &cookie);
    const bool asked =
        mz_cluster_manager_explain(p->env.clusters, to->name, &c, q->arena, &to->host);
    if (!asked && to->passthrough && q->conn.destination.len) {
        to->host.address = mz_arena_dup(
            q->arena, (struct mz_str){ text, mz_addr_text(&q->conn.destination, text) });
        c.why = "the connection's own destination";
    } else if (!asked) {
        return;
    }
    if (c.where.n)
        mz_note(e->story, now(), AMONG, c.where, MZ_STR(""), 0, 0);
    if (to->host.address.n)
        mz_note(e->story, now(), SUCH_HOST, to->host.address, mz_str_c(c.why), 0, 0);
    else
        mz_note(e->story, now(), NO_HOST, MZ_STR(""), mz_str_c(c.why), 0, 0);
}

static void tell_cluster(struct mz_pages *p, const struct question *q, struct explained *e,
                         struct explained_cluster *c, const char *by, const struct mz_meta *match)
{
    if (!c->exists) {
        mz_note(e->story, now(), NO_CLUSTER, c->name, MZ_STR(""), 0, 0);
        return;
    }
    mz_note(e->story, now(), CLUSTER, c->name, mz_str_c(by), 0, 0);
    choose_host(p, q, e, c, match);
}

/* ---- HTTP ---- */

static void find_clusters(struct mz_pages *p, const struct question *q, struct explained *e)
{
    const struct mz_route *r = e->route;
    const struct mz_weighted_cluster *w;
    struct mz_route_query rq = { .h = q->headers, .arena = q->arena, .now_us = now() };
    struct mz_str name;
    e->clusters = mz_arena_alloc0(q->arena, (r->n_weighted + 1) * sizeof(*e->clusters));
    for (uint32_t i = 0; i < r->n_weighted; i++) {
        const struct mz_weighted_cluster *c = &r->weighted[i];
        const struct mz_header *h =
            c->cluster_header.n ? mz_headers_get(q->headers, c->cluster_header) : NULL;
        (void)cluster_add(p, e, h ? h->value : c->name, c->weight);
    }
    if (!r->n_weighted && mz_route_cluster(r, &rq, &name, &w))
        (void)cluster_add(p, e, name, 0);
}

static void asked(void *arg, struct mz_str name, const char *type, bool known)
{
    struct explained *e = arg;
    *mz_vec_push(&e->filters, MZ_MEM_ADMIN) = (struct asked_filter){ name, type, known };
}

static void ask_filters(struct mz_pages *p, const struct mz_hcm_config *hcm, struct question *q,
                        struct explained *e)
{
    const struct mz_str to = e->n_clusters ? e->clusters[0].name : MZ_STR("");
    struct mz_imagined i = { .info = e->info,
                             .h = q->headers,
                             .route = e->route,
                             .cluster_name = to,
                             .cluster =
                                 to.n ? mz_cluster_manager_peek(p->env.clusters, to) : NULL };
    mz_hcm_explain_filters(hcm, &i, asked, e);
    e->status = i.status;
}

static void tell_target(struct mz_pages *p, const struct question *q, struct explained *e)
{
    const struct mz_route *r = e->route;
    if (r->action == MZ_ACTION_REDIRECT)
        mz_route_rewrite_redirected(r, q->headers, q->arena, false);
    if (r->action == MZ_ACTION_REDIRECT)
        mz_note(e->story, now(), REDIRECT, MZ_STR(""),
                mz_route_redirect_location(r, q->headers, q->arena), r->status, 0);
    else if (r->action == MZ_ACTION_DIRECT)
        mz_note(e->story, now(), DIRECT, MZ_STR(""), MZ_STR(""), r->status, 0);
    for (uint32_t i = 0; i < e->n_clusters; i++) {
        const struct mz_meta *own = r->n_weighted ? r->weighted[i].metadata_match : NULL;
        tell_cluster(p, q, e, &e->clusters[i],
                     r->n_weighted         ? "weight"
                     : r->cluster_header.n ? "header"
                                           : "the route",
                     own ? own : r->metadata_match);
    }
    if (!e->n_clusters)
        return;
    const struct mz_format_ctx c = { .info = e->info, .req = q->headers, .now_us = now() };
    mz_route_finalize_request(r, r->n_weighted ? &r->weighted[0] : NULL, q->headers, &c, q->arena,
                              true);
    e->sent = true;
}

static void ask_http(struct mz_pages *p, const struct mz_hcm_config *hcm, struct question *q,
                     struct explained *e)
{
    e->http = true;
    e->routes = mz_hcm_routes_name(hcm);
    e->route = mz_hcm_explain(hcm, q->headers, e->info);
    if (e->route && e->route->action == MZ_ACTION_CLUSTER)
        find_clusters(p, q, e);
    ask_filters(p, hcm, q, e);
    if (e->route && !e->status)
        tell_target(p, q, e);
    else
        e->n_clusters = 0;
}

/* ---- bytes ---- */

static void ask_bytes(struct mz_pages *p, const struct question *q, struct explained *e,
                      const struct mz_imagined_session *s)
{
    e->clusters = mz_arena_alloc0(q->arena, (s->n_targets + 1) * sizeof(*e->clusters));
    for (size_t i = 0; i < s->n_targets; i++) {
        const struct mz_imagined_target *t = &s->targets[i];
        tell_cluster(p, q, e, cluster_add(p, e, t->cluster, t->weight),
                     t->weight ? "weight" : "the filter chain", t->metadata_match);
    }
}

static void ask_chain(struct mz_pages *p, struct question *q, struct explained *e)
{
    const struct mz_hcm_config *hcm = mz_filter_chain_config(q->conn.chain, &mz_net_filter_hcm);
    struct mz_imagined_session s = { .info = e->info };
    struct mz_chain_place f;
    for (size_t i = 0; mz_filter_chain_place(q->conn.chain, i, &f) && !e->refused; i++) {
        if (!f.type || !f.type->imagine)
            continue;
        s.cfg = f.cfg;
        s.name = f.name;
        f.type->imagine(&s);
        e->refused = s.refused;
    }
    if (e->refused)
        return;
    if (hcm)
        ask_http(p, hcm, q, e);
    else
        e->no_route =
            "the filter chain has no HTTP connection manager: bytes are handled as they come";
    if (!hcm && s.n_targets)
        ask_bytes(p, q, e, &s);
}

bool explain_ask(struct mz_pages *p, struct question *q, struct explained *e, struct mz_err *err)
{
    e->story = mz_decision_create(q->arena, now());
    if (!find_listener(p, q) ||
        !mz_listener_manager_explain(p->env.listeners, &q->conn, e->story, q->arena))
        return mz_err_set(err, "no listener has this name or port");
    e->info = info_make(q, e->story);
    if (!q->conn.chain)
        return true;
    if (q->conn.secure && !q->conn.tls)
        e->no_route = "the filter chain expects TLS, and the client begins without a handshake";
    else if (!q->conn.secure && q->conn.tls &&
             mz_filter_chain_config(q->conn.chain, &mz_net_filter_hcm))
        e->no_route = "the filter chain expects HTTP, and the client begins with a handshake";
    else
        ask_chain(p, q, e);
    return true;
}

void explained_fini(struct explained *e)
{
    mz_vec_free(&e->filters, MZ_MEM_ADMIN);
}
