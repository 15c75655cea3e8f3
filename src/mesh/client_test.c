/* What a client asks of a mesh and understands of its answers, against a fake one. */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "mesh/client.h"
#include "mesh/line.h"
#include "mesh/state.h"

/* ---- a mesh that answers with what it is given ---- */

struct fake {
    int listening, lock;
    const char *answer; /* as it goes over the wire, NULL: closes */
    bool with_fd;
    char asked[4096];
    unsigned fds;
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct fake *f = arg;
    struct mz_mesh_line l = { .max = 65536 };
    json_t *request = NULL;
    const int fd = accept(f->listening, NULL, NULL);
    int pipes[2];
    enum mz_mesh_read r;
    do
        r = mz_mesh_line_read(fd, &l, &request);
    while (r == MZ_MESH_MORE);
    if (r == MZ_MESH_LINE) {
        char *text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
        (void)snprintf(f->asked, sizeof(f->asked), "%s", text);
        free(text);
        json_decref(request);
    }
    f->fds = l.fds_n;
    if (f->answer && f->with_fd) {
        assert_int_equal(pipe(pipes), 0);
        assert_true(mz_mesh_line_write(fd, json_loads(f->answer, 0, NULL), pipes, 1));
        assert_int_equal(write(pipes[1], "x", 1), 1);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
    } else if (f->answer) {
        assert_int_equal(write(fd, f->answer, strlen(f->answer)), (ssize_t)strlen(f->answer));
    }
    mz_mesh_line_fini(&l);
    (void)close(fd);
    return NULL;
}

static void fake_start(struct fake *f, const char *name)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char path[PATH_MAX];
    struct mz_err err = { 0 };
    const int root = mz_mesh_root_open(true, &err);
    assert_true(root >= 0);
    (void)mkdirat(root, name, 0700);
    (void)snprintf(path, sizeof(path), "%s/up.pid", name);
    f->lock = openat(root, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(f->lock, LOCK_EX | LOCK_NB), 0);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s/control.sock", root, name);
    f->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listening, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(f->listening, 1), 0);
    (void)close(root);
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void fake_stop(struct fake *f, const char *name)
{
    char path[PATH_MAX];
    struct mz_err err = { 0 };
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    (void)close(f->listening);
    (void)close(f->lock);
    const int root = mz_mesh_root_open(false, &err);
    (void)snprintf(path, sizeof(path), "%s/control.sock", name);
    assert_int_equal(unlinkat(root, path, 0), 0);
    (void)snprintf(path, sizeof(path), "%s/up.pid", name);
    assert_int_equal(unlinkat(root, path, 0), 0);
    assert_int_equal(unlinkat(root, name, AT_REMOVEDIR), 0);
    (void)close(root);
}

/* A root of this test's own: as root the place is /run/mizzen, where others may be; names carry the process id. */
static char own[MZ_MESH_NAME_MAX + 1];

