#include "filters/http/compressor.h"

/* Which encoding a client is given (H9; RFC 9110 12.5.3 as Envoy reads it). */

/* In millionths; false when it is no number. */
static bool weight(struct mz_str s, uint32_t *out)
{
    uint32_t v = 0, unit = 1000000;
    size_t i = 0, digits = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, digits++)
        v = v < 1000 ? v * 10 + (uint32_t)(s.p[i] - '0') : 1000;
    v *= unit;
    if (i < s.n && s.p[i] == '.')
        for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, digits++) {
            unit /= 10;
            v += (uint32_t)(s.p[i] - '0') * unit;
        }
    *out = v;
    return digits > 0 && i == s.n;
}

/* "gzip;q=0.5" apart; false: its weight is no number, and the member does not count. */
static bool member(struct mz_str text, struct mz_str *out_name, uint32_t *out_weight)
{
    *out_weight = 1000000;
    ptrdiff_t semicolon = mz_str_chr(text, ';');
    if (semicolon < 0) {
        *out_name = mz_str_trim(text);
        return true;
    }
    *out_name = mz_str_trim((struct mz_str){ text.p, (size_t)semicolon });
    struct mz_str param = mz_str_skip(text, (size_t)semicolon + 1);
    ptrdiff_t equals = mz_str_chr(param, '=');
    if (equals < 0 ||
        !mz_str_ieq(mz_str_trim((struct mz_str){ param.p, (size_t)equals }), MZ_STR("q")))
        return true;
    return weight(mz_str_trim(mz_str_skip(param, (size_t)equals + 1)), out_weight);
}

static struct compressor_offer *offer_of(struct compressor_offer *offers, size_t n,
                                         struct mz_str name)
{
    for (size_t i = 0; i < n; i++)
        if (!offers[i].refused && mz_str_eq(offers[i].encoding, name))
            return &offers[i];
    return NULL;
}

static size_t refuse(struct mz_str accept, struct compressor_offer *offers, size_t n)
{
    size_t left = n;
    for (struct mz_str part, name; mz_str_split(&accept, ',', &part);) {
        uint32_t w;
        struct compressor_offer *o;
        if (member(part, &name, &w) && w == 0 && (o = offer_of(offers, n, name))) {
            o->refused = true;
            left--;
        }
    }
    return left;
}

struct compressor_decision compressor_choose(struct mz_str accept, struct compressor_offer *offers,
                                             size_t n)
{
    struct compressor_decision d = { MZ_STR(""), COMPRESSOR_NOT_VALID };
    uint32_t best = 0;
    if (!refuse(accept, offers, n))
        return d;
    for (struct mz_str part, name; mz_str_split(&accept, ',', &part);) {
        uint32_t w;
        if (!member(part, &name, &w) || w < best)
            continue;
        const struct compressor_offer *o = offer_of(offers, n, name);
        if (w == best && !(w && o && o->choose_first))
            continue;
        if (o)
            d = (struct compressor_decision){ o->encoding, COMPRESSOR_USED };
        else if (mz_str_eq(name, MZ_STR("identity")))
            d = (struct compressor_decision){ MZ_STR(""), COMPRESSOR_IDENTITY };
        else if (mz_str_eq(name, MZ_STR("*")))
            d = (struct compressor_decision){ MZ_STR(""), COMPRESSOR_WILDCARD };
        else
            continue;
        best = w;
    }
    for (size_t i = 0; i < n && d.why == COMPRESSOR_WILDCARD && !d.encoding.n; i++)
        if (!offers[i].refused)
            d.encoding = offers[i].encoding;
    return d;
}
