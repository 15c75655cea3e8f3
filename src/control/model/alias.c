/* ExternalName services: other names of a service, over any number of them. */
#include <stdlib.h>

#include "control/model/model_priv.h"

enum { MAX_STEPS = 64 }; /* of one name to another: more is a loop */

struct alias {
    const struct mz_service *s;
    struct mz_str means; /* "" itself, in the end */
};

/* The host at the end of the chain. */
static struct mz_str follow(const struct mz_map *aliases, const struct mz_service *s)
{
    struct mz_str host = s->alias_of;
    for (unsigned i = 0; i < MAX_STEPS; i++) {
        const struct mz_service *next = mz_map_get(aliases, host);
        if (!next)
            return host;
        host = next->alias_of;
    }
    return MZ_STR("");
}

static int compare(const void *a, const void *b)
{
    const struct alias *x = a, *y = b;
    int c = mz_str_cmp(x->means, y->means);
    c = c ? c : mz_str_cmp(x->s->ns, y->s->ns);
    return c ? c : mz_str_cmp(x->s->host, y->s->host);
}

static void set(struct model_draft *d, struct mz_service *s, const struct alias *v, size_t n)
{
    struct mz_str *hosts = mz_arena_alloc(d->m->arena, n * sizeof(*hosts));
    for (size_t i = 0; i < n; i++) {
        hosts[i] = v[i].s->host;
        s->hash = model_hash_str(s->hash, hosts[i]);
    }
    s->aliases = hosts;
    s->aliases_n = n;
}

/* @v is sorted by what is meant. */
static void find(struct model_draft *d, struct mz_service *s, const struct alias *v, size_t n)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (mz_str_cmp(v[mid].means, s->host) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t end = lo;
    while (end < n && mz_str_eq(v[end].means, s->host))
        end++;
    if (end > lo)
        set(d, s, &v[lo], end - lo);
}

void model_resolve_aliases(struct model_draft *d)
{
    struct mz_map aliases;
    MZ_VEC(struct alias) v = { 0 };
    mz_map_init(&aliases, MZ_MEM_CONFIG);
    mz_vec_foreach (s, &d->services)
        if ((*s)->resolution == MZ_RESOLVE_ALIAS && !mz_map_get(&aliases, (*s)->host))
            (void)mz_map_put(&aliases, (*s)->host, *s);
    mz_map_foreach (it, &aliases) {
        const struct mz_service *s = it->value;
        *mz_vec_push(&v, MZ_MEM_CONFIG) = (struct alias){ s, follow(&aliases, s) };
    }
    if (v.n) {
        qsort(v.v, v.n, sizeof(*v.v), compare);
        mz_vec_foreach (s, &d->services)
            if ((*s)->resolution != MZ_RESOLVE_ALIAS)
                find(d, *s, v.v, v.n);
    }
    mz_vec_free(&v, MZ_MEM_CONFIG);
    mz_map_fini(&aliases);
}
