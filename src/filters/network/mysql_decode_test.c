#include "filters/network/mysql_decode.h"

#include "base/test.h"
#include <string.h>

static unsigned counts[MYSQL__COUNT];
static struct mysql m;

static void count(void *arg, enum mysql_stat s)
{
    (void)arg;
    counts[s]++;
}

static void begin(void)
{
    memset(counts, 0, sizeof(counts));
    m = (struct mysql){ .count = count };
}

/* A packet of @n bytes that begins with @first, byte by byte. */
static void say(bool client, uint8_t number, const char *first, size_t first_n, size_t n)
{
    const char head[] = { (char)n, (char)(n >> 8), (char)(n >> 16), (char)number };
    for (size_t i = 0; i < sizeof(head); i++)
        mysql_feed(&m, client, &head[i], 1);
    for (size_t i = 0; i < n; i++)
        mysql_feed(&m, client, i < first_n ? &first[i] : "x", 1);
}

static void greet(const char *flags, size_t login_bytes)
{
    begin();
    say(false, 0, "\x0a", 1, 70);
    say(true, 1, flags, 2, login_bytes);
}

static void test_login(void **state)
{
    (void)state;
    greet("\x00\x02", 60);
    say(false, 2, "\x00", 1, 7);
    for (int i = 0; i < 3;
         i++) { /* commands, each counted from 0, and answers of several packets */
        say(true, 0, "\x03", 1, 9);
        say(false, 1, "\x01", 1, 1);
        say(false, 2, "\x02", 1, 300000);
    }
    assert_int_equal(counts[MYSQL_LOGIN_ATTEMPTS], 1);
    assert_int_equal(
        counts[MYSQL_LOGIN_FAILURES] + counts[MYSQL_PROTOCOL_ERRORS] + counts[MYSQL_UPGRADED], 0);
    say(false, 7, "\x00", 1, 7);
    assert_int_equal(counts[MYSQL_PROTOCOL_ERRORS], 1);
}

static void test_failures(void **state)
{
    (void)state;
    greet("\x00\x02", 60);
    say(false, 2, "\xff", 1, 20);
    assert_int_equal(counts[MYSQL_LOGIN_FAILURES], 1);
    greet("\x00\x02", 60);
    say(false, 2, "\xfe", 1, 44); /* another way to log in */
    say(true, 3, "\x11", 1, 20);
    say(false, 4, "\xff", 1, 20);
    assert_int_equal(counts[MYSQL_AUTH_SWITCH], 1);
    assert_int_equal(counts[MYSQL_LOGIN_FAILURES], 1);
    greet("\x00\x02", 60);
    say(false, 2, "\x01\x04", 2, 2); /* more of it: the whole password is asked for */
    say(true, 3, "p", 1, 8);
    say(false, 4, "\x00", 1, 7);
    say(true, 0, "\x01", 1, 1);
    assert_int_equal(counts[MYSQL_LOGIN_FAILURES] + counts[MYSQL_PROTOCOL_ERRORS], 0);
}

static void test_tls(void **state)
{
    (void)state;
    greet("\x00\x0a", 32);
    assert_int_equal(counts[MYSQL_UPGRADED], 1);
    assert_true(m.deaf);
    say(true, 77, "\x16\x03", 2, 500);
    assert_int_equal(counts[MYSQL_PROTOCOL_ERRORS], 0);
}

static void test_empty(void **state)
{
    (void)state;
    greet("\x00\x02", 60);
    say(false, 2, "", 0, 0);
    say(false, 3, "\xff", 1, 20);
    assert_int_equal(counts[MYSQL_LOGIN_FAILURES], 0); /* not understood any more */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_login),
                                        cmocka_unit_test(test_failures), cmocka_unit_test(test_tls),
                                        cmocka_unit_test(test_empty) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
