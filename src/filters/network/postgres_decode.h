#ifndef MZ_FILTERS_NETWORK_POSTGRES_DECODE_H
#define MZ_FILTERS_NETWORK_POSTGRES_DECODE_H
/*
 * PostgreSQL's wire protocol 3.0 as somebody sees it who only listens (L5): both directions come in pieces of any size, what is
 * counted goes out through a function. Memory is that of the struct, whatever comes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* postgres.<stat_prefix>. */
#define PG_STATS(X)                                                                                                        \
    X(ERRORS, "errors") X(ERRORS_ERROR, "errors_error") X(ERRORS_FATAL, "errors_fatal") X(ERRORS_PANIC, "errors_panic")    \
    X(ERRORS_UNKNOWN, "errors_unknown") X(MESSAGES, "messages") X(MESSAGES_BACKEND, "messages_backend")                    \
    X(MESSAGES_FRONTEND, "messages_frontend") X(MESSAGES_UNKNOWN, "messages_unknown") X(NOTICES, "notices")                \
    X(NOTICES_DEBUG, "notices_debug") X(NOTICES_INFO, "notices_info") X(NOTICES_LOG, "notices_log")                        \
    X(NOTICES_NOTICE, "notices_notice") X(NOTICES_UNKNOWN, "notices_unknown") X(NOTICES_WARNING, "notices_warning")        \
    X(SESSIONS, "sessions") X(SESSIONS_ENCRYPTED, "sessions_encrypted")                                                     \
    X(SESSIONS_TERMINATED, "sessions_terminated_ssl") X(SESSIONS_UNENCRYPTED, "sessions_unencrypted")                      \
    X(STATEMENTS, "statements") X(STATEMENTS_DELETE, "statements_delete") X(STATEMENTS_INSERT, "statements_insert")        \
    X(STATEMENTS_OTHER, "statements_other") X(STATEMENTS_SELECT, "statements_select")                                      \
    X(STATEMENTS_UPDATE, "statements_update") X(TRANSACTIONS, "transactions")                                              \
    X(TRANSACTIONS_COMMIT, "transactions_commit") X(TRANSACTIONS_ROLLBACK, "transactions_rollback")
enum pg_stat {
#define X(id, name) PG_##id,
    PG_STATS(X)
#undef X
        PG__COUNT
};

#define PG_KEEP 256 /* bytes of a message that are looked at: its first fields tell all that is counted */
struct pg_side {
    char head[5], keep[PG_KEEP];
    uint16_t head_n, keep_n;
    uint32_t left; /* bytes of the body that are still to come */
};
struct pg { /* zeroed */
    struct pg_side sides[2]; /* [1]: frontend */
    bool started;            /* the startup message was seen: messages have a type from then on */
    bool deaf;               /* encrypted, or not understood any more: nothing is counted */
    bool in_transaction;
    void (*count)(void *arg, enum pg_stat s);
    void *arg;
};
void pg_feed(struct pg *p, bool frontend, const char *bytes, size_t n);
#endif
