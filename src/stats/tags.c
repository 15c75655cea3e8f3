#include "stats/tags.h"

#include "base/log.h"
#include "base/regex.h"
#include <ctype.h>
#include <string.h>

#define VALUE    "[^\\.]+"
#define ADDRESS  "(?:(?:\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}|\\[[a-fA-F_\\d]+\\])_\\d+)"
#define CIPHER   "[\\w-]+"
#define SSL_SIDE "^(?:listener|cluster)\\..*?\\.ssl\\."

/* Envoy's rules, in the order in which it tries them. Group 1 is what leaves the name, group 2 the value. */
static const struct {
    struct mz_str name, regex, substr, not_value;
} regex_rules[] = {
    /* clang-format off */
    { MZ_STR_INIT("envoy.response_code"), MZ_STR_INIT("_rq(_(\\d{3}))$"), MZ_STR_INIT("_rq_"), { 0 } },
    { MZ_STR_INIT("envoy.response_code_class"), MZ_STR_INIT("_rq_((\\d))xx$"), MZ_STR_INIT("_rq_"), { 0 } },
    { MZ_STR_INIT("envoy.dynamo_partition_id"),
      MZ_STR_INIT("^http\\." VALUE "\\.dynamodb\\.table\\." VALUE "\\.capacity\\." VALUE "(\\.__partition_id=(\\w{7}))$"),
      MZ_STR_INIT(".dynamodb.table."), { 0 } },
    { MZ_STR_INIT("envoy.dynamo_operation"),
      MZ_STR_INIT("^http\\." VALUE "\\.dynamodb.(?:operation|table\\." VALUE "\\.capacity)(\\.(" VALUE "))(?:\\.|$)"),
      MZ_STR_INIT(".dynamodb."), { 0 } },
    { MZ_STR_INIT("envoy.dynamo_table"), MZ_STR_INIT("^http\\." VALUE "\\.dynamodb.(?:table|error)\\.((" VALUE ")\\.)"),
      MZ_STR_INIT(".dynamodb."), { 0 } },
    { MZ_STR_INIT("envoy.ssl_cipher"), MZ_STR_INIT("^listener\\..*?\\.ssl\\.ciphers(\\.(" CIPHER "))$"),
      MZ_STR_INIT(".ssl.ciphers."), { 0 } },
    { MZ_STR_INIT("envoy.ssl_curve"), MZ_STR_INIT(SSL_SIDE "curves(\\.(" CIPHER "))$"), MZ_STR_INIT(".ssl.curves."), { 0 } },
    { MZ_STR_INIT("envoy.ssl_sigalg"), MZ_STR_INIT(SSL_SIDE "sigalgs(\\.(" CIPHER "))$"), MZ_STR_INIT(".ssl.sigalgs."), { 0 } },
    { MZ_STR_INIT("envoy.ssl_version"), MZ_STR_INIT(SSL_SIDE "versions(\\.(TLSv\\d\\.\\d))$"), MZ_STR_INIT(".ssl.versions."), { 0 } },
    { MZ_STR_INIT("cipher_suite"), MZ_STR_INIT("^cluster\\." VALUE "\\.ssl\\.ciphers(\\.(" CIPHER "))$"),
      MZ_STR_INIT(".ssl.ciphers."), { 0 } },
    { MZ_STR_INIT("envoy.tls_certificate"), MZ_STR_INIT(SSL_SIDE "certificate\\.((" VALUE ")\\.).*$"),
      MZ_STR_INIT(".ssl.certificate."), { 0 } },
    { MZ_STR_INIT("envoy.http_conn_manager_prefix"), MZ_STR_INIT("^listener\\..*?\\.http\\.((" VALUE ")\\.)"),
      MZ_STR_INIT(".http."), { 0 } },
    { MZ_STR_INIT("envoy.worker_id"),
      MZ_STR_INIT("^(?:listener\\.(?:" ADDRESS "|" VALUE ")|server|listener_manager|thread_local_cluster_manager)"
                  "\\.worker_((\\d+)\\.)"), MZ_STR_INIT("worker_"), { 0 } },
    { MZ_STR_INIT("envoy.listener_address"), MZ_STR_INIT("^listener\\.((" ADDRESS "|" VALUE ")\\.)"), { 0 }, MZ_STR_INIT("admin") },
    { MZ_STR_INIT("envoy.rds_route_config"), MZ_STR_INIT("^http\\." VALUE "\\.rds\\.(([\\w-\\./]+)\\.)\\w+?$"),
      MZ_STR_INIT(".rds."), { 0 } },
    { MZ_STR_INIT("envoy.scoped_rds_config"), MZ_STR_INIT("^http\\." VALUE "\\.scoped_rds\\.(([\\w-\\.]+)\\.)\\w+?$"),
      MZ_STR_INIT(".scoped_rds."), { 0 } },
    { MZ_STR_INIT("envoy.rbac_policy_name"),
      MZ_STR_INIT("^http\\." VALUE "\\.rbac\\.(?:" VALUE "\\.)?policy\\.((" VALUE ")\\.)"
                  "(allowed|shadow_allowed|denied|shadow_denied)$"), { 0 }, { 0 } },
    { MZ_STR_INIT("envoy.rbac_http_prefix"), MZ_STR_INIT("^http\\." VALUE "\\.rbac\\.((" VALUE ")\\.).*?"), { 0 },
      MZ_STR_INIT("policy") },
    { MZ_STR_INIT("envoy.proxy_protocol_version"), MZ_STR_INIT("^proxy_proto\\.((?:" VALUE "\\.)?versions\\.v(\\d)\\.)\\w+$"),
      { 0 }, { 0 } },
    { MZ_STR_INIT("envoy.proxy_protocol_prefix"), MZ_STR_INIT("^proxy_proto\\.((" VALUE ")\\.).+$"), { 0 }, MZ_STR_INIT("versions") },
    { MZ_STR_INIT("envoy.xds_resource_name"), MZ_STR_INIT("^sds\\.((" VALUE ")\\.).+"), { 0 }, { 0 } },
    { MZ_STR_INIT("envoy.health_check_name"), MZ_STR_INIT("^cluster\\." VALUE "\\.health_check(\\.name\\.(" VALUE "))\\..+"),
      MZ_STR_INIT(".health_check.name."), { 0 } },
    /* clang-format on */
};

