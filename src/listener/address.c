#include "listener/address.h"

#include "proto/mapper.h"

static bool socket_address(const pb_SocketAddress *s, struct mz_addr *out_addr, struct mz_err *err)
{
    if (s->protocol != pb_SocketAddress_Protocol_TCP)
        return mz_err_set(err, "UDP is not supported");
    if (s->port_specifier_case == pb_SocketAddress_PORT_SPECIFIER_NAMED_PORT)
        return mz_err_set(err, "named_port is not supported, give port_value");
    if (!mz_addr_parse_ip(mz_str_c(s->address), (uint16_t)s->port_value, out_addr))
        return mz_err_set(err, "malformed IP address: %s", s->address);
    return true;
}

bool mz_address_build(const pb_Address *m, struct mz_addr *out_addr, struct mz_err *err)
{
    switch (m->address_case) {
    case pb_Address_ADDRESS_SOCKET_ADDRESS:
        return socket_address(m->socket_address, out_addr, err) || mz_err_at(err, "socket_address");
    case pb_Address_ADDRESS_PIPE:
        return mz_addr_unix(mz_str_c(m->pipe->path), out_addr, err) || mz_err_at(err, "pipe.path");
    case pb_Address_ADDRESS_ENVOY_INTERNAL_ADDRESS:
        return mz_err_set(err, "an internal listener is said by internal_listener");
    default:
        return mz_err_set(err, "address is necessary");
    }
}

void mz_socket_opts_build(pb_SocketOption *const *v, size_t n, struct mz_arena *a,
                          struct mz_socket_opts *out_opts)
{
    out_opts->n = n;
    out_opts->v = mz_arena_alloc0(a, mz_mul(n ? n : 1, sizeof(*out_opts->v)));
    for (size_t i = 0; i < n; i++) {
        struct mz_socket_opt *o = &out_opts->v[i];
        o->level = (int)v[i]->level;
        o->name = (int)v[i]->name;
        o->state = (enum mz_socket_state)v[i]->state;
        o->is_int = v[i]->value_case == pb_SocketOption_VALUE_INT_VALUE;
        o->value = o->is_int ? (int)v[i]->int_value : 0;
        if (!o->is_int)
            o->bytes = mz_arena_dup(
                a, (struct mz_str){ (const char *)v[i]->buf_value.data, v[i]->buf_value.len });
    }
}
