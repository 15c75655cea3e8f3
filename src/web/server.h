#ifndef MZ_WEB_SERVER_H
#define MZ_WEB_SERVER_H
/*
 * HTTP/1.1 for our own pages (mizzend's 15014 and 15017, the agent's 15020): a page table (admin/admin.h) on listeners, plain or
 * TLS. A request is taken whole, then answered, by the table at once or by whoever took it over later. Everything belongs to one loop.
 */
#include "admin/admin.h"
#include "event/loop.h"
#include "net/addr.h"
#include "net/transport.h"

struct mz_err;
struct mz_web;
struct mz_web_ask; /* a request that waits for its answer */
struct mz_web_opts {
    const char *name;         /* for logs: "monitoring" */
    uint32_t max_body;        /* of a request; larger ones get 413 */
    unsigned max_connections; /* more are closed at once */
    uint32_t timeout_ms;      /* for a request to arrive, and between two */
    /* Asked before the table: true takes the request over, mz_web_answer() ends it. The request is valid until this returns. */
    bool (*later)(void *arg, const struct mz_admin_request *rq, struct mz_web_ask *ask);
    void *later_arg;          /* NULL later: never */
    const char *local_only;   /* paths that begin so are for clients on this machine; others get 401. NULL: none */
};
struct mz_web *mz_web_create(struct mz_loop *l, struct mz_admin *pages, const struct mz_web_opts *o); /* borrows pages */
/* May be called several times. @f: reference is taken; NULL plain. */
bool mz_web_listen(struct mz_web *w, const struct mz_addr *a, const struct mz_transport_factory *f, struct mz_addr *out_addr,
                   struct mz_err *err);
/* Exactly once for each ask, also from inside later(); the client may have gone. Takes the body's bytes; headers of @r are not used. */
void mz_web_answer(struct mz_web_ask *ask, struct mz_admin_reply *r);
bool mz_web_ask_local(const struct mz_web_ask *ask); /* the client is on this machine, and there still */
void mz_web_destroy(struct mz_web *w); /* closes everything; what waits is still to be answered; NULL is fine */
#endif
