/* The PROXY protocol's header as we write it (U8, G16). */
#include "base/test.h"
#include "net/addr.h"
#include "transports/transports.h"
#include <string.h>

static struct mz_addr at(const char *ip, uint16_t port)
{
    struct mz_addr a;
    assert_true(mz_addr_parse_ip(mz_str_c(ip), port, &a));
    return a;
}

static void test_version_1(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *head;
    } cases[] = {
        { "1.2.3.4", "5.6.7.8", "PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n" },
        { "::1", "2001:db8::2", "PROXY TCP6 ::1 2001:db8::2 1000 2000\r\n" },
        { "1.2.3.4", "::1", "PROXY TCP6 ::ffff:1.2.3.4 ::1 1000 2000\r\n" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_addr from = at(cases[i].from, 1000), to = at(cases[i].to, 2000);
        const struct mz_proxy_emit e = { .version = 1, .source = &from, .destination = &to };
        char head[256];
        bool cut;
        size_t n = mz_proxy_emit(&e, head, &cut);
        assert_true(mz_str_eq((struct mz_str){ head, n }, mz_str_c(cases[i].head)));
    }
}

static void test_no_ip_addresses(void **state)
{
    (void)state;
    struct mz_addr ip = at("1.2.3.4", 1), file;
    struct mz_err err;
    char head[256];
    bool cut;
    assert_true(mz_addr_unix(MZ_STR("/tmp/x"), &file, &err));
    const struct mz_proxy_emit one = { .version = 1, .source = &file, .destination = &ip };
    assert_int_equal(mz_proxy_emit(&one, head, &cut), 15);
    assert_memory_equal(head, "PROXY UNKNOWN\r\n", 15);
    const struct mz_proxy_emit two = { .version = 2, .source = &file, .destination = &ip };
    assert_int_equal(mz_proxy_emit(&two, head, &cut), 16);
    assert_memory_equal(head, "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
    mz_addr_paths_free();
}

static void test_version_2(void **state)
{
    (void)state;
    struct mz_addr from = at("1.2.3.4", 0x102), to = at("5.6.7.8", 0x304);
    char head[256];
    bool cut;
    const struct mz_proxy_emit e = {
        .version = 2, .source = &from, .destination = &to, .tlvs = MZ_STR("\x05\0\3abc")
    };
    assert_int_equal(mz_proxy_emit(&e, head, &cut), 28 + 6);
    assert_memory_equal(head,
                        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12"
                        "\1\2\3\4\5\6\7\10\1\2\3\4"
                        "\5\0\3abc",
                        34);
    struct mz_addr six = at("::9", 7);
    const struct mz_proxy_emit mixed = { .version = 2, .source = &from, .destination = &six };
    assert_int_equal(mz_proxy_emit(&mixed, head, &cut), 16 + 36);
    assert_memory_equal(head + 12, "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4", 20);
}

static void test_tlvs_that_do_not_fit(void **state) /* CVE-2026-47692 */
{
    (void)state;
    struct mz_addr from = at("1.2.3.4", 1), to = at("5.6.7.8", 2);
    char *tlvs = test_calloc(1, 65536), *head = test_calloc(1, MZ_PROXY_V2_MAX);
    bool cut;
    static const struct {
        size_t n;
        bool cut;
    } cases[] = { { 65535 - 12, false }, { 65535 - 11, true }, { 65535, true } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_proxy_emit e = {
            .version = 2, .source = &from, .destination = &to, .tlvs = { tlvs, cases[i].n }
        };
        size_t n = mz_proxy_emit(&e, head, &cut);
        assert_int_equal(cut, cases[i].cut);
        assert_int_equal(n, cut ? 28 : 28 + cases[i].n);
        assert_int_equal((unsigned char)head[14] << 8 | (unsigned char)head[15], n - 16);
    }
    test_free(tlvs);
    test_free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_version_1),
                                        cmocka_unit_test(test_no_ip_addresses),
                                        cmocka_unit_test(test_version_2),
                                        cmocka_unit_test(test_tlvs_that_do_not_fit) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
