/* The manager of all listeners (L1), on the main thread: builds, binds, starts, stops, drains, shows. */
#include "listener/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/vec.h"
#include "listener/manager_priv.h"

struct mz_listener_manager *mz_listener_manager_create(const struct mz_factory *f,
                                                       struct mz_worker *workers,
                                                       unsigned n_workers)
{
    struct mz_listener_manager *m = mz_new0(MZ_MEM_CONFIG, struct mz_listener_manager);
    m->stats = f->stats;
    m->scope = mz_scope_create(f->stats, &mz_listener_manager_stats, MZ_STR("listener_manager."));
    m->workers = workers;
    m->n_workers = n_workers;
    m->main = f->main;
    m->drain_ms = f->drain_ms;
    m->drain_at_once = f->drain_at_once;
    mz_list_init(&m->retired);
    return m;
}

void listener_destroy(struct listener *l)
{
    if (!l)
        return;
    listener_updates_end(l);
    for (size_t i = 0; i < l->n_acceptors; i++)
        mz_acceptor_destroy(l->acceptors[i]);
    mz_free(MZ_MEM_CONFIG, l->acceptors);
    mz_listener_config_unref(l->cfg);
    mz_free(MZ_MEM_CONFIG, l);
}

void mz_listener_manager_destroy(struct mz_listener_manager *m)
{
    if (!m)
        return;
    mz_vec_foreach (l, &m->list)
        listener_destroy(*l);
    mz_vec_free(&m->list, MZ_MEM_CONFIG);
    mz_list_foreach (it, &m->retired)
        listener_destroy(MZ_CONTAINER(it, struct listener, link));
    mz_scope_unref(m->scope);
    mz_free(MZ_MEM_CONFIG, m);
}

struct listener *listener_create(struct mz_listener_manager *m, struct mz_listener_config *take)
{
    struct listener *l = mz_new0(MZ_MEM_CONFIG, struct listener);
    l->manager = m;
    l->cfg = take;
    mz_list_init(&l->link);
    mz_list_init(&l->drains);
    return l;
}

/* ---- binding ---- */

