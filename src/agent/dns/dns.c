/* The sockets that questions come by. */
#include "agent/dns/dns.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/dns/dns_priv.h"
#include "base/log.h"
#include "net/conn.h"
#include "net/dns.h"
#include "net/socket.h"

#define DATAGRAMS_AT_ONCE 64
#define QUESTION_MAX      4096 /* bytes by UDP */
#define CLIENTS_MAX       128
#define CLIENT_PENDING    32 /* questions of a connection that wait */
#define CLIENT_IDLE_MS    10000
#define CLIENT_BYTES      (2u * MZ_DNS_MESSAGE_MAX) /* that wait to be read or written */
#define SERVERS_MAX       8
#define SERVER_MS         2000 /* patience with a name server's first try; twice that with the second */
#define MACHINE_RESOLV    "/var/lib/istio/resolv.conf"

struct dns_socket {
    struct mz_agent_dns *dns;
    struct mz_io udp, tcp; /* fd -1: not open */
    struct mz_addr address;
};
struct dns_client {
    struct mz_list link;
    struct mz_agent_dns *dns;
    struct mz_conn *conn;
    struct mz_timer timer;
    unsigned pending;
    bool paused, full;
};
struct mz_agent_dns {
    struct dns_answers answers;
    struct mz_loop *loop;
    struct dns_socket sockets[2];
    size_t sockets_n;
    struct mz_list clients;
    unsigned clients_n;
};

/* ---- UDP ---- */

static void udp_send(const struct dns_asker *to, const char *p, size_t n)
{
    struct sockaddr_storage at;
    const socklen_t len = mz_addr_sockaddr(&to->address, &at);
    /* Lost is lost, as any datagram: the client asks again. */
    (void)sendto(to->socket->udp.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&at,
                 len);
}

static void udp_ready(struct mz_io *io, unsigned events)
{
    struct dns_socket *s = MZ_CONTAINER(io, struct dns_socket, udp);
    char message[QUESTION_MAX];
    (void)events;
    for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        const ssize_t n = recvfrom(io->fd, message, sizeof(message), MSG_TRUNC | MSG_DONTWAIT,
                                   (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        const struct dns_asker who = { .socket = s, .address = mz_addr_from_sockaddr(&from, len) };
        if ((size_t)n <= sizeof(message))
            (void)dns_answers_take(&s->dns->answers, (struct mz_str){ message, (size_t)n }, &who);
    }
}

/* ---- TCP: two bytes of length before each message ---- */

static void client_pause(struct dns_client *c)
{
    const bool pause = c->full || c->pending >= CLIENT_PENDING;
    if (pause == c->paused)
        return;
    c->paused = pause;
    mz_conn_read_disable(c->conn, pause);
}

static void tcp_send(const struct dns_asker *to, char *room, size_t n)
{
    struct dns_client *c = to->client;
    room[0] = (char)(n >> 8);
    room[1] = (char)n;
    mz_buf_append(mz_conn_out(c->conn), room, 2 + n);
    mz_conn_written(c->conn, false);
    mz_timer_start_ms(&c->timer, CLIENT_IDLE_MS);
}

static void answer_send(const struct dns_asker *to, char *room, size_t n)
{
    if (to->socket)
        udp_send(to, room + 2, n);
    else
        tcp_send(to, room, n);
}

/* To a question that had to wait. */
static void client_answered(struct dns_client *c)
{
    c->pending--;
    client_pause(c);
}

static bool take_message(struct dns_client *c)
{
    struct mz_buf *in = mz_conn_in(c->conn);
    uint8_t head[2];
    if (c->paused || mz_buf_copyout(in, 0, head, 2) < 2)
        return false;
    const size_t n = (size_t)head[0] << 8 | head[1];
    if (mz_buf_len(in) < 2 + n)
        return false;
    const struct dns_asker who = { .client = c };
    const struct mz_str message = mz_str_skip(mz_buf_linearize(in, 2 + n), 2);
    if (dns_answers_take(&c->dns->answers, message, &who))
        c->pending++;
    mz_buf_drain(in, 2 + n);
    client_pause(c);
    return true;
}

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    struct dns_client *c = arg;
    (void)end;
    mz_timer_start_ms(&c->timer, CLIENT_IDLE_MS);
    while (take_message(c)) {
    }
    mz_conn_read_resume(conn);
}

