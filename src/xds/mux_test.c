/* The xDS protocol without a network (X2, X4): what is asked, what is answered, what a new stream begins with. */
#include "base/clock.h"
#include "base/test.h"
#include "base/vec.h"
#include "xds/mux_priv.h"
#include <stdio.h>

static uint64_t now_us = 1000000000;
static uint64_t fake_now(void)
{
    return now_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_xds *xds;
static struct mz_xds_mux *mux;
static struct mz_rand rnd;
static struct mz_arena *arena;
static unsigned opened, closed;
static bool full;
static const char *method;
static MZ_VEC(struct mz_str) sent; /* in the arena */
static size_t looked;              /* of sent */

static void *rig_open(void *arg, struct mz_xds_mux *m, const char *how)
{
    (void)m;
    method = how;
    opened++;
    return arg;
}

static bool rig_send(void *stream, struct mz_str request)
{
    (void)stream;
    if (full)
        return false;
    *mz_vec_push(&sent, MZ_MEM_XDS) = mz_arena_dup(arena, request);
    return true;
}

static void rig_close(void *stream)
{
    (void)stream;
    closed++;
}

static void pass_ms(uint64_t ms)
{
    now_us += ms * 1000;
    for (unsigned i = 0; i < 3; i++)
        mz_loop_turn(loop, 0);
}

static void rig(bool delta, bool ads, enum mz_xds_type type)
{
    mz_clock = &fake_clock;
    loop = mz_loop_create("test");
    stats = mz_stats_create(1);
    arena = mz_arena_create(MZ_MEM_XDS);
    const struct mz_xds_env env = { .main = loop, .stats = stats };
    xds = mz_xds_create(&env);
    mz_rand_init(&rnd, 7);
    const struct mz_xds_mux_opts o = {
        .delta = delta, .ads = ads, .type = type, .node = MZ_STR("\012\001n"), .rand = &rnd
    };
    const struct mz_xds_transport t = { rig_open, rig_send, rig_close, &opened };
    mux = mz_xds_mux_create(xds, &o, &t);
    opened = closed = 0;
    looked = 0;
    full = false;
}

static void rig_stop(void)
{
    mz_xds_mux_destroy(mux);
    mz_xds_destroy(xds);
    pass_ms(0);
    mz_vec_free(&sent, MZ_MEM_XDS);
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
    mz_arena_destroy(arena);
    mz_clock = &mz_clock_system;
}

static const ProtobufCMessage *open_as(const ProtobufCMessageDescriptor *d, struct mz_str bytes)
{
    struct mz_proto_ctx ctx = { .arena = arena };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    assert_true(mz_msg_unpack(&ctx, bytes, d, &m, &err));
    return m;
}

static size_t unlooked(void)
{
    return sent.n - looked;
}

static const pb_DiscoveryRequest *next_request(void)
{
    assert_true(looked < sent.n);
    return (const pb_DiscoveryRequest *)open_as(&pb_DiscoveryRequest__descriptor, sent.v[looked++]);
}

static const pb_DeltaDiscoveryRequest *next_delta(void)
{
    assert_true(looked < sent.n);
    return (const pb_DeltaDiscoveryRequest *)open_as(&pb_DeltaDiscoveryRequest__descriptor,
                                                     sent.v[looked++]);
}

/* ---- a subscriber ---- */

struct user {
    unsigned updates, removed, disconnects, refusals;
    size_t n;
    char names[200], version[32];
    bool refuse, end;
    struct mz_xds_watch *watch;
    struct mz_resource known;
};

static bool on_update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct user *s = arg;
    s->updates++;
    s->n = u->n;
    s->removed += (unsigned)u->n_removed;
    size_t at = 0;
    s->names[0] = 0;
    for (size_t i = 0; i < u->n && at < sizeof(s->names); i++)
        at += (size_t)snprintf(s->names + at, sizeof(s->names) - at, MZ_STR_FMT " ",
                               MZ_STR_ARG(u->v[i].name));
    snprintf(s->version, sizeof(s->version), MZ_STR_FMT, MZ_STR_ARG(u->version));
    if (s->end) {
        mz_xds_watch_end(s->watch);
        s->watch = NULL;
    }
    return !s->refuse || mz_err_set(err, "not good") || mz_err_at(err, "some.field");
}

static void on_disconnected(void *arg)
{
    ((struct user *)arg)->disconnects++;
}

static void on_refused(void *arg)
{
    ((struct user *)arg)->refusals++;
}

