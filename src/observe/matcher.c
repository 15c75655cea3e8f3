#include "observe/matcher.h"
#include "base/alloc.h"
#include "base/regex.h"
#include "proto/names.h"
#include "proto/tree.h"
#include <stdio.h>

/* ---- strings ---- */

enum how { EXACT, PREFIX, SUFFIX, CONTAINS, REGEX };
static const char *const how_names[] = { "exact", "prefix", "suffix", "contains", "regex" };

struct mz_string_match {
    enum how how;
    bool ignore_case;
    struct mz_str text; /* lower case where ignore_case */
    struct mz_regex *regex;
    char *mem; /* of text */
    char *story;
};

static struct mz_string_match *string_match_new(enum how how, struct mz_str text, bool ignore_case)
{
    struct mz_string_match *m = mz_new0(MZ_MEM_CONFIG, struct mz_string_match);
    m->how = how;
    m->ignore_case = ignore_case;
    m->mem = mz_strndup(MZ_MEM_CONFIG, text.p, text.n);
    m->text = (struct mz_str){ m->mem, text.n };
    size_t size = text.n + 40;
    m->story = mz_alloc(MZ_MEM_CONFIG, size);
    (void)snprintf(m->story, size, "%s " MZ_STR_FMT "%s", how_names[how], MZ_STR_ARG(text),
                   ignore_case ? " (any case)" : "");
    for (size_t i = 0; ignore_case && i < text.n; i++)
        m->mem[i] = mz_lower(m->mem[i]);
    return m;
}

static struct mz_string_match *regex_match_new(const pb_RegexMatcher *r, struct mz_err *err)
{
    struct mz_str pattern = mz_str_c(r->regex);
    struct mz_regex *regex = mz_regex_create(pattern, err);
    if (!regex) {
        (void)mz_err_at(err, "regex");
        return NULL;
    }
    struct mz_string_match *m = string_match_new(REGEX, pattern, false);
    m->regex = regex;
    return m;
}

struct mz_string_match *mz_string_match_build(const pb_StringMatcher *m, struct mz_err *err)
{
    bool any_case = m->ignore_case != 0;
    struct mz_string_match *out = NULL;
    switch (m->match_pattern_case) {
    case pb_StringMatcher_MATCH_PATTERN_EXACT:
        return string_match_new(EXACT, mz_str_c(m->exact), any_case);
    case pb_StringMatcher_MATCH_PATTERN_PREFIX:
        return string_match_new(PREFIX, mz_str_c(m->prefix), any_case);
    case pb_StringMatcher_MATCH_PATTERN_SUFFIX:
        return string_match_new(SUFFIX, mz_str_c(m->suffix), any_case);
    case pb_StringMatcher_MATCH_PATTERN_CONTAINS:
        return string_match_new(CONTAINS, mz_str_c(m->contains), any_case);
    case pb_StringMatcher_MATCH_PATTERN_SAFE_REGEX:
        if (any_case)
            (void)mz_err_set(err, "ignore_case has no effect for safe_regex");
        else if (!(out = regex_match_new(m->safe_regex, err)))
            (void)mz_err_at(err, "safe_regex");
        return out;
    default:
        (void)mz_err_set(err, "no pattern: set exact, prefix, suffix, contains or safe_regex");
        return NULL;
    }
}

void mz_string_match_destroy(struct mz_string_match *m)
{
    if (!m)
        return;
    mz_regex_destroy(m->regex);
    mz_free(MZ_MEM_CONFIG, m->mem);
    mz_free(MZ_MEM_CONFIG, m->story);
    mz_free(MZ_MEM_CONFIG, m);
}

static bool lower_eq(const char *text, struct mz_str lower) /* text has at least lower.n bytes */
{
    for (size_t i = 0; i < lower.n; i++)
        if (mz_lower(text[i]) != lower.p[i])
            return false;
    return true;
}

static bool lower_contains(struct mz_str s, struct mz_str lower)
{
    for (size_t i = 0; i + lower.n <= s.n; i++)
        if (lower_eq(s.p + i, lower))
            return true;
    return false;
}

/* RE2 finds nothing at all in bytes that are not UTF-8, so a rule "not matching .*" would let them pass (C13): such a text
 * is matched once more as Latin-1. */
static bool regex_matches(const struct mz_regex *re, struct mz_str s)
{
    if (mz_regex_full(re, s))
        return true;
    if (MZ_LIKELY(mz_utf8_valid(s)))
        return false;
    char *wide = mz_alloc(MZ_MEM_MISC, s.n * 2);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x80)
            wide[n++] = (char)(0xc0 | c >> 6);
        wide[n++] = c >= 0x80 ? (char)(0x80 | (c & 0x3f)) : s.p[i];
    }
    bool yes = mz_regex_full(re, (struct mz_str){ wide, n });
    mz_free(MZ_MEM_MISC, wide);
    return yes;
}

