#include "net/dns.h"

#include "base/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A name server of a few names, on the same loop. */
enum { T_A = 1, T_AAAA = 28 };
static const struct {
    const char *name;
    unsigned type, rcode, n; /* n addresses: 10.0.0.1.. or ::1.. */
    uint32_t ttl;
    bool silent, wrong_id_first;
} zone[] = {
    { "two.test", T_A, 0, 2, 7, false, false },    { "six.test", T_AAAA, 0, 1, 60, false, false },
    { "nx.test", T_A, 3, 0, 0, false, false },     { "nx.test", T_AAAA, 3, 0, 0, false, false },
    { "broken.test", T_A, 5, 0, 0, false, false }, { "silent.test", T_A, 0, 0, 0, true, false },
    { "spoof.test", T_A, 0, 1, 1, false, true },
};

static struct mz_loop *loop;
static struct mz_io server;
static struct mz_addr server_addr;
static unsigned asked;

static size_t question_name(const unsigned char *q, size_t n, char *out)
{
    size_t i = 12, k = 0;
    while (i < n && q[i]) {
        memcpy(out + k, q + i + 1, q[i]);
        k += q[i];
        out[k++] = '.';
        i += q[i] + 1u;
    }
    out[k ? k - 1 : 0] = '\0';
    return i + 1;
}

static void put_answers(unsigned char *p, size_t *at, unsigned type, unsigned n, uint32_t ttl)
{
    for (unsigned i = 0; i < n; i++) {
        size_t len = type == T_A ? 4 : 16;
        unsigned char rr[28] = { 0xc0, 12, 0, (unsigned char)type, 0, 1,
                                 0,    0,  0, (unsigned char)ttl,  0, (unsigned char)len };
        if (type == T_A)
            rr[12] = 10;
        rr[11 + len] = (unsigned char)(i + 1);
        memcpy(p + *at, rr, 12 + len);
        *at += 12 + len;
    }
}

/* Answers that no honest server gives (H09); @q has room for them. */
static bool put_hostile(const char *name, unsigned char *q, size_t *at)
{
    if (!strcmp(name, "loop.test")) { /* the name of the answer points at itself */
        q[7] = 1;
        put_answers(q, at, T_A, 1, 5);
        q[*at - 16] = (unsigned char)(0xc0 | (*at - 16) >> 8);
        q[*at - 15] = (unsigned char)(*at - 16);
    } else if (!strcmp(name, "cut.test")) { /* five are promised */
        q[7] = 5;
        put_answers(q, at, T_A, 1, 5);
    } else if (!strcmp(name, "long.test")) { /* a name of 320 bytes */
        q[7] = 1;
        for (size_t i = 0; i < 5; i++, *at += 64) {
            q[*at] = 63;
            memset(q + *at + 1, 'a', 63);
        }
        q[(*at)++] = 0;
        put_answers(q, at, T_A, 1, 5);
        memmove(q + *at - 16, q + *at - 14, 14); /* without its own name */
        *at -= 2;
    } else if (!strcmp(name, "many.test")) {
        q[6] = 1100 >> 8;
        q[7] = 1100 & 0xff;
        put_answers(q, at, T_A, 1100, 5);
    } else {
        return false;
    }
    return true;
}

static void answer(int fd, unsigned char *q, size_t n, const struct mz_addr *to)
{
    char name[256];
    size_t end = question_name(q, n, name) + 4;
    unsigned type = q[end - 3];
    asked++;
    q[2] = 0x81;
    q[3] = 0x80;
    q[11] = 0; /* no OPT record comes back */
    size_t at = end;
    bool hostile = put_hostile(name, q, &at);
    for (size_t i = 0; !hostile && i < MZ_COUNT(zone); i++) {
        if (strcmp(zone[i].name, name) != 0 || zone[i].type != type)
            continue;
        if (zone[i].silent)
            return;
        q[3] = (unsigned char)(0x80 | zone[i].rcode);
        q[7] = (unsigned char)zone[i].n;
        put_answers(q, &at, type, zone[i].n, zone[i].ttl);
        if (zone[i].wrong_id_first) {
            q[0] ^= 0xff;
            q[at - 1] = 66;
            (void)sendto(fd, q, at, 0, &to->sa, to->len);
            q[0] ^= 0xff;
            q[at - 1] = 1;
        }
        break;
    }
    assert_int_equal(sendto(fd, q, at, 0, &to->sa, to->len), at);
}

static uint16_t ports[64]; /* from which a question came */

