#include "base/arena.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/rand.h"
#include "net/transport.h"
#include "observe/format_priv.h"
#include "observe/json_text.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Operators that read the stream info: numbers, times, addresses, names, metadata, filter state. */

static const void *member(const struct step *s, const struct mz_format_ctx *c)
{
    return (const char *)c->info + s->op->offset;
}

/* ---- numbers and texts that lie in the info ---- */

static void value_u64(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    value_number(out, *(const uint64_t *)member(s, c));
}

static void value_u32(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    value_number(out, *(const uint32_t *)member(s, c));
}

static void value_member_str(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    value_str_or_none(out, *(const struct mz_str *)member(s, c));
}

/* Logs are split at blanks. */
static void value_member_word(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    struct mz_str rest = *(const struct mz_str *)member(s, c), part;
    if (!rest.n)
        return;
    struct mz_buf *b = value_spill(out);
    while (mz_str_split(&rest, ' ', &part)) {
        mz_buf_append_str(b, part);
        if (rest.n)
            mz_buf_append(b, "_", 1);
    }
    value_take_spill(out);
}

static void value_member_text(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    const char *const *text = member(s, c);
    value_str_or_none(out, mz_str_c(*text));
}

/* Some answers have details that are empty, which is not the same as none (Envoy). */
static void value_details(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const char *const *text = member(s, c);
    if (*text)
        value_str(out, mz_str_c(*text));
}

static void value_zero(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s, (void)c;
    value_number(out, 0);
}

static void value_empty(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s, (void)c;
    value_str(out, (struct mz_str){ "", 0 });
}

static void value_constant(const struct step *s, const struct mz_format_ctx *c,
                           struct value *out) /* made by compile */
{
    (void)c;
    value_str(out, s->text);
}

const struct protocol_name protocol_names[] = { [MZ_HTTP10] = { "HTTP/1.0", 8 },
                                                [MZ_HTTP11] = { "HTTP/1.1", 8 },
                                                [MZ_HTTP2] = { "HTTP/2", 6 },
                                                [MZ_HTTP3] = { "HTTP/3", 6 } };

static void protocol_value(bool has, enum mz_http_protocol p, struct value *out)
{
    if (has)
        value_own_str(out, (struct mz_str){ protocol_names[p].text, protocol_names[p].n });
}

static void value_protocol(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    protocol_value(c->info->has_protocol, c->info->protocol, out);
}

static void value_up_protocol(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    (void)s;
    protocol_value(c->info->up.has_protocol, c->info->up.protocol, out);
}

static void value_flags(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    char text[MZ_FLAGS_TEXT];
    if (MZ_LIKELY(c->info->flags == 0)) {
        value_own_str(out, MZ_STR("-"));
        return;
    }
    size_t n = mz_flags_text(c->info->flags, c->info->flag_order, false,
                             text); /* all flags together: 120 bytes */
    memcpy(out->scratch, text, n);
    value_str(out, (struct mz_str){ out->scratch, n });
}

static void value_flags_long(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    char text[MZ_FLAGS_TEXT];
    mz_buf_append(value_spill(out), text,
                  mz_flags_text(c->info->flags, c->info->flag_order, true, text));
    value_take_spill(out);
}

static void value_log_type(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_str(out, c->log_type ? mz_str_c(c->log_type) : MZ_STR("NotSet"));
}

static void value_reply_body(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_str(out, c->local_reply_body);
}

static void value_close_type(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const char *const *text = member(s, c);
    if (s->op->offset == offsetof(struct mz_stream_info, close_type) || c->info->up.conn_id)
        value_str(out, mz_str_c(*text ? *text : "Normal"));
}

static void value_unique_id(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s, (void)c;
    static _Thread_local struct mz_rand rand;
    static _Thread_local bool seeded;
    if (!seeded) {
        mz_rand_init(&rand, 0);
        seeded = true;
    }
    mz_info_uuid(mz_rand_u64(&rand), mz_rand_u64(&rand), out->scratch);
    value_str(out, (struct mz_str){ out->scratch, MZ_UUID_TEXT });
}

static void value_stream_id(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    struct mz_str id = mz_info_stream_id(c->info, out->scratch);
    if (id.n)
        value_str(out, id);
}

