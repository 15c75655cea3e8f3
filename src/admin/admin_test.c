#include "admin/admin.h"

#include "base/arena.h"
#include "base/test.h"

static void hello(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_str v = MZ_STR("nobody");
    (void)mz_admin_param(rq, "name", &v);
    mz_buf_printf(&out->body, "%s " MZ_STR_FMT, (const char *)arg, MZ_STR_ARG(v));
}

static char greeting[] = "hello";
static const struct mz_admin_page pages[] = {
    { .path = "/set", .help = "changes", .mutates = true, .handle = hello, .arg = greeting },
    { .path = "/get",
      .help = "shows",
      .handle = hello,
      .arg = greeting,
      .params = { { "name", "whom" } } },
};

static const struct {
    const char *method, *path, *query, *body;
    unsigned status;
} cases[] = {
    { "GET", "/get", "", "hello nobody", 200 },
    { "GET", "/get", "x=1&name=a%20b%2", "hello a b%2", 200 },
    { "GET", "/get", "name", "hello ", 200 },
    { "GET", "/get", "n%61me=%41&name=b", "hello A", 200 },
    { "GET", "/set", "", "Method Not Allowed", 405 },
    { "POST", "/set", "name=x", "hello x", 200 },
    { "GET", "/help", "",
      "admin commands are:\n  /get: shows\n      name: whom\n  /set (POST): changes\n", 200 },
    { "GET", "/nope", "",
      "invalid path. admin commands are:\n  /get: shows\n      name: whom\n  /set (POST): "
      "changes\n",
      404 },
};

static void test_pages(void **state)
{
    (void)state;
    struct mz_arena *arena = mz_arena_create(MZ_MEM_ADMIN);
    struct mz_admin *a = mz_admin_create();
    for (size_t i = 0; i < MZ_COUNT(pages); i++)
        mz_admin_add(a, &pages[i]);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_admin_request rq = { .method = mz_str_c(cases[i].method),
                                             .path = mz_str_c(cases[i].path),
                                             .query = mz_str_c(cases[i].query),
                                             .arena = arena };
        struct mz_admin_reply out = { .status = 200 };
        mz_buf_init(&out.body);
        mz_admin_handle(a, &rq, &out);
        struct mz_str got = mz_buf_linearize(&out.body, mz_buf_len(&out.body));
        assert_int_equal(out.status, cases[i].status);
        assert_int_equal(got.n, strlen(cases[i].body));
        assert_memory_equal(got.p, cases[i].body, got.n);
        mz_buf_fini(&out.body);
    }
    mz_admin_destroy(a);
    mz_arena_destroy(arena);
}

static void test_escape(void **state)
{
    (void)state;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_admin_html_escape(&b, MZ_STR("<a href=\"x\">&'"));
    struct mz_str got = mz_buf_linearize(&b, mz_buf_len(&b));
    static const char want[] = "&lt;a href=&quot;x&quot;&gt;&amp;&#39;";
    assert_int_equal(got.n, sizeof(want) - 1);
    assert_memory_equal(got.p, want, got.n);
    mz_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_pages),
                                        cmocka_unit_test(test_escape) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
