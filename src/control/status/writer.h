#ifndef MZ_CONTROL_STATUS_WRITER_H
#define MZ_CONTROL_STATUS_WRITER_H
/*
 * Keeps a directory of statuses as documents change. Analyzers look at everything, which takes seconds in a large mesh: a child of this
 * process does it, on the documents and the model as they are at that moment, so that nobody waits for it. Main thread.
 */
#include "control/status/status.h"
#include "event/loop.h"

struct mz_status_writer;
/* @from fills what there is to write from; false: nothing yet. */
struct mz_status_writer *mz_status_writer_create(struct mz_loop *loop, const char *dir,
                                                 bool (*from)(void *arg, struct mz_status_from *out), void *arg);
void mz_status_writer_later(struct mz_status_writer *w); /* many changes in a row are one; NULL is fine */
void mz_status_writer_destroy(struct mz_status_writer *w); /* what is not written yet is not; NULL is fine */
#endif
