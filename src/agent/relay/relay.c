#include "agent/relay/relay.h"

#include "agent/relay/nds.h"
#include "base/log.h"
#include "event/loop.h"
#include "grpc/server.h"

#define MESSAGE_MAX (64u << 20) /* of either side: a mesh in one answer */

struct mz_relay {
    struct mz_relay_opts o;
    struct mz_relay_counts counts;
};
struct carry {
    struct mz_relay *relay;
    struct mz_grpc_serving *down; /* the proxy's stream */
    struct mz_grpc_stream *up;    /* ours; NULL: it has ended */
    struct mz_arena *arena;       /* of the stream's headers */
    struct mz_buf
        waiting; /* an answer that the proxy has no room for yet; reading is disabled meanwhile */
    struct mz_str request; /* the same the other way, allocated */
    struct mz_str own;     /* of ours, about names, behind it; allocated */
    bool answered, delta, names_asked;
};

static struct mz_str copied(struct mz_str s)
{
    char *p = mz_alloc(MZ_MEM_XDS, s.n);
    memcpy(p, s.p, s.n);
    return (struct mz_str){ p, s.n };
}

static void drop(struct mz_str *s)
{
    mz_free(MZ_MEM_XDS, (char *)(uintptr_t)s->p);
    *s = (struct mz_str){ 0 };
}

/* ---- names, for ourselves ---- */

static void send_own(struct carry *c)
{
    if (c->own.n && !c->request.n && c->up && mz_grpc_stream_send_bytes(c->up, c->own))
        drop(&c->own);
}

/* A later one is worth as much as one before it that has not left. */
static void ask_for_names(struct carry *c, struct mz_str version, struct mz_str nonce)
{
    struct mz_buf b;
    mz_buf_init(&b);
    nds_request(&b, c->delta, version, nonce);
    drop(&c->own);
    c->own = copied(mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    send_own(c);
}

static bool is_names(struct carry *c, struct mz_str response)
{
    struct nds_response r;
    if (!c->names_asked || !nds_response(response, c->delta, &r))
        return false;
    if (r.has_table)
        c->relay->o.names(c->relay->o.arg, r.table);
    ask_for_names(c, r.version, r.nonce);
    return true;
}

/* ---- from the control plane ---- */

static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct carry *c = arg;
    c->relay->counts.responses++;
    if (!c->answered) {
        c->answered = true;
        c->relay->counts.connected++;
    }
    if (is_names(c, m->bytes))
        return;
    if (mz_grpc_serving_send_bytes(c->down, m->bytes))
        return;
    mz_buf_append_str(&c->waiting, m->bytes);
    mz_grpc_stream_read_disable(c->up, true);
}

static void on_room_down(void *object, struct mz_grpc_serving *down)
{
    struct carry *c = object;
    const size_t n = mz_buf_len(&c->waiting);
    if (!n || !mz_grpc_serving_send_bytes(down, mz_buf_linearize(&c->waiting, n)))
        return;
    mz_buf_drain(&c->waiting, n);
    if (c->up)
        mz_grpc_stream_read_disable(c->up, false);
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct carry *c = arg;
    (void)trailers;
    c->up = NULL;
    if (st->code != MZ_GRPC_OK) {
        c->relay->counts.lost++;
        MZ_LOG(INFO, xds, "the stream to the control plane ended: %s: " MZ_STR_FMT,
               mz_grpc_code_name(st->code), MZ_STR_ARG(st->message));
    }
    mz_grpc_serving_finish(c->down, st->code < 0 ? MZ_GRPC_UNKNOWN : st->code, st->message);
}

/* ---- from the proxy ---- */

static void on_room_up(void *arg)
{
    struct carry *c = arg;
    if (c->request.n && mz_grpc_stream_send_bytes(c->up, c->request)) {
        drop(&c->request);
        mz_grpc_serving_read_disable(c->down, false);
    }
    send_own(c);
}

static void on_request(void *object, struct mz_grpc_serving *down, struct mz_grpc_message *m)
{
    struct carry *c = object;
    if (!c->up)
        return;
    c->relay->counts.requests++;
    if (!mz_grpc_stream_send_bytes(c->up, m->bytes)) {
        c->request = copied(m->bytes);
        mz_grpc_serving_read_disable(down, true);
    }
    if (c->names_asked || !c->relay->o.names)
        return;
    c->names_asked = true; /* behind the first, which says who asks */
    ask_for_names(c, (struct mz_str){ 0 }, (struct mz_str){ 0 });
}

