/* One stream: opening, back-off, requests that are due, and who watches what. */
#include <stdio.h>

#include "xds/mux_priv.h"

static const struct mz_stat_def control_plane_defs[] = {
    [CP_CONNECTED] = { "connected_state", MZ_GAUGE, MZ_UNIT_NONE, MZ_STAT_NEVER_IMPORT },
    [CP_IDENTIFIER] = { "identifier", MZ_TEXT, MZ_UNIT_NONE, 0 },
    [CP_PENDING] = { "pending_requests", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [CP_RATE_LIMIT] = { "rate_limit_enforced", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind control_plane_kind = { "control_plane", control_plane_defs,
                                                        CP__COUNT };

void mux_keep_text(char **at, struct mz_str s)
{
    char *old = *at; /* @s may lie in it */
    *at = s.p ? mz_strndup(MZ_MEM_XDS, s.p, s.n) : NULL;
    mz_free(MZ_MEM_XDS, old);
}

/* ---- names ---- */

struct named *mux_named(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name, bool make)
{
    struct type_state *s = state_of(m, t);
    struct named *n = mz_map_get(&s->names, name);
    if (n || !make)
        return n;
    n = mz_alloc0(MZ_MEM_XDS, sizeof(*n) + name.n);
    n->mux = m;
    n->type = t;
    n->name = (struct mz_str){ (char *)(n + 1), name.n };
    if (name.n)
        memcpy(n + 1, name.p, name.n);
    mz_list_init(&n->watches);
    (void)mz_map_put(&s->names, n->name, n);
    return n;
}

static void named_free(struct named *n)
{
    if (n->ttl)
        mz_timer_stop(&n->ttl->timer);
    mz_free(MZ_MEM_XDS, n->ttl);
    mz_free(MZ_MEM_XDS, n->version);
    mz_free(MZ_MEM_XDS, n);
}

void mux_named_drop(struct named *n)
{
    if (!mz_list_empty(&n->watches) || n->version || n->changed || n->asked ||
        (n->ttl && mz_timer_armed(&n->ttl->timer)))
        return;
    (void)mz_map_del(&state_of(n->mux, n->type)->names, n->name);
    named_free(n);
}

/* ---- names of xDS-TP ---- */

static bool is_glob(struct mz_str name)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_xds_name n;
    struct mz_err err;
    bool is =
        mz_xds_name_is(name) && mz_xds_name_parse(a, name, &n, &err) && mz_xds_name_is_glob(&n);
    mz_arena_destroy(a);
    return is;
}

static struct named *watched_by_text(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_arena *a,
                                     const struct mz_xds_name *name)
{
    struct named *n = mux_named(m, t, mz_xds_name_text(a, name), false);
    return n && !mz_list_empty(&n->watches) ? n : NULL;
}

struct named *mux_watched(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name)
{
    struct named *n = mux_named(m, t, name, false);
    struct mz_xds_name parsed;
    struct mz_err err;
    if ((n && !mz_list_empty(&n->watches)) || !mz_xds_name_is(name) || type_has_spaces(t))
        return n;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct named *of = NULL;
    if (mz_xds_name_parse(a, name, &parsed, &err)) {
        of = watched_by_text(m, t, a, &parsed);
        mz_xds_name_to_glob(a, &parsed);
        if (!of && state_of(m, t)->n_globs)
            of = watched_by_text(m, t, a, &parsed);
    }
    mz_arena_destroy(a);
    return of ? of : n;
}

struct named *mux_resource(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name, bool make)
{
    struct named *n = mux_watched(m, t, name);
    return n && !n->glob ? n : mux_named(m, t, name, make);
}

/* It was to be confirmed in time. */
static void ttl_over(struct mz_timer *timer)
{
    struct named *n = MZ_CONTAINER(timer, struct ttl, timer)->named;
    struct mz_xds_mux *m = n->mux;
    enum mz_xds_type t = n->type;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    const struct mz_str name = mz_arena_dup(a, n->name);
    const struct mz_xds_update u = { .version = MZ_STR(""), .removed = &name, .n_removed = 1 };
    struct mz_err err;
    MZ_LOG(INFO, config, "%s '" MZ_STR_FMT "': its time to live is over", xds_types[t].short_name,
           MZ_STR_ARG(name));
    mux_keep_text(&n->version, (struct mz_str){ 0 });
    (void)mux_deliver(m, t, &u, &err); /* nobody to tell */
    n = mux_named(m, t, name, false);
    if (n)
        mux_named_drop(n);
    mz_arena_destroy(a);
}

void mux_ttl(struct named *n, uint64_t ttl_ms)
{
    if (!n->ttl && !ttl_ms)
        return;
    if (!n->ttl) {
        n->ttl = mz_new0(MZ_MEM_XDS, struct ttl);
        n->ttl->named = n;
        mz_timer_init(n->mux->xds->env.main, &n->ttl->timer, ttl_over);
    }
    if (ttl_ms)
        mz_timer_start_ms(&n->ttl->timer, ttl_ms);
    else
        mz_timer_stop(&n->ttl->timer);
}

/* ---- watches ---- */

static void watched_changed(struct mz_xds_watch *w, bool begins)
{
    struct mz_xds_mux *m = w->mux;
    struct type_state *s = state_of(m, w->type);
    if (w->named) {
        s->n_watched += begins ? 1 : (size_t)-1;
        s->n_globs += !w->named->glob ? 0 : begins ? 1 : (size_t)-1;
        if (w->named->space) {
            s->n_spaces += begins ? 1 : (size_t)-1;
            s->every_asked &=
                !begins; /* what came before for its resources was dropped: all again */
        }
        s->names_valid = false;
        if (m->opts.delta)
            delta_watched(w->named);
    }
    mux_due(m, w->type);
}

static bool send_one(struct mz_xds_mux *m, enum mz_xds_type t);

/* The server knows that the name is wanted and has nothing to say about it: it has to be wanted afresh. */
static void ask_anew(struct named *n)
{
    struct mz_xds_mux *m = n->mux;
    struct type_state *s = state_of(m, n->type);
    if (m->opts.delta) {
        n->asked = false;
        s->every_asked &= !n->space;
        delta_watched(n);
    } else if (n->asked && m->stream) {
        n->left_out = true;
        s->names_valid = false;
        (void)send_one(m, n->type); /* full: it is known of later at least */
        n->left_out = s->names_valid = false;
    }
    mux_due(m, n->type);
}

/* The server told all there is to who watched before: it is to tell it afresh, to everybody. */
static void ask_all_anew(struct mz_xds_mux *m, enum mz_xds_type t)
{
    struct type_state *s = state_of(m, t);
    if (!m->stream || !s->first_sent)
        return;
    if (!m->opts.delta) { /* as a first request */
        mux_keep_text(&s->version, (struct mz_str){ 0 });
        mux_keep_text(&s->nonce, (struct mz_str){ 0 });
    } else if (s->every_asked) {
        s->every_off = true;
        (void)send_one(m, t); /* full: it is asked for twice at least */
        s->every_off = s->every_asked = false;
    }
}

struct mz_xds_watch *mz_xds_mux_watch(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name,
                                      const struct mz_xds_watch_ops *ops, void *arg)
{
    struct type_state *s = state_of(m, t);
    struct mz_xds_watch *w = mz_new0(MZ_MEM_XDS, struct mz_xds_watch);
    *w = (struct mz_xds_watch){ .mux = m, .type = t, .ops = ops, .arg = arg };
    if (!name.n) {
        ask_all_anew(m, t);
        mz_list_add_tail(&s->every, &w->link);
        watched_changed(w, true);
        return w;
    }
    w->named = mux_named(m, t, name, true);
    bool first = mz_list_empty(&w->named->watches);
    if (first) {
        w->named->space = type_has_spaces(t) && !ops->single;
        w->named->glob = !type_has_spaces(t) && is_glob(name);
    }
    mz_list_add_tail(&w->named->watches, &w->link);
    struct mz_resource known;
    if (first)
        watched_changed(w, true);
    bool told = w->named->asked && !(m->opts.delta && type_has_spaces(t)); /* those ask for all */
    if (first ? told : !mz_xds_watch_known(w, &known))
        ask_anew(w->named); /* also where another watch of it ended just now */
    return w;
}

bool mz_xds_watch_known(const struct mz_xds_watch *w, struct mz_resource *out)
{
    if (!w->named)
        return false;
    mz_list_foreach (it, &w->named->watches) {
        const struct mz_xds_watch *o = MZ_CONTAINER(it, struct mz_xds_watch, link);
        if (o != w && o->ops->current && o->ops->current(o->arg, out))
            return true;
    }
    return false;
}

/* ---- names of others: what is under a space, what is of a collection ---- */

bool mux_space_watched(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name)
{
    const struct named *n = mux_named(m, t, mux_space_of(name), false);
    return n && !mz_list_empty(&n->watches);
}

/* Is a name that nobody watches itself one of those that @n stands for? */
static bool is_under(const struct named *of, struct named *n)
{
    if (n->space)
        return mz_str_eq(mux_space_of(of->name), n->name);
    return n->glob && mux_watched(n->mux, n->type, of->name) == n;
}

/* Nobody keeps what came under @n, whose last watch goes: a new stream must not begin with it. */
static void forget_under(struct named *n)
{
    struct mz_map *all = &state_of(n->mux, n->type)->names;
    for (struct mz_map_entry *it = NULL; (it = mz_map_next(all, it)) != NULL;) {
        struct named *of = it->value;
        if (of == n || !of->version || !is_under(of, n))
            continue;
        mux_keep_text(&of->version, (struct mz_str){ 0 });
        size_t before = all->n;
        mux_named_drop(of);
        if (all->n != before)
            it = NULL; /* deleting moves entries: from the start */
    }
}

void mz_xds_watch_end(struct mz_xds_watch *w)
{
    if (!w)
        return;
    struct named *n = w->named;
    if (n && (n->space || n->glob) && n->watches.next == n->watches.prev)
        forget_under(n);
    mz_list_del(&w->link);
    if (n && mz_list_empty(&n->watches)) {
        watched_changed(w, false);
        mux_named_drop(n);
    }
    mz_free(MZ_MEM_XDS, w);
}

/* ---- requests ---- */

static void pending_show(struct mz_xds_mux *m)
{
    uint64_t n = 0;
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++)
        n += m->types[t].due;
    mz_gauge_set(m->scope, CP_PENDING, (int64_t)n);
}

/* rate_limit_settings: false: later, the timer says when. */
static bool token_take(struct mz_xds_mux *m)
{
    const struct mz_xds_mux_opts *o = &m->opts;
    if (!(o->max_tokens > 0))
        return true;
    uint64_t now = mz_loop_now_us(m->xds->env.main);
    double more = (double)(now - m->filled_us) * o->fill_rate / 1e6;
    m->tokens = m->tokens + more < o->max_tokens ? m->tokens + more : o->max_tokens;
    m->filled_us = now;
    if (m->tokens >= 1) {
        m->tokens -= 1;
        return true;
    }
    mz_count(m->scope, CP_RATE_LIMIT, 1);
    double wait_ms = (1 - m->tokens) / o->fill_rate * 1e3 + 1;
    if (!mz_timer_armed(&m->refill))
        mz_timer_start_ms(&m->refill, wait_ms < REFILL_MAX_MS ? (uint64_t)wait_ms : REFILL_MAX_MS);
    return false;
}

static bool send_one(struct mz_xds_mux *m, enum mz_xds_type t)
{
    struct type_state *s = state_of(m, t);
    struct mz_buf b;
    if (!token_take(m)) {
        s->due = true;
        pending_show(m);
        return false;
    }
    mz_buf_init(&b);
    if (m->opts.delta)
        delta_request(m, t, &b);
    else
        sotw_request(m, t, &b);
    bool sent = m->transport.send(m->stream, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    if (!sent) {
        m->tokens += m->opts.max_tokens > 0;
        return false;
    }
    m->node_sent = true;
    s->due = s->answer_due = false;
    s->first_sent = true;
    mux_keep_text(&s->error, (struct mz_str){ 0 });
    if (m->opts.delta)
        delta_requested(m, t);
    else
        sotw_requested(m, t);
    if (m->opts.max_tokens > 0)
        pending_show(m);
    return true;
}

static void flush(struct mz_xds_mux *m)
{
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT && m->stream; t++)
        if (m->types[t].due && !send_one(m, (enum mz_xds_type)t))
            return;
}

static void refilled(struct mz_timer *t)
{
    flush(MZ_CONTAINER(t, struct mz_xds_mux, refill));
}

static void flush_task(struct mz_task *task)
{
    flush(MZ_CONTAINER(task, struct mz_xds_mux, flush));
}

void mux_due(struct mz_xds_mux *m, enum mz_xds_type t)
{
    m->types[t].due = true;
    if (m->stream)
        mz_task_schedule(m->xds->env.main, &m->flush);
}

bool mux_answer(struct mz_xds_mux *m, enum mz_xds_type t, bool ok, const struct mz_err *err)
{
    struct type_state *s = state_of(m, t);
    char text[1600];
    s->due = s->answer_due = true;
    mux_keep_text(&s->error,
                  ok ? (struct mz_str){ 0 } : mz_str_c(mz_err_text(err, text, sizeof(text))));
    if (m->stream)
        (void)send_one(m, t); /* refused for want of room: it stays due */
    return ok;
}

bool mux_type_of(const struct mz_xds_mux *m, struct mz_str url, enum mz_xds_type *out)
{
    ptrdiff_t slash = mz_str_rchr(url, '/');
    struct mz_str name = slash < 0 ? url : mz_str_skip(url, (size_t)slash + 1);
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        if (!xds_types[t].descriptor || !mz_str_eq(name, mz_str_c(xds_types[t].descriptor->name)))
            continue;
        *out = (enum mz_xds_type)t;
        return m->opts.ads || m->opts.type == *out;
    }
    return false;
}

