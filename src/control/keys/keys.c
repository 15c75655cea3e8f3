#include "control/keys/keys.h"

#include "control/model/duration.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/model/attached.h"
#include "control/monitor/metrics.h"
#include "jwt/jwt.h"
#include "proto/node.h"
#include "web/fetch.h"

enum {
    COMMIT_MS = 20,
    MAX_ENTRIES = 1000,
    MAX_ACTIVE = 16, /* fetches at once */
    BUSY_MS = 100,
    MAX_BYTES = 256 << 10, /* of one set */
    FIRST_RETRY_MS = 1000,
    MAX_RETRY_MS = 60000, /* while there are none; then at most the refresh interval */
    TIMEOUT_MS = 5000,
};
#define KEPT_US (7ull * 24 * 3600 * 1000000)

struct entry { /* one place of keys */
    struct mz_keys *all;
    struct mz_str key;            /* behind the struct, as the next two */
    const char *issuer, *uri;     /* uri "": the issuer knows */
    uint64_t timeout_ms, good_us; /* wall clock of the last good answer; 0: never */
    struct mz_doc *doc;           /* NULL: no keys yet */
    struct mz_fetch *fetch;
    struct mz_timer next;
    unsigned failures;
    bool wanted,
        found_out; /* found_out: under way is the set itself, at what the issuer's configuration says */
};
struct mz_keys {
    struct mz_loop *loop;
    struct mz_store *store;
    struct mz_keys_opts o;
    struct mz_fetcher *fetcher;
    struct mz_map entries;
    size_t active;
    struct mz_timer commit;
    uint64_t fetched, failed;
};

/* ---- the store ---- */

static void on_commit(struct mz_timer *t)
{
    mz_store_commit(MZ_CONTAINER(t, struct mz_keys, commit)->store);
}

static void changed(struct mz_keys *k)
{
    if (!mz_timer_armed(&k->commit))
        mz_timer_start_ms(&k->commit, COMMIT_MS);
}

static void take_away(struct entry *e)
{
    if (!e->doc)
        return;
    mz_store_remove(e->all->store, e->doc->key);
    mz_doc_unref(e->doc);
    e->doc = NULL;
    changed(e->all);
}

static struct mz_str name_of(const struct entry *e, char out[33])
{
    const uint64_t h[] = { mz_xxh64(e->key.p, e->key.n, 1), mz_xxh64(e->key.p, e->key.n, 2) };
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
    return (struct mz_str){ out, 32 };
}

static bool are_keys(struct mz_str text)
{
    enum mz_jwt_status status;
    struct mz_jwks *set = memchr(text.p, 0, text.n) ? NULL : mz_jwks_create(text, &status);
    const bool good = set != NULL;
    mz_jwks_unref(set);
    return good;
}

static void put(struct entry *e, struct mz_str text)
{
    char name[33];
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    ist_JWTRule m = ist_JWTRule__INIT;
    k8s_ObjectMeta meta = k8s_ObjectMeta__INIT;
    meta.name = (char *)(uintptr_t)name_of(e, name).p;
    m.issuer = (char *)(uintptr_t)e->issuer;
    m.jwks_uri = (char *)(uintptr_t)e->uri;
    m.jwks = (char *)(uintptr_t)mz_arena_dup(a, text).p;
    struct mz_doc *d = mz_doc_create(MZ_KIND_KEYS, &meta, &m.base, MZ_STR(""), 0);
    mz_arena_destroy(a);
    if (e->doc && e->doc->version == d->version) {
        mz_doc_unref(d);
        return;
    }
    mz_doc_unref(e->doc);
    e->doc = d;
    mz_store_put(e->all->store, mz_doc_ref(d));
    changed(e->all);
}

/* ---- the last good answers, as files ---- */

static bool path_of(const struct entry *e, const char *more, char out[PATH_MAX])
{
    char name[33];
    const int n =
        snprintf(out, PATH_MAX, "%s/jwks-%s.json%s", e->all->o.dir, name_of(e, name).p, more);
    return n > 0 && n < PATH_MAX;
}

static void save(const struct entry *e, struct mz_str text)
{
    char to[PATH_MAX], beside[PATH_MAX];
    if (!e->all->o.dir || !path_of(e, "", to) || !path_of(e, ".new", beside))
        return;
    const int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool ok = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n;
    ok = fd >= 0 && close(fd) == 0 && ok;
    if (!ok || rename(beside, to) != 0)
        MZ_LOG(WARN, config, "keys of %.*s are not kept: %s: %s", MZ_STR_ARG(e->key), to,
               strerrordesc_np(errno));
}

/* Of an issuer that does not answer after a restart. */
static void load(struct entry *e)
{
    char from[PATH_MAX];
    struct stat st;
    if (!e->all->o.dir || !path_of(e, "", from))
        return;
    const int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    char *text = mz_alloc(MZ_MEM_CONFIG, MAX_BYTES);
    const ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, MAX_BYTES) : 0;
    const uint64_t then = n > 0 ? (uint64_t)st.st_mtim.tv_sec * 1000000 : 0;
    (void)close(fd); /* only read */
    if (n > 0 && then + KEPT_US > mz_clock->wall_us() &&
        are_keys((struct mz_str){ text, (size_t)n })) {
        e->good_us = then;
        put(e, (struct mz_str){ text, (size_t)n });
    }
    mz_free(MZ_MEM_CONFIG, text);
}

