/* Rules of VirtualServices that no request reaches, and matches that one in front of them has taken. */
#include "control/analyze/finders.h"

enum { MAX_MATCHES = 2000 }; /* that are compared: time is their square */

static bool same(const struct mz_node *a, const struct mz_node *b, bool named)
{
    uint32_t left = 0;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case MZ_NODE_NULL:
        return true;
    case MZ_NODE_BOOL:
        return a->b == b->b;
    case MZ_NODE_LIST:
        for (uint32_t i = 0; a->n == b->n && i < a->n; i++)
            if (!same(a->list[i], b->list[i], false))
                return false;
        return a->n == b->n;
    case MZ_NODE_MAP: /* in any order; @named: but for its name */
        for (uint32_t i = 0; i < b->n; i++)
            left += !named || !mz_str_eq(b->pairs[i].key, MZ_STR("name"));
        for (uint32_t i = 0; i < a->n; i++) {
            if (named && mz_str_eq(a->pairs[i].key, MZ_STR("name")))
                continue;
            const struct mz_node *other = map_get(b, a->pairs[i].key);
            if (!left-- || !other || !same(a->pairs[i].value, other, false))
                return false;
        }
        return left == 0;
    default:
        return mz_str_eq(a->text, b->text);
    }
}

struct seen { /* a match that stands in front */
    const struct mz_node *match;
    size_t rule, number;
};
struct looking {
    const struct mz_object *vs;
    struct mz_arena *a;
    const struct mz_node *rules;
    route_unused *tell;
    void *arg;
    MZ_VEC(struct seen) seen;
};

static struct mz_str name_of(const struct mz_node *n, size_t number, struct mz_arena *a)
{
    const struct mz_str name = mz_node_text(n, "name");
    return name.n ? mz_arena_printf(a, "\"%.*s\"", MZ_STR_ARG(name))
                  : mz_arena_printf(a, "#%zu", number);
}

static struct mz_str rule_name(const struct looking *l, size_t rule)
{
    return name_of(l->rules->list[rule], rule, l->a);
}

static void rule_unused(const struct looking *l, size_t rule, const char *why)
{
    l->tell(l->arg, l->vs, true,
            mz_arena_printf(l->a, "rule %.*s not used (%s).", MZ_STR_ARG(rule_name(l, rule)), why));
}

static void match_unused(const struct looking *l, struct mz_str rule, struct mz_str match,
                         struct mz_str by)
{
    l->tell(l->arg, l->vs, false,
            mz_arena_printf(
                l->a,
                "rule %.*s match %.*s is not used (duplicate/overlapping match in rule %.*s).",
                MZ_STR_ARG(rule), MZ_STR_ARG(match), MZ_STR_ARG(by)));
}

static const struct seen *find_seen(const struct looking *l, const struct mz_node *match)
{
    for (size_t i = 0; i < l->seen.n; i++)
        if (same(l->seen.v[i].match, match, true))
            return &l->seen.v[i];
    return NULL;
}

static void rule_matches(struct looking *l, size_t rule, bool all_before)
{
    const struct mz_node *matches = mz_node_get(l->rules->list[rule], "match");
    size_t duplicates = 0;
    for (size_t j = 0; j < mz_node_count(matches) && l->seen.n < MAX_MATCHES; j++) {
        if (all_before) {
            rule_unused(l, rule, "route without matches defined before");
            continue;
        }
        const struct seen *before = find_seen(l, matches->list[j]);
        if (!before) {
            *mz_vec_push(&l->seen, MZ_MEM_CONFIG) = (struct seen){ matches->list[j], rule, j };
            continue;
        }
        duplicates++;
        match_unused(l, rule_name(l, rule), name_of(matches->list[j], j, l->a),
                     rule_name(l, before->rule));
    }
    if (duplicates && duplicates == mz_node_count(matches))
        rule_unused(l, rule, "all matches used by prior rules");
}

/* ---- prefixes that hold others ---- */

