/* Filters of HTTPRoutes and GRPCRoutes. */
#include "control/model/gateway_api_priv.h"

/* ---- headers ---- */

static bool is_value(const char *v)
{
    for (const unsigned char *p = (const unsigned char *)v; *p; p++)
        if (*p != '\t' && (*p < 0x20 || *p == 0x7f))
            return false;
    return true;
}

struct pairs { /* of a generated map<string, string> */
    ist_Headers_HeaderOperations_SetEntry **e;
    size_t n_e;
};

/* Of one name the first counts. */
static bool add_pairs(struct gw_making *g, k8s_HTTPHeader *const *v, size_t n,
                      const ProtobufCMessageDescriptor *entry, struct pairs *out,
                      struct mz_gw_error *e)
{
    for (size_t i = 0; i < n; i++) {
        struct mz_str name = mz_str_c(v[i]->name);
        char *own = gw_text(g->a, name);
        bool had = false;
        for (size_t k = 0; k < name.n; k++)
            own[k] = mz_lower(own[k]);
        if (!is_value(v[i]->value))
            return gw_fail(g, e, "InvalidFilter", "header \"%s\" value contains invalid characters",
                           v[i]->name);
        for (size_t k = 0; k < out->n_e; k++)
            had |= strcmp(out->e[k]->key, own) == 0;
        if (had)
            continue;
        ist_Headers_HeaderOperations_SetEntry *one =
            (ist_Headers_HeaderOperations_SetEntry *)gw_new(g->a, entry);
        one->key = own;
        one->value = v[i]->value;
        GW_ADD(g->a, out, e) = one;
    }
    return true;
}

static bool operations(struct gw_making *g, const k8s_HTTPHeaderFilter *f,
                       ist_Headers_HeaderOperations **out, struct mz_gw_error *e)
{
    struct pairs set = { 0 }, add = { 0 };
    if (!f)
        return true;
    ist_Headers_HeaderOperations *o = GW_MAKE(g->a, Headers_HeaderOperations);
    if (!add_pairs(g, f->set, f->n_set, &ist_Headers_HeaderOperations_SetEntry__descriptor, &set,
                   e) ||
        !add_pairs(g, f->add, f->n_add, &ist_Headers_HeaderOperations_AddEntry__descriptor, &add,
                   e))
        return false;
    o->set = set.e;
    o->n_set = set.n_e;
    o->add = (ist_Headers_HeaderOperations_AddEntry **)add.e;
    o->n_add = add.n_e;
    o->remove = f->remove;
    o->n_remove = f->n_remove;
    *out = o;
    return true;
}

static ist_Headers *headers_of(struct gw_making *g, ist_Headers **h)
{
    if (!*h)
        *h = GW_MAKE(g->a, Headers);
    return *h;
}

/* @out_known false: it is none of these. */
static bool change(struct gw_making *g, const k8s_HTTPRouteFilter *f, ist_Headers **out,
                   bool *out_known, struct mz_gw_error *e)
{
    const bool request = strcmp(f->type, "RequestHeaderModifier") == 0;
    *out_known = request || strcmp(f->type, "ResponseHeaderModifier") == 0;
    if (!*out_known)
        return true;
    const k8s_HTTPHeaderFilter *h = request ? f->requestheadermodifier : f->responseheadermodifier;
    if (!h)
        return true;
    ist_Headers *m = headers_of(g, out);
    return operations(g, h, request ? &m->request : &m->response, e);
}

static bool unsupported(struct gw_making *g, const k8s_HTTPRouteFilter *f, struct mz_gw_error *e)
{
    *e = (struct mz_gw_error){ 0 };
    return gw_fail(g, e, "InvalidFilter", "unsupported filter type \"%s\"", f->type);
}

bool gw_headers(struct gw_making *g, k8s_HTTPRouteFilter *const *f, size_t n, ist_Headers **out,
                struct mz_gw_error *e)
{
    for (size_t i = 0; i < n; i++) {
        bool known;
        struct mz_gw_error bad = { 0 };
        if (!change(g, f[i], out, &known, &bad)) {
            *e = bad;
            return false;
        }
        if (!known)
            return unsupported(g, f[i], e);
    }
    return true;
}

