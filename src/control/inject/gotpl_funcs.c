/* What templates can call, by name, and what those functions have in common. */
#include "control/inject/gotpl_funcs.h"

#include <stdlib.h>

json_t *tpl_fail(struct tpl_run *r, const char *what, json_t *at)
{
    const struct mz_str s = tpl_print(r, at);
    (void)mz_err_set(r->err, "line %u: %s \"%.*s\"", r->line, what, (int)(s.n > 60 ? 60 : s.n),
                     s.p);
    return NULL;
}

json_t *tpl_text(struct tpl_run *r, struct mz_str s)
{
    if (!tpl_spend(r, 64 + s.n))
        return NULL;
    json_t *v = json_stringn(s.n ? s.p : "", s.n);
    if (!v)
        (void)mz_err_set(r->err, "line %u: a text is not UTF-8", r->line);
    return tpl_keep(r, v);
}

/* Frees it. NULL: it is too much. */
json_t *tpl_text_of(struct tpl_run *r, struct mz_buf *b)
{
    json_t *out = NULL;
    if (mz_buf_len(b) > TPL_MAX_OUT)
        (void)mz_err_set(r->err, "line %u: makes more than %d MiB of text", r->line,
                         TPL_MAX_OUT >> 20);
    else
        out = tpl_text(r, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return out;
}

void tpl_put(struct mz_buf *b, struct mz_str s)
{
    if (mz_buf_len(b) <= TPL_MAX_OUT)
        mz_buf_append(b, s.p, s.n);
}

static int put_dump(const char *p, size_t n, void *arg)
{
    tpl_put(arg, (struct mz_str){ p, n });
    return mz_buf_len(arg) > TPL_MAX_OUT ? -1 : 0;
}

/* What shares its parts may be longer than all that was made for it. */
void tpl_dump(struct mz_buf *b, const json_t *v, size_t flags)
{
    (void)json_dump_callback(v, put_dump, b,
                             flags | JSON_ENCODE_ANY); /* what is left out is seen */
}

/* The number of a text or a number; what is not set is 0. */
bool tpl_integer(struct tpl_run *r, json_t *v, json_int_t *out)
{
    char *end;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    if (json_is_real(v)) {
        const double d = json_real_value(v);
        if (!(d >= -0x1p63 && d < 0x1p63))
            return tpl_fail(r, "is too large:", v) != NULL;
        *out = (json_int_t)d;
        return true;
    }
    const struct mz_str s = tpl_print(r, v);
    *out = s.n ? (json_int_t)strtoll(s.p, &end, 10) : 0;
    if (!s.n || !*end)
        return true;
    (void)tpl_fail(r, "is no number:", v);
    return false;
}

const struct tpl_function *tpl_function_find(struct mz_str name)
{
    static const struct tpl_function *const tables[] = { tpl_go_functions, tpl_sprig_functions,
                                                         tpl_istio_functions };
    for (size_t i = 0; i < MZ_COUNT(tables); i++)
        for (const struct tpl_function *f = tables[i]; f->name; f++)
            if (mz_str_eq(mz_str_c(f->name), name))
                return f;
    return NULL;
}
