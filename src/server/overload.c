/* overload_manager (P8): what limits the whole process; of the monitors the one that counts clients' connections. */
#include "proto/mapper.h"
#include "server/server.h"

static bool monitor_build(struct mz_server *s, const pb_ResourceMonitor *m, struct mz_err *err)
{
    ProtobufCMessage *msg;
    if (m->config_type_case != pb_ResourceMonitor_CONFIG_TYPE_TYPED_CONFIG)
        return mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: ''",
                          m->name);
    if (!mz_any_unpack_as(&s->proto, m->typed_config, &pb_DownstreamConnectionsConfig__descriptor,
                          &msg, err))
        return mz_err_at(err, "typed_config");
    if (s->process.max_connections)
        return mz_err_set(err, "Duplicate resource monitor %s", m->name);
    s->process.max_connections =
        (uint64_t)((const pb_DownstreamConnectionsConfig *)msg)->max_active_downstream_connections;
    return true;
}

bool mz_server_overload_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap *b = s->bootstrap;
    const pb_OverloadManager *m = b->overload_manager;
    for (size_t i = 0; m && i < m->n_resource_monitors; i++)
        if (!monitor_build(s, m->resource_monitors[i], err))
            return mz_err_at(err, "overload_manager.resource_monitors[%zu]", i);
    return true;
}
