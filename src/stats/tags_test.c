#include "base/test.h"

#include "stats/stats_priv.h"
#include "stats/tags.h"
#include <stdio.h>

/* full name -> name without tags | tag=value,... as the real Envoy 1.40 showed them (envoy. left out of the tag names). */
static const struct {
    const char *name, *rest, *tags;
} cases[] = {
    { "cluster.one.upstream_rq_total", "cluster.upstream_rq_total", "cluster_name=one" },
    { "cluster.one.upstream_rq_200", "cluster.upstream_rq", "response_code=200,cluster_name=one" },
    { "cluster.one.upstream_rq_2xx", "cluster.upstream_rq_xx",
      "response_code_class=2,cluster_name=one" },
    { "cluster.one.external.upstream_rq_503", "cluster.external.upstream_rq",
      "response_code=503,cluster_name=one" },
    { "cluster.one.circuit_breakers.default.cx_open", "cluster.circuit_breakers.default.cx_open",
      "cluster_name=one" },
    { "cluster.tls_up.ssl.ciphers.TLS_AES_256_GCM_SHA384", "cluster.ssl.ciphers",
      "cipher_suite=TLS_AES_256_GCM_SHA384,cluster_name=tls_up" },
    { "cluster.tls_up.ssl.versions.TLSv1.3", "cluster.ssl.versions",
      "ssl_version=TLSv1.3,cluster_name=tls_up" },
    { "cluster.tls_up.ssl.certificate.ca.expiration_unix_time_seconds",
      "cluster.ssl.certificate.expiration_unix_time_seconds",
      "tls_certificate=ca,cluster_name=tls_up" },
    { "http.in.downstream_rq_2xx", "http.downstream_rq_xx",
      "response_code_class=2,http_conn_manager_prefix=in" },
    { "http.in.downstream_rq_total", "http.downstream_rq_total", "http_conn_manager_prefix=in" },
    { "http.in.rds.routes.config_reload", "http.rds.config_reload",
      "rds_route_config=routes,http_conn_manager_prefix=in" },
    { "listener.127.0.0.1_8080.downstream_cx_total", "listener.downstream_cx_total",
      "listener_address=127.0.0.1_8080" },
    { "listener.[__1]_8080.downstream_cx_total", "listener.downstream_cx_total",
      "listener_address=[__1]_8080" },
    { "listener.127.0.0.1_80.http.in.downstream_rq_5xx", "listener.http.downstream_rq_xx",
      "response_code_class=5,http_conn_manager_prefix=in,listener_address=127.0.0.1_80" },
    { "listener.127.0.0.1_80.worker_0.downstream_cx_total", "listener.worker_downstream_cx_total",
      "worker_id=0,listener_address=127.0.0.1_80" },
    { "listener.127.0.0.1_80.ssl.curves.X25519", "listener.ssl.curves",
      "ssl_curve=X25519,listener_address=127.0.0.1_80" },
    { "listener.127.0.0.1_80.ssl.ciphers.AES128-SHA", "listener.ssl.ciphers",
      "ssl_cipher=AES128-SHA,listener_address=127.0.0.1_80" },
    { "listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total", "" },
    { "listener.admin.http.admin.downstream_rq_2xx", "listener.admin.http.downstream_rq_xx",
      "response_code_class=2,http_conn_manager_prefix=admin" },
    { "server.worker_0.watchdog_miss", "server.worker_watchdog_miss", "worker_id=0" },
    { "server.live", "server.live", "" },
    { "tcp.ingress_tcp.downstream_cx_total", "tcp.downstream_cx_total", "tcp_prefix=ingress_tcp" },
    { "vhost.v.vcluster.other.upstream_rq_200", "vhost.vcluster.upstream_rq",
      "response_code=200,virtual_cluster=other,virtual_host=v" },
    { "vhost.v.route.r.upstream_rq_time", "vhost.route.upstream_rq_time",
      "virtual_host=v,route=r" },
    { "lrl.http_local_rate_limit.ok", "http_local_rate_limit.ok",
      "local_http_ratelimit_prefix=lrl" },
    { "http.in.rbac.policy.pol.allowed", "http.rbac.policy.allowed",
      "rbac_policy_name=pol,http_conn_manager_prefix=in" },
    { "http.in.rbac.pre.policy.pol.allowed", "http.rbac.policy.allowed",
      "rbac_policy_name=pol,rbac_http_prefix=pre,http_conn_manager_prefix=in" },
    { "http.in.rbac.allowed", "http.rbac.allowed", "http_conn_manager_prefix=in" },
    { "http.in.ext_authz.ok", "http.ext_authz.ok", "http_conn_manager_prefix=in" },
    { "http.in.ext_authz.pre.ok", "http.ext_authz.ok",
      "ext_authz_prefix=pre,http_conn_manager_prefix=in" },
    { "mongo.m.collection.c.callsite.f.query.total", "mongo.collection.callsite.query.total",
      "mongo_callsite=f,mongo_collection=c,mongo_prefix=m" },
};

