/* Probes of applications: the kubelet asks the agent, which asks the application past mutual TLS. */
#include <stdlib.h>

#include "control/inject/inject_priv.h"

static const struct {
    const char *field, *word;
} kinds[] = { { "livenessProbe", "livez" },
              { "readinessProbe", "readyz" },
              { "startupProbe", "startupz" } };

/* A port's number, by its name among the container's. NULL: nobody has it. New reference. */
static json_t *port_number(json_t *container, json_t *port)
{
    size_t at;
    json_t *one;
    if (json_is_integer(port))
        return json_incref(port);
    json_array_foreach(json_object_get(container, "ports"), at, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && json_is_string(port) && strcmp(name, json_string_value(port)) == 0)
            return json_incref(json_object_get(one, "containerPort"));
    }
    return NULL;
}

/* What the agent is told of a probe; NULL: it stays as it is. */
static json_t *prober(json_t *container, json_t *probe)
{
    static const char *const actions[] = { "httpGet", "tcpSocket", "grpc" };
    json_t *out = NULL;
    for (size_t i = 0; !out && i < 3; i++) {
        json_t *action = json_object_get(probe, actions[i]),
               *port = action ? port_number(container, json_object_get(action, "port")) : NULL;
        if (!port)
            continue;
        json_t *copy = json_deep_copy(action);
        (void)json_object_set_new(copy, "port", port); /* only without memory, as all below */
        out = json_object();
        (void)json_object_set_new(out, actions[i], copy);
        if (json_object_get(probe, "timeoutSeconds"))
            (void)json_object_set(out, "timeoutSeconds", json_object_get(probe, "timeoutSeconds"));
    }
    return out;
}

static void rewrite(const struct injection *i, json_t *container, const char *field,
                    const char *word, unsigned status_port, json_t *map)
{
    json_t *probe = json_object_get(container, field),
           *was = probe ? prober(container, probe) : NULL;
    const char *name = json_string_value(json_object_get(container, "name"));
    char path[400];
    (void)i;
    if (!was || !name) {
        json_decref(was);
        return;
    }
    (void)snprintf(path, sizeof(path), "/app-health/%.253s/%s", name, word);
    (void)json_object_set_new(map, path, was);
    (void)json_object_del(probe, "tcpSocket");
    (void)json_object_del(probe, "grpc");
    (void)json_object_set_new(probe, "httpGet",
                              json_pack("{s:s, s:i}", "path", path, "port", (int)status_port));
}

char *probes_rewrite(const struct injection *i)
{
    static const char *const lists[] = { "initContainers", "containers" }; /* some go on running */
    const char *off = annotation(i, "sidecar.istio.io/rewriteAppHTTPProbers", "true");
    const char *port = annotation(i, "status.sidecar.istio.io/port", "");
    uint64_t status = i->o->status_port;
    size_t at;
    json_t *c, *map = json_object();
    (void)mz_str_u64(mz_str_c(port), &status); /* else the default */
    for (size_t l = 0; strcmp(off, "false") != 0 && status && status <= UINT16_MAX && l < 2; l++)
        json_array_foreach(json_object_get(i->spec, lists[l]), at, c)
        {
            const char *name = json_string_value(json_object_get(c, "name"));
            for (size_t k = 0; name && strcmp(name, INJECT_PROXY) != 0 && k < 3; k++)
                rewrite(i, c, kinds[k].field, kinds[k].word, (unsigned)status, map);
        }
    char *text = json_object_size(map) ? json_dumps(map, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(map);
    return text;
}
