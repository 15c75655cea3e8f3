#include "base/test.h"

#include "observe/custom_tag.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"
#include <stdio.h>
#include <stdlib.h>

struct fix {
    struct mz_arena *a;
    struct mz_stream_info info;
    struct mz_headers req;
    struct mz_format_ctx ctx;
};

static struct mz_meta *meta(struct mz_arena *a, const char *yaml)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Metadata__descriptor, &m, &err))
        fail_msg("%s: %s", yaml, err.msg);
    return mz_meta_build((const void *)m, a);
}

static void fix_init(struct fix *f)
{
    f->a = mz_arena_create(MZ_MEM_MISC);
    mz_info_init(&f->info);
    f->info.arena = f->a;
    f->info.dynamic_metadata =
        meta(f->a, "filter_metadata: {ns: {b: true, n: 12345678, h: 1.5, s: text, e: '', z: null, "
                   "l: [1, x], o: {k: v}}}");
    f->info.route_metadata = meta(f->a, "filter_metadata: {ns: {s: of-route}}");
    f->info.up.cluster_metadata = meta(f->a, "filter_metadata: {ns: {s: of-cluster}}");
    f->info.up.metadata = meta(f->a, "filter_metadata: {ns: {s: of-host}}");
    mz_headers_init(&f->req, f->a);
    mz_headers_add(&f->req, MZ_STR("x-two"), MZ_STR("first"));
    mz_headers_add(&f->req, MZ_STR("x-two"), MZ_STR("second"));
    mz_headers_add(&f->req, MZ_STR("x-empty"), MZ_STR(""));
    f->info.req = &f->req;
    f->ctx = (struct mz_format_ctx){ .info = &f->info };
}

static bool build(struct fix *f, const char *yaml, struct mz_custom_tags *out, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = f->a };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_CustomTag__descriptor, &m, err))
        return false;
    pb_CustomTag *one[] = { (pb_CustomTag *)(void *)m };
    return mz_custom_tags_build(one, 1, f->a, out, err);
}

#define META(kind, key)                                                                            \
    "metadata: {kind: {" kind ": {}}, metadata_key: {key: ns, path: [{key: " key "}]}}"
static const struct {
    const char *tag, *value; /* NULL: left out */
} values[] = {
    { "literal: {value: x}", "x" },
    { "environment: {name: CUSTOM_TAG_TEST, default_value: d}", "from outside" },
    { "environment: {name: CUSTOM_TAG_NONE, default_value: d}", "d" },
    { "environment: {name: CUSTOM_TAG_NONE}", NULL },
    { "request_header: {name: X-Two, default_value: d}", "first" },
    { "request_header: {name: x-none, default_value: d}", "d" },
    { "request_header: {name: x-empty, default_value: d}", NULL },
    { "request_header: {name: x-none}", NULL },
    { "value: 'a%REQ(x-two)%b'", "afirstb" },
    { "value: '%REQ(x-none)%'", NULL },
    { "metadata: {kind: {cluster: {}}, metadata_key: {key: none, path: [{key: s}]}, default_value: "
      "d}",
      "d" },
    { META("cluster", "s"), "of-cluster" },
    { META("host", "s"), "of-host" },
};

static void test_values(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    setenv("CUSTOM_TAG_TEST", "from outside", 1);
    for (size_t i = 0; i < MZ_COUNT(values); i++) {
        struct mz_custom_tags t;
        struct mz_err err;
        char yaml[256];
        (void)snprintf(yaml, sizeof(yaml), "{tag: t, %s}", values[i].tag);
        if (!build(&f, yaml, &t, &err))
            fail_msg("%s: %s", yaml, err.msg);
        struct mz_str got;
        assert_true(mz_str_eq(mz_custom_tag_name(&t, 0), MZ_STR("t")));
        bool have = mz_custom_tag_value(&t, 0, &f.ctx, f.a, &got);
        if (have != (values[i].value != NULL) ||
            (have && !mz_str_eq(got, mz_str_c(values[i].value))))
            fail_msg("%s: '" MZ_STR_FMT "'", yaml, have ? (int)got.n : 0, have ? got.p : "");
        mz_custom_tags_fini(&t);
    }
    mz_arena_destroy(f.a);
}

