#include "base/rand.h"
#include "base/test.h"

#include "observe/decision.h"
#include "route/route_priv.h"
#include "route/route_test.h"
#include <stdio.h>
#include <stdlib.h>

static void is_name(const struct mz_route *r, const char *name)
{
    if (!name) {
        assert_null(r);
        return;
    }
    assert_non_null(r);
    assert_int_equal(r->name.n, strlen(name));
    assert_memory_equal(r->name.p, name, r->name.n);
}

#define VHOST(name, domains)                                                                       \
    "- name: " name "\n  domains: [" domains "]\n  routes: [{name: " name                          \
    ", match: {prefix: /}, direct_response: {status: 200}}]\n"

static void test_domains(void **state) /* vhost-domain-order, C09 */
{
    static const struct {
        const char *host, *name;
    } cases[] = {
        { "www.example.test", "exact" },
        { "WWW.Example.TEST", "exact" },
        { "www.example.test:8080", "exactport" },
        { "www.example.test:81", "prel" },
        { "a.test", "sufs" },
        { "b.example.test", "sufl" },
        { "foo-bar.example.test", "sufd" },
        { "-bar.example.test", "sufl" },
        { "www.other", "pres" },
        { "www.example.org", "prel" },
        { "nothing", "star" },
        { "FOO-BAR.EXAMPLE.TEST", "sufd" },
        { "\xc1\xda@[`{.TEST", "sufs" },
        { "", "star" },
        { ".test", "star" },
        { "www.", "star" },
        { "www.example.test.", "prel" },
    };
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_build(
        &f, "name: t\nvirtual_hosts:\n" VHOST("star", "'*'") VHOST("exact", "www.example.test")
                VHOST("exactport", "'www.example.test:8080'") VHOST("sufs", "'*.test'")
                    VHOST("sufl", "'*.example.test'") VHOST("sufd", "'*-bar.example.test'")
                        VHOST("pres", "www.*") VHOST("prel", "www.example.*")));
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        is_name(fixture_get(&f, cases[i].host, "/", NULL), cases[i].name);
    fixture_fini(&f);
}

static void test_ports(void **state)
{
    static const struct {
        const char *host, *name;
    } cases[] = {
        { "a.test:1", "a" }, { "A.test", "a" },    { "[::1]:80", "six" },
        { "[::1]", "six" },  { "a.test:x", NULL }, { "b.test", NULL },
    };
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_build(&f, "ignore_port_in_host_matching: true\nvirtual_hosts:\n" VHOST(
                                      "a", "a.test") VHOST("six", "'[::1]'")));
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        is_name(fixture_get(&f, cases[i].host, "/", NULL), cases[i].name);
    fixture_fini(&f);
}

#define DIRECT "direct_response: {status: 200}"
static const char paths[] =
    "  - {name: exact, match: {path: /exact}, " DIRECT "}\n"
    "  - {name: nocase, match: {path: /CASE, case_sensitive: false}, " DIRECT "}\n"
    "  - {name: sep, match: {path_separated_prefix: /sep}, " DIRECT "}\n"
    "  - {name: regex, match: {safe_regex: {regex: '/re/[0-9]+'}}, " DIRECT "}\n"
    "  - {name: connect, match: {connect_matcher: {}}, " DIRECT "}\n"
    "  - {name: prefix, match: {prefix: /pre}, " DIRECT "}\n"
    "  - {name: never, match: {prefix: /prefix-later}, " DIRECT "}\n"
    "  - {name: template, match: {path_match_policy: {name: t, typed_config: {'@type': "
    "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, "
    "path_template: "
    "'/t/{a}/x'}}}, " DIRECT "}\n"
    "  - {name: exact-as-prefix, match: {prefix: /exact}, " DIRECT "}\n";

