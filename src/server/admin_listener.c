/* The admin address (O4): the connection manager with one terminal filter that answers from the page table. */
#include "base/log.h"
#include "hcm/hcm.h"
#include "listener/address.h"
#include "server/server.h"

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
    if (!s->admin_hcm)
        return false;
    if (!mz_listener_manager_add_internal(s->listeners, MZ_STR("admin"), &addr, &mz_net_filter_hcm,
                                          s->admin_hcm, &s->main_worker, err))
        return mz_err_at(err, "address");
    mz_addr_text(&addr, text);
    MZ_LOG(INFO, admin, "admin address: %s", text);
    return true;
}
