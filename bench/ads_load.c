/*
 * Many simulated proxies on one ADS server: each has a connection and a stream of its own, asks for clusters, their endpoints,
 * listeners and their routes as a proxy does, and acknowledges. One thread, one epoll; what a server says to many is looked through
 * once, so that the times are the server's and not this program's.
 *
 *   ads_load PORT N [--sotw] [--silent | --refuse | --deaf | --stuck] NODE...    NODE: a packed envoy.config.core.v3.Node; dealt out in turn
 *
 * --silent never answers; --refuse rejects everything; --deaf grants no window for what it asked for; --stuck grants it and
 * never reads.
 * Commands on stdin, one line of JSON on stdout for each:
 *   ready             waits until every client had all four types: milliseconds since it began to connect
 *   mark NS TEXT      waits until every client was sent a response that holds TEXT: milliseconds since CLOCK_MONOTONIC was NS
 *   types             of the first client: milliseconds from asking for a type to its first response, octets of it
 *   again             closes all and connects again, all at once; counts anew
 *   count             clients that are connected, responses and octets so far, the most responses of one client
 *   quit
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TYPE        "type.googleapis.com/envoy.config."
#define ADS         "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
#define HUGE_WINDOW 0x7fffffffu
enum {
    CDS,
    EDS,
    LDS,
    RDS,
    TYPES,
    NODES = 64,
    EVENTS = 256,
    SEEN = 8192,
    CHUNK = 256 << 10,
    FRAME = 16384,
    FEW = 2,
    LARGE = 16 << 20
};
static const char *const urls[TYPES] = { TYPE "cluster.v3.Cluster",
                                         TYPE "endpoint.v3.ClusterLoadAssignment",
                                         TYPE "listener.v3.Listener",
                                         TYPE "route.v3.RouteConfiguration" };

struct bytes {
    uint8_t *p;
    size_t n, room;
};
struct client {
    int fd;
    unsigned node;
    bool settled; /* it had all types */
    bool marked;  /* ... and what was waited for */
    bool asked[TYPES], got[TYPES];
    uint64_t asked_ns[TYPES], got_ns[TYPES]; /* the first time */
    size_t first_n[TYPES];                   /* octets of that response */
    const struct bytes
        *names[TYPES]; /* that it asks for, as fields of a request; NULL: everything */
    unsigned responses;
    struct bytes in, out; /* frames; what the socket did not take */
    size_t out_at;
    struct bytes asking; /* of the stream, what the server's windows did not take */
    size_t asking_at;
    int64_t window, all_window,
        first_window;     /* of the stream, of the connection; of a stream that begins */
    struct bytes message; /* of the stream, as far as it came */
};
static struct {
    int ep, port;
    unsigned n, nodes_n;
    bool sotw, silent, refuse, deaf, stuck;
    struct bytes nodes[NODES];
    struct client *c;
    uint64_t began, responses, octets;
    char mark[300];
    uint64_t mark_ns;
    double *ready, *reached; /* ms */
    unsigned ready_n, reached_n;
    struct { /* names that followed from a response, found once for all who are sent the same */
        uint64_t hash;
        struct bytes names; /* fields of a request */
    } seen[SEEN];
} t;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void reserve(struct bytes *b, size_t n)
{
    b->p = malloc(n);
    if (!b->p)
        die("malloc");
    memset(b->p, 1, n);
    b->room = n;
}

static void put(struct bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = (b->n + n) * 2;
        b->p = realloc(b->p, b->room);
        if (!b->p)
            die("realloc");
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_varint(struct bytes *b, uint64_t v)
{
    uint8_t out[10];
    size_t n = 0;
    do {
        out[n++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    put(b, out, n);
}

static void put_field(struct bytes *b, unsigned field, const void *p, size_t n)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    put(b, p, n);
}

/* ---- what came, as protobuf ---- */

struct field {
    unsigned number;
    uint64_t value; /* of numbers */
    const uint8_t *p;
    size_t n;
};

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        const uint8_t b = *(*p)++;
        *out |= (uint64_t)(b & 127) << shift;
        if (b < 128)
            return true;
    }
    return false;
}

