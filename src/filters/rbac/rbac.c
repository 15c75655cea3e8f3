#include "filters/rbac/rbac_priv.h"

#include "base/buf.h"
#include "observe/match_tree.h"
#include "proto/mapper.h"
#include <stdlib.h>

struct rbac_action { /* of a matcher */
    struct mz_str name;
    const char *details;
    enum mz_rbac_action action;
};
struct mz_rbac {
    struct mz_arena *arena;
    struct mz_match_tree *tree; /* NULL: policies */
    bool logs;
    bool path; /* rules look at it */
    enum mz_rbac_action action;
    struct policy *policies; /* by name */
    size_t n;
    struct index *index;
};
/* Fewer are compared faster than looked up. */
#define INDEX_FROM 8

/* What a refusal says. It is one word: blanks of the name become underscores. */
static const char *details_of(struct mz_arena *a, struct mz_str name)
{
    struct mz_str s = mz_arena_cat(
        a, 3, (struct mz_str[]){ MZ_STR("rbac_access_denied_matched_policy["), name, MZ_STR("]") });
    char *p = (char *)(uintptr_t)s.p; /* our own copy */
    for (size_t i = 0; i < s.n; i++)
        if (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r'))
            p[i] = '_';
    return s.p;
}

static int policy_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct policy *)a)->name, ((const struct policy *)b)->name);
}

static bool condition_build(struct rule_builder *b, const pb_Policy *m, struct policy *out)
{
    const pb_Expr *e = m->condition;
    out->condition_field = e ? "condition" : "checked_condition.expr";
    if (!e && m->checked_condition)
        e = m->checked_condition->expr;
    if (!e)
        return !m->checked_condition || mz_err_set(b->err, "is required") ||
               mz_err_at(b->err, "%s", out->condition_field);
    out->condition = mz_attributes_compile_ast(e, m->cel_config, b->err);
    if (!out->condition)
        return mz_err_at(b->err, "%s", out->condition_field);
    mz_arena_cleanup(b->arena, (void (*)(void *))mz_cel_destroy, out->condition);
    return true;
}

static bool has_any(const struct rule *list)
{
    for (size_t i = 0; i < list->of.n; i++)
        if (list->of.v[i].kind == RULE_ANY)
            return true;
    return false;
}

static bool policy_build(struct rule_builder *b, const pb_Policy *m, struct policy *out)
{
    struct rule *v = mz_arena_alloc0(b->arena, m->n_permissions * sizeof(*v));
    out->permissions =
        (struct rule){ .kind = RULE_OR, .list = "permissions", .of = { v, m->n_permissions } };
    for (size_t i = 0; i < m->n_permissions; i++)
        if (!rule_build_permission(b, m->permissions[i], &v[i]))
            return mz_err_at(b->err, "permissions[%zu]", i);
    v = mz_arena_alloc0(b->arena, m->n_principals * sizeof(*v));
    out->principals =
        (struct rule){ .kind = RULE_OR, .list = "principals", .of = { v, m->n_principals } };
    for (size_t i = 0; i < m->n_principals; i++)
        if (!rule_build_principal(b, m->principals[i], &v[i]))
            return mz_err_at(b->err, "principals[%zu]", i);
    out->any_permission = has_any(&out->permissions);
    out->any_principal = has_any(&out->principals);
    return condition_build(b, m, out);
}

static bool policies_build(struct rule_builder *b, const pb_RBAC *m, struct mz_rbac *r)
{
    r->policies = mz_arena_alloc0(b->arena, m->n_policies * sizeof(*r->policies));
    for (; r->n < m->n_policies; r->n++) {
        const pb_RBAC_PoliciesEntry *e = m->policies[r->n];
        r->policies[r->n].name = mz_arena_dup(b->arena, mz_str_c(e->key));
        r->policies[r->n].details = details_of(b->arena, r->policies[r->n].name);
        if (!policy_build(b, e->value, &r->policies[r->n]))
            return mz_err_at(b->err, "policies[\"%s\"]", e->key);
    }
    if (r->n)
        qsort(r->policies, r->n, sizeof(*r->policies), policy_cmp);
    if (r->n >= INDEX_FROM)
        r->index = index_create(r->policies, r->n);
    return true;
}

static const enum mz_rbac_action actions[] = { [pb_RBAC_Action_ALLOW] = MZ_RBAC_ALLOW,
                                               [pb_RBAC_Action_DENY] = MZ_RBAC_DENY,
                                               [pb_RBAC_Action_LOG] = MZ_RBAC_LOG };

static struct mz_rbac *engine_create(void)
{
    struct mz_rbac *r = mz_new0(MZ_MEM_CONFIG, struct mz_rbac);
    r->arena = mz_arena_create(MZ_MEM_CONFIG);
    return r;
}

