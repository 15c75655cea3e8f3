/* What a host means: Services and ServiceEntries by scope and name, as the field's analyzers look for them. */
#include <stdio.h>

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

enum { LONGEST = 253 }; /* of a name */

/* "*.com" stands for "a.com"; of those that do the first in the order of files. */
static void put_wild(struct hosts *h, struct mz_str scope, struct mz_str wild, struct mz_object *o)
{
    const struct mz_str tail = mz_str_skip(wild, 1),
                        key = mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(scope),
                                              MZ_STR_ARG(tail));
    if (tail.n > LONGEST)
        return;
    h->lengths[tail.n] = true;
    if (!mz_map_get(&h->wild, key))
        (void)mz_map_put(&h->wild, key, o);
}

static void put_subsets(struct hosts *h, struct mz_object *rule)
{
    const struct mz_node *list = mz_node_at(rule->tree, "spec.subsets");
    const struct mz_str fqdn =
        host_fqdn(mz_node_text(rule->tree, "spec.host"), rule->ns, h->d->arena);
    for (size_t i = 0; i < mz_node_count(list); i++)
        (void)mz_map_put(&h->subsets,
                         mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(fqdn),
                                         MZ_STR_ARG(mz_node_text(list->list[i], "name"))),
                         rule);
}

void hosts_init(struct hosts *h, struct mz_documents *d)
{
    *h = (struct hosts){ .d = d };
    mz_map_init(&h->known, MZ_MEM_CONFIG);
    mz_map_init(&h->wild, MZ_MEM_CONFIG);
    mz_map_init(&h->subsets, MZ_MEM_CONFIG);
    objects_foreach(it, d, "DestinationRule") put_subsets(h, *it);
    objects_foreach(it, d, "ServiceEntry")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        const struct mz_str *scopes = export_scopes(d, *it);
        size_t told = 0;
        for (size_t i = 0; i < mz_node_count(list); i++)
            for (const struct mz_str *s = scopes; s->n && told++ < MAX_PRODUCT; s++) {
                const struct mz_str host = scalar_text(list->list[i]);
                put(h, *s, host_fqdn(host, (*it)->ns, d->arena), *it);
                if (host.n && host.p[0] == '*')
                    put_wild(h, *s, host, *it);
            }
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
    mz_map_fini(&h->wild);
    mz_map_fini(&h->subsets);
}

static const struct mz_object *find_at(const struct hosts *h, struct mz_str scope,
                                       struct mz_str fqdn)
{
    const struct mz_str key =
        mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(scope), MZ_STR_ARG(fqdn));
    return mz_map_get(&h->known, key);
}

static const struct mz_object *find_wildcard(const struct hosts *h, struct mz_str ns,
                                             struct mz_str host)
{
    const struct mz_str tail = mz_str_skip(host, host.n && host.p[0] == '*'),
                        scopes[] = { MZ_STR_INIT("*"), ns };
    const struct mz_object *first = NULL;
    char key[2 * LONGEST + 8];
    for (size_t n = 0; n <= tail.n && n <= LONGEST; n++)
        for (size_t k = 0; h->lengths[n] && k < MZ_COUNT(scopes); k++) {
            const int len = snprintf(key, sizeof(key), "%.*s|%.*s", MZ_STR_ARG(scopes[k]), (int)n,
                                     tail.p + tail.n - n);
            const struct mz_object *o =
                len > 0 && (size_t)len < sizeof(key) ? mz_map_get(&h->wild, mz_str_c(key)) : NULL;
            if (o && (!first || o->order < first->order))
                first = o;
        }
    return first;
}

bool hosts_has_subset(const struct hosts *h, struct mz_str fqdn, struct mz_str subset)
{
    return mz_map_get(&h->subsets, mz_arena_printf(h->d->arena, "%.*s|%.*s", MZ_STR_ARG(fqdn),
                                                   MZ_STR_ARG(subset))) != NULL;
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
