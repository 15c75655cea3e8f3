#include "runtime/runtime.h"

#include "base/buf.h"
#include "base/test.h"
#include "proto/mapper.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mz_stats *stats;
static struct mz_loop *loop;
static struct mz_arena *arena;

static struct mz_runtime_store *store(const char *yaml, struct mz_err *err)
{
    arena = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = arena };
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_LayeredRuntime__descriptor, &m,
                          err))
        fail_msg("%s: %s", err->path, err->msg);
    stats = mz_stats_create(2);
    loop = mz_loop_create("test");
    struct mz_runtime_store *s =
        mz_runtime_store_create(stats, (const pb_LayeredRuntime *)m, MZ_STR("svc"), err);
    if (s) {
        mz_runtime_store_add_thread(s, loop);
        mz_loop_turn(loop, 0);
    }
    return s;
}

static void stop(struct mz_runtime_store *s)
{
    mz_runtime_store_destroy(s);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_arena_destroy(arena);
}

static const char layers[] = "layers:\n"
                             "- name: base\n"
                             "  static_layer: {a: {b: 7, t: text, yes: true, d: 2.5, f: "
                             "{numerator: 3, denominator: MILLION}}, n: -1}\n"
                             "- name: over\n"
                             "  admin_layer: {}\n";

static void test_values(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_runtime_store *s = store(layers, &err);
    const struct mz_runtime *r = mz_runtime_here();
    struct mz_str text;
    assert_int_equal(mz_runtime_u64(r, MZ_STR("a.b"), 1), 7);
    assert_int_equal(mz_runtime_u64(r, MZ_STR("a.d"), 1), 1);
    assert_int_equal(mz_runtime_u64(r, MZ_STR("n"), 5), 5);
    assert_true(mz_runtime_double(r, MZ_STR("a.d"), 0) == 2.5);
    assert_true(mz_runtime_bool(r, MZ_STR("a.yes"), false));
    assert_true(mz_runtime_str(r, MZ_STR("a.t"), &text) && mz_str_eq(text, MZ_STR("text")));
    assert_false(mz_runtime_str(r, MZ_STR("a.none"), &text));
    stop(s);
    assert_int_equal(mz_runtime_u64(mz_runtime_here(), MZ_STR("a.b"), 1), 1); /* empty again */
}

static const struct {
    const char *key;
    uint32_t numerator, denominator;
    uint64_t random;
    bool hit;
} fractions[] = {
    { "", 50, 100, 49, true },       { "", 50, 100, 150, false },
    { "none", 1, 1000000, 0, true }, { "a.b", 0, 1000000, 6, true },
    { "a.b", 0, 1000000, 7, false }, { "a.f", 100, 100, 2, true },
    { "a.f", 100, 100, 3, false },   { "a.f", 0, 100, 1000002, true },
    { "a.t", 100, 100, 99, true },
};

static void test_fractions(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_runtime_store *s = store(layers, &err);
    for (size_t i = 0; i < MZ_COUNT(fractions); i++) {
        const struct mz_fraction f = { mz_str_c(fractions[i].key), fractions[i].numerator,
                                       fractions[i].denominator };
        assert_int_equal(mz_runtime_fraction(mz_runtime_here(), &f, fractions[i].random),
                         fractions[i].hit);
    }
    stop(s);
}

static void test_admin_and_dump(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_runtime_store *s =
        store("layers: [{name: base, static_layer: {k: one}}, {name: top, admin_layer: {}}]", &err);
    const struct mz_str keys[] = { MZ_STR_INIT("k"), MZ_STR_INIT("new") },
                        values[] = { MZ_STR_INIT("2"), MZ_STR_INIT("x\"y") };
    assert_true(mz_runtime_store_modify(s, keys, values, 2, &err));
    mz_loop_turn(loop, 0);
    assert_int_equal(mz_runtime_u64(mz_runtime_here(), MZ_STR("k"), 0), 2);
    struct mz_buf out;
    mz_buf_init(&out);
    mz_runtime_store_dump(s, &out);
    static const char want[] = "{\n \"entries\": {\n  \"k\": {\n   \"layer_values\": [\n    "
                               "\"one\",\n    \"2\"\n   ],\n   \"final_value\": \"2\"\n  },\n"
                               "  \"new\": {\n   \"layer_values\": [\n    \"\",\n    \"x\\\"y\"\n  "
                               " ],\n   \"final_value\": \"x\\\"y\"\n  }\n },\n"
                               " \"layers\": [\n  \"base\",\n  \"top\"\n ]\n}\n";
    struct mz_str got = mz_buf_linearize(&out, mz_buf_len(&out));
    assert_int_equal(got.n, sizeof(want) - 1);
    assert_memory_equal(got.p, want, got.n);
    mz_buf_fini(&out);
    uint64_t n = 9;
    assert_true(mz_stats_find(stats, MZ_STR("runtime.admin_overrides_active"), &n) && n == 1);
    const struct mz_str none[] = { MZ_STR_INIT("") };
    assert_true(mz_runtime_store_modify(s, keys, none, 1, &err));
    mz_loop_turn(loop, 0);
    struct mz_str text;
    assert_true(mz_runtime_str(mz_runtime_here(), MZ_STR("k"), &text) &&
                mz_str_eq(text, MZ_STR("one")));
    stop(s);
}

