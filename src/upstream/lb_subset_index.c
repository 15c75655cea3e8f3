/* The index of a cluster's subsets (U2): made with its host sets, found by a hash of the values. */
#include "base/buf.h"
#include "upstream/lb_subset.h"
#include <math.h>

#define TEXT_MAX 200u /* of a subset, for the decision record */

/* ---- values ---- */

static uint64_t value_hash(const struct mz_value *v, uint64_t seed)
{
    seed += (uint64_t)v->kind * 0x9e3779b97f4a7c15u;
    switch (v->kind) {
    case MZ_VALUE_STRING:
        return mz_xxh64(v->str.p, v->str.n, seed);
    case MZ_VALUE_BOOL:
        return mz_xxh64(&v->b, sizeof(v->b), seed);
    case MZ_VALUE_NUMBER: {
        double d = v->number + 0.0; /* -0 equals 0 */
        return mz_xxh64(&d, sizeof(d), seed);
    }
    case MZ_VALUE_LIST:
        for (size_t i = 0; i < v->list.n; i++)
            seed = value_hash(&v->list.v[i], seed);
        return seed;
    case MZ_VALUE_STRUCT:
        for (size_t i = 0; i < v->fields.n; i++) { /* sorted by key */
            seed = mz_xxh64(v->fields.v[i].key.p, v->fields.v[i].key.n, seed);
            seed = value_hash(v->fields.v[i].value, seed);
        }
        return seed;
    default:
        return seed;
    }
}

static uint64_t values_hash(uint32_t selector, const struct mz_value *const *values, uint32_t n)
{
    uint64_t h = selector;
    for (uint32_t i = 0; i < n; i++)
        h = value_hash(values[i], h);
    return h;
}

static uint32_t find(const struct subsets *x, uint32_t selector,
                     const struct mz_value *const *values, uint64_t hash)
{
    uint32_t n = x->cfg->v[selector].n_keys;
    for (uint64_t at = hash; x->slots; at++) {
        uint32_t slot = x->slots[at & x->mask];
        if (!slot)
            break;
        const struct subset *s = &x->v[slot - 1];
        if (s->hash != hash || s->selector != selector)
            continue;
        uint32_t same = 0;
        while (same < n && mz_value_eq(s->values[same], values[same]))
            same++;
        if (same == n)
            return slot - 1;
    }
    return SUBSET_NONE;
}

uint32_t subsets_find(const struct subsets *x, uint32_t selector,
                      const struct mz_value *const *values)
{
    return find(x, selector, values, values_hash(selector, values, x->cfg->v[selector].n_keys));
}

/* ---- sorting hosts into subsets ---- */

struct members { /* numbers of hosts */
    uint32_t *v;
    size_t n, cap;
};
struct build {
    const struct subset_config *cfg;
    struct host_sets *sets;
    struct subsets *x;
    struct {
        struct subset *v;
        size_t n, cap;
    } found;
    struct members *members; /* of each found one */
    size_t members_cap;
    uint32_t host, made; /* the host that is sorted, its combinations so far */
    const struct mz_value **values;
    bool cut;
};

static void slots_grow(struct subsets *x)
{
    uint32_t cap = x->mask ? (x->mask + 1) * 2 : 16;
    mz_free(MZ_MEM_UPSTREAM, x->slots);
    x->slots = mz_newn0(MZ_MEM_UPSTREAM, uint32_t, cap);
    x->mask = cap - 1;
    for (uint32_t i = 0; i < x->n; i++) {
        uint64_t at = x->v[i].hash;
        while (x->slots[at & x->mask])
            at++;
        x->slots[at & x->mask] = i + 1;
    }
}

static uint32_t found_add(struct build *b, uint32_t selector, uint64_t hash)
{
    uint32_t n = b->cfg->v[selector].n_keys;
    struct subset s = { .selector = selector, .hash = hash };
    s.values = mz_arena_alloc(b->sets->arena, mz_mul(n, sizeof(*s.values)));
    memcpy(s.values, b->values, n * sizeof(*s.values));
    *mz_vec_push(&b->found, MZ_MEM_UPSTREAM) = s;
    b->x->v = b->found.v;
    b->x->n = (uint32_t)b->found.n;
    if (b->found.n > b->members_cap)
        b->members = mz_vec_grow(MZ_MEM_UPSTREAM, b->members, &b->members_cap, b->found.n,
                                 sizeof(*b->members));
    b->members[b->found.n - 1] = (struct members){ 0 };
    if (!b->x->mask || b->x->n * 2 > b->x->mask)
        slots_grow(b->x); /* takes it in */
    else {
        uint64_t at = hash;
        while (b->x->slots[at & b->x->mask])
            at++;
        b->x->slots[at & b->x->mask] = b->x->n;
    }
    return b->x->n - 1;
}

