#include "filters/http/side_call.h"

#include "http/validate.h"
#include "upstream/stats.h"

/* ---- statistics ---- */

void cluster_scopes_init(struct cluster_scopes *s, const struct mz_factory *f,
                         const struct mz_stat_kind *kind, const char *name, const char *own,
                         struct mz_arena *a)
{
    size_t n = strlen(own);
    *s = (struct cluster_scopes){ .stats = f->stats, .kind = kind, .n_slots = f->workers + 1 };
    s->prefix = mz_arena_printf(a, "%s.%s%s", name, own, n && own[n - 1] != '.' ? "." : "");
    s->by_cluster = mz_arena_alloc0(a, mz_mul(s->n_slots, sizeof(*s->by_cluster)));
    for (unsigned i = 0; i < s->n_slots; i++)
        mz_map_init(&s->by_cluster[i], MZ_MEM_STATS);
}

void cluster_scopes_fini(struct cluster_scopes *s)
{
    for (unsigned i = 0; i < s->n_slots; i++) {
        mz_map_foreach (e, &s->by_cluster[i])
            mz_scope_unref(e->value);
        mz_map_fini(&s->by_cluster[i]);
    }
    s->n_slots = 0;
}

void cluster_scopes_count(const struct cluster_scopes *s, const struct mz_cluster *c, unsigned stat)
{
    if (!c || mz_stats_slot >= s->n_slots)
        return;
    struct mz_map *map = &s->by_cluster[mz_stats_slot];
    struct mz_scope *scope = mz_map_get(map, c->scope->prefix);
    if (!scope) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
        scope =
            mz_scope_create(s->stats, s->kind,
                            mz_arena_cat(a, 2, (struct mz_str[]){ c->scope->prefix, s->prefix }));
        mz_arena_destroy(a);
        const struct mz_str key = { scope->prefix.p, c->scope->prefix.n };
        (void)mz_map_put(map, key, scope); /* there was none */
    }
    mz_count(scope, stat, 1);
}

void cluster_charge_answer(const struct mz_cluster *c, unsigned status)
{
    if (!c)
        return;
    mz_count(c->scope, MZ_CS_RQ_COMPLETED, 1);
    mz_count_code(c->scope, "upstream_rq_", status);
    mz_count(c->scope, MZ_CS_INTERNAL_RQ_COMPLETED, 1);
    mz_count_code(c->scope, "internal.upstream_rq_", status);
}

/* ---- headers ---- */

bool foreign_header_frames(struct mz_str name)
{
    static const struct mz_str names[] = {
        MZ_STR_INIT("content-length"), MZ_STR_INIT("transfer-encoding"), MZ_STR_INIT("connection"),
        MZ_STR_INIT("upgrade"),        MZ_STR_INIT("keep-alive"),        MZ_STR_INIT("te"),
        MZ_STR_INIT("trailer"),        MZ_STR_INIT("proxy-connection"),
    };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(name, names[i]))
            return true;
    return false;
}

static bool pseudo_fits(struct mz_str name, struct mz_str value)
{
    if (mz_str_eq(name, MZ_STR(":path")))
        return value.n && value.p[0] == '/' && mz_target_valid(value) && mz_str_chr(value, '#') < 0;
    if (mz_str_eq(name, MZ_STR(":authority")))
        return value.n && mz_authority_valid(value);
    if (mz_str_eq(name, MZ_STR(":method")))
        return mz_header_name_valid(value); /* a token as well */
    return mz_str_eq(name, MZ_STR(":scheme")) &&
           (mz_str_eq(value, MZ_STR("http")) || mz_str_eq(value, MZ_STR("https")));
}

bool foreign_header_fits_request(struct mz_str name, struct mz_str value)
{
    if (name.n && name.p[0] == ':')
        return pseudo_fits(name, value);
    if (mz_str_eq(name, MZ_STR("host")))
        return pseudo_fits(MZ_STR(":authority"), value);
    return mz_header_name_valid(name) && mz_header_value_valid(value);
}

bool foreign_header_fits_answer(struct mz_str name, struct mz_str value)
{
    return !foreign_header_frames(name) && mz_header_name_valid(name) &&
           mz_header_value_valid(value);
}