/* ---- fetching ---- */

static void get(struct entry *e, struct mz_str url);

static void again_after(struct entry *e, bool good)
{
    const uint64_t most = e->doc ? e->all->o.refresh_ms : MAX_RETRY_MS;
    uint64_t wait = e->all->o.refresh_ms;
    e->failures = good ? 0 : e->failures + 1;
    if (!good) {
        wait = (uint64_t)FIRST_RETRY_MS << (e->failures < 12 ? e->failures - 1 : 11);
        wait = wait < most ? wait : most;
    }
    mz_timer_start_ms(&e->next, wait);
}

static void failed(struct entry *e, const char *why)
{
    e->all->failed++;
    if (e->failures == 0 || (e->failures & (e->failures + 1)) == 0) /* ever more seldom */
        MZ_LOG(WARN, config, "keys of %.*s cannot be fetched: %s%s", MZ_STR_ARG(e->key), why,
               e->doc ? "; those that there are stay" : "; tokens are refused until they can");
    if (e->doc && e->good_us + KEPT_US < mz_clock->wall_us()) {
        MZ_LOG(WARN, config, "keys of %.*s are a week old: nobody uses them any more",
               MZ_STR_ARG(e->key));
        take_away(e);
    }
    again_after(e, false);
}

static void take_set(struct entry *e, struct mz_str text)
{
    if (!are_keys(text)) {
        failed(e, "the answer is no set of keys");
        return;
    }
    if (!e->doc || e->failures)
        MZ_LOG(INFO, config, "keys of %.*s are here", MZ_STR_ARG(e->key));
    e->all->fetched++;
    e->good_us = mz_clock->wall_us();
    put(e, text);
    save(e, text);
    again_after(e, true);
}

/* The issuer's OpenID configuration. */
static void take_configuration(struct entry *e, struct mz_str text)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_err err;
    const struct mz_node *n = mz_tree_read(a, text, MZ_TEXT_JSON, &err);
    const struct mz_str uri = n ? mz_node_text(n, "jwks_uri") : MZ_STR("");
    if (uri.n) {
        e->found_out = true;
        get(e, uri);
    } else {
        failed(e, "the issuer's configuration has no jwks_uri");
    }
    mz_arena_destroy(a);
}

static void on_fetched(void *arg, const char *why, struct mz_str body)
{
    struct entry *e = arg;
    e->fetch = NULL;
    e->all->active--;
    if (why)
        failed(e, why);
    else if (!e->uri[0] && !e->found_out)
        take_configuration(e, body);
    else
        take_set(e, body);
}

static void get(struct entry *e, struct mz_str url)
{
    e->all->active++;
    e->fetch = mz_fetch_start(e->all->fetcher, url, e->timeout_ms, on_fetched, e);
}

static void on_next(struct mz_timer *t)
{
    struct entry *e = MZ_CONTAINER(t, struct entry, next);
    char url[2100];
    if (e->all->active >= MAX_ACTIVE) {
        mz_timer_start_ms(&e->next, BUSY_MS);
        return;
    }
    e->found_out = false;
    struct mz_str issuer = mz_str_c(e->issuer);
    issuer.n -= mz_str_ends(issuer, MZ_STR("/"));
    if (e->uri[0]) {
        get(e, mz_str_c(e->uri));
        return;
    }
    const int n =
        snprintf(url, sizeof(url), "%.*s/.well-known/openid-configuration", MZ_STR_ARG(issuer));
    if (n > 0 && (size_t)n < sizeof(url))
        get(e, (struct mz_str){ url, (size_t)n });
    else
        failed(e, "the issuer's name is too long");
}

/* ---- which ones are wanted ---- */

static void entry_free(struct entry *e)
{
    if (e->fetch) {
        e->all->active--;
        mz_fetch_cancel(e->fetch);
    }
    mz_timer_stop(&e->next);
    mz_doc_unref(e->doc);
    mz_free(MZ_MEM_CONFIG, e);
}

static struct entry *entry_new(struct mz_keys *k, struct mz_str key, const ist_JWTRule *r)
{
    const size_t issuer = strlen(r->issuer) + 1, uri = strlen(r->jwks_uri) + 1;
    struct entry *e = mz_alloc0(MZ_MEM_CONFIG, sizeof(*e) + key.n + issuer + uri);
    char *at = (char *)(e + 1);
    e->all = k;
    e->key = (struct mz_str){ memcpy(at, key.p, key.n), key.n };
    e->issuer = memcpy(at + key.n, r->issuer, issuer);
    e->uri = memcpy(at + key.n + issuer, r->jwks_uri, uri);
    mz_timer_init(k->loop, &e->next, on_next);
    (void)mz_map_put(&k->entries, e->key, e);
    load(e);
    mz_timer_start_ms(&e->next, 0);
    return e;
}