static void add(struct build *b, uint32_t selector)
{
    uint64_t hash = values_hash(selector, b->values, b->cfg->v[selector].n_keys);
    uint32_t i = find(b->x, selector, b->values, hash);
    if (i == SUBSET_NONE) {
        if (b->found.n == SUBSETS_MAX) {
            b->cut = true;
            return;
        }
        i = found_add(b, selector, hash);
    }
    MZ_ASSERT(b->members); /* found_add() made room */
    struct members *m = &b->members[i];
    if (m->n && m->v[m->n - 1] == b->host)
        return; /* a list that names a value twice */
    for (size_t k = 0; b->cfg->v[selector].single_host && k < m->n; k++)
        if (b->sets->hosts[m->v[k]]->priority == b->sets->hosts[b->host]->priority) {
            b->x->duplicates++;
            return;
        }
    *mz_vec_push(m, MZ_MEM_UPSTREAM) = b->host;
}

/* Every combination of the values that the host has under the selector's keys, from key @k on. */
static void combine(struct build *b, uint32_t selector, uint32_t k)
{
    static const struct mz_str ns = MZ_STR_INIT("envoy.lb");
    const struct subset_selector *s = &b->cfg->v[selector];
    if (k == s->n_keys) {
        if (b->made++ < SUBSETS_HOST_MAX)
            add(b, selector);
        else
            b->cut = true;
        return;
    }
    const struct mz_value *v =
        mz_meta_get(b->sets->hosts[b->host]->metadata, ns, &b->cfg->names[s->keys[k]], 1);
    if (!v)
        return;
    if (v->kind != MZ_VALUE_LIST || !b->cfg->list_as_any) {
        b->values[k] = v;
        combine(b, selector, k + 1);
        return;
    }
    for (size_t i = 0; i < v->list.n && b->made <= SUBSETS_HOST_MAX; i++) {
        b->values[k] = &v->list.v[i];
        combine(b, selector, k + 1);
    }
}

static bool value_has(const struct mz_value *v, const struct mz_value *want, bool list_as_any)
{
    if (mz_value_eq(v, want))
        return true;
    for (size_t i = 0; list_as_any && v->kind == MZ_VALUE_LIST && i < v->list.n; i++)
        if (mz_value_eq(&v->list.v[i], want))
            return true;
    return false;
}

static bool in_default(const struct subset_config *cfg, const struct mz_host *h)
{
    const struct mz_value *want = cfg->default_subset;
    for (size_t i = 0; want && i < want->fields.n; i++) {
        const struct mz_value *v =
            mz_meta_get(h->metadata, MZ_STR("envoy.lb"), &want->fields.v[i].key, 1);
        if (!v || !value_has(v, want->fields.v[i].value, cfg->list_as_any))
            return false;
    }
    return true;
}

/* ---- host sets of one subset ---- */

/* Locality weights in proportion to the hosts that the subset left; both lists of localities have one order. */
static void weights_scale(const struct host_set *from, struct host_set *to)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < to->n_localities; i++) {
        struct locality *l = &to->localities[i];
        while (!locality_same(l, &from->localities[k]))
            k++;
        l->weight = (uint32_t)lround((double)l->weight * l->lists[SOURCE_ALL].n /
                                     from->localities[k].lists[SOURCE_ALL].n);
    }
}

static struct host_sets *sets_of(const struct build *b, const struct members *m)
{
    const struct host_sets *all = b->sets;
    struct host_spec *v = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, m->n + 1);
    struct locality_spec *places =
        mz_newn0(MZ_MEM_UPSTREAM, struct locality_spec, all->n_places + 1);
    for (size_t i = 0; i < m->n; i++)
        v[i] = (struct host_spec){ mz_host_ref(all->hosts[m->v[i]]), all->host_locality[m->v[i]] };
    for (uint32_t i = 0; i < all->n_places; i++) {
        places[i] = all->places[i];
        if (!b->cfg->locality_weight_aware)
            places[i].weight = 0;
    }
    struct host_sets *s =
        host_sets_create(v, (uint32_t)m->n, places, all->n_places, all->by_locality, all->seq);
    for (uint32_t p = 0; b->cfg->scale_locality_weight && p < s->n; p++)
        weights_scale(&all->v[p], &s->v[p]);
    mz_free(MZ_MEM_UPSTREAM, places);
    mz_free(MZ_MEM_UPSTREAM, v);
    return s;
}

/* The first host of the first priority that has one. */
static struct mz_host *single_of(const struct build *b, const struct members *m)
{
    struct mz_host *best = NULL;
    for (size_t i = 0; i < m->n; i++) {
        struct mz_host *h = b->sets->hosts[m->v[i]];
        if (!best || h->priority < best->priority)
            best = h;
    }
    return best;
}

