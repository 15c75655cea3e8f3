/* What a VirtualService says to filters of its route: faults, CORS. */
#include "control/translate/mesh.h"
#include "control/translate/virtual_routes.h"

static pb_FractionalPercent *hundredths(struct mz_arena *a, uint32_t percent)
{
    pb_FractionalPercent *p = TR_NEW(a, FractionalPercent);
    p->numerator = percent;
    return p;
}

pb_FractionalPercent *tr_percent(struct mz_arena *a, double percent)
{
    pb_FractionalPercent *p = hundredths(a, (uint32_t)(percent * 10000));
    p->denominator = pb_FractionalPercent_DenominatorType_MILLION;
    return p;
}

pb_RuntimeFractionalPercent *tr_every(struct mz_arena *a)
{
    pb_RuntimeFractionalPercent *p = TR_NEW(a, RuntimeFractionalPercent);
    p->default_value = hundredths(a, 100);
    return p;
}

/* ---- faults ---- */

static pb_FaultDelay *delay(struct mz_arena *a, const ist_HTTPFaultInjection_Delay *d)
{
    if (!d || !d->fixed_delay)
        return NULL;
    pb_FaultDelay *m = TR_NEW(a, FaultDelay);
    m->fault_delay_secifier_case = pb_FaultDelay_FAULT_DELAY_SECIFIER_FIXED_DELAY;
    m->fixed_delay = d->fixed_delay; /* shared with the model */
    m->percentage =
        d->percentage ? tr_percent(a, d->percentage->value) : hundredths(a, (uint32_t)d->percent);
    return m;
}

