#include "http/header_map.h"

#include "base/log.h"
#include "http/header_hash.h" /* generated */

#define CAP_FIRST 24

static const struct mz_str names[MZ_H__COUNT] = {
#define X(id, text) [MZ_H_##id] = MZ_STR_INIT(text),
    MZ_HEADERS_KNOWN(X)
#undef X
};

static inline unsigned header_slot(const unsigned char *p, uint32_t n) /* n is at least 2 */
{
    uint32_t sum = n * HASH_M0 + p[n - 1] * HASH_M1 + p[n / 2] * HASH_M2 + p[n - 2] * HASH_M3 +
                   p[n * 3 / 4] * HASH_M4;
    return (sum >> 6) % HASH_SIZE;
}

static inline uint64_t word(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t half_word(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Two names of one length, at least 2: words, of which the last overlaps the one before it, cost less than memcmp. */
static inline bool same_text(const char *a, const char *b, size_t n)
{
    if (n < 4)
        return a[0] == b[0] && a[1] == b[1] && a[n - 1] == b[n - 1];
    if (n < 8)
        return half_word(a) == half_word(b) && half_word(a + n - 4) == half_word(b + n - 4);
    for (size_t i = 0; i + 8 < n; i += 8)
        if (word(a + i) != word(b + i))
            return false;
    return word(a + n - 8) == word(b + n - 8);
}

enum mz_header_id mz_header_id(struct mz_str name)
{
    if (name.n < 2 || name.n > 64)
        return MZ_H_NONE;
    enum mz_header_id id = hash_ids[header_slot((const unsigned char *)name.p, (uint32_t)name.n)];
    if (!id)
        return MZ_H_NONE;
    return names[id].n == name.n && same_text(names[id].p, name.p, name.n) ? id : MZ_H_NONE;
}

struct mz_str mz_header_name(enum mz_header_id id)
{
    return names[id];
}

void mz_headers_init(struct mz_headers *h, struct mz_arena *arena)
{
    *h = (struct mz_headers){ .arena = arena };
}

struct mz_headers *mz_headers_create(struct mz_arena *arena)
{
    struct mz_headers *h = mz_arena_alloc(arena, sizeof(*h));
    mz_headers_init(h, arena);
    return h;
}

struct mz_headers *mz_headers_clone(const struct mz_headers *h, struct mz_arena *arena)
{
    struct mz_headers *c = mz_headers_create(arena);
    c->keeps_case = h->keeps_case;
    mz_headers_foreach(e, h)
    {
        struct mz_str name = e->id ? names[e->id] : mz_arena_dup(arena, e->name);
        struct mz_header *to = mz_headers_add_raw(c, name, mz_arena_dup(arena, e->value), e->id);
        size_t raw_n = e->id == MZ_H_AUTHORITY ? 4 : e->name.n; /* was received as "Host" */
        if (e->raw)
            to->raw = mz_arena_dup(arena, (struct mz_str){ e->raw, raw_n }).p;
    }
    return c;
}

static void grow(struct mz_headers *h)
{
    uint32_t cap = h->cap ? h->cap * 2 : CAP_FIRST;
    struct mz_header *v = mz_arena_alloc(h->arena, cap * sizeof(*v));
    if (h->v)
        memcpy(v, h->v, h->n * sizeof(*v));
    h->v = v;
    h->cap = cap;
}

/* There is room for it; first[] does not know it yet. */
static inline struct mz_header *put(struct mz_headers *h, struct mz_str name, struct mz_str value,
                                    uint8_t id)
{
    struct mz_header *e = &h->v[h->n++];
    *e = (struct mz_header){ name, value, NULL, id, false };
    h->live++;
    return e;
}

/* The field just put is the first with this known id. */
static inline void note_first(struct mz_headers *h, uint8_t id)
{
    h->first[id] = h->n < MZ_HEADERS_SCAN ? (uint8_t)h->n : MZ_HEADERS_SCAN;
    h->known[id / 64] |= UINT64_C(1) << (id % 64);
}

static inline struct mz_header *put_noted(struct mz_headers *h, struct mz_str name,
                                          struct mz_str value, uint8_t id)
{
    struct mz_header *e = put(h, name, value, id);
    if (!id)
        return e;
    if (h->first[id])
        h->repeated[id / 64] |= UINT64_C(1) << (id % 64);
    else
        note_first(h, id);
    return e;
}

static __attribute__((noinline)) struct mz_header *
add_grown(struct mz_headers *h, struct mz_str name, struct mz_str value, uint8_t id)
{
    grow(h);
    return put_noted(h, name, value, id);
}

/* The call for more room is the last thing it does, so that nothing is saved on the stack for it. */
static inline struct mz_header *add(struct mz_headers *h, struct mz_str name, struct mz_str value,
                                    uint8_t id)
{
    return MZ_UNLIKELY(h->n == h->cap) ? add_grown(h, name, value, id)
                                       : put_noted(h, name, value, id);
}

struct mz_header *mz_headers_add_raw(struct mz_headers *h, struct mz_str name, struct mz_str value,
                                     uint8_t id)
{
    return add(h, name, value, id);
}

static inline bool same_name(const struct mz_header *e, enum mz_header_id id, struct mz_str name)
{
    return !e->gone && (id ? e->id == id : !e->id && mz_str_eq(e->name, name));
}

/* The first live entry of a name at place @from or behind it. */
static struct mz_header *scan(const struct mz_headers *h, uint32_t from, enum mz_header_id id,
                              struct mz_str name)
{
    for (uint32_t i = from; i < h->n; i++)
        if (same_name(&h->v[i], id, name))
            return &h->v[i];
    return NULL;
}

struct mz_header *mz_headers_scan_id(const struct mz_headers *h, enum mz_header_id id)
{
    return scan(h, MZ_HEADERS_SCAN - 1, id, names[id]);
}

static inline struct mz_header *find(const struct mz_headers *h, enum mz_header_id id,
                                     struct mz_str name)
{
    return id ? mz_headers_get_id(h, id) : scan(h, 0, id, name);
}

struct mz_header *mz_headers_get(const struct mz_headers *h, struct mz_str name)
{
    return find(h, mz_header_id(name), name);
}

struct mz_header *mz_headers_next(const struct mz_headers *h, const struct mz_header *e)
{
    return scan(h, (uint32_t)(e - h->v) + 1, e->id, e->name);
}

/* Removes the live entries of a name from place @from on; first[] is the caller's. */
static unsigned drop_from(struct mz_headers *h, uint32_t from, enum mz_header_id id,
                          struct mz_str name)
{
    unsigned k = 0;
    for (uint32_t i = from; i < h->n; i++) {
        if (same_name(&h->v[i], id, name)) {
            h->v[i].gone = true;
            k++;
        }
    }
    h->live -= k;
    return k;
}

static inline bool is_repeated(const struct mz_headers *h, unsigned id)
{
    return id == MZ_H_NONE || (h->repeated[id / 64] >> (id % 64) & 1);
}

static inline void forget(struct mz_headers *h, unsigned id)
{
    uint64_t others = ~(UINT64_C(1) << (id % 64));
    h->first[id] = 0;
    h->known[id / 64] &= others;
    h->repeated[id / 64] &= others;
}

static unsigned drop(struct mz_headers *h, enum mz_header_id id, struct mz_str name)
{
    struct mz_header *e = find(h, id, name);
    if (!e)
        return 0;
    if (!is_repeated(h, id)) {
        e->gone = true;
        h->live--;
        forget(h, id);
        return 1;
    }
    if (id)
        forget(h, id);
    return drop_from(h, (uint32_t)(e - h->v), id, name);
}

unsigned mz_headers_drop_id(struct mz_headers *h, enum mz_header_id id)
{
    return drop(h, id, names[id]);
}

void mz_headers_drop_set(struct mz_headers *h, const struct mz_header_set *set)
{
    for (unsigned w = 0; w < 2; w++)
        for (uint64_t left = h->known[w] & set->ids[w]; left; left &= left - 1)
            mz_headers_drop_id(h, (enum mz_header_id)(w * 64 + (unsigned)__builtin_ctzll(left)));
}

unsigned mz_headers_remove(struct mz_headers *h, struct mz_str name)
{
    return drop(h, mz_header_id(name), name);
}

unsigned mz_headers_remove_prefix(struct mz_headers *h, struct mz_str prefix)
{
    unsigned k = 0;
    mz_headers_foreach(e, h)
    {
        if (!mz_str_starts(e->name, prefix))
            continue;
        e->gone = true; /* all of one name go, so first[] needs no search */
        forget(h, e->id);
        k++;
    }
    h->live -= k;
    return k;
}

static __attribute__((noinline)) void set(struct mz_headers *h, enum mz_header_id id,
                                          struct mz_str name, struct mz_str value)
{
    struct mz_header *e = find(h, id, name);
    if (!e) {
        add(h, name, value, (uint8_t)id);
        return;
    }
    e->value = value;
    if (is_repeated(h, id))
        drop_from(h, (uint32_t)(e - h->v) + 1, id, name);
}

void mz_headers_set_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value)
{
    if (MZ_UNLIKELY(h->first[id] || !id || h->n == h->cap)) {
        set(h, id, names[id], value);
        return;
    }
    put(h, names[id], value, (uint8_t)id);
    note_first(h, (uint8_t)id);
}

void mz_headers_set(struct mz_headers *h, struct mz_str name, struct mz_str value)
{
    set(h, mz_header_id(name), name, value);
}

void mz_headers_append_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value,
                          const char *sep)
{
    struct mz_header *e = mz_headers_get_id(h, id);
    if (!e) {
        mz_headers_add_id(h, id, value);
    } else if (e->value.n == 0) {
        e->value = value;
    } else {
        struct mz_str parts[3] = { e->value, mz_str_c(sep), value };
        e->value = mz_arena_cat(h->arena, 3, parts);
    }
}

