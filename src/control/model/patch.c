/* A model where few documents changed: what they say, on top of all that stays. */
#include "control/model/model_priv.h"

/* ---- what is touched ---- */

struct model_touch *model_touch(struct model_patch *p, struct mz_str key)
{
    struct model_touch *t = mz_map_get(&p->touched, key);
    if (t)
        return t;
    const struct mz_str own = mz_arena_dup(p->d.scratch, key);
    const ptrdiff_t slash = mz_str_chr(own, '/');
    t = mz_arena_new0(p->d.scratch, struct model_touch);
    t->ns = (struct mz_str){ own.p, (size_t)slash };
    t->name = mz_str_skip(own, (size_t)slash + 1);
    (void)mz_map_put(&p->touched, own, t);
    return t;
}

static bool touch(struct model_patch *p, const struct mz_store_change *c)
{
    struct mz_arena *a = p->d.scratch;
    switch (c->kind) {
    case MZ_KIND_SERVICE:
        model_touch(p, mz_arena_printf(a, "%.*s/%.*s", MZ_STR_ARG(c->ns), MZ_STR_ARG(c->name)))
            ->itself = true;
        return !p->before->derived;
    case MZ_KIND_ENDPOINTS:
    case MZ_KIND_ENDPOINT_SLICE:
        (void)model_touch(p, c->of);
        return true;
    case MZ_KIND_POD:
        return model_patch_pod(p, c);
    case MZ_KIND_DESTINATION_RULE:
        return model_patch_rule(p, c);
    case MZ_KIND_VIRTUAL_SERVICE:
        return model_patch_virtual(p, c);
    default:
        return false;
    }
}

/* ---- lists and tables ---- */

/* In the order of services; room for one more. False: @was is not in it. */
static bool replace(const void **v, size_t *n, const struct mz_service *was,
                    const struct mz_service *is)
{
    const struct mz_service *by = was ? was : is;
    size_t lo = 0, hi = *n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (mz_service_order(v[mid], by) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (was && (lo == *n || v[lo] != was))
        return false;
    if (was && is && mz_service_order(was, is) == 0) {
        v[lo] = is;
        return true;
    }
    if (was) {
        memmove(&v[lo], &v[lo + 1], (--*n - lo) * sizeof(*v));
        return !is || replace(v, n, NULL, is);
    }
    memmove(&v[lo + 1], &v[lo], ((*n)++ - lo) * sizeof(*v));
    v[lo] = is;
    return true;
}

static bool replace_in_namespace(struct mz_model *m, const struct mz_service *was,
                                 const struct mz_service *is)
{
    const struct mz_service *s = is ? is : was;
    const struct mz_services *had = mz_index_get(m->by_ns, s->ns);
    struct mz_services *l = mz_arena_new0(m->arena, struct mz_services);
    const size_t n = had ? had->n : 0;
    l->v = mz_arena_alloc(m->arena, (n + 1) * sizeof(*l->v));
    l->n = n;
    if (n)
        memcpy(l->v, had->v, n * sizeof(*l->v));
    const bool ok = replace((const void **)l->v, &l->n, was, is);
    (void)mz_index_put(&m->by_ns, s->ns, l->n ? l : NULL);
    return ok;
}

bool model_is_given(const struct mz_model *m, struct mz_str address)
{
    for (size_t i = 0; m->gives && address.n && i < m->services_n; i++)
        for (size_t k = 0; m->services[i]->given && k < m->services[i]->addresses_n; k++)
            if (mz_str_eq(m->services[i]->addresses[k], address))
                return true;
    return false;
}

/* ---- one service ---- */

static void set_endpoints(struct mz_model *m, const struct mz_service *s,
                          const struct mz_endpoints *e)
{
    model_table_own(&m->endpoints, m->endpoints_n, 0);
    for (size_t i = 0; i < s->ports_n; i++)
        m->endpoints->v[s->ports[i].at] = &e[i];
}

/* Its endpoints stand in the draft's table: they get the places of those before, and new ones. */
static void place_endpoints(struct model_patch *p, struct mz_service *s,
                            const struct mz_service *was)
{
    struct mz_model *m = p->d.m;
    struct mz_port *ports = (struct mz_port *)(uintptr_t)s->ports; /* ours until the model stands */
    const size_t had = was ? was->ports_n : 0;
    const size_t more = s->ports_n > had ? s->ports_n - had : 0;
    model_table_own(&m->endpoints, m->endpoints_n, more);
    for (size_t i = 0; i < s->ports_n; i++) {
        ports[i].at = i < had ? was->ports[i].at : (uint32_t)m->endpoints_n++;
        m->endpoints->v[ports[i].at] = p->d.table.v[i];
    }
}

/* Other names are those of its host: they stay. */
static void keep_aliases(struct mz_service *s, const struct mz_service *was)
{
    if (!was)
        return;
    s->aliases = was->aliases;
    s->aliases_n = was->aliases_n;
    for (size_t i = 0; i < s->aliases_n; i++)
        s->hash = model_hash_str(s->hash, s->aliases[i]);
}

/* NULL: it wants an address of ours, or takes one. */
static struct mz_service *make(struct model_patch *p, const struct mz_doc *doc,
                               const struct mz_service *was)
{
    const k8s_ServiceSpec *spec;
    bool wants;
    struct mz_service *s = model_make_service(&p->d, doc, &spec, &wants);
    if (wants || (spec->n_externalips && p->before->gives)) /* which may be one that we gave */
        return NULL;
    p->d.table.n = 0;
    model_finish_service(&p->d, s, model_gather_slices(&p->d, s), true);
    model_default_export(p->d.m, s);
    keep_aliases(s, was);
    return s;
}

static bool same_endpoints(const struct model_patch *p, const struct mz_service *was)
{
    for (size_t i = 0; i < was->ports_n; i++)
        if (mz_model_endpoints(p->before, &was->ports[i])->hash != p->d.table.v[i]->hash)
            return false;
    return true;
}

/* In all that finds it. */
static bool exchange(struct model_patch *p, const struct mz_service *was,
                     const struct mz_service *is)
{
    struct mz_model *m = p->d.m;
    const struct mz_service *s = is ? is : was;
    model_table_own(&m->services_table, m->services_n, 1);
    if (!replace(m->services_table->v, &m->services_n, was, is) ||
        !replace_in_namespace(m, was, is))
        return false;
    m->services = (const struct mz_service *const *)m->services_table->v;
    (void)mz_index_put(&m->by_host, s->host, is);
    (void)mz_index_put(
        &m->by_name, mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->host)),
        is);
    return true;
}

