/* Secrets by name: who gets which (C6, C8), under which names they stand in documents, and what is not given to anybody. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/discovery/peer_double.h"
#include "control/model/secret_double.h"

static struct {
    struct secret_double pems;
    struct mz_arena *arena;
    struct mz_translator *translator;
    struct mz_model *model;
} t;

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    memset(&t, 0, sizeof(t));
    secret_double_init(&t.pems);
    t.arena = mz_arena_create(MZ_MEM_CONFIG);
    t.translator = mz_translator_create(&(struct mz_features){ .alpn = true });
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_translator_destroy(t.translator);
    mz_model_unref(t.model);
    mz_arena_destroy(t.arena);
    secret_double_fini(&t.pems);
    return 0;
}

static void use(const char *text)
{
    mz_model_unref(t.model);
    t.model = double_model(secret_double_fill(&t.pems, text));
    mz_translator_set_model(t.translator, t.model);
}

/* NULL: nothing is given. @who: "ns/account" as verified, "" not at all. */
static const pb_Secret *ask(const char *node, const char *who, const char *name)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    struct mz_outs out = { 0 };
    struct mz_str rest = mz_str_c(who), ns = MZ_STR(""), one = mz_str_c(name);
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(node), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err));
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)m, &err);
    assert_non_null(p);
    (void)mz_str_split(&rest, '/', &ns);
    mz_proxy_verify(p, ns, rest);
    struct mz_view *v = mz_view_create(t.translator, p);
    mz_translate(v, MZ_XDS_SECRET, &one, 1, &out);
    m = NULL;
    if (out.v.n) {
        assert_int_equal(out.v.n, 1);
        assert_true(mz_str_eq(out.v.v[0]->name, one));
        if (!mz_msg_unpack(&ctx, mz_arena_dup(t.arena, out.v.v[0]->bytes), &pb_Secret__descriptor,
                           &m, &err))
            fail_msg("%s", err.msg);
    }
    mz_outs_fini(&out);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
    return (const pb_Secret *)m;
}

static bool is(const pb_DataSource *d, struct mz_str bytes)
{
    return d && d->specifier_case == pb_DataSource_SPECIFIER_INLINE_BYTES &&
           mz_str_eq((struct mz_str){ (const char *)d->inline_bytes.data, d->inline_bytes.len },
                     bytes);
}

#define ITEM(kind, api, ns, name, rest)                                                            \
    "---\napiVersion: " api "\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns          \
    "}\n" rest "\n"
#define SECRET(ns, name, data) ITEM("Secret", "v1", ns, name, "data: {" data "}")
#define MAP(ns, name, data)    ITEM("ConfigMap", "v1", ns, name, "data: {" data "}")
#define GATEWAY(ns, servers)                                                                       \
    ITEM("Gateway", "networking.istio.io/v1", ns, "g",                                             \
         "spec: {selector: {app: edge}, servers: [" servers "]}")
#define SERVER(tls)     "{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {" tls "}}"
#define API             "gateway.networking.k8s.io/v1"
#define K8S_GATEWAY(ns) K8S_GATEWAY_TLS(ns, "", "{name: c, namespace: other}")
#define K8S_GATEWAY_TLS(ns, more, refs)                                                            \
    ITEM("Gateway", API, ns, "edge",                                                               \
         "spec: {gatewayClassName: istio, listeners: [{name: a, port: 443, protocol: HTTPS, tls: " \
         "{certificateRefs: [" refs "]}}]" more "}")
#define GRANT                                                                                      \
    ITEM("ReferenceGrant", API, "other", "r",                                                      \
         "spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: demo}], to: " \
         "[{group: '', kind: Secret, name: c}]}")
#define PAIR "tls.crt: $CERT, tls.key: $KEY"
#define EDGE                                                                                       \
    "{id: router~10.1.0.9~edge-1.demo~demo.svc.cluster.local, metadata: {LABELS: {app: edge}}}"
#define BEHIND /* the service that the field's control plane would make for the Gateway */         \
    ITEM("Service", "v1", "demo", "edge-istio",                                                    \
         "spec: {selector: {app: edge}, ports: [{name: a, port: 443}]}")
#define SIDECAR "{id: sidecar~10.1.0.9~x-1.demo~demo.svc.cluster.local}"

