/*
 * One rule of an AuthorizationPolicy as a policy of RBAC. A rule is a list of alternatives of whom (`from`) and one of what (`to`);
 * each, with the conditions of `when` that are about the same, is an expression whose leaves are single matchers.
 */
#include "control/translate/authz.h"
#include "control/translate/matchers.h"

#define JWT_FILTER  "envoy.filters.http.jwt_authn"
#define JWT_PAYLOAD "payload"
#define URI_PREFIX  MZ_STR("spiffe://")
enum { MAX_CLAIM_DEPTH = 16 };

/* ---- expressions ---- */

enum op { OP_LEAF, OP_AND, OP_OR, OP_NOT };
struct expr {
    enum op op;
    void *leaf; /* pb_Permission or pb_Principal */
    struct expr **v;
    size_t n_v;
};

static struct expr *expr_new(struct mz_arena *a, enum op op)
{
    struct expr *e = mz_arena_new0(a, struct expr);
    e->op = op;
    return e;
}

static struct expr *expr_not(struct mz_arena *a, struct expr *of)
{
    struct expr *e = expr_new(a, OP_NOT);
    TR_ADD(a, e, v) = of;
    return e;
}

static pb_Permission *to_permission(struct mz_arena *a, const struct expr *e)
{
    if (e->op == OP_LEAF)
        return e->leaf;
    pb_Permission *p = TR_NEW(a, Permission);
    if (e->op == OP_NOT) {
        p->rule_case = pb_Permission_RULE_NOT_RULE;
        p->not_rule = to_permission(a, e->v[0]);
        return p;
    }
    pb_Permission_Set *set = TR_NEW(a, Permission_Set);
    for (size_t i = 0; i < e->n_v; i++)
        TR_ADD(a, set, rules) = to_permission(a, e->v[i]);
    p->rule_case = e->op == OP_AND ? pb_Permission_RULE_AND_RULES : pb_Permission_RULE_OR_RULES;
    *(e->op == OP_AND ? &p->and_rules : &p->or_rules) = set;
    return p;
}

static pb_Principal *to_principal(struct mz_arena *a, const struct expr *e)
{
    if (e->op == OP_LEAF)
        return e->leaf;
    pb_Principal *p = TR_NEW(a, Principal);
    if (e->op == OP_NOT) {
        p->identifier_case = pb_Principal_IDENTIFIER_NOT_ID;
        p->not_id = to_principal(a, e->v[0]);
        return p;
    }
    pb_Principal_Set *set = TR_NEW(a, Principal_Set);
    for (size_t i = 0; i < e->n_v; i++)
        TR_ADD(a, set, ids) = to_principal(a, e->v[i]);
    p->identifier_case =
        e->op == OP_AND ? pb_Principal_IDENTIFIER_AND_IDS : pb_Principal_IDENTIFIER_OR_IDS;
    *(e->op == OP_AND ? &p->and_ids : &p->or_ids) = set;
    return p;
}

/* ---- leaves ---- */

struct clause {
    const struct attribute *attribute;
    struct mz_str key;
    char *const *values, *const *not_values;
    size_t n, not_n;
};
/* One expression of one value, or of all values together; NULL: it cannot be said. */
typedef struct expr *one_fn(const struct tr_authz *x, const struct clause *c, struct mz_str value);
typedef struct expr *all_fn(const struct tr_authz *x, const struct clause *c, char *const *values,
                            size_t n);
struct attribute {
    struct mz_str key;
    bool open;      /* more follows the key */
    bool principal; /* about who asks, not about what is asked for */
    bool request;   /* needs a request */
    one_fn *one;
    all_fn *all;
};

static struct expr *permission(struct mz_arena *a, pb_Permission p)
{
    struct expr *e = expr_new(a, OP_LEAF);
    pb_Permission *own = TR_NEW(a, Permission);
    *own = p;
    e->leaf = own;
    return e;
}
#define PERMISSION(a, KIND, field, value)                                                          \
    permission((a), (pb_Permission){ .base = PROTOBUF_C_MESSAGE_INIT(&pb_Permission__descriptor),  \
                                     .rule_case = pb_Permission_RULE_##KIND,                       \
                                     .field = (value) })

