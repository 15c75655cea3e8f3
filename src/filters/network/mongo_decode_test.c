#include "filters/network/mongo_decode.h"

#include "base/alloc.h"
#include "base/test.h"
#include <stdio.h>

/* ---- messages ---- */

struct bytes {
    char v[1024];
    size_t n;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    memcpy(b->v + b->n, p, n);
    b->n += n;
}

static void put32(struct bytes *b, uint32_t v)
{
    const unsigned char le[] = { (unsigned char)v, (unsigned char)(v >> 8),
                                 (unsigned char)(v >> 16), (unsigned char)(v >> 24) };
    put(b, le, 4);
}

static void set32(struct bytes *b, size_t at, uint32_t v)
{
    struct bytes one = { .n = 0 };
    put32(&one, v);
    memcpy(b->v + at, one.v, 4);
}

static void put_text(struct bytes *b, const char *s)
{
    put(b, s, strlen(s) + 1);
}

static void begin(struct bytes *b, uint32_t op)
{
    b->n = 0;
    put32(b, 0);
    put32(b, 7);
    put32(b, 0);
    put32(b, op);
}

static void end(struct bytes *b)
{
    set32(b, 0, (uint32_t)b->n);
}

static size_t document(struct bytes *b)
{
    put32(b, 0);
    return b->n - 4;
}

static void document_end(struct bytes *b, size_t at)
{
    put(b, "", 1);
    set32(b, at, (uint32_t)(b->n - at));
}

static void key(struct bytes *b, int type, const char *name)
{
    const char t = (char)type;
    put(b, &t, 1);
    put_text(b, name);
}

static void string(struct bytes *b, const char *name, const char *s)
{
    key(b, 2, name);
    put32(b, (uint32_t)strlen(s) + 1);
    put_text(b, s);
}

static void query(struct bytes *b, const char *collection)
{
    begin(b, MONGO_QUERY);
    put32(b, 2);
    put_text(b, collection);
    put32(b, 0);
    put32(b, 1);
}

/* ---- what is heard ---- */

static struct mongo_message heard;
static char command[64], collection[64];
static unsigned messages, broken;

static void on_message(void *arg, const struct mongo_message *m)
{
    (void)arg;
    heard = *m;
    (void)snprintf(command, sizeof(command), MZ_STR_FMT, MZ_STR_ARG(m->command));
    (void)snprintf(collection, sizeof(collection), MZ_STR_FMT, MZ_STR_ARG(m->collection));
    messages++;
}

static void on_broken(void *arg)
{
    (void)arg;
    broken++;
}

static void play(const struct bytes *b)
{
    for (size_t piece = 1; piece <= b->n; piece = piece * 3) {
        struct mongo m = { .message = on_message, .broken = on_broken };
        messages = broken = 0;
        for (size_t at = 0; at < b->n; at += piece)
            mongo_feed(&m, true, b->v + at, piece < b->n - at ? piece : b->n - at);
        mongo_fini(&m);
        assert_int_equal(messages + broken, 1);
    }
}

static void test_queries(void **state)
{
    (void)state;
    struct bytes b;
    query(&b, "db.one");
    size_t d = document(&b);
    key(&b, 0x10, "$maxTimeMS");
    put32(&b, 5);
    key(&b, 7, "_id");
    put(&b, "0123456789ab", 12);
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_int_equal(broken, 0);
    assert_string_equal(collection, "one");
    assert_string_equal(command, "");
    assert_true(heard.max_time && heard.get == MONGO_PRIMARY_KEY && heard.flags == 2);
    query(&b, "db.one");
    d = document(&b);
    key(&b, 3, "$query");
    size_t inner = document(&b), id;
    key(&b, 3, "_id");
    id = document(&b);
    document_end(&b, id);
    document_end(&b, inner);
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_true(!broken && heard.get == MONGO_MULTI_GET && !heard.max_time);
    query(&b, "db.one");
    d = document(&b);
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_true(!broken && heard.get == MONGO_SCATTER_GET);
}

static void test_commands(void **state)
{
    (void)state;
    struct bytes b;
    query(&b, "db.$cmd");
    size_t d = document(&b);
    string(&b, "ismaster", "x");
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_string_equal(command, "isMaster");
    query(&b, "db.$cmd");
    d = document(&b);
    string(&b, "find", "two");
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_string_equal(command, "");
    assert_string_equal(collection, "two");
}

/* What is no such message: said once, and nothing more is looked at. */
static void test_broken(void **state)
{
    (void)state;
    struct bytes b;
    query(&b, "nodot");
    size_t d = document(&b);
    document_end(&b, d);
    end(&b);
    struct mongo m = { .message = on_message, .broken = on_broken };
    messages = broken = 0;
    mongo_feed(&m, true, b.v, b.n);
    assert_true(messages == 1 && broken == 1 && heard.odd); /* Envoy counts it */
    mongo_fini(&m);
    begin(&b, 2013);
    end(&b);
    play(&b);
    assert_int_equal(broken, 1);
    query(&b, "db.c");
    d = document(&b);
    key(&b, 0x55, "odd");
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_int_equal(broken, 1);
    query(&b, "db.c");
    d = document(&b);
    key(&b, 2, "s");
    put32(&b, 0); /* a string has its NUL */
    document_end(&b, d);
    end(&b);
    play(&b);
    assert_int_equal(broken, 1);
    begin(&b, MONGO_REPLY);
    for (int i = 0; i < 4; i++)
        put32(&b, 0);
    put32(&b, 1000); /* documents, of which there are none */
    end(&b);
    play(&b);
    assert_int_equal(broken, 1);
    b.n = 0;
    put32(&b, 15);
    put(&b, "0123456789ab", 12);
    play(&b);
    assert_int_equal(broken, 1);
}

/* A message of any length costs what is kept of it. */
static void test_long_message(void **state)
{
    (void)state;
    struct bytes b;
    static const char more[4096];
    struct mongo m = { .message = on_message, .broken = on_broken };
    messages = broken = 0;
    query(&b, "db.big");
    size_t d = document(&b);
    key(&b, 0x10, "_id");
    put32(&b, 1);
    key(&b, 5, "blob");
    put32(&b, 48 << 20);
    put(&b, "", 1);
    size_t length = b.n + (48u << 20) + 1;
    set32(&b, 0, (uint32_t)length);
    set32(&b, d, (uint32_t)(length - d));
    mongo_feed(&m, true, b.v, b.n);
    for (size_t left = length - b.n; left;) {
        size_t n = left < sizeof(more) ? left : sizeof(more);
        mongo_feed(&m, true, more, n);
        left -= n;
    }
    assert_int_equal(messages, 1);
    assert_int_equal(broken, 0);
    assert_string_equal(collection, "big");
    assert_int_equal(heard.get, MONGO_PRIMARY_KEY);
    mongo_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_queries),
                                        cmocka_unit_test(test_commands),
                                        cmocka_unit_test(test_broken),
                                        cmocka_unit_test(test_long_message) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
