#include "agent/dns/message.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/test.h"

#define HEAD  "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define NAME  "\x03Web\x04shop\x00"
#define ASKED NAME "\x00\x01\x00\x01"
#define OPT   "\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"
#define MSG(lit)                                                                                   \
    {                                                                                              \
        "" lit, sizeof(lit) - 1                                                                    \
    }

static const struct {
    const char *what;
    struct mz_str message;
    enum mz_dns_read read;
    enum mz_dns_code code;
    const char *name;
} cases[] = {
    { "plain", MSG(HEAD ASKED), MZ_DNS_READ_OK, 0, "web.shop" },
    { "root", MSG(HEAD "\x00\x00\x01\x00\x01"), MZ_DNS_READ_OK, 0, "" },
    { "a dot within a label",
      MSG(HEAD "\x03"
               "a.b\x00\x00\x01\x00\x01"),
      MZ_DNS_READ_OK, 0, "" },
    { "behind it more", MSG(HEAD ASKED "xyz"), MZ_DNS_READ_OK, 0, "web.shop" },
    { "nothing", MSG(""), MZ_DNS_READ_IGNORE, 0, NULL },
    { "half a header", MSG("\x12\x34\x01\x00"), MZ_DNS_READ_IGNORE, 0, NULL },
    { "an answer", MSG("\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00" ASKED),
      MZ_DNS_READ_IGNORE, 0, NULL },
    { "an update", MSG("\x12\x34\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00" ASKED),
      MZ_DNS_READ_REFUSE, MZ_DNS_NOTIMP, NULL },
    { "no question", MSG("\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), MZ_DNS_READ_REFUSE,
      MZ_DNS_FORMERR, NULL },
    { "two questions", MSG("\x12\x34\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00" ASKED ASKED),
      MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR, NULL },
    { "a reference", MSG(HEAD "\xc0\x0c\x00\x01\x00\x01"), MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR,
      NULL },
    { "a cut name", MSG(HEAD "\x09web"), MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR, NULL },
    { "a cut type", MSG(HEAD NAME "\x00\x01\x00"), MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR, NULL },
    { "a record that is not there", MSG("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" ASKED),
      MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR, NULL },
    { "two OPT", MSG("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x02" ASKED OPT OPT),
      MZ_DNS_READ_REFUSE, MZ_DNS_FORMERR, NULL },
};

static void test_questions(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_dns_question q;
        enum mz_dns_code code = 0;
        const enum mz_dns_read got = mz_dns_question_read(cases[i].message, &q, &code);
        if (got != cases[i].read || (got == MZ_DNS_READ_REFUSE && code != cases[i].code))
            fail_msg("%s: %d, code %d", cases[i].what, got, code);
        if (got == MZ_DNS_READ_OK)
            assert_string_equal(q.name, cases[i].name);
    }
}

static void test_long_names(void **state)
{
    (void)state;
    char message[600] = HEAD;
    struct mz_dns_question q;
    enum mz_dns_code code;
    for (size_t last = 61; last <= 62; last++) { /* 255 bytes, and 256 */
        size_t n = 12;
        for (size_t i = 0; i < 4; i++) {
            const size_t len = i < 3 ? 63 : last;
            message[n++] = (char)len;
            memset(message + n, 'A', len);
            n += len;
        }
        memcpy(message + n, "\0\0\1\0\1", 5);
        const enum mz_dns_read got =
            mz_dns_question_read((struct mz_str){ message, n + 5 }, &q, &code);
        assert_int_equal(got, last == 61 ? MZ_DNS_READ_OK : MZ_DNS_READ_REFUSE);
        if (last == 61)
            assert_int_equal(strlen(q.name), 253);
    }
}

