#include "base/arena.h"
#include "base/err.h"
#include "base/test.h"
struct cluster_cfg {
    unsigned connect_timeout_ms;
};
static bool duration_ms(const char *text, unsigned *out, struct mz_err *err)
{
    if (text[0] == 'x')
        return mz_err_set(err, "expected a duration such as \"0.25s\", got \"%s\"", text);
    *out = 1;
    return true;
}
static bool cluster(const char *text, struct cluster_cfg *out, struct mz_err *err)
{
    if (!duration_ms(text, &out->connect_timeout_ms, err))
        return mz_err_at(err, "connect_timeout");
    return true;
}
static void test_path(void **s)
{
    (void)s;
    struct mz_err e;
    struct cluster_cfg c;
    if (!cluster("x", &c, &e))
        mz_err_at(&e, "clusters[%d]", 2);
    mz_err_at(&e, "static_resources");
    assert_string_equal(e.path, "static_resources.clusters[2].connect_timeout");
    assert_true(cluster("1", &c, &e));
}
static void test_arena(void **s)
{
    (void)s;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 1; i < 3000; i += 7) {
        unsigned char *p = mz_arena_alloc0(a, i);
        assert_int_equal((uintptr_t)p % 8, 0);
        for (size_t j = 0; j < i; j++)
            assert_int_equal(p[j], 0);
        p[i - 1] = 1;
    }
    mz_arena_destroy(a);
    mz_arena_destroy(NULL);
}
int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_path), cmocka_unit_test(test_arena) };
    return cmocka_run_group_tests(t, NULL, NULL);
}
