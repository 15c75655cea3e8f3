/* BackendTLSPolicy: how services are reached whose own TLS is ended by themselves. One DestinationRule for each target and host. */
#include <stdlib.h>

#include "control/model/gateway_api_priv.h"

struct policy { /* one target of a document, resolved */
    const struct mz_doc *doc;
    const k8s_PolicyTargetReference *ref;
    const ist_ClientTLSSettings *tls;
    bool entry; /* a ServiceEntry */
    const char *host;
    uint32_t port; /* 0: every one */
};
struct policies {
    struct policy *v;
    size_t n_v;
};

/* ---- which Gateways lead to a service ---- */

void gw_note_backend(struct gw_making *g, const struct gw_route *r, k8s_BackendRef *const *v,
                     size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (gw_or(v[i]->group, "")[0] || strcmp(gw_or(v[i]->kind, "Service"), "Service") != 0)
            continue;
        const struct mz_str ns = v[i]->namespace_ ? mz_str_c(v[i]->namespace_->value) : r->doc->ns;
        const struct mz_str key =
            mz_arena_printf(g->d->scratch, "%.*s/%s", MZ_STR_ARG(ns), v[i]->name);
        struct gw_backend *b = mz_map_get(&g->backends, key);
        if (!b) {
            b = mz_arena_new0(g->d->scratch, struct gw_backend);
            (void)mz_map_put(&g->backends, key, b);
        }
        for (size_t k = 0; k < r->refs_n; k++) {
            const k8s_ParentReference *p = r->refs[k];
            const struct mz_str in = p->namespace_ ? mz_str_c(p->namespace_->value) : r->doc->ns;
            if (strcmp(gw_or(p->group, GW_GROUP), GW_GROUP) == 0 &&
                strcmp(gw_or(p->kind, "Gateway"), "Gateway") == 0)
                GW_ADD(g->d->scratch, b, gateways) =
                    mz_arena_printf(g->a, "%.*s/%s", MZ_STR_ARG(in), p->name);
        }
    }
}

/* ---- what a document says ---- */

static char *root_of(struct gw_making *g, const struct mz_doc *doc,
                     const k8s_BackendTLSPolicyValidation *v, struct mz_gw_policy_target *t)
{
    static char none[] = "", invalid[] = "invalid://"; /* nobody has it: nothing gets through */
    if (v->wellknowncacertificates) {
        if (strcmp(v->wellknowncacertificates->value, "System") != 0)
            (void)gw_fail(g, &t->accepted, "Invalid", "Unknown wellKnownCACertificates: %s",
                          v->wellknowncacertificates->value);
        return none;
    }
    if (!v->n_cacertificaterefs)
        return none;
    const k8s_NamedReference *r = v->cacertificaterefs[0];
    const bool map = !r->group[0] && strcmp(r->kind, "ConfigMap") == 0;
    const struct mz_doc *found = map ? gw_doc(g, "ConfigMap", doc->ns, r->name) : NULL;
    if (v->n_cacertificaterefs > 1)
        t->note = MZ_STR("; warning: only the first caCertificateRefs will be used");
    if (!map)
        (void)gw_fail(g, &t->refs, "InvalidKind",
                      "Certificate reference invalid: unsupported reference kind: %s", r->kind);
    else if (!found)
        (void)gw_fail(g, &t->refs, "InvalidCACertificateRef",
                      "Certificate reference not found: reference %.*s/%s (of kind %s) not found",
                      MZ_STR_ARG(doc->ns), r->name, r->kind);
    else if (gw_has_root(g, found, &t->refs, "InvalidCACertificateRef", "Certificate invalid"))
        return GW_PRINTF(g->a, "configmap://%.*s/%s", MZ_STR_ARG(doc->ns), r->name);
    (void)gw_fail(g, &t->accepted, "NoValidCACertificate", "Certificate reference invalid: %.*s",
                  MZ_STR_ARG(t->refs.text));
    return invalid;
}

