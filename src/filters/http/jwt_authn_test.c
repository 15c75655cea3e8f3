#include "filters/http/jwt_authn.h"

#include "base/base64.h"
#include "base/test.h"

/* Where tokens are found and taken out, and what the cache of verified ones keeps; the rest is for scenarios. */
static struct mz_arena *a;

static struct mz_headers *request(const char *path)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_PATH, mz_str_c(path));
    return h;
}

static const struct jwt_location bearer = { .kind = JWT_HEADER,
                                            .name = MZ_STR_INIT("authorization"),
                                            .prefix = MZ_STR_INIT("Bearer ") };
static const struct jwt_location plain = { .kind = JWT_HEADER, .name = MZ_STR_INIT("x-jwt") };
static const struct jwt_location param = { .kind = JWT_PARAM, .name = MZ_STR_INIT("t k") };
static const struct jwt_location cookie = { .kind = JWT_COOKIE, .name = MZ_STR_INIT("c") };

static const char *found(const struct jwt_location *l, const struct mz_headers *h)
{
    struct jwt_location one = *l;
    const struct jwt_places p = { .v = &one, .n = 1 };
    struct jwt_found *v;
    size_t n = jwt_find(&p, h, a, &v);
    struct mz_str out = { 0 };
    for (size_t i = 0; i < n; i++)
        out = mz_arena_cat(a, 3, (struct mz_str[]){ out, MZ_STR("|"), v[i].token });
    return n ? out.p : "";
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        const char *value, *token;
    } cases[] = {
        { "Bearer a.b", "|a.b" },
        { "Bearer   a.b", "|a.b" },
        { "x Bearer a", "|a" },
        { "bearer a", "" },
        { "Bearer", "" },
        { "Bearer !", "|Bearer !" },
        { "Bearer a,Bearer b", "|a,Bearer b" },
        { "Basic a", "" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_headers *h = request("/");
        mz_headers_add_id(h, MZ_H_AUTHORIZATION, mz_str_c(cases[i].value));
        assert_string_equal(found(&bearer, h), cases[i].token);
    }
    struct mz_headers *h = request("/");
    mz_headers_add_id(h, MZ_H_AUTHORIZATION, MZ_STR("Bearer a"));
    mz_headers_add_id(h, MZ_H_AUTHORIZATION, MZ_STR("Bearer b"));
    mz_headers_add(h, MZ_STR("x-jwt"), MZ_STR("c"));
    mz_headers_add(h, MZ_STR("x-jwt"), MZ_STR("d"));
    assert_string_equal(found(&bearer, h), "|a,Bearer b"); /* G06: one value */
    assert_string_equal(found(&plain, h), "|c|d");
    jwt_remove(&plain, h, a);
    assert_string_equal(found(&plain, h), "");
}

static void test_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *path, *token, *left;
    } cases[] = {
        { "/", "", "/" },
        { "/?t%20k=a", "|a", "/" },
        { "/?t%20k=a%2Eb&x=%41", "|a.b", "/?x=%41" },
        { "/?x&t%20k=a&y=1+2&t%20k=b", "|a", "/?x&y=1+2" },
        { "/?t%20k", "|", "/" },
        { "/?t+k=a", "", "/?t+k=a" },
        { "/a?x=t%20k=a", "", "/a?x=t%20k=a" },
        { "/?&&t%20k=a", "|a", "/?&" },
        { "/?t%20k=a#f", "|a", "/#f" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_headers *h = request(cases[i].path);
        assert_string_equal(found(&param, h), cases[i].token);
        jwt_remove(&param, h, a);
        if (!mz_str_eq(mz_headers_path(h), mz_str_c(cases[i].left)))
            fail_msg("%s: " MZ_STR_FMT, cases[i].path, MZ_STR_ARG(mz_headers_path(h)));
    }
}

static void test_cookies(void **state)
{
    (void)state;
    static const struct {
        const char *value, *token;
    } cases[] = {
        { "c=a", "|a" }, { "b=c; c=\"a\"; c=d", "|a" }, { "cc=a", "" }, { "c", "" }, { "c=", "|" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_headers *h = request("/");
        mz_headers_add_id(h, MZ_H_COOKIE, mz_str_c(cases[i].value));
        assert_string_equal(found(&cookie, h), cases[i].token);
    }
}

static struct mz_str token(unsigned i)
{
    struct mz_str payload = mz_arena_printf(a, "{\"jti\":\"%u\"}  ", i);
    payload.n -= payload.n % 3; /* so that no padding is wanted */
    return mz_arena_cat(a, 3,
                        (struct mz_str[]){ MZ_STR("eyJhbGciOiJIUzI1NiJ9."),
                                           mz_base64_encode(payload, a), MZ_STR(".AAAA") });
}

static void test_cache(void **state)
{
    (void)state;
    struct jwt_cache *c = jwt_cache_create(3);
    for (unsigned i = 0; i < 3; i++)
        jwt_cache_put(c, token(i), 1);
    const struct mz_jwt *j = jwt_cache_get(c, token(0), 1);
    assert_non_null(j);
    assert_true(mz_str_eq(j->jti, MZ_STR("0")));
    jwt_cache_put(c, token(3), 1); /* 1 was used longest ago */
    assert_null(jwt_cache_get(c, token(1), 1));
    assert_non_null(jwt_cache_get(c, token(0), 1));
    assert_non_null(jwt_cache_get(c, token(2), 1));
    assert_null(jwt_cache_get(c, token(0), 2)); /* other keys by now ... */
    assert_null(jwt_cache_get(c, token(0), 1)); /* ... and it is gone */
    jwt_cache_put(c, token(2), 2);              /* the same again */
    assert_non_null(jwt_cache_get(c, token(2), 2));
    jwt_cache_destroy(c);
    jwt_cache_destroy(NULL);
}

static int setup(void **state)
{
    (void)state;
    a = mz_arena_create(MZ_MEM_MISC);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_arena_destroy(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_headers),
                                    cmocka_unit_test(test_parameters),
                                    cmocka_unit_test(test_cookies), cmocka_unit_test(test_cache) };
    return cmocka_run_group_tests_name("jwt_authn", t, setup, teardown);
}
