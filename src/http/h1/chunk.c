#include "http/h1/h1_priv.h"

enum { SIZE, BLANK, EXT, SIZE_LF, DATA, DATA_CR, DATA_LF };

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte behind the digits: blanks (which peers send), an extension, or the line's end. */
static bool behind_size(struct h1_chunk *k, char c)
{
    if (c == '\r')
        k->step = SIZE_LF;
    else if (c == ';')
        k->step = EXT;
    else if (c == ' ' || c == '\t')
        k->step = BLANK;
    else
        return false;
    return k->digits > 0;
}

static bool size_byte(struct h1_chunk *k, char c)
{
    int v = hex(c);
    if (v < 0)
        return behind_size(k, c);
    if (++k->digits > 16)
        return false;
    k->left = k->left << 4 | (unsigned)v;
    return k->left <= H1_CHUNK_MAX;
}

static bool ext_byte(struct h1_chunk *k, char c)
{
    if (c == '\r')
        k->step = SIZE_LF;
    return c == '\r' || !h1_value_stop((unsigned char)c);
}

/* The size line is complete. Lines that are long for the data they carry use up an allowance. */
static bool line_done(struct h1_chunk *k)
{
    uint64_t fair = 16 + 2 * k->left;
    uint64_t waste = (uint64_t)k->waste + k->line;
    k->waste = (uint32_t)(waste > fair ? waste - fair : 0);
    k->line = 0;
    k->digits = 0;
    k->step = DATA;
    return k->waste <= H1_CHUNK_WASTE;
}

static enum h1_chunk_result control_byte(struct h1_chunk *k, char c)
{
    bool ok = true;
    if (k->step <= SIZE_LF && ++k->line > H1_CHUNK_LINE_MAX)
        return H1_CHUNK_BAD;
    switch (k->step) {
    case SIZE:
        ok = size_byte(k, c);
        break;
    case BLANK:
        ok = behind_size(k, c);
        break;
    case EXT:
        ok = ext_byte(k, c);
        break;
    case SIZE_LF:
        ok = c == '\n' && line_done(k);
        if (ok && k->left == 0) {
            k->step = SIZE;
            return H1_CHUNK_LAST;
        }
        break;
    case DATA_CR:
        ok = c == '\r';
        k->step = DATA_LF;
        break;
    default: /* DATA_LF */
        ok = c == '\n';
        k->step = SIZE;
        break;
    }
    return ok ? H1_CHUNK_MORE : H1_CHUNK_BAD;
}

enum h1_chunk_result h1_chunk_take(struct h1_chunk *k, struct mz_buf *in, struct mz_buf *out,
                                   size_t *out_taken)
{
    enum h1_chunk_result r = H1_CHUNK_MORE;
    size_t before = in->len;
    while (in->len && r == H1_CHUNK_MORE) {
        if (k->step == DATA) {
            size_t n = k->left < in->len ? (size_t)k->left : in->len;
            mz_buf_move(out, in, n);
            k->left -= n;
            if (k->left == 0)
                k->step = DATA_CR;
            continue;
        }
        struct mz_str s = mz_buf_first(in);
        size_t i = 0;
        while (i < s.n && r == H1_CHUNK_MORE && k->step != DATA)
            r = control_byte(k, s.p[i++]);
        mz_buf_drain(in, i);
    }
    *out_taken = before - in->len;
    return r;
}
