#include "base/test.h"

#include "admin/admin.h"

static void page_echo(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    mz_buf_append_str(&out->body, mz_str_c(arg));
}

static const struct mz_admin_page ready = { .path = "/ready",
                                            .help = "print state",
                                            .handle = page_echo,
                                            .arg = (void *)(uintptr_t) "LIVE\n" };
static const struct mz_admin_page drain = { .path = "/drain",
                                            .help = "drain <all>",
                                            .mutates = true,
                                            .handle = page_echo,
                                            .params = { { "graceful", "slowly" },
                                                        { "skip_exit", "stay" } },
                                            .arg = (void *)(uintptr_t) "OK\n" };

#define HELP                                                                                       \
    "admin commands are:\n  /: Admin home page\n  /drain (POST): drain <all>\n      graceful: "    \
    "slowly\n"                                                                                     \
    "      skip_exit: stay\n  /help: print out list of admin commands\n  /ready: print state\n"

static const struct {
    const char *method, *path;
    unsigned status;
    const char *body;
} cases[] = {
    { "GET", "/ready", 200, "LIVE\n" },
    { "POST", "/ready", 200, "LIVE\n" },
    { "GET", "/help", 200, HELP },
    { "GET", "/ready/", 404, "invalid path. " HELP },
    { "GET", "/nonexistent", 404, "invalid path. " HELP },
    { "POST", "/nonexistent", 404, "invalid path. " HELP },
    { "GET", "", 404, "invalid path. " HELP },
    { "GET", "/drain", 405, "Method GET not allowed, POST required." },
    { "HEAD", "/drain", 405, "Method HEAD not allowed, POST required." },
    { "POST", "/drain", 200, "OK\n" },
};

static const char *handle(struct mz_admin *a, const struct mz_admin_request *rq,
                          struct mz_admin_reply *out)
{
    static char text[8192];
    mz_buf_init(&out->body);
    mz_admin_handle(a, rq, out);
    text[mz_buf_copyout(&out->body, 0, text, sizeof(text) - 1)] = 0;
    mz_buf_fini(&out->body);
    return text;
}

static void test_pages(void **state) /* O4, H07 */
{
    (void)state;
    struct mz_admin *a = mz_admin_create();
    mz_admin_add(a, &ready);
    mz_admin_add(a, &drain);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_admin_request rq = { .method = mz_str_c(cases[i].method),
                                       .path = mz_str_c(cases[i].path) };
        struct mz_admin_reply out;
        assert_string_equal(handle(a, &rq, &out), cases[i].body);
        assert_int_equal(out.status, cases[i].status);
        assert_string_equal(out.content_type, "text/plain; charset=UTF-8");
    }
    mz_admin_destroy(a);
    mz_admin_destroy(NULL);
}

static void test_home(void **state)
{
    (void)state;
    struct mz_admin *a = mz_admin_create();
    mz_admin_add(a, &drain);
    struct mz_admin_request rq = { .method = MZ_STR("GET"), .path = MZ_STR("/") };
    struct mz_admin_reply out;
    const char *html = handle(a, &rq, &out);
    assert_string_equal(out.content_type, "text/html; charset=UTF-8");
    assert_non_null(
        strstr(html, "<form method=\"post\" "
                     "action=\"drain\"><button>drain</button></form></td><td>drain &lt;all&gt;"));
    assert_non_null(strstr(html, "<a href=\"help\">help</a>"));
    mz_admin_destroy(a);
}

static void test_replacing(void **state)
{
    (void)state;
    struct mz_admin *a = mz_admin_create();
    struct mz_admin_page home = {
        .path = "/", .help = "mine", .handle = page_echo, .arg = (void *)(uintptr_t) "mine"
    };
    mz_admin_add(a, &home);
    struct mz_admin_request rq = { .method = MZ_STR("GET"), .path = MZ_STR("/") };
    struct mz_admin_reply out;
    assert_string_equal(handle(a, &rq, &out), "mine");
    mz_admin_destroy(a);
}

static const struct {
    const char *query, *name, *value; /* value NULL: absent */
} params[] = {
    { "", "a", NULL },
    { "a", "a", "" },
    { "a=", "a", "" },
    { "a=1&a=2", "a", "1" },
    { "b=1&a=x%20y%zz%", "a", "x y%zz%" },
    { "a=x+y", "a", "x+y" },
    { "%61=1", "a", "1" },
    { "aa=1&&=2", "a", NULL },
    { "a=%2525", "a", "%25" }, /* decoded once */
    { "a=b=c", "a", "b=c" },
};

static void test_params(void **state)
{
    (void)state;
    struct mz_arena *arena = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(params); i++) {
        struct mz_admin_request rq = { .query = mz_str_c(params[i].query), .arena = arena };
        struct mz_str value = MZ_STR("untouched");
        assert_int_equal(mz_admin_param(&rq, params[i].name, &value), params[i].value != NULL);
        assert_true(mz_str_eq(value, mz_str_c(params[i].value ? params[i].value : "untouched")));
    }
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/x-www-form-urlencoded"));
    struct mz_admin_request rq = {
        .method = MZ_STR("POST"), .body = MZ_STR("level=a+b"), .headers = h, .arena = arena
    };
    struct mz_str value;
    assert_true(mz_admin_param(&rq, "level", &value));
    assert_true(mz_str_eq(value, MZ_STR("a b")));
    rq.method = MZ_STR("GET");
    assert_false(mz_admin_param(&rq, "level", &value));
    mz_arena_destroy(arena);
}

static void test_escape(void **state) /* H07 */
{
    (void)state;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_admin_html_escape(&b, MZ_STR("a<script>\"x\" & 'y'</script>"));
    char text[128];
    text[mz_buf_copyout(&b, 0, text, sizeof(text) - 1)] = 0;
    assert_string_equal(text, "a&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/script&gt;");
    mz_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_pages), cmocka_unit_test(test_home),
                                        cmocka_unit_test(test_replacing),
                                        cmocka_unit_test(test_params),
                                        cmocka_unit_test(test_escape) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
