#ifndef MZ_FILTERS_HTTP_MUTATION_RULES_H
#define MZ_FILTERS_HTTP_MUTATION_RULES_H
/* envoy.config.common.mutation_rules.v3.HeaderMutationRules: which headers of a request a service outside may change. Immutable. */
#include "base/err.h"
#include "base/regex.h"
#include "base/str.h"

struct mutation_rules {
    bool routing, envoy, no_system, none, is_error;
    struct mz_regex *allow, *disallow; /* NULL: none */
};
enum mutation_verdict {
    MUTATION_ALLOWED,
    MUTATION_IGNORED,
    MUTATION_REFUSED, /* disallow_is_error: the request ends */
};
struct Envoy__Config__Common__MutationRules__V3__HeaderMutationRules;
/* Errors: "disallow_expression.regex: ..." */
bool mutation_rules_build(const struct Envoy__Config__Common__MutationRules__V3__HeaderMutationRules *m, struct mutation_rules *out,
                          struct mz_err *err);
void mutation_rules_fini(struct mutation_rules *r); /* zeroed ones too */
/* @name in lower case, pseudo headers too. Nobody removes those, or host. */
enum mutation_verdict mutation_rules_set(const struct mutation_rules *r, struct mz_str name);
enum mutation_verdict mutation_rules_remove(const struct mutation_rules *r, struct mz_str name);
enum mutation_verdict mutation_rules_deny(const struct mutation_rules *r); /* what cannot be at all */
#endif