static void server_ready(struct mz_io *io, unsigned events)
{
    (void)events;
    static unsigned char q[1024 + 1100 * 16];
    struct mz_addr from = { .len = sizeof(from.in6) };
    ssize_t n = recvfrom(io->fd, q, 512, MSG_DONTWAIT, &from.sa, &from.len);
    if (n > 17 && asked < MZ_COUNT(ports))
        ports[asked] = mz_addr_port(&from);
    if (n > 17)
        answer(io->fd, q, (size_t)n, &from);
}

static struct {
    bool done, ok;
    char why[100];
    struct mz_dns_result v[8];
    size_t n;
} got;

static void on_done(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n)
{
    assert_ptr_equal(arg, &got);
    assert_false(got.done);
    got.done = true;
    got.ok = ok;
    (void)snprintf(got.why, sizeof(got.why), "%s", why ? why : "");
    got.n = n;
    for (size_t i = 0; i < n && i < MZ_COUNT(got.v); i++)
        got.v[i] = v[i];
}

static struct mz_dns *start_dns; /* of test_search_domains() */

static struct mz_dns *start(void)
{
    struct mz_err err;
    asked = 0;
    loop = mz_loop_create("test");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &server_addr);
    assert_int_equal(bind(fd, &server_addr.sa, server_addr.len), 0);
    assert_int_equal(getsockname(fd, &server_addr.sa, &server_addr.len), 0);
    assert_int_equal(mz_io_add_level(loop, &server, fd, MZ_IO_READ, server_ready), 0);
    struct mz_dns *d = mz_dns_create(
        loop,
        &(struct mz_dns_opts){ .servers = &server_addr, .n_servers = 1, .no_default_search = true },
        &err);
    assert_non_null(d);
    return d;
}

static void stop(struct mz_dns *d)
{
    mz_dns_destroy(d);
    mz_io_del(&server);
    close(server.fd);
    mz_loop_destroy(loop);
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
}

static void resolve(struct mz_dns *d, const char *name, enum mz_dns_family family)
{
    memset(&got, 0, sizeof(got));
    mz_dns_resolve(d, mz_str_c(name), family, on_done, &got);
    assert_false(got.done);
    for (int i = 0; i < 200 && !got.done; i++)
        mz_loop_turn(loop, 20);
    assert_true(got.done);
}

static const struct {
    const char *name;
    enum mz_dns_family family;
    bool ok;
    size_t n;
    const char *first;
    uint32_t ttl;
} cases[] = {
    { "two.test", MZ_DNS_V4_ONLY, true, 2, "10.0.0.1", 7 },
    { "two.test", MZ_DNS_AUTO, true, 2, "10.0.0.1", 7 },
    { "two.test", MZ_DNS_V6_ONLY, true, 0, NULL, 0 },
    { "two.test", MZ_DNS_ALL, true, 2, "10.0.0.1", 7 },
    { "six.test", MZ_DNS_AUTO, true, 1, "::1", 60 },
    { "six.test", MZ_DNS_V4_PREFERRED, true, 1, "::1", 60 },
    { "six.test", MZ_DNS_V4_ONLY, true, 0, NULL, 0 },
    { "nx.test", MZ_DNS_AUTO, true, 0, NULL, 0 },
    { "spoof.test", MZ_DNS_V4_ONLY, true, 1, "10.0.0.1", 1 },
    { "broken.test", MZ_DNS_V4_ONLY, false, 0, NULL, 0 },
    { "10.9.8.7", MZ_DNS_V4_ONLY, true, 1, "10.9.8.7", 0 },
    { "localhost", MZ_DNS_V4_ONLY, true, 1, "127.0.0.1", 0 },
    { "a.LocalHost.", MZ_DNS_AUTO, true, 1, "127.0.0.1", 0 },
    { "a.localhost", MZ_DNS_V6_ONLY, true, 1, "::1", 0 },
    { "a.localhost", MZ_DNS_ALL, true, 2, "127.0.0.1", 0 },
    { "nolocalhost", MZ_DNS_V4_ONLY, true, 0, NULL, 0 },
    { "", MZ_DNS_AUTO, false, 0, NULL, 0 },
};

static void test_families(void **state)
{
    (void)state;
    struct mz_dns *d = start();
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        resolve(d, cases[i].name, cases[i].family);
        assert_int_equal(got.ok, cases[i].ok);
        assert_int_equal(got.n, cases[i].n);
        if (!cases[i].ok)
            assert_true(got.why[0]);
        if (!cases[i].first)
            continue;
        char text[MZ_ADDR_TEXT];
        mz_addr_ip_text(&got.v[0].addr, text);
        assert_string_equal(text, cases[i].first);
        assert_int_equal(mz_addr_port(&got.v[0].addr), 0);
        if (cases[i].ttl)
            assert_int_equal(got.v[0].ttl_s, cases[i].ttl);
    }
    stop(d);
}

