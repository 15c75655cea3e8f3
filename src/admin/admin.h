#ifndef MZ_ADMIN_ADMIN_H
#define MZ_ADMIN_ADMIN_H
/*
 * The admin pages (O4): a table of pages and the parsing of their queries; the pages live with what they show. The admin
 * listener runs on the main thread. Who may change something must POST (H07).
 */
#include "base/buf.h"
#include "base/str.h"
#include "http/header_map.h"

struct mz_admin_reply;
struct mz_admin_request {
    struct mz_str method, path; /* path without query */
    struct mz_str query;        /* raw */
    struct mz_str body;
    const struct mz_headers *headers;
    struct mz_arena *arena;
    /* A page that shows what its own answer changes (statistics) calls this once status, type and headers of @out are final,
     * before it renders; they leave then. NULL: nobody waits for it. */
    void (*begin)(void *arg, struct mz_admin_reply *out);
    void *begin_arg;
};
struct mz_admin_reply {
    unsigned status;           /* 200 */
    const char *content_type;  /* "text/plain; charset=UTF-8" */
    struct mz_buf body;
    struct mz_headers *headers; /* more headers; arena */
};
struct mz_admin_param { const char *name, *help; };
struct mz_admin_page {
    const char *path, *help;
    bool mutates; /* GET is answered 405 */
    struct mz_admin_param params[14];
    void (*handle)(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out);
    void *arg;
};
struct mz_admin; /* main thread */
struct mz_admin *mz_admin_create(void);
void mz_admin_destroy(struct mz_admin *a);
void mz_admin_add(struct mz_admin *a, const struct mz_admin_page *page); /* borrowed; replaces one of the same path; "/" and "/help" are there */
void mz_admin_handle(struct mz_admin *a, const struct mz_admin_request *rq, struct mz_admin_reply *out); /* any path, 404 with help */
/* First value of a query parameter, percent-decoded into the arena; false when absent. */
bool mz_admin_param(const struct mz_admin_request *rq, const char *name, struct mz_str *out_value);
void mz_admin_html_escape(struct mz_buf *out, struct mz_str s); /* H07 */
#endif
