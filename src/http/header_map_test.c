#include "base/rand.h"
#include "base/test.h"
#include "http/header_map.h"

#include <stdio.h>

static const char *const known[] = {
#define X(id, text) text,
    MZ_HEADERS_KNOWN(X)
#undef X
};

/* Every known name is found by the perfect hash; its neighbours by one byte are not. */
static void test_ids(void **state)
{
    (void)state;
    assert_int_equal(MZ_COUNT(known) + 1, MZ_H__COUNT);
    for (unsigned i = 0; i < MZ_COUNT(known); i++) {
        char copy[80];
        size_t n = (size_t)snprintf(copy, sizeof(copy), "%s", known[i]);
        assert_int_equal(mz_header_id((struct mz_str){ copy, n }), i + 1);
        assert_string_equal(mz_header_name((enum mz_header_id)(i + 1)).p, known[i]);
        for (size_t k = 0; k < n; k++) {
            copy[k] ^= 1;
            assert_int_not_equal(mz_header_id((struct mz_str){ copy, n }), i + 1);
            copy[k] ^= 1;
        }
        assert_int_not_equal(mz_header_id((struct mz_str){ copy, n - 1 }), i + 1);
    }
    assert_int_equal(mz_header_id((struct mz_str){ NULL, 0 }), MZ_H_NONE);
    assert_int_equal(mz_header_id(MZ_STR("x")), MZ_H_NONE);
}

static void assert_str(struct mz_str got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

static void test_add_get(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    assert_null(mz_headers_get_id(h, MZ_H_HOST));
    assert_null(mz_headers_get_id(h, MZ_H_NONE));
    assert_int_equal(mz_headers_value_id(h, MZ_H_HOST).n, 0);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add(h, MZ_STR("accept"), MZ_STR("a"));
    mz_headers_add(h, MZ_STR("x-one"), MZ_STR("1"));
    mz_headers_add(h, MZ_STR("accept"), MZ_STR("b"));
    mz_headers_add(h, MZ_STR("x-one"), MZ_STR("2"));
    assert_int_equal(h->n, 4); /* accept is held once */
    assert_int_equal(h->live, 4);
    assert_str(mz_headers_method(h), "GET");
    struct mz_header *e = mz_headers_get(h, MZ_STR("x-one"));
    assert_str(e->value, "1");
    e = mz_headers_next(h, e);
    assert_str(e->value, "2");
    assert_null(mz_headers_next(h, e));
    struct mz_str v = MZ_STR("untouched");
    assert_true(mz_headers_joined(h, MZ_STR("accept"), &v));
    assert_str(v, "a,b");
    assert_true(mz_headers_joined(h, MZ_STR(":method"), &v));
    assert_str(v, "GET");
    assert_false(mz_headers_joined(h, MZ_STR("x-two"), &v));
    assert_int_equal(mz_headers_bytes(h), 7 + 3 + (6 + 3) + 2 * (5 + 1));
    mz_arena_destroy(a);
}

/* Which names are held once is told by the kind of message. */
static void test_join_repeated(void **state)
{
    (void)state;
    static const struct {
        const char *first, *values[3], *requests, *answers,
            *trailers; /* of the field; NULL: as they are */
    } cases[] = {
        { "x-forwarded-for", { "1", "2", "3" }, "1,2,3", NULL, NULL },
        { "user-agent", { "", "a", "" }, "a", NULL, NULL },
        { "location", { "/a", "", "/b" }, NULL, "/a,/b", NULL },
        { "content-type", { "a", "b", "c" }, "a,b,c", "a,b,c", NULL },
        { "grpc-status", { "1", "2", "3" }, NULL, "1,2,3", "1,2,3" },
        { "cookie", { "a", "b", "c" }, NULL, NULL, NULL },
        { "set-cookie", { "a", "b", "c" }, NULL, NULL, NULL },
        { "x-forwarded-client-cert", { "a", "b", "c" }, NULL, NULL, NULL },
        { "x-none", { "a", "b", "c" }, NULL, NULL, NULL },
    };
    static const char *const kinds[] = { ":method", ":status", "x-nothing" };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        for (size_t k = 0; k < 3; k++) {
            struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
            struct mz_headers *h = mz_headers_create(a), *one_by_one = mz_headers_create(a);
            struct mz_str name = mz_str_c(cases[i].first), got, added;
            mz_headers_add(h, mz_str_c(kinds[k]), MZ_STR("200"));
            mz_headers_add(one_by_one, mz_str_c(kinds[k]), MZ_STR("200"));
            for (size_t v = 0; v < 3; v++) {
                struct mz_str value = mz_str_c(cases[i].values[v]);
                mz_headers_add_raw(h, name, value, (uint8_t)mz_header_id(name));
                mz_headers_add(one_by_one, name, value);
            }
            mz_headers_add(h, MZ_STR("x-last"), MZ_STR("l"));
            mz_headers_join_repeated(h);
            const char *want = k == 0   ? cases[i].requests
                               : k == 1 ? cases[i].answers
                                        : cases[i].trailers;
            assert_int_equal(h->live, want ? 3 : 5);
            assert_true(mz_headers_joined(h, name, &got));
            assert_true(mz_headers_joined(one_by_one, name, &added));
            if (want)
                assert_str(mz_headers_get(h, name)->value, want);
            assert_true(mz_str_eq(got, added));
            assert_ptr_equal(mz_headers_get(h, name), &h->v[1]); /* in the first one's place */
            assert_int_equal(mz_headers_remove(h, name), want ? 1 : 3);
            mz_arena_destroy(a);
        }
    }
}

