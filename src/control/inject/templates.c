#include "control/inject/templates_priv.h"

/* ---- reading ---- */

static json_t *read_tree(struct mz_arena *a, struct mz_str text, struct mz_err *err)
{
    if (!mz_str_trim(text).n)
        return json_object();
    const struct mz_node *n = mz_tree_read_yaml_loose(a, text, err);
    json_t *v = n ? mz_json_from_tree(n) : NULL;
    if (n && !json_is_object(v)) {
        json_decref(v);
        mz_err_set(err, "is no object");
        return NULL;
    }
    return v;
}

/* ---- who gets one that says nothing itself ---- */

static const char *const selectors[] = { "neverInjectSelector", "alwaysInjectSelector" };

static bool is_in(const json_t *list, const json_t *value)
{
    bool found = false;
    for (size_t i = 0; value && i < json_array_size(list); i++)
        found |= json_equal(json_array_get(list, i), value);
    return found;
}

enum operator{ OP_IN, OP_NOT_IN, OP_EXISTS, OP_ABSENT, OP_UNKNOWN };

static enum operator operator_of(const json_t *expression)
{
    static const char *const words[] = { "In", "NotIn", "Exists", "DoesNotExist" };
    const char *s = json_string_value(json_object_get(expression, "operator"));
    enum operator op = OP_IN;
    while (op < OP_UNKNOWN && strcmp(s ? s : "", words[op]) != 0)
        op++;
    return op;
}

static bool expression_matches(const json_t *e, const json_t *labels)
{
    const char *key = json_string_value(json_object_get(e, "key"));
    const json_t *value = key ? json_object_get(labels, key) : NULL,
                 *list = json_object_get(e, "values");
    switch (operator_of(e)) {
    case OP_IN:
        return is_in(list, value);
    case OP_NOT_IN:
        return !is_in(list, value);
    case OP_EXISTS:
        return value != NULL;
    default:
        return value == NULL;
    }
}

/* One that is empty selects nobody. */
static bool selector_matches(json_t *selector, const json_t *labels)
{
    json_t *want = json_object_get(selector, "matchLabels"), *value,
           *list = json_object_get(selector, "matchExpressions");
    const char *key;
    bool all = json_object_size(want) || json_array_size(list);
    json_object_foreach(want, key, value) all &= json_equal(json_object_get(labels, key), value);
    for (size_t i = 0; i < json_array_size(list); i++)
        all &= expression_matches(json_array_get(list, i), labels);
    return all;
}

static bool check_selectors(const json_t *config, struct mz_err *err)
{
    for (size_t k = 0; k < MZ_COUNT(selectors); k++)
        for (size_t i = 0; i < json_array_size(json_object_get(config, selectors[k])); i++) {
            const json_t *one = json_array_get(json_object_get(config, selectors[k]), i),
                         *list = json_object_get(one, "matchExpressions");
            for (size_t j = 0; j < json_array_size(list); j++)
                if (operator_of(json_array_get(list, j)) == OP_UNKNOWN)
                    return mz_err_set(err, "operator is one of In, NotIn, Exists, DoesNotExist") ||
                           mz_err_at(err, "%s[%zu].matchExpressions[%zu]", selectors[k], i, j);
        }
    return true;
}

static bool parse_all(struct mz_inject_templates *t, struct mz_err *err)
{
    const char *name;
    json_t *text, *all = json_object_get(t->config, "templates");
    json_object_foreach(all, name, text)
    {
        const char *s = json_string_value(text);
        struct mz_gotpl *one = s ? mz_gotpl_parse(mz_str_c(s), err) : NULL;
        if (!s)
            mz_err_set(err, "is no text");
        if (!one)
            return mz_err_at(err, "templates.%s", name);
        (void)mz_map_put(&t->by_name, mz_arena_dup(t->arena, mz_str_c(name)), one);
    }
    return true;
}

struct mz_inject_templates *mz_inject_templates_read(struct mz_str config, struct mz_str values,
                                                     struct mz_err *err)
{
    struct mz_inject_templates *t = mz_new0(MZ_MEM_CONFIG, struct mz_inject_templates);
    t->arena = mz_arena_create(MZ_MEM_CONFIG);
    mz_map_init(&t->by_name, MZ_MEM_CONFIG);
    t->config = read_tree(t->arena, config, err);
    if (t->config && check_selectors(t->config, err) && parse_all(t, err)) {
        t->values = read_tree(t->arena, values, err);
        if (t->values)
            return t;
        (void)mz_err_at(err, "values");
    }
    mz_inject_templates_destroy(t);
    return NULL;
}

void mz_inject_templates_destroy(struct mz_inject_templates *t)
{
    if (!t)
        return;
    mz_map_foreach (it, &t->by_name)
        mz_gotpl_destroy(it->value);
    mz_map_fini(&t->by_name);
    json_decref(t->config);
    json_decref(t->values);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_CONFIG, t);
}

/* ---- choosing ---- */

static const struct mz_inject_templates *templates_of(const struct injection *i)
{
    return i->o->templates ? *i->o->templates : NULL;
}

bool templates_policy(const struct injection *i, const json_t *labels)
{
    const struct mz_inject_templates *t = templates_of(i);
    json_t *config = t ? t->config : NULL;
    for (size_t k = 0; k < MZ_COUNT(selectors); k++) {
        json_t *list = json_object_get(config, selectors[k]);
        for (size_t n = 0; n < json_array_size(list); n++)
            if (selector_matches(json_array_get(list, n), labels))
                return k == 1;
    }
    const char *policy = json_string_value(json_object_get(config, "policy"));
    return !policy || strcmp(policy, "enabled") == 0;
}