static int open_socket(const struct mz_listener_config *c, const struct mz_listen_address *la,
                       const struct mz_addr *at, struct mz_err *err)
{
    const struct mz_listen_opts o = { .backlog = c->backlog,
                                      .reuse_port = c->reuse_port,
                                      .transparent = c->transparent,
                                      .freebind = c->freebind,
                                      .v4_compat = la->v4_compat,
                                      .unix_mode = la->unix_mode,
                                      .opts = &la->opts };
    int fd = mz_socket_listen(at, &o, err);
    if (fd < 0 || !mz_addr_is_ip(at))
        return fd;
    /* Accepted sockets inherit it: one system call less for each. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    int fast_open = (int)c->fast_open;
    if (fast_open &&
        setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &fast_open, sizeof(fast_open)) != 0) {
        mz_err_set(err, "cannot set TCP_FASTOPEN: %s", strerrordesc_np(errno));
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* One socket a worker with SO_REUSEPORT, else descriptors of one socket, of which one waiter is woken. */
static int next_socket(const struct mz_listener_config *c, const struct mz_listen_address *la,
                       struct mz_addr *at, int first, struct mz_err *err)
{
    if (first >= 0 && (!c->reuse_port || !mz_addr_is_ip(at))) {
        int fd = fcntl(first, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            mz_err_set(err, "cannot duplicate the listening socket: %s", strerrordesc_np(errno));
        return fd;
    }
    int fd = open_socket(c, la, at, err);
    if (fd >= 0 && mz_addr_is_ip(at) && mz_addr_port(at) == 0 && !mz_socket_local(fd, at))
        MZ_LOG(WARN, config, "cannot learn the port of a listener: %s", strerrordesc_np(errno));
    return fd;
}

static bool bind_address(struct mz_listener_manager *m, struct listener *l,
                         struct mz_listen_address *la, struct mz_err *err)
{
    int first = -1;
    for (unsigned w = 0; w < m->n_workers; w++) {
        /* Without a socket it takes what others hand over (L3). */
        int fd = l->cfg->bind_to_port ? next_socket(l->cfg, la, &la->addr, first, err) : -1;
        if (fd < 0 && l->cfg->bind_to_port)
            return false;
        if (w == 0)
            first = fd;
        struct mz_acceptor *a = mz_acceptor_create(&m->workers[w], l->cfg, fd, &la->addr);
        a->worker_scope = l->cfg->worker_scopes[w];
        a->process_connections = &m->connections;
        a->v4_compat = la->v4_compat;
        a->exclusive = !l->cfg->reuse_port && m->n_workers > 1;
        l->acceptors[l->n_acceptors++] = a;
    }
    return true;
}

static void link_peers(struct mz_listener_manager *m, struct listener *l)
{
    for (size_t i = 0; i < l->n_acceptors && l->cfg->exact_balance && m->n_workers > 1; i++) {
        struct mz_acceptor *a = l->acceptors[i];
        size_t group = i - i % m->n_workers;
        a->peers = mz_newn0(MZ_MEM_CONFIG, struct mz_acceptor *, m->n_workers - 1);
        for (size_t k = group; k < group + m->n_workers; k++)
            if (k != i)
                a->peers[a->n_peers++] = l->acceptors[k];
    }
}

bool listener_bind(struct mz_listener_manager *m, struct listener *l, struct mz_err *err)
{
    l->acceptors =
        mz_newn0(MZ_MEM_CONFIG, struct mz_acceptor *, mz_mul(l->cfg->n_addrs, m->n_workers));
    for (size_t i = 0; i < l->cfg->n_addrs; i++)
        if (!bind_address(m, l, &l->cfg->addrs[i], err))
            return false;
    link_peers(m, l);
    return true;
}

/* ---- adding ---- */

static bool has_address(const struct mz_listener_config *c, const struct mz_addr *a)
{
    for (size_t i = 0; i < c->n_addrs; i++)
        if (mz_addr_eq(&c->addrs[i].addr, a))
            return true;
    return false;
}

bool listener_address_free(const struct mz_listener_manager *m, const struct mz_listener_config *c,
                           struct mz_err *err)
{
    char text[MZ_ADDR_TEXT];
    for (size_t i = 0; i < m->list.n; i++) {
        const struct listener *l = m->list.v[i];
        if (l->internal || !l->cfg || mz_str_eq(l->cfg->name, c->name))
            continue;
        for (size_t k = 0; k < c->n_addrs; k++) {
            const struct mz_addr *a = &c->addrs[k].addr;
            bool any_port = mz_addr_is_ip(a) && mz_addr_port(a) == 0 && l->cfg->bind_to_port;
            if (any_port || !has_address(l->cfg, a))
                continue;
            mz_addr_text(a, text);
            return mz_err_set(err,
                              "error adding listener: '" MZ_STR_FMT
                              "' has duplicate address '%s' as existing listener '" MZ_STR_FMT "'",
                              MZ_STR_ARG(c->name), text, MZ_STR_ARG(l->cfg->name));
        }
    }
    return true;
}

/* Of two listeners with one name the later replaces the earlier, as in Envoy. */
void listener_drop_named(struct mz_listener_manager *m, struct mz_str name)
{
    for (size_t i = 0; i < m->list.n; i++) {
        struct listener *l = m->list.v[i];
        if (l->internal || !l->cfg || !mz_str_eq(l->cfg->name, name))
            continue;
        listener_destroy(l);
        memmove(&m->list.v[i], &m->list.v[i + 1], (m->list.n - i - 1) * sizeof(*m->list.v));
        m->list.n--;
        return;
    }
}

bool mz_listener_manager_add(struct mz_listener_manager *m,
                             const struct Envoy__Config__Listener__V3__Listener *msg,
                             struct mz_str bytes, bool via_api, bool bind,
                             const struct mz_factory *f, struct mz_err *err)
{
    struct mz_factory mine = *f;
    mine.via_api = via_api;
    struct mz_listener_config *c =
        mz_listener_config_create(msg, bytes, &mine, m->n_workers, NULL, err);
    struct listener *l = listener_create(m, c);
    if (!c || !listener_address_free(m, c, err))
        goto fail;
    listener_drop_named(m, c->name);
    if (bind && !listener_bind(m, l, err))
        goto fail;
    *mz_vec_push(&m->list, MZ_MEM_CONFIG) = l;
    mz_count(m->scope, MZ_LM_STAT_ADDED, 1);
    return true;
fail:
    mz_count(m->scope, MZ_LM_STAT_CREATE_FAILURE, 1);
    listener_destroy(l);
    return false;
}

/* ---- the admin address ---- */

static struct mz_listener_config *internal_config(struct mz_listener_manager *m, struct mz_str name,
                                                  const struct mz_addr *addr,
                                                  const struct mz_net_filter_type *type,
                                                  const void *cfg)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_listener_config *c = mz_arena_new0(a, struct mz_listener_config);
    struct mz_filter_chain *fc = mz_arena_new0(a, struct mz_filter_chain);
    fc->refs = 1;
    fc->filters = mz_arena_new0(a, struct mz_chain_filter);
    fc->filters[0] = (struct mz_chain_filter){ .type = type,
                                               .cfg = (void *)(uintptr_t)cfg,
                                               .name = mz_str_c(type->name) };
    fc->n_filters = 1;
    fc->objects_bytes = (type->size + 15) & ~(size_t)15;
    fc->transport = mz_transport_factory_raw();
    fc->borrowed_cfg = true;
    *c = (struct mz_listener_config){ .refs = 1,
                                      .arena = a,
                                      .name = mz_arena_dup(a, name),
                                      .n_addrs = 1,
                                      .n_chains = 1,
                                      .default_chain = fc,
                                      .buffer_limit = 1024 * 1024,
                                      .max_accept = 16,
                                      .bind_to_port = true,
                                      .ignore_global_limit = true,
                                      .modify_only_drain = true,
                                      .n_workers = 1 };
    c->chains = mz_arena_new0(a, struct mz_filter_chain *);
    c->chains[0] = fc;
    c->addrs = mz_arena_new0(a, struct mz_listen_address);
    c->addrs[0].addr = *addr;
    c->limit_key = MZ_STR("envoy.resource_limits.listener.admin.connection_limit");
    struct mz_str prefix = mz_arena_printf(a, "listener." MZ_STR_FMT ".", MZ_STR_ARG(name));
    c->scope = mz_scope_create(m->stats, &mz_listener_admin_stats, prefix);
    c->worker_scopes = mz_arena_new0(a, struct mz_scope *);
    c->worker_scopes[0] =
        mz_scope_create(m->stats, &mz_listener_worker_stats,
                        mz_arena_printf(a, MZ_STR_FMT "main_thread.", MZ_STR_ARG(prefix)));
    return c;
}

bool mz_listener_manager_add_internal(struct mz_listener_manager *m, struct mz_str name,
                                      const struct mz_addr *a,
                                      const struct mz_net_filter_type *type, const void *cfg,
                                      struct mz_worker *main_worker, struct mz_err *err)
{
    struct listener *l = listener_create(m, internal_config(m, name, a, type, cfg));
    l->internal = true;
    int fd = next_socket(l->cfg, &l->cfg->addrs[0], &l->cfg->addrs[0].addr, -1, err);
    if (fd < 0) {
        listener_destroy(l);
        return false;
    }
    l->acceptors = mz_newn0(MZ_MEM_CONFIG, struct mz_acceptor *, 1);
    l->acceptors[0] = mz_acceptor_create(main_worker, l->cfg, fd, &l->cfg->addrs[0].addr);
    l->acceptors[0]->worker_scope = l->cfg->worker_scopes[0];
    l->acceptors[0]->process_connections = &m->internal_connections;
    l->n_acceptors = 1;
    mz_acceptor_start(l->acceptors[0]);
    *mz_vec_push(&m->list, MZ_MEM_CONFIG) = l;
    return true;
}

/* ---- start, stop, drain ---- */

static void start_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_start(arg);
}

