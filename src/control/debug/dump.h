#ifndef MZ_CONTROL_DEBUG_DUMP_H
#define MZ_CONTROL_DEBUG_DUMP_H
/*
 * What one proxy would get, as files: cds.json, eds.json, lds.json, rds.json, each a list of resources as JSON with the names of the
 * .proto files, sorted by name. Main thread.
 */
#include "control/translate/translate.h"

struct mz_proxy *mz_dump_read_node(const char *file, struct mz_err *err); /* a Node as JSON or YAML */
/* Asks as a client does: for the endpoints of the EDS clusters, for the routes that listeners name. Of gRPC without a proxy: every listener
 * that it may ask for, and what follows from those. Secrets are nobody's here. @dir is made. */
bool mz_dump_write(struct mz_view *v, const char *dir, struct mz_err *err);
#endif