json_t *templates_value(const struct injection *i, const char *path)
{
    const struct mz_inject_templates *t = templates_of(i);
    json_t *v = t ? t->values : NULL;
    struct mz_str rest = mz_str_c(path), part;
    while (v && mz_str_split(&rest, '.', &part))
        v = json_object_getn(v, part.p, part.n);
    return v;
}

const struct mz_gotpl *templates_find(const struct injection *i, struct mz_str name)
{
    const struct mz_inject_templates *t = templates_of(i);
    return t ? mz_map_get(&t->by_name, name) : NULL;
}

static bool choose(const struct injection *i, struct mz_str name, struct templates_chosen *out)
{
    if (!templates_find(i, name) && !mz_str_eq(name, MZ_STR("sidecar")) &&
        !mz_str_eq(name, MZ_STR("gateway")))
        return mz_err_set(i->err,
                          "annotation inject.istio.io/templates: there is no template \"%.*s\"",
                          (int)(name.n > 80 ? 80 : name.n), name.p);
    if (out->n == TEMPLATES_MAX)
        return mz_err_set(i->err, "annotation inject.istio.io/templates: more than %d templates",
                          TEMPLATES_MAX);
    out->v[out->n++] = name;
    return true;
}

/* A name, or those that it stands for. */
static bool choose_alias(const struct injection *i, struct mz_arena *a, struct mz_str name,
                         struct templates_chosen *out)
{
    const struct mz_inject_templates *t = templates_of(i);
    json_t *aliases = t ? json_object_get(t->config, "aliases") : NULL,
           *list = json_object_getn(aliases, name.p, name.n), *one;
    size_t at;
    if (!list)
        return choose(i, mz_arena_dup(a, name), out);
    json_array_foreach(list, at, one)
    {
        const char *s = json_string_value(one);
        if (s && !choose(i, mz_arena_dup(a, mz_str_c(s)), out))
            return false;
    }
    return true;
}

bool templates_choose(const struct injection *i, struct mz_arena *a, struct templates_chosen *out)
{
    const struct mz_inject_templates *t = templates_of(i);
    const char *said = annotation(i, "inject.istio.io/templates", NULL);
    json_t *standard = t ? json_object_get(t->config, "defaultTemplates") : NULL, *one;
    size_t at;
    out->n = 0;
    if (!said && json_array_size(standard)) {
        json_array_foreach(standard, at, one)
        {
            const char *s = json_string_value(one);
            if (s && !choose_alias(i, a, mz_str_c(s), out))
                return false;
        }
        return true;
    }
    struct mz_str rest = mz_str_c(said ? said : "sidecar"), name;
    while (mz_str_split(&rest, ',', &name))
        if (!choose_alias(i, a, mz_str_trim(name), out))
            return false;
    return true;
}

json_t *templates_annotations(const struct injection *i)
{
    const struct mz_inject_templates *t = templates_of(i);
    return t ? json_object_get(t->config, "injectedAnnotations") : NULL;
}

/* ---- what templates see ---- */

static json_t *proxy_config(const struct injection *i)
{
    json_t *c = proxy_config_whole(i->config);
    if (!json_object_get(c, "interceptionMode")) /* below: only without memory */
        (void)json_object_set_new(c, "interceptionMode", json_string("REDIRECT"));
    return c;
}

static json_t *mesh_config(const struct injection *i)
{
    json_t *m = i->mesh ? json_deep_copy(i->mesh) : json_object();
    if (!json_object_get(m, "trustDomain"))
        (void)json_object_set_new(m, "trustDomain", json_string(i->o->trust_domain));
    return m;
}

static json_t *data_of(const struct injection *i, const json_t *original)
{
    const struct mz_inject_templates *t = templates_of(i);
    json_t *meta = json_object_get(original, "metadata"), *mesh = mesh_config(i);
    const json_t *inbound = json_object_get(json_object_get(mesh, "inboundTrafficPolicy"), "mode");
    const bool loopback =
        json_is_string(inbound) && strcmp(json_string_value(inbound), "LOCALHOST") == 0;
    return json_pack(
        "{s:{s:s, s:s}, s:{s:s, s:s}, s:O?, s:O?, s:o, s:o, s:O, s:s, s:o, s:o, s:b, s:i, s:i, "
        "s:s, s:s}",
        "TypeMeta", "Kind", i->owner->kind, "APIVersion", i->owner->api, "DeploymentMeta", "Name",
        i->owner->name, "Namespace", i->owner->ns, "ObjectMeta", meta, "Spec",
        json_object_get(original, "spec"), "ProxyConfig", proxy_config(i), "MeshConfig", mesh,
        "Values", t->values, "Revision", i->o->revision, "ProxyImage", template_image(i, false),
        "ProxyInitImage", template_image(i, true), "NativeSidecars", i->native, "ProxyUID", 1337,
        "ProxyGID", 1337, "InboundTrafficPolicyMode", loopback ? "localhost" : "passthrough",
        "CompliancePolicy", "");
}

/* ---- applying ---- */

static bool lay(struct injection *i, struct mz_arena *a, struct mz_str text, json_t *laid)
{
    json_t *patch = read_tree(a, text, i->err);
    const bool ok = patch && overlay(laid, patch, i->err) && overlay(i->pod, patch, i->err);
    json_decref(patch);
    return ok;
}

bool templates_apply(struct injection *i, const struct mz_gotpl *t, struct mz_str name,
                     const json_t *original, json_t *laid)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    json_t *data = data_of(i, original);
    struct mz_str text;
    const bool ok = data && mz_gotpl_run(t, data, a, &text, i->err) && lay(i, a, text, laid);
    json_decref(data);
    mz_arena_destroy(a);
    return ok || mz_err_at(i->err, "template %.*s", MZ_STR_ARG(name));
}
