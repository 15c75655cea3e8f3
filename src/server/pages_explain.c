/*
 * Why (design.md 6): /mizzen/requests tells what became of the last failed and slow requests, /mizzen/explain what would
 * become of a given one. Both read the decision record that the data path writes; explain sends nothing.
 */
#include "base/clock.h"
#include "hcm/hcm.h"
#include "http/query.h"
#include "http/validate.h"
#include "listener/listener.h"
#include "observe/decision.h"
#include "observe/json_text.h"
#include "observe/plain_text.h"
#include "route/route.h"
#include "server/pages_priv.h"
#include "upstream/cluster.h"

static void requests(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    if (page_word(rq, "format", "json")) {
        out->content_type = PAGE_JSON;
        mz_recorder_json(p->env.recorder, &out->body);
    } else {
        mz_recorder_text(p->env.recorder, &out->body);
    }
}

/* ---- the question ---- */

struct question {
    struct mz_arena *arena;
    struct mz_headers *headers;
    struct mz_str listener; /* by name; "" the one with this port; neither: the first */
    uint64_t port;          /* 0: not given */
    struct mz_addr local, remote;
    struct mz_addr destination; /* original; len 0: the listener itself */
};

enum field { METHOD, AUTHORITY, PATH, LISTENER, PORT, SOURCE, DESTINATION };
static const struct {
    struct mz_str name;
    enum field field;
} fields[] = {
    { MZ_STR_INIT("method"), METHOD },
    { MZ_STR_INIT("authority"), AUTHORITY },
    { MZ_STR_INIT("path"), PATH },
    { MZ_STR_INIT("listener"), LISTENER },
    { MZ_STR_INIT("port"), PORT },
    { MZ_STR_INIT("source"), SOURCE },
    { MZ_STR_INIT("destination"), DESTINATION },
};

static bool set_pseudo(struct question *q, enum mz_header_id id, bool valid, struct mz_str v,
                       struct mz_err *err)
{
    mz_headers_set_id(q->headers, id, v);
    return valid || mz_err_set(err, "\"%.*s\" cannot be %s", (int)(v.n < 100 ? v.n : 100), v.p,
                               mz_header_name(id).p);
}

static bool set_field(struct question *q, struct mz_str name, struct mz_str v, struct mz_err *err)
{
    size_t i = 0;
    while (i < MZ_COUNT(fields) && !mz_str_eq(name, fields[i].name))
        i++;
    if (i == MZ_COUNT(fields))
        return mz_err_set(err, "unknown parameter \"" MZ_STR_FMT "\"", MZ_STR_ARG(name));
    switch (fields[i].field) {
    case METHOD:
        return set_pseudo(q, MZ_H_METHOD, mz_header_name_valid(v), v, err);
    case AUTHORITY:
        return set_pseudo(q, MZ_H_AUTHORITY, mz_authority_valid(v), v, err);
    case PATH:
        return set_pseudo(q, MZ_H_PATH, mz_target_valid(v), v, err);
    case LISTENER:
        q->listener = v;
        return true;
    case PORT:
        return (mz_str_u64(v, &q->port) && q->port && q->port <= 65535) ||
               mz_err_set(err, "port must be 1 to 65535");
    case DESTINATION:
        return mz_addr_parse(v, &q->destination) ||
               mz_err_set(err, "destination must be an IP address with a port");
    case SOURCE:
        break;
    }
    return mz_addr_parse_ip(v, 0, &q->remote) || mz_err_set(err, "source must be an IP address");
}

static bool add_header(struct question *q, struct mz_str name, struct mz_str value,
                       struct mz_err *err)
{
    if (!mz_header_name_valid(name) || !mz_header_value_valid(value))
        return mz_err_set(err, "a header is <name>:<value>");
    char *lower = mz_arena_alloc(q->arena, name.n);
    for (size_t i = 0; i < name.n; i++)
        lower[i] = mz_lower(name.p[i]);
    mz_headers_add(q->headers, (struct mz_str){ lower, name.n }, value);
    return true;
}

static bool add_header_line(struct question *q, struct mz_str line, struct mz_err *err)
{
    ptrdiff_t colon = mz_str_chr(line, ':');
    struct mz_str name = { line.p, colon < 0 ? line.n : (size_t)colon };
    return add_header(q, mz_str_trim(name),
                      colon < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(line, (size_t)colon + 1)),
                      err);
}

static bool from_query(struct question *q, struct mz_str query, struct mz_err *err)
{
    struct mz_str k, v;
    while (mz_query_next(&query, &k, &v)) {
        k = mz_percent_decode(q->arena, k);
        v = mz_percent_decode(q->arena, v);
        bool ok = mz_str_eq(k, MZ_STR("format")) ||
                  (mz_str_eq(k, MZ_STR("header")) ? !v.n || add_header_line(q, v, err)
                                                  : !v.n || set_field(q, k, v, err));
        if (!ok)
            return false;
    }
    return true;
}

