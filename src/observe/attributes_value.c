#include <stdlib.h>

#include "base/buf.h"
#include "observe/attributes_priv.h"
#include "observe/json_text.h"
#include "proto/names.h"

/* Metadata, localities and the node as expressions see them: messages, whose fields are known, with structs in them. */

/* ---- maps without members ---- */

size_t attributes_none_size(const void *obj)
{
    (void)obj;
    return 0;
}

void attributes_none_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)obj;
    (void)i;
    (void)a;
    *out = mz_cel_error("no such key");
}

static bool none_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                     struct mz_cel_value *out)
{
    (void)obj;
    (void)key;
    (void)a;
    (void)out;
    return false;
}

static const struct mz_cel_map none_map = { .get = none_get,
                                            .size = attributes_none_size,
                                            .key = attributes_none_key };

struct mz_cel_value attributes_none(void)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &none_map, NULL } };
}

/* ---- google.protobuf.Struct ---- */

static bool struct_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                       struct mz_cel_value *out)
{
    const struct mz_value *v = obj;
    for (size_t i = 0; key->kind == MZ_CEL_STRING && i < v->fields.n; i++)
        if (mz_str_eq(v->fields.v[i].key, key->s)) {
            attributes_value(v->fields.v[i].value, a, out);
            return true;
        }
    return false;
}

static size_t struct_size(const void *obj)
{
    return ((const struct mz_value *)obj)->fields.n;
}

static void struct_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)a;
    *out = mz_cel_string(((const struct mz_value *)obj)->fields.v[i].key);
}

static const struct mz_cel_map struct_map = { .get = struct_get,
                                              .size = struct_size,
                                              .key = struct_key };

void attributes_value(const struct mz_value *v, struct mz_arena *a, struct mz_cel_value *out)
{
    *out = (struct mz_cel_value){ .kind = MZ_CEL_NULL };
    switch (v->kind) {
    case MZ_VALUE_NULL:
        return;
    case MZ_VALUE_BOOL:
        *out = mz_cel_bool(v->b);
        return;
    case MZ_VALUE_NUMBER:
        *out = mz_cel_double(v->number);
        return;
    case MZ_VALUE_STRING:
        *out = mz_cel_string(v->str);
        return;
    case MZ_VALUE_LIST: {
        struct mz_cel_value *all = mz_arena_alloc(a, v->list.n * sizeof(*all));
        for (size_t i = 0; i < v->list.n; i++)
            attributes_value(&v->list.v[i], a, &all[i]);
        *out = (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { all, v->list.n } };
        return;
    }
    case MZ_VALUE_STRUCT:
        *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &struct_map, v } };
    }
}

/* ---- as protobuf's text format prints them, in one line ---- */

static void put_quoted(struct mz_buf *b, struct mz_str s)
{
    mz_buf_append(b, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char *special = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
        if (special)
            mz_buf_append(b, special, 2);
        else if (c == '"' || c == '\'' || c == '\\')
            mz_buf_printf(b, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            mz_buf_printf(b, "\\%03o", c);
        else
            mz_buf_append(b, s.p + i, 1);
    }
    mz_buf_append(b, "\"", 1);
}

static void put_value(struct mz_buf *b, const struct mz_value *v);

static int field_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct mz_field *)a)->key, ((const struct mz_field *)b)->key);
}

/* Entries of a map are sorted by key. */
static void put_entries(struct mz_buf *b, const char *name, const struct mz_field *v, size_t n,
                        void (*put)(struct mz_buf *b, const struct mz_value *v))
{
    struct mz_field *sorted = mz_newn0(MZ_MEM_STREAM, struct mz_field, n + 1);
    if (n)
        memcpy(sorted, v, n * sizeof(*v));
    qsort(sorted, n, sizeof(*sorted), field_cmp);
    for (size_t i = 0; i < n; i++) {
        mz_buf_printf(b, "%s%s { key: ", i ? " " : "", name);
        put_quoted(b, sorted[i].key);
        mz_buf_append_str(b, MZ_STR(" value { "));
        put(b, sorted[i].value);
        mz_buf_append_str(b, MZ_STR(" } }"));
    }
    mz_free(MZ_MEM_STREAM, sorted);
}