bool mz_headers_joined(const struct mz_headers *h, struct mz_str name, struct mz_str *out_value)
{
    const struct mz_header *e = mz_headers_get(h, name), *next;
    if (!e)
        return false;
    size_t total = e->value.n, n = 1;
    for (next = mz_headers_next(h, e); next; next = mz_headers_next(h, next), n++)
        total += next->value.n + 1;
    if (n == 1) {
        *out_value = e->value;
        return true;
    }
    char *p = mz_arena_alloc(h->arena, total + 1), *at = p;
    for (next = e; next; next = mz_headers_next(h, next)) {
        if (next != e)
            *at++ = ',';
        if (next->value.n)
            memcpy(at, next->value.p, next->value.n);
        at += next->value.n;
    }
    *at = '\0';
    *out_value = (struct mz_str){ p, total };
    return true;
}

/* ---- names that are held once ---- */

/* clang-format off */
#define ONCE_IN_REQUESTS(X) \
    X(ACCEPT) X(ACCEPT_ENCODING) X(ACCESS_CONTROL_REQUEST_HEADERS) \
    X(ACCESS_CONTROL_REQUEST_METHOD) X(ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK) X(AUTHORIZATION) \
    X(CACHE_CONTROL) X(CONTENT_ENCODING) X(CONTENT_TYPE) X(GRPC_ACCEPT_ENCODING) X(GRPC_TIMEOUT) \
    X(IF_MATCH) X(IF_MODIFIED_SINCE) X(IF_NONE_MATCH) X(IF_RANGE) X(IF_UNMODIFIED_SINCE) \
    X(KEEP_ALIVE) X(ORIGIN) X(PRAGMA) X(PROXY_CONNECTION) X(PROXY_STATUS) X(REFERER) \
    X(USER_AGENT) X(VIA) X(X_CLIENT_TRACE_ID) X(X_ENVOY_ATTEMPT_COUNT) \
    X(X_ENVOY_DECORATOR_OPERATION) X(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER) \
    X(X_ENVOY_DOWNSTREAM_SERVICE_NODE) X(X_ENVOY_EXTERNAL_ADDRESS) X(X_ENVOY_FORCE_TRACE) \
    X(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT) X(X_ENVOY_INTERNAL) X(X_ENVOY_IP_TAGS) \
    X(X_ENVOY_IS_TIMEOUT_RETRY) X(X_ENVOY_MAX_RETRIES) X(X_ENVOY_ORIGINAL_HOST) \
    X(X_ENVOY_ORIGINAL_PATH) X(X_ENVOY_ORIGINAL_URL) X(X_ENVOY_RETRIABLE_HEADER_NAMES) \
    X(X_ENVOY_RETRIABLE_STATUS_CODES) X(X_ENVOY_RETRY_GRPC_ON) X(X_ENVOY_RETRY_ON) \
    X(X_ENVOY_UPSTREAM_ALT_STAT_NAME) X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS) \
    X(X_FORWARDED_FOR) X(X_FORWARDED_HOST) X(X_FORWARDED_PORT) X(X_FORWARDED_PROTO) \
    X(X_REQUEST_ID)
