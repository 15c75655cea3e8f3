/* What a host means: Services and ServiceEntries by scope and name, as the field's analyzers look for them. */
#include "control/analyze/finders.h"

static void put(struct hosts *h, struct mz_str scope, struct mz_str fqdn, struct mz_object *o)
{
    const struct mz_str key =
        mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(scope), MZ_STR_ARG(fqdn));
    (void)mz_map_put(&h->known, key, o);
}

static void put_service(struct hosts *h, struct mz_object *o)
{
    const struct mz_str fqdn = host_fqdn(o->name, o->ns, h->d->arena);
    struct mz_str rest = map_text(object_annotations(o), "networking.istio.io/exportTo"), part;
    if (!rest.n)
        put(h, MZ_STR("*"), fqdn, o);
    while (mz_str_split(&rest, ',', &part)) {
        const struct mz_str ns = mz_str_trim(part);
        put(h, mz_str_eq(ns, MZ_STR(".")) ? o->ns : ns, fqdn, o);
    }
}

void hosts_init(struct hosts *h, struct mz_documents *d)
{
    *h = (struct hosts){ .d = d };
    mz_map_init(&h->known, MZ_MEM_CONFIG);
    objects_foreach(it, d, "ServiceEntry")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        const struct mz_str *scopes = export_scopes(d, *it);
        for (size_t i = 0; i < mz_node_count(list); i++)
            for (const struct mz_str *s = scopes; s->n; s++)
                put(h, *s, host_fqdn(scalar_text(list->list[i]), (*it)->ns, d->arena), *it);
        h->any = true;
    }
    objects_foreach(it, d, "Service")
    {
        put_service(h, *it);
        h->any |= (*it)->file.n > 0; /* that of an installation is not told by anybody */
    }
    h->any |= *objects_of(d, "Namespace") != NULL;
}

void hosts_fini(struct hosts *h)
{
    mz_map_fini(&h->known);
}

static const struct mz_object *find_at(const struct hosts *h, struct mz_str scope,
                                       struct mz_str fqdn)
{
    const struct mz_str key =
        mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(scope), MZ_STR_ARG(fqdn));
    return mz_map_get(&h->known, key);
}

/* "*.com" stands for "a.com"; of those that do the first in the order of files. */
static const struct mz_object *find_wildcard(const struct hosts *h, struct mz_str ns,
                                             struct mz_str host)
{
    const struct mz_str tail = mz_str_skip(host, host.n && host.p[0] == '*');
    objects_foreach(it, h->d, "ServiceEntry")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        bool seen = false;
        for (const struct mz_str *s = export_scopes(h->d, *it); s->n; s++)
            seen |= mz_str_eq(*s, MZ_STR("*")) || mz_str_eq(*s, ns);
        for (size_t i = 0; seen && i < mz_node_count(list); i++) {
            const struct mz_str wild = scalar_text(list->list[i]);
            if (wild.n && wild.p[0] == '*' && mz_str_ends(tail, mz_str_skip(wild, 1)))
                return *it;
        }
    }
    return NULL;
}

const struct mz_object *hosts_find(const struct hosts *h, const struct mz_object *of,
                                   struct mz_str host)
{
    const struct mz_str fqdn = host_fqdn(host, of->ns, h->d->arena);
    const struct mz_node *list = mz_node_at(of->tree, "spec.export_to");
    const struct mz_object *o = find_at(h, MZ_STR("*"), fqdn);
    if (!o && !mz_node_count(list))
        o = find_at(h, of->ns, fqdn);
    for (size_t i = 0; !o && i < mz_node_count(list); i++) {
        const struct mz_str ns = scalar_text(list->list[i]);
        o = find_at(h, mz_str_eq(ns, MZ_STR(".")) ? of->ns : ns, fqdn);
    }
    return o ? o : find_wildcard(h, of->ns, host);
}
