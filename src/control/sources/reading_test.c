/* However a text is read, part by part, on many threads, or from what was read before: the same documents and the same words. */
#include "control/sources/reading.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/test.h"

enum { PARTS = 1500, KINDS = 6 };

static struct {
    unsigned state;
    unsigned parts[PARTS * 2], n; /* what the text is made of */
    char text[PARTS * 2 * 200];
    size_t text_n;
} t;

static unsigned dice(unsigned n)
{
    t.state = t.state * 1103515245 + 12345;
    return (t.state >> 8) % n;
}

static void put_part(unsigned what)
{
    static const struct {
        const char *head, *tail;
    } forms[KINDS] = {
        { "apiVersion: v1\nkind: Namespace\nmetadata: {name: n", "}\n" },
        { "apiVersion: v1\nkind: Service\nmetadata: {name: s",
          ", namespace: demo}\nspec: {ports: [{port: 80}]}\n" },
        { "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: "
          "{name: a",
          "}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n" },
        { "apiVersion: v1\nkind: Service\nmetadata: {name: w",
          "}\nspec: {ports: [{port: many}]}\n" },
        { "kind: [", "\n" },
        { "# nothing, ", "\n" },
    };
    const unsigned form = what % 50 < 40 ? what % 2 : 2 + what % 4;
    t.text_n += (size_t)snprintf(t.text + t.text_n, sizeof(t.text) - t.text_n, "%s%u%s",
                                 forms[form].head, what, forms[form].tail);
}

static void write_text(void)
{
    t.text_n = 0;
    for (unsigned i = 0; i < t.n; i++) {
        if (i)
            t.text_n += (size_t)snprintf(t.text + t.text_n, sizeof(t.text) - t.text_n, "---\n");
        put_part(t.parts[i]);
    }
}

static void change_text(void)
{
    for (unsigned k = dice(4); k-- > 0;) {
        const unsigned at = dice(t.n - 100), many = 1 + dice(dice(8) ? 3 : 100);
        if (dice(3) == 0 && t.n + many < PARTS * 2) { /* some more */
            memmove(&t.parts[at + many], &t.parts[at], (t.n - at) * sizeof(*t.parts));
            t.n += many;
            for (unsigned i = 0; i < many; i++)
                t.parts[at + i] = dice(100000);
        } else if (dice(2) && t.n > PARTS / 2 + many) { /* some less */
            memmove(&t.parts[at], &t.parts[at + many], (t.n - at - many) * sizeof(*t.parts));
            t.n -= many;
        } else { /* others, or the same once more */
            for (unsigned i = 0; i < many; i++)
                t.parts[at + i] = dice(2) ? dice(100000) : t.parts[dice(t.n)];
        }
    }
}

static void take_doc(void *arg, struct mz_doc *d)
{
    struct mz_content *c = arg;
    *mz_vec_push(&c->docs, MZ_MEM_CONFIG) = d;
}

static void take_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                         const char *text)
{
    mz_content_tell(arg, level, line, key, text);
}

static void expect_same(const struct mz_content *a, const struct mz_content *b)
{
    assert_int_equal(a->docs.n, b->docs.n);
    assert_int_equal(a->notes.n, b->notes.n);
    assert_int_equal(a->broken, b->broken);
    for (size_t i = 0; i < a->docs.n; i++) {
        const struct mz_doc *x = a->docs.v[i], *y = b->docs.v[i];
        assert_true(mz_str_eq(x->key, y->key) && mz_str_eq(x->file, y->file) &&
                    mz_str_eq(x->meta, y->meta) && mz_str_eq(x->body, y->body) &&
                    mz_str_eq(x->of, y->of) && mz_str_eq(x->ns, y->ns));
        assert_int_equal(x->line, y->line);
        assert_int_equal(x->version, y->version);
    }
    for (size_t i = 0; i < a->notes.n; i++) {
        assert_int_equal(a->notes.v[i].line, b->notes.v[i].line);
        assert_true(mz_str_eq(a->notes.v[i].key, b->notes.v[i].key));
        assert_string_equal(a->notes.v[i].text, b->notes.v[i].text);
    }
}

static void read_again(const struct mz_content *before, struct mz_content *out)
{
    struct mz_reading *r = mz_reading_create();
    mz_reading_add(r, MZ_STR("a.yaml"), (struct mz_str){ t.text, t.text_n }, MZ_TEXT_YAML, before,
                   out);
    mz_reading_end(r);
}

static size_t kept(const struct mz_content *before, const struct mz_content *now)
{
    size_t n = 0;
    for (size_t i = 0; i < before->docs.n; i++)
        for (size_t k = 0; k < now->docs.n; k++)
            n += before->docs.v[i] == now->docs.v[k];
    return n;
}

static void test_same_whatever_was_before(void **state)
{
    struct mz_content before = { 0 };
    (void)state;
    t.n = PARTS;
    t.state = 7;
    for (unsigned i = 0; i < t.n; i++)
        t.parts[i] = dice(100000);
    for (unsigned round = 0; round < 40; round++) {
        struct mz_content now = { 0 }, plain = { 0 };
        const struct mz_doc_reader r = { MZ_STR("a.yaml"), take_doc, take_problem, &plain };
        write_text();
        mz_doc_read_text(&r, (struct mz_str){ t.text, t.text_n }, MZ_TEXT_YAML);
        read_again(&before, &now);
        expect_same(&now, &plain);
        mz_content_fini(&plain);
        mz_content_fini(&before);
        before = now;
        change_text();
    }
    mz_content_fini(&before);
}

/* What did not move is the very same; what was broken is looked at again. */
static void test_not_read_again(void **state)
{
    struct mz_content before = { 0 }, now = { 0 };
    (void)state;
    t.n = 3;
    t.parts[0] = 0;  /* a Namespace */
    t.parts[1] = 1;  /* a Service */
    t.parts[2] = 40; /* 40 % 4 is 0: a List of two */
    write_text();
    read_again(NULL, &before);
    assert_int_equal(before.docs.n, 4);
    t.parts[1] = 3; /* another */
    write_text();
    read_again(&before, &now);
    assert_int_equal(now.docs.n, 4);
    assert_int_equal(kept(&before, &now), 3);
    mz_content_fini(&before);
    before = now;
    now = (struct mz_content){ 0 };
    t.parts[0] = 41; /* one that cannot be used, of as many lines */
    write_text();
    read_again(&before, &now);
    assert_int_equal(now.docs.n, 3);
    assert_int_equal(now.notes.n, 1);
    mz_content_fini(&before);
    before = now;
    now = (struct mz_content){ 0 };
    read_again(&before, &now);
    assert_int_equal(now.notes.n, 1);
    mz_content_fini(&before);
    mz_content_fini(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_whatever_was_before),
                                        cmocka_unit_test(test_not_read_again) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
