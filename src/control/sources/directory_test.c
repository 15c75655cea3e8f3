/* The directory source on real files. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/sources/source.h"

static struct {
    char dir[64];
    struct mz_loop *loop;
    struct mz_store *store;
    struct mz_source *source;
    unsigned changes;
    char told[4096];
} t;

static void changed(void *arg)
{
    (void)arg;
    t.changes++;
}

static void path_of(const char *name, char out[256])
{
    (void)snprintf(out, 256, "%s/%s", t.dir, name);
}

/* As an editor does: beside, then moved into place. */
static void write_file(const char *name, const char *text)
{
    char path[256], other[300];
    path_of(name, path);
    (void)snprintf(other, sizeof(other), "%s.new", path);
    FILE *f = fopen(other, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(other, path), 0);
}

static void hear(void *arg, const struct mz_problem *p)
{
    (void)arg;
    const size_t n = strlen(t.told);
    const char *base = p->file.p + mz_str_rchr(p->file, '/') + 1;
    (void)snprintf(t.told + n, sizeof(t.told) - n, "%.*s:%u:%.*s:%.*s\n",
                   (int)(p->file.p + p->file.n - base), base, p->line, MZ_STR_ARG(p->key),
                   MZ_STR_ARG(p->text));
}

static const char *problems(void)
{
    t.told[0] = 0;
    t.source->ops->problems(t.source, hear, NULL);
    return t.told;
}

static bool has(const char *key)
{
    return mz_store_get(t.store, mz_str_c(key)) != NULL;
}

static void await(unsigned changes)
{
    const uint64_t end = mz_clock->mono_us() + 20000000;
    while (t.changes < changes && mz_clock->mono_us() < end)
        mz_loop_turn(t.loop, 50);
    assert_int_equal(t.changes, changes);
}

static int up(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/mizzen-directory-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    t.loop = mz_loop_create("main_thread");
    t.store = mz_store_create(changed, NULL);
    const char *const dirs[] = { t.dir };
    const struct mz_directory_opts o = {
        .dirs = dirs, .dirs_n = 1, .watch = true, .debounce_ms = 20
    };
    t.source = mz_directory_create(t.loop, t.store, &o);
    return 0;
}

static int down(void **state)
{
    (void)state;
    char command[128];
    t.source->ops->destroy(t.source);
    mz_store_destroy(t.store);
    mz_loop_destroy(t.loop);
    (void)snprintf(command, sizeof(command), "rm -rf %s", t.dir);
    return system(command);
}

static void start(void)
{
    struct mz_err err;
    assert_false(t.source->ops->synced(t.source));
    assert_true(t.source->ops->start(t.source, &err));
    assert_true(t.source->ops->synced(t.source));
}

#define NS(name) "apiVersion: v1\nkind: Namespace\nmetadata: {name: " name "}\n"
#define SVC(name, port)                                                                            \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {ports: [{port: " port "}]}" \
    "\n"

static void test_watched(void **state)
{
    (void)state;
    char sub[256];
    write_file("a.yaml", NS("a") "---\n" NS("b"));
    write_file("notes.txt", "kind: [");
    write_file("mesh.yaml", "trustDomain: td\n");
    start();
    assert_int_equal(t.changes, 1);
    assert_true(has("Namespace/a") && has("Namespace/b") && has("MeshConfig/mesh"));
    write_file("a.yaml", NS("a"));
    await(2);
    assert_false(has("Namespace/b"));
    path_of("sub", sub);
    assert_int_equal(mkdir(sub, 0700), 0);
    write_file("sub/c.json",
               "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"c\"}}");
    await(3);
    assert_true(has("Namespace/c"));
    path_of("a.yaml", sub);
    assert_int_equal(unlink(sub), 0);
    await(4);
    assert_false(has("Namespace/a"));
    assert_string_equal(problems(), "");
}

/* What cannot be read leaves what was: the document that is named, or all that its file held (H01). */
static void test_last_good(void **state)
{
    (void)state;
    write_file("a.yaml", SVC("x", "80") "---\n" SVC("y", "80"));
    start();
    const uint64_t good = mz_store_get(t.store, MZ_STR("Service/default/x"))->version;
    write_file("a.yaml", SVC("x", "many") "---\n" SVC("z", "80"));
    await(2);
    assert_true(has("Service/default/z"));
    assert_false(has("Service/default/y"));
    assert_int_equal(mz_store_get(t.store, MZ_STR("Service/default/x"))->version, good);
    assert_non_null(strstr(problems(), "a.yaml:1:Service/default/x:spec.ports[0].port"));
    write_file("a.yaml", "kind: [\n---\n" NS("nn"));
    await(3);
    assert_true(has("Service/default/x") && has("Service/default/z") && has("Namespace/nn"));
    assert_non_null(strstr(problems(), "a.yaml:1::not YAML"));
    write_file("a.yaml", NS("nn"));
    await(4);
    assert_false(has("Service/default/x"));
    assert_string_equal(problems(), "");
}

