#include "observe/match_tree_priv.h"

#include "proto/mapper.h"
#include <stdlib.h>

/* xds.type.matcher.v3.Matcher to nodes; nesting is bounded by the reader of messages. */

static const struct mz_stat_def ip_defs[] = {
    [IP_PARSING_FAILED] = { "ip_parsing_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 }
};
static const struct mz_stat_kind ip_stats = { "ip matcher", ip_defs, MZ_COUNT(ip_defs) };

static void keep(struct mz_arena *a, void (*destroy)(void *), void *object)
{
    mz_arena_cleanup(a, destroy, object);
}

/* ---- predicates ---- */

/* The two packages' matchers are the same but for their names. */
static bool string_build(const pb_matcher_StringMatcher *m, struct mz_arena *a,
                         struct predicate *out, struct mz_err *err)
{
    pb_RegexMatcher regex = pb_RegexMatcher__INIT;
    pb_StringMatcher same = pb_StringMatcher__INIT;
    same.ignore_case = m->ignore_case;
    switch (m->match_pattern_case) {
    case pb_matcher_StringMatcher_MATCH_PATTERN_EXACT:
        same.match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
        same.exact = m->exact;
        break;
    case pb_matcher_StringMatcher_MATCH_PATTERN_PREFIX:
        same.match_pattern_case = pb_StringMatcher_MATCH_PATTERN_PREFIX;
        same.prefix = m->prefix;
        break;
    case pb_matcher_StringMatcher_MATCH_PATTERN_SUFFIX:
        same.match_pattern_case = pb_StringMatcher_MATCH_PATTERN_SUFFIX;
        same.suffix = m->suffix;
        break;
    case pb_matcher_StringMatcher_MATCH_PATTERN_CONTAINS:
        same.match_pattern_case = pb_StringMatcher_MATCH_PATTERN_CONTAINS;
        same.contains = m->contains;
        break;
    case pb_matcher_StringMatcher_MATCH_PATTERN_SAFE_REGEX:
        same.match_pattern_case = pb_StringMatcher_MATCH_PATTERN_SAFE_REGEX;
        regex.regex = m->safe_regex->regex;
        same.safe_regex = &regex;
        break;
    default:
        break;
    }
    out->test = TEST_STRING;
    out->string = mz_string_match_build(&same, err);
    if (!out->string)
        return mz_err_at(err, "value_match");
    keep(a, (void (*)(void *))mz_string_match_destroy, out->string);
    return (out->input.kind != INPUT_METADATA && out->input.kind != INPUT_CEL) ||
           mz_err_set(err, "this input has no text: it needs a custom_match of its own");
}

static bool ip_build(const pb_Ip *m, const struct mz_match_env *env, struct mz_arena *a,
                     struct predicate *out, struct mz_err *err)
{
    out->test = TEST_IP;
    out->cidrs = mz_arena_alloc0(a, m->n_cidr_ranges * sizeof(*out->cidrs));
    for (; out->n_cidrs < m->n_cidr_ranges; out->n_cidrs++) {
        const pb_CidrRange *r = m->cidr_ranges[out->n_cidrs];
        if (!mz_cidr_make(mz_str_c(r->address_prefix), mz_u32_or(r->prefix_len, 0),
                          &out->cidrs[out->n_cidrs], err))
            return mz_err_at(err, "cidr_ranges[%zu]", out->n_cidrs);
    }
    if (!env->stats)
        return true;
    out->scope = mz_scope_create(
        env->stats, &ip_stats,
        mz_arena_cat(a, 2, (struct mz_str[]){ mz_str_c(m->stat_prefix), MZ_STR(".") }));
    keep(a, (void (*)(void *))mz_scope_unref, out->scope);
    return true;
}

static bool metadata_build(const pb_input_matchers_metadata_Metadata *m, struct mz_arena *a,
                           struct predicate *out, struct mz_err *err)
{
    const pb_DynamicMetadataInput *path = out->input.path;
    if (!path)
        return mz_err_set(err, "needs the input envoy.extensions.matching.common_inputs.network.v3."
                               "DynamicMetadataInput");
    pb_MetadataMatcher whole = pb_MetadataMatcher__INIT;
    pb_MetadataMatcher_PathSegment *v = mz_arena_alloc(a, path->n_path * sizeof(*v));
    whole.filter = path->filter;
    whole.n_path = path->n_path;
    whole.path = mz_arena_alloc(a, path->n_path * sizeof(*whole.path));
    for (size_t i = 0; i < path->n_path; i++) {
        v[i] = (pb_MetadataMatcher_PathSegment)pb_MetadataMatcher_PathSegment__INIT;
        v[i].segment_case = pb_MetadataMatcher_PathSegment_SEGMENT_KEY;
        v[i].key = path->path[i]->key;
        whole.path[i] = &v[i];
    }
    whole.value = m->value;
    whole.invert = m->invert;
    out->test = TEST_METADATA;
    out->metadata = mz_metadata_match_build(&whole, err);
    if (out->metadata)
        keep(a, (void (*)(void *))mz_metadata_match_destroy, out->metadata);
    return out->metadata != NULL;
}

static bool cel_build(const pb_CelMatcher *m, struct mz_arena *a, struct predicate *out,
                      struct mz_err *err)
{
    const pb_CelExpression *e = m->expr_match;
    const pb_Expr *expr = NULL;
    if (out->input.kind != INPUT_CEL)
        return mz_err_set(err, "needs the input xds.type.matcher.v3.HttpAttributesCelMatchInput");
    if (e && e->expr_specifier_case == pb_CelExpression_EXPR_SPECIFIER_PARSED_EXPR)
        expr = e->parsed_expr->expr;
    else if (e && e->expr_specifier_case == pb_CelExpression_EXPR_SPECIFIER_CHECKED_EXPR)
        expr = e->checked_expr->expr;
    if (!expr)
        return mz_err_set(err, "needs parsed_expr or checked_expr with an expr") ||
               mz_err_at(err, "expr_match");
    out->test = TEST_CEL;
    out->cel = mz_attributes_compile_ast(expr, NULL, err);
    if (!out->cel)
        return mz_err_at(err, "expr_match");
    keep(a, (void (*)(void *))mz_cel_destroy, out->cel);
    return true;
}

static bool custom_build(const pb_core_TypedExtensionConfig *m, const struct mz_match_env *env,
                         struct mz_arena *a, struct predicate *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    bool ok = false;
    if (!m->typed_config)
        return mz_err_set(err, "is required") || mz_err_at(err, "custom_match.typed_config");
    if (!mz_any_unpack(env->proto, m->typed_config, &type, &msg, err))
        return mz_err_at(err, "custom_match.typed_config");
    if (type == &pb_Ip__descriptor)
        ok = ip_build((const pb_Ip *)msg, env, a, out, err);
    else if (type == &pb_CelMatcher__descriptor)
        ok = cel_build((const pb_CelMatcher *)msg, a, out, err);
    else if (type == &pb_input_matchers_metadata_Metadata__descriptor)
        ok = metadata_build((const pb_input_matchers_metadata_Metadata *)msg, a, out, err);
    else
        (void)mz_err_set(err, "no matcher of inputs is of type \"%s\"", type->name);
    return ok || mz_err_at(err, "custom_match.typed_config");
}

static bool single_build(const pb_Matcher_MatcherList_Predicate_SinglePredicate *m,
                         const struct mz_match_env *env, struct mz_arena *a, struct predicate *out,
                         struct mz_err *err)
{
    bool ok =
        input_build(m->input, env, a, &out->input, err) &&
        (m->matcher_case == pb_Matcher_MatcherList_Predicate_SinglePredicate_MATCHER_VALUE_MATCH
             ? string_build(m->value_match, a, out, err)
             : custom_build(m->custom_match, env, a, out, err));
    out->input.path = NULL; /* of the message, which goes */
    return ok || mz_err_at(err, "single_predicate");
}

static bool list_build(pb_Matcher_MatcherList_Predicate *const *v, size_t n,
                       enum predicate_kind kind, const struct mz_match_env *env, struct mz_arena *a,
                       struct predicate *out, struct mz_err *err)
{
    out->kind = kind;
    out->v = mz_arena_alloc0(a, n * sizeof(*out->v));
    for (; out->n < n; out->n++)
        if (!predicate_build(v[out->n], env, a, &out->v[out->n], err))
            return kind == PREDICATE_NOT
                       ? mz_err_at(err, "not_matcher")
                       : mz_err_at(err, "%s.predicate[%zu]",
                                   kind == PREDICATE_OR ? "or_matcher" : "and_matcher", out->n);
    return true;
}

bool predicate_build(const pb_Matcher_MatcherList_Predicate *m, const struct mz_match_env *env,
                     struct mz_arena *a, struct predicate *out, struct mz_err *err)
{
    switch (m->match_type_case) {
    case pb_Matcher_MatcherList_Predicate_MATCH_TYPE_SINGLE_PREDICATE:
        return single_build(m->single_predicate, env, a, out, err);
    case pb_Matcher_MatcherList_Predicate_MATCH_TYPE_OR_MATCHER:
        return list_build(m->or_matcher->predicate, m->or_matcher->n_predicate, PREDICATE_OR, env,
                          a, out, err);
    case pb_Matcher_MatcherList_Predicate_MATCH_TYPE_AND_MATCHER:
        return list_build(m->and_matcher->predicate, m->and_matcher->n_predicate, PREDICATE_AND,
                          env, a, out, err);
    case pb_Matcher_MatcherList_Predicate_MATCH_TYPE_NOT_MATCHER: {
        pb_Matcher_MatcherList_Predicate *one = m->not_matcher;
        return list_build(&one, 1, PREDICATE_NOT, env, a, out, err);
    }
    default:
        return mz_err_set(err, "no predicate is set");
    }
}

/* ---- nodes ---- */

static bool on_match_build(const pb_Matcher_OnMatch *m, const struct mz_match_env *env,
                           struct mz_arena *a, struct on_match *out, struct mz_err *err)
{
    if (!m)
        return true;
    if (m->on_match_case == pb_Matcher_OnMatch_ON_MATCH_MATCHER) {
        struct node *n = mz_arena_new0(a, struct node);
        out->node = n;
        return node_build(m->matcher, env, a, n, err) || mz_err_at(err, "matcher");
    }
    if (!m->action || !m->action->typed_config)
        return mz_err_set(err, "is required") || mz_err_at(err, "action.typed_config");
    out->action = env->action(env->arg, m->action->typed_config, err);
    return out->action || mz_err_at(err, "action.typed_config");
}

static bool matchers_build(const pb_Matcher_MatcherList *m, const struct mz_match_env *env,
                           struct mz_arena *a, struct node *out, struct mz_err *err)
{
    out->v = mz_arena_alloc0(a, m->n_matchers * sizeof(*out->v));
    for (; out->n < m->n_matchers; out->n++) {
        const pb_Matcher_MatcherList_FieldMatcher *f = m->matchers[out->n];
        struct entry *e = &out->v[out->n];
        e->at = out->n;
        if (!predicate_build(f->predicate, env, a, &e->predicate, err))
            return mz_err_at(err, "matchers[%zu].predicate", out->n);
        if (!on_match_build(f->on_match, env, a, &e->on, err))
            return mz_err_at(err, "matchers[%zu].on_match", out->n);
    }
    return true;
}

static int by_key(const void *x, const void *y)
{
    return mz_str_cmp(((const struct entry *)x)->key, ((const struct entry *)y)->key);
}

static int longest_key(const void *x, const void *y)
{
    size_t a = ((const struct entry *)x)->key.n, b = ((const struct entry *)y)->key.n;
    return a < b ? 1 : a > b ? -1 : by_key(x, y);
}

static int domain_first(const void *x, const void *y) /* names before stars, then the longest */
{
    bool a = ((const struct entry *)x)->key.n && ((const struct entry *)x)->key.p[0] == '*';
    bool b = ((const struct entry *)y)->key.n && ((const struct entry *)y)->key.p[0] == '*';
    return a != b ? (a ? 1 : -1) : longest_key(x, y);
}

static int longest_cidr(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->cidr.bits != b->cidr.bits)
        return a->cidr.bits < b->cidr.bits ? 1 : -1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static bool map_build(const pb_Matcher_MatcherTree_MatchMap *m, const struct mz_match_env *env,
                      struct mz_arena *a, struct node *out, struct mz_err *err)
{
    if (!m->n_map)
        return mz_err_set(err, "must not be empty") || mz_err_at(err, "map");
    out->v = mz_arena_alloc0(a, m->n_map * sizeof(*out->v));
    for (; out->n < m->n_map; out->n++) {
        struct entry *e = &out->v[out->n];
        e->key = mz_arena_dup(a, mz_str_c(m->map[out->n]->key));
        if (!on_match_build(m->map[out->n]->value, env, a, &e->on, err))
            return mz_err_at(err, "map[\"%s\"]", m->map[out->n]->key);
    }
    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), out->kind == NODE_EXACT ? by_key : longest_key);
    return true;
}

