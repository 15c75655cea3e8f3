#include "control/discovery/server.h"

#include <malloc.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "grpc/server.h"

enum {
    MAX_CONNECTIONS = 20000,
    MAX_REQUEST = 16 << 20, /* names of 100,000 endpoints */
    MAX_QUEUE = 4 << 20,
    KEEPALIVE_MS = 30000,
};

struct mz_discovery {
    struct mz_loop *loop;
    struct mz_grpc_server *server;
    struct mz_translator *translator;
    struct mz_bundles *bundles;
    const struct mz_model *model; /* NULL: none yet */
    struct mz_list streams;
    size_t streams_n;
    uint64_t ids;
    struct mz_peer_counts counts;
    uint64_t triggers[MZ_PUSH__COUNT];
    struct mz_discovery_gate gate;
    struct mz_discovery_watch watch; /* without functions: nobody watches */
    struct mz_timer quiet;           /* since the last message or model */
    struct mz_task ahead;            /* while some are to be asked for more */
    struct mz_list soon;             /* those streams */
    size_t at_rest;                  /* resident bytes when memory was given back */
};
enum { QUIET_MS = 1000, GROWN = 4 << 20 };
struct stream {
    struct mz_list link;
    struct mz_list soon; /* of the server's list, while it will ask for more */
    struct mz_discovery *d;
    struct mz_grpc_serving *call;
    struct mz_peer *peer;
    uint64_t id, connected_us;
    struct mz_discovery_question who; /* texts in the call's arena */
    bool asking, ending;
};

/* ---- one stream ---- */

static bool stream_send(void *arg, struct mz_buf *response)
{
    struct stream *s = arg;
    return s->ending || mz_grpc_serving_send_buf(s->call, response);
}

static void end_stream(struct stream *s, int code, const char *why)
{
    s->ending = true;
    mz_grpc_serving_finish(s->call, code, mz_str_c(why));
}

static void welcome(struct stream *s, bool known)
{
    char from[MZ_ADDR_TEXT];
    mz_addr_text(mz_grpc_serving_peer(s->call), from);
    mz_peer_identify(s->peer, s->who.who.ns, s->who.who.account);
    if (!known) {
        MZ_LOG(WARN, grpc, "xDS stream from %s refused: %s", from, s->who.err.msg);
        end_stream(s, MZ_GRPC_UNAUTHENTICATED, "authentication failure");
    } else if (!s->d->model) { /* nothing to say yet: ask again */
        end_stream(s, MZ_GRPC_UNAVAILABLE, "documents are being read");
    }
    MZ_LOG(DEBUG, grpc, "new xDS stream from %s", from);
}

static void on_known(struct mz_discovery_question *q, bool known)
{
    struct stream *s = MZ_CONTAINER(q, struct stream, who);
    s->asking = false;
    mz_grpc_serving_read_disable(s->call, false);
    if (!s->ending)
        welcome(s, known);
}

/* Who came by TLS must be somebody. */
static void ask_who(struct stream *s, const struct mz_headers *h)
{
    const struct mz_discovery_gate *g = &s->d->gate;
    s->who.done = on_known;
    const enum mz_discovery_known k =
        mz_grpc_serving_tls(s->call)
            ? g->who(g->arg, s->call, h, mz_grpc_serving_arena(s->call), &s->who)
            : MZ_DISCOVERY_KNOWN;
    s->asking = k == MZ_DISCOVERY_LATER;
    if (s->asking)
        mz_grpc_serving_read_disable(s->call, true);
    else
        welcome(s, k == MZ_DISCOVERY_KNOWN);
}

static void *begin(struct mz_discovery *d, struct mz_grpc_serving *c, const struct mz_headers *h,
                   bool delta, enum mz_xds_type only)
{
    struct stream *s = mz_new0(MZ_MEM_XDS, struct stream);
    const struct mz_peer_env env = { .translator = d->translator,
                                     .bundles = d->bundles,
                                     .delta = delta,
                                     .only = only,
                                     .send = stream_send,
                                     .arg = s,
                                     .counts = &d->counts };
    s->d = d;
    s->call = c;
    s->id = ++d->ids;
    s->connected_us = mz_clock->wall_us();
    mz_list_init(&s->soon);
    s->peer = mz_peer_create(&env);
    mz_list_add_tail(&d->streams, &s->link);
    d->streams_n++;
    ask_who(s, h);
    return s;
}

