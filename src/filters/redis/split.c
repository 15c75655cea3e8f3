/* One command of a client becomes one or several of servers, their answers become one (L5). */
#include "filters/redis/redis.h"

static const struct redis_cfg *cfg_of(const struct redis_request *rq)
{
    return redis_cfg_of(rq->session);
}

static uint64_t now_us(const struct redis_request *rq)
{
    return mz_loop_now_us(rq->session->base.worker->loop);
}

static const struct resp_value *argument(const struct redis_request *rq, size_t i)
{
    const struct resp_value *v = rq->command->first;
    while (i--)
        v = v->next;
    return v;
}

/* ---- outcome ---- */

static void count(const struct redis_request *rq, unsigned stat)
{
    mz_count(cfg_of(rq)->commands[rq->cmd - redis_commands], stat, 1);
}

/* The answer is in rq->answer. */
static void finish(struct redis_request *rq, bool good)
{
    uint64_t took = now_us(rq) - rq->start_us;
    count(rq, good ? REDIS_COMMAND_SUCCESS : REDIS_COMMAND_ERROR);
    mz_hist_record(cfg_of(rq)->commands[rq->cmd - redis_commands], REDIS_COMMAND_LATENCY,
                   cfg_of(rq)->micros ? took : took / 1000);
    redis_answered(rq);
}

/* Nothing was sent: no time is counted either (Envoy). */
static void refuse(struct redis_request *rq, struct mz_str why)
{
    count(rq, REDIS_COMMAND_ERROR);
    resp_error(&rq->answer, why);
    redis_answered(rq);
}

static void refuse_arguments(struct redis_request *rq)
{
    refuse(rq, mz_arena_printf(rq->arena, "wrong number of arguments for '" MZ_STR_FMT "' command",
                               MZ_STR_ARG(rq->command->first->text)));
}

/* ---- sending ---- */

static void mirror(const struct redis_request *rq, const struct redis_route *r, struct mz_str key,
                   const struct redis_command *cmd, const struct mz_buf *sent)
{
    struct mz_rand *rand = mz_loop_rand(rq->session->base.worker->loop);
    for (size_t i = 0; i < r->n_mirrors; i++) {
        const struct redis_mirror *m = &r->mirrors[i];
        if ((m->writes_only && !cmd->writes) ||
            !mz_runtime_fraction(mz_runtime_here(), &m->fraction, mz_rand_u64(rand)))
            continue;
        struct mz_buf copy;
        mz_buf_init(&copy);
        mz_buf_copy(&copy, sent);
        (void)redis_call(rq->session->pool, m->cluster, key, cmd, &copy, NULL,
                         NULL); /* no matter */
    }
}

/* Where a key goes, and how it is called there; NULL: nowhere. */
static const struct redis_route *route(const struct redis_request *rq, struct mz_str *io_key)
{
    return redis_route_find(cfg_of(rq), io_key);
}

/* Takes @b. NULL: no host. */
static struct redis_call *ask(struct redis_request *rq, const struct redis_route *r,
                              struct mz_str key, const struct redis_command *cmd, struct mz_buf *b,
                              redis_done done, void *arg)
{
    struct mz_buf sent;
    mz_buf_init(&sent);
    if (r->n_mirrors)
        mz_buf_copy(&sent, b);
    struct mz_str cluster = r->read_cluster.n && !cmd->writes ? r->read_cluster : r->cluster;
    struct redis_call *k = redis_call(rq->session->pool, cluster, key, cmd, b, done, arg);
    if (k && r->n_mirrors)
        mirror(rq, r, key, cmd, &sent);
    mz_buf_fini(&sent);
    return k;
}

/* ---- one server ---- */

static void on_single(void *arg, const struct resp_value *v)
{
    struct redis_request *rq = arg;
    rq->parts[0].call = NULL;
    if (v)
        resp_encode(&rq->answer, v);
    else
        resp_error(&rq->answer, MZ_STR("upstream failure"));
    finish(rq, v != NULL);
}

static void single(struct redis_request *rq, size_t key_at)
{
    if (rq->command->n <= key_at) {
        refuse_arguments(rq);
        return;
    }
    const struct resp_value *key_value = argument(rq, key_at);
    struct mz_str key = key_value->text;
    const struct redis_route *r = route(rq, &key);
    rq->n_parts = 1;
    rq->parts = mz_arena_alloc0(rq->arena, sizeof(*rq->parts));
    if (r) {
        struct mz_buf b;
        mz_buf_init(&b);
        resp_array(&b, rq->command->n);
        for (const struct resp_value *v = rq->command->first; v; v = v->next)
            resp_bulk(&b, v == key_value ? key : v->text);
        rq->parts[0].call = ask(rq, r, key, rq->cmd, &b, on_single, rq);
    }
    if (!rq->parts[0].call)
        refuse(rq, MZ_STR("no upstream host"));
}

/* ---- several ---- */

