#ifndef MZ_WEB_FETCH_H
#define MZ_WEB_FETCH_H
/*
 * GET of a small document from anywhere, on the loop: addresses by DNS, HTTP/1.1, TLS with the system's authorities, a few
 * redirects. Whoever writes a URL into a document may point it anywhere, so link-local addresses and those where clouds tell
 * machines their secrets are never dialled, whatever a name or a redirect says.
 */
#include "base/err.h"
#include "base/str.h"
#include "event/loop.h"

struct mz_fetcher;
struct mz_fetcher_opts {
    const char *authorities; /* PEM; NULL: SSL_CERT_FILE, else where systems have them. None: https fails */
    const char *blocked;     /* ranges that are never dialled either, "10.0.0.0/8,fd00::/8"; NULL: none */
    size_t max_bytes;        /* of a body */
};
struct mz_fetcher *mz_fetcher_create(struct mz_loop *l, const struct mz_fetcher_opts *o);
void mz_fetcher_stop(struct mz_fetcher *f);    /* what is under way ends silently; before the loop goes; NULL is fine */
void mz_fetcher_destroy(struct mz_fetcher *f); /* after the loop; NULL is fine */

struct mz_fetch;
/* @why NULL: 2xx, and @body is whole. Else a text for people, and no body. Both are borrowed. */
typedef void mz_fetch_done(void *arg, const char *why, struct mz_str body);
/* @done once, later, never from inside; then the handle is gone. @timeout_ms counts everything. Never NULL. */
struct mz_fetch *mz_fetch_start(struct mz_fetcher *f, struct mz_str url, uint64_t timeout_ms, mz_fetch_done *done, void *arg);
void mz_fetch_cancel(struct mz_fetch *r); /* silent; NULL is fine */
#endif