static ist_ClientTLSSettings *tls_of(struct gw_making *g, const struct mz_doc *doc,
                                     const k8s_BackendTLSPolicy *m, struct mz_gw_policy_target *t)
{
    const k8s_BackendTLSPolicyValidation *v = m->validation;
    ist_ClientTLSSettings *s = GW_MAKE(g->a, ClientTLSSettings);
    s->mode = ist_ClientTLSSettings_TLSmode_SIMPLE;
    s->sni = v->hostname;
    for (size_t i = 0; i < v->n_subjectaltnames; i++) {
        const k8s_SubjectAltName *n = v->subjectaltnames[i];
        if (strcmp(n->type, "Hostname") == 0)
            GW_ADD(g->a, s, subject_alt_names) = n->hostname;
        else if (strcmp(n->type, "URI") == 0)
            GW_ADD(g->a, s, subject_alt_names) = n->uri;
    }
    s->credential_name = root_of(g, doc, v, t);
    return s;
}

/* ---- targets ---- */

struct found_ports {
    struct found_port {
        const char *name;
        uint32_t number;
    } * v;
    size_t n_v;
};

struct found {
    bool entry, there;
    char **hosts;
    size_t n_hosts;
    struct found_ports ports;
};

static struct found find_target(struct gw_making *g, const struct mz_doc *doc,
                                const k8s_PolicyTargetReference *t)
{
    struct found f = { .entry = strcmp(t->kind, "ServiceEntry") == 0 };
    const struct mz_doc *d = gw_doc(g, f.entry ? "ServiceEntry" : "Service", doc->ns, t->name);
    f.there = d != NULL;
    if (!d)
        return f;
    if (f.entry) {
        const ist_ServiceEntry *e = (const ist_ServiceEntry *)mz_doc_body(d, g->a);
        f.hosts = e->hosts;
        f.n_hosts = e->n_hosts;
        for (size_t i = 0; i < e->n_ports; i++)
            GW_ADD(g->a, &f.ports, v) =
                (struct found_port){ e->ports[i]->name, e->ports[i]->number };
        return f;
    }
    const k8s_Service *s = (const k8s_Service *)mz_doc_body(d, g->a);
    GW_ADD(g->a, &f, hosts) = GW_PRINTF(g->a, "%s.%.*s.svc.%.*s", t->name, MZ_STR_ARG(doc->ns),
                                        MZ_STR_ARG(g->d->m->mesh.domain));
    for (size_t i = 0; s->spec && i < s->spec->n_ports; i++)
        GW_ADD(g->a, &f.ports, v) =
            (struct found_port){ s->spec->ports[i]->name, (uint32_t)s->spec->ports[i]->port };
    return f;
}

static bool find_port(struct gw_making *g, const struct mz_doc *doc, const struct found *f,
                      const k8s_PolicyTargetReference *t, uint32_t *out, struct mz_gw_error *e)
{
    const char *section = gw_or(t->sectionname, "");
    *out = 0;
    if (!section[0])
        return true;
    for (size_t i = 0; i < f->ports.n_v; i++)
        if (strcmp(f->ports.v[i].name, section) == 0) {
            *out = f->ports.v[i].number;
            return true;
        }
    return gw_fail(g, e, "TargetNotFound",
                   "targetRefs invalid: sectionName \"%s\" does not exist in %s %.*s/%s", section,
                   t->kind, MZ_STR_ARG(doc->ns), t->name);
}

static bool is_known(const k8s_PolicyTargetReference *t)
{
    return (!t->group[0] && strcmp(t->kind, "Service") == 0) ||
           (strcmp(t->group, "networking.istio.io") == 0 && strcmp(t->kind, "ServiceEntry") == 0);
}

static bool same_target(const k8s_PolicyTargetReference *a, const k8s_PolicyTargetReference *b)
{
    return strcmp(a->group, b->group) == 0 && strcmp(a->kind, b->kind) == 0 &&
           strcmp(a->name, b->name) == 0 &&
           strcmp(gw_or(a->sectionname, ""), gw_or(b->sectionname, "")) == 0;
}