static struct expr *principal(struct mz_arena *a, pb_Principal p)
{
    struct expr *e = expr_new(a, OP_LEAF);
    pb_Principal *own = TR_NEW(a, Principal);
    *own = p;
    e->leaf = own;
    return e;
}
#define PRINCIPAL(a, KIND, field, value)                                                           \
    principal((a), (pb_Principal){ .base = PROTOBUF_C_MESSAGE_INIT(&pb_Principal__descriptor),     \
                                   .identifier_case = pb_Principal_IDENTIFIER_##KIND,              \
                                   .field = (value) })

static struct expr *host(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    return PERMISSION(x->a, HEADER, header,
                      tr_match_header(x->a, TR_CONST(":authority"), value, true));
}

static struct expr *method(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    return PERMISSION(x->a, HEADER, header,
                      tr_match_header(x->a, TR_CONST(":method"), value, false));
}

/* "{*}" and "{**}" are "*" and "**" to Envoy. */
static char *path_template(struct mz_arena *a, struct mz_str path)
{
    char *out = mz_arena_alloc(a, path.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] != '{' && path.p[i] != '}') /* validation: they stand nowhere else */
            out[n++] = path.p[i];
    out[n] = 0;
    return out;
}

static struct expr *path(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    struct mz_arena *a = x->a;
    if (mz_str_find(value, MZ_STR("{*}")) < 0 && mz_str_find(value, MZ_STR("{**}")) < 0) {
        pb_PathMatcher *m = TR_NEW(a, PathMatcher);
        m->rule_case = pb_PathMatcher_RULE_PATH;
        m->path = tr_match_pattern(a, value, MZ_STR(""));
        return PERMISSION(a, URL_PATH, url_path, m);
    }
    pb_UriTemplateMatchConfig *t = TR_NEW(a, UriTemplateMatchConfig);
    pb_TypedExtensionConfig *e = TR_NEW(a, TypedExtensionConfig);
    t->path_template = path_template(a, value);
    e->name = TR_CONST("uri-template");
    e->typed_config = tr_any(a, t);
    return PERMISSION(a, URI_TEMPLATE, uri_template, e);
}

static struct expr *destination_ip(const struct tr_authz *x, const struct clause *c,
                                   struct mz_str value)
{
    (void)c;
    pb_CidrRange *r = tr_cidr(x->a, value);
    return r ? PERMISSION(x->a, DESTINATION_IP, destination_ip, r) : NULL;
}

static struct expr *destination_port(const struct tr_authz *x, const struct clause *c,
                                     struct mz_str value)
{
    (void)c;
    uint64_t port;
    return mz_str_u64(value, &port) && port <= UINT16_MAX
               ? PERMISSION(x->a, DESTINATION_PORT, destination_port, (uint32_t)port)
               : NULL;
}

static struct expr *sni(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    return PERMISSION(x->a, REQUESTED_SERVER_NAME, requested_server_name,
                      tr_match_pattern(x->a, value, MZ_STR("")));
}

/* "experimental.envoy.filters.a.b[c]": what filter "envoy.filters.a.b" wrote under "c"; a value "[v]" is an element of a list. */
static struct expr *filter_metadata(const struct tr_authz *x, const struct clause *c,
                                    char *const *values, size_t n)
{
    const ptrdiff_t open = mz_str_chr(c->key, '[');
    const size_t skip = MZ_STR("experimental.").n;
    if (open < 0)
        return NULL;
    const char *filter = tr_text(x->a, (struct mz_str){ c->key.p + skip, (size_t)open - skip });
    struct mz_str name = mz_str_skip(c->key, (size_t)open + 1);
    name.n -= name.n && name.p[name.n - 1] == ']';
    const char *at = tr_text(x->a, name);
    pb_ValueMatcher **v = mz_arena_alloc(x->a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        struct mz_str s = mz_str_c(values[i]);
        const bool list = s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']';
        if (list)
            s = (struct mz_str){ s.p + 1, s.n - 2 };
        v[i] = tr_value_string(x->a, tr_match_pattern(x->a, s, MZ_STR("")));
        v[i] = list ? tr_value_in_list(x->a, v[i]) : v[i];
    }
    return PERMISSION(x->a, METADATA, metadata,
                      tr_match_metadata(x->a, filter, &at, 1, tr_value_any(x->a, v, n)));
}

