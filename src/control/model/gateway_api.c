/* The Gateway API as a whole: classes, Gateways with their listeners, then everything that attaches itself to them. */
#include "control/model/gateway_api_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- small things ---- */

ProtobufCMessage *gw_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = mz_arena_alloc0(a, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

void *gw_grow(struct mz_arena *a, void *v, size_t n, size_t size)
{
    if (n & (n - 1) || (n && n < 4)) /* room is a power of two, four at least */
        return v;
    void *own = mz_arena_alloc(a, (n ? 2 * n : 4) * size);
    if (n)
        memcpy(own, v, n * size);
    return own;
}

char *gw_text(struct mz_arena *a, struct mz_str s)
{
    return (char *)(uintptr_t)mz_arena_dup(a, s).p;
}

bool gw_fail(struct gw_making *g, struct mz_gw_error *e, const char *reason, const char *fmt, ...)
{
    char text[1200];
    va_list ap;
    if (e->reason)
        return false;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    *e = (struct mz_gw_error){ reason, mz_arena_dup(g->a, mz_str_c(text)) };
    return false;
}

void gw_join(struct gw_making *g, struct mz_gw_error *all, const struct mz_gw_error *one)
{
    if (!all->reason)
        *all = *one;
    else if (one->reason)
        all->text =
            mz_arena_printf(g->a, "%.*s; %.*s", MZ_STR_ARG(all->text), MZ_STR_ARG(one->text));
}

ist_StringMatch *gw_match(struct gw_making *g, enum gw_how how, char *text)
{
    ist_StringMatch *m = GW_MAKE(g->a, StringMatch);
    if (how == GW_EXACT) {
        m->match_type_case = ist_StringMatch_MATCH_TYPE_EXACT;
        m->exact = text;
    } else if (how == GW_PREFIX) {
        m->match_type_case = ist_StringMatch_MATCH_TYPE_PREFIX;
        m->prefix = text;
    } else {
        m->match_type_case = ist_StringMatch_MATCH_TYPE_REGEX;
        m->regex = text;
    }
    return m;
}

struct mz_str gw_annotation(struct gw_making *g, const struct mz_doc *doc, const char *key)
{
    const k8s_ObjectMeta *m = mz_doc_meta(doc, g->d->scratch);
    for (size_t i = 0; i < m->n_annotations; i++)
        if (strcmp(m->annotations[i]->key, key) == 0)
            return mz_str_c(m->annotations[i]->value);
    return (struct mz_str){ 0 };
}

struct mz_labels gw_labels(struct gw_making *g, const struct mz_doc *doc)
{
    const k8s_ObjectMeta *m = mz_doc_meta(doc, g->d->scratch);
    struct mz_label *v = mz_arena_alloc(g->d->scratch, m->n_labels * sizeof(*v));
    for (size_t i = 0; i < m->n_labels; i++)
        v[i] = (struct mz_label){ mz_str_c(m->labels[i]->key), mz_str_c(m->labels[i]->value) };
    return mz_labels_make(g->d->scratch, v, m->n_labels);
}

int64_t gw_generation(struct gw_making *g, const struct mz_doc *doc)
{
    return mz_doc_meta(doc, g->d->scratch)->generation;
}

const struct mz_doc *gw_doc(struct gw_making *g, const char *kind, struct mz_str ns,
                            const char *name)
{
    return mz_store_get(g->d->store,
                        mz_arena_printf(g->d->scratch, "%s/%.*s/%s", kind, MZ_STR_ARG(ns), name));
}

/* ---- classes ---- */

#define UNMANAGED "istio.io/unmanaged-gateway"

static bool is_ours(const char *controller)
{
    return strcmp(controller, MZ_GW_CONTROLLER) == 0 || strcmp(controller, UNMANAGED) == 0;
}

/* Two classes are there without a document. NULL: it is of others. */
static const char *controller_of(struct gw_making *g, const char *class)
{
    const struct mz_doc *doc =
        mz_store_get(g->d->store, mz_arena_printf(g->d->scratch, "GatewayClass/%s", class));
    const char *controller =
        doc ? ((const k8s_GatewayClass *)mz_doc_body(doc, g->d->scratch))->controllername
        : strcmp(class, "istio") == 0        ? MZ_GW_CONTROLLER
        : strcmp(class, "istio-remote") == 0 ? UNMANAGED
                                             : "";
    return is_ours(controller) ? controller : NULL;
}

static void add_classes(struct gw_making *g, struct mz_gateway_api *out)
{
    size_t n;
    const struct mz_doc *const *docs = mz_store_list(g->d->store, MZ_KIND_GATEWAY_CLASS, &n);
    struct mz_gw_class *v = mz_arena_alloc(g->a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        if (is_ours(
                ((const k8s_GatewayClass *)mz_doc_body(docs[i], g->d->scratch))->controllername))
            v[out->classes_n++] =
                (struct mz_gw_class){ mz_arena_dup(g->a, docs[i]->name),
                                      mz_arena_dup(g->a, docs[i]->key), gw_generation(g, docs[i]) };
    out->classes = v;
}

/* ---- Gateways ---- */

/* No address, or one that is no name: the field's control plane would run the proxies. */
static bool is_managed(const k8s_Gateway *m)
{
    if (m->n_addresses != 1)
        return m->n_addresses == 0;
    return strcmp(gw_or(m->addresses[0]->type, "IPAddress"), "IPAddress") == 0;
}

static void add_service(struct gw_making *g, struct mz_gw *gw, const char *name)
{
    struct mz_str *v = (struct mz_str *)(uintptr_t)gw->services;
    if (strchr(name, '.'))
        v[gw->services_n++] = mz_str_c(gw_text(g->a, mz_str_c(name)));
    else
        v[gw->services_n++] = mz_arena_printf(g->a, "%s.%.*s.svc.%.*s", name, MZ_STR_ARG(gw->ns),
                                              MZ_STR_ARG(g->d->m->mesh.domain));
}

static void find_services(struct gw_making *g, struct mz_gw *gw)
{
    const k8s_Gateway *m = gw->spec;
    struct mz_str skipped = MZ_STR("");
    gw->services = mz_arena_alloc(g->a, (m->n_addresses + 1) * sizeof(*gw->services));
    if (is_managed(m)) {
        const struct mz_str account = gw_annotation(g, gw->doc, "gateway.istio.io/service-account");
        gw->account =
            account.n ? mz_arena_dup(g->a, account)
                      : mz_arena_printf(g->a, "%.*s-%s", MZ_STR_ARG(gw->name), m->gatewayclassname);
        const struct mz_str own = gw_annotation(g, gw->doc, "gateway.istio.io/name-override");
        const char *name = own.n ? own.p
                                 : mz_arena_printf(g->d->scratch, "%.*s-%s", MZ_STR_ARG(gw->name),
                                                   m->gatewayclassname)
                                       .p;
        ((struct mz_str *)(uintptr_t)gw->services)[gw->services_n++] = mz_arena_printf(
            g->a, "%s.%.*s.svc.%.*s", name, MZ_STR_ARG(gw->ns), MZ_STR_ARG(g->d->m->mesh.domain));
        return;
    }
    for (size_t i = 0; i < m->n_addresses; i++) {
        if (strcmp(gw_or(m->addresses[i]->type, "Hostname"), "Hostname") == 0)
            add_service(g, gw, m->addresses[i]->value);
        else
            skipped = mz_arena_printf(g->d->scratch, "%.*s%s%s", MZ_STR_ARG(skipped),
                                      skipped.n ? " " : "", m->addresses[i]->value);
    }
    if (skipped.n)
        (void)gw_fail(g, &gw->error, "UnsupportedAddress",
                      "only Hostname is supported, ignoring [%.*s]", MZ_STR_ARG(skipped));
    else if (gw_annotation(g, gw->doc, "networking.istio.io/service-type").n)
        (void)gw_fail(g, &gw->error, "DeprecatedField",
                      "annotation networking.istio.io/service-type is deprecated, use "
                      "Spec.Infrastructure.Routeability");
}

static void check_parameters(struct gw_making *g, struct mz_gw *gw)
{
    const k8s_LocalParametersReference *p =
        gw->spec->infrastructure ? gw->spec->infrastructure->parametersref : NULL;
    if (!p || gw->error.reason)
        return;
    if (p->group[0] || strcmp(p->kind, "ConfigMap") != 0)
        (void)gw_fail(g, &gw->error, "InvalidParameters",
                      "Unsupported parametersRef group/kind %s/%s, only ConfigMap is supported",
                      p->group, p->kind);
    else if (!gw_doc(g, "ConfigMap", gw->ns, p->name))
        (void)gw_fail(g, &gw->error, "InvalidParameters",
                      "parametersRef ConfigMap %.*s/%s does not exist", MZ_STR_ARG(gw->ns),
                      p->name);
}

static bool is_lax(const k8s_TLSConfig *t)
{
    return t && t->validation && strcmp(t->validation->mode, "AllowInsecureFallback") == 0;
}

static void begin_listeners(struct gw_making *g, struct mz_gw *gw, k8s_Listener *const *v, size_t n)
{
    gw->listeners = mz_arena_alloc0(g->a, n * sizeof(*gw->listeners));
    gw->listeners_n = n;
    for (size_t i = 0; i < n; i++) {
        struct mz_gw_listener *l = &gw->listeners[i];
        const bool set = gw->kind == MZ_KIND_LISTENER_SET && !v[i]->port;
        l->spec = v[i];
        l->port = (uint16_t)v[i]->port;
        if (set && strcmp(v[i]->protocol, "HTTP") == 0)
            l->port = 80;
        if (set && strcmp(v[i]->protocol, "HTTPS") == 0)
            l->port = 443;
        l->kinds = gw_listener_kinds(v[i], &l->kinds_valid);
    }
}

static struct mz_gw *begin(struct gw_making *g, const struct mz_doc *doc)
{
    struct mz_gw *gw = mz_arena_new0(g->a, struct mz_gw);
    gw->kind = doc->kind;
    gw->doc = doc;
    gw->ns = mz_arena_dup(g->a, doc->ns);
    gw->name = mz_arena_dup(g->a, doc->name);
    gw->key = mz_arena_dup(g->a, doc->key);
    gw->created = mz_arena_dup(g->a, doc->created);
    gw->generation = gw_generation(g, doc);
    (void)mz_map_put(&g->by_key, gw->key, gw);
    *mz_vec_push(&g->gateways, MZ_MEM_CONFIG) = gw;
    return gw;
}

static void add_gateway(struct gw_making *g, const struct mz_doc *doc)
{
    const k8s_Gateway *m = (const k8s_Gateway *)mz_doc_body(doc, g->a);
    const char *controller = controller_of(g, m->gatewayclassname);
    if (!controller)
        return;
    struct mz_gw *gw = begin(g, doc);
    gw->spec = m;
    gw->remote = strcmp(controller, UNMANAGED) == 0;
    if (gw->remote)
        return;
    gw->address_type =
        mz_arena_dup(g->a, gw_annotation(g, doc, "networking.istio.io/address-type"));
    find_services(g, gw);
    check_parameters(g, gw);
    (void)gw_check_client_certificate(g, gw);
    if (m->tls && m->tls->frontend) {
        gw->insecure = is_lax(m->tls->frontend->default_);
        for (size_t i = 0; i < m->tls->frontend->n_perport; i++)
            gw->insecure |= is_lax(m->tls->frontend->perport[i]->tls);
    }
    if (gw->services_n || !gw->error.reason)
        begin_listeners(g, gw, m->listeners, m->n_listeners);
}

/* ---- ListenerSets ---- */

static bool lets_in(struct gw_making *g, const struct mz_gw *gw, struct mz_str ns)
{
    const k8s_RouteNamespaces *n =
        gw->spec->allowedlisteners ? gw->spec->allowedlisteners->namespaces : NULL;
    const char *from = n ? gw_or(n->from, "Selector") : "None";
    if (strcmp(from, "All") == 0)
        return true;
    if (strcmp(from, "Same") == 0)
        return mz_str_eq(ns, gw->ns);
    const struct mz_doc *doc =
        mz_store_get(g->d->store, mz_arena_printf(g->d->scratch, "Namespace/%.*s", MZ_STR_ARG(ns)));
    return strcmp(from, "Selector") == 0 && n->selector && doc &&
           gw_namespaces_match(g, n->selector, doc);
}

static void add_set(struct gw_making *g, const struct mz_doc *doc)
{
    const k8s_ListenerSet *m = (const k8s_ListenerSet *)mz_doc_body(doc, g->a);
    const k8s_ParentReference *p = m->parentref;
    if (!p || strcmp(gw_or(p->group, GW_GROUP), GW_GROUP) != 0 ||
        strcmp(gw_or(p->kind, "Gateway"), "Gateway") != 0)
        return;
    const struct mz_str ns = p->namespace_ ? mz_str_c(p->namespace_->value) : doc->ns;
    const struct mz_gw *parent =
        mz_map_get(&g->by_key, mz_arena_printf(g->d->scratch, "KubernetesGateway/%.*s/%s",
                                               MZ_STR_ARG(ns), p->name));
    if (!parent)
        return;
    struct mz_gw *gw = begin(g, doc);
    gw->parent = parent;
    gw->spec = parent->spec;
    gw->services = parent->services;
    gw->services_n = parent->services_n;
    gw->account = parent->account;
    gw->error = parent->error;
    if (parent->remote)
        gw->refused = mz_arena_printf(g->a, "The \"%s\" GatewayClass does not support ListenerSet",
                                      parent->spec->gatewayclassname)
                          .p;
    else if (!lets_in(g, parent, doc->ns))
        gw->refused = "The parent Gateway does not allow this reference; check the "
                      "'spec.allowedRoutes'";
    else if (parent->services_n || !parent->error.reason)
        begin_listeners(g, gw, m->listeners, m->n_listeners);
}

static int compare_parents(const struct mz_gw *x, const struct mz_gw *y)
{
    return (x > y) - (x < y); /* whichever order, those of one stand together */
}

static int compare_sets(const void *a, const void *b)
{
    const struct mz_gw *const *x = a, *const *y = b;
    int c = compare_parents((*x)->parent, (*y)->parent);
    c = c ? c : mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
    return c ? c : mz_str_cmp((*x)->name, (*y)->name);
}

static int find_parent(const void *key, const void *element)
{
    const struct mz_gw *const *set = element;
    return compare_parents(key, (*set)->parent);
}

/* Its own listeners come before those of others, and these by age. */
static void find_conflicts(struct gw_making *g, size_t own)
{
    const size_t n = g->gateways.n - own;
    struct mz_gw **sets = mz_arena_alloc(g->d->scratch, n * sizeof(*sets));
    if (n) {
        memcpy(sets, g->gateways.v + own, n * sizeof(*sets));
        qsort(sets, n, sizeof(*sets), compare_sets);
    }
    for (size_t i = 0; i < own; i++) {
        struct mz_gw *gw = g->gateways.v[i], **any = NULL;
        size_t k = 0;
        if (n)
            any = bsearch(gw, sets, n, sizeof(*sets), find_parent);
        while (any && any > sets && any[-1]->parent == gw)
            any--;
        while (any && any + k < sets + n && any[k]->parent == gw)
            k++;
        gw_find_conflicts(g, gw, any, k);
    }
}

static void add_gateways(struct gw_making *g)
{
    size_t n;
    const struct mz_doc *const *docs = mz_store_list(g->d->store, MZ_KIND_K8S_GATEWAY, &n);
    for (size_t i = 0; i < n; i++)
        add_gateway(g, docs[i]);
    const size_t own = g->gateways.n;
    docs = mz_store_list(g->d->store, MZ_KIND_LISTENER_SET, &n);
    for (size_t i = 0; i < n; i++)
        add_set(g, docs[i]);
    find_conflicts(g, own);
    mz_vec_foreach (it, &g->gateways) {
        bool any = false;
        for (size_t i = 0; i < (*it)->listeners_n; i++) {
            struct mz_gw_listener *l = &(*it)->listeners[i];
            if (!l->conflict)
                gw_make_listener(g, *it, l);
            any |= l->valid && l->server;
        }
        if ((*it)->parent && any)
            ((struct mz_gw *)(uintptr_t)(*it)->parent)->sets++;
    }
}

/* ---- what the model gets ---- */

static void serve_listener(struct gw_making *g, const struct mz_gw *gw,
                           const struct mz_gw_listener *l)
{
    ist_Gateway *m = GW_MAKE(g->a, Gateway);
    struct mz_gateway *one = mz_arena_new0(g->a, struct mz_gateway);
    GW_ADD(g->a, m, servers) = (ist_Server *)(uintptr_t)l->server;
    one->ns = gw->ns;
    one->name = mz_str_skip(l->internal, gw->ns.n + 1);
    one->created = gw->created;
    one->spec = m;
    one->services = gw->services;
    one->services_n = gw->services_n;
    one->services_ns = gw->parent ? gw->parent->ns : gw->ns;
    one->by_service = true;
    one->account = gw->account;
    model_made_gateway(g->d, one);
}

static void serve(struct gw_making *g)
{
    mz_vec_foreach (it, &g->gateways)
        for (size_t i = 0; i < (*it)->listeners_n; i++)
            if ((*it)->listeners[i].valid && (*it)->listeners[i].server)
                serve_listener(g, *it, &(*it)->listeners[i]);
}

static void index_hosts(struct gw_making *g)
{
    mz_vec_foreach (s, &g->d->services)
        (void)mz_map_put(&g->hosts,
                         mz_arena_printf(g->d->scratch, "%.*s/%.*s", MZ_STR_ARG((*s)->ns),
                                         MZ_STR_ARG((*s)->host)),
                         *s);
}

static void *copy(struct mz_arena *a, const void *v, size_t n, size_t size)
{
    void *own = mz_arena_alloc(a, n * size);
    if (n)
        memcpy(own, v, n * size);
    return own;
}

static int compare_routes(const void *a, const void *b)
{
    const struct mz_gw_route *x = a, *y = b;
    int c = (x->kind > y->kind) - (x->kind < y->kind);
    c = c ? c : mz_str_cmp(x->ns, y->ns);
    return c ? c : mz_str_cmp(x->name, y->name);
}

void model_add_gateway_api(struct model_draft *d)
{
    struct gw_making g = { .d = d, .a = d->m->arena };
    struct mz_gateway_api *out = mz_arena_new0(d->m->arena, struct mz_gateway_api);
    struct mz_map *const maps[] = { &g.by_key, &g.hosts, &g.merging, &g.backends };
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_init(maps[i], MZ_MEM_CONFIG);
    index_hosts(&g);
    gw_add_grants(&g);
    add_classes(&g, out);
    add_gateways(&g);
    gw_add_routes(&g);
    gw_add_policies(&g, out);
    gw_add_ingresses(&g, out);
    serve(&g);
    if (g.routes.n)
        qsort(g.routes.v, g.routes.n, sizeof(*g.routes.v), compare_routes);
    mz_vec_foreach (it, &g.gateways)
        (*it)->doc = NULL;
    out->gateways = copy(g.a, g.gateways.v, g.gateways.n, sizeof(*g.gateways.v));
    out->gateways_n = g.gateways.n;
    out->routes = copy(g.a, g.routes.v, g.routes.n, sizeof(*g.routes.v));
    out->routes_n = g.routes.n;
    d->m->gateway_api = out;
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_fini(maps[i]);
    mz_vec_free(&g.merged, MZ_MEM_CONFIG);
    mz_vec_free(&g.gateways, MZ_MEM_CONFIG);
    mz_vec_free(&g.routes, MZ_MEM_CONFIG);
}