bool mux_head_taken(struct mz_xds_mux *m, const struct mux_head *h, enum mz_xds_type *out)
{
    const pb_ControlPlane *server = h->control_plane;
    if (server)
        mz_text_set(m->scope, CP_IDENTIFIER, mz_str_c(server->identifier));
    if (!mux_type_of(m, mz_str_c(h->type_url), out)) {
        MZ_LOG(WARN, config,
               "Ignoring the message for type URL %.200s as it has no current subscribers.",
               h->type_url);
        return false;
    }
    mux_keep_text(&state_of(m, *out)->nonce, mz_str_c(h->nonce ? h->nonce : ""));
    return true;
}

const ProtobufCMessage *mux_unpack(struct mz_str bytes, const ProtobufCMessageDescriptor *d,
                                   struct mz_arena *a, struct mz_err *err)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true
    };
    ProtobufCMessage *m;
    return mz_msg_unpack(&ctx, bytes, d, &m, err) ? m : NULL;
}

/* ---- the stream ---- */

static const char *method_of(const struct mz_xds_mux *m)
{
    const struct xds_type *t = &xds_types[m->opts.type];
    if (m->opts.ads)
        return m->opts.delta ? "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                               "DeltaAggregatedResources"
                             : "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                               "StreamAggregatedResources";
    return m->opts.delta ? t->delta_method : t->stream_method;
}