static void test_twice(void **state)
{
    (void)state;
    char path[256];
    write_file("b.yaml", SVC("x", "81"));
    start();
    write_file("a.yaml", SVC("x", "80"));
    await(2);
    assert_true(
        mz_str_ends(mz_store_get(t.store, MZ_STR("Service/default/x"))->file, MZ_STR("a.yaml")));
    assert_non_null(strstr(problems(), "b.yaml:1::has no effect: "));
    assert_non_null(strstr(problems(), "a.yaml:1 has the same object"));
    path_of("a.yaml", path);
    assert_int_equal(unlink(path), 0);
    await(3);
    assert_true(
        mz_str_ends(mz_store_get(t.store, MZ_STR("Service/default/x"))->file, MZ_STR("b.yaml")));
    assert_string_equal(problems(), "");
}

#define POD "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a}\n"

/* A pod that somebody wants and one that runs are one, and the one that runs says more. */
static void test_pod_that_runs(void **state)
{
    (void)state;
    char path[256];
    write_file("a.yaml", POD);
    start();
    write_file("b.yaml", POD "status: {phase: Running}\n");
    await(2);
    assert_true(mz_str_ends(mz_store_get(t.store, MZ_STR("Pod/a/p"))->file, MZ_STR("b.yaml")));
    assert_string_equal(problems(), "");
    write_file("b.yaml", POD);
    await(3);
    assert_true(mz_str_ends(mz_store_get(t.store, MZ_STR("Pod/a/p"))->file, MZ_STR("a.yaml")));
    assert_non_null(strstr(problems(), "b.yaml:1::has no effect: "));
    write_file("a.yaml", POD "status: {phase: Running}\n");
    await(4);
    assert_string_equal(problems(), "");
    path_of("a.yaml", path);
    assert_int_equal(unlink(path), 0);
    await(5);
    assert_true(mz_str_ends(mz_store_get(t.store, MZ_STR("Pod/a/p"))->file, MZ_STR("b.yaml")));
}

static void test_no_directory(void **state)
{
    (void)state;
    struct mz_err err = { .msg = "" };
    const char *const dirs[] = { "/no/such/place" };
    const struct mz_directory_opts o = { .dirs = dirs, .dirs_n = 1 };
    struct mz_source *s = mz_directory_create(NULL, t.store, &o);
    assert_false(s->ops->start(s, &err));
    assert_string_equal(err.msg, "/no/such/place: No such file or directory");
    s->ops->destroy(s);
}

/* Of one object in two directories the first directory's counts, whatever the paths; none may lie in another. */
static void test_several(void **state)
{
    (void)state;
    char a[256], b[256], hidden[256];
    struct mz_err err = { .msg = "" };
    path_of("z", a);
    path_of("a", b);
    path_of(".h", hidden);
    assert_true(mkdir(a, 0700) == 0 && mkdir(b, 0700) == 0 && mkdir(hidden, 0700) == 0);
    const char *const dirs[] = { a, b };
    const struct mz_directory_opts o = {
        .dirs = dirs, .dirs_n = 2, .watch = true, .debounce_ms = 20
    };
    t.source->ops->destroy(t.source);
    t.source = mz_directory_create(t.loop, t.store, &o);
    write_file("a/x.yaml", SVC("x", "81") "---\n" NS("nn"));
    write_file("a/mesh.yaml", "trustDomain: second\n");
    write_file("z/x.yaml", SVC("x", "80"));
    start();
    assert_true(
        mz_str_ends(mz_store_get(t.store, MZ_STR("Service/default/x"))->file, MZ_STR("/z/x.yaml")));
    assert_true(has("Namespace/nn") && has("MeshConfig/mesh"));
    assert_non_null(strstr(problems(), "/z/x.yaml:1 has the same object"));
    write_file("z/mesh.yaml", "trustDomain: first\n");
    write_file("z/x.yaml", NS("oo"));
    await(2);
    assert_true(
        mz_str_ends(mz_store_get(t.store, MZ_STR("Service/default/x"))->file, MZ_STR("/a/x.yaml")));
    assert_true(mz_str_ends(mz_store_get(t.store, MZ_STR("MeshConfig/mesh"))->file,
                            MZ_STR("/z/mesh.yaml")));
    assert_true(has("Namespace/nn") && has("Namespace/oo"));
    const char *const nested[] = { t.dir, b };
    const struct mz_directory_opts no = { .dirs = nested, .dirs_n = 2 };
    struct mz_source *s = mz_directory_create(NULL, t.store, &no);
    assert_false(s->ops->start(s, &err));
    assert_non_null(strstr(err.msg, "/a: is read already, as part of "));
    s->ops->destroy(s);
    assert_false(mz_directory_reads(t.dir, hidden));
    assert_true(mz_directory_reads("/", b) && !mz_directory_reads(a, b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_watched, up, down),
        cmocka_unit_test_setup_teardown(test_last_good, up, down),
        cmocka_unit_test_setup_teardown(test_twice, up, down),
        cmocka_unit_test_setup_teardown(test_pod_that_runs, up, down),
        cmocka_unit_test_setup_teardown(test_no_directory, up, down),
        cmocka_unit_test_setup_teardown(test_several, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
