/* Answers of a server that is polled (REST): JSON of a DiscoveryResponse, of any status, to a subscription of all and one of a name;
 * the same bytes as a file that holds a collection. */
#include "xds/xds_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    void (*done)(void *arg, unsigned status, struct mz_str body);
    void *arg;
} posts[2];
static struct mz_xds *xds;

static void *post(void *arg, struct mz_str cluster, const char *path, struct mz_str body,
                  uint64_t timeout_ms, void (*done)(void *, unsigned, struct mz_str),
                  void *done_arg)
{
    (void)arg, (void)cluster, (void)path, (void)timeout_ms;
    if (!body.n || body.p[0] != '{')
        __builtin_trap(); /* what we ask is JSON */
    size_t i = posts[0].done != NULL;
    posts[i].done = done;
    posts[i].arg = done_arg;
    return &posts[i];
}

static void post_cancel(void *at)
{
    memset(at, 0, sizeof(posts[0]));
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    const enum mz_xds_type *type = arg;
    bool ok = true;
    for (size_t i = 0; i < u->n; i++) {
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
        ProtobufCMessage *m;
        ok &= mz_resource_open(xds, &u->v[i], *type, &ctx, &m, err);
        mz_arena_destroy(ctx.arena);
    }
    return ok;
}

static const pb_ConfigSource *source(void)
{
    static char *clusters[] = { (char *)(uintptr_t) "xds" };
    static pb_Duration second = pb_Duration__INIT;
    static pb_ApiConfigSource api = pb_ApiConfigSource__INIT;
    static pb_ConfigSource m = pb_ConfigSource__INIT;
    second.seconds = 1;
    api.api_type = pb_ApiConfigSource_ApiType_REST;
    api.transport_api_version = pb_ApiVersion_V3;
    api.cluster_names = clusters;
    api.n_cluster_names = 1;
    api.refresh_delay = &second;
    m.resource_api_version = pb_ApiVersion_V3;
    m.config_source_specifier_case = pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE;
    m.api_config_source = &api;
    return &m;
}

/* As bytes, YAML and JSON. */
static void as_collection(struct mz_str text)
{
    static enum mz_xds_type type = MZ_XDS_LISTENER;
    static const char *const files[] = { "a.pb", "a.yaml", "a.json" };
    const struct mz_subscriber who = { update, NULL, &type, NULL, NULL };
    struct mz_err err;
    struct mz_subscription *s = mz_subscribe_all(xds, NULL, "file:///dev/null", type,
                                                 MZ_STR("listener_manager.lds."), &who, &err);
    if (!s)
        __builtin_trap();
    for (size_t i = 0; i < MZ_COUNT(files); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
        struct mz_str version;
        (void)subscription_text(s, mz_str_c(files[i]), text, a, &version);
        mz_arena_destroy(a);
    }
    mz_subscription_end(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static enum mz_xds_type types[] = { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT };
    static const char *const names[] = { "", "a" };
    struct mz_subscription *subs[2];
    struct mz_err err;
    if (!size)
        return 0;
    mz_log_set_all(MZ_LOG_OFF);
    struct mz_loop *loop = mz_loop_create("fuzz");
    struct mz_stats *stats = mz_stats_create(1);
    const struct mz_xds_env env = { .main = loop, .stats = stats };
    xds = mz_xds_create(&env);
    mz_xds_set_net(xds, &(struct mz_xds_net){ .post = post, .post_cancel = post_cancel });
    mz_xds_go(xds);
    memset(posts, 0, sizeof(posts));
    for (size_t i = 0; i < 2; i++) {
        const struct mz_subscriber who = { update, NULL, &types[i], NULL, NULL };
        subs[i] =
            mz_subscribe(xds, source(), types[i], mz_str_c(names[i]),
                         i ? MZ_STR("cluster.a.") : MZ_STR("cluster_manager.cds."), &who, &err);
        if (!subs[i])
            __builtin_trap();
        mz_subscription_start(subs[i]);
    }
    for (int i = 0; i < 100 && !posts[1].done; i++)
        mz_loop_turn(loop, 1);
    static const unsigned statuses[] = { 200, 200, 200, 0, 304, 503 };
    for (size_t i = 0; i < 2; i++)
        if (posts[i].done)
            posts[i].done(posts[i].arg, statuses[data[0] % MZ_COUNT(statuses)],
                          (struct mz_str){ (const char *)data + 1, size - 1 });
    memset(posts, 0, sizeof(posts));
    for (size_t i = 0; i < 2; i++)
        mz_subscription_end(subs[i]);
    as_collection((struct mz_str){ (const char *)data + 1, size - 1 });
    mz_xds_destroy(xds);
    mz_loop_turn(loop, 0);
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
    return 0;
}