static bool on_current(void *arg, struct mz_resource *out)
{
    struct user *s = arg;
    *out = s->known;
    return s->known.bytes.n != 0;
}

static const struct mz_xds_watch_ops user_ops = { on_update, on_disconnected, on_refused,
                                                  on_current, false };

static void watch(struct user *u, enum mz_xds_type t, const char *name)
{
    u->watch = mz_xds_mux_watch(mux, t, mz_str_c(name), &user_ops, u);
}

/* ---- a server ---- */

static pb_Any *assignment(const char *name)
{
    pb_ClusterLoadAssignment m = pb_ClusterLoadAssignment__INIT;
    m.cluster_name = (char *)(uintptr_t)name;
    return mz_any_pack(&m.base, arena);
}

static pb_Any *cluster(const char *name)
{
    pb_Cluster m = pb_Cluster__INIT;
    m.name = (char *)(uintptr_t)name;
    return mz_any_pack(&m.base, arena);
}

static void answer(const char *type, const char *version, const char *nonce, pb_Any **v, size_t n)
{
    pb_DiscoveryResponse m = pb_DiscoveryResponse__INIT;
    m.type_url = (char *)(uintptr_t)type;
    m.version_info = (char *)(uintptr_t)version;
    m.nonce = (char *)(uintptr_t)nonce;
    m.resources = v;
    m.n_resources = n;
    mz_xds_mux_received(mux, mz_msg_pack_alloc(&m.base, arena));
}

#define CDS  "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define VHDS "type.googleapis.com/envoy.config.route.v3.VirtualHost"
#define EDS  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

static pb_Resource *resource(const char *name, const char *version, pb_Any *any)
{
    pb_Resource *r = mz_arena_alloc(arena, sizeof(*r));
    *r = (pb_Resource)pb_Resource__INIT;
    r->name = (char *)(uintptr_t)name;
    r->version = (char *)(uintptr_t)version;
    r->resource = any;
    return r;
}

static void answer_delta(const char *type, const char *nonce, pb_Resource **v, size_t n,
                         char **gone, size_t n_gone)
{
    pb_DeltaDiscoveryResponse m = pb_DeltaDiscoveryResponse__INIT;
    m.type_url = (char *)(uintptr_t)type;
    m.nonce = (char *)(uintptr_t)nonce;
    m.resources = v;
    m.n_resources = n;
    m.removed_resources = gone;
    m.n_removed_resources = n_gone;
    mz_xds_mux_received(mux, mz_msg_pack_alloc(&m.base, arena));
}

/* ---- state of the world ---- */

static void test_ack_and_nack(void **state)
{
    (void)state;
    struct user u = { .refuse = false };
    rig(false, true, MZ_XDS_CLUSTER);
    watch(&u, MZ_XDS_CLUSTER, "");
    assert_int_equal(unlooked(), 0); /* nothing leaves before the stream */
    mz_xds_mux_start(mux);
    assert_true(strstr(method, "/StreamAggregatedResources"));
    const pb_DiscoveryRequest *rq = next_request();
    assert_string_equal(rq->type_url, CDS);
    assert_string_equal(rq->version_info, "");
    assert_int_equal(rq->n_resource_names, 0);
    assert_string_equal(rq->node->id, "n");
    pb_Any *two[] = { cluster("a"), cluster("b") };
    answer(CDS, "1", "x", two, 2);
    assert_string_equal(u.names, "a b ");
    rq = next_request();
    assert_string_equal(rq->version_info, "1");
    assert_string_equal(rq->response_nonce, "x");
    assert_null(rq->error_detail);
    u.refuse = true;
    answer(CDS, "2", "y", two, 2);
    rq = next_request();
    assert_string_equal(rq->version_info, "1"); /* of the last good one */
    assert_string_equal(rq->response_nonce, "y");
    assert_int_equal(rq->error_detail->code, 13);
    assert_string_equal(rq->error_detail->message, "some.field: not good");
    u.refuse = false;
    answer(CDS, "3", "z", NULL, 0); /* nothing is left */
    assert_int_equal(u.n, 0);
    assert_int_equal(u.updates, 3);
    rq = next_request();
    assert_string_equal(rq->version_info, "3");
    assert_null(rq->error_detail);
    mz_xds_watch_end(u.watch);
    rig_stop();
}

