#include "filters/http/ext_authz.h"

#include "filters/http/fraction.h"
#include "listener/network_filter.h"

/*
 * ext_authz (H9): a service decides on each request. The stream waits; when it goes, the question is cancelled, so an answer
 * that comes after it finds nobody (F11).
 */

enum phase { PASSES, BUFFERING, ASKING, DONE };
struct state {
    struct mz_filter base;
    enum phase phase;
    struct ea_body body;
    struct authz_call *call;
    struct mz_cluster *cluster;    /* of the route when it was asked; reference */
    struct authz_headers response; /* to be put into the answer */
    uint64_t start_us;
};

static const struct ea_cfg *cfg_of(const struct state *st)
{
    return st->base.cfg;
}

static struct state *from_filter(struct mz_filter *f)
{
    return (struct state *)(void *)f;
}

static const struct authz_service *service_of(const struct state *st)
{
    const struct ea_route_cfg *route = st->base.route_cfg;
    return route && route->service ? route->service : cfg_of(st)->service;
}

/* ---- the question ---- */

static bool sent_to_service(const struct ea_cfg *c, const struct mz_header *e)
{
    if (mz_str_eq(e->name, MZ_STR("x-envoy-auth-partial-body"))) /* ours alone */
        return false;
    return !authz_names_have(&c->disallowed, e->name) &&
           (!c->only_allowed || authz_names_have(&c->allowed, e->name));
}

static pb_AttributeContext_HttpRequest_HeadersEntry *entry(struct mz_str name, char *value,
                                                           struct mz_arena *a)
{
    pb_AttributeContext_HttpRequest_HeadersEntry *e =
        mz_proto_new(a, pb_AttributeContext_HttpRequest_HeadersEntry);
    e->key = mz_proto_text(name, a);
    e->value = value;
    return e;
}

static bool merged(pb_AttributeContext_HttpRequest *m, const struct mz_header *e,
                   struct mz_arena *a)
{
    for (size_t i = 0; i < m->n_headers; i++)
        if (mz_str_eq(mz_str_c(m->headers[i]->key), e->name)) {
            struct mz_str parts[] = { mz_str_c(m->headers[i]->value), MZ_STR(","),
                                      mz_str_c(mz_proto_text(e->value, a)) };
            m->headers[i]->value = (char *)(uintptr_t)mz_arena_cat(a, 3, parts).p;
            return true;
        }
    return false;
}

static void fill_headers(const struct ea_cfg *c, const struct mz_headers *h,
                         pb_AttributeContext_HttpRequest *m, struct mz_arena *a)
{
    m->headers = mz_arena_alloc0(a, mz_mul((size_t)h->live + 1, sizeof(*m->headers)));
    mz_headers_foreach(e, h) if (sent_to_service(c, e) && !merged(m, e, a))
        m->headers[m->n_headers++] = entry(e->name, mz_proto_text(e->value, a), a);
}

static pb_HeaderValue *raw_header(struct mz_str name, struct mz_str value, struct mz_arena *a)
{
    pb_HeaderValue *v = mz_proto_new(a, pb_HeaderValue);
    v->key = mz_proto_text(name, a);
    v->raw_value = (ProtobufCBinaryData){ value.n, (uint8_t *)(uintptr_t)value.p };
    return v;
}

static void fill_raw_headers(const struct ea_cfg *c, const struct mz_headers *h,
                             pb_AttributeContext_HttpRequest *m, struct mz_arena *a)
{
    m->header_map = mz_proto_new(a, pb_HeaderMap);
    m->header_map->headers =
        mz_arena_alloc0(a, mz_mul((size_t)h->live + 1, sizeof(*m->header_map->headers)));
    mz_headers_foreach(e, h) if (sent_to_service(c, e))
        m->header_map->headers[m->header_map->n_headers++] = raw_header(e->name, e->value, a);
}

