/* Fields whose values nobody is shown, as upstream annotates them (udpa.annotations.sensitive); tests/schema compares. */
#include "proto/proto_priv.h"

static const struct {
    const char *message, *field;
} sensitive[] = {
    { "envoy.extensions.filters.http.ext_authz.v3.CheckSettings", "context_extensions" },
    { "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "downstream_auth_passwords" },
    { "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "downstream_auth_username" },
    { "envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "password" },
    { "envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "pkcs12" },
    { "envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key" },
    { "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", "keys" },
};

bool field_is_sensitive(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
    for (size_t i = 0; i < MZ_COUNT(sensitive); i++)
        if (strcmp(sensitive[i].field, f->name) == 0 && strcmp(sensitive[i].message, d->name) == 0)
            return true;
    return false;
}
