#include "base/test.h"

#include <stdio.h>

#include "upstream/cluster_names.h"
#include "upstream/upstream_priv.h"

#define N 1000

static struct cluster_entry clusters[N + 1];
static char texts[N + 1][16];

/* Clusters that nobody frees: only their references are looked at. */
static void make(void)
{
    for (int i = 0; i <= N; i++) {
        int n = snprintf(texts[i], sizeof(texts[i]), "c%d",
                         i % N); /* the last has the name of the first */
        clusters[i] = (struct cluster_entry){ .refs = 100, .name = { texts[i], (size_t)n } };
    }
}

static struct cluster_names *all(void)
{
    struct cluster_names *n = cluster_names_create();
    for (int i = 0; i < N; i++)
        assert_null(cluster_names_put(&n, cluster_entry_ref(&clusters[i])));
    return n;
}

static size_t count(const struct cluster_names *n)
{
    size_t k = 0;
    cluster_names_foreach(c, n)
    {
        assert_ptr_equal(cluster_names_get(n, c->name), c);
        k++;
    }
    assert_int_equal(k, cluster_names_count(n));
    return k;
}

static void expect_refs(unsigned refs)
{
    for (int i = 0; i <= N; i++)
        assert_int_equal(clusters[i].refs, refs);
}

static void test_put_and_del(void **state)
{
    (void)state;
    make();
    struct cluster_names *n = all(), *same = n;
    assert_int_equal(count(n), N);
    assert_ptr_equal(cluster_names_put(&n, cluster_entry_ref(&clusters[N])), &clusters[0]);
    cluster_entry_unref(&clusters[0]);
    assert_ptr_equal(cluster_names_get(n, MZ_STR("c0")), &clusters[N]);
    assert_ptr_equal(cluster_names_del(&n, MZ_STR("c7")), &clusters[7]);
    cluster_entry_unref(&clusters[7]);
    assert_null(cluster_names_del(&n, MZ_STR("c7")));
    assert_null(cluster_names_get(n, MZ_STR("c7")));
    assert_int_equal(count(n), N - 1);
    assert_ptr_equal(n, same); /* nobody else has it: changed in place */
    cluster_names_unref(n);
    expect_refs(100);
}

/* Who shares it sees what there was. */
static void test_shared(void **state)
{
    (void)state;
    make();
    struct cluster_names *n = all(), *seen = cluster_names_ref(n);
    assert_ptr_equal(cluster_names_put(&n, cluster_entry_ref(&clusters[N])), &clusters[0]);
    cluster_entry_unref(&clusters[0]);
    assert_ptr_equal(cluster_names_del(&n, MZ_STR("c7")), &clusters[7]);
    cluster_entry_unref(&clusters[7]);
    assert_ptr_not_equal(n, seen);
    assert_ptr_equal(cluster_names_get(seen, MZ_STR("c0")), &clusters[0]);
    assert_ptr_equal(cluster_names_get(seen, MZ_STR("c7")), &clusters[7]);
    assert_int_equal(count(seen), N);
    assert_int_equal(count(n), N - 1);
    unsigned twice = 0; /* what stands in parts that were copied is referenced by both */
    for (int i = 0; i < N; i++)
        twice += clusters[i].refs == 102;
    assert_in_range(twice, 1, N / 8);
    cluster_names_unref(seen);
    cluster_names_unref(n);
    expect_refs(100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_del),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