static void note(struct model_patch *p, const struct mz_service *was, const struct mz_service *is)
{
    *mz_vec_push(&p->services, MZ_MEM_CONFIG) = (struct mz_patched){ was, is };
}

/* What follows from several services is for those who build anew. */
static bool stands_alone(const struct model_patch *p, struct mz_str host,
                         const struct mz_service *was)
{
    const struct mz_model *m = p->d.m;
    if (mz_index_get(m->twins, host) ||
        (was && (was->entry || was->resolution == MZ_RESOLVE_ALIAS)))
        return false;
    return was || (!mz_index_get(m->by_host, host) && !m->aliases);
}

static void take_endpoints(struct model_patch *p, const struct mz_service *was)
{
    if (same_endpoints(p, was))
        return;
    set_endpoints(p->d.m, was, p->d.table.v[0]);
    note(p, was, was);
}

/* False: its accounts are others, and so is what is told of it. */
static bool patch_endpoints(struct model_patch *p, const struct mz_service *was)
{
    struct mz_endpoints *e = mz_arena_alloc(p->d.m->arena, was->ports_n * sizeof(*e));
    size_t n;
    model_take_gathered(&p->d, was, model_gather_slices(&p->d, was), true, e);
    const struct mz_str *v = model_accounts(&p->d, NULL, 0, e, was->ports_n, &n);
    bool same = n == was->accounts_n;
    for (size_t i = 0; same && i < n; i++)
        same = mz_str_eq(v[i], was->accounts[i]);
    p->d.table.n = 0;
    for (size_t i = 0; same && i < was->ports_n; i++)
        *mz_vec_push(&p->d.table, MZ_MEM_CONFIG) = &e[i];
    if (same)
        take_endpoints(p, was);
    return same;
}

static size_t endpoints_of(const struct mz_model *m, const struct mz_service *s)
{
    size_t n = 0;
    for (size_t i = 0; s && i < s->ports_n; i++)
        n += mz_model_endpoints(m, &s->ports[i])->gathered;
    return n;
}

/* What @was had is taken off what its namespace has. False: some are left out there, and who is left out follows from all. */
static bool uncount(struct model_patch *p, const struct mz_service *was, size_t *all)
{
    const bool room = *all < MODEL_MAX_IN_NAMESPACE;
    *all -= endpoints_of(p->d.m, was);
    return room;
}

