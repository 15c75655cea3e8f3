#ifndef MZ_NET_WIRE_H
#define MZ_NET_WIRE_H
/*
 * Connections within a thread, without sockets: a pair of ends, each with a buffer of what the other wrote (internal listeners
 * and their clients). They act as TCP sockets do: a full buffer makes the writer wait, each direction ends by itself, a close
 * with unread input is a reset. One loop, its thread.
 */
#include "base/arena.h"
#include "event/loop.h"
#include "net/addr.h"
#include "net/transport.h"
#include <sys/uio.h>

struct mz_wire; /* an end; ends with mz_wire_close(), its memory when both have */
void mz_wire_pair(size_t limit /* bytes of each buffer */, struct mz_wire *out_ends[2]);
/* From now on @io (mz_io_add_virtual()) is told as epoll would: also of what is there already. NULL: nobody. */
void mz_wire_watch(struct mz_wire *w, struct mz_io *io);
/* As readv(), recv(MSG_PEEK), writev(), shutdown(SHUT_WR): -1 and errno. */
ssize_t mz_wire_readv(struct mz_wire *w, const struct iovec *iov, unsigned n);
ssize_t mz_wire_peek(const struct mz_wire *w, void *out, size_t max);
ssize_t mz_wire_writev(struct mz_wire *w, const struct iovec *iov, unsigned n);
int mz_wire_shutdown(struct mz_wire *w);
/* As a plain transport's read and write, without copying. */
enum mz_io_status mz_wire_take(struct mz_wire *w, struct mz_buf *in, size_t max);
enum mz_io_status mz_wire_give(struct mz_wire *w, struct mz_buf *out);
bool mz_wire_refused(const struct mz_wire *w);   /* the other end was mz_wire_refuse()d */
int mz_wire_error(const struct mz_wire *w); /* SO_ERROR; stays */
void mz_wire_close(struct mz_wire *w, bool reset);
void mz_wire_refuse(struct mz_wire *w); /* a close by who never had a connection of it: to a client that still connects, nobody is there */

/* ---- connecting ---- */
struct mz_meta;
struct
    mz_passed { /* what a client gives to the listener along with the connection; lies in its own arena */
    struct mz_arena *arena;
    struct mz_meta *metadata;      /* NULL: none */
    struct mz_shared_state *state; /* a reference that the arena gives back; NULL: none */
};
struct mz_wire_call {
    const struct mz_addr *to;
    struct mz_passed *take_passed; /* NULL: nothing; its end is the callee's in any case */
    uint64_t from;                 /* id of the client's connection */
    unsigned hops;                 /* user-space connections that led to the client of this one */
};
#define MZ_WIRE_HOPS_MAX 16 /* a longer chain is taken for a loop */
struct mz_wire_host { /* who answers calls to internal addresses on a loop: mz_loop_set_wires() */
    struct mz_wire *(*answer)(
        struct mz_wire_host *h,
        const struct mz_wire_call *call); /* the client's end; NULL and errno */
};
/* The client's end of a new connection; NULL and errno: EINVAL where nobody listens (Envoy), ECONNREFUSED where
 * its limits say so, ELOOP for a chain too long. */
struct mz_wire *mz_wire_call(struct mz_loop *l, const struct mz_wire_call *call);
#endif
