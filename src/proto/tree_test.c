#include "base/test.h"
#include "proto/tree.h"
#include <stdio.h>
#include <stdlib.h>

/* A tree as compact text: what each scalar became is told by its form. */
static void show(const struct mz_node *n, char *out, size_t cap)
{
    size_t at = strlen(out);
    char *end = out + at;
    size_t left = cap - at;
    switch (n->kind) {
    case MZ_NODE_NULL:
        snprintf(end, left, "null");
        break;
    case MZ_NODE_BOOL:
        snprintf(end, left, "%s", n->b ? "true" : "false");
        break;
    case MZ_NODE_NUM:
        snprintf(end, left, "%.*s%s", MZ_STR_ARG(n->text), n->loose ? "~" : "");
        break;
    case MZ_NODE_STR:
        snprintf(end, left, "'%.*s'", MZ_STR_ARG(n->text));
        break;
    case MZ_NODE_LIST:
        snprintf(end, left, "[");
        for (uint32_t i = 0; i < n->n; i++, snprintf(out + strlen(out), cap - strlen(out), ","))
            show(n->list[i], out, cap);
        snprintf(out + strlen(out), cap - strlen(out), "]");
        break;
    case MZ_NODE_MAP:
        snprintf(end, left, "{");
        for (uint32_t i = 0; i < n->n; i++, snprintf(out + strlen(out), cap - strlen(out), ",")) {
            snprintf(out + strlen(out), cap - strlen(out), "%.*s:", MZ_STR_ARG(n->pairs[i].key));
            show(n->pairs[i].value, out, cap);
        }
        snprintf(out + strlen(out), cap - strlen(out), "}");
        break;
    }
}