static void check_paths(struct fixture *f) /* route-match-path */
{
    static const struct {
        const char *path, *extra, *name;
    } cases[] = {
        { "/exact", NULL, "exact" },
        { "/exact?a=/b", NULL, "exact" },
        { "/exact/", NULL, "exact-as-prefix" },
        { "/EXACT", NULL, NULL },
        { "/case", NULL, "nocase" },
        { "/Case/", NULL, NULL },
        { "/sep", NULL, "sep" },
        { "/sep/", NULL, "sep" },
        { "/sep/a", NULL, "sep" },
        { "/sepa", NULL, NULL },
        { "/sep?x", NULL, "sep" },
        { "/re/12", NULL, "regex" },
        { "/re/12?q", NULL, "regex" },
        { "/re/12/", NULL, NULL },
        { "/re/", NULL, NULL },
        { "/pre", NULL, "prefix" },
        { "/prefix-later", NULL, "prefix" },
        { "/pr", NULL, NULL },
        { "/t/1/x", NULL, "template" },
        { "/t/1/2/x", NULL, NULL },
        { NULL, ":method: CONNECT", "connect" },
        { "/exact", ":method: CONNECT", "exact" },
        { NULL, NULL, NULL },
        { "/exact#frag", NULL, "exact" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        is_name(fixture_get(f, "h", cases[i].path, cases[i].extra), cases[i].name);
}

static void test_paths(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_routes(&f, paths));
    assert_non_null(((const struct vhost_priv *)f.t->vhosts[0].priv)
                        ->index); /* nine routes are enough for one */
    check_paths(&f);
    ((struct vhost_priv *)f.t->vhosts[0].priv)->index = NULL;
    check_paths(&f);
    fixture_fini(&f);
}

static void
test_conditions(void **state) /* route-match-headers, route-match-query, route-runtime-fraction */
{
    static const struct {
        const char *path, *extra, *name;
    } cases[] = {
        { "/e?q=1", NULL, "query" },
        { "/e?q=2", NULL, "rest" },
        { "/e?Q=1", NULL, "rest" },
        { "/e?a=b&q=1", NULL, "query" },
        { "/e?q=1&q=2", NULL, "query" },
        { "/e?q=2&q=1", NULL, "rest" },
        { "/e?q=%31", NULL, "rest" },
        { "/e?q=1#f", NULL, "query" },
        { "/p?q", NULL, "present" },
        { "/p?q=", NULL, "present" },
        { "/p", NULL, "rest" },
        { "/p?qq=1", NULL, "rest" },
        { "/h", "x-a: b", "header" },
        { "/h", "x-a: c", "rest" },
        { "/h", NULL, "rest" },
        { "/g", "content-type: application/grpc", "grpc" },
        { "/g", "content-type: application/grpc+proto", "grpc" },
        { "/g", "content-type: application/grpc-web", "rest" },
        { "/f", NULL, "fraction" },
        { "/n", NULL, "rest" },
        { "/tls", NULL, "rest" },
        { "/notls", NULL, "nocert" },
        { "/a", NULL, "absent" },
        { "/a?q", NULL, "rest" },
    };
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_routes(
        &f,
        "  - {name: query, match: {prefix: /e, query_parameters: [{name: q, string_match: {exact: "
        "'1'}}]}, " DIRECT "}\n"
        "  - {name: present, match: {prefix: /p, query_parameters: [{name: q, present_match: "
        "true}]}, " DIRECT "}\n"
        "  - {name: header, match: {prefix: /h, headers: [{name: x-a, string_match: {exact: "
        "b}}]}, " DIRECT "}\n"
        "  - {name: grpc, match: {prefix: /g, grpc: {}}, " DIRECT "}\n"
        "  - {name: fraction, match: {prefix: /f, runtime_fraction: {default_value: {numerator: "
        "100}}}, " DIRECT "}\n"
        "  - {name: nothing, match: {prefix: /n, runtime_fraction: {default_value: {numerator: "
        "0}}}, " DIRECT "}\n"
        "  - {name: cert, match: {prefix: /tls, tls_context: {presented: true}}, " DIRECT "}\n"
        "  - {name: nocert, match: {prefix: /notls, tls_context: {validated: false}}, " DIRECT "}\n"
        "  - {name: absent, match: {prefix: /a, query_parameters: [{name: q, present_match: "
        "false}]}, " DIRECT "}\n"
        "  - {name: rest, match: {prefix: /}, " DIRECT "}\n"));
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        is_name(fixture_get(&f, "h", cases[i].path, cases[i].extra), cases[i].name);
    fixture_fini(&f);
}

