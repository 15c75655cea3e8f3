#include "stats/stats_priv.h"

#include <stdio.h>
#include <string.h>

/* Response codes: their number is bounded by the three digits, whatever peers send (E13). */

static struct code_counts *add_family(struct cells *c, const char *family)
{
    for (struct code_counts *f = c->codes; f; f = f->next)
        if (strcmp(f->name, family) == 0)
            return f;
    struct code_counts *f = mz_new0(MZ_MEM_STATS, struct code_counts);
    f->family = family;
    f->name = mz_strndup(MZ_MEM_STATS, family, strlen(family));
    f->next = c->codes;
    __atomic_store_n(&c->codes, f, __ATOMIC_RELEASE);
    return f;
}

static uint64_t *add_class(struct code_counts *f, unsigned n)
{
    uint64_t *counts = mz_newn0(MZ_MEM_STATS, uint64_t, 100);
    __atomic_store_n(&f->classes[n], counts, __ATOMIC_RELEASE);
    return counts;
}

void mz_count_code(struct mz_scope *s, const char *family, unsigned code)
{
    if (MZ_UNLIKELY(code > 999))
        return;
    struct mz_scope_cells *pub = s->slots[mz_stats_slot];
    if (MZ_UNLIKELY(!pub))
        pub = mz_scope_cells_create(s);
    struct cells *c = MZ_CONTAINER(pub, struct cells, pub);
    struct code_counts *f = c->codes;
    while (f && f->family != family)
        f = f->next;
    if (MZ_UNLIKELY(!f))
        f = add_family(c, family);
    uint64_t *counts = f->classes[code / 100];
    if (MZ_UNLIKELY(!counts))
        counts = add_class(f, code / 100);
    __atomic_store_n(&counts[code % 100], counts[code % 100] + 1, __ATOMIC_RELAXED);
}

static struct code_sums *find_family(code_sums_vec *v, struct mz_arena *a, const char *name)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->v[i]->family, name) == 0)
            return v->v[i];
    struct code_sums *f = mz_arena_new0(a, struct code_sums);
    f->family = name;
    *mz_vec_push(v, MZ_MEM_ADMIN) = f;
    return f;
}

static void add_counts(struct code_sums *to, const struct code_counts *f)
{
    for (unsigned n = 0; n < MZ_COUNT(f->classes); n++) {
        const uint64_t *counts = __atomic_load_n(&f->classes[n], __ATOMIC_ACQUIRE);
        for (unsigned i = 0; counts && i < 100; i++)
            to->counts[n * 100 + i] += __atomic_load_n(&counts[i], __ATOMIC_RELAXED);
    }
}

static void take_base_off(struct code_sums *f, const struct scope *s)
{
    for (unsigned i = 0; i < 1000; i++)
        f->used[i] = f->counts[i] != 0;
    for (const struct code_base *b = s->code_base; b; b = b->next)
        for (unsigned i = 0; i < 1000 && strcmp(b->name, f->family) == 0; i++)
            f->counts[i] -= b->counts[i];
}

void scope_code_sums(const struct scope *s, struct mz_arena *a, code_sums_vec *out_families)
{
    for (unsigned slot = 0; slot < s->pub.store->slots; slot++) {
        struct mz_scope_cells *pub = __atomic_load_n(&s->slots[slot], __ATOMIC_ACQUIRE);
        if (!pub)
            continue;
        const struct cells *c = MZ_CONTAINER(pub, struct cells, pub);
        for (const struct code_counts *f = __atomic_load_n(&c->codes, __ATOMIC_ACQUIRE); f;
             f = f->next)
            add_counts(find_family(out_families, a, f->name), f);
    }
    for (size_t i = 0; i < out_families->n; i++)
        take_base_off(out_families->v[i], s);
}

/* ---- POST /reset_counters: threads own their numbers, so what they have now is taken off from here on ---- */

static void reset_codes(struct scope *s, struct mz_arena *a)
{
    code_sums_vec v = { 0 };
    scope_code_sums(s, a, &v);
    for (size_t i = 0; i < v.n; i++) {
        struct code_base *b = s->code_base;
        while (b && strcmp(b->name, v.v[i]->family) != 0)
            b = b->next;
        if (!b) {
            b = mz_new0(MZ_MEM_STATS, struct code_base);
            b->name = mz_strndup(MZ_MEM_STATS, v.v[i]->family, strlen(v.v[i]->family));
            b->next = s->code_base;
            s->code_base = b;
        }
        for (unsigned code = 0; code < 1000; code++)
            b->counts[code] += v.v[i]->counts[code];
    }
    mz_vec_free(&v, MZ_MEM_ADMIN);
}

static void reset_scope(struct scope *s)
{
    const struct mz_stat_kind *kind = s->pub.kind;
    uint64_t *base = s->base;
    if (!base)
        base = mz_newn0(MZ_MEM_STATS, uint64_t, kind->n ? kind->n : 1U);
    for (unsigned i = 0; i < kind->n; i++)
        if (kind->defs[i].type == MZ_COUNTER)
            __atomic_store_n(&base[i], base[i] + scope_value(s, i), __ATOMIC_RELAXED);
    __atomic_store_n(&s->base, base, __ATOMIC_RELEASE);
}

void mz_stats_reset_counters(struct mz_stats *st)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    mz_list_foreach (it, &st->sources) {
        struct mz_stats_source *source = MZ_CONTAINER(it, struct mz_stats_source, link);
        source->reset(source);
    }
    (void)pthread_mutex_lock(&st->mutex);
    scopes_foreach (s, st) {
        reset_scope(s);
        reset_codes(s, a);
    }
    (void)pthread_mutex_unlock(&st->mutex);
    mz_arena_destroy(a);
}