static int setup(void **state)
{
    (void)state;
    static char run[] = "/tmp/mesh-client-test.XXXXXX";
    if (geteuid() != 0 && (!mkdtemp(run) || setenv("XDG_RUNTIME_DIR", run, 1) != 0))
        return -1;
    (void)snprintf(own, sizeof(own), "client-test-%d", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct mz_err err = { 0 };
    if (geteuid() != 0 && mz_mesh_root(path, sizeof(path), &err)) {
        (void)rmdir(path);
        (void)rmdir(getenv("XDG_RUNTIME_DIR"));
    }
    return 0;
}

static void test_list(void **state)
{
    (void)state;
    struct fake f = { .answer = "{\"name\":\"x\",\"pods\":[]}\n" };
    struct mz_err err;
    fake_start(&f, own);
    struct mz_mesh_client *m = mz_mesh_open(own, &err);
    assert_non_null(m);
    assert_string_equal(mz_mesh_name(m), own);
    json_t *list = mz_mesh_list(m, &err);
    assert_true(json_is_array(json_object_get(list, "pods")));
    json_decref(list);
    fake_stop(&f, own);
    assert_string_equal(f.asked, "{\"op\":\"list\"}");
    assert_null(mz_mesh_list(m, &err)); /* it has gone meanwhile */
    assert_non_null(strstr(err.msg, own));
    mz_mesh_close(m);
    assert_null(mz_mesh_open(own, &err));
    assert_non_null(strstr(err.msg, "is not running"));
}

static void test_dial(void **state)
{
    (void)state;
    struct fake f = { .answer = "{\"ok\":true}", .with_fd = true };
    struct mz_err err;
    char c = 0;
    fake_start(&f, own);
    struct mz_mesh_client *m = mz_mesh_open(own, &err);
    const int fd = mz_mesh_dial(m, "demo/web", 15000, &err);
    fake_stop(&f, own);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(c, 'x');
    assert_string_equal(f.asked, "{\"op\":\"dial\",\"pod\":\"demo/web\",\"port\":15000}");
    (void)close(fd);
    mz_mesh_close(m);
}

static void test_exec(void **state)
{
    (void)state;
    struct fake f = { .answer = "{\"exit\":7}\n" };
    const char *const argv[] = { "echo", "a\"b", NULL };
    const struct mz_mesh_exec e = { .pod = "web", .argv = argv, .fds = { 0, 1, 2 } };
    struct mz_err err;
    fake_start(&f, own);
    struct mz_mesh_client *m = mz_mesh_open(own, &err);
    assert_int_equal(mz_mesh_exec(m, &e, &err), 7);
    fake_stop(&f, own);
    assert_int_equal(f.fds, 3);
    assert_string_equal(f.asked,
                        "{\"argv\":[\"echo\",\"a\\\"b\"],\"op\":\"exec\",\"pod\":\"web\"}");
    mz_mesh_close(m);
}

/* What a mesh may answer that is no answer. */
static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *why;
    } cases[] = { { "{\"error\":\"there is no pod web\"}\n", "there is no pod web" },
                  { "{\"ok\":true}\n", "without a connection" },
                  { "[1]\n", "not understood" },
                  { "{\"ok\":true,\"ok\":1}\n", "not understood" },
                  { "rubbish\n", "not understood" },
                  { "{\"ok\":", "has ended" },
                  { NULL, "has ended" } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fake f = { .answer = cases[i].answer };
        struct mz_err err;
        fake_start(&f, own);
        struct mz_mesh_client *m = mz_mesh_open(own, &err);
        assert_int_equal(mz_mesh_dial(m, "web", 1, &err), -1);
        fake_stop(&f, own);
        assert_non_null(strstr(err.msg, cases[i].why));
        mz_mesh_close(m);
    }
}

static void test_long_line(void **state)
{
    (void)state;
    struct mz_mesh_line l = { .max = 16 };
    json_t *o = NULL;
    int s[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    assert_int_equal(write(s[0], "{\"a\":1}\n{\"b\":2}\n", 16), 16);
    assert_int_equal(mz_mesh_line_read(s[1], &l, &o), MZ_MESH_LINE);
    json_decref(o);
    assert_int_equal(mz_mesh_line_read(s[1], &l, &o), MZ_MESH_LINE); /* came with the first */
    json_decref(o);
    assert_int_equal(write(s[0], "{\"aaaaaaaaaaaaaaaaaaaa\"", 23), 23);
    assert_int_equal(mz_mesh_line_read(s[1], &l, &o), MZ_MESH_BAD);
    mz_mesh_line_fini(&l);
    (void)close(s[0]);
    (void)close(s[1]);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *from, *name; /* NULL: refused */
    } cases[] = { { "bookinfo", "bookinfo" },
                  { "samples/bookinfo/", "bookinfo" },
                  { "/no/such/place", "place" },
                  { "/tmp", "tmp" },
                  { "/", NULL },
                  { "", NULL },
                  { "no-such/..", NULL },
                  { "a b", NULL } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char name[MZ_MESH_NAME_MAX + 1] = "";
        struct mz_err err = { 0 };
        assert_int_equal(mz_mesh_name_of(cases[i].from, name, &err), cases[i].name != NULL);
        assert_string_equal(name, cases[i].name ? cases[i].name : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list), cmocka_unit_test(test_dial),      cmocka_unit_test(test_exec),
        cmocka_unit_test(test_bad),  cmocka_unit_test(test_long_line), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