static bool compile_hostname(struct step *s, struct mz_str param, struct mz_arena *a,
                             struct mz_err *err)
{
    (void)param, (void)err;
    char name[HOST_NAME_MAX + 1] = "";
    s->text =
        gethostname(name, sizeof(name) - 1) == 0 ? mz_arena_dup(a, mz_str_c(name)) : MZ_STR("-");
    return true;
}

static bool compile_environment(struct step *s, struct mz_str param, struct mz_arena *a,
                                struct mz_err *err)
{
    (void)err;
    const char *value = secure_getenv(mz_arena_dup(a, param).p);
    s->text = value ? mz_arena_dup(a, mz_str_c(value)) : MZ_STR("-"); /* Envoy: "-" also in JSON */
    return true;
}

/* ---- times ---- */

static uint64_t now_us(const struct mz_format_ctx *c)
{
    return c->now_us ? c->now_us : mz_clock->mono_us();
}

static void value_start_time(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    time_value(s->time, c->info->start_wall_us, out);
}

static void value_emit_time(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)c;
    time_value(s->time, mz_clock->wall_us(), out);
}

static void value_span_ms(struct value *out, uint64_t from_us, uint64_t to_us)
{
    if (from_us && to_us >= from_us)
        value_number(out, (to_us - from_us) / 1000);
}

static void value_duration(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_span_ms(out, c->info->start_us, c->info->end_us ? c->info->end_us : now_us(c));
}

static void value_since_start(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    uint64_t to = *(const uint64_t *)member(s, c);
    if (to)
        value_span_ms(out, c->info->start_us, to);
}

static void value_response_tx(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    (void)s;
    if (c->info->tx_last_us)
        value_span_ms(out, c->info->up.first_rx_us, c->info->tx_last_us);
}

static void value_pool_ready(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    if (c->info->up.pool_ready_us)
        value_span_ms(out, c->info->up.begin_us, c->info->up.pool_ready_us);
}

#define AT(name, field)                                                                            \
    {                                                                                              \
        MZ_STR_INIT(name), offsetof(struct mz_stream_info, field)                                  \
    }
static const struct time_point {
    struct mz_str name;
    size_t offset;
} time_points[] = {
    AT("DS_CX_BEG", cx_start_us),
    AT("DS_CX_END", cx_end_us),
    AT("DS_RX_BEG", start_us),
    AT("DS_RX_HDR_END", rx_head_us),
    AT("DS_RX_END", rx_end_us),
    AT("DS_TX_BEG", tx_first_us),
    AT("DS_TX_END", tx_last_us),
    AT("DS_HS_END", tls_done_us),
    AT("US_CX_BEG", up.connect_start_us),
    AT("US_CX_END", up.connect_us),
    AT("US_HS_END", up.handshake_us),
    AT("US_TX_BEG", up.first_tx_us),
    AT("US_TX_END", up.last_tx_us),
    AT("US_RX_BEG", up.first_rx_us),
    AT("US_RX_BODY_BEG", up.first_body_us),
    AT("US_RX_END", up.last_rx_us),
};
#undef AT
enum { POINT_UNKNOWN = 255 };
enum { UNIT_MS, UNIT_US, UNIT_NS };

static uint8_t time_point_find(struct mz_str name)
{
    for (size_t i = 0; i < MZ_COUNT(time_points); i++)
        if (mz_str_eq(time_points[i].name, name))
            return (uint8_t)i;
    return POINT_UNKNOWN; /* a point that some filter might note: Envoy accepts any name, and shows "-" */
}

static bool compile_common_duration(struct step *s, struct mz_str param, struct mz_arena *a,
                                    struct mz_err *err)
{
    (void)a;
    struct mz_str from = { 0 }, to = { 0 }, unit = MZ_STR("ms");
    mz_str_split(&param, ':', &from);
    mz_str_split(&param, ':', &to);
    if (param.n)
        unit = param;
    s->id = time_point_find(from);
    s->id2 = time_point_find(to);
    static const struct mz_str units[] = { MZ_STR_INIT("ms"), MZ_STR_INIT("us"),
                                           MZ_STR_INIT("ns") };
    for (uint32_t i = 0; i < MZ_COUNT(units); i++)
        if (mz_str_eq(units[i], unit)) {
            s->path_n = i;
            return to.n > 0 ||
                   mz_err_set(err, "COMMON_DURATION needs two time points: DS_RX_BEG:DS_TX_END");
        }
    return mz_err_set(err, "COMMON_DURATION: expected ms, us or ns, got \"" MZ_STR_FMT "\"",
                      MZ_STR_ARG(unit));
}

