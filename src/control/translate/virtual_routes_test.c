/* VirtualServices to routes: what the recorded cases (tests/conformance/istio) do not show. */
#include "base/test.h"

#include <stdio.h>

#include "control/analyze/check.h"
#include "control/discovery/peer_double.h"

#define SERVICE(name, ns, port)                                                                    \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns                \
    "}\nspec: {clusterIP: 10.9.0.1, ports: [{name: http, port: " port "}]}\n"
#define VIRTUAL(name, ns, spec)                                                                    \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name        \
    ", namespace: " ns "}\nspec: {" spec "}\n"
#define TO(host) "route: [{destination: {host: " host "}}]"
#define WEB      SERVICE("web", "demo", "80") SERVICE("api", "demo", "80")
#define NODE     "sidecar~10.1.0.9~x-0.demo~demo.svc.cluster.local"

static struct mz_arena *arena;

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    arena = mz_arena_create(MZ_MEM_CONFIG);
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static struct mz_proxy *client(const char *id)
{
    pb_Node node = pb_Node__INIT;
    pb_Struct meta = pb_Struct__INIT, labels = pb_Struct__INIT;
    pb_Value app = pb_Value__INIT, all = pb_Value__INIT;
    pb_Struct_FieldsEntry app_field = pb_Struct_FieldsEntry__INIT,
                          labels_field = pb_Struct_FieldsEntry__INIT;
    pb_Struct_FieldsEntry *inner[] = { &app_field }, *outer[] = { &labels_field };
    struct mz_err err;
    app.kind_case = pb_Value_KIND_STRING_VALUE;
    app.string_value = (char *)(uintptr_t) "x";
    app_field.key = (char *)(uintptr_t) "app";
    app_field.value = &app;
    labels.fields = inner;
    all.kind_case = pb_Value_KIND_STRUCT_VALUE;
    all.struct_value = &labels;
    labels_field.key = (char *)(uintptr_t) "LABELS";
    labels_field.value = &all;
    meta.fields = outer;
    labels.n_fields = meta.n_fields = 1;
    node.id = (char *)(uintptr_t)id;
    node.metadata = &meta;
    struct mz_proxy *p = mz_proxy_create(&node, &err);
    assert_non_null(p);
    return p;
}

static void append(char *out, size_t n, const char *format, ...)
{
    va_list args;
    const size_t at = strlen(out);
    va_start(args, format);
    (void)vsnprintf(out + at, n - at, format, args);
    va_end(args);
}

static const char *path_of(const pb_RouteMatch *m)
{
    return m->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_PATH ? m->path
           : m->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_SAFE_REGEX
               ? m->safe_regex->regex
               : m->prefix;
}

/* "host: path>cluster path>cluster; ..." of all virtual hosts but the last, which is for everything. */
static void describe(const pb_RouteConfiguration *m, char *out, size_t n)
{
    out[0] = 0;
    for (size_t i = 0; i + 1 < m->n_virtual_hosts; i++) {
        const pb_VirtualHost *h = m->virtual_hosts[i];
        append(out, n, "%s%.*s:", i ? "; " : "", (int)strcspn(h->name, ".:"), h->name);
        for (size_t k = 0; k < h->n_routes; k++) {
            const pb_Route *r = h->routes[k];
            const bool one =
                r->action_case == pb_Route_ACTION_ROUTE &&
                r->route->cluster_specifier_case == pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER;
            append(out, n, " %s%s%s>%s", r->name[0] ? r->name : "", r->name[0] ? "=" : "",
                   path_of(r->match), one ? r->route->cluster : "weights");
        }
    }
}

static struct mz_str routes(const char *documents, const char *id, const char *port, char *out,
                            size_t n)
{
    struct mz_translator *t =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    struct mz_model *model = double_model(mz_str_c(documents));
    struct mz_proxy *p = client(id);
    mz_translator_set_model(t, model);
    struct mz_view *v = mz_view_create(t, p);
    struct mz_outs o = { 0 };
    const struct mz_str name = mz_str_c(port);
    mz_translate(v, MZ_XDS_ROUTE, &name, 1, &o);
    assert_int_equal(o.v.n, 1);
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m;
    assert_true(mz_msg_unpack(&ctx, o.v.v[0]->bytes, &pb_RouteConfiguration__descriptor, &m, &err));
    describe((const pb_RouteConfiguration *)m, out, n);
    const struct mz_str bytes = mz_arena_dup(arena, o.v.v[0]->bytes);
    mz_outs_fini(&o);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
    mz_translator_destroy(t);
    mz_model_unref(model);
    return bytes;
}