static void on_half_closed(void *object, struct mz_grpc_serving *down)
{
    struct carry *c = object;
    (void)down;
    if (c->up)
        mz_grpc_stream_end(c->up);
}

static void on_gone(void *object, struct mz_grpc_serving *down)
{
    struct carry *c = object;
    (void)down;
    mz_grpc_stream_cancel(c->up);
    c->relay->counts.connected -= c->answered;
    drop(&c->request);
    drop(&c->own);
    mz_buf_fini(&c->waiting);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_XDS, c);
}

/* ---- a stream begins ---- */

static const struct mz_grpc_method
    state = { .path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                      "StreamAggregatedResources" },
    delta = {
        .path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    };
static const struct mz_grpc_stream_ops up_ops = { .message = on_message,
                                                  .writable = on_room_up,
                                                  .closed = on_closed };

static void extra_headers(const struct mz_relay_opts *o, struct mz_headers *h, struct mz_arena *a)
{
    for (char *const *e = o->env; *e; e++) {
        const char *eq = strchr(*e, '=');
        if (strncmp(*e, "XDS_HEADER_", 11) != 0 || !eq || eq == *e + 11)
            continue;
        char *name = mz_arena_alloc(a, (size_t)(eq - *e));
        size_t n = 0;
        for (const char *p = *e + 11; p < eq; p++)
            name[n++] = mz_lower(*p);
        mz_headers_add(h, (struct mz_str){ name, n }, mz_str_c(eq + 1));
    }
}

static bool headers(struct carry *c, struct mz_headers *h, struct mz_err *err)
{
    const struct mz_relay_opts *o = &c->relay->o;
    mz_headers_init(h, c->arena);
    if (!mz_link_who(o->token_path, o->cluster_id, h, c->arena, err))
        return false;
    extra_headers(o, h, c->arena);
    return true;
}

static void *begin(struct mz_relay *r, struct mz_grpc_serving *down, const struct mz_grpc_method *m)
{
    struct carry *c = mz_alloc0(MZ_MEM_XDS, sizeof(*c));
    const struct mz_grpc_service *service = mz_link_service(r->o.link, "xds");
    struct mz_headers h;
    struct mz_err err = { .msg = "" };
    c->relay = r;
    c->down = down;
    c->delta = m == &delta;
    c->arena = mz_arena_create(MZ_MEM_XDS);
    mz_buf_init(&c->waiting);
    if (!headers(c, &h, &err)) {
        MZ_LOG(WARN, xds, "no stream to the control plane: %s", err.msg);
        mz_grpc_serving_finish(down, MZ_GRPC_UNAVAILABLE,
                               mz_str_c("the workload's token cannot be read"));
        return c;
    }
    const struct mz_grpc_opts o = { .max_receive = MESSAGE_MAX,
                                    .bytes_only = true,
                                    .metadata = &h,
                                    .no_xff = true,
                                    .no_internal = true };
    r->counts.opened++;
    c->up = mz_grpc_stream_open(mz_link_upstream(r->o.link), service, m, &o, &up_ops, c);
    return c;
}

static void *begin_state(void *arg, struct mz_grpc_serving *down, const struct mz_headers *h)
{
    (void)h;
    return begin(arg, down, &state);
}

static void *begin_delta(void *arg, struct mz_grpc_serving *down, const struct mz_headers *h)
{
    (void)h;
    return begin(arg, down, &delta);
}

static const struct mz_grpc_handler handlers[] = {
    { { "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", NULL,
        NULL },
      true,
      begin_state,
      on_request,
      on_half_closed,
      on_room_down,
      on_gone },
    { { "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", NULL,
        NULL },
      true,
      begin_delta,
      on_request,
      on_half_closed,
      on_room_down,
      on_gone },
};

struct mz_relay *mz_relay_create(const struct mz_relay_opts *o)
{
    struct mz_relay *r = mz_alloc0(MZ_MEM_XDS, sizeof(*r));
    r->o = *o;
    return r;
}

void mz_relay_add(struct mz_relay *r, struct mz_grpc_server *server)
{
    mz_grpc_server_add(server, handlers, sizeof(handlers) / sizeof(handlers[0]), r);
}

void mz_relay_destroy(struct mz_relay *r)
{
    if (r)
        mz_free(MZ_MEM_XDS, r);
}

struct mz_relay_counts mz_relay_counted(const struct mz_relay *r)
{
    return r->counts;
}
