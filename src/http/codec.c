#include "http/codec.h"

static const char *const protocols[] = {
    [MZ_HTTP10] = "HTTP/1.0",
    [MZ_HTTP11] = "HTTP/1.1",
    [MZ_HTTP2] = "HTTP/2",
    [MZ_HTTP3] = "HTTP/3",
};
static const char *const reasons[] = {
    [MZ_RESET_LOCAL] = "local reset",
    [MZ_RESET_LOCAL_REFUSED] = "local refused stream reset",
    [MZ_RESET_REMOTE] = "remote reset",
    [MZ_RESET_REMOTE_REFUSED] = "remote refused stream reset",
    [MZ_RESET_LOCAL_CONNECT_FAIL] = "local connection failure",
    [MZ_RESET_REMOTE_CONNECT_FAIL] = "remote connection failure",
    [MZ_RESET_CONNECT_TIMEOUT] = "connection timeout",
    [MZ_RESET_CONN_TERMINATED] = "connection termination",
    [MZ_RESET_OVERFLOW] = "overflow",
    [MZ_RESET_CONNECT_ERROR] = "remote error with CONNECT request",
    [MZ_RESET_PROTOCOL_ERROR] = "protocol error",
    [MZ_RESET_OVERLOAD_MANAGER] = "overload manager reset",
};

const char *mz_http_protocol_name(enum mz_http_protocol p)
{
    return protocols[p];
}

const char *mz_reset_reason_text(enum mz_reset_reason r)
{
    return reasons[r];
}
