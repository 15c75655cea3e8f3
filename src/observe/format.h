#ifndef MZ_OBSERVE_FORMAT_H
#define MZ_OBSERVE_FORMAT_H
/* Envoy's format language (O2), compiled once to a list of steps: access logs, header formatters, local replies, rewrites. */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct mz_stream_info;
struct mz_headers;
struct mz_arena;
struct mz_transport;
struct mz_tls_facts;
/* What %UPSTREAM_TLS_..% and %UPSTREAM_PEER_..% show of an upstream connection that stands, copied; NULL when no format of the
 * process has such an operator, or there is no TLS. */
const struct mz_tls_facts *mz_format_upstream_tls(struct mz_transport *t, struct mz_arena *a);
/* Sets what is kept of the TLS of @i's upstream connection: the above, and the principals where somebody wants them. */
void mz_format_upstream_facts(struct mz_stream_info *i, struct mz_transport *t);
void mz_format_want_upstream_tls(void);   /* as if a format had such an operator; main thread, for good */
void mz_format_want_principals(void); /* i->up.peer_principal and own_principal; main thread, for good */
struct mz_format; /* immutable, any thread */
struct mz_format *mz_format_create(struct mz_str text, bool omit_empty_values, struct mz_err *err);
void mz_format_destroy(struct mz_format *f);
bool mz_format_is_literal(const struct mz_format *f, struct mz_str *out_text); /* no operator in it */
struct mz_format_ctx {
    const struct mz_stream_info *info;
    const struct mz_headers *req, *resp, *trailers; /* NULL: info's */
    struct mz_str local_reply_body;
    const char *log_type; /* %ACCESS_LOG_TYPE% */
    uint64_t now_us;      /* of requests that have not ended; 0: mz_clock's */
    bool escape;          /* control bytes in values become \xNN: for logs */
};
void mz_format_append(const struct mz_format *f, const struct mz_format_ctx *c, struct mz_buf *out); /* raw values */
/* One line with a newline behind it. JSON format: built from a google.protobuf.Struct whose strings are formats; numbers stay numbers where the operator is. */
struct mz_format_json;
struct Google__Protobuf__Struct;
struct mz_format_json *mz_format_json_create(const struct Google__Protobuf__Struct *s, bool omit_empty_values, bool sort,
                                             struct mz_err *err);
void mz_format_json_destroy(struct mz_format_json *f);
void mz_format_json_append(const struct mz_format_json *f, const struct mz_format_ctx *c, struct mz_buf *out);
#endif