static void value_common_duration(const struct step *s, const struct mz_format_ctx *c,
                                  struct value *out)
{
    if (s->id == POINT_UNKNOWN || s->id2 == POINT_UNKNOWN)
        return;
    const char *base = (const char *)c->info;
    uint64_t from = *(const uint64_t *)(const void *)(base + time_points[s->id].offset);
    uint64_t to = *(const uint64_t *)(const void *)(base + time_points[s->id2].offset);
    if (from == 0 || to < from)
        return;
    uint64_t us = to - from;
    value_number(out, s->path_n == UNIT_MS ? us / 1000 : s->path_n == UNIT_US ? us : us * 1000);
}

/* ---- addresses ---- */

static const struct mz_addr *member_addr(const struct step *s, const struct mz_format_ctx *c)
{
    const struct mz_addr *a = member(s, c);
    return a->len || a != &c->info->direct_local ? a : &c->info->local;
}

static void value_addr(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_addr *a = member_addr(s, c);
    if (!a->len)
        return;
    value_str(out, (struct mz_str){ out->scratch, mz_addr_text(a, out->scratch) });
    out->clean = mz_addr_is_ip(a);
}

static void value_port(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_addr *a = member_addr(s, c);
    if (a->len && mz_addr_is_ip(a))
        value_number(out, mz_addr_port(a));
}

/* %..._WITHOUT_PORT(24)% is the network that holds the address: 10.1.2.0/24. */
static size_t masked_text(const struct mz_addr *a, unsigned bits, char *out)
{
    struct mz_addr net = *a;
    bool v4 = a->sa.sa_family == AF_INET;
    uint8_t *bytes = v4 ? (uint8_t *)&net.in4.sin_addr : (uint8_t *)&net.in6.sin6_addr;
    unsigned width = v4 ? 32 : 128;
    bits = bits < width ? bits : width;
    for (unsigned i = 0; i < width / 8; i++)
        bytes[i] &= (uint8_t)(bits >= i * 8 + 8 ? 0xff
                              : bits <= i * 8   ? 0
                                                : 0xff00u >> (bits - i * 8));
    size_t n = mz_addr_ip_text(&net, out);
    out[n++] = '/';
    return n + mz_u64_text(bits, out + n);
}

static bool compile_mask(struct step *s, struct mz_str param, struct mz_arena *a,
                         struct mz_err *err)
{
    (void)a, (void)err;
    uint64_t bits;
    s->id = mz_str_u64(param, &bits) && bits <= 128 ? (uint8_t)bits
                                                    : 255; /* Envoy ignores what is no length */
    return true;
}

static void value_ip(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_addr *a = member_addr(s, c);
    if (!a->len)
        return;
    bool mask = s->id != 255 && mz_addr_is_ip(a);
    size_t n = mask ? masked_text(a, s->id, out->scratch) : mz_addr_ip_text(a, out->scratch);
    value_str(out, (struct mz_str){ out->scratch, n });
}

/* ---- upstream hosts ---- */

static struct mz_str
without_port(struct mz_str host) /* "a:1" and "[::1]:1"; a bare IPv6 address stays */
{
    ptrdiff_t colon = mz_str_rchr(host, ':');
    if (colon < 0 || (mz_str_chr(host, ':') != colon && (colon == 0 || host.p[colon - 1] != ']')))
        return host;
    struct mz_str name = { host.p, (size_t)colon };
    if (name.n > 1 && name.p[0] == '[')
        name = (struct mz_str){ name.p + 1, name.n - 2 };
    return name;
}

static void value_host_name_bare(const struct step *s, const struct mz_format_ctx *c,
                                 struct value *out)
{
    (void)s;
    value_str_or_none(out, without_port(c->info->up.host_name));
}

enum attempted {
    ATTEMPTED_ADDR,
    ATTEMPTED_IP,
    ATTEMPTED_NAME,
    ATTEMPTED_NAME_BARE,
    ATTEMPTED_CONN
};

