/* Any object: what comes out is an object still, its patch leads there, and nothing of it is lost. */
#include "control/inject/inject.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_inject_opts o;
    const struct mz_node *t =
        mz_tree_read(a, (struct mz_str){ (const char *)data, n }, MZ_TEXT_YAML, &err);
    json_t *object = t && t->kind == MZ_NODE_MAP ? mz_json_from_tree(t) : NULL;
    if (object) {
        json_t *before = json_deep_copy(object);
        mz_inject_opts_init(&o);
        const enum mz_injected r = mz_inject_object(object, &o, &err);
        if (r == MZ_INJECT_FAILED && !err.msg[0])
            __builtin_trap();
        if (r == MZ_INJECT_SKIPPED && !json_equal(before, object))
            __builtin_trap();
        json_t *patch = mz_inject_patch(before, object);
        if ((json_array_size(patch) == 0) != (json_equal(before, object) != 0))
            __builtin_trap();
        json_decref(patch);
        json_decref(before);
    }
    json_decref(object);
    mz_arena_destroy(a);
    return 0;
}
