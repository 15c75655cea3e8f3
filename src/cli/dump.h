#ifndef MZ_CLI_DUMP_H
#define MZ_CLI_DUMP_H
/* A proxy's answer to /config_dump or /clusters, live or from a file. */
#include "base/arena.h"
#include "base/buf.h"
#include "proto/node.h"

struct dump {
    struct mz_arena *arena;
    struct mz_buf text; /* as it came */
    const struct mz_node *root;
};
bool read_file(const char *path, struct mz_buf *out, struct mz_err *err); /* "-": standard input */
/* @where NULL: @file. @d is to be finished in either case. */
bool dump_load(struct dump *d, const char *where, uint16_t port, const char *path, const char *file, struct mz_err *err);
void dump_init(struct dump *d); /* empty */
/* One of zeroes is fine, too. */
void dump_fini(struct dump *d);
/* A part of /config_dump by the last word of its type ("ClustersConfigDump"), where there are several (ECDS) all of them as one; NULL: none,
 * and @err says so. */
const struct mz_node *dump_part(const struct dump *d, const char *type, struct mz_err *err);

/* Resources of a part, in the order of the field's tool. */
struct resources {
    const struct mz_node **v;
    size_t n;
};
/* @path leads from an element of the list @list to the resource: "active_state.listener". Appends. */
void resources_add(struct resources *r, const struct mz_node *part, const char *list, const char *path, struct mz_arena *a);
const struct mz_node *resources_list(const struct resources *r, struct mz_arena *a); /* without the "@type" of each */
#endif
