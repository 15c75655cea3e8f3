/* Happy eyeballs (U3): attempts are connections of their own; the winner's insides move into the one that the owner holds. */
#include "net/eyeballs.h"

#include <string.h>

#include "base/log.h"
#include "net/conn_priv.h"

#define STORY_MAX 4 /* losers that a story names */

struct attempt {
    struct mz_addr to;
    struct mz_race *race;
    struct mz_conn *conn; /* NULL: not begun, or over */
    uint64_t start_us;
    int error;
    bool failed;
};
struct mz_race {
    struct mz_conn *conn; /* the owner's; NULL once it is freed */
    struct mz_timer timer;
    struct mz_transport_factory *transport;
    struct mz_transport_opts *wanted; /* copy; NULL: nothing */
    struct mz_str host_name;
    struct mz_str alpn_default;
    const struct mz_conn_source *sources;
    void (*another)(void *arg);
    void *another_arg;
    size_t n, next, running, winner;
    uint64_t over_us;
    bool over, won;
    struct attempt v[];
};

/* ---- order ---- */

struct family {
    int is;
    size_t at; /* its next address is here or behind */
};

static bool take_next(struct family *f, const struct mz_addr *v, size_t n, uint32_t *out_index)
{
    while (f->at < n && v[f->at].sa.sa_family != f->is)
        f->at++;
    if (f->at == n)
        return false;
    *out_index = (uint32_t)f->at++;
    return true;
}

void mz_eyeballs_order(const struct mz_addr *v, size_t n, int first, uint32_t count,
                       uint32_t *out_order)
{
    struct family families[4] = { { first, 0 } }; /* the wanted one, IPv4, IPv6 and UNIX */
    unsigned n_families = 1;
    if (first == AF_UNSPEC && n)
        families[0].is = v[0].sa.sa_family;
    for (size_t i = 0; i < n; i++) {
        unsigned f = 0;
        while (f < n_families && families[f].is != v[i].sa.sa_family)
            f++;
        if (f == n_families)
            families[n_families++] = (struct family){ v[i].sa.sa_family, i };
    }
    for (size_t done = 0; done < n;)
        for (unsigned f = 0; f < n_families; f++)
            for (uint32_t k = 0; k < (f ? 1 : count); k++) {
                if (!take_next(&families[f], v, n, &out_order[done]))
                    break;
                done++;
            }
}

/* ---- the transport of a connection whose race runs ---- */

static enum mz_io_status no_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    (void)t;
    (void)in;
    (void)max;
    return MZ_IO_AGAIN;
}

static enum mz_io_status no_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    (void)t;
    (void)out;
    (void)end;
    return MZ_IO_AGAIN;
}

static bool not_ready(const struct mz_transport *t)
{
    (void)t;
    return false;
}

static void racing_destroy(struct mz_transport *t)
{
    mz_free(MZ_MEM_CONN, t);
}

static const struct mz_transport_ops racing_ops = { .name = "racing",
                                                    .read = no_read,
                                                    .write = no_write,
                                                    .ready = not_ready,
                                                    .destroy = racing_destroy };

/* ---- the race ---- */

static void race_free(void *arg)
{
    struct mz_race *r = arg;
    if (r->conn)
        r->conn->race = NULL;
    mz_transport_factory_unref(r->transport);
    mz_transport_opts_destroy(r->wanted);
    mz_free(MZ_MEM_CONN, r);
}

/* Attempts that still run are closed; the memory stays to the end of the turn. */
static void race_over(struct mz_race *r, const struct attempt *but)
{
    r->over = true;
    r->over_us = mz_loop_now_us(r->conn->loop);
    mz_timer_stop(&r->timer);
    for (size_t i = 0; i < r->next; i++)
        if (r->v[i].conn && &r->v[i] != but)
            mz_conn_close(r->v[i].conn, MZ_CLOSE_NOW, "lost_race", 0);
    mz_loop_free_later(r->conn->loop, r, race_free);
}

static void attempt_next(struct mz_race *r);

static void attempt_failed(struct mz_race *r, struct attempt *a, struct mz_conn *conn,
                           enum mz_conn_event ev)
{
    a->failed = true;
    a->error = conn->error;
    MZ_LOG_IDS(DEBUG, happy_eyeballs, r->conn->id, 0, "attempt %zu of %zu failed: %s",
               (size_t)(a - r->v) + 1, r->n, a->error ? strerrordesc_np(a->error) : "closed");
    if (r->next < r->n)
        attempt_next(r);
    if (r->running)
        return;
    struct mz_conn *c = r->conn;
    race_over(r, NULL);
    conn_take_failure(c, conn);
    conn_finish(c, ev);
}

static void attempt_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct attempt *a = arg;
    struct mz_race *r = a->race;
    a->conn = NULL;
    r->running--;
    if (r->over)
        return;
    if (ev != MZ_CONN_CONNECTED) {
        attempt_failed(r, a, conn, ev);
        return;
    }
    r->won = true;
    r->winner = (size_t)(a - r->v);
    race_over(r, a);
    conn_take(r->conn, conn);
}

