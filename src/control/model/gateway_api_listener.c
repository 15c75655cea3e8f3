/* One listener of a Gateway: the server that Istio makes of it, and what stands against it. */
#include "control/model/gateway_api_priv.h"

#define NO_CA "NoValidCACertificate"

const char *const mz_gw_route_kinds[MZ_GW_ROUTE_KINDS] = { "HTTPRoute", "GRPCRoute", "TCPRoute",
                                                           "TLSRoute" };

/* ---- kinds of routes ---- */

static unsigned kinds_of_protocol(const k8s_Listener *l)
{
    const bool ends =
        l->tls && l->tls->mode && strcmp(l->tls->mode->value, "Terminate") == 0; /* said so */
    if (strcmp(l->protocol, "HTTP") == 0 || strcmp(l->protocol, "HTTPS") == 0)
        return 1u << MZ_GW_HTTP | 1u << MZ_GW_GRPC;
    if (strcmp(l->protocol, "TCP") == 0)
        return 1u << MZ_GW_TCP;
    return strcmp(l->protocol, "TLS") == 0 ? 1u << MZ_GW_TLS | (ends ? 1u << MZ_GW_TCP : 0u) : 0;
}

unsigned gw_listener_kinds(const k8s_Listener *l, bool *out_valid)
{
    const unsigned all = kinds_of_protocol(l);
    const k8s_AllowedRoutes *r = l->allowedroutes;
    unsigned some = 0, count = 0;
    *out_valid = true;
    if (!r || !r->n_kinds)
        return all;
    for (unsigned k = 0; k < MZ_GW_ROUTE_KINDS; k++)
        for (size_t i = 0; (all >> k & 1) && !(some >> k & 1) && i < r->n_kinds; i++)
            if (strcmp(r->kinds[i]->kind, mz_gw_route_kinds[k]) == 0 &&
                strcmp(gw_or(r->kinds[i]->group, GW_GROUP), GW_GROUP) == 0) {
                some |= 1u << k;
                count++;
            }
    *out_valid = count == r->n_kinds;
    return some;
}

/* ---- TLS ---- */

static const char *option(const k8s_ListenerTLSConfig *t, const char *key)
{
    for (size_t i = 0; i < t->n_options; i++)
        if (strcmp(t->options[i]->key, key) == 0)
            return t->options[i]->value;
    return "";
}

static const char *owner_kind(const struct mz_gw *gw)
{
    return gw->kind == MZ_KIND_LISTENER_SET ? "ListenerSet" : "Gateway";
}

static const char *reference(struct gw_making *g, const k8s_SecretObjectReference *r)
{
    return mz_arena_printf(g->d->scratch, "%s/%s/%s.%s", gw_or(r->group, ""), gw_or(r->kind, ""),
                           r->name, gw_or(r->namespace_, ""))
        .p;
}

/* The name under which proxies ask for it; NULL: it may not or cannot be used. */
static char *credential(struct gw_making *g, struct mz_gw *gw, const k8s_SecretObjectReference *r,
                        struct mz_gw_error *e)
{
    const struct mz_str ns = r->namespace_ ? mz_str_c(r->namespace_->value) : gw->ns;
    const char *what =
        mz_arena_printf(g->d->scratch, "invalid certificate reference %s", reference(g, r)).p;
    /* Who has no grant does not learn whether it is there. */
    if (!mz_str_eq(ns, gw->ns) && !gw_granted(g, owner_kind(gw), gw->ns, "Secret", ns, r->name)) {
        (void)gw_fail(g, e, "RefNotPermitted",
                      "certificateRef %s/%.*s not accessible to a Gateway in namespace \"%.*s\" "
                      "(missing a ReferenceGrant?)",
                      r->name, MZ_STR_ARG(ns), MZ_STR_ARG(gw->ns));
        return NULL;
    }
    if (gw_or(r->group, "")[0] || strcmp(gw_or(r->kind, "Secret"), "Secret") != 0) {
        (void)gw_fail(g, e, "InvalidCertificateRef", "%s, only secret is allowed", what);
        return NULL;
    }
    const struct mz_doc *doc = gw_doc(g, "Secret", ns, r->name);
    if (!doc) {
        (void)gw_fail(g, e, "InvalidCertificateRef", "%s, secret %.*s/%s not found", what,
                      MZ_STR_ARG(ns), r->name);
        return NULL;
    }
    if (!gw_has_pair(g, doc, e, "InvalidCertificateRef", what))
        return NULL;
    return GW_PRINTF(g->a, "kubernetes-gateway://%.*s/%s", MZ_STR_ARG(ns), r->name);
}

