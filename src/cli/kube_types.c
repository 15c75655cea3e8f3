#include "cli/kube_types.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

/* ---- quantities ---- */

static const char *const decimal[] = { "n", "u", "m", "", "k", "M", "G", "T", "P", "E" };
static const char *const binary[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
enum { NANO = 3 /* steps of a thousand from n to 1 */, MAX_DIGITS = 18 };

static int index_of(struct mz_str unit, const char *const *units, int n)
{
    for (int i = 0; i < n; i++)
        if (mz_str_eq(unit, mz_str_c(units[i])))
            return i;
    return -1;
}

/* "1.50" to 150 and 2. */
static bool read_digits(struct mz_str s, uint64_t *out, size_t *fraction, size_t *used)
{
    size_t digits = 0, at = 0;
    bool dot = false;
    *out = *fraction = 0;
    for (; at < s.n && ((s.p[at] >= '0' && s.p[at] <= '9') || (s.p[at] == '.' && !dot)); at++) {
        if (s.p[at] == '.') {
            dot = true;
            continue;
        }
        *out = *out * 10 + (uint64_t)(s.p[at] - '0');
        *fraction += dot;
        digits++;
    }
    *used = at;
    return digits && digits <= MAX_DIGITS;
}

static bool write_decimal(uint64_t v, int unit, char out[40])
{
    while (v && v % 1000 == 0 && unit + 1 < (int)MZ_COUNT(decimal)) {
        v /= 1000;
        unit++;
    }
    (void)snprintf(out, 40, "%llu%s", (unsigned long long)v, v ? decimal[unit] : "");
    return true;
}

static bool decimal_quantity(uint64_t v, size_t fraction, int unit, char out[40])
{
    while (fraction && v % 10 == 0) {
        v /= 10;
        fraction--;
    }
    for (; fraction && unit > 0; unit--) {
        const size_t take = fraction < 3 ? fraction : 3;
        for (size_t i = take; i < 3; i++) {
            if (v > UINT64_MAX / 10)
                return false;
            v *= 10;
        }
        fraction -= take;
    }
    return !fraction && write_decimal(v, unit, out);
}

static bool binary_quantity(uint64_t v, size_t fraction, int unit, char out[40])
{
    uint64_t scale = 1;
    for (size_t i = 0; i < fraction; i++)
        scale *= 10;
    for (int i = 0; i < unit; i++) {
        if (v > UINT64_MAX / 1024)
            return false;
        v *= 1024;
    }
    v = v / scale + (v % scale != 0); /* bytes are whole */
    for (unit = 0; v && v % 1024 == 0 && unit + 1 < (int)MZ_COUNT(binary); unit++)
        v /= 1024;
    (void)snprintf(out, 40, "%llu%s", (unsigned long long)v, v ? binary[unit] : "");
    return true;
}

bool kube_quantity(struct mz_str text, char out[40])
{
    uint64_t v;
    size_t fraction, used;
    if (!read_digits(text, &v, &fraction, &used))
        return false;
    const struct mz_str unit = mz_str_skip(text, used);
    const int d = index_of(unit, decimal, MZ_COUNT(decimal)),
              b = index_of(unit, binary, MZ_COUNT(binary));
    return d >= 0 ? decimal_quantity(v, fraction, d, out)
                  : b > 0 && binary_quantity(v, fraction, b, out);
}

static void quantities(json_t *container)
{
    static const char *const groups[] = { "limits", "requests" };
    for (size_t g = 0; g < MZ_COUNT(groups); g++) {
        json_t *map = json_object_get(json_object_get(container, "resources"), groups[g]), *value;
        const char *name;
        void *next;
        json_object_foreach_safe(map, next, name, value)
        {
            char digits[40], out[40];
            if (json_is_integer(value))
                (void)snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT,
                               json_integer_value(value));
            else if (json_is_real(value))
                (void)snprintf(digits, sizeof(digits), "%.17g", json_real_value(value));
            const struct mz_str s = { json_is_string(value) ? json_string_value(value) : digits,
                                      json_is_string(value)   ? json_string_length(value)
                                      : json_is_number(value) ? strlen(digits)
                                                              : 0 };
            if (kube_quantity(s, out))
                (void)json_object_set_new(map, name, json_string(out)); /* only without memory */
        }
    }
}

/* ---- members ---- */

static void member_empty(json_t *object, const char *name)
{
    if (json_is_object(object) && !json_object_get(object, name))
        (void)json_object_set_new(object, name, json_object());
}

static void member_zero(json_t *object, const char *name)
{
    if (json_is_object(object) && !json_object_get(object, name))
        (void)json_object_set_new(object, name, json_integer(0));
}

