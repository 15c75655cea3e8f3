/* Functions of templates: documents, and Istio's own. */
#include "control/inject/gotpl_funcs.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/inject/inject_priv.h"
#include "proto/show.h"

/* ---- documents ---- */

FN(fn_merge_maps)
{
    json_t *m = json_object();
    for (size_t i = 0; i < n; i++)
        if (json_is_object(v[i]) && tpl_spend(r, json_object_size(v[i]) * 64))
            (void)json_object_update(m, v[i]);
    return tpl_keep_made(r, m);
}

/* Maps by their keys, messages and Kubernetes' types in their own order. */
static json_t *dumped(struct tpl_run *r, json_t *v, size_t order, const char *nothing)
{
    struct mz_buf b;
    if (!v || json_is_null(v))
        return v || r->work <= TPL_MAX_WORK ? tpl_text(r, mz_str_c(nothing)) : NULL;
    mz_buf_init(&b);
    tpl_dump(&b, v, JSON_COMPACT | order);
    return tpl_text_of(r, &b);
}

FN(fn_to_json)
{
    UNUSED;
    return dumped(r, v[0], JSON_SORT_KEYS, "{}");
}

FN(fn_struct_to_json)
{
    UNUSED;
    return dumped(r, v[0], 0, "{}");
}

FN(fn_sprig_to_json)
{
    UNUSED;
    return dumped(r, v[0], JSON_SORT_KEYS, "null");
}

FN(fn_to_json_map)
{
    return dumped(r, fn_merge_maps(r, v, n), JSON_SORT_KEYS, "{}");
}

enum { PARSED = 8 }; /* what a byte of text becomes, about */

/* By its brackets, those in texts counted, too. */
static bool is_shallow(struct mz_str s)
{
    unsigned deep = 0, most = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '[' || s.p[i] == '{')
            most = ++deep > most ? deep : most;
        else if ((s.p[i] == ']' || s.p[i] == '}') && deep)
            deep--;
    }
    return most <= TPL_MAX_DEPTH;
}

FN(fn_from_json)
{
    UNUSED;
    const struct mz_str s = tpl_print(r, v[0]);
    if (!tpl_spend(r, s.n * PARSED) || !is_shallow(s))
        return r->work > TPL_MAX_WORK ? NULL : tpl_fail(r, "is nested too deeply:", v[0]);
    json_t *out = json_loads(s.p, JSON_DECODE_ANY, NULL);
    return out ? tpl_keep(r, out) : tpl_text(r, MZ_STR("{}"));
}

FN(fn_to_yaml)
{
    UNUSED;
    struct mz_err err;
    if (json_is_null(v[0]))
        return tpl_text(r, MZ_STR("null\n"));
    if (!json_is_object(v[0]) && !json_is_array(v[0]))
        return tpl_text(r, mz_arena_printf(r->arena, "%.*s\n", MZ_STR_ARG(tpl_print(r, v[0]))));
    struct mz_buf b;
    mz_buf_init(&b);
    tpl_dump(&b, v[0], JSON_COMPACT);
    const bool fits = mz_buf_len(&b) <= TPL_MAX_OUT && tpl_spend(r, mz_buf_len(&b) * PARSED);
    const struct mz_str s =
        fits ? mz_arena_dup(r->arena, mz_buf_linearize(&b, mz_buf_len(&b))) : MZ_STR("");
    mz_buf_fini(&b);
    if (!fits) {
        (void)mz_err_set(r->err, "line %u: makes more than %d MiB of text", r->line,
                         TPL_MAX_OUT >> 20);
        return NULL;
    }
    const struct mz_node *node = mz_tree_read(r->arena, s, MZ_TEXT_JSON, &err);
    if (!node)
        return tpl_fail(r, "cannot be written:", v[0]);
    mz_buf_init(&b);
    mz_show_yaml(&b, node, false);
    return tpl_text_of(r, &b);
}

/* ---- Istio's ---- */

FN(fn_isset)
{
    UNUSED;
    return tpl_boolean(json_object_get(v[0], tpl_print(r, v[1]).p) != NULL);
}

FN(fn_annotation)
{
    UNUSED;
    json_t *notes = tpl_field(v[0], MZ_STR("Annotations"));
    json_t *found = json_object_get(notes, tpl_print(r, v[1]).p);
    return found ? found : tpl_text(r, tpl_print(r, v[2]));
}