/* ---- mirrors ---- */

static void mirror(struct gw_making *g, const struct gw_route *r,
                   const k8s_HTTPRequestMirrorFilter *f, bool mesh, ist_HTTPRoute *out,
                   struct mz_gw_error *e)
{
    const k8s_BackendObjectReference *b = f->backendref;
    if (!b)
        return;
    const struct gw_target to = { gw_or(b->group, ""), gw_or(b->kind, "Service"), b->name,
                                  b->namespace_ ? b->namespace_->value : NULL, b->port };
    struct mz_gw_error bad = { 0 };
    ist_Destination *d = gw_destination(g, r, &to, mesh, &bad);
    if (bad.reason) {
        *e = bad;
        return;
    }
    ist_HTTPMirrorPolicy *m = GW_MAKE(g->a, HTTPMirrorPolicy);
    m->destination = d;
    if (f->fraction || f->percent) {
        const int32_t of =
            f->fraction && f->fraction->denominator ? f->fraction->denominator->value : 100;
        m->percentage = GW_MAKE(g->a, Percent);
        m->percentage->value =
            f->fraction ? 100.0 * f->fraction->numerator / (of > 0 ? of : 100) : f->percent->value;
    }
    GW_ADD(g->a, out, mirrors) = m;
}

/* ---- paths ---- */

/* In a substitution a backslash begins a reference: here it is itself. */
static char *literal(struct gw_making *g, const char *text)
{
    const size_t n = strlen(text);
    char *own = mz_arena_alloc(g->a, 2 * n + 1), *at = own;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\\')
            *at++ = '\\';
        *at++ = text[i];
    }
    *at = 0;
    return own;
}

static void rewrite(struct gw_making *g, const k8s_HTTPURLRewriteFilter *f, ist_HTTPRoute *out)
{
    ist_HTTPRewrite *w = GW_MAKE(g->a, HTTPRewrite);
    const k8s_HTTPPathModifier *p = f->path;
    if (p && strcmp(p->type, "ReplacePrefixMatch") == 0) {
        struct mz_str to = mz_str_c(gw_or(p->replaceprefixmatch, ""));
        to.n -= mz_str_ends(to, MZ_STR("/"));
        w->uri = gw_text(g->a, to.n ? to : MZ_STR("/"));
    } else if (p) {
        w->uri_regex_rewrite = GW_MAKE(g->a, RegexRewrite);
        w->uri_regex_rewrite->match = (char *)(uintptr_t) "/.*";
        w->uri_regex_rewrite->rewrite = literal(g, gw_or(p->replacefullpath, ""));
    }
    if (f->hostname)
        w->authority = f->hostname->value;
    if (w->uri[0] || w->uri_regex_rewrite || w->authority[0])
        out->rewrite = w;
}

static void redirect(struct gw_making *g, const k8s_HTTPRequestRedirectFilter *f,
                     ist_HTTPRoute *out)
{
    ist_HTTPRedirect *m = out->redirect = GW_MAKE(g->a, HTTPRedirect);
    m->redirect_code =
        f->statuscode ? (uint32_t)f->statuscode->value : 302; /* as an API server has it */
    m->authority = f->hostname ? f->hostname->value : m->authority;
    m->scheme = f->scheme ? f->scheme->value : m->scheme;
    if (f->port) {
        m->redirect_port_case = ist_HTTPRedirect_REDIRECT_PORT_PORT;
        m->port = (uint32_t)f->port->value;
    } else {
        m->redirect_port_case = ist_HTTPRedirect_REDIRECT_PORT_DERIVE_PORT;
        m->derive_port = f->scheme ? ist_HTTPRedirect_RedirectPortSelection_FROM_PROTOCOL_DEFAULT
                                   : ist_HTTPRedirect_RedirectPortSelection_FROM_REQUEST_PORT;
    }
    if (f->path && strcmp(f->path->type, "ReplaceFullPath") == 0)
        m->uri = gw_text(g->a, mz_str_c(gw_or(f->path->replacefullpath, "")));
    else if (f->path)
        m->prefix_rewrite = gw_text(g->a, mz_str_c(gw_or(f->path->replaceprefixmatch, "")));
}