static void test_names_go_in_one_request(void **state)
{
    (void)state;
    struct user u[3] = { { .n = 0 } };
    static const char *const names[] = { "a", "b", "c" };
    rig(false, false, MZ_XDS_ENDPOINT);
    mz_xds_mux_start(mux);
    assert_true(strstr(method, "EndpointDiscoveryService/StreamEndpoints"));
    for (unsigned i = 0; i < 3; i++)
        watch(&u[i], MZ_XDS_ENDPOINT, names[i]);
    pass_ms(0);
    assert_int_equal(unlooked(), 1);
    assert_int_equal(next_request()->n_resource_names, 3);
    pb_Any *one[] = { assignment("b") };
    answer(EDS, "1", "x", one, 1);
    assert_int_equal(u[1].updates, 1);
    assert_int_equal(u[0].updates + u[2].updates, 0); /* who is not in it keeps what it has */
    assert_int_equal(next_request()->n_resource_names, 3);
    mz_xds_watch_end(u[0].watch);
    mz_xds_watch_end(u[2].watch);
    pass_ms(0);
    assert_int_equal(unlooked(), 1);
    const pb_DiscoveryRequest *rq = next_request();
    assert_int_equal(rq->n_resource_names, 1);
    assert_string_equal(rq->resource_names[0], "b");
    assert_string_equal(rq->response_nonce, "x");
    mz_xds_watch_end(u[1].watch);
    rig_stop();
}

