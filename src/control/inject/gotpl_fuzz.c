/* Any text: what parses runs to an end within its bounds, and who fails says why. */
#include "control/inject/gotpl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_gotpl *t = mz_gotpl_parse((struct mz_str){ (const char *)data, n }, &err);
    if (!t && !err.msg[0])
        __builtin_trap();
    if (!t)
        return 0;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    json_t *values =
        json_loads("{\"ObjectMeta\":{\"annotations\":{\"a\":\"b\"},\"labels\":{}},\"Spec\":{"
                   "\"containers\":[{\"name\":\"x\",\"ports\":[{\"containerPort\":80}]}]},"
                   "\"Values\":{\"a\":[1,2.5,null,true]}}",
                   0, NULL);
    struct mz_str out;
    if (!mz_gotpl_run(t, values, a, &out, &err) && !err.msg[0])
        __builtin_trap();
    json_decref(values);
    mz_arena_destroy(a);
    mz_gotpl_destroy(t);
    return 0;
}