static void put_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptors_put(arg);
}

static void stop_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_stop(arg);
}

static void drain_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_drain(arg);
}

static void end_idle_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_end_idle(arg);
}

static void close_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    mz_acceptor_stop(arg);
    mz_acceptor_close_connections(arg);
}

void listener_post(const struct listener *l, mz_post_fn *fn)
{
    for (size_t i = 0; i < l->n_acceptors; i++)
        mz_loop_post(l->acceptors[i]->worker->loop, fn, l->acceptors[i]);
}

void listener_start(struct listener *l)
{
    struct mz_listener_manager *m = l->manager;
    mz_gauge_add(m->scope, MZ_LM_STAT_TOTAL_ACTIVE, 1);
    mz_count(m->scope, MZ_LM_STAT_CREATE_SUCCESS, m->n_workers);
    listener_post(l, start_posted);
}

void mz_listener_manager_start(struct mz_listener_manager *m)
{
    m->started = true;
    mz_gauge_set(m->scope, MZ_LM_STAT_WORKERS_STARTED, 1);
    mz_vec_foreach (it, &m->list) /* before any of them accepts what is another's (L3) */
        if (!(*it)->internal && (*it)->cfg)
            listener_post(*it, put_posted);
    mz_vec_foreach (it, &m->list) {
        struct listener *l = *it;
        if (!l->internal && l->cfg)
            listener_start(l);
    }
}

