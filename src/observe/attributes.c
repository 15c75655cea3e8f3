#include "base/map.h"
#include "net/transport.h"
#include "observe/attributes_priv.h"
#include "observe/format_priv.h"
#include "proto/names.h"

/* Each group is a map whose keys are the rows of a table. */

static bool give_header(struct mz_cel_value *out, const struct mz_headers *h, enum mz_header_id id)
{
    const struct mz_header *e = h ? mz_headers_get_id(h, id) : NULL;
    return e && give_str(out, e->value);
}

static size_t headers_bytes(const struct mz_headers *h)
{
    return h ? mz_headers_bytes(h) : 0;
}

/* ---- headers ---- */

#define NAME_MAX_BYTES 256

static bool headers_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                        struct mz_cel_value *out)
{
    (void)a;
    const struct mz_headers *h = obj;
    char lower[NAME_MAX_BYTES];
    if (!h || key->kind != MZ_CEL_STRING || key->s.n > sizeof(lower))
        return false;
    for (size_t i = 0; i < key->s.n; i++)
        lower[i] = mz_lower(key->s.p[i]);
    struct mz_str name = { lower, key->s.n }, value;
    if (mz_str_eq(name, MZ_STR("host")))
        name = MZ_STR(":authority");
    if (!mz_headers_joined(h, name, &value))
        return false;
    *out = mz_cel_string(value);
    return true;
}

static size_t headers_size(const void *obj)
{
    return obj ? ((const struct mz_headers *)obj)->live : 0;
}

static void headers_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)a;
    const struct mz_headers *h = obj;
    mz_headers_foreach(e, h) if (i-- == 0)
    {
        *out = mz_cel_string(e->name);
        return;
    }
}

static const struct mz_cel_map headers_map = { .get = headers_get,
                                               .size = headers_size,
                                               .key = headers_key };

static bool give_headers(struct mz_cel_value *out, const struct mz_headers *h)
{
    *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &headers_map, h } };
    return true;
}

/* ---- filter state ---- */

static bool object_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                       struct mz_cel_value *out)
{
    (void)a;
    const struct mz_filter_object *o = obj;
    struct mz_str value;
    if (key->kind != MZ_CEL_STRING || !o->field(o, key->s, &value))
        return false;
    *out = mz_cel_string(value);
    return true;
}

static const struct mz_cel_map object_map = { .get = object_get,
                                              .size = attributes_none_size,
                                              .key = attributes_none_key };

static bool states_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                       struct mz_cel_value *out)
{
    const struct mz_filter_object *o =
        obj && key->kind == MZ_CEL_STRING ? mz_map_get(obj, key->s) : NULL;
    if (!o)
        return false;
    if (o->is_map) {
        attributes_value(o->tree(o, a), a, out);
    } else if (o->field) {
        *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &object_map, o } };
    } else if (o->text) {
        *out = mz_cel_string(o->text(o, a));
        out->kind = MZ_CEL_BYTES;
    } else {
        return false;
    }
    return true;
}

static const struct mz_cel_map states_map = { .get = states_get,
                                              .size = attributes_none_size,
                                              .key = attributes_none_key };

/* ---- request ---- */

#define HEADER(name, id)                                                                           \
    FIELD(name)                                                                                    \
    {                                                                                              \
        (void)a;                                                                                   \
        return give_header(out, ctx_req(c), id);                                                   \
    }
HEADER(request_path, MZ_H_PATH)
HEADER(request_host, MZ_H_AUTHORITY)
HEADER(request_scheme, MZ_H_SCHEME)
HEADER(request_method, MZ_H_METHOD)
HEADER(request_referer, MZ_H_REFERER)
HEADER(request_id, MZ_H_X_REQUEST_ID)
HEADER(request_useragent, MZ_H_USER_AGENT)

FIELD(request_url_path)
{
    (void)a;
    if (!give_header(out, ctx_req(c), MZ_H_PATH))
        return false;
    ptrdiff_t query = mz_str_chr(out->s, '?');
    out->s.n = query < 0 ? out->s.n : (size_t)query;
    return true;
}

