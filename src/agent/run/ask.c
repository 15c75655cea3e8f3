/* Commands that ask a proxy on this machine, one blocking request at a time. */
#include "agent/run/ask.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#define ANSWER_MAX (64u << 20)

static int dial(const char *host, const char *port, unsigned timeout_ms)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    const struct timeval tv = { timeout_ms / 1000, (suseconds_t)(timeout_ms % 1000) * 1000 };
    struct addrinfo *all;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &all) != 0)
        return -1;
    for (const struct addrinfo *i = all; i && fd < 0; i = i->ai_next) {
        fd = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
        if (connect(fd, i->ai_addr, i->ai_addrlen) != 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    return fd;
}

struct target {
    struct mz_str host, port, path;
};

/* http://host:port/path */
static bool target_of(const char *url, struct target *out)
{
    struct mz_str s = mz_str_c(url);
    if (!mz_str_starts(s, MZ_STR("http://")))
        return false;
    s = mz_str_skip(s, 7);
    const ptrdiff_t slash = mz_str_chr(s, '/');
    struct mz_str authority = { s.p, slash < 0 ? s.n : (size_t)slash };
    const ptrdiff_t colon = mz_str_rchr(authority, ':');
    out->path = slash < 0 ? MZ_STR("/") : mz_str_skip(s, (size_t)slash);
    out->port = colon < 0 ? MZ_STR("80") : mz_str_skip(authority, (size_t)colon + 1);
    out->host = (struct mz_str){ authority.p, colon < 0 ? authority.n : (size_t)colon };
    if (out->host.n > 2 && out->host.p[0] == '[')
        out->host = (struct mz_str){ out->host.p + 1, out->host.n - 2 };
    return out->host.n && out->port.n;
}

/* Sizes in front of chunks go; what is cut off ends there. */
static struct mz_str without_chunks(struct mz_arena *a, struct mz_str s)
{
    char *out = mz_arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (;;) {
        const ptrdiff_t end = mz_str_find(s, MZ_STR("\r\n"));
        size_t size = 0;
        for (ptrdiff_t i = 0; i < end && i < 8; i++) {
            const char c = mz_lower(s.p[i]);
            if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                break;
            size = size * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        if (end < 0 || !size)
            break;
        s = mz_str_skip(s, (size_t)end + 2);
        size = size < s.n ? size : s.n;
        memcpy(out + n, s.p, size);
        n += size;
        s = mz_str_skip(s, size + 2 < s.n ? size + 2 : s.n);
    }
    return (struct mz_str){ out, n };
}

/* The status; 0: no answer. */
static unsigned ask(struct mz_arena *a, const struct target *t, struct mz_str method,
                    unsigned timeout_ms, struct mz_str *out_body)
{
    const struct mz_str rq =
        mz_arena_printf(a,
                        MZ_STR_FMT " " MZ_STR_FMT " HTTP/1.1\r\nhost: " MZ_STR_FMT
                                   "\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                        MZ_STR_ARG(method), MZ_STR_ARG(t->path), MZ_STR_ARG(t->host));
    const int fd = dial(mz_arena_dup(a, t->host).p, mz_arena_dup(a, t->port).p, timeout_ms);
    struct mz_buf b;
    char part[16384];
    uint64_t status = 0;
    ssize_t n = fd < 0 ? -1 : send(fd, rq.p, rq.n, MSG_NOSIGNAL);
    mz_buf_init(&b);
    while (n > 0 && mz_buf_len(&b) < ANSWER_MAX && (n = recv(fd, part, sizeof(part), 0)) > 0)
        mz_buf_append(&b, part, (size_t)n);
    if (fd >= 0)
        (void)close(fd);
    const struct mz_str all = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    const ptrdiff_t head = mz_str_find(all, MZ_STR("\r\n\r\n"));
    mz_buf_fini(&b);
    if (n < 0 || head < 12 || !mz_str_u64((struct mz_str){ all.p + 9, 3 }, &status))
        return 0;
    const bool chunked = mz_str_find((struct mz_str){ all.p, (size_t)head },
                                     MZ_STR("transfer-encoding: chunked")) >= 0;
    *out_body = mz_str_skip(all, (size_t)head + 4);
    if (chunked)
        *out_body = without_chunks(a, *out_body);
    return (unsigned)status;
}

static void pause_ms(unsigned ms)
{
    const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };
    (void)nanosleep(&t, NULL);
}

static int usage(const char *why)
{
    fprintf(stderr, "Error: %s\n", why);
    return 1;
}

struct wait_options {
    uint32_t timeout_s, request_ms, period_ms;
    const char *url;
};
static const struct arg_flag wait_flags[] = {
    { "timeoutSeconds", 0, ARG_NUMBER, offsetof(struct wait_options, timeout_s),
      "how long to wait (60)" },
    { "requestTimeoutMillis", 0, ARG_NUMBER, offsetof(struct wait_options, request_ms),
      "patience of one question (500)" },
    { "periodMillis", 0, ARG_NUMBER, offsetof(struct wait_options, period_ms),
      "pause between questions (500)" },
    { "url", 0, ARG_TEXT, offsetof(struct wait_options, url),
      "what to ask (http://localhost:15021/healthz/ready)" },
};
#define WAIT_FLAGS (sizeof(wait_flags) / sizeof(wait_flags[0]))

int mz_agent_wait_main(int argc, char **argv)
{
    struct wait_options o = { 60, 500, 500, "http://localhost:15021/healthz/ready" };
    struct arg_result rest = { 0 };
    char why[256] = "";
    struct target t;
    if (!args_parse(wait_flags, WAIT_FLAGS, argc, argv, &o, &rest, why))
        return usage(why);
    if (rest.help) {
        printf("Waits until the proxy is ready.\n\nUsage:\n  mizzen-agent wait [flags]\n\n");
        mz_agent_flags_help(wait_flags, WAIT_FLAGS);
        return 0;
    }
    if (!target_of(o.url, &t))
        return usage("--url: not http://host:port/path");
    const uint64_t end_us = mz_clock->mono_us() + (uint64_t)o.timeout_s * 1000000;
    unsigned status = 0;
    while (mz_clock->mono_us() < end_us) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
        struct mz_str body;
        status = ask(a, &t, MZ_STR("GET"), o.request_ms, &body);
        mz_arena_destroy(a);
        if (status == 200)
            return 0;
        pause_ms(o.period_ms ? o.period_ms : 1);
    }
    fprintf(stderr,
            "Error: the proxy is not ready after %u seconds, the last answer of %s was %u\n",
            o.timeout_s, o.url, status);
    return 1;
}

struct request_options {
    uint32_t port;
};
static const struct arg_flag request_flags[] = {
    { "debug-port", 0, ARG_NUMBER, offsetof(struct request_options, port),
      "of the admin pages (15000)" },
};

int mz_agent_request_main(int argc, char **argv)
{
    struct request_options o = { 15000 };
    struct arg_result rest = { 0 };
    char why[256] = "", url[1024];
    struct target t;
    if (!args_parse(request_flags, 1, argc, argv, &o, &rest, why))
        return usage(why);
    if (rest.help || rest.others.n != 2) {
        printf("Asks the proxy's admin pages.\n\nUsage:\n  mizzen-agent request METHOD PATH "
               "[flags]\n\n");
        mz_agent_flags_help(request_flags, 1);
        return !rest.help;
    }
    const char *path = rest.others.v[1];
    if (snprintf(url, sizeof(url), "http://localhost:%u%s%s", o.port, path[0] == '/' ? "" : "/",
                 path) >= (int)sizeof(url) ||
        !target_of(url, &t))
        return usage("the path is too long");
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_str body = { 0 };
    const unsigned status = ask(a, &t, mz_str_c(rest.others.v[0]), 60000, &body);
    if (status)
        (void)fwrite(body.p, 1, body.n, stdout);
    mz_arena_destroy(a);
    if (status >= 200 && status < 300)
        return 0;
    if (!status)
        return usage("nobody answers at localhost: is a proxy running?");
    fprintf(stderr, "Error: status %u\n", status);
    return 1;
}
