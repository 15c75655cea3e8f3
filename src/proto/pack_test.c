#include "base/arena.h"
#include "base/test.h"
#include "proto/names.h"
#include "proto/pack.h"
#include "proto/proto_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 5 };

struct filling {
    struct mz_arena *a;
    unsigned state; /* the same messages every time */
};

static unsigned dice(struct filling *x, unsigned n)
{
    x->state = x->state * 1103515245 + 12345;
    return (x->state >> 8) % n;
}

static ProtobufCMessage *random_message(struct filling *x, const ProtobufCMessageDescriptor *d,
                                        unsigned depth);

static uint64_t random_number(struct filling *x)
{
    static const uint64_t few[] = { 0,     1,        127,        128,        16383,
                                    16384, 1u << 21, UINT32_MAX, 1ull << 35, UINT64_MAX };
    const uint64_t all =
        (uint64_t)dice(x, 1u << 24) << 40 ^ (uint64_t)dice(x, 1u << 24) << 16 ^ dice(x, 1u << 24);
    return dice(x, 2) ? few[dice(x, MZ_COUNT(few))] : all >> dice(x, 64);
}

static void random_value(struct filling *x, const ProtobufCFieldDescriptor *f, void *at,
                         unsigned depth)
{
    const uint64_t v = random_number(x);
    const double floats[] = { 0, -0.0, 1.5, (double)v };
    char *text = mz_arena_alloc0(x->a, 301);
    const size_t n = dice(x, 4) ? dice(x, 12) : dice(x, 300);
    memset(text, 'x', n);
    if (f->type == PROTOBUF_C_TYPE_STRING)
        *(char **)at = text;
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        *(ProtobufCBinaryData *)at = (ProtobufCBinaryData){ n, (uint8_t *)text };
    else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        *(ProtobufCMessage **)at = random_message(x, f->descriptor, depth + 1);
    else if (f->type == PROTOBUF_C_TYPE_BOOL)
        *(protobuf_c_boolean *)at = (int)(v & 1);
    else if (f->type == PROTOBUF_C_TYPE_FLOAT)
        *(float *)at = (float)floats[v % MZ_COUNT(floats)];
    else if (f->type == PROTOBUF_C_TYPE_DOUBLE)
        *(double *)at = floats[v % MZ_COUNT(floats)];
    else
        memcpy(at, &v, field_size(f));
}

static void random_field(struct filling *x, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                         unsigned depth)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE && depth == MAX_DEPTH)
        return;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const size_t n = dice(x, 4), size = field_size(f);
        char *v = mz_arena_alloc0(x->a, n * size + 1);
        for (size_t i = 0; i < n; i++)
            random_value(x, f, v + i * size, depth);
        *(char **)field_at(f, m) = v;
        *(size_t *)quantifier_at(f, m) = n;
        return;
    }
    if (is_oneof(f)) {
        if (*(uint32_t *)quantifier_at(f, m))
            return;
        *(uint32_t *)quantifier_at(f, m) = f->id;
    } else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_MESSAGE &&
               f->type != PROTOBUF_C_TYPE_STRING) {
        *(protobuf_c_boolean *)quantifier_at(f, m) = true;
    }
    random_value(x, f, field_at(f, m), depth);
}

static ProtobufCMessage *random_message(struct filling *x, const ProtobufCMessageDescriptor *d,
                                        unsigned depth)
{
    ProtobufCMessage *m = message_new(x->a, d);
    for (unsigned i = 0; i < d->n_fields; i++)
        if (dice(x, d->n_fields + depth * 2) < 4)
            random_field(x, &d->fields[i], m, depth);
    return m;
}

static void expect_same(const ProtobufCMessage *m)
{
    struct mz_packer p;
    const struct mz_str got = mz_packer_pack(&p, m);
    const size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *want = malloc(n + 1);
    assert_int_equal(protobuf_c_message_pack(m, want), n);
    assert_int_equal(got.n, n);
    assert_memory_equal(got.p, want, n);
    free(want);
    mz_packer_fini(&p);
}

static void test_same_bytes(void **state)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &pb_Cluster__descriptor,
        &pb_Listener__descriptor,
        &pb_RouteConfiguration__descriptor,
        &pb_Bootstrap__descriptor,
        &pb_ClusterLoadAssignment__descriptor,
        &pb_Struct__descriptor,
        &pb_HealthStatusSet__descriptor,
        &pb_Int64Value__descriptor,
        &pb_DoubleValue__descriptor
    };
    (void)state;
    for (unsigned i = 0; i < 4000; i++) {
        struct filling x = { mz_arena_create(MZ_MEM_CONFIG), i };
        expect_same(random_message(&x, types[i % MZ_COUNT(types)], 0));
        mz_arena_destroy(x.a);
    }
}

/* Much more than the first room, and fields that no schema knows. */
static void test_long(void **state)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    pb_RouteConfiguration *m =
        (pb_RouteConfiguration *)message_new(a, &pb_RouteConfiguration__descriptor);
    static pb_VirtualHost *hosts[2000];
    char name[40];
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(hosts); i++) {
        hosts[i] = (pb_VirtualHost *)message_new(a, &pb_VirtualHost__descriptor);
        snprintf(name, sizeof(name), "host-%zu", i * i);
        hosts[i]->name = (char *)(uintptr_t)mz_arena_dup(a, mz_str_c(name)).p;
    }
    m->n_virtual_hosts = MZ_COUNT(hosts);
    m->virtual_hosts = hosts;
    expect_same(&m->base);
    ProtobufCMessageUnknownField unknown[] = {
        { .tag = 900,
          .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
          .len = 3,
          .data = (uint8_t[]){ 2, 7, 8 } },
        { .tag = 7, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .len = 1, .data = (uint8_t[]){ 5 } }
    };
    m->base.n_unknown_fields = MZ_COUNT(unknown);
    m->base.unknown_fields = unknown;
    expect_same(&m->base);
    mz_arena_destroy(a);
}

/* What is packed already stands where the message itself would. */
static void test_packed(void **state)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    pb_Cluster *m = (pb_Cluster *)message_new(a, &pb_Cluster__descriptor);
    pb_Duration *d = (pb_Duration *)message_new(a, &pb_Duration__descriptor);
    struct mz_packed stands = { { .descriptor = &mz_packed__descriptor }, MZ_STR("") };
    (void)state;
    for (int64_t seconds = 0; seconds <= 300; seconds += 150) {
        d->seconds = seconds;
        m->connect_timeout = d;
        const struct mz_str whole = mz_msg_pack_alloc(&m->base, a);
        stands.bytes = mz_msg_pack_alloc(&d->base, a);
        m->connect_timeout = (pb_Duration *)(void *)&stands;
        const struct mz_str same = mz_msg_pack_alloc(&m->base, a);
        assert_int_equal(same.n, whole.n);
        assert_memory_equal(same.p, whole.p, whole.n);
    }
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_bytes),
                                        cmocka_unit_test(test_long),
                                        cmocka_unit_test(test_packed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
