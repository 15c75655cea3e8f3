#ifndef MZ_XDS_FILE_WATCH_H
#define MZ_XDS_FILE_WATCH_H
/*
 * Tells when a file was moved into place, which is how configuration is replaced as a whole (`mv new.yaml old.yaml`, a
 * symbolic link of a ConfigMap). Writing in place is not watched, as at Envoy: half a file would be read. Main thread.
 */
#include "base/err.h"
#include "base/str.h"
#include "event/loop.h"

struct mz_file_watches;
struct mz_file_watch;
struct mz_file_watches *mz_file_watches_create(struct mz_loop *l);
void mz_file_watches_destroy(struct mz_file_watches *w); /* after its watches; NULL is fine */
/* Calls moved(arg) after each batch of events in which something was moved to @path. @path that ends with '/': anything within
 * that directory. Error: the directory cannot be watched. */
struct mz_file_watch *mz_file_watch_add(struct mz_file_watches *w, struct mz_str path, void (*moved)(void *arg), void *arg,
                                        struct mz_err *err);
void mz_file_watch_end(struct mz_file_watch *f); /* also from inside moved(); NULL is fine */
#endif