/* The server of a new stream knows nothing of what was asked before. */
static void names_anew(struct mz_xds_mux *m, struct type_state *s)
{
    MZ_VEC(struct named *) idle = { 0 };
    s->changes.n = 0;
    mz_map_foreach (it, &s->names) {
        struct named *n = it->value;
        n->asked = n->changed = false;
        if (mz_list_empty(&n->watches)) {
            if (mz_list_empty(&s->every) && !type_has_spaces(n->type) && !s->n_globs)
                mux_keep_text(&n->version, (struct mz_str){ 0 });
            *mz_vec_push(&idle, MZ_MEM_XDS) = n;
        } else if (m->opts.delta) {
            delta_watched(n);
        }
    }
    mz_vec_foreach (n, &idle)
        mux_named_drop(*n);
    mz_vec_free(&idle, MZ_MEM_XDS);
}

static void open_stream(struct mz_xds_mux *m)
{
    m->node_sent = m->connected = false;
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        struct type_state *s = &m->types[t];
        mux_keep_text(&s->nonce, (struct mz_str){ 0 });
        mux_keep_text(&s->error, (struct mz_str){ 0 });
        s->first_sent = s->every_asked = s->answer_due = false;
        names_anew(m, s);
        s->due = !mz_list_empty(&s->every) || s->n_watched;
    }
    m->stream = m->transport.open(m->transport.arg, m, method_of(m));
    flush(m);
}

