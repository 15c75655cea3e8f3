#ifndef MZ_OBSERVE_METADATA_H
#define MZ_OBSERVE_METADATA_H
/* envoy.config.core.v3.Metadata as a runtime tree: filter name -> struct. Static ones are immutable; a stream's dynamic
 * metadata lives in its arena. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

enum mz_value_kind { MZ_VALUE_NULL, MZ_VALUE_BOOL, MZ_VALUE_NUMBER, MZ_VALUE_STRING, MZ_VALUE_LIST, MZ_VALUE_STRUCT };
struct mz_value;
struct mz_field {
    struct mz_str key;
    const struct mz_value *value;
};
struct mz_value {
    enum mz_value_kind kind;
    union {
        bool b;
        double number;
        struct mz_str str;
        struct {
            const struct mz_value *v;
            size_t n;
        } list;
        struct {
            struct mz_field *v;
            size_t n, cap;
        } fields;
    };
};
struct mz_meta { /* namespaces */
    struct mz_field *v;
    size_t n, cap;
    struct mz_arena *arena;
};
struct Envoy__Config__Core__V3__Metadata;
struct Google__Protobuf__Struct;
struct mz_meta *mz_meta_build(const struct Envoy__Config__Core__V3__Metadata *m, struct mz_arena *a); /* NULL gives NULL */
struct Google__Protobuf__Value;
const struct mz_value *mz_value_of(const struct Google__Protobuf__Value *m, struct mz_arena *a);
const struct mz_value *mz_value_build(const struct Google__Protobuf__Struct *s, struct mz_arena *a);
struct mz_meta *mz_meta_create(struct mz_arena *a);
/* Walks namespace and path; NULL when absent. */
const struct mz_value *mz_meta_get(const struct mz_meta *m, struct mz_str ns, const struct mz_str *path, size_t n);
void mz_meta_set(struct mz_meta *m, struct mz_str ns, struct mz_str key, const struct mz_value *v); /* borrows v */
/* The whole of a namespace that has nothing yet, of many streams at once: a later mz_meta_set() changes a copy. Borrows v, a
 * struct without room; false: there is something. */
bool mz_meta_set_space(struct mz_meta *m, struct mz_str ns, const struct mz_value *v);
/* Keys of @over win over those of @base, both under @ns; borrows both. One of them NULL: the other. */
const struct mz_meta *mz_meta_merged(const struct mz_meta *base, const struct mz_meta *over, struct mz_str ns, struct mz_arena *a);
struct mz_meta *mz_meta_clone(const struct mz_meta *m, struct mz_arena *a); /* may be set further; values are borrowed */
const struct mz_value *mz_value_copy(const struct mz_value *v, struct mz_arena *a); /* whole, with its texts */
void mz_value_json(const struct mz_value *v, struct mz_buf *out);
bool mz_value_eq(const struct mz_value *a, const struct mz_value *b);
#endif
