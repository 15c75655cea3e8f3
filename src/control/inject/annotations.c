#include "control/inject/annotations.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "control/inject/inject_priv.h"

/* ---- what values must look like ---- */

static struct mz_str trim(struct mz_str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]))
        s = mz_str_skip(s, 1);
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool number(struct mz_str s, uint64_t max, struct mz_err *err)
{
    uint64_t v = 0;
    if (mz_str_u64(s, &v) && v <= max)
        return true;
    return mz_err_set(err, "strconv.ParseUint: parsing \"%.*s\": %s", (int)(s.n < 64 ? s.n : 64),
                      s.p, v > max ? "value out of range" : "invalid syntax");
}

static bool is_uint32(struct mz_str s, struct mz_err *err)
{
    return number(s, UINT32_MAX, err);
}

static bool port(struct mz_str s, struct mz_err *err)
{
    struct mz_err why;
    return number(trim(s), UINT16_MAX, &why) ||
           mz_err_set(err, "failed parsing port '%.*s': %s", (int)(s.n < 64 ? s.n : 64), s.p,
                      why.msg);
}

static bool is_port(struct mz_str s, struct mz_err *err)
{
    struct mz_err why;
    return port(s, &why) || mz_err_set(err, "excludeInboundPorts invalid: %s", why.msg);
}

/* "80,90": each part of a list, an empty one as well; no text at all is an empty list. */
static bool each(struct mz_str list, bool (*check)(struct mz_str, struct mz_err *),
                 struct mz_err *err)
{
    while (list.n) {
        const ptrdiff_t comma = mz_str_chr(list, ',');
        const struct mz_str part = { list.p, comma < 0 ? list.n : (size_t)comma };
        if (!check(part, err))
            return false;
        if (comma < 0)
            return true;
        list = mz_str_skip(list, (size_t)comma + 1);
        if (!list.n)
            return check(list, err);
    }
    return true;
}

static bool ports(const char *what, struct mz_str s, struct mz_err *err)
{
    struct mz_err why;
    return each(trim(s), port, &why) || mz_err_set(err, "%s invalid: %s", what, why.msg);
}

static bool is_inbound(struct mz_str s, struct mz_err *err)
{
    return mz_str_eq(s, MZ_STR("*")) || ports("includeInboundPorts", s, err);
}

static bool is_not_inbound(struct mz_str s, struct mz_err *err)
{
    return ports("excludeInboundPorts", s, err);
}

static bool is_not_outbound(struct mz_str s, struct mz_err *err)
{
    return ports("excludeOutboundPorts", s, err);
}

static bool range(struct mz_str s, struct mz_err *err)
{
    char text[64];
    unsigned char out[16];
    const ptrdiff_t slash = mz_str_rchr(s, '/');
    uint64_t bits = 0;
    if (slash > 0 && (size_t)slash < sizeof(text)) {
        memcpy(text, s.p, (size_t)slash);
        text[slash] = '\0';
        const bool v4 = inet_pton(AF_INET, text, out) == 1;
        const struct mz_str length = mz_str_skip(s, (size_t)slash + 1);
        if ((v4 || inet_pton(AF_INET6, text, out) == 1) && mz_str_u64(length, &bits) &&
            bits <= (v4 ? 32 : 128) && (length.n == 1 || length.p[0] != '0'))
            return true;
    }
    return mz_err_set(err, "failed parsing cidr '%.*s'", (int)(s.n < 64 ? s.n : 64), s.p);
}

static bool ranges(const char *what, struct mz_str s, struct mz_err *err)
{
    struct mz_err why;
    return each(s, range, &why) || mz_err_set(err, "%s invalid: %s", what, why.msg);
}

static bool is_ranges(struct mz_str s, struct mz_err *err)
{
    return mz_str_eq(s, MZ_STR("*")) || ranges("includeIPRanges", s, err);
}

static bool is_not_ranges(struct mz_str s, struct mz_err *err)
{
    return ranges("excludeIPRanges", s, err);
}

static bool interface(struct mz_str s, struct mz_err *err)
{
    enum { MAX = 15 }; /* bytes that the kernel has for a name */
    s = trim(s);
    if (!s.n)
        return mz_err_set(err, "empty interface name");
    if (s.n > MAX)
        return mz_err_set(err, "interface name \"%.*s\" too long (max 15 chars)",
                          (int)(s.n < 64 ? s.n : 64), s.p);
    for (size_t i = 0; i < s.n; i++)
        if (!((mz_lower(s.p[i]) >= 'a' && mz_lower(s.p[i]) <= 'z') ||
              (s.p[i] >= '0' && s.p[i] <= '9') || strchr("._-@+", s.p[i])))
            return mz_err_set(err, "interface name \"%.*s\" contains invalid characters",
                              MZ_STR_ARG(s));
    return true;
}