static void test_what_is_refused_whole(void **state)
{
    (void)state;
    struct user u = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    watch(&u, MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    (void)next_request();
    pb_Any *mixed[] = { cluster("a"), assignment("b") };
    answer(CDS, "1", "x", mixed, 2);
    const pb_DiscoveryRequest *rq = next_request();
    assert_true(strstr(rq->error_detail->message, "resources[1]"));
    assert_int_equal(u.updates, 0);
    assert_int_equal(u.refusals, 1);
    answer("type.googleapis.com/no.such.Type", "1", "y", NULL, 0); /* of nobody's: no answer */
    mz_xds_mux_received(mux, MZ_STR("\377\377\377"));
    assert_int_equal(unlooked(), 0);
    mz_xds_watch_end(u.watch);
    rig_stop();
}

static void test_a_stream_ends(void **state)
{
    (void)state;
    struct user u = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    pb_Any *one[] = { cluster("a") };
    watch(&u, MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    answer(CDS, "1", "x", one, 1);
    looked = sent.n;
    uint64_t connected = 0;
    assert_true(mz_stats_find(stats, MZ_STR("control_plane.connected_state"), &connected));
    assert_int_equal(connected, 1);
    uint64_t bound = 500;
    for (unsigned i = 0; i < 9; i++) {
        mz_xds_mux_closed(mux, 14, MZ_STR("gone"));
        assert_int_equal(u.disconnects, i + 1);
        assert_int_equal(opened, i + 1);
        pass_ms(bound + 1);
        assert_int_equal(opened, i + 2); /* within the bound, whatever the jitter */
        bound = bound < 15000 ? bound * 2 : 30000;
        const pb_DiscoveryRequest *rq = next_request();
        assert_string_equal(rq->version_info, "1");  /* goes along; */
        assert_string_equal(rq->response_nonce, ""); /* this does not */
        assert_string_equal(rq->node->id, "n");
    }
    (void)mz_stats_find(stats, MZ_STR("control_plane.connected_state"), &connected);
    assert_int_equal(connected, 0);
    assert_int_equal(u.updates, 1);
    mz_xds_watch_end(u.watch);
    rig_stop();
    assert_int_equal(closed, 1);
}

static void test_no_room_to_send(void **state)
{
    (void)state;
    struct user u = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    pb_Any *one[] = { cluster("a") };
    watch(&u, MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    (void)next_request();
    full = true;
    answer(CDS, "1", "x", one, 1);
    answer(CDS, "2", "y", one, 1);
    assert_int_equal(unlooked(), 0);
    full = false;
    mz_xds_mux_writable(mux);
    const pb_DiscoveryRequest *rq = next_request();
    assert_string_equal(rq->response_nonce, "y");
    assert_string_equal(rq->version_info, "2");
    mz_xds_watch_end(u.watch);
    rig_stop();
}

static void test_a_watch_ends_inside(void **state)
{
    (void)state;
    struct user a = { .end = true }, b = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    pb_Any *one[] = { assignment("x") };
    watch(&a, MZ_XDS_ENDPOINT, "x");
    watch(&b, MZ_XDS_ENDPOINT, "x");
    mz_xds_mux_start(mux);
    answer(EDS, "1", "n", one, 1);
    assert_int_equal(a.updates, 1);
    assert_null(a.watch);
    answer(EDS, "2", "n", one, 1);
    assert_true(b.updates >= 1);
    assert_int_equal(a.updates, 1);
    mz_xds_watch_end(b.watch);
    rig_stop();
}

static void test_who_comes_later_gets_it_from_the_other(void **state)
{
    (void)state;
    struct user a = { .n = 0 }, b = { .n = 0 };
    struct mz_resource r;
    rig(false, true, MZ_XDS_CLUSTER);
    mz_xds_mux_start(mux);
    watch(&a, MZ_XDS_ENDPOINT, "x");
    pass_ms(0);
    looked = sent.n;
    a.known = (struct mz_resource){ MZ_STR("x"), MZ_STR("7"), MZ_STR("bytes") };
    watch(&b, MZ_XDS_ENDPOINT, "x");
    assert_true(mz_xds_watch_known(b.watch, &r));
    assert_int_equal(r.bytes.n, 5);
    pass_ms(0);
    assert_int_equal(unlooked(), 0); /* the server is not asked */
    mz_xds_watch_end(a.watch);
    mz_xds_watch_end(b.watch);
    rig_stop();
}

/* A server answers names that it did not know of before: a name that is wanted afresh is left out of one request first. */
static void test_a_name_is_asked_anew(void **state)
{
    (void)state;
    struct user a = { .n = 0 }, b = { .n = 0 }, c = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    mz_xds_mux_start(mux);
    watch(&a, MZ_XDS_ENDPOINT, "x");
    watch(&b, MZ_XDS_ENDPOINT, "y");
    mz_xds_watch_end(a.watch); /* of what no request named yet */
    watch(&a, MZ_XDS_ENDPOINT, "x");
    pass_ms(0);
    assert_int_equal(unlooked(), 1);
    assert_int_equal(next_request()->n_resource_names, 2);
    mz_xds_watch_end(a.watch);
    watch(&a, MZ_XDS_ENDPOINT, "x"); /* in the same turn */
    watch(&c, MZ_XDS_ENDPOINT, "y"); /* b cannot say what it has */
    pass_ms(0);
    static const size_t n[] = { 1, 1, 2 };
    static const char *const first[] = { "y", "x" };
    assert_int_equal(unlooked(), 3);
    for (size_t i = 0; i < MZ_COUNT(n); i++) {
        const pb_DiscoveryRequest *rq = next_request();
        assert_int_equal(rq->n_resource_names, n[i]);
        if (n[i] == 1)
            assert_string_equal(rq->resource_names[0], first[i]);
    }
    mz_xds_watch_end(a.watch);
    mz_xds_watch_end(b.watch);
    mz_xds_watch_end(c.watch);
    pass_ms(0);
    assert_int_equal(next_request()->n_resource_names, 0);
    rig_stop();
}

static void test_time_to_live(void **state)
{
    (void)state;
    struct user u = { .n = 0 };
    rig(false, true, MZ_XDS_CLUSTER);
    watch(&u, MZ_XDS_ENDPOINT, "x");
    mz_xds_mux_start(mux);
    pb_Duration ttl = pb_Duration__INIT;
    ttl.seconds = 2;
    pb_Resource *r = resource("x", "1", assignment("x"));
    r->ttl = &ttl;
    pb_Any *wrapped[] = { mz_any_pack(&r->base, arena) };
    answer(EDS, "1", "n", wrapped, 1);
    assert_int_equal(u.n, 1);
    pass_ms(1500);
    r->resource = NULL; /* a heartbeat */
    pb_Any *beat[] = { mz_any_pack(&r->base, arena) };
    answer(EDS, "1", "n", beat, 1);
    assert_int_equal(u.updates, 1);
    pass_ms(1500);
    assert_int_equal(u.removed, 0);
    pass_ms(1000);
    assert_int_equal(u.removed, 1);
    mz_xds_watch_end(u.watch);
    rig_stop();
}

/* ---- delta ---- */

static void test_delta(void **state)
{
    (void)state;
    struct user all = { .n = 0 };
    rig(true, true, MZ_XDS_CLUSTER);
    watch(&all, MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    assert_true(strstr(method, "/DeltaAggregatedResources"));
    const pb_DeltaDiscoveryRequest *rq = next_delta();
    assert_string_equal(rq->node->id, "n");
    assert_int_equal(rq->n_resource_names_subscribe, 0); /* everything */
    assert_int_equal(rq->n_initial_resource_versions, 0);
    pb_Resource *two[] = { resource("a", "1", cluster("a")), resource("b", "1", cluster("b")) };
    answer_delta(CDS, "x", two, 2, NULL, 0);
    assert_string_equal(all.names, "a b ");
    rq = next_delta();
    assert_string_equal(rq->response_nonce, "x");
    assert_null(rq->node);
    char gone_name[] = "a", *gone[] = { gone_name };
    answer_delta(CDS, "y", NULL, 0, gone, 1);
    assert_int_equal(all.removed, 1);
    (void)next_delta();
    all.refuse = true;
    pb_Resource *bad[] = { resource("c", "1", cluster("c")) };
    answer_delta(CDS, "z", bad, 1, NULL, 0);
    rq = next_delta();
    assert_string_equal(rq->error_detail->message, "some.field: not good");
    all.refuse = false;
    mz_xds_mux_closed(mux, 14, MZ_STR(""));
    pass_ms(501);
    rq = next_delta();
    assert_int_equal(rq->n_initial_resource_versions,
                     1); /* neither what went nor what was refused */
    assert_string_equal(rq->initial_resource_versions[0]->key, "b");
    assert_string_equal(rq->initial_resource_versions[0]->value, "1");
    assert_string_equal(rq->response_nonce, "");
    mz_xds_watch_end(all.watch);
    rig_stop();
}

static void test_delta_names(void **state)
{
    (void)state;
    struct user u[3] = { { .n = 0 } };
    rig(true, false, MZ_XDS_ENDPOINT);
    mz_xds_mux_start(mux);
    watch(&u[0], MZ_XDS_ENDPOINT, "a");
    watch(&u[1], MZ_XDS_ENDPOINT, "b");
    pass_ms(0);
    const pb_DeltaDiscoveryRequest *rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 2);
    watch(&u[2], MZ_XDS_ENDPOINT, "c");
    mz_xds_watch_end(u[0].watch);
    pass_ms(0);
    assert_int_equal(unlooked(), 1);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 1);
    assert_string_equal(rq->resource_names_subscribe[0], "c");
    assert_int_equal(rq->n_resource_names_unsubscribe, 1);
    assert_string_equal(rq->resource_names_unsubscribe[0], "a");
    pb_Resource *one[] = { resource("b", "5", assignment("b")) };
    answer_delta(EDS, "x", one, 1, NULL, 0);
    assert_int_equal(u[1].updates, 1);
    assert_int_equal(u[2].updates, 0);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe + rq->n_resource_names_unsubscribe, 0);
    mz_xds_mux_closed(mux, 14, MZ_STR(""));
    pass_ms(501);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 2);
    assert_int_equal(rq->n_initial_resource_versions, 1);
    mz_xds_watch_end(u[1].watch);
    mz_xds_watch_end(u[2].watch);
    rig_stop();
}

