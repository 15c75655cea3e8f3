#include "base/base64.h"
#include "base/test.h"
#include "filters/istio/exchange.h"
#include "proto/mapper.h"

static struct mz_arena *arena;

static const struct mz_value *metadata(const char *json)
{
    struct mz_proto_ctx ctx = { .arena = arena };
    struct mz_err err = { 0 };
    ProtobufCMessage *m;
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(json), MZ_TEXT_JSON, &pb_Struct__descriptor, &m, &err));
    return mz_value_build((const pb_Struct *)m, arena);
}

static const char node[] =
    "{\"NAME\":\"web-0\",\"NAMESPACE\":\"demo\",\"CLUSTER_ID\":\"c1\",\"WORKLOAD_NAME\":\"web\","
    "\"OWNER\":\"kubernetes://apis/apps/v1/namespaces/demo/deployments/"
    "web\",\"EXTRA\":{\"a\":[1,null]},"
    "\"LABELS\":{\"app\":\"w\",\"app.kubernetes.io/"
    "name\":\"web\",\"version\":\"v1\",\"role\":\"front\","
    "\"service.istio.io/canonical-name\":\"web-svc\",\"service.istio.io/"
    "canonical-revision\":\"r1\",\"n\":7}}";

static void assert_text(const struct peer *p, enum peer_text t, const char *want)
{
    assert_int_equal(p->text[t].n, strlen(want));
    assert_memory_equal(p->text[t].p, want, strlen(want));
}

static void assert_web(const struct peer *p)
{
    static const char *const want[PEER__TEXTS] = {
        [PEER_NAME] = "web-0",   [PEER_CLUSTER] = "c1",      [PEER_NAMESPACE] = "demo",
        [PEER_WORKLOAD] = "web", [PEER_SERVICE] = "web-svc", [PEER_REVISION] = "r1",
        [PEER_APP] = "web",      [PEER_VERSION] = "v1",      [PEER_IDENTITY] = "",
        [PEER_REGION] = "",      [PEER_ZONE] = "",
    };
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        assert_text(p, (enum peer_text)i, want[i]);
    assert_int_equal(p->type, PEER_DEPLOYMENT);
}

/* What is written is read as the same. */
static void test_there_and_back(void **state)
{
    (void)state;
    struct mz_str names[] = { MZ_STR("role"), MZ_STR("n"), MZ_STR("none"), MZ_STR("app") };
    const struct peer_labels labels = { names, MZ_COUNT(names) };
    struct peer p, q;
    peer_from_metadata(metadata(node), &labels, arena, &p);
    assert_web(&p);
    assert_int_equal(p.n_labels, 1);
    assert_true(peer_from_header(peer_header(&p, arena), &labels, arena, &q));
    assert_web(peer_copy(&q, arena));
    assert_int_equal(q.n_labels, 1);
    assert_true(mz_str_eq(q.labels[0].value->str, MZ_STR("front")));
    peer_from_baggage(peer_baggage(&p, arena), &q);
    assert_web(&q);
}

/* Bytes as Istio 1.32's proxies write them, fields in the order of their names. */
static void test_bytes(void **state)
{
    (void)state;
    struct peer p = { .type = PEER_UNKNOWN };
    p.text[PEER_NAME] = MZ_STR("n");
    struct mz_str got = peer_pack(peer_metadata(&p, arena), arena);
    static const char want[] =
        "\x0a\x0c\x0a\x06LABELS\x12\x02*\x00\x0a\x0b\x0a\x04NAME\x12\x03\x1a\x01n";
    assert_int_equal(got.n, sizeof(want) - 1);
    assert_memory_equal(got.p, want, got.n);
}

static void test_endpoint(void **state)
{
    (void)state;
    struct peer p;
    assert_true(peer_from_endpoint(MZ_STR("w;ns;svc;v2;cl"), &p));
    assert_text(&p, PEER_WORKLOAD, "w");
    assert_text(&p, PEER_CLUSTER, "cl");
    assert_true(peer_from_endpoint(MZ_STR("w;;;;;more"), &p));
    assert_text(&p, PEER_CLUSTER, "");
    assert_false(peer_from_endpoint(MZ_STR("w;ns;svc;v2"), &p));
    assert_false(peer_from_endpoint(MZ_STR(""), &p));
}