static const k8s_TLSConfig *frontend_of(const struct mz_gw *gw, uint16_t port)
{
    const k8s_FrontendTLSConfig *f = gw->spec->tls ? gw->spec->tls->frontend : NULL;
    for (size_t i = 0; f && i < f->n_perport; i++)
        if (f->perport[i]->port == port)
            return f->perport[i]->tls;
    return f ? f->default_ : NULL;
}

/* Roots that clients' certificates are verified by. */
static bool ask_clients(struct gw_making *g, struct mz_gw *gw, const k8s_FrontendTLSValidation *v,
                        ist_ServerTLSSettings *out, struct mz_gw_error *e)
{
    const k8s_NamedReference *r = v->cacertificaterefs[0];
    if (v->n_cacertificaterefs > 1)
        return gw_fail(g, e, "InvalidCACertificateRef", "only one caCertificateRef is supported");
    const bool map = strcmp(r->kind, "ConfigMap") == 0;
    const struct mz_str ns = r->namespace_ ? mz_str_c(r->namespace_->value) : gw->ns;
    const char *what =
        mz_arena_printf(g->d->scratch, "invalid CA certificate reference %s/%s/%s.%s", r->group,
                        r->kind, r->name, gw_or(r->namespace_, ""))
            .p;
    if (!mz_str_eq(ns, gw->ns) && !gw_granted(g, owner_kind(gw), gw->ns, r->kind, ns, r->name))
        return gw_fail(g, e, "RefNotPermitted",
                       "caCertificateRef %.*s/%s not accessible to a Gateway in namespace \"%.*s\" "
                       "(missing a ReferenceGrant?)",
                       MZ_STR_ARG(ns), r->name, MZ_STR_ARG(gw->ns));
    if (r->group[0] || (!map && strcmp(r->kind, "Secret") != 0))
        return gw_fail(g, e, "InvalidCACertificateKind",
                       "%s, only secret and configmap are allowed", what);
    const struct mz_doc *doc = gw_doc(g, map ? "ConfigMap" : "Secret", ns, r->name);
    if (!doc)
        return gw_fail(g, e, "InvalidCACertificateRef", "%s, %s %.*s/%s not found", what,
                       map ? "configmap" : "secret", MZ_STR_ARG(ns), r->name);
    if (!gw_has_root(g, doc, e, "InvalidCACertificateRef", what))
        return false;
    const bool lax = strcmp(v->mode, "AllowInsecureFallback") == 0;
    out->mode =
        lax ? ist_ServerTLSSettings_TLSmode_OPTIONAL_MUTUAL : ist_ServerTLSSettings_TLSmode_MUTUAL;
    out->ca_cert_credential_name =
        GW_PRINTF(g->a, "%s://%.*s/%s-cacert", map ? "configmap" : "kubernetes-gateway",
                  MZ_STR_ARG(ns), r->name);
    out->insecure_skip_verify = (pb_BoolValue *)gw_new(g->a, &pb_BoolValue__descriptor);
    out->insecure_skip_verify->value = lax;
    return true;
}

static void add_ciphers(struct gw_making *g, const k8s_ListenerTLSConfig *t,
                        ist_ServerTLSSettings *out)
{
    struct mz_str rest = mz_str_c(option(t, "gateway.istio.io/tls-cipher-suites"));
    for (struct mz_str one; mz_str_split(&rest, ',', &one);) {
        one = mz_str_trim(one);
        if (mz_is_cipher(one))
            GW_ADD(g->a, out, cipher_suites) = gw_text(g->a, one);
    }
}