/* Words between dots: * is one, ** any number (at the end at least one), $ the value. */
static const struct {
    struct mz_str name, tokens;
} token_rules[] = {
    /* clang-format off */
    { MZ_STR_INIT("envoy.mongo_callsite"), MZ_STR_INIT("mongo.*.collection.*.callsite.$.query.**") },
    { MZ_STR_INIT("envoy.mongo_collection"), MZ_STR_INIT("mongo.*.collection.$.**.query.*") },
    { MZ_STR_INIT("envoy.mongo_cmd"), MZ_STR_INIT("mongo.*.cmd.$.**") },
    { MZ_STR_INIT("envoy.grpc_bridge_method"), MZ_STR_INIT("cluster.*.grpc.*.$.**") },
    { MZ_STR_INIT("envoy.http_user_agent"), MZ_STR_INIT("http.*.user_agent.$.**") },
    { MZ_STR_INIT("envoy.virtual_cluster"), MZ_STR_INIT("vhost.*.vcluster.$.**") },
    { MZ_STR_INIT("envoy.fault_downstream_cluster"), MZ_STR_INIT("http.*.fault.$.**") },
    { MZ_STR_INIT("envoy.grpc_bridge_service"), MZ_STR_INIT("cluster.*.grpc.$.**") },
    { MZ_STR_INIT("envoy.tcp_prefix"), MZ_STR_INIT("tcp.$.**") },
    { MZ_STR_INIT("envoy.udp_prefix"), MZ_STR_INIT("udp.$.**") },
    { MZ_STR_INIT("envoy.clientssl_prefix"), MZ_STR_INIT("auth.clientssl.$.**") },
    { MZ_STR_INIT("envoy.ratelimit_prefix"), MZ_STR_INIT("ratelimit.$.**") },
    { MZ_STR_INIT("envoy.cluster_name"), MZ_STR_INIT("cluster.$.**") },
    { MZ_STR_INIT("envoy.ext_authz_prefix"), MZ_STR_INIT("cluster.*.ext_authz.$.**") },
    { MZ_STR_INIT("envoy.ext_authz_prefix"), MZ_STR_INIT("http.*.ext_authz.$.**") },
    { MZ_STR_INIT("envoy.http_conn_manager_prefix"), MZ_STR_INIT("http.$.**") },
    { MZ_STR_INIT("envoy.virtual_host"), MZ_STR_INIT("vhost.$.**") },
    { MZ_STR_INIT("envoy.mongo_prefix"), MZ_STR_INIT("mongo.$.**") },
    { MZ_STR_INIT("envoy.route"), MZ_STR_INIT("vhost.*.route.$.**") },
    { MZ_STR_INIT("envoy.thrift_prefix"), MZ_STR_INIT("thrift.$.**") },
    { MZ_STR_INIT("envoy.redis_prefix"), MZ_STR_INIT("redis.$.**") },
    { MZ_STR_INIT("envoy.rbac_prefix"), MZ_STR_INIT("$.rbac.**") },
    { MZ_STR_INIT("envoy.local_http_ratelimit_prefix"), MZ_STR_INIT("$.http_local_rate_limit.**") },
    { MZ_STR_INIT("envoy.local_network_ratelimit_prefix"), MZ_STR_INIT("local_rate_limit.$.**") },
    { MZ_STR_INIT("envoy.local_listener_ratelimit_prefix"), MZ_STR_INIT("listener_local_ratelimit.$.**") },
    { MZ_STR_INIT("envoy.dns_filter_prefix"), MZ_STR_INIT("dns_filter.$.**") },
    { MZ_STR_INIT("envoy.connection_limit_prefix"), MZ_STR_INIT("connection_limit.$.**") },
    { MZ_STR_INIT("envoy.google_grpc_client_prefix"), MZ_STR_INIT("grpc.$.**") },
    /* clang-format on */
};