static void test_hostile_answers(
    void **state) /* H09: each question ends once, in time, with what there is room for */
{
    (void)state;
    static const char *const names[] = { "loop.test", "cut.test", "long.test", "many.test" };
    struct mz_dns *d = start();
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        resolve(d, names[i], MZ_DNS_V4_ONLY);
        assert_true(asked > 0);
        assert_true(got.n <= (i + 1 < MZ_COUNT(names) ? 0 : MZ_DNS_MAX));
    }
    resolve(d, "two.test", MZ_DNS_V4_ONLY); /* and the resolver serves on */
    assert_true(got.ok && got.n == 2);
    stop(d);
}

static void test_long_name(void **state)
{
    (void)state;
    struct mz_dns *d = start();
    char name[300];
    memset(name, 'a', sizeof(name));
    memset(&got, 0, sizeof(got));
    mz_dns_resolve(d, (struct mz_str){ name, 256 }, MZ_DNS_AUTO, on_done, &got);
    assert_false(got.done);
    mz_loop_turn(loop, 0);
    assert_true(got.done && !got.ok);
    resolve(d,
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaa.test",
            MZ_DNS_V4_ONLY);
    assert_int_equal(got.n, 0);
    assert_int_equal(asked, 0);
    stop(d);
}

static unsigned asked_with(const char *search, bool no_search)
{
    struct mz_err err;
    mz_dns_destroy(start_dns); /* the server stays */
    assert_int_equal(setenv("LOCALDOMAIN", search, 1), 0);
    start_dns =
        mz_dns_create(loop,
                      &(struct mz_dns_opts){
                          .servers = &server_addr, .n_servers = 1, .no_default_search = no_search },
                      &err);
    assert_non_null(start_dns);
    unsetenv("LOCALDOMAIN");
    asked = 0;
    resolve(start_dns, "nx", MZ_DNS_V4_ONLY);
    assert_true(got.ok && got.n == 0);
    return asked;
}

static void test_search_domains(void **state) /* H09 */
{
    (void)state;
    char many[200 * 8 + 1] = "";
    for (int i = 0; i < 200; i++)
        (void)snprintf(many + i * 8, 9, "s%03d.zz ", i);
    start_dns = start();
    assert_int_equal(asked_with("a.zz b.zz c.zz", false), 4); /* and the name itself */
    assert_int_equal(asked_with("a.zz b.zz c.zz", true), 1);
    assert_int_equal(asked_with(many, false), MZ_DNS_SEARCH_MAX + 1);
    asked = 0;
    resolve(start_dns, "nx.", MZ_DNS_V4_ONLY); /* the dot says that it is whole */
    assert_int_equal(asked, 1);
    stop(start_dns);
}

static void test_cancel(void **state)
{
    (void)state;
    struct mz_dns *d = start();
    memset(&got, 0, sizeof(got));
    mz_dns_cancel(mz_dns_resolve(d, MZ_STR("two.test"), MZ_DNS_V4_ONLY, on_done, &got));
    mz_dns_cancel(mz_dns_resolve(d, MZ_STR("10.0.0.1"), MZ_DNS_V4_ONLY, on_done,
                                 &got)); /* answered at once */
    for (int i = 0; i < 10; i++)
        mz_loop_turn(loop, 5);
    assert_false(got.done);
    assert_true(asked > 0);
    mz_dns_resolve(d, MZ_STR("silent.test"), MZ_DNS_V4_ONLY, on_done, &got);
    mz_dns_resolve(d, MZ_STR("10.0.0.1"), MZ_DNS_V4_ONLY, on_done, &got);
    stop(d); /* both stay silent */
    assert_false(got.done);
}

static void on_counted(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n)
{
    (void)why;
    (void)v;
    assert_true(ok && n > 0);
    ++*(unsigned *)arg;
}

/* udp_max: so many questions leave from one port; the others wait until those are answered. */
static void test_ports_change(void **state)
{
    (void)state;
    struct mz_err err;
    unsigned done = 0;
    struct mz_dns *d = start();
    mz_dns_destroy(d);
    d = mz_dns_create(loop,
                      &(struct mz_dns_opts){ .servers = &server_addr,
                                             .n_servers = 1,
                                             .no_default_search = true,
                                             .udp_max = 2,
                                             .tries = 2 },
                      &err);
    assert_non_null(d);
    struct mz_dns_query *last = NULL;
    for (unsigned i = 0; i < 8; i++)
        last = mz_dns_resolve(d, MZ_STR("two.test"), MZ_DNS_V4_ONLY, on_counted, &done);
    mz_dns_cancel(last); /* while it waits */
    for (unsigned i = 0; i < 100 && done < 7; i++)
        mz_loop_turn(loop, 20);
    assert_int_equal(done, 7);
    assert_int_equal(asked, 7);
    for (unsigned i = 0; i < asked; i++) {
        unsigned same = 0;
        for (unsigned k = 0; k < asked; k++)
            same += ports[i] == ports[k];
        assert_true(same <= 2);
    }
    mz_dns_resolve(d, MZ_STR("two.test"), MZ_DNS_V4_ONLY, on_counted, &done);
    mz_dns_resolve(d, MZ_STR("two.test"), MZ_DNS_V4_ONLY, on_counted, &done);
    mz_dns_resolve(d, MZ_STR("two.test"), MZ_DNS_V4_ONLY, on_counted, &done);
    stop(d); /* one asks, one waits: both stay silent */
}

