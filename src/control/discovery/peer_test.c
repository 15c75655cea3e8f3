/* The protocol with one client, without sockets: what is answered, when, and what is not sent again (C6). */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/discovery/peer_double.h"

#define CDS "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define EDS "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
#define API "outbound|80||api.demo.svc.cluster.local"
#define WEB "outbound|81||web.demo.svc.cluster.local"

static struct {
    struct mz_translator *translator;
    struct mz_bundles *bundles;
    struct mz_model *model;
    struct mz_peer *peer;
    struct mz_arena *arena;
    bool delta, full;
    char log[4096]; /* "cds API+ WEB- ..." one line a response */
    char nonce[32], last_type[128];
} t;

static const char *short_name(const char *name)
{
    return strcmp(name, API) == 0 ? "API" : strcmp(name, WEB) == 0 ? "WEB" : name;
}

static void note(const char *a, const char *b)
{
    const size_t n = strlen(t.log);
    (void)snprintf(t.log + n, sizeof(t.log) - n, "%s%s", a, b);
}

static const char *name_of(const pb_Any *any)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *m;
    struct mz_err err;
    assert_true(mz_any_unpack(&ctx, any, &d, &m, &err));
    return d == &pb_Cluster__descriptor ? ((const pb_Cluster *)m)->name
                                        : ((const pb_ClusterLoadAssignment *)m)->cluster_name;
}

static void hear_state(const pb_DiscoveryResponse *r)
{
    for (size_t i = 0; i < r->n_resources; i++) {
        const char *n = name_of(r->resources[i]);
        if (strchr(n, '|'))
            note(" ", short_name(n));
    }
    (void)snprintf(t.nonce, sizeof(t.nonce), "%s", r->nonce);
}

static void hear_delta(const pb_DeltaDiscoveryResponse *r)
{
    for (size_t i = 0; i < r->n_resources; i++) {
        assert_string_equal(r->resources[i]->name, name_of(r->resources[i]->resource));
        assert_int_equal(strlen(r->resources[i]->version), 16);
        if (strchr(r->resources[i]->name, '|'))
            note(" ", short_name(r->resources[i]->name));
    }
    for (size_t i = 0; i < r->n_removed_resources; i++) {
        note(" -", short_name(r->removed_resources[i]));
    }
    (void)snprintf(t.nonce, sizeof(t.nonce), "%s", r->nonce);
}

static bool on_send(void *arg, struct mz_buf *response)
{
    (void)arg;
    const struct mz_str bytes = mz_buf_linearize(response, mz_buf_len(response));
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .unchecked = true };
    ProtobufCMessage *m;
    struct mz_err err;
    if (t.full)
        return false;
    assert_true(mz_msg_unpack(&ctx, bytes,
                              t.delta ? &pb_DeltaDiscoveryResponse__descriptor
                                      : &pb_DiscoveryResponse__descriptor,
                              &m, &err));
    const char *url = t.delta ? ((const pb_DeltaDiscoveryResponse *)m)->type_url
                              : ((const pb_DiscoveryResponse *)m)->type_url;
    (void)snprintf(t.last_type, sizeof(t.last_type), "%s", url);
    note(strcmp(url, CDS) == 0 ? "cds" : "eds", "");
    if (t.delta)
        hear_delta((const pb_DeltaDiscoveryResponse *)m);
    else
        hear_state((const pb_DiscoveryResponse *)m);
    note("\n", "");
    return true;
}

static void set_model(const char *text)
{
    struct mz_change c;
    struct mz_model *m = double_model(mz_str_c(text));
    mz_change_init(&c, t.model, m);
    if (t.peer)
        mz_peer_prepare(t.peer, m);
    mz_translator_set_model(t.translator, m);
    if (t.peer) {
        mz_peer_renew(t.peer);
        mz_peer_push(t.peer, &c);
    }
    mz_change_fini(&c);
    mz_model_unref(t.model);
    t.model = m;
}

static int up(bool delta)
{
    memset(&t, 0, sizeof(t));
    mz_type_add_table(mz_control_types, mz_control_types_n);
    t.delta = delta;
    t.arena = mz_arena_create(MZ_MEM_CONFIG);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.1"));
    t.bundles = mz_bundles_create(mz_translator_sets(t.translator));
    const struct mz_peer_env env = { t.translator,   t.bundles, delta, MZ_XDS_TYPE__COUNT,
                                     on_send,        NULL,      NULL,  MZ_STR_INIT(""),
                                     MZ_STR_INIT("") };
    t.peer = mz_peer_create(&env);
    return 0;
}

static int up_state(void **state)
{
    (void)state;
    return up(false);
}

static int up_delta(void **state)
{
    (void)state;
    return up(true);
}

static int down(void **state)
{
    (void)state;
    mz_peer_destroy(t.peer);
    mz_bundles_destroy(t.bundles);
    mz_translator_destroy(t.translator);
    mz_model_unref(t.model);
    mz_arena_destroy(t.arena);
    return 0;
}

static pb_Node node = pb_Node__INIT;

static bool ask(const char *url, const char *nonce, const char *refusal, char **names, size_t n)
{
    struct mz_err err;
    pb_Status status = pb_Status__INIT;
    node.id = (char *)(uintptr_t) "sidecar~10.1.0.9~x.demo~demo.svc.cluster.local";
    status.message = (char *)(uintptr_t)refusal;
    if (t.delta) {
        pb_DeltaDiscoveryRequest r = pb_DeltaDiscoveryRequest__INIT;
        r.node = &node;
        r.type_url = (char *)(uintptr_t)url;
        r.response_nonce = (char *)(uintptr_t)nonce;
        r.error_detail = refusal ? &status : NULL;
        r.resource_names_subscribe = names;
        r.n_resource_names_subscribe = n;
        return mz_peer_request(t.peer, &r.base, &err);
    }
    pb_DiscoveryRequest r = pb_DiscoveryRequest__INIT;
    r.node = &node;
    r.type_url = (char *)(uintptr_t)url;
    r.response_nonce = (char *)(uintptr_t)nonce;
    r.error_detail = refusal ? &status : NULL;
    r.resource_names = names;
    r.n_resource_names = n;
    return mz_peer_request(t.peer, &r.base, &err);
}

