/* What the environment says of all answers, under the names that Istio's control plane has for it. */
#include <stddef.h>
#include <stdlib.h>

#include "control/model/duration.h"
#include "control/translate/translate.h"

static struct mz_str env(const char *name)
{
    const char *v = getenv(name); /* before threads start */
    return mz_str_c(v ? v : "");
}

/* The words for true and false that Go takes. */
static bool is_true(struct mz_str s)
{
    return mz_str_ieq(s, MZ_STR("true")) || mz_str_ieq(s, MZ_STR("t")) || mz_str_eq(s, MZ_STR("1"));
}

static bool is_false(struct mz_str s)
{
    return mz_str_ieq(s, MZ_STR("false")) || mz_str_ieq(s, MZ_STR("f")) ||
           mz_str_eq(s, MZ_STR("0"));
}

static bool says(const char *name, const char *word)
{
    return mz_str_ieq(env(name), mz_str_c(word));
}

static const struct {
    const char *name;
    size_t at;  /* of a bool in struct mz_features */
    bool means; /* the word that makes it true */
} switches[] = {
#define ON(name, field)  { name, offsetof(struct mz_features, field), true },
#define OFF(name, field) { name, offsetof(struct mz_features, field), false },
    ON("PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", many_custom) ON("PILOT_HTTP10", http10) ON(
        "PILOT_SIDECAR_USE_REMOTE_ADDRESS", remote_address) ON("PILOT_ENABLE_REDIS_FILTER", redis)
        ON("PILOT_ENABLE_MYSQL_FILTER", mysql) OFF("PILOT_ENABLE_MONGO_FILTER", no_mongo)
            OFF("ENABLE_100_CONTINUE_HEADERS", no_continue) ON("PILOT_SCOPE_GATEWAY_TO_NAMESPACE",
                                                               gateways_at_home)
                ON("ENABLE_LOCALITY_WEIGHTED_LB_CONFIG",
                   always_weighs) OFF("DISABLE_TRACK_REMAINING_CB_METRICS", track_remaining)
                    ON("PILOT_SKIP_VALIDATE_TRUST_DOMAIN",
                       any_trust_domain) OFF("DISABLE_SHADOW_HOST_SUFFIX", shadow_suffix)
                        OFF("PILOT_ENABLE_TELEMETRY_LABEL", no_service_names)
                            OFF("PILOT_ENDPOINT_TELEMETRY_LABEL", no_workload_names)
                                OFF("PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN",
                                    no_absolute_names) ON("PILOT_DISABLE_MX_ALPN", no_exchange_alpn)
                                    ON("PILOT_ENABLE_PERSISTENT_SESSION_FILTER",
                                       sessions) ON("ENABLE_TLS_ON_SIDECAR_INGRESS", ingress_tls)
                                        ON("PILOT_SEND_UNHEALTHY_ENDPOINTS", always_unhealthy)
                                            OFF("PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS", no_unhealthy)
};

static double percent_or(const char *name, double otherwise)
{
    const struct mz_str v = env(name);
    char *end = NULL;
    const double n = v.n ? strtod(v.p, &end) : otherwise;
    return n >= 0 && n <= 100 && (!end || !*end) ? n : otherwise;
}

static enum mz_jwks_fetch jwks_fetch(void)
{
    static const char name[] = "PILOT_JWT_ENABLE_REMOTE_JWKS";
    if (says(name, "envoy"))
        return MZ_JWKS_PROXY;
    return says(name, "hybrid") || is_true(env(name)) ? MZ_JWKS_HYBRID : MZ_JWKS_CONTROL_PLANE;
}

struct mz_features mz_features_from_env(void)
{
    struct mz_features f = {
        .metadata_exchange = !is_false(env("PILOT_ENABLE_METADATA_EXCHANGE")),
        .alpn = !is_false(env("PILOT_ENABLE_ALPN_FILTER")),
        .jwks_fetch = jwks_fetch(),
        .trace_sampling = percent_or("PILOT_TRACE_SAMPLING", 1),
    };
    uint64_t n;
    for (size_t i = 0; i < MZ_COUNT(switches); i++)
        *(bool *)((char *)&f + switches[i].at) =
            switches[i].means ? is_true(env(switches[i].name)) : is_false(env(switches[i].name));
    if (mz_str_u64(env("MAX_CONNECTIONS_PER_SOCKET_EVENT_LOOP"), &n) && n <= UINT16_MAX) {
        f.accepts = (uint32_t)n;
        f.accepts_all = !n;
    }
    if (mz_str_u64(env("PILOT_ALLOW_ANY_DYNAMIC_DNS_MAX_HOSTS"), &n) && n <= UINT32_MAX)
        f.dynamic_hosts = (uint32_t)n;
    if (mz_duration_parse(env("PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT"), &n)) {
        f.handshake_ms = n;
        f.handshake_forever = !n;
    }
    return f;
}
