/* Operators about the downstream connection's TLS: certificates, session, failure (O2, T1). */
#include "net/transport.h"
#include "observe/format_priv.h"

static const char *field(const struct step *s, const struct mz_format_ctx *c)
{
    struct mz_transport *t = c->info->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    return f ? (const char *)f + s->op->offset : NULL;
}

void value_tls_text(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_str *v = (const struct mz_str *)(const void *)field(s, c);
    if (v)
        value_str_or_none(out, *v);
}

void value_tls_names(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_tls_names *v = (const struct mz_tls_names *)(const void *)field(s, c);
    if (!v || !v->n)
        return;
    if (v->n == 1) {
        value_str(out, v->v[0]);
        return;
    }
    struct mz_buf *b = value_spill(out);
    for (size_t i = 0; i < v->n; i++)
        mz_buf_printf(b, "%s" MZ_STR_FMT, i ? "," : "", MZ_STR_ARG(v->v[i]));
    value_take_spill(out);
}

void value_tls_time(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const int64_t *v = (const int64_t *)(const void *)field(s, c);
    if (v && *v > 0)
        time_value(s->time, (uint64_t)*v * 1000000, out);
}

void value_tls_failure(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    const struct mz_transport *t = c->info->transport;
    if (t && t->ops->failure)
        value_str_or_none(out, t->ops->failure(t));
}
