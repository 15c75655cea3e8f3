#include "filters/access_loggers/otel_record.h"

#include "base/map.h"
#include "filters/otel_wire.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"
#include "proto/wire.h"

/* Fields of the messages that are written here. */
enum { ANY_STRING = 1, ANY_ARRAY = 5, ANY_KVLIST = 6, VALUES = 1, KV_KEY = 1, KV_VALUE = 2 };
enum {
    RECORD_TIME = 1,
    RECORD_BODY = 5,
    RECORD_ATTRIBUTES = 6,
    SCOPE_RECORDS = 2,
    LOGS_RESOURCE = 1,
    LOGS_SCOPE = 2
};

struct pair;
struct value {                /* a template of AnyValue */
    struct mz_format *format; /* a text; else ... */
    struct pair *pairs;       /* a list of pairs, ... */
    struct value *values;     /* an array, or ... */
    size_t n;
    struct mz_str packed; /* what has no text in it */
    unsigned field;       /* ANY_... of all but packed */
};
struct pair {
    struct mz_str key;
    struct value value;
};
struct otel_record {
    struct mz_arena *arena;
    struct value body;
    bool has_body;
    struct value attributes; /* pairs */
    struct mz_str resource;  /* packed Resource */
};

/* ---- templates ---- */

static bool value_build(const pb_AnyValue *m, struct value *out, struct mz_arena *a,
                        struct mz_err *err);

static bool pairs_build(const pb_KeyValueList *m, struct value *out, struct mz_arena *a,
                        struct mz_err *err)
{
    out->field = ANY_KVLIST;
    out->pairs = mz_arena_alloc0(a, mz_mul(m ? m->n_values : 0, sizeof(*out->pairs)) + 1);
    for (size_t i = 0; m && i < m->n_values; i++) {
        out->pairs[i].key = mz_arena_dup(a, mz_str_c(m->values[i]->key));
        out->n++;
        if (!value_build(m->values[i]->value, &out->pairs[i].value, a, err))
            return mz_err_at(err, "values[%zu].value", i);
    }
    return true;
}

static bool array_build(const pb_ArrayValue *m, struct value *out, struct mz_arena *a,
                        struct mz_err *err)
{
    out->field = ANY_ARRAY;
    out->values = mz_arena_alloc0(a, mz_mul(m->n_values, sizeof(*out->values)) + 1);
    for (size_t i = 0; i < m->n_values; i++) {
        out->n++;
        if (!value_build(m->values[i], &out->values[i], a, err))
            return mz_err_at(err, "values[%zu]", i);
    }
    return true;
}

/* Nesting is bounded where messages are read. */
static bool value_build(const pb_AnyValue *m, struct value *out, struct mz_arena *a,
                        struct mz_err *err)
{
    if (!m)
        return true;
    switch (m->value_case) {
    case pb_AnyValue_VALUE_STRING_VALUE:
        out->field = ANY_STRING;
        out->format = mz_format_create(mz_str_c(m->string_value), false, err);
        return out->format || mz_err_at(err, "string_value");
    case pb_AnyValue_VALUE_KVLIST_VALUE:
        return pairs_build(m->kvlist_value, out, a, err) || mz_err_at(err, "kvlist_value");
    case pb_AnyValue_VALUE_ARRAY_VALUE:
        return array_build(m->array_value, out, a, err) || mz_err_at(err, "array_value");
    default:
        out->packed = mz_msg_pack_alloc(&m->base, a);
        return true;
    }
}

static void value_fini(struct value *v)
{
    mz_format_destroy(v->format);
    for (size_t i = 0; i < v->n; i++)
        value_fini(v->pairs ? &v->pairs[i].value : &v->values[i]);
}

/* ---- what is written ---- */

static void value_append(const struct value *v, const struct mz_format_ctx *c, struct mz_buf *out);

static void pair_append(const struct pair *p, unsigned field, const struct mz_format_ctx *c,
                        struct mz_buf *out)
{
    struct mz_buf pair, value;
    mz_buf_init(&pair);
    mz_buf_init(&value);
    mz_wire_put_bytes(&pair, KV_KEY, p->key);
    value_append(&p->value, c, &value);
    otel_put_message(&pair, KV_VALUE, &value);
    otel_put_message(out, field, &pair);
}

static void value_append(const struct value *v, const struct mz_format_ctx *c, struct mz_buf *out)
{
    struct mz_buf inner;
    mz_buf_append_str(out, v->packed);
    if (!v->field)
        return;
    mz_buf_init(&inner);
    if (v->format) {
        mz_format_append(v->format, c, &inner);
        otel_put_string(out, mz_buf_linearize(&inner, mz_buf_len(&inner)));
        mz_buf_fini(&inner);
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        struct mz_buf one;
        mz_buf_init(&one);
        if (v->pairs) {
            pair_append(&v->pairs[i], VALUES, c, &inner);
        } else {
            value_append(&v->values[i], c, &one);
            otel_put_message(&inner, VALUES, &one);
        }
    }
    otel_put_message(out, v->field, &inner);
}