static void put_struct(struct mz_buf *b, const struct mz_value *v)
{
    put_entries(b, "fields", v->fields.v, v->fields.n, put_value);
}

static void put_list(struct mz_buf *b, const struct mz_value *v)
{
    for (size_t i = 0; i < v->list.n; i++) {
        mz_buf_append_str(b, i ? MZ_STR(" values { ") : MZ_STR("values { "));
        put_value(b, &v->list.v[i]);
        mz_buf_append_str(b, MZ_STR(" }"));
    }
}

static void put_value(struct mz_buf *b, const struct mz_value *v)
{
    char number[MZ_JSON_NUMBER_TEXT];
    switch (v->kind) {
    case MZ_VALUE_NULL:
        mz_buf_append_str(b, MZ_STR("null_value: NULL_VALUE"));
        return;
    case MZ_VALUE_BOOL:
        mz_buf_printf(b, "bool_value: %s", v->b ? "true" : "false");
        return;
    case MZ_VALUE_NUMBER:
        mz_buf_append_str(b, MZ_STR("number_value: "));
        mz_buf_append(b, number, mz_json_number(v->number, number));
        return;
    case MZ_VALUE_STRING:
        mz_buf_append_str(b, MZ_STR("string_value: "));
        put_quoted(b, v->str);
        return;
    case MZ_VALUE_LIST:
        mz_buf_append_str(b, MZ_STR("list_value { "));
        put_list(b, v);
        break;
    case MZ_VALUE_STRUCT:
        mz_buf_append_str(b, MZ_STR("struct_value { "));
        put_struct(b, v);
        break;
    }
    mz_buf_append_str(b, MZ_STR(" }"));
}

static struct mz_str text_take(struct mz_buf *b, struct mz_arena *a)
{
    struct mz_str out = mz_arena_dup(a, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return out;
}

/* ---- messages ---- */

static const struct message_field *field_of(const struct message *m, struct mz_str name)
{
    for (size_t i = 0; i < m->n; i++)
        if (mz_str_eq(m->v[i].name, name))
            return &m->v[i];
    return NULL;
}

static bool message_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                        struct mz_cel_value *out)
{
    (void)a;
    const struct message_field *f = key->kind == MZ_CEL_STRING ? field_of(obj, key->s) : NULL;
    if (f)
        *out = f->value;
    return f != NULL;
}

static size_t message_size(const void *obj)
{
    const struct message *m = obj;
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        n += m->v[i].set;
    return n;
}

static void message_key(const void *obj, size_t at, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)a;
    const struct message *m = obj;
    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].set && at-- == 0)
            *out = mz_cel_string(m->v[i].name);
}

static struct mz_cel_value message_has(const void *obj, struct mz_str field)
{
    const struct message_field *f = field_of(obj, field);
    return f ? mz_cel_bool(f->set) : mz_cel_error("no such field");
}

static void put_message(struct mz_buf *b, const struct message *m);

/* One field, or one item of a repeated one. */
static void put_field(struct mz_buf *b, struct mz_str name, const struct mz_cel_value *v)
{
    if (mz_buf_len(b))
        mz_buf_append(b, " ", 1);
    mz_buf_append_str(b, name);
    switch ((enum mz_cel_kind)v->kind) {
    case MZ_CEL_STRING:
        mz_buf_append(b, ": ", 2);
        put_quoted(b, v->s);
        return;
    case MZ_CEL_BOOL:
        mz_buf_printf(b, ": %s", v->b ? "true" : "false");
        return;
    case MZ_CEL_MAP: {
        struct mz_buf inner;
        mz_buf_init(&inner);
        if (v->map.ops == &struct_map)
            put_struct(&inner, v->map.obj);
        else if (v->map.ops != &none_map)
            put_message(&inner, v->map.obj);
        mz_buf_append(b, " { ", 3);
        mz_buf_append_str(b, mz_buf_linearize(&inner, mz_buf_len(&inner)));
        mz_buf_append(b, " }", 2);
        mz_buf_fini(&inner);
        return;
    }
    default:
        mz_buf_printf(b, ": %lld", (long long)v->i);
    }
}

