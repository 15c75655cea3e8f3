#ifndef MZ_MESH_LINE_H
#define MZ_MESH_LINE_H
/*
 * The control socket's form: one JSON object a line, over a stream UNIX socket, with descriptors beside it (SCM_RIGHTS). What
 * comes is bounded: bytes of a line, depth (the JSON reader's), descriptors. Blocking or not, as the socket is.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define MZ_MESH_FDS 3
struct mz_mesh_line { /* what has come: embedded, begins as zeroes */
    char *text;
    size_t n, max; /* @max: bytes of a line; set it first */
    int fds[MZ_MESH_FDS];
    unsigned fds_n;
};
enum mz_mesh_read { MZ_MESH_MORE, MZ_MESH_LINE, MZ_MESH_END, MZ_MESH_BAD };
/**
 * Reads once, unless a line is there already. LINE: @out_object, a new reference. MORE: nothing more now, or not a whole line
 * yet. BAD: too long, no object, too many descriptors, or the socket's error in errno. Descriptors stay in @l until they are taken.
 */
enum mz_mesh_read mz_mesh_line_read(int fd, struct mz_mesh_line *l, json_t **out_object);
int mz_mesh_line_take(struct mz_mesh_line *l, unsigned i); /* the caller owns it now; -1: there is none */
void mz_mesh_line_fini(struct mz_mesh_line *l);            /* closes what nobody took */
/* Takes @object's reference. Writes all of it, waiting a bounded time where the socket does not block. False: the peer has gone. */
bool mz_mesh_line_write(int fd, json_t *object, const int *fds, unsigned fds_n);
#endif
