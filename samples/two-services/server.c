/* A small HTTP/1.1 server to put behind a proxy: the sample application, and the upstream of tests and benchmarks.
 *
 *   mizzen-sample-server --port N [--host ADDR] [--name TEXT] [--version TEXT]
 *
 *   /            name, version and the request id          /headers    the request's head, echoed
 *   /status/N    that status                               /delay/MS   answers later
 *   /flaky       every second request is a 503             /reset      closes with RST instead of answering
 *   /bytes/N     N bytes                                   /echo       the request's body
 *
 * One thread, epoll, one request at a time per connection; pipelined requests wait in the buffer. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 65536, BODY_MAX = 16 << 20, OUT_BLOCK = 65536 };

struct conn {
    int fd;
    char *in;
    size_t in_len, in_cap;
    char *out; /* head and a short body */
    size_t out_len, out_sent;
    uint64_t fill; /* bytes of 'x' still to send after `out` (/bytes) */
    bool close_after, wants_write, said_continue;
    int64_t due_ms; /* when a delayed answer may go; 0: at once */
    struct conn *next_delayed;
};

struct request {
    char method[16], path[512], id[64];
    const char *head, *body;
    size_t head_len, body_len, total; /* total: bytes of input that it takes */
    bool keep_alive;
};

static const char *server_name = "sample", *server_version = "v1";
static char block[OUT_BLOCK];
static struct conn *delayed;
static unsigned flaky;
static int epoll;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *must(void *p)
{
    if (!p)
        errx(1, "out of memory");
    return p;
}

static void conn_destroy(struct conn *c)
{
    for (struct conn **p = &delayed; *p; p = &(*p)->next_delayed) {
        if (*p == c) {
            *p = c->next_delayed;
            break;
        }
    }
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void conn_reset(struct conn *c)
{
    struct linger l = { .l_onoff = 1, .l_linger = 0 };
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l,
                     sizeof(l)); /* without it, a FIN: still the end */
    conn_destroy(c);
}

/* ---- requests ---- */

