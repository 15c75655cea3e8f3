/*
 * Keys of a provider. Fixed ones come with the configuration; remote ones are fetched by the worker that needs them, shared with the
 * others, and fetched again when they are older than cache_duration (Envoy). A fetch that fails fails those who wait for it.
 */
#include "filters/http/jwt_authn.h"

#include "base/log.h"
#include "http/url.h"
#include "router/async.h"

#include <pthread.h>

#define CACHE_US (600ull * 1000000) /* Envoy's default */

struct slot { /* a worker's: touched on its thread only */
    struct jwt_keys *keys;
    struct mz_jwks *set; /* NULL: none yet */
    uint64_t seen;       /* keys->stamp, when these were taken */
    uint64_t version, expire_us;
    struct mz_async *fetch; /* NULL: none is on its way; holds a reference to keys */
    struct mz_loop *loop;   /* of that */
    struct mz_list waiters;
};
struct jwt_keys {
    unsigned refs;          /* atomic */
    struct mz_arena *arena; /* holds everything, this struct too */
    struct mz_jwks *fixed;
    /* remote */
    bool remote;
    struct mz_str name, uri, cluster, authority, scheme, path;
    uint64_t timeout_ms, cache_us;
    const struct mz_retry_policy *retry;
    struct mz_scope *scope;
    struct slot *slots;
    unsigned n_slots;
    /* What was fetched last, by whom ever. Locked only when the stamp tells that there is something new. */
    pthread_mutex_t lock;
    struct mz_jwks *newest;
    uint64_t newest_expire_us, newest_hash; /* of its text: the same keys keep their version */
    uint64_t newest_version;
    uint64_t stamp; /* atomic: another with each fetch that succeeded */
    bool failing;   /* atomic: so the log says */
};

/* ---- the object ---- */

static struct jwt_keys *keys_new(void)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct jwt_keys *k = mz_arena_new0(a, struct jwt_keys);
    k->arena = a;
    k->refs = 1;
    (void)pthread_mutex_init(&k->lock, NULL);
    return k;
}

struct jwt_keys *jwt_keys_create(struct mz_jwks *take)
{
    struct jwt_keys *k = keys_new();
    k->fixed = take;
    return k;
}

struct jwt_keys *jwt_keys_ref(struct jwt_keys *k)
{
    __atomic_fetch_add(&k->refs, 1, __ATOMIC_RELAXED);
    return k;
}