struct mz_rbac *mz_rbac_create(const pb_RBAC *m, bool http, const struct mz_factory *f,
                               struct mz_err *err)
{
    struct mz_rbac *r = engine_create();
    r->action = actions[m->action];
    r->logs = r->action == MZ_RBAC_LOG;
    struct rule_builder b = { .arena = r->arena, .f = f, .err = err, .http = http };
    bool ok = policies_build(&b, m, r);
    r->path = b.path;
    if (ok)
        return r;
    mz_rbac_destroy(r);
    return NULL;
}

static const void *action_build(void *arg, const pb_Any *any, struct mz_err *err)
{
    struct rule_builder *b = arg;
    ProtobufCMessage *msg;
    if (!mz_any_unpack_as(b->f->proto, any, &pb_Action__descriptor, &msg, err))
        return NULL;
    const pb_Action *m = (const pb_Action *)msg;
    struct rbac_action *out = mz_arena_alloc(b->arena, sizeof(*out));
    if ((unsigned)m->action >= MZ_COUNT(actions)) {
        (void)mz_err_set(err, "unknown action %d", (int)m->action);
        return NULL;
    }
    struct mz_str name = mz_arena_dup(b->arena, mz_str_c(m->name));
    *out = (struct rbac_action){ name, details_of(b->arena, name), actions[m->action] };
    b->logs |= out->action == MZ_RBAC_LOG;
    return out;
}

struct mz_rbac *mz_rbac_create_matcher(const pb_Matcher *m, const struct mz_factory *f,
                                       struct mz_err *err)
{
    struct mz_rbac *r = engine_create();
    struct rule_builder b = { .arena = r->arena, .f = f, .err = err };
    const struct mz_match_env env = {
        .proto = f->proto, .stats = f->stats, .action = action_build, .arg = &b
    };
    r->tree = mz_match_tree_create(m, &env, err);
    r->logs = b.logs;
    if (r->tree)
        return r;
    mz_rbac_destroy(r);
    return NULL;
}

bool mz_rbac_logs(const struct mz_rbac *r)
{
    return r->logs;
}

void mz_rbac_destroy(struct mz_rbac *r)
{
    if (!r)
        return;
    mz_match_tree_destroy(r->tree);
    index_destroy(r->index);
    mz_arena_destroy(r->arena);
    mz_free(MZ_MEM_CONFIG, r);
}

#define REASONS 4
bool mz_rbac_imagine(const struct mz_rbac *r, const struct mz_rbac_input *in, struct mz_str name)
{
    struct mz_decision *d = in->info->decision;
    struct mz_rbac_result res;
    uint64_t now = d->start_us;
    mz_rbac_check(r, in, &res);
    if (res.matched)
        mz_note(d, now, RULE, name, mz_rbac_why(r, in, &res), 0, 0);
    else if (res.allowed)
        mz_note(d, now, NO_RULE, name, MZ_STR(""), 0, 0);
    size_t n = mz_rbac_policies(r);
    for (size_t i = 0; !res.allowed && !res.matched && i < n && i < REASONS; i++)
        mz_note(d, now, NOT_RULE, name, mz_rbac_why_not(r, in, i), 0, 0);
    if (!res.allowed && !res.matched && n > REASONS)
        mz_note(d, now, MORE_RULES, name, MZ_STR(""), (int64_t)(n - REASONS), 0);
    if (!res.allowed)
        mz_note(d, now, FILTER, name, mz_arena_dup(in->arena, mz_str_c(res.details)), 0, 0);
    return !res.allowed;
}

size_t mz_rbac_policies(const struct mz_rbac *r)
{
    return r->tree ? 1 : r->n;
}

/* A condition that costs too much holds where that refuses: nobody gets past a rule by making it dear. */
static bool condition_holds(const struct mz_rbac *r, const struct policy *p, const struct ask *q)
{
    const struct mz_format_ctx ctx = { .info = q->in->info, .req = q->in->h };
    struct mz_attributes attributes;
    mz_attributes_init(&attributes, &ctx);
    enum mz_cel_outcome o = mz_cel_test(p->condition, &attributes.vars, q->in->arena);
    return o == MZ_CEL_YES || (o == MZ_CEL_TOO_DEAR && r->action == MZ_RBAC_DENY);
}

static bool policy_matches(const struct mz_rbac *r, const struct policy *p, const struct ask *q)
{
    return (p->any_permission || rule_matches(&p->permissions, q)) &&
           (p->any_principal || rule_matches(&p->principals, q)) &&
           (!p->condition || condition_holds(r, p, q));
}