/* Before anything is made for it. A node that cannot be read is told about elsewhere. */
static bool is_own_namespace(const struct stream *s, const ProtobufCMessage *request)
{
    const pb_Node *n = request->descriptor == &pb_DiscoveryRequest__descriptor
                           ? ((const pb_DiscoveryRequest *)request)->node
                           : ((const pb_DeltaDiscoveryRequest *)request)->node;
    struct mz_err err;
    struct mz_proxy *p = n ? mz_proxy_create(n, &err) : NULL;
    const bool ok = !p || mz_str_eq(p->ns, s->who.who.ns);
    if (!ok)
        MZ_LOG(WARN, grpc, "proxy %.*s refused: its certificate or token is of namespace %.*s",
               MZ_STR_ARG(p->id), MZ_STR_ARG(s->who.who.ns));
    mz_proxy_destroy(p);
    return ok;
}

/* True: it was about that, and nothing else. */
static bool is_health(const struct stream *s, const ProtobufCMessage *request)
{
    const bool state = request->descriptor == &pb_DiscoveryRequest__descriptor;
    const pb_DiscoveryRequest *r = (const pb_DiscoveryRequest *)request;
    const pb_DeltaDiscoveryRequest *d = (const pb_DeltaDiscoveryRequest *)request;
    const pb_Status *error = state ? r->error_detail : d->error_detail;
    if (strcmp(state ? r->type_url : d->type_url,
               "type.googleapis.com/istio.v1.HealthInformation") != 0)
        return false;
    if (s->d->watch.health)
        s->d->watch.health(s->d->watch.arg, s->id, !error, mz_str_c(error ? error->message : ""));
    return true;
}

/* One step a turn: whoever asks meanwhile does not wait longer. */
static void on_ahead(struct mz_task *t)
{
    struct mz_discovery *d = MZ_CONTAINER(t, struct mz_discovery, ahead);
    if (mz_list_empty(&d->soon))
        return;
    struct stream *s = MZ_CONTAINER(d->soon.next, struct stream, soon);
    if (s->ending || !mz_peer_ahead(s->peer))
        mz_list_del(&s->soon);
    if (!mz_list_empty(&d->soon))
        mz_task_schedule_next(d->loop, &d->ahead);
}

static void announce(struct stream *s)
{
    const struct mz_discovery_watch *w = &s->d->watch;
    struct mz_err err = { .path = "", .msg = "" };
    if (!w->connected || w->connected(w->arg, s->id, mz_peer_proxy(s->peer), &s->who.who, &err))
        return;
    MZ_LOG(WARN, grpc, "%s", err.msg);
    end_stream(s, MZ_GRPC_FAILED_PRECONDITION, err.msg);
}

static void on_message(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    (void)c;
    struct stream *s = object;
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    if (s->ending)
        return;
    mz_timer_start_ms(&s->d->quiet, QUIET_MS);
    const bool first = !mz_peer_proxy(s->peer);
    if (!first && is_health(s, m->msg))
        return;
    if (first && s->who.who.ns.n && !is_own_namespace(s, m->msg)) {
        end_stream(s, MZ_GRPC_PERMISSION_DENIED,
                   "authorization failed: the proxy is of another namespace");
    } else if (!mz_peer_request(s->peer, m->msg, &err)) {
        mz_err_text(&err, text, sizeof(text));
        MZ_LOG(WARN, grpc, "xDS stream refused: %s", text);
        end_stream(s, MZ_GRPC_INVALID_ARGUMENT, text);
    } else if (first) {
        MZ_LOG(INFO, grpc, "proxy %.*s connected, %zu streams",
               MZ_STR_ARG(mz_peer_proxy(s->peer)->id), s->d->streams_n);
        mz_list_add_tail(&s->d->soon, &s->soon);
        mz_task_schedule_next(s->d->loop, &s->d->ahead);
        announce(s);
    }
}

static void on_half_closed(void *object, struct mz_grpc_serving *c)
{
    struct stream *s = object;
    s->ending = true;
    mz_grpc_serving_finish(c, MZ_GRPC_OK, MZ_STR(""));
}

static void on_writable(void *object, struct mz_grpc_serving *c)
{
    (void)c;
    struct stream *s = object;
    if (!s->ending)
        mz_peer_writable(s->peer);
}

static void on_gone(void *object, struct mz_grpc_serving *c)
{
    (void)c;
    struct stream *s = object;
    if (mz_peer_proxy(s->peer))
        MZ_LOG(INFO, grpc, "proxy %.*s left", MZ_STR_ARG(mz_peer_proxy(s->peer)->id));
    if (s->asking)
        s->d->gate.cancel(s->d->gate.arg, &s->who);
    if (s->d->watch.left)
        s->d->watch.left(s->d->watch.arg, s->id);
    mz_list_del(&s->link);
    mz_list_del(&s->soon);
    s->d->streams_n--;
    mz_peer_destroy(s->peer);
    mz_free(MZ_MEM_XDS, s);
}

