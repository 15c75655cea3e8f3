#include "control/ca/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "control/names.h"
#include "event/loop.h"

enum {
    PER_SECOND = 5000,         /* requests of everybody */
    PER_SECOND_EACH = 20,      /* of one identity */
    PER_SECOND_STRANGERS = 50, /* of one address that shows nothing good */
    MAX_KEYS = 20000,
};

/* How often each key came in this second. */
struct limiter {
    uint64_t second;
    struct mz_arena *arena; /* holds keys and counts */
    struct mz_map counts;
};
struct mz_ca_service {
    struct mz_authority *authority;
    const struct mz_callers *callers;
    struct limiter limiter;
    struct mz_ca_counts counts;
};
struct call {
    struct mz_ca_service *s;
    struct mz_grpc_serving *serving;
    const struct mz_headers *headers;
    struct mz_caller_ask who;
    struct { /* what was asked for; in the call's arena */
        struct mz_str csr;
        int64_t validity_s;
        bool of_another;
    } request;
    bool asked, done;
};

/* ---- limits (H05) ---- */

static void limiter_reset(struct limiter *l)
{
    mz_map_fini(&l->counts);
    mz_arena_destroy(l->arena);
    l->arena = mz_arena_create(MZ_MEM_TLS);
    mz_map_init(&l->counts, MZ_MEM_TLS);
}

static bool limiter_take(struct limiter *l, struct mz_str key, uint64_t most)
{
    const uint64_t second = mz_clock->mono_us() / 1000000;
    if (second != l->second || !l->arena)
        limiter_reset(l);
    l->second = second;
    uint64_t *count = mz_map_get(&l->counts, key);
    if (!count && l->counts.n < MAX_KEYS) {
        count = mz_arena_new0(l->arena, uint64_t);
        (void)mz_map_put(&l->counts, mz_arena_dup(l->arena, key), count);
    }
    return count && ++*count <= most;
}

/* ---- a call ---- */

static void *begin(void *arg, struct mz_grpc_serving *c, const struct mz_headers *h)
{
    struct call *k = mz_new0(MZ_MEM_TLS, struct call);
    *k = (struct call){ .s = arg, .serving = c, .headers = h };
    return k;
}

static void finish(struct call *k, struct mz_grpc_serving *c, int code, const char *text)
{
    k->done = true;
    mz_grpc_serving_finish(c, code, mz_str_c(text));
}

static bool names_another(const ist_IstioCertificateRequest *r)
{
    for (size_t i = 0; r->metadata && i < r->metadata->n_fields; i++) {
        const pb_Struct_FieldsEntry *f = r->metadata->fields[i];
        const bool text = f->value && f->value->kind_case == pb_Value_KIND_STRING_VALUE;
        if ((strcmp(f->key, "ImpersonatedIdentity") == 0 || strcmp(f->key, "CertSigner") == 0) &&
            text && f->value->string_value[0])
            return true;
    }
    return false;
}

static void sign(struct call *k)
{
    struct mz_ca_service *s = k->s;
    struct mz_grpc_serving *c = k->serving;
    const struct mz_caller *who = &k->who.who;
    struct mz_arena *a = mz_grpc_serving_arena(c);
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_signed out;
    const enum mz_sign st = mz_authority_sign(s->authority, k->request.csr, who->identity,
                                              k->request.validity_s, a, &out, &err);
    if (st != MZ_SIGN_OK) {
        s->counts.refused += st == MZ_SIGN_REQUEST;
        s->counts.failed += st == MZ_SIGN_FAULT;
        MZ_LOG(WARN, main, "CSR of %.*s: %s", MZ_STR_ARG(who->identity), err.msg);
        finish(k, c, st == MZ_SIGN_REQUEST ? MZ_GRPC_INVALID_ARGUMENT : MZ_GRPC_INTERNAL,
               mz_arena_printf(a, "CSR signing error (%s)", err.msg).p);
        return;
    }
    ist_IstioCertificateResponse reply = ist_IstioCertificateResponse__INIT;
    reply.n_cert_chain = out.n;
    reply.cert_chain = mz_arena_alloc(a, out.n * sizeof(char *));
    for (size_t i = 0; i < out.n; i++)
        reply.cert_chain[i] = (char *)(uintptr_t)out.v[i].p;
    s->counts.issued++;
    MZ_LOG(DEBUG, main, "certificate for %.*s", MZ_STR_ARG(who->identity));
    (void)mz_grpc_serving_send(c, &reply.base); /* one message always fits */
    finish(k, c, MZ_GRPC_OK, "");
}

