/* WasmPlugin and TrafficExtension. */
#include "control/analyze/check_policy.h"

#include "base/map.h"
#include "proto/mapper.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))

enum { MAX_LUA = 65536, MAX_SECRET = 253, MAX_NAME = 256 };

/* ---- WebAssembly ---- */

static bool is_hex(struct mz_str s)
{
    const char c = s.n ? mz_lower(s.p[0]) : 0;
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool url(const char *text, struct mz_err *err)
{
    static const char *const schemes[] = { "file", "http", "https", "oci" };
    const struct mz_str s = mz_str_c(text);
    const ptrdiff_t colon = mz_str_find(s, MZ_STR("://"));
    if (!s.n)
        return AT(mz_err_set(err, "is required"), "url");
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return AT(mz_err_set(err, "must have no blanks and control characters"), "url");
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' && !(is_hex(mz_str_skip(s, i + 1)) && is_hex(mz_str_skip(s, i + 2))))
            return AT(mz_err_set(err, "has a %% without two digits"), "url");
    for (size_t i = 0; colon >= 0 && i < MZ_COUNT(schemes); i++)
        if (mz_str_eq((struct mz_str){ s.p, (size_t)colon }, mz_str_c(schemes[i])))
            return s.n > (size_t)colon + 3 || AT(mz_err_set(err, "names nothing"), "url");
    return colon < 0 ||
           AT(mz_err_set(err, "\"%.60s\": the scheme must be one of file, http, https, oci", text),
              "url");
}

static bool sha256(const char *text, struct mz_err *err)
{
    size_t n = 0;
    while ((text[n] >= '0' && text[n] <= '9') || (text[n] >= 'a' && text[n] <= 'f'))
        n++;
    return !text[0] || (n == 64 && !text[n]) ||
           AT(mz_err_set(err, "must be 64 digits of 0-9 and a-f"), "sha256");
}

static bool is_short(const char *path, const char *text, size_t most, struct mz_err *err)
{
    return strlen(text) <= most ||
           AT(mz_err_set(err, "may have at most %zu characters", most), "%s", path);
}

static bool variable(const ist_EnvVar *e, struct mz_map *seen, struct mz_err *err)
{
    if (!e->name[0])
        return AT(mz_err_set(err, "is required"), "name");
    if (!is_short("name", e->name, MAX_NAME, err))
        return false;
    if (mz_map_put(seen, mz_str_c(e->name), seen))
        return AT(mz_err_set(err, "\"%.60s\" is there already", e->name), "name");
    return e->value_from == ist_EnvValueSource_INLINE || !e->value[0] ||
           AT(mz_err_set(err, "can only be set where value_from is INLINE"), "value");
}

static bool variables(const ist_VmConfig *vm, struct mz_err *err)
{
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; vm && ok && i < vm->n_env; i++)
        ok = variable(vm->env[i], &seen, err) || mz_err_at(err, "vm_config.env[%zu]", i);
    mz_map_fini(&seen);
    return ok;
}

static bool port(const ist_type_PortSelector *p, struct mz_err *err)
{
    return (p->number && p->number <= UINT16_MAX) ||
           AT(mz_err_set(err, "%u is no port", p->number), "number");
}

static bool ports(ist_type_PortSelector *const *v, size_t n, size_t match, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!port(v[i], err))
            return mz_err_at(err, "match[%zu].ports[%zu]", match, i);
    return true;
}

bool check_wasm_plugin(const ist_WasmPlugin *m, struct mz_err *err)
{
    for (size_t i = 0; i < m->n_match; i++)
        if (!ports(m->match[i]->ports, m->match[i]->n_ports, i, err))
            return false;
    return check_targets(m->selector, m->targetref, m->targetrefs, m->n_targetrefs, err) &&
           url(m->url, err) && sha256(m->sha256, err) &&
           is_short("image_pull_secret", m->image_pull_secret, MAX_SECRET, err) &&
           is_short("plugin_name", m->plugin_name, MAX_NAME, err) && variables(m->vm_config, err);
}

/* ---- either ---- */

static bool wasm(const ist_WasmConfig *w, struct mz_err *err)
{
    return url(w->url, err) && sha256(w->sha256, err) &&
           is_short("image_pull_secret", w->image_pull_secret, MAX_SECRET, err) &&
           is_short("plugin_name", w->plugin_name, MAX_NAME, err) && variables(w->vm_config, err);
}

static bool lua(const ist_LuaConfig *l, struct mz_err *err)
{
    return l->inline_code[0] ? is_short("inline_code", l->inline_code, MAX_LUA, err)
                             : AT(mz_err_set(err, "is required"), "inline_code");
}

bool check_proxy_config(const ist_networking_ProxyConfig *m, struct mz_err *err)
{
    if (m->concurrency && m->concurrency->value < 0)
        return AT(mz_err_set(err, "must not be negative"), "concurrency");
    return check_targets(m->selector, NULL, NULL, 0, err);
}

bool check_traffic_extension(const ist_TrafficExtension *m, struct mz_err *err)
{
    if (m->filter_config_case == ist_TrafficExtension_FILTER_CONFIG__NOT_SET)
        return mz_err_set(err, "exactly one of wasm and lua must be set");
    if (m->filter_config_case == ist_TrafficExtension_FILTER_CONFIG_WASM && !wasm(m->wasm, err))
        return mz_err_at(err, "wasm");
    if (m->filter_config_case == ist_TrafficExtension_FILTER_CONFIG_LUA && !lua(m->lua, err))
        return mz_err_at(err, "lua");
    for (size_t i = 0; i < m->n_match; i++)
        if (!ports(m->match[i]->ports, m->match[i]->n_ports, i, err))
            return false;
    return check_targets(m->selector, NULL, m->targetrefs, m->n_targetrefs, err);
}
