#include "agent/identity/identity.h"

#include <openssl/crypto.h>
#include <stdio.h>

#include "agent/identity/key.h"
#include "agent/tree.h"
#include "base/clock.h"
#include "base/log.h"
#include "event/loop.h"
#include "proto/wire.h"

#define FIRST_PAUSE_MS 5 /* at the begin the way to the authority is found a moment later */
#define TOLD_PAUSE_MS  50
#define MAX_PAUSE_MS   10000
#define CALL_MS        10000
#define ANSWER_MAX     (1u << 20)
#define FILES_MS       1000 /* how often files are looked at */

struct mz_identity {
    struct mz_identity_opts o;
    struct mz_arena *pair_arena,
        *call_arena; /* of what is in use; of the question under way, NULL none */
    struct mz_identity_pair pair;
    struct mz_agent_key asked_key;
    struct mz_grpc_stream *call;
    struct mz_timer timer; /* the next question */
    uint64_t pause_ms;
    uint64_t version; /* of the files that were looked at last */
    struct mz_identity_counts counts;
};

static const struct mz_grpc_method method = {
    .path = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
};

static void wipe(struct mz_str s)
{
    if (s.n)
        OPENSSL_cleanse((char *)(uintptr_t)s.p, s.n);
}

static void call_end(struct mz_identity *d)
{
    mz_grpc_stream_cancel(d->call);
    d->call = NULL;
    if (!d->call_arena)
        return;
    wipe(d->asked_key.key);
    mz_arena_destroy(d->call_arena);
    d->call_arena = NULL;
}

/* A little earlier or later than others who started with us. */
static uint64_t jittered(struct mz_identity *d, uint64_t ms)
{
    return ms - ms / 20 + mz_rand_below(mz_loop_rand(d->o.loop), ms / 10 + 1);
}

static void try_later(struct mz_identity *d, const char *why)
{
    d->counts.failed++;
    if (d->pause_ms >= TOLD_PAUSE_MS)
        MZ_LOG(WARN, secret, "no certificate from the authority: %s; asked again in %llu ms", why,
               (unsigned long long)d->pause_ms);
    mz_timer_start_ms(&d->timer, jittered(d, d->pause_ms));
    d->pause_ms = d->pause_ms * 2 > MAX_PAUSE_MS ? MAX_PAUSE_MS : d->pause_ms * 2;
}

static void renew_in_time(struct mz_identity *d)
{
    const int64_t now = (int64_t)(mz_clock->wall_us() / 1000000);
    const double whole = (double)(d->pair.until - d->pair.from),
                 left = (double)(d->pair.until - now);
    double wait_s = left - whole * d->o.grace;
    if (wait_s < 0)
        wait_s = left > 2
                     ? left / 2
                     : 0.5; /* our clock or the authority's is off: not again and again at once */
    mz_timer_start_ms(&d->timer, jittered(d, (uint64_t)(wait_s * 1000)) + 1);
}

static struct mz_str with_newline(struct mz_arena *a, struct mz_str s)
{
    return s.n && s.p[s.n - 1] == '\n' ? s : mz_arena_printf(a, MZ_STR_FMT "\n", MZ_STR_ARG(s));
}

static bool is_over(const struct mz_identity_pair *p)
{
    return p->until <= (int64_t)(mz_clock->wall_us() / 1000000);
}

/* Makes @p the pair in use, unless it cannot be: then why. Takes the arena either way. */
static const char *take(struct mz_identity *d, struct mz_identity_pair *p, struct mz_arena *a)
{
    const char *why = NULL;
    if (!p->chain.n || !mz_agent_cert_times(p->chain, &p->from, &p->until))
        why = "there is no certificate";
    else if (!mz_agent_cert_fits(p->chain, p->key))
        why = "the certificate is of another key";
    else if (is_over(p) && !(d->o.chain && is_over(&d->pair)))
        why = "the certificate is over already";
    if (why) {
        wipe(p->key);
        mz_arena_destroy(a);
        return why;
    }
    p->serial = d->pair.serial + 1;
    wipe(d->pair.key);
    mz_arena_destroy(d->pair_arena);
    d->pair_arena = a;
    d->pair = *p;
    return NULL;
}

static const char *take_answer(struct mz_identity *d, struct mz_str bytes)
{
    struct mz_str parts[MZ_AGENT_CHAIN_MAX];
    const size_t n = mz_agent_chain_of(bytes, parts);
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    for (size_t i = 0; i < n; i++)
        parts[i] = with_newline(a, parts[i]);
    struct mz_identity_pair p = { .chain = n ? mz_arena_cat(a, n, parts) : (struct mz_str){ 0 },
                                  .root = n ? mz_arena_dup(a, parts[n - 1]) : (struct mz_str){ 0 },
                                  .key = mz_arena_dup(a, d->asked_key.key) };
    return take(d, &p, a);
}

/* ---- files ---- */

