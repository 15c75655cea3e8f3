#include "base/alloc.h"
#include "base/clock.h"
#include "http/header_map.h"
#include "observe/decision.h"
#include "observe/json_text.h"
#include "observe/plain_text.h"
#include "observe/stream_info.h"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/*
 * The flight recorder: per thread two rings of records of fixed size, failed and slow requests. A record has a text area that
 * names and paths are copied to; what does not fit is cut. A thread's rings appear with its first kept request.
 */
enum { TEXT_BYTES = 2048, TEXT_MAX = 256 /* of one text */ };
struct span {
    uint16_t at, n;
};
struct kept_step {
    uint8_t kind;
    uint32_t at_us;
    struct span a, b;
    int64_t n, m;
};
struct record {
    uint64_t start_wall_us, duration_us, flags, flag_order, conn_id, stream_id;
    uint32_t status, attempts;
    uint64_t number; /* in the order of keeping, over all threads */
    bool slow, watched;
    uint8_t direction; /* of the listener */
    struct span method, authority, path, details, host, failure, request_id, listener;
    uint16_t steps_n, dropped, used;
    struct kept_step steps[MZ_DECISION_STEPS];
    char text[TEXT_BYTES];
};
enum list { FAILED, SLOW, REFUSED, WATCHED, LISTS }; /* none crowds out another */
struct slot {
    pthread_mutex_t lock; /* taken to keep and to read, never to pass by */
    uint64_t n[LISTS];    /* ever kept */
    struct record *v[LISTS];
};
struct watch {
    pthread_mutex_t lock; /* workers take it only while somebody watches */
    uint64_t until_us;    /* wall time; atomic; 0: nobody does */
    struct mz_str path, header, value;
    char text[3][MZ_WATCH_TEXT];
};
struct mz_recorder {
    unsigned slots, keep;
    uint64_t slow_us;
    uint64_t kept; /* atomic: all that were ever kept */
    struct watch watch;
    struct slot v[];
};

struct mz_recorder *mz_recorder_create(unsigned slots, unsigned keep)
{
    struct mz_recorder *r = mz_alloc0(MZ_MEM_LOG, sizeof(*r) + mz_mul(slots, sizeof(r->v[0])));
    r->slots = slots;
    r->keep = keep ? keep : 1;
    r->slow_us = 1000000;
    (void)pthread_mutex_init(&r->watch.lock, NULL);
    for (unsigned i = 0; i < slots; i++)
        (void)pthread_mutex_init(&r->v[i].lock, NULL);
    return r;
}

void mz_recorder_destroy(struct mz_recorder *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < r->slots; i++) {
        (void)pthread_mutex_destroy(&r->v[i].lock);
        for (unsigned k = 0; k < LISTS; k++)
            mz_free(MZ_MEM_LOG, r->v[i].v[k]);
    }
    (void)pthread_mutex_destroy(&r->watch.lock);
    mz_free(MZ_MEM_LOG, r);
}

void mz_recorder_set_slow_ms(struct mz_recorder *r, uint32_t ms)
{
    __atomic_store_n(&r->slow_us, (uint64_t)ms * 1000, __ATOMIC_RELAXED);
}

/* ---- watching ---- */

static struct mz_str copied(struct mz_str s, char to[MZ_WATCH_TEXT])
{
    const size_t n = s.n < MZ_WATCH_TEXT ? s.n : MZ_WATCH_TEXT;
    if (n)
        memcpy(to, s.p, n);
    return (struct mz_str){ to, n };
}

void mz_recorder_watch(struct mz_recorder *r, const struct mz_watch *w)
{
    const uint32_t s = w->seconds < MZ_WATCH_MAX_S ? w->seconds : MZ_WATCH_MAX_S;
    (void)pthread_mutex_lock(&r->watch.lock);
    r->watch.path = copied(w->path_prefix, r->watch.text[0]);
    r->watch.header = copied(w->header, r->watch.text[1]);
    r->watch.value = copied(w->value, r->watch.text[2]);
    __atomic_store_n(&r->watch.until_us, s ? mz_clock->wall_us() + s * 1000000ull : 0,
                     __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&r->watch.lock);
}

