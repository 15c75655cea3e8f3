#include "filters/http/ext_authz.h"
#include "filters/http/fraction.h"

/* Configuration of ext_authz (H9), of the filter and of routes, and its statistics. */

static const struct mz_stat_def filter_defs[] = {
#define X(id, name) [EA_##id] = { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    EXT_AUTHZ_STATS(X)
#undef X
};
static const struct mz_stat_def cluster_defs[] = {
    [EAC_DENIED] = { "denied", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [EAC_ERROR] = { "error", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [EAC_FAILURE_MODE_ALLOWED] = { "failure_mode_allowed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [EAC_INVALID] = { "invalid", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [EAC_OK] = { "ok", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind filter_stats = { "ext_authz", filter_defs, EA__COUNT },
                                 cluster_stats = { "ext_authz cluster", cluster_defs, EAC__COUNT };

static struct ea_body body_of(const pb_BufferSettings *m)
{
    if (!m)
        return (struct ea_body){ .set = false };
    return (struct ea_body){ .set = true,
                             .partial = m->allow_partial_message != 0,
                             .max_bytes = m->max_request_bytes,
                             .as_bytes = m->pack_as_bytes != 0 };
}

static struct mz_str *texts(char *const *v, size_t n, struct mz_arena *a)
{
    struct mz_str *out = mz_arena_alloc0(a, mz_mul(n, sizeof(*out)));
    for (size_t i = 0; i < n; i++)
        out[i] = mz_arena_dup(a, mz_str_c(v[i]));
    return out;
}

/* ---- the filter's ---- */

void ea_config_destroy(void *cfg)
{
    struct ea_cfg *c = cfg;
    mutation_rules_fini(&c->rules_of);
    authz_service_fini(c->service);
    authz_names_fini(&c->allowed);
    authz_names_fini(&c->disallowed);
    mz_metadata_match_destroy(c->enabled_metadata);
    cluster_scopes_fini(&c->clusters);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool service_build(const pb_http_ext_authz_ExtAuthz *m, struct ea_cfg *c, struct mz_err *err)
{
    switch (m->services_case) {
    case pb_http_ext_authz_ExtAuthz_SERVICES_GRPC_SERVICE:
        if (!authz_api_version(m->transport_api_version, err))
            return false;
        c->service = authz_service_grpc(m->grpc_service, c->arena, err);
        return c->service || mz_err_at(err, "grpc_service");
    case pb_http_ext_authz_ExtAuthz_SERVICES_HTTP_SERVICE:
        c->service = authz_service_http(m->http_service, c->arena, err);
        return c->service || mz_err_at(err, "http_service");
    default:
        return mz_err_set(err, "one of grpc_service, http_service is required");
    }
}

/* Of a request an HTTP service gets little unless more is asked for; a gRPC service gets all unless less is. */
static bool lists_build(const pb_http_ext_authz_ExtAuthz *m, struct ea_cfg *c, struct mz_err *err)
{
    static const struct mz_str always[] = { MZ_STR_INIT("authorization"), MZ_STR_INIT(":method"),
                                            MZ_STR_INIT(":path"), MZ_STR_INIT(":authority") };
    bool http = m->services_case == pb_http_ext_authz_ExtAuthz_SERVICES_HTTP_SERVICE;
    const pb_ListStringMatcher *own = NULL;
    if (http && m->http_service->authorization_request)
        own = m->http_service->authorization_request->allowed_headers;
    if (own && m->allowed_headers)
        return mz_err_set(err, "Invalid duplicate configuration for allowed_headers.");
    if (!authz_names_build(own ? own : m->allowed_headers, c->arena, &c->allowed, err))
        return mz_err_at(err, own ? "http_service.authorization_request.allowed_headers"
                                  : "allowed_headers");
    c->only_allowed = http || c->allowed.set;
    if (http) {
        c->allowed.also = always;
        c->allowed.n_also = MZ_COUNT(always);
    }
    return authz_names_build(m->disallowed_headers, c->arena, &c->disallowed, err) ||
           mz_err_at(err, "disallowed_headers");
}

static bool enabled_build(const pb_http_ext_authz_ExtAuthz *m, struct ea_cfg *c, struct mz_err *err)
{
    c->has_fraction = m->filter_enabled != NULL;
    c->enabled = fraction_build(m->filter_enabled, true, c->arena);
    if (m->deny_at_disable) {
        c->deny_at_disable = mz_bool_or(m->deny_at_disable->default_value, false);
        c->deny_key = mz_arena_dup(c->arena, mz_str_c(m->deny_at_disable->runtime_key));
    }
    if (!m->filter_enabled_metadata)
        return true;
    c->enabled_metadata = mz_metadata_match_build(m->filter_enabled_metadata, err);
    return c->enabled_metadata || mz_err_at(err, "filter_enabled_metadata");
}

static bool rules_build(const pb_http_ext_authz_ExtAuthz *m, struct ea_cfg *c, struct mz_err *err)
{
    if (!m->decoder_header_mutation_rules)
        return true;
    c->rules = &c->rules_of;
    return mutation_rules_build(m->decoder_header_mutation_rules, &c->rules_of, err) ||
           mz_err_at(err, "decoder_header_mutation_rules");
}

static void options_fill(const pb_http_ext_authz_ExtAuthz *m, const struct mz_factory *f,
                         struct ea_cfg *c)
{
    int status = m->status_on_error ? (int)m->status_on_error->code : 0;
    c->allow = m->failure_mode_allow != 0;
    c->allow_header = m->failure_mode_allow_header_add != 0;
    c->clear_route = m->clear_route_cache != 0;
    c->validate = m->validate_mutations != 0;
    c->certificate = m->include_peer_certificate != 0;
    c->tls_session = m->include_tls_session != 0;
    c->charge = mz_bool_or(m->charge_cluster_response_stats, true);
    c->take_metadata = mz_bool_or(m->enable_dynamic_metadata_ingestion, true);
    c->status_on_error = status >= 100 && status <= 511 ? (unsigned)status : 403;
    c->max_denied_body = m->max_denied_response_body_bytes;
    c->body = body_of(m->with_request_body);
    if (m->services_case == pb_http_ext_authz_ExtAuthz_SERVICES_HTTP_SERVICE)
        c->body.as_bytes = true; /* the body is the body */
    c->raw_headers = m->encode_raw_headers != 0;
    c->labels = authz_labels_of_node(f, m->bootstrap_metadata_labels_key, c->arena);
    c->namespaces =
        texts(m->metadata_context_namespaces, m->n_metadata_context_namespaces, c->arena);
    c->n_namespaces = m->n_metadata_context_namespaces;
    c->route_namespaces = texts(m->route_metadata_context_namespaces,
                                m->n_route_metadata_context_namespaces, c->arena);
    c->n_route_namespaces = m->n_route_metadata_context_namespaces;
}

static void scopes_create(const pb_http_ext_authz_ExtAuthz *m, const struct mz_factory *f,
                          struct ea_cfg *c)
{
    struct mz_str own = mz_str_c(m->stat_prefix);
    struct mz_str dot = own.n && own.p[own.n - 1] != '.' ? MZ_STR(".") : MZ_STR("");
    cluster_scopes_init(&c->clusters, f, &cluster_stats, "ext_authz", m->stat_prefix, c->arena);
    c->scope = mz_scope_create(f->stats, &filter_stats,
                               mz_arena_cat(c->arena, 5,
                                            (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix,
                                                               MZ_STR(".ext_authz."), own, dot }));
}

void *ea_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_http_ext_authz_ExtAuthz *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct ea_cfg *c = mz_arena_new0(a, struct ea_cfg);
    c->arena = a;
    scopes_create(m, f, c);
    if (service_build(m, c, err) && lists_build(m, c, err) && enabled_build(m, c, err) &&
        rules_build(m, c, err)) {
        options_fill(m, f, c);
        return c;
    }
    ea_config_destroy(c);
    return NULL;
}

/* ---- routes' ---- */

void ea_route_config_destroy(void *cfg)
{
    struct ea_route_cfg *c = cfg;
    authz_service_fini(c->service);
    mz_arena_destroy(c->arena);
}

static bool settings_build(const pb_CheckSettings *m, struct ea_route_cfg *c, struct mz_err *err)
{
    c->no_body = m->disable_request_body_buffering != 0;
    c->body = body_of(m->with_request_body);
    if (c->no_body && c->body.set)
        return mz_err_set(err, "Invalid configuration for check_settings. Only one of "
                               "disable_request_body_buffering or with_request_body can be set.");
    c->n_extensions = m->n_context_extensions;
    c->extensions = mz_arena_alloc0(c->arena, mz_mul(c->n_extensions, sizeof(*c->extensions)));
    for (size_t i = 0; i < c->n_extensions; i++)
        c->extensions[i] =
            (struct ea_extension){ mz_proto_text(mz_str_c(m->context_extensions[i]->key), c->arena),
                                   mz_proto_text(mz_str_c(m->context_extensions[i]->value),
                                                 c->arena) };
    switch (m->service_override_case) {
    case pb_CheckSettings_SERVICE_OVERRIDE_GRPC_SERVICE:
        c->service = authz_service_grpc(m->grpc_service, c->arena, err);
        return c->service || mz_err_at(err, "grpc_service");
    case pb_CheckSettings_SERVICE_OVERRIDE_HTTP_SERVICE:
        c->service = authz_service_http(m->http_service, c->arena, err);
        return c->service || mz_err_at(err, "http_service");
    default:
        return true;
    }
}

void *ea_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_ExtAuthzPerRoute *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct ea_route_cfg *c = mz_arena_new0(a, struct ea_route_cfg);
    c->arena = a;
    if (m->override_case != pb_ExtAuthzPerRoute_OVERRIDE_CHECK_SETTINGS) {
        c->disabled = m->disabled != 0;
        return c;
    }
    if (settings_build(m->check_settings, c, err))
        return c;
    (void)mz_err_at(err, "check_settings");
    ea_route_config_destroy(c);
    return NULL;
}
