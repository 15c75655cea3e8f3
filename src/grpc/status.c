#include "grpc/grpc.h"

const char *mz_grpc_code_name(int code)
{
    static const char *const names[MZ_GRPC__COUNT] = {
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    };
    return code >= 0 && code < MZ_GRPC__COUNT ? names[code] : "InvalidCode";
}

/* ---- grpc-message ---- */

static bool plain(unsigned char c)
{
    return c >= 0x20 && c <= 0x7e && c != '%';
}

struct mz_str mz_grpc_message_encode(struct mz_str text, struct mz_arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t extra = 0, n = 0;
    for (size_t i = 0; i < text.n; i++)
        extra += plain((unsigned char)text.p[i]) ? 0 : 2;
    char *out = mz_arena_alloc(a, text.n + extra + 1);
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (plain(c)) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[c >> 4];
        out[n++] = hex[c & 15];
    }
    out[n] = '\0';
    return (struct mz_str){ out, n };
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct mz_str mz_grpc_message_decode(struct mz_str text, struct mz_arena *a)
{
    char *out = mz_arena_alloc(a, text.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        int hi = text.p[i] == '%' && i + 2 < text.n ? digit(text.p[i + 1]) : -1;
        int lo = hi >= 0 ? digit(text.p[i + 2]) : -1;
        out[n++] = (char)(lo >= 0 ? hi << 4 | lo : text.p[i]);
        i += lo >= 0 ? 2 : 0;
    }
    out[n] = '\0';
    return (struct mz_str){ out, n };
}
