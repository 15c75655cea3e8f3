#include "tls/secrets_priv.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/vec.h"
#include "proto/data_source.h"
#include "xds/file_watch.h"
#include "xds/subscription.h"

static const struct mz_stat_def stat_defs[] = { { "key_rotation_failed", MZ_COUNTER, MZ_UNIT_NONE,
                                                  0 } };
static const struct mz_stat_kind stat_kind = { "sds", stat_defs, 1 };

struct secret {
    struct mz_secrets *all;
    struct mz_str key, name; /* behind the struct */
    bool dynamic, started, first_done;
    struct mz_subscription *sub;
    struct mz_scope *scope;
    struct mz_list users;
    char *bytes; /* the Secret message; NULL: not there */
    size_t bytes_n;
    char *version;
    uint64_t updated_wall_us;
    MZ_VEC(struct mz_file_watch *) watches;
    uint64_t files_hash;
};
struct mz_secrets {
    pthread_mutex_t
        lock; /* bytes of secrets, what contexts that use them are made of: any thread, rarely */
    bool untried; /* main thread: secrets_untried() */
    struct mz_xds *xds;
    struct mz_stats *stats;
    struct mz_loop *main;
    struct mz_file_watches *files;
    struct mz_map fixed, dynamic; /* by name; by the packed SdsSecretConfig */
};

struct mz_secrets *mz_secrets_create(struct mz_xds *x, struct mz_stats *st, struct mz_loop *main)
{
    struct mz_secrets *s = mz_new0(MZ_MEM_TLS, struct mz_secrets);
    *s = (struct mz_secrets){ .xds = x, .stats = st, .main = main };
    (void)pthread_mutex_init(&s->lock, NULL);
    s->files = mz_file_watches_create(main);
    mz_map_init(&s->fixed, MZ_MEM_TLS);
    mz_map_init(&s->dynamic, MZ_MEM_TLS);
    return s;
}

struct mz_xds *secrets_xds(const struct mz_secrets *s)
{
    return s->xds;
}

struct mz_loop *secrets_loop(const struct mz_secrets *s)
{
    return s->main;
}

void secrets_lock(struct mz_secrets *s)
{
    (void)pthread_mutex_lock(&s->lock);
}

void secrets_unlock(struct mz_secrets *s)
{
    (void)pthread_mutex_unlock(&s->lock);
}

bool *secrets_untried(struct mz_secrets *s)
{
    return &s->untried;
}

static struct secret *secret_create(struct mz_secrets *all, struct mz_str key, struct mz_str name)
{
    struct secret *s = mz_alloc0(MZ_MEM_TLS, sizeof(*s) + key.n + name.n);
    char *at = (char *)(s + 1);
    s->all = all;
    mz_list_init(&s->users);
    s->key = (struct mz_str){ at, key.n };
    s->name = (struct mz_str){ at + key.n, name.n };
    if (key.n)
        memcpy(at, key.p, key.n);
    if (name.n)
        memcpy(at + key.n, name.p, name.n);
    return s;
}

static void bytes_free(char *bytes, size_t n)
{
    if (bytes)
        OPENSSL_cleanse(bytes, n); /* a private key may be in it */
    mz_free(MZ_MEM_TLS, bytes);
}

static void watches_end(struct secret *s)
{
    for (size_t i = 0; i < s->watches.n; i++)
        mz_file_watch_end(s->watches.v[i]);
    mz_vec_free(&s->watches, MZ_MEM_TLS);
}

static void secret_destroy(struct secret *s)
{
    mz_subscription_end(s->sub);
    watches_end(s);
    mz_scope_unref(s->scope);
    bytes_free(s->bytes, s->bytes_n);
    mz_free(MZ_MEM_TLS, s->version);
    mz_free(MZ_MEM_TLS, s);
}

void mz_secrets_destroy(struct mz_secrets *s)
{
    if (!s)
        return;
    mz_map_foreach (it, &s->fixed)
        secret_destroy(it->value);
    mz_map_foreach (it, &s->dynamic)
        secret_destroy(it->value);
    mz_map_fini(&s->fixed);
    mz_map_fini(&s->dynamic);
    mz_file_watches_destroy(s->files);
    (void)pthread_mutex_destroy(&s->lock);
    mz_free(MZ_MEM_TLS, s);
}

