/* Further statistics of a cluster by a name that requests bring: a list that only grows, up to a limit, without locks. */
#include "upstream/upstream_priv.h"

#define ALT_NAMES_MAX 64
#define ALT_NAME_MAX  128

struct alt {
    struct mz_scope *scope;
    size_t n;
    char name[]; /* n bytes */
};
struct alt_stats {
    struct alt *v[ALT_NAMES_MAX]; /* atomics; the first NULL is the end */
};

static bool name_ok(struct mz_str s)
{
    if (!s.n || s.n > ALT_NAME_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f)
            return false;
    return true;
}

static void alt_destroy(struct alt *a)
{
    if (!a)
        return;
    mz_scope_unref(a->scope);
    mz_free(MZ_MEM_UPSTREAM, a);
}

static struct alt *alt_create(struct mz_cluster *c, struct mz_str name)
{
    char text[1200];
    struct alt *a = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*a) + name.n);
    int n = snprintf(text, sizeof(text), MZ_STR_FMT MZ_STR_FMT ".", MZ_STR_ARG(c->scope->prefix),
                     MZ_STR_ARG(name));
    a->n = name.n;
    memcpy(a->name, name.p, name.n);
    a->scope = mz_scope_create(
        c->scope->store, &mz_cluster_alt_stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
    return a;
}

static struct alt_stats *stats_of(struct mz_cluster *c)
{
    struct alt_stats **at = &cluster_priv(c)->alts;
    struct alt_stats *s = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (s)
        return s;
    struct alt_stats *made = mz_new0(MZ_MEM_UPSTREAM, struct alt_stats);
    if (__atomic_compare_exchange_n(at, &s, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return made;
    mz_free(MZ_MEM_UPSTREAM, made); /* another thread was faster */
    return s;
}

struct mz_scope *mz_cluster_alt_scope(struct mz_cluster *c, struct mz_str alt)
{
    struct alt *made = NULL;
    if (!name_ok(alt))
        return NULL;
    struct alt_stats *s = stats_of(c);
    for (size_t i = 0; i < ALT_NAMES_MAX; i++) {
        struct alt *a = __atomic_load_n(&s->v[i], __ATOMIC_ACQUIRE);
        if (!a) {
            made = made ? made : alt_create(c, alt);
            if (__atomic_compare_exchange_n(&s->v[i], &a, made, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
                return made->scope;
        }
        if (mz_str_eq((struct mz_str){ a->name, a->n }, alt)) { /* a: also who came in between */
            alt_destroy(made);
            return a->scope;
        }
    }
    alt_destroy(made);
    return NULL;
}

void alt_stats_destroy(struct alt_stats *s)
{
    for (size_t i = 0; s && i < ALT_NAMES_MAX; i++)
        alt_destroy(s->v[i]);
    mz_free(MZ_MEM_UPSTREAM, s);
}
