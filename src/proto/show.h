#ifndef MZ_PROTO_SHOW_H
#define MZ_PROTO_SHOW_H
/* Documents as text: JSON with four blanks a level, YAML with sorted keys. */
#include "base/buf.h"
#include "proto/tree.h"

/* @camel: names of fields in lowerCamel, as the field's tools print messages; keys of maps and of free-form structs stay. */
void mz_show_json(struct mz_buf *out, const struct mz_node *n, bool camel);
void mz_show_yaml(struct mz_buf *out, const struct mz_node *n, bool camel);
#endif