static void put_message(struct mz_buf *b, const struct message *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct mz_cel_value *v = &m->v[i].value;
        if (!m->v[i].set)
            continue;
        if (v->kind != MZ_CEL_LIST)
            put_field(b, m->v[i].name, v);
        for (size_t k = 0; v->kind == MZ_CEL_LIST && k < v->list.n; k++)
            put_field(b, m->v[i].name, &v->list.v[k]);
    }
}

static struct mz_str message_text(const void *obj, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    put_message(&b, obj);
    return text_take(&b, a);
}

static const struct mz_cel_map message_map = { message_get, message_size, message_key, message_has,
                                               message_text };

struct mz_cel_value attributes_message(const struct message *m)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &message_map, m } };
}

/* ---- envoy.config.core.v3.Metadata ---- */

static bool spaces_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                       struct mz_cel_value *out)
{
    const struct mz_value *v =
        key->kind == MZ_CEL_STRING ? mz_meta_get(obj, key->s, NULL, 0) : NULL;
    if (v)
        attributes_value(v, a, out);
    return v != NULL;
}

static size_t spaces_size(const void *obj)
{
    const struct mz_meta *m = obj;
    return m ? m->n : 0;
}

static void spaces_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)a;
    *out = mz_cel_string(((const struct mz_meta *)obj)->v[i].key);
}

static const struct mz_cel_map spaces_map = { .get = spaces_get,
                                              .size = spaces_size,
                                              .key = spaces_key };

static const struct mz_str filter_metadata = MZ_STR_INIT("filter_metadata");
static const struct mz_str typed_filter_metadata = MZ_STR_INIT("typed_filter_metadata");

static bool meta_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                     struct mz_cel_value *out)
{
    (void)a;
    if (key->kind != MZ_CEL_STRING)
        return false;
    *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &spaces_map, obj } };
    if (mz_str_eq(key->s, filter_metadata))
        return true;
    *out = attributes_none(); /* typed ones are read by nobody here */
    return mz_str_eq(key->s, typed_filter_metadata);
}

static size_t meta_size(const void *obj)
{
    return spaces_size(obj) > 0;
}

static void meta_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)obj;
    (void)i;
    (void)a;
    *out = mz_cel_string(filter_metadata);
}

static struct mz_cel_value meta_has(const void *obj, struct mz_str field)
{
    if (mz_str_eq(field, filter_metadata))
        return mz_cel_bool(spaces_size(obj) > 0);
    return mz_str_eq(field, typed_filter_metadata) ? mz_cel_bool(false)
                                                   : mz_cel_error("no such field");
}

static struct mz_str meta_text(const void *obj, struct mz_arena *a)
{
    const struct mz_meta *m = obj;
    struct mz_buf b;
    mz_buf_init(&b);
    if (m)
        put_entries(&b, "filter_metadata", m->v, m->n, put_struct);
    return text_take(&b, a);
}

static const struct mz_cel_map meta_map = { meta_get, meta_size, meta_key, meta_has, meta_text };

bool give_meta(struct mz_cel_value *out, const struct mz_meta *m)
{
    *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &meta_map, m } };
    return true;
}

/* ---- localities, the node ---- */

static struct message_field text_field(const char *name, struct mz_str s)
{
    return (struct message_field){ mz_str_c(name), mz_cel_string(s.p ? s : MZ_STR("")), s.n > 0 };
}

static struct message_field number_field(const char *name, uint64_t n)
{
    return (struct message_field){ mz_str_c(name), mz_cel_uint(n), n > 0 };
}

static struct message_field value_field(const char *name, struct mz_cel_value v, bool set)
{
    return (struct message_field){ mz_str_c(name), v, set };
}

static struct mz_cel_value message_of(const struct message_field *v, size_t n, struct mz_arena *a)
{
    struct message_field *copy = mz_arena_alloc(a, n * sizeof(*v));
    struct message *m = mz_arena_alloc(a, sizeof(*m));
    memcpy(copy, v, n * sizeof(*v));
    *m = (struct message){ copy, n };
    return attributes_message(m);
}

