#ifndef MZ_NET_CONN_PRIV_H
#define MZ_NET_CONN_PRIV_H
/* What conn.c, bulk.c and eyeballs.c share. */
#include "net/conn.h"
#include "net/pipe.h"

enum { CONNECTING, OPEN, FLUSHING, DELAYED, CLOSED };

struct mz_bulk { /* of one end of a joined pair; there is none where nothing was joined */
    struct mz_conn *to, *from; /* where our input goes, whose input comes here; NULL: nowhere (any more) */
    void (*moved)(void *arg, size_t n);
    void *arg;
    struct mz_pipe *feed; /* output before the output buffer's; NULL: none */
    uint8_t hot, cold;    /* large reads in a row; small moves in a row */
    bool above;           /* above_high() was told because of feed */
    bool refused;         /* the kernel does not splice from this socket */
};

static inline void conn_count(struct mz_conn *c, unsigned index, uint64_t n)
{
    if (c->stats.scope && index != MZ_STAT_NONE)
        mz_count(c->stats.scope, index, n);
}
static inline bool bulk_feeding(const struct mz_conn *c)
{
    return c->bulk && c->bulk->feed;
}
void bulk_seen(struct mz_conn *c, size_t got, bool filled); /* a read into the buffer */
struct mz_pipe *bulk_begin(struct mz_conn *c);              /* NULL: read into the buffer */
/* As a read: OK, AGAIN, EOF, FAIL (c->error); the bytes are on their way to the other end. */
enum mz_io_status bulk_read(struct mz_conn *c, struct mz_pipe *take);
bool bulk_flush(struct mz_conn *c); /* what feed holds goes to the kernel; true: all of it */
void bulk_end(struct mz_conn *c);   /* the connection closes */
/* conn.c, for races */
struct mz_conn *conn_new(struct mz_loop *l, struct mz_transport *transport, const struct mz_conn_ops *ops, void *arg);
void conn_finish(struct mz_conn *c, enum mz_conn_event ev);              /* closes it; its last event is @ev */
void conn_take(struct mz_conn *c, struct mz_conn *from);                 /* @from is connected: @c is it from now on, and tells */
void conn_take_failure(struct mz_conn *c, struct mz_conn *from);         /* @from has failed: so has @c */
/* eyeballs.c: of a connection with a race */
void race_conn_closed(struct mz_conn *c);
void race_conn_freed(struct mz_conn *c);
#endif
