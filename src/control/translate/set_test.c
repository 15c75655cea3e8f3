#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rand.h"
#include "control/translate/set.h"

enum { NAMES = 2000, ROUNDS = 300 };

static struct mz_out *out(unsigned name, unsigned version)
{
    char text[40];
    pb_Any m = pb_Any__INIT;
    const int n = snprintf(text, sizeof(text), "outbound|80||s%u", name);
    m.type_url = text;
    struct mz_out *o = mz_out_create((struct mz_str){ text, (size_t)n }, &m.base);
    o->version = version;
    return o;
}

static int by_name(const void *a, const void *b)
{
    const struct mz_out *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->name, (*y)->name);
}

static int by_edit(const void *a, const void *b)
{
    const struct mz_set_edit *x = a, *y = b;
    return mz_str_cmp(x->name, y->name);
}

/* The set as it is made at once, of what is there: whatever was done before, it is the same one. */
static struct mz_set *fresh(struct mz_sets *s, struct mz_out **there)
{
    struct mz_out *v[NAMES];
    size_t n = 0;
    for (unsigned i = 0; i < NAMES; i++)
        if (there[i])
            v[n++] = there[i];
    if (n)
        qsort(v, n, sizeof(*v), by_name);
    return mz_set_create(s, v, n);
}

struct seen {
    unsigned changed, gone, more;
    const struct mz_out *last;
};

static void see(void *arg, struct mz_out *x, struct mz_out *y)
{
    struct seen *s = arg;
    s->changed += x && y;
    s->gone += x && !y;
    s->more += y && !x;
    if (s->last)
        assert_true(mz_str_cmp(s->last->name, (x ? x : y)->name) < 0);
    s->last = x ? x : y;
}

/* Random edits end in what making it anew gives: the same pieces; comparisons count what was edited. */
static void test_edits(void **state)
{
    (void)state;
    struct mz_out *there[NAMES] = { 0 };
    struct mz_sets *s = mz_sets_create();
    struct mz_set *set = mz_set_create(s, NULL, 0);
    struct mz_rand r;
    mz_rand_init(&r, 7);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct mz_set_edit e[64];
        struct seen want = { 0 }, got = { 0 };
        const unsigned n = round == 0 ? 64 : (unsigned)mz_rand_below(&r, 64);
        bool touched[NAMES] = { false };
        size_t k = 0;
        struct mz_out *was[64], *old[64];
        for (unsigned i = 0; i < n; i++) {
            const unsigned at = (unsigned)mz_rand_below(&r, NAMES);
            const bool removes = mz_rand_below(&r, 4) == 0 && round > 20;
            if (touched[at])
                continue;
            touched[at] = true;
            struct mz_out *now = removes ? NULL : out(at, 1 + round);
            was[k] = old[k] = there[at];
            want.changed += was[k] && now;
            want.gone += was[k] && !now;
            want.more += !was[k] && now;
            struct mz_out *named = now ? now : was[k] ? was[k] : out(at, 0);
            e[k] = (struct mz_set_edit){ named->name, now };
            if (!now && !was[k])
                old[k] = named; /* only its name is needed */
            there[at] = now;
            k++;
        }
        qsort(e, k, sizeof(*e), by_edit);
        struct mz_set *next = mz_set_edit(s, set, e, k), *anew = fresh(s, there);
        assert_int_equal(mz_set_hash(next), mz_set_hash(anew));
        assert_int_equal(mz_set_count(next), mz_set_count(anew));
        assert_int_equal(mz_set_pieces(next), mz_set_pieces(anew));
        struct mz_out *const *v, *const *w;
        for (size_t i = 0; i < mz_set_pieces(next); i++) {
            (void)mz_set_piece(next, i, &v);
            (void)mz_set_piece(anew, i, &w);
            assert_ptr_equal(v, w);
        }
        mz_set_compare(set, next, see, &got);
        assert_int_equal(got.changed, want.changed);
        assert_int_equal(got.gone, want.gone);
        assert_int_equal(got.more, want.more);
        for (unsigned i = 0; i < NAMES; i += 37)
            if (there[i])
                assert_ptr_equal(mz_set_find(next, there[i]->name), there[i]);
        for (size_t i = 0; i < k; i++)
            mz_out_unref(old[i]);
        mz_set_unref(anew);
        mz_set_unref(set);
        set = next;
    }
    mz_set_unref(set);
    for (unsigned i = 0; i < NAMES; i++)
        mz_out_unref(there[i]);
    assert_int_equal(mz_sets_count(s), 0);
    mz_sets_destroy(s);
}

/* Walks see everything in order; two that share most are compared by what they do not share. */
static void test_order_and_nothing(void **state)
{
    (void)state;
    struct mz_out *there[NAMES] = { 0 };
    struct mz_sets *s = mz_sets_create();
    for (unsigned i = 0; i < NAMES; i++)
        there[i] = out(i, 1);
    struct mz_set *set = fresh(s, there);
    struct mz_set_at at = { 0 };
    struct mz_str last = MZ_STR("");
    size_t n = 0, size = 0;
    for (const struct mz_out *o; (o = mz_set_next(set, &at)); n++) {
        assert_true(mz_str_cmp(last, o->name) < 0);
        last = o->name;
        size += 2 + o->size; /* all are below 128 */
    }
    assert_int_equal(n, NAMES);
    assert_int_equal(mz_set_size(set), size);
    struct seen got = { 0 };
    mz_set_compare(NULL, set, see, &got);
    assert_int_equal(got.more, NAMES);
    got = (struct seen){ 0 };
    mz_set_compare(set, NULL, see, &got);
    assert_int_equal(got.gone, NAMES);
    assert_null(mz_set_find(set, MZ_STR("zzz")));
    assert_null(mz_set_find(NULL, MZ_STR("a")));
    assert_int_equal(mz_set_hash(NULL), 0);
    mz_set_unref(set);
    for (unsigned i = 0; i < NAMES; i++)
        mz_out_unref(there[i]);
    mz_sets_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_edits),
                                        cmocka_unit_test(test_order_and_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
