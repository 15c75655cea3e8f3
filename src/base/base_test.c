#include "base/buf.h"
#include "base/map.h"
#include "base/rand.h"
#include "base/test.h"
#include "base/vec.h"

#include <stdio.h>
#include <string.h>

/* The buffer against a plain array: random operations give the same bytes. */
static void test_buf_model(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 42);
    static char model[1 << 20], tmp[1 << 20];
    size_t n = 0;
    struct mz_buf b, c;
    mz_buf_init(&b);
    mz_buf_init(&c);
    for (int step = 0; step < 5000; step++) {
        size_t k = mz_rand_below(&r, 3) ? mz_rand_below(&r, 700) : mz_rand_below(&r, 40000);
        for (size_t i = 0; i < k; i++)
            tmp[i] = (char)mz_rand_u64(&r);
        switch (mz_rand_below(&r, 8)) {
        case 0:
            if (n + k < sizeof(model)) {
                mz_buf_append(&b, tmp, k);
                memcpy(model + n, tmp, k);
                n += k;
            }
            break;
        case 1:
            k = k > n ? n : k;
            mz_buf_drain(&b, k);
            memmove(model, model + k, n - k);
            n -= k;
            break;
        case 2:
            if (n + k < sizeof(model)) {
                mz_buf_prepend(&b, tmp, k);
                memmove(model + k, model, n);
                memcpy(model, tmp, k);
                n += k;
            }
            break;
        case 3: /* move to the other buffer and back at the front's place */
            k = k > n ? n : k;
            mz_buf_move(&c, &b, k);
            mz_buf_move_all(&c, &b);
            mz_buf_move_all(&b, &c);
            break;
        case 4: {
            struct iovec iov[3];
            if (n + 3 * (size_t)MZ_SLICE_BYTES > sizeof(model))
                break;
            unsigned m = mz_buf_reserve_iov(&b, iov, 3, k);
            size_t room = 0, used = 0;
            for (unsigned i = 0; i < m; i++)
                room += iov[i].iov_len;
            k = k > room ? room : k;
            for (unsigned i = 0; i < m && used < k; i++) {
                size_t part = k - used < iov[i].iov_len ? k - used : iov[i].iov_len;
                memcpy(iov[i].iov_base, tmp + used, part);
                used += part;
            }
            mz_buf_commit_iov(&b, k);
            memcpy(model + n, tmp, k);
            n += k;
            break;
        }
        case 5:
            k = k > n ? n : k;
            assert_memory_equal(mz_buf_linearize(&b, k).p, model, k);
            break;
        case 6:
            mz_buf_compact(&b);
            break;
        default: {
            size_t room;
            if (n + 64 < sizeof(model)) {
                char *p = mz_buf_reserve(&b, 64, &room);
                if (k & 1)
                    break; /* nothing committed */
                memset(p, 'x', 64);
                mz_buf_commit(&b, 64);
                memset(model + n, 'x', 64);
                n += 64;
            }
        }
        }
        assert_int_equal(mz_buf_len(&b), n);
    }
    assert_int_equal(mz_buf_copyout(&b, 0, tmp, n), n);
    assert_memory_equal(tmp, model, n);
    mz_buf_fini(&b);
    mz_buf_fini(&c);
    mz_slice_thread_trim();
    struct mz_mem_count counts[MZ_MEM__COUNT];
    mz_mem_counts(counts);
    assert_int_equal(counts[MZ_MEM_BUFFER].objects, 0);
}

static void test_map(void **state)
{
    (void)state;
    struct mz_map m;
    mz_map_init(&m, MZ_MEM_MISC);
    static char keys[2000][8];
    for (int i = 0; i < 2000; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        assert_null(mz_map_put(&m, mz_str_c(keys[i]), keys[i]));
    }
    for (int i = 0; i < 2000; i += 2)
        assert_ptr_equal(mz_map_del(&m, mz_str_c(keys[i])), keys[i]);
    for (int i = 0; i < 2000; i++)
        assert_ptr_equal(mz_map_get(&m, mz_str_c(keys[i])), i % 2 ? keys[i] : NULL);
    size_t n = 0;
    mz_map_foreach (e, &m)
        n++;
    assert_int_equal(n, 1000);
    mz_map_reserve(&m, 5000);
    const struct mz_map_entry *const room = m.v;
    for (int i = 0; i < 2000; i++)
        assert_ptr_equal(mz_map_put_fetched(&m, mz_map_prefetch(&m, mz_str_c(keys[i])),
                                            mz_str_c(keys[i]), keys[i]),
                         i % 2 ? keys[i] : NULL);
    mz_map_reserve(&m, 100);
    assert_ptr_equal(m.v, room);
    assert_int_equal(m.n, 2000);
    mz_map_fini(&m);
}

