/* The worker's side of a listening socket: accepting within limits (L1, E09), spreading connections, stopping. */
#include <errno.h>
#include <linux/filter.h>
#include <unistd.h>

#include "base/log.h"
#include "listener/listener_priv.h"
#include "net/wire.h"
#include "runtime/runtime.h"

#define CLOSING_MS 10  /* handshakes that had begun end meanwhile */
#define PAUSE_MS   100 /* after a lack of descriptors or memory: old connections end meanwhile */

/* The limits count what is open in the whole process; what the configuration does not say is read from the runtime at each accept, as Envoy does. */
static bool over_limit(struct mz_acceptor *a)
{
    const struct mz_runtime *r = mz_runtime_here();
    uint64_t global = a->worker->process->max_connections;
    if (!global)
        global =
            mz_runtime_u64(r, MZ_STR("overload.global_downstream_max_connections"), UINT64_MAX);
    int64_t all = __atomic_load_n(a->process_connections, __ATOMIC_RELAXED);
    if (!a->cfg->ignore_global_limit && (uint64_t)(all > 0 ? all : 0) >= global) {
        mz_count(a->cfg->scope, MZ_LISTENER_STAT_GLOBAL_CX_OVERFLOW, 1);
        return true;
    }
    uint64_t own = mz_runtime_u64(r, a->cfg->limit_key, UINT64_MAX);
    int64_t here = __atomic_load_n(&a->cfg->connections, __ATOMIC_RELAXED);
    if ((uint64_t)(here > 0 ? here : 0) < own)
        return false;
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_CX_OVERFLOW, 1);
    return true;
}

/* ---- how a connection begins ---- */

static void begin_as(struct mz_acceptor *a, const struct mz_incoming *in)
{
    if (a->cfg->n_lfilters)
        mz_inspect_start(a, in, false);
    else
        mz_net_chain_start(a, in);
}

static void begin(struct mz_acceptor *a, int fd, const struct mz_addr *local,
                  const struct mz_addr *remote)
{
    const struct mz_incoming in = { .fd = fd,
                                    .local = *local,
                                    .remote = *remote,
                                    .socket_local = *local,
                                    .direct_remote = *remote,
                                    .listening_port = mz_addr_port(&a->local),
                                    .transport = MZ_STR("raw_buffer"),
                                    .worker = a->worker,
                                    .scope = a->cfg->scope };
    begin_as(a, &in);
}

void mz_incoming_close(struct mz_loop *l, const struct mz_incoming *in)
{
    if (in->wire)
        mz_wire_refuse(in->wire);
    else
        (void)mz_loop_sys(l)->close(in->fd);
    mz_arena_destroy(in->arena);
}

/* ---- connections within the thread ---- */

struct called {
    struct mz_list link;
    struct mz_incoming in;
};

static void call_take(struct mz_task *t)
{
    struct mz_acceptor *a = MZ_CONTAINER(t, struct mz_acceptor, call_task);
    while (!mz_list_empty(&a->called)) {
        struct called *c = MZ_CONTAINER(a->called.next, struct called, link);
        mz_list_del(&c->link);
        c->in.scope = a->cfg->scope; /* an update may have come since */
        begin_as(a, &c->in);
        mz_free(MZ_MEM_CONN, c);
    }
}

static void calls_drop(struct mz_acceptor *a)
{
    mz_task_cancel(&a->call_task);
    while (!mz_list_empty(&a->called)) {
        struct called *c = MZ_CONTAINER(a->called.next, struct called, link);
        mz_list_del(&c->link);
        mz_incoming_close(a->worker->loop, &c->in);
        mz_free(MZ_MEM_CONN, c);
    }
}

struct mz_wire *mz_acceptor_call(struct mz_acceptor *a, const struct mz_wire_call *call)
{
    struct mz_passed *p = call->take_passed;
    struct mz_wire *ends[2];
    struct mz_arena *arena = p ? p->arena : mz_arena_create(MZ_MEM_CONN);
    if (over_limit(a)) {
        mz_arena_destroy(arena);
        errno = ECONNREFUSED;
        return NULL;
    }
    mz_wire_pair(a->cfg->wire_bytes, ends);
    struct called *c = mz_new0(MZ_MEM_CONN, struct called);
    c->in = (struct mz_incoming){ .fd = -1,
                                  .wire = ends[1],
                                  .state = p ? p->state : NULL,
                                  .caller = call->from,
                                  .hops = call->hops + 1,
                                  .local = *call->to,
                                  .remote = *mz_addr_internal_client(),
                                  .socket_local = *call->to,
                                  .direct_remote = *mz_addr_internal_client(),
                                  .transport = MZ_STR("raw_buffer"),
                                  .metadata = p ? p->metadata : NULL,
                                  .arena = arena,
                                  .worker = a->worker,
                                  .scope = a->cfg->scope };
    mz_list_add_tail(&a->called, &c->link);
    mz_task_schedule(a->worker->loop, &a->call_task);
    return ends[0];
}