static void test_errors(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_runtime_store *s =
        store("layers: [{name: a, static_layer: {}}, {name: a, admin_layer: {}}]", &err);
    assert_null(s);
    assert_string_equal(err.msg, "Duplicate layer name: a");
    stop(s);
    s = store("layers: [{name: a, static_layer: {}}]", &err);
    assert_false(mz_runtime_store_modify(s, NULL, NULL, 0, &err));
    assert_string_equal(err.msg, "No admin layer specified");
    stop(s);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_disk(void **state)
{
    (void)state;
    char root[] = "/tmp/mizzen-runtime-XXXXXX", v1[100], v2[100], current[100], next[100],
         yaml[300];
    assert_non_null(mkdtemp(root));
    (void)snprintf(v1, sizeof(v1), "%s/v1", root);
    (void)snprintf(v2, sizeof(v2), "%s/v2", root);
    (void)snprintf(current, sizeof(current), "%s/current", root);
    (void)snprintf(next, sizeof(next), "%s/next", root);
    char sub[120];
    assert_int_equal(mkdir(v1, 0700) | mkdir(v2, 0700), 0);
    (void)snprintf(sub, sizeof(sub), "%s/health", v1);
    assert_int_equal(mkdir(sub, 0700), 0);
    put(sub, "min", "# a comment\n 12 \n");
    put(v2, "other", "5");
    assert_int_equal(symlink(v1, current), 0);
    (void)snprintf(yaml, sizeof(yaml), "layers: [{name: disk, disk_layer: {symlink_root: '%s'}}]",
                   current);
    struct mz_err err;
    struct mz_runtime_store *s = store(yaml, &err);
    assert_int_equal(mz_runtime_u64(mz_runtime_here(), MZ_STR("health.min"), 0), 12);
    assert_int_equal(symlink(v2, next) | rename(next, current),
                     0); /* moved into place: read again */
    for (int i = 0; i < 100 && mz_runtime_u64(mz_runtime_here(), MZ_STR("other"), 0) != 5; i++)
        mz_loop_turn(loop, 10);
    assert_int_equal(mz_runtime_u64(mz_runtime_here(), MZ_STR("other"), 0), 5);
    assert_int_equal(mz_runtime_u64(mz_runtime_here(), MZ_STR("health.min"), 0), 0);
    stop(s);
    (void)snprintf(yaml, sizeof(yaml), "rm -r %s", root);
    assert_int_equal(system(yaml), 0);
}

/* Snapshots reach threads by post while others are read (P2; under TSan too). */
static void *reader(void *arg)
{
    struct mz_loop *l = arg;
    for (int i = 0; i < 2000; i++) {
        mz_loop_turn(l, 1);
        if (mz_runtime_u64(mz_runtime_here(), MZ_STR("k"), 0) == 100)
            return arg;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_runtime_store *s = store("layers: [{name: top, admin_layer: {}}]", &err);
    struct mz_loop *l[2] = { mz_loop_create("a"), mz_loop_create("b") };
    pthread_t t[2];
    for (int i = 0; i < 2; i++) {
        mz_runtime_store_add_thread(s, l[i]);
        assert_int_equal(pthread_create(&t[i], NULL, reader, l[i]), 0);
    }
    for (int i = 1; i <= 100; i++) {
        char text[20];
        (void)snprintf(text, sizeof(text), "%d", i);
        const struct mz_str k = MZ_STR("k"), v = mz_str_c(text);
        assert_true(mz_runtime_store_modify(s, &k, &v, 1, &err));
    }
    for (int i = 0; i < 2; i++) {
        void *saw;
        assert_int_equal(pthread_join(t[i], &saw), 0);
        assert_non_null(saw);
        mz_loop_destroy(l[i]);
    }
    stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),         cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_admin_and_dump), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_disk),           cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