static bool fits(const struct watch *w, const struct mz_stream_info *info)
{
    if (!info->req) /* a connection's bytes: there is nothing to ask for */
        return !w->header.n && !w->path.n;
    const struct mz_header *h = w->header.n ? mz_headers_get(info->req, w->header) : NULL;
    return mz_str_starts(mz_headers_path(info->req), w->path) &&
           (!w->header.n || (h && (!w->value.n || mz_str_eq(h->value, w->value))));
}

static bool is_watched(struct mz_recorder *r, const struct mz_stream_info *info)
{
    const uint64_t until = __atomic_load_n(&r->watch.until_us, __ATOMIC_RELAXED);
    if (MZ_LIKELY(!until) || info->start_wall_us > until)
        return false;
    (void)pthread_mutex_lock(&r->watch.lock);
    const bool yes = fits(&r->watch, info);
    (void)pthread_mutex_unlock(&r->watch.lock);
    return yes;
}

/* ---- keeping ---- */

static struct span text_keep(struct record *r, struct mz_str s)
{
    size_t room = (size_t)TEXT_BYTES - r->used;
    size_t n = s.n < TEXT_MAX ? s.n : TEXT_MAX;
    n = n < room ? n : room;
    struct span span = { r->used, (uint16_t)n };
    if (n)
        memcpy(r->text + r->used, s.p, n);
    r->used = (uint16_t)(r->used + n);
    return span;
}

static struct mz_str header_text(const struct mz_headers *h, enum mz_header_id id)
{
    return h ? mz_headers_value_id(h, id) : (struct mz_str){ "", 0 };
}

/* The client's address is made into text only here, for a request that is kept. */
static struct mz_str step_text(const struct mz_step *s, const struct mz_stream_info *info,
                               char text[MZ_ADDR_TEXT])
{
    if (s->kind != MZ_STEP_ACCEPTED || s->b.n || !info->direct_remote.len)
        return s->b;
    return (struct mz_str){ text, mz_addr_text(&info->direct_remote, text) };
}

static void steps_keep(struct record *r, const struct mz_stream_info *info)
{
    const struct mz_decision *d = info->decision;
    char text[MZ_ADDR_TEXT];
    r->steps_n = d ? d->n : 0;
    r->dropped = d ? d->dropped : 0;
    for (unsigned i = 0; i < r->steps_n; i++) {
        const struct mz_step *s = &d->v[i];
        struct mz_str b = step_text(s, info, text);
        r->steps[i] = (struct kept_step){ s->kind,         s->at_us, text_keep(r, s->a),
                                          text_keep(r, b), s->n,     s->m };
    }
}

static void record_fill(struct record *r, const struct mz_stream_info *info, bool slow)
{
    char host[MZ_ADDR_TEXT];
    r->start_wall_us = info->start_wall_us;
    r->duration_us = info->end_us > info->start_us ? info->end_us - info->start_us : 0;
    r->flags = info->flags;
    r->flag_order = info->flag_order;
    r->conn_id = info->conn_id;
    r->stream_id = info->stream_id;
    r->status = info->status;
    r->attempts = info->attempts;
    r->slow = slow;
    r->used = 0;
    r->method = text_keep(r, header_text(info->req, MZ_H_METHOD));
    r->authority = text_keep(r, header_text(info->req, MZ_H_AUTHORITY));
    struct mz_str path =
        header_text(info->req, MZ_H_X_ENVOY_ORIGINAL_PATH); /* as the client wrote it */
    r->path = text_keep(r, path.n ? path : header_text(info->req, MZ_H_PATH));
    r->details = text_keep(r, mz_str_c(info->details));
    r->host = text_keep(
        r, (struct mz_str){ host, info->up.host.len ? mz_addr_text(&info->up.host, host) : 0 });
    r->failure = text_keep(r, info->up.transport_failure);
    r->request_id = text_keep(r, header_text(info->req, MZ_H_X_REQUEST_ID));
    r->listener = text_keep(r, info->listener_name);
    r->direction = info->listener_direction;
    steps_keep(r, info);
}