static uint32_t grpc_status(const char *name)
{
    static const char *const names[] = { "OK",
                                         "CANCELLED",
                                         "UNKNOWN",
                                         "INVALID_ARGUMENT",
                                         "DEADLINE_EXCEEDED",
                                         "NOT_FOUND",
                                         "ALREADY_EXISTS",
                                         "PERMISSION_DENIED",
                                         "RESOURCE_EXHAUSTED",
                                         "FAILED_PRECONDITION",
                                         "ABORTED",
                                         "OUT_OF_RANGE",
                                         "UNIMPLEMENTED",
                                         "INTERNAL",
                                         "UNAVAILABLE",
                                         "DATA_LOSS",
                                         "UNAUTHENTICATED" };
    for (uint32_t i = 0; i < MZ_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return 2; /* it was checked with its document */
}

static pb_FaultAbort *abort_with(struct mz_arena *a, const ist_HTTPFaultInjection_Abort *b)
{
    if (!b || b->error_type_case == ist_HTTPFaultInjection_Abort_ERROR_TYPE__NOT_SET)
        return NULL;
    pb_FaultAbort *m = TR_NEW(a, FaultAbort);
    m->percentage = b->percentage ? tr_percent(a, b->percentage->value) : NULL;
    if (b->error_type_case == ist_HTTPFaultInjection_Abort_ERROR_TYPE_HTTP_STATUS) {
        m->error_type_case = pb_FaultAbort_ERROR_TYPE_HTTP_STATUS;
        m->http_status = (uint32_t)b->http_status;
    } else {
        m->error_type_case = pb_FaultAbort_ERROR_TYPE_GRPC_STATUS;
        m->grpc_status = grpc_status(b->grpc_status);
    }
    return m;
}

static const pb_HTTPFault *fault(struct mz_arena *a, const ist_HTTPFaultInjection *f)
{
    pb_HTTPFault *m = TR_NEW(a, HTTPFault);
    m->delay = f ? delay(a, f->delay) : NULL;
    m->abort = f ? abort_with(a, f->abort) : NULL;
    return m->delay || m->abort ? m : NULL;
}

/* ---- CORS ---- */

static char *joined(struct mz_arena *a, char *const *v, size_t n)
{
    MZ_VEC(struct mz_str) parts = { 0 };
    for (size_t i = 0; i < n; i++) {
        *mz_vec_push(&parts, MZ_MEM_XDS) = i ? MZ_STR(",") : MZ_STR("");
        *mz_vec_push(&parts, MZ_MEM_XDS) = mz_str_c(v[i]);
    }
    char *all = (char *)(uintptr_t)mz_arena_cat(a, parts.n, parts.v).p;
    mz_vec_free(&parts, MZ_MEM_XDS);
    return all;
}

static void origins(struct mz_arena *a, const ist_CorsPolicy *c, pb_cors_CorsPolicy *m)
{
    for (size_t i = 0; i < c->n_allow_origins; i++) {
        pb_StringMatcher *s = tr_string_matcher(a, c->allow_origins[i]);
        if (s)
            TR_ADD(a, m, allow_origin_string_match) = s;
    }
    for (size_t i = 0; !c->n_allow_origins && i < c->n_allow_origin; i++) {
        pb_StringMatcher *s = TR_NEW(a, StringMatcher);
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
        s->exact = tr_text(a, mz_str_c(c->allow_origin[i]));
        TR_ADD(a, m, allow_origin_string_match) = s;
    }
}

static const pb_cors_CorsPolicy *cors(struct mz_arena *a, const ist_CorsPolicy *c)
{
    pb_cors_CorsPolicy *m = TR_NEW(a, cors_CorsPolicy);
    origins(a, c, m);
    m->forward_not_matching_preflights =
        tr_bool(a, c->unmatched_preflights != ist_CorsPolicy_UnmatchedPreflights_IGNORE);
    m->filter_enabled = tr_every(a);
    if (c->allow_credentials)
        m->allow_credentials = tr_bool(a, c->allow_credentials->value);
    m->allow_headers = joined(a, c->allow_headers, c->n_allow_headers);
    m->allow_methods = joined(a, c->allow_methods, c->n_allow_methods);
    m->expose_headers = joined(a, c->expose_headers, c->n_expose_headers);
    if (c->max_age)
        m->max_age = TR_PRINTF(a, "%lld", (long long)c->max_age->seconds);
    return m;
}

static void add(struct mz_arena *a, pb_Route *out, const char *name, const void *config)
{
    pb_Route_TypedPerFilterConfigEntry *e = TR_NEW(a, Route_TypedPerFilterConfigEntry);
    e->key = TR_CONST(name);
    e->value = tr_any(a, config);
    TR_ADD(a, out, typed_per_filter_config) = e;
}

/* A cookie "name" or "name:path" that ends with the browser, or a header. */
static pb_TypedExtensionConfig *session_state(struct mz_arena *a, const struct mz_service *s)
{
    const struct mz_str cookie = mz_label_get(s->labels, MZ_SESSION_LABEL),
                        header = mz_label_get(s->labels, MZ_SESSION_HEADER_LABEL);
    const ptrdiff_t colon = mz_str_chr(cookie, ':');
    pb_TypedExtensionConfig *e = TR_NEW(a, TypedExtensionConfig);
    if (cookie.n) {
        pb_CookieBasedSessionState *c = TR_NEW(a, CookieBasedSessionState);
        c->cookie = TR_NEW(a, Cookie);
        c->cookie->name =
            tr_text(a, colon < 0 ? cookie : (struct mz_str){ cookie.p, (size_t)colon });
        c->cookie->path =
            colon < 0 ? TR_CONST("/") : tr_text(a, mz_str_skip(cookie, (size_t)colon + 1));
        e->name = TR_CONST("envoy.http.stateful_session.cookie");
        e->typed_config = tr_any(a, c);
    } else {
        pb_HeaderBasedSessionState *h = TR_NEW(a, HeaderBasedSessionState);
        h->name = tr_text(a, header);
        e->name = TR_CONST("envoy.http.stateful_session.header");
        e->typed_config = tr_any(a, h);
    }
    return e;
}

pb_StatefulSessionPerRoute *tr_session(const struct mz_view *v, struct mz_arena *a,
                                       const struct mz_service *s)
{
    if (!s || !v->t->features.sessions || v->proxy->proxyless ||
        (!mz_label_get(s->labels, MZ_SESSION_LABEL).n &&
         !mz_label_get(s->labels, MZ_SESSION_HEADER_LABEL).n))
        return NULL;
    pb_StatefulSessionPerRoute *m = TR_NEW(a, StatefulSessionPerRoute);
    m->override_case = pb_StatefulSessionPerRoute_OVERRIDE_STATEFUL_SESSION;
    m->stateful_session = TR_NEW(a, StatefulSession);
    m->stateful_session->session_state = session_state(a, s);
    return m;
}

void tr_put_session(const struct mz_view *v, struct mz_arena *a, pb_VirtualHost *h,
                    const struct mz_service *s)
{
    const pb_StatefulSessionPerRoute *m = tr_session(v, a, s);
    if (!m)
        return;
    pb_VirtualHost_TypedPerFilterConfigEntry *e = TR_NEW(a, VirtualHost_TypedPerFilterConfigEntry);
    e->key = TR_CONST(TR_SESSIONS);
    e->value = tr_any(a, m);
    TR_ADD(a, h, typed_per_filter_config) = e;
}

/* Of several destinations that have one the first counts; a later one without takes it back, as the field has it. */
static const pb_StatefulSessionPerRoute *session_of(const struct tr_routing *r,
                                                    const ist_HTTPRoute *in)
{
    const pb_StatefulSessionPerRoute *found = NULL;
    for (size_t i = 0; r->v->t->features.sessions && i < in->n_route; i++) {
        const ist_HTTPRouteDestination *to = in->route[i];
        if ((in->n_route > 1 && to->weight <= 0) || !to->destination)
            continue;
        const pb_StatefulSessionPerRoute *one = tr_session(
            r->v, r->a, mz_map_get(&r->v->scope->by_host, mz_str_c(to->destination->host)));
        if (one && found)
            break;
        found = one;
    }
    return found;
}

void tr_route_filters(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out)
{
    struct mz_arena *a = r->a;
    const pb_HTTPFault *f = fault(a, in->fault);
    const pb_StatefulSessionPerRoute *s = session_of(r, in);
    if (in->cors_policy && !r->v->proxy->proxyless) /* there are no browsers, and gRPC refuses it */
        add(a, out, "envoy.filters.http.cors", cors(a, in->cors_policy));
    if (f)
        add(a, out, "envoy.filters.http.fault", f);
    if (s)
        add(a, out, TR_SESSIONS, s);
}
