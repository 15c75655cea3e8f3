/* Secrets by name for proxies that may have them: whoever asks is who its certificate or token says, whatever its node tells. */
#include "base/clock.h"
#include "control/model/gateway.h"
#include "control/model/secret.h"
#include "control/translate/tell.h"

struct wanted {
    enum { OF_NAMESPACE, OF_GATEWAY, OF_CONFIG_MAP } from;
    struct mz_str ns, name; /* of the document, perhaps with "-cacert" behind it */
    bool root;              /* roots, not a certificate with its key */
};
static const struct mz_str behind = MZ_STR_INIT("-cacert");

/* ---- names ---- */

/* "kubernetes://NAME" is of the proxy's namespace; the others name one. */
static bool parse(const struct mz_view *v, struct mz_str text, struct wanted *out)
{
    static const struct mz_str schemes[] = { [OF_NAMESPACE] = MZ_STR_INIT("kubernetes://"),
                                             [OF_GATEWAY] = MZ_STR_INIT("kubernetes-gateway://"),
                                             [OF_CONFIG_MAP] = MZ_STR_INIT("configmap://") };
    unsigned k = 0;
    while (k < MZ_COUNT(schemes) && !mz_str_starts(text, schemes[k]))
        k++;
    if (k == MZ_COUNT(schemes))
        return false;
    struct mz_str rest = mz_str_skip(text, schemes[k].n);
    const ptrdiff_t slash = mz_str_chr(rest, '/');
    *out = (struct wanted){ .from = k, .ns = v->proxy->verified_ns, .name = rest };
    if (slash >= 0) {
        out->ns = (struct mz_str){ rest.p, (size_t)slash };
        out->name = mz_str_skip(rest, (size_t)slash + 1);
    }
    out->root = k == OF_CONFIG_MAP || mz_str_ends(out->name, behind);
    return out->ns.n && out->name.n && mz_str_chr(out->name, '/') < 0 &&
           (slash >= 0 || k == OF_NAMESPACE);
}

static const struct mz_doc *find(const struct mz_view *v, const char *kind, struct mz_str ns,
                                 struct mz_str name, struct mz_arena *a)
{
    return mz_map_get(v->model->secrets,
                      mz_arena_printf(a, "%s/%.*s/%.*s", kind, MZ_STR_ARG(ns), MZ_STR_ARG(name)));
}

/* Roots may stand in a document of their own, or in that of the certificate. NULL: there is none. */
static const struct mz_doc *document(const struct mz_view *v, const struct wanted *w,
                                     struct mz_arena *a)
{
    const bool map = w->from == OF_CONFIG_MAP;
    const char *kind = map ? "ConfigMap" : "Secret";
    const struct mz_str stripped = { w->name.p, mz_str_ends(w->name, behind) ? w->name.n - behind.n
                                                                             : w->name.n };
    const struct mz_doc *doc = map ? NULL : find(v, kind, w->ns, w->name, a);
    return doc || !w->root ? doc : find(v, kind, w->ns, stripped, a);
}

/* ---- who may ---- */

static bool is_behind(const struct mz_view *v, const struct mz_gateway *g)
{
    if (!g->by_service)
        return mz_gateway_selects(g, v->workload ? v->workload->labels : v->proxy->labels);
    for (size_t i = 0; i < v->targets.n; i++)
        if (mz_gateway_serves(g, v->targets.v[i].service))
            return true;
    return false;
}

/* One of the gateways that the proxy serves names it, and is the proxy's own. */
static bool is_named_by_gateway(const struct mz_view *v, struct mz_str text)
{
    const struct mz_proxy *p = v->proxy;
    for (size_t i = 0; p->type == MZ_PROXY_ROUTER && i < v->model->gateways_n; i++) {
        const struct mz_gateway *g = v->model->gateways[i];
        const struct mz_str ns = g->by_service ? g->services_ns : g->ns;
        bool named = false;
        for (size_t k = 0; k < g->secrets_n; k++)
            named |= mz_str_eq(g->secrets[k], text);
        if (named && mz_str_eq(ns, p->verified_ns) &&
            (!g->account.n || mz_str_eq(g->account, p->verified_account)) && is_behind(v, g))
            return true;
    }
    return false;
}

