#ifndef MZ_MESH_WATCH_H
#define MZ_MESH_WATCH_H
/* Tells when something in a folder, at any depth, has changed and has been quiet for a moment. Links are followed. Main thread. */
#include "event/loop.h"

struct mz_mesh_watch;
struct mz_mesh_watch *mz_mesh_watch_create(struct mz_loop *l, const char *dir, void (*changed)(void *arg), void *arg); /* NULL: inotify is not to be had */
void mz_mesh_watch_destroy(struct mz_mesh_watch *w); /* NULL is fine */
#endif
