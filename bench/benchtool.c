/* The benchmark's backend and its small clients, in one file.
 *   benchtool http PORT                     HTTP/1.1 backend: /small (128 B), /64k (65536 B); bodies are read and dropped
 *   benchtool tcp PORT                      first byte of a connection says what it does: 'E' echo, 'D' + 8 bytes
 *                                           (big endian): send that many octets, 'S': read to the end
 *   benchtool rate PORT PATH QPS CONNS SECS open loop at a fixed rate; latency counts from the due time
 *   benchtool closed PORT PATH CONNS SECS   closed loop, one request a connection at a time
 *   benchtool pingpong PORT CONNS SECS      1-octet echo through tcp
 *   benchtool bulk PORT CONNS OCTETS        download OCTETS on each connection
 *   benchtool idle PORT PATH N              N connections, one request on each, held until stdin ends
 *   benchtool idle2 PORT PATH N             the same over HTTP/2 with prior knowledge
 * Clients print one JSON object. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void die(const char *m)
{
    perror(m);
    exit(1);
}
static void nonblock(int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}
static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&a, sizeof a) || listen(fd, 4096))
        die("bind");
    return fd;
}
static int connect_to(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&a, sizeof a))
        die("connect");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* ---------- HTTP message framing, enough for both sides ---------- */
struct msg { /* parser over a growing buffer */
    char buf[70000];
    size_t len;
    int64_t body; /* octets of body still to come; -1: head not seen; -2: chunked */
    char tail[5]; /* last 5 octets of a chunked body */
};
static const char *find_hdr(const char *h, const char *end, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = h; p < end;) {
        const char *e = memmem(p, end - p, "\r\n", 2);
        if (!e)
            break;
        if ((size_t)(e - p) > n && p[n] == ':' && !strncasecmp(p, name, n)) {
            p += n + 1;
            while (*p == ' ')
                p++;
            return p;
        }
        p = e + 2;
    }
    return NULL;
}
/* returns 1 when a whole message has been consumed from m; *path gets its first 64 octets */
static int msg_step(struct msg *m, char first[64])
{
    if (m->body == -1) {
        char *e = memmem(m->buf, m->len, "\r\n\r\n", 4);
        if (!e)
            return 0;
        size_t hl = e + 4 - m->buf, f = hl < 63 ? hl : 63;
        memcpy(first, m->buf, f);
        first[f] = 0;
        const char *v = find_hdr(m->buf, e + 2, "content-length");
        const char *t = find_hdr(m->buf, e + 2, "transfer-encoding");
        m->body = t && !strncasecmp(t, "chunked", 7) ? -2 : v ? strtoll(v, NULL, 10) : 0;
        memset(m->tail, 0, 5);
        memmove(m->buf, m->buf + hl, m->len - hl);
        m->len -= hl;
    }
    if (m->body == -2) {
        char *e = NULL;
        if (m->len >= 5)
            e = memmem(m->buf, m->len, "0\r\n\r\n", 5);
        if (!e) {
            if (m->len > 4) {
                memmove(m->buf, m->buf + m->len - 4, 4);
                m->len = 4;
            }
            return 0;
        }
        size_t u = e + 5 - m->buf;
        memmove(m->buf, m->buf + u, m->len - u);
        m->len -= u;
        m->body = -1;
        return 1;
    }
    size_t u = (int64_t)m->len < m->body ? m->len : (size_t)m->body;
    memmove(m->buf, m->buf + u, m->len - u);
    m->len -= u;
    m->body -= u;
    if (m->body)
        return 0;
    m->body = -1;
    return 1;
}

/* ---------- HTTP backend ---------- */
struct conn {
    int fd;
    struct msg in;
    const char *out;
    size_t outlen;
    int owed
        [2]; /* responses waiting: kind queue is not needed, the clients never pipeline more than we hold */
    int mode; /* tcp: 0 unknown, 'E','D','S' */
    uint64_t left;
    int want;
};
static char *resp[2];
static size_t resplen[2];