static bool is_interfaces(struct mz_str s, struct mz_err *err)
{
    return each(s, interface, err);
}

static bool is_bool(struct mz_str s, struct mz_err *err)
{
    static const char *const words[] = { "1", "t", "T", "TRUE",  "true",  "True",
                                         "0", "f", "F", "FALSE", "false", "False" };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(s, mz_str_c(words[i])))
            return true;
    return mz_err_set(err, "strconv.ParseBool: parsing \"%.*s\": invalid syntax",
                      (int)(s.n < 64 ? s.n : 64), s.p);
}

static bool is_mode(struct mz_str s, struct mz_err *err)
{
    return mz_str_eq(s, MZ_STR("REDIRECT")) || mz_str_eq(s, MZ_STR("TPROXY")) ||
           mz_str_eq(s, MZ_STR("NONE")) ||
           mz_err_set(err, "interceptionMode invalid, use REDIRECT,TPROXY,NONE: %.*s",
                      (int)(s.n < 64 ? s.n : 64), s.p);
}

/* Kubernetes' quantities: "100m", "1.5Gi", "1e3". */
static bool is_quantity(struct mz_str s, struct mz_err *err)
{
    static const char *const units[] = { "",  "n", "u",  "m",  "k",  "M",  "G",  "T",
                                         "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    size_t i = s.n && (s.p[0] == '+' || s.p[0] == '-'), digits = 0, dots = 0;
    for (; i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.'); i++) {
        digits += s.p[i] != '.';
        dots += s.p[i] == '.';
    }
    const struct mz_str unit = mz_str_skip(s, i);
    int64_t exponent;
    bool ok = false;
    for (size_t k = 0; k < MZ_COUNT(units); k++)
        ok |= mz_str_eq(unit, mz_str_c(units[k]));
    if (unit.n > 1 && mz_lower(unit.p[0]) == 'e')
        ok |= mz_str_i64(mz_str_skip(unit, unit.p[1] == '+' ? 2 : 1), &exponent);
    if (ok && digits && dots < 2)
        return true;
    return mz_err_set(err, "quantities must match the regular expression "
                           "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}

static bool is_config(struct mz_str s, struct mz_err *err)
{
    char *text = strndup(s.n ? s.p : "", s.n);
    json_t *config = text ? proxy_config_read(text, err) : NULL;
    const bool ok = config || !s.n;
    json_decref(config);
    free(text);
    return ok;
}

/* ---- all ---- */

static const struct mz_annotation known[] = {
    { "alpha.istio.io/canonical-serviceaccounts", "Service", true, NULL },
    { "alpha.istio.io/kubernetes-serviceaccounts", "Service", true, NULL },
    { "ambient.istio.io/bypass-inbound-capture", "Pod", false, NULL },
    { "ambient.istio.io/dns-capture", "Pod", false, NULL },
    { "ambient.istio.io/redirection", "Pod", false, NULL },
    { "ambient.istio.io/waypoint-inbound-binding", "GatewayClass, Gateway", false, NULL },
    { "galley.istio.io/analyze-suppress", "Any", false, NULL },
    { "gateway.istio.io/controller-version", "Any", false, NULL },
    { "gateway.istio.io/name-override", "Gateway", false, NULL },
    { "gateway.istio.io/service-account", "Gateway", false, NULL },
    { "inject.istio.io/templates", "Pod", false, NULL },
    { "istio.io/autoRegistrationGroup", "WorkloadEntry", false, NULL },
    { "istio.io/connectedAt", "WorkloadEntry", false, NULL },
    { "istio.io/disconnectedAt", "WorkloadEntry", false, NULL },
    { "istio.io/dry-run", "AuthorizationPolicy", false, NULL },
    { "istio.io/reroute-virtual-interfaces", "Pod", false, is_interfaces },
    { "istio.io/rev", "Pod", false, NULL },
    { "istio.io/use-waypoint-canary-weight", "Service, ServiceEntry, Namespace", false, NULL },
    { "istio.io/workloadController", "WorkloadEntry", false, NULL },
    { "kubernetes.io/ingress.class", "Ingress", false, NULL },
    { "networking.istio.io/exportTo", "Service", false, NULL },
    { "networking.istio.io/service-type", "Gateway", false, NULL },
    { "networking.istio.io/traffic-distribution", "Namespace, Service, ServiceEntry", false, NULL },
    { "prometheus.istio.io/merge-metrics", "Pod", false, is_bool },
    { "proxy.istio.io/config", "Pod", false, is_config },
    { "proxy.istio.io/overrides", "Pod", false, NULL },
    { "readiness.status.sidecar.istio.io/applicationPorts", "Pod", false, NULL },
    { "readiness.status.sidecar.istio.io/failureThreshold", "Pod", false, is_uint32 },
    { "readiness.status.sidecar.istio.io/initialDelaySeconds", "Pod", false, is_uint32 },
    { "readiness.status.sidecar.istio.io/periodSeconds", "Pod", false, is_uint32 },
    { "sidecar.istio.io/agentLogLevel", "Pod", false, NULL },
    { "sidecar.istio.io/bootstrapOverride", "Pod", false, NULL },
    { "sidecar.istio.io/componentLogLevel", "Pod", false, NULL },
    { "sidecar.istio.io/discoveryAddress", "Pod", true, NULL },
    { "sidecar.istio.io/extraStatTags", "Pod", true, NULL },
    { "sidecar.istio.io/inject", "Pod", true, NULL },
    { "sidecar.istio.io/interceptionMode", "Pod", false, is_mode },
    { "sidecar.istio.io/logLevel", "Pod", false, NULL },
    { "sidecar.istio.io/nativeSidecar", "Pod", false, NULL },
    { "sidecar.istio.io/proxyCPU", "Pod", false, is_quantity },
    { "sidecar.istio.io/proxyCPULimit", "Pod", false, is_quantity },
    { "sidecar.istio.io/proxyImage", "Pod", false, NULL },
    { "sidecar.istio.io/proxyImageType", "Pod", false, NULL },
    { "sidecar.istio.io/proxyMemory", "Pod", false, is_quantity },
    { "sidecar.istio.io/proxyMemoryLimit", "Pod", false, is_quantity },
    { "sidecar.istio.io/rewriteAppHTTPProbers", "Pod", false, NULL },
    { "sidecar.istio.io/statsCompression", "Pod", true, NULL },
    { "sidecar.istio.io/statsEvictionInterval", "Pod", false, NULL },
    { "sidecar.istio.io/statsFlushInterval", "Pod", false, NULL },
    { "sidecar.istio.io/statsHistogramBins", "Pod", false, NULL },
    { "sidecar.istio.io/statsHistogramBuckets", "Pod", false, NULL },
    { "sidecar.istio.io/statsInclusionPrefixes", "Pod", true, NULL },
    { "sidecar.istio.io/statsInclusionRegexps", "Pod", true, NULL },
    { "sidecar.istio.io/statsInclusionSuffixes", "Pod", true, NULL },
    { "sidecar.istio.io/status", "Any", false, NULL }, /* told of none */
    { "sidecar.istio.io/userVolume", "Pod", false, NULL },
    { "sidecar.istio.io/userVolumeMount", "Pod", false, NULL },
    { "status.sidecar.istio.io/port", "Pod", false, is_port },
    { "topology.istio.io/controlPlaneClusters", "Namespace", false, NULL },
    { "traffic.istio.io/nodeSelector", "Service", false, NULL },
    { "traffic.sidecar.istio.io/excludeInboundPorts", "Pod", false, is_not_inbound },
    { "traffic.sidecar.istio.io/excludeInterfaces", "Pod", false, is_interfaces },
    { "traffic.sidecar.istio.io/excludeOutboundIPRanges", "Pod", false, is_not_ranges },
    { "traffic.sidecar.istio.io/excludeOutboundPorts", "Pod", false, is_not_outbound },
    { "traffic.sidecar.istio.io/includeInboundPorts", "Pod", false, is_inbound },
    { "traffic.sidecar.istio.io/includeOutboundIPRanges", "Pod", false, is_ranges },
    { "traffic.sidecar.istio.io/includeOutboundPorts", "Pod", false, NULL },
    { "traffic.sidecar.istio.io/kubevirtInterfaces", "Pod", true, is_interfaces },
};

const struct mz_annotation *mz_annotation_find(struct mz_str name)
{
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (mz_str_eq(mz_str_c(known[i].name), name))
            return &known[i];
    return NULL;
}

bool mz_annotation_check(struct mz_str name, struct mz_str value, struct mz_err *err)
{
    const struct mz_annotation *a = mz_annotation_find(name);
    return !a || !a->check || a->check(value, err);
}