bool mz_string_match(const struct mz_string_match *m, struct mz_str s)
{
    if (m->how == REGEX)
        return regex_matches(m->regex, s);
    if (s.n < m->text.n || (m->how == EXACT && s.n != m->text.n))
        return false;
    if (m->how == CONTAINS)
        return m->ignore_case ? lower_contains(s, m->text) : mz_str_find(s, m->text) >= 0;
    struct mz_str part =
        m->how == SUFFIX ? mz_str_skip(s, s.n - m->text.n) : (struct mz_str){ s.p, m->text.n };
    return m->ignore_case ? lower_eq(part.p, m->text) : mz_str_eq(part, m->text);
}

const char *mz_string_match_text(const struct mz_string_match *m)
{
    return m->story;
}

/* The plain characters that every match of the pattern begins with. */
static struct mz_str regex_prefix(struct mz_str pattern)
{
    size_t n = 0;
    while (n < pattern.n && ((pattern.p[n] >= 'a' && pattern.p[n] <= 'z') ||
                             (pattern.p[n] >= 'A' && pattern.p[n] <= 'Z') ||
                             (pattern.p[n] >= '0' && pattern.p[n] <= '9') ||
                             mz_str_chr(MZ_STR("/-_:,=&%~@"), pattern.p[n]) >= 0))
        n++;
    bool optional = n < pattern.n &&
                    mz_str_chr(MZ_STR("?*{"), pattern.p[n]) >= 0; /* the last one may be absent */
    if (mz_str_chr(pattern, '|') >= 0)
        n = 0;
    return (struct mz_str){ pattern.p, n && optional ? n - 1 : n };
}

enum mz_string_literal mz_string_match_literal(const struct mz_string_match *m,
                                               struct mz_str *out_text)
{
    if (m->ignore_case || (m->how != EXACT && m->how != PREFIX && m->how != REGEX))
        return MZ_STRING_OTHER;
    *out_text = m->how == REGEX ? regex_prefix(m->text) : m->text;
    return m->how == EXACT ? MZ_STRING_EXACT : MZ_STRING_PREFIX;
}

/* ---- headers ---- */

struct mz_header_match {
    char *name;
    struct mz_str lower;
    struct mz_string_match *string; /* NULL: range or presence */
    bool range, present, invert, missing_as_empty;
    int64_t from, to; /* [from, to) */
    char *story;
};

static bool header_kind_build(const pb_HeaderMatcher *m, struct mz_header_match *out,
                              struct mz_err *err)
{
    switch (m->header_match_specifier_case) {
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_EXACT_MATCH:
        if (m->exact_match && m->exact_match[0])
            out->string = string_match_new(EXACT, mz_str_c(m->exact_match), false);
        else
            out->present = true; /* Envoy: an empty deprecated exact_match asks for presence only */
        return true;
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_PREFIX_MATCH:
        out->string = string_match_new(PREFIX, mz_str_c(m->prefix_match), false);
        return true;
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_SUFFIX_MATCH:
        out->string = string_match_new(SUFFIX, mz_str_c(m->suffix_match), false);
        return true;
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_CONTAINS_MATCH:
        out->string = string_match_new(CONTAINS, mz_str_c(m->contains_match), false);
        return true;
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_SAFE_REGEX_MATCH:
        out->string = regex_match_new(m->safe_regex_match, err);
        return out->string || mz_err_at(err, "safe_regex_match");
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH:
        out->string = mz_string_match_build(m->string_match, err);
        return out->string || mz_err_at(err, "string_match");
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_RANGE_MATCH:
        out->range = true;
        out->from = m->range_match->start;
        out->to = m->range_match->end;
        return true;
    case pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_PRESENT_MATCH:
        out->present = true;
        out->invert ^= !m->present_match; /* present_match: false asks for absence */
        return true;
    default:
        out->present = true;
        return true;
    }
}

static char *header_story(const struct mz_header_match *m)
{
    const char *what = m->string ? m->string->story : m->range ? "in range" : "present";
    size_t size = strlen(m->name) + strlen(what) + 80;
    char *story = mz_alloc(MZ_MEM_CONFIG, size);
    int n = snprintf(story, size, "header %s%s %s", m->name, m->invert ? " not" : "", what);
    if (m->range)
        (void)snprintf(story + n, size - (size_t)n, " %lld to %lld", (long long)m->from,
                       (long long)m->to);
    return story;
}

