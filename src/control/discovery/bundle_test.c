#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "control/discovery/bundle.h"
#include "control/discovery/peer_double.h"

enum { SERVICES = 60 };

static struct {
    struct mz_arena *arena;
    struct mz_model *model;
    struct mz_translator *translator;
    struct mz_bundles *bundles;
} t;

static int up(void **state)
{
    (void)state;
    struct mz_buf b;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    t.arena = mz_arena_create(MZ_MEM_XDS);
    mz_buf_init(&b);
    for (unsigned i = 0; i < SERVICES; i++)
        mz_buf_printf(&b,
                      "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: "
                      "ns%u}\nspec: {clusterIP: 10.1.0.%u, ports: [{name: http, port: 80}]}\n",
                      i, i % 6, i + 1);
    t.model = double_model(mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    t.translator = mz_translator_create(&(struct mz_features){ .metadata_exchange = true });
    mz_translator_set_model(t.translator, t.model);
    t.bundles = mz_bundles_create(mz_translator_sets(t.translator));
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_bundles_destroy(t.bundles);
    mz_translator_destroy(t.translator);
    mz_model_unref(t.model);
    mz_arena_destroy(t.arena);
    return 0;
}

/* Routes of port 80 as a workload of @ns has them; @config: the settings of the proxy itself. */
static struct mz_out *routes_with(const char *ns, const char *config, uint64_t *out_kind)
{
    struct mz_outs o = { 0 };
    struct mz_err err;
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *node = NULL;
    const struct mz_str name = MZ_STR("80");
    const struct mz_str text =
        mz_arena_printf(t.arena,
                        "{id: sidecar~10.9.0.1~x.%s~%s.svc.cluster.local, metadata: {PROXY_CONFIG: "
                        "{%s}}}",
                        ns, ns, config);
    assert_true(mz_msg_from_text(&ctx, text, MZ_TEXT_YAML, &pb_Node__descriptor, &node, &err));
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)node, &err);
    struct mz_view *v = mz_view_create(t.translator, p);
    mz_translate(v, MZ_XDS_ROUTE, &name, 1, &o);
    assert_int_equal(o.v.n, 1);
    struct mz_out *out = mz_out_ref(o.v.v[0]);
    *out_kind = mz_view_kind(v, MZ_XDS_ROUTE);
    mz_outs_fini(&o);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
    return out;
}

static struct mz_out *routes(const char *ns)
{
    uint64_t kind;
    return routes_with(ns, "", &kind);
}

/* Proxies of one namespace with other settings are of another kind, and get other routes. */
static void test_own_settings(void **state)
{
    (void)state;
    uint64_t kinds[3];
    struct mz_out *x = routes_with("ns1", "", &kinds[0]), *same = routes_with("ns1", "", &kinds[1]);
    struct mz_out *y =
        routes_with("ns1", "proxyHeaders: {attemptCount: {disabled: true}}", &kinds[2]);
    assert_true(kinds[0] && kinds[0] == kinds[1] && kinds[0] != kinds[2]);
    assert_ptr_equal(x, same);
    assert_int_not_equal(x->version, y->version);
    mz_out_unref(x);
    mz_out_unref(same);
    mz_out_unref(y);
}

static const ProtobufCMessage *open_as(const ProtobufCMessageDescriptor *d, struct mz_str bytes)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    assert_true(mz_msg_unpack(&ctx, bytes, d, &m, &err));
    return m;
}

/* Two namespaces differ in the names of their own services only; what is the same is the same memory. */
static void test_parts_are_shared(void **state)
{
    (void)state;
    struct mz_out *x = routes("ns1"), *y = routes("ns2"), *again = routes("ns1");
    const pb_RouteConfiguration *m = (const pb_RouteConfiguration *)open_as(
        &pb_RouteConfiguration__descriptor, mz_out_bytes(x, t.arena));
    assert_ptr_equal(x, again);
    assert_int_not_equal(x->version, y->version);
    assert_int_equal(mz_out_bytes(x, t.arena).n, x->size);
    assert_string_equal(m->name, "80");
    assert_int_equal(m->n_virtual_hosts, SERVICES + 1);
    assert_string_equal(m->virtual_hosts[SERVICES]->name, "allow_any");
    for (size_t i = 0; i + 1 < SERVICES; i++)
        assert_true(strcmp(m->virtual_hosts[i]->name, m->virtual_hosts[i + 1]->name) < 0);
    size_t same = 0;
    struct mz_set_at at = { 0 };
    for (struct mz_out *o; (o = mz_set_next(x->parts, &at));)
        same += mz_set_find(y->parts, o->name) == o;
    assert_int_equal(same, SERVICES - 2 * SERVICES / 6);
    mz_out_unref(x);
    mz_out_unref(y);
    mz_out_unref(again);
}