#define ONCE_IN_ANSWERS(X) \
    X(ACCESS_CONTROL_ALLOW_CREDENTIALS) X(ACCESS_CONTROL_ALLOW_HEADERS) \
    X(ACCESS_CONTROL_ALLOW_METHODS) X(ACCESS_CONTROL_ALLOW_ORIGIN) \
    X(ACCESS_CONTROL_ALLOW_PRIVATE_NETWORK) X(ACCESS_CONTROL_EXPOSE_HEADERS) \
    X(ACCESS_CONTROL_MAX_AGE) X(AGE) X(CACHE_CONTROL) X(CONTENT_ENCODING) X(CONTENT_TYPE) \
    X(DATE) X(ETAG) X(EXPIRES) X(GRPC_MESSAGE) X(GRPC_STATUS) X(KEEP_ALIVE) X(LAST_MODIFIED) \
    X(LOCATION) X(PROXY_CONNECTION) X(PROXY_STATUS) X(SERVER) X(VARY) X(VIA) \
    X(X_ENVOY_ATTEMPT_COUNT) X(X_ENVOY_DECORATOR_OPERATION) X(X_ENVOY_DEGRADED) \
    X(X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL) X(X_ENVOY_RATELIMITED) X(X_ENVOY_UPSTREAM_CANARY) \
    X(X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER) X(X_REQUEST_ID)