static void retry_fired(struct mz_timer *t)
{
    struct mz_xds_mux *m = MZ_CONTAINER(t, struct mz_xds_mux, retry);
    if (!m->xds->halted)
        open_stream(m);
}

void mz_xds_mux_start(struct mz_xds_mux *m)
{
    if (m->started || m->xds->env.validate)
        return;
    m->started = true;
    open_stream(m);
}

void mz_xds_mux_writable(struct mz_xds_mux *m)
{
    flush(m);
}

void mz_xds_mux_received(struct mz_xds_mux *m, struct mz_str response)
{
    struct mz_err err;
    char text[1600];
    m->retry_ms = RETRY_FIRST_MS;
    if (!m->connected) {
        m->connected = true;
        m->told = false;
        mz_gauge_set(m->scope, CP_CONNECTED, 1);
    }
    m->dispatching++;
    if (!(m->opts.delta ? delta_received(m, response, &err) : sotw_received(m, response, &err)))
        MZ_LOG(WARN, config, "xds: a response that is none: %s",
               mz_err_text(&err, text, sizeof(text)));
    m->dispatching--;
}

static void tell_disconnected(struct mz_list *watches)
{
    mz_list_foreach (it, watches) {
        struct mz_xds_watch *w = MZ_CONTAINER(it, struct mz_xds_watch, link);
        w->ops->disconnected(w->arg);
    }
}

