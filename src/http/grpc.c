#include "http/grpc.h"

bool mz_is_grpc(const struct mz_headers *h)
{
    static const struct mz_str grpc = MZ_STR_INIT("application/grpc");
    struct mz_str type = mz_headers_value_id(h, MZ_H_CONTENT_TYPE);
    return mz_str_starts(type, grpc) && (type.n == grpc.n || type.p[grpc.n] == '+');
}

bool mz_grpc_status(const struct mz_headers *h, int *out_status)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_GRPC_STATUS);
    uint64_t n;
    if (!e || !e->value.n)
        return false;
    *out_status = mz_str_u64(e->value, &n) && n <= 16 ? (int)n : -1;
    return true;
}

unsigned mz_grpc_status_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return 13; /* INTERNAL */
    case 401:
        return 16; /* UNAUTHENTICATED */
    case 403:
        return 7; /* PERMISSION_DENIED */
    case 404:
        return 12; /* UNIMPLEMENTED */
    case 429:
    case 502:
    case 503:
    case 504:
        return 14; /* UNAVAILABLE */
    default:
        return 2; /* UNKNOWN */
    }
}

unsigned mz_http_status_of_grpc(int grpc_status)
{
    static const uint16_t of[] = { 200, 499, 500, 400, 504, 404, 409, 403, 429,
                                   400, 409, 400, 501, 500, 503, 500, 401 };
    return grpc_status >= 0 && grpc_status < (int)MZ_COUNT(of) ? of[grpc_status] : 500;
}

bool mz_grpc_timeout_ms(const struct mz_headers *h, uint64_t *out_ms)
{
    static const struct {
        char unit;
        uint64_t mul, div;
    } units[] = {
        { 'H', 3600000, 1 }, { 'M', 60000, 1 }, { 'S', 1000, 1 },
        { 'm', 1, 1 },       { 'u', 1, 1000 },  { 'n', 1, 1000000 },
    };
    struct mz_str s = mz_headers_value_id(h, MZ_H_GRPC_TIMEOUT);
    uint64_t v;
    if (s.n < 2 || s.n > 9 || !mz_str_u64((struct mz_str){ s.p, s.n - 1 }, &v))
        return false;
    for (size_t i = 0; i < MZ_COUNT(units); i++)
        if (units[i].unit == s.p[s.n - 1]) {
            *out_ms = (v * units[i].mul + units[i].div - 1) / units[i].div;
            return true;
        }
    return false;
}

/* At most 8 digits: beyond them a coarser unit, rounded up. */
void mz_grpc_timeout_set(struct mz_headers *h, uint64_t ms)
{
    uint64_t minutes = ms / 60000 + 1;
    char text[24];
    bool small = ms <= 99999999, seconds = ms / 1000 < 99999999;
    size_t n = mz_u64_text(small                ? ms
                           : seconds            ? ms / 1000 + 1
                           : minutes > 99999999 ? 99999999
                                                : minutes,
                           text);
    text[n] = small ? 'm' : seconds ? 'S' : 'M';
    mz_headers_set_id(h, MZ_H_GRPC_TIMEOUT, mz_arena_dup(h->arena, (struct mz_str){ text, n + 1 }));
}
