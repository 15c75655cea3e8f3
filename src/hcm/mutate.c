#include "hcm/hcm_priv.h"

#include <stdio.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "http/path.h"
#include "http/url.h"
#include "http/validate.h"

/*
 * The manager's own work on headers, in Envoy's order: checks of host and path, path normalization, who is the client
 * (XFF), what a client may not say, request id, via; and what an answer may not carry on.
 */

static const struct mz_str https = MZ_STR_INIT("https"), http = MZ_STR_INIT("http");

static enum mutate_result refuse(struct mz_stream *s, unsigned status, const char *details)
{
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = status, .details = details });
    return MUTATE_ANSWERED;
}

/* ---- host and path ---- */

static void set_location(struct mz_headers *h, void *arg)
{
    struct mz_str *to = arg;
    mz_headers_set_id(h, MZ_H_LOCATION, *to);
}

static enum mutate_result check_path(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_str path = mz_headers_path(h), out;
    if (!path.n || s->is_connect)
        return MUTATE_OK;
    enum mz_path_verdict r = mz_path_clean(s->arena, path, &c->path_rules, &out);
    if (r == MZ_PATH_REJECT || (r == MZ_PATH_REDIRECT && s->is_grpc)) {
        if (out.p)
            mz_headers_set_id(h, MZ_H_PATH, out);
        hcm_count(s->conn, MZ_HS_RQ_FAILED_PATH_NORMALIZATION);
        return refuse(s, 400, "path_normalization_failed");
    }
    if (out.p != path.p || out.n != path.n)
        mz_headers_set_id(h, MZ_H_PATH, out);
    if (r != MZ_PATH_REDIRECT)
        return MUTATE_OK;
    hcm_count(s->conn, MZ_HS_RQ_REDIRECTED_NORMALIZED);
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 307,
                                                       .details = "path_normalization_failed",
                                                       .modify = set_location,
                                                       .modify_arg = &out });
    return MUTATE_ANSWERED;
}

void mutate_host(const struct mz_hcm_config *c, struct mz_headers *h, const struct mz_addr *local,
                 bool is_connect)
{
    struct mz_header *e = mz_headers_get_id(h, MZ_H_AUTHORITY);
    if (!e)
        return;
    struct mz_str host = e->value;
    struct mz_str name = mz_authority_host(host);
    struct mz_str port = mz_str_skip(host, name.n);
    bool strip = c->strip_any_port;
    if (c->strip_matching_port && !is_connect && port.n > 1) {
        uint64_t n;
        strip |= mz_str_u64(mz_str_skip(port, 1), &n) && n == mz_addr_port(local);
    }
    if (strip)
        port = MZ_STR("");
    bool dot = c->strip_trailing_dot && name.n && name.p[name.n - 1] == '.';
    if (dot)
        name.n--;
    if (name.n + port.n != host.n)
        e->value = mz_arena_cat(h->arena, 2, (struct mz_str[]){ name, port });
}

enum mutate_result mutate_check_request(struct mz_stream *s, struct mz_headers *h)
{
    struct mz_str path = mz_headers_path(h);
    s->saw_connection_close = s->conn->codec->protocol < MZ_HTTP2 && s->conn->codec->must_close;
    if (!mz_headers_get_id(h, MZ_H_AUTHORITY))
        return refuse(s, 400, "missing_host_header");
    if (!path.n && !s->is_connect)
        return refuse(s, 404, "missing_path_rejected");
    if (path.n && path.p[0] != '/') {
        hcm_count(s->conn, MZ_HS_RQ_NON_RELATIVE_PATH);
        return refuse(s, 404, "absolute_path_rejected");
    }
    if (check_path(s, h) != MUTATE_OK)
        return MUTATE_ANSWERED;
    mutate_host(s->conn->cfg, h, &s->info.local, s->is_connect);
    return MUTATE_OK;
}

/* ---- who is the client ---- */

static bool in_cidrs(const struct mz_cidr *v, size_t n, const struct mz_addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (mz_cidr_match(&v[i], a))
            return true;
    return false;
}

bool mutate_is_internal(const struct mz_hcm_config *c, const struct mz_addr *a)
{
    return mz_addr_is_ip(a) ? in_cidrs(c->internal_cidrs, c->n_internal_cidrs, a)
                            : c->internal_unix;
}

