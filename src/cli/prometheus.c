#include "cli/prometheus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == ':';
}

/* Where the braces close, outside of quotes; -1: nowhere. */
static ptrdiff_t closing(struct mz_str s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.n; i++) {
        if (quoted && s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            quoted = !quoted;
        else if (!quoted && s.p[i] == '}')
            return (ptrdiff_t)i;
    }
    return -1;
}

static bool number(struct mz_str s, double *out)
{
    char text[64], *end;
    s = mz_str_trim(s);
    const ptrdiff_t blank = mz_str_chr(s, ' '); /* a time may stand behind it */
    s.n = blank < 0 ? s.n : (size_t)blank;
    if (!s.n || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    *out = strtod(text, &end);
    return *end == 0 && !isnan(*out);
}

static bool read_line(struct mz_str line, struct prom_sample *out)
{
    size_t n = 0;
    while (n < line.n && is_name(line.p[n]))
        n++;
    out->name = (struct mz_str){ line.p, n };
    out->labels = MZ_STR("");
    struct mz_str rest = mz_str_skip(line, n);
    if (!n)
        return false;
    if (rest.n && rest.p[0] == '{') {
        rest = mz_str_skip(rest, 1);
        const ptrdiff_t end = closing(rest);
        if (end < 0)
            return false;
        out->labels = (struct mz_str){ rest.p, (size_t)end };
        rest = mz_str_skip(rest, (size_t)end + 1);
    }
    return number(rest, &out->value);
}

bool prom_next(struct mz_str *rest, struct prom_sample *out)
{
    for (struct mz_str line; mz_str_split(rest, '\n', &line);)
        if (line.n && line.p[0] != '#' && read_line(line, out))
            return true;
    return false;
}

struct mz_str prom_label(const struct prom_sample *s, const char *name)
{
    struct mz_str rest = s->labels;
    const struct mz_str want = mz_str_c(name);
    while (rest.n) {
        const ptrdiff_t eq = mz_str_chr(rest, '=');
        if (eq < 0 || rest.n < (size_t)eq + 2 || rest.p[eq + 1] != '"')
            return MZ_STR("");
        const struct mz_str key = mz_str_trim((struct mz_str){ rest.p, (size_t)eq });
        rest = mz_str_skip(rest, (size_t)eq + 2);
        size_t n = 0;
        while (n < rest.n && rest.p[n] != '"')
            n += rest.p[n] == '\\' && n + 1 < rest.n ? 2 : 1;
        if (mz_str_eq(key, want))
            return (struct mz_str){ rest.p, n };
        rest = mz_str_skip(rest, n + 1 < rest.n ? n + 1 : rest.n);
        if (rest.n && rest.p[0] == ',')
            rest = mz_str_skip(rest, 1);
    }
    return MZ_STR("");
}
