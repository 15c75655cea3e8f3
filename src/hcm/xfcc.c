/* x-forwarded-client-cert: who the client proved to be, for those behind us (H4, C16). */
#include "hcm/hcm_priv.h"
#include "net/transport.h"

static void element(struct mz_buf *b, const char *key, struct mz_str value, const char *quote)
{
    if (mz_buf_len(b) && *(mz_buf_linearize(b, mz_buf_len(b)).p + mz_buf_len(b) - 1) != ',')
        mz_buf_append(b, ";", 1);
    mz_buf_printf(b, "%s=%s", key, quote);
    for (size_t i = 0; i < value.n;
         i++) { /* a certificate ends neither its element nor the header */
        char c = value.p[i];
        if ((unsigned char)c < 0x20 || c == 0x7f)
            continue;
        if (quote[0] && (c == '"' || c == '\\'))
            mz_buf_append(b, "\\", 1);
        if (quote[0] || (c != ';' && c != ',' && c != '"'))
            mz_buf_append(b, &c, 1);
    }
    mz_buf_append_str(b, mz_str_c(quote));
}

static void names(struct mz_buf *b, const char *key, const struct mz_tls_names *v)
{
    for (size_t i = 0; i < v->n; i++)
        element(b, key, v->v[i], "");
}

static void describe(const struct mz_hcm_config *c, const struct mz_tls_facts *f, struct mz_buf *b)
{
    names(b, "By", &f->own.uri_sans);
    if (f->peer.sha256.n)
        element(b, "Hash", f->peer.sha256, "");
    if (c->xfcc_details & XFCC_CERT)
        element(b, "Cert", f->peer.pem, "\"");
    if (c->xfcc_details & XFCC_CHAIN)
        element(b, "Chain", f->chain_pem, "\"");
    if (c->xfcc_details & XFCC_SUBJECT)
        element(b, "Subject", f->peer.subject, "\"");
    if (c->xfcc_details & XFCC_URI) {
        if (f->peer.uri_sans.n)
            names(b, "URI", &f->peer.uri_sans);
        else
            element(b, "URI", MZ_STR(""), ""); /* the key is there in any case */
    }
    if (c->xfcc_details & XFCC_DNS)
        names(b, "DNS", &f->peer.dns_sans);
}

void mutate_xfcc(struct mz_stream *s, struct mz_headers *h)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_transport *t = s->info.transport;
    if (c->xfcc == XFCC_ALWAYS_FORWARD_ONLY)
        return;
    const struct mz_tls_facts *f =
        c->xfcc != XFCC_SANITIZE && t && t->ops->tls ? t->ops->tls(t) : NULL;
    if (!f || !f->peer_presented) { /* nobody proved anything */
        mz_headers_remove_id(h, MZ_H_X_FORWARDED_CLIENT_CERT);
        return;
    }
    if (c->xfcc == XFCC_FORWARD_ONLY)
        return;
    struct mz_buf b;
    mz_buf_init(&b);
    if (c->xfcc == XFCC_APPEND_FORWARD && mz_headers_get_id(h, MZ_H_X_FORWARDED_CLIENT_CERT)) {
        struct mz_str before;
        if (mz_headers_joined(h, MZ_STR("x-forwarded-client-cert"), &before) && before.n)
            mz_buf_printf(&b, MZ_STR_FMT ",", MZ_STR_ARG(before));
    }
    describe(c, f, &b);
    mz_headers_set_id(h, MZ_H_X_FORWARDED_CLIENT_CERT,
                      mz_arena_dup(s->arena, mz_buf_linearize(&b, mz_buf_len(&b))));
    mz_buf_fini(&b);
}