static struct mz_str first_of_tokens(struct mz_str tokens)
{
    struct mz_str rest = tokens, first = { 0 };
    (void)mz_str_split(&rest, '.', &first);
    return mz_str_eq(first, MZ_STR("*")) || mz_str_eq(first, MZ_STR("**")) ||
                   mz_str_eq(first, MZ_STR("$"))
               ? MZ_STR("")
               : first;
}

static const struct mz_str dot_ahead = MZ_STR_INIT("(?=\\.)");

/* "^cluster\.", "^cluster(?=\.)": only names whose first word is cluster can match. */
static struct mz_str first_of_regex(struct mz_str re)
{
    size_t i = 1;
    if (re.n < 2 || re.p[0] != '^')
        return (struct mz_str){ 0 };
    while (i < re.n && (isalnum((unsigned char)re.p[i]) || re.p[i] == '_'))
        i++;
    struct mz_str rest = mz_str_skip(re, i);
    bool word = mz_str_starts(rest, MZ_STR("\\.")) || mz_str_starts(rest, dot_ahead);
    return word ? (struct mz_str){ re.p + 1, i - 1 } : (struct mz_str){ 0 };
}

/* RE2 looks nowhere ahead. Behind the first word, where Istio's bootstrap does so, a name's words tell as much. */
static struct mz_regex *regex_build(struct mz_str re, struct mz_str first, bool *out_dot,
                                    struct mz_err *err)
{
    struct mz_buf b;
    mz_buf_init(&b);
    *out_dot = first.n && mz_str_starts(mz_str_skip(re, 1 + first.n), dot_ahead);
    mz_buf_append(&b, re.p, *out_dot ? 1 + first.n : re.n);
    if (*out_dot)
        mz_buf_append_str(&b, mz_str_skip(re, 1 + first.n + dot_ahead.n));
    struct mz_regex *r = mz_regex_create(mz_buf_linearize(&b, mz_buf_len(&b)), err);
    mz_buf_fini(&b);
    return r;
}

static bool add_regex(extractors *v, struct mz_str name, struct mz_str regex, struct mz_str substr,
                      struct mz_str not_value, struct mz_err *err)
{
    struct mz_str first = first_of_regex(regex);
    bool dot;
    struct mz_regex *r = regex_build(regex, first, &dot, err);
    if (!r)
        return false;
    *mz_vec_push(v, MZ_MEM_STATS) = (struct extractor){
        .kind = BY_REGEX,
        .name = name,
        .substr = substr,
        .not_value = not_value,
        .first = first,
        .dot = dot,
        .regex = r,
    };
    return true;
}

size_t tags_add_default(extractors *v, struct mz_str name)
{
    size_t before = v->n;
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(regex_rules); i++)
        if (!name.n || mz_str_eq(name, regex_rules[i].name))
            (void)MZ_BUG(!add_regex(v, regex_rules[i].name, regex_rules[i].regex,
                                    regex_rules[i].substr, regex_rules[i].not_value, &err));
    for (size_t i = 0; i < MZ_COUNT(token_rules); i++)
        if (!name.n || mz_str_eq(name, token_rules[i].name))
            *mz_vec_push(v, MZ_MEM_STATS) = (struct extractor){
                .kind = BY_TOKENS,
                .name = token_rules[i].name,
                .text = token_rules[i].tokens,
                .first = first_of_tokens(token_rules[i].tokens),
            };
    return v->n - before;
}

bool tags_add(extractors *v, const struct mz_stats_tag *t, struct mz_err *err)
{
    if (!t->name.n)
        return mz_err_set(err, "tag_name cannot be empty");
    switch (t->kind) {
    case MZ_STATS_TAG_REGEX:
        return add_regex(v, t->name, t->text, (struct mz_str){ 0 }, (struct mz_str){ 0 }, err);
    case MZ_STATS_TAG_FIXED:
        *mz_vec_push(v, MZ_MEM_STATS) =
            (struct extractor){ .kind = FIXED, .name = t->name, .text = t->text };
        return true;
    case MZ_STATS_TAG_DEFAULT:
        break;
    }
    return tags_add_default(v, t->name) > 0 ||
           mz_err_set(err,
                      "No regex specified for tag specifier and no default regex for name: "
                      "'" MZ_STR_FMT "'",
                      MZ_STR_ARG(t->name));
}