/* What was kept of it has gone with the watch that ended: the server has to send it again. */
static void test_delta_a_name_is_asked_anew(void **state)
{
    (void)state;
    struct user a = { .n = 0 };
    rig(true, true, MZ_XDS_CLUSTER);
    mz_xds_mux_start(mux);
    watch(&a, MZ_XDS_ENDPOINT, "x");
    pass_ms(0);
    pb_Resource *one[] = { resource("x", "5", assignment("x")) };
    answer_delta(EDS, "1", one, 1, NULL, 0);
    looked = sent.n;
    mz_xds_watch_end(a.watch);
    watch(&a, MZ_XDS_ENDPOINT, "x"); /* in the same turn: the server does not know that it ended */
    pass_ms(0);
    assert_int_equal(unlooked(), 1);
    const pb_DeltaDiscoveryRequest *rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 1);
    assert_string_equal(rq->resource_names_subscribe[0], "x");
    assert_int_equal(rq->n_resource_names_unsubscribe, 0);
    mz_xds_watch_end(a.watch);
    rig_stop();
}

static pb_Any *vhost(const char *name)
{
    pb_VirtualHost m = pb_VirtualHost__INIT;
    m.name = (char *)(uintptr_t)name;
    return mz_any_pack(&m.base, arena);
}