static bool in_scope(const struct listener *l, enum mz_drain_scope s)
{
    enum { INBOUND = 1 };
    return !l->internal && l->cfg && (s == MZ_DRAIN_ALL || l->cfg->traffic_direction == INBOUND);
}

void mz_listener_manager_stop(struct mz_listener_manager *m, enum mz_drain_scope s)
{
    m->stopped_inbound = true;
    m->stopped_all |= s == MZ_DRAIN_ALL;
    mz_vec_foreach (it, &m->list) {
        struct listener *l = *it;
        if (!in_scope(l, s) || l->stopped)
            continue;
        l->stopped = true;
        mz_count(m->scope, MZ_LM_STAT_STOPPED, 1);
        listener_post(l, stop_posted);
    }
}

void mz_listener_manager_drain(struct mz_listener_manager *m, enum mz_drain_scope s)
{
    mz_vec_foreach (it, &m->list)
        if (in_scope(*it, s))
            listener_post(*it, drain_posted);
}

void mz_listener_manager_end_idle(struct mz_listener_manager *m)
{
    mz_vec_foreach (it, &m->list)
        listener_post(*it, end_idle_posted);
    mz_list_foreach (it, &m->retired)
        listener_post(MZ_CONTAINER(it, struct listener, link), end_idle_posted);
}

/* ---- the end: every worker closes what it has, then main is told ---- */

struct closing {
    struct mz_loop *main;
    unsigned waiting; /* atomic */
    void (*done)(void *arg);
    void *arg;
};

static void closed_on_main(struct mz_loop *l, void *arg)
{
    (void)l;
    struct closing *c = arg;
    void (*done)(void *) = c->done;
    void *done_arg = c->arg;
    mz_free(MZ_MEM_CONFIG, c);
    done(done_arg);
}

static void closed_on_worker(struct mz_loop *l, void *arg)
{
    (void)l;
    struct closing *c = arg;
    if (__atomic_sub_fetch(&c->waiting, 1, __ATOMIC_ACQ_REL) == 0)
        mz_loop_post(c->main, closed_on_main, c);
}

void mz_listener_manager_end_internal(struct mz_listener_manager *m)
{
    mz_vec_foreach (it, &m->list) {
        struct listener *l = *it;
        for (size_t i = 0; l->internal && i < l->n_acceptors; i++) {
            mz_acceptor_stop(l->acceptors[i]);
            mz_acceptor_stop(l->acceptors[i]); /* at once */
            mz_acceptor_close_connections(l->acceptors[i]);
        }
    }
}

void mz_listener_manager_close_all(struct mz_listener_manager *m, struct mz_loop *main_loop,
                                   void (*done)(void *arg), void *arg)
{
    struct closing *c = mz_new0(MZ_MEM_CONFIG, struct closing);
    m->closing = true;
    *c = (struct closing){ main_loop, m->n_workers + 1, done, arg };
    for (size_t i = 0; i < m->list.n;
         i++) /* an internal listener's loop is this thread's: its post runs here */
        listener_post(m->list.v[i], close_posted);
    mz_list_foreach (it, &m->retired)
        listener_post(MZ_CONTAINER(it, struct listener, link), close_posted);
    for (unsigned w = 0; w < m->n_workers; w++)
        mz_loop_post(m->workers[w].loop, closed_on_worker, c); /* behind what was posted above */
    closed_on_worker(NULL, c);
}