struct mz_header_match *mz_header_match_build(const pb_HeaderMatcher *m, struct mz_err *err)
{
    struct mz_header_match *out = mz_new0(MZ_MEM_CONFIG, struct mz_header_match);
    struct mz_str name = mz_str_c(m->name);
    out->name = mz_strndup(MZ_MEM_CONFIG, name.p, name.n);
    for (size_t i = 0; i < name.n; i++)
        out->name[i] = mz_lower(out->name[i]);
    out->lower = (struct mz_str){ out->name, name.n };
    if (mz_str_eq(out->lower,
                  MZ_STR("host"))) /* requests have it as :authority; Envoy looks there, too */
        out->lower = MZ_STR(":authority");
    out->invert = m->invert_match != 0;
    out->missing_as_empty = m->treat_missing_header_as_empty != 0;
    bool ok = name.n ? header_kind_build(m, out, err)
                     : mz_err_set(err, "must not be empty") || mz_err_at(err, "name");
    if (ok) {
        out->story = header_story(out);
        return out;
    }
    mz_header_match_destroy(out);
    return NULL;
}

void mz_header_match_destroy(struct mz_header_match *m)
{
    if (!m)
        return;
    mz_string_match_destroy(m->string);
    mz_free(MZ_MEM_CONFIG, m->name);
    mz_free(MZ_MEM_CONFIG, m->story);
    mz_free(MZ_MEM_CONFIG, m);
}

static bool value_in_range(const struct mz_header_match *m, struct mz_str s)
{
    int64_t v;
    struct mz_str digits = s.n && s.p[0] == '+' ? mz_str_skip(s, 1) : s;
    return mz_str_i64(digits, &v) && v >= m->from && v < m->to;
}

static bool value_matches(const struct mz_header_match *m, struct mz_str value)
{
    return m->range ? value_in_range(m, value) : mz_string_match(m->string, value);
}

bool mz_header_match(const struct mz_header_match *m, const struct mz_headers *h)
{
    const struct mz_header *e = h ? mz_headers_get(h, m->lower) : NULL;
    if (m->present)
        return (e || m->missing_as_empty) != m->invert;
    if (!e) /* Envoy: an absent header never matches, inverted or not */
        return m->missing_as_empty && value_matches(m, (struct mz_str){ "", 0 }) != m->invert;
    for (; e; e = mz_headers_next(h, e))
        if (value_matches(m, e->value))
            return !m->invert;
    return m->invert;
}

const char *mz_header_match_text(const struct mz_header_match *m)
{
    return m->story;
}

bool mz_header_match_exact(const struct mz_header_match *m, struct mz_str *out_name,
                           struct mz_str *out_value)
{
    if (!m->string || m->invert || m->missing_as_empty || m->string->how != EXACT ||
        m->string->ignore_case)
        return false;
    *out_name = m->lower;
    *out_value = m->string->text;
    return true;
}

/* ---- metadata ---- */

struct value_match {
    pb_ValueMatcher_MatchPatternCase kind;
    struct mz_string_match *string;
    bool b; /* bool_match, present_match */
    bool ranged;
    double from, to;       /* [from, to), or from alone */
    struct value_match *v; /* list_match: one; or_match: n */
    size_t n;
};

static void value_match_fini(struct value_match *m)
{
    mz_string_match_destroy(m->string);
    for (size_t i = 0; i < m->n; i++)
        value_match_fini(&m->v[i]);
    mz_free(MZ_MEM_CONFIG, m->v);
}

static bool value_match_build(const pb_ValueMatcher *m, struct value_match *out,
                              struct mz_err *err);

static bool double_match_build(const pb_DoubleMatcher *m, struct value_match *out,
                               struct mz_err *err)
{
    if (m->match_pattern_case == pb_DoubleMatcher_MATCH_PATTERN_RANGE) {
        out->ranged = true;
        out->from = m->range->start;
        out->to = m->range->end;
        return true;
    }
    out->from = m->exact;
    return m->match_pattern_case == pb_DoubleMatcher_MATCH_PATTERN_EXACT ||
           mz_err_set(err, "double_match: set range or exact");
}

static bool or_match_build(const pb_OrMatcher *m, struct value_match *out, struct mz_err *err)
{
    out->n = m->n_value_matchers;
    out->v = mz_newn0(MZ_MEM_CONFIG, struct value_match, out->n + 1);
    for (size_t i = 0; i < out->n; i++)
        if (!value_match_build(m->value_matchers[i], &out->v[i], err))
            return mz_err_at(err, "or_match.value_matchers[%zu]", i);
    return true;
}