static void test_who_may(void **state)
{
    static const struct {
        const char *documents, *node, *who, *name;
        bool given;
    } cases[] = {
        /* its own namespace's, as its certificate or token says */
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes://c", true },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes://demo/c", true },
        { SECRET("demo", "c", PAIR), SIDECAR, "demo/x", "kubernetes://c", true },
        { SECRET("demo", "c", PAIR), EDGE, "", "kubernetes://c", false },
        { SECRET("demo", "c", PAIR), EDGE, "", "kubernetes://demo/c", false },
        { SECRET("other", "c", PAIR), EDGE, "demo/edge", "kubernetes://other/c", false },
        { SECRET("other", "c", "ca.crt: $CERT"), EDGE, "demo/edge", "kubernetes://other/c-cacert",
          false },
        { SECRET("other", "c", PAIR), EDGE, "other/edge", "kubernetes://c", true },
        /* by "kubernetes-gateway://" only what a gateway that it serves names */
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes-gateway://demo/c", false },
        { SECRET("demo", "c", PAIR) GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://demo/c'")),
          EDGE, "demo/edge", "kubernetes-gateway://demo/c", true },
        { SECRET("demo", "c", PAIR) GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://demo/c'")),
          SIDECAR, "demo/x", "kubernetes-gateway://demo/c", false },
        { SECRET("demo", "c", PAIR) GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://demo/c'")),
          EDGE, "other/edge", "kubernetes-gateway://demo/c", false },
        { SECRET("demo", "c", PAIR ", ca.crt: $CERT") GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://demo/c'")),
          EDGE, "demo/edge", "kubernetes-gateway://demo/c-cacert", false },
        { SECRET("demo", "c", PAIR ", ca.crt: $CERT") GATEWAY(
              "demo", SERVER("mode: MUTUAL, credentialName: 'kubernetes-gateway://demo/c'")),
          EDGE, "demo/edge", "kubernetes-gateway://demo/c-cacert", true },
        { SECRET("other", "c", PAIR) GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://other/c'")),
          EDGE, "demo/edge", "kubernetes-gateway://other/c", false },
        { SECRET("other", "c", PAIR) GATEWAY(
              "demo", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://other/c'")) GRANT,
          EDGE, "demo/edge", "kubernetes-gateway://other/c", true },
        { SECRET("other", "c", PAIR) GATEWAY(
              "other", SERVER("mode: SIMPLE, credentialName: 'kubernetes-gateway://other/c'")),
          EDGE, "demo/edge", "kubernetes-gateway://other/c", false },
        /* the Gateway API's: with a ReferenceGrant, and for the account that its proxies have */
        { SECRET("other", "c", PAIR) K8S_GATEWAY("demo") GRANT BEHIND, EDGE, "demo/edge-istio",
          "kubernetes-gateway://other/c", true },
        { SECRET("other", "c", PAIR) K8S_GATEWAY("demo") BEHIND, EDGE, "demo/edge-istio",
          "kubernetes-gateway://other/c", false },
        { SECRET("other", "c", PAIR) K8S_GATEWAY("demo") GRANT BEHIND, EDGE, "demo/default",
          "kubernetes-gateway://other/c", false },
        { SECRET("other", "c", PAIR) K8S_GATEWAY("demo") GRANT, EDGE, "demo/edge-istio",
          "kubernetes-gateway://other/c", false }, /* it stands behind no service of the Gateway */
        { SECRET("demo", "c", PAIR) K8S_GATEWAY_TLS(
              "demo", ", addresses: [{type: Hostname, value: edge-istio}]", "{name: c}") BEHIND,
          EDGE, "demo/anybody", "kubernetes-gateway://demo/c", true },
        /* roots in ConfigMaps are everybody's who is somebody */
        { MAP("other", "m", "ca.crt: \"$JUNK\""), EDGE, "demo/edge", "configmap://other/m", false },
        { MAP("other", "m", "ca.crt: x"), EDGE, "", "configmap://other/m", false },
        /* names */
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes://", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes:///c", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes://demo/c/d", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "configmap://c", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes-gateway://c", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "invalid://", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "c", false },
        { SECRET("demo", "c", PAIR), EDGE, "demo/edge", "kubernetes://d", false },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        use(cases[i].documents);
        const uint64_t before = mz_translator_secrets_refused(t.translator);
        const pb_Secret *s = ask(cases[i].node, cases[i].who, cases[i].name);
        if ((s != NULL) != cases[i].given)
            fail_msg("case %zu, %s: %s", i, cases[i].name, s ? "given" : "not given");
        assert_int_equal(mz_translator_secrets_refused(t.translator) - before, !cases[i].given);
    }
}

/* Under Kubernetes' names and the older ones; an empty entry is as if it were not there. */
static void test_pairs(void **state)
{
    static const struct {
        const char *data;
        bool given;
    } cases[] = {
        { PAIR, true },
        { "cert: $CERT, key: $KEY", true },
        { "cert: $CERT, key: $KEY, tls.crt: $JUNK, tls.key: $JUNK", true },
        { "cert: '', key: '', tls.crt: $CERT, tls.key: $KEY", true },
        { "cert: $CERT, tls.crt: $CERT, tls.key: $KEY", true },
        { "tls.crt: $CERT", false },
        { "tls.crt: $CERT, tls.key: ''", false },
        { "tls.crt: $CERT, tls.key: $OTHER", false }, /* a proxy would refuse it */
        { "tls.crt: $JUNK, tls.key: $KEY", false },
        { "tls.crt: $CERT, tls.key: $JUNK", false },
        { "ca.crt: $CERT", false },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[20000];
        (void)snprintf(text, sizeof(text), SECRET("demo", "c", "%s"), cases[i].data);
        use(text);
        const pb_Secret *s = ask(EDGE, "demo/edge", "kubernetes://c");
        if ((s != NULL) != cases[i].given)
            fail_msg("%s: %s", cases[i].data, s ? "given" : "not given");
        if (!s)
            continue;
        assert_int_equal(s->type_case, pb_Secret_TYPE_TLS_CERTIFICATE);
        assert_true(is(s->tls_certificate->certificate_chain, t.pems.cert));
        assert_true(is(s->tls_certificate->private_key, t.pems.key));
    }
    use(SECRET("demo", "c", PAIR ", tls.ocsp-staple: $JUNK"));
    const pb_Secret *s = ask(EDGE, "demo/edge", "kubernetes://c");
    assert_true(s && is(s->tls_certificate->ocsp_staple, MZ_STR("junk")));
}

static void test_roots(void **state)
{
    static const struct {
        const char *documents;
        bool given;
    } cases[] = {
        { SECRET("demo", "c", PAIR ", ca.crt: $CERT"), true },
        { SECRET("demo", "c", "cacert: $CERT"), true },
        { SECRET("demo", "c-cacert", "cacert: $CERT"), true },
        { SECRET("demo", "c-cacert", "cacert: $CERT") SECRET("demo", "c", "ca.crt: $JUNK"), true },
        { SECRET("demo", "c-cacert", "ca.crt: $JUNK") SECRET("demo", "c", "ca.crt: $CERT"), false },
        { SECRET("demo", "c", "cacert: '', ca.crt: $CERT"), true },
        { SECRET("demo", "c", PAIR), false },
        { SECRET("demo", "c", "ca.crt: $JUNK"), false },
        { SECRET("demo", "c", "ca.crt: $CERT, ca.crl: $JUNK"), false },
        { SECRET("demo", "c", "ca.crt: $CERT, crl: $JUNK"), true }, /* of the other form */
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        use(cases[i].documents);
        const pb_Secret *s = ask(EDGE, "demo/edge", "kubernetes://c-cacert");
        if ((s != NULL) != cases[i].given)
            fail_msg("case %zu: %s", i, s ? "given" : "not given");
        if (!s)
            continue;
        assert_int_equal(s->type_case, pb_Secret_TYPE_VALIDATION_CONTEXT);
        assert_true(is(s->validation_context->trusted_ca, t.pems.cert));
        assert_null(s->validation_context->crl);
    }
}

/* In a ConfigMap texts stand as they are; with "-cacert" or without means the same one. */
static void test_config_maps(void **state)
{
    struct mz_buf b;
    static const char *const names[] = { "configmap://other/m", "configmap://other/m-cacert" };
    (void)state;
    mz_buf_init(&b);
    mz_buf_append_str(&b, MZ_STR("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: "
                                 "other}\ndata:\n  ca.crt: |\n"));
    struct mz_str rest = t.pems.cert;
    for (struct mz_str line; mz_str_split(&rest, '\n', &line);)
        mz_buf_printf(&b, "    %.*s\n", MZ_STR_ARG(line));
    mz_buf_append(&b, "", 1);
    use(mz_buf_linearize(&b, mz_buf_len(&b)).p);
    mz_buf_fini(&b);
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        const pb_Secret *s = ask(SIDECAR, "demo/x", names[i]);
        assert_true(s && is(s->validation_context->trusted_ca, t.pems.cert));
    }
}