static bool next(const uint8_t **p, const uint8_t *end, struct field *f)
{
    uint64_t tag;
    *f = (struct field){ 0 };
    if (*p >= end || !varint(p, end, &tag))
        return false;
    f->number = (unsigned)(tag >> 3);
    if ((tag & 7) == 0)
        return varint(p, end, &f->value);
    uint64_t n = (tag & 7) == 1 ? 8 : 4;
    if ((tag & 7) == 2 && !varint(p, end, &n))
        return false;
    if (n > (uint64_t)(end - *p))
        return false;
    f->p = *p;
    f->n = n;
    *p += n;
    return true;
}

/* The last field of that number; no bytes: there is none. */
static struct field get(const uint8_t *p, size_t n, unsigned number)
{
    struct field f, found = { 0 };
    for (const uint8_t *end = p + n; next(&p, end, &f);)
        if (f.number == number)
            found = f;
    return found;
}

enum { NAMES = 3 }; /* resource_names, resource_names_subscribe: the same number in both requests */

static void names_of_cluster(const uint8_t *p, size_t n, struct bytes *out)
{
    const struct field name = get(p, n, 1), eds = get(p, n, 3), own = get(eds.p, eds.n, 2);
    if (get(p, n, 2).value == 3)
        put_field(out, NAMES, own.n ? own.p : name.p, own.n ? own.n : name.n);
}

static void names_of_chain(const uint8_t *p, size_t n, struct bytes *out)
{
    struct field f;
    for (const uint8_t *end = p + n; next(&p, end, &f);) {
        if (f.number != 3)
            continue;
        const struct field any = get(f.p, f.n, 4), url = get(any.p, any.n, 1);
        if (!url.n || !memmem(url.p, url.n, "HttpConnectionManager", 21))
            continue;
        const struct field m = get(any.p, any.n, 2), rds = get(m.p, m.n, 3),
                           name = get(rds.p, rds.n, 2);
        if (name.n && !memmem(out->p, out->n, name.p, name.n))
            put_field(out, NAMES, name.p, name.n);
    }
}

static void names_of_listener(const uint8_t *p, size_t n, struct bytes *out)
{
    struct field f;
    for (const uint8_t *end = p + n; next(&p, end, &f);)
        if (f.number == 3 || f.number == 25)
            names_of_chain(f.p, f.n, out);
}

static uint64_t hash(const uint8_t *p, size_t n)
{
    uint64_t h = 1469598103934665603u ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    for (; n; p++, n--)
        h = (h ^ *p) * 1099511628211u;
    return h ? h : 1;
}

/* Names to ask for next, of the resources of @m. */
static const struct bytes *names_of(int type, const uint8_t *m, size_t n, size_t key_n)
{
    static unsigned used;
    const uint64_t h = hash(m, key_n) + (uint64_t)type;
    size_t at = h % SEEN;
    struct field f;
    while (t.seen[at].hash && t.seen[at].hash != h)
        at = (at + 1) % SEEN;
    if (t.seen[at].hash == h)
        return &t.seen[at].names;
    if (++used == SEEN)
        die("too many different responses");
    t.seen[at].hash = h;
    for (const uint8_t *p = m, *end = m + n; next(&p, end, &f);) {
        if (f.number != 2)
            continue;
        const struct field any = t.sotw ? f : get(f.p, f.n, 2), value = get(any.p, any.n, 2);
        (type == CDS ? names_of_cluster : names_of_listener)(value.p, value.n, &t.seen[at].names);
    }
    return &t.seen[at].names;
}

/* ---- HTTP/2 ---- */

static void flush(struct client *c)
{
    while (c->out_at < c->out.n) {
        const ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);
        if (n < 0)
            return; /* later, or never */
        c->out_at += (size_t)n;
    }
    c->out.n = c->out_at = 0;
}

static void frame(struct client *c, unsigned type, unsigned flags, unsigned stream, const void *p,
                  size_t n)
{
    const uint8_t head[9] = {
        (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)type, (uint8_t)flags, 0, 0, 0,
        (uint8_t)stream
    };
    put(&c->out, head, sizeof(head));
    put(&c->out, p, n);
}

static void put_header(struct bytes *b, const char *name, const char *value)
{
    const uint8_t kind = 0, name_n = (uint8_t)strlen(name), value_n = (uint8_t)strlen(value);
    put(b, &kind, 1); /* literal, new name */
    put(b, &name_n, 1);
    put(b, name, name_n);
    put(b, &value_n, 1);
    put(b, value, value_n);
}

