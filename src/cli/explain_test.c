/* explain's own texts: URLs, conditions of policies, paths into documents. */
#include "base/test.h"

#include "cli/explain.c"
#include "cli/explain_policy.c"

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *words;
    } cases[] = {
        { ": permissions[0].any; principals[0].any", "" },
        { ": permissions[0].and_rules.rules[0].or_rules.rules[0].header: header :method exact GET; "
          "principals[0].and_ids.ids[0].or_ids.ids[0].authenticated.principal_name: exact "
          "spiffe://a/ns/b/sa/c",
          "method GET, client spiffe://a/ns/b/sa/c" },
        { ": permissions[0].and_rules.rules[0].not_rule.or_rules.rules[0].url_path: prefix /x",
          "not path prefix /x" },
        { ": principals[0].and_ids.ids[0].not_id.or_ids.ids[0].direct_remote_ip: 10.0.0.0/8 (and 1 "
          "more)",
          "not client's address 10.0.0.0/8 (and 1 more)" },
        { ": permissions[1].destination_port_range: 80 to 80", "port 80 to 80" },
        { ": permissions[0].header: header x-a suffix b", "header x-a suffix b" },
        { ": permissions[0].header: header :authority exact h", "host exact h" },
        { "; : ", ": " },
        { ": permissions[0].metadata", "permissions[0].metadata" },
        { "", "" },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_str got = all_words(mz_str_c(cases[i].raw), a);
        if (!mz_str_eq(got, mz_str_c(cases[i].words)))
            fail_msg("%s: %.*s", cases[i].raw, MZ_STR_ARG(got));
    }
    mz_arena_destroy(a);
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *authority, *path;
        unsigned port;
        bool http;
    } cases[] = {
        { "http://details:9080/details/0", "details", "details:9080", "/details/0", 9080, true },
        { "details", "details", "details", "/", 80, true },
        { "https://a.test?q=1#x", "a.test", "a.test", "/?q=1", 443, true },
        { "tcp://10.0.0.1:5432", "10.0.0.1", "10.0.0.1:5432", "/", 5432, false },
        { "http://[fd00::1]:8080/", "fd00::1", "[fd00::1]:8080", "/", 8080, true },
        { "http://[fd00::1]/", "fd00::1", "[fd00::1]", "/", 80, true },
    };
    static const char *const bad[] = { "ftp://a",        "http://", "http://a:0", "http://a:x",
                                       "http://a:65536", "tcp://a", "http://:80", "" };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct request r = { .port = 0 };
        assert_true(read_url(&r, cases[i].url, a, &err));
        assert_true(mz_str_eq(r.host, mz_str_c(cases[i].host)));
        assert_true(mz_str_eq(r.authority, mz_str_c(cases[i].authority)));
        assert_true(mz_str_eq(r.path, mz_str_c(cases[i].path)));
        assert_int_equal(r.port, cases[i].port);
        assert_int_equal(r.http, cases[i].http);
    }
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        struct request r = { .port = 0 };
        assert_false(read_url(&r, bad[i], a, &err));
    }
    mz_arena_destroy(a);
}

static void test_paths(void **state)
{
    (void)state;
    static const char text[] = "spec:\n"
                               "  http:\n"
                               "  - {name: a}\n"
                               "  - match:\n"
                               "    - {uri: x}\n"
                               "    - {uri: y}\n"
                               "  subsets:\n"
                               "  - {name: v1}\n"
                               "  ports:\n"
                               "  - {number: 80}\n";
    static const struct {
        const char *path;
        unsigned line;
    } cases[] = {
        { "spec.http[0]", 3 },          { "spec.http[1].match[1]", 6 },
        { "spec.subsets[name=v1]", 8 }, { "spec.ports[port|number=80]", 10 },
        { "spec.ports[port=80]", 0 },   { "spec.http[2]", 0 },
        { "spec.subsets[name=v2]", 0 }, { "spec.none[0]", 0 },
        { "spec.http[x]", 0 },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err;
    const struct mz_node *doc = mz_tree_read_yaml(a, mz_str_c(text), 0, &err);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_node *n = object_at(doc, cases[i].path);
        assert_int_equal(n ? n->line : 0, cases[i].line);
    }
    struct object_ref r;
    assert_true(object_of_config(
        MZ_STR("/apis/networking.istio.io/v1/namespaces/n/virtual-service/x"), a, &r));
    assert_true(mz_str_eq(r.kind, MZ_STR("VirtualService")) && mz_str_eq(r.ns, MZ_STR("n")) &&
                mz_str_eq(r.name, MZ_STR("x")));
    assert_false(object_of_config(MZ_STR("/apis/x"), a, &r));
    assert_false(object_of_config(MZ_STR(""), a, &r));
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_conditions),
                                        cmocka_unit_test(test_urls), cmocka_unit_test(test_paths) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
