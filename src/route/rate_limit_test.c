#include "base/test.h"

#include "observe/stream_info.h"
#include "proto/mapper.h"
#include "route/rate_limit.h"
#include "route/route_test.h"
#include <string.h>

/* Descriptors that the actions of rate_limits make of a request (H9). */

static const struct {
    const char *actions, *path, *headers, *want; /* "k=v;k=v|k=v"; "" no descriptor */
} cases[] = {
    { "[{actions: [{generic_key: {descriptor_value: a}}]}]", "/", NULL, "generic_key=a" },
    { "[{actions: [{generic_key: {descriptor_key: k, descriptor_value: a}}, {source_cluster: {}}, "
      "{destination_cluster: {}}]}]",
      "/", NULL, "k=a;source_cluster=svc;destination_cluster=one" },
    { "[{actions: [{request_headers: {header_name: X-A, descriptor_key: k}}]}]", "/",
      "x-a: 1\nx-a: 2", "k=1" },
    { "[{actions: [{request_headers: {header_name: x-a, descriptor_key: k}}]}]", "/", NULL, "" },
    { "[{actions: [{request_headers: {header_name: x-a, descriptor_key: k, skip_if_absent: true}}, "
      "{generic_key: {descriptor_value: b}}]}]",
      "/", NULL, "generic_key=b" },
    { "[{actions: [{query_parameters: {query_parameter_name: 'q 1', descriptor_key: k}}]}]",
      "/?q=0&q%201=a%20b#f", NULL, "k=a b" },
    { "[{actions: [{query_parameters: {query_parameter_name: q, descriptor_key: k}}]}]", "/?q=&z",
      NULL, "k=" },
    { "[{actions: [{query_parameters: {query_parameter_name: q, descriptor_key: k}}]}]", "/?z",
      NULL, "" },
    { "[{actions: [{remote_address: {}}]}, {actions: [{masked_remote_address: "
      "{v4_prefix_mask_len: 9}}]}, {actions: [{masked_remote_address: {}}]}]",
      "/", NULL,
      "remote_address=10.255.3.4|masked_remote_address=10.128.0.0/9|masked_remote_address=10.255."
      "3.4/32" },
    { "[{actions: [{header_value_match: {descriptor_value: v, headers: [{name: x-a, string_match: "
      "{exact: '1'}}]}}]}]",
      "/", "x-a: 1", "header_match=v" },
    { "[{actions: [{header_value_match: {descriptor_key: k, descriptor_value: v, expect_match: "
      "false, headers: [{name: x-a, string_match: {exact: '1'}}]}}]}]",
      "/", "x-a: 1", "" },
    { "[{actions: [{query_parameter_value_match: {descriptor_value: v, query_parameters: [{name: "
      "q, "
      "string_match: {prefix: '1 '}}, {name: r, present_match: true}]}}]}]",
      "/?r&q=1%202", NULL, "query_match=v" },
    { "[{actions: [{query_parameter_value_match: {descriptor_value: v, expect_match: false, "
      "query_parameters: [{name: q, present_match: true}]}}]}]",
      "/", NULL, "query_match=v" },
    { "[{actions: [{metadata: {descriptor_key: k, metadata_key: {key: ns, path: [{key: a}, {key: "
      "b}]}}}]}]",
      "/", NULL, "k=dyn" },
    { "[{actions: [{dynamic_metadata: {descriptor_key: k, metadata_key: {key: none, path: [{key: "
      "a}]}, default_value: d}}]}]",
      "/", NULL, "k=d" },
    { "[{actions: [{metadata: {descriptor_key: k, source: ROUTE_ENTRY, metadata_key: {key: r, "
      "path: "
      "[{key: x}]}}}]}]",
      "/", NULL, "k=of-route" },
    { "[{actions: [{metadata: {descriptor_key: k, source: ROUTE_ENTRY, metadata_key: {key: r, "
      "path: "
      "[{key: z}]}}}]}]",
      "/", NULL, "" },
    { "[{stage: 1, actions: [{generic_key: {descriptor_value: a}}]}, {disable_key: x, actions: "
      "[{generic_key: {descriptor_value: b}}]}, {actions: [{generic_key: {descriptor_value: c}}]}]",
      "/", NULL, "generic_key=b|generic_key=c" },
};

static const char *route_yaml(struct fixture *f, const char *rate_limits)
{
    return mz_arena_printf(f->a,
                           "  - match: {prefix: /}\n"
                           "    metadata: {filter_metadata: {r: {x: of-route}}}\n"
                           "    route: {cluster: one, rate_limits: %s}\n",
                           rate_limits)
        .p;
}

static struct mz_rate_query query(struct fixture *f, const struct mz_route *r,
                                  struct mz_stream_info *info)
{
    static struct mz_field leaf, top;
    static const struct mz_value text = { .kind = MZ_VALUE_STRING, .str = MZ_STR_INIT("dyn") };
    static struct mz_value inner;
    struct mz_meta *m = mz_meta_create(f->a);
    leaf = (struct mz_field){ MZ_STR("b"), &text };
    inner = (struct mz_value){ .kind = MZ_VALUE_STRUCT, .fields = { &leaf, 1, 1 } };
    top = (struct mz_field){ MZ_STR("a"), &inner };
    mz_meta_set(m, MZ_STR("ns"), top.key, top.value);
    *info = (struct mz_stream_info){ .arena = f->a };
    assert_true(mz_addr_parse_ip(MZ_STR("10.255.3.4"), 5, &info->remote));
    f->q.info = info;
    f->q.dynamic_metadata = m;
    return (struct mz_rate_query){ r, f->q, MZ_STR("svc"), true };
}

