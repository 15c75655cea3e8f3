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

/* ---- tokens ---- */

static enum mz_caller_found known(struct mz_caller_ask *q, struct mz_account who)
{
    struct mz_arena *a = q->review.arena;
    q->who.account = (struct mz_account){ mz_arena_dup(a, who.ns), mz_arena_dup(a, who.name) };
    q->who.identity =
        mz_arena_printf(a, "spiffe://%.*s/ns/%.*s/sa/%.*s", MZ_STR_ARG(q->callers->trust_domain),
                        MZ_STR_ARG(who.ns), MZ_STR_ARG(who.name));
    return MZ_CALLER_KNOWN;
}

/* What the first of several said is what the log is told: it is the one that knows most tokens. */
static void refused(struct mz_caller_ask *q)
{
    if (!q->at)
        q->err = q->review.err;
    q->at++;
}

/* The reviewers from q->at on, until one has to think. */
static enum mz_caller_found ask(struct mz_caller_ask *q)
{
    for (; q->at < q->callers->reviewers_n; refused(q)) {
        struct mz_reviewer *v = q->callers->reviewers[q->at];
        q->review.err = (struct mz_err){ .path = "", .msg = "" };
        const enum mz_reviewed r = v->ops->begin(v, &q->review);
        q->waiting = r == MZ_REVIEW_LATER;
        if (q->waiting)
            return MZ_CALLER_WAITING;
        if (r == MZ_REVIEW_GOOD)
            return known(q, q->review.who);
    }
    return MZ_CALLER_UNKNOWN;
}

static void on_review(struct mz_review *r, enum mz_reviewed how)
{
    struct mz_caller_ask *q = MZ_CONTAINER(r, struct mz_caller_ask, review);
    enum mz_caller_found f = MZ_CALLER_UNKNOWN;
    q->waiting = false;
    if (how == MZ_REVIEW_GOOD) {
        f = known(q, r->who);
    } else {
        refused(q);
        f = ask(q);
    }
    if (f != MZ_CALLER_WAITING)
        q->done(q, f == MZ_CALLER_KNOWN);
}

static void ask_init(struct mz_caller_ask *q, const struct mz_callers *c, struct mz_arena *a)
{
    q->callers = c;
    q->err = (struct mz_err){ .path = "", .msg = "" };
    q->review = (struct mz_review){ .arena = a, .done = on_review };
    q->at = 0;
    q->waiting = false;
}

enum mz_caller_found mz_caller_find_token(const struct mz_callers *c, struct mz_str token,
                                          struct mz_arena *a, struct mz_caller_ask *q)
{
    ask_init(q, c, a);
    q->review.token = token;
    return ask(q);
}

void mz_caller_cancel(struct mz_caller_ask *q)
{
    if (!q->waiting)
        return;
    struct mz_reviewer *v = q->callers->reviewers[q->at];
    q->waiting = false;
    v->ops->cancel(v, &q->review);
}

static bool token_of(const struct mz_headers *h, struct mz_str *out, struct mz_err *err)
{
    const struct mz_header *one = mz_headers_get_id(h, MZ_H_AUTHORIZATION);
    const struct mz_str before = MZ_STR("Bearer ");
    if (!one)
        return mz_err_set(err, "neither a client certificate of this mesh nor a token");
    if (mz_headers_next(h, one))
        return mz_err_set(err, "two authorization headers");
    if (!mz_str_istarts(one->value, before))
        return mz_err_set(err, "authorization is no bearer token");
    *out = mz_str_skip(one->value, before.n);
    return true;
}

enum mz_caller_found mz_caller_find(const struct mz_callers *c, const struct mz_grpc_serving *call,
                                    const struct mz_headers *h, struct mz_arena *a,
                                    struct mz_caller_ask *q)
{
    struct mz_account who;
    struct mz_str token;
    ask_init(q, c, a);
    if (by_certificate(c, mz_grpc_serving_tls(call), &who))
        return known(q, who);
    return token_of(h, &token, &q->err) ? mz_caller_find_token(c, token, a, q) : MZ_CALLER_UNKNOWN;
}
