#ifndef MZ_FILTERS_REDIS_REDIS_H
#define MZ_FILTERS_REDIS_REDIS_H
/*
 * redis_proxy (L5), shared by its files: command.c (what commands there are), config.c (message to configuration), route.c
 * (which cluster has a key), client.c (connections to servers, shared by a worker's clients), split.c (one command becomes one
 * or several, their answers one), proxy.c (a client's connection).
 */
#include "base/list.h"
#include "base/map.h"
#include "filters/network/network_filters.h"
#include "filters/redis/resp.h"
#include "proto/mapper.h"
#include "runtime/runtime.h"
#include "stats/stats.h"
#include "upstream/pool.h"

/* ---- command.c ---- */
enum redis_kind { /* how a command finds its servers */
    REDIS_KEY,    /* of its first argument */
    REDIS_OBJECT, /* of its second */
    REDIS_EVAL,   /* of its third, behind script and number */
    REDIS_SUM,    /* each argument is a key; the numbers that are answered are added */
    REDIS_MGET,
    REDIS_MSET
};
struct redis_command {
    struct mz_str name; /* lower case */
    enum redis_kind kind;
    bool writes; /* goes to mirrors that want writes only, never to a cluster for reading */
};
extern const struct redis_command redis_commands[];
extern const size_t redis_n_commands;
/* By name in any case; NULL: not served. */
const struct redis_command *redis_command_find(struct mz_str name);

/* ---- config.c ---- */
#define REDIS_STATS(X)                                                                             \
    X(CX_ACTIVE, "downstream_cx_active", GAUGE, NONE)                                              \
    X(CX_DRAIN_CLOSE, "downstream_cx_drain_close", COUNTER, NONE)                                  \
    X(CX_PROTOCOL_ERROR, "downstream_cx_protocol_error", COUNTER, NONE)                            \
    X(CX_RX_BYTES_BUFFERED, "downstream_cx_rx_bytes_buffered", GAUGE, BYTES)                       \
    X(CX_RX_BYTES_TOTAL, "downstream_cx_rx_bytes_total", COUNTER, BYTES)                           \
    X(CX_TOTAL, "downstream_cx_total", COUNTER, NONE)                                              \
    X(CX_TX_BYTES_BUFFERED, "downstream_cx_tx_bytes_buffered", GAUGE, BYTES)                       \
    X(CX_TX_BYTES_TOTAL, "downstream_cx_tx_bytes_total", COUNTER, BYTES)                           \
    X(RQ_ACTIVE, "downstream_rq_active", GAUGE, NONE)                                              \
    X(RQ_TOTAL, "downstream_rq_total", COUNTER, NONE)                                              \
    X(INVALID_REQUEST, "splitter.invalid_request", COUNTER, NONE)                                  \
    X(UNSUPPORTED_COMMAND, "splitter.unsupported_command", COUNTER, NONE)
enum {
#define X(id, name, type, unit) REDIS_STAT_##id,
    REDIS_STATS(X)
#undef X
        REDIS_STAT__COUNT
};
/* redis.<stat_prefix>.command.<command>. */
enum { REDIS_COMMAND_ERROR, REDIS_COMMAND_SUCCESS, REDIS_COMMAND_TOTAL, REDIS_COMMAND_LATENCY };

struct redis_mirror {
    struct mz_str cluster;
    struct mz_fraction fraction;
    bool writes_only;
};
struct redis_route {
    struct mz_str prefix; /* lower case where case does not count */
    struct mz_str cluster, read_cluster; /* read_cluster "": the same */
    bool remove_prefix;
    struct redis_mirror *mirrors;
    size_t n_mirrors;
};
struct redis_settings { /* of connections to servers */
    uint64_t op_timeout_ms;
    uint32_t batch_bytes; /* so many wait for more, batch_ms at most; 0: none do */
    uint64_t batch_ms;
    bool command_stats, hash_tags;
};
struct redis_cfg { /* immutable */
    struct mz_arena *arena;
    uint64_t id; /* no other configuration ever had it: pools of workers are found by it */
    struct mz_scope *scope;
    struct mz_scope **commands; /* as redis_commands */
    bool micros, any_case;
    struct redis_settings settings;
    struct redis_route *routes; /* the longest prefix first */
    size_t n_routes;
    struct redis_route *otherwise; /* NULL: keys without a route have no host */
    struct mz_str user;
    struct mz_str *passwords;
    size_t n_passwords;
    struct mz_stats *stats;
};
void *redis_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void redis_config_destroy(void *cfg);

/* ---- route.c ---- */
/* NULL: none. *io_key becomes the key as the server has it. */
const struct redis_route *redis_route_find(const struct redis_cfg *c, struct mz_str *io_key);
/* What of a key is hashed: between the first '{' and the '}' behind it, if that is not nothing (Redis Cluster). */
struct mz_str redis_hash_tag(struct mz_str key);

/* ---- client.c: connections of one thread ---- */
struct redis_pool; /* of one configuration on one worker; counted by the clients' connections */
struct redis_call; /* a command that was sent and has no answer yet */
struct redis_pool *redis_pool_use(struct mz_worker *w, const struct redis_cfg *c);
void redis_pool_leave(struct redis_pool *p);
/* @answer NULL: none came (the connection broke, or the server took too long). Once, never from inside redis_call(). */
typedef void (*redis_done)(void *arg, const struct resp_value *answer);
/* Sends @take to the host of @cluster that has @key. NULL: there is none. @done NULL: nobody cares, and it may be dropped. */
struct redis_call *redis_call(struct redis_pool *p, struct mz_str cluster, struct mz_str key,
                              const struct redis_command *cmd, struct mz_buf *take, redis_done done, void *arg);
void redis_call_cancel(struct redis_call *c); /* done is not called any more */
void redis_worker_stop(struct mz_worker *w);

/* ---- split.c ---- */
struct redis_request { /* of a client, in the order in which they came; its arena is that of the command */
    struct mz_list link;
    struct redis_session *session;
    struct mz_arena *arena;
    const struct resp_value *command; /* an array of strings */
    const struct redis_command *cmd;
    uint64_t start_us;
    struct mz_buf answer;
    bool done; /* answer is whole */
    size_t bytes; /* of the command */
    size_t pending, errors;
    int64_t sum;
    struct redis_part { /* of one key */
        struct redis_request *rq;
        struct redis_call *call;
        struct mz_buf answer; /* of MGET */
    } * parts;
    size_t n_parts;
};
/* Sends what the command asks for; it may be done at once. */
void redis_split(struct redis_request *rq);
void redis_split_cancel(struct redis_request *rq);

/* ---- proxy.c ---- */
struct redis_session { /* the filter's object */
    struct mz_net_filter base;
    struct redis_pool *pool;
    struct resp_decoder decoder;
    struct mz_list requests;
    size_t n_requests, bytes; /* bytes: of all their commands */
    bool allowed; /* no password is asked for, or it was right */
    bool quit; /* no command is read any more */
    bool closed, paused;
    struct mz_task flush;
};
static inline const struct redis_cfg *redis_cfg_of(const struct redis_session *s)
{
    return s->base.cfg;
}
void redis_answered(struct redis_request *rq); /* rq->answer is whole */
#endif
