/* Whatever a client sends, in both variants: the peer lives, and what it sends are responses. Requests lie one behind the other, a byte
 * of length before each; a length of 255 changes the model. */
#include "control/discovery/peer_double.h"

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

static void change(struct mz_translator *t, struct mz_peer *p, struct mz_model **m, bool other)
{
    struct mz_change c;
    struct mz_model *next = double_model(other ? MZ_STR(DOUBLE_SERVICE("web", "81", "10.1.0.3"))
                                               : MZ_STR(DOUBLE_SERVICE("api", "80", "10.1.0.1")));
    mz_change_init(&c, *m, next);
    mz_peer_detach(p);
    mz_translator_set_model(t, next);
    mz_peer_push(p, &c);
    mz_change_fini(&c);
    mz_model_unref(*m);
    *m = next;
}

static void play(const uint8_t *data, size_t n, bool delta)
{
    struct mz_translator *t =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    struct mz_model *m = double_model(MZ_STR(DOUBLE_SERVICE("api", "80", "10.1.0.1")));
    struct mz_bundles *bundles = mz_bundles_create(mz_translator_sets(t));
    const struct mz_peer_env env = { t, bundles, delta, MZ_XDS_TYPE__COUNT, on_send, &delta, NULL };
    mz_translator_set_model(t, m);
    struct mz_peer *p = mz_peer_create(&env);
    for (size_t at = 0; at < n;) {
        size_t len = data[at++];
        if (len == 255) {
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
        mz_arena_destroy(a);
        at += len;
    }
    mz_peer_destroy(p);
    mz_bundles_destroy(bundles);
    mz_translator_destroy(t);
    mz_model_unref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    play(data, n, false);
    play(data, n, true);
    return 0;
}
