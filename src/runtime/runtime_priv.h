#ifndef MZ_RUNTIME_RUNTIME_PRIV_H
#define MZ_RUNTIME_RUNTIME_PRIV_H
#include "base/arena.h"
#include "base/map.h"
#include "base/vec.h"
#include "runtime/runtime.h"

enum { MZ_RT_U64 = 1, MZ_RT_DOUBLE = 2, MZ_RT_BOOL = 4, MZ_RT_FRACTION = 8 };
struct mz_runtime_value { /* one key of one layer */
    struct mz_str key, text;
    unsigned has; /* what the text also is */
    uint64_t u64;
    double number;
    bool boolean;
    uint32_t numerator, denominator;
};
struct mz_runtime_layer { /* the keys of one layer at one moment; main thread */
    struct mz_arena *arena;
    struct mz_map values;
};
void mz_runtime_layer_init(struct mz_runtime_layer *l);
void mz_runtime_layer_fini(struct mz_runtime_layer *l);
/* A text from disk or an admin's request: recognised as number, boolean or text. */
void mz_runtime_layer_set(struct mz_runtime_layer *l, struct mz_str key, struct mz_str text);
struct Google__Protobuf__Struct;
void mz_runtime_layer_struct(struct mz_runtime_layer *l, const struct Google__Protobuf__Struct *s);
/* Each file below @path is a key; false with err when the directory exists but cannot be read. */
bool mz_runtime_layer_disk(struct mz_runtime_layer *l, struct mz_str path, struct mz_err *err);

struct mz_runtime {
    unsigned refs; /* atomic */
    struct mz_arena *arena;
    struct mz_map values;
};
#endif
