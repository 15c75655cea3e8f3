#include "client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
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

enum { KEPT_MAX = 256, NAMES_MAX = 16, NAME_MS = 5000, PLACES_MAX = 4 };

struct link { /* a connection; with a call, or kept for the next one */
    struct source source;
    struct call *call;
    char place[280]; /* host:port */
    char *in;
    size_t in_len, in_cap, sent;
    bool connected, used;
    unsigned nth; /* of the addresses of its name */
    struct link *next_kept;
};

struct call {
    struct timer timer;
    struct link *link;
    call_fn *done;
    void *arg;
    char *out, *host;
    size_t out_len;
    int port;
    unsigned tried; /* addresses of the name that nobody answers at */
    int64_t began_us;
    const char *error;
};

static struct name {
    char host[256];
    struct sockaddr_storage ips[PLACES_MAX];
    socklen_t lens[PLACES_MAX];
    unsigned n, good; /* good: where the last connection was made, begun with next time */
    int64_t until_ms;
} names[NAMES_MAX];

static struct link *kept;
static unsigned n_kept;

/* ---- names ---- */

static const char *look_up(struct name *n, const char *host)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found;
    (void)setenv("RES_OPTIONS", "timeout:1 attempts:2", 0); /* only then may it take long */
    const int why = getaddrinfo(host, NULL, &hints, &found);
    if (why != 0)
        return gai_strerror(why);
    if (strcmp(n->host, host) != 0)
        n->good = 0;
    snprintf(n->host, sizeof(n->host), "%s", host);
    n->n = 0;
    for (const struct addrinfo *a = found; a && n->n < PLACES_MAX; a = a->ai_next) {
        memcpy(&n->ips[n->n], a->ai_addr, a->ai_addrlen);
        n->lens[n->n++] = a->ai_addrlen;
    }
    n->until_ms = now_ms() + NAME_MS;
    freeaddrinfo(found);
    return NULL;
}

/* NULL with *why. */
static struct name *resolve(const char *host, const char **why)
{
    struct name *n = &names[0];
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (!strcmp(names[i].host, host)) {
            n = &names[i];
            break;
        }
        if (names[i].until_ms < n->until_ms)
            n = &names[i]; /* the oldest makes room */
    }
    if (!strcmp(n->host, host) && n->until_ms > now_ms())
        return n;
    *why = look_up(n, host);
    return *why ? NULL : n;
}

/* ---- connections ---- */

static void link_destroy(struct link *l)
{
    for (struct link **p = &kept; *p; p = &(*p)->next_kept) {
        if (*p == l) {
            *p = l->next_kept;
            n_kept--;
            break;
        }
    }
    free(l->in);
    l->in = NULL;
    loop_close(&l->source);
}

static void finish(struct call *c, const struct call_reply *r)
{
    struct call_reply with = *r;
    with.us = now_us() - c->began_us;
    timer_stop(&c->timer);
    c->done(c->arg, &with);
    free(c->out);
    free(c->host);
    free(c);
}

static void fail(struct call *c, const char *why)
{
    if (c->link)
        link_destroy(c->link);
    c->link = NULL;
    finish(c, &(struct call_reply){ .error = why });
}

static const char *start(struct call *c);

/* Is there another address of the name to try? "localhost" is two, and not everybody listens at both. */
static bool other_place(struct call *c)
{
    const char *why;
    const struct name *n = resolve(c->host, &why);
    return n && ++c->tried < n->n;
}

static void broken(struct link *l, const char *why)
{
    struct call *c = l->call;
    const bool again =
        (l->used && l->in_len == 0) || /* it ended before it was asked, most likely */
        (c && !l->connected && other_place(c));
    link_destroy(l);
    if (!c)
        return;
    c->link = NULL;
    if (again)
        why = start(c);
    if (why)
        fail(c, why);
}

static void send_request(struct link *l)
{
    const struct call *c = l->call;
    while (l->sent < c->out_len) {
        const ssize_t n = send(l->source.fd, c->out + l->sent, c->out_len - l->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            loop_want(&l->source, EPOLLOUT);
            return;
        }
        if (n < 0) {
            broken(l, strerrordesc_np(errno));
            return;
        }
        l->sent += (size_t)n;
    }
    loop_want(&l->source, EPOLLIN);
}

/* ---- answers ---- */

/* 1: whole, 0: more to come, -1: malformed. @closed: the peer has ended, so what came is all. */
static int parse(struct link *l, bool closed, struct call_reply *r, bool *keep)
{
    char v[64], *end = l->in_len ? memmem(l->in, l->in_len, "\r\n\r\n", 4) : NULL;
    int minor = 0;
    if (!end)
        return l->in_len > HEAD_MAX ? -1 : 0;
    if (sscanf(l->in, "HTTP/1.%1d %3d", &minor, &r->status) != 2)
        return -1;
    size_t head = (size_t)(end - l->in) + 4, have = l->in_len - head;
    if (r->status < 200) { /* an interim one */
        memmove(l->in, l->in + head, have + 1);
        l->in_len = have;
        return parse(l, closed, r, keep);
    }
    r->head = l->in;
    r->head_len = head - 2;
    r->body = l->in + head;
    *keep = minor == 1 && !closed;
    if (message_field(r->head, r->head_len, "connection", v, sizeof(v)) && !strcasecmp(v, "close"))
        *keep = false;
    if (message_field(r->head, r->head_len, "transfer-encoding", v, sizeof(v))) {
        const int64_t taken = message_dechunk(l->in + head, have, &r->body_len);
        return taken > 0 ? 1 : (int)taken;
    }
    if (message_field(r->head, r->head_len, "content-length", v, sizeof(v))) {
        r->body_len = (size_t)strtoull(v, NULL, 10);
        return have >= r->body_len;
    }
    r->body_len = have;
    *keep = false;
    return r->status == 204 || r->status == 304 || closed;
}

