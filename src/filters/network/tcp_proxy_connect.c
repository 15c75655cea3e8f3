/* Where a session goes (L6): cluster, host, attempts until one connection stands. */
#include "base/log.h"
#include "filters/network/tcp_proxy.h"
#include "net/eyeballs.h"

#define SYNC_RETRY_MS 1 /* an attempt that failed at once does not keep the loop from others */

/* The reasons as Envoy 1.40 numbers and spells them in %DOWNSTREAM_LOCAL_CLOSE_REASON%. */
static const char connect_failed[] = "tcp_initializion_failure:0";
static const char no_healthy_host[] = "tcp_initializion_failure:1";
static const char limit_reached[] = "tcp_initializion_failure:2";
static const char no_route[] = "tcp_initializion_failure:3";

static void give_up(struct tcp_session *s, uint64_t flag, const char *why)
{
    mz_info_flag(s->info, flag);
    mz_conn_close(s->base.down->conn, MZ_CLOSE_NOW, why, 0);
}

/* As sni_dynamic_forward_proxy left it: names are resolved with their ports. */
static uint16_t dynamic_port(struct tcp_session *s)
{
    const struct mz_filter_object *o = mz_info_state(s->info, MZ_STR(MZ_STATE_DYNAMIC_PORT));
    uint64_t n = 0;
    return o && o->text && mz_str_u64(o->text(o, s->arena), &n) && n <= UINT16_MAX ? (uint16_t)n
                                                                                   : 0;
}

static struct mz_host *choose_host(struct tcp_session *s)
{
    struct mz_lb_ctx c = { .metadata_match = s->choice.metadata_match,
                           .request_metadata = s->info->dynamic_metadata,
                           .downstream = s->base.down->conn,
                           .original_dst = mz_downstream_destination(s->base.down),
                           .wanted_host = s->base.down->sni,
                           .wanted_port = dynamic_port(s) };
    const struct mz_addr *peer = &s->base.down->conn->remote;
    if (tcp_cfg_of(s)->hash_source_ip && mz_addr_is_ip(peer)) {
        char text[MZ_ADDR_TEXT];
        c.hash = mz_xxh64(text, mz_addr_ip_text(peer, text), 0);
        c.has_hash = true;
    }
    struct mz_host *h = mz_wcluster_choose(s->up.cluster, &c);
    struct mz_str why = mz_str_c(c.why ? c.why : "");
    if (c.where.n)
        tcp_note(s, AMONG, mz_arena_dup(s->arena, c.where), MZ_STR(""), 0, 0);
    if (h)
        tcp_note(s, HOST, ((struct mz_str){ h->addr_text, h->addr_text_n }), why,
                 s->info->attempts + 1, 0);
    else
        tcp_note(s, NO_HOST, MZ_STR(""), mz_wcluster_why_none(s->up.cluster, c.why, s->arena), 0,
                 0);
    return h;
}

void tcp_attempt_host(struct tcp_session *s, const struct mz_host *h)
{
    struct mz_stream_info *i = s->info;
    struct mz_str name =
        h->hostname.n ? h->hostname : (struct mz_str){ h->addr_text, h->addr_text_n };
    i->up.host = h->addr;
    i->up.host_name = mz_arena_dup(s->arena, name);
    i->up.metadata = h->metadata;
    i->up.locality_metadata = h->locality_metadata;
    i->up.place = &h->place;
}

/* ---- outcome of an attempt ---- */

static void attempt(struct tcp_session *s);

static void on_retry(struct mz_timer *t)
{
    attempt(MZ_CONTAINER(t, struct tcp_session, retry));
}

/* Exponential with full jitter. */
static uint64_t next_backoff(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    uint64_t limit = s->backoff_ms ? s->backoff_ms : c->backoff_base_ms;
    s->backoff_ms = limit * 2 < c->backoff_max_ms ? limit * 2 : c->backoff_max_ms;
    return mz_rand_below(mz_loop_rand(s->base.worker->loop), limit);
}

static void attempt_failed(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    if (c->backoff_base_ms && s->info->attempts < c->max_attempts)
        mz_timer_start_ms(&s->retry, next_backoff(s));
    else if (s->failed_here && s->info->attempts < c->max_attempts)
        mz_timer_start_ms(&s->retry, SYNC_RETRY_MS);
    else
        attempt(s);
}