static struct expr *source_ip(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    pb_CidrRange *r = tr_cidr(x->a, value);
    return r ? PRINCIPAL(x->a, DIRECT_REMOTE_IP, direct_remote_ip, r) : NULL;
}

static struct expr *remote_ip(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    pb_CidrRange *r = tr_cidr(x->a, value);
    return r ? PRINCIPAL(x->a, REMOTE_IP, remote_ip, r) : NULL;
}

static struct expr *authenticated(const struct tr_authz *x, pb_StringMatcher *name)
{
    pb_Principal_Authenticated *m = TR_NEW(x->a, Principal_Authenticated);
    m->principal_name = name;
    return PRINCIPAL(x->a, AUTHENTICATED, authenticated, m);
}

static struct expr *principal_name(const struct tr_authz *x, const struct clause *c,
                                   struct mz_str value)
{
    (void)c;
    return authenticated(x, tr_match_pattern(x->a, value, URI_PREFIX));
}

/* Each '*' stands for anything. */
static struct expr *ns(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    struct mz_str regex = MZ_STR(".*/ns/");
    for (;;) {
        const ptrdiff_t star = mz_str_chr(value, '*');
        const struct mz_str part = star < 0 ? value : (struct mz_str){ value.p, (size_t)star };
        regex = mz_arena_printf(x->a, "%.*s%s%s", MZ_STR_ARG(regex), tr_regex_quote(x->a, part).p,
                                star < 0 ? "/.*" : ".*");
        if (star < 0)
            return authenticated(x, tr_match_regex(x->a, TR_CONST(regex.p)));
        value = mz_str_skip(value, (size_t)star + 1);
    }
}

static struct expr *account(const struct tr_authz *x, const struct clause *c, struct mz_str value)
{
    (void)c;
    const ptrdiff_t slash = mz_str_chr(value, '/');
    const struct mz_str of = slash < 0 ? x->ns : (struct mz_str){ value.p, (size_t)slash };
    const struct mz_str name = mz_str_skip(value, (size_t)(slash + 1));
    return authenticated(
        x,
        tr_match_regex(x->a, TR_PRINTF(x->a, "spiffe://.+/ns/%s/(.+/|)sa/%s(/.+)?",
                                       tr_regex_quote(x->a, of).p, tr_regex_quote(x->a, name).p)));
}

static struct expr *trust_domain(const struct tr_authz *x, const struct clause *c,
                                 struct mz_str value)
{
    (void)c;
    const ptrdiff_t star = mz_str_chr(value, '*');
    if (mz_str_eq(value, MZ_STR("*")))
        return authenticated(x, tr_match_prefix(x->a, URI_PREFIX));
    if (star < 0)
        return authenticated(
            x, tr_match_prefix(x->a, mz_arena_printf(x->a, "spiffe://%.*s/", MZ_STR_ARG(value))));
    const struct mz_str head = { value.p, (size_t)star };
    return authenticated(
        x,
        tr_match_regex(x->a, TR_PRINTF(x->a, "spiffe://%s[^/]*%s/.*", tr_regex_quote(x->a, head).p,
                                       tr_regex_quote(x->a, mz_str_skip(value, head.n + 1)).p)));
}

/* ---- leaves of tokens ---- */

static struct expr *claim(const struct tr_authz *x, const char *name, pb_StringMatcher *m)
{
    const char *const at[] = { JWT_PAYLOAD, name };
    return PRINCIPAL(x->a, METADATA, metadata,
                     tr_match_metadata(x->a, JWT_FILTER, at, 2, tr_value_string(x->a, m)));
}

static bool is_open(struct mz_str s, bool at_begin)
{
    return s.n && s.p[at_begin ? 0 : s.n - 1] == '*';
}

