/* Responses of a control plane that sends anything, state of the world and delta, while watches come and go. */
#include "xds/mux_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mz_xds_watch *watches[8];
static struct mz_xds_mux *mux;

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    size_t i = (size_t)(uintptr_t)arg;
    if (u->n % 3 == 2 && i) { /* ends inside */
        mz_xds_watch_end(watches[i]);
        watches[i] = NULL;
    }
    return u->n % 5 != 4 || mz_err_set(err, "refused");
}

static void disconnected(void *arg)
{
    (void)arg;
}

static const struct mz_xds_watch_ops ops[] = { { update, disconnected, NULL, NULL, false },
                                               { update, disconnected, NULL, NULL, true } };

static void *open_stream(void *arg, struct mz_xds_mux *m, const char *method)
{
    (void)m, (void)method;
    return arg;
}

static bool send_bytes(void *stream, struct mz_str request)
{
    (void)stream;
    return request.n % 7 != 3;
}

static void close_stream(void *stream)
{
    (void)stream;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum mz_xds_type types[] = { MZ_XDS_CLUSTER,      MZ_XDS_ENDPOINT,
                                              MZ_XDS_ENDPOINT,     MZ_XDS_SECRET,
                                              MZ_XDS_LISTENER,     MZ_XDS_LISTENER,
                                              MZ_XDS_VIRTUAL_HOST, MZ_XDS_VIRTUAL_HOST };
    static const char *const names[] = { "",  "a",  "b", "s", "xdstp://a/t/*", "xdstp://a/t/x?k=v",
                                         "r", "r/h" };
    static struct mz_rand rnd;
    if (!size)
        return 0;
    mz_rand_init(&rnd, 1);
    mz_log_set_all(MZ_LOG_OFF);
    struct mz_loop *loop = mz_loop_create("fuzz");
    struct mz_stats *stats = mz_stats_create(1);
    const struct mz_xds_env env = { .main = loop, .stats = stats };
    struct mz_xds *xds = mz_xds_create(&env);
    const struct mz_xds_mux_opts o = { .delta = data[0] & 1, .ads = true, .rand = &rnd };
    const struct mz_xds_transport t = { open_stream, send_bytes, close_stream, &rnd };
    mux = mz_xds_mux_create(xds, &o, &t);
    size_t n_watches = o.delta ? MZ_COUNT(watches) : MZ_COUNT(watches) - 2; /* VHDS is delta */
    memset(watches, 0, sizeof(watches));
    for (size_t i = 0; i < n_watches; i++)
        watches[i] = mz_xds_mux_watch(mux, types[i], mz_str_c(names[i]), &ops[i == 7], (void *)i);
    mz_xds_mux_start(mux);
    /* Messages of up to 255 bytes each behind their length; 0: the stream ends and begins. */
    for (size_t at = 1; at < size;) {
        size_t n = data[at++];
        n = n < size - at ? n : size - at;
        if (n && mux->stream)
            mz_xds_mux_received(mux, (struct mz_str){ (const char *)data + at, n });
        else if (mux->stream)
            mz_xds_mux_closed(mux, 14, MZ_STR(""));
        mz_loop_turn(loop, 0);
        at += n;
    }
    for (size_t i = 0; i < MZ_COUNT(watches); i++)
        mz_xds_watch_end(watches[i]);
    mz_xds_mux_destroy(mux);
    mz_xds_destroy(xds);
    mz_loop_turn(loop, 0);
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
    return 0;
}
