#include "server.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"
#include "message.h"
#include "text.h"

enum { OUT_BLOCK = 65536, HEAD_ROOM = 1024 };
enum state { READING, SERVING, HELD, DELAYED, GONE };

struct conn {
    struct source source;
    struct timer later;
    serve_fn *serve;
    enum state state;
    struct request request;
    char *in;
    size_t in_len, in_cap;
    char *out; /* head and a short body */
    size_t out_len, out_sent;
    uint64_t fill; /* bytes of 'x' still to send after `out` */
    bool close_after, said_continue;
};

struct place {
    struct source source;
    serve_fn *serve;
};

static const char *server_name = "sample", *server_version = "v1";
static char block[OUT_BLOCK];
static uint64_t answered[6];

void server_named(const char *name, const char *version)
{
    server_name = name;
    server_version = version;
}

uint64_t server_answered(unsigned class)
{
    return class < 6 ? answered[class] : 0;
}

static void conn_destroy(struct conn *c)
{
    timer_stop(&c->later);
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    loop_close(&c->source);
}

void reset(struct conn *c)
{
    struct linger l = { .l_onoff = 1, .l_linger = 0 };
    (void)setsockopt(c->source.fd, SOL_SOCKET, SO_LINGER, &l,
                     sizeof(l)); /* without it, a FIN: still the end */
    c->state = GONE;
}

/* ---- requests ---- */

bool request_field(const struct request *r, const char *name, char *out, size_t cap)
{
    return message_field(r->head, r->head_len, name, out, cap);
}

/* 1: a whole request, 0: more input is needed, -1: malformed */
static int request_parse(struct conn *c, struct request *r)
{
    memset(r, 0, sizeof(*r));
    r->query = "";
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
    if (request_field(r, "connection", v, sizeof(v)))
        r->keep_alive =
            strcasecmp(v, "close") != 0 && (minor[0] == '1' || strcasecmp(v, "keep-alive") == 0);
    (void)request_field(r, "x-request-id", r->id, sizeof(r->id)); /* stays empty */
    char *body = end + 4;
    size_t have = c->in_len - (size_t)(body - c->in);
    r->body = body;
    if (request_field(r, "transfer-encoding", v, sizeof(v))) {
        /* decoding moves bytes, so it happens only once all are there */
        int64_t taken = message_dechunk(body, have, &r->body_len);
        if (taken <= 0)
            return taken < 0 || have > BODY_MAX ? -1 : 0;
        r->total = (size_t)(body - c->in) + (size_t)taken;
        return 1;
    }
    if (request_field(r, "content-length", v, sizeof(v)))
        r->body_len = (size_t)strtoull(v, NULL, 10);
    if (r->body_len > BODY_MAX)
        return -1;
    r->total = (size_t)(body - c->in) + r->body_len;
    return have >= r->body_len;
}

/* ---- answers ---- */

static void advance(struct conn *c);

static void compose(struct conn *c, const struct answer *a)
{
    const struct request *r = &c->request;
    bool bodyless = a->status == 204 || a->status == 304;
    bool no_body = bodyless || !strcmp(r->method, "HEAD");
    size_t fields = a->fields ? strlen(a->fields) : 0, room = HEAD_ROOM + fields;
    char length[48] = "";
    if (!bodyless)
        snprintf(length, sizeof(length), "content-length: %llu\r\n",
                 (unsigned long long)(a->len + a->fill));
    c->out = must(realloc(c->out, a->len + room));
    int n =
        snprintf(c->out, room,
                 "HTTP/1.1 %d %s\r\ncontent-type: %.128s\r\nx-served-by: %.64s-%.64s\r\n%s%s%s\r\n",
                 a->status, a->status < 400 ? "OK" : "Error", a->type ? a->type : "text/plain",
                 server_name, server_version, fields ? a->fields : "", length,
                 r->keep_alive ? "" : "connection: close\r\n");
    c->out_len = (size_t)n;
    if (!no_body && a->len) {
        memcpy(c->out + n, a->body, a->len);
        c->out_len += a->len;
    }
    c->fill = no_body ? 0 : a->fill;
    c->out_sent = 0;
    c->close_after = !r->keep_alive;
    c->said_continue = false;
    memmove(c->in, c->in + r->total, c->in_len - r->total);
    c->in_len -= r->total;
    answered[(unsigned)a->status / 100 % 6]++;
}

void answer(struct conn *c, const struct answer *a)
{
    const enum state before = c->state;
    if (before == GONE) { /* while others were asked */
        conn_destroy(c);
        return;
    }
    compose(c, a);
    c->state = READING;
    if (before == HELD)
        advance(c);
}

void answer_text(struct conn *c, int status, const char *text)
{
    answer(c, &(struct answer){ .status = status, .body = text, .len = strlen(text) });
}

static void is_due(struct timer *t)
{
    struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, later));
    c->state = READING;
    advance(c);
}