static struct {
    unsigned done;
    bool failed;
    char answer[512];
    size_t n;
} sent;

static void on_sent(void *arg, const char *why, struct mz_str answer)
{
    assert_ptr_equal(arg, &sent);
    assert_true((why != NULL) == (answer.n == 0));
    sent.done++;
    sent.failed = why != NULL;
    sent.n = answer.n < sizeof(sent.answer) ? answer.n : 0;
    memcpy(sent.answer, answer.p ? answer.p : "", sent.n);
}

static struct mz_str message(const char *name) /* of "two.test", "nx.test", ... */
{
    static char m[64];
    size_t n = 12, dot = strchr(name, '.') - name;
    memcpy(m, "\xbe\xef\1\0\0\1\0\0\0\0\0\0", 12);
    m[n++] = (char)dot;
    memcpy(m + n, name, dot);
    n += dot;
    memcpy(m + n, "\4test\0\0\1\0\1", 10);
    return (struct mz_str){ m, n + 10 };
}

static void exchange(struct mz_dns *d, const char *name)
{
    memset(&sent, 0, sizeof(sent));
    (void)mz_dns_send(d, message(name), on_sent, &sent);
    assert_int_equal(sent.done, 0);
    for (int i = 0; i < 200 && !sent.done; i++)
        mz_loop_turn(loop, 20);
    assert_int_equal(sent.done, 1);
}

static void test_whole_messages(void **state)
{
    (void)state;
    struct mz_dns *d = start();
    struct mz_addr servers[4];
    char domain[256];
    exchange(d, "two.test");
    assert_int_equal(sent.n, message("two.test").n + 2 * 16);
    assert_memory_equal(sent.answer, "\xbe\xef\x81\x80\0\1\0\2", 8);
    exchange(d, "nx.test");
    assert_int_equal(sent.answer[3] & 15, 3);
    exchange(d, "spoof.test"); /* the first answer has another id */
    assert_int_equal(sent.answer[sent.n - 1], 1);
    exchange(d, "broken.test"); /* REFUSED: by every server */
    assert_true(sent.failed);
    assert_int_equal(mz_dns_servers(d, servers, MZ_COUNT(servers)), 1);
    assert_true(mz_addr_eq(&servers[0], &server_addr));
    assert_int_equal(mz_dns_servers(d, servers, 0), 0);
    (void)mz_dns_first_search(d, domain);
    mz_dns_send_cancel(mz_dns_send(d, message("silent.test"), on_sent, &sent));
    mz_dns_send_cancel(
        mz_dns_send(d, (struct mz_str){ "x", 1 }, on_sent, &sent)); /* no message: fails at once */
    mz_dns_send_cancel(NULL);
    (void)mz_dns_send(d, message("silent.test"), on_sent, &sent);
    sent.done = 0;
    mz_loop_turn(loop, 0);
    stop(d);
    assert_int_equal(sent.done, 0);
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/resolv.XXXXXX", domain[256];
    static const char text[] = "search one.test two.test\nnameserver 192.0.2.1\nnameserver ::1\n";
    struct mz_err err;
    struct mz_addr servers[4];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    loop = mz_loop_create("test");
    struct mz_dns *d = mz_dns_create(loop, &(struct mz_dns_opts){ .file = path }, &err);
    assert_non_null(d);
    assert_true(mz_dns_first_search(d, domain));
    assert_string_equal(domain, "one.test");
    assert_int_equal(mz_dns_servers(d, servers, MZ_COUNT(servers)), 2);
    assert_int_equal(mz_addr_port(&servers[0]), 53);
    assert_int_equal(servers[0].sa.sa_family, AF_INET);
    assert_int_equal(servers[1].sa.sa_family, AF_INET6);
    mz_dns_destroy(d);
    mz_loop_destroy(loop);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),       cmocka_unit_test(test_hostile_answers),
        cmocka_unit_test(test_long_name),      cmocka_unit_test(test_search_domains),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_ports_change),
        cmocka_unit_test(test_whole_messages), cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
