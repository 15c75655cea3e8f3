#include "control/ca/serving.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/mapper.h"
#include "tls/tls.h"

/* A factory in front of the one of the certificate that is in use. */
struct mz_serving {
    struct mz_transport_factory front; /* first: create() is given it */
    struct mz_transport_factory *now;
    struct mz_authority *authority;
    struct mz_serving_opts o;
    struct mz_stats *stats;
    int64_t renew_s; /* UNIX time */
};

static int64_t now_s(void)
{
    return (int64_t)(mz_clock->wall_us() / 1000000);
}

static struct mz_transport *front_create(const struct mz_transport_factory *f,
                                         const struct mz_transport_opts *o)
{
    const struct mz_serving *s = (const struct mz_serving *)(const void *)f;
    return s->now->create(s->now, o);
}

static void front_destroy(struct mz_transport_factory *f)
{
    (void)f; /* mz_serving_destroy() */
}

static void set_text(pb_DataSource *d, struct mz_str text)
{
    d->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
    d->inline_string = (char *)(uintptr_t)text.p;
}

static struct mz_transport_factory *make(struct mz_serving *s, struct mz_arena *a,
                                         int64_t *out_until_s, struct mz_err *err)
{
    struct mz_str chain, key;
    if (!mz_authority_serving(s->authority, s->o.dns, a, &chain, &key, out_until_s, err))
        return NULL;
    pb_DataSource chain_source = pb_DataSource__INIT, key_source = pb_DataSource__INIT,
                  roots = pb_DataSource__INIT;
    set_text(&chain_source, chain);
    set_text(&key_source, key);
    set_text(&roots, mz_arena_dup(a, mz_authority_roots(s->authority)));
    pb_TlsCertificate cert = pb_TlsCertificate__INIT, *certs[] = { &cert };
    cert.certificate_chain = &chain_source;
    cert.private_key = &key_source;
    pb_CertificateValidationContext validation = pb_CertificateValidationContext__INIT;
    validation.trusted_ca = &roots;
    char h2[] = "h2", http1[] = "http/1.1", *alpn[] = { s->o.grpc ? h2 : http1 };
    pb_CommonTlsContext common = pb_CommonTlsContext__INIT;
    common.n_tls_certificates = 1;
    common.tls_certificates = certs;
    common.n_alpn_protocols = 1;
    common.alpn_protocols = alpn;
    common.validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
    common.validation_context = &validation;
    pb_DownstreamTlsContext m = pb_DownstreamTlsContext__INIT;
    m.common_tls_context = &common;
    const struct mz_tls_env env = { .stats = s->stats, .prefix = MZ_STR("listener.control.") };
    struct mz_transport_factory *f = mz_tls_downstream_create(&m, &env, err);
    explicit_bzero((char *)(uintptr_t)key.p, key.n);
    return f;
}

static bool renew(struct mz_serving *s, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    int64_t until_s = 0;
    struct mz_transport_factory *f = make(s, a, &until_s, err);
    mz_arena_destroy(a);
    if (!f)
        return false;
    if (s->now)
        mz_transport_factory_unref(s->now);
    s->now = f;
    s->renew_s = now_s() + (until_s - now_s()) / 2;
    return true;
}

struct mz_serving *mz_serving_create(struct mz_authority *a, const struct mz_serving_opts *o,
                                     struct mz_err *err)
{
    struct mz_serving *s = mz_new0(MZ_MEM_TLS, struct mz_serving);
    s->front = (struct mz_transport_factory){
        .name = "tls", .secure = true, .create = front_create, .destroy = front_destroy, .refs = 1
    };
    s->authority = a;
    s->o = *o;
    s->stats = mz_stats_create(1);
    if (renew(s, err))
        return s;
    mz_serving_destroy(s);
    return NULL;
}

void mz_serving_destroy(struct mz_serving *s)
{
    if (!s)
        return;
    if (s->now)
        mz_transport_factory_unref(s->now);
    mz_stats_destroy(s->stats);
    mz_free(MZ_MEM_TLS, s);
}

const struct mz_transport_factory *mz_serving_factory(const struct mz_serving *s)
{
    return &s->front;
}

void mz_serving_refresh(struct mz_serving *s, bool authority_changed)
{
    struct mz_err err = { .path = "", .msg = "" };
    if (!authority_changed && now_s() < s->renew_s)
        return;
    if (!renew(s, &err)) {
        MZ_LOG(ERROR, main, "the control plane's certificate could not be renewed: %s", err.msg);
        s->renew_s = now_s() + 10; /* again soon */
    }
}
