#include "hcm/hcm_priv.h"

/*
 * Iteration of a message through the filters (H6). Requests run 0..n-1, answers n-1..0; behind the last place of an answer
 * stands the codec (respond.c), behind that of a request nothing: the terminal filter keeps it.
 *
 * Each filter has a small state per direction. A filter that stopped "single" still gets data; one that stopped "all" gets
 * none until it continues. Every callback may end the stream (local reply, reset): s->dead and, for requests, the begun
 * local reply are looked at after each.
 */
struct dir {
    bool response;
    int step;
};
static const struct dir request_dir = { false, 1 }, response_dir = { true, -1 };
/* The loops over filters exist once in the source and twice in the program, each with its direction known. */
#define FOR_EACH_DIRECTION static inline __attribute__((always_inline))

static struct pass *pass_of(struct mz_stream *s, const struct dir *d)
{
    return d->response ? &s->resp : &s->req;
}
static uint8_t *state_of(struct mz_filter *f, const struct dir *d)
{
    return d->response ? &f->resp_state : &f->req_state;
}
static bool in_range(const struct mz_stream *s, int i)
{
    return i >= 0 && i < s->n_filters;
}
/* After a callback: must this iteration end? The stream may be over or begun anew (internal redirect), and a local reply ends
 * the request's way. */
static bool stopped(const struct mz_stream *s, const struct dir *d, uint32_t epoch)
{
    return s->dead || s->epoch != epoch || (!d->response && s->local_replying);
}

static void run_data(struct mz_stream *s, const struct dir *d, int from, struct mz_buf *data,
                     bool end);
static void run_trailers(struct mz_stream *s, const struct dir *d, int from);

/* ---- what stopped filters wait with ---- */

static void payload_too_large(struct mz_stream *s)
{
    mz_count(s->conn->cfg->scope, MZ_HS_RQ_TOO_LARGE, 1);
    if (s->conn->codec->protocol < MZ_HTTP2)
        s->needs_close = true; /* also where the whole body has come already, as Envoy */
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 413,
                                                       .body = MZ_STR("Payload Too Large"),
                                                       .details = "request_payload_too_large" });
}

static void response_too_large(struct mz_stream *s)
{
    mz_count(s->conn->cfg->scope, MZ_HS_RS_TOO_LARGE, 1);
    mz_buf_fini(&s->resp.kept);
    s->resp.has_kept = false;
    if (s->responding) {
        mz_stream_reset(s, "response_payload_too_large");
        return;
    }
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 500,
                                                       .body = MZ_STR("Internal Server Error"),
                                                       .details = "response_payload_too_large" });
}

/* Keeps data for a stopped filter. Watermark: pause the producer above the limit; else the limit is hard. */
static void keep(struct mz_stream *s, const struct dir *d, struct mz_buf *data, bool watermark)
{
    struct pass *p = pass_of(s, d);
    p->has_kept = true;
    if (data)
        mz_buf_move_all(&p->kept, data);
    if (s->buffer_limit == 0 || mz_buf_len(&p->kept) <= s->buffer_limit || p->above)
        return;
    if (watermark) {
        p->above = true;
        if (d->response)
            stream_down_above(s);
        else
            stream_read_disable(s, true);
    } else if (d->response) {
        response_too_large(s);
    } else {
        payload_too_large(s);
    }
}

static void kept_taken(struct mz_stream *s, const struct dir *d)
{
    struct pass *p = pass_of(s, d);
    p->has_kept = false;
    if (!p->above)
        return;
    p->above = false;
    if (d->response)
        stream_down_below(s);
    else
        stream_read_disable(s, false);
}

/* ---- headers ---- */

/* Most filters look at few of the phases: the others pass them by. */
static bool has_headers(const struct mz_filter *f, const struct dir *d)
{
    return d->response ? f->type->on_response_headers != NULL : f->type->on_request_headers != NULL;
}