void jwt_keys_unref(struct jwt_keys *k)
{
    if (!k || __atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    for (unsigned i = 0; i < k->n_slots; i++)
        mz_jwks_unref(k->slots[i].set);
    mz_jwks_unref(k->newest);
    mz_jwks_unref(k->fixed);
    if (k->scope)
        mz_scope_unref(k->scope);
    (void)pthread_mutex_destroy(&k->lock);
    mz_arena_destroy(k->arena);
}

struct mz_str jwt_keys_name(const struct jwt_keys *k)
{
    return k->name;
}

uint64_t jwt_keys_lifetime_us(const struct jwt_keys *k)
{
    return k->cache_us;
}

static bool uri_build(struct jwt_keys *k, const pb_HttpUri *m, struct mz_err *err)
{
    struct mz_url u;
    k->uri = mz_arena_dup(k->arena, mz_str_c(m->uri));
    k->cluster = mz_arena_dup(k->arena, mz_str_c(m->cluster));
    k->name = mz_arena_printf(k->arena, "target Jwks async fetching url=%s", m->uri);
    if (!mz_url_parse(k->uri, &u)) {
        mz_err_set(err, "'%s' is no URI with scheme and host", m->uri);
        return mz_err_at(err, "uri");
    }
    k->scheme = u.scheme;
    k->authority = u.authority;
    ptrdiff_t hash = mz_str_chr(u.path, '#');
    if (hash >= 0)
        u.path.n = (size_t)hash;
    k->path = u.path.n && *u.path.p == '/'
                  ? u.path
                  : mz_arena_cat(k->arena, 2, (struct mz_str[]){ MZ_STR("/"), u.path });
    return mz_duration_ms(m->timeout, 0, &k->timeout_ms, err) || mz_err_at(err, "timeout");
}

static bool remote_build(struct jwt_keys *k, const pb_RemoteJwks *m, struct mz_err *err)
{
    if (!uri_build(k, m->http_uri, err))
        return mz_err_at(err, "http_uri");
    if (!mz_duration_us(m->cache_duration, CACHE_US, &k->cache_us, err))
        return mz_err_at(err, "cache_duration");
    if (!m->retry_policy)
        return true;
    k->retry = mz_retry_policy_core(m->retry_policy, "5xx,gateway-error,connect-failure,reset",
                                    k->arena, err);
    return k->retry || mz_err_at(err, "retry_policy");
}

struct jwt_keys *jwt_keys_create_remote(const pb_RemoteJwks *m, struct mz_scope *scope,
                                        unsigned n_slots, struct mz_err *err)
{
    struct jwt_keys *k = keys_new();
    k->remote = true;
    k->scope = mz_scope_ref(scope);
    k->slots = mz_arena_alloc0(k->arena, n_slots * sizeof(*k->slots));
    for (; k->n_slots < n_slots; k->n_slots++) {
        k->slots[k->n_slots].keys = k;
        mz_list_init(&k->slots[k->n_slots].waiters);
    }
    if (remote_build(k, m, err))
        return k;
    jwt_keys_unref(k);
    return NULL;
}

/* ---- what is at hand ---- */

static uint64_t later(uint64_t now_us, uint64_t us)
{
    return us > UINT64_MAX - now_us ? UINT64_MAX : now_us + us;
}

/* Takes over what another worker fetched. */
static void catch_up(struct slot *s)
{
    struct jwt_keys *k = s->keys;
    if (__atomic_load_n(&k->stamp, __ATOMIC_ACQUIRE) == s->seen)
        return;
    struct mz_jwks *old = s->set;
    (void)pthread_mutex_lock(&k->lock);
    s->set = mz_jwks_ref(k->newest);
    s->expire_us = k->newest_expire_us;
    s->version = k->newest_version;
    s->seen = k->stamp;
    (void)pthread_mutex_unlock(&k->lock);
    mz_jwks_unref(old);
}

static void publish(struct jwt_keys *k, struct mz_jwks *take, uint64_t hash, uint64_t expire_us)
{
    (void)pthread_mutex_lock(&k->lock);
    struct mz_jwks *old = k->newest;
    k->newest_version += !old || hash != k->newest_hash;
    k->newest = take;
    k->newest_hash = hash;
    k->newest_expire_us = expire_us;
    __atomic_store_n(&k->stamp, k->stamp + 1, __ATOMIC_RELEASE);
    (void)pthread_mutex_unlock(&k->lock);
    mz_jwks_unref(old);
}

const struct mz_jwks *jwt_keys_get(struct jwt_keys *k, const struct mz_worker *w,
                                   uint64_t *out_version)
{
    *out_version = 0;
    if (!k->remote)
        return k->fixed;
    struct slot *s = &k->slots[w->slot];
    catch_up(s);
    *out_version = s->version;
    return s->set && mz_loop_now_us(w->loop) < s->expire_us ? s->set : NULL;
}

/* ---- fetching ---- */

/* Why an answer has no keys; NULL: it has, in *out. */
static const char *answer_read(const struct mz_fetch_reply *r, struct mz_jwks **out,
                               uint64_t *out_hash)
{
    if (r->failure)
        return r->failure->details;
    if (r->too_large)
        return "the answer is too large";
    if (r->status != 200)
        return "the answer's status is not 200";
    size_t n = mz_buf_len(r->body);
    char *text = mz_alloc(MZ_MEM_CONFIG, n + 1);
    (void)mz_buf_copyout(r->body, 0, text, n);
    enum mz_jwt_status s = MZ_JWT_OK;
    *out = mz_jwks_create((struct mz_str){ text, n }, &s);
    *out_hash = mz_str_hash((struct mz_str){ text, n });
    mz_free(MZ_MEM_CONFIG, text);
    return *out ? NULL : mz_jwt_status_text(s);
}

/* One line when it begins to fail and one when it works again, however often it is tried. */
static void tell(struct jwt_keys *k, const char *why)
{
    if (__atomic_exchange_n(&k->failing, why != NULL, __ATOMIC_RELAXED) == (why != NULL))
        return;
    if (why)
        MZ_LOG(WARN, jwt, "no keys from " MZ_STR_FMT " (cluster " MZ_STR_FMT "): %s",
               MZ_STR_ARG(k->uri), MZ_STR_ARG(k->cluster), why);
    else
        MZ_LOG(INFO, jwt, "keys from " MZ_STR_FMT " again", MZ_STR_ARG(k->uri));
}

static void fetched(void *arg, const struct mz_fetch_reply *r)
{
    struct slot *s = arg;
    struct jwt_keys *k = s->keys;
    struct mz_jwks *set = NULL;
    uint64_t hash = 0;
    s->fetch = NULL;
    const char *why = answer_read(r, &set, &hash);
    tell(k, why);
    mz_count(k->scope, set ? JWT_FETCH_SUCCESS : JWT_FETCH_FAILED, 1);
    if (set)
        publish(k, set, hash, later(mz_loop_now_us(s->loop), k->cache_us));
    catch_up(s);
    struct mz_list ready; /* who asks for more from inside waits for the next fetch */
    mz_list_init(&ready);
    mz_list_foreach (it, &s->waiters) {
        mz_list_del(it);
        mz_list_add_tail(&ready, it);
    }
    while (!mz_list_empty(&ready)) {
        struct jwt_waiter *w = MZ_CONTAINER(ready.next, struct jwt_waiter, link);
        mz_list_del(&w->link);
        w->ready(w, set ? s->set : NULL, s->version);
    }
    jwt_keys_unref(k);
}

static void fetch_start(struct slot *s, const struct mz_worker *w)
{
    struct jwt_keys *k = s->keys;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_SCHEME, k->scheme);
    mz_headers_add_id(h, MZ_H_AUTHORITY, k->authority);
    mz_headers_add_id(h, MZ_H_PATH, k->path);
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("Go-browser"));
    const struct mz_async_opts o = { .timeout_ms = k->timeout_ms, .retry = k->retry };
    s->loop = w->loop;
    s->fetch =
        mz_fetch(w->upstream, jwt_keys_ref(k)->cluster, h, NULL, MZ_JWKS_MAX_BYTES, &o, fetched, s);
    mz_arena_destroy(a);
}

bool jwt_keys_wait(struct jwt_keys *k, const struct mz_worker *w, struct jwt_waiter *waiter)
{
    if (!k->remote)
        return false;
    struct slot *s = &k->slots[w->slot];
    mz_list_add_tail(&s->waiters, &waiter->link);
    if (!s->fetch)
        fetch_start(s, w);
    return true;
}

void jwt_waiter_cancel(struct jwt_waiter *waiter)
{
    mz_list_del(&waiter->link);
}
