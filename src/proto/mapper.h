#ifndef MZ_PROTO_MAPPER_H
#define MZ_PROTO_MAPPER_H
/*
 * Text and bytes to messages and back, driven by descriptors (P1). Any thread, as long as a context and its arena stay on
 * one. Messages are protobuf-c structs that live in the context's arena: never free them, never free_unpacked() them.
 * Every string of a message is UTF-8 without NUL; nesting is bounded (wire.c), so walks may recurse.
 */
#include "proto/names.h"
#include "proto/tree.h"

enum mz_unknown {
    MZ_UNKNOWN_REJECT, /* static configuration, --reject-unknown-dynamic-fields */
    MZ_UNKNOWN_COUNT, /* --allow-unknown-static-fields, dynamic configuration: counted and left out */
};
struct mz_proto_ctx {
    struct mz_arena *arena;
    enum mz_unknown unknown;
    bool partial; /* do not check constraints of the outermost message: it will be merged first */
    bool unchecked; /* nor those within an Any: whoever opens it does */
    bool texts; /* numbers and booleans may fill strings, as where Kubernetes' own types are read */
    bool units; /* durations also as Go writes them: "1h30m", "250ms" */
    bool fractions; /* any number of YAML is one within a Struct, as for Kubernetes; else only small integers, as for Envoy */
    bool control; /* fields that only the control plane knows (control_field.h) are known */
    unsigned unknown_n;     /* fields and enum names that were left out */
    char unknown_path[256]; /* the first of them; "" while there is none */
};

/**
 * Reads @text as a message of type @d by the rules of proto3 JSON and checks its constraints, also inside Any.
 * Field names in snake_case and lowerCamel; null means absent. Beyond proto3 JSON, as Envoy 1.40 reads it: YAML integers
 * over 32 bits may fill strings; an empty object is an empty Any; one value stands for a list of one; names of enum values
 * in any case, their numbers also in quotes; booleans also as quoted words; Duration and wrappers also as objects.
 * The error has the path, what came, what was expected, the nearest known name, and line and column.
 */
bool mz_msg_from_text(struct mz_proto_ctx *ctx, struct mz_str text, enum mz_text_form form,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err);
bool mz_msg_from_tree(struct mz_proto_ctx *ctx, const struct mz_node *tree,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err);

/* A Struct as the tree that mz_msg_from_tree() reads; texts are borrowed from it. */
const struct mz_node *mz_struct_to_tree(struct mz_arena *a, const pb_Struct *s);

/* Binary form, checked like text (unknown fields also inside Any; constraints of the message itself). An entry of a map
 * always has its value. */
bool mz_msg_unpack(struct mz_proto_ctx *ctx, struct mz_str bytes,
                   const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                   struct mz_err *err);
struct mz_str mz_msg_pack_alloc(const ProtobufCMessage *msg, struct mz_arena *a);
/* What this process packed of a message that came through here: nothing is checked again. NULL: it is not the binary form of @d. */
ProtobufCMessage *mz_msg_reopen(struct mz_str bytes, const ProtobufCMessageDescriptor *d, struct mz_arena *a);

/**
 * Opens @any by its type_url (the part behind the last '/'), checks it as above. A TypedStruct of xds.type.v3 or
 * udpa.type.v1 is turned into a message of the type that it names. An empty type_url or an unknown type is an error.
 */
bool mz_any_unpack(struct mz_proto_ctx *ctx, const pb_Any *any,
                   const ProtobufCMessageDescriptor **out_type, ProtobufCMessage **out_msg,
                   struct mz_err *err);
/* The same where only one type fits; the error says which. */
bool mz_any_unpack_as(struct mz_proto_ctx *ctx, const pb_Any *any,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err);
/* The type an Any holds after unfolding TypedStruct, by name only: for looking up extensions. Borrowed from @any. */
struct mz_str mz_any_type(const pb_Any *any);
pb_Any *mz_any_pack(const ProtobufCMessage *msg,
                    struct mz_arena *a); /* type_url "type.googleapis.com/..." */
pb_Any *mz_any_of_packed(struct mz_str packed, const ProtobufCMessageDescriptor *d, struct mz_arena *a); /* @packed is borrowed */

const ProtobufCMessageDescriptor *
mz_type_find(struct mz_str full_name); /* NULL when no schema has it */
const char *
mz_type_nearest(struct mz_str full_name); /* for "did you mean"; NULL when none is near */
/* A second table of types, sorted by name, where mz_type_find() looks as well: documents and messages of the control plane,
 * which proxies do not link. Before threads start. */
void mz_type_add_table(const ProtobufCMessageDescriptor *const *v, size_t n);

/* Proto merge: scalars that are set in @from replace, messages merge, repeated fields append, maps replace by key. What
 * is taken from @from is shared: it must live as long as @into, and be used no more by itself. */
void mz_msg_merge(ProtobufCMessage *into, const ProtobufCMessage *from, struct mz_arena *a);
enum mz_merge_flags {
    MZ_MERGE_DURATIONS = 1, /* a Duration replaces the one that is there, as a whole */
    MZ_MERGE_LISTS = 2,     /* so does a repeated field that is set */
};
void mz_msg_merge_as(ProtobufCMessage *into, const ProtobufCMessage *from, unsigned flags, struct mz_arena *a);

bool mz_msg_equal(const ProtobufCMessage *x,
                  const ProtobufCMessage *y); /* of one type: same packed bytes */
uint64_t
mz_msg_hash(const ProtobufCMessage *msg); /* of the packed bytes; the same in every process */

/* Constraints as upstream annotates them (constraints.c), of the message and all below; not inside Any. */
bool mz_msg_validate(const ProtobufCMessage *msg, struct mz_err *err);

enum mz_json_flags {
    MZ_JSON_PRETTY = 1,   /* a blank of indent per level, `"a": 1`, as Envoy's admin prints */
    MZ_JSON_DEFAULTS = 2, /* also fields without presence that have their default */
    MZ_JSON_REDACT = 4,   /* texts and bytes in fields that are sensitive (keys, passwords) read "[redacted]", as Envoy's */
};
struct mz_buf;
/* Proto field names; Any of a known type is unfolded with "@type", of an unknown one shown as type and base64 "value". */
void mz_msg_to_json(const ProtobufCMessage *msg, struct mz_buf *out, unsigned flags);

/* Wrappers and durations for builders; NULL means the field is absent. */
static inline uint32_t mz_u32_or(const pb_UInt32Value *v, uint32_t otherwise)
{
    return v ? v->value : otherwise;
}
static inline uint64_t mz_u64_or(const pb_UInt64Value *v, uint64_t otherwise)
{
    return v ? v->value : otherwise;
}
static inline bool mz_bool_or(const pb_BoolValue *v, bool otherwise)
{
    return v ? v->value != 0 : otherwise;
}
static inline double mz_double_or(const pb_DoubleValue *v, double otherwise)
{
    return v ? v->value : otherwise;
}
/* Not negative and at most what fits; rounds up to whole units, so that a positive duration is never 0. */
bool mz_duration_ms(const pb_Duration *d, uint64_t otherwise, uint64_t *out_ms, struct mz_err *err);
bool mz_duration_us(const pb_Duration *d, uint64_t otherwise, uint64_t *out_us, struct mz_err *err);
#endif
