#include "base/regex.h"
#include "stats/stats_priv.h"

#include <stdlib.h>
#include <string.h>

/* Which statistics a query wants, and in which order. */

struct collector {
    struct shown *out;
    const struct mz_stats_config *config;
    const struct mz_stats_query *q;
};

static bool wanted(const struct collector *c, struct mz_str name)
{
    const struct mz_stats_query *q = c->q;
    if (q->filter && mz_regex_search(q->filter, name) == q->invert_filter)
        return false;
    return config_shows(c->config, name);
}

static bool wants_type(const struct collector *c, unsigned type)
{
    return !c->q->types || c->q->types & 1U << type;
}

/* False: it is not wanted. Of a million names a query wants a few: the others are made on the stack. */
static bool full_name(const struct collector *c, const struct scope *s, const char *name,
                      struct mz_str *out)
{
    const struct mz_str parts[] = { s->pub.prefix, mz_str_c(name) };
    char text[512];
    bool fits = parts[0].n + parts[1].n <= sizeof(text);
    if (fits) {
        memcpy(text, parts[0].p, parts[0].n);
        memcpy(text + parts[0].n, parts[1].p, parts[1].n);
        if (!wanted(c, (struct mz_str){ text, parts[0].n + parts[1].n }))
            return false;
    }
    *out = mz_arena_cat(c->out->arena, 2, parts);
    return fits || wanted(c, *out);
}

/* A tagged scope's: the tags behind the name, parted by dots; empty values leave no place. */
static void tagged_name(const struct collector *c, const struct scope *s, ptrdiff_t tags,
                        struct item *out)
{
    struct mz_arena *a = c->out->arena;
    struct mz_str ns = { s->pub.prefix.p, (size_t)tags };
    out->tags = mz_arena_dup(a, mz_str_skip(s->pub.prefix, (size_t)tags));
    char *text = mz_arena_alloc(a, ns.n + out->rest.n + out->tags.n + 1);
    size_t n = 0;
    memcpy(text, ns.p, ns.n);
    memcpy(text + ns.n, out->rest.p, out->rest.n);
    n = ns.n + out->rest.n;
    for (size_t i = 0; i < out->tags.n; i++) {
        char ch = out->tags.p[i];
        bool mark = ch == TAG_NAME || ch == TAG_VALUE;
        bool follows = i + 1 < out->tags.n && out->tags.p[i + 1] != TAG_NAME;
        if (!mark || follows)
            text[n++] = mark ? '.' : ch;
    }
    out->name = (struct mz_str){ text, n };
}

static items *list_of(struct shown *w, unsigned type)
{
    return type == MZ_TEXT ? &w->texts : type == MZ_HISTOGRAM ? &w->histograms : &w->numbers;
}

/* A copy: the scope may go before the page is made. */
static const struct mz_hist_view *view_of(const struct collector *c, const struct scope *s,
                                          unsigned i)
{
    const struct mz_hist_view *v = s->views ? s->views[i] : NULL;
    if (!v)
        return NULL;
    struct mz_hist_view *copy = mz_arena_new0(c->out->arena, struct mz_hist_view);
    size_t bytes = v->n * sizeof(*v->bars);
    *copy = (struct mz_hist_view){ mz_arena_alloc(c->out->arena, bytes), v->n, v->percent };
    if (bytes)
        memcpy(copy->bars, v->bars, bytes);
    return copy;
}

static void collect_stat(const struct collector *c, const struct scope *s, unsigned i)
{
    const struct mz_stat_def *d = &s->pub.kind->defs[i];
    bool used = scope_used(s, i);
    bool latched = s->views && s->views[i];
    if (d->flags & MZ_STAT_HIDDEN || !wants_type(c, d->type) || (d->flags & MZ_STAT_LAZY && !used))
        return;
    if (c->q->usedonly && !(d->type == MZ_HISTOGRAM ? latched : used))
        return;
    struct item it = { .rest = mz_str_c(d->name) };
    ptrdiff_t tags = mz_str_chr(s->pub.prefix, TAG_NAME);
    if (tags >= 0)
        tagged_name(c, s, tags, &it);
    if (tags >= 0 ? !wanted(c, it.name) : !full_name(c, s, d->name, &it.name))
        return;
    const char *text = s->texts && s->texts[i] ? s->texts[i] : "";
    *mz_vec_push(list_of(c->out, d->type), MZ_MEM_ADMIN) = (struct item){
        .name = it.name,
        .tags = it.tags,
        .rest = it.rest,
        .value = d->type < MZ_HISTOGRAM ? scope_value(s, i) : 0,
        .view = view_of(c, s, i),
        .text = d->type == MZ_TEXT ? mz_arena_dup(c->out->arena, mz_str_c(text)).p : NULL,
        .type = d->type,
        .unit = d->unit,
    };
}

static void collect_code(const struct collector *c, const struct scope *s, const char *family,
                         const char *suffix, uint64_t value)
{
    const struct mz_str parts[] = { s->pub.prefix, mz_str_c(family), mz_str_c(suffix) };
    struct mz_str name = mz_arena_cat(c->out->arena, 3, parts);
    if (wanted(c, name))
        *mz_vec_push(&c->out->numbers, MZ_MEM_ADMIN) =
            (struct item){ .name = name, .value = value, .type = MZ_COUNTER };
}