static enum mz_flow call_headers(struct mz_filter *f, const struct dir *d, struct mz_headers *h,
                                 bool end)
{
    if (d->response)
        return f->type->on_response_headers ? f->type->on_response_headers(f, h, end)
                                            : MZ_FLOW_CONTINUE;
    return f->type->on_request_headers ? f->type->on_request_headers(f, h, end) : MZ_FLOW_CONTINUE;
}

FOR_EACH_DIRECTION void headers_through(struct mz_stream *s, const struct dir *d, int from,
                                        bool end)
{
    uint32_t epoch = s->epoch;
    static const uint8_t stop_state[] = { [MZ_FLOW_STOP] = FS_SINGLE,
                                          [MZ_FLOW_STOP_AND_BUFFER] = FS_ALL_BUFFER,
                                          [MZ_FLOW_STOP_AND_WATERMARK] = FS_ALL_WATERMARK };
    struct pass *p = pass_of(s, d);
    int added_at = -1;
    bool halted = false;
    for (int i = from; in_range(s, i); i += d->step) {
        struct mz_filter *f = s->filters[i];
        if (!f)
            continue;
        uint8_t *st = state_of(f, d);
        if (!has_headers(f, d)) {
            *st |= FS_HEADERS_CONTINUED | (end ? FS_ENDED : 0);
            continue;
        }
        bool had = p->has_kept;
        *st |= end ? FS_ENDED : 0;
        enum mz_flow flow = call_headers(f, d, p->headers, end);
        if (stopped(s, d, epoch))
            return;
        bool gave = end && !had && p->has_kept; /* a message without body one */
        if (gave) {
            end = false;
            *st |= FS_ENDED;
        }
        if (flow != MZ_FLOW_CONTINUE) {
            *st |= stop_state[flow];
            halted = true;
            break;
        }
        *st |= FS_HEADERS_CONTINUED;
        if (gave)
            added_at = i;
    }
    if (d->response && !halted)
        respond_headers(s, p->headers, end);
    if (added_at >= 0 && !stopped(s, d, epoch)) {
        struct mz_buf data;
        mz_buf_init(&data);
        mz_buf_move_all(&data, &p->kept);
        kept_taken(s, d);
        run_data(s, d, added_at + d->step, &data, p->trailers == NULL);
        mz_buf_fini(&data);
    }
}

static void run_headers(struct mz_stream *s, const struct dir *d, int from, bool end)
{
    if (d->response)
        headers_through(s, &response_dir, from, end);
    else
        headers_through(s, &request_dir, from, end);
}

/* ---- going on after a stop ---- */

static void go_on(struct mz_stream *s, const struct dir *d, struct mz_filter *f)
{
    uint32_t epoch = s->epoch;
    struct pass *p = pass_of(s, d);
    uint8_t *st = state_of(f, d);
    bool all = *st & (FS_ALL_BUFFER | FS_ALL_WATERMARK);
    if (stopped(s, d, epoch) || !(*st & FS_STOPPED))
        return;
    *st &= (uint8_t)~FS_STOPPED;
    int next = f->index + d->step;
    bool trailers_wait = p->trailers != NULL;
    bool body_wait = p->has_kept;
    if (!(*st & FS_HEADERS_CONTINUED)) {
        *st |= FS_HEADERS_CONTINUED;
        run_headers(s, d, next, p->ended && !body_wait && !trailers_wait && !p->data_running);
        if (stopped(s, d, epoch) || (*st & FS_STOPPED))
            return;
    }
    if (body_wait) {
        struct mz_buf data;
        mz_buf_init(&data);
        mz_buf_move_all(&data, &p->kept);
        kept_taken(s, d);
        run_data(s, d, all ? f->index : next, &data, p->ended && !trailers_wait);
        mz_buf_fini(&data);
        if (stopped(s, d, epoch) || (*st & FS_STOPPED))
            return;
    }
    if (trailers_wait)
        run_trailers(s, d, all ? f->index : next);
}

void mz_filter_continue_request(struct mz_filter *f)
{
    go_on(f->stream, &request_dir, f);
}

void mz_filter_continue_response(struct mz_filter *f)
{
    go_on(f->stream, &response_dir, f);
    stream_maybe_finish(f->stream);
}

