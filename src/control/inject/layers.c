#include "control/inject/layers.h"

#include "base/buf.h"
#include "control/inject/inject_priv.h"
#include "control/model/attached.h"

/* ---- messages as the field's tools write them ---- */

static json_t *camel(const char *key)
{
    char out[80];
    size_t n = 0;
    for (const char *p = key; *p && n + 1 < sizeof(out); p++) {
        const bool up = *p == '_' && p[1] >= 'a' && p[1] <= 'z';
        out[n++] = up ? (char)(p[1] - 'a' + 'A') : *p;
        p += up;
    }
    return json_stringn(out, n);
}

/* Keys of maps stay. */
static bool is_map(const char *name)
{
    return strcmp(name, "proxy_metadata") == 0 || strcmp(name, "runtime_values") == 0 ||
           strcmp(name, "custom_tags") == 0;
}

static json_t *rename_all(json_t *v, bool keep)
{
    const char *key;
    json_t *one;
    size_t at;
    if (json_is_array(v)) {
        json_t *list = json_array();
        json_array_foreach(v, at, one)(void)
            json_array_append_new(list, rename_all(one, false)); /* only without memory */
        return list;
    }
    if (!json_is_object(v))
        return json_incref(v);
    json_t *map = json_object();
    json_object_foreach(v, key, one)
    {
        json_t *name = keep ? json_string(key) : camel(key);
        (void)json_object_set_new(map, json_string_value(name),
                                  rename_all(one, is_map(key))); /* only without memory */
        json_decref(name);
    }
    return map;
}

static json_t *of_message(const ProtobufCMessage *c)
{
    struct mz_buf text;
    if (!c)
        return NULL;
    mz_buf_init(&text);
    mz_msg_to_json(c, &text, 0);
    const struct mz_str s = mz_buf_linearize(&text, mz_buf_len(&text));
    json_t *raw = json_loadb(s.p, s.n, 0, NULL), *out = raw ? rename_all(raw, false) : NULL;
    json_decref(raw);
    mz_buf_fini(&text);
    return out;
}

json_t *mz_inject_mesh(const struct mz_model *m)
{
    const ist_MeshConfig *c = m->mesh.config;
    json_t *out = of_message(&c->base);
    if (!out)
        out = json_object();
    (void)json_object_set_new(out, "enablePrometheusMerge", /* only without memory */
                              json_boolean(mz_bool_or(c->enable_prometheus_merge, true)));
    return out;
}

static json_t *of_mesh(const ist_mesh_ProxyConfig *c)
{
    return of_message(c ? &c->base : NULL);
}

static json_t *of_document(const ist_networking_ProxyConfig *c)
{
    if (!c)
        return NULL;
    json_t *out = json_object();
    if (c->concurrency) /* below: only without memory */
        (void)json_object_set_new(out, "concurrency", json_integer(c->concurrency->value));
    if (c->n_environment_variables) {
        json_t *map = json_object();
        for (size_t i = 0; i < c->n_environment_variables; i++)
            (void)json_object_set_new(map, c->environment_variables[i]->key,
                                      json_string(c->environment_variables[i]->value));
        (void)json_object_set_new(out, "proxyMetadata", map);
    }
    if (c->image)
        (void)json_object_set_new(out, "image",
                                  json_pack("{s:s}", "imageType", c->image->image_type));
    return out;
}

/* ---- which ---- */

static bool selects(const ist_WorkloadSelector *s, const json_t *labels)
{
    for (size_t i = 0; i < s->n_match_labels; i++) {
        const char *v = json_string_value(json_object_get(labels, s->match_labels[i]->key));
        if (!v || strcmp(v, s->match_labels[i]->value) != 0)
            return false;
    }
    return s->n_match_labels > 0;
}

/* The oldest of a namespace: one without a selector, or one that selects the pod. */
static const ist_networking_ProxyConfig *oldest(const struct mz_model *m, struct mz_str ns,
                                                bool selecting, const json_t *labels)
{
    const struct mz_attached_list *list = &m->attached[MZ_KIND_PROXY_CONFIG];
    for (size_t i = 0; i < list->n; i++) {
        const ist_networking_ProxyConfig *c = (const ist_networking_ProxyConfig *)list->v[i].m;
        if (mz_str_eq(list->v[i].ns, ns) && !c->selector == !selecting &&
            (!selecting || selects(c->selector, labels)))
            return c;
    }
    return NULL;
}

static json_t *put(json_t *low, json_t *high)
{
    json_t *out = proxy_config_merge(low, high);
    json_decref(low);
    json_decref(high);
    return out;
}

void mz_inject_layers(const struct mz_model *m, const char *ns, const json_t *labels,
                      json_t **out_under, json_t **out_over)
{
    const struct mz_str own = mz_str_c(ns), root = m->mesh.root_ns;
    json_t *under = of_mesh(m->mesh.config->default_config);
    under = put(under, of_document(oldest(m, root, false, NULL)));
    if (!mz_str_eq(own, root))
        under = put(under, of_document(oldest(m, own, false, NULL)));
    *out_under = under;
    *out_over = of_document(oldest(m, own, true, labels));
}