uint64_t mz_listener_manager_connections(const struct mz_listener_manager *m)
{
    int64_t n = __atomic_load_n(&m->connections, __ATOMIC_RELAXED);
    return n > 0 ? (uint64_t)n : 0;
}

/* ---- showing ---- */

void mz_listener_manager_text(struct mz_listener_manager *m, struct mz_buf *out)
{
    char text[MZ_ADDR_TEXT];
    mz_vec_foreach (it, &m->list) {
        const struct mz_listener_config *c = (*it)->cfg;
        if ((*it)->internal || !c)
            continue;
        mz_buf_append_str(out, c->name);
        mz_buf_append(out, "::", 2);
        for (size_t i = 0; i < c->n_addrs; i++) {
            size_t n = mz_addr_text(&c->addrs[i].addr, text);
            if (i)
                mz_buf_append(out, ",", 1);
            mz_buf_append(out, text, n);
        }
        mz_buf_append(out, "\n", 1);
    }
}

static void json_string(struct mz_buf *out, struct mz_str s)
{
    mz_buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        if (ch == '"' || ch == '\\')
            mz_buf_append(out, "\\", 1);
        if (ch < 0x20)
            mz_buf_printf(out, "\\u%04x", ch);
        else
            mz_buf_append(out, &s.p[i], 1);
    }
    mz_buf_append(out, "\"", 1);
}

static void json_address(struct mz_buf *out, const struct mz_addr *a, const char *indent)
{
    char text[MZ_ADDR_TEXT];
    size_t n = mz_addr_ip_text(a, text);
    mz_buf_printf(out, "{\n%s \"%s\": {\n%s  \"%s\": ", indent,
                  mz_addr_is_ip(a) ? "socket_address" : "pipe", indent,
                  mz_addr_is_ip(a) ? "address" : "path");
    json_string(out, (struct mz_str){ text, n });
    if (mz_addr_is_ip(a))
        mz_buf_printf(out, ",\n%s  \"port_value\": %u", indent, mz_addr_port(a));
    mz_buf_printf(out, "\n%s }\n%s}", indent, indent);
}

void mz_listener_manager_json(struct mz_listener_manager *m, struct mz_buf *out)
{
    const char *sep = "";
    mz_buf_printf(out, "{\n \"listener_statuses\": [");
    mz_vec_foreach (it, &m->list) {
        const struct mz_listener_config *c = (*it)->cfg;
        if ((*it)->internal || !c)
            continue;
        mz_buf_printf(out, "%s\n  {\n   \"name\": ", sep);
        json_string(out, c->name);
        mz_buf_printf(out, ",\n   \"local_address\": ");
        json_address(out, &c->addrs[0].addr, "   ");
        for (size_t i = 1; i < c->n_addrs; i++) {
            mz_buf_printf(out,
                          i == 1 ? ",\n   \"additional_local_addresses\": [\n    " : ",\n    ");
            json_address(out, &c->addrs[i].addr, "    ");
        }
        mz_buf_printf(out, c->n_addrs > 1 ? "\n   ]\n  }" : "\n  }");
        sep = ",";
    }
    mz_buf_printf(out, "\n ]\n}\n");
}

void mz_listener_manager_each(struct mz_listener_manager *m,
                              void (*fn)(void *arg, const struct mz_listener_shown *l), void *arg)
{
    mz_vec_foreach (it, &m->list) {
        const struct listener *l = *it;
        if (l->internal)
            continue;
        const struct mz_listener_config *w = listener_warming(l);
        const struct mz_listener_shown shown = {
            .name = l->cfg ? l->cfg->name : w->name,
            .via_api = l->cfg ? l->cfg->via_api : true,
            .active = listener_state(l->cfg),
            .warming = listener_state(w),
        };
        fn(arg, &shown);
    }
    for (struct mz_list *n = m->retired.next; n != &m->retired; n = n->next) {
        const struct mz_listener_config *c = MZ_CONTAINER(n, struct listener, link)->cfg;
        const struct mz_listener_shown shown = { .name = c->name,
                                                 .via_api = c->via_api,
                                                 .draining = listener_state(c) };
        fn(arg, &shown);
    }
}