static void fill_body(const struct state *st, struct mz_buf *kept,
                      pb_AttributeContext_HttpRequest *m, struct mz_arena *a)
{
    static char yes[] = "true", no[] = "false";
    if (!st->body.max_bytes || !kept)
        return;
    size_t len = mz_buf_len(kept), n = len < st->body.max_bytes ? len : st->body.max_bytes;
    char *p = mz_arena_alloc(a, n + 1);
    (void)mz_buf_copyout(kept, 0, p, n);
    if (st->body.as_bytes)
        m->raw_body = (ProtobufCBinaryData){ n, (uint8_t *)p };
    else
        m->body = mz_proto_text((struct mz_str){ p, n }, a);
    const struct mz_str name = MZ_STR("x-envoy-auth-partial-body");
    if (m->header_map)
        m->header_map->headers[m->header_map->n_headers++] =
            raw_header(name, mz_str_c(n < len ? yes : no), a);
    else
        m->headers[m->n_headers++] = entry(name, n < len ? yes : no, a);
}

static char *field(const struct mz_headers *h, enum mz_header_id id, struct mz_arena *a)
{
    return mz_proto_text(mz_headers_value_id(h, id), a);
}

static pb_AttributeContext_Request *request_of(struct state *st, struct mz_arena *a)
{
    struct mz_stream *s = st->base.stream;
    const struct mz_headers *h = mz_stream_request_headers(s);
    const struct mz_stream_info *info = mz_stream_info(s);
    pb_AttributeContext_Request *m = mz_proto_new(a, pb_AttributeContext_Request);
    pb_AttributeContext_HttpRequest *http = mz_proto_new(a, pb_AttributeContext_HttpRequest);
    m->time = mz_proto_timestamp(info->start_wall_us, a);
    m->http = http;
    http->id = (char *)(uintptr_t)mz_arena_printf(a, "%llu", (unsigned long long)mz_stream_id(s)).p;
    http->method = field(h, MZ_H_METHOD, a);
    http->path = field(h, MZ_H_PATH, a);
    http->host = field(h, MZ_H_AUTHORITY, a);
    http->scheme = field(h, MZ_H_SCHEME, a);
    http->size = (int64_t)info->rx_body;
    http->protocol = mz_proto_text(mz_str_c(mz_http_protocol_name(info->protocol)), a);
    if (cfg_of(st)->raw_headers && service_of(st)->grpc)
        fill_raw_headers(cfg_of(st), h, http, a);
    else
        fill_headers(cfg_of(st), h, http, a);
    fill_body(st, mz_filter_request_buffer(&st->base), http, a);
    return m;
}

/* Of all levels; the more specific one wins. */
static void extensions_of(const struct mz_filter *f, pb_AttributeContext *m, struct mz_arena *a)
{
    const void *cfgs[4];
    size_t room = 0;
    unsigned n = mz_filter_route_configs(f, cfgs);
    for (unsigned i = 0; i < n; i++)
        room += ((const struct ea_route_cfg *)cfgs[i])->n_extensions;
    m->context_extensions = mz_arena_alloc0(a, mz_mul(room, sizeof(*m->context_extensions)));
    for (unsigned i = 0; i < n; i++) {
        const struct ea_route_cfg *r = cfgs[i];
        for (size_t k = 0; k < r->n_extensions; k++) {
            size_t at = 0;
            while (at < m->n_context_extensions &&
                   strcmp(m->context_extensions[at]->key, r->extensions[k].key) != 0)
                at++;
            if (at == m->n_context_extensions) {
                m->context_extensions[at] =
                    mz_proto_new(a, pb_AttributeContext_ContextExtensionsEntry);
                m->n_context_extensions++;
            }
            m->context_extensions[at]->key = r->extensions[k].key;
            m->context_extensions[at]->value = r->extensions[k].value;
        }
    }
}