/* ---- data ---- */

static bool has_data(const struct mz_filter *f, const struct dir *d)
{
    return d->response ? f->type->on_response_data != NULL : f->type->on_request_data != NULL;
}

static enum mz_flow call_data(struct mz_filter *f, const struct dir *d, struct mz_buf *data,
                              bool end)
{
    if (d->response)
        return f->type->on_response_data ? f->type->on_response_data(f, data, end)
                                         : MZ_FLOW_CONTINUE;
    return f->type->on_request_data ? f->type->on_request_data(f, data, end) : MZ_FLOW_CONTINUE;
}

/* What a data callback's answer means. True: hand the data to the next filter. */
static bool after_data(struct mz_stream *s, const struct dir *d, struct mz_filter *f,
                       struct mz_buf *data, enum mz_flow flow)
{
    uint32_t epoch = s->epoch;
    struct pass *p = pass_of(s, d);
    uint8_t *st = state_of(f, d);
    if (flow == MZ_FLOW_CONTINUE) {
        if (!(*st & FS_STOPPED))
            return true;
        /* It had stopped at the headers: they go on first, then all that was kept. */
        keep(s, d, data, true);
        if (!stopped(s, d, epoch))
            go_on(s, d, f);
        return false;
    }
    *st |= FS_SINGLE;
    if (flow != MZ_FLOW_STOP)
        keep(s, d, data, flow == MZ_FLOW_STOP_AND_WATERMARK);
    else if (p->ended && !p->trailers)
        p->has_kept = true; /* so that the end is not lost when it continues */
    return false;
}

FOR_EACH_DIRECTION void data_through(struct mz_stream *s, const struct dir *d, int from,
                                     struct mz_buf *data, bool end)
{
    uint32_t epoch = s->epoch;
    struct pass *p = pass_of(s, d);
    bool added = false; /* trailers, by a filter at the end of the body ... */
    int after = 0;      /* ... which those behind it are still to see */
    for (int i = from; in_range(s, i); i += d->step) {
        struct mz_filter *f = s->filters[i];
        if (!f)
            continue;
        uint8_t *st = state_of(f, d);
        if (!(*st & (FS_STOPPED | FS_ENDED)) && !has_data(f, d)) {
            *st |= end ? FS_ENDED : 0;
            continue;
        }
        if (*st & (FS_ALL_BUFFER | FS_ALL_WATERMARK)) {
            keep(s, d, data, *st & FS_ALL_WATERMARK);
            return;
        }
        if ((*st & FS_ENDED) && !end)
            return;
        *st |= end ? FS_ENDED : 0;
        bool outer = p->data_running;
        p->data_running = true;
        enum mz_flow flow = call_data(f, d, data, end);
        if (stopped(s, d, epoch))
            return;
        p->data_running = outer;
        if (!after_data(s, d, f, data, flow)) {
            if (added && !stopped(s, d, epoch))
                run_trailers(s, d,
                             after); /* the terminal filter stops every body, others see them too */
            return;
        }
        if (end && p->trailers) {
            end = false;
            added = true;
            after = i + d->step;
        }
    }
    if (d->response)
        respond_data(s, data, end);
    if (added && !stopped(s, d, epoch))
        run_trailers(s, d, after);
}

static void run_data(struct mz_stream *s, const struct dir *d, int from, struct mz_buf *data,
                     bool end)
{
    if (d->response)
        data_through(s, &response_dir, from, data, end);
    else
        data_through(s, &request_dir, from, data, end);
}

/* ---- trailers ---- */

static enum mz_flow call_trailers(struct mz_filter *f, const struct dir *d, struct mz_headers *h)
{
    if (d->response)
        return f->type->on_response_trailers ? f->type->on_response_trailers(f, h)
                                             : MZ_FLOW_CONTINUE;
    return f->type->on_request_trailers ? f->type->on_request_trailers(f, h) : MZ_FLOW_CONTINUE;
}