#define API         "outbound|80||api.demo.svc.cluster.local"
#define WEB_CLUSTER "outbound|80||web.demo.svc.cluster.local"
#define API_HOST    "api: default=/>" API
static const struct {
    const char *what, *documents, *want;
} cases[] = {
    { "its own name", WEB VIRTUAL("v", "demo", "hosts: [web], http: [{" TO("api") "}]"),
      API_HOST "; web: />" API },
    { "behind a route for everything there is nothing",
      WEB VIRTUAL("v", "demo",
                  "hosts: [web], http: [{match: [{uri: {prefix: /}}, {uri: {exact: /a}}], " TO(
                      "api") "}, {" TO("web") "}]"),
      API_HOST "; web: />" API },
    { "of two for one host the first by name",
      WEB VIRTUAL("b", "demo", "hosts: [web], http: [{" TO("web") "}]")
          VIRTUAL("a", "demo", "hosts: [web], http: [{" TO("api") "}]"),
      API_HOST "; web: />" API },
    { "of two the older",
      WEB "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: z, "
          "namespace: demo, creationTimestamp: '2020-01-01T00:00:00Z'}\nspec: {hosts: [web], http: "
          "[{" TO("api") "}]}\n"
                         "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: "
                         "{name: a, "
                         "namespace: demo, creationTimestamp: '2021-01-01T00:00:00Z'}\nspec: "
                         "{hosts: [web], http: [{" TO("web") "}]}\n",
      API_HOST "; web: />" API },
    { "a wildcard speaks for those that nobody else speaks for",
      WEB VIRTUAL("all", "demo",
                  "hosts: ['*.demo.svc.cluster.local'], http: [{name: all, " TO("api") "}]")
          VIRTUAL("v", "demo", "hosts: [web], http: [{name: own, " TO("api") "}]"),
      "api: all=/>" API "; web: own=/>" API },
    { "a gateway's is none of the mesh",
      WEB VIRTUAL("v", "demo", "hosts: [web], gateways: [front], http: [{" TO("api") "}]"),
      API_HOST "; web: default=/>" WEB_CLUSTER },
    { "matches for other clients, ports and gateways are not here",
      WEB VIRTUAL(
          "v", "demo",
          "hosts: [web], http: [{match: [{uri: {exact: /1}, sourceLabels: {app: other}}, {uri: "
          "{exact: /2}, port: 81}, {uri: {exact: /3}, gateways: [front]}, {uri: {exact: "
          "/4}, sourceNamespace: other}, {uri: {exact: /5}, sourceLabels: {app: x}, port: "
          "80, sourceNamespace: demo}], " TO("api") "}]"),
      API_HOST "; web: /5>" API },
    { "where no match is for this client it is as if nothing was said",
      WEB VIRTUAL("v", "demo",
                  "hosts: [web], http: [{match: [{sourceLabels: {app: other}}], " TO("api") "}]"),
      API_HOST "; web: default=/>" WEB_CLUSTER },
    { "what is exported to others only",
      WEB VIRTUAL("v", "other",
                  "hosts: [web.demo.svc.cluster.local], exportTo: [third], http: [{" TO("api") "}]")
          VIRTUAL("w", "demo", "hosts: [api], exportTo: ['~'], http: [{" TO("web") "}]"),
      API_HOST "; web: default=/>" WEB_CLUSTER },
    { "what is for this namespace alone comes before what is for all",
      WEB VIRTUAL(
          "a", "other",
          "hosts: [web.demo.svc.cluster.local], http: [{" TO("web.demo.svc.cluster.local") "}]")
          VIRTUAL("b", "demo", "hosts: [web], exportTo: [.], http: [{" TO("api") "}]"),
      API_HOST "; web: />" API },
    { "a host of no service, on port 80 only",
      WEB VIRTUAL("v", "demo", "hosts: [Example.com], http: [{" TO("api") "}]"),
      API_HOST "; example: />" API "; web: default=/>" WEB_CLUSTER },
    { "weights, and a name with the match's",
      WEB VIRTUAL(
          "v", "demo",
          "hosts: [web], http: [{name: r, match: [{name: m, uri: {regex: '/a.*'}}], route: "
          "[{destination: {host: web}, weight: 1}, {destination: {host: api}, weight: 2}]}]"),
      API_HOST "; web: r.m=/a.*>weights" },
    { "what is delegated is joined with the root's match",
      WEB VIRTUAL(
          "v", "demo",
          "hosts: [web], http: [{name: root, match: [{uri: {prefix: /a}}], delegate: {name: "
          "d}}, {" TO("web") "}]")
          VIRTUAL("d", "demo",
                  "http: [{name: leaf, match: [{uri: {prefix: /a/b}}], " TO(
                      "api") "}, {match: "
                             "[{uri: {prefix: /x}}], " TO("api") "}, {" TO("api") "}]"),
      API_HOST "; web: root-leaf=/a/b>" API " root=/a>" API " />" WEB_CLUSTER },
    { "a delegate that is not there or delegates itself is none",
      WEB VIRTUAL(
          "v", "demo",
          "hosts: [web], http: [{delegate: {name: nobody}}, {delegate: {name: d, namespace: "
          "other}}, {" TO("web") "}]")
          VIRTUAL("d", "other", "exportTo: [.], http: [{" TO("api") "}]"),
      API_HOST "; web: />" WEB_CLUSTER },
};

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char got[1024];
        (void)routes(cases[i].documents, NODE, "80", got, sizeof(got));
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s:\n got %s\nwant %s", cases[i].what, got, cases[i].want);
    }
}

