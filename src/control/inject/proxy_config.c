/* Annotation proxy.istio.io/config: a ProxyConfig as YAML. */
#include "control/inject/inject_priv.h"

/* In the order of their numbers, as messages are printed. */
static const char *const fields[] = {
    "configPath",
    "binaryPath",
    "serviceCluster",
    "tracingServiceName",
    "drainDuration",
    "discoveryAddress",
    "zipkinAddress",
    "statsdUdpAddress",
    "proxyAdminPort",
    "controlPlaneAuthPolicy",
    "customConfigFile",
    "statNameLength",
    "concurrency",
    "proxyBootstrapTemplatePath",
    "interceptionMode",
    "tracing",
    "envoyMetricsServiceAddress",
    "envoyAccessLogService",
    "envoyMetricsService",
    "proxyMetadata",
    "runtimeValues",
    "statusPort",
    "extraStatTags",
    "gatewayTopology",
    "terminationDrainDuration",
    "meshId",
    "readinessProbe",
    "proxyStatsMatcher",
    "holdApplicationUntilProxyStarts",
    "caCertificatesPem",
    "image",
    "privateKeyProvider",
    "proxyHeaders",
    "fileFlushInterval",
    "fileFlushMinSizeKb",
    "statsCompression",
    "connectionSettings",
};

static bool is_known(const char *key)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        if (strcmp(fields[i], key) == 0)
            return true;
    return false;
}

json_t *proxy_config_read(const char *text, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_node *n = mz_tree_read(a, mz_str_c(text), MZ_TEXT_YAML, err);
    json_t *all = n && n->kind == MZ_NODE_MAP ? mz_json_from_tree(n) : NULL, *out = NULL;
    const char *key;
    json_t *value;
    bool ok = all != NULL;
    if (n && !ok)
        mz_err_set(err, "not a ProxyConfig");
    if (ok)
        json_object_foreach(all, key, value) if (!is_known(key)) ok =
            mz_err_set(err, "unknown field \"%.80s\"", key);
    if (ok) {
        out = json_object();
        for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
            if ((value = json_object_get(all, fields[i])) != NULL)
                (void)json_object_set(out, fields[i], value); /* only without memory */
    }
    json_decref(all);
    mz_arena_destroy(a);
    return out;
}

static void join(json_t *out, const char *name, const json_t *low, const json_t *high)
{
    const json_t *l = json_object_get(low, name), *h = json_object_get(high, name);
    if (json_is_object(l) && json_is_object(h)) {
        json_t *both = json_copy((json_t *)(uintptr_t)l);
        (void)json_object_update(both, (json_t *)(uintptr_t)h); /* only without memory */
        (void)json_object_set_new(out, name, both);
    }
}

json_t *proxy_config_merge(const json_t *low, const json_t *high)
{
    if (!low && !high)
        return NULL;
    json_t *out = json_object();
    for (size_t i = 0; i < MZ_COUNT(fields); i++) {
        json_t *v = json_object_get(high, fields[i]);
        v = v ? v : json_object_get(low, fields[i]);
        if (v)
            (void)json_object_set(out, fields[i], v); /* only without memory */
    }
    join(out, "proxyMetadata", low, high);
    join(out, "proxyHeaders", low, high);
    return out;
}

/* What every agent does by itself: the field's defaults. */
static const struct {
    const char *name, *text;
    int number;
} usual[] = { { "configPath", "./etc/istio/proxy", 0 },
              { "binaryPath", "/usr/local/bin/envoy", 0 },
              { "serviceCluster", "istio-proxy", 0 },
              { "drainDuration", "45s", 0 },
              { "terminationDrainDuration", "5s", 0 },
              { "discoveryAddress", "istiod.istio-system.svc:15012", 0 },
              { "controlPlaneAuthPolicy", "MUTUAL_TLS", 0 },
              { "proxyAdminPort", NULL, 15000 },
              { "statNameLength", NULL, 189 },
              { "statusPort", NULL, 15020 } };

json_t *proxy_config_unusual(const json_t *config)
{
    json_t *out = json_copy((json_t *)(uintptr_t)config);
    for (size_t k = 0; k < MZ_COUNT(usual); k++) {
        const json_t *v = json_object_get(out, usual[k].name);
        if (usual[k].text ? json_is_string(v) && strcmp(json_string_value(v), usual[k].text) == 0
                          : json_is_integer(v) && json_integer_value(v) == usual[k].number)
            (void)json_object_del(out, usual[k].name);
    }
    return out;
}

json_t *proxy_config_whole(const json_t *config)
{
    json_t *low = json_object(), *out;
    for (size_t k = 0; k < MZ_COUNT(usual); k++)
        (void)json_object_set_new(low, usual[k].name, /* only without memory */
                                  usual[k].text ? json_string(usual[k].text)
                                                : json_integer(usual[k].number));
    out = proxy_config_merge(low, config);
    json_decref(low);
    return out;
}

const char *config_text(const struct injection *i, const char *name, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(i->config, name));
    return s ? s : otherwise;
}

bool applications_wait(const struct injection *i)
{
    return config_is(i, "holdApplicationUntilProxyStarts") ||
           json_is_true(templates_value(i, "global.proxy.holdApplicationUntilProxyStarts"));
}

bool config_is(const struct injection *i, const char *name)
{
    return json_is_true(json_object_get(i->config, name));
}
