#include "server/options.h"

#include "base/alloc.h"
#include "base/test.h"
#include <stdio.h>
#include <string.h>

static char *words[8];
static int split(const char *line)
{
    static char copy[200];
    int n = 0;
    (void)snprintf(copy, sizeof(copy), "%s", line);
    for (char *p = copy, *at; (at = strsep(&p, " ")) != NULL;)
        words[n++] = at;
    return n;
}

static const struct {
    const char *line;
    int rc; /* -1: goes on */
} cases[] = {
    { "p -c a.yaml", -1 },
    { "p --config-path a.yaml --concurrency 3", -1 },
    { "p --config-path=a.yaml --disable-hot-restart", -1 },
    { "p --mode validate -l warn", -1 },
    { "p --version", 0 },
    { "p -h", 0 },
    { "p --no-such-flag", 1 },
    { "p --concurrency", 1 },
    { "p --concurrency x", 1 },
    { "p --concurrency 4294967296", 1 },
    { "p --mode serv", 1 },
    { "p -l loud", 1 },
    { "p --drain-strategy slowly", 1 },
    { "p --restart-epoch 1", 1 },
};

static void test_codes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_options o;
        int n = split(cases[i].line);
        assert_int_equal(mz_options_parse(n, words, &o), cases[i].rc);
    }
}

static void test_values(void **state)
{
    (void)state;
    struct mz_options o;
    assert_int_equal(
        mz_options_parse(split("p --config-path=a.yaml --drain-time-s 7 --mode validate"), words,
                         &o),
        -1);
    assert_string_equal(o.config_path, "a.yaml");
    assert_int_equal(o.drain_time_s, 7);
    assert_true(o.validate);
    assert_int_equal(o.concurrency, 0);
    assert_int_equal(o.file_flush_interval_msec, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_codes),
                                        cmocka_unit_test(test_values) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
