/*
 * Earliest deadline first: an item of weight w is due every 1/w; a binary heap by due time, then by order of entry. Picks
 * come in proportion to the weights and spread as evenly as they can.
 */
#include "upstream/upstream_priv.h"

struct entry {
    double due;
    uint64_t order;
    uint32_t item;
};
struct edf {
    double now;
    uint64_t orders;
    uint32_t n, cap;
    struct entry v[];
};

struct edf *edf_create(uint32_t n)
{
    struct edf *e = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*e) + mz_mul(n, sizeof(e->v[0])));
    e->cap = n;
    return e;
}

void edf_destroy(struct edf *e)
{
    mz_free(MZ_MEM_UPSTREAM, e);
}

static bool before(const struct entry *a, const struct entry *b)
{
    return a->due < b->due || (!(b->due < a->due) && a->order < b->order);
}

static void sift_up(struct edf *e, uint32_t i)
{
    while (i && before(&e->v[i], &e->v[(i - 1) / 2])) {
        struct entry t = e->v[i];
        e->v[i] = e->v[(i - 1) / 2];
        e->v[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

static void sift_down(struct edf *e, uint32_t i)
{
    for (;;) {
        uint32_t least = i;
        for (uint32_t c = 2 * i + 1; c <= 2 * i + 2 && c < e->n; c++)
            least = before(&e->v[c], &e->v[least]) ? c : least;
        if (least == i)
            return;
        struct entry t = e->v[i];
        e->v[i] = e->v[least];
        e->v[least] = t;
        i = least;
    }
}

void edf_add(struct edf *e, uint32_t item, double weight)
{
    MZ_ASSERT(e->n < e->cap && weight > 0);
    e->v[e->n] = (struct entry){ e->now + 1 / weight, e->orders++, item };
    sift_up(e, e->n++);
}

uint32_t edf_pick(struct edf *e, double (*weight)(const void *arg, uint32_t item), const void *arg)
{
    MZ_ASSERT(e->n);
    struct entry *top = &e->v[0];
    uint32_t item = top->item;
    e->now = top->due;
    *top = (struct entry){ e->now + 1 / weight(arg, item), e->orders++, item };
    sift_down(e, 0);
    return item;
}