/* "issuer/subject"; the issuer may have slashes itself. '*' stands at the begin or the end of the whole. */
static struct expr *request_principal(const struct tr_authz *x, struct mz_str value)
{
    struct mz_arena *a = x->a;
    const struct mz_str none = MZ_STR(""), any = MZ_STR("*");
    const ptrdiff_t slash = mz_str_rchr(value, '/');
    const struct mz_str iss = slash < 0 ? value : (struct mz_str){ value.p, (size_t)slash };
    const struct mz_str sub = slash < 0 ? none : mz_str_skip(value, (size_t)slash + 1);
    pb_StringMatcher *i, *s;
    if (slash < 0 && is_open(value, true)) { /* ends like that: the subject */
        i = tr_match_pattern(a, any, none);
        s = tr_match_pattern(a, value, none);
    } else if (slash < 0 && is_open(value, false)) {
        i = tr_match_pattern(a, value, none);
        s = tr_match_pattern(a, any, none);
    } else {
        const bool begin = is_open(value, true), end = !begin && is_open(value, false);
        i = begin ? tr_match_pattern(a, iss, none) : tr_match_exact(a, iss);
        s = end ? tr_match_pattern(a, sub, none) : tr_match_exact(a, sub);
    }
    struct expr *both = expr_new(a, OP_AND);
    TR_ADD(a, both, v) = claim(x, "iss", i);
    TR_ADD(a, both, v) = claim(x, "sub", s);
    return both;
}

static struct expr *request_principals(const struct tr_authz *x, const struct clause *c,
                                       char *const *values, size_t n)
{
    (void)c;
    struct expr *any = expr_new(x->a, OP_OR);
    for (size_t i = 0; i < n; i++)
        TR_ADD(x->a, any, v) = request_principal(x, mz_str_c(values[i]));
    return n == 1 ? any->v[0] : any;
}