/* What is kept goes to the filters from @from on, more will follow. False: the iteration is over. */
static bool give_kept(struct mz_stream *s, const struct dir *d, int from)
{
    uint32_t epoch = s->epoch;
    struct mz_buf data;
    mz_buf_init(&data);
    mz_buf_move_all(&data, &pass_of(s, d)->kept);
    kept_taken(s, d);
    run_data(s, d, from, &data, false);
    mz_buf_fini(&data);
    return !stopped(s, d, epoch);
}

static void run_trailers(struct mz_stream *s, const struct dir *d, int from)
{
    uint32_t epoch = s->epoch;
    struct pass *p = pass_of(s, d);
    for (int i = from; in_range(s, i); i += d->step) {
        struct mz_filter *f = s->filters[i];
        if (!f)
            continue;
        uint8_t *st = state_of(f, d);
        if (*st & (FS_ALL_BUFFER | FS_ALL_WATERMARK))
            return;
        *st |= FS_ENDED;
        bool had = p->has_kept;
        enum mz_flow flow = call_trailers(f, d, p->trailers);
        if (stopped(s, d, epoch))
            return;
        if (flow == MZ_FLOW_CONTINUE && (*st & FS_STOPPED)) {
            go_on(s, d, f); /* headers and kept data first; ends with these trailers */
            return;
        }
        if (flow != MZ_FLOW_CONTINUE) {
            *st |= FS_SINGLE;
            return;
        }
        if (!had && p->has_kept && !give_kept(s, d, i + d->step))
            return; /* body that the filter added before the trailers */
    }
    if (d->response)
        respond_trailers(s, p->trailers);
}

/* ---- entry points ---- */

void chain_request_headers(struct mz_stream *s, struct mz_headers *h, bool end)
{
    s->req.headers = h;
    run_headers(s, &request_dir, 0, end);
}

void chain_request_data(struct mz_stream *s, struct mz_buf *data, bool end)
{
    run_data(s, &request_dir, 0, data, end);
}

void chain_request_trailers(struct mz_stream *s, struct mz_headers *h)
{
    s->req.trailers = h;
    run_trailers(s, &request_dir, 0);
}

void chain_response_1xx(struct mz_stream *s, struct mz_headers *h)
{
    for (int i = s->n_filters - 1; i >= 0; i--) {
        struct mz_filter *f = s->filters[i];
        if (f && f->type->on_response_1xx)
            f->type->on_response_1xx(f, h);
        if (s->dead)
            return;
    }
    respond_1xx(s, h);
}

void chain_response_headers(struct mz_stream *s, struct mz_headers *h, bool end)
{
    s->resp.headers = h;
    s->resp.ended |= end;
    run_headers(s, &response_dir, s->n_filters - 1, end);
}

void chain_response_data(struct mz_stream *s, struct mz_buf *data, bool end)
{
    s->resp.ended |= end;
    run_data(s, &response_dir, s->n_filters - 1, data, end);
}

void chain_response_trailers(struct mz_stream *s, struct mz_headers *h)
{
    s->resp.ended = true;
    s->resp.trailers = h;
    run_trailers(s, &response_dir, s->n_filters - 1);
}

/* ---- for filters ---- */

struct mz_buf *mz_filter_request_buffer(struct mz_filter *f)
{
    return f->stream->req.has_kept ? &f->stream->req.kept : NULL;
}

struct mz_buf *mz_filter_response_buffer(struct mz_filter *f)
{
    return f->stream->resp.has_kept ? &f->stream->resp.kept : NULL;
}

void mz_filter_add_request_data(struct mz_filter *f, struct mz_buf *take, bool watermark)
{
    keep(f->stream, &request_dir, take, watermark);
}

void mz_filter_add_response_data(struct mz_filter *f, struct mz_buf *take, bool watermark)
{
    keep(f->stream, &response_dir, take, watermark);
}

void mz_filter_inject_request_data(struct mz_filter *f, struct mz_buf *take, bool end)
{
    if (!stopped(f->stream, &request_dir, f->stream->epoch))
        run_data(f->stream, &request_dir, f->index + 1, take, end);
}