static void check(const struct mz_stats_config *c, const char *name, const char *want_rest,
                  const char *want_tags)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    struct tag tags[TAGS_MAX];
    struct mz_str rest;
    char text[512] = "", shown[256];
    size_t n = 0;
    unsigned found = config_tags(c, mz_str_c(name), a, tags, &rest);
    for (unsigned i = 0; i < found; i++) {
        struct mz_str t = tags[i].name;
        if (mz_str_starts(t, MZ_STR("envoy.")))
            t = mz_str_skip(t, 6);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s" MZ_STR_FMT "=" MZ_STR_FMT,
                              i ? "," : "", MZ_STR_ARG(t), MZ_STR_ARG(tags[i].value));
    }
    assert_string_equal(text, want_tags);
    (void)snprintf(shown, sizeof(shown), MZ_STR_FMT, MZ_STR_ARG(rest));
    assert_string_equal(shown, want_rest);
    mz_arena_destroy(a);
}

static void test_default_tags(void **state)
{
    (void)state;
    struct mz_stats_config *c = config_default();
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        check(c, cases[i].name, cases[i].rest, cases[i].tags);
    mz_stats_config_destroy(c);
}

static struct mz_stats_config *with_tags(const struct mz_stats_tag *tags, size_t n, bool defaults,
                                         struct mz_err *err)
{
    return mz_stats_config_build(
        &(struct mz_stats_options){ .use_all_default_tags = defaults, .tags = tags, .n_tags = n },
        err);
}

