#include "base/test.h"

#include "base/arena.h"
#include "base/clock.h"
#include "http/header_map.h"
#include "observe/decision.h"
#include "observe/stream_info.h"

static const char *text_of(struct mz_buf *b)
{
    static char text[1 << 16];
    text[mz_buf_copyout(b, 0, text, sizeof(text) - 1)] = 0;
    mz_buf_fini(b);
    return text;
}

static void test_story(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_decision *d = mz_decision_create(a, 1000000);
    mz_note(d, 1000000, ACCEPTED, MZ_STR("main"), MZ_STR("1.2.3.4:5"), 7, 0);
    mz_note(d, 1000150, NOT_ROUTE, MZ_STR(""), MZ_STR("path prefix /a"), 0, 0);
    mz_note(d, 1002000, CONN_LOST, MZ_STR("10.0.0.9:80"), MZ_STR("reset\n\x1b[1m"), 4, 3200);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_decision_text(d, &b);
    assert_string_equal(
        text_of(&b),
        "       0.000 ms  listener main accepted connection 7 from 1.2.3.4:5\n"
        "       0.150 ms  route 0 (unnamed) did not match: path prefix /a\n"
        "       2.000 ms  connection 4 to 10.0.0.9:80 ended before the answer was whole: "
        "reset\\x0a\\x1b[1m, it was 3200 ms old\n");
    mz_buf_init(&b);
    d->n = 1;
    mz_decision_json(d, &b);
    assert_string_equal(text_of(&b), "[{\"at_ms\":0.000,\"step\":\"ACCEPTED\",\"text\":\"listener "
                                     "main accepted connection 7 from "
                                     "1.2.3.4:5\",\"a\":\"main\",\"b\":\"1.2.3.4:5\",\"n\":7}]");
    mz_arena_destroy(a);
}

static void test_every_step_has_a_text(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (unsigned k = 0; k < MZ_STEP__COUNT; k++) {
        struct mz_decision *d = mz_decision_create(a, 0);
        mz_decision_step(d, 0, (enum mz_step_kind)k, MZ_STR("A"), MZ_STR("B"), -1, 2);
        struct mz_buf b;
        mz_buf_init(&b);
        mz_decision_text(d, &b);
        const char *text = text_of(&b);
        assert_true(strlen(text) > 20);
        assert_null(strchr(text, '%'));
    }
    mz_arena_destroy(a);
}

static void test_too_many_steps(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_decision *d = mz_decision_create(a, 0);
    for (unsigned i = 0; i < MZ_DECISION_STEPS + 3; i++)
        mz_note(d, i, NO_CHAIN, MZ_STR(""), MZ_STR(""), 0, 0);
    assert_int_equal(d->n, MZ_DECISION_STEPS);
    assert_int_equal(d->dropped, 3);
    mz_note((struct mz_decision *)NULL, 0, NO_CHAIN, MZ_STR(""), MZ_STR(""), 0, 0);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_decision_text(d, &b);
    assert_non_null(strstr(text_of(&b), "  and 3 more steps that found no room\n"));
    mz_arena_destroy(a);
}

static struct mz_stream_info info_make(struct mz_arena *a, const char *path)
{
    struct mz_stream_info i = { .arena = a,
                                .has_protocol = true,
                                .protocol = MZ_HTTP11,
                                .status = 200,
                                .start_us = 1000,
                                .end_us = 13000 };
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("ex.test"));
    mz_headers_add_id(h, MZ_H_PATH, mz_str_c(path));
    i.req = h;
    i.start_wall_us = 1795394991998043;
    i.conn_id = 3;
    i.stream_id = 42;
    return i;
}

static const struct mz_recorder_ask all = { .request_id = { "", 0 } };

static void test_recorder(void **state)
{
    (void)state;
    struct mz_recorder *r = mz_recorder_create(2, 2);
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info i = info_make(a, "/good");
    mz_recorder_offer(r, 0, &i);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_recorder_text(r, &all, &b);
    assert_string_equal(text_of(&b), "No request has failed, was refused or slow.\n");
    i = info_make(a, "/bad");
    i.status = 503;
    i.flags = MZ_FLAG(UPSTREAM_CONNECTION_FAILURE);
    i.details = "upstream_reset";
    i.attempts = 2;
    i.decision = mz_decision_create(a, 1000);
    mz_note(i.decision, 1500, CLUSTER, mz_arena_dup(a, MZ_STR("one")), MZ_STR("route"), 0, 0);
    mz_recorder_offer(r, 1, &i);
    i = info_make(a, "/slow");
    i.start_wall_us += 1000;
    i.end_us = i.start_us + 1000001;
    mz_recorder_offer(r, 1, &i);
    mz_recorder_set_slow_ms(r, 2000);
    mz_recorder_offer(r, 1, &i);
    mz_arena_destroy(a); /* records outlive their streams */
    mz_buf_init(&b);
    mz_recorder_text(r, &all, &b);
    assert_string_equal(
        text_of(&b),
        "2026-11-23T00:49:51.999Z GET ex.test/slow: answered 200 after 1000 ms, slow  [C3][S42]\n"
        "2026-11-23T00:49:51.998Z GET ex.test/bad: answered 503 after 12 ms, "
        "UpstreamConnectionFailure "
        "(upstream_reset), 2 tries  [C3][S42]\n"
        "       0.500 ms  cluster one chosen by route\n");
    mz_buf_init(&b);
    mz_recorder_json(r, &all, &b);
    const char *json = text_of(&b);
    assert_non_null(strstr(json, "\"status\":503,\"watched\":false,\"flags\":\"UF\",\"details\":"
                                 "\"upstream_reset\""));
    assert_non_null(strstr(json,
                           "\"story\":[{\"at_ms\":0.500,\"step\":\"CLUSTER\",\"text\":"
                           "\"cluster one chosen by route\",\"a\":\"one\",\"b\":\"route\"}]}"));
    mz_recorder_destroy(r);
    mz_recorder_destroy(NULL);
}

