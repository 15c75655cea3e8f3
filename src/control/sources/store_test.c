#include "base/test.h"

#include "control/sources/store.h"

static unsigned changes;

static void changed(void *arg)
{
    (void)arg;
    changes++;
}

static struct mz_doc *pod(const char *ns, const char *name, const char *ip)
{
    k8s_ObjectMeta meta = k8s_ObjectMeta__INIT;
    k8s_Pod p = k8s_Pod__INIT;
    k8s_PodStatus status = k8s_PodStatus__INIT;
    meta.name = (char *)(uintptr_t)name;
    meta.namespace_ = (char *)(uintptr_t)ns;
    status.podip = (char *)(uintptr_t)ip;
    p.status = &status;
    return mz_doc_create(MZ_KIND_POD, &meta, &p.base, MZ_STR("f"), 1);
}

static void test_store(void **state)
{
    (void)state;
    size_t n;
    struct mz_store *s = mz_store_create(changed, NULL);
    mz_store_commit(s);
    assert_int_equal(changes, 0);
    mz_store_put(s, pod("b", "y", "1"));
    mz_store_put(s, pod("b", "x", "2"));
    mz_store_put(s, pod("a", "z", "3"));
    mz_store_commit(s);
    assert_int_equal(changes, 1);
    const struct mz_doc *const *v = mz_store_list(s, MZ_KIND_POD, &n);
    assert_int_equal(n, 3);
    assert_true(mz_str_eq(v[0]->name, MZ_STR("z")) && mz_str_eq(v[1]->name, MZ_STR("x")));
    mz_store_put(s, pod("b", "y", "1")); /* the same again */
    mz_store_commit(s);
    assert_int_equal(changes, 1);
    mz_store_put(s, pod("b", "y", "9"));
    mz_store_remove(s, MZ_STR("Pod/b/x"));
    mz_store_remove(s, MZ_STR("Pod/b/none"));
    mz_store_commit(s);
    assert_int_equal(changes, 2);
    v = mz_store_list(s, MZ_KIND_POD, &n);
    assert_int_equal(n, 2);
    assert_ptr_equal(mz_store_get(s, MZ_STR("Pod/b/y")), v[1]);
    mz_store_list(s, MZ_KIND_SERVICE, &n);
    assert_int_equal(n, 0);
    mz_store_destroy(s);
}

/* The number of a content is the same in every process: answers are named by it. */
static void test_version(void **state)
{
    (void)state;
    struct mz_doc *a = pod("a", "z", "3"), *b = pod("a", "z", "3"), *c = pod("a", "z", "4");
    assert_true(a->version == b->version && a->version != c->version);
    assert_int_equal(a->version, mz_xxh64(a->body.p, a->body.n, mz_xxh64(a->meta.p, a->meta.n, 0)));
    mz_doc_unref(a);
    mz_doc_unref(b);
    mz_doc_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_store),
                                        cmocka_unit_test(test_version) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
