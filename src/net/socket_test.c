#include "net/socket.h"

#include "base/alloc.h"
#include "base/test.h"
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mz_addr bound(int fd)
{
    struct mz_addr a;
    assert_true(mz_socket_local(fd, &a));
    return a;
}

static void test_clash(void **state)
{
    (void)state;
    struct mz_addr a;
    struct mz_err err;
    char want[200], text[MZ_ADDR_TEXT];
    const struct mz_listen_opts o = { 0 };
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &a);
    int fd = mz_socket_listen(&a, &o, &err);
    assert_true(fd >= 0);
    struct mz_addr b = bound(fd);
    assert_int_equal(mz_socket_listen(&b, &o, &err), -1);
    mz_addr_text(&b, text);
    snprintf(want, sizeof(want), "cannot bind '%s': Address already in use", text);
    assert_string_equal(err.msg, want);
    close(fd);
}

static void test_reuse_port(void **state)
{
    (void)state;
    struct mz_addr a;
    struct mz_err err;
    const struct mz_listen_opts o = { .reuse_port = true, .backlog = 5 };
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &a);
    int one = mz_socket_listen(&a, &o, &err);
    struct mz_addr b = bound(one);
    int two = mz_socket_listen(&b, &o, &err);
    assert_true(one >= 0 && two >= 0);
    close(one);
    close(two);
}

static void test_options(void **state)
{
    (void)state;
    struct mz_addr a;
    struct mz_err err;
    struct mz_socket_opt v[] = {
        { SOL_SOCKET, SO_KEEPALIVE, MZ_SOCK_PREBIND, true, 1, { NULL, 0 } },
        { IPPROTO_TCP, TCP_DEFER_ACCEPT, MZ_SOCK_LISTENING, false, 0, { "\5\0\0\0", 4 } },
    };
    struct mz_socket_opts opts = { v, 2 };
    const struct mz_listen_opts o = { .opts = &opts };
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &a);
    int fd = mz_socket_listen(&a, &o, &err), value = 0;
    socklen_t n = sizeof(value);
    assert_true(fd >= 0);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &n), 0);
    assert_int_equal(value, 1);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &value, &n), 0);
    assert_true(value > 0);
    close(fd);
    v[0].name = 9999;
    assert_int_equal(mz_socket_listen(&a, &o, &err), -1);
    assert_string_equal(err.msg,
                        "cannot set socket option (level 1, name 9999): Protocol not available");
}

static void test_unix_file(void **state)
{
    (void)state;
    char path[64];
    struct mz_addr a;
    struct mz_err err;
    struct stat st;
    snprintf(path, sizeof(path), "/tmp/mizzen-socket-test.%d", getpid());
    assert_true(mz_addr_unix(mz_str_c(path), &a, &err));
    struct mz_socket_opt tcp = {
        IPPROTO_TCP, TCP_KEEPIDLE, MZ_SOCK_PREBIND, true, 300, { NULL, 0 }
    };
    const struct mz_socket_opts opts = { &tcp, 1 };
    const struct mz_listen_opts o = { .unix_mode = 0600,
                                      .opts = &opts }; /* which say nothing here */
    int fd = mz_socket_listen(&a, &o, &err);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(mz_socket_listen(&a, &o, &err), -1); /* in use */
    close(fd);
    fd = mz_socket_listen(&a, &o, &err); /* a file that nobody listens on is replaced */
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clash),
        cmocka_unit_test(test_reuse_port),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_unix_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