void tags_fini(extractors *v)
{
    for (size_t i = 0; i < v->n; i++)
        mz_regex_destroy(v->v[i].regex);
    mz_vec_free(v, MZ_MEM_STATS);
}

/* ---- finding ---- */

struct found {
    struct mz_str value, cut; /* both parts of the name; cut is empty for fixed tags */
};

static bool match_tokens(struct mz_str rule, struct mz_str name, struct mz_str *out_value)
{
    struct mz_str want, have;
    struct mz_str rest_rule = rule, rest_name = name;
    if (!mz_str_split(&rest_rule, '.', &want))
        return !name.n;
    if (mz_str_eq(want, MZ_STR("**"))) {
        if (!rest_rule.n)
            return name.n > 0;
        do { /* as few words as possible */
            if (match_tokens(rest_rule, rest_name, out_value))
                return true;
        } while (mz_str_split(&rest_name, '.', &have));
        return false;
    }
    if (!mz_str_split(&rest_name, '.', &have))
        return false;
    bool value = mz_str_eq(want, MZ_STR("$"));
    if (!value && !mz_str_eq(want, MZ_STR("*")) && !mz_str_eq(want, have))
        return false;
    if (!match_tokens(rest_rule, rest_name, out_value))
        return false;
    if (value)
        *out_value = have;
    return true;
}

static bool find_by_tokens(const struct extractor *e, struct mz_str name, struct found *out)
{
    struct mz_str v = { 0 };
    if (!match_tokens(e->text, name, &v) || !v.n)
        return false;
    bool last = v.p + v.n == name.p + name.n;
    bool alone = last && v.p == name.p;
    out->value = v;
    out->cut = alone  ? v
               : last ? (struct mz_str){ v.p - 1, v.n + 1 }
                      : (struct mz_str){ v.p, v.n + 1 };
    return true;
}

static bool find_by_regex(const struct extractor *e, struct mz_str name, struct found *out)
{
    struct mz_str g[3];
    if (e->dot && name.n == e->first.n) /* one word */
        return false;
    if (!mz_regex_groups(e->regex, name, g, 3) || !g[1].n)
        return false;
    out->cut = g[1];
    out->value = g[2].n ? g[2] : g[1];
    return !e->not_value.n || !mz_str_eq(out->value, e->not_value);
}

static bool find_one(const struct extractor *e, struct mz_str name, struct found *out)
{
    if (e->substr.n && mz_str_find(name, e->substr) < 0)
        return false;
    switch (e->kind) {
    case BY_REGEX:
        return find_by_regex(e, name, out);
    case BY_TOKENS:
        return find_by_tokens(e, name, out);
    case FIXED:
        break;
    }
    *out = (struct found){ e->text, { 0 } };
    return true;
}

static bool has_tag(const struct tag *tags, unsigned n, struct mz_str name)
{
    for (unsigned i = 0; i < n; i++)
        if (mz_str_eq(tags[i].name, name))
            return true;
    return false;
}

/* The name without the bytes that are marked. */
static struct mz_str without(struct mz_str name, const bool *cut, struct mz_arena *a)
{
    char *p = mz_arena_alloc(a, name.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++)
        if (!cut[i])
            p[n++] = name.p[i];
    return (struct mz_str){ p, n };
}

unsigned tags_find(const extractors *v, struct mz_str name, struct mz_arena *a,
                   struct tag *out_tags, struct mz_str *out_rest)
{
    struct mz_str rest = name, first = { 0 };
    (void)mz_str_split(&rest, '.', &first);
    bool *cut = mz_arena_alloc0(a, name.n + 1);
    unsigned n = 0;
    for (int pass = 0; pass < 2;
         pass++) { /* rules for any first word come before those for this one */
        for (size_t i = 0; i < v->n && n < TAGS_MAX; i++) {
            const struct extractor *e = &v->v[i];
            struct found f;
            if (pass == 0 ? e->first.n != 0 : !e->first.n || !mz_str_eq(e->first, first))
                continue;
            if (has_tag(out_tags, n, e->name) || !find_one(e, name, &f))
                continue;
            out_tags[n++] = (struct tag){ e->name, f.value };
            if (f.cut.n)
                memset(cut + (f.cut.p - name.p), 1, f.cut.n);
        }
    }
    *out_rest = without(name, cut, a);
    return n;
}
