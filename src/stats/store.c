#include "stats/stats_priv.h"

#include "base/log.h"
#include <string.h>

_Thread_local unsigned mz_stats_slot;

void mz_stats_thread_slot(unsigned slot)
{
    MZ_ASSERT(slot < MZ_STATS_SLOTS);
    mz_stats_slot = slot;
}

struct mz_stats *mz_stats_create(unsigned slots)
{
    struct mz_stats *s = mz_new0(MZ_MEM_STATS, struct mz_stats);
    s->slots = slots < 1 ? 1 : slots > MZ_STATS_SLOTS ? MZ_STATS_SLOTS : slots;
    (void)pthread_mutex_init(&s->mutex, NULL);
    mz_list_init(&s->prefixes);
    mz_list_init(&s->sources);
    mz_map_init(&s->by_prefix, MZ_MEM_STATS);
    return s;
}

void mz_stats_destroy(struct mz_stats *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->tagged.n; i++)
        mz_scope_unref(s->tagged.v[i]);
    mz_vec_free(&s->tagged, MZ_MEM_STATS);
    MZ_ASSERT(mz_list_empty(&s->prefixes) && !s->firsts);
    mz_stats_config_destroy(s->config);
    mz_map_fini(&s->by_prefix);
    for (struct named_kind *k = s->named, *next; k; k = next) {
        next = k->next;
        mz_free(MZ_MEM_STATS, k);
    }
    (void)pthread_mutex_destroy(&s->mutex);
    mz_free(MZ_MEM_STATS, s);
}

const struct mz_stats_config *store_config(struct mz_stats *s)
{
    if (!s->config)
        s->config = config_default();
    return s->config;
}

void mz_stats_configure(struct mz_stats *s, struct mz_stats_config *take)
{
    mz_stats_config_destroy(s->config);
    s->config = take;
}

void mz_stats_defer(struct mz_stats *s, const struct mz_stat_kind *kind)
{
    s->deferred = kind;
}

void mz_stats_add_source(struct mz_stats *s, struct mz_stats_source *source)
{
    mz_list_add_tail(&s->sources, &source->link);
}

void mz_stats_del_source(struct mz_stats_source *source)
{
    mz_list_del(&source->link);
}

/* ---- scopes ---- */

static void scope_free(struct scope *s);

static struct prefix *prefix_get(struct mz_stats *st, struct mz_str text)
{
    struct prefix *p = mz_map_get(&st->by_prefix, text);
    if (p)
        return p;
    p = mz_alloc0(MZ_MEM_STATS, sizeof(*p) + text.n + 1);
    p->n = text.n;
    if (text.n)
        memcpy(p->text, text.p, text.n);
    mz_list_add_tail(&st->prefixes, &p->link);
    (void)mz_map_put(&st->by_prefix, (struct mz_str){ p->text, p->n }, p);
    return p;
}

static void prefix_leave(struct mz_stats *st, struct scope *s)
{
    struct prefix *p = MZ_CONTAINER((uintptr_t)s->pub.prefix.p, struct prefix, text);
    struct scope **at = &p->scopes;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (p->scopes)
        return;
    (void)mz_map_del(&st->by_prefix, (struct mz_str){ p->text, p->n });
    mz_list_del(&p->link);
    mz_free(MZ_MEM_STATS, p);
}

/* The mutex is held. A reference. */
static struct scope *scope_get(struct mz_stats *st, const struct mz_stat_kind *kind,
                               struct mz_str prefix)
{
    struct prefix *p = prefix_get(st, prefix);
    struct scope **at = &p->scopes;
    while (*at && strcmp((*at)->pub.kind->name, kind->name) != 0)
        at = &(*at)->next;
    struct scope *s = *at;
    if (!s) {
        s = *at = mz_alloc0(MZ_MEM_STATS, sizeof(*s) + st->slots * sizeof(s->slots[0]));
        s->pub = (struct mz_scope){ s->slots, kind, st, { p->text, p->n } };
    }
    s->refs++;
    return s;
}

