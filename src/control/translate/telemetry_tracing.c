/* Spans: by which provider, how many, with which tags. */
#include <stdlib.h>

#include "control/translate/providers.h"
#include "control/translate/telemetry.h"
#include "control/translate/tell.h"

struct spec {             /* of one class of listener */
    const char *provider; /* NULL: none */
    bool off;
    bool no_tags; /* without Istio's */
    bool alone;   /* peers are told no context */
    bool random;  /* sampled without looking at the request's id */
    const pb_DoubleValue *sampling;
    const ist_telemetry_Tracing *tags; /* whose customTags; NULL: nobody's */
};

/* ---- tags ---- */

static pb_CustomTag *add_tag(struct mz_arena *a, pb_HttpConnectionManager_Tracing *t,
                             const char *name)
{
    pb_CustomTag *c = TR_NEW(a, CustomTag);
    c->tag = TR_CONST(name);
    TR_ADD(a, t, custom_tags) = c;
    return c;
}

static void literal(struct mz_arena *a, pb_CustomTag *c, const char *value)
{
    c->type_case = pb_CustomTag_TYPE_LITERAL;
    c->literal = TR_NEW(a, CustomTag_Literal);
    c->literal->value = TR_CONST(value);
}

static void environment(struct mz_arena *a, pb_CustomTag *c, const char *name,
                        const char *otherwise)
{
    c->type_case = pb_CustomTag_TYPE_ENVIRONMENT;
    c->environment = TR_NEW(a, CustomTag_Environment);
    c->environment->name = TR_CONST(name);
    c->environment->default_value = TR_CONST(otherwise);
}

static void header(struct mz_arena *a, pb_CustomTag *c, const char *name, const char *otherwise)
{
    c->type_case = pb_CustomTag_TYPE_REQUEST_HEADER;
    c->request_header = TR_NEW(a, CustomTag_Header);
    c->request_header->name = TR_CONST(name);
    c->request_header->default_value = TR_CONST(otherwise);
}

/* What policies in dry run would have done. */
static void dry_run(struct mz_arena *a, pb_CustomTag *c, const char *key)
{
    pb_MetadataKey_PathSegment *s = TR_NEW(a, MetadataKey_PathSegment);
    s->segment_case = pb_MetadataKey_PathSegment_SEGMENT_KEY;
    s->key = TR_CONST(key);
    c->type_case = pb_CustomTag_TYPE_METADATA;
    c->metadata = TR_NEW(a, CustomTag_Metadata);
    c->metadata->kind = TR_NEW(a, MetadataKind);
    c->metadata->kind->kind_case = pb_MetadataKind_KIND_REQUEST;
    c->metadata->kind->request = TR_NEW(a, MetadataKind_Request);
    c->metadata->metadata_key = TR_NEW(a, MetadataKey);
    c->metadata->metadata_key->key = TR_CONST("envoy.filters.http.rbac");
    TR_ADD(a, c->metadata->metadata_key, path) = s;
}

static void istio_tags(struct mz_view *v, pb_HttpConnectionManager_Tracing *t)
{
    static const char *const runs[][2] = {
        { "istio.authorization.dry_run.allow_policy.name",
          "istio_dry_run_allow_shadow_effective_policy_id" },
        { "istio.authorization.dry_run.allow_policy.result",
          "istio_dry_run_allow_shadow_engine_result" },
        { "istio.authorization.dry_run.deny_policy.name",
          "istio_dry_run_deny_shadow_effective_policy_id" },
        { "istio.authorization.dry_run.deny_policy.result",
          "istio_dry_run_deny_shadow_engine_result" },
    };
    const struct mz_proxy *p = v->proxy;
    const struct {
        const char *tag;
        struct mz_str value;
    } own[] = { { "istio.canonical_revision", p->revision },
                { "istio.canonical_service", p->canonical },
                { "istio.cluster_id", p->cluster_id },
                { "istio.mesh_id", p->mesh_id },
                { "istio.namespace", p->ns } };
    for (size_t i = 0; i < MZ_COUNT(runs); i++)
        dry_run(v->arena, add_tag(v->arena, t, runs[i][0]), runs[i][1]);
    for (size_t i = 0; i < MZ_COUNT(own); i++)
        literal(v->arena, add_tag(v->arena, t, own[i].tag),
                own[i].value.n ? tr_text(v->arena, own[i].value) : "unknown");
}