static bool is_nothing(const json_t *v)
{
    return json_is_false(v) || (json_is_integer(v) && json_integer_value(v) == 0) ||
           (json_is_string(v) && json_string_length(v) == 0);
}

/* What Go leaves out when it is nothing; pointers, which it would keep, are not in these lists. */
static void drop_nothing(json_t *object, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_nothing(json_object_get(object, names[i])))
            (void)json_object_del(object, names[i]);
}
#define DROP(object, ...)                                                                          \
    drop_nothing(object, (const char *const[]){ __VA_ARGS__ },                                     \
                 MZ_COUNT(((const char *const[]){ __VA_ARGS__ })))

static void container(json_t *c)
{
    static const char *const probes[] = { "livenessProbe", "readinessProbe", "startupProbe" };
    size_t at;
    json_t *one;
    member_empty(c, "resources");
    quantities(c);
    DROP(c, "stdin", "stdinOnce", "tty", "workingDir", "imagePullPolicy");
    for (size_t k = 0; k < MZ_COUNT(probes); k++)
        DROP(json_object_get(c, probes[k]), "initialDelaySeconds", "timeoutSeconds",
             "periodSeconds", "successThreshold", "failureThreshold");
    json_array_foreach(json_object_get(c, "env"), at, one) DROP(one, "value");
    json_array_foreach(json_object_get(c, "ports"), at, one) DROP(one, "hostPort", "hostIP");
    json_array_foreach(json_object_get(c, "volumeMounts"), at, one)
        DROP(one, "readOnly", "subPath");
}

static void pod_spec(json_t *spec)
{
    static const char *const lists[] = { "containers", "initContainers" };
    size_t at;
    json_t *c;
    for (size_t k = 0; k < MZ_COUNT(lists); k++)
        json_array_foreach(json_object_get(spec, lists[k]), at, c) if (json_is_object(c))
            container(c);
    DROP(spec, "hostNetwork", "hostPID", "hostIPC");
}

static json_t *at(json_t *object, const char *a, const char *b /* NULL: @a itself */)
{
    json_t *first = json_object_get(object, a);
    return b ? json_object_get(first, b) : first;
}

/* By kind: where the pod is, and what its status and spec always hold. */
static void of_kind(json_t *object, const char *kind)
{
    static const struct {
        const char *kind, *status[6];
    } counts[] = { { "DaemonSet",
                     { "currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled",
                       "numberReady" } },
                   { "StatefulSet", { "availableReplicas", "replicas" } },
                   { "ReplicaSet", { "replicas" } },
                   { "ReplicationController", { "replicas" } },
                   { "DeploymentConfig",
                     { "availableReplicas", "latestVersion", "observedGeneration", "replicas",
                       "unavailableReplicas", "updatedReplicas" } } };
    json_t *spec = json_object_get(object, "spec");
    member_empty(object, "status");
    for (size_t i = 0; i < MZ_COUNT(counts); i++)
        for (size_t k = 0; strcmp(counts[i].kind, kind) == 0 && k < MZ_COUNT(counts[i].status); k++)
            if (counts[i].status[k])
                member_zero(json_object_get(object, "status"), counts[i].status[k]);
    if (strcmp(kind, "Deployment") == 0 || strcmp(kind, "DeploymentConfig") == 0)
        member_empty(spec, "strategy");
    if (strcmp(kind, "DaemonSet") == 0 || strcmp(kind, "StatefulSet") == 0)
        member_empty(spec, "updateStrategy");
    if (strcmp(kind, "DeploymentConfig") == 0) {
        member_empty(json_object_get(spec, "strategy"), "resources");
        if (!json_object_get(spec, "test"))
            (void)json_object_set_new(spec, "test", json_false());
    }
    DROP(spec, "paused", "minReadySeconds");
}

void kube_complete(json_t *object)
{
    const char *kind = json_string_value(json_object_get(object, "kind"));
    json_t *spec = json_object_get(object, "spec"), *one, *pod;
    size_t i;
    if (!kind)
        return;
    if (strcmp(kind, "List") == 0) {
        member_empty(object, "metadata");
        json_array_foreach(json_object_get(object, "items"), i, one) kube_complete(one);
        return;
    }
    pod = strcmp(kind, "Pod") == 0       ? spec
          : strcmp(kind, "CronJob") == 0 ? at(at(spec, "jobTemplate", "spec"), "template", "spec")
                                         : at(spec, "template", "spec");
    if (!json_is_object(pod))
        return;
    if (strcmp(kind, "CronJob") == 0)
        member_empty(at(at(spec, "jobTemplate", "spec"), "template", NULL), "metadata");
    pod_spec(pod);
    of_kind(object, kind);
}
