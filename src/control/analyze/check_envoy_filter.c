#include "base/regex.h"
#include "base/vec.h"
#include "control/analyze/check_policy.h"
#include "control/model/envoy_patch.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))
enum { MAX_PATCHES = 500, MAX_VERSION_PATTERN = 1024 };

typedef ist_EnvoyFilter_EnvoyConfigObjectPatch config_patch;
typedef ist_EnvoyFilter_EnvoyConfigObjectMatch config_match;

static bool filter_match(const config_patch *p, const ist_EnvoyFilter_ListenerMatch_FilterMatch *m,
                         struct mz_err *err)
{
    if (!m)
        return true;
    if (!m->name[0])
        return AT(mz_err_set(err, "is required"), "name");
    if (!m->sub_filter)
        return true;
    if (p->apply_to != ist_EnvoyFilter_ApplyTo_HTTP_FILTER)
        return AT(mz_err_set(err, "stands only with applyTo: HTTP_FILTER"), "sub_filter");
    if (strcmp(m->name, "envoy.filters.network.http_connection_manager") != 0 &&
        strcmp(m->name, "envoy.http_connection_manager") != 0)
        return AT(mz_err_set(err, "with a sub_filter it must be "
                                  "envoy.filters.network.http_connection_manager"),
                  "name");
    return m->sub_filter->name[0] ? true : AT(mz_err_set(err, "is required"), "sub_filter.name");
}

/* What a match is about must be what the patch is about. */
static bool object(const config_patch *p, const config_match *m, struct mz_err *err)
{
    static const struct {
        ist_EnvoyFilter_ApplyTo to;
        int object; /* case of object_types */
        const char *name;
    } fitting[] = {
        { ist_EnvoyFilter_ApplyTo_LISTENER,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER, "listener" },
        { ist_EnvoyFilter_ApplyTo_FILTER_CHAIN,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER, "listener" },
        { ist_EnvoyFilter_ApplyTo_NETWORK_FILTER,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER, "listener" },
        { ist_EnvoyFilter_ApplyTo_HTTP_FILTER,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER, "listener" },
        { ist_EnvoyFilter_ApplyTo_ROUTE_CONFIGURATION,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_ROUTE_CONFIGURATION,
          "route_configuration" },
        { ist_EnvoyFilter_ApplyTo_VIRTUAL_HOST,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_ROUTE_CONFIGURATION,
          "route_configuration" },
        { ist_EnvoyFilter_ApplyTo_HTTP_ROUTE,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_ROUTE_CONFIGURATION,
          "route_configuration" },
        { ist_EnvoyFilter_ApplyTo_CLUSTER,
          ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_CLUSTER, "cluster" },
    };
    for (size_t i = 0; i < MZ_COUNT(fitting); i++)
        if (fitting[i].to == p->apply_to && m->object_types_case &&
            (int)m->object_types_case != fitting[i].object)
            return mz_err_set(err, "only \"%s\" fits this applyTo", fitting[i].name);
    if (m->object_types_case != ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_LISTENER ||
        !m->listener->filter_chain)
        return true;
    return filter_match(p, m->listener->filter_chain->filter, err) ||
           mz_err_at(err, "listener.filter_chain.filter");
}

static bool version(const ist_EnvoyFilter_ProxyMatch *m, struct mz_err *err)
{
    if (!m || !m->proxy_version[0])
        return true;
    if (strlen(m->proxy_version) > MAX_VERSION_PATTERN)
        return AT(mz_err_set(err, "may have at most %d characters", MAX_VERSION_PATTERN),
                  "proxy.proxy_version");
    struct mz_regex *r = mz_regex_create(mz_str_c(m->proxy_version), err);
    mz_regex_destroy(r);
    return r || mz_err_at(err, "proxy.proxy_version");
}

static bool value(const config_patch *p, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    ProtobufCMessage *m = NULL;
    const bool ok =
        p->apply_to == ist_EnvoyFilter_ApplyTo_BOOTSTRAP || mz_envoy_patch_value(p, a, &m, err);
    mz_arena_destroy(a);
    return ok;
}

static bool patch(const config_patch *p, struct mz_err *err)
{
    if (p->match && p->match->context == ist_EnvoyFilter_PatchContext_WAYPOINT)
        return true; /* nothing is sent to such proxies */
    if (p->apply_to == ist_EnvoyFilter_ApplyTo_INVALID)
        return AT(mz_err_set(err, "is required"), "apply_to");
    if (!p->patch)
        return AT(mz_err_set(err, "is required"), "patch");
    if (p->patch->operation == ist_EnvoyFilter_Patch_Operation_INVALID)
        return AT(mz_err_set(err, "is required"), "patch.operation");
    if (p->patch->operation != ist_EnvoyFilter_Patch_Operation_REMOVE && !p->patch->value)
        return AT(mz_err_set(err, "is required, except with REMOVE"), "patch.value");
    if (p->match && !(version(p->match->proxy, err) && object(p, p->match, err)))
        return mz_err_at(err, "match");
    return value(p, err) || mz_err_at(err, "patch.value");
}

bool check_envoy_filter(const ist_EnvoyFilter *m, struct mz_err *err)
{
    if (m->workload_selector && m->n_targetrefs)
        return mz_err_set(err, "only one of workloadSelector and targetRefs can be set");
    if (!check_targets(NULL, NULL, m->targetrefs, m->n_targetrefs, err))
        return false;
    if (m->n_config_patches > MAX_PATCHES)
        return AT(mz_err_set(err, "may have at most %d, has %zu", MAX_PATCHES, m->n_config_patches),
                  "config_patches");
    for (size_t i = 0; i < m->n_config_patches; i++)
        if (!patch(m->config_patches[i], err))
            return mz_err_at(err, "config_patches[%zu]", i);
    return true;
}
