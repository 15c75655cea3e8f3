/* What a listener to PostgreSQL's protocol counts (L5). */
#include "base/test.h"
#include "filters/network/postgres_decode.h"
#include <stdio.h>
#include <string.h>

static unsigned counts[PG__COUNT];

static void count(void *arg, enum pg_stat s)
{
    (void)arg;
    counts[s]++;
}

static struct pg fresh(void)
{
    memset(counts, 0, sizeof(counts));
    struct pg p;
    memset(&p, 0, sizeof(p));
    p.count = count;
    return p;
}

static void start(struct pg *p)
{
    static const char version[] = "\0\0\0\x11\0\3\0\0user\0me\0"; /* 17 bytes with the length */
    pg_feed(p, true, version, 17);
}

static void say(struct pg *p, bool frontend, char type, const char *body, size_t n)
{
    const char head[5] = { type, 0, 0, (char)((n + 4) >> 8), (char)(n + 4) };
    pg_feed(p, frontend, head, 5);
    pg_feed(p, frontend, body, n);
}

static void done(struct pg *p, const char *tag)
{
    say(p, false, 'C', tag, strlen(tag) + 1);
}

static void test_sessions(void **state)
{
    (void)state;
    struct pg p = fresh();
    start(&p);
    assert_int_equal(counts[PG_MESSAGES], 0); /* Envoy counts no startup message */
    say(&p, false, 'R', "\0\0\0\3", 4);
    say(&p, true, 'p', "secret", 7);
    say(&p, false, 'R', "\0\0\0\0", 4);
    assert_int_equal(counts[PG_SESSIONS], 1);
    assert_int_equal(counts[PG_SESSIONS_UNENCRYPTED], 1);
    assert_int_equal(counts[PG_MESSAGES_BACKEND], 2);
    assert_int_equal(counts[PG_MESSAGES_FRONTEND], 1);
    assert_int_equal(counts[PG_MESSAGES], 3);
}

static void test_encrypted(void **state)
{
    (void)state;
    struct pg p = fresh();
    pg_feed(&p, true, "\0\0\0\x08\x04\xd2\x16\x2f", 8); /* SSLRequest */
    pg_feed(&p, false, "S", 1);
    say(&p, true, 'Q', "select 1", 9);
    assert_int_equal(counts[PG_SESSIONS_ENCRYPTED], 1);
    assert_int_equal(counts[PG_MESSAGES], 1);
    assert_true(p.deaf);
}

static void test_statements_and_transactions(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        enum pg_stat stat;
        unsigned begun, commit, rollback; /* sums so far */
    } cases[] = {
        { "SELECT 3", PG_STATEMENTS_SELECT, 1, 1, 0 },
        { "CREATE TABLE", PG_STATEMENTS_OTHER, 2, 2, 0 },
        { "BEGIN", PG_STATEMENTS_OTHER, 3, 2, 0 },
        { "INSERT 0 1", PG_STATEMENTS_INSERT, 3, 2, 0 },
        { "UPDATE 7", PG_STATEMENTS_UPDATE, 3, 2, 0 },
        { "COMMIT", PG_STATEMENTS_OTHER, 3, 3, 0 },
        { "START TRANSACTION", PG_STATEMENTS_OTHER, 4, 3, 0 },
        { "DELETE 0", PG_STATEMENTS_DELETE, 4, 3, 0 },
        { "ROLLBACK", PG_STATEMENTS_OTHER, 4, 3, 1 },
        { "ROLLBACK", PG_STATEMENTS_OTHER, 4, 3, 1 },
    };
    struct pg p = fresh();
    start(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned before = counts[cases[i].stat];
        done(&p, cases[i].tag);
        assert_int_equal(counts[cases[i].stat], before + 1);
        assert_int_equal(counts[PG_STATEMENTS], i + 1);
        assert_int_equal(counts[PG_TRANSACTIONS], cases[i].begun);
        assert_int_equal(counts[PG_TRANSACTIONS_COMMIT], cases[i].commit);
        assert_int_equal(counts[PG_TRANSACTIONS_ROLLBACK], cases[i].rollback);
    }
    done(&p, "BEGIN");
    say(&p, true, 'X', "", 0);
    assert_int_equal(counts[PG_TRANSACTIONS_ROLLBACK], 2);
}

static void test_errors_and_notices(void **state)
{
    (void)state;
    static const struct {
        char type;
        const char *body;
        size_t n;
        enum pg_stat stat;
    } cases[] = {
        { 'E', "SERROR\0VERROR\0C42601\0\0", 22, PG_ERRORS_ERROR },
        { 'E', "SFEHLER\0VFATAL\0\0", 16, PG_ERRORS_FATAL }, /* of another language */
        { 'E', "SPANIC\0\0", 8, PG_ERRORS_PANIC },
        { 'E', "SFEHLER\0\0", 9, PG_ERRORS_UNKNOWN },
        { 'E', "", 0, PG_ERRORS_UNKNOWN },
        { 'E', "SERROR", 6, PG_ERRORS_UNKNOWN }, /* no end of the text */
        { 'N', "SWARNING\0\0", 10, PG_NOTICES_WARNING },
        { 'N', "SLOG\0\0", 6, PG_NOTICES_LOG },
        { 'N', "MLOG\0\0", 6, PG_NOTICES_UNKNOWN },
    };
    struct pg p = fresh();
    start(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned before = counts[cases[i].stat];
        say(&p, false, cases[i].type, cases[i].body, cases[i].n);
        assert_int_equal(counts[cases[i].stat], before + 1);
    }
    assert_int_equal(counts[PG_ERRORS], 6);
    assert_int_equal(counts[PG_NOTICES], 3);
}

static void test_unknown_and_broken(void **state)
{
    (void)state;
    struct pg p = fresh();
    start(&p);
    say(&p, true, '!', "x", 1);
    assert_int_equal(counts[PG_MESSAGES_UNKNOWN], 1);
    assert_int_equal(counts[PG_MESSAGES], 2); /* both ways, as Envoy */
    pg_feed(&p, true, "Q\0\0\0\3", 5);        /* shorter than its own length */
    assert_true(p.deaf);
    p = fresh();
    pg_feed(&p, true, "GET / HTTP/1.1\r\n", 16);
    assert_true(p.deaf);
    p = fresh();
    pg_feed(&p, false, "x", 1); /* a server that speaks first is none */
    assert_true(p.deaf);
    assert_int_equal(counts[PG_MESSAGES], 0);
}

static void test_any_pieces(void **state)
{
    (void)state;
    struct pg p = fresh();
    static const char row[] = "D\0\0\x10\0";
    start(&p);
    pg_feed(&p, false, row, 5);
    for (unsigned i = 0; i < 0x1000 - 4; i++)
        pg_feed(&p, false, "y", 1);
    assert_int_equal(counts[PG_MESSAGES_BACKEND], 1);
    assert_int_equal(p.sides[0].head_n, 0);
    done(&p, "SELECT 1");
    assert_int_equal(counts[PG_STATEMENTS_SELECT], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sessions),
                                        cmocka_unit_test(test_encrypted),
                                        cmocka_unit_test(test_statements_and_transactions),
                                        cmocka_unit_test(test_errors_and_notices),
                                        cmocka_unit_test(test_unknown_and_broken),
                                        cmocka_unit_test(test_any_pieces) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