static void part_answer_mget(struct redis_part *p, const struct resp_value *v)
{
    if (v->type == RESP_ERROR || v->type == RESP_BULK || v->type == RESP_NULL)
        resp_encode(&p->answer, v);
    else
        resp_error(&p->answer, MZ_STR("upstream protocol error"));
    p->rq->errors += v->type != RESP_BULK && v->type != RESP_NULL;
}

static void parts_finish(struct redis_request *rq)
{
    if (rq->cmd->kind == REDIS_MGET) {
        resp_array(&rq->answer, rq->n_parts);
        for (size_t i = 0; i < rq->n_parts; i++) {
            mz_buf_move_all(&rq->answer, &rq->parts[i].answer);
            mz_buf_fini(&rq->parts[i].answer);
        }
    } else if (rq->errors) {
        resp_error(&rq->answer,
                   mz_arena_printf(rq->arena, "finished with %zu error(s)", rq->errors));
    } else if (rq->cmd->kind == REDIS_SUM) {
        resp_integer(&rq->answer, rq->sum);
    } else {
        resp_simple(&rq->answer, MZ_STR("OK"));
    }
    finish(rq, rq->errors == 0);
}

static void part_answer(struct redis_part *p, const struct resp_value *v)
{
    struct redis_request *rq = p->rq;
    p->call = NULL;
    if (rq->cmd->kind == REDIS_MGET)
        part_answer_mget(p, v);
    else if (rq->cmd->kind == REDIS_SUM && v->type == RESP_INTEGER)
        rq->sum = (int64_t)((uint64_t)rq->sum + (uint64_t)v->integer);
    else if (rq->cmd->kind == REDIS_SUM ||
             !(v->type == RESP_SIMPLE && mz_str_eq(v->text, MZ_STR("OK"))))
        rq->errors++;
    if (--rq->pending == 0)
        parts_finish(rq);
}

static void part_failed(struct redis_part *p, struct mz_str why)
{
    const struct resp_value v = { .type = RESP_ERROR, .text = why };
    part_answer(p, &v);
}

static void on_part(void *arg, const struct resp_value *v)
{
    if (v)
        part_answer(arg, v);
    else
        part_failed(arg, MZ_STR("upstream failure"));
}

/* The commands that servers get for each key: what they are called, and how many of the client's arguments they take. */
static void several(struct redis_request *rq)
{
    static const struct {
        struct mz_str name;
        size_t takes;
    } each[] = { [REDIS_SUM] = { MZ_STR_INIT(""), 1 },
                 [REDIS_MGET] = { MZ_STR_INIT("get"), 1 },
                 [REDIS_MSET] = { MZ_STR_INIT("set"), 2 } };
    size_t takes = each[rq->cmd->kind].takes;
    struct mz_str name = each[rq->cmd->kind].name;
    if ((rq->command->n - 1) % takes) {
        refuse_arguments(rq);
        return;
    }
    const struct redis_command *cmd = name.n ? redis_command_find(name) : rq->cmd;
    rq->pending = rq->n_parts = (rq->command->n - 1) / takes;
    rq->parts = mz_arena_alloc0(rq->arena, rq->n_parts * sizeof(*rq->parts));
    for (size_t i = 0; i < rq->n_parts; i++)
        mz_buf_init(&rq->parts[i].answer);
    const struct resp_value *v = rq->command->first->next;
    for (size_t i = 0, n = rq->n_parts; i < n; i++) { /* the last one may be the end of rq */
        struct redis_part *p = &rq->parts[i];
        struct mz_str key = v->text;
        const struct redis_route *r = route(rq, &key);
        p->rq = rq;
        struct mz_buf b;
        mz_buf_init(&b);
        resp_array(&b, 1 + takes);
        resp_bulk(&b, name.n ? name : rq->command->first->text);
        resp_bulk(&b, key);
        if (takes == 2)
            resp_bulk(&b, v->next->text);
        v = takes == 2 ? v->next->next : v->next;
        if (r)
            p->call = ask(rq, r, key, cmd, &b, on_part, p);
        else
            mz_buf_fini(&b);
        if (!p->call)
            part_failed(p, MZ_STR("no upstream host"));
    }
}

void redis_split(struct redis_request *rq)
{
    rq->start_us = now_us(rq);
    count(rq, REDIS_COMMAND_TOTAL);
    switch (rq->cmd->kind) {
    case REDIS_KEY:
        single(rq, 1);
        break;
    case REDIS_OBJECT:
        single(rq, 2);
        break;
    case REDIS_EVAL:
        single(rq, 3);
        break;
    case REDIS_SUM:
    case REDIS_MGET:
    case REDIS_MSET:
        several(rq);
        break;
    }
}

void redis_split_cancel(struct redis_request *rq)
{
    for (size_t i = 0; i < rq->n_parts; i++) {
        redis_call_cancel(rq->parts[i].call);
        rq->parts[i].call = NULL;
        if (rq->cmd->kind == REDIS_MGET)
            mz_buf_fini(&rq->parts[i].answer);
    }
}
