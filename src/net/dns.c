#include "net/dns.h"

#include <ares.h>
#include <netdb.h>
#include <pthread.h>

#include "base/log.h"

#define NAME_MAX_BYTES 255 /* RFC 1035, H09 */

struct dns_socket { /* a descriptor of c-ares that we watch */
    struct mz_list link;
    struct mz_io io;
    struct mz_dns *dns;
    unsigned events;
};

struct mz_dns {
    struct mz_loop *loop;
    ares_channel channel;
    struct mz_timer timer;
    struct mz_list sockets;
    struct mz_list queries, exchanges;
    uint32_t udp_max; /* 0: no limit */
    uint32_t asked; /* since nothing was in flight the last time: then c-ares closes its sockets */
    uint32_t in_flight;
    struct mz_task idle; /* nothing is: behind c-ares' callback, after which it closes them */
    bool closing;
};

struct mz_dns_query {
    struct mz_list link;
    struct mz_dns *dns;
    struct mz_task task; /* tells the caller, at the end of the turn */
    void (*done)(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n);
    void *arg;
    bool cancelled, asking; /* asking: c-ares holds us */
    bool waiting;           /* for sockets of a new port */
    int waits_for;          /* family */
    bool ok;
    enum mz_dns_family family;
    int second_family; /* asked when the first has no address; AF_UNSPEC: none */
    const char *why;
    size_t n;
    struct mz_dns_result *v;
    char name[NAME_MAX_BYTES + 1];
};

struct mz_dns_exchange {
    struct mz_list link;
    struct mz_dns *dns;
    struct mz_task task;
    mz_dns_sent *done;
    void *arg;
    bool asking, cancelled;
    const char *why;
    char *answer;
    size_t n;
};

static pthread_once_t ares_once = PTHREAD_ONCE_INIT;
static int ares_once_status;

static void ares_start(void)
{
    ares_once_status = ares_library_init(ARES_LIB_INIT_ALL);
}

/* ---- descriptors and timer of the channel ---- */

