/* Providers of external authorization: what the MeshConfig says of them, as the filters' settings. */
#include "control/translate/authz.h"
#include "control/translate/matchers.h"
#include "control/translate/providers.h"

typedef ist_MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationHttpProvider http_provider;
typedef ist_MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider grpc_provider;
typedef ist_MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationRequestBody request_body;

static pb_Duration *timeout(struct mz_arena *a, const pb_Duration *given)
{
    pb_Duration *d = TR_NEW(a, Duration);
    d->seconds = given ? given->seconds : 600;
    d->nanos = given ? given->nanos : 0;
    return d;
}

static bool status_of(struct mz_arena *a, const char *text, pb_HttpStatus **out, struct mz_err *err)
{
    uint64_t code;
    *out = NULL;
    if (!text[0])
        return true;
    if (!mz_str_u64(mz_str_c(text), &code) || code > UINT16_MAX ||
        !protobuf_c_enum_descriptor_get_value(&pb_StatusCode__descriptor, (int)code)) {
        (void)mz_err_set(err, "\"%.60s\" is no status that Envoy knows", text);
        return mz_err_at(err, "status_on_error");
    }
    *out = TR_NEW(a, HttpStatus);
    (*out)->code = (pb_StatusCode)code;
    return true;
}

static pb_BufferSettings *body(struct mz_arena *a, const request_body *b)
{
    pb_BufferSettings *m = b ? TR_NEW(a, BufferSettings) : NULL;
    if (b) {
        m->max_request_bytes = b->max_request_bytes;
        m->allow_partial_message = b->allow_partial_message;
        m->pack_as_bytes = b->pack_as_bytes;
    }
    return m;
}

/* ---- HTTP ---- */

static bool no_star(const char *field, char *const *v, size_t n, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i], "*") == 0) {
            (void)mz_err_set(err, "a single \"*\" is not supported: say a prefix or a suffix");
            return mz_err_at(err, "%s", field);
        }
    return true;
}
#define NO_STAR(p, field, err) no_star(#field, (p)->field, (p)->n_##field, (err))

static bool http_ok(const http_provider *p, struct mz_err *err)
{
    if (p->path_prefix[0] && p->path_prefix[0] != '/') {
        (void)mz_err_set(err, "must begin with /, is \"%.100s\"", p->path_prefix);
        return mz_err_at(err, "path_prefix");
    }
    return NO_STAR(p, include_request_headers_in_check, err) &&
           NO_STAR(p, include_headers_in_check, err) &&
           NO_STAR(p, headers_to_downstream_on_deny, err) &&
           NO_STAR(p, headers_to_downstream_on_allow, err) &&
           NO_STAR(p, headers_to_upstream_on_allow, err);
}

static pb_HttpUri *server_uri(struct mz_arena *a, const http_provider *p,
                              const struct tr_provider_cluster *to)
{
    pb_HttpUri *u = TR_NEW(a, HttpUri);
    u->uri = TR_PRINTF(a, "http://%s", to->host); /* required, and looked at by nobody */
    u->timeout = timeout(a, p->timeout);
    u->http_upstream_type_case = pb_HttpUri_HTTP_UPSTREAM_TYPE_CLUSTER;
    u->cluster = to->cluster;
    return u;
}

static pb_AuthorizationRequest *additions(struct mz_arena *a, const http_provider *p)
{
    pb_AuthorizationRequest *m = NULL;
    for (size_t i = 0; i < p->n_include_additional_headers_in_check; i++) {
        pb_HeaderValue *h = TR_NEW(a, HeaderValue);
        h->key = p->include_additional_headers_in_check[i]->key;
        h->value = p->include_additional_headers_in_check[i]->value;
        m = m ? m : TR_NEW(a, AuthorizationRequest);
        TR_ADD(a, m, headers_to_add) = h;
    }
    return m;
}

static pb_AuthorizationResponse *of_answers(struct mz_arena *a, const http_provider *p)
{
    if (!p->n_headers_to_upstream_on_allow && !p->n_headers_to_downstream_on_deny &&
        !p->n_headers_to_downstream_on_allow)
        return NULL;
    pb_AuthorizationResponse *m = TR_NEW(a, AuthorizationResponse);
    m->allowed_upstream_headers =
        tr_match_names(a, p->headers_to_upstream_on_allow, p->n_headers_to_upstream_on_allow);
    m->allowed_client_headers =
        tr_match_names(a, p->headers_to_downstream_on_deny, p->n_headers_to_downstream_on_deny);
    m->allowed_client_headers_on_success =
        tr_match_names(a, p->headers_to_downstream_on_allow, p->n_headers_to_downstream_on_allow);
    return m;
}