static void send_asking(struct client *c)
{
    while (c->asking_at < c->asking.n && c->window > 0 && c->all_window > 0) {
        size_t n = c->asking.n - c->asking_at;
        n = n < FRAME ? n : FRAME;
        n = (int64_t)n < c->window ? n : (size_t)c->window;
        n = (int64_t)n < c->all_window ? n : (size_t)c->all_window;
        frame(c, 0, 0, 1, c->asking.p + c->asking_at, n);
        c->asking_at += n;
        c->window -= (int64_t)n;
        c->all_window -= (int64_t)n;
    }
    if (c->asking_at == c->asking.n)
        c->asking.n = c->asking_at = 0;
}

static void send_message(struct client *c, const struct bytes *m)
{
    put(&c->asking, m->p, m->n);
    send_asking(c);
}

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return ntohl(v);
}

static void on_settings(struct client *c, const uint8_t *p, size_t n)
{
    for (; n >= 6; p += 6, n -= 6)
        if (p[0] == 0 && p[1] == 4) {
            c->window += u32(p + 2) - c->first_window;
            c->first_window = u32(p + 2);
        }
    frame(c, 4, 1, 0, NULL, 0);
}

static void on_window(struct client *c, const uint8_t *head, size_t n)
{
    int64_t *const w = u32(head + 5) ? &c->window : &c->all_window;
    if (n == 4)
        *w += u32(head + 9) & HUGE_WINDOW;
}

/* @nonce: what is answered to. */
static void ask(struct client *c, int type, struct field nonce, struct field version)
{
    static struct bytes m; /* one at a time */
    static const uint8_t why[] = { 8, 3, 18, 5, 'n', 'e', 'v', 'e', 'r' };
    m.n = 0;
    put(&m, "\0\0\0\0", 5);
    if (!c->asked[CDS] || (type == CDS && !nonce.n))
        put_field(&m, t.sotw ? 2 : 1, t.nodes[c->node].p, t.nodes[c->node].n);
    put_field(&m, t.sotw ? 4 : 2, urls[type], strlen(urls[type]));
    if (c->names[type] && (t.sotw || !nonce.n)) /* state of the world: an answer says it again */
        put(&m, c->names[type]->p, c->names[type]->n);
    if (nonce.n)
        put_field(&m, t.sotw ? 5 : 6, nonce.p, nonce.n);
    if (nonce.n && t.refuse)
        put_field(&m, t.sotw ? 6 : 7, why, sizeof(why));
    else if (t.sotw && version.n)
        put_field(&m, 1, version.p, version.n);
    const uint32_t n = htonl((uint32_t)(m.n - 5));
    memcpy(m.p + 1, &n, 4);
    send_message(c, &m);
    if (!c->asked[type])
        c->asked_ns[type] = now_ns();
    c->asked[type] = true;
}