FIELD(request_query)
{
    (void)a;
    if (!give_header(out, ctx_req(c), MZ_H_PATH))
        return false;
    ptrdiff_t query = mz_str_chr(out->s, '?');
    out->s = query < 0 ? MZ_STR("") : mz_str_skip(out->s, (size_t)query + 1);
    ptrdiff_t fragment = mz_str_chr(out->s, '#');
    out->s.n = fragment < 0 ? out->s.n : (size_t)fragment;
    return true;
}

FIELD(request_headers)
{
    (void)a;
    return give_headers(out, ctx_req(c));
}

FIELD(request_headers_bytes)
{
    (void)a;
    return give_int(out, headers_bytes(ctx_req(c)));
}

FIELD(request_time)
{
    (void)a;
    *out = mz_cel_timestamp_us(c->info->start_wall_us);
    return true;
}

FIELD(request_duration)
{
    (void)a;
    return give_span(out, c->info->start_us, c->info->end_us);
}

FIELD(request_size)
{
    (void)a;
    int64_t n;
    struct mz_cel_value length;
    if (!give_header(&length, ctx_req(c), MZ_H_CONTENT_LENGTH))
        return give_int(out, c->info->rx_body);
    return mz_str_i64(length.s, &n) && give_int(out, (uint64_t)n);
}

FIELD(request_total_size)
{
    (void)a;
    return give_int(out, c->info->rx_body + headers_bytes(ctx_req(c)));
}

FIELD(request_protocol)
{
    (void)a;
    static const struct mz_str names[] = { [MZ_HTTP10] = MZ_STR_INIT("HTTP/1.0"),
                                           [MZ_HTTP11] = MZ_STR_INIT("HTTP/1.1"),
                                           [MZ_HTTP2] = MZ_STR_INIT("HTTP/2"),
                                           [MZ_HTTP3] = MZ_STR_INIT("HTTP/3") };
    return c->info->has_protocol && give_str(out, names[c->info->protocol]);
}

static const struct field request_fields[] = {
    { MZ_STR_INIT("path"), request_path },
    { MZ_STR_INIT("url_path"), request_url_path },
    { MZ_STR_INIT("host"), request_host },
    { MZ_STR_INIT("scheme"), request_scheme },
    { MZ_STR_INIT("method"), request_method },
    { MZ_STR_INIT("headers"), request_headers },
    { MZ_STR_INIT("headers_bytes"), request_headers_bytes },
    { MZ_STR_INIT("referer"), request_referer },
    { MZ_STR_INIT("useragent"), request_useragent },
    { MZ_STR_INIT("time"), request_time },
    { MZ_STR_INIT("id"), request_id },
    { MZ_STR_INIT("protocol"), request_protocol },
    { MZ_STR_INIT("query"), request_query },
    { MZ_STR_INIT("duration"), request_duration },
    { MZ_STR_INIT("size"), request_size },
    { MZ_STR_INIT("total_size"), request_total_size },
};

/* ---- response ---- */

FIELD(response_code)
{
    (void)a;
    return c->info->status && give_int(out, c->info->status);
}

FIELD(response_code_details)
{
    (void)a;
    return give_text(out, c->info->details);
}

FIELD(response_flags)
{
    (void)a;
    return give_int(out, c->info->flags);
}

FIELD(response_grpc_status)
{
    (void)a;
    uint64_t status;
    return grpc_status_of(ctx_resp(c), ctx_trailers(c), c->info->status, &status) &&
           give_int(out, status);
}

FIELD(response_headers)
{
    (void)a;
    return give_headers(out, ctx_resp(c));
}

FIELD(response_headers_bytes)
{
    (void)a;
    return give_int(out, headers_bytes(ctx_resp(c)));
}

FIELD(response_trailers)
{
    (void)a;
    return give_headers(out, ctx_trailers(c));
}

FIELD(response_size)
{
    (void)a;
    return give_int(out, c->info->tx_body);
}

FIELD(response_total_size)
{
    (void)a;
    return give_int(out,
                    c->info->tx_body + headers_bytes(ctx_resp(c)) + headers_bytes(ctx_trailers(c)));
}