static struct mz_dns_question asked(bool edns)
{
    static const struct mz_str plain = MSG(HEAD ASKED),
                               with = MSG(
                                   "\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x01" ASKED OPT);
    struct mz_dns_question q;
    enum mz_dns_code code;
    assert_int_equal(mz_dns_question_read(edns ? with : plain, &q, &code), MZ_DNS_READ_OK);
    assert_int_equal(q.edns, edns);
    assert_int_equal(q.room, edns ? 4096 : 512);
    assert_int_equal(q.dnssec, edns);
    return q;
}

static void test_asked_of_others(void **state)
{
    (void)state;
    char out[MZ_DNS_ASKED_MAX];
    struct mz_dns_question q = asked(false);
    static const char plain[] = "\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" ASKED;
    static const char with[] = "\xbe\xef\x01\x10\x00\x01\x00\x00\x00\x00\x00\x01" ASKED
                               "\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
    assert_int_equal(mz_dns_question_write(&q, 0xbeef, out), sizeof(plain) - 1);
    assert_memory_equal(out, plain, sizeof(plain) - 1);
    q = asked(true);
    assert_int_equal(mz_dns_question_write(&q, 0xbeef, out), sizeof(with) - 1);
    assert_memory_equal(out, with, sizeof(with) - 1);
}

static void test_answers(void **state)
{
    (void)state;
    char out[600];
    struct mz_dns_reply r;
    const struct mz_dns_question q = asked(false);
    static const char want[] = "\x12\x34\x85\x80\x00\x01\x00\x02\x00\x00\x00\x00" ASKED
                               "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x1e\x00\x05\x03"
                               "api\x00"
                               "\xc0\x26\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x01";
    mz_dns_reply_begin(&r, &q, out, 512);
    mz_dns_reply_alias(&r, MZ_STR("api"), 30);
    mz_dns_reply_address(&r, MZ_DNS_A, "\x0a\0\0\1", 30);
    assert_int_equal(mz_dns_reply_end(&r, MZ_DNS_NOERROR, true), sizeof(want) - 1);
    assert_memory_equal(out, want, sizeof(want) - 1);
    mz_dns_reply_begin(&r, &q, out, 512);
    for (unsigned i = 0; i < 100; i++)
        mz_dns_reply_address(&r, MZ_DNS_A, &i, 30);
    const size_t n = mz_dns_reply_end(&r, MZ_DNS_NOERROR, true);
    assert_true(n <= 512 && n > 490 && out[2] & 2);
    assert_int_equal((uint8_t)out[7], (n - 12 - q.section.n) / 16);
}

static void test_answers_of_others(void **state)
{
    (void)state;
    char out[600];
    const struct mz_dns_question q = asked(false);
    static const struct mz_str good = MSG("\xbe\xef\x81\x80\x00\x01\x00\x01\x00\x00\x00\x01"
                                          "\x03wEb\x04shop\x00\x00\x01\x00\x01"
                                          "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\x01\x02"
                                          "\x03\x04" OPT),
                               other = MSG("\xbe\xef\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00"
                                           "\x03wEb\x04shoq\x00\x00\x01\x00\x01"),
                               asks = MSG(HEAD ASKED);
    size_t n = mz_dns_reply_forward(&q, good, out, 512);
    assert_int_equal(n, good.n - 11); /* who sent no OPT record gets none */
    assert_memory_equal(out, "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" ASKED "\xc0\x0c",
                        28);
    n = mz_dns_reply_forward(&q, good, out, 40);
    assert_int_equal(n, 12 + q.section.n);
    assert_true(out[2] & 2);
    assert_int_equal(mz_dns_reply_forward(&q, other, out, 512), 0);
    assert_int_equal(mz_dns_reply_forward(&q, asks, out, 512), 0);
    assert_int_equal(mz_dns_reply_forward(&q, (struct mz_str){ good.p, 11 }, out, 512), 0);
    const struct mz_dns_question with = asked(true);
    assert_int_equal(mz_dns_reply_forward(&with, good, out, 512), good.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),         cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_asked_of_others),   cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