static void keep_or_end(struct link *l, bool keep)
{
    l->call = NULL;
    l->in_len = 0;
    l->used = true;
    if (!keep || n_kept >= KEPT_MAX) {
        link_destroy(l);
        return;
    }
    l->next_kept = kept;
    kept = l;
    n_kept++;
}

static void take_answer(struct link *l, bool closed)
{
    struct call_reply r = { 0 };
    struct call *c = l->call;
    bool keep = false;
    const int whole = parse(l, closed, &r, &keep);
    if (whole < 0 || (closed && !whole)) {
        broken(l, whole < 0 ? "malformed answer" : "connection closed");
        return;
    }
    if (!whole)
        return;
    char *answer = l->in; /* the connection may serve another call while @done looks at it */
    l->in = NULL;
    l->in_cap = 0;
    c->link = NULL;
    keep_or_end(l, keep);
    finish(c, &r);
    free(answer);
}

static void readable(struct link *l)
{
    if (l->in_cap - l->in_len < 2) {
        l->in_cap = l->in_cap ? l->in_cap * 2 : 4096;
        l->in = must(realloc(l->in, l->in_cap));
    }
    const ssize_t n = recv(l->source.fd, l->in + l->in_len, l->in_cap - l->in_len - 1, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0 || !l->call) { /* a kept one that ends, or says what nobody asked */
        broken(l, strerrordesc_np(errno));
        return;
    }
    l->in_len += (size_t)n;
    l->in[l->in_len] = 0;
    if (l->in_len > BODY_MAX + HEAD_MAX)
        broken(l, "answer too long");
    else
        take_answer(l, n == 0);
}

static void link_ready(struct source *s, uint32_t events)
{
    struct link *l = (struct link *)s;
    if (!l->connected) {
        int why = 0;
        socklen_t len = sizeof(why);
        (void)getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &why, &len);
        if (why != 0) {
            broken(l, strerrordesc_np(why));
            return;
        }
        l->connected = true;
        struct name *n = resolve(l->call->host, &(const char *){ NULL });
        if (n)
            n->good = l->nth;
    }
    if (l->call && l->sent < l->call->out_len)
        send_request(l);
    else if (events)
        readable(l);
}

static struct link *kept_to(const char *place)
{
    for (struct link **p = &kept; *p; p = &(*p)->next_kept) {
        struct link *l = *p;
        if (!strcmp(l->place, place)) {
            *p = l->next_kept;
            n_kept--;
            return l;
        }
    }
    return NULL;
}

static const char *connect_new(struct call *c, const char *place)
{
    const char *why = NULL;
    const struct name *n = resolve(c->host, &why);
    if (!n)
        return why;
    const unsigned nth = (n->good + c->tried) % n->n;
    struct sockaddr_storage to = n->ips[nth];
    if (to.ss_family == AF_INET)
        ((struct sockaddr_in *)&to)->sin_port = htons((uint16_t)c->port);
    else
        ((struct sockaddr_in6 *)&to)->sin6_port = htons((uint16_t)c->port);
    int one = 1, fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return strerrordesc_np(errno);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* slower without */
    if (connect(fd, (struct sockaddr *)&to, n->lens[nth]) != 0 && errno != EINPROGRESS) {
        why = strerrordesc_np(errno);
        close(fd);
        return other_place(c) ? connect_new(c, place) : why;
    }
    struct link *l = must(calloc(1, sizeof(*l)));
    l->source = (struct source){ .fd = fd, .ready = link_ready };
    snprintf(l->place, sizeof(l->place), "%s", place);
    l->nth = nth;
    l->call = c;
    c->link = l;
    return loop_add(&l->source, EPOLLOUT) ? NULL : "no room for a connection";
}

/* NULL, or why not. */
static const char *start(struct call *c)
{
    char place[280];
    snprintf(place, sizeof(place), "%.255s:%d", c->host, c->port);
    struct link *l = kept_to(place);
    if (!l)
        return connect_new(c, place);
    l->call = c;
    l->sent = 0;
    c->link = l;
    loop_want(&l->source, EPOLLOUT);
    return NULL;
}

static void time_is_up(struct timer *t)
{
    fail((struct call *)t, ((struct call *)t)->error ? ((struct call *)t)->error : "time is up");
}

void call_get(const struct call_to *to, call_fn *done, void *arg)
{
    struct call *c = must(calloc(1, sizeof(*c)));
    struct text out = { 0 };
    text_add(&out, "GET %s HTTP/1.1\r\nhost: ", to->path);
    if (to->authority)
        text_add(&out, "%s", to->authority);
    else
        text_add(&out, "%s:%d", to->host, to->port);
    text_add(&out, "\r\n%s\r\n", to->fields ? to->fields : "");
    c->out = out.p;
    c->out_len = out.n;
    c->host = must(strdup(to->host));
    c->port = to->port;
    c->done = done;
    c->arg = arg;
    c->began_us = now_us();
    c->error = start(c);
    timer_start(&c->timer, c->error ? 0 : to->timeout_ms, time_is_up);
}