/* One request of a path and an id, which went well. */
static void offer(struct mz_recorder *r, const char *path, const char *id)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info i = info_make(a, path);
    mz_headers_add_id((struct mz_headers *)(uintptr_t)i.req, MZ_H_X_REQUEST_ID, mz_str_c(id));
    i.start_wall_us = mz_clock->wall_us();
    mz_recorder_offer(r, 0, &i);
    mz_arena_destroy(a);
}

static bool has(struct mz_recorder *r, const struct mz_recorder_ask *ask, const char *text)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_recorder_json(r, ask, &b);
    return strstr(text_of(&b), text) != NULL;
}

static void test_watch(void **state)
{
    (void)state;
    struct mz_recorder *r = mz_recorder_create(1, 3);
    struct mz_watch w = { 60, MZ_STR("/a"), MZ_STR("x-request-id"), MZ_STR("one") };
    offer(r, "/a/before", "one"); /* nobody watches */
    mz_recorder_watch(r, &w);
    offer(r, "/a/1", "one");
    offer(r, "/a/2", "two"); /* another value */
    offer(r, "/b", "one");   /* another path */
    assert_true(has(r, &all, "{\"next\":2,\"requests\":[{") && has(r, &all, "\"path\":\"/a/1\""));
    assert_false(has(r, &all, "/a/2") || has(r, &all, "/b") || has(r, &all, "/a/before"));
    w.value = MZ_STR(""); /* any */
    mz_recorder_watch(r, &w);
    offer(r, "/a/3", "three");
    assert_false(has(r, &(struct mz_recorder_ask){ .request_id = MZ_STR(""), .since = 2 }, "/a/1"));
    assert_true(has(r, &(struct mz_recorder_ask){ .request_id = MZ_STR(""), .since = 2 }, "/a/3"));
    assert_false(has(r, &(struct mz_recorder_ask){ .request_id = MZ_STR("one") }, "/a/3"));
    assert_true(has(r, &(struct mz_recorder_ask){ .request_id = MZ_STR("one") }, "/a/1"));
    w.seconds = 0;
    mz_recorder_watch(r, &w);
    offer(r, "/a/4", "four");
    assert_false(has(r, &all, "/a/4"));
    mz_recorder_destroy(r);
}

static void test_recorder_memory_is_fixed(void **state)
{
    (void)state;
    enum { LONG = 5000 };
    static char path[LONG + 1];
    memset(path, 'p', LONG);
    struct mz_recorder *r = mz_recorder_create(1, 3);
    struct mz_mem_count before[MZ_MEM__COUNT], after[MZ_MEM__COUNT];
    for (unsigned k = 0; k < 100; k++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_stream_info i = info_make(a, path);
        i.status = 0; /* aborted */
        i.decision = mz_decision_create(a, 0);
        for (unsigned n = 0; n < MZ_DECISION_STEPS; n++)
            mz_note(i.decision, n, NOT_ROUTE, mz_str_c(path), mz_str_c(path), n, 0);
        mz_recorder_offer(r, 0, &i);
        mz_arena_destroy(a);
        if (k == 0)
            mz_mem_counts(before);
    }
    mz_mem_counts(after);
    assert_int_equal(before[MZ_MEM_LOG].bytes, after[MZ_MEM_LOG].bytes);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_recorder_text(r, &all, &b);
    const char *text = text_of(&b);
    unsigned records = 0;
    for (const char *p = text; (p = strstr(p, "ended without an answer")); p++)
        records++;
    assert_int_equal(records, 3);
    mz_recorder_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_story),          cmocka_unit_test(test_every_step_has_a_text),
        cmocka_unit_test(test_too_many_steps), cmocka_unit_test(test_recorder),
        cmocka_unit_test(test_watch),          cmocka_unit_test(test_recorder_memory_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