/* ---- what a secret is now ---- */

static const pb_Secret *open_bytes(struct mz_str bytes, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *m;
    struct mz_err err;
    return bytes.p && mz_msg_unpack(&ctx, bytes, &pb_Secret__descriptor, &m, &err)
               ? (const pb_Secret *)m
               : NULL;
}

const pb_Secret *secret_message(const struct secret_user *u, struct mz_arena *a)
{
    secrets_lock(u->secret->all);
    const pb_Secret *m = open_bytes((struct mz_str){ u->secret->bytes, u->secret->bytes_n }, a);
    secrets_unlock(u->secret->all);
    return m;
}

struct mz_str secret_name(const struct secret_user *u)
{
    return u->secret->name;
}

bool secret_is_dynamic(const struct secret_user *u)
{
    return u->secret->dynamic;
}

bool secret_there(const struct secret_user *u)
{
    return __atomic_load_n(&u->secret->bytes, __ATOMIC_ACQUIRE) != NULL;
}

static void bytes_set(struct secret *s, char *take, size_t n)
{
    secrets_lock(s->all);
    __atomic_store_n(&s->bytes, take, __ATOMIC_RELEASE);
    s->bytes_n = n;
    secrets_unlock(s->all);
}

static bool tell_users(struct secret *s, struct mz_err *err)
{
    bool ok = true;
    s->all->untried = true;
    mz_list_foreach (it, &s->users) {
        struct secret_user *u = MZ_CONTAINER(it, struct secret_user, link);
        if (ok)
            ok = u->changed(u->arg, err);
    }
    return ok;
}

/* ---- files that it names ---- */

struct names { /* of files */
    const pb_DataSource *v[8];
    size_t n;
};

static void name_add(struct names *l, const pb_DataSource *d)
{
    if (d && d->specifier_case == pb_DataSource_SPECIFIER_FILENAME && l->n < MZ_COUNT(l->v))
        l->v[l->n++] = d;
}

static struct names files_of(const pb_Secret *m)
{
    struct names l = { .n = 0 };
    if (m && m->type_case == pb_Secret_TYPE_TLS_CERTIFICATE) {
        name_add(&l, m->tls_certificate->certificate_chain);
        name_add(&l, m->tls_certificate->private_key);
        name_add(&l, m->tls_certificate->pkcs12);
        name_add(&l, m->tls_certificate->password);
        name_add(&l, m->tls_certificate->ocsp_staple);
    } else if (m && m->type_case == pb_Secret_TYPE_VALIDATION_CONTEXT) {
        name_add(&l, m->validation_context->trusted_ca);
        name_add(&l, m->validation_context->crl);
    }
    return l;
}

static uint64_t hash_files(const struct names *l)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    uint64_t hash = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct mz_str text;
        struct mz_err err;
        if (!mz_data_source_read(l->v[i], 1u << 20, a, &text, &err))
            continue;
        hash = mz_xxh64(text.p, text.n, hash + i);
        if (text.n)
            OPENSSL_cleanse((void *)(uintptr_t)text.p, text.n);
    }
    mz_arena_destroy(a);
    return hash;
}

static void files_moved(void *arg)
{
    struct secret *s = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    const struct names l = files_of(open_bytes((struct mz_str){ s->bytes, s->bytes_n }, a));
    uint64_t hash = hash_files(&l);
    mz_arena_destroy(a);
    if (hash == s->files_hash)
        return;
    struct mz_err err;
    char text[1600];
    s->files_hash = hash;
    if (tell_users(s, &err))
        return;
    mz_count(s->scope, 0, 1);
    MZ_LOG(WARN, secret, "secret " MZ_STR_FMT ": its files changed, but: %s", MZ_STR_ARG(s->name),
           mz_err_text(&err, text, sizeof(text)));
}

static const char *directory_of(const pb_Secret *m)
{
    const pb_WatchedDirectory *d = NULL;
    if (m && m->type_case == pb_Secret_TYPE_TLS_CERTIFICATE)
        d = m->tls_certificate->watched_directory;
    else if (m && m->type_case == pb_Secret_TYPE_VALIDATION_CONTEXT)
        d = m->validation_context->watched_directory;
    return d ? d->path : NULL;
}