/* What was built of @out is ended by value_match_fini() whatever the outcome. */
static bool value_match_build(const pb_ValueMatcher *m, struct value_match *out, struct mz_err *err)
{
    out->kind = m->match_pattern_case;
    switch (m->match_pattern_case) {
    case pb_ValueMatcher_MATCH_PATTERN_NULL_MATCH:
        return true;
    case pb_ValueMatcher_MATCH_PATTERN_DOUBLE_MATCH:
        return double_match_build(m->double_match, out, err);
    case pb_ValueMatcher_MATCH_PATTERN_STRING_MATCH:
        out->string = mz_string_match_build(m->string_match, err);
        return out->string || mz_err_at(err, "string_match");
    case pb_ValueMatcher_MATCH_PATTERN_BOOL_MATCH:
        out->b = m->bool_match != 0;
        return true;
    case pb_ValueMatcher_MATCH_PATTERN_PRESENT_MATCH:
        out->b = m->present_match != 0;
        return true;
    case pb_ValueMatcher_MATCH_PATTERN_LIST_MATCH:
        if (!m->list_match->one_of)
            return mz_err_set(err, "list_match: set one_of");
        out->v = mz_newn0(MZ_MEM_CONFIG, struct value_match, 1);
        out->n = 1;
        return value_match_build(m->list_match->one_of, out->v, err) ||
               mz_err_at(err, "list_match.one_of");
    case pb_ValueMatcher_MATCH_PATTERN_OR_MATCH:
        return or_match_build(m->or_match, out, err);
    default:
        return mz_err_set(err, "no pattern is set");
    }
}

static bool number_matches(const struct value_match *m, const struct mz_value *v)
{
    if (v->kind != MZ_VALUE_NUMBER)
        return false;
    return m->ranged ? v->number >= m->from && v->number < m->to
                     : !(v->number < m->from) && !(v->number > m->from);
}

static bool value_match(const struct value_match *m, const struct mz_value *v) /* @v NULL: absent */
{
    if (m->kind == pb_ValueMatcher_MATCH_PATTERN_PRESENT_MATCH)
        return v && m->b; /* Envoy: present_match: false is never met, not even by absence */
    bool yes = false;
    switch (v ? m->kind : pb_ValueMatcher_MATCH_PATTERN__NOT_SET) {
    case pb_ValueMatcher_MATCH_PATTERN_NULL_MATCH:
        return v->kind == MZ_VALUE_NULL;
    case pb_ValueMatcher_MATCH_PATTERN_DOUBLE_MATCH:
        return number_matches(m, v);
    case pb_ValueMatcher_MATCH_PATTERN_STRING_MATCH:
        return v->kind == MZ_VALUE_STRING && mz_string_match(m->string, v->str);
    case pb_ValueMatcher_MATCH_PATTERN_BOOL_MATCH:
        return v->kind == MZ_VALUE_BOOL && v->b == m->b;
    case pb_ValueMatcher_MATCH_PATTERN_LIST_MATCH:
        for (size_t i = 0; !yes && v->kind == MZ_VALUE_LIST && i < v->list.n; i++)
            yes = value_match(m->v, &v->list.v[i]);
        return yes;
    case pb_ValueMatcher_MATCH_PATTERN_OR_MATCH:
        for (size_t i = 0; !yes && i < m->n; i++)
            yes = value_match(&m->v[i], v);
        return yes;
    default:
        return false;
    }
}

struct mz_metadata_match {
    struct mz_arena *arena; /* of the path */
    struct mz_str ns, *path;
    size_t path_n;
    bool invert;
    struct value_match value;
};

struct mz_metadata_match *mz_metadata_match_build(const pb_MetadataMatcher *m, struct mz_err *err)
{
    struct mz_metadata_match *out = mz_new0(MZ_MEM_CONFIG, struct mz_metadata_match);
    out->arena = mz_arena_create(MZ_MEM_CONFIG);
    out->invert = m->invert != 0;
    out->ns = mz_arena_dup(out->arena, mz_str_c(m->filter));
    out->path_n = m->n_path;
    out->path = mz_arena_alloc(out->arena, (m->n_path + 1) * sizeof(*out->path));
    for (size_t i = 0; i < m->n_path; i++)
        out->path[i] = mz_arena_dup(out->arena, mz_str_c(m->path[i]->key));
    bool ok =
        m->value ? value_match_build(m->value, &out->value, err) : mz_err_set(err, "is required");
    if (ok)
        return out;
    (void)mz_err_at(err, "value");
    mz_metadata_match_destroy(out);
    return NULL;
}

void mz_metadata_match_destroy(struct mz_metadata_match *m)
{
    if (!m)
        return;
    value_match_fini(&m->value);
    mz_arena_destroy(m->arena);
    mz_free(MZ_MEM_CONFIG, m);
}

bool mz_metadata_match(const struct mz_metadata_match *m, const struct mz_meta *meta)
{
    return value_match(&m->value, mz_meta_get(meta, m->ns, m->path, m->path_n)) != m->invert;
}

bool mz_metadata_match_found(const struct mz_metadata_match *m, const struct mz_meta *meta)
{
    return mz_meta_get(meta, m->ns, m->path, m->path_n) != NULL;
}