static pb_CheckRequest *question(struct state *st, struct mz_arena *a)
{
    const struct ea_cfg *c = cfg_of(st);
    struct mz_stream *s = st->base.stream;
    const struct mz_stream_info *info = mz_stream_info(s);
    const struct mz_headers *h = mz_stream_request_headers(s);
    const struct authz_peers peers = {
        .down = mz_stream_downstream(s),
        .certificate = c->certificate,
        .tls_session = c->tls_session,
        .service = mz_headers_value_id(h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER),
        .labels = &c->labels,
    };
    const struct mz_meta *dynamic[] = { info->dynamic_metadata },
                         *route[] = { info->route_metadata };
    pb_CheckRequest *m = mz_proto_new(a, pb_CheckRequest);
    m->attributes = authz_attributes(&peers, a);
    m->attributes->request = request_of(st, a);
    m->attributes->metadata_context =
        mz_proto_metadata_of(c->namespaces, c->n_namespaces, dynamic, 1, a);
    m->attributes->route_metadata_context =
        mz_proto_metadata_of(c->route_namespaces, c->n_route_namespaces, route, 1, a);
    extensions_of(&st->base, m->attributes, a);
    return m;
}

static void on_done(void *arg, const struct authz_reply *r);

static void ask(struct state *st)
{
    struct mz_stream *s = st->base.stream;
    struct mz_str name;
    const struct mz_weighted_cluster *weighted;
    struct mz_wcluster *w = mz_stream_cluster(s, &name, &weighted);
    const struct mz_format_ctx format = { .info = mz_stream_info(s),
                                          .req = mz_stream_request_headers(s) };
    const struct authz_ask a = { .request = question(st, mz_stream_arena(s)),
                                 .upstream = mz_stream_worker(s)->upstream,
                                 .arena = mz_stream_arena(s),
                                 .format = &format };
    st->cluster = w ? mz_cluster_ref(mz_wcluster_info(w)) : NULL;
    st->start_us = mz_loop_now_us(mz_stream_worker(s)->loop);
    st->phase = ASKING;
    st->call = authz_call(service_of(st), &a, on_done, st);
}

/* ---- the answer ---- */

static void count(struct state *st, enum ext_authz_stat s, int cluster_stat)
{
    mz_count(cfg_of(st)->scope, s, 1);
    if (cluster_stat >= 0)
        cluster_scopes_count(&cfg_of(st)->clusters, st->cluster, (unsigned)cluster_stat);
}

