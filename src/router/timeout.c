#include "router/timeout.h"
#include "http/grpc.h"

/* max_grpc_timeout and grpc_timeout_offset, where max_stream_duration does not replace them. */
static bool grpc_limited(const struct mz_route *r, bool grpc)
{
    return grpc && r->max_grpc_timeout.set && !r->new_timeouts;
}

static uint64_t grpc_global(const struct mz_route *r, const struct mz_headers *h)
{
    uint64_t ms = 0, max = r->max_grpc_timeout.ms; /* 0 is no limit in both */
    (void)mz_grpc_timeout_ms(h, &ms);              /* absent or malformed: no limit asked for */
    if (r->grpc_timeout_offset.set && r->grpc_timeout_offset.ms < ms)
        ms -= r->grpc_timeout_offset.ms;
    return max && (!ms || ms > max) ? max : ms;
}

#define ASKING(X)                                                                                  \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)                                                              \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS)                                                              \
    X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS)                                                      \
    X(X_ENVOY_UPSTREAM_STREAM_DURATION_MS)                                                         \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE)                                                    \
    X(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT)
static const struct mz_header_set asking = MZ_HEADER_SET(ASKING);

static bool header_ms(const struct mz_headers *h, enum mz_header_id id, uint64_t *out_ms)
{
    return mz_str_u64(mz_headers_value_id(h, id), out_ms);
}

/* What the request's own headers ask for replaces what the route says. */
static void read_headers(struct mz_headers *h, bool respect_expected, struct mz_timeouts *out)
{
    if (respect_expected && mz_headers_get_id(h, MZ_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)) {
        out->from_header = header_ms(h, MZ_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, &out->global_ms);
    } else {
        out->from_header = header_ms(h, MZ_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &out->global_ms);
        mz_headers_remove_id(h, MZ_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
    }
    (void)header_ms(h, MZ_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &out->per_try_ms);
    mz_headers_remove_id(h, MZ_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
    out->has_stream = header_ms(h, MZ_H_X_ENVOY_UPSTREAM_STREAM_DURATION_MS, &out->stream_ms);
    mz_headers_remove_id(h, MZ_H_X_ENVOY_UPSTREAM_STREAM_DURATION_MS);
    out->alt_response = mz_headers_get_id(h, MZ_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) != NULL;
    mz_headers_remove_id(h, MZ_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE);
    struct mz_str hedge = mz_headers_value_id(h, MZ_H_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
    if (hedge.n)
        out->hedge_on_try_timeout =
            mz_str_eq(hedge, MZ_STR("true")) ||
            (out->hedge_on_try_timeout && !mz_str_eq(hedge, MZ_STR("false")));
    mz_headers_remove_id(h, MZ_H_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
}

void mz_timeouts_read(const struct mz_route *r, struct mz_headers *h, bool grpc,
                      bool respect_expected, struct mz_timeouts *out)
{
    *out =
        (struct mz_timeouts){ .global_ms = grpc_limited(r, grpc) ? grpc_global(r, h)
                                           : r->new_timeouts     ? 0 /* as Envoy, set or not */
                                                                 : r->timeout_ms,
                              .per_try_ms = r->retry ? r->retry->per_try_timeout_ms : 0,
                              .per_try_idle_ms = r->retry ? r->retry->per_try_idle_timeout_ms : 0,
                              .hedge_on_try_timeout = r->hedge->on_per_try_timeout };
    if (mz_headers_has_any(h, &asking))
        read_headers(h, respect_expected, out);
    if (out->global_ms && out->per_try_ms >= out->global_ms)
        out->per_try_ms = 0;
}

void mz_timeouts_write(const struct mz_timeouts *t, const struct mz_route *r, struct mz_headers *h,
                       bool grpc, bool insert, uint64_t elapsed_ms)
{
    uint64_t expected = t->per_try_ms;
    if (t->hedge_on_try_timeout ||
        !expected) /* an upstream whose try is not given up may use all of the time */
        expected = t->global_ms;
    if (!expected)
        return;
    if (t->global_ms) {
        uint64_t left =
            elapsed_ms < t->global_ms ? t->global_ms - elapsed_ms : 1; /* 0 would say: no timeout */
        expected = expected < left ? expected : left;
    }
    if (insert) {
        char text[20];
        struct mz_str value = { text, mz_u64_text(expected, text) };
        mz_headers_set_id(h, MZ_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, mz_arena_dup(h->arena, value));
    }
    if (grpc_limited(r, grpc))
        mz_grpc_timeout_set(h, expected);
}
