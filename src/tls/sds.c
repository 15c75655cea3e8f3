/*
 * Contexts that name secrets (SDS): a factory in front of the real one, which is built anew whenever a secret changes and which
 * each thread gets by post. Connections keep what they began with. Of secrets by subscription, towards an upstream, the real one is
 * built by the thread that connects first: of thousands of clusters few are used, and a context is tens of kilobytes.
 */
#include <stdio.h>
#include <string.h>

#include "tls/secrets_priv.h"
#include "xds/init.h"
#include "xds/thread_slot.h"

struct sds_factory {
    struct mz_transport_factory base;
    struct mz_arena *arena;
    bool server;
    bool
        lazy; /* towards an upstream, of secrets by subscription: the first connection makes the context */
    struct mz_secrets *secrets;
    struct mz_str context, prefix; /* the packed message */
    struct mz_stats *stats;
    struct mz_scope *scope;
    struct mz_thread_slot *current; /* of struct tls_factory */
    struct mz_transport_factory
        *made; /* lazy: what all threads have or will get; NULL: nobody connected. Secrets' lock */
    uint64_t generation; /* of the secrets that it is made of; the same lock */
    struct mz_scope
        *ssl_scope; /* lazy: its statistics are shown once it could be made; NULL before */
    struct secret_user *users;
    size_t n_users, n_certs;
    struct secret_user *validation, *tickets; /* among users; NULL: not by SDS */
    struct mz_init_target target;
    size_t unanswered; /* users whose first answer is awaited */
    struct mz_str *alpn;
    size_t n_alpn;
};

static struct sds_factory *sds_of(const struct mz_transport_factory *f)
{
    return (struct sds_factory *)(uintptr_t)f;
}

/* ---- a connection before the secrets are there ---- */

static enum mz_io_status refuse_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    (void)t, (void)in, (void)max;
    return MZ_IO_FAIL;
}

static enum mz_io_status refuse_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    (void)t, (void)out, (void)end;
    return MZ_IO_FAIL;
}

static bool refuse_ready(const struct mz_transport *t)
{
    (void)t;
    return false;
}

static struct mz_str refuse_failure(const struct mz_transport *t)
{
    (void)t;
    return MZ_STR("TLS error: Secret is not supplied by SDS");
}

static void refuse_destroy(struct mz_transport *t)
{
    mz_free(MZ_MEM_TLS, t);
}

static const struct mz_transport_ops refuse_ops = { .name = "tls",
                                                    .read = refuse_read,
                                                    .write = refuse_write,
                                                    .ready = refuse_ready,
                                                    .failure = refuse_failure,
                                                    .destroy = refuse_destroy };

static const struct mz_transport_factory *first_use(struct sds_factory *f);

static struct mz_transport *sds_transport_create(const struct mz_transport_factory *base,
                                                 const struct mz_transport_opts *o)
{
    struct sds_factory *f = sds_of(base);
    const struct mz_transport_factory *now = mz_thread_slot_get(f->current);
    if (MZ_UNLIKELY(!now && f->lazy))
        now = first_use(f);
    if (MZ_LIKELY(now != NULL))
        return now->create(now, o);
    mz_count(f->scope, f->server ? MZ_SDS_DOWN_NOT_READY : MZ_SDS_UP_NOT_READY, 1);
    struct mz_transport *t = mz_new0(MZ_MEM_TLS, struct mz_transport);
    t->ops = &refuse_ops;
    return t;
}

/* ---- building the context with what the secrets are now ---- */

static bool all_there(const struct sds_factory *f)
{
    for (size_t i = 0; i < f->n_users; i++)
        if (!secret_there(&f->users[i]))
            return false;
    return true;
}

static void certificates_put(struct sds_factory *f, pb_CommonTlsContext *c, struct mz_arena *a)
{
    c->tls_certificates = mz_arena_alloc0(a, (f->n_certs + 1) * sizeof(*c->tls_certificates));
    c->n_tls_certificates = 0;
    c->n_tls_certificate_sds_secret_configs = 0;
    for (size_t i = 0; i < f->n_certs; i++) {
        const pb_Secret *s = secret_message(&f->users[i], a);
        if (s)
            c->tls_certificates[c->n_tls_certificates++] = s->tls_certificate;
    }
}