static struct mz_str addr_ip(struct mz_stream *s, const struct mz_addr *a)
{
    char text[MZ_ADDR_TEXT];
    size_t n = mz_addr_ip_text(a, text);
    return mz_arena_dup(s->arena, (struct mz_str){ text, n });
}

/* The address @skip places from the right of x-forwarded-for; false: none, or not an address (C15). */
static bool xff_address(const struct mz_headers *h, uint32_t skip, struct mz_addr *out,
                        bool *out_single)
{
    struct mz_str all;
    if (!mz_headers_get_id(h, MZ_H_X_FORWARDED_FOR) ||
        !mz_headers_joined(h, MZ_STR("x-forwarded-for"), &all))
        return false;
    *out_single = mz_str_chr(all, ',') < 0;
    for (;; skip--) {
        ptrdiff_t comma = mz_str_rchr(all, ',');
        struct mz_str last = mz_str_trim(comma < 0 ? all : mz_str_skip(all, (size_t)comma + 1));
        if (skip == 0)
            return mz_addr_parse_ip(last, 0, out);
        if (comma < 0)
            return false;
        all.n = (size_t)comma;
    }
}

/* Proxies that are known stand at the right of x-forwarded-for, each put there by the next: the client is the first one from
 * the right that is none of them, or the last that is an address. The peer itself must be one. */
static bool behind_proxies(struct mz_stream *s, const struct mz_headers *h,
                           const struct ip_detection *d, struct mz_addr *out, bool *out_single)
{
    struct mz_str all;
    if (!in_cidrs(d->proxies, d->n_proxies, &s->info.remote) ||
        !mz_headers_joined(h, MZ_STR("x-forwarded-for"), &all))
        return false;
    *out_single = mz_str_chr(all, ',') < 0;
    bool found = false;
    for (ptrdiff_t comma = (ptrdiff_t)all.n; comma >= 0;) {
        all.n = (size_t)comma;
        comma = mz_str_rchr(all, ',');
        struct mz_str last = mz_str_trim(comma < 0 ? all : mz_str_skip(all, (size_t)comma + 1));
        struct mz_addr a;
        if (!mz_addr_parse_ip(last, 0, &a))
            break;
        *out = a;
        found = true;
        if (!in_cidrs(d->proxies, d->n_proxies, &a))
            break;
    }
    return found;
}

/* The peer goes to the end of x-forwarded-for; one on loopback would say nothing to others, so the machine does (Envoy). */
static void append_peer(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_addr *peer = &s->info.remote; /* not yet replaced: the connection's */
    if (!mz_addr_is_ip(peer))
        return;
    const struct mz_addr *own = mz_addr_is_loopback(peer) ? mz_addr_local_machine() : peer;
    mz_headers_append_id(h, MZ_H_X_FORWARDED_FOR, addr_ip(s, own->len ? own : peer), ",");
}

static void forwarded_port(struct mz_stream *s, struct mz_headers *h, bool trusted)
{
    if (!s->conn->cfg->append_forwarded_port ||
        (trusted && mz_headers_get_id(h, MZ_H_X_FORWARDED_PORT)))
        return;
    char text[20];
    size_t n = mz_u64_text(mz_addr_port(&s->info.local), text);
    mz_headers_set_id(h, MZ_H_X_FORWARDED_PORT, mz_arena_dup(s->arena, (struct mz_str){ text, n }));
}

/* use_remote_address: we are the edge; the peer is the client unless trusted hops say otherwise. */
static void client_from_peer(struct mz_stream *s, struct mz_headers *h, struct mz_addr *client,
                             bool *trusted)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    const struct mz_addr *peer = &s->info.remote; /* not yet replaced: the connection's */
    bool single;
    *trusted = mz_headers_get_id(h, MZ_H_X_FORWARDED_FOR) == NULL;
    if (!c->xff_hops || !xff_address(h, c->xff_hops - 1, client, &single))
        *client = *peer;
    if (!c->skip_xff_append)
        append_peer(s, h);
    if (c->xff_hops == 0 || !mz_headers_get_id(h, MZ_H_X_FORWARDED_PROTO))
        mz_headers_set_id(h, MZ_H_X_FORWARDED_PROTO, s->info.secure ? https : http);
    forwarded_port(s, h, c->xff_hops > 0);
}