FIELD(response_backend_latency)
{
    (void)a;
    return give_span(out, c->info->up.first_tx_us, c->info->up.last_rx_us);
}

static const struct field response_fields[] = {
    { MZ_STR_INIT("code"), response_code },
    { MZ_STR_INIT("code_details"), response_code_details },
    { MZ_STR_INIT("flags"), response_flags },
    { MZ_STR_INIT("grpc_status"), response_grpc_status },
    { MZ_STR_INIT("headers"), response_headers },
    { MZ_STR_INIT("headers_bytes"), response_headers_bytes },
    { MZ_STR_INIT("trailers"), response_trailers },
    { MZ_STR_INIT("size"), response_size },
    { MZ_STR_INIT("total_size"), response_total_size },
    { MZ_STR_INIT("backend_latency"), response_backend_latency },
};

/* ---- connection, source, destination ---- */

static const struct mz_tls_facts *tls_of(const struct mz_format_ctx *c)
{
    struct mz_transport *t = c->info->transport;
    return t && t->ops->tls ? t->ops->tls(t) : NULL;
}

FIELD(connection_mtls)
{
    (void)a;
    const struct mz_tls_facts *f = tls_of(c);
    *out = mz_cel_bool(f && f->peer_presented);
    return true;
}

/* Of the handshake. */
#define TLS(name)                                                                                  \
    FIELD(connection_##name)                                                                       \
    {                                                                                              \
        (void)a;                                                                                   \
        const struct mz_tls_facts *f = tls_of(c);                                                  \
        return f && attributes_tls_##name(f, out);                                                 \
    }
ATTRIBUTES_TLS(TLS)

FIELD(connection_failure)
{
    (void)a;
    struct mz_transport *t = c->info->transport;
    struct mz_str failure = t && t->ops->failure ? t->ops->failure(t) : (struct mz_str){ NULL, 0 };
    return failure.n && give_str(out, failure);
}

FIELD(connection_sni)
{
    (void)a;
    return give_str(out, c->info->sni.n ? c->info->sni : MZ_STR(""));
}

FIELD(connection_id)
{
    (void)a;
    *out = mz_cel_uint(c->info->conn_id);
    return true;
}

FIELD(connection_termination)
{
    (void)a;
    return give_text(out, c->info->conn_termination);
}

static const struct field connection_fields[] = {
    { MZ_STR_INIT("mtls"), connection_mtls },
    { MZ_STR_INIT("requested_server_name"), connection_sni },
    { MZ_STR_INIT("id"), connection_id },
    { MZ_STR_INIT("termination_details"), connection_termination },
    { MZ_STR_INIT("transport_failure_reason"), connection_failure },
#define X(name) { MZ_STR_INIT(#name), connection_##name },
    ATTRIBUTES_TLS(X)
#undef X
};

FIELD(source_address)
{
    return give_addr(out, &c->info->remote, a);
}

FIELD(source_port)
{
    (void)a;
    return give_port(out, &c->info->remote);
}

static const struct field source_fields[] = {
    { MZ_STR_INIT("address"), source_address },
    { MZ_STR_INIT("port"), source_port },
};

FIELD(destination_address)
{
    return give_addr(out, &c->info->local, a);
}

FIELD(destination_port)
{
    (void)a;
    return give_port(out, &c->info->local);
}

static const struct field destination_fields[] = {
    { MZ_STR_INIT("address"), destination_address },
    { MZ_STR_INIT("port"), destination_port },
};

/* ---- the groups ---- */

enum group {
    REQUEST,
    RESPONSE,
    CONNECTION,
    UPSTREAM,
    SOURCE,
    DESTINATION,
    XDS,
    GROUPS,
    METADATA = GROUPS,
    FILTER_STATE,
    UPSTREAM_FILTER_STATE,
    NAMES
};
static const struct mz_str names[NAMES] = {
    [REQUEST] = MZ_STR_INIT("request"),
    [RESPONSE] = MZ_STR_INIT("response"),
    [CONNECTION] = MZ_STR_INIT("connection"),
    [UPSTREAM] = MZ_STR_INIT("upstream"),
    [SOURCE] = MZ_STR_INIT("source"),
    [DESTINATION] = MZ_STR_INIT("destination"),
    [XDS] = MZ_STR_INIT("xds"),
    [METADATA] = MZ_STR_INIT("metadata"),
    [FILTER_STATE] = MZ_STR_INIT("filter_state"),
    [UPSTREAM_FILTER_STATE] = MZ_STR_INIT("upstream_filter_state"),
};

#define GROUP(of)                                                                                  \
    {                                                                                              \
        of##_fields, MZ_COUNT(of##_fields)                                                         \
    }
static const struct field_table groups[GROUPS] = {
    [REQUEST] = GROUP(request),
    [RESPONSE] = GROUP(response),
    [CONNECTION] = GROUP(connection),
    [UPSTREAM] = { attributes_upstream, ATTRIBUTES_UPSTREAM },
    [SOURCE] = GROUP(source),
    [DESTINATION] = GROUP(destination),
    [XDS] = { attributes_xds, ATTRIBUTES_XDS },
};

struct group_ref { /* the object of a group's map */
    const struct mz_attributes *all;
    unsigned i;
};

static bool group_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                      struct mz_cel_value *out)
{
    const struct group_ref *ref = obj;
    for (size_t i = 0; key->kind == MZ_CEL_STRING && i < groups[ref->i].n; i++)
        if (mz_str_eq(groups[ref->i].v[i].name, key->s))
            return groups[ref->i].v[i].value(ref->all->ctx, a, out);
    return false;
}