/* Whatever the routes, the index finds what a linear search finds. */
static void test_index_is_linear_search(void **state)
{
    static const char *const kinds[] = { "prefix", "path", "path_separated_prefix" };
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 7);
    struct fixture f;
    fixture_init(&f);
    for (unsigned round = 0; round < 20; round++) {
        struct mz_buf yaml;
        mz_buf_init(&yaml);
        for (unsigned i = 0; i < 60; i++) {
            mz_buf_printf(&yaml, "  - {name: r%u, match: {%s: /", i, kinds[mz_rand_below(&r, 3)]);
            for (uint64_t n = 1 + mz_rand_below(&r, 4); n > 0; n--)
                mz_buf_printf(&yaml, "%s", mz_rand_below(&r, 3) ? "a" : n > 1 ? "/b" : "b");
            mz_buf_printf(&yaml, ", case_sensitive: %s}, " DIRECT "}\n",
                          mz_rand_below(&r, 8) ? "true" : "false");
        }
        mz_buf_append(&yaml, "", 1);
        assert_true(fixture_routes(&f, mz_buf_linearize(&yaml, mz_buf_len(&yaml)).p));
        mz_buf_fini(&yaml);
        struct vhost_priv *p = f.t->vhosts[0].priv;
        struct route_index *index = p->index;
        assert_non_null(index);
        for (unsigned i = 0; i < 200; i++) {
            char path[16] = "/";
            for (size_t n = 1 + mz_rand_below(&r, 8), k = 1; k < n; k++)
                path[k] = "abA/"[mz_rand_below(&r, 4)];
            p->index = index;
            const struct mz_route *by_index = fixture_get(&f, "h", path, NULL);
            p->index = NULL;
            assert_ptr_equal(by_index, fixture_get(&f, "h", path, NULL));
        }
    }
    fixture_fini(&f);
}

static void test_require_tls(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_build(&f, "virtual_hosts:\n- {name: v, domains: [all], require_tls: ALL, "
                                  "routes: [{name: r, match: {prefix: /}, " DIRECT
                                  "}]}\n- {name: e, domains: [ext], require_tls: EXTERNAL_ONLY, "
                                  "routes: [{name: r, match: {prefix: /}, " DIRECT "}]}\n"));
    const struct mz_route *r = fixture_get(&f, "all", "/a?b", NULL);
    assert_int_equal(r->action, MZ_ACTION_REDIRECT);
    assert_int_equal(r->status, 301);
    mz_route_rewrite_redirected(r, f.h, f.a, false);
    struct mz_str to = mz_route_redirect_location(r, f.h, f.a);
    assert_string_equal(to.p, "https://all/a?b");
    is_name(fixture_get(&f, "all", "/a", "x-forwarded-proto: https"), "r");
    is_name(fixture_get(&f, "ext", "/a", "x-envoy-internal: true"), "r");
    assert_int_equal(fixture_get(&f, "ext", "/a", NULL)->action, MZ_ACTION_REDIRECT);
    fixture_fini(&f);
}