static void test_str(void **state)
{
    (void)state;
    uint64_t u = 7;
    int64_t i = 7;
    assert_false(mz_str_u64(MZ_STR("18446744073709551616"), &u));
    assert_true(mz_str_u64(MZ_STR("18446744073709551615"), &u));
    assert_true(u == UINT64_MAX);
    assert_true(mz_str_i64(MZ_STR("-9223372036854775808"), &i));
    assert_true(i == INT64_MIN);
    assert_false(mz_str_i64(MZ_STR("9223372036854775808"), &i));
    /* The value that Envoy shows for the version text "v2" (golden SURPRISES.md). */
    assert_true(mz_xxh64("v2", 2, 0) == 17234765554138278603ull);
    assert_true(mz_str_ihash(MZ_STR("Content-LENGTH-[@`{z")) ==
                mz_str_ihash(MZ_STR("content-length-[@`{Z")));
    assert_false(mz_str_ihash(MZ_STR("@")) == mz_str_ihash(MZ_STR("`")));
    assert_int_equal(mz_str_distance(MZ_STR("clustr"), MZ_STR("cluster"), 3), 1);
    assert_int_equal(mz_str_distance(MZ_STR("abc"), MZ_STR("xyz"), 2), 3);
    assert_int_equal(mz_str_distance(MZ_STR("abcd"), MZ_STR("abxcd"), 3),
                     1); /* what is the same at both ends is cut off */
    assert_int_equal(mz_str_distance(MZ_STR("a"), MZ_STR(""), 3), 1);
}

/* Comparison and hash read words that overlap: each length, each place of a difference. */
static void test_overlapping_words(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 40; n++) {
        char a[40], b[40];
        for (size_t i = 0; i < n; i++) {
            a[i] = (char)('a' + i % 26);
            b[i] = (char)(a[i] - 'a' + 'A');
        }
        struct mz_str x = { a, n }, y = { b, n };
        assert_true(mz_str_ieq_n(a, b, n));
        assert_int_equal(mz_str_ihash(x), mz_str_ihash(y));
        assert_int_not_equal(mz_str_hash(x), mz_str_hash(y));
        for (size_t i = 0; i < n; i++) {
            b[i] = (char)(b[i] ^ 1);
            assert_false(mz_str_ieq_n(a, b, n));
            assert_int_not_equal(mz_str_ihash(x), mz_str_ihash(y));
            b[i] = (char)(b[i] ^ 1);
        }
    }
}

/* Each length of a number, at both of its ends. */
static void test_numbers_as_text(void **state)
{
    (void)state;
    uint64_t least = 1;
    for (int digits = 1; digits <= 20; digits++, least *= 10) {
        uint64_t most = digits < 20 ? least * 10 - 1 : UINT64_MAX;
        for (uint64_t v = least;; v = v == least ? least + (most - least) / 3 : most) {
            char want[24], got[20];
            int n = snprintf(want, sizeof(want), "%llu", (unsigned long long)v);
            assert_int_equal(mz_u64_text(v, got), n);
            assert_memory_equal(got, want, n);
            if (v == most)
                break;
        }
    }
    char zero[20];
    assert_int_equal(mz_u64_text(0, zero), 1);
    assert_int_equal(zero[0], '0');
}

static int by_tens(const void *a, const void *b)
{
    return *(const int *)a / 10 - *(const int *)b / 10;
}

/* In order already, or not. */
static void test_sort(void **state)
{
    int none[1] = { 7 }, sorted[] = { 11, 15, 12, 30, 31 }, mixed[] = { 30, 5, 41, 40, 1 };
    const int want[] = { 5, 1, 30, 41, 40 };
    (void)state;
    mz_sort(none, 0, sizeof(int), by_tens);
    mz_sort(NULL, 0, sizeof(int), by_tens);
    mz_sort(none, 1, sizeof(int), by_tens);
    assert_int_equal(none[0], 7);
    mz_sort(sorted, 5, sizeof(int), by_tens);
    assert_memory_equal(sorted, ((int[]){ 11, 15, 12, 30, 31 }), sizeof(sorted));
    mz_sort(mixed, 5, sizeof(int), by_tens);
    for (size_t i = 0; i < MZ_COUNT(want); i++)
        assert_int_equal(mixed[i] / 10, want[i] / 10);
}

static void test_hex(void **state)
{
    char text[17] = "";
    (void)state;
    mz_u64_hex(0x0123456789abcdefull, text);
    assert_string_equal(text, "0123456789abcdef");
    mz_u64_hex(10, text);
    assert_string_equal(text, "000000000000000a");
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_numbers_as_text),
                                    cmocka_unit_test(test_overlapping_words),
                                    cmocka_unit_test(test_buf_model),
                                    cmocka_unit_test(test_map),
                                    cmocka_unit_test(test_str),
                                    cmocka_unit_test(test_sort),
                                    cmocka_unit_test(test_hex) };
    return cmocka_run_group_tests_name("base", t, NULL, NULL);
}