static const struct policy *first_match(const struct mz_rbac *r, const struct ask *q)
{
    if (!r->index) {
        for (size_t i = 0; i < r->n; i++)
            if (policy_matches(r, &r->policies[i], q))
                return &r->policies[i];
        return NULL;
    }
    size_t words = (r->n + 63) / 64;
    uint64_t *may = mz_arena_alloc(q->in->arena, words * sizeof(*may));
    index_candidates(r->index, q, may);
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = may[w]; bits; bits &= bits - 1) {
            const struct policy *p = &r->policies[w * 64 + (size_t)__builtin_ctzll(bits)];
            if (policy_matches(r, p, q))
                return p;
        }
    return NULL;
}

static const char no_policy[] = "rbac_access_denied_matched_policy[none]";

static const struct rbac_action *tree_find(const struct mz_rbac *r, const struct mz_rbac_input *in,
                                           struct mz_buf *trail)
{
    const struct mz_match_input input = { .info = in->info, .h = in->h, .arena = in->arena };
    return mz_match_tree_find(r->tree, &input, trail);
}

/* What @p decides; NULL: no policy matched. */
static void result_of(const struct mz_rbac *r, const struct policy *p, struct mz_rbac_result *out)
{
    *out = (struct mz_rbac_result){ .allowed = r->action == MZ_RBAC_LOG ||
                                               (p != NULL) == (r->action == MZ_RBAC_ALLOW),
                                    .matched = p != NULL,
                                    .action = r->action,
                                    .details = p ? p->details : no_policy,
                                    .policy = p ? p->name : MZ_STR(""),
                                    .number = p ? (size_t)(p - r->policies) : r->n };
}

void mz_rbac_check(const struct mz_rbac *r, const struct mz_rbac_input *in,
                   struct mz_rbac_result *out)
{
    if (r->tree) {
        const struct rbac_action *a = tree_find(r, in, NULL);
        *out = (struct mz_rbac_result){ .action = MZ_RBAC_DENY, .details = no_policy };
        if (a)
            *out = (struct mz_rbac_result){
                a->action != MZ_RBAC_DENY, true, a->action, a->details, a->name, 0
            };
        return;
    }
    struct ask q;
    ask_init(&q, in, r->path);
    result_of(r, first_match(r, &q), out);
}

bool mz_rbac_outcome(const struct mz_rbac *r, size_t i, struct mz_rbac_result *out)
{
    if (!r->tree)
        result_of(r, i < r->n ? &r->policies[i] : NULL, out);
    return !r->tree;
}

/* ---- why ---- */

static const struct policy *policy_find(const struct mz_rbac *r, struct mz_str name)
{
    struct policy key = { .name = name };
    return r->n ? bsearch(&key, r->policies, r->n, sizeof(key), policy_cmp) : NULL;
}

static struct mz_str take(struct mz_buf *b, struct mz_arena *a)
{
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return s;
}

struct mz_str mz_rbac_why(const struct mz_rbac *r, const struct mz_rbac_input *in,
                          const struct mz_rbac_result *res)
{
    const struct policy *p = res->matched && !r->tree ? policy_find(r, res->policy) : NULL;
    struct mz_buf b;
    mz_buf_init(&b);
    if (r->tree && res->matched) {
        mz_buf_printf(&b, "action " MZ_STR_FMT " of matcher", MZ_STR_ARG(res->policy));
        (void)tree_find(r, in, &b); /* the same as before */
        return take(&b, in->arena);
    }
    if (!p)
        return MZ_STR("");
    struct ask q;
    ask_init(&q, in, r->path);
    mz_buf_printf(&b, "policy " MZ_STR_FMT " matched: ", MZ_STR_ARG(p->name));
    rule_why(&p->permissions, &q, true, &b);
    mz_buf_append(&b, "; ", 2);
    rule_why(&p->principals, &q, true, &b);
    if (p->condition)
        mz_buf_printf(&b, "; %s", p->condition_field);
    return take(&b, in->arena);
}

struct mz_str mz_rbac_why_not(const struct mz_rbac *r, const struct mz_rbac_input *in, size_t i)
{
    struct ask q;
    if (r->tree)
        return i == 0 && !tree_find(r, in, NULL) ? MZ_STR("the matcher leads to no action")
                                                 : MZ_STR("");
    ask_init(&q, in, r->path);
    const struct policy *p = i < r->n ? &r->policies[i] : NULL;
    if (!p || policy_matches(r, p, &q))
        return MZ_STR("");
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_printf(&b, "policy " MZ_STR_FMT ": ", MZ_STR_ARG(p->name));
    if (!rule_matches(&p->permissions, &q))
        rule_why(&p->permissions, &q, false, &b);
    else if (!rule_matches(&p->principals, &q))
        rule_why(&p->principals, &q, false, &b);
    else
        mz_buf_append_str(&b, mz_str_c(p->condition_field));
    return take(&b, in->arena);
}
