#include "control/model/model.h"

static const struct {
    struct mz_str name;
    enum mz_protocol protocol;
} names[] = {
    { MZ_STR_INIT("tcp"), MZ_PROTOCOL_TCP },     { MZ_STR_INIT("udp"), MZ_PROTOCOL_UDP },
    { MZ_STR_INIT("http"), MZ_PROTOCOL_HTTP },   { MZ_STR_INIT("http2"), MZ_PROTOCOL_HTTP2 },
    { MZ_STR_INIT("grpc"), MZ_PROTOCOL_GRPC },   { MZ_STR_INIT("grpc-web"), MZ_PROTOCOL_GRPC_WEB },
    { MZ_STR_INIT("https"), MZ_PROTOCOL_HTTPS }, { MZ_STR_INIT("tls"), MZ_PROTOCOL_TLS },
    { MZ_STR_INIT("mongo"), MZ_PROTOCOL_MONGO }, { MZ_STR_INIT("redis"), MZ_PROTOCOL_REDIS },
    { MZ_STR_INIT("mysql"), MZ_PROTOCOL_MYSQL },
};

enum mz_protocol mz_protocol_parse(struct mz_str name)
{
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_ieq(name, names[i].name))
            return names[i].protocol;
    return MZ_PROTOCOL_UNKNOWN;
}

/* Words of the Kubernetes API itself, which hold in appProtocol only. */
static bool of_kubernetes(struct mz_str app, enum mz_protocol *out)
{
    static const struct {
        struct mz_str name;
        enum mz_protocol protocol;
    } words[] = { { MZ_STR_INIT("kubernetes.io/h2c"), MZ_PROTOCOL_HTTP2 },
                  { MZ_STR_INIT("kubernetes.io/ws"), MZ_PROTOCOL_HTTP },
                  { MZ_STR_INIT("kubernetes.io/wss"), MZ_PROTOCOL_HTTPS } };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(app, words[i].name)) {
            *out = words[i].protocol;
            return true;
        }
    return false;
}

/* The server speaks first on these: waiting for the client's bytes would break them. */
static bool speaks_first(uint16_t port)
{
    return port == 25 || port == 53 || port == 3306 || port == 27017;
}

enum mz_protocol mz_protocol_of_port(uint16_t port, struct mz_str name, struct mz_str transport,
                                     struct mz_str app)
{
    enum mz_protocol p;
    if (mz_str_eq(transport, MZ_STR("UDP")))
        return MZ_PROTOCOL_UDP;
    if (of_kubernetes(app, &p))
        return p;
    if (app.n)
        name = app;
    if (mz_str_istarts(name, MZ_STR("grpc-web")))
        return MZ_PROTOCOL_GRPC_WEB;
    ptrdiff_t dash = mz_str_chr(name, '-');
    p = mz_protocol_parse(dash < 0 ? name : (struct mz_str){ name.p, (size_t)dash });
    return p == MZ_PROTOCOL_UNKNOWN && speaks_first(port) ? MZ_PROTOCOL_TCP : p;
}

bool mz_protocol_is_http2(enum mz_protocol p)
{
    return p == MZ_PROTOCOL_HTTP2 || p == MZ_PROTOCOL_GRPC || p == MZ_PROTOCOL_GRPC_WEB;
}

bool mz_protocol_is_http(enum mz_protocol p)
{
    return p == MZ_PROTOCOL_HTTP || mz_protocol_is_http2(p);
}
