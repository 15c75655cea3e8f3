#include "filters/tracers/reporter.h"

#include "base/log.h"
#include "event/loop.h"
#include "grpc/client.h"
#include "route/route.h"
#include "router/async.h"
#include "runtime/runtime.h"

#define MIN_SPANS   5
#define INTERVAL_MS 5000
#define BYTES_MAX   (4u << 20)
#define ANSWER_MAX  (64u << 10)

struct sender { /* of one worker; its thread */
    struct mz_upstream_user user;
    struct slot *slot;
    struct mz_upstream *upstream;
    struct mz_loop *loop;
    struct mz_timer tick;
    struct mz_buf spans;
    unsigned n;
    struct mz_grpc_stream *stream; /* a lot under way, by one of the two */
    struct mz_async *post;
};
struct slot {
    struct reporter *r;
    struct mz_loop *loop; /* atomic: set once by its thread, read by main at the end */
    struct sender *sender;
    bool ended; /* its thread has no upstream any more */
};
struct reporter {
    struct reporter_opts o;
    unsigned refs; /* atomic: the owner, and each slot that is in use */
    unsigned n_slots;
    struct slot slots[];
};

static void count(const struct reporter *r, uint16_t stat, unsigned n)
{
    if (stat != REPORTER_UNCOUNTED)
        mz_count(r->o.scope, stat, n);
}

static void reporter_unref(struct reporter *r)
{
    if (__atomic_fetch_sub(&r->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    r->o.destroy(r->o.owner);
    mz_free(MZ_MEM_LOG, r);
}

/* ---- a lot ---- */

static void flush(struct sender *s);

static bool enough(const struct sender *s)
{
    return s->n >= mz_runtime_u64(mz_runtime_here(), s->slot->r->o.key_min_spans, MIN_SPANS);
}

static void lot_ended(struct sender *s)
{
    if (enough(s))
        flush(s);
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct sender *s = arg;
    (void)trailers;
    s->stream = NULL;
    if (st->code != MZ_GRPC_OK)
        MZ_LOG(DEBUG, tracing, "collector: %s: " MZ_STR_FMT, mz_grpc_code_name(st->code),
               MZ_STR_ARG(st->message));
    lot_ended(s);
}
static const struct mz_grpc_stream_ops stream_ops = { .closed = on_closed };

static void on_posted(void *arg, const struct mz_fetch_reply *reply)
{
    struct sender *s = arg;
    const struct reporter_opts *o = &s->slot->r->o;
    s->post = NULL;
    if (o->outcome)
        o->outcome(o->owner, reply);
    lot_ended(s);
}

static void call(struct sender *s, struct mz_buf *body)
{
    const struct reporter_opts *o = &s->slot->r->o;
    const struct mz_grpc_opts opts = { .bytes_only = true, .timeout_ms = o->timeout_ms };
    s->stream = mz_grpc_stream_open(s->upstream, o->grpc, o->method, &opts, &stream_ops, s);
    (void)mz_grpc_stream_send_bytes(s->stream, mz_buf_linearize(body, mz_buf_len(body)));
    mz_grpc_stream_end(s->stream);
}

static void post(struct sender *s, struct mz_buf *body)
{
    const struct reporter_opts *o = &s->slot->r->o;
    const struct reporter_http *http = o->http;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    struct mz_async_opts opts = { .timeout_ms = o->timeout_ms };
    if (o->key_timeout_ms.n)
        opts.timeout_ms = mz_runtime_u64(mz_runtime_here(), o->key_timeout_ms, o->timeout_ms);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("POST"));
    mz_headers_add_id(h, MZ_H_PATH, http->path);
    mz_headers_add_id(h, MZ_H_AUTHORITY, http->host);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, http->content_type);
    if (http->user_agent.n)
        mz_headers_add_id(h, MZ_H_USER_AGENT, http->user_agent);
    if (http->add) {
        const struct mz_format_ctx none = { .req = h };
        mz_header_mutations_apply(http->add, h, &none);
    }
    char text[20];
    mz_headers_set_id(h, MZ_H_CONTENT_LENGTH,
                      (struct mz_str){ text, mz_u64_text(mz_buf_len(body), text) });
    s->post = mz_fetch(s->upstream, http->cluster, h, body, ANSWER_MAX, &opts, on_posted, s);
    mz_arena_destroy(a); /* headers were copied */
}

