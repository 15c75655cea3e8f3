#include "http/path.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "%XX" at @i stands for, or -1. */
static int escaped(struct mz_str s, size_t i)
{
    if (i + 2 >= s.n || s.p[i] != '%')
        return -1;
    int hi = hex(s.p[i + 1]), lo = hex(s.p[i + 2]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static bool unreserved(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c > 0 && c < 0x80 && strchr("-._~", c));
}

static bool must_escape(unsigned char c)
{
    return c <= 0x20 || c >= 0x7f || strchr("\"<>^`{|}", c);
}

static bool slash(char c)
{
    return c == '/' || c == '\\';
}

/* A segment that needs work: escapes, backslashes, what must be escaped, or a dot behind a slash. */
static bool plain(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' || c == '\\' || must_escape((unsigned char)c) ||
            (c == '.' && s.p[i - (i > 0)] == '/'))
            return false;
    }
    return true;
}

static bool unescape_slashes(struct mz_arena *a, struct mz_str s, struct mz_str *out)
{
    if (mz_str_chr(s, '%') < 0)
        return false;
    char *p = mz_arena_alloc(a, s.n + 1), *at = p;
    for (size_t i = 0; i < s.n; i++) {
        int c = escaped(s, i);
        bool is = c == '/' || c == '\\';
        *at++ = is ? (char)c : s.p[i];
        i += is ? 2 : 0;
    }
    if ((size_t)(at - p) == s.n)
        return false;
    *out = (struct mz_str){ p, (size_t)(at - p) };
    return true;
}

/* One segment, decoded and escaped, at @at. NULL: %00. */
static char *segment(char *at, struct mz_str s)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *lone =
        NULL; /* a '%' that begins no escape: what is decoded behind it must not complete one (C06) */
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        int e = escaped(s, i);
        if (e == 0 || c == 0)
            return NULL;
        if (c == '%' && e < 0)
            lone = at;
        if (e > 0 && unreserved(e) && !(lone && at - lone <= 2)) {
            *at++ = (char)e;
            i += 2;
        } else if (must_escape(c)) {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        } else {
            *at++ = (char)c;
        }
    }
    return at;
}

/* 1 for ".", 2 for "..", also before ";parameters" (C03); else 0. */
static size_t dots(const char *p, const char *end)
{
    size_t n = (size_t)(end - p), k = 0;
    while (k < n && k < 3 && p[k] == '.')
        k++;
    return (k == 1 || k == 2) && (k == n || p[k] == ';') ? k : 0;
}

static bool normalize(struct mz_arena *a, struct mz_str s, struct mz_str *out)
{
    if (plain(s)) {
        *out = s;
        return true;
    }
    char *base = mz_arena_alloc(a, s.n * 3 + 1), *at = base;
    for (size_t i = 0; i < s.n;) { /* s.p[i] is a slash */
        *at++ = '/';
        size_t from = ++i;
        while (i < s.n && !slash(s.p[i]))
            i++;
        char *end = segment(at, (struct mz_str){ s.p + from, i - from });
        if (!end)
            return false;
        size_t k = dots(at, end);
        if (!k) {
            at = end;
            continue;
        }
        if (k == 2 && at - base > 1) /* back over the segment before, to the slash in front of it */
            for (at--; at[-1] != '/';)
                at--;
        if (i < s.n)
            at--; /* the next segment brings its own slash */
    }
    *out = (struct mz_str){ base, (size_t)(at - base) };
    return true;
}

static struct mz_str merge(struct mz_arena *a, struct mz_str s)
{
    size_t lead = 0;
    while (lead < s.n && s.p[lead] == '/')
        lead++;
    if (lead == s.n || mz_str_find(s, MZ_STR("//")) < 0)
        return s; /* slashes only stay, as at Envoy */
    char *p = mz_arena_alloc(a, s.n + 1), *at = p;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '/' || i == 0 || s.p[i - 1] != '/')
            *at++ = s.p[i];
    return (struct mz_str){ p, (size_t)(at - p) };
}

static struct mz_str joined(struct mz_arena *a, struct mz_str path, struct mz_str head,
                            struct mz_str tail)
{
    if (head.p == path.p)
        return path;
    struct mz_str parts[2] = { head, tail };
    return tail.n ? mz_arena_cat(a, 2, parts) : head;
}

enum mz_path_verdict mz_path_clean(struct mz_arena *arena, struct mz_str path,
                                   const struct mz_path_rules *rules, struct mz_str *out_path)
{
    enum mz_path_verdict verdict = MZ_PATH_OK;
    *out_path = path;
    if (mz_str_chr(path, '#') >= 0)
        return MZ_PATH_REJECT;
    if (path.n == 0 || path.p[0] != '/')
        return MZ_PATH_OK;
    ptrdiff_t query = mz_str_chr(path, '?');
    struct mz_str head = { path.p, query < 0 ? path.n : (size_t)query },
                  tail = mz_str_skip(path, head.n);
    if (rules->escaped_slashes != MZ_SLASHES_KEEP && unescape_slashes(arena, head, &head)) {
        *out_path = joined(arena, path, head, tail);
        if (rules->escaped_slashes == MZ_SLASHES_REJECT)
            return MZ_PATH_REJECT;
        if (rules->escaped_slashes == MZ_SLASHES_REDIRECT)
            verdict = MZ_PATH_REDIRECT;
    }
    if (rules->normalize && !normalize(arena, head, &head))
        return MZ_PATH_REJECT;
    if (rules->merge_slashes)
        head = merge(arena, head);
    *out_path = joined(arena, path, head, tail);
    return verdict;
}