static const struct {
    enum mz_text_form form;
    const char *text, *want; /* the tree, or the error with '!' in front */
} cases[] = {
    { MZ_TEXT_YAML, "a: 1\nb: [x, 'y', y, ~, '']\n", "{a:1,b:['x','y',true,null,'',],}" },
    { MZ_TEXT_YAML, "[yes, Yes, YES, yEs, n, N, off, True, null, Null, nULL]",
      "[true,true,true,'yEs',false,false,false,true,null,null,'nULL',]" },
    { MZ_TEXT_YAML,
      "[1.5, 1e3, 0x10, 010, 08, -3, +4, 2147483648, -2147483649, 99999999999999999999, 0x]",
      "['1.5','1e3',16,8,'08',-3,4,2147483648~,-2147483649~,'99999999999999999999','0x',]" },
    { MZ_TEXT_YAML, "[!!str 7, \"7\", |\n  t\n]", "!not YAML" },
    { MZ_TEXT_YAML, "a: |\n  t\nb: !!str 7\n1: >-\n  u\n", "{a:'t\n',b:'7',1:'u',}" },
    { MZ_TEXT_YAML, "a: &x {k: 1}\nb: *x\n", "{a:{k:1,},b:{k:1,},}" },
    { MZ_TEXT_YAML, "a: &x [*x]\n", "!this alias has no anchor before it (line 1, column 8)" },
    { MZ_TEXT_YAML, "a: *no\n", "!this alias has no anchor before it (line 1, column 4)" },
    { MZ_TEXT_YAML, "a: 1\nb: 2\na: 3\n", "!key \"a\" appears twice (line 3, column 1)" },
    { MZ_TEXT_YAML, "? [a]\n: 1\n", "!a key must be a plain text (line 1, column 3)" },
    { MZ_TEXT_YAML, "a: 1\n---\nb: 1\n",
      "!a second document starts here; only one is read (line 2, column 1)" },
    { MZ_TEXT_YAML, "", "null" },
    { MZ_TEXT_YAML, "# only a comment\n", "null" },
    { MZ_TEXT_YAML, "a: \"\\ud800\"\n", "!not YAML" },
    { MZ_TEXT_YAML, "a: \xff\n", "!not a text" },
    { MZ_TEXT_YAML, "a: [1", "!not YAML" },
    { MZ_TEXT_JSON, " {\"a\": [1, -2.5e+3, true, null, \"\\u00e9\\ud83d\\ude00\\n\"], \"b\": {}}\n",
      "{a:[1,-2.5e+3,true,null,'\xc3\xa9\xf0\x9f\x98\x80\n',],b:{},}" },
    { MZ_TEXT_JSON, "18446744073709551615", "18446744073709551615" },
    { MZ_TEXT_JSON, "{\"a\": 1,}", "!not JSON: expected a key in quotes (line 1, column 9)" },
    { MZ_TEXT_JSON, "{\"a\": 1,\n \"a\": 2}", "!key \"a\" appears twice (line 2, column 2)" },
    { MZ_TEXT_JSON, "{a: 1}", "!not JSON: expected a key in quotes (line 1, column 2)" },
    { MZ_TEXT_JSON, "[1 2]", "!not JSON: expected ',' or ']' (line 1, column 4)" },
    { MZ_TEXT_JSON, "[01]", "!not JSON" },
    { MZ_TEXT_JSON, "[1.]", "!not JSON" },
    { MZ_TEXT_JSON, "[.5]", "!not JSON" },
    { MZ_TEXT_JSON, "[+1]", "!not JSON" },
    { MZ_TEXT_JSON, "[NaN]", "!not JSON" },
    { MZ_TEXT_JSON, "[1e]", "!not JSON" },
    { MZ_TEXT_JSON, "[nul]", "!not JSON" },
    { MZ_TEXT_JSON, "{} x",
      "!not JSON: something follows the end of the document (line 1, column 4)" },
    { MZ_TEXT_JSON, "", "!not JSON: expected a value (line 1, column 1)" },
    { MZ_TEXT_JSON, "\"\\ud800\"", "!not JSON: half of a surrogate pair (line 1, column 8)" },
    { MZ_TEXT_JSON, "\"\\ude00\"", "!not JSON: half of a surrogate pair (line 1, column 8)" },
    { MZ_TEXT_JSON, "\"\\ud800\\u0041\"", "!not JSON: half of a surrogate pair" },
    { MZ_TEXT_JSON, "\"\\x41\"", "!not JSON: unknown escape" },
    { MZ_TEXT_JSON, "\"a\nb\"", "!not JSON: control character in a string" },
    { MZ_TEXT_JSON, "\"abc", "!not JSON: text ends within a string" },
    { MZ_TEXT_JSON, "\"abc\\", "!not JSON: text ends within a string" },
    { MZ_TEXT_JSON, "\"\xc0\x80\"", "!not JSON: the text is not UTF-8" },
};

static void test_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
        struct mz_err err;
        char text[1024] = "";
        const struct mz_node *n = mz_tree_read(a, mz_str_c(cases[i].text), cases[i].form, &err);
        if (n)
            show(n, text, sizeof(text));
        else
            snprintf(text, sizeof(text), "!%.1000s", err.msg);
        size_t len = cases[i].want[0] == '!' ? strlen(cases[i].want) : sizeof(text);
        if (strncmp(text, cases[i].want, len) != 0)
            print_error("case %zu: %s\n", i, cases[i].text);
        text[len < sizeof(text) ? len : sizeof(text) - 1] = 0;
        assert_string_equal(text, cases[i].want);
        mz_arena_destroy(a);
    }
}

