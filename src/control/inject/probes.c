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

/* @at: where in the agent's paths, "app-health". */
static void rewrite(json_t *container, json_t *probe, const char *at, const char *word,
                    unsigned status_port, json_t *map)
{
    json_t *was = json_is_object(probe) ? prober(container, probe) : NULL, *action;
    const char *name = json_string_value(json_object_get(container, "name"));
    char path[400];
    action = json_object_get(json_object_get(was, "httpGet"), "port");
    if (!was || !name || json_integer_value(action) == (json_int_t)status_port) {
        json_decref(was); /* or it was rewritten before */
        return;
    }
    (void)snprintf(path, sizeof(path), "/%s/%.253s/%s", at, name, word);
    (void)json_object_set_new(map, path, was);
    (void)json_object_del(probe, "tcpSocket");
    (void)json_object_del(probe, "grpc");
    action = json_object_get(probe, "httpGet");
    if (!json_is_object(action)) {
        action = json_object();
        (void)json_object_set_new(probe, "httpGet", action);
    }
    (void)json_object_set_new(action, "path", json_string(path));
    (void)json_object_set_new(action, "port", json_integer((json_int_t)status_port));
    if (json_object_get(action,
                        "scheme")) /* the agent speaks HTTP, whatever the application does */
        (void)json_object_set_new(action, "scheme", json_string("HTTP"));
}

static void rewrite_all(json_t *container, unsigned status_port, json_t *map)
{
    static const struct {
        const char *field, *word;
    } hooks[] = { { "preStop", "prestopz" }, { "postStart", "poststartz" } };
    json_t *lifecycle = json_object_get(container, "lifecycle");
    for (size_t k = 0; k < MZ_COUNT(kinds); k++)
        rewrite(container, json_object_get(container, kinds[k].field), "app-health", kinds[k].word,
                status_port, map);
    for (size_t k = 0; k < MZ_COUNT(hooks); k++)
        rewrite(container, json_object_get(lifecycle, hooks[k].field), "app-lifecycle",
                hooks[k].word, status_port, map);
}

char *probes_rewrite(const struct injection *i)
{
    static const char *const lists[] = { "initContainers", "containers" }; /* some go on running */
    const json_t *all = templates_value(i, "sidecarInjectorWebhook.rewriteAppHTTPProbe");
    const char *off = annotation(i, "sidecar.istio.io/rewriteAppHTTPProbers",
                                 json_is_false(all) ? "false" : "true");
    const char *port = annotation(i, "status.sidecar.istio.io/port", "");
    uint64_t status = status_port(i);
    size_t at;
    json_t *c, *map = json_object();
    (void)mz_str_u64(mz_str_c(port), &status); /* else the default */
    for (size_t l = 0; strcmp(off, "false") != 0 && status && status <= UINT16_MAX && l < 2; l++)
        json_array_foreach(json_object_get(i->spec, lists[l]), at, c)
        {
            const char *name = json_string_value(json_object_get(c, "name"));
            if (name && strcmp(name, INJECT_PROXY) != 0)
                rewrite_all(c, (unsigned)status, map);
        }
    char *text = json_object_size(map) ? json_dumps(map, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(map);
    return text;
}