/* A claim that is one of the values, or a list with one of them. */
static struct expr *claims(const struct tr_authz *x, const char *const *at, size_t depth,
                           char *const *values, size_t n)
{
    pb_ValueMatcher **v = mz_arena_alloc(x->a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = tr_value_string(x->a, tr_match_pattern(x->a, mz_str_c(values[i]), MZ_STR("")));
    pb_ValueMatcher *any = tr_value_any(x->a, v, n);
    pb_ValueMatcher *const either[] = { tr_value_in_list(x->a, any), any };
    return PRINCIPAL(x->a, METADATA, metadata,
                     tr_match_metadata(x->a, JWT_FILTER, at, depth, tr_value_any(x->a, either, 2)));
}

static struct expr *audiences(const struct tr_authz *x, const struct clause *c, char *const *values,
                              size_t n)
{
    (void)c;
    static const char *const at[] = { JWT_PAYLOAD, "aud" };
    return claims(x, at, 2, values, n);
}

static struct expr *presenter(const struct tr_authz *x, const struct clause *c, char *const *values,
                              size_t n)
{
    (void)c;
    static const char *const at[] = { JWT_PAYLOAD, "azp" };
    return claims(x, at, 2, values, n);
}

/* "[a][b]" to the path a, b. False: another form, which is one name in brackets. */
static bool nested_names(struct mz_arena *a, struct mz_str s, const char **out, size_t *n)
{
    while (s.n) {
        const ptrdiff_t end = mz_str_chr(s, ']');
        if (s.p[0] != '[' || end < 0 || *n == MAX_CLAIM_DEPTH)
            return false;
        const struct mz_str name = { s.p + 1, (size_t)end - 1 };
        if (mz_str_chr(name, '[') >= 0)
            return false;
        out[(*n)++] = tr_text(a, name);
        s = mz_str_skip(s, (size_t)end + 1);
    }
    return *n > 1;
}

static struct mz_str in_brackets(const struct clause *c)
{
    const struct mz_str s = mz_str_skip(c->key, c->attribute->key.n);
    return s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']' ? (struct mz_str){ s.p + 1, s.n - 2 }
                                                            : (struct mz_str){ 0 };
}

static struct expr *request_claims(const struct tr_authz *x, const struct clause *c,
                                   char *const *values, size_t n)
{
    const struct mz_str rest = mz_str_skip(c->key, c->attribute->key.n), one = in_brackets(c);
    const char *at[MAX_CLAIM_DEPTH + 1] = { JWT_PAYLOAD };
    size_t depth = 1;
    if (!nested_names(x->a, rest, at, &depth)) {
        if (!one.p)
            return NULL;
        at[1] = tr_text(x->a, one);
        depth = 2;
    }
    return claims(x, at, depth, values, n);
}

static struct expr *request_header(const struct tr_authz *x, const struct clause *c,
                                   struct mz_str value)
{
    const struct mz_str name = in_brackets(c);
    return name.p ? PRINCIPAL(x->a, HEADER, header,
                              tr_match_header(x->a, tr_text(x->a, name), value, false))
                  : NULL;
}

/* ---- attributes ---- */

enum {
    ATTR_HOST,
    ATTR_METHOD,
    ATTR_PATH,
    ATTR_PORT,
    ATTR_SOURCE_IP,
    ATTR_REMOTE_IP,
    ATTR_NAMESPACE,
    ATTR_TRUST_DOMAIN,
    ATTR_ACCOUNT,
    ATTR_PRINCIPAL,
    ATTR_REQUEST_PRINCIPAL,
    ATTR__OTHERS
};
/* clang-format off */
static const struct attribute attributes[] = {
    [ATTR_HOST]              = { MZ_STR_INIT(""), .request = true, .one = host },
    [ATTR_METHOD]            = { MZ_STR_INIT(""), .request = true, .one = method },
    [ATTR_PATH]              = { MZ_STR_INIT(""), .request = true, .one = path },
    [ATTR_PORT]              = { MZ_STR_INIT("destination.port"), .one = destination_port },
    [ATTR_SOURCE_IP]         = { MZ_STR_INIT("source.ip"), .principal = true, .one = source_ip },
    [ATTR_REMOTE_IP]         = { MZ_STR_INIT("remote.ip"), .principal = true, .one = remote_ip },
    [ATTR_NAMESPACE]         = { MZ_STR_INIT("source.namespace"), .principal = true, .one = ns },
    [ATTR_TRUST_DOMAIN]      = { MZ_STR_INIT("source.trustDomain"), .principal = true, .one = trust_domain },
    [ATTR_ACCOUNT]           = { MZ_STR_INIT("source.serviceAccount"), .principal = true, .one = account },
    [ATTR_PRINCIPAL]         = { MZ_STR_INIT("source.principal"), .principal = true, .one = principal_name },
    [ATTR_REQUEST_PRINCIPAL] = { MZ_STR_INIT("request.auth.principal"), .principal = true, .request = true, .all = request_principals },
    [ATTR__OTHERS]           = { MZ_STR_INIT("destination.ip"), .one = destination_ip },
    { MZ_STR_INIT("connection.sni"), .one = sni },
    { MZ_STR_INIT("experimental.envoy.filters."), .open = true, .all = filter_metadata },
    { MZ_STR_INIT("request.auth.audiences"), .principal = true, .request = true, .all = audiences },
    { MZ_STR_INIT("request.auth.presenter"), .principal = true, .request = true, .all = presenter },
    { MZ_STR_INIT("request.auth.claims"), .open = true, .principal = true, .request = true, .all = request_claims },
    { MZ_STR_INIT("request.headers"), .open = true, .principal = true, .request = true, .one = request_header },
};
/* clang-format on */

static const struct attribute *find_attribute(struct mz_str key)
{
    for (size_t i = 0; i < MZ_COUNT(attributes); i++)
        if (attributes[i].key.n && (attributes[i].open ? mz_str_starts(key, attributes[i].key)
                                                       : mz_str_eq(key, attributes[i].key)))
            return &attributes[i];
    return NULL;
}

/* ---- clauses ---- */

struct clauses { /* all of them hold */
    size_t n_v;
    struct clause *v;
};

static void add(struct mz_arena *a, struct clauses *to, struct clause c)
{
    if (c.n || c.not_n)
        TR_ADD(a, to, v) = c;
}

static void put(struct mz_arena *a, struct clauses *to, unsigned attribute, char *const *values,
                size_t n, char *const *not_values, size_t not_n)
{
    const struct attribute *at = &attributes[attribute];
    add(a, to, (struct clause){ at, at->key, values, not_values, n, not_n });
}

/* clang-format off */
static void put_source(struct mz_arena *a, struct clauses *to, const ist_Source *s)
{
    put(a, to, ATTR_PRINCIPAL, s->principals, s->n_principals, s->not_principals, s->n_not_principals);
    put(a, to, ATTR_REQUEST_PRINCIPAL, s->request_principals, s->n_request_principals, s->not_request_principals, s->n_not_request_principals);
    put(a, to, ATTR_ACCOUNT, s->service_accounts, s->n_service_accounts, s->not_service_accounts, s->n_not_service_accounts);
    put(a, to, ATTR_TRUST_DOMAIN, s->trust_domains, s->n_trust_domains, s->not_trust_domains, s->n_not_trust_domains);
    put(a, to, ATTR_NAMESPACE, s->namespaces, s->n_namespaces, s->not_namespaces, s->n_not_namespaces);
    put(a, to, ATTR_REMOTE_IP, s->remote_ip_blocks, s->n_remote_ip_blocks, s->not_remote_ip_blocks, s->n_not_remote_ip_blocks);
    put(a, to, ATTR_SOURCE_IP, s->ip_blocks, s->n_ip_blocks, s->not_ip_blocks, s->n_not_ip_blocks);
}

static void put_operation(struct mz_arena *a, struct clauses *to, const ist_Operation *o)
{
    put(a, to, ATTR_HOST, o->hosts, o->n_hosts, o->not_hosts, o->n_not_hosts);
    put(a, to, ATTR_METHOD, o->methods, o->n_methods, o->not_methods, o->n_not_methods);
    put(a, to, ATTR_PATH, o->paths, o->n_paths, o->not_paths, o->n_not_paths);
    put(a, to, ATTR_PORT, o->ports, o->n_ports, o->not_ports, o->n_not_ports);
}
/* clang-format on */

/* False: an attribute that nobody knows. */
static bool put_conditions(struct mz_arena *a, struct clauses *to, const ist_Rule *r, bool who)
{
    for (size_t i = 0; i < r->n_when; i++) {
        const ist_Condition *c = r->when[i];
        const struct attribute *at = find_attribute(mz_str_c(c->key));
        if (!at)
            return false;
        if (at->principal == who)
            add(a, to,
                (struct clause){ at, mz_str_c(c->key), c->values, c->not_values, c->n_values,
                                 c->n_not_values });
    }
    return true;
}

/* ---- names of the mesh that came before ---- */

static bool fits_open(struct mz_str s, struct mz_str pattern)
{
    if (pattern.n && pattern.p[pattern.n - 1] == '*')
        return mz_str_starts(s, (struct mz_str){ pattern.p, pattern.n - 1 });
    return pattern.n && pattern.p[0] == '*' && mz_str_ends(s, mz_str_skip(pattern, 1));
}

static bool is_domain_of(struct mz_str written, struct mz_str domain)
{
    return mz_str_eq(written, domain) || mz_str_eq(domain, MZ_STR("*")) ||
           fits_open(written, domain) || fits_open(domain, written);
}

static bool knows_domain(const struct mz_mesh *m, struct mz_str written)
{
    struct mz_str own;
    for (size_t i = 0; mz_mesh_trust_domain(m, i, &own); i++)
        if (is_domain_of(written, own))
            return true;
    return mz_str_eq(written, MZ_STR("cluster.local"));
}

struct texts {
    size_t n_v;
    char **v;
};

static void add_once(struct mz_arena *a, struct texts *t, size_t from, char *text)
{
    for (size_t i = from; i < t->n_v; i++)
        if (strcmp(t->v[i], text) == 0)
            return;
    TR_ADD(a, t, v) = text;
}

/* "domain/ns/a/sa/b" under each domain that the mesh has or had. */
static void add_principal(const struct tr_authz *x, struct texts *t, char *value)
{
    const struct mz_str s = mz_str_c(value);
    size_t slashes = 0;
    for (size_t i = 0; i < s.n; i++)
        slashes += s.p[i] == '/';
    const struct mz_str domain = { s.p, slashes ? (size_t)mz_str_chr(s, '/') : 0 };
    if (slashes != 4 || mz_str_eq(domain, MZ_STR("*")) || !knows_domain(x->mesh, domain)) {
        TR_ADD(x->a, t, v) = value;
        return;
    }
    const size_t from = t->n_v;
    struct mz_str own;
    for (size_t i = 0; mz_mesh_trust_domain(x->mesh, i, &own); i++) {
        const bool covered = domain.n && domain.p[0] == '*' && fits_open(own, domain);
        add_once(x->a, t, from,
                 covered ? value : TR_PRINTF(x->a, "%.*s%s", MZ_STR_ARG(own), value + domain.n));
    }
}

static void add_domain(const struct tr_authz *x, struct texts *t, char *value)
{
    bool ours = false;
    struct mz_str own;
    for (size_t i = 0; mz_mesh_trust_domain(x->mesh, i, &own); i++)
        ours |= mz_str_eq(mz_str_c(value), own);
    if (!ours)
        add_once(x->a, t, 0, value);
    for (size_t i = 0; ours && mz_mesh_trust_domain(x->mesh, i, &own); i++)
        add_once(x->a, t, 0, tr_text(x->a, own));
}

static struct texts with_aliases(const struct tr_authz *x, const struct attribute *at,
                                 char *const *values, size_t n)
{
    struct texts t = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (at == &attributes[ATTR_PRINCIPAL])
            add_principal(x, &t, values[i]);
        else if (at == &attributes[ATTR_TRUST_DOMAIN])
            add_domain(x, &t, values[i]);
        else
            TR_ADD(x->a, &t, v) = values[i];
    }
    return t;
}