struct mz_scope *mz_scope_create(struct mz_stats *st, const struct mz_stat_kind *kind,
                                 struct mz_str prefix)
{
    (void)pthread_mutex_lock(&st->mutex);
    struct scope *s = scope_get(st, kind, prefix);
    (void)pthread_mutex_unlock(&st->mutex);
    return &s->pub;
}

/* Control bytes part the tags, and Prometheus wants UTF-8. */
static void append_value(struct mz_buf *b, struct mz_str value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        mz_buf_append(b, c < 0x20 || c >= 0x7f ? "_" : value.p + i, 1);
    }
}

static void encode(struct mz_buf *b, struct mz_str ns, const struct mz_stat_tag *tags, unsigned n)
{
    static const char name_mark = TAG_NAME, value_mark = TAG_VALUE;
    mz_buf_append_str(b, ns);
    mz_buf_append(b, ".", 1);
    for (unsigned i = 0; i < n; i++) {
        mz_buf_append(b, &name_mark, 1);
        append_value(b, tags[i].name);
        mz_buf_append(b, &value_mark, 1);
        append_value(b, tags[i].value);
    }
    if (!n) /* it is a tagged scope all the same */
        mz_buf_append(b, &name_mark, 1);
}

struct mz_scope *mz_scope_tagged(struct mz_stats *st, const struct mz_stat_kind *kind,
                                 struct mz_str ns, const struct mz_stat_tag *tags, unsigned n)
{
    struct mz_buf b;
    mz_buf_init(&b);
    encode(&b, ns, tags, n < MZ_STATS_TAGS_MAX ? n : MZ_STATS_TAGS_MAX);
    struct mz_str prefix = mz_buf_linearize(&b, mz_buf_len(&b));
    (void)pthread_mutex_lock(&st->mutex);
    struct scope *s = scope_get(st, kind, prefix);
    bool fresh = s->refs == 1, room = st->tagged.n < MZ_STATS_TAGGED_MAX;
    if (fresh && room)
        *mz_vec_push(&st->tagged, MZ_MEM_STATS) = &s->pub;
    else
        s->refs--;
    if (fresh && !room)
        prefix_leave(st, s);
    (void)pthread_mutex_unlock(&st->mutex);
    mz_buf_fini(&b);
    if (!fresh || room)
        return &s->pub;
    scope_free(s);
    return NULL;
}

