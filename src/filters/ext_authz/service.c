#include "filters/ext_authz/ext_authz.h"

#include "listener/network_filter.h"

/* What the configuration says of an authorization service. */

#define GRPC_TIMEOUT_MS 200

bool authz_names_build(const pb_ListStringMatcher *m, struct mz_arena *a, struct authz_names *out,
                       struct mz_err *err)
{
    *out = (struct authz_names){ .set = m != NULL };
    if (!m)
        return true;
    out->v = mz_arena_alloc0(a, mz_mul(m->n_patterns, sizeof(*out->v)));
    for (size_t i = 0; i < m->n_patterns; i++) {
        out->v[i] = mz_string_match_build(m->patterns[i], err);
        if (!out->v[i])
            return mz_err_at(err, "patterns[%zu]", i);
        out->n++;
    }
    return true;
}

void authz_names_fini(struct authz_names *n)
{
    for (size_t i = 0; i < n->n; i++)
        mz_string_match_destroy(n->v[i]);
    n->n = 0;
}

bool authz_names_have(const struct authz_names *n, struct mz_str name)
{
    for (size_t i = 0; i < n->n_also; i++)
        if (mz_str_eq(name, n->also[i]))
            return true;
    for (size_t i = 0; i < n->n; i++)
        if (mz_string_match(n->v[i], name))
            return true;
    return false;
}

bool authz_api_version(int transport_api_version, struct mz_err *err)
{
    return transport_api_version == pb_ApiVersion_V3 ||
           mz_err_set(err, "must be V3: other versions of the protocol are no longer served") ||
           mz_err_at(err, "transport_api_version");
}

void authz_service_fini(struct authz_service *s)
{
    if (!s)
        return;
    mz_grpc_service_destroy(s->grpc);
    mz_header_mutations_fini(&s->add);
    authz_names_fini(&s->to_upstream);
    authz_names_fini(&s->to_upstream_append);
    authz_names_fini(&s->to_client);
    authz_names_fini(&s->to_client_on_success);
    authz_names_fini(&s->to_metadata);
}

struct authz_service *authz_service_grpc(const pb_GrpcService *m, struct mz_arena *a,
                                         struct mz_err *err)
{
    struct authz_service *s = mz_arena_new0(a, struct authz_service);
    s->grpc = mz_grpc_service_create(m, err);
    if (!s->grpc)
        return NULL;
    s->timeout_ms = mz_grpc_service_timeout_ms(s->grpc, GRPC_TIMEOUT_MS);
    return s;
}

/* ---- HTTP ---- */

static bool headers_to_add(struct authz_service *s, const pb_AuthorizationRequest *m,
                           struct mz_arena *a, struct mz_err *err)
{
    pb_HeaderValueOption **v = mz_arena_alloc0(a, mz_mul(m->n_headers_to_add, sizeof(*v)));
    for (size_t i = 0; i < m->n_headers_to_add; i++) {
        v[i] = mz_proto_new(a, pb_HeaderValueOption);
        v[i]->header = m->headers_to_add[i];
        v[i]->append_action = pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD;
    }
    return mz_header_mutations_build(v, m->n_headers_to_add, NULL, 0, false, &s->add, err) ||
           mz_err_at(err, "headers_to_add");
}

static bool lists_build(struct authz_service *s, const pb_AuthorizationResponse *m,
                        struct mz_arena *a, struct mz_err *err)
{
    static const struct mz_str always[] = { MZ_STR_INIT("location"),
                                            MZ_STR_INIT("www-authenticate") };
    const struct {
        const char *field;
        const pb_ListStringMatcher *list;
        struct authz_names *to;
    } rows[] = {
        { "allowed_upstream_headers", m->allowed_upstream_headers, &s->to_upstream },
        { "allowed_upstream_headers_to_append", m->allowed_upstream_headers_to_append,
          &s->to_upstream_append },
        { "allowed_client_headers", m->allowed_client_headers, &s->to_client },
        { "allowed_client_headers_on_success", m->allowed_client_headers_on_success,
          &s->to_client_on_success },
        { "dynamic_metadata_from_headers", m->dynamic_metadata_from_headers, &s->to_metadata },
    };
    for (size_t i = 0; i < MZ_COUNT(rows); i++)
        if (!authz_names_build(rows[i].list, a, rows[i].to, err))
            return mz_err_at(err, "%s", rows[i].field);
    s->to_client.also = always;
    s->to_client.n_also = MZ_COUNT(always);
    return true;
}

static bool http_fill(struct authz_service *s, const pb_ext_authz_HttpService *m,
                      struct mz_arena *a, struct mz_err *err)
{
    const pb_HttpUri *uri = m->server_uri;
    if (!uri)
        return mz_err_set(err, "is required") || mz_err_at(err, "server_uri");
    s->cluster = mz_arena_dup(a, mz_str_c(uri->cluster));
    s->path_prefix = mz_arena_dup(a, mz_str_c(m->path_prefix));
    if (!uri->uri[0]) /* Envoy wants one, and asks the cluster all the same */
        return mz_err_set(err, "must not be empty") || mz_err_at(err, "server_uri.uri");
    if (!mz_duration_ms(uri->timeout, 0, &s->timeout_ms, err))
        return mz_err_at(err, "server_uri.timeout");
    if (s->path_prefix.n && s->path_prefix.p[0] != '/')
        return mz_err_set(err, "is \"%s\"; must begin with \"/\"", m->path_prefix) ||
               mz_err_at(err, "path_prefix");
    if (m->authorization_request && !headers_to_add(s, m->authorization_request, a, err))
        return mz_err_at(err, "authorization_request");
    if (m->authorization_response && !lists_build(s, m->authorization_response, a, err))
        return mz_err_at(err, "authorization_response");
    if (m->retry_policy)
        s->retry = mz_retry_policy_core(m->retry_policy, "5xx,gateway-error,connect-failure,reset",
                                        a, err);
    return !m->retry_policy || s->retry || mz_err_at(err, "retry_policy");
}

struct authz_service *authz_service_http(const pb_ext_authz_HttpService *m, struct mz_arena *a,
                                         struct mz_err *err)
{
    struct authz_service *s = mz_arena_new0(a, struct authz_service);
    if (http_fill(s, m, a, err))
        return s;
    authz_service_fini(s);
    return NULL;
}