/* The documents in any order: the same bytes (each case begins its documents with "---"). */
static void test_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char ignored[1024];
        struct mz_str all = mz_str_c(cases[i].documents);
        const struct mz_str first = routes(all.p, NODE, "80", ignored, sizeof(ignored));
        for (unsigned turn = 0; turn < 6; turn++) {
            const ptrdiff_t at = mz_str_find(mz_str_skip(all, 3), MZ_STR("---"));
            if (at < 0)
                break;
            const size_t cut = 3 + (size_t)at;
            all = mz_arena_printf(arena, "%.*s%.*s", MZ_STR_ARG(mz_str_skip(all, cut)), (int)cut,
                                  all.p);
            assert_true(mz_str_eq(first, routes(all.p, NODE, "80", ignored, sizeof(ignored))));
        }
    }
}

/* Another port has other routes; a cached answer of one client is not another's. */
static void test_ports_and_clients(void **state)
{
    (void)state;
    static const char documents[] =
        SERVICE("web", "demo", "8080") VIRTUAL("v", "demo",
                                               "hosts: [web, example.com], http: [{match: "
                                               "[{sourceNamespace: demo}], route: [{destination: "
                                               "{host: web, subset: v1, port: {number: 9}}}]}]");
    char got[512];
    (void)routes(documents, NODE, "8080", got, sizeof(got));
    assert_string_equal(got, "example: />outbound|9|v1|web.demo.svc.cluster.local; "
                             "web: />outbound|9|v1|web.demo.svc.cluster.local");
    (void)routes(documents, "sidecar~10.1.0.9~x-0.other~other.svc.cluster.local", "8080", got,
                 sizeof(got));
    assert_string_equal(got, "web: default=/>outbound|8080||web.demo.svc.cluster.local");
}