static void watch(struct secret *s, struct mz_str dir)
{
    struct mz_err err;
    struct mz_file_watch *w = mz_file_watch_add(s->all->files, dir, files_moved, s, &err);
    if (w)
        *mz_vec_push(&s->watches, MZ_MEM_TLS) = w;
    else
        MZ_LOG(WARN, secret, "secret " MZ_STR_FMT ": %s", MZ_STR_ARG(s->name), err.msg);
}

/* The directory of each file, for a ConfigMap or Secret changes by a link beside them; or the one that the secret names. */
static void files_watch(struct secret *s)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    const pb_Secret *m = open_bytes((struct mz_str){ s->bytes, s->bytes_n }, a);
    const struct names l = files_of(m);
    const char *named = directory_of(m);
    watches_end(s);
    s->files_hash = hash_files(&l);
    if (named && l.n)
        watch(s, mz_arena_printf(a, "%s/", named));
    for (size_t i = 0; i < l.n && !named; i++) {
        struct mz_str path = mz_str_c(l.v[i]->filename);
        ptrdiff_t slash = mz_str_rchr(path, '/');
        watch(s, slash < 0 ? MZ_STR("./") : (struct mz_str){ path.p, (size_t)slash + 1 });
    }
    mz_arena_destroy(a);
}

/* ---- updates ---- */

static bool kind_fits(const struct secret *s, const pb_Secret *m, struct mz_err *err)
{
    static const unsigned cases[] = { pb_Secret_TYPE_TLS_CERTIFICATE,
                                      pb_Secret_TYPE_VALIDATION_CONTEXT,
                                      pb_Secret_TYPE_SESSION_TICKET_KEYS };
    static const char *const words[] = { "tls_certificate", "validation_context",
                                         "session_ticket_keys" };
    mz_list_foreach (it, &((struct secret *)(uintptr_t)s)->users) {
        enum secret_kind k = MZ_CONTAINER(it, struct secret_user, link)->kind;
        if ((unsigned)m->type_case != cases[k])
            return mz_err_set(err, "a %s is expected", words[k]);
    }
    return true;
}