static void want(struct mz_keys *k, const ist_JWTRule *r)
{
    const struct mz_str key = mz_str_c(r->jwks_uri[0] ? r->jwks_uri : r->issuer);
    struct mz_err err;
    uint64_t ms;
    if (r->jwks[0] || !key.n)
        return;
    struct entry *e = mz_map_get(&k->entries, key);
    if (!e && k->entries.n >= MAX_ENTRIES) {
        MZ_LOG(WARN, config, "keys of %.*s are not fetched: there are %d others", MZ_STR_ARG(key),
               MAX_ENTRIES);
        return;
    }
    if (!e)
        e = entry_new(k, key, r);
    e->wanted = true;
    e->timeout_ms = mz_duration_ms(r->timeout, TIMEOUT_MS, &ms, &err) && ms ? ms : TIMEOUT_MS;
}

static void forget_others(struct mz_keys *k)
{
    MZ_VEC(struct entry *) gone = { 0 };
    mz_map_foreach (it, &k->entries)
        if (!((struct entry *)it->value)->wanted)
            *mz_vec_push(&gone, MZ_MEM_CONFIG) = it->value;
    mz_vec_foreach (it, &gone) {
        (void)mz_map_del(&k->entries, (*it)->key);
        take_away(*it);
        entry_free(*it);
    }
    mz_vec_free(&gone, MZ_MEM_CONFIG);
}

void mz_keys_look(struct mz_keys *k, const struct mz_model *m)
{
    const struct mz_attached_list *list = &m->attached[MZ_KIND_REQUEST_AUTHENTICATION];
    if (k->o.off)
        return;
    mz_map_foreach (it, &k->entries)
        ((struct entry *)it->value)->wanted = false;
    for (size_t i = 0; i < list->n; i++) {
        const ist_RequestAuthentication *ra = (const ist_RequestAuthentication *)list->v[i].m;
        for (size_t j = 0; j < ra->n_jwt_rules; j++)
            want(k, ra->jwt_rules[j]);
    }
    forget_others(k);
}

/* ---- all of it ---- */

static uint64_t duration_or(const char *text, uint64_t otherwise)
{
    uint64_t ms = 0;
    return text && mz_duration_parse(mz_str_c(text), &ms) && ms ? ms : otherwise;
}

struct mz_keys_opts mz_keys_opts_from_env(const char *dir)
{
    const char *how = getenv("PILOT_JWT_ENABLE_REMOTE_JWKS"); /* before threads start */
    return (struct mz_keys_opts){
        .off = how && strcmp(how, "envoy") == 0,
        .refresh_ms = duration_or(getenv("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"), 20 * 60000),
        .blocked = getenv("BLOCKED_CIDRS_IN_JWKS_URIS"),
        .dir = dir,
    };
}

struct mz_keys *mz_keys_create(struct mz_loop *l, struct mz_store *s, const struct mz_keys_opts *o)
{
    struct mz_keys *k = mz_new0(MZ_MEM_CONFIG, struct mz_keys);
    const struct mz_fetcher_opts fo = { .max_bytes = MAX_BYTES, .blocked = o->blocked };
    k->loop = l;
    k->store = s;
    k->o = *o;
    k->fetcher = mz_fetcher_create(l, &fo);
    mz_map_init(&k->entries, MZ_MEM_CONFIG);
    mz_timer_init(l, &k->commit, on_commit);
    if (o->dir && mkdir(o->dir, 0755) != 0 && errno != EEXIST)
        MZ_LOG(WARN, config, "--keys-dir %s: %s", o->dir, strerrordesc_np(errno));
    return k;
}

void mz_keys_stop(struct mz_keys *k)
{
    if (!k)
        return;
    mz_timer_stop(&k->commit);
    mz_map_foreach (it, &k->entries)
        entry_free(it->value);
    mz_map_fini(&k->entries);
    mz_fetcher_stop(k->fetcher);
}

void mz_keys_destroy(struct mz_keys *k)
{
    if (!k)
        return;
    mz_fetcher_destroy(k->fetcher);
    mz_free(MZ_MEM_CONFIG, k);
}

void mz_keys_metrics(const struct mz_keys *k, struct mz_buf *out)
{
    static const char ok[] = "pilot_jwks_resolver_network_fetch_success_total",
                      bad[] = "pilot_jwks_resolver_network_fetch_fail_total";
    mz_metric_head(out, ok, MZ_METRIC_COUNTER,
                   "Total number of successfully network fetch by pilot jwks resolver");
    mz_metric_value(out, ok, NULL, MZ_STR(""), (double)k->fetched);
    mz_metric_head(out, bad, MZ_METRIC_COUNTER,
                   "Total number of failed network fetch by pilot jwks resolver");
    mz_metric_value(out, bad, NULL, MZ_STR(""), (double)k->failed);
}