static void test_story(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct mz_decision d = { 0 };
    assert_true(fixture_routes(
        &f, "  - {name: a, match: {path: /a}, " DIRECT "}\n"
            "  - {name: b, match: {path: /b}, " DIRECT "}\n"
            "  - {name: c, match: {prefix: /x, headers: [{name: x-a}]}, " DIRECT "}\n"
            "  - {name: d, match: {prefix: /d}, " DIRECT "}\n"
            "  - {name: e, match: {prefix: /x}, " DIRECT "}\n"));
    f.decision = &d;
    is_name(fixture_get(&f, "h", "/x", NULL), "e");
    static const struct {
        enum mz_step_kind kind;
        const char *b;
        int64_t n;
    } expected[] = {
        { MZ_STEP_VHOST, "h", 0 },
        { MZ_STEP_NOT_ROUTE, "path /b", 1 },
        { MZ_STEP_NOT_ROUTE, "header x-a present", 2 },
        { MZ_STEP_NOT_ROUTE, "prefix /d", 3 },
        { MZ_STEP_MORE_ROUTES, "", 1 },
        { MZ_STEP_ROUTE, "prefix /x", 4 },
    };
    assert_int_equal(d.n, MZ_COUNT(expected));
    for (size_t i = 0; i < MZ_COUNT(expected); i++) {
        assert_int_equal(d.v[i].kind, expected[i].kind);
        assert_true(mz_str_eq(d.v[i].b, mz_str_c(expected[i].b)));
        assert_int_equal(d.v[i].n, expected[i].n);
    }
    fixture_fini(&f);
}

static void test_vclusters(void **state) /* stats-virtual-cluster */
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_build(
        &f, "virtual_hosts:\n- name: all\n  domains: ['*']\n  routes:\n"
            "  - {match: {prefix: /users}, route: {cluster: one}, stat_prefix: users_route}\n"
            "  virtual_clusters:\n"
            "  - {name: users_get, headers: [{name: ':path', string_match: {prefix: /users}}, "
            "{name: ':method', string_match: {exact: GET}}]}\n"));
    const struct mz_route *r = fixture_get(&f, "h", "/users/1", NULL);
    struct mz_str name;
    assert_true(mz_str_eq(r->scope->prefix, MZ_STR("vhost.all.route.users_route.")));
    assert_true(mz_str_eq(mz_vhost_vcluster(r->vhost, f.h, &name)->prefix,
                          MZ_STR("vhost.all.vcluster.users_get.")));
    assert_true(mz_str_eq(name, MZ_STR("users_get")));
    (void)fixture_get(&f, "h", "/other", NULL);
    assert_true(mz_str_eq(mz_vhost_vcluster(r->vhost, f.h, &name)->prefix,
                          MZ_STR("vhost.all.vcluster.other.")));
    fixture_fini(&f);
}

static void test_memory(void **state) /* issue 3: 5,000 virtual hosts */
{
    (void)state;
    enum { N = 5000 };
    struct fixture f;
    fixture_init(&f);
    struct mz_buf yaml;
    mz_buf_init(&yaml);
    mz_buf_printf(&yaml, "virtual_hosts:\n");
    for (unsigned i = 0; i < N; i++)
        mz_buf_printf(&yaml,
                      "- {name: service-%u, domains: [service-%u.default.svc.cluster.local], "
                      "routes: [{match: {prefix: /}, "
                      "route: {cluster: outbound-80-service-%u}}]}\n",
                      i, i, i);
    mz_buf_append(&yaml, "", 1);
    struct mz_mem_count before[MZ_MEM__COUNT], after[MZ_MEM__COUNT];
    mz_mem_counts(before);
    assert_true(fixture_build(&f, mz_buf_linearize(&yaml, mz_buf_len(&yaml)).p));
    mz_mem_counts(after);
    mz_buf_fini(&yaml);
    int64_t each = (after[MZ_MEM_CONFIG].bytes - before[MZ_MEM_CONFIG].bytes) / N;
    print_message("a virtual host with one route: %d bytes\n", (int)each);
    assert_true(each < 1024);
    assert_non_null(fixture_get(&f, "service-4999.default.svc.cluster.local", "/", NULL));
    assert_null(fixture_get(&f, "service-5000.default.svc.cluster.local", "/", NULL));
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_index_is_linear_search),
        cmocka_unit_test(test_require_tls),
        cmocka_unit_test(test_story),
        cmocka_unit_test(test_vclusters),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