static void attempt_text(const struct mz_attempt *t, enum attempted what, struct mz_buf *out)
{
    char text[MZ_ADDR_TEXT];
    switch (what) {
    case ATTEMPTED_ADDR:
        mz_buf_append(out, text, mz_addr_text(&t->host, text));
        return;
    case ATTEMPTED_IP:
        mz_buf_append(out, text, mz_addr_ip_text(&t->host, text));
        return;
    case ATTEMPTED_NAME:
        mz_buf_append_str(out, t->host_name);
        return;
    case ATTEMPTED_NAME_BARE:
        mz_buf_append_str(out, without_port(t->host_name));
        return;
    case ATTEMPTED_CONN:
        mz_buf_append(out, text, mz_u64_text(t->conn_id, text));
        return;
    }
}

static void value_attempted(const struct mz_format_ctx *c, enum attempted what, struct value *out)
{
    const struct mz_stream_info *i = c->info;
    struct mz_attempt last = { i->up.host, i->up.host_name, i->up.conn_id };
    const struct mz_attempt *v = i->up.hosts ? i->up.hosts : &last;
    size_t n = i->up.hosts ? i->up.hosts_n : i->up.host.len != 0;
    struct mz_buf *b = value_spill(out);
    for (size_t k = 0; k < n; k++) {
        if (what == ATTEMPTED_CONN && v[k].conn_id == 0)
            continue;
        if (mz_buf_len(b))
            mz_buf_append(b, ",", 1);
        attempt_text(&v[k], what, b);
    }
    if (mz_buf_len(b))
        value_take_spill(out);
}

static void value_hosts(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_attempted(c, ATTEMPTED_ADDR, out);
}

static void value_hosts_ip(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_attempted(c, ATTEMPTED_IP, out);
}

static void value_host_names(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_attempted(c, ATTEMPTED_NAME, out);
}

static void value_host_names_bare(const struct step *s, const struct mz_format_ctx *c,
                                  struct value *out)
{
    (void)s;
    value_attempted(c, ATTEMPTED_NAME_BARE, out);
}

static void value_conn_ids(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    value_attempted(c, ATTEMPTED_CONN, out);
}

/* ---- metadata: namespace in text, keys in path ---- */

static void path_compile(struct step *s, struct mz_str param, struct mz_arena *a)
{
    struct mz_str rest = mz_arena_dup(a, param);
    s->path = mz_arena_alloc(a, (param.n + 1) * sizeof(*s->path));
    struct mz_str part = { "", 0 };
    (void)mz_str_split(&rest, ':', &part);
    s->text = part;
    while (mz_str_split(&rest, ':', &part))
        s->path[s->path_n++] = part;
}

static bool compile_path(struct step *s, struct mz_str param, struct mz_arena *a,
                         struct mz_err *err)
{
    (void)err;
    path_compile(s, param, a);
    return true;
}

static void value_tree(const struct step *s, const struct mz_meta *m, struct value *out)
{
    const struct mz_value *v = mz_meta_get(m, s->text, s->path, s->path_n);
    if (v && v->kind != MZ_VALUE_NULL) {
        out->kind = VALUE_TREE;
        out->tree = v;
    }
}

static void value_meta(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_meta *const *m = member(s, c);
    value_tree(s, *m, out);
}

#define KIND(name, field)                                                                          \
    {                                                                                              \
        MZ_STR_INIT(name), offsetof(struct mz_stream_info, field)                                  \
    }
static const struct {
    struct mz_str name;
    size_t offset;
} metadata_kinds[] = {
    KIND("DYNAMIC", dynamic_metadata),    KIND("CLUSTER", up.cluster_metadata),
    KIND("ROUTE", route_metadata),        KIND("UPSTREAM_HOST", up.metadata),
    KIND("LISTENER", listener_metadata),  KIND("LISTENER_FILTER_CHAIN", chain_metadata),
    KIND("VIRTUAL_HOST", vhost_metadata),
};
#undef KIND

static bool compile_metadata(struct step *s, struct mz_str param, struct mz_arena *a,
                             struct mz_err *err)
{
    struct mz_str kind = { "", 0 };
    (void)mz_str_split(&param, ':', &kind);
    for (size_t i = 0; i < MZ_COUNT(metadata_kinds); i++)
        if (mz_str_eq(metadata_kinds[i].name, kind)) {
            s->id = (uint8_t)i;
            path_compile(s, param, a);
            return true;
        }
    return mz_err_set(err, "METADATA: \"" MZ_STR_FMT "\" is not a supported type of metadata",
                      MZ_STR_ARG(kind));
}