static void test_custom_tags(void **state)
{
    (void)state;
    struct mz_err err;
    static const struct mz_stats_tag tags[] = {
        { MZ_STATS_TAG_REGEX, MZ_STR_INIT("my_cluster"), MZ_STR_INIT("^cluster\\.((.+?)\\.)") },
        { MZ_STATS_TAG_FIXED, MZ_STR_INIT("zone"), MZ_STR_INIT("a-1") },
    };
    struct mz_stats_config *c = with_tags(tags, 2, true, &err);
    assert_non_null(c);
    check(c, "cluster.one.upstream_rq_2xx", "cluster.upstream_rq_xx",
          "response_code_class=2,zone=a-1,cluster_name=one,my_cluster=one");
    mz_stats_config_destroy(c);

    c = with_tags(tags, 1, false, &err);
    assert_non_null(c);
    check(c, "cluster.one.upstream_rq_2xx", "cluster.upstream_rq_2xx", "my_cluster=one");
    mz_stats_config_destroy(c);

    static const struct mz_stats_tag ahead[] = {
        { MZ_STATS_TAG_REGEX, MZ_STR_INIT("at"), MZ_STR_INIT("^one(?=\\.)(.*)$") },
        { MZ_STATS_TAG_REGEX, MZ_STR_INIT("p"),
          MZ_STR_INIT("^listener(?=\\.).*?\\.http\\.(((?:[_.[:digit:]]*|x))\\.)") },
    };
    c = with_tags(ahead, 2, false, &err);
    assert_non_null(c);
    check(c, "one", "one", "");
    check(c, "ones.b", "ones.b", "");
    check(c, "one.b", "one", "at=.b");
    check(c, "listener.http.1.2", "listener.http.2", "p=1");
    check(c, "listener.a.http.x.y", "listener.a.http.y", "p=x");
    mz_stats_config_destroy(c);

    static const struct mz_stats_tag named[] = {
        { MZ_STATS_TAG_DEFAULT, MZ_STR_INIT("envoy.response_code"), { 0 } }
    };
    c = with_tags(named, 1, false, &err);
    assert_non_null(c);
    check(c, "cluster.one.upstream_rq_200", "cluster.one.upstream_rq", "response_code=200");
    mz_stats_config_destroy(c);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        struct mz_stats_tag tag;
        const char *text;
    } t[] = {
        { { MZ_STATS_TAG_REGEX, MZ_STR_INIT("x"), MZ_STR_INIT("(") },
          "stats_tags[0]: invalid regex '(': missing ): (" },
        { { MZ_STATS_TAG_FIXED, { 0 }, MZ_STR_INIT("v") },
          "stats_tags[0]: tag_name cannot be empty" },
        { { MZ_STATS_TAG_DEFAULT, MZ_STR_INIT("nope"), { 0 } },
          "stats_tags[0]: No regex specified for tag specifier and no default regex for name: "
          "'nope'" },
    };
    char text[512];
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(t); i++) {
        assert_null(with_tags(&t[i].tag, 1, true, &err));
        assert_string_equal(mz_err_text(&err, text, sizeof(text)), t[i].text);
    }
    static const struct mz_stats_rule bad = { MZ_STATS_REGEX, false, MZ_STR_INIT("[") };
    assert_null(mz_stats_config_build(
        &(struct mz_stats_options){ .filter = MZ_STATS_EXCLUDE, .rules = &bad, .n_rules = 1 },
        &err));
    assert_string_equal(err.path, "stats_matcher.exclusion_list.patterns[0]");
}

static void test_matcher(void **state)
{
    (void)state;
    static const struct mz_stats_rule rules[] = {
        { MZ_STATS_PREFIX, false, MZ_STR_INIT("cluster.one.") },
        { MZ_STATS_SUFFIX, true, MZ_STR_INIT("_TOTAL") },
        { MZ_STATS_EXACT, false, MZ_STR_INIT("server.live") },
        { MZ_STATS_CONTAINS, true, MZ_STR_INIT(".MID.") },
        { MZ_STATS_REGEX, false, MZ_STR_INIT("a+") },
    };
    static const struct {
        const char *name;
        bool match;
    } t[] = {
        { "cluster.one.x", true }, { "cluster.ones.x", false }, { "a.b_total", true },
        { "server.live", true },   { "server.lives", false },   { "x.mid.y", true },
        { "aaa", true },           { "baaa", false },
    };
    struct mz_err err;
    struct mz_stats_options o = { .filter = MZ_STATS_INCLUDE,
                                  .rules = rules,
                                  .n_rules = MZ_COUNT(rules) };
    struct mz_stats_config *in = mz_stats_config_build(&o, &err);
    o.filter = MZ_STATS_EXCLUDE;
    struct mz_stats_config *ex = mz_stats_config_build(&o, &err);
    struct mz_stats_config *none =
        mz_stats_config_build(&(struct mz_stats_options){ .filter = MZ_STATS_REJECT_ALL }, &err);
    for (size_t i = 0; i < MZ_COUNT(t); i++) {
        assert_int_equal(config_shows(in, mz_str_c(t[i].name)), t[i].match);
        assert_int_equal(config_shows(ex, mz_str_c(t[i].name)), !t[i].match);
        assert_false(config_shows(none, mz_str_c(t[i].name)));
    }
    mz_stats_config_destroy(in);
    mz_stats_config_destroy(ex);
    mz_stats_config_destroy(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_tags),
        cmocka_unit_test(test_custom_tags),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_matcher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
