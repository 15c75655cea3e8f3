/* A model where nothing but endpoints changed, without looking at anything else. */
#include "control/model/model_priv.h"

enum { MAX_DEPTH = 64 }; /* then all is built anew, and what was on the way goes */

struct patch {
    struct model_draft d;
    MZ_VEC(const struct mz_service *) services;
};

/* What is told of a service besides its endpoints follows from them where clients dial for themselves. */
static bool is_plain(const struct mz_model *m, const struct mz_service *s)
{
    return s->resolution == MZ_RESOLVE_EDS && !m->dialled && !s->entry;
}

static bool same_accounts(struct patch *p, const struct mz_service *s, const struct mz_endpoints *e)
{
    size_t n;
    const struct mz_str *v = model_accounts(&p->d, NULL, 0, e, s->ports_n, &n);
    bool same = n == s->accounts_n;
    for (size_t i = 0; same && i < n; i++)
        same = mz_str_eq(v[i], s->accounts[i]);
    return same;
}

static bool patch_service(struct patch *p, const struct mz_service *s)
{
    struct mz_model *m = p->d.m;
    struct mz_endpoints *e = mz_arena_alloc(m->arena, s->ports_n * sizeof(*e));
    bool other = false;
    model_take_gathered(&p->d, s, model_gather_slices(&p->d, s), true, e);
    if (!same_accounts(p, s, e))
        return false;
    for (size_t i = 0; i < s->ports_n; i++) {
        other |= m->endpoints[s->ports[i].at]->hash != e[i].hash;
        m->endpoints[s->ports[i].at] = &e[i];
    }
    if (other)
        *mz_vec_push(&p->services, MZ_MEM_CONFIG) = s;
    return true;
}

/* Of Kubernetes: "ns/name". NULL: nobody has that name. */
static const struct mz_service *find(struct patch *p, struct mz_str key)
{
    const ptrdiff_t slash = mz_str_chr(key, '/');
    struct mz_str host = mz_arena_printf(p->d.scratch, "%.*s.%.*s.svc.%.*s",
                                         MZ_STR_ARG(mz_str_skip(key, (size_t)slash + 1)),
                                         (int)slash, key.p, MZ_STR_ARG(p->d.m->mesh.domain));
    return mz_model_service_in(p->d.m, (struct mz_str){ key.p, (size_t)slash }, host);
}

/* Services that select a pod whose readiness may be another; @key "ns/name". */
static bool patch_pod(struct patch *p, struct mz_str key)
{
    const struct mz_workload *w = mz_map_get(&p->d.m->by_workload, key);
    const struct mz_services *l = w ? mz_map_get(&p->d.m->by_ns, w->ns) : NULL;
    for (size_t i = 0; l && i < l->n; i++)
        if (mz_labels_match(l->v[i]->selector, w->labels) &&
            !(is_plain(p->d.m, l->v[i]) && patch_service(p, l->v[i])))
            return false;
    return true;
}

static bool patch_all(struct patch *p, const struct mz_store_changes *c)
{
    for (size_t i = 0; i < c->pods_n; i++)
        if (!patch_pod(p, c->pods[i]))
            return false;
    for (size_t i = 0; i < c->n; i++) {
        const struct mz_service *s = find(p, c->of[i]);
        if (s && !(is_plain(p->d.m, s) && patch_service(p, s)))
            return false;
    }
    return true;
}

static void begin(struct patch *p, struct mz_store *s, const struct mz_model *before)
{
    struct mz_model *m = mz_new0(MZ_MEM_CONFIG, struct mz_model);
    *m = *before; /* maps and lists are those of the one below */
    m->refs = 1;
    m->base = mz_model_ref(before);
    m->depth = before->depth + 1;
    m->patched = NULL;
    m->patched_n = 0;
    m->arena = mz_arena_create(MZ_MEM_CONFIG);
    const size_t bytes = m->endpoints_n * sizeof(*m->endpoints);
    m->endpoints = mz_arena_alloc(m->arena, bytes);
    if (bytes)
        memcpy(m->endpoints, before->endpoints, bytes);
    p->d = (struct model_draft){ .m = m, .store = s, .scratch = mz_arena_create(MZ_MEM_CONFIG) };
}

struct mz_model *model_patch(struct mz_store *s, const struct mz_model *before)
{
    const struct mz_store_changes c = mz_store_changes(s);
    struct patch p = { 0 };
    if (!before || c.others || before->machines || before->depth >= MAX_DEPTH)
        return NULL;
    begin(&p, s, before);
    const bool ok = patch_all(&p, &c);
    struct mz_model *m = p.d.m;
    const struct mz_service **v = mz_arena_alloc(m->arena, p.services.n * sizeof(*v));
    if (p.services.n)
        memcpy(v, p.services.v, p.services.n * sizeof(*v));
    m->patched = v;
    m->patched_n = p.services.n;
    mz_vec_free(&p.services, MZ_MEM_CONFIG);
    mz_arena_destroy(p.d.scratch);
    if (ok)
        return m;
    mz_model_unref(m);
    return NULL;
}