/* ---- a rule ---- */

/* Any of the values. False: cannot be said, and so the rule cannot. @out NULL: nothing is left of it. */
static bool any_of(const struct tr_authz *x, const struct clause *c, char *const *values, size_t n,
                   struct expr **out)
{
    const bool sayable = !(c->attribute->request && x->tcp);
    const struct texts t = with_aliases(x, c->attribute, values, n);
    *out = NULL;
    if (!n)
        return true;
    if (c->attribute->all) {
        *out = sayable ? c->attribute->all(x, c, t.v, t.n_v) : NULL;
        return *out || !x->allow;
    }
    struct expr *any = expr_new(x->a, OP_OR);
    for (size_t i = 0; i < t.n_v; i++) {
        struct expr *e = sayable ? c->attribute->one(x, c, mz_str_c(t.v[i])) : NULL;
        if (e)
            TR_ADD(x->a, any, v) = e;
        else if (x->allow)
            return false;
    }
    *out = any->n_v ? any : NULL;
    return true;
}

static struct expr *everything(const struct tr_authz *x, bool who)
{
    return who ? PRINCIPAL(x->a, ANY, any, true) : PERMISSION(x->a, ANY, any, true);
}

/* All clauses hold. NULL: the rule is dropped. */
static struct expr *all_of(const struct tr_authz *x, const struct clauses *c, bool who)
{
    struct expr *all = expr_new(x->a, OP_AND), *e;
    for (size_t i = 0; i < c->n_v; i++) {
        const struct clause *one = &c->v[i];
        if (!any_of(x, one, one->values, one->n, &e))
            return NULL;
        if (e)
            TR_ADD(x->a, all, v) = e;
        if (!any_of(x, one, one->not_values, one->not_n, &e))
            return NULL;
        if (e)
            TR_ADD(x->a, all, v) = expr_not(x->a, e);
    }
    if (!all->n_v)
        TR_ADD(x->a, all, v) = everything(x, who);
    return all;
}

