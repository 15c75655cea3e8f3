#ifndef MZ_PROTO_PRIV_H
#define MZ_PROTO_PRIV_H
/* Shared by the files of this folder: where a walk is, and access to fields by descriptor. */
#include "proto/mapper.h"

/* One step of the path from the root of a walk; lives on the walker's stack. */
struct step {
    const struct step *up;
    struct mz_str name; /* of a field or a map key */
    enum { STEP_FIELD, STEP_INDEX, STEP_KEY } kind;
    size_t index;
};
void path_text(const struct step *top, char *out, size_t n); /* a.b[2].c["key"] */

/* A walk that reads: text (text.c) or bytes (wire.c). */
struct walk {
    struct mz_proto_ctx *ctx;
    struct mz_arena *arena; /* of the messages being made: the caller's, or scratch within an Any */
    struct mz_arena *scratch; /* goes at the end of the call */
    const struct step *top;
    unsigned depth;
    bool hidden; /* the bytes had a field of the control plane, which this context must not know */
    struct mz_err *err;
};
/* bool walk_fail(w, at, format, ...): error with the path of @w; line and column follow the text where @at knows them.
 * Always false, see mz_err_set. */
#define walk_fail(w, at, ...) (walk_note((w), (at), __VA_ARGS__), mz_err_false())
__attribute__((format(printf, 3, 4))) void walk_note(struct walk *w, const struct mz_node *at,
                                                     const char *fmt, ...);
/* An unknown field or name: false (error set) or true (counted). @near may be NULL. */
bool walk_unknown(struct walk *w, uint32_t line, uint32_t col, const char *what, struct mz_str name,
                  const char *near);
/* Whether the context may know of @f of @d: fields of the control plane are for it alone. */
bool field_is_known(const struct walk *w, const ProtobufCMessageDescriptor *d,
                    const ProtobufCFieldDescriptor *f);

static inline void *field_at(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m)
{
    return (char *)(uintptr_t)m + f->offset;
}
static inline void *quantifier_at(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m)
{
    return (char *)(uintptr_t)m + f->quantifier_offset;
}
static inline bool is_oneof(const ProtobufCFieldDescriptor *f)
{
    return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}
size_t field_size(const ProtobufCFieldDescriptor *f); /* of one element */
/* proto3's rule: repeated not empty, oneof case chosen, message present, scalar not its default. */
bool field_is_set(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m);
static inline const ProtobufCMessageDescriptor *field_message(const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_MESSAGE ? f->descriptor : NULL;
}
/* The entry type of a map field, else NULL. */
const ProtobufCMessageDescriptor *field_map_entry(const ProtobufCMessageDescriptor *d,
                                                  const ProtobufCFieldDescriptor *f);
const ProtobufCFieldDescriptor *field_find(const ProtobufCMessageDescriptor *d,
                                           struct mz_str name); /* either form */
bool field_is_sensitive(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f); /* sensitive.c */
bool type_is_typed_struct(const ProtobufCMessageDescriptor *d);
struct mz_str typed_struct_type_url(const ProtobufCMessage *m); /* of one */
ProtobufCMessage *message_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d);

/* How a well-known type looks in JSON. NULL for ordinary messages. */
struct well_known {
    const ProtobufCMessageDescriptor *type;
    bool (*read)(struct walk *w, const struct mz_node *n, ProtobufCMessage *out);
    bool takes_null; /* null is a value, not absence */
    bool
        has_fields; /* an object with its fields is accepted too, as by Envoy: {seconds: 1}, {value: true} */
};
const struct well_known *well_known_find(const ProtobufCMessageDescriptor *d);
bool well_known_check(const ProtobufCMessage *m,
                      struct mz_err *err); /* ranges of Duration and Timestamp; no path */

bool message_read(struct walk *w, const struct mz_node *n, ProtobufCMessage *out);
bool value_read(struct walk *w, const struct mz_node *n, const ProtobufCFieldDescriptor *f,
                void *out);
bool any_read(struct walk *w, const struct mz_node *n, ProtobufCMessage *out);
bool validate_at(const struct step *top, const ProtobufCMessage *m, struct mz_err *err);
struct mz_str type_name_of_url(struct mz_str url);
#endif