static struct mz_str address_key(const struct mz_grpc_serving *c, char text[MZ_ADDR_TEXT])
{
    const size_t n = mz_addr_ip_text(mz_grpc_serving_peer(c), text);
    return (struct mz_str){ text, n };
}

static void refuse_stranger(struct call *k)
{
    struct mz_ca_service *s = k->s;
    char from[MZ_ADDR_TEXT];
    const struct mz_str address = address_key(k->serving, from);
    s->counts.unauthenticated++;
    if (limiter_take(&s->limiter, address,
                     PER_SECOND_STRANGERS)) /* a flood does not fill the log */
        MZ_LOG(WARN, main, "CSR from %.*s refused: %s", MZ_STR_ARG(address), k->who.err.msg);
    finish(k, k->serving, MZ_GRPC_UNAUTHENTICATED, "request authenticate failure");
}

static void answer(struct call *k, bool known)
{
    struct mz_ca_service *s = k->s;
    const struct mz_str identity = k->who.who.identity;
    if (!known) {
        refuse_stranger(k);
    } else if (!limiter_take(&s->limiter, identity, PER_SECOND_EACH)) {
        s->counts.limited++;
        finish(k, k->serving, MZ_GRPC_RESOURCE_EXHAUSTED, "too many requests of this identity");
    } else if (k->request.of_another) {
        s->counts.unauthenticated++;
        MZ_LOG(WARN, main, "CSR of %.*s for somebody else refused", MZ_STR_ARG(identity));
        finish(k, k->serving, MZ_GRPC_UNAUTHENTICATED,
               "request impersonation authentication failure");
    } else {
        sign(k);
    }
}

static void on_known(struct mz_caller_ask *q, bool known)
{
    answer(MZ_CONTAINER(q, struct call, who), known);
}

static void on_request(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    struct call *k = object;
    struct mz_ca_service *s = k->s;
    struct mz_arena *a = mz_grpc_serving_arena(c);
    const ist_IstioCertificateRequest *r = (const ist_IstioCertificateRequest *)m->msg;
    if (k->done || k->asked)
        return;
    k->asked = true;
    s->counts.requests++;
    if (!limiter_take(&s->limiter, MZ_STR("all"), PER_SECOND)) {
        s->counts.limited++;
        finish(k, c, MZ_GRPC_RESOURCE_EXHAUSTED, "too many requests");
        return;
    }
    k->request.csr = mz_arena_dup(a, mz_str_c(r->csr));
    k->request.validity_s = r->validity_duration;
    k->request.of_another = names_another(r);
    k->who.done = on_known;
    const enum mz_caller_found f = mz_caller_find(s->callers, c, k->headers, a, &k->who);
    if (f != MZ_CALLER_WAITING)
        answer(k, f == MZ_CALLER_KNOWN);
}

static void on_half_closed(void *object, struct mz_grpc_serving *c)
{
    struct call *k = object;
    if (!k->done && !k->asked)
        finish(k, c, MZ_GRPC_INTERNAL, "a request is missing");
}

static void on_gone(void *object, struct mz_grpc_serving *c)
{
    (void)c;
    mz_caller_cancel(&((struct call *)object)->who);
    mz_free(MZ_MEM_TLS, object);
}

static const struct mz_grpc_handler handlers[] = {
    { .method = { "/istio.v1.auth.IstioCertificateService/CreateCertificate",
                  &ist_IstioCertificateRequest__descriptor,
                  &ist_IstioCertificateResponse__descriptor },
      .begin = begin,
      .message = on_request,
      .half_closed = on_half_closed,
      .gone = on_gone },
};

struct mz_ca_service *mz_ca_service_create(struct mz_authority *a, const struct mz_callers *c)
{
    struct mz_ca_service *s = mz_new0(MZ_MEM_TLS, struct mz_ca_service);
    s->authority = a;
    s->callers = c;
    return s;
}

void mz_ca_service_destroy(struct mz_ca_service *s)
{
    if (!s)
        return;
    mz_map_fini(&s->limiter.counts);
    mz_arena_destroy(s->limiter.arena);
    mz_free(MZ_MEM_TLS, s);
}

void mz_ca_service_add(struct mz_ca_service *s, struct mz_grpc_server *to)
{
    mz_grpc_server_add(to, handlers, MZ_COUNT(handlers), s);
}

const struct mz_ca_counts *mz_ca_service_counts(const struct mz_ca_service *s)
{
    return &s->counts;
}