static void expect(const char *log)
{
    assert_string_equal(t.log, log);
    t.log[0] = 0;
}

static void ack_names(char **names, size_t n)
{
    char nonce[32], type[128];
    memcpy(nonce, t.nonce, sizeof(nonce));
    memcpy(type, t.last_type, sizeof(type));
    assert_true(ask(type, nonce, NULL, t.delta ? NULL : names, t.delta ? 0 : n));
}

static void ack(void)
{
    ack_names(NULL, 0);
}

static char api_name[] = API, web_name[] = WEB;
static char *both[] = { api_name, web_name };
#define NAMES both

static void test_state(void **state)
{
    (void)state;
    struct mz_peer_state st;
    assert_true(ask(CDS, "", NULL, NULL, 0));
    expect("cds API\n");
    ack();
    assert_true(ask(EDS, "", NULL, NAMES, 1));
    expect("eds API\n");
    ack_names(NAMES, 1);
    expect("");
    mz_peer_state(t.peer, MZ_XDS_CLUSTER, &st);
    assert_true(st.subscribed && !st.waiting && st.acked == 1 && st.resources >= 3);
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.2")); /* endpoints only: no clusters */
    expect("eds API\n");
    ack_names(NAMES, 1);
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.2"));
    expect(""); /* nothing is different */
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.2") DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("cds API WEB\n");
    ack();
    assert_true(ask(EDS, "", NULL, NAMES, 2));
    expect("eds WEB\n"); /* only what it has not got */
    ack_names(NAMES, 2);
    set_model(DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("cds WEB\neds API\n"); /* the endpoints that are gone: empty */
}

static void test_delta(void **state)
{
    (void)state;
    assert_true(ask(CDS, "", NULL, NULL, 0));
    assert_non_null(strstr(t.log, "cds API"));
    t.log[0] = 0;
    ack();
    assert_true(ask(EDS, "", NULL, NAMES, 1));
    expect("eds API\n");
    ack();
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.1") DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("cds WEB\n");
    ack();
    assert_true(ask(EDS, "", NULL, NAMES + 1, 1));
    expect("eds WEB\n");
    ack();
    assert_true(ask(EDS, "", NULL, NAMES, 1)); /* asked for again: sent again */
    expect("eds API\n");
    ack();
    set_model(DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("cds -API\neds API\n");
}

/* While a response is under way nothing more of its type is sent, whatever happens; then all at once. */
static void test_one_under_way(void **state)
{
    (void)state;
    assert_true(ask(CDS, "", NULL, NULL, 0));
    expect("cds API\n");
    set_model(DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    set_model(DOUBLE_SERVICE("api", "80", "10.1.0.1") DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("");
    assert_true(ask(CDS, "0123456789abcdef", NULL, NULL, 0)); /* an answer to nothing we sent */
    expect("");
    ack();
    expect("cds API WEB\n");
}

static void test_refused(void **state)
{
    (void)state;
    struct mz_peer_state st;
    assert_true(ask(CDS, "", NULL, NULL, 0));
    expect("cds API\n");
    assert_true(ask(CDS, t.nonce, "I do not like it", NULL, 0));
    expect(""); /* the same again would help nobody */
    mz_peer_state(t.peer, MZ_XDS_CLUSTER, &st);
    assert_int_equal(st.nacked, 1);
    assert_string_equal(st.nack, "I do not like it");
    set_model(DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("cds WEB\n");
}

/* A client that does not read: the answer waits, and is of the newest model. */
static void test_back_pressure(void **state)
{
    (void)state;
    t.full = true;
    assert_true(ask(CDS, "", NULL, NULL, 0));
    set_model(DOUBLE_SERVICE("web", "81", "10.1.0.3"));
    expect("");
    t.full = false;
    mz_peer_writable(t.peer);
    expect("cds WEB\n");
}

static void test_requests_refused(void **state)
{
    (void)state;
    struct mz_err err;
    pb_DiscoveryRequest r = pb_DiscoveryRequest__INIT;
    r.type_url = (char *)(uintptr_t)CDS;
    assert_false(mz_peer_request(t.peer, &r.base, &err));
    assert_string_equal(err.msg, "the first request has no node");
    pb_Node bad = pb_Node__INIT;
    r.node = &bad;
    bad.id = (char *)(uintptr_t) "nobody";
    assert_false(mz_peer_request(t.peer, &r.base, &err));
    assert_non_null(strstr(err.msg, "is not type~address~name.namespace~domain"));
    bad.id = (char *)(uintptr_t) "toaster~10.1.0.9~x.demo~d";
    assert_false(mz_peer_request(t.peer, &r.base, &err));
    assert_true(ask("type.googleapis.com/no.such.Type", "", NULL, NULL, 0));
    expect("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_state, up_state, down),
        cmocka_unit_test_setup_teardown(test_delta, up_delta, down),
        cmocka_unit_test_setup_teardown(test_one_under_way, up_state, down),
        cmocka_unit_test_setup_teardown(test_refused, up_state, down),
        cmocka_unit_test_setup_teardown(test_back_pressure, up_state, down),
        cmocka_unit_test_setup_teardown(test_requests_refused, up_state, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
