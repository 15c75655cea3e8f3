#ifndef MZ_NET_EYEBALLS_H
#define MZ_NET_EYEBALLS_H
/*
 * Happy eyeballs (U3, RFC 8305 4 and 5): a host has several addresses; connects to them start one after another, the next
 * one when an attempt failed or after MZ_EYEBALLS_DELAY_MS, and the first whose transport is ready (TCP and handshake)
 * becomes the connection. Its losers are closed without a word.
 */
#include "base/arena.h"
#include "net/conn.h"

#define MZ_EYEBALLS_DELAY_MS 300 /* Envoy's; RFC 8305 recommends 250 */

struct mz_eyeballs_opts {
    const struct mz_addr *v; /* copied */
    size_t n;                /* at least 1 */
    int first_family;        /* whose addresses come first; AF_UNSPEC: that of v[0] */
    uint32_t first_count;    /* so many of them before one of each other family; 1.. */
    const struct mz_transport_factory *transport; /* of each attempt */
    const struct mz_transport_opts *wanted; /* of it; copied but for host_name, which is borrowed as @sources are; NULL: nothing */
    const struct mz_conn_source *sources; /* two, for mz_conn_source_for(); NULL: any; borrowed until the connection stands or closes */
    struct mz_conn_stats stats; /* of the connection; failed binds of each attempt count there */
    void (*another)(void *arg); /* an attempt begins that is not the first; NULL */
    void *another_arg;
};
/* As mz_conn_connect(): CONNECTED or REMOTE_CLOSE arrives once, later; with CONNECTED the connection has descriptor, transport,
 * addresses and id of the attempt that won, with REMOTE_CLOSE error and transport of the one that failed last. Closing it ends
 * all attempts. */
struct mz_conn *mz_eyeballs_connect(struct mz_loop *l, const struct mz_eyeballs_opts *o, const struct mz_conn_ops *ops,
                                    void *arg);
/* The order of attempts, as indices: @count of family @first, one of each other family in the order of their first addresses,
 * and again. */
void mz_eyeballs_order(const struct mz_addr *v, size_t n, int first, uint32_t count, uint32_t *out_order);

struct mz_eyeballs_story { /* for the story of a request */
    unsigned attempt, n; /* which won, of how many addresses; n 0: nothing was raced */
    struct mz_str others; /* what became of those before it */
};
/* Tells of a connection in the turn of its CONNECTED. */
struct mz_eyeballs_story mz_eyeballs_story(const struct mz_conn *c, struct mz_arena *a);
#endif