/* Somebody before us knows the client: XFF or a header of the configuration. False: a header demands a refusal. */
static bool client_from_headers(struct mz_stream *s, struct mz_headers *h, struct mz_addr *client,
                                bool *trusted, unsigned *out_status)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    for (size_t i = 0; i < c->n_detections; i++) {
        const struct ip_detection *d = &c->detections[i];
        bool single = false;
        if (d->kind == DETECT_XFF) {
            if (d->n_proxies ? !behind_proxies(s, h, d, client, &single)
                             : !xff_address(h, d->xff_hops, client, &single))
                continue;
            *trusted = single;
            if (!d->skip_xff_append)
                append_peer(s, h);
            return true;
        }
        struct mz_header *e = mz_headers_get(h, d->header);
        if (e && mz_addr_parse_ip(e->value, 0, client)) {
            *trusted = d->trusted;
            return true;
        }
        if (d->reject) {
            *out_status = d->reject_status;
            return false;
        }
    }
    *client = s->info.remote;
    return true;
}

/* ---- what a client may not say (C14) ---- */

#define EDGE_ONLY(X)                                                                               \
    X(X_ENVOY_DECORATOR_OPERATION)                                                                 \
    X(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER)                                                          \
    X(X_ENVOY_DOWNSTREAM_SERVICE_NODE)                                                             \
    X(X_ENVOY_ORIGINAL_PATH)
#define INTERNAL_ONLY(X)                                                                           \
    X(X_ENVOY_RETRIABLE_STATUS_CODES)                                                              \
    X(X_ENVOY_RETRIABLE_HEADER_NAMES)                                                              \
    X(X_ENVOY_RETRY_ON)                                                                            \
    X(X_ENVOY_RETRY_GRPC_ON)                                                                       \
    X(X_ENVOY_MAX_RETRIES)                                                                         \
    X(X_ENVOY_UPSTREAM_ALT_STAT_NAME)                                                              \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS)                                                              \
    X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS)                                                      \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE)                                                    \
    X(X_ENVOY_UPSTREAM_STREAM_DURATION_MS)                                                         \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)                                                              \
    X(X_ENVOY_FORCE_TRACE)                                                                         \
    X(X_ENVOY_IP_TAGS)                                                                             \
    X(X_ENVOY_ORIGINAL_URL)                                                                        \
    X(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT)

static void sanitize_internal(struct mz_headers *h, bool edge)
{
    static const struct mz_header_set edge_only = MZ_HEADER_SET(EDGE_ONLY),
                                      always = MZ_HEADER_SET(INTERNAL_ONLY);
    if (edge)
        mz_headers_remove_set(h, &edge_only);
    mz_headers_remove_set(h, &always);
}

static void sanitize(struct mz_stream *s, struct mz_headers *h, bool edge)
{
    size_t n = 0;
    const struct mz_str *names = s->routes ? mz_route_table_internal_only(s->routes, &n) : NULL;
    sanitize_internal(h, edge);
    for (size_t i = 0; i < n; i++) /* internal_only_headers */
        mz_headers_remove(h, names[i]);
}

/* ---- request id ---- */

static bool is_uuid(struct mz_str v)
{
    if (v.n != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        char c = mz_lower(v.p[i]);
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

#ifdef __SSE2__
/* Lower-case hexadecimal digits of 16 bytes: each nibble in a byte of its own, those above 9 moved on. */
static __m128i hex_digits(__m128i nibbles)
{
    __m128i above9 = _mm_cmpgt_epi8(nibbles, _mm_set1_epi8(9));
    __m128i letter = _mm_and_si128(above9, _mm_set1_epi8('a' - '0' - 10));
    return _mm_add_epi8(_mm_add_epi8(nibbles, _mm_set1_epi8('0')), letter);
}

static void random_digits(const uint64_t w[2], char out[32])
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)w), low4 = _mm_set1_epi8(15);
    __m128i *to = (__m128i *)(void *)out;
    _mm_storeu_si128(to, hex_digits(_mm_and_si128(v, low4)));
    _mm_storeu_si128(to + 1, hex_digits(_mm_and_si128(_mm_srli_epi16(v, 4), low4)));
}
#else
/* The lower-case hexadecimal digits of 4 bytes, all eight at once: each nibble in a byte of its own, those above 9 moved on. */
static void hex8(uint32_t v, char *out)
{
    uint64_t x = v;
    x = (x | x << 16) & 0x0000ffff0000ffffull;
    x = (x | x << 8) & 0x00ff00ff00ff00ffull;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0full;
    uint64_t above9 = (x + 0x0606060606060606ull) >> 4 & 0x0101010101010101ull;
    x += 0x3030303030303030ull + above9 * ('a' - '0' - 10);
    memcpy(out, &x, 8);
}