/* Documents come oldest first: who was there before has it. */
static bool is_taken(struct gw_making *g, const struct policies *l, const struct mz_doc *doc,
                     const k8s_PolicyTargetReference *t, struct mz_gw_error *e)
{
    for (size_t i = 0; i < l->n_v; i++)
        if (l->v[i].doc != doc && mz_str_eq(l->v[i].doc->ns, doc->ns) &&
            same_target(l->v[i].ref, t)) {
            (void)gw_fail(g, e, "Conflicted",
                          "Conflicts with BackendTLSPolicy \"%.*s\" targeting the same backend",
                          MZ_STR_ARG(l->v[i].doc->name));
            return true;
        }
    return false;
}

static void add_target(struct gw_making *g, const struct mz_doc *doc,
                       const ist_ClientTLSSettings *tls, struct mz_gw_policy_target *t,
                       struct policies *l)
{
    uint32_t port;
    struct mz_gw_error bad = { 0 };
    const struct found f = is_known(t->ref) ? find_target(g, doc, t->ref) : (struct found){ 0 };
    if (!is_known(t->ref))
        (void)gw_fail(g, &bad, "TargetNotFound", "targetRefs invalid: unsupported kind %s",
                      t->ref->kind);
    else if (!f.there)
        (void)gw_fail(g, &bad, "TargetNotFound",
                      "targetRefs invalid: reference %.*s/%s (of kind %s) not found",
                      MZ_STR_ARG(doc->ns), t->ref->name, t->ref->kind);
    else if (find_port(g, doc, &f, t->ref, &port, &bad) && !is_taken(g, l, doc, t->ref, &bad))
        for (size_t i = 0; i < f.n_hosts; i++)
            GW_ADD(g->d->scratch, l, v) =
                (struct policy){ doc, t->ref, tls, f.entry, f.hosts[i], port };
    if (bad.reason)
        t->accepted = bad;
}

