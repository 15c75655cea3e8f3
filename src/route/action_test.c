#include "base/test.h"

#include "observe/stream_info.h"
#include "route/route_priv.h"
#include "route/route_test.h"
#include <stdio.h>

static const struct mz_route *begin(struct fixture *f, const char *routes, const char *path,
                                    const char *extra)
{
    fixture_init(f);
    if (!fixture_routes(f, routes))
        fail_msg("%s: %s", f->err.path, f->err.msg);
    const struct mz_route *r = fixture_get(f, "example.test", path, extra);
    assert_non_null(r);
    return r;
}

static void finalize(struct fixture *f, const struct mz_route *r,
                     const struct mz_weighted_cluster *w)
{
    struct mz_stream_info info = { .arena = f->a };
    struct mz_format_ctx c = { .info = &info, .req = f->h };
    mz_route_finalize_request(r, w, f->h, &c, f->a, true);
}

static void same(const char *is, const char *expected)
{
    if (!expected)
        assert_null(is);
    else if (!is)
        fail_msg("nothing instead of %s", expected);
    else
        assert_string_equal(is, expected);
}

static void test_redirects(void **state) /* redirect-kinds, direct-response */
{
    static const struct {
        const char *action, *path, *extra, *to;
        unsigned status;
    } cases[] = {
        { "redirect: {host_redirect: new.test}", "/p/a?b=c", NULL, "http://new.test/p/a?b=c", 301 },
        { "redirect: {path_redirect: /landing}", "/p?y=1", NULL, "http://example.test/landing?y=1",
          301 },
        { "redirect: {path_redirect: '/q?fixed=1', strip_query: true}", "/p?x=1", NULL,
          "http://example.test/q?fixed=1", 301 },
        { "redirect: {prefix_rewrite: /n}", "/p/rest?z", NULL, "http://example.test/n/rest?z",
          301 },
        { "redirect: {https_redirect: true}", "/p", NULL, "https://example.test/p", 301 },
        { "redirect: {https_redirect: true}", "/p",
          ":authority: example.test:80\nx-forwarded-proto: http", "https://example.test/p", 301 },
        { "redirect: {https_redirect: true}", "/p",
          ":authority: example.test:8080\nx-forwarded-proto: http", "https://example.test:8080/p",
          301 },
        { "redirect: {https_redirect: true}", "/p", ":authority: [::1]:80\nx-forwarded-proto: http",
          "https://[::1]/p", 301 },
        { "redirect: {https_redirect: true}", "/p", ":authority: [::1]\nx-forwarded-proto: http",
          "https://[::1]/p", 301 },
        { "redirect: {port_redirect: 8443}", "/p", ":authority: example.test:80",
          "http://example.test:8443/p", 301 },
        { "redirect: {scheme_redirect: ftp}", "/p", NULL, "ftp://example.test/p", 301 },
        { "redirect: {path_redirect: /s, strip_query: true}", "/p?a", NULL, "http://example.test/s",
          301 },
        { "redirect: {strip_query: true}", "/p?a", NULL, "http://example.test/p", 301 },
        { "redirect: {path_redirect: /x, response_code: FOUND}", "/p", NULL,
          "http://example.test/x", 302 },
        { "redirect: {path_redirect: /x, response_code: PERMANENT_REDIRECT}", "/p", NULL,
          "http://example.test/x", 308 },
        { "redirect: {regex_rewrite: {pattern: {regex: '^/p/(\\w+)/(\\w+)'}, substitution: "
          "'/\\2/\\1'}}",
          "/p/one/two?q=3", NULL, "http://example.test/two/one?q=3", 301 },
        { "redirect: {host_redirect: h.test, https_redirect: true, path_redirect: /p, strip_query: "
          "true, port_redirect: 444}",
          "/p?a", NULL, "https://h.test:444/p", 301 },
        { "direct_response: {status: 201}", "/p?a", NULL, "http://example.test/p?a", 201 },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml =
            mz_arena_printf(f.a, "  - {match: {prefix: /p}, %s}\n", cases[i].action);
        assert_true(fixture_routes(&f, yaml.p));
        const struct mz_route *r = fixture_get(&f, "example.test", cases[i].path, NULL);
        struct mz_str rest = mz_str_c(cases[i].extra);
        for (struct mz_str line; mz_str_split(&rest, '\n', &line);) {
            ptrdiff_t blank = mz_str_chr(line, ' ');
            mz_headers_set(f.h, (struct mz_str){ line.p, (size_t)blank - 1 },
                           mz_str_skip(line, (size_t)blank + 1));
        }
        assert_int_equal(r->status, cases[i].status);
        mz_route_rewrite_redirected(r, f.h, f.a, false);
        same(mz_route_redirect_location(r, f.h, f.a).p, cases[i].to);
        fixture_fini(&f);
    }
}