/* Roots in ConfigMaps are nobody's secret; clients of other namespaces verify a server by them. */
static bool may_have(const struct mz_view *v, struct mz_str text, const struct wanted *w)
{
    if (w->from == OF_GATEWAY)
        return is_named_by_gateway(v, text);
    return w->from == OF_CONFIG_MAP || mz_str_eq(w->ns, v->proxy->verified_ns);
}

/* ---- what it is ---- */

static pb_DataSource *source(struct mz_arena *a, struct mz_str bytes)
{
    if (!bytes.n)
        return NULL;
    pb_DataSource *d = TR_NEW(a, DataSource);
    d->specifier_case = pb_DataSource_SPECIFIER_INLINE_BYTES;
    d->inline_bytes = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    return d;
}

/* False: a proxy would refuse it. */
static bool fill(const struct wanted *w, const struct mz_secret *s, struct mz_arena *a,
                 pb_Secret *out, struct mz_err *err)
{
    if (w->root) {
        if (!mz_secret_has_root(s, err) || !mz_secret_has_crl(s, err))
            return false;
        out->type_case = pb_Secret_TYPE_VALIDATION_CONTEXT;
        out->validation_context = TR_NEW(a, CertificateValidationContext);
        out->validation_context->trusted_ca = source(a, s->root);
        out->validation_context->crl = source(a, s->crl);
        return true;
    }
    if (!mz_secret_has_pair(s, err) || !mz_secret_pair_fits(s, err))
        return false;
    out->type_case = pb_Secret_TYPE_TLS_CERTIFICATE;
    out->tls_certificate = TR_NEW(a, TlsCertificate);
    out->tls_certificate->certificate_chain = source(a, s->cert);
    out->tls_certificate->private_key = source(a, s->key);
    out->tls_certificate->ocsp_staple = source(a, s->staple);
    return true;
}

static struct mz_out *make(struct mz_view *v, struct mz_str text, const struct wanted *w,
                           const struct mz_doc *doc, struct mz_arena *a)
{
    struct mz_secret s;
    struct mz_err err = { .path = "", .msg = "" };
    pb_Secret *m = TR_NEW(a, Secret);
    mz_secret_open(doc, a, &s);
    m->name = tr_text(a, text);
    if (!fill(w, &s, a, m, &err)) {
        v->t->secrets_refused++;
        tr_tell(v, doc->key, "not given to proxies, which keep what they have: %s", err.msg);
        return NULL;
    }
    if (!mz_secret_in_time(w->root ? s.root : s.cert, (int64_t)(mz_clock->wall_us() / 1000000))) {
        v->t->secrets_refused++;
        tr_tell(v, doc->key, "the certificate is expired or not yet valid");
    }
    return mz_out_create(text, &m->base);
}

static struct mz_out *refuse(struct mz_view *v, struct mz_str text, const char *why)
{
    v->t->secrets_refused++;
    tr_tell(v, v->proxy->id, "asks for %.*s: %s", (int)(text.n < 200 ? text.n : 200), text.p, why);
    return NULL;
}

static struct mz_out *look_up(struct mz_view *v, struct mz_str text, struct mz_arena *a)
{
    struct wanted w;
    struct mz_key k;
    if (!v->proxy->verified_ns.n)
        return refuse(v, MZ_STR("secrets"),
                      "they are for proxies that came over TLS and said who they are");
    if (!parse(v, text, &w))
        return refuse(v, text, "not a name of a Secret or ConfigMap");
    if (!may_have(v, text, &w))
        return refuse(v, text, "its namespace or gateways do not let it have that");
    const struct mz_doc *doc = document(v, &w, a);
    if (!doc)
        return refuse(v, text, "there is none");
    mz_key_init(&k, 's'); /* of this document: no other one's content is ever found by it */
    mz_key_str(&k, text);
    mz_key_str(&k, doc->key);
    mz_key_u64(&k, doc->version);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o && (o = make(v, text, &w, doc, a)))
        mz_cache_put(v->t->cache, &k, o);
    return o;
}

struct mz_out *tr_secret(struct mz_view *v, struct mz_str name)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_out *o = look_up(v, name, a);
    mz_arena_destroy(a);
    return o;
}
