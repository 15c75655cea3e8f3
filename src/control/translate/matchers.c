#include "control/translate/matchers.h"

#include "net/addr.h"

pb_StringMatcher *tr_match_exact(struct mz_arena *a, struct mz_str text)
{
    pb_StringMatcher *m = TR_NEW(a, StringMatcher);
    m->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
    m->exact = tr_text(a, text);
    return m;
}

pb_StringMatcher *tr_match_prefix(struct mz_arena *a, struct mz_str text)
{
    pb_StringMatcher *m = TR_NEW(a, StringMatcher);
    m->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_PREFIX;
    m->prefix = tr_text(a, text);
    return m;
}

pb_StringMatcher *tr_match_suffix(struct mz_arena *a, struct mz_str text)
{
    pb_StringMatcher *m = TR_NEW(a, StringMatcher);
    m->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_SUFFIX;
    m->suffix = tr_text(a, text);
    return m;
}

pb_StringMatcher *tr_match_regex(struct mz_arena *a, char *regex)
{
    pb_StringMatcher *m = TR_NEW(a, StringMatcher);
    m->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_SAFE_REGEX;
    m->safe_regex = TR_NEW(a, RegexMatcher);
    m->safe_regex->regex = regex;
    return m;
}

struct mz_str tr_regex_quote(struct mz_arena *a, struct mz_str text)
{
    char *out = mz_arena_alloc(a, 2 * text.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (strchr("\\.+*?()|[]{}^$", text.p[i]))
            out[n++] = '\\';
        out[n++] = text.p[i];
    }
    out[n] = 0;
    return (struct mz_str){ out, n };
}

static bool is_any(struct mz_str s)
{
    return s.n == 1 && s.p[0] == '*';
}

static bool begins_open(struct mz_str s)
{
    return s.n && s.p[0] == '*';
}

static bool ends_open(struct mz_str s)
{
    return s.n && s.p[s.n - 1] == '*';
}

static struct mz_str without_last(struct mz_str s)
{
    return (struct mz_str){ s.p, s.n - 1 };
}

pb_StringMatcher *tr_match_pattern(struct mz_arena *a, struct mz_str pattern, struct mz_str prefix)
{
    if (is_any(pattern))
        return tr_match_regex(a, TR_CONST(".+"));
    if (begins_open(pattern) && !prefix.n)
        return tr_match_suffix(a, mz_str_skip(pattern, 1));
    if (begins_open(pattern))
        return tr_match_regex(a, TR_PRINTF(a, "%.*s.*%s", MZ_STR_ARG(prefix),
                                           tr_regex_quote(a, mz_str_skip(pattern, 1)).p));
    struct mz_str whole = mz_arena_printf(a, "%.*s%.*s", MZ_STR_ARG(prefix), MZ_STR_ARG(pattern));
    return ends_open(pattern) ? tr_match_prefix(a, without_last(whole)) : tr_match_exact(a, whole);
}

pb_HeaderMatcher *tr_match_header(struct mz_arena *a, char *name, struct mz_str pattern,
                                  bool ignore_case)
{
    pb_HeaderMatcher *m = TR_NEW(a, HeaderMatcher);
    m->name = name;
    if (is_any(pattern)) {
        m->header_match_specifier_case = pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_PRESENT_MATCH;
        m->present_match = true;
        return m;
    }
    m->header_match_specifier_case = pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH;
    m->string_match = tr_match_pattern(a, pattern, MZ_STR(""));
    m->string_match->ignore_case = ignore_case;
    return m;
}

pb_ListStringMatcher *tr_match_names(struct mz_arena *a, char *const *patterns, size_t n)
{
    pb_ListStringMatcher *m = n ? TR_NEW(a, ListStringMatcher) : NULL;
    for (size_t i = 0; i < n; i++) {
        pb_StringMatcher *one = tr_match_pattern(a, mz_str_c(patterns[i]), MZ_STR(""));
        one->ignore_case = true;
        TR_ADD(a, m, patterns) = one;
    }
    return m;
}

/* ---- metadata ---- */

pb_ValueMatcher *tr_value_string(struct mz_arena *a, pb_StringMatcher *m)
{
    pb_ValueMatcher *v = TR_NEW(a, ValueMatcher);
    v->match_pattern_case = pb_ValueMatcher_MATCH_PATTERN_STRING_MATCH;
    v->string_match = m;
    return v;
}

pb_ValueMatcher *tr_value_any(struct mz_arena *a, pb_ValueMatcher *const *v, size_t n)
{
    if (n == 1)
        return v[0];
    pb_ValueMatcher *m = TR_NEW(a, ValueMatcher);
    m->match_pattern_case = pb_ValueMatcher_MATCH_PATTERN_OR_MATCH;
    m->or_match = TR_NEW(a, OrMatcher);
    for (size_t i = 0; i < n; i++)
        TR_ADD(a, m->or_match, value_matchers) = v[i];
    return m;
}

pb_ValueMatcher *tr_value_in_list(struct mz_arena *a, pb_ValueMatcher *of)
{
    pb_ValueMatcher *m = TR_NEW(a, ValueMatcher);
    m->match_pattern_case = pb_ValueMatcher_MATCH_PATTERN_LIST_MATCH;
    m->list_match = TR_NEW(a, ListMatcher);
    m->list_match->match_pattern_case = pb_ListMatcher_MATCH_PATTERN_ONE_OF;
    m->list_match->one_of = of;
    return m;
}

pb_MetadataMatcher *tr_match_metadata(struct mz_arena *a, const char *filter,
                                      const char *const *path, size_t n, pb_ValueMatcher *value)
{
    pb_MetadataMatcher *m = TR_NEW(a, MetadataMatcher);
    m->filter = TR_CONST(filter);
    for (size_t i = 0; i < n; i++) {
        pb_MetadataMatcher_PathSegment *s = TR_NEW(a, MetadataMatcher_PathSegment);
        s->segment_case = pb_MetadataMatcher_PathSegment_SEGMENT_KEY;
        s->key = TR_CONST(path[i]);
        TR_ADD(a, m, path) = s;
    }
    m->value = value;
    return m;
}

/* ---- addresses ---- */

pb_CidrRange *tr_cidr(struct mz_arena *a, struct mz_str text)
{
    const ptrdiff_t slash = mz_str_chr(text, '/');
    const struct mz_str ip = slash < 0 ? text : (struct mz_str){ text.p, (size_t)slash };
    struct mz_addr addr;
    char canonical[MZ_ADDR_TEXT];
    if (!mz_addr_parse_ip(ip, 0, &addr))
        return NULL;
    const uint64_t most = addr.sa.sa_family == AF_INET ? 32 : 128;
    uint64_t bits = most;
    if (slash >= 0 && (!mz_str_u64(mz_str_skip(text, (size_t)slash + 1), &bits) || bits > most))
        return NULL;
    pb_CidrRange *c = TR_NEW(a, CidrRange);
    c->address_prefix = tr_text(a, (struct mz_str){ canonical, mz_addr_ip_text(&addr, canonical) });
    c->prefix_len = tr_u32(a, (uint32_t)bits);
    return c;
}
