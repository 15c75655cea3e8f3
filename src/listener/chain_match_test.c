#include "listener/chain_match.h"

#include "base/test.h"
#include "proto/mapper.h"

static struct mz_arena *arena;
static struct mz_chain_match *match;

static char names[16][8];
static bool add(unsigned i, const char *yaml, void **out_other, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = arena };
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_FilterChainMatch__descriptor, &m,
                          err))
        fail_msg("%s: %s", err->path, err->msg);
    return mz_chain_match_add(match, (const pb_FilterChainMatch *)m, names[i], out_other, err);
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_CONFIG);
    match = mz_chain_match_create(arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static const char *const chains[] = {
    /* 0 */ "{}",
    /* 1 */ "{destination_port: 443}",
    /* 2 */ "{prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}]}",
    /* 3 */ "{prefix_ranges: [{address_prefix: 10.1.2.0, prefix_len: 24}], source_ports: [99]}",
    /* 4 */ "{server_names: [a.test, '*.b.test']}",
    /* 5 */ "{server_names: ['*.deep.b.test'], transport_protocol: tls}",
    /* 6 */ "{transport_protocol: tls, application_protocols: [h2, http/1.1]}",
    /* 7 */
    ("{source_type: SAME_IP_OR_LOOPBACK, prefix_ranges: [{address_prefix: 127.0.0.1, prefix_len: "
     "32}]}"),
    /* 8 */ "{direct_source_prefix_ranges: [{address_prefix: 172.16.0.0, prefix_len: 12}]}",
    /* 9 */ "{source_prefix_ranges: [{address_prefix: 192.168.0.0, prefix_len: 16}]}",
    /* 10 */
    "{source_prefix_ranges: [{address_prefix: 192.168.0.0, prefix_len: 16}], source_ports: [7]}",
    /* 11 */ "{prefix_ranges: [{address_prefix: '2001:db8::', prefix_len: 32}]}",
};

static const struct {
    const char *local, *remote, *sni, *transport, *alpn;
    uint16_t port, source_port;
    int chain;
} cases[] = {
    { "9.9.9.9", "8.8.8.8", "", "raw_buffer", NULL, 80, 1, 0 },
    { "9.9.9.9", "8.8.8.8", "", "raw_buffer", NULL, 443, 1, 1 },
    { "10.1.9.9", "8.8.8.8", "", "raw_buffer", NULL, 80, 1, 2 },
    { "10.1.2.9", "8.8.8.8", "", "raw_buffer", NULL, 80, 99, 3 },
    { "10.1.2.9", "8.8.8.8", "", "raw_buffer", NULL, 80, 98,
      -1 }, /* no way back to the wider prefix */
    { "9.9.9.9", "8.8.8.8", "a.test", "tls", NULL, 80, 1, 4 },
    { "9.9.9.9", "8.8.8.8", "x.y.b.test", "tls", NULL, 80, 1, 4 },
    { "9.9.9.9", "8.8.8.8", "b.test", "tls", NULL, 80, 1,
      -1 }, /* tls entry without ALPN fits nothing */
    { "9.9.9.9", "8.8.8.8", "b.test", "raw_buffer", NULL, 80, 1, 0 },
    { "9.9.9.9", "8.8.8.8", "x.deep.b.test", "tls", NULL, 80, 1, 5 },
    { "9.9.9.9", "8.8.8.8", "x.deep.b.test", "raw_buffer", NULL, 80, 1, -1 },
    { "9.9.9.9", "8.8.8.8", "", "tls", "h2", 80, 1, 6 },
    { "127.0.0.1", "127.0.0.1", "", "raw_buffer", NULL, 80, 1, 7 },
    { "127.0.0.1", "8.8.8.8", "", "raw_buffer", NULL, 80, 1, -1 },
    { "9.9.9.9", "172.20.0.1", "", "raw_buffer", NULL, 80, 1, 8 },
    { "9.9.9.9", "192.168.1.1", "", "raw_buffer", NULL, 80, 1, 9 },
    { "9.9.9.9", "192.168.1.1", "", "raw_buffer", NULL, 80, 7, 10 },
    { "2001:db8::1", "::1", "", "raw_buffer", NULL, 80, 1, 11 },
    { "2001:db9::1", "2001::7", "", "raw_buffer", NULL, 80, 1, 0 },
};

static void test_order(void **state)
{
    (void)state;
    struct mz_err err;
    for (unsigned i = 0; i < MZ_COUNT(chains); i++) {
        void *other = NULL;
        assert_true(add(i, chains[i], &other, &err));
    }
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_addr local, remote;
        assert_true(mz_addr_parse_ip(mz_str_c(cases[i].local), cases[i].port, &local));
        assert_true(mz_addr_parse_ip(mz_str_c(cases[i].remote), cases[i].source_port, &remote));
        const struct mz_str alpn = mz_str_c(cases[i].alpn);
        const struct mz_chain_query q = { &local,
                                          &remote,
                                          &remote,
                                          mz_str_c(cases[i].sni),
                                          mz_str_c(cases[i].transport),
                                          &alpn,
                                          cases[i].alpn ? 1 : 0 };
        const void *want = cases[i].chain < 0 ? NULL : names[cases[i].chain];
        if (mz_chain_match_find(match, &q) != want)
            fail_msg("case %zu", i);
    }
}

static void test_unix_destination(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_addr pipe;
    void *other = NULL;
    assert_true(add(0, "{}", &other, &err));
    assert_true(mz_addr_unix(MZ_STR("/tmp/x"), &pipe, &err));
    const struct mz_chain_query q = {
        .local = &pipe, .remote = &pipe, .direct_remote = &pipe, .transport = MZ_STR("raw_buffer")
    };
    assert_ptr_equal(mz_chain_match_find(match, &q), names[0]);
}

static const struct {
    const char *first, *second, *error; /* NULL: a duplicate */
} refused[] = {
    { "{}", "{}", NULL },
    { "{server_names: [A.test]}", "{server_names: [b.test, a.TEST]}", NULL },
    { "{prefix_ranges: [{address_prefix: 10.0.0.1, prefix_len: 8}]}",
      "{prefix_ranges: [{address_prefix: 10.9.9.9, prefix_len: 8}]}", NULL },
    { "{source_ports: [1, 2]}", "{source_ports: [2]}", NULL },
    { "{}", "{server_names: ['a.*.test']}",
      "partial wildcards are not supported in \"server_names\"" },
    { "{}", "{prefix_ranges: [{address_prefix: nonsense, prefix_len: 8}]}",
      "malformed IP address: nonsense" },
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(refused); i++) {
        struct mz_err err;
        void *other = NULL;
        match = mz_chain_match_create(arena);
        assert_true(add(0, refused[i].first, &other, &err));
        assert_false(add(1, refused[i].second, &other, &err));
        if (refused[i].error)
            assert_string_equal(err.msg, refused[i].error);
        else
            assert_ptr_equal(other, names[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_destination, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