/* ---- methods ---- */

#define BEGIN(name, delta, only)                                                                   \
    static void *name(void *arg, struct mz_grpc_serving *c, const struct mz_headers *h)            \
    {                                                                                              \
        return begin(arg, c, h, delta, only);                                                      \
    }
BEGIN(ads, false, MZ_XDS_TYPE__COUNT)
BEGIN(ads_delta, true, MZ_XDS_TYPE__COUNT)
BEGIN(cds, false, MZ_XDS_CLUSTER)
BEGIN(cds_delta, true, MZ_XDS_CLUSTER)
BEGIN(eds, false, MZ_XDS_ENDPOINT)
BEGIN(eds_delta, true, MZ_XDS_ENDPOINT)
BEGIN(lds, false, MZ_XDS_LISTENER)
BEGIN(lds_delta, true, MZ_XDS_LISTENER)
BEGIN(rds, false, MZ_XDS_ROUTE)
BEGIN(rds_delta, true, MZ_XDS_ROUTE)
BEGIN(sds, false, MZ_XDS_SECRET)
BEGIN(sds_delta, true, MZ_XDS_SECRET)

#define METHOD(path, kind, begin_fn)                                                               \
    {                                                                                              \
        .method = { "/envoy.service." path, &pb_##kind##Request__descriptor,                       \
                    &pb_##kind##Response__descriptor },                                            \
        .begin = begin_fn, .message = on_message, .half_closed = on_half_closed,                   \
        .writable = on_writable, .gone = on_gone                                                   \
    }
static const struct mz_grpc_handler handlers[] = {
    METHOD("discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", Discovery, ads),
    METHOD("discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", DeltaDiscovery,
           ads_delta),
    METHOD("cluster.v3.ClusterDiscoveryService/StreamClusters", Discovery, cds),
    METHOD("cluster.v3.ClusterDiscoveryService/DeltaClusters", DeltaDiscovery, cds_delta),
    METHOD("endpoint.v3.EndpointDiscoveryService/StreamEndpoints", Discovery, eds),
    METHOD("endpoint.v3.EndpointDiscoveryService/DeltaEndpoints", DeltaDiscovery, eds_delta),
    METHOD("listener.v3.ListenerDiscoveryService/StreamListeners", Discovery, lds),
    METHOD("listener.v3.ListenerDiscoveryService/DeltaListeners", DeltaDiscovery, lds_delta),
    METHOD("route.v3.RouteDiscoveryService/StreamRoutes", Discovery, rds),
    METHOD("route.v3.RouteDiscoveryService/DeltaRoutes", DeltaDiscovery, rds_delta),
    METHOD("secret.v3.SecretDiscoveryService/StreamSecrets", Discovery, sds),
    METHOD("secret.v3.SecretDiscoveryService/DeltaSecrets", DeltaDiscovery, sds_delta),
};

/* ---- the server ---- */

/* What was packed for many is packed again when somebody comes; what documents were read into is not needed either. */
static void on_quiet(struct mz_timer *t)
{
    struct mz_discovery *d = MZ_CONTAINER(t, struct mz_discovery, quiet);
    mz_bundles_trim(d->bundles, true);
    mz_translator_stop_ahead(d->translator);
    mz_slice_thread_trim();
    if (mz_mem_resident_bytes() < d->at_rest + GROWN)
        return; /* to look through it takes milliseconds */
    (void)malloc_trim(0);
    d->at_rest = mz_mem_resident_bytes();
}

struct mz_discovery *mz_discovery_create(struct mz_loop *l)
{
    const struct mz_grpc_server_opts o = { .max_receive = MAX_REQUEST,
                                           .max_queue = MAX_QUEUE,
                                           .max_connections = MAX_CONNECTIONS,
                                           .keepalive_ms = KEEPALIVE_MS };
    struct mz_discovery *d = mz_new0(MZ_MEM_XDS, struct mz_discovery);
    d->loop = l;
    mz_list_init(&d->streams);
    mz_peer_counts_init(&d->counts);
    mz_timer_init(l, &d->quiet, on_quiet);
    mz_task_init(&d->ahead, on_ahead);
    mz_list_init(&d->soon);
    const struct mz_features f = mz_features_from_env();
    d->translator = mz_translator_create(&f);
    d->bundles = mz_bundles_create(mz_translator_sets(d->translator));
    d->server = mz_grpc_server_create(l, handlers, MZ_COUNT(handlers), d, &o);
    return d;
}

void mz_discovery_destroy(struct mz_discovery *d)
{
    if (!d)
        return;
    mz_timer_stop(&d->quiet);
    mz_task_cancel(&d->ahead);
    mz_grpc_server_destroy(d->server);
    mz_bundles_destroy(d->bundles);
    mz_translator_destroy(d->translator);
    mz_model_unref(d->model);
    mz_free(MZ_MEM_XDS, d);
}

static struct stream *stream_of(struct mz_list *l)
{
    return MZ_CONTAINER(l, struct stream, link);
}

static void count_triggers(struct mz_discovery *d, const struct mz_change *c)
{
    d->triggers[MZ_PUSH_CONFIG] += c->all;
    d->triggers[MZ_PUSH_SERVICE] += c->services && !c->all;
    d->triggers[MZ_PUSH_ENDPOINT] += c->hosts.n && !c->services && !c->all;
    d->triggers[MZ_PUSH_PROXY] += c->workloads.n != 0;
    d->triggers[MZ_PUSH_SECRET] += c->secrets;
}

void mz_discovery_set_model(struct mz_discovery *d, const struct mz_model *m)
{
    struct mz_change c;
    const struct mz_model *before = d->model;
    mz_change_init(&c, before, m);
    count_triggers(d, &c);
    mz_bundles_trim(d->bundles, false); /* what was known of the one before */
    mz_list_foreach (it, &d->streams)
        mz_peer_prepare(stream_of(it)->peer, m);
    d->model = mz_model_ref(m);
    mz_translator_set_model(d->translator, m);
    mz_list_foreach (it, &d->streams)
        mz_peer_renew(stream_of(it)->peer);
    if (!mz_change_none(&c))
        mz_list_foreach (it, &d->streams)
            if (!stream_of(it)->ending)
                mz_peer_push(stream_of(it)->peer, &c);
    mz_change_fini(&c);
    mz_bundles_trim(d->bundles, false);
    mz_model_unref(before);
    mz_timer_start_ms(&d->quiet, QUIET_MS);
}

bool mz_discovery_listen(struct mz_discovery *d, const struct mz_addr *a, struct mz_addr *out_addr,
                         struct mz_err *err)
{
    return mz_grpc_server_listen(d->server, a, NULL, out_addr, err);
}

bool mz_discovery_listen_secure(struct mz_discovery *d, const struct mz_addr *a,
                                const struct mz_transport_factory *f,
                                const struct mz_discovery_gate *g, struct mz_addr *out_addr,
                                struct mz_err *err)
{
    d->gate = *g;
    return mz_grpc_server_listen(d->server, a, f, out_addr, err);
}

void mz_discovery_set_watch(struct mz_discovery *d, const struct mz_discovery_watch *w)
{
    d->watch = *w;
}

struct mz_grpc_server *mz_discovery_server(struct mz_discovery *d)
{
    return d->server;
}

size_t mz_discovery_clients(const struct mz_discovery *d)
{
    return d->streams_n;
}

void mz_discovery_each(struct mz_discovery *d,
                       void (*each)(void *arg, const struct mz_discovery_client *c), void *arg)
{
    mz_list_foreach (it, &d->streams) {
        const struct stream *s = stream_of(it);
        const struct mz_discovery_client c = { s->id, s->connected_us,
                                               mz_grpc_serving_peer(s->call), s->peer };
        if (mz_peer_proxy(s->peer))
            each(arg, &c);
    }
}

void mz_discovery_end(struct mz_discovery *d, uint64_t id)
{
    mz_list_foreach (it, &d->streams) {
        struct stream *s = stream_of(it);
        if (s->id == id && !s->ending)
            end_stream(s, MZ_GRPC_UNAVAILABLE, "disconnected by an operator");
    }
}

const uint64_t *mz_discovery_triggers(const struct mz_discovery *d)
{
    return d->triggers;
}

const struct mz_peer_counts *mz_discovery_counts(const struct mz_discovery *d)
{
    return &d->counts;
}

uint64_t mz_discovery_secrets_refused(const struct mz_discovery *d)
{
    return mz_translator_secrets_refused(d->translator);
}

struct mz_cache_counts mz_discovery_cache(const struct mz_discovery *d)
{
    return mz_translator_counts(d->translator);
}

const struct mz_model *mz_discovery_model(const struct mz_discovery *d)
{
    return d->model;
}
