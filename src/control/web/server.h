#ifndef MZ_CONTROL_WEB_SERVER_H
#define MZ_CONTROL_WEB_SERVER_H
/*
 * HTTP/1.1 for mizzend's own pages (15014) and webhooks (15017): a page table (admin/admin.h) on listeners, plain or TLS. A request
 * is taken whole, then answered at once. Everything belongs to one loop.
 */
#include "admin/admin.h"
#include "event/loop.h"
#include "net/addr.h"
#include "net/transport.h"

struct mz_err;
struct mz_web;
struct mz_web_opts {
    const char *name;         /* for logs: "monitoring" */
    uint32_t max_body;        /* of a request; larger ones get 413 */
    unsigned max_connections; /* more are closed at once */
    uint32_t timeout_ms;      /* for a request to arrive, and between two */
    const char *local_only;   /* paths that begin so are for clients on this machine; others get 401. NULL: none */
};
struct mz_web *mz_web_create(struct mz_loop *l, struct mz_admin *pages, const struct mz_web_opts *o); /* borrows pages */
/* May be called several times. @f: reference is taken; NULL plain. */
bool mz_web_listen(struct mz_web *w, const struct mz_addr *a, const struct mz_transport_factory *f, struct mz_addr *out_addr,
                   struct mz_err *err);
void mz_web_destroy(struct mz_web *w); /* closes everything; NULL is fine */
#endif
