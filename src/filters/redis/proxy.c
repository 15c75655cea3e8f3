/* envoy.filters.network.redis_proxy: a client's connection, its commands in order, their answers in the same order (L5). */
#include "filters/redis/redis.h"

/* Of a connection, without an answer yet: then it is not read. */
#define REQUESTS_MAX 1024
#define BYTES_MAX    (64u << 20)

static struct mz_conn *conn_of(const struct redis_session *s)
{
    return s->base.down->conn;
}

/* ---- requests ---- */

static void request_free(struct redis_request *rq)
{
    struct redis_session *s = rq->session;
    mz_list_del(&rq->link);
    s->n_requests--;
    s->bytes -= rq->bytes;
    mz_gauge_add(redis_cfg_of(s)->scope, REDIS_STAT_RQ_ACTIVE, -1);
    mz_buf_fini(&rq->answer);
    mz_arena_destroy(rq->arena);
}

static void read_on(struct redis_session *s);

/* Answers leave at the end of the turn, those that became whole together at once. */
static void flush(struct mz_task *t)
{
    struct redis_session *s = MZ_CONTAINER(t, struct redis_session, flush);
    struct mz_buf *out = mz_conn_out(conn_of(s));
    bool any = false;
    while (s->n_requests) {
        struct redis_request *rq = MZ_CONTAINER(s->requests.next, struct redis_request, link);
        if (!rq->done)
            break;
        any = any || mz_buf_len(&rq->answer);
        mz_buf_move_all(out, &rq->answer);
        request_free(rq);
    }
    if (any)
        mz_conn_written(conn_of(s), false);
    if (s->n_requests == 0 && s->quit) {
        mz_conn_close(conn_of(s), MZ_CLOSE_FLUSH, "redis_quit", 0);
    } else if (s->n_requests == 0 && any && mz_downstream_draining(s->base.down)) {
        mz_count(redis_cfg_of(s)->scope, REDIS_STAT_CX_DRAIN_CLOSE, 1);
        s->quit = true;
        mz_conn_close(conn_of(s), MZ_CLOSE_FLUSH, "redis_drain_close", 0);
    } else {
        read_on(s);
    }
}

void redis_answered(struct redis_request *rq)
{
    struct redis_session *s = rq->session;
    rq->done = true;
    if (s->requests.next == &rq->link)
        mz_task_schedule(s->base.worker->loop, &s->flush);
}

/* ---- what is answered here ---- */

static void say_error(struct redis_request *rq, struct mz_str text)
{
    resp_error(&rq->answer, text);
    redis_answered(rq);
}

static void say_simple(struct redis_request *rq, struct mz_str text)
{
    resp_simple(&rq->answer, text);
    redis_answered(rq);
}

static void invalid(struct redis_request *rq)
{
    mz_count(redis_cfg_of(rq->session)->scope, REDIS_STAT_INVALID_REQUEST, 1);
    say_error(rq, MZ_STR("invalid request"));
}

/* Takes as long whatever the first difference is. */
static bool secret_eq(struct mz_str a, struct mz_str b)
{
    unsigned char differs = a.n != b.n;
    for (size_t i = 0; i < a.n; i++)
        differs |= (unsigned char)(a.p[i] ^ (b.n ? b.p[i % b.n] : 0));
    return !differs;
}

static bool password_right(const struct redis_cfg *c, struct mz_str given)
{
    bool right = false;
    for (size_t i = 0; i < c->n_passwords; i++)
        right = secret_eq(given, c->passwords[i]) || right;
    return right;
}

static void auth(struct redis_request *rq)
{
    static const struct mz_str standard =
        MZ_STR_INIT("default"); /* what no name means in Redis 6 */
    struct redis_session *s = rq->session;
    const struct redis_cfg *c = redis_cfg_of(s);
    if (rq->command->n < 2) {
        invalid(rq);
        return;
    }
    struct mz_str first = rq->command->first->next->text;
    if (rq->command->n != 3) {
        if (!c->n_passwords) {
            say_error(rq, MZ_STR("ERR Client sent AUTH, but no password is set"));
            return;
        }
        s->allowed = password_right(c, first);
        if (!s->allowed) {
            say_error(rq, MZ_STR("ERR invalid password"));
            return;
        }
    } else {
        if (!c->user.n && !c->n_passwords) {
            say_error(rq, MZ_STR("ERR Client sent AUTH, but no username-password pair is set"));
            return;
        }
        bool name = mz_str_eq(first, c->user.n ? c->user : standard);
        s->allowed = password_right(c, rq->command->last->text) && name;
        if (!s->allowed) {
            say_error(rq, MZ_STR("WRONGPASS invalid username-password pair"));
            return;
        }
    }
    say_simple(rq, MZ_STR("OK"));
}

