#include "agent/dns/names.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/test.h"
#include "proto/wire.h"

static void text(struct mz_buf *b, unsigned field, const char *s)
{
    if (s)
        mz_wire_put_bytes(b, field, mz_str_c(s));
}

static void entry(struct mz_buf *table, const char *host, const char *ip, const char *ip2,
                  const char *registry, const char *shortname, const char *namespace_)
{
    struct mz_buf info, one;
    mz_buf_init(&info);
    mz_buf_init(&one);
    text(&info, 1, ip);
    text(&info, 1, ip2);
    text(&info, 2, registry);
    text(&info, 3, shortname);
    text(&info, 4, namespace_);
    text(&one, 1, host);
    mz_wire_put_bytes(&one, 2, mz_buf_linearize(&info, mz_buf_len(&info)));
    mz_wire_put_bytes(table, 1, mz_buf_linearize(&one, mz_buf_len(&one)));
    mz_buf_fini(&info);
    mz_buf_fini(&one);
}

static const struct mz_names_pod pod = { MZ_STR_INIT("shop"), MZ_STR_INIT("svc.cluster.local"),
                                         MZ_STR_INIT("Shop.svc.cluster.local") };

static struct mz_names *table(void)
{
    struct mz_buf b;
    mz_buf_init(&b);
    entry(&b, "web.shop.svc.cluster.local", "10.0.0.1", "fd00::1", "Kubernetes", "web", "shop");
    entry(&b, "web.data.svc.cluster.local", "10.0.0.2", NULL, "Kubernetes", "web", "data");
    entry(&b, "kv-0.kv.data.svc.cluster.local", "10.0.0.3", NULL, "Kubernetes", "kv-0.kv", "data");
    entry(&b, "far.shop.svc.other.local", "10.0.0.4", NULL, "Kubernetes", "far", "shop");
    entry(&b, "One.Example", "10.0.0.5", NULL, "External", NULL, NULL);
    entry(&b, "*.wild.example", "10.0.0.6", NULL, "External", NULL, NULL);
    entry(&b, "*.b.wild.example", "10.0.0.7", NULL, "External", NULL, NULL);
    entry(&b, "dot.example.", "10.0.0.8", NULL, "External", NULL, NULL);
    entry(&b, "none.example", "not-an-ip", NULL, "External", NULL, NULL);
    entry(&b, "odd..example", "10.0.0.9", NULL, "External", NULL, NULL);
    entry(&b, "api.data", "10.0.0.10", NULL, "External", NULL, NULL);
    entry(&b, "api.data.svc.cluster.local", "10.0.0.11", NULL, "Kubernetes", "api", "data");
    struct mz_names *t = mz_names_create(mz_buf_linearize(&b, mz_buf_len(&b)), &pod);
    mz_buf_fini(&b);
    assert_non_null(t);
    return t;
}

static const struct {
    const char *name, *ip, *alias; /* ip NULL: not in the table */
} cases[] = {
    { "web.shop.svc.cluster.local", "10.0.0.1", "" },
    { "web.shop.svc", "10.0.0.1", "" },
    { "web.shop", "10.0.0.1", "" },
    { "web", "10.0.0.1", "" },
    { "web.data", "10.0.0.2", "" },
    { "web.data.svc", "10.0.0.2", "" },
    { "web.data.shop.svc.cluster.local", "10.0.0.2", "web.data" },
    { "web.data.svc.cluster.local.shop.svc.cluster.local", "10.0.0.2",
      "web.data.svc.cluster.local" },
    { "kv-0.kv.data", "10.0.0.3", "" },
    { "kv-0.kv", NULL, "" },
    { "far", NULL, "" },
    { "far.shop", NULL, "" },
    { "far.shop.svc.other.local", "10.0.0.4", "" },
    { "one.example", "10.0.0.5", "" },
    { "one.example.shop.svc.cluster.local", "10.0.0.5", "one.example" },
    { "one.example.data.svc.cluster.local", NULL, "" },
    { "a.wild.example", "10.0.0.6", "" },
    { "a.b.wild.example", "10.0.0.7", "" },
    { "c.a.b.wild.example", "10.0.0.7", "" },
    { "wild.example", NULL, "" },
    { "a.wild.example.shop.svc.cluster.local", "10.0.0.6", "*.wild.example" },
    { "dot.example", "10.0.0.8", "" },
    { "none.example", NULL, "" },
    { "api.data", "10.0.0.10", "" },
    { "api.data.svc", "10.0.0.11", "" },
    { "shop.svc.cluster.local", NULL, "" },
    { "", NULL, "" },
};

static void test_ways_to_write_a_name(void **state)
{
    (void)state;
    struct mz_names *t = table();
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_names_found f;
        char bytes[16], got[INET6_ADDRSTRLEN];
        const bool found = mz_names_find(t, mz_str_c(cases[i].name), &f);
        if (found != (cases[i].ip != NULL))
            fail_msg("%s: %d", cases[i].name, found);
        if (!found)
            continue;
        assert_int_equal(f.alias.n, strlen(cases[i].alias));
        assert_memory_equal(f.alias.p ? f.alias.p : "", cases[i].alias, f.alias.n);
        assert_true(mz_names_next(&f.info, MZ_DNS_A, bytes));
        assert_string_equal(inet_ntop(AF_INET, bytes, got, sizeof(got)), cases[i].ip);
        assert_false(mz_names_next(&f.info, MZ_DNS_A, bytes));
    }
    mz_names_destroy(t);
}

static void test_both_families(void **state)
{
    (void)state;
    struct mz_names *t = table();
    struct mz_names_found f;
    char bytes[16], got[INET6_ADDRSTRLEN];
    assert_true(mz_names_find(t, MZ_STR("web"), &f));
    assert_true(mz_names_next(&f.info, MZ_DNS_AAAA, bytes));
    assert_string_equal(inet_ntop(AF_INET6, bytes, got, sizeof(got)), "fd00::1");
    assert_true(mz_names_find(t, MZ_STR("web.data"), &f));
    assert_false(mz_names_next(&f.info, MZ_DNS_AAAA, bytes));
    assert_int_equal(mz_names_count(t), 10);
    mz_names_destroy(t);
}

static void test_no_table(void **state)
{
    (void)state;
    assert_null(mz_names_create(MZ_STR("\x0a\x05xx"), &pod));
    assert_null(mz_names_create(MZ_STR("\x0a\x02\x0a\x09"), &pod));
    struct mz_names *t = mz_names_create((struct mz_str){ 0 }, &pod);
    struct mz_names_found f;
    assert_non_null(t);
    assert_false(mz_names_find(t, MZ_STR("web"), &f));
    mz_names_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_ways_to_write_a_name),
                                        cmocka_unit_test(test_both_families),
                                        cmocka_unit_test(test_no_table) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
