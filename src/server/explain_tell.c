/* /mizzen/explain: the answer, as text for people and as JSON for programs. */
#include "filters/state_value.h"
#include "observe/decision.h"
#include "observe/json_text.h"
#include "observe/plain_text.h"
#include "route/route.h"
#include "server/explain.h"

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

static uint64_t total_weight(const struct explained *e)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < e->n_clusters; i++)
        sum += e->clusters[i].weight;
    return sum;
}

void explain_text(const struct question *q, const struct explained *e, const pb_Clusters *all,
                  struct mz_buf *out)
{
    mz_decision_text(e->story, out);
    if (e->no_route)
        mz_buf_printf(out, "%s\n", e->no_route);
    for (uint32_t i = 0; i < e->n_clusters; i++) {
        const pb_ClusterStatus *c = status_of(all, e->clusters[i].name);
        mz_buf_append_str(out, MZ_STR("hosts of cluster "));
        mz_plain_text(out, e->clusters[i].name);
        if (e->clusters[i].weight)
            mz_buf_printf(out, " (weight %llu of %llu)", (unsigned long long)e->clusters[i].weight,
                          (unsigned long long)total_weight(e));
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

static void json_flag(struct mz_buf *out, const char *name, bool v)
{
    mz_buf_printf(out, ",\n \"%s\": %s", name, v ? "true" : "false");
}

static void json_connection(const struct question *q, struct mz_buf *out)
{
    static const char *const directions[] = { "UNSPECIFIED", "INBOUND", "OUTBOUND" };
    const struct mz_imagined_conn *c = &q->conn;
    json_field(out, ",\n \"listener\": ", c->listener);
    json_field(out, ",\n \"direction\": ",
               mz_str_c(directions[c->direction < MZ_COUNT(directions) ? c->direction : 0]));
    if (c->chain)
        json_field(out, ",\n \"filter_chain\": ", mz_filter_chain_name(c->chain));
    json_flag(out, "tls", c->secure);
}

static void json_filters(const struct explained *e, struct mz_buf *out)
{
    const struct mz_filter_object *alpn = mz_info_state(e->info, MZ_STR(MZ_STATE_ALPN));
    const char *before = "\n  { \"name\": ";
    mz_buf_append_str(out, MZ_STR(",\n \"filters\": ["));
    for (size_t i = 0; i < e->filters.n; i++) {
        const struct asked_filter *f = &e->filters.v[i];
        json_field(out, before, f->name);
        json_field(out, ", \"type\": ", mz_str_c(f->type));
        mz_buf_printf(out, ", \"known\": %s }", f->known ? "true" : "false");
        before = ",\n  { \"name\": ";
    }
    mz_buf_append_str(out, MZ_STR("]"));
    if (alpn)
        json_field(out, ",\n \"alpn\": ", alpn->text(alpn, e->info->arena));
    if (e->status)
        mz_buf_printf(out, ",\n \"status\": %u", e->status);
    if (e->refused)
        json_flag(out, "refused", true);
}

/* The request as the next one gets it. */
static void json_sent(const struct question *q, const struct explained *e, struct mz_buf *out)
{
    const char *before = "\n  [";
    if (!e->sent)
        return;
    mz_buf_append_str(out, MZ_STR(",\n \"sent\": ["));
    mz_headers_foreach(h, q->headers)
    {
        json_field(out, before, h->name);
        json_field(out, ", ", h->value);
        mz_buf_append_str(out, MZ_STR("]"));
        before = ",\n  [";
    }
    mz_buf_append_str(out, MZ_STR(" ]"));
}

/* What was chosen, one time of many. */
static void json_chosen(const struct explained_cluster *c, struct mz_buf *out)
{
    if (c->weight)
        mz_buf_printf(out, ", \"weight\": %llu", (unsigned long long)c->weight);
    mz_buf_printf(out, ", \"exists\": %s, \"passthrough\": %s, \"http2\": %s",
                  c->exists ? "true" : "false", c->passthrough ? "true" : "false",
                  c->http2 ? "true" : "false");
    if (!c->host.transport.n)
        return;
    json_field(out, ", \"chosen\": { \"address\": ", c->host.address);
    json_field(out, ", \"transport\": ", c->host.transport);
    mz_buf_printf(out, ", \"secure\": %s, \"socket_match\": %d }",
                  c->host.secure ? "true" : "false", c->host.socket);
}

void explain_json(const struct question *q, const struct explained *e, const pb_Clusters *all,
                  struct mz_buf *out)
{
    mz_buf_append_str(out, MZ_STR("{\n \"story\": "));
    mz_decision_json(e->story, out);
    json_connection(q, out);
    json_filters(e, out);
    if (e->no_route)
        json_field(out, ",\n \"no_route\": ", mz_str_c(e->no_route));
    if (e->http)
        json_field(out, ",\n \"route_config\": ", e->routes);
    if (e->route) {
        json_field(out, ",\n \"virtual_host\": ", e->route->vhost->name);
        json_field(out, ",\n \"route\": { \"name\": ", e->route->name);
        mz_buf_printf(out, ", \"index\": %u }", e->route->index);
    }
    mz_buf_append_str(out, MZ_STR(",\n \"clusters\": ["));
    for (uint32_t i = 0; i < e->n_clusters; i++) {
        const pb_ClusterStatus *c = status_of(all, e->clusters[i].name);
        json_field(out, i ? ",\n  { \"name\": " : "\n  { \"name\": ", e->clusters[i].name);
        json_chosen(&e->clusters[i], out);
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
    mz_buf_append_str(out, MZ_STR(" ]"));
    json_sent(q, e, out);
    mz_buf_append_str(out, MZ_STR("\n}\n"));
}
