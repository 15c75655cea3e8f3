#include "control/model/index.h"

#include <stdio.h>

#include "base/test.h"

enum { N = 5000 };
static char names[N][16];

static struct mz_str name(unsigned i)
{
    return mz_str_c(names[i]);
}

static void test_editions_do_not_see_each_other(void **state)
{
    (void)state;
    struct mz_index *a = mz_index_create();
    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "k%u", i);
        assert_null(mz_index_put(&a, name(i), names[i]));
    }
    struct mz_index *b = mz_index_ref(a);
    for (unsigned i = 0; i < N; i += 3)
        assert_ptr_equal(mz_index_put(&b, name(i), NULL), names[i]);
    for (unsigned i = 1; i < N; i += 3)
        assert_ptr_equal(mz_index_put(&b, name(i), names[0]), names[i]);
    assert_null(mz_index_put(&b, name(0), NULL));
    for (unsigned i = 0; i < N; i++) {
        assert_ptr_equal(mz_index_get(a, name(i)), names[i]);
        assert_ptr_equal(mz_index_get(b, name(i)), i % 3 == 0   ? NULL
                                                   : i % 3 == 1 ? names[0]
                                                                : names[i]);
    }
    assert_int_equal(mz_index_count(a), N);
    assert_int_equal(mz_index_count(b), N - (N + 2) / 3);
    mz_index_unref(a);
    size_t n = 0;
    mz_index_foreach (it, b) {
        assert_ptr_equal(mz_index_get(b, it.key), it.value);
        n++;
    }
    assert_int_equal(n, mz_index_count(b));
    mz_index_unref(b);
}

static void test_empty(void **state)
{
    (void)state;
    struct mz_index *a = mz_index_create();
    mz_index_foreach (it, a)
        fail();
    assert_null(mz_index_get(a, MZ_STR("x")));
    assert_null(mz_index_put(&a, MZ_STR("x"), NULL));
    assert_int_equal(mz_index_count(a), 0);
    mz_index_unref(a);
    mz_index_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_editions_do_not_see_each_other),
                                        cmocka_unit_test(test_empty) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
