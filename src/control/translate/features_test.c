/* Switches of the environment: the words that Go's ParseBool takes, and what an unknown one leaves as it is. */
#include "base/test.h"

#include <stdlib.h>

#include "control/translate/features.c"

static const struct {
    const char *word;
    bool on, off;
} words[] = {
    { "1", true, false },     { "t", true, false },     { "T", true, false },
    { "true", true, false },  { "True", true, false },  { "TRUE", true, false },
    { "0", false, true },     { "f", false, true },     { "F", false, true },
    { "false", false, true }, { "FALSE", false, true }, { "", false, false },
    { "yes", false, false },  { "on", false, false },   { "2", false, false },
    { "tr", false, false },
};

static bool *field(struct mz_features *f, size_t i)
{
    return (bool *)((char *)f + switches[i].at);
}

/* Each switch alone: by its own name, and no other moves. */
static void test_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(switches); i++)
        for (size_t w = 0; w < MZ_COUNT(words); w++) {
            assert_int_equal(setenv(switches[i].name, words[w].word, 1), 0);
            struct mz_features f = mz_features_from_env();
            const bool want = switches[i].means ? words[w].on : words[w].off;
            if (*field(&f, i) != want)
                fail_msg("%s=%s", switches[i].name, words[w].word);
            for (size_t k = 0; k < MZ_COUNT(switches); k++)
                if (k != i && *field(&f, k))
                    fail_msg("%s=%s moves %s", switches[i].name, words[w].word, switches[k].name);
            assert_int_equal(unsetenv(switches[i].name), 0);
        }
}

static void test_those_that_are_on(void **state)
{
    static const char *const names[] = { "PILOT_ENABLE_METADATA_EXCHANGE",
                                         "PILOT_ENABLE_ALPN_FILTER" };
    (void)state;
    for (size_t w = 0; w < MZ_COUNT(words); w++) {
        for (size_t i = 0; i < MZ_COUNT(names); i++)
            assert_int_equal(setenv(names[i], words[w].word, 1), 0);
        const struct mz_features f = mz_features_from_env();
        if (f.metadata_exchange == words[w].off || f.alpn == words[w].off)
            fail_msg("%s", words[w].word);
    }
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        assert_int_equal(unsetenv(names[i]), 0);
}

static void test_keys(void **state)
{
    static const struct {
        const char *word;
        enum mz_jwks_fetch how;
    } fetches[] = { { "", MZ_JWKS_CONTROL_PLANE },  { "false", MZ_JWKS_CONTROL_PLANE },
                    { "0", MZ_JWKS_CONTROL_PLANE }, { "istiod", MZ_JWKS_CONTROL_PLANE },
                    { "1", MZ_JWKS_HYBRID },        { "t", MZ_JWKS_HYBRID },
                    { "true", MZ_JWKS_HYBRID },     { "hybrid", MZ_JWKS_HYBRID },
                    { "envoy", MZ_JWKS_PROXY } };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(fetches); i++) {
        assert_int_equal(setenv("PILOT_JWT_ENABLE_REMOTE_JWKS", fetches[i].word, 1), 0);
        if (mz_features_from_env().jwks_fetch != fetches[i].how)
            fail_msg("%s", fetches[i].word);
    }
    assert_int_equal(unsetenv("PILOT_JWT_ENABLE_REMOTE_JWKS"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_words),
                                        cmocka_unit_test(test_those_that_are_on),
                                        cmocka_unit_test(test_keys) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
