/* Hostile DNS answers (H09): whatever a server replies, a query ends at most once, with addresses that are addresses, and
 * never more than the limit. The server is a UDP socket of this process; a reply carries the query's id, and often its
 * question, so that the bytes get as deep as they can. */
#include "net/dns.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { HEADER = 12, REPLY_MAX = 4096, ROUNDS = 6 };
static int server = -1;
static struct mz_addr server_addr;
static unsigned calls;

static void done(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n)
{
    (void)arg;
    if (++calls > 1 || n > MZ_DNS_MAX || (!ok && !why))
        abort();
    for (size_t i = 0; ok && i < n; i++)
        if (!mz_addr_is_ip(&v[i].addr) || mz_addr_port(&v[i].addr) != 0)
            abort();
}

static void open_server(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);
    server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&in, len) != 0 ||
        getsockname(server, (struct sockaddr *)&in, &len) != 0 ||
        !mz_addr_parse_ip(MZ_STR("127.0.0.1"), ntohs(in.sin_port), &server_addr))
        abort();
}

/* The length of the question behind the header of a query that c-ares wrote. */
static size_t question_length(const uint8_t *q, size_t n)
{
    size_t at = HEADER;
    while (at < n && q[at])
        at += 1u + q[at];
    return at + 5 <= n ? at + 5 - HEADER : 0;
}

static void reply_once(const uint8_t *p, size_t n)
{
    uint8_t query[512], reply[REPLY_MAX];
    struct sockaddr_storage from;
    socklen_t from_n = sizeof(from);
    ssize_t got = recvfrom(server, query, sizeof(query), 0, (struct sockaddr *)&from, &from_n);
    if (got < HEADER || n < 1)
        return;
    size_t used = 0, question = p[0] & 1 ? question_length(query, (size_t)got) : 0;
    memcpy(reply, query, 2); /* the id */
    used = 2;
    if (question) {
        static const uint8_t head[] = { 0x81, 0x80, 0, 1 };
        memcpy(reply + used, head, sizeof(head));
        used += sizeof(head);
        for (int i = 0; i < 6; i++) /* counts of answers, authority, additional */
            reply[used++] = i % 2 && (size_t)i / 2 + 1 < n ? p[(size_t)i / 2 + 1] & 7 : 0;
        memcpy(reply + used, query + HEADER, question);
        used += question;
    }
    size_t skip = question && n > 4 ? 4 : 1;
    size_t room = sizeof(reply) - used, body = n - skip < room ? n - skip : room;
    memcpy(reply + used, p + skip, body);
    (void)sendto(server, reply, used + body, 0, (struct sockaddr *)&from,
                 from_n); /* lost is fine */
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (server < 0)
        open_server();
    struct mz_err err;
    struct mz_loop *l = mz_loop_create("fuzz");
    struct mz_dns_opts o = { .servers = &server_addr, .n_servers = 1, .no_default_search = true };
    struct mz_dns *d = mz_dns_create(l, &o, &err);
    if (!d)
        abort();
    calls = 0;
    enum mz_dns_family family = n && p[0] & 2 ? MZ_DNS_ALL : MZ_DNS_V4_ONLY;
    struct mz_dns_query *q = mz_dns_resolve(d, MZ_STR("a.fuzz.test"), family, done, NULL);
    for (int i = 0; i < ROUNDS && !calls; i++) {
        mz_loop_turn(l, 0);
        reply_once(p, n);
        mz_loop_turn(l, 0);
    }
    if (!calls)
        mz_dns_cancel(q);
    mz_dns_destroy(d);
    mz_loop_destroy(l);
    return 0;
}