static bool json_headers(struct question *q, const struct mz_node *n, struct mz_err *err)
{
    if (n->kind != MZ_NODE_MAP)
        return mz_err_set(err, "headers must be an object of texts or lists of texts");
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_node *v = n->pairs[i].value;
        uint32_t count = v->kind == MZ_NODE_LIST ? v->n : 1;
        for (uint32_t k = 0; k < count; k++) {
            const struct mz_node *one = v->kind == MZ_NODE_LIST ? v->list[k] : v;
            if (one->kind != MZ_NODE_STR)
                return mz_err_set(err, "headers must be an object of texts or lists of texts");
            if (!add_header(q, n->pairs[i].key, one->text, err))
                return false;
        }
    }
    return true;
}

static bool from_json(struct question *q, struct mz_str body, struct mz_err *err)
{
    const struct mz_node *n = mz_tree_read(q->arena, body, MZ_TEXT_JSON, err);
    if (!n)
        return false;
    if (n->kind != MZ_NODE_MAP)
        return mz_err_set(err, "the body must be a JSON object");
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_pair *p = &n->pairs[i];
        bool text = p->value->kind == MZ_NODE_STR || p->value->kind == MZ_NODE_NUM;
        if (mz_str_eq(p->key, MZ_STR("headers"))) {
            if (!json_headers(q, p->value, err))
                return false;
        } else if (!text) {
            return mz_err_set(err, "\"" MZ_STR_FMT "\" must be a text", MZ_STR_ARG(p->key));
        } else if (!set_field(q, p->key, p->value->text, err)) {
            return false;
        }
    }
    return true;
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
        q->local = a;
        if (mz_addr_is_any(&a))
            (void)mz_addr_parse_ip(a.sa.sa_family == AF_INET6 ? MZ_STR("::1") : MZ_STR("127.0.0.1"),
                                   mz_addr_port(&a), &q->local);
        return true;
    }
    return false;
}

/* ---- the answer ---- */

struct explained {
    struct mz_decision *story;
    const struct mz_filter_chain *chain;
    const struct mz_route *route;
    const char *no_route; /* why there is none, where the story does not say it */
    struct {
        struct mz_str name;
        uint64_t weight;
    } * clusters;
    uint32_t n_clusters;
};

/* One choice of a balancer: the next one may be another host of the same. */
static void explain_host(struct mz_pages *p, const struct question *q, struct explained *e,
                         struct mz_str name, const struct mz_meta *match)
{
    uint64_t now = mz_clock->mono_us();
    struct mz_lb_ctx c = { .headers = q->headers, .metadata_match = match };
    const struct mz_hash_from from = { .client = &q->remote,
                                       .remote = &q->remote,
                                       .local = &q->local };
    struct mz_str host, cookie = { 0 };
    c.has_hash = mz_route_hash(e->route, q->headers, &from, q->arena, &c.hash, &cookie);
    if (!mz_cluster_manager_explain(p->env.clusters, name, &c, q->arena, &host))
        return;
    if (c.where.n)
        mz_note(e->story, now, AMONG, c.where, MZ_STR(""), 0, 0);
    if (host.n)
        mz_note(e->story, now, SUCH_HOST, host, mz_str_c(c.why), 0, 0);
    else
        mz_note(e->story, now, NO_HOST, MZ_STR(""), mz_str_c(c.why), 0, 0);
}

static void add_cluster(struct mz_pages *p, const struct question *q, struct explained *e,
                        struct mz_str name, const struct mz_weighted_cluster *w, const char *by)
{
    uint64_t now = mz_clock->mono_us(), weight = w ? w->weight : 0;
    const struct mz_meta *own = w ? w->metadata_match : NULL;
    if (mz_cluster_manager_has(p->env.clusters, name)) {
        mz_note(e->story, now, CLUSTER, name, mz_str_c(by), 0, 0);
        explain_host(p, q, e, name, own ? own : e->route->metadata_match);
    } else {
        mz_note(e->story, now, NO_CLUSTER, name, MZ_STR(""), 0, 0);
    }
    e->clusters[e->n_clusters].name = name;
    e->clusters[e->n_clusters++].weight = weight;
}