/* False: it has none that can be used. */
static bool certificates(struct gw_making *g, struct mz_gw *gw, const k8s_ListenerTLSConfig *t,
                         ist_ServerTLSSettings *out, struct mz_gw_error *e)
{
    struct mz_gw_error all = { 0 };
    char *names[2];
    size_t n = 0;
    if (t->n_certificaterefs > 2)
        return gw_fail(g, e, "InvalidCertificateRef",
                       "TLS mode can only support up to 2 server certificates");
    for (size_t i = 0; i < t->n_certificaterefs; i++) {
        struct mz_gw_error one = { 0 };
        char *name = credential(g, gw, t->certificaterefs[i], &one);
        gw_join(g, &all, &one);
        if (name)
            names[n++] = name;
    }
    if (n == 0 || all.reason) /* with one of two, what is wrong is said and the good one used */
        *e = all;
    if (n == 1)
        out->credential_name = names[0];
    for (size_t i = 0; n > 1 && i < n; i++)
        GW_ADD(g->a, out, credential_names) = names[i];
    return n > 0;
}

static bool set_client_mode(const char *mode, ist_ServerTLSSettings *out)
{
    if (strcmp(mode, "MUTUAL") == 0)
        out->mode = ist_ServerTLSSettings_TLSmode_MUTUAL;
    else if (strcmp(mode, "OPTIONAL_MUTUAL") == 0)
        out->mode = ist_ServerTLSSettings_TLSmode_OPTIONAL_MUTUAL;
    else
        return false;
    return true;
}

static bool ends_here(struct gw_making *g, struct mz_gw *gw, const struct mz_gw_listener *l,
                      ist_ServerTLSSettings *out, struct mz_gw_error *e)
{
    const k8s_ListenerTLSConfig *t = l->spec->tls;
    const char *mode = option(t, "gateway.istio.io/tls-terminate-mode");
    const k8s_TLSConfig *front = frontend_of(gw, l->port);
    out->mode = ist_ServerTLSSettings_TLSmode_SIMPLE;
    if (strcmp(mode, "ISTIO_SIMPLE") == 0) {
        out->credential_name = (char *)(uintptr_t) "builtin://";
        return true;
    }
    if (strcmp(mode, "ISTIO_MUTUAL") == 0) {
        out->mode = ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL;
        return true;
    }
    (void)set_client_mode(mode, out);
    if (!certificates(g, gw, t, out, e))
        return !t->n_certificaterefs && !e->reason; /* Istio lets one without any pass */
    if (front && front->validation && front->validation->n_cacertificaterefs) {
        if (!ask_clients(g, gw, front->validation, out, e))
            return false;
        if (set_client_mode(mode, out))
            out->insecure_skip_verify->value = false;
    }
    add_ciphers(g, t, out);
    return true;
}

/* The port of a Gateway that other networks come in by. */
static bool is_between_networks(struct gw_making *g, const struct mz_gw *gw, uint16_t port)
{
    const struct mz_labels l = gw_labels(g, gw->doc);
    const struct mz_str own = mz_label_get(l, "networking.istio.io/gatewayPort");
    uint64_t n = 15443;
    if (!model_has_label(l, MZ_STR("topology.istio.io/network")))
        return false;
    return (!own.n || mz_str_u64(own, &n)) && n == port;
}

static bool make_tls(struct gw_making *g, struct mz_gw *gw, const struct mz_gw_listener *l,
                     ist_ServerTLSSettings **out, struct mz_gw_error *e)
{
    const k8s_ListenerTLSConfig *t = l->spec->tls;
    *out = NULL;
    if (!t)
        return true;
    *out = GW_MAKE(g->a, ServerTLSSettings);
    if (strcmp(gw_or(t->mode, "Terminate"), "Terminate") == 0)
        return ends_here(g, gw, l, *out, e);
    const bool automatic =
        strcmp(option(t, "gateway.istio.io/listener-protocol"), "auto-passthrough") == 0 ||
        is_between_networks(g, gw, l->port);
    (*out)->mode = automatic ? ist_ServerTLSSettings_TLSmode_AUTO_PASSTHROUGH
                             : ist_ServerTLSSettings_TLSmode_PASSTHROUGH;
    add_ciphers(g, t, *out);
    return true;
}

/* ---- the server ---- */