/* "=a" of exact, "^a" of prefix, "" of nothing and of a regex. */
static struct mz_str short_match(const struct mz_node *m, struct mz_arena *a)
{
    const struct mz_str exact = mz_node_text(m, "exact"), prefix = mz_node_text(m, "prefix");
    return exact.n    ? mz_arena_printf(a, "=%.*s", MZ_STR_ARG(exact))
           : prefix.n ? mz_arena_printf(a, "^%.*s", MZ_STR_ARG(prefix))
                      : MZ_STR("");
}

static bool text_covers(struct mz_str a, struct mz_str b)
{
    return mz_str_starts(a, b); /* as the field's tool compares them */
}

static bool map_covers(const struct mz_node *a, const struct mz_node *b, const char *field,
                       struct mz_arena *arena)
{
    const struct mz_node *x = mz_node_get(a, field), *y = mz_node_get(b, field);
    const uint32_t nx = x && x->kind == MZ_NODE_MAP ? x->n : 0,
                   ny = y && y->kind == MZ_NODE_MAP ? y->n : 0;
    if (nx != ny)
        return false;
    for (uint32_t i = 0; i < nx; i++) {
        const struct mz_node *other = map_get(y, x->pairs[i].key);
        if (!other ||
            !text_covers(short_match(x->pairs[i].value, arena), short_match(other, arena)))
            return false;
    }
    return true;
}

static struct mz_str method_of(const struct mz_node *match, struct mz_arena *a)
{
    const struct mz_str m = short_match(mz_node_get(match, "method"), a);
    return m.n ? m : MZ_STR("=GET");
}

/* What @b takes, @a in front of it has taken. */
static bool covers(const struct mz_node *a, const struct mz_node *b, struct mz_arena *arena)
{
    return mz_node_number(a, "port") == mz_node_number(b, "port") &&
           text_covers(method_of(a, arena), method_of(b, arena)) &&
           text_covers(short_match(mz_node_get(a, "authority"), arena),
                       short_match(mz_node_get(b, "authority"), arena)) &&
           map_covers(a, b, "headers", arena) && map_covers(a, b, "query_params", arena) &&
           map_covers(a, b, "without_headers", arena);
}

static struct mz_str match_name(const struct looking *l, const struct seen *s)
{
    return name_of(s->match, s->number, l->a);
}

static void overlaps(const struct looking *l, size_t first)
{
    const struct seen *a = &l->seen.v[first];
    const struct mz_str prefix = mz_node_text(a->match, "uri.prefix");
    for (size_t i = first + 1; prefix.n && i < l->seen.n; i++) {
        const struct seen *b = &l->seen.v[i];
        const struct mz_str other = mz_node_text(b->match, "uri.prefix");
        if (!other.n || mz_str_eq(prefix, other) || !mz_str_starts(other, prefix) ||
            !covers(a->match, b->match, l->a))
            continue;
        match_unused(l, rule_name(l, b->rule),
                     mz_arena_printf(l->a, "%.*s of prefix %.*s", MZ_STR_ARG(match_name(l, b)),
                                     MZ_STR_ARG(other)),
                     mz_arena_printf(l->a, "%.*s of prefix %.*s on %.*s",
                                     MZ_STR_ARG(match_name(l, a)), MZ_STR_ARG(prefix),
                                     MZ_STR_ARG(rule_name(l, a->rule))));
    }
}

/* ---- all rules ---- */

static void look(struct looking *l, const char *kind)
{
    bool all_before = false;
    l->rules = mz_node_get(mz_node_get(l->vs->tree, "spec"), kind);
    for (size_t i = 0; i < mz_node_count(l->rules); i++) {
        const bool all = !mz_node_count(mz_node_get(l->rules->list[i], "match"));
        if (all && all_before)
            rule_unused(l, i, "only the last rule can have no matches");
        if (!all)
            rule_matches(l, i, all_before);
        all_before |= all;
    }
    if (kind[0] == 'h') /* http */
        for (size_t i = 0; i < l->seen.n; i++)
            overlaps(l, i);
    l->seen.n = 0;
}

void routes_unused(const struct mz_object *vs, struct mz_arena *a, route_unused *tell, void *arg)
{
    struct looking l = { .vs = vs, .a = a, .tell = tell, .arg = arg };
    look(&l, "http");
    look(&l, "tcp");
    look(&l, "tls");
    mz_vec_free(&l.seen, MZ_MEM_CONFIG);
}
