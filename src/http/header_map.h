#ifndef MZ_HTTP_HEADER_MAP_H
#define MZ_HTTP_HEADER_MAP_H
/*
 * The one representation of headers and trailers: HTTP/2's, with pseudo-headers, names in lower case. An ordered list in a
 * stream's arena; names and values are views (into the arena, or static texts). Known names are small integers with O(1)
 * look-up; others are found by scanning, bounded by max_headers_count (E11).
 */
#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* X(identifier, "name"). Pseudo-headers first. Sorted otherwise; add freely. */
#define MZ_HEADERS_KNOWN(X)                                                                                            \
    X(METHOD, ":method") X(SCHEME, ":scheme") X(AUTHORITY, ":authority") X(PATH, ":path") X(PROTOCOL, ":protocol") X(STATUS, ":status")\
    X(ACCEPT, "accept") X(ACCEPT_ENCODING, "accept-encoding")                                                          \
    X(ACCESS_CONTROL_ALLOW_CREDENTIALS, "access-control-allow-credentials")                                            \
    X(ACCESS_CONTROL_ALLOW_HEADERS, "access-control-allow-headers")                                                    \
    X(ACCESS_CONTROL_ALLOW_METHODS, "access-control-allow-methods")                                                    \
    X(ACCESS_CONTROL_ALLOW_ORIGIN, "access-control-allow-origin")                                                      \
    X(ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK, "access-control-allow-private-network")                                    \
    X(ACCESS_CONTROL_EXPOSE_HEADERS, "access-control-expose-headers")                                                  \
    X(ACCESS_CONTROL_MAX_AGE, "access-control-max-age")                                                                \
    X(ACCESS_CONTROL_REQUEST_HEADERS, "access-control-request-headers")                                                \
    X(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method")                                                  \
    X(ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK, "access-control-request-private-network") X(AGE, "age")                  \
    X(ALT_SVC, "alt-svc") X(AUTHORIZATION, "authorization") X(CACHE_CONTROL, "cache-control")                          \
    X(CONNECTION, "connection") X(CONTENT_ENCODING, "content-encoding") X(CONTENT_LENGTH, "content-length")            \
    X(CONTENT_TYPE, "content-type") X(COOKIE, "cookie") X(DATE, "date") X(ETAG, "etag") X(EXPECT, "expect")            \
    X(EXPIRES, "expires") X(FORWARDED, "forwarded") X(GRPC_ACCEPT_ENCODING, "grpc-accept-encoding")                    \
    X(GRPC_MESSAGE, "grpc-message") X(GRPC_STATUS, "grpc-status") X(GRPC_TIMEOUT, "grpc-timeout") X(HOST, "host")      \
    X(HTTP2_SETTINGS, "http2-settings") X(IF_MATCH, "if-match") X(IF_MODIFIED_SINCE, "if-modified-since")              \
    X(IF_NONE_MATCH, "if-none-match") X(IF_RANGE, "if-range") X(IF_UNMODIFIED_SINCE, "if-unmodified-since")            \
    X(KEEP_ALIVE, "keep-alive") X(LAST_MODIFIED, "last-modified") X(LOCATION, "location") X(ORIGIN, "origin")          \
    X(PRAGMA, "pragma") X(PROXY_CONNECTION, "proxy-connection") X(PROXY_STATUS, "proxy-status") X(REFERER, "referer")  \
    X(SERVER, "server") X(SET_COOKIE, "set-cookie") X(TE, "te") X(TRAILER, "trailer")                                  \
    X(TRANSFER_ENCODING, "transfer-encoding") X(UPGRADE, "upgrade") X(USER_AGENT, "user-agent") X(VARY, "vary")        \
    X(VIA, "via") X(X_CLIENT_TRACE_ID, "x-client-trace-id") X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")          \
    X(X_ENVOY_CLUSTER, "x-envoy-cluster") X(X_ENVOY_DECORATOR_OPERATION, "x-envoy-decorator-operation")                \
    X(X_ENVOY_DEGRADED, "x-envoy-degraded")                                                                            \
    X(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, "x-envoy-downstream-service-cluster")                                        \
    X(X_ENVOY_DOWNSTREAM_SERVICE_NODE, "x-envoy-downstream-service-node")                                              \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms")                                                \
    X(X_ENVOY_EXTERNAL_ADDRESS, "x-envoy-external-address") X(X_ENVOY_FORCE_TRACE, "x-envoy-force-trace")              \
    X(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT, "x-envoy-hedge-on-per-try-timeout")                                            \
    X(X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, "x-envoy-immediate-health-check-fail")                                      \
    X(X_ENVOY_INTERNAL, "x-envoy-internal") X(X_ENVOY_IP_TAGS, "x-envoy-ip-tags")                                      \
    X(X_ENVOY_IS_TIMEOUT_RETRY, "x-envoy-is-timeout-retry") X(X_ENVOY_MAX_RETRIES, "x-envoy-max-retries")              \
    X(X_ENVOY_ORIGINAL_HOST, "x-envoy-original-host") X(X_ENVOY_ORIGINAL_METHOD, "x-envoy-original-method")            \
    X(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path") X(X_ENVOY_ORIGINAL_URL, "x-envoy-original-url")                  \
    X(X_ENVOY_OVERLOADED, "x-envoy-overloaded") X(X_ENVOY_RATELIMITED, "x-envoy-ratelimited")                          \
    X(X_ENVOY_RETRIABLE_HEADER_NAMES, "x-envoy-retriable-header-names")                                                \
    X(X_ENVOY_RETRIABLE_STATUS_CODES, "x-envoy-retriable-status-codes")                                                \
    X(X_ENVOY_RETRY_GRPC_ON, "x-envoy-retry-grpc-on") X(X_ENVOY_RETRY_ON, "x-envoy-retry-on")                          \
    X(X_ENVOY_UPSTREAM_ALT_STAT_NAME, "x-envoy-upstream-alt-stat-name")                                                \
    X(X_ENVOY_UPSTREAM_CANARY, "x-envoy-upstream-canary")                                                              \
    X(X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER, "x-envoy-upstream-healthchecked-cluster")                                \
    X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, "x-envoy-upstream-rq-per-try-timeout-ms")                                \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE, "x-envoy-upstream-rq-timeout-alt-response")                            \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms")                                                \
    X(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time")                                                  \
    X(X_ENVOY_UPSTREAM_STREAM_DURATION_MS, "x-envoy-upstream-stream-duration-ms")                                      \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert") X(X_FORWARDED_FOR, "x-forwarded-for")                        \
    X(X_FORWARDED_HOST, "x-forwarded-host") X(X_FORWARDED_PORT, "x-forwarded-port")                                    \
    X(X_FORWARDED_PROTO, "x-forwarded-proto") X(X_REQUEST_ID, "x-request-id")