/* ---- CORS ---- */

static char *pattern(struct gw_making *g, struct mz_str s)
{
    char *own = mz_arena_alloc(g->a, 2 * s.n + 3), *at = own;
    *at++ = '^';
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '*')
            *at++ = '.';
        else if (strchr("\\.+?()|[]{}^$", s.p[i]))
            *at++ = '\\';
        *at++ = s.p[i];
    }
    *at++ = '$';
    *at = 0;
    return own;
}

static ist_StringMatch *origin(struct gw_making *g, const char *text)
{
    const struct mz_str s = mz_str_c(text);
    const ptrdiff_t star = mz_str_chr(s, '*');
    if (mz_str_eq(s, MZ_STR("*"))) /* anything that is an origin (RFC 6454) */
        return gw_match(g, GW_REGEX, (char *)(uintptr_t) "^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\\s?#]+$");
    if (star < 0)
        return gw_match(g, GW_EXACT, gw_text(g->a, s));
    if ((size_t)star == s.n - 1)
        return gw_match(g, GW_PREFIX, gw_text(g->a, (struct mz_str){ s.p, s.n - 1 }));
    return gw_match(g, GW_REGEX, pattern(g, s));
}

static void cors(struct gw_making *g, const k8s_HTTPCORSFilter *f, ist_HTTPRoute *out)
{
    ist_CorsPolicy *c = out->cors_policy = GW_MAKE(g->a, CorsPolicy);
    for (size_t i = 0; i < f->n_alloworigins; i++)
        if (f->alloworigins[i][0])
            GW_ADD(g->a, c, allow_origins) = origin(g, f->alloworigins[i]);
    if (f->allowcredentials && f->allowcredentials->value)
        c->allow_credentials = f->allowcredentials;
    c->allow_methods = f->allowmethods;
    c->n_allow_methods = f->n_allowmethods;
    c->allow_headers = f->allowheaders;
    c->n_allow_headers = f->n_allowheaders;
    c->expose_headers = f->exposeheaders;
    c->n_expose_headers = f->n_exposeheaders;
    if (f->maxage > 0) {
        c->max_age = (pb_Duration *)gw_new(g->a, &pb_Duration__descriptor);
        c->max_age->seconds = f->maxage;
    }
    c->unmatched_preflights = ist_CorsPolicy_UnmatchedPreflights_IGNORE;
}

bool gw_filters(struct gw_making *g, const struct gw_route *r, k8s_HTTPRouteFilter *const *f,
                size_t n, bool mesh, ist_HTTPRoute *out, struct mz_gw_error *e,
                struct mz_gw_error *mirrored)
{
    const bool http = r->kind == MZ_GW_HTTP;
    for (size_t i = 0; i < n; i++) {
        bool known;
        if (!change(g, f[i], &out->headers, &known, e))
            return false;
        if (known)
            continue;
        if (strcmp(f[i]->type, "RequestMirror") == 0) {
            if (f[i]->requestmirror)
                mirror(g, r, f[i]->requestmirror, mesh, out, mirrored);
        } else if (http && strcmp(f[i]->type, "RequestRedirect") == 0) {
            if (f[i]->requestredirect)
                redirect(g, f[i]->requestredirect, out);
        } else if (http && strcmp(f[i]->type, "URLRewrite") == 0) {
            if (f[i]->urlrewrite)
                rewrite(g, f[i]->urlrewrite, out);
        } else if (http && strcmp(f[i]->type, "CORS") == 0) {
            if (f[i]->cors)
                cors(g, f[i]->cors, out);
        } else {
            return unsupported(g, f[i], e);
        }
    }
    return true;
}
