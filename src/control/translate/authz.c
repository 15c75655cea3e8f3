/* AuthorizationPolicies of a workload or gateway as filters: AUDIT, DENY and ALLOW by RBAC alone, CUSTOM by asking a server. */
#include "control/translate/authz.h"

#include <stdlib.h>

#include "control/model/attached.h"
#include "control/translate/tell.h"

#define HTTP_RBAC "envoy.filters.http.rbac"
#define TCP_RBAC  "envoy.filters.network.rbac"

/* What is there: rules that count, and such that only tell what they would have done. */
struct rules {
    pb_RBAC *enforced, *shadow; /* NULL: no policy of this kind */
};

static bool is_dry(const struct mz_attached *p)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    const struct mz_str v = mz_label_get(p->annotations, "istio.io/dry-run");
    for (size_t i = 0; i < MZ_COUNT(yes); i++)
        if (mz_str_eq(v, mz_str_c(yes[i])))
            return true;
    return false;
}

static const ist_AuthorizationPolicy *spec(const struct mz_attached *p)
{
    return (const ist_AuthorizationPolicy *)p->m;
}

static const char *provider_of(const struct mz_attached *p)
{
    const ist_AuthorizationPolicy *m = spec(p);
    return m->action_detail_case == ist_AuthorizationPolicy_ACTION_DETAIL_PROVIDER
               ? m->provider->name
               : "";
}

/* ---- policies to RBAC ---- */

/* Without rules a policy matches nothing, said in so many words. */
static pb_Policy *never(struct mz_arena *a)
{
    pb_Policy *p = TR_NEW(a, Policy);
    pb_Permission *any = TR_NEW(a, Permission), *none = TR_NEW(a, Permission);
    pb_Principal *anybody = TR_NEW(a, Principal), *nobody = TR_NEW(a, Principal);
    any->rule_case = pb_Permission_RULE_ANY;
    any->any = true;
    none->rule_case = pb_Permission_RULE_NOT_RULE;
    none->not_rule = any;
    anybody->identifier_case = pb_Principal_IDENTIFIER_ANY;
    anybody->any = true;
    nobody->identifier_case = pb_Principal_IDENTIFIER_NOT_ID;
    nobody->not_id = anybody;
    TR_ADD(a, p, permissions) = none;
    TR_ADD(a, p, principals) = nobody;
    return p;
}

static void put_policy(struct mz_arena *a, pb_RBAC *to, char *name, pb_Policy *p)
{
    pb_RBAC_PoliciesEntry *e = TR_NEW(a, RBAC_PoliciesEntry);
    e->key = name;
    e->value = p;
    TR_ADD(a, to, policies) = e;
}

/* The name is what logs, traces and the external authorization see. */
static char *rule_name(struct mz_arena *a, const struct mz_attached *p, size_t rule, bool custom)
{
    const char *provider = custom ? provider_of(p) : "";
    return TR_PRINTF(a, "%s%s%sns[%.*s]-policy[%.*s]-rule[%zu]", custom ? "istio-ext-authz-" : "",
                     provider, provider[0] ? "-" : "", MZ_STR_ARG(p->ns), MZ_STR_ARG(p->name),
                     rule);
}

static void put_rules(struct mz_view *v, const struct mz_attached *p, pb_RBAC *to, bool tcp)
{
    const ist_AuthorizationPolicy *m = spec(p);
    const bool custom = m->action == ist_AuthorizationPolicy_Action_CUSTOM;
    const struct tr_authz x = { .a = v->arena,
                                .mesh = &v->model->mesh,
                                .ns = p->ns,
                                .tcp = tcp,
                                .allow = m->action == ist_AuthorizationPolicy_Action_ALLOW };
    for (size_t i = 0; i < m->n_rules; i++) {
        pb_Policy *rule = tr_authz_rule(&x, m->rules[i]);
        if (rule)
            put_policy(v->arena, to, rule_name(v->arena, p, i, custom), rule);
    }
    if (!m->n_rules)
        put_policy(v->arena, to, rule_name(v->arena, p, 0, custom), never(v->arena));
}

static pb_RBAC *rbac_for(struct mz_arena *a, pb_RBAC **r, pb_RBAC_Action action)
{
    if (!*r) {
        *r = TR_NEW(a, RBAC);
        (*r)->action = action;
    }
    return *r;
}

