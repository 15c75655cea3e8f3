/* The TLS transport between two connections of one loop: what the kernel tells once must not be lost in OpenSSL's buffers (T1, H7). */
#include "tls/tls.h"

#include "base/test.h"
#include "net/conn.h"
#include "proto/mapper.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/socket.h>

enum { RECORD = 4096 }; /* several fit into one read of OpenSSL's */
static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_arena *arena;
static struct side {
    struct mz_conn *c;
    size_t got;
    bool pause, connected;
} client, server;

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    struct side *s = arg;
    (void)end;
    s->got += mz_buf_len(mz_conn_in(c));
    mz_buf_drain(mz_conn_in(c), mz_buf_len(mz_conn_in(c)));
    if (s->pause) {
        s->pause = false;
        mz_conn_read_disable(c, true);
    }
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct side *s = arg;
    (void)c;
    if (ev == MZ_CONN_CONNECTED)
        s->connected = true;
    else
        s->c = NULL;
}

static const struct mz_conn_ops ops = { .data = on_data, .event = on_event };

static struct mz_str pem(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    struct mz_str s = mz_arena_dup(arena, (struct mz_str){ p, (size_t)n });
    BIO_free(b);
    return s;
}

static void pair_make(struct mz_str *out_cert, struct mz_str *out_key)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"a.test", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    BIO *b = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio_X509(b, x));
    *out_cert = pem(b);
    b = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL));
    *out_key = pem(b);
    X509_free(x);
    EVP_PKEY_free(key);
}

static const char *in_json(struct mz_str text)
{
    char *to = mz_arena_alloc(arena, text.n * 2 + 1), *p = to;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n')
            *p++ = '\\', *p++ = 'n';
        else
            *p++ = text.p[i];
    }
    *p = '\0';
    return to;
}

static ProtobufCMessage *context(const ProtobufCMessageDescriptor *d, const char *text)
{
    struct mz_proto_ctx ctx = { .arena = arena };
    struct mz_err err;
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(text), MZ_TEXT_JSON, d, &m, &err))
        fail_msg("%s", mz_err_text(&err, (char[512]){ "" }, 512));
    return m;
}

static struct mz_conn *open_side(struct mz_transport_factory *f, int fd, struct side *s)
{
    struct mz_addr none;
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 1, &none);
    struct mz_conn *c = mz_conn_accepted(loop, fd, &none, &none, f->create(f, NULL), &ops, s);
    mz_conn_set_buffer_limit(c, RECORD);
    return c;
}

static void turns(unsigned n)
{
    while (n--)
        mz_loop_turn(loop, 1);
}

static void send_records(unsigned n)
{
    char bytes[RECORD];
    memset(bytes, 'x', RECORD);
    for (; n; n--) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_append(&b, bytes, RECORD);
        mz_conn_write(client.c, &b, false);
        turns(2);
    }
}

static void test_rest_in_openssl_then_more_in_kernel(void **state)
{
    (void)state;
    struct mz_str cert, key;
    struct mz_err err;
    char *text = mz_arena_alloc(arena, 8192);
    pair_make(&cert, &key);
    snprintf(text, 8192,
             "{\"common_tls_context\": {\"tls_certificates\": [{\"certificate_chain\": "
             "{\"inline_string\": \"%s\"}, "
             "\"private_key\": {\"inline_string\": \"%s\"}}]}}",
             in_json(cert), in_json(key));
    const struct mz_tls_env env = { .stats = stats, .prefix = MZ_STR("listener.a.") };
    struct mz_transport_factory *down = mz_tls_downstream_create(
        (const pb_DownstreamTlsContext *)context(&pb_DownstreamTlsContext__descriptor, text), &env,
        &err);
    struct mz_transport_factory *up = mz_tls_upstream_create(
        (const pb_UpstreamTlsContext *)context(&pb_UpstreamTlsContext__descriptor, "{}"), &env,
        &err);
    assert_non_null(down);
    assert_non_null(up);

    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    client.c = open_side(up, fds[0], &client);
    server.c = open_side(down, fds[1], &server);
    for (unsigned i = 0; i < 100 && !(client.connected && server.connected); i++)
        turns(1);
    assert_true(client.connected && server.connected);

    mz_conn_read_disable(server.c, true);
    send_records(2);
    server.pause = true; /* after the first record; the second is in OpenSSL's buffer then */
    mz_conn_read_disable(server.c, false);
    turns(4);
    assert_int_equal(server.got, RECORD);
    send_records(2); /* the kernel tells of them while nobody reads */
    mz_conn_read_disable(server.c, false);
    turns(8);
    assert_int_equal(server.got, 4 * RECORD);

    mz_conn_close(client.c, MZ_CLOSE_NOW, NULL, 0);
    mz_conn_close(server.c, MZ_CLOSE_NOW, NULL, 0);
    turns(1);
    mz_transport_factory_unref(down);
    mz_transport_factory_unref(up);
}

int main(void)
{
    loop = mz_loop_create("test");
    stats = mz_stats_create(1);
    arena = mz_arena_create(MZ_MEM_CONFIG);
    const struct CMUnitTest tests[] = { cmocka_unit_test(
        test_rest_in_openssl_then_more_in_kernel) };
    int rc = cmocka_run_group_tests_name("tls/transport", tests, NULL, NULL);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_arena_destroy(arena);
    return rc;
}