static bool range_build(const pb_IPMatcher_IPRangeMatcher *m, size_t at,
                        const struct mz_match_env *env, struct mz_arena *a, struct node *out,
                        struct mz_err *err)
{
    struct on_match on = { 0 };
    if (!on_match_build(m->on_match, env, a, &on, err))
        return mz_err_at(err, "on_match");
    for (size_t i = 0; i < m->n_ranges; i++) {
        struct entry *e = &out->v[out->n++];
        *e = (struct entry){ .at = at, .on = on, .exclusive = m->exclusive != 0 };
        if (!mz_cidr_make(mz_str_c(m->ranges[i]->address_prefix),
                          mz_u32_or(m->ranges[i]->prefix_len, 0), &e->cidr, err))
            return mz_err_at(err, "ranges[%zu]", i);
    }
    return true;
}

static bool ranges_build(const pb_IPMatcher *m, const struct mz_match_env *env, struct mz_arena *a,
                         struct node *out, struct mz_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_range_matchers; i++)
        n += m->range_matchers[i]->n_ranges;
    out->kind = NODE_IP;
    out->v = mz_arena_alloc0(a, n * sizeof(*out->v));
    for (size_t i = 0; i < m->n_range_matchers; i++)
        if (!range_build(m->range_matchers[i], i, env, a, out, err))
            return mz_err_at(err, "range_matchers[%zu]", i);
    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), longest_cidr);
    return true;
}

