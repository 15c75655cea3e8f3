#include "mesh/podenv.h"

#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "mesh/json.h"

/* ---- the list ---- */

static size_t find(const struct mz_mesh_env *e, struct mz_str name)
{
    for (size_t i = 0; i < e->v.n; i++)
        if (strncmp(e->v.v[i], name.p, name.n) == 0 && e->v.v[i][name.n] == '=')
            return i;
    return e->v.n;
}

void mz_mesh_env_set(struct mz_mesh_env *e, const char *name, const char *value)
{
    const size_t at = find(e, mz_str_c(name));
    const char *line = mz_arena_printf(e->arena, "%s=%s", name, value).p;
    if (at < e->v.n)
        e->v.v[at] = line;
    else
        *mz_vec_push(&e->v, MZ_MEM_CONFIG) = line;
}

static const char *get(const struct mz_mesh_env *e, struct mz_str name)
{
    const size_t at = find(e, name);
    return at < e->v.n ? e->v.v[at] + name.n + 1 : NULL;
}

const char *mz_mesh_env_get(const struct mz_mesh_env *e, const char *name)
{
    return get(e, mz_str_c(name));
}

const char *mz_mesh_env_expand(const struct mz_mesh_env *e, const char *text)
{
    MZ_VEC(struct mz_str) parts = { 0 };
    const char *from = text;
    for (const char *p = text; (p = strchr(p, '$')) != NULL;) {
        const char *end = p[1] == '(' ? strchr(p, ')') : NULL;
        const char *value = end ? get(e, (struct mz_str){ p + 2, (size_t)(end - p) - 2 }) : NULL;
        if (p[1] == '$') { /* the first stays */
            *mz_vec_push(&parts, MZ_MEM_CONFIG) = (struct mz_str){ from, (size_t)(p + 1 - from) };
            from = p += 2;
        } else if (value) {
            *mz_vec_push(&parts, MZ_MEM_CONFIG) = (struct mz_str){ from, (size_t)(p - from) };
            *mz_vec_push(&parts, MZ_MEM_CONFIG) = mz_str_c(value);
            from = p = end + 1;
        } else {
            p++;
        }
    }
    *mz_vec_push(&parts, MZ_MEM_CONFIG) = mz_str_c(from);
    const char *all = mz_arena_cat(e->arena, parts.n, parts.v).p;
    mz_vec_free(&parts, MZ_MEM_CONFIG);
    return all;
}

/* ---- values that stand elsewhere ---- */

static const char *addresses(json_t *pod, struct mz_arena *a)
{
    const char *all = "";
    size_t at;
    json_t *one;
    json_array_foreach(mz_json_at(pod, "status", "podIPs", NULL), at, one) all =
        mz_arena_printf(a, "%s%s%s", all, at ? "," : "", mz_json_text(one, "ip", "")).p;
    return all;
}

const char *mz_mesh_field(json_t *pod, const char *path, struct mz_arena *a)
{
    static const char *const maps[] = { "labels", "annotations" };
    struct mz_str rest = mz_str_c(path), part;
    json_t *at = pod;
    for (size_t i = 0; i < 2; i++) { /* metadata.labels['a.b/c'] */
        struct mz_str head = mz_arena_printf(a, "metadata.%s['", maps[i]);
        if (!mz_str_starts(rest, head) || !mz_str_ends(rest, MZ_STR("']")))
            continue;
        struct mz_str key = mz_str_skip(rest, head.n);
        key.n -= 2;
        return mz_json_text(mz_json_at(pod, "metadata", maps[i], NULL), mz_arena_dup(a, key).p, "");
    }
    if (strcmp(path, "status.podIPs") == 0)
        return addresses(pod, a);
    if (strcmp(path, "status.hostIPs") == 0)
        return mz_json_text(json_object_get(pod, "status"), "hostIP", "");
    while (mz_str_split(&rest, '.', &part))
        at = json_object_get(at, mz_arena_dup(a, part).p);
    return json_string_value(at);
}

bool mz_mesh_quantity(const char *text, const char *divisor, uint64_t *out)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = { { "", 1 },         { "m", 1e-3 },
                  { "k", 1e3 },      { "M", 1e6 },
                  { "G", 1e9 },      { "T", 1e12 },
                  { "Ki", 1024 },    { "Mi", 1 << 20 },
                  { "Gi", 1 << 30 }, { "Ti", 1099511627776.0 } };
    const size_t n = strspn(text, "0123456789.");
    double value = 0, part = 1, by = 1;
    bool point = false, known = false;
    if (!n || n > 18)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '.' && point)
            return false;
        if (text[i] == '.')
            point = true;
        else
            value = point ? value + (text[i] - '0') * (part /= 10) : value * 10 + (text[i] - '0');
    }
    for (size_t i = 0; i < MZ_COUNT(units); i++) {
        if (strcmp(units[i].unit, text + n) == 0) {
            value *= units[i].factor;
            known = true;
        }
        if (divisor[0] && strcmp(units[i].unit, divisor + 1) == 0 && divisor[0] == '1')
            by = units[i].factor;
    }
    if (!known || value / by > 1e18)
        return false;
    *out = (uint64_t)(value / by);
    *out += (double)*out < value / by;
    return true;
}