static void explain_target(struct mz_pages *p, const struct question *q, struct explained *e)
{
    const struct mz_route *r = e->route;
    const struct mz_weighted_cluster *w;
    uint64_t now = mz_clock->mono_us();
    struct mz_route_query rq = { .h = q->headers, .arena = q->arena, .now_us = now };
    struct mz_str name;
    if (r->action == MZ_ACTION_REDIRECT)
        mz_note(e->story, now, REDIRECT, MZ_STR(""),
                mz_route_redirect_location(r, q->headers, q->arena), r->status, 0);
    else if (r->action == MZ_ACTION_DIRECT)
        mz_note(e->story, now, DIRECT, MZ_STR(""), MZ_STR(""), r->status, 0);
    if (r->action != MZ_ACTION_CLUSTER)
        return;
    e->clusters = mz_arena_alloc0(q->arena, (r->n_weighted + 1) * sizeof(*e->clusters));
    for (uint32_t i = 0; i < r->n_weighted; i++) {
        const struct mz_weighted_cluster *c = &r->weighted[i];
        const struct mz_header *h =
            c->cluster_header.n ? mz_headers_get(q->headers, c->cluster_header) : NULL;
        name = h ? h->value : c->name;
        add_cluster(p, q, e, name, c, "weight");
    }
    if (!r->n_weighted && mz_route_cluster(r, &rq, &name, &w))
        add_cluster(p, q, e, name, NULL, r->cluster_header.n ? "header" : "the route");
}

static bool explain(struct mz_pages *p, struct question *q, struct explained *e, struct mz_err *err)
{
    e->story = mz_decision_create(q->arena, mz_clock->mono_us());
    if (!find_listener(p, q))
        return mz_err_set(err, "no listener has this name or port");
    e->chain = mz_listener_manager_explain(p->env.listeners, &q->local, &q->destination, &q->remote,
                                           e->story, q->arena);
    const struct mz_hcm_config *hcm =
        e->chain ? mz_filter_chain_config(e->chain, &mz_net_filter_hcm) : NULL;
    if (e->chain && !hcm)
        e->no_route =
            "the filter chain has no HTTP connection manager: bytes are handled as they come";
    if (hcm)
        e->route =
            mz_hcm_explain(hcm, q->headers, &q->local, &q->remote, false, e->story, q->arena);
    if (e->route)
        explain_target(p, q, e);
    return true;
}

static const char *health_text(const pb_HostStatus *h)
{
    const pb_HostHealthStatus *s = h->health_status;
    if (s && (s->failed_active_health_check || s->failed_outlier_check ||
              s->eds_health_status == pb_HealthStatus_UNHEALTHY))
        return "unhealthy";
    return s && (s->failed_active_degraded_check ||
                 s->eds_health_status == pb_HealthStatus_DEGRADED)
               ? "degraded"
               : "healthy";
}

static struct mz_str host_address(const pb_HostStatus *h, struct mz_arena *a)
{
    const pb_Address *at = h->address;
    if (at && at->address_case == pb_Address_ADDRESS_SOCKET_ADDRESS)
        return mz_arena_printf(a, strchr(at->socket_address->address, ':') ? "[%s]:%u" : "%s:%u",
                               at->socket_address->address, at->socket_address->port_value);
    return at && at->address_case == pb_Address_ADDRESS_PIPE ? mz_str_c(at->pipe->path)
                                                             : MZ_STR("");
}

static const pb_ClusterStatus *status_of(const pb_Clusters *all, struct mz_str name)
{
    for (size_t i = 0; all && i < all->n_cluster_statuses; i++)
        if (mz_str_eq(name, mz_str_c(all->cluster_statuses[i]->name)))
            return all->cluster_statuses[i];
    return NULL;
}

static void answer_text(const struct question *q, const struct explained *e, const pb_Clusters *all,
                        struct mz_buf *out)
{
    mz_decision_text(e->story, out);
    if (e->no_route)
        mz_buf_printf(out, "%s\n", e->no_route);
    for (uint32_t i = 0; i < e->n_clusters; i++) {
        const pb_ClusterStatus *c = status_of(all, e->clusters[i].name);
        mz_buf_append_str(out, MZ_STR("hosts of cluster "));
        mz_plain_text(out, e->clusters[i].name);
        if (e->route->n_weighted)
            mz_buf_printf(out, " (weight %llu of %llu)", (unsigned long long)e->clusters[i].weight,
                          (unsigned long long)e->route->total_weight);
        mz_buf_append_str(out, c && c->n_host_statuses ? MZ_STR(":\n") : MZ_STR(": none\n"));
        for (size_t k = 0; c && k < c->n_host_statuses; k++) {
            const pb_HostStatus *h = c->host_statuses[k];
            mz_buf_append_str(out, MZ_STR("  "));
            mz_plain_text(out, host_address(h, q->arena));
            mz_buf_printf(out, " %s, weight %u, priority %u\n", health_text(h), h->weight,
                          h->priority);
            for (size_t w = 0; w < h->n_mizzen_why; w++) {
                mz_buf_append_str(out, MZ_STR("    "));
                mz_plain_text(out, mz_str_c(h->mizzen_why[w]->text));
                mz_buf_append_str(out, MZ_STR("\n"));
            }
        }
    }
}