void tcp_attempt_failed(struct tcp_session *s, enum mz_pool_failure why,
                        struct mz_str transport_failure, int err, struct mz_host *host)
{
    if (host)
        tcp_attempt_host(s, host);
    if (why == MZ_POOL_REMOTE_CONNECT_FAIL || why == MZ_POOL_CONNECT_TIMEOUT)
        mz_info_flag(s->info, MZ_FLAG(UPSTREAM_CONNECTION_FAILURE));
    s->info->up.transport_failure = mz_arena_dup(s->arena, transport_failure);
    if (why == MZ_POOL_REMOTE_CONNECT_FAIL && host)
        mz_outlier_report(host, MZ_OUTLIER_CONNECT_FAILED, 0);
    else if (why == MZ_POOL_CONNECT_TIMEOUT && host)
        mz_outlier_report(host, MZ_OUTLIER_TIMEOUT, 0);
    if (why == MZ_POOL_OVERFLOW)
        tcp_note(s, BREAKER, MZ_STR("of pending connections"), s->choice.name, 0, 0);
    else
        tcp_note(s, CONN_FAILED, s->info->up.host_name,
                 why == MZ_POOL_CONNECT_TIMEOUT ? MZ_STR("connect timeout")
                                                : s->info->up.transport_failure,
                 err, 0);
    if (s->connecting)
        s->failed_here = true; /* attempt() goes on when the pool has returned */
    else
        attempt_failed(s);
}

/* A host of several addresses: which answered, and what of those tried before it? */
static void note_race(struct tcp_session *s, const struct mz_conn *c)
{
    struct mz_eyeballs_story e = mz_eyeballs_story(c, s->arena);
    char at[MZ_ADDR_TEXT];
    struct mz_str won = mz_arena_dup(s->arena, (struct mz_str){ at, mz_addr_text(&c->remote, at) });
    tcp_note(s, CONN_RACED, won, e.others, e.attempt, e.n);
}

void tcp_attempt_refused(struct tcp_session *s, struct mz_str why, struct mz_host *host)
{
    tcp_attempt_failed(s, MZ_POOL_REMOTE_CONNECT_FAIL, why, 0, host);
}

static void pool_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure,
                        int err, struct mz_host *host)
{
    struct tcp_session *s = arg;
    s->pending = NULL;
    tcp_attempt_failed(s, why, transport_failure, err, host);
}

static void pool_ready(void *arg, const struct mz_tcp_ready *r)
{
    struct tcp_session *s = arg;
    struct mz_stream_info *i = s->info;
    s->pending = NULL;
    tcp_attempt_host(s, r->host);
    mz_outlier_report(r->host, MZ_OUTLIER_CONNECTED_ALL, 0);
    i->up.local = r->conn->local;
    i->up.remote = r->conn->remote;
    mz_format_upstream_facts(i, r->conn->transport);
    if (r->conn->race)
        note_race(s, r->conn);
    if (r->conn->transport->ops->state) {
        s->up_state = mz_conn_state_ref(r->conn->transport->ops->state(r->conn->transport));
        i->up.filter_state = s->up_state->map;
    }
    i->up.conn_id = r->conn->id;
    i->up.connect_start_us = r->connect_start_us;
    i->up.connect_us = r->connect_us;
    i->up.pool_ready_us = tcp_now_us(s);
    tcp_connected(s, r);
}

static const struct mz_tcp_pool_ops pool_ops = { pool_ready, pool_failed };

/* ---- an attempt ---- */

static bool allowed(struct tcp_session *s)
{
    struct mz_cluster *cl = mz_wcluster_info(s->up.cluster);
    if (!mz_circuit_can(cl, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX)) {
        mz_count(cl->scope, MZ_CS_CX_OVERFLOW, 1);
        tcp_note(s, BREAKER, MZ_STR("of connections"), cl->name,
                 (int64_t)cl->circuit[MZ_PRIORITY_DEFAULT].max_connections, 0);
        give_up(s, MZ_FLAG(UPSTREAM_OVERFLOW), limit_reached);
        return false;
    }
    if (s->info->attempts < tcp_cfg_of(s)->max_attempts)
        return true;
    mz_count(cl->scope, MZ_CS_CX_CONNECT_ATTEMPTS_EXCEEDED, 1);
    tcp_note(s, NO_RETRY, MZ_STR(""), MZ_STR("max_connect_attempts reached"), 0, 0);
    give_up(s, MZ_FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED), connect_failed);
    return false;
}

static bool tunnels(const struct tcp_session *s)
{
    const struct mz_filter_object *off = mz_info_state(s->info, MZ_STR(TCP_STATE_NO_TUNNEL));
    return tcp_cfg_of(s)->tunnel &&
           !(off && off->text && mz_str_eq(off->text(off, s->arena), MZ_STR("true")));
}

