#include "filters/ext_authz/ext_authz.h"

/* What a service answered, gRPC or HTTP, in one shape. Nothing of it is checked here: names and values are foreign text. */

#define HEADERS_MAX 1000 /* of one list: more are an error */

/* ---- gRPC ---- */

static struct mz_str lower(const char *text, struct mz_arena *a)
{
    struct mz_str s = mz_arena_dup(a, mz_str_c(text));
    for (size_t i = 0; i < s.n; i++)
        ((char *)(uintptr_t)s.p)[i] = mz_lower(s.p[i]);
    return s;
}

/* Of a request only the deprecated append counts (Envoy 1.40). */
static enum authz_action request_action(const pb_HeaderValueOption *m)
{
    return m->append && m->append->value ? AUTHZ_APPEND : AUTHZ_SET;
}

static enum authz_action response_action(const pb_HeaderValueOption *m, bool *invalid)
{
    static const enum authz_action actions[] = {
        [pb_HeaderValueOption_HeaderAppendAction_APPEND_IF_EXISTS_OR_ADD] = AUTHZ_ADD,
        [pb_HeaderValueOption_HeaderAppendAction_ADD_IF_ABSENT] = AUTHZ_ADD_IF_ABSENT,
        [pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD] = AUTHZ_SET,
        [pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS] = AUTHZ_SET_IF_THERE,
    };
    if (m->append)
        return m->append->value ? AUTHZ_ADD : AUTHZ_SET;
    if ((unsigned)m->append_action < MZ_COUNT(actions))
        return actions[m->append_action];
    *invalid = true;
    return AUTHZ_SET;
}

enum side { REQUEST, RESPONSE, OWN };
static struct authz_headers headers(pb_HeaderValueOption *const *v, size_t n, enum side side,
                                    struct mz_arena *a, struct authz_reply *out)
{
    struct authz_headers h = { mz_arena_alloc0(a, mz_mul(n, sizeof(*h.v))), 0 };
    for (size_t i = 0; i < n; i++) {
        if (!v[i]->header)
            continue;
        struct authz_header *to = &h.v[h.n++];
        to->name = lower(v[i]->header->key, a);
        to->value = mz_arena_dup(a, mz_str_c(v[i]->header->value));
        to->action = side == REQUEST    ? request_action(v[i])
                     : side == RESPONSE ? response_action(v[i], &out->invalid_action)
                                        : AUTHZ_ADD;
    }
    return h;
}

static struct mz_str *names(char *const *v, size_t n, bool lower_case, struct mz_arena *a)
{
    struct mz_str *out = mz_arena_alloc0(a, mz_mul(n, sizeof(*out)));
    for (size_t i = 0; i < n; i++)
        out[i] = lower_case ? lower(v[i], a) : mz_arena_dup(a, mz_str_c(v[i]));
    return out;
}

static void changes(const pb_OkHttpResponse *m, struct mz_arena *a, struct authz_reply *out)
{
    out->request = headers(m->headers, m->n_headers, REQUEST, a, out);
    out->response =
        headers(m->response_headers_to_add, m->n_response_headers_to_add, RESPONSE, a, out);
    out->remove = names(m->headers_to_remove, m->n_headers_to_remove, true, a);
    out->n_remove = m->n_headers_to_remove;
    out->query_remove =
        names(m->query_parameters_to_remove, m->n_query_parameters_to_remove, false, a);
    out->n_query_remove = m->n_query_parameters_to_remove;
    out->query.v = mz_arena_alloc0(a, mz_mul(m->n_query_parameters_to_set, sizeof(*out->query.v)));
    for (size_t i = 0; i < m->n_query_parameters_to_set; i++)
        out->query.v[out->query.n++] = (struct authz_header){
            .name = mz_arena_dup(a, mz_str_c(m->query_parameters_to_set[i]->key)),
            .value = mz_arena_dup(a, mz_str_c(m->query_parameters_to_set[i]->value))
        };
}

static void own_answer(const pb_DeniedHttpResponse *m, struct mz_arena *a, struct authz_reply *out)
{
    out->own = headers(m->headers, m->n_headers, OWN, a, out);
    out->body = mz_arena_dup(a, mz_str_c(m->body));
    if (m->status && m->status->code > 0)
        out->status = (unsigned)m->status->code;
}

static bool too_many(const pb_CheckResponse *m)
{
    const pb_OkHttpResponse *ok =
        m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_OK_RESPONSE ? m->ok_response : NULL;
    const pb_DeniedHttpResponse *no =
        m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_DENIED_RESPONSE ? m->denied_response
        : m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_ERROR_RESPONSE ? m->error_response
                                                                                 : NULL;
    return (ok &&
            (ok->n_headers > HEADERS_MAX || ok->n_response_headers_to_add > HEADERS_MAX ||
             ok->n_headers_to_remove > HEADERS_MAX || ok->n_query_parameters_to_set > HEADERS_MAX ||
             ok->n_query_parameters_to_remove > HEADERS_MAX)) ||
           (no && no->n_headers > HEADERS_MAX);
}

static const pb_Struct *metadata_of(const pb_CheckResponse *m)
{
    if (m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_OK_RESPONSE &&
        m->ok_response->dynamic_metadata)
        return m->ok_response->dynamic_metadata;
    return m->dynamic_metadata;
}

