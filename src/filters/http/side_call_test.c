/* What an answer of a service may do to messages (F11): every name and value in it is foreign. */
#include "base/test.h"

#include <string.h>

#include "filters/http/ext_authz.h"
#include "filters/http/ratelimit.h"

static struct mz_arena *arena;

static struct mz_headers *request(void)
{
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/p?a=1&b=2&a=3&c"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("host"));
    mz_headers_add_id(h, MZ_H_CONTENT_LENGTH, MZ_STR("5"));
    mz_headers_add(h, MZ_STR("x-old"), MZ_STR("1"));
    return h;
}

static const struct {
    const char *name, *value;
    enum authz_action action;
    enum ea_applied applied;
    const char *header, *then; /* what it is afterwards; NULL: absent */
} changes[] = {
    { "x-new", "v", AUTHZ_SET, EA_APPLIED, "x-new", "v" },
    { "x-old", "v", AUTHZ_SET, EA_APPLIED, "x-old", "v" },
    { "x-old", "v", AUTHZ_APPEND, EA_APPLIED, "x-old", "1,v" },
    { "x-new", "v", AUTHZ_APPEND, EA_APPLIED, "x-new", NULL },
    { "x-old", "v", AUTHZ_ADD, EA_APPLIED, "x-old", "1,v" },
    { "host", "other", AUTHZ_SET, EA_APPLIED, ":authority", "other" },
    { ":path", "/q", AUTHZ_SET, EA_APPLIED, ":path", "/q" },
    { ":path", "/q", AUTHZ_APPEND, EA_APPLIED, ":path", "/p?a=1&b=2&a=3&c" },
    { ":path", "q", AUTHZ_SET, EA_BAD_HEADER, ":path", "/p?a=1&b=2&a=3&c" },
    { ":path", "/a b", AUTHZ_SET, EA_BAD_HEADER, ":path", "/p?a=1&b=2&a=3&c" },
    { ":path", "/a#b", AUTHZ_SET, EA_BAD_HEADER, ":path", "/p?a=1&b=2&a=3&c" },
    { ":authority", "u@h", AUTHZ_SET, EA_BAD_HEADER, ":authority", "host" },
    { ":authority", "", AUTHZ_SET, EA_BAD_HEADER, ":authority", "host" },
    { ":method", "A B", AUTHZ_SET, EA_BAD_HEADER, ":method", "GET" },
    { ":scheme", "gopher", AUTHZ_SET, EA_BAD_HEADER, ":scheme", NULL },
    { ":status", "200", AUTHZ_SET, EA_BAD_HEADER, ":status", NULL },
    { "", "v", AUTHZ_SET, EA_BAD_HEADER, "x-old", "1" },
    { "x new", "v", AUTHZ_SET, EA_BAD_HEADER, "x new", NULL },
    { "x-new", "a\r\nb: c", AUTHZ_SET, EA_BAD_HEADER, "x-new", NULL },
    { "x-new", "\x7f", AUTHZ_SET, EA_BAD_HEADER, "x-new", NULL },
    { "content-length", "0", AUTHZ_SET, EA_APPLIED, "content-length", "5" },
    { "transfer-encoding", "chunked", AUTHZ_SET, EA_APPLIED, "transfer-encoding", NULL },
    { "connection", "x-old", AUTHZ_SET, EA_APPLIED, "connection", NULL },
};

static void test_request_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(changes); i++) {
        struct authz_header c = { mz_str_c(changes[i].name), mz_str_c(changes[i].value),
                                  changes[i].action };
        const struct authz_reply r = { .request = { &c, 1 } };
        struct mz_headers *h = request();
        struct mz_str name, value;
        if (ea_apply_request(&r, NULL, h, &name) != changes[i].applied)
            fail_msg("%zu: %s", i, changes[i].name);
        bool there = mz_headers_joined(h, mz_str_c(changes[i].header), &value);
        assert_int_equal(there, changes[i].then != NULL);
        if (there && !mz_str_eq(value, mz_str_c(changes[i].then)))
            fail_msg("%zu: %s is " MZ_STR_FMT, i, changes[i].header, MZ_STR_ARG(value));
    }
}