static void take_metadata(struct state *st, const struct authz_reply *r)
{
    static const struct mz_str ns = MZ_STR_INIT("envoy.filters.http.ext_authz");
    struct mz_stream_info *info = mz_stream_info(st->base.stream);
    if (!r->metadata)
        return;
    if (!cfg_of(st)->take_metadata) {
        mz_count(cfg_of(st)->scope, EA_IGNORED_METADATA, 1);
        return;
    }
    if (!info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    for (size_t i = 0; i < r->metadata->fields.n; i++)
        mz_meta_set(info->dynamic_metadata, ns, r->metadata->fields.v[i].key,
                    r->metadata->fields.v[i].value);
    if (r->verdict != AUTHZ_OK)
        return;
    struct mz_value *ms = mz_arena_new0(info->arena, struct mz_value);
    ms->kind = MZ_VALUE_NUMBER;
    ms->number =
        (double)((mz_loop_now_us(mz_stream_worker(st->base.stream)->loop) - st->start_us) / 1000);
    mz_meta_set(info->dynamic_metadata, ns, MZ_STR("ext_authz_duration"), ms);
}

static void own_headers(struct mz_headers *h, void *arg)
{
    ea_apply_own(arg, h);
}

static void refuse(struct state *st, unsigned status, struct mz_str body, const char *details,
                   struct mz_str why, const struct authz_headers *headers)
{
    const struct mz_local_reply r = { .status = status,
                                      .body = body,
                                      .details = details,
                                      .flags = MZ_FLAG(UNAUTHORIZED_EXTERNAL_SERVICE),
                                      .modify = headers ? own_headers : NULL,
                                      .modify_arg = (void *)(uintptr_t)headers };
    st->phase = DONE;
    mz_stream_story(st->base.stream, MZ_STEP_FILTER, st->base.name, why, 0, 0);
    mz_stream_local_reply(st->base.stream, &r);
}

/* What cannot be sent is not: with validate_mutations as Envoy's 500, else as its router refuses the request. */
static void reject(struct state *st, struct mz_str name)
{
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    count(st, EA_INVALID, EAC_INVALID);
    bool validate = cfg_of(st)->validate;
    struct mz_str text = mz_arena_printf(a, "invalid header value for: " MZ_STR_FMT,
                                         MZ_STR_ARG(name.n < 256 ? name : MZ_STR("")));
    refuse(st, validate ? 500 : 503, validate ? MZ_STR("") : text, "ext_authz_invalid",
           MZ_STR("the service's answer changes headers in a way that cannot be sent"), NULL);
}

static void forbid(struct state *st, struct mz_str name)
{
    count(st, EA_INVALID, EAC_INVALID);
    refuse(st, 500, MZ_STR(""), "ext_authz_invalid",
           mz_arena_printf(mz_stream_arena(st->base.stream),
                           "the service's answer changes '" MZ_STR_FMT
                           "', which decoder_header_mutation_rules forbid",
                           MZ_STR_ARG(name.n < 256 ? name : MZ_STR(""))),
           NULL);
}

static void too_large(struct state *st)
{
    mz_count(cfg_of(st)->scope, EA_REQUEST_LIMITS, 1);
    count(st, EA_INVALID, EAC_INVALID);
    refuse(st, 500, MZ_STR(""), "ext_authz_invalid",
           MZ_STR("the service's answer makes the request's head too large"), NULL);
}

static void go_on(struct state *st)
{
    st->phase = DONE;
    mz_filter_continue_request(&st->base);
}

static void allowed(struct state *st, const struct authz_reply *r)
{
    struct mz_str name = { NULL, 0 };
    struct mz_headers *h = mz_stream_request_headers(st->base.stream);
    bool changes = r->request.n || r->n_remove || r->query.n || r->n_query_remove;
    enum ea_applied applied = ea_apply_request(r, cfg_of(st)->rules, h, &name);
    if (applied == EA_BAD_HEADER || (cfg_of(st)->validate && !ea_valid(&r->response, &name))) {
        reject(st, name);
        return;
    }
    if (applied == EA_FORBIDDEN) {
        forbid(st, name);
        return;
    }
    if (applied == EA_TOO_LARGE) {
        too_large(st);
        return;
    }
    if (cfg_of(st)->clear_route && changes)
        mz_stream_clear_route_cache(st->base.stream);
    st->response = r->response;
    count(st, EA_OK, EAC_OK);
    go_on(st);
}

static void denied(struct state *st, const struct authz_reply *r)
{
    struct mz_str name = { NULL, 0 }, body = r->body;
    uint32_t most = cfg_of(st)->max_denied_body;
    unsigned status = r->status >= 200 && r->status < 600 ? r->status : 403;
    count(st, EA_DENIED, EAC_DENIED);
    if (cfg_of(st)->charge)
        cluster_charge_answer(st->cluster, status);
    if (cfg_of(st)->validate && !ea_valid(&r->own, &name)) {
        reject(st, name);
        return;
    }
    if (most && body.n > most)
        body.n = most;
    refuse(st, status, body, "ext_authz_denied", r->why, &r->own);
}

static void failed(struct state *st, const struct authz_reply *r)
{
    const struct ea_cfg *c = cfg_of(st);
    count(st, EA_ERROR, EAC_ERROR);
    if (c->allow) {
        count(st, EA_FAILURE_MODE_ALLOWED, EAC_FAILURE_MODE_ALLOWED);
        if (c->allow_header)
            mz_headers_add(mz_stream_request_headers(st->base.stream),
                           MZ_STR("x-envoy-auth-failure-mode-allowed"), MZ_STR("true"));
        mz_stream_story(st->base.stream, MZ_STEP_RULE, st->base.name, MZ_STR("failure_mode_allow"),
                        0, 0);
        go_on(st);
        return;
    }
    unsigned status = r->status >= 200 && r->status < 600 ? r->status : c->status_on_error;
    refuse(st, status, r->body, "ext_authz_error", r->why, &r->own);
}

static void on_done(void *arg, const struct authz_reply *r)
{
    struct state *st = arg;
    st->call = NULL;
    if (r->invalid_action && cfg_of(st)->validate) {
        reject(st, MZ_STR("append_action"));
        return;
    }
    take_metadata(st, r);
    if (r->verdict == AUTHZ_OK)
        allowed(st, r);
    else if (r->verdict == AUTHZ_DENIED)
        denied(st, r);
    else
        failed(st, r);
}

/* ---- the filter ---- */

static bool is_on(struct state *st)
{
    const struct ea_cfg *c = cfg_of(st);
    return (!c->has_fraction || fraction_holds(&c->enabled, &st->base)) &&
           (!c->enabled_metadata ||
            mz_metadata_match(c->enabled_metadata,
                              mz_stream_info(st->base.stream)->dynamic_metadata));
}

static enum mz_flow off(struct state *st)
{
    const struct ea_cfg *c = cfg_of(st);
    mz_count(c->scope, EA_DISABLED, 1);
    bool deny = c->deny_key.n ? mz_runtime_bool(mz_runtime_here(), c->deny_key, c->deny_at_disable)
                              : c->deny_at_disable;
    if (!deny)
        return MZ_FLOW_CONTINUE;
    refuse(st, c->status_on_error, MZ_STR(""), "ext_authz_error",
           MZ_STR("deny_at_disable: the filter is not enabled for this request"), NULL);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = from_filter(f);
    const struct ea_route_cfg *route = f->route_cfg;
    if (!mz_stream_route(f->stream) || (route && route->disabled))
        return MZ_FLOW_CONTINUE;
    if (!is_on(st))
        return off(st);
    st->body = route && route->body.set ? route->body : cfg_of(st)->body;
    st->body.as_bytes = cfg_of(st)->body.as_bytes;
    bool buffer =
        st->body.set && !(route && route->no_body) && !end && !mz_headers_get_id(h, MZ_H_UPGRADE);
    if (!buffer) {
        ask(st);
        return MZ_FLOW_STOP_AND_WATERMARK;
    }
    st->phase = BUFFERING;
    if (!st->body.partial)
        mz_stream_set_buffer_limit(f->stream, st->body.max_bytes);
    return MZ_FLOW_STOP;
}

static size_t have(struct state *st, size_t more)
{
    const struct mz_buf *kept = mz_filter_request_buffer(&st->base);
    return (kept ? mz_buf_len(kept) : 0) + more;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = from_filter(f);
    if (st->phase == ASKING)
        return MZ_FLOW_STOP_AND_WATERMARK;
    if (st->phase != BUFFERING)
        return MZ_FLOW_CONTINUE;
    size_t n = have(st, mz_buf_len(data));
    bool over =
        !st->body.partial && n > st->body.max_bytes; /* the manager refuses it as it keeps it */
    bool full = st->body.partial && n >= st->body.max_bytes;
    if (over || (!end && !full))
        return MZ_FLOW_STOP_AND_BUFFER;
    mz_filter_add_request_data(f, data, true);
    ask(st);
    return MZ_FLOW_STOP_AND_WATERMARK;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = from_filter(f);
    if (st->phase == BUFFERING)
        ask(st);
    return st->phase == ASKING ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    ea_apply_response(&from_filter(f)->response, h);
    return MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = from_filter(f);
    authz_cancel(st->call);
    st->call = NULL;
    if (st->cluster)
        mz_cluster_unref(st->cluster);
    st->cluster = NULL;
}

const struct mz_http_filter_type mz_filter_ext_authz = {
    .name = "envoy.filters.http.ext_authz",
    .config_type = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    .route_config_type = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
    .size = sizeof(struct state),
    .config_build = ea_config_build,
    .config_destroy = ea_config_destroy,
    .route_config_build = ea_route_config_build,
    .route_config_destroy = ea_route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_destroy = on_destroy,
};
