#include "control/ca/caller.h"

#include "net/transport.h"

bool mz_account_of_identity(struct mz_str uri, struct mz_str trust_domain, struct mz_account *out)
{
    static const struct mz_str words[] = { MZ_STR_INIT("ns"), MZ_STR_INIT("sa") };
    struct mz_str part[2];
    if (!mz_str_starts(uri, MZ_STR("spiffe://")))
        return false;
    struct mz_str rest = mz_str_skip(uri, 9), word;
    if (!mz_str_split(&rest, '/', &word) || !mz_str_eq(word, trust_domain))
        return false;
    for (size_t i = 0; i < 2; i++)
        if (!mz_str_split(&rest, '/', &word) || !mz_str_eq(word, words[i]) ||
            !mz_str_split(&rest, '/', &part[i]))
            return false;
    const struct mz_account who = { part[0], part[1] };
    if (rest.n || !mz_account_ok(who) || uri.p[uri.n - 1] == '/')
        return false;
    *out = who;
    return true;
}

/* A certificate with several names could be anybody's. */
static bool by_certificate(const struct mz_callers *c, const struct mz_tls_facts *f,
                           struct mz_account *out)
{
    return f && f->peer_validated && f->peer.uri_sans.n == 1 &&
           mz_account_of_identity(f->peer.uri_sans.v[0], c->trust_domain, out);
}

static bool by_token(const struct mz_callers *c, const struct mz_headers *h, struct mz_arena *a,
                     struct mz_account *out, struct mz_err *err)
{
    const struct mz_header *one = mz_headers_get_id(h, MZ_H_AUTHORIZATION);
    const struct mz_str before = MZ_STR("Bearer ");
    if (!one)
        return mz_err_set(err, "neither a client certificate of this mesh nor a token");
    if (mz_headers_next(h, one))
        return mz_err_set(err, "two authorization headers");
    if (!mz_str_istarts(one->value, before))
        return mz_err_set(err, "authorization is no bearer token");
    return mz_tokens_check(c->tokens, mz_str_skip(one->value, before.n), a, out, err);
}

bool mz_caller_find(const struct mz_callers *c, const struct mz_grpc_serving *call,
                    const struct mz_headers *h, struct mz_arena *a, struct mz_caller *out,
                    struct mz_err *err)
{
    struct mz_account who;
    if (!by_certificate(c, mz_grpc_serving_tls(call), &who) && !by_token(c, h, a, &who, err))
        return false;
    out->account = (struct mz_account){ mz_arena_dup(a, who.ns), mz_arena_dup(a, who.name) };
    out->identity = mz_arena_printf(a, "spiffe://%.*s/ns/%.*s/sa/%.*s", MZ_STR_ARG(c->trust_domain),
                                    MZ_STR_ARG(who.ns), MZ_STR_ARG(who.name));
    return true;
}
