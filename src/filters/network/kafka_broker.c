/* envoy.filters.network.kafka_broker: counts what passes between Kafka clients and brokers (L5). It changes nothing. */
#include "filters/network/kafka_decode.h"
#include "filters/network/sniffer.h"
#include "proto/mapper.h"
#include "stats/stats.h"

enum { REQUEST, RESPONSE, DURATION, OF_API }; /* of each number, in this order */
enum {
    REQUEST_FAILURE = KAFKA_N_APIS * OF_API,
    REQUEST_UNKNOWN,
    RESPONSE_FAILURE,
    RESPONSE_UNKNOWN
};
static const struct mz_stat_def stat_defs[] = {
#define X(key, name, version)                                                                      \
    [(key)*OF_API +                                                                                \
        REQUEST] = { "request." name "_request", MZ_COUNTER, MZ_UNIT_NONE, 0 },                    \
        [(key)*OF_API + RESPONSE] = { "response." name "_response", MZ_COUNTER, MZ_UNIT_NONE, 0 }, \
        [(key)*OF_API + DURATION] = { "response." name "_response_duration", MZ_HISTOGRAM,         \
                                      MZ_UNIT_MS, MZ_STAT_LAZY },
    KAFKA_APIS(X)
#undef X
        [REQUEST_FAILURE] = { "request.failure", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REQUEST_UNKNOWN] = { "request.unknown", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [RESPONSE_FAILURE] = { "response.failure", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [RESPONSE_UNKNOWN] = { "response.unknown", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "kafka", stat_defs, MZ_COUNT(stat_defs) };

struct kafka_filter {
    struct sniffer sniffer;
    struct kafka kafka;
};

static struct mz_scope *scope_of(const struct kafka_filter *f)
{
    return (struct mz_scope *)(uintptr_t)f->sniffer.base.cfg;
}

static void on_message(void *arg, const struct kafka_message *m)
{
    struct kafka_filter *f = arg;
    unsigned base = (unsigned)m->key * OF_API;
    if (!m->known) {
        mz_count(scope_of(f), m->request ? REQUEST_UNKNOWN : RESPONSE_UNKNOWN, 1);
    } else if (m->request) {
        mz_count(scope_of(f), base + REQUEST, 1);
    } else {
        mz_count(scope_of(f), base + RESPONSE, 1);
        mz_hist_record(scope_of(f), base + DURATION, m->took_us / 1000);
    }
}

static void on_broken(void *arg, bool from_client)
{
    mz_count(scope_of(arg), from_client ? REQUEST_FAILURE : RESPONSE_FAILURE, 1);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    const pb_KafkaBroker *m = msg;
    return sniffer_scope(f, &stats, "kafka.", m->stat_prefix);
}

static void config_destroy(void *cfg)
{
    mz_scope_unref(cfg);
}

static bool feed(struct sniffer *s, bool from_client, const char *bytes, size_t n)
{
    struct kafka *k = &((struct kafka_filter *)(void *)s)->kafka;
    kafka_feed(k, from_client, bytes, n, mz_loop_now_us(s->base.worker->loop));
    return !(k->sides[0].deaf && k->sides[1].deaf);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *base)
{
    struct kafka_filter *f = (struct kafka_filter *)(void *)base;
    f->sniffer.feed = feed;
    f->kafka.message = on_message;
    f->kafka.broken = on_broken;
    f->kafka.arg = f;
    return MZ_NET_CONTINUE;
}

static void destroy(struct mz_net_filter *base)
{
    kafka_fini(&((struct kafka_filter *)(void *)base)->kafka);
}

const struct mz_net_filter_type mz_net_filter_kafka_broker = {
    .name = "envoy.filters.network.kafka_broker",
    .config_type = "envoy.extensions.filters.network.kafka_broker.v3.KafkaBroker",
    .size = sizeof(struct kafka_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = sniffer_data,
    .on_write = sniffer_write,
    .destroy = destroy,
};