/* Keys as Kubernetes has them: what they mean, not what is written; in quotes they are what is written. */
static void test_keys_that_are_words(void **state)
{
    (void)state;
    static const char text[] = "{n: 1, y: 2, 'off': 3, 0x10: 4, 08: 5, name: 6}";
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_err err;
    char shown[200] = "";
    show(mz_tree_read_kubernetes(a, mz_str_c(text), 0, &err), shown, sizeof(shown));
    assert_string_equal(shown, "{false:1,true:2,off:3,16:4,08:5,name:6,}");
    shown[0] = 0;
    show(mz_tree_read(a, mz_str_c(text), MZ_TEXT_YAML, &err), shown, sizeof(shown));
    assert_string_equal(shown, "{n:1,y:2,off:3,0x10:4,08:5,name:6,}");
    assert_null(mz_tree_read_kubernetes(a, MZ_STR("{n: 1, no: 2}"), 0, &err));
    assert_string_equal(err.msg, "key \"false\" appears twice (line 1, column 8)");
    mz_arena_destroy(a);
}

/* H02: each is refused in bounded time and stack. */
static void refuse(const char *text, size_t n, enum mz_text_form form, const char *want)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_err err;
    assert_null(mz_tree_read(a, (struct mz_str){ text, n }, form, &err));
    assert_non_null(strstr(err.msg, want));
    mz_arena_destroy(a);
}

static void test_nesting(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *text = malloc(N);
    memset(text, '[', N);
    refuse(text, N, MZ_TEXT_JSON, "nested too deeply");
    refuse(text, N, MZ_TEXT_YAML, "nested too deeply");
    for (size_t i = 0; i < N; i++)
        text[i] = "- "[i % 2];
    refuse(text, N, MZ_TEXT_YAML, "nested too deeply");
    free(text);
}

static void test_alias_bomb(void **state)
{
    (void)state;
    char text[4096] = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";
    for (int i = 1; i < 20; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1,
                 i - 1, i - 1, i - 1, i - 1, i - 1);
    refuse(text, strlen(text), MZ_TEXT_YAML, "aliases unfold to too many values");
}

static void test_many_keys(void **state)
{
    (void)state;
    size_t cap = 200000, at = 0;
    char *text = malloc(cap);
    for (int i = 0; i < 10000; i++)
        at += (size_t)snprintf(text + at, cap - at, "k%d: 1\n", i);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_err err;
    const struct mz_node *n = mz_tree_read(a, (struct mz_str){ text, at }, MZ_TEXT_YAML, &err);
    assert_non_null(n);
    assert_int_equal(n->n, 10000);
    at += (size_t)snprintf(text + at, cap - at, "k77: 1\n");
    refuse(text, at, MZ_TEXT_YAML, "key \"k77\" appears twice (line 10001, column 1)");
    mz_arena_destroy(a);
    free(text);
}

/* Half a million values on one line: places are counted in one pass, or this takes minutes (H02). */
static void test_long_line(void **state)
{
    (void)state;
    enum { N = 500000 };
    char *text = mz_alloc(MZ_MEM_MISC, 2 * N + 2);
    for (size_t i = 0; i < N; i++)
        memcpy(&text[2 * i], i ? ",7" : "[7", 2);
    memcpy(&text[2 * (size_t)N], "}", 2);
    char want[64];
    (void)snprintf(want, sizeof(want), "(line 1, column %d)", 2 * N + 1);
    refuse(text, 2 * (size_t)N + 1, MZ_TEXT_JSON, want);
    mz_free(MZ_MEM_MISC, text);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } texts[] = { { "", true },
                  { "a\xc2\x80", true },
                  { "\xf4\x8f\xbf\xbf", true },
                  { "\xc1\xbf", false },
                  { "\xe0\x80\x80", false },
                  { "\xed\xa0\x80", false },
                  { "\xf4\x90\x80\x80", false },
                  { "\x80", false },
                  { "\xe2\x82", false },
                  { "\xff", false } };
    for (size_t i = 0; i < MZ_COUNT(texts); i++)
        assert_int_equal(mz_utf8_valid(mz_str_c(texts[i].text)), texts[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),      cmocka_unit_test(test_keys_that_are_words),
        cmocka_unit_test(test_nesting),   cmocka_unit_test(test_alias_bomb),
        cmocka_unit_test(test_many_keys), cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_utf8)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