/* ---- accepted by another, or by another worker ---- */

void mz_acceptor_take(struct mz_acceptor *a, const struct mz_incoming *in)
{
    struct mz_incoming mine = *in;
    mine.scope = a->cfg->scope;
    if (a->cfg->n_lfilters)
        mz_inspect_start(a, &mine, true);
    else
        mz_net_chain_start(a, &mine);
}

struct handover {
    struct mz_acceptor *to;
    int fd;
    struct mz_addr local, remote;
};

static void handed_over(struct mz_loop *l, void *arg)
{
    struct handover *h = arg;
    __atomic_sub_fetch(&h->to->connections, 1,
                       __ATOMIC_RELAXED); /* counted again by the connection itself */
    if (h->to->fd >= 0)
        begin(h->to, h->fd, &h->local, &h->remote);
    else
        (void)mz_loop_sys(l)->close(h->fd);
    mz_free(MZ_MEM_CONN, h);
}

static struct mz_acceptor *least_busy(struct mz_acceptor *a)
{
    struct mz_acceptor *best = a;
    int64_t least = __atomic_load_n(&a->connections, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < a->n_peers; i++) {
        int64_t n = __atomic_load_n(&a->peers[i]->connections, __ATOMIC_RELAXED);
        if (n < least) {
            least = n;
            best = a->peers[i];
        }
    }
    return best;
}

static void hand_over(struct mz_acceptor *to, int fd, const struct mz_addr *local,
                      const struct mz_addr *remote)
{
    struct handover *h = mz_new0(MZ_MEM_CONN, struct handover);
    *h = (struct handover){ to, fd, *local, *remote };
    __atomic_add_fetch(&to->connections, 1, __ATOMIC_RELAXED);
    mz_loop_post(to->worker->loop, handed_over, h);
}

/* ---- accepting ---- */

static void take(struct mz_acceptor *a, int fd, const struct mz_addr *remote)
{
    if (over_limit(a)) {
        (void)mz_loop_sys(a->worker->loop)->close(fd);
        return;
    }
    struct mz_addr local = a->local;
    if (mz_addr_is_any(&local))
        (void)mz_socket_local(fd, &local); /* untouched when the peer went */
    mz_addr_unmap(&local);
    struct mz_acceptor *to = a->n_peers ? least_busy(a) : a;
    if (to == a)
        begin(a, fd, &local, remote);
    else
        hand_over(to, fd, &local, remote);
}

static void pause_accepting(struct mz_acceptor *a, int why)
{
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_ACCEPT_PAUSED, 1);
    MZ_LOG(WARN, conn_handler, "listener '" MZ_STR_FMT "': accept failed: %s",
           MZ_STR_ARG(a->cfg->name), strerrordesc_np(why));
    mz_io_del(&a->io);
    mz_timer_start_ms(&a->pause, PAUSE_MS);
}

/* Returns the number taken, at most max; *out_error is the errno that ended it, or 0. */
static unsigned accept_some(struct mz_acceptor *a, unsigned max, int *out_error)
{
    const struct mz_sys *sys = mz_loop_sys(a->worker->loop);
    unsigned n = 0;
    *out_error = 0;
    while (n < max && a->fd >= 0) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = sys->accept(a->fd, (struct sockaddr *)&from, &len);
        if (fd >= 0) {
            n++;
            struct mz_addr remote = mz_addr_from_sockaddr(&from, len);
            mz_addr_unmap(&remote);
            take(a, fd, &remote);
        } else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO && errno != EPERM) {
            *out_error = errno;
            break;
        }
    }
    return n;
}