static void test_objects(void **state)
{
    (void)state;
    struct peer p;
    struct peer_object map, fields;
    struct mz_str v;
    peer_from_metadata(metadata(node), NULL, arena, &p);
    peer_object_init(&map, &p);
    peer_fields_init(&fields, &p);
    assert_true(fields.base.field(&fields.base, MZ_STR("service"), &v));
    assert_true(mz_str_eq(v, MZ_STR("web-svc")));
    assert_false(fields.base.field(&fields.base, MZ_STR("identity"), &v));
    assert_true(
        mz_str_eq(fields.base.text(&fields.base, arena),
                  MZ_STR("type=deployment,workload=web,name=web-0,cluster=c1,namespace=demo,"
                         "service=web-svc,revision=r1,app=web,version=v1")));
    assert_int_equal(map.base.tree(&map.base, arena)->fields.n, 9);
    struct mz_map m;
    mz_map_init(&m, MZ_MEM_STREAM);
    assert_null(peer_of_state(&m, MZ_STR("a")));
    (void)mz_map_put(&m, MZ_STR("a"), &map);
    (void)mz_map_put(&m, MZ_STR("b"), &fields);
    (void)mz_map_put(&m, MZ_STR("c"), &peer_not_found);
    assert_ptr_equal(peer_of_state(&m, MZ_STR("a")), &p);
    assert_null(peer_of_state(&m, MZ_STR("b")));
    assert_null(peer_of_state(&m, MZ_STR("c")));
    mz_map_fini(&m);
}

/* The exchange in pieces of any size; what follows it stays. */
static void test_exchange(void **state)
{
    (void)state;
    struct peer self, p;
    peer_from_metadata(metadata(node), NULL, arena, &self);
    struct mz_str part = exchange_write(&self, MZ_STR("sidecar~id"), arena);
    for (size_t piece = 1; piece <= part.n + 4; piece += 13) {
        struct exchange x = { 0 };
        struct mz_buf b;
        enum exchange_result r = EXCHANGE_MORE;
        mz_buf_init(&b);
        struct mz_str all = mz_arena_cat(arena, 2, (struct mz_str[]){ part, MZ_STR("data") });
        for (size_t at = 0; at < all.n; at += piece) {
            mz_buf_append(&b, all.p + at, all.n - at < piece ? all.n - at : piece);
            if (r == EXCHANGE_MORE || r == EXCHANGE_MORE_HEAD)
                r = exchange_read(&x, &b, false, NULL, arena, &p);
        }
        assert_int_equal(r, EXCHANGE_FOUND);
        assert_web(&p);
        assert_true(mz_str_eq(mz_buf_linearize(&b, mz_buf_len(&b)), MZ_STR("data")));
        mz_buf_fini(&b);
    }
}

static const struct {
    struct mz_str bytes;
    bool end;
    enum exchange_result result;
    size_t left;
} parts[] = {
    { MZ_STR_INIT(""), false, EXCHANGE_MORE_HEAD, 0 },
    { MZ_STR_INIT(""), true, EXCHANGE_NO_HEAD, 0 },
    { MZ_STR_INIT("=#\x04g\0\0"), false, EXCHANGE_MORE_HEAD, 6 },
    { MZ_STR_INIT("=#\x04g\0\0"), true, EXCHANGE_NO_HEAD, 6 },
    { MZ_STR_INIT("GET / HTTP"), false, EXCHANGE_NO_HEAD, 10 },
    { MZ_STR_INIT("=#\x04g\0\0\0\x05"
                  "ab"),
      false, EXCHANGE_MORE, 2 },
    { MZ_STR_INIT("=#\x04g\0\0\0\x05"
                  "ab"),
      true, EXCHANGE_NO_PEER, 2 },
    { MZ_STR_INIT("=#\x04g\0\x01\0\x01"
                  "ab"),
      false, EXCHANGE_NO_PEER, 2 }, /* over 64 KiB: not waited for */
    { MZ_STR_INIT("=#\x04g\xff\xff\xff\xff"), false, EXCHANGE_NO_PEER, 0 },
    { MZ_STR_INIT("=#\x04g\0\0\0\x02\xff\xff"
                  "cd"),
      false, EXCHANGE_NO_PEER, 4 },
    { MZ_STR_INIT("=#\x04g\0\0\0\0cd"), false, EXCHANGE_NO_PEER, 2 }, /* an Any of nothing */
    { MZ_STR_INIT("=#\x04g\0\0\0\x05\x0a\x03x/ycd"), false, EXCHANGE_NO_PEER,
      7 }, /* of something else */
    { MZ_STR_INIT("=#\x04g\0\0\0\x1a\x0a\x18t/google.protobuf.Struct"
                  "cd"),
      false, EXCHANGE_SILENT, 2 },
};

static void test_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        struct exchange x = { 0 };
        struct peer p;
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_append_str(&b, parts[i].bytes);
        assert_int_equal(exchange_read(&x, &b, parts[i].end, NULL, arena, &p), parts[i].result);
        assert_int_equal(mz_buf_len(&b), parts[i].left);
        mz_buf_fini(&b);
    }
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_STREAM);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchange, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