static bool take(struct secret *s, const struct mz_resource *r, struct mz_err *err)
{
    char *old = s->bytes;
    size_t old_n = s->bytes_n;
    bytes_set(s, mz_strndup(MZ_MEM_TLS, r->bytes.p ? r->bytes.p : "", r->bytes.n), r->bytes.n);
    if (!tell_users(s, err)) {
        struct mz_err again;
        char *refused = s->bytes;
        bytes_set(s, old, old_n);
        bytes_free(refused, r->bytes.n);
        if (old)
            (void)tell_users(s, &again); /* those that had taken it go back */
        return false;
    }
    bytes_free(old, old_n);
    mz_free(MZ_MEM_TLS, s->version);
    s->version = mz_strndup(MZ_MEM_TLS, r->version.n ? r->version.p : "", r->version.n);
    s->updated_wall_us = mz_clock->wall_us();
    files_watch(s);
    return true;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct secret *s = arg;
    if (u->n == 0)
        return u->n_removed != 0 || /* what runs goes on (Envoy) */
               mz_err_set(err, "Missing SDS resources for " MZ_STR_FMT " in onConfigUpdate()",
                          MZ_STR_ARG(s->name));
    const struct mz_resource *r = &u->v[0];
    if (!mz_str_eq(r->name, s->name))
        return mz_err_set(err, "Unexpected SDS secret (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                          MZ_STR_ARG(s->name), MZ_STR_ARG(r->name));
    if (s->bytes && mz_str_eq(r->bytes, (struct mz_str){ s->bytes, s->bytes_n }))
        return true;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_TLS) };
    ProtobufCMessage *m;
    bool ok = mz_resource_open(s->all->xds, r, MZ_XDS_SECRET, &ctx, &m, err) &&
              kind_fits(s, (const pb_Secret *)m, err) && take(s, r, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void first(void *arg)
{
    struct secret *s = arg;
    s->first_done = true;
    mz_list_foreach (it, &s->users) {
        struct secret_user *u = MZ_CONTAINER(it, struct secret_user, link);
        u->first(u->arg);
    }
}

/* ---- users ---- */

static struct secret *subscribe(struct mz_secrets *all, const pb_SdsSecretConfig *m,
                                struct mz_str key, struct mz_err *err)
{
    struct secret *s = secret_create(all, key, mz_str_c(m->name));
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct mz_str parts[] = { MZ_STR("sds."), s->name, MZ_STR(".") };
    struct mz_str prefix = mz_arena_cat(a, MZ_COUNT(parts), parts);
    const struct mz_subscriber who = { update, first, s, NULL, NULL };
    s->dynamic = true;
    s->sub = mz_subscribe(all->xds, m->sds_config, MZ_XDS_SECRET, s->name, prefix, &who, err);
    if (s->sub) {
        s->scope = mz_scope_create(all->stats, &stat_kind, prefix);
        (void)mz_map_put(&all->dynamic, s->key, s);
    } else {
        mz_err_at(err, "sds_config");
        secret_destroy(s);
        s = NULL;
    }
    mz_arena_destroy(a);
    return s;
}

bool secret_use(struct mz_secrets *all, const pb_SdsSecretConfig *m, enum secret_kind kind,
                struct secret_user *u, struct mz_err *err)
{
    struct secret *s;
    if (!m->name[0])
        return mz_err_set(err, "must have at least 1 character") || mz_err_at(err, "name");
    if (m->sds_config) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
        struct mz_str key = mz_msg_pack_alloc(&m->base, a);
        s = mz_map_get(&all->dynamic, key);
        if (!s)
            s = subscribe(all, m, key, err);
        mz_arena_destroy(a);
    } else {
        s = mz_map_get(&all->fixed, mz_str_c(m->name));
        if (!s)
            mz_err_set(err, "Unknown static secret: %s", m->name);
    }
    if (!s)
        return false;
    u->kind = kind;
    u->secret = s;
    mz_list_add_tail(&s->users, &u->link);
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    const pb_Secret *now = secret_message(u, a);
    bool ok = !now || kind_fits(s, now, err);
    mz_arena_destroy(a);
    if (!ok)
        secret_drop(u);
    return ok;
}

void secret_want(struct secret_user *u)
{
    struct secret *s = u->secret;
    if (s->first_done || !s->dynamic) {
        u->first(u->arg);
    } else if (!s->started) {
        s->started = true;
        mz_subscription_start(s->sub);
    }
}

void secret_drop(struct secret_user *u)
{
    struct secret *s = u->secret;
    if (!s)
        return;
    u->secret = NULL;
    mz_list_del(&u->link);
    if (!s->dynamic || !mz_list_empty(&s->users))
        return;
    (void)mz_map_del(&s->all->dynamic, s->key);
    secret_destroy(s);
}

bool mz_secrets_add(struct mz_secrets *all, const pb_Secret *m, struct mz_err *err)
{
    if (mz_map_get(&all->fixed, mz_str_c(m->name)))
        return mz_err_set(err, "Duplicate static secret name %s", m->name);
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct secret *s = secret_create(all, MZ_STR(""), mz_str_c(m->name));
    struct mz_str bytes = mz_msg_pack_alloc(&m->base, a);
    s->bytes = mz_strndup(MZ_MEM_TLS, bytes.p, bytes.n);
    s->bytes_n = bytes.n;
    s->updated_wall_us = mz_clock->wall_us();
    OPENSSL_cleanse((void *)(uintptr_t)bytes.p, bytes.n);
    mz_arena_destroy(a);
    (void)mz_map_put(&all->fixed, s->name, s);
    return true;
}

static void show(const struct secret *s, void (*fn)(void *arg, const struct mz_secret_shown *v),
                 void *arg)
{
    const struct mz_secret_shown v = {
        s->name, mz_str_c(s->version), { s->bytes, s->bytes_n }, s->updated_wall_us, s->dynamic
    };
    fn(arg, &v);
}

void mz_secrets_each(struct mz_secrets *s, void (*fn)(void *arg, const struct mz_secret_shown *v),
                     void *arg)
{
    mz_map_foreach (it, &s->fixed)
        show(it->value, fn, arg);
    mz_map_foreach (it, &s->dynamic)
        show(it->value, fn, arg);
}