/* Another content is another resource, and the same one is made once. */
static void test_change(void **state)
{
    (void)state;
    use(SECRET("demo", "c", PAIR));
    assert_non_null(ask(EDGE, "demo/edge", "kubernetes://c"));
    const uint64_t misses = mz_translator_counts(t.translator).misses;
    assert_non_null(ask(SIDECAR, "demo/x", "kubernetes://c"));
    assert_int_equal(mz_translator_counts(t.translator).misses, misses);
    struct mz_model *before = mz_model_ref(t.model);
    use(SECRET("demo", "c", PAIR ", tls.ocsp-staple: $JUNK"));
    struct mz_change c;
    mz_change_init(&c, before, t.model);
    assert_true(c.secrets && !c.all && !c.services && !mz_change_none(&c));
    mz_change_fini(&c);
    mz_change_init(&c, t.model, t.model);
    assert_true(mz_change_none(&c));
    mz_change_fini(&c);
    mz_model_unref(before);
    assert_non_null(ask(EDGE, "demo/edge", "kubernetes://c")->tls_certificate->ocsp_staple);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_may, up, down),
        cmocka_unit_test_setup_teardown(test_pairs, up, down),
        cmocka_unit_test_setup_teardown(test_roots, up, down),
        cmocka_unit_test_setup_teardown(test_config_maps, up, down),
        cmocka_unit_test_setup_teardown(test_change, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