/* Without a limit it is what the machine has. */
static const char *resource(json_t *container, json_t *ref, struct mz_arena *a)
{
    const char *name = mz_json_text(ref, "resource", "");
    struct mz_str rest = mz_str_c(name), group = { 0 };
    uint64_t value = 0;
    (void)mz_str_split(&rest, '.', &group);
    const char *text =
        mz_json_text(mz_json_at(container, "resources", mz_arena_dup(a, group).p, NULL),
                     rest.p ? rest.p : "", NULL);
    if (!text || !mz_mesh_quantity(text, mz_json_text(ref, "divisor", "1"), &value)) {
        const bool cpu = mz_str_ends(mz_str_c(name), MZ_STR("cpu"));
        const long n =
            cpu ? sysconf(_SC_NPROCESSORS_ONLN) : sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
        value = n > 0 ? (uint64_t)n : 1;
    }
    return mz_arena_printf(a, "%llu", (unsigned long long)value).p;
}

struct mz_str mz_mesh_key_of(const struct mz_mesh_doc *d, const char *key, struct mz_arena *a)
{
    const char *plain = mz_json_text(json_object_get(d->object, "stringData"), key, NULL),
               *data = mz_json_text(json_object_get(d->object, "data"), key, NULL);
    if (plain || !data || strcmp(d->kind, "Secret") != 0)
        return mz_str_c(plain ? plain : data);
    struct mz_str bytes = { 0 };
    return mz_base64_decode(mz_str_c(data), a, &bytes) ? bytes : (struct mz_str){ 0 };
}

static bool key_ref(struct mz_mesh_env *e, json_t *pod, const char *kind, json_t *ref,
                    const struct mz_mesh_folder *f, const char **out, struct mz_err *err)
{
    const char *name = mz_json_text(ref, "name", ""), *key = mz_json_text(ref, "key", "");
    const struct mz_mesh_doc *d = mz_mesh_folder_find(
        f, kind, mz_json_text(json_object_get(pod, "metadata"), "namespace", ""), name);
    const struct mz_str text = d ? mz_mesh_key_of(d, key, e->arena) : (struct mz_str){ 0 };
    *out = text.p ? mz_arena_dup(e->arena, text).p : NULL;
    if (text.p || json_is_true(json_object_get(ref, "optional")))
        return true;
    return mz_err_set(err, "there is no %s \"%s\" with the key \"%s\"", kind, name, key);
}

static bool value_of(struct mz_mesh_env *e, json_t *pod, json_t *container, json_t *one,
                     const struct mz_mesh_folder *f, const char **out, struct mz_err *err)
{
    json_t *from = json_object_get(one, "valueFrom");
    const char *field = mz_json_text(json_object_get(from, "fieldRef"), "fieldPath", NULL);
    json_t *config = json_object_get(from, "configMapKeyRef"),
           *secret = json_object_get(from, "secretKeyRef"),
           *res = json_object_get(from, "resourceFieldRef");
    if (field) {
        *out = mz_mesh_field(pod, field, e->arena);
        return *out || mz_err_set(err, "fieldPath: \"%s\" is no field of pods", field);
    }
    if (res)
        *out = resource(container, res, e->arena);
    else if (config || secret)
        return key_ref(e, pod, config ? "ConfigMap" : "Secret", config ? config : secret, f, out,
                       err);
    else
        *out = mz_mesh_env_expand(e, mz_json_text(one, "value", ""));
    return true;
}

static bool read_from(struct mz_mesh_env *e, json_t *pod, json_t *one,
                      const struct mz_mesh_folder *f, struct mz_err *err)
{
    json_t *config = json_object_get(one, "configMapRef"),
           *secret = json_object_get(one, "secretRef"), *ref = config ? config : secret, *value;
    const char *kind = config ? "ConfigMap" : "Secret", *name = mz_json_text(ref, "name", ""), *key;
    const struct mz_mesh_doc *d = mz_mesh_folder_find(
        f, kind, mz_json_text(json_object_get(pod, "metadata"), "namespace", ""), name);
    static const char *const maps[] = { "data", "stringData" };
    if (!d)
        return json_is_true(json_object_get(ref, "optional")) ||
               mz_err_set(err, "envFrom: there is no %s \"%s\"", kind, name);
    for (size_t i = 0; i < 2; i++)
        json_object_foreach(json_object_get(d->object, maps[i]), key, value)
        {
            const struct mz_str text = mz_mesh_key_of(d, key, e->arena);
            mz_mesh_env_set(
                e, mz_arena_printf(e->arena, "%s%s", mz_json_text(one, "prefix", ""), key).p,
                mz_arena_dup(e->arena, text).p);
        }
    return true;
}

bool mz_mesh_env_read(struct mz_mesh_env *e, json_t *pod, json_t *container,
                      const struct mz_mesh_folder *f, struct mz_err *err)
{
    size_t at;
    json_t *one;
    json_array_foreach(json_object_get(container, "envFrom"), at,
                       one) if (!read_from(e, pod, one, f, err)) return false;
    json_array_foreach(json_object_get(container, "env"), at, one)
    {
        const char *name = mz_json_text(one, "name", ""), *value = NULL;
        if (!name[0] || strchr(name, '='))
            return mz_err_set(err, "env[%zu].name: \"%.80s\" is no name", at, name);
        if (!value_of(e, pod, container, one, f, &value, err))
            return mz_err_at(err, "env.%s", name);
        if (value)
            mz_mesh_env_set(e, name, value);
    }
    return true;
}
