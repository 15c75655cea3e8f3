#include "filters/http/ip_tags.h"

#include "base/test.h"

#include <stdio.h>

static const struct {
    const char *prefix;
    unsigned bits, tag;
} ranges[] = {
    { "1.2.0.0", 16, 0 }, { "1.2.3.0", 24, 1 }, { "1.2.3.9", 24, 2 },    { "1.2.3.4", 32, 1 },
    { "0.0.0.0", 0, 3 },  { "::", 0, 4 },       { "2001:db8::", 33, 5 }, { "::1", 128, 6 },
};
static const struct {
    const char *address;
    unsigned hits; /* a bit a tag */
} cases[] = {
    { "1.2.3.4", 0x0f }, { "1.2.3.5", 0x0f },     { "1.2.4.4", 0x09 },          { "8.8.8.8", 0x08 },
    { "::1", 0x50 },     { "2001:db8::1", 0x30 }, { "2001:db8:8000::1", 0x10 }, { "::2", 0x10 },
};

static void test_ranges(void **state)
{
    (void)state;
    struct ip_tags *t = ip_tags_create();
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(ranges); i++) {
        struct mz_cidr c;
        assert_true(mz_cidr_make(mz_str_c(ranges[i].prefix), ranges[i].bits, &c, &err));
        ip_tags_add(t, &c, ranges[i].tag);
    }
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_addr a;
        bool hit[7] = { false };
        unsigned bits = 0;
        assert_true(mz_addr_parse_ip(mz_str_c(cases[i].address), 80, &a));
        assert_int_equal(ip_tags_find(t, &a, hit), cases[i].hits != 0);
        for (unsigned k = 0; k < 7; k++)
            bits |= hit[k] ? 1u << k : 0;
        if (bits != cases[i].hits)
            fail_msg("%s: %x", cases[i].address, bits);
    }
    ip_tags_destroy(t);
}

/* The same as comparing with every range. */
static void test_against_all_ranges(void **state)
{
    (void)state;
    struct ip_tags *t = ip_tags_create();
    static struct mz_cidr all[400];
    uint32_t seed = 7;
    struct mz_err err;
    char text[32];
    for (uint32_t i = 0; i < MZ_COUNT(all); i++) {
        seed = seed * 1664525 + 1013904223;
        (void)snprintf(text, sizeof(text), "10.%u.%u.%u", seed >> 30, (seed >> 20) & 3,
                       (seed >> 10) & 255);
        assert_true(mz_cidr_make(mz_str_c(text), 8 + (seed >> 5) % 25, &all[i], &err));
        ip_tags_add(t, &all[i], i);
    }
    for (unsigned n = 0; n < 2000; n++) {
        static bool hit[MZ_COUNT(all)];
        memset(hit, 0, sizeof(hit));
        struct mz_addr a;
        seed = seed * 1664525 + 1013904223;
        (void)snprintf(text, sizeof(text), "10.%u.%u.%u", seed >> 30, (seed >> 20) & 3,
                       (seed >> 10) & 255);
        assert_true(mz_addr_parse_ip(mz_str_c(text), 0, &a));
        (void)ip_tags_find(t, &a, hit);
        for (size_t i = 0; i < MZ_COUNT(all); i++)
            assert_int_equal(hit[i], mz_cidr_match(&all[i], &a));
    }
    struct mz_addr none = { 0 };
    assert_false(ip_tags_find(t, &none, NULL));
    ip_tags_destroy(t);
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_ranges),
                                    cmocka_unit_test(test_against_all_ranges) };
    return cmocka_run_group_tests_name("ip_tags", t, NULL, NULL);
}
