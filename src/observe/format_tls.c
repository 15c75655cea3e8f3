/* Operators about the TLS of both connections: certificates, session, failure (O2, T1). */
#include "net/transport.h"
#include "observe/format_priv.h"

static const struct mz_tls_facts *facts_down(const struct mz_format_ctx *c)
{
    struct mz_transport *t = c->info->transport;
    return t && t->ops->tls ? t->ops->tls(t) : NULL;
}

static const void *field(const struct step *s, const struct mz_tls_facts *f)
{
    return f ? (const char *)f + s->op->offset : NULL;
}

static void text(const struct mz_str *v, struct value *out)
{
    if (v)
        value_str_or_none(out, *v);
}

static void names(const struct mz_tls_names *v, struct value *out)
{
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

static void moment(const struct step *s, const int64_t *v, struct value *out)
{
    if (v && *v > 0)
        time_value(s->time, (uint64_t)*v * 1000000, out);
}

void value_tls_text(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    text(field(s, facts_down(c)), out);
}

void value_tls_names(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    names(field(s, facts_down(c)), out);
}

void value_tls_time(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    moment(s, field(s, facts_down(c)), out);
}

/* ---- the upstream connection, which may be gone before the log is written: facts are copied where a format asks ---- */

static bool wanted; /* atomic: some format has such an operator */

void mz_format_want_upstream_tls(void)
{
    __atomic_store_n(&wanted, true, __ATOMIC_RELAXED);
}

bool compile_up_tls(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err)
{
    (void)s, (void)param, (void)a, (void)err;
    mz_format_want_upstream_tls();
    return true;
}

bool compile_up_tls_time(struct step *s, struct mz_str param, struct mz_arena *a,
                         struct mz_err *err)
{
    return compile_up_tls(s, param, a, err) && time_compile_utc(s, param, a, err);
}

void value_up_tls_text(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    text(field(s, c->info->up.tls), out);
}

void value_up_tls_names(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    names(field(s, c->info->up.tls), out);
}

void value_up_tls_time(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    moment(s, field(s, c->info->up.tls), out);
}

static void names_copy(struct mz_tls_names *n, struct mz_arena *a)
{
    struct mz_str *v = mz_arena_alloc0(a, n->n * sizeof(*v));
    for (size_t i = 0; i < n->n; i++)
        v[i] = mz_arena_dup(a, n->v[i]);
    n->v = v;
}

static void cert_copy(struct mz_tls_cert_facts *f, struct mz_arena *a)
{
    struct mz_str *const texts[] = { &f->subject, &f->issuer, &f->serial, &f->sha1,
                                     &f->sha256,  &f->spki,   &f->pem };
    for (size_t i = 0; i < MZ_COUNT(texts); i++)
        *texts[i] = mz_arena_dup(a, *texts[i]);
    names_copy(&f->uri_sans, a);
    names_copy(&f->dns_sans, a);
    names_copy(&f->ip_sans, a);
    names_copy(&f->email_sans, a);
}

const struct mz_tls_facts *mz_format_upstream_tls(struct mz_transport *t, struct mz_arena *a)
{
    const struct mz_tls_facts *f = NULL;
    if (MZ_UNLIKELY(__atomic_load_n(&wanted, __ATOMIC_RELAXED)) && t->ops->tls)
        f = t->ops->tls(t);
    if (!f)
        return NULL;
    struct mz_tls_facts *copy = mz_arena_new0(a, struct mz_tls_facts);
    *copy = *f;
    struct mz_str *const texts[] = { &copy->version, &copy->cipher,     &copy->group,    &copy->sni,
                                     &copy->alpn,    &copy->session_id, &copy->chain_pem };
    for (size_t i = 0; i < MZ_COUNT(texts); i++)
        *texts[i] = mz_arena_dup(a, *texts[i]);
    cert_copy(&copy->peer, a);
    cert_copy(&copy->own, a);
    names_copy(&copy->chain_sha1, a);
    names_copy(&copy->chain_sha256, a);
    names_copy(&copy->chain_serials, a);
    return copy;
}

static bool principals_wanted; /* atomic */

void mz_format_want_principals(void)
{
    __atomic_store_n(&principals_wanted, true, __ATOMIC_RELAXED);
}

static struct mz_str first_of(const struct mz_tls_names *names, struct mz_arena *a)
{
    return names->n ? mz_arena_dup(a, names->v[0]) : MZ_STR("");
}

void mz_format_upstream_facts(struct mz_stream_info *i, struct mz_transport *t)
{
    i->up.tls = mz_format_upstream_tls(t, i->arena);
    if (!__atomic_load_n(&principals_wanted, __ATOMIC_RELAXED) || !t->ops->tls)
        return;
    const struct mz_tls_facts *f = t->ops->tls(t);
    i->up.peer_principal = f ? first_of(&f->peer.uri_sans, i->arena) : MZ_STR("");
    i->up.own_principal = f ? first_of(&f->own.uri_sans, i->arena) : MZ_STR("");
}

void value_tls_failure(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    const struct mz_transport *t = c->info->transport;
    if (t && t->ops->failure)
        value_str_or_none(out, t->ops->failure(t));
}
