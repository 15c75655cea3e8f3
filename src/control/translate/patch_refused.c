/* EnvoyFilters that do harm: a resource that proxies would refuse gets all patches but those. */
#include "control/model/attached.h"
#include "control/translate/patch.h"
#include "control/translate/tell.h"

enum {
    MAX_HARMFUL = 8, /* at one resource */
    MIN_SEARCH = 1024,
    TRY = 16, /* what opening, checking and packing costs, in changes */
};

struct refused {
    struct mz_view *v;
    enum mz_xds_type type;
    struct mz_arena *a;
    struct mz_str name, bytes; /* with those in front of `made` */
    struct tr_patch **all;     /* that could be about it */
    size_t n, made;
    size_t allowed, left; /* changes: of all patches, and for the search */
    bool gone;            /* one of them removes it */
    struct mz_err err;    /* of the last try that was refused */
};

static bool is_about(enum mz_xds_type t, ist_EnvoyFilter_ApplyTo to)
{
    switch (to) {
    case ist_EnvoyFilter_ApplyTo_CLUSTER:
        return t == MZ_XDS_CLUSTER;
    case ist_EnvoyFilter_ApplyTo_ROUTE_CONFIGURATION:
    case ist_EnvoyFilter_ApplyTo_VIRTUAL_HOST:
    case ist_EnvoyFilter_ApplyTo_HTTP_ROUTE:
        return t != MZ_XDS_CLUSTER; /* routes may stand in a listener */
    default:
        return t == MZ_XDS_LISTENER;
    }
}

static void set_off(struct refused *r, size_t from, size_t to, bool off)
{
    for (size_t i = from; i < to; i++)
        r->all[i]->off = off;
}

/* Patches of clusters work one after the other: what those in front made is kept. Others work place by place. */
static void keep(struct refused *r, size_t to, struct mz_str bytes)
{
    if (r->type != MZ_XDS_CLUSTER)
        return;
    r->bytes = mz_arena_dup(r->a, bytes);
    r->made = to;
    set_off(r, 0, to, true);
}

/* With those up to @to that nobody found harmful. */
static bool is_good(struct refused *r, size_t from, size_t to)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct patch_work work = { .left = r->allowed };
    struct mz_str bytes;
    set_off(r, from, to, false);
    set_off(r, to, r->n, true);
    struct mz_err err = { .path = "", .msg = "" };
    const bool kept = patch_apply(r->v, r->type, r->bytes, a, &work, &bytes);
    const bool ok = !kept || patch_loads(r->v, r->type, bytes, a, &err);
    const size_t cost = TRY + r->allowed - work.left;
    r->left -= cost < r->left ? cost : r->left;
    r->gone = !kept;
    if (!ok)
        r->err = err;
    if (kept && ok)
        keep(r, to, bytes);
    mz_arena_destroy(a);
    return ok;
}

static bool is_over(const struct refused *r)
{
    return !r->left || r->gone;
}

/*
 * The first of those from @from on that does harm behind the others; their number: none does. It is sought in twice as many each time,
 * so that what many do costs as little as what one does. @out_sure: not: one from there on, and time is up.
 */
static size_t first_harmful(struct refused *r, size_t from, bool *out_sure)
{
    size_t good = from, bad = r->n + 1;
    for (size_t step = 1; good < r->n && bad > r->n && !is_over(r); step *= 2) {
        const size_t to = r->n - good > step ? good + step : r->n;
        if (is_good(r, good, to))
            good = to;
        else
            bad = to;
    }
    while (bad <= r->n && bad - good > 1 && !is_over(r)) {
        const size_t mid = good + (bad - good) / 2;
        if (is_good(r, good, mid))
            good = mid;
        else
            bad = mid;
    }
    *out_sure = bad - good == 1;
    return good;
}

static void tell(struct refused *r, size_t at, bool last, bool sure)
{
    const struct tr_patch *p = r->all[at];
    char text[sizeof(r->err)];
    tr_tell(r->v, p->doc->key,
            "spec.config_patches[%zu] is not applied to %.*s%s: proxies would refuse %s: %s",
            p->index, MZ_STR_ARG(r->name), last ? ", nor are those behind it" : "",
            sure ? "it" : "one of them", mz_err_text(&r->err, text, sizeof(text)));
}

static void search(struct refused *r)
{
    size_t from = 0;
    for (unsigned found = 1; from < r->n; found++) {
        bool sure;
        const size_t at = first_harmful(r, from, &sure);
        if (at == r->n || r->gone)
            break;
        const bool last = found == MAX_HARMFUL || !sure || !r->left;
        tell(r, at, last, sure);
        from = last ? r->n : at + 1;
        set_off(r, at, from, true);
    }
}

bool patch_good_ones(struct mz_view *v, enum mz_xds_type t, const struct mz_out *o, size_t allowed,
                     size_t spent, const struct mz_err *why, struct mz_arena *a, struct mz_str *out)
{
    struct tr_patches *all = tr_patches(v);
    struct refused r = { .v = v,
                         .type = t,
                         .a = a,
                         .name = o->name,
                         .bytes = mz_out_bytes(o, a),
                         .all = mz_arena_alloc(a, all->n_v * sizeof(*r.all)),
                         .allowed = allowed,
                         .left = MIN_SEARCH + 3 * spent,
                         .err = *why };
    struct patch_work work = { .left = allowed };
    for (size_t i = 0; i < all->n_v; i++)
        if (is_about(t, all->v[i].to))
            r.all[r.n++] = &all->v[i];
    search(&r);
    const bool kept = !r.gone && patch_apply(v, t, r.bytes, a, &work, out);
    set_off(&r, 0, r.n, false);
    return kept;
}