static void attempt_data(struct mz_conn *conn, void *arg, bool end)
{
    (void)
        conn; /* no byte comes before CONNECTED; an end within the handshake is followed by its event */
    (void)arg;
    (void)end;
}

static const struct mz_conn_ops attempt_ops = { .data = attempt_data, .event = attempt_event };

static void attempt_next(struct mz_race *r)
{
    struct mz_loop *l = r->conn->loop;
    struct attempt *a = &r->v[r->next++];
    const struct mz_transport_opts *w = r->wanted;
    const struct mz_conn_source *from = mz_conn_source_for(r->sources, &a->to);
    const struct mz_conn_connect_opts o = { .to = &a->to,
                                            .bind = w && w->bind ? w->bind : from->addr,
                                            .opts = from->opts,
                                            .foreign = w && w->bind,
                                            .mark = w ? w->mark : 0 };
    if (a != r->v && r->another)
        r->another(r->another_arg);
    a->start_us = mz_loop_now_us(l);
    struct mz_transport_opts wanted = r->wanted ? *r->wanted : (struct mz_transport_opts){ 0 };
    wanted.host_name = r->host_name;
    wanted.alpn_default = r->alpn_default;
    a->conn = mz_conn_connect(l, &o, r->transport->create(r->transport, &wanted), &attempt_ops, a);
    a->conn->stats = r->conn->stats;
    a->conn->trace = r->conn->trace;
    r->running++;
    if (r->next < r->n)
        mz_timer_start_ms(&r->timer, MZ_EYEBALLS_DELAY_MS);
    else
        mz_timer_stop(&r->timer);
}

static void timer_fired(struct mz_timer *t)
{
    attempt_next(MZ_CONTAINER(t, struct mz_race, timer));
}

void race_conn_closed(struct mz_conn *c)
{
    if (!c->race->over)
        race_over(c->race, NULL);
}

void race_conn_freed(struct mz_conn *c)
{
    c->race->conn = NULL;
}

struct mz_conn *mz_eyeballs_connect(struct mz_loop *l, const struct mz_eyeballs_opts *o,
                                    const struct mz_conn_ops *ops, void *arg)
{
    static const struct mz_conn_source any[2];
    struct mz_race *r = mz_alloc0(MZ_MEM_CONN, sizeof(*r) + mz_mul(o->n, sizeof(*r->v)));
    struct mz_transport *racing = mz_new0(MZ_MEM_CONN, struct mz_transport);
    racing->ops = &racing_ops;
    *r = (struct mz_race){ .transport = mz_transport_factory_ref(o->transport),
                           .wanted = mz_transport_opts_copy(o->wanted, o->transport->uses |
                                                                           MZ_TRANSPORT_USES_CONN),
                           .host_name = o->wanted ? o->wanted->host_name : MZ_STR(""),
                           .alpn_default = o->wanted ? o->wanted->alpn_default : MZ_STR(""),
                           .sources = o->sources ? o->sources : any,
                           .another = o->another,
                           .another_arg = o->another_arg,
                           .n = o->n };
    uint32_t *order = mz_newn0(MZ_MEM_CONN, uint32_t, o->n);
    mz_eyeballs_order(o->v, o->n, o->first_family, o->first_count, order);
    for (size_t i = 0; i < o->n; i++)
        r->v[i] = (struct attempt){ .to = o->v[order[i]], .race = r };
    mz_free(MZ_MEM_CONN, order);
    struct mz_conn *c = r->conn = conn_new(l, racing, ops, arg);
    c->race = r;
    c->stats = o->stats;
    c->remote = c->direct_remote = r->v[0].to;
    mz_timer_init(l, &r->timer, timer_fired);
    attempt_next(r);
    return c;
}

/* ---- what it was like ---- */

struct mz_eyeballs_story mz_eyeballs_story(const struct mz_conn *c, struct mz_arena *a)
{
    const struct mz_race *r = c->race;
    if (!r || !r->won)
        return (struct mz_eyeballs_story){ 0 };
    struct mz_str text = MZ_STR("it was tried first");
    for (size_t i = 0, told = 0; i < r->next && told < STORY_MAX; i++) {
        const struct attempt *t = &r->v[i];
        char at[MZ_ADDR_TEXT];
        if (i == r->winner)
            continue;
        size_t n = mz_addr_text(&t->to, at);
        struct mz_str before = told++ ? text : MZ_STR("");
        if (t->failed)
            text = mz_arena_printf(a, MZ_STR_FMT "%s%.*s failed: %s", MZ_STR_ARG(before),
                                   before.n ? ", " : "", (int)n, at,
                                   t->error ? strerrordesc_np(t->error) : "closed");
        else
            text = mz_arena_printf(a, MZ_STR_FMT "%s%.*s had not answered after %llu ms",
                                   MZ_STR_ARG(before), before.n ? ", " : "", (int)n, at,
                                   (unsigned long long)(r->over_us - t->start_us) / 1000);
    }
    return (struct mz_eyeballs_story){ (unsigned)r->winner + 1, (unsigned)r->n, text };
}
