/* A tree to a message: fields, scalars, maps. */
#include "base/vec.h"
#include "proto/proto_priv.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool expected(struct walk *w, const struct mz_node *n, const char *what)
{
    char shown[64];
    return walk_fail(w, n, "expected %s, got %s", what, mz_node_what(n, shown));
}

/* The text of a number, quoted or not. */
static bool number_text(struct walk *w, const struct mz_node *n, struct mz_str *out)
{
    if ((n->kind != MZ_NODE_NUM && n->kind != MZ_NODE_STR) || n->text.n == 0 || n->text.n > 64)
        return expected(w, n, "a number");
    *out = n->text;
    return true;
}

/* Whole text, no blanks, no hexadecimal; @s has a NUL behind it. */
static bool text_double(struct mz_str s, double *out)
{
    if (!s.n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789+-.eE", s.p[i]) || !s.p[i])
            return false;
    char *end;
    *out = strtod(s.p, &end);
    return end == s.p + s.n;
}

static bool read_signed(struct walk *w, const struct mz_node *n, int64_t min, int64_t max,
                        int64_t *out)
{
    struct mz_str s = { 0 };
    double d;
    if (!number_text(w, n, &s))
        return false;
    if (!mz_str_i64(s, out)) { /* 1e3 and 7.0 are integers too */
        if (!text_double(s, &d))
            return expected(w, n, "a whole number");
        if (d != floor(d))
            return walk_fail(w, n, "expected a whole number, got %.*s", MZ_STR_ARG(s));
        if (fabs(d) > 9007199254740992.0)
            return walk_fail(w, n, "%.*s is out of range", MZ_STR_ARG(s));
        *out = (int64_t)d;
    }
    return (*out >= min && *out <= max) || walk_fail(w, n, "%.*s is not in %lld..%lld",
                                                     MZ_STR_ARG(s), (long long)min, (long long)max);
}

static bool read_unsigned(struct walk *w, const struct mz_node *n, uint64_t max, uint64_t *out)
{
    struct mz_str s = { 0 };
    int64_t i;
    if (!number_text(w, n, &s))
        return false;
    if (!mz_str_u64(s, out)) {
        if (s.p[0] == '-' && mz_str_i64(s, &i) && i < 0)
            return walk_fail(w, n, "%.*s is negative", MZ_STR_ARG(s));
        if (!read_signed(w, n, 0, INT64_MAX, &i))
            return false;
        *out = (uint64_t)i;
    }
    return *out <= max ||
           walk_fail(w, n, "%.*s is more than %llu", MZ_STR_ARG(s), (unsigned long long)max);
}

static bool read_double(struct walk *w, const struct mz_node *n, double max, double *out)
{
    static const struct {
        struct mz_str word;
        double value;
    } words[] = { { MZ_STR_INIT("NaN"), (double)NAN },
                  { MZ_STR_INIT("Infinity"), (double)INFINITY },
                  { MZ_STR_INIT("-Infinity"), -(double)INFINITY } };
    struct mz_str s = { 0 };
    if (!number_text(w, n, &s))
        return false;
    for (size_t i = 0; n->kind == MZ_NODE_STR && i < MZ_COUNT(words); i++)
        if (mz_str_eq(s, words[i].word)) {
            *out = words[i].value;
            return true;
        }
    if (!text_double(s, out))
        return expected(w, n, "a number");
    return fabs(*out) <= max || walk_fail(w, n, "%.*s is out of range", MZ_STR_ARG(s));
}

static bool read_text(struct walk *w, const struct mz_node *n, char **out)
{
    if (w->ctx->texts && n->kind == MZ_NODE_BOOL) {
        *out = (char *)(uintptr_t)(n->b ? "true" : "false");
        return true;
    }
    if (n->kind != MZ_NODE_STR && !(n->kind == MZ_NODE_NUM && (n->loose || w->ctx->texts)))
        return expected(w, n, "a string");
    if (memchr(n->text.p, 0, n->text.n))
        return walk_fail(w, n, "a string must not have a NUL in it");
    *out = (char *)(uintptr_t)mz_arena_dup(w->arena, n->text).p;
    return true;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : -1;
}

/* Both alphabets, with or without padding (proto3 JSON). */
static bool read_bytes(struct walk *w, const struct mz_node *n, ProtobufCBinaryData *out)
{
    if (n->kind != MZ_NODE_STR)
        return expected(w, n, "a base64 string");
    struct mz_str s = n->text;
    while (s.n && s.p[s.n - 1] == '=')
        s.n--;
    if (n->text.n - s.n > 2 || s.n % 4 == 1)
        return expected(w, n, "a base64 string");
    out->data = mz_arena_alloc(w->arena, s.n * 3 / 4 + 1);
    out->len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < s.n; i++) {
        int d = base64_digit(s.p[i]);
        if (d < 0)
            return expected(w, n, "a base64 string");
        bits = bits << 6 | (uint32_t)d;
        if (i % 4)
            out->data[out->len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return true;
}

/* For "did you mean": nobody is asked where unknown names are only counted. */
static bool is_asked(const struct walk *w)
{
    return w->ctx->unknown != MZ_UNKNOWN_COUNT;
}

static const char *nearest_value(const ProtobufCEnumDescriptor *e, struct mz_str name)
{
    const char *best = NULL;
    unsigned least = name.n > 60 ? 0 : (unsigned)name.n / 3 + 1;
    for (unsigned i = 0; i < e->n_value_names; i++) {
        unsigned d = mz_str_distance(mz_str_c(e->values_by_name[i].name), name, least);
        if (d <= least && (!best || d < least)) {
            best = e->values_by_name[i].name;
            least = d;
        }
    }
    return best;
}

static bool read_enum(struct walk *w, const struct mz_node *n, const ProtobufCEnumDescriptor *e,
                      int *out)
{
    int64_t number;
    if (n->kind == MZ_NODE_NUM || (n->kind == MZ_NODE_STR && mz_str_i64(n->text, &number))) {
        if (!read_signed(w, n, INT32_MIN, INT32_MAX, &number))
            return false;
        *out = (int)number;
        return true;
    }
    if (n->kind != MZ_NODE_STR)
        return expected(w, n, "the name of a value");
    for (unsigned i = 0; i < e->n_value_names; i++)
        if (mz_str_ieq(mz_str_c(e->values_by_name[i].name), n->text)) {
            *out = e->values[e->values_by_name[i].index].value;
            return true;
        }
    return walk_unknown(w, n->line, n->col, "value", n->text,
                        is_asked(w) ? nearest_value(e, n->text) : NULL);
}

static bool read_bool(struct walk *w, const struct mz_node *n, protobuf_c_boolean *out)
{
    static const struct {
        struct mz_str word;
        bool value;
    } words[] = { { MZ_STR_INIT("true"), true }, { MZ_STR_INIT("yes"), true },
                  { MZ_STR_INIT("t"), true },    { MZ_STR_INIT("y"), true },
                  { MZ_STR_INIT("1"), true },    { MZ_STR_INIT("false"), false },
                  { MZ_STR_INIT("no"), false },  { MZ_STR_INIT("f"), false },
                  { MZ_STR_INIT("n"), false },   { MZ_STR_INIT("0"), false } };
    for (size_t i = 0; n->kind == MZ_NODE_STR && i < MZ_COUNT(words); i++)
        if (mz_str_ieq(n->text, words[i].word)) {
            *out = words[i].value;
            return true;
        }
    if (n->kind != MZ_NODE_BOOL)
        return expected(w, n, "true or false");
    *out = n->b;
    return true;
}

static bool read_submessage(struct walk *w, const struct mz_node *n,
                            const ProtobufCMessageDescriptor *d, ProtobufCMessage **out)
{
    ProtobufCMessage *m = message_new(w->arena, d);
    if (!message_read(w, n, m))
        return false;
    *out = m;
    return true;
}

/* One value of the type of @f, not looking at its label. */
bool value_read(struct walk *w, const struct mz_node *n, const ProtobufCFieldDescriptor *f,
                void *out)
{
    int64_t i;
    uint64_t u;
    double d;
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_signed(w, n, INT32_MIN, INT32_MAX, &i) && (*(int32_t *)out = (int32_t)i, true);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_signed(w, n, INT64_MIN, INT64_MAX, out);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_unsigned(w, n, UINT32_MAX, &u) && (*(uint32_t *)out = (uint32_t)u, true);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_unsigned(w, n, UINT64_MAX, out);
    case PROTOBUF_C_TYPE_FLOAT:
        return read_double(w, n, 3.4028234663852886e38, &d) && (*(float *)out = (float)d, true);
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_double(w, n, 1.7976931348623157e308, out);
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(w, n, out);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(w, n, f->descriptor, out);
    case PROTOBUF_C_TYPE_STRING:
        return read_text(w, n, out);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(w, n, out);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_submessage(w, n, f->descriptor, out);
    }
    return false;
}

static bool read_repeated(struct walk *w, const struct mz_node *n,
                          const ProtobufCFieldDescriptor *f, ProtobufCMessage *m)
{
    size_t size = field_size(f), before = w->ctx->unknown_n;
    bool one = n->kind != MZ_NODE_LIST; /* a value by itself is a list of one */
    uint32_t count = one ? 1 : n->n;
    char *mem = mz_arena_alloc0(w->arena, size * count + 1);
    struct step s = { w->top, { 0 }, STEP_INDEX, 0 };
    size_t used = 0;
    bool ok = true;
    w->top = &s;
    for (; ok && s.index < count; s.index++) {
        void *at = mem + used * size;
        if (f->type == PROTOBUF_C_TYPE_STRING)
            *(const char **)at = protobuf_c_empty_string;
        ok = value_read(w, one ? n : n->list[s.index], f, at);
        if (f->type == PROTOBUF_C_TYPE_ENUM && w->ctx->unknown_n != before)
            before = w->ctx->unknown_n; /* an unknown name is left out of the list */
        else
            used++;
    }
    w->top = s.up;
    *(void **)field_at(f, m) = mem;
    *(size_t *)quantifier_at(f, m) = used;
    return ok;
}

/* A key of a map: its text is parsed as the key's type wants it. */
static bool read_key(struct walk *w, const struct mz_pair *p, const ProtobufCFieldDescriptor *f,
                     void *out)
{
    struct mz_node key = { .kind = MZ_NODE_STR, .line = p->line, .col = p->col, .text = p->key };
    if (f->type == PROTOBUF_C_TYPE_BOOL) {
        key.kind = MZ_NODE_BOOL;
        key.b = mz_str_eq(p->key, MZ_STR("true"));
        if (!key.b && !mz_str_eq(p->key, MZ_STR("false")))
            return walk_fail(w, &key, "expected the key true or false");
    }
    return value_read(w, &key, f, out);
}

static bool read_map(struct walk *w, const struct mz_node *n, const ProtobufCFieldDescriptor *f,
                     const ProtobufCMessageDescriptor *entry, ProtobufCMessage *m)
{
    if (n->kind != MZ_NODE_MAP)
        return expected(w, n, "an object");
    ProtobufCMessage **v = mz_arena_alloc(w->arena, sizeof(ProtobufCMessage *) * n->n + 1);
    struct step s = { w->top, { 0 }, STEP_KEY, 0 };
    bool ok = true;
    w->top = &s;
    for (uint32_t i = 0; ok && i < n->n; i++) {
        const struct mz_pair *p = &n->pairs[i];
        s.name = p->key;
        v[i] = message_new(w->arena, entry);
        ok = read_key(w, p, &entry->fields[0], field_at(&entry->fields[0], v[i])) &&
             value_read(w, p->value, &entry->fields[1], field_at(&entry->fields[1], v[i]));
    }
    w->top = s.up;
    *(ProtobufCMessage ***)field_at(f, m) = v;
    *(size_t *)quantifier_at(f, m) = ok ? n->n : 0;
    return ok;
}

static bool read_field(struct walk *w, const struct mz_node *n, const ProtobufCFieldDescriptor *f,
                       ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *entry = field_map_entry(m->descriptor, f);
    if (entry)
        return read_map(w, n, f, entry, m);
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return read_repeated(w, n, f, m);
    if (is_oneof(f)) {
        uint32_t *chosen = quantifier_at(f, m);
        if (*chosen) {
            const ProtobufCFieldDescriptor *other =
                protobuf_c_message_descriptor_get_field(m->descriptor, *chosen);
            return walk_fail(w, n, "only one may be set of this and \"%s\"", other->name);
        }
        *chosen = f->id;
        if (f->type == PROTOBUF_C_TYPE_STRING)
            *(const char **)field_at(f, m) = protobuf_c_empty_string;
    }
    return value_read(w, n, f, field_at(f, m));
}

static const char *nearest_field(const ProtobufCMessageDescriptor *d, struct mz_str name)
{
    const char *best = NULL;
    unsigned least = name.n > 60 ? 0 : (unsigned)name.n / 3 + 1;
    for (unsigned i = 0; i < d->n_fields; i++) {
        unsigned dist = mz_str_distance(mz_str_c(d->fields[i].name), name, least);
        if (dist <= least && (!best || dist < least)) {
            best = d->fields[i].name;
            least = dist;
        }
    }
    return best;
}

static bool skips_null(const struct mz_node *n, const ProtobufCFieldDescriptor *f)
{
    if (n->kind != MZ_NODE_NULL)
        return false;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return true;
    const struct well_known *k =
        f->type == PROTOBUF_C_TYPE_MESSAGE ? well_known_find(f->descriptor) : NULL;
    return !(k && k->takes_null) &&
           !(f->type == PROTOBUF_C_TYPE_ENUM && f->descriptor == &pb_NullValue__descriptor);
}

static bool read_one(struct walk *w, const struct mz_pair *p, const ProtobufCFieldDescriptor *f,
                     bool again, ProtobufCMessage *m)
{
    struct step s = { w->top, mz_str_c(f->name), STEP_FIELD, 0 };
    bool ok = true;
    w->top = &s;
    if (again)
        ok = walk_fail(w, p->value, "set twice, in snake_case and in lowerCamel");
    else if (!skips_null(p->value, f))
        ok = read_field(w, p->value, f, m);
    w->top = s.up;
    return ok;
}

static bool read_fields(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    uint8_t *seen = mz_arena_alloc0(w->scratch, d->n_fields + 1);
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_pair *p = &n->pairs[i];
        const ProtobufCFieldDescriptor *f = field_find(d, p->key);
        if (!f || !field_is_known(w, d, f)) {
            if (!walk_unknown(w, p->line, p->col, "field", p->key,
                              is_asked(w) ? nearest_field(d, p->key) : NULL))
                return false;
            continue;
        }
        if (!read_one(w, p, f, seen[f - d->fields]++ != 0, m))
            return false;
    }
    return true;
}

