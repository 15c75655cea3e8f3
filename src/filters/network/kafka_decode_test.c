/* Kafka's messages as a listener hears them (L5). */
#include "filters/network/kafka_decode.h"

#include "base/test.h"
#include <stdio.h>
#include <string.h>

static char heard[4096];
static size_t n_heard;

static void on_message(void *arg, const struct kafka_message *m)
{
    (void)arg;
    n_heard += (size_t)snprintf(heard + n_heard, sizeof(heard) - n_heard, "%s %d v%d%s %d;",
                                m->request ? "request" : "response", m->key, m->version,
                                m->known ? "" : " unknown", (int)m->took_us);
}

static void on_broken(void *arg, bool from_client)
{
    (void)arg;
    n_heard += (size_t)snprintf(heard + n_heard, sizeof(heard) - n_heard, "broken %s;",
                                from_client ? "client" : "broker");
}

static struct kafka begin(void)
{
    n_heard = 0;
    heard[0] = '\0';
    return (struct kafka){ .message = on_message, .broken = on_broken };
}

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static void request_at(struct kafka *k, int key, int version, uint32_t id, size_t body,
                       size_t piece, uint64_t now)
{
    unsigned char b[512] = { 0 };
    put32(b, (uint32_t)(8 + body));
    put32(b + 4, (uint32_t)key << 16 | (uint32_t)(version & 0xffff));
    put32(b + 8, id);
    for (size_t at = 0; at < 12 + body; at += piece)
        kafka_feed(k, true, (const char *)b + at, 12 + body - at < piece ? 12 + body - at : piece,
                   now);
}

static void response_at(struct kafka *k, uint32_t id, size_t body, size_t piece, uint64_t now)
{
    unsigned char b[512] = { 0 };
    put32(b, (uint32_t)(4 + body));
    put32(b + 4, id);
    for (size_t at = 0; at < 8 + body; at += piece)
        kafka_feed(k, false, (const char *)b + at, 8 + body - at < piece ? 8 + body - at : piece,
                   now);
}

static void test_requests_and_responses(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 64; piece++) {
        struct kafka k = begin();
        request_at(&k, 18, 3, 7, 20, piece, 100);
        request_at(&k, 1, 12, 8, 0, piece, 110);
        response_at(&k, 7, 30, piece, 150);
        request_at(&k, 0, 99, 9, 5, piece, 160);
        request_at(&k, 500, 0, 10, 5, piece, 170);
        response_at(&k, 8, 0, piece, 180);
        response_at(&k, 9, 1, piece, 190);
        response_at(&k, 10, 1, piece, 200);
        assert_string_equal(heard, "request 18 v3 0;request 1 v12 0;response 18 v3 50;"
                                   "request 0 v99 unknown 0;request 500 v0 unknown 0;"
                                   "response 1 v12 70;response 0 v99 unknown 30;"
                                   "response 500 v0 unknown 30;");
        kafka_fini(&k);
    }
}

static void test_broken(void **state)
{
    (void)state;
    struct kafka k = begin();
    kafka_feed(&k, true, "\0\0\0\7aaaaaaaaaaaaaaaa", 20, 0); /* a head is eight */
    request_at(&k, 18, 0, 1, 0, 5, 0);
    response_at(&k, 1, 0, 5, 0); /* nobody asked */
    response_at(&k, 1, 0, 5, 0);
    assert_string_equal(heard, "broken client;broken broker;");
    kafka_fini(&k);
    k = begin();
    kafka_feed(&k, true, "\xff\xff\xff\xff\0\0\0\0\0\0\0\1", 12, 0);
    kafka_feed(&k, false, "\0\0\0\3\0\0\0\0", 8, 0);
    assert_string_equal(heard, "broken client;broken broker;");
    kafka_fini(&k);
}

/* Requests that never get a response (acks=0) are forgotten with the next one that does, or when there are too many. */
static void test_without_response(void **state)
{
    (void)state;
    struct kafka k = begin();
    for (uint32_t i = 0; i < 5; i++)
        request_at(&k, 0, 9, i, 0, 12, 0);
    response_at(&k, 4, 0, 12, 0);
    assert_int_equal(k.n_open, 0);
    for (uint32_t i = 0; i < KAFKA_OPEN_MAX * 3; i++) {
        n_heard = 0;
        request_at(&k, 0, 9, i, 0, 12, 0);
        assert_true(k.n_open <= KAFKA_OPEN_MAX && k.n_open > 0);
    }
    response_at(&k, KAFKA_OPEN_MAX * 3 - 1, 0, 12, 0);
    assert_int_equal(k.n_open, 0);
    kafka_fini(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_and_responses),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_without_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