static bool name_ok(struct mz_str name)
{
    if (!name.n || name.n > MZ_STATS_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~')
            return false;
    return true;
}

static struct named_kind *named_create(struct mz_str name, enum mz_stat_type type,
                                       enum mz_stat_unit unit)
{
    enum { MARK = 4 };
    struct named_kind *k = mz_alloc0(MZ_MEM_STATS, sizeof(*k) + MARK + name.n + 1);
    k->text[0] = (char)('0' + type);
    k->text[1] = (char)('0' + unit);
    k->text[2] = k->text[3] = ':';
    memcpy(k->text + MARK, name.p, name.n);
    k->def = (struct mz_stat_def){ k->text + MARK, (uint8_t)type, (uint8_t)unit, MZ_STAT_LAZY };
    k->kind = (struct mz_stat_kind){ k->text, &k->def, 1 };
    return k;
}

const struct mz_stat_kind *mz_stat_kind_named(struct mz_stats *s, struct mz_str name,
                                              enum mz_stat_type type, enum mz_stat_unit unit)
{
    if (!name_ok(name))
        return NULL;
    (void)pthread_mutex_lock(&s->mutex);
    struct named_kind *k = s->named;
    while (k &&
           !(mz_str_eq(mz_str_c(k->def.name), name) && k->def.type == type && k->def.unit == unit))
        k = k->next;
    if (!k && s->n_named < MZ_STATS_NAMED_MAX) {
        k = named_create(name, type, unit);
        k->next = s->named;
        s->named = k;
        s->n_named++;
    }
    (void)pthread_mutex_unlock(&s->mutex);
    return k ? &k->kind : NULL;
}

/* The mutex is held. A reference. */
static struct first_values *first_get(struct mz_stats *st, const uint64_t *values, unsigned n)
{
    struct first_values *f = st->firsts;
    while (f && (f->n != n || memcmp(f->v, values, n * sizeof(*values)) != 0))
        f = f->next;
    if (!f) {
        f = mz_alloc0(MZ_MEM_STATS, sizeof(*f) + n * sizeof(*values));
        f->next = st->firsts;
        f->n = n;
        memcpy(f->v, values, n * sizeof(*values));
        st->firsts = f;
    }
    f->refs++;
    return f;
}

/* The mutex is held. */
static void first_drop(struct mz_stats *st, struct first_values *f)
{
    if (!f || --f->refs)
        return;
    struct first_values **at = &st->firsts;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    mz_free(MZ_MEM_STATS, f);
}

static const struct first_values *first_of(const struct scope *s)
{
    return __atomic_load_n(&s->first, __ATOMIC_ACQUIRE);
}

bool mz_scope_begin(struct mz_scope *pub, const uint64_t *values, unsigned n)
{
    struct scope *s = scope_of(pub);
    MZ_ASSERT(n <= pub->kind->n);
    (void)pthread_mutex_lock(&pub->store->mutex);
    bool fresh = !first_of(s);
    for (unsigned slot = 0; fresh && slot < pub->store->slots; slot++)
        fresh = __atomic_load_n(&s->slots[slot], __ATOMIC_ACQUIRE) == NULL;
    if (fresh)
        __atomic_store_n(&s->first, first_get(pub->store, values, n), __ATOMIC_RELEASE);
    (void)pthread_mutex_unlock(&pub->store->mutex);
    return fresh;
}

/* What is added to the sum of a number. */
static uint64_t first_value(const struct scope *s, unsigned i)
{
    const struct first_values *first = first_of(s);
    return first && i < first->n ? first->v[i] : 0;
}

struct mz_scope *mz_scope_ref(struct mz_scope *pub)
{
    struct scope *s = scope_of(pub);
    (void)pthread_mutex_lock(&pub->store->mutex);
    s->refs++;
    (void)pthread_mutex_unlock(&pub->store->mutex);
    return pub;
}

static void cells_free(const struct mz_stat_kind *kind, struct mz_scope_cells *pub)
{
    if (!pub)
        return;
    struct cells *c = MZ_CONTAINER(pub, struct cells, pub);
    for (unsigned i = 0; i < kind->n; i++)
        if (kind->defs[i].type == MZ_HISTOGRAM)
            mz_hist_destroy((struct mz_hist *)(uintptr_t)pub->v[i]);
    for (struct code_counts *f = c->codes, *next; f; f = next) {
        next = f->next;
        for (unsigned i = 0; i < MZ_COUNT(f->classes); i++)
            mz_free(MZ_MEM_STATS, f->classes[i]);
        mz_free(MZ_MEM_STATS, f->name);
        mz_free(MZ_MEM_STATS, f);
    }
    mz_free(MZ_MEM_STATS, c);
}

static void scope_free(struct scope *s)
{
    const struct mz_stat_kind *kind = s->pub.kind;
    for (unsigned i = 0; i < s->pub.store->slots; i++)
        cells_free(kind, s->slots[i]);
    for (unsigned i = 0; i < kind->n; i++) {
        if (s->texts)
            mz_free(MZ_MEM_STATS, s->texts[i]);
        if (s->views && s->views[i]) {
            mz_hist_view_fini(s->views[i]);
            mz_free(MZ_MEM_STATS, s->views[i]);
        }
    }
    for (struct code_base *b = s->code_base, *next; b; b = next) {
        next = b->next;
        mz_free(MZ_MEM_STATS, b->name);
        mz_free(MZ_MEM_STATS, b);
    }
    mz_free(MZ_MEM_STATS, s->texts);
    mz_free(MZ_MEM_STATS, s->views);
    mz_free(MZ_MEM_STATS, s->base);
    mz_free(MZ_MEM_STATS, s);
}

void mz_scope_unref(struct mz_scope *pub)
{
    if (!pub)
        return;
    struct scope *s = scope_of(pub);
    struct mz_stats *st = pub->store;
    (void)pthread_mutex_lock(&st->mutex);
    bool last = --s->refs == 0;
    if (last) {
        prefix_leave(st, s);
        first_drop(st, s->first);
    }
    (void)pthread_mutex_unlock(&st->mutex);
    if (last)
        scope_free(s);
}

bool mz_scope_shared(const struct mz_scope *pub)
{
    const struct scope *s = scope_of((struct mz_scope *)(uintptr_t)pub);
    (void)pthread_mutex_lock(&pub->store->mutex);
    bool shared = s->refs > 1;
    (void)pthread_mutex_unlock(&pub->store->mutex);
    return shared;
}

void scopes_hold(struct mz_stats *st, scopes_vec *out)
{
    mz_list_foreach (it, &st->sources) {
        struct mz_stats_source *source = MZ_CONTAINER(it, struct mz_stats_source, link);
        source->show(source);
    }
    (void)pthread_mutex_lock(&st->mutex);
    scopes_foreach (s, st) {
        s->refs++;
        *mz_vec_push(out, MZ_MEM_ADMIN) = s;
    }
    (void)pthread_mutex_unlock(&st->mutex);
}

void scopes_release(struct mz_stats *st, scopes_vec *v)
{
    for (size_t i = 0; i < v->n; i++)
        mz_scope_unref(&v->v[i]->pub);
    mz_vec_free(v, MZ_MEM_ADMIN);
    mz_list_foreach (it, &st->sources) {
        struct mz_stats_source *source = MZ_CONTAINER(it, struct mz_stats_source, link);
        source->hide(source);
    }
}

/* ---- writing ---- */

static struct mz_scope_cells *cells_create(struct mz_scope *s, unsigned slot)
{
    size_t n = s->kind->n;
    struct cells *c = mz_alloc0(MZ_MEM_STATS, sizeof(*c) + mz_mul(n, sizeof(uint64_t)) + n + 1);
    c->pub.v = (uint64_t *)(void *)(c + 1);
    c->pub.used = (uint8_t *)(c->pub.v + n);
    __atomic_store_n(&s->slots[slot], &c->pub, __ATOMIC_RELEASE);
    return &c->pub;
}

struct mz_scope_cells *mz_scope_cells_create(struct mz_scope *s)
{
    MZ_ASSERT(mz_stats_slot < s->store->slots);
    return cells_create(s, mz_stats_slot);
}

/* All threads write the main thread's cell. */
void mz_gauge_set_shared(struct mz_scope *s, unsigned i, uint64_t v)
{
    struct mz_scope_cells *c = __atomic_load_n(&s->slots[0], __ATOMIC_ACQUIRE);
    if (MZ_UNLIKELY(!c)) {
        (void)pthread_mutex_lock(&s->store->mutex);
        c = s->slots[0] ? s->slots[0] : cells_create(s, 0);
        (void)pthread_mutex_unlock(&s->store->mutex);
    }
    __atomic_store_n(&c->used[i], 1, __ATOMIC_RELAXED);
    __atomic_store_n(&c->v[i], v, __ATOMIC_RELAXED);
}

void mz_gauge_set(struct mz_scope *s, unsigned i, uint64_t v)
{
    __atomic_store_n(mz_cell(s, i), v - first_value(scope_of(s), i), __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void record_first(uint64_t *cell, uint64_t v)
{
    struct mz_hist *h = mz_hist_create();
    mz_hist_add(h, v);
    __atomic_store_n(cell, (uint64_t)(uintptr_t)h, __ATOMIC_RELEASE);
}

void mz_hist_record(struct mz_scope *s, unsigned i, uint64_t v)
{
    uint64_t *cell = mz_cell(s, i);
    struct mz_hist *h = (struct mz_hist *)(uintptr_t)*cell;
    if (MZ_UNLIKELY(!h))
        record_first(cell, v);
    else
        mz_hist_add(h, v);
}

void mz_text_set(struct mz_scope *pub, unsigned i, struct mz_str text)
{
    struct scope *s = scope_of(pub);
    char *copy = mz_strndup(MZ_MEM_STATS, text.n ? text.p : "", text.n);
    (void)mz_cell(pub, i); /* marks it as used */
    (void)pthread_mutex_lock(&pub->store->mutex);
    if (!s->texts)
        s->texts = mz_newn0(MZ_MEM_STATS, char *, pub->kind->n);
    mz_free(MZ_MEM_STATS, s->texts[i]);
    s->texts[i] = copy;
    (void)pthread_mutex_unlock(&pub->store->mutex);
}

/* ---- reading ---- */

static const struct mz_scope_cells *cells_of(const struct scope *s, unsigned slot)
{
    return __atomic_load_n(&s->slots[slot], __ATOMIC_ACQUIRE);
}

uint64_t scope_value(const struct scope *s, unsigned i)
{
    uint64_t sum = first_value(s, i);
    for (unsigned slot = 0; slot < s->pub.store->slots; slot++) {
        const struct mz_scope_cells *c = cells_of(s, slot);
        if (c)
            sum += __atomic_load_n(&c->v[i], __ATOMIC_RELAXED);
    }
    const uint64_t *base = __atomic_load_n(&s->base, __ATOMIC_ACQUIRE);
    return base ? sum - __atomic_load_n(&base[i], __ATOMIC_RELAXED) : sum;
}

bool scope_used(const struct scope *s, unsigned i)
{
    const struct first_values *first = first_of(s);
    if (first && i < first->n)
        return true;
    for (unsigned slot = 0; slot < s->pub.store->slots; slot++) {
        const struct mz_scope_cells *c = cells_of(s, slot);
        if (c && __atomic_load_n(&c->used[i], __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

uint64_t mz_scope_value(const struct mz_scope *s, unsigned i)
{
    /* pub is the first member */
    return s->kind->defs[i].type < MZ_HISTOGRAM
               ? scope_value((const struct scope *)(const void *)s, i)
               : 0;
}

/* ---- what the main thread does now and then ---- */

static bool sum_histogram(const struct scope *s, unsigned i, uint64_t *sums)
{
    bool any = false;
    for (unsigned slot = 0; slot < s->pub.store->slots; slot++) {
        const struct mz_scope_cells *c = cells_of(s, slot);
        uint64_t p = c ? __atomic_load_n(&c->v[i], __ATOMIC_ACQUIRE) : 0;
        if (!p)
            continue;
        if (!any)
            memset(sums, 0, MZ_HIST_BINS * sizeof(*sums));
        mz_hist_sum((const struct mz_hist *)(uintptr_t)p, sums);
        any = true;
    }
    return any;
}

static void flush_scope(struct scope *s, uint64_t *sums)
{
    const struct mz_stat_kind *kind = s->pub.kind;
    for (unsigned i = 0; i < kind->n; i++) {
        if (kind->defs[i].type != MZ_HISTOGRAM || !sum_histogram(s, i, sums))
            continue;
        if (!s->views)
            s->views = mz_newn0(MZ_MEM_STATS, struct mz_hist_view *, kind->n);
        if (!s->views[i]) {
            s->views[i] = mz_new0(MZ_MEM_STATS, struct mz_hist_view);
            s->views[i]->percent = kind->defs[i].unit == MZ_UNIT_PERCENT;
        }
        mz_hist_view_latch(s->views[i], sums);
    }
}

/* The second time leaves nothing in the interval. */
void mz_scope_latch(struct mz_scope *s)
{
    uint64_t *sums = mz_newn0(MZ_MEM_STATS, uint64_t, MZ_HIST_BINS);
    flush_scope(scope_of(s), sums);
    flush_scope(scope_of(s), sums);
    mz_free(MZ_MEM_STATS, sums);
}

void mz_stats_flush(struct mz_stats *st)
{
    uint64_t *sums = mz_newn0(MZ_MEM_STATS, uint64_t, MZ_HIST_BINS);
    (void)pthread_mutex_lock(&st->mutex);
    scopes_foreach (s, st)
        flush_scope(s, sums);
    (void)pthread_mutex_unlock(&st->mutex);
    mz_free(MZ_MEM_STATS, sums);
}