static const struct {
    const char *spec, *error;
} faulty[] = {
    { "hosts: [web]", "needs http, tcp or tls" },
    { "hosts: ['*'], http: [{" TO("a") "}]", "hosts[0]: \"*\" can only be had at a gateway" },
    { "hosts: [a, a], http: [{" TO("a") "}]", "hosts[1]: \"a\" stands twice" },
    { "hosts: [x.a.com, '*.a.com'], http: [{" TO("a") "}]",
      "hosts[0]: \"x.a.com\" is a part of \"*.a.com\"" },
    { "hosts: ['*.com', '*.a.com'], http: [{" TO("a") "}]",
      "hosts[1]: \"*.a.com\" is a part of \"*.com\"" },
    { "hosts: ['a b'], http: [{" TO("a") "}]", "hosts[0]: \"a b\" is not a host" },
    { "http: [{" TO("a") "}], gateways: [g]", "gateways: cannot be had without hosts" },
    { "hosts: [a], http: [{}]", "http[0]: needs route, redirect, direct_response or delegate" },
    { "hosts: [a], http: [{route: [{}]}]", "http[0].route[0].destination: is required" },
    { "hosts: [a], http: [{route: [{destination: {host: a, subset: 'v|1'}}]}]",
      "http[0].route[0].destination.subset: \"v|1\" is not a label" },
    { "hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]",
      "http[0].route: all weights are 0" },
    { "hosts: [a], http: [{" TO("a") ", match: [{uri: {regex: '('}}]}]",
      "http[0].match[0].uri.regex: " },
    { "hosts: [a], http: [{" TO("a") ", match: [{headers: {'a b': {}}}]}]",
      "http[0].match[0].headers.name: \"a b\" is not a name of a header" },
    { "hosts: [a], http: [{" TO("a") ", redirect: {uri: /}}]",
      "http[0]: redirect goes with none of route, direct_response, fault, rewrite" },
    { "hosts: [a], http: [{redirect: {uri: /, redirectCode: 200}}]",
      "http[0].redirect.redirect_code: 200 is none of 301, 302, 303, 307, 308" },
    { "hosts: [a], http: [{directResponse: {status: 100}}]",
      "http[0].direct_response.status: must be in 200..599, is 100" },
    { "hosts: [a], http: [{" TO("a") ", fault: {abort: {httpStatus: 99}}}]",
      "http[0].fault.abort.http_status: must be in 200..599, is 99" },
    { "hosts: [a], http: [{" TO("a") ", fault: {delay: {fixedDelay: 0s}}}]",
      "http[0].fault.delay.fixed_delay: must be at least 1ms" },
    { "hosts: [a], http: [{" TO(
          "a") ", fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}}]",
      "http[0].fault.delay.percentage.value: must be in 0..100, is 101" },
    { "hosts: [a], http: [{" TO("a") ", timeout: 0s}]", "http[0].timeout: must be at least 1ms" },
    { "hosts: [a], http: [{" TO("a") ", retries: {attempts: 0, perTryTimeout: 1s}}]",
      "http[0].retries: says how, but attempts is 0" },
    { "hosts: [a], http: [{" TO("a") ", mirror: {host: a}, mirrors: [{destination: {host: a}}]}]",
      "http[0]: has both mirror and mirrors" },
    { "hosts: [a], http: [{" TO("a") ", rewrite: {}}]",
      "http[0].rewrite: says nothing: uri, authority or uri_regex_rewrite is needed" },
    { "hosts: [a.b], tls: [{match: [{sniHosts: [c.d]}], " TO("a") "}]",
      "tls[0].match[0].sni_hosts[0]: \"c.d\" is none of the hosts" },
    { "hosts: [a], tls: [{" TO("a") "}]", "tls[0].match: is required" },
    { "hosts: [a], tcp: [{match: [{destinationSubnets: [x]}], " TO("a") "}]",
      "tcp[0].match[0].destination_subnets[0]: \"x\" is no range of addresses" },
    { "hosts: [a], tcp: [{}]", "tcp[0].route: is required" },
};

static void test_faulty(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(faulty); i++) {
        struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .units = true };
        struct mz_err err = { .path = "", .msg = "" };
        char text[sizeof(err)];
        ProtobufCMessage *m;
        const struct mz_str spec = mz_arena_printf(arena, "{%s}", faulty[i].spec);
        assert_true(
            mz_msg_from_text(&ctx, spec, MZ_TEXT_YAML, &ist_VirtualService__descriptor, &m, &err));
        if (mz_check_object(MZ_KIND_VIRTUAL_SERVICE, m, &err))
            fail_msg("%s: nothing is said", faulty[i].spec);
        if (!mz_str_starts(mz_str_c(mz_err_text(&err, text, sizeof(text))),
                           mz_str_c(faulty[i].error)))
            fail_msg("%s:\n got %s\nwant %s", faulty[i].spec, text, faulty[i].error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_routes), cmocka_unit_test(test_order),
                                        cmocka_unit_test(test_ports_and_clients),
                                        cmocka_unit_test(test_faulty) };
    return cmocka_run_group_tests(tests, up, down);
}
