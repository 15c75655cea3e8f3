/* The admin address (O4): the connection manager with one terminal filter that answers from the page table. */
#include "base/log.h"
#include "hcm/hcm.h"
#include "listener/address.h"
#include "proto/mapper.h"
#include "server/server.h"

/* access_log, and the older access_log_path: a file in the default format. */
static bool logs_build(struct mz_server *s, const pb_Admin *m, struct mz_err *err)
{
    if (!mz_hcm_config_add_logs(s->admin_hcm, m->access_log, m->n_access_log, &s->factory, err))
        return false;
    if (!m->access_log_path[0])
        return true;
    pb_FileAccessLog file = pb_FileAccessLog__INIT;
    file.path = m->access_log_path;
    char name[] = "envoy.access_loggers.file";
    pb_AccessLog log = pb_AccessLog__INIT, *one = &log;
    log.name = name;
    log.config_type_case = pb_AccessLog_CONFIG_TYPE_TYPED_CONFIG;
    log.typed_config = mz_any_pack(&file.base, s->factory.proto->arena);
    return mz_hcm_config_add_logs(s->admin_hcm, &one, 1, &s->factory, err) ||
           mz_err_at(err, "access_log_path");
}

bool mz_server_admin_start(struct mz_server *s, struct mz_err *err)
{
    const pb_Admin *m = s->bootstrap->admin;
    struct mz_addr addr;
    char text[MZ_ADDR_TEXT];
    s->admin = mz_admin_create();
    s->pages = mz_server_pages_create(s);
    mz_pages_add(s->pages, s->admin);
    if (!m || !m->address)
        return true;
    if (!mz_address_build(m->address, &addr, err))
        return mz_err_at(err, "address");
    s->admin_hcm = mz_hcm_config_admin(&s->factory, &mz_http_filter_admin, s->admin, err);
    if (!s->admin_hcm || !logs_build(s, m, err))
        return false;
    if (!mz_listener_manager_add_internal(s->listeners, MZ_STR("admin"), &addr, &mz_net_filter_hcm,
                                          s->admin_hcm, &s->main_worker, err))
        return mz_err_at(err, "address");
    mz_addr_text(&addr, text);
    MZ_LOG(INFO, admin, "admin address: %s", text);
    return true;
}
