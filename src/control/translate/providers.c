#include "control/translate/providers.h"

/* As a mesh has them from the start. */
static const ist_MeshConfig_ExtensionProvider *built_in(struct mz_str name)
{
    static const ist_MeshConfig_ExtensionProvider_PrometheusMetricsProvider nothing =
        ist_MeshConfig_ExtensionProvider_PrometheusMetricsProvider__INIT;
    static ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider file =
        ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider__INIT;
    static ist_MeshConfig_ExtensionProvider v[2] = { ist_MeshConfig_ExtensionProvider__INIT,
                                                     ist_MeshConfig_ExtensionProvider__INIT };
    file.path = TR_CONST("/dev/stdout");
    v[0].name = TR_CONST("prometheus");
    v[0].provider_case = ist_MeshConfig_ExtensionProvider_PROVIDER_PROMETHEUS;
    v[0].prometheus =
        (ist_MeshConfig_ExtensionProvider_PrometheusMetricsProvider *)(uintptr_t)&nothing;
    v[1].name = TR_CONST("envoy");
    v[1].provider_case = ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_FILE_ACCESS_LOG;
    v[1].envoy_file_access_log = &file;
    for (size_t i = 0; i < MZ_COUNT(v); i++)
        if (mz_str_ieq(mz_str_c(v[i].name), name))
            return &v[i];
    return NULL;
}

const ist_MeshConfig_ExtensionProvider *tr_provider(const struct mz_model *m, struct mz_str name)
{
    const ist_MeshConfig *c = m->mesh.config;
    for (size_t i = 0; i < c->n_extension_providers; i++)
        if (mz_str_eq(mz_str_c(c->extension_providers[i]->name), name))
            return c->extension_providers[i];
    return NULL;
}

const ist_MeshConfig_ExtensionProvider *tr_provider_by_any_case(const struct mz_model *m,
                                                                struct mz_str name)
{
    const ist_MeshConfig *c = m->mesh.config;
    const ist_MeshConfig_ExtensionProvider *b = built_in(name),
                                           *own = b ? tr_provider(m, mz_str_c(b->name)) : NULL;
    if (b)
        return own ? own : b;
    for (size_t i = 0; i < c->n_extension_providers; i++)
        if (mz_str_ieq(mz_str_c(c->extension_providers[i]->name), name))
            return c->extension_providers[i];
    return NULL;
}

static const struct mz_service *find_service(const struct mz_model *m, const char *text)
{
    const struct mz_str whole = mz_str_c(text);
    const ptrdiff_t slash = mz_str_chr(whole, '/');
    const struct mz_str ns = { whole.p, slash < 0 ? 0 : (size_t)slash };
    const struct mz_service *s = mz_model_service(m, mz_str_skip(whole, (size_t)(slash + 1)));
    return s && (slash < 0 || mz_str_eq(s->ns, ns)) ? s : NULL;
}

bool tr_provider_cluster(struct mz_view *v, struct mz_arena *a, const char *service, uint32_t port,
                         struct tr_provider_cluster *out, struct mz_err *err)
{
    if (port < 1 || port > UINT16_MAX) {
        (void)mz_err_set(err, "must be in 1..65535, is %u", port);
        return mz_err_at(err, "port");
    }
    const struct mz_service *s = find_service(v->model, service);
    if (!s) {
        (void)mz_err_set(err, "there is no service \"%.200s\"", service);
        return mz_err_at(err, "service");
    }
    out->host = tr_text(a, s->host);
    out->cluster = tr_cluster_name(a, "outbound", (uint16_t)port, MZ_STR(""), s->host);
    return true;
}

pb_GrpcService *tr_provider_grpc(struct mz_arena *a, const struct tr_provider_cluster *to)
{
    pb_GrpcService *g = TR_NEW(a, GrpcService);
    g->target_specifier_case = pb_GrpcService_TARGET_SPECIFIER_ENVOY_GRPC;
    g->envoy_grpc = TR_NEW(a, GrpcService_EnvoyGrpc);
    g->envoy_grpc->cluster_name = to->cluster;
    g->envoy_grpc->authority = to->host;
    return g;
}