static void client_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct dns_client *c = arg;
    (void)conn;
    if (ev == MZ_CONN_CONNECTED)
        return;
    dns_answers_forget(&c->dns->answers, c);
    mz_timer_stop(&c->timer);
    mz_list_del(&c->link);
    c->dns->clients_n--;
    mz_loop_free_later(c->dns->loop, c, client_free);
}

static void conn_above(struct mz_conn *conn, void *arg)
{
    struct dns_client *c = arg;
    (void)conn;
    c->full = true;
    client_pause(c);
}

static void conn_below(struct mz_conn *conn, void *arg)
{
    struct dns_client *c = arg;
    (void)conn;
    c->full = false;
    client_pause(c);
}

static const struct mz_conn_ops conn_ops = {
    .data = conn_data, .event = conn_event, .above_high = conn_above, .below_low = conn_below
};

static void on_idle(struct mz_timer *t)
{
    struct dns_client *c = MZ_CONTAINER(t, struct dns_client, timer);
    if (c->pending)
        mz_timer_start_ms(t, CLIENT_IDLE_MS);
    else
        mz_conn_close(c->conn, MZ_CLOSE_NOW, "idle", 0);
}

static void client_create(struct dns_socket *s, int fd, const struct mz_addr *peer)
{
    struct mz_agent_dns *d = s->dns;
    struct dns_client *c = mz_new0(MZ_MEM_CONN, struct dns_client);
    c->dns = d;
    c->conn = mz_conn_accepted(d->loop, fd, &s->address, peer, mz_transport_raw(), &conn_ops, c);
    mz_conn_set_buffer_limit(c->conn, CLIENT_BYTES);
    mz_list_add_tail(&d->clients, &c->link);
    d->clients_n++;
    mz_timer_init(d->loop, &c->timer, on_idle);
    mz_timer_start_ms(&c->timer, CLIENT_IDLE_MS);
}

static void tcp_ready(struct mz_io *io, unsigned events)
{
    struct dns_socket *s = MZ_CONTAINER(io, struct dns_socket, tcp);
    (void)events;
    for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        const int fd =
            accept4(io->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        const struct mz_addr peer = mz_addr_from_sockaddr(&from, len);
        if (s->dns->clients_n >= CLIENTS_MAX)
            (void)close(fd);
        else
            client_create(s, fd, &peer);
    }
}

/* ---- listening ---- */

static int udp_open(const struct mz_addr *a, struct mz_err *err)
{
    struct sockaddr_storage at;
    const socklen_t len = mz_addr_sockaddr(a, &at);
    const int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    char text[MZ_ADDR_TEXT];
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0)
        return fd;
    (void)mz_addr_text(a, text);
    mz_err_set(err, "cannot bind '%s' (UDP): %s", text, strerrordesc_np(errno));
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static bool listen_on(struct mz_agent_dns *d, const struct mz_addr *a, struct mz_err *err)
{
    const struct mz_listen_opts opts = { .backlog = 0 };
    struct dns_socket *s = &d->sockets[d->sockets_n];
    const int udp = udp_open(a, err), tcp = udp < 0 ? -1 : mz_socket_listen(a, &opts, err);
    if (tcp < 0) {
        if (udp >= 0)
            (void)close(udp);
        return false;
    }
    s->dns = d;
    s->udp.fd = udp;
    s->tcp.fd = tcp;
    s->address = *a;
    d->sockets_n++;
    return (mz_io_add_level(d->loop, &s->udp, udp, MZ_IO_READ, udp_ready) == 0 &&
            mz_io_add_level(d->loop, &s->tcp, tcp, MZ_IO_READ, tcp_ready) == 0) ||
           mz_err_set(err, "cannot watch a DNS socket");
}

static bool has_v6_loopback(void)
{
    const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    const bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return has;
}

static bool listen_all(struct mz_agent_dns *d, struct mz_str text, struct mz_err *err)
{
    static const struct mz_str local = MZ_STR_INIT("localhost:");
    struct mz_addr a;
    uint64_t port;
    if (!mz_str_starts(text, local)) {
        if (!mz_addr_parse(text, &a) || mz_addr_is_any(&a) || !mz_addr_port(&a))
            return mz_err_set(err,
                              "\"" MZ_STR_FMT "\": localhost or one address of this machine, "
                              "and a port",
                              MZ_STR_ARG(text));
        return listen_on(d, &a, err);
    }
    if (!mz_str_u64(mz_str_skip(text, local.n), &port) || !port || port > 65535)
        return mz_err_set(err, "\"" MZ_STR_FMT "\" has no port", MZ_STR_ARG(text));
    (void)mz_addr_parse_ip(MZ_STR("127.0.0.1"), (uint16_t)port, &a);
    if (!listen_on(d, &a, err))
        return false;
    (void)mz_addr_parse_ip(MZ_STR("::1"), (uint16_t)port, &a);
    return !has_v6_loopback() || listen_on(d, &a, err);
}

