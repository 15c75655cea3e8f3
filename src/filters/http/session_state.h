#ifndef MZ_FILTERS_HTTP_SESSION_STATE_H
#define MZ_FILTERS_HTTP_SESSION_STATE_H
/* Where a client keeps the host that it is bound to: a cookie or a header (stateful_session). Immutable; any thread. */
#include "base/arena.h"
#include "http/header_map.h"
#include "proto/mapper.h"

struct session_state {
    enum { SESSION_NONE, SESSION_COOKIE, SESSION_HEADER } kind;
    struct mz_str name; /* of the cookie; of the header in lower case */
    struct mz_str path,
        attributes; /* of the cookie: where it counts; "; Path=/; Secure; HttpOnly" */
    uint64_t ttl_s; /* 0: as long as the client lives */
};
/* @msg: CookieBasedSessionState or HeaderBasedSessionState of @type; texts go to @a. */
bool session_state_build(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *msg,
                         struct mz_arena *a, struct session_state *out, struct mz_err *err);
/* Does a request for @path take part? */
bool session_applies(const struct session_state *s, struct mz_str path);
/* "10.0.0.1:80", or what else the client says; "": nothing, or it is too old. In @a. */
struct mz_str session_host(const struct session_state *s, const struct mz_headers *h,
                           uint64_t now_s, struct mz_arena *a);
/* Binds the client of the answer @h to @host. */
void session_bind(const struct session_state *s, struct mz_headers *h, struct mz_str host,
                  uint64_t now_s, struct mz_arena *a);
#endif