/* The context's own default, with what the secret says on top. */
static void validation_put(struct sds_factory *f, pb_CommonTlsContext *c, struct mz_arena *a)
{
    const pb_Secret *s = secret_message(f->validation, a);
    pb_CertificateValidationContext *v = s ? s->validation_context : NULL;
    if (c->validation_context_type_case ==
            pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT &&
        c->combined_validation_context->default_validation_context) {
        pb_CertificateValidationContext *own =
            c->combined_validation_context->default_validation_context;
        if (v)
            mz_msg_merge(&own->base, &v->base, a);
        v = own;
    }
    c->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
    c->validation_context = v;
}

static struct mz_transport_factory *server_make(struct sds_factory *f, pb_DownstreamTlsContext *m,
                                                const struct mz_tls_env *env, struct mz_arena *a,
                                                struct mz_err *err)
{
    if (f->tickets) {
        const pb_Secret *s = secret_message(f->tickets, a);
        m->session_ticket_keys_type_case =
            pb_DownstreamTlsContext_SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS;
        m->session_ticket_keys = s ? s->session_ticket_keys : NULL;
    }
    return mz_tls_downstream_create(m, env, err);
}

static const struct mz_str *cert_names(const struct sds_factory *f, struct mz_arena *a)
{
    struct mz_str *v = mz_arena_alloc(a, (f->n_certs + 1) * sizeof(*v));
    for (size_t i = 0; i < f->n_certs; i++)
        v[i] = secret_name(&f->users[i]);
    return v;
}

static struct mz_transport_factory *make(struct sds_factory *f, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    const struct mz_tls_env env = { .stats = f->stats,
                                    .prefix = f->prefix,
                                    .cert_names = cert_names(f, a),
                                    .n_cert_names = f->n_certs,
                                    .ca_name =
                                        f->validation ? secret_name(f->validation) : MZ_STR("") };
    struct mz_transport_factory *made = NULL;
    ProtobufCMessage *m;
    if (mz_msg_unpack(&ctx, f->context,
                      f->server ? &pb_DownstreamTlsContext__descriptor
                                : &pb_UpstreamTlsContext__descriptor,
                      &m, err)) {
        pb_CommonTlsContext *c = f->server ? ((pb_DownstreamTlsContext *)m)->common_tls_context
                                           : ((pb_UpstreamTlsContext *)m)->common_tls_context;
        if (f->n_certs)
            certificates_put(f, c, a);
        if (f->validation)
            validation_put(f, c, a);
        made = f->server ? server_make(f, (pb_DownstreamTlsContext *)m, &env, a, err)
                         : mz_tls_upstream_create((pb_UpstreamTlsContext *)m, &env, err);
    }
    mz_arena_destroy(a);
    return made;
}

/* Of a connecting thread; NULL: the secrets are not there, or no longer what they were when they were taken (files). */
static const struct mz_transport_factory *first_use(struct sds_factory *f)
{
    struct mz_transport_factory *got = NULL;
    while (!got) {
        struct mz_err err;
        char text[400];
        secrets_lock(f->secrets);
        uint64_t generation = f->generation;
        got = f->made ? mz_transport_factory_ref(f->made) : NULL;
        secrets_unlock(f->secrets);
        if (got)
            break;
        if (!all_there(f))
            return NULL;
        struct mz_transport_factory *made = make(f, &err);
        if (!made) {
            MZ_LOG(WARN, secret, MZ_STR_FMT "ssl: %s", MZ_STR_ARG(f->prefix),
                   mz_err_text(&err, text, sizeof(text)));
            return NULL;
        }
        secrets_lock(f->secrets);
        if (!f->made &&
            generation == f->generation) /* neither another thread nor main was faster */
            f->made = mz_transport_factory_ref(made);
        secrets_unlock(f->secrets);
        mz_transport_factory_unref(made);
    }
    mz_thread_slot_put(f->current, got);
    return got;
}

/* Main thread: is there anything that has to be made anew? What is to be made later is of the new secrets from now on. */
static bool in_use(struct sds_factory *f)
{
    secrets_lock(f->secrets);
    f->generation++;
    bool made = f->made != NULL;
    secrets_unlock(f->secrets);
    return made || !f->lazy;
}