static void ping(struct redis_request *rq)
{
    say_simple(rq, MZ_STR("PONG"));
}

static void echo(struct redis_request *rq)
{
    if (rq->command->n != 2) {
        invalid(rq);
        return;
    }
    resp_bulk(&rq->answer, rq->command->last->text);
    redis_answered(rq);
}

/* The second number is that of all microseconds, as Envoy has it; a server says those within the second. */
static void tell_time(struct redis_request *rq)
{
    uint64_t us = mz_loop_wall_us(rq->session->base.worker->loop);
    char text[20];
    resp_array(&rq->answer, 2);
    resp_bulk(&rq->answer, (struct mz_str){ text, mz_u64_text(us / 1000000, text) });
    resp_bulk(&rq->answer, (struct mz_str){ text, mz_u64_text(us, text) });
    redis_answered(rq);
}

static void quit(struct redis_request *rq)
{
    rq->session->quit = true;
    say_simple(rq, MZ_STR("OK"));
}

static const struct {
    struct mz_str name;
    void (*say)(struct redis_request *rq);
    bool always; /* before any password */
} own[] = { { MZ_STR_INIT("auth"), auth, true },
            { MZ_STR_INIT("ping"), ping, false },
            { MZ_STR_INIT("echo"), echo, false },
            { MZ_STR_INIT("time"), tell_time, false },
            { MZ_STR_INIT("quit"), quit, false } };

static void unknown(struct redis_request *rq, struct mz_str name)
{
    const struct resp_value *first = rq->command->first->next;
    const struct mz_str v[] = { MZ_STR("ERR unknown command '"), name,
                                MZ_STR("', with args beginning with: "),
                                first ? first->text : MZ_STR("") };
    mz_count(redis_cfg_of(rq->session)->scope, REDIS_STAT_UNSUPPORTED_COMMAND, 1);
    say_error(rq, mz_arena_cat(rq->arena, MZ_COUNT(v), v));
}

static bool is_command(const struct resp_value *v)
{
    if (v->type != RESP_ARRAY || !v->n)
        return false;
    for (const struct resp_value *i = v->first; i; i = i->next)
        if (i->type != RESP_BULK)
            return false;
    return true;
}

static void serve(struct redis_request *rq)
{
    if (!is_command(rq->command)) {
        invalid(rq);
        return;
    }
    struct mz_str name = rq->command->first->text;
    size_t k = 0;
    while (k < MZ_COUNT(own) && !mz_str_ieq(own[k].name, name))
        k++;
    if (!rq->session->allowed && !(k < MZ_COUNT(own) && own[k].always)) {
        say_error(rq, MZ_STR("NOAUTH Authentication required."));
        return;
    }
    if (k < MZ_COUNT(own)) {
        own[k].say(rq);
        return;
    }
    rq->cmd = redis_command_find(name);
    if (!rq->cmd)
        unknown(rq, name);
    else if (rq->command->n < 2)
        invalid(rq);
    else
        redis_split(rq);
}

/* ---- the connection ---- */

static void request_begin(struct redis_session *s, struct mz_arena *take,
                          const struct resp_value *v)
{
    struct redis_request *rq = mz_arena_new0(take, struct redis_request);
    rq->session = s;
    rq->arena = take;
    rq->command = v;
    s->bytes += rq->bytes = mz_arena_size(take);
    mz_buf_init(&rq->answer);
    mz_list_add_tail(&s->requests, &rq->link);
    s->n_requests++;
    mz_count(redis_cfg_of(s)->scope, REDIS_STAT_RQ_TOTAL, 1);
    mz_gauge_add(redis_cfg_of(s)->scope, REDIS_STAT_RQ_ACTIVE, 1);
    serve(rq);
}

static void protocol_error(struct redis_session *s)
{
    mz_count(redis_cfg_of(s)->scope, REDIS_STAT_CX_PROTOCOL_ERROR, 1);
    mz_task_cancel(&s->flush);
    flush(&s->flush); /* what is ready comes before; what is not never comes */
    if (s->quit)
        return;
    resp_error(mz_conn_out(conn_of(s)), MZ_STR("downstream protocol error"));
    mz_conn_written(conn_of(s), false);
    s->quit = true;
    mz_conn_close(conn_of(s), MZ_CLOSE_FLUSH, "redis_protocol_error", 0);
}