FN(fn_exclude_inbound_port)
{
    UNUSED;
    const struct mz_str port = tpl_trim_set(tpl_print(r, v[0]), MZ_STR(" \t\n"));
    const struct mz_str all = tpl_print(r, v[1]);
    struct mz_str rest = all, one;
    struct mz_buf out;
    if (!port.n || mz_str_eq(port, MZ_STR("0")))
        return tpl_text(r, all);
    mz_buf_init(&out);
    while (mz_str_split(&rest, ',', &one)) {
        if (mz_str_eq(one, port)) {
            mz_buf_fini(&out);
            return tpl_text(r, all);
        }
        one = mz_str_trim(one);
        tpl_put(&out, one);
        tpl_put(&out, one.n ? MZ_STR(",") : MZ_STR(""));
    }
    tpl_put(&out, port);
    return tpl_text_of(r, &out);
}

static json_t *ports(struct tpl_run *r, json_t *containers, const char *but)
{
    struct mz_buf out;
    char number[32];
    size_t i, k;
    json_t *c, *p;
    mz_buf_init(&out);
    json_array_foreach(containers, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (but && name && strcmp(name, but) == 0)
            continue;
        json_array_foreach(json_object_get(c, "ports"), k, p)
        {
            const char *protocol = json_string_value(json_object_get(p, "protocol"));
            if (protocol && (strcmp(protocol, "UDP") == 0 || strcmp(protocol, "SCTP") == 0))
                continue;
            (void)snprintf(number, sizeof(number), "%s%lld", mz_buf_len(&out) ? "," : "",
                           (long long)json_integer_value(json_object_get(p, "containerPort")));
            tpl_put(&out, mz_str_c(number));
        }
    }
    return tpl_text_of(r, &out);
}

FN(fn_include_inbound_ports)
{
    UNUSED;
    return ports(r, v[0], NULL);
}

FN(fn_application_ports)
{
    UNUSED;
    return ports(r, v[0], "istio-proxy");
}

/* Of a ProxyConfig what is not the default. */
FN(fn_proto_to_json)
{
    UNUSED;
    const char *mode = json_string_value(json_object_get(v[0], "interceptionMode"));
    json_t *own = json_is_object(v[0]) ? proxy_config_unusual(v[0]) : json_object();
    if (mode && strcmp(mode, "REDIRECT") == 0)
        (void)json_object_del(own, "interceptionMode");
    return dumped(r, tpl_keep_made(r, own), 0, "{}");
}

static bool enriches(const json_t *mesh)
{
    size_t at;
    json_t *one;
    json_array_foreach(json_object_get(mesh, "extensionProviders"), at, one)
    {
        const char *how = json_string_value(
            json_object_get(json_object_get(one, "opentelemetry"), "serviceAttributeEnrichment"));
        if (how && strcmp(how, "OTEL_SEMANTIC_CONVENTIONS") == 0)
            return true;
    }
    return false;
}

static struct mz_str said(const json_t *map, const char *key)
{
    const char *s = json_string_value(json_object_get(map, key));
    return mz_str_c(s ? s : "");
}

/* "1.2@sha256:x" of "host:5000/name:1.2@sha256:x". */
static struct mz_str image_version(struct tpl_run *r, struct mz_str image)
{
    const ptrdiff_t at = mz_str_chr(image, '@');
    const struct mz_str digest = at < 0 ? MZ_STR("") : mz_str_skip(image, (size_t)at + 1);
    image.n = at < 0 ? image.n : (size_t)at;
    const ptrdiff_t slash = mz_str_rchr(image, '/'), colon = mz_str_rchr(image, ':');
    const struct mz_str tag = colon > slash ? mz_str_skip(image, (size_t)colon + 1) : MZ_STR("");
    return mz_arena_printf(r->arena, "%.*s%s%.*s", MZ_STR_ARG(tag), tag.n && digest.n ? "@" : "",
                           MZ_STR_ARG(digest));
}