static const struct mz_cel_map group_map = { .get = group_get,
                                             .size = attributes_none_size,
                                             .key = attributes_none_key };

static bool attribute_get(const struct mz_cel_vars *vars, unsigned i, struct mz_arena *a,
                          struct mz_cel_value *out)
{
    const struct mz_attributes *all = (const struct mz_attributes *)(const void *)vars;
    const struct mz_stream_info *info = all->ctx->info;
    *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP };
    if (i < GROUPS) {
        struct group_ref *ref = mz_arena_alloc(a, sizeof(*ref));
        *ref = (struct group_ref){ all, i };
        out->map.ops = &group_map;
        out->map.obj = ref;
        return true;
    }
    if (i == METADATA)
        return give_meta(out, info->dynamic_metadata);
    out->map.ops = &states_map;
    out->map.obj = i == FILTER_STATE ? info->filter_state : info->up.filter_state;
    return i == FILTER_STATE || info->up.filter_state ||
           info->up.local.len; /* a connection has one */
}

void mz_attributes_init(struct mz_attributes *a, const struct mz_format_ctx *ctx)
{
    *a = (struct mz_attributes){ { attribute_get }, ctx };
}

/* The TLS of upstream connections is kept for those who may ask for it. */
static struct mz_cel *compiled(struct mz_cel *p)
{
    if (p && mz_cel_uses(p, UPSTREAM))
        mz_format_want_upstream_tls();
    return p;
}

static struct mz_cel_env env_of(const pb_CelExpressionConfig *c)
{
    return (struct mz_cel_env){ .names = names,
                                .n = NAMES,
                                .string_conversion = c && c->enable_string_conversion,
                                .string_concat = c && c->enable_string_concat };
}

struct mz_cel *mz_attributes_compile(struct mz_str text, const pb_CelExpressionConfig *c,
                                     struct mz_err *err)
{
    const struct mz_cel_env env = env_of(c);
    return compiled(mz_cel_create(text, &env, err));
}

struct mz_cel *mz_attributes_compile_open(struct mz_str text, struct mz_err *err)
{
    const struct mz_cel_env env = {
        .names = names, .n = NAMES, .string_conversion = true, .string_concat = true, .open = true
    };
    return compiled(mz_cel_create(text, &env, err));
}

struct mz_cel *mz_attributes_compile_ast(const pb_Expr *e, const pb_CelExpressionConfig *c,
                                         struct mz_err *err)
{
    const struct mz_cel_env env = env_of(c);
    return compiled(mz_cel_create_ast(e, &env, err));
}