static void publish(struct sds_factory *f, struct mz_transport_factory *take)
{
    struct mz_transport_factory *old = NULL;
    if (f->lazy) {
        secrets_lock(f->secrets);
        old = f->made;
        f->made = mz_transport_factory_ref(take);
        secrets_unlock(f->secrets);
    }
    mz_transport_factory_unref(old);
    mz_thread_slot_set(f->current, take);
}

static struct mz_scope *ssl_scope(const struct sds_factory *f)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct mz_str parts[] = { f->prefix, MZ_STR("ssl.") };
    struct mz_scope *s =
        mz_scope_create(f->stats, &mz_tls_stats, mz_arena_cat(a, MZ_COUNT(parts), parts));
    mz_arena_destroy(a);
    return s;
}

static bool changed(void *arg, struct mz_err *err)
{
    struct sds_factory *f = arg;
    if (!all_there(f))
        return true;
    bool used = in_use(f), *untried = secrets_untried(f->secrets);
    bool tries =
        used || *untried; /* of contexts that nobody uses one tries a secret for all of them */
    struct mz_transport_factory *made = tries ? make(f, err) : NULL;
    if (tries && !made)
        return false;
    *untried = false;
    if (f->lazy && !f->ssl_scope)
        f->ssl_scope = ssl_scope(f);
    if (used)
        publish(f, made);
    else
        mz_transport_factory_unref(made);
    mz_count(f->scope, MZ_SDS_UPDATED, 1);
    return true;
}

static void first(void *arg)
{
    struct sds_factory *f = arg;
    if (f->unanswered && --f->unanswered == 0)
        mz_init_ready(&f->target);
}

/* ---- life ---- */

static void factory_ref(const void *p)
{
    (void)mz_transport_factory_ref(p);
}

static void factory_unref(const void *p)
{
    mz_transport_factory_unref((struct mz_transport_factory *)(uintptr_t)p);
}

static const struct mz_shared_ops factory_ops = { factory_ref, factory_unref };

static void destroy_on_main(struct mz_loop *l, void *arg)
{
    (void)l;
    struct sds_factory *f = arg;
    for (size_t i = 0; i < f->n_users; i++)
        secret_drop(&f->users[i]);
    mz_init_remove(&f->target);
    mz_thread_slot_unref(f->current);
    mz_transport_factory_unref(f->made);
    mz_scope_unref(f->ssl_scope);
    mz_scope_unref(f->scope);
    mz_arena_destroy(f->arena);
}

static void sds_factory_destroy(struct mz_transport_factory *base)
{
    struct sds_factory *f = sds_of(base);
    struct mz_loop *main = secrets_loop(f->secrets);
    if (mz_loop_here(main))
        destroy_on_main(main, f);
    else
        mz_loop_post(main, destroy_on_main, f);
}

bool context_names_secrets(const pb_CommonTlsContext *m)
{
    return m &&
           (m->n_tls_certificate_sds_secret_configs ||
            m->validation_context_type_case ==
                pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG ||
            m->validation_context_type_case ==
                pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT);
}

static bool use(struct sds_factory *f, const pb_SdsSecretConfig *m, enum secret_kind kind,
                struct mz_err *err)
{
    struct secret_user *u = &f->users[f->n_users];
    *u = (struct secret_user){ .changed = changed, .first = first, .arg = f };
    if (!secret_use(f->secrets, m, kind, u, err))
        return false;
    f->n_users++;
    f->lazy = !f->server && (f->lazy || secret_is_dynamic(u));
    return true;
}

static bool use_common(struct sds_factory *f, const pb_CommonTlsContext *m, struct mz_err *err)
{
    size_t n = m->n_tls_certificate_sds_secret_configs;
    if (n && m->n_tls_certificates)
        return mz_err_set(err, "tls_certificates and tls_certificate_sds_secret_configs exclude "
                               "each other");
    f->users = mz_arena_alloc0(f->arena, (n + 2) * sizeof(*f->users));
    for (size_t i = 0; i < n; i++)
        if (!use(f, m->tls_certificate_sds_secret_configs[i], SECRET_CERTIFICATE, err))
            return mz_err_at(err, "tls_certificate_sds_secret_configs[%zu]", i);
    f->n_certs = n;
    const pb_SdsSecretConfig *v = NULL;
    if (m->validation_context_type_case ==
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG)
        v = m->validation_context_sds_secret_config;
    else if (m->validation_context_type_case ==
             pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT)
        v = m->combined_validation_context->validation_context_sds_secret_config;
    if (!v)
        return true;
    if (!use(f, v, SECRET_VALIDATION, err))
        return mz_err_at(err, "validation_context_sds_secret_config");
    f->validation = &f->users[f->n_users - 1];
    return true;
}