/* "*" and "*.example.com" stand for what ends so; a star anywhere else is a mistake. */
static bool domain_check(struct mz_str d, struct mz_err *err)
{
    ptrdiff_t star = mz_str_rchr(d, '*');
    return star < 0 || d.n == 1 || (star == 0 && d.p[1] == '.') ||
           mz_err_set(err, "\"" MZ_STR_FMT "\": a star stands alone or as \"*.\" in front",
                      MZ_STR_ARG(d));
}

static bool domains_build(const pb_ServerNameMatcher *m, const struct mz_match_env *env,
                          struct mz_arena *a, struct node *out, struct mz_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_domain_matchers; i++)
        n += m->domain_matchers[i]->n_domains;
    out->kind = NODE_DOMAIN;
    out->v = mz_arena_alloc0(a, n * sizeof(*out->v));
    for (size_t i = 0; i < m->n_domain_matchers; i++) {
        const pb_ServerNameMatcher_DomainMatcher *d = m->domain_matchers[i];
        struct on_match on = { 0 };
        if (!on_match_build(d->on_match, env, a, &on, err))
            return mz_err_at(err, "domain_matchers[%zu].on_match", i);
        for (size_t k = 0; k < d->n_domains; k++) {
            struct entry *e = &out->v[out->n++];
            *e = (struct entry){ .at = i,
                                 .on = on,
                                 .key = mz_arena_dup(a, mz_str_c(d->domains[k])) };
            for (size_t c = 0; c < e->key.n; c++)
                ((char *)(uintptr_t)e->key.p)[c] = mz_lower(e->key.p[c]); /* our own copy */
            if (!domain_check(e->key, err))
                return mz_err_at(err, "domain_matchers[%zu].domains[%zu]", i, k);
        }
    }
    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), domain_first);
    return true;
}