void authz_reply_grpc(const pb_CheckResponse *m, struct mz_arena *a, struct authz_reply *out)
{
    int code = m->status ? m->status->code : MZ_GRPC_OK;
    *out = (struct authz_reply){ .verdict = AUTHZ_OK };
    if (too_many(m)) {
        out->verdict = AUTHZ_ERROR;
        out->why = MZ_STR("the service's answer has too many headers");
        return;
    }
    const pb_Struct *meta = metadata_of(m);
    if (meta && meta->n_fields)
        out->metadata = mz_value_build(meta, a);
    if (code == MZ_GRPC_OK) {
        if (m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_OK_RESPONSE)
            changes(m->ok_response, a, out);
    } else if (m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_ERROR_RESPONSE) {
        out->verdict = AUTHZ_ERROR;
        out->why = mz_arena_printf(a, "the service answered with an error, status %d: %s", code,
                                   m->status->message);
        own_answer(m->error_response, a, out);
    } else {
        out->verdict = AUTHZ_DENIED;
        out->status = 403;
        if (m->http_response_case == pb_CheckResponse_HTTP_RESPONSE_DENIED_RESPONSE)
            own_answer(m->denied_response, a, out);
        out->why = mz_arena_printf(a, "the service answered %s%s%s", mz_grpc_code_name(code),
                                   m->status->message[0] ? ": " : "", m->status->message);
    }
}

/* ---- HTTP ---- */

static void put(struct authz_headers *to, const struct mz_header *e, enum authz_action action,
                struct mz_arena *a)
{
    to->v[to->n++] =
        (struct authz_header){ mz_arena_dup(a, e->name), mz_arena_dup(a, e->value), action };
}

static struct authz_headers room(size_t n, struct mz_arena *a)
{
    return (struct authz_headers){ mz_arena_alloc(a, mz_mul(n, sizeof(struct authz_header))), 0 };
}

static void to_remove(const struct mz_headers *h, struct mz_arena *a, struct authz_reply *out)
{
    struct mz_str list, name;
    if (!mz_headers_joined(h, MZ_STR("x-envoy-auth-headers-to-remove"), &list))
        return;
    size_t n = 1;
    for (size_t i = 0; i < list.n; i++)
        n += list.p[i] == ',';
    out->remove = mz_arena_alloc0(a, mz_mul(n, sizeof(*out->remove)));
    while (mz_str_split(&list, ',', &name)) {
        name = mz_str_trim(name);
        if (!name.n)
            continue;
        out->remove[out->n_remove] = mz_arena_dup(a, name);
        for (size_t i = 0; i < name.n; i++)
            ((char *)(uintptr_t)out->remove[out->n_remove].p)[i] = mz_lower(name.p[i]);
        out->n_remove++;
    }
}

static void metadata_add(struct mz_value *meta, const struct mz_header *e, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRING;
    v->str = mz_arena_dup(a, e->value);
    for (size_t i = 0; i < meta->fields.n; i++)
        if (mz_str_eq(meta->fields.v[i].key, e->name)) {
            meta->fields.v[i].value = v;
            return;
        }
    meta->fields.v[meta->fields.n++] = (struct mz_field){ mz_arena_dup(a, e->name), v };
}

/* With no list of its own a denial hands on everything. */
static bool to_client(const struct authz_service *s, const struct mz_header *e)
{
    return s->to_client.n ? authz_names_have(&s->to_client, e->name) : e->id != MZ_H_HOST;
}

static void sort_out(const struct authz_service *s, const struct mz_header *e,
                     struct mz_value *meta, struct mz_arena *a, struct authz_reply *out)
{
    if (authz_names_have(&s->to_metadata, e->name))
        metadata_add(meta, e, a);
    if (out->verdict == AUTHZ_DENIED) {
        if (to_client(s, e))
            put(&out->own, e, AUTHZ_ADD, a);
        return;
    }
    if (authz_names_have(&s->to_upstream, e->name))
        put(&out->request, e, AUTHZ_SET, a);
    if (authz_names_have(&s->to_upstream_append, e->name))
        put(&out->request, e, AUTHZ_ADD, a);
    if (authz_names_have(&s->to_client_on_success, e->name))
        put(&out->response, e, AUTHZ_ADD, a);
}

void authz_reply_http(const struct authz_service *s, const struct mz_headers *h, struct mz_str body,
                      struct mz_arena *a, struct authz_reply *out)
{
    unsigned status = mz_headers_status(h);
    *out = (struct authz_reply){ .verdict = status == 200 ? AUTHZ_OK : AUTHZ_DENIED };
    if (status >= 500) {
        out->verdict = AUTHZ_ERROR;
        out->why = mz_arena_printf(a, "the service answered HTTP status %u", status);
        return;
    }
    struct mz_value *meta = mz_arena_new0(a, struct mz_value);
    meta->kind = MZ_VALUE_STRUCT;
    meta->fields.v = mz_arena_alloc(a, mz_mul(h->live, sizeof(*meta->fields.v)));
    out->request = room(2 * (size_t)h->live, a);
    out->response = room(h->live, a);
    out->own = room(h->live, a);
    if (out->verdict == AUTHZ_OK) {
        to_remove(h, a, out);
    } else {
        out->status = status;
        out->body = mz_arena_dup(a, body);
        out->why = mz_arena_printf(a, "the service answered HTTP status %u", status);
    }
    mz_headers_foreach(e, h) if (e->name.p[0] != ':' &&
                                 !mz_str_eq(e->name, MZ_STR("x-envoy-auth-headers-to-remove")))
        sort_out(s, e, meta, a, out);
    out->metadata = meta->fields.n ? meta : NULL;
}