void mz_xds_mux_closed(struct mz_xds_mux *m, int grpc_status, struct mz_str message)
{
    m->stream = NULL;
    mz_gauge_set(m->scope, CP_CONNECTED, 0);
    /* One line until it is there again, however often it is tried. */
    if (!m->told)
        MZ_LOG(WARN, config, "%s gRPC config stream closed: %d, " MZ_STR_FMT,
               strrchr(method_of(m), '/') + 1, grpc_status, MZ_STR_ARG(message));
    m->told = true;
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        tell_disconnected(&m->types[t].every);
        mz_map_foreach (it, &m->types[t].names)
            tell_disconnected(&((struct named *)it->value)->watches);
    }
    /* Full jitter: anything up to a bound that doubles. */
    mz_timer_start_ms(&m->retry, 1 + mz_rand_below(m->opts.rand, m->retry_ms));
    m->retry_ms = m->retry_ms > RETRY_MAX_MS / 2 ? RETRY_MAX_MS : m->retry_ms * 2;
}

struct mz_xds_mux *mz_xds_mux_create(struct mz_xds *x, const struct mz_xds_mux_opts *o,
                                     const struct mz_xds_transport *t)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_xds_mux *m = mz_arena_new0(a, struct mz_xds_mux);
    m->arena = a;
    m->xds = x;
    m->opts = *o;
    m->transport = *t;
    m->node = mz_arena_dup(a, o->node);
    m->retry_ms = RETRY_FIRST_MS;
    mz_timer_init(x->env.main, &m->retry, retry_fired);
    mz_timer_init(x->env.main, &m->refill, refilled);
    m->tokens = o->max_tokens;
    m->filled_us = mz_loop_now_us(x->env.main);
    mz_task_init(&m->flush, flush_task);
    for (unsigned i = 0; i < MZ_XDS_TYPE__COUNT; i++) {
        mz_list_init(&m->types[i].every);
        mz_map_init(&m->types[i].names, MZ_MEM_XDS);
    }
    struct mz_str parts[] = { o->scope, MZ_STR("control_plane.") };
    m->scope = mz_scope_create(x->env.stats, &control_plane_kind, mz_arena_cat(a, 2, parts));
    mz_gauge_set(m->scope, CP_CONNECTED, 0);
    return m;
}

void mz_xds_mux_destroy(struct mz_xds_mux *m)
{
    if (!m)
        return;
    if (m->stream)
        m->transport.close(m->stream);
    mz_timer_stop(&m->retry);
    mz_timer_stop(&m->refill);
    mz_task_cancel(&m->flush);
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        struct type_state *s = &m->types[t];
        mz_map_foreach (it, &s->names)
            named_free(it->value);
        mz_map_fini(&s->names);
        mz_free(MZ_MEM_XDS, s->version);
        mz_free(MZ_MEM_XDS, s->nonce);
        mz_free(MZ_MEM_XDS, s->error);
        mz_free(MZ_MEM_XDS, (void *)(uintptr_t)s->packed_names.p);
        mz_vec_free(&s->changes, MZ_MEM_XDS);
    }
    if (m->opts.destroy)
        m->opts.destroy(m->transport.arg);
    mz_scope_unref(m->scope);
    mz_arena_destroy(m->arena);
}