static void set_want(int ep, struct conn *c, int w)
{
    if (c->want == w)
        return;
    struct epoll_event ev = { .events = w, .data.ptr = c };
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    c->want = w;
}
static void drop(struct conn *c)
{
    close(c->fd);
    free(c);
}

static int http_pump(int ep, struct conn *c)
{ /* 0: closed */
    for (;;) {
        if (c->outlen) {
            ssize_t n = write(c->fd, c->out, c->outlen);
            if (n < 0) {
                if (errno == EAGAIN) {
                    set_want(ep, c, EPOLLOUT);
                    return 1;
                }
                drop(c);
                return 0;
            }
            c->out += n;
            c->outlen -= n;
            if (c->outlen) {
                set_want(ep, c, EPOLLOUT);
                return 1;
            }
        }
        char first[64];
        if (c->in.len || c->in.body == 0) {
            if (msg_step(&c->in, first)) {
                int k = c->owed[1];
                if (c->in.body == -1 && c->owed[0] == 0)
                    k = strstr(first, "/64k") ? 1 : 0;
                c->owed[0] = 0;
                c->out = resp[k];
                c->outlen = resplen[k];
                continue;
            }
            if (c->in.body != -1 && c->owed[0] == 0) {
                c->owed[0] = 1;
                c->owed[1] = strstr(first, "/64k") ? 1 : 0;
            }
        }
        set_want(ep, c, EPOLLIN);
        ssize_t n = read(c->fd, c->in.buf + c->in.len, sizeof c->in.buf - c->in.len);
        if (n < 0 && errno == EAGAIN)
            return 1;
        if (n <= 0) {
            drop(c);
            return 0;
        }
        c->in.len += n;
    }
}
static char zeros[262144];
static void tcp_pump(int ep, struct conn *c)
{
    for (int spin = 0; spin < 16; spin++) {
        if (c->mode == 'D' && c->left) {
            size_t w = c->left < sizeof zeros ? c->left : sizeof zeros;
            ssize_t n = write(c->fd, zeros, w);
            if (n < 0) {
                if (errno == EAGAIN) {
                    set_want(ep, c, EPOLLOUT);
                    return;
                }
                drop(c);
                return;
            }
            c->left -= n;
            continue;
        }
        set_want(ep, c, EPOLLIN);
        char b[65536];
        ssize_t n = read(c->fd, b, c->mode ? sizeof b : 1);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            drop(c);
            return;
        }
        if (!c->mode) {
            c->mode = b[0];
            continue;
        }
        if (c->mode == 'E') {
            if (write(c->fd, b, n) != n) {
                drop(c);
                return;
            }
        } else if (c->mode == 'D') {
            for (ssize_t i = 0; i < n; i++) {
                c->in.buf[c->in.len++] = b[i];
                if (c->in.len == 8) {
                    for (int k = 0; k < 8; k++)
                        c->left = c->left << 8 | (uint8_t)c->in.buf[k];
                    c->in.len = 0;
                }
            }
        }
    }
    if (c->mode == 'D' && c->left)
        set_want(ep, c, EPOLLOUT);
}
static void serve(int port, int http)
{
    int ep = epoll_create1(0), ls = listen_on(port);
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL }, evs[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
    size_t bodies[2] = { 128, 65536 };
    for (int k = 0; k < 2; k++) {
        resp[k] = malloc(bodies[k] + 256);
        int h =
            snprintf(resp[k], bodies[k] + 256,
                     "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n",
                     bodies[k]);
        memset(resp[k] + h, 'a', bodies[k]);
        resplen[k] = h + bodies[k];
    }
    for (;;) {
        int n = epoll_wait(ep, evs, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = evs[i].data.ptr;
            if (!c) {
                int fd;
                while ((fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    nonblock(fd);
                    c = malloc(sizeof *c);
                    memset(c, 0, offsetof(struct conn, in));
                    c->fd = fd;
                    c->in.len = 0;
                    c->in.body = -1;
                    c->outlen = 0;
                    c->owed[0] = c->owed[1] = 0;
                    c->mode = 0;
                    c->left = 0;
                    c->want = EPOLLIN;
                    ev.events = EPOLLIN;
                    ev.data.ptr = c;
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
                }
            } else if (http)
                http_pump(ep, c);
            else
                tcp_pump(ep, c);
        }
    }
}

/* ---------- clients ---------- */
static int cmp(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}
static void report(int64_t *lat, size_t n, double secs, size_t errs, size_t unsent)
{
    qsort(lat, n, sizeof *lat, cmp);
#define Q(f) (n ? lat[(size_t)((n - 1) * (f))] / 1e3 : 0.0)
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += lat[i] / 1e3;
    printf("{\"n\":%zu,\"errors\":%zu,\"unsent\":%zu,\"secs\":%.4f,\"mean_us\":%.2f,\"p50_us\":%."
           "2f,\"p90_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f}\n",
           n, errs, unsent, secs, n ? sum / n : 0, Q(.5), Q(.9), Q(.99), Q(.999), Q(1.0));
}
struct cl {
    int fd, busy;
    int64_t due;
    struct msg in;
};

static void load(int port, const char *path, double qps, int conns, double secs)
{
    struct cl **c = calloc(conns, sizeof *c);
    int ep = epoll_create1(0), nfree = 0, *freel = malloc(conns * sizeof *freel);
    char req[512];
    int rl = snprintf(
        req, sizeof req,
        "GET %s HTTP/1.1\r\nhost: bench.test\r\nuser-agent: benchtool\r\naccept: */*\r\n\r\n",
        path);
    for (int i = 0; i < conns; i++) {
        c[i] = calloc(1, sizeof **c);
        c[i]->fd = connect_to(port);
        c[i]->in.body = -1;
        nonblock(c[i]->fd);
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };
        epoll_ctl(ep, EPOLL_CTL_ADD, c[i]->fd, &ev);
        freel[nfree++] = i;
    }
    size_t cap = qps > 0 ? (size_t)(qps * secs) + 16 : 8000000, n = 0, errs = 0, sent = 0,
           total = qps > 0 ? (size_t)(qps * secs) : (size_t)-1;
    int64_t *lat = malloc(cap * sizeof *lat), t0 = now_ns() + 1000000,
            gap = qps > 0 ? (int64_t)(1e9 / qps) : 0;
    int64_t stop = t0 + (int64_t)(secs * 1e9), giveup = stop + 5000000000LL;
    int out = 0;
    struct epoll_event evs[256];
    for (;;) {
        int64_t t = now_ns();
        if (t > giveup)
            break;
        while (nfree && sent < total && (qps > 0 ? t0 + (int64_t)sent * gap <= t : t < stop)) {
            int i = freel[--nfree];
            c[i]->due = qps > 0 ? t0 + (int64_t)sent * gap : now_ns();
            sent++;
            if (write(c[i]->fd, req, rl) != rl) {
                errs++;
                freel[nfree++] = i;
                if (errs > 1000)
                    goto end;
                continue;
            }
            out++;
        }
        if ((qps > 0 ? sent >= total : t >= stop) && !out)
            break;
        struct timespec ts = { 1, 0 }, *tp = &ts;
        if (qps > 0 && sent < total && nfree) {
            int64_t d = t0 + (int64_t)sent * gap - now_ns();
            if (d < 0)
                d = 0;
            ts.tv_sec = 0;
            ts.tv_nsec = d > 999999999 ? 999999999 : d;
        }
        int k = epoll_pwait2(ep, evs, 256, tp, NULL);
        for (int e = 0; e < k; e++) {
            int i = evs[e].data.u32;
            struct cl *q = c[i];
            ssize_t r = read(q->fd, q->in.buf + q->in.len, sizeof q->in.buf - q->in.len);
            if (r < 0 && errno == EAGAIN)
                continue;
            if (r <= 0) {
                errs++;
                out--;
                close(q->fd);
                continue;
            }
            q->in.len += r;
            char first[64] = "";
            int fresh = q->in.body == -1;
            if (fresh && q->in.len >= 12 && memcmp(q->in.buf + 9, "200", 3))
                errs++;
            if (msg_step(&q->in, first)) {
                if (n < cap)
                    lat[n++] = now_ns() - q->due;
                freel[nfree++] = i;
                out--;
            }
        }
    }
end:
    report(lat, n, (now_ns() - t0) / 1e9, errs, qps > 0 ? total - sent : 0);
}
static void pingpong(int port, int conns, double secs)
{
    struct cl *c = calloc(conns, sizeof *c);
    int ep = epoll_create1(0);
    for (int i = 0; i < conns; i++) {
        c[i].fd = connect_to(port);
        if (write(c[i].fd, "E", 1) != 1)
            die("write");
        nonblock(c[i].fd);
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };
        epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev);
    }
    usleep(100000);
    int64_t t0 = now_ns(), stop = t0 + (int64_t)(secs * 1e9), *lat = malloc(8000000 * sizeof *lat);
    size_t n = 0, errs = 0;
    for (int i = 0; i < conns; i++) {
        c[i].due = now_ns();
        if (write(c[i].fd, "x", 1) != 1)
            errs++;
    }
    int live = conns;
    struct epoll_event evs[256];
    while (live > 0 && now_ns() < stop + 3000000000LL) {
        int k = epoll_wait(ep, evs, 256, 1000);
        for (int e = 0; e < k; e++) {
            struct cl *q = &c[evs[e].data.u32];
            char b[64];
            ssize_t r = read(q->fd, b, sizeof b);
            if (r <= 0) {
                if (errno == EAGAIN)
                    continue;
                errs++;
                live--;
                close(q->fd);
                continue;
            }
            int64_t t = now_ns();
            if (n < 8000000)
                lat[n++] = t - q->due;
            if (t >= stop) {
                live--;
                continue;
            }
            q->due = t;
            if (write(q->fd, "x", 1) != 1) {
                errs++;
                live--;
            }
        }
    }
    report(lat, n, (now_ns() - t0) / 1e9, errs, 0);
}
static void bulk(int port, int conns, uint64_t octets)
{
    int ep = epoll_create1(0), live = conns;
    uint64_t *left = calloc(conns, sizeof *left), got = 0;
    int *fd = calloc(conns, sizeof *fd);
    char *b = malloc(1 << 18);
    int64_t t0 = now_ns();
    for (int i = 0; i < conns; i++) {
        fd[i] = connect_to(port);
        char h[9] = "D";
        for (int k = 0; k < 8; k++)
            h[1 + k] = octets >> (56 - 8 * k);
        if (write(fd[i], h, 9) != 9)
            die("write");
        left[i] = octets;
        nonblock(fd[i]);
        struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };
        epoll_ctl(ep, EPOLL_CTL_ADD, fd[i], &ev);
    }
    struct epoll_event evs[64];
    size_t errs = 0;
    while (live > 0 && now_ns() - t0 < 60000000000LL) {
        int k = epoll_wait(ep, evs, 64, 1000);
        for (int e = 0; e < k; e++) {
            int i = evs[e].data.u32;
            ssize_t r = read(fd[i], b, 1 << 18);
            if (r < 0 && errno == EAGAIN)
                continue;
            if (r <= 0) {
                errs++;
                live--;
                close(fd[i]);
                continue;
            }
            got += r;
            left[i] -= r;
            if (!left[i]) {
                live--;
                close(fd[i]);
            }
        }
    }
    double s = (now_ns() - t0) / 1e9;
    printf("{\"octets\":%llu,\"errors\":%zu,\"secs\":%.4f,\"gib_s\":%.4f}\n",
           (unsigned long long)got, errs + live, s, got / s / 1073741824.0);
}
static void hold(int ok)
{
    printf("{\"held\":%d}\n", ok);
    fflush(stdout);
    char b[16];
    while (read(0, b, sizeof b) > 0) {
    }
}
static size_t frame(unsigned char *at, unsigned type, unsigned flags, unsigned stream,
                    const void *p, size_t n)
{
    const unsigned char head[9] = { 0, n >> 8, n, type, flags, 0, 0, 0, stream };
    memcpy(at, head, 9);
    if (n)
        memcpy(at + 9, p, n);
    return 9 + n;
}
/* Reads frames until the server's SETTINGS and the end of stream 1 were there; acknowledges the former. */
static int answered(int fd)
{
    static unsigned char buf[70000];
    unsigned char ack[9];
    size_t len = 0;
    for (int settings = 0, end = 0; !settings || !end;) {
        ssize_t r = read(fd, buf + len, sizeof buf - len);
        if (r <= 0)
            return 0;
        len += r;
        size_t at = 0;
        for (size_t n; at + 9 <= len; at += 9 + n) {
            const unsigned char *h = buf + at;
            n = (size_t)h[0] << 16 | h[1] << 8 | h[2];
            if (at + 9 + n > len)
                break;
            end |= h[8] == 1 && h[3] <= 1 && (h[4] & 1);
            if (h[3] == 4 && !(h[4] & 1)) {
                settings = 1;
                if (write(fd, ack, frame(ack, 4, 1, 0, NULL, 0)) != 9)
                    return 0;
            }
        }
        memmove(buf, buf + at, len - at);
        len -= at;
    }
    return 1;
}
static void idle2(int port, const char *path, int n)
{
    static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    unsigned char out[512], head[256] = "\x82\x86\x41\x0a"
                                        "bench.test"
                                        "\x44";
    size_t k = 15, len = strlen(path), m = sizeof magic - 1;
    int ok = 0;
    if (len > 100)
        exit(1);
    head[k++] = len;
    memcpy(head + k, path, len);
    k += len;
    memcpy(out, magic, m);
    m += frame(out + m, 4, 0, 0, NULL, 0);
    m += frame(out + m, 1, 5, 1, head, k);
    for (int i = 0; i < n; i++) {
        int fd = connect_to(port);
        if (write(fd, out, m) != (ssize_t)m)
            break;
        ok += answered(fd);
    }
    hold(ok);
}
static void idle(int port, const char *path, int n)
{
    struct cl *c = calloc(1, sizeof *c);
    char req[512];
    int rl = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nhost: bench.test\r\n\r\n", path), ok = 0;
    for (int i = 0; i < n; i++) {
        int fd = connect_to(port);
        if (write(fd, req, rl) != rl)
            break;
        c->in.len = 0;
        c->in.body = -1;
        char first[64] = "";
        for (;;) {
            ssize_t r = read(fd, c->in.buf + c->in.len, sizeof c->in.buf - c->in.len);
            if (r <= 0)
                break;
            c->in.len += r;
            if (msg_step(&c->in, first)) {
                ok++;
                break;
            }
        }
    }
    hold(ok);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    const char *m = argc > 2 ? argv[1] : "";
    int port = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    if (!strcmp(m, "http"))
        serve(port, 1);
    else if (!strcmp(m, "tcp"))
        serve(port, 0);
    else if (!strcmp(m, "rate") && argc > 6)
        load(port, argv[3], strtod(argv[4], NULL), (int)strtol(argv[5], NULL, 10),
             strtod(argv[6], NULL));
    else if (!strcmp(m, "closed") && argc > 5)
        load(port, argv[3], 0, (int)strtol(argv[4], NULL, 10), strtod(argv[5], NULL));
    else if (!strcmp(m, "pingpong") && argc > 4)
        pingpong(port, (int)strtol(argv[3], NULL, 10), strtod(argv[4], NULL));
    else if (!strcmp(m, "bulk") && argc > 4)
        bulk(port, (int)strtol(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    else if (!strcmp(m, "idle") && argc > 4)
        idle(port, argv[3], (int)strtol(argv[4], NULL, 10));
    else if (!strcmp(m, "idle2") && argc > 4)
        idle2(port, argv[3], (int)strtol(argv[4], NULL, 10));
    else {
        fprintf(stderr, "usage: see the top of benchtool.c\n");
        return 2;
    }
    return 0;
}