/* Several of one field: in their order, up to where it is set anew. */
static void test_request_appends(void **state)
{
    (void)state;
    struct authz_header v[] = { { MZ_STR_INIT("x-old"), MZ_STR_INIT("2"), AUTHZ_APPEND },
                                { MZ_STR_INIT("x-new"), MZ_STR_INIT("a"), AUTHZ_APPEND },
                                { MZ_STR_INIT("x-old"), MZ_STR_INIT("3"), AUTHZ_APPEND },
                                { MZ_STR_INIT("x-new"), MZ_STR_INIT("b"), AUTHZ_SET },
                                { MZ_STR_INIT("x-new"), MZ_STR_INIT("c"), AUTHZ_APPEND },
                                { MZ_STR_INIT("x-new"), MZ_STR_INIT("d"), AUTHZ_SET },
                                { MZ_STR_INIT("x-new"), MZ_STR_INIT("e"), AUTHZ_APPEND },
                                { MZ_STR_INIT("accept"), MZ_STR_INIT("f"), AUTHZ_ADD },
                                { MZ_STR_INIT("accept"), MZ_STR_INIT("g"), AUTHZ_ADD } };
    const struct authz_reply r = { .request = { v, MZ_COUNT(v) } };
    struct mz_headers *h = request();
    struct mz_str name;
    assert_int_equal(ea_apply_request(&r, NULL, h, &name), EA_APPLIED);
    assert_true(mz_str_eq(mz_headers_get(h, MZ_STR("x-old"))->value, MZ_STR("1,2,3")));
    assert_true(mz_str_eq(mz_headers_get(h, MZ_STR("x-new"))->value, MZ_STR("d,e")));
    assert_true(mz_str_eq(mz_headers_value_id(h, MZ_H_ACCEPT), MZ_STR("f,g")));
    assert_int_equal(h->live, 7);
}

static int64_t stream_bytes(void)
{
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    return c[MZ_MEM_STREAM].bytes;
}

/* A hostile service: an answer of 4 MiB costs a few times that, not its square. */
static void test_many_of_one_field(void **state)
{
    (void)state;
    enum { N = 1000, BYTES = 4096 };
    static const struct {
        const char *name;
        enum authz_action action;
    } cases[] = { { "x-old", AUTHZ_APPEND }, { "accept", AUTHZ_ADD } };
    static char text[BYTES];
    struct authz_header v[N];
    struct mz_str name;
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        const int64_t before = stream_bytes();
        for (size_t k = 0; k < N; k++)
            v[k] =
                (struct authz_header){ mz_str_c(cases[i].name), { text, BYTES }, cases[i].action };
        const struct authz_reply r = { .request = { v, N } };
        assert_int_equal(ea_apply_request(&r, NULL, mz_headers_clone(request(), a), &name),
                         EA_TOO_LARGE);
        if (stream_bytes() - before > 3ll * N * BYTES)
            fail_msg("%s: %lld bytes", cases[i].name, (long long)(stream_bytes() - before));
        mz_arena_destroy(a);
    }
}

static void test_query(void **state)
{
    (void)state;
    struct authz_header set[] = { { MZ_STR_INIT("b"), MZ_STR_INIT("9"), AUTHZ_SET },
                                  { MZ_STR_INIT("n"), MZ_STR_INIT("x%20y"), AUTHZ_SET } };
    struct mz_str drop[] = { MZ_STR_INIT("a"), MZ_STR_INIT("none") }, name;
    struct mz_headers *h = request();
    struct authz_reply r = { .query = { set, 2 }, .query_remove = drop, .n_query_remove = 2 };
    assert_int_equal(ea_apply_request(&r, NULL, h, &name), EA_APPLIED);
    assert_true(mz_str_eq(mz_headers_path(h), MZ_STR("/p?c=&b=9&n=x%20y")));
    set[1].value = MZ_STR("x y");
    assert_int_equal(ea_apply_request(&r, NULL, request(), &name), EA_BAD_HEADER);
    set[1].value = MZ_STR("1&admin=1");
    assert_int_equal(ea_apply_request(&r, NULL, request(), &name), EA_BAD_HEADER);
    r = (struct authz_reply){ .query_remove = drop, .n_query_remove = 1 };
    h = request();
    mz_headers_set_id(h, MZ_H_PATH, MZ_STR("/only?a=1"));
    assert_int_equal(ea_apply_request(&r, NULL, h, &name), EA_APPLIED);
    assert_true(mz_str_eq(mz_headers_path(h), MZ_STR("/only")));
}

