/* Resources by polling (REST): a DiscoveryRequest as JSON, a DiscoveryResponse as JSON, 304 for nothing new. */
#include "base/buf.h"
#include "base/rand.h"
#include "xds/xds_priv.h"

#define JITTER_MS          1000
#define REQUEST_TIMEOUT_MS 1000
#define NOT_YET_MS         20 /* between looks whether streams and requests may begin */

struct rest {
    struct mz_subscription *sub;
    char *cluster;
    uint64_t refresh_ms, timeout_ms;
    struct mz_timer timer;
    void *post; /* NULL: none runs */
    char *version;
};

static void ask(struct rest *r);

static void fire(struct mz_timer *t)
{
    struct rest *r = MZ_CONTAINER(t, struct rest, timer);
    if (r->sub->xds->going)
        ask(r);
    else
        mz_timer_start_ms(t, NOT_YET_MS);
}

static void version_keep(struct rest *r, struct mz_str version)
{
    mz_free(MZ_MEM_XDS, r->version);
    r->version = mz_strndup(MZ_MEM_XDS, version.n ? version.p : "", version.n);
}

static void answered(void *arg, unsigned status, struct mz_str body)
{
    struct rest *r = arg;
    struct mz_subscription *s = r->sub;
    r->post = NULL;
    subscription_enter(s);
    mz_timer_start_ms(&r->timer,
                      r->refresh_ms + mz_rand_below(mz_loop_rand(s->xds->env.main), JITTER_MS));
    if (status == 200) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
        struct mz_str version;
        if (subscription_text(s, MZ_STR("response.json"), body, a, &version))
            version_keep(r, version);
        mz_arena_destroy(a);
    } else if (status != 304) {
        struct mz_err err;
        mz_err_set(&err, status ? "the server answered %u" : "no answer (%u)", status);
        subscription_failed(s, &err);
    }
    subscription_leave(s);
}

static struct mz_str request_json(const struct rest *r, struct mz_arena *a)
{
    const struct mz_subscription *s = r->sub;
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true
    };
    pb_DiscoveryRequest rq = pb_DiscoveryRequest__INIT;
    char *name = (char *)(uintptr_t)mz_arena_dup(a, s->name).p;
    ProtobufCMessage *node;
    struct mz_err err;
    struct mz_buf b;
    rq.version_info = r->version ? r->version : rq.version_info;
    rq.type_url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                     xds_types[s->type].descriptor->name)
                      .p;
    rq.n_resource_names = s->name.n != 0;
    rq.resource_names = &name;
    if (mz_msg_unpack(&ctx, s->xds->net.node, &pb_Node__descriptor, &node, &err))
        rq.node = (pb_Node *)node;
    mz_buf_init(&b);
    mz_msg_to_json(&rq.base, &b, 0);
    struct mz_str text = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return text;
}

static void ask(struct rest *r)
{
    struct mz_subscription *s = r->sub;
    if (s->xds->halted)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    subscription_count(s, MZ_SUB_STAT_ATTEMPT);
    r->post = s->xds->net.post(s->xds->net.arg, mz_str_c(r->cluster), xds_types[s->type].rest_path,
                               request_json(r, a), r->timeout_ms, answered, r);
    mz_arena_destroy(a);
}

static bool rest_create(struct mz_subscription *s, const pb_ConfigSource *m, struct mz_err *err)
{
    const pb_ApiConfigSource *api = m->api_config_source;
    struct rest *r = mz_new0(MZ_MEM_XDS, struct rest);
    s->state = r;
    r->sub = s;
    mz_timer_init(s->xds->env.main, &r->timer, fire);
    if (api->n_cluster_names != 1 || api->n_grpc_services)
        return mz_err_set(err, "exactly one is required, and no grpc_services") ||
               mz_err_at(err, "api_config_source.cluster_names");
    r->cluster = mz_strndup(MZ_MEM_XDS, api->cluster_names[0], strlen(api->cluster_names[0]));
    if (api->rate_limit_settings)
        return mz_err_set(err, "is for gRPC: refresh_delay says how often") ||
               mz_err_at(err, "api_config_source.rate_limit_settings");
    if (api->transport_api_version != pb_ApiVersion_V3)
        return mz_err_set(err, "V3 is required") ||
               mz_err_at(err, "api_config_source.transport_api_version");
    if (!mz_duration_ms(api->refresh_delay, 0, &r->refresh_ms, err))
        return mz_err_at(err, "api_config_source.refresh_delay");
    if (!r->refresh_ms)
        return mz_err_set(err, "is required for REST API configuration sources") ||
               mz_err_at(err, "api_config_source.refresh_delay");
    if (!s->xds->net.post)
        return mz_err_set(err, "cannot be used here") || mz_err_at(err, "api_config_source");
    return mz_duration_ms(api->request_timeout, REQUEST_TIMEOUT_MS, &r->timeout_ms, err) ||
           mz_err_at(err, "api_config_source.request_timeout");
}

static void rest_start(struct mz_subscription *s)
{
    struct rest *r = s->state;
    mz_timer_start_ms(&r->timer, 0);
}

static void rest_destroy(struct mz_subscription *s)
{
    struct rest *r = s->state;
    if (!r)
        return;
    mz_timer_stop(&r->timer);
    if (r->post)
        s->xds->net.post_cancel(r->post);
    mz_free(MZ_MEM_XDS, r->cluster);
    mz_free(MZ_MEM_XDS, r->version);
    mz_free(MZ_MEM_XDS, r);
}

const struct source_ops source_rest = { rest_create, rest_start, rest_destroy };