void give_locality(struct mz_cel_value *out, const struct mz_place *p, struct mz_arena *a)
{
    const struct message_field f[] = { text_field("region", p->region), text_field("zone", p->zone),
                                       text_field("sub_zone", p->sub_zone) };
    *out = message_of(f, MZ_COUNT(f), a);
}

static struct mz_cel_value struct_of(const pb_Struct *s, struct mz_arena *a)
{
    struct mz_cel_value v = attributes_none();
    if (s)
        attributes_value(mz_value_build(s, a), a, &v);
    return v;
}

static struct mz_cel_value version_of(const pb_BuildVersion *m, struct mz_arena *a)
{
    const pb_SemanticVersion *v = m ? m->version : NULL;
    const struct message_field parts[] = { number_field("major_number", v ? v->major_number : 0),
                                           number_field("minor_number", v ? v->minor_number : 0),
                                           number_field("patch", v ? v->patch : 0) };
    const struct message_field f[] = {
        value_field("version", message_of(parts, MZ_COUNT(parts), a), v != NULL),
        value_field("metadata", struct_of(m ? m->metadata : NULL, a), m && m->metadata),
    };
    return message_of(f, MZ_COUNT(f), a);
}

static struct mz_str own(const char *text, struct mz_arena *a)
{
    return mz_arena_dup(a, mz_str_c(text));
}

static struct mz_cel_value texts_of(char *const *v, size_t n, struct mz_arena *a)
{
    struct mz_cel_value *list = mz_arena_alloc(a, (n + 1) * sizeof(*list));
    for (size_t i = 0; i < n; i++)
        list[i] = mz_cel_string(own(v[i], a));
    return (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { list, n } };
}

static struct mz_cel_value extension_of(const pb_Extension *e, struct mz_arena *a)
{
    const struct message_field f[] = {
        text_field("name", own(e->name, a)),
        text_field("category", own(e->category, a)),
        value_field("type_urls", texts_of(e->type_urls, e->n_type_urls, a), e->n_type_urls > 0),
    };
    return message_of(f, MZ_COUNT(f), a);
}

static struct mz_cel_value extensions_of(const pb_Node *n, struct mz_arena *a)
{
    struct mz_cel_value *list = mz_arena_alloc(a, (n->n_extensions + 1) * sizeof(*list));
    for (size_t i = 0; i < n->n_extensions; i++)
        list[i] = extension_of(n->extensions[i], a);
    return (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { list, n->n_extensions } };
}

static struct mz_cel_value node_value; /* of the process; set before there are workers */

void mz_attributes_set_node(const pb_Node *n, struct mz_arena *a)
{
    struct mz_cel_value place;
    const pb_Locality *l = n->locality;
    const struct mz_place where = { own(l ? l->region : NULL, a), own(l ? l->zone : NULL, a),
                                    own(l ? l->sub_zone : NULL, a) };
    bool built =
        n->user_agent_version_type_case == pb_Node_USER_AGENT_VERSION_TYPE_USER_AGENT_BUILD_VERSION;
    bool plain =
        n->user_agent_version_type_case == pb_Node_USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
    give_locality(&place, &where, a);
    const struct message_field f[] = {
        text_field("id", own(n->id, a)),
        text_field("cluster", own(n->cluster, a)),
        value_field("metadata", struct_of(n->metadata, a), n->metadata != NULL),
        value_field("dynamic_parameters", attributes_none(), false),
        value_field("locality", place, l != NULL),
        text_field("user_agent_name", own(n->user_agent_name, a)),
        text_field("user_agent_version", own(plain ? n->user_agent_version : NULL, a)),
        value_field("user_agent_build_version",
                    version_of(built ? n->user_agent_build_version : NULL, a), built),
        value_field("extensions", extensions_of(n, a), n->n_extensions > 0),
        value_field("client_features", texts_of(n->client_features, n->n_client_features, a),
                    n->n_client_features > 0),
        value_field("listening_addresses", texts_of(NULL, 0, a), false),
    };
    node_value = message_of(f, MZ_COUNT(f), a);
}

bool give_node(struct mz_cel_value *out)
{
    *out = node_value;
    return node_value.kind == MZ_CEL_MAP;
}