static bool custom_tree(const pb_core_TypedExtensionConfig *m, const struct mz_match_env *env,
                        struct mz_arena *a, struct node *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    bool ok = false;
    if (!m->typed_config)
        return mz_err_set(err, "is required") || mz_err_at(err, "custom_match.typed_config");
    if (!mz_any_unpack(env->proto, m->typed_config, &type, &msg, err))
        return mz_err_at(err, "custom_match.typed_config");
    if (type == &pb_IPMatcher__descriptor)
        ok = ranges_build((const pb_IPMatcher *)msg, env, a, out, err);
    else if (type == &pb_ServerNameMatcher__descriptor)
        ok = domains_build((const pb_ServerNameMatcher *)msg, env, a, out, err);
    else
        (void)mz_err_set(err, "no matcher of trees is of type \"%s\"", type->name);
    return ok || mz_err_at(err, "custom_match.typed_config");
}

static bool tree_build(const pb_Matcher_MatcherTree *m, const struct mz_match_env *env,
                       struct mz_arena *a, struct node *out, struct mz_err *err)
{
    if (!input_build(m->input, env, a, &out->input, err))
        return false;
    out->input.path = NULL;
    if (out->input.kind == INPUT_METADATA || out->input.kind == INPUT_CEL)
        return mz_err_set(err, "this input has no text to look up") || mz_err_at(err, "input");
    switch (m->tree_type_case) {
    case pb_Matcher_MatcherTree_TREE_TYPE_EXACT_MATCH_MAP:
        out->kind = NODE_EXACT;
        return map_build(m->exact_match_map, env, a, out, err) || mz_err_at(err, "exact_match_map");
    case pb_Matcher_MatcherTree_TREE_TYPE_PREFIX_MATCH_MAP:
        out->kind = NODE_PREFIX;
        return map_build(m->prefix_match_map, env, a, out, err) ||
               mz_err_at(err, "prefix_match_map");
    default:
        return custom_tree(m->custom_match, env, a, out, err);
    }
}

bool node_build(const pb_Matcher *m, const struct mz_match_env *env, struct mz_arena *a,
                struct node *out, struct mz_err *err)
{
    bool ok = true;
    if (m->matcher_type_case == pb_Matcher_MATCHER_TYPE_MATCHER_LIST)
        ok = matchers_build(m->matcher_list, env, a, out, err) || mz_err_at(err, "matcher_list");
    else if (m->matcher_type_case == pb_Matcher_MATCHER_TYPE_MATCHER_TREE)
        ok = tree_build(m->matcher_tree, env, a, out, err) || mz_err_at(err, "matcher_tree");
    return ok && (on_match_build(m->on_no_match, env, a, &out->on_no_match, err) ||
                  mz_err_at(err, "on_no_match"));
}