/* Kinds that only the control plane may write come as messages. */
static const struct {
    int kind;
    const char *key, *value;
} kinds[] = {
    { pb_MetadataKind_KIND_REQUEST, "b", "true" },
    { pb_MetadataKind_KIND_REQUEST, "n", "1.23457e+07" },
    { pb_MetadataKind_KIND_REQUEST, "h", "1.5" },
    { pb_MetadataKind_KIND_REQUEST, "s", "text" },
    { pb_MetadataKind_KIND_REQUEST, "e", "" },
    { pb_MetadataKind_KIND_REQUEST, "z", "default" },
    { pb_MetadataKind_KIND_REQUEST, "l", "[1,\"x\"]" },
    { pb_MetadataKind_KIND_REQUEST, "o", "{\"k\":\"v\"}" },
    { pb_MetadataKind_KIND_REQUEST, "none", "default" },
    { pb_MetadataKind_KIND_ROUTE, "s", "of-route" },
};

static void test_metadata(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    for (size_t i = 0; i < MZ_COUNT(kinds); i++) {
        pb_MetadataKey_PathSegment s = pb_MetadataKey_PathSegment__INIT;
        pb_MetadataKey_PathSegment *path[] = { &s };
        pb_MetadataKey key = pb_MetadataKey__INIT;
        pb_MetadataKind kind = pb_MetadataKind__INIT;
        pb_CustomTag_Metadata m = pb_CustomTag_Metadata__INIT;
        pb_CustomTag tag = pb_CustomTag__INIT;
        char name[16], ns[] = "ns", t[] = "t", def[] = "default";
        (void)snprintf(name, sizeof(name), "%s", kinds[i].key);
        s.segment_case = pb_MetadataKey_PathSegment_SEGMENT_KEY;
        s.key = name;
        key.key = ns;
        key.n_path = 1;
        key.path = path;
        kind.kind_case = (pb_MetadataKind_KindCase)kinds[i].kind;
        m.kind = &kind;
        m.metadata_key = &key;
        m.default_value = def;
        tag.tag = t;
        tag.type_case = pb_CustomTag_TYPE_METADATA;
        tag.metadata = &m;
        pb_CustomTag *one[] = { &tag };
        struct mz_custom_tags tags;
        struct mz_err err;
        struct mz_str got;
        assert_true(mz_custom_tags_build(one, 1, f.a, &tags, &err));
        assert_true(mz_custom_tag_value(&tags, 0, &f.ctx, f.a, &got));
        if (!mz_str_eq(got, mz_str_c(kinds[i].value)))
            fail_msg("%s: '" MZ_STR_FMT "'", name, MZ_STR_ARG(got));
        mz_custom_tags_fini(&tags);
    }
    mz_arena_destroy(f.a);
}

static const struct {
    const char *yaml, *err;
} wrong[] = {
    { "{tag: t, value: '%NO_SUCH%'}", "[0].value: " },
    { "{tag: t, metadata: {metadata_key: {key: ns, path: [{key: a}]}}}",
      "[0].metadata.kind: is required" },
};

static void test_wrong(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    for (size_t i = 0; i < MZ_COUNT(wrong); i++) {
        struct mz_custom_tags t;
        struct mz_err err;
        assert_false(build(&f, wrong[i].yaml, &t, &err));
        char text[1600];
        if (!mz_str_starts(mz_str_c(mz_err_text(&err, text, sizeof(text))), mz_str_c(wrong[i].err)))
            fail_msg("%s: %s", wrong[i].yaml, text);
    }
    mz_arena_destroy(f.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
