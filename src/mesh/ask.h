#ifndef MZ_MESH_ASK_H
#define MZ_MESH_ASK_H
/* One connection to a pod, one small HTTP request, the status of its answer: probes, and what agents are told. Main thread. */
#include "event/loop.h"
#include <sys/types.h>

struct mz_mesh_ask_opts {
    int ns, back; /* the network it is made in (-1: the node's), and the one this thread is in */
    uint32_t ip;
    uint16_t port;
    const char *request; /* borrowed; NULL: being connected is enough */
    uint64_t timeout_ms;
};
struct mz_mesh_ask { /* embedded; begins with mz_mesh_ask_init() */
    struct mz_loop *loop;
    struct mz_io io;
    struct mz_timer limit;
    int fd, error; /* -1: nothing is under way */
    const char *request;
    size_t left, got;
    char head[16];
    void (*done)(struct mz_mesh_ask *a, int status);
};
/* @done: once, never from inside start(): the status, 200 for being connected, -errno. Nothing is under way then. */
void mz_mesh_ask_init(struct mz_mesh_ask *a, struct mz_loop *l, void (*done)(struct mz_mesh_ask *a, int status));
void mz_mesh_ask_start(struct mz_mesh_ask *a, const struct mz_mesh_ask_opts *o);
void mz_mesh_ask_stop(struct mz_mesh_ask *a); /* silently; harmless when nothing is under way */
bool mz_mesh_ask_running(const struct mz_mesh_ask *a);
/* "HTTP/1.1 200": 200; 0: more bytes are needed; -1: that is no answer. */
int mz_mesh_status_of(const char *head, size_t n);
#endif
