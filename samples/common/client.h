/* GET requests over connections that are kept: what the sample services ask each other, and load. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct call_reply {
    int status;        /* 0: there was none, see `error` */
    const char *error; /* "time is up", "connection refused", ... */
    const char *head, *body;
    size_t head_len, body_len;
    int64_t us; /* from the call until now */
};

typedef void call_fn(void *arg, const struct call_reply *r);

struct call_to {
    const char *host; /* a name or an address */
    int port;
    const char *path;
    const char *authority; /* NULL: host:port */
    const char *fields;    /* further header lines, each with its CRLF; NULL: none */
    int64_t timeout_ms;
};

/**
 * Asks; @done runs once, never from inside this call, and what it is given is valid until it returns. A kept connection that
 * ends before it answered is replaced by a new one, once. Names are looked up at most every 5 s, which waits for the answer.
 */
void call_get(const struct call_to *to, call_fn *done, void *arg);
