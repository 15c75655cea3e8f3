/* The PROXY header and the ClientHello: tables, and every prefix of what is whole asks for more. */
#include "base/test.h"

#include "filters/listener/client_hello.h"
#include "filters/listener/proxy_header.h"

static const struct {
    const char *text;
    size_t n;
    enum proxy_header_result result;
    bool local;
    const char *source;
} headers[] = {
#define H(text, result, local, source)                                                             \
    {                                                                                              \
        text, sizeof(text) - 1, result, local, source                                              \
    }
    H("PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\n", PROXY_DONE, false, "1.2.3.4:1"),
    H("PROXY TCP6 ::1 ::2 1 2\r\n", PROXY_DONE, false, "[::1]:1"),
    H("PROXY UNKNOWN\r\n", PROXY_DONE, true, NULL),
    H("PROXY UNKNOWN ffff::1 x\r\n", PROXY_DONE, true, NULL),
    H("PROXY UNKNOWNX\r\n", PROXY_BAD, false, NULL),
    H("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", PROXY_BAD, false, NULL),
    H("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", PROXY_BAD, false, NULL),
    H("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", PROXY_BAD, false, NULL),
    H("PROXY TCP4 ::1 ::1 1 2\r\n", PROXY_BAD, false, NULL),
    H("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", PROXY_BAD, false, NULL),
    H("PROXZ", PROXY_NONE, false, NULL),
    H("GET / HTTP/1.1\r\n", PROXY_NONE, false, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\1\2\3\4\5\6\7\10\0\1\0\2", PROXY_DONE, false,
      "1.2.3.4:1"),
    H("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", PROXY_DONE, true, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", PROXY_BAD, false, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\x10\0\0", PROXY_BAD, false, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\1\2\3\4\5\6\7\10\0\1\0\2", PROXY_DONE, false,
      "1.2.3.4:1"),
    H("\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c", PROXY_BAD, false, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x0c", PROXY_BAD, false, NULL),
    H("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\1\2\3\4\5\6\7\10\0\1\0\2\4\0\1", PROXY_BAD, false, NULL),
#undef H
};

static void test_proxy_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(headers); i++) {
        struct proxy_header h;
        char text[MZ_ADDR_TEXT];
        struct mz_str all = { headers[i].text, headers[i].n };
        assert_int_equal(proxy_header_read(all, &h), headers[i].result);
        if (headers[i].result != PROXY_DONE)
            continue;
        assert_int_equal(h.length, headers[i].n);
        assert_int_equal(h.local, headers[i].local);
        if (headers[i].source) {
            text[mz_addr_text(&h.source, text)] = 0;
            assert_string_equal(text, headers[i].source);
        }
        for (size_t n = 0; n < all.n; n++)
            assert_int_equal(proxy_header_read((struct mz_str){ all.p, n }, &h), PROXY_MORE);
    }
}

/* TLS 1.2 and 1.3, two ciphers and a GREASE one, server name a.test, ALPN h2 and http/1.1, two groups, two algorithms. */
static const char hello[] = "\x16\x03\x01\x00\x7b\x01\x00\x00\x77\x03\x03"
                            "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00"
                            "\x00\x06\x0a\x0a\x13\x01\xc0\x2b\x01\x00\x00\x48"
                            "\x00\x00\x00\x0b\x00\x09\x00\x00\x06"
                            "a.test"
                            "\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1"
                            "\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17"
                            "\x00\x0b\x00\x02\x01\x00"
                            "\x00\x0d\x00\x06\x00\x04\x04\x03\x08\x04"
                            "\x00\x2b\x00\x05\x04\x03\x04\x03\x03"
                            "\x1a\x1a\x00\x00";

static void test_hello(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct client_hello h;
    size_t used;
    const struct mz_str all = { hello, sizeof(hello) - 1 };
    assert_int_equal(client_hello_read(all, a, &h, &used), HELLO_DONE);
    assert_int_equal(used, all.n);
    assert_true(mz_str_eq(h.sni, MZ_STR("a.test")) && h.has_alpn && h.version == 0x0303);
    assert_int_equal(h.alpn.n, 12);
    assert_string_equal(client_hello_ja4(&h, a).p, "t13d0206h2_777cda164f4b_fb71836bce29");
    assert_string_equal(client_hello_ja3(&h, a).p, "c9a5c7bf9ecc2971a48696fc62269fa7");
    for (size_t n = 0; n < all.n; n++)
        assert_int_equal(client_hello_read((struct mz_str){ all.p, n }, a, &h, &used), HELLO_MORE);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_proxy_headers),
                                        cmocka_unit_test(test_hello) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