static bool protocol_is_known(struct gw_making *g, const char *p, struct mz_gw_error *e)
{
    static const char *const known[] = { "HTTP", "HTTPS", "TLS", "TCP" };
    for (size_t i = 0; i < MZ_COUNT(known); i++) {
        if (strcmp(p, known[i]) == 0)
            return true;
        if (mz_str_ieq(mz_str_c(p), mz_str_c(known[i])))
            return gw_fail(
                g, e, "UnsupportedProtocol",
                "protocol \"%s\" is unsupported. hint: \"%s\" (uppercase) may be supported", p,
                known[i]);
    }
    if (strcmp(p, "HBONE") == 0)
        return gw_fail(g, e, "UnsupportedProtocol",
                       "protocol \"%s\" is only supported for waypoint proxies", p);
    return gw_fail(g, e, "UnsupportedProtocol", "protocol \"%.63s\" is unsupported", p);
}

static void add_hosts(struct gw_making *g, const struct mz_gw *gw, const k8s_Listener *l,
                      ist_Server *s)
{
    size_t n;
    const char *host = l->hostname && l->hostname->value[0] ? l->hostname->value : "*";
    const struct mz_str *ns = gw_allowed_namespaces(g, gw->ns, l->allowedroutes, &n);
    for (size_t i = 0; i < n; i++)
        GW_ADD(g->a, s, hosts) = GW_PRINTF(g->a, "%.*s/%s", MZ_STR_ARG(ns[i]), host);
    if (!n) /* it listens, and no route is let in */
        GW_ADD(g->a, s, hosts) = GW_PRINTF(g->a, "~/%s", host);
}

static void spoil_tls(struct gw_making *g, struct mz_gw_listener *l)
{
    (void)gw_fail(g, &l->programmed, "Invalid", "Bad TLS configuration");
}

static bool is_about_clients(const char *reason)
{
    return strcmp(reason, "InvalidCACertificateRef") == 0 ||
           strcmp(reason, "InvalidCACertificateKind") == 0 ||
           strcmp(reason, "RefNotPermitted") == 0;
}

void gw_make_listener(struct gw_making *g, struct mz_gw *gw, struct mz_gw_listener *l)
{
    const k8s_Listener *spec = l->spec;
    ist_ServerTLSSettings *tls;
    bool ok = make_tls(g, gw, l, &tls, &l->refs);
    if (l->refs.reason) {
        spoil_tls(g, l);
        if (is_about_clients(l->refs.reason))
            (void)gw_fail(g, &l->accepted, NO_CA, "%.*s", MZ_STR_ARG(l->refs.text));
    }
    if (!l->port) {
        ok = false;
        (void)gw_fail(g, &l->accepted, "UnsupportedProtocol",
                      "protocol %s requires a port to be set", spec->protocol);
    }
    ok &= protocol_is_known(g, spec->protocol, &l->accepted);
    const bool needs = strcmp(spec->protocol, "HTTPS") == 0 || strcmp(spec->protocol, "TLS") == 0;
    if (needs && !tls) {
        if (gw->kind == MZ_KIND_LISTENER_SET) { /* of a Gateway it only holds a place */
            ok = false;
            (void)gw_fail(g, &l->accepted, "UnsupportedProtocol",
                          "protocol is %s but no TLS section is defined", spec->protocol);
            spoil_tls(g, l);
        }
        l->valid = ok;
        return;
    }
    ist_Server *s = GW_MAKE(g->a, Server);
    s->port = GW_MAKE(g->a, Port);
    s->port->name = (char *)(uintptr_t) "default";
    s->port->number = l->port;
    s->port->protocol = spec->protocol;
    s->tls = tls;
    add_hosts(g, gw, spec, s);
    l->server = s;
    l->valid = ok;
    l->internal = mz_arena_printf(g->a, "%.*s/%.*s~" GW_INTERNAL "~%s", MZ_STR_ARG(gw->ns),
                                  MZ_STR_ARG(gw->name), spec->name);
}

/* ---- the Gateway's own certificate for backends ---- */