/* All policies of one action; of CUSTOM those with this provider. False: there are none. */
static bool rules_of(struct mz_view *v, const struct mz_attached_refs *all,
                     ist_AuthorizationPolicy_Action action, const char *provider, bool tcp,
                     struct rules *out)
{
    const pb_RBAC_Action as = action == ist_AuthorizationPolicy_Action_ALLOW ? pb_RBAC_Action_ALLOW
                              : action == ist_AuthorizationPolicy_Action_AUDIT
                                  ? pb_RBAC_Action_LOG
                                  : pb_RBAC_Action_DENY;
    *out = (struct rules){ 0 };
    for (size_t i = 0; i < all->v.n; i++) {
        const struct mz_attached *p = all->v.v[i];
        if (spec(p)->action == action && (!provider || strcmp(provider_of(p), provider) == 0))
            put_rules(v, p, rbac_for(v->arena, is_dry(p) ? &out->shadow : &out->enforced, as), tcp);
    }
    return out->enforced || out->shadow;
}

/* ---- filters ---- */

static const char *shadow_prefix(const pb_RBAC *shadow)
{
    if (!shadow || shadow->action == pb_RBAC_Action_ALLOW)
        return "istio_dry_run_allow_";
    return shadow->action == pb_RBAC_Action_DENY ? "istio_dry_run_deny_" : "";
}

static pb_HttpFilter *http_rbac(struct mz_arena *a, const struct rules *r, const char *prefix)
{
    pb_http_rbac_RBAC *m = TR_NEW(a, http_rbac_RBAC);
    m->rules = r->enforced;
    m->shadow_rules = r->shadow;
    m->shadow_rules_stat_prefix = TR_CONST(prefix);
    return tr_named_http_filter(a, HTTP_RBAC, m);
}

static pb_Filter *tcp_rbac(struct mz_arena *a, const struct rules *r, const char *prefix)
{
    pb_network_rbac_RBAC *m = TR_NEW(a, network_rbac_RBAC);
    m->rules = r->enforced;
    m->shadow_rules = r->shadow;
    m->shadow_rules_stat_prefix = TR_CONST(prefix);
    m->stat_prefix = TR_CONST("tcp.");
    return tr_filter(a, TCP_RBAC, m);
}

static void add_local(struct mz_view *v, struct tr_guards *g, const struct mz_attached_refs *all)
{
    static const ist_AuthorizationPolicy_Action order[] = { ist_AuthorizationPolicy_Action_AUDIT,
                                                            ist_AuthorizationPolicy_Action_DENY,
                                                            ist_AuthorizationPolicy_Action_ALLOW };
    struct rules r;
    for (size_t i = 0; i < MZ_COUNT(order); i++) {
        if (rules_of(v, all, order[i], NULL, false, &r))
            TR_ADD(v->arena, g, http) = http_rbac(v->arena, &r, shadow_prefix(r.shadow));
        if (rules_of(v, all, order[i], NULL, true, &r))
            TR_ADD(v->arena, g, tcp) = tcp_rbac(v->arena, &r, shadow_prefix(r.shadow));
    }
}

/* ---- CUSTOM ---- */

/* The server cannot be asked: what it would have been asked about is denied. */
static struct rules denied(struct mz_arena *a, const struct rules *r)
{
    struct rules out = { .enforced = TR_NEW(a, RBAC) };
    out.enforced->action = pb_RBAC_Action_DENY;
    for (size_t i = 0; r->enforced && i < r->enforced->n_policies; i++)
        put_policy(a, out.enforced,
                   TR_PRINTF(a, "%s-deny-due-to-bad-CUSTOM-action", r->enforced->policies[i]->key),
                   r->enforced->policies[i]->value);
    return out;
}

/* RBAC only finds out which rule fits; the filter behind it asks when one does. In dry run the rules of the two kinds change places. */
static struct rules found_out(struct mz_arena *a, const struct rules *r)
{
    struct rules out = { .enforced = r->shadow && r->shadow->n_policies ? r->shadow : NULL,
                         .shadow = r->enforced };
    (void)rbac_for(a, &out.shadow, pb_RBAC_Action_DENY);
    return out;
}

