/* Whatever a client sends, in both variants: the peer lives, and what it sends are responses. Requests lie one behind the other, a byte
 * of length before each; a length of 255 changes the model. */
#include "control/discovery/peer_double.h"
#include "control/model/secret_double.h"

enum { MAX_CHANGES = 64 }; /* of one input: each makes everything anew */
#define SECRET(data)                                                                               \
    "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: demo}\ndata: {" data "}\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool on_send(void *arg, struct mz_buf *response)
{
    const bool *delta = arg;
    const struct mz_str bytes = mz_buf_linearize(response, mz_buf_len(response));
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .unchecked = true };
    ProtobufCMessage *m;
    struct mz_err err;
    if (!mz_msg_unpack(&ctx, bytes,
                       *delta ? &pb_DeltaDiscoveryResponse__descriptor
                              : &pb_DiscoveryResponse__descriptor,
                       &m, &err))
        __builtin_trap();
    mz_arena_destroy(a);
    return bytes.n % 7 != 0;
}

/* Made once: what is played is the protocol. */
static struct mz_model *models[2];

static void make_models(void)
{
    static struct secret_double pems; /* until the end */
    static const char *const texts[] = { DOUBLE_SERVICE("api", "80", "10.1.0.1")
                                             SECRET("tls.crt: $CERT, tls.key: $KEY"),
                                         DOUBLE_SERVICE("web", "81", "10.1.0.3")
                                             SECRET("cert: $CERT, key: $KEY, cacert: $CERT") };
    if (models[0])
        return;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    secret_double_init(&pems);
    for (size_t i = 0; i < MZ_COUNT(models); i++)
        models[i] = double_model(secret_double_fill(&pems, texts[i]));
}

static void change(struct mz_translator *t, struct mz_peer *p, const struct mz_model **m,
                   bool other)
{
    struct mz_change c;
    mz_change_init(&c, *m, models[other]);
    mz_peer_prepare(p, models[other]);
    mz_translator_set_model(t, models[other]);
    mz_peer_renew(p);
    mz_peer_push(p, &c);
    mz_change_fini(&c);
    *m = models[other];
}

static void play(const uint8_t *data, size_t n, bool delta)
{
    struct mz_translator *t =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    const struct mz_model *m = models[0];
    struct mz_bundles *bundles = mz_bundles_create(mz_translator_sets(t));
    const struct mz_peer_env env = { .translator = t,
                                     .bundles = bundles,
                                     .delta = delta,
                                     .only = MZ_XDS_TYPE__COUNT,
                                     .send = on_send,
                                     .arg = &delta,
                                     .ns = MZ_STR("demo"),
                                     .account = MZ_STR("x") };
    unsigned changes = 0;
    mz_translator_set_model(t, m);
    struct mz_peer *p = mz_peer_create(&env);
    for (size_t at = 0; at < n;) {
        size_t len = data[at++];
        if (len == 255) {
            if (changes++ < MAX_CHANGES)
                change(t, p, &m, at & 1);
            continue;
        }
        len = len > n - at ? n - at : len;
        struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
        struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
        ProtobufCMessage *r;
        struct mz_err err;
        if (mz_msg_unpack(&ctx, (struct mz_str){ (const char *)data + at, len },
                          delta ? &pb_DeltaDiscoveryRequest__descriptor
                                : &pb_DiscoveryRequest__descriptor,
                          &r, &err))
            (void)mz_peer_request(p, r, &err);
        mz_peer_writable(p);
        (void)mz_peer_ahead(p);
        mz_arena_destroy(a);
        at += len;
    }
    mz_peer_destroy(p);
    mz_bundles_destroy(bundles);
    mz_translator_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    make_models();
    play(data, n, false);
    play(data, n, true);
    return 0;
}
