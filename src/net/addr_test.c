#include "net/addr.h"

#include "base/alloc.h"
#include "base/rand.h"
#include "base/test.h"
#include <stdio.h>
#include <sys/un.h>

static const struct {
    const char *ip, *text, *ip_text;
    uint16_t port;
    bool ok;
} addrs[] = {
    { "127.0.0.1", "127.0.0.1:80", "127.0.0.1", 80, true },
    { "255.10.0.99", "255.10.0.99:65535", "255.10.0.99", 65535, true },
    { "::1", "[::1]:443", "::1", 443, true },
    { "2001:DB8::A", "[2001:db8::a]:0", "2001:db8::a", 0, true },
    { "localhost", NULL, NULL, 0, false },
    { "1.2.3", NULL, NULL, 0, false },
    { "", NULL, NULL, 0, false },
    { "1.2.3.4.5", NULL, NULL, 0, false },
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(addrs); i++) {
        struct mz_addr a = { 0 };
        char text[MZ_ADDR_TEXT];
        assert_int_equal(mz_addr_parse_ip(mz_str_c(addrs[i].ip), addrs[i].port, &a), addrs[i].ok);
        if (!addrs[i].ok) {
            assert_int_equal(a.len, 0);
            continue;
        }
        assert_int_equal(mz_addr_text(&a, text), strlen(addrs[i].text));
        assert_string_equal(text, addrs[i].text);
        mz_addr_ip_text(&a, text);
        assert_string_equal(text, addrs[i].ip_text);
        assert_int_equal(mz_addr_port(&a), addrs[i].port);
        struct mz_addr b = a;
        assert_true(mz_addr_eq(&a, &b));
        mz_addr_set_port(&b, (uint16_t)(addrs[i].port + 1));
        assert_false(mz_addr_eq(&a, &b));
        assert_true(mz_addr_ip_eq(&a, &b));
        assert_true(mz_addr_hash(&a) != mz_addr_hash(&b));
    }
}

/* Texts that are remembered, forgotten and asked for again, with and without what hashes would confuse. */
static void test_again_and_again(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 3);
    for (unsigned i = 0; i < 20000; i++) {
        struct mz_addr a;
        char ip[16], want[32], text[MZ_ADDR_TEXT];
        unsigned last = (unsigned)mz_rand_below(&r, i % 2 ? 3 : 256);
        unsigned port = (unsigned)mz_rand_below(&r, i % 3 ? 65536 : 4);
        (void)snprintf(ip, sizeof(ip), "%u.0.0.%u", i % 5 ? 0 : 10, last);
        (void)snprintf(want, sizeof(want), "%s:%u", ip, port);
        assert_true(mz_addr_parse_ip(mz_str_c(ip), (uint16_t)port, &a));
        assert_int_equal(mz_addr_text(&a, text), strlen(want));
        assert_string_equal(text, want);
    }
}

static void test_unix(void **state)
{
    (void)state;
    struct mz_addr a;
    struct mz_err err;
    char text[MZ_ADDR_TEXT], long_path[200];
    assert_true(mz_addr_unix(MZ_STR("/tmp/x.sock"), &a, &err));
    mz_addr_text(&a, text);
    assert_string_equal(text, "/tmp/x.sock");
    assert_true(mz_addr_is_loopback(&a));
    assert_false(mz_addr_is_ip(&a));
    assert_true(mz_addr_unix(MZ_STR("@abstract"), &a, &err));
    mz_addr_text(&a, text);
    assert_string_equal(text, "@abstract");
    memset(long_path, 'x', sizeof(long_path));
    assert_true(mz_addr_unix((struct mz_str){ long_path, 107 }, &a, &err));
    assert_false(mz_addr_unix((struct mz_str){ long_path, 108 }, &a, &err));
    assert_non_null(strstr(err.msg, "longer than a UNIX socket's path"));
    assert_false(mz_addr_unix(MZ_STR(""), &a, &err));
    assert_non_null(strstr(err.msg, "not a path"));
}

static void test_unix_paths_cap(void **state)
{
    (void)state;
    struct mz_addr a, again;
    struct mz_err err;
    char path[32];
    unsigned taken = 0;
    assert_true(mz_addr_unix(MZ_STR("/tmp/x.sock"), &a, &err));
    while (snprintf(path, sizeof(path), "/tmp/%u", taken) > 0 &&
           mz_addr_unix(mz_str_c(path), &again, &err))
        assert_true(taken++ < MZ_ADDR_PATHS_MAX);
    assert_non_null(strstr(err.msg, "more than 65536 different paths"));
    assert_true(mz_addr_unix(MZ_STR("/tmp/x.sock"), &again, &err)); /* a known one still serves */
    assert_true(mz_addr_eq(&a, &again));
    mz_addr_paths_free();
}

static const struct {
    const char *path;
    socklen_t len;
    char first;
    const char *file;
} unix_sockets[] = {
    { "/tmp/x.sock", 2 + 11 + 1, '/', "/tmp/x.sock" },
    { "@abstract", 2 + 9, '\0', NULL },
};