bool gw_check_client_certificate(struct gw_making *g, struct mz_gw *gw)
{
    static const char *const reason = "InvalidClientCertificateRef";
    const k8s_GatewayTLSConfig *t = gw->spec->tls;
    const k8s_SecretObjectReference *r = t && t->backend ? t->backend->clientcertificateref : NULL;
    if (!r)
        return true;
    const struct mz_str ns = r->namespace_ ? mz_str_c(r->namespace_->value) : gw->ns;
    const char *what =
        mz_arena_printf(g->d->scratch, "invalid clientCertificateRef %s", reference(g, r)).p;
    if (gw_or(r->group, "")[0] || strcmp(gw_or(r->kind, "Secret"), "Secret") != 0)
        return gw_fail(g, &gw->backend_tls, reason, "%s, only secret is allowed", what);
    if (!mz_str_eq(ns, gw->ns) && !gw_granted(g, "Gateway", gw->ns, "Secret", ns, r->name))
        return gw_fail(g, &gw->backend_tls, "RefNotPermitted",
                       "clientCertificateRef %s/%.*s not accessible to a Gateway in namespace "
                       "\"%.*s\" (missing a ReferenceGrant?)",
                       r->name, MZ_STR_ARG(ns), MZ_STR_ARG(gw->ns));
    const struct mz_doc *doc = gw_doc(g, "Secret", ns, r->name);
    if (!doc)
        return gw_fail(g, &gw->backend_tls, reason, "%s, secret %.*s/%s not found", what,
                       MZ_STR_ARG(ns), r->name);
    return gw_has_pair(g, doc, &gw->backend_tls, reason, what);
}

/* ---- listeners that cannot stand beside each other ---- */

enum layer { LAYER_OTHER, LAYER_4, LAYER_7 };

static enum layer layer_of(const char *p)
{
    if (strcmp(p, "TCP") == 0 || strcmp(p, "UDP") == 0)
        return LAYER_4;
    return strcmp(p, "HTTP") == 0 || strcmp(p, "HTTPS") == 0 || strcmp(p, "TLS") == 0 ? LAYER_7
                                                                                      : LAYER_OTHER;
}

static const char *host_of(const k8s_Listener *l)
{
    return l->hostname && l->hostname->value[0] ? l->hostname->value : "*";
}

/* What stands at a port already: "PORT 4", "PORT 7", "PORT 7 HOST", "PORT PROTOCOL", to the listener that is there. */
struct kept {
    struct gw_making *g;
    struct mz_map at;
};

static const struct mz_gw_listener *kept_at(struct kept *k, const struct mz_gw_listener *l,
                                            const char *what, const char *more)
{
    return mz_map_get(&k->at, mz_arena_printf(k->g->d->scratch, "%u %s%s", l->port, what, more));
}

static void keep(struct kept *k, const struct mz_gw_listener *l, const char *what, const char *more)
{
    (void)mz_map_put(&k->at, mz_arena_printf(k->g->d->scratch, "%u %s%s", l->port, what, more),
                     (void *)(uintptr_t)l);
}

/* Why @l cannot be there beside those before it; NULL: it can, and is one of them from now on. */
static const char *conflict(struct kept *k, const struct mz_gw_listener *l)
{
    const char *p = l->spec->protocol;
    const enum layer a = layer_of(p);
    if (a == LAYER_OTHER) {
        if (kept_at(k, l, "", p))
            return "HostnameConflict";
        keep(k, l, "", p);
        return NULL;
    }
    if (kept_at(k, l, "4", "") || (a == LAYER_4 && kept_at(k, l, "7", "")))
        return "ProtocolConflict";
    const struct mz_gw_listener *same = a == LAYER_7 ? kept_at(k, l, "7 ", host_of(l->spec)) : NULL;
    if (same)
        return strcmp(same->spec->protocol, p) != 0 ? "ProtocolConflict" : "HostnameConflict";
    keep(k, l, a == LAYER_4 ? "4" : "7", "");
    if (a == LAYER_7)
        keep(k, l, "7 ", host_of(l->spec));
    return NULL;
}

static void find_among(struct kept *k, struct mz_gw *gw)
{
    for (size_t i = 0; i < gw->listeners_n; i++)
        gw->listeners[i].conflict = conflict(k, &gw->listeners[i]);
}

void gw_find_conflicts(struct gw_making *g, struct mz_gw *gateway, struct mz_gw *const *sets,
                       size_t sets_n)
{
    struct kept k = { .g = g };
    mz_map_init(&k.at, MZ_MEM_CONFIG);
    find_among(&k, gateway);
    for (size_t i = 0; i < sets_n; i++)
        find_among(&k, sets[i]);
    mz_map_fini(&k.at);
}