/* On the wire they are one resource, as if it had been packed at once. */
static void test_parts_on_the_wire(void **state)
{
    (void)state;
    struct mz_out *v[] = { routes("ns1") };
    struct mz_sets *s = mz_translator_sets(t.translator);
    struct mz_set *to = mz_set_create(s, v, 1);
    const struct mz_str want = mz_out_bytes(v[0], t.arena);
    for (unsigned mode = MZ_STEP_DELTA; mode <= MZ_STEP_WHOLE; mode++) {
        struct mz_buf b;
        const struct mz_step *step = mz_bundles_step(
            t.bundles, (enum mz_step_mode)mode,
            MZ_STR("type.googleapis.com/envoy.config.route.v3.RouteConfiguration"), NULL, to, true);
        mz_buf_init(&b);
        mz_buf_copy(&b, &step->resources);
        struct mz_str bytes = mz_arena_dup(t.arena, mz_buf_linearize(&b, mz_buf_len(&b)));
        mz_buf_fini(&b);
        const bool delta = mode == MZ_STEP_DELTA;
        const ProtobufCMessage *m = open_as(delta ? &pb_DeltaDiscoveryResponse__descriptor
                                                  : &pb_DiscoveryResponse__descriptor,
                                            bytes);
        const pb_DeltaDiscoveryResponse *d = (const pb_DeltaDiscoveryResponse *)m;
        const pb_Any *any =
            delta ? d->resources[0]->resource : ((const pb_DiscoveryResponse *)m)->resources[0];
        assert_true(
            mz_str_eq(want, (struct mz_str){ (const char *)any->value.data, any->value.len }));
        if (delta)
            assert_string_equal(d->resources[0]->name, "80");
    }
    mz_bundles_trim(t.bundles, false);
    mz_set_unref(to);
    mz_out_unref(v[0]);
}

static struct mz_str wire_of(struct mz_set *to, unsigned mode, size_t *out_shared)
{
    struct mz_buf b;
    const struct mz_step *step = mz_bundles_step(
        t.bundles, mode, MZ_STR("type.googleapis.com/envoy.config.cluster.v3.Cluster"), NULL, to,
        true);
    mz_buf_init(&b);
    mz_buf_copy(&b, &step->resources);
    *out_shared = 0;
    for (uint32_t i = 0; i < b.n; i++) {
        struct mz_set_at at = { 0 };
        for (struct mz_out *o; (o = mz_set_next(to, &at));)
            *out_shared += mz_buf_frag(&b, i)->p == o->bytes.p;
    }
    const struct mz_str bytes = mz_arena_dup(t.arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return bytes;
}

/* The first client is sent large resources as they are, and from the second on all are sent the same piece: the same bytes. */
static void test_first_of_many(void **state)
{
    (void)state;
    struct mz_out *v[SERVICES];
    char names[SERVICES][8], text[2000];
    for (unsigned i = 0; i < SERVICES; i++) {
        pb_Any m = pb_Any__INIT;
        (void)snprintf(names[i], sizeof(names[i]), "c%03u", i);
        memset(text, 'a' + (int)(i % 26), sizeof(text));
        text[i % 3 ? 100 : 400 + 20 * i] = 0; /* small ones, and some large */
        m.type_url = text;
        v[i] = mz_out_create(mz_str_c(names[i]), &m.base);
    }
    struct mz_set *to = mz_set_create(mz_translator_sets(t.translator), v, SERVICES);
    for (unsigned mode = MZ_STEP_DELTA; mode <= MZ_STEP_WHOLE; mode++) {
        size_t shared[3];
        struct mz_str wire[3];
        for (unsigned i = 0; i < 3; i++) {
            wire[i] = wire_of(to, mode, &shared[i]);
            if (i == 1) /* by another step, of the same pieces */
                mz_bundles_trim(t.bundles, false);
        }
        assert_int_equal(shared[0] != 0,
                         mode != MZ_STEP_WHOLE); /* which has the form of the one before */
        assert_int_equal(shared[1], 0);
        assert_int_equal(shared[2], 0);
        assert_true(mz_str_eq(wire[0], wire[1]) && mz_str_eq(wire[0], wire[2]));
    }
    mz_bundles_trim(t.bundles, true);
    mz_set_unref(to);
    for (unsigned i = 0; i < SERVICES; i++)
        mz_out_unref(v[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parts_are_shared, up, down),
        cmocka_unit_test_setup_teardown(test_parts_on_the_wire, up, down),
        cmocka_unit_test_setup_teardown(test_own_settings, up, down),
        cmocka_unit_test_setup_teardown(test_first_of_many, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
