#include "base/test.h"

#include "base/alloc.h"
#include "filters/tracers/context.h"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define SPAN   "b7ad6b7169203331"
#define PARENT "05e3ac9a4f6e3b90"

static const struct {
    const char *text;
    bool ok, sampled;
} parents[] = {
    { "00-" TRACE "-" SPAN "-01", true, true },
    { "00-" TRACE "-" SPAN "-00", true, false },
    { "00-" TRACE "-" SPAN "-03", true, true },
    { "01-" TRACE "-" SPAN "-01-more", true, true },
    { "00-" TRACE "-" SPAN "-01-more", false, false },
    { "01-" TRACE "-" SPAN "-01more", false, false },
    { "ff-" TRACE "-" SPAN "-01", false, false },
    { "00-" TRACE "-" SPAN "-1", false, false },
    { "00-" TRACE "-" SPAN "-0g", false, false },
    { "00-00000000000000000000000000000000-" SPAN "-01", false, false },
    { "00-" TRACE "-0000000000000000-01", false, false },
    { "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, false },
    { "", false, false },
};

static void test_traceparent(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(parents); i++) {
        struct trace_context c;
        bool ok = traceparent_parse(mz_str_c(parents[i].text), &c);
        if (ok != parents[i].ok || (ok && c.sampled != parents[i].sampled))
            fail_msg("%s", parents[i].text);
        if (!ok)
            continue;
        assert_true(c.trace_hi == 0x0af7651916cd43dd && c.trace_lo == 0x8448eb211c80319c &&
                    c.id == 0xb7ad6b7169203331);
        char text[TRACEPARENT_TEXT];
        traceparent_write(&c, text);
        assert_string_equal(text,
                            c.sampled ? "00-" TRACE "-" SPAN "-01" : "00-" TRACE "-" SPAN "-00");
    }
}

static const struct {
    const char *text;
    bool ok, ids, has_sampled, sampled;
    uint64_t parent;
} singles[] = {
    { TRACE "-" SPAN "-1-" PARENT, true, true, true, true, 0x05e3ac9a4f6e3b90 },
    { TRACE "-" SPAN "-0", true, true, true, false, 0 },
    { TRACE "-" SPAN "-d", true, true, true, true, 0 },
    { TRACE "-" SPAN, true, true, false, false, 0 },
    { SPAN "-" SPAN, true, true, false, false, 0 },
    { "0", true, false, true, false, 0 },
    { "1", true, false, true, true, 0 },
    { "d", true, false, true, true, 0 },
    { "2", false, false, false, false, 0 },
    { TRACE, false, false, false, false, 0 },
    { TRACE "-short", false, false, false, false, 0 },
    { TRACE "-" SPAN "-x", false, false, false, false, 0 },
    { TRACE "-" SPAN "-1-" PARENT "-", false, false, false, false, 0 },
    { TRACE "0-" SPAN, false, false, false, false, 0 },
    { "", false, false, false, false, 0 },
};

static void test_single(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(singles); i++) {
        struct trace_context c;
        bool ok = b3_single_parse(mz_str_c(singles[i].text), &c);
        if (ok != singles[i].ok)
            fail_msg("%s", singles[i].text);
        if (ok && (c.has_ids != singles[i].ids || c.has_sampled != singles[i].has_sampled ||
                   c.sampled != singles[i].sampled || c.parent != singles[i].parent))
            fail_msg("%s", singles[i].text);
    }
}

static const struct {
    const char *trace, *id, *parent, *sampled, *flags;
    bool ok, ids, has_sampled, is_sampled;
} many[] = {
    { TRACE, SPAN, PARENT, "1", "", true, true, true, true },
    { TRACE, SPAN, "", "0", "", true, true, true, false },
    { SPAN, SPAN, "", "", "", true, true, false, false },
    { "", "", "", "true", "", true, false, true, true },
    { "", "", "", "0", "1", true, false, true, true },
    { "", "", "", "", "", true, false, false, false },
    { "zz", "1", "", "", "", false, false, false, false },
    { TRACE, "", "", "", "", false, false, false, false },
    { "", SPAN, "", "", "", false, false, false, false },
    { TRACE, SPAN, "zz", "", "", false, false, false, false },
};

static void test_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(many); i++) {
        struct trace_context c;
        const struct b3_headers h = { mz_str_c(many[i].trace), mz_str_c(many[i].id),
                                      mz_str_c(many[i].parent), mz_str_c(many[i].sampled),
                                      mz_str_c(many[i].flags) };
        bool ok = b3_parse(&h, &c);
        if (ok != many[i].ok ||
            (ok && (c.has_ids != many[i].ids || c.has_sampled != many[i].has_sampled ||
                    c.sampled != many[i].is_sampled)))
            fail_msg("%zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