/* Objects of the filter state as JSON, those of the upstream connection, too. */
static void objects_append(const struct mz_stream_info *i, const struct grpc_log_headers *wanted,
                           struct mz_buf *out)
{
    for (size_t k = 0; k < wanted->n; k++) {
        const struct mz_filter_object *o = mz_info_state(i, wanted->v[k]);
        if (!o && i->up.filter_state)
            o = mz_map_get(i->up.filter_state, wanted->v[k]);
        if (!o || (!o->is_map && !o->text))
            continue;
        struct mz_buf json;
        mz_buf_init(&json);
        if (o->is_map) {
            mz_buf_append_str(&json, MZ_STR("{\"@type\":\"type.googleapis.com/google.protobuf."
                                            "Struct\",\"value\":"));
            mz_value_json(o->tree(o, i->arena), &json);
            mz_buf_append(&json, "}", 1);
        } else {
            const struct mz_value text = { .kind = MZ_VALUE_STRING, .str = o->text(o, i->arena) };
            mz_value_json(&text, &json);
        }
        otel_put_pair(out, RECORD_ATTRIBUTES, wanted->v[k],
                      mz_buf_linearize(&json, mz_buf_len(&json)));
        mz_buf_fini(&json);
    }
}

void otel_record_append(const struct otel_record *r, const struct mz_format_ctx *c,
                        const struct grpc_log_headers *objects, struct mz_buf *out)
{
    struct mz_buf record, body;
    mz_buf_init(&record);
    mz_buf_init(&body);
    otel_put_time(&record, RECORD_TIME, c->info->start_wall_us);
    if (r->has_body) {
        value_append(&r->body, c, &body);
        otel_put_message(&record, RECORD_BODY, &body);
    }
    for (size_t i = 0; i < r->attributes.n; i++)
        pair_append(&r->attributes.pairs[i], RECORD_ATTRIBUTES, c, &record);
    objects_append(c->info, objects, &record);
    otel_put_message(out, SCOPE_RECORDS, &record);
}

void otel_request(const struct otel_record *r, const struct mz_buf *records, struct mz_buf *out)
{
    struct mz_buf logs, scope;
    mz_buf_init(&logs);
    mz_buf_init(&scope);
    mz_buf_copy(&scope, records);
    mz_wire_put_bytes(&logs, LOGS_RESOURCE, r->resource);
    otel_put_message(&logs, LOGS_SCOPE, &scope);
    otel_put_message(out, 1, &logs);
}

/* ---- the whole ---- */

static struct mz_str resource_build(const pb_OpenTelemetryAccessLogConfig *m,
                                    struct mz_str packed_node, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err;
    ProtobufCMessage *msg;
    struct mz_buf b;
    mz_buf_init(&b);
    if (!m->disable_builtin_labels &&
        mz_msg_unpack(&ctx, packed_node, &pb_Node__descriptor, &msg, &err)) {
        const pb_Node *n = (const pb_Node *)msg;
        const char *zone = n->locality ? n->locality->zone : "";
        otel_put_pair(&b, VALUES, MZ_STR("log_name"), mz_str_c(m->common_config->log_name));
        otel_put_pair(&b, VALUES, MZ_STR("zone_name"), mz_str_c(zone));
        otel_put_pair(&b, VALUES, MZ_STR("cluster_name"), mz_str_c(n->cluster));
        otel_put_pair(&b, VALUES, MZ_STR("node_name"), mz_str_c(n->id));
    }
    const pb_KeyValueList *more = m->resource_attributes;
    for (size_t i = 0; more && i < more->n_values; i++)
        mz_wire_put_bytes(&b, VALUES, mz_msg_pack_alloc(&more->values[i]->base, a));
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

struct otel_record *otel_record_create(const pb_OpenTelemetryAccessLogConfig *m,
                                       struct mz_str packed_node, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct otel_record *r = mz_arena_new0(a, struct otel_record);
    r->arena = a;
    r->has_body = m->body && m->body->value_case != pb_AnyValue_VALUE__NOT_SET;
    r->resource = resource_build(m, packed_node, a);
    if (!value_build(m->body, &r->body, a, err))
        mz_err_at(err, "body");
    else if (!pairs_build(m->attributes, &r->attributes, a, err))
        mz_err_at(err, "attributes");
    else
        return r;
    otel_record_destroy(r);
    return NULL;
}

void otel_record_destroy(struct otel_record *r)
{
    if (!r)
        return;
    value_fini(&r->body);
    value_fini(&r->attributes);
    mz_arena_destroy(r->arena);
}
