/* grpc.health.v1.Health/Check (U6): the request's bytes, and what an answer says. */
#include "http/grpc.h"
#include "upstream/health/check.h"

#define PREFIX  5 /* flag and length before a message */
#define SERVING 1

static size_t varint_size(size_t v)
{
    size_t n = 1;
    for (; v > 127; v >>= 7)
        n++;
    return n;
}

static size_t message_size(size_t service_name)
{
    return service_name ? 1 + varint_size(service_name) + service_name : 0;
}

size_t check_grpc_request_size(size_t service_name)
{
    return PREFIX + message_size(service_name);
}

void check_grpc_request(struct mz_str service, char *out)
{
    size_t n = message_size(service.n), left = service.n;
    *out++ = 0;
    for (int shift = 24; shift >= 0; shift -= 8)
        *out++ = (char)(n >> shift);
    if (!service.n)
        return;
    *out++ = 1 << 3 | 2; /* service = 1, by length */
    for (; left > 127; left >>= 7)
        *out++ = (char)(left | 128);
    *out++ = (char)left;
    memcpy(out, service.p, service.n);
}

/* ---- the answer ---- */

struct reader {
    const unsigned char *p, *end;
};

static bool varint(struct reader *r, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        v |= (uint64_t)(*r->p & 127) << shift;
        if (!(*r->p++ & 128)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool skip(struct reader *r, uint64_t n)
{
    if (n > (uint64_t)(r->end - r->p))
        return false;
    r->p += n;
    return true;
}

/* HealthCheckResponse: status = 1; fields that are not known are passed over. */
static bool serving_status(struct mz_str m, uint32_t *out)
{
    struct reader r = { (const unsigned char *)m.p, (const unsigned char *)m.p + m.n };
    uint64_t tag, v = 0;
    *out = 0;
    while (r.p < r.end) {
        if (!varint(&r, &tag) || tag >> 3 == 0)
            return false;
        bool fine = (tag & 7) == 0   ? varint(&r, &v)
                    : (tag & 7) == 1 ? skip(&r, 8)
                    : (tag & 7) == 2 ? varint(&r, &v) && skip(&r, v)
                    : (tag & 7) == 5 ? skip(&r, 4)
                                     : false;
        if (!fine)
            return false;
        if (tag == 1 << 3)
            *out = (uint32_t)v;
    }
    return true;
}

/* One frame, uncompressed, and nothing behind it. */
static bool only_message(struct mz_str body, struct mz_str *out)
{
    const unsigned char *p = (const unsigned char *)body.p;
    if (body.n < PREFIX || p[0])
        return false;
    size_t n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    *out = mz_str_skip(body, PREFIX);
    return out->n == n;
}

bool check_grpc_answers(const struct mz_headers *h)
{
    return mz_headers_status(h) == 200 && mz_is_grpc(h);
}

enum check_result check_grpc_judge(const struct mz_headers *h, const struct mz_headers *trailers,
                                   struct mz_str body, uint32_t *out_value)
{
    struct mz_str message;
    int status;
    *out_value = mz_headers_status(h);
    if (!mz_grpc_status(trailers ? trailers : h, &status))
        return *out_value == 200 ? CHECK_PROTOCOL : CHECK_STATUS;
    if (status != 0) {
        *out_value = (uint32_t)status;
        return CHECK_GRPC;
    }
    if (!only_message(body, &message) || !serving_status(message, out_value))
        return CHECK_PROTOCOL;
    return *out_value == SERVING ? CHECK_PASSED : CHECK_SERVING;
}