static void random_digits(const uint64_t w[2], char out[32])
{
    for (size_t i = 0; i < 4; i++)
        hex8((uint32_t)(w[i / 2] >> (i % 2 * 32)), out + 8 * i);
}
#endif

static struct mz_str new_uuid(struct mz_stream *s)
{
    struct mz_rand *r = mz_loop_rand(conn_loop(s->conn));
    uint64_t w[2] = { mz_rand_u64(r), mz_rand_u64(r) };
    MZ_UNINIT char digits[32];
    char *p = mz_arena_alloc(s->arena, 36);
    random_digits(w, digits);
    digits[12] = '4';                      /* version: random, which also says "not traced" */
    digits[16] = "89ab"[(w[1] >> 62) & 3]; /* variant */
    memset(p, '-', 24);
    memcpy(p, digits, 8);
    memcpy(p + 9, digits + 8, 4);
    memcpy(p + 14, digits + 12, 4);
    memcpy(p + 19, digits + 16, 4);
    memcpy(p + 24, digits + 20, 12);
    return (struct mz_str){ p, 36 };
}

static void request_id(struct mz_stream *s, struct mz_headers *h, bool edge)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_header *e = mz_headers_get_id(h, MZ_H_X_REQUEST_ID);
    if (c->generate_request_id) {
        if (!e || (edge && !c->preserve_external_request_id))
            mz_headers_set_id(h, MZ_H_X_REQUEST_ID, new_uuid(s));
        else if (edge && c->pack_trace_reason && is_uuid(e->value) && e->value.p[14] != '4') {
            char *copy = mz_arena_alloc(s->arena, 36);
            memcpy(copy, e->value.p, 36);
            copy[14] = '4'; /* an outsider does not decide over tracing */
            e->value = (struct mz_str){ copy, 36 };
        }
    }
    s->info.request_id = mz_headers_value_id(h, MZ_H_X_REQUEST_ID);
}

/* ---- the request as a whole ---- */

#define HOP_BY_HOP(X) X(X_ENVOY_INTERNAL) X(KEEP_ALIVE) X(PROXY_CONNECTION) X(TRANSFER_ENCODING)

/* Hop-by-hop fields are ours; te says only "trailers" (RFC 9110 7.6.1, 10.1.4). */
static void drop_hop_by_hop(struct mz_stream *s, struct mz_headers *h)
{
    static const struct mz_header_set always = MZ_HEADER_SET(HOP_BY_HOP);
    if (!s->is_upgrade) {
        mz_headers_remove_id(h, MZ_H_CONNECTION);
        mz_headers_remove_id(h, MZ_H_UPGRADE);
        struct mz_header *te = mz_headers_get_id(h, MZ_H_TE);
        if (te) {
            struct mz_str all = te->value;
            mz_headers_joined(h, MZ_STR("te"), &all);
            bool trailers = mz_list_has(all, MZ_STR("trailers"));
            if (trailers)
                mz_headers_set_id(h, MZ_H_TE, MZ_STR("trailers"));
            else
                mz_headers_remove_id(h, MZ_H_TE);
        }
    }
    mz_headers_remove_set(h, &always);
}

static void set_scheme(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_X_FORWARDED_PROTO);
    bool is_https = s->info.secure;
    if (e)
        is_https = mz_str_ieq(e->value, https) || (is_https && !mz_str_ieq(e->value, http));
    else
        mz_headers_set_id(h, MZ_H_X_FORWARDED_PROTO, is_https ? https : http);
    if (c->scheme_overwrite.n) {
        mz_headers_set_id(h, MZ_H_SCHEME, c->scheme_overwrite);
        mz_headers_set_id(h, MZ_H_X_FORWARDED_PROTO, c->scheme_overwrite);
    }
    if (!mz_headers_get_id(h, MZ_H_SCHEME))
        mz_headers_set_id(h, MZ_H_SCHEME, is_https ? https : http);
}