static bool is_full(const struct redis_session *s)
{
    return s->n_requests >= REQUESTS_MAX || s->bytes >= BYTES_MAX;
}

static void read_input(struct redis_session *s, struct mz_buf *in)
{
    while (!s->quit && !is_full(s)) {
        struct mz_arena *a;
        const struct resp_value *v;
        enum resp_result r = resp_decode(&s->decoder, in, &a, &v);
        if (r == RESP_MORE)
            break;
        if (r == RESP_BROKEN) {
            protocol_error(s);
            return;
        }
        request_begin(s, a, v);
    }
    if (is_full(s) && !s->paused) {
        s->paused = true;
        mz_conn_read_disable(conn_of(s), true);
    }
}

static void read_on(struct redis_session *s)
{
    if (!s->paused || s->quit || s->n_requests > REQUESTS_MAX / 2 || s->bytes > BYTES_MAX / 2)
        return;
    s->paused = false;
    mz_conn_read_disable(conn_of(s), false); /* what is buffered is offered again */
}

static enum mz_net_flow on_input(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct redis_session *s = (struct redis_session *)(void *)f;
    (void)end;
    if (s->quit)
        mz_buf_drain(data, mz_buf_len(data)); /* nothing counts behind the end */
    else if (!s->paused)
        read_input(s, data);
    return MZ_NET_STOP;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct redis_session *s = (struct redis_session *)(void *)f;
    const struct redis_cfg *c = redis_cfg_of(s);
    s->pool = redis_pool_use(f->worker, c);
    s->decoder.commands = true;
    s->allowed = !c->user.n && !c->n_passwords;
    mz_list_init(&s->requests);
    mz_task_init(&s->flush, flush);
    mz_count(c->scope, REDIS_STAT_CX_TOTAL, 1);
    mz_gauge_add(c->scope, REDIS_STAT_CX_ACTIVE, 1);
    conn_of(s)->stats = (struct mz_conn_stats){ .scope = c->scope,
                                                .rx_total = REDIS_STAT_CX_RX_BYTES_TOTAL,
                                                .rx_buffered = REDIS_STAT_CX_RX_BYTES_BUFFERED,
                                                .tx_total = REDIS_STAT_CX_TX_BYTES_TOTAL,
                                                .tx_buffered = REDIS_STAT_CX_TX_BYTES_BUFFERED,
                                                .bind_errors = MZ_STAT_NONE,
                                                .delayed_close_timeout = MZ_STAT_NONE };
    mz_conn_no_delay(conn_of(s), true);
    return MZ_NET_CONTINUE;
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct redis_session *s = (struct redis_session *)(void *)f;
    if (ev == MZ_CONN_CONNECTED || s->closed || !s->pool)
        return;
    s->closed = true;
    mz_task_cancel(&s->flush);
    mz_gauge_add(redis_cfg_of(s)->scope, REDIS_STAT_CX_ACTIVE, -1);
    mz_list_foreach (it, &s->requests)
        redis_split_cancel(MZ_CONTAINER(it, struct redis_request, link));
    redis_pool_leave(s->pool);
}

static void destroy(struct mz_net_filter *f)
{
    struct redis_session *s = (struct redis_session *)(void *)f;
    while (s->n_requests)
        request_free(MZ_CONTAINER(s->requests.next, struct redis_request, link));
    resp_fini(&s->decoder);
}

/* A client that does not read its answers is not read either (H7). */
static void above_high(struct mz_net_filter *f)
{
    mz_conn_read_disable(f->down->conn, true);
}

static void below_low(struct mz_net_filter *f)
{
    mz_conn_read_disable(f->down->conn, false);
}

static void end_idle(struct mz_net_filter *f)
{
    struct redis_session *s = (struct redis_session *)(void *)f;
    if (!s->closed && s->n_requests == 0)
        mz_conn_close(conn_of(s), MZ_CLOSE_FLUSH, "redis_end", 0);
}

const struct mz_net_filter_type mz_net_filter_redis_proxy = {
    .name = "envoy.filters.network.redis_proxy",
    .config_type = "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
    .terminal = true,
    .size = sizeof(struct redis_session),
    .config_build = redis_config_build,
    .config_destroy = redis_config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_input,
    .on_event = on_event,
    .above_high = above_high,
    .below_low = below_low,
    .end_idle = end_idle,
    .destroy = destroy,
    .worker_stop = redis_worker_stop,
};