static void timer_follow(struct mz_dns *d)
{
    struct timeval tv;
    if (d->closing || !ares_timeout(d->channel, NULL, &tv)) {
        mz_timer_stop(&d->timer);
        return;
    }
    mz_timer_start_us(&d->timer, (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec);
}

static void timer_fire(struct mz_timer *t)
{
    struct mz_dns *d = MZ_CONTAINER(t, struct mz_dns, timer);
    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    timer_follow(d);
}

static void socket_ready(struct mz_io *io, unsigned events)
{
    struct dns_socket *s = MZ_CONTAINER(io, struct dns_socket, io);
    struct mz_dns *d = s->dns;
    int fd = io->fd;
    bool readable = events & (MZ_IO_READ | MZ_IO_HUP),
         writable = events & (MZ_IO_WRITE | MZ_IO_HUP);
    ares_process_fd(d->channel, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
    timer_follow(d);
}

static void socket_free(void *p)
{
    mz_free(MZ_MEM_UPSTREAM, p);
}

static struct dns_socket *socket_find(struct mz_dns *d, int fd)
{
    mz_list_foreach (it, &d->sockets) {
        struct dns_socket *s = MZ_CONTAINER(it, struct dns_socket, link);
        if (s->io.fd == fd)
            return s;
    }
    return NULL;
}

static void socket_watch(struct mz_dns *d, int fd, unsigned events)
{
    struct dns_socket *s = mz_new0(MZ_MEM_UPSTREAM, struct dns_socket);
    s->dns = d;
    s->events = events;
    int rc = mz_io_add_level(d->loop, &s->io, fd, events, socket_ready);
    if (rc != 0)
        MZ_LOG(WARN, dns, "cannot watch a DNS socket: %s",
               strerrordesc_np(-rc)); /* the query times out */
    mz_list_add_tail(&d->sockets, &s->link);
}

/* c-ares tells what it waits for; neither: it closes the descriptor. */
static void socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct mz_dns *d = arg;
    unsigned events =
        (readable ? (unsigned)MZ_IO_READ : 0u) | (writable ? (unsigned)MZ_IO_WRITE : 0u);
    struct dns_socket *s = socket_find(d, fd);
    if (!s) {
        if (events)
            socket_watch(d, fd, events);
        return;
    }
    if (!events) {
        mz_io_del(&s->io);
        mz_list_del(&s->link);
        mz_loop_free_later(d->loop, s, socket_free);
    } else if (events != s->events) {
        s->events = events;
        (void)mz_io_level_mod(&s->io, events); /* on failure the query times out */
    }
}

/* ---- resolver ---- */

static bool set_servers(struct mz_dns *d, const struct mz_dns_opts *o, struct mz_err *err)
{
    if (o->n_servers == 0)
        return true;
    struct ares_addr_port_node *v =
        mz_newn0(MZ_MEM_UPSTREAM, struct ares_addr_port_node, o->n_servers);
    for (size_t i = 0; i < o->n_servers; i++) {
        const struct mz_addr *a = &o->servers[i];
        v[i].next = i + 1 < o->n_servers ? &v[i + 1] : NULL;
        v[i].family = a->sa.sa_family;
        v[i].udp_port = v[i].tcp_port = mz_addr_port(a) ? mz_addr_port(a) : 53;
        if (a->sa.sa_family == AF_INET)
            v[i].addr.addr4 = a->in4.sin_addr;
        else
            memcpy(&v[i].addr.addr6, &a->in6.sin6_addr, sizeof(v[i].addr.addr6));
    }
    int rc = ares_set_servers_ports(d->channel, v);
    mz_free(MZ_MEM_UPSTREAM, v);
    return rc == ARES_SUCCESS ||
           mz_err_set(err, "cannot use the DNS servers: %s", ares_strerror(rc));
}

static int channel_init(struct mz_dns *d, struct ares_options *opts, int mask)
{
    opts->sock_state_cb = socket_state;
    opts->sock_state_cb_data = d;
    return ares_init_options(&d->channel, opts, mask | ARES_OPT_SOCK_STATE_CB | ARES_OPT_FLAGS);
}

/* A name that does not exist is asked for in each search domain of the system (H09): not in more than MZ_DNS_SEARCH_MAX. */
static int channel_start(struct mz_dns *d, const struct mz_dns_opts *o)
{
    int flags = (o->use_tcp ? ARES_FLAG_USEVC : 0) |
                (o->no_default_search ? ARES_FLAG_NOSEARCH : 0) |
                (o->edns_bytes ? ARES_FLAG_EDNS : 0);
    int set = (o->timeout_ms ? ARES_OPT_TIMEOUTMS : 0) | (o->tries ? ARES_OPT_TRIES : 0) |
              (o->rotate ? ARES_OPT_ROTATE : 0) | (o->edns_bytes ? ARES_OPT_EDNSPSZ : 0) |
              (o->file ? ARES_OPT_RESOLVCONF : 0);
    struct ares_options opts = { .flags = flags,
                                 .timeout = (int)o->timeout_ms,
                                 .tries = (int)o->tries,
                                 .ednspsz = o->edns_bytes,
                                 .resolvconf_path = (char *)(uintptr_t)o->file },
                        system;
    /* c-ares 1.18 does not look at ARES_FLAG_NOSEARCH in ares_getaddrinfo(): then there are no domains. */
    int mask, rc = channel_init(d, &opts, set | (o->no_default_search ? ARES_OPT_DOMAINS : 0));
    if (rc != ARES_SUCCESS || (flags & ARES_FLAG_NOSEARCH))
        return rc;
    rc = ares_save_options(d->channel, &system, &mask);
    if (rc == ARES_SUCCESS && system.ndomains > MZ_DNS_SEARCH_MAX) {
        MZ_LOG(WARN, dns, "of %d search domains the first %d are used", system.ndomains,
               MZ_DNS_SEARCH_MAX);
        ares_destroy(d->channel);
        d->channel = NULL;
        opts.domains = system.domains;
        opts.ndomains = MZ_DNS_SEARCH_MAX;
        rc = channel_init(d, &opts, set | ARES_OPT_DOMAINS);
    }
    ares_destroy_options(&system);
    return rc;
}

static void idle(struct mz_task *t);

struct mz_dns *mz_dns_create(struct mz_loop *l, const struct mz_dns_opts *o, struct mz_err *err)
{
    pthread_once(&ares_once, ares_start);
    if (ares_once_status != ARES_SUCCESS) {
        mz_err_set(err, "cannot start the DNS library: %s", ares_strerror(ares_once_status));
        return NULL;
    }
    struct mz_dns *d = mz_new0(MZ_MEM_UPSTREAM, struct mz_dns);
    d->loop = l;
    mz_list_init(&d->sockets);
    mz_list_init(&d->queries);
    mz_list_init(&d->exchanges);
    mz_timer_init(l, &d->timer, timer_fire);
    mz_task_init(&d->idle, idle);
    d->udp_max = o->use_tcp ? 0 : o->udp_max;
    int rc = channel_start(d, o);
    if (rc != ARES_SUCCESS) {
        mz_err_set(err, "cannot start the DNS resolver: %s", ares_strerror(rc));
        mz_free(MZ_MEM_UPSTREAM, d);
        return NULL;
    }
    if (set_servers(d, o, err))
        return d;
    mz_dns_destroy(d);
    return NULL;
}

static void query_free(void *p)
{
    struct mz_dns_query *q = p;
    mz_free(MZ_MEM_UPSTREAM, q->v);
    mz_free(MZ_MEM_UPSTREAM, q);
}

static void query_drop(struct mz_dns_query *q)
{
    mz_task_cancel(&q->task);
    mz_list_del(&q->link);
    mz_loop_free_later(q->dns->loop, q, query_free);
}

static void exchange_drop(struct mz_dns_exchange *x);

void mz_dns_destroy(struct mz_dns *d)
{
    if (!d)
        return;
    d->closing = true;
    mz_task_cancel(&d->idle);
    ares_destroy(d->channel); /* calls back each query that it holds, and socket_state() */
    mz_list_foreach (it, &d->queries)
        query_drop(MZ_CONTAINER(it, struct mz_dns_query, link));
    mz_list_foreach (it, &d->exchanges)
        exchange_drop(MZ_CONTAINER(it, struct mz_dns_exchange, link));
    mz_timer_stop(&d->timer);
    mz_free(MZ_MEM_UPSTREAM, d);
}

/* ---- queries ---- */

static void query_tell(struct mz_task *t)
{
    struct mz_dns_query *q = MZ_CONTAINER(t, struct mz_dns_query, task);
    q->done(q->arg, q->ok, q->why, q->v, q->n);
    query_drop(q);
}

static void query_end(struct mz_dns_query *q, bool ok, const char *why)
{
    q->ok = ok;
    q->why = why;
    mz_task_schedule(q->dns->loop, &q->task);
}

static void collect(struct mz_dns_query *q, const struct ares_addrinfo *res)
{
    size_t n = 0;
    for (const struct ares_addrinfo_node *i = res->nodes; i; i = i->ai_next)
        n++;
    if (n > MZ_DNS_MAX)
        n = MZ_DNS_MAX;
    q->v = mz_newn0(MZ_MEM_UPSTREAM, struct mz_dns_result, n ? n : 1);
    for (const struct ares_addrinfo_node *i = res->nodes; i && q->n < n; i = i->ai_next) {
        if (i->ai_family != AF_INET && i->ai_family != AF_INET6)
            continue;
        struct mz_dns_result *r = &q->v[q->n++];
        r->addr.len = i->ai_family == AF_INET ? sizeof(r->addr.in4) : sizeof(r->addr.in6);
        memcpy(&r->addr.sa, i->ai_addr, r->addr.len);
        mz_addr_set_port(&r->addr, 0);
        r->ttl_s = i->ai_ttl > 0 ? (uint32_t)i->ai_ttl : 0;
    }
}

/* "localhost" and what is below it mean this machine though no file and no server says so (RFC 6761 6.3). */
static bool is_localhost(const char *name)
{
    static const struct mz_str local = MZ_STR_INIT("localhost");
    struct mz_str s = mz_str_c(name);
    if (s.n && s.p[s.n - 1] == '.')
        s.n--;
    if (s.n < local.n || !mz_str_ieq(mz_str_skip(s, s.n - local.n), local))
        return false;
    return s.n == local.n || s.p[s.n - local.n - 1] == '.';
}

static void loopback(struct mz_dns_query *q)
{
    const bool v4 = q->family != MZ_DNS_V6_ONLY, v6 = !v4 || q->family == MZ_DNS_ALL;
    mz_free(MZ_MEM_UPSTREAM, q->v);
    q->v = mz_newn0(MZ_MEM_UPSTREAM, struct mz_dns_result, 2);
    if (v4) {
        struct mz_addr *a = &q->v[q->n++].addr;
        a->len = sizeof(a->in4);
        a->in4 = (struct sockaddr_in){ .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    }
    if (v6) {
        struct mz_addr *a = &q->v[q->n++].addr;
        a->len = sizeof(a->in6);
        a->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    }
}

static void ask(struct mz_dns_query *q, int family);

/* What is asked from now on leaves from another port. */
static void idle(struct mz_task *t)
{
    struct mz_dns *d = MZ_CONTAINER(t, struct mz_dns, idle);
    if (d->in_flight)
        return;
    d->asked = 0;
    mz_list_foreach (it, &d->queries) {
        struct mz_dns_query *q = MZ_CONTAINER(it, struct mz_dns_query, link);
        if (q->waiting && d->asked < d->udp_max)
            ask(q, q->waits_for);
    }
    timer_follow(d);
}

static void is_back(struct mz_dns *d)
{
    if (--d->in_flight == 0 && !d->closing)
        mz_task_schedule(d->loop, &d->idle);
}

static void answered(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
    (void)timeouts;
    struct mz_dns_query *q = arg;
    q->asking = false;
    if (status == ARES_SUCCESS && !q->cancelled)
        collect(q, res);
    if (res)
        ares_freeaddrinfo(res);
    is_back(q->dns);
    if (q->cancelled || status == ARES_EDESTRUCTION) {
        query_drop(q);
        return;
    }
    bool none = status == ARES_ENODATA || status == ARES_ENOTFOUND;
    if (q->n == 0 && (none || status == ARES_SUCCESS) && q->second_family != AF_UNSPEC) {
        int family = q->second_family;
        q->second_family = AF_UNSPEC;
        mz_free(MZ_MEM_UPSTREAM, q->v);
        q->v = NULL;
        ask(q, family);
        return;
    }
    if (q->n == 0 && is_localhost(q->name)) {
        loopback(q);
        query_end(q, true, NULL);
        return;
    }
    query_end(q, status == ARES_SUCCESS || none,
              status == ARES_SUCCESS ? NULL : ares_strerror(status));
}

static void ask(struct mz_dns_query *q, int family)
{
    struct mz_dns *d = q->dns;
    q->waiting = d->udp_max && d->asked >= d->udp_max;
    q->waits_for = family;
    if (q->waiting)
        return;
    d->asked += family == AF_UNSPEC ? 2 : 1;
    d->in_flight++;
    const struct ares_addrinfo_hints hints = { .ai_flags = ARES_AI_NOSORT,
                                               .ai_family = family,
                                               .ai_socktype = SOCK_STREAM };
    q->asking = true;
    ares_getaddrinfo(q->dns->channel, q->name, NULL, &hints, answered,
                     q); /* may answer at once: query_end() defers */
}

static int first_family(enum mz_dns_family f)
{
    static const int families[] = { [MZ_DNS_AUTO] = AF_INET6,
                                    [MZ_DNS_V4_ONLY] = AF_INET,
                                    [MZ_DNS_V6_ONLY] = AF_INET6,
                                    [MZ_DNS_V4_PREFERRED] = AF_INET,
                                    [MZ_DNS_ALL] = AF_UNSPEC };
    return families[f];
}

struct mz_dns_query *mz_dns_resolve(struct mz_dns *d, struct mz_str name, enum mz_dns_family family,
                                    void (*done)(void *arg, bool ok, const char *why,
                                                 const struct mz_dns_result *v, size_t n),
                                    void *arg)
{
    struct mz_dns_query *q = mz_new0(MZ_MEM_UPSTREAM, struct mz_dns_query);
    q->dns = d;
    q->done = done;
    q->arg = arg;
    q->family = family;
    mz_task_init(&q->task, query_tell);
    mz_list_add_tail(&d->queries, &q->link);
    if (name.n == 0 || name.n > NAME_MAX_BYTES || memchr(name.p, '\0', name.n)) {
        query_end(q, false, "the name is empty, too long or has a NUL");
        return q;
    }
    memcpy(q->name, name.p, name.n);
    if (family == MZ_DNS_AUTO)
        q->second_family = AF_INET;
    else if (family == MZ_DNS_V4_PREFERRED)
        q->second_family = AF_INET6;
    ask(q, first_family(family));
    timer_follow(d);
    return q;
}

void mz_dns_cancel(struct mz_dns_query *q)
{
    if (q->asking)
        q->cancelled = true; /* c-ares holds it until its answer or the channel's end */
    else
        query_drop(q);
}

/* ---- whole messages ---- */

static void exchange_free(void *p)
{
    struct mz_dns_exchange *x = p;
    mz_free(MZ_MEM_UPSTREAM, x->answer);
    mz_free(MZ_MEM_UPSTREAM, x);
}

static void exchange_drop(struct mz_dns_exchange *x)
{
    mz_task_cancel(&x->task);
    mz_list_del(&x->link);
    mz_loop_free_later(x->dns->loop, x, exchange_free);
}

static void exchange_tell(struct mz_task *t)
{
    struct mz_dns_exchange *x = MZ_CONTAINER(t, struct mz_dns_exchange, task);
    x->done(x->arg, x->why, (struct mz_str){ x->answer, x->n });
    exchange_drop(x);
}

static void exchanged(void *arg, int status, int timeouts, unsigned char *answer, int n)
{
    struct mz_dns_exchange *x = arg;
    (void)timeouts;
    x->asking = false;
    is_back(x->dns);
    if (x->cancelled || status == ARES_EDESTRUCTION) {
        exchange_drop(x);
        return;
    }
    x->why = status == ARES_SUCCESS ? NULL : ares_strerror(status);
    if (status == ARES_SUCCESS && n > 0) {
        x->n = (size_t)n;
        x->answer = mz_alloc(MZ_MEM_UPSTREAM, x->n);
        memcpy(x->answer, answer, x->n);
    }
    mz_task_schedule(x->dns->loop, &x->task);
}

struct mz_dns_exchange *mz_dns_send(struct mz_dns *d, struct mz_str message, mz_dns_sent *done,
                                    void *arg)
{
    struct mz_dns_exchange *x = mz_new0(MZ_MEM_UPSTREAM, struct mz_dns_exchange);
    *x = (struct mz_dns_exchange){ .dns = d, .done = done, .arg = arg, .asking = true };
    mz_task_init(&x->task, exchange_tell);
    mz_list_add_tail(&d->exchanges, &x->link);
    d->in_flight++;
    ares_send(d->channel, (const unsigned char *)message.p, (int)message.n, exchanged, x);
    timer_follow(d);
    return x;
}

void mz_dns_send_cancel(struct mz_dns_exchange *x)
{
    if (!x)
        return;
    if (x->asking)
        x->cancelled = true;
    else
        exchange_drop(x);
}

size_t mz_dns_servers(const struct mz_dns *d, struct mz_addr *out, size_t max)
{
    struct ares_addr_port_node *all;
    size_t n = 0;
    if (ares_get_servers_ports(d->channel, &all) != ARES_SUCCESS)
        return 0;
    for (const struct ares_addr_port_node *i = all; i && n < max; i = i->next) {
        struct mz_addr *a = &out[n++];
        const in_port_t port = htons((uint16_t)(i->udp_port ? i->udp_port : 53));
        *a = (struct mz_addr){ .len = sizeof(a->in4) };
        a->in4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
        if (i->family == AF_INET) {
            a->in4.sin_addr = i->addr.addr4;
        } else {
            a->len = sizeof(a->in6);
            a->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port };
            memcpy(&a->in6.sin6_addr, &i->addr.addr6, sizeof(a->in6.sin6_addr));
        }
    }
    ares_free_data(all);
    return n;
}

bool mz_dns_first_search(const struct mz_dns *d, char out_domain[256])
{
    struct ares_options system = { 0 };
    int mask;
    bool found = false;
    if (ares_save_options(d->channel, &system, &mask) == ARES_SUCCESS && system.ndomains > 0) {
        const size_t n = strlen(system.domains[0]);
        found = n > 0 && n < 256;
        if (found)
            memcpy(out_domain, system.domains[0], n + 1);
    }
    ares_destroy_options(&system);
    return found;
}
