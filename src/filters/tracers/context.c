#include "filters/tracers/context.h"

#include "observe/tracer.h"

static bool lower_hex(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return true;
}

static struct mz_str part(struct mz_str s, size_t from, size_t n)
{
    return (struct mz_str){ s.p + from, n };
}

bool traceparent_parse(struct mz_str t, struct trace_context *out)
{
    struct trace_context c = { .wide = true, .has_ids = true, .has_sampled = true };
    uint64_t flags;
    if (t.n < 55 || t.p[2] != '-' || t.p[35] != '-' || t.p[52] != '-' || !lower_hex(part(t, 0, 2)))
        return false;
    bool first = mz_str_eq(part(t, 0, 2), MZ_STR("00"));
    if (mz_str_eq(part(t, 0, 2), MZ_STR("ff")) || (first && t.n != 55) ||
        (t.n > 55 && t.p[55] != '-'))
        return false;
    if (!lower_hex(part(t, 3, 32)) || !lower_hex(part(t, 36, 16)) || !lower_hex(part(t, 53, 2)))
        return false;
    if (!mz_hex64_parse(part(t, 3, 16), &c.trace_hi) ||
        !mz_hex64_parse(part(t, 19, 16), &c.trace_lo) || !mz_hex64_parse(part(t, 36, 16), &c.id) ||
        !mz_hex64_parse(part(t, 53, 2), &flags))
        return false;
    if ((c.trace_hi | c.trace_lo) == 0 || c.id == 0)
        return false;
    c.sampled = flags & 1;
    *out = c;
    return true;
}

void traceparent_write(const struct trace_context *c, char t[TRACEPARENT_TEXT])
{
    t[0] = t[1] = '0';
    t[2] = '-';
    mz_hex64(c->trace_hi, t + 3);
    mz_hex64(c->trace_lo, t + 19);
    t[35] = '-';
    mz_hex64(c->id, t + 36);
    t[52] = '-';
    t[53] = '0';
    t[54] = c->sampled ? '1' : '0';
    t[55] = '\0';
}

/* ---- B3 ---- */

static bool trace_id(struct mz_str s, struct trace_context *c)
{
    if (s.n > 32)
        return false;
    c->wide = s.n > 16;
    if (c->wide && !mz_hex64_parse((struct mz_str){ s.p, s.n - 16 }, &c->trace_hi))
        return false;
    return mz_hex64_parse(c->wide ? mz_str_skip(s, s.n - 16) : s, &c->trace_lo) &&
           (c->trace_hi | c->trace_lo);
}

static bool sampled_word(struct mz_str s, struct trace_context *c)
{
    bool yes = mz_str_eq(s, MZ_STR("1")) || mz_str_eq(s, MZ_STR("d"));
    if (!yes && !mz_str_eq(s, MZ_STR("0")))
        return false;
    c->has_sampled = true;
    c->sampled = yes;
    return true;
}

bool b3_single_parse(struct mz_str text, struct trace_context *out)
{
    struct trace_context c = { 0 };
    struct mz_str trace, id, more;
    if (sampled_word(text, &c)) {
        *out = c;
        return true;
    }
    if (!mz_str_split(&text, '-', &trace) || !mz_str_split(&text, '-', &id) ||
        !trace_id(trace, &c) || id.n != 16 || !mz_hex64_parse(id, &c.id))
        return false;
    c.has_ids = true;
    if (mz_str_split(&text, '-', &more) && !sampled_word(more, &c))
        return false;
    if (text.n && (text.n != 16 || !mz_hex64_parse(text, &c.parent)))
        return false;
    *out = c;
    return true;
}

bool b3_parse(const struct b3_headers *h, struct trace_context *out)
{
    struct trace_context c = { 0 };
    if (h->trace.n || h->id.n) {
        if (!trace_id(h->trace, &c) || !mz_hex64_parse(h->id, &c.id) ||
            (h->parent.n && !mz_hex64_parse(h->parent, &c.parent)))
            return false;
        c.has_ids = true;
    }
    if (h->sampled.n) {
        c.has_sampled = true;
        c.sampled = mz_str_eq(h->sampled, MZ_STR("1")) || mz_str_ieq(h->sampled, MZ_STR("true"));
    }
    if (mz_str_eq(h->flags, MZ_STR("1"))) /* debug: sampled in any case */
        c.has_sampled = c.sampled = true;
    *out = c;
    return true;
}
