#ifndef MZ_HCM_HCM_TEST_H
#define MZ_HCM_HCM_TEST_H
/* What the tests of this folder share: a connection manager without a socket, a codec that writes down what it is told. */
#include "hcm/hcm_priv.h"

struct fixture { /* fixture_init, fixture_fini; change cfg, down and conn in between */
    struct mz_stats *stats;
    struct mz_loop *loop;
    struct mz_worker worker;
    struct mz_process process;
    struct mz_conn conn; /* closed from the start: nothing is sent, closing it does nothing */
    struct mz_downstream down;
    struct mz_hcm_config cfg;
    struct mz_codec codec;
    struct hcm_conn hcm;
    struct mz_stream_enc enc;
    struct mz_stream *stream; /* NULL: over */
    struct mz_stream_in in;
    struct mz_buf trace; /* "=H200 =D(ok)$": what the codec got; $ ends a direction. Filters may add. */
};
void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);
/* A stream begins; its request has not. */
void fixture_stream(struct fixture *f);
/* GET http://a.test/ with @extra "name: value\n" lines added or, for pseudo-headers, in their place. */
struct mz_headers *fixture_headers(struct fixture *f, const char *extra);
void fixture_request(struct fixture *f, const char *extra, bool end); /* gives it to the stream */
const char *fixture_trace(struct fixture *f);                        /* valid until the next call */
bool fixture_over(const struct fixture *f);                          /* has the stream ended? */
bool fixture_routes(struct fixture *f, const char *yaml, const struct mz_http_filter_type *type);
/* Of the request's headers; values joined with "|"; NULL when absent. */
const char *fixture_header(const struct fixture *f, const char *name);
#endif