#define TEMPLATE                                                                                   \
    "path_match_policy: {name: t, typed_config: {'@type': "                                        \
    "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, "     \
    "path_template: '/t/{lang}/{rest=**}'}}"
#define REWRITE                                                                                    \
    "path_rewrite_policy: {name: t, typed_config: {'@type': "                                      \
    "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, " \
    "path_template_rewrite: '/x/{rest}/{lang}'}}"

static void test_path_rewrites(void **state) /* rewrite-path */
{
    static const struct {
        const char *match, *action, *path, *to, *original;
    } cases[] = {
        { "prefix: /p/", "prefix_rewrite: /new/", "/p/a/b?c=1", "/new/a/b?c=1", "/p/a/b?c=1" },
        { "prefix: /p/", "prefix_rewrite: /new/", "/p/", "/new/", "/p/" },
        { "path: /e", "prefix_rewrite: /exactly", "/e?x", "/exactly?x", "/e?x" },
        { "prefix: /slash", "prefix_rewrite: /", "/slash/a", "//a", "/slash/a" },
        { "prefix: /slash", "prefix_rewrite: /", "/slash", "/", "/slash" },
        { "prefix: /r", "regex_rewrite: {pattern: {regex: '/r/(\\d+)'}, substitution: '/n-\\1-n'}",
          "/r/12/34?q=/r/5", "/n-12-n/34?q=/r/5", "/r/12/34?q=/r/5" },
        { "prefix: /r", "regex_rewrite: {pattern: {regex: '/r/(\\d+)'}, substitution: '/n'}",
          "/r/x", "/r/x", "/r/x" },
        { "path_separated_prefix: /sep", "prefix_rewrite: /other", "/sep/y", "/other/y", "/sep/y" },
        { "path_separated_prefix: /sep", "prefix_rewrite: /other", "/sep", "/other", "/sep" },
        { TEMPLATE, REWRITE, "/t/en/a/b?z", "/x/a/b/en?z", "/t/en/a/b?z" },
        { "safe_regex: {regex: '/whole/.*'}", "prefix_rewrite: /w", "/whole/thing?k=v", "/w?k=v",
          "/whole/thing?k=v" },
        { "prefix: /fmt", "path_rewrite: '/x/%REQ(:method)%'", "/fmt/a?b=c", "/x/GET?b=c",
          "/fmt/a?b=c" },
        { "prefix: /fmt", "path_rewrite: '/x/%REQ(x-a)%'", "/fmt/a?b=c", "/x/?b=c", "/fmt/a?b=c" },
        { "prefix: /", "timeout: 1s", "/plain?a", "/plain?a", NULL },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(f.a, "  - {match: {%s}, route: {cluster: one, %s}}\n",
                                             cases[i].match, cases[i].action);
        if (!fixture_routes(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        const struct mz_route *r = fixture_get(&f, "h", cases[i].path, NULL);
        assert_non_null(r);
        finalize(&f, r, NULL);
        same(fixture_header(&f, ":path"), cases[i].to);
        same(fixture_header(&f, "x-envoy-original-path"), cases[i].original);
        fixture_fini(&f);
    }
}

static void test_host_rewrites(void **state) /* rewrite-host */
{
    static const struct {
        const char *action, *extra, *host, *original, *forwarded;
    } cases[] = {
        { "host_rewrite_literal: lit.test, append_x_forwarded_host: true", NULL, "lit.test",
          "example.test", "example.test" },
        { "host_rewrite_literal: lit.test, append_x_forwarded_host: true",
          "x-forwarded-host: before.test", "lit.test", "example.test", "before.test,example.test" },
        { "host_rewrite_header: X-To", "x-to: from-header.test", "from-header.test", "example.test",
          NULL },
        { "host_rewrite_header: x-to", NULL, "example.test", NULL, NULL },
        { "host_rewrite_path_regex: {pattern: {regex: '^/rx/(\\w+)/.*$'}, substitution: "
          "'\\1.rx.test'}",
          NULL, "abc.rx.test", "example.test", NULL },
        { "auto_host_rewrite: true", NULL, "example.test", NULL, NULL },
        { "host_rewrite: '%REQ(x-to)%.test'", "x-to: fmt", "fmt.test", "example.test", NULL },
        { "host_rewrite: '%REQ(x-to)%'", NULL, "-", "example.test", NULL },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(
            f.a, "  - {match: {prefix: /}, route: {cluster: one, %s}}\n", cases[i].action);
        if (!fixture_routes(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        const struct mz_route *r = fixture_get(&f, "example.test", "/rx/abc/d?e", cases[i].extra);
        finalize(&f, r, NULL);
        same(fixture_header(&f, ":authority"), cases[i].host);
        same(fixture_header(&f, "x-envoy-original-host"), cases[i].original);
        same(fixture_header(&f, "x-forwarded-host"), cases[i].forwarded);
        fixture_fini(&f);
    }
}

static const char levels[] =
    "name: local\n%s"
    "request_headers_to_add: [{header: {key: x-all, value: table}}, {header: {key: x-over, value: "
    "table}, "
    "append_action: OVERWRITE_IF_EXISTS_OR_ADD}]\n"
    "virtual_hosts:\n- name: all\n  domains: ['*']\n"
    "  request_headers_to_add: [{header: {key: x-all, value: vhost}}]\n"
    "  routes:\n  - match: {prefix: /}\n    route: {cluster: one}\n"
    "    request_headers_to_add:\n"
    "    - {header: {key: x-all, value: route}}\n"
    "    - {header: {key: User-Agent, value: more}}\n"
    "    - {header: {key: x-over, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}\n"
    "    - {header: {key: x-ifabsent, value: route}, append_action: ADD_IF_ABSENT}\n"
    "    - {header: {key: x-ifexists, value: route}, append_action: OVERWRITE_IF_EXISTS}\n"
    "    - {header: {key: x-false, value: route}, append: false}\n"
    "    - {header: {key: x-copy, value: '%%REQ(x-in)%%'}}\n"
    "    - {header: {key: x-none, value: '%%REQ(x-nothing)%%'}}\n"
    "    - {header: {key: x-kept, value: ''}, keep_empty_value: true}\n"
    "    request_headers_to_remove: [X-Drop]\n";

static void test_mutations(void **state) /* header-mutation-levels, header-mutation-most-specific */
{
    static const char request[] =
        "x-all: client\nx-over: client\nx-drop: d\nx-ifabsent: client\nx-ifexists: client\n"
        "x-false: client\nx-in: abc";
    static const struct {
        const char *config, *request, *name, *value;
    } cases[] = {
        { "", request, "x-all", "client|route|vhost|table" },
        { "most_specific_header_mutations_wins: true\n", request, "x-all",
          "client|table|vhost|route" },
        { "", request, "x-over", "table" },
        { "most_specific_header_mutations_wins: true\n", request, "x-over", "route" },
        { "", request, "x-drop", NULL },
        { "", request, "x-ifabsent", "client" },
        { "", NULL, "x-ifabsent", "route" },
        { "", request, "x-ifexists", "route" },
        { "", NULL, "x-ifexists", NULL },
        { "", request, "x-false", "route" },
        { "", request, "x-copy", "abc" },
        { "", request, "x-none", NULL },
        { "", request, "x-kept", "" },
        { "", "user-agent: ua", "user-agent", "ua,more" },
        { "", NULL, "user-agent", "more" },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(f.a, levels, cases[i].config);
        if (!fixture_build(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        finalize(&f, fixture_get(&f, "h", "/", cases[i].request), NULL);
        same(fixture_header(&f, cases[i].name), cases[i].value);
        fixture_fini(&f);
    }
}

static void test_weighted(void **state) /* weighted-clusters */
{
    static const struct {
        const char *clusters, *more, *extra;
        uint64_t random;
        const char *cluster;
    } cases[] = {
        { "{name: one, weight: 0}, {name: two, weight: 100}", "", NULL, 0, "two" },
        { "{name: one, weight: 10}, {name: two, weight: 90}", "", NULL, 9, "one" },
        { "{name: one, weight: 10}, {name: two, weight: 90}", "", NULL, 10, "two" },
        { "{name: one, weight: 10}, {name: two, weight: 90}", "", NULL, 109, "one" },
        { "{name: one, weight: 1}, {name: two, weight: 1}", ", header_name: X-Rand", "x-rand: 3", 0,
          "two" },
        { "{name: one, weight: 1}, {name: two, weight: 1}", ", header_name: x-rand",
          "x-rand: 2\nx-rand: 3", 1, "two" },
        { "{name: one, weight: 1}, {name: two, weight: 1}", ", header_name: x-rand", "x-rand: junk",
          0, "one" },
        { "{name: one, weight: 10}, {name: two, weight: 90}", ", runtime_key_prefix: w", NULL, 0,
          "two" },
        { "{cluster_header: x-to, weight: 1}", "", "x-to: named", 0, "named" },
        { "{cluster_header: x-to, weight: 1}", "", NULL, 0, NULL },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(
            f.a, "  - {match: {prefix: /}, route: {weighted_clusters: {clusters: [%s]%s}}}\n",
            cases[i].clusters, cases[i].more);
        if (!fixture_routes(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        f.q.random = cases[i].random;
        const struct mz_route *r = fixture_get(&f, "h", "/", cases[i].extra);
        struct mz_str name;
        const struct mz_weighted_cluster *w;
        assert_int_equal(mz_route_cluster(r, &f.q, &name, &w), cases[i].cluster != NULL);
        assert_non_null(w);
        if (cases[i].cluster)
            assert_true(mz_str_eq(name, mz_str_c(cases[i].cluster)));
        fixture_fini(&f);
    }
}

static void test_hash(void **state) /* lb-hash-cookie, lb-ring-hash-header */
{
    static const uint64_t v2 =
        17234765554138278603ull; /* Envoy's xxHash64 of "v2" (SURPRISES: version gauges) */
    static const struct {
        const char *policy, *path, *extra;
        bool have;
        uint64_t hash;
    } cases[] = {
        { "{header: {header_name: X-K}}", "/", "x-k: v2", true, v2 },
        { "{header: {header_name: x-k}}", "/", NULL, false, 0 },
        { "{header: {header_name: x-k}}", "/", "x-k: 2\nx-k: 1", true, 0 },
        { "{header: {header_name: x-k, regex_rewrite: {pattern: {regex: '^.*-'}, substitution: "
          "''}}}",
          "/", "x-k: a-v2", true, v2 },
        { "{cookie: {name: s}}", "/", "cookie: a=b; s=v2; c", true, v2 },
        { "{cookie: {name: s}}", "/", "cookie: a=b\ncookie: s=\"v2\"", true, v2 },
        { "{cookie: {name: s}}", "/", "cookie: ss=v2", false, 0 },
        { "{query_parameter: {name: q}}", "/?a=1&q=v2", NULL, true, v2 },
        { "{query_parameter: {name: q}}", "/?a=1", NULL, false, 0 },
        { "{connection_properties: {source_ip: false}}", "/", NULL, false, 0 },
        { "{header: {header_name: x-k}, terminal: true}, {query_parameter: {name: q}}", "/?q=1",
          "x-k: v2", true, v2 },
        { "{header: {header_name: x-k}}, {header: {header_name: x-k}}", "/", "x-k: v2", true,
          ((v2 << 1) | (v2 >> 63)) ^ v2 },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(
            f.a, "  - {match: {prefix: /}, route: {cluster: one, hash_policy: [%s]}}\n",
            cases[i].policy);
        if (!fixture_routes(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        uint64_t hash = 0,
                 expected = cases[i].hash ? cases[i].hash : mz_xxh64("2", 1, mz_xxh64("1", 1, 0));
        struct mz_str cookie;
        const struct mz_route *r = fixture_get(&f, "h", cases[i].path, cases[i].extra);
        const struct mz_hash_from nobody = { 0 };
        assert_int_equal(mz_route_hash(r, f.h, &nobody, f.a, &hash, &cookie), cases[i].have);
        assert_true(!cases[i].have || hash == expected);
        assert_int_equal(cookie.n, 0);
        fixture_fini(&f);
    }
}

static uint64_t seven(const struct mz_filter_object *o)
{
    (void)o;
    return 7;
}

static void test_hash_of_filter_state(void **state)
{
    (void)state;
    struct fixture f;
    const struct mz_route *r = begin(&f,
                                     "  - {match: {prefix: /}, route: {cluster: one, hash_policy: "
                                     "[{filter_state: {key: k}}]}}\n",
                                     "/", NULL);
    struct mz_stream_info info = { .arena = f.a };
    struct mz_filter_object plain = { .text = NULL }, hashed = { .hash = seven, .read_only = true };
    struct mz_hash_from from = { 0 };
    struct mz_str cookie;
    uint64_t hash;
    assert_false(mz_route_hash(r, f.h, &from, f.a, &hash, &cookie)); /* there is no state */
    mz_info_set_state(&info, MZ_STR("k"), &plain);
    from.state = info.filter_state;
    assert_false(mz_route_hash(r, f.h, &from, f.a, &hash, &cookie)); /* it has no hash */
    mz_info_set_state(&info, MZ_STR("k"), &hashed);
    mz_info_set_state(&info, MZ_STR("k"), &plain); /* the other one is read-only */
    assert_true(mz_route_hash(r, f.h, &from, f.a, &hash, &cookie) && hash == 7);
    fixture_fini(&f);
}

static void test_hash_cookie_is_made(void **state) /* lb-hash-cookie */
{
    (void)state;
    struct fixture f;
    const struct mz_route *r = begin(&f,
                                     "  - {match: {prefix: /}, route: {cluster: one, hash_policy: "
                                     "[{cookie: {name: sess, ttl: 60s, path: /p, attributes: "
                                     "[{name: SameSite, value: Lax}, {name: Secure}]}}, "
                                     "{connection_properties: {source_ip: true}}]}}\n",
                                     "/", NULL);
    struct mz_addr peer, local;
    struct mz_str cookie, again;
    uint64_t hash, hash2;
    assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.1"), 1234, &peer));
    assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.2"), 80, &local));
    const struct mz_hash_from from = { &peer, &peer, &local, NULL };
    assert_true(mz_route_hash(r, f.h, &from, f.a, &hash, &cookie));
    assert_true(mz_route_hash(r, f.h, &from, f.a, &hash2, &again));
    assert_true(hash == hash2 && mz_str_eq(cookie, again)); /* the same for the whole connection */
    struct mz_str both = MZ_STR("127.0.0.1:1234127.0.0.2:80");
    struct mz_str value =
        mz_arena_printf(f.a, "sess=\"%016llx\"", (unsigned long long)mz_xxh64(both.p, both.n, 0));
    assert_true(mz_str_starts(cookie, value));
    assert_true(
        mz_str_ends(cookie, MZ_STR("\"; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly")));
    uint64_t of_cookie = mz_xxh64(cookie.p + 6, 16, 0), of_ip = mz_xxh64("127.0.0.1", 9, 0);
    assert_true(hash == (((of_cookie << 1) | (of_cookie >> 63)) ^ of_ip));
    fixture_fini(&f);
}

static void test_policies(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_true(fixture_build(
        &f, "virtual_hosts:\n- name: all\n  domains: ['*']\n  retry_policy: {retry_on: 5xx, "
            "num_retries: 7}\n"
            "  hedge_policy: {hedge_on_per_try_timeout: true}\n  request_mirror_policies: "
            "[{cluster: shadow}]\n"
            "  per_request_buffer_limit_bytes: 5\n"
            "  routes:\n"
            "  - match: {path: /own}\n    route:\n      cluster: one\n      retry_policy: "
            "{retry_on: reset}\n"
            "      request_mirror_policies: [{cluster: a, runtime_fraction: {default_value: "
            "{numerator: 1, denominator: MILLION}}}, "
            "{cluster: b}]\n      internal_redirect_policy: {redirect_response_codes: [302, 307, "
            "404, 302], max_internal_redirects: 3, "
            "predicates: [{name: p, typed_config: {'@type': "
            "type.googleapis.com/"
            "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig}}]}\n"
            "      upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT, "
            "connect_config: {allow_post: true}}]\n"
            "      max_stream_duration: {max_stream_duration: 2s}\n      priority: HIGH\n    "
            "request_body_buffer_limit: 9\n"
            "    typed_per_filter_config:\n      hc: {'@type': "
            "type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}\n"
            "  - {match: {prefix: /}, route: {cluster: one}}\n"));
    const struct mz_route *own = fixture_get(&f, "h", "/own", NULL),
                          *rest = fixture_get(&f, "h", "/", NULL);
    assert_int_equal(rest->retry->num_retries, 7);
    assert_int_equal(own->retry->num_retries, 1);
    assert_true(own->hedge->on_per_try_timeout && rest->hedge->on_per_try_timeout);
    assert_int_equal(rest->n_mirrors, 1);
    assert_int_equal(own->n_mirrors, 2);
    assert_int_equal(own->mirrors[0].fraction.denominator, 1000000);
    assert_true(own->internal_redirect->enabled && own->internal_redirect->previous_routes);
    assert_int_equal(own->internal_redirect->n_codes, 2);
    assert_int_equal(own->internal_redirect->max, 3);
    assert_false(rest->internal_redirect->enabled);
    assert_int_equal(own->n_upgrades, 2);
    assert_true(own->connect_terminates && own->upgrades[1].allow_post && own->upgrades[0].enabled);
    assert_true(own->max_stream_duration.set && own->max_stream_duration.ms == 2000 &&
                own->priority_high);
    assert_false(rest->max_stream_duration.set);
    assert_int_equal(own->buffer_limit, 9);
    assert_int_equal(rest->buffer_limit, 5);
    assert_int_equal(own->overrides.n, 1);
    assert_true(own->overrides.v[0].disabled && !own->overrides.v[0].cfg);
    assert_int_equal(rest->timeout_ms, 15000);
    fixture_fini(&f);
}

static void test_errors(void **state) /* reference/validate 13 14 20 28-39 64 66 67 */
{
    static const struct {
        const char *route, *path, *part; /* path NULL: accepted */
    } cases[] = {
        { "{match: {prefix: /}, route: {cluster: ghost}}", "route.cluster",
          "unknown cluster 'ghost'" },
        { "{match: {safe_regex: {regex: 'a(b'}}, route: {cluster: one}}", "match.safe_regex.regex",
          "missing )" },
        { "{match: {prefix: /}, route: {cluster: one, prefix_rewrite: /a, regex_rewrite: {pattern: "
          "{regex: a}, substitution: b}}}",
          "route", "only one of prefix_rewrite, regex_rewrite" },
        { "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: one, weight: 0}]}}}",
          "route.weighted_clusters", "must be greater than 0" },
        { "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: one, weight: 1}, "
          "{name: ghost, weight: 1}]}}}",
          "route.weighted_clusters.clusters[1].name", "unknown cluster 'ghost'" },
        { "{match: {prefix: /}, route: {cluster: one}, request_headers_to_add: [{header: {key: "
          "':path', value: a}}]}",
          "request_headers_to_add[0].header.key", "may not be modified" },
        { "{match: {prefix: /}, route: {cluster: one}, request_headers_to_remove: [a, Host]}",
          "request_headers_to_remove[1]", "may not be removed" },
        { "{match: {prefix: /}, route: {cluster: one}, response_headers_to_add: [{header: {key: x, "
          "value: '%NOPE%'}}]}",
          "response_headers_to_add[0].header.value", "NOPE" },
        { "{match: {prefix: /}, route: {cluster: one}, request_headers_to_add: [{header: {key: x, "
          "value: a}, append: true, "
          "append_action: ADD_IF_ABSENT}]}",
          "request_headers_to_add[0]", "append and append_action are both set" },
        { "{match: {prefix: /, runtime_fraction: {default_value: {numerator: 101}}}, route: "
          "{cluster: one}}",
          NULL, NULL },
        { "{match: {path_separated_prefix: /a/}, route: {cluster: one}}",
          "match.path_separated_prefix", "" },
        { "{match: {prefix: /}, direct_response: {status: 200, body: {environment_variable: "
          "MZ_NO_SUCH}}}",
          "direct_response.body", "'MZ_NO_SUCH' is not set" },
        { "{match: {prefix: /}, direct_response: {status: 200, body: {filename: /no/such}}}",
          "direct_response.body.filename", "No such file" },
        { "{match: {prefix: /}, route: {cluster: one, retry_policy: {retry_back_off: "
          "{base_interval: 1s, max_interval: 0.5s}}}}",
          "route.retry_policy.retry_back_off", "max_interval is 500 ms" },
        { "{match: {prefix: /}, route: {cluster: one, upgrade_configs: [{upgrade_type: a}, "
          "{upgrade_type: A}]}}",
          "route.upgrade_configs[1]", "twice" },
        { "{match: {prefix: /}, route: {cluster: one, upgrade_configs: [{upgrade_type: a, "
          "connect_config: {}}]}}",
          "route.upgrade_configs[0]", "CONNECT only" },
        { "{match: {prefix: /}, route: {cluster: one, regex_rewrite: {pattern: {regex: a}, "
          "substitution: '\\1'}}}",
          NULL, NULL },
        { "{match: {prefix: /}, route: {cluster: one, " REWRITE "}}", "route.path_rewrite_policy",
          "needs a match by" },
        { "{match: {prefix: /}, route: {cluster: one, request_mirror_policies: [{cluster: "
          "ghost}]}}",
          "route.request_mirror_policies[0].cluster", "unknown cluster" },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        char path[256];
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(f.a, "  - %s\n", cases[i].route);
        bool ok = fixture_routes(&f, yaml.p);
        if (ok != !cases[i].path || (!ok && !strstr(f.err.msg, cases[i].part)))
            fail_msg("case %zu: %s: %s", i, f.err.path, f.err.msg);
        snprintf(path, sizeof(path), "virtual_hosts[0].routes[0].%s",
                 cases[i].path ? cases[i].path : "");
        if (!ok)
            assert_string_equal(f.err.path, path);
        fixture_fini(&f);
    }
}

static void test_table_errors(void **state)
{
    static const struct {
        const char *yaml, *path, *part;
    } cases[] = {
        { "virtual_hosts: [{name: a, domains: ['*']}, {name: b, domains: ['*']}]",
          "virtual_hosts[1].domains[0]", "belongs to virtual host 'a'" },
        { "virtual_hosts: [{name: a, domains: [x.test]}, {name: b, domains: [X.test]}]",
          "virtual_hosts[1].domains[0]", "twice" },
        { "virtual_hosts: [{name: a, domains: ['*.x', '*.X']}]", "virtual_hosts[0].domains[1]",
          "twice" },
        { "virtual_hosts: [{name: a, domains: ['*x*']}]", "virtual_hosts[0].domains[0]",
          "both ends" },
        { "validate_clusters: false\nvirtual_hosts: [{name: a, domains: [b], routes: [{match: "
          "{prefix: /}, route: {cluster: ghost}}]}, "
          "{name: a, domains: [a]}]",
          NULL, NULL },
        { "max_direct_response_body_size_bytes: 3\nvirtual_hosts: [{name: a, domains: [b], routes: "
          "[{match: {prefix: /}, "
          "direct_response: {status: 200, body: {inline_string: four}}}]}]",
          "virtual_hosts[0].routes[0].direct_response", "is 3" },
        { "typed_per_filter_config: {x: {'@type': "
          "type.googleapis.com/envoy.config.route.v3.FilterConfig}}",
          "typed_per_filter_config[\"x\"]", "config is required" },
        { "typed_per_filter_config: {x: {'@type': "
          "type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: "
          "{'@type': type.googleapis.com/envoy.config.core.v3.Metadata}}}",
          NULL, NULL },
        { "typed_per_filter_config: {x: {'@type': "
          "type.googleapis.com/envoy.config.core.v3.Metadata}}",
          "typed_per_filter_config[\"x\"]", "no filter has" },
        { "typed_per_filter_config: {not-there: {'@type': "
          "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, "
          "pass_through_mode: true}}",
          NULL, NULL },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        bool ok = fixture_build(&f, cases[i].yaml);
        if (ok != !cases[i].path || (!ok && !strstr(f.err.msg, cases[i].part)))
            fail_msg("case %zu: %s: %s", i, f.err.path, f.err.msg);
        if (!ok)
            assert_string_equal(f.err.path, cases[i].path);
        fixture_fini(&f);
    }
}

static void test_ops(void **state)
{
    (void)state;
    struct fixture f;
    const struct mz_route *r = begin(
        &f,
        "  - {match: {prefix: /}, route: {cluster: one, request_mirror_policies: [{cluster: s, "
        "request_headers_mutations: [{append: {header: {key: x-a, value: '1'}}}, {remove: x-a}, "
        "{append: "
        "{header: {key: x-a, value: '2'}}}, {remove_on_match: {key_matcher: {prefix: "
        "x-secret}}}]}]}}\n",
        "/", "x-a: 0\nx-secret-1: a\nx-secret-2: b\nx-open: c");
    struct mz_stream_info info = { .arena = f.a };
    struct mz_format_ctx c = { .info = &info, .req = f.h };
    mz_header_ops_apply(&r->mirrors[0].mutations, f.h, &c);
    same(fixture_header(&f, "x-a"), "2");
    same(fixture_header(&f, "x-secret-1"), NULL);
    same(fixture_header(&f, "x-secret-2"), NULL);
    same(fixture_header(&f, "x-open"), "c");
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_path_rewrites),
        cmocka_unit_test(test_host_rewrites),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_weighted),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_hash_of_filter_state),
        cmocka_unit_test(test_hash_cookie_is_made),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_ops),
        cmocka_unit_test(test_table_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
