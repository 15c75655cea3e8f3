/* ListenerFilterChainMatchPredicate: at which destination ports a listener filter does not run (L2). */
#include "listener/listener_priv.h"
#include "proto/mapper.h"

#define DEPTH_MAX 16

enum kind { EITHER, ALL, NOT, ANY, PORTS };
struct mz_port_rule {
    enum kind kind;
    int32_t from, to; /* PORTS: to is not in */
    struct mz_port_rule **kids;
    size_t n_kids;
};

static struct mz_port_rule *build(const pb_ListenerFilterChainMatchPredicate *m, struct mz_arena *a,
                                  unsigned depth, struct mz_err *err);

static bool build_set(const pb_ListenerFilterChainMatchPredicate_MatchSet *m, const char *field,
                      struct mz_port_rule *r, struct mz_arena *a, unsigned depth,
                      struct mz_err *err)
{
    r->kids = mz_arena_alloc0(a, mz_mul(m->n_rules, sizeof(*r->kids)));
    for (size_t i = 0; i < m->n_rules; i++)
        if (!(r->kids[r->n_kids++] = build(m->rules[i], a, depth + 1, err)))
            return mz_err_at(err, "%s.rules[%zu]", field, i);
    return true;
}

static struct mz_port_rule *build(const pb_ListenerFilterChainMatchPredicate *m, struct mz_arena *a,
                                  unsigned depth, struct mz_err *err)
{
    struct mz_port_rule *r = mz_arena_new0(a, struct mz_port_rule);
    if (depth > DEPTH_MAX) {
        mz_err_set(err, "must not be nested deeper than %d", DEPTH_MAX);
        return NULL;
    }
    switch (m->rule_case) {
    case pb_ListenerFilterChainMatchPredicate_RULE_OR_MATCH:
        r->kind = EITHER;
        return build_set(m->or_match, "or_match", r, a, depth, err) ? r : NULL;
    case pb_ListenerFilterChainMatchPredicate_RULE_AND_MATCH:
        r->kind = ALL;
        return build_set(m->and_match, "and_match", r, a, depth, err) ? r : NULL;
    case pb_ListenerFilterChainMatchPredicate_RULE_NOT_MATCH:
        r->kind = NOT;
        r->n_kids = 1;
        r->kids = mz_arena_alloc0(a, sizeof(*r->kids));
        r->kids[0] = build(m->not_match, a, depth + 1, err);
        if (!r->kids[0])
            mz_err_at(err, "not_match");
        return r->kids[0] ? r : NULL;
    case pb_ListenerFilterChainMatchPredicate_RULE_DESTINATION_PORT_RANGE:
        r->kind = PORTS;
        r->from = m->destination_port_range->start;
        r->to = m->destination_port_range->end;
        return r;
    default:
        r->kind = m->any_match ? ANY : EITHER; /* an empty set matches nothing */
        return r;
    }
}

struct mz_port_rule *mz_port_rule_build(const pb_ListenerFilterChainMatchPredicate *m,
                                        struct mz_arena *a, struct mz_err *err)
{
    return build(m, a, 0, err);
}

bool mz_port_rule_match(const struct mz_port_rule *r, unsigned port)
{
    bool all = r->kind == ALL, hit = all;
    switch (r->kind) {
    case ANY:
        return true; /* any_match is never false */
    case PORTS:
        return (int32_t)port >= r->from && (int32_t)port < r->to;
    case NOT:
        return !mz_port_rule_match(r->kids[0], port);
    default:
        for (size_t i = 0; i < r->n_kids && hit == all; i++)
            hit = mz_port_rule_match(r->kids[i], port);
        return hit;
    }
}
