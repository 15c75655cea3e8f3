#include "base/parallel.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/test.h"

enum { MANY = 5000 };
static unsigned done[MANY];
static void *memory[MANY];

static void work(void *arg, size_t i)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    *(unsigned *)mz_arena_alloc(a, sizeof(unsigned)) = *(const unsigned *)arg;
    done[i] += *(const unsigned *)arg;
    memory[i] = mz_alloc(MZ_MEM_ADMIN, 10 + i % 7);
    mz_arena_destroy(a);
}

/* Each piece once, whoever takes it; threads that ended leave no memory of their own, and what they counted is still counted. */
static void test_each_once(void **state)
{
    static const uint32_t threads[] = { 0, 1, 2, 7, 100 };
    struct mz_mem_count before[MZ_MEM__COUNT], after[MZ_MEM__COUNT];
    (void)state;
    mz_arena_thread_trim();
    mz_mem_counts(before);
    for (unsigned round = 0; round < MZ_COUNT(threads); round++) {
        const unsigned step = round + 1;
        mz_parallel(MANY, threads[round], work, (void *)(uintptr_t)&step);
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(done[i], step * (step + 1) / 2);
            mz_free(MZ_MEM_ADMIN, memory[i]);
        }
    }
    mz_parallel(0, 3, work, NULL);
    mz_arena_thread_trim();
    mz_mem_counts(after);
    for (unsigned i = 0; i < MZ_MEM__COUNT; i++) {
        assert_int_equal(before[i].objects, after[i].objects);
        assert_int_equal(before[i].bytes, after[i].bytes);
    }
}

static void test_cpus(void **state)
{
    (void)state;
    assert_true(mz_cpus() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_each_once),
                                        cmocka_unit_test(test_cpus) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