static bool read_one(const char *path, struct mz_arena *a, struct mz_str *out)
{
    struct file_text f;
    struct mz_err err;
    const bool there = file_read(path, a, &f, &err) && f.there;
    *out = there ? f.text : (struct mz_str){ 0 };
    return there;
}

static void on_files(struct mz_timer *t)
{
    struct mz_identity *d = MZ_CONTAINER(t, struct mz_identity, timer);
    const uint64_t version =
        file_version(d->o.chain) * 31 * 31 + file_version(d->o.key) * 31 + file_version(d->o.root);
    mz_timer_start_ms(t, FILES_MS);
    if (version == d->version)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct mz_identity_pair p = { 0 };
    const char *why = NULL;
    if (read_one(d->o.chain, a, &p.chain) && read_one(d->o.key, a, &p.key) &&
        read_one(d->o.root, a, &p.root)) {
        why = take(d, &p, a);
    } else {
        why = "a file is not there";
        wipe(p.key);
        mz_arena_destroy(a);
    }
    d->version = version;
    if (why) {
        MZ_LOG(WARN, secret, "%s, %s: %s", d->o.chain, d->o.key, why);
        return;
    }
    d->counts.got++;
    MZ_LOG(INFO, secret, "certificate of %s, until %lld", d->o.chain, (long long)d->pair.until);
    d->o.changed(d->o.arg);
}

/* ---- an authority ---- */

static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct mz_identity *d = arg;
    const char *why = take_answer(d, m->bytes);
    call_end(d);
    if (why) {
        try_later(d, why);
        return;
    }
    d->counts.got++;
    d->pause_ms = FIRST_PAUSE_MS;
    MZ_LOG(INFO, secret, "certificate for %s, %lld s", d->o.spiffe,
           (long long)(d->pair.until - d->pair.from));
    renew_in_time(d);
    d->o.changed(d->o.arg);
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct mz_identity *d = arg;
    char why[256];
    (void)trailers;
    (void)snprintf(why, sizeof(why), "%s: " MZ_STR_FMT, mz_grpc_code_name(st->code),
                   MZ_STR_ARG(st->message));
    d->call = NULL;
    call_end(d);
    try_later(d, why);
}

static const struct mz_grpc_stream_ops ops = { .message = on_message, .closed = on_closed };

static struct mz_str request(struct mz_identity *d)
{
    struct mz_buf b;
    char number[MZ_WIRE_VARINT_MAX];
    mz_buf_init(&b);
    mz_wire_put_bytes(&b, 1, d->asked_key.csr);
    mz_buf_append(&b, "\x18", 1); /* validity_duration = 3, a varint */
    mz_buf_append(&b, number, mz_wire_varint(d->o.ttl_s, number));
    const struct mz_str bytes = mz_arena_dup(d->call_arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return bytes;
}

static void ask(struct mz_timer *t)
{
    struct mz_identity *d = MZ_CONTAINER(t, struct mz_identity, timer);
    struct mz_err err;
    struct mz_headers h;
    d->call_arena = mz_arena_create(MZ_MEM_TLS);
    d->counts.asked++;
    mz_headers_init(&h, d->call_arena);
    if (!mz_agent_key_create(mz_str_c(d->o.spiffe), d->o.rsa_bits, d->call_arena, &d->asked_key,
                             &err) ||
        !mz_link_who(d->o.token_path, d->o.cluster_id, &h, d->call_arena, &err)) {
        call_end(d);
        try_later(d, err.msg);
        return;
    }
    const struct mz_grpc_opts o = { .timeout_ms = CALL_MS,
                                    .max_receive = ANSWER_MAX,
                                    .bytes_only = true,
                                    .metadata = &h,
                                    .no_xff = true,
                                    .no_internal = true };
    d->call = mz_grpc_stream_open(mz_link_upstream(d->o.link), mz_link_service(d->o.link, "ca"),
                                  &method, &o, &ops, d);
    (void)mz_grpc_stream_send_bytes(d->call, request(d)); /* a first message is always taken */
    mz_grpc_stream_end(d->call);
}

struct mz_identity *mz_identity_create(const struct mz_identity_opts *o)
{
    struct mz_identity *d = mz_alloc0(MZ_MEM_TLS, sizeof(*d));
    d->o = *o;
    d->pause_ms = FIRST_PAUSE_MS;
    d->pair_arena = mz_arena_create(MZ_MEM_TLS);
    mz_timer_init(o->loop, &d->timer, o->chain ? on_files : ask);
    mz_timer_start_ms(&d->timer, 0);
    return d;
}

void mz_identity_destroy(struct mz_identity *d)
{
    if (!d)
        return;
    call_end(d);
    mz_timer_stop(&d->timer);
    wipe(d->pair.key);
    mz_arena_destroy(d->pair_arena);
    mz_free(MZ_MEM_TLS, d);
}

const struct mz_identity_pair *mz_identity_get(const struct mz_identity *d)
{
    return &d->pair;
}

struct mz_identity_counts mz_identity_counted(const struct mz_identity *d)
{
    return d->counts;
}