static void test_set_remove(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add(h, MZ_STR("via"), MZ_STR("1"));
    mz_headers_add(h, MZ_STR("x-a"), MZ_STR("1"));
    mz_headers_add(h, MZ_STR("via"), MZ_STR("2"));
    mz_headers_add(h, MZ_STR("x-a"), MZ_STR("2"));
    mz_headers_set_id(h, MZ_H_VIA, MZ_STR("3"));
    mz_headers_set(h, MZ_STR("x-a"), MZ_STR("3"));
    mz_headers_set(h, MZ_STR("x-b"), MZ_STR("4"));
    assert_int_equal(h->live, 3);
    struct mz_str v;
    assert_true(mz_headers_joined(h, MZ_STR("via"), &v));
    assert_str(v, "3");
    assert_true(mz_headers_joined(h, MZ_STR("x-a"), &v));
    assert_str(v, "3");
    assert_int_equal(mz_headers_remove(h, MZ_STR("x-a")), 1);
    assert_int_equal(mz_headers_remove(h, MZ_STR("x-a")), 0);
    assert_int_equal(mz_headers_remove_id(h, MZ_H_VIA), 1);
    assert_null(mz_headers_get_id(h, MZ_H_VIA));
    mz_headers_add_id(h, MZ_H_VIA, MZ_STR("5"));
    assert_str(mz_headers_value_id(h, MZ_H_VIA), "5");
    mz_headers_append_id(h, MZ_H_VIA, MZ_STR("6"), ",");
    assert_str(mz_headers_value_id(h, MZ_H_VIA), "5,6");
    mz_headers_append_id(h, MZ_H_VARY, MZ_STR("origin"), ", ");
    assert_str(mz_headers_value_id(h, MZ_H_VARY), "origin");
    mz_headers_add(h, MZ_STR("x-envoy-internal"), MZ_STR("t"));
    mz_headers_add(h, MZ_STR("x-envoy-unknown"), MZ_STR("t"));
    assert_int_equal(mz_headers_remove_prefix(h, MZ_STR("x-envoy-")), 2);
    assert_null(mz_headers_get_id(h, MZ_H_X_ENVOY_INTERNAL));
    assert_int_equal(h->live, 3);
    mz_arena_destroy(a);
}

static void test_status(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned status;
    } cases[] = { { "200", 200 }, { "", 0 }, { "2x0", 0 }, { "1000", 0 }, { "503", 503 } };
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    assert_int_equal(mz_headers_status(h), 0);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        mz_headers_set_id(h, MZ_H_STATUS, mz_str_c(cases[i].text));
        assert_int_equal(mz_headers_status(h), cases[i].status);
    }
    mz_headers_set_status(h, 404);
    assert_str(mz_headers_value_id(h, MZ_H_STATUS), "404");
    mz_headers_set_status(h, 200);
    assert_str(mz_headers_value_id(h, MZ_H_STATUS), "200");
    mz_arena_destroy(a);
}

