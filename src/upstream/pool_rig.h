#ifndef MZ_UPSTREAM_POOL_RIG_H
#define MZ_UPSTREAM_POOL_RIG_H
/*
 * For tests of pools over real sockets on loopback: one thread plays proxy and upstream. rig_stop() expects all gauges and
 * breakers at zero and no memory left.
 */
#include "base/test.h"
#include "upstream/pool_priv.h"

extern struct mz_loop *loop;
extern struct mz_stats *stats;
extern struct mz_cluster_manager *manager;
extern struct mz_upstream *upstream;
extern int listener;
extern uint16_t port;

#define OK_ANSWER    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define CLOSE_ANSWER "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"

struct req {
    struct mz_arena *arena;
    enum mz_http_protocol downstream;
    struct mz_pool_pending *pending;
    struct mz_stream_enc *enc;
    bool ready, failed, reset, answered, ended,
        keep_open; /* keep_open: the request has a body to come */
    bool again;    /* ask once more from inside failed() */
    unsigned status, body;
    enum mz_pool_failure why;
    enum mz_reset_reason reason;
    char text[128];
    uint64_t conn_id;
    uint32_t conn_requests;
};

void turn(void);
int upstream_accept(void);
bool readable(int fd);
size_t upstream_read(int fd, char *out, size_t n);
void upstream_send(int fd, const char *text);
void upstream_reset(int fd);
void req_start(struct req *q);
void req_wait(const bool *flag);
void req_fini(struct req *q);
uint64_t value(const char *name);
void rig_start(const char *extra);
struct mz_wcluster *cluster(void);
struct mz_host *host(void);
void rig_stop(void);
void serve(int fd, const char *answer, struct req *q);
void settle(void);
bool add_cluster(const char *yaml, struct mz_err *err);
void listen_start(void);
#endif
