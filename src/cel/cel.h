#ifndef MZ_CEL_CEL_H
#define MZ_CEL_CEL_H
/*
 * The Common Expression Language: text or the protobuf form of its syntax tree, compiled once (main thread) to an immutable
 * program that any thread evaluates. Text of at most 64 KiB, 10,000 nodes, 100 levels. An evaluation takes memory from the
 * given arena only; its steps, and the bytes that it looks at and makes, are counted against a limit. Errors are values:
 * `||` and `&&` absorb them where the other side decides.
 *
 * Functions: size, contains, startsWith, endsWith, matches (RE2; the pattern is a constant), int, uint, double, bool, string,
 * bytes, duration, timestamp, type, dyn, get* of timestamps and durations; has() and the macros all, exists, exists_one,
 * filter, map. Numbers of different types compare by value, values of other types are unequal.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum mz_cel_kind {
    MZ_CEL_NULL,
    MZ_CEL_BOOL,
    MZ_CEL_INT,
    MZ_CEL_UINT,
    MZ_CEL_DOUBLE,
    MZ_CEL_STRING,
    MZ_CEL_BYTES,
    MZ_CEL_LIST,
    MZ_CEL_MAP,
    MZ_CEL_DURATION,  /* i seconds and nanos, of one sign */
    MZ_CEL_TIMESTAMP, /* i seconds since the epoch, nanos 0..999999999 */
    MZ_CEL_TYPE,      /* s: its name */
    MZ_CEL_ERROR,     /* error: static text */
};
struct mz_cel_map;
struct mz_cel_value {
    uint8_t kind; /* enum mz_cel_kind */
    int32_t nanos;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        struct mz_str s;
        struct {
            const struct mz_cel_value *v;
            size_t n;
        } list;
        struct {
            const struct mz_cel_map *ops;
            const void *obj;
        } map;
        const char *error;
    };
};
struct mz_cel_map { /* how a map is read; obj is the value's */
    /* False: no such key. May leave an error in *out. */
    bool (*get)(const void *obj, const struct mz_cel_value *key, struct mz_arena *a, struct mz_cel_value *out);
    size_t (*size)(const void *obj);
    void (*key)(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out); /* i < size */
    /* Of messages only, which have a field or have it not, whatever its value; NULL: a map. get() gives unset fields their default,
     * size() and key() tell of the set ones and only equality asks them: there is no size() of a message, nor `in` and []. */
    struct mz_cel_value (*has)(const void *obj, struct mz_str field); /* true, false; an error: there is no such field */
    struct mz_str (*text)(const void *obj, struct mz_arena *a);       /* as it is printed */
};
static inline struct mz_cel_value mz_cel_bool(bool b)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_BOOL, .b = b };
}
static inline struct mz_cel_value mz_cel_int(int64_t i)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_INT, .i = i };
}
static inline struct mz_cel_value mz_cel_uint(uint64_t u)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_UINT, .u = u };
}
static inline struct mz_cel_value mz_cel_double(double d)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_DOUBLE, .d = d };
}
static inline struct mz_cel_value mz_cel_string(struct mz_str s)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_STRING, .s = s };
}
static inline struct mz_cel_value mz_cel_error(const char *static_text)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_ERROR, .error = static_text };
}
struct mz_cel_value mz_cel_duration_us(int64_t us);
struct mz_cel_value mz_cel_timestamp_us(uint64_t us_since_epoch);

/* The variables of an expression: names known when it is compiled, values asked for when it is evaluated. */
struct mz_cel_vars {
    /* Variable number @i of the names; false: it has no value now. */
    bool (*get)(const struct mz_cel_vars *v, unsigned i, struct mz_arena *a, struct mz_cel_value *out);
};
struct mz_cel_env {
    const struct mz_str *names;
    unsigned n;
    bool string_conversion; /* string(x) exists (Envoy: enable_string_conversion) */
    bool string_concat;     /* "a" + "b" (enable_string_concat) */
    bool open;              /* a name that is unknown has no value, instead of being a mistake */
};

struct mz_cel; /* a program */
struct mz_cel *mz_cel_create(struct mz_str text, const struct mz_cel_env *env, struct mz_err *err); /* NULL: err says what, where */
struct Google__Api__Expr__V1alpha1__Expr;
struct mz_cel *mz_cel_create_ast(const struct Google__Api__Expr__V1alpha1__Expr *e, const struct mz_cel_env *env,
                                 struct mz_err *err);
void mz_cel_destroy(struct mz_cel *p); /* NULL is fine */
bool mz_cel_uses(const struct mz_cel *p, unsigned i); /* is variable number @i in it? i < 64 */

#define MZ_CEL_COST 100000 /* steps, and bytes / 64 */
/* The value lies in @a, or is borrowed from the program and from what the variables gave. */
void mz_cel_eval(const struct mz_cel *p, const struct mz_cel_vars *vars, struct mz_arena *a, struct mz_cel_value *out);
enum mz_cel_outcome { MZ_CEL_NO, MZ_CEL_YES, MZ_CEL_TOO_DEAR };
/* As a condition: anything but true is NO; TOO_DEAR where the limit of cost ended it, which must never let pass. */
enum mz_cel_outcome mz_cel_test(const struct mz_cel *p, const struct mz_cel_vars *vars, struct mz_arena *a);

/* The text that Envoy prints; "" and false for errors. */
bool mz_cel_text(const struct mz_cel_value *v, struct mz_arena *a, struct mz_str *out_text);
bool mz_cel_equal(const struct mz_cel_value *a, const struct mz_cel_value *b, struct mz_arena *arena);
#endif
