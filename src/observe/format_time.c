#include "base/arena.h"
#include "observe/format_priv.h"
#include <time.h>

/*
 * Times of %START_TIME(...)%: strftime's specifiers, and those of Envoy: %s, %f and %1f..%9f (parts of a second), %E#S and %E*S
 * (seconds with a fraction), %Ez (zone with a colon). Compiled to pieces; the common texts are written without libc.
 */
enum piece_kind {
    PIECE_TEXT,
    PIECE_STRFTIME,
    PIECE_EPOCH,
    PIECE_FRACTION,
    PIECE_SECONDS,
    PIECE_SECONDS_FULL,
    PIECE_ZONE
};
struct piece {
    enum piece_kind kind;
    unsigned digits;
    struct mz_str text;
    char spec[4];
};
struct time_format {
    bool local, iso; /* iso: Envoy's default, 2026-11-23T00:49:22.666Z */
    size_t n;
    struct piece *v;
};

static struct mz_str take(struct mz_str *rest, size_t n)
{
    struct mz_str head = { rest->p, n };
    *rest = mz_str_skip(*rest, n);
    return head;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* @rest starts with '%' and has at least one more byte. */
static struct piece piece_parse(struct mz_str *rest)
{
    const char *p = rest->p;
    size_t n = rest->n;
    struct piece piece = { .kind = PIECE_STRFTIME, .spec = { '%', p[1], 0, 0 } };
    if (p[1] == 's') {
        piece.kind = PIECE_EPOCH;
    } else if (p[1] == 'f') {
        piece.kind = PIECE_FRACTION;
        piece.digits = 9;
    } else if (p[1] >= '1' && p[1] <= '9' && n > 2 && p[2] == 'f') {
        piece.kind = PIECE_FRACTION;
        piece.digits = (unsigned)(p[1] - '0');
        (void)take(rest, 1);
    } else if (p[1] == 'E' && n > 3 && (is_digit(p[2]) || p[2] == '*') && p[3] == 'S') {
        piece.kind = p[2] == '*' ? PIECE_SECONDS_FULL : PIECE_SECONDS;
        piece.digits = p[2] == '*' ? 0 : (unsigned)(p[2] - '0');
        (void)take(rest, 2);
    } else if (p[1] == 'E' && n > 3 && p[2] == '4' && p[3] == 'Y') {
        piece.spec[1] = 'Y';
        (void)take(rest, 2);
    } else if (p[1] == 'E' && n > 2 && p[2] == 'z') {
        piece.kind = PIECE_ZONE;
        (void)take(rest, 1);
    } else if ((p[1] == 'E' || p[1] == 'O') && n > 2) {
        piece.spec[2] = p[2];
        (void)take(rest, 1);
    } else if (!strchr("aAbBcCdDeFgGhHIjklmMnprRStTuUVwWxXyYzZ%", p[1])) {
        piece.kind = PIECE_TEXT;
        piece.text = (struct mz_str){ p, 2 };
    }
    (void)take(rest, 2);
    return piece;
}

const struct time_format *time_format_create(struct mz_str spec, bool local, struct mz_arena *a)
{
    struct time_format *f = mz_arena_new0(a, struct time_format);
    f->local = local;
    f->iso = !local && spec.n == 0;
    struct mz_str rest = spec.n ? mz_arena_dup(a, spec) : MZ_STR("%Y-%m-%dT%H:%M:%E3S%z");
    f->v = mz_arena_alloc0(a, (rest.n + 1) * sizeof(*f->v));
    while (rest.n) {
        if (rest.p[0] == '%' && rest.n > 1) {
            f->v[f->n++] = piece_parse(&rest);
            continue;
        }
        ptrdiff_t next = mz_str_chr(mz_str_skip(rest, 1), '%');
        f->v[f->n++] = (struct piece){ .kind = PIECE_TEXT,
                                       .text = take(&rest, next < 0 ? rest.n : (size_t)next + 1) };
    }
    return f;
}

static char *two_digits(char *p, unsigned n)
{
    *p++ = (char)('0' + n / 10);
    *p++ = (char)('0' + n % 10);
    return p;
}

static char *digits_write(char *p, uint64_t n, unsigned width)
{
    for (unsigned i = width; i-- > 0; n /= 10)
        p[i] = (char)('0' + n % 10);
    return p + width;
}

/* The first 20 bytes "2026-11-23T00:49:22." of a second; a thread remembers the last. */
void time_iso(uint64_t wall_us, char out[TIME_ISO_N])
{
    static _Thread_local uint64_t cached_s = UINT64_MAX;
    static _Thread_local char cached[20];
    uint64_t s = wall_us / 1000000;
    if (s != cached_s) {
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        char *p = digits_write(cached, (uint64_t)(tm.tm_year + 1900) % 10000, 4);
        *p++ = '-';
        p = two_digits(p, (unsigned)tm.tm_mon + 1);
        *p++ = '-';
        p = two_digits(p, (unsigned)tm.tm_mday);
        *p++ = 'T';
        p = two_digits(p, (unsigned)tm.tm_hour);
        *p++ = ':';
        p = two_digits(p, (unsigned)tm.tm_min);
        *p++ = ':';
        p = two_digits(p, (unsigned)tm.tm_sec);
        *p = '.';
        cached_s = s;
    }
    memcpy(out, cached, sizeof(cached));
    unsigned ms = (unsigned)(wall_us - s * 1000000) / 1000;
    *two_digits(digits_write(out + sizeof(cached), ms / 100, 1), ms % 100) = 'Z';
}

static size_t fraction_text(uint64_t us, unsigned digits, char out[16])
{
    digits_write(out, us % 1000000 * 1000, 9);
    return digits < 9 ? digits : 9;
}

static size_t seconds_text(const struct piece *p, unsigned sec, uint64_t us, char out[16])
{
    char *end = two_digits(out, sec % 100);
    if (p->kind == PIECE_SECONDS && p->digits == 0)
        return 2;
    *end++ = '.';
    size_t n = fraction_text(us, p->kind == PIECE_SECONDS ? p->digits : 6, end);
    while (p->kind == PIECE_SECONDS_FULL && n > 0 && end[n - 1] == '0')
        n--;
    return n ? 3 + n : 2;
}

static void piece_write(const struct piece *p, const struct tm *tm, uint64_t us, struct mz_buf *out)
{
    char text[128];
    size_t n = 0;
    switch (p->kind) {
    case PIECE_TEXT:
        mz_buf_append_str(out, p->text);
        return;
    case PIECE_EPOCH:
        n = mz_u64_text(us / 1000000, text);
        break;
    case PIECE_FRACTION:
        n = fraction_text(us, p->digits, text);
        break;
    case PIECE_SECONDS:
    case PIECE_SECONDS_FULL:
        n = seconds_text(p, (unsigned)tm->tm_sec, us, text);
        break;
    case PIECE_ZONE: {
        long off = tm->tm_gmtoff / 60;
        unsigned min = (unsigned)(off < 0 ? -off : off);
        text[0] = off < 0 ? '-' : '+';
        two_digits(text + 1, min / 60);
        text[3] = ':';
        two_digits(text + 4, min % 60);
        n = 6;
        break;
    }
    case PIECE_STRFTIME: {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        n = strftime(text, sizeof(text), p->spec, tm);
#pragma GCC diagnostic pop
        break;
    }
    }
    mz_buf_append(out, text, n);
}

void time_value(const struct time_format *f, uint64_t wall_us, struct value *out)
{
    if (f->iso) {
        time_iso(wall_us, out->scratch);
        value_own_str(out, (struct mz_str){ out->scratch, TIME_ISO_N });
        return;
    }
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    if (f->local)
        localtime_r(&t, &tm);
    else
        gmtime_r(&t, &tm);
    struct mz_buf *b = value_spill(out);
    for (size_t i = 0; i < f->n; i++)
        piece_write(&f->v[i], &tm, wall_us, b);
    value_take_spill(out);
}

bool time_compile_utc(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err)
{
    (void)err; /* every specifier is accepted: one that is unknown stands for itself */
    s->time = time_format_create(param, false, a);
    if (!s->time->iso)
        s->way = WAY_CALL;
    return true;
}

bool time_compile_local(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err)
{
    (void)err;
    s->time = time_format_create(param, true, a);
    return true;
}
