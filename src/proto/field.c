/* Descriptors: fields by name, sizes, presence; paths. */
#include "base/log.h"
#include "proto/control_field.h"
#include "proto/proto_priv.h"
#include <stdarg.h>
#include <stdio.h>

static size_t path_put(const struct step *s, char *out, size_t n)
{
    if (!s)
        return 0;
    size_t at = path_put(s->up, out, n);
    if (at >= n)
        return at;
    int len;
    if (s->kind == STEP_INDEX)
        len = snprintf(out + at, n - at, "[%zu]", s->index);
    else if (s->kind == STEP_KEY)
        len = snprintf(out + at, n - at, "[\"%.*s\"]", MZ_STR_ARG(s->name));
    else
        len = snprintf(out + at, n - at, "%s%.*s", at ? "." : "", MZ_STR_ARG(s->name));
    return at + (size_t)(len > 0 ? len : 0);
}

void path_text(const struct step *top, char *out, size_t n)
{
    out[0] = 0;
    (void)path_put(top, out, n); /* cut where it does not fit */
}

void walk_note(struct walk *w, const struct mz_node *at, const char *fmt, ...)
{
    char text[sizeof(w->err->msg)], path[sizeof(w->err->path)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    path_text(w->top, path, sizeof(path));
    if (at && at->line)
        mz_err_set(w->err, "%s (line %u, column %u)", text, at->line, at->col);
    else
        mz_err_set(w->err, "%s", text);
    if (path[0])
        mz_err_at(w->err, "%s", path);
}

bool walk_unknown(struct walk *w, uint32_t line, uint32_t col, const char *what, struct mz_str name,
                  const char *near)
{
    if (w->ctx->unknown == MZ_UNKNOWN_COUNT) {
        if (!w->ctx->unknown_n++) {
            struct step s = { w->top, name, STEP_FIELD, 0 };
            path_text(&s, w->ctx->unknown_path, sizeof(w->ctx->unknown_path));
        }
        return true;
    }
    struct mz_node at = { .line = line, .col = col };
    struct mz_str shown = { name.p, name.n > 200 ? 200 : name.n };
    if (near)
        return walk_fail(w, &at, "unknown %s \"%.*s\"; did you mean \"%s\"?", what,
                         MZ_STR_ARG(shown), near);
    return walk_fail(w, &at, "unknown %s \"%.*s\"", what, MZ_STR_ARG(shown));
}

bool field_is_known(const struct walk *w, const ProtobufCMessageDescriptor *d,
                    const ProtobufCFieldDescriptor *f)
{
    if (w->ctx->control)
        return true;
    for (const struct mz_control_field *c = mz_proto_control_fields; c->message; c++)
        if (c->message == d && c->number == f->id)
            return false;
    return true;
}

size_t field_size(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    }
    return 0;
}

bool field_is_set(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m)
{
    const void *at = field_at(f, m);
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)quantifier_at(f, m) != 0;
    if (is_oneof(f))
        return *(const uint32_t *)quantifier_at(f, m) == f->id;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(ProtobufCMessage *const *)at != NULL;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return *(char *const *)at && **(char *const *)at;
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)at)->len != 0;
    static const char zero[8];
    return memcmp(at, zero, field_size(f)) != 0; /* -0.0 is set, as on the wire */
}

/* protobuf-c knows map fields only as repeated messages; their entry types are nested and named after the field. */
const ProtobufCMessageDescriptor *field_map_entry(const ProtobufCMessageDescriptor *d,
                                                  const ProtobufCFieldDescriptor *f)
{
    const ProtobufCMessageDescriptor *e = field_message(f);
    if (!e || f->label != PROTOBUF_C_LABEL_REPEATED || e->n_fields != 2 || e->fields[0].id != 1 ||
        e->fields[1].id != 2)
        return NULL;
    struct mz_str name = mz_str_c(e->name), outer = mz_str_c(d->name);
    bool nested = mz_str_starts(name, outer) && name.n > outer.n && name.p[outer.n] == '.';
    return nested && mz_str_ends(name, MZ_STR("Entry")) ? e : NULL;
}

/* Whether @name is the lowerCamel form of @field: an underscore goes, the letter behind it is upper case. */
static bool is_camel_of(const char *field, struct mz_str name)
{
    size_t i = 0;
    bool up = false;
    for (const char *p = field; *p; p++) {
        if (*p == '_') {
            up = true;
            continue;
        }
        char c = up && *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
        up = false;
        if (i == name.n || name.p[i++] != c)
            return false;
    }
    return i == name.n;
}

const ProtobufCFieldDescriptor *field_find(const ProtobufCMessageDescriptor *d, struct mz_str name)
{
    for (size_t lo = 0, hi = d->n_fields; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        const ProtobufCFieldDescriptor *f = &d->fields[d->fields_sorted_by_name[mid]];
        int c = strncmp(name.p, f->name, name.n);
        if (c == 0 && !f->name[name.n])
            return f;
        if (c <= 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    for (unsigned i = 0; i < d->n_fields; i++)
        if (is_camel_of(d->fields[i].name, name))
            return &d->fields[i];
    return NULL;
}

ProtobufCMessage *message_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = mz_arena_alloc0(a, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}