static void document_tags(struct mz_view *v, const ist_telemetry_Tracing *m,
                          pb_HttpConnectionManager_Tracing *t)
{
    struct mz_arena *a = v->arena;
    for (size_t i = 0; i < m->n_custom_tags; i++) {
        const ist_telemetry_Tracing_CustomTag *c = m->custom_tags[i]->value;
        if (c->type_case == ist_telemetry_Tracing_CustomTag_TYPE_FORMATTER && v->proxy->release &&
            v->proxy->release < 129)
            continue; /* it would be refused */
        pb_CustomTag *to = add_tag(a, t, m->custom_tags[i]->key);
        if (c->type_case == ist_telemetry_Tracing_CustomTag_TYPE_LITERAL) {
            literal(a, to, c->literal->value);
        } else if (c->type_case == ist_telemetry_Tracing_CustomTag_TYPE_ENVIRONMENT) {
            environment(a, to, c->environment->name, c->environment->default_value);
        } else if (c->type_case == ist_telemetry_Tracing_CustomTag_TYPE_HEADER) {
            header(a, to, c->header->name, c->header->default_value);
        } else if (c->type_case == ist_telemetry_Tracing_CustomTag_TYPE_FORMATTER) {
            to->type_case = pb_CustomTag_TYPE_VALUE;
            to->value = c->formatter->value;
        }
    }
}

static void proxy_tags(struct mz_view *v, const ist_mesh_Tracing *m,
                       pb_HttpConnectionManager_Tracing *t)
{
    struct mz_arena *a = v->arena;
    for (size_t i = 0; m && i < m->n_custom_tags; i++) {
        const ist_mesh_Tracing_CustomTag *c = m->custom_tags[i]->value;
        if (c->type_case == ist_mesh_Tracing_CustomTag_TYPE_LITERAL)
            literal(a, add_tag(a, t, m->custom_tags[i]->key), c->literal->value);
        else if (c->type_case == ist_mesh_Tracing_CustomTag_TYPE_ENVIRONMENT)
            environment(a, add_tag(a, t, m->custom_tags[i]->key), c->environment->name,
                        c->environment->default_value);
        else if (c->type_case == ist_mesh_Tracing_CustomTag_TYPE_HEADER)
            header(a, add_tag(a, t, m->custom_tags[i]->key), c->header->name,
                   c->header->default_value);
    }
}

static int compare_tags(const void *x, const void *y)
{
    return strcmp((*(pb_CustomTag *const *)x)->tag, (*(pb_CustomTag *const *)y)->tag);
}

/* ---- settings ---- */

/* What the workload's own ProxyConfig says, else the mesh's; NULL: nothing. */
static const ist_mesh_Tracing *proxy_tracing(const struct mz_view *v)
{
    const ist_mesh_ProxyConfig *own = v->proxy->config,
                               *mesh = v->model->mesh.config->default_config;
    const ist_mesh_ProxyConfig *c = own ? own : mesh;
    return c ? c->tracing : NULL;
}

static double usual_sampling(const struct mz_view *v)
{
    const ist_mesh_Tracing *m = proxy_tracing(v);
    if (!m || m->sampling == 0)
        return v->t->features.trace_sampling;
    return m->sampling > 100 ? 1 : m->sampling;
}

static pb_Percent *percent(struct mz_arena *a, double value)
{
    pb_Percent *p = TR_NEW(a, Percent);
    p->value = value;
    return p;
}

static void finish(struct mz_view *v, pb_HttpConnectionManager_Tracing *t, double sampling,
                   bool istio, const ist_telemetry_Tracing *tags)
{
    struct mz_arena *a = v->arena;
    const ist_mesh_Tracing *m = proxy_tracing(v);
    t->client_sampling = percent(a, 100);
    t->random_sampling = percent(a, sampling);
    t->overall_sampling = percent(a, 100);
    if (istio)
        istio_tags(v, t);
    if (tags)
        document_tags(v, tags, t);
    else
        proxy_tags(v, m, t);
    if (t->n_custom_tags)
        qsort(t->custom_tags, t->n_custom_tags, sizeof(*t->custom_tags), compare_tags);
    if (!t->max_path_tag_length && m && m->max_path_tag_length)
        t->max_path_tag_length = tr_u32(a, m->max_path_tag_length);
}