static bool patch_service(struct model_patch *p, const struct model_touch *t)
{
    struct mz_model *m = p->d.m;
    struct mz_arena *a = p->d.scratch;
    const struct mz_str host = mz_arena_printf(a, "%.*s.%.*s.svc.%.*s", MZ_STR_ARG(t->name),
                                               MZ_STR_ARG(t->ns), MZ_STR_ARG(m->mesh.domain));
    const struct mz_doc *doc =
        mz_store_get(p->d.store, mz_arena_printf(a, "Service/%.*s/%.*s", MZ_STR_ARG(t->ns),
                                                 MZ_STR_ARG(t->name)));
    const struct mz_service *was = mz_model_service_in(m, t->ns, host);
    if (!doc && (!was || was->entry))
        return true; /* nobody has that name */
    size_t *all = model_in_namespace(&p->d, t->ns);
    if (!stands_alone(p, host, was) || !uncount(p, was, all))
        return false;
    const size_t others = *all;
    if (was && doc && !t->itself && patch_endpoints(p, was))
        return *all < MODEL_MAX_IN_NAMESPACE;
    *all = others;
    if (was && was->given)
        return false; /* others may get its address */
    struct mz_service *is = doc ? make(p, doc, was) : NULL;
    if ((doc && (!is || is->resolution == MZ_RESOLVE_ALIAS)) || *all >= MODEL_MAX_IN_NAMESPACE)
        return false;
    for (size_t i = 0; is && i < is->addresses_n; i++)
        if (model_is_given(m, is->addresses[i]))
            return false;
    if (is && was && is->hash == was->hash) {
        take_endpoints(p, was);
        return true;
    }
    if (m->derived)
        return false; /* its accounts */
    if (is)
        place_endpoints(p, is, was);
    note(p, was, is);
    return exchange(p, was, is);
}

/* ---- all of them ---- */

static bool patch_all(struct model_patch *p, const struct mz_store_changes *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (!touch(p, &c->v[i]))
            return false;
    mz_map_foreach (it, &p->touched)
        if (!patch_service(p, it->value))
            return false;
    return true;
}

static void *keep(struct mz_arena *a, const void *v, size_t bytes)
{
    void *own = mz_arena_alloc(a, bytes);
    if (bytes)
        memcpy(own, v, bytes);
    return own;
}

static void keep_lists(struct model_patch *p)
{
    struct mz_model *m = p->d.m;
    m->patched = keep(m->arena, p->services.v, p->services.n * sizeof(*p->services.v));
    m->patched_n = p->services.n;
    m->workloads = keep(m->arena, p->workloads.v, p->workloads.n * sizeof(*p->workloads.v));
    m->workloads_n = p->workloads.n;
    m->rules_patched = keep(m->arena, p->rules.v, p->rules.n * sizeof(*p->rules.v));
    m->rules_patched_n = p->rules.n;
    m->virtuals_patched = keep(m->arena, p->virtuals.v, p->virtuals.n * sizeof(*p->virtuals.v));
    m->virtuals_patched_n = p->virtuals.n;
}

struct mz_model *model_patch(struct mz_store *s, const struct mz_model *before)
{
    const struct mz_store_changes c = mz_store_changes(s);
    if (!before || c.many || before->machines || before->mesh.config->n_discovery_selectors ||
        model_is_heavy(before))
        return NULL;
    struct mz_model *m = model_create(before);
    struct model_patch p = { .d = { .m = m, .store = s, .scratch = mz_arena_create(MZ_MEM_CONFIG) },
                             .before = before };
    mz_map_init(&p.touched, MZ_MEM_CONFIG);
    mz_map_init(&p.d.in_namespace, MZ_MEM_CONFIG);
    mz_map_init(&p.d.states, MZ_MEM_CONFIG);
    const bool ok = patch_all(&p, &c);
    keep_lists(&p);
    model_keep_counts(&p.d);
    mz_map_fini(&p.d.states);
    mz_map_fini(&p.d.in_namespace);
    mz_map_fini(&p.touched);
    mz_vec_free(&p.services, MZ_MEM_CONFIG);
    mz_vec_free(&p.workloads, MZ_MEM_CONFIG);
    mz_vec_free(&p.rules, MZ_MEM_CONFIG);
    mz_vec_free(&p.virtuals, MZ_MEM_CONFIG);
    mz_vec_free(&p.d.table, MZ_MEM_CONFIG);
    mz_arena_destroy(p.d.scratch);
    if (ok)
        return m;
    mz_model_unref(m);
    return NULL;
}