static bool build_http(struct mz_view *v, const http_provider *p, struct tr_ext_authz *out,
                       struct mz_err *err)
{
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    pb_http_ext_authz_ExtAuthz *m = TR_NEW(a, http_ext_authz_ExtAuthz);
    pb_ext_authz_HttpService *s = TR_NEW(a, ext_authz_HttpService);
    if (!tr_provider_cluster(v, a, p->service, p->port, &to, err) ||
        !status_of(a, p->status_on_error, &m->status_on_error, err) || !http_ok(p, err))
        return false;
    s->server_uri = server_uri(a, p, &to);
    s->path_prefix = p->path_prefix;
    s->authorization_request = additions(a, p);
    s->authorization_response = of_answers(a, p);
    m->services_case = pb_http_ext_authz_ExtAuthz_SERVICES_HTTP_SERVICE;
    m->http_service = s;
    m->failure_mode_allow = p->fail_open;
    m->transport_api_version = pb_ApiVersion_V3;
    m->with_request_body = body(a, p->include_request_body_in_check);
    m->allowed_headers = p->n_include_request_headers_in_check
                             ? tr_match_names(a, p->include_request_headers_in_check,
                                              p->n_include_request_headers_in_check)
                             : tr_match_names(a, p->include_headers_in_check,
                                              p->n_include_headers_in_check); /* its older name */
    *out = (struct tr_ext_authz){ .http = m };
    return true;
}

/* ---- gRPC ---- */

static bool build_grpc(struct mz_view *v, const grpc_provider *p, struct tr_ext_authz *out,
                       struct mz_err *err)
{
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    pb_http_ext_authz_ExtAuthz *m = TR_NEW(a, http_ext_authz_ExtAuthz);
    pb_network_ext_authz_ExtAuthz *t = TR_NEW(a, network_ext_authz_ExtAuthz);
    if (!tr_provider_cluster(v, a, p->service, p->port, &to, err) ||
        !status_of(a, p->status_on_error, &m->status_on_error, err))
        return false;
    pb_GrpcService *g = tr_provider_grpc(a, &to);
    g->timeout = timeout(a, p->timeout);
    m->services_case = pb_http_ext_authz_ExtAuthz_SERVICES_GRPC_SERVICE;
    m->grpc_service = g;
    m->failure_mode_allow = p->fail_open;
    m->transport_api_version = pb_ApiVersion_V3;
    m->with_request_body = body(a, p->include_request_body_in_check);
    t->stat_prefix = TR_CONST("tcp.");
    t->failure_mode_allow = p->fail_open;
    t->transport_api_version = pb_ApiVersion_V3;
    t->grpc_service = g;
    *out = (struct tr_ext_authz){ .http = m, .tcp = t };
    return true;
}

/* Names become parts of metadata and of policies' names. */
static bool name_ok(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
              s.p[i] == '-'))
            return false;
    return s.n && s.n <= 63 && s.p[0] != '-' && s.p[s.n - 1] != '-';
}

/* The filter in front found a rule of this provider. */
static pb_MetadataMatcher *asks_for(struct mz_arena *a, const char *filter, struct mz_str provider)
{
    static const char *const at[] = { "istio_ext_authz_shadow_effective_policy_id" };
    struct mz_str prefix = mz_arena_printf(a, "istio-ext-authz-%.*s", MZ_STR_ARG(provider));
    return tr_match_metadata(a, filter, at, 1, tr_value_string(a, tr_match_prefix(a, prefix)));
}

static bool build(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p,
                  struct tr_ext_authz *out, struct mz_err *why)
{
    if (p->provider_case == ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_EXT_AUTHZ_HTTP)
        return build_http(v, p->envoy_ext_authz_http, out, why);
    if (p->provider_case == ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_EXT_AUTHZ_GRPC)
        return build_grpc(v, p->envoy_ext_authz_grpc, out, why);
    return mz_err_set(why, "it is no provider of external authorization");
}

bool tr_ext_authz(struct mz_view *v, struct mz_str provider, struct tr_ext_authz *out,
                  struct mz_err *why)
{
    const ist_MeshConfig_ExtensionProvider *p = tr_provider(v->model, provider);
    if (!p)
        return mz_err_set(why, "the MeshConfig has no such extension provider");
    if (!name_ok(provider))
        return mz_err_set(why, "the provider's name is no DNS label");
    if (!build(v, p, out, why))
        return false;
    pb_network_ext_authz_ExtAuthz *tcp = out->tcp;
    out->http->filter_enabled_metadata = asks_for(v->arena, "envoy.filters.http.rbac", provider);
    if (tcp)
        tcp->filter_enabled_metadata = asks_for(v->arena, "envoy.filters.network.rbac", provider);
    return true;
}