static void add_user_agent(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    mz_headers_set_id(h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, c->node_cluster);
    if (!mz_headers_get_id(h, MZ_H_USER_AGENT))
        mz_headers_set_id(h, MZ_H_USER_AGENT, c->node_cluster);
    if (c->node_id.n)
        mz_headers_set_id(h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_NODE, c->node_id);
}

enum mutate_result mutate_request(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_format_ctx ctx = { .info = &s->info, .req = h };
    for (size_t i = 0; i < c->n_early; i++)
        mz_header_ops_apply(&c->early[i], h, &ctx);
    drop_hop_by_hop(s, h);
    MZ_UNINIT struct mz_addr client;
    bool trusted = false;
    unsigned status = 403;
    if (c->use_remote_address) {
        client_from_peer(s, h, &client, &trusted);
    } else if (!client_from_headers(s, h, &client, &trusted, &status)) {
        hcm_count(s->conn, MZ_HS_RQ_REJECTED_IP_DETECTION);
        return refuse(s, status, "rejecting_because_detection_failed");
    }
    set_scheme(s, h);
    if (!c->use_remote_address)
        forwarded_port(s, h, true);
    s->internal = trusted && mutate_is_internal(c, &client);
    bool edge = !s->internal && c->use_remote_address;
    s->info.remote = client;
    if (s->internal)
        mz_headers_set_id(h, MZ_H_X_ENVOY_INTERNAL, MZ_STR("true"));
    else
        sanitize(s, h, edge);
    if (c->add_user_agent)
        add_user_agent(s, h);
    if (c->via.n)
        mz_headers_append_id(h, MZ_H_VIA, c->via, ", ");
    if (edge && mz_addr_is_ip(&client))
        mz_headers_set_id(h, MZ_H_X_ENVOY_EXTERNAL_ADDRESS, addr_ip(s, &client));
    request_id(s, h, edge);
    if (c->xfcc != XFCC_SANITIZE || mz_headers_get_id(h, MZ_H_X_FORWARDED_CLIENT_CERT))
        mutate_xfcc(s, h);
    return MUTATE_OK;
}

/* ---- the answer ---- */

void mutate_response(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_loop *l = conn_loop(s->conn);
    if (!mz_headers_get_id(h, MZ_H_DATE))
        mz_headers_add_id(h, MZ_H_DATE,
                          mz_arena_dup(s->arena, (struct mz_str){ mz_loop_http_date(l), 29 }));
    if (c->server_transform == SERVER_OVERWRITE ||
        (c->server_transform == SERVER_APPEND_IF_ABSENT && !mz_headers_get_id(h, MZ_H_SERVER)))
        mz_headers_set_id(h, MZ_H_SERVER, c->server_name);
    unsigned status = mz_headers_status(h);
    if (s->is_upgrade && mz_headers_get_id(h, MZ_H_UPGRADE)) {
        if (status >= 200 && !mz_headers_get_id(h, MZ_H_CONTENT_LENGTH) &&
            !mz_headers_get_id(h, MZ_H_TRANSFER_ENCODING))
            mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, MZ_STR("0"));
    } else {
        mz_headers_remove_id(h, MZ_H_CONNECTION);
        mz_headers_remove_id(h, MZ_H_UPGRADE);
    }
    mz_headers_remove_id(h, MZ_H_TRANSFER_ENCODING);
    mz_headers_remove_id(h, MZ_H_KEEP_ALIVE);
    mz_headers_remove_id(h, MZ_H_PROXY_CONNECTION);
    if (s->info.req &&
        (c->always_set_request_id || mz_headers_get_id(s->info.req, MZ_H_X_ENVOY_FORCE_TRACE)) &&
        mz_headers_get_id(s->info.req, MZ_H_X_REQUEST_ID)) /* a route may have removed it */
        mz_headers_set_id(h, MZ_H_X_REQUEST_ID,
                          mz_headers_value_id(s->info.req, MZ_H_X_REQUEST_ID));
    if (c->via.n)
        mz_headers_append_id(h, MZ_H_VIA, c->via, ", ");
}