static void value_metadata(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const char *base = (const char *)c->info;
    value_tree(s,
               *(const struct mz_meta *const *)(const void *)(base + metadata_kinds[s->id].offset),
               out);
}

/* ---- filter state: key in text, field in path[0] ---- */

enum { STATE_TYPED, STATE_PLAIN, STATE_FIELD };

static bool compile_state(struct step *s, struct mz_str param, struct mz_arena *a,
                          struct mz_err *err)
{
    path_compile(s, param, a);
    if (s->text.n == 0)
        return mz_err_set(err, "filter state operator needs a key");
    struct mz_str how = s->path_n ? s->path[0] : MZ_STR("TYPED");
    bool field = mz_str_eq(how, MZ_STR("FIELD"));
    if (!field && !mz_str_eq(how, MZ_STR("TYPED")) && !mz_str_eq(how, MZ_STR("PLAIN")))
        return mz_err_set(
            err, "filter state operator: expected PLAIN, TYPED or FIELD, got \"" MZ_STR_FMT "\"",
            MZ_STR_ARG(how));
    if (field && s->path_n < 2)
        return mz_err_set(err, "filter state operator: FIELD needs the field's name");
    s->id = field ? STATE_FIELD : mz_str_eq(how, MZ_STR("PLAIN")) ? STATE_PLAIN : STATE_TYPED;
    return true;
}

static void value_state(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    struct mz_map *const *map = member(s, c);
    const struct mz_filter_object *o = *map ? mz_map_get(*map, s->text) : NULL;
    if (!o)
        return;
    struct mz_str text;
    if (s->id == STATE_FIELD) {
        if (o->field && o->field(o, s->path[1], &text))
            value_str(out, text);
    } else if (s->id == STATE_TYPED && o->tree) {
        out->kind = VALUE_TREE;
        out->tree = o->tree(o, c->info->arena);
    } else if (o->text) {
        value_str(out, o->text(o, c->info->arena));
        out->kind = s->id == STATE_TYPED ? VALUE_QUOTED : VALUE_STR;
    }
}

/* ---- the table ---- */

#define O(field) offsetof(struct mz_stream_info, field)
#define BARE(name, fn, field)                                                                      \
    {                                                                                              \
        MZ_STR_INIT(name), fn, NULL, O(field), PARAMS_NO, false, WAY_CALL                          \
    }
#define READ(name, fn, field, way)                                                                 \
    {                                                                                              \
        MZ_STR_INIT(name), fn, NULL, O(field), PARAMS_NO, false, way                               \
    }
#define U64(name, field)   READ(name, value_u64, field, WAY_U64)
#define STR(name, field)   READ(name, value_member_str, field, WAY_STR)
#define ADDR(name, field)  READ(name, value_addr, field, WAY_ADDR)
#define SINCE(name, field) READ(name, value_since_start, field, WAY_SINCE_START)
#define FREE(name, fn)                                                                             \
    {                                                                                              \
        MZ_STR_INIT(name), fn, NULL, 0, PARAMS_NO, false, WAY_CALL                                 \
    }
#define TLS(name, fn, field)                                                                       \
    {                                                                                              \
        MZ_STR_INIT(name), fn, NULL, offsetof(struct mz_tls_facts, field), PARAMS_NO, false,       \
            WAY_CALL                                                                               \
    }
#define UP_TLS(name, fn, field)                                                                    \
    {                                                                                              \
        MZ_STR_INIT(name), fn, compile_up_tls, offsetof(struct mz_tls_facts, field), PARAMS_NO,    \
            false, WAY_CALL                                                                        \
    }
#define ABSENT(name)                                                                               \
    {                                                                                              \
        MZ_STR_INIT(name), NULL, NULL, 0, PARAMS_NO, false, WAY_CALL                               \
    }
#define WITH(name, fn, c, field)                                                                   \
    {                                                                                              \
        MZ_STR_INIT(name), fn, c, O(field), PARAMS_MAY, false, WAY_CALL                            \
    }
#define NEEDS(name, fn, c, field)                                                                  \
    {                                                                                              \
        MZ_STR_INIT(name), fn, c, O(field), PARAMS_MUST, true, WAY_CALL                            \
    }