void mz_filter_inject_response_data(struct mz_filter *f, struct mz_buf *take, bool end)
{
    stream_touch(f->stream);
    run_data(f->stream, &response_dir, f->index - 1, take, end);
    stream_maybe_finish(f->stream);
}

void mz_filter_pause_response(struct mz_filter *f, bool pause)
{
    if (pause)
        stream_down_above(f->stream);
    else
        stream_down_below(f->stream);
}

static struct mz_headers *add_trailers(struct mz_filter *f, const struct dir *d)
{
    struct pass *p = pass_of(f->stream, d);
    if (!p->trailers)
        p->trailers = mz_headers_create(f->stream->arena);
    return p->trailers;
}

struct mz_headers *mz_filter_add_request_trailers(struct mz_filter *f)
{
    return add_trailers(f, &request_dir);
}

struct mz_headers *mz_filter_add_response_trailers(struct mz_filter *f)
{
    return add_trailers(f, &response_dir);
}

struct mz_filter *mz_stream_next_filter(struct mz_stream *s, const struct mz_http_filter_type *type,
                                        const struct mz_filter *after)
{
    for (int i = after ? after->index + 1 : 0; i < s->n_filters; i++)
        if (s->filters[i] && s->filters[i]->type == type)
            return s->filters[i];
    return NULL;
}

/* ---- life ---- */

/* The most specific configuration of a filter: route, virtual host, table. */
static const struct mz_filter_override *find_override(const struct mz_filter_overrides *o,
                                                      struct mz_str name)
{
    for (size_t i = 0; o && i < o->n; i++)
        if (mz_str_eq(o->v[i].name, name))
            return &o->v[i];
    return NULL;
}

/* Most routes override nothing: then no filter needs to be looked for by its name. */
static bool any_overrides(const struct mz_stream *s)
{
    const struct mz_route *r = s->route;
    if (!r || !r->vhost)
        return false;
    const struct mz_filter_overrides *w = s->weighted ? s->weighted->overrides : NULL,
                                     *t = mz_route_table_overrides(r->vhost->table);
    return (w && w->n) || r->overrides.n || r->vhost->overrides.n || (t && t->n);
}

/* Overrides of one filter, the most specific first. */
static unsigned overrides_of(const struct mz_route *r, const struct mz_weighted_cluster *w,
                             struct mz_str name, const struct mz_filter_override *out[4])
{
    if (!r || !r->vhost)
        return 0;
    const struct mz_filter_overrides *levels[] = { w ? w->overrides : NULL, &r->overrides,
                                                   &r->vhost->overrides,
                                                   mz_route_table_overrides(r->vhost->table) };
    unsigned n = 0;
    for (size_t i = 0; i < MZ_COUNT(levels); i++) {
        const struct mz_filter_override *o = find_override(levels[i], name);
        if (o)
            out[n++] = o;
    }
    return n;
}

const struct mz_filter_override *
chain_override(const struct mz_route *r, const struct mz_weighted_cluster *w, struct mz_str name)
{
    const struct mz_filter_override *all[4];
    return overrides_of(r, w, name, all) ? all[0] : NULL;
}

static const struct mz_filter_override *override_for(const struct mz_stream *s, struct mz_str name)
{
    return chain_override(s->route, s->weighted, name);
}

unsigned mz_filter_route_configs(const struct mz_filter *f, const void *out_cfgs[4])
{
    const struct mz_filter_override *all[4];
    unsigned n = overrides_of(f->stream->route, f->stream->weighted, f->name, all), k = 0;
    for (unsigned i = n; i-- > 0;)
        if (all[i]->cfg && all[i]->type == f->type)
            out_cfgs[k++] = all[i]->cfg;
    return k;
}

bool chain_enables(const struct filter_entry *e, const struct mz_filter_override *o)
{
    if (!o)
        return !e->disabled;
    return o->disabled ? false : o->enabled || o->cfg ? true : !e->disabled;
}

static const void *route_cfg_of(const struct mz_filter *f, const struct mz_filter_override *o)
{
    return o && o->type == f->type ? o->cfg : NULL;
}

