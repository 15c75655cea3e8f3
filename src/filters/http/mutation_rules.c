#include "filters/http/mutation_rules.h"

#include "proto/mapper.h"
#include "proto/names.h"

static bool expression_build(const pb_RegexMatcher *m, struct mz_regex **out, const char *name,
                             struct mz_err *err)
{
    if (!m)
        return true;
    *out = mz_regex_create(mz_str_c(m->regex), err);
    return *out || (mz_err_at(err, "regex"), mz_err_at(err, "%s", name));
}

bool mutation_rules_build(const pb_HeaderMutationRules *m, struct mutation_rules *out,
                          struct mz_err *err)
{
    *out = (struct mutation_rules){ .routing = mz_bool_or(m->allow_all_routing, false),
                                    .envoy = mz_bool_or(m->allow_envoy, false),
                                    .no_system = mz_bool_or(m->disallow_system, false),
                                    .none = mz_bool_or(m->disallow_all, false),
                                    .is_error = mz_bool_or(m->disallow_is_error, false) };
    return expression_build(m->allow_expression, &out->allow, "allow_expression", err) &&
           expression_build(m->disallow_expression, &out->disallow, "disallow_expression", err);
}

void mutation_rules_fini(struct mutation_rules *r)
{
    mz_regex_destroy(r->allow);
    mz_regex_destroy(r->disallow);
}

enum mutation_verdict mutation_rules_deny(const struct mutation_rules *r)
{
    return r->is_error ? MUTATION_REFUSED : MUTATION_IGNORED;
}

static bool routes(struct mz_str name)
{
    static const struct mz_str names[] = { MZ_STR_INIT("host"), MZ_STR_INIT(":authority"),
                                           MZ_STR_INIT(":scheme"), MZ_STR_INIT(":method") };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(name, names[i]))
            return true;
    return false;
}

/* Expressions before everything else, the one that forbids first. */
static bool allows(const struct mutation_rules *r, struct mz_str name)
{
    if (r->disallow && mz_regex_full(r->disallow, name))
        return false;
    if (r->allow && mz_regex_full(r->allow, name))
        return true;
    if (r->none || (r->no_system && name.n && name.p[0] == ':'))
        return false;
    return (r->routing || !routes(name)) && (r->envoy || !mz_str_starts(name, MZ_STR("x-envoy-")));
}

enum mutation_verdict mutation_rules_set(const struct mutation_rules *r, struct mz_str name)
{
    return allows(r, name) ? MUTATION_ALLOWED : mutation_rules_deny(r);
}

enum mutation_verdict mutation_rules_remove(const struct mutation_rules *r, struct mz_str name)
{
    bool fixed = !name.n || name.p[0] == ':' || mz_str_eq(name, MZ_STR("host"));
    return fixed ? mutation_rules_deny(r) : mutation_rules_set(r, name);
}