static void add_custom_http(struct mz_view *v, struct tr_guards *g, const struct rules *r,
                            const struct tr_ext_authz *ask)
{
    struct mz_arena *a = v->arena;
    if (!ask) {
        const struct rules no = denied(a, r);
        TR_ADD(a, g, custom_http) = http_rbac(a, &no, "");
        return;
    }
    const struct rules found = found_out(a, r);
    TR_ADD(a, g, custom_http) = http_rbac(a, &found, "istio_ext_authz_");
    TR_ADD(a, g, custom_http) = tr_named_http_filter(a, "envoy.filters.http.ext_authz", ask->http);
}

static void add_custom_tcp(struct mz_view *v, struct tr_guards *g, const struct rules *r,
                           const struct tr_ext_authz *ask)
{
    struct mz_arena *a = v->arena;
    if (!ask) {
        const struct rules no = denied(a, r);
        TR_ADD(a, g, custom_tcp) = tcp_rbac(a, &no, "");
    } else if (ask->tcp) {
        const struct rules found = found_out(a, r);
        TR_ADD(a, g, custom_tcp) = tcp_rbac(a, &found, "istio_ext_authz_");
        TR_ADD(a, g, custom_tcp) = tr_filter(a, "envoy.filters.network.ext_authz", ask->tcp);
    }
}

static const struct mz_attached *first_of(const struct mz_attached_refs *all, const char *provider)
{
    size_t i = 0;
    while (spec(all->v.v[i])->action != ist_AuthorizationPolicy_Action_CUSTOM ||
           strcmp(provider_of(all->v.v[i]), provider) != 0)
        i++; /* it came from there */
    return all->v.v[i];
}

static void add_provider(struct mz_view *v, struct tr_guards *g, const struct mz_attached_refs *all,
                         const char *provider, bool alone)
{
    const ist_AuthorizationPolicy_Action custom = ist_AuthorizationPolicy_Action_CUSTOM;
    struct rules r;
    struct tr_ext_authz ask;
    struct mz_err why = { .path = "", .msg = "" };
    const bool ok = alone || v->t->features.many_custom
                        ? tr_ext_authz(v, mz_str_c(provider), &ask, &why)
                        : mz_err_set(&why, "several providers of CUSTOM at one workload need "
                                           "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS");
    char text[sizeof(why)];
    if (!ok)
        tr_tell(v, first_of(all, provider)->key,
                "its rules deny, because provider \"%s\" cannot be asked: %s", provider,
                mz_err_text(&why, text, sizeof(text)));
    if (rules_of(v, all, custom, provider, false, &r))
        add_custom_http(v, g, &r, ok ? &ask : NULL);
    if (rules_of(v, all, custom, provider, true, &r))
        add_custom_tcp(v, g, &r, ok ? &ask : NULL);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_custom(struct mz_view *v, struct tr_guards *g, const struct mz_attached_refs *all)
{
    const char **names = mz_arena_alloc(v->arena, all->v.n * sizeof(*names));
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < all->v.n; i++)
        if (spec(all->v.v[i])->action == ist_AuthorizationPolicy_Action_CUSTOM)
            names[n++] = provider_of(all->v.v[i]);
    if (n)
        qsort(names, n, sizeof(*names), compare_texts);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    for (size_t i = 0; i < kept; i++)
        add_provider(v, g, all, names[i], kept == 1);
}

void tr_authz_add(struct mz_view *v, struct tr_guards *g)
{
    const struct mz_attach_to to = { v->proxy->ns,
                                     v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs all = { 0 };
    mz_model_attached_all(v->model, MZ_KIND_AUTHORIZATION_POLICY, &to, false, &all);
    if (all.v.n) {
        add_custom(v, g, &all);
        add_local(v, g, &all);
    }
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
}

pb_RBAC *tr_authz_enforced(struct mz_view *v, ist_AuthorizationPolicy_Action action)
{
    const struct mz_attach_to to = { v->proxy->ns,
                                     v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs all = { 0 };
    struct rules r = { 0 };
    mz_model_attached_all(v->model, MZ_KIND_AUTHORIZATION_POLICY, &to, false, &all);
    (void)rules_of(v, &all, action, NULL, false, &r);
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
    return r.enforced;
}

const struct tr_guards *tr_guards(struct mz_view *v)
{
    if (!v->guards) {
        struct tr_guards *g = mz_arena_new0(v->arena, struct tr_guards);
        tr_authz_add(v, g);
        tr_jwt_add(v, g);
        v->guards = g;
    }
    return v->guards;
}
