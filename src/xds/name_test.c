#include "xds/name.h"

#include "base/test.h"

static void assert_str(struct mz_str got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

static const struct {
    const char *text;
    const char *canonical; /* NULL: an error, which is @error */
    const char *error;
    bool glob;
} cases[] = {
    { "xdstp://a/t/id", "xdstp://a/t/id", NULL, false },
    { "xdstp:///t/id", "xdstp:///t/id", NULL, false },
    { "xdstp://a/t", "xdstp://a/t", NULL, false },
    { "xdstp://a/t/", "xdstp://a/t", NULL, false },
    { "xdstp://a/t/x/y?b=2&a=1", "xdstp://a/t/x/y?a=1&b=2", NULL, false },
    { "xdstp://a/t/x?a=1&a=0", "xdstp://a/t/x?a=1", NULL, false },
    { "xdstp://a/t/x?a&b=", "xdstp://a/t/x?a=&b=", NULL, false },
    { "xdstp://a/t/x?", "xdstp://a/t/x", NULL, false },
    { "xdstp://a/t/x?k=v=w", "xdstp://a/t/x?k=v%3Dw", NULL, false },
    { "xdstp://a%2Fb/t/x%3Fy?%26=%3D", "xdstp://a%2Fb/t/x%3Fy?%26=%3D", NULL, false },
    { "xdstp://%61/t/%78?%6b=%76", "xdstp://a/t/x?k=v", NULL,
      false }, /* what need not be escaped is not */
    { "xdstp://a/t/x%2Fy", "xdstp://a/t/x/y", NULL, false },
    { "xdstp://a/t/[x]:y#z", "xdstp://a/t/%5Bx%5D%3Ay%23z", NULL, false },
    { "xdstp://a/t/~", "xdstp://a/t/%7E", NULL, false },
    { "xdstp://a/t/%zz%4", "xdstp://a/t/%25zz%254", NULL, false },
    { "xdstp://a/t/*", "xdstp://a/t/*", NULL, true },
    { "xdstp://a/t/foo/*?z=1&y=2", "xdstp://a/t/foo/*?y=2&z=1", NULL, true },
    { "xdstp://a/t/foo/%2A", "xdstp://a/t/foo/*", NULL, true },
    { "xdstp://a/t/*/foo", "xdstp://a/t/*/foo", NULL, false },
    { "xdstp://a/t/foo*", "xdstp://a/t/foo*", NULL, false },
    { "xdstp://a/", NULL, "Resource type missing from /", false },
    { "xdstp://a", NULL, "Resource type missing from /", false },
    { "xdstp:", NULL, "Resource type missing from /", false },
    { "xdstp:a", NULL, "Resource type missing from /", false },
    { "xdstp:///?a=b", NULL, "Resource type missing from /", false },
    { "xds://a/t/x", NULL, "xds://a/t/x does not have an xdstp: scheme", false },
    { "", NULL, " does not have an xdstp: scheme", false },
};

static void test_canonical_form(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_xds_name n, again;
        struct mz_err err;
        bool ok = mz_xds_name_parse(a, mz_str_c(cases[i].text), &n, &err);
        assert_int_equal(ok, cases[i].canonical != NULL);
        if (!ok) {
            assert_string_equal(err.msg, cases[i].error);
            continue;
        }
        struct mz_str text = mz_xds_name_text(a, &n);
        assert_str(text, cases[i].canonical);
        assert_int_equal(mz_xds_name_is_glob(&n), cases[i].glob);
        assert_true(mz_xds_name_parse(a, text, &again, &err));
        assert_str(mz_xds_name_text(a, &again), cases[i].canonical);
    }
    mz_arena_destroy(a);
}

static void test_the_collection_of_a_name(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        { "xdstp://a/t/x", "xdstp://a/t/*" },
        { "xdstp://a/t", "xdstp://a/t/*" },
        { "xdstp://a/t/x/y?b=1&a=2", "xdstp://a/t/x/*?a=2&b=1" },
        { "xdstp://a/t/x/*", "xdstp://a/t/x/*" },
        { "xdstp://a/t/x/", "xdstp://a/t/x/*" },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        struct mz_xds_name n;
        struct mz_err err;
        assert_true(mz_xds_name_parse(a, mz_str_c(names[i][0]), &n, &err));
        mz_xds_name_to_glob(a, &n);
        assert_true(mz_xds_name_is_glob(&n));
        assert_str(mz_xds_name_text(a, &n), names[i][1]);
    }
    mz_arena_destroy(a);
}

static void test_the_name_wins_over_the_node(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_xds_param of_node[] = { { MZ_STR("xds.node.id"), MZ_STR("n&1") },
                                      { MZ_STR("xds.node.cluster"), MZ_STR("c") } };
    const struct mz_xds_params with = { of_node, MZ_COUNT(of_node) };
    struct mz_xds_name n;
    struct mz_err err;
    assert_true(mz_xds_name_parse(a, MZ_STR("xdstp://a/t/*?xds.node.cluster=mine&z=1"), &n, &err));
    mz_xds_name_complete(a, &n, &with);
    assert_str(mz_xds_name_text(a, &n),
               "xdstp://a/t/*?xds.node.cluster=mine&xds.node.id=n%261&z=1");
    mz_arena_destroy(a);
}

static void test_urls_of_collections(void **state)
{
    (void)state;
    static const struct {
        const char *text, *file, *name, *error;
    } urls[] = {
        { "file:///a/b%20c.yaml", "/a/b c.yaml", NULL, NULL },
        { "xdstp://a/t/*", NULL, "xdstp://a/t/*", NULL },
        { "file://host/a", NULL, NULL, "file://host/a is not file:///path" },
        { "file:///", NULL, NULL, "file:/// is not file:///path" },
        { "file:///a%00b", NULL, NULL, "a path has no NUL" },
        { "http://a/t/*", NULL, NULL, "http://a/t/* does not have a xdstp: or file: scheme" },
        { "xdstp://a/t/*#entry=x", NULL, NULL,
          "xdstp://a/t/*#entry=x: directives (#) are not supported" },
        { "", NULL, NULL, " does not have a xdstp: or file: scheme" },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    for (size_t i = 0; i < MZ_COUNT(urls); i++) {
        struct mz_xds_url u;
        struct mz_err err;
        bool ok = mz_xds_url_parse(a, mz_str_c(urls[i].text), &u, &err);
        assert_int_equal(ok, urls[i].error == NULL);
        if (!ok)
            assert_string_equal(err.msg, urls[i].error);
        else if (urls[i].file)
            assert_str(u.file, urls[i].file);
        else
            assert_str(mz_xds_name_text(a, &u.name), urls[i].name);
    }
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_the_collection_of_a_name),
        cmocka_unit_test(test_the_name_wins_over_the_node),
        cmocka_unit_test(test_urls_of_collections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