enum mz_header_id {
    MZ_H_NONE, /* a name that is not in the table */
#define X(id, text) MZ_H_##id,
    MZ_HEADERS_KNOWN(X)
#undef X
    MZ_H__COUNT
};
enum mz_header_id mz_header_id(struct mz_str lower_name); /* perfect hash; MZ_H_NONE when unknown */
struct mz_str mz_header_name(enum mz_header_id id);       /* static text */

struct mz_header {
    struct mz_str name;     /* lower case */
    struct mz_str value;
    const char *raw;        /* the name as received (same length), for preserve_case; NULL: as name */
    uint8_t id;             /* enum mz_header_id */
    bool gone;              /* removed: skip */
};
struct mz_headers {
    struct mz_arena *arena; /* borrowed: the stream's */
    struct mz_header *v;
    uint32_t n, cap;        /* n counts removed places too */
    uint32_t live;          /* n without removed ones */
    uint64_t known[2];      /* bit per id: first[] is not 0 */
    uint64_t repeated[2];   /* bit per id: there may be more live ones behind the first */
    bool keeps_case;        /* a codec that keeps the case of names read it: another case is not put on names that came later */
    struct mz_str reason;   /* HTTP/1 answers with forward_reason_phrase: the phrase as received; else empty */
    uint8_t first[MZ_H__COUNT]; /* index + 1 of the first live header with this id; 0: none; 255: scan for it */
};
void mz_headers_init(struct mz_headers *h, struct mz_arena *arena);
struct mz_headers *mz_headers_create(struct mz_arena *arena);
struct mz_headers *mz_headers_clone(const struct mz_headers *h, struct mz_arena *arena); /* values copied */

/* Values and names given are borrowed: they must live as long as the arena (mz_arena_dup what does not). Names must be lower
 * case and valid; see http/validate.h for foreign ones. A name that is held once (below) and is there gets the value after a ",". */
void mz_headers_add_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value);    /* appends another */
void mz_headers_add(struct mz_headers *h, struct mz_str name, struct mz_str value);         /* appends; finds the id */
/* Always another: codecs, which join when all have come. */
struct mz_header *mz_headers_add_raw(struct mz_headers *h, struct mz_str name, struct mz_str value, uint8_t id);
void mz_headers_set_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value);    /* replaces all of the name */
void mz_headers_set(struct mz_headers *h, struct mz_str name, struct mz_str value);
void mz_headers_append_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value, const char *sep); /* "a" -> "a,b" */
static inline unsigned mz_headers_remove_id(struct mz_headers *h, enum mz_header_id id); /* how many were removed */
unsigned mz_headers_remove(struct mz_headers *h, struct mz_str name);
unsigned mz_headers_remove_prefix(struct mz_headers *h, struct mz_str prefix);