/* Envoy's: the type is asked for whole, single names beside it. */
static void test_delta_spaces(void **state)
{
    (void)state;
    static const struct mz_xds_watch_ops single = { on_update, on_disconnected, NULL, NULL, true };
    struct user r = { .n = 0 }, s = { .n = 0 }, host = { .n = 0 };
    rig(true, true, MZ_XDS_VIRTUAL_HOST);
    mz_xds_mux_start(mux);
    watch(&r, MZ_XDS_VIRTUAL_HOST, "r");
    pass_ms(0);
    assert_int_equal(next_delta()->n_resource_names_subscribe, 0);
    pb_Resource *both[] = { resource("r/a", "1", vhost("r/a")),
                            resource("s/b", "1", vhost("s/b")) };
    answer_delta(VHDS, "x", both, 2, NULL, 0);
    assert_string_equal(r.names, "r/a ");
    (void)next_delta();
    host.watch = mz_xds_mux_watch(mux, MZ_XDS_VIRTUAL_HOST, MZ_STR("r/h"), &single, &host);
    pass_ms(0);
    const pb_DeltaDiscoveryRequest *rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 1);
    assert_string_equal(rq->resource_names_subscribe[0], "r/h");
    watch(&s, MZ_XDS_VIRTUAL_HOST, "s"); /* what came for it was nobody's: all again */
    pass_ms(0);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 1);
    assert_string_equal(rq->resource_names_subscribe[0], "*");
    mz_xds_mux_closed(mux, 14, MZ_STR(""));
    pass_ms(501);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_subscribe, 2);
    assert_string_equal(rq->resource_names_subscribe[0], "*");
    assert_string_equal(rq->resource_names_subscribe[1], "r/h");
    assert_int_equal(rq->n_initial_resource_versions, 1); /* r/a: s/b is not here */
    mz_xds_watch_end(r.watch);
    mz_xds_watch_end(s.watch);
    mz_xds_watch_end(host.watch);
    pass_ms(0);
    rq = next_delta();
    assert_int_equal(rq->n_resource_names_unsubscribe, 2);
    assert_string_equal(rq->resource_names_unsubscribe[0], "*");
    rig_stop();
}

/* Who wants all there is comes second, or again on the same stream: the server is to tell it afresh. */
static void test_all_is_asked_anew(void **state)
{
    (void)state;
    struct user u[3] = { { .n = 0 } };
    rig(false, true, MZ_XDS_CLUSTER);
    watch(&u[0], MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    (void)next_request();
    pb_Any *one[] = { cluster("a") };
    answer(CDS, "1", "x", one, 1);
    (void)next_request();
    watch(&u[1], MZ_XDS_CLUSTER, "");
    pass_ms(0);
    const pb_DiscoveryRequest *rq = next_request(); /* as a first one */
    assert_string_equal(rq->version_info, "");
    assert_string_equal(rq->response_nonce, "");
    answer(CDS, "1", "y", one, 1);
    assert_int_equal(u[0].updates, 2);
    assert_string_equal(u[1].names, "a ");
    mz_xds_watch_end(u[0].watch);
    mz_xds_watch_end(u[1].watch);
    rig_stop();

    memset(u, 0, sizeof(u));
    rig(true, true, MZ_XDS_CLUSTER);
    watch(&u[0], MZ_XDS_CLUSTER, "");
    mz_xds_mux_start(mux);
    (void)next_delta();
    watch(&u[1], MZ_XDS_CLUSTER, "");
    pass_ms(0);
    const pb_DeltaDiscoveryRequest *d = next_delta();
    assert_string_equal(d->resource_names_unsubscribe[0], "*");
    d = next_delta();
    assert_string_equal(d->resource_names_subscribe[0], "*");
    mz_xds_watch_end(u[0].watch);
    mz_xds_watch_end(u[1].watch);
    watch(&u[2], MZ_XDS_CLUSTER, ""); /* in the same turn */
    pass_ms(0);
    d = next_delta();
    assert_string_equal(d->resource_names_unsubscribe[0], "*");
    d = next_delta();
    assert_string_equal(d->resource_names_subscribe[0], "*");
    mz_xds_watch_end(u[2].watch);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ack_and_nack),
        cmocka_unit_test(test_names_go_in_one_request),
        cmocka_unit_test(test_what_is_refused_whole),
        cmocka_unit_test(test_a_stream_ends),
        cmocka_unit_test(test_no_room_to_send),
        cmocka_unit_test(test_a_watch_ends_inside),
        cmocka_unit_test(test_who_comes_later_gets_it_from_the_other),
        cmocka_unit_test(test_a_name_is_asked_anew),
        cmocka_unit_test(test_time_to_live),
        cmocka_unit_test(test_delta),
        cmocka_unit_test(test_delta_names),
        cmocka_unit_test(test_delta_spaces),
        cmocka_unit_test(test_delta_a_name_is_asked_anew),
        cmocka_unit_test(test_all_is_asked_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