#define ONCE_IN_TRAILERS(X) X(GRPC_MESSAGE) X(GRPC_STATUS)
/* clang-format on */
static const struct mz_header_set once_in_requests = MZ_HEADER_SET(ONCE_IN_REQUESTS);
static const struct mz_header_set once_in_answers = MZ_HEADER_SET(ONCE_IN_ANSWERS);
static const struct mz_header_set once_in_trailers = MZ_HEADER_SET(ONCE_IN_TRAILERS);

static const struct mz_header_set *once(const struct mz_headers *h)
{
    if (h->first[MZ_H_METHOD])
        return &once_in_requests;
    return h->first[MZ_H_STATUS] ? &once_in_answers : &once_in_trailers;
}

static void join(struct mz_headers *h, enum mz_header_id id)
{
    struct mz_header *first = mz_headers_get_id(h, id);
    size_t total = 0;
    for (const struct mz_header *e = first; e; e = mz_headers_next(h, e))
        total += e->value.n + 1;
    char *p = mz_arena_alloc(h->arena, total), *at = p;
    for (const struct mz_header *e = first; e; e = mz_headers_next(h, e)) {
        if (e->value.n == 0)
            continue;
        if (at != p)
            *at++ = ',';
        memcpy(at, e->value.p, e->value.n);
        at += e->value.n;
    }
    set(h, id, names[id], (struct mz_str){ p, (size_t)(at - p) });
    h->repeated[id / 64] &= ~(UINT64_C(1) << (id % 64));
}

void mz_headers_join_known(struct mz_headers *h)
{
    const struct mz_header_set *names_once = once(h);
    for (unsigned w = 0; w < 2; w++)
        for (uint64_t left = h->repeated[w] & names_once->ids[w]; left; left &= left - 1)
            join(h, (enum mz_header_id)(w * 64 + (unsigned)__builtin_ctzll(left)));
}

static void add_joined(struct mz_headers *h, struct mz_str name, struct mz_str value, uint8_t id)
{
    if (!(once(h)->ids[id / 64] >> (id % 64) & 1))
        add(h, name, value, id);
    else if (value.n)
        mz_headers_append_id(h, (enum mz_header_id)id, value, ",");
}

void mz_headers_add_id(struct mz_headers *h, enum mz_header_id id, struct mz_str value)
{
    if (MZ_UNLIKELY(h->first[id]))
        add_joined(h, names[id], value, (uint8_t)id);
    else
        add(h, names[id], value, (uint8_t)id);
}

void mz_headers_add(struct mz_headers *h, struct mz_str name, struct mz_str value)
{
    enum mz_header_id id = mz_header_id(name);
    if (MZ_UNLIKELY(h->first[id]))
        add_joined(h, name, value, (uint8_t)id);
    else
        add(h, name, value, (uint8_t)id);
}

size_t mz_headers_bytes(const struct mz_headers *h)
{
    size_t total = 0;
    mz_headers_foreach(e, h) total += e->name.n + e->value.n;
    return total;
}

unsigned mz_headers_status_text(const struct mz_headers *h)
{
    struct mz_str s = mz_headers_value_id(h, MZ_H_STATUS);
    unsigned v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || i == 3)
            return 0;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    return v;
}

void mz_headers_set_status(struct mz_headers *h, unsigned status)
{
    if (status == 200) {
        mz_headers_set_id(h, MZ_H_STATUS, MZ_STR("200"));
        return;
    }
    char *p = mz_arena_alloc(h->arena, 20);
    mz_headers_set_id(h, MZ_H_STATUS, (struct mz_str){ p, mz_u64_text(status, p) });
}