static void acceptor_ready(struct mz_io *io, unsigned events)
{
    (void)events;
    struct mz_acceptor *a = MZ_CONTAINER(io, struct mz_acceptor, io);
    int error;
    unsigned n = accept_some(a, a->cfg->max_accept, &error);
    if (n)
        mz_hist_record(a->cfg->scope, MZ_LISTENER_STAT_ACCEPTED_PER_EVENT, n);
    if (error && error != EAGAIN && a->fd >= 0)
        pause_accepting(a, error);
}

/* Takes what waits, then closes: closing alone would reset those whose handshake the kernel has done. */
static void close_socket(struct mz_acceptor *a)
{
    int error;
    (void)accept_some(a, SOMAXCONN, &error);
    mz_timer_stop(&a->pause);
    mz_io_del(&a->io);
    (void)mz_loop_sys(a->worker->loop)->close(a->fd);
    a->fd = -1;
}

static void pause_over(struct mz_timer *t)
{
    struct mz_acceptor *a = MZ_CONTAINER(t, struct mz_acceptor, pause);
    if (a->stopping)
        close_socket(a);
    else
        mz_acceptor_start(a);
}

void mz_acceptor_start(struct mz_acceptor *a)
{
    mz_acceptors_put(a);
    if (a->fd < 0)
        return;
    unsigned events = MZ_IO_READ | (a->exclusive ? MZ_IO_EXCLUSIVE : 0u);
    int rc = mz_io_add_level(a->worker->loop, &a->io, a->fd, events, acceptor_ready);
    if (rc != 0)
        pause_accepting(a, -rc);
}

struct mz_acceptor *mz_acceptor_create(struct mz_worker *w, struct mz_listener_config *cfg,
                                       int take_fd, const struct mz_addr *local)
{
    struct mz_acceptor *a = mz_new0(MZ_MEM_CONFIG, struct mz_acceptor);
    a->worker = w;
    a->cfg = mz_listener_config_ref(cfg);
    a->local = *local;
    a->fd = take_fd;
    a->io.fd = -1;
    mz_list_init(&a->chains);
    mz_list_init(&a->inspected);
    mz_list_init(&a->called);
    mz_task_init(&a->call_task, call_take);
    mz_timer_init(w->loop, &a->pause, pause_over);
    return a;
}

/* No new handshake begins on this socket (its SYN is not answered); those that have begun may end. */
static bool refuse_syn(int fd)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), /* flags of the TCP header */
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), /* SYN without ACK */
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    };
    const struct sock_fprog prog = { .len = MZ_COUNT(code), .filter = code };
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0;
}

void mz_acceptor_stop(struct mz_acceptor *a)
{
    mz_acceptors_del(a);
    if (a->fd < 0)
        return;
    if (a->stopping || !mz_addr_is_ip(&a->local) || !refuse_syn(a->fd)) {
        close_socket(a);
        return;
    }
    a->stopping = true;
    mz_timer_start_ms(&a->pause, CLOSING_MS);
}

void mz_acceptor_drain(struct mz_acceptor *a)
{
    mz_list_foreach (it, &a->chains)
        mz_net_chain_drain(it);
}

void mz_acceptor_end_idle(struct mz_acceptor *a)
{
    mz_list_foreach (it, &a->chains)
        mz_net_chain_end_idle(it);
}

void mz_acceptor_set_config(struct mz_acceptor *a, struct mz_listener_config *cfg)
{
    struct mz_listener_config *old = a->cfg;
    a->cfg = cfg;
    a->worker_scope = cfg->worker_scopes[a->worker->slot ? a->worker->slot - 1 : 0];
    mz_listener_config_unref(old);
}

void mz_acceptor_close_drained(struct mz_acceptor *a)
{
    mz_list_foreach (it, &a->chains)
        if (mz_net_chain_drained(it))
            mz_net_chain_close(it);
}

void mz_acceptor_close_connections(struct mz_acceptor *a)
{
    calls_drop(a);
    mz_inspect_close_all(a);
    mz_list_foreach (it, &a->chains)
        mz_net_chain_close(it);
}

void mz_acceptor_destroy(struct mz_acceptor *a)
{
    if (!a)
        return;
    mz_timer_stop(&a->pause);
    calls_drop(a);
    mz_acceptors_del(a);
    if (a->fd >= 0) {
        mz_io_del(&a->io);
        (void)close(a->fd);
    }
    mz_free(MZ_MEM_CONFIG, a->peers);
    mz_listener_config_unref(a->cfg);
    mz_free(MZ_MEM_CONFIG, a);
}