/* ---- name servers ---- */

static bool is_ours(const struct mz_agent_dns *d, const struct mz_addr *a)
{
    for (size_t i = 0; i < d->sockets_n; i++)
        if (mz_addr_eq(&d->sockets[i].address, a))
            return true;
    return false;
}

/* Whoever names us as the machine's name server must not be asked by us again. */
static bool find_servers(struct mz_agent_dns *d, const char *file, struct mz_err *err)
{
    struct mz_addr all[SERVERS_MAX], others[SERVERS_MAX];
    struct mz_dns_opts o = {
        .timeout_ms = SERVER_MS, .tries = 2, .edns_bytes = MZ_DNS_UDP_MAX, .file = file
    };
    struct dns_answers *a = &d->answers;
    size_t n, left = 0;
    a->upstream = mz_dns_create(d->loop, &o, err);
    if (!a->upstream)
        return false;
    if (mz_dns_first_search(a->upstream, a->search))
        a->pod.search = mz_str_c(a->search);
    if (a->pod.search.n && a->pod.search.p[a->pod.search.n - 1] == '.')
        a->pod.search.n--;
    n = mz_dns_servers(a->upstream, all, SERVERS_MAX);
    for (size_t i = 0; i < n; i++)
        if (!is_ours(d, &all[i]))
            others[left++] = all[i];
    if (left == n)
        return true;
    mz_dns_destroy(a->upstream);
    a->upstream = NULL;
    o.servers = others;
    o.n_servers = left;
    if (!left)
        MZ_LOG(WARN, dns, "%s names nobody but us: only names of the mesh are known", file);
    return !left || (a->upstream = mz_dns_create(d->loop, &o, err)) != NULL;
}

struct mz_agent_dns *mz_agent_dns_create(const struct mz_agent_dns_opts *o, struct mz_err *err)
{
    struct mz_agent_dns *d = mz_new0(MZ_MEM_XDS, struct mz_agent_dns);
    struct mz_str address = mz_str_c(o->address);
    const char *file = o->resolv_conf;
    d->loop = o->loop;
    mz_list_init(&d->clients);
    dns_answers_init(&d->answers, o);
    d->answers.send = answer_send;
    d->answers.answered = client_answered;
    if (mz_str_ends(address, MZ_STR(":53"))) { /* of a machine without capture */
        if (geteuid() == 0) {
            d->answers.forward_early = true;
            file = access(MACHINE_RESOLV, F_OK) == 0 ? MACHINE_RESOLV : file;
        } else {
            MZ_LOG(ERROR, dns, "port 53 is root's: localhost:15053 instead");
            address = MZ_STR("localhost:15053");
        }
    }
    if (listen_all(d, address, err) && find_servers(d, file, err))
        return d;
    mz_agent_dns_destroy(d);
    return NULL;
}

void mz_agent_dns_set(struct mz_agent_dns *d, struct mz_str packed)
{
    struct mz_names *names = mz_names_create(packed, &d->answers.pod);
    if (!names) {
        MZ_LOG(WARN, dns, "the control plane's name table is none: the one before stays");
        return;
    }
    MZ_LOG(DEBUG, dns, "a name table of %zu hosts", mz_names_count(names));
    mz_names_destroy(d->answers.names);
    d->answers.names = names;
}

bool mz_agent_dns_ready(const struct mz_agent_dns *d)
{
    return d->answers.names != NULL;
}

void mz_agent_dns_metrics(const struct mz_agent_dns *d, struct mz_buf *out)
{
    dns_answers_metrics(&d->answers, out);
}

static void socket_end(struct mz_io *io)
{
    const int fd = io->fd;
    if (io->loop)
        mz_io_del(io);
    (void)close(fd);
}

void mz_agent_dns_destroy(struct mz_agent_dns *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->sockets_n; i++) {
        socket_end(&d->sockets[i].udp);
        socket_end(&d->sockets[i].tcp);
    }
    while (!mz_list_empty(&d->clients))
        mz_conn_close(MZ_CONTAINER(d->clients.next, struct dns_client, link)->conn, MZ_CLOSE_NOW,
                      "the agent ends", 0);
    dns_answers_fini(&d->answers);
    mz_free(MZ_MEM_XDS, d);
}
