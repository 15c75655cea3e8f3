#ifndef MZ_CEL_CEL_FUZZ_H
#define MZ_CEL_CEL_FUZZ_H
/* What the fuzzers of this folder share: variables, and an evaluation. */
#include "cel/cel.h"

static const struct mz_str fuzz_names[] = { MZ_STR_INIT("s"), MZ_STR_INIT("n"), MZ_STR_INIT("l"),
                                            MZ_STR_INIT("none") };
static const struct mz_cel_env fuzz_env = { .names = fuzz_names, .n = 4, .string_conversion = true, .string_concat = true };
struct fuzz_vars {
    struct mz_cel_vars base;
    struct mz_str text;
};

static bool fuzz_get(const struct mz_cel_vars *base, unsigned i, struct mz_arena *a,
                     struct mz_cel_value *out)
{
    const struct fuzz_vars *v = (const struct fuzz_vars *)base;
    struct mz_cel_value *two = mz_arena_alloc(a, 2 * sizeof(*two));
    two[0] = mz_cel_string(v->text);
    two[1] = mz_cel_int((int64_t)v->text.n - 3);
    *out = i < 2 ? two[i] : (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { two, 2 } };
    return i != 3;
}

static void fuzz_run(struct mz_cel *p, const struct fuzz_vars *v)
{
    if (!p)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_cel_value out;
    struct mz_str text;
    mz_cel_eval(p, &v->base, a, &out);
    (void)mz_cel_text(&out, a, &text);
    (void)mz_cel_equal(&out, &out, a);
    mz_arena_destroy(a);
    mz_cel_destroy(p);
}
#endif