static void greet(struct client *c)
{
    struct bytes h = { 0 };
    const uint32_t window = htonl(t.deaf ? 0 : HUGE_WINDOW), more = htonl(HUGE_WINDOW - 65535);
    uint8_t settings[6] = { 0, 4 };
    memcpy(settings + 2, &window, 4);
    put(&c->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    frame(c, 4, 0, 0, settings, sizeof(settings));
    if (!t.deaf)
        frame(c, 8, 0, 0, &more, 4);
    put_header(&h, ":method", "POST");
    put_header(&h, ":scheme", "http");
    put_header(&h, ":path",
               t.sotw ? ADS "StreamAggregatedResources" : ADS "DeltaAggregatedResources");
    put_header(&h, ":authority", "ads");
    put_header(&h, "content-type", "application/grpc");
    put_header(&h, "te", "trailers");
    frame(c, 1, 4, 1, h.p, h.n);
    free(h.p);
    ask(c, CDS, (struct field){ 0 }, (struct field){ 0 });
    flush(c);
}

static void arrived(struct client *c, int type)
{
    c->got[type] = true;
    if (!c->settled && c->got[CDS] && c->got[EDS] && c->got[LDS] && c->got[RDS]) {
        c->settled = true;
        t.ready[t.ready_n++] = (double)(now_ns() - t.began) / 1e6;
    }
}

/* Names that come later with another cluster or listener are not asked for: what is measured is the change itself. */
static void follow(struct client *c, int type, const uint8_t *m, size_t n, size_t shared)
{
    const int then = type == CDS ? EDS : type == LDS ? RDS : TYPES;
    const struct field none = { 0 };
    if (then != TYPES && !c->asked[then]) {
        c->names[then] = names_of(type, m, n, shared);
        if (c->names[then]->n)
            ask(c, then, none, none);
        else
            arrived(c, then); /* nothing follows */
    }
    if (type == CDS && !c->asked[LDS])
        ask(c, LDS, none, none);
}

static void response(struct client *c, const uint8_t *m, size_t n)
{
    const struct field url = get(m, n, 4), nonce = get(m, n, 5), version = get(m, n, 1);
    int type = 0;
    while (type < TYPES && !(url.n == strlen(urls[type]) && memcmp(url.p, urls[type], url.n) == 0))
        type++;
    t.responses++;
    c->responses++;
    t.octets += n;
    if (!c->marked && t.mark[0] && memmem(m, n, t.mark, strlen(t.mark))) {
        c->marked = true;
        t.reached[t.reached_n++] = (double)(now_ns() - t.mark_ns) / 1e6;
    }
    if (type == TYPES)
        return;
    /* The nonce and what stands behind differ from client to client; resources stand before the URL. */
    const size_t shared = (size_t)(url.p - m);
    if (!c->got[type]) {
        c->got_ns[type] = now_ns();
        c->first_n[type] = n;
    }
    follow(c, type, m, n, shared);
    if (!t.silent)
        ask(c, type, nonce, version);
    arrived(c, type);
}

static void data(struct client *c, const uint8_t *p, size_t n)
{
    put(&c->message, p, n);
    size_t at = 0;
    while (c->message.n - at >= 5) {
        uint32_t len;
        memcpy(&len, c->message.p + at + 1, 4);
        len = ntohl(len);
        if (c->message.n - at - 5 < len)
            break;
        response(c, c->message.p + at + 5, len);
        at += 5 + len;
    }
    memmove(c->message.p, c->message.p + at, c->message.n - at);
    c->message.n -= at;
}

static void take_frames(struct client *c)
{
    size_t at = 0;
    while (c->in.n - at >= 9) {
        const uint8_t *h = c->in.p + at;
        const size_t n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
        if (c->in.n - at - 9 < n)
            break;
        if (h[3] == 0)
            data(c, h + 9, n);
        else if (h[3] == 4 && !(h[4] & 1))
            on_settings(c, h + 9, n);
        else if (h[3] == 8)
            on_window(c, h, n);
        else if (h[3] == 6 && !(h[4] & 1))
            frame(c, 6, 1, 0, h + 9, n);
        at += 9 + n;
    }
    memmove(c->in.p, c->in.p + at, c->in.n - at);
    c->in.n -= at;
    send_asking(c);
}

/* ---- connections ---- */

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void on_event(struct client *c, uint32_t events)
{
    static uint8_t room[CHUNK];
    while ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !t.stuck) {
        const ssize_t n = recv(c->fd, room, sizeof(room), 0);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            hang_up(c);
            return;
        }
        put(&c->in, room, (size_t)n);
        take_frames(c);
    }
    flush(c);
}

static void dial(struct client *c, unsigned i)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)t.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1;
    hang_up(c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (void *)&a, sizeof(a)))
        die("connect");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->node = i % t.nodes_n;
    c->settled = c->marked = false;
    memset(c->asked, 0, sizeof(c->asked));
    memset(c->got, 0, sizeof(c->got));
    memset(c->names, 0, sizeof(c->names));
    c->in.n = c->out.n = c->out_at = c->message.n = c->responses = 0;
    c->asking.n = c->asking_at = 0;
    c->window = c->all_window = c->first_window = 65535;
    greet(c);
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    epoll_ctl(t.ep, EPOLL_CTL_ADD, c->fd, &e);
}

static void dial_all(void)
{
    for (unsigned i = 0; i < t.n; i++) /* all at once, as after a restart */
        hang_up(&t.c[i]);
    t.began = now_ns();
    t.ready_n = t.reached_n = 0;
    t.responses = t.octets = 0;
    for (unsigned i = 0; i < t.n; i++)
        dial(&t.c[i], i);
}