static void collect_family(const struct collector *c, const struct scope *s,
                           const struct code_sums *f)
{
    char suffix[4] = { 0 };
    for (unsigned class = 0; class < 10; class ++) {
        uint64_t sum = 0;
        bool any = false;
        for (unsigned code = class * 100; code < class * 100 + 100; code++) {
            if (!f->used[code])
                continue;
            any = true;
            sum += f->counts[code];
            suffix[0] = (char)('0' + class);
            suffix[1] = (char)('0' + code / 10 % 10);
            suffix[2] = (char)('0' + code % 10);
            collect_code(c, s, f->family, suffix, f->counts[code]);
        }
        suffix[0] = (char)('0' + class);
        suffix[1] = suffix[2] = 'x';
        if (any && class >= 1 && class <= 5)
            collect_code(c, s, f->family, suffix, sum);
    }
}

static bool untouched(const struct scope *s)
{
    for (unsigned i = 0; i < s->pub.store->slots; i++)
        if (__atomic_load_n(&s->slots[i], __ATOMIC_ACQUIRE))
            return false;
    return true;
}

static void collect_scope(const struct collector *c, const struct scope *s)
{
    if (s->pub.kind == s->pub.store->deferred && untouched(s))
        return;
    for (unsigned i = 0; i < s->pub.kind->n; i++)
        collect_stat(c, s, i);
    if (!wants_type(c, MZ_COUNTER))
        return;
    code_sums_vec v = { 0 };
    scope_code_sums(s, c->out->arena, &v);
    for (size_t i = 0; i < v.n; i++)
        collect_family(c, s, v.v[i]);
    mz_vec_free(&v, MZ_MEM_ADMIN);
}

int item_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

void shown_init(struct shown *w, struct mz_stats *s, const struct mz_stats_query *q)
{
    *w = (struct shown){ .arena = mz_arena_create(MZ_MEM_ADMIN) };
    struct collector c = { w, store_config(s), q };
    scopes_vec all = { 0 };
    scopes_hold(s, &all);
    mz_vec_foreach (x, &all)
        collect_scope(&c, *x);
    scopes_release(s, &all);
    items *lists[] = { &w->texts, &w->numbers, &w->histograms };
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        if (lists[i]->n)
            qsort(lists[i]->v, lists[i]->n, sizeof(struct item), item_cmp);
}

void shown_fini(struct shown *w)
{
    mz_vec_free(&w->texts, MZ_MEM_ADMIN);
    mz_vec_free(&w->numbers, MZ_MEM_ADMIN);
    mz_vec_free(&w->histograms, MZ_MEM_ADMIN);
    mz_arena_destroy(w->arena);
}

/* ---- one number by its name ---- */

static bool find_in_scope(const struct scope *s, struct mz_str rest, uint64_t *out_value)
{
    for (unsigned i = 0; i < s->pub.kind->n; i++) {
        const struct mz_stat_def *d = &s->pub.kind->defs[i];
        if (d->type > MZ_GAUGE || !mz_str_eq(rest, mz_str_c(d->name)))
            continue;
        if (d->flags & MZ_STAT_LAZY && !scope_used(s, i))
            return false;
        *out_value = scope_value(s, i);
        return true;
    }
    return false;
}

static bool find_code(const struct code_sums *f, struct mz_str rest, uint64_t *out_value)
{
    struct mz_str family = mz_str_c(f->family);
    if (rest.n != family.n + 3 || !mz_str_starts(rest, family))
        return false;
    struct mz_str digits = mz_str_skip(rest, family.n);
    bool class = digits.p[1] == 'x' && digits.p[2] == 'x';
    uint64_t code, n = class ? 100 : 1, sum = 0;
    if (!mz_str_u64(class ? (struct mz_str){ digits.p, 1 } : digits, &code))
        return false;
    bool any = false;
    for (uint64_t i = code * n; i < code * n + n; i++) {
        any |= f->used[i];
        sum += f->counts[i];
    }
    if (any)
        *out_value = sum;
    return any;
}

static bool find_codes(const struct scope *s, struct mz_str rest, uint64_t *out_value)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    code_sums_vec v = { 0 };
    bool found = false;
    scope_code_sums(s, a, &v);
    for (size_t i = 0; i < v.n && !found; i++)
        found = find_code(v.v[i], rest, out_value);
    mz_vec_free(&v, MZ_MEM_ADMIN);
    mz_arena_destroy(a);
    return found;
}

bool mz_stats_find(struct mz_stats *st, struct mz_str full_name_, uint64_t *out_value)
{
    bool found = false;
    (void)pthread_mutex_lock(&st->mutex);
    scopes_foreach (s, st) {
        if (found || !mz_str_starts(full_name_, s->pub.prefix))
            continue;
        struct mz_str rest = mz_str_skip(full_name_, s->pub.prefix.n);
        found = find_in_scope(s, rest, out_value) || find_codes(s, rest, out_value);
    }
    (void)pthread_mutex_unlock(&st->mutex);
    return found;
}
