#ifndef MZ_FILTERS_NETWORK_MYSQL_DECODE_H
#define MZ_FILTERS_NETWORK_MYSQL_DECODE_H
/*
 * MySQL's client/server protocol as somebody sees it who only listens (L5): logins, and packets out of their order. Both
 * directions come in pieces of any size. Memory is that of the struct, whatever comes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* mysql.<stat_prefix>. */
#define MYSQL_STATS(X)                                                                                                     \
    X(AUTH_SWITCH, "auth_switch_request") X(LOGIN_ATTEMPTS, "login_attempts") X(LOGIN_FAILURES, "login_failures")          \
    X(PROTOCOL_ERRORS, "protocol_errors") X(UPGRADED, "upgraded_to_ssl")
enum mysql_stat {
#define X(id, name) MYSQL_##id,
    MYSQL_STATS(X)
#undef X
        MYSQL__COUNT
};

struct mysql_side {
    unsigned char head[4], keep[4]; /* length and number; the first bytes of the body */
    uint8_t head_n, keep_n;
    uint32_t left; /* bytes of the body that are still to come */
};
struct mysql { /* zeroed */
    struct mysql_side sides[2]; /* [1]: client */
    uint8_t state, expected;    /* the number of the next packet, of whoever's */
    bool deaf;                  /* encrypted */
    void (*count)(void *arg, enum mysql_stat s);
    void *arg;
};
void mysql_feed(struct mysql *m, bool from_client, const char *bytes, size_t n);
#endif