static int compare_texts(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

static void find_gateways(struct gw_making *g, const struct mz_doc *doc, struct mz_gw_policy *p)
{
    struct {
        struct mz_str *v;
        size_t n_v;
    } l = { 0 };
    for (size_t i = 0; i < p->targets_n; i++) {
        const struct gw_backend *b =
            mz_map_get(&g->backends, mz_arena_printf(g->d->scratch, "%.*s/%s", MZ_STR_ARG(doc->ns),
                                                     p->targets[i].ref->name));
        for (size_t k = 0; b && k < b->n_gateways; k++)
            GW_ADD(g->a, &l, v) = b->gateways[k];
    }
    size_t n = 0;
    if (l.n_v)
        qsort(l.v, l.n_v, sizeof(*l.v), compare_texts);
    for (size_t i = 0; i < l.n_v; i++)
        if (!n || !mz_str_eq(l.v[n - 1], l.v[i]))
            l.v[n++] = l.v[i];
    p->gateways = l.v;
    p->gateways_n = n;
}

/* ---- DestinationRules ---- */

static int compare_policies(const void *a, const void *b)
{
    const struct policy *x = a, *y = b;
    int c = mz_str_cmp(x->doc->ns, y->doc->ns);
    c = c ? c : strcmp(x->ref->kind, y->ref->kind);
    c = c ? c : strcmp(x->ref->name, y->ref->name);
    c = c ? c : strcmp(x->host, y->host);
    c = c ? c : (x->port > y->port) - (x->port < y->port);
    c = c ? c : mz_str_cmp(x->doc->created, y->doc->created);
    return c ? c : mz_str_cmp(x->doc->name, y->doc->name);
}

static bool same_rule(const struct policy *a, const struct policy *b)
{
    return mz_str_eq(a->doc->ns, b->doc->ns) && strcmp(a->ref->kind, b->ref->kind) == 0 &&
           strcmp(a->ref->name, b->ref->name) == 0 && strcmp(a->host, b->host) == 0;
}

static void add_rule(struct gw_making *g, const struct policy *v, size_t n)
{
    ist_DestinationRule *m = GW_MAKE(g->a, DestinationRule);
    ist_TrafficPolicy *t = m->traffic_policy = GW_MAKE(g->a, TrafficPolicy);
    struct mz_str host = mz_str_c(v->host);
    m->host = gw_text(g->a, host);
    for (size_t i = 0; i < n; i++) {
        if (i && v[i].port == v[i - 1].port)
            continue; /* the oldest */
        if (!v[i].port) {
            t->tls = (ist_ClientTLSSettings *)(uintptr_t)v[i].tls;
            continue;
        }
        ist_TrafficPolicy_PortTrafficPolicy *p = GW_MAKE(g->a, TrafficPolicy_PortTrafficPolicy);
        p->port = GW_MAKE(g->a, networking_PortSelector);
        p->port->number = v[i].port;
        p->tls = (ist_ClientTLSSettings *)(uintptr_t)v[i].tls;
        GW_ADD(g->a, t, port_level_settings) = p;
    }
    char *dashed = gw_text(g->a, host);
    for (size_t i = 0; i < host.n; i++)
        if (dashed[i] == '.')
            dashed[i] = '-';
    model_made_rule(g->d, mz_arena_dup(g->a, v->doc->ns),
                    v->entry ? mz_arena_printf(g->a, "%s~%s~" GW_INTERNAL, v->ref->name, dashed)
                             : mz_arena_printf(g->a, "%s~" GW_INTERNAL, v->ref->name),
                    m);
}

static bool is_ignored(struct gw_making *g, const struct mz_doc *doc)
{
    return mz_str_ieq(gw_annotation(g, doc, "istio.io/ignore-policy-attachment"), MZ_STR("true"));
}

void gw_add_policies(struct gw_making *g, struct mz_gateway_api *out)
{
    struct policies l = { 0 };
    const struct mz_doc *const *docs =
        model_oldest_first(g->d, MZ_KIND_BACKEND_TLS_POLICY, &out->policies_n);
    struct mz_gw_policy *v = mz_arena_alloc0(g->a, out->policies_n * sizeof(*v));
    for (size_t i = 0; i < out->policies_n; i++) {
        const k8s_BackendTLSPolicy *m = (const k8s_BackendTLSPolicy *)mz_doc_body(docs[i], g->a);
        struct mz_gw_policy_target all = { 0 },
                                   *t = mz_arena_alloc0(g->a, m->n_targetrefs * sizeof(*t));
        const bool ignored = is_ignored(g, docs[i]);
        const ist_ClientTLSSettings *tls = ignored ? NULL : tls_of(g, docs[i], m, &all);
        if (ignored)
            (void)gw_fail(g, &all.accepted, "IgnoredByIstio",
                          "Ignored by Istio due to annotation "
                          "istio.io/ignore-policy-attachment=true");
        v[i] = (struct mz_gw_policy){ mz_arena_dup(g->a, docs[i]->ns),
                                      mz_arena_dup(g->a, docs[i]->name),
                                      mz_arena_dup(g->a, docs[i]->key),
                                      gw_generation(g, docs[i]),
                                      t,
                                      m->n_targetrefs,
                                      NULL,
                                      0 };
        for (size_t k = 0; k < m->n_targetrefs; k++) {
            t[k] = all;
            t[k].ref = m->targetrefs[k];
            if (!ignored)
                add_target(g, docs[i], tls, &t[k], &l);
        }
        find_gateways(g, docs[i], &v[i]);
    }
    out->policies = v;
    if (l.n_v)
        qsort(l.v, l.n_v, sizeof(*l.v), compare_policies);
    for (size_t i = 0, end; i < l.n_v; i = end) {
        for (end = i + 1; end < l.n_v && same_rule(&l.v[end], &l.v[i]);)
            end++;
        add_rule(g, &l.v[i], end - i);
    }
}