static struct mz_str text_of(const struct build *b, const struct subset *s, size_t n_hosts)
{
    const struct subset_selector *sel = &b->cfg->v[s->selector];
    struct mz_buf out;
    mz_buf_init(&out);
    mz_buf_append_str(&out, MZ_STR("subset {"));
    for (uint32_t k = 0; k < sel->n_keys; k++) {
        mz_buf_append_str(&out, k ? MZ_STR(", ") : MZ_STR(""));
        mz_buf_append_str(&out, b->cfg->names[sel->keys[k]]);
        mz_buf_append_str(&out, MZ_STR("="));
        if (s->values[k]->kind == MZ_VALUE_STRING)
            mz_buf_append_str(&out, s->values[k]->str);
        else
            mz_value_json(s->values[k], &out);
    }
    mz_buf_printf(&out, "} has %zu host%s", n_hosts, n_hosts == 1 ? "" : "s");
    size_t n = mz_buf_len(&out);
    n = n < TEXT_MAX ? n : TEXT_MAX;
    struct mz_str text = mz_arena_dup(b->sets->arena, mz_buf_linearize(&out, n));
    mz_buf_fini(&out);
    return text;
}

static uint32_t extra_add(struct build *b, bool needed, bool all, const char *text)
{
    if (!needed)
        return SUBSET_NONE;
    struct members m = { 0 };
    for (uint32_t i = 0; i < b->sets->n_hosts; i++)
        if (all || in_default(b->cfg, b->sets->hosts[i]))
            *mz_vec_push(&m, MZ_MEM_UPSTREAM) = i;
    struct subset *s = mz_vec_push(&b->found, MZ_MEM_UPSTREAM);
    *s = (struct subset){ .sets = sets_of(b, &m), .text = mz_str_c(text) };
    mz_vec_free(&m, MZ_MEM_UPSTREAM);
    return (uint32_t)b->found.n - 1;
}

static uint32_t most_keys(const struct subset_config *cfg)
{
    uint32_t n = 1;
    for (uint32_t i = 0; i < cfg->n; i++)
        n = cfg->v[i].n_keys > n ? cfg->v[i].n_keys : n;
    return n;
}

void subsets_build(const struct subset_config *cfg, struct host_sets *s)
{
    struct subsets *x = mz_arena_new0(s->arena, struct subsets);
    struct build b = { .cfg = cfg, .sets = s, .x = x };
    b.values = mz_newn0(MZ_MEM_UPSTREAM, const struct mz_value *, most_keys(cfg));
    x->cfg = cfg;
    for (b.host = 0; b.host < s->n_hosts; b.host++) {
        b.made = 0;
        for (uint32_t i = 0; i < cfg->n; i++)
            combine(&b, i, 0);
    }
    if (b.cut)
        MZ_LOG(WARN, upstream,
               "hosts have too many combinations of values for subsets: at most %u "
               "a host and %u a cluster are made",
               SUBSETS_HOST_MAX, SUBSETS_MAX);
    for (uint32_t i = 0; i < x->n; i++) {
        MZ_ASSERT(b.members);
        struct members *m = &b.members[i];
        x->v[i].text = text_of(&b, &x->v[i], m->n);
        if (cfg->v[x->v[i].selector].single_host)
            x->v[i].single = single_of(&b, m);
        else
            x->v[i].sets = sets_of(&b, m);
        mz_vec_free(m, MZ_MEM_UPSTREAM);
    }
    x->any = extra_add(&b, cfg->needs_any, true, "no subset has these values: any endpoint");
    x->standard =
        extra_add(&b, cfg->needs_default, false, "no subset has these values: the default subset");
    x->v = b.found.v;
    x->total = (uint32_t)b.found.n;
    mz_free(MZ_MEM_UPSTREAM, b.members);
    mz_free(MZ_MEM_UPSTREAM, b.values);
    s->subsets = x;
}

void subsets_fini(struct subsets *x)
{
    for (uint32_t i = 0; x && i < x->total; i++)
        host_sets_unref(x->v[i].sets);
    if (x) {
        mz_free(MZ_MEM_UPSTREAM, x->v);
        mz_free(MZ_MEM_UPSTREAM, x->slots);
    }
}

static uint32_t missing(const struct subsets *of, const struct subsets *in)
{
    uint32_t n = 0;
    for (uint32_t i = 0; of && i < of->n; i++)
        n += !in || find(in, of->v[i].selector, of->v[i].values, of->v[i].hash) == SUBSET_NONE;
    return n;
}

void subsets_count(struct mz_scope *scope, const struct subsets *old, const struct subsets *now)
{
    uint32_t created = missing(now, old), removed = missing(old, now);
    if (created)
        mz_count(scope, MZ_CS_LB_SUBSETS_CREATED, created);
    if (removed)
        mz_count(scope, MZ_CS_LB_SUBSETS_REMOVED, removed);
    if (created != removed)
        mz_gauge_add(scope, MZ_CS_LB_SUBSETS_ACTIVE, (int64_t)created - (int64_t)removed);
}
