/* HTTP/1.1 for sample services. One request at a time on a connection; pipelined ones wait in its buffer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn; /* a client's connection */

/** Valid until it is answered. Head and body are ended by nothing: use the lengths. */
struct request {
    char method[16], path[512], id[64]; /* path without its query; id: x-request-id, or empty */
    const char *query;                  /* what came after '?', or empty */
    const char *head, *body;
    size_t head_len, body_len, total; /* total: bytes of input that it takes */
    bool keep_alive;
};

struct answer {
    int status;
    const char *type;   /* NULL: text/plain */
    const char *fields; /* further header lines, each with its CRLF; NULL: none */
    const char *body;
    size_t len;
    uint64_t fill; /* so many bytes of 'x' after the body */
};

/** Does exactly one of answer(), answer_later(), reset() and hold() before it returns. */
typedef void serve_fn(struct conn *c, const struct request *r);

/** Listens on @host (a numeric address; NULL: all of them, both families) or ends the program. Any number of times. */
void server_listen(const char *host, int port, serve_fn *serve);

bool request_field(const struct request *r, const char *name, char *out, size_t cap);
/** What belongs to the answer's head besides: who serves ("x-served-by"). Kept by reference. */
void server_named(const char *name, const char *version);

void answer(struct conn *c, const struct answer *a);
void answer_text(struct conn *c, int status, const char *text);
void answer_later(struct conn *c, const struct answer *a, int64_t ms);
/** The answer comes by answer() when others have answered; @c stays valid until then, even if its client goes. */
void hold(struct conn *c);
/** Ends the connection by RST instead of an answer. */
void reset(struct conn *c);

/** Answers given so far with a status of @class (2 to 5). */
uint64_t server_answered(unsigned class);