/* clang-format off: a table, one operator a line */
const struct operator_row operators_info[] = {
    FREE("ACCESS_LOG_TYPE", value_log_type),
    U64("BYTES_RECEIVED", rx_body),
    FREE("BYTES_RETRANSMITTED", value_zero),
    U64("BYTES_SENT", tx_body),
    NEEDS("CLUSTER_METADATA", value_meta, compile_path, up.cluster_metadata),
    NEEDS("COMMON_DURATION", value_common_duration, compile_common_duration, start_us),
    U64("CONNECTION_ID", conn_id),
    BARE("CONNECTION_TERMINATION_DETAILS", value_member_text, conn_termination),
    FREE("CUSTOM_FLAGS", value_empty),
    FREE("DOWNSTREAM_CX_RTT", value_zero), /* QUIC alone measures it */
    U64("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", header_in),
    U64("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", header_out),
    BARE("DOWNSTREAM_DETECTED_CLOSE_TYPE", value_close_type, close_type),
    ADDR("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", direct_local),
    FREE("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", value_empty),
    WITH("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, direct_local),
    BARE("DOWNSTREAM_DIRECT_LOCAL_PORT", value_port, direct_local),
    ADDR("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", direct_remote),
    WITH("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, direct_remote),
    BARE("DOWNSTREAM_DIRECT_REMOTE_PORT", value_port, direct_remote),
    SINCE("DOWNSTREAM_HANDSHAKE_DURATION", tls_done_us),
    U64("DOWNSTREAM_HEADER_BYTES_RECEIVED", header_in),
    U64("DOWNSTREAM_HEADER_BYTES_SENT", header_out),
    ADDR("DOWNSTREAM_LOCAL_ADDRESS", local),
    FREE("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", value_empty),
    WITH("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, local),
    BARE("DOWNSTREAM_LOCAL_CLOSE_REASON", value_member_text, local_close_reason),
    TLS("DOWNSTREAM_LOCAL_DNS_SAN", value_tls_names, own.dns_sans),
    TLS("DOWNSTREAM_LOCAL_EMAIL_SAN", value_tls_names, own.email_sans),
    TLS("DOWNSTREAM_LOCAL_IP_SAN", value_tls_names, own.ip_sans),
    ABSENT("DOWNSTREAM_LOCAL_OTHERNAME_SAN"),
    BARE("DOWNSTREAM_LOCAL_PORT", value_port, local),
    TLS("DOWNSTREAM_LOCAL_SUBJECT", value_tls_text, own.subject),
    TLS("DOWNSTREAM_LOCAL_URI_SAN", value_tls_names, own.uri_sans),
    TLS("DOWNSTREAM_PEER_CERT", value_tls_text, peer.pem),
    { MZ_STR_INIT("DOWNSTREAM_PEER_CERT_V_END"), value_tls_time, time_compile_utc,
      offsetof(struct mz_tls_facts, peer.valid_until_s), PARAMS_MAY, false, WAY_CALL },
    { MZ_STR_INIT("DOWNSTREAM_PEER_CERT_V_START"), value_tls_time, time_compile_utc,
      offsetof(struct mz_tls_facts, peer.valid_from_s), PARAMS_MAY, false, WAY_CALL },
    TLS("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", value_tls_names, chain_sha1),
    TLS("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", value_tls_names, chain_sha256),
    TLS("DOWNSTREAM_PEER_CHAIN_SERIALS", value_tls_names, chain_serials),
    TLS("DOWNSTREAM_PEER_DNS_SAN", value_tls_names, peer.dns_sans),
    TLS("DOWNSTREAM_PEER_EMAIL_SAN", value_tls_names, peer.email_sans),
    TLS("DOWNSTREAM_PEER_FINGERPRINT_1", value_tls_text, peer.sha1),
    TLS("DOWNSTREAM_PEER_FINGERPRINT_256", value_tls_text, peer.sha256),
    TLS("DOWNSTREAM_PEER_IP_SAN", value_tls_names, peer.ip_sans),
    TLS("DOWNSTREAM_PEER_ISSUER", value_tls_text, peer.issuer),
    ABSENT("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256"),
    ABSENT("DOWNSTREAM_PEER_ISSUER_SERIAL"),
    ABSENT("DOWNSTREAM_PEER_OTHERNAME_SAN"),
    TLS("DOWNSTREAM_PEER_SERIAL", value_tls_text, peer.serial),
    TLS("DOWNSTREAM_PEER_SUBJECT", value_tls_text, peer.subject),
    TLS("DOWNSTREAM_PEER_URI_SAN", value_tls_names, peer.uri_sans),
    ADDR("DOWNSTREAM_REMOTE_ADDRESS", remote),
    WITH("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, remote),
    BARE("DOWNSTREAM_REMOTE_PORT", value_port, remote),
    TLS("DOWNSTREAM_TLS_CIPHER", value_tls_text, cipher),
    TLS("DOWNSTREAM_TLS_GROUP", value_tls_text, group),
    TLS("DOWNSTREAM_TLS_SESSION_ID", value_tls_text, session_id),
    TLS("DOWNSTREAM_TLS_VERSION", value_tls_text, version),
    FREE("DOWNSTREAM_TRANSPORT_FAILURE_REASON", value_tls_failure),
    U64("DOWNSTREAM_WIRE_BYTES_RECEIVED", wire_in),
    U64("DOWNSTREAM_WIRE_BYTES_SENT", wire_out),
    READ("DURATION", value_duration, start_us, WAY_DURATION),
    NEEDS("DYNAMIC_METADATA", value_meta, compile_path, dynamic_metadata),
    WITH("EMIT_TIME", value_emit_time, time_compile_utc, start_us),
    WITH("EMIT_TIME_LOCAL", value_emit_time, time_compile_local, start_us),
    NEEDS("ENVIRONMENT", value_constant, compile_environment, start_us),
    STR("FILTER_CHAIN_NAME", filter_chain_name),
    { MZ_STR_INIT("FILTER_STATE"), value_state, compile_state, O(filter_state), PARAMS_MAY, true,
      WAY_CALL },
    { MZ_STR_INIT("HOSTNAME"), value_constant, compile_hostname, 0, PARAMS_NO, false, WAY_CALL },
    FREE("LOCAL_REPLY_BODY", value_reply_body),
    { MZ_STR_INIT("METADATA"), value_metadata, compile_metadata, 0, PARAMS_MAY, true, WAY_CALL },
    FREE("PACKETS_RETRANSMITTED", value_zero),
    READ("PROTOCOL", value_protocol, protocol, WAY_PROTOCOL),
    SINCE("REQUEST_DURATION", rx_end_us),
    SINCE("REQUEST_TX_DURATION", up.last_tx_us),
    READ("RESPONSE_CODE", value_u32, status, WAY_U32),
    { MZ_STR_INIT("RESPONSE_CODE_DETAILS"), value_details, NULL, O(details), PARAMS_MAY, false,
      WAY_TEXT },
    SINCE("RESPONSE_DURATION", up.first_rx_us),
    READ("RESPONSE_FLAGS", value_flags, flags, WAY_FLAGS),
    FREE("RESPONSE_FLAGS_LONG", value_flags_long),
    FREE("RESPONSE_TX_DURATION", value_response_tx),
    ABSENT("ROUNDTRIP_DURATION"),
    STR("ROUTE_NAME", route.route_name),
    BARE("SPAN_ID", value_member_text, span_id),
    { MZ_STR_INIT("START_TIME"), value_start_time, time_compile_utc, 0, PARAMS_MAY, false,
      WAY_START_TIME },
    WITH("START_TIME_LOCAL", value_start_time, time_compile_local, start_us),
    FREE("STREAM_ID", value_stream_id),
    STR("TLS_JA3_FINGERPRINT", ja3),
    STR("TLS_JA4_FINGERPRINT", ja4),
    BARE("TRACE_ID", value_member_text, trace_id),
    FREE("UNIQUE_ID", value_unique_id),
    STR("UPSTREAM_CLUSTER", route.cluster_name),
    STR("UPSTREAM_CLUSTER_RAW", route.cluster_raw),
    U64("UPSTREAM_CONNECTION_ID", up.conn_id),
    FREE("UPSTREAM_CONNECTION_IDS_ATTEMPTED", value_conn_ids),
    FREE("UPSTREAM_CONNECTION_POOL_READY_DURATION", value_pool_ready),
    U64("UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", up.header_in),
    U64("UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", up.header_out),
    BARE("UPSTREAM_DETECTED_CLOSE_TYPE", value_close_type, up.close_type),
    { MZ_STR_INIT("UPSTREAM_FILTER_STATE"), value_state, compile_state, O(up.filter_state),
      PARAMS_MAY, true, WAY_CALL },
    U64("UPSTREAM_HEADER_BYTES_RECEIVED", up.header_in),
    U64("UPSTREAM_HEADER_BYTES_SENT", up.header_out),
    ADDR("UPSTREAM_HOST", up.host),
    FREE("UPSTREAM_HOSTS_ATTEMPTED", value_hosts),
    FREE("UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", value_hosts_ip),
    STR("UPSTREAM_HOST_NAME", up.host_name),
    FREE("UPSTREAM_HOST_NAMES_ATTEMPTED", value_host_names),
    FREE("UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", value_host_names_bare),
    FREE("UPSTREAM_HOST_NAME_WITHOUT_PORT", value_host_name_bare),
    ADDR("UPSTREAM_LOCAL_ADDRESS", up.local),
    WITH("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, up.local),
    BARE("UPSTREAM_LOCAL_CLOSE_REASON", value_member_text, up.local_close_reason),
    UP_TLS("UPSTREAM_LOCAL_DNS_SAN", value_up_tls_names, own.dns_sans),
    UP_TLS("UPSTREAM_LOCAL_IP_SAN", value_up_tls_names, own.ip_sans),
    BARE("UPSTREAM_LOCAL_PORT", value_port, up.local),
    UP_TLS("UPSTREAM_LOCAL_URI_SAN", value_up_tls_names, own.uri_sans),
    NEEDS("UPSTREAM_METADATA", value_meta, compile_path, up.metadata),
    UP_TLS("UPSTREAM_PEER_CERT", value_up_tls_text, peer.pem),
    { MZ_STR_INIT("UPSTREAM_PEER_CERT_V_END"), value_up_tls_time, compile_up_tls_time,
      offsetof(struct mz_tls_facts, peer.valid_until_s), PARAMS_MAY, false, WAY_CALL },
    { MZ_STR_INIT("UPSTREAM_PEER_CERT_V_START"), value_up_tls_time, compile_up_tls_time,
      offsetof(struct mz_tls_facts, peer.valid_from_s), PARAMS_MAY, false, WAY_CALL },
    UP_TLS("UPSTREAM_PEER_DNS_SAN", value_up_tls_names, peer.dns_sans),
    UP_TLS("UPSTREAM_PEER_IP_SAN", value_up_tls_names, peer.ip_sans),
    UP_TLS("UPSTREAM_PEER_ISSUER", value_up_tls_text, peer.issuer),
    UP_TLS("UPSTREAM_PEER_SUBJECT", value_up_tls_text, peer.subject),
    UP_TLS("UPSTREAM_PEER_URI_SAN", value_up_tls_names, peer.uri_sans),
    FREE("UPSTREAM_PROTOCOL", value_up_protocol),
    ADDR("UPSTREAM_REMOTE_ADDRESS", up.remote),
    FREE("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", value_empty),
    WITH("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", value_ip, compile_mask, up.remote),
    BARE("UPSTREAM_REMOTE_PORT", value_port, up.remote),
    READ("UPSTREAM_REQUEST_ATTEMPT_COUNT", value_u32, attempts, WAY_U32),
    UP_TLS("UPSTREAM_SERVER_NAME", value_up_tls_text, sni),
    UP_TLS("UPSTREAM_TLS_CIPHER", value_up_tls_text, cipher),
    UP_TLS("UPSTREAM_TLS_GROUP", value_up_tls_text, group),
    UP_TLS("UPSTREAM_TLS_SESSION_ID", value_up_tls_text, session_id),
    UP_TLS("UPSTREAM_TLS_VERSION", value_up_tls_text, version),
    BARE("UPSTREAM_TRANSPORT_FAILURE_REASON", value_member_word, up.transport_failure),
    U64("UPSTREAM_WIRE_BYTES_RECEIVED", up.wire_in),
    U64("UPSTREAM_WIRE_BYTES_SENT", up.wire_out),
    STR("VIRTUAL_CLUSTER_NAME", route.vcluster_name),
};
/* clang-format on */
const size_t operators_info_n = MZ_COUNT(operators_info);
