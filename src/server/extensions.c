/* bootstrap_extensions: those that this program has. */
#include "proto/mapper.h"
#include "server/server.h"

#define INTERNAL_KB_DEFAULT                                                                        \
    1024 /* as Envoy: bytes that one end of a connection to an internal listener may leave unread */

static bool extension_build(struct mz_server *s, const pb_TypedExtensionConfig *m,
                            struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!m->typed_config)
        return mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: ''",
                          m->name);
    if (!mz_any_unpack(&s->proto, m->typed_config, &type, &msg, err))
        return false;
    if (type != &pb_InternalListener__descriptor)
        return mz_err_set(err,
                          "Didn't find a registered implementation for '%s' with type URL: '%s'",
                          m->name, type->name);
    s->factory.internal_bytes =
        mz_u32_or(((const pb_InternalListener *)msg)->buffer_size_kb, INTERNAL_KB_DEFAULT) * 1024;
    return true;
}

bool mz_server_extensions_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap *b = s->bootstrap;
    for (size_t i = 0; i < b->n_bootstrap_extensions; i++)
        if (!extension_build(s, b->bootstrap_extensions[i], err))
            return mz_err_at(err, "bootstrap_extensions[%zu].typed_config", i);
    return true;
}
