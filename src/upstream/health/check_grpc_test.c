/* What an answer of grpc.health.v1 means, and how the request looks (U6). */
#include "base/test.h"

#include <string.h>

#include "upstream/health/check.h"

static const struct {
    unsigned status;
    const char *grpc_status; /* NULL: none */
    bool in_trailers;
    const char *body;
    size_t n;
    enum check_result result;
    uint32_t value;
} answers[] = {
#define BODY(text) (text), sizeof(text) - 1
    { 200, "0", true, BODY("\0\0\0\0\2\10\1"), CHECK_PASSED, 1 },
    { 200, "0", true, BODY("\0\0\0\0\2\10\2"), CHECK_SERVING, 2 },
    { 200, "0", true, BODY("\0\0\0\0\0"), CHECK_SERVING, 0 },
    { 200, "0", true, BODY("\0\0\0\0\7\22\3abc\10\1"), CHECK_PASSED, 1 },
    { 200, "0", true, BODY("\0\0\0\0\4\10\2\10\1"), CHECK_PASSED, 1 },
    { 200, "0", true, BODY("\0\0\0\0\14\11abcdefgh\10\1"), CHECK_PROTOCOL, 0 }, /* a byte short */
    { 200, "0", true, BODY("\0\0\0\0\2\10\1\0\0\0\0\0"), CHECK_PROTOCOL, 200 },
    { 200, "0", true, BODY("\1\0\0\0\2\10\1"), CHECK_PROTOCOL, 200 },
    { 200, "0", true, BODY("\0\377\377\377\377\10\1"), CHECK_PROTOCOL, 200 },
    { 200, "0", true, BODY("\0\0\0\0\2\10\200"), CHECK_PROTOCOL, 0 },
    { 200, "0", true, BODY("\0\0\0\0\2\12\177"), CHECK_PROTOCOL, 0 },
    { 200, "0", true, "", 0, CHECK_PROTOCOL, 200 },
    { 200, "12", false, "", 0, CHECK_GRPC, 12 },
    { 200, "14", true, BODY("\0\0\0\0\2\10\1"), CHECK_GRPC, 14 },
    { 200, NULL, true, BODY("\0\0\0\0\2\10\1"), CHECK_PROTOCOL, 200 },
    { 503, NULL, false, "", 0, CHECK_STATUS, 503 },
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(answers); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_headers *h = mz_headers_create(a), *t = mz_headers_create(a);
        uint32_t value = 99;
        mz_headers_set_status(h, answers[i].status);
        if (answers[i].grpc_status)
            mz_headers_add_id(answers[i].in_trailers ? t : h, MZ_H_GRPC_STATUS,
                              mz_str_c(answers[i].grpc_status));
        enum check_result r =
            check_grpc_judge(h, answers[i].in_trailers ? t : NULL,
                             (struct mz_str){ answers[i].body, answers[i].n }, &value);
        if (r != answers[i].result || (r != CHECK_PROTOCOL && value != answers[i].value))
            fail_msg("%zu: result %d, value %u", i, (int)r, value);
        mz_arena_destroy(a);
    }
}

static void expect_request(const char *service, const char *bytes, size_t n)
{
    char out[512];
    assert_int_equal(check_grpc_request_size(strlen(service)), n);
    check_grpc_request(mz_str_c(service), out);
    assert_memory_equal(out, bytes, n < 9 ? n : 9);
}

static void test_request(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'x', 200);
    name[200] = '\0';
    expect_request("", BODY("\0\0\0\0\0"));
    expect_request("svc", BODY("\0\0\0\0\5\12\3svc"));
    expect_request(name, "\0\0\0\0\313\12\310\1x", 5 + 1 + 2 + 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_answers),
                                        cmocka_unit_test(test_request) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