/* (MeshConfig, annotations, labels, namespace, containers): OpenTelemetry's names for services, where a provider wants them. */
FN(fn_otel_attributes)
{
    UNUSED;
    const json_t *first = json_array_get(v[4], 0);
    const struct mz_str ns = tpl_print(r, v[3]);
    struct mz_str space = said(v[1], "resource.opentelemetry.io/service.namespace"),
                  version = said(v[1], "resource.opentelemetry.io/service.version"),
                  id = said(v[1], "resource.opentelemetry.io/service.instance.id");
    if (!enriches(v[0]))
        return tpl_text(r, MZ_STR(""));
    space = space.n ? space : ns;
    version = version.n ? version : said(v[2], "app.kubernetes.io/version");
    if (!version.n && json_array_size(v[4]) == 1)
        version = image_version(r, said(first, "image"));
    if (!id.n && first)
        id =
            mz_arena_printf(r->arena, "%.*s.$(POD_NAME).%s", MZ_STR_ARG(ns), said(first, "name").p);
    return tpl_text(r, mz_arena_printf(r->arena, "%s%.*s%s%s%.*s%s%s%.*s",
                                       space.n ? "service.namespace=" : "", MZ_STR_ARG(space),
                                       space.n && version.n ? "," : "",
                                       version.n ? "service.version=" : "", MZ_STR_ARG(version),
                                       (space.n || version.n) && id.n ? "," : "",
                                       id.n ? "service.instance.id=" : "", MZ_STR_ARG(id)));
}

/* A list of networks, by names or as JSON, and one more. */
FN(fn_append_multus)
{
    UNUSED;
    const struct mz_str had = tpl_print(r, v[0]), more = tpl_print(r, v[1]);
    const ptrdiff_t end = mz_str_rchr(had, ']'), slash = mz_str_chr(more, '/');
    struct mz_str rest = had, one;
    size_t at;
    json_t *net;
    if (!had.n)
        return v[1];
    if (end < 0) {
        while (mz_str_split(&rest, ',', &one))
            if (mz_str_eq(mz_str_trim(one), more))
                return v[0];
        return tpl_text(r,
                        mz_arena_printf(r->arena, "%.*s, %.*s", MZ_STR_ARG(had), MZ_STR_ARG(more)));
    }
    if (!tpl_spend(r, had.n * PARSED) || !is_shallow(had))
        return v[0];
    json_t *all = tpl_keep(r, json_loadb(had.p, had.n, 0, NULL));
    const struct mz_str ns = { more.p, slash < 0 ? 0 : (size_t)slash },
                        name = mz_str_skip(more, (size_t)(slash + 1));
    if (!json_is_array(all))
        return v[0];
    json_array_foreach(all, at, net) if (mz_str_eq(said(net, "name"), name) &&
                                         mz_str_eq(said(net, "namespace"), ns)) return v[0];
    return tpl_text(r, mz_arena_printf(r->arena, "%.*s, {\"name\": \"%.*s\"%s%.*s%s}%.*s", (int)end,
                                       had.p, MZ_STR_ARG(name), ns.n ? ", \"namespace\": \"" : "",
                                       MZ_STR_ARG(ns), ns.n ? "\"" : "", (int)(had.n - (size_t)end),
                                       had.p + end));
}

FN(fn_env)
{
    UNUSED;
    const char *value =
        getenv(tpl_print(r, v[0]).p); /* nobody changes the environment of a running process here */
    return value && value[0] ? tpl_text(r, mz_str_c(value)) : v[1];
}

const struct tpl_function tpl_istio_functions[] = {
    { "mergeMaps", fn_merge_maps, 0, MANY },
    { "annotation", fn_annotation, 3, 3 },
    { "appendMultusNetwork", fn_append_multus, 2, 2 },
    { "applicationPorts", fn_application_ports, 1, 1 },
    { "env", fn_env, 2, 2 },
    { "excludeInboundPort", fn_exclude_inbound_port, 2, 2 },
    { "fromJSON", fn_from_json, 1, 1 },
    { "fromJson", fn_from_json, 1, 1 },
    { "includeInboundPorts", fn_include_inbound_ports, 1, 1 },
    { "isset", fn_isset, 2, 2 },
    { "otelResourceAttributes", fn_otel_attributes, 5, 5 },
    { "protoToJSON", fn_proto_to_json, 1, 1 },
    { "structToJSON", fn_struct_to_json, 1, 1 },
    { "toJSON", fn_to_json, 1, 1 },
    { "toJson", fn_sprig_to_json, 1, 1 },
    { "toJsonMap", fn_to_json_map, 0, MANY },
    { "toYaml", fn_to_yaml, 1, 1 },
    { NULL, NULL, 0, 0 },
};
