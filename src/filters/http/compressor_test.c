#include "base/test.h"

#include "base/alloc.h"
#include "filters/http/compressor.h"

/* Which encoding a client is given (H9). */

#define GZ                                                                                         \
    {                                                                                              \
        MZ_STR_INIT("gzip"), false, false                                                          \
    }
#define BR                                                                                         \
    {                                                                                              \
        MZ_STR_INIT("br"), false, false                                                            \
    }
#define ZS                                                                                         \
    {                                                                                              \
        MZ_STR_INIT("zstd"), true, false                                                           \
    }
static const struct {
    const char *accept;
    struct compressor_offer offers[3];
    const char *encoding;
    enum compressor_header_stat why;
} cases[] = {
    { "gzip", { GZ }, "gzip", COMPRESSOR_USED },
    { "br, gzip;q=0.5", { GZ }, "gzip", COMPRESSOR_USED },
    { "gzip;q=0", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "gzip;q=0, *", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "gzip;q=0, *", { GZ, BR }, "br", COMPRESSOR_WILDCARD },
    { "*", { BR, GZ }, "br", COMPRESSOR_WILDCARD },
    { "*;q=0", { BR }, "", COMPRESSOR_NOT_VALID },
    { "identity", { GZ }, "", COMPRESSOR_IDENTITY },
    { "identity;q=0.2, gzip;q=0.3", { GZ }, "gzip", COMPRESSOR_USED },
    { "gzip;q=0.5, br;q=0.9, zstd;q=0.7", { GZ, BR }, "br", COMPRESSOR_USED },
    { "br, gzip", { GZ, BR }, "br", COMPRESSOR_USED },
    { "br, gzip, zstd", { GZ, BR, ZS }, "zstd", COMPRESSOR_USED },
    { "br;q=0.001, zstd;q=0.0001", { BR, ZS }, "br", COMPRESSOR_USED },
    { "deflate, compress", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "", { GZ }, "", COMPRESSOR_NOT_VALID },
    { " , ,", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "GZIP", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "gzip;q=high, br", { GZ, BR }, "br", COMPRESSOR_USED },
    { "gzip;q=", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "gzip;q=-1", { GZ }, "", COMPRESSOR_NOT_VALID },
    { "gzip;q=99999999999999999999", { GZ }, "gzip", COMPRESSOR_USED },
    { "gzip;q=0.00000000000000000001", { GZ }, "", COMPRESSOR_NOT_VALID },
    { " gzip ; Q = 0.3 ", { GZ }, "gzip", COMPRESSOR_USED },
    { "gzip;level=9", { GZ }, "gzip", COMPRESSOR_USED },
    { "gzip", { { MZ_STR_INIT(""), false, false } }, "", COMPRESSOR_NOT_VALID },
};

static void test_choose(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct compressor_offer offers[3];
        size_t n = 0;
        while (n < 3 && cases[i].offers[n].encoding.n) {
            offers[n] = cases[i].offers[n];
            n++;
        }
        struct compressor_decision d = compressor_choose(mz_str_c(cases[i].accept), offers, n);
        if (!mz_str_eq(d.encoding, mz_str_c(cases[i].encoding)) || d.why != cases[i].why)
            fail_msg("%s: " MZ_STR_FMT " %d", cases[i].accept, MZ_STR_ARG(d.encoding), (int)d.why);
    }
}

static void test_token(void **state)
{
    (void)state;
    assert_true(coding_has_token(MZ_STR("max-age=1, No-Transform"), MZ_STR("no-transform")));
    assert_false(coding_has_token(MZ_STR("max-age=1, no-transforms"), MZ_STR("no-transform")));
    assert_false(coding_has_token(MZ_STR(""), MZ_STR("no-transform")));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_choose),
                                        cmocka_unit_test(test_token) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
