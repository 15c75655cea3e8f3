#include "control/model/gateway.h"

#include <ctype.h>
#include <stdlib.h>

#include "control/model/model_priv.h"

static int compare(const void *a, const void *b)
{
    const struct mz_gateway *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->name, (*y)->name);
    return c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
}

/* ---- Secrets that servers name by "kubernetes-gateway://" ---- */

struct references {
    struct model_draft *d;
    struct mz_gateway *g;
    MZ_VEC(struct mz_str) v;
};

/* Of its own namespace, or another one lets it. Where documents of the Gateway API were read that was looked at. */
static bool is_allowed(const struct references *r, struct mz_str rest)
{
    const ptrdiff_t slash = mz_str_chr(rest, '/');
    const struct mz_str ns = { rest.p, slash < 0 ? 0 : (size_t)slash };
    if (r->g->by_service || slash <= 0)
        return slash > 0;
    return mz_str_eq(ns, r->g->ns) ||
           model_granted(r->d, "Gateway", r->g->ns, "Secret", ns, rest.p + slash + 1);
}

static void refer(struct references *r, const char *name, const ist_ServerTLSSettings *t)
{
    const struct mz_str scheme = MZ_STR("kubernetes-gateway://"), s = mz_str_c(name);
    struct mz_arena *a = r->d->m->arena;
    if (!mz_str_starts(s, scheme) || !is_allowed(r, mz_str_skip(s, scheme.n)))
        return;
    *mz_vec_push(&r->v, MZ_MEM_CONFIG) = mz_arena_dup(a, s);
    if (t->mode == ist_ServerTLSSettings_TLSmode_MUTUAL ||
        t->mode == ist_ServerTLSSettings_TLSmode_OPTIONAL_MUTUAL)
        *mz_vec_push(&r->v, MZ_MEM_CONFIG) = mz_arena_printf(a, "%s-cacert", name);
}

static void find_references(struct model_draft *d, struct mz_gateway *g)
{
    struct references r = { .d = d, .g = g };
    for (size_t i = 0; i < g->spec->n_servers; i++) {
        const ist_ServerTLSSettings *t = g->spec->servers[i]->tls;
        for (size_t k = 0; t && k < t->n_credential_names; k++)
            refer(&r, t->credential_names[k], t);
        if (t && !t->n_credential_names)
            refer(&r, t->credential_name, t);
        if (t)
            refer(&r, t->ca_cert_credential_name, t);
    }
    struct mz_str *v = mz_arena_alloc(d->m->arena, r.v.n * sizeof(*v));
    if (r.v.n)
        memcpy(v, r.v.v, r.v.n * sizeof(*v));
    g->secrets = v;
    g->secrets_n = r.v.n;
    for (size_t i = 0; i < r.v.n; i++)
        g->hash = model_hash_str(g->hash, v[i]);
    mz_vec_free(&r.v, MZ_MEM_CONFIG);
}

static const struct mz_gateway *make(struct model_draft *d, const struct mz_doc *doc)
{
    struct mz_gateway *g = mz_arena_new0(d->m->arena, struct mz_gateway);
    g->ns = mz_arena_dup(d->m->arena, doc->ns);
    g->name = mz_arena_dup(d->m->arena, doc->name);
    g->created = mz_arena_dup(d->m->arena, doc->created);
    g->spec = (const ist_Gateway *)mz_doc_body(doc, d->m->arena);
    g->selector = model_labels(d, (const void *const *)g->spec->selector, g->spec->n_selector);
    g->hash = model_hash_str(model_hash_str(doc->version, g->ns), g->name);
    find_references(d, g);
    return g;
}

void model_made_gateway(struct model_draft *d, struct mz_gateway *g)
{
    const struct mz_str bytes = mz_msg_pack_alloc(&g->spec->base, d->scratch);
    g->hash = model_hash_str(model_hash_str(mz_xxh64(bytes.p, bytes.n, 1), g->ns), g->name);
    g->hash = model_hash_labels(model_hash_str(g->hash, g->services_ns), g->selector);
    for (size_t i = 0; i < g->services_n; i++)
        g->hash = model_hash_str(g->hash, g->services[i]);
    g->hash = model_hash_str(g->hash, g->account);
    find_references(d, g);
    *mz_vec_push(&d->gateways, MZ_MEM_CONFIG) = g;
}

void model_add_gateways(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *docs = model_docs(d, MZ_KIND_GATEWAY, &n);
    const struct mz_gateway **v = mz_arena_alloc(d->m->arena, (n + d->gateways.n) * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = make(d, docs[i]);
    mz_vec_foreach (g, &d->gateways)
        v[n++] = *g;
    if (n)
        qsort(v, n, sizeof(*v), compare);
    for (size_t i = 0; i < n; i++)
        d->m->gateways_hash = mz_xxh64(&v[i]->hash, sizeof(v[i]->hash), d->m->gateways_hash);
    d->m->gateways = v;
    d->m->gateways_n = n;
}

bool mz_gateway_serves(const struct mz_gateway *g, const struct mz_service *s)
{
    for (size_t i = 0; i < g->services_n; i++)
        if (mz_str_eq(g->services[i], s->host) && mz_str_eq(g->services_ns, s->ns))
            return true;
    return false;
}

bool mz_gateway_selects(const struct mz_gateway *g, struct mz_labels labels)
{
    return !g->selector.n || mz_labels_match(g->selector, labels);
}

bool mz_server_passes_through(const ist_Server *s)
{
    return s->tls && (s->tls->mode == ist_ServerTLSSettings_TLSmode_PASSTHROUGH ||
                      s->tls->mode == ist_ServerTLSSettings_TLSmode_AUTO_PASSTHROUGH);
}

bool mz_server_is_http(const ist_Server *s)
{
    const enum mz_protocol p = mz_protocol_parse(mz_str_c(s->port->protocol));
    return mz_protocol_is_http(p) ||
           (p == MZ_PROTOCOL_HTTPS && s->tls && !mz_server_passes_through(s));
}

bool mz_is_cipher(struct mz_str name)
{
    static const char *const known[] = {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
    };
    if (!name.n || !isalnum((unsigned char)*name.p) || mz_str_eq(name, MZ_STR("ALL")))
        return true; /* an expression: what it names is the proxy's to say */
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (mz_str_eq(name, mz_str_c(known[i])))
            return true;
    return false;
}