/* ---- commands ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void say_times(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), compare);
    printf("{\"clients\": %u, \"first_ms\": %.1f, \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"max_ms\": "
           "%.1f, \"responses\": %llu, \"octets\": %llu}\n",
           n, n ? v[0] : 0, n ? v[n / 2] : 0, n ? v[n * 99 / 100] : 0, n ? v[n - 1] : 0,
           (unsigned long long)t.responses, (unsigned long long)t.octets);
}

static void say_count(void)
{
    unsigned up = 0, most = 0;
    for (unsigned i = 0; i < t.n; i++) {
        up += t.c[i].fd >= 0;
        most = t.c[i].responses > most ? t.c[i].responses : most;
    }
    printf("{\"connected\": %u, \"responses\": %llu, \"octets\": %llu, \"most\": %u}\n", up,
           (unsigned long long)t.responses, (unsigned long long)t.octets, most);
}

static void say_types(const struct client *c)
{
    static const char *const words[TYPES] = { "cds", "eds", "lds", "rds" };
    for (int i = 0; i < TYPES; i++)
        printf("%s\"%s_ms\": %.2f, \"%s_octets\": %zu", i ? ", " : "{", words[i],
               c->got_ns[i] ? (double)(c->got_ns[i] - c->asked_ns[i]) / 1e6 : 0, words[i],
               c->first_n[i]);
    printf("}\n");
}

static enum { IDLE, READY, MARK } waiting;

static void command(char *line)
{
    unsigned long long ns = 0;
    int text = 0;
    if (strncmp(line, "ready", 5) == 0) {
        waiting = READY;
    } else if (sscanf(line, "mark %llu %n", &ns, &text) == 1 && text) {
        snprintf(t.mark, sizeof(t.mark), "%s", line + text);
        t.mark_ns = ns;
        t.reached_n = 0;
        for (unsigned i = 0; i < t.n; i++)
            t.c[i].marked = false;
        waiting = MARK;
    } else if (strncmp(line, "again", 5) == 0) {
        dial_all();
        printf("{}\n");
    } else if (strncmp(line, "count", 5) == 0) {
        say_count();
    } else if (strncmp(line, "types", 5) == 0) {
        say_types(&t.c[0]);
    } else {
        exit(0);
    }
}

static void on_stdin(void)
{
    static char buf[4096];
    static size_t n;
    const ssize_t got = read(0, buf + n, sizeof(buf) - 1 - n);
    if (got <= 0)
        exit(0);
    n += (size_t)got;
    for (char *end; (end = memchr(buf, '\n', n));) {
        *end = 0;
        command(buf);
        n -= (size_t)(end + 1 - buf);
        memmove(buf, end + 1, n);
    }
}

static void answer_waiting(void)
{
    if (waiting == READY && t.ready_n == t.n)
        say_times(t.ready, t.ready_n);
    else if (waiting == MARK && t.reached_n == t.n)
        say_times(t.reached, t.reached_n);
    else
        return;
    waiting = IDLE;
}

static void read_node(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t room[65536];
    if (!f || t.nodes_n == NODES)
        die(path);
    put(&t.nodes[t.nodes_n++], room, fread(room, 1, sizeof(room), f));
    fclose(f);
}

int main(int argc, char **argv)
{
    struct rlimit files = { 0 };
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL }, events[EVENTS];
    if (argc < 4) {
        fputs("usage: ads_load PORT N [--sotw] [--silent | --refuse | --deaf | --stuck] NODE...\n",
              stderr);
        return 2;
    }
    t.port = (int)strtoul(argv[1], NULL, 10);
    t.n = (unsigned)strtoul(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            read_node(argv[i]);
        t.sotw |= strcmp(argv[i], "--sotw") == 0;
        t.silent |= strcmp(argv[i], "--silent") == 0;
        t.refuse |= strcmp(argv[i], "--refuse") == 0;
        t.deaf |= strcmp(argv[i], "--deaf") == 0;
        t.stuck |= strcmp(argv[i], "--stuck") == 0;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    setvbuf(stdout, NULL, _IOLBF, 0);
    t.c = calloc(t.n, sizeof(*t.c));
    for (unsigned i = 0; i < t.n && i < FEW;
         i++) { /* pages that are touched now cost nothing while it measures */
        reserve(&t.c[i].in, 2 * CHUNK);
        reserve(&t.c[i].message, LARGE);
    }
    t.ready = calloc(t.n, sizeof(double));
    t.reached = calloc(t.n, sizeof(double));
    for (unsigned i = 0; i < t.n; i++)
        t.c[i].fd = -1;
    t.ep = epoll_create1(0);
    epoll_ctl(t.ep, EPOLL_CTL_ADD, 0, &e);
    dial_all();
    for (;;) {
        const int n = epoll_wait(t.ep, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                on_event(events[i].data.ptr, events[i].events);
            else
                on_stdin();
        answer_waiting();
    }
}
