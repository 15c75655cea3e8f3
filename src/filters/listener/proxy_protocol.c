/* proxy_protocol (L2, G16): the addresses that a balancer in front of us names count as the connection's. */
#include "base/log.h"
#include "filters/listener/listener_filters.h"
#include "filters/listener/proxy_header.h"
#include "observe/metadata.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#define NAMESPACE "envoy.filters.listener.proxy_protocol"

enum { S_NOT_FOUND_ALLOWED, S_NOT_FOUND_DISALLOWED };
enum { V_FOUND, V_DISALLOWED, V_ERROR };
static const struct mz_stat_def defs[] = { { "not_found_allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                           { "not_found_disallowed", MZ_COUNTER, MZ_UNIT_NONE,
                                             0 } };
static const struct mz_stat_def version_defs[] = { { "found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                   { "disallowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                   { "error", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_def error_defs[] = { { "downstream_cx_proxy_proto_error", MZ_COUNTER,
                                                   MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind kind = { "proxy_proto", defs, MZ_COUNT(defs) };
static const struct mz_stat_kind version_kind = { "proxy_proto_version", version_defs,
                                                  MZ_COUNT(version_defs) };
static const struct mz_stat_kind error_kind = { "proxy_proto_error", error_defs,
                                                MZ_COUNT(error_defs) };

struct tlv_rule {
    uint8_t type;
    struct mz_str ns, key;
};
struct proxy_cfg {
    struct mz_arena *arena;
    bool allow_none, refused[3]; /* by version */
    bool pass_all, pass[256];    /* TLVs that an upstream may see, by type */
    struct tlv_rule *rules;
    size_t n_rules;
    struct mz_scope *scope, *versions[3], *errors;
};

static void destroy(void *cfg)
{
    struct proxy_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_scope_unref(c->versions[1]);
    mz_scope_unref(c->versions[2]);
    mz_scope_unref(c->errors);
    mz_arena_destroy(c->arena);
}

static void scopes(struct proxy_cfg *c, const char *stat_prefix, struct mz_stats *st)
{
    struct mz_str p = mz_arena_printf(c->arena, "proxy_proto.%s%s", stat_prefix ? stat_prefix : "",
                                      stat_prefix && stat_prefix[0] ? "." : "");
    c->scope = mz_scope_create(st, &kind, p);
    c->errors = mz_scope_create(st, &error_kind, MZ_STR(""));
    for (unsigned v = 1; v <= 2; v++)
        c->versions[v] = mz_scope_create(
            st, &version_kind,
            mz_arena_printf(c->arena, MZ_STR_FMT "versions.v%u.", MZ_STR_ARG(p), v));
}

static bool rules_build(const pb_ProxyProtocol *m, struct proxy_cfg *c, struct mz_err *err)
{
    c->rules = mz_arena_alloc0(c->arena, mz_mul(m->n_rules, sizeof(*c->rules)));
    for (size_t i = 0; i < m->n_rules; i++) {
        const pb_ProxyProtocol_Rule *r = m->rules[i];
        if (!r->on_tlv_present)
            continue; /* as Envoy: nothing to do */
        const char *ns = r->on_tlv_present->metadata_namespace;
        c->rules[c->n_rules++] =
            (struct tlv_rule){ (uint8_t)r->tlv_type,
                               mz_arena_dup(c->arena,
                                            ns && ns[0] ? mz_str_c(ns) : MZ_STR(NAMESPACE)),
                               mz_arena_dup(c->arena, mz_str_c(r->on_tlv_present->key)) };
    }
    (void)err;
    return true;
}

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_ProxyProtocol *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct proxy_cfg *c = mz_arena_new0(a, struct proxy_cfg);
    c->arena = a;
    c->allow_none = m->allow_requests_without_proxy_protocol;
    for (size_t i = 0; i < m->n_disallowed_versions; i++)
        c->refused[m->disallowed_versions[i] == pb_ProxyProtocolConfig_Version_V1 ? 1 : 2] = true;
    const pb_ProxyProtocolPassThroughTLVs *pass = m->pass_through_tlvs;
    c->pass_all =
        pass && pass->match_type == pb_ProxyProtocolPassThroughTLVs_PassTLVsMatchType_INCLUDE_ALL;
    for (size_t i = 0; pass && i < pass->n_tlv_type; i++)
        c->pass[pass->tlv_type[i] & 0xff] = true;
    scopes(c, m->stat_prefix, f->stats);
    if (rules_build(m, c, err))
        return c;
    destroy(c);
    return NULL;
}

static void keep_tlvs(const struct proxy_cfg *c, struct mz_incoming *in, struct mz_str rest)
{
    uint8_t type;
    struct mz_str value;
    while (proxy_tlv_next(&rest, &type, &value))
        for (size_t i = 0; i < c->n_rules; i++) {
            if (c->rules[i].type != type)
                continue;
            struct mz_value *v = mz_arena_new0(in->arena, struct mz_value);
            v->kind = MZ_VALUE_STRING;
            v->str = mz_arena_dup(in->arena, value);
            if (!in->metadata)
                in->metadata = mz_meta_create(in->arena);
            mz_meta_set(in->metadata, c->rules[i].ns, c->rules[i].key, v);
            break;
        }
}

/* What may be passed on, in its own form: a header has at most 64 KiB of it. */
static void pass_tlvs(const struct proxy_cfg *c, struct mz_incoming *in, struct mz_str rest)
{
    char *to = mz_arena_alloc(in->arena, rest.n), *at = to;
    uint8_t type;
    struct mz_str value;
    while (proxy_tlv_next(&rest, &type, &value)) {
        if (!c->pass_all && !c->pass[type])
            continue;
        memcpy(at, value.p - 3, value.n + 3); /* with its type and length */
        at += value.n + 3;
    }
    in->proxy_tlvs = (struct mz_str){ to, (size_t)(at - to) };
}

static enum mz_lfilter_flow none(const struct proxy_cfg *c)
{
    mz_count(c->scope, c->allow_none ? S_NOT_FOUND_ALLOWED : S_NOT_FOUND_DISALLOWED, 1);
    if (c->allow_none)
        return MZ_LF_CONTINUE;
    mz_count(c->errors, 0, 1);
    return MZ_LF_CLOSE;
}

static enum mz_lfilter_flow take(struct mz_lfilter *f, const struct proxy_header *h)
{
    const struct proxy_cfg *c = f->cfg;
    struct mz_incoming *in = f->in;
    if (c->refused[h->version]) {
        mz_count(c->versions[h->version], V_DISALLOWED, 1);
        return MZ_LF_CLOSE;
    }
    mz_count(c->versions[h->version], V_FOUND, 1);
    f->consume = h->length;
    if (h->local)
        return MZ_LF_CONTINUE;
    in->remote = h->source;
    in->local_restored = in->local_restored || !mz_addr_eq(&in->local, &h->destination);
    in->local = h->destination;
    in->proxied = true;
    keep_tlvs(c, in, h->tlvs);
    if (h->tlvs.n)
        pass_tlvs(c, in, h->tlvs);
    return MZ_LF_CONTINUE;
}

static enum mz_lfilter_flow on_data(struct mz_lfilter *f, struct mz_str bytes, bool end)
{
    const struct proxy_cfg *c = f->cfg;
    struct proxy_header h;
    switch (proxy_header_read(bytes, &h)) {
    case PROXY_DONE:
        return take(f, &h);
    case PROXY_NONE:
        return none(c);
    case PROXY_MORE:
        if (!end)
            return MZ_LF_STOP;
        return c->allow_none && !h.version ? none(c) : MZ_LF_CLOSE;
    case PROXY_BAD:
        break;
    }
    mz_count(c->versions[h.version], V_ERROR, 1);
    mz_count(c->errors, 0, 1);
    return MZ_LF_CLOSE;
}

static size_t want(const struct mz_lfilter *f)
{
    (void)f;
    return PROXY_V2_MAX;
}

const struct mz_lfilter_type mz_lfilter_proxy_protocol = {
    .name = "envoy.filters.listener.proxy_protocol",
    .config_type = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_data = on_data,
    .want = want,
};