static void test_unix_sockaddr(void **state)
{
    (void)state;
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(unix_sockets); i++) {
        struct mz_addr a, again, other;
        struct sockaddr_storage ss;
        struct sockaddr_un un;
        assert_true(mz_addr_unix(mz_str_c(unix_sockets[i].path), &a, &err));
        assert_int_equal(mz_addr_sockaddr(&a, &ss), unix_sockets[i].len);
        memcpy(&un, &ss, sizeof(un));
        assert_int_equal(un.sun_family, AF_UNIX);
        assert_int_equal(un.sun_path[0], unix_sockets[i].first);
        assert_string_equal(un.sun_path + 1, unix_sockets[i].path + 1);
        const char *file = mz_addr_file(&a);
        assert_string_equal(file ? file : "", unix_sockets[i].file ? unix_sockets[i].file : "");
        char copy[32];
        snprintf(copy, sizeof(copy), "%s", unix_sockets[i].path);
        assert_true(mz_addr_unix(mz_str_c(copy), &again, &err));
        assert_true(mz_addr_unix(MZ_STR("/tmp/y.sock"), &other, &err));
        assert_true(mz_addr_eq(&a, &again));
        assert_true(mz_addr_hash(&a) == mz_addr_hash(&again));
        assert_false(mz_addr_eq(&a, &other));
        struct mz_addr peer = mz_addr_from_sockaddr(&ss, unix_sockets[i].len);
        char text[MZ_ADDR_TEXT];
        assert_int_equal(mz_addr_text(&peer, text), 0); /* a peer's own path is not kept */
        assert_true(mz_addr_is_loopback(&peer));
        assert_false(mz_addr_eq(&peer, &a));
        assert_int_equal(mz_addr_sockaddr(&peer, &ss), sizeof(sa_family_t));
    }
}

static void test_ip_sockaddr(void **state)
{
    (void)state;
    static const char *const ips[] = { "127.0.0.1", "2001:db8::1" };
    for (size_t i = 0; i < MZ_COUNT(ips); i++) {
        struct mz_addr a, back;
        struct sockaddr_storage ss;
        assert_true(mz_addr_parse_ip(mz_str_c(ips[i]), 80, &a));
        back = mz_addr_from_sockaddr(&ss, mz_addr_sockaddr(&a, &ss));
        assert_true(mz_addr_eq(&a, &back));
        assert_int_equal(back.len, a.len);
    }
    struct sockaddr_storage packet = { .ss_family = AF_PACKET };
    assert_int_equal(mz_addr_from_sockaddr(&packet, sizeof(packet)).len, 0);
    assert_int_equal(mz_addr_from_sockaddr(&packet, 0).len, 0);
}

static const struct {
    const char *prefix, *addr;
    unsigned bits;
    bool match;
} cidrs[] = {
    { "10.0.0.0", "10.255.1.2", 8, true },       { "10.0.0.0", "11.0.0.1", 8, false },
    { "10.1.2.3", "10.1.2.3", 32, true },        { "10.1.2.3", "10.1.2.2", 32, false },
    { "10.1.2.77", "10.1.2.64", 27, true },      { "10.1.2.77", "10.1.2.96", 27, false },
    { "0.0.0.0", "8.8.8.8", 0, true },           { "0.0.0.0", "::1", 0, false },
    { "2001:db8::", "2001:db8:1::1", 32, true }, { "2001:db8::", "2001:db9::1", 32, false },
    { "10.1.2.3", "10.1.2.3", 99, true },
};

static void test_cidr(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cidrs); i++) {
        struct mz_cidr c;
        struct mz_err err;
        struct mz_addr a;
        assert_true(mz_cidr_make(mz_str_c(cidrs[i].prefix), cidrs[i].bits, &c, &err));
        assert_true(mz_addr_parse_ip(mz_str_c(cidrs[i].addr), 1, &a));
        assert_int_equal(mz_cidr_match(&c, &a), cidrs[i].match);
    }
    struct mz_cidr c;
    struct mz_err err;
    assert_false(mz_cidr_make(MZ_STR("10.0.0"), 8, &c, &err));
    assert_string_equal(err.msg, "malformed IP address: 10.0.0");
}

static void test_kinds(void **state)
{
    (void)state;
    struct mz_addr a, none = { .len = 0 };
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &a);
    assert_true(mz_addr_is_loopback(&a));
    mz_addr_parse_ip(MZ_STR("127.8.8.8"), 0, &a);
    assert_false(mz_addr_is_loopback(&a)); /* as Envoy */
    mz_addr_parse_ip(MZ_STR("::"), 0, &a);
    assert_true(mz_addr_is_any(&a));
    assert_false(mz_addr_is_loopback(&a));
    assert_false(mz_addr_eq(&a, &none));
    assert_true(mz_addr_eq(&none, &none));
    const struct mz_addr *m = mz_addr_local_machine();
    assert_true(m->len == 0 || !mz_addr_is_loopback(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),          cmocka_unit_test(test_unix),
        cmocka_unit_test(test_unix_paths_cap), cmocka_unit_test(test_unix_sockaddr),
        cmocka_unit_test(test_ip_sockaddr),    cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_kinds),          cmocka_unit_test(test_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