bool message_read(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    const struct well_known *k = well_known_find(m->descriptor);
    if (w->depth >= MZ_TREE_MAX_DEPTH)
        return walk_fail(w, n, "nested too deeply");
    w->depth++;
    bool ok;
    if (k && !(k->has_fields && n->kind == MZ_NODE_MAP))
        ok = k->read(w, n, m);
    else if (n->kind != MZ_NODE_MAP)
        ok = expected(w, n, "an object");
    else
        ok = read_fields(w, n, m);
    w->depth--;
    return ok;
}

bool mz_msg_from_tree(struct mz_proto_ctx *ctx, const struct mz_node *tree,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err)
{
    struct walk w = {
        .ctx = ctx, .arena = ctx->arena, .scratch = mz_arena_create(MZ_MEM_STREAM), .err = err
    };
    ProtobufCMessage *m = message_new(ctx->arena, d);
    bool ok = message_read(&w, tree, m) && (ctx->partial || validate_at(NULL, m, err));
    mz_arena_destroy(w.scratch);
    if (ok)
        *out_msg = m;
    return ok;
}

bool mz_msg_from_text(struct mz_proto_ctx *ctx, struct mz_str text, enum mz_text_form form,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_node *tree = mz_tree_read(a, text, form, err);
    bool ok = tree && mz_msg_from_tree(ctx, tree, d, out_msg, err);
    mz_arena_destroy(a);
    return ok;
}