/* Nobody said anything by Telemetry: the proxy's bootstrap has the tracer, if there is one. */
static void add_of_mesh(struct mz_view *v, struct tr_telemetry *t)
{
    const ist_MeshConfig *c = v->model->mesh.config;
    const ist_mesh_Tracing *m = proxy_tracing(v);
    if (c->_enable_tracing_case == ist_MeshConfig__ENABLE_TRACING_ENABLE_TRACING &&
        !c->enable_tracing)
        return;
    t->tracing = TR_NEW(v->arena, HttpConnectionManager_Tracing);
    finish(v, t->tracing, usual_sampling(v), mz_bool_or(m ? m->enable_istio_tags : NULL, true),
           NULL);
}

/* ---- merging ---- */

static void merge_one(const ist_telemetry_Tracing *m, struct spec *s)
{
    if (m->n_providers)
        s->provider = m->providers[0]->name; /* a proxy has one tracer */
    if (m->disable_span_reporting)
        s->off = m->disable_span_reporting->value;
    if (m->n_custom_tags)
        s->tags = m;
    if (m->random_sampling_percentage)
        s->sampling = m->random_sampling_percentage;
    if (m->use_request_id_for_trace_sampling)
        s->random = !m->use_request_id_for_trace_sampling->value;
    if (m->disable_context_propagation)
        s->alone = m->disable_context_propagation->value;
    if (m->enable_istio_tags)
        s->no_tags = !m->enable_istio_tags->value;
}

static bool merge(const struct mz_view *v, enum tr_class class, const struct tr_said *said,
                  struct spec *out)
{
    const ist_MeshConfig_DefaultProviders *d = v->model->mesh.config->default_providers;
    const size_t defaults = d ? d->n_tracing : 0;
    *out = (struct spec){ .provider = defaults ? d->tracing[0] : NULL };
    for (size_t i = 0; i < said->n_tracing; i++) {
        const ist_telemetry_Tracing *m = said->tracing[i];
        if (!m->match || tr_mode_is_of(m->match->mode, class))
            merge_one(m, out);
    }
    return said->n_tracing || defaults;
}

static pb_RequestIDExtension *request_id(struct mz_arena *a, bool random)
{
    pb_RequestIDExtension *e = TR_NEW(a, RequestIDExtension);
    pb_UuidRequestIdConfig *m = TR_NEW(a, UuidRequestIdConfig);
    m->use_request_id_for_trace_sampling = tr_bool(a, !random);
    e->typed_config = tr_any(a, m);
    return e;
}

void tr_tracing_add(struct mz_view *v, enum tr_class class, const struct tr_said *said,
                    struct tr_telemetry *t)
{
    struct mz_arena *a = v->arena;
    struct spec s;
    struct mz_err why = { .path = "", .msg = "" };
    char text[sizeof(why)];
    if (!merge(v, class, said, &s)) {
        add_of_mesh(v, t);
        return;
    }
    const ist_MeshConfig_ExtensionProvider *p =
        s.provider ? tr_provider_by_any_case(v->model, mz_str_c(s.provider)) : NULL;
    if (s.off || !p)
        return;
    pb_HttpConnectionManager_Tracing *m = TR_NEW(a, HttpConnectionManager_Tracing);
    if (!tr_tracer(v, p, m, &why)) {
        tr_tell(v, MZ_STR("MeshConfig/mesh"), "provider %s gets no spans: %s", p->name,
                mz_err_text(&why, text, sizeof(text)));
        return;
    }
    finish(v, m, s.sampling ? s.sampling->value : usual_sampling(v), !s.no_tags, s.tags);
    m->no_context_propagation =
        s.alone && v->proxy->release >= 130; /* older ones would refuse it */
    t->tracing = m;
    if (s.random)
        t->request_id = request_id(a, s.random);
}