static struct mz_str text_of(struct fixture *f, const struct mz_descriptor *d, size_t n)
{
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d[i].n; k++)
            out = mz_arena_printf(f->a, "%.*s%s%.*s=%.*s", MZ_STR_ARG(out),
                                  k   ? ";"
                                  : i ? "|"
                                      : "",
                                  MZ_STR_ARG(d[i].v[k].key), MZ_STR_ARG(d[i].v[k].value));
    return out;
}

static void test_actions(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        struct mz_stream_info info;
        struct mz_descriptor d[4];
        fixture_init(&f);
        if (!fixture_routes(&f, route_yaml(&f, cases[i].actions)))
            fail_msg("%s: %s: %s", cases[i].actions, f.err.path, f.err.msg);
        const struct mz_route *r = fixture_get(&f, "a", cases[i].path, cases[i].headers);
        struct mz_rate_query q = query(&f, r, &info);
        size_t n = mz_rate_limits_describe(r->rate_limits, 0, &q, d);
        assert_string_equal(text_of(&f, d, n).p, cases[i].want);
        fixture_fini(&f);
    }
}

/* Local limits leave out what may be switched off; the runtime switches it off for the service. */
static void test_disable_key(void **state)
{
    (void)state;
    struct fixture f;
    struct mz_stream_info info;
    struct mz_descriptor d;
    fixture_init(&f);
    assert_true(
        fixture_routes(&f, route_yaml(&f, "[{disable_key: x, actions: [{remote_address: {}}]}]")));
    const struct mz_route *r = fixture_get(&f, "a", "/", NULL);
    struct mz_rate_query q = query(&f, r, &info);
    assert_int_equal(mz_rate_limits_describe(r->rate_limits, 0, &q, &d), 1);
    q.global = false;
    assert_int_equal(mz_rate_limits_describe(r->rate_limits, 0, &q, &d), 0);
    fixture_fini(&f);
}

static const struct {
    const char *limit, *error; /* error NULL: good */
    const char *value;         /* of x-hits */
    int hits;                  /* -1: no descriptor */
} of_filters[] = {
    { "{actions: [{remote_address: {}}]}", NULL, "", 1 },
    { "{actions: [{remote_address: {}}], hits_addend: {number: 7}}", NULL, "", 7 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(x-hits)%'}}", NULL, "2.9", 2 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(x-hits)%'}}", NULL, "-1", -1 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(x-hits)%'}}", NULL, "1x", -1 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(x-hits)%'}}", NULL, "nan",
      -1 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: '%REQ(x-hits)%'}}", NULL,
      "1000000001", -1 },
    { "{actions: [{remote_address: {}}], hits_addend: {}}",
      "[0].hits_addend: exactly one of number, format is required", "", 0 },
    { "{actions: [{remote_address: {}}], hits_addend: {format: 'a%REQ(x)%'}}",
      "[0].hits_addend.format: must be one operator, is 'a%REQ(x)%'", "", 0 },
    { "{stage: 1, actions: [{remote_address: {}}]}",
      "[0]: stage and disable_key are for rate_limits of routes", "", 0 },
    { "{actions: [{dynamic_metadata: {descriptor_key: k, metadata_key: {key: a, path: [{key: "
      "b}]}}}]}",
      "[0].actions[0]: dynamic_metadata is for rate_limits of routes; use metadata", "", 0 },
};

static void test_of_filters(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(of_filters); i++) {
        struct fixture f;
        fixture_init(&f);
        struct mz_proto_ctx ctx = { .arena = f.a };
        ProtobufCMessage *m;
        assert_true(mz_msg_from_text(&ctx, mz_str_c(of_filters[i].limit), MZ_TEXT_YAML,
                                     &pb_RateLimit__descriptor, &m, &f.err));
        pb_RateLimit *one = (pb_RateLimit *)m;
        const struct mz_rate_limits *l = NULL;
        char text[512] = "";
        if (!mz_rate_limits_build(&one, 1, true, f.a, &l, &f.err))
            (void)mz_err_text(&f.err, text, sizeof(text));
        assert_string_equal(text, of_filters[i].error ? of_filters[i].error : "");
        assert_true(fixture_routes(&f, "  - {match: {prefix: /}, route: {cluster: one}}\n"));
        const struct mz_route *r = fixture_get(&f, "a", "/", NULL);
        mz_headers_add(f.h, MZ_STR("x-hits"), mz_str_c(of_filters[i].value));
        struct mz_stream_info info;
        struct mz_rate_query q = query(&f, r, &info);
        struct mz_descriptor d;
        size_t n = mz_rate_limits_describe(l, 9, &q, &d);
        if (l && n != (of_filters[i].hits >= 0))
            fail_msg("%s: %zu", of_filters[i].limit, n);
        if (n)
            assert_int_equal(d.hits, of_filters[i].hits);
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_actions),
                                    cmocka_unit_test(test_disable_key),
                                    cmocka_unit_test(test_of_filters) };
    return cmocka_run_group_tests_name("rate_limit", t, NULL, NULL);
}
