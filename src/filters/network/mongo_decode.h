#ifndef MZ_FILTERS_NETWORK_MONGO_DECODE_H
#define MZ_FILTERS_NETWORK_MONGO_DECODE_H
/*
 * MongoDB's older wire protocol (OP_QUERY and its like, to 3.6) as somebody sees it who only listens (L5): both directions come in
 * pieces of any size. Of a message its first MONGO_KEEP bytes are kept and looked at; documents behind them count as not there.
 */
#include "base/str.h"

#define MONGO_KEEP 16384

enum mongo_op {
    MONGO_REPLY = 1,
    MONGO_INSERT = 2002,
    MONGO_QUERY = 2004,
    MONGO_GET_MORE = 2005,
    MONGO_KILL_CURSORS = 2007,
    MONGO_COMMAND = 2010,
    MONGO_COMMAND_REPLY = 2011,
};
enum mongo_get { MONGO_PRIMARY_KEY, MONGO_SCATTER_GET, MONGO_MULTI_GET }; /* by the query's _id: a value, none, a document */
struct mongo_message {
    enum mongo_op op;
    int32_t id, response_to;
    uint32_t flags;               /* QUERY, REPLY */
    struct mz_str command;        /* QUERY of a command: its name; "" else */
    struct mz_str collection;     /* QUERY: without the database */
    bool odd;                     /* QUERY: of nothing that has a name; it is the last message */
    enum mongo_get get;
    bool max_time;                /* QUERY: has a time limit */
    uint32_t documents, bytes;    /* REPLY */
    int64_t cursor;               /* REPLY */
};
struct mongo_side {
    unsigned char head[16];
    char *keep; /* NULL: none of the message came yet, or it has no body */
    uint32_t head_n, keep_n, left;
};
struct mongo { /* zeroed */
    struct mongo_side sides[2]; /* [1]: client */
    bool deaf;                  /* not understood: nothing more is looked at */
    void (*message)(void *arg, const struct mongo_message *m);
    void (*broken)(void *arg); /* at most once */
    void *arg;
};
void mongo_feed(struct mongo *m, bool from_client, const char *bytes, size_t n);
void mongo_fini(struct mongo *m);
#endif