static bool use_tickets(struct sds_factory *f, const ProtobufCMessage *m, struct mz_err *err)
{
    const pb_DownstreamTlsContext *d = (const pb_DownstreamTlsContext *)m;
    if (!f->server ||
        d->session_ticket_keys_type_case !=
            pb_DownstreamTlsContext_SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS_SDS_SECRET_CONFIG)
        return true;
    if (!use(f, d->session_ticket_keys_sds_secret_config, SECRET_TICKETS, err))
        return mz_err_at(err, "session_ticket_keys_sds_secret_config");
    f->tickets = &f->users[f->n_users - 1];
    return true;
}

static void want_all(void *arg)
{
    struct sds_factory *f = arg;
    f->unanswered = f->n_users + 1;
    for (size_t i = 0; i < f->n_users; i++)
        secret_want(&f->users[i]);
    first(f); /* our own count: the loop is through */
}

static void alpn_keep(struct sds_factory *f, const pb_CommonTlsContext *m)
{
    f->alpn = mz_arena_alloc0(f->arena, (m->n_alpn_protocols + 1) * sizeof(*f->alpn));
    for (; f->n_alpn < m->n_alpn_protocols; f->n_alpn++)
        f->alpn[f->n_alpn] = mz_arena_dup(f->arena, mz_str_c(m->alpn_protocols[f->n_alpn]));
}

/* One of Envoy's targets for each secret. */
static struct mz_str init_name(const struct sds_factory *f)
{
    struct mz_str all = MZ_STR("");
    for (size_t i = 0; i < f->n_users; i++) {
        struct mz_str parts[] = { all, i ? MZ_STR("\n") : MZ_STR(""),
                                  MZ_STR("shared target SdsApi "), secret_name(&f->users[i]) };
        all = mz_arena_cat(f->arena, MZ_COUNT(parts), parts);
    }
    return all;
}

struct mz_transport_factory *sds_factory_create(const ProtobufCMessage *context, bool server,
                                                const struct mz_tls_env *env, struct mz_err *err)
{
    const pb_CommonTlsContext *c =
        server ? ((const pb_DownstreamTlsContext *)context)->common_tls_context
               : ((const pb_UpstreamTlsContext *)context)->common_tls_context;
    if (!env->secrets) {
        mz_err_set(err, "secrets by subscription cannot be used here");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct sds_factory *f = mz_arena_new0(a, struct sds_factory);
    f->base = (struct mz_transport_factory){ .name = "tls",
                                             .secure = true,
                                             .uses = server ? 0 : MZ_TRANSPORT_USES_NAMES,
                                             .create = sds_transport_create,
                                             .destroy = sds_factory_destroy,
                                             .refs = 1 };
    f->arena = a;
    f->server = server;
    f->secrets = env->secrets;
    f->stats = env->stats;
    f->prefix = mz_arena_dup(a, env->prefix);
    f->context = mz_msg_pack_alloc(context, a);
    f->current = mz_thread_slot_create(secrets_xds(env->secrets), &factory_ops);
    f->scope = sds_scope(env, server);
    alpn_keep(f, c);
    *secrets_untried(f->secrets) =
        true; /* what the context says beside its secrets is tried now, too */
    bool ok = (use_common(f, c, err) || mz_err_at(err, "common_tls_context")) &&
              use_tickets(f, context, err) && changed(f, err);
    if (!ok) {
        sds_factory_destroy(&f->base);
        return NULL;
    }
    f->target = (struct mz_init_target){ .name = init_name(f), .start = want_all, .arg = f };
    if (env->init)
        mz_init_add(env->init, &f->target);
    else
        want_all(f);
    return &f->base;
}

size_t sds_factory_alpn(const struct mz_transport_factory *f, const struct mz_str **out_protocols)
{
    if (f->create != sds_transport_create)
        return 0;
    *out_protocols = sds_of(f)->alpn;
    return sds_of(f)->n_alpn;
}