/* More entries than first[] can index; a clone has its own bytes. */
static void test_many_clone(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM), *b = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    for (unsigned i = 0; i < 400; i++)
        mz_headers_add(h, mz_arena_printf(a, "x-%u", i), MZ_STR("v"));
    mz_headers_add(h, MZ_STR("via"), MZ_STR("late"));
    mz_headers_add_raw(h, MZ_STR("x-raw"), MZ_STR("r"), MZ_H_NONE)->raw = "X-Raw";
    assert_str(mz_headers_value_id(h, MZ_H_VIA), "late");
    mz_headers_remove(h, MZ_STR("x-7"));
    struct mz_headers *c = mz_headers_clone(h, b);
    mz_arena_destroy(a);
    assert_int_equal(c->live, 401);
    assert_int_equal(c->n, 401);
    assert_str(mz_headers_value_id(c, MZ_H_VIA), "late");
    assert_memory_equal(mz_headers_get(c, MZ_STR("x-raw"))->raw, "X-Raw", 5);
    assert_null(mz_headers_get(c, MZ_STR("x-7")));
    assert_int_equal(mz_headers_remove_id(c, MZ_H_VIA), 1);
    assert_null(mz_headers_get_id(c, MZ_H_VIA));
    mz_arena_destroy(b);
}

/* Random operations: the index agrees with a plain scan. */
static void test_index_model(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 7);
    for (int round = 0; round < 50; round++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_headers *h = mz_headers_create(a);
        for (int step = 0; step < 200; step++) {
            enum mz_header_id id = (enum mz_header_id)(1 + mz_rand_below(&r, 6));
            switch (mz_rand_below(&r, 4)) {
            case 0:
            case 1:
                mz_headers_add_id(h, id, MZ_STR("v"));
                break;
            case 2:
                mz_headers_set_id(h, id, MZ_STR("w"));
                break;
            default:
                mz_headers_remove_id(h, id);
            }
            const struct mz_header *first[8] = { NULL };
            uint32_t live = 0;
            mz_headers_foreach(e, h)
            {
                live++;
                if (!first[e->id])
                    first[e->id] = e;
            }
            assert_int_equal(live, h->live);
            for (unsigned k = 1; k < 7; k++)
                assert_ptr_equal(mz_headers_get_id(h, (enum mz_header_id)k), first[k]);
            for (unsigned k = 0; k < 7; k++)
                assert_int_equal(h->known[0] >> k & 1, first[k] != NULL);
        }
        mz_arena_destroy(a);
    }
}

#define SOME(X) X(ACCEPT) X(X_REQUEST_ID) X(VIA) X(X_FORWARDED_FOR)
static void test_remove_set(void **state)
{
    (void)state;
    static const struct mz_header_set set = MZ_HEADER_SET(SOME);
    static const enum mz_header_id added[] = { MZ_H_ACCEPT,          MZ_H_DATE,
                                               MZ_H_X_REQUEST_ID,    MZ_H_ACCEPT,
                                               MZ_H_X_FORWARDED_FOR, MZ_H_X_ENVOY_INTERNAL };
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    for (size_t i = 0; i < MZ_COUNT(added); i++)
        mz_headers_add_id(h, added[i], MZ_STR("v"));
    for (int again = 0; again < 2; again++) {
        mz_headers_remove_set(h, &set);
        assert_int_equal(h->live, 2);
        assert_null(mz_headers_get_id(h, MZ_H_ACCEPT));
        assert_null(mz_headers_get_id(h, MZ_H_X_REQUEST_ID));
        assert_null(mz_headers_get_id(h, MZ_H_X_FORWARDED_FOR));
        assert_non_null(mz_headers_get_id(h, MZ_H_DATE));
        assert_non_null(mz_headers_get_id(h, MZ_H_X_ENVOY_INTERNAL));
    }
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),           cmocka_unit_test(test_add_get),
        cmocka_unit_test(test_join_repeated), cmocka_unit_test(test_set_remove),
        cmocka_unit_test(test_status),        cmocka_unit_test(test_many_clone),
        cmocka_unit_test(test_index_model),   cmocka_unit_test(test_remove_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