/* The object of one filter: at *room where it is configured here, which moves on; apart where it comes by subscription. */
static struct mz_filter *filter_make(struct mz_stream *s, const struct filter_entry *e, char **room,
                                     bool *io_missing)
{
    const struct mz_http_filter_type *type = e->type;
    const void *cfg = e->cfg;
    struct mz_filter *f = (struct mz_filter *)(void *)*room;
    if (MZ_UNLIKELY(e->place != NULL)) {
        type = extension_take(s, e, &cfg, io_missing);
        if (!type)
            return NULL;
        f = mz_arena_alloc0(s->arena, type->size);
    } else {
        *room += e->bytes;
    }
    f->type = type;
    f->cfg = cfg;
    f->stream = s;
    f->name = e->name;
    return f;
}

void chain_prepare(struct filter_list *list)
{
    list->bytes = 2 * list->n * sizeof(struct mz_filter *);
    for (size_t i = 0; i < list->n; i++) {
        struct filter_entry *e = &list->v[i];
        const struct mz_http_filter_type *t = e->type;
        e->bytes = e->place ? 0 : (uint32_t)((t->size + 7) & ~(size_t)7);
        e->hears_end = e->place || t->on_stream_done || t->on_log || t->on_destroy;
        list->bytes += e->bytes;
    }
}

void chain_make(struct mz_stream *s, const struct filter_list *list)
{
    bool any = any_overrides(s), missing = false;
    char *room = mz_arena_alloc0(s->arena, list->bytes); /* one piece: zeroed at once */
    s->list = list;
    s->n_filters = (uint8_t)list->n;
    s->filters = (struct mz_filter **)(void *)room;
    s->enders = s->filters + list->n;
    room += 2 * list->n * sizeof(struct mz_filter *);
    for (size_t i = 0; i < list->n; i++) {
        const struct filter_entry *e = &list->v[i];
        const struct mz_filter_override *o = any ? override_for(s, e->name) : NULL;
        struct mz_filter *f = chain_enables(e, o) ? filter_make(s, e, &room, &missing) : NULL;
        if (!f)
            continue;
        f->index = (uint8_t)i;
        f->route_cfg = route_cfg_of(f, o);
        s->filters[i] = f;
        if (e->hears_end)
            s->enders[s->n_enders++] = f;
    }
    s->chain_made = true;
}

void chain_route_changed(struct mz_stream *s)
{
    bool any = any_overrides(s);
    for (int i = 0; i < s->n_filters; i++) {
        struct mz_filter *f = s->filters[i];
        if (f)
            f->route_cfg = any ? route_cfg_of(f, override_for(s, f->name)) : NULL;
    }
}

void chain_done(struct mz_stream *s)
{
    for (unsigned i = 0; i < s->n_enders; i++)
        if (s->enders[i]->type->on_stream_done)
            s->enders[i]->type->on_stream_done(s->enders[i]);
}

void chain_log(struct mz_stream *s)
{
    for (unsigned i = 0; i < s->n_enders; i++)
        if (s->enders[i]->type->on_log)
            s->enders[i]->type->on_log(s->enders[i]);
}

void chain_destroy(struct mz_stream *s)
{
    for (unsigned i = 0; i < s->n_enders; i++)
        if (s->enders[i]->type->on_destroy)
            s->enders[i]->type->on_destroy(s->enders[i]);
}

void chain_down_above(struct mz_stream *s)
{
    for (int i = 0; i < s->n_filters; i++)
        if (s->filters[i] && s->filters[i]->type->on_downstream_above_high)
            s->filters[i]->type->on_downstream_above_high(s->filters[i]);
}

void chain_down_below(struct mz_stream *s)
{
    for (int i = 0; i < s->n_filters; i++)
        if (s->filters[i] && s->filters[i]->type->on_downstream_below_low)
            s->filters[i]->type->on_downstream_below_low(s->filters[i]);
}

void chain_request_resumed(struct mz_stream *s)
{
    for (int i = 0; i < s->n_filters; i++)
        if (s->filters[i] && s->filters[i]->type->on_request_resumed)
            s->filters[i]->type->on_request_resumed(s->filters[i]);
}