void answer_later(struct conn *c, const struct answer *a, int64_t ms)
{
    compose(c, a);
    c->state = DELAYED;
    timer_start(&c->later, ms > 600000 ? 600000 : ms, is_due);
}

void hold(struct conn *c)
{
    c->state = HELD;
    loop_want(&c->source, 0); /* the request stays where it is; only the end is told */
}

/* ---- the connection ---- */

/* 1: all is out, 0: wait for room, -1: the peer is gone */
static int flush(struct conn *c)
{
    while (c->out_sent < c->out_len || c->fill) {
        bool head = c->out_sent < c->out_len;
        size_t n = head                  ? c->out_len - c->out_sent
                   : c->fill < OUT_BLOCK ? (size_t)c->fill
                                         : OUT_BLOCK;
        ssize_t w = send(c->source.fd, head ? c->out + c->out_sent : block, n, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        if (head)
            c->out_sent += (size_t)w;
        else
            c->fill -= (uint64_t)w;
    }
    return 1;
}

static void refuse(struct conn *c)
{
    memset(&c->request, 0, sizeof(c->request));
    c->request.total = c->in_len;
    answer_text(c, 400, "malformed\n");
}

/* Writes what is due, then serves what is buffered; may destroy c. */
static void advance(struct conn *c)
{
    while (c->state == READING) {
        int done = flush(c);
        if (done < 0 || (done > 0 && c->close_after)) {
            conn_destroy(c);
            return;
        }
        loop_want(&c->source, done ? EPOLLIN : EPOLLOUT);
        if (!done)
            return;
        struct request *r = &c->request;
        int whole = request_parse(c, r);
        if (whole < 0) {
            refuse(c);
            continue;
        }
        if (!whole) {
            char v[64];
            if (r->head_len && !c->said_continue && request_field(r, "expect", v, sizeof(v))) {
                c->said_continue = true;
                (void)send(c->source.fd, "HTTP/1.1 100 Continue\r\n\r\n", 25,
                           MSG_NOSIGNAL); /* a lost one costs time only */
            }
            return;
        }
        char *query = strchr(r->path, '?');
        if (query) {
            *query = 0;
            r->query = query + 1;
        }
        c->state = SERVING;
        c->serve(c, r);
        if (c->state == GONE)
            conn_destroy(c);
    }
}

static void readable(struct conn *c)
{
    if (c->in_len == c->in_cap) {
        c->in_cap = c->in_cap ? c->in_cap * 2 : 4096;
        c->in = must(realloc(c->in, c->in_cap + 1));
    }
    ssize_t n = recv(c->source.fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
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

static void conn_ready(struct source *s, uint32_t events)
{
    struct conn *c = (struct conn *)s;
    if (c->state == HELD) { /* only an end is told */
        c->state = GONE;
        close(s->fd);
        s->fd = -1;
    } else if (c->state == DELAYED) {
        if (events & (EPOLLHUP | EPOLLERR))
            conn_destroy(c);
        else
            loop_want(s, 0); /* what comes meanwhile waits in the kernel */
    } else if (events & EPOLLOUT) {
        advance(c);
    } else {
        readable(c);
    }
}

/* ---- where it listens ---- */

static void accept_all(struct source *s, uint32_t events)
{
    (void)events;
    const struct place *p = (const struct place *)s;
    for (int fd; (fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
                         sizeof(one)); /* slower without, not wrong */
        struct conn *c = must(calloc(1, sizeof(*c)));
        c->source = (struct source){ .fd = fd, .ready = conn_ready };
        c->serve = p->serve;
        if (!loop_add(&c->source, EPOLLIN))
            conn_destroy(c);
    }
}

static int listen_on(int family, const char *host, int port)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } a = { .sa.sa_family = (sa_family_t)family };
    void *ip = family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr;
    /* The kernel would take up to 4 MB of an answer for each reader that has stopped. */
    const int send = 256 << 10;
    int zero = 0, one = 1, fd;
    if (family == AF_INET)
        a.in.sin_port = htons((uint16_t)port);
    else
        a.in6.sin6_port = htons((uint16_t)port);
    if (inet_pton(family, host, ip) != 1 ||
        (fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
        return -1;
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send)); /* and of what it accepts */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        bind(fd, &a.sa, family == AF_INET ? sizeof(a.in) : sizeof(a.in6)) == 0 &&
        listen(fd, 4096) == 0)
        return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

void server_listen(const char *host, int port, serve_fn *serve)
{
    memset(block, 'x', sizeof(block));
    int fd = host ? listen_on(strchr(host, ':') ? AF_INET6 : AF_INET, host, port)
                  : listen_on(AF_INET6, "::", port);
    if (fd < 0 && !host) /* a kernel without IPv6 */
        fd = listen_on(AF_INET, "0.0.0.0", port);
    struct place *p = must(calloc(1, sizeof(*p)));
    *p = (struct place){ .source = { .fd = fd, .ready = accept_all }, .serve = serve };
    if (fd < 0 || !loop_add(&p->source, EPOLLIN))
        err(1, "%s:%d", host ? host : "*", port);
}
