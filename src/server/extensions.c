/* bootstrap_extensions: those that this program has. */
#include "filters/istio/workloads.h"
#include "proto/mapper.h"
#include "server/server.h"

#define INTERNAL_KB_DEFAULT                                                                        \
    1024 /* as Envoy: bytes that one end of a connection to an internal listener may leave unread */

/* Subscribed to when there is a stream (dynamic.c); filters are built with it before. */
static bool workloads_build(struct mz_server *s, const pb_BootstrapExtension *m, struct mz_err *err)
{
    if (!m->config_source)
        return mz_err_set(err, "is required") || mz_err_at(err, "config_source");
    if (s->workloads)
        return true; /* one for the process (Envoy): the first counts */
    s->workload_source = m->config_source;
    s->factory.workloads = s->workloads = mz_workloads_create(s->xds, s->stats);
    return true;
}

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
    if (type == &pb_BootstrapExtension__descriptor)
        return workloads_build(s, (const pb_BootstrapExtension *)msg, err);
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