void mz_recorder_offer(struct mz_recorder *r, unsigned slot, const struct mz_stream_info *info)
{
    bool failed = info->status >= 500 || info->flags || (info->has_protocol && info->status == 0);
    bool slow = info->end_us - info->start_us > __atomic_load_n(&r->slow_us, __ATOMIC_RELAXED) &&
                info->end_us > info->start_us;
    bool refused = info->status >= 400 && info->decision && info->decision->refused;
    bool watched = is_watched(r, info);
    if (MZ_LIKELY(!failed && !slow && !refused && !watched))
        return;
    struct slot *s = &r->v[slot];
    enum list list = watched ? WATCHED : failed ? FAILED : refused ? REFUSED : SLOW;
    (void)pthread_mutex_lock(&s->lock);
    if (!s->v[list])
        s->v[list] = mz_alloc(MZ_MEM_LOG, mz_mul(r->keep, sizeof(struct record)));
    struct record *to = &s->v[list][s->n[list]++ % r->keep];
    record_fill(to, info, slow);
    to->watched = watched;
    to->number = __atomic_fetch_add(&r->kept, 1, __ATOMIC_RELAXED) + 1;
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- reading ---- */

static size_t slot_copy(struct mz_recorder *r, struct slot *s, struct record *out)
{
    size_t total = 0;
    (void)pthread_mutex_lock(&s->lock);
    for (unsigned k = 0; k < LISTS; k++) {
        size_t n = s->n[k] < r->keep ? (size_t)s->n[k] : r->keep;
        if (n && out)
            memcpy(out + total, s->v[k], n * sizeof(*out));
        total += n;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return total;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = ((const struct record *)a)->start_wall_us,
             y = ((const struct record *)b)->start_wall_us;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* A copy of all records; the caller frees it. */
static struct record *records_copy(struct mz_recorder *r, size_t *out_n)
{
    size_t cap = mz_mul(r->slots, (size_t)LISTS * r->keep),
           n = 0; /* no slot ever has more, whatever happens meanwhile */
    size_t used = 0;
    for (unsigned i = 0; i < r->slots; i++)
        used += slot_copy(r, &r->v[i], NULL);
    cap = used + (size_t)LISTS * r->keep < cap ? used + (size_t)LISTS * r->keep : cap;
    struct record *v = mz_alloc(MZ_MEM_ADMIN, mz_mul(cap, sizeof(*v)));
    for (unsigned i = 0; i < r->slots && n + (size_t)LISTS * r->keep <= cap; i++)
        n += slot_copy(r, &r->v[i], v + n);
    qsort(v, n, sizeof(*v), newest_first);
    *out_n = n;
    return v;
}

static struct mz_str text_of(const struct record *r, struct span s)
{
    return (struct mz_str){ r->text + s.at, s.n };
}

static void story_of(const struct record *r, struct mz_decision *out)
{
    out->start_us = 0;
    out->n = r->steps_n;
    out->dropped = r->dropped;
    out->routes_skipped = 0;
    for (unsigned i = 0; i < r->steps_n; i++) {
        const struct kept_step *k = &r->steps[i];
        out->v[i] =
            (struct mz_step){ k->kind, k->at_us, text_of(r, k->a), text_of(r, k->b), k->n, k->m };
    }
}

static void time_write(struct mz_buf *out, uint64_t wall_us)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[32];
    gmtime_r(&t, &tm);
    mz_buf_append(out, text, strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm));
    mz_buf_printf(out, ".%03uZ", (unsigned)(wall_us / 1000 % 1000));
}

static void record_text(const struct record *r, struct mz_buf *out)
{
    char flags[MZ_FLAGS_TEXT];
    time_write(out, r->start_wall_us);
    mz_buf_append(out, " ", 1);
    mz_plain_text(out, text_of(r, r->method));
    mz_buf_append(out, " ", 1);
    mz_plain_text(out, text_of(r, r->authority));
    mz_plain_text(out, text_of(r, r->path));
    if (r->status)
        mz_buf_printf(out, ": answered %u", r->status);
    else
        mz_buf_append_str(out, MZ_STR(": ended without an answer"));
    mz_buf_printf(out, " after %llu ms", (unsigned long long)(r->duration_us / 1000));
    if (r->flags) {
        mz_buf_append_str(out, MZ_STR(", "));
        mz_buf_append(out, flags, mz_flags_text(r->flags, r->flag_order, true, flags));
    }
    if (r->details.n) {
        mz_buf_append_str(out, MZ_STR(" ("));
        mz_plain_text(out, text_of(r, r->details));
        mz_buf_append(out, ")", 1);
    }
    if (r->attempts > 1)
        mz_buf_printf(out, ", %u tries", r->attempts);
    if (r->failure.n) {
        mz_buf_append_str(out, MZ_STR(", transport: "));
        mz_plain_text(out, text_of(r, r->failure));
    }
    mz_buf_printf(out, "%s  [C%llu][S%llu]\n", r->slow ? ", slow" : "",
                  (unsigned long long)r->conn_id, (unsigned long long)r->stream_id);
}

/* Those that were asked for. @next: numbers from there on are for the next answer: whatever has a smaller one was in its ring
 * before the rings were read, so nobody who goes on from there misses one or sees one twice. */
static struct record *records_asked(struct mz_recorder *r, const struct mz_recorder_ask *ask,
                                    size_t *out_n, uint64_t *out_next)
{
    const uint64_t next = __atomic_load_n(&r->kept, __ATOMIC_ACQUIRE) + 1;
    struct record *v = records_copy(r, out_n);
    size_t n = 0;
    for (size_t i = 0; i < *out_n; i++)
        if (v[i].number >= ask->since && v[i].number < next &&
            (!ask->request_id.n || mz_str_eq(text_of(&v[i], v[i].request_id), ask->request_id)))
            v[n++] = v[i];
    *out_n = n;
    *out_next = next;
    return v;
}

void mz_recorder_text(struct mz_recorder *r, const struct mz_recorder_ask *ask, struct mz_buf *out)
{
    size_t n;
    uint64_t next;
    struct record *v = records_asked(r, ask, &n, &next);
    struct mz_decision story;
    if (n == 0)
        mz_buf_append_str(out, ask->since || ask->request_id.n
                                   ? MZ_STR("None of the requests that were kept is such.\n")
                                   : MZ_STR("No request has failed, was refused or slow.\n"));
    for (size_t i = 0; i < n; i++) {
        record_text(&v[i], out);
        story_of(&v[i], &story);
        mz_decision_text(&story, out);
    }
    mz_free(MZ_MEM_ADMIN, v);
}

static void member_write(struct mz_buf *out, const char *name, struct mz_str value)
{
    mz_buf_printf(out, ",\"%s\":", name);
    mz_json_string(out, value);
}

static void record_json(const struct record *r, struct mz_buf *out)
{
    static const char *const directions[] = { "", "inbound", "outbound" };
    char flags[MZ_FLAGS_TEXT];
    mz_buf_append_str(out, MZ_STR("{\"time\":\""));
    time_write(out, r->start_wall_us);
    mz_buf_append(out, "\"", 1);
    member_write(out, "method", text_of(r, r->method));
    member_write(out, "authority", text_of(r, r->authority));
    member_write(out, "path", text_of(r, r->path));
    member_write(out, "request_id", text_of(r, r->request_id));
    member_write(out, "listener", text_of(r, r->listener));
    member_write(out, "direction",
                 mz_str_c(directions[r->direction < MZ_COUNT(directions) ? r->direction : 0]));
    mz_buf_printf(out, ",\"status\":%u,\"watched\":%s", r->status, r->watched ? "true" : "false");
    member_write(out, "flags",
                 (struct mz_str){ flags, mz_flags_text(r->flags, r->flag_order, false, flags) });
    member_write(out, "details", text_of(r, r->details));
    member_write(out, "upstream_host", text_of(r, r->host));
    member_write(out, "transport_failure", text_of(r, r->failure));
    mz_buf_printf(out, ",\"duration_ms\":%llu.%03u,\"attempts\":%u,\"slow\":%s",
                  (unsigned long long)(r->duration_us / 1000), (unsigned)(r->duration_us % 1000),
                  r->attempts, r->slow ? "true" : "false");
    mz_buf_printf(out, ",\"connection_id\":%llu,\"stream_id\":%llu,\"story\":",
                  (unsigned long long)r->conn_id, (unsigned long long)r->stream_id);
    struct mz_decision story;
    story_of(r, &story);
    mz_decision_json(&story, out);
    mz_buf_append(out, "}", 1);
}

void mz_recorder_json(struct mz_recorder *r, const struct mz_recorder_ask *ask, struct mz_buf *out)
{
    size_t n;
    uint64_t next;
    struct record *v = records_asked(r, ask, &n, &next);
    mz_buf_printf(out, "{\"next\":%llu,\"requests\":[", (unsigned long long)next);
    for (size_t i = 0; i < n; i++) {
        if (i)
            mz_buf_append(out, ",", 1);
        record_json(&v[i], out);
    }
    mz_buf_append_str(out, MZ_STR("]}\n"));
    mz_free(MZ_MEM_ADMIN, v);
}