static void attempt(struct tcp_session *s)
{
    if (!allowed(s))
        return;
    struct mz_host *h = choose_host(s);
    if (!h) {
        mz_count(mz_wcluster_info(s->up.cluster)->scope, MZ_CS_CX_NONE_HEALTHY, 1);
        give_up(s, MZ_FLAG(NO_HEALTHY_UPSTREAM), no_healthy_host);
        return;
    }
    if (s->info->attempts)
        tcp_note(s, RETRY, MZ_STR(""), MZ_STR("connect failure"), s->info->attempts, 0);
    mz_host_ref(h);
    mz_host_unref(s->up.host); /* of the attempt before: until now log fields pointed into it */
    s->up.host = h;
    s->info->attempts++;
    s->info->up.begin_us = tcp_now_us(s);
    s->failed_here = false;
    s->connecting = true;
    struct mz_tcp_pending *p = NULL;
    if (tunnels(s))
        tcp_tunnel_start(s, h);
    else
        p = mz_tcp_pool_connect(s->up.cluster, h, MZ_PRIORITY_DEFAULT, tcp_transport_opts(s, h),
                                &pool_ops, s);
    s->connecting = false;
    if (s->failed_here)
        attempt_failed(s);
    else if (!s->connected)
        s->pending = p;
}

/* An earlier filter may have named the cluster; it wins over `cluster` but not over weighted ones (Envoy). */
static void choose_cluster(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    uint64_t random = c->n_clusters > 1 ? mz_rand_u64(mz_loop_rand(s->base.worker->loop)) : 0;
    const struct mz_filter_object *named =
        c->weighted ? NULL : mz_info_state(s->info, MZ_STR(TCP_STATE_CLUSTER));
    s->choice = *tcp_config_choose(c, random);
    if (named && named->text)
        s->choice.name = named->text(named, s->arena);
}

static void no_cluster(struct tcp_session *s)
{
    tcp_note(s, NO_CLUSTER, s->choice.name, MZ_STR(""), 0, 0);
    give_up(s, MZ_FLAG(NO_CLUSTER_FOUND), no_route);
}

static void connect_to_cluster(struct tcp_session *s);

static void discovered(struct mz_discovery_wait *w, enum mz_discovery how)
{
    struct tcp_session *s = MZ_CONTAINER(w, struct tcp_session, discovery);
    static const uint8_t counters[] = { [MZ_DISCOVERY_AVAILABLE] = TCP_DEMAND_SUCCESS,
                                        [MZ_DISCOVERY_MISSING] = TCP_DEMAND_MISSING,
                                        [MZ_DISCOVERY_TIMEOUT] = TCP_DEMAND_TIMEOUT };
    mz_count(tcp_cfg_of(s)->demand->scope, counters[how], 1);
    if (how == MZ_DISCOVERY_AVAILABLE)
        connect_to_cluster(s);
    else
        no_cluster(s);
}

static void discover(struct tcp_session *s)
{
    const struct tcp_demand_cfg *d = tcp_cfg_of(s)->demand;
    mz_count(d->scope, TCP_DEMAND_ATTEMPT, 1);
    tcp_note(s, DISCOVER, s->choice.name, MZ_STR(""), 0, 0);
    mz_discover(s->base.worker->upstream, d->source, s->choice.name, d->timeout_ms, &s->discovery,
                discovered);
}

static void connect_to_cluster(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    struct mz_wcluster *w = mz_upstream_find(s->base.worker->upstream, s->choice.name);
    if (!w && c->demand) {
        discover(s);
        return;
    }
    if (!w) {
        mz_count(c->scope, TCP_STAT_CX_NO_ROUTE, 1);
        no_cluster(s);
        return;
    }
    struct mz_cluster *cl = mz_wcluster_info(w);
    s->up.cluster = mz_wcluster_ref(w);
    s->info->route.cluster_name = s->info->up.cluster_stat_name = cl->stat_name;
    s->info->route.cluster_raw = cl->name;
    s->info->up.cluster_metadata = cl->metadata;
    mz_cluster_show_members(cl, s->info);
    tcp_note(s, CLUSTER, cl->name, c->n_clusters > 1 ? MZ_STR("weight") : MZ_STR("configuration"),
             0, 0);
    MZ_LOG_FORCED(s->base.down->conn->trace, DEBUG, filter, s->base.down->conn->id, 0,
                  "Creating connection to cluster " MZ_STR_FMT, MZ_STR_ARG(cl->name));
    attempt(s);
}

void tcp_connect_start(struct tcp_session *s)
{
    mz_timer_init(s->base.worker->loop, &s->retry, on_retry);
    choose_cluster(s);
    connect_to_cluster(s);
}

void tcp_connect_cancel(struct tcp_session *s)
{
    mz_discover_cancel(&s->discovery);
    mz_timer_stop(&s->retry);
    if (s->pending) {
        mz_tcp_pool_cancel(s->pending);
        s->pending = NULL;
    }
}