static bool add_permission(const struct tr_authz *x, const ist_Rule *r, const ist_Operation *o,
                           pb_Policy *p)
{
    struct clauses c = { 0 };
    if (o)
        put_operation(x->a, &c, o);
    const struct expr *e = put_conditions(x->a, &c, r, false) ? all_of(x, &c, false) : NULL;
    if (e)
        TR_ADD(x->a, p, permissions) = to_permission(x->a, e);
    return e != NULL;
}

static bool add_principal_of(const struct tr_authz *x, const ist_Rule *r, const ist_Source *s,
                             pb_Policy *p)
{
    struct clauses c = { 0 };
    if (s)
        put_source(x->a, &c, s);
    const struct expr *e = put_conditions(x->a, &c, r, true) ? all_of(x, &c, true) : NULL;
    if (e)
        TR_ADD(x->a, p, principals) = to_principal(x->a, e);
    return e != NULL;
}

pb_Policy *tr_authz_rule(const struct tr_authz *x, const ist_Rule *r)
{
    pb_Policy *p = TR_NEW(x->a, Policy);
    bool ok = r->n_to || add_permission(x, r, NULL, p);
    for (size_t i = 0; ok && i < r->n_to; i++)
        ok = add_permission(x, r, r->to[i]->operation, p);
    ok = ok && (r->n_from || add_principal_of(x, r, NULL, p));
    for (size_t i = 0; ok && i < r->n_from; i++)
        ok = add_principal_of(x, r, r->from[i]->source, p);
    return ok ? p : NULL;
}