static void json_field(struct mz_buf *out, const char *intro, struct mz_str v)
{
    mz_buf_printf(out, "%s", intro);
    mz_json_string(out, v);
}

static void answer_json(const struct question *q, const struct explained *e, const pb_Clusters *all,
                        struct mz_buf *out)
{
    mz_buf_append_str(out, MZ_STR("{\n \"story\": "));
    mz_decision_json(e->story, out);
    if (e->no_route)
        json_field(out, ",\n \"no_route\": ", mz_str_c(e->no_route));
    if (e->route) {
        json_field(out, ",\n \"virtual_host\": ", e->route->vhost->name);
        json_field(out, ",\n \"route\": { \"name\": ", e->route->name);
        mz_buf_printf(out, ", \"index\": %u }", e->route->index);
    }
    mz_buf_append_str(out, MZ_STR(",\n \"clusters\": ["));
    for (uint32_t i = 0; i < e->n_clusters; i++) {
        const pb_ClusterStatus *c = status_of(all, e->clusters[i].name);
        json_field(out, i ? ",\n  { \"name\": " : "\n  { \"name\": ", e->clusters[i].name);
        if (e->route->n_weighted)
            mz_buf_printf(out, ", \"weight\": %llu", (unsigned long long)e->clusters[i].weight);
        mz_buf_append_str(out, MZ_STR(", \"hosts\": ["));
        for (size_t k = 0; c && k < c->n_host_statuses; k++) {
            const pb_HostStatus *h = c->host_statuses[k];
            json_field(out,
                       k ? ", { \"address\": " : " { \"address\": ", host_address(h, q->arena));
            mz_buf_printf(out, ", \"health\": \"%s\", \"weight\": %u, \"priority\": %u",
                          health_text(h), h->weight, h->priority);
            for (size_t w = 0; w < h->n_mizzen_why; w++)
                json_field(out, w ? ", " : ", \"why\": [ ", mz_str_c(h->mizzen_why[w]->text));
            mz_buf_append_str(out, h->n_mizzen_why ? MZ_STR(" ] }") : MZ_STR(" }"));
        }
        mz_buf_append_str(out, MZ_STR(" ] }"));
    }
    mz_buf_append_str(out, MZ_STR(" ]\n}\n"));
}

static bool question_read(struct question *q, const struct mz_admin_request *rq, struct mz_err *err)
{
    struct mz_str body = mz_str_trim(rq->body);
    q->arena = rq->arena;
    q->headers = mz_headers_create(rq->arena);
    mz_headers_add_id(q->headers, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(q->headers, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(q->headers, MZ_H_AUTHORITY, MZ_STR("localhost"));
    mz_headers_add_id(q->headers, MZ_H_PATH, MZ_STR("/"));
    (void)mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &q->remote);
    return from_query(q, rq->query, err) &&
           (!body.n || body.p[0] != '{' || from_json(q, body, err));
}

static void explain_page(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    struct question q = { 0 };
    struct explained e = { 0 };
    struct mz_err err;
    if (!question_read(&q, rq, &err) || !explain(p, &q, &e, &err)) {
        page_text(out, 400, mz_arena_dup(rq->arena, mz_str_c(err.msg)));
        mz_buf_append(&out->body, "\n", 1);
        return;
    }
    const pb_Clusters *all = e.n_clusters ? page_clusters(p, rq->arena) : NULL;
    if (page_word(rq, "format", "json")) {
        out->content_type = PAGE_JSON;
        answer_json(&q, &e, all, &out->body);
    } else {
        answer_text(&q, &e, all, &out->body);
    }
}

static const struct mz_admin_page pages[] = {
    { .path = "/mizzen/explain",
      .help = "tell what would become of a request, and why; nothing is sent. Parameters or a JSON "
              "object of the same names "
              "(headers: an object)",
      .mutates = true,
      .params = { { "method", "GET when it is not given" },
                  { "authority", "the host that is asked for" },
                  { "path", "with its query" },
                  { "header", "<name>:<value>; may be given several times" },
                  { "listener",
                    "name of the listener; the first when neither it nor port is given" },
                  { "port", "port of the listener" },
                  { "source", "IP address that the request comes from" },
                  { "destination", "<IP address>:<port> where the client wanted to go, had it been "
                                   "caught on its way" },
                  { "format", "One of (text, json)" } },
      .handle = explain_page },
    { .path = "/mizzen/requests",
      .help = "the last failed and slow requests, each with its story",
      .params = { { "format", "One of (text, json)" } },
      .handle = requests },
};
const struct page_list pages_explain = { pages, MZ_COUNT(pages) };
