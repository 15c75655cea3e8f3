#include "base/test.h"

#include "hcm/scope_key.h"
#include "http/header_map.h"
#include "proto/mapper.h"

#define FRAGMENT(text) "{\"header_value_extractor\":" text "}"
#define INDEX(i)       FRAGMENT("{\"name\":\"X-A\",\"element_separator\":\";\",\"index\":" #i "}")
#define WHOLE          FRAGMENT("{\"name\":\"x-a\",\"index\":0}")
#define VIP                                                                                        \
    FRAGMENT("{\"name\":\"x-a\",\"element_separator\":\";\","                                      \
             "\"element\":{\"separator\":\"=\",\"key\":\"vip\"}}")
#define HOST FRAGMENT("{\"name\":\"host-is\",\"index\":0}")

static const struct {
    const char *fragments, *value, *key; /* key NULL: there is none */
} cases[] = {
    { WHOLE, "a;b", "3:a;b" },
    { WHOLE, "", "0:" },
    { WHOLE, NULL, NULL },
    { INDEX(0), "a;b", "1:a" },
    { INDEX(1), "a;b", "1:b" },
    { INDEX(1), "a;", "0:" },
    { INDEX(1), "a", NULL },
    { INDEX(2), "a;b", NULL },
    { VIP, "x=1;vip=2", "1:2" },
    { VIP, "vip=2=3", "3:2=3" },
    { VIP, "vip", "0:" },
    { VIP, "vipp=1;vip =2", NULL },
    { WHOLE "," INDEX(0), "a;b", "3:a;b1:a" },
    { HOST "," WHOLE, "a", NULL },
};

static bool build(const char *fragments, struct mz_arena *a, struct scope_keys *out,
                  struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m;
    struct mz_str text = mz_arena_printf(a, "{\"fragments\":[%s]}", fragments);
    return mz_msg_from_text(&ctx, text, MZ_TEXT_JSON, &pb_ScopedRoutes_ScopeKeyBuilder__descriptor,
                            &m, err) &&
           scope_keys_build((const pb_ScopedRoutes_ScopeKeyBuilder *)m, a, out, err);
}

static void test_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
        struct mz_headers *h = mz_headers_create(a);
        struct scope_keys k = { .n = 0 };
        struct mz_str key;
        struct mz_err err;
        assert_true(build(cases[i].fragments, a, &k, &err));
        if (cases[i].value)
            mz_headers_add(h, MZ_STR("x-a"), mz_str_c(cases[i].value));
        mz_headers_add(h, MZ_STR("x-a"), MZ_STR("another")); /* the first one counts */
        if (!cases[i].value)
            mz_headers_remove(h, MZ_STR("x-a"));
        assert_int_equal(scope_key_of(&k, h, a, &key), cases[i].key != NULL);
        if (cases[i].key)
            assert_true(mz_str_eq(key, mz_str_c(cases[i].key)));
        mz_arena_destroy(a);
    }
}

static void refused(const char *fragments, const char *text)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct scope_keys k = { .n = 0 };
    struct mz_err err;
    char why[256];
    assert_false(build(fragments, a, &k, &err));
    assert_string_equal(mz_err_text(&err, why, sizeof(why)), text);
    mz_arena_destroy(a);
}

static void test_refused(void **state)
{
    (void)state;
    refused(FRAGMENT("{\"name\":\"a\",\"index\":1}"),
            "fragments[0].header_value_extractor.index: Index > 0 for empty string element "
            "separator.");
    refused(WHOLE "," FRAGMENT("{\"name\":\"a\"}"),
            "fragments[1].header_value_extractor: HeaderValueExtractor extract_type not set.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
