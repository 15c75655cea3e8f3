extern "C" {
#include "base/regex.h"
}
#include <re2/re2.h>
#include <string>

/* Longer patterns are refused before they are looked at (E12). */
static const size_t pattern_max_bytes = 65536;
static const unsigned groups_max = 16;

struct mz_regex {
    re2::RE2 re;
    explicit mz_regex(const re2::StringPiece &pattern) : re(pattern, RE2::Quiet)
    {
    }
};

static re2::StringPiece piece(struct mz_str s)
{
    return re2::StringPiece(s.n ? s.p : "", s.n);
}

static struct mz_str str(const re2::StringPiece &s)
{
    struct mz_str r = { s.data(), s.size() };
    return r;
}

extern "C" struct mz_regex *mz_regex_create(struct mz_str pattern, struct mz_err *err)
{
    if (pattern.n > pattern_max_bytes) {
        (void)mz_err_set(err, "regex of %zu bytes is too long, at most %zu are allowed", pattern.n,
                         pattern_max_bytes);
        return nullptr;
    }
    struct mz_regex *r = new mz_regex(piece(pattern));
    if (r->re.ok())
        return r;
    int shown = pattern.n > 200 ? 200 : (int)pattern.n;
    (void)mz_err_set(err, "invalid regex '%.*s': %s", shown, pattern.p, r->re.error().c_str());
    delete r;
    return nullptr;
}

extern "C" void mz_regex_destroy(struct mz_regex *r)
{
    delete r;
}

extern "C" bool mz_regex_full(const struct mz_regex *r, struct mz_str text)
{
    return r->re.Match(piece(text), 0, text.n, RE2::ANCHOR_BOTH, nullptr, 0);
}

extern "C" bool mz_regex_search(const struct mz_regex *r, struct mz_str text)
{
    return r->re.Match(piece(text), 0, text.n, RE2::UNANCHORED, nullptr, 0);
}

extern "C" bool mz_regex_groups(const struct mz_regex *r, struct mz_str text,
                                struct mz_str *out_groups, unsigned n)
{
    re2::StringPiece groups[groups_max];
    if (n > groups_max)
        n = groups_max;
    if (!r->re.Match(piece(text), 0, text.n, RE2::UNANCHORED, groups, (int)n))
        return false;
    for (unsigned i = 0; i < n; i++)
        out_groups[i] = str(groups[i]);
    return true;
}

extern "C" struct mz_str mz_regex_replace(const struct mz_regex *r, struct mz_str text,
                                          struct mz_str with, struct mz_arena *a)
{
    std::string s = std::string(text.n ? text.p : "", text.n);
    if (RE2::GlobalReplace(&s, r->re, piece(with)) == 0)
        return mz_arena_dup(a, text);
    struct mz_str made = { s.data(), s.size() };
    return mz_arena_dup(a, made);
}

extern "C" bool mz_regex_rewrite_ok(const struct mz_regex *r, struct mz_str with,
                                    struct mz_err *err)
{
    std::string why;
    if (r->re.CheckRewriteString(piece(with), &why))
        return true;
    return mz_err_set(err, "invalid substitution: %s", why.c_str());
}

extern "C" unsigned mz_regex_size(const struct mz_regex *r)
{
    return (unsigned)r->re.ProgramSize();
}
