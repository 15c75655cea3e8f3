#include "filters/http/header_to_metadata.h"

#include "base/base64.h"

#include <math.h>
#include <stdlib.h>

/* Rules of header_to_metadata: built once, applied to the headers of a request or an answer (H9). */

static const struct mz_stat_def stat_defs[] = {
    [H2M_REQUEST_RULES_PROCESSED] = { "request_rules_processed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_RESPONSE_RULES_PROCESSED] = { "response_rules_processed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_REQUEST_METADATA_ADDED] = { "request_metadata_added", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_RESPONSE_METADATA_ADDED] = { "response_metadata_added", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_REQUEST_HEADER_NOT_FOUND] = { "request_header_not_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_RESPONSE_HEADER_NOT_FOUND] = { "response_header_not_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_BASE64_DECODE_FAILED] = { "base64_decode_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_HEADER_VALUE_TOO_LONG] = { "header_value_too_long", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [H2M_REGEX_SUBSTITUTION_FAILED] = { "regex_substitution_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "header_to_metadata", stat_defs,
                                               MZ_COUNT(stat_defs) };

/* ---- configuration ---- */

static struct mz_str keep(struct h2m_cfg *c, const char *text, bool lower)
{
    struct mz_str s = mz_arena_dup(c->arena, mz_str_c(text));
    for (size_t i = 0; lower && i < s.n; i++)
        ((char *)(uintptr_t)s.p)[i] = mz_lower(s.p[i]);
    return s;
}

static bool rewrite_build(const pb_RegexMatchAndSubstitute *m, struct h2m_cfg *c,
                          struct h2m_entry *out, struct mz_err *err)
{
    out->rewrite = mz_regex_create(mz_str_c(m->pattern->regex), err);
    if (!out->rewrite)
        return mz_err_at(err, "regex_value_rewrite.pattern.regex");
    mz_arena_cleanup(c->arena, (void (*)(void *))mz_regex_destroy, out->rewrite);
    out->rewrite_with = keep(c, m->substitution, false);
    return mz_regex_rewrite_ok(out->rewrite, out->rewrite_with, err) ||
           mz_err_at(err, "regex_value_rewrite.substitution");
}

static bool entry_build(const pb_Config_KeyValuePair *m, struct h2m_cfg *c, struct h2m_entry *out,
                        struct mz_err *err)
{
    out->ns = m->metadata_namespace[0] ? keep(c, m->metadata_namespace, false)
                                       : MZ_STR("envoy.filters.http.header_to_metadata");
    out->key = keep(c, m->key, false);
    out->value = keep(c, m->value, false);
    out->type = (uint8_t)m->type;
    out->encode = (uint8_t)m->encode;
    if (!m->regex_value_rewrite)
        return true;
    if (out->value.n)
        return mz_err_set(err, "value and regex_value_rewrite exclude each other");
    return rewrite_build(m->regex_value_rewrite, c, out, err);
}

static bool rule_check(const pb_Config_Rule *m, struct mz_err *err)
{
    if ((m->header[0] != 0) == (m->cookie[0] != 0))
        return mz_err_set(err, "exactly one of header, cookie is required");
    if (!m->on_header_present && !m->on_header_missing)
        return mz_err_set(err, "one of on_header_present, on_header_missing is required");
    if (m->cookie[0] && m->remove)
        return mz_err_set(err, "remove is not for cookies");
    if (m->on_header_missing && !m->on_header_missing->value[0]) {
        mz_err_set(err, "must not be empty");
        return mz_err_at(err, "on_header_missing.value");
    }
    return true;
}

static bool rule_build(const pb_Config_Rule *m, struct h2m_cfg *c, struct h2m_rule *out,
                       struct mz_err *err)
{
    if (!rule_check(m, err))
        return false;
    out->header = keep(c, m->header, true);
    out->cookie = keep(c, m->cookie, false);
    out->remove = m->remove;
    out->has_present = m->on_header_present != NULL;
    out->has_missing = m->on_header_missing != NULL;
    if (out->has_present && !entry_build(m->on_header_present, c, &out->present, err))
        return mz_err_at(err, "on_header_present");
    if (out->has_missing && !entry_build(m->on_header_missing, c, &out->missing, err))
        return mz_err_at(err, "on_header_missing");
    return true;
}

static bool rules_build(pb_Config_Rule **v, size_t n, struct h2m_cfg *c, struct h2m_rules *out,
                        struct mz_err *err)
{
    out->v = mz_arena_alloc0(c->arena, n * sizeof(*out->v));
    for (; out->n < n; out->n++)
        if (!rule_build(v[out->n], c, &out->v[out->n], err))
            return mz_err_at(err, "[%zu]", out->n);
    return true;
}

void h2m_destroy(struct h2m_cfg *c)
{
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

struct h2m_cfg *h2m_build(const pb_header_to_metadata_Config *m, struct mz_stats *stats,
                          struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct h2m_cfg *c = mz_arena_new0(a, struct h2m_cfg);
    c->arena = a;
    if (!rules_build(m->request_rules, m->n_request_rules, c, &c->request, err)) {
        mz_err_at(err, "request_rules");
        goto fail;
    }
    if (!rules_build(m->response_rules, m->n_response_rules, c, &c->response, err)) {
        mz_err_at(err, "response_rules");
        goto fail;
    }
    if (m->stat_prefix[0])
        c->scope = mz_scope_create(stats, &stat_kind,
                                   mz_arena_printf(a, "http_filter_name.%s.", m->stat_prefix));
    return c;
fail:
    h2m_destroy(c);
    return NULL;
}

/* ---- at work ---- */

struct run {
    const struct h2m_cfg *cfg;
    bool response;
    struct mz_headers *h;
    struct mz_meta **meta;
    struct mz_arena *a;
};

static void count(const struct run *r, enum h2m_stat stat)
{
    if (r->cfg->scope)
        mz_count(r->cfg->scope, stat, 1);
}

static void count_of(const struct run *r, enum h2m_stat of_request)
{
    count(r, of_request + (r->response ? 1 : 0));
}

static bool cookie_value(const struct mz_headers *h, struct mz_str name, struct mz_str *out)
{
    for (const struct mz_header *e = mz_headers_get_id(h, MZ_H_COOKIE); e;
         e = mz_headers_next(h, e)) {
        struct mz_str rest = e->value, part;
        while (mz_str_split(&rest, ';', &part)) {
            part = mz_str_trim(part);
            ptrdiff_t at = mz_str_chr(part, '=');
            if (at < 0 || !mz_str_eq((struct mz_str){ part.p, (size_t)at }, name))
                continue;
            struct mz_str v = mz_str_skip(part, (size_t)at + 1);
            if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
                v = (struct mz_str){ v.p + 1, v.n - 2 };
            *out = v;
            return v.n > 0;
        }
    }
    return false;
}

static bool number_value(const struct run *r, struct mz_str text, struct mz_value *out)
{
    struct mz_str s = mz_str_trim(text);
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789+-.abcdefABCDEFxXpP", s.p[i]) || !s.p[i])
            return false; /* strtod() knows more: nan and inf, which no JSON can say */
    char *end, *copy = (char *)(uintptr_t)mz_arena_dup(r->a, s).p;
    out->kind = MZ_VALUE_NUMBER;
    out->number = strtod(copy, &end);
    return s.n && end == copy + s.n && isfinite(out->number);
}

static const struct mz_value *value_of(const struct run *r, const struct h2m_entry *e,
                                       struct mz_str text)
{
    struct mz_value *v = mz_arena_new0(r->a, struct mz_value);
    switch (e->type) {
    case pb_Config_ValueType_NUMBER:
        return number_value(r, text, v) ? v : NULL;
    case pb_Config_ValueType_PROTOBUF_VALUE: {
        struct mz_proto_ctx ctx = { .arena = r->a, .unknown = MZ_UNKNOWN_COUNT };
        struct mz_err err;
        ProtobufCMessage *m;
        if (!mz_msg_unpack(&ctx, text, &pb_Value__descriptor, &m, &err))
            return NULL;
        return mz_value_of((const pb_Value *)m, r->a);
    }
    default:
        *v = (struct mz_value){ .kind = MZ_VALUE_STRING, .str = text };
        return v;
    }
}

static void add(const struct run *r, const struct h2m_entry *e, struct mz_str value)
{
    if (e->value.n) {
        value = e->value;
    } else if (e->rewrite) {
        bool had = value.n > 0;
        value = mz_regex_replace(e->rewrite, value, e->rewrite_with, r->a);
        if (had && !value.n)
            count(r, H2M_REGEX_SUBSTITUTION_FAILED);
    }
    if (!value.n)
        return;
    if (value.n >= H2M_VALUE_MAX) {
        count(r, H2M_HEADER_VALUE_TOO_LONG);
        return;
    }
    if (e->encode == pb_Config_ValueEncode_BASE64 &&
        (!mz_base64_decode(value, r->a, &value) || !value.n)) {
        count(r, H2M_BASE64_DECODE_FAILED);
        return;
    }
    const struct mz_value *v = value_of(r, e, value);
    if (!v)
        return;
    if (!*r->meta)
        *r->meta = mz_meta_create(r->a);
    mz_meta_set(*r->meta, e->ns, e->key, v);
    count_of(r, H2M_REQUEST_METADATA_ADDED);
}

void h2m_apply(const struct h2m_cfg *c, bool response, struct mz_headers *h, struct mz_meta **meta,
               struct mz_arena *a)
{
    const struct h2m_rules *rules = response ? &c->response : &c->request;
    const struct run r = { c, response, h, meta, a };
    for (size_t i = 0; i < rules->n; i++) {
        const struct h2m_rule *rule = &rules->v[i];
        struct mz_str value = { 0 };
        bool found = rule->header.n ? mz_headers_joined(h, rule->header, &value)
                                    : cookie_value(h, rule->cookie, &value);
        if (found && rule->remove)
            (void)mz_headers_remove(h, rule->header); /* how many there were does not matter */
        count_of(&r, H2M_REQUEST_RULES_PROCESSED);
        if (found && rule->has_present) {
            add(&r, &rule->present, value);
        } else if (!found && rule->has_missing) {
            count_of(&r, H2M_REQUEST_HEADER_NOT_FOUND);
            add(&r, &rule->missing, value);
        }
    }
}