static bool header(const struct request *r, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    const char *end = r->head + r->head_len;
    for (const char *p = memchr(r->head, '\n', r->head_len); p && p + 1 < end;
         p = memchr(p + 1, '\n', (size_t)(end - p - 1))) {
        const char *line = p + 1;
        if ((size_t)(end - line) <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *v = line + n + 1;
        while (*v == ' ')
            v++;
        size_t len = strcspn(v, "\r\n");
        snprintf(out, cap, "%.*s", (int)len, v);
        return true;
    }
    return false;
}

/* Length of a chunked body in place at p; 0: not whole yet, -1: malformed. The decoded bytes move to the front. */
static int64_t dechunk(char *p, size_t n, size_t *out_len)
{
    size_t at = 0, len = 0;
    for (;;) {
        char *eol = memchr(p + at, '\n', n - at);
        if (!eol)
            return 0;
        char *stop;
        unsigned long long size = strtoull(p + at, &stop, 16);
        if (stop == p + at || size > BODY_MAX)
            return -1;
        at = (size_t)(eol - p) + 1;
        if (size == 0)
            break;
        if (n - at < size + 2)
            return 0;
        at += size + 2;
    }
    char *end = p + at;
    for (;;) { /* trailers, up to the blank line */
        char *eol = memchr(end, '\n', n - (size_t)(end - p));
        if (!eol)
            return 0;
        bool blank = eol - end <= 1;
        end = eol + 1;
        if (blank)
            break;
    }
    for (size_t from = 0;;) {
        char *eol = memchr(p + from, '\n', n - from);
        size_t size = eol ? (size_t)strtoull(p + from, NULL, 16) : 0;
        if (size == 0)
            break;
        from = (size_t)(eol - p) + 1;
        memmove(p + len, p + from, size);
        len += size;
        from += size + 2;
    }
    *out_len = len;
    return end - p;
}

/* 1: a whole request, 0: more input is needed, -1: malformed */
static int request_parse(struct conn *c, struct request *r)
{
    memset(r, 0, sizeof(*r));
    char *end = c->in_len ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
    if (!end)
        return c->in_len > HEAD_MAX ? -1 : 0;
    r->head = c->in;
    r->head_len = (size_t)(end - c->in) + 2;
    char minor[2] = "";
    if (sscanf(c->in, "%15s %511s HTTP/1.%1[01]", r->method, r->path, minor) != 3)
        return -1;
    char v[64];
    r->keep_alive = minor[0] == '1';
    if (header(r, "connection", v, sizeof(v)))
        r->keep_alive =
            strcasecmp(v, "close") != 0 && (minor[0] == '1' || strcasecmp(v, "keep-alive") == 0);
    (void)header(r, "x-request-id", r->id, sizeof(r->id)); /* stays empty */
    char *body = end + 4;
    size_t have = c->in_len - (size_t)(body - c->in);
    r->body = body;
    if (header(r, "transfer-encoding", v, sizeof(v))) {
        /* decoding moves bytes, so it happens only once all are there */
        int64_t taken = dechunk(body, have, &r->body_len);
        if (taken <= 0)
            return taken < 0 || have > BODY_MAX ? -1 : 0;
        r->total = (size_t)(body - c->in) + (size_t)taken;
        return 1;
    }
    if (header(r, "content-length", v, sizeof(v)))
        r->body_len = (size_t)strtoull(v, NULL, 10);
    if (r->body_len > BODY_MAX)
        return -1;
    r->total = (size_t)(body - c->in) + r->body_len;
    return have >= r->body_len;
}

/* ---- answers ---- */

static void answer(struct conn *c, const struct request *r, int status, const char *body,
                   size_t len, uint64_t fill)
{
    bool no_body = !strcmp(r->method, "HEAD") || status == 204 || status == 304;
    char length[48] = "";
    if (status != 204 && status != 304)
        snprintf(length, sizeof(length), "content-length: %llu\r\n",
                 (unsigned long long)(len + fill));
    c->out = must(realloc(c->out, len + 512));
    int n = snprintf(
        c->out, 512,
        "HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\nx-served-by: %.64s-%.64s\r\n%s%s\r\n",
        status, status < 400 ? "OK" : "Error", server_name, server_version, length,
        r->keep_alive ? "" : "connection: close\r\n");
    c->out_len = (size_t)n;
    if (!no_body && len) {
        memcpy(c->out + n, body, len);
        c->out_len += len;
    }
    c->fill = no_body ? 0 : fill;
    c->out_sent = 0;
    c->close_after = !r->keep_alive;
}

static const char *after(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 ? path + n : NULL;
}

static void delay(struct conn *c, int64_t ms)
{
    c->due_ms = now_ms() + (ms < 0 ? 0 : ms > 600000 ? 600000 : ms);
    c->next_delayed = delayed;
    delayed = c;
}

/* false: the connection is gone */
static bool request_serve(struct conn *c, struct request *r)
{
    char text[1024];
    const char *arg;
    r->path[strcspn(r->path, "?")] = 0;
    if (!strcmp(r->path, "/reset")) {
        conn_reset(c);
        return false;
    }
    if (!strcmp(r->path, "/headers")) {
        answer(c, r, 200, r->head, r->head_len, 0);
    } else if (!strcmp(r->path, "/echo")) {
        answer(c, r, 200, r->body, r->body_len, 0);
    } else if ((arg = after(r->path, "/bytes/"))) {
        answer(c, r, 200, NULL, 0, strtoull(arg, NULL, 10));
    } else if ((arg = after(r->path, "/status/"))) {
        long status = strtol(arg, NULL, 10);
        int n = snprintf(text, sizeof(text), "status %ld from %s %s\n", status, server_name,
                         server_version);
        answer(c, r, status >= 200 && status <= 599 ? (int)status : 400, text, (size_t)n, 0);
    } else {
        bool bad = !strcmp(r->path, "/flaky") && ++flaky % 2;
        int n = snprintf(text, sizeof(text), "%s %s %s\nrequest-id: %s\n", server_name,
                         server_version, bad ? "is flaky" : "says hello", r->id);
        answer(c, r, bad ? 503 : 200, text, (size_t)n, 0);
        if ((arg = after(r->path, "/delay/")))
            delay(c, strtol(arg, NULL, 10));
    }
    return true;
}

/* ---- the loop ---- */

static void want(struct conn *c, bool write)
{
    if (c->wants_write == write)
        return;
    c->wants_write = write;
    struct epoll_event e = { .events = write ? EPOLLOUT : EPOLLIN, .data.ptr = c };
    (void)epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e); /* the descriptor is registered */
}