static inline struct mz_header *mz_headers_get_id(const struct mz_headers *h, enum mz_header_id id); /* the first, or NULL */
struct mz_header *mz_headers_get(const struct mz_headers *h, struct mz_str name);
struct mz_header *mz_headers_next(const struct mz_headers *h, const struct mz_header *e); /* same name, or NULL */
/* Value of the first, empty string when absent. */
static inline struct mz_str mz_headers_value_id(const struct mz_headers *h, enum mz_header_id id);
/* All values of a name joined with "," when there are several (arena), as matchers see them; false when absent. */
bool mz_headers_joined(const struct mz_headers *h, struct mz_str name, struct mz_str *out_value);
/* Envoy holds some names once (its inline headers; others in requests, answers and trailers, told by :method and :status): of
 * these, fields that came several times become one in the first one's place, what is not empty of their values parted by ",". */
static inline void mz_headers_join_repeated(struct mz_headers *h);
size_t mz_headers_bytes(const struct mz_headers *h); /* names and values summed, as %REQUEST_HEADERS_BYTES% */
#define mz_headers_foreach(it, h)                                                                                      \
    for (struct mz_header *it = (h)->v, *it##_end = it ? it + (h)->n : it; it != it##_end; it++)           \
        if (!it->gone)

/* A request asks for some fifty known names, most of them absent: what first[] answers is answered in place. */
#define MZ_HEADERS_SCAN 255
struct mz_header *mz_headers_scan_id(const struct mz_headers *h, enum mz_header_id id); /* behind what first[] can tell */
unsigned mz_headers_drop_id(struct mz_headers *h, enum mz_header_id id);                /* one is there */
static inline struct mz_header *mz_headers_get_id(const struct mz_headers *h, enum mz_header_id id)
{
    unsigned at = h->first[id]; /* of MZ_H_NONE it stays 0 */
    return at == 0 ? NULL : at < MZ_HEADERS_SCAN ? &h->v[at - 1] : mz_headers_scan_id(h, id);
}
static inline struct mz_str mz_headers_value_id(const struct mz_headers *h, enum mz_header_id id)
{
    const struct mz_header *e = mz_headers_get_id(h, id);
    return e ? e->value : (struct mz_str){ NULL, 0 };
}
static inline unsigned mz_headers_remove_id(struct mz_headers *h, enum mz_header_id id)
{
    return h->first[id] ? mz_headers_drop_id(h, id) : 0;
}

void mz_headers_join_known(struct mz_headers *h);
static inline void mz_headers_join_repeated(struct mz_headers *h)
{
    if (h->repeated[0] | h->repeated[1])
        mz_headers_join_known(h);
}

/* Several known names at once. MZ_HEADER_SET(LIST) initializes a set, where LIST(X) is X(ACCEPT) X(DATE)... */
struct mz_header_set {
    uint64_t ids[2];
};
_Static_assert(MZ_H__COUNT <= 128, "a set has a bit for each id");
#define MZ_HEADER_IN_0(id) | (MZ_H_##id < 64 ? UINT64_C(1) << (MZ_H_##id % 64) : 0)
#define MZ_HEADER_IN_1(id) | (MZ_H_##id >= 64 ? UINT64_C(1) << (MZ_H_##id % 64) : 0)
#define MZ_HEADER_SET(LIST) { { 0 LIST(MZ_HEADER_IN_0), 0 LIST(MZ_HEADER_IN_1) } }
void mz_headers_drop_set(struct mz_headers *h, const struct mz_header_set *set);
static inline bool mz_headers_has_any(const struct mz_headers *h, const struct mz_header_set *set)
{
    return (h->known[0] & set->ids[0]) | (h->known[1] & set->ids[1]);
}
static inline void mz_headers_remove_set(struct mz_headers *h, const struct mz_header_set *set)
{
    if (mz_headers_has_any(h, set))
        mz_headers_drop_set(h, set);
}

/* Short forms for the ones in every path. */
static inline struct mz_str mz_headers_method(const struct mz_headers *h)
{
    return mz_headers_value_id(h, MZ_H_METHOD);
}
static inline struct mz_str mz_headers_path(const struct mz_headers *h)
{
    return mz_headers_value_id(h, MZ_H_PATH);
}
unsigned mz_headers_status_text(const struct mz_headers *h); /* any but the most frequent */
static inline unsigned mz_headers_status(const struct mz_headers *h) /* 0 when absent or not a number */
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_STATUS);
    if (MZ_LIKELY(e && e->value.n == 3 && memcmp(e->value.p, "200", 3) == 0))
        return 200;
    return e ? mz_headers_status_text(h) : 0;
}
void mz_headers_set_status(struct mz_headers *h, unsigned status);
#endif