static void flush(struct sender *s)
{
    const struct reporter_opts *o = &s->slot->r->o;
    struct mz_buf body;
    if (!s->n || s->stream || s->post)
        return;
    mz_buf_init(&body);
    o->body(o->owner, &s->spans, &body);
    count(s->slot->r, o->stat_sent, s->n);
    s->n = 0;
    mz_buf_fini(&s->spans);
    if (o->grpc)
        call(s, &body);
    else
        post(s, &body);
    mz_buf_fini(&body);
}

static void timer_start(struct sender *s)
{
    mz_timer_start_ms(
        &s->tick, mz_runtime_u64(mz_runtime_here(), s->slot->r->o.key_interval_ms, INTERVAL_MS));
}

static void on_tick(struct mz_timer *t)
{
    struct sender *s = MZ_CONTAINER(t, struct sender, tick);
    count(s->slot->r, s->slot->r->o.stat_timer, 1);
    flush(s);
    if (s->n)
        timer_start(s);
}

/* ---- senders ---- */

static void sender_free(void *p)
{
    struct sender *s = p;
    mz_buf_fini(&s->spans);
    mz_free(MZ_MEM_LOG, s);
}

static void sender_end(struct sender *s)
{
    if (!s)
        return;
    s->slot->sender = NULL;
    mz_timer_stop(&s->tick);
    mz_grpc_stream_cancel(s->stream);
    mz_async_cancel(s->post);
    mz_upstream_del_user(&s->user);
    mz_loop_free_later(s->loop, s, sender_free);
}

static void gone(struct mz_upstream_user *user)
{
    struct sender *s = MZ_CONTAINER(user, struct sender, user);
    s->slot->ended = true;
    sender_end(s);
}

static struct sender *sender_of(struct slot *slot, struct mz_upstream *u)
{
    if (slot->sender || slot->ended || !u || mz_upstream_closed(u))
        return slot->sender;
    struct sender *s = mz_new0(MZ_MEM_LOG, struct sender);
    s->slot = slot;
    s->upstream = u;
    s->loop = mz_upstream_loop(u);
    s->user.gone = gone;
    mz_list_init(&s->user.link);
    mz_upstream_add_user(u, &s->user);
    mz_buf_init(&s->spans);
    mz_timer_init(s->loop, &s->tick, on_tick);
    slot->sender = s;
    if (!slot->loop) {
        __atomic_add_fetch(&slot->r->refs, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->loop, s->loop, __ATOMIC_RELEASE);
    }
    return s;
}

struct mz_buf *reporter_room(struct reporter *r, const struct mz_worker *w)
{
    struct sender *s = w->slot < r->n_slots ? sender_of(&r->slots[w->slot], w->upstream) : NULL;
    if (s && s->n < r->o.max_spans && mz_buf_len(&s->spans) < BYTES_MAX)
        return &s->spans;
    count(r, r->o.stat_dropped, 1);
    return NULL;
}

void reporter_added(struct reporter *r, const struct mz_worker *w)
{
    struct sender *s = r->slots[w->slot].sender;
    if (s->n++ == 0)
        timer_start(s);
    if (enough(s))
        flush(s);
}

/* ---- life ---- */

struct reporter *reporter_create(const struct reporter_opts *o, unsigned workers)
{
    unsigned n = workers + 1;
    struct reporter *r = mz_alloc0(MZ_MEM_LOG, sizeof(*r) + mz_mul(n, sizeof(*r->slots)));
    r->o = *o;
    r->refs = 1;
    r->n_slots = n;
    for (unsigned i = 0; i < n; i++)
        r->slots[i].r = r;
    return r;
}

static void slot_release(struct mz_loop *loop, void *arg) /* on its worker */
{
    struct slot *slot = arg;
    (void)loop;
    slot->ended = true;
    sender_end(slot->sender);
    reporter_unref(slot->r);
}

void reporter_release(struct reporter *r)
{
    for (unsigned i = 0; i < r->n_slots; i++) {
        struct mz_loop *l = __atomic_load_n(&r->slots[i].loop, __ATOMIC_ACQUIRE);
        if (l)
            mz_loop_post(l, slot_release, &r->slots[i]);
    }
    reporter_unref(r);
}