/* 1: all is out, 0: wait for room, -1: the peer is gone */
static int flush(struct conn *c)
{
    while (c->out_sent < c->out_len || c->fill) {
        bool head = c->out_sent < c->out_len;
        size_t n = head                  ? c->out_len - c->out_sent
                   : c->fill < OUT_BLOCK ? (size_t)c->fill
                                         : OUT_BLOCK;
        ssize_t w = send(c->fd, head ? c->out + c->out_sent : block, n, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        if (head)
            c->out_sent += (size_t)w;
        else
            c->fill -= (uint64_t)w;
    }
    return 1;
}

static void
advance(struct conn *c) /* writes what is due, then serves what is buffered; may destroy c */
{
    for (;;) {
        if (c->due_ms)
            return;
        int done = flush(c);
        if (done < 0 || (done > 0 && c->close_after)) {
            conn_destroy(c);
            return;
        }
        want(c, !done);
        if (!done)
            return;
        struct request r;
        int whole = request_parse(c, &r);
        if (whole < 0) {
            memset(&r, 0, sizeof(r));
            answer(c, &r, 400, "malformed\n", 10, 0);
            continue;
        }
        if (!whole) {
            char v[64];
            if (r.head_len && !c->said_continue && header(&r, "expect", v, sizeof(v))) {
                c->said_continue = true;
                (void)send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25,
                           MSG_NOSIGNAL); /* a lost one costs time only */
            }
            return;
        }
        if (!request_serve(c, &r))
            return;
        c->said_continue = false;
        memmove(c->in, c->in + r.total, c->in_len - r.total);
        c->in_len -= r.total;
    }
}

static void readable(struct conn *c)
{
    if (c->in_len == c->in_cap) {
        c->in_cap = c->in_cap ? c->in_cap * 2 : 4096;
        c->in = must(realloc(c->in, c->in_cap + 1));
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        conn_destroy(c);
        return;
    }
    if (n > 0)
        c->in_len += (size_t)n;
    c->in[c->in_len] = 0;
    if (c->in_len > BODY_MAX + HEAD_MAX) {
        conn_destroy(c);
        return;
    }
    advance(c);
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4096))
        err(1, "%s:%d", host, port);
    return fd;
}

static void accept_all(int listener)
{
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): epoll holds the connection */
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
                         sizeof(one)); /* slower without, not wrong */
        struct conn *c = must(calloc(1, sizeof(*c)));
        c->fd = fd;
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e))
            conn_destroy(c);
    }
}

static int
send_delayed(void) /* returns the milliseconds until the next one, -1 when there is none */
{
    int64_t now = now_ms(), next = -1;
    for (struct conn **p = &delayed, *c; (c = *p);) {
        if (c->due_ms > now) {
            next = next < 0 || c->due_ms - now < next ? c->due_ms - now : next;
            p = &c->next_delayed;
            continue;
        }
        *p = c->next_delayed;
        c->due_ms = 0;
        advance(c); /* may put it into the list again */
        p = &delayed;
        next = -1;
    }
    return (int)next;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1";
    int port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port"))
            port = (int)strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--host"))
            host = argv[i + 1];
        else if (!strcmp(argv[i], "--name"))
            server_name = argv[i + 1];
        else if (!strcmp(argv[i], "--version"))
            server_version = argv[i + 1];
        else
            port = -1;
    }
    if (argc % 2 == 0 || port <= 0 || port > 65535) {
        fputs("usage: mizzen-sample-server --port N [--host ADDR] [--name TEXT] [--version TEXT]\n",
              stderr);
        return 2;
    }
    memset(block, 'x', sizeof(block));
    (void)signal(SIGPIPE, SIG_IGN); /* sends say so themselves */
    int listener = listen_on(host, port);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event add = { .events = EPOLLIN, .data.ptr = NULL }, ev[64];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &add)) {
        perror("epoll");
        return 1;
    }
    for (;;) {
        int n = epoll_wait(epoll, ev, 64, send_delayed());
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (ev[i].events & EPOLLOUT)
                advance(c);
            else
                readable(c);
        }
    }
}