static void test_removals_and_size(void **state)
{
    (void)state;
    struct mz_str remove[] = { MZ_STR_INIT("x-old"), MZ_STR_INIT(":path"), MZ_STR_INIT("host"),
                               MZ_STR_INIT("content-length") },
                  name;
    struct mz_headers *h = request();
    const struct authz_reply r = { .remove = remove, .n_remove = MZ_COUNT(remove) };
    assert_int_equal(ea_apply_request(&r, NULL, h, &name), EA_APPLIED);
    assert_int_equal(h->live, 4);
    struct authz_header many[100];
    for (size_t i = 0; i < MZ_COUNT(many); i++)
        many[i] =
            (struct authz_header){ mz_arena_printf(arena, "x-%zu", i), MZ_STR("v"), AUTHZ_SET };
    const struct authz_reply large = { .request = { many, MZ_COUNT(many) } };
    assert_int_equal(ea_apply_request(&large, NULL, request(), &name), EA_TOO_LARGE);
}

static void test_answers(void **state)
{
    (void)state;
    struct authz_header v[] = { { MZ_STR_INIT("x-a"), MZ_STR_INIT("1"), AUTHZ_ADD },
                                { MZ_STR_INIT("x-a"), MZ_STR_INIT("2"), AUTHZ_ADD },
                                { MZ_STR_INIT(":status"), MZ_STR_INIT("500"), AUTHZ_SET },
                                { MZ_STR_INIT("content-length"), MZ_STR_INIT("9"), AUTHZ_SET },
                                { MZ_STR_INIT("x-b"), MZ_STR_INIT("a\nb"), AUTHZ_SET } };
    const struct authz_headers all = { v, MZ_COUNT(v) };
    struct mz_str name, value;
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_set_status(h, 200);
    mz_headers_add(h, MZ_STR("x-a"), MZ_STR("0"));
    assert_false(ea_valid(&all, &name));
    assert_true(mz_str_eq(name, MZ_STR("x-b")));
    ea_apply_response(&all, h);
    assert_true(mz_headers_joined(h, MZ_STR("x-a"), &value));
    assert_true(mz_str_eq(value, MZ_STR("0,1,2")));
    ea_apply_own(&all, h);
    assert_true(mz_headers_joined(h, MZ_STR("x-a"), &value));
    assert_true(mz_str_eq(value, MZ_STR("1,2")));
    assert_int_equal(mz_headers_status(h), 200);
    assert_int_equal(h->live, 3);
}

static void test_limit_headers(void **state)
{
    (void)state;
    char name[] = "a\rb", per_ip[] = "per-ip";
    pb_RateLimitResponse m = pb_RateLimitResponse__INIT;
    pb_RateLimitResponse_DescriptorStatus one = pb_RateLimitResponse_DescriptorStatus__INIT,
                                          two = pb_RateLimitResponse_DescriptorStatus__INIT;
    pb_RateLimitResponse_RateLimit hour = pb_RateLimitResponse_RateLimit__INIT,
                                   week = pb_RateLimitResponse_RateLimit__INIT;
    pb_RateLimitResponse_DescriptorStatus *all[] = { &one, &two };
    hour.unit = pb_RateLimitResponse_RateLimit_Unit_HOUR;
    hour.requests_per_unit = 10;
    hour.name = per_ip;
    week.unit = pb_RateLimitResponse_RateLimit_Unit_WEEK;
    week.requests_per_unit = 7;
    one.current_limit = &hour;
    one.limit_remaining = 3;
    two.current_limit = &week;
    two.limit_remaining = 2;
    m.statuses = all;
    m.n_statuses = 2;
    struct mz_headers *h = mz_headers_create(arena);
    rl_limit_headers(&m, h);
    const struct mz_header *e = mz_headers_get(h, MZ_STR("x-ratelimit-limit"));
    assert_true(mz_str_eq(e->value, MZ_STR("7, 10;w=3600;name=\"per-ip\", 7;w=604800")));
    assert_true(mz_str_eq(mz_headers_get(h, MZ_STR("x-ratelimit-remaining"))->value, MZ_STR("2")));
    assert_true(mz_str_eq(mz_headers_get(h, MZ_STR("x-ratelimit-reset"))->value, MZ_STR("0")));
    hour.name = name;
    h = mz_headers_create(arena);
    rl_limit_headers(&m, h);
    assert_null(mz_headers_get(h, MZ_STR("x-ratelimit-limit")));
}

static int start(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_STREAM);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_changes),   cmocka_unit_test(test_request_appends),
        cmocka_unit_test(test_many_of_one_field), cmocka_unit_test(test_query),
        cmocka_unit_test(test_removals_and_size), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_limit_headers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
